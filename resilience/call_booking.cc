#include <algorithm>
#include <utility>

#include "resilience/call.h"
#include "resilience/cost.h"
#include "resilience/json_check.h"

namespace holdfast::resilience {

using core::Duration;
using core::OutcomeKind;

void Call::Report(Flight& flight) {
  Target& target = route_.target(flight.run.index);
  const AttemptEnd& end = *flight.end;
  if (end.first_content_after && flight.turn->prefix().empty()) {
    target.first_token_times.Add(*end.first_content_after);
  }
  if (end.outcome.kind == OutcomeKind::kBeaten && flight.hedge) {
    flight.permits.limiter.Ignore();
    flight.permits.breaker.Neutral();
    return;
  }
  Report(target, std::move(flight.permits), end, flight.run.number == 1 && !flight.hedge);
}

void Call::Report(Target& target, Permits permits, const AttemptEnd& end, bool first_attempt) {
  const OutcomeRule& rule = RuleOf(end.outcome.kind);
  switch (rule.limiter) {
    case OutcomeRule::LimiterEffect::kSuccess:
      permits.limiter.Success();
      break;
    case OutcomeRule::LimiterEffect::kDrop:
      permits.limiter.Drop();
      break;
    case OutcomeRule::LimiterEffect::kIgnore:
      permits.limiter.Ignore();
      break;
  }
  const bool observed = !end.has_content() && end.ended - end.started >= kMinObservation;
  switch (rule.breaker) {
    case OutcomeRule::BreakerEffect::kSuccess:
      permits.breaker.Success();
      break;
    case OutcomeRule::BreakerEffect::kFailure:
      permits.breaker.Failure(end.outcome.retry_after);
      break;
    case OutcomeRule::BreakerEffect::kNeutral:
      permits.breaker.Neutral();
      break;
    case OutcomeRule::BreakerEffect::kCensored:
      observed ? permits.breaker.Censored() : permits.breaker.Neutral();
      break;
  }
  if (rule.breaker == OutcomeRule::BreakerEffect::kSuccess) {
    target.credential.quarantine.OnAuthSuccess();
    if (first_attempt) route_.budget().OnFirstAttemptSuccess();
  } else if (RuleOf(end.outcome.kind).next != OutcomeRule::NextTarget::kNo) {
    target.last_failure = end.outcome.kind;
  }
}

void Call::BindCooldown(Target& target, const AttemptEnd& end, Duration own_delay) {
  using C = OutcomeRule::Cooldown;
  const C what = RuleOf(end.outcome.kind).cooldown;
  std::optional<Duration> told = end.outcome.retry_after;
  if (told) told = std::min(*told, kMaxRetryAfter);
  const bool whole_credential =
      what == C::kQuota ||
      (what == C::kRateLimit && target.options.rate_limit_scope == RateLimitScope::kCredential);
  Cooldown& bound = whole_credential ? target.credential.cooldown : target.cooldown;
  switch (what) {
    case C::kNone:
      return;
    case C::kIfTold:
      if (told) bound.ExtendTo(end.ended + *told, core::Name(end.outcome.kind));
      return;
    case C::kRateLimit:
      bound.ExtendTo(end.ended + told.value_or(own_delay), "rate_limited");
      return;
    case C::kQuota:
      bound.ExtendTo(end.ended + told.value_or(kQuotaCooldown), "quota");
      return;
    case C::kQuarantine: {
      // Calls that were in flight together are one failure of the credential, not a row of them.
      if (!target.credential.cooldown.Passed(end.started)) return;
      const Duration rest = target.credential.quarantine.OnAuthFailure();
      const Duration longest = std::max(rest, told.value_or(Duration::zero()));
      if (longest > Duration::zero()) {
        target.credential.cooldown.ExtendTo(end.ended + longest, "auth");
      }
      return;
    }
  }
}

void Call::CheckJson(AttemptEnd& end) const {
  if (end.outcome.kind != OutcomeKind::kComplete || !end.tool_calls.empty()) return;
  if (std::string why = WhyNotJson(request_.response_format, end.text); !why.empty()) {
    end.outcome.kind = OutcomeKind::kInvalidJson;
    end.outcome.error = std::move(why);
  }
}

void Call::KeepForSalvage(const core::TargetName& target, const AttemptEnd& end) {
  const bool text_only =
      request_.response_format.kind == core::ResponseFormat::Kind::kText && end.tool_calls.empty();
  if (!RuleOf(end.outcome.kind).salvage || !text_only || end.text.empty()) return;
  if (salvage_ && salvage_->text.size() >= end.text.size()) return;
  salvage_ = Salvage{end.text, target, records_.back().usage};
}

core::AttemptRecord& Call::Record(const Step& step, const AttemptEnd& end, Duration delay) {
  core::AttemptRecord record;
  record.target = step.target;
  record.outcome = core::Name(end.outcome.kind);
  record.http_status = end.outcome.http_status;
  record.error = end.outcome.error;
  record.start_offset = end.started - context_.arrival;
  record.duration = end.ended - end.started;
  record.delay_before = delay;
  record.usage = end.usage;
  const bool complete = RuleOf(end.outcome.kind).breaker == OutcomeRule::BreakerEffect::kSuccess ||
                        end.outcome.kind == OutcomeKind::kInvalidJson;
  // What a beaten attempt would have cost is not known; its prompt was read.
  const bool generated =
      end.has_content() || end.reasoning_bytes > 0 || end.outcome.kind == OutcomeKind::kBeaten;
  if (generated && !(complete && end.usage_told)) {
    size_t bytes = end.text.size() + end.reasoning_bytes;
    for (const core::ToolCall& call : end.tool_calls) bytes += call.arguments.size();
    record.usage_estimated = true;
    record.usage.output_tokens = std::max(record.usage.output_tokens, EstimateTextTokens(bytes));
    if (record.usage.input_tokens == 0) record.usage.input_tokens = EstimatePromptTokens(prompt_);
  }
  if (step.price) record.cost_usd = CostOf(*step.price, record.usage);
  records_.push_back(std::move(record));
  return records_.back();
}

void Call::Skip(const Step& step, std::string reason) {
  core::AttemptRecord record;
  record.target = step.target;
  record.skipped = true;
  record.outcome = std::move(reason);
  record.start_offset = Now() - context_.arrival;
  if (record.outcome == "inexpressible") {
    record.error = engine_.ProviderOf(step.target).Inexpressible(request_).value_or("");
  }
  engine_.observer_.OnAttempt(request_, record);
  records_.push_back(std::move(record));
}

}  // namespace holdfast::resilience
