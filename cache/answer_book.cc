#include "cache/answer_book.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

constexpr size_t kRowsPerTurn = 2048;  // of what expired
constexpr size_t kUsagePerUpkeep = 4096;
constexpr size_t kVictimsAtOnce = 256;
constexpr double kTwinCosine = 0.97;
constexpr core::Duration kUpkeepEvery = std::chrono::minutes(1);
constexpr core::Duration kRewritePause = std::chrono::seconds(10);
constexpr core::Duration kBetweenWarnings = std::chrono::minutes(1);

uint64_t UnixMillis(core::WallTime time) {
  const auto millis = std::chrono::floor<std::chrono::milliseconds>(time).time_since_epoch();
  return static_cast<uint64_t>(std::max<int64_t>(0, millis.count()));
}

using Labels = std::vector<std::pair<std::string, std::string>>;

bool HasLabels(const IdRecord* details, const Labels& labels) {
  return std::all_of(labels.begin(), labels.end(), [&](const auto& label) {
    return details != nullptr && std::find(details->labels.begin(), details->labels.end(), label) !=
                                     details->labels.end();
  });
}

}  // namespace

AnswerBook::AnswerBook(SemanticCacheOptions options, const core::Embedder& embedder,
                       const core::Clock& clock, core::Random& random, const Judge& judge)
    : options_(std::move(options)),
      embedder_(embedder),
      clock_(clock),
      random_(random),
      judge_(judge),
      store_(EntryStore::Open(
          options_.directory, clock.WallNow(),
          {.encryption_key = options_.encryption_key, .previous_key = options_.previous_key})),
      local_(VectorKind::kLocal, embedder_, Snapshots(store_->derived_directory("index"))),
      eviction_(*store_),
      next_upkeep_(clock.Now() + kUpkeepEvery) {
  if (!store_->problem().empty()) options_.warn(store_->problem());
  sources_.push_back(&local_);
  Snapshots remote_snapshots(store_->derived_directory("remote_index"));
  if (options_.remote != nullptr) {
    sources_.push_back(
        &remote_.emplace(VectorKind::kRemote, *options_.remote, std::move(remote_snapshots)));
  } else {
    remote_snapshots.DropAll();
    if (!store_->CheckedFor(VectorKind::kRemote).empty()) {
      store_->NoteChecked(VectorKind::kRemote, "").IgnoreError();
    }
  }
  ReadCensus();
}

// Nobody else uses it any more.
AnswerBook::~AnswerBook() {
  SaveUsage();
  for (const auto& [key, in_memory] : in_memory_) {
    for (Source* source : sources_) {
      if (in_memory.scope->Of(*source).unsaved > 0) SaveIndex(*in_memory.scope, *source);
    }
  }
}

void AnswerBook::ReadCensus() {
  std::vector<KeyAndId> expired;
  const bool readable = store_->ForEachId("", [&](std::string_view id, const IdRecord& record) {
    CountEntries(ScopeOf(record.key), 1, static_cast<int64_t>(record.bytes));
    const auto retention = RetentionOf(record.key);
    if (retention && !record.pinned && AgeOf(record.created_at) > *retention) {
      expired.push_back({record.key, std::string(id)});
    }
    return true;
  });
  if (!readable) CountFromEntries();
  expired_ += RemoveAll(expired);
  EvictExcess();
  for (Source* source : sources_) BeginCheck(*source);

  for (const auto& [key, count] : census_) to_load_.push_back(key);
  std::sort(to_load_.begin(), to_load_.end(),
            [this](const auto& a, const auto& b) { return census_.at(a) < census_.at(b); });
  UpdateWorkDue();
}

