#include "providers/classify.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "providers/error_text.h"
#include "providers/retry_after.h"

namespace holdfast::providers {
namespace {

using core::OutcomeKind;

// The first rule of a table that matches decides. A word must be equal to one of the error's
// codes, types or reasons; a phrase must occur in its message. Both in lower case.
struct Rule {
  enum class Field { kWord, kPhrase };
  Field field;
  std::string_view text;
  OutcomeKind kind;
};

constexpr Rule Word(std::string_view text, OutcomeKind kind) {
  return {Rule::Field::kWord, text, kind};
}
constexpr Rule Phrase(std::string_view text, OutcomeKind kind) {
  return {Rule::Field::kPhrase, text, kind};
}

// OpenAI, Azure, and the servers that speak their protocol: vLLM, llama.cpp, Ollama, Groq,
// Together, Mistral, DeepSeek, OpenRouter.
constexpr Rule kOpenAiRules[] = {
    Word("context_length_exceeded", OutcomeKind::kContextLength),
    Word("exceed_context_size_error", OutcomeKind::kContextLength),
    Word("content_filter", OutcomeKind::kRefusal),
    Word("content_policy_violation", OutcomeKind::kRefusal),
    Word("responsibleaipolicyviolation", OutcomeKind::kRefusal),
    Word("moderation_blocked", OutcomeKind::kRefusal),
    Word("invalid_prompt", OutcomeKind::kRefusal),
    Word("cyber_policy_violation", OutcomeKind::kRefusal),
    Word("insufficient_quota", OutcomeKind::kQuota),
    Word("quota_exceeded", OutcomeKind::kQuota),
    Word("billing_hard_limit_reached", OutcomeKind::kQuota),
    Word("billing_not_active", OutcomeKind::kQuota),
    Word("billing_error", OutcomeKind::kQuota),
    Word("insufficient_balance", OutcomeKind::kQuota),
    Word("insufficient_credits", OutcomeKind::kQuota),
    Word("credit_limit", OutcomeKind::kQuota),
    Word("invalid_api_key", OutcomeKind::kAuth),
    Word("incorrect_api_key", OutcomeKind::kAuth),
    Word("invalid_authentication", OutcomeKind::kAuth),
    Word("authentication_error", OutcomeKind::kAuth),
    Word("permission_error", OutcomeKind::kAuth),
    Word("permission_denied", OutcomeKind::kAuth),
    Word("account_deactivated", OutcomeKind::kAuth),
    Word("access_terminated", OutcomeKind::kAuth),
    Word("invalid_organization", OutcomeKind::kAuth),
    Word("mismatched_organization", OutcomeKind::kAuth),
    Word("ip_not_authorized", OutcomeKind::kAuth),
    Word("unsupported_country_region_territory", OutcomeKind::kAuth),
    Word("organization_restricted", OutcomeKind::kAuth),
    Word("permissiondenied", OutcomeKind::kAuth),
    Word("model_not_found", OutcomeKind::kModelNotFound),
    Word("model_not_available", OutcomeKind::kModelNotFound),
    Word("model_decommissioned", OutcomeKind::kModelNotFound),
    Word("model_terms_required", OutcomeKind::kModelNotFound),
    Word("deploymentnotfound", OutcomeKind::kModelNotFound),
    Word("not_found_error", OutcomeKind::kModelNotFound),
    Word("notfounderror", OutcomeKind::kModelNotFound),
    Word("api_key_invalid", OutcomeKind::kAuth),  // Gemini's words, by its OpenAI endpoint
    Word("unauthenticated", OutcomeKind::kAuth),
    Word("resource_exhausted", OutcomeKind::kRateLimited),
    Word("rate_limit_exceeded", OutcomeKind::kRateLimited),
    Word("rate_limit_error", OutcomeKind::kRateLimited),
    Word("rate_limited", OutcomeKind::kRateLimited),
    Word("rate_limit_reached_error", OutcomeKind::kRateLimited),
    Word("ratelimitreached", OutcomeKind::kRateLimited),
    Word("too_many_requests", OutcomeKind::kRateLimited),
    Word("slow_down", OutcomeKind::kOverloaded),
    Word("overloaded", OutcomeKind::kOverloaded),
    Word("overloaded_error", OutcomeKind::kOverloaded),
    Word("server_overloaded", OutcomeKind::kOverloaded),
    Word("engine_overloaded", OutcomeKind::kOverloaded),
    Word("service_unavailable", OutcomeKind::kOverloaded),
    Word("service_unavailable_error", OutcomeKind::kOverloaded),
    Word("unavailable_error", OutcomeKind::kOverloaded),
    Word("insufficient_system_resource", OutcomeKind::kOverloaded),
    Word("request_timeout", OutcomeKind::kRequestTimeout),
    Phrase("maximum context length", OutcomeKind::kContextLength),
    Phrase("exceeds the available context size", OutcomeKind::kContextLength),
    Phrase("exceeds the context window", OutcomeKind::kContextLength),
    Phrase("exceeds the model's context", OutcomeKind::kContextLength),
    Phrase("context length exceeded", OutcomeKind::kContextLength),
    Phrase("context window exceeded", OutcomeKind::kContextLength),
    Phrase("reduce the length of the messages", OutcomeKind::kContextLength),
    Phrase("prompt is too long", OutcomeKind::kContextLength),
    Phrase("longer than the maximum model length", OutcomeKind::kContextLength),
    Phrase("content management policy", OutcomeKind::kRefusal),
    Phrase("violating our usage policy", OutcomeKind::kRefusal),
    Phrase("rejected as a result of our safety system", OutcomeKind::kRefusal),
    Phrase("exceeded your current quota", OutcomeKind::kQuota),
    Phrase("insufficient balance", OutcomeKind::kQuota),
    Phrase("credit balance", OutcomeKind::kQuota),
    Phrase("insufficient credits", OutcomeKind::kQuota),
    Phrase("billing hard limit", OutcomeKind::kQuota),
    Phrase("incorrect api key", OutcomeKind::kAuth),
    Phrase("invalid api key", OutcomeKind::kAuth),
    Phrase("country, region, or territory not supported", OutcomeKind::kAuth),
    Phrase("does not exist or you do not have access to it", OutcomeKind::kModelNotFound),
};

constexpr Rule kAnthropicRules[] = {
    // Before the types, since many of these come as invalid_request_error or rate_limit_error.
    Phrase("credit balance", OutcomeKind::kQuota),
    Phrase("api usage limits", OutcomeKind::kQuota),
    Phrase("prompt is too long", OutcomeKind::kContextLength),
    Phrase("exceed context limit", OutcomeKind::kContextLength),
    Phrase("exceeds the context window", OutcomeKind::kContextLength),
    Phrase("content filtering policy", OutcomeKind::kRefusal),
    Phrase("organization has been disabled", OutcomeKind::kAuth),
    Phrase("not available in your region", OutcomeKind::kAuth),
    Phrase("not available in your country", OutcomeKind::kAuth),
    Phrase("invalid x-api-key", OutcomeKind::kAuth),
    Word("billing_error", OutcomeKind::kQuota),
    Word("authentication_error", OutcomeKind::kAuth),
    Word("permission_error", OutcomeKind::kAuth),
    Word("forbidden", OutcomeKind::kAuth),
    Word("not_found_error", OutcomeKind::kModelNotFound),
    Word("request_too_large", OutcomeKind::kBadRequest),
    Word("rate_limit_error", OutcomeKind::kRateLimited),
    Word("overloaded_error", OutcomeKind::kOverloaded),
    Word("timeout_error", OutcomeKind::kServerError),
};

constexpr Rule kGeminiRules[] = {
    Word("api_key_invalid", OutcomeKind::kAuth),
    Word("api_key_expired", OutcomeKind::kAuth),
    Word("api_key_service_blocked", OutcomeKind::kAuth),
    Word("api_key_http_referrer_blocked", OutcomeKind::kAuth),
    Word("api_key_ip_address_blocked", OutcomeKind::kAuth),
    Word("service_disabled", OutcomeKind::kAuth),
    Word("consumer_suspended", OutcomeKind::kAuth),
    Word("consumer_invalid", OutcomeKind::kAuth),
    Word("billing_disabled", OutcomeKind::kQuota),
    Word("quota_per_day", OutcomeKind::kQuota),  // ours: see ReadQuotaFailure
    Phrase("api key not valid", OutcomeKind::kAuth),
    Phrase("api key not found", OutcomeKind::kAuth),
    Phrase("api key expired", OutcomeKind::kAuth),
    Phrase("reported as leaked", OutcomeKind::kAuth),
    Phrase("location is not supported", OutcomeKind::kAuth),
    Phrase("enable billing", OutcomeKind::kQuota),
    Phrase("credits are depleted", OutcomeKind::kQuota),
    Phrase("exceeds the maximum number of tokens", OutcomeKind::kContextLength),
    Phrase("input token count exceeds", OutcomeKind::kContextLength),
    Phrase("input context is too long", OutcomeKind::kContextLength),
    Word("resource_exhausted", OutcomeKind::kRateLimited),
    Word("rate_limit_exceeded", OutcomeKind::kRateLimited),
    Word("unauthenticated", OutcomeKind::kAuth),
    Word("permission_denied", OutcomeKind::kAuth),
    Word("not_found", OutcomeKind::kModelNotFound),
    Word("unavailable", OutcomeKind::kOverloaded),
    Word("aborted", OutcomeKind::kConflict),
    Word("already_exists", OutcomeKind::kConflict),
    Word("deadline_exceeded", OutcomeKind::kServerError),
};

// Types that say no more than whose fault it was. A status of the same side says it better: a 401
// of type invalid_request_error is about the key.
constexpr std::string_view kCallersFault[] = {
    "invalid_request_error", "invalid_request",  "badrequesterror",      "bad_request",
    "bad_request_error",     "validation_error", "unprocessable_entity", "invalid_argument",
    "failed_precondition",   "out_of_range"};
constexpr std::string_view kServersFault[] = {
    "api_error",           "server_error", "internal_error", "internal_server_error",
    "internalservererror", "internal",     "unknown"};

std::span<const Rule> RulesOf(Kind kind) {
  switch (kind) {
    case Kind::kOpenAi:
      return kOpenAiRules;
    case Kind::kAnthropic:
      return kAnthropicRules;
    case Kind::kGemini:
      return kGeminiRules;
  }
  return {};
}

OutcomeKind ByStatus(int status) {
  switch (status) {
    case 400:
    case 413:
    case 422:
      return OutcomeKind::kBadRequest;
    case 401:
    case 403:
      return OutcomeKind::kAuth;
    case 402:
      return OutcomeKind::kQuota;
    case 404:
      return OutcomeKind::kModelNotFound;
    case 408:
      return OutcomeKind::kRequestTimeout;
    case 409:
    case 425:
      return OutcomeKind::kConflict;
    case 429:
      return OutcomeKind::kRateLimited;
    case 503:
    case 529:
      return OutcomeKind::kOverloaded;
    default:
      return OutcomeKind::kServerError;
  }
}

bool IsSuccess(int status) { return status >= 200 && status < 300; }

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

template <size_t N>
bool HasAny(const ApiError& error, const std::string_view (&words)[N]) {
  return std::any_of(error.words.begin(), error.words.end(), [&words](const std::string& word) {
    return std::find(std::begin(words), std::end(words), word) != std::end(words);
  });
}

std::optional<OutcomeKind> ByRules(Kind kind, const ApiError& error) {
  const std::string message = Lower(error.message);
  for (const Rule& rule : RulesOf(kind)) {
    const bool matches =
        rule.field == Rule::Field::kWord
            ? std::find(error.words.begin(), error.words.end(), rule.text) != error.words.end()
            : message.find(rule.text) != std::string::npos;
    if (matches) return rule.kind;
  }
  return std::nullopt;
}

void AddWord(ApiError& error, std::string_view word) {
  if (!word.empty()) error.words.push_back(Lower(PlainText(word)));
}

// "GenerateRequestsPerDayPerProjectPerModel-FreeTier": used up for today, where one per minute is
// a rate.
void ReadQuotaFailure(JsonValue detail, ApiError& error) {
  ForEach(detail, "violations", [&error](JsonValue violation) {
    if (Lower(FindString(violation, "quotaId")).find("perday") != std::string::npos) {
      AddWord(error, "quota_per_day");
    }
  });
}

void ReadDetail(JsonValue detail, ApiError& error) {
  AddWord(error, FindString(detail, "reason"));
  const std::string_view delay = FindString(detail, "retryDelay");
  if (!delay.empty()) error.retry_delay = delay;
  ReadQuotaFailure(detail, error);
}

void ReadCode(JsonValue object, ApiError& error) {
  const std::optional<JsonValue> code = Find(object, "code");
  if (!code) return;
  const std::string_view text = AsString(*code);
  AddWord(error, text);
  int64_t number = AsInt(*code).value_or(0);
  if (text.size() == 3) std::from_chars(text.data(), text.data() + text.size(), number);
  if (number >= 400 && number < 600) error.status = static_cast<int>(number);
}

void ReadErrorObject(JsonValue object, ApiError& error) {
  ReadCode(object, error);
  AddWord(error, FindString(object, "type"));
  AddWord(error, FindString(object, "status"));
  if (const auto inner = Find(object, "innererror")) AddWord(error, FindString(*inner, "code"));
  ForEach(object, "details", [&error](JsonValue detail) { ReadDetail(detail, error); });
  for (const char* key : {"message", "detail", "error_description"}) {
    if (error.message.empty()) error.message = PlainText(FindString(object, key));
  }
}

// OpenRouter keeps the words of the provider behind it there.
void ReadMetadata(JsonValue object, ApiError& error) {
  const std::optional<JsonValue> metadata = Find(object, "metadata");
  if (!metadata) return;
  const std::string_view raw = FindString(*metadata, "raw");
  if (!raw.empty()) error.message += ": " + PlainText(raw);
}

std::string MessageOf(int status, const ApiError& error) {
  if (!error.message.empty()) return error.message;
  for (const std::string& word : error.words) return word;
  return status == 0 ? "error in the stream" : "HTTP " + std::to_string(status);
}

std::optional<bool> ReadShouldRetry(const HttpHeaders& headers) {
  const std::string* value = headers.Find("x-should-retry");
  if (value == nullptr) return std::nullopt;
  const std::string lower = Lower(*value);
  if (lower == "true") return true;
  if (lower == "false") return false;
  return std::nullopt;
}

core::Outcome MakeOutcome(const FailureContext& context, OutcomeKind kind, const ApiError& error) {
  core::Outcome outcome;
  outcome.kind = kind;
  outcome.http_status = context.http_status;
  const int named = IsSuccess(context.http_status) ? error.status : context.http_status;
  outcome.error = CleanErrorText(MessageOf(named, error), context.secrets);
  outcome.retry_after = ReadRetryAfter(context.headers, error.retry_delay, context.clock);
  outcome.should_retry = ReadShouldRetry(context.headers);
  return outcome;
}

// Plain words of a server or proxy that speaks no JSON; its pages are no message.
std::string TextOfBody(std::string_view body) {
  const size_t first = body.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || body[first] == '<') return {};
  return std::string(body.substr(first, 4 * kMaxErrorText));
}

}  // namespace

