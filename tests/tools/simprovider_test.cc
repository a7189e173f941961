// The simulated provider through real sockets: wire formats, faults, admin paths, attempt log.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/simprovider/simulator.h"
#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::json;

constexpr size_t kMaxUnread = 1 << 20;
constexpr int kGuardSeconds = 20;  // a test that hangs fails instead

enum class Ending { kWhole, kClosed, kReset, kRefused };

struct Response {
  int status = 0;
  std::string head;
  std::string body;  // chunks joined
  std::vector<std::string> chunks;
  Ending ending = Ending::kClosed;

  Json json() const { return Json::parse(body); }
  std::string Header(const std::string& name) const {
    const size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

// A blocking HTTP client on one connection that shows how a response really ended.
class Client {
 public:
  explicit Client(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval guard{kGuardSeconds, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof(guard));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { Close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }

  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

  void Send(std::string_view bytes) { send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  void Request(const std::string& method, const std::string& target, const std::string& body,
               const std::string& headers = "") {
    Send(method + " " + target + " HTTP/1.1\r\nHost: sim\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body);
  }

  // Reads until `text` has come; false when the connection ended before.
  bool ReadUntil(std::string_view text) {
    while (buffer_.find(text) == std::string::npos) {
      if (buffer_.size() > kMaxUnread || !Fill()) return false;
    }
    return true;
  }

  Response Read() {
    Response response;
    if (!connected_) {
      response.ending = Ending::kRefused;
      return response;
    }
    if (!ReadUntil("\r\n\r\n")) return Broken(response);
    const size_t head_end = buffer_.find("\r\n\r\n") + 4;
    response.head = buffer_.substr(0, head_end);
    buffer_.erase(0, head_end);
    response.status = std::stoi(response.head.substr(9, 3));
    return response.Header("Transfer-Encoding") == "chunked" ? ReadChunks(response)
                                                             : ReadLength(response);
  }

  const std::string& buffered() const { return buffer_; }

 private:
  bool Fill() {
    char bytes[16384];
    const ssize_t got = recv(fd_, bytes, sizeof(bytes), 0);
    if (got > 0) {
      buffer_.append(bytes, static_cast<size_t>(got));
      return true;
    }
    reset_ = got < 0 && errno == ECONNRESET;
    timed_out_ = got < 0 && errno == EAGAIN;
    EXPECT_FALSE(timed_out_) << "nothing came for " << kGuardSeconds << " s";
    return false;
  }

  Response& Broken(Response& response) {
    response.ending = reset_ ? Ending::kReset : Ending::kClosed;
    return response;
  }

  Response ReadLength(Response& response) {
    const size_t length = std::stoul(response.Header("Content-Length"));
    while (buffer_.size() < length) {
      if (Fill()) continue;
      response.body = buffer_;
      return Broken(response);
    }
    response.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    response.ending = Ending::kWhole;
    return response;
  }

  Response ReadChunks(Response& response) {
    for (;;) {
      if (!ReadUntil("\r\n")) return Broken(response);
      const size_t line_end = buffer_.find("\r\n") + 2;
      const size_t size = std::stoul(buffer_, nullptr, 16);
      while (buffer_.size() < line_end + size + 2) {
        if (!Fill()) return Broken(response);
      }
      if (size > 0) response.chunks.push_back(buffer_.substr(line_end, size));
      response.body.append(buffer_, line_end, size);
      buffer_.erase(0, line_end + size + 2);
      if (size > 0) continue;
      response.ending = Ending::kWhole;
      return response;
    }
  }

  int fd_;
  bool connected_ = false;
  bool reset_ = false;
  bool timed_out_ = false;
  std::string buffer_;
};

// The data of a stream's events, without pings and comments.
std::vector<std::string> DataOf(std::string_view stream) {
  std::vector<std::string> data;
  while (!stream.empty()) {
    const size_t end = std::min(stream.find('\n'), stream.size());
    std::string_view line = stream.substr(0, end);
    stream.remove_prefix(std::min(end + 1, stream.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.substr(0, 6) == "data: ") data.emplace_back(line.substr(6));
  }
  return data;
}

std::vector<Json> EventsOf(std::string_view stream) {
  std::vector<Json> events;
  for (const std::string& data : DataOf(stream)) {
    if (data != "[DONE]") events.push_back(Json::parse(data));
  }
  return events;
}

Json OpenAiText(const std::vector<Json>& events) {
  std::string text;
  for (const Json& event : events) {
    if (event["choices"].empty()) continue;
    const Json& delta = event["choices"][0]["delta"];
    if (delta.contains("content") && delta["content"].is_string()) {
      text += delta["content"].get<std::string>();
    }
  }
  return text;
}

Json AnthropicText(const std::vector<Json>& events) {
  std::string text;
  for (const Json& event : events) {
    if (event["type"] == "content_block_delta" && event["delta"]["type"] == "text_delta") {
      text += event["delta"]["text"].get<std::string>();
    }
  }
  return text;
}

Json GeminiText(const std::vector<Json>& events) {
  std::string text;
  for (const Json& event : events) {
    const Json candidate = event["candidates"][0];
    if (!candidate.contains("content") || !candidate["content"].contains("parts")) continue;
    for (const Json& part : candidate["content"]["parts"]) text += part.value("text", "");
  }
  return text;
}

std::vector<std::string> TypesOf(const std::vector<Json>& events) {
  std::vector<std::string> types;
  for (const Json& event : events) {
    const std::string type = event["type"];
    if (types.empty() || types.back() != type) types.push_back(type);
  }
  return types;
}

Json UserMessage(const std::string& text) { return {{"role", "user"}, {"content", text}}; }

constexpr const char* kQuestion = "Why is the sky blue?";
constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kMessages = "/v1/messages";
constexpr const char* kVersion = "anthropic-version: 2023-06-01\r\n";
constexpr const char* kGenerate = "/v1beta/models/gemini-2.5-flash:generateContent";
constexpr const char* kStreamGenerate =
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";

const Json kWeatherSchema = {{"type", "object"},
                             {"properties",
                              {{"city", {{"type", "string"}}},
                               {"unit", {{"enum", {"celsius", "fahrenheit"}}}},
                               {"days", {{"type", "integer"}, {"minimum", 3}}}}},
                             {"required", {"city", "unit"}}};

class SimproviderTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(Options()); }

  void Start(Options options) {
    server_.reset();
    simulator_ = std::make_unique<Simulator>(options);
    server_ = std::make_unique<HttpServer>(*simulator_);
    simulator_->faults().OnRefuse([this](double seconds) { server_->RefuseFor(seconds); });
    std::string error;
    ASSERT_TRUE(server_->Start("127.0.0.1:0", options.threads, error)) << error;
  }

  Response Call(const std::string& method, const std::string& target, const std::string& body,
                const std::string& headers = "") {
    Client client(server_->port());
    if (client.connected()) client.Request(method, target, body, headers);
    return client.Read();
  }

  Response OpenAi(const Json& more = Json::object()) {
    Json body = {{"model", "gpt-4o"}, {"messages", {UserMessage(kQuestion)}}};
    if (!more.empty()) body.update(more);
    return Call("POST", kChat, body.dump());
  }

  Response Anthropic(const Json& more = Json::object()) {
    Json body = {
        {"model", "claude-haiku"}, {"max_tokens", 1000}, {"messages", {UserMessage(kQuestion)}}};
    if (!more.empty()) body.update(more);
    return Call("POST", kMessages, body.dump(), kVersion);
  }

  Response Gemini(bool streamed, const Json& more = Json::object()) {
    Json body = {{"contents", {{{"role", "user"}, {"parts", {{{"text", kQuestion}}}}}}}};
    if (!more.empty()) body.update(more);
    return Call("POST", streamed ? kStreamGenerate : kGenerate, body.dump());
  }

  void SetFault(const Json& fault, const std::string& model = "*") {
    const Response response = Call("PUT", "/sim/faults/" + model, fault.dump());
    ASSERT_EQ(response.status, 200) << response.body;
  }

  std::string Refusal(const std::string& fault) {
    const Response response = Call("PUT", "/sim/faults/m", fault);
    EXPECT_EQ(response.status, 400) << fault;
    return response.json().value("error", "");
  }

  Json Attempts(const std::string& query = "") {
    return Call("GET", "/sim/attempts" + query, "").json();
  }

  // The last attempt, once it has ended.
  Json EndedAttempt() {
    const auto guard = std::chrono::steady_clock::now() + std::chrono::seconds(kGuardSeconds);
    for (;;) {
      const Json attempts = Attempts();
      if (!attempts.empty() && attempts.back()["end"] != "open") return attempts.back();
      if (std::chrono::steady_clock::now() > guard) return attempts;
      std::this_thread::yield();
    }
  }

  std::unique_ptr<Simulator> simulator_;
  std::unique_ptr<HttpServer> server_;
};

const Json kStreamed = {{"stream", true}};

// --- OpenAI ---

TEST_F(SimproviderTest, OpenAiAnswersWhole) {
  const Response response = OpenAi();
  ASSERT_EQ(response.status, 200);
  EXPECT_THAT(response.Header("x-request-id"), StartsWith("req_"));
  const Json json = response.json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "gpt-4o");
  const Json& choice = json["choices"][0];
  EXPECT_THAT(choice["message"]["content"].get<std::string>(),
              StartsWith("[gpt-4o] simulated answer to: Why is the sky blue? "));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["message"]["refusal"].is_null());
  const Json& usage = json["usage"];
  EXPECT_GT(usage["prompt_tokens"], 0);
  EXPECT_EQ(usage["total_tokens"],
            usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 0);
}

TEST_F(SimproviderTest, OpenAiStreamsTheSameText) {
  const Response response =
      OpenAi({{"stream", true}, {"stream_options", {{"include_usage", true}}}});
  EXPECT_THAT(response.Header("Content-Type"), StartsWith("text/event-stream"));
  EXPECT_EQ(response.ending, Ending::kWhole);
  EXPECT_THAT(response.body, EndsWith("data: [DONE]\n\n"));
  const auto events = EventsOf(response.body);
  ASSERT_GT(events.size(), 6U);
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(OpenAiText(events), OpenAi().json()["choices"][0]["message"]["content"]);
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_GT(events.back()["usage"]["completion_tokens"], 0);
  EXPECT_TRUE(events[1]["usage"].is_null());
}

TEST_F(SimproviderTest, OpenAiSendsNoUsageUnlessAsked) {
  const auto events = EventsOf(OpenAi(kStreamed).body);
  for (const Json& event : events) EXPECT_FALSE(event.contains("usage"));
}

TEST_F(SimproviderTest, OpenAiCountsCachedAndReasoningTokens) {
  const Json messages = {{{"role", "system"}, {"content", std::string(8000, 'x')}},
                         UserMessage(kQuestion)};
  const Json usage = OpenAi({{"model", "o3"}, {"messages", messages}}).json()["usage"];
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 1920);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 64);
}