// The list of entries is damaged in part; the entries may be whole.
void AnswerBook::CountFromEntries() {
  options_.warn("the cache's list of entries is damaged in part; it is read from the entries");
  census_.clear();
  entries_ = 0;
  entry_bytes_ = 0;
  store_->ForEachEntry("", "", [&](std::string_view key, std::optional<EntryRecord> entry) {
    const size_t bytes = entry ? entry->question.size() + entry->answer.size() : 0;
    CountEntries(ScopeOf(key), 1, static_cast<int64_t>(bytes));
    return true;
  });
}

Inserted AnswerBook::InsertInto(const std::string& scope_key, const std::string& question,
                                core::NewEntry entry, core::WallTime created_at,
                                const InsertOptions& options) {
  const auto retention = RetentionOf(scope_key);
  if (retention && !options.pinned && AgeOf(created_at) > *retention) return Inserted::kTooOld;
  std::optional<QuantizedVector> vector;
  if (!options.embed_later) {
    const Embedded embedded =
        options.vector.empty() ? EmbedText(question) : Checked(embedder_, options.vector);
    if (absl::IsInvalidArgument(embedded.status())) {
      ++rejected_vectors_;
      return Inserted::kNoVector;
    }
    if (embedded.ok()) vector = Quantize(*embedded);  // else the embedder is down
  }
  const EntryRecord record{core::NewId(random_, UnixMillis(created_at)),
                           question,
                           std::move(entry.text),
                           std::move(entry.provider),
                           std::move(entry.model),
                           created_at,
                           options.pinned};
  const IdRecord id{.key = scope_key + QuestionKey(NormalizeQuestion(question)),
                    .created_at = created_at,
                    .bytes = question.size() + record.answer.size(),
                    .pinned = options.pinned,
                    .labels = options.labels};
  {
    const Lease lease(*this, scope_key);
    const std::lock_guard lock((*lease).writing);
    const Inserted result = PutLocked(*lease, id, record, vector, options.keep_newer);
    if (result != Inserted::kStored) return result;
  }
  EvictExcess();
  return Inserted::kStored;
}

// Caller holds `writing`.
Inserted AnswerBook::PutLocked(Scope& scope, const IdRecord& id, const EntryRecord& entry,
                               const std::optional<QuantizedVector>& vector, bool keep_newer) {
  // What is written now is what is likely to be asked for next.
  for (Source* source : sources_) BeginLoad(scope, *source);
  const std::optional<std::string> replaced = store_->IdUnder(id.key);
  const auto replaced_id = replaced ? store_->FindId(*replaced) : std::nullopt;
  if (replaced_id && !entry.pinned &&
      (replaced_id->pinned || (keep_newer && replaced_id->created_at > entry.created_at))) {
    return Inserted::kKept;
  }
  std::optional<VectorRecord> row;
  if (vector) row = {entry.id, entry.created_at, embedder_.id(), *vector, entry.pinned};
  const bool owed = replaced && store_->Owes(VectorKind::kLocal, id.key);
  const bool owed_remote = replaced && remote_ && store_->Owes(VectorKind::kRemote, id.key);
  const absl::Status status =
      store_->Put(id, entry, row, replaced.value_or(""), remote_.has_value());
  if (!status.ok()) {
    WarnOfWrite(status);
    return Inserted::kFailed;
  }
  const std::string_view question_key = QuestionOf(id.key);
  {
    const std::unique_lock lock(scope.mutex);
    if (row) {
      scope.local.index->Put(ForIndex(id.key, *row), *vector);
    } else {
      scope.local.index->Remove(question_key);
    }
    if (scope.remote) scope.remote->index->Remove(question_key);
  }
  CountEntries(
      scope.key, replaced ? 0 : 1,
      static_cast<int64_t>(id.bytes) - static_cast<int64_t>(replaced_id ? replaced_id->bytes : 0));
  eviction_.NoteStored(entry.id);
  if (vector) {
    ExtendGraph(scope, local_, kGraphStepsPerInsert);
    NoteTwins(scope, question_key, *vector);
  }
  NoteDebt(local_, owed, !vector);
  if (remote_) NoteDebt(*remote_, owed_remote, true);
  for (Source* source : sources_) NoteChange(scope, *source);
  return Inserted::kStored;
}

