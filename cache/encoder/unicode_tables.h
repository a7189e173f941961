#pragma once

// What BERT's uncased tokenizer does to single code points before it looks for words. Used by
// WordPiece alone. The data are generated from the original tokenizer by make_unicode_tables
// rather than taken from a Unicode library: the original has categories of an edition of Unicode
// of its own, which no library follows.

#include <span>

namespace holdfast::cache {

struct CodeRange {
  char32_t first;
  char32_t last;
};

// What remains of a code point once decomposed, freed of accents and in lower case; zeros fill up.
struct CodeMapping {
  char32_t from;
  char32_t to[3];
};

// All sorted. Hangul syllables are not among kMapped: they decompose by rule.
extern const std::span<const CodeRange> kDropped;      // control characters, accents
extern const std::span<const CodeRange> kSpaces;       // end a word
extern const std::span<const CodeRange> kIsolated;     // a word each: Chinese characters
extern const std::span<const CodeRange> kPunctuation;  // a word each, looked up after kMapped
extern const std::span<const CodeMapping> kMapped;

}  // namespace holdfast::cache
