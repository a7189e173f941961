#include "cache/vector_index.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <utility>

// hnswlib's own vector code prefetches past the end of its lists and defines functions in headers;
// the distance is ours anyway, so it is compiled plain.
#define NO_MANUAL_VECTORIZATION
#include <hnswlib/hnswlib.h>

namespace holdfast::cache {
namespace {

bool Nearer(const VectorIndex::Candidate& a, const VectorIndex::Candidate& b) {
  return a.similarity > b.similarity;
}

constexpr size_t kFirstCapacity = 4096;
constexpr size_t kLinks = 16;
constexpr size_t kBuildBreadth = 100;
constexpr size_t kSearchBreadth = 192;
constexpr size_t kNarrowBreadth = 8;

// In units of the whole numbers: how far the upper halves of a vector can be from it.
float UpperError(float scale, size_t dimension) {
  return scale * (kUpperStep / 2) * std::sqrt(static_cast<float>(dimension));
}

}  // namespace

// What is asked for, in both precisions.
struct VectorIndex::Query {
  explicit Query(std::span<const float> v) : values(v) {
    const QuantizedVector quantized = Quantize(v);
    scale = quantized.scale;
    upper.reserve(v.size());
    for (const int16_t value : quantized.values) upper.push_back(UpperHalf(value));
  }

