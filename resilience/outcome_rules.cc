#include "resilience/outcome_rules.h"

#include "core/check.h"

namespace holdfast::resilience {
namespace rows {

using B = OutcomeRule::BreakerEffect;
using L = OutcomeRule::LimiterEffect;
using S = OutcomeRule::SameTarget;
using N = OutcomeRule::NextTarget;
using C = OutcomeRule::Cooldown;

constexpr OutcomeRule kComplete{B::kSuccess, L::kSuccess, S::kNever, N::kNo, C::kNone};
constexpr OutcomeRule kRefusal{B::kSuccess, L::kSuccess, S::kNever, N::kIfRouteSays, C::kNone};
constexpr OutcomeRule kBadRequest{.breaker = B::kNeutral,
                                  .limiter = L::kSuccess,
                                  .same = S::kNever,
                                  .next = N::kIfNotAtFault,
                                  .cooldown = C::kNone,
                                  .request_at_fault = true};
constexpr OutcomeRule kContextLength{.breaker = B::kNeutral,
                                     .limiter = L::kSuccess,
                                     .same = S::kNever,
                                     .next = N::kLargerContext,
                                     .cooldown = C::kNone,
                                     .request_at_fault = true};
constexpr OutcomeRule kModelNotFound{.breaker = B::kNeutral,
                                     .limiter = L::kIgnore,
                                     .same = S::kNever,
                                     .next = N::kYes,
                                     .cooldown = C::kIfTold,
                                     .salvage = true};
constexpr OutcomeRule kAuth{.breaker = B::kNeutral,
                            .limiter = L::kIgnore,
                            .same = S::kNever,
                            .next = N::kYes,
                            .cooldown = C::kQuarantine,
                            .salvage = true};
constexpr OutcomeRule kQuota{.breaker = B::kNeutral,
                             .limiter = L::kIgnore,
                             .same = S::kNever,
                             .next = N::kYes,
                             .cooldown = C::kQuota,
                             .salvage = true};
constexpr OutcomeRule kRateLimited{.breaker = B::kNeutral,
                                   .limiter = L::kDrop,
                                   .same = S::kAfterWait,
                                   .next = N::kYes,
                                   .cooldown = C::kRateLimit,
                                   .salvage = true};
constexpr OutcomeRule kRequestTimeout{.breaker = B::kFailure,
                                      .limiter = L::kIgnore,
                                      .same = S::kOnce,
                                      .next = N::kYes,
                                      .cooldown = C::kIfTold,
                                      .salvage = true};
constexpr OutcomeRule kConflict{.breaker = B::kNeutral,
                                .limiter = L::kIgnore,
                                .same = S::kOnce,
                                .next = N::kYes,
                                .cooldown = C::kIfTold,
                                .salvage = true};
constexpr OutcomeRule kServerError{.breaker = B::kFailure,
                                   .limiter = L::kIgnore,
                                   .same = S::kYes,
                                   .next = N::kYes,
                                   .cooldown = C::kIfTold,
                                   .salvage = true};
constexpr OutcomeRule kMalformed = kServerError;
constexpr OutcomeRule kOverloaded{.breaker = B::kFailure,
                                  .limiter = L::kDrop,
                                  .same = S::kYes,
                                  .next = N::kPreferred,
                                  .cooldown = C::kIfTold,
                                  .salvage = true};
constexpr OutcomeRule kInvalidJson{B::kNeutral, L::kIgnore, S::kOnce, N::kYes, C::kNone};
constexpr OutcomeRule kConnect{B::kFailure, L::kIgnore, S::kYes, N::kYes, C::kNone};
constexpr OutcomeRule kPooledReset{B::kNeutral, L::kIgnore, S::kResend, N::kYes, C::kNone};
constexpr OutcomeRule kCut{.breaker = B::kFailure,
                           .limiter = L::kIgnore,
                           .same = S::kYes,
                           .next = N::kYes,
                           .cooldown = C::kIfTold,
                           .maybe_billed = true,
                           .salvage = true};
constexpr OutcomeRule kTimeout{.breaker = B::kFailure,
                               .limiter = L::kDrop,
                               .same = S::kIfNoOtherTarget,
                               .next = N::kYes,
                               .cooldown = C::kNone,
                               .maybe_billed = true,
                               .salvage = true};
constexpr OutcomeRule kTimeoutShortened{.breaker = B::kCensored,
                                        .limiter = L::kIgnore,
                                        .same = S::kNever,
                                        .next = N::kYes,
                                        .cooldown = C::kNone,
                                        .salvage = true};
constexpr OutcomeRule kOutOfTime{.breaker = B::kNeutral,
                                 .limiter = L::kIgnore,
                                 .same = S::kNever,
                                 .next = N::kYes,
                                 .cooldown = C::kNone,
                                 .salvage = true};
constexpr OutcomeRule kPaused{B::kNeutral, L::kIgnore, S::kNever, N::kNo, C::kNone};
// Of a first target; a hedge that lost is neutral.
constexpr OutcomeRule kBeaten{B::kCensored, L::kIgnore, S::kNever, N::kNo, C::kNone};
constexpr OutcomeRule kCancelled{B::kCensored, L::kIgnore, S::kNever, N::kNo, C::kNone};

}  // namespace rows

const OutcomeRule& RuleOf(core::OutcomeKind kind) {
  using Kind = core::OutcomeKind;
  switch (kind) {
    case Kind::kComplete:
      return rows::kComplete;
    case Kind::kRefusal:
      return rows::kRefusal;
    case Kind::kBadRequest:
      return rows::kBadRequest;
    case Kind::kContextLength:
      return rows::kContextLength;
    case Kind::kModelNotFound:
      return rows::kModelNotFound;
    case Kind::kAuth:
      return rows::kAuth;
    case Kind::kQuota:
      return rows::kQuota;
    case Kind::kRateLimited:
      return rows::kRateLimited;
    case Kind::kRequestTimeout:
      return rows::kRequestTimeout;
    case Kind::kConflict:
      return rows::kConflict;
    case Kind::kServerError:
      return rows::kServerError;
    case Kind::kMalformed:
      return rows::kMalformed;
    case Kind::kOverloaded:
      return rows::kOverloaded;
    case Kind::kInvalidJson:
      return rows::kInvalidJson;
    case Kind::kConnect:
      return rows::kConnect;
    case Kind::kPooledReset:
      return rows::kPooledReset;
    case Kind::kCut:
      return rows::kCut;
    case Kind::kTimeout:
      return rows::kTimeout;
    case Kind::kTimeoutShortened:
      return rows::kTimeoutShortened;
    case Kind::kOutOfTime:
      return rows::kOutOfTime;
    case Kind::kPaused:
      return rows::kPaused;
    case Kind::kBeaten:
      return rows::kBeaten;
    case Kind::kCancelled:
      return rows::kCancelled;
  }
  HOLDFAST_CHECK(false);
}

}  // namespace holdfast::resilience
