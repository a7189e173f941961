#include "cache/store.h"

#include <fcntl.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstring>
#include <system_error>
#include <utility>

#include "cache/scope.h"
#include "cache/storage.pb.h"

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "stored vectors are little-endian");

constexpr char kFormatKey[] = "format";
constexpr char kFormat[] = "2";
constexpr char kKeyKey[] = "key";
constexpr char kNextKeyKey[] = "next_key";
constexpr char kKeyText[] = "holdfast cache";
constexpr char kReserve[] = "reserve";
constexpr off_t kReserveBytes = 4 << 20;
constexpr char kPlain = 1;  // a value's version
constexpr char kSealed = 2;
constexpr size_t kPlainHeader = 5;

const char* CheckedKey(VectorKind kind) {
  return kind == VectorKind::kLocal ? "embedder" : "remote_embedder";
}

rocksdb::Slice ToSlice(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ToView(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

bool IsSealedWith(const Cipher& cipher, std::string_view key, std::string_view value) {
  return !value.empty() && value.front() == kSealed &&
         cipher.Open(key, value.substr(1)).has_value();
}

uint32_t Checksum(std::string_view key, std::string_view message) {
  const auto add = [](uLong crc, std::string_view data) {
    return crc32_z(crc, reinterpret_cast<const Bytef*>(data.data()), data.size());
  };
  return static_cast<uint32_t>(add(add(crc32_z(0, nullptr, 0), key), message));
}

int64_t ToNanos(core::WallTime time) { return time.time_since_epoch().count(); }
core::WallTime FromNanos(int64_t nanos) { return core::WallTime(core::Duration(nanos)); }

storage::StoredEntry ToMessage(const EntryRecord& entry) {
  storage::StoredEntry message;
  message.set_id(entry.id);
  message.set_question(entry.question);
  message.set_answer(entry.answer);
  message.set_provider(entry.provider);
  message.set_model(entry.model);
  message.set_created_unix_nanos(ToNanos(entry.created_at));
  message.set_pinned(entry.pinned);
  return message;
}

EntryRecord FromMessage(storage::StoredEntry message) {
  return {std::move(*message.mutable_id()),
          std::move(*message.mutable_question()),
          std::move(*message.mutable_answer()),
          std::move(*message.mutable_provider()),
          std::move(*message.mutable_model()),
          FromNanos(message.created_unix_nanos()),
          message.pinned()};
}

storage::StoredVector ToMessage(const VectorRecord& vector) {
  storage::StoredVector message;
  message.set_id(vector.id);
  message.set_created_unix_nanos(ToNanos(vector.created_at));
  message.set_embedder(vector.embedder);
  message.set_scale(vector.vector.scale);
  message.set_values(vector.vector.values.data(), vector.vector.values.size() * sizeof(int16_t));
  message.set_pinned(vector.pinned);
  return message;
}

VectorRecord FromMessage(storage::StoredVector message) {
  VectorRecord record{std::move(*message.mutable_id()),
                      FromNanos(message.created_unix_nanos()),
                      std::move(*message.mutable_embedder()),
                      {message.scale(), std::vector<int16_t>(message.values().size() / 2)},
                      message.pinned()};
  if (!record.vector.values.empty()) {
    std::memcpy(record.vector.values.data(), message.values().data(),
                record.vector.values.size() * sizeof(int16_t));
  }
  return record;
}

storage::StoredId ToMessage(const IdRecord& id) {
  storage::StoredId message;
  message.set_key(id.key);
  message.set_created_unix_nanos(ToNanos(id.created_at));
  message.set_bytes(id.bytes);
  message.set_pinned(id.pinned);
  for (const auto& [key, value] : id.labels) {
    storage::StoredLabel& label = *message.add_labels();
    label.set_key(key);
    label.set_value(value);
  }
  message.set_hits(id.hits);
  message.set_has_twin(id.has_twin);
  return message;
}

IdRecord FromMessage(storage::StoredId message) {
  IdRecord id{.key = std::move(*message.mutable_key()),
              .created_at = FromNanos(message.created_unix_nanos()),
              .bytes = message.bytes(),
              .pinned = message.pinned(),
              .labels = {},
              .hits = message.hits(),
              .has_twin = message.has_twin()};
  for (storage::StoredLabel& label : *message.mutable_labels()) {
    id.labels.emplace_back(std::move(*label.mutable_key()), std::move(*label.mutable_value()));
  }
  return id;
}

// The first key after all that begin with `prefix`; empty if there is none.
std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && static_cast<uint8_t>(end.back()) == 0xFF) end.pop_back();
  if (!end.empty()) ++end.back();
  return end;
}

