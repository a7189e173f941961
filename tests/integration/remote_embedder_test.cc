// An embeddings endpoint beside the encoder in the process, through the binaries: its vectors, its
// outage, its change, over restarts. The vectors are the simulated provider's, of hashed words.

#include <optional>

#include "tests/integration/service_fixture.h"

namespace holdfast::testing {
namespace {

constexpr char kQuestion[] = "How do I change my password without losing my contacts?";
constexpr char kDown[] = R"({"kind": "status", "status": 503})";

class RemoteEmbedderServiceTest : public ServiceFixture {
 protected:
  void Start(const std::string& model) {
    Settings settings;
    settings.retry = "{max_retries: 0}";
    settings.breaker = "{consecutive_failures: 1000, failure_rate: 0, black_hole: 0}";
    std::string yaml = settings.Yaml();
    const std::string hash = "embedder: {kind: hash}\n";
    yaml.replace(
        yaml.find(hash), hash.size(),
        "embedder: {kind: openai, openai: {base_url: \"${SIM}/v1\", api_key: \"${KEY}\", model: " +
            model + ", dimension: 384}}\n");
    StartYaml(yaml);
  }
  // Of the endpoint's vectors; none while nothing of it is told.
  std::optional<v1::EmbeddingProgress> Remote() {
    const v1::GetCacheStatsResponse stats = CacheStats();
    for (const v1::EmbeddingProgress& progress : stats.embeddings()) {
      if (progress.remote()) return progress;
    }
    return std::nullopt;
  }
  bool WaitForVectors(const std::string& model, uint64_t count) {
    return Eventually([&] {
      const auto progress = Remote();
      return progress && progress->embedder() == model && !progress->counting() &&
             progress->done() == count && progress->total() == count;
    });
  }
};

TEST_F(RemoteEmbedderServiceTest, ServesByItsVectorsAndWithoutThem) {
  Start("words");
  ASSERT_TRUE(Ask(kQuestion).ok());
  ASSERT_TRUE(WaitForVectors("words", 1));
  BreakAll(kDown);

  sim_->ForgetAttempts();
  // A lookup that has too little time left does without the endpoint.
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(Ask("how do I change the password without losing my contacts").response.stale());
    return sim_->CountOf("words") > 0;
  }));
  EXPECT_FALSE(
      Ask("How do I change my e-mail address without losing my contacts?").response.stale());

  sim_->Break("words", kDown);
  EXPECT_TRUE(
      Ask("please, how do I change my password without losing my contacts").response.stale());
}

TEST_F(RemoteEmbedderServiceTest, VectorsOutliveARestartAndAnOutageIsMadeUpFor) {
  Start("words");
  sim_->Break("words", kDown);
  ASSERT_TRUE(Ask(kQuestion).ok());
  WaitForEntries(1);
  EXPECT_EQ(Remote()->done(), 0u);

  sim_->Heal();
  Restart();
  ASSERT_TRUE(WaitForVectors("words", 1));
  sim_->ForgetAttempts();
  Restart();
  ASSERT_TRUE(WaitForVectors("words", 1));
  EXPECT_EQ(sim_->CountOf("words"), 0);
}

TEST_F(RemoteEmbedderServiceTest, AnotherModelEmbedsAllAgain) {
  Start("words");
  ASSERT_TRUE(Ask(kQuestion).ok());
  ASSERT_TRUE(Ask("How do I boil an egg?").ok());
  ASSERT_TRUE(WaitForVectors("words", 2));
  EXPECT_EQ(Stop(), 0);

  Start("words-2");
  ASSERT_TRUE(WaitForVectors("words-2", 2));
  BreakAll(kDown);
  EXPECT_TRUE(Ask("how do I change the password without losing my contacts").response.stale());
}

}  // namespace
}  // namespace holdfast::testing
