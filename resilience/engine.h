#pragma once

// The request's path: admission, the chain with its retries, the stale answer, the partial answer,
// the typed error. Read Engine::Run first; the whole product is there.
//
// One Engine for each loop, used only on that loop's thread. What must be shared (admission, routes
// with their retry budgets, targets, cache) is borrowed, thread safe, and outlives every engine and
// every call in progress.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/answer.h"
#include "core/answer_cache.h"
#include "core/answer_stream.h"
#include "core/loop.h"
#include "core/provider.h"
#include "core/random.h"
#include "core/task.h"
#include "resilience/admission.h"
#include "resilience/route.h"
#include "resilience/single_flight.h"
#include "resilience/target.h"

namespace holdfast::resilience {

// A route with its live state: its retry budget, and the targets of its steps.
class LiveRoute {
 public:
  // `targets` must know every target of the chain and the partial target.
  LiveRoute(Route route, const TargetSet& targets, const core::Clock& clock);

  const Route& options() const { return route_; }
  RetryBudget& budget() { return budget_; }
  SingleFlight& flights() { return flights_; }
  Target& target(size_t step) const { return *targets_[step]; }
  Target* partial_target() const { return partial_target_; }

 private:
  const Route route_;
  RetryBudget budget_;
  SingleFlight flights_;
  std::vector<Target*> targets_;  // parallel to route_.chain
  Target* partial_target_ = nullptr;
};

// Sees what happens inside a call, for the log and metrics. Called on the engine's loop.
class Observer {
 public:
  virtual ~Observer() = default;
  // An attempt has ended, or a target was skipped.
  virtual void OnAttempt(const core::Request& request, const core::AttemptRecord& record) = 0;
  // The target of `failed` will be tried again after `delay`.
  virtual void OnRetry(const core::Request& request, const core::AttemptRecord& failed,
                       core::Duration delay) = 0;
  // The call's deadline had passed by `late` before any work was done for it.
  virtual void OnExpired(const core::Request& request, core::Duration late) = 0;
};

// A call's frame, made by the server when the call arrives.
struct CallContext {
  std::string call_id;  // unique, made by the server: idempotency keys derive from it
  core::SteadyTime arrival;
  std::optional<core::SteadyTime> deadline;  // the caller's, on the steady clock
  std::stop_token cancelled;                 // the caller has gone; requested on the loop's thread
  std::stop_token hurry;  // the server drains: end by the ladder as if the time were up
};

// What a call that was not admitted ends with.
core::Error RefusalError(Admission::Refusal refusal);

struct EngineOptions {
  core::Duration max_timeout = std::chrono::seconds(300);  // the server's maximum
};

class Engine {
 public:
  using Routes = std::map<std::string, std::unique_ptr<LiveRoute>>;
  // One for each target, made for this engine's loop.
  using Providers = std::vector<std::pair<core::TargetName, std::unique_ptr<core::Provider>>>;

  // `cache` may be null: no cache.
  Engine(core::Loop& loop, core::Random& random, Admission& admission, const Routes& routes,
         core::AnswerCache* cache, Providers providers, Observer& observer,
         EngineOptions options = {});
  ~Engine();

  // For whoever will call Run but has not read the request yet: enters admission for it, so that
  // shedding costs nothing that grows with the prompt. An unknown route has the default timeout.
  core::Task<Admission::Entry> Enter(std::string route, CallContext context);

  // Answers `request`, which has been validated, before the caller's deadline. A cancelled call
  // ends as kCancelled. Enters admission itself unless the caller has. With a `stream` the answer
  // also goes there as it is made; it outlives the task.
  core::Task<core::Result> Run(core::Request request, CallContext context,
                               std::optional<Admission::Ticket> ticket = std::nullopt,
                               core::AnswerStream* stream = nullptr);

 private:
  friend class Call;

  core::Provider& ProviderOf(const core::TargetName& name) const;

  core::Loop& loop_;
  core::Random& random_;
  Admission& admission_;
  const Routes& routes_;
  core::AnswerCache* cache_;
  const Providers providers_;
  Observer& observer_;
  const EngineOptions options_;
};

}  // namespace holdfast::resilience
