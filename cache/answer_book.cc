#include "cache/answer_book.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

constexpr size_t kGraphStepsPerInsert = 4;  // more than one, so that a lag shrinks
constexpr size_t kGraphStepsPerTurn = 32;   // some milliseconds
constexpr size_t kLoadAtOnce = 8192;        // scopes up to this size are loaded by who needs them
constexpr size_t kRowsPerTurn = 2048;       // of loading and of what expired
constexpr size_t kDebtsPerTurn = 16;
constexpr size_t kUsagePerUpkeep = 4096;
constexpr size_t kVictimsAtOnce = 256;
constexpr size_t kSaveAfter = 1000;  // changes, or a tenth of the scope
constexpr double kTwinCosine = 0.97;
constexpr int kMostDamagedRounds = 3;
constexpr core::Duration kUpkeepEvery = std::chrono::minutes(1);
constexpr core::Duration kDebtPause = std::chrono::seconds(10);
constexpr core::Duration kBetweenWarnings = std::chrono::minutes(1);

std::string ScopeOf(std::string_view key) {
  return std::string(key.substr(0, key.size() - std::min(key.size(), kQuestionKeySize)));
}

std::string_view QuestionOf(std::string_view key) {
  return key.substr(key.size() - std::min(key.size(), kQuestionKeySize));
}

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

ScopeIndex::Entry ForIndex(std::string_view key, const VectorRecord& vector) {
  return {QuestionOf(key), vector.id, vector.created_at, vector.pinned};
}

}  // namespace

AnswerBook::AnswerBook(SemanticCacheOptions options, const core::Embedder& embedder,
                       const core::Clock& clock, core::Random& random, const Judge& judge)
    : options_(std::move(options)),
      embedder_(embedder),
      clock_(clock),
      random_(random),
      judge_(judge),
      store_(EntryStore::Open(options_.directory, clock.WallNow(),
                              {.encryption_key = options_.encryption_key})),
      snapshots_(store_->derived_directory()),
      eviction_(*store_),
      next_upkeep_(clock.Now() + kUpkeepEvery) {
  if (!store_->problem().empty()) options_.warn(store_->problem());
  if (options_.remote != nullptr) remote_scan_ = "";
  ReadCensus();
}

