// A remote embedder beside the in-process one: a real store, an endpoint that is up or down.

#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "absl/status/status.h"
#include "cache/answer_book.h"
#include "cache/semantic_cache.h"
#include "tests/cache/cache_fixture.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::cache {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code
using testing::Answered;
using testing::Ask;
using testing::ScriptedEmbedder;
using testing::TempDir;

// Down when it is told to be; refuses the texts that it is told to refuse.
class FakeRemote final : public core::Embedder {
 public:
  explicit FakeRemote(std::string id) : vectors(3, std::move(id)) {}

  std::string id() const override { return vectors.id(); }
  size_t dimension() const override { return 3; }
  std::vector<float> Embed(std::string_view text) const override { return vectors.Embed(text); }
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override {
    ++calls;
    std::vector<absl::StatusOr<core::Embedding>> results;
    bool refused = false;
    for (const std::string_view text : texts) refused = refused || text == refuses;
    for (const std::string_view text : texts) {
      if (down) {
        results.emplace_back(absl::UnavailableError("down"));
      } else if (refused) {
        results.emplace_back(absl::InvalidArgumentError("no"));
      } else {
        results.emplace_back(core::Embedding{vectors.Embed(text)});
      }
    }
    return results;
  }

  ScriptedEmbedder vectors;
  std::string refuses;
  bool down = false;
  mutable int calls = 0;
};

class RemoteVectorsTest : public ::testing::Test {
 protected:
  RemoteVectorsTest() { Open(); }

  void Open() {
    book.reset();
    SemanticCacheOptions options;
    options.directory = dir.path() / "cache";
    options.remote = remote.get();
    options.remote_timeout = 100ms;
    options.index_memory = index_memory;
    options.flat_limit = flat_limit;
    options.retention = retention;
    book = std::make_unique<AnswerBook>(std::move(options), local, loop.clock(), random);
  }
  void Tend() {
    for (int i = 0; i < 1000 && book->work_due(); ++i) book->Tend();
  }
  void Store(const std::string& question) {
    EXPECT_TRUE(book->Insert(DescribeScope(Ask(question)), question, Answered("to " + question),
                             loop.clock().WallNow()));
  }
  std::optional<core::CacheHit> Find(const std::string& question,
                                     core::Duration time = std::chrono::seconds(1)) {
    return book->Find(
        DescribeScope(Ask(question)), question, {.min_similarity = 0.5, .max_age = 1h},
        [] { return false; }, loop.clock().Now() + time);
  }

  // Entries that have the remote's vector.
  uint64_t Done() const { return book->Progress().back().done; }
  std::vector<std::string> Considered(const std::string& question) {
    std::vector<std::string> questions;
    for (const auto& one : book->Explain(DescribeScope(Ask(question)), question, 0.5, 1h)) {
      questions.push_back(one.entry.question);
    }
    return questions;
  }

  TempDir dir;
  size_t index_memory = size_t{1} << 30;
  size_t flat_limit = VectorIndex::kDefaultFlatLimit;
  std::optional<core::Duration> retention;
  holdfast::testing::FakeLoop loop;
  core::SeededRandom random{1};
  ScriptedEmbedder local{2, "local"};
  std::unique_ptr<FakeRemote> remote = std::make_unique<FakeRemote>("remote@1");
  std::unique_ptr<AnswerBook> book;
};

TEST_F(RemoteVectorsTest, ItsCosineIsJudgedWhereBothQuestionsHaveItsVector) {
  local.Set("stored", {1, 0});
  local.SetCosine("asked", 0.7);
  remote->vectors.Set("stored", {1, 0, 0});
  remote->vectors.Set("asked", {0.96F, 0.28F, 0});
  Store("stored");
  EXPECT_NEAR(Find("asked")->cosine, 0.7, 1e-4);  // it is not embedded yet
  EXPECT_EQ(remote->calls, 0);
  EXPECT_EQ(Done(), 0u);
  Tend();
  EXPECT_EQ(Done(), 1u);
  EXPECT_NEAR(Find("asked")->cosine, 0.96, 1e-4);
  EXPECT_EQ(remote->calls, 2);
}

TEST_F(RemoteVectorsTest, WhileItIsDownLookupsUseTheOtherVectors) {
  local.Set("stored", {1, 0});
  local.SetCosine("asked", 0.7);
  Store("stored");
  Tend();
  remote->down = true;
  EXPECT_NEAR(Find("asked")->cosine, 0.7, 1e-4);
  EXPECT_NE(book->remote_problem().find("does not answer"), std::string::npos);
  remote->down = false;
  ASSERT_TRUE(Find("stored"));
}

