#include "cache/semantic_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <latch>

#include "cache/hash_embedder.h"
#include "tests/cache/cache_fixture.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::cache {
namespace {

using core::BlockingPool;
using holdfast::testing::FakeLoop;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using testing::Answered;
using testing::Ask;
using testing::ScriptedEmbedder;
using testing::TempDir;

constexpr core::CacheQuery kQuery{0.85, hours(168)};

// One pool thread, which Block() holds up until Release().
class SemanticCacheTest : public ::testing::Test {
 protected:
  SemanticCacheTest() { Open(); }
  ~SemanticCacheTest() override {
    Release();
    cache_->Stop();
    pool_.Drain();
    loop_.Run();
  }

  void Open() {
    if (cache_) cache_->Stop();
    pool_.Drain();
    cache_.reset();
    options_.directory = dir_.path() / "cache";
    cache_ = std::make_unique<SemanticCache>(options_, embedder_, pool_, loop_.clock(), random_);
  }
  void Block() {
    gate_.emplace();
    std::promise<void> running;
    ASSERT_TRUE(pool_.Submit(BlockingPool::Priority::kUrgent,
                             [&running, open = gate_->get_future()]() mutable {
                               running.set_value();
                               open.wait();
                             }));
    running.get_future().wait();
  }
  void Release() {
    if (gate_) gate_->set_value();
    gate_.reset();
  }

  void Put(const core::Request& request, const std::string& answer) {
    cache_->Store(request, Answered(answer));
    pool_.Drain();
  }

  struct Lookup {
    bool done = false;
    std::optional<core::CacheHit> hit;
  };
  std::shared_ptr<Lookup> Start(const core::Request& request, core::Duration time) {
    auto lookup = std::make_shared<Lookup>();
    core::Spawn(Await(cache_->Lookup(loop_, request, kQuery, loop_.Now() + time), lookup));
    return lookup;
  }
  static core::Task<void> Await(core::Task<std::optional<core::CacheHit>> task,
                                std::shared_ptr<Lookup> lookup) {
    lookup->hit = co_await std::move(task);
    lookup->done = true;
  }
  std::optional<core::CacheHit> Find(const core::Request& request) {
    const auto lookup = Start(request, milliseconds(200));
    loop_.RunReadyUntil([&] { return lookup->done; });
    return lookup->hit;
  }

  TempDir dir_;
  FakeLoop loop_;
  core::SeededRandom random_{1};
  ScriptedEmbedder embedder_;
  SemanticCacheOptions options_;
  BlockingPool pool_{1, 3};
  std::optional<std::promise<void>> gate_;
  std::unique_ptr<SemanticCache> cache_;
};

TEST_F(SemanticCacheTest, StoresAndFindsAndCounts) {
  EXPECT_FALSE(Find(Ask("q")));
  Put(Ask("q"), "answer");
  const auto hit = Find(Ask("q"));
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->text, "answer");
  EXPECT_EQ(hit->threshold, 0.85);
  EXPECT_FALSE(Find(Ask("q", "another tenant")));
  const CacheStats stats = cache_->Stats();
  EXPECT_EQ(stats.entries, 1u);
  EXPECT_EQ(stats.scopes, 1u);
  EXPECT_EQ(stats.lookups, 3u);
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.misses, 2u);
  EXPECT_EQ(stats.skipped, 0u);
  EXPECT_EQ(stats.stores, 1u);
  EXPECT_GT(stats.bytes_on_disk, 0u);
  EXPECT_EQ(stats.embedder, "scripted");
  EXPECT_EQ(stats.degraded, "");
  EXPECT_EQ(loop_.timers(), 0u) << "no deadline is left behind";
}

