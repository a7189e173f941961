#include "server/stream_reactor.h"

#include <string>
#include <utility>

#include "grpcpp/support/proto_buffer_writer.h"

namespace holdfast::server {
namespace {

constexpr char kTooSlow[] = "the caller did not read its stream for ";

core::Error ReaderTooSlow(core::Duration limit) {
  core::Error error;
  error.code = core::ErrorCode::kResourceExhausted;
  error.reason = "READER_TOO_SLOW";
  error.message = kTooSlow + core::FormatDuration(limit);
  return error;
}

void Serialize(const v1::GenerateStreamResponse& event, grpc::ByteBuffer& buffer) {
  buffer.Clear();
  bool own_buffer = false;
  (void)grpc::GenericSerialize<grpc::ProtoBufferWriter, v1::GenerateStreamResponse>(event, &buffer,
                                                                                    &own_buffer);
}

}  // namespace

StreamReactor::StreamReactor(GenerateService& service, Lane& lane,
                             grpc::CallbackServerContext& context, const grpc::ByteBuffer& request)
    : GenerateCall(service, lane, context, request),
      grpc_call_(context.c_call()),
      queue_(info(), service.stream_limits(), loop().clock(), [this] { Write(); }) {
  grpc_call_ref(grpc_call_);
  Begin();
}

StreamReactor::~StreamReactor() {
  loop().CancelTimer(timer_);
  grpc_call_unref(grpc_call_);
}

void StreamReactor::OnWriteDone(bool ok) {
  if (!ok) {
    loop().Post([this] { OnBroken(); });
  } else if (turn_.exchange(Turn::kOurs) == Turn::kGrpcsAndWeWait) {
    loop().Post([this] { Write(); });
  }
}

void StreamReactor::OnCancel() {
  loop().Post([this] { OnBroken(); });
}

void StreamReactor::OnDone() { LetGoSoon(); }

void StreamReactor::OnBroken() {
  broken_ = true;
  Cancel();
  if (answered_) FinishOnce(grpc::Status::CANCELLED);
}

void StreamReactor::Reply(core::Result result) {
  answered_ = true;
  if (broken_) return FinishOnce(grpc::Status::CANCELLED);
  v1::GenerateResponse response = WriteResponse(info().request_id, std::move(result));
  if (!stream_options().assembled_message) response.clear_message();
  queue_.Finish(std::move(response));
  WatchReader();
  Write();
}

void StreamReactor::FinishNow(grpc::Status status) {
  if (status.ok()) {
    Serialize(queue_.Take(), buffer_);
    StartWriteAndFinish(&buffer_, grpc::WriteOptions(), std::move(status));
  } else {
    queue_.Clear();  // what was sent is no answer, and no more of it is needed
    Finish(std::move(status));
  }
  WatchReader();
}

void StreamReactor::Write() {
  while (!finished() && !broken_ && !queue_.empty() && TakeTurn()) {
    // Only now: a status waits behind all that is not written yet, so a reader that does not read
    // could not be told any more.
    if (answered_ && queue_.last()) return FinishOnce(grpc::Status::OK);
    Serialize(queue_.Take(), buffer_);
    StartWrite(&buffer_);
    if (answered_) WatchReader();
  }
}

bool StreamReactor::TakeTurn() {
  Turn turn = Turn::kOurs;
  while (!turn_.compare_exchange_weak(turn,
                                      turn == Turn::kOurs ? Turn::kGrpcs : Turn::kGrpcsAndWeWait)) {
  }
  return turn == Turn::kOurs;
}

void StreamReactor::WatchReader() {
  loop().CancelTimer(timer_);
  timer_ = loop().CallAt(core::SaturatingAdd(loop().Now(), service().stream_limits().max_pause),
                         [this] { OnReaderTooSlow(); });
}

void StreamReactor::OnReaderTooSlow() {
  const core::Error error = ReaderTooSlow(service().stream_limits().max_pause);
  if (!finished()) {
    service().log().OnReaderTooSlow(info());
    return Fail(WriteFailure(info().request_id, error, {}));
  }
  // The status itself waits behind what is not read. This one overtakes it, without details.
  grpc_call_cancel_with_status(grpc_call_, GRPC_STATUS_RESOURCE_EXHAUSTED, error.message.c_str(),
                               nullptr);
}

}  // namespace holdfast::server
