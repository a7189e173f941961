#include "cache/answer_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <set>
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
  void TendAll() {
    for (int steps = 0; book_->work_due(); ++steps) {
      ASSERT_LT(steps, 10'000);
      book_->Tend();
    }
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
    EXPECT_TRUE(Find(Ask(asked), cosine - 1e-4)) << cosine;
    EXPECT_TRUE(Find(Ask(asked), cosine)) << cosine;
    EXPECT_FALSE(Find(Ask(asked), cosine + 1e-4)) << cosine;
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

// Whatever happens to the files: it starts, it serves what is right or nothing, it stores again.
TEST_F(AnswerBookTest, PropertyTornAndFlippedFilesAreNeverServed) {
  const ScriptedEmbedder wide(32);
  std::mt19937 random(3);
  constexpr int kRounds = 40;
  int lost = 0, kept = 0;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    options_.flat_limit = 20;
    Open(wide);
    const auto question = [](int i) { return "q" + std::to_string(i); };
    // Long and hard to compress, so that there are many blocks to harm.
    const auto answer = [&](int i) {
      std::mt19937 letters(static_cast<unsigned>(i));
      std::string text = question(i) + " ";
      for (int n = 0; n < 3000; ++n) text += static_cast<char>('!' + letters() % 90);
      return text;
    };
    for (int i = 0; i < 60; ++i) ASSERT_TRUE(Put(Ask(question(i)), answer(i)));
    ASSERT_TRUE(Put(Ask("gone", "gone"), "a"));
    book_->Purge({.tenant = "gone"});
    book_->Purge({.entry_id = Find(Ask(question(0)))->entry_id});  // all into files
    for (int i = 60; i < 80; ++i) ASSERT_TRUE(Put(Ask(question(i)), answer(i)));
    TendAll();
    book_.reset();

    std::vector<std::filesystem::path> files;
    for (const auto& item : std::filesystem::recursive_directory_iterator(options_.directory)) {
      if (!item.is_regular_file() || item.file_size() == 0) continue;
      // In every other round one bit of the data itself.
      if (round % 2 == 0 || item.path().extension() == ".sst") files.push_back(item.path());
    }
    std::sort(files.begin(), files.end());
    for (size_t harm = round % 2 == 0 ? 1 + random() % 3 : 1; harm > 0; --harm) {
      auto file = files[random() % files.size()];
      if (round % 2 == 1) {  // the largest: the entries
        file = *std::max_element(files.begin(), files.end(), [](const auto& a, const auto& b) {
          return std::filesystem::file_size(a) < std::filesystem::file_size(b);
        });
      }
      const auto size = std::filesystem::file_size(file);
      if (size == 0) continue;
      const auto at = random() % size;
      if (round % 2 == 0 && random() % 2 == 0) {
        std::filesystem::resize_file(file, at);
      } else {
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(static_cast<std::streamoff>(at));
        const char byte = static_cast<char>(stream.get() ^ (1 << (random() % 8)));
        stream.seekp(static_cast<std::streamoff>(at));
        stream.put(byte);
      }
    }
    Open(wide);
    TendAll();
    for (int i = 1; i < 80; ++i) {
      const auto hit = Find(Ask(question(i)), 0.9);
      if (round % 2 == 1) ++(hit ? kept : lost);
      if (hit) EXPECT_EQ(hit->text, answer(i));
      const std::string asked = "like " + question(i);
      const_cast<ScriptedEmbedder&>(wide).Set(asked, wide.Embed(question(i)));
      const auto near = Find(Ask(asked), 0.999);
      if (near) EXPECT_EQ(near->text, answer(i));
    }
    ASSERT_TRUE(Put(Ask("again"), "again"));
    EXPECT_EQ(Answer(Ask("again"), 1), "again");
    book_.reset();
    std::filesystem::remove_all(options_.directory);
  }
  EXPECT_GT(lost, 0) << "nothing was harmed";
  EXPECT_GT(kept, lost) << "one block's damage is not the loss of all";
  book_.reset();
}

TEST_F(AnswerBookTest, ManySmallScopesCostWhatTheirBytesCost) {
  constexpr size_t kWide = 384, kScopes = 300, kEach = 10;
  const ScriptedEmbedder wide(kWide);
  Open(wide);
  for (size_t i = 0; i < kScopes * kEach; ++i) {
    const std::string question = "q" + std::to_string(i);
    ASSERT_TRUE(Put(Ask(question, "t" + std::to_string(i / kEach)), "a"));
  }
  Open(wide);
  TendAll();
  EXPECT_EQ(book_->scopes(), kScopes);
  constexpr size_t kBytes = kWide * 2 + sizeof(float) + kQuestionKeySize + 2 * sizeof(uint64_t);
  EXPECT_GE(book_->index_bytes(), kScopes * kEach * kBytes);
  EXPECT_LE(book_->index_bytes(), kScopes * kEach * kBytes * 5 / 4);
  book_.reset();
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
  const ScriptedEmbedder wide(64);  // in which no two are nearly the same
  Open(wide);
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
  Open(wide);
  EXPECT_EQ(book_->entries(), 4u);
  EXPECT_TRUE(Find(Ask("q24", "t0"), 1));
  book_.reset();
}

TEST_F(AnswerBookTest, WhatIsServedStaysAndWhatHasATwinGoesFirst) {
  const ScriptedEmbedder wide(64);
  options_.max_entries = 20;
  Open(wide);
  const auto put = [&](int i) {
    ASSERT_TRUE(Put(Ask("q" + std::to_string(i)), std::to_string(i)));
    clock_.Advance(seconds(1));
  };
  const auto left = [&] {
    std::set<std::string> answers;
    book_->Export("", "", [&](const ExportedEntry& exported) {
      answers.insert(exported.entry.answer);
      return true;
    });
    return answers;
  };
  for (int i = 0; i < 20; ++i) put(i);
  for (int hits = 0; hits < 8; ++hits) EXPECT_TRUE(Find(Ask("q0")));
  EXPECT_TRUE(Find(Ask("q3")));
  const_cast<ScriptedEmbedder&>(wide).Set("q20", wide.Embed("q12"));
  put(20);
  EXPECT_EQ(left().size(), 20u);
  EXPECT_FALSE(left().contains("12")) << "a newer entry serves the same question";
  for (int i = 21; i < 24; ++i) put(i);
  for (const char* gone : {"1", "2", "4"}) EXPECT_FALSE(left().contains(gone)) << gone;
  for (const char* kept : {"0", "3", "5"}) EXPECT_TRUE(left().contains(kept)) << kept;
  // What is served while it waits to go stays; the counts outlive a restart.
  EXPECT_TRUE(Find(Ask("q5")));
  put(24);
  EXPECT_TRUE(left().contains("5"));
  EXPECT_FALSE(left().contains("6"));
  Open(wide);
  for (int i = 25; i < 30; ++i) put(i);
  EXPECT_TRUE(left().contains("0"));
  EXPECT_EQ(left().size(), 20u);
  book_.reset();
}

TEST_F(AnswerBookTest, PinnedEntriesNeitherExpireNorGo) {
  const ScriptedEmbedder wide(64);
  options_.max_entries = 5;
  options_.retention = hours(1);
  Open(wide);
  const auto pin = [&](const std::string& question) {
    return book_->Insert(DescribeScope(Ask(question)), question, Answered(question),
                         clock_.WallNow(), {.pinned = true});
  };
  ASSERT_TRUE(pin("p1"));
  ASSERT_TRUE(pin("p2"));
  clock_.Advance(hours(2));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Put(Ask("q" + std::to_string(i)), "a"));
  EXPECT_EQ(book_->entries(), 5u);
  EXPECT_EQ(Answer(Ask("p1"), 1, seconds(1)), "p1");
  const_cast<ScriptedEmbedder&>(wide).Set("like p2", wide.Embed("p2"));
  EXPECT_EQ(Answer(Ask("like p2"), 1, seconds(1)), "p2");
  Open(wide);
  EXPECT_EQ(Answer(Ask("like p2"), 1, seconds(1)), "p2");
  EXPECT_EQ(book_->Purge({.tenant = "default"}), 5u) << "a purge takes them too";
  book_.reset();
}

