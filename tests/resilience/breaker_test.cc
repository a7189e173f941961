#include "resilience/breaker.h"

#include <atomic>
#include <barrier>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::SteadyTime;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

// Every trigger off, no jitter; each test turns on what it is about.
BreakerOptions Quiet() {
  BreakerOptions options;
  options.consecutive_failures = 0;
  options.failure_rate = 0;
  options.black_hole = 0;
  options.open_jitter = 0;
  return options;
}

BreakerOptions Consecutive(int failures) {
  BreakerOptions options = Quiet();
  options.consecutive_failures = failures;
  return options;
}

BreakerOptions Rate(double rate, int min_calls) {
  BreakerOptions options = Quiet();
  options.failure_rate = rate;
  options.min_calls = min_calls;
  return options;
}

class BreakerTest : public ::testing::Test {
 protected:
  Breaker& Make(BreakerOptions options) {
    breaker.emplace(options, clock, random, [this](const BreakerEvent& event) {
      events.push_back(std::string(Name(event.from)) + ">" + Name(event.to) + " " + event.reason +
                       " g" + std::to_string(event.generation));
    });
    return *breaker;
  }

  std::optional<Breaker::Permit> Acquire() { return breaker->Acquire(clock.Now() + seconds(30)); }
  Breaker::Permit MustAcquire() {
    auto permit = Acquire();
    HOLDFAST_CHECK(permit.has_value());
    return std::move(*permit);
  }
  // 'S'uccess, 'F'ailure, 'C'ensored, 'N'eutral: one call each, after another.
  void Report(const std::string& script) {
    for (char c : script) {
      Breaker::Permit permit = MustAcquire();
      if (c == 'S') permit.Success();
      if (c == 'F') permit.Failure();
      if (c == 'C') permit.Censored();
      if (c == 'N') permit.Neutral();
    }
  }
  // Asks `n` times and keeps what it gets: "TTF".
  std::string Ask(int n) {
    std::string answers;
    for (int i = 0; i < n; ++i) {
      auto permit = Acquire();
      answers += permit ? 'T' : 'F';
      if (permit) held.push_back(std::move(*permit));
    }
    return answers;
  }
  void ReleaseHeld() {
    for (Breaker::Permit& permit : held) permit.Release();
    held.clear();
  }
  // From CLOSED, with consecutive_failures on.
  void Trip() { Report(std::string(breaker->options().consecutive_failures, 'F')); }
  void TripAndWait() {
    Trip();
    clock.Advance(Get().open_for);
  }
  BreakerSnapshot Get() const { return breaker->Snapshot(); }
  BreakerState State() const { return Get().state; }

  ::holdfast::testing::FakeClock clock;
  ::holdfast::testing::ScriptedRandom random;
  std::vector<std::string> events;
  std::optional<Breaker> breaker;
  std::vector<Breaker::Permit> held;
};

TEST_F(BreakerTest, StartsClosedAndEmpty) {
  Make(BreakerOptions());
  const BreakerSnapshot s = Get();
  EXPECT_EQ(s.state, BreakerState::kClosed);
  EXPECT_EQ(s.successes + s.failures + s.censored, 0);
  EXPECT_EQ(s.consecutive_failures, 0);
  EXPECT_EQ(s.open_for, Duration::zero());
  EXPECT_EQ(s.open_step, 0);
  EXPECT_EQ(s.late_results, 0u);
  EXPECT_EQ(s.leaked, 0u);
}

TEST_F(BreakerTest, DefaultsAreTheShippedOnes) {
  const BreakerOptions o;
  EXPECT_EQ(o.consecutive_failures, 5);
  EXPECT_EQ(o.failure_rate, 0.5);
  EXPECT_EQ(o.window, seconds(120));
  EXPECT_EQ(o.buckets, 12);
  EXPECT_EQ(o.min_calls, 20);
  EXPECT_EQ(o.black_hole, 10);
  EXPECT_EQ(o.open, seconds(60));
  EXPECT_EQ(o.open_max, seconds(300));
  EXPECT_EQ(o.open_jitter, 0.1);
  EXPECT_EQ(o.half_open_probes, 1);
  EXPECT_EQ(o.half_open_successes, 1);
  EXPECT_EQ(o.step_decay, seconds(120));
}

TEST_F(BreakerTest, Names) {
  EXPECT_STREQ(Name(BreakerState::kClosed), "closed");
  EXPECT_STREQ(Name(BreakerState::kOpen), "open");
  EXPECT_STREQ(Name(BreakerState::kHalfOpen), "half_open");
  EXPECT_STREQ(Name(BreakerState::kForcedOpen), "forced_open");
  EXPECT_STREQ(Name(BreakerState::kForcedClosed), "forced_closed");
}

// The worked cases of the rules, under their own words.

TEST_F(BreakerTest, Worked_MinCalls5Rate50_FFFSThenS_ClosedAfter4OpenAfter5thThoughASuccess) {
  Make(Rate(0.5, 5));
  Report("FFFS");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("S");
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_THAT(events, ElementsAre("closed>open failure_rate g1"));
}

TEST_F(BreakerTest, Worked_Min10Rate10_NineCallsOneFailureNoTrip_TenCallsOneFailureTrips) {
  Make(Rate(0.1, 10));
  Report("FSSSSSSSS");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("S");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, Worked_Window10s10Buckets_TwoSuccessesAdvanceExactly10s_Counts0) {
  BreakerOptions options = Quiet();
  options.window = seconds(10);
  options.buckets = 10;
  Make(options);
  Report("SS");
  EXPECT_EQ(Get().successes, 2);
  clock.Advance(seconds(10));
  EXPECT_EQ(Get().successes, 0);
}

