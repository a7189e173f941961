// The service around the answers: administration, health, reflection, start, stop, configuration.

#include <csignal>
#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"
#include "tests/server/grpc_client.h"

namespace holdfast::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::Not;
using namespace std::chrono_literals;

constexpr char kHealthCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kHealthWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kService[] = "holdfast.v1.GenerateService";
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);

std::string HealthRequest(const std::string& service) {
  return "\x0A" + std::string(1, static_cast<char>(service.size())) + service;
}

class ServiceTest : public ServiceFixture {
 protected:
  v1::BreakerStatus Steer(v1::SetBreakerRequest::Action action) {
    v1::SetBreakerRequest request;
    request.mutable_target()->set_provider("anthropic");
    request.mutable_target()->set_model("claude");
    request.set_action(action);
    grpc::ClientContext context;
    v1::SetBreakerResponse response;
    EXPECT_TRUE(admin_->SetBreaker(&context, request, &response).ok());
    return response.breaker();
  }
  Finished Holdfast(std::vector<std::string> arguments,
                    const Process::Environment& environment = {}) {
    arguments.insert(arguments.begin(), Binary("holdfast"));
    return RunToEnd(arguments, environment, dir_);
  }
  Finished Ctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), Binary("holdfastctl"));
    return RunToEnd(arguments, {{"HOLDFAST_SERVER", address_}, {"HOLDFAST_ADMIN", admin_address_}},
                    dir_);
  }
  std::string Write(const std::string& yaml) {
    std::ofstream(dir_ / "other.yaml") << yaml;
    return dir_ / "other.yaml";
  }
};

TEST_F(ServiceTest, BreakersAreForcedAndReset) {
  Start();
  EXPECT_EQ(Steer(v1::SetBreakerRequest::ACTION_FORCE_OPEN).state(), v1::BREAKER_STATE_FORCED_OPEN);
  EXPECT_THAT(Ask("What is a fjord?").Outcomes(),
              ElementsAre("claude:skipped breaker_open", "gpt:complete"));
  EXPECT_EQ(sim_->CountOf("claude"), 0);
  EXPECT_EQ(Steer(v1::SetBreakerRequest::ACTION_FORCE_CLOSE).state(),
            v1::BREAKER_STATE_FORCED_CLOSED);
  sim_->Break("claude", R"({"kind": "status", "status": 503})");
  for (int i = 0; i < 8; ++i) {  // more failures than would open it
    EXPECT_EQ(Ask("What is a fjord?").Outcomes().front(), "claude:overloaded");
  }
  EXPECT_EQ(Steer(v1::SetBreakerRequest::ACTION_RESET).state(), v1::BREAKER_STATE_CLOSED);
  EXPECT_EQ(StatusOf("claude").breaker().failures(), 0);
  sim_->Heal();
  EXPECT_EQ(Ask("What is a fjord?").response.degradation(), v1::DEGRADATION_NONE);
}

TEST_F(ServiceTest, PlansCallNobody) {
  Settings settings;
  settings.route = "timeout: 30s\n    min_useful: 3s";
  settings.timeouts = "{connect: 2s, first_token: 20s, idle: 10s}";
  settings.partial = "{notice: Sorry.}";
  Start(settings);
  v1::ExplainPlanRequest request;
  request.mutable_deadline()->set_seconds(30);
  grpc::ClientContext context;
  v1::ExplainPlanResponse plan;
  // local/llama has its own route still.
  ASSERT_TRUE(admin_->ExplainPlan(&context, request, &plan).ok());
  EXPECT_EQ(Seconds(plan.total()), 30);
  EXPECT_DOUBLE_EQ(Seconds(plan.soft_deadline()), 29.5);
  EXPECT_DOUBLE_EQ(Seconds(plan.tail()), 0.2);
  std::vector<double> allotted;
  for (const v1::PlannedStage& stage : plan.if_all_hang()) {
    if (stage.stage() == "attempt") allotted.push_back(Seconds(stage.allotted()));
  }
  EXPECT_THAT(allotted,
              ElementsAre(::testing::DoubleNear(20, 1e-6), ::testing::DoubleNear(6.3, 1e-6),
                          ::testing::DoubleNear(3, 1e-6)));
  EXPECT_THAT(plan.if_all_fail(), Not(IsEmpty()));
  EXPECT_EQ(sim_->CountOf(), 0);
}

