#include "server/listener.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>

#include "google/protobuf/message.h"
#include "grpc/health/v1/health.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"

namespace holdfast::server {
namespace {

constexpr int kPingEveryMillis = 60'000;  // to notice callers that vanished
constexpr int kPingTimeoutMillis = 20'000;
constexpr int kMinCallerPingMillis = 10'000;  // callers may ping us so often

void EnablePluginsOnce() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Links the protocol's descriptor, by which reflection then describes the service.
    google::protobuf::LinkMessageReflection<grpc::health::v1::HealthCheckRequest>();
  });
}

// gRPC does not say why it could not bind; the system does.
std::string WhyNotBound(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return "not HOST:PORT";
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  const addrinfo hints{.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), address.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) return gai_strerror(error);
  std::string reason = "gRPC could not bind it";
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 1) != 0) {
      reason = std::strerror(errno);
    }
    close(fd);
  }
  freeaddrinfo(found);
  return reason;
}

void SetOptions(grpc::ServerBuilder& builder, size_t max_receive_bytes) {
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<size_t>(max_receive_bytes, INT_MAX)));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingEveryMillis);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMillis);
  // Its pings, to size windows for large transfers, cost more than small messages do.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinCallerPingMillis);
  // Only reflection runs on these threads.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
}

}  // namespace

absl::StatusOr<Listener> Listen(grpc::Service& service, const std::string& service_name,
                                const std::string& address, size_t max_receive_bytes) {
  EnablePluginsOnce();
  grpc::ServerBuilder builder;
  SetOptions(builder, max_receive_bytes);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  Listener listener;
  listener.server = builder.BuildAndStart();
  if (!listener.server || port == 0) {
    return absl::UnavailableError("cannot listen on " + address + ": " + WhyNotBound(address));
  }
  listener.server->GetHealthCheckService()->SetServingStatus(service_name, true);
  listener.address = address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  return listener;
}

}  // namespace holdfast::server
