#include "server/config/config_print.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/server/config/config_testing.h"

namespace holdfast::server {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// What is printed is loaded, and prints the same again.
std::string RoundTrip(const Config& config) {
  const std::string printed = PrintConfig(config);
  const LoadResult again = Load(printed);
  EXPECT_THAT(again.faults, IsEmpty())
      << (again.faults.empty() ? "" : Format(again.faults[0])) << "\n"
      << printed;
  if (again.config) EXPECT_EQ(PrintConfig(*again.config), printed);
  return printed;
}

TEST(ConfigPrintTest, TheSmallestFileWithItsDefaults) {
  const LoadResult loaded = Load(kMinimal);
  ASSERT_TRUE(loaded.config);
  const std::string printed = RoundTrip(*loaded.config);
  for (const char* line :
       {"listen: \"127.0.0.1:50051\"", "drain: 20s", "prompt_text: 1MiB", "window: 2m",
        "failure_rate: 0.5", "max_retries: 3", "cap: 30s", "min_similarity: 0.85", "max_age: 168h",
        "worst_acceptable: partial", "on_refusal: final", "kind: openai"}) {
    EXPECT_THAT(printed, HasSubstr(line));
  }
}

TEST(ConfigPrintTest, TheShippedFile) {
  const LoadResult loaded =
      LoadConfig(SourceFile("config/holdfast.yaml"), EnvironmentOf(kShippedVariables));
  ASSERT_TRUE(loaded.config);
  const std::string printed = RoundTrip(*loaded.config);
  EXPECT_THAT(printed, Not(HasSubstr("sk-")));
}

TEST(ConfigPrintTest, SecretsAreMasked) {
  const LoadResult loaded = Load(
      "providers:\n"
      "  - name: p\n"
      "    kind: openai\n"
      "    base_url: https://example.com/v1/\n"
      "    path: /deployments/{model}/chat?api-version=2024-06-01&sig=hush1&x\n"
      "    api_key: hush2\n"
      "    api_key_header: api-key\n"
      "    headers: {x-other: hush3, \"OpenAI-Organization\": \"hush4\"}\n"
      "    proxy: socks5h://hush5:hush6@proxy.example.com:1080\n" +
      kRoutes);
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  EXPECT_EQ(loaded.config->providers[0].options.base_url, "https://example.com/v1");
  const std::string printed = RoundTrip(*loaded.config);
  EXPECT_THAT(printed, Not(HasSubstr("hush")));
  EXPECT_THAT(printed, HasSubstr("api_key: \"***\""));
  EXPECT_THAT(printed, HasSubstr("\"x-other\": \"***\""));
  EXPECT_THAT(printed, HasSubstr("proxy: \"socks5h://***@proxy.example.com:1080\""));
  EXPECT_THAT(printed,
              HasSubstr("path: \"/deployments/{model}/chat?api-version=2024-06-01&sig=***&x\""));
}

TEST(ConfigPrintTest, NoFaultOrWarningRepeatsASecret) {
  const LoadResult loaded = Load(
      "listen: ${HUSH}\n"
      "drain: \"${HUSH}\"\n"
      "providers:\n"
      "  - name: p\n"
      "    kind: ${HUSH}\n"
      "    base_url: http://hush:hush@example.com/v1\n"
      "    path: hush\n"
      "    api_key: {hush: hush}\n"
      "    headers: {a: \"hush\\n\", b: ${\n      }\n"
      "    proxy: hush://hush:hush@h\n" +
          kRoutes,
      {{"HUSH", "hush"}});
  EXPECT_FALSE(loaded.config);
  const LoadResult other = Load(
      "listen: ${HUSH}\n"
      "drain: \"${HUSH}\"\n"
      "providers:\n"
      "  - name: p\n"
      "    kind: ${HUSH}\n"
      "    base_url: http://hush:hush@example.com/v1\n"
      "    path: hush\n"
      "    api_key: [hush]\n"
      "    headers: {a: \"hush\\n\", b: \"file:/no/such/place\", c: 12345}\n"
      "    proxy: hush://hush:hush@h\n" +
          kRoutes,
      {{"HUSH", "hush"}});
  EXPECT_EQ(other.faults.size(), 10u);
  for (const Fault& fault : other.faults) {
    EXPECT_THAT(Format(fault), Not(HasSubstr("hush")));
    EXPECT_THAT(Format(fault), Not(HasSubstr("12345")));
  }
  for (const std::string& warning : other.warnings) EXPECT_THAT(warning, Not(HasSubstr("hush")));
}

TEST(ConfigPrintTest, AwkwardTextsSurvive) {
  const LoadResult loaded = Load(
      "data_dir: \"$${HOME}/a b: # \\\"c\\\" $$${X}\"\n"
      "providers:\n"
      "  - {name: \"123\", kind: openai, base_url: \"http://127.0.0.1:1/v1\",\n"
      "     models: {\"true\": {tools: false}, \"a: b\": {id: \"~\"}}}\n"
      "routes:\n"
      "  - name: \"null\"\n"
      "    chain: [{provider: \"123\", model: \"true\"}, {provider: \"123\", model: \"a: b\"}]\n"
      "    partial: {notice: \"Später — \\\"bald\\\" 😀\\nnoch einmal\"}\n");
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  EXPECT_EQ(loaded.config->data_dir, "${HOME}/a b: # \"c\" $${X}");
  const LoadResult again = Load(RoundTrip(*loaded.config));
  ASSERT_TRUE(again.config);
  EXPECT_EQ(again.config->data_dir, loaded.config->data_dir);
  EXPECT_EQ(again.config->routes[0].partial.notice, loaded.config->routes[0].partial.notice);
  EXPECT_EQ(again.config->providers[0].models.at("a: b").options.model, "~");
}

TEST(ConfigPrintTest, WhatCannotTakeEffectIsNotPrinted) {
  const LoadResult loaded = Load(
      "providers:\n"
      "  - {name: p, kind: anthropic, base_url: \"http://127.0.0.1:1\",\n"
      "     breaker: {consecutive_failures: 1, open: 60s, open_max: 60s},\n"
      "     models: {m: {breaker: {consecutive_failures: 3, failure_rate: 0}}}}\n"
      "routes:\n"
      "  - {name: default, chain: [{provider: p, model: m}], retry: {max_retries: 0}}\n");
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  RoundTrip(*loaded.config);
}

}  // namespace
}  // namespace holdfast::server