rocksdb::ColumnFamilyOptions FamilyOptions(rocksdb::CompressionType compression) {
  rocksdb::ColumnFamilyOptions options;
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = 16 << 20;
  options.compression = compression;
  return options;
}

// RocksDB's own log is a file beside the database, and Debian's build, which has its assertions on,
// ends the process when it cannot write there: a full disk must not.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::DBOptions DatabaseOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  options.info_log = std::make_shared<NoLog>();
  options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.atomic_flush = true;  // the column families agree even where the log is damaged
  options.max_total_wal_size = 64 << 20;
  // So that opening needs next to no room.
  options.avoid_flush_during_recovery = true;
  options.allow_fallocate = false;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  // Written anew with each change, so that it names no key of a file that is gone: a key holds its
  // tenant's name.
  options.max_manifest_file_size = 1;
  return options;
}

// Moves what cannot be opened out of the way; returns its new name, empty if that failed.
std::string SetAside(const fs::path& directory, core::WallTime now) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(now).time_since_epoch().count();
  const std::string base = directory.string() + ".damaged-" + std::to_string(seconds);
  std::error_code error;
  std::string target = base;
  for (int i = 2; fs::exists(target, error); ++i) target = base + "-" + std::to_string(i);
  fs::rename(directory, target, error);
  return error ? std::string() : target;
}

absl::Status ToAbsl(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(status.ToString());
  return absl::InternalError(status.ToString());
}

}  // namespace

std::string QuestionKey(std::string_view normalized_question) {
  return Sha256(normalized_question).substr(0, kQuestionKeySize);
}

std::string ScopeOf(std::string_view key) {
  return std::string(key.substr(0, key.size() - std::min(key.size(), kQuestionKeySize)));
}

std::string_view QuestionOf(std::string_view key) {
  return key.substr(key.size() - std::min(key.size(), kQuestionKeySize));
}

std::unique_ptr<EntryStore> EntryStore::Open(const fs::path& directory, core::WallTime now,
                                             const StoreOptions& options) {
  std::unique_ptr<EntryStore> store(new EntryStore);
  if (!options.encryption_key.empty()) {
    store->cipher_ = std::make_unique<const Cipher>(options.encryption_key);
    if (!options.previous_key.empty()) {
      store->previous_ = std::make_unique<const Cipher>(options.previous_key);
    }
  }
  if (directory.empty()) {
    store->OpenInMemory();
    return store;
  }
  rocksdb::Env* env = options.env != nullptr ? options.env : rocksdb::Env::Default();
  // "data/cache/" is renamed as "data/cache".
  const fs::path path = directory.has_filename() ? directory : directory.parent_path();
  OpenError error = store->OpenDirectory(path, env);
  if (error.text.empty()) return store;
  if (error.wrong_key) store->refusal_ = "the cache in " + path.string() + " " + error.text;
  store->problem_ = "the cache in " + path.string() + " cannot be opened (" + error.text + ")";
  if (error.damaged) {
    const std::string aside = SetAside(path, now);
    if (!aside.empty()) {
      store->problem_ += "; it was set aside as " + aside;
      error = store->OpenDirectory(path, env);
    }
    if (error.text.empty()) {
      store->problem_ += "; the cache starts empty";
      return store;
    }
    store->problem_ += "; a new one cannot be made there";
  }
  store->problem_ += "; entries are kept in memory only and are lost at the end";
  store->OpenInMemory();
  return store;
}

EntryStore::~EntryStore() { Close(); }

void EntryStore::Close() {
  if (!db_) return;
  for (auto* family : {default_, entries_, ids_, windows_, local_.rows, local_.debts, remote_.rows,
                       remote_.debts}) {
    db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  }
  db_->Close().PermitUncheckedError();
  db_.reset();
}

