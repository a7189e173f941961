#pragma once

// The entries of one scope as a lookup sees them: a vector each, with its question's key and when
// it was made. A derivative of the store that can always be loaded again. AnswerBook owns one for
// each scope in memory and guards it; as thread safe as a std::vector.
//
// A large scope's graph takes minutes to build, so it can be saved: to a directory with a table of
// the slots (`slots`: a question's key and its entry's number each, no text and no vector) and
// hnswlib's file of links (`graph`), both checksummed. Taking it up again is ReadSaved,
// BeginRestore, Load of all that the store has, PrepareGraph (slow, but beside const calls) and
// FinishLoad: an entry that is as it was takes its old slot, a new one a new slot, and what is no
// longer there is marked. So the store alone says what there is.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
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
    uint64_t entry = 0;  // tells this entry from others of the same question (EntryNumber)
    core::WallTime created_at{};
    bool pinned = false;

    std::string_view question_key() const { return {question.data(), question.size()}; }
  };
  // What Put needs to know of an entry.
  struct Entry {
    std::string_view question_key;
    std::string_view id;
    core::WallTime created_at{};
    bool pinned = false;
  };

  ScopeIndex(size_t dimension, size_t flat_limit);

  // Replaces an entry of the same question.
  void Put(const Entry& entry, const QuantizedVector& vector);
  void Remove(std::string_view question_key);
  bool Contains(std::string_view question_key) const;

  // Shows entries of at least `min_similarity` until `take` returns true: nearest first, of equals
  // the newest first. Once `stop` returns true, those alone that were seen by then.
  void Visit(std::span<const float> query, double min_similarity,
             absl::FunctionRef<bool(const Item& item, double similarity)> take,
             absl::FunctionRef<bool()> stop = VectorIndex::Never) const;

  // The questions of a few others that are at least so near to this one's.
  std::vector<Question> Near(std::string_view question_key, const QuantizedVector& vector,
                             double min_similarity) const;

  void Expect(size_t entries);
  bool ExtendGraph(size_t count) { return vectors_.ExtendGraph(count); }

  // What Save wrote: none if there is nothing, or it is damaged, or another embedder's.
  struct Saved;
  static std::shared_ptr<const Saved> ReadSaved(const std::filesystem::path& directory,
                                                const std::string& embedder, size_t dimension);
  // Of an empty index.
  void BeginRestore(const Saved& saved);
  // Like Put, but of what is in already, nothing.
  void Load(const Entry& entry, const QuantizedVector& vector);
  void PrepareGraph();
  void FinishLoad();

  // Whether all is in the graph, so that saving it is worth it.
  bool GraphIsWhole() const { return vectors_.GraphIsWhole(); }
  // False if it cannot be written; `directory` must exist.
  bool Save(const std::filesystem::path& directory, const std::string& embedder) const;

  size_t size() const { return vectors_.size(); }
  size_t ungraphed() const { return vectors_.slots() - vectors_.graphed(); }
  size_t bytes() const;
  bool HasGraph() const { return vectors_.graphed() > 0; }

 private:
  struct SlotHash {
    using is_transparent = void;
    const std::vector<Item>* items;
    size_t operator()(uint32_t slot) const { return (*this)((*items)[slot].question); }
    // The key is a hash already.
    size_t operator()(const Question& question) const {
      size_t hash = 0;
      std::memcpy(&hash, question.data(), sizeof(hash));
      return hash;
    }
  };
  struct SlotEqual {
    using is_transparent = void;
    const std::vector<Item>* items;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(uint32_t a, const Question& b) const { return (*items)[a].question == b; }
    bool operator()(const Question& a, uint32_t b) const { return (*items)[b].question == a; }
  };
  struct Found {
    double similarity;
    uint32_t slot;
  };
  std::vector<Found> Search(std::span<const float> query, size_t k, double min_similarity,
                            absl::FunctionRef<bool()> stop) const;
  std::optional<uint32_t> SlotOf(std::string_view question_key) const;

  VectorIndex vectors_;
  std::vector<Item> items_;  // by slot
  absl::flat_hash_set<uint32_t, SlotHash, SlotEqual> slots_;
  bool restoring_ = false;
  std::filesystem::path saved_graph_;
};

// Stable over restarts.
uint64_t EntryNumber(std::string_view id);

}  // namespace holdfast::cache
