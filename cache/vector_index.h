#pragma once

// The nearest of many unit vectors, by inner product. Few vectors are scanned one by one, which is
// exact; past `flat_limit` an HNSW graph (hnswlib, seen by vector_index.cc alone) narrows the
// search. It lives inside a ScopeIndex and is as thread safe as a std::vector: any number of const
// calls at once, or one other call.
//
// The vectors stand in one array; the graph holds slot numbers only and reads them there. It is
// built a few slots at a time, and what it does not hold yet is scanned, so loading a large scope
// never delays its first lookup by building a graph. What is removed is only marked in the graph,
// whose updates in place are slow and spoil it; once more is marked than lives, it is built anew.
// A graph that fails is given up for the scan.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace holdfast::cache {

class VectorIndex {
 public:
  struct Candidate {
    uint32_t slot = 0;
    float similarity = 0;
  };

  static constexpr size_t kDefaultFlatLimit = 4096;  // docs/adr/0004-cache-storage.md

  explicit VectorIndex(size_t dimension, size_t flat_limit = kDefaultFlatLimit);
  VectorIndex(VectorIndex&&) = delete;
  ~VectorIndex();

  // Returns the slot: a number below slots(), which may come again after Remove.
  uint32_t Add(std::span<const float> vector);
  void Remove(uint32_t slot);

  // Puts up to `count` slots more into the graph; true while more wait for it.
  bool ExtendGraph(size_t count);

  // At most `k` candidates of at least `min_similarity`, nearest first. Exact when k >= size().
  std::vector<Candidate> Search(std::span<const float> query, size_t k, float min_similarity) const;

  size_t size() const { return live_; }
  size_t slots() const { return alive_.size(); }
  size_t bytes() const;
  size_t graphed() const { return graphed_; }  // the live slots below this one are in the graph

 private:
  class Graph;

  void Scan(std::span<const float> query, size_t first_slot, float min_similarity,
            std::vector<Candidate>& found) const;
  void PutIntoGraph(uint32_t slot);
  void DropGraph();

  const size_t dimension_;
  const size_t flat_limit_;
  std::vector<float> values_;   // slots() * dimension_
  std::vector<uint8_t> alive_;  // by slot
  std::vector<uint32_t> free_;  // dead and not in the graph
  size_t live_ = 0;
  std::unique_ptr<Graph> graph_;
  size_t graphed_ = 0;
  size_t marked_ = 0;  // dead slots that are in the graph
  bool graph_failed_ = false;
};

}  // namespace holdfast::cache
