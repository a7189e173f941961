#include "resilience/retry_budget.h"

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/random.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::resilience {
namespace {

using std::chrono::hours;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// Only the bucket: no trickle, no limit in flight.
RetryBudgetOptions Bucket(double tokens, double per_success) {
  return {.tokens = tokens,
          .per_success = per_success,
          .per_minute = 0,
          .min_in_flight = 1'000'000,
          .in_flight_ratio = 0};
}

class RetryBudgetTest : public ::testing::Test {
 protected:
  RetryBudget& Make(RetryBudgetOptions options, std::optional<double> initial = std::nullopt) {
    budget.emplace(options, clock, initial);
    return *budget;
  }
  bool Try(double cost = 1) { return budget->Withdraw(cost).token.has_value(); }
  void Progress(int requests) {
    while (static_cast<int>(in_progress.size()) < requests) {
      in_progress.push_back(std::make_unique<RetryBudget::InProgress>(*budget));
    }
    in_progress.resize(requests);
  }

  ::holdfast::testing::FakeClock clock;
  std::optional<RetryBudget> budget;
  std::vector<std::unique_ptr<RetryBudget::InProgress>> in_progress;
};

TEST_F(RetryBudgetTest, DefaultsAreTheShippedOnes) {
  const RetryBudgetOptions o;
  EXPECT_EQ(o.tokens, 10);
  EXPECT_EQ(o.per_success, 0.1);
  EXPECT_EQ(o.per_minute, 3);
  EXPECT_EQ(o.min_in_flight, 3);
  EXPECT_EQ(o.in_flight_ratio, 0.2);
}

// The worked cases of the rules, under their own words.

TEST_F(RetryBudgetTest, Worked_BucketStart4Max4Success1_6Trickle0_RSRRRRRSRRSRRR) {
  Make(Bucket(4, 1.6));
  std::string answers;
  for (char c : std::string("RSRRRRRSRRSRRR")) {
    if (c == 'S') {
      budget->OnFirstAttemptSuccess();
      answers += '-';
    } else {
      answers += Try() ? 'y' : 'n';
    }
  }
  EXPECT_EQ(answers, "y-yyyyn-yn-yyn");
  EXPECT_NEAR(budget->level(), 0.2, 1e-9);
}

TEST_F(RetryBudgetTest,
       Worked_Start0Max10Ratio_1_TenThousandSuccessAndTry_1000GrantedNeverNegative) {
  Make(Bucket(10, 0.1), 0);
  int granted = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget->OnFirstAttemptSuccess();
    granted += Try();
    ASSERT_GE(budget->level(), 0);
  }
  EXPECT_NEAR(granted, 1000, 1);
}

TEST_F(RetryBudgetTest, Worked_20PercentMin3_Extras2Yes_3No_20InProgressYes_4No) {
  RetryBudgetOptions options = Bucket(100, 0);
  options.min_in_flight = 3;
  options.in_flight_ratio = 0.2;
  Make(options);
  std::vector<RetryBudget::Token> extras;
  const auto attempt = [&] {
    RetryBudget::Withdrawal w = budget->Withdraw(1);
    if (!w.token) {
      EXPECT_EQ(w.denied, RetryBudget::Denial::kInFlight);
      return false;
    }
    extras.push_back(std::move(*w.token));
    return true;
  };
  Progress(3);
  ASSERT_TRUE(attempt());
  ASSERT_TRUE(attempt());
  EXPECT_TRUE(attempt());   // extras 2
  EXPECT_FALSE(attempt());  // 3
  Progress(20);
  EXPECT_TRUE(attempt());   // 3, with 20 requests in progress
  EXPECT_FALSE(attempt());  // 4
  EXPECT_EQ(budget->in_flight(), 4);
}

// The bucket.

TEST_F(RetryBudgetTest, StartsFullUnlessTold) {
  EXPECT_EQ(Make(Bucket(7, 0)).level(), 7);
  EXPECT_EQ(Make(Bucket(7, 0), 2).level(), 2);
  EXPECT_EQ(Make(Bucket(7, 0), 9).level(), 7);
  EXPECT_EQ(Make(Bucket(7, 0), -1).level(), 0);
}

TEST_F(RetryBudgetTest, CostBoundary) {
  for (double cost : {1.0, 2.0}) {
    for (double delta : {-0.001, 0.0, 0.001}) {
      Make(Bucket(10, 0), cost + delta);
      const RetryBudget::Withdrawal w = budget->Withdraw(cost);
      EXPECT_EQ(w.token.has_value(), delta >= 0) << cost << " " << delta;
      EXPECT_EQ(w.denied.has_value(), delta < 0);
      if (w.denied) {
        EXPECT_EQ(*w.denied, RetryBudget::Denial::kTokens);
      }
      EXPECT_NEAR(budget->level(), delta >= 0 ? delta : cost + delta, 1e-9);
    }
  }
}

TEST_F(RetryBudgetTest, ARetryAfterATimeoutCosts2) {
  Make(Bucket(3, 0));
  EXPECT_TRUE(Try(2));
  EXPECT_FALSE(Try(2));
  EXPECT_TRUE(Try(1));
  EXPECT_FALSE(Try(1));
}

TEST_F(RetryBudgetTest, TenCreditsOfATenthPayForOneRetry) {
  Make(Bucket(10, 0.1), 0);
  for (int i = 0; i < 9; ++i) budget->OnFirstAttemptSuccess();
  EXPECT_FALSE(Try());
  budget->OnFirstAttemptSuccess();
  EXPECT_TRUE(Try());
  EXPECT_GE(budget->level(), 0);
}

TEST_F(RetryBudgetTest, SuccessNeverFillsPastTheTop) {
  Make(Bucket(2, 1.5));
  for (int i = 0; i < 5; ++i) budget->OnFirstAttemptSuccess();
  EXPECT_EQ(budget->level(), 2);
}

TEST_F(RetryBudgetTest, TricklesThreeAMinute) {
  for (int delta = -1; delta <= 1; ++delta) {
    RetryBudgetOptions options = Bucket(10, 0);
    options.per_minute = 3;
    Make(options, 0);
    clock.Advance(seconds(20) + std::chrono::milliseconds(delta));
    EXPECT_EQ(Try(), delta >= 0) << delta;
  }
}

TEST_F(RetryBudgetTest, TheTrickleStopsAtTheTopAndReadingDoesNotTakeIt) {
  RetryBudgetOptions options = Bucket(10, 0);
  options.per_minute = 3;
  Make(options, 4);
  clock.Advance(seconds(30));
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(budget->level(), 5.5, 1e-9);
  clock.Advance(hours(100));
  EXPECT_EQ(budget->level(), 10);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Try());
  EXPECT_FALSE(Try());
}

