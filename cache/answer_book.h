#pragma once

// What the cache does, without the asynchrony: it embeds, stores, finds, evicts and purges, and
// blocks while it does. SemanticCache owns it and calls it on the pool's threads; thread safe.
//
// A scope's entries are in the store always, and in memory, as a ScopeIndex, while the scope is in
// use: loaded when it is first asked for and after a start the largest first, dropped longest
// unused first once `index_memory` is exceeded. A scope's lock is held over its change of the store
// too, so the two agree.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/functional/function_ref.h"
#include "cache/judge.h"
#include "cache/scope.h"
#include "cache/scope_index.h"
#include "cache/store.h"
#include "core/answer_cache.h"
#include "core/clock.h"
#include "core/embedder.h"
#include "core/random.h"

namespace holdfast::cache {

struct SemanticCacheOptions {
  // The database's own directory, made if missing. Empty: in memory only.
  std::filesystem::path directory;
  // The oldest go first.
  size_t max_entries = 100'000;
  // Question and answer together; what is larger is not stored.
  size_t max_entry_bytes = 256 << 10;
  // What is older is purged when the cache opens: the longest max_age of the routes. None = keep.
  std::optional<core::Duration> retention;
  // About how much of the indexes is held in memory.
  size_t index_memory = 256 << 20;
  // What waits to be stored, histories included.
  size_t max_queued_bytes = 64 << 20;
  // Scopes up to this size are scanned, larger ones get an HNSW graph.
  size_t flat_limit = VectorIndex::kDefaultFlatLimit;
  // Told of what an operator should know: a database set aside, writes that fail (at most once a
  // minute). From any thread; no prompt, answer or key stands in the text.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

// Conditions that are set must all hold; with none set it is everything.
struct PurgeFilter {
  std::optional<std::string> tenant;
  std::optional<std::string> route;
  std::optional<core::Duration> older_than;
  std::optional<std::string> entry_id;
};

struct EntrySummary {
  std::string id;
  std::string tenant;
  std::string route;
  core::Duration age{};
};

// An entry that a lookup looked at, with what the judge said of it.
struct Considered {
  EntryRecord entry;
  core::Duration age{};
  double cosine = 0;
  Verdict verdict;
};

class AnswerBook {
 public:
  // How many of the nearest valid entries are judged.
  static constexpr size_t kCandidates = 16;

  // Embedder, clock, random and judge are borrowed.
  AnswerBook(SemanticCacheOptions options, const core::Embedder& embedder, const core::Clock& clock,
             core::Random& random, const Judge& judge = CosineJudge::Instance());

  // False if it was not stored; the counters say why.
  bool Insert(const ScopeSource& scope, const std::string& question, core::NewEntry entry,
              core::WallTime created_at);

  // Of the nearest valid entries the one that the judge rates highest, if it reaches the query's
  // threshold; of equals the nearest, then the newest. `give_up` is asked between the steps; once
  // it returns true the result is none.
  std::optional<core::CacheHit> Find(const ScopeSource& scope, const std::string& question,
                                     const core::CacheQuery& query,
                                     absl::FunctionRef<bool()> give_up);

  // What Find looks at, best first as it ranks them, for a person who asks why: with `min_cosine`
  // below the judge's own floor, also what it passes over.
  std::vector<Considered> Explain(const ScopeSource& scope, const std::string& question,
                                  double min_cosine, core::Duration max_age);

  // Removes from memory and disk, the files included; returns how many.
  size_t Purge(const PurgeFilter& filter);
  std::vector<EntrySummary> Newest(size_t count) const;

  // Background work: loading scopes after a start, building graphs. A bounded step of it.
  void Tend();
  bool work_due() const { return work_due_; }

  const SemanticCacheOptions& options() const { return options_; }
  const EntryStore& store() const { return *store_; }
  const core::Embedder& embedder() const { return embedder_; }
  const Judge& judge() const { return judge_; }
  size_t entries() const;
  size_t scopes() const;
  size_t index_bytes() const;
  uint64_t rejected_vectors() const { return rejected_vectors_; }
  uint64_t evicted() const { return evicted_; }

 private:
  struct Scope {
    Scope(std::string scope_key, size_t dimension, size_t flat_limit)
        : key(std::move(scope_key)), index(dimension, flat_limit) {}

    const std::string key;
    std::shared_mutex mutex;
    bool loaded = false;  // guarded by mutex, as is index
    ScopeIndex index;
    std::atomic<size_t> bytes = 0;
  };
  struct InMemory {
    std::shared_ptr<Scope> scope;
    std::list<std::string>::iterator used;  // in recently_used_
    size_t bytes = 0;                       // as counted in index_bytes_
  };
  class Lease;

  void ReadCensus();
  std::shared_ptr<Scope> Acquire(const std::string& key);
  void GiveBack(std::shared_ptr<Scope> scope);
  void TrimMemory(std::vector<std::shared_ptr<Scope>>& dropped);
  void NoteGraphLag(const std::string& scope_key);
  void UpdateWorkDue();
  void CountEntry(const std::string& scope_key, int change);
  bool Known(const std::string& scope_key) const;

  void LoadNextScope();
  void ExtendNextGraph();
  void Load(Scope& scope);
  void EmbedAnew(Scope& scope, const std::string& key);
  std::vector<Considered> Consider(const ScopeSource& source, const std::string& question,
                                   double min_cosine, core::Duration max_age,
                                   absl::FunctionRef<bool()> give_up);
  std::optional<std::vector<float>> EmbedText(std::string_view text) const;
  bool PutLocked(Scope& scope, const EntryRecord& entry, const std::vector<float>& vector,
                 const std::string& question_key);
  std::vector<Considered> Nearest(const Scope& scope, std::span<const float> vector,
                                  double min_cosine, core::Duration max_age,
                                  std::vector<std::string>& damaged) const;

  std::vector<KeyAndId> Matching(const PurgeFilter& filter) const;
  size_t RemoveAll(const std::vector<KeyAndId>& entries);
  size_t RemoveLocked(Scope& scope, std::span<const KeyAndId> entries);
  void EvictExcess();
  core::Duration AgeOf(core::WallTime created_at) const;
  void WarnOfWrite(const absl::Status& status);

  const SemanticCacheOptions options_;
  const core::Embedder& embedder_;
  const core::Clock& clock_;
  core::Random& random_;
  const Judge& judge_;
  const std::unique_ptr<EntryStore> store_;

  mutable std::mutex mutex_;  // the next block; taken after a scope's mutex, held for moments
  std::unordered_map<std::string, size_t> census_;  // entries by scope, of all that is stored
  size_t entries_ = 0;
  std::unordered_map<std::string, InMemory> in_memory_;
  std::list<std::string> recently_used_;  // the latest first
  size_t index_bytes_ = 0;
  std::vector<std::string> to_load_;           // after a start; the largest last
  std::unordered_set<std::string> to_extend_;  // scopes whose graph lags behind

  std::mutex evict_mutex_;
  std::string oldest_id_;  // guarded by mutex_: nothing older is left in the store

  std::mutex warn_mutex_;
  std::optional<core::SteadyTime> last_warning_;  // guarded by warn_mutex_

  std::atomic<bool> work_due_ = false;
  std::atomic<uint64_t> rejected_vectors_ = 0;
  std::atomic<uint64_t> evicted_ = 0;
};

}  // namespace holdfast::cache
