#pragma once

// The cache's own error rate, route by route: decides which stored answers are compared with what
// the cache would have served, keeps their curves, and raises thresholds where a route has a
// max_error. SemanticCache owns it; thread safe.

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/error_curve.h"
#include "core/clock.h"
#include "core/random.h"

namespace holdfast::cache {

struct ErrorWatchOptions {
  struct Route {
    std::vector<double> configured;   // its thresholds; never empty
    core::Duration max_age{};         // what is older would not have been served
    std::optional<double> max_error;  // (0, 1); none = thresholds stay as they are
  };
  double share = 0;  // [0, 1]: of the stored answers; 0 = off
  double cpu = 0;    // (0, 1]: of one core, at most
  std::map<std::string, Route> routes;
};

// One route's state, for people and metrics.
struct RouteErrors {
  struct InForce {
    double configured = 0;
    ErrorCurve::Choice choice;
  };
  std::string route;
  uint64_t samples = 0;  // in the window
  std::optional<double> max_error;
  std::vector<InForce> thresholds;
  std::vector<CurvePoint> curve;
};

class ErrorWatch {
 public:
  ErrorWatch(ErrorWatchOptions options, const core::Clock& clock, core::Random& random);

  // Whether the answer that is stored now shall be compared, and the age that limits the others;
  // draws by chance and keeps to the share of a core. `busy`: requests wait; then never.
  std::optional<core::Duration> Take(const std::string& route, bool busy);
  // A comparison's result, and what it cost.
  void Add(const std::string& route, double similarity, bool wrong);
  void NoteCost(core::Duration spent);

  // So that a window outlives a restart: what to add first, and which routes' have changed since
  // this was last asked.
  void Restore(const std::string& route, const std::vector<ErrorCurve::Sample>& samples);
  std::vector<std::pair<std::string, std::vector<ErrorCurve::Sample>>> TakeChanged();
  std::vector<std::string> Routes() const;

  // What max_error makes of `threshold`, of a request on `route`; never lower.
  ErrorCurve::Choice Raise(const std::string& route, double threshold) const;

  std::vector<RouteErrors> Report() const;
  uint64_t taken() const { return taken_; }    // since the start
  uint64_t spared() const { return spared_; }  // not taken for the sake of requests or CPU

 private:
  struct State {
    ErrorWatchOptions::Route options;
    ErrorCurve curve;
    std::vector<RouteErrors::InForce> thresholds;
    bool changed = false;
  };
  static void Choose(State& state);

  const double share_;
  const double cpu_;
  const core::Clock& clock_;
  core::Random& random_;
  mutable std::mutex mutex_;
  std::map<std::string, State> routes_;  // guarded by mutex_, its keys are fixed
  core::SteadyTime rest_until_{};        // guarded by mutex_
  std::atomic<uint64_t> taken_ = 0;
  std::atomic<uint64_t> spared_ = 0;
};

}  // namespace holdfast::cache
