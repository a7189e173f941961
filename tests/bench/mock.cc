// The benchmark's provider: Chat Completions over HTTP/1.1, always streamed, on one thread and as
// lean as can be, so that it is not what is measured. tools/simprovider checks what it is asked
// and logs it, and costs more than nginx does.
//
//   bench_mock --bytes N --chunks N --delay-ms MS       prints "listening on 127.0.0.1:PORT"
//   bench_mock --chunks N --pace-ms MS                  so many tokens, one at a time, each of
//   which
//                                                       says when it was sent (exchange.h)
//
// The answer is one write for each chunk of text; with one chunk it is one write in all. GET
// /waiting tells how many requests wait for the end of their delay.

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>

#include "CLI/CLI.hpp"
#include "tests/bench/exchange.h"
#include "tests/bench/sockets.h"

namespace holdfast::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Options {
  size_t bytes = 200;
  size_t chunks = 1;
  int delay_ms = 0;
  double pace_ms = 0;
  bool spread = false;
};

struct Connection {
  int fd = -1;
  uint64_t id = 0;
  std::string in;
};

constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string Event(std::string_view delta, std::string_view finish) {
  return "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
         "\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":" +
         std::string(delta) + ",\"logprobs\":null,\"finish_reason\":" + std::string(finish) +
         "}]}\n\n";
}

std::string Chunk(std::string_view bytes) {
  std::array<char, 16> size{};
  const auto end = std::to_chars(size.data(), size.data() + size.size(), bytes.size(), 16).ptr;
  return std::string(size.data(), end) + "\r\n" + std::string(bytes) + "\r\n";
}

const std::string& LastEvents() {
  static const std::string events =
      Event("{}", "\"stop\"") +
      "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
      "\"model\":\"mock\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":50,"
      "\"total_tokens\":62}}\n\ndata: [DONE]\n\n";
  return events;
}

// The text of the last "content" of a body; what is asked here has no escapes.
std::string_view QuestionIn(std::string_view body) {
  constexpr std::string_view kKey = "\"content\":";
  const size_t at = body.rfind(kKey);
  if (at == std::string_view::npos) return {};
  const size_t begin = body.find('"', at + kKey.size());
  if (begin == std::string_view::npos) return {};
  const size_t end = body.find('"', begin + 1);
  return end == std::string_view::npos ? std::string_view()
                                       : body.substr(begin + 1, end - begin - 1);
}