TEST_F(AnswerBookTest, BytesAreCappedToo) {
  const ScriptedEmbedder wide(64);
  options_.max_bytes = 1000;
  Open(wide);
  const auto put = [&](const std::string& question, size_t size) {
    ASSERT_EQ(question.size(), 2u);
    ASSERT_TRUE(Put(Ask(question), std::string(size - 2, 'x')));
    clock_.Advance(seconds(1));
  };
  put("q1", 400);
  put("q2", 600);
  EXPECT_EQ(book_->entry_bytes(), 1000u);
  EXPECT_EQ(book_->entries(), 2u);
  put("q3", 2);
  EXPECT_EQ(book_->entry_bytes(), 602u);
  EXPECT_FALSE(Find(Ask("q1"), 1));
  put("q3", 100);  // replaced
  EXPECT_EQ(book_->entry_bytes(), 700u);
  Open(wide);
  EXPECT_EQ(book_->entry_bytes(), 700u);
  put("q4", 1000);
  EXPECT_EQ(book_->entry_bytes(), 1000u);
  EXPECT_EQ(book_->entries(), 1u);
  EXPECT_EQ(book_->Purge({}), 1u);
  EXPECT_EQ(book_->entry_bytes(), 0u);
  book_.reset();
}

TEST_F(AnswerBookTest, EachRouteHasItsRetention) {
  options_.retention = hours(10);
  options_.route_retention = {{"short", hours(1)}, {"long", hours(100)}};
  Open();
  const auto fill = [&] {
    for (const char* route : {"short", "other", "long"}) {
      ASSERT_TRUE(Put(Ask("q", "t", route), route));
    }
  };
  const auto left = [&] { return book_->Newest(9).size(); };
  fill();
  for (const auto& [wait, expected] : {std::pair(core::Duration(hours(1)), 3u),
                                       {std::chrono::minutes(1), 2u},
                                       {hours(9), 1u},
                                       {hours(90), 0u}}) {
    clock_.Advance(wait);
    TendAll();
    EXPECT_EQ(left(), expected);
    EXPECT_EQ(book_->entries(), expected);
  }
  EXPECT_EQ(book_->expired(), 3u);
}

