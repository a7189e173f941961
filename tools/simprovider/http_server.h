// The simulated provider's own HTTP/1.1 server: edge-triggered epoll, N worker threads, the first
// of which also accepts and deals connections out in turn. It plays the Reply a handler returns
// and tells it how each one ended, a client that goes away included, at once.
//
// Owned by main or a test. Start() and Stop() belong to the owner's thread; RefuseFor() may be
// called from anywhere; the handler is called on the workers, several at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tools/simprovider/http_parser.h"
#include "tools/simprovider/reply.h"

namespace simprovider {

enum class AttemptEnd { kOpen, kComplete, kCut, kClientClosed, kServerStopped };

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual Reply Handle(const HttpRequest& request) = 0;
  // For replies with an attempt number, exactly once each.
  virtual void Ended(uint64_t attempt, AttemptEnd end, uint64_t bytes_sent) = 0;
};

class Worker;

class HttpServer {
 public:
  explicit HttpServer(HttpHandler& handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds "HOST:PORT" (port 0: any) and runs. False with `error` set when it cannot.
  bool Start(const std::string& listen, int threads, std::string& error);
  void Stop();

  int port() const { return port_; }
  const std::string& host() const { return host_; }

  // Closes the listening socket, so that connecting is refused, and closes idle connections;
  // listens again after `seconds`.
  void RefuseFor(double seconds);

 private:
  bool Bind(std::string& error);

  HttpHandler& handler_;
  std::string host_;
  int port_ = 0;
  int listen_fd_ = -1;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
};

}  // namespace simprovider
