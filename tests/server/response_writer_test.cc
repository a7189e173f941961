#include "server/response_writer.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace holdfast::server {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

core::AttemptRecord Attempt(int number, const std::string& error) {
  core::AttemptRecord record;
  record.target = {"provider-" + std::to_string(number), "some-long-model-name-20250514"};
  record.outcome = "server_error";
  record.http_status = 500;
  record.error = error;
  record.start_offset = std::chrono::milliseconds(1234 * number);
  record.duration = std::chrono::nanoseconds(987'654'321);
  record.delay_before = std::chrono::milliseconds(789);
  record.retry_skipped = "no_time";
  record.usage = {.input_tokens = 1000, .output_tokens = 200};
  record.cost_usd = 0.00123;
  return record;
}

template <typename T>
std::optional<T> Detail(const grpc::Status& status) {
  google::rpc::Status rpc;
  EXPECT_TRUE(rpc.ParseFromString(status.error_details()));
  EXPECT_EQ(rpc.code(), status.error_code());
  EXPECT_EQ(rpc.message(), status.error_message());
  for (const auto& any : rpc.details()) {
    T detail;
    if (any.UnpackTo(&detail)) return detail;
  }
  return std::nullopt;
}

core::Error Failed(std::string message = "every target failed") {
  return {.code = core::ErrorCode::kUnavailable,
          .reason = "ALL_TARGETS_FAILED",
          .message = std::move(message)};
}