TEST_F(SimproviderTest, OpenAiCallsTools) {
  const Json tools = {
      {{"type", "function"}, {"function", {{"name", "weather"}, {"parameters", kWeatherSchema}}}}};
  const Json whole = OpenAi({{"tools", tools}, {"tool_choice", "required"}}).json();
  const Json& message = whole["choices"][0]["message"];
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "tool_calls");
  ASSERT_EQ(message["tool_calls"].size(), 1U);
  EXPECT_THAT(message["tool_calls"][0]["id"].get<std::string>(), StartsWith("call_"));
  EXPECT_EQ(Json::parse(message["tool_calls"][0]["function"]["arguments"].get<std::string>()),
            Json({{"city", "simulated"}, {"unit", "celsius"}}));
}

TEST_F(SimproviderTest, OpenAiStreamsParallelToolCallsInFragments) {
  const Json tools = {
      {{"type", "function"}, {"function", {{"name", "weather"}, {"parameters", kWeatherSchema}}}}};
  const Json request = {{"stream", true},
                        {"tools", tools},
                        {"messages", {UserMessage("Please use the tool twice, in parallel")}}};
  std::vector<std::string> arguments(2);
  std::vector<int> fragments(2);
  for (const Json& event : EventsOf(OpenAi(request).body)) {
    const Json& delta = event["choices"][0]["delta"];
    if (!delta.contains("tool_calls")) continue;
    const Json& call = delta["tool_calls"][0];
    const size_t index = call["index"];
    arguments[index] += call["function"]["arguments"].get<std::string>();
    ++fragments[index];
  }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_GT(fragments[i], 2);
    EXPECT_EQ(Json::parse(arguments[i])["unit"], "celsius");
  }
}

TEST_F(SimproviderTest, OpenAiToolChoiceNoneGivesText) {
  const Json tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  const Json json =
      OpenAi(
          {{"tools", tools}, {"tool_choice", "none"}, {"messages", {UserMessage("use the tool")}}})
          .json();
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
}

TEST_F(SimproviderTest, OpenAiAnswersInJson) {
  const Json object = OpenAi({{"response_format", {{"type", "json_object"}}},
                              {"messages", {UserMessage("As JSON: why?")}}})
                          .json();
  const std::string text = object["choices"][0]["message"]["content"];
  EXPECT_TRUE(Json::parse(text).is_object());
  const Json format = {{"type", "json_schema"},
                       {"json_schema", {{"name", "w"}, {"schema", kWeatherSchema}}}};
  const Json bound = OpenAi({{"response_format", format}}).json();
  const Json instance = Json::parse(bound["choices"][0]["message"]["content"].get<std::string>());
  EXPECT_EQ(instance["unit"], "celsius");
  EXPECT_TRUE(instance["city"].is_string());
  EXPECT_FALSE(instance.contains("days"));
}

TEST_F(SimproviderTest, OpenAiHonoursMaxTokensAndStop) {
  const Json cut = OpenAi({{"max_tokens", 3}}).json();
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(cut["choices"][0]["message"]["content"], "[gpt-4o] simulated answer");
  EXPECT_EQ(cut["usage"]["completion_tokens"], 3);
  const Json stopped = OpenAi({{"stop", {"sky", "answer"}}}).json();
  EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(stopped["choices"][0]["message"]["content"], "[gpt-4o] simulated ");
}

