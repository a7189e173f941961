#include "tools/holdfastctl/connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>

namespace holdfast::ctl {
namespace {

using SystemClock = std::chrono::system_clock;

constexpr std::chrono::seconds kConnectTimeout{5};
constexpr int kMaxReplyBytes = 64 << 20;
constexpr int kMaxMetadataBytes = 64 << 10;

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // the server is meant, and often on this machine
  args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  args.SetMaxReceiveMessageSize(kMaxReplyBytes);
  args.SetUserAgentPrefix("holdfastctl");
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

std::optional<SystemClock::time_point> Deadline(std::optional<Nanos> timeout) {
  if (!timeout) return std::nullopt;
  const SystemClock::time_point now = SystemClock::now();
  const auto room = std::chrono::duration_cast<Nanos>(SystemClock::time_point::max() - now);
  return now + std::min(*timeout, room);
}

}  // namespace

Connection::Connection(const std::string& address, std::optional<Nanos> timeout)
    : address_(address), deadline_(Deadline(timeout)), channel_(MakeChannel(address)) {
  if (deadline_) context_.set_deadline(*deadline_);
}

std::optional<CallError> Connection::Connect() {
  Time until = SystemClock::now() + kConnectTimeout;
  if (deadline_) until = std::min(until, *deadline_);
  while (true) {
    const grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return std::nullopt;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return Unreachable("");
    }
    if (!channel_->WaitForStateChange(state, until)) return Unreachable(" in time");
  }
}

CallError Connection::Unreachable(const std::string& detail) const {
  CallError error;
  error.code = "CANNOT_CONNECT";
  error.message = "cannot connect to " + address_ + detail + ": is the server running? (make run)";
  error.exit_code = kExitNoServer;
  return error;
}

}  // namespace holdfast::ctl
