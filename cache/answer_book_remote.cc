// AnswerBook's part for a remote embedder: entries get its vectors in the background, from their
// stored questions; lookups use them while it answers. Each entry names the embedder of its vector,
// so a change of embedder, or a restart, only makes more to do.

#include <algorithm>
#include <utility>

#include "cache/answer_book.h"

namespace holdfast::cache {
namespace {

constexpr size_t kRowsPerTurn = 2048;
constexpr size_t kTextsPerCall = 16;
constexpr size_t kMostDue = 10'000;
constexpr core::Duration kPause = std::chrono::seconds(10);
// What a lookup needs besides the call.
constexpr core::Duration kMargin = std::chrono::milliseconds(30);

}  // namespace

bool AnswerBook::HasRemote(const EntryRecord& entry) const {
  return options_.remote != nullptr && entry.remote_embedder == options_.remote->id() &&
         entry.remote.values.size() == options_.remote->dimension();
}

std::vector<float> AnswerBook::RemoteVectorOf(const std::string& question,
                                              core::SteadyTime by) const {
  if (by < core::SaturatingAdd(clock_.Now(), options_.remote_timeout + kMargin)) return {};
  const std::string_view text = question;
  auto results = options_.remote->EmbedBatch(std::span(&text, 1));
  remote_failing_ = absl::IsUnavailable(results[0].status());
  if (!results[0].ok() || results[0]->vector.size() != options_.remote->dimension()) return {};
  return std::move(results[0]->vector);
}

double AnswerBook::RemoteCosine(const EntryRecord& entry, const std::vector<float>& asked) {
  double sum = 0;
  for (size_t i = 0; i < asked.size(); ++i) {
    sum += static_cast<double>(asked[i]) * entry.remote.values[i];
  }
  return std::clamp(sum * entry.remote.scale, -1.0, 1.0);
}

void AnswerBook::NoteRemoteWork(const std::string& key) {
  if (options_.remote == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (remote_due_.size() < kMostDue) {
    remote_due_.push_back(key);
  } else {
    remote_again_ = true;
  }
  work_due_ = true;
}

void AnswerBook::EmbedSomeRemotely() {
  if (options_.remote == nullptr) return;
  const std::unique_lock working(remote_mutex_, std::try_to_lock);
  if (!working) return;
  {
    const std::lock_guard lock(mutex_);
    if (clock_.Now() < remote_after_) return;
  }
  Owing owing = TakeRemoteWork();
  if (owing.empty() || EmbedRemotely(owing)) return;
  // It is down: these are for later, in memory or by another scan.
  for (const auto& [key, entry] : owing) NoteRemoteWork(key);
  const std::lock_guard lock(mutex_);
  remote_after_ = clock_.Now() + kPause;
}

// First what was there at the start, then what has come since.
AnswerBook::Owing AnswerBook::TakeRemoteWork() {
  const std::string id = options_.remote->id();
  Owing owing;
  std::optional<std::string> from;
  for (size_t seen = 0; seen < kRowsPerTurn && owing.size() < kTextsPerCall; ++seen) {
    std::string key;
    {
      const std::lock_guard lock(mutex_);
      from = remote_scan_;
      if (from || remote_due_.empty()) break;
      key = std::move(remote_due_.front());
      remote_due_.pop_front();
    }
    auto entry = store_->Get(key);
    if (entry && entry->remote_embedder != id) {
      owing.emplace_back(std::move(key), *std::move(entry));
    }
  }
  if (!from) return owing;
  size_t seen = 0;
  std::string last = *from;
  bool more = false;
  store_->ForEachEntry("", *from, [&](std::string_view key, std::optional<EntryRecord> entry) {
    if (seen++ == kRowsPerTurn || owing.size() == kTextsPerCall) {
      more = true;
      return false;
    }
    last = key;
    if (entry && entry->remote_embedder == id) {
      ++remote_done_;
    } else if (entry) {
      owing.emplace_back(key, *std::move(entry));
    }
    return true;
  });
  const std::lock_guard lock(mutex_);
  if (more) {
    remote_scan_ = last;
  } else if (std::exchange(remote_again_, false)) {
    remote_scan_ = "";
    remote_done_ = 0;
  } else {
    remote_scan_.reset();
  }
  return owing;
}

// False if the embedder is down; `owing` is then what is left.
bool AnswerBook::EmbedRemotely(Owing& owing) {
  const core::Embedder& remote = *options_.remote;
  std::vector<std::string_view> texts;
  for (const auto& [key, entry] : owing) texts.push_back(entry.question);
  auto results = remote.EmbedBatch(texts);
  // One bad text must not spoil the others.
  const bool one_by_one = texts.size() > 1 && absl::IsInvalidArgument(results[0].status());
  for (size_t i = 0; i < owing.size(); ++i) {
    auto result = one_by_one ? std::move(remote.EmbedBatch(std::span(&texts[i], 1))[0])
                             : std::move(results[i]);
    remote_failing_ = !result.ok() && !absl::IsInvalidArgument(result.status());
    if (remote_failing_) {
      owing.erase(owing.begin(), owing.begin() + static_cast<std::ptrdiff_t>(i));
      return false;
    }
    auto& [key, entry] = owing[i];
    entry.remote_embedder = remote.id();
    entry.remote = result.ok() && result->vector.size() == remote.dimension()
                       ? Quantize(result->vector)
                       : QuantizedVector();
    KeepRemote(key, entry);
  }
  return true;
}

void AnswerBook::KeepRemote(const std::string& key, EntryRecord entry) {
  const std::string scope_key = key.substr(0, key.size() - kQuestionKeySize);
  const Lease lease(*this, scope_key);
  const std::lock_guard lock((*lease).writing);
  if (store_->IdUnder(key) != entry.id) return;  // replaced or removed since
  if (const absl::Status status = store_->UpdateEntry(key, entry); !status.ok()) {
    WarnOfWrite(status);
    return;
  }
  ++remote_done_;
}

std::string AnswerBook::remote_problem() const {
  if (options_.remote == nullptr) return "";
  const std::string id = options_.remote->id();
  if (remote_failing_) {
    return "the embedder " + id + " does not answer; lookups use the vectors of " + embedder_.id();
  }
  const std::lock_guard lock(mutex_);
  if (!remote_scan_ && remote_due_.empty()) return "";
  return std::to_string(remote_done_) + " of " + std::to_string(entries_) +
         " entries have vectors of " + id + " so far";
}

}  // namespace holdfast::cache
