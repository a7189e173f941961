// The ladder below the chain (section 9): the stale answer, the partial one, the typed error.

#include <algorithm>
#include <utility>

#include "resilience/backoff.h"
#include "resilience/call.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::OutcomeKind;
using core::SteadyTime;

// A lookup never holds an answer up for longer than this, however much time is left.
constexpr Duration kLookupTime = std::chrono::seconds(1);
// The part of the ladder's end that a lookup may use; the rest is for writing the answer.
constexpr Duration kLookupTail = std::chrono::milliseconds(150);

}  // namespace

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

}  // namespace holdfast::resilience
