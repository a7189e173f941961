// `holdfastctl similarity`, as it is called: with hashes where any vectors will do, and with the
// shipped encoder where it must say what the server would do.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cache/answer_book.h"
#include "core/random.h"
#include "resilience/route.h"
#include "server/embedding.h"
#include "tests/fakes/fake_loop.h"
#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/progress.h"
#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Json = nlohmann::json;
using Strings = std::vector<std::string>;

class TempFile {
 public:
  explicit TempFile(const std::string& content) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << content;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  TempFile(const TempFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = std::filesystem::temp_directory_path() / "similarity_test.XXXXXX";
};

struct Result {
  int code = 0;
  std::vector<Json> lines;
  std::string err;
};

Result Similar(Strings args, const std::string& input = "") {
  std::istringstream in(input);
  std::ostringstream out, err;
  Console console{in,
                  out,
                  err,
                  false,
                  false,
                  false,
                  [](const std::string&) {
                    return std::optional<std::string>(); }};
  args.insert(args.begin(), "similarity");
  Result result{.code = RunCommandLine(args, console)};
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) result.lines.push_back(Json::parse(line));
  result.err = err.str();
  return result;
}

std::string Asking(const Strings& questions) {
  std::string lines;
  for (const std::string& question : questions) lines += Json{{"q", question}}.dump() + "\n";
  return lines;
}

