#pragma once

// The load over gRPC, unary or streamed: calls written straight on nghttp2's sessions, since
// gRPC's own C++ client takes longer for a call than what is measured here. HTTP/2 itself
// (windows, header compression, pings) is nghttp2's; gRPC over it is a path, a few headers, a
// length before each message and a status behind.

#include <nghttp2/nghttp2.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "holdfast/v1/generate.pb.h"
#include "tests/bench/score.h"
#include "tests/bench/sockets.h"

namespace holdfast::bench {

class GrpcLoad {
 public:
  GrpcLoad(const Options& options, Score& score, bool streamed)
      : options_(options),
        score_(score),
        streamed_(streamed),
        path_(std::string("/holdfast.v1.GenerateService/Generate") + (streamed ? "Stream" : "")),
        epoll_(Require(epoll_create1(0), "epoll")) {}

  void Run() {
    connections_.resize(static_cast<size_t>(options_.connections));
    for (auto& connection : connections_) connection = Connect();
    calls_.resize(static_cast<size_t>(std::max(options_.in_flight, options_.connections)));
    for (size_t i = 0; i < calls_.size(); ++i) {
      calls_[i].load = this;
      calls_[i].connection = connections_[i % connections_.size()].get();
      Start(calls_[i]);
    }
    for (auto& connection : connections_) Flush(*connection);
    ReadWhile(
        epoll_, [this] { return busy_ > 0; },
        [this](void* connection) { Read(*static_cast<Connection*>(connection)); });
  }

 private:
  struct FreeSession {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };
  struct Connection {
    int fd = -1;
    std::unique_ptr<nghttp2_session, FreeSession> session;
    std::string out;
  };
  struct Call {
    GrpcLoad* load = nullptr;
    Connection* connection = nullptr;
    Score::Asked asked;
    std::string request;  // what is still to be sent of it
    std::string reply;    // bytes of a message that is not whole
    std::string text;
    std::string status;
    std::string message;
    bool finished = false;
    bool odd = false;
  };

