// Hedging (section 11): a second target is asked while the first one is silent, and whoever brings
// content first is the one that is heard. Source: Dean and Barroso, "The Tail at Scale", 2013.

#include <algorithm>
#include <utility>

#include "resilience/backoff.h"
#include "resilience/call.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using core::OutcomeKind;

// Whether an end of one attempt ends the race: everything but a failure that another attempt can
// make good.
bool Decides(const AttemptEnd& end) {
  const OutcomeRule& rule = RuleOf(end.outcome.kind);
  return end.has_content() || rule.request_at_fault ||
         (rule.next == OutcomeRule::NextTarget::kNo && end.outcome.kind != OutcomeKind::kBeaten) ||
         end.outcome.kind == OutcomeKind::kRefusal;
}

// Whether another attempt may be made at once for it.
bool WorthAHedge(const core::Outcome& outcome) {
  const OutcomeRule& rule = RuleOf(outcome.kind);
  return rule.same != OutcomeRule::SameTarget::kNever && outcome.should_retry != false;
}

}  // namespace

bool Call::MayHedge(const StepRun& run) const {
  return hedge_ && !delivery_.committed() && run.index + 1 < steps_ &&
         route_.target(run.index).first_token_times.P95().has_value();
}

// The attempt of `run`, and hedges beside it. Gives back the one that decides, once all are over;
// the others are booked by then.
core::Task<std::unique_ptr<Call::Flight>> Call::FlyHedged(StepRun run, Permits permits) {
  core::Loop& loop = engine_.loop_;
  const Duration delay =
      std::max(hedge_->delay, route_.target(run.index).first_token_times.P95().value());
  core::Bell bell(loop);
  Flights air;
  size_t furthest = run.index;
  bool heard = false;
  bool due = false;
  core::TimerId timer = 0;

  const auto arm = [&] {
    timer = loop.CallAt(core::SaturatingAdd(loop.Now(), delay), [&] {
      due = true;
      bell.Ring();
    });
  };
  const auto launch = [&](StepRun next, Permits held, bool hedge) {
    furthest = next.index;
    auto flight = Depart(std::move(next), std::move(held), [&, index = furthest] {
      heard = true;
      Beat(air, index);
    });
    flight->hedge = hedge;
    air.push_back(std::move(flight));
    core::Spawn(FlyAndRing(*air.back(), bell));
  };
  const auto launch_hedge = [&] {
    std::optional<HedgeStart> start = FindHedge(furthest);
    if (start) launch(std::move(start->run), std::move(start->permits), /*hedge=*/true);
    return start.has_value();
  };

  launch(std::move(run), std::move(permits), /*hedge=*/false);
  arm();
  std::unique_ptr<Flight> decided;
  while (true) {
    if (std::unique_ptr<Flight> down = TakeLanded(air)) {
      if (!decided && Decides(*down->end)) {
        Beat(air, down->run.index);
        decided = std::move(down);
      } else if (!decided && air.empty()) {
        const bool more = !down->hedge && WorthAHedge(down->end->outcome) && launch_hedge();
        more ? BookLoser(*down) : void(decided = std::move(down));
      } else {
        BookLoser(*down);
      }
      if (decided && air.empty()) break;
    } else if (std::exchange(due, false) && !heard && !decided) {
      const size_t hedges = std::ranges::count_if(air, [](const auto& f) { return f->hedge; });
      if (hedges < static_cast<size_t>(hedge_->max) && launch_hedge()) arm();
    } else {
      co_await bell;
    }
  }
  loop.CancelTimer(timer);
  co_return decided;
}

core::Task<void> Call::FlyAndRing(Flight& flight, core::Bell& bell) {
  co_await Fly(flight);
  bell.Ring();
}

// The next target that would take a hedge now, with all that it costs; nothing = denied.
std::optional<Call::HedgeStart> Call::FindHedge(size_t after) {
  if (TimeIsUp()) return std::nullopt;
  for (size_t i = after + 1; i < steps_; ++i) {
    if (attempts_used_ + 1 + Later(i) > options_.retry.max_attempts) return std::nullopt;
    Target& target = route_.target(i);
    if (!WhyNot(options_.chain[i]).empty() || target.CooldownUntil() > Now() ||
        !target.limiter.WouldAdmit() || target.breaker.Snapshot().state != BreakerState::kClosed) {
      continue;
    }
    RetryBudget::Withdrawal withdrawal = route_.budget().Withdraw(1);
    if (!withdrawal.token) return std::nullopt;
    std::string denied;
    std::optional<Permits> permits = Acquire(target, denied);
    if (!permits) {
      withdrawal.token->Refund();
      continue;
    }
    HedgeStart start{StartOf(i), std::move(*permits)};
    start.run.token = std::move(withdrawal.token);
    return start;
  }
  return std::nullopt;
}

std::unique_ptr<Call::Flight> Call::TakeLanded(Flights& air) {
  const auto landed = std::ranges::find_if(air, [](const auto& f) { return f->end.has_value(); });
  if (landed == air.end()) return nullptr;
  std::unique_ptr<Flight> flight = std::move(*landed);
  air.erase(landed);
  return flight;
}

void Call::Beat(Flights& air, size_t winner) {
  for (const auto& flight : air) {
    if (flight->run.index != winner) flight->beaten.request_stop();
  }
}

void Call::BookLoser(Flight& flight) {
  Report(flight);
  const AttemptEnd& end = *flight.end;
  BindCooldown(route_.target(flight.run.index), end,
               FullJitter(options_.retry.backoff, 0, engine_.random_));
  core::AttemptRecord& record = Record(options_.chain[flight.run.index], end, flight.run.delay);
  record.retry_skipped = "hedged";
  ends_[flight.run.index] = EndOf(end.outcome);
  engine_.observer_.OnAttempt(request_, record);
}

}  // namespace holdfast::resilience
