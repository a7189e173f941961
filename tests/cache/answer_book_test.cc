#include "cache/answer_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "cache/hash_embedder.h"
#include "cache/text.h"
#include "core/random.h"
#include "tests/cache/cache_fixture.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::cache {
namespace {

using holdfast::testing::FakeClock;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using testing::Answered;
using testing::Ask;
using ::testing::HasSubstr;
using testing::ScriptedEmbedder;
using testing::TempDir;

class AnswerBookTest : public ::testing::Test {
 protected:
  AnswerBookTest() { Open(); }

  void Open() { Open(embedder_); }
  void Open(const core::Embedder& embedder) {
    book_.reset();
    options_.directory = dir_.path() / "cache";
    options_.warn = [this](const std::string& text) { warnings_.push_back(text); };
    book_ = std::make_unique<AnswerBook>(options_, embedder, clock_, random_);
  }
  bool Put(const core::Request& request, const std::string& answer) {
    return book_->Insert(DescribeScope(request), QuestionOf(request), Answered(answer),
                         clock_.WallNow());
  }
  std::optional<core::CacheHit> Find(const core::Request& request, double min_similarity = 0.85,
                                     core::Duration max_age = hours(168)) {
    return book_->Find(DescribeScope(request), QuestionOf(request), {min_similarity, max_age},
                       [] { return false; });
  }
  std::string Answer(const core::Request& request, double min_similarity = 0.85,
                     core::Duration max_age = hours(168)) {
    const auto hit = Find(request, min_similarity, max_age);
    return hit ? hit->text : "";
  }
  static std::string QuestionOf(const core::Request& request) {
    return std::get<core::Text>(request.messages.back().parts[0]).text;
  }

  TempDir dir_;
  FakeClock clock_;
  core::SeededRandom random_{1};
  ScriptedEmbedder embedder_;
  SemanticCacheOptions options_;
  std::vector<std::string> warnings_;
  std::unique_ptr<AnswerBook> book_;
};

TEST_F(AnswerBookTest, AHitSaysWhereItComesFrom) {
  embedder_.SetCosine("stored", 1);
  embedder_.SetCosine("asked", 0.9);
  ASSERT_TRUE(Put(Ask("stored"), "the answer"));
  const core::WallTime made = clock_.WallNow();
  clock_.Advance(seconds(90) + nanoseconds(1));
  const auto hit = Find(Ask("asked"), 0.85);
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->text, "the answer");
  EXPECT_EQ(hit->similarity, 0.9);
  EXPECT_EQ(hit->threshold, 0.85);
  EXPECT_EQ(hit->age, seconds(90) + nanoseconds(1));
  EXPECT_EQ(hit->created_at, made);
  EXPECT_EQ(hit->provider, "provider");
  EXPECT_EQ(hit->model, "model");
  EXPECT_EQ(hit->entry_id.size(), 26u);
  ASSERT_EQ(book_->Newest(5).size(), 1u);
  EXPECT_EQ(book_->Newest(5)[0].id, hit->entry_id);
}

TEST_F(AnswerBookTest, TheThresholdIsInclusive) {
  embedder_.SetCosine("stored", 1);
  ASSERT_TRUE(Put(Ask("stored"), "a"));
  for (const double cosine : {0.0, 0.3, 0.7, 0.85, 0.95}) {
    const std::string asked = "asked " + std::to_string(cosine);
    embedder_.SetCosine(asked, cosine);
    EXPECT_TRUE(Find(Ask(asked), cosine - 1e-6)) << cosine;
    EXPECT_TRUE(Find(Ask(asked), cosine)) << cosine;
    EXPECT_FALSE(Find(Ask(asked), cosine + 1e-6)) << cosine;
  }
  EXPECT_TRUE(Find(Ask("stored"), 1)) << "asked again, it is the same";
}

// Rates what the test wrote down, and remembers what it was shown.
class ScriptedJudge final : public Judge {
 public:
  Verdict Compare(std::string_view asked, const Candidate& candidate) const override {
    EXPECT_EQ(asked, "asked");
    shown.emplace_back(candidate.question);
    const auto it = verdicts.find(std::string(candidate.question));
    return it == verdicts.end() ? Verdict{.similarity = candidate.cosine} : it->second;
  }
  double CosineFloor(double threshold) const override { return threshold - 0.5; }

