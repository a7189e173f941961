#pragma once

// What is refused at load, one function for each options struct: every fault at once, none if the
// options are fit to run on. The classes themselves rely on it. Called by the configuration's
// loader, which knows the file and line of each field. Pure.

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "core/clock.h"
#include "resilience/admission.h"
#include "resilience/backoff.h"
#include "resilience/breaker.h"
#include "resilience/limiter.h"
#include "resilience/retry_budget.h"
#include "resilience/route.h"

namespace holdfast::resilience {

struct OptionFault {
  std::string field;   // as it is called in the struct and in the configuration: "open_max"
  std::string reason;  // "must be at least open (60s)"

  friend bool operator==(const OptionFault&, const OptionFault&) = default;
};

// `longest_first_token_timeout`: over all steps of all routes that use the target.
std::vector<OptionFault> Validate(const BreakerOptions& options,
                                  core::Duration longest_first_token_timeout);
std::vector<OptionFault> Validate(const LimiterOptions& options);
std::vector<OptionFault> Validate(const AdmissionOptions& options);
std::vector<OptionFault> Validate(const BackoffOptions& options);
std::vector<OptionFault> Validate(const RetryBudgetOptions& options);
// With the faults of `backoff` ("base", "cap") and `budget` ("budget.tokens").
std::vector<OptionFault> Validate(const RetryOptions& options, size_t targets);

// Those of the fields `written` in the configuration that cannot take effect beside the others,
// though each is in its range. A field that has its default by silence is no fault.
std::vector<OptionFault> Ineffective(const BreakerOptions& options,
                                     const std::set<std::string>& written);
std::vector<OptionFault> Ineffective(const RetryOptions& options,
                                     const std::set<std::string>& written);

}  // namespace holdfast::resilience
