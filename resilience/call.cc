#include "resilience/call.h"

#include <algorithm>
#include <utility>

#include "core/wait.h"
#include "resilience/backoff.h"
#include "resilience/cost.h"
#include "resilience/json_check.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::OutcomeKind;
using core::SteadyTime;
using Same = OutcomeRule::SameTarget;

constexpr int kMaxCooldownWaiters = 100;
// A lookup never holds an answer up for longer than this, however much time is left.
constexpr Duration kLookupTime = std::chrono::seconds(1);
// The part of the ladder's end that a lookup may use; the rest is for writing the answer.
constexpr Duration kLookupTail = std::chrono::milliseconds(150);

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
  if (refusal_ && !delivery_.committed()) settled_ = std::move(*refusal_);
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

// --------------------------------------------------------------- what follows from an attempt

Call::Next Call::AfterAttempt(Flight& flight) {
  StepRun& run = flight.run;
  AttemptEnd& end = *flight.end;
  const Step& step = options_.chain[run.index];
  const OutcomeRule& rule = RuleOf(end.outcome.kind);
  core::AttemptRecord& record = Record(step, end, run.delay);
  KeepForSalvage(step.target, end);
  if (delivery_.committed() && end.has_content()) {
    delivered_ = Salvage{{}, step.target, record.usage};
    run.broke = true;
  }
  run.delay = Duration::zero();

  if (end.outcome.kind == OutcomeKind::kComplete) {
    engine_.observer_.OnAttempt(request_, record);
    SettleAnswer(run.index, std::move(end));
    return Next::kSettled;
  }
  if (end.outcome.kind == OutcomeKind::kCancelled || end.outcome.kind == OutcomeKind::kPaused) {
    engine_.observer_.OnAttempt(request_, record);
    end.outcome.kind == OutcomeKind::kPaused ? SettlePaused() : SettleCancelled();
    return Next::kSettled;
  }
  ends_[run.index] = EndOf(end.outcome);

  // A told wait binds everyone; a 429 without one binds by this request's own jittered delay.
  const bool may_sleep = rule.same != Same::kNever || end.outcome.should_retry == true;
  Duration delay{};
  if (end.outcome.retry_after) {
    delay = may_sleep ? AfterRetryAfter(*end.outcome.retry_after, engine_.random_)
                      : *end.outcome.retry_after;
  } else if (may_sleep) {
    delay = FullJitter(options_.retry.backoff, run.backoff_index, engine_.random_);
  }
  BindCooldown(route_.target(run.index), end, delay);

  if (PrefixRefused(flight)) {
    engine_.observer_.OnAttempt(request_, record);
    ++run.number;
    engine_.observer_.OnRetry(request_, record, Duration::zero());
    return Next::kAgain;
  }
  record.retry_skipped = WhyNoRetry(run, end, delay);
  engine_.observer_.OnAttempt(request_, record);
  if (record.retry_skipped.empty()) {
    run.delay = delay;
    run.backoff_index = end.outcome.retry_after ? 0 : run.backoff_index + 1;
    run.broke_again = run.broke;
    ++run.number;
    engine_.observer_.OnRetry(request_, record, delay);
    return Next::kAgain;
  }
  if (end.outcome.kind == OutcomeKind::kRefusal) return AfterRefusal(flight);
  if (run.broke && on_break_ == core::OnBreak::kPartial) SettleBroken();
  if (rule.request_at_fault && !delivery_.committed()) SettleRequestFault(run, end.outcome);
  return settled() ? Next::kSettled : Next::kStepOver;
}

Call::Next Call::AfterRefusal(Flight& flight) {
  StepRun& run = flight.run;
  AttemptEnd& end = *flight.end;
  const bool is_final = options_.on_refusal == OnRefusal::kFinal || run.index + 1 == steps_;
  if (delivery_.committed() && end.has_content()) {
    SettleAnswer(run.index, std::move(end));
    return Next::kSettled;
  }
  // It would not go on with what another target has begun: a refusal of the whole.
  if (delivery_.committed()) {
    if (is_final) SettleBroken();
    return settled() ? Next::kSettled : Next::kStepOver;
  }
  if (is_final && refusal_) return Next::kStepOver;
  if (is_final) {
    SettleAnswer(run.index, std::move(end));
    return Next::kSettled;
  }
  if (!refusal_) {
    SettleAnswer(run.index, std::move(end));
    refusal_ = std::get<core::Answer>(std::move(*settled_));
    settled_.reset();
  }
  return Next::kStepOver;
}

