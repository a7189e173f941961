// A disk that is really full: a small file system in a mount namespace of its own.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "cache/answer_book.h"
#include "tests/cache/cache_fixture.h"

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;
using testing::Ask;
using testing::ScriptedEmbedder;
using testing::TempDir;

constexpr char kDirectory[] = "HOLDFAST_SMALL_DISK";
constexpr size_t kAnswerBytes = 100'000;

// So that no compression makes room.
std::string AnswerTo(int number) {
  std::mt19937 random(static_cast<unsigned>(number));
  std::string answer(kAnswerBytes, '\0');
  for (char& c : answer) c = static_cast<char>(random());
  return answer;
}

// Not a test but what runs inside.
TEST(DiskFullInside, DISABLED_ReadOnlyUntilThereIsRoom) {
  const char* small_disk = std::getenv(kDirectory);
  if (small_disk == nullptr) return;
  const fs::path filler = fs::path(small_disk) / "filler";
  std::ofstream(filler) << std::string(16 << 20, 'x');
  const core::SystemClock clock;
  core::SeededRandom random(1);
  const ScriptedEmbedder embedder(16);
  SemanticCacheOptions options;
  options.directory = fs::path(small_disk) / "cache";
  int warnings = 0;
  options.warn = [&](const std::string&) { ++warnings; };
  const ScopeSource scope = DescribeScope(Ask("", "t"));
  const auto question = [](int number) { return "question " + std::to_string(number); };
  std::vector<int> acknowledged;
  int next = 0;
  const auto store = [&](AnswerBook& book) {
    const int number = next++;
    const bool stored =
        book.Insert(scope, question(number), {AnswerTo(number), "p", "m"}, clock.WallNow());
    if (stored) acknowledged.push_back(number);
    return stored;
  };
  const auto expect_all = [&](AnswerBook& book) {
    for (const int number : acknowledged) {
      const auto hit =
          book.Find(scope, question(number), {1, std::chrono::hours(1)}, [] { return false; });
      ASSERT_TRUE(hit) << number;
      ASSERT_TRUE(hit->text == AnswerTo(number)) << number;
    }
    EXPECT_EQ(book.entries(), acknowledged.size());
  };
  {
    AnswerBook book(options, embedder, clock, random);
    while (store(book)) ASSERT_LT(next, 10'000) << "it never gets full";
    EXPECT_TRUE(book.store().read_only());
    EXPECT_EQ(warnings, 1);
    expect_all(book);
    for (int i = 0; i < 20; ++i) store(book);  // a small one may still find room
    expect_all(book);
    fs::remove(filler);
    while (!store(book)) std::this_thread::yield();
    EXPECT_FALSE(book.store().read_only());
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(store(book));
    expect_all(book);
  }
  // A start, and another, with not a byte of room.
  std::ofstream(filler) << std::string(64 << 20, 'x');
  for (int start = 0; start < 2; ++start) {
    AnswerBook book(options, embedder, clock, random);
    EXPECT_EQ(book.store().problem(), "");
    expect_all(book);
    while (store(book)) ASSERT_LT(next, 10'000) << "it never gets full";
    EXPECT_TRUE(book.store().read_only());
    std::ofstream(filler, std::ios::app) << std::string(64 << 20, 'x');
  }
  fs::remove(filler);
  AnswerBook book(options, embedder, clock, random);
  EXPECT_EQ(book.store().problem(), "");
  EXPECT_TRUE(store(book));
  expect_all(book);
  EXPECT_EQ(book.store().read_errors(), 0u);
}

int ExitCodeOf(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& one : command) arguments.push_back(const_cast<char*>(one.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = fork();
  HOLDFAST_CHECK(child >= 0);
  if (child == 0) {
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  int status = 0;
  HOLDFAST_CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

TEST(DiskFull, TheCacheIsReadOnlyAndComesBackByItself) {
  TempDir dir;
  const std::string mount = "mount -t tmpfs -o size=56m tmpfs " + dir.path().string();
  const auto within = [&](const std::string& command) {
    return ExitCodeOf(
        {"unshare", "--mount", "--map-root-user", "sh", "-c", mount + " && " + command});
  };
  if (within("true") != 0) GTEST_SKIP() << "no file system can be mounted here";
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(within(std::string(kDirectory) + "=" + dir.path().string() + " exec " + self +
                   " --gtest_also_run_disabled_tests --gtest_filter=DiskFullInside.*" +
                   " --gtest_brief=1"),
            0);
}

}  // namespace
}  // namespace holdfast::cache
