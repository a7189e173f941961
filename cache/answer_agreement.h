#pragma once

// Whether a stored answer says what a fresh one says, as far as a machine can tell without asking a
// model: how near their vectors are, whether their numbers are the same, and whether one is far
// shorter. docs/semantic-cache.md says what it does not see. Plain functions, safe from any thread.

#include <string_view>

namespace holdfast::cache {

// `cosine`: of the two answers' vectors. At least kAgreeing: they agree.
double AnswerAgreement(std::string_view stored, std::string_view fresh, double cosine);

inline constexpr double kAgreeing = 0.7;

}  // namespace holdfast::cache
