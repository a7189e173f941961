#include "resilience/limiter.h"

#include <atomic>
#include <cmath>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::resilience {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

class LimiterTest : public ::testing::Test {
 protected:
  Limiter& Make(int max, std::optional<double> initial = std::nullopt) {
    held.clear();
    limiter.emplace(LimiterOptions{max}, clock, initial);
    return *limiter;
  }
  Limiter::Permit MustAcquire() {
    auto permit = limiter->Acquire();
    HOLDFAST_CHECK(permit.has_value());
    return std::move(*permit);
  }
  void Hold(int calls) {
    while (static_cast<int>(held.size()) < calls) held.push_back(MustAcquire());
  }
  // A call that ends well while `in_flight` calls, itself among them, are in flight.
  void SuccessAt(int in_flight) {
    Hold(in_flight - 1);
    MustAcquire().Success();
  }

  ::holdfast::testing::FakeClock clock;
  std::optional<Limiter> limiter;
  std::vector<Limiter::Permit> held;
};

TEST_F(LimiterTest, StartsAtItsMaximumOf1000) {
  EXPECT_EQ(Make(LimiterOptions().max).limit(), 1000);
}

TEST_F(LimiterTest, TheInitialLimitIsKeptWithin1AndMax) {
  EXPECT_EQ(Make(20, 7).limit(), 7);
  EXPECT_EQ(Make(20, 0).limit(), 1);
  EXPECT_EQ(Make(20, 21).limit(), 20);
}

// The worked cases of the rules, under their own words.

TEST_F(LimiterTest, Worked_Aimd20_SuccessAtInflight10_Floor21After21Successes20Give20_98) {
  Make(1000, 20);
  for (int i = 0; i < 20; ++i) SuccessAt(10);
  EXPECT_NEAR(limiter->limit(), 20.98, 0.005);
  EXPECT_EQ(std::floor(limiter->limit()), 20);
  SuccessAt(10);
  EXPECT_EQ(std::floor(limiter->limit()), 21);
}

TEST_F(LimiterTest, Worked_Aimd30_Drop_27) {
  Make(1000, 30);
  MustAcquire().Drop();
  EXPECT_EQ(limiter->limit(), 27);
}

TEST_F(LimiterTest, Worked_Aimd21Max21_Success_21) {
  Make(21);
  SuccessAt(21);
  EXPECT_EQ(limiter->limit(), 21);
}

TEST_F(LimiterTest, Worked_Limit10_100ThreadsTimes1000_MaxInFlight10_OkPlusRejected100000_EndsAt0) {
  Make(10);
  std::atomic<int> in_flight = 0, most = 0, ok = 0, rejected = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 100; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1'000; ++i) {
        auto permit = limiter->Acquire();
        if (!permit) {
          ++rejected;
          continue;
        }
        const int now = ++in_flight;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        if (i % 16 == 0) std::this_thread::yield();
        ++ok;
        --in_flight;
        permit->Success();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 10);
  EXPECT_EQ(ok + rejected, 100'000);
  EXPECT_EQ(limiter->rejected(), static_cast<uint64_t>(rejected));
  EXPECT_EQ(limiter->in_flight(), 0);
}

TEST_F(LimiterTest, FloorOfTheLimitMayBeInFlight) {
  for (double initial : {2.0, 2.99, 3.0}) {
    Make(100, initial);
    const int most = static_cast<int>(initial);
    Hold(most - 1);
    EXPECT_TRUE(limiter->WouldAdmit());
    Hold(most);
    EXPECT_FALSE(limiter->WouldAdmit());
    EXPECT_FALSE(limiter->Acquire().has_value());
    EXPECT_EQ(limiter->rejected(), 1u);
    EXPECT_EQ(limiter->in_flight(), most);
    held.pop_back();
    EXPECT_TRUE(limiter->WouldAdmit());
  }
}

TEST_F(LimiterTest, WouldAdmitTakesAndCountsNothing) {
  Make(1);
  Hold(1);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter->WouldAdmit());
  EXPECT_EQ(limiter->rejected(), 0u);
}