TEST_F(RemoteVectorsTest, WhatOnlyItsVectorsFindIsFoundWhileItAnswers) {
  local.Set("stored", {1, 0});
  local.Set("asked", {-1, 0});
  remote->vectors.Set("stored", {1, 0, 0});
  remote->vectors.Set("asked", {0.96F, 0.28F, 0});
  Store("stored");
  EXPECT_FALSE(Find("asked"));
  for (const bool reopened : {false, true}) {
    if (reopened) Open();
    Tend();
    ASSERT_TRUE(Find("asked")) << reopened;
    EXPECT_NEAR(Find("asked")->cosine, 0.96, 1e-4);
    remote->down = true;
    EXPECT_FALSE(Find("asked"));
    remote->down = false;
    EXPECT_TRUE(Find("asked"));
    EXPECT_FALSE(Find("asked", 129ms));
  }
}

TEST_F(RemoteVectorsTest, BesideTheRemotesCandidatesAreThoseThatItHasNotEmbedded) {
  for (int i = 0; i < 20; ++i) {  // nearer by the local vectors, and far by the remote's
    const std::string question = "q" + std::to_string(i);
    local.SetCosine(question, 0.99);
    remote->vectors.Set(question, {0, 1, 0});
    Store(question);
  }
  Tend();
  remote->down = true;
  local.SetCosine("late", 0.7);
  remote->vectors.Set("late", {1, 0, 0});
  Store("late");
  Tend();
  remote->down = false;
  local.Set("asked", {1, 0});
  remote->vectors.Set("asked", {1, 0, 0});
  EXPECT_EQ(Considered("asked"), std::vector<std::string>{"late"});
  EXPECT_NEAR(Find("asked")->cosine, 0.7, 1e-4);
  loop.Advance(60s);
  Tend();
  EXPECT_NEAR(Find("asked")->cosine, 1, 1e-4);
}

TEST_F(RemoteVectorsTest, WhatIsRemovedOrExpiresLeavesItsIndexToo) {
  retention = 1h;
  Open();
  remote->vectors.Set("asked", {1, 0, 0});
  local.Set("asked", {-1, 0});
  for (const std::string question : {"a", "b", "c"}) {
    local.Set(question, {1, 0});
    remote->vectors.Set(question, {1, 0, 0});
    Store(question);
    Tend();
    loop.Advance(10min);
  }
  ASSERT_EQ(Considered("asked").size(), 3u);
  const auto id = Find("b")->entry_id;
  EXPECT_EQ(book->Purge({.entry_id = id}), 1u);
  EXPECT_EQ(Considered("asked"), (std::vector<std::string>{"c", "a"}));
  loop.Advance(31min);
  Tend();
  EXPECT_EQ(Considered("asked"), std::vector<std::string>{"c"});
  EXPECT_EQ(book->expired(), 1u);
  EXPECT_EQ(book->Purge({}), 1u);
  EXPECT_TRUE(Considered("asked").empty());
  EXPECT_EQ(Done(), 0u);
}

TEST_F(RemoteVectorsTest, AnUnknownVectorIsFoundOutAfterTheRemoteWasAwayForARun) {
  Store("before");
  Tend();
  auto kept = std::move(remote);
  Open();  // without it
  Store("between");
  Store("before");  // replaced
  remote = std::move(kept);
  Open();
  EXPECT_TRUE(book->Progress().back().counting);
  EXPECT_EQ(Done(), 0u);
  Tend();
  EXPECT_FALSE(book->Progress().back().counting);
  EXPECT_EQ(Done(), 2u);
  EXPECT_EQ(remote->calls, 2);
  Open();
  EXPECT_FALSE(book->Progress().back().counting);
  EXPECT_EQ(Done(), 2u);
}

TEST_F(RemoteVectorsTest, ALargeScopesGraphIsTakenUpAgain) {
  flat_limit = 20;
  Open();
  for (int i = 0; i < 100; ++i) {
    const std::string question = "q" + std::to_string(i);
    local.Set(question, {-1, 0});
    Store(question);
  }
  remote->vectors.Set("stored", {1, 0, 0});
  remote->vectors.Set("asked", {0.96F, 0.28F, 0});
  local.Set("stored", {-1, 0});
  local.Set("asked", {1, 0});
  Store("stored");
  Tend();
  Open();
  EXPECT_TRUE(std::filesystem::exists(dir.path() / "cache" / "remote_index"));
  EXPECT_FALSE(std::filesystem::is_empty(dir.path() / "cache" / "remote_index"));
  EXPECT_TRUE(book->work_due());
  Tend();
  ASSERT_TRUE(Find("asked"));
  EXPECT_EQ(Find("asked")->text, "to stored");
}