// Whether the target would not take a prefix, and may be asked again at once for a whole answer.
bool Call::PrefixRefused(const Flight& flight) {
  const core::Outcome& outcome = flight.end->outcome;
  const bool refused = !flight.turn->prefix().empty() && !flight.end->has_content() &&
                       outcome.kind == OutcomeKind::kBadRequest &&
                       (outcome.http_status == 400 || outcome.http_status == 422);
  if (!refused) return false;
  const size_t index = flight.run.index;
  route_.target(index).refuses_prefix = true;
  return !TimeIsUp() && attempts_used_ + 1 + Later(index) <= options_.retry.max_attempts;
}

bool Call::Retryable(StepRun& run, const core::Outcome& outcome) const {
  if (outcome.should_retry == false) return false;
  const bool told_to = outcome.should_retry == true && outcome.kind != OutcomeKind::kRefusal;
  switch (RuleOf(outcome.kind).same) {
    case Same::kYes:
    case Same::kAfterWait:
    case Same::kResend:
      return true;
    case Same::kIfNoOtherTarget:
      if (!AnotherAdmits(run.index)) return true;
      break;
    case Same::kOnce:
      if (!run.once_used) {
        run.once_used = true;
        return true;
      }
      return false;
    case Same::kNever:
      break;
  }
  if (!told_to || run.once_used) return false;
  run.once_used = true;
  return true;
}

// The checks before a sleep, in their order; takes the budget's token when all others pass.
std::string Call::WhyNoRetry(StepRun& run, const AttemptEnd& end, Duration delay) {
  const OutcomeRule& rule = RuleOf(end.outcome.kind);
  const RetryOptions& retry = options_.retry;
  const Target& target = route_.target(run.index);
  if (context_.hurry.stop_requested()) return "no_time";
  if (run.broke && on_break_ == core::OnBreak::kPartial) return "on_break";
  if (!Retryable(run, end.outcome)) return "not_retryable";
  if (run.number > retry.max_retries || run.broke_again) return "max_retries";
  if (attempts_used_ + 1 + Later(run.index) > retry.max_attempts) return "max_attempts";
  const bool another = AnotherAdmits(run.index);
  if ((run.broke || rule.next == OutcomeRule::NextTarget::kPreferred) && another) {
    return "next_target_preferred";
  }

  const SteadyTime then = core::SaturatingAdd(Now(), delay);
  if (target.CooldownUntil() > then) return "cooldown";
  if (!target.breaker.WouldAdmit(then)) return "breaker_open";
  if (end.outcome.retry_after || rule.same == Same::kAfterWait) {
    const Duration wait = std::min(end.outcome.retry_after.value_or(delay), kMaxRetryAfter);
    if (wait > (another ? retry.prefer_wait : retry.max_wait) && wait > retry.prefer_wait) {
      return "retry_after";
    }
  }
  const Duration remaining = Remaining();
  const Duration spare =
      options_.chain[run.index].share
          ? std::min(run.end_by - Now(), remaining)
          : remaining - Reserve(remaining, options_.min_useful, Later(run.index));
  if (core::SaturatingAdd(delay, options_.min_useful) > spare) return "no_time";
  if (std::string reason = WhyNot(options_.chain[run.index]); !reason.empty()) return reason;
  RetryBudget::Withdrawal withdrawal = route_.budget().Withdraw(rule.maybe_billed ? 2 : 1);
  if (!withdrawal.token) {
    return *withdrawal.denied == RetryBudget::Denial::kTokens ? "retry_budget"
                                                              : "retries_in_flight";
  }
  run.token = std::move(withdrawal.token);
  return "";
}

void Call::SettleRequestFault(const StepRun& run, const core::Outcome& outcome) {
  const Step& step = options_.chain[run.index];
  core::Error error{.code = core::ErrorCode::kInvalidArgument, .reason = "PROVIDER_REJECTED"};
  error.message = step.target.provider + " rejected the request";
  if (outcome.kind == OutcomeKind::kContextLength) {
    context_floor_ = std::max(context_floor_.value_or(0), step.context_window.value_or(0));
    for (size_t i = run.index + 1; i < steps_; ++i) {
      const std::string reason = WhyNot(options_.chain[i]);
      if (reason.empty()) return;
    }
    error.reason = "CONTEXT_LENGTH_EXCEEDED";
    error.message = "the prompt is longer than the context of " + step.target.model;
  }
  if (FailedBefore(run.index)) return;
  if (!outcome.error.empty()) error.message += ": " + outcome.error;
  SettleError(std::move(error));
}

