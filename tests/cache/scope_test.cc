#include "cache/scope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "tests/cache/cache_fixture.h"

namespace holdfast::cache {
namespace {

using core::Request;
using core::Role;
using testing::Ask;
using testing::Say;

std::string KeyOf(const Request& request) { return ScopeKey(DescribeScope(request)); }

TEST(Scope, LeavesOutTheLastQuestion) {
  EXPECT_EQ(KeyOf(Ask("Why is the sky blue?")), KeyOf(Ask("And the sea?")));
}

TEST(Scope, LeavesOutWhatDoesNotShapeTheAnswersMeaning) {
  Request other = Ask("q");
  other.request_id = "7";
  other.temperature = 0.3;
  other.max_output_tokens = 10;
  other.labels = {{"team", "a"}};
  other.cache.min_similarity = 0.9;
  EXPECT_EQ(KeyOf(Ask("q")), KeyOf(other));
}

TEST(Scope, EachOfItsPartsTellsScopesApart) {
  const std::vector<std::function<void(Request&)>> changes = {
      [](Request&) {},
      [](Request& r) { r.tenant = "other"; },
      [](Request& r) { r.route = "other"; },
      [](Request& r) { r.messages.insert(r.messages.begin(), Say(Role::kSystem, "Be brief.")); },
      [](Request& r) { r.messages.insert(r.messages.begin(), Say(Role::kUser, "Be brief.")); },
      [](Request& r) { r.messages.insert(r.messages.begin(), Say(Role::kSystem, "")); },
      [](Request& r) {
        r.messages.insert(r.messages.begin(), {Say(Role::kUser, "a"), Say(Role::kAssistant, "b")});
      },
      [](Request& r) {
        r.messages.insert(r.messages.begin(), {Say(Role::kUser, "b"), Say(Role::kAssistant, "a")});
      },
      [](Request& r) {
        r.messages.insert(r.messages.begin(), {Role::kUser, {core::Image{"u", "", ""}}});
      },
      [](Request& r) {
        r.messages.insert(r.messages.begin(), {Role::kUser, {core::Image{"", "u", ""}}});
      },
      [](Request& r) {
        r.messages.insert(r.messages.begin(), {Role::kTool, {core::ToolResult{"i", "n", "c"}}});
      },
      [](Request& r) {
        r.messages.insert(r.messages.begin(),
                          {Role::kTool, {core::ToolResult{"i", "n", "c", true}}});
      },
      [](Request& r) { r.tools = {{"t", "d", "{}"}}; },
      [](Request& r) { r.tools = {{"t", "d", ""}}; },
      [](Request& r) { r.tools = {{"t", "d", "{}"}, {"t", "d", "{}"}}; },
      [](Request& r) {
        r.tools = {{"t", "d", "{}"}};
        r.tool_choice.kind = core::ToolChoice::Kind::kNone;
      },
      [](Request& r) { r.response_format.kind = core::ResponseFormat::Kind::kJsonObject; },
      [](Request& r) {
        r.response_format = {core::ResponseFormat::Kind::kJsonSchema, "response", "{}"};
      },
  };
  std::set<std::string> keys;
  for (const auto& change : changes) {
    Request request = Ask("q");
    change(request);
    keys.insert(KeyOf(request));
  }
  EXPECT_EQ(keys.size(), changes.size());
}

TEST(Scope, NoTextCanPassForAnotherPart) {
  // What would collide if fields were only strung together.
  EXPECT_NE(KeyOf(Ask("q", "ab", "c")), KeyOf(Ask("q", "a", "bc")));
  EXPECT_NE(KeyOf(Ask("q", "a", "")), KeyOf(Ask("q", "", "a")));
  EXPECT_NE(KeyOf(Ask("q", std::string("a\0b", 3), "c")), KeyOf(Ask("q", "a", "b")));
  Request one = Ask("q");
  one.messages.insert(one.messages.begin(), {Role::kUser, {core::Text{"ab"}, core::Text{"c"}}});
  Request two = Ask("q");
  two.messages.insert(two.messages.begin(), {Role::kUser, {core::Text{"a"}, core::Text{"bc"}}});
  EXPECT_NE(KeyOf(one), KeyOf(two));
}

TEST(Scope, KeysParseBackAndTenantsAndRoutesArePrefixes) {
  const std::string key = KeyOf(Ask("q", std::string("te\0nant", 7), "ro\xFFute"));
  const std::string longer = key + "0123456789abcdef";
  const auto parsed = ParseScope(longer);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->tenant, std::string_view("te\0nant", 7));
  EXPECT_EQ(parsed->route, "ro\xFFute");
  EXPECT_EQ(parsed->size, key.size());
  EXPECT_TRUE(key.starts_with(TenantPrefix(std::string_view("te\0nant", 7))));
  EXPECT_TRUE(key.starts_with(RoutePrefix(std::string_view("te\0nant", 7), "ro\xFFute")));
  EXPECT_FALSE(key.starts_with(TenantPrefix("te")));
  for (size_t cut = 0; cut < key.size(); ++cut) EXPECT_FALSE(ParseScope(key.substr(0, cut))) << cut;
}

// What a scope is made of, drawn from few values so that near misses abound.
struct Parts {
  std::vector<std::string> values;
  friend auto operator<=>(const Parts&, const Parts&) = default;
};

std::pair<Parts, Request> RandomRequest(std::mt19937& random) {
  const std::vector<std::string> texts = {"", "a", "b", "ab", "aa", std::string("a\0", 2), "\x01"};
  const auto text = [&] { return texts[random() % texts.size()]; };
  const std::string tenant = text();
  const std::string route = text();
  Parts parts{{tenant, route}};
  Request request = Ask("question " + std::to_string(random()), tenant, route);
  std::vector<core::Message> earlier;
  for (size_t i = random() % 3; i > 0; --i) {
    const auto role = static_cast<Role>(random() % 3);
    const std::string said = text();
    earlier.push_back(Say(role, said));
    parts.values.insert(parts.values.end(), {"turn", core::Name(role), said});
  }
  request.messages.insert(request.messages.begin(), earlier.begin(), earlier.end());
  for (size_t i = random() % 2; i > 0; --i) {
    const core::Tool tool{text(), text(), text()};
    request.tools.push_back(tool);
    parts.values.insert(parts.values.end(), {"tool", tool.name, tool.description, tool.parameters});
  }
  if (random() % 3 == 0) {
    request.response_format = {core::ResponseFormat::Kind::kJsonSchema, "r", text()};
    parts.values.insert(parts.values.end(), {"format", request.response_format.schema});
  }
  return {parts, request};
}

TEST(Scope, WhatARouteIgnoresInSystemPromptsIsNoDifference) {
  const core::Patterns date({R"(Today is \d{4}-\d\d-\d\d)"});
  const auto key = [&](core::Role role, const std::string& text) {
    core::Request request;
    request.tenant = "t";
    request.route = "r";
    request.messages = {Say(role, text), Say(core::Role::kUser, "Why?")};
    return ScopeKey(DescribeScope(request, date));
  };
  const auto system = core::Role::kSystem;
  EXPECT_EQ(key(system, "Be kind. Today is 2026-11-24."),
            key(system, "Be kind. Today is 2026-11-25."));
  EXPECT_NE(key(system, "Be kind. Today is 2026-11-24."),
            key(system, "Be rude. Today is 2026-11-24."));
  EXPECT_NE(key(system, "Be kind. Today is 2026-11-24."), key(system, "Be kind. "));
  EXPECT_NE(key(core::Role::kUser, "Today is 2026-11-24."),
            key(core::Role::kUser, "Today is 2026-11-25."));
}

TEST(Scope, PropertyKeysAreEqualExactlyWhenThePartsAre) {
  std::mt19937 random(20260101);
  std::map<Parts, std::string> by_parts;
  std::map<std::string, Parts> by_key;
  for (int i = 0; i < 20000; ++i) {
    const auto [parts, request] = RandomRequest(random);
    const std::string key = KeyOf(request);
    EXPECT_EQ(by_parts.try_emplace(parts, key).first->second, key);
    EXPECT_EQ(by_key.try_emplace(key, parts).first->second, parts);
    const auto parsed = ParseScope(key);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(parsed->tenant, request.tenant);
    EXPECT_EQ(parsed->route, request.route);
  }
  EXPECT_GT(by_parts.size(), 1000u);
  // No key begins another one, so the range of a scope holds that scope alone.
  for (auto it = by_key.begin(); std::next(it) != by_key.end(); ++it) {
    EXPECT_FALSE(std::next(it)->first.starts_with(it->first));
  }
}

}  // namespace
}  // namespace holdfast::cache
