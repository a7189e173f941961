#include "cache/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <fstream>
#include <thread>

#include "cache/scope.h"
#include "tests/cache/cache_fixture.h"

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::TempDir;

constexpr core::WallTime kNow{std::chrono::seconds(1'800'000'000)};

std::string Key(const std::string& tenant, const std::string& question) {
  return ScopeKey({tenant, "route", ""}) + QuestionKey(question);
}

EntryRecord Entry(const std::string& id) {
  return {id, "question " + id, "answer " + id, "provider", "model", kNow};
}

VectorRecord Vector(const std::string& id) {
  return {id, kNow, "embedder", {0.5f, {1, -32512, 0}}};
}

IdRecord Details(const std::string& key) {
  return {.key = key, .created_at = kNow, .bytes = 7, .pinned = true, .labels = {{"team", "x"}}};
}

absl::Status Put(EntryStore& store, const std::string& key, const std::string& id,
                 const std::string& replaced_id = "") {
  return store.Put(Details(key), Entry(id), Vector(id), replaced_id);
}

std::vector<std::string> IdsIn(const EntryStore& store) {
  std::vector<std::string> ids;
  store.ForEachId("", [&](std::string_view id, const IdRecord&) {
    ids.emplace_back(id);
    return true;
  });
  return ids;
}

std::vector<fs::path> SetAsideBeside(const fs::path& directory) {
  std::vector<fs::path> found;
  for (const auto& item : fs::directory_iterator(directory.parent_path())) {
    if (item.path().filename().string().find(".damaged-") != std::string::npos) {
      found.push_back(item.path());
    }
  }
  return found;
}

// Opens the database as RocksDB sees it, to harm it.
struct RawDatabase {
  explicit RawDatabase(const fs::path& path) {
    const std::vector<rocksdb::ColumnFamilyDescriptor> families = {
        {rocksdb::kDefaultColumnFamilyName, {}},
        {"entries", {}},
        {"vectors", {}},
        {"ids", {}},
        {"debts", {}},
        {"remote_vectors", {}},
        {"remote_debts", {}},
        {"windows", {}}};
    rocksdb::DB* opened = nullptr;
    const auto status =
        rocksdb::DB::Open(rocksdb::DBOptions(), path.string(), families, &handles, &opened);
    HOLDFAST_CHECK(status.ok());
    db.reset(opened);
  }
  ~RawDatabase() {
    for (auto* handle : handles) db->DestroyColumnFamilyHandle(handle).PermitUncheckedError();
  }
  std::string Get(int family, const std::string& key) {
    std::string value;
    HOLDFAST_CHECK(db->Get({}, handles[family], key, &value).ok());
    return value;
  }
  void Put(int family, const std::string& key, const std::string& value) {
    HOLDFAST_CHECK(db->Put({}, handles[family], key, value).ok());
  }

  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  std::unique_ptr<rocksdb::DB> db;
};
constexpr int kEntries = 1, kVectors = 2, kIds = 3, kWindows = 7;

TEST(EntryStore, GivesBackWhatWasPutAlsoAfterReopening) {
  TempDir dir;
  const fs::path path = dir.path() / "made" / "on demand";
  for (const bool reopened : {false, true}) {
    auto store = EntryStore::Open(path, kNow);
    EXPECT_EQ(store->problem(), "");
    EXPECT_FALSE(store->in_memory());
    const std::string key = Key("t", "q");
    if (!reopened) ASSERT_TRUE(Put(*store, key, "A").ok());
    const auto entry = store->Get(key);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->id, "A");
    EXPECT_EQ(entry->question, "question A");
    EXPECT_EQ(entry->answer, "answer A");
    EXPECT_EQ(entry->provider, "provider");
    EXPECT_EQ(entry->model, "model");
    EXPECT_EQ(entry->created_at, kNow);
    ASSERT_TRUE(store->FindId("A"));
    EXPECT_EQ(store->FindId("A")->key, key);
    EXPECT_EQ(store->FindId("A")->bytes, 7u);
    EXPECT_TRUE(store->FindId("A")->pinned);
    EXPECT_EQ(store->FindId("A")->labels, Details(key).labels);
    EXPECT_EQ(store->IdUnder(key), "A");
    int vectors = 0;
    store->ForEachVector(VectorKind::kLocal, "", "",
                         [&](std::string_view k, std::optional<VectorRecord> vector) {
                           ++vectors;
                           EXPECT_EQ(k, key);
                           EXPECT_TRUE(vector);
                           if (!vector) return true;
                           EXPECT_EQ(vector->id, "A");
                           EXPECT_EQ(vector->embedder, "embedder");
                           EXPECT_EQ(vector->vector.values, Vector("A").vector.values);
                           EXPECT_EQ(vector->vector.scale, 0.5f);
                           return true;
                         });
    EXPECT_EQ(vectors, 1);
    EXPECT_GT(store->bytes_on_disk(), 0u);
    EXPECT_EQ(store->read_errors(), 0u);
  }
  EXPECT_TRUE(SetAsideBeside(path).empty());
}

TEST(EntryStore, ReplacingAndRemovingLeaveNoRowBehind) {
  auto store = EntryStore::Open("", kNow);
  EXPECT_TRUE(store->in_memory());
  EXPECT_EQ(store->problem(), "");
  const std::string key = Key("t", "q");
  ASSERT_TRUE(Put(*store, key, "A").ok());
  ASSERT_TRUE(Put(*store, key, "B", "A").ok());
  EXPECT_EQ(IdsIn(*store), std::vector<std::string>{"B"});
  EXPECT_EQ(store->Get(key)->id, "B");
  ASSERT_TRUE(store->Remove({{key, "B"}}).ok());
  EXPECT_TRUE(IdsIn(*store).empty());
  EXPECT_FALSE(store->Get(key));
  EXPECT_EQ(store->IdUnder(key), std::nullopt);
  EXPECT_EQ(store->read_errors(), 0u);
}

TEST(EntryStore, ADebtIsPaidByItsVectorAndGoesWithItsEntry) {
  auto store = EntryStore::Open("", kNow);
  const std::string one = Key("t", "one"), two = Key("t", "two"), three = Key("t", "three");
  for (const std::string& key : {one, two, three}) {
    ASSERT_TRUE(store->Put(Details(key), Entry(key), std::nullopt, "").ok());
    EXPECT_TRUE(store->Owes(VectorKind::kLocal, key));
    EXPECT_FALSE(store->GetVector(VectorKind::kLocal, key));
  }
  ASSERT_TRUE(store->PutVector(VectorKind::kLocal, one, Vector(one)).ok());
  ASSERT_TRUE(store->Remove({{two, two}}).ok());
  ASSERT_TRUE(Put(*store, three, "again", three).ok());
  for (const std::string& key : {one, two, three})
    EXPECT_FALSE(store->Owes(VectorKind::kLocal, key));
  EXPECT_TRUE(store->GetVector(VectorKind::kLocal, one));
  EXPECT_TRUE(store->GetVector(VectorKind::kLocal, three));
  // Replaced by one that owes: the old question's vector must not stand for the new one.
  ASSERT_TRUE(store->Put(Details(one), Entry("B"), std::nullopt, one).ok());
  EXPECT_FALSE(store->GetVector(VectorKind::kLocal, one));
  std::vector<std::string> owing;
  store->ForEachDebt(VectorKind::kLocal, "", [&](std::string_view key) {
    owing.emplace_back(key);
    return true;
  });
  EXPECT_EQ(owing, std::vector<std::string>{one});
}

TEST(EntryStore, IdsComeInOrderFromEitherEndAndStopWhenTold) {
  auto store = EntryStore::Open("", kNow);
  for (const char* id : {"C", "A", "D", "B"}) {
    ASSERT_TRUE(Put(*store, Key("t", id), id).ok());
  }
  EXPECT_EQ(IdsIn(*store), (std::vector<std::string>{"A", "B", "C", "D"}));
  std::string seen;
  store->ForEachId("B", [&](std::string_view id, const IdRecord&) {
    seen += id;
    return seen.size() < 2;
  });
  store->ForEachIdNewestFirst([&](std::string_view id, const IdRecord&) {
    seen += id;
    return id != "C";
  });
  EXPECT_EQ(seen, "BCDC");
}

TEST(EntryStore, APrefixSeesItsTenantOnly) {
  auto store = EntryStore::Open("", kNow);
  for (const char* tenant : {"a", "ab", "", "b"}) {
    ASSERT_TRUE(Put(*store, Key(tenant, "q"), tenant).ok());
  }
  std::vector<std::string> seen;
  const auto note = [&](std::string_view, std::optional<VectorRecord> v) {
    seen.push_back(v->id);
    return true;
  };
  store->ForEachVector(VectorKind::kLocal, TenantPrefix("a"), "", note);
  EXPECT_EQ(seen, std::vector<std::string>{"a"});
  // Going on after a key shows what comes after it.
  store->ForEachVector(VectorKind::kLocal, "", Key("a", "q"), note);
  EXPECT_EQ(seen, (std::vector<std::string>{"a", "b", "ab"}));
}

TEST(EntryStore, DamagedValuesAreCountedAndNeverServed) {
  TempDir dir;
  const fs::path path = dir.path() / "db";
  const std::string one = Key("t", "one"), two = Key("t", "two"), three = Key("t", "three");
  {
    auto store = EntryStore::Open(path, kNow);
    for (const auto& [key, id] :
         {std::pair(one, "A"), std::pair(two, "B"), std::pair(three, "C")}) {
      ASSERT_TRUE(Put(*store, key, id).ok());
    }
  }
  {
    RawDatabase raw(path);
    std::string value = raw.Get(kEntries, one);
    value[value.size() / 2] ^= 1;
    raw.Put(kEntries, one, value);
    raw.Put(kEntries, two, raw.Get(kEntries, three));  // whole, but another key's
    value = raw.Get(kVectors, one);
    raw.Put(kVectors, one, value.substr(0, value.size() - 4));
    raw.Put(kVectors, two, "");
    value = raw.Get(kIds, "A");
    value[0] = 2;  // a version of the future
    raw.Put(kIds, "A", value);
  }
  auto store = EntryStore::Open(path, kNow);
  EXPECT_EQ(store->problem(), "");
  EXPECT_FALSE(store->Get(one));
  EXPECT_FALSE(store->Get(two));
  EXPECT_TRUE(store->Get(three));
  EXPECT_EQ(store->read_errors(), 2u);
  EXPECT_EQ(store->IdUnder(one), "");
  EXPECT_EQ(store->IdUnder(three), "C");
  EXPECT_EQ(store->read_errors(), 3u);
  int whole = 0, damaged = 0;
  store->ForEachVector(VectorKind::kLocal, "", "",
                       [&](std::string_view, std::optional<VectorRecord> vector) {
                         ++(vector ? whole : damaged);
                         return true;
                       });
  EXPECT_EQ(whole, 1);
  EXPECT_EQ(damaged, 2);
  EXPECT_EQ(IdsIn(*store), (std::vector<std::string>{"B", "C"}));
  EXPECT_EQ(store->read_errors(), 6u);
}

TEST(EntryStore, ADamagedDatabaseIsSetAsideAndAnEmptyOneStarts) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  for (int round = 1; round <= 2; ++round) {
    {
      ASSERT_TRUE(Put(*EntryStore::Open(path, kNow), Key("t", "q"), "A").ok());
    }
    std::ofstream(path / "CURRENT") << "nonsense";
    auto store = EntryStore::Open(path, kNow);
    EXPECT_FALSE(store->in_memory());
    EXPECT_THAT(store->problem(), HasSubstr("set aside as"));
    EXPECT_THAT(store->problem(), HasSubstr("damaged-1800000000"));
    EXPECT_THAT(store->problem(), HasSubstr("starts empty"));
    EXPECT_TRUE(IdsIn(*store).empty());
    ASSERT_TRUE(Put(*store, Key("t", "q"), "B").ok());
    const auto aside = SetAsideBeside(path);
    EXPECT_EQ(aside.size(), static_cast<size_t>(round)) << "two in one second keep apart";
    for (const auto& old : aside) EXPECT_TRUE(fs::exists(old / "CURRENT"));
    store.reset();
    EXPECT_EQ(EntryStore::Open(path, kNow)->problem(), "");
  }
}

