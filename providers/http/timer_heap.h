#pragma once

// The timers of one loop: ordered by time, then by order of Add. Cancel is O(1): it drops the
// callback at once and leaves a 16-byte tombstone, and tombstones never outnumber live timers by
// much. One thread; owned by CurlLoop.

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "core/clock.h"
#include "core/loop.h"

namespace holdfast::providers {

class TimerHeap {
 public:
  using Callback = core::Loop::Callback;

  core::TimerId Add(core::SteadyTime when, Callback fn) {
    const core::TimerId id = ++last_id_;
    callbacks_.emplace(id, std::move(fn));
    heap_.emplace_back(when, id);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
    return id;
  }

  bool Cancel(core::TimerId id) {
    // The callback is destroyed last: its destructor may come back here.
    const auto node = callbacks_.extract(id);
    if (!node) return false;
    if (heap_.size() > 2 * callbacks_.size() + kMinTombstones) DropTombstones();
    return true;
  }

  // When the first timer is due; none without timers.
  std::optional<core::SteadyTime> Next() {
    DropCancelledTop();
    if (heap_.empty()) return std::nullopt;
    return heap_.front().first;
  }

  // The first timer that is due at `now` and was added no later than `last`; null if none is.
  Callback TakeDue(core::SteadyTime now, core::TimerId last) {
    DropCancelledTop();
    if (heap_.empty() || heap_.front().first > now || heap_.front().second > last) return nullptr;
    auto node = callbacks_.extract(heap_.front().second);
    Pop();
    return std::move(node.mapped());
  }

  core::TimerId last_id() const { return last_id_; }
  size_t size() const { return callbacks_.size(); }
  size_t heap_size() const { return heap_.size(); }

 private:
  static constexpr size_t kMinTombstones = 64;

  void Pop() {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    heap_.pop_back();
  }
  void DropCancelledTop() {
    while (!heap_.empty() && !callbacks_.contains(heap_.front().second)) Pop();
  }
  void DropTombstones() {
    std::erase_if(heap_, [this](const auto& timer) { return !callbacks_.contains(timer.second); });
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  core::TimerId last_id_ = 0;
  std::vector<std::pair<core::SteadyTime, core::TimerId>> heap_;
  absl::flat_hash_map<core::TimerId, Callback> callbacks_;
};

}  // namespace holdfast::providers
