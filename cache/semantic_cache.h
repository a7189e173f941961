#pragma once

// The cache of earlier answers, as the engine and the admin service see it: AnswerBook behind the
// blocking pool. server/ makes and owns it. Lookup and Store are for the loops and never block.
// Purge, Newest and Stats are for the pool's threads or the admin's own: they touch the disk.
//
// Embedder, pool, clock, random and judge are borrowed and outlive it; so must the loops, until the
// pool has run what was queued. Queued work keeps what it needs alive, so the cache itself may go
// first.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cache/answer_book.h"
#include "cache/error_watch.h"
#include "core/answer_cache.h"
#include "core/blocking_pool.h"
#include "core/clock.h"
#include "core/embedder.h"
#include "core/random.h"

namespace holdfast::cache {

struct CacheStats {
  uint64_t entries = 0;
  uint64_t scopes = 0;
  uint64_t bytes_on_disk = 0;
  uint64_t index_bytes = 0;  // of memory, for the scopes that are loaded

  // lookups = hits + misses + skipped + those still under way.
  uint64_t lookups = 0;
  uint64_t hits = 0;
  uint64_t misses = 0;
  uint64_t skipped = 0;  // the queue was full, or the deadline came first

  uint64_t stores = 0;            // stored
  uint64_t dropped = 0;           // the queue was full
  uint64_t not_stored = 0;        // no_store, not cacheable, empty or too large
  uint64_t rejected_vectors = 0;  // zero, not finite or of a wrong size
  uint64_t write_errors = 0;
  uint64_t read_errors = 0;  // damaged values, which are dropped, and unreadable files
  uint64_t evicted = 0;      // for max_entries and max_bytes
  uint64_t expired = 0;      // removed for their age
  uint64_t debts = 0;        // entries that are stored and wait for their vector
  uint64_t entry_bytes = 0;  // questions and answers
  // After a start all is loaded, as far as memory allows, and graphs are built. Until then lookups
  // see what is loaded by then.
  bool ready = false;
  uint64_t texts_cut = 0;     // questions longer than the embedder reads
  uint64_t compared = 0;      // answers compared with what would have been served
  uint64_t not_compared = 0;  // to spare requests or processor time
  uint64_t indexed = 0;       // entries whose vectors are in memory
  bool read_only = false;     // the last write failed; it is tried again

  uint64_t urgent_queued = 0;  // lookups that wait
  uint64_t normal_queued = 0;  // stores that wait
  uint64_t scans_cut = 0;      // lookups that had no time for all entries
  // Values are still being rewritten with a new encryption key: the previous one is needed.
  bool rewriting = false;
  std::string embedder;
  std::string degraded;  // why it is not what was configured; empty if it is
};

// An entry that comes from elsewhere: from another machine's cache, or from a person.
struct ImportedEntry {
  core::Request request;  // its last turn is the question. Of the rest, where the entry goes
  // What stands in for that rest but tenant and route: the end of an exported entry's scope_key.
  std::string scope_digest;
  core::NewEntry entry;
  core::WallTime created_at{};
  bool pinned = false;
};

class SemanticCache final : public core::AnswerCache {
 public:
  // Never fails: what is wrong with the database is in Stats().degraded and told to options.warn.
  // Reads the list of entries, so it blocks for about a second per million of them.
  SemanticCache(SemanticCacheOptions options, const core::Embedder& embedder,
                core::BlockingPool& pool, const core::Clock& clock, core::Random& random,
                const Judge& judge = CosineJudge::Instance());
  ~SemanticCache() override { Stop(); }

  // Why the database was left alone, though whole: it is encrypted, and not with the key given.
  // Empty if it was not. Whoever starts the service should not go on.
  const std::string& refusal() const { return shared_->book.store().refusal(); }

  // Begins background work if some is due (what expired, what owes a vector), though nobody asks or
  // stores. To be called now and then, from any thread.
  void Tend() { StartTending(shared_); }

