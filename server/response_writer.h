#pragma once

// Makes what the caller sees of what the engine gives back: a GenerateResponse, or a gRPC status
// with google.rpc details whose trailers stay under the 4 KiB that clients take. Pure; called on a
// request's loop.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "core/answer.h"
#include "grpcpp/support/status.h"
#include "holdfast/v1/generate.pb.h"
#include "server/request_reader.h"

namespace holdfast::server {

// `result` must hold an Answer.
v1::GenerateResponse WriteResponse(std::string request_id, core::Result result);

struct Failure {
  grpc::Status status;
  // For the trailer grpc-retry-pushback-ms, by which gRPC clients time their own retries.
  std::optional<int64_t> pushback_ms;
};

// `message` and details as they go over the wire (percent-encoded, base64), with the names and the
// 32 bytes that HTTP/2 counts for each header, never exceed this.
inline constexpr size_t kMaxTrailerBytes = 4096;
inline constexpr const char kErrorDomain[] = "holdfast";
inline constexpr const char kPushbackTrailer[] = "grpc-retry-pushback-ms";

// What does not fit is cut in this order: the attempts' error texts, shorter and shorter; middle
// attempts, counted in FailedAttempts.omitted; field faults from the end.
Failure WriteFailure(const std::string& request_id, const core::Error& error,
                     const std::vector<core::AttemptRecord>& attempts);
Failure WriteRejection(const std::string& request_id, const Rejection& rejection);

// The bytes that the trailers of `status` take; see kMaxTrailerBytes.
size_t TrailerBytes(const Failure& failure);

grpc::StatusCode ToGrpc(core::ErrorCode code);

}  // namespace holdfast::server
