#include "tools/simprovider/http_server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <queue>
#include <unordered_map>
#include <utility>

namespace simprovider {
namespace {

using SteadyClock = std::chrono::steady_clock;
using TimePoint = SteadyClock::time_point;

constexpr int kBacklog = 4096;
constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kMaxBuffered = 80 * 1024 * 1024;

TimePoint After(double ms) {
  return SteadyClock::now() + std::chrono::microseconds(static_cast<int64_t>(ms * 1000));
}

void ResetOnClose(int fd) {
  const linger reset{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

void EnableReuseAddress(int fd) {
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

struct Connection {
  int fd = -1;
  uint64_t id = 0;
  std::string in;
  size_t in_at = 0;
  std::string out;
  size_t out_at = 0;
  Reply reply;
  size_t step = 0;
  uint64_t sent = 0;
  bool busy = false;  // a reply is under way
  bool delay_armed = false;
  bool delay_passed = false;
  bool keep_alive = true;
  bool reused = false;
  bool continued = false;  // "100 Continue" was sent for the request being read
  bool closed = false;
};

struct Timer {
  TimePoint at;
  std::function<void()> run;
  bool operator<(const Timer& other) const { return at > other.at; }
};

}  // namespace

// One epoll loop with its connections and timers. Everything but Post() and Adopt() happens on
// its own thread.
class Worker {
 public:
  explicit Worker(HttpHandler& handler)
      : handler_(handler),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    Watch(wake_, EPOLLIN, &wake_);
  }

  ~Worker() {
    close(wake_);
    close(epoll_);
  }

  void ListenOn(int fd, std::function<void(int)> on_accept) {
    listen_fd_ = fd;
    on_accept_ = std::move(on_accept);
    Watch(fd, EPOLLIN | EPOLLET, &listen_fd_);
  }

  void Post(std::function<void()> run) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      posted_.push_back(std::move(run));
    }
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t ignored = write(wake_, &one, sizeof(one));
  }

