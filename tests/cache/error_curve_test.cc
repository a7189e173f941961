#include "cache/error_curve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

namespace holdfast::cache {
namespace {

TEST(ErrorCurveTest, UpperBoundIsClopperAndPearsons) {
  // Worked out by hand: of n without a fault 1 - alpha^(1/n).
  EXPECT_NEAR(UpperBound(0, 59, 0.05), 1 - std::pow(0.05, 1.0 / 59), 1e-9);
  EXPECT_NEAR(UpperBound(0, 1, 0.05), 0.95, 1e-9);
  // From the tables.
  EXPECT_NEAR(UpperBound(1, 10, 0.05), 0.3941633, 1e-6);
  EXPECT_NEAR(UpperBound(5, 100, 0.05), 0.1022534, 1e-5);
  EXPECT_EQ(UpperBound(10, 10, 0.05), 1);
  EXPECT_EQ(UpperBound(0, 0, 0.05), 1);
  EXPECT_GT(UpperBound(500, 1000, 0.0001), 0.5);
}

CurvePoint At(const ErrorCurve& curve, double threshold) {
  for (const CurvePoint& point : curve.Points()) {
    if (std::abs(point.threshold - threshold) < 1e-9) return point;
  }
  ADD_FAILURE() << threshold;
  return {};
}

TEST(ErrorCurveTest, CountsWhatEachThresholdWouldHaveServed) {
  ErrorCurve curve({0.85, 0.95});
  curve.Add(0.85 - 1e-6, true);
  curve.Add(0.85, false);
  curve.Add(0.9, true);
  curve.Add(1, false);
  EXPECT_EQ(At(curve, 0.7).served, 4u);
  EXPECT_EQ(At(curve, 0.7).wrong, 2u);
  EXPECT_EQ(At(curve, 0.85).served, 3u);
  EXPECT_EQ(At(curve, 0.85).wrong, 1u);
  EXPECT_EQ(At(curve, 0.95).served, 1u);
  EXPECT_EQ(At(curve, 1).wrong, 0u);
  EXPECT_EQ(At(ErrorCurve({0.85}), 0.85).bound, 1);
}

TEST(ErrorCurveTest, ForgetsWhatIsOlderThanTheWindow) {
  ErrorCurve curve({0.85});
  for (size_t i = 0; i < ErrorCurve::kWindow; ++i) curve.Add(1, true);
  for (size_t i = 0; i < ErrorCurve::kWindow; ++i) curve.Add(1, false);
  EXPECT_EQ(curve.samples(), ErrorCurve::kWindow);
  EXPECT_EQ(At(curve, 0.85).wrong, 0u);
}

TEST(ErrorCurveTest, TooFewSamplesLeaveTheConfiguredThreshold) {
  ErrorCurve curve({0.85});
  const uint64_t needed = curve.Choose(0.85, 0.05).needed;
  for (int i = 0; i < 100; ++i) curve.Add(0.8, true);  // below it
  for (uint64_t i = 0; i < needed * 3 / 4; ++i) curve.Add(0.9, false);
  EXPECT_EQ(curve.Choose(0.85, 0.05).state, Calibrated::kTooFew);
  EXPECT_EQ(curve.Choose(0.85, 0.05).threshold, 0.85);
  for (uint64_t i = 0; i < needed / 4 + 1; ++i) curve.Add(0.9, false);
  EXPECT_EQ(curve.Choose(0.85, 0.05).state, Calibrated::kHeld);
  EXPECT_EQ(curve.Choose(0.85, 0.05).threshold, 0.85);
}

TEST(ErrorCurveTest, RaisesToTheLowestThresholdThatHoldsAndNeverLowers) {
  ErrorCurve curve({0.85, 0.95});
  for (int i = 0; i < 500; ++i) {
    curve.Add(0.89, i % 4 == 0);
    curve.Add(0.93, false);
  }
  EXPECT_EQ(curve.Choose(0.85, 0.05).threshold, 0.9);
  EXPECT_EQ(curve.Choose(0.85, 0.05).state, Calibrated::kHeld);
  EXPECT_EQ(curve.Choose(0.95, 0.05).threshold, 0.95);  // nothing is known so high up
  EXPECT_EQ(curve.Choose(0.95, 0.05).state, Calibrated::kTooFew);
  EXPECT_EQ(curve.Choose(0.91, 0.05).threshold, 0.92);  // the next that is known
  EXPECT_EQ(curve.Choose(0.85, 0.5).threshold, 0.85);
}

TEST(ErrorCurveTest, WhereNothingHoldsOnlyTheSameQuestionIsServed) {
  ErrorCurve curve({0.85});
  for (int i = 0; i < 2000; ++i) curve.Add(0.97, i % 2 == 0);
  EXPECT_EQ(curve.Choose(0.85, 0.05).state, Calibrated::kNotHeld);
  EXPECT_EQ(curve.Choose(0.85, 0.05).threshold, 1);
}

// --- Simulation with known truth -----------------------------------------------------------------

// A route's traffic: similarities, and the wrong rate at each, which grows over the window.
struct World {
  double wrong_at_worst;                // of similarity .7, at the window's end
  std::function<double(double)> drift;  // of the place in the window, (0, 1]; 1 at its end
  size_t samples = ErrorCurve::kWindow;