EntryStore::OpenError EntryStore::OpenDirectory(const fs::path& directory, rocksdb::Env* env) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (!fs::is_directory(directory, error)) {
    return {"it is no directory and none can be made", fs::exists(directory, error)};
  }
  // A database in use is whole and somebody's: it must not be renamed under its owner.
  rocksdb::FileLock* lock = nullptr;
  if (!env->LockFile((directory / "LOCK").string(), &lock).ok()) {
    return {"it cannot be locked: another process uses it, or it cannot be written to", false};
  }
  env->UnlockFile(lock).PermitUncheckedError();
  OpenError open_error = OpenDatabase(directory.string(), env);
  const fs::path reserve = directory / kReserve;
  if (open_error.no_space && fs::remove(reserve, error)) {
    open_error = OpenDatabase(directory.string(), env);
  }
  if (open_error.text.empty()) {
    directory_ = directory;
    KeepReserve();
  }
  return open_error;
}

// As large as there is room for: a start on a full disk takes less.
void EntryStore::KeepReserve() const {
  const fs::path path = directory_ / kReserve;
  std::error_code error;
  if (directory_.empty() || fs::exists(path, error)) return;
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return;
  bool kept = false;
  for (off_t size = kReserveBytes; !kept && size >= kReserveBytes / 8; size /= 2) {
    kept = posix_fallocate(file, 0, size) == 0;
  }
  close(file);
  if (!kept) fs::remove(path, error);
}

EntryStore::OpenError EntryStore::OpenDatabase(const std::string& path, rocksdb::Env* env) {
  const rocksdb::CompressionType texts = rocksdb::kSnappyCompression;
  const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, FamilyOptions(texts)},
      {"entries", FamilyOptions(texts)},
      {"vectors", FamilyOptions(rocksdb::kNoCompression)},
      {"ids", FamilyOptions(texts)},
      {"debts", FamilyOptions(texts)},
      {"remote_vectors", FamilyOptions(rocksdb::kNoCompression)},
      {"remote_debts", FamilyOptions(texts)},
      {"windows", FamilyOptions(texts)},
  };
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::Open(DatabaseOptions(env), path, families, &handles, &db);
  // A full disk damages nothing.
  if (!status.ok()) return {status.ToString(), !status.IsNoSpace(), status.IsNoSpace()};
  db_.reset(db);
  default_ = handles[0];
  entries_ = handles[1];
  local_.rows = handles[2];
  ids_ = handles[3];
  local_.debts = handles[4];
  remote_ = {handles[5], handles[6]};
  windows_ = handles[7];
  OpenError error{CheckFormat(), true};
  if (error.text.empty()) error = CheckKey();
  if (!error.text.empty()) Close();
  return error;
}

std::string EntryStore::CheckFormat() {
  std::string format;
  const rocksdb::Status status = db_->Get({}, default_, kFormatKey, &format);
  if (status.IsNotFound()) {
    db_->Put({}, default_, kFormatKey, kFormat).PermitUncheckedError();
    return "";
  }
  if (!status.ok()) return status.ToString();
  if (format == kFormat) return "";
  return "its format is " + format + ", and this version reads " + kFormat;
}

EntryStore::OpenError EntryStore::CheckKey() {
  all_encrypted_ = false;
  rewriting_ = false;
  std::string found, next;
  rocksdb::Status status = db_->Get({}, default_, kKeyKey, &found);
  if (!status.ok() && !status.IsNotFound()) return {status.ToString(), true};
  if (status.ok()) {
    if (!cipher_) return {"is encrypted, and there is no key", false, false, true};
    const rocksdb::Status next_status = db_->Get({}, default_, kNextKeyKey, &next);
    if (!next_status.ok() && !next_status.IsNotFound()) return {next_status.ToString(), true};
    const OpenError error = CheckKeysInUse(found, next);
    if (!error.text.empty()) return error;
  } else if (cipher_) {
    status = EncryptAll();
    if (status.ok()) status = db_->Put({}, default_, kKeyKey, cipher_->Seal(kKeyKey, kKeyText));
    if (!status.ok()) return {"what is there cannot be encrypted: " + status.ToString(), false};
  }
  all_encrypted_ = cipher_ != nullptr;
  return {};
}

