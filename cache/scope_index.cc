#include "cache/scope_index.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <unordered_set>

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;

// A cosine of 16-bit numbers is no finer than this; so a question asked again has exactly 1, and a
// threshold of 0.7 is reached by 0.7.
constexpr double kStep = 1e4;
constexpr float kSlack = 1e-4f;

double Round(float similarity) {
  return std::clamp(std::round(static_cast<double>(similarity) * kStep) / kStep, -1.0, 1.0);
}

// Most lookups take the first 16 or fewer. The last round is the exact scan.
constexpr size_t kRounds[] = {32, 256, std::numeric_limits<size_t>::max()};

ScopeIndex::Question ToQuestion(std::string_view question_key) {
  ScopeIndex::Question question{};
  std::copy_n(question_key.begin(), std::min(question_key.size(), question.size()),
              question.begin());
  return question;
}

// The table of slots: this header, then a SavedSlot each, then the CRC-32 of all before.
struct SavedHeader {
  char format[8] = {'h', 'f', 's', 'l', 'o', 't', 's', '1'};
  uint64_t embedder = 0;
  uint64_t dimension = 0;
  uint64_t slots = 0;
  uint64_t graph_size = 0;
  uint64_t graph_checksum = 0;
};
struct SavedSlot {
  ScopeIndex::Question question{};
  uint64_t entry = 0;  // 0: nobody's
};
static_assert(sizeof(SavedHeader) == 48 && sizeof(SavedSlot) == 24);

fs::path TableIn(const fs::path& directory) { return directory / "slots"; }
fs::path GraphIn(const fs::path& directory) { return directory / "graph"; }

uint32_t AddToChecksum(uint32_t crc, const void* data, size_t size) {
  return static_cast<uint32_t>(crc32_z(crc, static_cast<const Bytef*>(data), size));
}

// Of a whole file, with its size; none if it cannot be read.
std::optional<std::pair<uint64_t, uint32_t>> SizeAndChecksum(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(1 << 20);
  uint64_t size = 0;
  uint32_t checksum = 0;
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    const auto got = static_cast<size_t>(file.gcount());
    size += got;
    checksum = AddToChecksum(checksum, block.data(), got);
  }
  if (!file.eof()) return std::nullopt;
  return std::pair(size, checksum);
}

// Of the table, when the graph beside it is whole too.
std::optional<std::vector<SavedSlot>> ReadTable(const fs::path& directory,
                                                const SavedHeader& expected) {
  std::ifstream file(TableIn(directory), std::ios::binary);
  std::error_code error;
  const uint64_t size = fs::file_size(TableIn(directory), error);
  SavedHeader header;
  if (error || !file.read(reinterpret_cast<char*>(&header), sizeof(header))) return std::nullopt;
  const uint64_t body = header.slots * sizeof(SavedSlot);
  if (std::memcmp(header.format, expected.format, sizeof(header.format)) != 0 ||
      header.embedder != expected.embedder || header.dimension != expected.dimension ||
      header.slots > size / sizeof(SavedSlot) || size != sizeof(header) + body + sizeof(uint32_t)) {
    return std::nullopt;
  }
  std::vector<SavedSlot> slots(header.slots);
  uint32_t checksum = 0;
  if (!file.read(reinterpret_cast<char*>(slots.data()), static_cast<std::streamsize>(body)) ||
      !file.read(reinterpret_cast<char*>(&checksum), sizeof(checksum)) ||
      checksum != AddToChecksum(AddToChecksum(0, &header, sizeof(header)), slots.data(), body)) {
    return std::nullopt;
  }
  const auto graph = SizeAndChecksum(GraphIn(directory));
  if (!graph || graph->first != header.graph_size || graph->second != header.graph_checksum) {
    return std::nullopt;
  }
  return slots;
}

}  // namespace

struct ScopeIndex::Saved {
  fs::path graph;
  std::vector<SavedSlot> slots;
};

uint64_t EntryNumber(std::string_view id) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return hash;
}

ScopeIndex::ScopeIndex(size_t dimension, size_t flat_limit)
    : vectors_(dimension, flat_limit), slots_(0, SlotHash{&items_}, SlotEqual{&items_}) {}

std::optional<uint32_t> ScopeIndex::SlotOf(std::string_view question_key) const {
  const auto it = slots_.find(ToQuestion(question_key));
  if (it == slots_.end()) return std::nullopt;
  return *it;
}

bool ScopeIndex::Contains(std::string_view question_key) const {
  const auto slot = SlotOf(question_key);
  return slot && !vectors_.waiting(*slot);
}

void ScopeIndex::Put(const Entry& entry, const QuantizedVector& vector) {
  Remove(entry.question_key);
  const uint32_t slot = vectors_.Add(vector);
  if (slot >= items_.size()) items_.resize(slot + 1);
  items_[slot] = {ToQuestion(entry.question_key), EntryNumber(entry.id), entry.created_at,
                  entry.pinned};
  slots_.insert(slot);
}

void ScopeIndex::Remove(std::string_view question_key) {
  const auto slot = SlotOf(question_key);
  if (!slot) return;
  slots_.erase(*slot);  // before the slot is anybody else's
  vectors_.Remove(*slot);
  items_[*slot].entry = 0;
}

void ScopeIndex::Expect(size_t entries) {
  vectors_.ExpectRows(entries);
  items_.reserve(entries);
  slots_.reserve(entries);
}

