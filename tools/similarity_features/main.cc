// Reads JSON lines {"a": stored, "b": asked, "cosine": x} and writes one line for each: the
// features that the weights of cache/verify are fitted to (an array in the order of --names), or
// with
// --verdict the verdict. With --words, reads {"q"} lines and writes the stems of each.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cache/verify/findings.h"

namespace verify = holdfast::cache::verify;
using nlohmann::json;

namespace {

void PrintNames() {
  json names = json::array();
  for (const verify::FeatureInfo& info : verify::FeatureTable())
    names.push_back({{"name", info.name}, {"sign", info.sign}});
  std::cout << names.dump() << '\n';
}

json Stems(const std::string& text) {
  json stems = json::array();
  for (const verify::Token& token : verify::Analyze(text).tokens) {
    if (!token.function && !token.number) stems.push_back(verify::Stem(token.text));
  }
  return stems;
}

json Answer(const json& line, bool verdict) {
  const verify::Question stored = verify::Analyze(line.at("a").get<std::string>());
  const verify::Question asked = verify::Analyze(line.at("b").get<std::string>());
  const double cosine = line.at("cosine");
  if (!verdict) return verify::Measure(stored, asked, cosine);
  const verify::Verdict result = verify::Compare(stored, asked, cosine);
  json names = json::array();
  for (const verify::Finding& finding : result.findings) names.push_back(finding.name);
  return {{"score", result.refused ? json() : json(result.score)},
          {"reason", result.reason},
          {"findings", names}};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  if (mode == "--names") {
    PrintNames();
    return 0;
  }
  std::ios::sync_with_stdio(false);
  for (std::string line; std::getline(std::cin, line);) {
    const json parsed = json::parse(line);
    const json answer =
        mode == "--words" ? Stems(parsed.at("q")) : Answer(parsed, mode == "--verdict");
    std::cout << answer.dump(-1, ' ', false, json::error_handler_t::replace) << '\n';
  }
  return 0;
}