// All values are in the first key, or in the first and the second where there is one. Whichever of
// the two is the one to write with now, the rest is rewritten with it.
EntryStore::OpenError EntryStore::CheckKeysInUse(const std::string& first,
                                                 const std::string& second) {
  const auto opens = [](const std::unique_ptr<const Cipher>& cipher, const char* name,
                        const std::string& value) {
    return cipher && cipher->Open(name, value) == kKeyText;
  };
  if (!second.empty()) {
    rewriting_ = (opens(cipher_, kKeyKey, first) && opens(previous_, kNextKeyKey, second)) ||
                 (opens(previous_, kKeyKey, first) && opens(cipher_, kNextKeyKey, second));
    if (rewriting_) return {};
    return {"is being rewritten from one key to another, and needs both", false, false, true};
  }
  if (opens(cipher_, kKeyKey, first)) return {};
  if (!opens(previous_, kKeyKey, first)) {
    return {"is encrypted with another key", false, false, true};
  }
  const rocksdb::Status status =
      db_->Put({}, default_, kNextKeyKey, cipher_->Seal(kNextKeyKey, kKeyText));
  if (!status.ok()) return {"the new key cannot be noted: " + status.ToString(), false};
  rewriting_ = true;
  return {};
}

// Ended half-way it begins anew at the next start, and passes over what it did.
rocksdb::Status EntryStore::EncryptAll() {
  rocksdb::CompactRangeOptions compact;
  compact.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (auto* family : FamiliesWithValues()) {
    rocksdb::Status status = EncryptFamily(family);
    if (status.ok()) status = db_->CompactRange(compact, family, nullptr, nullptr);
    if (!status.ok()) return status;
  }
  return rocksdb::Status::OK();
}

rocksdb::Status EntryStore::EncryptFamily(rocksdb::ColumnFamilyHandle* family) {
  constexpr size_t kBatchBytes = 1 << 20;
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, family));
  rocksdb::WriteBatch batch;
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (IsSealedWith(*cipher_, ToView(it->key()), ToView(it->value()))) continue;
    const auto message = Unwrap(ToView(it->key()), ToView(it->value()));
    if (message) {
      batch.Put(family, it->key(), Wrap(ToView(it->key()), *message));
    } else {
      batch.Delete(family, it->key());  // damaged, but somebody may still read it
    }
    if (batch.GetDataSize() < kBatchBytes) continue;
    if (const rocksdb::Status status = db_->Write({}, &batch); !status.ok()) return status;
    batch.Clear();
  }
  return it->status().ok() ? db_->Write({}, &batch) : it->status();
}

std::vector<rocksdb::ColumnFamilyHandle*> EntryStore::FamiliesWithValues() const {
  return {entries_, ids_, local_.rows, remote_.rows, windows_};
}

absl::Status EntryStore::RewriteSome() {
  const std::lock_guard rewriting(rewrite_mutex_);
  if (!db_ || !rewriting_) return absl::OkStatus();
  const auto families = FamiliesWithValues();
  const size_t step = rewritten_families_;
  if (step < families.size()) return RewriteRows(families[step]);
  if (step < 2 * families.size()) {
    // So that what the previous key can read leaves the disk.
    rocksdb::CompactRangeOptions compact;
    compact.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    const rocksdb::Status status =
        db_->CompactRange(compact, families[step - families.size()], nullptr, nullptr);
    if (status.ok()) ++rewritten_families_;
    return ToAbsl(status);
  }
  rocksdb::WriteBatch batch;
  batch.Put(default_, kKeyKey, cipher_->Seal(kKeyKey, kKeyText));
  batch.Delete(default_, kNextKeyKey);
  absl::Status status = Write(batch);
  if (status.ok()) rewriting_ = false;
  return status;
}

// Writers wait, so that none is overtaken by an older value. What is damaged stays as it is.
absl::Status EntryStore::RewriteRows(rocksdb::ColumnFamilyHandle* family) {
  constexpr size_t kBytes = 256 << 10;
  constexpr int kRows = 512;
  const std::lock_guard lock(write_mutex_);
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, family));
  rocksdb::WriteBatch batch;
  std::string last = rewritten_to_;
  it->Seek(last);
  for (int rows = 0; it->Valid() && rows < kRows && batch.GetDataSize() < kBytes; it->Next()) {
    if (it->key() == ToSlice(last)) continue;
    ++rows;
    last = it->key().ToString();
    if (IsSealedWith(*cipher_, last, ToView(it->value()))) continue;
    if (const auto message = Unwrap(last, ToView(it->value()))) {
      batch.Put(family, last, Wrap(last, *message));
    }
  }
  const bool done = !it->Valid();
  if (!it->status().ok()) return ToAbsl(it->status());
  if (const absl::Status status = WriteLocked(batch); !status.ok()) return status;
  rewritten_to_ = done ? "" : std::move(last);
  if (done) ++rewritten_families_;
  return absl::OkStatus();
}