std::shared_ptr<const ScopeIndex::Saved> ScopeIndex::ReadSaved(const fs::path& directory,
                                                               const std::string& embedder,
                                                               size_t dimension) {
  SavedHeader expected;
  expected.embedder = EntryNumber(embedder);
  expected.dimension = dimension;
  auto slots = ReadTable(directory, expected);
  if (!slots || slots->empty()) return nullptr;
  return std::make_shared<Saved>(Saved{GraphIn(directory), *std::move(slots)});
}

void ScopeIndex::BeginRestore(const Saved& saved) {
  vectors_.Reserve(saved.slots.size());
  items_.resize(saved.slots.size());
  for (uint32_t slot = 0; slot < saved.slots.size(); ++slot) {
    items_[slot].question = saved.slots[slot].question;
    items_[slot].entry = saved.slots[slot].entry;
    if (items_[slot].entry != 0) slots_.insert(slot);
  }
  restoring_ = true;
  saved_graph_ = saved.graph;
}

void ScopeIndex::Load(const Entry& entry, const QuantizedVector& vector) {
  const auto slot = SlotOf(entry.question_key);
  if (slot && !vectors_.waiting(*slot)) return;
  if (slot && items_[*slot].entry == EntryNumber(entry.id)) {
    items_[*slot].created_at = entry.created_at;
    items_[*slot].pinned = entry.pinned;
    vectors_.Fill(*slot, vector);
  } else {
    Put(entry, vector);
  }
}

void ScopeIndex::PrepareGraph() {
  if (restoring_) vectors_.PrepareGraph(saved_graph_);
}

void ScopeIndex::FinishLoad() {
  if (!restoring_) return;
  restoring_ = false;
  for (uint32_t slot = 0; slot < items_.size(); ++slot) {
    if (!vectors_.waiting(slot)) continue;
    if (items_[slot].entry != 0) slots_.erase(slot);
    items_[slot].entry = 0;
  }
  vectors_.AdoptGraph();
}

bool ScopeIndex::Save(const fs::path& directory, const std::string& embedder) const {
  if (!vectors_.SaveGraph(GraphIn(directory))) return false;
  const auto graph = SizeAndChecksum(GraphIn(directory));
  if (!graph) return false;
  SavedHeader header;
  header.embedder = EntryNumber(embedder);
  header.dimension = vectors_.dimension();
  header.slots = vectors_.slots();
  header.graph_size = graph->first;
  header.graph_checksum = graph->second;
  std::vector<SavedSlot> saved(header.slots);
  for (const uint32_t slot : slots_) saved[slot] = {items_[slot].question, items_[slot].entry};
  const size_t body = saved.size() * sizeof(SavedSlot);
  const uint32_t checksum =
      AddToChecksum(AddToChecksum(0, &header, sizeof(header)), saved.data(), body);
  std::ofstream file(TableIn(directory), std::ios::binary);
  file.write(reinterpret_cast<const char*>(&header), sizeof(header));
  file.write(reinterpret_cast<const char*>(saved.data()), static_cast<std::streamsize>(body));
  file.write(reinterpret_cast<const char*>(&checksum), sizeof(checksum));
  file.close();
  return file.good();
}

std::vector<ScopeIndex::Question> ScopeIndex::Near(std::string_view question_key,
                                                   const QuantizedVector& vector,
                                                   double min_similarity) const {
  std::vector<Question> near;
  const auto own = SlotOf(question_key);
  for (const auto& candidate :
       vectors_.SearchNarrowly(vector, static_cast<float>(min_similarity))) {
    if (candidate.slot != own) near.push_back(items_[candidate.slot].question);
  }
  return near;
}

void ScopeIndex::Visit(std::span<const float> query, double min_similarity,
                       absl::FunctionRef<bool(const Item& item, double similarity)> take,
                       absl::FunctionRef<bool()> stop) const {
  std::unordered_set<uint32_t> shown;
  for (const size_t k : kRounds) {
    const std::vector<Found> found = Search(query, k, min_similarity, stop);
    // With a full list there may be more as near as its last: they wait for the next round.
    const bool complete = found.size() < k || stop();
    for (const Found& candidate : found) {
      if (!complete && candidate.similarity <= found.back().similarity) break;
      if (!shown.insert(candidate.slot).second) continue;
      if (take(items_[candidate.slot], candidate.similarity)) return;
    }
    if (complete) return;
  }
}

std::vector<ScopeIndex::Found> ScopeIndex::Search(std::span<const float> query, size_t k,
                                                  double min_similarity,
                                                  absl::FunctionRef<bool()> stop) const {
  std::vector<Found> found;
  const float floor = static_cast<float>(min_similarity) - kSlack;
  for (const auto& candidate : vectors_.Search(query, k, floor, stop)) {
    found.push_back({Round(candidate.similarity), candidate.slot});
  }
  // What the slack let in stays in the list until here, so that its length tells "no more".
  std::sort(found.begin(), found.end(), [this](const Found& a, const Found& b) {
    if (a.similarity != b.similarity) return a.similarity > b.similarity;
    return items_[a.slot].created_at > items_[b.slot].created_at;
  });
  while (!found.empty() && found.back().similarity < min_similarity) found.pop_back();
  return found;
}

size_t ScopeIndex::bytes() const {
  constexpr size_t kSlotInSet = sizeof(uint32_t) + 1;
  return sizeof(*this) + vectors_.bytes() + items_.capacity() * sizeof(Item) +
         slots_.capacity() * kSlotInSet;
}

}  // namespace holdfast::cache
