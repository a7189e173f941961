#include "server/config/config_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <random>
#include <string>

#include "server/config/config_print.h"
#include "tests/server/config/config_testing.h"

namespace holdfast::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// A provider with `more` among its keys, on line 2 and on.
std::string WithProvider(const std::string& more, const std::string& kind = "openai") {
  return "providers:\n  - name: p\n    kind: " + kind + "\n    base_url: http://127.0.0.1:1/v1\n" +
         more + kRoutes;
}

// A route with `more` among its keys, from line 7 on.
std::string WithRoute(const std::string& more) { return kMinimal + more; }

TEST(ConfigLoaderTest, TheSmallestFileHasTheShippedDefaults) {
  const LoadResult loaded = Load(kMinimal);
  ASSERT_TRUE(loaded.config);
  EXPECT_THAT(loaded.warnings, IsEmpty());
  const Config& config = *loaded.config;
  EXPECT_EQ(config.listen, "127.0.0.1:50051");
  EXPECT_EQ(config.limits.response, 3u << 20);
  EXPECT_EQ(config.providers[0].breaker, resilience::BreakerOptions{});
  EXPECT_EQ(config.providers[0].limiter, resilience::LimiterOptions{});
  EXPECT_EQ(config.providers[0].options.max_response_bytes, 3u << 20);
  EXPECT_EQ(config.routes[0].retry.budget, resilience::RetryBudgetOptions{});
  EXPECT_EQ(config.routes[0].retry.backoff, resilience::BackoffOptions{});
  EXPECT_EQ(config.routes[0].timeout, seconds(30));
  EXPECT_EQ(config.routes[0].chain[0].timeouts.first_token, seconds(10));
  EXPECT_GE(config.loops, 1);
}

// The shape that the names bind to, every key of it set to something else than its default.
TEST(ConfigLoaderTest, EveryBindingKeyIsRead) {
  const LoadResult loaded = Load(
      "listen: 127.0.0.1:1\n"
      "admin_listen: '[::1]:2'\n"
      "data_dir: /var/lib/x\n"
      "drain: 5s\n"
      "admission: {max_in_progress: 7, max_queue: 8}\n"
      "limits: {prompt_text: 2MiB, request: 4MiB, response: 1MiB}\n"
      "providers:\n"
      "  - name: anthropic\n"
      "    kind: anthropic\n"
      "    base_url: https://api.anthropic.com\n"
      "    api_key: ${ANTHROPIC_API_KEY}\n"
      "    headers: {}\n"
      "    rate_limit_scope: credential\n"
      "    breaker: {consecutive_failures: 6, failure_rate: 0.6, window: 121s, min_calls: 21,\n"
      "              black_hole: 11, open: 61s, open_max: 301s, half_open_probes: 3,\n"
      "              half_open_successes: 2}\n"
      "    limiter: {max: 1001}\n"
      "    models:\n"
      "      claude-haiku: {breaker: {open: 30s}}\n"
      "routes:\n"
      "  - name: default\n"
      "    timeout: 31s\n"
      "    min_useful: 2s\n"
      "    worst_acceptable: stale\n"
      "    on_refusal: next\n"
      "    on_break: restart\n"
      "    chain:\n"
      "      - {provider: anthropic, model: big, context_window: 200001, can_continue: false,\n"
      "         share: 0.8, timeouts: {connect: 3s, first_token: 11s, idle: 12s},\n"
      "         price: {input: 3, cached_input: 0.3, output: 15}}\n"
      "    retry: {max_retries: 4, max_attempts: 9, base: 2s, cap: 31s, prefer_wait: 4s,\n"
      "            max_wait: 21s,\n"
      "            budget: {tokens: 11, per_success: 0.2, per_minute: 4, min_in_flight: 5,\n"
      "                     in_flight_ratio: 0.3}}\n"
      "    cache: {min_similarity: 0.9, max_age: 24h}\n"
      "    partial: {notice: Later., target: {provider: anthropic, model: claude-haiku}}\n",
      {{"ANTHROPIC_API_KEY", "k"}});
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  const Config& config = *loaded.config;
  EXPECT_EQ(config.listen, "127.0.0.1:1");
  EXPECT_EQ(config.admin_listen, "[::1]:2");
  EXPECT_EQ(config.data_dir, "/var/lib/x");
  EXPECT_EQ(config.drain, seconds(5));
  EXPECT_EQ(config.admission, (resilience::AdmissionOptions{7, 8}));
  EXPECT_EQ(config.limits.prompt_text, 2u << 20);
  EXPECT_EQ(config.limits.request, 4u << 20);
  EXPECT_EQ(config.limits.response, 1u << 20);

  const ProviderConfig& provider = config.providers[0];
  EXPECT_EQ(provider.options.api_key, "k");
  EXPECT_EQ(provider.options.max_response_bytes, 1u << 20);
  EXPECT_EQ(provider.rate_limit_scope, resilience::RateLimitScope::kCredential);
  resilience::BreakerOptions breaker;
  breaker.consecutive_failures = 6;
  breaker.failure_rate = 0.6;
  breaker.window = seconds(121);
  breaker.min_calls = 21;
  breaker.black_hole = 11;
  breaker.open = seconds(61);
  breaker.open_max = seconds(301);
  breaker.half_open_probes = 3;
  breaker.half_open_successes = 2;
  EXPECT_EQ(provider.breaker, breaker);
  EXPECT_EQ(provider.limiter.max, 1001);

  const resilience::Route& route = config.routes[0];
  EXPECT_EQ(route.timeout, seconds(31));
  EXPECT_EQ(route.min_useful, seconds(2));
  EXPECT_EQ(route.worst_acceptable, core::Degradation::kStale);
  EXPECT_EQ(route.on_refusal, resilience::OnRefusal::kNext);
  EXPECT_EQ(route.on_break, core::OnBreak::kRestart);
  const resilience::Step& step = route.chain[0];
  EXPECT_EQ(step.context_window, 200001);
  EXPECT_EQ(step.can_continue, false);
  EXPECT_EQ(step.share, 0.8);
  EXPECT_EQ(step.timeouts.connect, seconds(3));
  EXPECT_EQ(step.timeouts.first_token, seconds(11));
  EXPECT_EQ(step.timeouts.idle, seconds(12));
  EXPECT_EQ(step.price->input, 3);
  EXPECT_EQ(step.price->cached_input, 0.3);
  EXPECT_EQ(step.price->output, 15);
  EXPECT_EQ(route.retry.max_retries, 4);
  EXPECT_EQ(route.retry.max_attempts, 9);
  EXPECT_EQ(route.retry.backoff, (resilience::BackoffOptions{seconds(2), seconds(31)}));
  EXPECT_EQ(route.retry.prefer_wait, seconds(4));
  EXPECT_EQ(route.retry.max_wait, seconds(21));
  EXPECT_EQ(route.retry.budget, (resilience::RetryBudgetOptions{11, 0.2, 4, 5, 0.3}));
  EXPECT_EQ(route.cache.min_similarity, 0.9);
  EXPECT_EQ(route.cache.max_age, hours(24));
  EXPECT_EQ(route.partial.notice, "Later.");
  EXPECT_EQ(route.partial.target->target, (core::TargetName{"anthropic", "claude-haiku"}));

  // A model's breaker differs from its provider's in what it says and nothing else.
  const std::vector<Deployment> deployments = Deployments(config);
  ASSERT_EQ(deployments.size(), 2u);
  EXPECT_EQ(deployments[0].target.breaker, breaker);
  breaker.open = seconds(30);
  EXPECT_EQ(deployments[1].target.breaker, breaker);
  EXPECT_EQ(deployments[1].target.limiter.max, 1001);
  EXPECT_EQ(deployments[1].target.rate_limit_scope, resilience::RateLimitScope::kCredential);
  EXPECT_EQ(deployments[1].provider, &provider);
  EXPECT_FALSE(deployments[1].model.seed);
  EXPECT_EQ(deployments[1].model.max_temperature, 1);
}

