// What Generate and GenerateStream must do alike, each test by both; then what is Generate's alone.

#include "server/generate_service.h"

#include <atomic>
#include <future>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/generate_call.h"
#include "tests/fakes/fake_loop.h"
#include "tests/server/service_fixture.h"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class GenerateServiceTest : public ServiceFixture, public ::testing::WithParamInterface<bool> {
 protected:
  const char* method() const {
    return GetParam() ? "/holdfast.v1.GenerateService/GenerateStream"
                      : "/holdfast.v1.GenerateService/Generate";
  }

  grpc::Status Call(const v1::GenerateRequest& request, v1::GenerateResponse* response = nullptr,
                    grpc::ClientContext* context = nullptr) {
    grpc::ClientContext own;
    v1::GenerateResponse ignored;
    if (context == nullptr) context = &own;
    if (response == nullptr) response = &ignored;
    if (!GetParam()) return stub_->Generate(context, request, response);
    testing::Assembled assembled;
    const grpc::Status status = testing::ReadStream(*stub_, *context, request, assembled);
    *response = assembled.Response();
    return status;
  }
};

TEST_P(GenerateServiceTest, AnswersOnTheLoop) {
  std::atomic<int> with_default = 0;
  Serve([&](core::Loop&, core::Request request, resilience::CallContext context) {
    if (request.tenant == "default" && !context.deadline && !context.call_id.empty()) {
      ++with_default;
    }
    return Return(Answered("because"));
  });
  for (int i = 0; i < 4; ++i) {
    v1::GenerateResponse response;
    const grpc::Status status = Call(Question(), &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.message().content(), "because");
    EXPECT_THAT(response.request_id(), SizeIs(26));
  }
  EXPECT_EQ(with_default, 4);
}

TEST_P(GenerateServiceTest, TheCallersIdTenantAndDeadlineArrive) {
  std::promise<core::Request> got;
  std::promise<core::Duration> left;
  Serve([&](core::Loop&, core::Request request, resilience::CallContext context) {
    got.set_value(request);
    left.set_value(context.deadline.value_or(context.arrival) - context.arrival);
    return Return(Answered("x"));
  });
  grpc::ClientContext context;
  context.AddMetadata("x-holdfast-tenant", "acme");
  context.set_deadline(std::chrono::system_clock::now() + 100s);
  v1::GenerateRequest request = Question();
  request.set_request_id("mine");
  v1::GenerateResponse response;
  ASSERT_TRUE(Call(request, &response, &context).ok());
  EXPECT_EQ(response.request_id(), "mine");
  EXPECT_EQ(got.get_future().get().tenant, "acme");
  const core::Duration deadline = left.get_future().get();
  EXPECT_GT(deadline, 50s);
  EXPECT_LE(deadline, 101s);
}

TEST_P(GenerateServiceTest, BadTenants) {
  Serve([&](core::Loop&, core::Request, resilience::CallContext) { return Return(Answered("x")); });
  const auto call = [&](const std::vector<std::string>& tenants) {
    grpc::ClientContext context;
    for (const std::string& tenant : tenants) context.AddMetadata("x-holdfast-tenant", tenant);
    return Call(Question(), nullptr, &context);
  };
  EXPECT_TRUE(call({std::string(128, 't')}).ok());
  for (const std::vector<std::string>& bad :
       {std::vector<std::string>{""}, {std::string(129, 't')}, {"a", "b"}, {"a", "a"}}) {
    const grpc::Status status = call(bad);
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
    const auto detail = Detail<google::rpc::BadRequest>(status);
    ASSERT_TRUE(detail);
    EXPECT_EQ(detail->field_violations(0).field(), "x-holdfast-tenant");
  }
}

TEST_P(GenerateServiceTest, InvalidRequestReachesNobody) {
  std::atomic<int> calls = 0;
  Serve([&](core::Loop&, core::Request, resilience::CallContext) {
    ++calls;
    return Return(Answered("x"));
  });
  v1::GenerateRequest request;
  request.set_temperature(9);
  const grpc::Status status = Call(request);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  const auto bad = Detail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad);
  ASSERT_THAT(bad->field_violations(), SizeIs(2));
  EXPECT_EQ(bad->field_violations(0).field(), "messages");
  EXPECT_EQ(bad->field_violations(1).field(), "temperature");
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(status)->reason(), "INVALID_REQUEST");
  EXPECT_EQ(calls, 0);
}