TEST_F(SemanticCacheTest, ALookupEndsAtItsDeadlineWhateverThePoolDoes) {
  Put(Ask("q"), "answer");
  Block();
  const int embedded = embedder_.calls();
  const auto lookup = Start(Ask("q"), milliseconds(200));
  loop_.Advance(milliseconds(200) - nanoseconds(1));
  EXPECT_FALSE(lookup->done);
  EXPECT_EQ(cache_->Stats().urgent_queued, 1u);
  loop_.Advance(nanoseconds(1));
  EXPECT_TRUE(lookup->done);
  EXPECT_FALSE(lookup->hit);
  EXPECT_EQ(cache_->Stats().skipped, 1u);
  Release();
  pool_.Drain();
  loop_.RunReady();  // the late result finds nobody
  EXPECT_EQ(embedder_.calls(), embedded) << "a late job does no work";
  const CacheStats stats = cache_->Stats();
  EXPECT_EQ(stats.lookups, 2u - 1);
  EXPECT_EQ(stats.skipped, 1u);
  EXPECT_EQ(stats.hits + stats.misses, 0u);
}

TEST_F(SemanticCacheTest, AJobThatStartsAtTheDeadlineIsSkipped) {
  embedder_.SetCosine("q", 1);
  embedder_.SetCosine("like q", 0.9);
  Put(Ask("q"), "answer");
  for (const bool in_time : {true, false}) {
    const uint64_t skipped = cache_->Stats().skipped;
    const int embedded = embedder_.calls();
    Block();
    const auto lookup = Start(Ask("like q"), milliseconds(200));
    // The clock moves on, but the loop is busy and its timer has not fired yet.
    loop_.fake_clock().Advance(milliseconds(200) - nanoseconds(in_time ? 1 : 0));
    Release();
    pool_.Drain();
    loop_.RunReady();
    EXPECT_TRUE(lookup->done);
    EXPECT_EQ(lookup->hit.has_value(), in_time);
    EXPECT_EQ(embedder_.calls() - embedded, in_time ? 1 : 0);
    EXPECT_EQ(cache_->Stats().skipped - skipped, in_time ? 0u : 1u);
  }
}

TEST_F(SemanticCacheTest, ADeadlineThatHasPassedTakesNoPlaceInTheQueue) {
  Put(Ask("q"), "answer");
  Block();
  EXPECT_TRUE(Start(Ask("q"), core::Duration::zero())->done);
  EXPECT_TRUE(Start(Ask("q"), milliseconds(-5))->done);
  EXPECT_EQ(cache_->Stats().urgent_queued, 0u);
  EXPECT_EQ(cache_->Stats().skipped, 2u);
}

TEST_F(SemanticCacheTest, AFullQueueSkipsLookupsAndDropsStores) {
  Put(Ask("q"), "answer");
  Block();
  std::vector<std::shared_ptr<Lookup>> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(Start(Ask("q"), milliseconds(200)));
  EXPECT_FALSE(waiting.back()->done);
  EXPECT_TRUE(Start(Ask("q"), milliseconds(200))->done);
  EXPECT_EQ(cache_->Stats().skipped, 1u);
  for (int i = 0; i < 5; ++i) cache_->Store(Ask("new " + std::to_string(i)), Answered("a"));
  CacheStats stats = cache_->Stats();
  EXPECT_EQ(stats.dropped, 2u);
  EXPECT_EQ(stats.urgent_queued, 3u);
  EXPECT_EQ(stats.normal_queued, 3u);
  Release();
  pool_.Drain();
  loop_.RunReady();
  for (const auto& lookup : waiting) EXPECT_TRUE(lookup->hit);
  stats = cache_->Stats();
  EXPECT_EQ(stats.entries, 4u);
  EXPECT_EQ(stats.stores, 4u);
}

TEST_F(SemanticCacheTest, LookupsGoBeforeStores) {
  Block();
  cache_->Store(Ask("q"), Answered("answer"));
  const auto lookup = Start(Ask("q"), milliseconds(200));
  Release();
  loop_.RunReadyUntil([&] { return lookup->done; });
  EXPECT_FALSE(lookup->hit) << "the store came first and was to wait";
  pool_.Drain();
  EXPECT_TRUE(Find(Ask("q")));
}

TEST_F(SemanticCacheTest, WhatWaitsToBeStoredIsBoundedInBytes) {
  options_.max_queued_bytes = 2500;
  Open();
  Block();
  cache_->Store(Ask("1"), Answered(std::string(1000, 'x')));
  cache_->Store(Ask("2"), Answered(std::string(1000, 'x')));
  cache_->Store(Ask("3"), Answered(std::string(1000, 'x')));
  EXPECT_EQ(cache_->Stats().dropped, 1u);
  Release();
  pool_.Drain();
  Put(Ask("3"), std::string(1000, 'x'));
  EXPECT_EQ(cache_->Stats().stores, 3u);
}

