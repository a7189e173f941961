#include "providers/http/curl_loop.h"

#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <future>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/wait.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/scripted_http_server.h"

namespace holdfast::providers {
namespace {

using holdfast::testing::HttpScript;
using holdfast::testing::ScriptedHttpServer;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using Kind = HttpEnd::Kind;

// Writes down what it hears; the test's thread reads it.
class RecordingSink final : public HttpSink {
 public:
  void OnConnected() override {
    Note("connected");
    if (on_connected) on_connected();
  }
  void OnHeaders(int status, const HttpHeaders& headers) override {
    {
      std::lock_guard lock(mutex_);
      headers_ = headers;
    }
    Note("headers " + std::to_string(status));
    if (on_headers) on_headers();
  }
  void OnBody(std::string_view bytes) override {
    {
      std::lock_guard lock(mutex_);
      body_ += bytes;
      changed_.notify_all();
    }
    if (on_body) on_body();
  }

  void WaitForBody(std::string_view expected) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return body_.size() >= expected.size(); });
    EXPECT_EQ(body_, expected);
  }
  std::string body() const {
    std::lock_guard lock(mutex_);
    return body_;
  }
  std::vector<std::string> events() const {
    std::lock_guard lock(mutex_);
    return events_;
  }
  HttpHeaders headers() const {
    std::lock_guard lock(mutex_);
    return headers_;
  }

  std::function<void()> on_connected;
  std::function<void()> on_headers;
  std::function<void()> on_body;

 private:
  void Note(std::string event) {
    std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
  std::string body_;
  HttpHeaders headers_;
};

struct Call {
  RecordingSink sink;
  std::stop_source stop;
  std::promise<HttpEnd> promise;
  std::future<HttpEnd> end = promise.get_future();
};

core::Task<void> RunCall(CurlLoop& loop, HttpRequest request, Call& call) {
  HttpEnd end = co_await loop.Send(std::move(request), call.sink);
  call.promise.set_value(std::move(end));
}

class CurlLoopTest : public ::testing::Test {
 protected:
  HttpRequest Get(std::string_view path = "/") {
    HttpRequest request;
    request.method = "GET";
    request.url = server_.url(path);
    return request;
  }

  HttpRequest Post(std::string body) {
    HttpRequest request;
    request.url = server_.url("/v1");
    request.headers = {{"content-type", "application/json"}};
    request.body = std::move(body);
    return request;
  }

  void Begin(HttpRequest request, Call& call) {
    request.stop = call.stop.get_token();
    loop_.Post([this, request = std::move(request), &call]() mutable {
      core::Spawn(RunCall(loop_, std::move(request), call));
    });
  }

  HttpEnd Run(HttpRequest request, Call& call) {
    Begin(std::move(request), call);
    return call.end.get();
  }
  HttpEnd Run(HttpRequest request) {
    Call call;
    return Run(std::move(request), call);
  }

  // Runs `fn` on the loop and waits for it.
  void OnLoop(std::function<void()> fn) {
    std::promise<void> done;
    loop_.Post([&] {
      fn();
      done.set_value();
    });
    done.get_future().get();
  }

  core::SystemClock clock_;
  ScriptedHttpServer server_;
  CurlLoop loop_{clock_};
};

TEST_F(CurlLoopTest, DeliversResponseInOrder) {
  server_.Expect(HttpScript::Reply(
      200, {{"X-Name", " padded \t"}, {"x-twice", "1"}, {"X-Twice", "2"}}, "hello"));
  Call call;
  const HttpEnd end = Run(Post("{}"), call);
  EXPECT_EQ(end.kind, Kind::kComplete);
  EXPECT_EQ(end.error, "");
  EXPECT_FALSE(end.reused_connection);
  EXPECT_THAT(call.sink.events(), ElementsAre("connected", "headers 200"));
  EXPECT_EQ(call.sink.body(), "hello");
  const HttpHeaders headers = call.sink.headers();
  ASSERT_NE(headers.Find("x-name"), nullptr);
  EXPECT_EQ(*headers.Find("x-name"), "padded");
  EXPECT_EQ(*headers.Find("x-twice"), "2");
  EXPECT_EQ(headers.Find("x-none"), nullptr);
}