void EntryStore::OpenInMemory() {
  // RocksDB itself, unchanged, over files in memory: one way to store, however it ends up.
  memory_env_.reset(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  const OpenError error = OpenDatabase("/cache", memory_env_.get());
  if (!error.text.empty()) problem_ += "; nothing can be stored (" + error.text + ")";
}

absl::Status EntryStore::Write(rocksdb::WriteBatch& batch) {
  if (!db_) return absl::UnavailableError("there is no database");
  // One at a time: nothing waits for the disk here, so RocksDB's grouping of writes gains nothing.
  const std::lock_guard lock(write_mutex_);
  return WriteLocked(batch);
}

// Caller holds write_mutex_.
absl::Status EntryStore::WriteLocked(rocksdb::WriteBatch& batch) {
  // After some errors RocksDB stays read-only until it is told to look again; from a full disk it
  // recovers by itself, in its own time, and says "busy" until then.
  if (read_only_) db_->Resume().PermitUncheckedError();
  const rocksdb::Status status = db_->Write({}, &batch);
  read_only_ = !status.ok();
  if (!status.ok()) ++write_errors_;
  return ToAbsl(status);
}

absl::Status EntryStore::Put(const IdRecord& id, const EntryRecord& entry,
                             const std::optional<VectorRecord>& vector,
                             const std::string& replaced_id, bool owes_remote) {
  const std::string& key = id.key;
  rocksdb::WriteBatch batch;
  if (!replaced_id.empty()) {
    batch.Delete(ids_, replaced_id);
    if (vector) batch.Delete(local_.debts, key);
    batch.Delete(remote_.rows, key);
    if (!owes_remote) batch.Delete(remote_.debts, key);
  }
  batch.Put(entries_, key, Encode(key, ToMessage(entry)));
  batch.Put(ids_, entry.id, Encode(entry.id, ToMessage(id)));
  if (vector) {
    batch.Put(local_.rows, key, Encode(key, ToMessage(*vector)));
  } else {
    batch.Delete(local_.rows, key);
    batch.Put(local_.debts, key, "");
  }
  if (owes_remote) batch.Put(remote_.debts, key, "");
  return Write(batch);
}

absl::Status EntryStore::PutWindow(const std::string& route, const WindowRecord& window) {
  storage::StoredWindow message;
  message.set_judged_by(window.judged_by);
  message.mutable_similarities()->Add(window.similarities.begin(), window.similarities.end());
  for (const bool wrong : window.wrong) message.add_wrong(wrong);
  rocksdb::WriteBatch batch;
  batch.Put(windows_, route, Encode(route, message));
  return Write(batch);
}

std::optional<WindowRecord> EntryStore::GetWindow(const std::string& route) const {
  const auto message = Read<storage::StoredWindow>(windows_, route);
  if (!message) return std::nullopt;
  WindowRecord window{message->judged_by(),
                      {message->similarities().begin(), message->similarities().end()},
                      {message->wrong().begin(), message->wrong().end()}};
  const bool sound =
      window.similarities.size() == window.wrong.size() &&
      std::all_of(window.similarities.begin(), window.similarities.end(),
                  [](double similarity) { return similarity >= 0 && similarity <= 1; });
  if (sound) return window;
  ++read_errors_;
  return std::nullopt;
}

absl::Status EntryStore::RemoveWindowsBut(const std::vector<std::string>& routes) {
  rocksdb::WriteBatch batch;
  ForEachRow(windows_, "", "", [&](std::string_view route, std::string_view) {
    if (std::find(routes.begin(), routes.end(), route) == routes.end()) {
      batch.Delete(windows_, ToSlice(route));
    }
    return true;
  });
  return batch.Count() == 0 ? absl::OkStatus() : Write(batch);
}

absl::Status EntryStore::TryToWrite() {
  rocksdb::WriteBatch batch;
  batch.Put(default_, kFormatKey, kFormat);
  absl::Status status = Write(batch);
  if (status.ok()) KeepReserve();
  return status;
}

absl::Status EntryStore::PutVector(VectorKind kind, const std::string& key,
                                   const VectorRecord& vector) {
  rocksdb::WriteBatch batch;
  batch.Put(Of(kind).rows, key, Encode(key, ToMessage(vector)));
  batch.Delete(Of(kind).debts, key);
  return Write(batch);
}

absl::Status EntryStore::AddDebts(VectorKind kind, const std::vector<std::string>& keys) {
  rocksdb::WriteBatch batch;
  for (const std::string& key : keys) batch.Put(Of(kind).debts, key, "");
  return Write(batch);
}

bool EntryStore::Owes(VectorKind kind, const std::string& key) const {
  std::string value;
  return db_ && db_->Get({}, Of(kind).debts, key, &value).ok();
}

absl::Status EntryStore::ForgiveDebt(VectorKind kind, const std::string& key) {
  rocksdb::WriteBatch batch;
  batch.Delete(Of(kind).debts, key);
  return Write(batch);
}

std::string EntryStore::CheckedFor(VectorKind kind) const {
  std::string embedder;
  if (!db_ || !db_->Get({}, default_, CheckedKey(kind), &embedder).ok()) return "";
  return embedder;
}

absl::Status EntryStore::NoteChecked(VectorKind kind, const std::string& embedder) {
  rocksdb::WriteBatch batch;
  batch.Put(default_, CheckedKey(kind), embedder);
  return Write(batch);
}

absl::Status EntryStore::UpdateIds(const std::vector<std::pair<std::string, IdRecord>>& ids) {
  rocksdb::WriteBatch batch;
  for (const auto& [id, record] : ids) batch.Put(ids_, id, Encode(id, ToMessage(record)));
  return Write(batch);
}

absl::Status EntryStore::Remove(const std::vector<KeyAndId>& entries) {
  rocksdb::WriteBatch batch;
  for (const auto& [key, id] : entries) {
    if (!key.empty()) {
      batch.Delete(entries_, key);
      for (const Vectors& vectors : {local_, remote_}) {
        batch.Delete(vectors.rows, key);
        batch.Delete(vectors.debts, key);
      }
    }
    if (!id.empty()) batch.Delete(ids_, id);
  }
  return Write(batch);
}

// The key is summed, or sealed, with the message, so a value is good under its own key only.
std::string EntryStore::Wrap(std::string_view key, std::string_view message) const {
  if (cipher_) return std::string(1, kSealed) + cipher_->Seal(key, message);
  std::string value(kPlainHeader, kPlain);
  const uint32_t checksum = Checksum(key, message);
  std::memcpy(value.data() + 1, &checksum, sizeof(checksum));
  return value.append(message);
}

std::optional<std::string> EntryStore::Unwrap(std::string_view key, std::string_view value) const {
  if (cipher_ && !value.empty() && value.front() == kSealed) {
    auto message = cipher_->Open(key, value.substr(1));
    if (!message && previous_) message = previous_->Open(key, value.substr(1));
    return message;
  }
  if (all_encrypted_ || value.size() < kPlainHeader || value.front() != kPlain) return std::nullopt;
  uint32_t checksum = 0;
  std::memcpy(&checksum, value.data() + 1, sizeof(checksum));
  const std::string_view message = value.substr(kPlainHeader);
  if (checksum != Checksum(key, message)) return std::nullopt;
  return std::string(message);
}

template <typename Message>
std::string EntryStore::Encode(std::string_view key, const Message& message) const {
  return Wrap(key, message.SerializeAsString());
}

template <typename Message>
std::optional<Message> EntryStore::Decode(std::string_view key, std::string_view value) const {
  Message message;
  const auto body = Unwrap(key, value);
  if (body && message.ParseFromString(*body)) return message;
  ++read_errors_;
  return std::nullopt;
}

template <typename Message>
std::optional<Message> EntryStore::Read(rocksdb::ColumnFamilyHandle* family, std::string_view key,
                                        bool* damaged) const {
  if (!db_) return std::nullopt;
  rocksdb::PinnableSlice value;
  const rocksdb::Status status = db_->Get({}, family, ToSlice(key), &value);
  if (status.IsNotFound()) return std::nullopt;
  std::optional<Message> message;
  if (status.ok()) {
    message = Decode<Message>(key, ToView(value));
  } else {
    ++read_errors_;
  }
  if (damaged != nullptr) *damaged = !message;
  return message;
}

std::optional<EntryRecord> EntryStore::Get(const std::string& key) const {
  auto message = Read<storage::StoredEntry>(entries_, key);
  if (!message) return std::nullopt;
  return FromMessage(std::move(*message));
}

std::optional<IdRecord> EntryStore::FindId(const std::string& id) const {
  auto message = Read<storage::StoredId>(ids_, id);
  if (!message) return std::nullopt;
  return FromMessage(std::move(*message));
}

std::optional<VectorRecord> EntryStore::GetVector(VectorKind kind, const std::string& key) const {
  auto message = Read<storage::StoredVector>(Of(kind).rows, key);
  if (!message) return std::nullopt;
  return FromMessage(std::move(*message));
}

std::optional<std::string> EntryStore::IdUnder(const std::string& key) const {
  bool damaged = false;
  auto message = Read<storage::StoredEntry>(entries_, key, &damaged);
  if (message) return std::move(*message->mutable_id());
  if (damaged) return "";
  return std::nullopt;
}

template <typename Visit>
bool EntryStore::ForEachRow(rocksdb::ColumnFamilyHandle* family, std::string_view prefix,
                            std::string_view after, Visit visit) const {
  if (!db_) return true;
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, family));
  it->Seek(ToSlice(std::max(prefix, after)));
  if (!after.empty() && it->Valid() && it->key() == ToSlice(after)) it->Next();
  while (it->Valid() && it->key().starts_with(ToSlice(prefix)) &&
         visit(ToView(it->key()), ToView(it->value()))) {
    it->Next();
  }
  return Readable(*it);
}