  std::map<std::string, Verdict> verdicts;
  mutable std::vector<std::string> shown;
};

TEST_F(AnswerBookTest, TheJudgeRanksTheNearestAndTheThresholdIsHeldAgainstItsWord) {
  ScriptedJudge judge;
  book_.reset();
  book_ = std::make_unique<AnswerBook>(SemanticCacheOptions(), embedder_, clock_, random_, judge);
  embedder_.SetCosine("asked", 1);
  for (const auto& [question, cosine] :
       {std::pair("near", 0.99), {"nearer", 0.999}, {"far", 0.5}, {"too far", 0.3}}) {
    embedder_.SetCosine(question, cosine);
    ASSERT_TRUE(Put(Ask(question), question));
  }
  judge.verdicts["nearer"] = {.similarity = 1, .refused = true, .reason = "numbers differ"};
  judge.verdicts["near"] = {.similarity = 0.849};
  judge.verdicts["far"] = {.similarity = 0.85};
  const auto hit = Find(Ask("asked"), 0.85);
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->text, "far");
  EXPECT_EQ(hit->similarity, 0.85);
  EXPECT_NEAR(hit->cosine, 0.5, 1e-4);
  EXPECT_EQ(judge.shown, (std::vector<std::string>{"nearer", "near", "far"}));
  EXPECT_FALSE(Find(Ask("asked"), 0.851));
  const auto ranked = book_->Explain(DescribeScope(Ask("asked")), "asked", 0.2, hours(1));
  ASSERT_EQ(ranked.size(), 4u);
  EXPECT_EQ(ranked[0].entry.question, "far");
  EXPECT_EQ(ranked[2].entry.question, "too far");
  EXPECT_EQ(ranked[3].verdict.reason, "numbers differ") << "what is refused comes last";
}

TEST_F(AnswerBookTest, SixteenAreJudgedAndExpiredOnesAreNotAmongThem) {
  ScriptedJudge judge;
  book_.reset();
  book_ = std::make_unique<AnswerBook>(SemanticCacheOptions(), embedder_, clock_, random_, judge);
  embedder_.SetCosine("asked", 1);
  for (int i = 0; i < 60; ++i) {
    if (i == 30) clock_.Advance(hours(1));
    const std::string question = std::to_string(i);
    embedder_.SetCosine(question, 1 - i * 1e-3);
    ASSERT_TRUE(Put(Ask(question), question));
  }
  judge.verdicts["45"] = {.similarity = 1};
  judge.verdicts["46"] = {.similarity = 1};
  EXPECT_EQ(Find(Ask("asked"), 0.99, hours(1) - nanoseconds(1))->text, "45");
  EXPECT_EQ(judge.shown.size(), AnswerBook::kCandidates);
  judge.verdicts.erase("45");
  EXPECT_FALSE(Find(Ask("asked"), 0.99, hours(1) - nanoseconds(1))) << "the 17th is not seen";
}

TEST_F(AnswerBookTest, TheAgeLimitIsInclusive) {
  ASSERT_TRUE(Put(Ask("q"), "a"));
  clock_.Advance(hours(1));
  EXPECT_FALSE(Find(Ask("q"), 0.85, hours(1) - nanoseconds(1)));
  EXPECT_TRUE(Find(Ask("q"), 0.85, hours(1)));
  EXPECT_TRUE(Find(Ask("q"), 0.85, hours(1) + nanoseconds(1)));
  Open();  // and what was read from the disk is as exact
  EXPECT_FALSE(Find(Ask("q"), 0.85, hours(1) - nanoseconds(1)));
  EXPECT_TRUE(Find(Ask("q"), 0.85, hours(1)));
}

TEST_F(AnswerBookTest, AnEntryOfTheFutureIsNew) {
  ASSERT_TRUE(Put(Ask("q"), "a"));
  clock_.SetWall(clock_.WallNow() - hours(5));
  const auto hit = Find(Ask("q"), 0.85, seconds(1));
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->age, core::Duration::zero());
}

