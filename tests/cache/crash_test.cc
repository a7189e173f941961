// A process that dies by kill -9 while it stores, and what the next one finds.
// HOLDFAST_CRASH_ROUNDS sets how often (`make test-crash`: 200).

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "cache/answer_book.h"
#include "cache/hash_embedder.h"
#include "tests/cache/cache_fixture.h"

namespace holdfast::cache {
namespace {

using testing::Answered;
using testing::Ask;
using testing::TempDir;

constexpr char kDirectory[] = "HOLDFAST_CRASH_DIRECTORY";
constexpr char kFirst[] = "HOLDFAST_CRASH_FIRST";
constexpr int kDefaultRounds = 20;
constexpr int kTenants = 2;      // a thread each
constexpr int kQuestions = 120;  // then they come again and replace their answers

std::string Tenant(int tenant) { return "tenant " + std::to_string(tenant); }
std::string Question(int number) {
  return "question number " + std::to_string(number % kQuestions);
}
std::string AnswerTo(int number) { return std::to_string(number) + std::string(1000, 'x'); }
ScopeSource ScopeFor(int tenant) { return DescribeScope(Ask("", Tenant(tenant))); }

SemanticCacheOptions Options(const std::string& directory) {
  SemanticCacheOptions options;
  options.directory = directory;
  options.flat_limit = 40;  // so that there are graphs, and saved ones
  return options;
}

// Not a test but the process that is killed: it says each number once its entry is stored.
TEST(CrashWriter, DISABLED_StoresUntilItIsKilled) {
  const char* directory = std::getenv(kDirectory);
  ASSERT_NE(directory, nullptr);
  const core::SystemClock clock;
  core::SeededRandom random(static_cast<uint64_t>(getpid()));
  const HashEmbedder embedder(64);
  AnswerBook book(Options(directory), embedder, clock, random);
  const int first = std::atoi(std::getenv(kFirst));
  std::vector<std::thread> threads;
  for (int tenant = 0; tenant < kTenants; ++tenant) {
    threads.emplace_back([&book, &clock, tenant, first] {
      for (int number = first; getppid() != 1; ++number) {
        // Some owe their vector, and it is paid as it goes.
        const InsertOptions how{.embed_later = number % 7 == 0};
        const bool stored = book.Insert(ScopeFor(tenant), Question(number),
                                        Answered(AnswerTo(number)), clock.WallNow(), how);
        if (stored) std::fprintf(stderr, "stored %d %d\n", tenant, number);
        if (number % 5 == 0) book.Tend();
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

using Numbers = std::array<int, kTenants>;

// Reads up to the next number that was said; false at the end.
bool ReadNumber(FILE* said, Numbers& last) {
  char line[256];
  int tenant = 0, number = 0;
  while (std::fgets(line, sizeof(line), said) != nullptr) {
    if (std::sscanf(line, "stored %d %d\n", &tenant, &number) != 2) continue;
    last.at(static_cast<size_t>(tenant)) = number;
    return true;
  }
  return false;
}

// Runs the writer and kills it once it has said so many numbers; returns each tenant's last.
Numbers WriteAndKill(const std::string& directory, int first, int acknowledgements) {
  int ends[2];
  HOLDFAST_CHECK(pipe(ends) == 0);
  const pid_t writer = fork();
  HOLDFAST_CHECK(writer >= 0);
  if (writer == 0) {
    dup2(ends[1], STDERR_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    setenv(kDirectory, directory.c_str(), 1);
    setenv(kFirst, std::to_string(first).c_str(), 1);
    unsetenv("GTEST_OUTPUT");
    execl("/proc/self/exe", "cache_test", "--gtest_filter=CrashWriter.*",
          "--gtest_also_run_disabled_tests", static_cast<char*>(nullptr));
    _exit(127);
  }
  close(ends[1]);
  FILE* said = fdopen(ends[0], "r");
  Numbers last;
  last.fill(first - 1);
  int count = 0;
  while (count < acknowledgements && ReadNumber(said, last)) ++count;
  kill(writer, SIGKILL);
  int status = 0;
  waitpid(writer, &status, 0);
  while (ReadNumber(said, last)) {
  }  // said before it died
  std::fclose(said);
  EXPECT_EQ(count, acknowledgements);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  return last;
}

class Crash : public ::testing::Test {
 protected:
  // What may stand under each question: the latest that was acknowledged, or what was under way.
  struct Allowed {
    int acknowledged = -1;
    int under_way = -1;
  };

  int NumberIn(const std::string& answer) {
    const int number = std::atoi(answer.c_str());
    EXPECT_EQ(answer, AnswerTo(number)) << "half an answer";
    return number;
  }

  void Check(AnswerBook& book, int tenant, std::map<int, Allowed>& questions) {
    for (auto& [question, allowed] : questions) {
      const auto give_up = [] { return false; };
      const auto hit =
          book.Find(ScopeFor(tenant), Question(question), {1.0, std::chrono::hours(24)}, give_up);
      if (allowed.acknowledged < 0 && !hit) continue;
      ASSERT_TRUE(hit) << question;
      const int number = NumberIn(hit->text);
      EXPECT_TRUE(number == allowed.acknowledged || number == allowed.under_way)
          << number << " instead of " << allowed.acknowledged;
      allowed = {number, -1};
      // By its vector it is the same, but for what a graph may overlook.
      const auto ranked =
          book.Explain(ScopeFor(tenant), Question(question), 0.9999, std::chrono::hours(24));
      bool indexed = false;
      for (const Considered& one : ranked) indexed |= one.entry.id == hit->entry_id;
      ++(indexed ? indexed_ : overlooked_);
    }
  }

  const core::SystemClock clock_;
  core::SeededRandom ids_{1};
  int indexed_ = 0;
  int overlooked_ = 0;
  const HashEmbedder embedder_{64};
};

TEST_F(Crash, WhatWasStoredOutlivesKillNine) {
  const char* wanted = std::getenv("HOLDFAST_CRASH_ROUNDS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : kDefaultRounds;
  TempDir dir;
  const std::string directory = (dir.path() / "cache").string();
  std::mt19937 random(5);
  std::array<std::map<int, Allowed>, kTenants> tenants;
  int next = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    const Numbers last =
        WriteAndKill(directory, next, 1 + static_cast<int>(random() % (round % 4 == 0 ? 200 : 40)));
    for (size_t t = 0; t < kTenants; ++t) {
      for (int n = next; n <= last[t]; ++n) tenants[t][n % kQuestions].acknowledged = n;
      tenants[t][(last[t] + 1) % kQuestions].under_way = last[t] + 1;
    }
    SemanticCacheOptions options = Options(directory);
    std::string warned;
    options.warn = [&](const std::string& text) { warned = text; };
    AnswerBook book(options, embedder_, clock_, ids_);
    EXPECT_EQ(warned, "");
    while (book.work_due()) book.Tend();
    EXPECT_EQ(book.debts(), 0u);
    for (size_t t = 0; t < kTenants; ++t) {
      ASSERT_NO_FATAL_FAILURE(Check(book, static_cast<int>(t), tenants[t]));
    }
    size_t exported = 0;
    book.Export("", "", [&](const ExportedEntry& one) {
      ++exported;
      EXPECT_EQ(one.details.bytes, one.entry.question.size() + one.entry.answer.size());
      return true;
    });
    EXPECT_EQ(exported, book.entries());
    EXPECT_EQ(book.indexed(), book.entries());
    EXPECT_EQ(book.Newest(100'000).size(), book.entries());
    EXPECT_EQ(book.store().read_errors(), 0u);
    next = std::max(last[0], last[1]) + 2;
    // One change, so that this process's end saves the graphs and the next start has both, a saved
    // one and what came after it.
    for (size_t t = 0; t < kTenants; ++t) {
      ASSERT_TRUE(book.Insert(ScopeFor(static_cast<int>(t)), Question(next),
                              Answered(AnswerTo(next)), clock_.WallNow()));
      tenants[t][next % kQuestions] = {next, -1};
    }
    ++next;
    if (HasFailure()) return;
  }
  EXPECT_GT(indexed_, 10 * rounds);
  EXPECT_LE(overlooked_ * 50, indexed_) << "what a graph may overlook";
}

}  // namespace
}  // namespace holdfast::cache
