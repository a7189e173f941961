#include "resilience/validate.h"

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<std::string> Fields(const std::vector<OptionFault>& faults) {
  std::vector<std::string> fields;
  for (const OptionFault& fault : faults) {
    EXPECT_FALSE(fault.reason.empty());
    fields.push_back(fault.field);
  }
  return fields;
}

std::vector<std::string> Faults(const BreakerOptions& options) {
  return Fields(Validate(options, seconds(10)));
}

TEST(ValidateTest, TheShippedDefaultsAreFit) {
  EXPECT_THAT(Validate(BreakerOptions(), seconds(10)), IsEmpty());
  EXPECT_THAT(Validate(LimiterOptions()), IsEmpty());
  EXPECT_THAT(Validate(AdmissionOptions()), IsEmpty());
  EXPECT_THAT(Validate(BackoffOptions()), IsEmpty());
  EXPECT_THAT(Validate(RetryBudgetOptions()), IsEmpty());
  EXPECT_THAT(Validate(RetryOptions(), 4), IsEmpty());
}

TEST(ValidateTest, WindowIsAtLeastTwiceTheFirstTokenTimeout) {
  for (int delta = -1; delta <= 1; ++delta) {
    BreakerOptions options;
    options.window = seconds(40) + nanoseconds(delta);
    const auto faults = Validate(options, seconds(20));
    ASSERT_EQ(faults.size(), delta < 0 ? 1u : 0u);
    if (delta < 0) {
      EXPECT_EQ(faults[0].field, "window");
      EXPECT_THAT(faults[0].reason, HasSubstr("20s"));
    }
  }
  EXPECT_THAT(Fields(Validate(BreakerOptions(), Duration::max())), ElementsAre("window"));
}

TEST(ValidateTest, BreakerIntegers) {
  BreakerOptions options;
  options.consecutive_failures = -1;
  EXPECT_THAT(Faults(options), ElementsAre("consecutive_failures"));
  options.consecutive_failures = 0;
  EXPECT_THAT(Faults(options), IsEmpty());
  options.min_calls = 0;
  EXPECT_THAT(Faults(options), ElementsAre("min_calls"));
  options.min_calls = 1;
  options.black_hole = -1;
  EXPECT_THAT(Faults(options), ElementsAre("black_hole"));
  options.black_hole = 0;
  options.buckets = 0;
  EXPECT_THAT(Faults(options), ElementsAre("buckets"));
  options.buckets = 1;
  EXPECT_THAT(Faults(options), IsEmpty());
}

TEST(ValidateTest, BreakerRates) {
  for (double bad : {-0.001, 1.001, kNaN, kInfinity, -kInfinity}) {
    BreakerOptions options;
    options.failure_rate = bad;
    EXPECT_THAT(Faults(options), ElementsAre("failure_rate")) << bad;
  }
  for (double good : {0.0, 0.001, 1.0}) {
    BreakerOptions options;
    options.failure_rate = good;
    EXPECT_THAT(Faults(options), IsEmpty()) << good;
  }
  for (double bad : {-0.001, 1.0, kNaN}) {
    BreakerOptions options;
    options.open_jitter = bad;
    EXPECT_THAT(Faults(options), ElementsAre("open_jitter")) << bad;
  }
}

TEST(ValidateTest, NotAllThreeTriggersAreOff) {
  for (int on = 0; on < 8; ++on) {
    BreakerOptions options;
    if ((on & 1) == 0) options.consecutive_failures = 0;
    if ((on & 2) == 0) options.failure_rate = 0;
    if ((on & 4) == 0) options.black_hole = 0;
    EXPECT_EQ(Faults(options).size(), on == 0 ? 1u : 0u) << on;
  }
}

TEST(ValidateTest, BreakerOpenTimes) {
  BreakerOptions options;
  options.open = Duration::zero();
  EXPECT_THAT(Faults(options), ElementsAre("open"));
  options.open = nanoseconds(1);
  EXPECT_THAT(Faults(options), IsEmpty());
  options.open = options.open_max;
  EXPECT_THAT(Faults(options), IsEmpty());
  options.open = options.open_max + nanoseconds(1);
  EXPECT_THAT(Faults(options), ElementsAre("open_max"));
  options = BreakerOptions();
  options.step_decay = Duration::zero();
  EXPECT_THAT(Faults(options), ElementsAre("step_decay"));
}

TEST(ValidateTest, BreakerProbes) {
  BreakerOptions options;
  options.half_open_successes = 2;
  EXPECT_THAT(Faults(options), ElementsAre("half_open_successes"));
  options.half_open_probes = 2;
  EXPECT_THAT(Faults(options), IsEmpty());
  options.half_open_successes = 0;
  EXPECT_THAT(Faults(options), ElementsAre("half_open_successes"));
  options.half_open_probes = 0;
  EXPECT_THAT(Faults(options), ElementsAre("half_open_probes", "half_open_successes"));
}

TEST(ValidateTest, EveryFaultAtOnce) {
  BreakerOptions options;
  options.failure_rate = 2;
  options.window = seconds(1);
  options.min_calls = 0;
  options.open = seconds(-1);
  EXPECT_THAT(Faults(options), ElementsAre("failure_rate", "window", "min_calls", "open"));
}

