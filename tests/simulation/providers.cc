#include "tests/simulation/providers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/wait.h"

namespace holdfast::simulation {
namespace {

using core::Duration;
using core::Outcome;
using core::OutcomeKind;
using core::SteadyTime;

Outcome Ended(OutcomeKind kind, int status = 0) {
  Outcome outcome;
  outcome.kind = kind;
  outcome.http_status = status;
  return outcome;
}

std::string AnswerTo(const core::Request& request) {
  const auto& text = std::get<core::Text>(request.messages.back().parts.front()).text;
  return "The answer to: " + text;
}

}  // namespace

std::vector<Episode> MakeEpisodes(uint64_t seed, SteadyTime start, Duration length, double down,
                                  Duration mean_length, const std::vector<Trouble>& troubles) {
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> exponential(1.0);
  std::vector<Episode> episodes;
  Duration left = core::Scale(length, down);
  // Episodes stand in equal slots of the time, each at a random place of its own.
  const auto count =
      std::max<int64_t>(1, std::llround(core::ToSeconds(left) / core::ToSeconds(mean_length)));
  const Duration slot = length / count;
  for (int64_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    const Duration drawn = core::Scale(mean_length, 0.2 + 0.8 * exponential(random));
    const Duration lasts = std::min({last ? left : std::min(drawn, left), slot / 2});
    left -= lasts;
    const double place = std::uniform_real_distribution<double>(0, 1)(random);
    const SteadyTime begin = start + slot * i + core::Scale(slot - lasts, place);
    episodes.push_back({begin, begin + lasts, troubles[random() % troubles.size()]});
  }
  return episodes;
}

CalendarProvider::CalendarProvider(core::Loop& loop, uint64_t seed, std::vector<Episode> episodes,
                                   double calls_per_second)
    : loop_(loop),
      random_(seed),
      episodes_(std::move(episodes)),
      calls_per_second_(calls_per_second),
      tokens_(calls_per_second * 10),
      refilled_(loop.Now()) {}

const Episode* CalendarProvider::Current() const {
  const SteadyTime now = loop_.Now();
  for (const Episode& episode : episodes_) {
    if (episode.begin <= now && now < episode.end) return &episode;
  }
  return nullptr;
}

core::Task<Outcome> CalendarProvider::Stream(const core::Request& request,
                                             const core::Attempt& attempt,
                                             core::AttemptSink& sink) {
  ++calls_;
  if (loop_.Now() < not_before_) ++too_soon_;
  if (OverLimit()) {
    sink.OnConnected();
    co_return RateLimited(core::FromSeconds(1 + 4 * Draw()));
  }
  const Episode* episode = Current();
  if (episode != nullptr && episode->trouble != Trouble::kSlow) {
    core::Task<Outcome> failing = Fail(episode->trouble, attempt, sink);
    co_return co_await std::move(failing);
  }
  core::Task<Outcome> answering =
      Answer(AnswerTo(request), episode != nullptr ? 10 : 1, attempt, sink);
  co_return co_await std::move(answering);
}

core::Task<Outcome> CalendarProvider::Fail(Trouble trouble, const core::Attempt& attempt,
                                           core::AttemptSink& sink) {
  const SteadyTime soon = loop_.Now() + core::FromSeconds(0.02 + 0.1 * Draw());
  const bool waits = trouble != Trouble::kRefuses;
  if (waits) sink.OnConnected();
  if (!co_await core::Sleep(loop_, soon, attempt.stop)) co_return Ended(OutcomeKind::kCancelled);
  switch (trouble) {
    case Trouble::kRefuses:
      co_return Ended(OutcomeKind::kConnect);
    case Trouble::kErrors:
      co_return Ended(OutcomeKind::kServerError, 500);
    case Trouble::kRateLimits:
      co_return RateLimited(core::FromSeconds(1 + 20 * Draw()));
    case Trouble::kOverloaded:
      co_return Ended(OutcomeKind::kOverloaded, 529);
    case Trouble::kEmpty:
      co_return Ended(OutcomeKind::kMalformed, 200);
    case Trouble::kCuts:
      sink.OnText("The answer to");
      co_return Ended(OutcomeKind::kCut, 200);
    case Trouble::kStalls:
      sink.OnText("The answer to");
      break;
    case Trouble::kHangs:
    case Trouble::kSlow:
      break;
  }
  co_await core::Sleep(loop_, SteadyTime::max(), attempt.stop);
  co_return Ended(OutcomeKind::kCancelled);
}

core::Task<Outcome> CalendarProvider::Answer(std::string text, double slowness,
                                             const core::Attempt& attempt,
                                             core::AttemptSink& sink) {
  sink.OnConnected();
  const auto pause = [&](double seconds) {
    return loop_.Now() + core::FromSeconds(slowness * seconds);
  };
  if (!co_await core::Sleep(loop_, pause(0.2 + 0.8 * Draw()), attempt.stop)) {
    co_return Ended(OutcomeKind::kCancelled);
  }
  sink.OnText(text.substr(0, text.size() / 2));
  if (!co_await core::Sleep(loop_, pause(0.5 + 2 * Draw()), attempt.stop)) {
    co_return Ended(OutcomeKind::kCancelled);
  }
  sink.OnText(text.substr(text.size() / 2));
  sink.OnUsage({.input_tokens = 200, .output_tokens = 300});
  sink.OnFinish(core::FinishReason::kStop);
  co_return Ended(OutcomeKind::kComplete, 200);
}

Outcome CalendarProvider::RateLimited(Duration retry_after) {
  Outcome outcome = Ended(OutcomeKind::kRateLimited, 429);
  outcome.retry_after = retry_after;
  not_before_ = std::max(not_before_, loop_.Now() + retry_after);
  return outcome;
}

bool CalendarProvider::OverLimit() {
  if (calls_per_second_ == 0) return false;
  const SteadyTime now = loop_.Now();
  tokens_ = std::min(calls_per_second_ * 10,
                     tokens_ + core::ToSeconds(now - refilled_) * calls_per_second_);
  refilled_ = now;
  if (tokens_ < 1) return true;
  tokens_ -= 1;
  return false;
}

double CalendarProvider::Draw() { return static_cast<double>(random_() >> 11) * 0x1.0p-53; }

}  // namespace holdfast::simulation
