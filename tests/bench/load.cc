// The benchmark's load, for HTTP and gRPC alike: so many connections, so many requests in flight
// over them, each with a question of its own, the next one sent when an answer has come. Every
// byte of every answer is checked. One thread. Prints one line of JSON.
//
//   bench_load http --port N --path /v1/chat/completions --connections 32 --seconds 3
//   bench_load grpc --port N --connections 32 --in-flight 32 --seconds 3
//   bench_load stream --port N --connections 32 --in-flight 5000 --tokens 20 --once
//
// With --tokens each answer is so many tokens that say when they were sent (http and stream).
// --once sends each in-flight request once and waits for all, however long it takes.

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "CLI/CLI.hpp"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tests/bench/exchange.h"
#include "tests/bench/sockets.h"

namespace holdfast::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

struct Options {
  int port = 0;
  std::string path = "/v1/chat/completions";
  std::string model = "mock";
  std::vector<std::string> headers;
  int connections = 1;
  int in_flight = 0;  // grpc only; by default one a connection
  double warmup_seconds = 0.5;
  double seconds = 3;
  size_t bytes = 200;
  uint64_t first_question = 0;
  bool once = false;
  size_t tokens = 0;  // 0: a text of `bytes` bytes
};

std::chrono::nanoseconds Seconds(double seconds) {
  return std::chrono::nanoseconds(static_cast<int64_t>(seconds * 1e9));
}

// What is asked next, and how it went.
class Score {
 public:
  explicit Score(const Options& options)
      : options_(options),
        next_(options.first_question),
        counts_from_(SteadyClock::now() + Seconds(options.once ? 0 : options.warmup_seconds)),
        ends_(counts_from_ + Seconds(options.seconds)) {}

  struct Asked {
    std::string question;
    SteadyClock::time_point at;
  };
  Asked Ask() { return {Question(next_++), SteadyClock::now()}; }
  bool AskMore() const { return !options_.once && SteadyClock::now() < ends_; }

  // Whether `answer` is the one to the question, to the byte.
  void Answered(const Asked& asked, std::string_view answer) {
    if (answer != Answer(asked.question, options_.bytes)) {
      return Failed("another answer than expected: \"" + std::string(answer) + "\"");
    }
    ++answered_;
    const auto now = SteadyClock::now();
    if (!options_.once && (now < counts_from_ || now > ends_)) return;
    micros_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
  }
  // Tokens as they come. `text` is what one read brought; true if it is nothing but tokens.
  bool Tokens(const Asked& asked, size_t already, std::string_view text) {
    const auto now = SteadyClock::now();
    const bool counts = options_.once || (now >= counts_from_ && now <= ends_);
    ++reads_;
    if (already == 0 && counts) {
      first_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
    }
    for (; !text.empty(); text.remove_prefix(std::min(text.size(), kStampBytes))) {
      const auto sent = ReadStamp(text);
      if (sent == SteadyClock::time_point()) return false;
      if (counts) tokens_.push_back(std::chrono::duration<float, std::micro>(now - sent).count());
    }
    return true;
  }
  void AnsweredInTokens(const Asked& asked, std::string_view answer) {
    if (answer.size() != options_.tokens * kStampBytes) {
      return Failed("not " + std::to_string(options_.tokens) + " tokens: " + std::string(answer));
    }
    SteadyClock::time_point last{};
    for (; !answer.empty(); answer.remove_prefix(kStampBytes)) {
      if (ReadStamp(answer) < last) return Failed("tokens in another order than sent");
      last = ReadStamp(answer);
    }
    ++answered_;
    const auto now = SteadyClock::now();
    if (!options_.once && (now < counts_from_ || now > ends_)) return;
    micros_.push_back(std::chrono::duration<float, std::micro>(now - asked.at).count());
  }

  void Failed(const std::string& why) {
    if (failed_++ == 0) first_failure_ = why;
  }

  void Print() {
    const double took = std::chrono::duration<double>(SteadyClock::now() - begun_).count();
    for (auto* samples : {&micros_, &first_, &tokens_}) std::sort(samples->begin(), samples->end());
    for (char& c : first_failure_) c = c == '"' || c == '\\' || c < ' ' ? '\'' : c;
    std::printf(
        "{\"answered\": %zu, \"failed\": %zu, \"counted\": %zu, \"per_second\": %.1f, "
        "\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"first_p50_us\": %.1f, "
        "\"first_p99_us\": %.1f, \"token_p50_us\": %.1f, \"token_p99_us\": %.1f, \"tokens\": %zu, "
        "\"reads\": %zu, \"took_s\": %.3f, \"first_failure\": \"%s\"}\n",
        answered_, failed_, micros_.size(), static_cast<double>(micros_.size()) / options_.seconds,
        Percentile(micros_, 0.5), Percentile(micros_, 0.9), Percentile(micros_, 0.99),
        Percentile(first_, 0.5), Percentile(first_, 0.99), Percentile(tokens_, 0.5),
        Percentile(tokens_, 0.99), tokens_.size(), reads_, took,
        first_failure_.substr(0, 500).c_str());
  }

