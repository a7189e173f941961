#pragma once

// What the cache does, without the asynchrony: it embeds, stores, finds, evicts and purges, and
// blocks while it does. SemanticCache owns it and calls it on the pool's threads; thread safe.
//
// A scope's entries are in the store always, and in memory, as a ScopeIndex for each embedder,
// while the scope is in use: loaded when it is first asked for and after a start the largest first,
// dropped longest unused first once `index_memory` is exceeded. A large scope is loaded in steps,
// and lookups see what is there by then; its graph is saved now and then (snapshots.h), so that it
// need not be built anew. Whoever changes a scope's entries holds its `writing` over store and
// indexes, so that they agree; a lookup waits for the indexes alone.
//
// Entries have a vector by the embedder in the process and, where one is configured, another by a
// remote one. Either may be owed: the entry was stored in a hurry, its embedder was down (the
// remote one is never asked on storing), or another embedder is in use now. The debt stands in the
// store, so it outlives a restart, and is paid in the background. Whoever owes both is found only
// by the same question.
//
// answer_book.cc has what changes entries, answer_book_lookup.cc what finds them,
// answer_book_scopes.cc the indexes in memory, answer_book_vectors.cc embedding and its debts.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "cache/error_watch.h"
#include "cache/eviction.h"
#include "cache/judge.h"
#include "cache/scope.h"
#include "cache/scope_index.h"
#include "cache/snapshots.h"
#include "cache/store.h"
#include "core/answer_cache.h"
#include "core/clock.h"
#include "core/embedder.h"
#include "core/random.h"

namespace holdfast::cache {

struct SemanticCacheOptions {
  // The database's own directory, made if missing. Empty: in memory only.
  std::filesystem::path directory;
  // The least useful go first (eviction.h says which).
  size_t max_entries = 1'000'000;
  // Questions and answers of all entries together; likewise.
  uint64_t max_bytes = uint64_t{8} << 30;
  // Question and answer together; what is larger is not stored.
  size_t max_entry_bytes = 256 << 10;
  // What is older is removed, from the disk too: the route's, or for routes that are not here
  // `retention`. None = keep. Pinned entries stay.
  std::map<std::string, core::Duration> route_retention;
  std::optional<core::Duration> retention;
  // About how much of the indexes is held in memory: a million entries of 384 dimensions take
  // about 1,100 MiB, in whatever scopes.
  size_t index_memory = size_t{1536} << 20;
  // What waits to be stored, histories included.
  size_t max_queued_bytes = 64 << 20;
  // With more stores than this waiting, entries are stored at once and embedded later.
  size_t embed_backlog = 64;
  // Scopes up to this size are scanned, larger ones get an HNSW graph.
  size_t flat_limit = VectorIndex::kDefaultFlatLimit;
  // 32 bytes with which all that is stored but its keys (scope and question, hashed) is encrypted.
  // Empty: it is not.
  std::string encryption_key = {};
  // What it may still be encrypted with; that is rewritten in the background. Empty: nothing.
  std::string previous_key = {};
  // A better embedder elsewhere, which may be down; borrowed. Entries get its vectors in the
  // background, and while it answers those entries are found and judged by them. All others are by
  // the in-process embedder's vectors, and so is everything while it is down. Null = none.
  const core::Embedder* remote = nullptr;
  core::Duration remote_timeout{};  // a call's longest
  // By route: what in its system prompts does not tell scopes apart.
  std::map<std::string, core::Patterns> scope_ignored;
  // How often answers are compared with what would have been served, and what follows.
  ErrorWatchOptions errors;
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
  std::vector<std::pair<std::string, std::string>> labels;  // all of them
};

struct EntrySummary {
  std::string id;
  std::string tenant;
  std::string route;
  core::Duration age{};
};

// What goes with an entry besides question and answer.
struct InsertOptions {
  std::vector<std::pair<std::string, std::string>> labels;  // to purge by
  bool pinned = false;                                      // never expires, is never evicted
  bool embed_later = false;
  bool keep_newer = false;    // of the same question's entries the newer stays, whichever it is
  std::vector<float> vector;  // of the question, if it is known already; else empty
};

enum class Inserted {
  kStored,
  kKept,      // the same question has an entry that is pinned, or newer
  kTooOld,    // it would be removed at once
  kNoVector,  // zero, not finite or of a wrong size
  kFailed,    // it cannot be written
};

// What one entry is, wherever it is moved to.
struct ExportedEntry {
  std::string key;  // where the next page goes on after
  std::string scope_key;
  EntryRecord entry;
  IdRecord details;
};

// An entry that a lookup looked at, with what the judge said of it.
struct Considered {
  EntryRecord entry;
  core::Duration age{};
  double cosine = 0;
  Verdict verdict;
};

// How far entries have the vectors of one embedder.
struct EmbeddingProgress {
  std::string embedder;
  bool remote = false;
  uint64_t done = 0;  // entries that have its vector, or never will; grows while `counting`
  uint64_t total = 0;
  bool counting = false;  // looking through the entries for those without, after a change of it
};

class AnswerBook {
 public:
  // How many of the nearest valid entries are judged: by the remote's vectors and, of those that
  // have none, by the others.
  static constexpr size_t kCandidates = 16;