TEST_F(CurlLoopTest, SendsWhatItWasGivenAndNothingOfItsOwn) {
  HttpRequest request = Post(std::string("{\"a\":1}\0tail", 12));
  request.headers.emplace_back("X-Empty", "");
  request.headers.emplace_back("Authorization", "Bearer k");
  EXPECT_EQ(Run(std::move(request)).kind, Kind::kComplete);
  const auto seen = server_.requests().at(0);
  EXPECT_EQ(seen.method, "POST");
  EXPECT_EQ(seen.target, "/v1");
  EXPECT_EQ(seen.body, std::string("{\"a\":1}\0tail", 12));
  ASSERT_NE(seen.Find("x-empty"), nullptr);
  EXPECT_EQ(*seen.Find("x-empty"), "");
  EXPECT_EQ(*seen.Find("authorization"), "Bearer k");
  EXPECT_EQ(*seen.Find("content-type"), "application/json");
  EXPECT_EQ(*seen.Find("content-length"), "12");
}

TEST_F(CurlLoopTest, LargeBodyIsNotAnnouncedByExpect) {
  HttpRequest request = Post(std::string(3 << 20, 'x'));
  request.headers.clear();
  EXPECT_EQ(Run(std::move(request)).kind, Kind::kComplete);
  const auto seen = server_.requests().at(0);
  EXPECT_EQ(seen.body.size(), size_t{3 << 20});
  EXPECT_EQ(seen.Find("expect"), nullptr);
  EXPECT_EQ(seen.Find("content-type"), nullptr);
}

TEST_F(CurlLoopTest, OtherMethods) {
  for (const char* method : {"GET", "HEAD", "PUT", "DELETE"}) {
    HttpRequest request = Get("/m");
    request.method = method;
    EXPECT_EQ(Run(std::move(request)).kind, Kind::kComplete) << method;
    EXPECT_EQ(server_.requests().back().method, method);
  }
}

TEST_F(CurlLoopTest, RefusesHeadersThatWouldSplitTheRequest) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"a", "b\r\nx: y"},
                                                        {"a\nb", "c"},
                                                        {"", "c"},
                                                        {"a:b", "c"},
                                                        {"a", std::string("b\0c", 3)}}) {
    HttpRequest request = Post("{}");
    request.headers.emplace_back(name, value);
    EXPECT_EQ(Run(std::move(request)).kind, Kind::kConnect);
  }
  EXPECT_EQ(server_.connections(), 0u);
}

TEST_F(CurlLoopTest, StreamsChunksAsTheyArrive) {
  server_.Expect(HttpScript::Begin(200).Chunk("one").Gate().Chunk("two").LastChunk());
  Call call;
  Begin(Post("{}"), call);
  call.sink.WaitForBody("one");
  server_.Release();
  EXPECT_EQ(call.end.get().kind, Kind::kComplete);
  EXPECT_EQ(call.sink.body(), "onetwo");
}

TEST_F(CurlLoopTest, KeepsConnectionsAndSaysSo) {
  EXPECT_FALSE(Run(Get()).reused_connection);
  EXPECT_TRUE(Run(Get()).reused_connection);
  EXPECT_TRUE(Run(Post("{}")).reused_connection);
  EXPECT_EQ(server_.connections(), 1u);
}

TEST_F(CurlLoopTest, NothingOfAnEarlierPostIsSentAgain) {
  Run(Post("a body that has gone"));
  EXPECT_TRUE(Run(Get()).reused_connection);
  ASSERT_EQ(server_.requests().size(), 2u);
  EXPECT_EQ(server_.requests()[1].method, "GET");
  EXPECT_EQ(server_.requests()[1].body, "");
}

TEST_F(CurlLoopTest, ErrorStatusAndRedirectAreResponses) {
  server_.Expect(HttpScript::Reply(302, {{"location", server_.url("/other")}}, "moved"));
  server_.Expect(HttpScript::Reply(500, {}, "oops"));
  Call redirect;
  EXPECT_EQ(Run(Get(), redirect).kind, Kind::kComplete);
  EXPECT_THAT(redirect.sink.events(), ElementsAre("connected", "headers 302"));
  EXPECT_EQ(redirect.sink.body(), "moved");
  Call error;
  EXPECT_EQ(Run(Get(), error).kind, Kind::kComplete);
  EXPECT_THAT(error.sink.events(), ElementsAre("connected", "headers 500"));
  EXPECT_EQ(server_.requests().size(), 2u);
}