void Call::SettleAnswer(size_t index, AttemptEnd end) {
  core::Answer answer;
  if (delivery_.committed()) {
    answer.text = delivery_.text();
    answer.tool_calls = delivery_.tool_calls();
  } else {
    answer.text = std::move(end.text);
    answer.tool_calls = std::move(end.tool_calls);
  }
  answer.finish_reason = end.finish_reason;
  if (end.outcome.kind == OutcomeKind::kRefusal &&
      answer.finish_reason == core::FinishReason::kUnspecified) {
    answer.finish_reason = core::FinishReason::kContentFilter;
  }
  answer.usage = records_.back().usage;
  answer.degradation = DegradationOf(index);
  answer.served_by = options_.chain[index].target;
  if (end.outcome.kind == OutcomeKind::kComplete) Store(answer);
  settled_ = std::move(answer);
}

void Call::Store(const core::Answer& answer) {
  const bool wanted = AsksCache() && !request_.cache.no_store;
  const bool whole = answer.tool_calls.empty() && !answer.text.empty() &&
                     answer.finish_reason != core::FinishReason::kLength;
  if (!wanted || !whole) return;
  engine_.cache_->Store(request_, {.text = answer.text,
                                   .provider = answer.served_by->provider,
                                   .model = answer.served_by->model});
}

// The stream broke and nobody goes on with it.
void Call::SettleBroken() {
  if (Worst() < core::Degradation::kPartial) return SettleFailed();
  SettlePartial();
}

// ---------------------------------------------------------------------- below the chain

core::Task<void> Call::ServeStale() {
  if (!AsksCache() || delivery_.committed() || Worst() < core::Degradation::kStale) co_return;
  const core::CacheQuery query = QueryOf(options_.cache.min_similarity);
  const SteadyTime by =
      std::min(Now() + kLookupTime, plan_.soft_deadline() - kLadderEnd + kLookupTail);
  std::optional<core::CacheHit> hit =
      co_await engine_.cache_->Lookup(engine_.loop_, request_, query, by);
  SettleIfCancelled();
  if (!settled() && hit) SettleHit(*std::move(hit), core::Degradation::kStale);
}

void Call::SettleHit(core::CacheHit hit, core::Degradation degradation) {
  core::Answer answer;
  answer.text = hit.text;
  answer.finish_reason = core::FinishReason::kStop;
  answer.degradation = degradation;
  answer.served_by = core::TargetName{hit.provider, hit.model};
  answer.cache_hit = std::move(hit);
  settled_ = std::move(answer);
}

core::Task<void> Call::ServePartial() {
  if (Worst() < core::Degradation::kPartial) co_return;
  if (!salvage_ && !delivery_.resumable()) co_await ServeBasicAnswer();
  // Where no target can express the request, no waiting helps: the caller must hear of it.
  if (settled() || NoneIsCapable()) co_return;
  SettlePartial();
}

// What the caller has of the answer; else the longest text of an attempt; else the notice alone.
void Call::SettlePartial() {
  core::Answer answer;
  answer.degradation = core::Degradation::kPartial;
  answer.notice = options_.partial.notice;
  if (delivery_.resumable() && delivered_) {
    answer.text = delivery_.text();
    answer.usage = delivered_->usage;
    answer.served_by = delivered_->target;
  } else if (salvage_) {
    answer.text = std::move(salvage_->text);
    answer.usage = salvage_->usage;
    answer.served_by = salvage_->target;
  } else {
    answer.text = answer.notice;
  }
  settled_ = std::move(answer);
}

