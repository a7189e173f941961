#pragma once

// Small conversions from core's values to the protos that both services speak. Pure; any thread.

#include <optional>

#include "core/answer.h"
#include "core/clock.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/timestamp.pb.h"
#include "holdfast/v1/generate.pb.h"

namespace holdfast::server {

google::protobuf::Duration ToProto(core::Duration duration);
google::protobuf::Timestamp ToProto(core::WallTime time);
v1::Target ToProto(const core::TargetName& name);
v1::Usage ToProto(const core::Usage& usage);
v1::Degradation ToProto(core::Degradation degradation);
v1::FinishReason ToProto(core::FinishReason reason);
v1::Attempt ToProto(const core::AttemptRecord& record);
v1::CacheHit ToProto(const core::CacheHit& hit);

// As google.protobuf.Duration says it may be; none if it is no valid one. What int64 nanoseconds
// cannot hold becomes the greatest or least that they can.
std::optional<core::Duration> FromProto(const google::protobuf::Duration& duration);

// None if it is no valid one, lies before 1970, or is out of range.
std::optional<core::WallTime> FromProto(const google::protobuf::Timestamp& time);

}  // namespace holdfast::server
