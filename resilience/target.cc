#include "resilience/target.h"

namespace holdfast::resilience {

TargetSet::TargetSet(std::vector<TargetOptions> targets, const core::Clock& clock,
                     core::Random& random, Listener listener) {
  for (TargetOptions& options : targets) {
    Credential& credential = credentials_[options.name.provider];
    Breaker::Listener on_event;
    if (listener) {
      on_event = [listener, name = options.name](const BreakerEvent& event) {
        listener(name, event);
      };
    }
    targets_.push_back(std::make_unique<Target>(std::move(options), credential, clock, random,
                                                std::move(on_event)));
  }
}

Target* TargetSet::Find(const core::TargetName& name) const {
  for (const auto& target : targets_) {
    if (target->options.name == name) return target.get();
  }
  return nullptr;
}

}  // namespace holdfast::resilience