core::Task<void> Call::ServeBasicAnswer() {
  if (route_.partial_target() == nullptr) co_return;
  const Step& step = *options_.partial.target;
  Target& target = *route_.partial_target();
  const Duration left = plan_.soft_deadline() - Now() - kLadderEnd;
  std::string denied = WhyNot(step);
  if (denied.empty() && (!IsUseful(left, options_.min_useful, attempts_used_ > 0) ||
                         context_.hurry.stop_requested())) {
    denied = "no_time";
  }
  std::optional<Permits> permits;
  if (denied.empty()) permits = Acquire(target, denied);
  if (!permits) {
    Skip(step, std::move(denied));
    co_return;
  }
  const SteadyTime by = Now() + left;
  core::Attempt attempt;
  attempt.idempotency_key = context_.call_id + "-partial";
  const AttemptLimits limits{.timeouts = step.timeouts, .first_content_by = by, .end_by = by};
  bool resent = false;
  Delivery::Turn turn(delivery_, {step.target, core::Degradation::kPartial, std::nullopt},
                      /*continues=*/false);
  AttemptWiring wiring{.cancelled = context_.cancelled,
                       .hurry = context_.hurry,
                       .beaten = {},
                       .listener = &turn,
                       .commits = delivery_.streams()};
  AttemptEnd end =
      co_await Attempt(step, target, std::move(attempt), limits, std::move(wiring), resent);
  Report(target, std::move(*permits), end, /*first_attempt=*/false);
  BindCooldown(target, end, FullJitter(options_.retry.backoff, 0, engine_.random_));
  core::AttemptRecord& record = Record(step, end, Duration::zero());
  KeepForSalvage(step.target, end);
  if (delivery_.committed() && end.has_content()) {
    delivered_ = Salvage{{}, step.target, record.usage};
  }
  engine_.observer_.OnAttempt(request_, record);
  if (end.outcome.kind == OutcomeKind::kPaused) SettlePaused();
  SettleIfCancelled();
  if (settled() || end.outcome.kind != OutcomeKind::kComplete) co_return;
  core::Answer answer;
  answer.text = std::move(end.text);
  answer.tool_calls = std::move(end.tool_calls);
  answer.finish_reason = end.finish_reason;
  answer.usage = record.usage;
  answer.degradation = core::Degradation::kPartial;
  answer.notice = options_.partial.notice;
  answer.served_by = step.target;
  settled_ = std::move(answer);
}

// ----------------------------------------------------------------------------- the ends

void Call::SettleExpired() {
  const Duration late = Now() - plan_.deadline();
  engine_.observer_.OnExpired(request_, late);
  SettleError({.code = core::ErrorCode::kDeadlineExceeded,
               .reason = "DEADLINE_EXCEEDED",
               .message = "the deadline had passed before any work was done"});
}

void Call::SettleShed(Admission::Refusal refusal) { SettleError(RefusalError(refusal)); }

void Call::SettleFailed() {
  core::Error error;
  if (NoneIsCapable()) {
    error = {.code = core::ErrorCode::kInvalidArgument,
             .reason = "NO_CAPABLE_TARGET",
             .message = "no target of the route can express the request"};
    if (!records_.empty() && !records_.front().error.empty()) {
      error.message += ": " + records_.front().error;
    }
  } else if (Now() >= plan_.deadline()) {
    error = {.code = core::ErrorCode::kDeadlineExceeded,
             .reason = "DEADLINE_EXCEEDED",
             .message = "the deadline has passed"};
  } else if (std::ranges::all_of(ends_, [](StepEnd e) {
               return e == StepEnd::kLimited || e == StepEnd::kInexpressible;
             })) {
    error = {.code = core::ErrorCode::kResourceExhausted,
             .reason = "ALL_TARGETS_LIMITED",
             .message = "every target was stopped by rate, quota, cooldown, concurrency or cost",
             .retry_after = EarliestReady()};
  } else {
    error = {.code = core::ErrorCode::kUnavailable,
             .reason = "ALL_TARGETS_FAILED",
             .message = "no target of the route could answer",
             .retry_after = EarliestReady()};
  }
  SettleError(std::move(error));
}

void Call::SettleError(core::Error error) { settled_ = std::move(error); }

void Call::SettleIfCancelled() {
  if (!settled() && context_.cancelled.stop_requested()) SettleCancelled();
}

void Call::SettleCancelled() {
  SettleError({.code = core::ErrorCode::kCancelled,
               .reason = "CANCELLED",
               .message = "the caller cancelled the call"});
}

void Call::SettlePaused() {
  SettleError(
      {.code = core::ErrorCode::kResourceExhausted,
       .reason = "READER_TOO_SLOW",
       .message = "the caller did not read its stream for " + core::FormatDuration(kMaxPause)});
}

core::Result Call::Finish() {
  core::Result result;
  if (const auto* answer = std::get_if<core::Answer>(&*settled_)) delivery_.Complete(*answer);
  result.value = std::move(*settled_);
  result.cost_usd = Sunk();
  result.attempts = std::move(records_);
  result.time_budget = {.total = plan_.total(), .used = Now() - context_.arrival};
  return result;
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
