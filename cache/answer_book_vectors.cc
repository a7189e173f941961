// AnswerBook's embedding: questions that are asked or stored, and what entries owe. A debt is paid
// from the stored question, in the background, so a change of embedder, or a restart, only makes
// more to do. After a change all entries are looked through once for those that have no vector of
// it; the store says when that is done.

#include <algorithm>
#include <cmath>
#include <utility>

#include "cache/answer_book.h"

namespace holdfast::cache {
namespace {

constexpr size_t kDebtsPerTurn = 16;  // one call
constexpr size_t kCheckedPerTurn = 512;
constexpr core::Duration kPause = std::chrono::seconds(10);
// What a lookup needs besides the call.
constexpr core::Duration kMargin = std::chrono::milliseconds(30);

using Embeddings = std::vector<absl::StatusOr<core::Embedding>>;

Embeddings EmbedQuestions(const core::Embedder& embedder,
                          const std::vector<std::string_view>& texts) {
  Embeddings results = embedder.EmbedBatch(texts);
  const bool all_refused =
      texts.size() > 1 && std::all_of(results.begin(), results.end(), [](const auto& result) {
        return absl::IsInvalidArgument(result.status());
      });
  if (!all_refused) return results;
  // One bad text must not spoil the others.
  results.clear();
  for (const std::string_view& text : texts) {
    results.push_back(std::move(embedder.EmbedBatch(std::span(&text, 1))[0]));
  }
  return results;
}

}  // namespace

AnswerBook::Embedded AnswerBook::EmbedText(std::string_view text) const {
  auto results = embedder_.EmbedBatch(std::span(&text, 1));
  if (results.size() != 1) return absl::InvalidArgumentError("no vector");
  if (!results[0].ok()) return results[0].status();
  texts_cut_ += results[0]->cut ? 1 : 0;
  return Checked(embedder_, std::move(results[0]->vector));
}

// A unit vector of the right size: nothing else is ever written or compared.
AnswerBook::Embedded AnswerBook::Checked(const core::Embedder& embedder,
                                         std::vector<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (vector.size() != embedder.dimension() || !std::isfinite(squares) || squares <= 0) {
    return absl::InvalidArgumentError("zero, not finite or of a wrong size");
  }
  const double norm = std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(value / norm);
  return vector;
}

// The question's vector by the remote embedder; empty if it does not answer, there is no time to
// ask it, or nothing to compare with.
std::vector<float> AnswerBook::AskRemote(const Scope& scope, const std::string& question,
                                         core::SteadyTime by) const {
  if (!remote_ || by < core::SaturatingAdd(clock_.Now(), options_.remote_timeout + kMargin)) {
    return {};
  }
  {
    const Indexed& indexed = *scope.remote;
    const std::shared_lock lock(scope.mutex);
    if (indexed.loaded == Loaded::kWholly && indexed.index->size() == 0) return {};
  }
  const std::string_view text = question;
  auto results = options_.remote->EmbedBatch(std::span(&text, 1));
  remote_->failing = absl::IsUnavailable(results[0].status());
  if (!results[0].ok()) return {};
  Embedded vector = Checked(*options_.remote, std::move(results[0]->vector));
  return vector.ok() ? *std::move(vector) : std::vector<float>();
}

bool AnswerBook::IsOurs(const Source& source, const VectorRecord& row) {
  const size_t size = row.vector.values.size();
  return row.embedder == source.embedder.id() && (size == 0 || size == source.embedder.dimension());
}

bool AnswerBook::HasVector(const Source& source, const std::string& key) const {
  const auto row = store_->GetVector(source.kind, key);
  return row && IsOurs(source, *row);
}

// At the start.
void AnswerBook::BeginCheck(Source& source) {
  store_->ForEachDebt(source.kind, "", [&](std::string_view) {
    ++source.debts;
    return true;
  });
  const std::string checked_for = store_->CheckedFor(source.kind);
  if (checked_for == source.embedder.id()) return;
  // Until it is done it holds for neither embedder.
  const bool nothing_to_do = entries() == 0;
  const std::string now_for = nothing_to_do ? source.embedder.id() : "";
  const bool noted = checked_for == now_for || store_->NoteChecked(source.kind, now_for).ok();
  source.checking = !nothing_to_do || !noted;
}

void AnswerBook::CheckSome(Source& source) {
  const std::unique_lock paying(source.paying, std::try_to_lock);
  if (!paying || !source.checking || clock_.Now() < source.pause_until.load()) return;
  std::vector<std::string> without;
  std::string last = source.checked_to;
  size_t seen = 0;
  store_->ForEachKey(last, [&](std::string_view key) {
    last = key;
    if (!HasVector(source, last)) without.push_back(last);
    return ++seen < kCheckedPerTurn;
  });
  bool done = true;
  for (size_t begin = 0, end = 0; done && begin < without.size(); begin = end) {
    const std::string scope_key = ScopeOf(without[begin]);
    while (end < without.size() && ScopeOf(without[end]) == scope_key) ++end;
    const Lease lease(*this, scope_key);
    const std::lock_guard lock((*lease).writing);
    done = BeginDebtsOf(source, std::span(without).subspan(begin, end - begin));
  }
  if (done && seen < kCheckedPerTurn) {
    done = store_->NoteChecked(source.kind, source.embedder.id()).ok();
    source.checking = !done;
  }
  if (!done) return Pause(source);
  source.checked_to = std::move(last);
  source.checked += seen;
}

// Caller holds the scope's `writing`. Of those that are still there and have no vector.
bool AnswerBook::BeginDebtsOf(Source& source, std::span<const std::string> keys) {
  std::vector<std::string> owing;
  for (const std::string& key : keys) {
    if (store_->IdUnder(key) && !HasVector(source, key)) owing.push_back(key);
  }
  return BeginDebts(source, owing);
}

// Caller holds the scope's `writing`. False if it cannot be written.
bool AnswerBook::BeginDebts(Source& source, const std::vector<std::string>& keys) {
  std::vector<std::string> added;
  for (const std::string& key : keys) {
    if (!store_->Owes(source.kind, key)) added.push_back(key);
  }
  if (added.empty()) return true;
  if (const absl::Status status = store_->AddDebts(source.kind, added); !status.ok()) {
    WarnOfWrite(status);
    return false;
  }
  source.debts += added.size();
  work_due_ = true;
  return true;
}

void AnswerBook::PayDebts(Source& source) {
  const std::unique_lock paying(source.paying, std::try_to_lock);
  if (!paying || source.debts == 0 || clock_.Now() < source.pause_until.load()) return;
  const auto entries = TakeDebts(source);
  if (entries.empty()) return;
  std::vector<std::string_view> texts;
  for (const auto& [key, entry] : entries) texts.push_back(entry.question);
  Embeddings results = EmbedQuestions(source.embedder, texts);
  for (size_t i = 0; i < entries.size() && i < results.size(); ++i) {
    const Embedded vector = results[i].ok()
                                ? Checked(source.embedder, std::move(results[i]->vector))
                                : Embedded(results[i].status());
    source.failing = !vector.ok() && !absl::IsInvalidArgument(vector.status());
    if (source.failing) return Pause(source);
    if (results[i].ok()) texts_cut_ += results[i]->cut ? 1 : 0;
    if (!vector.ok()) ++rejected_vectors_;  // it never will; what else finds it still does
    const auto& [key, entry] = entries[i];
    if (!PayDebt(source, key, entry, vector.ok() ? Quantize(*vector) : QuantizedVector())) {
      return Pause(source);
    }
    source.paid_to = key;
  }
}

// Some entries that owe a vector, in order of keys, round and round. Caller holds `paying`.
std::vector<std::pair<std::string, EntryRecord>> AnswerBook::TakeDebts(Source& source) {
  std::vector<std::string> keys;
  const bool from_start = source.paid_to.empty();
  store_->ForEachDebt(source.kind, source.paid_to, [&](std::string_view key) {
    keys.emplace_back(key);
    return keys.size() < kDebtsPerTurn;
  });
  if (keys.empty()) {
    source.paid_to.clear();
    if (from_start) source.debts = 0;
  }
  std::vector<std::pair<std::string, EntryRecord>> entries;
  for (const std::string& key : keys) {
    if (auto entry = store_->Get(key)) {
      entries.emplace_back(key, *std::move(entry));
    } else {
      store_->ForgiveDebt(source.kind, key).IgnoreError();
      source.paid_to = key;
    }
  }
  return entries;
}

// An empty vector says that this embedder has none for it. False if it cannot be written.
bool AnswerBook::PayDebt(Source& source, const std::string& key, const EntryRecord& entry,
                         const QuantizedVector& vector) {
  const Lease lease(*this, ScopeOf(key));
  Scope& scope = *lease;
  const std::lock_guard lock(scope.writing);
  if (store_->IdUnder(key) != entry.id) return true;  // replaced or removed since
  const VectorRecord row{entry.id, entry.created_at, source.embedder.id(), vector, entry.pinned};
  if (const absl::Status status = store_->PutVector(source.kind, key, row); !status.ok()) {
    WarnOfWrite(status);
    return false;
  }
  if (source.debts > 0) --source.debts;
  Indexed& indexed = scope.Of(source);
  if (indexed.loaded == Loaded::kNot || indexed.loaded == Loaded::kLeftOut ||
      vector.values.empty()) {
    return true;
  }
  {
    const std::unique_lock exclusive(scope.mutex);
    indexed.index->Put(ForIndex(key, row), vector);
  }
  ExtendGraph(scope, source, kGraphStepsPerInsert);
  NoteChange(scope, source);
  return true;
}

void AnswerBook::Pause(Source& source) { source.pause_until = clock_.Now() + kPause; }

std::vector<EmbeddingProgress> AnswerBook::Progress() const {
  std::vector<EmbeddingProgress> progress;
  const size_t total = entries();
  for (const Source* source : sources_) {
    const size_t known = source->checking ? std::min(source->checked.load(), total) : total;
    progress.push_back({source->embedder.id(), source->kind == VectorKind::kRemote,
                        known - std::min(known, source->debts.load()), total, source->checking});
  }
  return progress;
}

std::string AnswerBook::remote_problem() const {
  if (!remote_) return "";
  const std::string id = remote_->embedder.id();
  if (remote_->failing) {
    return "the embedder " + id + " does not answer; lookups use the vectors of " + embedder_.id();
  }
  const std::lock_guard lock(mutex_);
  const auto left_out = std::count_if(in_memory_.begin(), in_memory_.end(), [](const auto& one) {
    return one.second.scope->remote->loaded == Loaded::kLeftOut;
  });
  if (left_out == 0) return "";
  return "index_memory does not hold the vectors of " + id + " for " + std::to_string(left_out) +
         " scopes; their candidates are found by those of " + embedder_.id();
}

}  // namespace holdfast::cache
