// The whole server in this process: built from a configuration, on real sockets.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "cache/answer_book.h"
#include "cache/hash_embedder.h"
#include "core/clock.h"
#include "core/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "server/config/config_loader.h"
#include "server/server.h"
#include "tests/server/grpc_client.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;
using namespace std::chrono_literals;

// A provider that accepts connections and never says a word.
class SilentProvider {
 public:
  SilentProvider() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(listen(fd_, 16), 0);
    port_ = ntohs(address.sin_port);
  }
  ~SilentProvider() { close(fd_); }
  std::string base_url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }

 private:
  const int fd_;
  int port_ = 0;
};

std::string HealthRequest(const std::string& service) {
  return "\x0A" + std::string(1, static_cast<char>(service.size())) + service;
}
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);
constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kGenerateName[] = "holdfast.v1.GenerateService";

class AppTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        std::filesystem::path(::testing::TempDir()) / ("holdfast-app-" + std::to_string(getpid()));
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  Config MakeConfig(const std::string& more = "drain: 20s") {
    const std::string yaml =
        "embedder: {kind: hash}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\ndata_dir: " +
        (dir_ / "data").string() + "\nlog: {format: json, file: " + (dir_ / "log").string() +
        "}\n" + more + R"(
providers:
  - {name: silent, kind: openai, base_url: ")" +
        provider_.base_url() + R"(", api_key: sk-CANARY}
routes:
  - name: default
    chain: [{provider: silent, model: m}]
    retry: {max_retries: 0}
)";
    LoadResult loaded = LoadConfigText("test.yaml", yaml, ProcessEnvironment());
    for (const Fault& fault : loaded.faults) ADD_FAILURE() << Format(fault);
    return *loaded.config;
  }

  void Start(Config config) {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(std::move(config), "test.yaml");
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = Channel(server_->address());
    admin_channel_ = Channel(server_->admin_address());
    stub_ = v1::GenerateService::NewStub(channel_);
    admin_ = v1::AdminService::NewStub(admin_channel_);
  }

  static std::shared_ptr<grpc::Channel> Channel(const std::string& address) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }

  static v1::GenerateRequest Question() {
    v1::GenerateRequest request;
    request.add_messages()->set_role("user");
    request.mutable_messages(0)->set_content("CANARY?");
    return request;
  }

  std::string ReadLog() const {
    std::ifstream file(dir_ / "log");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  // Returns once the server has `count` requests in progress.
  void WaitForInProgress(int count) {
    for (;;) {
      grpc::ClientContext context;
      v1::GetStatusResponse status;
      ASSERT_TRUE(admin_->GetStatus(&context, {}, &status).ok());
      if (status.in_progress() == count) return;
      std::this_thread::yield();
    }
  }

  SilentProvider provider_;
  std::filesystem::path dir_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> admin_channel_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
  std::unique_ptr<v1::AdminService::Stub> admin_;
};

TEST_F(AppTest, AnswersByTheLadderBeforeTheDeadline) {
  Start(MakeConfig());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 1500ms);
  v1::GenerateResponse response;
  const grpc::Status status = stub_->Generate(&context, Question(), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.partial());
  EXPECT_THAT(response.notice(), Not(IsEmpty()));
  EXPECT_EQ(response.message().content(), response.notice());
  ASSERT_THAT(response.attempts(), SizeIs(1));
  EXPECT_EQ(response.attempts(0).target().provider(), "silent");
  server_.reset();
  EXPECT_THAT(ReadLog(), HasSubstr(R"("event":"request")"));
  EXPECT_THAT(ReadLog(), HasSubstr(R"("event":"degraded_answer")"));
  EXPECT_THAT(ReadLog(), Not(HasSubstr("CANARY")));
}

TEST_F(AppTest, HealthPerService) {
  Start(MakeConfig());
  std::string reply;
  for (const char* name : {"", kGenerateName}) {
    EXPECT_TRUE(testing::CallRaw(channel_, kCheck, HealthRequest(name), &reply).ok());
    EXPECT_EQ(reply, kServing);
  }
  EXPECT_TRUE(
      testing::CallRaw(admin_channel_, kCheck, HealthRequest("holdfast.v1.AdminService"), &reply)
          .ok());
  EXPECT_EQ(reply, kServing);
  EXPECT_EQ(testing::CallRaw(channel_, kCheck, HealthRequest("nobody")).error_code(),
            grpc::NOT_FOUND);
}

