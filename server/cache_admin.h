#pragma once

// The cache's part of the admin API: messages of it to calls of the cache and back. AdminService
// owns it and calls it on the pool's threads: all of it may block. Thread safe.

#include "cache/semantic_cache.h"
#include "core/clock.h"
#include "grpcpp/support/status.h"
#include "holdfast/v1/admin.pb.h"
#include "resilience/engine.h"
#include "server/request_reader.h"

namespace holdfast::server {

// All borrowed.
struct CacheAdminDeps {
  const core::Clock& clock;
  const resilience::Engine::Routes& routes;
  const RequestReader& reader;
  cache::SemanticCache& cache;
};

class CacheAdmin {
 public:
  explicit CacheAdmin(CacheAdminDeps deps) : deps_(deps) {}

  void FillStatus(v1::CacheStatus& status) const;
  void FillStats(v1::GetCacheStatsResponse& response) const;
  // Of this route; empty = of all.
  void FillCalibration(const std::string& route, v1::GetCalibrationResponse& response) const;
  grpc::Status Purge(const v1::PurgeCacheRequest& request, v1::PurgeCacheResponse& response);
  grpc::Status Explain(const v1::ExplainCacheRequest& request, v1::ExplainCacheResponse& response);
  grpc::Status Export(const v1::ExportCacheRequest& request,
                      v1::ExportCacheResponse& response) const;
  grpc::Status Import(const v1::ImportCacheRequest& request, v1::ImportCacheResponse& response);

 private:
  // What a lookup holds entries against.
  struct Limits {
    core::CacheQuery query;
    double min_cosine = 0;
    v1::CalibratedThreshold calibrated;
  };
  Limits LimitsOf(const core::Request& request, core::CacheQuery query) const;
  void ExplainPreferred(const resilience::Route& route, const core::Request& request,
                        v1::PreferredLookup& out);

  const CacheAdminDeps deps_;
};

}  // namespace holdfast::server