TEST(ConfigLoaderTest, TheOrderOfKeysDoesNotMatter) {
  const LoadResult loaded =
      Load(kRoutes +
           "providers:\n"
           "  - models: {m: {breaker: {open: 30s}, max_output_tokens: 99, id: wire}}\n"
           "    breaker: {window: 100s}\n"
           "    base_url: http://127.0.0.1:1/v1\n"
           "    kind: openai\n"
           "    name: p\n");
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  const Deployment deployment = Deployments(*loaded.config)[0];
  EXPECT_EQ(deployment.target.breaker.window, seconds(100));
  EXPECT_EQ(deployment.target.breaker.open, seconds(30));
  EXPECT_EQ(deployment.target.name.model, "m");
  EXPECT_EQ(deployment.model.model, "wire");
  EXPECT_EQ(loaded.config->routes[0].chain[0].max_output_tokens, 99);
}

TEST(ConfigLoaderTest, ThePartialTargetTakesAfterItsStepInTheChain) {
  const LoadResult loaded =
      Load(kProviders +
           "routes:\n"
           "  - name: default\n"
           "    chain: [{provider: p, model: m, context_window: 9, price: {input: 2, output: 3},\n"
           "             timeouts: {first_token: 7s, idle: 8s}}]\n"
           "    partial: {target: {provider: p, model: m, timeouts: {idle: 5s}}}\n");
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  const resilience::Step& target = *loaded.config->routes[0].partial.target;
  EXPECT_EQ(target.context_window, 9);
  EXPECT_EQ(target.price->output, 3);
  EXPECT_EQ(target.price->cached_input, 2);  // unset = input
  EXPECT_EQ(target.timeouts.first_token, seconds(7));
  EXPECT_EQ(target.timeouts.idle, seconds(5));
}

TEST(ConfigLoaderTest, TheShippedFileLoads) {
  const std::string path = SourceFile("config/holdfast.yaml");
  const LoadResult loaded = LoadConfig(path, EnvironmentOf(kShippedVariables));
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  EXPECT_THAT(loaded.warnings, IsEmpty());
  std::vector<std::string> chain;
  for (const auto& step : loaded.config->routes[0].chain) {
    chain.push_back(step.target.provider + "/" + step.target.model);
  }
  EXPECT_THAT(chain, ElementsAre("anthropic/claude-sonnet-4-20250514", "openai/gpt-4o",
                                 "anthropic/claude-haiku", "local/llama-3-8b"));
  // What it spells out are the defaults.
  EXPECT_EQ(loaded.config->providers[0].breaker, resilience::BreakerOptions{});
  EXPECT_EQ(loaded.config->routes[0].retry.budget, resilience::RetryBudgetOptions{});
}

TEST(ConfigLoaderTest, EveryUnsetVariableOfTheShippedFileIsNamed) {
  const LoadResult loaded =
      LoadConfig(SourceFile("config/holdfast.yaml"), EnvironmentOf({{"OPENAI_API_KEY", ""}}));
  std::string shown;
  for (const Fault& fault : loaded.faults) shown += Format(fault) + "\n";
  EXPECT_EQ(loaded.faults.size(), 3u) << shown;
  EXPECT_THAT(shown, HasSubstr("providers[0].api_key: the environment variable ANTHROPIC_API_KEY "
                               "is not set"));
  EXPECT_THAT(shown, HasSubstr("OPENAI_API_KEY is empty"));
  EXPECT_THAT(shown, HasSubstr("LOCAL_BASE_URL is not set"));
}

// --- Faults of single keys, with their places
// ------------------------------------------------------

TEST(ConfigLoaderTest, UnknownKeys) {
  EXPECT_THAT(Faults("lsiten: x\n" + kMinimal),
              ElementsAre("t.yaml:1:1: lsiten: unknown key; did you mean listen?"));
  EXPECT_THAT(Faults(WithProvider("    breaker: {open: 9s, opne: 9s, zzz: 1}\n")),
              ElementsAre("t.yaml:5:25: providers[0].breaker.opne: unknown key; did you mean open?",
                          "t.yaml:5:35: providers[0].breaker.zzz: unknown key"));
  EXPECT_THAT(Faults(WithRoute("    partial: {target: {provider: p, model: m, share: 0.5}}\n")),
              ElementsAre("t.yaml:7:47: routes[0].partial.target.share: unknown key"));
  EXPECT_THAT(Faults("<<: {listen: 127.0.0.1:1}\n" + kMinimal),
              ElementsAre("t.yaml:1:1: <<: unknown key"));
  // Names are case-sensitive, and a quoted key is the same key.
  EXPECT_THAT(Faults("Drain: 1s\n\"drain\": 1s\n" + kMinimal),
              ElementsAre("t.yaml:1:1: Drain: unknown key; did you mean drain?"));
}

TEST(ConfigLoaderTest, DuplicateKeys) {
  EXPECT_THAT(Faults("drain: 1s\n" + kMinimal + "drain: 2s\n"),
              ElementsAre("t.yaml:8:1: drain: duplicate key"));
  EXPECT_THAT(Faults(WithProvider("    models: {m: {tools: true}, \"m\": {tools: false}}\n")),
              ElementsAre("t.yaml:5:32: providers[0].models.m: duplicate key"));
  EXPECT_THAT(Faults(WithProvider("    headers: {X-A: b, x-a: c}\n")),
              ElementsAre("t.yaml:5:23: providers[0].headers.x-a: duplicate key"));
}

TEST(ConfigLoaderTest, RequiredKeys) {
  EXPECT_THAT(Faults("{}\n"),
              ElementsAre("t.yaml:1:1: providers: is required", "t.yaml:1:1: routes: is required"));
  EXPECT_THAT(Faults("providers: []\nroutes: []\n"),
              ElementsAre("t.yaml:1:12: providers: must not be empty",
                          "t.yaml:2:9: routes: must not be empty"));
  EXPECT_THAT(Faults("providers:\n  - {}\nroutes:\n  - {}\n"),
              ElementsAre("t.yaml:2:5: providers[0].base_url: is required",
                          "t.yaml:2:5: providers[0].kind: is required",
                          "t.yaml:2:5: providers[0].name: is required",
                          "t.yaml:4:5: routes[0].chain: is required",
                          "t.yaml:4:5: routes[0].name: is required"));
  EXPECT_THAT(Faults(kProviders + "routes:\n  - {name: default, chain: [{}]}\n"),
              ElementsAre("t.yaml:4:29: routes[0].chain[0].model: is required",
                          "t.yaml:4:29: routes[0].chain[0].provider: is required"));
}