TEST_F(SimproviderTest, OpenAiValidates) {
  const auto refused = [this](const Json& more) {
    const Response response = OpenAi(more);
    EXPECT_EQ(response.status, 400) << more;
    const Json error = response.json()["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    return error["param"].is_null() ? std::string() : error["param"].get<std::string>();
  };
  EXPECT_EQ(refused({{"messages", nullptr}}), "messages");
  EXPECT_EQ(refused({{"messages", Json::array()}}), "messages");
  EXPECT_EQ(refused({{"messages", {{{"role", "bard"}, {"content", "x"}}}}}), "messages[0].role");
  EXPECT_EQ(refused({{"messages", {{{"role", "user"}}}}}), "messages[0].content");
  EXPECT_EQ(refused({{"messages", {{{"role", "tool"}, {"content", "x"}}}}}), "messages[0].role");
  EXPECT_EQ(refused({{"temperature", 2.1}}), "temperature");
  EXPECT_EQ(refused({{"max_tokens", 0}}), "max_tokens");
  EXPECT_EQ(refused({{"stop", {"a", "b", "c", "d", "e"}}}), "stop");
  EXPECT_EQ(refused({{"model", ""}}), "");
  EXPECT_EQ(Call("POST", kChat, "{\"model\":").status, 400);
  EXPECT_EQ(Call("POST", "/nowhere", "{}").status, 404);
  EXPECT_EQ(Call("GET", kChat, "").status, 405);
}

TEST_F(SimproviderTest, AzurePathsNameTheModel) {
  const Json body = {{"messages", {UserMessage(kQuestion)}}};
  const Response response = Call(
      "POST", "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", body.dump());
  EXPECT_EQ(response.json()["model"], "my-gpt");
}

TEST_F(SimproviderTest, EmbedsDeterministically) {
  const Json body = {{"model", "text-embedding-3-small"},
                     {"input", {"the sky is blue", "is the sky blue?", "bake a cake slowly"}},
                     {"dimensions", 64}};
  const Json first = Call("POST", "/v1/embeddings", body.dump()).json();
  ASSERT_EQ(first["data"].size(), 3U);
  EXPECT_EQ(first["data"], Call("POST", "/v1/embeddings", body.dump()).json()["data"]);
  std::vector<std::vector<double>> vectors;
  for (const Json& item : first["data"]) vectors.push_back(item["embedding"]);
  const auto dot = [&](size_t a, size_t b) {
    double sum = 0;
    for (size_t i = 0; i < 64; ++i) sum += vectors[a][i] * vectors[b][i];
    return sum;
  };
  EXPECT_EQ(vectors[0].size(), 64U);
  EXPECT_NEAR(dot(0, 0), 1, 1e-5);
  EXPECT_GT(dot(0, 1), dot(0, 2));
  const Json plain = {{"model", "e"}, {"input", "x"}};
  EXPECT_EQ(Call("POST", "/v1/embeddings", plain.dump()).json()["data"][0]["embedding"].size(),
            384U);
  EXPECT_EQ(Call("POST", "/v1/embeddings", R"({"model":"e"})").status, 400);
}

// --- Anthropic ---

TEST_F(SimproviderTest, AnthropicAnswersWhole) {
  const Response response = Anthropic();
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_THAT(response.Header("request-id"), StartsWith("req_"));
  const Json json = response.json();
  EXPECT_EQ(json["type"], "message");
  EXPECT_EQ(json["role"], "assistant");
  EXPECT_EQ(json["stop_reason"], "end_turn");
  EXPECT_THAT(json["content"][0]["text"].get<std::string>(),
              StartsWith("[claude-haiku] simulated answer to: Why is the sky blue?"));
  EXPECT_EQ(json["usage"]["cache_read_input_tokens"], 0);
}

TEST_F(SimproviderTest, AnthropicStreamsItsEvents) {
  const Response response = Anthropic(kStreamed);
  EXPECT_EQ(response.ending, Ending::kWhole);
  EXPECT_THAT(response.body, StartsWith("event: message_start\ndata: {"));
  EXPECT_THAT(response.body, HasSubstr("event: ping\ndata: {\"type\": \"ping\"}\n\n"));
  const auto events = EventsOf(response.body);
  const std::vector<std::string> expected = {
      "message_start",      "content_block_start", "ping",        "content_block_delta",
      "content_block_stop", "message_delta",       "message_stop"};
  EXPECT_EQ(TypesOf(events), expected);
  EXPECT_EQ(AnthropicText(events), Anthropic().json()["content"][0]["text"]);
  const Json& delta = events[events.size() - 2];
  EXPECT_EQ(delta["delta"]["stop_reason"], "end_turn");
  EXPECT_EQ(delta["usage"]["output_tokens"], Anthropic().json()["usage"]["output_tokens"]);
}

TEST_F(SimproviderTest, AnthropicThinksWhenAsked) {
  const Json thinking = {{"thinking", {{"type", "enabled"}, {"budget_tokens", 1024}}}};
  const Json json = Anthropic(thinking).json();
  EXPECT_EQ(json["content"][0]["type"], "thinking");
  EXPECT_EQ(json["content"][1]["type"], "text");
  Json streamed = thinking;
  streamed["stream"] = true;
  const std::string body = Anthropic(streamed).body;
  EXPECT_THAT(body, HasSubstr("\"thinking_delta\""));
  EXPECT_THAT(body, HasSubstr("\"signature_delta\""));
}

TEST_F(SimproviderTest, AnthropicUsesTools) {
  const Json tools = {{{"name", "weather"}, {"input_schema", kWeatherSchema}}};
  Json request = {{"tools", tools}, {"tool_choice", {{"type", "tool"}, {"name", "weather"}}}};
  const Json json = Anthropic(request).json();
  EXPECT_EQ(json["stop_reason"], "tool_use");
  EXPECT_EQ(json["content"][0]["type"], "tool_use");
  EXPECT_EQ(json["content"][0]["input"]["unit"], "celsius");
  request["stream"] = true;
  std::string arguments;
  for (const Json& event : EventsOf(Anthropic(request).body)) {
    if (event["type"] == "content_block_delta") {
      EXPECT_EQ(event["delta"]["type"], "input_json_delta");
      arguments += event["delta"]["partial_json"].get<std::string>();
    }
  }
  EXPECT_EQ(Json::parse(arguments), json["content"][0]["input"]);
}

TEST_F(SimproviderTest, AnthropicReportsStopSequenceLimitAndCacheReads) {
  const Json stopped = Anthropic({{"stop_sequences", {"sky"}}}).json();
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], "sky");
  EXPECT_EQ(Anthropic({{"max_tokens", 2}}).json()["stop_reason"], "max_tokens");
  const Json system = {{{"type", "text"},
                        {"text", "Be brief and kind."},
                        {"cache_control", {{"type", "ephemeral"}}}}};
  EXPECT_GT(Anthropic({{"system", system}}).json()["usage"]["cache_read_input_tokens"], 0);
}

TEST_F(SimproviderTest, AnthropicValidates) {
  const auto refused = [this](const Json& more) {
    const Response response = Anthropic(more);
    EXPECT_EQ(response.status, 400) << more;
    EXPECT_EQ(response.json()["type"], "error");
    EXPECT_EQ(response.json()["error"]["type"], "invalid_request_error");
    return response.json()["error"]["message"].get<std::string>();
  };
  EXPECT_EQ(refused({{"max_tokens", nullptr}}), "max_tokens: Field required");
  EXPECT_EQ(refused({{"messages", nullptr}}), "messages: Field required");
  EXPECT_EQ(refused({{"messages", Json::array()}}), "messages: at least one message is required");
  EXPECT_THAT(refused({{"messages", {{{"role", "system"}, {"content", "x"}}}}}),
              HasSubstr("Unexpected role \"system\""));
  EXPECT_THAT(refused({{"temperature", 1.5}}), HasSubstr("less than or equal to 1"));
  EXPECT_THAT(
      refused({{"messages", {UserMessage("x"), {{"role", "assistant"}, {"content", "Sky "}}}}}),
      HasSubstr("trailing whitespace"));
  const Json body = {{"model", "m"}, {"max_tokens", 1}, {"messages", {UserMessage("x")}}};
  EXPECT_EQ(Call("POST", kMessages, body.dump()).status, 400);
}

// --- Gemini ---

TEST_F(SimproviderTest, GeminiAnswersWholeAndStreamed) {
  const Json json = Gemini(false).json();
  const Json& candidate = json["candidates"][0];
  EXPECT_EQ(candidate["finishReason"], "STOP");
  EXPECT_EQ(candidate["content"]["role"], "model");
  EXPECT_EQ(json["usageMetadata"]["thoughtsTokenCount"], 64);
  EXPECT_EQ(json["modelVersion"], "gemini-2.5-flash");
  const Response streamed = Gemini(true);
  EXPECT_EQ(streamed.ending, Ending::kWhole);
  EXPECT_THAT(streamed.body, EndsWith("\r\n\r\n"));
  const auto events = EventsOf(streamed.body);
  ASSERT_GT(events.size(), 3U);
  EXPECT_EQ(GeminiText(events), candidate["content"]["parts"][0]["text"]);
  EXPECT_FALSE(events[0]["candidates"][0].contains("finishReason"));
  EXPECT_EQ(events.back()["candidates"][0]["finishReason"], "STOP");
  EXPECT_EQ(events.back()["usageMetadata"], json["usageMetadata"]);
}