void AnswerBook::NoteDebt(Source& source, bool owed, bool owes) {
  if (owes && !owed) ++source.debts;
  if (!owes && owed && source.debts > 0) --source.debts;
  if (owes) work_due_ = true;
}

void AnswerBook::NoteTwins(const Scope& scope, std::string_view question_key,
                           const QuantizedVector& vector) {
  {
    const std::lock_guard lock(mutex_);
    if (entries_ <= options_.max_entries / 2 && entry_bytes_ <= options_.max_bytes / 2) return;
  }
  for (const auto& question : scope.local.index->Near(question_key, vector, kTwinCosine)) {
    const auto id = store_->IdUnder(scope.key + std::string(question.data(), question.size()));
    if (id) eviction_.NoteTwin(*id);
  }
}

void AnswerBook::Export(std::string_view prefix, std::string_view after,
                        absl::FunctionRef<bool(const ExportedEntry&)> visit) const {
  store_->ForEachEntry(prefix, after, [&](std::string_view key, std::optional<EntryRecord> entry) {
    if (!entry) return true;
    auto details = store_->FindId(entry->id);
    return visit({std::string(key), ScopeOf(key), *std::move(entry),
                  std::move(details).value_or(IdRecord())});
  });
}

size_t AnswerBook::Purge(const PurgeFilter& filter) {
  const size_t removed = RemoveAll(Matching(filter));
  if (removed == 0) return 0;
  std::string prefix;
  if (filter.tenant) {
    prefix =
        filter.route ? RoutePrefix(*filter.tenant, *filter.route) : TenantPrefix(*filter.tenant);
  }
  if (const absl::Status status = store_->Compact(prefix); !status.ok()) WarnOfWrite(status);
  return removed;
}

std::vector<KeyAndId> AnswerBook::Matching(const PurgeFilter& filter) const {
  std::vector<KeyAndId> matching;
  const auto add = [&](std::string_view key, std::string_view id,
                       std::optional<core::WallTime> created_at, const IdRecord* details) {
    const auto scope = ParseScope(key);
    if (filter.tenant && (!scope || scope->tenant != *filter.tenant)) return;
    if (filter.route && (!scope || scope->route != *filter.route)) return;
    if (filter.entry_id && *filter.entry_id != id) return;
    if (filter.older_than && !(created_at && AgeOf(*created_at) > *filter.older_than)) return;
    if (!HasLabels(details, filter.labels)) return;
    matching.push_back({std::string(key), std::string(id)});
  };
  if (filter.entry_id) {
    if (const auto found = store_->FindId(*filter.entry_id)) {
      add(found->key, *filter.entry_id, found->created_at, &*found);
    }
  } else if (filter.tenant && filter.labels.empty()) {
    // By key, so that a tenant's damaged entries go too.
    store_->ForEachEntry(TenantPrefix(*filter.tenant), "",
                         [&](std::string_view key, std::optional<EntryRecord> entry) {
                           add(key, entry ? entry->id : "",
                               entry ? std::optional(entry->created_at) : std::nullopt, nullptr);
                           return true;
                         });
  } else {
    store_->ForEachId("", [&](std::string_view id, const IdRecord& record) {
      add(record.key, id, record.created_at, &record);
      return true;
    });
  }
  return matching;
}

size_t AnswerBook::RemoveAll(const std::vector<KeyAndId>& entries) {
  std::vector<KeyAndId> sorted = entries;
  std::sort(sorted.begin(), sorted.end(),
            [](const KeyAndId& a, const KeyAndId& b) { return a.key < b.key; });
  size_t removed = 0;
  for (size_t begin = 0, end = 0; begin < sorted.size(); begin = end) {
    const std::string scope_key = ScopeOf(sorted[begin].key);
    while (end < sorted.size() && ScopeOf(sorted[end].key) == scope_key) ++end;
    const Lease lease(*this, scope_key);
    const std::lock_guard lock((*lease).writing);
    removed += RemoveLocked(*lease, std::span(sorted).subspan(begin, end - begin));
  }
  return removed;
}

