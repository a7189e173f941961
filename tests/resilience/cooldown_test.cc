#include "resilience/cooldown.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::SteadyTime;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr SteadyTime kNow = ::holdfast::testing::FakeClock::kStart;

TEST(CooldownTest, NeverSetIsPassed) {
  Cooldown cooldown;
  EXPECT_TRUE(cooldown.Passed(kNow));
  EXPECT_TRUE(cooldown.Passed(SteadyTime{}));
  EXPECT_EQ(cooldown.until(), SteadyTime{});
  EXPECT_EQ(cooldown.reason(), "");
}

TEST(CooldownTest, PassesAtTheInstantItself) {
  Cooldown cooldown;
  cooldown.ExtendTo(kNow + seconds(2), "rate_limited");
  EXPECT_FALSE(cooldown.Passed(kNow));
  EXPECT_FALSE(cooldown.Passed(kNow + seconds(2) - nanoseconds(1)));
  EXPECT_TRUE(cooldown.Passed(kNow + seconds(2)));
  EXPECT_TRUE(cooldown.Passed(kNow + seconds(2) + nanoseconds(1)));
  EXPECT_EQ(cooldown.reason(), "rate_limited");
}

TEST(CooldownTest, OnlyEverMovesLater) {
  Cooldown cooldown;
  cooldown.ExtendTo(kNow + minutes(15), "quota");
  cooldown.ExtendTo(kNow + seconds(2), "rate_limited");
  EXPECT_EQ(cooldown.until(), kNow + minutes(15));
  EXPECT_EQ(cooldown.reason(), "quota");
  cooldown.ExtendTo(kNow + minutes(15), "auth");
  EXPECT_EQ(cooldown.reason(), "quota");
  cooldown.ExtendTo(kNow + minutes(15) + nanoseconds(1), "auth");
  EXPECT_EQ(cooldown.until(), kNow + minutes(15) + nanoseconds(1));
  EXPECT_EQ(cooldown.reason(), "auth");
}

TEST(CooldownTest, TheLatestOfManyThreadsWins) {
  Cooldown cooldown;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&cooldown, t] {
      SteadyTime last{};
      for (int i = 0; i < 1'000; ++i) {
        cooldown.ExtendTo(kNow + nanoseconds((i * 7919 + t * 104729) % 100'003), "rate_limited");
        EXPECT_GE(cooldown.until(), last);
        last = cooldown.until();
        EXPECT_EQ(cooldown.reason(), "rate_limited");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int latest = 0;
  for (int t = 0; t < 8; ++t) {
    for (int i = 0; i < 1'000; ++i) latest = std::max(latest, (i * 7919 + t * 104729) % 100'003);
  }
  EXPECT_EQ(cooldown.until(), kNow + nanoseconds(latest));
}

TEST(CredentialQuarantineTest, AfterTwoInARow5MinDoublingTo1h) {
  CredentialQuarantine quarantine;
  EXPECT_EQ(quarantine.OnAuthFailure(), Duration::zero());
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(5));
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(10));
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(20));
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(40));
  for (int i = 0; i < 1'000; ++i) EXPECT_EQ(quarantine.OnAuthFailure(), hours(1));
}

TEST(CredentialQuarantineTest, ASuccessEndsTheRowAndTheDoubling) {
  CredentialQuarantine quarantine;
  quarantine.OnAuthFailure();
  quarantine.OnAuthSuccess();
  EXPECT_EQ(quarantine.OnAuthFailure(), Duration::zero());
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(5));
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(10));
  quarantine.OnAuthSuccess();
  EXPECT_EQ(quarantine.OnAuthFailure(), Duration::zero());
  EXPECT_EQ(quarantine.OnAuthFailure(), minutes(5));
}

}  // namespace
}  // namespace holdfast::resilience
