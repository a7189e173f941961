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

}  // namespace

std::string RenderExplanation(const v1::ExplainCacheResponse& explained, const Paint& paint) {
  std::string out;
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
  out += "  similarity at least " + Share(explained.threshold()) + ", cosine at least " +
         Share(explained.min_cosine()) + ", age at most " + FormatDuration(explained.max_age()) +
         "\n";
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
