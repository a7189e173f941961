#pragma once

// The answers on disk, in RocksDB. It knows keys and values and nothing of similarity.
// SemanticCache owns it and calls it on the pool's threads, since everything here may block; thread
// safe.
//
// Keys (format 2). KEY is a scope's key (scope.h) followed by the question's key, 16 bytes: the
// beginning of the SHA-256 of the normalised question. So the same question in the same scope is
// the same entry, and a scope, a tenant or a tenant's route is a range of keys.
//
//   column family   key        value (storage.proto)
//   default         "format"   "2"
//   default         "key"      what only the encryption key can read, if there is one
//   default         "next_key" the same of a second key, while values are rewritten with it
//   entries         KEY        StoredEntry    question, answer, origin
//   vectors         KEY        StoredVector   so that an index is loaded without the texts
//   ids             entry id   StoredId       KEY, size, labels; ids sort by time, so the oldest
//                                             comes first
//   debts           KEY        empty          the entry has no vector yet, or another embedder's
//   remote_vectors  KEY        StoredVector   likewise, by the remote embedder, if there is one
//   remote_debts    KEY        empty
//   windows         route      StoredWindow   how often the cache would have been wrong
//
// Also in default: "embedder" and "remote_embedder", the id of the embedder of which every entry
// has a vector or owes one.
//
// A value (but a debt's) is one byte of version (1), the CRC-32 of key and message (4 bytes,
// little-endian) and the message; with an encryption key it is a byte of version (2) and the
// message, sealed for its key (cipher.h). Keys are never encrypted. With a key that is given in
// place of a previous one, all values are rewritten bit by bit (RewriteSome); until that is done
// both keys are needed, and opening without one of them is refused. What fails that check is
// dropped, counted and never served. All
// rows of an entry are written and deleted in one batch, through the write-ahead log: what was
// stored outlives the process however it ends; what the machine had not written out when it lost
// power is lost.
//
// The cache never keeps the service from starting: a database that cannot be opened is set aside
// beside itself, as NAME.damaged-TIME, and an empty one takes its place; where even that fails, or
// the database is another process's, the entries live in memory. problem() then says so. A file
// `reserve` is given up to open on a full disk, so that what is stored is served. One thing
// the owner must not pass over: refusal().

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cache/cipher.h"
#include "cache/quantized.h"
#include "core/clock.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Env;
class Iterator;
class Status;
class WriteBatch;
}  // namespace rocksdb

namespace holdfast::cache {

inline constexpr size_t kQuestionKeySize = 16;

// The question's part of an entry's key.
std::string QuestionKey(std::string_view normalized_question);
// The two parts of an entry's key.
std::string ScopeOf(std::string_view key);
std::string_view QuestionOf(std::string_view key);

// By which embedder: the one in the process, or the one elsewhere.
enum class VectorKind { kLocal, kRemote };

struct EntryRecord {
  std::string id;
  std::string question;
  std::string answer;
  std::string provider;
  std::string model;
  core::WallTime created_at{};
  bool pinned = false;
};

struct VectorRecord {
  std::string id;
  core::WallTime created_at{};
  std::string embedder;
  QuantizedVector vector;  // empty: this embedder has none for it
  bool pinned = false;
};

struct IdRecord {
  std::string key;
  core::WallTime created_at{};
  uint64_t bytes = 0;   // question and answer
  bool pinned = false;  // never expires, is never evicted
  std::vector<std::pair<std::string, std::string>> labels;
  uint64_t hits = 0;
  bool has_twin = false;  // a newer entry is nearly the same question
};

// Either may be empty: what is known of an entry of which some rows are damaged.
struct KeyAndId {
  std::string key;
  std::string id;
};

// The samples of a route's window, the latest last.
struct WindowRecord {
  std::string judged_by;
  std::vector<double> similarities;
  std::vector<bool> wrong;  // as many
};

struct StoreOptions {
  // Cipher::kKeySize bytes; empty = values are not encrypted.
  std::string encryption_key = {};
  // What they may still be encrypted with; empty = nothing else.
  std::string previous_key = {};
  rocksdb::Env* env = nullptr;  // borrowed, for tests; null = the file system
};

class EntryStore {
 public:
  // Never fails. An empty `directory` means in memory, which is then no problem. `now` names what
  // is set aside. With a key, what is there in clear is encrypted first.
  static std::unique_ptr<EntryStore> Open(const std::filesystem::path& directory,
                                          core::WallTime now, const StoreOptions& options = {});
  ~EntryStore();

