// AnswerBook's lookups: candidates by their vectors, the judge's verdict on each, and what is
// served.

#include <algorithm>
#include <tuple>
#include <utility>

#include "cache/answer_book.h"
#include "cache/text.h"

namespace holdfast::cache {
namespace {

constexpr int kMostDamagedRounds = 3;
// A scan of a million takes several times as long, and keeps those who load the index waiting.
constexpr core::Duration kScanTime = std::chrono::milliseconds(25);
// Of the nearest by the local vectors, how many are passed over for those that lack the remote's.
constexpr size_t kMostPassedOver = 4 * AnswerBook::kCandidates;

double Cosine(const QuantizedVector& stored, const std::vector<float>& asked) {
  double sum = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    sum += static_cast<double>(asked[i]) * stored.values[i];
  }
  return std::clamp(sum * stored.scale, -1.0, 1.0);
}

}  // namespace

std::optional<core::CacheHit> AnswerBook::Find(const ScopeSource& source,
                                               const std::string& question,
                                               const core::CacheQuery& query,
                                               absl::FunctionRef<bool()> give_up,
                                               core::SteadyTime by) {
  const std::string scope_key = ScopeKey(source);
  if (!Known(scope_key)) return std::nullopt;
  const std::string same = scope_key + QuestionKey(NormalizeQuestion(question));
  if (auto hit = FindSame(same, question, query)) return hit;
  auto ranked = Consider(source, question, judge_.CosineFloor(query.min_similarity), query.max_age,
                         give_up, by, kScanTime);
  if (ranked.empty()) return std::nullopt;
  const Verdict& best = ranked.front().verdict;
  if (best.refused || best.similarity < query.min_similarity) return std::nullopt;
  return Serve(std::move(ranked.front()), query);
}

std::optional<core::CacheHit> AnswerBook::FindSame(const std::string& key,
                                                   const std::string& question,
                                                   const core::CacheQuery& query) {
  auto entry = store_->Get(key);
  if (!entry) return std::nullopt;
  Considered found = Judged(question, *std::move(entry), 1);
  if (found.age > query.max_age && !found.entry.pinned) return std::nullopt;
  if (found.verdict.refused || found.verdict.similarity < query.min_similarity) {
    return std::nullopt;
  }
  return Serve(std::move(found), query);
}

Considered AnswerBook::Judged(std::string_view asked, EntryRecord entry, double cosine) const {
  Considered considered{std::move(entry), {}, cosine, {}};
  considered.age = AgeOf(considered.entry.created_at);
  considered.verdict = judge_.Compare(
      asked, {considered.entry.question, cosine, considered.age, considered.entry.pinned});
  return considered;
}

core::CacheHit AnswerBook::Serve(Considered found, const core::CacheQuery& query) {
  eviction_.NoteHit(found.entry.id);
  return {std::move(found.entry.id),
          std::move(found.entry.answer),
          found.verdict.similarity,
          query.min_similarity,
          found.cosine,
          found.age,
          found.entry.created_at,
          std::move(found.entry.provider),
          std::move(found.entry.model)};
}

std::vector<Considered> AnswerBook::Explain(const ScopeSource& source, const std::string& question,
                                            double min_cosine, core::Duration max_age) {
  auto found = Consider(
      source, question, min_cosine, max_age, [] { return false; }, core::SteadyTime::max(),
      core::Duration::max());
  if (auto same = store_->Get(ScopeKey(source) + QuestionKey(NormalizeQuestion(question)))) {
    // As FindSame sees it, also if it was found by its vector.
    std::erase_if(found, [&](const Considered& one) { return one.entry.id == same->id; });
    Considered own = Judged(question, *std::move(same), 1);
    if (own.entry.pinned || own.age <= max_age) found.push_back(std::move(own));
  }
  Rank(found);
  return found;
}