TEST_F(RemoteVectorsTest, WithoutTheMemoryForItsIndexCandidatesAreLocalAndItsCosineIsJudged) {
  index_memory = 1 << 20;
  Open();
  local.Set("stored", {1, 0});
  local.SetCosine("asked", 0.7);
  remote->vectors.Set("stored", {1, 0, 0});
  remote->vectors.Set("asked", {0.96F, 0.28F, 0});
  Store("stored");
  Tend();
  EXPECT_EQ(book->remote_problem(), "");
  for (const bool loaded : {false, true}) {
    index_memory = 500;
    if (!loaded) Open();
    EXPECT_NEAR(Find("asked")->cosine, 0.96, 1e-4);
    EXPECT_NE(book->remote_problem().find("index_memory"), std::string::npos);
    Store("another");
  }
}

TEST_F(RemoteVectorsTest, ALookupWithoutTheTimeForACallDoesWithoutIt) {
  local.Set("stored", {1, 0});
  local.SetCosine("asked", 0.7);
  Store("stored");
  Tend();
  const int calls = remote->calls;
  EXPECT_TRUE(Find("asked", 129ms));
  EXPECT_EQ(remote->calls, calls);
  Find("asked", 130ms);
  EXPECT_EQ(remote->calls, calls + 1);
}

TEST_F(RemoteVectorsTest, WhatWasStoredWhileItWasDownIsEmbeddedLater) {
  remote->down = true;
  for (int i = 0; i < 40; ++i) Store("q" + std::to_string(i));
  Tend();
  EXPECT_EQ(remote->calls, 1);  // and then it rests
  loop.Advance(60s);
  remote->down = false;
  Tend();
  EXPECT_LE(remote->calls, 1 + 4);  // a failed one may stand in line twice
  EXPECT_EQ(book->remote_problem(), "");
  EXPECT_EQ(Done(), book->entries());
}

TEST_F(RemoteVectorsTest, AnotherVersionEmbedsAllAnewAndGoesOnAfterARestart) {
  local.Set("stored", {1, 0});
  local.SetCosine("asked", 0.7);
  for (int i = 0; i < 40; ++i) {
    const std::string question = "q" + std::to_string(i);
    local.Set(question, {-1, 0});
    Store(question);
  }
  Store("stored");
  Tend();
  remote = std::make_unique<FakeRemote>("remote@2");
  Open();
  EXPECT_NEAR(Find("asked")->cosine, 0.7, 1e-4);  // the old vectors are not compared
  EXPECT_EQ(remote->calls, 0);
  book->Tend();
  book->Tend();
  const int before = remote->calls;
  EXPECT_GT(before, 0);
  EXPECT_LT(before, 3);
  Open();
  Tend();
  EXPECT_LE(remote->calls, 4);  // what was done is not done again
  EXPECT_EQ(book->remote_problem(), "");
  EXPECT_EQ(Done(), book->entries());
  Open();
  Tend();
  EXPECT_LE(remote->calls, 4);
}

TEST_F(RemoteVectorsTest, ARefusedTextSpoilsNoOthers) {
  local.Set("good", {1, 0});
  local.SetCosine("asked", 0.7);
  remote->vectors.Set("good", {1, 0, 0});
  remote->vectors.Set("asked", {0.96F, 0.28F, 0});
  remote->refuses = "bad";
  Store("bad");
  Store("good");
  Tend();
  EXPECT_EQ(remote->calls, 3);
  EXPECT_NEAR(Find("asked")->cosine, 0.96, 1e-4);
  EXPECT_EQ(book->remote_problem(), "");
  EXPECT_EQ(Done(), book->entries());
}

TEST_F(RemoteVectorsTest, AReplacedOrRemovedEntryGetsNoVectorOfTheOld) {
  local.SetCosine("Stored", 0.7);
  local.Set("asked", {1, 0});
  remote->vectors.Set("stored", {1, 0, 0});
  remote->vectors.Set("Stored", {0.96F, 0.28F, 0});
  remote->vectors.Set("asked", {1, 0, 0});
  Store("stored");
  Tend();
  EXPECT_NEAR(Find("asked")->cosine, 1, 1e-4);
  Store("Stored");  // the same question
  EXPECT_NEAR(Find("asked")->cosine, 0.7, 1e-4) << "it has no vector yet";
  Tend();
  EXPECT_NEAR(Find("asked")->cosine, 0.96, 1e-4);
  EXPECT_EQ(book->entries(), 1u);
  EXPECT_EQ(Find("stored")->text, "to Stored");
  EXPECT_EQ(book->Purge({.tenant = "default"}), 1u);
  Tend();
  EXPECT_EQ(book->entries(), 0u);
}

}  // namespace
}  // namespace holdfast::cache
