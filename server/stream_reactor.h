#pragma once

// GenerateStream: the answer as it is made. See generate_call.h for who holds it and on which
// thread.
//
// One write is under way at a time; what comes meanwhile waits in a StreamQueue. A write that is
// done only wakes the loop if something waits for it, which with a reader that keeps up is rare.

#include <atomic>

#include "grpc/grpc.h"
#include "grpcpp/grpcpp.h"
#include "server/generate_call.h"
#include "server/stream_queue.h"

namespace holdfast::server {

class StreamReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                            private GenerateCall {
 public:
  // On gRPC's thread. `context` is gRPC's and lives until OnDone.
  StreamReactor(GenerateService& service, Lane& lane, grpc::CallbackServerContext& context,
                const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  // As GenerateReactor's: all reactions are short.
  bool InternalInlineable() override { return true; }

 private:
  // Whose turn it is to start a write.
  enum class Turn { kOurs, kGrpcs, kGrpcsAndWeWait };

  ~StreamReactor() override;

  // All on the loop's thread.
  core::AnswerStream* stream() override { return &queue_; }
  std::optional<core::SteadyTime> first_content_at() const override {
    return queue_.first_content_at();
  }
  void Reply(core::Result result) override;
  void FinishNow(grpc::Status status) override;
  void Write();
  bool TakeTurn();
  void OnBroken();
  void WatchReader();
  void OnReaderTooSlow();

  // Kept beyond OnDone, so that a reader that never reads can be cut off at any time.
  grpc_call* const grpc_call_;
  StreamQueue queue_;
  grpc::ByteBuffer buffer_;  // of the write under way
  std::atomic<Turn> turn_ = Turn::kOurs;
  bool answered_ = false;  // the last event is in the queue
  bool broken_ = false;
  core::TimerId timer_ = 0;
};

}  // namespace holdfast::server