// The cache as an earlier run left it, without the graph that so many entries need.
void FillCache(const std::filesystem::path& data, int entries) {
  const core::SystemClock clock;
  core::SeededRandom random(1);
  const cache::HashEmbedder embedder;
  cache::SemanticCacheOptions options;
  options.directory = data / "cache";
  options.flat_limit = static_cast<size_t>(entries);
  cache::AnswerBook book(std::move(options), embedder, clock, random);
  const cache::ScopeSource scope{.tenant = "default", .route = "default", .rest = ""};
  for (int i = 0; i < entries; ++i) {
    const std::string question = "question number " + std::to_string(i);
    ASSERT_TRUE(book.Insert(scope, question, {"answer", "p", "m"}, clock.WallNow()));
  }
}

TEST_F(AppTest, HealthOfTheCacheSaysWhetherItIsLoadedAndTheServiceServesBefore) {
  constexpr int kEntries = 8000;
  FillCache(dir_ / "data", kEntries);
  Start(MakeConfig());
  testing::RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  ASSERT_TRUE(watch.Write(HealthRequest("holdfast.cache")));
  ASSERT_TRUE(watch.WritesDone());
  std::string status;
  ASSERT_TRUE(watch.Read(status));
  EXPECT_EQ(status, kNotServing);
  for (const char* name : {"", kGenerateName}) {
    EXPECT_TRUE(testing::CallRaw(channel_, kCheck, HealthRequest(name), &status).ok());
    EXPECT_EQ(status, kServing);
  }
  ASSERT_TRUE(watch.Read(status));
  EXPECT_EQ(status, kServing);
  grpc::ClientContext context;
  v1::GetStatusResponse response;
  ASSERT_TRUE(admin_->GetStatus(&context, {}, &response).ok());
  EXPECT_TRUE(response.cache().ready());
  ASSERT_EQ(response.cache().embeddings_size(), 1);
  EXPECT_EQ(response.cache().embeddings(0).embedder(), "hash-v1");
  EXPECT_FALSE(response.cache().embeddings(0).remote());
  EXPECT_EQ(response.cache().embeddings(0).total(), uint64_t{kEntries});
  std::thread stopper([&] { server_->Stop(); });
  ASSERT_TRUE(watch.Read(status));
  EXPECT_EQ(status, kNotServing);
  stopper.join();
}

TEST_F(AppTest, WatchersSeeTheDrainAndTheServerEndsAllTheSame) {
  Start(MakeConfig());
  testing::RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  ASSERT_TRUE(watch.Write(HealthRequest(kGenerateName)));
  ASSERT_TRUE(watch.WritesDone());
  std::string status;
  ASSERT_TRUE(watch.Read(status));
  EXPECT_EQ(status, kServing);
  std::thread stopper([&] { server_->Stop(); });
  ASSERT_TRUE(watch.Read(status));
  EXPECT_EQ(status, kNotServing);
  stopper.join();
}

TEST_F(AppTest, DrainLetsCallsGoOnThenEndsThemByTheLadder) {
  Start(MakeConfig("drain: 300ms"));
  grpc::Status status;
  v1::GenerateResponse response;
  std::thread caller([&] {
    grpc::ClientContext context;
    status = stub_->Generate(&context, Question(), &response);
  });
  WaitForInProgress(1);
  server_->Stop();
  caller.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.partial());
  EXPECT_LT(response.time_budget().used().seconds(), 5);  // its first token had 10 s
}

