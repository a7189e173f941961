// What is GenerateStream's alone: events, merging, backpressure, slow and vanished readers.

#include <atomic>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/stream_queue.h"
#include "tests/server/service_fixture.h"

namespace holdfast::server {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// Waits until a valve is open, or for ever if `stop` is not requested.
class OpenValve final : core::Valve::Listener {
 public:
  OpenValve(core::Loop& loop, core::Valve& valve) : valve_(valve), opened_(loop) {
    valve_.Add(*this);
  }
  ~OpenValve() { valve_.Remove(*this); }
  void OnValve(bool open) override {
    if (open) Set();
  }
  void Set() {
    if (!std::exchange(set_, true)) opened_.Set(true);
  }
  core::OneShot<bool>& opened() { return opened_; }

 private:
  core::Valve& valve_;
  core::OneShot<bool> opened_;
  bool set_ = false;
};

core::Result Cancelled() {
  return Failed({.code = core::ErrorCode::kCancelled, .reason = "CANCELLED"});
}

// A model that writes `total` bytes in pieces, and none while the valve is closed.
struct Writer {
  size_t piece = 1000;
  size_t total = 0;
  std::atomic<size_t> written = 0;
  std::atomic<int> pauses = 0;

  core::Task<core::Result> Run(core::Loop* loop, std::stop_token stop, core::AnswerStream* stream) {
    stream->OnStarted({});
    core::Result result = Answered("");
    std::string& text = std::get<core::Answer>(result.value).text;
    while (text.size() < total && !stop.stop_requested()) {
      if (!stream->valve().open()) {
        ++pauses;
        pauses.notify_all();
        OpenValve wait(*loop, stream->valve());
        std::stop_callback on_stop(stop, [&wait] { wait.Set(); });
        (void)co_await wait.opened();
        continue;
      }
      std::string more;
      while (more.size() < piece) more += std::to_string(text.size() + more.size()) + " ";
      text += more;
      stream->OnText(more);
      written = text.size();
    }
    if (stop.stop_requested()) co_return Cancelled();
    co_return result;
  }
};

class GenerateStreamTest : public ServiceFixture {
 protected:
  grpc::Status Call(const v1::GenerateRequest& request, testing::Assembled& assembled) {
    grpc::ClientContext context;
    return testing::ReadStream(*stub_, context, request, assembled);
  }

  void ServeWriter(Writer& writer) {
    ServeStreams([&writer](core::Loop& loop, core::Request, resilience::CallContext context,
                           core::AnswerStream* stream) {
      return writer.Run(&loop, context.cancelled, stream);
    });
  }