// Caller holds `writing`.
size_t AnswerBook::RemoveLocked(Scope& scope, std::span<const KeyAndId> entries) {
  std::vector<KeyAndId> rows;
  int64_t counted = 0, bytes = 0;
  std::vector<Source*> owed;
  for (const auto& [key, id] : entries) {
    const std::optional<std::string> current = store_->IdUnder(key);
    const bool replaced_since = current && !current->empty() && *current != id;
    if (replaced_since && !id.empty()) {
      rows.push_back({"", id});  // a row left behind; the newer entry stays
      continue;
    }
    rows.push_back({key, id});
    if (!current) continue;
    ++counted;
    for (Source* source : sources_) {
      if (store_->Owes(source->kind, key)) owed.push_back(source);
    }
    if (const auto details = store_->FindId(id)) bytes += static_cast<int64_t>(details->bytes);
  }
  if (const absl::Status status = store_->Remove(rows); !status.ok()) {
    WarnOfWrite(status);
    return 0;
  }
  {
    const std::unique_lock lock(scope.mutex);
    for (const KeyAndId& row : rows) {
      if (row.key.empty()) continue;
      for (Source* source : sources_) scope.Of(*source).index->Remove(QuestionOf(row.key));
    }
  }
  for (Source* source : owed) NoteDebt(*source, true, false);
  NoteSize(scope);
  CountEntries(scope.key, -counted, -bytes);
  const bool empty = EntriesIn(scope.key) == 0;
  for (Source* source : sources_) {
    Indexed& indexed = scope.Of(*source);
    if (empty) {
      source->snapshots.Drop(scope.key);
      indexed.unsaved = 0;
    } else {
      NoteChange(scope, *source);
    }
    if (indexed.loaded == Loaded::kWholly && indexed.index->HasGraph()) {
      NoteWork(to_extend_, scope.key);
    }
  }
  return static_cast<size_t>(counted);
}

void AnswerBook::EvictExcess() {
  const std::lock_guard evicting(evict_mutex_);
  while (true) {
    size_t excess = 0, entries = 0;
    uint64_t excess_bytes = 0;
    {
      const std::lock_guard lock(mutex_);
      entries = entries_;
      excess = entries_ - std::min(entries_, options_.max_entries);
      excess_bytes = entry_bytes_ - std::min(entry_bytes_, options_.max_bytes);
    }
    std::vector<KeyAndId> victims;
    uint64_t bytes = 0;
    while ((victims.size() < excess || bytes < excess_bytes) && victims.size() < kVictimsAtOnce) {
      auto victim = eviction_.Next(entries, clock_.WallNow());
      if (!victim) break;
      bytes += victim->bytes;
      victims.push_back(std::move(victim->entry));
    }
    if (victims.empty()) return;
    const size_t removed = RemoveAll(victims);
    evicted_ += removed;
    if (removed == 0) return;  // it cannot be written
  }
}

std::optional<core::Duration> AnswerBook::RetentionOf(std::string_view key) const {
  if (options_.route_retention.empty()) return options_.retention;
  const auto scope = ParseScope(key);
  const auto it = options_.route_retention.find(std::string(scope ? scope->route : ""));
  return it == options_.route_retention.end() ? options_.retention : std::optional(it->second);
}

std::vector<EntrySummary> AnswerBook::Newest(size_t count) const {
  std::vector<EntrySummary> newest;
  if (count == 0) return newest;
  store_->ForEachIdNewestFirst([&](std::string_view id, const IdRecord& record) {
    const auto scope = ParseScope(record.key);
    newest.push_back({std::string(id), std::string(scope ? scope->tenant : ""),
                      std::string(scope ? scope->route : ""), AgeOf(record.created_at)});
    return newest.size() < count;
  });
  return newest;
}