ApiError ReadApiError(JsonValue value) {
  ApiError error;
  simdjson::dom::array array;
  if (value.get(array) == simdjson::SUCCESS) {
    for (const JsonValue element : array) return ReadApiError(element);
    return error;
  }
  const std::optional<JsonValue> inner = Find(value, "error");
  if (inner && inner->is_object()) {
    ReadErrorObject(*inner, error);
    ReadMetadata(*inner, error);
    return error;
  }
  error.message = PlainText(AsString(inner.value_or(value)));
  ReadErrorObject(value, error);
  return error;
}

OutcomeKind ClassifyError(Kind kind, int http_status, const ApiError& error) {
  if (const auto by_rules = ByRules(kind, error)) return *by_rules;
  const int status = error.status != 0 ? error.status : http_status;
  const bool no_status = status == 0 || IsSuccess(status);
  const bool says_client = status >= 400 && status < 500;
  if (HasAny(error, kCallersFault)) {
    return says_client ? ByStatus(status) : OutcomeKind::kBadRequest;
  }
  if (HasAny(error, kServersFault) && (no_status || status == 400)) {
    return OutcomeKind::kServerError;
  }
  return ByStatus(status);
}

core::Outcome ClassifyResponse(const FailureContext& context, std::string_view body) {
  JsonReader reader;
  const bool is_json =
      reader.Parse(body) && (reader.root().is_object() || reader.root().is_array());
  ApiError error;
  if (is_json) {
    error = ReadApiError(reader.root());
    return MakeOutcome(context, ClassifyError(context.kind, context.http_status, error), error);
  }
  error.message = TextOfBody(body);
  return MakeOutcome(context, ByStatus(context.http_status), error);
}

core::Outcome ClassifyInStream(const FailureContext& context, const ApiError& error) {
  return MakeOutcome(context, ClassifyError(context.kind, 0, error), error);
}

}  // namespace holdfast::providers
