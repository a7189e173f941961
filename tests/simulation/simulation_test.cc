// Invariants over seeded virtual hours, and the claims of the mission's week.

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/simulation/world.h"

namespace holdfast::simulation {
namespace {

using namespace std::chrono_literals;  // NOLINT: durations

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HOLDFAST_SANITIZED 1
#endif
#endif

#ifdef HOLDFAST_SANITIZED
constexpr uint64_t kHours = 50;
constexpr uint64_t kRequestsPerHour = 200;
#else
constexpr uint64_t kHours = 1000;
constexpr uint64_t kRequestsPerHour = 1000;
#endif

TEST(SimulatedHours, NothingIsLostNothingIsLateNobodyComesTooSoon) {
  uint64_t degraded = 0;
  for (uint64_t seed = 1; seed <= kHours; ++seed) {
    SCOPED_TRACE(seed);
    Scenario hour;
    hour.seed = seed;
    hour.length = 1h;
    hour.requests = kRequestsPerHour;
    hour.targets = 1 + static_cast<int>(seed % 4);
    hour.down = 0.05 * static_cast<double>(seed % 8);
    hour.mean_episode = 3min;
    hour.questions = 500;
    if (seed % 5 == 0) hour.all_down = 10min;
    hour.all_down_after = 20min;
    if (seed % 7 == 0) hour.calls_per_second = 0.2;
    if (seed % 11 == 0) hour.timeout = 3s;
    const Tally tally = Simulate(hour).holdfast;
    ASSERT_EQ(tally.requests, kRequestsPerHour);
    ASSERT_EQ(tally.lost, 0u) << "a caller who accepts partial gets an answer";
    ASSERT_EQ(tally.late, 0u) << "never past a deadline";
    ASSERT_EQ(tally.too_soon, 0u) << "never sooner than a Retry-After";
    degraded += tally.requests - tally.by_rung[0];
  }
  EXPECT_GT(degraded, kHours) << "the hours are hard enough to mean something";
}

TEST(SimulatedWeek, TheMissionsWeek) {
  const Week week = Simulate({.name = "mission"});
  EXPECT_NEAR(static_cast<double>(week.direct.lost), 840, 200);
  EXPECT_EQ(week.holdfast.lost, 0u);
  EXPECT_LE(week.holdfast.amplification(), 1.1);
  EXPECT_EQ(week.holdfast.notice_while_up, 0u);
}

}  // namespace
}  // namespace holdfast::simulation