TEST(ConfigLoaderTest, WrongTypes) {
  EXPECT_THAT(Faults("- a\n- b\n"), ElementsAre("t.yaml:1:1: must be a map, not a list"));
  EXPECT_THAT(Faults("hello\n"), ElementsAre("t.yaml:1:1: must be a map, not a single value"));
  EXPECT_THAT(Faults("drain: [1s]\nadmission: 5\n" + kMinimal),
              ElementsAre("t.yaml:1:8: drain: must be a single value, not a list",
                          "t.yaml:2:12: admission: must be a map, not a single value"));
  EXPECT_THAT(Faults("admission:\ndrain:\n" + kMinimal),
              ElementsAre("t.yaml:1:1: admission: has no value: give it one or leave the key out",
                          "t.yaml:2:1: drain: has no value: give it one or leave the key out"));
  EXPECT_THAT(
      Faults("admission: {max_in_progress: many, max_queue: 1.5}\nallow_unauthenticated: yes\n" +
             kMinimal),
      ElementsAre("t.yaml:1:30: admission.max_in_progress: must be a whole number, not \"many\"",
                  "t.yaml:1:47: admission.max_queue: must be a whole number, not \"1.5\"",
                  "t.yaml:2:24: allow_unauthenticated: must be true or false, not \"yes\""));
  EXPECT_THAT(Faults("admission: {max_queue: \"5\"}\ndata_dir: 5\n" + kMinimal),
              ElementsAre("t.yaml:1:24: admission.max_queue: must not be in quotes: a number or a "
                          "truth value is expected",
                          "t.yaml:2:11: data_dir: must be a text: put it in quotes"));
  EXPECT_THAT(Faults(kProviders + "routes: {name: default}\n"),
              ElementsAre("t.yaml:3:9: routes: must be a list, not a map"));
}

TEST(ConfigLoaderTest, Durations) {
  EXPECT_THAT(Faults("drain: 20\n" + kMinimal),
              ElementsAre("t.yaml:1:8: drain: must have a unit: 20s, 20ms or 20m, not \"20\""));
  EXPECT_THAT(Faults("drain: soon\n" + kMinimal),
              ElementsAre("t.yaml:1:8: drain: must be a duration such as 30s, 250ms or 1m30s, not "
                          "\"soon\""));
  EXPECT_THAT(Faults("drain: -1s\n" + kMinimal), ElementsAre(HasSubstr("must be a duration")));
  EXPECT_THAT(Faults("drain: 10m1ns\n" + kMinimal), ElementsAre(HasSubstr("at most 10m")));
  EXPECT_THAT(Faults("drain: 10m\n" + kMinimal), IsEmpty());
  EXPECT_THAT(Faults("drain: 0s\n" + kMinimal), IsEmpty());
  EXPECT_THAT(Faults(WithRoute("    min_useful: 0s\n")),
              ElementsAre("t.yaml:7:17: routes[0].min_useful: must be longer than 0s, not \"0s\""));
}

TEST(ConfigLoaderTest, Sizes) {
  EXPECT_THAT(Faults("limits: {prompt_text: 1Mb}\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:23: limits.prompt_text: must be a size such as")));
  EXPECT_THAT(Faults("limits: {response: 0}\n" + kMinimal),
              ElementsAre(HasSubstr("must be within 1 and 1GiB")));
  EXPECT_THAT(Faults("limits: {response: 2GiB}\n" + kMinimal), ElementsAre(HasSubstr("within")));
  EXPECT_EQ(Load("limits: {response: 5}\n" + kMinimal).config->limits.response, 5u);
}

TEST(ConfigLoaderTest, NumbersAtTheirBounds) {
  const auto share = [](const std::string& value) {
    return Faults(kProviders +
                  "routes:\n  - name: default\n    chain:\n"
                  "      - {provider: p, model: m, share: " +
                  value + "}\n");
  };
  EXPECT_THAT(share("1"), IsEmpty());
  EXPECT_THAT(share("0.0001"), IsEmpty());
  EXPECT_THAT(share("0"), ElementsAre("t.yaml:6:40: routes[0].chain[0].share: must be within (0, "
                                      "1], not \"0\""));
  EXPECT_THAT(share("1.0001"), ElementsAre(HasSubstr("must be within (0, 1]")));
  EXPECT_THAT(share(".nan"), ElementsAre(HasSubstr("must be a number")));
  EXPECT_THAT(share(".inf"), ElementsAre(HasSubstr("must be a number")));

  const auto breaker = [](const std::string& settings) {
    return Faults(WithProvider("    breaker: {" + settings + "}\n"));
  };
  EXPECT_THAT(breaker("failure_rate: 1"), IsEmpty());
  EXPECT_THAT(breaker("failure_rate: 1.01"), ElementsAre(HasSubstr("must be within [0, 1]")));
  EXPECT_THAT(breaker("failure_rate: -0.01"), ElementsAre(HasSubstr("must be within [0, 1]")));
  EXPECT_THAT(breaker("open_jitter: 1"), ElementsAre(HasSubstr("must be within [0, 1)")));
  EXPECT_THAT(breaker("min_calls: 0"), ElementsAre(HasSubstr("must be within 1 and")));
  EXPECT_THAT(breaker("half_open_probes: 0"), ElementsAre(HasSubstr("must be within 1 and")));
  EXPECT_THAT(breaker("consecutive_failures: -1"), ElementsAre(HasSubstr("must be within 0 and")));
  EXPECT_THAT(breaker("window: 0s"), ElementsAre(HasSubstr("must be longer than 0s")));

  EXPECT_THAT(Faults(WithRoute("    cache: {min_similarity: 1.1, max_age: 0s}\n")),
              ElementsAre(HasSubstr("min_similarity: must be within [0, 1]"),
                          HasSubstr("max_age: must be longer than 0s")));
  EXPECT_THAT(Faults(WithRoute("    max_cost_usd: -1\n")), ElementsAre(HasSubstr("within [0,")));
  EXPECT_THAT(Faults(WithProvider("    limiter: {max: 0}\n")), ElementsAre(HasSubstr("within 1")));
  EXPECT_THAT(Faults("admission: {max_in_progress: 0, max_queue: -1}\n" + kMinimal),
              ElementsAre(HasSubstr("within 1"), HasSubstr("within 0")));
}

TEST(ConfigLoaderTest, Choices) {
  EXPECT_THAT(
      Faults(WithRoute("    worst_acceptable: partially\n    on_refusal: no\n    on_break: x\n")),
      ElementsAre("t.yaml:7:23: routes[0].worst_acceptable: must be one of none, fallback_model, "
                  "stale, partial, not \"partially\"",
                  "t.yaml:8:17: routes[0].on_refusal: must be one of final, next, not \"no\"",
                  "t.yaml:9:15: routes[0].on_break: must be one of continue, restart, partial, not "
                  "\"x\""));
}