bool EntryStore::ForEachVector(VectorKind kind, std::string_view prefix, std::string_view after,
                               VisitVector visit) const {
  return ForEachRow(
      Of(kind).rows, prefix, after, [&](std::string_view key, std::string_view value) {
        auto message = Decode<storage::StoredVector>(key, value);
        return visit(key, message ? std::optional(FromMessage(std::move(*message))) : std::nullopt);
      });
}

bool EntryStore::ForEachEntry(std::string_view prefix, std::string_view after,
                              VisitEntry visit) const {
  return ForEachRow(entries_, prefix, after, [&](std::string_view key, std::string_view value) {
    auto message = Decode<storage::StoredEntry>(key, value);
    return visit(key, message ? std::optional(FromMessage(std::move(*message))) : std::nullopt);
  });
}

bool EntryStore::ForEachKey(std::string_view after, VisitKey visit) const {
  return ForEachRow(entries_, "", after,
                    [&](std::string_view key, std::string_view) { return visit(key); });
}

bool EntryStore::ForEachDebt(VectorKind kind, std::string_view after, VisitKey visit) const {
  return ForEachRow(Of(kind).debts, "", after,
                    [&](std::string_view key, std::string_view) { return visit(key); });
}

bool EntryStore::ForEachId(std::string_view from_id, VisitId visit) const {
  if (!db_) return true;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}, ids_));
  it->Seek(ToSlice(from_id));
  while (it->Valid() && ShowId(*it, visit)) it->Next();
  return Readable(*it);
}

