#include "tools/holdfastctl/render_json.h"

#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

using Json = nlohmann::ordered_json;

// Parsed again so that all documents are printed alike.
Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return {};
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

constexpr int kPretty = 2;
constexpr int kOneLine = -1;

std::string Print(const Json& document, int indent) {
  return EscapeJson(document.dump(indent, ' ', false, Json::error_handler_t::replace)) + "\n";
}

void AddAttempts(const v1::FailedAttempts& attempts, Json& error) {
  const Json all = ToJson(attempts);
  error["request_id"] = attempts.request_id();
  error["attempts"] = all.is_object() ? all.value("attempts", Json::array()) : Json::array();
  error["attempts_omitted"] = attempts.omitted();
}

Json ToJson(const CallError& call_error) {
  Json error;
  error["code"] = call_error.code;
  error["message"] = call_error.message;
  error["exit_code"] = call_error.exit_code;
  if (!call_error.reason.empty()) error["reason"] = call_error.reason;
  if (!call_error.domain.empty()) error["domain"] = call_error.domain;
  if (!call_error.metadata.empty()) error["metadata"] = call_error.metadata;
  if (call_error.retry_after) {
    error["retry_after_seconds"] = std::chrono::duration<double>(*call_error.retry_after).count();
  }
  for (const FieldViolation& violation : call_error.violations) {
    error["field_violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  if (call_error.attempts) AddAttempts(*call_error.attempts, error);
  return Json{{"error", error}};
}

}  // namespace

std::string MessageJson(const google::protobuf::Message& message) {
  return Print(ToJson(message), kPretty);
}

std::string MessageJsonLine(const google::protobuf::Message& message) {
  return Print(ToJson(message), kOneLine);
}

std::string ErrorJson(const CallError& error) { return Print(ToJson(error), kPretty); }

std::string ErrorJsonLine(const CallError& error) { return Print(ToJson(error), kOneLine); }

}  // namespace holdfast::ctl
