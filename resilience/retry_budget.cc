#include "resilience/retry_budget.h"

#include <algorithm>
#include <utility>

namespace holdfast::resilience {
namespace {

// Ten credits of 0.1 pay for one retry, though their sum as doubles is a little below 1.
constexpr double kRounding = 1e-9;

}  // namespace

RetryBudget::Token::Token(RetryBudget* budget, double cost) : budget_(budget), cost_(cost) {}

RetryBudget::Token::Token(Token&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)), cost_(other.cost_) {}

RetryBudget::Token& RetryBudget::Token::operator=(Token&& other) noexcept {
  if (this == &other) return *this;
  Token old(std::move(*this));
  budget_ = std::exchange(other.budget_, nullptr);
  cost_ = other.cost_;
  return *this;
}

RetryBudget::Token::~Token() {
  if (budget_) budget_->Settle(0);
}

void RetryBudget::Token::Refund() {
  if (RetryBudget* budget = std::exchange(budget_, nullptr)) budget->Settle(cost_);
}

RetryBudget::InProgress::InProgress(RetryBudget& budget) : budget_(budget) {
  std::lock_guard lock(budget_.mutex_);
  ++budget_.in_progress_;
}

RetryBudget::InProgress::~InProgress() {
  std::lock_guard lock(budget_.mutex_);
  --budget_.in_progress_;
}

RetryBudget::RetryBudget(RetryBudgetOptions options, const core::Clock& clock,
                         std::optional<double> initial)
    : options_(options),
      clock_(clock),
      level_(std::clamp(initial.value_or(options.tokens), 0.0, options.tokens)),
      filled_at_(clock.Now()) {}

RetryBudget::Withdrawal RetryBudget::Withdraw(double cost) {
  std::lock_guard lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  level_ = LevelAt(now);
  filled_at_ = now;
  if (level_ + kRounding < cost) return {.denied = Denial::kTokens};
  if (!MayFly()) return {.denied = Denial::kInFlight};
  level_ = std::max(0.0, level_ - cost);
  ++in_flight_;
  return {.token = Token(this, cost)};
}

void RetryBudget::OnFirstAttemptSuccess() {
  std::lock_guard lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  level_ = std::min(options_.tokens, LevelAt(now) + options_.per_success);
  filled_at_ = now;
}

double RetryBudget::level() const {
  std::lock_guard lock(mutex_);
  return LevelAt(clock_.Now());
}

int RetryBudget::in_flight() const {
  std::lock_guard lock(mutex_);
  return in_flight_;
}

void RetryBudget::Settle(double refund) {
  std::lock_guard lock(mutex_);
  const core::SteadyTime now = clock_.Now();
  level_ = std::min(options_.tokens, LevelAt(now) + refund);
  filled_at_ = now;
  --in_flight_;
}

double RetryBudget::LevelAt(core::SteadyTime now) const {
  const double trickle = options_.per_minute * core::ToSeconds(now - filled_at_) / 60;
  return std::min(options_.tokens, level_ + trickle);
}

// One more retry stays within max(min_in_flight, in_flight_ratio * in_progress_). A quotient, since
// it rounds to the same double as the configured decimal; a product may not.
bool RetryBudget::MayFly() const {
  const int wanted = in_flight_ + 1;
  return wanted <= options_.min_in_flight ||
         (in_progress_ > 0 &&
          static_cast<double>(wanted) / in_progress_ <= options_.in_flight_ratio);
}

}  // namespace holdfast::resilience
