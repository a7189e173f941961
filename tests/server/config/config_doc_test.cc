// docs/configuration.md against the table of keys, in both directions.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "server/config/keys.h"
#include "tests/server/config/config_testing.h"

namespace holdfast::server {
namespace {

const std::string kBegin = "<!-- keys: begin -->\n";
const std::string kEnd = "<!-- keys: end -->\n";

std::set<std::string> Rows(const std::string& text) {
  std::set<std::string> rows;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("| `")) rows.insert(line);
  }
  return rows;
}

// HOLDFAST_UPDATE_DOCS=1 writes the tables instead of comparing them.
TEST(ConfigDocTest, ListsEveryKeyAsTheCodeHasIt) {
  const std::string path = SourceFile("docs/configuration.md");
  const std::string doc = ReadFile(path);
  const size_t begin = doc.find(kBegin);
  const size_t end = doc.find(kEnd);
  ASSERT_NE(begin, std::string::npos) << path;
  ASSERT_NE(end, std::string::npos) << path;
  const size_t from = begin + kBegin.size();
  const std::string wanted = KeysAsMarkdown() + "\n";
  if (std::getenv("HOLDFAST_UPDATE_DOCS") != nullptr) {
    std::ofstream(path, std::ios::binary) << doc.substr(0, from) + wanted + doc.substr(end);
    return;
  }
  const std::string found = doc.substr(from, end - from);
  const std::set<std::string> in_code = Rows(wanted);
  const std::set<std::string> in_doc = Rows(doc);
  for (const std::string& row : in_code) EXPECT_TRUE(in_doc.contains(row)) << "missing: " << row;
  for (const std::string& row : in_doc) EXPECT_TRUE(in_code.contains(row)) << "not so: " << row;
  EXPECT_EQ(found, wanted) << "HOLDFAST_UPDATE_DOCS=1 ctest -R config_test rewrites the tables";
}

TEST(ConfigDocTest, EveryKeyIsWhole) {
  std::set<std::string> paths;
  for (const KeyDoc& doc : DescribeKeys()) {
    EXPECT_TRUE(paths.insert(doc.path).second) << doc.path;
    EXPECT_FALSE(doc.type.empty()) << doc.path;
    EXPECT_TRUE(doc.effect.ends_with(".")) << doc.path;
    for (const std::string* cell : {&doc.default_text, &doc.range, &doc.effect}) {
      EXPECT_EQ(cell->find_first_of("|\n"), std::string::npos) << doc.path;
    }
    const bool may_have_none = doc.type == "map" || doc.path.ends_with("<name>");
    EXPECT_TRUE(may_have_none || !doc.default_text.empty()) << doc.path;
  }
}

// The names that the shape of the file binds.
TEST(ConfigDocTest, HasTheBindingNames) {
  std::set<std::string> paths;
  for (const KeyDoc& doc : DescribeKeys()) paths.insert(doc.path);
  for (const char* path : {"listen",
                           "admin_listen",
                           "data_dir",
                           "drain",
                           "admission.max_in_progress",
                           "admission.max_queue",
                           "limits.prompt_text",
                           "limits.request",
                           "limits.response",
                           "allow_unauthenticated",
                           "providers[].name",
                           "providers[].kind",
                           "providers[].base_url",
                           "providers[].api_key",
                           "providers[].headers",
                           "providers[].rate_limit_scope",
                           "providers[].breaker.consecutive_failures",
                           "providers[].breaker.failure_rate",
                           "providers[].breaker.window",
                           "providers[].breaker.min_calls",
                           "providers[].breaker.black_hole",
                           "providers[].breaker.open",
                           "providers[].breaker.open_max",
                           "providers[].breaker.half_open_probes",
                           "providers[].breaker.half_open_successes",
                           "providers[].limiter.max",
                           "providers[].models.<model>.breaker.open",
                           "routes[].name",
                           "routes[].timeout",
                           "routes[].min_useful",
                           "routes[].worst_acceptable",
                           "routes[].on_refusal",
                           "routes[].on_break",
                           "routes[].chain[].provider",
                           "routes[].chain[].model",
                           "routes[].chain[].context_window",
                           "routes[].chain[].can_continue",
                           "routes[].chain[].share",
                           "routes[].chain[].timeouts.connect",
                           "routes[].chain[].timeouts.first_token",
                           "routes[].chain[].timeouts.idle",
                           "routes[].chain[].price.input",
                           "routes[].chain[].price.cached_input",
                           "routes[].chain[].price.output",
                           "routes[].retry.max_retries",
                           "routes[].retry.max_attempts",
                           "routes[].retry.base",
                           "routes[].retry.cap",
                           "routes[].retry.prefer_wait",
                           "routes[].retry.max_wait",
                           "routes[].retry.budget.tokens",
                           "routes[].retry.budget.per_success",
                           "routes[].retry.budget.per_minute",
                           "routes[].retry.budget.min_in_flight",
                           "routes[].retry.budget.in_flight_ratio",
                           "routes[].cache.min_similarity",
                           "routes[].cache.max_age",
                           "routes[].partial.notice",
                           "routes[].partial.target.provider",
                           "routes[].partial.target.model"}) {
    EXPECT_TRUE(paths.contains(path)) << path;
  }
}

}  // namespace
}  // namespace holdfast::server
