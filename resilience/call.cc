#include "resilience/call.h"

#include <algorithm>
#include <utility>

#include "core/wait.h"
#include "resilience/backoff.h"
#include "resilience/cost.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::OutcomeKind;
using core::SteadyTime;

constexpr int kMaxCooldownWaiters = 100;

size_t AcceptedSteps(const Route& route, core::Degradation worst) {
  return worst == core::Degradation::kNone ? 1 : route.chain.size();
}

core::Degradation WorstOf(const Route& route, const core::Request& request) {
  return request.worst_acceptable.value_or(route.worst_acceptable);
}

std::optional<double> LesserOf(std::optional<double> a, std::optional<double> b) {
  if (a && b) return std::min(*a, *b);
  return a ? a : b;
}

// What the caller of a stream says of hedging goes before what the route says.
std::optional<HedgeOptions> HedgeOf(const Route& route, const core::Request& request,
                                    bool streams) {
  if (!streams || !request.stream.hedge) return route.hedge;
  if (!*request.stream.hedge) return std::nullopt;
  return route.hedge.value_or(HedgeOptions{});
}

// One of the waiters for a target's cooldown, of which there may be only so many.
class CooldownWaiter {
 public:
  explicit CooldownWaiter(std::atomic<int>& waiters)
      : waiters_(waiters), admitted_(waiters.fetch_add(1) < kMaxCooldownWaiters) {}
  ~CooldownWaiter() { waiters_.fetch_sub(1); }
  CooldownWaiter(const CooldownWaiter&) = delete;
  CooldownWaiter& operator=(const CooldownWaiter&) = delete;
  bool admitted() const { return admitted_; }

 private:
  std::atomic<int>& waiters_;
  const bool admitted_;
};

}  // namespace

Call::StepEnd Call::EndOfSkip(std::string_view reason) {
  if (reason == "inexpressible") return StepEnd::kInexpressible;
  for (std::string_view limit : {"cooldown", "limiter", "cost", "no_price"}) {
    if (reason == limit) return StepEnd::kLimited;
  }
  return StepEnd::kFailed;
}

Call::StepEnd Call::EndOf(const core::Outcome& outcome) {
  using C = OutcomeRule::Cooldown;
  const OutcomeRule& rule = RuleOf(outcome.kind);
  if (rule.request_at_fault) return StepEnd::kRequestAtFault;
  const bool limited = rule.cooldown == C::kRateLimit || rule.cooldown == C::kQuota;
  return limited ? StepEnd::kLimited : StepEnd::kFailed;
}

Call::Call(Engine& engine, const core::Request& request, const CallContext& context,
           LiveRoute& route, core::AnswerStream* stream)
    : engine_(engine),
      request_(request),
      context_(context),
      route_(route),
      options_(route.options()),
      plan_(options_, context.arrival, context.deadline, engine.options_.max_timeout),
      prompt_(core::MeasurePrompt(request)),
      steps_(AcceptedSteps(options_, WorstOf(options_, request))),
      on_cancel_(context.cancelled, [this] { interrupt_.request_stop(); }),
      on_hurry_(context.hurry, [this] { interrupt_.request_stop(); }),
      on_break_(request.stream.on_break.value_or(options_.on_break)),
      hedge_(HedgeOf(options_, request, stream != nullptr)),
      delivery_(stream, request),
      ends_(steps_, StepEnd::kUntried),
      tried_(steps_, 0) {}

// ---------------------------------------------------------------------------------- the chain

core::Task<void> Call::WalkChain() {
  while (true) {
    const int used_before = attempts_used_;
    for (size_t i = 0; i < steps_ && !settled(); ++i) i = co_await TryTarget(i);
    if (settled()) co_return;
    if (NoneIsCapable()) co_return;
    if (attempts_used_ > used_before) break;
    const bool waited = co_await WaitForCooldown();
    if (settled()) co_return;
    if (!waited) break;
  }
  // Unless the caller has another's beginning by now, which ends as partial.
  if (refusal_ && (!delivery_.committed() || delivery_.refused())) settled_ = std::move(*refusal_);
}