TEST_F(LimiterTest, GrowsOnlyWhileHalfOfTheFloorIsInFlight) {
  for (int in_flight = 9; in_flight <= 11; ++in_flight) {
    Make(1000, 20.5);
    SuccessAt(in_flight);
    EXPECT_EQ(limiter->limit() > 20.5, in_flight >= 10) << in_flight;
  }
  for (int in_flight = 10; in_flight <= 11; ++in_flight) {
    Make(1000, 21);  // half is 10.5
    SuccessAt(in_flight);
    EXPECT_EQ(limiter->limit() > 21, in_flight >= 11) << in_flight;
  }
}

TEST_F(LimiterTest, DropsShrinkAtMostOnceASecond) {
  for (int delta = -1; delta <= 1; ++delta) {
    Make(100);
    MustAcquire().Drop();
    EXPECT_EQ(limiter->limit(), 90);
    MustAcquire().Drop();
    EXPECT_EQ(limiter->limit(), 90);
    clock.Advance(seconds(1) + nanoseconds(delta));
    MustAcquire().Drop();
    EXPECT_EQ(limiter->limit(), delta < 0 ? 90 : 81) << delta;
  }
}

TEST_F(LimiterTest, ADropThatShrankNothingDoesNotPutOffTheNext) {
  Make(100);
  MustAcquire().Drop();
  clock.Advance(std::chrono::milliseconds(600));
  MustAcquire().Drop();
  clock.Advance(std::chrono::milliseconds(400));
  MustAcquire().Drop();
  EXPECT_EQ(limiter->limit(), 81);
}

TEST_F(LimiterTest, NeverBelow1) {
  Make(3);
  for (int i = 0; i < 100; ++i) {
    MustAcquire().Drop();
    clock.Advance(seconds(1));
  }
  EXPECT_EQ(limiter->limit(), 1);
  EXPECT_TRUE(limiter->WouldAdmit());
}

TEST_F(LimiterTest, RecoversFromTheFloorToTheMaximum) {
  Make(50, 1);
  int successes = 0;
  while (limiter->limit() < 50) {
    std::vector<Limiter::Permit> all;
    while (auto permit = limiter->Acquire()) all.push_back(std::move(*permit));
    for (Limiter::Permit& permit : all) permit.Success();
    successes += static_cast<int>(all.size());
    ASSERT_LT(successes, 10'000);
  }
  EXPECT_GT(successes, 1'000);  // about the sum of 1..50
}

TEST_F(LimiterTest, IgnoreMovesNothing) {
  Make(1000, 10);
  Hold(9);
  MustAcquire().Ignore();
  {
    Limiter::Permit dropped = MustAcquire();
  }
  EXPECT_EQ(limiter->limit(), 10);
  EXPECT_EQ(limiter->in_flight(), 9);
}

TEST_F(LimiterTest, OnlyTheFirstReportCounts) {
  Make(10);
  Limiter::Permit permit = MustAcquire();
  permit.Ignore();
  permit.Drop();
  permit.Success();
  EXPECT_EQ(limiter->limit(), 10);
  EXPECT_EQ(limiter->in_flight(), 0);
}

TEST_F(LimiterTest, MovedPermitsAreGivenBackOnce) {
  Make(10);
  {
    Limiter::Permit a = MustAcquire();
    Limiter::Permit b = std::move(a);
    EXPECT_EQ(limiter->in_flight(), 1);
    b = MustAcquire();
    EXPECT_EQ(limiter->in_flight(), 1);
  }
  EXPECT_EQ(limiter->in_flight(), 0);
}

TEST_F(LimiterTest, CallsAboveAShrunkenLimitFinishAndNoneIsAddedMeanwhile) {
  Make(10);
  Hold(10);
  held.back().Drop();
  held.pop_back();
  EXPECT_EQ(limiter->limit(), 9);
  EXPECT_EQ(limiter->in_flight(), 9);
  EXPECT_FALSE(limiter->WouldAdmit());
}

}  // namespace
}  // namespace holdfast::resilience
