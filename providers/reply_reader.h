#pragma once

// From a response's bytes to the outcome of an attempt: the one place that knows status, error
// body, event stream, whole JSON reply and end of an attempt, for all wire formats. One attempt,
// one loop; borrows everything it is given.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/outcome.h"
#include "core/provider.h"
#include "providers/http/http_client.h"
#include "providers/http/sse_parser.h"
#include "providers/json.h"
#include "providers/reply.h"
#include "providers/wire_format.h"

namespace holdfast::providers {

class ReplyReader : public HttpSink {
 public:
  struct Setup {
    Kind kind = Kind::kOpenAi;
    std::unique_ptr<Decoder> decoder;
    const std::vector<std::string>& secrets;
    const core::Clock& clock;
    size_t max_response_bytes = 0;
    std::string_view tool_id_seed;
  };

  static constexpr size_t kMaxErrorBody = 64 << 10;

  ReplyReader(Setup setup, core::AttemptSink& sink);

  void OnConnected() override { sink_.OnConnected(); }
  void OnHeaders(int status, const HttpHeaders& headers) override;
  void OnBody(std::string_view bytes) override;

  // Once, when nothing more will come. A reader that has_all() takes kCancelled for an end of ours.
  core::Outcome Finish(const HttpEnd& end);

  // Nothing that still may come changes the outcome: there was a finish reason, an end marker or
  // an error.
  bool has_all() const;
  bool failed() const { return reply_.failure().has_value(); }
  int status() const { return status_; }  // 0: no headers yet

 private:
  enum class BodyForm { kUnknown, kError, kEvents, kWhole };

  void OnSuccessBody(std::string_view bytes);
  BodyForm GuessForm(std::string_view bytes);
  bool MayBeWhole(std::string_view bytes) const;
  void OnEvent(std::string_view event, std::string_view data);
  void Decode(std::string_view event, JsonValue data);
  void DecodeWhole();
  void ReadRest(const HttpEnd& end);

  core::Outcome Judge(const HttpEnd& end);
  core::Outcome JudgeFailure(const Reply::Failure& failure);
  core::Outcome JudgeFinished();
  core::Outcome MakeOutcome(core::OutcomeKind kind, std::string_view error) const;
  FailureContext Context() const;

  const Kind kind_;
  const std::unique_ptr<Decoder> decoder_;
  const std::vector<std::string>& secrets_;
  const core::Clock& clock_;
  core::AttemptSink& sink_;
  Reply reply_;

  int status_ = 0;
  HttpHeaders headers_;
  BodyForm form_ = BodyForm::kUnknown;
  bool says_events_ = false;  // by its content type
  std::string kept_;          // the error body or the whole reply
  SseParser parser_;
  JsonReader json_;
  uint64_t decoded_events_ = 0;
  uint64_t bad_events_ = 0;
};

}  // namespace holdfast::providers
