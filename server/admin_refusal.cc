#include "server/admin_refusal.h"

#include <utility>

#include "server/response_writer.h"

namespace holdfast::server {

grpc::Status Refuse(core::ErrorCode code, std::string reason, std::string field,
                    std::string message) {
  const core::Error error{
      .code = code, .reason = std::move(reason), .message = field + " " + message, .field = field};
  return WriteFailure("", error, {}).status;
}

grpc::Status BadField(std::string field, std::string message) {
  return Refuse(core::ErrorCode::kInvalidArgument, "INVALID_REQUEST", std::move(field),
                std::move(message));
}

}  // namespace holdfast::server
