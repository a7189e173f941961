#pragma once

// One call's walk down the ladder: the state of Engine::Run and the steps it is made of. Made and
// used by Engine::Run alone, on its loop.

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/answer.h"
#include "core/task.h"
#include "resilience/attempt.h"
#include "resilience/engine.h"
#include "resilience/outcome_rules.h"
#include "resilience/plan.h"

namespace holdfast::resilience {

class Call {
 public:
  // `engine`, `request`, `context` and `route` outlive the call.
  Call(Engine& engine, const core::Request& request, const CallContext& context, LiveRoute& route);

  const TimePlan& plan() const { return plan_; }
  bool Expired() const { return engine_.loop_.Now() >= plan_.deadline(); }
  bool settled() const { return settled_.has_value(); }

  // The rungs. Each may settle the call; none does anything once it is settled.
  core::Task<void> WalkChain();
  core::Task<void> ServeStale();
  core::Task<void> ServePartial();

  void SettleExpired();
  void SettleShed(Admission::Refusal refusal);
  void SettleFailed();

  // The result; the call is over.
  core::Result Finish();

 private:
  // Why a step of the chain gave no answer, as the final error sees it.
  enum class StepEnd { kUntried, kInexpressible, kLimited, kRequestAtFault, kFailed };

  static StepEnd EndOf(std::string_view skip_reason);

  struct Permits {
    Limiter::Permit limiter;
    Breaker::Permit breaker;
  };

  // A step of the chain while it is tried.
  struct StepRun {
    size_t index = 0;
    core::SteadyTime end_by;  // the share's end, or the chain's
    int number = 1;           // of the next attempt
    int backoff_index = 0;
    bool once_used = false;  // the one retry of a "once" row or of x-should-retry
    bool resent = false;     // the free resend on a dead pooled connection
    core::Duration delay{};  // before the next attempt
    std::optional<RetryBudget::Token> token;
  };

  struct Salvage {
    std::string text;
    core::TargetName target;
    core::Usage usage;
  };

  core::Task<void> TryTarget(size_t index);
  core::Task<void> ServeBasicAnswer();
  core::Task<bool> WaitForCooldown();
  core::Task<AttemptEnd> Attempt(const Step& step, const Target& target, core::Attempt attempt,
                                 AttemptLimits limits, bool& resent);

  std::string WhyNot(const Step& step) const;
  std::optional<Permits> Acquire(Target& target, std::string& denied) const;
  void Report(Target& target, Permits permits, const AttemptEnd& end, bool first_attempt);
  void BindCooldown(Target& target, const AttemptEnd& end, core::Duration own_delay);
  void KeepForSalvage(const core::TargetName& target, const AttemptEnd& end);
  core::AttemptRecord& Record(const Step& step, const AttemptEnd& end, core::Duration delay);
  void Skip(const Step& step, std::string reason);
  void CheckJson(AttemptEnd& end) const;

  // Settles the call, or decides that the step is over, or prepares its next attempt.
  enum class Next { kSettled, kStepOver, kAgain };
  Next AfterAttempt(StepRun& run, AttemptEnd& end);
  std::string WhyNoRetry(StepRun& run, const AttemptEnd& end, core::Duration delay);
  bool Retryable(StepRun& run, const core::Outcome& outcome) const;
  void SettleRequestFault(const StepRun& run, const core::Outcome& outcome);
  void SettleAnswer(size_t index, AttemptEnd end);
  void SettleError(core::Error error);
  void SettleIfCancelled();
  void Store(const AttemptEnd& end, const core::TargetName& target);

  core::SteadyTime Now() const { return engine_.loop_.Now(); }
  core::Duration Remaining() const { return plan_.Remaining(Now()); }
  bool TimeIsUp() const;
  int Later(size_t index) const;
  core::Duration GivenTo(const StepRun& run) const;
  bool AnotherAdmits(size_t index) const;
  bool FailedBefore(size_t index) const;
  bool NoneIsCapable() const;
  core::Degradation Worst() const;
  std::optional<core::Duration> EarliestReady() const;
  double Sunk() const;

  Engine& engine_;
  const core::Request& request_;
  const CallContext& context_;
  LiveRoute& route_;
  const Route& options_;
  const TimePlan plan_;
  const core::PromptSize prompt_;
  const size_t steps_;          // of the chain that the caller accepts
  std::stop_source interrupt_;  // cancelled or hurried
  std::stop_callback<std::function<void()>> on_cancel_;
  std::stop_callback<std::function<void()>> on_hurry_;

  std::vector<StepEnd> ends_;
  int attempts_used_ = 0;
  std::optional<int64_t> context_floor_;  // only larger windows make sense
  std::optional<Salvage> salvage_;
  std::optional<core::Answer> refusal_;
  std::vector<core::AttemptRecord> records_;
  std::optional<std::variant<core::Answer, core::Error>> settled_;
};

}  // namespace holdfast::resilience
