#include <cstdio>

#include "tools/holdfastctl/duration.h"
#include "tools/holdfastctl/render.h"

namespace holdfast::ctl {
namespace {

std::string Share(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%.3f", value);
  return buffer;
}

Colour ColourOf(const std::string& fate) {
  if (fate == "served") return Colour::kGreen;
  return fate == "outranked" ? Colour::kYellow : Colour::kDim;
}

std::string AgeText(const v1::ConsideredEntry& entry) {
  return FormatDuration(entry.age()) + (entry.pinned() ? ", pinned" : "");
}

std::string Calibrated(const v1::CalibratedThreshold& threshold) {
  const bool raised = threshold.in_force() > threshold.configured();
  switch (threshold.state()) {
    case v1::CalibratedThreshold::STATE_TOO_FEW_SAMPLES:
      return " (max_error has too few samples yet)";
    case v1::CalibratedThreshold::STATE_HELD:
      return raised ? " (raised from " + Share(threshold.configured()) + " by max_error)" : "";
    case v1::CalibratedThreshold::STATE_NOT_HELD:
      return " (raised from " + Share(threshold.configured()) + ": nothing keeps max_error)";
    default:
      return "";
  }
}

std::string Preferred(const v1::PreferredLookup& lookup, const Paint& paint) {
  const bool served = lookup.not_served().empty();
  return paint(served ? Colour::kGreen : Colour::kDim,
               served ? "before any target: entry " + EscapeLine(lookup.entry_id())
                      : "before any target: nothing: " + EscapeLine(lookup.not_served())) +
         "\n  similarity at least " + Share(lookup.threshold()) + Calibrated(lookup.calibrated()) +
         ", cosine at least " + Share(lookup.min_cosine()) + "\n";
}

}  // namespace

std::string RenderExplanation(const v1::ExplainCacheResponse& explained, const Paint& paint) {
  std::string out;
  if (explained.has_preferred()) out += Preferred(explained.preferred(), paint);
  const v1::ConsideredEntry* served = nullptr;
  for (const v1::ConsideredEntry& entry : explained.entries()) {
    if (entry.fate() == "served") served = &entry;
  }
  if (served != nullptr) {
    out += paint(Colour::kGreen, "would be served: entry " + EscapeLine(served->entry_id())) + "\n";
  } else {
    out += paint(Colour::kRed, "nothing would be served: " + EscapeLine(explained.not_served())) +
           "\n";
  }
  out += "  similarity at least " + Share(explained.threshold()) +
         Calibrated(explained.calibrated()) + ", cosine at least " + Share(explained.min_cosine()) +
         ", age at most " + FormatDuration(explained.max_age()) + "\n";
  if (!explained.entries().empty()) {
    Table table(0);
    std::vector<Cell> heading;
    for (const char* name : {"FATE", "SIMILARITY", "COSINE", "AGE", "ENTRY", "QUESTION", "WHY"}) {
      heading.push_back({name, Colour::kBold});
    }
    table.Add(std::move(heading));
    for (const v1::ConsideredEntry& entry : explained.entries()) {
      table.Add({{entry.fate(), ColourOf(entry.fate())},
                 {entry.fate() == "refused" ? "-" : Share(entry.similarity())},
                 {Share(entry.cosine())},
                 {AgeText(entry)},
                 {entry.entry_id()},
                 {entry.question()},
                 {entry.reason(), Colour::kDim}});
    }
    out += "\n" + table.ToString(paint, true);
  }
  if (served != nullptr) {
    out += "\n" + paint(Colour::kBold, "answer") + "\n" + EscapeText(served->answer());
    if (out.back() != '\n') out += "\n";
  }
  return out;
}

}  // namespace holdfast::ctl