TEST_F(AnswerBookTest, TheNearestValidOneIsFoundBehindExpiredOnes) {
  for (int i = 0; i < 300; ++i) {
    const std::string question = "expired " + std::to_string(i);
    embedder_.SetCosine(question, 1 - i * 1e-4);
    ASSERT_TRUE(Put(Ask(question), "expired"));
  }
  clock_.Advance(hours(2));
  embedder_.SetCosine("valid", 0.9);
  embedder_.SetCosine("asked", 1);
  EXPECT_EQ(Answer(Ask("asked"), 0.85, hours(1)), "");
  ASSERT_TRUE(Put(Ask("valid"), "valid"));
  EXPECT_EQ(Answer(Ask("asked"), 0.85, hours(1)), "valid");
  EXPECT_EQ(Answer(Ask("asked"), 0.91, hours(1)), "");
  EXPECT_EQ(Answer(Ask("asked"), 0.85, hours(3)), "expired");
}

TEST_F(AnswerBookTest, OfTwoEquallyNearTheNewerIsServed) {
  for (const char* question : {"one", "two", "asked"}) embedder_.SetCosine(question, 1);
  ASSERT_TRUE(Put(Ask("two"), "older"));
  clock_.Advance(nanoseconds(1));
  ASSERT_TRUE(Put(Ask("one"), "newer"));
  EXPECT_EQ(Answer(Ask("asked")), "newer");
}

TEST_F(AnswerBookTest, TheSameQuestionReplacesItsAnswer) {
  ASSERT_TRUE(Put(Ask("Why is the sky blue?"), "old"));
  const std::string old_id = book_->Newest(1)[0].id;
  clock_.Advance(seconds(1));
  ASSERT_TRUE(Put(Ask("why is  the sky BLUE"), "new"));
  EXPECT_EQ(book_->entries(), 1u);
  ASSERT_EQ(book_->Newest(9).size(), 1u);
  EXPECT_NE(book_->Newest(9)[0].id, old_id);
  EXPECT_EQ(Answer(Ask("why is  the sky BLUE"), 0.99), "new");
  ASSERT_TRUE(Put(Ask("Why is the sky blue?", "other tenant"), "theirs"));
  EXPECT_EQ(book_->entries(), 2u);
  Open();
  EXPECT_EQ(book_->entries(), 2u);
  EXPECT_EQ(Answer(Ask("why is  the sky BLUE"), 0.99), "new");
}

TEST_F(AnswerBookTest, BadVectorsAreNeverWritten) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> bad = {{0, 0},    {kNan, 1}, {1, kInfinite}, {1},
                                               {1, 0, 0}, {},        {-0.0f, 0}};
  for (size_t i = 0; i < bad.size(); ++i) {
    const std::string question = "bad " + std::to_string(i);
    embedder_.Set(question, bad[i]);
    EXPECT_FALSE(Put(Ask(question), "a")) << i;
    EXPECT_EQ(book_->rejected_vectors(), i + 1);
    ASSERT_TRUE(Put(Ask("good"), "good"));
    EXPECT_FALSE(Find(Ask(question), -1)) << "and a bad question finds nothing";
  }
  EXPECT_EQ(book_->entries(), 1u);
  EXPECT_EQ(book_->Newest(99).size(), 1u);
}

TEST_F(AnswerBookTest, EntriesSurviveARestart) {
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(Put(Ask("q" + std::to_string(i), "t" + std::to_string(i % 3)), std::to_string(i)));
  }
  Open();
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(book_->entries(), 50u);
  EXPECT_EQ(book_->scopes(), 3u);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Answer(Ask("q" + std::to_string(i), "t" + std::to_string(i % 3)), 1),
              std::to_string(i));
  }
}

TEST_F(AnswerBookTest, ADamagedDirectoryIsSaidLoudlyAndTheCacheWorksOn) {
  ASSERT_TRUE(Put(Ask("q"), "a"));
  book_.reset();
  std::filesystem::resize_file(dir_.path() / "cache" / "CURRENT", 0);
  Open();
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_THAT(warnings_[0], HasSubstr("set aside"));
  EXPECT_EQ(book_->entries(), 0u);
  EXPECT_EQ(Answer(Ask("q")), "");
  ASSERT_TRUE(Put(Ask("q"), "again"));
  EXPECT_EQ(Answer(Ask("q")), "again");
}

