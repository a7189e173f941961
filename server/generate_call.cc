#include "server/generate_call.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace holdfast::server {
namespace {

constexpr char kTenantHeader[] = "x-holdfast-tenant";
constexpr size_t kMaxTenant = 128;

void AddTenantFault(std::optional<Rejection>& rejection) {
  if (!rejection || rejection->error.code != core::ErrorCode::kInvalidArgument) {
    rejection.emplace();
    rejection->error = {.code = core::ErrorCode::kInvalidArgument,
                        .reason = "INVALID_REQUEST",
                        .message =
                            "the metadata x-holdfast-tenant must be one name of 1 to 128 "
                            "printable ASCII characters",
                        .field = kTenantHeader};
  }
  rejection->faults.insert(rejection->faults.begin(),
                           {kTenantHeader, "must be one name of 1 to 128 printable characters"});
}

// How much later than its caller's a deadline may have become on its way. Below 100 s it is a tenth
// of a second at most, which the plan's margin covers.
core::Duration MostRoundedUp(core::Duration left) {
  if (left < std::chrono::seconds(100)) return core::Duration::zero();
  return left < std::chrono::seconds(1000) ? std::chrono::seconds(1) : std::chrono::seconds(10);
}

uint64_t UnixMillis(const core::Clock& clock) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(clock.WallNow().time_since_epoch())
          .count());
}

}  // namespace

std::optional<core::SteadyTime> ToSteady(std::chrono::system_clock::time_point deadline,
                                         const core::Clock& clock) {
  if (deadline == std::chrono::system_clock::time_point::max()) return std::nullopt;
  // Both are around now, but a hostile deadline may be anywhere in the range.
  const core::Duration due = deadline.time_since_epoch();
  const core::Duration left = core::SaturatingAdd(due, -clock.WallNow().time_since_epoch());
  return core::SaturatingAdd(clock.Now(), left - MostRoundedUp(left));
}

bool IsTenantName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxTenant &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

std::optional<std::string> ReadTenant(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  const auto [begin, end] = metadata.equal_range(kTenantHeader);
  if (begin == end) return kDefaultTenant;
  if (std::next(begin) != end) return std::nullopt;
  std::string name(begin->second.data(), begin->second.size());
  if (!IsTenantName(name)) return std::nullopt;
  return name;
}

GenerateCall::GenerateCall(GenerateService& service, Lane& lane,
                           grpc::CallbackServerContext& context, const grpc::ByteBuffer& request)
    : service_(service),
      lane_(lane),
      context_(context),
      request_(request),
      arrival_(lane.loop.Now()),
      deadline_(ToSteady(context.deadline(), lane.loop.clock())),
      call_id_(core::NewId(service.random_, UnixMillis(lane.loop.clock()))) {
  service_.live_calls_.Enter(arrival_);
}

void GenerateCall::Begin() {
  lane_.loop.Post([this] { core::Spawn(Serve()); });
}

void GenerateCall::LetGoSoon() {
  lane_.loop.Post([this] { LetGo(); });
}

// Each way through it comes to one Fail or one Reply.
core::Task<void> GenerateCall::Serve() {
  if (service_.refusing_) {
    Refuse(resilience::Admission::Refusal::kClosed);
  } else {
    co_await Admit();
  }
  LetGo();
}

// Before the request is read, so that shedding it costs nothing that grows with its prompt.
core::Task<void> GenerateCall::Admit() {
  core::Task<resilience::Admission::Entry> enter =
      lane_.enter(RequestReader::PeekRoute(request_), Context());
  resilience::Admission::Entry entry = co_await std::move(enter);
  if (entry.refusal) {
    Refuse(*entry.refusal);
  } else {
    co_await Answer(std::move(entry.ticket));
  }
}

core::Task<void> GenerateCall::Answer(Lane::Ticket ticket) {
  Reading reading = Read();
  core::Request& request = reading.request;
  info_ = {request.request_id, request.tenant, request.route, request.labels};
  if (reading.rejection) {
    ticket.reset();  // its place is free before the caller can come again
    service_.log_.OnRejected(info_, reading.rejection->error, Used());
    Fail(WriteRejection(info_.request_id, *reading.rejection));
    co_return;
  }
  stream_options_ = request.stream;
  core::Task<core::Result> run =
      lane_.run(std::move(request), Context(), std::move(ticket), stream());
  core::Result result = co_await std::move(run);
  std::optional<core::Duration> first_token;
  if (const auto at = first_content_at()) first_token = *at - arrival_;
  service_.log_.OnDone(info_, result, Used(), first_token);
  if (result.ok()) {
    Reply(std::move(result));
  } else {
    Fail(WriteFailure(info_.request_id, std::get<core::Error>(result.value), result.attempts));
  }
}

resilience::CallContext GenerateCall::Context() const {
  resilience::CallContext context;
  context.call_id = call_id_;
  context.arrival = arrival_;
  context.deadline = deadline_;
  context.cancelled = cancelled_.get_token();
  context.hurry = lane_.hurry.get_token();
  return context;
}

Reading GenerateCall::Read() {
  const std::optional<std::string> tenant = ReadTenant(context_.client_metadata());
  Reading reading =
      service_.reader_.Read(request_, tenant.value_or(kDefaultTenant), stream() != nullptr);
  request_.Clear();
  if (!tenant) AddTenantFault(reading.rejection);
  if (reading.request.request_id.empty()) reading.request.request_id = call_id_;
  return reading;
}

void GenerateCall::Refuse(resilience::Admission::Refusal refusal) {
  const core::Error error = resilience::RefusalError(refusal);
  info_.request_id = call_id_;
  service_.log_.OnRejected(info_, error, Used());
  Fail(WriteFailure(info_.request_id, error, {}));
}

void GenerateCall::Fail(const Failure& failure) {
  if (finished_) return;
  if (failure.pushback_ms) {
    context_.AddTrailingMetadata(kPushbackTrailer, std::to_string(*failure.pushback_ms));
  }
  FinishOnce(failure.status);
}

void GenerateCall::FinishOnce(grpc::Status status) {
  if (std::exchange(finished_, true)) return;
  FinishNow(std::move(status));
}

void GenerateCall::LetGo() {
  if (--holders_ > 0) return;
  LiveCalls& live_calls = service_.live_calls_;
  delete this;
  live_calls.Leave();
}

}  // namespace holdfast::server