  // Embedder, clock, random and judge are borrowed.
  AnswerBook(SemanticCacheOptions options, const core::Embedder& embedder, const core::Clock& clock,
             core::Random& random, const Judge& judge = CosineJudge::Instance());

  // Whether it was stored. A pinned entry gives way to another pinned one alone.
  bool Insert(const ScopeSource& scope, const std::string& question, core::NewEntry entry,
              core::WallTime created_at, const InsertOptions& options = {}) {
    return InsertInto(ScopeKey(scope), question, std::move(entry), created_at, options) ==
           Inserted::kStored;
  }
  Inserted InsertInto(const std::string& scope_key, const std::string& question,
                      core::NewEntry entry, core::WallTime created_at,
                      const InsertOptions& options);

  // All whole entries whose keys begin with `prefix` and come after `after`, in order of keys,
  // until `visit` returns false.
  void Export(std::string_view prefix, std::string_view after,
              absl::FunctionRef<bool(const ExportedEntry&)> visit) const;

  // Of the nearest valid entries the one that the judge rates highest, if it reaches the query's
  // threshold; of equals the nearest, then the newest. `give_up` is asked between the steps; once
  // it returns true the result is none. Where much has to be scanned, since a graph is not loaded
  // yet, a lookup takes what it has seen after kScanTime. The same question's own entry, if the
  // judge lets it pass, is served without a search, or an embedding.
  std::optional<core::CacheHit> Find(const ScopeSource& scope, const std::string& question,
                                     const core::CacheQuery& query,
                                     absl::FunctionRef<bool()> give_up,
                                     core::SteadyTime by = core::SteadyTime::max());

  // What Find looks at, best first as it ranks them, for a person who asks why: with `min_cosine`
  // below the judge's own floor, also what it passes over. The same question's own entry is among
  // them even if it has no vector yet.
  std::vector<Considered> Explain(const ScopeSource& scope, const std::string& question,
                                  double min_cosine, core::Duration max_age);

  // Removes from memory and disk, the files included; returns how many.
  size_t Purge(const PurgeFilter& filter);
  std::vector<EntrySummary> Newest(size_t count) const;

  // Background work: loading scopes after a start, building and saving graphs, paying debts,
  // removing what expired. A bounded step of it; saving a graph of a million takes a second.
  // Debts are paid with embedding, which can wait while stores do not.
  void Tend(bool may_embed = true);
  bool work_due() const { return work_due_ || clock_.Now() >= next_upkeep_.load(); }

  const SemanticCacheOptions& options() const { return options_; }
  const EntryStore& store() const { return *store_; }
  // The windows of the self-measured error rate, which the owner keeps; with what makes
  // similarities what they are now, so that those of others are not taken up.
  std::optional<WindowRecord> ReadWindow(const std::string& route) const;
  void KeepWindow(const std::string& route, WindowRecord window);
  void KeepNoWindowsBut(const std::vector<std::string>& routes);
  const core::Embedder& embedder() const { return embedder_; }
  const Judge& judge() const { return judge_; }
  size_t entries() const;
  size_t scopes() const;
  uint64_t entry_bytes() const;
  size_t index_bytes() const;
  size_t indexed() const;  // entries whose vectors are in memory
  uint64_t rejected_vectors() const { return rejected_vectors_; }
  uint64_t evicted() const { return evicted_; }
  uint64_t expired() const { return expired_; }  // removed for their age
  // Entries that owe a vector of the embedder in the process.
  size_t debts() const { return local_.debts; }
  std::vector<EmbeddingProgress> Progress() const;
  // Why lookups do without the remote embedder, wholly or in part; empty if they do not.
  std::string remote_problem() const;
  uint64_t texts_cut() const { return texts_cut_; }  // longer than the embedder reads
  // Lookups that had no time for all entries: they scanned, and stopped at some.
  uint64_t scans_cut() const { return scans_cut_; }
  // Loading after a start is done, graphs included: lookups see all that they will. Until then they
  // see what is loaded.
  bool ready() const { return ready_; }

  ~AnswerBook();

 private:
  // kLeftOut: it is too large for index_memory beside the scope's other index.
  enum class Loaded { kNot, kPartly, kWholly, kLeftOut };

  // One of the embedders, with what is owed of it.
  struct Source {
    Source(VectorKind vectors, const core::Embedder& its_embedder, Snapshots its_snapshots)
        : kind(vectors), embedder(its_embedder), snapshots(std::move(its_snapshots)) {}

