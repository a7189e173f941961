#include <cstdio>

#include "tools/holdfastctl/duration.h"
#include "tools/holdfastctl/render.h"

namespace holdfast::ctl {
namespace {

Cell StateCell(v1::BreakerState state) {
  switch (state) {
    case v1::BREAKER_STATE_CLOSED:
      return {"CLOSED", Colour::kGreen};
    case v1::BREAKER_STATE_OPEN:
      return {"OPEN", Colour::kRed};
    case v1::BREAKER_STATE_HALF_OPEN:
      return {"HALF_OPEN", Colour::kYellow};
    case v1::BREAKER_STATE_FORCED_OPEN:
      return {"FORCED_OPEN", Colour::kRed};
    case v1::BREAKER_STATE_FORCED_CLOSED:
      return {"FORCED_CLOSED", Colour::kYellow};
    default:
      return {"unknown", Colour::kRed};
  }
}

bool Positive(const google::protobuf::Duration& value) { return FromProto(value) > Nanos::zero(); }

Cell BreakerCell(const v1::BreakerStatus& breaker) {
  Cell cell = StateCell(breaker.state());
  const bool open = breaker.state() == v1::BREAKER_STATE_OPEN;
  if (open && Positive(breaker.open_for())) {
    cell.text += " for " + FormatDuration(breaker.open_for());
  } else if (open) {
    cell.text += ", due for a probe";
  }
  return cell;
}

std::string ProbeText(const v1::BreakerStatus& breaker) {
  if (breaker.state() != v1::BREAKER_STATE_HALF_OPEN) return "";
  return std::to_string(breaker.probes_in_flight()) + " in flight, " +
         std::to_string(breaker.probe_successes()) + " ok";
}

std::string CooldownText(const v1::TargetStatus& target) {
  std::string text;
  if (Positive(target.cooldown())) {
    text = FormatDuration(target.cooldown());
    if (!target.cooldown_reason().empty()) text += " " + target.cooldown_reason();
  }
  if (Positive(target.credential_cooldown())) {
    text += (text.empty() ? "" : ", ") + std::string("credential ") +
            FormatDuration(target.credential_cooldown());
  }
  return text;
}

std::string Number(double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.1f", value);
  std::string text = buffer;
  if (text.size() > 2 && text.substr(text.size() - 2) == ".0") text.resize(text.size() - 2);
  return text;
}

std::string LimiterText(const v1::LimiterStatus& limiter) {
  std::string text = std::to_string(limiter.in_flight()) + "/" + Number(limiter.limit());
  if (limiter.rejected() > 0) text += ", " + std::to_string(limiter.rejected()) + " rejected";
  return text;
}

std::string OddText(const v1::BreakerStatus& breaker) {
  std::string text;
  const auto add = [&](const std::string& note) { text += (text.empty() ? "" : ", ") + note; };
  if (breaker.open_step() > 0) add("open step " + std::to_string(breaker.open_step()));
  if (breaker.late_results() > 0) add(std::to_string(breaker.late_results()) + " late");
  if (breaker.leaked() > 0) add(std::to_string(breaker.leaked()) + " leaked");
  return text;
}

std::vector<Cell> Heading(const std::vector<std::string>& names) {
  std::vector<Cell> row;
  for (const std::string& name : names) row.push_back({name, Colour::kBold});
  return row;
}

std::vector<Cell> TargetRow(const v1::TargetStatus& target) {
  const v1::BreakerStatus& breaker = target.breaker();
  return {{TargetText(target.target())},
          BreakerCell(breaker),
          {std::to_string(breaker.successes())},
          {std::to_string(breaker.failures())},
          {std::to_string(breaker.censored())},
          {std::to_string(breaker.consecutive_failures())},
          {ProbeText(breaker)},
          {CooldownText(target), Colour::kYellow},
          {LimiterText(target.limiter())},
          {target.last_error()},
          {OddText(breaker), Colour::kDim}};
}

std::string RenderBudgets(const v1::GetStatusResponse& response, const Paint& paint) {
  if (response.retry_budgets().empty()) return "";
  Table table(0);
  table.Add(Heading({"ROUTE", "RETRY TOKENS", "RETRIES IN FLIGHT"}));
  for (const v1::RetryBudgetStatus& budget : response.retry_budgets()) {
    table.Add({{budget.route()},
               {Number(budget.tokens()), budget.tokens() < 1 ? Colour::kRed : Colour::kPlain},
               {std::to_string(budget.in_flight())}});
  }
  return "\n" + table.ToString(paint, true);
}

// One row of the plan: the same stage in both columns, or in one.
struct PlanRow {
  const v1::PlannedStage* hang = nullptr;
  const v1::PlannedStage* fail = nullptr;
};

bool SameStage(const v1::PlannedStage& a, const v1::PlannedStage& b) {
  return a.stage() == b.stage() && TargetText(a.target()) == TargetText(b.target()) &&
         a.attempt() == b.attempt();
}

// Keeps the order of both columns. A stage is paired with its first equal that is still ahead.
std::vector<PlanRow> MergeStages(const v1::ExplainPlanResponse& plan) {
  std::vector<PlanRow> rows;
  int next = 0;
  const int fails = plan.if_all_fail_size();
  for (const v1::PlannedStage& hang : plan.if_all_hang()) {
    int match = next;
    while (match < fails && !SameStage(hang, plan.if_all_fail(match))) ++match;
    if (match == fails) {
      rows.push_back({&hang, nullptr});
      continue;
    }
    for (; next < match; ++next) rows.push_back({nullptr, &plan.if_all_fail(next)});
    rows.push_back({&hang, &plan.if_all_fail(next++)});
  }
  for (; next < fails; ++next) rows.push_back({nullptr, &plan.if_all_fail(next)});
  return rows;
}

std::string StageText(const v1::PlannedStage& stage) {
  std::string text = stage.stage();
  if (stage.has_target()) text += " " + TargetText(stage.target());
  if (stage.attempt() > 0) text += " #" + std::to_string(stage.attempt());
  return text;
}

Cell StageCell(const v1::PlannedStage* stage) {
  if (stage == nullptr) return {"-", Colour::kDim};
  if (!stage->skipped().empty()) return {"skipped: " + stage->skipped(), Colour::kDim};
  return {"at " + FormatDuration(stage->start_offset()) + ", up to " +
          FormatDuration(stage->allotted())};
}

std::string Decimals(double value, int decimals) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), "%.*f", decimals, value);
  return buffer;
}