std::vector<Considered> AnswerBook::Consider(const ScopeSource& source, const std::string& question,
                                             double min_cosine, core::Duration max_age,
                                             absl::FunctionRef<bool()> give_up, core::SteadyTime by,
                                             core::Duration scan_time) {
  const std::string scope_key = ScopeKey(source);
  if (!Known(scope_key) || give_up()) return {};
  Embedded vector = EmbedText(question);
  if (!vector.ok() || give_up()) return {};

  const Lease lease(*this, scope_key);
  Scope& scope = *lease;
  MakeUsable(scope);
  const Asked asked{*std::move(vector), AskRemote(scope, question, by)};
  std::vector<Considered> found;
  bool cut = false;
  const Scan scan{scan_time, give_up, cut};
  for (int round = 0; round < kMostDamagedRounds; ++round) {
    if (give_up()) return {};
    found.clear();
    std::vector<KeyAndId> damaged;
    for (const Candidate& candidate : Nearest(scope, asked, min_cosine, max_age, scan)) {
      const std::string key =
          scope.key + std::string(candidate.question.data(), candidate.question.size());
      if (auto entry = store_->Get(key)) {
        found.push_back(Judged(question, *std::move(entry), CosineOf(key, candidate, asked)));
      } else if (const auto id = store_->IdUnder(key)) {
        damaged.push_back({key, *id});
      }  // else it was removed just now
    }
    if (damaged.empty()) break;
    RemoveAll(damaged);  // and look again: others take their places
  }
  if (cut) ++scans_cut_;
  Rank(found);
  return found;
}

void AnswerBook::Rank(std::vector<Considered>& found) {
  std::sort(found.begin(), found.end(), [](const Considered& a, const Considered& b) {
    const auto rank = [](const Considered& c) {
      return std::tuple(c.verdict.refused, -c.verdict.similarity, -c.cosine, c.age);
    };
    return rank(a) < rank(b);
  });
}

// By the remote's vectors, if the question has one; by the others those that are not found so.
std::vector<AnswerBook::Candidate> AnswerBook::Nearest(Scope& scope, const Asked& asked,
                                                       double min_cosine, core::Duration max_age,
                                                       const Scan& scan) const {
  std::vector<Candidate> nearest;
  const auto too_old = [&](const ScopeIndex::Item& item) {
    return !item.pinned && AgeOf(item.created_at) > max_age;
  };
  // Each index has the time anew, so that one does not take the other's.
  core::SteadyTime until{};
  const auto stop = [&] {
    const bool now = clock_.Now() >= until || scan.give_up();
    scan.cut = scan.cut || now;
    return now;
  };
  const bool remotely = !asked.remote.empty();
  const std::shared_lock lock(scope.mutex);
  if (remotely) {
    const auto take = [&](const ScopeIndex::Item& item, double cosine) {
      if (!too_old(item)) nearest.push_back({item.question, cosine, true});
      return nearest.size() == kCandidates;
    };
    until = core::SaturatingAdd(clock_.Now(), scan.longest);
    scope.remote->index->Visit(asked.remote, min_cosine, take, stop);
  }
  const size_t most = nearest.size() + kCandidates;
  size_t passed_over = 0;
  const auto take = [&](const ScopeIndex::Item& item, double cosine) {
    if (too_old(item)) return false;
    if (remotely && scope.remote->index->Contains(item.question_key())) {
      return ++passed_over == kMostPassedOver;
    }
    nearest.push_back({item.question, cosine, false});
    return nearest.size() == most;
  };
  until = core::SaturatingAdd(clock_.Now(), scan.longest);
  scope.local.index->Visit(asked.local, min_cosine, take, stop);
  return nearest;
}

// It may have the remote's vector though its index does not: that is being loaded, or was left out.
double AnswerBook::CosineOf(const std::string& key, const Candidate& candidate,
                            const Asked& asked) const {
  if (candidate.by_remote || asked.remote.empty()) return candidate.cosine;
  const auto row = store_->GetVector(VectorKind::kRemote, key);
  if (!row || !IsOurs(*remote_, *row) || row->vector.values.empty()) return candidate.cosine;
  return Cosine(row->vector, asked.remote);
}

}  // namespace holdfast::cache