TEST(EntryStore, ALayoutOfTheFutureIsSetAside) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  {
    EntryStore::Open(path, kNow);
  }
  RawDatabase(path).Put(0, "format", "3");
  auto store = EntryStore::Open(path / "", kNow);  // the name may end in a slash
  EXPECT_THAT(store->problem(), HasSubstr("its format is 3"));
  EXPECT_THAT(store->problem(), HasSubstr("starts empty"));
  EXPECT_EQ(SetAsideBeside(path).size(), 1u);
}

TEST(EntryStore, AFileInTheDirectorysPlaceIsSetAside) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  std::ofstream(path) << "I am a file";
  auto store = EntryStore::Open(path, kNow);
  EXPECT_THAT(store->problem(), HasSubstr("starts empty"));
  EXPECT_FALSE(store->in_memory());
  EXPECT_TRUE(Put(*store, Key("t", "q"), "A").ok());
}

TEST(EntryStore, ADatabaseInUseIsLeftAloneAndMemoryServes) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  auto owner = EntryStore::Open(path, kNow);
  ASSERT_TRUE(Put(*owner, Key("t", "q"), "A").ok());
  auto second = EntryStore::Open(path, kNow);
  EXPECT_TRUE(second->in_memory());
  EXPECT_THAT(second->problem(), HasSubstr("in memory only"));
  EXPECT_TRUE(SetAsideBeside(path).empty());
  EXPECT_TRUE(IdsIn(*second).empty());
  EXPECT_TRUE(Put(*second, Key("t", "q"), "B").ok());
  EXPECT_EQ(IdsIn(*second), std::vector<std::string>{"B"});
  EXPECT_EQ(IdsIn(*owner), std::vector<std::string>{"A"});
}

