#pragma once

// Generate: one whole answer. See generate_call.h for who holds it and on which thread.

#include "grpcpp/grpcpp.h"
#include "server/generate_call.h"

namespace holdfast::server {

class GenerateReactor final : public grpc::ServerUnaryReactor, private GenerateCall {
 public:
  // On gRPC's thread. `context` and `response` are gRPC's and live until OnDone.
  GenerateReactor(GenerateService& service, Lane& lane, grpc::CallbackServerContext& context,
                  const grpc::ByteBuffer& request, grpc::ByteBuffer& response);

  void OnCancel() override;
  void OnDone() override;
  // gRPC 1.51 then calls the reactions where it is instead of waking one more thread for each. Not
  // part of its API, and safe for reactions as short as these.
  bool InternalInlineable() override { return true; }

 private:
  void Reply(core::Result result) override;
  void FinishNow(grpc::Status status) override;

  grpc::ByteBuffer& response_;
};

}  // namespace holdfast::server
