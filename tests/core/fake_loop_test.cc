#include "tests/fakes/fake_loop.h"

#include <thread>
#include <vector>

#include "core/wait.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::testing {
namespace {

using core::Duration;
using ::testing::ElementsAre;

TEST(FakeLoopTest, PostsThenTimersByTimeThenSequence) {
  FakeLoop loop;
  const core::SteadyTime start = loop.Now();
  std::vector<int> ran;
  loop.CallAt(start + Duration(2), [&] { ran.push_back(5); });
  loop.CallAt(start + Duration(1), [&] {
    ran.push_back(2);
    loop.Post([&] { ran.push_back(3); });
  });
  loop.CallAt(start + Duration(1), [&] { ran.push_back(4); });
  loop.CallAt(start - Duration(1), [&] { ran.push_back(1); });
  loop.Post([&] { ran.push_back(0); });
  EXPECT_EQ(loop.Run(), 6u);
  EXPECT_THAT(ran, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(loop.Now(), start + Duration(2));
}

TEST(FakeLoopTest, RunUntilIncludesItsInstantAndEndsThere) {
  FakeLoop loop;
  const core::SteadyTime start = loop.Now();
  std::vector<int> ran;
  for (int i : {9, 10, 11}) loop.CallAt(start + Duration(i), [&ran, i] { ran.push_back(i); });
  loop.Advance(Duration(10));
  EXPECT_THAT(ran, ElementsAre(9, 10));
  EXPECT_EQ(loop.Now(), start + Duration(10));
  EXPECT_EQ(loop.NextTimer(), start + Duration(11));
  loop.RunUntil(start);
  EXPECT_EQ(loop.Now(), start + Duration(10));
  loop.Run();
  EXPECT_EQ(loop.timers(), 0u);
}

TEST(FakeLoopTest, CancelTimer) {
  FakeLoop loop;
  bool ran = false;
  const core::TimerId id = loop.CallAt(loop.Now() + Duration(1), [&] { ran = true; });
  EXPECT_TRUE(loop.CancelTimer(id));
  EXPECT_FALSE(loop.CancelTimer(id));
  loop.Run();
  EXPECT_FALSE(ran);
}

TEST(FakeLoopTest, PostsOfAnotherThreadWhileTimeStandsStill) {
  FakeLoop loop;
  const core::SteadyTime start = loop.Now();
  bool done = false, late = false;
  loop.CallAt(start + Duration(1), [&] { late = true; });
  std::thread thread([&] { loop.Post([&] { done = true; }); });
  loop.RunReadyUntil([&] { return done; });
  thread.join();
  EXPECT_FALSE(late);
  EXPECT_EQ(loop.Now(), start);
}

TEST(FakeLoopTest, AwaitRunsATaskToItsEnd) {
  FakeLoop loop;
  const core::SteadyTime start = loop.Now();
  EXPECT_TRUE(loop.Await(core::Sleep(loop, start + std::chrono::hours(5), {})));
  EXPECT_EQ(loop.Now(), start + std::chrono::hours(5));
}

TEST(FakeClockTest, WallMovesWithSteadyAndCanBeSet) {
  FakeClock clock;
  EXPECT_EQ(clock.WallNow(), FakeClock::kWallStart);
  clock.Advance(std::chrono::seconds(3));
  EXPECT_EQ(clock.WallNow(), FakeClock::kWallStart + std::chrono::seconds(3));
  clock.SetWall(FakeClock::kWallStart - std::chrono::hours(1));
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(clock.Now(), FakeClock::kStart + std::chrono::seconds(4));
  EXPECT_EQ(clock.WallNow(), FakeClock::kWallStart - std::chrono::seconds(3599));
}

TEST(ScriptedRandomTest, ScriptThenFallback) {
  ScriptedRandom constant({0.0, 0.25}, 0.75);
  EXPECT_EQ(constant.Uniform(), 0.0);
  EXPECT_EQ(constant.Uniform(), 0.25);
  EXPECT_EQ(constant.Uniform(), 0.75);
  EXPECT_EQ(constant.draws(), 3u);

  ScriptedRandom seeded = ScriptedRandom::Seeded(3, {0.5});
  core::SeededRandom same(3);
  EXPECT_EQ(seeded.Uniform(), 0.5);
  EXPECT_EQ(seeded.Uniform(), same.Uniform());
}

}  // namespace
}  // namespace holdfast::testing