TEST(EntryStore, WhereNothingCanBeMadeMemoryServes) {
  auto store = EntryStore::Open("/proc/holdfast/cache", kNow);
  EXPECT_TRUE(store->in_memory());
  EXPECT_THAT(store->problem(), HasSubstr("in memory only"));
  EXPECT_TRUE(Put(*store, Key("t", "q"), "B").ok());
  EXPECT_TRUE(store->Get(Key("t", "q")));
}

// Files that say the disk is full while told to.
class FullDisk final : public rocksdb::EnvWrapper {
 public:
  FullDisk() : EnvWrapper(rocksdb::Env::Default()) {}
  const char* Name() const override { return "FullDisk"; }
  std::atomic<bool> full = false;

  rocksdb::Status NewWritableFile(const std::string& name,
                                  std::unique_ptr<rocksdb::WritableFile>* file,
                                  const rocksdb::EnvOptions& options) override {
    const auto status = EnvWrapper::NewWritableFile(name, file, options);
    if (status.ok()) *file = std::make_unique<File>(*this, std::move(*file));
    return status;
  }

 private:
  class File final : public rocksdb::WritableFileWrapper {
   public:
    File(FullDisk& disk, std::unique_ptr<rocksdb::WritableFile> file)
        : WritableFileWrapper(file.get()), disk_(disk), file_(std::move(file)) {}
    rocksdb::Status Append(const rocksdb::Slice& data) override {
      if (disk_.full) return rocksdb::Status::NoSpace("no space left on device");
      return file_->Append(data);
    }
    rocksdb::Status Append(const rocksdb::Slice& data,
                           const rocksdb::DataVerificationInfo&) override {
      return Append(data);
    }

