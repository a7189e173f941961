#include "server/generate_reactor.h"

#include <utility>

#include "grpcpp/support/proto_buffer_writer.h"

namespace holdfast::server {

GenerateReactor::GenerateReactor(GenerateService& service, Lane& lane,
                                 grpc::CallbackServerContext& context,
                                 const grpc::ByteBuffer& request, grpc::ByteBuffer& response)
    : GenerateCall(service, lane, context, request), response_(response) {
  Begin();
}

void GenerateReactor::OnCancel() {
  Hold();
  loop().Post([this] {
    Cancel();
    LetGo();
  });
}

void GenerateReactor::OnDone() { LetGo(); }

void GenerateReactor::Reply(core::Result result) {
  const v1::GenerateResponse response = WriteResponse(info().request_id, std::move(result));
  bool own_buffer = false;
  FinishOnce(grpc::GenericSerialize<grpc::ProtoBufferWriter, v1::GenerateResponse>(
      response, &response_, &own_buffer));
}

void GenerateReactor::FinishNow(grpc::Status status) { Finish(std::move(status)); }

}  // namespace holdfast::server
