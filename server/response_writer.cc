#include "server/response_writer.h"

#include <algorithm>
#include <chrono>
#include <string_view>
#include <utility>

#include "core/check.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/proto_convert.h"
#include "server/text.h"

namespace holdfast::server {
namespace {

// A provider's reason for its 400 is worth reading, but must leave room for the attempts.
constexpr size_t kMaxMessageWireBytes = 1024;
constexpr size_t kMaxFieldBytes = 256;
constexpr size_t kHeaderOverhead = 32;

bool IsPlainInTrailer(char c) { return c >= 0x20 && c <= 0x7E && c != '%'; }

// gRPC percent-encodes what is not printable ASCII: three bytes for one.
size_t PercentEncodedSize(std::string_view text) {
  const auto plain = static_cast<size_t>(std::count_if(text.begin(), text.end(), IsPlainInTrailer));
  return plain + 3 * (text.size() - plain);
}

size_t Base64Size(size_t bytes) { return (bytes * 4 + 2) / 3; }

// The longest beginning of `text` that takes at most `max_wire_bytes` percent-encoded.
std::string CutToWireBytes(std::string text, size_t max_wire_bytes) {
  text = ToUtf8(std::move(text));
  if (PercentEncodedSize(text) <= max_wire_bytes) return text;
  size_t end = 0;
  for (size_t wire = 0; end < text.size(); ++end) {
    wire += IsPlainInTrailer(text[end]) ? 1 : 3;
    if (wire > max_wire_bytes) break;
  }
  return std::string(CutUtf8(text, end));
}

v1::Message WriteMessage(core::Answer& answer) {
  v1::Message message;
  message.set_role(core::Name(core::Role::kAssistant));
  answer.text = ToUtf8(std::move(answer.text));
  if (answer.tool_calls.empty()) {
    message.set_content(std::move(answer.text));
    return message;
  }
  if (!answer.text.empty()) message.add_parts()->set_text(std::move(answer.text));
  for (core::ToolCall& call : answer.tool_calls) {
    v1::ToolCall& out = *message.add_parts()->mutable_tool_call();
    out.set_id(ToUtf8(std::move(call.id)));
    out.set_name(ToUtf8(std::move(call.name)));
    out.set_arguments(ToUtf8(std::move(call.arguments)));
  }
  return message;
}

// Whole milliseconds, upwards: a client that waits so long does not come too early.
int64_t CeilMillis(core::Duration duration) {
  const auto millis = std::chrono::ceil<std::chrono::milliseconds>(duration).count();
  return std::clamp<int64_t>(millis, 0, INT32_MAX);
}

// Builds a status, ever smaller until it fits.
class StatusBuilder {
 public:
  StatusBuilder(const std::string& request_id, const core::Error& error) : error_(error) {
    message_ = CutToWireBytes(error.message, kMaxMessageWireBytes);
    info_.set_reason(error.reason);
    info_.set_domain(kErrorDomain);
    (*info_.mutable_metadata())["request_id"] = request_id;
    failed_.set_request_id(request_id);
  }

  void AddFault(std::string_view field, std::string_view reason) {
    auto& violation = *bad_request_.add_field_violations();
    violation.set_field(std::string(CutUtf8(field, kMaxFieldBytes)));
    violation.set_description(std::string(CutUtf8(ToUtf8(std::string(reason)), kMaxFieldBytes)));
  }

  void SetMoreFaults(size_t count) { more_faults_ = count; }

  void AddAttempt(const core::AttemptRecord& record) { *failed_.add_attempts() = ToProto(record); }

  Failure Build() {
    Failure failure = Assemble();
    for (size_t cap = 256; TrailerBytes(failure) > kMaxTrailerBytes && CutErrors(cap); cap /= 2) {
      failure = Assemble();
    }
    while (TrailerBytes(failure) > kMaxTrailerBytes && (DropAttempt() || DropFault())) {
      failure = Assemble();
    }
    return failure;
  }

 private:
  // False once there is nothing left to cut.
  bool CutErrors(size_t cap) {
    bool cut = false;
    for (v1::Attempt& attempt : *failed_.mutable_attempts()) {
      if (attempt.error().size() <= cap) {
        cut = cut || !attempt.error().empty();
        continue;
      }
      attempt.set_error(std::string(CutUtf8(attempt.error(), cap)));
      cut = true;
    }
    return cut;
  }

  bool DropAttempt() {
    const int count = failed_.attempts_size();
    if (count == 0) return false;
    failed_.mutable_attempts()->DeleteSubrange(count / 2, 1);
    failed_.set_omitted(failed_.omitted() + 1);
    return true;
  }

  bool DropFault() {
    if (bad_request_.field_violations().empty()) return false;
    bad_request_.mutable_field_violations()->RemoveLast();
    ++more_faults_;
    return true;
  }