TEST_F(CurlLoopTest, InterimResponsesAndTrailersAreNotTheHeaders) {
  server_.Expect(
      HttpScript().Write("HTTP/1.1 103 Early\r\nlink: a\r\n\r\n"
                         "HTTP/1.1 100 Continue\r\n\r\n"
                         "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-folded: p\r\n q\r\n"
                         "transfer-encoding: chunked\r\n\r\n"
                         "2\r\nhi\r\n0\r\nx-trailer: t\r\n\r\n"));
  Call call;
  EXPECT_EQ(Run(Get(), call).kind, Kind::kComplete);
  EXPECT_THAT(call.sink.events(), ElementsAre("connected", "headers 200"));
  EXPECT_EQ(call.sink.headers().Find("link"), nullptr);
  EXPECT_EQ(call.sink.headers().Find("x-trailer"), nullptr);
  EXPECT_EQ(*call.sink.headers().Find("x-a"), "1");
  EXPECT_EQ(*call.sink.headers().Find("x-folded"), "p q");
  EXPECT_EQ(call.sink.body(), "hi");
}

TEST_F(CurlLoopTest, CloseEndsResponseWithoutLength) {
  server_.Expect(HttpScript().Write("HTTP/1.1 200 OK\r\n\r\nall of it").Fin());
  Call call;
  EXPECT_EQ(Run(Get(), call).kind, Kind::kComplete);
  EXPECT_EQ(call.sink.body(), "all of it");
}

// How a response may break, and what it is called.
struct Break {
  const char* name;
  HttpScript script;
  Kind fresh;
  Kind reused;
};

std::vector<Break> Breaks() {
  return {
      {"fin", HttpScript().Fin(), Kind::kConnect, Kind::kPooledReset},
      {"rst", HttpScript().Reset(), Kind::kConnect, Kind::kPooledReset},
      {"fin inside headers", HttpScript().Write("HTTP/1.1 200 OK\r\na: b\r\n").Fin(),
       Kind::kConnect, Kind::kConnect},
      {"rst after interim", HttpScript().Write("HTTP/1.1 103 E\r\n\r\n").Gate().Reset(),
       Kind::kConnect, Kind::kConnect},
      {"not http", HttpScript().Write("SSH-2.0-x\r\n\r\n").Fin(), Kind::kConnect, Kind::kConnect},
      {"fin short of length",
       HttpScript().Write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").Fin(), Kind::kCut,
       Kind::kCut},
      {"fin right after headers",
       HttpScript().Write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").Fin(), Kind::kCut,
       Kind::kCut},
      {"fin inside chunk", HttpScript::Begin(200).Write("5\r\nab").Fin(), Kind::kCut, Kind::kCut},
      {"fin between chunks", HttpScript::Begin(200).Chunk("ab").Fin(), Kind::kCut, Kind::kCut},
      {"rst in stream", HttpScript::Begin(200).Chunk("ab").Gate().Reset(), Kind::kCut, Kind::kCut},
      {"rst without length", HttpScript().Write("HTTP/1.1 200 OK\r\n\r\nab").Gate().Reset(),
       Kind::kCut, Kind::kCut},
      {"bad chunk", HttpScript::Begin(200).Write("zz\r\nab\r\n"), Kind::kCut, Kind::kCut},
  };
}

TEST_F(CurlLoopTest, BrokenResponsesOnFreshConnection) {
  server_.Release(100);
  for (const Break& broken : Breaks()) {
    CurlLoop loop(clock_);  // without kept connections
    server_.Expect(broken.script);
    const size_t before = server_.requests().size();
    Call call;
    loop.Post([&] { core::Spawn(RunCall(loop, Post("{}"), call)); });
    const HttpEnd end = call.end.get();
    EXPECT_EQ(end.kind, broken.fresh) << broken.name << ": " << end.error;
    EXPECT_NE(end.error, "") << broken.name;
    EXPECT_FALSE(end.reused_connection) << broken.name;
    EXPECT_EQ(server_.requests().size(), before + 1) << broken.name;
  }
}

