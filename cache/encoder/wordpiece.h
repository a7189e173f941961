#pragma once

// BERT's uncased tokenizer: text to the ids of word pieces, token for token as the original does
// it (clean, part Chinese characters, decompose, drop accents, lower case; split at spaces and
// punctuation; the longest piece first). SentenceEmbedder owns one. Immutable: safe from any
// thread.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace holdfast::cache {

struct Tokens {
  std::vector<int32_t> ids;  // [CLS] first, [SEP] last
  bool cut = false;          // more would have followed
};

class WordPiece {
 public:
  // `vocabulary` has a piece a line and must outlive this.
  static absl::StatusOr<WordPiece> Create(std::string_view vocabulary);

  // At most `longest` ids, which is 2 or more. InvalidArgument if `text` is not UTF-8.
  absl::StatusOr<Tokens> Encode(std::string_view text, size_t longest) const;

  size_t size() const { return size_; }

 private:
  class Run;
  using Pieces = absl::flat_hash_map<std::string_view, int32_t>;

  WordPiece() = default;

  Pieces starts_;     // pieces that begin a word
  Pieces continues_;  // pieces within a word, without their ##
  Pieces specials_;   // [SEP] and the like, which the original also finds in a text
  size_t size_ = 0;
  size_t longest_piece_ = 0;  // in bytes
  int32_t unknown_ = 0;
  int32_t first_ = 0;
  int32_t last_ = 0;
};

}  // namespace holdfast::cache
