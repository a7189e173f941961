#include "cache/answer_book.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

constexpr size_t kGraphStepsPerInsert = 4;  // more than one, so that a lag shrinks
constexpr size_t kGraphStepsPerTurn = 32;   // some milliseconds, in which the scope is locked
constexpr core::Duration kBetweenWarnings = std::chrono::minutes(1);

std::string ScopeOf(const std::string& key) {
  return key.substr(0, key.size() - std::min(key.size(), kQuestionKeySize));
}

std::string_view QuestionOf(std::string_view key) {
  return key.substr(key.size() - std::min(key.size(), kQuestionKeySize));
}

uint64_t UnixMillis(core::WallTime time) {
  const auto millis = std::chrono::floor<std::chrono::milliseconds>(time).time_since_epoch();
  return static_cast<uint64_t>(std::max<int64_t>(0, millis.count()));
}

}  // namespace

// A scope in use: kept in memory while a lease lives. All of its references are taken and dropped
// under mutex_, so one that is held by in_memory_ alone is nobody's.
class AnswerBook::Lease {
 public:
  Lease(AnswerBook& book, const std::string& key) : book_(book), scope_(book.Acquire(key)) {}
  Lease(const Lease&) = delete;
  ~Lease() { book_.GiveBack(std::move(scope_)); }

  Scope& operator*() const { return *scope_; }

 private:
  AnswerBook& book_;
  std::shared_ptr<Scope> scope_;
};

AnswerBook::AnswerBook(SemanticCacheOptions options, const core::Embedder& embedder,
                       const core::Clock& clock, core::Random& random, const Judge& judge)
    : options_(std::move(options)),
      embedder_(embedder),
      clock_(clock),
      random_(random),
      judge_(judge),
      store_(EntryStore::Open(options_.directory, clock.WallNow())) {
  if (!store_->problem().empty()) options_.warn(store_->problem());
  ReadCensus();
}

void AnswerBook::ReadCensus() {
  std::vector<KeyAndId> expired;
  store_->ForEachId("", [&](std::string_view id, const IdRecord& record) {
    CountEntry(ScopeOf(record.key), 1);
    if (options_.retention && AgeOf(record.created_at) > *options_.retention) {
      expired.push_back({record.key, std::string(id)});
    }
    return true;
  });
  RemoveAll(expired);
  EvictExcess();

  for (const auto& [key, count] : census_) to_load_.push_back(key);
  std::sort(to_load_.begin(), to_load_.end(),
            [this](const auto& a, const auto& b) { return census_.at(a) < census_.at(b); });
  UpdateWorkDue();
}

bool AnswerBook::Insert(const ScopeSource& source, const std::string& question,
                        core::NewEntry entry, core::WallTime created_at) {
  const auto vector = EmbedText(question);
  if (!vector) {
    ++rejected_vectors_;
    return false;
  }
  const std::string scope_key = ScopeKey(source);
  const EntryRecord record{core::NewId(random_, UnixMillis(created_at)),
                           question,
                           std::move(entry.text),
                           std::move(entry.provider),
                           std::move(entry.model),
                           created_at};
  {
    const Lease lease(*this, scope_key);
    const std::unique_lock lock((*lease).mutex);
    if (!PutLocked(*lease, record, *vector, QuestionKey(NormalizeQuestion(question)))) return false;
  }
  EvictExcess();
  return true;
}

bool AnswerBook::PutLocked(Scope& scope, const EntryRecord& entry, const std::vector<float>& vector,
                           const std::string& question_key) {
  Load(scope);  // what is written now is what is likely to be asked for next
  const std::string key = scope.key + question_key;
  const std::optional<std::string> replaced = store_->IdUnder(key);
  const absl::Status status = store_->Put(
      key, entry, {entry.id, entry.created_at, embedder_.id(), vector}, replaced.value_or(""));
  if (!status.ok()) {
    WarnOfWrite(status);
    return false;
  }
  scope.index.Put(question_key, entry.created_at, vector);
  if (scope.index.ExtendGraph(kGraphStepsPerInsert)) NoteGraphLag(scope.key);
  scope.bytes = scope.index.bytes();
  if (!replaced) CountEntry(scope.key, 1);
  const std::lock_guard lock(mutex_);
  oldest_id_ = std::min(oldest_id_, entry.id);  // after the clock was set back
  return true;
}

