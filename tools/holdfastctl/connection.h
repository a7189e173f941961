#pragma once

// A connection to one of the server's two addresses, for one call. Made, used and destroyed on the
// main thread; blocks it.

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {

class Connection {
 public:
  // `timeout` covers connecting and the call; unset = the call has none.
  Connection(const std::string& address, std::optional<Nanos> timeout);

  // Blocks until connected, or says why not. Call it first.
  std::optional<CallError> Connect();

  // For a stub, and for its one call.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  grpc::ClientContext& context() { return context_; }

 private:
  using Time = std::chrono::system_clock::time_point;  // gRPC's deadlines are on the wall clock

  CallError Unreachable(const std::string& detail) const;

  const std::string address_;
  const std::optional<Time> deadline_;
  const std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
};

}  // namespace holdfast::ctl