  std::unique_ptr<Connection> Connect() {
    auto connection = std::make_unique<Connection>();
    connection->fd = bench::Connect(options_.port);
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnClose);
    nghttp2_session* session = nullptr;
    nghttp2_session_client_new(&session, callbacks, nullptr);
    nghttp2_session_callbacks_del(callbacks);
    connection->session.reset(session);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
    // Of the connection, not of a stream: a caller that reads has no reason to hold back others.
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, 4 << 20);
    Watch(epoll_, connection->fd, connection.get());
    return connection;
  }

  void Start(Call& call) {
    call.asked = score_.Ask();
    for (std::string* text : {&call.reply, &call.text, &call.status, &call.message}) text->clear();
    call.finished = call.odd = false;
    request_.Clear();
    v1::Message& message = *request_.add_messages();
    message.set_role("user");
    message.set_content(call.asked.question);
    const auto size = static_cast<uint32_t>(request_.ByteSizeLong());
    const uint32_t prefix = htonl(size);
    call.request.assign(1, '\0');
    call.request.append(reinterpret_cast<const char*>(&prefix), sizeof prefix);
    request_.AppendToString(&call.request);

    const std::array<nghttp2_nv, 8> headers = {
        Header(":method", "POST"),     Header(":scheme", "http"),
        Header(":path", path_),        Header(":authority", "127.0.0.1"),
        Header("te", "trailers"),      Header("content-type", "application/grpc"),
        Header("grpc-timeout", "90S"), Header("user-agent", "bench_load")};
    nghttp2_data_provider body{};
    body.source.ptr = &call;
    body.read_callback = ReadRequest;
    if (nghttp2_submit_request(call.connection->session.get(), nullptr, headers.data(),
                               headers.size(), &body, &call) < 0) {
      Die("nghttp2 refuses a request");
    }
    ++busy_;
  }

  static nghttp2_nv Header(std::string_view name, std::string_view value) {
    // nghttp2 takes them as not const, and leaves them alone.
    auto bytes = [](std::string_view text) {
      return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
    };
    return {bytes(name), bytes(value), name.size(), value.size(),
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
  }

  void Read(Connection& connection) {
    std::array<uint8_t, 65536> buffer;
    const ssize_t got = recv(connection.fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) Die("the server has closed a connection");
    const ssize_t taken =
        nghttp2_session_mem_recv(connection.session.get(), buffer.data(), static_cast<size_t>(got));
    if (taken != got) Die("not HTTP/2: " + std::string(nghttp2_strerror(static_cast<int>(taken))));
    Flush(connection);
  }

  static void Flush(Connection& connection) {
    connection.out.clear();
    const uint8_t* bytes = nullptr;
    for (ssize_t size = 0; (size = nghttp2_session_mem_send(connection.session.get(), &bytes)) != 0;
         connection.out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size))) {
      if (size < 0) Die(nghttp2_strerror(static_cast<int>(size)));
    }
    SendAll(connection.fd, connection.out);
  }

  static Call& CallOf(nghttp2_session* session, int32_t stream) {
    return *static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream));
  }

  static ssize_t ReadRequest(nghttp2_session*, int32_t, uint8_t* to, size_t room, uint32_t* flags,
                             nghttp2_data_source* source, void*) {
    std::string& request = static_cast<Call*>(source->ptr)->request;
    const size_t size = std::min(room, request.size());
    std::copy_n(request.data(), size, reinterpret_cast<char*>(to));
    request.erase(0, size);
    if (request.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(size);
  }

  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_size, const uint8_t* value, size_t value_size, uint8_t, void*) {
    const std::string_view key(reinterpret_cast<const char*>(name), name_size);
    if (!key.starts_with("grpc-")) return 0;
    Call& call = CallOf(session, frame->hd.stream_id);
    if (key == "grpc-status") call.status.assign(reinterpret_cast<const char*>(value), value_size);
    if (key == "grpc-message")
      call.message.assign(reinterpret_cast<const char*>(value), value_size);
    return 0;
  }

  static int OnData(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* bytes,
                    size_t size, void*) {
    Call& call = CallOf(session, stream);
    call.reply.append(reinterpret_cast<const char*>(bytes), size);
    constexpr size_t kPrefix = 5;
    size_t at = 0;
    while (call.reply.size() - at >= kPrefix) {
      uint32_t length = 0;
      std::copy_n(call.reply.data() + at + 1, sizeof length, reinterpret_cast<char*>(&length));
      length = ntohl(length);
      if (call.reply.size() - at - kPrefix < length) break;
      call.load->OnMessage(call, std::string_view(call.reply).substr(at + kPrefix, length));
      at += kPrefix + length;
    }
    call.reply.erase(0, at);
    return 0;
  }

  void OnMessage(Call& call, std::string_view bytes) {
    const auto parse = [&](auto& message) {
      if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) call.odd = true;
    };
    if (streamed_) {
      parse(event_);
      OnEvent(call);
      return;
    }
    parse(response_);
    call.finished = true;
    call.text = response_.message().content();
    // Not the first attempt's answer.
    if (response_.degradation() != v1::DEGRADATION_NONE || response_.attempts_size() != 1) {
      call.odd = true;
    }
  }

  void OnEvent(Call& call) {
    if (event_.has_finished()) call.finished = true;
    if (event_.has_reset() || event_.has_continued()) call.odd = true;
    if (!event_.has_delta()) return;
    const std::string& text = event_.delta().text();
    if (options_.tokens > 0 && !score_.Tokens(call.asked, call.text.size(), text)) call.odd = true;
    call.text += text;
  }

  static int OnClose(nghttp2_session* session, int32_t stream, uint32_t, void*) {
    Call& call = CallOf(session, stream);
    call.load->End(call);
    return 0;
  }

  void End(Call& call) {
    --busy_;
    if (call.status != "0") {
      score_.Failed("status " + call.status + ": " + call.message);
    } else if (!call.finished || call.odd) {
      score_.Failed("not the first attempt's plain answer: " + call.text);
    } else if (options_.tokens > 0) {
      score_.AnsweredInTokens(call.asked, call.text);
    } else {
      score_.Answered(call.asked, call.text);
    }
    if (score_.AskMore()) Start(call);
  }

  const Options& options_;
  Score& score_;
  const bool streamed_;
  const std::string path_;
  const int epoll_;
  int busy_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Call> calls_;
  v1::GenerateRequest request_;  // each is reused: one thread
  v1::GenerateResponse response_;
  v1::GenerateStreamResponse event_;
};

}  // namespace holdfast::bench
