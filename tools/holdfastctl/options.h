#pragma once

// The command line, read. Parsing touches neither files nor the network; the environment comes in
// as a function.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "holdfast/v1/admin.pb.h"
#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/duration.h"

namespace holdfast::ctl {

struct GenerateOptions {
  std::optional<std::string> question;  // "-" = standard input
  std::string request_file;             // a whole request as JSON; "-" = standard input
  std::string route;
  std::string system;
  v1::Degradation worst_acceptable = v1::DEGRADATION_UNSPECIFIED;
  std::optional<double> max_cost;
  std::optional<int64_t> max_output_tokens;
  std::optional<double> temperature;
  bool json_object = false;
  std::string json_schema_file;
  v1::CacheControl::Mode cache = v1::CacheControl::MODE_UNSPECIFIED;
  bool no_store = false;
  std::optional<double> min_similarity;
  std::optional<Nanos> max_age;
  std::string tenant;
  std::string request_id;
  std::vector<std::pair<std::string, std::string>> labels;
  bool quiet = false;
  std::optional<bool> stream;  // unset = on a terminal, and not as JSON
  v1::OnBreak on_break = v1::ON_BREAK_UNSPECIFIED;
};

struct StatusOptions {
  v1::GetStatusRequest request;
};

struct BreakerOptions {
  v1::SetBreakerRequest request;
};

struct CacheStatsOptions {};

struct CacheCalibrationOptions {
  v1::GetCalibrationRequest request;
};

struct CachePurgeOptions {
  v1::PurgeCacheRequest request;
  bool yes = false;
};

struct CacheExplainOptions {
  GenerateOptions request;
};

struct CacheImportOptions {
  std::string path;    // "-" = standard input
  std::string route;   // of lines that name none
  std::string tenant;  // likewise
  bool pinned = false;
};

struct CacheExportOptions {
  v1::ExportCacheRequest request;
  std::string path = "-";  // "-" = standard output
};

struct PlanOptions {
  v1::ExplainPlanRequest request;
};

struct ConfigShowOptions {};

struct ConfigCheckOptions {
  std::string path;
};

struct SimilarityOptions {
  std::string pairs;   // files; "-" = standard input. Either this one
  std::string stored;  // or these two
  std::string asked;
  std::string model;  // empty = the shipped one
  bool hash = false;  // hashes of words instead of a model
};

struct Options {
  std::string server;
  std::string admin;
  bool json = false;
  std::optional<Nanos> timeout;
  std::variant<GenerateOptions, StatusOptions, BreakerOptions, CacheStatsOptions,
               CacheCalibrationOptions, CachePurgeOptions, CacheExplainOptions, CacheImportOptions,
               CacheExportOptions, PlanOptions, ConfigShowOptions, ConfigCheckOptions,
               SimilarityOptions>
      command;
};

// Asked for help or a version: `text` belongs on standard output.
struct Help {
  std::string text;
};

struct BadUsage {
  std::string message;
  bool json = false;  // --json was there, so the error is to be JSON too
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// `args` without the program's name.
std::variant<Options, Help, BadUsage> ParseCommandLine(const std::vector<std::string>& args,
                                                       const Environment& env);

}  // namespace holdfast::ctl
