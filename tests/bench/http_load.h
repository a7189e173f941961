#pragma once

// The load over HTTP/1.1: a streamed chat completion at a time on each connection.

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/score.h"
#include "tests/bench/sockets.h"

namespace holdfast::bench {

// One reply, as its bytes come in: a streamed chat completion in HTTP chunks.
class HttpReply {
 public:
  // True once it is whole.
  bool Take(std::string_view bytes) {
    raw_ += bytes;
    if (at_ == 0) {
      const size_t head = raw_.find("\r\n\r\n");
      if (head == std::string::npos) return false;
      at_ = head + 4;
    }
    while (true) {
      const size_t line = raw_.find("\r\n", at_);
      if (line == std::string::npos) return false;
      size_t size = 0;
      const auto read = std::from_chars(raw_.data() + at_, raw_.data() + line, size, 16);
      if (read.ec != std::errc()) Die("not an HTTP chunk in: " + raw_);
      if (raw_.size() < line + 2 + size + 2) return false;
      if (size == 0) return true;
      body_.append(raw_, line + 2, size);
      at_ = line + 2 + size + 2;
    }
  }

  bool ok() const { return raw_.starts_with("HTTP/1.1 200"); }
  const std::string& raw() const { return raw_; }

  // All of "content" of all events; what is answered here has no escapes.
  std::string Text() const {
    constexpr std::string_view kKey = "\"content\":";
    std::string text;
    for (size_t at = body_.find(kKey); at != std::string::npos; at = body_.find(kKey, at)) {
      at += kKey.size();
      if (at < body_.size() && body_[at] == ' ') ++at;
      if (at >= body_.size() || body_[at] != '"') continue;  // null
      const size_t end = body_.find('"', at + 1);
      if (end == std::string::npos) break;
      text.append(body_, at + 1, end - at - 1);
      at = end;
    }
    return text;
  }

 private:
  std::string raw_;
  size_t at_ = 0;
  std::string body_;
};

class HttpLoad {
 public:
  HttpLoad(const Options& options, Score& score)
      : options_(options), score_(score), epoll_(Require(epoll_create1(0), "epoll")) {
    for (const std::string& header : options.headers) more_headers_ += header + "\r\n";
  }

  void Run() {
    std::vector<Connection> connections(static_cast<size_t>(options_.connections));
    for (Connection& connection : connections) Connect(connection);
    for (Connection& connection : connections) Send(connection);
    ReadWhile(
        epoll_, [this] { return busy_ > 0; },
        [this](void* connection) { Read(*static_cast<Connection*>(connection)); });
  }

 private:
  struct Connection {
    int fd = -1;
    Score::Asked asked;
    HttpReply reply;
    size_t seen = 0;  // bytes of tokens
  };

  void Connect(Connection& connection) {
    connection.fd = bench::Connect(options_.port);
    Watch(epoll_, connection.fd, &connection);
  }

  void Send(Connection& connection) {
    connection.asked = score_.Ask();
    connection.reply = {};
    connection.seen = 0;
    const std::string body = "{\"model\":\"" + options_.model +
                             "\",\"messages\":[{\"role\":\"user\",\"content\":\"" +
                             connection.asked.question +
                             "\"}],\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    SendAll(connection.fd,
            "POST " + options_.path + " HTTP/1.1\r\nHost: 127.0.0.1:" +
                std::to_string(options_.port) + "\r\n" + more_headers_ +
                "Content-Type: application/json\r\nAccept: text/event-stream\r\nAuthorization: "
                "Bearer key\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    ++busy_;
  }

  void Read(Connection& connection) {
    std::array<char, 16384> buffer;
    const ssize_t got = recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) {
      score_.Failed("the connection was closed after: " + connection.reply.raw());
      close(connection.fd);
      Connect(connection);
    } else {
      const bool whole = connection.reply.Take({buffer.data(), static_cast<size_t>(got)});
      if (options_.tokens > 0) {
        const std::string text = connection.reply.Text();
        if (text.size() > connection.seen) {
          score_.Tokens(connection.asked, connection.seen,
                        std::string_view(text).substr(connection.seen));
          connection.seen = text.size();
        }
      }
      if (!whole) return AckAtOnce(connection.fd);
      if (connection.reply.ok() && options_.tokens > 0) {
        score_.AnsweredInTokens(connection.asked, connection.reply.Text());
      } else if (connection.reply.ok()) {
        score_.Answered(connection.asked, connection.reply.Text());
      } else {
        score_.Failed(connection.reply.raw());
      }
    }
    --busy_;
    if (score_.AskMore()) Send(connection);
  }

  const Options& options_;
  Score& score_;
  const int epoll_;
  std::string more_headers_;
  int busy_ = 0;
};

}  // namespace holdfast::bench