 private:
  static double Percentile(const std::vector<float>& sorted, double part) {
    if (sorted.empty()) return 0;
    return sorted[std::min(sorted.size() - 1,
                           static_cast<size_t>(part * static_cast<double>(sorted.size())))];
  }

  const Options& options_;
  uint64_t next_;
  const SteadyClock::time_point counts_from_;
  const SteadyClock::time_point ends_;
  size_t answered_ = 0;
  size_t failed_ = 0;
  std::string first_failure_;
  std::vector<float> micros_;
  std::vector<float> first_;   // from asking to the first token
  std::vector<float> tokens_;  // from a token's being sent to its being read
  size_t reads_ = 0;
  const SteadyClock::time_point begun_ = SteadyClock::now();
};

// ---------------------------------------------------------------------------------------- HTTP

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
    std::array<epoll_event, 256> events{};
    while (busy_ > 0) {
      const int count = epoll_wait(epoll_, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        Read(*static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr));
      }
    }
  }

 private:
  struct Connection {
    int fd = -1;
    Score::Asked asked;
    HttpReply reply;
    size_t seen = 0;  // bytes of tokens
  };

  void Connect(Connection& connection) {
    connection.fd = Require(socket(AF_INET, SOCK_STREAM, 0), "socket");
    const sockaddr_in address = Loopback(options_.port);
    Require(connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address),
            "connect");
    SendAtOnce(connection.fd);
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

// ---------------------------------------------------------------------------------------- gRPC

// Channels with a connection each, all connected.
class Stubs {
 public:
  explicit Stubs(const Options& options) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection for each channel
    const std::string address = "127.0.0.1:" + std::to_string(options.port);
    for (int i = 0; i < options.connections; ++i) {
      channels_.push_back(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
      stubs_.push_back(v1::GenerateService::NewStub(channels_.back()));
    }
    for (const auto& channel : channels_) {
      if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(30))) {
        Die("cannot connect to " + address);
      }
    }
  }

  v1::GenerateService::Stub* operator[](size_t i) const { return stubs_[i % stubs_.size()].get(); }

 private:
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::unique_ptr<v1::GenerateService::Stub>> stubs_;
};

void Fill(const std::string& question, v1::GenerateRequest& request) {
  request.Clear();
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(question);
}

class GrpcLoad {
 public:
  GrpcLoad(const Options& options, Score& score)
      : options_(options), score_(score), stubs_(options) {}

  void Run() {
    const int calls = std::max(options_.in_flight, options_.connections);
    std::vector<Call> all(static_cast<size_t>(calls));
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].stub = stubs_[i];
      Start(all[i]);
    }
    void* tag = nullptr;
    bool ok = false;
    for (int busy = calls; busy > 0 && queue_.Next(&tag, &ok);) {
      Call& call = *static_cast<Call*>(tag);
      Finished(call);
      if (score_.AskMore()) {
        Start(call);
      } else {
        --busy;
      }
    }
  }

 private:
  struct Call {
    v1::GenerateService::Stub* stub = nullptr;
    Score::Asked asked;
    std::optional<grpc::ClientContext> context;
    v1::GenerateRequest request;
    v1::GenerateResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GenerateResponse>> reader;
  };

  void Start(Call& call) {
    call.asked = score_.Ask();
    call.context.emplace();
    call.context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(90));
    Fill(call.asked.question, call.request);
    call.response.Clear();
    call.reader = call.stub->AsyncGenerate(&*call.context, call.request, &queue_);
    call.reader->Finish(&call.response, &call.status, &call);
  }

  void Finished(Call& call) {
    if (!call.status.ok()) {
      score_.Failed(std::to_string(call.status.error_code()) + " " + call.status.error_message());
    } else if (call.response.degradation() != v1::DEGRADATION_NONE ||
               call.response.attempts_size() != 1) {
      score_.Failed("not the first attempt's answer: " + call.response.ShortDebugString());
    } else {
      score_.Answered(call.asked, call.response.message().content());
    }
  }

  const Options& options_;
  Score& score_;
  grpc::CompletionQueue queue_;
  const Stubs stubs_;
};

class StreamLoad {
 public:
  StreamLoad(const Options& options, Score& score)
      : options_(options), score_(score), stubs_(options) {}