std::string Percent(double part) { return Decimals(100 * part, 1) + " %"; }

Cell InForceCell(const v1::CalibratedThreshold& threshold) {
  const std::string in_force = Decimals(threshold.in_force(), 2);
  switch (threshold.state()) {
    case v1::CalibratedThreshold::STATE_OFF:
      return {in_force + " (no max_error)"};
    case v1::CalibratedThreshold::STATE_TOO_FEW_SAMPLES:
      return {in_force + " (too few samples; about " + std::to_string(threshold.needed()) +
                  " at it prove it if none is wrong)",
              Colour::kYellow};
    case v1::CalibratedThreshold::STATE_HELD:
      return {in_force + " (holds)", Colour::kGreen};
    case v1::CalibratedThreshold::STATE_NOT_HELD:
      return {in_force + " (no threshold holds: only the same question is served)", Colour::kRed};
    default:
      return {"unknown", Colour::kRed};
  }
}

std::string RenderRoute(const v1::RouteCalibration& route, const Paint& paint) {
  std::string out = paint(Colour::kBold, EscapeLine(route.route())) + ": " +
                    std::to_string(route.samples()) + " samples";
  if (route.has_max_error()) out += ", max_error " + Percent(route.max_error());
  out += "\n";
  for (const v1::CalibratedThreshold& threshold : route.thresholds()) {
    const Cell cell = InForceCell(threshold);
    out += "threshold " + Decimals(threshold.configured(), 2) + ", in force " +
           paint(cell.colour, cell.text) + "\n";
  }
  if (route.samples() == 0) return out;
  Table table(0);
  table.Add(Heading({"THRESHOLD", "SERVED", "WRONG", "RATE", "AT MOST (95 %)"}));
  for (const v1::CalibrationPoint& point : route.curve()) {
    const double served = static_cast<double>(point.served());
    table.Add({{Decimals(point.threshold(), 2)},
               {std::to_string(point.served())},
               {std::to_string(point.wrong())},
               {served > 0 ? Percent(static_cast<double>(point.wrong()) / served) : "-"},
               {point.bound() < 1 ? Percent(point.bound()) : "-"}});
  }
  return out + table.ToString(paint, true);
}

std::string BytesText(uint64_t bytes) {
  constexpr double kKibibyte = 1024;
  const auto value = static_cast<double>(bytes);
  if (value < kKibibyte) return std::to_string(bytes) + " bytes";
  if (value < kKibibyte * kKibibyte) return Number(value / kKibibyte) + " KiB";
  return Number(value / kKibibyte / kKibibyte) + " MiB";
}

std::string ProgressText(const v1::EmbeddingProgress& progress) {
  return std::to_string(progress.done()) + " of " + std::to_string(progress.total()) +
         " entries have vectors of " + EscapeLine(progress.embedder()) +
         (progress.version().empty() ? "" : " " + EscapeLine(progress.version())) +
         (progress.counting() ? "; counting" : "");
}

bool IsDone(const v1::EmbeddingProgress& progress) {
  return progress.done() == progress.total() && !progress.counting();
}

// Only what is not as it should be: `cache stats` shows the rest.
std::string RenderCacheStatus(const v1::GetStatusResponse& response, const Paint& paint) {
  if (!response.has_cache()) return "";
  std::string out;
  const auto add = [&](const std::string& text) {
    out += "cache: " + paint(Colour::kYellow, text) + "\n";
  };
  if (!response.cache().ready()) add("loading; lookups see part of the entries");
  for (const v1::EmbeddingProgress& progress : response.cache().embeddings()) {
    if (!IsDone(progress)) add(ProgressText(progress));
  }
  return out.empty() ? "" : "\n" + out;
}

}  // namespace

