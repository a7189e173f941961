#pragma once

// The little that the benchmark's two programs share of sockets: non-blocking TCP over epoll on
// one thread. Any failure ends the program: a benchmark that goes on without a socket is worth
// nothing.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace holdfast::bench {

[[noreturn]] inline void Die(const std::string& why) {
  std::fprintf(stderr, "bench: %s\n", why.c_str());
  std::exit(1);
}

inline int Require(int result, const char* what) {
  if (result < 0) Die(std::string(what) + ": " + std::strerror(errno));
  return result;
}

inline void AllowManyFiles() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

inline sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

inline void SendAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// For whoever waits for the rest of a message: a sender with Nagle's algorithm on waits for this,
// and by default for 40 ms.
inline void AckAtOnce(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

inline void Watch(int epoll, int fd, void* data) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = data;
  Require(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

// A connection to the port, which sends at once.
inline int Connect(int port) {
  const int fd = Require(socket(AF_INET, SOCK_STREAM, 0), "socket");
  const sockaddr_in address = Loopback(port);
  Require(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
  SendAtOnce(fd);
  return fd;
}

// Calls `read(data)` for whatever has something to read, as long as `busy()`.
template <typename Busy, typename Read>
void ReadWhile(int epoll, Busy busy, Read read) {
  std::array<epoll_event, 256> events{};
  while (busy()) {
    const int count = epoll_wait(epoll, events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) read(events[static_cast<size_t>(i)].data.ptr);
  }
}

// What is sent here is small and always fits into the socket's buffer.
inline void SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;  // its reader will see it
    bytes.remove_prefix(static_cast<size_t>(Require(static_cast<int>(sent), "send")));
  }
}

}  // namespace holdfast::bench
