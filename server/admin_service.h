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
#include "server/cache_admin.h"
#include "server/request_reader.h"

namespace holdfast::server {

// All borrowed; must outlive the service and its calls.
struct AdminDeps {
  const core::Clock& clock;
  core::BlockingPool& pool;
  const resilience::Admission& admission;
  const resilience::TargetSet& targets;
  const resilience::Engine::Routes& routes;
  const RequestReader& reader;
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
  grpc::ServerUnaryReactor* ExplainCache(grpc::CallbackServerContext* context,
                                         const v1::ExplainCacheRequest* request,
                                         v1::ExplainCacheResponse* response) override;
  grpc::ServerUnaryReactor* ExportCache(grpc::CallbackServerContext* context,
                                        const v1::ExportCacheRequest* request,
                                        v1::ExportCacheResponse* response) override;
  grpc::ServerUnaryReactor* ImportCache(grpc::CallbackServerContext* context,
                                        const v1::ImportCacheRequest* request,
                                        v1::ImportCacheResponse* response) override;
  grpc::ServerUnaryReactor* GetConfig(grpc::CallbackServerContext* context,
                                      const v1::GetConfigRequest* request,
                                      v1::GetConfigResponse* response) override;
  grpc::ServerUnaryReactor* ExplainPlan(grpc::CallbackServerContext* context,
                                        const v1::ExplainPlanRequest* request,
                                        v1::ExplainPlanResponse* response) override;

 private:
  using Priority = core::BlockingPool::Priority;

  // Runs `job` on the pool and finishes with what it returns.
  grpc::ServerUnaryReactor* Blocking(grpc::CallbackServerContext* context, Priority priority,
                                     std::function<grpc::Status()> job);

  grpc::Status Steer(const v1::SetBreakerRequest& request, v1::SetBreakerResponse& response);
  grpc::Status Explain(const v1::ExplainPlanRequest& request, v1::ExplainPlanResponse& response);
  void FillStatus(const v1::GetStatusRequest& request, v1::GetStatusResponse& response) const;

  const AdminDeps deps_;
  const AdminFacts facts_;
  CacheAdmin cache_;
};

}  // namespace holdfast::server