TEST_F(SimproviderTest, GeminiStreamsAJsonArrayWithoutAltSse) {
  const Json body = {{"contents", {{{"parts", {{{"text", "x"}}}}}}}};
  const Response response =
      Call("POST", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", body.dump());
  EXPECT_TRUE(response.json().is_array());
}

TEST_F(SimproviderTest, GeminiCallsFunctionsInParallel) {
  const Json request = {
      {"contents", {{{"parts", {{{"text", "use the tool in parallel"}}}}}}},
      {"tools",
       {{{"functionDeclarations", {{{"name", "weather"}, {"parameters", kWeatherSchema}}}}}}}};
  for (const bool streamed : {false, true}) {
    const Response response = Gemini(streamed, request);
    int calls = 0;
    for (const Json& event :
         streamed ? EventsOf(response.body) : std::vector<Json>{response.json()}) {
      const Json candidate = event["candidates"][0];
      if (!candidate.contains("content") || !candidate["content"].contains("parts")) continue;
      for (const Json& part : candidate["content"]["parts"]) {
        if (part.contains("functionCall")) ++calls;
      }
    }
    EXPECT_EQ(calls, 2);
  }
}

TEST_F(SimproviderTest, GeminiHonoursItsGenerationConfig) {
  const Json cut = Gemini(false, {{"generationConfig", {{"maxOutputTokens", 2}}}}).json();
  EXPECT_EQ(cut["candidates"][0]["finishReason"], "MAX_TOKENS");
  const Json config = {{"responseMimeType", "application/json"},
                       {"responseSchema", kWeatherSchema},
                       {"thinkingConfig", {{"thinkingBudget", 0}}}};
  const Json bound = Gemini(false, {{"generationConfig", config}}).json();
  const std::string text = bound["candidates"][0]["content"]["parts"][0]["text"];
  EXPECT_EQ(Json::parse(text)["unit"], "celsius");
  EXPECT_FALSE(bound["usageMetadata"].contains("thoughtsTokenCount"));
}

TEST_F(SimproviderTest, GeminiValidates) {
  const auto refused = [this](const Json& more) {
    const Response response = Gemini(false, more);
    EXPECT_EQ(response.status, 400) << more;
    EXPECT_EQ(response.json()["error"]["status"], "INVALID_ARGUMENT");
    return response.json()["error"]["message"].get<std::string>();
  };
  EXPECT_THAT(refused({{"contents", Json::array()}}), HasSubstr("contents is not specified"));
  EXPECT_THAT(refused({{"contents", {{{"role", "system"}, {"parts", {{{"text", "x"}}}}}}}}),
              HasSubstr("valid role"));
  EXPECT_THAT(refused({{"messages", 1}}), HasSubstr("Unknown name \"messages\""));
  EXPECT_THAT(refused({{"generationConfig", {{"temperature", 3}}}}), HasSubstr("temperature"));
}

// --- Answers ---

TEST_F(SimproviderTest, TheSameRequestGetsTheSameAnswer) {
  const auto text = [this](const Json& more) {
    return OpenAi(more).json()["choices"][0]["message"]["content"].get<std::string>();
  };
  EXPECT_EQ(text({}), text({}));
  EXPECT_NE(text({}), text({{"messages", {UserMessage("Why is the sky red?")}}}));
  EXPECT_NE(text({}), text({{"model", "gpt-4o-mini"}}));
}

TEST_F(SimproviderTest, ContinuesAnAssistantPrefix) {
  const std::string full = Anthropic().json()["content"][0]["text"];
  for (const size_t bytes : {5U, 20U, 60U}) {
    const std::string prefix = full.substr(0, full.find_last_not_of(' ', bytes - 1) + 1);
    const Json messages = {UserMessage(kQuestion), {{"role", "assistant"}, {"content", prefix}}};
    const Json rest = Anthropic({{"messages", messages}}).json();
    EXPECT_EQ(prefix + std::string(rest["content"][0]["text"]), full);
  }
  const Json foreign = {UserMessage(kQuestion), {{"role", "assistant"}, {"content", "Else"}}};
  EXPECT_EQ(Anthropic({{"messages", foreign}}).json()["content"][0]["text"], full);
}

TEST_F(SimproviderTest, HonoursSizeAndChunksAndKeepsCharactersWhole) {
  for (const size_t bytes : {71U, 72U, 73U, 74U, 75U, 76U, 77U, 2000U}) {
    Options options;
    options.answers.answer_bytes = bytes;
    options.answers.chunks = 7;
    Start(options);
    const auto events = EventsOf(OpenAi(kStreamed).body);  // parsing checks the UTF-8
    const size_t length = OpenAiText(events).get<std::string>().size();
    EXPECT_LE(length, bytes);
    EXPECT_GT(length + 4, bytes);
    EXPECT_EQ(events.size(), 7U + 2U);
  }
}

TEST_F(SimproviderTest, TokensJoinToTheirTextAndKeepCharactersWhole) {
  const std::string text = "日本語のとても長い文字列です🙂🙂🙂🙂 a  b\n\nlonger-than-twelve-bytes";
  std::string joined;
  for (std::string_view token : Tokens(text)) {
    joined += token;
    EXPECT_EQ(CodePointFloor(text, joined.size()), joined.size());
  }
  EXPECT_EQ(joined, text);
}

TEST_F(SimproviderTest, DelaysSpreadTheTokens) {
  Options options;
  options.pace = {20, 5};
  Start(options);
  const auto begin = std::chrono::steady_clock::now();
  const Response response = OpenAi(kStreamed);
  EXPECT_EQ(response.ending, Ending::kWhole);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(40));
}

TEST_F(SimproviderTest, DemandsItsKey) {
  Options options;
  options.api_key = "right";
  Start(options);
  const std::string chat = Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump();
  EXPECT_EQ(Call("POST", kChat, chat).status, 401);
  EXPECT_EQ(Call("POST", kChat, chat, "Authorization: Bearer wrong\r\n").json()["error"]["code"],
            "invalid_api_key");
  EXPECT_EQ(Call("POST", kChat, chat, "Authorization: Bearer right\r\n").status, 200);
  EXPECT_EQ(Call("POST", kChat, chat, "api-key: right\r\n").status, 200);
  EXPECT_EQ(Anthropic().json()["error"]["type"], "authentication_error");
  EXPECT_EQ(Gemini(false).status, 403);
  const Response wrong = Call("POST", std::string(kGenerate) + "?key=wrong",
                              R"({"contents":[{"parts":[{"text":"x"}]}]})");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(wrong.json()["error"]["details"][0]["reason"], "API_KEY_INVALID");
}

// --- Faults ---

TEST_F(SimproviderTest, StatusWithTheProvidersOwnBody) {
  SetFault({{"kind", "status"}, {"status", 500}});
  EXPECT_EQ(OpenAi().json()["error"]["type"], "server_error");
  EXPECT_EQ(Anthropic().json()["error"]["type"], "api_error");
  EXPECT_EQ(Gemini(false).json()["error"]["status"], "INTERNAL");
  EXPECT_EQ(Gemini(false).status, 500);
}

TEST_F(SimproviderTest, StatusWithHeadersAndBody) {
  SetFault({{"kind", "status"},
            {"status", 502},
            {"headers", {{"x-should-retry", "false"}, {"content-type", "text/html"}}},
            {"body", "<html>"}});
  const Response response = OpenAi();
  EXPECT_EQ(response.status, 502);
  EXPECT_EQ(response.Header("x-should-retry"), "false");
  EXPECT_EQ(response.Header("content-type"), "text/html");
  EXPECT_EQ(response.Header("Content-Type"), "");
  EXPECT_EQ(response.body, "<html>");
}