  void Run() {
    std::vector<epoll_event> events(512);
    while (!stopping_) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()),
                                   MillisecondsToNextTimer());
      for (int i = 0; i < count; ++i) Dispatch(events[i]);
      RunTimers();
      graveyard_.clear();
    }
    CloseAll();
  }

  void RequestStop() {
    Post([this] { stopping_ = true; });
  }

  void Adopt(int fd) {
    auto connection = std::make_unique<Connection>();
    Connection* raw = connection.get();
    raw->fd = fd;
    raw->id = ++last_id_;
    connections_.emplace(raw->id, std::move(connection));
    Watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, raw);
  }

  void CloseIdle() {
    std::vector<Connection*> idle;
    for (auto& [id, connection] : connections_) {
      if (!connection->busy) idle.push_back(connection.get());
    }
    for (Connection* connection : idle) Close(*connection, false);
  }

  void RefuseFor(double ms) {
    shutdown(listen_fd_, SHUT_RD);
    ++refusals_;
    CallAfter(ms, [this] {
      if (--refusals_ == 0) listen(listen_fd_, kBacklog);
    });
  }

  void CallAfter(double ms, std::function<void()> run) {
    timers_.push({After(ms), std::move(run)});
  }

 private:
  void Watch(int fd, uint32_t events, void* what) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = what;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  }

  int MillisecondsToNextTimer() const {
    if (timers_.empty()) return -1;
    const auto left =
        std::chrono::duration<double, std::milli>(timers_.top().at - SteadyClock::now());
    return std::max(0, static_cast<int>(std::ceil(left.count())));
  }

  void RunTimers() {
    if (timers_.empty()) return;
    const TimePoint now = SteadyClock::now();
    while (!timers_.empty() && timers_.top().at <= now) {
      auto run = std::move(const_cast<Timer&>(timers_.top()).run);
      timers_.pop();
      run();
    }
  }

  void Dispatch(const epoll_event& event) {
    if (event.data.ptr == &wake_) return RunPosted();
    if (event.data.ptr == &listen_fd_) return AcceptAll();
    auto& connection = *static_cast<Connection*>(event.data.ptr);
    if (connection.closed) return;
    if (event.events & (EPOLLIN | EPOLLRDHUP)) {
      if (!ReadAll(connection)) return Close(connection, false);
    }
    Pump(connection);
    const bool gone = event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (gone && !connection.closed) Close(connection, false);
  }

  void RunPosted() {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t ignored = read(wake_, &count, sizeof(count));
    std::vector<std::function<void()>> posted;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      posted.swap(posted_);
    }
    for (auto& run : posted) run();
  }

  void AcceptAll() {
    for (;;) {
      const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        return;
      }
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      on_accept_(fd);
    }
  }

  // False when the connection is broken or its client sends without end.
  bool ReadAll(Connection& connection) {
    for (;;) {
      const ssize_t got = recv(connection.fd, read_buffer_, kReadBytes, 0);
      if (got == 0) return true;  // the EPOLLRDHUP flag decides
      if (got < 0) {
        if (errno == EINTR) continue;
        return errno == EAGAIN;
      }
      connection.in.append(read_buffer_, static_cast<size_t>(got));
      if (connection.in.size() > kMaxBuffered) return false;
      if (static_cast<size_t>(got) < kReadBytes) return true;
    }
  }

  void Pump(Connection& connection) {
    while (!connection.closed) {
      if (connection.busy && !Play(connection)) return;
      if (connection.closed || !StartNext(connection)) return;
    }
  }

  bool StartNext(Connection& connection) {
    const std::string_view input = std::string_view(connection.in).substr(connection.in_at);
    if (input.empty()) return false;
    HttpRequest& request = request_;
    const ParseResult result = ParseHttpRequest(input, request);
    if (result == ParseResult::kIncomplete) return false;
    if (result == ParseResult::kIncompleteExpectsContinue) {
      SendContinue(connection);
      return false;
    }
    connection.busy = true;
    connection.step = 0;
    connection.sent = 0;
    connection.continued = false;
    connection.delay_passed = false;
    if (result == ParseResult::kComplete) {
      request.reused_connection = connection.reused;
      connection.keep_alive = request.keep_alive;
      connection.reply = handler_.Handle(request);
      Consume(connection, request.bytes);
    } else {
      connection.reply = BadRequestReply(result);
      connection.in.clear();
      connection.in_at = 0;
    }
    connection.reused = true;
    return true;
  }

  static Reply BadRequestReply(ParseResult result) {
    Reply reply;
    const int status = result == ParseResult::kTooLarge ? 413 : 400;
    reply.Add(WholeResponse(status, "text/plain", "Connection: close\r\n", "bad HTTP request\n"));
    reply.end = ReplyEnd::kFin;
    return reply;
  }

  static void Consume(Connection& connection, size_t bytes) {
    connection.in_at += bytes;
    if (connection.in_at < connection.in.size()) return;
    connection.in.clear();
    if (connection.in.capacity() > 4 * kReadBytes) connection.in.shrink_to_fit();
    connection.in_at = 0;
  }

  static void SendContinue(Connection& connection) {
    if (connection.continued) return;
    connection.continued = true;
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    send(connection.fd, kContinue.data(), kContinue.size(), MSG_NOSIGNAL);
  }

  // True when the reply is done and the connection lives on; false when it waits or is closed.
  bool Play(Connection& connection) {
    for (;;) {
      if (!Flush(connection)) return false;
      Reply& reply = connection.reply;
      if (connection.step == reply.steps.size()) {
        if (reply.repeat_from >= reply.steps.size()) return Finish(connection);
        connection.step = reply.repeat_from;
      }
      if (!TakeSteps(connection)) return false;
    }
  }

  // Moves the steps that are due into the output; false when the next one has to wait.
  bool TakeSteps(Connection& connection) {
    Reply& reply = connection.reply;
    const bool repeats = reply.repeat_from != Reply::kNoRepeat;
    while (connection.step < reply.steps.size()) {
      Step& step = reply.steps[connection.step];
      if (step.delay_ms > 0 && !connection.delay_passed) {
        if (!connection.out.empty()) return true;
        if (!connection.delay_armed) ArmDelay(connection, step.delay_ms);
        return false;
      }
      connection.delay_passed = false;
      ++connection.step;
      if (connection.out.empty() && !repeats) {
        connection.out = std::move(step.bytes);
      } else {
        connection.out += step.bytes;
      }
    }
    return true;
  }

  void ArmDelay(Connection& connection, double ms) {
    CallAfter(ms, [this, id = connection.id] {
      const auto found = connections_.find(id);
      if (found == connections_.end()) return;
      found->second->delay_armed = false;
      found->second->delay_passed = true;
      Pump(*found->second);
    });
    connection.delay_armed = true;
  }

  bool Flush(Connection& connection) {
    while (connection.out_at < connection.out.size()) {
      const ssize_t put = send(connection.fd, connection.out.data() + connection.out_at,
                               connection.out.size() - connection.out_at, MSG_NOSIGNAL);
      if (put < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) Close(connection, false);
        return false;
      }
      connection.out_at += static_cast<size_t>(put);
      connection.sent += static_cast<uint64_t>(put);
    }
    connection.out.clear();
    connection.out_at = 0;
    return true;
  }

  bool Finish(Connection& connection) {
    switch (connection.reply.end) {
      case ReplyEnd::kHang:
        return false;
      case ReplyEnd::kRst:
      case ReplyEnd::kFin:
        End(connection, AttemptEnd::kCut);
        Close(connection, connection.reply.end == ReplyEnd::kRst);
        return false;
      case ReplyEnd::kKeepAlive:
        break;
    }
    End(connection, AttemptEnd::kComplete);
    if (!connection.keep_alive) {
      Close(connection, false);
      return false;
    }
    return true;
  }

  void End(Connection& connection, AttemptEnd end) {
    if (!connection.busy) return;
    connection.busy = false;
    if (connection.reply.attempt != 0) {
      handler_.Ended(connection.reply.attempt, end, connection.sent);
    }
  }

  void Close(Connection& connection, bool reset) {
    if (connection.closed) return;
    End(connection, stopping_ ? AttemptEnd::kServerStopped : AttemptEnd::kClientClosed);
    connection.closed = true;
    if (reset) ResetOnClose(connection.fd);
    close(connection.fd);
    const auto found = connections_.find(connection.id);
    graveyard_.push_back(std::move(found->second));
    connections_.erase(found);
  }

  void CloseAll() {
    while (!connections_.empty()) Close(*connections_.begin()->second, false);
    graveyard_.clear();
  }

  HttpHandler& handler_;
  const int epoll_;
  int wake_;
  int listen_fd_ = -1;
  int refusals_ = 0;  // that have not passed yet
  std::function<void(int)> on_accept_;
  bool stopping_ = false;
  uint64_t last_id_ = 0;
  HttpRequest request_;
  char read_buffer_[kReadBytes];
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> graveyard_;  // closed, but named by pending events
  std::priority_queue<Timer> timers_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
};

