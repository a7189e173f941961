#pragma once

// A question as the checks see it: cut into words once, so that comparing it with many candidates
// is cheap. A value; made by whoever verifies candidates, on any thread.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cache/verify/lexicon.h"

namespace holdfast::cache::verify {

struct Token {
  std::string text;  // lower case
  Word word;
  bool function = false;  // it carries no content of its own
  bool named = false;     // written with a capital inside a sentence, or all in capitals
  bool number = false;    // digits, or a number word with no other sense
  bool code = false;      // letters mixed with digits or signs: "s5", "nw-2-5", "c++"
  double value = 0;       // of a number
  bool year = false;
  uint32_t unit = 0;  // it names one, or one follows the number
  Membership family;
  bool after_preposition = false;
  bool context = false;  // it stands in a sentence before the question itself
};

struct Question {
  std::vector<Token> tokens;  // at most kLongest of them
  std::string normalized;     // equal for questions that are the same but for case and the like
  std::string spaced;         // " how do i sort it "

  KindSet kinds = 0;
  uint32_t qualifiers = 0;
  uint32_t forms = 0;
  uint32_t tasks = 0;
  uint32_t languages_named = 0;  // as what the answer is to be in, or about: "in French"
  int language = 0;              // the one that it is written in; -1: cannot be told
  int negations = 0;
  int negations_of_context = 0;
  bool asks_now = false;
  bool asks_past = false;
  bool points_elsewhere = false;  // in a set phrase
  bool points = false;            // "this house", "the ad above"
  bool instructs = false;         // a sentence behind the question says how to answer
  uint32_t question_word = 0;     // the first
  std::string quoted;             // the text between quotation marks, in lower case
};

inline constexpr size_t kLongest = 160;

Question Analyze(std::string_view text);

}  // namespace holdfast::cache::verify