TEST_F(AppTest, NewCallsAreRefusedDuringTheDrain) {
  Start(MakeConfig("drain: 20s"));
  grpc::ClientContext first;
  std::thread caller([&] {
    v1::GenerateResponse response;
    EXPECT_EQ(stub_->Generate(&first, Question(), &response).error_code(), grpc::CANCELLED);
  });
  WaitForInProgress(1);
  std::thread stopper([&] { server_->Stop(); });
  std::string health;
  while (health != kNotServing) {
    ASSERT_TRUE(testing::CallRaw(channel_, kCheck, HealthRequest(kGenerateName), &health).ok());
  }
  grpc::Status refused;
  do {  // health is the first to know
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 5s);
    v1::GenerateResponse response;
    refused = stub_->Generate(&context, v1::GenerateRequest(), &response);
  } while (refused.error_code() == grpc::INVALID_ARGUMENT);
  EXPECT_EQ(refused.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(refused.error_message(), HasSubstr("shutting down"));
  first.TryCancel();
  caller.join();
  stopper.join();
}

TEST_F(AppTest, ShedsAboveTheCapAndAdmitsAgainAfterwards) {
  Start(MakeConfig("admission: {max_in_progress: 1, max_queue: 0}\nloops: 2"));
  grpc::ClientContext first;
  std::thread caller([&] {
    v1::GenerateResponse response;
    EXPECT_EQ(stub_->Generate(&first, Question(), &response).error_code(), grpc::CANCELLED);
  });
  WaitForInProgress(1);
  {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = stub_->Generate(&context, Question(), &response);
    EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  }
  first.TryCancel();
  caller.join();
  WaitForInProgress(0);

  // Answered at once by the notice: the place must be free before the answer is out, whichever
  // loop the next call comes to.
  grpc::ClientContext context;
  v1::SetBreakerRequest request;
  request.mutable_target()->set_provider("silent");
  request.mutable_target()->set_model("m");
  request.set_action(v1::SetBreakerRequest::ACTION_FORCE_OPEN);
  v1::SetBreakerResponse breaker;
  ASSERT_TRUE(admin_->SetBreaker(&context, request, &breaker).ok());
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext own;
    v1::GenerateResponse response;
    v1::GenerateRequest question = Question();
    if (i % 2 == 1) question.set_temperature(9);
    const grpc::Status status = stub_->Generate(&own, question, &response);
    ASSERT_EQ(status.error_code(), i % 2 == 1 ? grpc::INVALID_ARGUMENT : grpc::OK)
        << status.error_message();
  }
}

TEST_F(AppTest, OtherLoopbackAddresses) {
  Config config = MakeConfig();
  config.listen = "localhost:0";
  config.admin_listen = "[::1]:0";
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(config, "test.yaml");
  if (!server.ok()) GTEST_SKIP() << "no IPv6 here: " << server.status();
  server_ = *std::move(server);
  EXPECT_THAT(server_->address(), ::testing::StartsWith("localhost:"));
  EXPECT_THAT(server_->admin_address(), ::testing::StartsWith("[::1]:"));
  std::string reply;
  for (const std::string& address : {server_->address(), server_->admin_address()}) {
    EXPECT_TRUE(testing::CallRaw(Channel(address), kCheck, HealthRequest(""), &reply).ok());
    EXPECT_EQ(reply, kServing);
  }
}

TEST_F(AppTest, ReflectionListsTheServices) {
  Start(MakeConfig());
  const auto list = [](const std::shared_ptr<grpc::Channel>& channel) {
    testing::RawCall call(channel,
                          "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
    EXPECT_TRUE(call.Write(std::string("\x3A\x01*", 3)));  // list_services: "*"
    std::string reply;
    EXPECT_TRUE(call.Read(reply));
    return reply;
  };
  EXPECT_THAT(list(channel_), HasSubstr(kGenerateName));
  EXPECT_THAT(list(channel_), HasSubstr("grpc.health.v1.Health"));
  EXPECT_THAT(list(channel_), Not(HasSubstr("AdminService")));
  EXPECT_THAT(list(admin_channel_), HasSubstr("holdfast.v1.AdminService"));
}

TEST_F(AppTest, AddressInUseIsTold) {
  Start(MakeConfig());
  Config second = MakeConfig();
  second.data_dir = dir_ / "other";
  second.log.file = dir_ / "other-log";
  second.listen = server_->address();
  auto failed = Server::Start(second, "test.yaml");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.status().message(),
            "cannot listen on " + server_->address() + ": Address already in use");
  second.listen = "127.0.0.1:0";
  second.admin_listen = server_->admin_address();
  failed = Server::Start(second, "test.yaml");
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr(server_->admin_address()));
  second.log.file = "/dev/null/log";
  failed = Server::Start(second, "test.yaml");
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.status().message()), HasSubstr("/dev/null/log"));
}

