#pragma once

// Whether the answers to some questions may serve others, told without a server by the code that a
// server would ask: its encoder, index, candidates, judge and default threshold. Made and used on
// the main thread; works on all processors.

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cache/judge.h"
#include "core/embedder.h"
#include "tools/holdfastctl/progress.h"

namespace holdfast::ctl {

struct Similarity {
  std::optional<double> cosine;
  std::optional<double> score;  // none where a check refuses
  bool serve = false;
  std::string reason;
};

struct Match {
  std::optional<size_t> entry;  // in what is stored: the first before any threshold
  Similarity similarity;
};

struct Comparer {
  const core::Embedder& embedder;
  const cache::Judge& judge;
  double threshold = 0;
};

// The stored question, then the asked one.
using QuestionPair = std::pair<std::string, std::string>;

// In the order of `pairs`. Counts up to kPairSteps for each.
inline constexpr size_t kPairSteps = 3;
std::vector<Similarity> ComparePairs(const Comparer& comparer, std::span<const QuestionPair> pairs,
                                     Progress& progress);

// For each of `asked` what it would find in a scope that holds `stored`. What has no vector (white
// space, or what is not UTF-8) is not stored; of the same question twice, the later one is. Counts
// up to kFindSteps for each of both.
inline constexpr size_t kFindSteps = 2;
std::vector<Match> FindMatches(const Comparer& comparer, std::span<const std::string> stored,
                               std::span<const std::string> asked, Progress& progress);

}  // namespace holdfast::ctl