   private:
    FullDisk& disk_;
    const std::unique_ptr<rocksdb::WritableFile> file_;
  };
};

TEST(EntryStore, AFullDiskIsAnErrorThatPassesByItself) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  FullDisk disk;
  {
    auto store = EntryStore::Open(path, kNow, {.env = &disk});
    ASSERT_EQ(store->problem(), "");
    ASSERT_TRUE(Put(*store, Key("t", "1"), "1").ok());
    disk.full = true;
    EXPECT_TRUE(absl::IsResourceExhausted(Put(*store, Key("t", "2"), "2")));
    EXPECT_FALSE(Put(*store, Key("t", "3"), "3").ok());
    EXPECT_EQ(store->write_errors(), 2u);
    EXPECT_TRUE(store->read_only());
    EXPECT_TRUE(store->Get(Key("t", "1"))) << "reading goes on";
    EXPECT_FALSE(store->Get(Key("t", "2")));
    disk.full = false;
    while (!store->TryToWrite().ok()) std::this_thread::yield();
    EXPECT_FALSE(store->read_only());
    ASSERT_TRUE(Put(*store, Key("t", "4"), "4").ok());
  }
  auto store = EntryStore::Open(path, kNow);
  EXPECT_EQ(store->problem(), "");
  EXPECT_EQ(IdsIn(*store), (std::vector<std::string>{"1", "4"}));
}