TEST_F(ServiceTest, SecretsAreMaskedEverywhere) {
  Start();
  grpc::ClientContext context;
  v1::GetConfigResponse config;
  ASSERT_TRUE(admin_->GetConfig(&context, {}, &config).ok());
  EXPECT_THAT(config.yaml(), AllOf(HasSubstr("***"), HasSubstr("anthropic"), HasSubstr("claude"),
                                   Not(HasSubstr("CANARY"))));
  EXPECT_GT(config.loaded_at().seconds(), 0);
  // A provider that repeats the key in its error.
  const std::string fault =
      R"({"kind": "status", "status": 401, "message": "bad key )" + std::string(kKey) + R"("})";
  BreakChain(fault);
  v1::GenerateRequest request = Question("What is a fjord?");
  request.set_worst_acceptable(v1::DEGRADATION_FALLBACK_MODEL);
  const Reply reply = Generate(request);
  EXPECT_FALSE(reply.ok());
  EXPECT_THAT(reply.status.error_message() + reply.failed.ShortDebugString(),
              Not(HasSubstr("CANARY")));
  EXPECT_THAT(Status().ShortDebugString(), Not(HasSubstr("CANARY")));
  BreakChain(R"({"kind": "status", "status": 400, "message": "bad key )" + std::string(kKey) +
             R"("})");
  EXPECT_THAT(Generate(Question("What is a fjord?", "openai")).status.error_message(),
              Not(HasSubstr("CANARY")));
}

