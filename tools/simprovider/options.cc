#include "tools/simprovider/options.h"

#include <charconv>
#include <cstdlib>

namespace simprovider {
namespace {

bool ToNumber(const std::string& text, double low, double high, double& out) {
  if (text.empty()) return false;
  char* end = nullptr;
  out = std::strtod(text.c_str(), &end);
  return *end == '\0' && out >= low && out <= high;
}

template <typename Integer>
bool ToInteger(const std::string& text, Integer low, Integer high, Integer& out) {
  const char* end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && parsed == end && out >= low && out <= high;
}

// False when the name is unknown; a bad value sets `reason`.
bool SetOption(const std::string& name, const std::string& value, Options& options,
               std::string& reason) {
  constexpr double kMaxMs = 86400000;
  bool good = true;
  if (name == "--listen") {
    options.listen = value;
    good = value.find(':') != std::string::npos;
  } else if (name == "--threads") {
    good = ToInteger(value, 1, 64, options.threads);
  } else if (name == "--api-key") {
    options.api_key = value;
    good = !value.empty();
  } else if (name == "--faults") {
    options.faults_file = value;
  } else if (name == "--answer-bytes") {
    good = ToInteger<size_t>(value, 1, 64 << 20, options.answers.answer_bytes);
  } else if (name == "--chunks") {
    good = ToInteger<size_t>(value, 1, 1 << 20, options.answers.chunks);
  } else if (name == "--seed") {
    good = ToInteger<uint64_t>(value, 0, UINT64_MAX, options.answers.seed);
  } else if (name == "--token-delay-ms") {
    good = ToNumber(value, 0, kMaxMs, options.pace.token_delay_ms);
  } else if (name == "--first-token-delay-ms") {
    good = ToNumber(value, 0, kMaxMs, options.pace.first_token_delay_ms);
  } else {
    return false;
  }
  if (!good) reason = name + ": \"" + value + "\" is no valid value";
  return true;
}

}  // namespace

ParsedOptions ParseOptions(const std::vector<std::string>& arguments, Options& options,
                           std::string& error) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    if (name == "--help" || name == "-h") return ParsedOptions::kHelp;
    if (name == "--log-attempts") {
      options.log_attempts = true;
      continue;
    }
    std::string value;
    const size_t equals = name.find('=');
    if (equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      error = name + ": unknown option, or its value is missing";
      return ParsedOptions::kBad;
    }
    if (!SetOption(name, value, options, error)) error = name + ": unknown option";
    if (!error.empty()) return ParsedOptions::kBad;
  }
  return ParsedOptions::kRun;
}

std::string HelpText() {
  return R"(simprovider: a simulated LLM provider with faults.

It speaks OpenAI Chat Completions (POST .../chat/completions, /v1/embeddings), Anthropic Messages
(POST /v1/messages) and Gemini (POST /v1beta/models/{model}:generateContent and
:streamGenerateContent) on one port, answers deterministically from the prompt, and breaks as told.

  --listen HOST:PORT         where to listen; port 0 takes any (127.0.0.1:8081)
  --threads N                event loops (1)
  --api-key KEY              demand this key; without it any key, or none, will do
  --faults FILE              faults to begin with: {"model": fault or list, ...}
  --answer-bytes N           length of the answer's text
  --chunks N                 deltas per stream (without: four tokens each)
  --token-delay-ms MS        pause between deltas (0)
  --first-token-delay-ms MS  pause before the first (0)
  --seed N                   other filler sentences (0)
  --log-attempts             a line on stderr for every attempt, when it ends
  --help

When ready it prints "listening on HOST:PORT". SIGTERM and SIGINT stop it.

Faults, per model name ("*": all the others), also while it runs:
  PUT    /sim/faults/{model}   a fault, or a list used up in order (each with "times": n)
  DELETE /sim/faults/{model}   DELETE /sim/faults   GET /sim/faults
  GET    /sim/attempts?model=&since=SEQ             DELETE /sim/attempts
  POST   /sim/reset            GET /sim/health

Two rate limits, then a stream that is reset after five tokens, then good answers:
  curl -X PUT localhost:8081/sim/faults/gpt-4o -d '[
    {"kind": "rate_limit", "retry_after": 2, "times": 2},
    {"kind": "cut", "after": 5, "how": "rst", "times": 1}]'

Kinds: status refuse reset hang slow_headers silence pings cut before_content stall drip malformed
split_utf8 no_done empty refusal content_filter outage flapping failure_rate dead_keepalive
invalid_json_answer context_length model_not_found quota rate_limit overloaded auth ok.
README.md beside the source has their keys.
)";
}

}  // namespace simprovider