TEST_F(BreakerTest, Worked_Window10s_SuccessAndAdvance1sTenTimes_Reads9Then8) {
  BreakerOptions options = Quiet();
  options.window = seconds(10);
  options.buckets = 10;
  Make(options);
  for (int i = 0; i < 10; ++i) {
    Report("S");
    clock.Advance(seconds(1));
  }
  EXPECT_EQ(Get().successes, 9);
  clock.Advance(seconds(1));
  EXPECT_EQ(Get().successes, 8);
}

TEST_F(BreakerTest, Worked_Open60s1Probe_AcquireAt59_999And60And60_DenyGrantDeny) {
  Make(Consecutive(1));
  Trip();
  clock.Advance(milliseconds(59'999));
  EXPECT_EQ(Ask(1), "F");
  clock.Advance(milliseconds(1));
  EXPECT_EQ(Ask(1), "T");
  EXPECT_EQ(Ask(1), "F");
  ReleaseHeld();
}

TEST_F(BreakerTest, Worked_HalfOpenProbes4Successes4_SixAcquiresTTTTFF_Twice) {
  BreakerOptions options = Consecutive(1);
  options.half_open_probes = 4;
  options.half_open_successes = 4;
  Make(options);
  TripAndWait();
  EXPECT_EQ(Ask(6), "TTTTFF");
  held[0].Failure();
  EXPECT_EQ(State(), BreakerState::kOpen);
  clock.Advance(Get().open_for);
  held.erase(held.begin());
  for (Breaker::Permit& permit : held) permit.Neutral();  // of an older generation: free no slot
  held.clear();
  EXPECT_EQ(Ask(6), "TTTTFF");
  ReleaseHeld();
}

TEST_F(BreakerTest, Worked_HalfOpenProbes3Successes3_FourNeutralThen2S_StillHalfOpenNoDenial) {
  BreakerOptions options = Consecutive(1);
  options.half_open_probes = 3;
  options.half_open_successes = 3;
  Make(options);
  TripAndWait();
  Report("NNNNSS");  // MustAcquire: no denial
  EXPECT_EQ(State(), BreakerState::kHalfOpen);
  EXPECT_EQ(Get().probe_successes, 2);

  // As above, third call in flight: 4th acquire denied; third ends S: CLOSED, counts empty.
  Breaker::Permit third = MustAcquire();
  EXPECT_FALSE(Acquire().has_value());
  third.Success();
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Get().successes + Get().failures + Get().censored, 0);
  EXPECT_EQ(Get().consecutive_failures, 0);
  EXPECT_EQ(Get().probe_successes, 0);
}

TEST_F(BreakerTest, Worked_HalfOpenOpenStepK_ProbeCensored_OpenStepK) {
  Make(Consecutive(1));
  TripAndWait();
  Report("F");
  ASSERT_EQ(Get().open_step, 1);
  clock.Advance(Get().open_for);
  Report("C");
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(Get().open_step, 1);
  EXPECT_EQ(Get().open_for, seconds(120));
  EXPECT_EQ(events.back(), "half_open>open probe_censored g5");
}

TEST_F(BreakerTest, Worked_Open3OldCallsInFlightFail_OneOpenEventOpenUntilSame) {
  Make(Consecutive(2));
  ASSERT_EQ(Ask(3), "TTT");
  Trip();
  clock.Advance(seconds(1));
  const Duration before = Get().open_for;
  for (Breaker::Permit& permit : held) permit.Failure(seconds(200));
  EXPECT_EQ(Get().open_for, before);
  EXPECT_EQ(events.size(), 1u);
  EXPECT_EQ(Get().late_results, 3u);
}

TEST_F(BreakerTest, Worked_CallStartedBeforeReset_SucceedsLater_CountsUnchangedLateResults1) {
  Make(Quiet());
  Breaker::Permit old = MustAcquire();
  breaker->Reset();
  Report("F");
  old.Success();
  EXPECT_EQ(Get().successes, 0);
  EXPECT_EQ(Get().failures, 1);
  EXPECT_EQ(Get().consecutive_failures, 1);
  EXPECT_EQ(Get().late_results, 1u);
}

TEST_F(BreakerTest, Worked_CallStartedBeforeTransition_SucceedsLater_CountsUnchanged) {
  Make(Consecutive(2));
  Breaker::Permit old = MustAcquire();
  TripAndWait();
  Breaker::Permit probe = MustAcquire();
  const BreakerSnapshot before = Get();
  old.Success();
  const BreakerSnapshot after = Get();
  EXPECT_EQ(after.state, BreakerState::kHalfOpen);
  EXPECT_EQ(after.probe_successes, 0);
  EXPECT_EQ(after.probes_in_flight, 1);
  EXPECT_EQ(after.successes, before.successes);
  EXPECT_EQ(after.late_results, 1u);
  probe.Release();
}

TEST_F(BreakerTest, Worked_PermitDestroyedUnreportedInHalfOpen_NextGranted_Leaked1NoOtherChange) {
  Make(Consecutive(1));
  TripAndWait();
  BreakerSnapshot before;
  {
    Breaker::Permit probe = MustAcquire();
    before = Get();
  }
  const BreakerSnapshot after = Get();
  EXPECT_EQ(after.leaked, 1u);
  EXPECT_EQ(after.state, BreakerState::kHalfOpen);
  EXPECT_EQ(after.generation, before.generation);
  EXPECT_EQ(after.open_step, before.open_step);
  EXPECT_EQ(after.late_results, 0u);
  EXPECT_EQ(Ask(1), "T");
  ReleaseHeld();
}

TEST_F(BreakerTest, Worked_BlackHole10_TenCensoredNoSuccess_Open) {
  BreakerOptions options = Quiet();
  options.black_hole = 10;
  Make(options);
  Report("CCCCCCCCC");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("C");
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_THAT(events, ElementsAre("closed>open black_hole g1"));
}

TEST_F(BreakerTest, Worked_BlackHole10_TheSameWithOneSuccessAmongThem_Closed) {
  BreakerOptions options = Quiet();
  options.black_hole = 10;
  Make(options);
  Report("CCCCCSCCCCC");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("CCCCCCCCCCCCCCCCC");
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, Worked_ForcedOpen_SuccessReported1hPasses_StillDenies) {
  Make(BreakerOptions());
  Breaker::Permit old = MustAcquire();
  breaker->ForceOpen();
  old.Success();
  clock.Advance(hours(1));
  EXPECT_EQ(Ask(1), "F");
  EXPECT_EQ(State(), BreakerState::kForcedOpen);
}

TEST_F(BreakerTest, Worked_TenThreadsTimes10000AlternatingSuccessAndNeutral_50000Closed) {
  Make(BreakerOptions());
  std::vector<std::thread> threads;
  for (int t = 0; t < 10; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 10'000; ++i) {
        Breaker::Permit permit = MustAcquire();
        if (i % 2 == 0) {
          permit.Success();
        } else {
          permit.Neutral();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Get().successes, 50'000);
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Get().late_results, 0u);
  EXPECT_EQ(Get().leaked, 0u);
}

// Consecutive failures.

TEST_F(BreakerTest, ConsecutiveFailuresBoundary) {
  for (int n = 4; n <= 6; ++n) {
    Make(Consecutive(5));
    for (int i = 0; i < n && State() == BreakerState::kClosed; ++i) Report("F");
    EXPECT_EQ(State(), n >= 5 ? BreakerState::kOpen : BreakerState::kClosed) << n;
    EXPECT_EQ(Get().failures, std::min(n, 5));
  }
}

TEST_F(BreakerTest, SuccessZeroesTheRow) {
  Make(Consecutive(3));
  Report("FFSFF");
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Get().consecutive_failures, 2);
  Report("F");
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_THAT(events, ElementsAre("closed>open consecutive_failures g1"));
}

TEST_F(BreakerTest, NeutralAndCensoredNeitherBreakNorLengthenTheRow) {
  Make(Consecutive(3));
  Report("FNFCNC");
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Get().consecutive_failures, 2);
  Report("F");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, TheRowExpiresTwoWindowsAfterTheLastOutcome) {
  const Duration two_windows = 2 * Consecutive(3).window;
  for (int delta = -1; delta <= 1; ++delta) {
    Make(Consecutive(3));
    Report("FF");
    clock.Advance(two_windows + nanoseconds(delta));
    EXPECT_EQ(Get().consecutive_failures, delta < 0 ? 2 : 0) << delta;
    Report("F");
    EXPECT_EQ(State(), delta < 0 ? BreakerState::kOpen : BreakerState::kClosed) << delta;
    if (delta >= 0) {
      EXPECT_EQ(Get().consecutive_failures, 1);
    }
  }
}

