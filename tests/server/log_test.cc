#include "server/log.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace holdfast::server {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }
  void TearDown() override { std::filesystem::remove(path_); }

  std::unique_ptr<Log> Open(LogOptions::Format format) const {
    return *Log::Open({.format = format, .file = path_});
  }
  std::vector<std::string> Lines() const {
    std::ifstream file(path_);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  const std::string path_ = std::filesystem::path(::testing::TempDir()) /
                            ("holdfast-log-test-" + std::to_string(getpid()));
};

TEST_F(LogTest, TextQuotesWhatIsNotPlain) {
  auto log = Open(LogOptions::Format::kText);
  log->Write(Log::Level::kWarning, "event",
             {{"plain", std::string("a/b-c")},
              {"spaced", std::string("a b")},
              {"forged", std::string("x\n2026 info request status=OK")},
              {"empty", std::string()},
              {"bad=key", true},
              {"int", int64_t{-5}},
              {"double", 0.1}});
  log.reset();
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_THAT(Lines()[0],
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{12}Z warning event plain=a/b-c .*"));
  EXPECT_THAT(Lines()[0], HasSubstr("spaced=\"a b\" forged=\"x\\n2026 info request status=OK\" "
                                    "empty=\"\" \"bad=key\"=true int=-5 double=0.1"));
}

TEST_F(LogTest, EveryJsonLineIsAnObject) {
  auto log = Open(LogOptions::Format::kJson);
  log->Write(Log::Level::kInfo, "event",
             {{"q\"uote", std::string("\"\\\n\x01\xFF")},
              {"nan", std::numeric_limits<double>::quiet_NaN()},
              {"percent", std::string("%v {}")}});
  log.reset();
  ASSERT_EQ(Lines().size(), 1u);
  const auto line = nlohmann::json::parse(Lines()[0], nullptr, false);
  ASSERT_TRUE(line.is_object()) << Lines()[0];
  EXPECT_EQ(line["event"], "event");
  EXPECT_EQ(line["level"], "info");
  EXPECT_EQ(line["q\"uote"], "\"\\\n\x01\xEF\xBF\xBD");
  EXPECT_TRUE(line["nan"].is_null());
  EXPECT_EQ(line["percent"], "%v {}");
}

TEST_F(LogTest, ManyThreadsLoseNothingThatFitsTheQueue) {
  auto log = Open(LogOptions::Format::kJson);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&log] {
      for (int i = 0; i < 1000; ++i) log->Write(Log::Level::kInfo, "x", {{"i", int64_t{i}}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  log.reset();
  EXPECT_EQ(Lines().size(), 4000u);
}

TEST_F(LogTest, AFileThatCannotBeOpened) {
  const auto log = Log::Open({.file = "/dev/null/log"});
  ASSERT_FALSE(log.ok());
  EXPECT_THAT(std::string(log.status().message()), HasSubstr("/dev/null/log"));
}

}  // namespace
}  // namespace holdfast::server
