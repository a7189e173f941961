#pragma once

// Protobuf refuses a whole message for one string that is not UTF-8, without a word on which. This
// finds all of them, so that the caller hears every fault at once. Called on a request's loop, for
// bytes that protobuf has refused. Pure.

#include <optional>
#include <string>
#include <vector>

#include "google/protobuf/descriptor.h"

namespace holdfast::server {

// The paths ("messages[1].content") of all strings in `bytes` that are not UTF-8, each overwritten
// with '?' so that the bytes can be parsed; none if `bytes` is no message of `type` at all.
std::optional<std::vector<std::string>> RepairUtf8(const google::protobuf::Descriptor& type,
                                                   std::string& bytes);

}  // namespace holdfast::server