TEST_F(BreakerTest, TheRowOutlivesTheWindow) {
  Make(Consecutive(3));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(State(), BreakerState::kClosed);
    Report("F");
    clock.Advance(seconds(150));  // longer than the window of 120 s, shorter than two
  }
  EXPECT_EQ(events.size(), 1u);
}

TEST_F(BreakerTest, NeutralDoesNotKeepAnOldRowAlive) {
  Make(Consecutive(2));
  Report("F");
  clock.Advance(seconds(200));
  Report("NC");
  clock.Advance(seconds(40));
  Report("F");
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, ConsecutiveZeroIsOff) {
  BreakerOptions options = Quiet();
  options.black_hole = 1'000;
  Make(options);
  Report(std::string(999, 'F'));
  EXPECT_EQ(State(), BreakerState::kClosed);
}

// Rate.

TEST_F(BreakerTest, RateBoundary) {
  for (int failures = 9; failures <= 11; ++failures) {
    Make(Rate(0.5, 20));
    Report(std::string(20 - failures, 'S') + std::string(failures - 1, 'F'));
    EXPECT_EQ(State(), BreakerState::kClosed);
    Report("F");
    EXPECT_EQ(State(), failures >= 10 ? BreakerState::kOpen : BreakerState::kClosed) << failures;
  }
}

TEST_F(BreakerTest, MinCallsBoundary) {
  for (int calls = 19; calls <= 21; ++calls) {
    Make(Rate(0.5, 20));
    for (int i = 0; i < calls && State() == BreakerState::kClosed; ++i) Report("F");
    EXPECT_EQ(State(), calls >= 20 ? BreakerState::kOpen : BreakerState::kClosed) << calls;
  }
}

TEST_F(BreakerTest, DecimalRatesAreMetExactly) {
  // 0.07 * 100 and 0.29 * 100 are no whole numbers as doubles.
  for (int percent = 1; percent <= 100; ++percent) {
    Make(Rate(std::stod("0." + std::string(percent < 10 ? "0" : "") + std::to_string(percent)),
              100));
    if (percent == 100) Make(Rate(1.0, 100));
    Report(std::string(percent, 'F') + std::string(100 - percent, 'S'));
    EXPECT_EQ(State(), BreakerState::kOpen) << percent;
    if (percent == 1) continue;
    Make(breaker->options());
    Report(std::string(percent - 1, 'F') + std::string(101 - percent, 'S'));
    EXPECT_EQ(State(), BreakerState::kClosed) << percent;
  }
}

