// No answer after the caller's deadline, whatever hangs; no call upstream after the caller has
// gone.

#include <iterator>
#include <thread>
#include <tuple>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"

namespace holdfast::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;
using namespace std::chrono_literals;

class DeadlineTest : public ServiceByBothCalls {
 protected:
  // Connections are up: a channel's first call would pay for its handshake.
  void WarmUp() { EXPECT_TRUE(Ask("Is anybody there?").ok()); }

  static Settings Patient() {
    Settings settings;
    settings.timeouts = "{connect: 2s, first_token: 10s, idle: 10s}";
    settings.route = "timeout: 30s\n    min_useful: 100ms";
    return settings;
  }
};

constexpr const char* kWaysToHang[] = {
    R"({"kind": "hang"})",
    R"({"kind": "silence"})",
    R"({"kind": "pings", "interval_ms": 20})",
    R"({"kind": "slow_headers", "ms": 60000})",
    R"({"kind": "stall", "after": 3})",
    R"({"kind": "drip", "ms": 300, "per": "token"})",
    R"({"kind": "drip", "ms": 100, "per": "byte"})",
};

// A route for every way to hang, each with models of its own, so that all can hang at once.
std::string RoutesThatHang() {
  std::string yaml =
      "embedder: {kind: hash}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\nlog: {format: "
      "json}\n";
  for (const auto& [name, kind, path] :
       {std::tuple("anthropic", "anthropic", ""), std::tuple("openai", "openai", "/v1"),
        std::tuple("gemini", "gemini", "")}) {
    yaml += yaml.find("providers:") == std::string::npos ? "providers:\n" : "";
    yaml += std::string("  - {name: ") + name + ", kind: " + kind + ", base_url: \"${SIM}" + path +
            "\", breaker: {consecutive_failures: 1000, failure_rate: 0, black_hole: 1000}}\n";
  }
  yaml += "routes:\n";
  for (size_t i = 0; i < std::size(kWaysToHang); ++i) {
    const std::string model = ", model: m" + std::to_string(i) + "}";
    yaml += "  - name: r" + std::to_string(i) +
            "\n    min_useful: 100ms\n    chain: [{provider: " + "anthropic" + model +
            ", {provider: openai" + model + "]\n" + "    partial: {target: {provider: gemini" +
            model + "}\n";
  }
  return yaml;
}

// gRPC's C++ client, as all that is built on it, rounds up what it sends.
TEST_P(DeadlineTest, IsNeverTakenForLongerThanItIs) {
  Settings settings = Patient();
  settings.route = "timeout: 290s\n    min_useful: 100ms";
  Start(settings);
  WarmUp();
  for (const auto deadline : {5'001ms, 50'001ms, 100'001ms, 120'500ms}) {
    const Reply reply = Ask("How long is it?", {.deadline = deadline});
    ASSERT_TRUE(reply.ok()) << reply.status.error_message();
    const double margin = std::min(0.5, 0.02 * static_cast<double>(deadline.count()) / 1000);
    const double meant = std::chrono::duration<double>(deadline).count();
    EXPECT_LT(Seconds(reply.response.time_budget().total()) - margin, meant);
    EXPECT_GT(Seconds(reply.response.time_budget().total()), 0.98 * meant);
  }
}

TEST_P(DeadlineTest, IsNeverOutlived) {
  StartYaml(RoutesThatHang());
  std::vector<std::thread> callers;
  for (size_t i = 0; i < std::size(kWaysToHang); ++i) {
    const std::string number = std::to_string(i);
    sim_->Break("m" + number, kWaysToHang[i]);
    for (const auto deadline : {100ms, 200ms, 500ms, 1000ms, 2000ms, 3500ms}) {
      callers.emplace_back([this, i, number, deadline] {
        Reply reply;
        // A machine that is busy otherwise may starve a short call now and then, not every time.
        for (int tries = 0; tries < 3 && !reply.response.partial(); ++tries) {
          reply =
              Generate(Question("How long will it take?", "r" + number), {.deadline = deadline});
        }
        SCOPED_TRACE(kWaysToHang[i]);
        EXPECT_TRUE(reply.ok()) << deadline.count() << " ms: " << reply.status.error_message();
        EXPECT_TRUE(reply.response.partial());
        EXPECT_THAT(reply.text(), Not(IsEmpty()));
        // gRPC rounds a deadline up to three digits on its way.
        EXPECT_LE(Seconds(reply.response.time_budget().total()), deadline.count() / 1000.0 + 0.011);
        EXPECT_LT(Seconds(reply.response.time_budget().used()), deadline.count() / 1000.0);
      });
    }
  }
  for (std::thread& caller : callers) caller.join();
}

