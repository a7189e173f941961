#pragma once

// What a person reads: the API's messages as text. Pure functions, from any thread. All but
// AnswerText make text from the network harmless for a terminal.

#include <string>

#include "holdfast/v1/admin.pb.h"
#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/status_details.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {

// The answer alone, unescaped, ending in a line feed unless it is empty. A tool call is a line
// `name(arguments)`.
std::string AnswerText(const v1::GenerateResponse& response);

// How it came to be: rung, target, tokens, cost, time, cache hit, attempts.
std::string RenderProvenance(const v1::GenerateResponse& response, const Paint& paint);

std::string RenderStatus(const v1::GetStatusResponse& response, const Paint& paint);

std::string RenderBreaker(const v1::Target& target, const v1::BreakerStatus& breaker,
                          const Paint& paint);

std::string RenderCalibration(const v1::GetCalibrationResponse& response, const Paint& paint);
std::string RenderCacheStats(const v1::GetCacheStatsResponse& stats, const Paint& paint);

// What a lookup would look at, with what becomes of each, and the answer that would be served.
std::string RenderExplanation(const v1::ExplainCacheResponse& explained, const Paint& paint);

// The plan's two columns side by side, a stage of both in one row.
std::string RenderPlan(const v1::ExplainPlanResponse& plan, const Paint& paint);

std::string RenderError(const CallError& error, const Paint& paint);

// "anthropic/claude-haiku"
std::string TargetText(const v1::Target& target);

// "$0.000125"
std::string MoneyText(double usd);

// "2026-01-31 12:00:00 UTC"
std::string TimeText(const google::protobuf::Timestamp& time);

}  // namespace holdfast::ctl