HttpServer::HttpServer(HttpHandler& handler) : handler_(handler) {}

HttpServer::~HttpServer() { Stop(); }

bool HttpServer::Bind(std::string& error) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(host_.c_str(), std::to_string(port_).c_str(), &hints, &found)) {
    error = gai_strerror(code);
    return false;
  }
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  EnableReuseAddress(fd);
  sockaddr_storage address{};
  socklen_t length = found->ai_addrlen;
  std::memcpy(&address, found->ai_addr, length);
  freeaddrinfo(found);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd, generic, length) != 0) {
    error = std::strerror(errno);
    close(fd);
    return false;
  }
  getsockname(fd, generic, &length);
  const bool any_port = port_ == 0;
  port_ = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                              : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
  listen_fd_ = fd;
  if (any_port) {
    // Linux gives up a port it chose itself when the socket stops listening (RefuseFor), but not
    // one that was asked for.
    const int named = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    EnableReuseAddress(named);
    if (bind(named, generic, length) == 0) {
      close(fd);
      listen_fd_ = named;
    } else {
      close(named);
    }
  }
  if (listen(listen_fd_, kBacklog) == 0) return true;
  error = std::strerror(errno);
  close(listen_fd_);
  listen_fd_ = -1;
  return false;
}

bool HttpServer::Start(const std::string& listen, int threads, std::string& error) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos) {
    error = "expected HOST:PORT";
    return false;
  }
  host_ = listen.substr(0, colon);
  if (host_.size() > 1 && host_.front() == '[') host_ = host_.substr(1, host_.size() - 2);
  port_ = std::atoi(listen.c_str() + colon + 1);
  if (!Bind(error)) return false;
  for (int i = 0; i < std::max(1, threads); ++i) {
    workers_.push_back(std::make_unique<Worker>(handler_));
  }
  workers_[0]->ListenOn(listen_fd_, [this, next = size_t{0}](int fd) mutable {
    Worker& worker = *workers_[next++ % workers_.size()];
    if (&worker == workers_[0].get()) return worker.Adopt(fd);
    worker.Post([&worker, fd] { worker.Adopt(fd); });
  });
  for (auto& worker : workers_) threads_.emplace_back([&worker] { worker->Run(); });
  return true;
}

void HttpServer::Stop() {
  for (auto& worker : workers_) worker->RequestStop();
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  workers_.clear();
  if (listen_fd_ >= 0) close(listen_fd_);
  listen_fd_ = -1;
}

void HttpServer::RefuseFor(double seconds) {
  if (workers_.empty()) return;
  for (auto& worker : workers_) worker->Post([&worker] { worker->CloseIdle(); });
  Worker& acceptor = *workers_[0];
  acceptor.Post([&acceptor, seconds] { acceptor.RefuseFor(seconds * 1000); });
}

}  // namespace simprovider