TEST(SimilarityTest, EachPairHasItsLineWhateverElseStandsThere) {
  const TempFile pairs(R"({"a": "How do I boil an egg?", "b": "how do I  boil an egg", "label": 1})"
                       "\n"
                       R"({"b": "Who wrote Hamlet?", "a": "How do I boil an egg?", "w": [1, {}]})");
  const Result result = Similar({"--pairs", pairs.path(), "--embedder", "hash"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.err, "");
  ASSERT_THAT(result.lines, SizeIs(2));
  EXPECT_EQ(result.lines[0].at("cosine"), 1);
  EXPECT_EQ(result.lines[0].at("score"), 1);
  EXPECT_EQ(result.lines[0].at("serve"), true);
  EXPECT_LT(result.lines[1].at("score"), .85);
  EXPECT_EQ(result.lines[1].at("serve"), false);
  EXPECT_NE(result.lines[1].at("reason"), "");
}

TEST(SimilarityTest, BadLinesAreNamedAndKeepTheirPlaces) {
  const std::string good = R"({"a":"Why?","b":"why"})";
  const Result result =
      Similar({"--pairs", "-", "--embedder", "hash"},
              good + "\r\nnonsense\n\n[1]\n{\"a\":\"x\"}\n{\"a\":1,\"b\":\"x\"}\n" +
                  "{\"a\":\"\xff\",\"b\":\"x\"}\n" + good + "\n");
  EXPECT_EQ(result.code, kExitFailed);
  ASSERT_THAT(result.lines, SizeIs(8));
  for (const size_t bad : {1, 2, 3, 4, 5, 6}) {
    EXPECT_EQ(result.lines[bad].at("cosine"), Json());
    EXPECT_EQ(result.lines[bad].at("score"), Json());
    EXPECT_EQ(result.lines[bad].at("serve"), false);
    EXPECT_NE(result.lines[bad].at("reason"), "");
    EXPECT_THAT(result.err, HasSubstr("standard input:" + std::to_string(bad + 1) + ": "));
  }
  for (const size_t ok : {0, 7}) EXPECT_EQ(result.lines[ok].at("score"), 1);
  EXPECT_THAT(result.err, HasSubstr("\"b\" is missing"));
  EXPECT_THAT(result.err, HasSubstr("\"a\" is not a text"));
  EXPECT_THAT(result.err, EndsWith("6 lines could not be compared\n"));
}

TEST(SimilarityTest, WithoutWordsThereIsNothingToCompare) {
  const Result result = Similar({"--pairs", "-", "--embedder", "hash"},
                                "{\"a\":\"\",\"b\":\"\"}\n{\"a\":\"Why?\",\"b\":\" \"}\n");
  EXPECT_EQ(result.code, kExitOk);
  ASSERT_THAT(result.lines, SizeIs(2));
  EXPECT_EQ(result.lines[0].at("score"), Json());
  EXPECT_EQ(result.lines[1].at("score"), Json());
  EXPECT_EQ(result.lines[1].at("reason"), "b has no words to compare");
}

TEST(SimilarityTest, AnEntryIsNamedByItsLine) {
  const TempFile stored(
      "no json\n" + Asking({"How do I boil an egg?", "Who wrote Hamlet?", "", "Why is it so?"}));
  const TempFile asked(Asking({"who wrote hamlet", "how do i boil an egg", "xylophone", ""}) +
                       "no json\n");
  const Result result =
      Similar({"--stored", stored.path(), "--asked", asked.path(), "--embedder", "hash"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.err, HasSubstr(stored.path() + ":1: "));
  EXPECT_THAT(result.err, HasSubstr(asked.path() + ":5: "));
  ASSERT_THAT(result.lines, SizeIs(5));
  EXPECT_EQ(result.lines[0].at("entry"), 3);
  EXPECT_EQ(result.lines[0].at("serve"), true);
  EXPECT_EQ(result.lines[1].at("entry"), 2);
  // Nothing is near, but one is the nearest.
  EXPECT_TRUE(result.lines[2].at("entry").is_number());
  EXPECT_TRUE(result.lines[2].at("score").is_number());
  EXPECT_EQ(result.lines[2].at("serve"), false);
  for (const size_t none : {3, 4}) {
    EXPECT_EQ(result.lines[none].at("entry"), Json());
    EXPECT_EQ(result.lines[none].at("score"), Json());
    EXPECT_EQ(result.lines[none].at("serve"), false);
  }
}

TEST(SimilarityTest, NothingStoredIsNothingFound) {
  const Result result =
      Similar({"--stored", "/dev/null", "--asked", "-", "--embedder", "hash"}, Asking({"Why?"}));
  EXPECT_EQ(result.code, kExitOk);
  ASSERT_THAT(result.lines, SizeIs(1));
  EXPECT_EQ(result.lines[0].at("entry"), Json());
  EXPECT_THAT(Similar({"--pairs", "-", "--embedder", "hash"}).lines, IsEmpty());
}

TEST(SimilarityTest, FilesAndUsageAtFaultExitWithTwo) {
  EXPECT_EQ(Similar({}).code, kExitUsage);
  EXPECT_EQ(Similar({"--stored", "-"}).code, kExitUsage);
  EXPECT_EQ(Similar({"--asked", "-"}).code, kExitUsage);
  EXPECT_EQ(Similar({"--stored", "-", "--asked", "-"}).code, kExitUsage);
  EXPECT_EQ(Similar({"--pairs", "-", "--stored", "x", "--asked", "y"}).code, kExitUsage);
  EXPECT_EQ(Similar({"--pairs", "-", "--embedder", "hash", "--model", "x"}).code, kExitUsage);
  EXPECT_EQ(Similar({"--pairs", "/"}).code, kExitUsage);
  EXPECT_THAT(Similar({"--pairs", "/nonexistent"}).err, HasSubstr("/nonexistent: No such file"));
  const Result no_model = Similar({"--pairs", "-", "--model", "/nonexistent.hfm"});
  EXPECT_EQ(no_model.code, kExitUsage);
  EXPECT_THAT(no_model.err, HasSubstr("/nonexistent.hfm"));
  const TempFile damaged("no model");
  EXPECT_EQ(Similar({"--pairs", "-", "--model", damaged.path()}).code, kExitUsage);
}

// ---- With the shipped encoder

const Strings kStored = {
    "How do I sort a list in Python?",
    "How do I boil an egg?",
    "Who wrote Hamlet?",
    "How do I convert radians to degrees?",
    "Why did the Roman Empire fall?",
    "What is the capital of Australia?",
    "How do I take a screenshot on a Mac?",
};
const Strings kAsked = {
    "how do i sort a list in python",
    "How do I sort a list in JavaScript?",
    "How can I boil an egg?",
    "Who is the author of Hamlet?",
    "How do I convert degrees to radians?",
    "When did the Roman Empire fall?",
    "Please tell me what the capital of Australia is",
    "How can I take a screenshot on a Mac?",
    "zebra crossing fines",
};

TEST(SimilarityTest, ServesWhatTheServerWould) {
  const auto embedder = server::MakeEmbedder({});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const auto judge = server::MakeJudge({});
  testing::FakeClock clock;
  core::SeededRandom random(1);
  cache::AnswerBook book({}, **embedder, clock, random, *judge);
  for (size_t i = 0; i < kStored.size(); ++i) {
    ASSERT_TRUE(book.Insert({}, kStored[i], {.text = std::to_string(i + 1)}, clock.WallNow()));
  }
  const TempFile stored(Asking(kStored));
  const Result result = Similar({"--stored", stored.path(), "--asked", "-"}, Asking(kAsked));
  EXPECT_EQ(result.code, kExitOk) << result.err;
  ASSERT_THAT(result.lines, SizeIs(kAsked.size()));
  const resilience::RouteCacheOptions defaults;
  size_t served = 0;
  for (size_t i = 0; i < kAsked.size(); ++i) {
    const Json& line = result.lines[i];
    const auto hit =
        book.Find({}, kAsked[i], {defaults.min_similarity, defaults.max_age}, [] { return false; });
    EXPECT_EQ(line.at("serve"), hit.has_value()) << kAsked[i] << ": " << line;
    if (!hit) continue;
    ++served;
    EXPECT_EQ(std::to_string(line.at("entry").get<size_t>()), hit->text) << kAsked[i];
    EXPECT_NEAR(line.at("score").get<double>(), hit->similarity, 1e-3) << kAsked[i];
  }
  EXPECT_GE(served, 2u);
  EXPECT_LT(served, kAsked.size());
}

TEST(SimilarityTest, APairIsJudgedAsAStoredAndAnAskedQuestion) {
  std::string pairs;
  for (const std::string& asked : kAsked)
    pairs += Json{{"a", kStored[0]}, {"b", asked}}.dump() + "\n";
  const TempFile stored(Asking({kStored[0]}));
  const Result alone = Similar({"--pairs", "-"}, pairs);
  const Result found = Similar({"--stored", stored.path(), "--asked", "-"}, Asking(kAsked));
  ASSERT_THAT(alone.lines, SizeIs(kAsked.size()));
  ASSERT_THAT(found.lines, SizeIs(kAsked.size()));
  for (size_t i = 0; i < kAsked.size(); ++i) {
    EXPECT_EQ(alone.lines[i].at("serve"), found.lines[i].at("serve"));
    EXPECT_EQ(alone.lines[i].at("reason"), found.lines[i].at("reason"));
    EXPECT_NEAR(alone.lines[i].at("score").get<double>(), found.lines[i].at("score").get<double>(),
                1e-3);
    if (i > 0) EXPECT_NE(alone.lines[i].at("score"), alone.lines[i - 1].at("score"));
  }
}

TEST(SimilarityTest, OnlyWhereChecksRefuseEveryOneIsThereNoEntry) {
  const std::string portuguese = "Como faço para baixar meu colesterol sem remédio?";
  const Strings english = {"How do I lower my cholesterol without medication?"};
  const TempFile one(Asking(english));
  const Result refused = Similar({"--stored", one.path(), "--asked", "-"}, Asking({portuguese}));
  ASSERT_THAT(refused.lines, SizeIs(1));
  EXPECT_EQ(refused.lines[0].at("entry"), Json());
  EXPECT_EQ(refused.lines[0].at("score"), Json());
  EXPECT_EQ(refused.lines[0].at("serve"), false);
  EXPECT_NE(refused.lines[0].at("reason"), "");
  const TempFile two(Asking({english[0], "Qual é a capital do Brasil e por que ela não é o Rio?"}));
  const Result other = Similar({"--stored", two.path(), "--asked", "-"}, Asking({portuguese}));
  ASSERT_THAT(other.lines, SizeIs(1));
  EXPECT_EQ(other.lines[0].at("entry"), 2);
  EXPECT_EQ(other.lines[0].at("serve"), false);
}

// ---- The bar

TEST(ProgressTest, ShowsOnATerminalWhatTakesLong) {
  testing::FakeClock clock;
  std::ostringstream err;
  {
    Progress progress(clock, err, true, "importing", 200);
    progress.Add(50);
    EXPECT_EQ(err.str(), "");
    clock.Advance(std::chrono::milliseconds(300));
    progress.Add(50);
    EXPECT_EQ(err.str(), "\rimporting [###############...............] 50 %");
    progress.Add(100);  // too soon to draw again
    EXPECT_THAT(err.str(), EndsWith("50 %"));
  }
  EXPECT_THAT(err.str(), EndsWith("50 %\r\x1b[K"));
}

TEST(ProgressTest, IsSilentElsewhere) {
  testing::FakeClock clock;
  std::ostringstream err;
  Progress progress(clock, err, false, "importing", 2);
  clock.Advance(std::chrono::seconds(10));
  progress.Add(1);
  progress.Clear();
  EXPECT_EQ(err.str(), "");
}

}  // namespace
}  // namespace holdfast::ctl