TEST_F(BreakerTest, NeutralAndCensoredAreNotCalls) {
  Make(Rate(0.5, 4));
  Report("FFFNNNNNCCCCC");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("F");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, CensoredNeverTripsTheRate) {
  BreakerOptions options = Rate(0.5, 2);
  options.window = seconds(10);
  options.buckets = 10;
  Make(options);
  Report("SSS");
  clock.Advance(seconds(5));
  Report("FF");               // 40 %
  clock.Advance(seconds(5));  // the successes have left: 100 %
  ASSERT_EQ(Get().successes, 0);
  Report("CN");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("S");  // 67 %
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, ReadingNeverTrips) {
  BreakerOptions options = Rate(0.5, 2);
  options.window = seconds(10);
  Make(options);
  Report("SSS");
  clock.Advance(seconds(5));
  Report("FF");
  clock.Advance(seconds(5));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Get().state, BreakerState::kClosed);
  EXPECT_TRUE(breaker->WouldAdmit(clock.Now()));
  EXPECT_TRUE(events.empty());
}

// The window.

TEST_F(BreakerTest, ASampleExactlyOneWindowOldIsOutside) {
  for (int delta = -1; delta <= 1; ++delta) {
    Make(Quiet());
    clock.Advance(nanoseconds(123'456'789));  // no alignment with anything
    Report("SFC");
    clock.Advance(seconds(120) + nanoseconds(delta));
    const int64_t want = delta < 0 ? 1 : 0;
    EXPECT_EQ(Get().successes, want) << delta;
    EXPECT_EQ(Get().failures, want) << delta;
    EXPECT_EQ(Get().censored, want) << delta;
  }
}

TEST_F(BreakerTest, AnyNumberOfBucketsIsWithinOneBucketOfTheTruth) {
  for (int buckets : {1, 2, 3, 7, 12, 120}) {
    BreakerOptions options = Quiet();
    options.window = seconds(120);
    options.buckets = buckets;
    Make(options);
    const Duration width = options.window / buckets;
    auto draws = ::holdfast::testing::ScriptedRandom::Seeded(buckets);
    std::vector<SteadyTime> samples;
    for (int i = 0; i < 3'000; ++i) {
      Report("S");
      samples.push_back(clock.Now());
      clock.Advance(core::Scale(seconds(3), draws.Uniform()));
      int64_t young = 0, all = 0;
      for (SteadyTime t : samples) {
        young += clock.Now() - t <= options.window - width;
        all += clock.Now() - t < options.window;
      }
      const int64_t got = Get().successes;
      ASSERT_LE(young, got + (buckets == 1 ? young : 0)) << buckets << " at " << i;
      ASSERT_LE(got, all) << buckets << " at " << i;
    }
  }
}

// Black hole.

TEST_F(BreakerTest, BlackHoleCountsFailuresToo) {
  BreakerOptions options = Quiet();
  options.black_hole = 4;
  Make(options);
  Report("FCF");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("F");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, BlackHoleComesWhenTheLastSuccessHasLeftTheWindow) {
  BreakerOptions options = Quiet();
  options.black_hole = 3;
  Make(options);
  Report("S");
  clock.Advance(seconds(60));
  Report("CCCC");
  clock.Advance(seconds(60));
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("N");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("C");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, BlackHoleZeroIsOff) {
  Make(Consecutive(5));
  Report(std::string(100, 'C'));
  EXPECT_EQ(State(), BreakerState::kClosed);
  EXPECT_EQ(Get().censored, 100);
}

