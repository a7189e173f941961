#pragma once

// holdfast.v1.GenerateService at gRPC's callback edge. gRPC's threads are few, so a handler does
// nothing but make a reactor, which posts itself to the loop its request is pinned to; reading,
// answering and writing happen there. The server owns the service; it must outlive the grpc::Server
// and every call (LiveCalls says when that is).

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/answer.h"
#include "core/answer_stream.h"
#include "core/clock.h"
#include "core/loop.h"
#include "core/random.h"
#include "core/task.h"
#include "grpcpp/grpcpp.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "resilience/admission.h"
#include "resilience/engine.h"
#include "server/request_log.h"
#include "server/request_reader.h"

namespace holdfast::server {

// Counts calls from arrival until nothing of them is left. Any thread.
class LiveCalls {
 public:
  void Enter(core::SteadyTime arrival);
  void Leave();
  size_t count() const;
  // False if calls are left at `until`, on the system's steady clock.
  bool WaitForNone(core::SteadyTime until) const;
  // Returns once no call has come for `quiet`, at once if the last one came that long ago; at
  // `until` at the latest.
  void WaitForQuiet(core::Duration quiet, core::SteadyTime until) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable none_;
  size_t count_ = 0;
  core::SteadyTime last_arrival_{};
};

// A loop and the engine that runs on it.
struct Lane {
  using Ticket = std::optional<resilience::Admission::Ticket>;
  using Enter = std::function<core::Task<resilience::Admission::Entry>(std::string route,
                                                                       resilience::CallContext)>;
  using Run = std::function<core::Task<core::Result>(core::Request, resilience::CallContext, Ticket,
                                                     core::AnswerStream*)>;

  core::Loop& loop;
  Enter enter;  // before the request is read; then `run`, if there is a ticket
  Run run;
  std::stop_source hurry;  // the server drains; requested on the loop's thread
};

// What one stream may hold back for its reader.
struct StreamLimits {
  // Waiting bytes at which its provider is no longer read, and those at which it is again.
  size_t high_water = 64 << 10;
  size_t low_water = 16 << 10;
  // How long a whole answer waits for a reader that does not read.
  core::Duration max_pause = std::chrono::seconds(60);
};

class GenerateService final
    : public v1::GenerateService::WithRawCallbackMethod_Generate<
          v1::GenerateService::WithRawCallbackMethod_GenerateStream<v1::GenerateService::Service>> {
 public:
  // `lanes` is never empty.
  GenerateService(const RequestReader& reader, core::Random& random, RequestLog& log,
                  std::vector<Lane> lanes, StreamLimits stream_limits = {});

  // Raw bytes, since protobuf's own parsing would hide from the caller which field is at fault.
  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateStream(
      grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) override;

  // From now on new calls get UNAVAILABLE, SHUTTING_DOWN.
  void RefuseNewCalls() { refusing_ = true; }
  // Calls in progress end by the ladder, as if their time were up.
  void Hurry();

  LiveCalls& live_calls() { return live_calls_; }
  RequestLog& log() { return log_; }
  const StreamLimits& stream_limits() const { return stream_limits_; }

 private:
  friend class GenerateCall;

  Lane& NextLane();

  const RequestReader& reader_;
  core::Random& random_;
  RequestLog& log_;
  std::vector<Lane> lanes_;
  const StreamLimits stream_limits_;
  std::atomic<size_t> next_lane_ = 0;
  std::atomic<bool> refusing_ = false;
  LiveCalls live_calls_;
};

}  // namespace holdfast::server