std::optional<core::CacheHit> AnswerBook::Find(const ScopeSource& source,
                                               const std::string& question,
                                               const core::CacheQuery& query,
                                               absl::FunctionRef<bool()> give_up) {
  auto ranked =
      Consider(source, question, judge_.CosineFloor(query.min_similarity), query.max_age, give_up);
  if (ranked.empty()) return std::nullopt;
  Considered& best = ranked.front();
  if (best.verdict.refused || best.verdict.similarity < query.min_similarity) return std::nullopt;
  return core::CacheHit{std::move(best.entry.id),
                        std::move(best.entry.answer),
                        best.verdict.similarity,
                        query.min_similarity,
                        best.cosine,
                        best.age,
                        best.entry.created_at,
                        std::move(best.entry.provider),
                        std::move(best.entry.model)};
}

std::vector<Considered> AnswerBook::Explain(const ScopeSource& source, const std::string& question,
                                            double min_cosine, core::Duration max_age) {
  return Consider(source, question, min_cosine, max_age, [] { return false; });
}

std::vector<Considered> AnswerBook::Consider(const ScopeSource& source, const std::string& question,
                                             double min_cosine, core::Duration max_age,
                                             absl::FunctionRef<bool()> give_up) {
  const std::string scope_key = ScopeKey(source);
  if (!Known(scope_key)) return {};
  const auto vector = EmbedText(question);
  if (!vector || give_up()) return {};

  const Lease lease(*this, scope_key);
  Scope& scope = *lease;
  std::shared_lock lock(scope.mutex);
  if (!scope.loaded) {
    lock.unlock();
    {
      const std::unique_lock exclusive(scope.mutex);
      Load(scope);
    }
    lock.lock();
  }
  if (give_up()) return {};
  std::vector<std::string> damaged;
  std::vector<Considered> found = Nearest(scope, *vector, min_cosine, max_age, damaged);
  lock.unlock();
  for (const std::string& key : damaged) RemoveAll({{key, store_->IdUnder(key).value_or("")}});
  for (Considered& one : found) {
    one.verdict = judge_.Compare(question, {one.entry.question, one.cosine, one.age});
  }
  std::sort(found.begin(), found.end(), [](const Considered& a, const Considered& b) {
    const auto rank = [](const Considered& c) {
      return std::tuple(c.verdict.refused, -c.verdict.similarity, -c.cosine, c.age);
    };
    return rank(a) < rank(b);
  });
  return found;
}

std::vector<Considered> AnswerBook::Nearest(const Scope& scope, std::span<const float> vector,
                                            double min_cosine, core::Duration max_age,
                                            std::vector<std::string>& damaged) const {
  std::vector<Considered> found;
  scope.index.Visit(vector, min_cosine, [&](const ScopeIndex::Item& item, double cosine) {
    const core::Duration age = AgeOf(item.created_at);
    if (age > max_age) return false;
    const std::string key = scope.key + std::string(item.question_key());
    if (auto entry = store_->Get(key)) {
      found.push_back({*std::move(entry), age, cosine, {}});
    } else {
      damaged.push_back(key);
    }
    return found.size() == kCandidates;
  });
  return found;
}

// A unit vector of the right size, or none: nothing else is ever written or compared.
std::optional<std::vector<float>> AnswerBook::EmbedText(std::string_view text) const {
  std::vector<float> vector = embedder_.Embed(text);
  if (vector.size() != embedder_.dimension()) return std::nullopt;
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (!std::isfinite(squares) || squares <= 0) return std::nullopt;
  const double norm = std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(value / norm);
  return vector;
}