TEST_F(AnswerBookTest, PurgeByLabel) {
  const auto put = [&](const std::string& question, const std::string& tenant,
                       std::vector<std::pair<std::string, std::string>> labels) {
    ASSERT_TRUE(book_->Insert(DescribeScope(Ask(question, tenant)), question, Answered("a"),
                              clock_.WallNow(), {.labels = std::move(labels)}));
  };
  put("1", "t", {{"team", "x"}, {"user", "7"}});
  put("2", "t", {{"team", "y"}});
  put("3", "u", {{"team", "x"}});
  put("4", "u", {{"x", "team"}});
  EXPECT_EQ(book_->Purge({.labels = {{"team", "z"}}}), 0u);
  EXPECT_EQ(book_->Purge({.labels = {{"team", "x"}, {"user", "8"}}}), 0u);
  EXPECT_EQ(book_->Purge({.tenant = "t", .labels = {{"team", "x"}}}), 1u);
  EXPECT_FALSE(Find(Ask("1", "t"), 1));
  EXPECT_TRUE(Find(Ask("3", "u"), 1));
  Open();
  EXPECT_EQ(book_->Purge({.labels = {{"team", "x"}}}), 1u);
  EXPECT_EQ(book_->entries(), 2u);
  EXPECT_TRUE(Find(Ask("2", "t"), 1));
  EXPECT_TRUE(Find(Ask("4", "u"), 1));
}

TEST_F(AnswerBookTest, APinnedAnswerGivesWayToAnotherPinnedOneAlone) {
  const ScopeSource scope = DescribeScope(Ask("q"));
  const auto put = [&](const std::string& answer, const InsertOptions& options) {
    clock_.Advance(seconds(1));
    return book_->InsertInto(ScopeKey(scope), "q", Answered(answer), clock_.WallNow(), options);
  };
  EXPECT_EQ(put("approved", {.pinned = true}), Inserted::kStored);
  EXPECT_EQ(put("a provider's", {}), Inserted::kKept);
  EXPECT_EQ(Answer(Ask("q")), "approved");
  EXPECT_EQ(put("corrected", {.pinned = true}), Inserted::kStored);
  EXPECT_EQ(Answer(Ask("q")), "corrected");
  EXPECT_EQ(book_->entries(), 1u);
}