TEST_F(SemanticCacheTest, RefusesWhatIsNotToBeStored) {
  core::Request no_store = Ask("q");
  no_store.cache.no_store = true;
  core::Request image = Ask("q");
  image.messages.back().parts.push_back(core::Image{"http://x/y.png", "", ""});
  core::Request tool = Ask("q");
  tool.messages.push_back({core::Role::kTool, {core::ToolResult{"id", "name", "content"}}});
  core::Request prefix = Ask("q");
  prefix.messages.push_back(testing::Say(core::Role::kAssistant, "Well"));
  uint64_t refused = 0;
  for (const core::Request& request : {no_store, image, tool, prefix}) {
    Put(request, "answer");
    EXPECT_EQ(cache_->Stats().not_stored, ++refused);
  }
  Put(Ask("q"), "");
  EXPECT_EQ(cache_->Stats().not_stored, ++refused);
  EXPECT_EQ(cache_->Stats().entries, 0u);
  for (const core::Request& request : {image, tool, prefix}) {
    EXPECT_TRUE(Start(request, milliseconds(200))->done) << "nor is it looked up";
  }
  EXPECT_EQ(cache_->Stats().lookups, 0u);
}

TEST_F(SemanticCacheTest, TheSizeLimitIsInclusive) {
  options_.max_entry_bytes = 100;
  Open();
  Put(Ask("12345"), std::string(94, 'x'));
  Put(Ask("12346"), std::string(95, 'x'));
  EXPECT_EQ(cache_->Stats().not_stored, 0u);
  Put(Ask("12347"), std::string(96, 'x'));
  EXPECT_EQ(cache_->Stats().not_stored, 1u);
  EXPECT_EQ(cache_->Stats().entries, 2u);
}

TEST_F(SemanticCacheTest, BadVectorsAreCounted) {
  embedder_.Set("q", {0, 0});
  Put(Ask("q"), "answer");
  EXPECT_EQ(cache_->Stats().rejected_vectors, 1u);
  EXPECT_EQ(cache_->Stats().stores, 0u);
  EXPECT_EQ(cache_->Stats().entries, 0u);
}

TEST_F(SemanticCacheTest, ItsAgeCountsFromWhenItWasHandedOver) {
  Block();
  cache_->Store(Ask("q"), Answered("answer"));
  loop_.fake_clock().Advance(hours(1));
  Release();
  pool_.Drain();
  EXPECT_EQ(Find(Ask("q"))->age, hours(1));
}

TEST_F(SemanticCacheTest, WorkInTheQueueOutlivesTheCache) {
  Block();
  cache_->Store(Ask("q"), Answered("answer"));
  const auto lookup = Start(Ask("q"), milliseconds(200));
  cache_.reset();
  Release();
  pool_.Drain();
  loop_.RunReady();
  EXPECT_TRUE(lookup->done);
  Open();
  EXPECT_EQ(cache_->Stats().entries, 1u);
}

TEST_F(SemanticCacheTest, BackgroundWorkRunsByItselfAndStopsWhenTold) {
  options_.flat_limit = 20;
  Open();
  for (int i = 0; i < 100; ++i) Put(Ask("q" + std::to_string(i)), "answer");
  Open();
  pool_.Drain();
  EXPECT_GT(cache_->Stats().index_bytes, 0u) << "loaded before anybody asked";
  cache_->Stop();
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(Find(Ask("q" + std::to_string(i)))) << i;
}

TEST_F(SemanticCacheTest, WhatExpiredIsRemovedThoughNobodyAsks) {
  options_.retention = std::chrono::hours(1);
  Open();
  Put(Ask("q"), "answer");
  for (const int more_minutes : {60, 2}) {
    loop_.fake_clock().Advance(std::chrono::minutes(more_minutes));
    cache_->Tend();
    pool_.Drain();
    EXPECT_EQ(cache_->Stats().entries, more_minutes == 60 ? 1u : 0u);
  }
  EXPECT_EQ(cache_->Stats().expired, 1u);
  cache_->Stop();
  cache_->Tend();  // nothing any more
}

