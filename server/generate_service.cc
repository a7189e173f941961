#include "server/generate_service.h"

#include <algorithm>
#include <utility>

#include "server/generate_reactor.h"
#include "server/stream_reactor.h"

namespace holdfast::server {

void LiveCalls::Enter(core::SteadyTime arrival) {
  std::lock_guard lock(mutex_);
  ++count_;
  last_arrival_ = std::max(last_arrival_, arrival);
}

void LiveCalls::Leave() {
  std::lock_guard lock(mutex_);
  if (--count_ == 0) none_.notify_all();
}

size_t LiveCalls::count() const {
  std::lock_guard lock(mutex_);
  return count_;
}

bool LiveCalls::WaitForNone(core::SteadyTime until) const {
  std::unique_lock lock(mutex_);
  return none_.wait_until(lock, until, [this] { return count_ == 0; });
}

void LiveCalls::WaitForQuiet(core::Duration quiet, core::SteadyTime until) const {
  std::unique_lock lock(mutex_);
  core::SteadyTime seen;
  core::SteadyTime end;
  do {
    seen = last_arrival_;
    end = std::min(until, core::SaturatingAdd(seen, quiet));
    none_.wait_until(lock, end, [this, seen] { return last_arrival_ != seen; });
  } while (last_arrival_ != seen && end < until);
}

GenerateService::GenerateService(const RequestReader& reader, core::Random& random, RequestLog& log,
                                 std::vector<Lane> lanes, StreamLimits stream_limits)
    : reader_(reader),
      random_(random),
      log_(log),
      lanes_(std::move(lanes)),
      stream_limits_(stream_limits) {}

grpc::ServerUnaryReactor* GenerateService::Generate(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* request,
                                                    grpc::ByteBuffer* response) {
  return new GenerateReactor(*this, NextLane(), *context, *request, *response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateService::GenerateStream(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return new StreamReactor(*this, NextLane(), *context, *request);
}

Lane& GenerateService::NextLane() {
  return lanes_[next_lane_.fetch_add(1, std::memory_order_relaxed) % lanes_.size()];
}

void GenerateService::Hurry() {
  for (Lane& lane : lanes_) {
    lane.loop.Post([&lane] { lane.hurry.request_stop(); });
  }
}

}  // namespace holdfast::server