  double WrongAt(double similarity) const {
    return wrong_at_worst * std::pow((1.0001 - similarity) / 0.3, 1.5);
  }
  // Similarities are uniform in [.7, 1].
  double TrueRate(double threshold) const {
    const double from = std::max(threshold, 0.7);
    if (from > 1 - 1e-9) return WrongAt(1);
    double sum = 0;
    constexpr int kSteps = 2000;
    for (int i = 0; i < kSteps; ++i) sum += WrongAt(from + (1 - from) * (i + 0.5) / kSteps);
    return sum / kSteps;
  }
};

struct Held {
  int points = 0;   // runs in which every point's bound was above the truth
  int choices = 0;  // runs in which the chosen threshold keeps max_error at the window's end
  int raised = 0;
};

constexpr int kRuns = 1000;
constexpr double kMaxError = 0.05;

Held Simulate(const World& world) {
  Held held;
  std::vector<double> truth;
  for (const CurvePoint& point : ErrorCurve({0.85}).Points()) {
    truth.push_back(world.TrueRate(point.threshold));
  }
  for (int run = 0; run < kRuns; ++run) {
    std::mt19937_64 random(static_cast<uint64_t>(run));
    std::uniform_real_distribution<double> uniform(0, 1);
    ErrorCurve curve({0.85});
    for (size_t i = 0; i < world.samples; ++i) {
      const double place = static_cast<double>(i + 1) / static_cast<double>(world.samples);
      const double similarity = 0.7 + 0.3 * uniform(random);
      curve.Add(similarity, uniform(random) < world.WrongAt(similarity) * world.drift(place));
    }
    const auto points = curve.Points();
    bool all = true;
    for (size_t i = 0; i < points.size(); ++i) all = all && truth[i] <= points[i].bound;
    held.points += all ? 1 : 0;
    const ErrorCurve::Choice choice = curve.Choose(0.85, kMaxError);
    const bool kept =
        choice.state != Calibrated::kHeld || world.TrueRate(choice.threshold) <= kMaxError;
    held.choices += kept ? 1 : 0;
    held.raised += choice.state == Calibrated::kHeld && choice.threshold > 0.85 ? 1 : 0;
  }
  return held;
}

const std::function<double(double)> kSteady = [](double) { return 1.0; };
const std::function<double(double)> kLinear = [](double place) { return 0.5 + 0.5 * place; };
const std::function<double(double)> kDoubling = [](double place) { return std::exp2(place - 1); };

TEST(ErrorCurveSimulation, TheBoundHoldsInNineteenOfTwentyRuns) {
  for (const auto& drift : {kSteady, kLinear, kDoubling}) {
    for (const double wrong : {0.05, 0.4}) {
      for (const size_t samples : {size_t{400}, ErrorCurve::kWindow}) {
        const Held held = Simulate({wrong, drift, samples});
        EXPECT_GE(held.points, kRuns * 95 / 100) << wrong << ' ' << samples;
        EXPECT_GE(held.choices, kRuns * 95 / 100) << wrong << ' ' << samples;
      }
    }
  }
}

// The bound must not hold by refusing everything.
TEST(ErrorCurveSimulation, AndAThresholdIsFound) {
  EXPECT_GE(Simulate({0.3, kSteady}).raised, kRuns * 9 / 10);
  EXPECT_GE(Simulate({0.3, kLinear}).raised, kRuns * 9 / 10);
}

}  // namespace
}  // namespace holdfast::cache
