#include "resilience/engine.h"

#include <chrono>
#include <utility>

#include "core/check.h"
#include "resilience/call.h"

namespace holdfast::resilience {

LiveRoute::LiveRoute(Route route, const TargetSet& targets, const core::Clock& clock)
    : route_(std::move(route)), budget_(route_.retry.budget, clock) {
  for (const Step& step : route_.chain) {
    targets_.push_back(targets.Find(step.target));
    HOLDFAST_CHECK(targets_.back() != nullptr);
  }
  if (route_.partial.target) {
    partial_target_ = targets.Find(route_.partial.target->target);
    HOLDFAST_CHECK(partial_target_ != nullptr);
  }
}

Engine::Engine(core::Loop& loop, core::Random& random, Admission& admission, const Routes& routes,
               core::AnswerCache* cache, Providers providers, Observer& observer,
               EngineOptions options)
    : loop_(loop),
      random_(random),
      admission_(admission),
      routes_(routes),
      cache_(cache),
      providers_(std::move(providers)),
      observer_(observer),
      options_(options) {}

Engine::~Engine() = default;

core::Error RefusalError(Admission::Refusal refusal) {
  switch (refusal) {
    case Admission::Refusal::kCancelled:
      return {.code = core::ErrorCode::kCancelled,
              .reason = "CANCELLED",
              .message = "the caller cancelled the call"};
    case Admission::Refusal::kClosed:
      return {.code = core::ErrorCode::kUnavailable,
              .reason = "SHUTTING_DOWN",
              .message = "the server is shutting down"};
    case Admission::Refusal::kQueueFull:
    case Admission::Refusal::kQueueTimeout:
      return {.code = core::ErrorCode::kResourceExhausted,
              .reason = "SHED",
              .message = "the server has as many requests in progress as it may have",
              .retry_after = std::chrono::seconds(1)};
  }
  HOLDFAST_CHECK(false);
}

core::Task<Admission::Entry> Engine::Enter(std::string route, CallContext context) {
  const auto found = routes_.find(route);
  const Route unknown;
  const TimePlan plan(found == routes_.end() ? unknown : found->second->options(), context.arrival,
                      context.deadline, options_.max_timeout);
  co_return co_await admission_.Enter(loop_, plan.Remaining(loop_.Now()), context.cancelled);
}

core::Task<core::Result> Engine::Run(core::Request request, CallContext context,
                                     std::optional<Admission::Ticket> ticket,
                                     core::AnswerStream* stream) {
  const auto found = routes_.find(request.route);
  HOLDFAST_CHECK(found != routes_.end());
  LiveRoute& route = *found->second;
  Call call(*this, request, context, route, stream);

  if (call.Expired()) {
    call.SettleExpired();
    co_return call.Finish();
  }
  // A local, so that the place is free again before whoever awaits this call can answer it.
  Admission::Entry entry;
  entry.ticket = std::move(ticket);
  if (!entry.ticket) {
    entry = co_await admission_.Enter(loop_, call.plan().Remaining(loop_.Now()), context.cancelled);
  }
  if (!entry.ticket) {
    call.SettleShed(*entry.refusal);
    co_return call.Finish();
  }
  const RetryBudget::InProgress in_progress(route.budget());
  if (call.Expired()) call.SettleExpired();

  if (!call.settled()) co_await call.ServePreferred();
  if (!call.settled()) co_await call.WalkChain();
  call.ShareAnswer();
  if (!call.settled()) co_await call.ServeStale();
  if (!call.settled()) co_await call.ServePartial();
  if (!call.settled()) call.SettleFailed();
  co_return call.Finish();
}

core::Provider& Engine::ProviderOf(const core::TargetName& name) const {
  for (const auto& [target, provider] : providers_) {
    if (target == name) return *provider;
  }
  HOLDFAST_CHECK(false);
}

}  // namespace holdfast::resilience
