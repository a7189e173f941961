#include "cache/error_watch.h"

#include <algorithm>
#include <utility>

namespace holdfast::cache {

ErrorWatch::ErrorWatch(ErrorWatchOptions options, const core::Clock& clock, core::Random& random)
    : share_(options.share), cpu_(options.cpu), clock_(clock), random_(random) {
  for (auto& [name, route] : options.routes) {
    ErrorCurve curve(route.configured);
    State& state =
        routes_.emplace(name, State{std::move(route), std::move(curve), {}, false}).first->second;
    std::sort(state.options.configured.begin(), state.options.configured.end());
    Choose(state);
  }
}

std::optional<core::Duration> ErrorWatch::Take(const std::string& route, bool busy) {
  if (share_ <= 0 || random_.Uniform() >= share_) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto state = routes_.find(route);
  if (state == routes_.end()) return std::nullopt;
  if (busy || clock_.Now() < rest_until_) {
    ++spared_;
    return std::nullopt;
  }
  ++taken_;
  return state->second.options.max_age;
}

void ErrorWatch::Add(const std::string& route, double similarity, bool wrong) {
  const std::lock_guard lock(mutex_);
  const auto state = routes_.find(route);
  if (state == routes_.end()) return;
  state->second.curve.Add(similarity, wrong);
  state->second.changed = true;
  Choose(state->second);
}

void ErrorWatch::Restore(const std::string& route, const std::vector<ErrorCurve::Sample>& samples) {
  const std::lock_guard lock(mutex_);
  const auto state = routes_.find(route);
  if (state == routes_.end()) return;
  for (const auto& [similarity, wrong] : samples) state->second.curve.Add(similarity, wrong);
  Choose(state->second);
}

std::vector<std::pair<std::string, std::vector<ErrorCurve::Sample>>> ErrorWatch::TakeChanged() {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, std::vector<ErrorCurve::Sample>>> changed;
  for (auto& [name, state] : routes_) {
    if (!std::exchange(state.changed, false)) continue;
    changed.emplace_back(name, std::vector<ErrorCurve::Sample>(state.curve.window().begin(),
                                                               state.curve.window().end()));
  }
  return changed;
}

std::vector<std::string> ErrorWatch::Routes() const {
  std::vector<std::string> routes;
  for (const auto& [name, state] : routes_) routes.push_back(name);  // fixed
  return routes;
}

void ErrorWatch::NoteCost(core::Duration spent) {
  const std::lock_guard lock(mutex_);
  // Two at once rest for both.
  const core::SteadyTime from = std::max(rest_until_, clock_.Now());
  rest_until_ = core::SaturatingAdd(from, core::Scale(spent, 1 / cpu_ - 1));
}

void ErrorWatch::Choose(State& state) {
  state.thresholds.clear();
  for (const double configured : state.options.configured) {
    RouteErrors::InForce in_force{configured, {.threshold = configured}};
    if (state.options.max_error) {
      in_force.choice = state.curve.Choose(configured, *state.options.max_error);
    }
    state.thresholds.push_back(in_force);
  }
}

ErrorCurve::Choice ErrorWatch::Raise(const std::string& route, double threshold) const {
  const std::lock_guard lock(mutex_);
  ErrorCurve::Choice raised{.threshold = threshold};
  const auto state = routes_.find(route);
  if (state == routes_.end()) return raised;
  for (const RouteErrors::InForce& in_force : state->second.thresholds) {
    if (in_force.configured > threshold) continue;
    if (in_force.choice.threshold < raised.threshold) {
      raised.state = in_force.choice.state;  // its own is higher
      raised.needed = in_force.choice.needed;
    } else {
      raised = in_force.choice;
    }
  }
  return raised;
}

std::vector<RouteErrors> ErrorWatch::Report() const {
  const std::lock_guard lock(mutex_);
  std::vector<RouteErrors> report;
  for (const auto& [name, state] : routes_) {
    report.push_back({name, state.curve.samples(), state.options.max_error, state.thresholds,
                      state.curve.Points()});
  }
  return report;
}

}  // namespace holdfast::cache