TEST_F(AppTest, AdminShowsTargetsAndSteersBreakers) {
  Start(MakeConfig());
  v1::GetStatusResponse status;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(admin_->GetStatus(&context, {}, &status).ok());
  }
  EXPECT_EQ(status.version(), HOLDFAST_VERSION);
  ASSERT_THAT(status.targets(), SizeIs(1));
  EXPECT_EQ(status.targets(0).target().provider(), "silent");
  EXPECT_EQ(status.targets(0).breaker().state(), v1::BREAKER_STATE_CLOSED);
  EXPECT_EQ(status.targets(0).limiter().limit(), 1000);
  EXPECT_EQ(status.targets(0).last_error(), "");
  ASSERT_THAT(status.retry_budgets(), SizeIs(1));
  EXPECT_EQ(status.retry_budgets(0).tokens(), 10);
  {
    grpc::ClientContext context;
    v1::GetStatusRequest request;
    request.set_model("other");
    ASSERT_TRUE(admin_->GetStatus(&context, request, &status).ok());
    EXPECT_THAT(status.targets(), IsEmpty());
  }

  const auto steer = [&](const std::string& model, v1::SetBreakerRequest::Action action,
                         v1::SetBreakerResponse* response) {
    grpc::ClientContext context;
    v1::SetBreakerRequest request;
    request.mutable_target()->set_provider("silent");
    request.mutable_target()->set_model(model);
    request.set_action(action);
    return admin_->SetBreaker(&context, request, response).error_code();
  };
  v1::SetBreakerResponse breaker;
  EXPECT_EQ(steer("m", v1::SetBreakerRequest::ACTION_FORCE_OPEN, &breaker), grpc::OK);
  EXPECT_EQ(breaker.breaker().state(), v1::BREAKER_STATE_FORCED_OPEN);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(stub_->Generate(&context, Question(), &response).ok());
  EXPECT_TRUE(response.partial());
  ASSERT_THAT(response.attempts(), SizeIs(1));
  EXPECT_TRUE(response.attempts(0).skipped());
  EXPECT_EQ(response.attempts(0).outcome(), "breaker_open");
  EXPECT_EQ(steer("m", v1::SetBreakerRequest::ACTION_FORCE_CLOSE, &breaker), grpc::OK);
  EXPECT_EQ(breaker.breaker().state(), v1::BREAKER_STATE_FORCED_CLOSED);
  EXPECT_EQ(steer("m", v1::SetBreakerRequest::ACTION_RESET, &breaker), grpc::OK);
  EXPECT_EQ(breaker.breaker().state(), v1::BREAKER_STATE_CLOSED);
  EXPECT_EQ(steer("m", v1::SetBreakerRequest::ACTION_UNSPECIFIED, &breaker),
            grpc::INVALID_ARGUMENT);
  EXPECT_EQ(steer("x", v1::SetBreakerRequest::ACTION_RESET, &breaker), grpc::NOT_FOUND);
  server_.reset();
  EXPECT_THAT(ReadLog(), HasSubstr(R"("to":"forced_open")"));
}

TEST_F(AppTest, ACacheOfAnotherKeyIsRefusedByTheKeysName) {
  const std::string mine(64, 'a');
  Start(MakeConfig("cache: {encryption_key: '" + mine + "'}"));
  server_.reset();
  for (const std::string& more :
       {"cache: {encryption_key: '" + std::string(64, 'b') + "'}", std::string("drain: 20s")}) {
    const auto server = Server::Start(MakeConfig(more), "test.yaml");
    ASSERT_FALSE(server.ok());
    const std::string text(server.status().message());
    EXPECT_THAT(text, StartsWith("cache.encryption_key: the cache in " + (dir_ / "data").string()));
    EXPECT_THAT(text, Not(HasSubstr("bbbb")));
  }
  Start(MakeConfig("cache: {encryption_key: '" + mine + "'}"));
}

