#include "server/config/keys.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>

#include "core/patterns.h"
#include "resilience/validate.h"
#include "server/config/schema.h"
#include "server/config/values.h"

// Where a key's value lives in its struct, for reading and printing alike.
#define AT(member) [](auto& object) -> auto& { return object.member; }

namespace holdfast::server {

void PrintText(YAML::Emitter& out, const std::string& text) {
  std::string escaped;
  for (size_t i = 0; i < text.size(); ++i) {
    escaped += text[i];
    if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{') escaped += '$';
  }
  out << YAML::DoubleQuoted << escaped;
}

namespace {

using core::Duration;
using resilience::AttemptTimeouts;
using resilience::BreakerOptions;
using resilience::HedgeOptions;
using resilience::PartialOptions;
using resilience::Price;
using resilience::RetryBudgetOptions;
using resilience::RetryOptions;
using resilience::Route;
using resilience::RouteCacheOptions;
using resilience::Step;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr size_t kMaxName = 128;
constexpr size_t kMaxModelName = 256;

// --- Kinds of values ---------------------------------------------------------------------------

// Durations. `zero`: whether 0s is allowed.
Type<Duration> Time(Duration most, bool zero = false) {
  Type<Duration> type;
  type.name = "duration";
  type.range = (zero ? ">= 0s, <= " : "> 0s, <= ") + core::FormatDuration(most);
  type.parse = [most, zero](const std::string& text, Duration& out) -> std::string {
    const auto parsed = ParseDuration(text);
    if (!parsed) {
      if (ParseNumber(text))
        return "must have a unit: " + text + "s, " + text + "ms or " + text + "m";
      return "must be a duration such as 30s, 250ms or 1m30s";
    }
    if (*parsed > most) return "must be at most " + core::FormatDuration(most);
    if (!zero && *parsed == Duration::zero()) return "must be longer than 0s";
    out = *parsed;
    return "";
  };
  type.format = core::FormatDuration;
  return type;
}

Type<uint64_t> Bytes(uint64_t most = 1 << 30) {
  Type<uint64_t> type;
  type.name = "size";
  type.range = ">= 1, <= " + FormatSize(most);
  type.parse = [most](const std::string& text, uint64_t& out) -> std::string {
    const auto parsed = ParseSize(text);
    if (!parsed) return "must be a size such as 512KiB, 16MiB, 3MB or a number of bytes";
    if (*parsed < 1 || *parsed > most) return "must be within 1 and " + FormatSize(most);
    out = *parsed;
    return "";
  };
  type.format = FormatSize;
  return type;
}

template <typename V>
Type<V> Whole(V least, V most) {
  Type<V> type;
  type.name = "integer";
  type.range = "[" + std::to_string(least) + ", " + std::to_string(most) + "]";
  type.syntax = Syntax::kLiteral;
  type.parse = [least, most](const std::string& text, V& out) -> std::string {
    const auto parsed = ParseInteger(text);
    if (!parsed) return "must be a whole number";
    if (*parsed < least || *parsed > most) {
      return "must be within " + std::to_string(least) + " and " + std::to_string(most);
    }
    out = static_cast<V>(*parsed);
    return "";
  };
  type.format = [](const V& value) { return std::to_string(value); };
  return type;
}

// "[0, 1]", "(0, 1]", "[0, 1)": which ends belong to it.
Type<double> Real(double least, double most, const char* ends = "[]") {
  const bool open_below = ends[0] == '(';
  const bool open_above = ends[1] == ')';
  Type<double> type;
  type.name = "number";
  type.range = ends[0] + FormatNumber(least) + ", " + FormatNumber(most) + ends[1];
  type.syntax = Syntax::kLiteral;
  type.parse = [=, range = type.range](const std::string& text, double& out) -> std::string {
    const auto parsed = ParseNumber(text);
    if (!parsed) return "must be a number";
    const bool below = open_below ? *parsed <= least : *parsed < least;
    const bool above = open_above ? *parsed >= most : *parsed > most;
    if (below || above) return "must be within " + range;
    out = *parsed;
    return "";
  };
  type.format = FormatNumber;
  return type;
}

Type<bool> TrueOrFalse() {
  Type<bool> type;
  type.name = "boolean";
  type.range = "true, false";
  type.syntax = Syntax::kLiteral;
  type.parse = [](const std::string& text, bool& out) -> std::string {
    if (text != "true" && text != "false") return "must be true or false";
    out = text == "true";
    return "";
  };
  type.format = [](const bool& value) -> std::string { return value ? "true" : "false"; };
  return type;
}

template <typename E>
Type<E> Choice(std::vector<std::pair<std::string, E>> choices) {
  Type<E> type;
  type.name = "choice";
  for (const auto& [name, value] : choices) type.range += (type.range.empty() ? "" : ", ") + name;
  type.parse = [choices, range = type.range](const std::string& text, E& out) -> std::string {
    for (const auto& [name, value] : choices) {
      if (name == text) {
        out = value;
        return "";
      }
    }
    return "must be one of " + range;
  };
  type.format = [choices](const E& wanted) -> std::string {
    for (const auto& [name, value] : choices) {
      if (value == wanted) return name;
    }
    return "";
  };
  return type;
}

Type<std::string> TextType(std::string name, std::string range,
                           std::function<std::string(const std::string&)> fault) {
  Type<std::string> type;
  type.name = std::move(name);
  type.range = std::move(range);
  type.syntax = Syntax::kText;
  type.parse = [fault](const std::string& text, std::string& out) {
    std::string reason = fault(text);
    if (reason.empty()) out = text;
    return reason;
  };
  type.format = [](const std::string& text) { return text; };
  return type;
}

std::string NameFault(const std::string& text, size_t most) {
  if (text.empty()) return "must not be empty";
  if (text.size() > most) return "must be at most " + std::to_string(most) + " bytes long";
  if (HasControlCharacter(text)) return "must not contain control characters";
  if (text.front() == ' ' || text.back() == ' ') return "must not begin or end with a space";
  return "";
}

Type<std::string> Name(size_t most = kMaxName) {
  return TextType("text", "1 to " + std::to_string(most) + " bytes",
                  [most](const std::string& text) { return NameFault(text, most); });
}

Type<std::string> FilePath() {
  return TextType("path", "", [](const std::string& text) -> std::string {
    if (text.empty()) return "must not be empty";
    return HasControlCharacter(text) ? "must not contain control characters" : "";
  });
}

Type<std::string> ListenAddress() {
  return TextType("address", "HOST:PORT; port 0 = any free one",
                  [](const std::string& text) -> std::string {
                    if (ParseAddress(text)) return "";
                    return "must be HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051";
                  });
}

std::string Masked(const std::string& secret) { return secret.empty() ? "" : "***"; }

std::string HeaderValueFault(const std::string& text) {
  if (text.empty()) return "must not be empty: leave it out instead";
  if (HasControlCharacter(text, "\t")) return "must not contain control characters or line breaks";
  return "";
}

Type<std::string> Secret() {
  Type<std::string> type = TextType("secret", "", HeaderValueFault);
  type.secret = true;
  type.mask = Masked;
  return type;
}

Type<std::string> EncryptionKey() {
  Type<std::string> type =
      TextType("secret", "64 hexadecimal digits", [](const std::string& text) -> std::string {
        constexpr size_t kDigits = 64;
        if (text.size() == kDigits &&
            text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos) {
          return "";
        }
        return "must be 64 hexadecimal digits, as `openssl rand -hex 32` writes them";
      });
  type.secret = true;
  type.mask = Masked;
  return type;
}

std::string BaseUrlFault(const std::string& text) {
  const auto url = ParseUrl(text);
  if (!url || (url->scheme != "http" && url->scheme != "https")) {
    return "must be an absolute http or https URL";
  }
  if (url->has_userinfo) return "must not carry credentials: use api_key or headers";
  if (url->has_query || url->has_fragment) return "must not have a query or fragment: use path";
  return "";
}

// What is wrong with one may be a password in it, so faults do not repeat it.
Type<std::string> BaseUrl() {
  Type<std::string> type = TextType("URL", "http or https; no credentials, query, fragment", {});
  type.quiet = true;
  type.parse = [](const std::string& text, std::string& out) {
    std::string reason = BaseUrlFault(text);
    if (reason.empty()) {
      out = text;
      while (out.back() == '/') out.pop_back();
    }
    return reason;
  };
  return type;
}

std::string ProxyFault(const std::string& text) {
  const auto url = ParseUrl(text);
  constexpr std::array<const char*, 6> kSchemes = {"http",    "https",  "socks4",
                                                   "socks4a", "socks5", "socks5h"};
  const bool known =
      url && std::find(kSchemes.begin(), kSchemes.end(), url->scheme) != kSchemes.end();
  if (!known) return "must be a proxy's URL: http, https, socks4, socks4a, socks5 or socks5h";
  const bool bare = url->path.empty() || url->path == "/";
  if (!bare || url->has_query || url->has_fragment) return "must end with the port";
  return "";
}

std::string MaskUserinfo(const std::string& text) {
  const auto url = ParseUrl(text);
  if (!url || !url->has_userinfo) return text;
  const size_t start = text.find("://") + 3;
  return text.substr(0, start) + "***" + text.substr(text.rfind('@'));
}

Type<std::string> Proxy() {
  Type<std::string> type =
      TextType("URL", "http, https, socks4, socks4a, socks5, socks5h", ProxyFault);
  type.secret = true;
  type.mask = MaskUserinfo;
  return type;
}

std::string PathFault(const std::string& text) {
  if (text.empty() || text.front() != '/') return "must begin with /";
  if (HasControlCharacter(text) || text.find_first_of(" #\\") != std::string::npos) {
    return "must not contain spaces, fragments or control characters";
  }
  return "";
}

// A query may carry a key (`?key=...`). What follows `api-version=` never is one.
std::string MaskQuery(const std::string& text) {
  const size_t query = text.find('?');
  if (query == std::string::npos) return text;
  std::string masked = text.substr(0, query);
  char separator = '?';
  for (size_t start = query + 1; start <= text.size();) {
    const size_t end = std::min(text.find('&', start), text.size());
    const std::string pair = text.substr(start, end - start);
    const size_t equals = pair.find('=');
    masked += separator;
    masked += equals == std::string::npos || pair.starts_with("api-version=")
                  ? pair
                  : pair.substr(0, equals + 1) + "***";
    separator = '&';
    start = end + 1;
  }
  return masked;
}

Type<std::string> UrlPath() {
  Type<std::string> type = TextType("text", "begins with /", PathFault);
  type.secret = true;
  type.mask = MaskQuery;
  return type;
}

Type<std::string> HeaderName() {
  return TextType("text", "a header's name", [](const std::string& text) -> std::string {
    return IsToken(text) ? "" : "must be the name of an HTTP header";
  });
}

Type<std::string> Notice() {
  constexpr size_t kMost = 2000;
  return TextType("text", "1 to 2000 bytes", [](const std::string& text) -> std::string {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return "must not be empty";
    if (text.size() > kMost) return "must be at most 2000 bytes long";
    if (HasControlCharacter(text, "\t\r\n")) return "must not contain control characters";
    return "";
  });
}

Type<std::string> Pattern() {
  return TextType("pattern", "a regular expression of RE2 that the empty text does not match",
                  [](const std::string& text) -> std::string {
                    const std::string fault = core::Patterns::Fault(text);
                    return fault.empty() ? "" : "is no pattern that can be used: " + fault;
                  });
}

Type<resilience::RateLimitScope> Scope() {
  return Choice<resilience::RateLimitScope>(
      {{"target", resilience::RateLimitScope::kTarget},
       {"credential", resilience::RateLimitScope::kCredential}});
}

// --- Breaker and limiter -----------------------------------------------------------------------

template <typename Options>
std::set<std::string> WithoutEffect(const Options& options, const std::set<std::string>& names) {
  std::set<std::string> dead;
  for (const resilience::OptionFault& fault : resilience::Ineffective(options, names)) {
    dead.insert(fault.field);
  }
  return dead;
}

constexpr int kMany = 1'000'000;

const Schema<BreakerOptions>& BreakerSchema() {
  using B = BreakerOptions;
  static const Schema<B> kSchema = {
      Value<B>("consecutive_failures", AT(consecutive_failures), Whole<int>(0, kMany),
               "Failures in a row that open the breaker. 0 = off; not all three triggers may be "
               "off."),
      Value<B>("failure_rate", AT(failure_rate), Real(0, 1),
               "Share of failures among the window's results that opens the breaker. 0 = off."),
      Value<B>("window", AT(window), Time(hours(24)),
               "How far back results count. At least twice the longest `first_token` of the steps "
               "that use the target."),
      Value<B>("buckets", AT(buckets), Whole<int>(1, 1000),
               "Parts of the window that are forgotten one at a time."),
      Value<B>("min_calls", AT(min_calls), Whole<int>(1, kMany),
               "Results the window must hold before `failure_rate` counts."),
      Value<B>("black_hole", AT(black_hole), Whole<int>(0, kMany),
               "Failures and censored calls in a window without any success that open the breaker. "
               "0 = off."),
      Value<B>("open", AT(open), Time(hours(24)),
               "How long the breaker stays open the first time. At most `open_max`."),
      Value<B>("open_max", AT(open_max), Time(hours(24)),
               "Where doubling with each failed probe ends."),
      Value<B>("open_jitter", AT(open_jitter), Real(0, 1, "[)"),
               "Each open time is longer or shorter by up to this part, at random."),
      Value<B>("half_open_probes", AT(half_open_probes), Whole<int>(1, kMany),
               "Calls at once that may try out a target after its open time."),
      Value<B>("half_open_successes", AT(half_open_successes), Whole<int>(1, kMany),
               "Successful probes that close the breaker. At most `half_open_probes`."),
      Value<B>("step_decay", AT(step_decay), Time(hours(24)),
               "Closed for this long without a trip takes one doubling back."),
  };
  return kSchema;
}

std::set<std::string> OmittedOfBreaker(const BreakerOptions& options) {
  return WithoutEffect(options, {"min_calls", "buckets", "failure_rate", "step_decay"});
}

const Schema<resilience::LimiterOptions>& LimiterSchema() {
  using L = resilience::LimiterOptions;
  static const Schema<L> kSchema = {
      Value<L>("max", AT(max), Whole<int>(1, kMany),
               "Most calls in flight; the limit starts here, falls on drops and recovers."),
  };
  return kSchema;
}

// --- Providers ---------------------------------------------------------------------------------

const Schema<ModelConfig>& ModelSchema() {
  using M = ModelConfig;
  using TokensField = providers::ModelOptions::MaxTokensField;
  using Continuation = providers::ModelOptions::Continuation;
  static const Schema<M> kSchema = {
      Value<M>("id", AT(options.model), Name(kMaxModelName),
               "What the provider calls the model, where that is not the name routes use.",
               "the model's name"),
      Value<M>("max_output_tokens", AT(options.max_output_tokens), Whole<int64_t>(1, 10'000'000),
               "Assumed by cost estimates, and sent where the provider demands a number, when a "
               "request names none."),
      Value<M>("tools", AT(options.tools), TrueOrFalse(),
               "Whether it can call tools. A target that cannot express a request is skipped."),
      Value<M>("images", AT(options.images), TrueOrFalse(), "Whether it can see images."),
      Value<M>("json_schema", AT(options.json_schema), TrueOrFalse(),
               "Whether it can be held to a JSON Schema; false: to JSON objects at most."),
      Value<M>("seed", AT(options.seed), TrueOrFalse(),
               "Whether it takes a seed. Never at anthropic kinds.", "true; anthropic: false"),
      Value<M>("max_temperature", AT(options.max_temperature), Real(0, 2),
               "Highest temperature it takes. At most 1 at anthropic kinds.", "2; anthropic: 1"),
      Value<M>("max_tokens_field", AT(options.max_tokens_field),
               Choice<TokensField>({{"max_tokens", TokensField::kMaxTokens},
                                    {"max_completion_tokens", TokensField::kMaxCompletionTokens}}),
               "openai kinds only: what the limit of output is called on the wire."),
      Value<M>(
          "continuation", AT(options.continuation),
          Choice<Continuation>({{"none", Continuation::kNone},
                                {"continue_final_message", Continuation::kContinueFinalMessage},
                                {"prefix", Continuation::kPrefix}}),
          "openai kinds only: how the server is told to go on from an assistant's message: "
          "vLLM and SGLang by continue_final_message, DeepSeek and Mistral by prefix. Unless "
          "it is none, the model continues answers that broke off."),
      Value<M>("stream_usage", AT(options.stream_usage), TrueOrFalse(),
               "openai kinds only: whether to ask for usage in streams, which a few old servers "
               "refuse."),
      Value<M>("rate_limit_scope", AT(rate_limit_scope), Scope(),
               "Replaces the provider's for this model.", "the provider's"),
      Section<M>("breaker", AT(breaker), BreakerSchema(),
                 "Replaces single settings of the provider's breaker for this model; defaults are "
                 "the provider's.",
                 std::function(OmittedOfBreaker)),
      Section<M>("limiter", AT(limiter), LimiterSchema(),
                 "Replaces the provider's limiter for this model; defaults are the provider's."),
  };
  return kSchema;
}

// Holdfast sends these itself, or the HTTP client does.
bool IsOwnHeader(const std::string& lower_name) {
  constexpr std::array<const char*, 10> kOwn = {
      "accept", "accept-encoding", "connection",        "content-length", "content-type",
      "expect", "idempotency-key", "transfer-encoding", "upgrade",        "x-holdfast-attempt"};
  return std::find(kOwn.begin(), kOwn.end(), lower_name) != kOwn.end();
}

Field<ProviderConfig> HeadersField() {
  Field<ProviderConfig> field;
  field.key = "headers";
  field.read = [](Reader& reader, const Node& node, const std::string& path,
                  ProviderConfig& provider) {
    if (!reader.ExpectMap(node, path)) return;
    std::set<std::string> seen;
    for (const Member& member : node.members) {
      const std::string name = member.key.substr(0, kMaxName);
      const std::string child = Child(path, name);
      reader.Place(child, member.value.at);
      if (member.key.size() > kMaxName || !IsToken(name)) {
        reader.Fail(member.at, path, "a name here is not that of an HTTP header");
        continue;
      }
      if (!seen.insert(ToLower(name)).second) {
        reader.Fail(member.at, child, "duplicate key");
        continue;
      }
      if (IsOwnHeader(ToLower(name))) {
        reader.Fail(member.at, child, "cannot take effect: Holdfast sets this header itself");
      }
      std::string value;
      ReadValue(reader, member.value, child, Secret(), value);
      provider.options.headers.emplace_back(name, std::move(value));
    }
  };
  field.print = [](YAML::Emitter& out, const ProviderConfig& provider) {
    out << YAML::Key << "headers" << YAML::Value << YAML::BeginMap;
    for (const auto& [name, value] : provider.options.headers) {
      out << YAML::Key;
      PrintText(out, name);
      out << YAML::Value;
      PrintValue(out, Secret(), value);
    }
    out << YAML::EndMap;
  };
  field.describe = [](const std::string& path, const ProviderConfig&, std::vector<KeyDoc>& docs) {
    docs.push_back({path, "map", "empty", "",
                    "Headers sent with every request to the provider, beside its own."});
    docs.push_back({path + ".<name>", "secret", "", "",
                    "A header's value; not one that Holdfast sets itself."});
  };
  return field;
}

Field<ProviderConfig> ModelsField() {
  Field<ProviderConfig> field;
  field.key = "models";
  field.read = [](Reader& reader, const Node& node, const std::string& path,
                  ProviderConfig& provider) {
    if (!reader.ExpectMap(node, path)) return;
    for (const Member& member : node.members) {
      const std::string reason = NameFault(member.key, kMaxModelName);
      if (!reason.empty()) {
        reader.Fail(member.at, path, "a model's name " + reason);
        continue;
      }
      const std::string child = Child(path, member.key);
      if (provider.models.contains(member.key)) {
        reader.Fail(member.at, child, "duplicate key");
        continue;
      }
      reader.Place(child, member.at);
      ModelConfig model = DefaultModel(provider, member.key);
      ReadMap(reader, member.value, child, ModelSchema(), model);
      provider.models.emplace(member.key, std::move(model));
    }
  };
  field.print = [](YAML::Emitter& out, const ProviderConfig& provider) {
    if (provider.models.empty()) return;
    out << YAML::Key << "models" << YAML::Value << YAML::BeginMap;
    for (const auto& [name, model] : provider.models) {
      out << YAML::Key;
      PrintText(out, name);
      out << YAML::Value;
      PrintMap(out, ModelSchema(), model);
    }
    out << YAML::EndMap;
  };
  field.describe = [](const std::string& path, const ProviderConfig&, std::vector<KeyDoc>& docs) {
    docs.push_back({path, "map", "empty", "",
                    "Settings of single models at this provider, by the name routes use."});
    docs.push_back({path + ".<model>", "map", "", "", "One model. Some route must use it."});
    DescribeMap(path + ".<model>", ModelSchema(), ModelConfig{}, docs);
  };
  return field;
}

const Schema<ProviderConfig>& ProviderSchema() {
  using P = ProviderConfig;
  using providers::Kind;
  // `models` is last: its defaults are what the others say.
  static const Schema<P> kSchema = {
      Value<P>("name", AT(options.name), Name(),
               "What routes, answers, logs and metrics call it. Unique.", kRequired),
      Value<P>("kind", AT(options.kind),
               Choice<Kind>({{"openai", Kind::kOpenAi},
                             {"anthropic", Kind::kAnthropic},
                             {"gemini", Kind::kGemini}}),
               "The wire format it speaks. openai: Chat Completions and all that speaks it.",
               kRequired),
      Value<P>("base_url", AT(options.base_url), BaseUrl(),
               "Where it is: openai kinds with their `/v1`, the others bare.", kRequired),
      Value<P>("path", AT(options.path), UrlPath(),
               "Replaces the path, query included, that the kind puts after `base_url`; `{model}` "
               "stands for the model.",
               "the kind's own"),
      Value<P>("api_key", AT(options.api_key), Secret(), "The key. Unset: none is sent."),
      Value<P>("api_key_header", AT(options.api_key_header), HeaderName(),
               "The header that carries the bare key, such as Azure's `api-key`.",
               "the kind's own"),
      HeadersField(),
      Value<P>("proxy", AT(options.proxy), Proxy(),
               "The proxy to go through. Unset: none; the environment is never asked."),
      Value<P>("ca_file", AT(options.ca_file), FilePath(),
               "Certificates to trust instead of the system's. https only."),
      Value<P>("rate_limit_scope", AT(rate_limit_scope), Scope(),
               "What a 429 rests: the one target, or all targets of this entry."),
      Section<P>("breaker", AT(breaker), BreakerSchema(),
                 "When to stop calling a target. One breaker for each model.",
                 std::function(OmittedOfBreaker)),
      Section<P>("limiter", AT(limiter), LimiterSchema(),
                 "How many calls at once a target gets. One limiter for each model."),
      ModelsField(),
  };
  return kSchema;
}

// --- Routes ------------------------------------------------------------------------------------

const Schema<AttemptTimeouts>& TimeoutsSchema() {
  using T = AttemptTimeouts;
  static const Schema<T> kSchema = {
      Value<T>("connect", AT(connect), Time(hours(1)), "DNS, connection and TLS."),
      Value<T>("first_token", AT(first_token), Time(hours(1)),
               "Until content or reasoning begins. Longer for models that think silently."),
      Value<T>("idle", AT(idle), Time(hours(1)), "Between two pieces of content."),
      Value<T>("attempt_timeout", AT(attempt), Time(hours(1)),
               "Over all of an attempt until it is committed."),
  };
  return kSchema;
}

constexpr double kMaxPrice = 1'000'000;

const Schema<Price>& PriceSchema() {
  using P = Price;
  static const Schema<P> kSchema = {
      Value<P>("input", AT(input), Real(0, kMaxPrice), "US dollars for a million input tokens."),
      Value<P>("cached_input", AT(cached_input), Real(0, kMaxPrice),
               "The same for input the provider had cached.", "that of input"),
      Value<P>("output", AT(output), Real(0, kMaxPrice), "US dollars for a million output tokens."),
  };
  return kSchema;
}

Field<Step> ProviderOfStep() {
  return Value<Step>("provider", AT(target.provider), Name(), "A provider's name.", kRequired);
}

Field<Step> ModelOfStep() {
  return Value<Step>("model", AT(target.model), Name(kMaxModelName), "The model.", kRequired);
}

Type<int64_t> ContextWindow() { return Whole<int64_t>(1, 1'000'000'000); }

const Schema<Step>& StepSchema() {
  static const Schema<Step> kSchema = {
      ProviderOfStep(),
      ModelOfStep(),
      Value<Step>("context_window", AT(context_window), ContextWindow(),
                  "Tokens it can take; after a prompt that was too long, only larger or unknown "
                  "ones are tried."),
      Value<Step>("can_continue", AT(can_continue), TrueOrFalse(),
                  "Whether it continues an answer that broke off from the text so far.",
                  "the kind's own"),
      Value<Step>("share", AT(share), Real(0, 1, "(]"),
                  "The part of the time that remains at its start that this step may use, retries "
                  "included. Unset: all but what later steps need."),
      Section<Step>("timeouts", AT(timeouts), TimeoutsSchema(), "Timers inside one attempt."),
      Section<Step>("price", AT(price), PriceSchema(),
                    "Unset: unknown, and the step is skipped by requests with a cost limit."),
  };
  return kSchema;
}

// One attempt at what is left of the time: no share, and nothing to continue.
const Schema<Step>& PartialTargetSchema() {
  static const Schema<Step> kSchema = {
      ProviderOfStep(),
      ModelOfStep(),
      Value<Step>("context_window", AT(context_window), ContextWindow(),
                  "As in the chain, whose step of the same target gives the default."),
      Section<Step>("timeouts", AT(timeouts), TimeoutsSchema(),
                    "As in the chain, whose step of the same target gives the defaults."),
      Section<Step>("price", AT(price), PriceSchema(),
                    "As in the chain, whose step of the same target gives the default."),
  };
  return kSchema;
}

const Schema<RetryBudgetOptions>& BudgetSchema() {
  using B = RetryBudgetOptions;
  static const Schema<B> kSchema = {
      Value<B>("tokens", AT(tokens), Real(1, kMany),
               "Size of the bucket, full at start. A retry costs 1, after a timeout or a cut "
               "stream 2."),
      Value<B>("per_success", AT(per_success), Real(0, kMany),
               "Tokens that a success on a first attempt brings."),
      Value<B>("per_minute", AT(per_minute), Real(0, kMany), "Tokens that a minute brings."),
      Value<B>("min_in_flight", AT(min_in_flight), Whole<int>(0, kMany),
               "So many retries may always be in flight."),
      Value<B>("in_flight_ratio", AT(in_flight_ratio), Real(0, 1),
               "Above that: this part of the requests in progress. 0 = off."),
  };
  return kSchema;
}

const Schema<HedgeOptions>& HedgeSchema() {
  using H = HedgeOptions;
  static const Schema<H> kSchema = {
      Value<H>("delay", AT(delay), Time(hours(1)),
               "The least silence before a hedge; the 95th percentile of the target's last first "
               "tokens if that is longer. Without 50 of them nothing is hedged."),
      Value<H>("max", AT(max), Whole<int>(1, 10), "Hedges of one attempt at once."),
  };
  return kSchema;
}

const Schema<RetryOptions>& RetrySchema() {
  using R = RetryOptions;
  static const Schema<R> kSchema = {
      Value<R>("max_retries", AT(max_retries), Whole<int>(0, 100), "Retries of one target."),
      Value<R>("max_attempts", AT(max_attempts), Whole<int>(1, 1000),
               "Attempts of one request over all targets. At least the length of the chain."),
      Value<R>("base", AT(backoff.base), Time(hours(1)),
               "Retry n (from 0) waits at random up to `base` * 2^n. At most `cap`."),
      Value<R>("cap", AT(backoff.cap), Time(hours(1)), "The longest such wait."),
      Value<R>("prefer_wait", AT(prefer_wait), Time(hours(1), true),
               "A Retry-After up to this is waited for even if another target is ready."),
      Value<R>("max_wait", AT(max_wait), Time(hours(1), true),
               "A Retry-After or cooldown up to this is waited for if no other target is ready."),
      Section<R>("budget", AT(budget), BudgetSchema(),
                 "How much extra load the route's retries may make in all."),
  };
  return kSchema;
}

std::set<std::string> OmittedOfRetry(const RetryOptions& options) {
  return WithoutEffect(options, {"base", "cap", "prefer_wait", "budget"});
}

const Schema<RouteCacheOptions>& CacheSchema() {
  using C = RouteCacheOptions;
  static const Schema<C> kSchema = {
      Value<C>("enabled", AT(enabled), TrueOrFalse(),
               "Whether answers are stored, and stale ones given when the chain is exhausted."),
      Value<C>("mode", AT(mode),
               Choice<core::CacheControl::Mode>({{"fallback", core::CacheControl::Mode::kFallback},
                                                 {"prefer", core::CacheControl::Mode::kPrefer}}),
               "When it is asked: after every target has failed, or already before the first, to "
               "save money. A request may say its own."),
      Value<C>("min_similarity", AT(min_similarity), Real(0, 1),
               "How alike the questions must be. A request may raise it."),
      Value<C>("prefer_similarity", AT(prefer_similarity), Real(0, 1),
               "The same for answers given before any target is asked. At least "
               "`min_similarity`."),
      Values<C>(
          "scope_ignore", AT(scope_ignore), Pattern(),
          "What in the route's system prompts does not tell stored answers apart: a date that "
          "changes, say. `config check` shows it."),
      Value<C>("max_error", AT(max_error), Real(0, 1, "()"),
               "Part of the served answers that may be wrong. The thresholds rise, by what the "
               "samples prove, until that holds. Unset: they stay."),
      Value<C>("max_age", AT(max_age), Time(hours(24 * 3650)),
               "How old an answer may be. A request may shorten it."),
  };
  return kSchema;
}

const Schema<PartialOptions>& PartialSchema() {
  using P = PartialOptions;
  static const Schema<P> kSchema = {
      Value<P>("notice", AT(notice), Notice(),
               "Set on every partial answer, and all of it when nothing else is left."),
      Section<P>("target", AT(target), PartialTargetSchema(),
                 "A cheap model that gets one attempt at a basic answer."),
  };
  return kSchema;
}

const Schema<Route>& RouteSchema() {
  using R = Route;
  using core::Degradation;
  static const Schema<R> kSchema = {
      Value<R>("name", AT(name), Name(),
               "What requests ask for; those that name none get `default`. Unique.", kRequired),
      Value<R>("timeout", AT(timeout), Time(hours(1)),
               "A request's time, if its own deadline is not shorter. At most `max_timeout`."),
      Value<R>("min_useful", AT(min_useful), Time(hours(1)),
               "An attempt that would get less time than this is not made."),
      Value<R>("worst_acceptable", AT(worst_acceptable),
               Choice<Degradation>({{"none", Degradation::kNone},
                                    {"fallback_model", Degradation::kFallbackModel},
                                    {"stale", Degradation::kStale},
                                    {"partial", Degradation::kPartial}}),
               "The lowest rung of the ladder that may be given. A request may say its own."),
      Value<R>("on_refusal", AT(on_refusal),
               Choice<resilience::OnRefusal>({{"final", resilience::OnRefusal::kFinal},
                                              {"next", resilience::OnRefusal::kNext}}),
               "A model refused: that is the answer, or the next target is asked."),
      Value<R>("on_break", AT(on_break),
               Choice<core::OnBreak>({{"continue", core::OnBreak::kContinue},
                                      {"restart", core::OnBreak::kRestart},
                                      {"partial", core::OnBreak::kPartial}}),
               "A stream broke after the caller saw some of it: go on from there, start again, or "
               "end."),
      Section<R>("hedge", AT(hedge), HedgeSchema(),
                 "Unset: off. Set: the next target is asked too while the first is silent; whoever "
                 "brings content first is heard."),
      Value<R>("max_cost_usd", AT(max_cost_usd), Real(0, kMaxPrice),
               "What one request may cost, unless it sets its own limit. Targets without a price "
               "are then skipped."),
      List<R>("chain", AT(chain), StepSchema(), "The targets, in the order they are tried."),
      Section<R>("retry", AT(retry), RetrySchema(), "When and how often a target is tried again.",
                 std::function(OmittedOfRetry)),
      Section<R>("cache", AT(cache), CacheSchema(), "Answers to earlier, similar questions."),
      Section<R>("partial", AT(partial), PartialSchema(), "What is given when all else failed."),
  };
  return kSchema;
}

// --- The whole ---------------------------------------------------------------------------------

const Schema<Limits>& LimitsSchema() {
  using L = Limits;
  static const Schema<L> kSchema = {
      Value<L>("prompt_text", AT(prompt_text), Bytes(),
               "Text of one request's messages. At most `request`."),
      Value<L>("request", AT(request), Bytes(), "One request as a message on the wire."),
      Value<L>("response", AT(response), Bytes(), "One reply of a provider."),
  };
  return kSchema;
}

const Schema<LogOptions>& LogSchema() {
  using L = LogOptions;
  static const Schema<L> kSchema = {
      Value<L>("format", AT(format),
               Choice<L::Format>({{"text", L::Format::kText}, {"json", L::Format::kJson}}),
               "How each line is written."),
      Value<L>("file", AT(file), FilePath(), "Where to.", "standard error"),
  };
  return kSchema;
}

const Schema<OpenAiEmbedder>& OpenAiEmbedderSchema() {
  using O = OpenAiEmbedder;
  static const Schema<O> kSchema = {
      Value<O>("base_url", AT(base_url), BaseUrl(),
               "The endpoint, without `/embeddings`: https://api.openai.com/v1.", kRequired),
      Value<O>("api_key", AT(api_key), Secret(), "Sent as a bearer token."),
      Value<O>("model", AT(model), Name(kMaxModelName), "The endpoint's model.", kRequired),
      Value<O>("version", AT(version), Name(),
               "To be changed when the model changes under its name: all is embedded again."),
      Value<O>("dimension", AT(dimension), Whole<int64_t>(1, 8192),
               "How many numbers its vectors have; others are refused.", kRequired),
      Value<O>("timeout", AT(timeout), Time(seconds(10)),
               "The longest time for a call with one text, as a lookup's; a batch has as much for "
               "each, up to 10 s. A lookup with less time does without it."),
      Section<O>("breaker", AT(breaker), BreakerSchema(),
                 "When to stop calling it. Calls that it refuses (400, 422) do not count.",
                 std::function(OmittedOfBreaker)),
  };
  return kSchema;
}

const Schema<EmbedderOptions>& EmbedderSchema() {
  using E = EmbedderOptions;
  static const Schema<E> kSchema = {
      Value<E>(
          "kind", AT(kind),
          Choice<E::Kind>({{"sentence", E::Kind::kSentence},
                           {"hash", E::Kind::kHash},
                           {"openai", E::Kind::kOpenAi}}),
          "What makes vectors of questions: a sentence encoder; hashes of their words, which know "
          "nothing of meaning; or an endpoint, with the encoder for when it is down."),
      Section<E>("openai", AT(openai), OpenAiEmbedderSchema(), "The endpoint of kind openai."),
      Value<E>("model", AT(model), FilePath(),
               "The sentence encoder's file (tools/fetch_model makes it).",
               "models/minilm.hfm beside the program's folder"),
  };
  return kSchema;
}

const Schema<CacheConfig>& CacheConfigSchema() {
  using C = CacheConfig;
  constexpr uint64_t kMostBytes = uint64_t{1} << 50;
  static const Schema<C> kSchema = {
      Value<C>("now_max_age", AT(now_max_age), Time(hours(24 * 3650)),
               "How old an answer to a question about now (today, latest, weather) may be."),
      Value<C>("sample_share", AT(sample_share), Real(0, 1),
               "Part of the stored answers that are compared with what the cache would have served "
               "in their place. 0 = off."),
      Value<C>("sample_cpu", AT(sample_cpu), Real(0, 1, "(]"),
               "The part of one core that comparing may take at most."),
      Value<C>("max_entries", AT(max_entries), Whole<int64_t>(1, 1'000'000'000),
               "Entries that are kept. Past it the least useful go."),
      Value<C>("max_bytes", AT(max_bytes), Bytes(kMostBytes),
               "Questions and answers of all entries together. Past it the least useful go."),
      Value<C>("max_entry_bytes", AT(max_entry_bytes), Bytes(),
               "One question with its answer; what is larger is not stored. At most `max_bytes`."),
      Value<C>(
          "index_memory", AT(index_memory), Bytes(kMostBytes),
          "About how much memory the vectors take, 1.1 GiB for a million. Past it those of the "
          "scopes that were not used for longest are dropped, and loaded again when needed."),
      Value<C>(
          "encryption_key", AT(encryption_key), EncryptionKey(),
          "Encrypts what the cache stores, best as `file:PATH`. Unset: it is stored in clear."),
      Value<C>(
          "encryption_key_previous", AT(encryption_key_previous), EncryptionKey(),
          "What the cache was encrypted with until now: it is read with it, and rewritten with "
          "`encryption_key` in the background."),
  };
  return kSchema;
}

const Schema<resilience::AdmissionOptions>& AdmissionSchema() {
  using A = resilience::AdmissionOptions;
  static const Schema<A> kSchema = {
      Value<A>("max_in_progress", AT(max_in_progress), Whole<int>(1, kMany),
               "Requests at once in the whole server."),
      Value<A>("max_queue", AT(max_queue), Whole<int>(0, kMany),
               "Requests that may wait for a place; others are shed."),
  };
  return kSchema;
}

const Schema<Config>& ConfigSchema() {
  using C = Config;
  static const Schema<C> kSchema = {
      Value<C>("listen", AT(listen), ListenAddress(),
               "Where GenerateService listens. Loopback only, unless `allow_unauthenticated`."),
      Value<C>("admin_listen", AT(admin_listen), ListenAddress(),
               "Where AdminService listens. Always loopback."),
      Value<C>("allow_unauthenticated", AT(allow_unauthenticated), TrueOrFalse(),
               "Lets `listen` be any address although callers are not authenticated."),
      Value<C>("data_dir", AT(data_dir), FilePath(), "Where the cache keeps its files."),
      Value<C>("drain", AT(drain), Time(minutes(10), true),
               "How long requests in progress may go on after the order to stop."),
      Value<C>("max_timeout", AT(max_timeout), Time(hours(1)),
               "The longest time any request gets, whatever its route or deadline says."),
      Value<C>("loops", AT(loops), Whole<int>(1, 256), "Threads that run requests.",
               "half the cores, at least 1"),
      Section<C>("log", AT(log), LogSchema(), "The log."),
      Section<C>("embedder", AT(embedder), EmbedderSchema(), "What makes vectors of questions."),
      Section<C>("cache", AT(cache), CacheConfigSchema(), "What holds for the whole cache."),
      Section<C>("admission", AT(admission), AdmissionSchema(),
                 "How many requests are let in at once."),
      Section<C>("limits", AT(limits), LimitsSchema(), "How large things may be."),
      List<C>("providers", AT(providers), ProviderSchema(),
              "The providers. Each must be used by a route."),
      List<C>("routes", AT(routes), RouteSchema(), "The routes."),
  };
  return kSchema;
}

std::string MarkdownRow(const KeyDoc& doc) {
  const auto cell = [](const std::string& text) { return text.empty() ? "-" : text; };
  return "| `" + doc.path + "` | " + doc.type + " | " + cell(doc.default_text) + " | " +
         cell(doc.range) + " | " + doc.effect + " |\n";
}

}  // namespace

std::vector<KeyDoc> DescribeKeys() {
  std::vector<KeyDoc> docs;
  DescribeMap("", ConfigSchema(), Config{}, docs);
  // Defaults that come from elsewhere in the file.
  for (KeyDoc& doc : docs) {
    if (doc.type == "map") continue;
    if (doc.path == "embedder.openai.breaker.window") {
      doc.effect = "How far back results count. At least twice `timeout`.";
    }
    const bool of_model = doc.path.find(".models.<model>.breaker.") != std::string::npos ||
                          doc.path.find(".models.<model>.limiter.") != std::string::npos;
    const bool of_partial = doc.path.starts_with("routes[].partial.target.timeouts.") ||
                            doc.path == "routes[].partial.target.context_window";
    if (of_model) doc.default_text = "the provider's";
    if (of_partial) doc.default_text = "the chain step's, else " + doc.default_text;
  }
  return docs;
}

std::string KeysAsMarkdown() {
  std::string text;
  std::string part;
  for (const KeyDoc& doc : DescribeKeys()) {
    const std::string heading = doc.path.starts_with("providers") ? "Providers"
                                : doc.path.starts_with("routes")  ? "Routes"
                                                                  : "The server";
    if (heading != part) {
      part = heading;
      text += "\n### " + heading +
              "\n\n| Key | Type | Default | Range | Effect |\n|---|---|---|---|---|\n";
    }
    text += MarkdownRow(doc);
  }
  return text;
}

void ReadConfig(Reader& reader, const Node& root, Config& out) {
  ReadMap(reader, root, "", ConfigSchema(), out);
}

bool ReadTopLevelKey(Reader& reader, const std::string& key, const std::string& value,
                     Config& out) {
  for (const Field<Config>& field : ConfigSchema()) {
    if (field.key != key || key == "providers" || key == "routes") continue;
    Node node;
    node.kind = Node::Kind::kScalar;
    node.text = value;
    node.plain = true;
    reader.Place(key, node.at);
    field.read(reader, node, key, out);
    return true;
  }
  return false;
}

void EmitConfig(YAML::Emitter& out, const Config& config) { PrintMap(out, ConfigSchema(), config); }

}  // namespace holdfast::server
