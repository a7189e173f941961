#pragma once

// How much extra load retries and hedges may put on providers, one for each route. Two limits that
// both must allow: a token bucket fed by successes and by time (gRPC proposal A6, with a trickle),
// and a cap on the retries in flight as a share of the requests in progress (Envoy's retry budget).
// Thread safe; never blocks, never goes below zero.

#include <cstdint>
#include <mutex>
#include <optional>

#include "core/clock.h"

namespace holdfast::resilience {

struct RetryBudgetOptions {
  double tokens = 10;            // the bucket's size; full at start. > 0
  double per_success = 0.1;      // credit for a success on a first attempt. >= 0
  double per_minute = 3;         // credit for time. >= 0
  int min_in_flight = 3;         // this many retries may always be in flight. >= 0
  double in_flight_ratio = 0.2;  // of the requests in progress. [0, 1]

  friend bool operator==(const RetryBudgetOptions&, const RetryBudgetOptions&) = default;
};

class RetryBudget {
 public:
  // A withdrawn token. Destroyed: the retry is over (no longer in flight), the token stays spent.
  class Token {
   public:
    Token(Token&& other) noexcept;
    Token& operator=(Token&& other) noexcept;
    ~Token();
    void Refund();  // the retry was not made: gives the cost back

   private:
    friend class RetryBudget;
    Token(RetryBudget* budget, double cost);
    RetryBudget* budget_;
    double cost_;
  };

  // A request in progress on the route, for the in-flight share. RAII.
  class InProgress {
   public:
    explicit InProgress(RetryBudget& budget);
    ~InProgress();
    InProgress(const InProgress&) = delete;
    InProgress& operator=(const InProgress&) = delete;

   private:
    RetryBudget& budget_;
  };

  enum class Denial { kTokens, kInFlight };
  struct Withdrawal {
    std::optional<Token> token;    // granted
    std::optional<Denial> denied;  // otherwise
  };

  // `initial`: tokens at start; default full.
  RetryBudget(RetryBudgetOptions options, const core::Clock& clock,
              std::optional<double> initial = std::nullopt);

  // cost 1; 2 after a timeout or a cut stream, which may be billed.
  Withdrawal Withdraw(double cost);
  void OnFirstAttemptSuccess();

  double level() const;  // with the trickle up to now
  int in_flight() const;
  const RetryBudgetOptions& options() const { return options_; }

 private:
  void Settle(double refund);
  double LevelAt(core::SteadyTime now) const;
  bool MayFly() const;

  const RetryBudgetOptions options_;
  const core::Clock& clock_;
  mutable std::mutex mutex_;
  double level_;
  core::SteadyTime filled_at_;
  int in_flight_ = 0;
  int in_progress_ = 0;
};

}  // namespace holdfast::resilience
