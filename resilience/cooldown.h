#pragma once

// A not-before instant of a target or a credential, told by the provider (Retry-After, quota) or
// decided by us (quarantine of a credential). It only ever moves later. Thread safe.

#include <atomic>
#include <mutex>
#include <string>

#include "core/clock.h"

namespace holdfast::resilience {

class Cooldown {
 public:
  // No request that uses what this binds is sent before `until`.
  void ExtendTo(core::SteadyTime until, std::string reason);  // "rate_limited", "quota", "auth"

  bool Passed(core::SteadyTime now) const;
  core::SteadyTime until() const;  // the epoch's start if never set
  std::string reason() const;      // of the latest extension

 private:
  std::atomic<core::SteadyTime> until_{core::SteadyTime{}};  // written under mutex_
  mutable std::mutex mutex_;
  std::string reason_;
};

// 401 and 403: after two in a row (over all targets of the credential) the credential rests for
// 5 min, doubling with each further one up to 1 h; a success that used the credential ends the
// row and the doubling.
class CredentialQuarantine {
 public:
  // The length of the cooldown that this failure brings; zero for the first of a row.
  core::Duration OnAuthFailure();
  void OnAuthSuccess();

 private:
  std::mutex mutex_;
  int row_ = 0;
};

}  // namespace holdfast::resilience