  bool NoneLeft() { return service_->live_calls().WaitForNone(clock_.Now() + 20s); }
};

TEST_F(GenerateStreamTest, EventsArriveAsTheyAreMade) {
  struct Step {
    std::promise<void> read;
    std::future<void> waits = read.get_future();
  };
  std::vector<Step> steps(3);
  ServeStreams(
      [&](core::Loop& loop, core::Request, resilience::CallContext, core::AnswerStream* stream) {
        struct Engine {
          // Goes on once the reader has what was written: nothing waits for what comes later.
          static core::Task<core::Result> Run(core::Loop* l, core::AnswerStream* s,
                                              std::vector<Step>* steps) {
            s->OnStarted({.served_by = core::TargetName{"p", "m"},
                          .degradation = core::Degradation::kFallbackModel,
                          .cache_hit = {}});
            s->OnText("one");
            while ((*steps)[0].waits.wait_for(0s) != std::future_status::ready) {
              core::Task<bool> nap = core::Sleep(*l, l->Now() + 1ms, {});
              (void)co_await std::move(nap);
            }
            s->OnText(" two");
            while ((*steps)[1].waits.wait_for(0s) != std::future_status::ready) {
              core::Task<bool> nap = core::Sleep(*l, l->Now() + 1ms, {});
              (void)co_await std::move(nap);
            }
            s->OnContinued({.served_by = core::TargetName{"p", "n"}, .cache_hit = {}});
            s->OnText(" three");
            core::Result result = Answered("one two three");
            auto& answer = std::get<core::Answer>(result.value);
            answer.usage.output_tokens = 3;
            answer.finish_reason = core::FinishReason::kStop;
            co_return result;
          }
        };
        return Engine::Run(&loop, stream, &steps);
      });
  grpc::ClientContext context;
  v1::GenerateRequest request = Question();
  request.set_request_id("mine");
  const auto reader = stub_->GenerateStream(&context, request);
  v1::GenerateStreamResponse event;
  testing::Assembled assembled;
  const auto read = [&] {
    ASSERT_TRUE(reader->Read(&event));
    assembled.On(event);
  };
  read();
  EXPECT_EQ(event.started().request_id(), "mine");
  EXPECT_EQ(event.started().route(), "default");
  EXPECT_EQ(event.started().served_by().model(), "m");
  EXPECT_EQ(event.started().degradation(), v1::DEGRADATION_FALLBACK_MODEL);
  read();
  EXPECT_EQ(event.delta().text(), "one");
  steps[0].read.set_value();
  read();
  EXPECT_EQ(event.delta().text(), " two");
  steps[1].read.set_value();
  while (reader->Read(&event)) assembled.On(event);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(assembled.events, ElementsAre("started", "delta", "continued", "delta", "finished"));
  EXPECT_EQ(assembled.text, "one two three");
  EXPECT_EQ(assembled.finished.request_id(), "mine");
  EXPECT_EQ(assembled.finished.usage().output_tokens(), 3);
  EXPECT_EQ(assembled.finished.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_FALSE(assembled.finished.has_message());
}

TEST_F(GenerateStreamTest, ToolCallsResetAndTheAssembledMessage) {
  ServeStreams([](core::Loop&, core::Request request, resilience::CallContext,
                  core::AnswerStream* stream) {
    EXPECT_TRUE(request.stream.assembled_message);
    core::Result result = Answered("it is ");
    std::get<core::Answer>(result.value).tool_calls = {{"i", "f", "{\"a\":1}"}, {"j", "g", "{}"}};
    stream->OnStarted({});
    stream->OnText("void");
    stream->OnToolCall(0, "x", "void", "");
    stream->OnReset({.degradation = core::Degradation::kFallbackModel, .cache_hit = {}});
    stream->OnText("it is ");
    stream->OnToolCall(0, "i", "f", "");
    stream->OnToolCall(0, "", "", "{\"a\"");
    stream->OnToolCall(1, "j", "g", "{}");
    stream->OnToolCall(0, "", "", ":1}");
    return Return(result);
  });
  v1::GenerateRequest request = Question();
  request.mutable_stream()->set_assembled_message(true);
  testing::Assembled assembled;
  ASSERT_TRUE(Call(request, assembled).ok());
  EXPECT_EQ(assembled.Response().message().SerializeAsString(),
            assembled.finished.message().SerializeAsString());
  ASSERT_THAT(assembled.resets, SizeIs(1));
  EXPECT_EQ(assembled.resets[0].degradation(), v1::DEGRADATION_FALLBACK_MODEL);
  EXPECT_THAT(assembled.tool_calls, SizeIs(2));
}

TEST_F(GenerateStreamTest, OptionsAreReadHereAndOnlyHere) {
  core::StreamOptions got;
  ServeStreams(
      [&](core::Loop&, core::Request request, resilience::CallContext, core::AnswerStream* stream) {
        got = request.stream;
        if (stream != nullptr) Deliver(Answered("x"), *stream);
        return Return(Answered("x"));
      });
  v1::GenerateRequest request = Question();
  testing::Assembled assembled;
  ASSERT_TRUE(Call(request, assembled).ok());
  EXPECT_FALSE(got.on_break || got.hedge || got.assembled_message);
  request.mutable_stream()->set_hedge(false);
  for (const auto& [in, out] : {std::pair(v1::ON_BREAK_CONTINUE, core::OnBreak::kContinue),
                                {v1::ON_BREAK_RESTART, core::OnBreak::kRestart},
                                {v1::ON_BREAK_PARTIAL, core::OnBreak::kPartial}}) {
    request.mutable_stream()->set_on_break(in);
    testing::Assembled again;
    ASSERT_TRUE(Call(request, again).ok());
    EXPECT_EQ(got.on_break, out);
    EXPECT_EQ(got.hedge, false);
  }
  request.mutable_stream()->set_on_break(static_cast<v1::OnBreak>(4));
  testing::Assembled refused;
  const grpc::Status status = Call(request, refused);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  ASSERT_TRUE(Detail<google::rpc::BadRequest>(status));
  EXPECT_EQ(Detail<google::rpc::BadRequest>(status)->field_violations(0).field(),
            "stream.on_break");

  grpc::ClientContext context;
  v1::GenerateResponse response;
  EXPECT_TRUE(stub_->Generate(&context, request, &response).ok());
  EXPECT_FALSE(got.on_break || got.hedge || got.assembled_message);
}

// An answer of one piece that is larger than any client takes at once.
TEST_F(GenerateStreamTest, LargeAnswersReachDefaultClients) {
  std::string text;
  while (text.size() < (9 << 20)) text += "a\xE2\x82\xAC\xF0\x9F\x98\x80";
  Serve(
      [&](core::Loop&, core::Request, resilience::CallContext) { return Return(Answered(text)); });
  v1::GenerateRequest request = Question();
  request.mutable_stream()->set_assembled_message(true);
  testing::Assembled assembled;
  const grpc::Status status = Call(request, assembled);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(assembled.text == text);
  EXPECT_FALSE(assembled.finished.has_message());  // it would be over 4 MiB
}

TEST_F(GenerateStreamTest, AnErrorAfterTextHasDetails) {
  ServeStreams([](core::Loop&, core::Request, resilience::CallContext, core::AnswerStream* stream) {
    stream->OnStarted({});
    stream->OnText("half");
    core::Result result = Failed({.code = core::ErrorCode::kUnavailable,
                                  .reason = "ALL_TARGETS_FAILED",
                                  .message = "no target answered",
                                  .retry_after = 1500ms});
    result.attempts.resize(2);
    return Return(result);
  });
  testing::Assembled assembled;
  grpc::ClientContext context;
  const grpc::Status status = testing::ReadStream(*stub_, context, Question(), assembled);
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(status)->reason(), "ALL_TARGETS_FAILED");
  EXPECT_EQ(Detail<v1::FailedAttempts>(status)->attempts_size(), 2);
  EXPECT_EQ(Detail<google::rpc::RetryInfo>(status)->retry_delay().seconds(), 1);
  EXPECT_EQ(context.GetServerTrailingMetadata().find(kPushbackTrailer)->second, "1500");
}

TEST_F(GenerateStreamTest, AReaderThatKeepsUpGetsEverything) {
  Writer writer{.piece = 100, .total = 2'000'000};
  ServeWriter(writer);
  v1::GenerateRequest request = Question();
  request.mutable_stream()->set_assembled_message(true);
  testing::Assembled assembled;
  ASSERT_TRUE(Call(request, assembled).ok());
  EXPECT_TRUE(assembled.text == assembled.finished.message().content());
  EXPECT_GE(assembled.text.size(), 2'000'000u);
}

TEST_F(GenerateStreamTest, AReaderThatWaitsStopsItsModelAndLosesNothing) {
  Writer writer{.total = 20'000'000};
  ServeWriter(writer);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Question());
  v1::GenerateStreamResponse event;
  testing::Assembled assembled;
  ASSERT_TRUE(reader->Read(&event));
  assembled.On(event);
  // What the sockets hold besides the queue is theirs, and bounded.
  writer.pauses.wait(0);
  EXPECT_LT(writer.written, 10'000'000u);
  while (reader->Read(&event)) assembled.On(event);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(assembled.text.size(), writer.written);
  EXPECT_GE(assembled.text.size(), 20'000'000u);
}

