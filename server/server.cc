#include "server/server.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"
#include "core/check.h"
#include "google/protobuf/stubs/logging.h"
#include "grpc/support/log.h"
#include "grpcpp/health_check_service_interface.h"
#include "providers/registry.h"
#include "providers/remote_embedder.h"
#include "server/config/config_print.h"
#include "server/config/values.h"
#include "server/embedding.h"
#include "server/listener.h"

namespace holdfast::server {
namespace {

constexpr size_t kLookupThreads = 2;
constexpr size_t kStoreThreads = 1;
constexpr size_t kPoolQueue = 1024;
constexpr core::Duration kTendCacheEvery = std::chrono::seconds(10);
constexpr char kCacheHealth[] = "holdfast.cache";
constexpr core::Duration kCacheHealthEvery = std::chrono::milliseconds(100);
// A caller may overshoot limits.request fourfold and still hear from us, and not from gRPC, which
// field is at fault; beyond that the memory is worth more.
constexpr size_t kReceiveHeadroom = 4;
constexpr size_t kAdminReceiveBytes = 4 << 20;  // an import of 3 MiB, with room
// What the ladder's end takes, with room: .2 s for cache and notice.
constexpr core::Duration kHurryTime = std::chrono::seconds(2);
// Cancelled calls only have to run to their ends.
constexpr core::Duration kCancelTime = std::chrono::seconds(10);
// After the last call: callers who come again at once, and how long they may keep us.
constexpr core::Duration kQuiet = std::chrono::milliseconds(100);
constexpr core::Duration kQuietTime = std::chrono::seconds(1);
constexpr core::Duration kUnauthenticatedReminder = std::chrono::minutes(5);

// What gRPC and protobuf print by themselves would break the log's form, and protobuf prints one
// line for each string that a caller garbles. GRPC_VERBOSITY brings gRPC's words back.
//
// Debian builds Abseil with its debug checks, one of which looks for cycles among the locks that
// gRPC takes, at each of them.
void SilenceLibraries() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  if (std::getenv("GRPC_VERBOSITY") == nullptr) {
    gpr_set_log_function([](gpr_log_func_args*) {});
  }
  google::protobuf::SetLogHandler(nullptr);
}

std::set<std::string> RouteNames(const Config& config) {
  std::set<std::string> names;
  for (const resilience::Route& route : config.routes) names.insert(route.name);
  return names;
}

std::vector<resilience::TargetOptions> Targets(const Config& config) {
  std::vector<resilience::TargetOptions> targets;
  for (Deployment& deployment : Deployments(config))
    targets.push_back(std::move(deployment.target));
  return targets;
}

cache::SemanticCacheOptions CacheOptions(const Config& config, const core::Embedder* remote,
                                         Log& log) {
  cache::SemanticCacheOptions options;
  options.remote = remote;
  if (config.embedder.openai) options.remote_timeout = config.embedder.openai->timeout;
  options.directory = std::filesystem::path(config.data_dir) / "cache";
  options.max_entries = static_cast<size_t>(config.cache.max_entries);
  options.max_bytes = config.cache.max_bytes;
  options.max_entry_bytes = config.cache.max_entry_bytes;
  options.index_memory = config.cache.index_memory;
  options.encryption_key = absl::HexStringToBytes(config.cache.encryption_key);
  options.previous_key = absl::HexStringToBytes(config.cache.encryption_key_previous);
  // What no route serves any more is removed; of routes that are gone, as late as any.
  core::Duration longest{};
  for (const resilience::Route& route : config.routes) {
    options.route_retention[route.name] = route.cache.max_age;
    longest = std::max(longest, route.cache.max_age);
  }
  options.retention = longest;
  options.errors.share = config.cache.sample_share;
  options.errors.cpu = config.cache.sample_cpu;
  for (const resilience::Route& route : config.routes) {
    if (!route.cache.enabled) continue;
    options.scope_ignored.emplace(route.name, core::Patterns(route.cache.scope_ignore));
    options.errors.routes[route.name] = {
        .configured = {route.cache.min_similarity,
                       std::max(route.cache.min_similarity, route.cache.prefer_similarity)},
        .max_age = route.cache.max_age,
        .max_error = route.cache.max_error};
  }
  options.warn = [&log](const std::string& text) {
    log.Write(Log::Level::kWarning, "cache", {{"message", text}});
  };
  return options;
}

std::unique_ptr<const GuardedEmbedder> MakeRemoteEmbedder(const EmbedderOptions& options,
                                                          providers::CurlLoop* loop,
                                                          const core::Clock& clock,
                                                          core::Random& random) {
  if (!options.openai) return nullptr;
  const OpenAiEmbedder& openai = *options.openai;
  auto remote = std::make_unique<const providers::RemoteEmbedder>(
      providers::RemoteEmbedderOptions{.url = openai.base_url + "/embeddings",
                                       .api_key = openai.api_key,
                                       .model = openai.model,
                                       .version = openai.version,
                                       .dimension = static_cast<size_t>(openai.dimension),
                                       .timeout = openai.timeout},
      *loop, *loop);
  constexpr size_t kMoreThanABatch = 1000;
  return std::make_unique<const GuardedEmbedder>(
      std::move(remote), providers::LongestCall(openai.timeout, kMoreThanABatch), openai.breaker,
      clock, random);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Config config, std::string config_path,
                                                      std::vector<std::string> warnings) {
  SilenceLibraries();
  absl::StatusOr<std::unique_ptr<Log>> log = Log::Open(config.log);
  if (!log.ok()) return log.status();
  absl::StatusOr<std::unique_ptr<const core::Embedder>> embedder = MakeEmbedder(config.embedder);
  if (!embedder.ok()) return embedder.status();
  std::unique_ptr<Server> server(
      new Server(std::move(config), std::move(config_path), *std::move(log), *std::move(embedder)));
  for (const std::string& warning : warnings) {
    server->log_->Write(Log::Level::kWarning, "config", {{"message", warning}});
  }
  if (const std::string& refusal = server->cache_->refusal(); !refusal.empty()) {
    return absl::FailedPreconditionError("cache.encryption_key: " + refusal);
  }
  const absl::Status listening = server->Listen();
  if (!listening.ok()) return listening;
  return server;
}

Server::Server(Config config, std::string config_path, std::unique_ptr<Log> log,
               std::unique_ptr<const core::Embedder> embedder)
    : config_(std::move(config)),
      random_(core::SeededRandom::FromDevice()),
      log_(std::move(log)),
      request_log_(*log_),
      embedder_(std::move(embedder)),
      judge_(MakeJudge(config_.embedder)),
      fresh_judge_(*judge_, config_.cache.now_max_age),
      embedder_loop_(config_.embedder.openai ? std::make_unique<providers::CurlLoop>(clock_)
                                             : nullptr),
      remote_embedder_(
          MakeRemoteEmbedder(config_.embedder, embedder_loop_.get(), clock_, *random_)),
      pool_(std::make_unique<core::BlockingPool>(kLookupThreads, kPoolQueue, kStoreThreads)),
      cache_(std::make_unique<cache::SemanticCache>(
          CacheOptions(config_, remote_embedder_.get(), *log_), *embedder_, *pool_, clock_,
          *random_, fresh_judge_)),
      admission_(config_.admission),
      targets_(Targets(config_), clock_, *random_,
               [this](const core::TargetName& target, const resilience::BreakerEvent& event) {
                 request_log_.OnBreaker(target, event);
               }),
      reader_({.prompt_text = config_.limits.prompt_text, .request = config_.limits.request},
              RouteNames(config_)) {
  for (const resilience::Route& route : config_.routes) {
    routes_[route.name] = std::make_unique<resilience::LiveRoute>(route, targets_, clock_);
  }
  MakeEngines();
  generate_ = std::make_unique<GenerateService>(reader_, *random_, request_log_, Lanes());
  admin_ = std::make_unique<AdminService>(
      AdminDeps{clock_, *pool_, admission_, targets_, routes_, reader_, *cache_},
      AdminFacts{.version = HOLDFAST_VERSION,
                 .config_path = std::move(config_path),
                 .config_yaml = PrintConfig(config_),
                 .config_loaded_at = clock_.WallNow(),
                 .started_at = clock_.Now(),
                 .max_timeout = config_.max_timeout});
}

Server::~Server() { Stop(); }

void Server::MakeEngines() {
  const std::vector<Deployment> deployments = Deployments(config_);
  for (int i = 0; i < config_.loops; ++i) {
    loops_.push_back(std::make_unique<providers::CurlLoop>(clock_));
    providers::CurlLoop& loop = *loops_.back();
    resilience::Engine::Providers providers;
    for (const Deployment& deployment : deployments) {
      providers.emplace_back(
          deployment.target.name,
          providers::MakeProvider(deployment.provider->options, deployment.model, loop, loop));
    }
    engines_.push_back(std::make_unique<resilience::Engine>(
        loop, *random_, admission_, routes_, cache_.get(), std::move(providers), request_log_,
        resilience::EngineOptions{.max_timeout = config_.max_timeout}));
  }
}

std::vector<Lane> Server::Lanes() {
  std::vector<Lane> lanes;
  for (size_t i = 0; i < loops_.size(); ++i) {
    resilience::Engine& engine = *engines_[i];
    lanes.push_back({.loop = *loops_[i],
                     .enter =
                         [&engine](std::string route, resilience::CallContext context) {
                           return engine.Enter(std::move(route), std::move(context));
                         },
                     .run =
                         [&engine](core::Request request, resilience::CallContext context,
                                   Lane::Ticket ticket, core::AnswerStream* stream) {
                           return engine.Run(std::move(request), std::move(context),
                                             std::move(ticket), stream);
                         },
                     .hurry = {}});
  }
  return lanes;
}

absl::Status Server::Listen() {
  absl::StatusOr<Listener> admin = server::Listen(*admin_, v1::AdminService::service_full_name(),
                                                  config_.admin_listen, kAdminReceiveBytes);
  if (!admin.ok()) return admin.status();
  admin_server_ = std::move(admin->server);
  admin_address_ = admin->address;
  absl::StatusOr<Listener> main =
      server::Listen(*generate_, v1::GenerateService::service_full_name(), config_.listen,
                     config_.limits.request * kReceiveHeadroom);
  if (!main.ok()) return main.status();
  server_ = std::move(main->server);
  address_ = main->address;
  log_->Write(Log::Level::kInfo, "serving",
              {{"version", std::string(HOLDFAST_VERSION)},
               {"listen", address_},
               {"admin_listen", admin_address_},
               {"targets", static_cast<int64_t>(targets_.all().size())},
               {"routes", static_cast<int64_t>(routes_.size())},
               {"loops", static_cast<int64_t>(loops_.size())}});
  core::Loop& loop = *loops_.front();
  {
    const std::lock_guard lock(health_mutex_);
    health_ = server_->GetHealthCheckService();
    health_->SetServingStatus(kCacheHealth, false);
  }
  loop.Post([this, &loop] {
    TendCache(loop);
    TellWhenCacheIsReady(loop);
  });
  const std::optional<Address> listen = ParseAddress(config_.listen);
  if (!listen || !listen->loopback) {
    loop.Post([this, &loop] { WarnUnauthenticated(loop); });
  }
  return absl::OkStatus();
}

// A service by this name for who wants to wait for the whole cache. The server itself serves from
// the start: lookups see what is loaded, and providers answer anyway.
void Server::TellWhenCacheIsReady(core::Loop& loop) {
  if (cache_->ready()) {
    const std::lock_guard lock(health_mutex_);
    if (health_ != nullptr) health_->SetServingStatus(kCacheHealth, true);
    return;
  }
  loop.CallAt(core::SaturatingAdd(loop.Now(), kCacheHealthEvery),
              [this, &loop] { TellWhenCacheIsReady(loop); });
}

// Without requests nothing else would.
void Server::TendCache(core::Loop& loop) {
  cache_->Tend();
  loop.CallAt(core::SaturatingAdd(loop.Now(), kTendCacheEvery), [this, &loop] { TendCache(loop); });
}

void Server::WarnUnauthenticated(core::Loop& loop) {
  log_->Write(Log::Level::kError, "unauthenticated",
              {{"listen", address_},
               {"message", std::string("ANYONE WHO CAN REACH THIS ADDRESS MAY USE EVERY PROVIDER "
                                       "KEY AND EVERY TENANT'S CACHE (allow_unauthenticated)")}});
  loop.CallAt(core::SaturatingAdd(loop.Now(), kUnauthenticatedReminder),
              [this, &loop] { WarnUnauthenticated(loop); });
}

void Server::Stop() {
  if (!pool_) return;
  const bool served = server_ != nullptr;
  if (served) {
    log_->Write(Log::Level::kInfo, "draining",
                {{"in_progress", static_cast<int64_t>(generate_->live_calls().count())},
                 {"drain", core::FormatDuration(config_.drain)}});
    {
      const std::lock_guard lock(health_mutex_);
      std::exchange(health_, nullptr)->Shutdown();
    }
    admin_server_->GetHealthCheckService()->Shutdown();
    generate_->RefuseNewCalls();
    admission_.Close();
    LiveCalls& calls = generate_->live_calls();
    const auto within = [this](core::Duration d) { return core::SaturatingAdd(clock_.Now(), d); };
    if (!calls.WaitForNone(within(config_.drain))) {
      generate_->Hurry();
      calls.WaitForNone(within(kHurryTime));
    }
    // gRPC ends a call that meets its shutdown as CANCELLED, without a reason. So that callers
    // learn one, those who come again at once are still refused by us.
    calls.WaitForQuiet(kQuiet, within(kQuietTime));
    // Whatever call is left is cancelled at this deadline; open health watches are, too.
    server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    HOLDFAST_CHECK(calls.WaitForNone(within(kCancelTime)));
  }
  if (admin_server_) {
    admin_server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  }
  server_.reset();
  admin_server_.reset();
  cache_->Stop();  // its background work; the answers still to be stored are stored
  pool_.reset();
  if (embedder_loop_) embedder_loop_->Stop();
  for (const auto& loop : loops_) loop->Stop();
  engines_.clear();
  cache_.reset();  // closes RocksDB
  if (served) log_->Write(Log::Level::kInfo, "stopped", {});
}

}  // namespace holdfast::server
