#include "tools/holdfastctl/render_attempts.h"

#include "tools/holdfastctl/duration.h"
#include "tools/holdfastctl/render.h"

namespace holdfast::ctl {
namespace {

Colour OutcomeColour(const v1::Attempt& attempt) {
  if (attempt.skipped()) return Colour::kDim;
  if (attempt.outcome() == "complete") return Colour::kGreen;
  if (attempt.outcome() == "refusal") return Colour::kYellow;
  return Colour::kRed;
}

std::string Notes(const v1::Attempt& attempt) {
  std::string notes;
  const auto add = [&](const std::string& note) { notes += (notes.empty() ? "" : "; ") + note; };
  if (!attempt.retry_skipped().empty()) add("no retry: " + attempt.retry_skipped());
  if (attempt.usage().input_tokens() > 0 || attempt.usage().output_tokens() > 0) {
    add(std::string(attempt.usage_estimated() ? "about " : "") +
        std::to_string(attempt.usage().input_tokens()) + " in, " +
        std::to_string(attempt.usage().output_tokens()) + " out");
  }
  if (attempt.cost_usd() > 0) add(MoneyText(attempt.cost_usd()));
  if (!attempt.error().empty()) add(attempt.error());
  return notes;
}

std::vector<Cell> Row(const v1::Attempt& attempt, int number) {
  if (attempt.skipped()) {
    return {{"-", Colour::kDim},
            {TargetText(attempt.target()), Colour::kDim},
            {"skipped: " + attempt.outcome(), Colour::kDim},
            {},
            {},
            {},
            {},
            {Notes(attempt), Colour::kDim}};
  }
  const bool waited = FromProto(attempt.delay_before()) > Nanos::zero();
  return {{std::to_string(number)},
          {TargetText(attempt.target())},
          {attempt.outcome(), OutcomeColour(attempt)},
          {attempt.http_status() > 0 ? std::to_string(attempt.http_status()) : "-"},
          {waited ? "waited " + FormatDuration(attempt.delay_before()) : ""},
          {"at " + FormatDuration(attempt.start_offset())},
          {"took " + FormatDuration(attempt.duration())},
          {Notes(attempt), Colour::kDim}};
}

}  // namespace

std::string RenderAttempts(const google::protobuf::RepeatedPtrField<v1::Attempt>& attempts,
                           int omitted, const Paint& paint) {
  if (attempts.empty() && omitted == 0) return "";
  Table table(4);
  int number = 0;
  for (const v1::Attempt& attempt : attempts) {
    if (!attempt.skipped()) ++number;
    table.Add(Row(attempt, number));
  }
  std::string out = "  attempts\n" + table.ToString(paint, false);
  if (omitted > 0) {
    out += "    " + paint(Colour::kDim, std::to_string(omitted) + " more in the middle, left out") +
           "\n";
  }
  return out;
}

}  // namespace holdfast::ctl