TEST_F(GenerateStreamTest, AReaderThatLeavesAWholeAnswerUnreadIsTold) {
  stream_limits_.max_pause = 300ms;
  std::string text(5'000'000, 'x');
  Serve(
      [&](core::Loop&, core::Request, resilience::CallContext) { return Return(Answered(text)); });
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Question());
  // It has been told before it is cut off, which takes as long again.
  ASSERT_TRUE(WaitForLog("reader_too_slow"));
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) EXPECT_FALSE(event.has_finished());
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
  ASSERT_TRUE(Detail<google::rpc::ErrorInfo>(status));
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(status)->reason(), "READER_TOO_SLOW");
  EXPECT_TRUE(NoneLeft());
}

TEST_F(GenerateStreamTest, AReaderThatNeverReadsIsCutOff) {
  stream_limits_.max_pause = 100ms;
  const std::string text(5'000'000, 'x');
  std::atomic<int> calls = 0;
  Serve([&](core::Loop&, core::Request, resilience::CallContext) {
    ++calls;
    calls.notify_all();
    return Return(Answered(text));
  });
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Question());
  // Neither an end nor a status can reach it, and yet nothing of the call stays.
  calls.wait(0);
  EXPECT_TRUE(NoneLeft());
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
}

TEST_F(GenerateStreamTest, CancellingStopsAPausedModel) {
  Writer writer{.total = SIZE_MAX};
  ServeWriter(writer);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Question());
  writer.pauses.wait(0);
  context.TryCancel();
  EXPECT_TRUE(NoneLeft());
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
}

