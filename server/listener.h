#pragma once

// Makes a grpc::Server for one service on one address, with health and reflection. Called by the
// composition root at start.

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"

namespace holdfast::server {

struct Listener {
  std::unique_ptr<grpc::Server> server;
  std::string address;  // with the port that was bound
};

// `service_name` is what grpc.health.v1 knows it by, besides "". A second server on the same
// address fails, by name and reason.
absl::StatusOr<Listener> Listen(grpc::Service& service, const std::string& service_name,
                                const std::string& address, size_t max_receive_bytes);

}  // namespace holdfast::server
