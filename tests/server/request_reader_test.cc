#include "server/request_reader.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/stubs/logging.h"
#include "google/protobuf/text_format.h"
#include "grpcpp/support/byte_buffer.h"
#include "gtest/gtest.h"
#include "holdfast/v1/generate.pb.h"

namespace holdfast::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kUser[] = R"(messages { role: "user" content: "hi" })";
constexpr char kTool[] = R"(tools { name: "look" })";

// Protobuf prints a line for each garbled string; the server silences it too.
const auto kSilenced = google::protobuf::SetLogHandler(nullptr);

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

v1::GenerateRequest Parse(const std::string& text) {
  v1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

Reading Read(const v1::GenerateRequest& request, RequestLimits limits = {}) {
  return RequestReader(limits, {"default", "other"})
      .Read(Bytes(request.SerializeAsString()), "tenant");
}

Reading Read(const std::string& text, RequestLimits limits = {}) {
  return Read(Parse(text), limits);
}

std::vector<std::string> Fields(const Reading& reading) {
  std::vector<std::string> fields;
  if (!reading.rejection) return fields;
  for (const FieldFault& fault : reading.rejection->faults) fields.push_back(fault.field);
  return fields;
}

std::vector<std::string> Fields(const std::string& text) { return Fields(Read(text)); }

std::vector<std::string> WithUser(const std::string& text) { return Fields(kUser + text); }

TEST(RequestReaderTest, PlainQuestion) {
  const Reading reading = Read(kUser);
  ASSERT_FALSE(reading.rejection);
  EXPECT_EQ(reading.request.route, "default");
  EXPECT_EQ(reading.request.tenant, "tenant");
  ASSERT_THAT(reading.request.messages, SizeIs(1));
  EXPECT_EQ(reading.request.messages[0].role, core::Role::kUser);
  EXPECT_EQ(std::get<core::Text>(reading.request.messages[0].parts[0]).text, "hi");
  EXPECT_FALSE(reading.request.temperature);
  EXPECT_FALSE(reading.request.worst_acceptable);
  EXPECT_EQ(reading.request.cache.mode, std::nullopt);
}

TEST(RequestReaderTest, EveryFieldArrives) {
  const Reading reading = Read(R"(
    route: "other" max_output_tokens: 7 temperature: 0 top_p: 0.5 stop: "END" seed: -3
    request_id: "r-1" labels { key: "team" value: "x" } max_cost_usd: 0
    worst_acceptable: DEGRADATION_STALE
    messages { role: "system" content: "be brief" }
    messages { role: "user" parts { text: "what" } parts { image { url: "https://x/y.png" } }
               parts { image { data: "\x89PNG" mime_type: "image/png" } } }
    messages { role: "assistant" parts { tool_call { id: "c" name: "look" arguments: "{}" } } }
    messages { role: "tool" parts { tool_result { tool_call_id: "c" content: "ok" is_error: true } } }
    tools { name: "look" description: "d" parameters_json_schema: "{\"type\":\"object\"}" }
    tool_choice { mode: MODE_NAMED name: "look" }
    response_format { kind: KIND_JSON_SCHEMA json_schema: "{}" }
    cache { mode: MODE_OFF min_similarity: 1 max_age { nanos: 1 } no_store: true })");
  ASSERT_FALSE(reading.rejection) << reading.rejection->error.message;
  const core::Request& request = reading.request;
  EXPECT_EQ(request.route, "other");
  EXPECT_EQ(request.max_output_tokens, 7);
  EXPECT_EQ(request.temperature, 0.0);
  EXPECT_EQ(request.top_p, 0.5);
  EXPECT_THAT(request.stop, ElementsAre("END"));
  EXPECT_EQ(request.seed, -3);
  EXPECT_EQ(request.request_id, "r-1");
  EXPECT_THAT(request.labels, ElementsAre(std::pair<std::string, std::string>("team", "x")));
  EXPECT_EQ(request.max_cost_usd, 0.0);
  EXPECT_EQ(request.worst_acceptable, core::Degradation::kStale);
  ASSERT_THAT(request.messages, SizeIs(4));
  EXPECT_EQ(std::get<core::Image>(request.messages[1].parts[1]).url, "https://x/y.png");
  EXPECT_EQ(std::get<core::Image>(request.messages[1].parts[2]).mime_type, "image/png");
  EXPECT_EQ(std::get<core::ToolCall>(request.messages[2].parts[0]).name, "look");
  const auto& result = std::get<core::ToolResult>(request.messages[3].parts[0]);
  EXPECT_EQ(result.name, "look");
  EXPECT_TRUE(result.is_error);
  EXPECT_EQ(request.tools[0].description, "d");
  EXPECT_EQ(request.tool_choice.kind, core::ToolChoice::Kind::kNamed);
  EXPECT_EQ(request.tool_choice.name, "look");
  EXPECT_EQ(request.response_format.kind, core::ResponseFormat::Kind::kJsonSchema);
  EXPECT_EQ(request.response_format.name, "response");
  EXPECT_EQ(request.cache.mode, core::CacheControl::Mode::kOff);
  EXPECT_EQ(request.cache.max_age, core::Duration(1));
  EXPECT_TRUE(request.cache.no_store);
}

TEST(RequestReaderTest, Messages) {
  EXPECT_THAT(Fields(""), ElementsAre("messages"));
  EXPECT_THAT(Fields(R"(messages { role: "robot" content: "x" })"),
              ElementsAre("messages[0].role"));
  EXPECT_THAT(Fields(R"(messages { content: "x" })"), ElementsAre("messages[0].role"));
  EXPECT_THAT(Fields(R"(messages { role: "User" content: "x" })"), ElementsAre("messages[0].role"));
  EXPECT_THAT(WithUser(R"(messages { role: "user" })"), ElementsAre("messages[1].content"));
  EXPECT_THAT(Fields(R"(messages { role: "user" content: "x" parts { text: "y" } })"),
              ElementsAre("messages[0].content"));
  EXPECT_THAT(Fields(R"(messages { role: "user" parts { text: "" } })"),
              ElementsAre("messages[0].parts[0].text"));
  EXPECT_THAT(Fields(R"(messages { role: "user" parts {} })"), ElementsAre("messages[0].parts[0]"));
}

TEST(RequestReaderTest, Images) {
  const auto image = [](const std::string& role, const std::string& inner) {
    return Fields("messages { role: \"" + role + "\" parts { text: \"t\" } parts { image { " +
                  inner + " } } }");
  };
  const std::string path = "messages[0].parts[1].image";
  EXPECT_THAT(image("user", ""), ElementsAre(path));
  EXPECT_THAT(image("user", R"(url: "ftp://x/y")"), ElementsAre(path + ".url"));
  EXPECT_THAT(image("user", R"(url: "")"), ElementsAre(path + ".url"));
  EXPECT_THAT(image("user", R"(url: "https://")"), ElementsAre(path + ".url"));
  EXPECT_THAT(image("user", R"(url: "https://x y")"), ElementsAre(path + ".url"));
  EXPECT_THAT(image("user", R"(url: "http://x/y")"), IsEmpty());
  EXPECT_THAT(image("user", R"(url: "http://x/y" mime_type: "image/png")"),
              ElementsAre(path + ".mime_type"));
  EXPECT_THAT(image("user", R"(data: "x")"), ElementsAre(path + ".mime_type"));
  EXPECT_THAT(image("user", R"(data: "x" mime_type: "image/")"), ElementsAre(path + ".mime_type"));
  EXPECT_THAT(image("user", R"(data: "x" mime_type: "text/plain")"),
              ElementsAre(path + ".mime_type"));
  EXPECT_THAT(image("user", R"(data: "" mime_type: "image/png")"), ElementsAre(path + ".data"));
  EXPECT_THAT(image("user", R"(data: "x" mime_type: "image/svg+xml")"), IsEmpty());
  EXPECT_THAT(image("assistant", R"(url: "http://x/y")"), ElementsAre(path));
}

TEST(RequestReaderTest, ToolCallsAndResults) {
  const std::string call =
      R"(messages { role: "assistant" parts { tool_call { id: "c" name: "look" arguments: "{}" } } })";
  const std::string result =
      R"(messages { role: "tool" parts { tool_result { tool_call_id: "c" content: "x" } } })";
  EXPECT_THAT(WithUser(kTool + call + result), IsEmpty());
  EXPECT_THAT(WithUser(kTool + result),
              ElementsAre("messages[1].parts[0].tool_result.tool_call_id"));
  EXPECT_THAT(WithUser(kTool + result + call),
              ElementsAre("messages[1].parts[0].tool_result.tool_call_id"));
  EXPECT_THAT(WithUser(kTool + call + result + result),
              ElementsAre("messages[3].parts[0].tool_result.tool_call_id"));
  EXPECT_THAT(WithUser(kTool + call + call), ElementsAre("messages[2].parts[0].tool_call.id"));
  EXPECT_THAT(WithUser(call), ElementsAre("messages[1].parts[0].tool_call.name"));

  const auto calling = [](const std::string& inner) {
    return WithUser(std::string(kTool) + "messages { role: \"assistant\" parts { tool_call { " +
                    inner + " } } }");
  };
  const std::string path = "messages[1].parts[0].tool_call";
  EXPECT_THAT(calling(R"(name: "look" arguments: "{}")"), ElementsAre(path + ".id"));
  EXPECT_THAT(calling(R"(id: "c" name: "look" arguments: "")"), ElementsAre(path + ".arguments"));
  EXPECT_THAT(calling(R"(id: "c" name: "look" arguments: "[]")"), ElementsAre(path + ".arguments"));
  EXPECT_THAT(calling(R"(id: "c" name: "look" arguments: "{")"), ElementsAre(path + ".arguments"));
  EXPECT_THAT(calling(R"(id: "c" name: "look" arguments: "{} x")"),
              ElementsAre(path + ".arguments"));
  EXPECT_THAT(calling(R"(id: "c" name: "look" arguments: " {\"a\":1} ")"), IsEmpty());
}

TEST(RequestReaderTest, PartsBelongToRoles) {
  const std::string call = R"(parts { tool_call { id: "c" name: "look" arguments: "{}" } })";
  EXPECT_THAT(WithUser(kTool + ("messages { role: \"user\" " + call + " }")),
              ElementsAre("messages[1].parts[0].tool_call"));
  EXPECT_THAT(WithUser(kTool + ("messages { role: \"assistant\" " + call + " }") +
                       R"(messages { role: "user" parts { tool_result { tool_call_id: "c" } } })"),
              ElementsAre("messages[2].parts[0].tool_result"));
  EXPECT_THAT(WithUser(R"(messages { role: "tool" content: "x" })"),
              ElementsAre("messages[1].content"));
  EXPECT_THAT(WithUser(R"(messages { role: "tool" parts { text: "x" } })"),
              ElementsAre("messages[1].parts"));
}

TEST(RequestReaderTest, Tools) {
  EXPECT_THAT(WithUser("tools {}"), ElementsAre("tools[0].name"));
  EXPECT_THAT(WithUser(R"(tools { name: "a b" })"), ElementsAre("tools[0].name"));
  EXPECT_THAT(WithUser("tools { name: \"" + std::string(64, 'a') + "\" }"), IsEmpty());
  EXPECT_THAT(WithUser("tools { name: \"" + std::string(65, 'a') + "\" }"),
              ElementsAre("tools[0].name"));
  EXPECT_THAT(WithUser(R"(tools { name: "a" } tools { name: "a" })"), ElementsAre("tools[1].name"));
  for (const char* bad : {"nonsense", "[]", "1", "{", "true", R"({\"type\":\"string\"})"}) {
    EXPECT_THAT(
        WithUser(std::string(R"(tools { name: "a" parameters_json_schema: ")") + bad + "\" }"),
        ElementsAre("tools[0].parameters_json_schema"))
        << bad;
  }
}

TEST(RequestReaderTest, ToolChoice) {
  EXPECT_THAT(WithUser("tool_choice { mode: MODE_REQUIRED }"), ElementsAre("tool_choice.mode"));
  EXPECT_THAT(WithUser(kTool + std::string("tool_choice { mode: MODE_REQUIRED }")), IsEmpty());
  EXPECT_THAT(WithUser(kTool + std::string("tool_choice { mode: MODE_NAMED }")),
              ElementsAre("tool_choice.name"));
  EXPECT_THAT(WithUser(kTool + std::string("tool_choice { mode: MODE_NAMED name: \"other\" }")),
              ElementsAre("tool_choice.name"));
  EXPECT_THAT(WithUser(kTool + std::string("tool_choice { mode: MODE_AUTO name: \"look\" }")),
              ElementsAre("tool_choice.name"));
  EXPECT_THAT(WithUser("tool_choice { mode: MODE_NONE }"), IsEmpty());
}

TEST(RequestReaderTest, ResponseFormat) {
  EXPECT_THAT(WithUser("response_format { kind: KIND_JSON_OBJECT }"), IsEmpty());
  EXPECT_THAT(WithUser("response_format { kind: KIND_JSON_SCHEMA }"),
              ElementsAre("response_format.json_schema"));
  EXPECT_THAT(WithUser(R"(response_format { kind: KIND_JSON_SCHEMA json_schema: "{nonsense" })"),
              ElementsAre("response_format.json_schema"));
  EXPECT_THAT(WithUser(R"(response_format { kind: KIND_JSON_SCHEMA json_schema: "true" })"),
              ElementsAre("response_format.json_schema"));
  EXPECT_THAT(WithUser(R"(response_format { json_schema: "{}" })"),
              ElementsAre("response_format.json_schema"));
  EXPECT_THAT(
      WithUser(R"(response_format { kind: KIND_JSON_SCHEMA json_schema: "{}" name: "a b" })"),
      ElementsAre("response_format.name"));
}

TEST(RequestReaderTest, UnknownEnumValues) {
  v1::GenerateRequest request = Parse(kUser);
  request.mutable_cache()->set_mode(static_cast<v1::CacheControl::Mode>(9));
  request.mutable_tool_choice()->set_mode(static_cast<v1::ToolChoice::Mode>(9));
  request.mutable_response_format()->set_kind(static_cast<v1::ResponseFormat::Kind>(9));
  request.set_worst_acceptable(static_cast<v1::Degradation>(9));
  EXPECT_THAT(Fields(Read(request)), ElementsAre("tool_choice.mode", "response_format.kind",
                                                 "cache.mode", "worst_acceptable"));
}

struct RangeCase {
  const char* field;
  std::vector<double> good;
  std::vector<double> bad;
};

TEST(RequestReaderTest, NumbersAtTheirBounds) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  const double above1 = std::nextafter(1.0, 2.0);
  const double above2 = std::nextafter(2.0, 3.0);
  const double below0 = -std::numeric_limits<double>::denorm_min();
  const std::vector<RangeCase> cases = {
      {"temperature", {0, std::nextafter(2.0, 0), 2}, {below0, above2, -1, nan, inf, -inf}},
      {"top_p", {0, std::nextafter(1.0, 0), 1}, {below0, above1, nan, inf, -inf}},
      {"cache.min_similarity", {0, 0.5, 1}, {below0, above1, nan, inf}},
      {"max_cost_usd", {0, 1e-9, 1e9}, {below0, nan, inf, -inf}},
      {"max_output_tokens", {1, 2, 1e12}, {0, -1}},
  };
  const auto set = [](v1::GenerateRequest& request, const std::string& field, double value) {
    if (field == "temperature") request.set_temperature(value);
    if (field == "top_p") request.set_top_p(value);
    if (field == "cache.min_similarity") request.mutable_cache()->set_min_similarity(value);
    if (field == "max_cost_usd") request.set_max_cost_usd(value);
    if (field == "max_output_tokens") request.set_max_output_tokens(static_cast<int64_t>(value));
  };
  for (const RangeCase& c : cases) {
    for (const double value : c.good) {
      v1::GenerateRequest request = Parse(kUser);
      set(request, c.field, value);
      EXPECT_THAT(Fields(Read(request)), IsEmpty()) << c.field << " " << value;
    }
    for (const double value : c.bad) {
      v1::GenerateRequest request = Parse(kUser);
      set(request, c.field, value);
      EXPECT_THAT(Fields(Read(request)), ElementsAre(c.field)) << c.field << " " << value;
    }
  }
}

TEST(RequestReaderTest, MaxAge) {
  const auto age = [](const std::string& inner) {
    return WithUser("cache { max_age { " + inner + " } }");
  };
  EXPECT_THAT(age(""), ElementsAre("cache.max_age"));
  EXPECT_THAT(age("seconds: -1"), ElementsAre("cache.max_age"));
  EXPECT_THAT(age("nanos: -1"), ElementsAre("cache.max_age"));
  EXPECT_THAT(age("nanos: 1"), IsEmpty());
  EXPECT_THAT(age("seconds: 1 nanos: -1"), ElementsAre("cache.max_age"));
  EXPECT_THAT(age("nanos: 999999999"), IsEmpty());
  EXPECT_THAT(age("nanos: 1000000000"), ElementsAre("cache.max_age"));
  EXPECT_THAT(age("seconds: 315576000000"), IsEmpty());
  EXPECT_THAT(age("seconds: 315576000001"), ElementsAre("cache.max_age"));
  EXPECT_EQ(Read(std::string(kUser) + "cache { max_age { seconds: 315576000000 } }")
                .request.cache.max_age,
            core::Duration::max());
}

TEST(RequestReaderTest, IdentityAndStop) {
  EXPECT_THAT(WithUser("request_id: \"" + std::string(128, 'x') + "\""), IsEmpty());
  EXPECT_THAT(WithUser("request_id: \"" + std::string(129, 'x') + "\""), ElementsAre("request_id"));
  EXPECT_THAT(WithUser(R"(request_id: "a\nb")"), ElementsAre("request_id"));
  EXPECT_THAT(WithUser(R"(request_id: "\303\244")"), ElementsAre("request_id"));
  EXPECT_THAT(WithUser(R"(stop: "a" stop: "")"), ElementsAre("stop[1]"));
  EXPECT_THAT(WithUser(R"(route: "nowhere")"), ElementsAre("route"));

  std::string labels;
  for (int i = 0; i < 16; ++i) {
    labels += "labels { key: \"k" + std::to_string(i) + "\" value: \"v\" }";
  }
  EXPECT_THAT(WithUser(labels), IsEmpty());
  EXPECT_THAT(WithUser(labels + R"(labels { key: "more" })"), ElementsAre("labels"));
  std::string umlauts;
  for (int i = 0; i < 64; ++i) umlauts += "\\303\\244";
  EXPECT_THAT(WithUser("labels { key: \"k\" value: \"" + umlauts + "\" }"), IsEmpty());
  EXPECT_THAT(WithUser("labels { key: \"k\" value: \"" + umlauts + "x\" }"),
              ElementsAre("labels[\"k\"]"));
  EXPECT_THAT(WithUser("labels { key: \"" + umlauts + "x\" }"), ElementsAre("labels"));
}

TEST(RequestReaderTest, CacheModes) {
  using Mode = core::CacheControl::Mode;
  const auto mode = [](const std::string& cache) {
    return Read(std::string(kUser) + cache).request.cache.mode;
  };
  EXPECT_EQ(mode(""), std::nullopt);
  EXPECT_EQ(mode("cache { mode: MODE_UNSPECIFIED }"), std::nullopt);
  EXPECT_EQ(mode("cache { mode: MODE_FALLBACK }"), Mode::kFallback);
  EXPECT_EQ(mode("cache { mode: MODE_OFF }"), Mode::kOff);
  EXPECT_EQ(mode("cache { mode: MODE_PREFER }"), Mode::kPrefer);
}

TEST(RequestReaderTest, PromptTextLimit) {
  const RequestLimits limits{.prompt_text = 10, .request = 1000};
  const auto with = [&](size_t bytes, const std::string& more = "") {
    return Fields(Read(
        "messages { role: \"user\" content: \"" + std::string(bytes, 'x') + "\" }" + more, limits));
  };
  EXPECT_THAT(with(9), IsEmpty());
  EXPECT_THAT(with(10), IsEmpty());
  EXPECT_THAT(with(11), ElementsAre("messages"));
  EXPECT_THAT(with(6, "tools { name: \"look\" }"), IsEmpty());
  EXPECT_THAT(with(7, "tools { name: \"look\" }"), ElementsAre("messages"));
}

TEST(RequestReaderTest, RequestSizeLimit) {
  const v1::GenerateRequest request = Parse(kUser);
  const size_t size = request.ByteSizeLong();
  EXPECT_FALSE(Read(request, {.prompt_text = 100, .request = size}).rejection);
  EXPECT_FALSE(Read(request, {.prompt_text = 100, .request = size + 1}).rejection);
  const Reading reading = Read(request, {.prompt_text = 100, .request = size - 1});
  ASSERT_TRUE(reading.rejection);
  EXPECT_EQ(reading.rejection->error.code, core::ErrorCode::kInvalidArgument);
  EXPECT_THAT(Fields(reading), ElementsAre("messages"));
}

TEST(RequestReaderTest, EveryFaultAtOnce) {
  const Reading reading = Read(R"(
    route: "nowhere" temperature: 3 top_p: -1 max_output_tokens: 0 stop: ""
    messages { role: "robot" content: "x" parts { text: "y" } }
    messages { role: "user" parts { image { data: "x" } } }
    tools { name: "!" parameters_json_schema: "no" }
    cache { min_similarity: 2 max_age {} } max_cost_usd: -1)");
  EXPECT_THAT(
      Fields(reading),
      ElementsAre("route", "tools[0].name", "tools[0].parameters_json_schema", "messages[0].role",
                  "messages[0].content", "messages[1].parts[0].image.mime_type",
                  "max_output_tokens", "temperature", "top_p", "max_cost_usd", "stop[0]",
                  "cache.min_similarity", "cache.max_age"));
  EXPECT_THAT(reading.rejection->error.message, HasSubstr("and 12 more faults"));
  EXPECT_EQ(reading.rejection->error.reason, "INVALID_REQUEST");
}

TEST(RequestReaderTest, ManyFaultsAreCounted) {
  v1::GenerateRequest request;
  for (int i = 0; i < 1000; ++i) request.add_messages();
  const Reading reading = Read(request);
  ASSERT_TRUE(reading.rejection);
  EXPECT_THAT(reading.rejection->faults, SizeIs(Rejection::kMaxFaults));
  EXPECT_EQ(reading.rejection->more_faults, 2000 - Rejection::kMaxFaults);
}

// Bytes as no well-kept client sends them: the text in every '~' place becomes 0xFF.
Reading ReadGarbled(const std::string& text) {
  std::string bytes = Parse(text).SerializeAsString();
  for (char& c : bytes) {
    if (c == '~') c = '\xFF';
  }
  return RequestReader({}, {"default"}).Read(Bytes(bytes), "tenant");
}

TEST(RequestReaderTest, InvalidUtf8IsNamed) {
  EXPECT_THAT(Fields(ReadGarbled(R"(messages { role: "user" content: "a~b" })")),
              ElementsAre("messages[0].content"));
  const Reading reading = ReadGarbled(R"(
    route: "~" temperature: 3
    messages { role: "user" content: "fine" }
    messages { role: "~" parts { text: "fine" } parts { text: "~" } }
    tools { name: "~" description: "~" } stop: "x" stop: "~" request_id: "~"
    labels { key: "k" value: "~" })");
  EXPECT_THAT(Fields(reading), ::testing::UnorderedElementsAre(
                                   "route", "messages[1].role", "messages[1].parts[1].text",
                                   "tools[0].name", "tools[0].description", "stop[1]", "request_id",
                                   "labels[0].value", "temperature"));
  EXPECT_EQ(reading.rejection->error.code, core::ErrorCode::kInvalidArgument);
}

TEST(RequestReaderTest, ImageBytesNeedNotBeUtf8) {
  EXPECT_THAT(
      Fields(ReadGarbled(
          R"(messages { role: "user" parts { image { data: "~" mime_type: "image/png" } } })")),
      IsEmpty());
}

TEST(RequestReaderTest, NoMessageAtAll) {
  const RequestReader reader({}, {"default"});
  for (const char* bytes :
       {"\x12\x7F", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "\x12\x02\x0A\x7F", "\x07"}) {
    const Reading reading = reader.Read(Bytes(bytes), "tenant");
    ASSERT_TRUE(reading.rejection);
    EXPECT_EQ(reading.rejection->error.code, core::ErrorCode::kInvalidArgument);
    EXPECT_THAT(reading.rejection->error.message, HasSubstr("GenerateRequest"));
  }
}

TEST(RequestReaderTest, FaultsNeverQuoteThePrompt) {
  const Reading reading = Read(R"(
    messages { role: "CANARY" content: "CANARY" parts { text: "CANARY" } }
    messages { role: "user" parts { image { url: "CANARY" } } }
    tools { name: "CANARY CANARY" parameters_json_schema: "CANARY" } request_id: "CANARY\n")");
  ASSERT_TRUE(reading.rejection);
  for (const FieldFault& fault : reading.rejection->faults) {
    EXPECT_THAT(fault.reason, ::testing::Not(HasSubstr("CANARY")));
    EXPECT_THAT(fault.field, ::testing::Not(HasSubstr("CANARY")));
  }
}

// Every prefix and many single-byte changes of a request with everything in it: never a crash, and
// a reading that is either fit for the engine or has a fault.
TEST(RequestReaderTest, SurvivesAnyBytes) {
  std::string bytes = Parse(std::string(kUser) + kTool + R"(
    messages { role: "assistant" parts { tool_call { id: "c" name: "look" arguments: "{}" } } }
    labels { key: "k" value: "v" } cache { max_age { seconds: 1 } } stop: "x")")
                          .SerializeAsString();
  const RequestReader reader({}, {"default"});
  for (size_t i = 0; i < bytes.size(); ++i) {
    (void)reader.Read(Bytes(bytes.substr(0, i)), "tenant");
    for (const int change : {0x01, 0x80, 0xFF}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ change);
      const Reading reading = reader.Read(Bytes(changed), "tenant");
      if (!reading.rejection) EXPECT_FALSE(reading.request.messages.empty());
    }
  }
}

}  // namespace
}  // namespace holdfast::server
