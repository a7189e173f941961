#include "core/clock.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace holdfast::core {
namespace {

using namespace std::chrono_literals;

TEST(ClockTest, SaturatingAdd) {
  EXPECT_EQ(SaturatingAdd(1ns, 2ns), 3ns);
  EXPECT_EQ(SaturatingAdd(Duration::max() - 1ns, 1ns), Duration::max());
  EXPECT_EQ(SaturatingAdd(Duration::max(), 1ns), Duration::max());
  EXPECT_EQ(SaturatingAdd(Duration::min(), -1ns), Duration::min());
  EXPECT_EQ(SaturatingAdd(Duration::max(), Duration::min()), -1ns);
  EXPECT_EQ(SaturatingAdd(SteadyTime::max(), Duration(1h)), SteadyTime::max());
}

TEST(ClockTest, Scale) {
  EXPECT_EQ(Scale(10s, 0.5), 5s);
  EXPECT_EQ(Scale(10s, 0), 0s);
  EXPECT_EQ(Scale(3ns, 0.5), 2ns);  // rounds half away from zero
  EXPECT_EQ(Scale(Duration::max(), 2), Duration::max());
  EXPECT_EQ(Scale(Duration::max(), -2), Duration::min());
  EXPECT_EQ(Scale(1s, std::nan("")), 0s);
  EXPECT_EQ(Scale(1s, std::numeric_limits<double>::infinity()), Duration::max());
}

TEST(ClockTest, FromSeconds) {
  EXPECT_EQ(FromSeconds(1.5), 1500ms);
  EXPECT_EQ(FromSeconds(-0.25), -250ms);
  EXPECT_EQ(FromSeconds(1e300), Duration::max());
  EXPECT_EQ(FromSeconds(-1e300), Duration::min());
  EXPECT_EQ(FromSeconds(std::nan("")), 0s);
  EXPECT_DOUBLE_EQ(ToSeconds(1500ms), 1.5);
}

TEST(ClockTest, FormatDuration) {
  EXPECT_EQ(FormatDuration(0s), "0s");
  EXPECT_EQ(FormatDuration(168h), "168h");
  EXPECT_EQ(FormatDuration(2min), "2m");
  EXPECT_EQ(FormatDuration(90s), "90s");
  EXPECT_EQ(FormatDuration(250ms), "250ms");
  EXPECT_EQ(FormatDuration(7us), "7us");
  EXPECT_EQ(FormatDuration(3ns), "3ns");
  EXPECT_EQ(FormatDuration(-2s), "-2s");
}

// As clock.h promises: the shortest form people read.
TEST(ClockTest, FormatDurationUsesAFractionWhereItIsShorter) {
  EXPECT_EQ(FormatDuration(1500ms), "1.5s");
  EXPECT_EQ(FormatDuration(-1001ms), "-1.001s");
  EXPECT_EQ(FormatDuration(999ms), "999ms");
  EXPECT_EQ(FormatDuration(1500us), "1500us");
}

TEST(ClockTest, SystemClockMovesForward) {
  SystemClock clock;
  const SteadyTime before = clock.Now();
  EXPECT_LE(before, clock.Now());
  EXPECT_GT(clock.WallNow().time_since_epoch(), 24h * 365 * 50);
}

}  // namespace
}  // namespace holdfast::core