TEST_F(SemanticCacheTest, InABacklogEntriesAreStoredFirstAndEmbeddedLaterAlsoAfterARestart) {
  options_.embed_backlog = 1;
  Open();
  embedder_.Set("1", {1, 0});
  embedder_.Set("like 1", {1, 0});
  for (const char* other : {"2", "3"}) embedder_.Set(other, {0, 1});
  Block();
  for (const char* question : {"1", "2", "3"}) cache_->Store(Ask(question), Answered(question));
  cache_->Stop();  // so that the debt stays
  const int before = embedder_.calls();
  Release();
  pool_.Drain();
  EXPECT_EQ(cache_->Stats().entries, 3u);
  EXPECT_EQ(cache_->Stats().debts, 1u) << "behind the first, two waited";
  EXPECT_EQ(embedder_.calls() - before, 2);
  EXPECT_TRUE(Find(Ask("1"))) << "the same question needs no vector";
  EXPECT_FALSE(Find(Ask("like 1")));
  Open();
  pool_.Drain();
  EXPECT_EQ(cache_->Stats().debts, 0u);
  ASSERT_TRUE(Find(Ask("like 1")));
  EXPECT_EQ(Find(Ask("like 1"))->text, "1");
}

TEST_F(SemanticCacheTest, AFaultOfTheDatabaseIsInTheStatus) {
  cache_->Stop();
  pool_.Drain();
  cache_.reset();
  std::filesystem::resize_file(dir_.path() / "cache" / "CURRENT", 0);
  std::string warned;
  options_.warn = [&](const std::string& text) { warned = text; };
  Open();
  EXPECT_THAT(cache_->Stats().degraded, ::testing::HasSubstr("starts empty"));
  EXPECT_EQ(warned, cache_->Stats().degraded);
  Put(Ask("q"), "answer");
  EXPECT_TRUE(Find(Ask("q")));
}

TEST_F(SemanticCacheTest, PurgesAndListsThroughTheFace) {
  Put(Ask("q", "t1"), "a");
  loop_.fake_clock().Advance(hours(1));
  Put(Ask("q", "t2", "r2"), "b");
  const auto newest = cache_->Newest(1);
  ASSERT_EQ(newest.size(), 1u);
  EXPECT_EQ(newest[0].tenant, "t2");
  EXPECT_EQ(newest[0].route, "r2");
  EXPECT_EQ(newest[0].age, core::Duration::zero());
  EXPECT_EQ(cache_->Purge({.tenant = "t1"}), 1u);
  EXPECT_FALSE(Find(Ask("q", "t1")));
  EXPECT_TRUE(Find(Ask("q", "t2", "r2")));
}

TEST(SemanticCacheWithHashing, FindsAQuestionAskedAgainInNearlyTheSameWords) {
  FakeLoop loop;
  core::SeededRandom random(1);
  HashEmbedder embedder;
  BlockingPool pool(2, 100);
  SemanticCache cache({}, embedder, pool, loop.clock(), random);
  const auto find = [&](const std::string& question) {
    std::optional<std::string> text;
    bool done = false;
    const auto await = [](core::Task<std::optional<core::CacheHit>> task,
                          std::optional<std::string>& t, bool& d) -> core::Task<void> {
      const auto hit = co_await std::move(task);
      if (hit) t = hit->text;
      d = true;
    };
    core::Request request = Ask(question);
    core::Spawn(await(cache.Lookup(loop, request, kQuery, loop.Now() + hours(1)), text, done));
    loop.RunReadyUntil([&] { return done; });
    return text;
  };
  cache.Store(Ask("Why is the sky blue?"), Answered("Rayleigh scattering."));
  cache.Store(Ask("How do I cook rice?"), Answered("In water."));
  pool.Drain();
  EXPECT_EQ(find("why is the sky  BLUE"), "Rayleigh scattering.");
  EXPECT_EQ(find("Why is the sky so blue?"), "Rayleigh scattering.");
  EXPECT_EQ(find("What is the capital of France?"), std::nullopt);
  EXPECT_EQ(find("   "), std::nullopt);
}

}  // namespace
}  // namespace holdfast::cache
