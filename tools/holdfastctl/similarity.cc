#include "tools/holdfastctl/similarity.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "absl/functional/function_ref.h"
#include "cache/answer_book.h"
#include "cache/scope.h"
#include "cache/text.h"
#include "core/clock.h"
#include "core/random.h"

namespace holdfast::ctl {
namespace {

constexpr size_t kTextsAtOnce = 32;
constexpr size_t kJudgedAtOnce = 16;
constexpr core::Duration kAnyAge = core::Duration::max();
constexpr char kNoVector[] = "has no words to compare";

// Calls `work` for all of [0, count), `at_once` a call, on all processors.
void ForAll(size_t count, size_t at_once, absl::FunctionRef<void(size_t begin, size_t end)> work) {
  std::atomic<size_t> next = 0;
  const auto run = [&] {
    for (size_t begin = next.fetch_add(at_once); begin < count; begin = next.fetch_add(at_once)) {
      work(begin, std::min(count, begin + at_once));
    }
  };
  std::vector<std::thread> others;
  const size_t most = (count + at_once - 1) / at_once;
  for (size_t i = 1; i < std::min<size_t>(std::thread::hardware_concurrency(), most); ++i) {
    others.emplace_back(run);
  }
  run();
  for (std::thread& other : others) other.join();
}

// The vectors of all texts, made many at once beforehand. For whoever embeds one at a time.
class KnownVectors final : public core::Embedder {
 public:
  KnownVectors(const core::Embedder& embedder, std::vector<std::string_view> texts,
               Progress& progress)
      : embedder_(embedder) {
    const size_t given = texts.size();
    // Those of like length together, since a batch takes as long as its longest.
    std::sort(texts.begin(), texts.end(), [](std::string_view a, std::string_view b) {
      return std::pair(a.size(), a) < std::pair(b.size(), b);
    });
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    progress.Add(given - texts.size());
    for (const std::string_view text : texts) vectors_[text];
    ForAll(texts.size(), kTextsAtOnce, [&](size_t begin, size_t end) {
      auto embedded = embedder_.EmbedBatch(std::span(texts).subspan(begin, end - begin));
      for (size_t i = begin; i < end; ++i) {
        auto& result = embedded[i - begin];
        if (result.ok()) vectors_.find(texts[i])->second = std::move(result->vector);
      }
      progress.Add(end - begin);
    });
  }

  std::string id() const override { return embedder_.id(); }
  size_t dimension() const override { return embedder_.dimension(); }
  std::vector<float> Embed(std::string_view text) const override {
    const std::vector<float>& vector = vectors_.at(text);
    return vector.empty() ? std::vector<float>(dimension(), 0.0f) : vector;
  }

  bool Knows(std::string_view text) const {
    const std::vector<float>& vector = vectors_.at(text);
    return std::any_of(vector.begin(), vector.end(), [](float value) { return value != 0; });
  }
  double Cosine(std::string_view a, std::string_view b) const {
    const std::vector<float>& x = vectors_.at(a);
    return std::inner_product(x.begin(), x.end(), vectors_.at(b).begin(), 0.0);
  }

 private:
  const core::Embedder& embedder_;
  std::unordered_map<std::string_view, std::vector<float>> vectors_;
};

// What `serve` is held against, in words for people.
Similarity Told(const Comparer& comparer, const cache::Verdict& verdict, double cosine) {
  Similarity told{.cosine = cosine, .reason = verdict.reason};
  if (verdict.refused) return told;
  told.score = verdict.similarity;
  const bool near_enough = cosine >= comparer.judge.CosineFloor(comparer.threshold);
  told.serve = near_enough && verdict.similarity >= comparer.threshold;
  if (!told.serve && (!near_enough || verdict.findings.empty())) {
    told.reason = "the questions lie too far apart";
  }
  return told;
}

}  // namespace

std::vector<Similarity> ComparePairs(const Comparer& comparer, std::span<const QuestionPair> pairs,
                                     Progress& progress) {
  std::vector<std::string_view> texts;
  for (const auto& [stored, asked] : pairs) {
    texts.push_back(stored);
    texts.push_back(asked);
  }
  const KnownVectors vectors(comparer.embedder, std::move(texts), progress);
  std::vector<Similarity> result(pairs.size());
  ForAll(pairs.size(), kJudgedAtOnce, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const auto& [stored, asked] = pairs[i];
      if (!vectors.Knows(stored) || !vectors.Knows(asked)) {
        result[i].reason = (vectors.Knows(stored) ? "b " : "a ") + std::string(kNoVector);
        continue;
      }
      const bool same = cache::NormalizeQuestion(stored) == cache::NormalizeQuestion(asked);
      const double cosine = same ? 1 : vectors.Cosine(stored, asked);
      const cache::Candidate candidate{.question = stored, .cosine = cosine};
      result[i] = Told(comparer, comparer.judge.Compare(asked, candidate), cosine);
    }
    progress.Add(end - begin);
  });
  return result;
}

std::vector<Match> FindMatches(const Comparer& comparer, std::span<const std::string> stored,
                               std::span<const std::string> asked, Progress& progress) {
  std::vector<std::string_view> texts(stored.begin(), stored.end());
  texts.insert(texts.end(), asked.begin(), asked.end());
  const KnownVectors vectors(comparer.embedder, std::move(texts), progress);

  const core::SystemClock clock;
  core::SeededRandom random(1);
  // All are looked at: a graph would overlook some.
  cache::SemanticCacheOptions options{.flat_limit = std::numeric_limits<size_t>::max()};
  cache::AnswerBook book(std::move(options), vectors, clock, random, comparer.judge);
  const cache::ScopeSource scope;
  for (size_t i = 0; i < stored.size(); ++i) {
    // The answer tells which it is.
    book.Insert(scope, stored[i], {.text = std::to_string(i)}, clock.WallNow());
    progress.Add(1);
  }

  const double floor = comparer.judge.CosineFloor(comparer.threshold);
  std::vector<Match> result(asked.size());
  ForAll(asked.size(), kJudgedAtOnce, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      Match& match = result[i];
      if (!vectors.Knows(asked[i])) {
        match.similarity.reason = "q " + std::string(kNoVector);
        continue;
      }
      auto ranked = book.Explain(scope, asked[i], floor, kAnyAge);
      if (ranked.empty() || ranked.front().verdict.refused) {
        ranked = book.Explain(scope, asked[i], -1, kAnyAge);
      }
      if (ranked.empty()) {
        match.similarity.reason = "nothing is stored";
        continue;
      }
      const cache::Considered& first = ranked.front();
      match.similarity = Told(comparer, first.verdict, first.cosine);
      if (!first.verdict.refused) match.entry = std::stoul(first.entry.answer);
    }
    progress.Add(end - begin);
  });
  return result;
}

}  // namespace holdfast::ctl