  void Run() {
    const int calls = std::max(options_.in_flight, options_.connections);
    std::vector<Call> all(static_cast<size_t>(calls));
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].stub = stubs_[i];
      Start(all[i]);
    }
    void* tag = nullptr;
    bool ok = false;
    for (int busy = calls; busy > 0 && queue_.Next(&tag, &ok);) {
      Call& call = *static_cast<Call*>(tag);
      if (!Advance(call, ok)) continue;
      if (score_.AskMore()) {
        Start(call);
      } else {
        --busy;
      }
    }
  }

 private:
  enum class Step { kStarting, kReading, kFinishing };
  struct Call {
    v1::GenerateService::Stub* stub = nullptr;
    Score::Asked asked;
    Step step = Step::kStarting;
    std::string text;
    bool finished = false;
    bool odd = false;
    std::optional<grpc::ClientContext> context;
    v1::GenerateRequest request;
    v1::GenerateStreamResponse event;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateStreamResponse>> reader;
  };

  void Start(Call& call) {
    call.asked = score_.Ask();
    call.step = Step::kStarting;
    call.text.clear();
    call.finished = call.odd = false;
    call.reader.reset();
    call.context.emplace();
    call.context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(95));
    Fill(call.asked.question, call.request);
    call.reader = call.stub->AsyncGenerateStream(&*call.context, call.request, &queue_, &call);
  }

  // True at its end.
  bool Advance(Call& call, bool ok) {
    if (call.step == Step::kFinishing) {
      End(call);
      return true;
    }
    if (call.step == Step::kReading && ok) OnEvent(call);
    call.step = ok ? Step::kReading : Step::kFinishing;
    if (ok) {
      call.reader->Read(&call.event, &call);
    } else {
      call.reader->Finish(&call.status, &call);
    }
    return false;
  }

  void OnEvent(Call& call) {
    if (call.event.has_finished()) call.finished = true;
    if (call.event.has_reset() || call.event.has_continued()) call.odd = true;
    if (!call.event.has_delta()) return;
    const std::string& text = call.event.delta().text();
    if (options_.tokens > 0 && !score_.Tokens(call.asked, call.text.size(), text)) call.odd = true;
    call.text += text;
  }

  void End(Call& call) {
    if (!call.status.ok()) {
      score_.Failed(std::to_string(call.status.error_code()) + " " + call.status.error_message());
    } else if (!call.finished || call.odd) {
      score_.Failed("no plain stream: " + call.text);
    } else if (options_.tokens > 0) {
      score_.AnsweredInTokens(call.asked, call.text);
    } else {
      score_.Answered(call.asked, call.text);
    }
  }

  const Options& options_;
  Score& score_;
  grpc::CompletionQueue queue_;
  const Stubs stubs_;
};

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) {
  using namespace holdfast::bench;
  Options options;
  CLI::App app("The benchmark's load");
  app.require_subcommand(1);
  CLI::App& http = *app.add_subcommand("http", "Streamed chat completions");
  CLI::App& grpc = *app.add_subcommand("grpc", "holdfast.v1.GenerateService/Generate");
  CLI::App& stream = *app.add_subcommand("stream", "holdfast.v1.GenerateService/GenerateStream");
  for (CLI::App* sub : {&http, &grpc, &stream}) {
    sub->add_option("--port", options.port, "On 127.0.0.1")->required();
    sub->add_option("--connections", options.connections, "Connections");
    sub->add_option("--warmup", options.warmup_seconds, "Seconds that are not counted");
    sub->add_option("--seconds", options.seconds, "Seconds that are counted");
    sub->add_option("--bytes", options.bytes, "Length of an answer's text");
    sub->add_option("--first", options.first_question, "Number of the first question");
  }
  http.add_option("--path", options.path, "Where to");
  http.add_option("--model", options.model, "The model to ask for");
  http.add_option("--header", options.headers, "More headers, each as NAME: VALUE");
  for (CLI::App* sub : {&grpc, &stream}) {
    sub->add_option("--in-flight", options.in_flight, "Requests at once over all connections");
    sub->add_flag("--once", options.once, "Each in-flight request once");
  }
  for (CLI::App* sub : {&http, &stream}) {
    sub->add_option("--tokens", options.tokens, "An answer is so many tokens");
  }
  CLI11_PARSE(app, argc, argv);

  AllowManyFiles();
  Score score(options);
  if (http.parsed()) {
    HttpLoad(options, score).Run();
  } else if (stream.parsed()) {
    StreamLoad(options, score).Run();
  } else {
    GrpcLoad(options, score).Run();
  }
  score.Print();
}
