// SIGTERM under load: no call ends without an answer or a status that says why, no answer that was
// under way is lost, and what was to be stored is stored.

#include <atomic>
#include <csignal>
#include <map>
#include <mutex>
#include <thread>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"
#include "tests/server/grpc_client.h"

namespace holdfast::testing {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using namespace std::chrono_literals;

constexpr int kCallers = 300;
// grpc.health.v1, whose messages are not generated here: service = 1 and status = 1.
const std::string kHealthRequest = "\x0A\x1Bholdfast.v1.GenerateService";
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);

class DrainTest : public ServiceFixture {
 protected:
  void TearDown() override {
    Join();
    ServiceFixture::TearDown();
  }

  void Join() {
    for (std::thread& caller : callers_) caller.join();
    callers_.clear();
  }

  // Times that no call can run into.
  static Settings Patient(const std::string& drain) {
    Settings settings;
    settings.top = "drain: " + drain;
    settings.timeouts = "{connect: 30s, first_token: 50s, idle: 50s}";
    settings.route = "timeout: 240s\n    min_useful: 100ms";
    return settings;
  }

  // kCallers threads that ask, and ask again for as long as `again` and they get answers. Only the
  // first three answers to each are stored, fewer than the store's queue holds.
  void StartCallers(bool again) {
    for (int i = 0; i < kCallers; ++i) {
      callers_.emplace_back([this, i, again] {
        bool ok = true;
        for (int n = 0; ok && (n == 0 || again); ++n) {
          v1::GenerateRequest request = Question("Q" + std::to_string(i * 10000 + n));
          request.set_request_id("load-" + std::to_string(i) + "-" + std::to_string(n));
          request.mutable_cache()->set_no_store(n >= 3);
          Reply reply = Generate(request, {.deadline = 120s});
          ok = reply.ok();
          std::lock_guard lock(replies_mutex_);
          stored_ += ok && n < 3 ? 1 : 0;
          replies_.emplace(request.request_id(), std::move(reply));
        }
      });
    }
  }

  // The fixture's Stop() takes the callers' stub away.
  void Terminate() {
    server_->Signal(SIGTERM);
    EXPECT_EQ(server_->Wait(), 0) << Log();
  }

  void WaitForInProgress(int count) {
    ASSERT_TRUE(Eventually([&] { return Status().in_progress() >= count; })) << Log();
  }

  size_t Ended() {
    std::lock_guard lock(replies_mutex_);
    return replies_.size();
  }

  std::vector<std::thread> callers_;
  std::mutex replies_mutex_;
  std::map<std::string, Reply> replies_;  // by request id
  uint64_t stored_ = 0;
};

TEST_F(DrainTest, EveryCallUnderLoadHasItsAnswerOrAStatus) {
  ASSERT_NO_FATAL_FAILURE(Start(Patient("20s")));
  sim_->Break("claude", R"({"kind": "slow_headers", "ms": 300})");
  StartCallers(true);
  WaitForInProgress(kCallers * 3 / 4);
  Terminate();
  Join();

  std::map<std::string, std::string> logged;  // the status of each request that was read
  for (const Json& line : LogLines("request")) logged[line["request_id"]] = line["status"];
  int answered = 0;
  for (const auto& [id, reply] : replies_) {
    if (reply.ok()) {
      ++answered;
      EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_NONE) << id;
      EXPECT_THAT(reply.text(), Not(IsEmpty())) << id;
      EXPECT_EQ(logged[id], "OK") << id;
      continue;
    }
    // Refused by the drain, or no server was there to reach.
    EXPECT_EQ(reply.status.error_code(), grpc::UNAVAILABLE) << id << reply.status.error_message();
    if (!reply.info.reason().empty()) EXPECT_EQ(reply.info.reason(), "SHUTTING_DOWN") << id;
    EXPECT_EQ(logged.count(id), 0u) << id << " was read, and its answer lost";
  }
  EXPECT_GE(answered, kCallers / 2);
  EXPECT_EQ(replies_.size(), static_cast<size_t>(answered + kCallers));  // each was refused once

  StartServer();
  EXPECT_EQ(CacheStats().entries(), stored_);
}

TEST_F(DrainTest, NotServingAtOnceWhileCallsGoOn) {
  ASSERT_NO_FATAL_FAILURE(Start(Patient("200s")));
  for (const char* model : {"claude", "gpt", "flash", "llama"}) {
    sim_->Break(model, R"({"kind": "hang"})");
  }
  RawCall watch(channel_, "/grpc.health.v1.Health/Watch");
  ASSERT_TRUE(watch.Write(kHealthRequest));
  std::string health;
  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health, kServing);
  StartCallers(false);
  WaitForInProgress(kCallers);

  server_->Signal(SIGTERM);
  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health, kNotServing);
  // As a kubelet asks: by a new connection.
  grpc::ChannelArguments own;
  own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto probe = grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), own);
  EXPECT_TRUE(CallRaw(probe, "/grpc.health.v1.Health/Check", kHealthRequest, &health).ok());
  EXPECT_EQ(health, kNotServing);
  Reply refused;
  EXPECT_TRUE(Eventually([&] {  // health is the first to know
    refused = Generate(v1::GenerateRequest(), {.deadline = 120s});
    return refused.status.error_code() == grpc::UNAVAILABLE;
  }));
  EXPECT_EQ(refused.info.reason(), "SHUTTING_DOWN");
  EXPECT_EQ(Ended(), 0u);

  sim_.reset();  // now every attempt fails, and the ladder goes down to the notice
  Join();
  EXPECT_EQ(server_->Wait(), 0) << Log();
  for (const auto& [id, reply] : replies_) {
    EXPECT_TRUE(reply.ok()) << id << reply.status.error_message();
    EXPECT_TRUE(reply.response.partial()) << id;
  }
}

TEST_F(DrainTest, WhatOutlastsTheDrainEndsByTheLadder) {
  ASSERT_NO_FATAL_FAILURE(Start(Patient("100ms")));
  for (const char* model : {"claude", "gpt", "flash", "llama"}) {
    sim_->Break(model, R"({"kind": "stall", "after": 3})");
  }
  StartCallers(false);
  WaitForInProgress(kCallers);
  EXPECT_TRUE(Eventually([&] { return sim_->CountOf("claude") == kCallers; }));
  Terminate();
  Join();
  for (const auto& [id, reply] : replies_) {
    EXPECT_TRUE(reply.ok()) << id << reply.status.error_message();
    EXPECT_TRUE(reply.response.partial()) << id;
    EXPECT_THAT(reply.text(), Not(IsEmpty())) << id;
  }
}

}  // namespace
}  // namespace holdfast::testing