  // What went wrong on opening, for a person; empty if nothing did.
  const std::string& problem() const { return problem_; }
  // The database is left alone, for it is encrypted with another key, or no key was given. Empty
  // if not.
  const std::string& refusal() const { return refusal_; }
  bool in_memory() const { return memory_env_ != nullptr; }

  // `id.key` is where it goes. Without a vector, the entry owes one. `replaced_id`: the entry that
  // stands under the key now; empty if there is none. `owes_remote`: it owes the remote's, too.
  absl::Status Put(const IdRecord& id, const EntryRecord& entry,
                   const std::optional<VectorRecord>& vector, const std::string& replaced_id,
                   bool owes_remote = false);
  // Pays the entry's debt.
  absl::Status PutVector(VectorKind kind, const std::string& key, const VectorRecord& vector);
  absl::Status AddDebts(VectorKind kind, const std::vector<std::string>& keys);
  bool Owes(VectorKind kind, const std::string& key) const;
  absl::Status ForgiveDebt(VectorKind kind, const std::string& key);
  // The embedder of which every entry has a vector or owes one; empty if there is none.
  std::string CheckedFor(VectorKind kind) const;
  absl::Status NoteChecked(VectorKind kind, const std::string& embedder);
  absl::Status UpdateIds(const std::vector<std::pair<std::string, IdRecord>>& ids);
  absl::Status Remove(const std::vector<KeyAndId>& entries);
  absl::Status PutWindow(const std::string& route, const WindowRecord& window);
  // None if there is none, or it is damaged.
  std::optional<WindowRecord> GetWindow(const std::string& route) const;
  // Of all routes but these.
  absl::Status RemoveWindowsBut(const std::vector<std::string>& routes);

  // Whether some values may still need the previous key.
  bool rewriting() const { return rewriting_; }
  // A step of that, which holds up writers for some milliseconds; the last steps compact.
  absl::Status RewriteSome();

  // Writes next to nothing, to see whether that goes.
  absl::Status TryToWrite();

  std::optional<EntryRecord> Get(const std::string& key) const;
  std::optional<IdRecord> FindId(const std::string& id) const;
  // The entry's id; "" if it is damaged, none if there is no such entry.
  std::optional<std::string> IdUnder(const std::string& key) const;

  std::optional<VectorRecord> GetVector(VectorKind kind, const std::string& key) const;

  // `visit` returns false to stop. The result is false if some of a file could not be read, and
  // with it what should have come next.

  // In order of keys, those with `prefix` after `after`; a damaged value is shown as none.
  using VisitVector = absl::FunctionRef<bool(std::string_view key, std::optional<VectorRecord>)>;
  bool ForEachVector(VectorKind kind, std::string_view prefix, std::string_view after,
                     VisitVector visit) const;
  using VisitEntry = absl::FunctionRef<bool(std::string_view key, std::optional<EntryRecord>)>;
  bool ForEachEntry(std::string_view prefix, std::string_view after, VisitEntry visit) const;
  using VisitKey = absl::FunctionRef<bool(std::string_view key)>;
  bool ForEachKey(std::string_view after, VisitKey visit) const;  // of the entries
  bool ForEachDebt(VectorKind kind, std::string_view after, VisitKey visit) const;

  // In order of time, from `from_id` on or from the newest back.
  using VisitId = absl::FunctionRef<bool(std::string_view id, const IdRecord&)>;
  bool ForEachId(std::string_view from_id, VisitId visit) const;
  bool ForEachIdNewestFirst(VisitId visit) const;