TEST(ConfigLoaderTest, Notices) {
  const auto notice = [](const std::string& value) {
    return Faults(WithRoute("    partial: {notice: " + value + "}\n"));
  };
  EXPECT_THAT(notice("\"Später wieder.\""), IsEmpty());
  EXPECT_THAT(notice("\" \""),
              ElementsAre(StartsWith("t.yaml:7:23: routes[0].partial.notice: must not be empty")));
  EXPECT_THAT(notice("\"a\\0b\""), ElementsAre(HasSubstr("control characters")));
  EXPECT_THAT(notice("\"" + std::string(2001, 'x') + "\""), ElementsAre(HasSubstr("at most 2000")));
  EXPECT_THAT(Faults(WithRoute("    partial: {notice: \"${X}\"}\n"), {{"X", "\xFF"}}),
              ElementsAre(HasSubstr("is not valid UTF-8")));
}

// --- Variables and secrets ---------------------------------------------------------------------

TEST(ConfigLoaderTest, VariablesAreReplacedAnywhereInAValue) {
  const LoadResult loaded = Load(
      "data_dir: ${BASE}/x-${N}${N}/$HOME/$${BASE}\n"
      "drain: ${N}s\n"
      "admission: {max_queue: \"${N}\"}\n"
      "allow_unauthenticated: ${YES}\n" +
          kMinimal,
      {{"BASE", "/a: #b"}, {"N", "7"}, {"YES", "true"}});
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  EXPECT_EQ(loaded.config->data_dir, "/a: #b/x-77/$HOME/${BASE}");
  EXPECT_EQ(loaded.config->drain, seconds(7));
  EXPECT_EQ(loaded.config->admission.max_queue, 7);
  EXPECT_TRUE(loaded.config->allow_unauthenticated);
}

TEST(ConfigLoaderTest, VariablesAreReplacedOnce) {
  const LoadResult loaded = Load("data_dir: ${A}\n" + kMinimal, {{"A", "${B}"}, {"B", "no"}});
  ASSERT_TRUE(loaded.config);
  EXPECT_EQ(loaded.config->data_dir, "${B}");
}

TEST(ConfigLoaderTest, VariablesThatAreMissingOrMalformed) {
  EXPECT_THAT(Faults("data_dir: ${A}-${B}\n" + kMinimal, {{"B", ""}}),
              ElementsAre("t.yaml:1:11: data_dir: the environment variable A is not set",
                          "t.yaml:1:11: data_dir: the environment variable B is empty"));
  for (const char* value : {"${A", "${}", "${1A}", "${A-b}", "${ A }", "${A:-x}"}) {
    EXPECT_THAT(Faults("data_dir: \"" + std::string(value) + "\"\n" + kMinimal, {{"A", "x"}}),
                ElementsAre(HasSubstr("must be followed by a variable's name")))
        << value;
  }
  EXPECT_THAT(Faults("drain: ${A}\n" + kMinimal, {{"A", "never"}}),
              ElementsAre("t.yaml:1:8: drain: must be a duration such as 30s, 250ms or 1m30s"));
  EXPECT_THAT(Faults("data_dir: ${A}\n" + kMinimal, {{"A", "\xFF"}}),
              ElementsAre("t.yaml:1:11: data_dir: is not valid UTF-8"));
}

class SecretFileTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "config_secret_" + std::to_string(getpid());
  }
  void TearDown() override { std::remove(path_.c_str()); }

  LoadResult LoadWith(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    return Load(WithProvider("    api_key: file:" + path_ + "\n"));
  }

  std::string path_;
};

TEST_F(SecretFileTest, TrailingLineEndsAreTrimmed) {
  for (const char* content : {"k e y", "k e y\n", "k e y\r\n", "k e y\n\n"}) {
    const LoadResult loaded = LoadWith(content);
    ASSERT_TRUE(loaded.config) << content;
    EXPECT_EQ(loaded.config->providers[0].options.api_key, "k e y");
  }
}