std::string RenderStatus(const v1::GetStatusResponse& response, const Paint& paint) {
  std::string out = "holdfast " + EscapeLine(response.version()) + ", up " +
                    FormatDuration(response.uptime()) + ": " +
                    std::to_string(response.in_progress()) + " in progress, " +
                    std::to_string(response.queued()) + " queued, " +
                    std::to_string(response.shed()) + " shed\n\n";
  if (response.targets().empty()) return out + "no such target\n";
  Table table(0);
  table.Add(Heading({"TARGET", "BREAKER", "OK", "FAILED", "CENSORED", "IN A ROW", "PROBES",
                     "COOLDOWN", "LIMITER", "LAST ERROR", "NOTES"}));
  for (const v1::TargetStatus& target : response.targets()) table.Add(TargetRow(target));
  return out + table.ToString(paint, true) + RenderBudgets(response, paint) +
         RenderCacheStatus(response, paint);
}

std::string RenderBreaker(const v1::Target& target, const v1::BreakerStatus& breaker,
                          const Paint& paint) {
  const Cell cell = BreakerCell(breaker);
  return EscapeLine(TargetText(target)) + ": " + paint(cell.colour, cell.text) + " (generation " +
         std::to_string(breaker.generation()) + ")\n";
}

std::string RenderCalibration(const v1::GetCalibrationResponse& response, const Paint& paint) {
  std::string out = std::to_string(response.compared()) + " answers compared, " +
                    std::to_string(response.not_compared()) + " spared\n";
  if (response.routes().empty()) return out + "no route has a cache\n";
  for (const v1::RouteCalibration& route : response.routes()) {
    out += "\n" + RenderRoute(route, paint);
  }
  return out;
}

std::string RenderCacheStats(const v1::GetCacheStatsResponse& stats, const Paint& paint) {
  Table table(0);
  const auto add = [&](const char* name, const std::string& value, Colour colour) {
    table.Add({{name}, {value, colour}});
  };
  const auto count = [&](const char* name, uint64_t value) {
    add(name, std::to_string(value), Colour::kPlain);
  };
  const auto fault = [&](const char* name, uint64_t value) {
    add(name, std::to_string(value), value > 0 ? Colour::kRed : Colour::kPlain);
  };
  if (!stats.degraded().empty()) add("degraded", stats.degraded(), Colour::kRed);
  if (stats.read_only()) add("read-only", "the last write failed", Colour::kRed);
  if (stats.rewriting()) add("rewriting", "the previous encryption key is needed", Colour::kYellow);
  if (!stats.ready()) add("loading", "lookups see part of the entries", Colour::kYellow);
  count("entries", stats.entries());
  count("  in memory", stats.indexed());
  count("  without vector", stats.pending());
  count("scopes", stats.scopes());
  add("on disk", BytesText(stats.bytes()), Colour::kPlain);
  add("in memory", BytesText(stats.index_bytes()), Colour::kPlain);
  count("lookups", stats.lookups());
  count("  hits", stats.hits());
  count("  misses", stats.misses());
  count("  skipped", stats.skipped());
  count("  cut short", stats.scans_cut());
  count("stores", stats.stores());
  count("  waiting", stats.queued());
  fault("  dropped", stats.dropped());
  count("  refused", stats.not_stored());
  count("evicted", stats.evicted());
  count("expired", stats.expired());
  fault("rejected vectors", stats.rejected_vectors());
  count("texts cut", stats.texts_cut());
  fault("read errors", stats.read_errors());
  fault("write errors", stats.write_errors());
  if (stats.embeddings().empty()) add("embedder", stats.embedder(), Colour::kPlain);
  for (const v1::EmbeddingProgress& progress : stats.embeddings()) {
    add(progress.remote() ? "endpoint" : "embedder", ProgressText(progress),
        IsDone(progress) ? Colour::kPlain : Colour::kYellow);
  }
  return table.ToString(paint, false);
}

std::string RenderPlan(const v1::ExplainPlanResponse& plan, const Paint& paint) {
  std::string out = "total " + FormatDuration(plan.total()) + ", every answer written by " +
                    FormatDuration(plan.soft_deadline()) + ", the last " +
                    FormatDuration(plan.tail()) + " kept for the ladder's end\n\n";
  Table table(0);
  table.Add(Heading({"STAGE", "IF EVERY ATTEMPT HANGS", "IF EVERY ATTEMPT FAILS AT ONCE"}));
  for (const PlanRow& row : MergeStages(plan)) {
    table.Add({{StageText(row.hang != nullptr ? *row.hang : *row.fail)},
               StageCell(row.hang),
               StageCell(row.fail)});
  }
  return out + table.ToString(paint, true);
}

}  // namespace holdfast::ctl