  // Rewrites the files that hold keys with this prefix, so that what was removed leaves the disk.
  absl::Status Compact(std::string_view prefix);

  // Where what is derived from the entries may be kept under this name; empty if all is in memory.
  std::filesystem::path derived_directory(const char* name) const;

  uint64_t bytes_on_disk() const;
  bool read_only() const { return read_only_; }  // the last write failed
  uint64_t write_errors() const { return write_errors_; }
  uint64_t read_errors() const { return read_errors_; }  // damaged values, unreadable files

 private:
  EntryStore() = default;

  // The column families of one kind of vectors.
  struct Vectors {
    rocksdb::ColumnFamilyHandle* rows = nullptr;
    rocksdb::ColumnFamilyHandle* debts = nullptr;
  };
  const Vectors& Of(VectorKind kind) const { return kind == VectorKind::kLocal ? local_ : remote_; }
  // Each returns what went wrong, empty if nothing did.
  struct OpenError {
    std::string text;
    bool damaged = false;  // worth setting aside
    bool no_space = false;
    bool wrong_key = false;  // and nothing else
  };
  OpenError OpenDirectory(const std::filesystem::path& directory, rocksdb::Env* env);
  OpenError OpenDatabase(const std::string& path, rocksdb::Env* env);
  std::string CheckFormat();
  OpenError CheckKey();
  rocksdb::Status EncryptAll();
  rocksdb::Status EncryptFamily(rocksdb::ColumnFamilyHandle* family);
  OpenError CheckKeysInUse(const std::string& first, const std::string& second);
  absl::Status RewriteRows(rocksdb::ColumnFamilyHandle* family);
  std::vector<rocksdb::ColumnFamilyHandle*> FamiliesWithValues() const;
  void KeepReserve() const;
  void OpenInMemory();
  void Close();
  absl::Status Write(rocksdb::WriteBatch& batch);
  absl::Status WriteLocked(rocksdb::WriteBatch& batch);
  template <typename Message>
  std::optional<Message> Read(rocksdb::ColumnFamilyHandle* family, std::string_view key,
                              bool* damaged = nullptr) const;
  template <typename Message>
  std::string Encode(std::string_view key, const Message& message) const;
  std::string Wrap(std::string_view key, std::string_view message) const;
  std::optional<std::string> Unwrap(std::string_view key, std::string_view value) const;
  template <typename Message>
  std::optional<Message> Decode(std::string_view key, std::string_view value) const;
  template <typename Visit>
  bool ForEachRow(rocksdb::ColumnFamilyHandle* family, std::string_view prefix,
                  std::string_view after, Visit visit) const;
  bool ShowId(const rocksdb::Iterator& at, VisitId visit) const;
  bool Readable(const rocksdb::Iterator& iterator) const;

  std::filesystem::path directory_;
  std::string problem_;
  std::string refusal_;
  std::unique_ptr<const Cipher> cipher_;
  std::unique_ptr<const Cipher> previous_;  // read with, never written
  bool all_encrypted_ = false;              // then nothing in clear is read
  std::unique_ptr<rocksdb::Env> memory_env_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::ColumnFamilyHandle* default_ = nullptr;  // these belong to db_
  rocksdb::ColumnFamilyHandle* entries_ = nullptr;
  rocksdb::ColumnFamilyHandle* ids_ = nullptr;
  rocksdb::ColumnFamilyHandle* windows_ = nullptr;
  Vectors local_, remote_;
  std::mutex write_mutex_;
  std::atomic<bool> rewriting_ = false;
  std::mutex rewrite_mutex_;       // one step at a time; taken before write_mutex_; the next two
  size_t rewritten_families_ = 0;  // then as many to compact
  std::string rewritten_to_;
  std::atomic<bool> read_only_ = false;
  std::atomic<uint64_t> write_errors_ = 0;
  mutable std::atomic<uint64_t> read_errors_ = 0;
};

}  // namespace holdfast::cache
