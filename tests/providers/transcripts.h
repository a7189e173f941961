#pragma once

// Runs what a server sent through a ReplyReader, whole, or cut at any place.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "providers/anthropic.h"
#include "providers/gemini.h"
#include "providers/openai.h"
#include "providers/reply_reader.h"
#include "tests/fakes/fake_loop.h"
#include "tests/providers/recording_sink.h"

namespace holdfast::testing {

using core::FinishReason;
using core::OutcomeKind;
using providers::HttpEnd;
using providers::HttpHeaders;
using providers::Kind;

// What the server sent and how it ended. status 0: no headers came.
struct Transcript {
  Kind kind = Kind::kOpenAi;
  std::string body;
  int status = 200;
  HttpHeaders headers = {{"content-type", "text/event-stream"}};
  HttpEnd::Kind end = HttpEnd::Kind::kComplete;
  core::Request request = {};
};

struct Heard {
  core::Outcome outcome;
  RecordingSink sink;
};

inline std::unique_ptr<providers::WireFormat> MakeFormat(Kind kind,
                                                         providers::ModelOptions model = {}) {
  if (model.model.empty()) model.model = "model-1";
  switch (kind) {
    case Kind::kOpenAi:
      return providers::MakeOpenAiFormat(model);
    case Kind::kAnthropic:
      return providers::MakeAnthropicFormat(model);
    case Kind::kGemini:
      return providers::MakeGeminiFormat(model);
  }
  return nullptr;
}

inline Heard Hear(const Transcript& transcript, const std::vector<std::string_view>& pieces) {
  Heard heard;
  const FakeClock clock;
  const std::vector<std::string> secrets = {"secret-key-123"};
  providers::ReplyReader::Setup setup{
      .kind = transcript.kind,
      .decoder = MakeFormat(transcript.kind)->NewDecoder(transcript.request),
      .secrets = secrets,
      .clock = clock,
      .max_response_bytes = 3 << 20,
      .tool_id_seed = "key"};
  providers::ReplyReader reader(std::move(setup), heard.sink);
  reader.OnConnected();
  if (transcript.status != 0) reader.OnHeaders(transcript.status, transcript.headers);
  for (const std::string_view piece : pieces) reader.OnBody(piece);
  heard.outcome = reader.Finish({.kind = transcript.end, .error = "broken"});
  const bool answered =
      heard.outcome.kind == OutcomeKind::kComplete || heard.outcome.kind == OutcomeKind::kRefusal;
  EXPECT_EQ(heard.sink.finishes, answered ? 1 : 0);
  return heard;
}

inline Heard Hear(const Transcript& transcript) { return Hear(transcript, {transcript.body}); }

inline void ExpectSame(const Heard& a, const Heard& b) {
  EXPECT_EQ(a.outcome.kind, b.outcome.kind);
  EXPECT_EQ(a.outcome.error, b.outcome.error);
  EXPECT_EQ(a.outcome.skipped_events, b.outcome.skipped_events);
  EXPECT_EQ(a.sink.text, b.sink.text);
  EXPECT_EQ(a.sink.calls, b.sink.calls);
  EXPECT_EQ(a.sink.reasonings, b.sink.reasonings);
  EXPECT_EQ(a.sink.usage.input_tokens, b.sink.usage.input_tokens);
  EXPECT_EQ(a.sink.usage.output_tokens, b.sink.usage.output_tokens);
  EXPECT_EQ(a.sink.finishes, b.sink.finishes);
  EXPECT_EQ(a.sink.reason, b.sink.reason);
}

// Hears it whole, in two pieces cut at every place, and byte by byte: always the same.
inline Heard HearHoweverCut(const Transcript& transcript) {
  const std::string_view body = transcript.body;
  Heard whole = Hear(transcript);
  for (size_t cut = 1; cut < body.size(); ++cut) {
    SCOPED_TRACE("cut at " + std::to_string(cut));
    ExpectSame(whole, Hear(transcript, {body.substr(0, cut), body.substr(cut)}));
    if (::testing::Test::HasFailure()) return whole;
  }
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < body.size(); ++i) bytes.push_back(body.substr(i, 1));
  ExpectSame(whole, Hear(transcript, bytes));
  return whole;
}

// An event for each; line ends inside are taken out.
inline std::string Events(std::vector<std::string> data) {
  std::string body;
  for (std::string& line : data) {
    std::erase(line, '\n');
    body += "data: " + line + "\n\n";
  }
  return body;
}

inline core::Request UserAsks(std::string text) {
  core::Request request;
  request.messages.push_back({core::Role::kUser, {core::Text{std::move(text)}}});
  return request;
}

}  // namespace holdfast::testing
