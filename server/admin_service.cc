#include "server/admin_service.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/outcome.h"
#include "resilience/plan.h"
#include "server/admin_refusal.h"
#include "server/proto_convert.h"

namespace holdfast::server {
namespace {

grpc::ServerUnaryReactor* Done(grpc::CallbackServerContext* context, const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

v1::BreakerState ToProto(resilience::BreakerState state) {
  switch (state) {
    case resilience::BreakerState::kClosed:
      return v1::BREAKER_STATE_CLOSED;
    case resilience::BreakerState::kOpen:
      return v1::BREAKER_STATE_OPEN;
    case resilience::BreakerState::kHalfOpen:
      return v1::BREAKER_STATE_HALF_OPEN;
    case resilience::BreakerState::kForcedOpen:
      return v1::BREAKER_STATE_FORCED_OPEN;
    case resilience::BreakerState::kForcedClosed:
      return v1::BREAKER_STATE_FORCED_CLOSED;
  }
  HOLDFAST_CHECK(false);
}

v1::BreakerStatus ToProto(const resilience::BreakerSnapshot& breaker) {
  v1::BreakerStatus out;
  out.set_state(ToProto(breaker.state));
  out.set_generation(breaker.generation);
  out.set_successes(breaker.successes);
  out.set_failures(breaker.failures);
  out.set_censored(breaker.censored);
  out.set_consecutive_failures(breaker.consecutive_failures);
  *out.mutable_open_for() = server::ToProto(breaker.open_for);
  out.set_open_step(breaker.open_step);
  out.set_probes_in_flight(breaker.probes_in_flight);
  out.set_probe_successes(breaker.probe_successes);
  out.set_late_results(breaker.late_results);
  out.set_leaked(breaker.leaked);
  return out;
}

core::Duration Left(const resilience::Cooldown& cooldown, core::SteadyTime now) {
  return std::max(cooldown.until() - now, core::Duration::zero());
}

v1::TargetStatus ToProto(const resilience::Target& target, core::SteadyTime now) {
  v1::TargetStatus out;
  *out.mutable_target() = server::ToProto(target.options.name);
  *out.mutable_breaker() = ToProto(target.breaker.Snapshot());
  const core::Duration own = Left(target.cooldown, now);
  const core::Duration shared = Left(target.credential.cooldown, now);
  *out.mutable_cooldown() = server::ToProto(own);
  *out.mutable_credential_cooldown() = server::ToProto(shared);
  if (own > core::Duration::zero() || shared > core::Duration::zero()) {
    out.set_cooldown_reason(own >= shared ? target.cooldown.reason()
                                          : target.credential.cooldown.reason());
  }
  out.mutable_limiter()->set_limit(target.limiter.limit());
  out.mutable_limiter()->set_in_flight(target.limiter.in_flight());
  out.mutable_limiter()->set_rejected(target.limiter.rejected());
  const core::OutcomeKind last = target.last_failure;
  if (last != core::OutcomeKind::kComplete) out.set_last_error(core::Name(last));
  return out;
}

v1::PlannedStage ToProto(const resilience::PlannedStage& stage) {
  v1::PlannedStage out;
  out.set_stage(stage.stage);
  if (stage.target) *out.mutable_target() = server::ToProto(*stage.target);
  out.set_attempt(stage.attempt);
  *out.mutable_start_offset() = server::ToProto(stage.start_offset);
  *out.mutable_allotted() = server::ToProto(stage.allotted);
  out.set_skipped(stage.skipped);
  return out;
}

}  // namespace

AdminService::AdminService(AdminDeps deps, AdminFacts facts)
    : deps_(deps),
      facts_(std::move(facts)),
      cache_({deps.clock, deps.routes, deps.reader, deps.cache}) {}

grpc::ServerUnaryReactor* AdminService::GetStatus(grpc::CallbackServerContext* context,
                                                  const v1::GetStatusRequest* request,
                                                  v1::GetStatusResponse* response) {
  FillStatus(*request, *response);
  return Done(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::SetBreaker(grpc::CallbackServerContext* context,
                                                   const v1::SetBreakerRequest* request,
                                                   v1::SetBreakerResponse* response) {
  return Done(context, Steer(*request, *response));
}

grpc::ServerUnaryReactor* AdminService::GetCacheStats(grpc::CallbackServerContext* context,
                                                      const v1::GetCacheStatsRequest*,
                                                      v1::GetCacheStatsResponse* response) {
  return Blocking(context, Priority::kUrgent, [this, response] {
    cache_.FillStats(*response);
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* AdminService::GetCalibration(grpc::CallbackServerContext* context,
                                                       const v1::GetCalibrationRequest* request,
                                                       v1::GetCalibrationResponse* response) {
  if (!request->route().empty() && !deps_.routes.contains(request->route())) {
    return Done(context, Refuse(core::ErrorCode::kNotFound, "UNKNOWN_ROUTE", "route",
                                "names no route of the configuration"));
  }
  return Blocking(context, Priority::kUrgent, [this, route = request->route(), response] {
    cache_.FillCalibration(route, *response);
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* AdminService::PurgeCache(grpc::CallbackServerContext* context,
                                                   const v1::PurgeCacheRequest* request,
                                                   v1::PurgeCacheResponse* response) {
  return Blocking(context, Priority::kUrgent,
                  [this, request, response] { return cache_.Purge(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ExplainCache(grpc::CallbackServerContext* context,
                                                     const v1::ExplainCacheRequest* request,
                                                     v1::ExplainCacheResponse* response) {
  return Blocking(context, Priority::kUrgent,
                  [this, request, response] { return cache_.Explain(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ExportCache(grpc::CallbackServerContext* context,
                                                    const v1::ExportCacheRequest* request,
                                                    v1::ExportCacheResponse* response) {
  return Blocking(context, Priority::kNormal,
                  [this, request, response] { return cache_.Export(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::ImportCache(grpc::CallbackServerContext* context,
                                                    const v1::ImportCacheRequest* request,
                                                    v1::ImportCacheResponse* response) {
  return Blocking(context, Priority::kNormal,
                  [this, request, response] { return cache_.Import(*request, *response); });
}

grpc::ServerUnaryReactor* AdminService::GetConfig(grpc::CallbackServerContext* context,
                                                  const v1::GetConfigRequest*,
                                                  v1::GetConfigResponse* response) {
  response->set_path(facts_.config_path);
  response->set_yaml(facts_.config_yaml);
  *response->mutable_loaded_at() = server::ToProto(facts_.config_loaded_at);
  return Done(context, grpc::Status::OK);
}

grpc::ServerUnaryReactor* AdminService::ExplainPlan(grpc::CallbackServerContext* context,
                                                    const v1::ExplainPlanRequest* request,
                                                    v1::ExplainPlanResponse* response) {
  return Done(context, Explain(*request, *response));
}

grpc::ServerUnaryReactor* AdminService::Blocking(grpc::CallbackServerContext* context,
                                                 Priority priority,
                                                 std::function<grpc::Status()> job) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool queued =
      deps_.pool.Submit(priority, [reactor, job = std::move(job)] { reactor->Finish(job()); });
  if (!queued) {
    reactor->Finish(grpc::Status(grpc::UNAVAILABLE, "the server is busy; try again"));
  }
  return reactor;
}

grpc::Status AdminService::Steer(const v1::SetBreakerRequest& request,
                                 v1::SetBreakerResponse& response) {
  resilience::Target* target =
      deps_.targets.Find({request.target().provider(), request.target().model()});
  if (target == nullptr) {
    return Refuse(core::ErrorCode::kNotFound, "UNKNOWN_TARGET", "target",
                  "names no provider entry and model of the configuration");
  }
  switch (request.action()) {
    case v1::SetBreakerRequest::ACTION_FORCE_OPEN:
      target->breaker.ForceOpen();
      break;
    case v1::SetBreakerRequest::ACTION_FORCE_CLOSE:
      target->breaker.ForceClosed();
      break;
    case v1::SetBreakerRequest::ACTION_RESET:
      target->breaker.Reset();
      break;
    default:
      return BadField("action", "must be FORCE_OPEN, FORCE_CLOSE or RESET");
  }
  *response.mutable_breaker() = ToProto(target->breaker.Snapshot());
  return grpc::Status::OK;
}

grpc::Status AdminService::Explain(const v1::ExplainPlanRequest& request,
                                   v1::ExplainPlanResponse& response) {
  const auto route = deps_.routes.find(request.route().empty() ? "default" : request.route());
  if (route == deps_.routes.end()) {
    return Refuse(core::ErrorCode::kNotFound, "UNKNOWN_ROUTE", "route",
                  "names no route of the configuration");
  }
  std::optional<core::Duration> deadline;
  if (request.has_deadline()) {
    deadline = FromProto(request.deadline());
    if (!deadline || *deadline <= core::Duration::zero()) {
      return BadField("deadline", "must be a duration longer than 0");
    }
  }
  const resilience::ExplainedPlan plan =
      resilience::Explain(route->second->options(), deadline, facts_.max_timeout);
  *response.mutable_total() = server::ToProto(plan.total);
  *response.mutable_soft_deadline() = server::ToProto(plan.soft_deadline);
  *response.mutable_tail() = server::ToProto(plan.tail);
  for (const auto& stage : plan.if_all_hang) *response.add_if_all_hang() = ToProto(stage);
  for (const auto& stage : plan.if_all_fail) *response.add_if_all_fail() = ToProto(stage);
  return grpc::Status::OK;
}

void AdminService::FillStatus(const v1::GetStatusRequest& request,
                              v1::GetStatusResponse& response) const {
  const core::SteadyTime now = deps_.clock.Now();
  response.set_version(facts_.version);
  *response.mutable_uptime() = server::ToProto(now - facts_.started_at);
  response.set_in_progress(deps_.admission.in_progress());
  response.set_queued(deps_.admission.queued());
  response.set_shed(deps_.admission.shed());
  cache_.FillStatus(*response.mutable_cache());
  for (const auto& target : deps_.targets.all()) {
    const core::TargetName& name = target->options.name;
    if (!request.provider().empty() && request.provider() != name.provider) continue;
    if (!request.model().empty() && request.model() != name.model) continue;
    *response.add_targets() = ToProto(*target, now);
  }
  for (const auto& [name, route] : deps_.routes) {
    v1::RetryBudgetStatus& budget = *response.add_retry_budgets();
    budget.set_route(name);
    budget.set_tokens(route->budget().level());
    budget.set_in_flight(route->budget().in_flight());
  }
}

}  // namespace holdfast::server