TEST_F(SimproviderTest, AScriptIsUsedUpInOrder) {
  SetFault({{{"kind", "status"}, {"status", 500}, {"times", 2}},
            {{"kind", "ok"}, {"times", 1}},
            {{"kind", "overloaded"}, {"times", 1}}});
  std::vector<int> statuses;
  for (int i = 0; i < 5; ++i) statuses.push_back(OpenAi().status);
  EXPECT_EQ(statuses, (std::vector<int>{500, 500, 200, 503, 200}));
}

TEST_F(SimproviderTest, AModelsOwnFaultGoesBeforeTheOneForAll) {
  SetFault({{"kind", "status"}, {"status", 500}});
  SetFault({{"kind", "status"}, {"status", 503}}, "gpt-4o");
  EXPECT_EQ(OpenAi().status, 503);
  EXPECT_EQ(Anthropic().status, 500);
  EXPECT_EQ(Call("DELETE", "/sim/faults/gpt-4o", "").status, 200);
  EXPECT_EQ(OpenAi().status, 500);
  EXPECT_EQ(Call("DELETE", "/sim/faults", "").status, 200);
  EXPECT_EQ(OpenAi().status, 200);
}

TEST_F(SimproviderTest, ResetComesBeforeAnyByte) {
  SetFault({{"kind", "reset"}});
  const Response response = OpenAi();
  EXPECT_EQ(response.ending, Ending::kReset);
  EXPECT_EQ(response.head, "");
}

TEST_F(SimproviderTest, RefuseClosesTheListenerForAWhile) {
  SetFault({{"kind", "refuse"}, {"seconds", 0.2}});
  const auto guard = std::chrono::steady_clock::now() + std::chrono::seconds(kGuardSeconds);
  bool refused = false;
  while (!refused && std::chrono::steady_clock::now() < guard) {
    refused = !Client(server_->port()).connected();
  }
  EXPECT_TRUE(refused);
  bool back = false;
  while (!back && std::chrono::steady_clock::now() < guard) {
    back = Client(server_->port()).connected();
  }
  EXPECT_TRUE(back);
  EXPECT_EQ(OpenAi().status, 200);
}

TEST_F(SimproviderTest, HangIsLoggedWhenTheClientGoes) {
  SetFault({{"kind", "hang"}});
  Client client(server_->port());
  const Json body = {{"model", "gpt-4o"}, {"messages", {UserMessage("x")}}};
  client.Request("POST", kChat, body.dump(), "Idempotency-Key: k-1\r\nx-holdfast-attempt: 2\r\n");
  while (Attempts().empty()) std::this_thread::yield();
  EXPECT_EQ(Attempts()[0]["end"], "open");
  client.Close();
  const Json attempt = EndedAttempt();
  EXPECT_EQ(attempt["end"], "client_closed");
  EXPECT_EQ(attempt["status"], 0);
  EXPECT_EQ(attempt["fault"], "hang");
  EXPECT_EQ(attempt["idempotency_key"], "k-1");
  EXPECT_EQ(attempt["holdfast_attempt"], "2");
  EXPECT_GE(attempt["end_ms"], attempt["ms"]);
}

TEST_F(SimproviderTest, SlowHeadersComeLate) {
  SetFault({{"kind", "slow_headers"}, {"ms", 60}});
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(OpenAi().status, 200);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(60));
}

TEST_F(SimproviderTest, SilenceSendsHeadersOnly) {
  SetFault({{"kind", "silence"}});
  Client client(server_->port());
  const Json body = {{"model", "m"}, {"stream", true}, {"messages", {UserMessage("x")}}};
  client.Request("POST", kChat, body.dump());
  EXPECT_TRUE(client.ReadUntil("\r\n\r\n"));
  EXPECT_THAT(client.buffered(), EndsWith("\r\n\r\n"));
  client.Close();
  const Json attempt = EndedAttempt();
  EXPECT_EQ(attempt["status"], 200);
  EXPECT_EQ(attempt["end"], "client_closed");
}

TEST_F(SimproviderTest, PingsGoOnForEver) {
  SetFault({{"kind", "pings"}, {"interval_ms", 1}});
  Client client(server_->port());
  const Json body = {
      {"model", "m"}, {"max_tokens", 9}, {"stream", true}, {"messages", {UserMessage("x")}}};
  client.Request("POST", kMessages, body.dump(), kVersion);
  const std::string ping = "24\r\nevent: ping\ndata: {\"type\": \"ping\"}\n\n\r\n";
  EXPECT_TRUE(client.ReadUntil(ping + ping + ping));
  EXPECT_THAT(client.buffered(), Not(HasSubstr("message_start")));
}

TEST_F(SimproviderTest, CutAfterExactlyKTokens) {
  for (const int tokens : {0, 1, 4}) {
    for (const char* how : {"rst", "fin", "end"}) {
      SetFault({{"kind", "cut"}, {"after", tokens}, {"how", how}});
      const Response response = OpenAi(kStreamed);
      const std::string text = OpenAiText(EventsOf(response.body));
      EXPECT_EQ(Tokens(text).size(), static_cast<size_t>(tokens)) << text;
      const std::string name = how;
      EXPECT_EQ(response.ending, name == "rst"   ? Ending::kReset
                                 : name == "fin" ? Ending::kClosed
                                                 : Ending::kWhole);
      EXPECT_EQ(EndedAttempt()["end"], name == "end" ? "complete" : "cut");
    }
  }
}

TEST_F(SimproviderTest, BeforeContentIsACutAfterNothing) {
  SetFault({{"kind", "before_content"}, {"how", "fin"}});
  const Response response = Anthropic(kStreamed);
  EXPECT_EQ(response.ending, Ending::kClosed);
  EXPECT_THAT(response.body, HasSubstr("message_start"));
  EXPECT_EQ(AnthropicText(EventsOf(response.body)), "");
}

TEST_F(SimproviderTest, CutByAnErrorEvent) {
  SetFault({{"kind", "cut"}, {"after", 2}, {"how", "error_event"}});
  const Json anthropic = EventsOf(Anthropic(kStreamed).body).back();
  EXPECT_EQ(anthropic["type"], "error");
  EXPECT_EQ(anthropic["error"]["type"], "overloaded_error");
  const Json gemini = EventsOf(Gemini(true).body).back();
  EXPECT_EQ(gemini["error"]["status"], "UNAVAILABLE");
  SetFault({{"kind", "cut"},
            {"after", 2},
            {"how", "error_event"},
            {"type", "api_error"},
            {"message", "it broke"}});
  const Response openai = OpenAi(kStreamed);
  EXPECT_EQ(openai.ending, Ending::kWhole);
  EXPECT_EQ(EventsOf(openai.body).back()["error"]["message"], "it broke");
  EXPECT_THAT(openai.body, Not(HasSubstr("[DONE]")));
}

TEST_F(SimproviderTest, CutInMidCharacter) {
  SetFault({{"kind", "cut"}, {"at", "mid_character"}, {"how", "fin"}});
  for (const Response& response : {OpenAi(kStreamed), OpenAi()}) {
    ASSERT_FALSE(response.body.empty());
    EXPECT_EQ(static_cast<unsigned char>(response.body.back()) & 0xC0, 0xC0);
    EXPECT_EQ(response.ending, Ending::kClosed);
  }
}

