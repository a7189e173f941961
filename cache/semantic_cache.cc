#include "cache/semantic_cache.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "cache/answer_agreement.h"
#include "cache/scope.h"
#include "cache/text.h"
#include "core/wait.h"

namespace holdfast::cache {
namespace {

using Priority = core::BlockingPool::Priority;

constexpr core::Duration kSaveWindowsEvery = std::chrono::minutes(1);

// Only of a cacheable request.
const std::string& QuestionIn(const core::Request& request) {
  return std::get<core::Text>(request.messages.back().parts.front()).text;
}

struct Looked {
  bool finished = false;  // false: skipped
  std::optional<core::CacheHit> hit;
};

}  // namespace

// Shared by the waiting coroutine and the job, either of which may end first.
struct SemanticCache::Waiting {
  explicit Waiting(core::Loop& loop) : result(loop) {}

  core::OneShot<Looked> result;  // on the loop's thread only
  std::atomic<bool> gone = false;
};

// A stored answer and a fresh one to what the cache takes for the same question.
struct SemanticCache::Comparison {
  std::string route;
  double similarity = 0;
  std::string stored;
  std::string fresh;
};

SemanticCache::SemanticCache(SemanticCacheOptions options, const core::Embedder& embedder,
                             core::BlockingPool& pool, const core::Clock& clock,
                             core::Random& random, const Judge& judge)
    : shared_(std::make_shared<Shared>(std::move(options), embedder, pool, clock, random, judge)) {
  StartTending(shared_);
}

void SemanticCache::Shared::RestoreWindows() {
  const std::vector<std::string> routes = watch.Routes();
  for (const std::string& route : routes) {
    const auto window = book.ReadWindow(route);
    if (!window) continue;
    std::vector<ErrorCurve::Sample> samples;
    for (size_t i = 0; i < window->similarities.size(); ++i) {
      samples.push_back({window->similarities[i], window->wrong[i]});
    }
    watch.Restore(route, samples);
  }
  book.KeepNoWindowsBut(routes);
}

// What cannot be written is written with what comes after it.
void SemanticCache::Shared::SaveWindows() {
  for (const auto& [route, samples] : watch.TakeChanged()) {
    WindowRecord window;
    for (const auto& [similarity, wrong] : samples) {
      window.similarities.push_back(similarity);
      window.wrong.push_back(wrong);
    }
    book.KeepWindow(route, std::move(window));
  }
}

ScopeSource SemanticCache::Shared::ScopeOf(const core::Request& request) const {
  const auto& by_route = book.options().scope_ignored;
  const auto ignored = by_route.find(request.route);
  return DescribeScope(request, ignored == by_route.end() ? core::Patterns() : ignored->second);
}

std::string SemanticCache::QuestionId(const core::Request& request) const {
  const ScopeSource scope = shared_->ScopeOf(request);
  return RoutePrefix(scope.tenant, scope.route) + scope.rest +
         NormalizeQuestion(QuestionIn(request));
}

core::Task<std::optional<core::CacheHit>> SemanticCache::Lookup(core::Loop& loop,
                                                                const core::Request& request,
                                                                core::CacheQuery query,
                                                                core::SteadyTime deadline) {
  if (!Cacheable(request)) co_return std::nullopt;
  const std::shared_ptr<Shared> shared = shared_;
  ++shared->lookups;
  query.min_similarity = shared->watch.Raise(request.route, query.min_similarity).threshold;
  if (loop.Now() >= deadline) {
    ++shared->skipped;
    co_return std::nullopt;
  }
  const auto waiting = std::make_shared<Waiting>(loop);
  const bool queued = shared->pool.Submit(
      Priority::kUrgent, [shared, waiting, &loop, query, deadline, scope = shared->ScopeOf(request),
                          question = QuestionIn(request)] {
        const auto too_late = [&] { return waiting->gone || loop.Now() >= deadline; };
        Looked looked;
        if (!too_late()) {
          looked.hit = shared->book.Find(scope, question, query, too_late, deadline);
          looked.finished = looked.hit || !too_late();
        }
        // The result first: what follows is nobody's wait.
        loop.Post([waiting, looked = std::move(looked)]() mutable {
          waiting->result.Set(std::move(looked));
        });
        StartTending(shared);
      });
  if (!queued) {
    ++shared->skipped;
    co_return std::nullopt;
  }
  const core::TimerId timer = loop.CallAt(deadline, [waiting] {
    waiting->gone = true;
    waiting->result.Set(Looked());
  });
  Looked looked = co_await waiting->result;
  loop.CancelTimer(timer);
  ++(!looked.finished ? shared->skipped : looked.hit ? shared->hits : shared->misses);
  co_return std::move(looked.hit);
}

void SemanticCache::Store(const core::Request& request, core::NewEntry entry) {
  const auto& shared = shared_;
  const SemanticCacheOptions& options = shared->book.options();
  if (request.cache.no_store || !Cacheable(request) || entry.text.empty() ||
      QuestionIn(request).size() + entry.text.size() > options.max_entry_bytes) {
    ++shared->not_stored;
    return;
  }
  ScopeSource scope = shared->ScopeOf(request);
  uint64_t bytes = scope.rest.size() + QuestionIn(request).size() + entry.text.size();
  for (const auto& [key, value] : request.labels) bytes += key.size() + value.size();
  if (shared->queued_bytes.fetch_add(bytes) + bytes > options.max_queued_bytes) {
    shared->queued_bytes -= bytes;
    ++shared->dropped;
    return;
  }
  const bool queued = shared->pool.Submit(
      Priority::kNormal,
      [shared, bytes, scope = std::move(scope), question = QuestionIn(request),
       entry = std::move(entry), now = shared->clock.WallNow(), labels = request.labels]() mutable {
        const size_t backlog = shared->pool.queued(Priority::kNormal);
        std::optional<Comparison> comparison = WouldServe(*shared, scope, question);
        if (comparison) comparison->fresh = entry.text;
        const InsertOptions how{.labels = std::move(labels),
                                .embed_later = backlog > shared->book.options().embed_backlog};
        if (shared->book.Insert(scope, question, std::move(entry), now, how)) ++shared->stores;
        shared->queued_bytes -= bytes;
        // In a turn of its own, so that it holds up nobody.
        if (comparison) {
          (void)shared->pool.Submit(Priority::kNormal, [shared, compared = *std::move(comparison)] {
            Compare(*shared, compared);
          });
        }
        StartTending(shared);
      });
  if (!queued) {
    shared->queued_bytes -= bytes;
    ++shared->dropped;
  }
}

// What would have been served in place of the answer that is about to be stored, if that is to be
// known; below the lowest point of the curve nothing would.
std::optional<SemanticCache::Comparison> SemanticCache::WouldServe(Shared& shared,
                                                                   const ScopeSource& scope,
                                                                   const std::string& question) {
  const size_t backlog = shared.pool.queued(Priority::kNormal);
  const bool busy = shared.pool.queued(Priority::kUrgent) > 0 ||
                    backlog > shared.book.options().embed_backlog || shared.stopped;
  const auto max_age = shared.watch.Take(scope.route, busy);
  if (!max_age) return std::nullopt;
  const core::SteadyTime began = shared.clock.Now();
  const double floor = shared.book.judge().CosineFloor(ErrorCurve::kLowest);
  auto considered = shared.book.Explain(scope, question, floor, *max_age);
  shared.watch.NoteCost(shared.clock.Now() - began);
  if (considered.empty() || considered.front().verdict.refused ||
      considered.front().verdict.similarity < ErrorCurve::kLowest) {
    return std::nullopt;
  }
  Considered& best = considered.front();
  return Comparison{scope.route, best.verdict.similarity, std::move(best.entry.answer), {}};
}

void SemanticCache::Compare(Shared& shared, const Comparison& comparison) {
  const core::SteadyTime began = shared.clock.Now();
  const std::string_view texts[] = {comparison.stored, comparison.fresh};
  const auto vectors = shared.book.embedder().EmbedBatch(texts);
  if (vectors.size() == 2 && vectors[0].ok() && vectors[1].ok()) {
    double cosine = 0;
    const size_t size = std::min(vectors[0]->vector.size(), vectors[1]->vector.size());
    for (size_t i = 0; i < size; ++i) {
      cosine += static_cast<double>(vectors[0]->vector[i]) * vectors[1]->vector[i];
    }
    const double agreement = AnswerAgreement(comparison.stored, comparison.fresh, cosine);
    shared.watch.Add(comparison.route, comparison.similarity, agreement < kAgreeing);
  }
  shared.watch.NoteCost(shared.clock.Now() - began);
}

// Background work takes its turn in the queue, one step a turn, so it never holds up what is asked.
void SemanticCache::StartTending(const std::shared_ptr<Shared>& shared) {
  if (!shared->book.work_due()) return;
  const std::lock_guard lock(shared->stop_mutex);
  if (shared->stopped || shared->tending.exchange(true)) return;
  const bool queued = shared->pool.Submit(Priority::kNormal, [shared] {
    const bool backlog =
        shared->pool.queued(Priority::kNormal) > shared->book.options().embed_backlog;
    if (!shared->stopped) shared->book.Tend(!backlog);
    if (shared->clock.Now() >= shared->save_windows_at) {
      shared->SaveWindows();
      shared->save_windows_at = shared->clock.Now() + kSaveWindowsEvery;
    }
    shared->tending = false;
    StartTending(shared);
  });
  if (!queued) shared->tending = false;  // the next lookup or store tries again
}

std::vector<Considered> SemanticCache::Explain(const core::Request& request, double min_cosine,
                                               core::Duration max_age) {
  if (!Cacheable(request)) return {};
  return shared_->book.Explain(shared_->ScopeOf(request), QuestionIn(request), min_cosine, max_age);
}

std::vector<Inserted> SemanticCache::Import(std::vector<ImportedEntry> entries) {
  std::vector<std::string_view> questions;
  for (const ImportedEntry& one : entries) questions.push_back(QuestionIn(one.request));
  auto vectors = shared_->book.embedder().EmbedBatch(questions);
  std::vector<Inserted> outcomes;
  for (size_t i = 0; i < entries.size(); ++i) {
    ImportedEntry& one = entries[i];
    InsertOptions how{
        .labels = std::move(one.request.labels), .pinned = one.pinned, .keep_newer = true};
    if (vectors[i].ok()) how.vector = std::move(vectors[i]->vector);
    how.embed_later = !vectors[i].ok() && !absl::IsInvalidArgument(vectors[i].status());
    const std::string scope =
        one.scope_digest.empty()
            ? ScopeKey(shared_->ScopeOf(one.request))
            : RoutePrefix(one.request.tenant, one.request.route) + one.scope_digest;
    outcomes.push_back(shared_->book.InsertInto(scope, QuestionIn(one.request),
                                                std::move(one.entry), one.created_at, how));
  }
  StartTending(shared_);
  return outcomes;
}

void SemanticCache::Export(const std::string& tenant, const std::string& route,
                           std::string_view after,
                           absl::FunctionRef<bool(const ExportedEntry&)> visit) const {
  std::string prefix;
  if (!tenant.empty()) prefix = route.empty() ? TenantPrefix(tenant) : RoutePrefix(tenant, route);
  shared_->book.Export(prefix, after, visit);
}

CacheStats SemanticCache::Stats() const {
  const Shared& shared = *shared_;
  const AnswerBook& book = shared.book;
  CacheStats stats;
  stats.entries = book.entries();
  stats.scopes = book.scopes();
  stats.bytes_on_disk = book.store().bytes_on_disk();
  stats.index_bytes = book.index_bytes();
  stats.lookups = shared.lookups;
  stats.hits = shared.hits;
  stats.misses = shared.misses;
  stats.skipped = shared.skipped;
  stats.stores = shared.stores;
  stats.dropped = shared.dropped;
  stats.not_stored = shared.not_stored;
  stats.rejected_vectors = book.rejected_vectors();
  stats.write_errors = book.store().write_errors();
  stats.read_errors = book.store().read_errors();
  stats.evicted = book.evicted();
  stats.expired = book.expired();
  stats.debts = book.debts();
  stats.entry_bytes = book.entry_bytes();
  stats.texts_cut = book.texts_cut();
  stats.compared = shared.watch.taken();
  stats.not_compared = shared.watch.spared();
  stats.ready = book.ready();
  stats.indexed = book.indexed();
  stats.read_only = book.store().read_only();
  stats.urgent_queued = shared.pool.queued(Priority::kUrgent);
  stats.normal_queued = shared.pool.queued(Priority::kNormal);
  stats.scans_cut = book.scans_cut();
  stats.rewriting = book.store().rewriting();
  stats.embedder = book.embedder().id();
  if (const core::Embedder* remote = book.options().remote) {
    stats.embedder = remote->id() + ", and " + stats.embedder;
  }
  stats.degraded = book.store().problem();
  if (stats.degraded.empty()) stats.degraded = book.remote_problem();
  return stats;
}

}  // namespace holdfast::cache
