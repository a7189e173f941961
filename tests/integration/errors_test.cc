// What a caller hears when the request is at fault, or too large, or cannot be had: through a real
// client, down to raw bytes.

#include <limits>
#include <thread>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"
#include "tests/server/grpc_client.h"

namespace holdfast::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr char kGenerate[] = "/holdfast.v1.GenerateService/Generate";
constexpr size_t kMaxTrailer = 4096;

class ErrorsTest : public ServiceByBothCalls {
 protected:
  void ExpectRefused(const v1::GenerateRequest& request, const std::vector<std::string>& fields) {
    const Reply reply = Generate(request);
    EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT) << request.ShortDebugString();
    EXPECT_EQ(reply.info.domain(), "holdfast");
    EXPECT_EQ(reply.info.reason(), "INVALID_REQUEST");
    EXPECT_THAT(reply.Fields(), ::testing::UnorderedElementsAreArray(fields))
        << request.ShortDebugString() << reply.status.error_message();
    EXPECT_FALSE(reply.retry);  // no waiting helps
    for (const auto& violation : reply.bad_request.field_violations()) {
      EXPECT_THAT(violation.description(), Not(IsEmpty()));
    }
  }
};

TEST_P(ErrorsTest, EveryRuleOfTheRequest) {
  Start();
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  const double kInf = std::numeric_limits<double>::infinity();
  const auto refused = [&](const std::vector<std::string>& fields, const auto& change) {
    v1::GenerateRequest request = Question("A good question?");
    change(request);
    ExpectRefused(request, fields);
  };
  using R = v1::GenerateRequest;
  refused({"messages"}, [](R& r) { r.clear_messages(); });
  refused({"route"}, [](R& r) { r.set_route("nowhere"); });
  refused({"messages[0].role"}, [](R& r) { r.mutable_messages(0)->set_role("robot"); });
  refused({"messages[0].role"}, [](R& r) { r.mutable_messages(0)->clear_role(); });
  refused({"messages[0].content"}, [](R& r) { r.mutable_messages(0)->clear_content(); });
  refused({"messages[0].content"},
          [](R& r) { r.mutable_messages(0)->add_parts()->set_text("beside"); });
  refused({"messages[0].parts[0]"}, [](R& r) {
    r.mutable_messages(0)->clear_content();
    r.mutable_messages(0)->add_parts();
  });
  refused({"messages[0].parts[0].text"}, [](R& r) {
    r.mutable_messages(0)->clear_content();
    r.mutable_messages(0)->add_parts()->set_text("");
  });
  for (const double bad : {-0.01, 2.01, kNan, kInf, -kInf}) {
    refused({"temperature"}, [&](R& r) { r.set_temperature(bad); });
  }
  for (const double bad : {-0.01, 1.01, kNan}) {
    refused({"top_p"}, [&](R& r) { r.set_top_p(bad); });
    refused({"cache.min_similarity"}, [&](R& r) { r.mutable_cache()->set_min_similarity(bad); });
  }
  for (const double bad : {-0.01, kNan, kInf}) {
    refused({"max_cost_usd"}, [&](R& r) { r.set_max_cost_usd(bad); });
  }
  for (const int64_t bad : {int64_t{0}, int64_t{-1}}) {
    refused({"max_output_tokens"}, [&](R& r) { r.set_max_output_tokens(bad); });
    refused({"cache.max_age"},
            [&](R& r) { r.mutable_cache()->mutable_max_age()->set_seconds(bad); });
  }
  refused({"stop[1]"}, [](R& r) {
    r.add_stop("x");
    r.add_stop("");
  });
  refused({"worst_acceptable"},
          [](R& r) { r.set_worst_acceptable(static_cast<v1::Degradation>(9)); });
  refused({"request_id"}, [](R& r) { r.set_request_id(std::string(129, 'x')); });
  refused({"request_id"}, [](R& r) { r.set_request_id("a\nb"); });
  refused({"cache.mode"},
          [](R& r) { r.mutable_cache()->set_mode(static_cast<v1::CacheControl::Mode>(7)); });
  EXPECT_EQ(sim_->CountOf(), 0);  // nobody was called
}