TEST_F(GenerateStreamTest, ShutdownEndsAPausedStream) {
  Writer writer{.total = SIZE_MAX};
  ServeWriter(writer);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, Question());
  writer.pauses.wait(0);
  Stop();  // expects that no call is left
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

// Finish twice ends the process inside gRPC; without Finish a call never leaves live_calls.
TEST_F(GenerateStreamTest, TenThousandRandomCancels) {
  constexpr int kCalls = 10'000;
  constexpr int kAtOnce = 64;
  std::atomic<uint32_t> turn = 0;
  struct Engine {
    static core::Task<core::Result> Run(core::Loop* l, std::stop_token stop, core::AnswerStream* s,
                                        uint32_t pieces) {
      s->OnStarted({});
      core::Result result = Answered("");
      for (uint32_t i = 0; i < pieces; ++i) {
        s->OnText("text ");
        std::get<core::Answer>(result.value).text += "text ";
        core::Task<bool> nap = core::Sleep(*l, l->Now() + std::chrono::microseconds(50), stop);
        const bool slept = co_await std::move(nap);
        if (!slept) co_return Cancelled();
      }
      co_return result;
    }
  };
  ServeStreams([&](core::Loop& loop, core::Request, resilience::CallContext context,
                   core::AnswerStream* stream) {
    return Engine::Run(&loop, context.cancelled, stream, turn.fetch_add(1) % 8);
  });
  const v1::GenerateRequest request = Question();
  std::atomic<int> next = 0;
  std::atomic<int> answered = 0;
  std::atomic<int> cancelled = 0;
  std::vector<std::thread> callers;
  for (int t = 0; t < kAtOnce; ++t) {
    callers.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      while (next++ < kCalls) {
        grpc::ClientContext context;
        const auto reader = stub_->GenerateStream(&context, request);
        v1::GenerateStreamResponse event;
        testing::Assembled assembled;
        for (uint32_t reads = random() % 12; reads > 0 && reader->Read(&event); --reads) {
          assembled.On(event);
        }
        if (random() % 3 != 0) context.TryCancel();
        while (reader->Read(&event)) assembled.On(event);
        const grpc::Status status = reader->Finish();
        EXPECT_TRUE(status.ok() || status.error_code() == grpc::CANCELLED)
            << status.error_message();
        ++(status.ok() ? answered : cancelled);
        if (status.ok()) EXPECT_TRUE(assembled.has("finished"));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(answered + cancelled, kCalls);
  EXPECT_GT(answered, 100);
  EXPECT_GT(cancelled, 100);
  EXPECT_TRUE(NoneLeft());
  EXPECT_EQ(admission_->in_progress(), 0);
}

}  // namespace
}  // namespace holdfast::server