TEST(EntryStore, AFullDiskOnOpeningSetsNothingAside) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  {
    ASSERT_TRUE(Put(*EntryStore::Open(path, kNow), Key("t", "1"), "1").ok());
  }
  FullDisk disk;
  disk.full = true;
  EXPECT_TRUE(EntryStore::Open(path, kNow, {.env = &disk})->in_memory());
  EXPECT_TRUE(SetAsideBeside(path).empty());
  EXPECT_EQ(IdsIn(*EntryStore::Open(path, kNow)), std::vector<std::string>{"1"});
}

// Whether the text stands in a file of the directory.
bool InFiles(const fs::path& directory, const std::string& text) {
  for (const auto& item : fs::recursive_directory_iterator(directory)) {
    std::ifstream file(item.path(), std::ios::binary);
    const std::string content(std::istreambuf_iterator<char>(file), {});
    if (content.find(text) != std::string::npos) return true;
  }
  return false;
}

TEST(EntryStore, WhatWasRemovedIsGoneFromTheFilesAfterCompacting) {
  TempDir dir;
  const fs::path path = dir.path() / "cache";
  const std::string needle = "uNcOmPrEsSiBlE-7f3a9c", kept = "kEePtHiS-55d0e1";
  auto store = EntryStore::Open(path, kNow);
  EntryRecord gone = Entry("A"), stays = Entry("B");
  gone.answer = needle;
  stays.answer = kept;
  ASSERT_TRUE(store->Put(Details(Key("t", "1")), gone, Vector("A"), "").ok());
  ASSERT_TRUE(store->Put(Details(Key("u", "1")), stays, Vector("B"), "").ok());
  EXPECT_TRUE(InFiles(path, needle));
  ASSERT_TRUE(store->Remove({{Key("t", "1"), "A"}}).ok());
  ASSERT_TRUE(store->Compact(TenantPrefix("t")).ok());
  EXPECT_FALSE(InFiles(path, needle));
  EXPECT_TRUE(InFiles(path, kept));
}

// Every field is text that compression leaves as it is.
TEST(EntryStore, AWindowIsKeptUntilItIsDamagedOrItsRouteIsGone) {
  TempDir dir;
  const WindowRecord window{"judge", {0.85, 1, 0}, {false, true, false}};
  {
    auto store = EntryStore::Open(dir.path(), kNow);
    EXPECT_FALSE(store->GetWindow("route"));
    for (const char* route : {"route", "other", "gone"}) {
      ASSERT_TRUE(store->PutWindow(route, window).ok());
    }
    ASSERT_TRUE(store->RemoveWindowsBut({"route", "other"}).ok());
  }
  {
    RawDatabase raw(dir.path());
    std::string value = raw.Get(kWindows, "other");
    value[value.size() / 2] ^= 1;
    raw.Put(kWindows, "other", value);
  }
  auto store = EntryStore::Open(dir.path(), kNow);
  ASSERT_TRUE(store->GetWindow("route"));
  EXPECT_EQ(store->GetWindow("route")->judged_by, "judge");
  EXPECT_EQ(store->GetWindow("route")->similarities, window.similarities);
  EXPECT_EQ(store->GetWindow("route")->wrong, window.wrong);
  EXPECT_FALSE(store->GetWindow("gone"));
  EXPECT_EQ(store->read_errors(), 0u);
  EXPECT_FALSE(store->GetWindow("other"));
  EXPECT_EQ(store->read_errors(), 1u);
  // Whole, and yet of no use.
  for (const WindowRecord& bad : {WindowRecord{"judge", {0.5}, {}}, {"judge", {1.5}, {true}}}) {
    ASSERT_TRUE(store->PutWindow("route", bad).ok());
    EXPECT_FALSE(store->GetWindow("route"));
  }
  EXPECT_EQ(store->read_errors(), 3u);
}