bool EntryStore::ForEachIdNewestFirst(VisitId visit) const {
  if (!db_) return true;
  const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}, ids_));
  it->SeekToLast();
  while (it->Valid() && ShowId(*it, visit)) it->Prev();
  return Readable(*it);
}

bool EntryStore::ShowId(const rocksdb::Iterator& at, VisitId visit) const {
  const std::string_view id = ToView(at.key());
  auto message = Decode<storage::StoredId>(id, ToView(at.value()));
  return !message || visit(id, FromMessage(std::move(*message)));
}

bool EntryStore::Readable(const rocksdb::Iterator& iterator) const {
  if (iterator.status().ok()) return true;
  ++read_errors_;
  return false;
}

absl::Status EntryStore::Compact(std::string_view prefix) {
  if (!db_) return absl::UnavailableError("there is no database");
  const std::string end = PrefixEnd(prefix);
  const rocksdb::Slice first = ToSlice(prefix);
  const rocksdb::Slice last = ToSlice(end);
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
  for (auto* family : {entries_, local_.rows, local_.debts, remote_.rows, remote_.debts}) {
    const rocksdb::Status status = db_->CompactRange(
        options, family, prefix.empty() ? nullptr : &first, end.empty() ? nullptr : &last);
    if (!status.ok()) return ToAbsl(status);
  }
  return ToAbsl(db_->CompactRange(options, ids_, nullptr, nullptr));
}

fs::path EntryStore::derived_directory(const char* name) const {
  return directory_.empty() ? fs::path() : directory_ / name;
}

uint64_t EntryStore::bytes_on_disk() const {
  if (directory_.empty()) return 0;
  uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(directory_, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code gone;  // a file may vanish under a compaction
    const uint64_t size = it->is_regular_file(gone) ? it->file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return bytes;
}

}  // namespace holdfast::cache