// Nobody else uses it any more.
AnswerBook::~AnswerBook() {
  SaveUsage();
  for (const auto& [key, in_memory] : in_memory_) {
    if (in_memory.scope->unsaved > 0) SaveIndex(*in_memory.scope);
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
  store_->ForEachDebt("", [&](std::string_view) {
    ++debts_;
    return true;
  });

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
        options.vector.empty() ? EmbedText(question) : Checked(options.vector);
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
  if (scope.loaded != Loaded::kWholly && EntriesIn(scope.key) <= kLoadAtOnce) {
    LoadStep(scope, std::numeric_limits<size_t>::max());
  } else if (scope.loaded == Loaded::kNot) {
    LoadStep(scope, kRowsPerTurn);
  }
  const std::optional<std::string> replaced = store_->IdUnder(id.key);
  const auto replaced_id = replaced ? store_->FindId(*replaced) : std::nullopt;
  if (replaced_id && !entry.pinned &&
      (replaced_id->pinned || (keep_newer && replaced_id->created_at > entry.created_at))) {
    return Inserted::kKept;
  }
  std::optional<VectorRecord> row;
  if (vector) row = {entry.id, entry.created_at, embedder_.id(), *vector, entry.pinned};
  const absl::Status status = store_->Put(id, entry, row, replaced.value_or(""));
  if (!status.ok()) {
    WarnOfWrite(status);
    return Inserted::kFailed;
  }
  const std::string_view question_key = QuestionOf(id.key);
  {
    const std::unique_lock lock(scope.mutex);
    if (row) {
      scope.index.Put(ForIndex(id.key, *row), *vector);
    } else {
      scope.index.Remove(question_key);
    }
  }
  CountEntries(
      scope.key, replaced ? 0 : 1,
      static_cast<int64_t>(id.bytes) - static_cast<int64_t>(replaced_id ? replaced_id->bytes : 0));
  eviction_.NoteStored(entry.id);
  if (vector) {
    ExtendGraph(scope, kGraphStepsPerInsert);
    NoteTwins(scope, question_key, *vector);
  } else {
    ++debts_;
    work_due_ = true;
  }
  NoteChange(scope);
  NoteRemoteWork(id.key);
  return Inserted::kStored;
}

void AnswerBook::NoteTwins(const Scope& scope, std::string_view question_key,
                           const QuantizedVector& vector) {
  {
    const std::lock_guard lock(mutex_);
    if (entries_ <= options_.max_entries / 2 && entry_bytes_ <= options_.max_bytes / 2) return;
  }
  for (const auto& question : scope.index.Near(question_key, vector, kTwinCosine)) {
    const auto id = store_->IdUnder(scope.key + std::string(question.data(), question.size()));
    if (id) eviction_.NoteTwin(*id);
  }
}

// Caller holds `writing`. A step at a time, so that lookups get their turn between.
void AnswerBook::ExtendGraph(Scope& scope, size_t count) {
  bool more = true;
  for (; more && count > 0; --count) {
    const std::unique_lock lock(scope.mutex);
    more = scope.index.ExtendGraph(1);
  }
  if (more) NoteWork(to_extend_, scope.key);
  NoteSize(scope);
}

// Caller holds `writing`.
void AnswerBook::NoteSize(Scope& scope) {
  scope.bytes = scope.index.bytes();
  scope.size = scope.index.size();
}

void AnswerBook::NoteChange(Scope& scope) {
  NoteSize(scope);
  scope.changed_lately = true;
  if (++scope.unsaved >= std::max(kSaveAfter, scope.index.size() / 10) && snapshots_.enabled() &&
      scope.index.GraphIsWhole()) {
    NoteWork(to_save_, scope.key);
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

std::optional<core::CacheHit> AnswerBook::Find(const ScopeSource& source,
                                               const std::string& question,
                                               const core::CacheQuery& query,
                                               absl::FunctionRef<bool()> give_up,
                                               core::SteadyTime by) {
  const std::string scope_key = ScopeKey(source);
  if (!Known(scope_key)) return std::nullopt;
  const std::string same = scope_key + QuestionKey(NormalizeQuestion(question));
  if (auto hit = FindSame(same, question, query)) return hit;
  auto ranked = Consider(source, question, judge_.CosineFloor(query.min_similarity), query.max_age,
                         give_up, by);
  if (ranked.empty()) return std::nullopt;
  const Verdict& best = ranked.front().verdict;
  if (best.refused || best.similarity < query.min_similarity) return std::nullopt;
  return Serve(std::move(ranked.front()), query);
}

std::optional<core::CacheHit> AnswerBook::FindSame(const std::string& key,
                                                   const std::string& question,
                                                   const core::CacheQuery& query) {
  auto entry = store_->Get(key);
  if (!entry) return std::nullopt;
  Considered found = Judged(question, *std::move(entry), 1);
  if (found.age > query.max_age && !found.entry.pinned) return std::nullopt;
  if (found.verdict.refused || found.verdict.similarity < query.min_similarity) {
    return std::nullopt;
  }
  return Serve(std::move(found), query);
}

Considered AnswerBook::Judged(std::string_view asked, EntryRecord entry, double cosine) const {
  Considered considered{std::move(entry), {}, cosine, {}};
  considered.age = AgeOf(considered.entry.created_at);
  considered.verdict = judge_.Compare(
      asked, {considered.entry.question, cosine, considered.age, considered.entry.pinned});
  return considered;
}

core::CacheHit AnswerBook::Serve(Considered found, const core::CacheQuery& query) {
  eviction_.NoteHit(found.entry.id);
  return {std::move(found.entry.id),
          std::move(found.entry.answer),
          found.verdict.similarity,
          query.min_similarity,
          found.cosine,
          found.age,
          found.entry.created_at,
          std::move(found.entry.provider),
          std::move(found.entry.model)};
}

std::vector<Considered> AnswerBook::Explain(const ScopeSource& source, const std::string& question,
                                            double min_cosine, core::Duration max_age) {
  auto found = Consider(
      source, question, min_cosine, max_age, [] { return false; }, core::SteadyTime::max());
  if (auto same = store_->Get(ScopeKey(source) + QuestionKey(NormalizeQuestion(question)))) {
    // As FindSame sees it, also if it was found by its vector.
    std::erase_if(found, [&](const Considered& one) { return one.entry.id == same->id; });
    Considered own = Judged(question, *std::move(same), 1);
    if (own.entry.pinned || own.age <= max_age) found.push_back(std::move(own));
  }
  Rank(found);
  return found;
}

std::vector<Considered> AnswerBook::Consider(const ScopeSource& source, const std::string& question,
                                             double min_cosine, core::Duration max_age,
                                             absl::FunctionRef<bool()> give_up,
                                             core::SteadyTime by) {
  const std::string scope_key = ScopeKey(source);
  if (!Known(scope_key) || give_up()) return {};
  const Embedded vector = EmbedText(question);
  if (!vector.ok() || give_up()) return {};

  const Lease lease(*this, scope_key);
  Scope& scope = *lease;
  MakeUsable(scope);
  std::vector<Considered> found;
  std::optional<std::vector<float>> remote;  // asked for once; empty if there is none
  for (int round = 0; round < kMostDamagedRounds; ++round) {
    if (give_up()) return {};
    const auto nearest = Nearest(scope, *vector, min_cosine, max_age);
    found.clear();
    std::vector<KeyAndId> damaged;
    for (const auto& [question_key, cosine] : nearest) {
      const std::string key = scope.key + std::string(question_key.data(), question_key.size());
      auto entry = store_->Get(key);
      if (entry && HasRemote(*entry)) {
        if (!remote) remote = RemoteVectorOf(question, by);
        const double judged = remote->empty() ? cosine : RemoteCosine(*entry, *remote);
        found.push_back(Judged(question, *std::move(entry), judged));
      } else if (entry) {
        found.push_back(Judged(question, *std::move(entry), cosine));
      } else if (const auto id = store_->IdUnder(key)) {
        damaged.push_back({key, *id});
      }  // else it was removed just now
    }
    if (damaged.empty()) break;
    RemoveAll(damaged);  // and look again: others take their places
  }
  Rank(found);
  return found;
}

void AnswerBook::Rank(std::vector<Considered>& found) {
  std::sort(found.begin(), found.end(), [](const Considered& a, const Considered& b) {
    const auto rank = [](const Considered& c) {
      return std::tuple(c.verdict.refused, -c.verdict.similarity, -c.cosine, c.age);
    };
    return rank(a) < rank(b);
  });
}

std::vector<std::pair<ScopeIndex::Question, double>> AnswerBook::Nearest(
    Scope& scope, std::span<const float> vector, double min_cosine, core::Duration max_age) const {
  std::vector<std::pair<ScopeIndex::Question, double>> nearest;
  const std::shared_lock lock(scope.mutex);
  scope.index.Visit(vector, min_cosine, [&](const ScopeIndex::Item& item, double cosine) {
    if (!item.pinned && AgeOf(item.created_at) > max_age) return false;
    nearest.emplace_back(item.question, cosine);
    return nearest.size() == kCandidates;
  });
  return nearest;
}

AnswerBook::Embedded AnswerBook::EmbedText(std::string_view text) const {
  auto results = embedder_.EmbedBatch(std::span(&text, 1));
  if (results.size() != 1) return absl::InvalidArgumentError("no vector");
  if (!results[0].ok()) return results[0].status();
  texts_cut_ += results[0]->cut ? 1 : 0;
  return Checked(std::move(results[0]->vector));
}

// A unit vector of the right size: nothing else is ever written or compared.
AnswerBook::Embedded AnswerBook::Checked(std::vector<float> vector) const {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (vector.size() != embedder_.dimension() || !std::isfinite(squares) || squares <= 0) {
    return absl::InvalidArgumentError("zero, not finite or of a wrong size");
  }
  const double norm = std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(value / norm);
  return vector;
}

// A small scope is loaded wholly; of a large one lookups see what is there.
void AnswerBook::MakeUsable(Scope& scope) {
  if (scope.loaded == Loaded::kWholly) return;
  if (EntriesIn(scope.key) <= kLoadAtOnce) {
    const std::lock_guard lock(scope.writing);
    LoadStep(scope, std::numeric_limits<size_t>::max());
  } else if (const std::unique_lock lock(scope.writing, std::try_to_lock);
             lock && scope.loaded == Loaded::kNot) {
    LoadStep(scope, kRowsPerTurn);
  }
}

// Caller holds `writing`.
void AnswerBook::LoadStep(Scope& scope, size_t most) {
  if (scope.loaded == Loaded::kWholly) return;
  if (scope.loaded == Loaded::kNot) {
    const size_t expected = EntriesIn(scope.key);
    std::shared_ptr<const ScopeIndex::Saved> saved;
    const auto directory =
        expected > options_.flat_limit ? snapshots_.Latest(scope.key) : std::filesystem::path();
    if (!directory.empty()) {
      saved = ScopeIndex::ReadSaved(directory, embedder_.id(), embedder_.dimension());
    }
    const std::unique_lock lock(scope.mutex);
    scope.index.Expect(expected);
    if (saved) scope.index.BeginRestore(*saved);
    scope.loaded = Loaded::kPartly;
  }
  std::vector<std::pair<std::string, VectorRecord>> rows;
  std::vector<std::string> owing;
  size_t seen = 0;
  std::string last = scope.loaded_to;
  const bool readable = store_->ForEachVector(
      scope.key, last, [&](std::string_view key, std::optional<VectorRecord> vector) {
        last = key;
        if (key.size() != scope.key.size() + kQuestionKeySize) return true;
        if (!vector || !IsOurs(*vector)) {
          owing.emplace_back(key);  // its own was damaged, or another embedder's
        } else if (!vector->vector.values.empty()) {
          rows.emplace_back(key, *std::move(vector));
        }
        return ++seen < most;
      });
  BeginDebts(owing);
  {
    const std::unique_lock lock(scope.mutex);
    for (const auto& [key, row] : rows) scope.index.Load(ForIndex(key, row), row.vector);
  }
  scope.loaded_to = last;
  NoteSize(scope);
  if (!readable) LoadOneByOne(scope);
  if (seen < most) {
    FinishLoad(scope);
  } else {
    NoteWork(loading_, scope.key);
  }
}

bool AnswerBook::IsOurs(const VectorRecord& row) const {
  const size_t size = row.vector.values.size();
  return row.embedder == embedder_.id() && (size == 0 || size == embedder_.dimension());
}

void AnswerBook::FinishLoad(Scope& scope) {
  scope.index.PrepareGraph();
  {
    const std::unique_lock lock(scope.mutex);
    scope.index.FinishLoad();
    scope.loaded = Loaded::kWholly;
  }
  NoteSize(scope);
  if (scope.index.size() > options_.flat_limit) NoteWork(to_extend_, scope.key);
}

// Part of a file cannot be read: what stands in the rest can still be got by its key.
void AnswerBook::LoadOneByOne(Scope& scope) {
  std::vector<std::string> owing;
  store_->ForEachId("", [&](std::string_view, const IdRecord& record) {
    if (ScopeOf(record.key) != scope.key || record.key <= scope.loaded_to) return true;
    const auto row = store_->GetVector(record.key);
    if (!row || !IsOurs(*row)) {
      owing.push_back(record.key);
    } else if (!row->vector.values.empty()) {
      const std::unique_lock lock(scope.mutex);
      scope.index.Load(ForIndex(record.key, *row), row->vector);
    }
    return true;
  });
  BeginDebts(owing);
}

void AnswerBook::BeginDebts(const std::vector<std::string>& keys) {
  std::vector<std::string> added;
  for (const std::string& key : keys) {
    if (!store_->Owes(key)) added.push_back(key);
  }
  if (added.empty()) return;
  if (const absl::Status status = store_->AddDebts(added); !status.ok()) {
    WarnOfWrite(status);
    return;
  }
  debts_ += added.size();
  work_due_ = true;
}

void AnswerBook::PayDebts() {
  const std::unique_lock paying(debt_mutex_, std::try_to_lock);
  if (!paying || debts_ == 0) return;
  {
    const std::lock_guard lock(mutex_);
    if (clock_.Now() < pay_debts_after_) return;
  }
  std::vector<std::string> keys;
  const bool from_start = paid_to_.empty();
  store_->ForEachDebt(paid_to_, [&](std::string_view key) {
    keys.emplace_back(key);
    return keys.size() < kDebtsPerTurn;
  });
  if (keys.empty()) {
    paid_to_.clear();
    if (from_start) debts_ = 0;
    return;
  }
  std::vector<std::pair<std::string, EntryRecord>> entries;
  for (const std::string& key : keys) {
    if (auto entry = store_->Get(key)) {
      entries.emplace_back(key, *std::move(entry));
    } else {
      store_->ForgiveDebt(key).IgnoreError();
    }
  }
  std::vector<std::string_view> texts;
  for (const auto& [key, entry] : entries) texts.push_back(entry.question);
  auto results = embedder_.EmbedBatch(texts);
  for (size_t i = 0; i < entries.size() && i < results.size(); ++i) {
    const Embedded vector =
        results[i].ok() ? Checked(std::move(results[i]->vector)) : Embedded(results[i].status());
    if (results[i].ok()) texts_cut_ += results[i]->cut ? 1 : 0;
    if (vector.ok()) {
      PayDebt(entries[i].first, entries[i].second, Quantize(*vector));
    } else if (absl::IsInvalidArgument(vector.status())) {
      ++rejected_vectors_;  // it never will; the same question still finds it
      PayDebt(entries[i].first, entries[i].second, {});
    } else {
      const std::lock_guard lock(mutex_);
      pay_debts_after_ = clock_.Now() + kDebtPause;
      return;
    }
  }
  paid_to_ = keys.back();
}

// An empty vector says that this embedder has none for it.
void AnswerBook::PayDebt(const std::string& key, const EntryRecord& entry,
                         const QuantizedVector& vector) {
  const Lease lease(*this, ScopeOf(key));
  Scope& scope = *lease;
  const std::lock_guard lock(scope.writing);
  if (store_->IdUnder(key) != entry.id) return;  // replaced or removed since
  const VectorRecord row{entry.id, entry.created_at, embedder_.id(), vector, entry.pinned};
  if (const absl::Status status = store_->PutVector(key, row); !status.ok()) {
    WarnOfWrite(status);
    const std::lock_guard pausing(mutex_);
    pay_debts_after_ = clock_.Now() + kDebtPause;
    return;
  }
  if (debts_ > 0) --debts_;
  if (scope.loaded == Loaded::kNot || vector.values.empty()) return;
  {
    const std::unique_lock exclusive(scope.mutex);
    scope.index.Put(ForIndex(key, row), vector);
  }
  ExtendGraph(scope, kGraphStepsPerInsert);
  NoteChange(scope);
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
    if (const auto details = store_->FindId(id)) bytes += static_cast<int64_t>(details->bytes);
  }
  if (const absl::Status status = store_->Remove(rows); !status.ok()) {
    WarnOfWrite(status);
    return 0;
  }
  {
    const std::unique_lock lock(scope.mutex);
    for (const KeyAndId& row : rows) {
      if (!row.key.empty()) scope.index.Remove(QuestionOf(row.key));
    }
  }
  NoteSize(scope);
  CountEntries(scope.key, -counted, -bytes);
  if (EntriesIn(scope.key) == 0) {
    snapshots_.Drop(scope.key);
    scope.unsaved = 0;
  } else {
    NoteChange(scope);
  }
  if (scope.loaded == Loaded::kWholly && scope.index.HasGraph()) NoteWork(to_extend_, scope.key);
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
  if (may_embed) PayDebts();
  if (may_embed) EmbedSomeRemotely();
  RemoveExpired();
  const std::lock_guard lock(mutex_);
  UpdateWorkDue();
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
    if (!scope.changed_lately.exchange(false) && scope.unsaved > 0) to_save_.insert(key);
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
  LoadStep(*lease, kRowsPerTurn);
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
  ExtendGraph(*lease, kGraphStepsPerTurn);
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
  SaveIndex(*lease);
}

// Caller holds `writing`. Lookups go on beside it.
void AnswerBook::SaveIndex(Scope& scope) {
  if (!snapshots_.enabled() || !scope.index.GraphIsWhole()) return;
  scope.unsaved = 0;  // if it fails, it is for the next time
  const auto directory = snapshots_.Begin(scope.key);
  if (!directory.empty() && scope.index.Save(directory, embedder_.id())) {
    snapshots_.Commit(scope.key);
  }
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
  const bool may_pay = debts_ > 0 && clock_.Now() >= pay_debts_after_;
  work_due_ = !to_load_.empty() || !loading_.empty() || !to_extend_.empty() || !to_save_.empty() ||
              expired_to_ || may_pay ||
              ((remote_scan_ || !remote_due_.empty()) && clock_.Now() >= remote_after_);
}

std::shared_ptr<AnswerBook::Scope> AnswerBook::Acquire(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto [it, added] = in_memory_.try_emplace(key);
  InMemory& entry = it->second;
  if (added) {
    entry.scope = std::make_shared<Scope>(key, embedder_.dimension(), options_.flat_limit);
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
  const bool unused = entry.scope.use_count() == 1;
  const Loaded loaded = entry.scope->loaded;
  if (unused && loaded != Loaded::kPartly &&
      (loaded == Loaded::kNot || entry.scope->index.size() == 0)) {
    index_bytes_ -= entry.bytes;
    dropped.push_back(std::move(entry.scope));
    recently_used_.erase(entry.used);
    in_memory_.erase(it);
  }
  TrimMemory(dropped);
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
