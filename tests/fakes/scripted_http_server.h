#pragma once

// An HTTP/1.1 server on a loopback port of its own choosing that does to its clients what the test
// has written down, and keeps a log of what it was asked. One thread inside; every public method
// may be called from any thread. Nothing in it sleeps: a script waits at a Gate until the test
// calls Release, so each order of events can be had for certain.
//
//   ScriptedHttpServer server;
//   server.Expect(HttpScript::Reply(429, {{"retry-after", "3"}}, "slow down"));
//   server.Expect(HttpScript::Stream(200, {}, {"data: a\n\n", "data: b\n\n"}).Reset());
//   ... client POSTs to server.url("/v1/x") ...
//   server.WaitForRequests(2);
//
// The n-th request to arrive, over all connections, gets the n-th script; when there is none left
// it gets the fallback, by default an empty 200. The request is read whole and logged first. A
// script is done when its steps are; the connection then stays open for the next request, unless
// the script closed it.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace holdfast::testing {

using HttpHeaderList = std::vector<std::pair<std::string, std::string>>;

// What the server does on one request, step by step. Methods add a step and return the script.
class HttpScript {
 public:
  struct Step {
    enum class Kind { kWrite, kGate, kFin, kReset };
    Kind kind;
    std::string bytes;  // of kWrite
  };

  // A whole response with content-length.
  static HttpScript Reply(int status, const HttpHeaderList& headers = {},
                          std::string_view body = {});
  // Headers, then each chunk in a write of its own, chunked, with the terminating chunk.
  static HttpScript Stream(int status, const HttpHeaderList& headers,
                           const std::vector<std::string>& chunks);
  // The beginning of a chunked response; more by Chunk(), ended by LastChunk().
  static HttpScript Begin(int status, const HttpHeaderList& headers = {});
  // To be put together by hand: HttpScript().Write("HTTP/1.1 200 OK\r\n...").
  HttpScript() = default;

  HttpScript& Write(std::string bytes);  // as it stands, in one write
  HttpScript& Chunk(std::string_view data);
  HttpScript& LastChunk();
  HttpScript& Gate();   // wait for a Release
  HttpScript& Fin();    // close, orderly
  HttpScript& Reset();  // close with RST

  const std::vector<Step>& steps() const { return steps_; }

 private:
  HttpScript& Add(Step::Kind kind, std::string bytes = {});

  std::vector<Step> steps_;
};

class ScriptedHttpServer {
 public:
  struct Request {
    size_t connection = 0;  // 0, 1, ... in order of accept
    std::string method;
    std::string target;      // "/v1/chat?x=1"
    HttpHeaderList headers;  // as sent, in order
    std::string body;

    // The value of the last header of that name, in any case; null if there is none.
    const std::string* Find(std::string_view name) const;
  };

  ScriptedHttpServer();
  ~ScriptedHttpServer();
  ScriptedHttpServer(const ScriptedHttpServer&) = delete;
  ScriptedHttpServer& operator=(const ScriptedHttpServer&) = delete;

  uint16_t port() const { return port_; }
  std::string url(std::string_view path = "/") const;  // http://127.0.0.1:PORT/path

  void Expect(HttpScript script);
  void SetFallback(HttpScript script);
  // What happens to the next connection right after accept, before anything is read; for a
  // connection without one, nothing. HttpScript().Reset() is a server that hangs up on arrival.
  void ExpectConnection(HttpScript script);

  // Lets `n` gates open, in the order in which scripts come to them.
  void Release(size_t n = 1);

  // From now on connecting is refused.
  void StopListening();

  std::vector<Request> requests() const;
  size_t connections() const;    // accepted so far
  size_t bytes_written() const;  // taken by the sockets, all connections together
  size_t blocked() const;        // connections that have more to write and whose socket is full

  // These wait until it has happened.
  void WaitForRequests(size_t n);
  void WaitForConnections(size_t n);
  void WaitForClose(size_t connection);  // by either side; a client's FIN or RST is seen at once
  void WaitForGate(size_t n = 1);        // n scripts stand at a gate

 private:
  struct Connection;

  void Serve();
  void Accept();
  void Read(Connection& connection);
  bool TakeRequest(Connection& connection);
  void Advance(Connection& connection);
  bool WriteSome(Connection& connection, std::string& bytes);
  void Close(Connection& connection, bool reset);
  void AdvanceAll();
  void Wake();
  size_t AtGate() const;

  uint16_t port_ = 0;
  int listen_fd_ = -1;
  int wake_fd_ = -1;

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  bool stopping_ = false;
  bool refuse_ = false;
  size_t releases_ = 0;
  uint64_t last_gate_ = 0;
  std::deque<HttpScript> scripts_;
  std::deque<HttpScript> connection_scripts_;
  HttpScript fallback_ = HttpScript::Reply(200);
  std::vector<Request> requests_;
  size_t bytes_written_ = 0;
  std::vector<std::unique_ptr<Connection>> connections_;

  std::thread thread_;
};

}  // namespace holdfast::testing