TEST_F(BreakerTest, CensoredThatLeftTheWindowDoNotCount) {
  BreakerOptions options = Quiet();
  options.black_hole = 3;
  Make(options);
  Report("CC");
  clock.Advance(seconds(120));
  Report("CC");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("C");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

// Open time: growth, cap, decay, jitter, Retry-After.

TEST_F(BreakerTest, OpenTimeDoublesPerFailedProbeUpToTheMaximum) {
  Make(Consecutive(1));
  Trip();
  for (int want : {60, 120, 240, 300, 300, 300}) {
    EXPECT_EQ(Get().open_for, seconds(want));
    clock.Advance(Get().open_for);
    Report("F");
  }
  EXPECT_EQ(Get().open_step,
            3);  // the first step that reaches open_max; further ones change nothing
}

TEST_F(BreakerTest, EachReopeningIsAnEventOfItsOwnGeneration) {
  Make(Consecutive(1));
  TripAndWait();
  Report("F");
  EXPECT_THAT(events,
              ElementsAre("closed>open consecutive_failures g1", "open>half_open open_time_over g2",
                          "half_open>open probe_failed g3"));
}

TEST_F(BreakerTest, TheStepOutlivesClosingAndDecaysByOnePer120sSpentClosed) {
  for (int delta = -1; delta <= 1; ++delta) {
    Make(Consecutive(1));
    TripAndWait();
    Report("F");
    clock.Advance(Get().open_for);
    Report("F");
    clock.Advance(Get().open_for);
    Report("S");
    ASSERT_EQ(State(), BreakerState::kClosed);
    ASSERT_EQ(Get().open_step, 2);
    clock.Advance(seconds(120) + nanoseconds(delta));
    EXPECT_EQ(Get().open_step, delta < 0 ? 2 : 1);
    Trip();
    EXPECT_EQ(Get().open_for, delta < 0 ? seconds(240) : seconds(120));
  }
}

TEST_F(BreakerTest, TheStepDecaysToZeroAndNoFurther) {
  Make(Consecutive(1));
  TripAndWait();
  Report("F");
  clock.Advance(Get().open_for);
  Report("S");
  clock.Advance(hours(1000));
  EXPECT_EQ(Get().open_step, 0);
  Trip();
  EXPECT_EQ(Get().open_for, seconds(60));
}

TEST_F(BreakerTest, ATripRestartsTheDecay) {
  Make(Consecutive(1));
  TripAndWait();
  Report("F");
  clock.Advance(Get().open_for);
  Report("S");
  clock.Advance(seconds(119));
  TripAndWait();  // time spent OPEN does not count
  clock.Advance(hours(1));
  Report("S");
  EXPECT_EQ(Get().open_step, 1);
  clock.Advance(seconds(119));
  EXPECT_EQ(Get().open_step, 1);
  clock.Advance(seconds(1));
  EXPECT_EQ(Get().open_step, 0);
}

TEST_F(BreakerTest, JitterIsPlusMinusTenPercent) {
  const std::pair<double, Duration> kCases[] = {
      {0.0, seconds(54)}, {0.25, seconds(57)}, {0.5, seconds(60)}, {0.75, seconds(63)}};
  for (const auto& [draw, want] : kCases) {
    BreakerOptions options = Consecutive(1);
    options.open_jitter = 0.1;
    random.Push(draw);
    Make(options);
    Trip();
    EXPECT_EQ(Get().open_for, want) << draw;
  }
  BreakerOptions options = Consecutive(1);
  options.open_jitter = 0.1;
  random.Push(0.999999);
  Make(options);
  Trip();
  EXPECT_LT(Get().open_for, seconds(66));
  EXPECT_GT(Get().open_for, milliseconds(65'999));
}

TEST_F(BreakerTest, EachOpeningDrawsOnceAndNothingElseDraws) {
  BreakerOptions options = Consecutive(1);
  options.open_jitter = 0.1;
  Make(options);
  TripAndWait();
  EXPECT_EQ(random.draws(), 1u);
  Report("F");
  EXPECT_EQ(random.draws(), 2u);
  clock.Advance(Get().open_for);
  Report("S");
  Report("SSNC");
  EXPECT_EQ(random.draws(), 2u);
}

TEST_F(BreakerTest, RetryAfterOfTheFailureThatOpensOnlyLengthens) {
  const std::pair<Duration, Duration> kCases[] = {
      {seconds(-5), seconds(60)},      {seconds(0), seconds(60)},
      {seconds(59), seconds(60)},      {seconds(60), seconds(60)},
      {seconds(61), seconds(61)},      {milliseconds(299'999), milliseconds(299'999)},
      {seconds(300), seconds(300)},    {milliseconds(300'001), seconds(300)},
      {Duration::max(), seconds(300)}, {Duration::min(), seconds(60)}};
  for (const auto& [told, want] : kCases) {
    Make(Consecutive(1));
    MustAcquire().Failure(told);
    EXPECT_EQ(Get().open_for, want) << told.count();
  }
}

TEST_F(BreakerTest, RetryAfterOfAFailedProbeCountsToo) {
  Make(Consecutive(1));
  TripAndWait();
  MustAcquire().Failure(seconds(200));
  EXPECT_EQ(Get().open_for, seconds(200));
}

TEST_F(BreakerTest, RetryAfterOfAFailureThatDoesNotOpenIsNothing) {
  Make(Consecutive(2));
  MustAcquire().Failure(seconds(200));
  Report("F");
  EXPECT_EQ(Get().open_for, seconds(60));
}

TEST_F(BreakerTest, DurationsSaturate) {
  BreakerOptions options = Consecutive(1);
  options.open = Duration::max() / 2 + Duration(2);
  options.open_max = Duration::max();
  options.window = Duration::max();
  options.open_jitter = 0.1;
  random.Push(0.9);
  Make(options);
  Trip();
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(Ask(1), "F");
  EXPECT_FALSE(breaker->WouldAdmit(clock.Now() + hours(24 * 365 * 100)));
  EXPECT_TRUE(breaker->WouldAdmit(SteadyTime::max()));
}

TEST_F(BreakerTest, GrowthSaturates) {
  BreakerOptions options = Consecutive(1);
  options.open = hours(24);
  options.open_max = Duration::max();
  Make(options);
  Trip();
  Duration last = Duration::zero();
  for (int i = 0; i < 14; ++i) {
    EXPECT_GT(Get().open_for, last);
    last = Get().open_for;
    clock.Advance(last);
    Report("F");
  }
}

TEST_F(BreakerTest, ALeaseWithoutEndNeverExpires) {
  Make(Consecutive(1));
  TripAndWait();
  auto probe = breaker->Acquire(SteadyTime::max());
  ASSERT_TRUE(probe.has_value());
  clock.Advance(hours(24 * 365));
  EXPECT_EQ(Ask(1), "F");
  probe->Success();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

// HALF_OPEN.

TEST_F(BreakerTest, OpenStaysOpenToTheReaderUntilSomebodyAcquires) {
  Make(Consecutive(1));
  Trip();
  clock.Advance(hours(1));
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(Get().open_for, Duration::zero());
  EXPECT_TRUE(breaker->WouldAdmit(clock.Now()));
  EXPECT_EQ(State(), BreakerState::kOpen);
  EXPECT_EQ(events.size(), 1u);
  EXPECT_EQ(Ask(1), "T");
  EXPECT_EQ(State(), BreakerState::kHalfOpen);
  ReleaseHeld();
}

TEST_F(BreakerTest, HalfOpenSuccessesBoundary) {
  for (int successes = 1; successes <= 3; ++successes) {
    BreakerOptions options = Consecutive(1);
    options.half_open_probes = 3;
    options.half_open_successes = successes;
    Make(options);
    TripAndWait();
    for (int i = 1; i <= successes; ++i) {
      EXPECT_NE(State(), BreakerState::kClosed);
      Report("S");
    }
    EXPECT_EQ(State(), BreakerState::kClosed);
    EXPECT_EQ(events.back(), "half_open>closed probes_succeeded g3");
  }
}

TEST_F(BreakerTest, ASuccessKeepsItsSlotUntilItCloses) {
  BreakerOptions options = Consecutive(1);
  options.half_open_probes = 2;
  options.half_open_successes = 2;
  Make(options);
  TripAndWait();
  Report("S");
  EXPECT_EQ(Ask(2), "TF");
  EXPECT_EQ(Get().probes_in_flight, 1);
  EXPECT_EQ(Get().probe_successes, 1);
  held[0].Success();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, NeutralOrReleaseFreesTheSlotAndChangesNothingElse) {
  Make(Consecutive(1));
  TripAndWait();
  Report("N");
  const BreakerSnapshot before = Get();
  Report("NNN");
  MustAcquire().Release();
  const BreakerSnapshot after = Get();
  EXPECT_EQ(after.state, BreakerState::kHalfOpen);
  EXPECT_EQ(after.generation, before.generation);
  EXPECT_EQ(after.open_step, before.open_step);
  EXPECT_EQ(after.probes_in_flight, 0);
  EXPECT_EQ(after.probe_successes, 0);
  EXPECT_EQ(after.leaked, 0u);
  EXPECT_EQ(after.late_results, 0u);
}

TEST_F(BreakerTest, ProbesDoNotCountInTheWindow) {
  BreakerOptions options = Consecutive(1);
  options.half_open_probes = 2;
  options.half_open_successes = 2;
  Make(options);
  TripAndWait();
  const int64_t before = Get().failures;
  Report("S");
  EXPECT_EQ(Get().successes, 0);
  EXPECT_EQ(Get().failures, before);
}

TEST_F(BreakerTest, TheLeaseIsTheLatestEndPlus5s) {
  for (int delta = -1; delta <= 1; ++delta) {
    Make(Consecutive(1));
    TripAndWait();
    auto probe = breaker->Acquire(clock.Now() + seconds(10));
    clock.Advance(seconds(15) + nanoseconds(delta));
    EXPECT_EQ(Get().probes_in_flight, delta < 0 ? 1 : 0);
    const uint64_t generation = Get().generation;
    EXPECT_EQ(Ask(1), delta < 0 ? "F" : "T");
    probe->Failure();
    if (delta < 0) {
      EXPECT_EQ(State(), BreakerState::kOpen);
      EXPECT_EQ(Get().late_results, 0u);
    } else {  // late: changes nothing at all, also not the slot of the next probe
      EXPECT_EQ(State(), BreakerState::kHalfOpen);
      EXPECT_EQ(Get().generation, generation);
      EXPECT_EQ(Get().probes_in_flight, 1);
      EXPECT_EQ(Get().late_results, 1u);
      EXPECT_EQ(Ask(1), "F");
    }
    ReleaseHeld();
  }
}

TEST_F(BreakerTest, AnExpiredLeaseIsLateEvenIfNobodyTookItsSlot) {
  Make(Consecutive(1));
  TripAndWait();
  for (int i = 0; i < 4; ++i) {
    Breaker::Permit probe = MustAcquire();
    clock.Advance(seconds(35));
    if (i == 0) probe.Success();
    if (i == 1) probe.Failure(seconds(100));
    if (i == 2) probe.Censored();
    if (i == 3) probe.Neutral();
    EXPECT_EQ(State(), BreakerState::kHalfOpen);
    EXPECT_EQ(Get().probe_successes, 0);
    EXPECT_EQ(Get().late_results, static_cast<uint64_t>(i + 1));
  }
}

TEST_F(BreakerTest, AnEndInThePastStillGivesALease) {
  Make(Consecutive(1));
  TripAndWait();
  auto probe = breaker->Acquire(SteadyTime{});
  EXPECT_EQ(Ask(1), "F");
  probe->Success();
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, EveryKindOfLateReportCountsOnceAndChangesNothing) {
  Make(Consecutive(2));
  ASSERT_EQ(Ask(6), "TTTTTT");
  breaker->Reset();
  const uint64_t generation = Get().generation;
  held[0].Success();
  held[1].Failure();
  held[2].Censored();
  held[3].Neutral();
  EXPECT_EQ(Get().late_results, 4u);
  held[4].Release();  // as if it had never been taken
  EXPECT_EQ(Get().late_results, 4u);
  held.clear();  // the sixth leaks; nobody reported it
  const BreakerSnapshot s = Get();
  EXPECT_EQ(s.late_results, 4u);
  EXPECT_EQ(s.leaked, 1u);
  EXPECT_EQ(s.generation, generation);
  EXPECT_EQ(s.successes + s.failures + s.censored + s.consecutive_failures, 0);
}

// The permit.

TEST_F(BreakerTest, TheFirstReportCountsAndNoOther) {
  Make(Quiet());
  Breaker::Permit permit = MustAcquire();
  permit.Success();
  permit.Failure();
  permit.Censored();
  permit.Neutral();
  permit.Release();
  EXPECT_EQ(Get().successes, 1);
  EXPECT_EQ(Get().failures + Get().censored, 0);
  EXPECT_EQ(Get().late_results + Get().leaked, 0u);
}

TEST_F(BreakerTest, AMovedPermitReportsOnce) {
  Make(Quiet());
  {
    Breaker::Permit first = MustAcquire();
    Breaker::Permit second = std::move(first);
    second.Success();
  }
  EXPECT_EQ(Get().successes, 1);
  EXPECT_EQ(Get().leaked, 0u);
}

TEST_F(BreakerTest, AssigningOverAnUnreportedPermitLeaksIt) {
  Make(Quiet());
  {
    Breaker::Permit permit = MustAcquire();
    permit = MustAcquire();
    EXPECT_EQ(Get().leaked, 1u);
    Breaker::Permit& same = permit;
    permit = std::move(same);
    permit.Success();
  }
  EXPECT_EQ(Get().leaked, 1u);
  EXPECT_EQ(Get().successes, 1);
}

TEST_F(BreakerTest, APermitLeakedInClosedIsNeutral) {
  Make(Consecutive(2));
  Report("F");
  {
    Breaker::Permit permit = MustAcquire();
  }
  EXPECT_EQ(Get().leaked, 1u);
  EXPECT_EQ(Get().consecutive_failures, 1);
  EXPECT_EQ(Get().failures, 1);
}

// Operators.

TEST_F(BreakerTest, ForcedStatesFromEveryStateAndBack) {
  for (int from = 0; from < 3; ++from) {
    for (bool open : {true, false}) {
      Make(Consecutive(1));
      if (from >= 1) Trip();
      if (from == 2) {
        clock.Advance(Get().open_for);
        MustAcquire().Neutral();
      }
      const uint64_t generation = Get().generation;
      open ? breaker->ForceOpen() : breaker->ForceClosed();
      EXPECT_EQ(State(), open ? BreakerState::kForcedOpen : BreakerState::kForcedClosed);
      EXPECT_EQ(Get().generation, generation + 1);
      EXPECT_EQ(breaker->WouldAdmit(clock.Now()), !open);
      EXPECT_EQ(Ask(1), open ? "F" : "T");
      ReleaseHeld();
      breaker->Reset();
      EXPECT_EQ(State(), BreakerState::kClosed);
      EXPECT_EQ(Get().generation, generation + 2);
    }
  }
}

TEST_F(BreakerTest, ForcedClosedIsNotMovedByResults) {
  BreakerOptions options = Consecutive(1);
  options.failure_rate = 0.5;
  options.min_calls = 1;
  options.black_hole = 1;
  Make(options);
  breaker->ForceClosed();
  Report("FFFFFCCCC");
  clock.Advance(hours(1));
  Report("F");
  EXPECT_EQ(State(), BreakerState::kForcedClosed);
  EXPECT_EQ(events.size(), 1u);
  EXPECT_EQ(Get().failures, 1);  // still counted, to be read
}

TEST_F(BreakerTest, WhatWasCountedWhileForcedClosedIsForgottenByReset) {
  Make(Consecutive(3));
  breaker->ForceClosed();
  Report("FFFFF");
  breaker->Reset();
  Report("FF");
  EXPECT_EQ(State(), BreakerState::kClosed);
  Report("F");
  EXPECT_EQ(State(), BreakerState::kOpen);
}

TEST_F(BreakerTest, ForcingTwiceIsOnce) {
  Make(BreakerOptions());
  breaker->ForceOpen();
  const uint64_t generation = Get().generation;
  breaker->ForceOpen();
  EXPECT_EQ(Get().generation, generation);
  EXPECT_EQ(events.size(), 1u);
  breaker->ForceClosed();
  breaker->ForceClosed();
  EXPECT_THAT(events, ElementsAre("closed>forced_open operator g1",
                                  "forced_open>forced_closed operator g2"));
}

TEST_F(BreakerTest, ResetEmptiesEverythingButTheTotals) {
  Make(Consecutive(1));
  Breaker::Permit old = MustAcquire();
  {
    Breaker::Permit leaked = MustAcquire();
  }
  TripAndWait();
  old.Success();
  Report("F");
  ASSERT_EQ(Get().open_step, 1);
  breaker->Reset();
  const BreakerSnapshot s = Get();
  EXPECT_EQ(s.state, BreakerState::kClosed);
  EXPECT_EQ(s.successes + s.failures + s.censored + s.consecutive_failures, 0);
  EXPECT_EQ(s.open_step, 0);
  EXPECT_EQ(s.open_for, Duration::zero());
  EXPECT_EQ(s.late_results, 1u);
  EXPECT_EQ(s.leaked, 1u);
  Trip();
  EXPECT_EQ(Get().open_for, seconds(60));
}

TEST_F(BreakerTest, ResetOfAClosedBreakerIsANewGenerationWithoutAnEvent) {
  Make(Consecutive(2));
  Report("F");
  breaker->Reset();
  EXPECT_EQ(Get().generation, 1u);
  EXPECT_EQ(Get().consecutive_failures, 0);
  EXPECT_TRUE(events.empty());
}

TEST_F(BreakerTest, GenerationNeverGrowsOnWindowRoll) {
  Make(BreakerOptions());
  for (int i = 0; i < 100; ++i) {
    Report("SSF");
    clock.Advance(seconds(17));
  }
  EXPECT_EQ(Get().generation, 0u);
}

// Reading.

TEST_F(BreakerTest, WouldAdmitAndReadyAtFollowTheState) {
  BreakerOptions options = Consecutive(1);
  options.half_open_probes = 2;
  options.half_open_successes = 2;
  Make(options);
  EXPECT_TRUE(breaker->WouldAdmit(clock.Now()));
  EXPECT_EQ(breaker->ReadyAt(), clock.Now());

  Trip();
  const SteadyTime open_until = clock.Now() + seconds(60);
  EXPECT_FALSE(breaker->WouldAdmit(open_until - nanoseconds(1)));
  EXPECT_TRUE(breaker->WouldAdmit(open_until));
  EXPECT_TRUE(breaker->WouldAdmit(open_until + nanoseconds(1)));
  EXPECT_EQ(breaker->ReadyAt(), open_until);
  clock.Advance(seconds(70));
  EXPECT_EQ(breaker->ReadyAt(), clock.Now());

  auto a = breaker->Acquire(clock.Now() + seconds(20));
  EXPECT_TRUE(breaker->WouldAdmit(clock.Now()));
  EXPECT_EQ(breaker->ReadyAt(), clock.Now());
  auto b = breaker->Acquire(clock.Now() + seconds(10));
  const SteadyTime lease_end = clock.Now() + seconds(15);
  EXPECT_FALSE(breaker->WouldAdmit(clock.Now()));
  EXPECT_FALSE(breaker->WouldAdmit(lease_end - nanoseconds(1)));
  EXPECT_TRUE(breaker->WouldAdmit(lease_end));
  EXPECT_EQ(breaker->ReadyAt(), lease_end);
  a->Success();
  EXPECT_EQ(breaker->ReadyAt(), lease_end);
  b->Release();
  EXPECT_EQ(breaker->ReadyAt(), clock.Now());

  breaker->ForceOpen();
  EXPECT_FALSE(breaker->WouldAdmit(SteadyTime::max()));
  EXPECT_EQ(breaker->ReadyAt(), SteadyTime::max());
  breaker->ForceClosed();
  EXPECT_TRUE(breaker->WouldAdmit(clock.Now()));
  EXPECT_EQ(breaker->ReadyAt(), clock.Now());
}

// Listeners.

TEST_F(BreakerTest, TheListenerMayCallTheBreakerAndEventsKeepTheirOrder) {
  std::vector<std::string> order;
  int depth = 0;
  breaker.emplace(Consecutive(1), clock, random, [&](const BreakerEvent& event) {
    EXPECT_EQ(++depth, 1) << "events are not delivered inside each other";
    order.push_back(std::string(Name(event.from)) + ">" + Name(event.to));
    EXPECT_EQ(breaker->Snapshot().generation, order.size());
    if (event.to == BreakerState::kOpen) breaker->ForceClosed();
    if (event.to == BreakerState::kForcedClosed) {
      MustAcquire().Success();
      breaker->Reset();
    }
    --depth;
  });
  Trip();
  EXPECT_THAT(order, ElementsAre("closed>open", "open>forced_closed", "forced_closed>closed"));
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, WorksWithoutAListener) {
  breaker.emplace(Consecutive(1), clock, random);
  TripAndWait();
  Report("S");
  EXPECT_EQ(State(), BreakerState::kClosed);
}

TEST_F(BreakerTest, EventsOfManyThreadsComeOneAtATimeInOrderOfGeneration) {
  std::atomic<int> inside = 0;
  std::vector<uint64_t> generations;  // written by one listener at a time, or TSan says so
  BreakerState last = BreakerState::kClosed;
  breaker.emplace(Consecutive(1), clock, random, [&](const BreakerEvent& event) {
    EXPECT_EQ(inside.fetch_add(1), 0);
    EXPECT_EQ(event.from, last);
    last = event.to;
    generations.push_back(event.generation);
    inside.fetch_sub(1);
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 1'000; ++i) {
        if (auto permit = Acquire()) {
          i % 3 == 0 ? permit->Failure() : permit->Success();
        }
        if (t == 0) clock.Advance(seconds(10));
        if (i % 100 == t) breaker->ForceOpen();
        if (i % 100 == t + 10) breaker->Reset();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(std::is_sorted(generations.begin(), generations.end()));
  EXPECT_GT(generations.size(), 40u);
  EXPECT_EQ(last, State());
}

TEST_F(BreakerTest, NRacingCallersGetExactlyTheProbesAndOneEvent) {
  for (int probes = 1; probes <= 4; ++probes) {
    for (int round = 0; round < 50; ++round) {
      BreakerOptions options = Consecutive(1);
      options.half_open_probes = probes;
      std::atomic<int> half_open_events = 0;
      breaker.emplace(options, clock, random, [&](const BreakerEvent& event) {
        if (event.to == BreakerState::kHalfOpen) ++half_open_events;
      });
      TripAndWait();
      constexpr int kThreads = 8;
      std::barrier start(kThreads);
      std::atomic<int> granted = 0;
      std::vector<std::optional<Breaker::Permit>> permits(kThreads);
      std::vector<std::thread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          start.arrive_and_wait();
          permits[t] = Acquire();
          if (permits[t]) ++granted;
        });
      }
      for (std::thread& thread : threads) thread.join();
      EXPECT_EQ(granted, probes);
      EXPECT_EQ(half_open_events, 1);
      for (auto& permit : permits) {
        if (permit) permit->Neutral();
      }
      EXPECT_EQ(Get().probes_in_flight, 0);
    }
  }
}

}  // namespace
}  // namespace holdfast::resilience
