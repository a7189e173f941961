#pragma once

// Whether the answer to a stored question may be served for an asked one: named findings about the
// two texts, and one score over them and the cosine of their vectors. The score is calibrated: of
// answers served with score s, about a share s is acceptable. Plain functions, safe from any
// thread. docs/semantic-cache.md argues each finding and its sign, tools/fit_similarity fits the
// weights.

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cache/verify/question.h"

namespace holdfast::cache::verify {

// What is measured of a pair. The first two speak for serving, the others against it.
enum class Feature {
  kCosine,
  kCosineNear,
  kMisspelt,
  kAddedAsked,
  kAddedStored,
  kAddedNames,
  kContext,
  kNamesAsked,
  kNamesStored,
  kNamesDiffer,
  kSiblings,
  kSubstitution,
  kNumbersDiffer,
  kNumberOneSided,
  kVersionOneSided,
  kUnitsDiffer,
  kCodesDiffer,
  kNegation,
  kOpposites,
  kRolesSwapped,
  kDirection,
  kConditionAsked,
  kConditionStored,
  kQualifierAsked,
  kQualifierStored,
  kKindDiffers,
  kKindLoose,
  kQuestionWord,
  kYesNo,
  kFormDiffers,
  kTaskDiffers,
  kAnswerLanguage,
  kLanguage,
  kPointsAsked,
  kPointsStored,
  kPointsOneSided,
  kTime,
  kQuoted,
  kCount,
};
inline constexpr size_t kFeatures = static_cast<size_t>(Feature::kCount);

struct FeatureInfo {
  Feature feature;
  std::string_view name;
  int sign;                 // of its weight: +1 or -1, whatever the fit would like
  std::string_view reason;  // for people, when it speaks against serving
};
const std::array<FeatureInfo, kFeatures>& FeatureTable();

using Features = std::array<float, kFeatures>;

struct Finding {
  Feature feature;
  std::string_view name;
  double effect = 0;   // on the log-odds of the score; negative speaks against serving
  std::string detail;  // the words that it is about, if any
};

struct Verdict {
  double score = 0;  // 0 to 1, calibrated; 0 if refused
  bool refused = false;
  std::vector<Finding> findings;  // those against serving, the heaviest first
  std::string reason;             // one line for people
};

// `asked` is the new question, `stored` the one whose answer would be served.
Features Measure(const Question& stored, const Question& asked, double cosine);
// The raw sum before calibration, in log-odds; orders pairs as the score does.
double RawScore(const Features& features);
double Calibrate(double raw_score);
Verdict Compare(const Question& stored, const Question& asked, double cosine);

}  // namespace holdfast::cache::verify