TEST_F(AnswerBookTest, PropertyNoAnswerCrossesScopes) {
  std::mt19937 random(11);
  const std::vector<std::string> names = {"", "a", "b", "ab", std::string("a\0", 2)};
  const auto name = [&] { return names[random() % names.size()]; };
  const auto draw = [&](const std::string& question) {
    core::Request request = Ask(question, name(), name());
    std::vector<core::Message> earlier;
    if (random() % 2) earlier.push_back(testing::Say(core::Role::kSystem, name()));
    for (size_t i = random() % 2; i > 0; --i) {
      earlier.push_back(testing::Say(core::Role::kUser, name()));
      earlier.push_back(testing::Say(core::Role::kAssistant, name()));
    }
    request.messages.insert(request.messages.begin(), earlier.begin(), earlier.end());
    if (random() % 4 == 0) request.tools.push_back({name(), "", ""});
    return request;
  };
  // The scope in readable form, made in another way than the key.
  const auto label = [](const core::Request& r) {
    std::string text = "[" + r.tenant + "][" + r.route + "]";
    for (size_t i = 0; i + 1 < r.messages.size(); ++i) {
      text += std::string(core::Name(r.messages[i].role)) + "[" +
              std::get<core::Text>(r.messages[i].parts[0]).text + "]";
    }
    for (const auto& tool : r.tools) text += "tool[" + tool.name + "]";
    return text;
  };
  // All questions look alike, so only the scopes keep answers apart.
  for (const char* question : {"one", "two", "three"}) embedder_.SetCosine(question, 1);
  std::map<std::string, int> stored;
  for (int i = 0; i < 600; ++i) {
    const core::Request request = draw(i % 2 ? "one" : "two");
    ASSERT_TRUE(Put(request, label(request)));
    ++stored[label(request)];
  }
  for (const bool reopened : {false, true}) {
    if (reopened) Open();
    EXPECT_EQ(book_->scopes(), stored.size());
    int hits = 0;
    for (int i = 0; i < 2000; ++i) {
      const core::Request request = draw("three");
      const auto hit = Find(request, -1);
      EXPECT_EQ(hit.has_value(), stored.contains(label(request)));
      if (!hit) continue;
      ++hits;
      ASSERT_EQ(hit->text, label(request));
    }
    EXPECT_GT(hits, 500);
  }
}

TEST_F(AnswerBookTest, PurgeByEachConditionAndTogether) {
  const auto fill = [&] {
    book_->Purge({});
    ASSERT_TRUE(Put(Ask("old", "t1", "r1"), "a"));
    clock_.Advance(hours(2));
    ASSERT_TRUE(Put(Ask("new", "t1", "r1"), "b"));
    ASSERT_TRUE(Put(Ask("q", "t1", "r2"), "c"));
    ASSERT_TRUE(Put(Ask("q", "t2", "r1"), "d"));
    ASSERT_TRUE(Put(Ask("q", "t", "r1"), "e"));
  };
  const auto left = [&] {
    std::string answers;
    for (const auto& [request, answer] :
         {std::pair(Ask("old", "t1", "r1"), "a"), std::pair(Ask("new", "t1", "r1"), "b"),
          std::pair(Ask("q", "t1", "r2"), "c"), std::pair(Ask("q", "t2", "r1"), "d"),
          std::pair(Ask("q", "t", "r1"), "e")}) {
      if (Answer(request, 0.9999) == answer) answers += answer;
    }
    EXPECT_EQ(book_->entries(), answers.size());
    EXPECT_EQ(book_->Newest(99).size(), answers.size());
    return answers;
  };
  embedder_.SetCosine("old", 1);
  embedder_.SetCosine("new", 0);
  const std::vector<std::pair<PurgeFilter, std::string>> cases = {
      {{.tenant = "t1"}, "de"},
      {{.tenant = "t"}, "abcd"},
      {{.tenant = "nobody"}, "abcde"},
      {{.route = "r1"}, "c"},
      {{.tenant = "t1", .route = "r1"}, "cde"},
      {{.older_than = hours(2) - nanoseconds(1)}, "bcde"},
      {{.older_than = hours(2)}, "abcde"},
      {{.tenant = "t1", .older_than = hours(1)}, "bcde"},
      {{.tenant = "t2", .older_than = hours(1)}, "abcde"},
      {{.route = "r2", .older_than = core::Duration(-1)}, "abde"},
      {{.entry_id = "no such"}, "abcde"},
      {{}, ""},
  };
  for (const auto& [filter, expected] : cases) {
    fill();
    EXPECT_EQ(book_->Purge(filter), 5 - expected.size());
    EXPECT_EQ(left(), expected);
    Open();  // it stays purged
    EXPECT_EQ(left(), expected);
  }
}