TEST_F(AnswerBookTest, OfTheSameQuestionTheNewerStaysIfTold) {
  options_.retention = hours(10);
  Open();
  const ScopeSource scope = DescribeScope(Ask("q"));
  const auto put = [&](const std::string& answer, core::Duration age, InsertOptions options) {
    return book_->InsertInto(ScopeKey(scope), "q", Answered(answer), clock_.WallNow() - age,
                             options);
  };
  EXPECT_EQ(put("a", hours(10) + nanoseconds(1), {}), Inserted::kTooOld);
  EXPECT_EQ(put("a", hours(2), {.keep_newer = true}), Inserted::kStored);
  EXPECT_EQ(put("b", hours(2) + nanoseconds(1), {.keep_newer = true}), Inserted::kKept);
  EXPECT_EQ(put("c", hours(2), {.keep_newer = true}), Inserted::kStored);
  EXPECT_EQ(put("d", hours(1), {.keep_newer = true}), Inserted::kStored);
  EXPECT_EQ(put("e", hours(9), {}), Inserted::kStored);
  EXPECT_EQ(put("f", hours(99), {.pinned = true, .keep_newer = true}), Inserted::kStored);
  EXPECT_EQ(Answer(Ask("q")), "f");
}

TEST_F(AnswerBookTest, AnExplanationHasTheSameQuestionThoughItOwesItsVector) {
  embedder_.SetCosine("q", 1);
  embedder_.SetCosine("near", 0.9);
  ASSERT_TRUE(Put(Ask("near"), "b"));
  ASSERT_TRUE(book_->Insert(DescribeScope(Ask("q")), "q", Answered("a"), clock_.WallNow(),
                            {.embed_later = true}));
  const auto explain = [&](core::Duration max_age) {
    std::string answers;
    for (const auto& one : book_->Explain(DescribeScope(Ask("Q?")), "Q?", -1, max_age)) {
      answers += one.entry.answer;
    }
    return answers;
  };
  embedder_.SetCosine("Q?", 1);
  EXPECT_EQ(explain(hours(1)), "ab");
  TendAll();
  EXPECT_EQ(explain(hours(1)), "ab");
  clock_.Advance(hours(2));
  EXPECT_EQ(explain(hours(1)), "");
}

TEST_F(AnswerBookTest, AnExportGoesOnWhereItStopped) {
  for (const char* tenant : {"t1", "t2"}) {
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(Put(Ask("q" + std::to_string(i), tenant), tenant));
  }
  const auto read = [&](const std::string& prefix, size_t at_once) {
    std::vector<std::string> keys;
    std::string after;
    for (bool more = true; more;) {
      size_t seen = 0;
      more = false;
      book_->Export(prefix, after, [&](const ExportedEntry& one) {
        if (seen++ == at_once) {
          more = true;
          return false;
        }
        keys.push_back(after = one.key);
        return true;
      });
    }
    return keys;
  };
  const auto all = read("", 100);
  EXPECT_EQ(all.size(), 10u);
  EXPECT_EQ(read("", 1), all);
  EXPECT_EQ(read("", 3), all);
  EXPECT_EQ(read(TenantPrefix("t2"), 2), std::vector<std::string>(all.begin() + 5, all.end()));
}