TEST_F(CurlLoopTest, BrokenResponsesOnReusedConnectionAreNotSentAgain) {
  server_.Release(100);
  for (const Break& broken : Breaks()) {
    CurlLoop loop(clock_);
    Call warm_up;
    loop.Post([&] { core::Spawn(RunCall(loop, Post("{}"), warm_up)); });
    ASSERT_EQ(warm_up.end.get().kind, Kind::kComplete);

    server_.Expect(broken.script);
    const size_t requests = server_.requests().size();
    const size_t connections = server_.connections();
    Call call;
    loop.Post([&] { core::Spawn(RunCall(loop, Post("{}"), call)); });
    const HttpEnd end = call.end.get();
    EXPECT_EQ(end.kind, broken.reused) << broken.name << ": " << end.error;
    EXPECT_TRUE(end.reused_connection) << broken.name;
    EXPECT_EQ(server_.requests().size(), requests + 1) << broken.name;
    EXPECT_EQ(server_.connections(), connections) << broken.name;
    EXPECT_EQ(call.sink.events().at(0), "connected") << broken.name;

    // The next request is as good as new.
    Call next;
    loop.Post([&] { core::Spawn(RunCall(loop, Post("{}"), next)); });
    EXPECT_EQ(next.end.get().kind, Kind::kComplete) << broken.name;
  }
}

