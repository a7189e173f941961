#pragma once

// Which words of two questions stand for each other, and which stand alone. Used by findings.cc.

#include <vector>

#include "cache/verify/question.h"

namespace holdfast::cache::verify {

struct Alignment {
  // Per token: the index of its partner in the other question, or -1. Function words that occur
  // on both sides are partners too.
  std::vector<int> partner_of_stored;
  std::vector<int> partner_of_asked;
  // The weight of the words that stand in each other's place in an otherwise equal wording.
  float substituted = 0;
  // The weight of what one side adds where the other has nothing.
  float added_stored = 0;
  float added_asked = 0;
  float added_names = 0;  // on either side, also in each other's place
  // The share of the words that are the same, in the same order.
  float frame = 0;
  // Partners that are one word, spelt right on one side only.
  int misspelt = 0;
};

Alignment Align(const Question& stored, const Question& asked);

}  // namespace holdfast::cache::verify
