#pragma once

// One call's walk down the ladder: the state of Engine::Run and the steps it is made of. Made and
// used by Engine::Run alone, on its loop. call.cc has the walk, call_outcome.cc what follows
// from each attempt, call_booking.cc what is written down of it, call_hedge.cc the race of two,
// call_ladder.cc what is below the chain, call_prefer.cc what is before it.

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/answer.h"
#include "core/task.h"
#include "core/wait.h"
#include "resilience/attempt.h"
#include "resilience/delivery.h"
#include "resilience/engine.h"
#include "resilience/outcome_rules.h"
#include "resilience/plan.h"

namespace holdfast::resilience {

class Call {
 public:
  // What is borrowed outlives the call; `stream` may be null.
  Call(Engine& engine, const core::Request& request, const CallContext& context, LiveRoute& route,
       core::AnswerStream* stream);

  const TimePlan& plan() const { return plan_; }
  bool Expired() const { return engine_.loop_.Now() >= plan_.deadline(); }
  bool settled() const { return settled_.has_value(); }

  // The rungs. Each may settle the call; none does anything once it is settled.
  core::Task<void> ServePreferred();
  core::Task<void> WalkChain();
  core::Task<void> ServeStale();
  core::Task<void> ServePartial();

  // The chain is over: identical calls that wait for this one get its answer, or one of them leads.
  void ShareAnswer();

  void SettleExpired();
  void SettleShed(Admission::Refusal refusal);
  void SettleFailed();

  // The result, after what a stream still lacks of it; the call is over.
  core::Result Finish();

 private:
  // Why a step of the chain gave no answer, as the final error sees it.
  enum class StepEnd { kUntried, kInexpressible, kLimited, kRequestAtFault, kFailed };

  static StepEnd EndOfSkip(std::string_view reason);

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
    bool once_used = false;    // the one retry of a "once" row or of x-should-retry
    bool resent = false;       // the free resend on a dead pooled connection
    bool broke = false;        // it has given content to the caller, and then broke off
    bool broke_again = false;  // and had its one more attempt
    core::Duration delay{};    // before the next attempt
    std::optional<RetryBudget::Token> token;
  };

  // An attempt in progress, and then its end.
  struct Flight {
    StepRun run;
    Permits permits;
    bool hedge = false;
    AttemptLimits limits;
    double estimate = 0;  // of its cost, US dollars
    std::stop_source beaten;
    std::unique_ptr<Delivery::Turn> turn;
    std::optional<AttemptEnd> end;
  };
  struct HedgeStart {
    StepRun run;
    Permits permits;
  };
  using Flights = std::vector<std::unique_ptr<Flight>>;

  struct Salvage {
    std::string text;
    core::TargetName target;
    core::Usage usage;
  };

  core::Task<size_t> TryTarget(size_t index);
  core::Task<void> ServeBasicAnswer();
  core::Task<void> FollowLeader(double threshold);
  core::Task<bool> WaitForCooldown();

  StepRun StartOf(size_t index) const;
  std::unique_ptr<Flight> Depart(StepRun run, Permits permits, std::function<void()> on_first);
  core::Task<void> Fly(Flight& flight);
  core::Task<AttemptEnd> Attempt(const Step& step, const Target& target, core::Attempt attempt,
                                 AttemptLimits limits, AttemptWiring wiring, bool& resent);

  // call_hedge.cc
  bool MayHedge(const StepRun& run) const;
  core::Task<std::unique_ptr<Flight>> FlyHedged(StepRun run, Permits permits);
  core::Task<void> FlyAndRing(Flight& flight, core::Bell& bell);
  std::optional<HedgeStart> FindHedge(size_t after);
  static std::unique_ptr<Flight> TakeLanded(Flights& air);
  static void Beat(Flights& air, size_t winner);
  void BookLoser(Flight& flight);

  std::string WhyNot(const Step& step) const;
  std::optional<Permits> Acquire(Target& target, std::string& denied) const;
  void Report(Flight& flight);
  void Report(Target& target, Permits permits, const AttemptEnd& end, bool first_attempt);
  void BindCooldown(Target& target, const AttemptEnd& end, core::Duration own_delay);
  void KeepForSalvage(const core::TargetName& target, const AttemptEnd& end);
  core::AttemptRecord& Record(const Step& step, const AttemptEnd& end, core::Duration delay);
  void Skip(const Step& step, std::string reason);
  void CheckJson(AttemptEnd& end) const;

  // Settles the call, or decides that the step is over, or prepares its next attempt.
  enum class Next { kSettled, kStepOver, kAgain };
  Next AfterAttempt(Flight& flight);
  Next AfterRefusal(Flight& flight);
  static StepEnd EndOf(const core::Outcome& outcome);
  bool PrefixRefused(const Flight& flight);
  std::string WhyNoRetry(StepRun& run, const AttemptEnd& end, core::Duration delay);
  bool Retryable(StepRun& run, const core::Outcome& outcome) const;
  void SettleRequestFault(const StepRun& run, const core::Outcome& outcome);
  void SettleAnswer(size_t index, AttemptEnd end);
  void SettleHit(core::CacheHit hit, core::Degradation degradation);
  void SettleError(core::Error error);
  void SettleIfCancelled();
  void SettleCancelled();
  void SettlePaused();
  void SettlePartial();
  void SettleBroken();
  void Store(const core::Answer& answer);

  core::SteadyTime Now() const { return engine_.loop_.Now(); }
  core::Duration Remaining() const { return plan_.Remaining(Now()); }
  bool TimeIsUp() const;
  int Later(size_t index) const;
  core::Duration GivenTo(const StepRun& run) const;
  bool AnotherAdmits(size_t index) const;
  bool FailedBefore(size_t index) const;
  bool NoneIsCapable() const;
  bool Continues(size_t index) const;
  core::Degradation DegradationOf(size_t index) const;
  core::Degradation Worst() const;
  std::optional<core::Duration> EarliestReady() const;
  bool AsksCache() const;
  core::CacheQuery QueryOf(double min_similarity) const;
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

  const core::OnBreak on_break_;
  const std::optional<HedgeOptions> hedge_;
  Delivery delivery_;

  std::vector<StepEnd> ends_;
  std::vector<int> tried_;  // attempts by step
  int attempts_used_ = 0;
  double airborne_usd_ = 0;               // what attempts in progress may cost
  std::optional<int64_t> context_floor_;  // only larger windows make sense
  std::optional<Salvage> salvage_;
  std::optional<Salvage> delivered_;  // whose content the caller has; the text is delivery_'s
  std::unique_ptr<SingleFlight::Lead> lead_;  // while identical calls may wait for this one
  std::optional<core::Answer> refusal_;
  std::vector<core::AttemptRecord> records_;
  std::optional<std::variant<core::Answer, core::Error>> settled_;
};

}  // namespace holdfast::resilience
