#include "tests/fakes/scripted_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "core/check.h"

namespace holdfast::testing {
namespace {

std::string Head(int status, const HttpHeaderList& headers) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " Scripted\r\n";
  for (const auto& [name, value] : headers) head += name + ": " + value + "\r\n";
  return head;
}

std::string ChunkOf(std::string_view data) {
  char size[20];
  const auto end = std::to_chars(size, size + sizeof size, data.size(), 16).ptr;
  return std::string(size, end) + "\r\n" + std::string(data) + "\r\n";
}

const std::string* FindHeader(const HttpHeaderList& headers, std::string_view name) {
  for (auto it = headers.rbegin(); it != headers.rend(); ++it) {
    if (it->first.size() == name.size() &&
        strncasecmp(it->first.data(), name.data(), name.size()) == 0) {
      return &it->second;
    }
  }
  return nullptr;
}

// The request line and headers of `head`, which ends before the blank line.
ScriptedHttpServer::Request ParseHead(std::string_view head) {
  ScriptedHttpServer::Request request;
  const std::string_view first = head.substr(0, head.find("\r\n"));
  const size_t space = first.find(' ');
  request.method = first.substr(0, space);
  if (space != std::string_view::npos) {
    request.target = first.substr(space + 1, first.rfind(' ') - space - 1);
  }
  head.remove_prefix(first.size());
  while (head.starts_with("\r\n")) {
    head.remove_prefix(2);
    const std::string_view line = head.substr(0, head.find("\r\n"));
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      std::string_view value = line.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      request.headers.emplace_back(line.substr(0, colon), value);
    }
    head.remove_prefix(line.size());
  }
  return request;
}

}  // namespace

HttpScript HttpScript::Reply(int status, const HttpHeaderList& headers, std::string_view body) {
  std::string all = Head(status, headers);
  all += "content-length: " + std::to_string(body.size()) + "\r\n\r\n";
  all += body;
  return HttpScript().Write(std::move(all));
}

HttpScript HttpScript::Stream(int status, const HttpHeaderList& headers,
                              const std::vector<std::string>& chunks) {
  HttpScript script = Begin(status, headers);
  for (const std::string& chunk : chunks) script.Chunk(chunk);
  return script.LastChunk();
}

HttpScript HttpScript::Begin(int status, const HttpHeaderList& headers) {
  return HttpScript().Write(Head(status, headers) + "transfer-encoding: chunked\r\n\r\n");
}

HttpScript& HttpScript::Write(std::string bytes) {
  return Add(Step::Kind::kWrite, std::move(bytes));
}
HttpScript& HttpScript::Chunk(std::string_view data) { return Write(ChunkOf(data)); }
HttpScript& HttpScript::LastChunk() { return Write("0\r\n\r\n"); }
HttpScript& HttpScript::Gate() { return Add(Step::Kind::kGate); }
HttpScript& HttpScript::Fin() { return Add(Step::Kind::kFin); }
HttpScript& HttpScript::Reset() { return Add(Step::Kind::kReset); }

HttpScript& HttpScript::Add(Step::Kind kind, std::string bytes) {
  steps_.push_back({kind, std::move(bytes)});
  return *this;
}

const std::string* ScriptedHttpServer::Request::Find(std::string_view name) const {
  return FindHeader(headers, name);
}

struct ScriptedHttpServer::Connection {
  size_t index = 0;
  int fd = -1;
  std::string in;
  std::deque<HttpScript::Step> steps;
  uint64_t gate = 0;     // its place among those that wait at a gate; 0 = at none
  bool blocked = false;  // the client does not read
};

ScriptedHttpServer::ScriptedHttpServer() {
  listen_fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  HOLDFAST_CHECK(bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  HOLDFAST_CHECK(listen(listen_fd_, 1024) == 0);
  HOLDFAST_CHECK(getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  thread_ = std::thread([this] { Serve(); });
}

ScriptedHttpServer::~ScriptedHttpServer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
  for (const auto& connection : connections_) {
    if (connection->fd >= 0) close(connection->fd);
  }
  if (listen_fd_ >= 0) close(listen_fd_);
  close(wake_fd_);
}

std::string ScriptedHttpServer::url(std::string_view path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + std::string(path);
}

void ScriptedHttpServer::Expect(HttpScript script) {
  std::lock_guard lock(mutex_);
  scripts_.push_back(std::move(script));
}

void ScriptedHttpServer::SetFallback(HttpScript script) {
  std::lock_guard lock(mutex_);
  fallback_ = std::move(script);
}

void ScriptedHttpServer::ExpectConnection(HttpScript script) {
  std::lock_guard lock(mutex_);
  connection_scripts_.push_back(std::move(script));
}

void ScriptedHttpServer::Release(size_t n) {
  {
    std::lock_guard lock(mutex_);
    releases_ += n;
  }
  Wake();
}

void ScriptedHttpServer::StopListening() {
  std::unique_lock lock(mutex_);
  refuse_ = true;
  Wake();
  changed_.wait(lock, [this] { return listen_fd_ < 0; });
}

std::vector<ScriptedHttpServer::Request> ScriptedHttpServer::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

size_t ScriptedHttpServer::bytes_written() const {
  std::lock_guard lock(mutex_);
  return bytes_written_;
}

size_t ScriptedHttpServer::blocked() const {
  std::lock_guard lock(mutex_);
  return std::count_if(connections_.begin(), connections_.end(), [](const auto& connection) {
    return connection->fd >= 0 && connection->blocked;
  });
}

size_t ScriptedHttpServer::connections() const {
  std::lock_guard lock(mutex_);
  return connections_.size();
}

void ScriptedHttpServer::WaitForRequests(size_t n) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return requests_.size() >= n; });
}

