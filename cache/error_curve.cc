#include "cache/error_curve.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace holdfast::cache {
namespace {

constexpr double kAlpha = 0.05;
constexpr double kMeanWeight = 0.72;  // 1 / (2 ln 2), of samples all over the window
constexpr double kFixed[] = {ErrorCurve::kLowest, 0.8, 0.85, 0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1};
// Thresholds that differ by less are one: similarities are in millionths.
constexpr double kSame = 1e-6;

// The continued fraction of the incomplete beta function, by Lentz's method.
double BetaFraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr double kExact = 1e-12;
  constexpr int kMostSteps = 1000;
  const auto nonzero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1;
  double d = 1 / nonzero(1 - (a + b) * x / (a + 1));
  double result = d;
  for (int step = 1; step < kMostSteps; ++step) {
    const double m = step;
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    result *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    result *= d * c;
    if (std::abs(d * c - 1) < kExact) break;
  }
  return result;
}

// P(X <= wrong) of a binomial: the incomplete beta function I_(1-rate)(served - wrong, wrong + 1).
double BinomialCdf(uint64_t wrong, uint64_t served, double rate) {
  const double a = static_cast<double>(served - wrong);
  const double b = static_cast<double>(wrong) + 1;
  const double x = 1 - rate;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * BetaFraction(a, b, x) / a;
  return 1 - front * BetaFraction(b, a, 1 - x) / b;
}

}  // namespace

const char* Name(Calibrated state) {
  switch (state) {
    case Calibrated::kOff:
      return "off";
    case Calibrated::kTooFew:
      return "too_few_samples";
    case Calibrated::kHeld:
      return "held";
    case Calibrated::kNotHeld:
      return "not_held";
  }
  HOLDFAST_CHECK(false);
}

double UpperBound(uint64_t wrong, uint64_t served, double alpha) {
  if (wrong >= served) return 1;
  double low = static_cast<double>(wrong) / static_cast<double>(served);
  double high = 1;
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    (BinomialCdf(wrong, served, middle) > alpha ? low : high) = middle;
  }
  return high;
}

ErrorCurve::ErrorCurve(const std::vector<double>& configured) : thresholds_(configured) {
  thresholds_.insert(thresholds_.end(), std::begin(kFixed), std::end(kFixed));
  std::sort(thresholds_.begin(), thresholds_.end());
  const auto same = [](double a, double b) { return b - a < kSame; };
  thresholds_.erase(std::unique(thresholds_.begin(), thresholds_.end(), same), thresholds_.end());
}

void ErrorCurve::Add(double similarity, bool wrong) {
  samples_.push_back({similarity, wrong});
  if (samples_.size() > kWindow) samples_.pop_front();
}

std::vector<CurvePoint> ErrorCurve::Points() const {
  std::vector<CurvePoint> points;
  for (const double threshold : thresholds_) points.push_back({.threshold = threshold});
  // Each sample first counts for the highest threshold that it reaches.
  const double older = std::exp2(-1 / static_cast<double>(std::max<size_t>(1, samples_.size())));
  double weight = 1;
  for (auto sample = samples_.rbegin(); sample != samples_.rend(); ++sample, weight *= older) {
    const auto above =
        std::upper_bound(thresholds_.begin(), thresholds_.end(), sample->similarity + kSame / 2);
    if (above == thresholds_.begin()) continue;
    CurvePoint& point = points[static_cast<size_t>(above - thresholds_.begin()) - 1];
    ++point.served;
    point.wrong += sample->wrong ? 1 : 0;
    point.weight += weight;
  }
  for (size_t i = points.size() - 1; i-- > 0;) {
    points[i].served += points[i + 1].served;
    points[i].wrong += points[i + 1].wrong;
    points[i].weight += points[i + 1].weight;
  }
  for (CurvePoint& point : points) {
    if (point.served == 0) continue;
    point.weight /= static_cast<double>(point.served);
    point.bound = Bound(point.wrong, point);
  }
  return points;
}

double ErrorCurve::Bound(uint64_t wrong, const CurvePoint& point) const {
  const double alpha = kAlpha / static_cast<double>(thresholds_.size());
  return std::min(1.0, UpperBound(wrong, point.served, alpha) / point.weight);
}

ErrorCurve::Choice ErrorCurve::Choose(double configured, double max_error) const {
  const std::vector<CurvePoint> points = Points();
  const auto first = std::find_if(points.begin(), points.end(), [&](const CurvePoint& point) {
    return point.threshold >= configured - kSame;
  });
  Choice choice{.threshold = configured, .state = Calibrated::kTooFew};
  const double alpha = kAlpha / static_cast<double>(thresholds_.size());
  const double provable = std::min(max_error * kMeanWeight, 1 - 1e-9);
  choice.needed = static_cast<uint64_t>(std::ceil(std::log(alpha) / std::log1p(-provable)));
  if (first == points.end() || first->served == 0 || Bound(0, *first) > max_error) return choice;
  const auto held = std::find_if(first, points.end(), [&](const CurvePoint& point) {
    return point.served > 0 && point.bound <= max_error;
  });
  choice.state = held == points.end() ? Calibrated::kNotHeld : Calibrated::kHeld;
  choice.threshold = held == points.end() ? 1 : std::max(configured, held->threshold);
  return choice;
}

}  // namespace holdfast::cache