  // Ends the background work (loading, graphs), which would otherwise run to its end when the pool
  // is joined. To be called before that. Queued stores still run.
  void Stop() {
    const std::lock_guard lock(shared_->stop_mutex);
    shared_->stopped = true;
  }

  std::string QuestionId(const core::Request& request) const override;
  core::Task<std::optional<core::CacheHit>> Lookup(core::Loop& loop, const core::Request& request,
                                                   core::CacheQuery query,
                                                   core::SteadyTime deadline) override;
  void Store(const core::Request& request, core::NewEntry entry) override;

  CacheStats Stats() const;
  // Returns how many were removed, from memory and from the disk's files.
  size_t Purge(const PurgeFilter& filter) { return shared_->book.Purge(filter); }
  // What a lookup would look at, with each verdict; see AnswerBook::Explain.
  std::vector<Considered> Explain(const core::Request& request, double min_cosine,
                                  core::Duration max_age);
  // Stores them with their vectors; one outcome for each. The requests are cacheable. Blocks for
  // about a millisecond an entry.
  std::vector<Inserted> Import(std::vector<ImportedEntry> entries);
  // See AnswerBook::Export. With a tenant, of it alone; with a route too, of that route.
  void Export(const std::string& tenant, const std::string& route, std::string_view after,
              absl::FunctionRef<bool(const ExportedEntry&)> visit) const;
  size_t entries() const { return shared_->book.entries(); }
  // These two block for moments only, so they are for any thread. Once ready, it stays so.
  bool ready() const { return shared_->book.ready(); }
  std::vector<EmbeddingProgress> Progress() const { return shared_->book.Progress(); }
  // What a lookup with this threshold is held against.
  ErrorCurve::Choice ThresholdInForce(const std::string& route, double configured) const {
    return shared_->watch.Raise(route, configured);
  }
  size_t max_entry_bytes() const { return shared_->book.options().max_entry_bytes; }
  const Judge& judge() const { return shared_->book.judge(); }
  // How often it would have been wrong, by route; any thread.
  std::vector<RouteErrors> Errors() const { return shared_->watch.Report(); }
  // For debugging: the newest entries, without their texts.
  std::vector<EntrySummary> Newest(size_t count) const { return shared_->book.Newest(count); }

 private:
  // What queued work needs, and keeps alive.
  struct Shared {
    Shared(SemanticCacheOptions options, const core::Embedder& embedder, core::BlockingPool& p,
           const core::Clock& c, core::Random& random, const Judge& judge)
        : watch(std::move(options.errors), c, random),
          book(std::move(options), embedder, c, random, judge),
          pool(p),
          clock(c) {
      RestoreWindows();
    }
    ~Shared() { SaveWindows(); }

    void RestoreWindows();
    void SaveWindows();
    ScopeSource ScopeOf(const core::Request& request) const;

    ErrorWatch watch;
    AnswerBook book;
    core::BlockingPool& pool;
    const core::Clock& clock;
    std::atomic<bool> tending = false;
    core::SteadyTime save_windows_at{};  // of the one that tends
    std::mutex stop_mutex;               // once stopped, the pool may be gone
    std::atomic<bool> stopped = false;
    std::atomic<uint64_t> queued_bytes = 0;
    std::atomic<uint64_t> lookups = 0;
    std::atomic<uint64_t> hits = 0;
    std::atomic<uint64_t> misses = 0;
    std::atomic<uint64_t> skipped = 0;
    std::atomic<uint64_t> stores = 0;
    std::atomic<uint64_t> dropped = 0;
    std::atomic<uint64_t> not_stored = 0;
  };
  struct Waiting;
  struct Comparison;

  static std::optional<Comparison> WouldServe(Shared& shared, const ScopeSource& scope,
                                              const std::string& question);
  static void Compare(Shared& shared, const Comparison& comparison);

  static void StartTending(const std::shared_ptr<Shared>& shared);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace holdfast::cache