TEST_P(GenerateServiceTest, BytesThatStubsRefuseToSend) {
  Serve([&](core::Loop&, core::Request, resilience::CallContext) { return Return(Answered("x")); });
  std::string bytes = Question("sad \x01").SerializeAsString();
  bytes[bytes.find('\x01')] = '\xFF';
  grpc::Status status = testing::CallRaw(channel_, method(), bytes);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  const auto bad = Detail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(bad);
  EXPECT_EQ(bad->field_violations(0).field(), "messages[0].content");
  EXPECT_EQ(bad->field_violations(0).description(), "is not valid UTF-8");

  status = testing::CallRaw(channel_, method(), "\x12\x7F");
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  status = testing::CallRaw(channel_, method(), "");
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
}

TEST_P(GenerateServiceTest, OverTheLimitsItIsWeWhoAnswer) {
  Serve([&](core::Loop&, core::Request request, resilience::CallContext) {
    return Return(Answered(std::to_string(core::MeasurePrompt(request).text_bytes)));
  });
  v1::GenerateResponse response;
  EXPECT_TRUE(Call(Question(std::string(1 << 20, 'x')), &response).ok());
  EXPECT_EQ(response.message().content(), std::to_string(1 << 20));
  for (const size_t size : {(size_t{1} << 20) + 1, size_t{3} << 20, size_t{7} << 20}) {
    const grpc::Status status = Call(Question(std::string(size, 'x')));
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << size;
    ASSERT_TRUE(Detail<google::rpc::BadRequest>(status));
    EXPECT_EQ(Detail<google::rpc::BadRequest>(status)->field_violations(0).field(), "messages");
  }
}

