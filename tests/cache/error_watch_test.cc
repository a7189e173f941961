// What is compared, what that may cost, and what follows for the thresholds; then the same through
// SemanticCache with a real store.

#include "cache/error_watch.h"

#include <gtest/gtest.h>

#include "cache/hash_embedder.h"
#include "cache/semantic_cache.h"
#include "tests/cache/cache_fixture.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::cache {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code

ErrorWatchOptions Options(std::optional<double> max_error = std::nullopt) {
  ErrorWatchOptions options{.share = 1, .cpu = 0.1};
  options.routes["r"] = {.configured = {0.85, 0.95}, .max_age = 1h, .max_error = max_error};
  return options;
}

class ErrorWatchTest : public ::testing::Test {
 protected:
  holdfast::testing::FakeLoop loop;
  core::SeededRandom random{1};
};

TEST_F(ErrorWatchTest, TakesTheConfiguredShareOfKnownRoutes) {
  ErrorWatchOptions options = Options();
  options.share = 0.2;
  ErrorWatch watch(options, loop.clock(), random);
  for (int i = 0; i < 5000; ++i) watch.Take("r", false);
  EXPECT_NEAR(static_cast<double>(watch.taken()), 1000, 120);
  options.share = 1;
  ErrorWatch all(options, loop.clock(), random);
  EXPECT_EQ(all.Take("r", false), 1h);
  EXPECT_FALSE(all.Take("other", false));
  options.share = 0;
  EXPECT_FALSE(ErrorWatch(options, loop.clock(), random).Take("r", false));
}

TEST_F(ErrorWatchTest, GivesWayToRequests) {
  ErrorWatch watch(Options(), loop.clock(), random);
  EXPECT_FALSE(watch.Take("r", true));
  EXPECT_EQ(watch.spared(), 1u);
  EXPECT_TRUE(watch.Take("r", false));
}

TEST_F(ErrorWatchTest, RestsSoLongThatItKeepsToItsShareOfACore) {
  ErrorWatch watch(Options(), loop.clock(), random);
  watch.NoteCost(10ms);  // of a tenth: 90 ms of rest
  loop.Advance(90ms - 1ns);
  EXPECT_FALSE(watch.Take("r", false));
  loop.Advance(1ns);
  EXPECT_TRUE(watch.Take("r", false));
  watch.NoteCost(10ms);
  watch.NoteCost(10ms);
  loop.Advance(179ms);
  EXPECT_FALSE(watch.Take("r", false));
  loop.Advance(1ms);
  EXPECT_TRUE(watch.Take("r", false));
}

TEST_F(ErrorWatchTest, RaisesAndNeverLowers) {
  ErrorWatch off(Options(), loop.clock(), random);
  ErrorWatch watch(Options(0.05), loop.clock(), random);
  for (int i = 0; i < 2000; ++i) {
    for (ErrorWatch* each : {&off, &watch}) each->Add("r", i % 2 == 0 ? 0.89 : 0.93, i % 4 == 0);
  }
  EXPECT_EQ(off.Raise("r", 0.85).threshold, 0.85);
  EXPECT_EQ(watch.Raise("r", 0.85).threshold, 0.9);
  EXPECT_EQ(watch.Raise("r", 0.91).threshold, 0.91);  // a caller's own
  EXPECT_EQ(watch.Raise("r", 0.95).threshold, 0.95);
  EXPECT_EQ(watch.Raise("other", 0.85).threshold, 0.85);
  const RouteErrors report = watch.Report().at(0);
  EXPECT_EQ(report.samples, 2000u);
  EXPECT_EQ(report.thresholds[0].choice.state, Calibrated::kHeld);
  EXPECT_EQ(report.thresholds[1].choice.state, Calibrated::kTooFew);
  EXPECT_EQ(off.Report().at(0).thresholds[0].choice.state, Calibrated::kOff);
}

// --- Through the cache ---------------------------------------------------------------------------

class SampledCacheTest : public ErrorWatchTest {
 protected:
  static SemanticCacheOptions CacheOptions(std::optional<double> max_error) {
    SemanticCacheOptions options;
    options.errors = Options(max_error);
    options.errors.cpu = 1;
    return options;
  }
  static core::Request Ask(const std::string& question) {
    core::Request request;
    request.tenant = "t";
    request.route = "r";
    request.messages.push_back({core::Role::kUser, {core::Text{question}}});
    return request;
  }
  void Store(SemanticCache& cache, const std::string& question, const std::string& answer) {
    cache.Store(Ask(question), {.text = answer, .provider = "p", .model = "m"});
    pool.Drain();
  }
  static CurvePoint At(const SemanticCache& cache, double threshold) {
    const RouteErrors errors = cache.Errors().at(0);
    for (const CurvePoint& point : errors.curve) {
      if (point.threshold == threshold) return point;
    }
    return {};
  }
  double Threshold(SemanticCache& cache, const std::string& question) {
    bool done = false;
    std::optional<core::CacheHit> hit;
    core::Spawn([](SemanticCache& c, core::Loop& l, const core::Request request, bool& d,
                   std::optional<core::CacheHit>& h) -> core::Task<void> {
      h = co_await c.Lookup(l, request, {.min_similarity = 0.85, .max_age = 1h}, l.Now() + 1s);
      d = true;
    }(cache, loop, Ask(question), done, hit));
    loop.RunReadyUntil([&done] { return done; });
    return hit ? hit->threshold : 0;
  }