    const VectorKind kind;
    const core::Embedder& embedder;
    const Snapshots snapshots;
    std::atomic<size_t> debts = 0;              // entries that owe its vector
    std::atomic<bool> checking = false;         // looking for entries that have none and owe none
    std::atomic<size_t> checked = 0;            // entries that were looked at
    mutable std::atomic<bool> failing = false;  // it did not answer the last call
    std::atomic<core::SteadyTime> pause_until{};
    std::mutex paying;       // one step at a time; the next two
    std::string paid_to;     // where in the debts to go on
    std::string checked_to;  // where in the entries to go on
  };

  // A scope's vectors of one embedder.
  struct Indexed {
    Indexed(size_t dimension, size_t flat_limit)
        : index(std::make_unique<ScopeIndex>(dimension, flat_limit)) {}

    std::unique_ptr<ScopeIndex> index;          // guarded by the scope's mutex
    std::string loaded_to;                      // guarded by writing: the last key that was loaded
    std::atomic<size_t> unsaved = 0;            // changes since the index was saved
    std::atomic<bool> changed_lately = false;   // since the last upkeep
    std::atomic<Loaded> loaded = Loaded::kNot;  // changed with mutex held
  };
  struct Scope {
    Scope(std::string scope_key, size_t dimension, const core::Embedder* remote_embedder,
          size_t flat_limit)
        : key(std::move(scope_key)), local(dimension, flat_limit) {
      if (remote_embedder != nullptr) remote.emplace(remote_embedder->dimension(), flat_limit);
    }
    Indexed& Of(const Source& source) {
      return source.kind == VectorKind::kLocal ? local : *remote;
    }

    const std::string key;
    std::mutex writing;               // over any change of the scope, in the store and here
    mutable std::shared_mutex mutex;  // the indexes; taken after `writing` by those who change them
    Indexed local;
    std::optional<Indexed> remote;  // there if and only if there is a remote embedder
    std::atomic<size_t> bytes = 0;
    std::atomic<size_t> size = 0;
  };
  struct InMemory {
    std::shared_ptr<Scope> scope;
    std::list<std::string>::iterator used;  // in recently_used_
    size_t bytes = 0;                       // as counted in index_bytes_
  };
  class Lease;
  static constexpr size_t kGraphStepsPerInsert = 4;  // more than one, so that a lag shrinks
  using Embedded = absl::StatusOr<std::vector<float>>;

  void ReadCensus();
  void CountFromEntries();
  std::shared_ptr<Scope> Acquire(const std::string& key);
  void GiveBack(std::shared_ptr<Scope> scope);
  bool IsIdle(Scope& scope) const;
  void TrimMemory(std::vector<std::shared_ptr<Scope>>& dropped);
  void NoteWork(std::unordered_set<std::string>& kind, const std::string& scope_key);
  std::optional<std::string> TakeWork(std::unordered_set<std::string>& kind);
  void UpdateWorkDue();
  void CountEntries(const std::string& scope_key, int64_t entries, int64_t bytes);
  bool Known(const std::string& scope_key) const;
  size_t EntriesIn(const std::string& scope_key) const;

  void LoadSome();
  void ExtendSomeGraph();
  void SaveSomeIndex();
  void Upkeep();
  void RewriteSome();
  std::string JudgedBy() const;
  void SaveUsage();
  void RemoveExpired();

  void MakeUsable(Scope& scope);
  bool IsLoadedAtOnce(const Scope& scope, const Source& source) const;
  void BeginLoad(Scope& scope, Source& source);
  void LoadStep(Scope& scope, Source& source, size_t most);
  std::shared_ptr<const ScopeIndex::Saved> ReadSaved(const Scope& scope, const Source& source,
                                                     size_t entries) const;
  void FinishLoad(Scope& scope, Source& source);
  void LoadOneByOne(Scope& scope, Source& source);
  bool Fits(const Scope& scope, size_t entries) const;
  void ExtendGraph(Scope& scope, Source& source, size_t count);
  void SaveIndex(Scope& scope, Source& source);
  void NoteSize(Scope& scope);
  void NoteChange(Scope& scope, Source& source);
  static ScopeIndex::Entry ForIndex(std::string_view key, const VectorRecord& vector);

  void BeginCheck(Source& source);
  void CheckSome(Source& source);
  bool BeginDebtsOf(Source& source, std::span<const std::string> keys);
  bool BeginDebts(Source& source, const std::vector<std::string>& keys);
  void PayDebts(Source& source);
  std::vector<std::pair<std::string, EntryRecord>> TakeDebts(Source& source);
  bool PayDebt(Source& source, const std::string& key, const EntryRecord& entry,
               const QuantizedVector& vector);
  void Pause(Source& source);
  static bool IsOurs(const Source& source, const VectorRecord& row);
  bool HasVector(const Source& source, const std::string& key) const;
  void NoteDebt(Source& source, bool owed, bool owes);
  void NoteTwins(const Scope& scope, std::string_view question_key, const QuantizedVector& vector);

