#include "cache/vector_index.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

// hnswlib's own vector code prefetches past the end of its lists and defines functions in headers;
// the distance is ours anyway, so it is compiled plain.
#define NO_MANUAL_VECTORIZATION
#include <hnswlib/hnswlib.h>

namespace holdfast::cache {
namespace {

// Several sums side by side, so that the compiler may use vector registers without reordering any.
float InnerProduct(const float* a, const float* b, size_t count) {
  constexpr size_t kLanes = 16;
  float sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (; i < count; ++i) sum += a[i] * b[i];
  for (const float lane_sum : sums) sum += lane_sum;
  return sum;
}

bool Nearer(const VectorIndex::Candidate& a, const VectorIndex::Candidate& b) {
  return a.similarity > b.similarity;
}

constexpr size_t kFirstCapacity = 2048;
constexpr size_t kLinks = 16;
constexpr size_t kBuildBreadth = 128;
constexpr size_t kSearchBreadth = 96;

}  // namespace

// hnswlib over slot numbers: a "point" is a slot, or a query that points at its vector.
class VectorIndex::Graph final : hnswlib::SpaceInterface<float> {
 public:
  Graph(const std::vector<float>& values, size_t dimension)
      : values_(values), dimension_(dimension), hnsw_(this, kFirstCapacity, kLinks, kBuildBreadth) {
    hnsw_.setEf(kSearchBreadth);
  }

  void Put(uint32_t slot) {
    if (slot >= hnsw_.max_elements_) hnsw_.resizeIndex(hnsw_.max_elements_ * 2);
    const Point point{nullptr, slot};
    hnsw_.addPoint(&point, slot);
  }

  void Remove(uint32_t slot) { hnsw_.markDelete(slot); }

  void Search(std::span<const float> query, size_t k, std::vector<Candidate>& found) const {
    const Point point{query.data(), 0};
    auto nearest = hnsw_.searchKnn(&point, k);
    for (; !nearest.empty(); nearest.pop()) {
      const auto slot = static_cast<uint32_t>(nearest.top().second);
      // Computed anew: the graph's 1 - x has lost digits, and equals must stay equal.
      found.push_back({slot, InnerProduct(query.data(), VectorIn(slot), dimension_)});
    }
  }

  size_t bytes() const {
    constexpr size_t kLockAndLabel = 96;
    return hnsw_.max_elements_ * (hnsw_.size_data_per_element_ + kLockAndLabel);
  }

 private:
  struct Point {
    const float* query;  // null: the vector is in the slot
    uint32_t slot;
  };
  // Without the padding: then hnswlib's label, which follows its links and this, is aligned.
  static constexpr size_t kPointSize = offsetof(Point, slot) + sizeof(uint32_t);
  static_assert((2 * kLinks * sizeof(uint32_t) + sizeof(uint32_t) + kPointSize) % 8 == 0);

  static float Distance(const void* a, const void* b, const void* graph) {
    const auto& self = *static_cast<const Graph*>(graph);
    return 1 - InnerProduct(self.VectorOf(a), self.VectorOf(b), self.dimension_);
  }
  const float* VectorOf(const void* data) const {
    Point point;  // hnswlib does not align what it stores
    std::memcpy(&point, data, kPointSize);
    return point.query != nullptr ? point.query : VectorIn(point.slot);
  }
  const float* VectorIn(uint64_t slot) const { return values_.data() + slot * dimension_; }

  size_t get_data_size() override { return kPointSize; }
  hnswlib::DISTFUNC<float> get_dist_func() override { return &Distance; }
  void* get_dist_func_param() override { return this; }

  const std::vector<float>& values_;
  const size_t dimension_;
  hnswlib::HierarchicalNSW<float> hnsw_;
};

VectorIndex::VectorIndex(size_t dimension, size_t flat_limit)
    : dimension_(dimension), flat_limit_(flat_limit) {}

VectorIndex::~VectorIndex() = default;

uint32_t VectorIndex::Add(std::span<const float> vector) {
  uint32_t slot = static_cast<uint32_t>(slots());
  if (free_.empty()) {
    values_.insert(values_.end(), vector.begin(), vector.end());
    alive_.push_back(true);
  } else {
    slot = free_.back();
    free_.pop_back();
    std::copy(vector.begin(), vector.end(), values_.begin() + slot * dimension_);
    alive_[slot] = true;
  }
  ++live_;
  if (slot < graphed_) PutIntoGraph(slot);
  return slot;
}

void VectorIndex::Remove(uint32_t slot) {
  alive_[slot] = false;
  --live_;
  if (slot >= graphed_) {
    free_.push_back(slot);
    return;
  }
  try {
    graph_->Remove(slot);
    ++marked_;
  } catch (const std::exception&) {
    graph_failed_ = true;
  }
  if (graph_failed_ || marked_ > live_) DropGraph();
}

bool VectorIndex::ExtendGraph(size_t count) {
  if (!graph_ && live_ <= flat_limit_) return false;
  for (; count > 0 && !graph_failed_ && graphed_ < slots(); --count) {
    const auto slot = static_cast<uint32_t>(graphed_++);
    if (alive_[slot]) PutIntoGraph(slot);
  }
  return !graph_failed_ && graphed_ < slots();
}

void VectorIndex::PutIntoGraph(uint32_t slot) {
  try {
    if (!graph_) graph_ = std::make_unique<Graph>(values_, dimension_);
    graph_->Put(slot);
  } catch (const std::exception&) {
    graph_failed_ = true;
    DropGraph();
  }
}

void VectorIndex::DropGraph() {
  graph_.reset();
  graphed_ = 0;
  marked_ = 0;
  free_.clear();
  for (size_t slot = slots(); slot-- > 0;) {
    if (!alive_[slot]) free_.push_back(static_cast<uint32_t>(slot));
  }
}

std::vector<VectorIndex::Candidate> VectorIndex::Search(std::span<const float> query, size_t k,
                                                        float min_similarity) const {
  std::vector<Candidate> found;
  size_t first_to_scan = 0;
  if (graphed_ > 0 && k < live_) {
    try {
      graph_->Search(query, k, found);
      first_to_scan = graphed_;
    } catch (const std::exception&) {
      found.clear();
    }
  }
  std::erase_if(found, [&](const Candidate& c) { return !(c.similarity >= min_similarity); });
  Scan(query, first_to_scan, min_similarity, found);
  const size_t kept = std::min(k, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(kept), found.end(),
                    Nearer);
  found.resize(kept);
  return found;
}

void VectorIndex::Scan(std::span<const float> query, size_t first_slot, float min_similarity,
                       std::vector<Candidate>& found) const {
  for (size_t slot = first_slot; slot < slots(); ++slot) {
    if (!alive_[slot]) continue;
    const float similarity =
        InnerProduct(query.data(), values_.data() + slot * dimension_, dimension_);
    if (similarity >= min_similarity) found.push_back({static_cast<uint32_t>(slot), similarity});
  }
}

size_t VectorIndex::bytes() const {
  return values_.capacity() * sizeof(float) + alive_.capacity() +
         free_.capacity() * sizeof(uint32_t) + (graph_ ? graph_->bytes() : 0);
}

}  // namespace holdfast::cache