TEST_F(SecretFileTest, FilesThatCannotBeASecret) {
  const auto fault = [&](const std::string& content) {
    const LoadResult loaded = LoadWith(content);
    return loaded.faults.empty() ? "" : Format(loaded.faults[0]);
  };
  EXPECT_EQ(fault(""), "t.yaml:5:14: providers[0].api_key: file:" + path_ + " is empty");
  EXPECT_THAT(fault("\n\n"), HasSubstr("is empty"));
  EXPECT_THAT(fault("a\nb"), HasSubstr("control characters or line breaks"));
  EXPECT_THAT(fault(std::string(70'000, 'x')), HasSubstr("too large"));
  EXPECT_THAT(fault("\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(Faults(WithProvider("    api_key: file:/no/such/file\n")),
              ElementsAre("t.yaml:5:14: providers[0].api_key: file:/no/such/file cannot be read"));
  EXPECT_THAT(Faults(WithProvider("    api_key: file:/dev/zero\n")),
              ElementsAre(HasSubstr("is not a regular file")));
  EXPECT_THAT(Faults(WithProvider("    api_key: file:key\n")),
              ElementsAre(HasSubstr("must be an absolute path")));
}

TEST_F(SecretFileTest, AVariableMayBePartOfThePathButNeverNameAFileItself) {
  std::ofstream(path_) << "key\n";
  EXPECT_EQ(Load(WithProvider("    api_key: file:${P}\n"), {{"P", path_}})
                .config->providers[0]
                .options.api_key,
            "key");
  EXPECT_EQ(Load(WithProvider("    api_key: ${P}\n"), {{"P", "file:" + path_}})
                .config->providers[0]
                .options.api_key,
            "file:" + path_);
}

TEST(ConfigLoaderTest, KeysAndHeaders) {
  EXPECT_THAT(Faults(WithProvider("    api_key: \"\"\n")),
              ElementsAre(StartsWith("t.yaml:5:14: providers[0].api_key: must not be empty")));
  EXPECT_THAT(Faults(WithProvider("    api_key: ${K}\n"), {{"K", "a\r\nHost: b"}}),
              ElementsAre(HasSubstr("control characters or line breaks")));
  EXPECT_THAT(Faults(WithProvider("    headers: {\"a b\": c, content-length: \"5\"}\n")),
              ElementsAre("t.yaml:5:15: providers[0].headers: a name here is not that of an HTTP "
                          "header",
                          "t.yaml:5:25: providers[0].headers.content-length: cannot take effect: "
                          "Holdfast sets this header itself"));
  EXPECT_THAT(Faults(WithProvider("    api_key: k\n    headers: {Authorization: x}\n")),
              ElementsAre("t.yaml:6:30: providers[0].headers.Authorization: api_key is sent in "
                          "this header: set only one"));
  EXPECT_THAT(Faults(WithProvider("    headers: {Authorization: x}\n")), IsEmpty());
  EXPECT_THAT(Faults(WithProvider("    api_key_header: api-key\n")),
              ElementsAre("t.yaml:5:21: providers[0].api_key_header: cannot take effect without "
                          "api_key"));
  EXPECT_THAT(Faults(WithProvider("    api_key: k\n    api_key_header: \"a b\"\n")),
              ElementsAre(HasSubstr("must be the name of an HTTP header")));
}

// --- URLs and addresses ------------------------------------------------------------------------

TEST(ConfigLoaderTest, BaseUrls) {
  const auto faults = [](const std::string& url) {
    return Faults("providers:\n  - {name: p, kind: openai, base_url: \"" + url + "\"}\n" + kRoutes);
  };
  EXPECT_THAT(faults("https://a.example/v1/"), IsEmpty());
  for (const char* url : {"a.example/v1", "/v1", "ftp://a.example", "http://", "file:///etc/passwd",
                          "http://a b/v1"}) {
    EXPECT_THAT(faults(url), ElementsAre("t.yaml:2:39: providers[0].base_url: must be an absolute "
                                         "http or https URL"))
        << url;
  }
  EXPECT_THAT(faults("https://u:p@a.example"),
              ElementsAre(HasSubstr("must not carry credentials")));
  EXPECT_THAT(faults("https://a.example?x=1"), ElementsAre(HasSubstr("query or fragment")));
  EXPECT_THAT(faults("https://a.example/#x"), ElementsAre(HasSubstr("query or fragment")));
  EXPECT_THAT(Faults(WithProvider("    path: v1\n")), ElementsAre(HasSubstr("must begin with /")));
  EXPECT_THAT(Faults(WithProvider("    proxy: example.com:3128\n")),
              ElementsAre(HasSubstr("must be a proxy's URL")));
  EXPECT_THAT(Faults(WithProvider("    proxy: http://u:p@example.com:3128\n")), IsEmpty());
  EXPECT_THAT(Faults(WithProvider("    ca_file: /etc/hosts\n")),
              ElementsAre("t.yaml:5:14: providers[0].ca_file: cannot take effect: base_url is "
                          "http"));
  EXPECT_THAT(Faults("providers:\n  - {name: p, kind: openai, base_url: \"https://a/v1\", "
                     "ca_file: /no/such}\n" +
                     kRoutes),
              ElementsAre(HasSubstr("ca_file: the file cannot be read")));
}

TEST(ConfigLoaderTest, WarningsStopNothing) {
  const auto warnings = [](const std::string& text) {
    const LoadResult loaded = Load(text);
    EXPECT_TRUE(loaded.config);
    return loaded.warnings;
  };
  EXPECT_THAT(
      warnings("providers:\n  - {name: p, kind: openai, base_url: \"http://a/v1\", "
               "api_key: k}\n" +
               kRoutes),
      ElementsAre("t.yaml:2:39: providers[0].base_url: keys and headers go over the network "
                  "in clear: use https"));
  EXPECT_THAT(
      warnings("providers:\n  - {name: p, kind: openai, base_url: \"https://a\"}\n" + kRoutes),
      ElementsAre(HasSubstr("most often /v1")));
  EXPECT_THAT(warnings("providers:\n  - {name: p, kind: anthropic, base_url: \"https://a/v1\"}\n" +
                       kRoutes),
              ElementsAre(HasSubstr("adds /v1 itself")));
  EXPECT_THAT(warnings("listen: 0.0.0.0:1\nallow_unauthenticated: true\n" + kMinimal),
              ElementsAre(HasSubstr("callers are not authenticated")));
  EXPECT_THAT(warnings(kProviders + "routes: [{name: r, chain: [{provider: p, model: m}]}]\n"),
              ElementsAre(HasSubstr("none is called default")));
  EXPECT_THAT(warnings(kProviders + "routes: [{name: default, chain: [{provider: p, model: m, "
                                    "price: {input: 1}, timeouts: {first_token: 31s}}]}]\n"),
              ElementsAre(HasSubstr("first_token: is longer than the route's timeout"),
                          HasSubstr("price.output: is not set and counts as 0")));
}

TEST(ConfigLoaderTest, Addresses) {
  EXPECT_THAT(Faults("listen: 50051\n" + kMinimal),
              ElementsAre("t.yaml:1:9: listen: must be a text: put it in quotes"));
  EXPECT_THAT(Faults("listen: localhost\n" + kMinimal),
              ElementsAre(HasSubstr("must be HOST:PORT")));
  EXPECT_THAT(Faults("listen: 0.0.0.0:50051\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:9: listen: must be a loopback address")));
  EXPECT_THAT(Faults("listen: 0.0.0.0:50051\nallow_unauthenticated: true\n" + kMinimal), IsEmpty());
  EXPECT_THAT(Faults("admin_listen: 0.0.0.0:2\nallow_unauthenticated: true\n" + kMinimal),
              ElementsAre("t.yaml:1:15: admin_listen: must be a loopback address"));
  EXPECT_THAT(Faults("listen: 127.0.0.1:7\nadmin_listen: 127.0.0.1:7\n" + kMinimal),
              ElementsAre("t.yaml:2:15: admin_listen: must not be the address of listen"));
  EXPECT_THAT(Faults("listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n" + kMinimal), IsEmpty());
}

// --- Settings that contradict each other or cannot take effect
// ------------------------------------

TEST(ConfigLoaderTest, ACacheThatIsOffHasNoSettings) {
  EXPECT_THAT(Faults(WithRoute("    cache: {prefer_similarity: 0.8}\n")),
              ElementsAre(HasSubstr("prefer_similarity: cannot take effect: it is below")));
  EXPECT_THAT(Faults(WithRoute("    cache: {max_error: 1}\n")),
              ElementsAre(HasSubstr("max_error: must be within (0, 1)")));
  EXPECT_THAT(Faults("cache: {sample_share: 0}\n" + WithRoute("    cache: {max_error: 0.1}\n")),
              ElementsAre(HasSubstr("max_error: cannot take effect: cache.sample_share is 0")));
  EXPECT_THAT(Faults("cache: {sample_share: 0, sample_cpu: 0.1}\n" + WithRoute("")),
              ElementsAre(HasSubstr("sample_cpu: cannot take effect: cache.sample_share is 0")));
  EXPECT_THAT(Faults("embedder: {kind: openai}\n" + WithRoute("")),
              ElementsAre(HasSubstr("embedder.openai: is required: embedder.kind is openai")));
  const std::string endpoint = "openai: {base_url: 'http://h/v1', model: m, dimension: 3}";
  EXPECT_THAT(Faults("embedder: {" + endpoint + "}\n" + WithRoute("")),
              ElementsAre(HasSubstr("embedder.openai: cannot take effect")));
  EXPECT_THAT(Faults("embedder: {kind: openai, " + endpoint + "}\n" + WithRoute("")), IsEmpty());
  const auto breaker = [&](const std::string& settings) {
    return "embedder:\n  kind: openai\n"
           "  openai:\n    base_url: http://h/v1\n    model: m\n    dimension: 3\n"
           "    timeout: 2s\n    breaker: {" +
           settings + "}\n" + WithRoute("");
  };
  const auto set = Load(breaker("consecutive_failures: 7, open: 20s, window: 4s"));
  ASSERT_TRUE(set.config);
  EXPECT_EQ(set.config->embedder.openai->breaker.consecutive_failures, 7);
  EXPECT_EQ(set.config->embedder.openai->breaker.open, seconds(20));
  EXPECT_EQ(set.config->embedder.openai->breaker.window, seconds(4));
  EXPECT_EQ(set.config->embedder.openai->breaker.failure_rate, 0.5);
  const auto unset = Load(breaker(""));
  ASSERT_TRUE(unset.config);
  EXPECT_EQ(unset.config->embedder.openai->breaker.consecutive_failures, 3);
  EXPECT_EQ(unset.config->embedder.openai->breaker.open, seconds(10));
  EXPECT_THAT(Faults(breaker("window: 3999ms")),
              ElementsAre("t.yaml:8:23: embedder.openai.breaker.window: must be at least twice the "
                          "embedder's timeout (2s)"));
  EXPECT_THAT(Faults(breaker("failure_rate: 0, min_calls: 5")),
              ElementsAre(HasSubstr("t.yaml:8:43: embedder.openai.breaker.min_calls: ")));
  EXPECT_THAT(Faults(breaker("open: 301s")),
              ElementsAre(HasSubstr("embedder.openai.breaker.open_max: must be at least open")));
  EXPECT_THAT(Faults(WithRoute("    cache: {scope_ignore: ['(a', '.*', 'a+']}\n")),
              ElementsAre(HasSubstr("scope_ignore[0]: is no pattern that can be used"),
                          HasSubstr("scope_ignore[1]: is no pattern that can be used: matches")));
  EXPECT_THAT(Faults(WithRoute("    cache: {enabled: false, min_similarity: 0.9}\n")),
              ElementsAre(HasSubstr(
                  "routes[0].cache.min_similarity: cannot take effect: cache.enabled is false")));
}

TEST(ConfigLoaderTest, AHedgeNeedsAnotherTarget) {
  EXPECT_THAT(
      Faults(WithRoute("    hedge: {delay: 2s}\n")),
      ElementsAre(HasSubstr("routes[0].hedge: cannot take effect: the chain has one target")));
}

TEST(ConfigLoaderTest, AnEmbedderOfHashesHasNoModel) {
  EXPECT_THAT(
      Faults("embedder: {kind: hash, model: m.hfm}\n" + kMinimal),
      ElementsAre("t.yaml:1:31: embedder.model: cannot take effect: embedder.kind is hash"));
  EXPECT_THAT(Faults("embedder: {kind: hash}\n" + kMinimal), IsEmpty());
}

TEST(ConfigLoaderTest, NamesAndTargets) {
  EXPECT_THAT(
      Faults("providers:\n"
             "  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\"}\n"
             "  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\"}\n"
             "  - {name: idle, kind: openai, base_url: \"http://127.0.0.1:1/v1\"}\n" +
             kRoutes),
      ElementsAre(
          "t.yaml:3:12: providers[1].name: duplicate name: another provider is called p",
          "t.yaml:4:12: providers[2].name: cannot take effect: no route uses the provider"));
  EXPECT_THAT(Faults(kProviders + "routes:\n"
                                  "  - {name: r, chain: [{provider: p, model: m}]}\n"
                                  "  - {name: r, chain: [{provider: p, model: m}]}\n"),
              ElementsAre("t.yaml:5:12: routes[1].name: duplicate name: another route is called "
                          "r"));
  EXPECT_THAT(Faults(WithRoute("      - {provider: q, model: m}\n      - {provider: p, model: m}\n"
                               "    partial: {target: {provider: r, model: m}}\n")),
              ElementsAre("t.yaml:7:20: routes[0].chain[1].provider: unknown provider: q",
                          "t.yaml:8:30: routes[0].chain[2].model: duplicate target: the chain has "
                          "p / m already",
                          "t.yaml:9:34: routes[0].partial.target.provider: unknown provider: r"));
  EXPECT_THAT(Faults(WithProvider("    models: {other: {tools: false}}\n")),
              ElementsAre("t.yaml:5:14: providers[0].models.other: cannot take effect: no route "
                          "uses the model"));
  for (const char* name : {"\"\"", "\" a\"", "\"a\\nb\""}) {
    EXPECT_THAT(
        Faults(kProviders + "routes: [{name: " + name + ", chain: [{provider: p, model: m}]}]\n"),
        ElementsAre(StartsWith("t.yaml:3:17: routes[0].name: must not")))
        << name;
  }
}

TEST(ConfigLoaderTest, Limits) {
  const std::string digits(64, 'c');
  EXPECT_THAT(Faults("cache: {encryption_key: '" + digits + "'}\n" + kMinimal), IsEmpty());
  const auto two_keys = [](const std::string& settings) {
    return Faults("cache: {" + settings + "}\n" + kMinimal);
  };
  const std::string second = std::string(64, 'b');
  EXPECT_THAT(
      two_keys("encryption_key: '" + digits + "', encryption_key_previous: '" + second + "'"),
      IsEmpty());
  EXPECT_THAT(two_keys("encryption_key_previous: '" + second + "'"),
              ElementsAre("t.yaml:1:34: cache.encryption_key_previous: cannot take effect: "
                          "cache.encryption_key is not set"));
  EXPECT_THAT(two_keys("encryption_key: '" + std::string(64, 'B') +
                       "', encryption_key_previous: '" + second + "'"),
              ElementsAre(HasSubstr("cannot take effect: it is the same as")));
  for (const std::string& key : {digits + "c", digits.substr(1), digits.substr(1) + "g"}) {
    EXPECT_THAT(Faults("cache: {encryption_key: '" + key + "'}\n" + kMinimal),
                ElementsAre(AllOf(HasSubstr("cache.encryption_key: must be 64 hexadecimal digits"),
                                  Not(HasSubstr("cccc")))));
  }
  EXPECT_THAT(Faults("cache: {max_entry_bytes: 1025, max_bytes: 1024}\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:26: cache.max_entry_bytes: cannot take effect")));
  EXPECT_THAT(Faults("cache: {max_bytes: 1024}\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:20: cache.max_bytes: cannot take effect")));
  EXPECT_THAT(Faults("cache: {max_entry_bytes: 1024, max_bytes: 1024}\n" + kMinimal), IsEmpty());
  EXPECT_THAT(Faults("limits: {prompt_text: 1025, request: 1024}\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:23: limits.prompt_text: cannot take effect")));
  EXPECT_THAT(Faults("limits: {prompt_text: 1024, request: 1024}\n" + kMinimal), IsEmpty());
  EXPECT_THAT(Faults("limits: {request: 1KiB}\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:19: limits.request: cannot take effect")));
}

