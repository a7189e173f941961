#include "resilience/plan.h"

#include "gtest/gtest.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using namespace std::chrono_literals;

TEST(IsUsefulTest, AfterOthersForgivesWhatATimerIsLate) {
  // A tenth of min_useful, at most 50 ms.
  EXPECT_FALSE(IsUseful(270ms - 1ns, 300ms, true));
  EXPECT_TRUE(IsUseful(270ms, 300ms, true));
  EXPECT_TRUE(IsUseful(270ms + 1ns, 300ms, true));
  EXPECT_FALSE(IsUseful(2950ms - 1ns, 3s, true));
  EXPECT_TRUE(IsUseful(2950ms, 3s, true));
  EXPECT_FALSE(IsUseful(Duration::min(), 1s, true));
  EXPECT_TRUE(IsUseful(Duration::max(), 1s, true));
}

TEST(IsUsefulTest, NothingIsForgivenBeforeAnythingRan) {
  EXPECT_FALSE(IsUseful(300ms - 1ns, 300ms, false));
  EXPECT_TRUE(IsUseful(300ms, 300ms, false));
  EXPECT_TRUE(IsUseful(300ms + 1ns, 300ms, false));
}

TEST(ReserveTest, EachWholeOrNotAtAllAndOnlyWhileThisAttemptKeepsItsOwn) {
  EXPECT_EQ(Reserve(7500ms, 3s, 0), 0s);
  EXPECT_EQ(Reserve(7500ms, 3s, 2), 3s);
  EXPECT_EQ(Reserve(9s, 3s, 2), 6s);
  EXPECT_EQ(Reserve(9s, 3s, 9), 6s);
  EXPECT_EQ(Reserve(3s, 3s, 1), 0s);
}

TEST(ReserveTest, WhatWasKeptForTheThirdTargetSurvivesThatTheFirstEndedLate) {
  // The first of three ran its time out, and a millisecond: two times min_useful were kept.
  EXPECT_EQ(Reserve(6s, 3s, 1), 3s);
  EXPECT_EQ(Reserve(5999ms, 3s, 1), 3s);
  EXPECT_EQ(Reserve(5950ms, 3s, 1), 3s);
  EXPECT_EQ(Reserve(5950ms - 1ns, 3s, 1), 0s);
}

}  // namespace
}  // namespace holdfast::resilience
