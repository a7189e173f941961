#include "cache/eviction.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace holdfast::cache {
namespace {

constexpr size_t kFewest = 1024;
constexpr size_t kMost = 65536;
constexpr double kTwinFactor = 4;
// What an attack or a long disk failure can make this grow to; then hits are no longer counted.
constexpr size_t kMostUsage = 200'000;

}  // namespace

void Eviction::NoteHit(const std::string& id) {
  const std::lock_guard lock(usage_mutex_);
  if (usage_.size() < kMostUsage || usage_.contains(id)) ++usage_[id].hits;
}

void Eviction::NoteTwin(const std::string& id) {
  const std::lock_guard lock(usage_mutex_);
  if (usage_.size() < kMostUsage || usage_.contains(id)) usage_[id].has_twin = true;
}

void Eviction::NoteStored(const std::string& id) {
  const std::lock_guard lock(list_mutex_);
  oldest_ = std::min(oldest_, id);
  if (id <= listed_to_) listed_.clear();
}

std::optional<Eviction::Victim> Eviction::Next(size_t entries, core::WallTime now) {
  const std::lock_guard lock(list_mutex_);
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (listed_.empty()) List(entries, now);
    while (!listed_.empty()) {
      Listed next = std::move(listed_.front());
      listed_.pop_front();
      const std::string& id = next.victim.entry.id;
      const auto record = store_.FindId(id);
      if (!record) continue;  // gone already
      const bool served_since = record->hits + UsageOf(id).hits > next.hits;
      if (!served_since) return std::move(next.victim);
    }
  }
  return std::nullopt;
}

Eviction::Usage Eviction::UsageOf(const std::string& id) const {
  const std::lock_guard lock(usage_mutex_);
  const auto it = usage_.find(id);
  return it == usage_.end() ? Usage() : it->second;
}

void Eviction::List(size_t entries, core::WallTime now) {
  const size_t looked_at = std::clamp(entries / 8, kFewest, kMost);
  std::vector<Listed> seen;
  bool first = true;
  store_.ForEachId(oldest_, [&](std::string_view id, const IdRecord& record) {
    if (std::exchange(first, false)) oldest_ = id;
    listed_to_ = id;
    if (record.pinned) return true;
    Listed one{{{record.key, std::string(id)}, record.bytes}, 0, record.hits};
    const Usage usage = UsageOf(one.victim.entry.id);
    one.hits += usage.hits;
    const double age = std::chrono::duration<double>(now - record.created_at).count();
    one.uselessness = std::max(age, 1e-9) * (record.has_twin || usage.has_twin ? kTwinFactor : 1) /
                      static_cast<double>(1 + one.hits);
    seen.push_back(std::move(one));
    return seen.size() < looked_at;
  });
  std::sort(seen.begin(), seen.end(), [](const Listed& a, const Listed& b) {
    if (a.uselessness != b.uselessness) return a.uselessness > b.uselessness;
    return a.victim.entry.id < b.victim.entry.id;
  });
  seen.resize((seen.size() + 1) / 2);
  listed_.assign(std::make_move_iterator(seen.begin()), std::make_move_iterator(seen.end()));
}

std::vector<std::pair<std::string, Eviction::Usage>> Eviction::TakeUsage(size_t most) {
  const std::lock_guard lock(usage_mutex_);
  std::vector<std::pair<std::string, Usage>> taken;
  while (!usage_.empty() && taken.size() < most) {
    auto node = usage_.extract(usage_.begin());
    taken.emplace_back(std::move(node.key()), node.mapped());
  }
  return taken;
}

bool Eviction::HasUsage() const {
  const std::lock_guard lock(usage_mutex_);
  return !usage_.empty();
}

}  // namespace holdfast::cache