// Returns the step it ended at: a hedge that was faster has gone further.
core::Task<size_t> Call::TryTarget(size_t index) {
  if (std::string reason = WhyNot(options_.chain[index]); !reason.empty()) {
    ends_[index] = EndOfSkip(reason);
    Skip(options_.chain[index], std::move(reason));
    co_return index;
  }
  StepRun run = StartOf(index);
  Next next = Next::kAgain;
  while (next == Next::kAgain) {
    std::string denied = TimeIsUp() ? "no_time" : "";
    std::optional<Permits> permits;
    if (denied.empty()) permits = Acquire(route_.target(run.index), denied);
    if (!permits) {
      if (run.token) run.token->Refund();
      if (run.number == 1) ends_[run.index] = EndOfSkip(denied);
      Skip(options_.chain[run.index], std::move(denied));
      co_return run.index;
    }
    std::unique_ptr<Flight> flight;
    if (MayHedge(run)) {
      flight = co_await FlyHedged(std::move(run), std::move(*permits));
    } else {
      flight = Depart(std::move(run), std::move(*permits), {});
      co_await Fly(*flight);
    }
    flight->run.token.reset();
    Report(*flight);
    next = AfterAttempt(*flight);
    run = std::move(flight->run);
    flight.reset();
    if (next == Next::kAgain && run.delay > Duration::zero()) {
      co_await core::Sleep(engine_.loop_, Now() + run.delay, interrupt_.get_token());
      SettleIfCancelled();
    }
    if (settled()) break;
  }
  if (settled() && run.token) run.token->Refund();
  co_return run.index;
}

Call::StepRun Call::StartOf(size_t index) const {
  StepRun run{.index = index, .end_by = plan_.chain_end(), .number = tried_[index] + 1};
  if (const auto share = options_.chain[index].share) {
    run.end_by = Now() + core::Scale(Remaining(), *share);
  }
  return run;
}

std::unique_ptr<Call::Flight> Call::Depart(StepRun run, Permits permits,
                                           std::function<void()> on_first) {
  const Step& step = options_.chain[run.index];
  ++attempts_used_;
  tried_[run.index] = run.number;
  AttemptLimits limits{.timeouts = step.timeouts,
                       .first_content_by = core::SaturatingAdd(Now(), GivenTo(run)),
                       .end_by = run.end_by};
  auto flight = std::make_unique<Flight>(
      Flight{.run = std::move(run), .permits = std::move(permits), .limits = limits});
  const size_t index = flight->run.index;
  if (step.price) {
    const int64_t output = request_.max_output_tokens.value_or(step.max_output_tokens);
    flight->estimate = EstimateCost(*step.price, prompt_, output);
  }
  flight->turn = std::make_unique<Delivery::Turn>(
      delivery_, core::StreamStart{step.target, DegradationOf(index), std::nullopt},
      Continues(index), std::move(on_first));
  return flight;
}

core::Task<void> Call::Fly(Flight& flight) {
  const size_t index = flight.run.index;
  core::Attempt attempt;
  attempt.idempotency_key = context_.call_id + "-" + std::to_string(index);
  attempt.number = flight.run.number;
  attempt.prefix = flight.turn->prefix();
  AttemptWiring wiring{.cancelled = context_.cancelled,
                       .hurry = context_.hurry,
                       .beaten = flight.beaten.get_token(),
                       .listener = flight.turn.get(),
                       .commits = delivery_.streams()};
  airborne_usd_ += flight.estimate;
  flight.end = co_await Attempt(options_.chain[index], route_.target(index), std::move(attempt),
                                flight.limits, std::move(wiring), flight.run.resent);
  airborne_usd_ -= flight.estimate;
  if (flight.end->outcome.kind == OutcomeKind::kComplete ||
      flight.end->outcome.kind == OutcomeKind::kRefusal) {
    flight.turn->Close();
  }
}