// Whatever it is purged by, no file of the directory holds it any more, and what stays is there.
TEST_F(AnswerBookTest, WhatIsPurgedIsGoneFromTheFiles) {
  const auto files_with = [&](const std::string& text) {
    std::vector<std::string> names;
    for (const auto& item : std::filesystem::recursive_directory_iterator(dir_.path())) {
      if (!item.is_regular_file()) continue;
      std::ifstream file(item.path(), std::ios::binary);
      const std::string content(std::istreambuf_iterator<char>(file), {});
      if (content.find(text) != std::string::npos) names.push_back(item.path().filename());
    }
    return names;
  };
  // Such text is not compressed, so it would be seen.
  std::mt19937 random(1);
  const auto word = [&] {
    std::string text;
    for (int i = 0; i < 24; ++i) text += static_cast<char>('A' + random() % 26);
    return text;
  };
  struct Told {
    std::string tenant, question, answer, label;
  };
  const auto put = [&](const Told& told) {
    return book_->Insert(DescribeScope(Ask("", told.tenant)), told.question, Answered(told.answer),
                         clock_.WallNow(), {.labels = {{"label", told.label}}});
  };
  for (const bool written_out : {false, true}) {
    for (const std::string by : {"entry", "tenant", "label", "everything"}) {
      SCOPED_TRACE(by + (written_out ? ", written out" : ""));
      const Told gone{word(), word(), word(), word()};
      const Told stays{word(), word(), word(), word()};
      ASSERT_TRUE(put(gone));
      ASSERT_TRUE(put(stays));
      if (written_out) Open();  // from the log to the tables
      for (const std::string& text : {gone.tenant, gone.question, gone.answer, gone.label}) {
        ASSERT_FALSE(files_with(text).empty());
      }
      PurgeFilter filter;
      if (by == "entry") {
        const auto hit = book_->Find(DescribeScope(Ask("", gone.tenant)), gone.question,
                                     {0.5, hours(1)}, [] { return false; });
        ASSERT_TRUE(hit);
        filter.entry_id = hit->entry_id;
      }
      if (by == "tenant") filter.tenant = gone.tenant;
      if (by == "label") filter.labels = {{"label", gone.label}};
      EXPECT_GE(book_->Purge(filter), 1u);
      for (const std::string& text : {gone.tenant, gone.question, gone.answer, gone.label}) {
        EXPECT_THAT(files_with(text), ::testing::IsEmpty());
      }
      for (const std::string& text : {stays.question, stays.answer}) {
        EXPECT_EQ(files_with(text).empty(), by == "everything");
      }
    }
  }
}

// Down, or able to embed.
class FlakyEmbedder final : public core::Embedder {
 public:
  explicit FlakyEmbedder(const ScriptedEmbedder& inner) : inner_(inner) {}
  std::string id() const override { return inner_.id(); }
  size_t dimension() const override { return inner_.dimension(); }
  std::vector<float> Embed(std::string_view text) const override { return inner_.Embed(text); }
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override {
    std::vector<absl::StatusOr<core::Embedding>> results;
    for (const std::string_view text : texts) {
      if (down) {
        results.emplace_back(absl::UnavailableError("down"));
      } else {
        results.emplace_back(core::Embedding{inner_.Embed(text)});
      }
    }
    return results;
  }
  bool down = false;

 private:
  const ScriptedEmbedder& inner_;
};

TEST_F(AnswerBookTest, WhatCannotBeEmbeddedNowIsStoredAndEmbeddedLater) {
  FlakyEmbedder flaky(embedder_);
  Open(flaky);
  for (const char* text : {"q1", "q2", "asked"}) embedder_.SetCosine(text, 1);
  ASSERT_TRUE(book_->Insert(DescribeScope(Ask("q1")), "q1", Answered("a1"), clock_.WallNow(),
                            {.embed_later = true}));
  flaky.down = true;
  clock_.Advance(seconds(1));
  ASSERT_TRUE(Put(Ask("q2"), "a2"));
  EXPECT_EQ(book_->debts(), 2u);
  EXPECT_EQ(book_->entries(), 2u);
  EXPECT_EQ(Answer(Ask("q2")), "a2") << "found by its words";
  EXPECT_FALSE(Find(Ask("asked"))) << "and this cannot be embedded";
  TendAll();
  EXPECT_EQ(book_->debts(), 2u);
  flaky.down = false;
  EXPECT_FALSE(Find(Ask("asked")));
  Open(flaky);  // nothing of it is forgotten
  EXPECT_EQ(book_->debts(), 2u);
  EXPECT_FALSE(Find(Ask("asked")));
  TendAll();
  EXPECT_EQ(book_->debts(), 0u);
  EXPECT_EQ(Answer(Ask("asked")), "a2");
  EXPECT_EQ(book_->Purge({.entry_id = Find(Ask("q2"))->entry_id}), 1u);
  EXPECT_EQ(Answer(Ask("asked")), "a1");
  Open(flaky);
  EXPECT_EQ(Answer(Ask("asked")), "a1");
  book_.reset();
}

