#pragma once

// Questions about now: the answer to "what is the weather in Oslo today" is right for minutes, and
// nothing in the wording of two such questions tells them apart. FreshnessJudge refuses stored
// answers to them beyond an age, whatever the judge behind it says. Safe from any thread.

#include <string>
#include <string_view>

#include "cache/judge.h"

namespace holdfast::cache {

// The words for which `question` is about now ("today", "weather"); empty if it is not.
std::string AsksAboutNow(std::string_view question);

class FreshnessJudge final : public Judge {
 public:
  // `judge` is borrowed. What is older than `limit` is not served where either question is about
  // now; pinned answers are.
  FreshnessJudge(const Judge& judge, core::Duration limit) : judge_(judge), limit_(limit) {}

  Verdict Compare(std::string_view asked, const Candidate& candidate) const override;
  double CosineFloor(double threshold) const override { return judge_.CosineFloor(threshold); }

 private:
  const Judge& judge_;
  const core::Duration limit_;
};

}  // namespace holdfast::cache
