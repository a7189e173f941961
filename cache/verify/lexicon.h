#pragma once

// What the checks know about words: tables and little else (lexicon.cc). Built once, on first use;
// plain functions, safe from any thread. English first: for other languages only their names and
// their commonest words are known, so that they are told apart.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace holdfast::cache::verify {

// Sets of questions' kinds, of output forms and of tasks, as bits (lexicon.cc names each).
using KindSet = uint32_t;

enum Kind : KindSet {
  kHowTo = 1u << 0,
  kWhy = 1u << 1,
  kWhen = 1u << 2,
  kWhere = 1u << 3,
  kWho = 1u << 4,
  kHowMuch = 1u << 5,
  kHowMany = 1u << 6,
  kHowLong = 1u << 7,
  kHowOften = 1u << 8,
  kDefinition = 1u << 9,
  kDifference = 1u << 10,
  kAdvice = 1u << 11,
  kYesNo = 1u << 12,
  kExamples = 1u << 13,
  kAge = 1u << 14,
  kHowFar = 1u << 15,
};

// "What for", as opposed to "what is": the kinds whose answers cannot replace each other.
inline constexpr KindSet kSharpKinds = kHowTo | kWhy | kWhen | kWhere | kWho | kHowMuch | kHowMany |
                                       kHowLong | kHowOften | kDifference | kAge | kHowFar;

struct Word {
  uint64_t id = 0;       // of the stem; equal for inflections of one word
  uint64_t meaning = 0;  // of its group of synonyms, or `id`
  float weight = 0;      // how much it says: 0 for function words, up to kRarest
  bool common = false;   // it is in the table of known words
};

inline constexpr float kRarest = 1.0f;

std::string Stem(std::string_view lower);
uint64_t IdOf(std::string_view text);

Word Describe(std::string_view lower);

bool IsFunctionWord(std::string_view lower);
bool IsNegation(std::string_view lower);
bool IsPreposition(std::string_view lower);  // what opens a scope or a condition
bool IsSymmetric(std::string_view lower);    // "or", "vs", "between": order says nothing there
bool IsDirected(std::string_view lower);     // "from", "to", "into", "over": order says much

// Members of one family exclude each other ("windows", "linux"); 0 if it is in none.
struct Membership {
  uint32_t family = 0;
  uint32_t member = 0;  // spellings of one thing share it
};
Membership FamilyOf(std::string_view lower);
// The opposites of a word are the words with the same pair and the other side.
struct Pole {
  uint32_t pair = 0;  // 0: none
  int side = 0;
};
std::span<const Pole> PolesOf(std::string_view lower);

uint32_t QuestionWord(std::string_view lower);  // 0: none; those that ask alike share it
bool OpensInstruction(std::string_view lower);
bool IsPointing(std::string_view lower);       // "this"
bool IsNotPointedAt(std::string_view lower);   // "year", after "this"
uint32_t QualifierOf(std::string_view lower);  // bit of how it narrows what is asked, or 0
uint32_t FormOf(std::string_view lower);       // bit of the output form that it names, or 0
uint32_t TaskOf(std::string_view lower);       // bit of the task that it asks for, or 0
uint32_t UnitOf(std::string_view lower);       // 0: none; spellings of one unit share it
uint32_t LanguageNamed(std::string_view lower);
// Bit of the languages that have it among their commonest words; English is bit 0.
uint32_t LanguagesOf(std::string_view lower);
bool IsNow(std::string_view lower);   // "today", "current"
bool IsPast(std::string_view lower);  // "was", "ago", "previous"
bool NumberWord(std::string_view lower, double* value);

// The kinds that a whole text asks for; `spaced` is its words, lower case, with one space before,
// between and after them.
KindSet KindsOf(std::string_view spaced);
// Whether it points at something that was never sent along ("the code above").
bool PointsElsewhere(std::string_view spaced);

}  // namespace holdfast::cache::verify
