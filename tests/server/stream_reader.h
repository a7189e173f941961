#pragma once

// The caller of a stream that docs/streaming.md describes: appends deltas, forgets at reset. It
// also holds the stream to its grammar. For tests; blocking or fed by hand, one thread.

#include <google/protobuf/stubs/common.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "holdfast/v1/generate.grpc.pb.h"

namespace holdfast::testing {

struct Assembled {
  std::string text;
  std::vector<v1::ToolCall> tool_calls;
  std::vector<std::string> events;  // "started", "delta", "continued", "reset", "finished"
  v1::StreamStarted started;
  std::vector<v1::StreamContinued> continued;
  std::vector<v1::StreamReset> resets;
  v1::GenerateResponse finished;
  int deltas = 0;

  bool has(const std::string& event) const {
    for (const std::string& e : events) {
      if (e == event) return true;
    }
    return false;
  }

  void On(const v1::GenerateStreamResponse& event) {
    EXPECT_FALSE(has("finished")) << "an event after finished";
    switch (event.event_case()) {
      case v1::GenerateStreamResponse::kStarted:
        EXPECT_TRUE(events.empty()) << "started is not the first event";
        started = event.started();
        events.push_back("started");
        return;
      case v1::GenerateStreamResponse::kDelta:
        EXPECT_FALSE(events.empty()) << "a delta before started";
        OnDelta(event.delta());
        return;
      case v1::GenerateStreamResponse::kContinued:
        EXPECT_FALSE(events.empty()) << "continued before started";
        continued.push_back(event.continued());
        events.push_back("continued");
        return;
      case v1::GenerateStreamResponse::kReset:
        EXPECT_FALSE(events.empty()) << "reset before started";
        resets.push_back(event.reset());
        text.clear();
        tool_calls.clear();
        events.push_back("reset");
        return;
      case v1::GenerateStreamResponse::kFinished:
        EXPECT_FALSE(events.empty()) << "finished before started";
        finished = event.finished();
        events.push_back("finished");
        return;
      case v1::GenerateStreamResponse::EVENT_NOT_SET:
        ADD_FAILURE() << "an empty event";
    }
  }

  void OnDelta(const v1::StreamDelta& delta) {
    ++deltas;
    if (events.back() != "delta") events.push_back("delta");
    if (delta.has_text()) {
      EXPECT_FALSE(delta.text().empty());
      text += delta.text();
      return;
    }
    ASSERT_TRUE(delta.has_tool_call());
    const v1::ToolCallDelta& piece = delta.tool_call();
    ASSERT_GE(piece.index(), 0);
    ASSERT_LE(piece.index(), static_cast<int>(tool_calls.size()));
    const bool first = piece.index() == static_cast<int>(tool_calls.size());
    if (first) tool_calls.emplace_back();
    EXPECT_EQ(first, !piece.name().empty()) << "a call is named by its first piece, and only there";
    v1::ToolCall& call = tool_calls[piece.index()];
    if (first) call.set_id(piece.id());
    if (first) call.set_name(piece.name());
    *call.mutable_arguments() += piece.arguments();
  }

  // What Generate would have said.
  v1::GenerateResponse Response() const {
    v1::GenerateResponse response = finished;
    v1::Message& message = *response.mutable_message();
    message.Clear();
    message.set_role("assistant");
    if (tool_calls.empty()) {
      message.set_content(text);
      return response;
    }
    if (!text.empty()) message.add_parts()->set_text(text);
    for (const v1::ToolCall& call : tool_calls) *message.add_parts()->mutable_tool_call() = call;
    return response;
  }
};

// Reads a stream to its end.
inline grpc::Status ReadStream(v1::GenerateService::Stub& stub, grpc::ClientContext& context,
                               const v1::GenerateRequest& request, Assembled& assembled) {
  const auto reader = stub.GenerateStream(&context, request);
  v1::GenerateStreamResponse event;
  while (reader->Read(&event)) assembled.On(event);
  grpc::Status status = reader->Finish();
  // Behind a whole answer the caller's own clock may still end the call, but no other.
  const bool by_own_clock = status.error_code() == grpc::DEADLINE_EXCEEDED &&
                            std::chrono::system_clock::now() >= context.deadline();
  if (!by_own_clock) {
    EXPECT_EQ(status.ok(), assembled.has("finished")) << status.error_message();
  }
  return status;
}

}  // namespace holdfast::testing