TEST_F(AnswerBookTest, ADebtWaitsWhileTheEmbedderIsDown) {
  FlakyEmbedder flaky(embedder_);
  Open(flaky);
  flaky.down = true;
  ASSERT_TRUE(Put(Ask("q"), "a"));
  EXPECT_TRUE(book_->work_due());
  book_->Tend();
  EXPECT_FALSE(book_->work_due()) << "trying again at once is of no use";
  flaky.down = false;
  clock_.Advance(std::chrono::minutes(1));
  EXPECT_TRUE(book_->work_due());
  TendAll();
  EXPECT_EQ(book_->debts(), 0u);
  book_.reset();
}

// So much later each time it is asked.
class TickingClock final : public core::Clock {
 public:
  core::SteadyTime Now() const override { return core::SteadyTime((ticks_ += tick)); }
  core::WallTime WallNow() const override { return FakeClock::kWallStart; }

  core::Duration tick{};

 private:
  mutable core::Duration ticks_ = hours(1000);
};

TEST_F(AnswerBookTest, ALongScanIsContentWithWhatItHasSeenInItsTime) {
  constexpr int kCount = 13'000;  // four steps
  options_.flat_limit = kCount;
  options_.directory = "";
  TickingClock clock;
  book_ = std::make_unique<AnswerBook>(options_, embedder_, clock, random_);
  const ScopeSource scope = DescribeScope(Ask(""));
  for (int i = 0; i < kCount; ++i) {
    std::vector<float> vector = {-1, 0};
    if (i == 0) vector = {0.96f, 0.28f};
    if (i == kCount - 1) vector = {1, 0};
    ASSERT_TRUE(book_->Insert(scope, std::to_string(i), Answered(std::to_string(i)),
                              clock.WallNow(), {.vector = std::move(vector)}));
  }
  embedder_.Set("asked", {1, 0});
  const auto find = [&](core::Duration tick) {
    clock.tick = tick;
    const auto hit = book_->Find(scope, "asked", {0.85, hours(1)}, [] { return false; });
    clock.tick = {};
    return hit ? hit->text : "";
  };
  EXPECT_EQ(find(milliseconds(1)), std::to_string(kCount - 1));
  EXPECT_EQ(book_->scans_cut(), 0u);
  EXPECT_EQ(find(milliseconds(25)), "0");
  EXPECT_EQ(book_->scans_cut(), 1u);
  clock.tick = milliseconds(25);  // a person waits
  EXPECT_EQ(book_->Explain(scope, "asked", 0.85, hours(1)).front().entry.question,
            std::to_string(kCount - 1));
}

