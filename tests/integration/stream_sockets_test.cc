// What a stream's caller does to its provider's socket, through the real server: a caller that
// stops reading stops the provider's writes, and one that cancels closes its connection.

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "tests/fakes/scripted_http_server.h"
#include "tests/integration/service_fixture.h"
#include "tests/server/stream_reader.h"

namespace holdfast::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::Gt;
using ::testing::Lt;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr char kSky[] = "Why is the sky blue on Earth?";
constexpr char kSse[] = "text/event-stream";

std::string Event(const std::string& text) {
  const Json choice = {{"index", 0}, {"delta", {{"content", text}}}};
  return "data: " + Json{{"model", "gpt"}, {"choices", {choice}}}.dump() + "\n\n";
}

std::string LastEvents() {
  const Json choice = {{"index", 0}, {"delta", Json::object()}, {"finish_reason", "stop"}};
  return "data: " + Json{{"model", "gpt"}, {"choices", {choice}}}.dump() + "\n\ndata: [DONE]\n\n";
}

size_t SizeOf(const HttpScript& script) {
  size_t bytes = 0;
  for (const HttpScript::Step& step : script.steps()) bytes += step.bytes.size();
  return bytes;
}

// Bytes that the kernel holds between the server at `port` of this machine and its clients, in both
// sockets of each connection.
size_t BytesInSockets(uint16_t port) {
  std::ifstream table("/proc/net/tcp");
  EXPECT_TRUE(table.good());
  size_t bytes = 0;
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string number, local, remote, state, queues;
    fields >> number >> local >> remote >> state >> queues;
    const auto port_of = [](const std::string& address) {
      return std::stoul(address.substr(address.find(':') + 1), nullptr, 16);
    };
    if (state != "01") continue;  // established
    const size_t colon = queues.find(':');
    if (port_of(local) == port) bytes += std::stoul(queues.substr(0, colon), nullptr, 16);
    if (port_of(remote) == port) bytes += std::stoul(queues.substr(colon + 1), nullptr, 16);
  }
  return bytes;
}

// The real server in front of a provider of this test's own, behind the route "openai".
class StreamSockets : public ServiceFixture {
 protected:
  void StartAt(ScriptedHttpServer& provider, const std::string& top = "") {
    environment_["SIM"] = provider.url("");
    Settings settings;
    // One loop, so that a call that was answered says that the loop of all streams has turned.
    settings.top = "loops: 1\n" + top;
    settings.timeouts = "{connect: 10s, first_token: 10s, idle: 10s}";
    Start(settings);
  }

  static v1::GenerateRequest Uncached() {
    v1::GenerateRequest request = Question(kSky, "openai");
    request.mutable_cache()->set_mode(v1::CacheControl::MODE_OFF);
    return request;
  }
};

// All that a stream may hold outside the kernel while its caller does not read, with room: 64 KiB
// of waiting events and 16 KiB of one read, 64 KiB each of the event being written, of gRPC's write
// buffer, of HTTP/2's window and of the caller's own read, and the SSE around the text.
constexpr size_t kMostHeld = 512 << 10;

TEST_F(StreamSockets, ACallerThatStopsReadingStopsItsProvidersWrites) {
  constexpr size_t kPiece = 4 << 10;
  constexpr size_t kPieces = 12'000;  // 47 MiB, more than sockets and windows take
  ScriptedHttpServer provider;
  std::string whole;
  HttpScript answer = HttpScript::Begin(200, {{"content-type", kSse}});
  for (size_t i = 0; i < kPieces; ++i) {
    std::string piece = std::to_string(i) + " ";
    piece.resize(kPiece, static_cast<char>('a' + i % 26));
    whole += piece;
    answer.Chunk(Event(piece));
  }
  answer.Chunk(LastEvents()).LastChunk();
  const size_t all = SizeOf(answer);
  provider.Expect(std::move(answer));
  const HttpScript yes =
      HttpScript::Stream(200, {{"content-type", kSse}}, {Event("yes") + LastEvents()});
  const size_t short_answer = SizeOf(yes);
  provider.SetFallback(yes);
  StartAt(provider, "limits: {response: 128MiB}\nmax_timeout: 300s\n");

  grpc::ChannelArguments small_window;
  small_window.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  small_window.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 64 << 10);
  const auto channel =
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), small_window);
  const auto stub = v1::GenerateService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->GenerateStream(&context, Uncached());
  v1::GenerateStreamResponse event;
  Assembled assembled;
  while (assembled.text.empty()) {
    ASSERT_TRUE(reader->Read(&event));
    assembled.On(event);
  }

  // Calls that are answered meanwhile show that the server has had its turns, and the provider too.
  size_t others = 0;
  size_t written = 0;
  int still = 0;
  ASSERT_TRUE(Eventually([&] {
    EXPECT_EQ(Generate(Uncached()).text(), "yes");
    const size_t now = provider.bytes_written() - ++others * short_answer;
    still = now == written && provider.blocked() == 1 ? still + 1 : 0;
    written = now;
    return still == 20 || written == all;
  }));
  const size_t held = written - BytesInSockets(provider.port());
  EXPECT_LT(held, kMostHeld);
  EXPECT_LT(written, all);

  while (reader->Read(&event)) assembled.On(event);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(assembled.text.size(), whole.size());
  EXPECT_TRUE(assembled.text == whole);
  EXPECT_EQ(assembled.finished.degradation(), v1::DEGRADATION_NONE);
  EXPECT_THAT(assembled.finished.attempts(), SizeIs(1));
}