TEST_P(ErrorsTest, EveryRuleOfToolsImagesAndFormats) {
  Start();
  const auto refused = [&](const std::vector<std::string>& fields, const auto& change) {
    v1::GenerateRequest request = Question("A good question?");
    v1::Tool& tool = *request.add_tools();
    tool.set_name("look");
    tool.set_parameters_json_schema(R"({"type": "object"})");
    change(request);
    ExpectRefused(request, fields);
  };
  using R = v1::GenerateRequest;
  refused({"tools[0].name"}, [](R& r) { r.mutable_tools(0)->set_name("no spaces"); });
  refused({"tools[1].name"}, [](R& r) { r.add_tools()->set_name("look"); });
  for (const char* bad : {"{", "[]", "5", R"({"type": "array"})"}) {
    refused({"tools[0].parameters_json_schema"},
            [&](R& r) { r.mutable_tools(0)->set_parameters_json_schema(bad); });
  }
  refused({"tool_choice.name"}, [](R& r) {
    r.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NAMED);
    r.mutable_tool_choice()->set_name("other");
  });
  refused({"tool_choice.name"}, [](R& r) {
    r.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_AUTO);
    r.mutable_tool_choice()->set_name("look");
  });
  refused({"tool_choice.mode"}, [](R& r) {
    r.clear_tools();
    r.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
  });
  refused({"messages[1].parts[0].tool_result.tool_call_id"}, [](R& r) {
    v1::Message& message = *r.add_messages();
    message.set_role("tool");
    message.add_parts()->mutable_tool_result()->set_tool_call_id("none");
  });
  refused({"messages[1].parts[0].tool_call.arguments"}, [](R& r) {
    v1::Message& message = *r.add_messages();
    message.set_role("assistant");
    v1::ToolCall& call = *message.add_parts()->mutable_tool_call();
    call.set_id("1");
    call.set_name("look");
    call.set_arguments("no json");
  });
  refused({"messages[0].parts[0].image.mime_type"}, [](R& r) {
    r.mutable_messages(0)->clear_content();
    r.mutable_messages(0)->add_parts()->mutable_image()->set_data("png");
  });
  refused({"messages[0].parts[0].image.url"}, [](R& r) {
    r.mutable_messages(0)->clear_content();
    r.mutable_messages(0)->add_parts()->mutable_image()->set_url("file:///etc/passwd");
  });
  refused({"messages[0].parts[0].image"}, [](R& r) {
    r.mutable_messages(0)->clear_content();
    r.mutable_messages(0)->add_parts()->mutable_image();
  });
  refused({"response_format.json_schema"}, [](R& r) {
    r.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_SCHEMA);
    r.mutable_response_format()->set_json_schema("{\"type\": ");
  });
  refused({"response_format.json_schema"}, [](R& r) {
    r.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_SCHEMA);
  });
  EXPECT_EQ(sim_->CountOf(), 0);
}

TEST_P(ErrorsTest, EveryFaultAtOnce) {
  Start();
  v1::GenerateRequest request = Question("");
  request.set_temperature(3);
  request.set_top_p(-1);
  request.set_max_output_tokens(0);
  request.set_max_cost_usd(-1);
  request.add_messages()->set_role("robot");
  request.mutable_messages(1)->set_content("x");
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(reply.Fields(),
              UnorderedElementsAre("messages[0].content", "messages[1].role", "temperature",
                                   "top_p", "max_output_tokens", "max_cost_usd"));
  EXPECT_LE(reply.trailer_bytes, kMaxTrailer);
  EXPECT_EQ(sim_->CountOf(), 0);
}

TEST_P(ErrorsTest, BoundariesAreGood) {
  Start();
  v1::GenerateRequest request = Question("A good question?", "openai");
  request.set_temperature(2);
  request.set_top_p(0);
  request.set_max_output_tokens(1);
  request.mutable_cache()->set_min_similarity(1);
  request.mutable_cache()->mutable_max_age()->set_nanos(1);
  EXPECT_TRUE(Generate(request).ok());
  request.set_temperature(0);
  request.set_top_p(1);
  request.mutable_cache()->set_min_similarity(0);
  request.set_max_cost_usd(1000);
  request.set_request_id(std::string(128, 'x'));
  EXPECT_TRUE(Generate(request).ok());
}

TEST_P(ErrorsTest, ThousandsOfFaultsStillFitIntoTheTrailer) {
  Start();
  v1::GenerateRequest request;
  for (int i = 0; i < 3000; ++i) request.add_messages();
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(reply.Fields(), Contains("messages[0].content"));
  EXPECT_LE(reply.trailer_bytes, kMaxTrailer);
  EXPECT_THAT(reply.info.metadata().at("faults_omitted"), Not(IsEmpty()));
}

