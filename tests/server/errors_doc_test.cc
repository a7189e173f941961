// docs/errors.md against the code: every reason, outcome and skip that the sources can say is
// documented, and nothing else is.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "core/outcome.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::server {
namespace {

using Words = std::set<std::string>;

std::filesystem::path SourceDir() {
  const char* dir = std::getenv("HOLDFAST_SOURCE_DIR");
  return dir ? dir : ".";
}

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The first back-quoted word of each row between the marks.
Words Documented(const std::string& table) {
  const std::string doc = ReadFile(SourceDir() / "docs/errors.md");
  const size_t begin = doc.find("<!-- " + table + ": begin -->");
  const size_t end = doc.find("<!-- " + table + ": end -->");
  EXPECT_NE(begin, std::string::npos) << table;
  EXPECT_NE(end, std::string::npos) << table;
  Words words;
  std::istringstream lines(doc.substr(begin, end - begin));
  const std::regex word("`([A-Za-z_]+)`");
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_search(line, match, word)) words.insert(match[1]);
  }
  return words;
}

// What the pattern's only group finds in the sources of a folder.
Words InSources(const std::string& folder, const std::string& pattern) {
  Words words;
  const std::regex regex(pattern);
  for (const auto& entry : std::filesystem::directory_iterator(SourceDir() / folder)) {
    if (entry.path().extension() != ".cc") continue;
    const std::string text = ReadFile(entry.path());
    for (auto it = std::sregex_iterator(text.begin(), text.end(), regex);
         it != std::sregex_iterator(); ++it) {
      words.insert((*it)[1]);
    }
  }
  return words;
}

Words Union(Words a, const Words& b) {
  a.insert(b.begin(), b.end());
  return a;
}

TEST(ErrorsDocTest, Reasons) {
  const std::string screaming = R"re("([A-Z]+(?:_[A-Z]+)*)")re";
  Words said = InSources("resilience", R"re(reason = )re" + screaming);
  said = Union(said, InSources("server", R"re(reason = )re" + screaming));
  said = Union(said, InSources("server", R"re(Refuse\([^;"]*)re" + screaming));
  EXPECT_GE(said.size(), 12u);
  EXPECT_EQ(Documented("reasons"), said);
}

TEST(ErrorsDocTest, Outcomes) {
  Words names;
  for (int i = 0; i <= static_cast<int>(core::OutcomeKind::kCancelled); ++i) {
    names.insert(core::Name(static_cast<core::OutcomeKind>(i)));
  }
  EXPECT_EQ(Documented("outcomes"), names);
}

// The body of a member function of Call, by the text between its head and the next one's.
std::string BodyOf(const std::string& head) {
  std::string text;
  for (const char* file : {"call.cc", "call_hedge.cc", "call_outcome.cc"}) {
    text += ReadFile(SourceDir() / "resilience" / file);
  }
  const size_t begin = text.find(head);
  EXPECT_NE(begin, std::string::npos) << head;
  return text.substr(begin, text.find("\n}\n", begin) - begin);
}

Words Quoted(const std::string& text) {
  Words words;
  const std::regex regex(
      R"re((?:return|denied =|retry_skipped =|\?|:) (?:TimeIsUp\(\) \? )?"([a-z_]+)")re");
  for (auto it = std::sregex_iterator(text.begin(), text.end(), regex);
       it != std::sregex_iterator(); ++it) {
    words.insert((*it)[1]);
  }
  return words;
}

TEST(ErrorsDocTest, Skips) {
  Words said = Union(Quoted(BodyOf("Call::WhyNot(")), Quoted(BodyOf("Call::Acquire(")));
  said = Union(said, Quoted(BodyOf("Call::TryTarget(")));
  EXPECT_GE(said.size(), 8u);
  for (const std::string& word : said) {
    EXPECT_TRUE(Documented("skips").contains(word)) << word;
  }
  // The API's own list, in the comment of Attempt.skipped.
  const std::string proto = ReadFile(SourceDir() / "proto/holdfast/v1/generate.proto");
  for (const std::string& word : Documented("skips")) {
    EXPECT_NE(proto.find("\"" + word + "\""), std::string::npos) << word;
  }
}

TEST(ErrorsDocTest, RetrySkipped) {
  Words said = Union(Quoted(BodyOf("Call::WhyNoRetry(")), Quoted(BodyOf("Call::WhyNot(")));
  said = Union(said, Quoted(BodyOf("Call::BookLoser(")));
  EXPECT_GE(said.size(), 12u);
  EXPECT_EQ(Documented("retry"), said);
}

}  // namespace
}  // namespace holdfast::server
