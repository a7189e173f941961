#pragma once

// The Judge over a sentence encoder's cosines: named findings about the two questions, weighed with
// the cosine into one calibrated score. Immutable, safe from any thread.

#include "cache/judge.h"

namespace holdfast::cache {

class FindingJudge final : public Judge {
 public:
  Verdict Compare(std::string_view asked, const Candidate& candidate) const override;

  // Whatever the threshold: questions further apart than this never reach a useful score.
  double CosineFloor(double) const override { return kCosineFloor; }

  static constexpr double kCosineFloor = 0.4;
};

}  // namespace holdfast::cache