TEST_P(ErrorsTest, InvalidUtf8IsToldByItsPath) {
  Start();
  v1::GenerateRequest request = Question("AAAA");
  request.mutable_messages(0)->clear_content();
  request.mutable_messages(0)->add_parts()->set_text("AAAA");
  request.set_request_id("BBBB");
  (*request.mutable_labels())["k"] = "CCCC";
  std::string bytes = request.SerializeAsString();
  for (const char* mark : {"AAAA", "BBBB", "CCCC"}) {
    bytes.replace(bytes.find(mark), 4, "\xFF\xC0\x80\xFE");
  }
  const grpc::Status status = CallRaw(channel_, kGenerate, bytes);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_details(),
              AllOf(HasSubstr("messages[0].parts[0].text"), HasSubstr("request_id"),
                    HasSubstr("labels"), HasSubstr("UTF-8")));
  EXPECT_EQ(sim_->CountOf(), 0);
  const grpc::Status garbage = CallRaw(channel_, kGenerate, "\xFF\xFF\xFF\xFF garbage");
  EXPECT_THAT(garbage.error_code(), ::testing::AnyOf(grpc::INVALID_ARGUMENT, grpc::INTERNAL));
  EXPECT_TRUE(Ask("Is it still there?").ok());
}

TEST_P(ErrorsTest, PromptsAndRequestsOverTheirLimits) {
  Settings settings;
  settings.top = "limits: {prompt_text: 64KiB, request: 128KiB}";
  Start(settings);
  EXPECT_TRUE(Ask(std::string(64 * 1024, 'a')).ok());
  for (const size_t size :
       {size_t{64 * 1024 + 1}, size_t{127 * 1024}, size_t{130 * 1024}, size_t{400 * 1024}}) {
    sim_->ForgetAttempts();
    const Reply reply = Ask(std::string(size, 'a'));
    EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT) << size;
    EXPECT_EQ(reply.info.domain(), "holdfast");
    EXPECT_THAT(reply.Fields(), Not(IsEmpty()));
    EXPECT_EQ(sim_->CountOf(), 0);
  }
}

TEST_P(ErrorsTest, AProvidersReasonReachesTheCaller) {
  Start();
  for (const char* route : {"anthropic", "openai", "gemini"}) {
    for (const int status : {400, 413, 422}) {
      const std::string fault = R"({"kind": "status", "status": )" + std::to_string(status) +
                                R"(, "message": "tea is not supported here"})";
      BreakChain(fault);
      sim_->ForgetAttempts();
      const Reply reply = Generate(Question("A good question?", route));
      EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT) << route << status;
      EXPECT_EQ(reply.info.reason(), "PROVIDER_REJECTED");
      EXPECT_THAT(reply.status.error_message(), HasSubstr("tea is not supported here"));
      ASSERT_THAT(reply.attempts(), SizeIs(1));
      EXPECT_EQ(reply.attempts()[0].outcome(), "bad_request");
      EXPECT_EQ(reply.attempts()[0].http_status(), status);
      EXPECT_EQ(sim_->CountOf(), 1);  // never tried again
    }
  }
  // On the whole chain the next target is not asked either.
  sim_->ForgetAttempts();
  EXPECT_EQ(Ask("A good question?").status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(sim_->CountOf("gpt"), 0);
  EXPECT_EQ(StatusOf("claude").breaker().failures(), 0);
}

TEST_P(ErrorsTest, A400AfterAFailureThatWasNotTheRequestsFault) {
  Start();
  sim_->Break("claude", R"({"kind": "status", "status": 503})");
  sim_->Break("gpt", R"({"kind": "status", "status": 400})");
  const Reply reply = Ask("A good question?");
  ASSERT_TRUE(reply.ok());
  EXPECT_THAT(reply.Outcomes(),
              ElementsAre("claude:overloaded", "gpt:bad_request", "flash:complete"));
}

TEST_P(ErrorsTest, ContextLengthGoesToALargerWindowOrIsTold) {
  Start();
  sim_->Break("claude", R"({"kind": "context_length"})");
  EXPECT_THAT(Ask("A good question?").Outcomes(),
              ElementsAre("claude:context_length", "gpt:complete"));
  BreakChain(R"({"kind": "context_length"})");
  const Reply reply = Ask("A good question?");
  EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(reply.info.reason(), "CONTEXT_LENGTH_EXCEEDED");
}