// One attempt, and the one free resend on a pooled connection that turned out to be dead: at once,
// unless the target has begun to cool down meanwhile.
core::Task<AttemptEnd> Call::Attempt(const Step& step, const Target& target, core::Attempt attempt,
                                     AttemptLimits limits, AttemptWiring wiring, bool& resent) {
  core::Provider& provider = engine_.ProviderOf(step.target);
  attempt.valve = delivery_.valve();
  AttemptEnd end = co_await RunAttempt(engine_.loop_, provider, request_, attempt, limits, wiring);
  if (end.outcome.kind == OutcomeKind::kPooledReset && !resent && target.CooldownUntil() <= Now()) {
    engine_.observer_.OnAttempt(request_, Record(step, end, Duration::zero()));
    end = co_await RunAttempt(engine_.loop_, provider, request_, attempt, limits, wiring);
    resent = true;
  }
  if (end.outcome.kind == OutcomeKind::kPooledReset && resent) {
    end.outcome.kind = OutcomeKind::kConnect;
  }
  CheckJson(end);
  co_return end;
}

core::Task<bool> Call::WaitForCooldown() {
  if (TimeIsUp()) co_return false;
  const SteadyTime now = Now();
  std::optional<size_t> earliest;
  for (size_t i = 0; i < steps_; ++i) {
    const SteadyTime until = route_.target(i).CooldownUntil();
    if (until <= now || !WhyNot(options_.chain[i]).empty()) continue;
    if (!route_.target(i).breaker.WouldAdmit(until)) continue;
    if (!earliest || until < route_.target(*earliest).CooldownUntil()) earliest = i;
  }
  if (!earliest) co_return false;
  Target& target = route_.target(*earliest);
  const Duration wait = target.CooldownUntil() - now;
  if (wait > options_.retry.max_wait) co_return false;
  const Duration delay = AfterCooldown(wait, engine_.random_);
  const Duration spare = Remaining() - Reserve(Remaining(), options_.min_useful, Later(*earliest));
  if (delay + options_.min_useful > spare) co_return false;
  const CooldownWaiter waiter(target.cooldown_waiters);
  if (!waiter.admitted()) co_return false;
  co_await core::Sleep(engine_.loop_, now + delay, interrupt_.get_token());
  SettleIfCancelled();
  co_return !settled();
}

// Why the step is not even a candidate, whatever the state of its target; empty if it is one.
std::string Call::WhyNot(const Step& step) const {
  if (engine_.ProviderOf(step.target).Inexpressible(request_)) return "inexpressible";
  if (context_floor_ && step.context_window && *step.context_window <= *context_floor_) {
    return "context_window";
  }
  const auto limit = LesserOf(request_.max_cost_usd, options_.max_cost_usd);
  if (limit) {
    if (!step.price) return "no_price";
    const int64_t output = request_.max_output_tokens.value_or(step.max_output_tokens);
    const double spent = Sunk() + airborne_usd_;
    if (spent + EstimateCost(*step.price, prompt_, output) > *limit) return "cost";
  }
  return "";
}

std::optional<Call::Permits> Call::Acquire(Target& target, std::string& denied) const {
  if (target.CooldownUntil() > Now()) {
    denied = "cooldown";
    return std::nullopt;
  }
  std::optional<Limiter::Permit> limiter = target.limiter.Acquire();
  if (!limiter) {
    denied = "limiter";
    return std::nullopt;
  }
  std::optional<Breaker::Permit> breaker = target.breaker.Acquire(plan_.soft_deadline());
  if (!breaker) {
    denied = "breaker_open";
    return std::nullopt;
  }
  return Permits{std::move(*limiter), std::move(*breaker)};
}

// ------------------------------------------------------------------------------ questions