class EncryptedStore : public ::testing::Test {
 protected:
  void PutSecrets(EntryStore& store) {
    EntryRecord entry{"A", "qUeStIoN-7f3a9c", "aNsWeR-55d0e1", "pRoViDeR-c2", "mOdEl-91", kNow};
    IdRecord details = Details(key_);
    details.labels = {{"lAbEl-0b", "vAlUe-d4"}};
    ASSERT_TRUE(
        store.Put(details, entry, VectorRecord{"A", kNow, "eMbEdDeR-3e", vector_}, "").ok());
  }
  std::vector<std::string> Secrets() const {
    return {"qUeStIoN-7f3a9c",
            "aNsWeR-55d0e1",
            "pRoViDeR-c2",
            "mOdEl-91",
            "lAbEl-0b",
            "vAlUe-d4",
            "eMbEdDeR-3e",
            std::string(reinterpret_cast<const char*>(vector_.values.data()),
                        vector_.values.size() * 2)};
  }
  int SecretsInFiles() const {
    int found = 0;
    for (const std::string& secret : Secrets()) found += InFiles(path_, secret) ? 1 : 0;
    return found;
  }
  std::unique_ptr<EntryStore> Open(const std::string& key, const std::string& previous = "") {
    return EntryStore::Open(path_, kNow, {.encryption_key = key, .previous_key = previous});
  }
  void PutMany(EntryStore& store) {
    for (int i = 0; i < kMany; ++i) {
      const std::string id = "id " + std::to_string(i);
      ASSERT_TRUE(Put(store, Key("t", id), id).ok());
    }
    ASSERT_TRUE(store.PutVector(VectorKind::kRemote, key_, Vector("A")).ok());
    ASSERT_TRUE(store.PutWindow("route", {"judge", {0.5}, {true}}).ok());
  }
  // How many values of the database each of the two keys can read.
  std::pair<int, int> ReadBy(const std::string& one, const std::string& other) {
    const Cipher first(one), second(other);
    std::pair<int, int> read;
    RawDatabase raw(path_);
    for (size_t family = 1; family < raw.handles.size(); ++family) {
      const std::unique_ptr<rocksdb::Iterator> it(
          raw.db->NewIterator(rocksdb::ReadOptions(), raw.handles[family]));
      for (it->SeekToFirst(); it->Valid(); it->Next()) {
        if (it->value().empty()) continue;  // a debt
        const std::string key = it->key().ToString(), value = it->value().ToString().substr(1);
        read.first += first.Open(key, value) ? 1 : 0;
        read.second += second.Open(key, value) ? 1 : 0;
      }
    }
    return read;
  }
  static constexpr int kMany = 1200;  // several steps of rewriting
  static constexpr int kValues = 3 * (kMany + 1) + 2;
  void ExpectWhole(const EntryStore& store) {
    EXPECT_EQ(store.problem(), "");
    ASSERT_TRUE(store.Get(key_));
    EXPECT_EQ(store.Get(key_)->answer, "aNsWeR-55d0e1");
    ASSERT_TRUE(store.GetVector(VectorKind::kLocal, key_));
    EXPECT_EQ(store.GetVector(VectorKind::kLocal, key_)->vector.values, vector_.values);
    EXPECT_EQ(store.FindId("A")->labels.front().second, "vAlUe-d4");
    EXPECT_EQ(store.read_errors(), 0u);
  }

