#pragma once

// The nearest of many unit vectors, by inner product. Few vectors are scanned one by one, which is
// exact; past `flat_limit` an HNSW graph (hnswlib, seen by vector_index.cc alone) narrows the
// search. It lives inside a ScopeIndex and is as thread safe as a std::vector: any number of const
// calls at once, or one other call.
//
// The vectors (quantized.h) stand in rows; the graph holds links alone and reads the rows' upper
// halves; what it finds is put in order by the whole numbers. It is built a few slots at a time,
// and what it does not hold yet is scanned, so loading a large scope never delays its first lookup
// by building a graph. What is removed is only marked in the graph, whose updates in place are slow
// and spoil it; once a third as many are marked as live, another graph is built beside it, a few
// slots at a time too, and takes its place when it holds all. So deletions never decay recall. A
// graph that fails is given up for the scan.
//
// A graph can be saved and taken up again: Reserve its slots, Fill those whose vectors are still
// known, then PrepareGraph, which may run beside const calls, and AdoptGraph.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "cache/quantized.h"

namespace holdfast::cache {

class VectorIndex {
 public:
  struct Candidate {
    uint32_t slot = 0;
    float similarity = 0;
  };

  static bool Never() { return false; }
  static constexpr size_t kScanStep = 4096;          // rows between two questions whether to stop
  static constexpr size_t kDefaultFlatLimit = 4096;  // docs/adr/0004-cache-storage.md

  explicit VectorIndex(size_t dimension, size_t flat_limit = kDefaultFlatLimit);
  VectorIndex(VectorIndex&&) = delete;
  ~VectorIndex();

  // Returns the slot: a number below slots(), which may come again after Remove.
  uint32_t Add(const QuantizedVector& vector);
  uint32_t Add(std::span<const float> vector) { return Add(Quantize(vector)); }
  void Remove(uint32_t slot);

  // Puts up to `count` slots more into the graphs; true while more wait for it.
  bool ExtendGraph(size_t count);

  // At most `k` candidates of at least `min_similarity`, nearest first. Exact when k >= size(),
  // unless `stop`, which a long scan asks every now and then, ends it early.
  std::vector<Candidate> Search(std::span<const float> query, size_t k, float min_similarity,
                                absl::FunctionRef<bool()> stop = Never) const;

  // A few that are at least so similar, in no order. Cheaper, and it may overlook some.
  std::vector<Candidate> SearchNarrowly(const QuantizedVector& vector, float min_similarity) const;

  // Makes room for so many vectors; no more than a hint.
  void ExpectRows(size_t count);

  // A graph that holds all slots is there and can be saved.
  bool GraphIsWhole() const { return graph_ && !rebuilding() && graphed_ == slots(); }
  // False if it could not be written.
  bool SaveGraph(const std::filesystem::path& file) const;
  // Of an empty index: slots 0 to count - 1 wait for Fill. The dead among them stay unused.
  void Reserve(size_t count);
  void Fill(uint32_t slot, const QuantizedVector& vector);
  bool waiting(uint32_t slot) const { return (states_[slot] & kWaiting) != 0; }
  // False if the file is no graph. Slots that wait no longer have their vectors, and yet others are
  // reached through them, so each gets the middle of those it is linked to.
  bool PrepareGraph(const std::filesystem::path& file);
  // Slots that still wait are dead from now on. False if it is no graph of these slots, or none was
  // prepared; then one is built.
  bool AdoptGraph();

  size_t dimension() const { return dimension_; }
  size_t size() const { return live_; }
  size_t slots() const { return states_.size(); }
  size_t bytes() const;
  size_t graphed() const { return graphed_; }  // the live slots below this one are in the graph
  bool rebuilding() const { return next_graphed_ > 0; }

 private:
  class Graph;

  // The vectors. In chunks, so that growing moves little; a small index has one small chunk.
  class Rows {
   public:
    explicit Rows(size_t dimension) : dimension_(dimension) {}

    void Expect(size_t count);
    void Resize(size_t count);
    void Set(size_t row, const QuantizedVector& vector);
    const int8_t* Upper(size_t row) const {
      const Chunk& chunk = chunks_[row / kChunkRows];
      return chunk.bytes.get() + chunk.capacity * sizeof(float) + (row % kChunkRows) * dimension_;
    }
    const int8_t* Lower(size_t row) const {
      return Upper(row) + chunks_[row / kChunkRows].capacity * dimension_;
    }
    float Scale(size_t row) const;
    size_t bytes() const;

   private:
    static constexpr size_t kChunkRows = 4096;
    struct Free {
      void operator()(int8_t* bytes) const;
    };
    // capacity scales, then as many upper halves, then as many lower ones.
    struct Chunk {
      std::unique_ptr<int8_t[], Free> bytes;
      size_t capacity = 0;
    };
    void Grow(Chunk& chunk, size_t capacity) const;

    const size_t dimension_;
    size_t count_ = 0;
    std::vector<Chunk> chunks_;
  };

  enum State : uint8_t {
    kAlive = 1,
    kInGraph = 2,
    kInNext = 4,
    kWaiting = 8,
  };
  struct Query;

  float Similarity(std::span<const float> query, uint32_t slot) const;
  void Scan(const Query& query, size_t first_slot, float min_similarity,
            absl::FunctionRef<bool()> stop, std::vector<Candidate>& found) const;
  bool SearchGraph(const Query& query, size_t breadth, float min_similarity,
                   std::vector<Candidate>& found) const;
  bool PutIntoGraph(std::unique_ptr<Graph>& graph, State state, uint32_t slot);
  bool DueForRebuild() const;
  void FinishRebuild();
  void GiveUpGraph();
  void DropGraphs();
  void PlaceTheDead(const Graph& graph);
  bool CheckSavedGraph(std::vector<uint8_t>& states, size_t& past_last);
  void FindFreeSlots();

  const size_t dimension_;
  const size_t flat_limit_;
  Rows rows_;
  std::vector<uint8_t> states_;  // by slot
  std::vector<uint32_t> free_;   // dead and in no graph
  size_t live_ = 0;
  std::unique_ptr<Graph> graph_;
  size_t graphed_ = 0;
  size_t marked_ = 0;            // dead slots that are in the graph
  std::unique_ptr<Graph> next_;  // being built, to take graph_'s place
  size_t next_graphed_ = 0;
  size_t next_marked_ = 0;
  bool graph_failed_ = false;
  bool restoring_ = false;  // between Reserve and AdoptGraph: no slot is free, no graph is built
};

}  // namespace holdfast::cache