void AnswerBook::Tend(bool may_embed) {
  if (clock_.Now() >= next_upkeep_.load()) Upkeep();
  LoadSome();
  ExtendSomeGraph();
  SaveSomeIndex();
  for (Source* source : sources_) {
    CheckSome(*source);
    if (may_embed) PayDebts(*source);
  }
  RemoveExpired();
  RewriteSome();
  const std::lock_guard lock(mutex_);
  UpdateWorkDue();
}

void AnswerBook::RewriteSome() {
  if (!store_->rewriting() || clock_.Now() < rewrite_after_.load()) return;
  const absl::Status status = store_->RewriteSome();
  if (status.ok()) return;
  WarnOfWrite(status);
  rewrite_after_ = clock_.Now() + kRewritePause;
}

// A similarity is made of the embedders' cosines and the judge's weights, of which its verdicts on
// some pairs tell.
std::string AnswerBook::JudgedBy() const {
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"How do I sort a list in Python?", "How can I sort a list with Python?"},
      {"How do I pay 20 euros by card?", "How do I pay 30 euros in cash?"},
      {"Is it not allowed to park here at night?", "Is it allowed to park here?"},
  };
  std::string text = embedder_.id();
  if (remote_) text += " " + remote_->embedder.id();
  for (const auto& [asked, stored] : kPairs) {
    for (const double cosine : {0.75, 0.95}) {
      text += " " + std::to_string(judge_.Compare(asked, {stored, cosine}).similarity);
    }
  }
  return text;
}

std::optional<WindowRecord> AnswerBook::ReadWindow(const std::string& route) const {
  auto window = store_->GetWindow(route);
  if (window && window->judged_by != JudgedBy()) window.reset();
  return window;
}

void AnswerBook::KeepWindow(const std::string& route, WindowRecord window) {
  window.judged_by = JudgedBy();
  const absl::Status status = store_->PutWindow(route, window);
  if (!status.ok()) WarnOfWrite(status);
}

void AnswerBook::KeepNoWindowsBut(const std::vector<std::string>& routes) {
  if (const absl::Status status = store_->RemoveWindowsBut(routes); !status.ok()) {
    WarnOfWrite(status);
  }
}

void AnswerBook::Upkeep() {
  next_upkeep_ = clock_.Now() + kUpkeepEvery;
  if (store_->read_only()) store_->TryToWrite().IgnoreError();
  SaveUsage();
  const std::lock_guard lock(mutex_);
  if (options_.retention || !options_.route_retention.empty()) expired_to_ = "";
  // What has come to rest is saved, however little it was.
  for (const auto& [key, in_memory] : in_memory_) {
    Scope& scope = *in_memory.scope;
    for (Source* source : sources_) {
      Indexed& indexed = scope.Of(*source);
      if (!indexed.changed_lately.exchange(false) && indexed.unsaved > 0) to_save_.insert(key);
    }
  }
}

void AnswerBook::SaveUsage() {
  for (const auto& [id, usage] : eviction_.TakeUsage(kUsagePerUpkeep)) {
    const auto found = store_->FindId(id);
    if (!found) continue;
    const Lease lease(*this, ScopeOf(found->key));
    const std::lock_guard lock((*lease).writing);
    auto record = store_->FindId(id);  // it may have been removed until now
    if (!record) continue;
    record->hits += usage.hits;
    record->has_twin = record->has_twin || usage.has_twin;
    if (!store_->UpdateIds({{id, *std::move(record)}}).ok()) return;
  }
}

