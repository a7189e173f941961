#include "providers/reply_reader.h"

#include <algorithm>
#include <utility>

#include "providers/classify.h"
#include "providers/error_text.h"

namespace holdfast::providers {
namespace {

using core::Outcome;
using core::OutcomeKind;

bool IsSuccess(int status) { return status >= 200 && status < 300; }

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool StartsAsJson(std::string_view text) { return text.starts_with('{') || text.starts_with('['); }

}  // namespace

ReplyReader::ReplyReader(Setup setup, core::AttemptSink& sink)
    : kind_(setup.kind),
      decoder_(std::move(setup.decoder)),
      secrets_(setup.secrets),
      clock_(setup.clock),
      sink_(sink),
      reply_(sink, setup.tool_id_seed),
      parser_(setup.max_response_bytes) {}

void ReplyReader::OnHeaders(int status, const HttpHeaders& headers) {
  status_ = status;
  headers_ = headers;
  form_ = IsSuccess(status) ? BodyForm::kUnknown : BodyForm::kError;
  const std::string* type = headers.Find("content-type");
  says_events_ = type != nullptr && type->find("event-stream") != std::string::npos;
}

void ReplyReader::OnBody(std::string_view bytes) {
  if (form_ == BodyForm::kError) {
    kept_.append(bytes.substr(0, kMaxErrorBody - std::min(kMaxErrorBody, kept_.size())));
  } else if (!failed()) {
    OnSuccessBody(bytes);
  }
}

void ReplyReader::OnSuccessBody(std::string_view bytes) {
  if (form_ == BodyForm::kUnknown) form_ = GuessForm(bytes);
  if (form_ == BodyForm::kWhole || MayBeWhole(bytes)) kept_.append(bytes);
  if (form_ == BodyForm::kWhole) return;
  parser_.Feed(bytes,
               [this](std::string_view event, std::string_view data) { OnEvent(event, data); });
  if (decoded_events_ > 0) std::string().swap(kept_);
}

// No line of an event stream starts as JSON does; some servers answer a request for a stream with
// a whole reply, whatever its content type.
ReplyReader::BodyForm ReplyReader::GuessForm(std::string_view bytes) {
  if (says_events_) return BodyForm::kEvents;
  const std::string_view start = Trim(bytes);
  if (start.empty()) return BodyForm::kUnknown;
  return StartsAsJson(start) ? BodyForm::kWhole : BodyForm::kEvents;
}

// Some say that they send events and then send JSON all the same.
bool ReplyReader::MayBeWhole(std::string_view bytes) const {
  if (decoded_events_ > 0) return false;
  return !kept_.empty() || StartsAsJson(Trim(bytes));
}

void ReplyReader::OnEvent(std::string_view event, std::string_view data) {
  data = Trim(data);
  if (data.empty() || failed()) return;
  if (data == "[DONE]") {
    ++decoded_events_;
    reply_.EndMarker();
    return;
  }
  if (json_.Parse(data) && (json_.root().is_object() || json_.root().is_array())) {
    ++decoded_events_;
    Decode(event, json_.root());
  } else if (event == "error") {
    ++decoded_events_;
    ApiError error;
    error.message = data;
    reply_.Fail(std::move(error));
  } else {
    ++bad_events_;
  }
}

void ReplyReader::Decode(std::string_view event, JsonValue data) {
  reply_.set_mended(json_.mended());
  simdjson::dom::array array;
  if (data.get(array) != simdjson::SUCCESS) {
    decoder_->OnEvent(event, data, reply_);
    return;
  }
  for (const JsonValue element : array) decoder_->OnEvent(event, element, reply_);
}

void ReplyReader::DecodeWhole() {
  if (!json_.Parse(Trim(kept_)) || !(json_.root().is_object() || json_.root().is_array())) return;
  ++decoded_events_;
  Decode("message", json_.root());
}

bool ReplyReader::has_all() const { return reply_.finished() || reply_.end_marker() || failed(); }

void ReplyReader::ReadRest(const HttpEnd& end) {
  if (form_ == BodyForm::kEvents && end.kind == HttpEnd::Kind::kComplete) {
    parser_.Finish([this](std::string_view event, std::string_view data) { OnEvent(event, data); });
  }
  if (decoded_events_ == 0 && !kept_.empty()) DecodeWhole();
}

Outcome ReplyReader::Finish(const HttpEnd& end) {
  Outcome outcome = Judge(end);
  outcome.reused_connection = end.reused_connection;
  outcome.skipped_events = bad_events_ + parser_.skipped_lines();
  return outcome;
}

Outcome ReplyReader::Judge(const HttpEnd& end) {
  if (end.kind == HttpEnd::Kind::kCancelled && !has_all()) {
    return MakeOutcome(OutcomeKind::kCancelled, end.error);
  }
  if (status_ == 0 && end.kind == HttpEnd::Kind::kPooledReset) {
    return MakeOutcome(OutcomeKind::kPooledReset, end.error);
  }
  if (status_ == 0 && end.kind != HttpEnd::Kind::kTooLarge) {
    return MakeOutcome(OutcomeKind::kConnect, end.error);
  }
  if (form_ == BodyForm::kError) {
    Outcome outcome = ClassifyResponse(Context(), kept_);
    // A refusal is an answer, and every answer has its finish reason.
    if (outcome.kind == OutcomeKind::kRefusal) {
      sink_.OnFinish(core::FinishReason::kContentFilter);
    }
    return outcome;
  }
  if (end.kind == HttpEnd::Kind::kTooLarge) {
    return MakeOutcome(OutcomeKind::kMalformed, "the reply is too large");
  }
  ReadRest(end);
  if (reply_.failure()) return JudgeFailure(*reply_.failure());
  if (reply_.finished()) return JudgeFinished();
  if (end.kind == HttpEnd::Kind::kCut) return MakeOutcome(OutcomeKind::kCut, end.error);
  if (decoded_events_ == 0) {
    return MakeOutcome(OutcomeKind::kMalformed, "the reply is neither events nor JSON");
  }
  if (form_ == BodyForm::kWhole) {
    return MakeOutcome(OutcomeKind::kMalformed, "the reply has no finish reason");
  }
  return MakeOutcome(OutcomeKind::kCut, "the reply ended without a finish reason");
}

Outcome ReplyReader::JudgeFailure(const Reply::Failure& failure) {
  if (const auto* kind = std::get_if<OutcomeKind>(&failure.what)) {
    return MakeOutcome(*kind, failure.why);
  }
  Outcome outcome = ClassifyInStream(Context(), std::get<ApiError>(failure.what));
  if (outcome.kind == OutcomeKind::kRefusal) sink_.OnFinish(core::FinishReason::kContentFilter);
  return outcome;
}

Outcome ReplyReader::JudgeFinished() {
  if (!reply_.has_content() && !reply_.refused()) {
    return MakeOutcome(OutcomeKind::kMalformed, "the reply is empty");
  }
  reply_.Close();
  return reply_.refused() ? MakeOutcome(OutcomeKind::kRefusal, reply_.refusal())
                          : MakeOutcome(OutcomeKind::kComplete, {});
}

Outcome ReplyReader::MakeOutcome(OutcomeKind kind, std::string_view error) const {
  Outcome outcome;
  outcome.kind = kind;
  outcome.http_status = status_;
  outcome.error = CleanErrorText(error, secrets_);
  return outcome;
}

FailureContext ReplyReader::Context() const {
  return {.kind = kind_,
          .http_status = status_,
          .headers = headers_,
          .clock = clock_,
          .secrets = secrets_};
}

}  // namespace holdfast::providers