TEST(ConfigLoaderTest, Attempts) {
  const std::string two = "      - {provider: p, model: n}\n";
  EXPECT_THAT(Faults(WithRoute(two + "    retry: {max_attempts: 2}\n")), IsEmpty());
  EXPECT_THAT(Faults(WithRoute(two + "    retry: {max_attempts: 1}\n")),
              ElementsAre(StartsWith("t.yaml:8:27: routes[0].retry.max_attempts: must be at least "
                                     "the number of targets")));
  std::string nine;
  for (int i = 0; i < 8; ++i) nine += "      - {provider: p, model: m" + std::to_string(i) + "}\n";
  // By default 8: the fault stands at the route.
  EXPECT_THAT(Faults(WithRoute(nine)),
              ElementsAre(StartsWith("t.yaml:4:5: routes[0].retry.max_attempts: ")));
  EXPECT_THAT(Faults(WithRoute("    retry: {base: 31s}\n")),
              ElementsAre("t.yaml:7:19: routes[0].retry.base: must not exceed cap (30s)"));
  EXPECT_THAT(Faults(WithRoute("    retry: {base: 30s}\n")), IsEmpty());
  EXPECT_THAT(Faults(WithRoute("    retry: {budget: {tokens: 0.5}}\n")),
              ElementsAre(StartsWith("t.yaml:7:30: routes[0].retry.budget.tokens: ")));
  EXPECT_THAT(Faults(WithRoute("    retry: {max_retries: 0, cap: 3s}\n")),
              ElementsAre("t.yaml:7:34: routes[0].retry.cap: cannot take effect: max_retries is "
                          "0"));
}