TEST_F(AnswerBookTest, PurgeOfOneEntryHeedsTheOtherConditionsToo) {
  ASSERT_TRUE(Put(Ask("q", "t1"), "a"));
  ASSERT_TRUE(Put(Ask("q", "t2"), "b"));
  const std::string id = Find(Ask("q", "t1"))->entry_id;
  EXPECT_EQ(book_->Purge({.tenant = "t2", .entry_id = id}), 0u);
  EXPECT_EQ(book_->Purge({.tenant = "t1", .entry_id = id}), 1u);
  EXPECT_EQ(book_->Purge({.entry_id = id}), 0u);
  EXPECT_FALSE(Find(Ask("q", "t1")));
  EXPECT_TRUE(Find(Ask("q", "t2")));
  EXPECT_EQ(book_->scopes(), 1u);
}

TEST_F(AnswerBookTest, TheOldestGoWhenThereAreTooMany) {
  options_.max_entries = 10;
  Open();
  for (int i = 0; i < 25; ++i) {
    ASSERT_TRUE(Put(Ask("q" + std::to_string(i), "t" + std::to_string(i % 4)), std::to_string(i)));
    EXPECT_EQ(book_->entries(), std::min<size_t>(i + 1, 10));
    clock_.Advance(milliseconds(1));
  }
  EXPECT_EQ(book_->evicted(), 15u);
  for (int i = 0; i < 25; ++i) {
    EXPECT_EQ(Find(Ask("q" + std::to_string(i), "t" + std::to_string(i % 4)), 1).has_value(),
              i >= 15)
        << i;
  }
  // Entries that a clock set back makes older than all others are the first to go.
  clock_.SetWall(clock_.WallNow() - hours(1));
  ASSERT_TRUE(Put(Ask("from the past"), "p"));
  EXPECT_FALSE(Find(Ask("from the past"), 1));
  EXPECT_EQ(book_->entries(), 10u);
  options_.max_entries = 4;
  Open();
  EXPECT_EQ(book_->entries(), 4u);
  EXPECT_TRUE(Find(Ask("q24", "t0"), 1));
}

TEST_F(AnswerBookTest, WhatIsOlderThanTheRetentionIsPurgedOnOpening) {
  ASSERT_TRUE(Put(Ask("old"), "a"));
  clock_.Advance(nanoseconds(1));
  ASSERT_TRUE(Put(Ask("just"), "b"));
  clock_.Advance(hours(1));
  options_.retention = hours(1);
  Open();
  EXPECT_EQ(book_->entries(), 1u);
  EXPECT_EQ(Answer(Ask("just"), 1), "b");
  EXPECT_EQ(book_->Newest(9).size(), 1u);
}

TEST_F(AnswerBookTest, AnotherEmbeddersEntriesAreEmbeddedAnewOnce) {
  ASSERT_TRUE(Put(Ask("first"), "a"));
  ASSERT_TRUE(Put(Ask("second"), "b"));
  ScriptedEmbedder other(3, "other");
  Open(other);
  EXPECT_EQ(other.calls(), 0);
  EXPECT_EQ(Answer(Ask("first"), 1), "a");
  EXPECT_EQ(other.calls(), 3) << "the question and both entries";
  Open(other);
  EXPECT_EQ(Answer(Ask("second"), 1), "b");
  EXPECT_EQ(other.calls(), 4);
  // The same size, but other vectors: comparing them would be a hit.
  ScriptedEmbedder third(3, "third");
  third.Set("first", {1, 0, 0});
  third.Set("second", {0, 0, 0});
  third.Set("asked", other.Embed("first"));
  Open(third);
  EXPECT_FALSE(Find(Ask("asked"), 0.999));
  EXPECT_EQ(Answer(Ask("first"), 1), "a");
  EXPECT_EQ(book_->rejected_vectors(), 1u);
  // Back again: what the third could not embed is still there.
  Open(other);
  EXPECT_EQ(Answer(Ask("second"), 1), "b");
}