void AnswerBook::Load(Scope& scope) {
  if (scope.loaded) return;
  const std::string embedder_id = embedder_.id();
  std::vector<std::string> foreign;
  const auto add = [&](std::string_view key, std::optional<VectorRecord> vector) {
    if (!vector || key.size() != scope.key.size() + kQuestionKeySize) return;
    if (vector->embedder == embedder_id && vector->values.size() == embedder_.dimension()) {
      scope.index.Put(QuestionOf(key), vector->created_at, vector->values);
    } else {
      foreign.emplace_back(key);
    }
  };
  store_->ForEachVector(scope.key, add);
  for (const std::string& key : foreign) EmbedAnew(scope, key);
  scope.loaded = true;
  scope.bytes = scope.index.bytes();
  if (scope.index.size() > options_.flat_limit) NoteGraphLag(scope.key);
}

// The entry was embedded by another embedder, whose vectors are never compared with ours.
void AnswerBook::EmbedAnew(Scope& scope, const std::string& key) {
  const auto entry = store_->Get(key);
  if (!entry) return;
  auto vector = EmbedText(entry->question);
  if (!vector) {
    ++rejected_vectors_;
    return;
  }
  const absl::Status status =
      store_->PutVector(key, {entry->id, entry->created_at, embedder_.id(), *vector});
  if (!status.ok()) WarnOfWrite(status);
  scope.index.Put(QuestionOf(key), entry->created_at, *vector);
}

size_t AnswerBook::Purge(const PurgeFilter& filter) {
  const size_t removed = RemoveAll(Matching(filter));
  if (removed == 0) return 0;
  std::string prefix;
  if (filter.tenant) {
    prefix =
        filter.route ? RoutePrefix(*filter.tenant, *filter.route) : TenantPrefix(*filter.tenant);
  }
  if (const absl::Status status = store_->Compact(prefix); !status.ok()) WarnOfWrite(status);
  return removed;
}

std::vector<KeyAndId> AnswerBook::Matching(const PurgeFilter& filter) const {
  std::vector<KeyAndId> matching;
  const auto add = [&](std::string_view key, std::string_view id,
                       std::optional<core::WallTime> created_at) {
    const auto scope = ParseScope(key);
    if (filter.tenant && (!scope || scope->tenant != *filter.tenant)) return;
    if (filter.route && (!scope || scope->route != *filter.route)) return;
    if (filter.entry_id && *filter.entry_id != id) return;
    if (filter.older_than && !(created_at && AgeOf(*created_at) > *filter.older_than)) return;
    matching.push_back({std::string(key), std::string(id)});
  };
  if (filter.entry_id) {
    if (const auto found = store_->FindId(*filter.entry_id)) {
      add(found->key, *filter.entry_id, found->created_at);
    }
  } else if (filter.tenant) {
    // By key, so that a tenant's damaged entries go too.
    store_->ForEachVector(TenantPrefix(*filter.tenant),
                          [&](std::string_view key, std::optional<VectorRecord> vector) {
                            if (vector) {
                              add(key, vector->id, vector->created_at);
                            } else {
                              add(key, "", std::nullopt);
                            }
                          });
  } else {
    store_->ForEachId("", [&](std::string_view id, const IdRecord& record) {
      add(record.key, id, record.created_at);
      return true;
    });
  }
  return matching;
}

size_t AnswerBook::RemoveAll(const std::vector<KeyAndId>& entries) {
  std::vector<KeyAndId> sorted = entries;
  std::sort(sorted.begin(), sorted.end(),
            [](const KeyAndId& a, const KeyAndId& b) { return a.key < b.key; });
  size_t removed = 0;
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    const std::string scope_key = ScopeOf(sorted[begin].key);
    while (end < sorted.size() && ScopeOf(sorted[end].key) == scope_key) ++end;
    const Lease lease(*this, scope_key);
    const std::unique_lock lock((*lease).mutex);
    removed += RemoveLocked(*lease, std::span(sorted).subspan(begin, end - begin));
  }
  return removed;
}