  TempDir dir_;
  const fs::path path_ = dir_.path() / "cache";
  const std::string key_ = Key("tenant", "q");
  const std::string mine_ = std::string(Cipher::kKeySize, 'k');
  const std::string other_ = std::string(Cipher::kKeySize, 'o');
  const QuantizedVector vector_{0.5f, {0x1234, 0x5678, 0x2bcd, 0x7123}};
};

TEST_F(EncryptedStore, NothingButKeysIsReadableInItsFiles) {
  {
    auto store = Open("");
    PutSecrets(*store);
    EXPECT_EQ(SecretsInFiles(), static_cast<int>(Secrets().size())) << "the test can see them";
  }
  fs::remove_all(path_);
  for (const bool compacted : {false, true}) {
    auto store = Open(mine_);
    if (!compacted) PutSecrets(*store);
    ExpectWhole(*store);
    EXPECT_EQ(SecretsInFiles(), 0);
    EXPECT_TRUE(InFiles(path_, "tenant")) << "keys are not encrypted";
    ASSERT_TRUE(store->Compact("").ok());
    EXPECT_EQ(SecretsInFiles(), 0);
  }
}

TEST_F(EncryptedStore, AnotherKeyOrNoneIsRefusedAndTheDatabaseLeftAlone) {
  PutSecrets(*Open(mine_));
  for (const std::string& key : {other_, std::string()}) {
    auto store = Open(key);
    EXPECT_THAT(store->refusal(), HasSubstr(path_.string() + " is encrypted"));
    EXPECT_THAT(store->refusal(), HasSubstr(key.empty() ? "no key" : "another key"));
    EXPECT_TRUE(store->in_memory());
    EXPECT_FALSE(store->Get(key_));
    EXPECT_TRUE(SetAsideBeside(path_).empty());
  }
  auto store = Open(mine_);
  EXPECT_EQ(store->refusal(), "");
  ExpectWhole(*store);
}

TEST_F(EncryptedStore, WhatWasThereInClearIsEncryptedFirst) {
  {
    auto store = Open("");
    PutSecrets(*store);
    for (int i = 0; i < 50; ++i) {
      const std::string id = "id " + std::to_string(i);
      ASSERT_TRUE(Put(*store, Key("t", id), id).ok());
    }
  }
  {
    RawDatabase raw(path_);
    std::string value = raw.Get(kEntries, Key("t", "id 7"));
    value.back() ^= 1;
    raw.Put(kEntries, Key("t", "id 7"), value);
  }
  {
    auto store = Open(mine_);
    ExpectWhole(*store);
    EXPECT_EQ(IdsIn(*store).size(), 51u);
    EXPECT_TRUE(store->Get(Key("t", "id 8")));
    EXPECT_FALSE(store->Get(Key("t", "id 7"))) << "what is damaged in clear is not kept in clear";
    EXPECT_EQ(SecretsInFiles(), 0);
    EXPECT_FALSE(InFiles(path_, "answer id 7"));
    EXPECT_FALSE(InFiles(path_, "answer id 8"));
  }
  ExpectWhole(*Open(mine_));
}

TEST_F(EncryptedStore, ANewKeyTakesThePreviousOnesPlace) {
  {
    auto store = Open(mine_);
    PutSecrets(*store);
    PutMany(*store);
    EXPECT_FALSE(store->rewriting());
  }
  EXPECT_EQ(ReadBy(mine_, other_), std::pair(kValues, 0));
  const std::string sealed = RawDatabase(path_).Get(kEntries, key_);
  EXPECT_TRUE(InFiles(path_, sealed)) << "the test can see it";
  {
    auto store = Open(other_, mine_);
    ExpectWhole(*store);
    EXPECT_TRUE(store->rewriting());
    ASSERT_TRUE(store->RewriteSome().ok());
    ExpectWhole(*store);
    // What is written meanwhile stays.
    ASSERT_TRUE(Put(*store, Key("t", "id 0"), "new", "id 0").ok());
  }
  const auto [old_values, new_values] = ReadBy(mine_, other_);
  EXPECT_EQ(old_values + new_values, kValues);
  EXPECT_GT(old_values, 0);
  EXPECT_GT(new_values, 100);
  for (const auto& [key, previous] : {std::pair(other_, std::string()), {mine_, ""}, {"", ""}}) {
    EXPECT_THAT(Open(key, previous)->refusal(), HasSubstr(path_.string() + " is "));
  }
  {
    auto store = Open(other_, mine_);
    EXPECT_TRUE(store->rewriting());
    for (int i = 0; store->rewriting() && i < 100; ++i) ASSERT_TRUE(store->RewriteSome().ok());
    EXPECT_FALSE(store->rewriting());
    ExpectWhole(*store);
    EXPECT_EQ(store->Get(Key("t", "id 0"))->id, "new");
  }
  EXPECT_EQ(ReadBy(mine_, other_), std::pair(0, kValues));
  EXPECT_FALSE(InFiles(path_, sealed));
  EXPECT_NE(Open(mine_)->refusal(), "");
  auto store = Open(other_);
  ExpectWhole(*store);
  EXPECT_EQ(store->GetWindow("route")->similarities, std::vector<double>{0.5});
  EXPECT_TRUE(store->GetVector(VectorKind::kRemote, key_));
  EXPECT_FALSE(Open(other_, mine_)->rewriting()) << "the previous key may stay in the settings";
}

