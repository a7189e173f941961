#pragma once

// GenerateService on real sockets and loops with a scripted engine: what the tests of both of its
// calls share.

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/wait.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "providers/http/curl_loop.h"
#include "resilience/admission.h"
#include "server/generate_service.h"
#include "server/listener.h"
#include "server/response_writer.h"
#include "tests/server/grpc_client.h"
#include "tests/server/stream_reader.h"

namespace holdfast::server {

using namespace std::chrono_literals;

inline constexpr int kLoops = 2;

inline core::Result Answered(const std::string& text) {
  core::Answer answer;
  answer.text = text;
  core::Result result;
  result.value = answer;
  return result;
}

inline core::Result Failed(core::Error error) {
  core::Result result;
  result.value = std::move(error);
  return result;
}

inline core::Task<core::Result> Return(core::Result result) { co_return result; }

inline core::Task<core::Result> SleepThenReturn(core::Loop* loop, core::Duration delay,
                                                std::stop_token stop, core::Result result) {
  core::Task<bool> sleep = core::Sleep(*loop, loop->Now() + delay, stop);
  const bool slept = co_await std::move(sleep);
  if (slept) co_return result;
  co_return Failed({.code = core::ErrorCode::kCancelled, .reason = "CANCELLED"});
}

template <typename T>
std::optional<T> Detail(const grpc::Status& status) {
  google::rpc::Status rpc;
  if (!rpc.ParseFromString(status.error_details())) return std::nullopt;
  for (const auto& any : rpc.details()) {
    T detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

inline v1::GenerateRequest Question(const std::string& text = "why?") {
  v1::GenerateRequest request;
  request.add_messages()->set_role("user");
  request.mutable_messages(0)->set_content(text);
  return request;
}

// What the engine owes a stream: the whole of the answer.
inline void Deliver(const core::Result& result, core::AnswerStream& stream) {
  const auto& answer = std::get<core::Answer>(result.value);
  stream.OnStarted({answer.served_by, answer.degradation, answer.cache_hit});
  if (!answer.text.empty()) stream.OnText(answer.text);
  for (size_t i = 0; i < answer.tool_calls.size(); ++i) {
    const core::ToolCall& call = answer.tool_calls[i];
    stream.OnToolCall(static_cast<int>(i), call.id, call.name, call.arguments);
  }
}

class ServiceFixture : public ::testing::Test {
 protected:
  using StreamEngine = std::function<core::Task<core::Result>(
      core::Loop&, core::Request, resilience::CallContext, core::AnswerStream*)>;
  using Engine =
      std::function<core::Task<core::Result>(core::Loop&, core::Request, resilience::CallContext)>;

  void SetUp() override {
    log_path_ = std::filesystem::path(::testing::TempDir()) /
                ("holdfast-log-" + std::to_string(::getpid()));
    std::filesystem::remove(log_path_);
    log_ = *Log::Open({.format = LogOptions::Format::kJson, .file = log_path_});
    request_log_ = std::make_unique<RequestLog>(*log_);
  }

  // An engine that knows no streams: its answer is delivered for it.
  void Serve(Engine engine, resilience::AdmissionOptions admission = {}) {
    engine_ = std::move(engine);
    ServeStreams({}, admission);
  }

  void ServeStreams(StreamEngine engine, resilience::AdmissionOptions admission = {}) {
    stream_engine_ = std::move(engine);
    admission_ = std::make_unique<resilience::Admission>(admission);
    std::vector<Lane> lanes;
    for (int i = 0; i < kLoops; ++i) {
      loops_.push_back(std::make_unique<providers::CurlLoop>(clock_));
      core::Loop& loop = *loops_.back();
      lanes.push_back({.loop = loop,
                       .enter =
                           [this, &loop](std::string, resilience::CallContext context) {
                             return admission_->Enter(loop, 10s, context.cancelled);
                           },
                       .run =
                           [this, &loop](core::Request request, resilience::CallContext context,
                                         Lane::Ticket ticket, core::AnswerStream* stream) {
                             return Run(loop, std::move(request), std::move(context),
                                        std::move(ticket), stream);
                           },
                       .hurry = {}});
    }
    service_ =
        std::make_unique<GenerateService>(reader_, random_, *request_log_, lanes, stream_limits_);
    listener_ = *Listen(*service_, "holdfast.v1.GenerateService", "127.0.0.1:0", 8 << 20);
    channel_ = grpc::CreateChannel(listener_.address, grpc::InsecureChannelCredentials());
    stub_ = v1::GenerateService::NewStub(channel_);
  }

  core::Task<core::Result> Run(core::Loop& loop, core::Request request,
                               resilience::CallContext context, Lane::Ticket ticket,
                               core::AnswerStream* stream) {
    EXPECT_TRUE(loop.InLoop());
    EXPECT_TRUE(ticket.has_value());
    if (stream_engine_) {
      core::Task<core::Result> run =
          stream_engine_(loop, std::move(request), std::move(context), stream);
      co_return co_await std::move(run);
    }
    core::Task<core::Result> run = engine_(loop, std::move(request), std::move(context));
    core::Result result = co_await std::move(run);
    if (stream != nullptr && result.ok()) Deliver(result, *stream);
    co_return result;
  }

  std::string StopAndReadLog() {
    Stop();
    return ReadLog();
  }

  std::string ReadLog() const {
    std::ifstream file(log_path_);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  // Whether the log says `text` within 20 s. It is written by a thread of its own.
  bool WaitForLog(const std::string& text) const {
    const core::SteadyTime until = clock_.Now() + 20s;
    while (ReadLog().find(text) == std::string::npos) {
      if (clock_.Now() > until) return false;
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }

  void Stop() {
    if (!listener_.server) return;
    listener_.server->Shutdown(std::chrono::system_clock::now());
    EXPECT_TRUE(service_->live_calls().WaitForNone(clock_.Now() + 20s));
    listener_.server.reset();
    for (const auto& loop : loops_) loop->Stop();
    request_log_.reset();
    log_.reset();
  }

  void TearDown() override {
    Stop();
    std::filesystem::remove(log_path_);
  }

  const core::SystemClock clock_;
  core::SeededRandom random_{1};
  std::filesystem::path log_path_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<RequestLog> request_log_;
  const RequestReader reader_{{.prompt_text = 1 << 20, .request = 2 << 20}, {"default"}};
  Engine engine_;
  StreamEngine stream_engine_;
  StreamLimits stream_limits_;
  std::unique_ptr<resilience::Admission> admission_;
  std::vector<std::unique_ptr<providers::CurlLoop>> loops_;
  std::unique_ptr<GenerateService> service_;
  Listener listener_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerateService::Stub> stub_;
};

}  // namespace holdfast::server