TEST(ValidateTest, LimiterAndAdmission) {
  EXPECT_THAT(Fields(Validate(LimiterOptions{0})), ElementsAre("max"));
  EXPECT_THAT(Validate(LimiterOptions{1}), IsEmpty());
  EXPECT_THAT(Fields(Validate(AdmissionOptions{0, -1})),
              ElementsAre("max_in_progress", "max_queue"));
  EXPECT_THAT(Validate(AdmissionOptions{1, 0}), IsEmpty());
}

TEST(ValidateTest, Backoff) {
  EXPECT_THAT(Validate(BackoffOptions{seconds(30), seconds(30)}), IsEmpty());
  EXPECT_THAT(Fields(Validate(BackoffOptions{seconds(30) + nanoseconds(1), seconds(30)})),
              ElementsAre("base"));
  EXPECT_THAT(Fields(Validate(BackoffOptions{seconds(0), seconds(0)})), ElementsAre("base", "cap"));
}

TEST(ValidateTest, RetryBudget) {
  const auto faults = [](auto change) {
    RetryBudgetOptions options;
    change(options);
    return Fields(Validate(options));
  };
  for (double bad : {0.0, 0.999, -1.0, kNaN, kInfinity}) {
    EXPECT_THAT(faults([&](auto& o) { o.tokens = bad; }), ElementsAre("tokens")) << bad;
  }
  EXPECT_THAT(faults([](auto& o) { o.tokens = 1; }), IsEmpty());
  for (double bad : {-0.001, kNaN, kInfinity}) {
    EXPECT_THAT(faults([&](auto& o) { o.per_success = bad; }), ElementsAre("per_success"));
    EXPECT_THAT(faults([&](auto& o) { o.per_minute = bad; }), ElementsAre("per_minute"));
  }
  EXPECT_THAT(faults([](auto& o) { o.per_success = o.per_minute = 0; }), IsEmpty());
  EXPECT_THAT(faults([](auto& o) { o.min_in_flight = -1; }), ElementsAre("min_in_flight"));
  EXPECT_THAT(faults([](auto& o) { o.min_in_flight = 0; }), IsEmpty());
  for (double bad : {-0.001, 1.001, kNaN}) {
    EXPECT_THAT(faults([&](auto& o) { o.in_flight_ratio = bad; }), ElementsAre("in_flight_ratio"));
  }
  EXPECT_THAT(faults([](auto& o) { o.in_flight_ratio = 0; }), IsEmpty());
  EXPECT_THAT(faults([](auto& o) { o.in_flight_ratio = o.min_in_flight = 0; }),
              ElementsAre("min_in_flight"));
}

TEST(ValidateTest, Retry) {
  RetryOptions options;
  for (int attempts = 3; attempts <= 5; ++attempts) {
    options.max_attempts = attempts;
    EXPECT_EQ(Fields(Validate(options, 4)).size(), attempts < 4 ? 1u : 0u) << attempts;
  }
  options.max_attempts = 0;
  EXPECT_THAT(Fields(Validate(options, 0)), ElementsAre("max_attempts"));
  options = RetryOptions();
  options.max_retries = -1;
  options.prefer_wait = seconds(-1);
  options.max_wait = seconds(-1);
  options.backoff.base = seconds(31);
  options.budget.tokens = 0;
  EXPECT_THAT(Fields(Validate(options, 1)),
              ElementsAre("max_retries", "prefer_wait", "max_wait", "base", "budget.tokens"));
}

TEST(ValidateTest, ASettingThatCannotTakeEffectIsAFaultOnlyIfWritten) {
  BreakerOptions options;
  EXPECT_THAT(Ineffective(options, {"min_calls", "failure_rate", "buckets", "step_decay"}),
              IsEmpty());
  options.failure_rate = 0;
  EXPECT_THAT(Ineffective(options, {"failure_rate"}), IsEmpty());
  EXPECT_THAT(Fields(Ineffective(options, {"min_calls", "buckets"})), ElementsAre("min_calls"));
  options.black_hole = 0;
  EXPECT_THAT(Fields(Ineffective(options, {"min_calls", "buckets"})),
              ElementsAre("min_calls", "buckets"));
  options = BreakerOptions();
  options.consecutive_failures = 1;
  EXPECT_THAT(Ineffective(options, {"consecutive_failures"}), IsEmpty());
  EXPECT_THAT(Fields(Ineffective(options, {"failure_rate", "min_calls"})),
              ElementsAre("failure_rate", "min_calls"));
  options = BreakerOptions();
  options.open_max = options.open;
  EXPECT_THAT(Fields(Ineffective(options, {"open_max", "step_decay"})), ElementsAre("step_decay"));
}

TEST(ValidateTest, RetrySettingsWithoutRetriesCannotTakeEffect) {
  RetryOptions options;
  EXPECT_THAT(Ineffective(options, {"base", "cap", "budget.tokens"}), IsEmpty());
  options.max_retries = 0;
  EXPECT_THAT(Ineffective(options, {"max_retries", "max_attempts", "max_wait"}), IsEmpty());
  EXPECT_THAT(Fields(Ineffective(options, {"base", "cap", "budget.tokens"})),
              ElementsAre("base", "cap", "budget.tokens"));
}

}  // namespace
}  // namespace holdfast::resilience