TEST_F(EncryptedStore, AChangeOfKeysCanBeTurnedBack) {
  {
    auto store = Open(mine_);
    PutSecrets(*store);
    PutMany(*store);
  }
  ASSERT_TRUE(Open(other_, mine_)->RewriteSome().ok());
  {
    auto store = Open(mine_, other_);
    EXPECT_TRUE(store->rewriting());
    for (int i = 0; store->rewriting() && i < 100; ++i) ASSERT_TRUE(store->RewriteSome().ok());
  }
  EXPECT_EQ(ReadBy(mine_, other_), std::pair(kValues, 0));
  ExpectWhole(*Open(mine_));
}

TEST_F(EncryptedStore, OnlyWhatWasSealedForItsKeyIsRead) {
  const std::string one = Key("t", "1"), two = Key("t", "2"), three = Key("t", "3");
  std::string in_clear;
  {
    ASSERT_TRUE(Put(*Open(""), one, "A").ok());
    in_clear = RawDatabase(path_).Get(kEntries, one);
    auto store = Open(mine_);
    ASSERT_TRUE(Put(*store, two, "B").ok());
    ASSERT_TRUE(Put(*store, three, "C").ok());
  }
  {
    RawDatabase raw(path_);
    raw.Put(kEntries, one, in_clear);
    raw.Put(kEntries, two, raw.Get(kEntries, three));
    std::string value = raw.Get(kVectors, three);
    value.back() ^= 1;
    raw.Put(kVectors, three, value);
  }
  auto store = Open(mine_);
  EXPECT_FALSE(store->Get(one));
  EXPECT_FALSE(store->Get(two));
  EXPECT_TRUE(store->Get(three));
  EXPECT_FALSE(store->GetVector(VectorKind::kLocal, three));
  EXPECT_EQ(store->read_errors(), 3u);
}

TEST(Cipher, OpensWhatItSealedForTheSameContextAndNothingElse) {
  const Cipher cipher(std::string(Cipher::kKeySize, 'k')),
      other(std::string(Cipher::kKeySize, 'o'));
  for (const std::string& text : {std::string(), std::string("x"), std::string(5000, 'y')}) {
    const std::string sealed = cipher.Seal("context", text);
    EXPECT_EQ(cipher.Open("context", sealed), text);
    EXPECT_NE(cipher.Seal("context", text), sealed) << "its nonces differ";
    EXPECT_EQ(cipher.Open("contexT", sealed), std::nullopt);
    EXPECT_EQ(other.Open("context", sealed), std::nullopt);
    for (size_t i = 0; i < sealed.size(); i += 1 + sealed.size() / 40) {
      std::string harmed = sealed;
      harmed[i] ^= 4;
      EXPECT_EQ(cipher.Open("context", harmed), std::nullopt) << i;
      EXPECT_EQ(cipher.Open("context", sealed.substr(0, i)), std::nullopt) << i;
    }
  }
}

}  // namespace
}  // namespace holdfast::cache