TEST_P(GenerateServiceTest, CompressedRequests) {
  Serve([&](core::Loop&, core::Request request, resilience::CallContext) {
    return Return(Answered(std::to_string(core::MeasurePrompt(request).text_bytes)));
  });
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::GenerateResponse response;
  EXPECT_TRUE(Call(Question(std::string(100'000, 'x')), &response, &context).ok());
  EXPECT_EQ(response.message().content(), "100000");
}

TEST_P(GenerateServiceTest, LargeTrailersReachRealClients) {
  std::string umlauts;
  for (int i = 0; i < 256; ++i) umlauts += "\xC3\xA4";
  Serve([&](core::Loop&, core::Request, resilience::CallContext) {
    core::Result result = Failed({.code = core::ErrorCode::kInvalidArgument,
                                  .reason = "PROVIDER_REJECTED",
                                  .message = umlauts,
                                  .retry_after = 5s});
    for (int i = 0; i < 12; ++i) {
      core::AttemptRecord record;
      record.target = {"p" + std::to_string(i), "model"};
      record.outcome = "server_error";
      record.error = umlauts;
      result.attempts.push_back(record);
    }
    return Return(result);
  });
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxTrailerBytes);
  const auto channel =
      grpc::CreateCustomChannel(listener_.address, grpc::InsecureChannelCredentials(), arguments);
  stub_ = v1::GenerateService::NewStub(channel);
  grpc::ClientContext context;
  const grpc::Status status = Call(Question(), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
  const auto failed = Detail<v1::FailedAttempts>(status);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->attempts_size() + failed->omitted(), 12);
  EXPECT_GT(failed->attempts_size(), 5);
  size_t bytes = 0;
  for (const auto& [key, value] : context.GetServerTrailingMetadata()) {
    if (key != "grpc-status-details-bin") bytes += key.size() + value.size() + 32;
  }
  bytes += status.error_message().size() * 3 + status.error_details().size() * 4 / 3;
  EXPECT_LE(bytes, kMaxTrailerBytes);
  EXPECT_EQ(context.GetServerTrailingMetadata().find(kPushbackTrailer)->second, "5000");
}

TEST_P(GenerateServiceTest, ShedCallsAreNeitherReadNorRun) {
  std::atomic<int> runs = 0;
  std::promise<void> running;
  Serve(
      [&](core::Loop& loop, core::Request, resilience::CallContext context) {
        if (++runs == 1) running.set_value();
        return SleepThenReturn(&loop, 1h, context.cancelled, Answered("x"));
      },
      {.max_in_progress = 1, .max_queue = 0});
  grpc::ClientContext first;
  std::thread holder([&] { (void)Call(Question(), nullptr, &first); });
  running.get_future().wait();

  grpc::ClientContext context;
  // It would be INVALID_ARGUMENT if it were read.
  const grpc::Status status = Call(v1::GenerateRequest(), nullptr, &context);
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(status)->reason(), "SHED");
  ASSERT_TRUE(Detail<google::rpc::RetryInfo>(status));
  EXPECT_FALSE(Detail<v1::FailedAttempts>(status));
  EXPECT_EQ(context.GetServerTrailingMetadata().count(kPushbackTrailer), 1u);
  first.TryCancel();
  holder.join();
  EXPECT_EQ(runs, 1);
}

TEST_P(GenerateServiceTest, CancellingStopsTheEngine) {
  std::promise<void> running;
  std::promise<void> stopped;
  Serve([&](core::Loop& loop, core::Request, resilience::CallContext context) {
    running.set_value();
    struct Watch {
      static core::Task<core::Result> Run(core::Loop* l, std::stop_token stop,
                                          std::promise<void>* p) {
        core::Task<core::Result> sleep = SleepThenReturn(l, 1h, stop, Answered("x"));
        core::Result result = co_await std::move(sleep);
        p->set_value();
        co_return result;
      }
    };
    return Watch::Run(&loop, context.cancelled, &stopped);
  });
  grpc::ClientContext context;
  std::thread caller(
      [&] { EXPECT_EQ(Call(Question(), nullptr, &context).error_code(), grpc::CANCELLED); });
  running.get_future().wait();
  context.TryCancel();
  stopped.get_future().wait();
  caller.join();
  EXPECT_TRUE(service_->live_calls().WaitForNone(clock_.Now() + 20s));
}

// Finish twice ends the process inside gRPC; without Finish a call never leaves live_calls.
TEST_F(ServiceFixture, AThousandRandomCancels) {
  constexpr int kCalls = 1000;
  std::atomic<uint32_t> turn = 0;
  Serve([&](core::Loop& loop, core::Request, resilience::CallContext context) {
    const core::Duration delay = std::chrono::microseconds(turn.fetch_add(37) % 3000);
    return SleepThenReturn(&loop, delay, context.cancelled, Answered("x"));
  });
  struct OneCall {
    grpc::ClientContext context;
    grpc::Status status;
    v1::GenerateResponse response;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GenerateResponse>> reader;
  };
  std::vector<OneCall> calls(kCalls);
  grpc::CompletionQueue queue;
  std::mt19937 random(7);
  const v1::GenerateRequest request = Question();
  for (int i = 0; i < kCalls; ++i) {
    calls[i].reader = stub_->AsyncGenerate(&calls[i].context, request, &queue);
    calls[i].reader->Finish(&calls[i].response, &calls[i].status, &calls[i]);
    if (i >= 8 && random() % 2 == 0) calls[random() % 8 + i - 8].context.TryCancel();
  }
  int answered = 0;
  for (int i = 0; i < kCalls; ++i) {
    void* tag = nullptr;
    bool ok = false;
    ASSERT_TRUE(queue.Next(&tag, &ok));
    const grpc::Status& status = static_cast<OneCall*>(tag)->status;
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::CANCELLED) << status.error_message();
    answered += status.ok();
  }
  EXPECT_GT(answered, 0);
  EXPECT_LT(answered, kCalls);
  EXPECT_TRUE(service_->live_calls().WaitForNone(clock_.Now() + 20s));
  EXPECT_EQ(admission_->in_progress(), 0);
}

TEST_P(GenerateServiceTest, RefusesNewCallsWhileOldOnesGoOn) {
  std::promise<void> running;
  Serve([&](core::Loop& loop, core::Request, resilience::CallContext context) {
    running.set_value();
    return SleepThenReturn(&loop, 1h, context.hurry, Answered("x"));
  });
  grpc::Status first;
  std::thread caller([&] { first = Call(Question()); });
  running.get_future().wait();
  service_->RefuseNewCalls();
  const grpc::Status status = Call(Question());
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(Detail<google::rpc::ErrorInfo>(status)->reason(), "SHUTTING_DOWN");
  EXPECT_FALSE(service_->live_calls().WaitForNone(clock_.Now()));
  service_->Hurry();
  caller.join();
  EXPECT_EQ(first.error_code(), grpc::CANCELLED);  // as the engine above ends when hurried
}

TEST_P(GenerateServiceTest, OneLineARequestAndNoPrompt) {
  Serve([&](core::Loop&, core::Request request, resilience::CallContext) {
    core::AttemptRecord record;
    record.target = {"p", "m"};
    record.outcome = "model_not_found";
    record.error = "the prompt CANARY is bad, key sk-CANARY";
    request_log_->OnAttempt(request, record);
    request_log_->OnAttempt(request, record);
    record.outcome = "server_error";
    request_log_->OnRetry(request, record, 1500ms);
    core::Result result = Answered("CANARY");
    core::Answer& answer = std::get<core::Answer>(result.value);
    answer.degradation = core::Degradation::kPartial;
    answer.notice = "CANARY";
    answer.served_by = core::TargetName{"p", "m"};
    answer.usage.output_tokens = 7;
    result.attempts = {record};
    result.cost_usd = 0.25;
    return Return(result);
  });
  v1::GenerateRequest request = Question("CANARY");
  request.set_request_id("r1");
  (*request.mutable_labels())["team"] = "blue\n\"sky\"";
  ASSERT_TRUE(Call(request).ok());
  request.mutable_messages(0)->set_role("CANARY");
  EXPECT_FALSE(Call(request).ok());
  const std::string log = StopAndReadLog();
  EXPECT_THAT(log, Not(HasSubstr("CANARY")));
  EXPECT_THAT(log, HasSubstr(R"("event":"request","request_id":"r1","tenant":"default",)"
                             R"("route":"default","status":"OK","served_by":"p/m",)"
                             R"("degradation":"partial")"));
  EXPECT_THAT(log, HasSubstr(R"("output_tokens":7,"attempts":1,"skipped":0,)"));
  EXPECT_THAT(log, HasSubstr(R"("cost_usd":0.25,"label.team":"blue\n\"sky\""})"));
  EXPECT_THAT(log, HasSubstr(R"("level":"warning","event":"degraded_answer")"));
  EXPECT_THAT(log, HasSubstr(R"("event":"retry")"));
  EXPECT_THAT(log, HasSubstr(R"("delay_ms":1500.0)"));
  EXPECT_THAT(log, HasSubstr(R"("status":"INVALID_ARGUMENT","reason":"INVALID_REQUEST",)"
                             R"("field":"messages[0].role")"));
  const size_t unknown = log.find("model_not_found");
  ASSERT_NE(unknown, std::string::npos);
  EXPECT_EQ(log.find(R"("event":"model_not_found")", unknown + 1), std::string::npos);
  int lines = 0;
  std::istringstream stream(log);
  for (std::string line; std::getline(stream, line);) {
    EXPECT_EQ(line.front(), '{');
    EXPECT_EQ(line.back(), '}');
    ++lines;
  }
  EXPECT_EQ(lines, 5);  // two requests, a model unknown, a retry, a degraded answer
}

INSTANTIATE_TEST_SUITE_P(BothCalls, GenerateServiceTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Stream" : "Unary"; });

TEST(ToSteadyTest, DeadlinesOfEveryKind) {
  const testing::FakeClock clock;
  const auto wall = [&](core::Duration from_now) {
    return std::chrono::time_point_cast<std::chrono::system_clock::duration>(clock.WallNow() +
                                                                             from_now);
  };
  EXPECT_EQ(ToSteady(std::chrono::system_clock::time_point::max(), clock), std::nullopt);
  EXPECT_EQ(ToSteady(wall(250ms), clock), clock.Now() + 250ms);
  EXPECT_EQ(ToSteady(wall(-3s), clock), clock.Now() - 3s);
  EXPECT_EQ(ToSteady(wall(100s - 1ms), clock), clock.Now() + 100s - 1ms);
  EXPECT_EQ(ToSteady(wall(100s), clock), clock.Now() + 99s);
  EXPECT_EQ(ToSteady(wall(101s), clock), clock.Now() + 100s);
  EXPECT_EQ(ToSteady(wall(1000s - 1ms), clock), clock.Now() + 999s - 1ms);
  EXPECT_EQ(ToSteady(wall(1000s), clock), clock.Now() + 990s);
  EXPECT_EQ(ToSteady(wall(core::Duration(0)), clock), clock.Now());
  EXPECT_TRUE(ToSteady(std::chrono::system_clock::time_point::min(), clock));
  EXPECT_LT(*ToSteady(std::chrono::system_clock::time_point::min(), clock), clock.Now());
}

TEST(PeekRouteTest, FirstFieldOnly) {
  v1::GenerateRequest request = Question();
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer(request.SerializeAsString())), "default");
  request.set_route("fast");
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer(request.SerializeAsString())), "fast");
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer("")), "default");
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer("\x0A")), "default");
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer("\x0A\x05xx")), "default");
  request.set_route(std::string(300, 'r'));
  EXPECT_EQ(RequestReader::PeekRoute(testing::ToBuffer(request.SerializeAsString())), "default");
}

}  // namespace
}  // namespace holdfast::server