TEST_F(SimproviderTest, CutInMidToolCall) {
  SetFault({{"kind", "cut"}, {"at", "mid_tool_call"}, {"how", "fin"}});
  const Json tools = {{{"name", "weather"}, {"input_schema", kWeatherSchema}}};
  const Response response =
      Anthropic({{"stream", true}, {"tools", tools}, {"tool_choice", {{"type", "any"}}}});
  std::string arguments;
  for (const Json& event : EventsOf(response.body)) {
    if (event["type"] == "content_block_delta") {
      arguments += event["delta"]["partial_json"].get<std::string>();
    }
  }
  EXPECT_FALSE(arguments.empty());
  EXPECT_FALSE(Json::accept(arguments));
}

TEST_F(SimproviderTest, CutAfterTheFinishReason) {
  SetFault({{"kind", "cut"}, {"at", "after_finish"}, {"how", "rst"}});
  const Response response = OpenAi(kStreamed);
  EXPECT_EQ(response.ending, Ending::kReset);
  EXPECT_EQ(EventsOf(response.body).back()["choices"][0]["finish_reason"], "stop");
  EXPECT_THAT(response.body, Not(HasSubstr("[DONE]")));
}

TEST_F(SimproviderTest, CutOfAWholeBodyBreaksItsLength) {
  SetFault({{"kind", "cut"}, {"how", "fin"}});
  const Response response = OpenAi();
  EXPECT_EQ(response.ending, Ending::kClosed);
  EXPECT_LT(response.body.size(), std::stoul(response.Header("Content-Length")));
}

TEST_F(SimproviderTest, StallGoesOnAfterAPauseOrNever) {
  SetFault({{"kind", "stall"}, {"after", 3}, {"ms", 30}});
  const Response response = OpenAi(kStreamed);
  EXPECT_EQ(response.ending, Ending::kWhole);
  EXPECT_EQ(OpenAiText(EventsOf(response.body)),
            OpenAi().json()["choices"][0]["message"]["content"]);
  SetFault({{"kind", "stall"}, {"after", 3}});
  Client client(server_->port());
  const Json body = {{"model", "m"}, {"stream", true}, {"messages", {UserMessage("x")}}};
  client.Request("POST", kChat, body.dump());
  EXPECT_TRUE(client.ReadUntil("\" answer\""));
  client.Close();
  EXPECT_EQ(EndedAttempt()["end"], "client_closed");
}

TEST_F(SimproviderTest, DripByTokenAndByByte) {
  const std::string text = OpenAi().json()["choices"][0]["message"]["content"];
  SetFault({{"kind", "drip"}, {"ms", 0.2}});
  EXPECT_EQ(OpenAiText(EventsOf(OpenAi(kStreamed).body)), text);
  SetFault({{"kind", "drip"}, {"ms", 0.01}, {"per", "byte"}});
  EXPECT_EQ(OpenAi().json()["choices"][0]["message"]["content"], text);
}

TEST_F(SimproviderTest, Malformed) {
  SetFault({{"kind", "malformed"}, {"what", "line"}, {"after", 2}});
  int bad = 0;
  for (const std::string& data : DataOf(OpenAi(kStreamed).body)) {
    if (!Json::accept(data) && data != "[DONE]") ++bad;
  }
  EXPECT_EQ(bad, 1);
  SetFault({{"kind", "malformed"}, {"what", "json"}});
  EXPECT_FALSE(Json::accept(Gemini(false).body));
  EXPECT_EQ(Gemini(false).status, 200);
  SetFault({{"kind", "malformed"}, {"what", "truncated"}});
  const Response whole = OpenAi();
  EXPECT_EQ(whole.ending, Ending::kWhole);
  EXPECT_FALSE(Json::accept(whole.body));
  EXPECT_FALSE(Json::accept(DataOf(OpenAi(kStreamed).body).back()));
}

TEST_F(SimproviderTest, SplitUtf8SplitsEveryCharacter) {
  const std::string text = OpenAi().json()["choices"][0]["message"]["content"];
  SetFault({{"kind", "split_utf8"}, {"crlf", true}});
  const Response response = OpenAi(kStreamed);
  EXPECT_EQ(OpenAiText(EventsOf(response.body)), text);
  EXPECT_THAT(response.body, HasSubstr("\r\n\r\ndata: [DONE]\r\n\r\n"));
  size_t inside = 0;
  for (const std::string& chunk : response.chunks) {
    if ((static_cast<unsigned char>(chunk.front()) & 0xC0) == 0x80) ++inside;
  }
  EXPECT_GE(inside, 4U);
  SetFault({{"kind", "split_utf8"}, {"size", 10}});
  EXPECT_EQ(AnthropicText(EventsOf(Anthropic(kStreamed).body)),
            (Call("POST", "/sim/reset", ""), Anthropic().json()["content"][0]["text"]));
}