size_t AnswerBook::RemoveLocked(Scope& scope, std::span<const KeyAndId> entries) {
  std::vector<KeyAndId> rows;
  size_t counted = 0;
  for (const auto& [key, id] : entries) {
    const std::optional<std::string> current = store_->IdUnder(key);
    const bool replaced_since = current && !current->empty() && *current != id;
    if (replaced_since && !id.empty()) {
      rows.push_back({"", id});  // a row left behind; the newer entry stays
      continue;
    }
    rows.push_back({key, id});
    if (current) ++counted;
  }
  if (const absl::Status status = store_->Remove(rows); !status.ok()) {
    WarnOfWrite(status);
    return 0;
  }
  for (const KeyAndId& row : rows) {
    if (!row.key.empty()) scope.index.Remove(QuestionOf(row.key));
  }
  CountEntry(scope.key, -static_cast<int>(counted));
  return counted;
}

void AnswerBook::EvictExcess() {
  const std::lock_guard evicting(evict_mutex_);
  while (true) {
    size_t excess = 0;
    std::string from;
    {
      const std::lock_guard lock(mutex_);
      if (entries_ <= options_.max_entries) return;
      excess = entries_ - options_.max_entries;
      from = oldest_id_;
    }
    std::vector<KeyAndId> oldest;
    store_->ForEachId(from, [&](std::string_view id, const IdRecord& record) {
      oldest.push_back({record.key, std::string(id)});
      return oldest.size() < excess;
    });
    const size_t removed = RemoveAll(oldest);
    evicted_ += removed;
    if (removed == 0) return;  // it cannot be written, or counts more than there is
    const std::lock_guard lock(mutex_);
    // A scan from the very first would pass over all that was deleted before.
    if (oldest_id_ == from) oldest_id_ = oldest.back().id;
  }
}

std::vector<EntrySummary> AnswerBook::Newest(size_t count) const {
  std::vector<EntrySummary> newest;
  if (count == 0) return newest;
  store_->ForEachIdNewestFirst([&](std::string_view id, const IdRecord& record) {
    const auto scope = ParseScope(record.key);
    newest.push_back({std::string(id), std::string(scope ? scope->tenant : ""),
                      std::string(scope ? scope->route : ""), AgeOf(record.created_at)});
    return newest.size() < count;
  });
  return newest;
}

void AnswerBook::Tend() {
  LoadNextScope();
  ExtendNextGraph();
  const std::lock_guard lock(mutex_);
  UpdateWorkDue();
}

void AnswerBook::LoadNextScope() {
  std::string key;
  {
    const std::lock_guard lock(mutex_);
    if (index_bytes_ >= options_.index_memory) to_load_.clear();
    if (to_load_.empty()) return;
    key = std::move(to_load_.back());
    to_load_.pop_back();
  }
  if (!Known(key)) return;
  const Lease lease(*this, key);
  const std::unique_lock lock((*lease).mutex);
  Load(*lease);
}

void AnswerBook::ExtendNextGraph() {
  std::string key;
  {
    const std::lock_guard lock(mutex_);
    if (to_extend_.empty()) return;
    key = std::move(to_extend_.extract(to_extend_.begin()).value());
    if (!in_memory_.contains(key)) return;  // dropped meanwhile: it is noted again when loaded
  }
  const Lease lease(*this, key);
  const std::unique_lock lock((*lease).mutex);
  if ((*lease).index.ExtendGraph(kGraphStepsPerTurn)) NoteGraphLag(key);
  (*lease).bytes = (*lease).index.bytes();
}

