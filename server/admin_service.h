#pragma once

// holdfast.v1.AdminService: shows and steers a running server. The server owns it and serves it on
// a loopback address of its own. Reading and forcing state takes short locks only and happens on
// gRPC's threads; what touches the disk goes to the blocking pool.

#include <functional>
#include <string>

#include "cache/semantic_cache.h"
#include "core/blocking_pool.h"
#include "core/clock.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "resilience/admission.h"
#include "resilience/engine.h"
#include "resilience/target.h"

namespace holdfast::server {

// All borrowed; must outlive the service and its calls.
struct AdminDeps {
  const core::Clock& clock;
  core::BlockingPool& pool;
  const resilience::Admission& admission;
  const resilience::TargetSet& targets;
  const resilience::Engine::Routes& routes;
  cache::SemanticCache& cache;
};

// What does not change while the server runs.
struct AdminFacts {
  std::string version;
  std::string config_path;
  std::string config_yaml;  // secrets masked
  core::WallTime config_loaded_at;
  core::SteadyTime started_at;
  core::Duration max_timeout{};
};

class AdminService final : public v1::AdminService::CallbackService {
 public:
  AdminService(AdminDeps deps, AdminFacts facts);

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* SetBreaker(grpc::CallbackServerContext* context,
                                       const v1::SetBreakerRequest* request,
                                       v1::SetBreakerResponse* response) override;
  grpc::ServerUnaryReactor* GetCacheStats(grpc::CallbackServerContext* context,
                                          const v1::GetCacheStatsRequest* request,
                                          v1::GetCacheStatsResponse* response) override;
  grpc::ServerUnaryReactor* GetCalibration(grpc::CallbackServerContext* context,
                                           const v1::GetCalibrationRequest* request,
                                           v1::GetCalibrationResponse* response) override;
  grpc::ServerUnaryReactor* PurgeCache(grpc::CallbackServerContext* context,
                                       const v1::PurgeCacheRequest* request,
                                       v1::PurgeCacheResponse* response) override;
  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context,
                                      const v1::GetConfigRequest* request,
                                      v1::GetConfigResponse* response) override;
  grpc::ServerUnaryReactor* ExplainPlan(grpc::CallbackServerContext* context,
                                        const v1::ExplainPlanRequest* request,
                                        v1::ExplainPlanResponse* response) override;

 private:
  // Runs `job` on the pool and finishes with what it returns.
  grpc::ServerUnaryReactor* Blocking(grpc::CallbackServerContext* context,
                                     std::function<grpc::Status()> job);

  grpc::Status Steer(const v1::SetBreakerRequest& request, v1::SetBreakerResponse& response);
  grpc::Status Explain(const v1::ExplainPlanRequest& request, v1::ExplainPlanResponse& response);
  void FillStatus(const v1::GetStatusRequest& request, v1::GetStatusResponse& response) const;
  void FillCacheStats(v1::GetCacheStatsResponse& response) const;

  const AdminDeps deps_;
  const AdminFacts facts_;
};

}  // namespace holdfast::server
