#pragma once

// A gRPC client that sends any bytes to any method: for what generated stubs refuse to send, and
// for health and reflection, whose protos are not generated here. Blocking; test threads only.

#include <memory>
#include <string>
#include <vector>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"

namespace holdfast::testing {

inline grpc::ByteBuffer ToBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

inline std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// One call of a method by its path, "/holdfast.v1.GenerateService/Generate".
class RawCall {
 public:
  RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel), call_(stub_.PrepareCall(&context, method, &queue_)) {
    call_->StartCall(Tag());
    Wait();
  }
  ~RawCall() {
    context.TryCancel();
    if (!finished_) Finish();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  bool Write(const std::string& bytes) {
    call_->Write(ToBuffer(bytes), Tag());
    return Wait();
  }
  bool WritesDone() {
    call_->WritesDone(Tag());
    return Wait();
  }
  // False at the end of the stream.
  bool Read(std::string& bytes) {
    grpc::ByteBuffer buffer;
    call_->Read(&buffer, Tag());
    const bool ok = Wait();
    if (ok) bytes = ToString(buffer);
    return ok;
  }
  grpc::Status Finish() {
    finished_ = true;
    grpc::Status status;
    call_->Finish(&status, Tag());
    Wait();
    return status;
  }

  grpc::ClientContext context;

 private:
  void* Tag() { return this; }
  bool Wait() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool finished_ = false;
};

// A unary call with any bytes.
inline grpc::Status CallRaw(const std::shared_ptr<grpc::Channel>& channel,
                            const std::string& method, const std::string& request,
                            std::string* response = nullptr) {
  RawCall call(channel, method);
  call.Write(request);
  call.WritesDone();
  std::string bytes;
  if (call.Read(bytes) && response) *response = bytes;
  return call.Finish();
}

}  // namespace holdfast::testing
