#pragma once

// The whole product for one test: simulated provider, holdfast process, gRPC channels, a temporary
// directory. Every test ends with the checks that hold for all: the server stops cleanly and in
// time, nothing is leaked, and neither its log nor its output has a secret or a question in it.
// Used on the test's thread; Generate also on others.

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/integration/process.h"
#include "tests/integration/simulator.h"

namespace holdfast::testing {

inline constexpr char kKey[] = "sk-CANARY-0123456789abcdef";
inline constexpr char kHeaderValue[] = "CANARY-header-value";

// A configuration with short times: chain anthropic/claude -> openai/gpt -> gemini/flash, basic
// answers from local/llama, and a route for each provider alone. `${SIM}` is the simulator.
struct Settings {
  std::string top;  // more keys of the top level, a line each
  std::string breaker = "{consecutive_failures: 5, failure_rate: 0, black_hole: 0, open: 60s}";
  std::string timeouts = "{connect: 1s, first_token: 600ms, idle: 600ms}";
  std::string route = "timeout: 8s\n    min_useful: 100ms";  // more keys of the route "default"
  std::string retry = "{max_retries: 2, base: 20ms, cap: 100ms, budget: {tokens: 1000}}";
  std::string cache = "{min_similarity: 0.85}";
  std::string partial = "{target: {provider: local, model: llama}}";
  std::string step = "";  // more keys of each step, beginning with a comma

  std::string Yaml() const;
};

struct CallOptions {
  std::optional<std::chrono::milliseconds> deadline;
  std::optional<std::string> tenant;
};

// What a call ended with.
struct Reply {
  grpc::Status status;
  v1::GenerateResponse response;
  std::chrono::steady_clock::duration took{};
  size_t trailer_bytes = 0;  // message and details as they are on the wire
  bool pushback = false;     // grpc-retry-pushback-ms
  google::rpc::ErrorInfo info;
  std::optional<google::rpc::RetryInfo> retry;
  google::rpc::BadRequest bad_request;
  v1::FailedAttempts failed;

  bool ok() const { return status.ok(); }
  const std::string& text() const { return response.message().content(); }
  // The attempts of an answer or of a failure.
  const google::protobuf::RepeatedPtrField<v1::Attempt>& attempts() const {
    return ok() ? response.attempts() : failed.attempts();
  }
  std::vector<std::string> Outcomes() const;  // "claude:timeout", "gpt:skipped breaker_open"
  std::vector<std::string> Fields() const;    // of the BadRequest
};

v1::GenerateRequest Question(const std::string& text, const std::string& route = "");
double Seconds(const google::protobuf::Duration& duration);

class ServiceFixture : public ::testing::Test {
 protected:
  ServiceFixture();
  void SetUp() override;
  void TearDown() override;

  void Start(const Settings& settings = {}) { StartYaml(settings.Yaml()); }
  // Writes the configuration and starts the server; `arguments` go to it.
  void StartYaml(const std::string& yaml, const std::vector<std::string>& arguments = {});
  void StartServer(const std::vector<std::string>& arguments = {});
  int Stop();  // SIGTERM; the exit code
  void Restart() {
    EXPECT_EQ(Stop(), 0);
    StartServer();
  }

  // By GenerateStream, if `streamed_`: the response is then what its reader has put together.
  Reply Generate(const v1::GenerateRequest& request, const CallOptions& options = {});
  Reply Ask(const std::string& text, const CallOptions& options = {}) {
    return Generate(Question(text), options);
  }
  // All three providers of the chain.
  void BreakChain(const std::string& fault);
  void BreakAll(const std::string& fault);  // the partial target too

  v1::GetStatusResponse Status();
  v1::TargetStatus StatusOf(const std::string& model);
  v1::GetCacheStatsResponse CacheStats();
  // Returns once `count` answers are in the cache; storing is off the request's path.
  void WaitForEntries(uint64_t count);
  std::vector<Json> LogLines(const std::string& event) const;  // so far
  // Exactly `count` lines, once they are there: the log is written behind the answers.
  std::vector<Json> WaitForLog(const std::string& event, size_t count) const;
  std::string Log() const { return ReadFile(dir_ / "holdfast.err"); }

  bool streamed_ = false;
  std::filesystem::path dir_;
  std::unique_ptr<Simulator> sim_;
  std::unique_ptr<Process> server_;
  Process::Environment environment_;
  std::string address_;
  std::string admin_address_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<grpc::Channel> admin_channel_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
  std::unique_ptr<v1::AdminService::Stub> admin_;

 private:
  void CheckLog(const std::string& log);

  std::mutex mutex_;
  std::vector<std::string> asked_;  // no log may hold these
};

// For what Generate and GenerateStream do alike: each test by both.
class ServiceByBothCalls : public ServiceFixture, public ::testing::WithParamInterface<bool> {
 protected:
  ServiceByBothCalls() { streamed_ = GetParam(); }
};

inline std::string CallName(const ::testing::TestParamInfo<bool>& info) {
  return info.param ? "Stream" : "Unary";
}

}  // namespace holdfast::testing
