#pragma once

// The live state of deployments, shared by all routes and loops: a breaker, a limiter and a
// cooldown for each target (provider entry and model), a cooldown and a quarantine for each
// credential (provider entry). Thread safe; owned by the server, outlives every engine.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/answer.h"
#include "core/outcome.h"
#include "resilience/breaker.h"
#include "resilience/cooldown.h"
#include "resilience/first_token_times.h"
#include "resilience/limiter.h"

namespace holdfast::resilience {

// What a 429 binds.
enum class RateLimitScope { kTarget, kCredential };

struct TargetOptions {
  core::TargetName name;
  BreakerOptions breaker;
  LimiterOptions limiter;
  RateLimitScope rate_limit_scope = RateLimitScope::kTarget;
};

struct Credential {
  Cooldown cooldown;
  CredentialQuarantine quarantine;
};

class Target {
 public:
  Target(TargetOptions target_options, Credential& shared_credential, const core::Clock& clock,
         core::Random& random, Breaker::Listener listener)
      : options(std::move(target_options)),
        credential(shared_credential),
        breaker(options.breaker, clock, random, std::move(listener)),
        limiter(options.limiter, clock) {}

  const TargetOptions options;
  Credential& credential;
  Breaker breaker;
  Limiter limiter;
  Cooldown cooldown;
  FirstTokenTimes first_token_times;
  std::atomic<int> cooldown_waiters = 0;
  // It was once asked to continue a prefix and rejected the request.
  std::atomic<bool> refuses_prefix = false;
  std::atomic<core::OutcomeKind> last_failure = core::OutcomeKind::kComplete;

  // Both cooldowns, the target's and the credential's.
  core::SteadyTime CooldownUntil() const {
    return std::max(cooldown.until(), credential.cooldown.until());
  }
};

class TargetSet {
 public:
  using Listener = std::function<void(const core::TargetName&, const BreakerEvent&)>;

  TargetSet(std::vector<TargetOptions> targets, const core::Clock& clock, core::Random& random,
            Listener listener);

  Target* Find(const core::TargetName& name) const;  // null if unknown
  const std::vector<std::unique_ptr<Target>>& all() const { return targets_; }

 private:
  std::map<std::string, Credential> credentials_;  // by provider entry
  std::vector<std::unique_ptr<Target>> targets_;
};

}  // namespace holdfast::resilience