  std::vector<Considered> Consider(const ScopeSource& source, const std::string& question,
                                   double min_cosine, core::Duration max_age,
                                   absl::FunctionRef<bool()> give_up, core::SteadyTime by,
                                   core::Duration scan_time);
  struct Candidate {
    ScopeIndex::Question question;
    double cosine = 0;
    bool by_remote = false;
  };
  // When to be content with what has been looked at.
  struct Scan {
    core::Duration longest{};
    absl::FunctionRef<bool()> give_up;
    bool& cut;  // set if that was so
  };
  // The question's vectors; `remote` is empty if there is none.
  struct Asked {
    std::vector<float> local;
    std::vector<float> remote;
  };
  std::vector<Candidate> Nearest(Scope& scope, const Asked& asked, double min_cosine,
                                 core::Duration max_age, const Scan& scan) const;
  std::vector<float> AskRemote(const Scope& scope, const std::string& question,
                               core::SteadyTime by) const;
  double CosineOf(const std::string& key, const Candidate& candidate, const Asked& asked) const;
  std::optional<core::CacheHit> FindSame(const std::string& key, const std::string& question,
                                         const core::CacheQuery& query);
  core::CacheHit Serve(Considered found, const core::CacheQuery& query);
  Considered Judged(std::string_view asked, EntryRecord entry, double cosine) const;
  static void Rank(std::vector<Considered>& found);
  Embedded EmbedText(std::string_view text) const;
  static Embedded Checked(const core::Embedder& embedder, std::vector<float> vector);
  Inserted PutLocked(Scope& scope, const IdRecord& id, const EntryRecord& entry,
                     const std::optional<QuantizedVector>& vector, bool keep_newer);

  std::vector<KeyAndId> Matching(const PurgeFilter& filter) const;
  size_t RemoveAll(const std::vector<KeyAndId>& entries);
  size_t RemoveLocked(Scope& scope, std::span<const KeyAndId> entries);
  void EvictExcess();
  std::optional<core::Duration> RetentionOf(std::string_view key) const;
  core::Duration AgeOf(core::WallTime created_at) const;
  void WarnOfWrite(const absl::Status& status);

  const SemanticCacheOptions options_;
  const core::Embedder& embedder_;
  const core::Clock& clock_;
  core::Random& random_;
  const Judge& judge_;
  const std::unique_ptr<EntryStore> store_;
  Source local_;
  std::optional<Source> remote_;
  std::vector<Source*> sources_;  // those two, the local one first; fixed
  Eviction eviction_;

  mutable std::mutex mutex_;  // the next block; taken after a scope's mutexes, held for moments
  std::unordered_map<std::string, size_t> census_;  // entries by scope, of all that is stored
  size_t entries_ = 0;
  uint64_t entry_bytes_ = 0;
  std::unordered_map<std::string, InMemory> in_memory_;
  std::list<std::string> recently_used_;  // the latest first
  size_t index_bytes_ = 0;
  std::vector<std::string> to_load_;           // after a start; the largest last
  std::unordered_set<std::string> loading_;    // scopes that are loaded partly
  std::unordered_set<std::string> to_extend_;  // scopes whose graph lags behind
  std::unordered_set<std::string> to_save_;    // scopes whose index is to be saved
  std::optional<std::string> expired_to_;      // where removing what expired goes on; none: done

  std::mutex evict_mutex_;

  std::mutex warn_mutex_;
  std::optional<core::SteadyTime> last_warning_;  // guarded by warn_mutex_

  std::atomic<bool> work_due_ = false;
  std::atomic<bool> ready_ = false;
  std::atomic<core::SteadyTime> next_upkeep_;
  std::atomic<core::SteadyTime> rewrite_after_{};
  std::atomic<uint64_t> rejected_vectors_ = 0;
  std::atomic<uint64_t> evicted_ = 0;
  mutable std::atomic<uint64_t> texts_cut_ = 0;
  std::atomic<uint64_t> scans_cut_ = 0;
  std::atomic<uint64_t> expired_ = 0;
};

// A scope in use: kept in memory while a lease lives. All of its references are taken and dropped
// under mutex_, so one that is held by in_memory_ alone is nobody's.
class AnswerBook::Lease {
 public:
  Lease(AnswerBook& book, const std::string& key) : book_(book), scope_(book.Acquire(key)) {}
  Lease(const Lease&) = delete;
  ~Lease() { book_.GiveBack(std::move(scope_)); }

  Scope& operator*() const { return *scope_; }

 private:
  AnswerBook& book_;
  std::shared_ptr<Scope> scope_;
};

}  // namespace holdfast::cache