void AnswerBook::RemoveExpired() {
  std::string from;
  {
    const std::lock_guard lock(mutex_);
    if (!expired_to_) return;
    from = *std::exchange(expired_to_, std::nullopt);
  }
  std::optional<core::Duration> shortest = options_.retention;
  for (const auto& [route, retention] : options_.route_retention) {
    shortest = std::min(shortest.value_or(retention), retention);
  }
  std::vector<KeyAndId> expired;
  size_t seen = 0;
  std::optional<std::string> next;
  store_->ForEachId(from, [&](std::string_view id, const IdRecord& record) {
    if (seen++ == kRowsPerTurn) {
      next = id;
      return false;
    }
    const core::Duration age = AgeOf(record.created_at);
    const auto retention = RetentionOf(record.key);
    if (retention && !record.pinned && age > *retention) {
      expired.push_back({record.key, std::string(id)});
    }
    return age > *shortest;  // younger ones come after it
  });
  expired_ += RemoveAll(expired);
  const std::lock_guard lock(mutex_);
  if (!expired_to_) expired_to_ = std::move(next);
}

void AnswerBook::NoteWork(std::unordered_set<std::string>& kind, const std::string& scope_key) {
  const std::lock_guard lock(mutex_);
  kind.insert(scope_key);
  work_due_ = true;
}

std::optional<std::string> AnswerBook::TakeWork(std::unordered_set<std::string>& kind) {
  const std::lock_guard lock(mutex_);
  if (kind.empty()) return std::nullopt;
  return std::move(kind.extract(kind.begin()).value());
}

// Caller holds mutex_.
void AnswerBook::UpdateWorkDue() {
  if (to_load_.empty() && loading_.empty() && to_extend_.empty()) ready_ = true;
  const bool may_embed =
      std::any_of(sources_.begin(), sources_.end(), [this](const Source* source) {
        return (source->debts > 0 || source->checking) &&
               clock_.Now() >= source->pause_until.load();
      });
  work_due_ = !to_load_.empty() || !loading_.empty() || !to_extend_.empty() || !to_save_.empty() ||
              expired_to_ || may_embed ||
              (store_->rewriting() && clock_.Now() >= rewrite_after_.load());
}

void AnswerBook::CountEntries(const std::string& scope_key, int64_t entries, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto add = [](auto& total, int64_t change) {
    using Total = std::remove_reference_t<decltype(total)>;
    total = change >= 0 ? total + static_cast<Total>(change)
                        : total - std::min(total, static_cast<Total>(-change));
  };
  add(entry_bytes_, bytes);
  if (entries == 0) return;
  size_t& count = census_[scope_key];
  const size_t before = count;
  add(count, entries);
  entries_ = entries_ - before + count;
  if (count == 0) census_.erase(scope_key);
}

bool AnswerBook::Known(const std::string& scope_key) const { return EntriesIn(scope_key) > 0; }

size_t AnswerBook::EntriesIn(const std::string& scope_key) const {
  const std::lock_guard lock(mutex_);
  const auto it = census_.find(scope_key);
  return it == census_.end() ? 0 : it->second;
}

size_t AnswerBook::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

size_t AnswerBook::scopes() const {
  const std::lock_guard lock(mutex_);
  return census_.size();
}

uint64_t AnswerBook::entry_bytes() const {
  const std::lock_guard lock(mutex_);
  return entry_bytes_;
}

core::Duration AnswerBook::AgeOf(core::WallTime created_at) const {
  // A clock that was set back makes entries of the future: they are new, not invalid.
  return std::max(core::Duration::zero(), clock_.WallNow() - created_at);
}

void AnswerBook::WarnOfWrite(const absl::Status& status) {
  {
    const std::lock_guard lock(warn_mutex_);
    const core::SteadyTime now = clock_.Now();
    if (last_warning_ && now - *last_warning_ < kBetweenWarnings) return;
    last_warning_ = now;
  }
  options_.warn("the cache cannot write (" + status.ToString() + "); requests are not affected, " +
                "answers are not stored; " + std::to_string(store_->write_errors()) +
                " failed writes so far");
}

}  // namespace holdfast::cache