TEST_F(ServiceTest, HealthAndReflection) {
  Start();
  std::string reply;
  for (const char* name : {"", kService}) {
    EXPECT_TRUE(CallRaw(channel_, kHealthCheck, HealthRequest(name), &reply).ok());
    EXPECT_EQ(reply, kServing);
  }
  EXPECT_EQ(CallRaw(channel_, kHealthCheck, HealthRequest("nobody")).error_code(), grpc::NOT_FOUND);
  EXPECT_TRUE(
      CallRaw(admin_channel_, kHealthCheck, HealthRequest("holdfast.v1.AdminService"), &reply)
          .ok());
  EXPECT_EQ(reply, kServing);
  RawCall list(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
  ASSERT_TRUE(list.Write(std::string("\x3A\x01*", 3)));
  ASSERT_TRUE(list.Read(reply));
  EXPECT_THAT(reply, AllOf(HasSubstr(kService), Not(HasSubstr("AdminService"))));
  // The file that holds a symbol.
  for (const std::string symbol : {kService, "grpc.health.v1.Health"}) {
    RawCall find(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
    ASSERT_TRUE(find.Write("\x22" + std::string(1, static_cast<char>(symbol.size())) + symbol));
    ASSERT_TRUE(find.Read(reply));
    const std::string package = symbol.substr(0, symbol.rfind('.'));
    EXPECT_THAT(reply, AllOf(HasSubstr(package), HasSubstr(".proto"))) << symbol;
  }
  // Administration is on its own address alone.
  EXPECT_EQ(CallRaw(channel_, "/holdfast.v1.AdminService/GetStatus", "").error_code(),
            grpc::UNIMPLEMENTED);
}

TEST_F(ServiceTest, ADrainTellsWatchersAndLetsCallsEnd) {
  Start();
  sim_->Break("claude", R"({"kind": "slow_headers", "ms": 500})");
  RawCall watch(channel_, kHealthWatch);
  ASSERT_TRUE(watch.Write(HealthRequest(kService)));
  ASSERT_TRUE(watch.WritesDone());
  std::string state;
  ASSERT_TRUE(watch.Read(state));
  EXPECT_EQ(state, kServing);
  Reply reply;
  std::thread caller([&] { reply = Ask("Will it still be answered?"); });
  ASSERT_TRUE(Eventually([&] { return sim_->CountOf("claude") == 1; }));
  server_->Signal(SIGTERM);
  ASSERT_TRUE(watch.Read(state));
  EXPECT_EQ(state, kNotServing);
  caller.join();
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_NONE) << reply.status.error_message();
  EXPECT_EQ(server_->Wait(), 0);
}

TEST_F(ServiceTest, WhatOutlivesTheDrainEndsByTheLadder) {
  Settings settings;
  settings.top = "drain: 200ms";
  settings.timeouts = "{connect: 1s, first_token: 7s, idle: 7s}";
  Start(settings);
  BreakAll(R"({"kind": "hang"})");
  sim_->Break("claude", R"({"kind": "stall", "after": 6})");
  Reply reply;
  std::thread caller([&] { reply = Ask("Will it still be answered?"); });
  ASSERT_TRUE(Eventually([&] { return sim_->CountOf("claude") == 1; }));
  server_->Signal(SIGTERM);
  caller.join();
  EXPECT_TRUE(reply.response.partial()) << reply.status.error_message();
  EXPECT_LT(Seconds(reply.response.time_budget().used()), 5);
  EXPECT_EQ(server_->Wait(), 0);
}

TEST_F(ServiceTest, CheckTellsEveryFaultAtOnce) {
  const std::string path = Write(R"(listen: 0.0.0.0:50051
nonsense: 1
providers:
  - {name: p, kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${HOLDFAST_UNSET}"}
routes:
  - name: default
    timeout: 5
    chain: [{provider: nobody, model: m, share: 1.5}]
    retry: {base: 40s, cap: 30s}
)");
  const Finished bad = Holdfast({"--config", path, "--check"});
  EXPECT_EQ(bad.code, 1);
  for (const char* fault :
       {":1:9: listen: ", ":2:1: nonsense: ", "HOLDFAST_UNSET", "routes[0].timeout: ",
        "routes[0].chain[0].provider: ", "routes[0].chain[0].share: ", "routes[0].retry"}) {
    EXPECT_THAT(bad.out, HasSubstr(fault));
  }
  const Finished served = Holdfast({"--config", path});
  EXPECT_EQ(served.code, 1);
  EXPECT_EQ(served.out, "");
  EXPECT_THAT(served.err, HasSubstr(":2:1: nonsense: "));

  const std::string good = Write(Settings().Yaml());
  const Finished ok = Holdfast({"--config", good, "--check"}, environment_);
  EXPECT_EQ(ok.code, 0) << ok.out << ok.err;
  environment_.erase("KEY");
  const Finished unset = Holdfast({"--config", good, "--check"}, environment_);
  EXPECT_EQ(unset.code, 1);
  EXPECT_THAT(unset.out, HasSubstr("KEY"));
}

TEST_F(ServiceTest, TheShippedExampleIsGood) {
  const Process::Environment keys = {{"ANTHROPIC_API_KEY", "a"},
                                     {"OPENAI_API_KEY", "o"},
                                     {"LOCAL_BASE_URL", "http://127.0.0.1:8080/v1"}};
  const std::string path = SourceDir() / "config" / "holdfast.yaml";
  const Finished checked = Holdfast({"--config", path, "--check"}, keys);
  EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
  EXPECT_EQ(Holdfast({"--config", path, "--check"}).code, 1);  // an unset key is refused
}

TEST_F(ServiceTest, AddressesOverriddenInUseAndNotLoopback) {
  Start();
  EXPECT_THAT(server_->Output(), MatchesRegex("admin on 127\\.0\\.0\\.1:[0-9]+\n"
                                              "listening on 127\\.0\\.0\\.1:[0-9]+\n"));
  const std::string path = dir_ / "holdfast.yaml";
  const std::string data = dir_ / "other-data";
  const Finished taken =
      Holdfast({"--config", path, "--data-dir", data, "--listen", address_}, environment_);
  EXPECT_EQ(taken.code, 1);
  EXPECT_THAT(taken.err, HasSubstr("cannot listen on " + address_));
  for (const char* flag : {"--listen", "--admin-listen"}) {
    const Finished open =
        Holdfast({"--config", path, "--data-dir", data, flag, "0.0.0.0:0"}, environment_);
    EXPECT_EQ(open.code, 1) << flag;
    EXPECT_EQ(open.out, "");
  }
  // The flag wins over a listen that could not be served.
  std::string yaml = Settings().Yaml();
  yaml.replace(yaml.find("listen: 127.0.0.1:0"), 19, "listen: " + address_);
  EXPECT_EQ(Stop(), 0);
  StartYaml(yaml, {"--listen", "127.0.0.1:0"});
  EXPECT_TRUE(Ask("What is a fjord?").ok());
}

TEST_F(ServiceTest, AllowUnauthenticatedIsRepeatedLoudly) {
  Settings settings;
  settings.top = "allow_unauthenticated: true";
  std::string yaml = settings.Yaml();
  yaml.replace(yaml.find("listen: 127.0.0.1:0"), 19, "listen: 0.0.0.0:0");
  StartYaml(yaml);
  EXPECT_THAT(admin_address_, HasSubstr("127.0.0.1:"));
  WaitForLog("unauthenticated", 1);
}

TEST_F(ServiceTest, ADamagedDataDirectoryFailsNoRequest) {
  std::ofstream(dir_ / "data") << "this is no directory";
  Start();
  EXPECT_TRUE(Ask("What is a fjord?").ok());
  EXPECT_THAT(CacheStats().degraded(), Not(IsEmpty()));
  BreakAll(R"({"kind": "status", "status": 503})");
  EXPECT_TRUE(Ask("What is a fjord?").ok());
}

TEST_F(ServiceTest, Holdfastctl) {
  Start();
  Finished run = Ctl({"generate", "What is a fjord?"});
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.out, HasSubstr("[claude] simulated answer to: What is a fjord?"));
  EXPECT_THAT(run.err, HasSubstr("anthropic/claude"));
  run = Ctl({"--json", "generate", "What is a fjord?"});
  EXPECT_EQ(Json::parse(run.out)["degradation"], "DEGRADATION_NONE");
  EXPECT_EQ(Json::parse(Ctl({"--json", "status"}).out)["targets"].size(), 4u);
  EXPECT_EQ(Ctl({"breaker", "open", "anthropic/claude"}).code, 0);
  run = Ctl({"--json", "generate", "--worst-acceptable", "none", "What is a fjord?"});
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(Json::parse(run.out)["error"]["code"], "UNAVAILABLE");
  EXPECT_EQ(Ctl({"breaker", "reset", "anthropic/claude"}).code, 0);
  EXPECT_TRUE(Json::parse(Ctl({"--json", "cache", "stats"}).out).contains("entries"));
  EXPECT_EQ(Ctl({"--json", "cache", "purge", "--tenant", "default"}).code, 0);
  EXPECT_TRUE(Json::parse(Ctl({"--json", "plan", "--deadline", "2s"}).out).contains("if_all_hang"));
  run = Ctl({"config", "show"});
  EXPECT_THAT(run.out, AllOf(HasSubstr("***"), Not(HasSubstr("CANARY"))));
  EXPECT_EQ(Ctl({"config", "check", Write("nonsense: 1\n")}).code, 1);
  EXPECT_EQ(Ctl({"frobnicate"}).code, 2);
  EXPECT_EQ(Stop(), 0);
  EXPECT_EQ(Ctl({"--timeout", "5s", "generate", "Anybody?"}).code, 3);
}

// ------------------------------------------------------------------ what `make run` serves

class RunConfigTest : public ServiceTest {
 protected:
  // The file that tools/make_run_config writes for these keys, checked by the server.
  std::string Made(const Process::Environment& keys) {
    const std::string path = dir_ / "run.yaml";
    const Finished made =
        RunToEnd({SourceDir() / "tools" / "make_run_config", path, sim_->port()}, keys, dir_);
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_THAT(made.out, HasSubstr("chain: "));
    const Finished checked = Holdfast({"--config", path, "--check"}, keys);
    EXPECT_EQ(checked.code, 0) << checked.out << checked.err;
    const std::string yaml = ReadFile(path);
    EXPECT_THAT(yaml, Not(HasSubstr("CANARY")));  // keys stay references
    return yaml;
  }
  bool Simulated(const std::string& yaml) const {
    return yaml.find(":" + sim_->port()) != std::string::npos;
  }
};

TEST_F(RunConfigTest, WithoutKeysEverythingIsSimulated) {
  std::string yaml = Made({{"OPENAI_API_KEY", ""}});  // an empty one is none
  EXPECT_TRUE(Simulated(yaml));
  EXPECT_THAT(yaml, Not(HasSubstr("https://")));
  EXPECT_THAT(yaml, Not(HasSubstr("gemini")));
  StartYaml(yaml, {"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"});
  const Reply reply = Ask("What is a fjord?");
  EXPECT_EQ(reply.response.served_by().model(), "claude-sonnet-4-20250514");
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_NONE);
}