TEST_F(AppTest, ANewEncryptionKeyTakesThePreviousOnesPlaceWhileItServes) {
  const std::string mine(64, 'a'), next(64, 'b');
  Start(MakeConfig("cache: {encryption_key: '" + mine + "'}"));
  server_.reset();
  Start(MakeConfig("cache: {encryption_key: '" + next + "', encryption_key_previous: '" + mine +
                   "'}"));
  const auto rewriting = [&] {
    grpc::ClientContext context;
    v1::GetCacheStatsResponse stats;
    EXPECT_TRUE(admin_->GetCacheStats(&context, {}, &stats).ok());
    return stats.rewriting();
  };
  while (rewriting()) std::this_thread::yield();
  server_.reset();
  EXPECT_FALSE(
      Server::Start(MakeConfig("cache: {encryption_key: '" + mine + "'}"), "test.yaml").ok());
  Start(MakeConfig("cache: {encryption_key: '" + next + "'}"));
  EXPECT_FALSE(rewriting());
}

TEST_F(AppTest, AdminShowsTheCacheAndPurges) {
  Start(MakeConfig());
  grpc::ClientContext context;
  v1::GetCacheStatsResponse stats;
  ASSERT_TRUE(admin_->GetCacheStats(&context, {}, &stats).ok());
  EXPECT_EQ(stats.entries(), 0u);
  EXPECT_EQ(stats.embedder(), "hash-v1");
  EXPECT_EQ(stats.degraded(), "");
  EXPECT_TRUE(stats.ready());
  EXPECT_FALSE(stats.read_only());
  const auto purge = [&](const v1::PurgeCacheRequest& request) {
    grpc::ClientContext own;
    v1::PurgeCacheResponse response;
    return admin_->PurgeCache(&own, request, &response).error_code();
  };
  v1::PurgeCacheRequest request;
  EXPECT_EQ(purge(request), grpc::INVALID_ARGUMENT);
  request.set_everything(true);
  EXPECT_EQ(purge(request), grpc::OK);
  request.set_tenant("t");
  EXPECT_EQ(purge(request), grpc::INVALID_ARGUMENT);
  request.set_everything(false);
  EXPECT_EQ(purge(request), grpc::OK);
  request.mutable_older_than()->set_seconds(0);
  EXPECT_EQ(purge(request), grpc::INVALID_ARGUMENT);
  request.mutable_older_than()->set_nanos(1);
  EXPECT_EQ(purge(request), grpc::OK);
}

TEST_F(AppTest, AdminShowsConfigurationAndPlans) {
  Start(MakeConfig());
  grpc::ClientContext context;
  v1::GetConfigResponse config;
  ASSERT_TRUE(admin_->GetConfig(&context, {}, &config).ok());
  EXPECT_EQ(config.path(), "test.yaml");
  EXPECT_THAT(config.yaml(), HasSubstr("silent"));
  EXPECT_THAT(config.yaml(), Not(HasSubstr("CANARY")));
  EXPECT_GT(config.loaded_at().seconds(), 0);

  const auto explain = [&](const std::string& route, int64_t seconds,
                           v1::ExplainPlanResponse* plan) {
    grpc::ClientContext own;
    v1::ExplainPlanRequest request;
    request.set_route(route);
    if (seconds >= 0) request.mutable_deadline()->set_seconds(seconds);
    return admin_->ExplainPlan(&own, request, plan).error_code();
  };
  v1::ExplainPlanResponse plan;
  EXPECT_EQ(explain("", -1, &plan), grpc::OK);
  EXPECT_EQ(plan.total().seconds(), 30);
  EXPECT_THAT(plan.if_all_hang(), Not(IsEmpty()));
  EXPECT_EQ(plan.if_all_hang(0).stage(), "attempt");
  EXPECT_EQ(plan.if_all_hang(0).target().model(), "m");
  EXPECT_EQ(explain("default", 10, &plan), grpc::OK);
  EXPECT_EQ(plan.total().seconds(), 10);
  EXPECT_EQ(explain("default", 0, &plan), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(explain("nowhere", -1, &plan), grpc::NOT_FOUND);
}

}  // namespace
}  // namespace holdfast::server
