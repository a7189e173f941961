#pragma once

// The composition root: builds everything from a Config, serves, drains. main makes one and calls
// it from its own thread; nothing else knows it. Construction order is the order of the members;
// Stop takes them down in the order that design allows:
//
//   health NOT_SERVING, admission closed, calls in progress go on for `drain`, those left end by
//   the ladder, those still left are cancelled; every reactor has finished; gRPC servers shut down;
//   the pool has run what it had; loops stop; RocksDB closes.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cache/judge.h"
#include "cache/semantic_cache.h"
#include "cache/verify/freshness.h"
#include "core/blocking_pool.h"
#include "core/clock.h"
#include "core/embedder.h"
#include "core/random.h"
#include "grpcpp/grpcpp.h"
#include "providers/http/curl_loop.h"
#include "resilience/admission.h"
#include "resilience/engine.h"
#include "resilience/target.h"
#include "server/admin_service.h"
#include "server/config/config.h"
#include "server/generate_service.h"
#include "server/guarded_embedder.h"
#include "server/log.h"
#include "server/request_log.h"
#include "server/request_reader.h"

namespace holdfast::server {

class Server {
 public:
  // Serves on both addresses when it returns. `config_path` is for people to read. Fails with a
  // sentence for a person: an address in use, a log file that cannot be opened.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Config config, std::string config_path,
                                                       std::vector<std::string> warnings = {});
  ~Server();  // Stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // "127.0.0.1:50051", with the port that was bound where the configuration said 0.
  const std::string& address() const { return address_; }
  const std::string& admin_address() const { return admin_address_; }

  // Drains and takes everything down; returns when that is done. A second call does nothing.
  void Stop();

 private:
  Server(Config config, std::string config_path, std::unique_ptr<Log> log,
         std::unique_ptr<const core::Embedder> embedder);

  absl::Status Listen();
  void MakeEngines();
  std::vector<Lane> Lanes();
  void WarnUnauthenticated(core::Loop& loop);
  void TendCache(core::Loop& loop);
  void TellWhenCacheIsReady(core::Loop& loop);

  const Config config_;
  const core::SystemClock clock_;
  const std::unique_ptr<core::Random> random_;
  const std::unique_ptr<Log> log_;
  RequestLog request_log_;
  const std::unique_ptr<const core::Embedder> embedder_;
  const std::unique_ptr<const cache::Judge> judge_;
  const cache::FreshnessJudge fresh_judge_;
  std::unique_ptr<providers::CurlLoop> embedder_loop_;  // null without a remote embedder
  std::unique_ptr<const GuardedEmbedder> remote_embedder_;
  std::unique_ptr<core::BlockingPool> pool_;
  std::unique_ptr<cache::SemanticCache> cache_;
  resilience::Admission admission_;
  resilience::TargetSet targets_;
  resilience::Engine::Routes routes_;
  std::vector<std::unique_ptr<providers::CurlLoop>> loops_;
  std::vector<std::unique_ptr<resilience::Engine>> engines_;  // parallel to loops_
  RequestReader reader_;
  std::unique_ptr<GenerateService> generate_;
  std::unique_ptr<AdminService> admin_;
  std::mutex health_mutex_;
  grpc::HealthCheckServiceInterface* health_ = nullptr;  // server_'s; guarded by health_mutex_
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<grpc::Server> admin_server_;
  std::string address_;
  std::string admin_address_;
};

}  // namespace holdfast::server
