// AnswerBook's indexes in memory: which scopes are loaded, how they come there and go, and their
// saved graphs.

#include <algorithm>
#include <limits>
#include <utility>

#include "cache/answer_book.h"

namespace holdfast::cache {
namespace {

constexpr size_t kGraphStepsPerTurn = 32;  // some milliseconds
// Scopes of no more than this are loaded by who needs them.
constexpr size_t kLoadAtOnce = 8192;
constexpr size_t kLoadAtOnceBytes = 6 << 20;
constexpr size_t kRowsPerTurn = 2048;
constexpr size_t kRowBytesPerTurn = 3 << 19;
constexpr size_t kSaveAfter = 1000;  // changes, or a tenth of the scope
// Of memory, beside the vector itself: links, locks, keys.
constexpr size_t kIndexedEntryBytes = 400;

size_t VectorBytes(const core::Embedder& embedder) {
  return embedder.dimension() * sizeof(int16_t);
}

size_t RowsPerTurn(const core::Embedder& embedder) {
  return std::min(kRowsPerTurn, kRowBytesPerTurn / VectorBytes(embedder));
}

}  // namespace

std::shared_ptr<AnswerBook::Scope> AnswerBook::Acquire(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto [it, added] = in_memory_.try_emplace(key);
  InMemory& entry = it->second;
  if (added) {
    entry.scope =
        std::make_shared<Scope>(key, embedder_.dimension(), options_.remote, options_.flat_limit);
    recently_used_.push_front(key);
    entry.used = recently_used_.begin();
  } else {
    recently_used_.splice(recently_used_.begin(), recently_used_, entry.used);
  }
  return entry.scope;
}

void AnswerBook::GiveBack(std::shared_ptr<Scope> scope) {
  std::vector<std::shared_ptr<Scope>> dropped;  // outlives the lock: a large index frees slowly
  const std::lock_guard lock(mutex_);
  const auto it = in_memory_.find(scope->key);
  InMemory& entry = it->second;
  index_bytes_ -= entry.bytes;
  entry.bytes = scope->bytes;
  index_bytes_ += entry.bytes;
  scope.reset();
  if (entry.scope.use_count() == 1 && IsIdle(*entry.scope)) {
    index_bytes_ -= entry.bytes;
    dropped.push_back(std::move(entry.scope));
    recently_used_.erase(entry.used);
    in_memory_.erase(it);
  }
  TrimMemory(dropped);
}

// There is nothing in it, nor on its way. Of a scope that nobody uses.
bool AnswerBook::IsIdle(Scope& scope) const {
  return std::all_of(sources_.begin(), sources_.end(), [&](const Source* source) {
    const Indexed& indexed = scope.Of(*source);
    const Loaded loaded = indexed.loaded;
    return loaded != Loaded::kPartly && (loaded == Loaded::kNot || indexed.index->size() == 0);
  });
}

// Caller holds mutex_. The scope used last stays even if it alone is too large.
void AnswerBook::TrimMemory(std::vector<std::shared_ptr<Scope>>& dropped) {
  auto candidate = recently_used_.end();
  while (index_bytes_ > options_.index_memory && candidate != recently_used_.begin()) {
    --candidate;
    if (candidate == recently_used_.begin()) return;
    const auto it = in_memory_.find(*candidate);
    if (it->second.scope.use_count() > 1) continue;
    index_bytes_ -= it->second.bytes;
    dropped.push_back(std::move(it->second.scope));
    in_memory_.erase(it);
    candidate = recently_used_.erase(candidate);
  }
}

// A small scope is loaded wholly; of a large one lookups see what is there.
void AnswerBook::MakeUsable(Scope& scope) {
  for (Source* source : sources_) {
    const Loaded loaded = scope.Of(*source).loaded;
    if (loaded == Loaded::kWholly || loaded == Loaded::kLeftOut) continue;
    if (IsLoadedAtOnce(scope, *source)) {
      const std::lock_guard lock(scope.writing);
      BeginLoad(scope, *source);
    } else if (const std::unique_lock lock(scope.writing, std::try_to_lock); lock) {
      BeginLoad(scope, *source);
    }
  }
}

bool AnswerBook::IsLoadedAtOnce(const Scope& scope, const Source& source) const {
  const size_t entries = EntriesIn(scope.key);
  return entries <= kLoadAtOnce && entries * VectorBytes(source.embedder) <= kLoadAtOnceBytes;
}

// Caller holds `writing`. As much as who needs it may wait for.
void AnswerBook::BeginLoad(Scope& scope, Source& source) {
  if (IsLoadedAtOnce(scope, source)) {
    LoadStep(scope, source, std::numeric_limits<size_t>::max());
  } else if (scope.Of(source).loaded == Loaded::kNot) {
    LoadStep(scope, source, RowsPerTurn(source.embedder));
  }
}

void AnswerBook::LoadSome() {
  std::optional<std::string> key = TakeWork(loading_);
  {
    const std::lock_guard lock(mutex_);
    // One that was dropped meanwhile begins anew when it is asked for.
    if (key && !in_memory_.contains(*key)) key.reset();
    if (!key && index_bytes_ >= options_.index_memory) to_load_.clear();
    if (!key && !to_load_.empty()) {
      key = std::move(to_load_.back());
      to_load_.pop_back();
    }
  }
  if (!key || !Known(*key)) return;
  const Lease lease(*this, *key);
  const std::lock_guard lock((*lease).writing);
  for (Source* source : sources_) {
    const Loaded loaded = (*lease).Of(*source).loaded;
    if (loaded == Loaded::kWholly || loaded == Loaded::kLeftOut) continue;
    return LoadStep(*lease, *source, RowsPerTurn(source->embedder));
  }
}

// Caller holds `writing`.
void AnswerBook::LoadStep(Scope& scope, Source& source, size_t most) {
  Indexed& indexed = scope.Of(source);
  if (indexed.loaded == Loaded::kWholly || indexed.loaded == Loaded::kLeftOut) return;
  if (indexed.loaded == Loaded::kNot) {
    const size_t expected = EntriesIn(scope.key);
    if (source.kind == VectorKind::kRemote && !Fits(scope, expected)) {
      indexed.loaded = Loaded::kLeftOut;
      return;
    }
    const auto saved = ReadSaved(scope, source, expected);
    const std::unique_lock lock(scope.mutex);
    indexed.index->Expect(expected);
    if (saved) indexed.index->BeginRestore(*saved);
    indexed.loaded = Loaded::kPartly;
  }
  std::vector<std::pair<std::string, VectorRecord>> rows;
  std::vector<std::string> owing;
  size_t seen = 0;
  std::string last = indexed.loaded_to;
  const bool readable = store_->ForEachVector(
      source.kind, scope.key, last, [&](std::string_view key, std::optional<VectorRecord> vector) {
        last = key;
        if (key.size() != scope.key.size() + kQuestionKeySize) return true;
        if (!vector || !IsOurs(source, *vector)) {
          owing.emplace_back(key);  // its own was damaged, or another embedder's
        } else if (!vector->vector.values.empty()) {
          rows.emplace_back(key, *std::move(vector));
        }
        return ++seen < most;
      });
  BeginDebts(source, owing);
  {
    const std::unique_lock lock(scope.mutex);
    for (const auto& [key, row] : rows) indexed.index->Load(ForIndex(key, row), row.vector);
  }
  indexed.loaded_to = last;
  NoteSize(scope);
  if (indexed.loaded == Loaded::kLeftOut) return;
  if (!readable) LoadOneByOne(scope, source);
  if (seen < most) {
    FinishLoad(scope, source);
  } else {
    NoteWork(loading_, scope.key);
  }
}

std::shared_ptr<const ScopeIndex::Saved> AnswerBook::ReadSaved(const Scope& scope,
                                                               const Source& source,
                                                               size_t entries) const {
  if (entries <= options_.flat_limit) return nullptr;
  const auto directory = source.snapshots.Latest(scope.key);
  if (directory.empty()) return nullptr;
  return ScopeIndex::ReadSaved(directory, source.embedder.id(), source.embedder.dimension());
}

// Caller holds `writing`.
void AnswerBook::FinishLoad(Scope& scope, Source& source) {
  Indexed& indexed = scope.Of(source);
  indexed.index->PrepareGraph();
  {
    const std::unique_lock lock(scope.mutex);
    indexed.index->FinishLoad();
    indexed.loaded = Loaded::kWholly;
  }
  NoteSize(scope);
  if (indexed.index->size() > options_.flat_limit) NoteWork(to_extend_, scope.key);
  if (scope.remote && scope.remote->loaded == Loaded::kNot) NoteWork(loading_, scope.key);
}

// Part of a file cannot be read: what stands in the rest can still be got by its key.
void AnswerBook::LoadOneByOne(Scope& scope, Source& source) {
  Indexed& indexed = scope.Of(source);
  std::vector<std::string> owing;
  store_->ForEachId("", [&](std::string_view, const IdRecord& record) {
    if (ScopeOf(record.key) != scope.key || record.key <= indexed.loaded_to) return true;
    const auto row = store_->GetVector(source.kind, record.key);
    if (!row || !IsOurs(source, *row)) {
      owing.push_back(record.key);
    } else if (!row->vector.values.empty()) {
      const std::unique_lock lock(scope.mutex);
      indexed.index->Load(ForIndex(record.key, *row), row->vector);
    }
    return true;
  });
  BeginDebts(source, owing);
}

// Whether so many entries' vectors of both embedders may be in memory.
bool AnswerBook::Fits(const Scope& scope, size_t entries) const {
  const size_t each =
      VectorBytes(embedder_) + VectorBytes(*options_.remote) + 2 * kIndexedEntryBytes;
  return std::max(entries * each, scope.bytes.load()) <= options_.index_memory;
}

void AnswerBook::ExtendSomeGraph() {
  const auto key = TakeWork(to_extend_);
  if (!key) return;
  {
    const std::lock_guard lock(mutex_);
    if (!in_memory_.contains(*key)) return;  // dropped meanwhile: it is noted again when loaded
  }
  const Lease lease(*this, *key);
  const std::lock_guard lock((*lease).writing);
  for (Source* source : sources_) ExtendGraph(*lease, *source, kGraphStepsPerTurn);
}

// Caller holds `writing`. A step at a time, so that lookups get their turn between.
void AnswerBook::ExtendGraph(Scope& scope, Source& source, size_t count) {
  bool more = true;
  for (; more && count > 0; --count) {
    const std::unique_lock lock(scope.mutex);
    more = scope.Of(source).index->ExtendGraph(1);
  }
  if (more) NoteWork(to_extend_, scope.key);
  NoteSize(scope);
}

void AnswerBook::SaveSomeIndex() {
  const auto key = TakeWork(to_save_);
  if (!key) return;
  {
    const std::lock_guard lock(mutex_);
    if (!in_memory_.contains(*key)) return;
  }
  const Lease lease(*this, *key);
  const std::lock_guard lock((*lease).writing);
  for (Source* source : sources_) {
    if ((*lease).Of(*source).unsaved > 0) SaveIndex(*lease, *source);
  }
}

// Caller holds `writing`. Lookups go on beside it.
void AnswerBook::SaveIndex(Scope& scope, Source& source) {
  Indexed& indexed = scope.Of(source);
  if (!source.snapshots.enabled() || !indexed.index->GraphIsWhole()) return;
  indexed.unsaved = 0;  // if it fails, it is for the next time
  const auto directory = source.snapshots.Begin(scope.key);
  if (!directory.empty() && indexed.index->Save(directory, source.embedder.id())) {
    source.snapshots.Commit(scope.key);
  }
}

// Caller holds `writing`. Both indexes together may have outgrown the memory.
void AnswerBook::NoteSize(Scope& scope) {
  size_t bytes = scope.local.index->bytes();
  if (scope.remote && scope.remote->index->size() > 0) {
    bytes += scope.remote->index->bytes();
    if (bytes > options_.index_memory) {
      auto empty = std::make_unique<ScopeIndex>(options_.remote->dimension(), options_.flat_limit);
      const std::unique_lock lock(scope.mutex);
      bytes -= scope.remote->index->bytes();
      scope.remote->index = std::move(empty);
      scope.remote->loaded = Loaded::kLeftOut;
      scope.remote->unsaved = 0;
    }
  }
  scope.bytes = bytes;
  scope.size = scope.local.index->size();
}

// Caller holds `writing`.
void AnswerBook::NoteChange(Scope& scope, Source& source) {
  NoteSize(scope);
  Indexed& indexed = scope.Of(source);
  if (indexed.loaded == Loaded::kLeftOut) return;
  indexed.changed_lately = true;
  if (++indexed.unsaved >= std::max(kSaveAfter, indexed.index->size() / 10) &&
      source.snapshots.enabled() && indexed.index->GraphIsWhole()) {
    NoteWork(to_save_, scope.key);
  }
}

ScopeIndex::Entry AnswerBook::ForIndex(std::string_view key, const VectorRecord& vector) {
  return {QuestionOf(key), vector.id, vector.created_at, vector.pinned};
}

size_t AnswerBook::indexed() const {
  const std::lock_guard lock(mutex_);
  size_t indexed = 0;
  for (const auto& [key, in_memory] : in_memory_) indexed += in_memory.scope->size;
  return indexed;
}

size_t AnswerBook::index_bytes() const {
  const std::lock_guard lock(mutex_);
  return index_bytes_;
}

}  // namespace holdfast::cache