  const std::span<const float> values;
  std::vector<int8_t> upper;
  float scale = 0;
};

void VectorIndex::Rows::Free::operator()(int8_t* bytes) const { std::free(bytes); }

void VectorIndex::Rows::Grow(Chunk& chunk, size_t capacity) const {
  const size_t size = capacity * (sizeof(float) + 2 * dimension_);
  constexpr size_t kHugePage = 2 << 20;
  Chunk larger;
  larger.capacity = capacity;
  if (size < kHugePage) {
    larger.bytes.reset(static_cast<int8_t*>(std::malloc(std::max<size_t>(size, 1))));
  } else {
    // Rows are read in no order: large pages spare most of the misses in the page tables.
    const size_t rounded = (size + kHugePage - 1) / kHugePage * kHugePage;
    larger.bytes.reset(static_cast<int8_t*>(std::aligned_alloc(kHugePage, rounded)));
    if (larger.bytes) madvise(larger.bytes.get(), size / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
  if (!larger.bytes) throw std::bad_alloc();
  if (chunk.capacity > 0) {
    int8_t* to = larger.bytes.get();
    const int8_t* from = chunk.bytes.get();
    for (const size_t width : {sizeof(float), dimension_, dimension_}) {
      std::memcpy(to, from, chunk.capacity * width);
      to += capacity * width;
      from += chunk.capacity * width;
    }
  }
  chunk = std::move(larger);
}

void VectorIndex::Rows::Expect(size_t count) {
  if (chunks_.empty() && count > 0) chunks_.emplace_back();
  if (count > 0 && chunks_.front().capacity < std::min(count, kChunkRows)) {
    Grow(chunks_.front(), std::min(count, kChunkRows));
  }
}

void VectorIndex::Rows::Resize(size_t count) {
  while (chunks_.size() * kChunkRows < count) {
    // The one before is full from now on.
    if (!chunks_.empty() && chunks_.back().capacity < kChunkRows) Grow(chunks_.back(), kChunkRows);
    chunks_.emplace_back();
  }
  if (count > count_) {
    Chunk& last = chunks_.back();
    const size_t needed = count - (chunks_.size() - 1) * kChunkRows;
    if (last.capacity < needed) {
      const size_t first = chunks_.size() == 1 ? last.capacity + last.capacity / 2 + 2 : kChunkRows;
      Grow(last, std::min(kChunkRows, std::max(needed, first)));
    }
  }
  count_ = count;
}

void VectorIndex::Rows::Set(size_t row, const QuantizedVector& vector) {
  Chunk& chunk = chunks_[row / kChunkRows];
  const size_t at = row % kChunkRows;
  std::memcpy(chunk.bytes.get() + at * sizeof(float), &vector.scale, sizeof(float));
  int8_t* upper = chunk.bytes.get() + chunk.capacity * sizeof(float) + at * dimension_;
  int8_t* lower = upper + chunk.capacity * dimension_;
  for (size_t i = 0; i < dimension_; ++i) {
    upper[i] = UpperHalf(vector.values[i]);
    lower[i] = LowerHalf(vector.values[i]);
  }
}

float VectorIndex::Rows::Scale(size_t row) const {
  float scale = 0;
  std::memcpy(&scale, chunks_[row / kChunkRows].bytes.get() + (row % kChunkRows) * sizeof(float),
              sizeof(scale));
  return scale;
}

size_t VectorIndex::Rows::bytes() const {
  size_t bytes = chunks_.capacity() * sizeof(Chunk);
  for (const Chunk& chunk : chunks_) bytes += chunk.capacity * (sizeof(float) + 2 * dimension_);
  return bytes;
}

// hnswlib over slots. It keeps its elements in order of insertion and each under its number as
// address, so an element needs no data: its number is told from the address, and slots_ says whose
// it is. What is no element's address is a Query.
class VectorIndex::Graph final : hnswlib::SpaceInterface<float> {
 public:
  Graph(const Rows& rows, size_t dimension)
      : rows_(rows), dimension_(dimension), hnsw_(this, kFirstCapacity, kLinks, kBuildBreadth) {
    hnsw_.setEf(1);
  }
  Graph(const Rows& rows, size_t dimension, const std::filesystem::path& file, size_t capacity)
      : rows_(rows), dimension_(dimension), hnsw_(this, file.string(), false, capacity) {
    hnsw_.setEf(1);
    if (hnsw_.size_data_per_element_ != kElementSize) throw std::runtime_error("another layout");
    hnsw_.num_deleted_ = 0;  // hnswlib counts on from whatever stood there
    for (hnswlib::tableint i = 0; i < hnsw_.cur_element_count; ++i) {
      slots_.push_back(static_cast<uint32_t>(hnsw_.getExternalLabel(i)));
      if (hnsw_.isMarkedDeleted(i)) ++hnsw_.num_deleted_;
    }
  }

  void Put(uint32_t slot) {
    if (hnsw_.cur_element_count >= hnsw_.max_elements_) {
      hnsw_.resizeIndex(hnsw_.max_elements_ + hnsw_.max_elements_ / 4);
    }
    slots_.push_back(slot);
    // hnswlib copies kDataSize bytes from it, and hands it to Distance as it is.
    const Asked asked{rows_.Upper(slot), rows_.Scale(slot)};
    hnsw_.addPoint(&asked, slot);
  }

  void Remove(uint32_t slot) { hnsw_.markDelete(slot); }

  void Search(const Query& query, size_t breadth, std::vector<uint32_t>& found) const {
    const Asked asked{query.upper.data(), query.scale};
    auto nearest = hnsw_.searchKnn(&asked, breadth);
    for (; !nearest.empty(); nearest.pop()) {
      found.push_back(static_cast<uint32_t>(nearest.top().second));
    }
  }

  bool Save(const std::filesystem::path& file) const {
    // hnswlib does not say whether it could write, nor that saving changes nothing.
    const_cast<hnswlib::HierarchicalNSW<float>&>(hnsw_).saveIndex(file.string());
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    return !error && size == SavedSize();
  }

  const std::vector<uint32_t>& slots() const { return slots_; }
  std::vector<uint32_t> LinkedTo(size_t element) const {
    std::vector<uint32_t> linked;
    const unsigned* list = hnsw_.get_linklist0(static_cast<hnswlib::tableint>(element));
    const size_t count = hnsw_.getListCount(const_cast<unsigned*>(list));
    for (size_t i = 1; i <= std::min(count, 2 * kLinks); ++i) {
      if (list[i] < slots_.size()) linked.push_back(slots_[list[i]]);
    }
    return linked;
  }
  bool IsMarked(size_t element) const {
    return hnsw_.isMarkedDeleted(static_cast<hnswlib::tableint>(element));
  }

  size_t bytes() const {
    constexpr size_t kLocks = 65536 * sizeof(std::mutex);
    constexpr size_t kLockLabelLevel = sizeof(std::mutex) + 48 + sizeof(int) + sizeof(void*);
    return kLocks + slots_.capacity() * sizeof(uint32_t) +
           hnsw_.max_elements_ * (kElementSize + kLockLabelLevel);
  }

 private:
  struct Asked {
    const int8_t* upper;
    float scale;
  };
  // Not 0, so that hnswlib's label behind it is aligned.
  static constexpr size_t kDataSize = 4;
  static constexpr size_t kElementSize =
      sizeof(uint32_t) + 2 * kLinks * sizeof(uint32_t) + kDataSize + sizeof(hnswlib::labeltype);
  static_assert(kElementSize % 8 == 0);

  static float Distance(const void* a, const void* b, const void* graph) {
    const auto& self = *static_cast<const Graph*>(graph);
    const Asked first = self.Resolve(a), second = self.Resolve(b);
    const auto dot = static_cast<float>(Dot8(first.upper, second.upper, self.dimension_));
    return 1 - dot * (kUpperStep * first.scale) * (kUpperStep * second.scale);
  }
  Asked Resolve(const void* data) const {
    const auto from = reinterpret_cast<uintptr_t>(hnsw_.data_level0_memory_);
    const uintptr_t offset = reinterpret_cast<uintptr_t>(data) - from;
    if (offset >= slots_.size() * kElementSize) return *static_cast<const Asked*>(data);
    const uint32_t slot = slots_[offset / kElementSize];
    return {rows_.Upper(slot), rows_.Scale(slot)};
  }

  size_t SavedSize() const {
    size_t size = 6 * sizeof(size_t) + sizeof(int) + sizeof(hnswlib::tableint) +
                  3 * sizeof(size_t) + sizeof(double) + sizeof(size_t);
    size += slots_.size() * (kElementSize + sizeof(unsigned));
    for (size_t i = 0; i < slots_.size(); ++i) {
      size += static_cast<size_t>(hnsw_.element_levels_[i]) * hnsw_.size_links_per_element_;
    }
    return size;
  }

  size_t get_data_size() override { return kDataSize; }
  hnswlib::DISTFUNC<float> get_dist_func() override { return &Distance; }
  void* get_dist_func_param() override { return this; }

  const Rows& rows_;
  const size_t dimension_;
  std::vector<uint32_t> slots_;  // by element
  hnswlib::HierarchicalNSW<float> hnsw_;
};

VectorIndex::VectorIndex(size_t dimension, size_t flat_limit)
    : dimension_(dimension), flat_limit_(flat_limit), rows_(dimension) {}

VectorIndex::~VectorIndex() = default;

void VectorIndex::ExpectRows(size_t count) {
  rows_.Expect(count);
  states_.reserve(count);
}

uint32_t VectorIndex::Add(const QuantizedVector& vector) {
  uint32_t slot = static_cast<uint32_t>(slots());
  if (free_.empty()) {
    states_.push_back(0);
    rows_.Resize(states_.size());
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  rows_.Set(slot, vector);
  states_[slot] = kAlive;
  ++live_;
  if (slot < graphed_ && !PutIntoGraph(graph_, kInGraph, slot)) GiveUpGraph();
  if (slot < next_graphed_ && !PutIntoGraph(next_, kInNext, slot)) GiveUpGraph();
  return slot;
}

void VectorIndex::Remove(uint32_t slot) {
  uint8_t& state = states_[slot];
  if ((state & kAlive) != 0) --live_;
  state &= static_cast<uint8_t>(~(kAlive | kWaiting));
  try {
    if ((state & kInGraph) != 0) {
      graph_->Remove(slot);
      ++marked_;
    }
    if ((state & kInNext) != 0) {
      next_->Remove(slot);
      ++next_marked_;
    }
  } catch (const std::exception&) {
    GiveUpGraph();
    return;
  }
  if (state == 0 && !restoring_) free_.push_back(slot);
  if (live_ <= flat_limit_ && marked_ > live_) DropGraphs();
}

bool VectorIndex::DueForRebuild() const { return marked_ * 3 > live_ && live_ > flat_limit_; }

bool VectorIndex::ExtendGraph(size_t count) {
  if (graph_failed_ || restoring_ || (!graph_ && live_ <= flat_limit_)) return false;
  for (; count > 0 && graphed_ < slots(); --count) {
    const auto slot = static_cast<uint32_t>(graphed_++);
    if ((states_[slot] & kAlive) != 0 && !PutIntoGraph(graph_, kInGraph, slot)) {
      GiveUpGraph();
      return false;
    }
  }
  if (graphed_ < slots()) return true;
  if (!rebuilding() && !DueForRebuild()) return false;
  for (; count > 0 && next_graphed_ < slots(); --count) {
    const auto slot = static_cast<uint32_t>(next_graphed_++);
    if ((states_[slot] & kAlive) != 0 && !PutIntoGraph(next_, kInNext, slot)) {
      GiveUpGraph();
      return false;
    }
  }
  if (next_graphed_ < slots()) return true;
  FinishRebuild();
  return false;
}

bool VectorIndex::PutIntoGraph(std::unique_ptr<Graph>& graph, State state, uint32_t slot) {
  try {
    if (!graph) graph = std::make_unique<Graph>(rows_, dimension_);
    graph->Put(slot);
    states_[slot] |= state;
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void VectorIndex::FinishRebuild() {
  graph_ = std::move(next_);
  graphed_ = std::exchange(next_graphed_, 0);
  marked_ = std::exchange(next_marked_, 0);
  for (uint8_t& state : states_) {
    state = static_cast<uint8_t>((state & kAlive) | ((state & kInNext) != 0 ? kInGraph : 0));
  }
  FindFreeSlots();
}

void VectorIndex::GiveUpGraph() {
  graph_failed_ = true;
  DropGraphs();
}

void VectorIndex::DropGraphs() {
  graph_.reset();
  next_.reset();
  graphed_ = next_graphed_ = marked_ = next_marked_ = 0;
  for (uint8_t& state : states_) state &= kAlive | kWaiting;
  FindFreeSlots();
}

void VectorIndex::FindFreeSlots() {
  free_.clear();
  for (size_t slot = slots(); slot-- > 0;) {
    if (states_[slot] == 0) free_.push_back(static_cast<uint32_t>(slot));
  }
}

float VectorIndex::Similarity(std::span<const float> query, uint32_t slot) const {
  return Dot16(query.data(), rows_.Upper(slot), rows_.Lower(slot), dimension_) * rows_.Scale(slot);
}

bool VectorIndex::SearchGraph(const Query& query, size_t breadth, float min_similarity,
                              std::vector<Candidate>& found) const {
  std::vector<uint32_t> slots_found;
  try {
    graph_->Search(query, breadth, slots_found);
  } catch (const std::exception&) {
    return false;
  }
  for (const uint32_t slot : slots_found) {
    const float similarity = Similarity(query.values, slot);
    if (similarity >= min_similarity) found.push_back({slot, similarity});
  }
  return true;
}

std::vector<VectorIndex::Candidate> VectorIndex::Search(std::span<const float> values, size_t k,
                                                        float min_similarity,
                                                        absl::FunctionRef<bool()> stop) const {
  const Query query(values);
  std::vector<Candidate> found;
  size_t first_to_scan = 0;
  if (graph_ && k < live_ &&
      SearchGraph(query, std::max(k, kSearchBreadth), min_similarity, found)) {
    first_to_scan = graphed_;
  }
  Scan(query, first_to_scan, min_similarity, stop, found);
  const size_t kept = std::min(k, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(kept), found.end(),
                    Nearer);
  found.resize(kept);
  return found;
}

std::vector<VectorIndex::Candidate> VectorIndex::SearchNarrowly(const QuantizedVector& vector,
                                                                float min_similarity) const {
  const std::vector<float> values = Dequantize(vector);
  const Query query(values);
  std::vector<Candidate> found;
  if (!graph_ || !SearchGraph(query, kNarrowBreadth, min_similarity, found)) {
    Scan(query, 0, min_similarity, Never, found);
  }
  return found;
}

// The upper halves alone tell of most vectors that they are too far.
void VectorIndex::Scan(const Query& query, size_t first_slot, float min_similarity,
                       absl::FunctionRef<bool()> stop, std::vector<Candidate>& found) const {
  constexpr float kRounding = 1e-4f;
  const float asked_error = UpperError(query.scale, dimension_);
  for (size_t i = first_slot; i < slots(); ++i) {
    if (i % kScanStep == 0 && i > first_slot && stop()) return;
    if ((states_[i] & kAlive) == 0) continue;
    const auto slot = static_cast<uint32_t>(i);
    const float scale = rows_.Scale(slot);
    const float row_error = UpperError(scale, dimension_);
    const auto dot = static_cast<float>(Dot8(query.upper.data(), rows_.Upper(slot), dimension_));
    const float about = dot * (kUpperStep * query.scale) * (kUpperStep * scale);
    // Both vectors have length 1 and are off by no more than their errors.
    const float most = about + asked_error + row_error * (1 + asked_error) + kRounding;
    if (most < min_similarity) continue;
    const float similarity = Similarity(query.values, slot);
    if (similarity >= min_similarity) found.push_back({slot, similarity});
  }
}

bool VectorIndex::SaveGraph(const std::filesystem::path& file) const {
  return graph_ && graph_->Save(file);
}

void VectorIndex::Reserve(size_t count) {
  restoring_ = true;
  ExpectRows(count);
  rows_.Resize(count);
  states_.assign(count, kWaiting);
}

void VectorIndex::Fill(uint32_t slot, const QuantizedVector& vector) {
  rows_.Set(slot, vector);
  states_[slot] = kAlive;
  ++live_;
}

bool VectorIndex::PrepareGraph(const std::filesystem::path& file) {
  try {
    auto graph = std::make_unique<Graph>(rows_, dimension_, file, slots() + slots() / 10 + 1);
    PlaceTheDead(*graph);
    next_ = std::move(graph);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

void VectorIndex::PlaceTheDead(const Graph& graph) {
  for (size_t element = 0; element < graph.slots().size(); ++element) {
    const uint32_t slot = graph.slots()[element];
    if (slot >= slots() || (states_[slot] & kAlive) != 0) continue;
    std::vector<float> middle(dimension_);
    for (const uint32_t other : graph.LinkedTo(element)) {
      if (other >= slots() || (states_[other] & kAlive) == 0) continue;
      const float scale = rows_.Scale(other);
      const int8_t* upper = rows_.Upper(other);
      for (size_t i = 0; i < dimension_; ++i) middle[i] += scale * static_cast<float>(upper[i]);
    }
    rows_.Set(slot, Quantize(middle));
  }
}

bool VectorIndex::AdoptGraph() {
  restoring_ = false;
  for (uint8_t& state : states_) state &= kAlive;
  std::vector<uint8_t> states = states_;
  size_t past_last = 0;
  if (!next_ || !CheckSavedGraph(states, past_last)) {
    next_.reset();
    marked_ = 0;
    FindFreeSlots();
    return false;
  }
  graph_ = std::move(next_);
  states_ = std::move(states);
  graphed_ = past_last;
  FindFreeSlots();
  // What lives below the last one but is not in the graph is put into it.
  for (uint32_t slot = 0; slot < graphed_; ++slot) {
    if (states_[slot] == kAlive && !PutIntoGraph(graph_, kInGraph, slot)) {
      GiveUpGraph();
      return false;
    }
  }
  return true;
}

// Each of its elements is another slot of ours; those of the dead get marked.
bool VectorIndex::CheckSavedGraph(std::vector<uint8_t>& states, size_t& past_last) {
  try {
    for (size_t element = 0; element < next_->slots().size(); ++element) {
      const uint32_t slot = next_->slots()[element];
      if (slot >= states.size() || (states[slot] & kInGraph) != 0) return false;
      states[slot] |= kInGraph;
      past_last = std::max<size_t>(past_last, slot + 1);
      const bool alive = (states[slot] & kAlive) != 0;
      if (alive && next_->IsMarked(element)) return false;
      if (alive) continue;
      if (!next_->IsMarked(element)) next_->Remove(slot);
      ++marked_;
    }
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

size_t VectorIndex::bytes() const {
  return rows_.bytes() + states_.capacity() + free_.capacity() * sizeof(uint32_t) +
         (graph_ ? graph_->bytes() : 0) + (next_ ? next_->bytes() : 0);
}

}  // namespace holdfast::cache
