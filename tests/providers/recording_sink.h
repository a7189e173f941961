#pragma once

// An AttemptSink that writes down what it is told and checks what every sink may rely on.

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "core/provider.h"
#include "providers/utf8.h"

namespace holdfast::testing {

struct RecordedCall {
  std::string id;
  std::string name;
  std::string arguments;
  friend bool operator==(const RecordedCall&, const RecordedCall&) = default;
};

inline void PrintTo(const RecordedCall& call, std::ostream* out) {
  *out << call.id << ":" << call.name << "(" << call.arguments << ")";
}

class RecordingSink final : public core::AttemptSink {
 public:
  void OnConnected() override { ++connected; }
  void OnText(std::string_view piece) override {
    EXPECT_FALSE(piece.empty());
    EXPECT_EQ(finishes, 0);
    ExpectWhole(piece);
    text.append(piece);
    ++texts;
  }
  void OnToolCall(int index, std::string_view id, std::string_view name,
                  std::string_view arguments) override {
    EXPECT_EQ(finishes, 0);
    const auto place = static_cast<size_t>(index);
    ASSERT_LE(place, calls.size()) << "indices come in order";
    if (place == calls.size()) {
      EXPECT_FALSE(id.empty());
      calls.push_back({std::string(id), std::string(name), {}});
    } else {
      EXPECT_TRUE(id.empty() && name.empty());
    }
    ExpectWhole(arguments);
    calls[place].arguments.append(arguments);
  }
  void OnReasoning(size_t) override { ++reasonings; }
  void OnUsage(const core::Usage& totals) override {
    EXPECT_GE(totals.input_tokens, 0);
    EXPECT_GE(totals.output_tokens, 0);
    usage = totals;
    ++usages;
  }
  void OnFinish(core::FinishReason why) override {
    EXPECT_EQ(++finishes, 1);
    reason = why;
  }

  int connected = 0;
  std::string text;
  int texts = 0;
  std::vector<RecordedCall> calls;
  int reasonings = 0;
  core::Usage usage;
  int usages = 0;
  int finishes = 0;
  core::FinishReason reason = core::FinishReason::kUnspecified;

 private:
  static void ExpectWhole(std::string_view bytes) {
    EXPECT_EQ(providers::ReplaceInvalidUtf8(bytes), bytes) << "no valid UTF-8";
  }
};

}  // namespace holdfast::testing
