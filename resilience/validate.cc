#include "resilience/validate.h"

#include <cmath>
#include <utility>

namespace holdfast::resilience {
namespace {

constexpr core::Duration kZero = core::Duration::zero();

class Faults {
 public:
  // A condition that NaN must not meet is written so that NaN makes it false.
  void Require(bool condition, const char* field, std::string reason) {
    if (!condition) found_.push_back({field, std::move(reason)});
  }
  void AtLeast(int value, int least, const char* field) {
    Require(value >= least, field, "must be at least " + std::to_string(least));
  }
  void Positive(core::Duration value, const char* field) {
    Require(value > kZero, field, "must be longer than 0");
  }
  void NotNegative(double value, const char* field) {
    Require(value >= 0 && std::isfinite(value), field, "must be a number of at least 0");
  }
  void Add(const std::string& prefix, std::vector<OptionFault> others) {
    for (OptionFault& fault : others) found_.push_back({prefix + fault.field, fault.reason});
  }
  std::vector<OptionFault> Take() { return std::move(found_); }

 private:
  std::vector<OptionFault> found_;
};

}  // namespace

std::vector<OptionFault> Validate(const BreakerOptions& options,
                                  core::Duration longest_first_token_timeout) {
  Faults faults;
  faults.AtLeast(options.consecutive_failures, 0, "consecutive_failures");
  faults.Require(options.failure_rate >= 0 && options.failure_rate <= 1, "failure_rate",
                 "must be within (0, 1], or 0 for off");
  faults.AtLeast(options.black_hole, 0, "black_hole");
  faults.Require(
      options.consecutive_failures != 0 || options.failure_rate != 0 || options.black_hole != 0,
      "consecutive_failures",
      "must not be 0 while failure_rate and black_hole are 0 too: nothing would trip");

  faults.Positive(options.window, "window");
  const core::Duration least_window =
      core::SaturatingAdd(longest_first_token_timeout, longest_first_token_timeout);
  faults.Require(options.window >= least_window, "window",
                 "must be at least twice the longest first_token timeout (" +
                     core::FormatDuration(longest_first_token_timeout) + ")");
  faults.AtLeast(options.buckets, 1, "buckets");
  faults.AtLeast(options.min_calls, 1, "min_calls");

  faults.Positive(options.open, "open");
  faults.Require(options.open_max >= options.open, "open_max",
                 "must be at least open (" + core::FormatDuration(options.open) + ")");
  faults.Require(options.open_jitter >= 0 && options.open_jitter < 1, "open_jitter",
                 "must be within [0, 1)");
  faults.Positive(options.step_decay, "step_decay");

  faults.AtLeast(options.half_open_probes, 1, "half_open_probes");
  faults.AtLeast(options.half_open_successes, 1, "half_open_successes");
  faults.Require(options.half_open_successes <= options.half_open_probes, "half_open_successes",
                 "must not exceed half_open_probes (" + std::to_string(options.half_open_probes) +
                     "): it would never close");
  return faults.Take();
}

std::vector<OptionFault> Validate(const LimiterOptions& options) {
  Faults faults;
  faults.AtLeast(options.max, 1, "max");
  return faults.Take();
}

std::vector<OptionFault> Validate(const AdmissionOptions& options) {
  Faults faults;
  faults.AtLeast(options.max_in_progress, 1, "max_in_progress");
  faults.AtLeast(options.max_queue, 0, "max_queue");
  return faults.Take();
}

std::vector<OptionFault> Validate(const BackoffOptions& options) {
  Faults faults;
  faults.Positive(options.base, "base");
  faults.Positive(options.cap, "cap");
  faults.Require(options.base <= options.cap, "base",
                 "must not exceed cap (" + core::FormatDuration(options.cap) + ")");
  return faults.Take();
}

std::vector<OptionFault> Validate(const RetryBudgetOptions& options) {
  Faults faults;
  faults.Require(options.tokens >= 1 && std::isfinite(options.tokens), "tokens",
                 "must be at least 1, the cost of a retry");
  faults.NotNegative(options.per_success, "per_success");
  faults.NotNegative(options.per_minute, "per_minute");
  faults.AtLeast(options.min_in_flight, 0, "min_in_flight");
  faults.Require(options.in_flight_ratio >= 0 && options.in_flight_ratio <= 1, "in_flight_ratio",
                 "must be within (0, 1], or 0 for off");
  faults.Require(options.min_in_flight != 0 || options.in_flight_ratio != 0, "min_in_flight",
                 "must not be 0 while in_flight_ratio is 0 too: no retry would be allowed");
  return faults.Take();
}

std::vector<OptionFault> Validate(const RetryOptions& options, size_t targets) {
  Faults faults;
  faults.AtLeast(options.max_retries, 0, "max_retries");
  faults.Require(options.max_attempts >= 1 && static_cast<size_t>(options.max_attempts) >= targets,
                 "max_attempts",
                 "must be at least the number of targets in the chain (" + std::to_string(targets) +
                     "): the last would never be reached");
  faults.Require(options.prefer_wait >= kZero, "prefer_wait", "must not be negative");
  faults.Require(options.max_wait >= kZero, "max_wait", "must not be negative");
  faults.Add("", Validate(options.backoff));
  faults.Add("budget.", Validate(options.budget));
  return faults.Take();
}

std::vector<OptionFault> Ineffective(const BreakerOptions& options,
                                     const std::set<std::string>& written) {
  Faults faults;
  const auto refuse = [&](bool dead, const char* field, const char* reason) {
    faults.Require(!dead || !written.contains(field), field, reason);
  };
  const bool no_rate = options.failure_rate == 0;
  refuse(no_rate, "min_calls", "cannot take effect: failure_rate is 0");
  refuse(no_rate && options.black_hole == 0, "buckets",
         "cannot take effect: failure_rate and black_hole are 0");
  refuse(!no_rate && options.consecutive_failures == 1, "failure_rate",
         "cannot take effect: consecutive_failures is 1, so any failure trips");
  refuse(!no_rate && options.consecutive_failures == 1, "min_calls",
         "cannot take effect: consecutive_failures is 1, so any failure trips");
  refuse(options.open == options.open_max, "step_decay",
         "cannot take effect: open_max equals open, so open times never grow");
  return faults.Take();
}

std::vector<OptionFault> Ineffective(const RetryOptions& options,
                                     const std::set<std::string>& written) {
  Faults faults;
  if (options.max_retries > 0) return {};
  for (const char* field :
       {"base", "cap", "prefer_wait", "budget", "budget.tokens", "budget.per_success",
        "budget.per_minute", "budget.min_in_flight", "budget.in_flight_ratio"}) {
    faults.Require(!written.contains(field), field, "cannot take effect: max_retries is 0");
  }
  return faults.Take();
}

}  // namespace holdfast::resilience