TEST_F(AnswerBookTest, MemoryIsBoundedAndNothingIsLostByIt) {
  options_.index_memory = 20 * 1024;
  Open();
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Put(Ask("q" + std::to_string(i), "t" + std::to_string(i / 2)), std::to_string(i)));
    EXPECT_LE(book_->index_bytes(), options_.index_memory);
  }
  EXPECT_GT(book_->index_bytes(), 0u);
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(Answer(Ask("q" + std::to_string(i), "t" + std::to_string(i / 2)), 1),
              std::to_string(i));
    EXPECT_LE(book_->index_bytes(), options_.index_memory);
  }
  book_->Purge({.tenant = "t99"});
  book_->Purge({});
  EXPECT_EQ(book_->index_bytes(), 0u);
}

TEST_F(AnswerBookTest, BackgroundWorkLoadsTheLargestScopesAndBuildsTheirGraphs) {
  options_.flat_limit = 50;
  Open();
  for (int i = 0; i < 120; ++i) ASSERT_TRUE(Put(Ask("q" + std::to_string(i), "big"), "a"));
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(Put(Ask("q", "small " + std::to_string(i)), "a"));
  Open();
  EXPECT_TRUE(book_->work_due());
  EXPECT_EQ(book_->index_bytes(), 0u);
  book_->Tend();
  EXPECT_GT(book_->index_bytes(), 120u * 16);
  int steps = 1;
  while (book_->work_due()) {
    book_->Tend();
    ASSERT_LT(++steps, 100);
  }
  EXPECT_GE(steps, 10);
  for (int i = 0; i < 120; ++i) EXPECT_TRUE(Find(Ask("q" + std::to_string(i), "big"), 1)) << i;
}

TEST_F(AnswerBookTest, GivesUpBetweenTheSteps) {
  ASSERT_TRUE(Put(Ask("q"), "a"));
  for (int steps = 0; steps < 2; ++steps) {
    int asked = 0;
    EXPECT_FALSE(book_->Find(DescribeScope(Ask("q")), "q", {0.5, hours(1)},
                             [&] { return asked++ == steps; }));
    EXPECT_EQ(asked, steps + 1);
  }
}

TEST_F(AnswerBookTest, AnUnknownScopeCostsNoEmbedding) {
  EXPECT_FALSE(Find(Ask("q")));
  EXPECT_EQ(embedder_.calls(), 0);
}

TEST_F(AnswerBookTest, ManyThreadsAtOnceAgreeWithTheStore) {
  options_.max_entries = 150;
  options_.index_memory = 16 * 1024;
  options_.flat_limit = 10;
  Open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 400; ++i) {
        const std::string tenant = "t" + std::to_string(random() % 5);
        const std::string question = "q" + std::to_string(random() % 60);
        switch (random() % 8) {
          case 0:
          case 1:
          case 2:
            Put(Ask(question, tenant), tenant + question);
            break;
          case 3:
            if (random() % 10 == 0) book_->Purge({.tenant = tenant});
            break;
          case 4:
            book_->Tend();
            break;
          default: {
            const std::string answer = Answer(Ask(question, tenant), 1);
            if (!answer.empty()) EXPECT_EQ(answer, tenant + question);
          }
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const size_t entries = book_->entries();
  EXPECT_LE(entries, 150u);
  EXPECT_EQ(book_->Newest(1000).size(), entries);
  EXPECT_EQ(book_->store().read_errors(), 0u);
  const auto count = [&] {
    size_t found = 0;
    for (int t = 0; t < 5; ++t) {
      for (int q = 0; q < 60; ++q) {
        found += Find(Ask("q" + std::to_string(q), "t" + std::to_string(t)), 1).has_value();
      }
    }
    return found;
  };
  EXPECT_EQ(count(), entries);
  Open();
  EXPECT_EQ(book_->entries(), entries);
  EXPECT_EQ(count(), entries);
}

}  // namespace
}  // namespace holdfast::cache
