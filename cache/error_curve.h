#pragma once

// How often the cache would have been wrong, by threshold: the samples of one route's window and
// what they prove. A value without locks; ErrorWatch guards it.
//
// A bound is an upper limit of the wrong rate at the window's end that holds with 95 % for all
// points of the curve together, so that a threshold may be picked by it. Clopper and Pearson's
// bound, one-sided, its 5 % shared among the points (Bonferroni), divided by the mean weight of
// the samples: one that is a whole window old counts half, and between it is 2^-(part of the
// window), because the rate may have doubled since. Any drift that is no faster than twofold in a
// window keeps that; so do a straight line and an exponential from half to whole.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace holdfast::cache {

struct CurvePoint {
  double threshold = 0;
  uint64_t served = 0;  // of the samples, at this threshold
  uint64_t wrong = 0;   // of those
  double weight = 0;    // the mean one of those samples
  double bound = 1;     // of the wrong rate; 1 if nothing is known

  double rate() const {
    return served == 0 ? 0 : static_cast<double>(wrong) / static_cast<double>(served);
  }
};

enum class Calibrated {
  kOff,      // no max_error
  kTooFew,   // not even faultless samples would prove it: the configured threshold holds
  kHeld,     // the threshold in force keeps the bound
  kNotHeld,  // none does: only the same question is served
};
const char* Name(Calibrated state);  // "off", "too_few_samples", "held", "not_held"

class ErrorCurve {
 public:
  static constexpr double kLowest = 0.7;   // of its points, unless one is configured below
  static constexpr size_t kWindow = 4000;  // samples

  // `configured`: the thresholds that are points of the curve beside the fixed ones.
  explicit ErrorCurve(const std::vector<double>& configured);

  struct Sample {
    double similarity;
    bool wrong;
  };

  void Add(double similarity, bool wrong);
  size_t samples() const { return samples_.size(); }
  const std::deque<Sample>& window() const { return samples_; }
  // In order of thresholds.
  std::vector<CurvePoint> Points() const;

  struct Choice {
    double threshold = 0;  // the lowest of at least `configured` that keeps the bound
    Calibrated state = Calibrated::kOff;
    uint64_t needed = 0;  // about so many faultless samples at `configured` prove it
  };
  Choice Choose(double configured, double max_error) const;

 private:
  double Bound(uint64_t wrong, const CurvePoint& point) const;

  std::vector<double> thresholds_;
  std::deque<Sample> samples_;  // the latest last
};

// The largest rate at which `wrong` or fewer of `served` still happen with probability `alpha`.
double UpperBound(uint64_t wrong, uint64_t served, double alpha);

}  // namespace holdfast::cache