TEST_P(DeadlineTest, FiveSecondsOfHangingEverywhere) {
  Settings settings = Patient();
  settings.route = "timeout: 30s\n    min_useful: 500ms";
  Start(settings);
  WarmUp();
  BreakAll(R"({"kind": "hang"})");
  const Reply reply = Ask("How long will it take this time?", {.deadline = 5s});
  EXPECT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_LT(reply.took, 5s);
  for (const char* model : {"claude", "gpt", "flash", "llama"}) {
    EXPECT_EQ(sim_->CountOf(model), model == std::string("claude") ? 2 : 1) << model;
  }
}

TEST_P(DeadlineTest, TextThatFlowedIsKept) {
  Start(Patient());
  WarmUp();
  BreakAll(R"({"kind": "drip", "ms": 100, "per": "token"})");
  const Reply reply = Ask("How long will it take this time?", {.deadline = 1500ms});
  ASSERT_TRUE(reply.ok());
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(reply.response.served_by().model(), "claude");
  EXPECT_EQ(reply.response.attempts(0).outcome(), "out_of_time");
  EXPECT_TRUE(reply.text().starts_with("[claude] simulated")) << reply.text();
}

TEST_P(DeadlineTest, AStaleAnswerIsThereInTimeToo) {
  Start(Patient());
  WarmUp();
  WaitForEntries(1);
  BreakAll(R"({"kind": "hang"})");
  for (const auto deadline : {300ms, 1000ms}) {
    const Reply reply = Ask("Is anybody there?", {.deadline = deadline});
    EXPECT_TRUE(reply.response.stale()) << reply.response.ShortDebugString();
    EXPECT_LT(reply.took, deadline);
  }
}

TEST_P(DeadlineTest, ACancelClosesTheConnectionUpstream) {
  Start(Patient());
  for (const char* fault : {R"({"kind": "hang"})", R"({"kind": "stall", "after": 3})"}) {
    sim_->ForgetAttempts();
    BreakAll(fault);
    grpc::ClientContext context;
    grpc::Status status;
    std::thread caller([&] {
      v1::GenerateResponse response;
      status = stub_->Generate(&context, Question("Will you wait for me?"), &response);
    });
    ASSERT_TRUE(Eventually([&] { return sim_->CountOf("claude") == 1; }));
    context.TryCancel();
    caller.join();
    EXPECT_EQ(status.error_code(), grpc::CANCELLED);
    EXPECT_TRUE(Eventually([&] { return sim_->Attempts("claude")[0]["end"] == "client_closed"; }));
    EXPECT_TRUE(Eventually([&] { return Status().in_progress() == 0; }));
    EXPECT_EQ(sim_->CountOf(), 1);  // nobody else was asked
    EXPECT_EQ(StatusOf("claude").breaker().failures(), 0);
    EXPECT_EQ(StatusOf("claude").limiter().in_flight(), 0);
  }
}

TEST_P(DeadlineTest, ACancelEndsASleep) {
  Start(Patient());
  sim_->Break("gpt", R"({"kind": "rate_limit", "retry_after": 5})");
  grpc::ClientContext context;
  std::thread caller([&] {
    v1::GenerateResponse response;
    EXPECT_EQ(stub_->Generate(&context, Question("Will you wait for me?", "openai"), &response)
                  .error_code(),
              grpc::CANCELLED);
  });
  ASSERT_TRUE(Eventually([&] { return sim_->CountOf("gpt") == 1; }));
  context.TryCancel();
  caller.join();
  EXPECT_TRUE(Eventually([&] { return Status().in_progress() == 0; }));
  EXPECT_EQ(sim_->CountOf("gpt"), 1);
}

TEST_P(DeadlineTest, AnExpiredDeadlineCallsNobody) {
  Start(Patient());
  WarmUp();
  sim_->ForgetAttempts();
  for (const auto deadline : {0ms, 1ms, 20ms}) {
    const Reply reply = Ask("Too late already?", {.deadline = deadline});
    EXPECT_TRUE(reply.status.error_code() == grpc::DEADLINE_EXCEEDED || reply.response.partial());
  }
  EXPECT_TRUE(Eventually([&] { return Status().in_progress() == 0; }));
  EXPECT_EQ(sim_->CountOf(), 0);
}

TEST_P(DeadlineTest, TheRoutesTimeoutHoldsWithoutADeadline) {
  Settings settings = Patient();
  settings.route = "timeout: 700ms\n    min_useful: 100ms";
  Start(settings);
  BreakAll(R"({"kind": "hang"})");
  const Reply reply = Ask("How long will it take this time?");
  ASSERT_TRUE(reply.ok());
  EXPECT_NEAR(Seconds(reply.response.time_budget().total()), 0.7, 1e-9);
  EXPECT_LE(Seconds(reply.response.time_budget().used()), 0.7);
}

INSTANTIATE_TEST_SUITE_P(BothCalls, DeadlineTest, ::testing::Bool(), CallName);

}  // namespace
}  // namespace holdfast::testing
