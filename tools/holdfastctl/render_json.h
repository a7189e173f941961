#pragma once

// What a script reads: one JSON document. Pure functions, from any thread. API messages are in
// proto3's JSON form with the proto's own field names (64-bit integers are strings), fields that
// have their default value included.

#include <google/protobuf/message.h>

#include <string>

#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {

std::string MessageJson(const google::protobuf::Message& message);
// The same in one line.
std::string MessageJsonLine(const google::protobuf::Message& message);

// {"error": {"code", "message", "exit_code", and what was sent of "reason", "domain", "metadata",
//            "retry_after_seconds", "field_violations", "request_id", "attempts",
//            "attempts_omitted"}}
std::string ErrorJson(const CallError& error);
std::string ErrorJsonLine(const CallError& error);

}  // namespace holdfast::ctl