void ScriptedHttpServer::WaitForConnections(size_t n) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return connections_.size() >= n; });
}

void ScriptedHttpServer::WaitForClose(size_t connection) {
  std::unique_lock lock(mutex_);
  changed_.wait(
      lock, [&] { return connections_.size() > connection && connections_[connection]->fd < 0; });
}

void ScriptedHttpServer::WaitForGate(size_t n) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return AtGate() >= n; });
}

size_t ScriptedHttpServer::AtGate() const {
  return std::count_if(connections_.begin(), connections_.end(),
                       [](const auto& connection) { return connection->gate != 0; });
}

void ScriptedHttpServer::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

void ScriptedHttpServer::Serve() {
  std::vector<size_t> polled;
  std::vector<pollfd> fds;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (refuse_ && listen_fd_ >= 0) close(std::exchange(listen_fd_, -1));
    AdvanceAll();
    changed_.notify_all();
    polled.clear();
    fds = {{wake_fd_, POLLIN, 0}, {listen_fd_, POLLIN, 0}};
    for (const auto& connection : connections_) {
      if (connection->fd < 0) continue;
      const short events = connection->blocked ? POLLIN | POLLOUT : POLLIN;
      fds.push_back({connection->fd, events, 0});
      polled.push_back(connection->index);
    }
    lock.unlock();
    poll(fds.data(), fds.size(), -1);
    lock.lock();
    uint64_t ignored;
    [[maybe_unused]] const ssize_t got = read(wake_fd_, &ignored, sizeof ignored);
    for (size_t i = 0; i < polled.size(); ++i) {
      if (fds[i + 2].revents & ~POLLOUT) Read(*connections_[polled[i]]);
    }
    if (fds[1].revents & POLLIN) Accept();
  }
}

void ScriptedHttpServer::Accept() {
  while (true) {
    const int fd = accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto connection = std::make_unique<Connection>();
    connection->index = connections_.size();
    connection->fd = fd;
    if (!connection_scripts_.empty()) {
      const HttpScript script = std::move(connection_scripts_.front());
      connection_scripts_.pop_front();
      connection->steps.assign(script.steps().begin(), script.steps().end());
    }
    connections_.push_back(std::move(connection));
  }
}

void ScriptedHttpServer::Read(Connection& connection) {
  char buffer[64 << 10];
  while (true) {
    const ssize_t got = recv(connection.fd, buffer, sizeof buffer, 0);
    if (got > 0) {
      connection.in.append(buffer, static_cast<size_t>(got));
      continue;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) Close(connection, false);
    return;
  }
}

bool ScriptedHttpServer::TakeRequest(Connection& connection) {
  const size_t head_end = connection.in.find("\r\n\r\n");
  if (head_end == std::string::npos) return false;
  Request request = ParseHead(std::string_view(connection.in).substr(0, head_end));
  size_t length = 0;
  if (const std::string* value = request.Find("content-length")) length = std::stoull(*value);
  if (connection.in.size() < head_end + 4 + length) return false;
  request.connection = connection.index;
  request.body = connection.in.substr(head_end + 4, length);
  connection.in.erase(0, head_end + 4 + length);
  requests_.push_back(std::move(request));

  HttpScript script = fallback_;
  if (!scripts_.empty()) {
    script = std::move(scripts_.front());
    scripts_.pop_front();
  }
  connection.steps.assign(script.steps().begin(), script.steps().end());
  return true;
}

void ScriptedHttpServer::AdvanceAll() {
  // Those at a gate first, in the order they came to it; the rest in order of accept.
  std::vector<std::pair<uint64_t, Connection*>> order;
  for (const auto& connection : connections_) {
    const uint64_t gate = connection->gate != 0 ? connection->gate : UINT64_MAX;
    order.emplace_back(gate, connection.get());
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first, a.second->index) < std::pair(b.first, b.second->index);
  });
  for (const auto& [gate, connection] : order) Advance(*connection);
}

void ScriptedHttpServer::Advance(Connection& connection) {
  while (connection.fd >= 0) {
    if (connection.steps.empty()) {
      if (!TakeRequest(connection)) return;
      continue;
    }
    HttpScript::Step& step = connection.steps.front();
    switch (step.kind) {
      case HttpScript::Step::Kind::kWrite:
        if (!WriteSome(connection, step.bytes)) return;
        break;
      case HttpScript::Step::Kind::kGate:
        if (releases_ == 0) {
          if (connection.gate == 0) connection.gate = ++last_gate_;
          return;
        }
        --releases_;
        connection.gate = 0;
        break;
      case HttpScript::Step::Kind::kFin:
        Close(connection, false);
        return;
      case HttpScript::Step::Kind::kReset:
        Close(connection, true);
        return;
    }
    connection.steps.pop_front();
  }
}

// True when nothing is left of `bytes`.
bool ScriptedHttpServer::WriteSome(Connection& connection, std::string& bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      connection.blocked = errno == EAGAIN;
      if (!connection.blocked) Close(connection, false);
      return false;
    }
    bytes_written_ += static_cast<size_t>(sent);
    bytes.erase(0, static_cast<size_t>(sent));
  }
  connection.blocked = false;
  return true;
}

void ScriptedHttpServer::Close(Connection& connection, bool reset) {
  if (reset) {
    const linger now{1, 0};
    setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  close(std::exchange(connection.fd, -1));
  connection.steps.clear();
  connection.gate = 0;
}

}  // namespace holdfast::testing