TEST(WriteResponseTest, Answer) {
  core::Result result;
  core::Answer answer;
  answer.text = "blue";
  answer.finish_reason = core::FinishReason::kStop;
  answer.usage = {
      .input_tokens = 5, .cached_input_tokens = 4, .output_tokens = 3, .reasoning_tokens = 2};
  answer.degradation = core::Degradation::kFallbackModel;
  answer.served_by = core::TargetName{"p", "m"};
  result.value = answer;
  result.attempts = {Attempt(1, "boom"), Attempt(2, "")};
  result.attempts[1].skipped = true;
  result.attempts[1].outcome = "breaker_open";
  result.cost_usd = 0.5;
  result.time_budget = {std::chrono::seconds(30), std::chrono::milliseconds(1500)};

  const v1::GenerateResponse out = WriteResponse("id", result);
  EXPECT_EQ(out.request_id(), "id");
  EXPECT_EQ(out.message().role(), "assistant");
  EXPECT_EQ(out.message().content(), "blue");
  EXPECT_EQ(out.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(out.usage().cached_input_tokens(), 4);
  EXPECT_EQ(out.usage().reasoning_tokens(), 2);
  EXPECT_EQ(out.degradation(), v1::DEGRADATION_FALLBACK_MODEL);
  EXPECT_FALSE(out.stale());
  EXPECT_FALSE(out.partial());
  EXPECT_EQ(out.served_by().model(), "m");
  EXPECT_FALSE(out.has_cache_hit());
  ASSERT_THAT(out.attempts(), SizeIs(2));
  EXPECT_EQ(out.attempts(0).error(), "boom");
  EXPECT_EQ(out.attempts(0).start_offset().seconds(), 1);
  EXPECT_EQ(out.attempts(0).start_offset().nanos(), 234'000'000);
  EXPECT_TRUE(out.attempts(1).skipped());
  EXPECT_EQ(out.time_budget().used().nanos(), 500'000'000);
  EXPECT_EQ(out.cost_usd(), 0.5);
}

TEST(WriteResponseTest, StaleAnswer) {
  core::Result result;
  core::Answer answer;
  answer.text = "old";
  answer.degradation = core::Degradation::kStale;
  answer.cache_hit = core::CacheHit{.entry_id = "e",
                                    .text = "old",
                                    .similarity = .9,
                                    .threshold = .85,
                                    .age = std::chrono::hours(2),
                                    .created_at = core::WallTime(std::chrono::seconds(100)),
                                    .provider = "p",
                                    .model = "m"};
  result.value = answer;
  const v1::GenerateResponse out = WriteResponse("id", result);
  EXPECT_TRUE(out.stale());
  EXPECT_EQ(out.cache_hit().similarity(), .9);
  EXPECT_EQ(out.cache_hit().age().seconds(), 7200);
  EXPECT_EQ(out.cache_hit().created_at().seconds(), 100);
  EXPECT_EQ(out.cache_hit().made_by().provider(), "p");
  EXPECT_EQ(out.cache_hit().entry_id(), "e");
}

TEST(WriteResponseTest, NoticeAloneAndToolCalls) {
  core::Result result;
  core::Answer answer;
  answer.notice = "sorry";
  answer.degradation = core::Degradation::kPartial;
  result.value = answer;
  v1::GenerateResponse out = WriteResponse("id", result);
  EXPECT_TRUE(out.partial());
  EXPECT_EQ(out.notice(), "sorry");
  EXPECT_EQ(out.message().content(), "sorry");
  EXPECT_FALSE(out.has_served_by());

  answer = {};
  answer.text = "let me look";
  answer.tool_calls = {{"c1", "look", "{}"}, {"c2", "look", "{\"a\":1}"}};
  result.value = answer;
  out = WriteResponse("id", result);
  EXPECT_THAT(out.message().content(), IsEmpty());
  ASSERT_THAT(out.message().parts(), SizeIs(3));
  EXPECT_EQ(out.message().parts(0).text(), "let me look");
  EXPECT_EQ(out.message().parts(2).tool_call().arguments(), "{\"a\":1}");
}

TEST(WriteResponseTest, WhatIsNotUtf8IsRepaired) {
  core::Result result;
  core::Answer answer;
  answer.text = "a\xFFz";
  result.value = answer;
  result.attempts = {Attempt(1, "cut \xC3")};
  const v1::GenerateResponse out = WriteResponse("id", result);
  EXPECT_EQ(out.message().content(), "a\xEF\xBF\xBDz");
  EXPECT_EQ(out.attempts(0).error(), "cut \xEF\xBF\xBD");
  v1::GenerateResponse parsed;
  EXPECT_TRUE(parsed.ParseFromString(out.SerializeAsString()));
}

TEST(WriteFailureTest, Details) {
  core::Error error = Failed();
  error.retry_after = std::chrono::microseconds(1'500'001);
  const Failure failure = WriteFailure("id", error, {Attempt(1, "boom")});
  EXPECT_EQ(failure.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(failure.pushback_ms, 1501);
  const auto info = Detail<google::rpc::ErrorInfo>(failure.status);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->domain(), "holdfast");
  EXPECT_EQ(info->reason(), "ALL_TARGETS_FAILED");
  EXPECT_EQ(info->metadata().at("request_id"), "id");
  EXPECT_EQ(Detail<google::rpc::RetryInfo>(failure.status)->retry_delay().seconds(), 1);
  const auto attempts = Detail<v1::FailedAttempts>(failure.status);
  ASSERT_TRUE(attempts);
  EXPECT_EQ(attempts->attempts(0).error(), "boom");
  EXPECT_EQ(attempts->omitted(), 0);
  EXPECT_FALSE(Detail<google::rpc::BadRequest>(failure.status));
}

TEST(WriteFailureTest, ErrorTextsAreCutBeforeAttemptsAreDropped) {
  std::vector<core::AttemptRecord> few(6, Attempt(1, std::string(512, 'e')));
  Failure failure = WriteFailure("id", Failed(), few);
  EXPECT_LE(TrailerBytes(failure), kMaxTrailerBytes);
  auto attempts = Detail<v1::FailedAttempts>(failure.status);
  ASSERT_THAT(attempts->attempts(), SizeIs(6));
  EXPECT_EQ(attempts->omitted(), 0);
  EXPECT_EQ(attempts->attempts(0).error().size(), 256u);

  std::vector<core::AttemptRecord> many;
  for (int i = 0; i < 60; ++i) many.push_back(Attempt(i, std::string(512, 'e')));
  failure = WriteFailure("id", Failed(), many);
  EXPECT_LE(TrailerBytes(failure), kMaxTrailerBytes);
  attempts = Detail<v1::FailedAttempts>(failure.status);
  EXPECT_GT(attempts->omitted(), 0);
  EXPECT_EQ(attempts->attempts_size() + attempts->omitted(), 60);
  ASSERT_GE(attempts->attempts_size(), 2);
  EXPECT_EQ(attempts->attempts(0).target().provider(), "provider-0");
  EXPECT_EQ(attempts->attempts().rbegin()->target().provider(), "provider-59");
  for (const auto& attempt : attempts->attempts()) EXPECT_THAT(attempt.error(), IsEmpty());
}

TEST(WriteFailureTest, AnyMessageFits) {
  std::string umlauts;
  for (int i = 0; i < 4096; ++i) umlauts += "\xC3\xA4";
  for (const std::string& text : {umlauts, std::string(9000, '%'), std::string(9000, '\n'),
                                  std::string(9000, 'x'), std::string(9000, '\xFF')}) {
    std::vector<core::AttemptRecord> attempts;
    for (int i = 0; i < 12; ++i) attempts.push_back(Attempt(i, text));
    core::Error error = Failed(text);
    error.field = "messages";
    error.retry_after = std::chrono::hours(1);
    const Failure failure = WriteFailure(std::string(128, 'r'), error, attempts);
    EXPECT_LE(TrailerBytes(failure), kMaxTrailerBytes);
    EXPECT_GE(failure.status.error_message().size(), 300u);
    EXPECT_GE(Detail<v1::FailedAttempts>(failure.status)->attempts_size(), 2);
  }
}

TEST(WriteFailureTest, NamesTooLongToKeepAnyAttempt) {
  core::AttemptRecord record = Attempt(1, "x");
  record.target.model = std::string(8000, 'm');
  const Failure failure = WriteFailure("id", Failed(), {record, record});
  EXPECT_LE(TrailerBytes(failure), kMaxTrailerBytes);
  EXPECT_EQ(Detail<v1::FailedAttempts>(failure.status)->omitted(), 2);
}

TEST(WriteRejectionTest, FaultsUpToTheLimit) {
  Rejection rejection;
  rejection.error = {.code = core::ErrorCode::kInvalidArgument,
                     .reason = "INVALID_REQUEST",
                     .message = "messages[0].role must be good",
                     .field = "messages[0].role"};
  for (int i = 0; i < 100; ++i) {
    rejection.faults.push_back({"messages[" + std::to_string(i) + "].role", "must be good"});
  }
  rejection.more_faults = 7;
  const Failure failure = WriteRejection("id", rejection);
  EXPECT_LE(TrailerBytes(failure), kMaxTrailerBytes);
  const auto bad = Detail<google::rpc::BadRequest>(failure.status);
  ASSERT_TRUE(bad);
  EXPECT_GT(bad->field_violations_size(), 20);
  EXPECT_EQ(bad->field_violations(0).field(), "messages[0].role");
  EXPECT_EQ(bad->field_violations(0).description(), "must be good");
  const auto info = Detail<google::rpc::ErrorInfo>(failure.status);
  EXPECT_EQ(info->metadata().at("faults_omitted"),
            std::to_string(107 - bad->field_violations_size()));
  EXPECT_FALSE(failure.pushback_ms);
}

}  // namespace
}  // namespace holdfast::server
