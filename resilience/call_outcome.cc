// What follows from the end of an attempt (sections 2, 4, 5 and 7): an answer, an error, a retry,
// the next target.

#include <algorithm>
#include <utility>

#include "resilience/backoff.h"
#include "resilience/call.h"

namespace holdfast::resilience {

using core::Duration;
using core::OutcomeKind;
using core::SteadyTime;
using Same = OutcomeRule::SameTarget;

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
  const bool shown = delivery_.committed() && end.has_content();
  const bool is_final = options_.on_refusal == OnRefusal::kFinal || run.index + 1 == steps_ ||
                        (shown && on_break_ == core::OnBreak::kPartial);
  // It would not go on with what another target has begun: a refusal of the whole.
  if (!shown && delivery_.committed() && !delivery_.refused()) {
    if (is_final) SettleBroken();
    return settled() ? Next::kSettled : Next::kStepOver;
  }
  if (shown) delivery_.MarkRefused();
  if (refusal_) return Next::kStepOver;  // the first one stands
  SettleAnswer(run.index, std::move(end));
  if (is_final) return Next::kSettled;
  refusal_ = std::get<core::Answer>(std::move(*settled_));
  settled_.reset();
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

}  // namespace holdfast::resilience
