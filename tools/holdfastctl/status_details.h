#pragma once

// A failed call, as a person or a script wants to know it: the gRPC status with its google.rpc
// details decoded. Plain values, from any thread.

#include <grpcpp/support/status.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/duration.h"

namespace holdfast::ctl {

// The tool's exit codes, told in its --help.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;    // the call was answered with an error, or cut
inline constexpr int kExitUsage = 2;     // the command line, or a file that it names
inline constexpr int kExitNoServer = 3;  // no connection

struct FieldViolation {
  std::string field;
  std::string description;
};

struct CallError {
  std::string code;  // "INVALID_ARGUMENT", or this tool's own: "CANNOT_CONNECT", "USAGE"
  std::string message;
  std::string reason;  // of ErrorInfo; empty = none was sent
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::optional<Nanos> retry_after;
  std::vector<FieldViolation> violations;
  std::optional<v1::FailedAttempts> attempts;
  int exit_code = kExitFailed;
};

// `status` is not OK. Details that cannot be read are left out.
CallError DecodeStatus(const grpc::Status& status);

CallError UsageError(std::string message);

// "INVALID_ARGUMENT"
std::string CodeName(grpc::StatusCode code);

}  // namespace holdfast::ctl
