#include "resilience/backoff.h"

#include <algorithm>
#include <limits>

#include "gtest/gtest.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using ::holdfast::testing::ScriptedRandom;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr double kAlmostOne = 1 - std::numeric_limits<double>::epsilon() / 2;

TEST(BackoffTest, DefaultsAreTheShippedOnes) {
  EXPECT_EQ(BackoffOptions().base, seconds(1));
  EXPECT_EQ(BackoffOptions().cap, seconds(30));
}

TEST(BackoffTest, FullJitterIsUniformBelowBaseTimesTwoToTheN) {
  const int kEnds[] = {1, 2, 4, 8, 16, 30, 30, 30};
  for (int n = 0; n < 8; ++n) {
    ScriptedRandom random({0.0, 0.5, kAlmostOne});
    const Duration end = seconds(kEnds[n]);
    EXPECT_EQ(FullJitter({}, n, random), Duration::zero()) << n;
    EXPECT_EQ(FullJitter({}, n, random), end / 2) << n;
    const Duration most = FullJitter({}, n, random);
    EXPECT_LT(most, end) << n;
    EXPECT_GE(most, end - nanoseconds(10)) << n;
    EXPECT_EQ(random.draws(), 3u);
  }
}

TEST(BackoffTest, TheExponentIsClampedBeforeThePower) {
  for (int n : {62, 63, 64, 65, 1'000, std::numeric_limits<int>::max()}) {
    ScriptedRandom random({0.5});
    EXPECT_EQ(FullJitter({}, n, random), seconds(15)) << n;
    ScriptedRandom again({0.5});
    const Duration end = n == 62 ? Duration(int64_t{1} << 62) : Duration::max();
    EXPECT_EQ(FullJitter({.base = Duration(1), .cap = Duration::max()}, n, again),
              core::Scale(end, 0.5));
  }
}

TEST(BackoffTest, ANegativeIndexIsTheFirst) {
  ScriptedRandom random({0.5});
  EXPECT_EQ(FullJitter({}, -1, random), milliseconds(500));
}

TEST(BackoffTest, BaseEqualToCap) {
  ScriptedRandom random({0.875});
  EXPECT_EQ(FullJitter({.base = seconds(40), .cap = seconds(40)}, 0, random), seconds(35));
}

TEST(BackoffTest, EmptyRangesAreZero) {
  ScriptedRandom random({0.5, 0.5, 0.5});
  EXPECT_EQ(FullJitter({.base = Duration::zero(), .cap = Duration::zero()}, 5, random),
            Duration::zero());
  EXPECT_EQ(FullJitter({.base = seconds(-1), .cap = seconds(30)}, 5, random), Duration::zero());
  EXPECT_EQ(FullJitter({.base = Duration(1), .cap = Duration(1)}, 0, random), Duration::zero());
}

TEST(BackoffTest, FullJitterIsUniform) {
  core::SeededRandom random(42);
  int below[4] = {};
  for (int i = 0; i < 40'000; ++i) {
    const Duration delay = FullJitter({}, 2, random);
    ASSERT_GE(delay, Duration::zero());
    ASSERT_LT(delay, seconds(4));
    ++below[delay / seconds(1)];
  }
  for (int count : below) EXPECT_NEAR(count, 10'000, 500);
}

TEST(BackoffTest, AfterRetryAfterIsTheToldTimePlusUpToATenthOfIt) {
  ScriptedRandom random({0.0, 0.5, kAlmostOne});
  EXPECT_EQ(AfterRetryAfter(seconds(2), random), seconds(2));
  EXPECT_EQ(AfterRetryAfter(seconds(2), random), milliseconds(2'100));
  const Duration most = AfterRetryAfter(seconds(2), random);
  EXPECT_LT(most, milliseconds(2'200));
  EXPECT_GT(most, milliseconds(2'199));
}

TEST(BackoffTest, AfterRetryAfterAddsAtMostOneSecond) {
  for (int told : {9, 10, 11, 600}) {
    ScriptedRandom random({0.5});
    EXPECT_EQ(AfterRetryAfter(seconds(told), random),
              seconds(told) + std::min<Duration>(milliseconds(50) * told, milliseconds(500)));
  }
}

TEST(BackoffTest, AfterRetryAfterIsFirstLimitedTo1h) {
  const Duration kTold[] = {hours(1) - nanoseconds(1), hours(1), hours(1) + nanoseconds(1),
                            Duration::max()};
  for (Duration told : kTold) {
    ScriptedRandom random({0.0, 0.5});
    EXPECT_EQ(AfterRetryAfter(told, random), std::min<Duration>(told, hours(1)));
    EXPECT_EQ(AfterRetryAfter(told, random),
              std::min<Duration>(told, hours(1)) + milliseconds(500));
  }
}

TEST(BackoffTest, AfterRetryAfterIsNeverSoonerThanTold) {
  core::SeededRandom random(7);
  for (int i = 0; i < 20'000; ++i) {
    const Duration told = core::FromSeconds(random.Uniform() * random.Uniform() * 7'200);
    const Duration floor = std::min<Duration>(told, hours(1));
    const Duration wait = AfterRetryAfter(told, random);
    ASSERT_GE(wait, floor);
    ASSERT_LE(wait, floor + std::min<Duration>(floor / 10, seconds(1)));
  }
}

TEST(BackoffTest, NegativeOrZeroRetryAfterIsNoWait) {
  ScriptedRandom random({0.5, 0.5});
  EXPECT_EQ(AfterRetryAfter(Duration::zero(), random), Duration::zero());
  EXPECT_EQ(AfterRetryAfter(seconds(-3), random), Duration::zero());
}

TEST(BackoffTest, AfterCooldownIsTheWaitPlusUpToItselfOrOneSecond) {
  ScriptedRandom random({0.5, 0.5, 0.5, 0.0, kAlmostOne});
  EXPECT_EQ(AfterCooldown(milliseconds(400), random), milliseconds(600));
  EXPECT_EQ(AfterCooldown(seconds(1), random), milliseconds(1'500));
  EXPECT_EQ(AfterCooldown(seconds(5), random), milliseconds(5'500));
  EXPECT_EQ(AfterCooldown(seconds(5), random), seconds(5));
  const Duration most = AfterCooldown(seconds(5), random);
  EXPECT_LT(most, seconds(6));
  EXPECT_GT(most, milliseconds(5'999));
}

TEST(BackoffTest, AfterCooldownSaturatesAndIsNeverNegative) {
  ScriptedRandom random({0.5, 0.5, 0.5});
  EXPECT_EQ(AfterCooldown(Duration::max(), random), Duration::max());
  EXPECT_EQ(AfterCooldown(Duration::zero(), random), Duration::zero());
  EXPECT_EQ(AfterCooldown(Duration::min(), random), Duration::zero());
}

}  // namespace
}  // namespace holdfast::resilience
