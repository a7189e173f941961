#pragma once

// How the admin API refuses: a status with the same details as the caller's API. Pure; any thread.

#include <string>

#include "core/answer.h"
#include "grpcpp/support/status.h"

namespace holdfast::server {

grpc::Status Refuse(core::ErrorCode code, std::string reason, std::string field,
                    std::string message);

// INVALID_ARGUMENT.
grpc::Status BadField(std::string field, std::string message);

}  // namespace holdfast::server
