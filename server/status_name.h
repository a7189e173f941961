#pragma once

// The canonical name of a gRPC status code, as people know it: "INVALID_ARGUMENT".

#include "grpcpp/support/status_code_enum.h"

namespace holdfast::server {

const char* StatusName(grpc::StatusCode code);

}  // namespace holdfast::server
