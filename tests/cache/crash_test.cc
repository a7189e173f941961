// A process that dies by kill -9 while it stores, and what the next one finds.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <random>
#include <thread>

#include "cache/hash_embedder.h"
#include "cache/semantic_cache.h"
#include "tests/cache/cache_fixture.h"

namespace holdfast::cache {
namespace {

using testing::Answered;
using testing::Ask;
using testing::TempDir;

constexpr char kDirectory[] = "HOLDFAST_CRASH_DIRECTORY";
constexpr char kFirst[] = "HOLDFAST_CRASH_FIRST";

core::Request Question(int i) {
  return Ask("question number " + std::to_string(i), "t" + std::to_string(i % 3));
}
std::string AnswerTo(int i) { return std::to_string(i) + std::string(1000, 'x'); }

// Not a test but the process that is killed: it says each number once its entry is stored.
TEST(CrashWriter, DISABLED_StoresUntilItIsKilled) {
  const char* directory = std::getenv(kDirectory);
  ASSERT_NE(directory, nullptr);
  const core::SystemClock clock;
  core::SeededRandom random(static_cast<uint64_t>(getpid()));
  const HashEmbedder embedder(64);
  core::BlockingPool pool(1, 10);
  SemanticCacheOptions options;
  options.directory = directory;
  SemanticCache cache(options, embedder, pool, clock, random);
  for (int i = std::atoi(std::getenv(kFirst)); getppid() != 1; ++i) {
    cache.Store(Question(i), Answered(AnswerTo(i)));
    pool.Drain();
    std::fprintf(stderr, "stored %d\n", i);
  }
}

// Reads up to the next number that was said; false at the end.
bool ReadNumber(FILE* said, int& number) {
  char line[256];
  while (std::fgets(line, sizeof(line), said) != nullptr) {
    if (std::sscanf(line, "stored %d\n", &number) == 1) return true;
  }
  return false;
}

// Runs the writer and kills it once it has said `acknowledgements` numbers; returns the last.
int WriteAndKill(const std::string& directory, int first, int acknowledgements) {
  int ends[2];
  HOLDFAST_CHECK(pipe(ends) == 0);
  const pid_t writer = fork();
  HOLDFAST_CHECK(writer >= 0);
  if (writer == 0) {
    dup2(ends[1], STDERR_FILENO);
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
  int last = -1, count = 0;
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

TEST(Crash, WhatWasStoredOutlivesKillNine) {
  TempDir dir;
  const std::string directory = (dir.path() / "cache").string();
  std::mt19937 random(5);
  const core::SystemClock clock;
  core::SeededRandom ids(1);
  const HashEmbedder embedder(64);
  int next = 0;
  for (int round = 0; round < 5; ++round) {
    const int last = WriteAndKill(directory, next, 1 + static_cast<int>(random() % 60));
    next = last + 1;
    SemanticCacheOptions options;
    options.directory = directory;
    std::string warned;
    options.warn = [&](const std::string& text) { warned = text; };
    AnswerBook book(options, embedder, clock, ids);
    EXPECT_EQ(warned, "");
    // The one that was under way when it died may be whole; nothing may be half there.
    EXPECT_GE(book.entries(), static_cast<size_t>(next));
    EXPECT_LE(book.entries(), static_cast<size_t>(next) + 1);
    for (int i = 0; i < next; ++i) {
      const core::Request request = Question(i);
      const auto hit =
          book.Find(DescribeScope(request), std::get<core::Text>(request.messages[0].parts[0]).text,
                    {1.0, std::chrono::hours(24)}, [] { return false; });
      ASSERT_TRUE(hit) << i << " in round " << round;
      EXPECT_EQ(hit->text, AnswerTo(i));
    }
    EXPECT_EQ(book.Newest(100000).size(), book.entries());
    EXPECT_EQ(book.store().read_errors(), 0u);
    next = static_cast<int>(book.entries());
  }
}

}  // namespace
}  // namespace holdfast::cache