class Mock {
 public:
  explicit Mock(Options options) : options_(options), epoll_(Require(epoll_create1(0), "epoll")) {
    listener_.fd = Require(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof address;
    Require(bind(listener_.fd, reinterpret_cast<sockaddr*>(&address), size), "bind");
    Require(listen(listener_.fd, 4096), "listen");
    Require(getsockname(listener_.fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    std::printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    Watch(epoll_, listener_.fd, &listener_);
  }

  void Run() {
    std::array<epoll_event, 256> events{};
    while (true) {
      const int count = epoll_wait(epoll_, events.data(), events.size(), MillisToNext());
      for (int i = 0; i < count; ++i) {
        auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
        connection == &listener_ ? Accept() : Read(*connection);
      }
      AnswerDue();
      SendTokensDue();
    }
  }

 private:
  struct Waiting {
    SteadyClock::time_point due;
    uint64_t connection;
    std::string question;
  };
  struct Stream {
    uint64_t connection;
    size_t sent;
  };

  void Accept() {
    while (true) {
      const int fd = accept4(listener_.fd, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd < 0) return;
      SendAtOnce(fd);
      auto connection = std::make_unique<Connection>();
      connection->fd = fd;
      connection->id = ++last_id_;
      Watch(epoll_, fd, connection.get());
      connections_.emplace(connection->id, std::move(connection));
    }
  }

  void Read(Connection& connection) {
    std::array<char, 16384> buffer;
    const ssize_t got = recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      close(connection.fd);
      connections_.erase(connection.id);
      return;
    }
    connection.in.append(buffer.data(), static_cast<size_t>(got));
    TakeRequests(connection);
    if (!connection.in.empty()) AckAtOnce(connection.fd);
  }

  void TakeRequests(Connection& connection) {
    while (true) {
      const std::string_view in = connection.in;
      const size_t head = in.find("\r\n\r\n");
      if (head == std::string_view::npos) return;
      const size_t length = ContentLength(in.substr(0, head));
      if (in.size() < head + 4 + length) return;
      Take(connection, in.substr(0, head), in.substr(head + 4, length));
      connection.in.erase(0, head + 4 + length);
    }
  }

  static size_t ContentLength(std::string_view head) {
    constexpr std::string_view kName = "ontent-";  // Content-Length, in either usual spelling
    for (size_t at = head.find(kName); at != std::string_view::npos;
         at = head.find(kName, at + 1)) {
      const std::string_view rest = head.substr(at + kName.size());
      if (!rest.starts_with("Length: ") && !rest.starts_with("length: ")) continue;
      size_t length = 0;
      std::from_chars(rest.data() + 8, rest.data() + rest.size(), length);
      return length;
    }
    return 0;
  }

  void Take(Connection& connection, std::string_view head, std::string_view body) {
    if (head.starts_with("GET")) {
      const std::string count = std::to_string(waiting_.size());
      SendAll(connection.fd, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(count.size()) +
                                 "\r\n\r\n" + count);
    } else if (options_.pace_ms > 0) {
      constexpr double kGolden = 0.6180339887498949;  // spreads any number of them evenly
      const double phase = std::fmod(static_cast<double>(++last_stream_) * kGolden, 1.0);
      streams_.emplace(SteadyClock::now() + Pace(options_.spread ? phase : 0),
                       Stream{connection.id, 0});
    } else if (options_.delay_ms == 0) {
      Reply(connection.fd, QuestionIn(body));
    } else {
      waiting_.push_back({SteadyClock::now() + std::chrono::milliseconds(options_.delay_ms),
                          connection.id, std::string(QuestionIn(body))});
    }
  }

  void Reply(int fd, std::string_view question) const {
    const std::string answer = Answer(question, options_.bytes);
    const size_t step = (answer.size() + options_.chunks - 1) / options_.chunks;
    std::string out(kHead);
    for (size_t at = 0; at < answer.size(); at += step) {
      if (at > 0) {
        SendAll(fd, out);
        out.clear();
      }
      std::string events =
          Event("{\"role\":\"assistant\",\"content\":\"" + answer.substr(at, step) + "\"}", "null");
      if (at + step >= answer.size()) events += LastEvents();
      out += Chunk(events);
    }
    out += "0\r\n\r\n";
    SendAll(fd, out);
  }

  void AnswerDue() {
    while (!waiting_.empty() && waiting_.front().due <= SteadyClock::now()) {
      const auto found = connections_.find(waiting_.front().connection);
      if (found != connections_.end()) Reply(found->second->fd, waiting_.front().question);
      waiting_.pop_front();
    }
  }

  SteadyClock::duration Pace(double times) const {
    return std::chrono::duration_cast<SteadyClock::duration>(
        std::chrono::duration<double, std::milli>(options_.pace_ms * times));
  }

  void SendTokensDue() {
    while (!streams_.empty() && streams_.begin()->first <= SteadyClock::now()) {
      auto node = streams_.extract(streams_.begin());
      Stream& stream = node.mapped();
      const auto found = connections_.find(stream.connection);
      if (found == connections_.end()) continue;
      SendToken(found->second->fd, ++stream.sent);
      node.key() += Pace(1);
      if (stream.sent < options_.chunks) streams_.insert(std::move(node));
    }
  }

  void SendToken(int fd, size_t number) const {
    std::string out(number == 1 ? kHead : std::string_view());
    std::string events = Event("{\"role\":\"assistant\",\"content\":\"" + Stamp() + "\"}", "null");
    if (number == options_.chunks) events += LastEvents();
    out += Chunk(events);
    if (number == options_.chunks) out += "0\r\n\r\n";
    SendAll(fd, out);
  }

  int MillisToNext() const {
    if (waiting_.empty() && streams_.empty()) return -1;
    const auto due = waiting_.empty() ? streams_.begin()->first : waiting_.front().due;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - SteadyClock::now());
    return std::max(0, static_cast<int>(left.count()));
  }

  const Options options_;
  const int epoll_;
  Connection listener_;
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::deque<Waiting> waiting_;  // all have the same delay
  uint64_t last_stream_ = 0;
  std::multimap<SteadyClock::time_point, Stream> streams_;  // by when the next token is due
};

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  using namespace holdfast::bench;
  Options options;
  CLI::App app("The benchmark's provider");
  app.add_option("--bytes", options.bytes, "Length of an answer's text")->capture_default_str();
  app.add_option("--chunks", options.chunks, "Pieces it comes in")->check(CLI::PositiveNumber);
  app.add_option("--pace-ms", options.pace_ms, "Between one token and the next");
  app.add_flag("--spread", options.spread, "First tokens come anywhere within the pace");
  app.add_option("--delay-ms", options.delay_ms, "Before the reply");
  CLI11_PARSE(app, argc, argv);
  AllowManyFiles();
  Mock(options).Run();
}