TEST_F(AnswerBookTest, ALargeScopeServesWhileItLoadsAndItsGraphIsTakenUp) {
  constexpr int kCount = 9000;  // more than is loaded at once
  const ScriptedEmbedder wide(16);
  options_.flat_limit = 200;
  Open(wide);
  for (int i = 0; i < kCount; ++i) {
    ASSERT_TRUE(Put(Ask("q" + std::to_string(i)), std::to_string(i)));
  }
  TendAll();
  EXPECT_TRUE(book_->ready());
  // Asked in other words, so that the index must find it.
  const auto found = [&] {
    int count = 0;
    for (int i = 0; i < kCount; i += 15) {
      const std::string asked = "like q" + std::to_string(i);
      const_cast<ScriptedEmbedder&>(wide).Set(asked, wide.Embed("q" + std::to_string(i)));
      const std::string answer = Answer(Ask(asked), 0.9999);
      if (answer == std::to_string(i)) ++count;
    }
    return count;
  };
  EXPECT_GE(found(), 594);
  book_.reset();
  EXPECT_TRUE(std::filesystem::exists(options_.directory / "index"));
  Open(wide);
  EXPECT_FALSE(book_->ready());
  const int early = found();
  EXPECT_GT(early, 50) << "a part is there already";
  EXPECT_LT(early, 300);
  EXPECT_EQ(Answer(Ask("q8999"), 1), "8999") << "the same words are found at once";
  // Changes while it loads.
  ASSERT_TRUE(Put(Ask("q0"), "changed"));
  const std::string gone = Find(Ask("q8990"))->entry_id;
  EXPECT_EQ(book_->Purge({.entry_id = gone}), 1u);
  int steps = 0;
  for (; !book_->ready(); ++steps) {
    ASSERT_LT(steps, 30) << "the graph was built anew";
    book_->Tend();
  }
  EXPECT_GE(steps, 3);
  EXPECT_GE(found(), 592);
  EXPECT_EQ(Answer(Ask("like q0"), 0.9999), "changed");
  EXPECT_NE(Answer(Ask("like q8990"), 0.9999), "8990");
  // A damaged one is built anew.
  book_.reset();
  for (const auto& item :
       std::filesystem::recursive_directory_iterator(options_.directory / "index")) {
    if (item.path().filename() == "graph") std::filesystem::resize_file(item.path(), 1000);
  }
  Open(wide);
  TendAll();
  EXPECT_GE(found(), 592);
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(book_->Purge({}), static_cast<size_t>(kCount) - 1);
  EXPECT_TRUE(std::filesystem::is_empty(options_.directory / "index"));
  book_.reset();
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
  other.Set("like first", other.Embed("first"));
  const int before = other.calls();
  Open(other);
  EXPECT_EQ(Answer(Ask("first"), 1), "a") << "the same question needs no vector";
  EXPECT_EQ(Answer(Ask("like first")), "") << "the old vector is another language";
  EXPECT_EQ(book_->debts(), 2u);
  Open(other);
  EXPECT_EQ(book_->debts(), 2u) << "the debt is durable";
  TendAll();
  EXPECT_EQ(book_->debts(), 0u);
  EXPECT_EQ(other.calls(), before + 1 + 2) << "a question and both entries";
  EXPECT_EQ(Answer(Ask("like first")), "a");
  Open(other);
  EXPECT_EQ(book_->debts(), 0u);
  EXPECT_EQ(Answer(Ask("like first")), "a");
  EXPECT_EQ(other.calls(), before + 1 + 2 + 2);
  // The same size, but other vectors: comparing them would be a hit.
  ScriptedEmbedder third(3, "third");
  third.Set("first", {1, 0, 0});
  third.Set("second", {0, 0, 0});
  third.Set("asked", other.Embed("first"));
  Open(third);
  EXPECT_FALSE(Find(Ask("asked"), 0.999));
  TendAll();
  EXPECT_FALSE(Find(Ask("asked"), 0.999));
  EXPECT_EQ(book_->debts(), 0u);
  EXPECT_EQ(Answer(Ask("first"), 1), "a");
  EXPECT_EQ(book_->rejected_vectors(), 1u);
  // Back again: what the third could not embed is still there.
  Open(other);
  EXPECT_EQ(Answer(Ask("second"), 1), "b");
  other.Set("like second", other.Embed("second"));
  EXPECT_FALSE(Find(Ask("like second"), 0.999));
  TendAll();
  EXPECT_EQ(Answer(Ask("like second"), 0.999), "b");
  book_.reset();
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
  embedder_.SetCosine("q", 1);
  embedder_.SetCosine("like q", 0.99);
  ASSERT_TRUE(Put(Ask("q"), "a"));
  EXPECT_TRUE(Find(Ask("like q"), 0.5));
  for (int steps = 0; steps < 3; ++steps) {
    int asked = 0;
    EXPECT_FALSE(book_->Find(DescribeScope(Ask("q")), "like q", {0.5, hours(1)},
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
  const ScriptedEmbedder wide(32);
  Open(wide);
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
  Open(wide);
  EXPECT_EQ(book_->entries(), entries);
  EXPECT_EQ(count(), entries);
  book_.reset();
}

}  // namespace
}  // namespace holdfast::cache