  HashEmbedder embedder;
  core::BlockingPool pool{2, 1024};
};

TEST_F(SampledCacheTest, ComparesWhatItWouldHaveServedBeforeItStoresTheFreshAnswer) {
  SemanticCache cache(CacheOptions(std::nullopt), embedder, pool, loop.clock(), random);
  Store(cache, "What is the capital of France?", "The capital of France is Paris.");
  EXPECT_EQ(cache.Errors().at(0).samples, 0u);  // nothing was at hand
  Store(cache, "what is the capital of france", "The capital of France is Paris.");
  EXPECT_EQ(At(cache, 1).served, 1u);
  EXPECT_EQ(At(cache, 1).wrong, 0u);
  Store(cache, "What is the capital of France?", "Bananas are yellow when they are ripe, not red.");
  EXPECT_EQ(At(cache, 1).served, 2u);
  EXPECT_EQ(At(cache, 1).wrong, 1u);
  Store(cache, "Wie koche ich Reis?", "Mit Wasser.");  // nothing like it
  EXPECT_EQ(cache.Errors().at(0).samples, 2u);
  EXPECT_EQ(cache.Stats().compared, 4u);
}

TEST_F(SampledCacheTest, LookupsUseTheRaisedThreshold) {
  SemanticCache cache(CacheOptions(0.4), embedder, pool, loop.clock(), random);
  Store(cache, "What is the capital of France?", "Paris");
  EXPECT_EQ(Threshold(cache, "What is the capital of France?"), 0.85);
  for (int i = 0; i < 40; ++i) {
    Store(cache, "What is the capital of France?",
          i % 2 == 0 ? "It is Paris." : "Bananas are yellow when they are ripe.");
  }
  EXPECT_EQ(cache.Errors().at(0).thresholds[0].choice.state, Calibrated::kNotHeld);
  EXPECT_EQ(Threshold(cache, "What is the capital of France?"), 1);
}

TEST_F(SampledCacheTest, WhatWasLearntOutlivesARestartAndACrash) {
  constexpr char kQuestion[] = "What is the capital of France?";
  constexpr uint64_t kSamples = 40;
  testing::TempDir dir;
  SemanticCacheOptions options = CacheOptions(0.4);
  options.directory = dir.path() / "cache";
  const auto open = [&](const core::Embedder& with) {
    return std::make_unique<SemanticCache>(options, with, pool, loop.clock(), random);
  };
  auto cache = open(embedder);
  for (uint64_t i = 0; i <= kSamples; ++i) {
    Store(*cache, kQuestion, i % 2 == 0 ? "It is Paris." : "Bananas are yellow.");
  }
  ASSERT_EQ(cache->Errors().at(0).samples, kSamples);
  const uint64_t wrong = At(*cache, 1).wrong;
  ASSERT_GT(wrong, 0u);
  loop.Advance(61s);
  cache->Tend();
  pool.Drain();
  // As a crash would leave it, a minute on at the latest.
  const auto crashed = dir.path() / "crashed";
  std::filesystem::copy(options.directory, crashed, std::filesystem::copy_options::recursive);
  Store(*cache, kQuestion, "It is Paris.");
  const auto reopen = [&](const std::filesystem::path& directory, const core::Embedder& with) {
    pool.Drain();
    cache.reset();
    options.directory = directory;
    cache = open(with);
    return cache->Errors().at(0).samples;
  };
  EXPECT_EQ(reopen(dir.path() / "cache", embedder), kSamples + 1);
  EXPECT_EQ(reopen(crashed, embedder), kSamples);
  EXPECT_EQ(At(*cache, 1).wrong, wrong);
  EXPECT_EQ(cache->Errors().at(0).thresholds[0].choice.state, Calibrated::kNotHeld);
  EXPECT_EQ(Threshold(*cache, kQuestion), 1) << "before anything new is learnt";
  const testing::ScriptedEmbedder another(2, "another");
  EXPECT_EQ(reopen(crashed, another), 0u) << "its similarities mean something else";
  // So do another judge's.
  class Doubter final : public Judge {
   public:
    Verdict Compare(std::string_view, const Candidate& candidate) const override {
      return {.similarity = candidate.cosine * 0.99};
    }
    double CosineFloor(double threshold) const override { return threshold; }
  };
  const Doubter doubter;
  cache.reset();
  options.directory = dir.path() / "cache";
  cache = std::make_unique<SemanticCache>(options, embedder, pool, loop.clock(), random, doubter);
  EXPECT_EQ(cache->Errors().at(0).samples, 0u);
  cache->Stop();
  pool.Drain();
}

}  // namespace
}  // namespace holdfast::cache
