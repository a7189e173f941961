#pragma once

// The entries of one scope as a lookup sees them: a vector each, with its question's key and when
// it was made. A derivative of the store that can always be loaded again. AnswerBook owns one for
// each scope in memory and guards it; as thread safe as a std::vector.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/functional/function_ref.h"
#include "cache/store.h"
#include "cache/vector_index.h"
#include "core/clock.h"

namespace holdfast::cache {

class ScopeIndex {
 public:
  using Question = std::array<char, kQuestionKeySize>;

  struct Item {
    Question question{};
    core::WallTime created_at{};

    std::string_view question_key() const { return {question.data(), question.size()}; }
  };

  ScopeIndex(size_t dimension, size_t flat_limit) : vectors_(dimension, flat_limit) {}

  // Replaces an entry of the same question.
  void Put(std::string_view question_key, core::WallTime created_at, std::span<const float> vector);
  void Remove(std::string_view question_key);

  // Shows entries of at least `min_similarity` until `take` returns true: nearest first, of equals
  // the newest first.
  void Visit(std::span<const float> query, double min_similarity,
             absl::FunctionRef<bool(const Item& item, double similarity)> take) const;

  bool ExtendGraph(size_t count) { return vectors_.ExtendGraph(count); }

  size_t size() const { return vectors_.size(); }
  size_t bytes() const;

 private:
  // The key is a hash already.
  struct FirstBytes {
    size_t operator()(const Question& question) const {
      size_t hash = 0;
      std::memcpy(&hash, question.data(), sizeof(hash));
      return hash;
    }
  };
  struct Found {
    double similarity;
    uint32_t slot;
  };
  std::vector<Found> Search(std::span<const float> query, size_t k, double min_similarity) const;

  VectorIndex vectors_;
  std::vector<Item> items_;  // by slot
  std::unordered_map<Question, uint32_t, FirstBytes> slots_;
};

}  // namespace holdfast::cache