bool Call::TimeIsUp() const {
  return context_.hurry.stop_requested() ||
         !IsUseful(Remaining(), options_.min_useful, attempts_used_ > 0);
}

// Later steps that may still be tried: each has one attempt, and min_useful, kept for it.
int Call::Later(size_t index) const {
  int later = 0;
  for (size_t i = index + 1; i < steps_; ++i) {
    if (WhyNot(options_.chain[i]).empty()) ++later;
  }
  return later;
}

Duration Call::GivenTo(const StepRun& run) const {
  const Duration remaining = Remaining();
  if (options_.chain[run.index].share) return std::min(run.end_by - Now(), remaining);
  return remaining - Reserve(remaining, options_.min_useful, Later(run.index));
}

bool Call::AnotherAdmits(size_t index) const {
  const SteadyTime now = Now();
  if (TimeIsUp() || attempts_used_ >= options_.retry.max_attempts) return false;
  for (size_t i = index + 1; i < steps_; ++i) {
    const Target& target = route_.target(i);
    if (target.CooldownUntil() <= now && target.limiter.WouldAdmit() &&
        target.breaker.WouldAdmit(now) && WhyNot(options_.chain[i]).empty()) {
      return true;
    }
  }
  return false;
}

// Whether an earlier target failed by no fault of the request.
bool Call::FailedBefore(size_t index) const {
  for (const core::AttemptRecord& record : records_) {
    if (record.skipped) continue;
    for (size_t i = 0; i < index; ++i) {
      if (options_.chain[i].target == record.target && ends_[i] != StepEnd::kRequestAtFault) {
        return true;
      }
    }
  }
  return false;
}

bool Call::NoneIsCapable() const {
  return std::ranges::all_of(ends_, [](StepEnd end) { return end == StepEnd::kInexpressible; });
}

// Whether an attempt at the step would go on from what the caller has, instead of starting again.
bool Call::Continues(size_t index) const {
  const Step& step = options_.chain[index];
  return delivery_.committed() && delivery_.resumable() && on_break_ == core::OnBreak::kContinue &&
         !route_.target(index).refuses_prefix &&
         step.can_continue.value_or(engine_.ProviderOf(step.target).ContinuesPrefix());
}

core::Degradation Call::DegradationOf(size_t index) const {
  return index == 0 ? core::Degradation::kNone : core::Degradation::kFallbackModel;
}

core::Degradation Call::Worst() const { return WorstOf(options_, request_); }

// How long until some target of the chain may admit again; a second if one would now, so that
// nobody is told to come back at once to what has just failed.
std::optional<Duration> Call::EarliestReady() const {
  std::optional<Duration> earliest;
  for (size_t i = 0; i < steps_; ++i) {
    const std::string reason = WhyNot(options_.chain[i]);
    if (!reason.empty()) continue;
    const Target& target = route_.target(i);
    const SteadyTime ready = std::max(target.CooldownUntil(), target.breaker.ReadyAt());
    if (ready == SteadyTime::max()) continue;
    const Duration wait = ready - Now();
    if (!earliest || wait < *earliest) earliest = wait;
  }
  if (earliest && *earliest <= Duration::zero()) earliest = std::chrono::seconds(1);
  return earliest;
}

bool Call::AsksCache() const {
  return engine_.cache_ != nullptr && options_.cache.enabled &&
         request_.cache.mode != core::CacheControl::Mode::kOff &&
         core::AnswerCache::Cacheable(request_);
}

// The caller's own limits can only be stricter.
core::CacheQuery Call::QueryOf(double min_similarity) const {
  const core::CacheControl& own = request_.cache;
  return {.min_similarity = std::max(min_similarity, own.min_similarity.value_or(0)),
          .max_age = std::min(options_.cache.max_age, own.max_age.value_or(Duration::max()))};
}

double Call::Sunk() const {
  double sum = 0;
  for (const core::AttemptRecord& record : records_) sum += record.cost_usd;
  return sum;
}

}  // namespace holdfast::resilience
