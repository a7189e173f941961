#pragma once

// Durations between people, the API and this tool. Pure functions, from any thread.

#include <google/protobuf/duration.pb.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::ctl {

using Nanos = std::chrono::nanoseconds;

// "10s", "500ms", "1.5s", "1h30m", "7d". Empty if `text` is not one, or beyond 292 years.
std::optional<Nanos> ParseDuration(std::string_view text);

// For people: "0.4 ms", "850 ms", "1.24 s", "2m 05s", "3h 12m", "7d 4h".
std::string FormatDuration(Nanos value);
std::string FormatDuration(const google::protobuf::Duration& value);

google::protobuf::Duration ToProto(Nanos value);
// Saturates where nanoseconds do not reach.
Nanos FromProto(const google::protobuf::Duration& value);

}  // namespace holdfast::ctl