TEST(ConfigLoaderTest, TimeThatLeavesNothingForTheChain) {
  // 10 s less 2 % and the ladder's .2 s are 9.6 s.
  EXPECT_THAT(Faults(WithRoute("    timeout: 10s\n    min_useful: 9.6s\n")), IsEmpty());
  EXPECT_THAT(Faults(WithRoute("    timeout: 10s\n    min_useful: 9.601s\n")),
              ElementsAre("t.yaml:8:17: routes[0].min_useful: the chain would never be tried: of a "
                          "timeout of 10s, 9.6s are left for it, and min_useful is 9.601s"));
  EXPECT_THAT(Faults(WithRoute("    timeout: 1s\n")),
              ElementsAre(StartsWith("t.yaml:7:14: routes[0].timeout: the chain would never")));
  // A partial target keeps min_useful for itself.
  const std::string partial = "    partial: {target: {provider: p, model: m}}\n";
  EXPECT_THAT(Faults(WithRoute(partial + "    timeout: 10s\n    min_useful: 4.8s\n")), IsEmpty());
  EXPECT_THAT(Faults(WithRoute(partial + "    timeout: 10s\n    min_useful: 4.801s\n")),
              ElementsAre(HasSubstr("would never be tried")));
  EXPECT_THAT(Faults(WithRoute("    timeout: 301s\n")),
              ElementsAre("t.yaml:7:14: routes[0].timeout: cannot take effect: max_timeout is 5m"));
  EXPECT_THAT(Faults("max_timeout: 29s\n" + kMinimal),
              ElementsAre(StartsWith("t.yaml:1:14: max_timeout: must be at least the timeout")));
}

TEST(ConfigLoaderTest, Breakers) {
  const auto faults = [](const std::string& breaker) {
    return Faults(WithProvider("    breaker: {" + breaker + "}\n"));
  };
  EXPECT_THAT(faults("window: 20s"), IsEmpty());
  EXPECT_THAT(faults("window: 19999ms"),
              ElementsAre("t.yaml:5:23: providers[0].breaker.window: must be at least twice the "
                          "longest first_token timeout (10s)"));
  EXPECT_THAT(faults("half_open_successes: 2"),
              ElementsAre(StartsWith("t.yaml:5:36: providers[0].breaker.half_open_successes: must "
                                     "not exceed half_open_probes (1)")));
  EXPECT_THAT(faults("open_max: 59s"), ElementsAre(HasSubstr("must be at least open (1m)")));
  EXPECT_THAT(faults("consecutive_failures: 0, failure_rate: 0, black_hole: 0"),
              ElementsAre(HasSubstr("nothing would trip")));
  EXPECT_THAT(faults("consecutive_failures: 0, failure_rate: 0"), IsEmpty());
  EXPECT_THAT(faults("failure_rate: 0, min_calls: 5"),
              ElementsAre("t.yaml:5:43: providers[0].breaker.min_calls: cannot take effect: "
                          "failure_rate is 0"));
}

TEST(ConfigLoaderTest, TheBreakersWindowIsHeldAgainstTheStepsOfEveryRoute) {
  const std::string routes =
      "routes:\n"
      "  - {name: default, chain: [{provider: p, model: m}]}\n"
      "  - {name: slow, timeout: 200s, chain: [{provider: p, model: m, timeouts: {first_token: "
      "61s}}]}\n";
  // 120 s by default: the fault stands where the provider does.
  EXPECT_THAT(Faults(kProviders + routes),
              ElementsAre("t.yaml:2:5: providers[0].breaker.window: must be at least twice the "
                          "longest first_token timeout (61s)"));
  EXPECT_THAT(
      Faults("providers:\n  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\",\n"
             "     breaker: {window: 122s}}\n" +
             routes),
      IsEmpty());
  // A model's own window is held against its own steps.
  EXPECT_THAT(
      Faults("providers:\n  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\",\n"
             "     models: {m: {breaker: {window: 100s}}}}\n" +
             routes),
      ElementsAre("t.yaml:3:37: providers[0].models.m.breaker.window: must be at least "
                  "twice the longest first_token timeout (61s)"));
}

TEST(ConfigLoaderTest, AFaultOfAModelsBreakerStandsWithTheModel) {
  EXPECT_THAT(
      Faults("providers:\n  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\",\n"
             "     breaker: {open_max: 100s}, models: {m: {breaker: {open: 200s}}}}\n" +
             kRoutes),
      ElementsAre(StartsWith("t.yaml:3:55: providers[0].models.m.breaker.open_max: must be "
                             "at least open (")));
}

TEST(ConfigLoaderTest, AProvidersSettingThatOneModelUsesTakesEffect) {
  const std::string base =
      "providers:\n  - {name: p, kind: openai, base_url: \"http://127.0.0.1:1/v1\",\n"
      "     breaker: {min_calls: 9, failure_rate: 0},\n";
  EXPECT_THAT(Faults(base + "     models: {m: {breaker: {failure_rate: 0.5}}}}\n" + kRoutes),
              IsEmpty());
  EXPECT_THAT(Faults(base + "     models: {m: {tools: false}}}\n" + kRoutes),
              ElementsAre(HasSubstr("providers[0].breaker.min_calls: cannot take effect")));
  // Of two models one uses it.
  EXPECT_THAT(Faults(base + "     models: {m: {breaker: {failure_rate: 0.5}}}}\n" + kRoutes +
                     "      - {provider: p, model: other}\n"),
              IsEmpty());
}

TEST(ConfigLoaderTest, Capabilities) {
  EXPECT_THAT(Faults(WithProvider("    models: {m: {seed: true, max_temperature: 1.5,\n"
                                  "                 stream_usage: false, continuation: prefix,\n"
                                  "                 max_tokens_field: max_completion_tokens}}\n",
                                  "anthropic")),
              ElementsAre(HasSubstr("models.m.seed: cannot take effect"),
                          HasSubstr("models.m.max_temperature: must be at most 1"),
                          HasSubstr("models.m.stream_usage: cannot take effect"),
                          HasSubstr("models.m.continuation: cannot take effect"),
                          HasSubstr("models.m.max_tokens_field: cannot take effect")));
  const LoadResult loaded = Load(WithProvider(
      "    models: {m: {tools: false, images: false, json_schema: false, seed: false,\n"
      "                 max_temperature: 1.5, max_tokens_field: max_completion_tokens,\n"
      "                 continuation: continue_final_message,\n"
      "                 stream_usage: false, max_output_tokens: 5, limiter: {max: 3}}}\n"));
  ASSERT_TRUE(loaded.config) << Format(loaded.faults[0]);
  const Deployment deployment = Deployments(*loaded.config)[0];
  EXPECT_FALSE(deployment.model.tools);
  EXPECT_FALSE(deployment.model.images);
  EXPECT_FALSE(deployment.model.json_schema);
  EXPECT_FALSE(deployment.model.seed);
  EXPECT_FALSE(deployment.model.stream_usage);
  EXPECT_EQ(deployment.model.continuation,
            providers::ModelOptions::Continuation::kContinueFinalMessage);
  EXPECT_EQ(deployment.model.max_temperature, 1.5);
  EXPECT_EQ(deployment.model.max_output_tokens, 5);
  EXPECT_EQ(deployment.model.max_tokens_field,
            providers::ModelOptions::MaxTokensField::kMaxCompletionTokens);
  EXPECT_EQ(deployment.target.limiter.max, 3);
}