TEST_F(CurlLoopTest, ResendIsNotMadeOnAnotherKeptConnectionEither) {
  // Two kept connections; the request on one of them is reset.
  server_.Expect(HttpScript().Gate().Write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
  server_.Expect(HttpScript().Gate().Write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
  Call a, b;
  Begin(Get(), a);
  Begin(Get(), b);
  server_.WaitForGate(2);
  server_.Release(2);
  a.end.get();
  b.end.get();
  ASSERT_EQ(server_.connections(), 2u);

  server_.Expect(HttpScript().Reset());
  Call call;
  const HttpEnd end = Run(Post("{}"), call);
  EXPECT_EQ(end.kind, Kind::kPooledReset);
  EXPECT_THAT(call.sink.events(), ElementsAre("connected"));
  // Whatever was sent again would have arrived before this one.
  EXPECT_EQ(Run(Get("/marker")).kind, Kind::kComplete);
  EXPECT_EQ(server_.requests().size(), 4u);
  EXPECT_EQ(server_.requests().back().target, "/marker");
}

TEST_F(CurlLoopTest, ConnectionClosedWhileIdleIsNotUsed) {
  server_.Expect(HttpScript::Reply(200).Fin());
  EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
  server_.WaitForClose(0);
  const HttpEnd end = Run(Get());
  EXPECT_EQ(end.kind, Kind::kComplete);
  EXPECT_FALSE(end.reused_connection);
}

TEST_F(CurlLoopTest, ConnectFailures) {
  HttpRequest refused = Get();
  server_.StopListening();
  const HttpEnd end = Run(std::move(refused));
  EXPECT_EQ(end.kind, Kind::kConnect);
  EXPECT_THAT(end.error, HasSubstr("127.0.0.1"));

  HttpRequest no_host = Get();
  no_host.url = "http://no-such-host.invalid/?key=secret";
  const HttpEnd dns = Run(std::move(no_host));
  EXPECT_EQ(dns.kind, Kind::kConnect);
  EXPECT_THAT(dns.error, HasSubstr("no-such-host.invalid"));
  EXPECT_THAT(dns.error, Not(HasSubstr("secret")));
}

TEST_F(CurlLoopTest, ConnectionResetOnArrivalIsConnect) {
  server_.ExpectConnection(HttpScript().Reset());
  EXPECT_EQ(Run(Get()).kind, Kind::kConnect);
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(CurlLoopTest, PlainServerBehindHttpsIsConnect) {
  server_.ExpectConnection(HttpScript().Write("HTTP/1.1 400 Bad Request\r\n\r\n"));
  HttpRequest request = Get("/?key=secret");
  request.url.replace(0, 4, "https");
  Call call;
  const HttpEnd end = Run(std::move(request), call);
  EXPECT_EQ(end.kind, Kind::kConnect);
  EXPECT_THAT(end.error, Not(HasSubstr("secret")));
  EXPECT_THAT(call.sink.events(), IsEmpty());
}

TEST_F(CurlLoopTest, OtherProtocolsAndBadUrlsAreRefused) {
  for (const char* url : {"file:///etc/passwd", "ftp://127.0.0.1/x?key=secret", "http://", "",
                          "http://127.0.0.1:99999/?key=secret", "ht tp://secret"}) {
    HttpRequest request = Get();
    request.url = url;
    Call call;
    const HttpEnd end = Run(std::move(request), call);
    EXPECT_EQ(end.kind, Kind::kConnect) << url;
    EXPECT_THAT(end.error, Not(HasSubstr("secret"))) << url;
    EXPECT_THAT(call.sink.events(), IsEmpty()) << url;
  }
}

TEST_F(CurlLoopTest, BodyLimit) {
  for (const auto& [size, kind] : std::vector<std::pair<size_t, Kind>>{
           {999, Kind::kComplete}, {1000, Kind::kComplete}, {1001, Kind::kTooLarge}}) {
    server_.Expect(HttpScript::Reply(200, {}, std::string(size, 'x')));
    HttpRequest request = Get();
    request.max_response_bytes = 1000;
    Call call;
    EXPECT_EQ(Run(std::move(request), call).kind, kind) << size;
    EXPECT_LE(call.sink.body().size(), 1000u);
  }
}

TEST_F(CurlLoopTest, EndlessBodyIsEndedAndClosed) {
  server_.Expect(HttpScript::Begin(200).Chunk(std::string(600, 'x')).Chunk(std::string(600, 'x')));
  HttpRequest request = Get();
  request.max_response_bytes = 1000;
  EXPECT_EQ(Run(std::move(request)).kind, Kind::kTooLarge);
  server_.WaitForClose(0);
}

TEST_F(CurlLoopTest, HeaderLimit) {
  const std::string fixed =
      "HTTP/1.1 200 Scripted\r\n"
      "content-length: 0\r\n"
      "a: \r\n"
      "\r\n";
  for (const auto& [total, kind] :
       std::vector<std::pair<size_t, Kind>>{{(64 << 10) - 1, Kind::kComplete},
                                            {64 << 10, Kind::kComplete},
                                            {(64 << 10) + 1, Kind::kTooLarge},
                                            {300 << 10, Kind::kTooLarge}}) {
    server_.Expect(HttpScript::Reply(200, {{"a", std::string(total - fixed.size(), 'v')}}));
    Call call;
    EXPECT_EQ(Run(Get(), call).kind, kind) << total;
    EXPECT_EQ(call.sink.events().size(), kind == Kind::kComplete ? 2u : 1u) << total;
  }
}

TEST_F(CurlLoopTest, EndlessInterimResponsesAreBounded) {
  std::string interims;
  for (int i = 0; i < 5000; ++i) interims += "HTTP/1.1 103 Early\r\n\r\n";
  server_.Expect(HttpScript().Write(interims));
  EXPECT_EQ(Run(Get()).kind, Kind::kTooLarge);
}

TEST_F(CurlLoopTest, StoppedBeforeSendTouchesNothing) {
  Call call;
  call.stop.request_stop();
  EXPECT_EQ(Run(Get(), call).kind, Kind::kCancelled);
  EXPECT_THAT(call.sink.events(), IsEmpty());
  EXPECT_EQ(server_.connections(), 0u);
}

TEST_F(CurlLoopTest, StopWhileWaitingForHeadersClosesTheSocket) {
  server_.Expect(HttpScript().Gate());
  Call call;
  Begin(Post("{}"), call);
  server_.WaitForGate();
  OnLoop([&] { call.stop.request_stop(); });
  EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
  server_.WaitForClose(0);
  EXPECT_THAT(call.sink.events(), ElementsAre("connected"));
}

TEST_F(CurlLoopTest, StopInStreamIsTheLastTheSinkHears) {
  server_.Expect(HttpScript::Begin(200).Chunk("a").Gate().Chunk("b").LastChunk());
  Call call;
  Begin(Post("{}"), call);
  call.sink.WaitForBody("a");
  OnLoop([&] { call.stop.request_stop(); });
  EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
  server_.WaitForClose(0);
  EXPECT_EQ(call.sink.body(), "a");
  EXPECT_FALSE(Run(Get()).reused_connection);
}

TEST_F(CurlLoopTest, StopInsideAnyCallbackOfTheSink) {
  // All in one write, so that libcurl has the rest in hand when the sink has had enough.
  server_.SetFallback(
      HttpScript().Write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                         "1\r\na\r\n1\r\nb\r\n0\r\n\r\n"));
  for (int where = 0; where < 3; ++where) {
    Call call;
    auto stop = [&] { call.stop.request_stop(); };
    if (where == 0) call.sink.on_connected = stop;
    if (where == 1) call.sink.on_headers = stop;
    if (where == 2) call.sink.on_body = stop;
    EXPECT_EQ(Run(Post("{}"), call).kind, Kind::kCancelled) << where;
    EXPECT_EQ(call.sink.events().size(), where == 0 ? 1u : 2u) << where;
    EXPECT_EQ(call.sink.body(), where == 2 ? "a" : "") << where;
  }
  EXPECT_EQ(server_.requests().size(), 2u);  // the first was stopped before it was sent
}

TEST_F(CurlLoopTest, SinkMayStopAnotherRequest) {
  server_.Expect(HttpScript::Begin(200).Chunk("first").Gate());
  server_.Expect(HttpScript::Reply(200, {}, "second"));
  Call first, second;
  second.sink.on_body = [&] { first.stop.request_stop(); };
  Begin(Get(), first);
  first.sink.WaitForBody("first");
  Begin(Get(), second);
  EXPECT_EQ(first.end.get().kind, Kind::kCancelled);
  EXPECT_EQ(second.end.get().kind, Kind::kComplete);
  server_.WaitForClose(0);
}

TEST_F(CurlLoopTest, StopAfterTheEndChangesNothing) {
  Call call;
  const HttpEnd end = Run(Get(), call);
  OnLoop([&] { call.stop.request_stop(); });
  EXPECT_EQ(end.kind, Kind::kComplete);
}

TEST_F(CurlLoopTest, StopWhileConnectingToABlackHole) {
  // 192.0.2.0/24 is for documentation: packets go nowhere, or are refused at once.
  HttpRequest request = Get();
  request.url = "http://192.0.2.1:9/";
  Call call;
  Begin(std::move(request), call);
  OnLoop([&] { call.stop.request_stop(); });
  const HttpEnd end = call.end.get();
  EXPECT_TRUE(end.kind == Kind::kCancelled || end.kind == Kind::kConnect);
  EXPECT_THAT(call.sink.events(), IsEmpty());
}

// A body that does not fit into any sockets' buffers, no two places of it alike.
std::vector<std::string> LargeBody() {
  std::vector<std::string> chunks;
  for (int i = 0; i < 800; ++i) {
    std::string chunk;
    while (chunk.size() < 60'000) chunk += std::to_string(i * 100'000 + chunk.size()) + " ";
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

TEST_F(CurlLoopTest, AClosedValveHoldsTheServerBack) {
  const std::vector<std::string> chunks = LargeBody();
  std::string body;
  for (const std::string& chunk : chunks) body += chunk;
  server_.Expect(HttpScript::Stream(200, {}, chunks));
  core::Valve valve;
  Call call;
  std::promise<void> closed;
  int pieces = 0;
  call.sink.on_body = [&] {
    EXPECT_TRUE(valve.open()) << "delivered through a closed valve";
    if (++pieces != 3) return;
    valve.Close();
    closed.set_value();
  };
  HttpRequest request = Get();
  request.max_response_bytes = 100 << 20;
  request.valve = &valve;
  Begin(std::move(request), call);
  closed.get_future().get();
  // Another transfer goes on meanwhile, and many rounds of the loop deliver nothing to this one.
  const std::string held = call.sink.body();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
  EXPECT_EQ(call.sink.body().size(), held.size());
  EXPECT_LT(server_.bytes_written(), body.size() / 2);
  OnLoop([&] { valve.Open(); });
  EXPECT_EQ(call.end.get().kind, Kind::kComplete);
  EXPECT_TRUE(call.sink.body() == body);
}

TEST_F(CurlLoopTest, AValveThatOpensAndClosesLosesNothing) {
  const std::vector<std::string> chunks = LargeBody();
  std::string body;
  for (const std::string& chunk : chunks) body += chunk;
  core::Valve valve;
  for (const bool at_once : {true, false}) {
    server_.Expect(HttpScript::Stream(200, {}, chunks));
    Call call;
    call.sink.on_body = [&] {
      valve.Close();
      if (at_once) return valve.Open();  // within libcurl's callback
      loop_.Post([&] {
        valve.Open();
        valve.Close();
        loop_.Post([&] { valve.Open(); });
      });
    };
    HttpRequest request = Get();
    request.max_response_bytes = 100 << 20;
    request.valve = &valve;
    EXPECT_EQ(Run(std::move(request), call).kind, Kind::kComplete);
    EXPECT_TRUE(call.sink.body() == body);
  }
}

TEST_F(CurlLoopTest, WhatHappensBehindAClosedValve) {
  core::Valve valve;
  const auto begin = [&](Call& call) {
    OnLoop([&] { valve.Close(); });
    HttpRequest request = Get();
    request.max_response_bytes = 10;
    request.valve = &valve;
    Begin(std::move(request), call);
  };
  {
    SCOPED_TRACE("the server ends");
    server_.Expect(HttpScript::Reply(200, {}, "all of it"));
    Call call;
    begin(call);
    server_.WaitForRequests(1);
    EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
    EXPECT_EQ(call.sink.body(), "");
    OnLoop([&] { valve.Open(); });
    EXPECT_EQ(call.end.get().kind, Kind::kComplete);
    EXPECT_EQ(call.sink.body(), "all of it");
  }
  {
    SCOPED_TRACE("the server hangs up");
    server_.Expect(HttpScript::Begin(200).Chunk("half").Fin());
    Call call;
    begin(call);
    server_.WaitForRequests(3);
    EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
    OnLoop([&] { valve.Open(); });
    EXPECT_EQ(call.end.get().kind, Kind::kCut);
    EXPECT_EQ(call.sink.body(), "half");
  }
  {
    SCOPED_TRACE("too much was kept");
    server_.Expect(HttpScript::Reply(200, {}, "over the ten"));
    Call call;
    begin(call);
    server_.WaitForRequests(5);
    EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
    OnLoop([&] { valve.Open(); });
    EXPECT_EQ(call.end.get().kind, Kind::kTooLarge);
  }
  {
    SCOPED_TRACE("the request is stopped");
    server_.Expect(HttpScript::Begin(200).Chunk("half").Gate());
    Call call;
    begin(call);
    server_.WaitForGate();
    OnLoop([&] { call.stop.request_stop(); });
    EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
    OnLoop([&] { valve.Open(); });
    EXPECT_EQ(call.sink.body(), "");
  }
  {
    SCOPED_TRACE("the request is stopped by what it reads on");
    server_.Expect(HttpScript::Begin(200).Chunk("half").Gate());
    Call call;
    call.sink.on_body = [&] { call.stop.request_stop(); };
    begin(call);
    server_.WaitForGate();
    OnLoop([&] { valve.Open(); });
    EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
  }
}

TEST_F(CurlLoopTest, ProxyComesFromTheRequestOnly) {
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
  EXPECT_EQ(Run(Get()).kind, Kind::kComplete);
  unsetenv("http_proxy");
  unsetenv("ALL_PROXY");

  setenv("no_proxy", "*", 1);
  HttpRequest request = Get();
  request.url = "http://provider.invalid/v1";
  request.proxy = server_.url("");
  EXPECT_EQ(Run(std::move(request)).kind, Kind::kComplete);
  unsetenv("no_proxy");
  EXPECT_EQ(server_.requests().back().target, "http://provider.invalid/v1");
}

TEST_F(CurlLoopTest, ProxysAnswerToConnectIsNotTheResponse) {
  server_.Expect(HttpScript::Reply(407, {{"proxy-authenticate", "Basic"}}, "no"));
  HttpRequest request = Get();
  request.url = "https://provider.invalid/v1";
  request.proxy = "http://user:hunter2@127.0.0.1:" + std::to_string(server_.port());
  Call call;
  const HttpEnd end = Run(std::move(request), call);
  EXPECT_EQ(end.kind, Kind::kConnect);
  EXPECT_THAT(call.sink.events(), IsEmpty());
  EXPECT_EQ(server_.requests().back().method, "CONNECT");

  HttpRequest bad = Get();
  bad.proxy = "foo://user:hunter2@127.0.0.1:1";
  EXPECT_THAT(Run(std::move(bad)).error, Not(HasSubstr("hunter2")));
}

TEST_F(CurlLoopTest, ManyRequestsAtOnce) {
  constexpr size_t kCalls = 300;
  std::vector<Call> calls(kCalls);
  for (size_t i = 0; i < kCalls; ++i) {
    server_.Expect(HttpScript::Begin(200).Chunk("x").Gate().Chunk("y").LastChunk());
  }
  for (Call& call : calls) Begin(Post("{}"), call);
  server_.WaitForGate(kCalls);
  for (size_t i = 0; i < kCalls; i += 3) {
    OnLoop([&] { calls[i].stop.request_stop(); });
  }
  for (size_t i = 0; i < kCalls; i += 3) EXPECT_EQ(calls[i].end.get().kind, Kind::kCancelled);
  server_.Release(kCalls);
  for (size_t i = 0; i < kCalls; ++i) {
    if (i % 3 == 0) continue;
    EXPECT_EQ(calls[i].end.get().kind, Kind::kComplete);
    EXPECT_EQ(calls[i].sink.body(), "xy");
  }
}

TEST_F(CurlLoopTest, PostsRunInOrderOnTheLoop) {
  std::vector<int> order;
  EXPECT_FALSE(loop_.InLoop());
  OnLoop([&] {
    EXPECT_TRUE(loop_.InLoop());
    loop_.Post([&] { order.push_back(2); });
    order.push_back(1);
  });
  OnLoop([&] { order.push_back(3); });
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST_F(CurlLoopTest, PostsFromManyThreadsAllRun) {
  constexpr int kThreads = 4, kPosts = 5000;
  int ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) loop_.Post([&] { ++ran; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  OnLoop([&] { EXPECT_EQ(ran, kThreads * kPosts); });
}

TEST_F(CurlLoopTest, TimersRunByTimeThenOrderAndNeverInsideCallAt) {
  std::vector<int> order;
  std::promise<void> done;
  OnLoop([&] {
    const core::SteadyTime now = loop_.Now();
    const auto last = now + std::chrono::milliseconds(3);
    loop_.CallAt(last, [&] { order.push_back(3); });
    loop_.CallAt(last, [&] { order.push_back(4); });
    loop_.CallAt(core::SteadyTime::max(), [&] { order.push_back(99); });
    loop_.CallAt(now - std::chrono::hours(1), [&] { order.push_back(1); });
    loop_.CallAt(now, [&] { order.push_back(2); });
    const core::TimerId cancelled = loop_.CallAt(last, [&] { order.push_back(98); });
    EXPECT_TRUE(loop_.CancelTimer(cancelled));
    EXPECT_FALSE(loop_.CancelTimer(cancelled));
    EXPECT_FALSE(loop_.CancelTimer(12345));
    loop_.CallAt(last, [&] { done.set_value(); });
    EXPECT_THAT(order, IsEmpty());
  });
  done.get_future().get();
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

TEST_F(CurlLoopTest, TimerFiresWhileASocketIsQuiet) {
  server_.Expect(HttpScript().Gate());
  Call call;
  Begin(Get(), call);
  server_.WaitForGate();
  OnLoop([&] {
    loop_.CallAt(loop_.Now() + std::chrono::milliseconds(2), [&] { call.stop.request_stop(); });
  });
  EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
}

TEST_F(CurlLoopTest, StopRunsWhatWasPostedAndEndsRequests) {
  server_.Expect(HttpScript().Gate());
  Call call;
  Begin(Get(), call);
  server_.WaitForGate();
  std::vector<int> order;
  loop_.Post([&] {
    order.push_back(1);
    loop_.Post([&] { order.push_back(2); });
  });
  loop_.Stop();
  EXPECT_THAT(order, ElementsAre(1, 2));
  EXPECT_EQ(call.end.get().kind, Kind::kCancelled);
  server_.WaitForClose(0);
  loop_.Post([&] { order.push_back(3); });
  loop_.Stop();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

core::Task<void> SendTwice(CurlLoop& loop, HttpRequest first, HttpRequest second, Call& a,
                           Call& b) {
  a.promise.set_value(co_await loop.Send(std::move(first), a.sink));
  b.promise.set_value(co_await loop.Send(std::move(second), b.sink));
}

TEST_F(CurlLoopTest, RequestsBegunWhileStoppingEndAsCancelled) {
  server_.Expect(HttpScript().Gate());
  Call a, b;
  loop_.Post([&] { core::Spawn(SendTwice(loop_, Get(), Get(), a, b)); });
  server_.WaitForGate();
  loop_.Stop();
  EXPECT_EQ(a.end.get().kind, Kind::kCancelled);
  EXPECT_EQ(b.end.get().kind, Kind::kCancelled);
  EXPECT_EQ(server_.requests().size(), 1u);
}

}  // namespace
}  // namespace holdfast::providers
