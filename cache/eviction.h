#pragma once

// Which entries go when there is no more room: the least useful. AnswerBook owns one and asks it;
// thread safe.
//
// The rule. An entry's uselessness is its age * (4 if a newer entry is nearly the same question) /
// (1 + the times it was served). The eighth of the entries that is oldest (between 1,024 and
// 65,536 of them) is looked at, and the more useless half of that is what goes next, in order;
// then the then-oldest eighth is looked at. So what nobody asked for goes about in order of age,
// and what was served stays while there is something older or less wanted. One that is served
// while it waits to go stays too. Pinned entries never go.
//
// How often an entry was served is counted here and written to the store now and then
// (AnswerBook::SaveUsage), so a crash may forget some.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cache/store.h"
#include "core/clock.h"

namespace holdfast::cache {

class Eviction {
 public:
  struct Usage {
    uint64_t hits = 0;
    bool has_twin = false;
  };
  struct Victim {
    KeyAndId entry;
    uint64_t bytes = 0;
  };

  explicit Eviction(const EntryStore& store) : store_(store) {}

  void NoteHit(const std::string& id);
  void NoteTwin(const std::string& id);
  // An entry that may be older than those looked at: a clock that was set back, an import.
  void NoteStored(const std::string& id);

  // The one that goes next; none if there is nothing that may. `entries`: how many there are.
  std::optional<Victim> Next(size_t entries, core::WallTime now);

  // Some of what is not in the store yet, no longer kept here.
  std::vector<std::pair<std::string, Usage>> TakeUsage(size_t most);
  bool HasUsage() const;

 private:
  struct Listed {
    Victim victim;
    double uselessness = 0;
    uint64_t hits = 0;
  };
  Usage UsageOf(const std::string& id) const;
  void List(size_t entries, core::WallTime now);

  const EntryStore& store_;
  mutable std::mutex usage_mutex_;
  std::unordered_map<std::string, Usage> usage_;  // what the store does not know yet
  std::mutex list_mutex_;                         // all below; taken first; held while reading
  std::string oldest_;                            // nothing older is left in the store
  std::string listed_to_;                         // the newest that was looked at
  std::deque<Listed> listed_;
};

}  // namespace holdfast::cache