TEST_F(RetryBudgetTest, ManySmallTricklesAddUp) {
  RetryBudgetOptions options = Bucket(10, 0);
  options.per_minute = 3;
  Make(options, 0);
  for (int i = 0; i < 200'000; ++i) {
    EXPECT_FALSE(i < 199'999 && Try());
    clock.Advance(std::chrono::microseconds(100));
  }
  EXPECT_NEAR(budget->level(), 1, 1e-6);
}

// Tokens.

TEST_F(RetryBudgetTest, ADestroyedTokenIsSpent) {
  Make(Bucket(10, 0));
  {
    RetryBudget::Withdrawal w = budget->Withdraw(2);
    EXPECT_EQ(budget->in_flight(), 1);
  }
  EXPECT_EQ(budget->in_flight(), 0);
  EXPECT_EQ(budget->level(), 8);
}

TEST_F(RetryBudgetTest, ARefundGivesTheCostBackOnce) {
  Make(Bucket(10, 0));
  {
    RetryBudget::Withdrawal w = budget->Withdraw(2);
    w.token->Refund();
    EXPECT_EQ(budget->level(), 10);
    EXPECT_EQ(budget->in_flight(), 0);
    w.token->Refund();
  }
  EXPECT_EQ(budget->level(), 10);
  EXPECT_EQ(budget->in_flight(), 0);
}

TEST_F(RetryBudgetTest, ARefundNeverFillsPastTheTop) {
  Make(Bucket(2, 1));
  RetryBudget::Withdrawal w = budget->Withdraw(2);
  budget->OnFirstAttemptSuccess();
  w.token->Refund();
  EXPECT_EQ(budget->level(), 2);
}

TEST_F(RetryBudgetTest, MovedTokensSettleOnce) {
  Make(Bucket(10, 0));
  {
    RetryBudget::Withdrawal a = budget->Withdraw(1);
    RetryBudget::Withdrawal b = budget->Withdraw(2);
    RetryBudget::Token moved = std::move(*a.token);
    EXPECT_EQ(budget->in_flight(), 2);
    moved = std::move(*b.token);  // the first retry is over
    EXPECT_EQ(budget->in_flight(), 1);
    moved.Refund();
    EXPECT_EQ(budget->in_flight(), 0);
  }
  EXPECT_EQ(budget->in_flight(), 0);
  EXPECT_EQ(budget->level(), 9);
}

// In flight.

TEST_F(RetryBudgetTest, ADenialInFlightTakesNoToken) {
  RetryBudgetOptions options = Bucket(10, 0);
  options.min_in_flight = 1;
  Make(options);
  RetryBudget::Withdrawal held = budget->Withdraw(1);
  EXPECT_EQ(budget->Withdraw(1).denied, RetryBudget::Denial::kInFlight);
  EXPECT_EQ(budget->level(), 9);
  held.token.reset();
  EXPECT_TRUE(Try());
}

TEST_F(RetryBudgetTest, TheShareIsMetExactlyForEveryPercentage) {
  for (int percent = 1; percent <= 100; ++percent) {
    RetryBudgetOptions options = Bucket(1'000, 0);
    options.min_in_flight = 0;
    options.in_flight_ratio = percent / 100.0;
    in_progress.clear();
    Make(options);
    Progress(100);
    std::deque<RetryBudget::Token> flying;
    for (RetryBudget::Withdrawal w = budget->Withdraw(1); w.token; w = budget->Withdraw(1)) {
      flying.push_back(std::move(*w.token));
    }
    EXPECT_EQ(flying.size(), static_cast<size_t>(percent));
  }
  in_progress.clear();
}

TEST_F(RetryBudgetTest, NothingInProgressLeavesTheMinimum) {
  RetryBudgetOptions options = Bucket(10, 0);
  options.min_in_flight = 0;
  options.in_flight_ratio = 1;
  Make(options);
  EXPECT_FALSE(Try());
  Progress(1);
  EXPECT_TRUE(Try());
  in_progress.clear();
}

TEST_F(RetryBudgetTest, RandomSequencesKeepTheInvariants) {
  for (uint64_t seed = 0; seed < 1'000; ++seed) {
    core::SeededRandom random(seed);
    RetryBudgetOptions options;
    options.tokens = 1 + random.Uniform() * 10;
    Make(options);
    std::vector<RetryBudget::Token> flying;
    for (int i = 0; i < 200; ++i) {
      const double what = random.Uniform();
      if (what < 0.4) {
        RetryBudget::Withdrawal w = budget->Withdraw(random.Uniform() < 0.3 ? 2 : 1);
        ASSERT_NE(w.token.has_value(), w.denied.has_value());
        if (w.token) flying.push_back(std::move(*w.token));
      } else if (what < 0.6 && !flying.empty()) {
        if (random.Uniform() < 0.5) flying.back().Refund();
        flying.pop_back();
      } else if (what < 0.8) {
        budget->OnFirstAttemptSuccess();
      } else {
        clock.Advance(core::FromSeconds(random.Uniform() * 10));
      }
      ASSERT_GE(budget->level(), 0);
      ASSERT_LE(budget->level(), options.tokens);
      ASSERT_EQ(budget->in_flight(), static_cast<int>(flying.size()));
      ASSERT_LE(budget->in_flight(), 3);
    }
  }
}

TEST_F(RetryBudgetTest, ThreadsNeverGetMoreThanThereIs) {
  Make(Bucket(1'000, 0));
  std::atomic<int> granted = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1'000; ++i) {
        RetryBudget::InProgress in(*budget);
        RetryBudget::Withdrawal w = budget->Withdraw(1);
        if (!w.token) continue;
        if (i % 2 == 0) {
          w.token->Refund();
        } else {
          ++granted;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(granted, 1'000);
  EXPECT_NEAR(budget->level(), 1'000 - granted, 1e-9);
  EXPECT_EQ(budget->in_flight(), 0);
}

}  // namespace
}  // namespace holdfast::resilience