TEST_F(RunConfigTest, WithAKeyTheSimulatorIsNotThere) {
  std::string yaml = Made({{"OPENAI_API_KEY", kKey}});
  EXPECT_FALSE(Simulated(yaml));
  EXPECT_THAT(yaml, AllOf(HasSubstr("gpt-4o"), HasSubstr("${OPENAI_API_KEY}"),
                          Not(HasSubstr("anthropic")), Not(HasSubstr("llama"))));
  yaml = Made({{"ANTHROPIC_API_KEY", kKey}, {"GEMINI_API_KEY", kKey}});
  EXPECT_FALSE(Simulated(yaml));
  EXPECT_LT(yaml.rfind("claude-haiku"), yaml.rfind("model: gemini"));  // Gemini's last
  EXPECT_THAT(yaml, Not(HasSubstr("gpt-4o")));
  yaml = Made({{"LOCAL_BASE_URL", "http://127.0.0.1:1/v1"}});
  EXPECT_FALSE(Simulated(yaml));
  EXPECT_THAT(yaml, AllOf(HasSubstr("llama-3-8b"), Not(HasSubstr("claude"))));
  yaml = Made({{"ANTHROPIC_API_KEY", kKey},
               {"OPENAI_API_KEY", kKey},
               {"GEMINI_API_KEY", kKey},
               {"LOCAL_BASE_URL", "http://127.0.0.1:1/v1"}});
  EXPECT_FALSE(Simulated(yaml));
}

}  // namespace
}  // namespace holdfast::testing
