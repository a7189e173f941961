// The remote embedder over real sockets: CurlLoop against a scripted server.

#include "providers/remote_embedder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "providers/http/curl_loop.h"
#include "tests/fakes/scripted_http_server.h"

namespace holdfast::testing {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;

class RemoteEmbedderTest : public ::testing::Test {
 protected:
  providers::RemoteEmbedder Make(core::Duration timeout = 20s) {
    return providers::RemoteEmbedder({.url = server_.url("/v1/embeddings"),
                                      .api_key = "key-CANARY",
                                      .model = "small",
                                      .version = "7",
                                      .dimension = 2,
                                      .timeout = timeout},
                                     loop_, loop_);
  }
  absl::Status StatusOf(HttpScript script) {
    server_.Expect(std::move(script));
    const std::string_view text = "a question";
    return Make().EmbedBatch(std::span(&text, 1))[0].status();
  }
  static HttpScript Says(const std::string& body) { return HttpScript::Reply(200, {}, body); }

  core::SystemClock clock_;
  ScriptedHttpServer server_;
  providers::CurlLoop loop_{clock_};
};

TEST_F(RemoteEmbedderTest, AsksOnceForABatchAndKeepsItsOrder) {
  server_.Expect(
      Says(R"({"data":[{"index":1,"embedding":[0,-2]},{"index":0,"embedding":[3,4]}]})"));
  const auto embedder = Make();
  EXPECT_EQ(embedder.id(), "small@7#2");
  const std::string_view texts[] = {"one", "zw\xF6"};  // not UTF-8
  const auto results = embedder.EmbedBatch(texts);
  ASSERT_EQ(results.size(), 2u);
  EXPECT_THAT(results[0]->vector, ElementsAre(FloatEq(0.6F), FloatEq(0.8F)));
  EXPECT_THAT(results[1]->vector, ElementsAre(FloatEq(0), FloatEq(-1)));
  const auto requests = server_.requests();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].target, "/v1/embeddings");
  EXPECT_EQ(*requests[0].Find("authorization"), "Bearer key-CANARY");
  const auto body = nlohmann::json::parse(requests[0].body);
  EXPECT_EQ(body["model"], "small");
  EXPECT_EQ(body["input"][0], "one");
}

TEST_F(RemoteEmbedderTest, RefusesWhatIsNoVectorOfItsDimension) {
  for (const char* body :
       {R"({"data":[{"index":0,"embedding":[1,2,3]}]})",
        R"({"data":[{"index":0,"embedding":[1]}]})", R"({"data":[]})",
        R"({"data":[{"index":1,"embedding":[1,2]}]})",
        R"({"data":[{"index":0,"embedding":[0,0]}]})",
        R"({"data":[{"index":0,"embedding":["a",1]}]})",
        R"({"data":[{"index":0,"embedding":"AAAA"}]})", R"({"data":[{"index":0}]})", "{}", "[]", "",
        "<html>", R"({"data":[{"index":0,"embedding":[1,2]},{"index":0,"embedding":[1,2]}]})"}) {
    EXPECT_TRUE(absl::IsUnavailable(StatusOf(Says(body)))) << body;
  }
  EXPECT_TRUE(StatusOf(Says(R"({"data":[{"embedding":[1,2]}]})")).ok());  // index 0 by default
}

TEST_F(RemoteEmbedderTest, TellsARefusedTextFromAFailingEndpoint) {
  EXPECT_TRUE(absl::IsInvalidArgument(StatusOf(HttpScript::Reply(400, {}, "{}"))));
  for (const int status : {401, 404, 429, 500, 503}) {
    const absl::Status failed = StatusOf(HttpScript::Reply(status, {}, "key-CANARY"));
    EXPECT_TRUE(absl::IsUnavailable(failed)) << status;
    EXPECT_THAT(std::string(failed.message()), ::testing::Not(HasSubstr("CANARY")));
  }
  EXPECT_TRUE(absl::IsUnavailable(StatusOf(HttpScript().Reset())));
  EXPECT_TRUE(absl::IsUnavailable(StatusOf(HttpScript::Begin(200).Chunk("{\"da").Reset())));
}

TEST_F(RemoteEmbedderTest, ASlowEndpointIsLeftAtTheTimeout) {
  server_.Expect(HttpScript().Gate());
  const std::string_view text = "a question";
  const auto results = Make(50ms).EmbedBatch(std::span(&text, 1));
  EXPECT_TRUE(absl::IsUnavailable(results[0].status()));
  EXPECT_THAT(std::string(results[0].status().message()), HasSubstr("in time"));
  server_.Release();
}

TEST_F(RemoteEmbedderTest, ABatchHasAsMuchTimeForEachText) {
  EXPECT_EQ(providers::LongestCall(100ms, 1), 100ms);
  EXPECT_EQ(providers::LongestCall(100ms, 16), 1600ms);
  EXPECT_EQ(providers::LongestCall(1s, 16), 10s);
  EXPECT_EQ(providers::LongestCall(20s, 16), 20s);
  server_.Expect(HttpScript().Gate());
  const std::string_view texts[] = {"a question", "another", "a third"};
  const core::SteadyTime began = clock_.Now();
  EXPECT_TRUE(absl::IsUnavailable(Make(50ms).EmbedBatch(texts)[0].status()));
  EXPECT_GE(clock_.Now() - began, 150ms);
  server_.Release();
}

TEST_F(RemoteEmbedderTest, OfASingleTextAFailureIsZeros) {
  server_.SetFallback(HttpScript::Reply(500, {}, ""));
  EXPECT_THAT(Make().Embed("a question"), ElementsAre(0, 0));
}

}  // namespace
}  // namespace holdfast::testing
