#pragma once

// One Generate call, from its arrival to the last thing gRPC says about it. Two hold it: the
// coroutine that answers, and gRPC until OnDone; both let go on the loop's thread, and the second
// one destroys it. Every reaction of gRPC is one post to the loop. Finish is called exactly once,
// on the loop, cancelled or not: without it grpc::Server::Shutdown would wait for ever.

#include <chrono>
#include <map>
#include <optional>
#include <stop_token>
#include <string>

#include "core/clock.h"
#include "core/task.h"
#include "grpcpp/grpcpp.h"
#include "server/generate_service.h"
#include "server/response_writer.h"

namespace holdfast::server {

class GenerateReactor final : public grpc::ServerUnaryReactor {
 public:
  // On gRPC's thread. `context` and `response` are gRPC's and live until OnDone.
  GenerateReactor(GenerateService& service, Lane& lane, grpc::CallbackServerContext& context,
                  const grpc::ByteBuffer& request, grpc::ByteBuffer& response);

  void OnCancel() override;
  void OnDone() override;

 private:
  ~GenerateReactor() override;

  // All on the loop's thread.
  core::Task<void> Serve();
  core::Task<void> Admit();
  core::Task<void> Answer(Lane::Ticket ticket);
  resilience::CallContext Context() const;
  Reading Read();
  void Refuse(resilience::Admission::Refusal refusal);
  void Reply(core::Result result);
  void FinishOnce(const Failure& failure);
  void FinishOnce(grpc::Status status);
  void LetGo();
  core::Duration Used() const { return lane_.loop.Now() - arrival_; }

  GenerateService& service_;
  Lane& lane_;
  grpc::CallbackServerContext& context_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer& response_;
  const core::SteadyTime arrival_;
  const std::optional<core::SteadyTime> deadline_;

  // Of the loop's thread alone.
  const std::string call_id_;
  RequestInfo info_;
  std::stop_source cancelled_;
  bool finished_ = false;
  int holders_ = 2;
};

// gRPC's deadline, which is a date, on the steady clock; none if the caller set none.
std::optional<core::SteadyTime> ToSteady(std::chrono::system_clock::time_point deadline,
                                         const core::Clock& clock);

// The tenant by the metadata x-holdfast-tenant, "default" if absent; none if it is no name of 1 to
// 128 printable ASCII characters or was sent more than once.
std::optional<std::string> ReadTenant(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata);

}  // namespace holdfast::server
