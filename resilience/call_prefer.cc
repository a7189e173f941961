// Call's first rung where the cache is preferred: a stored answer, or that of an identical request
// in progress, before any target is asked.

#include <algorithm>
#include <utility>

#include "resilience/call.h"
#include "resilience/single_flight.h"

namespace holdfast::resilience {
namespace {

using core::Duration;

// A lookup may hold an answer up for as long as it may at the ladder's end.
constexpr Duration kPreferredLookup = std::chrono::milliseconds(150);

}  // namespace

core::Task<void> Call::ServePreferred() {
  const auto mode = request_.cache.mode.value_or(options_.cache.mode);
  if (mode != core::CacheControl::Mode::kPrefer || !AsksCache() || TimeIsUp()) co_return;
  const core::CacheQuery query =
      QueryOf(std::max(options_.cache.prefer_similarity, options_.cache.min_similarity));
  const Duration time = std::min(kPreferredLookup, Remaining() - options_.min_useful);
  std::optional<core::CacheHit> hit =
      co_await engine_.cache_->Lookup(engine_.loop_, request_, query, Now() + time);
  SettleIfCancelled();
  if (settled()) co_return;
  if (hit) {
    SettleHit(*std::move(hit), core::Degradation::kNone);
  } else {
    co_await FollowLeader(query.min_similarity);
  }
}

// Half of what remains may go into waiting for another one's answer; the rest is for an own one.
core::Task<void> Call::FollowLeader(double threshold) {
  const Duration patience = Remaining() / 2;
  if (patience < options_.min_useful) co_return;
  std::string key = FlightKey(engine_.cache_->QuestionId(request_), request_);
  SingleFlight::Boarding boarding = co_await route_.flights().Board(
      engine_.loop_, std::move(key), Now() + patience, interrupt_.get_token());
  SettleIfCancelled();
  if (settled()) co_return;
  lead_ = std::move(boarding.lead);
  if (boarding.landed == nullptr || boarding.landed->answer.degradation > Worst()) co_return;
  const core::Answer& shared = boarding.landed->answer;
  if (!boarding.landed->stored && !request_.cache.no_store) {
    engine_.cache_->Store(request_, {.text = shared.text,
                                     .provider = shared.served_by->provider,
                                     .model = shared.served_by->model});
  }
  core::CacheHit hit{.text = shared.text, .similarity = 1, .threshold = threshold, .cosine = 1};
  hit.created_at = engine_.loop_.clock().WallNow();
  hit.provider = shared.served_by->provider;
  hit.model = shared.served_by->model;
  SettleHit(std::move(hit), shared.degradation);
}

// What may be shared is what may be stored: a whole answer of the chain.
void Call::ShareAnswer() {
  if (lead_ == nullptr) return;
  const auto* answer = settled_ ? std::get_if<core::Answer>(&*settled_) : nullptr;
  const bool whole = answer != nullptr &&
                     answer->degradation <= core::Degradation::kFallbackModel &&
                     answer->finish_reason == core::FinishReason::kStop &&
                     answer->tool_calls.empty() && !answer->text.empty() && answer->served_by;
  if (whole) lead_->Land({*answer, !request_.cache.no_store});
  lead_.reset();
}

}  // namespace holdfast::resilience
