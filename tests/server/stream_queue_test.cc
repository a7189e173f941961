#include "server/stream_queue.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/text.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::server {
namespace {

using Event = v1::GenerateStreamResponse;

class StreamQueueTest : public ::testing::Test {
 protected:
  std::vector<Event> TakeAll() {
    std::vector<Event> events;
    while (!queue_.empty()) events.push_back(queue_.Take());
    return events;
  }
  static core::StreamStart By(const std::string& model) {
    return {.served_by = core::TargetName{"p", model}, .cache_hit = {}};
  }

  const RequestInfo info_{.request_id = "id", .tenant = "t", .route = "fast", .labels = {}};
  const StreamLimits limits_{.high_water = 10'000, .low_water = 1'000};
  int told_ = 0;
  testing::FakeClock clock_;
  StreamQueue queue_{info_, limits_, clock_, [this] { ++told_; }};
};

TEST_F(StreamQueueTest, NeighbouringTextsAreJoined) {
  queue_.OnStarted(By("m"));
  queue_.OnText("a");
  queue_.OnText("b");
  queue_.OnContinued(By("n"));
  queue_.OnText("c");
  queue_.OnText("d");
  EXPECT_EQ(told_, 6);
  const std::vector<Event> events = TakeAll();
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].started().request_id(), "id");
  EXPECT_EQ(events[0].started().route(), "fast");
  EXPECT_EQ(events[0].started().served_by().model(), "m");
  EXPECT_EQ(events[0].started().degradation(), v1::DEGRADATION_NONE);
  EXPECT_EQ(events[1].delta().text(), "ab");
  EXPECT_EQ(events[2].continued().served_by().model(), "n");
  EXPECT_EQ(events[3].delta().text(), "cd");
}

TEST_F(StreamQueueTest, PiecesOfOneToolCallAreJoined) {
  queue_.OnToolCall(0, "i0", "n0", "");
  queue_.OnToolCall(0, "", "", "{\"a\"");
  queue_.OnToolCall(0, "", "", ":1}");
  queue_.OnToolCall(1, "i1", "n1", "{");
  queue_.OnToolCall(0, "", "", " ");
  queue_.OnToolCall(1, "", "", "}");
  const std::vector<Event> events = TakeAll();
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].delta().tool_call().id(), "i0");
  EXPECT_EQ(events[0].delta().tool_call().name(), "n0");
  EXPECT_EQ(events[0].delta().tool_call().arguments(), "{\"a\":1}");
  EXPECT_EQ(events[1].delta().tool_call().index(), 1);
  EXPECT_EQ(events[1].delta().tool_call().arguments(), "{");
  EXPECT_EQ(events[2].delta().tool_call().index(), 0);
  EXPECT_EQ(events[3].delta().tool_call().index(), 1);
  EXPECT_EQ(events[3].delta().tool_call().name(), "");
}

TEST_F(StreamQueueTest, LongTextsAreSplitBetweenCharacters) {
  std::string text;
  while (text.size() < 5 * StreamQueue::kMaxDelta) text += "\xF0\x9F\x98\x80\xC3\xA4x";
  queue_.OnText("y");  // so that no border falls on a character's by luck
  queue_.OnText(text);
  std::string got;
  for (const Event& event : TakeAll()) {
    EXPECT_LE(event.delta().text().size(), StreamQueue::kMaxDelta);
    EXPECT_TRUE(IsUtf8(event.delta().text()));
    got += event.delta().text();
  }
  EXPECT_TRUE(got == "y" + text);

  queue_.OnToolCall(0, "i", "n", text);
  got.clear();
  for (const Event& event : TakeAll()) {
    EXPECT_LE(event.delta().tool_call().arguments().size(), StreamQueue::kMaxDelta);
    EXPECT_TRUE(IsUtf8(event.delta().tool_call().arguments()));
    got += event.delta().tool_call().arguments();
  }
  EXPECT_TRUE(got == text);
}

TEST_F(StreamQueueTest, BytesThatAreNoTextNeverReachAReader) {
  queue_.OnText("a\xFF");
  queue_.OnToolCall(0, "\xFF", "n", "\xFE");
  for (const Event& event : TakeAll()) {
    Event read;
    EXPECT_TRUE(read.ParseFromString(event.SerializeAsString()));
  }
}

TEST_F(StreamQueueTest, AResetVoidsWhatWaits) {
  queue_.OnStarted(By("m"));
  queue_.OnText(std::string(20'000, 'x'));
  queue_.OnContinued(By("n"));
  EXPECT_FALSE(queue_.valve().open());
  queue_.OnReset(By("o"));
  EXPECT_TRUE(queue_.valve().open());
  queue_.OnText("y");
  std::vector<Event> events = TakeAll();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_TRUE(events[0].has_started());
  EXPECT_EQ(events[1].reset().served_by().model(), "o");
  EXPECT_EQ(events[2].delta().text(), "y");

  queue_.OnText("z");
  queue_.OnReset(By("o"));
  queue_.OnReset(By("p"));
  events = TakeAll();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].reset().served_by().model(), "p");
}

TEST_F(StreamQueueTest, TheValveClosesAtHighAndOpensAtLowWater) {
  // Each event counts for 256 bytes besides its text.
  queue_.OnText(std::string(10'000 - 256 - 1, 'x'));
  EXPECT_TRUE(queue_.valve().open());
  queue_.OnText("x");
  EXPECT_FALSE(queue_.valve().open());
  queue_.OnContinued(By("n"));
  queue_.OnText(std::string(1'001 - 256, 'x'));
  (void)queue_.Take();
  (void)queue_.Take();
  EXPECT_FALSE(queue_.valve().open());  // 1,001 left
  (void)queue_.Take();
  EXPECT_TRUE(queue_.valve().open());

  queue_.OnText(std::string(10'000, 'x'));
  queue_.OnContinued(By("n"));
  queue_.OnText(std::string(1'000 - 256, 'x'));
  EXPECT_FALSE(queue_.valve().open());
  (void)queue_.Take();
  EXPECT_FALSE(queue_.valve().open());
  (void)queue_.Take();
  EXPECT_TRUE(queue_.valve().open());  // 1,000 left
}

TEST_F(StreamQueueTest, TheFirstContentIsTextOrAToolCallAndKeepsItsTime) {
  const core::SteadyTime start = clock_.Now();
  queue_.OnStarted(By("m"));
  EXPECT_FALSE(queue_.first_content_at());
  clock_.Advance(std::chrono::milliseconds(5));
  queue_.OnText("a");
  clock_.Advance(std::chrono::milliseconds(5));
  queue_.OnReset(By("n"));
  queue_.OnText("b");
  EXPECT_EQ(queue_.first_content_at(), start + std::chrono::milliseconds(5));

  StreamQueue other(info_, limits_, clock_, [] {});
  other.OnToolCall(0, "i0", "n0", "");
  EXPECT_EQ(other.first_content_at(), clock_.Now());
}

TEST_F(StreamQueueTest, AFinishedEventIsNeverTooLargeForAReader) {
  for (const size_t size : {size_t{100}, StreamQueue::kMaxFinished + 1}) {
    v1::GenerateResponse response;
    response.set_request_id("id");
    response.mutable_message()->set_content(std::string(size, 'x'));
    queue_.Finish(response);
    EXPECT_TRUE(queue_.last());
    const Event event = queue_.Take();
    EXPECT_EQ(event.finished().request_id(), "id");
    EXPECT_EQ(event.finished().has_message(), size == 100);
  }
  EXPECT_EQ(told_, 0);
}

}  // namespace
}  // namespace holdfast::server