TEST_F(SimproviderTest, NoDoneLosesTheLastEventOnly) {
  SetFault({{"kind", "no_done"}});
  const Response openai = OpenAi(kStreamed);
  EXPECT_EQ(openai.ending, Ending::kWhole);
  EXPECT_THAT(openai.body, Not(HasSubstr("[DONE]")));
  EXPECT_EQ(EventsOf(openai.body).back()["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(EventsOf(Anthropic(kStreamed).body).back()["type"], "message_delta");
  EXPECT_THAT(Gemini(true).body, Not(HasSubstr("finishReason")));
}

TEST_F(SimproviderTest, Empty) {
  SetFault({{"kind", "empty"}});
  EXPECT_EQ(OpenAi().json()["choices"][0]["message"]["content"], "");
  EXPECT_TRUE(Anthropic().json()["content"].empty());
  EXPECT_EQ(AnthropicText(EventsOf(Anthropic(kStreamed).body)), "");
  EXPECT_EQ(Gemini(false).json()["candidates"][0]["finishReason"], "STOP");
  SetFault({{"kind", "empty"}, {"what", "body"}});
  EXPECT_EQ(OpenAi().status, 200);
  EXPECT_EQ(OpenAi().body, "");
}

TEST_F(SimproviderTest, Refusal) {
  SetFault({{"kind", "refusal"}});
  const Json openai = OpenAi().json()["choices"][0];
  EXPECT_TRUE(openai["message"]["content"].is_null());
  EXPECT_TRUE(openai["message"]["refusal"].is_string());
  EXPECT_THAT(OpenAi(kStreamed).body, HasSubstr("\"refusal\":\"I'm sorry"));
  EXPECT_EQ(Anthropic().json()["stop_reason"], "refusal");
  EXPECT_EQ(Gemini(false).json()["candidates"][0]["finishReason"], "SAFETY");
}

TEST_F(SimproviderTest, ContentFilter) {
  SetFault({{"kind", "content_filter"}, {"after", 3}});
  const Json openai = OpenAi().json();
  EXPECT_EQ(openai["choices"][0]["finish_reason"], "content_filter");
  EXPECT_EQ(openai["usage"]["completion_tokens"], 3);
  EXPECT_EQ(EventsOf(Gemini(true).body).back()["candidates"][0]["finishReason"], "SAFETY");
  SetFault({{"kind", "content_filter"}, {"at", "prompt"}});
  EXPECT_EQ(OpenAi().json()["error"]["code"], "content_filter");
  EXPECT_EQ(Gemini(false).json()["promptFeedback"]["blockReason"], "SAFETY");
  EXPECT_EQ(EventsOf(Gemini(true).body)[0]["promptFeedback"]["blockReason"], "SAFETY");
  EXPECT_EQ(Anthropic().status, 400);
}

TEST_F(SimproviderTest, InvalidJsonAnswerOnlyWhereJsonWasAsked) {
  SetFault({{"kind", "invalid_json_answer"}});
  const Json format = {{"response_format", {{"type", "json_object"}}},
                       {"messages", {UserMessage("as JSON")}}};
  const std::string text = OpenAi(format).json()["choices"][0]["message"]["content"];
  EXPECT_FALSE(Json::accept(text));
  EXPECT_THAT(OpenAi().json()["choices"][0]["message"]["content"].get<std::string>(),
              StartsWith("[gpt-4o]"));
}

TEST_F(SimproviderTest, DeadKeepaliveResetsOnlyTheReusedConnection) {
  SetFault({{"kind", "dead_keepalive"}, {"times", 1}});
  Client client(server_->port());
  const std::string body = Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump();
  client.Request("POST", kChat, body);
  EXPECT_EQ(client.Read().status, 200);
  client.Request("POST", kChat, body);
  EXPECT_EQ(client.Read().ending, Ending::kReset);
  EXPECT_EQ(EndedAttempt()["fault"], "dead_keepalive");
  Client again(server_->port());
  again.Request("POST", kChat, body);
  EXPECT_EQ(again.Read().status, 200);
  again.Request("POST", kChat, body);
  EXPECT_EQ(again.Read().status, 200);
}

TEST_F(SimproviderTest, KnownErrorsInEachProvidersWords) {
  struct Row {
    const char* kind;
    int openai;
    const char* openai_code;
    int anthropic;
    const char* anthropic_type;
    int gemini;
    const char* gemini_status;
  };
  const Row rows[] = {
      {"context_length", 400, "context_length_exceeded", 400, "invalid_request_error", 400,
       "INVALID_ARGUMENT"},
      {"model_not_found", 404, "model_not_found", 404, "not_found_error", 404, "NOT_FOUND"},
      {"quota", 429, "insufficient_quota", 400, "invalid_request_error", 429, "RESOURCE_EXHAUSTED"},
      {"rate_limit", 429, "rate_limit_exceeded", 429, "rate_limit_error", 429,
       "RESOURCE_EXHAUSTED"},
      {"overloaded", 503, "", 529, "overloaded_error", 503, "UNAVAILABLE"},
      {"auth", 401, "invalid_api_key", 401, "authentication_error", 400, "INVALID_ARGUMENT"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.kind);
    SetFault({{"kind", row.kind}});
    const Response openai = OpenAi();
    EXPECT_EQ(openai.status, row.openai);
    const Json code = openai.json()["error"]["code"];
    EXPECT_EQ(code.is_null() ? "" : code.get<std::string>(), row.openai_code);
    const Response anthropic = Anthropic(kStreamed);
    EXPECT_EQ(anthropic.status, row.anthropic);
    EXPECT_EQ(anthropic.json()["error"]["type"], row.anthropic_type);
    const Response gemini = Gemini(true);
    EXPECT_EQ(gemini.status, row.gemini);
    EXPECT_EQ(gemini.json()["error"]["status"], row.gemini_status);
  }
}

TEST_F(SimproviderTest, RetryAfterInEachProvidersWay) {
  SetFault({{"kind", "rate_limit"}, {"retry_after", 1.5}});
  const Response openai = OpenAi();
  EXPECT_EQ(openai.Header("retry-after"), "2");
  EXPECT_EQ(openai.Header("retry-after-ms"), "1500");
  EXPECT_EQ(openai.Header("x-ratelimit-reset-requests"), "1.5s");
  const Response anthropic = Anthropic();
  EXPECT_EQ(anthropic.Header("retry-after"), "2");
  EXPECT_THAT(anthropic.Header("anthropic-ratelimit-requests-reset"), EndsWith("Z"));
  EXPECT_THAT(Gemini(false).body, HasSubstr("\"retryDelay\":\"1.5s\""));
}

TEST(FaultBook, AnOutageEndsByItself) {
  using std::chrono::milliseconds;
  FaultBook book;
  std::string error;
  const FaultBook::TimePoint start{};
  book.Set("m", ParseFaults({{"kind", "outage"}, {"seconds", 2}, {"status", 503}}, error), start);
  ASSERT_EQ(error, "");
  const auto during = book.Take("m", false, start + milliseconds(1999));
  ASSERT_TRUE(during);
  EXPECT_EQ(during->name, "outage");
  EXPECT_EQ(during->fault->status, 503);
  EXPECT_FALSE(book.Take("m", false, start + milliseconds(2000)));
}

TEST(FaultBook, FlappingGoesUpAndDown) {
  using std::chrono::milliseconds;
  FaultBook book;
  std::string error;
  const FaultBook::TimePoint start{};
  book.Set("m", ParseFaults({{"kind", "flapping"}, {"up", 3}, {"down", 1}}, error), start);
  std::string states;
  for (int ms = 500; ms < 8000; ms += 500) {
    states += book.Take("m", false, start + milliseconds(ms)) ? 'd' : 'u';
  }
  EXPECT_EQ(states, "uuuuudduuuuuudd");
}

TEST(FaultBook, AFailureRateIsDeterministicByItsSeed) {
  const auto run = [](int seed) {
    FaultBook book;
    std::string error;
    const nlohmann::ordered_json fault = {
        {"kind", "failure_rate"}, {"p", 0.3}, {"seed", seed}, {"fault", {{"kind", "overloaded"}}}};
    book.Set("m", ParseFaults(fault, error), {});
    std::string outcomes;
    for (int i = 0; i < 1000; ++i) outcomes += book.Take("m", false, {}) ? 'x' : '.';
    return outcomes;
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
  const std::string outcomes = run(7);
  EXPECT_NEAR(static_cast<double>(std::count(outcomes.begin(), outcomes.end(), 'x')), 300, 60);
}

TEST(FaultBook, ARefusalBecomesCurrentWhenTheOnesBeforeAreUsedUp) {
  FaultBook book;
  std::vector<double> refusals;
  book.OnRefuse([&refusals](double seconds) { refusals.push_back(seconds); });
  std::string error;
  const nlohmann::ordered_json script = {{{"kind", "reset"}, {"times", 2}},
                                         {{"kind", "refuse"}, {"seconds", 4}}};
  book.Set("m", ParseFaults(script, error), {});
  book.Take("m", false, {});
  EXPECT_TRUE(refusals.empty());
  book.Take("m", false, {});
  EXPECT_THAT(refusals, ::testing::ElementsAre(4));
}

TEST_F(SimproviderTest, AnOutageResetsConnections) {
  SetFault({{"kind", "outage"}, {"seconds", 60}});
  EXPECT_EQ(OpenAi().ending, Ending::kReset);
  SetFault({{"kind", "failure_rate"}, {"p", 1}, {"fault", {{"kind", "quota"}}}});
  EXPECT_EQ(OpenAi().status, 429);
}

// --- Admin paths and the attempt log ---

TEST_F(SimproviderTest, BadFaultsAreRefusedWithFieldAndReason) {
  EXPECT_EQ(Refusal("{"), "body is no valid JSON");
  EXPECT_THAT(Refusal("[]"), HasSubstr("must not be empty"));
  EXPECT_THAT(Refusal("7"), HasSubstr("must be an object"));
  EXPECT_THAT(Refusal("{}"), StartsWith("kind is required"));
  EXPECT_THAT(Refusal(R"({"kind":"nap"})"), StartsWith("kind is unknown; one of none, status"));
  EXPECT_EQ(Refusal(R"({"kind":"stall","aftr":3})"),
            "aftr is unknown for kind \"stall\"; it takes: kind, times, after, at, ms");
  EXPECT_EQ(Refusal(R"({"kind":"status"})"), "status is required");
  EXPECT_EQ(Refusal(R"({"kind":"status","status":99})"),
            "status must be an integer from 100 to 999");
  EXPECT_THAT(Refusal(R"({"kind":"hang","times":0})"), StartsWith("times must be an integer"));
  EXPECT_THAT(Refusal(R"([{"kind":"hang"},{"kind":"cut","how":"x"}])"),
              StartsWith("[1].how must be one of \"rst\""));
  EXPECT_THAT(Refusal(R"({"kind":"status","status":200,"headers":{"a":"x\r\ny"}})"),
              StartsWith("headers.a is no valid header"));
  EXPECT_THAT(Refusal(R"({"kind":"failure_rate","p":1.1})"), StartsWith("p must be a number"));
  EXPECT_THAT(Refusal(R"({"kind":"outage","seconds":1,"fault":{"kind":"drip"}})"),
              StartsWith("fault.ms is required"));
  EXPECT_THAT(Refusal(R"({"kind":"outage","seconds":1,"fault":{"kind":"refuse","seconds":1}})"),
              StartsWith("fault cannot be of kind"));
  EXPECT_EQ(Call("GET", "/sim/faults", "").json(), Json::object());
}

TEST_F(SimproviderTest, FaultsAreListedWithTheirProgress) {
  SetFault({{{"kind", "status"}, {"status", 500}, {"times", 2}}, {{"kind", "hang"}}}, "a%2Fb");
  Json body = {{"model", "a/b"}, {"messages", {UserMessage("x")}}};
  EXPECT_EQ(Call("POST", kChat, body.dump()).status, 500);
  const Json entry = Call("GET", "/sim/faults", "").json()["a/b"];
  EXPECT_EQ(entry["current"], 0);
  EXPECT_EQ(entry["used"], 1);
  EXPECT_EQ(entry["script"][1]["kind"], "hang");
  EXPECT_EQ(Call("DELETE", "/sim/faults/none", "").status, 404);
  EXPECT_EQ(Call("PATCH", "/sim/faults/none", "").status, 405);
  EXPECT_EQ(Call("GET", "/sim/nowhere", "").status, 404);
  EXPECT_EQ(Call("GET", "/sim/health", "").status, 200);
}

TEST_F(SimproviderTest, TheLogTellsEveryAttempt) {
  const Json body = {{"model", "gpt-4o"}, {"stream", true}, {"messages", {UserMessage("x")}}};
  Call("POST", kChat, body.dump(), "Authorization: Bearer sk-secret\r\n");
  Anthropic();
  EndedAttempt();
  const std::string raw = Call("GET", "/sim/attempts", "").body;
  EXPECT_THAT(raw, Not(HasSubstr("sk-secret")));
  const Json attempts = Json::parse(raw);
  ASSERT_EQ(attempts.size(), 2U);
  EXPECT_EQ(attempts[0]["seq"], 1);
  EXPECT_EQ(attempts[0]["kind"], "openai");
  EXPECT_EQ(attempts[0]["path"], kChat);
  EXPECT_EQ(attempts[0]["streamed"], true);
  EXPECT_EQ(attempts[0]["authorized"], true);
  EXPECT_EQ(attempts[0]["end"], "complete");
  EXPECT_TRUE(attempts[0]["fault"].is_null());
  EXPECT_GT(attempts[0]["request_bytes"], body.dump().size());
  EXPECT_GT(attempts[0]["response_bytes"], 500);
  EXPECT_EQ(attempts[1]["authorized"], false);
  EXPECT_EQ(Attempts("?model=claude-haiku").size(), 1U);
  EXPECT_EQ(Attempts("?since=1")[0]["seq"], 2);
  EXPECT_EQ(Call("GET", "/sim/attempts?since=x", "").status, 400);
  EXPECT_EQ(Call("DELETE", "/sim/attempts", "").status, 200);
  EXPECT_TRUE(Attempts().empty());
  OpenAi();
  EXPECT_EQ(Attempts()[0]["seq"], 3);
}

TEST(AttemptLog, KeepsTheLastHundredThousand) {
  AttemptLog log(false);
  for (int i = 0; i < 100001; ++i) log.Add(Attempt());
  log.End(1, AttemptEnd::kComplete, 0);  // overwritten: must not touch its successor
  const Json attempts = Json::parse(log.ToJson("", 0));
  EXPECT_EQ(attempts.size(), 100000U);
  EXPECT_EQ(attempts[0]["seq"], 2);
  EXPECT_EQ(attempts.back()["end"], "open");
}

TEST_F(SimproviderTest, FaultsCanBeLoadedFromAFile) {
  std::string error;
  EXPECT_TRUE(simulator_->LoadFaults(
      R"({"gpt-4o":{"kind":"quota"},"*":[{"kind":"overloaded","times":1}]})", error));
  EXPECT_EQ(OpenAi().status, 429);
  EXPECT_EQ(Anthropic().status, 529);
  EXPECT_FALSE(simulator_->LoadFaults(R"({"m":{"kind":"hang","x":1}})", error));
  EXPECT_THAT(error, StartsWith("m: x is unknown"));
}

// --- HTTP ---

TEST_F(SimproviderTest, KeepsConnectionsAliveAndTakesPipelinedRequests) {
  Client client(server_->port());
  const std::string body = Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump();
  for (int i = 0; i < 3; ++i) client.Request("POST", kChat, body);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Read().status, 200);
}

TEST_F(SimproviderTest, TakesChunkedBodiesPiecesAndExpectContinue) {
  const std::string body = Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump();
  Client chunked(server_->port());
  chunked.Send("POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n");
  chunked.Send(body.substr(0, 5) + "\r\n");
  char size[20];
  std::snprintf(size, sizeof(size), "%zx\r\n", body.size() - 5);
  chunked.Send(size + body.substr(5) + "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.Read().status, 200);
  Client patient(server_->port());
  patient.Send("POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_TRUE(patient.ReadUntil("HTTP/1.1 100 Continue\r\n\r\n"));
  patient.Send(body);
  EXPECT_TRUE(patient.ReadUntil("HTTP/1.1 200 OK"));
}

TEST_F(SimproviderTest, RefusesWhatIsNoHttp) {
  Client client(server_->port());
  client.Send("hello\r\n\r\n");
  EXPECT_EQ(client.Read().status, 400);
  Client huge(server_->port());
  huge.Send("POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
  EXPECT_EQ(huge.Read().status, 413);
}

TEST_F(SimproviderTest, SeveralThreadsServeManyClients) {
  Options options;
  options.threads = 3;
  Start(options);
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([this, &good] {
      Client client(server_->port());
      const std::string body = Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump();
      for (int j = 0; j < 50; ++j) {
        client.Request("POST", kChat, body);
        if (client.Read().status == 200) ++good;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 400);
  EXPECT_EQ(Attempts().size(), 400U);
}

TEST_F(SimproviderTest, StoppingEndsOpenAttempts) {
  SetFault({{"kind", "hang"}});
  Client client(server_->port());
  client.Request("POST", kChat, Json({{"model", "m"}, {"messages", {UserMessage("x")}}}).dump());
  while (Attempts().empty()) std::this_thread::yield();
  server_->Stop();
  EXPECT_THAT(simulator_->attempts().ToJson("", 0), HasSubstr("\"server_stopped\""));
}

// --- Command line ---

TEST(SimproviderOptions, AreReadAndChecked) {
  Options options;
  std::string error;
  EXPECT_EQ(ParseOptions({"--listen", "0.0.0.0:1", "--threads=2", "--token-delay-ms", "1.5",
                          "--log-attempts"},
                         options, error),
            ParsedOptions::kRun);
  EXPECT_EQ(options.listen, "0.0.0.0:1");
  EXPECT_EQ(options.threads, 2);
  EXPECT_EQ(options.pace.token_delay_ms, 1.5);
  EXPECT_TRUE(options.log_attempts);
  EXPECT_EQ(ParseOptions({"--threads", "x"}, options, error), ParsedOptions::kBad);
  EXPECT_EQ(error, "--threads: \"x\" is no valid value");
  error.clear();
  EXPECT_EQ(ParseOptions({"--nope", "x"}, options, error), ParsedOptions::kBad);
  EXPECT_EQ(ParseOptions({"--help"}, options, error), ParsedOptions::kHelp);
  EXPECT_THAT(HelpText(), HasSubstr("/sim/faults"));
}

}  // namespace
}  // namespace simprovider
