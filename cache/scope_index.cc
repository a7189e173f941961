#include "cache/scope_index.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <unordered_set>

namespace holdfast::cache {
namespace {

// A cosine of floats is no finer than this; so a question asked again has exactly 1, and a
// threshold of 0.7 is reached by 0.7.
constexpr double kStep = 1e6;
constexpr float kSlack = 1e-6f;

double Round(float similarity) {
  return std::clamp(std::round(static_cast<double>(similarity) * kStep) / kStep, -1.0, 1.0);
}

// Most lookups take the first or none. The last round is the exact scan.
constexpr size_t kRounds[] = {16, 128, std::numeric_limits<size_t>::max()};

ScopeIndex::Question ToQuestion(std::string_view question_key) {
  ScopeIndex::Question question{};
  std::copy_n(question_key.begin(), std::min(question_key.size(), question.size()),
              question.begin());
  return question;
}

}  // namespace

void ScopeIndex::Put(std::string_view question_key, core::WallTime created_at,
                     std::span<const float> vector) {
  Remove(question_key);
  const uint32_t slot = vectors_.Add(vector);
  if (slot >= items_.size()) items_.resize(slot + 1);
  items_[slot] = {ToQuestion(question_key), created_at};
  slots_.emplace(items_[slot].question, slot);
}

void ScopeIndex::Remove(std::string_view question_key) {
  const auto it = slots_.find(ToQuestion(question_key));
  if (it == slots_.end()) return;
  vectors_.Remove(it->second);
  slots_.erase(it);
}

void ScopeIndex::Visit(std::span<const float> query, double min_similarity,
                       absl::FunctionRef<bool(const Item& item, double similarity)> take) const {
  std::unordered_set<uint32_t> shown;
  for (const size_t k : kRounds) {
    const std::vector<Found> found = Search(query, k, min_similarity);
    // With a full list there may be more as near as its last: they wait for the next round.
    const bool complete = found.size() < k;
    for (const Found& candidate : found) {
      if (!complete && candidate.similarity <= found.back().similarity) break;
      if (!shown.insert(candidate.slot).second) continue;
      if (take(items_[candidate.slot], candidate.similarity)) return;
    }
    if (complete) return;
  }
}

std::vector<ScopeIndex::Found> ScopeIndex::Search(std::span<const float> query, size_t k,
                                                  double min_similarity) const {
  std::vector<Found> found;
  const float floor = static_cast<float>(min_similarity) - kSlack;
  for (const auto& candidate : vectors_.Search(query, k, floor)) {
    found.push_back({Round(candidate.similarity), candidate.slot});
  }
  // What the slack let in stays in the list until here, so that its length tells "no more".
  std::sort(found.begin(), found.end(), [this](const Found& a, const Found& b) {
    if (a.similarity != b.similarity) return a.similarity > b.similarity;
    return items_[a.slot].created_at > items_[b.slot].created_at;
  });
  while (!found.empty() && found.back().similarity < min_similarity) found.pop_back();
  return found;
}

size_t ScopeIndex::bytes() const {
  constexpr size_t kMapEntry = 64;
  return sizeof(*this) + vectors_.bytes() + items_.capacity() * sizeof(Item) +
         slots_.size() * kMapEntry;
}

}  // namespace holdfast::cache
