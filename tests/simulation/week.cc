// `make week`: the mission's week and harder ones, as tables, and as a picture (an SVG file).

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/simulation/world.h"

namespace holdfast::simulation {
namespace {

using namespace std::chrono_literals;  // NOLINT: durations

void PrintRow(const char* who, const Tally& t) {
  std::printf(
      "  %-14s %8llu %8llu %8llu %8llu %8llu %8llu %8.3f %9.2f\n", who,
      static_cast<unsigned long long>(t.lost), static_cast<unsigned long long>(t.by_rung[0]),
      static_cast<unsigned long long>(t.by_rung[1]), static_cast<unsigned long long>(t.by_rung[2]),
      static_cast<unsigned long long>(t.by_rung[3]),
      static_cast<unsigned long long>(t.notice_alone), t.amplification(), t.cost_usd);
}

void Print(const Scenario& scenario, const Week& week) {
  std::printf("\n%s (seed %llu, %llu requests in %s)\n", scenario.name.c_str(),
              static_cast<unsigned long long>(scenario.seed),
              static_cast<unsigned long long>(scenario.requests),
              core::FormatDuration(scenario.length).c_str());
  std::printf("  %-14s %8s %8s %8s %8s %8s %8s %8s %9s\n", "", "lost", "primary", "fallback",
              "stale", "partial", "(notice)", "attempts", "dollars");
  PrintRow("direct", week.direct);
  PrintRow("retries alone", week.retries_only);
  PrintRow("Holdfast", week.holdfast);
  std::printf("  recovery of the first provider after an episode: median %.0f s, longest %.0f s\n",
              core::ToSeconds(week.holdfast.recovery_median),
              core::ToSeconds(week.holdfast.recovery_longest));
  for (const auto& [reason, count] : week.holdfast.errors) {
    std::printf("  lost as %s: %llu\n", reason.c_str(), static_cast<unsigned long long>(count));
  }
}

// Two strips over the hours: what a direct caller lost, and what Holdfast served degraded.
void Draw(const Week& week, const std::string& path) {
  std::ofstream svg(path);
  const size_t hours = week.direct_lost_by_hour.size();
  const double width = 960.0 / static_cast<double>(hours);
  uint64_t most = 1;
  for (size_t h = 0; h < hours; ++h) {
    const auto& rungs = week.rungs_by_hour[h];
    most = std::max({most, week.direct_lost_by_hour[h], rungs[1] + rungs[2] + rungs[3]});
  }
  const double unit = 150.0 / static_cast<double>(most);
  const auto bar = [&](size_t hour, double base, double from, double count, const char* colour) {
    if (count <= 0) return;
    svg << "<rect x='" << 60 + width * static_cast<double>(hour) << "' y='"
        << base - (from + count) * unit << "' width='" << width * 0.9 << "' height='"
        << count * unit << "' fill='" << colour << "'/>\n";
  };
  svg << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1040 460' font-family='sans-serif' "
         "font-size='14'>\n<rect width='1040' height='460' fill='white'/>\n"
      << "<text x='60' y='24'>Lost by a direct caller, by hour of the week</text>\n"
      << "<text x='60' y='244'>The same week by Holdfast: " << week.holdfast.lost
      << " lost; fallback model (blue), stale (orange), partial (red)</text>\n";
  for (size_t h = 0; h < hours; ++h) {
    const auto& rungs = week.rungs_by_hour[h];
    bar(h, 200, 0, static_cast<double>(week.direct_lost_by_hour[h]), "#222");
    bar(h, 420, 0, static_cast<double>(rungs[1]), "#3b76c4");
    bar(h, 420, static_cast<double>(rungs[1]), static_cast<double>(rungs[2]), "#e8912d");
    bar(h, 420, static_cast<double>(rungs[1] + rungs[2]), static_cast<double>(rungs[3]), "#c43b3b");
  }
  for (const int base : {200, 420}) {
    svg << "<line x1='60' y1='" << base << "' x2='1020' y2='" << base << "' stroke='#888'/>\n"
        << "<text x='8' y='" << base - 140 << "'>" << most << "</text><text x='40' y='" << base
        << "'>0</text>\n";
  }
  for (size_t day = 0; day < 7; ++day) {
    svg << "<text x='" << 60 + width * 24 * static_cast<double>(day) << "' y='440'>day " << day + 1
        << "</text>\n";
  }
  svg << "</svg>\n";
}

std::vector<Scenario> Weeks() {
  std::vector<Scenario> all(6);
  all[0].name = "The mission's week: each provider 99.5 % up";
  all[1].name = "All providers down together for 40 minutes, warm cache";
  all[1].all_down = 40min;
  all[2].name = "All providers down together for 40 minutes, cold cache";
  all[2].all_down = 40min;
  all[2].all_down_after = 0min;
  all[2].length = 80min;
  all[2].requests = 1333;
  all[2].down = 0;
  all[3].name = "The first provider ten times as slow for a day";
  all[3].length = 24h;
  all[3].requests = 24'000;
  all[3].always_first = {Trouble::kSlow};
  all[4].name = "The first provider answers 200 with nothing for a day";
  all[4].length = 24h;
  all[4].requests = 24'000;
  all[4].always_first = {Trouble::kEmpty};
  all[5].name = "Rate limits at half the load for a day";
  all[5].length = 24h;
  all[5].requests = 24'000;
  all[5].calls_per_second = 24'000.0 / 86'400 / 2;
  return all;
}

int Main(int argc, char** argv) {
  if (argc > 2) {
    std::fprintf(stderr, "usage: week [PICTURE.svg]\n");
    return 2;
  }
  for (const Scenario& scenario : Weeks()) {
    const Week week = Simulate(scenario);
    Print(scenario, week);
    if (argc == 2 && scenario.name == Weeks()[0].name) Draw(week, argv[1]);
  }
  return 0;
}

}  // namespace
}  // namespace holdfast::simulation

int main(int argc, char** argv) { return holdfast::simulation::Main(argc, argv); }
