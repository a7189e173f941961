#include "core/wait.h"

#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::core {
namespace {

using holdfast::testing::FakeLoop;
using ::testing::ElementsAre;

Task<void> SleepAndTell(Loop& loop, SteadyTime when, std::stop_token stop,
                        std::optional<bool>& slept, SteadyTime& woke) {
  slept = co_await Sleep(loop, when, std::move(stop));
  woke = loop.Now();
}

struct SleepTest : ::testing::Test {
  void Begin(Duration d) {
    Spawn(SleepAndTell(loop, loop.Now() + d, stop.get_token(), slept, woke));
  }

  FakeLoop loop;
  std::stop_source stop;
  std::optional<bool> slept;
  SteadyTime woke{};
  const SteadyTime start = loop.Now();
};

TEST_F(SleepTest, EndsAtItsTime) {
  Begin(Duration(10));
  loop.RunUntil(start + Duration(9));
  EXPECT_EQ(slept, std::nullopt);
  loop.RunUntil(start + Duration(10));
  EXPECT_EQ(slept, true);
  EXPECT_EQ(woke, start + Duration(10));
}

TEST_F(SleepTest, PastTimeStillGoesThroughTheLoop) {
  Begin(Duration(-5));
  EXPECT_EQ(slept, std::nullopt);
  loop.RunReady();
  EXPECT_EQ(slept, true);
  EXPECT_EQ(woke, start);
}

TEST_F(SleepTest, StopEndsItAtOnceAndLeavesNoTimer) {
  Begin(std::chrono::seconds(40));
  loop.RunUntil(start + std::chrono::seconds(1));
  stop.request_stop();
  EXPECT_EQ(slept, std::nullopt);  // resumed by the loop, not from inside request_stop
  EXPECT_EQ(loop.timers(), 0u);
  loop.RunReady();
  EXPECT_EQ(slept, false);
  EXPECT_EQ(woke, start + std::chrono::seconds(1));
}

TEST_F(SleepTest, StoppedBeforeItBegins) {
  stop.request_stop();
  Begin(Duration(10));
  EXPECT_EQ(slept, false);
  EXPECT_EQ(loop.timers(), 0u);
}

TEST_F(SleepTest, StopAfterTheTimerFiredLosesTheRace) {
  Begin(Duration(10));
  loop.CallAt(start + Duration(10), [] {});
  // At the same instant, right after the sleep's timer: its resumption is already posted.
  bool stopped = false;
  loop.CallAt(start + Duration(10), [&] { stopped = stop.request_stop(); });
  loop.Run();
  EXPECT_TRUE(stopped);
  EXPECT_EQ(slept, true);
}

Task<void> Await(OneShot<int>& shot, std::vector<int>& got) { got.push_back(co_await shot); }

TEST(OneShotTest, SetBeforeTheWait) {
  FakeLoop loop;
  OneShot<int> shot(loop);
  std::vector<int> got;
  EXPECT_FALSE(shot.IsSet());
  EXPECT_TRUE(shot.Set(1));
  EXPECT_TRUE(shot.IsSet());
  EXPECT_FALSE(shot.Set(2));
  Spawn(Await(shot, got));
  EXPECT_THAT(got, ElementsAre(1));
}

TEST(OneShotTest, SetDuringTheWaitResumesByPost) {
  FakeLoop loop;
  OneShot<int> shot(loop);
  std::vector<int> got;
  Spawn(Await(shot, got));
  loop.Post([&] { got.push_back(-1); });
  EXPECT_TRUE(shot.Set(1));
  EXPECT_FALSE(shot.Set(2));
  EXPECT_THAT(got, ElementsAre());
  loop.RunReady();
  EXPECT_THAT(got, ElementsAre(-1, 1));
}

TEST(OneShotDeathTest, SecondWaiterIsABug) {
  FakeLoop loop;
  OneShot<int> shot(loop);
  std::vector<int> got;
  Spawn(Await(shot, got));
  EXPECT_DEATH(Spawn(Await(shot, got)), "check failed");
  shot.Set(1);
  loop.Run();
}

}  // namespace
}  // namespace holdfast::core
