#include <cmath>
#include <cstdio>
#include <ctime>

#include "tools/holdfastctl/duration.h"
#include "tools/holdfastctl/render.h"
#include "tools/holdfastctl/render_attempts.h"

namespace holdfast::ctl {
namespace {

constexpr char kSeparator[] = " · ";

struct Headline {
  Colour colour;
  std::string text;
};

Headline RungHeadline(const v1::GenerateResponse& response) {
  const std::string by =
      response.has_served_by() ? TargetText(response.served_by()) : std::string("nobody");
  switch (response.degradation()) {
    case v1::DEGRADATION_NONE:
      return {Colour::kGreen, "answered by " + by};
    case v1::DEGRADATION_FALLBACK_MODEL:
      return {Colour::kYellow, "fallback model: answered by " + by};
    case v1::DEGRADATION_STALE:
      return {Colour::kYellow, "stale: the stored answer to a similar earlier question, by " + by};
    case v1::DEGRADATION_PARTIAL:
      return {Colour::kRed, response.has_served_by() ? "partial: incomplete or basic, by " + by
                                                     : "partial: the notice alone"};
    default:
      return {Colour::kRed, "answered by " + by + ", on an unknown rung"};
  }
}

std::string FinishText(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return "stop";
    case v1::FINISH_REASON_LENGTH:
      return "cut by its length";
    case v1::FINISH_REASON_TOOL_CALLS:
      return "tool calls";
    case v1::FINISH_REASON_CONTENT_FILTER:
      return "content filter";
    case v1::FINISH_REASON_REFUSAL:
      return "refused";
    default:
      return "";
  }
}

std::string UsageText(const v1::Usage& usage) {
  if (usage.input_tokens() == 0 && usage.output_tokens() == 0) return "";
  std::string text = std::to_string(usage.input_tokens()) + " tokens in";
  if (usage.cached_input_tokens() > 0) {
    text += " (" + std::to_string(usage.cached_input_tokens()) + " cached)";
  }
  text += ", " + std::to_string(usage.output_tokens()) + " out";
  if (usage.reasoning_tokens() > 0) {
    text += " (" + std::to_string(usage.reasoning_tokens()) + " reasoning)";
  }
  return text;
}

std::string FactsLine(const v1::GenerateResponse& response) {
  std::string line;
  const auto add = [&](const std::string& fact) {
    if (!fact.empty()) line += (line.empty() ? "" : kSeparator) + fact;
  };
  add(FinishText(response.finish_reason()));
  add(UsageText(response.usage()));
  add(MoneyText(response.cost_usd()));
  add(FormatDuration(response.time_budget().used()) + " of " +
      FormatDuration(response.time_budget().total()));
  return line;
}

std::string CacheLine(const v1::CacheHit& hit) {
  char similarity[64];
  std::snprintf(similarity, sizeof(similarity), "similarity %.3f (needed %.3f)", hit.similarity(),
                hit.threshold());
  return std::string("cache: ") + similarity + ", " + FormatDuration(hit.age()) + " old, made " +
         TimeText(hit.created_at()) + " by " + TargetText(hit.made_by()) + ", entry " +
         hit.entry_id();
}

}  // namespace

std::string AnswerText(const v1::GenerateResponse& response) {
  std::string text = response.message().content();
  const auto end_line = [&] {
    if (!text.empty() && text.back() != '\n') text += '\n';
  };
  for (const v1::Part& part : response.message().parts()) {
    if (part.has_text()) text += part.text();
    if (!part.has_tool_call()) continue;
    end_line();
    text += part.tool_call().name() + "(" + part.tool_call().arguments() + ")\n";
  }
  end_line();
  return text;
}

std::string RenderProvenance(const v1::GenerateResponse& response, const Paint& paint) {
  const Headline headline = RungHeadline(response);
  std::string out = paint(headline.colour, EscapeLine(headline.text)) + "\n";
  out += "  " + FactsLine(response) + "\n";
  if (!response.notice().empty()) out += "  notice: " + EscapeLine(response.notice()) + "\n";
  if (response.has_cache_hit()) out += "  " + EscapeLine(CacheLine(response.cache_hit())) + "\n";
  out += RenderAttempts(response.attempts(), 0, paint);
  out += "  " + paint(Colour::kDim, "request " + EscapeLine(response.request_id())) + "\n";
  return out;
}

std::string RenderError(const CallError& error, const Paint& paint) {
  std::string out = paint(Colour::kRed, "error: " + error.code) + ": " + EscapeLine(error.message);
  if (!error.reason.empty()) out += " (" + EscapeLine(error.reason) + ")";
  out += "\n";
  for (const FieldViolation& violation : error.violations) {
    out += "  " + paint(Colour::kBold, EscapeLine(violation.field)) + ": " +
           EscapeLine(violation.description) + "\n";
  }
  for (const auto& [key, value] : error.metadata) {
    out += "  " + EscapeLine(key) + ": " + EscapeLine(value) + "\n";
  }
  if (error.retry_after) out += "  try again in " + FormatDuration(*error.retry_after) + "\n";
  if (!error.attempts) return out;
  out += RenderAttempts(error.attempts->attempts(), error.attempts->omitted(), paint);
  if (error.attempts->request_id().empty()) return out;
  return out + "  " + paint(Colour::kDim, "request " + EscapeLine(error.attempts->request_id())) +
         "\n";
}

std::string TargetText(const v1::Target& target) {
  return target.provider() + "/" + target.model();
}

std::string MoneyText(double usd) {
  if (usd != 0 && std::abs(usd) < 1e-6) return "<$0.000001";
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "$%.6f", usd);
  std::string text = buffer;
  const size_t cents = text.find('.') + 3;
  while (text.size() > cents && text.back() == '0') text.pop_back();
  return text;
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  const auto seconds = static_cast<std::time_t>(time.seconds());
  std::tm parts{};
  char buffer[64];
  if (gmtime_r(&seconds, &parts) == nullptr) return "at an unknown time";
  std::strftime(buffer, sizeof(buffer), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return buffer;
}

}  // namespace holdfast::ctl
