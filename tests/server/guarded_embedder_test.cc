#include "server/guarded_embedder.h"

#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::server {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code

class StatusEmbedder final : public core::Embedder {
 public:
  StatusEmbedder(const absl::Status& status, int& calls) : status_(status), calls_(calls) {}
  std::string id() const override { return "id"; }
  size_t dimension() const override { return 2; }
  std::vector<float> Embed(std::string_view) const override { return {1, 0}; }
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override {
    ++calls_;
    std::vector<absl::StatusOr<core::Embedding>> results;
    for (size_t i = 0; i < texts.size(); ++i) {
      if (status_.ok()) {
        results.emplace_back(core::Embedding{{1, 0}});
      } else {
        results.emplace_back(status_);
      }
    }
    return results;
  }

 private:
  const absl::Status& status_;
  int& calls_;
};

class GuardedEmbedderTest : public ::testing::Test {
 protected:
  absl::Status Ask() {
    const std::string_view text = "text";
    return guarded.EmbedBatch(std::span(&text, 1))[0].status();
  }

  testing::FakeLoop loop;
  core::SeededRandom random{1};
  absl::Status status;
  int calls = 0;
  GuardedEmbedder guarded{std::make_unique<StatusEmbedder>(status, calls),
                          100ms,
                          {.consecutive_failures = 3, .open = 10s, .open_jitter = 0},
                          loop.clock(),
                          random};
};

TEST_F(GuardedEmbedderTest, IsNotCalledWhileItsBreakerIsOpenAndComesBack) {
  EXPECT_TRUE(Ask().ok());
  status = absl::UnavailableError("down");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(absl::IsUnavailable(Ask()));
  EXPECT_EQ(calls, 4);
  EXPECT_TRUE(absl::IsUnavailable(Ask()));
  EXPECT_EQ(guarded.Embed("text"), (std::vector<float>{0, 0}));
  EXPECT_EQ(calls, 4);
  loop.Advance(10s);
  status = absl::OkStatus();
  EXPECT_TRUE(Ask().ok());
  EXPECT_TRUE(Ask().ok());
  EXPECT_EQ(calls, 6);
}

TEST_F(GuardedEmbedderTest, ARefusedTextIsNoFailureOfTheEndpoint) {
  status = absl::InvalidArgumentError("no");
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(absl::IsInvalidArgument(Ask()));
  EXPECT_EQ(calls, 10);
}

}  // namespace
}  // namespace holdfast::server