// A caller that cancels when `ready` says so, again and again. The median is what counts, since any
// single one may have to wait for a processor.
class StreamCancels : public StreamSockets {
 protected:
  using Reader = grpc::ClientReader<v1::GenerateStreamResponse>;
  static constexpr size_t kCancels = 15;
  static constexpr std::chrono::milliseconds kSoon = 100ms;

  void ExpectSoonClosed(const std::function<void(Reader&)>& ready) {
    std::vector<std::chrono::steady_clock::duration> took;
    for (size_t i = 0; i < kCancels; ++i) {
      grpc::ClientContext context;
      const auto reader = stub_->GenerateStream(&context, Uncached());
      ASSERT_TRUE(Eventually([&] { return provider_.requests().size() > i; }));
      ready(*reader);
      const size_t connection = provider_.requests().back().connection;
      const auto cancelled_at = std::chrono::steady_clock::now();
      context.TryCancel();
      provider_.WaitForClose(connection);
      took.push_back(std::chrono::steady_clock::now() - cancelled_at);
      v1::GenerateStreamResponse event;
      while (reader->Read(&event)) {
      }
      EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
    }
    std::ranges::sort(took);
    EXPECT_LE(took[kCancels / 2], kSoon);
  }

  static void ReadText(Reader& reader) {
    v1::GenerateStreamResponse event;
    do {
      ASSERT_TRUE(reader.Read(&event));
    } while (!event.has_delta());
  }

  // What each call is booked with, in dollars.
  std::vector<double> Costs() {
    std::vector<double> costs;
    for (const Json& line : WaitForLog("request", kCancels)) {
      EXPECT_EQ(line["status"], "CANCELLED");
      EXPECT_EQ(line["attempts"], 1);
      costs.push_back(line["cost_usd"]);
    }
    return costs;
  }

  ScriptedHttpServer provider_;
};

TEST_F(StreamCancels, BeforeTheFirstContentNothingIsBooked) {
  provider_.SetFallback(HttpScript::Begin(200, {{"content-type", kSse}}).Gate());
  StartAt(provider_);
  ExpectSoonClosed([](Reader&) {});
  EXPECT_THAT(Costs(), Each(0));
}

TEST_F(StreamCancels, AfterContentWhatWasStreamedIsBooked) {
  const std::string text(3'000, 'x');  // by its length 1,000 tokens
  provider_.SetFallback(HttpScript::Begin(200, {{"content-type", kSse}}).Chunk(Event(text)).Gate());
  StartAt(provider_);
  ExpectSoonClosed(&ReadText);
  // Those, and the prompt's few, at the route's 10 and 2.50 dollars a million.
  EXPECT_THAT(Costs(), Each(AllOf(Gt(0.01), Lt(0.0101))));
}

TEST_F(StreamCancels, WhileTheProviderIsNotReadWhatWasReadIsBooked) {
  HttpScript answer = HttpScript::Begin(200, {{"content-type", kSse}});
  for (int i = 0; i < 12'000; ++i) answer.Chunk(Event(std::string(4 << 10, 'x')));
  provider_.SetFallback(answer);
  StartAt(provider_, "limits: {response: 128MiB}\n");
  ExpectSoonClosed([this](Reader& reader) {
    ReadText(reader);
    EXPECT_TRUE(Eventually([this] { return provider_.blocked() == 1; }));
  });
  EXPECT_THAT(Costs(), Each(Gt(0.01)));
}

}  // namespace
}  // namespace holdfast::testing