  Failure Assemble() const {
    google::rpc::Status status;
    status.set_code(ToGrpc(error_.code));
    status.set_message(message_);
    google::rpc::ErrorInfo info = info_;
    if (more_faults_ > 0) {
      (*info.mutable_metadata())["faults_omitted"] = std::to_string(more_faults_);
    }
    status.add_details()->PackFrom(info);
    Failure failure;
    if (error_.retry_after) {
      failure.pushback_ms = CeilMillis(*error_.retry_after);
      google::rpc::RetryInfo retry;
      *retry.mutable_retry_delay() = ToProto(std::max(*error_.retry_after, core::Duration::zero()));
      status.add_details()->PackFrom(retry);
    }
    if (!bad_request_.field_violations().empty()) status.add_details()->PackFrom(bad_request_);
    if (failed_.attempts_size() > 0 || failed_.omitted() > 0) {
      status.add_details()->PackFrom(failed_);
    }
    failure.status = grpc::Status(ToGrpc(error_.code), message_, status.SerializeAsString());
    return failure;
  }

  const core::Error& error_;
  std::string message_;
  google::rpc::ErrorInfo info_;
  google::rpc::BadRequest bad_request_;
  v1::FailedAttempts failed_;
  size_t more_faults_ = 0;
};

}  // namespace

v1::GenerateResponse WriteResponse(std::string request_id, core::Result result) {
  core::Answer& answer = std::get<core::Answer>(result.value);
  v1::GenerateResponse out;
  out.set_request_id(std::move(request_id));
  if (answer.text.empty() && answer.tool_calls.empty()) answer.text = answer.notice;
  *out.mutable_message() = WriteMessage(answer);
  out.set_finish_reason(ToProto(answer.finish_reason));
  *out.mutable_usage() = ToProto(answer.usage);
  out.set_degradation(ToProto(answer.degradation));
  out.set_stale(answer.degradation == core::Degradation::kStale);
  out.set_partial(answer.degradation == core::Degradation::kPartial);
  out.set_notice(ToUtf8(std::move(answer.notice)));
  if (answer.served_by) *out.mutable_served_by() = ToProto(*answer.served_by);
  if (answer.cache_hit) *out.mutable_cache_hit() = ToProto(*answer.cache_hit);
  out.mutable_attempts()->Reserve(static_cast<int>(result.attempts.size()));
  for (const core::AttemptRecord& record : result.attempts) *out.add_attempts() = ToProto(record);
  out.set_cost_usd(result.cost_usd);
  *out.mutable_time_budget()->mutable_total() = ToProto(result.time_budget.total);
  *out.mutable_time_budget()->mutable_used() = ToProto(result.time_budget.used);
  return out;
}

Failure WriteFailure(const std::string& request_id, const core::Error& error,
                     const std::vector<core::AttemptRecord>& attempts) {
  StatusBuilder builder(request_id, error);
  if (!error.field.empty()) builder.AddFault(error.field, error.message);
  for (const core::AttemptRecord& record : attempts) builder.AddAttempt(record);
  return builder.Build();
}

Failure WriteRejection(const std::string& request_id, const Rejection& rejection) {
  StatusBuilder builder(request_id, rejection.error);
  for (const FieldFault& fault : rejection.faults) builder.AddFault(fault.field, fault.reason);
  builder.SetMoreFaults(rejection.more_faults);
  return builder.Build();
}

size_t TrailerBytes(const Failure& failure) {
  size_t bytes = std::string_view("grpc-status").size() + 2 + kHeaderOverhead;
  bytes += std::string_view("grpc-message").size() +
           PercentEncodedSize(failure.status.error_message()) + kHeaderOverhead;
  bytes += std::string_view("grpc-status-details-bin").size() +
           Base64Size(failure.status.error_details().size()) + kHeaderOverhead;
  if (failure.pushback_ms) {
    bytes += std::string_view(kPushbackTrailer).size() +
             std::to_string(*failure.pushback_ms).size() + kHeaderOverhead;
  }
  return bytes;
}

grpc::StatusCode ToGrpc(core::ErrorCode code) {
  switch (code) {
    case core::ErrorCode::kInvalidArgument:
      return grpc::INVALID_ARGUMENT;
    case core::ErrorCode::kResourceExhausted:
      return grpc::RESOURCE_EXHAUSTED;
    case core::ErrorCode::kDeadlineExceeded:
      return grpc::DEADLINE_EXCEEDED;
    case core::ErrorCode::kUnavailable:
      return grpc::UNAVAILABLE;
    case core::ErrorCode::kCancelled:
      return grpc::CANCELLED;
    case core::ErrorCode::kUnimplemented:
      return grpc::UNIMPLEMENTED;
    case core::ErrorCode::kNotFound:
      return grpc::NOT_FOUND;
  }
  HOLDFAST_CHECK(false);
}

}  // namespace holdfast::server
