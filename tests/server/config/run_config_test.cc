// tools/make_run_config by its results: the script is run, and what it writes is loaded.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "server/config/config_print.h"
#include "tests/server/config/config_testing.h"

namespace holdfast::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class RunConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "run_config_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    output_ = directory_ + "/new/run.yaml";
  }
  void TearDown() override {
    std::remove(output_.c_str());
    rmdir((directory_ + "/new").c_str());
    rmdir(directory_.c_str());
  }

  // Runs the script with nothing but `variables` in its environment; its exit code.
  int Run(const Variables& variables, const std::string& arguments) {
    std::string command = "env -i PATH=/usr/bin:/bin";
    for (const auto& [name, value] : variables) command += " " + name + "='" + value + "'";
    command += " '" + SourceFile("tools/make_run_config") + "' " + arguments + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    said_.clear();
    char buffer[512];
    while (size_t got = fread(buffer, 1, sizeof buffer, pipe)) said_.append(buffer, got);
    return WEXITSTATUS(pclose(pipe));
  }

  Config Make(const Variables& variables) {
    EXPECT_EQ(Run(variables, "'" + output_ + "' 4321"), 0) << said_;
    written_ = ReadFile(output_);
    LoadResult loaded = LoadConfig(output_, EnvironmentOf(variables));
    EXPECT_THAT(loaded.faults, IsEmpty())
        << (loaded.faults.empty() ? "" : Format(loaded.faults[0])) << "\n"
        << written_;
    return loaded.config.value_or(Config{});
  }

  static std::vector<std::string> Chain(const Config& config) {
    std::vector<std::string> models;
    if (config.routes.size() != 1) return models;
    for (const auto& step : config.routes[0].chain) models.push_back(step.target.model);
    return models;
  }

  std::string directory_;
  std::string output_;
  std::string said_;
  std::string written_;
};

const Variables kAll = {{"ANTHROPIC_API_KEY", "key-one"},
                        {"OPENAI_API_KEY", "key-two"},
                        {"GEMINI_API_KEY", "key-three"},
                        {"LOCAL_BASE_URL", "http://127.0.0.1:8080/v1"}};

TEST_F(RunConfigTest, WithoutAnyKeyTheSimulatedProviderStandsInForAll) {
  const Config config = Make({});
  EXPECT_THAT(Chain(config),
              ElementsAre("claude-sonnet-4-20250514", "gpt-4o", "claude-haiku", "llama-3-8b"));
  for (const ProviderConfig& provider : config.providers) {
    const bool openai = provider.options.kind == providers::Kind::kOpenAi;
    EXPECT_EQ(provider.options.base_url,
              openai ? "http://127.0.0.1:4321/v1" : "http://127.0.0.1:4321");
    EXPECT_TRUE(provider.options.api_key.empty());
  }
  ASSERT_TRUE(config.routes[0].partial.target);
  EXPECT_EQ(config.routes[0].partial.target->target.model, "llama-3-8b");
  // The simulated provider is asked for the names that routes use.
  for (const Deployment& deployment : Deployments(config)) {
    EXPECT_EQ(deployment.model.model, deployment.target.name.model);
  }
  EXPECT_THAT(said_, HasSubstr("simulated at 127.0.0.1:4321"));
  EXPECT_EQ(std::count(said_.begin(), said_.end(), '\n'), 1);
}

TEST_F(RunConfigTest, EmptyVariablesCountAsUnset) {
  const Config config = Make({{"ANTHROPIC_API_KEY", ""},
                              {"OPENAI_API_KEY", ""},
                              {"GEMINI_API_KEY", ""},
                              {"LOCAL_BASE_URL", ""}});
  EXPECT_EQ(Chain(config).size(), 4u);
  EXPECT_THAT(said_, HasSubstr("simulated"));
}

// All 15 sets of what may be set: real targets only, in the chain's order, Gemini last.
TEST_F(RunConfigTest, EverySetOfKeys) {
  const std::vector<std::string> names = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "LOCAL_BASE_URL",
                                          "GEMINI_API_KEY"};
  for (int set = 1; set < 16; ++set) {
    Variables variables;
    for (size_t i = 0; i < names.size(); ++i) {
      if (set & (1 << i)) variables[names[i]] = kAll.at(names[i]);
    }
    std::vector<std::string> wanted;
    if (set & 1) wanted.push_back("claude-sonnet-4-20250514");
    if (set & 2) wanted.push_back("gpt-4o");
    if (set & 1) wanted.push_back("claude-haiku");
    if (set & 4) wanted.push_back("llama-3-8b");
    if (set & 8) wanted.push_back("gemini-3.5-flash-lite");
    const Config config = Make(variables);
    EXPECT_EQ(Chain(config), wanted) << set;
    EXPECT_EQ(config.routes[0].partial.target.has_value(), (set & 4) != 0) << set;
    EXPECT_THAT(written_, Not(HasSubstr("4321"))) << set;
    EXPECT_THAT(said_, Not(HasSubstr("simulated"))) << set;
    for (const auto& [name, value] : variables) {
      EXPECT_THAT(written_, HasSubstr("${" + name + "}")) << set;
      EXPECT_THAT(written_ + said_, Not(HasSubstr(value))) << set;
      EXPECT_THAT(said_, HasSubstr(name)) << set;
    }
  }
}

// With every key but Gemini's the result is the shipped configuration.
TEST_F(RunConfigTest, FollowsTheShippedFile) {
  Variables variables = kAll;
  variables.erase("GEMINI_API_KEY");
  const Config made = Make(variables);
  const LoadResult shipped =
      LoadConfig(SourceFile("config/holdfast.yaml"), EnvironmentOf(variables));
  ASSERT_TRUE(shipped.config);
  EXPECT_EQ(PrintConfig(made), PrintConfig(*shipped.config));
}

TEST_F(RunConfigTest, WrongArguments) {
  EXPECT_EQ(Run({}, ""), 2);
  EXPECT_EQ(Run({}, "'" + output_ + "'"), 2);
  EXPECT_EQ(Run({}, "'" + output_ + "' 12ab"), 2);
  EXPECT_NE(Run({}, "/dev/null/x 1"), 0);
}

}  // namespace
}  // namespace holdfast::server
