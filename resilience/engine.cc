#include "resilience/engine.h"

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

core::Task<core::Result> Engine::Run(core::Request request, CallContext context) {
  const auto found = routes_.find(request.route);
  HOLDFAST_CHECK(found != routes_.end());
  LiveRoute& route = *found->second;
  Call call(*this, request, context, route);

  if (call.Expired()) {
    call.SettleExpired();
    co_return call.Finish();
  }
  Admission::Entry entry =
      co_await admission_.Enter(loop_, call.plan().Remaining(loop_.Now()), context.cancelled);
  if (!entry.ticket) {
    call.SettleShed(*entry.refusal);
    co_return call.Finish();
  }
  const RetryBudget::InProgress in_progress(route.budget());
  if (call.Expired()) call.SettleExpired();

  if (!call.settled()) co_await call.WalkChain();
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
