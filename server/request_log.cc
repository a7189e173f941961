#include "server/request_log.h"

#include <algorithm>

#include "core/outcome.h"
#include "server/response_writer.h"
#include "server/status_name.h"

namespace holdfast::server {
namespace {

double Millis(core::Duration d) {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(d).count()) /
         1000;
}

LogFields Who(const RequestInfo& info) {
  return {{"request_id", info.request_id}, {"tenant", info.tenant}, {"route", info.route}};
}

void AddTarget(LogFields& fields, const core::TargetName& target) {
  fields.emplace_back("provider", target.provider);
  fields.emplace_back("model", target.model);
}

void AddLabels(LogFields& fields, const RequestInfo& info) {
  for (const auto& [key, value] : info.labels) fields.emplace_back("label." + key, value);
}

void AddAnswer(LogFields& fields, const core::Answer& answer) {
  fields.emplace_back("served_by", answer.served_by
                                       ? answer.served_by->provider + "/" + answer.served_by->model
                                       : std::string("none"));
  fields.emplace_back("degradation", std::string(core::Name(answer.degradation)));
  fields.emplace_back("finish_reason", std::string(core::Name(answer.finish_reason)));
  fields.emplace_back("input_tokens", answer.usage.input_tokens);
  fields.emplace_back("output_tokens", answer.usage.output_tokens);
}

}  // namespace

void RequestLog::OnDone(const RequestInfo& info, const core::Result& result, core::Duration used,
                        std::optional<core::Duration> first_token) {
  const auto* answer = std::get_if<core::Answer>(&result.value);
  LogFields fields = Who(info);
  if (answer) {
    fields.emplace_back("status", std::string("OK"));
    AddAnswer(fields, *answer);
  } else {
    const auto& error = std::get<core::Error>(result.value);
    fields.emplace_back("status", std::string(StatusName(ToGrpc(error.code))));
    fields.emplace_back("reason", error.reason);
  }
  const auto skipped = std::count_if(result.attempts.begin(), result.attempts.end(),
                                     [](const core::AttemptRecord& a) { return a.skipped; });
  fields.emplace_back("attempts", static_cast<int64_t>(result.attempts.size()) - skipped);
  fields.emplace_back("skipped", static_cast<int64_t>(skipped));
  if (first_token) fields.emplace_back("first_token_ms", Millis(*first_token));
  fields.emplace_back("time_ms", Millis(used));
  fields.emplace_back("cost_usd", result.cost_usd);
  AddLabels(fields, info);
  log_.Write(Log::Level::kInfo, "request", fields);
  if (answer) WarnDegraded(info, *answer);
}

void RequestLog::OnRejected(const RequestInfo& info, const core::Error& error,
                            core::Duration used) {
  LogFields fields = Who(info);
  fields.emplace_back("status", std::string(StatusName(ToGrpc(error.code))));
  fields.emplace_back("reason", error.reason);
  if (!error.field.empty()) fields.emplace_back("field", error.field);
  fields.emplace_back("attempts", int64_t{0});
  fields.emplace_back("time_ms", Millis(used));
  AddLabels(fields, info);
  log_.Write(Log::Level::kInfo, "request", fields);
}

void RequestLog::WarnDegraded(const RequestInfo& info, const core::Answer& answer) {
  if (answer.degradation < core::Degradation::kStale) return;
  LogFields fields = Who(info);
  fields.emplace_back("degradation", std::string(core::Name(answer.degradation)));
  if (answer.cache_hit) {
    fields.emplace_back("similarity", answer.cache_hit->similarity);
    fields.emplace_back("age_s", core::ToSeconds(answer.cache_hit->age));
  }
  log_.Write(Log::Level::kWarning, "degraded_answer", fields);
}

void RequestLog::OnReaderTooSlow(const RequestInfo& info) {
  log_.Write(Log::Level::kWarning, "reader_too_slow", Who(info));
}

void RequestLog::OnBreaker(const core::TargetName& target, const resilience::BreakerEvent& event) {
  LogFields fields;
  AddTarget(fields, target);
  fields.emplace_back("from", std::string(resilience::Name(event.from)));
  fields.emplace_back("to", std::string(resilience::Name(event.to)));
  fields.emplace_back("reason", event.reason);
  log_.Write(Log::Level::kWarning, "breaker", fields);
}

void RequestLog::OnAttempt(const core::Request& request, const core::AttemptRecord& record) {
  if (record.outcome != core::Name(core::OutcomeKind::kModelNotFound)) return;
  {
    std::lock_guard lock(mutex_);
    if (!unknown_models_.emplace(record.target.provider, record.target.model).second) return;
  }
  LogFields fields = {{"request_id", request.request_id}, {"route", request.route}};
  AddTarget(fields, record.target);
  fields.emplace_back("http_status", int64_t{record.http_status});
  log_.Write(Log::Level::kWarning, "model_not_found", fields);
}

void RequestLog::OnRetry(const core::Request& request, const core::AttemptRecord& failed,
                         core::Duration delay) {
  LogFields fields = {{"request_id", request.request_id}, {"route", request.route}};
  AddTarget(fields, failed.target);
  fields.emplace_back("outcome", failed.outcome);
  fields.emplace_back("http_status", int64_t{failed.http_status});
  fields.emplace_back("delay_ms", Millis(delay));
  log_.Write(Log::Level::kWarning, "retry", fields);
}

void RequestLog::OnExpired(const core::Request& request, core::Duration late) {
  log_.Write(
      Log::Level::kInfo, "expired",
      {{"request_id", request.request_id}, {"route", request.route}, {"late_ms", Millis(late)}});
}

}  // namespace holdfast::server