void AnswerBook::NoteGraphLag(const std::string& scope_key) {
  const std::lock_guard lock(mutex_);
  to_extend_.insert(scope_key);
  work_due_ = true;
}

void AnswerBook::UpdateWorkDue() { work_due_ = !to_load_.empty() || !to_extend_.empty(); }

std::shared_ptr<AnswerBook::Scope> AnswerBook::Acquire(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto [it, added] = in_memory_.try_emplace(key);
  InMemory& entry = it->second;
  if (added) {
    entry.scope = std::make_shared<Scope>(key, embedder_.dimension(), options_.flat_limit);
    recently_used_.push_front(key);
    entry.used = recently_used_.begin();
  } else {
    recently_used_.splice(recently_used_.begin(), recently_used_, entry.used);
  }
  return entry.scope;
}

void AnswerBook::GiveBack(std::shared_ptr<Scope> scope) {
  std::vector<std::shared_ptr<Scope>> dropped;  // outlives the lock: a large index frees slowly
  const std::lock_guard lock(mutex_);
  const auto it = in_memory_.find(scope->key);
  InMemory& entry = it->second;
  index_bytes_ -= entry.bytes;
  entry.bytes = scope->bytes;
  index_bytes_ += entry.bytes;
  scope.reset();
  const bool unused = entry.scope.use_count() == 1;
  if (unused && (!entry.scope->loaded || entry.scope->index.size() == 0)) {
    index_bytes_ -= entry.bytes;
    dropped.push_back(std::move(entry.scope));
    recently_used_.erase(entry.used);
    in_memory_.erase(it);
  }
  TrimMemory(dropped);
}

// Caller holds mutex_. The scope used last stays even if it alone is too large.
void AnswerBook::TrimMemory(std::vector<std::shared_ptr<Scope>>& dropped) {
  auto candidate = recently_used_.end();
  while (index_bytes_ > options_.index_memory && candidate != recently_used_.begin()) {
    --candidate;
    if (candidate == recently_used_.begin()) return;
    const auto it = in_memory_.find(*candidate);
    if (it->second.scope.use_count() > 1) continue;
    index_bytes_ -= it->second.bytes;
    dropped.push_back(std::move(it->second.scope));
    in_memory_.erase(it);
    candidate = recently_used_.erase(candidate);
  }
}

void AnswerBook::CountEntry(const std::string& scope_key, int change) {
  if (change == 0) return;
  const std::lock_guard lock(mutex_);
  size_t& count = census_[scope_key];
  const size_t before = count;
  count = change > 0 ? before + static_cast<size_t>(change)
                     : before - std::min(before, static_cast<size_t>(-change));
  entries_ = entries_ - before + count;
  if (count == 0) census_.erase(scope_key);
}

bool AnswerBook::Known(const std::string& scope_key) const {
  const std::lock_guard lock(mutex_);
  return census_.contains(scope_key);
}

size_t AnswerBook::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

size_t AnswerBook::scopes() const {
  const std::lock_guard lock(mutex_);
  return census_.size();
}

size_t AnswerBook::index_bytes() const {
  const std::lock_guard lock(mutex_);
  return index_bytes_;
}

core::Duration AnswerBook::AgeOf(core::WallTime created_at) const {
  // A clock that was set back makes entries of the future: they are new, not invalid.
  return std::max(core::Duration::zero(), clock_.WallNow() - created_at);
}

void AnswerBook::WarnOfWrite(const absl::Status& status) {
  {
    const std::lock_guard lock(warn_mutex_);
    const core::SteadyTime now = clock_.Now();
    if (last_warning_ && now - *last_warning_ < kBetweenWarnings) return;
    last_warning_ = now;
  }
  options_.warn("the cache cannot write (" + status.ToString() + "); requests are not affected, " +
                "answers are not stored; " + std::to_string(store_->write_errors()) +
                " failed writes so far");
}

}  // namespace holdfast::cache
