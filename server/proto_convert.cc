#include "server/proto_convert.h"

#include <cstdint>

#include "core/check.h"
#include "server/text.h"

namespace holdfast::server {
namespace {

constexpr size_t kMaxErrorBytes = 512;
constexpr int64_t kNanosPerSecond = 1'000'000'000;

}  // namespace

google::protobuf::Duration ToProto(core::Duration duration) {
  google::protobuf::Duration out;
  out.set_seconds(duration.count() / kNanosPerSecond);
  out.set_nanos(static_cast<int32_t>(duration.count() % kNanosPerSecond));
  return out;
}

google::protobuf::Timestamp ToProto(core::WallTime time) {
  // Unlike a Duration's, a Timestamp's nanos are never negative.
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  google::protobuf::Timestamp out;
  out.set_seconds(seconds.time_since_epoch().count());
  out.set_nanos(static_cast<int32_t>((time - seconds).count()));
  return out;
}

v1::Target ToProto(const core::TargetName& name) {
  v1::Target out;
  out.set_provider(name.provider);
  out.set_model(name.model);
  return out;
}

v1::Usage ToProto(const core::Usage& usage) {
  v1::Usage out;
  out.set_input_tokens(usage.input_tokens);
  out.set_cached_input_tokens(usage.cached_input_tokens);
  out.set_output_tokens(usage.output_tokens);
  out.set_reasoning_tokens(usage.reasoning_tokens);
  return out;
}

v1::Degradation ToProto(core::Degradation degradation) {
  switch (degradation) {
    case core::Degradation::kNone:
      return v1::DEGRADATION_NONE;
    case core::Degradation::kFallbackModel:
      return v1::DEGRADATION_FALLBACK_MODEL;
    case core::Degradation::kStale:
      return v1::DEGRADATION_STALE;
    case core::Degradation::kPartial:
      return v1::DEGRADATION_PARTIAL;
  }
  HOLDFAST_CHECK(false);
}

v1::FinishReason ToProto(core::FinishReason reason) {
  switch (reason) {
    case core::FinishReason::kUnspecified:
      return v1::FINISH_REASON_UNSPECIFIED;
    case core::FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case core::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case core::FinishReason::kToolCalls:
      return v1::FINISH_REASON_TOOL_CALLS;
    case core::FinishReason::kContentFilter:
      return v1::FINISH_REASON_CONTENT_FILTER;
    case core::FinishReason::kRefusal:
      return v1::FINISH_REASON_REFUSAL;
  }
  HOLDFAST_CHECK(false);
}

v1::Attempt ToProto(const core::AttemptRecord& record) {
  v1::Attempt out;
  *out.mutable_target() = ToProto(record.target);
  out.set_skipped(record.skipped);
  out.set_outcome(record.outcome);
  out.set_http_status(record.http_status);
  out.set_error(std::string(CutUtf8(ToUtf8(record.error), kMaxErrorBytes)));
  *out.mutable_start_offset() = ToProto(record.start_offset);
  *out.mutable_duration() = ToProto(record.duration);
  *out.mutable_delay_before() = ToProto(record.delay_before);
  out.set_retry_skipped(record.retry_skipped);
  *out.mutable_usage() = ToProto(record.usage);
  out.set_usage_estimated(record.usage_estimated);
  out.set_cost_usd(record.cost_usd);
  return out;
}

v1::CacheHit ToProto(const core::CacheHit& hit) {
  v1::CacheHit out;
  out.set_similarity(hit.similarity);
  out.set_threshold(hit.threshold);
  *out.mutable_age() = ToProto(hit.age);
  *out.mutable_created_at() = ToProto(hit.created_at);
  *out.mutable_made_by() = ToProto(core::TargetName{hit.provider, hit.model});
  out.set_entry_id(hit.entry_id);
  return out;
}

std::optional<core::Duration> FromProto(const google::protobuf::Duration& duration) {
  constexpr int64_t kMaxSeconds = 315'576'000'000;
  constexpr int64_t kFits = INT64_MAX / kNanosPerSecond - 1;
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  if (seconds < -kMaxSeconds || seconds > kMaxSeconds) return std::nullopt;
  if (nanos <= -kNanosPerSecond || nanos >= kNanosPerSecond) return std::nullopt;
  if ((seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0)) return std::nullopt;
  if (seconds > kFits) return core::Duration::max();
  if (seconds < -kFits) return core::Duration::min();
  return std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanos);
}

std::optional<core::WallTime> FromProto(const google::protobuf::Timestamp& time) {
  constexpr int64_t kMostSeconds =
      std::chrono::duration_cast<std::chrono::seconds>(core::Duration::max()).count();
  const bool valid = time.seconds() >= 0 && time.seconds() < kMostSeconds && time.nanos() >= 0 &&
                     time.nanos() < 1'000'000'000;
  if (!valid) return std::nullopt;
  return core::WallTime(std::chrono::seconds(time.seconds()) +
                        std::chrono::nanoseconds(time.nanos()));
}

}  // namespace holdfast::server