// --- The whole ---------------------------------------------------------------------------------

TEST(ConfigLoaderTest, AllFaultsInOneRunInTheOrderOfTheFile) {
  EXPECT_THAT(
      Faults("listen: 0.0.0.0:1\n"
             "drain: 20\n"
             "extra: 1\n"
             "providers:\n"
             "  - {name: p, kind: openia, base_url: \"${URL}\", breaker: {open: 400s}}\n"
             "routes:\n"
             "  - name: default\n"
             "    min_useful: 40s\n"
             "    chain:\n"
             "      - {provider: p, model: m, share: 2}\n"
             "      - {provider: q, model: m}\n"
             "    drain: 20s\n"),
      ElementsAre(StartsWith("t.yaml:1:9: listen: must be a loopback address"),
                  StartsWith("t.yaml:2:8: drain: must have a unit"),
                  StartsWith("t.yaml:3:1: extra: unknown key"),
                  StartsWith("t.yaml:5:21: providers[0].kind: must be one of"),
                  StartsWith("t.yaml:5:39: providers[0].base_url: the environment"),
                  StartsWith("t.yaml:5:58: providers[0].breaker.open_max: must be at least"),
                  StartsWith("t.yaml:8:17: routes[0].min_useful: the chain would never"),
                  StartsWith("t.yaml:10:40: routes[0].chain[0].share: must be within"),
                  StartsWith("t.yaml:11:20: routes[0].chain[1].provider: unknown"),
                  StartsWith("t.yaml:12:5: routes[0].drain: unknown key")));
}

TEST(ConfigLoaderTest, ManyFaultsAreBounded) {
  std::string text = kMinimal;
  for (int i = 0; i < 100'000; ++i) text += "k" + std::to_string(i) + ": 1\n";
  const std::vector<std::string> faults = Faults(text);
  EXPECT_EQ(faults.size(), 101u);
  EXPECT_THAT(faults.back(), HasSubstr("there is more"));
  for (const std::string& fault : Faults(std::string(1 << 20, 'k') + "\n")) {
    EXPECT_LT(fault.size(), 500u);
  }
  for (const std::string& fault : Faults("\"" + std::string(1000, 'k') + "\": 1\n" + kMinimal)) {
    EXPECT_LT(fault.size(), 500u);
  }
}

TEST(ConfigLoaderTest, FilesThatCannotBeRead) {
  const Environment none = EnvironmentOf({});
  EXPECT_THAT(Format(LoadConfig("/no/such/file.yaml", none).faults.at(0)),
              StartsWith("/no/such/file.yaml: cannot be read: "));
  EXPECT_THAT(Format(LoadConfig("/", none).faults.at(0)), HasSubstr("directory"));
}

TEST(ConfigLoaderTest, FlagsWinAndAreChecked) {
  const LoadResult loaded = Load("listen: 127.0.0.1:1\n" + kMinimal, {},
                                 {{"listen", "127.0.0.1:0"}, {"data_dir", "/x"}, {"drain", "1s"}});
  ASSERT_TRUE(loaded.config);
  EXPECT_EQ(loaded.config->listen, "127.0.0.1:0");
  EXPECT_EQ(loaded.config->data_dir, "/x");
  EXPECT_EQ(loaded.config->drain, seconds(1));

  EXPECT_THAT(Faults("listen: 127.0.0.1:1\n" + kMinimal, {}, {{"listen", "0.0.0.0:1"}}),
              ElementsAre(StartsWith("--listen: listen: must be a loopback address")));
  EXPECT_THAT(Faults("listen: 0.0.0.0:1\n" + kMinimal, {}, {{"listen", "127.0.0.1:1"}}), IsEmpty());
  EXPECT_THAT(Faults(kMinimal, {}, {{"admin_listen", "nowhere"}}),
              ElementsAre(StartsWith("--admin-listen: admin_listen: must be HOST:PORT")));
  EXPECT_THAT(
      Faults(kMinimal, {}, {{"routes", "x"}, {"nothing", "x"}}),
      ElementsAre("--nothing: nothing: no such setting", "--routes: routes: no such setting"));
}

// Whatever becomes of the shipped file, the loader answers with a configuration or with faults.
TEST(ConfigLoaderTest, MutationsOfTheShippedFileNeverEscape) {
  const std::string shipped = ReadFile(SourceFile("config/holdfast.yaml"));
  ASSERT_FALSE(shipped.empty());
  const std::vector<std::string> pieces = {"${",
                                           "}",
                                           "{",
                                           "[",
                                           "]",
                                           ":",
                                           "- ",
                                           "\n",
                                           "  ",
                                           "\"",
                                           "'",
                                           "&a ",
                                           "*a",
                                           "!!x ",
                                           "0",
                                           "-1",
                                           "1e999",
                                           ".nan",
                                           "null",
                                           "true",
                                           "9999999999999999999s",
                                           "file:/",
                                           "\xFF",
                                           "\xC3\xA9",
                                           std::string(1, '\0'),
                                           "#",
                                           "\t"};
  int accepted = 0;
  for (unsigned seed = 0; seed < 1500; ++seed) {
    std::mt19937 random(seed);
    std::string text = shipped;
    for (unsigned i = 1 + random() % 3; i > 0; --i) {
      const size_t at = random() % text.size();
      const size_t length = std::min<size_t>(random() % 40, text.size() - at);
      switch (random() % 4) {
        case 0:
          text.erase(at, length);
          break;
        case 1:
          text.insert(at, pieces[random() % pieces.size()]);
          break;
        case 2:
          text.replace(at, length, pieces[random() % pieces.size()]);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), length));
          break;
      }
    }
    const LoadResult loaded = Load(text, kShippedVariables);
    EXPECT_NE(loaded.config.has_value(), !loaded.faults.empty()) << seed;
    for (const Fault& fault : loaded.faults) EXPECT_FALSE(fault.reason.empty()) << seed;
    if (!loaded.config) continue;
    ++accepted;
    const LoadResult again = Load(PrintConfig(*loaded.config));
    ASSERT_TRUE(again.config) << seed << ": " << Format(again.faults.at(0));
    EXPECT_EQ(PrintConfig(*again.config), PrintConfig(*loaded.config)) << seed;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 1500);
}

}  // namespace
}  // namespace holdfast::server