TEST_P(ErrorsTest, NoTargetCanExpressIt) {
  Start();
  v1::GenerateRequest request = Question("A good question?", "anthropic");
  request.set_seed(7);
  Reply reply = Generate(request);
  EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(reply.info.reason(), "NO_CAPABLE_TARGET");
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:skipped inexpressible"));
  request.clear_seed();
  request.set_temperature(1.5);  // Anthropic's goes to 1
  EXPECT_EQ(Generate(request).info.reason(), "NO_CAPABLE_TARGET");
  request.clear_route();
  reply = Generate(request);
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:skipped inexpressible", "gpt:complete"));
  EXPECT_THAT(reply.response.attempts(0).error(), Not(IsEmpty()));
  EXPECT_EQ(sim_->CountOf("claude"), 0);
}

TEST_P(ErrorsTest, AReplyOverItsLimitIsMalformed) {
  Settings settings;
  settings.top = "limits: {response: 64KiB}";
  Start(settings);
  const std::string body(100 * 1024, 'x');
  sim_->Break("claude", R"({"kind": "status", "status": 200, "body": ")" + body + R"("})");
  const Reply reply = Ask("A good question?");
  EXPECT_EQ(reply.response.served_by().model(), "gpt");
  EXPECT_EQ(reply.response.attempts(0).outcome(), "malformed");
  EXPECT_GT(StatusOf("claude").breaker().failures(), 0);
}

TEST_P(ErrorsTest, LongErrorTextsAreBoundedAndTheTrailerFits) {
  Settings settings;
  settings.breaker = "{consecutive_failures: 1000, failure_rate: 0, black_hole: 0}";
  settings.retry =
      "{max_retries: 60, max_attempts: 120, base: 1ms, cap: 1ms, budget: {tokens: 1000}}";
  Start(settings);
  std::string words;
  for (int i = 0; i < 800; ++i) words += "überlang ";
  BreakChain(R"({"kind": "status", "status": 500, "message": ")" + words + R"("})");
  v1::GenerateRequest request = Question("A good question?");
  request.set_worst_acceptable(v1::DEGRADATION_FALLBACK_MODEL);
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_LE(reply.trailer_bytes, kMaxTrailer);
  ASSERT_GT(reply.failed.omitted(), 0) << reply.failed.ShortDebugString() << reply.trailer_bytes;
  EXPECT_EQ(reply.failed.omitted() + reply.failed.attempts_size(), sim_->CountOf());
  EXPECT_EQ(reply.Outcomes().front(), "claude:server_error");
  EXPECT_EQ(reply.Outcomes().back(), "flash:server_error");
  request.clear_worst_acceptable();
  const Reply answer = Generate(request);
  for (const v1::Attempt& attempt : answer.response.attempts()) {
    EXPECT_LE(attempt.error().size(), 512u);
  }
}

TEST_P(ErrorsTest, ATenantMustBeOneName) {
  Start();
  for (const std::string& bad : {std::string(), std::string(129, 't')}) {
    const Reply reply = Generate(Question("A good question?"), {.tenant = bad});
    EXPECT_EQ(reply.status.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_THAT(reply.Fields(), ElementsAre("x-holdfast-tenant"));
  }
  EXPECT_TRUE(Generate(Question("A good question?"), {.tenant = std::string(128, 't')}).ok());
}

TEST_P(ErrorsTest, ShedRequestsAreToldToWait) {
  Settings settings;
  settings.top = "admission: {max_in_progress: 1, max_queue: 0}";
  settings.route = "timeout: 1s\n    min_useful: 100ms";
  Start(settings);
  BreakChain(R"({"kind": "hang"})");
  std::thread first([&] { EXPECT_TRUE(Ask("Who holds the place?").ok()); });
  ASSERT_TRUE(Eventually([&] { return Status().in_progress() == 1; }));
  const Reply reply = Ask("Who is shed?");
  EXPECT_EQ(reply.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(reply.info.reason(), "SHED");
  EXPECT_TRUE(reply.retry);
  EXPECT_TRUE(reply.pushback);
  EXPECT_EQ(Status().shed(), 1u);
  std::string health;  // never shed
  EXPECT_TRUE(CallRaw(channel_, "/grpc.health.v1.Health/Check", "", &health).ok());
  first.join();
}

INSTANTIATE_TEST_SUITE_P(BothCalls, ErrorsTest, ::testing::Bool(), CallName);

}  // namespace
}  // namespace holdfast::testing
