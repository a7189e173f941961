#pragma once

// What Generate and GenerateStream have in common: one call from its arrival to the last thing gRPC
// says about it. Admission, reading, the engine, the request log and the end are here; the reactors
// (generate_reactor.h, stream_reactor.h) only differ in how an answer goes out.
//
// Two hold it: the coroutine that answers, and gRPC until OnDone; whoever lets go last destroys it.
// Every reaction of gRPC is one post to the loop, or nothing but letting go. Finish is called
// exactly once, on the loop, cancelled or not: without it grpc::Server::Shutdown would wait for
// ever.

#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/task.h"
#include "grpcpp/grpcpp.h"
#include "server/generate_service.h"
#include "server/response_writer.h"

namespace holdfast::server {

class GenerateCall {
 public:
  GenerateCall(const GenerateCall&) = delete;
  GenerateCall& operator=(const GenerateCall&) = delete;

 protected:
  // On gRPC's thread. `context` is gRPC's and lives until OnDone.
  GenerateCall(GenerateService& service, Lane& lane, grpc::CallbackServerContext& context,
               const grpc::ByteBuffer& request);
  virtual ~GenerateCall() = default;

  // The last thing a reactor's constructor does.
  void Begin();
  // The only thing its OnDone does: LetGo, on any thread, or LetGoSoon, if it must be destroyed on
  // the loop's.
  void LetGo();
  void LetGoSoon();
  void Hold() { ++holders_; }

  // All from here on are of the loop's thread.

  // Where the answer goes while it is made; null = nowhere.
  virtual core::AnswerStream* stream() { return nullptr; }
  // When the first content went there; none if there was none.
  virtual std::optional<core::SteadyTime> first_content_at() const { return std::nullopt; }
  // The engine's answer; to be followed by FinishOnce, if not before this returns.
  virtual void Reply(core::Result result) = 0;
  // FinishOnce's one call of the reactor's Finish.
  virtual void FinishNow(grpc::Status status) = 0;

  void Cancel() { cancelled_.request_stop(); }
  void Fail(const Failure& failure);
  void FinishOnce(grpc::Status status);
  bool finished() const { return finished_; }

  GenerateService& service() { return service_; }
  core::Loop& loop() { return lane_.loop; }
  grpc::CallbackServerContext& context() { return context_; }
  const RequestInfo& info() const { return info_; }
  const core::StreamOptions& stream_options() const { return stream_options_; }

 private:
  core::Task<void> Serve();
  core::Task<void> Admit();
  core::Task<void> Answer(Lane::Ticket ticket);
  resilience::CallContext Context() const;
  Reading Read();
  void Refuse(resilience::Admission::Refusal refusal);
  core::Duration Used() const { return lane_.loop.Now() - arrival_; }

  GenerateService& service_;
  Lane& lane_;
  grpc::CallbackServerContext& context_;
  grpc::ByteBuffer request_;
  const core::SteadyTime arrival_;
  const std::optional<core::SteadyTime> deadline_;

  // Of the loop's thread alone.
  const std::string call_id_;
  RequestInfo info_;
  core::StreamOptions stream_options_;
  std::stop_source cancelled_;
  bool finished_ = false;
  std::atomic<int> holders_ = 2;  // of any thread
};

// gRPC's deadline, which is a date, on the steady clock; none if the caller set none. From 100 s on
// it is the earliest that the caller can have meant: gRPC's clients in C++ and all that is built on
// it send three digits, rounded up.
std::optional<core::SteadyTime> ToSteady(std::chrono::system_clock::time_point deadline,
                                         const core::Clock& clock);

inline constexpr char kDefaultTenant[] = "default";

// 1 to 128 printable ASCII characters.
bool IsTenantName(std::string_view name);

// The tenant by the metadata x-holdfast-tenant, the default if absent; none if it is no name or was
// sent more than once.
std::optional<std::string> ReadTenant(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

}  // namespace holdfast::server
