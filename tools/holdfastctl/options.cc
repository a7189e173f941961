#include "tools/holdfastctl/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "tools/holdfastctl/terminal_text.h"

#ifndef HOLDFAST_VERSION
#define HOLDFAST_VERSION "unknown"
#endif

namespace holdfast::ctl {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:50051";
constexpr char kDefaultAdmin[] = "127.0.0.1:50052";

constexpr char kFooter[] =
    "\nEnvironment: HOLDFAST_SERVER and HOLDFAST_ADMIN stand in for --server and --admin;\n"
    "a NO_COLOR that is not empty turns colours off.\n"
    "Durations: 500ms, 10s, 1h30m, 7d.\n"
    "Exit codes: 0 done; 1 the call failed, or the checked configuration or a line of an input\n"
    "has faults; 2 the command line, or a file that it names, is at fault; 3 no connection to\n"
    "the server.";

constexpr char kSimilarityFooter[] =
    "\n--pairs: lines {\"a\": the stored question, \"b\": the asked one}; for each a line\n"
    "  {\"cosine\", \"score\", \"serve\", \"reason\"}.\n"
    "--stored and --asked: lines {\"q\": a question}; for each that is asked a line\n"
    "  {\"entry\", \"score\", \"serve\", \"reason\"}, with the number of the stored line, from 1, "
    "that\n"
    "  comes first before any threshold.\n"
    "Other fields are ignored. The score orders by how safe serving is; it is null where a check\n"
    "refuses. `serve` is what the server's defaults would do. A line that cannot be read is told\n"
    "on standard error with its number, has its line of output all the same (null, false and the\n"
    "reason), and makes the exit code 1.";

constexpr char kImportFooter[] =
    "\nA line: {\"question\", \"answer\"} and, if they matter, \"route\", \"tenant\", \"system\" "
    "(the\n"
    "system prompt), \"context\" (a GenerateRequest without its last turn, for tools, response "
    "format\n"
    "and earlier turns) or \"scope\" (the same, as an export gives it), \"made_by\": "
    "{\"provider\",\n"
    "\"model\"}, \"created_at\": \"2026-01-31T12:00:00Z\", \"labels\": {...}, \"pinned\": true (it "
    "never\n"
    "expires, is never evicted, and no provider's answer takes its place). An entry of the same\n"
    "question stays if it is newer, or pinned. Bad lines are told by number, the rest goes on; "
    "the\n"
    "exit code is then 1.";

template <typename Enum>
using Choices = std::vector<std::pair<std::string, Enum>>;

const Choices<v1::Degradation> kRungs = {
    {"none", v1::DEGRADATION_NONE},
    {"fallback_model", v1::DEGRADATION_FALLBACK_MODEL},
    {"stale", v1::DEGRADATION_STALE},
    {"partial", v1::DEGRADATION_PARTIAL},
};

const Choices<v1::CacheControl::Mode> kCacheModes = {
    {"fallback", v1::CacheControl::MODE_FALLBACK},
    {"off", v1::CacheControl::MODE_OFF},
    {"prefer", v1::CacheControl::MODE_PREFER},
};

const Choices<v1::OnBreak> kOnBreak = {
    {"continue", v1::ON_BREAK_CONTINUE},
    {"restart", v1::ON_BREAK_RESTART},
    {"partial", v1::ON_BREAK_PARTIAL},
};

const Choices<bool> kEmbedders = {{"sentence", false}, {"hash", true}};

template <typename Enum>
CLI::Option* AddChoice(CLI::App& app, const std::string& name, Enum& value,
                       const Choices<Enum>& choices, const std::string& help) {
  std::string names;
  for (const auto& [choice, unused] : choices) names += (names.empty() ? "" : "|") + choice;
  const auto set = [&value, &choices, name, names](const std::string& text) {
    const auto found = std::find_if(choices.begin(), choices.end(),
                                    [&](const auto& choice) { return choice.first == text; });
    if (found == choices.end()) {
      throw CLI::ValidationError(name, "\"" + text + "\" is none of " + names);
    }
    value = found->second;
  };
  return app.add_option_function<std::string>(name, set, help)->type_name(names);
}

CLI::Option* AddDuration(CLI::App& app, const std::string& name, std::function<void(Nanos)> set,
                         const std::string& help) {
  const auto parse = [set = std::move(set), name](const std::string& text) {
    const std::optional<Nanos> value = ParseDuration(text);
    if (!value || *value <= Nanos::zero()) {
      throw CLI::ValidationError(name, "\"" + text + "\" is no duration above 0 like 500ms, 10s");
    }
    set(*value);
  };
  return app.add_option_function<std::string>(name, parse, help)->type_name("DURATION");
}

std::pair<std::string, std::string> ParseLabel(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw CLI::ValidationError("--label", "\"" + text + "\" is not of the form KEY=VALUE");
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

CLI::Option* AddLabels(CLI::App& app,
                       const std::function<void(std::pair<std::string, std::string>)>& add,
                       const std::string& help) {
  const auto parse = [add](const std::vector<std::string>& labels) {
    for (const std::string& label : labels) add(ParseLabel(label));
  };
  return app.add_option_function<std::vector<std::string>>("--label", parse, help)
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

// gRPC aborts the process on metadata that it cannot send.
std::string CheckTenant(const std::string& text) {
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  return !text.empty() && printable ? "" : "a tenant is printable ASCII, at least one character";
}

std::string CheckAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  const bool complete = colon != std::string::npos && colon > 0 && colon + 1 < text.size();
  return complete ? "" : "\"" + text + "\" is not of the form HOST:PORT";
}

// A model's name may hold slashes, a provider's does not.
v1::Target ParseTarget(const std::string& text, bool model_needed) {
  const size_t slash = text.find('/');
  v1::Target target;
  target.set_provider(text.substr(0, slash));
  if (slash != std::string::npos) target.set_model(text.substr(slash + 1));
  const bool whole = !target.provider().empty() && !target.model().empty();
  const bool provider_alone = !model_needed && slash == std::string::npos && !text.empty();
  if (!whole && !provider_alone) {
    throw CLI::ValidationError("target", "\"" + text + "\" is not of the form PROVIDER/MODEL");
  }
  return target;
}

// CLI11's view of the command line. Made for one parse; CLI11's exceptions stay in here.
class Parser {
 public:
  explicit Parser(const Environment& env) : env_(env) {
    app_.fallthrough();  // so that --json and the addresses may also follow the command
    app_.require_subcommand(1);
    app_.get_formatter()->column_width(36);
    app_.footer(kFooter);
    app_.set_version_flag("--version", "holdfastctl " HOLDFAST_VERSION);
    app_.add_flag("--json", options_.json, "One JSON document on standard output, errors too");
    server_ = app_.add_option("--server", options_.server, "Where Generate is served")
                  ->check(CheckAddress)
                  ->type_name("HOST:PORT")
                  ->default_str(kDefaultServer);
    admin_ = app_.add_option("--admin", options_.admin, "Where the admin API is served")
                 ->check(CheckAddress)
                 ->type_name("HOST:PORT")
                 ->default_str(kDefaultAdmin);
    AddDuration(
        app_, "--timeout", [this](Nanos value) { options_.timeout = value; },
        "The call's deadline (of generate: the server's own by default; else 10s; not of import "
        "and export)");
    AddGenerate();
    AddStatus();
    AddBreaker();
    AddCache();
    AddPlan();
    AddConfig();
    AddSimilarity();
  }

  std::variant<Options, Help, BadUsage> Parse(std::vector<std::string> args) {
    const bool json = std::find(args.begin(), args.end(), "--json") != args.end();
    for (const std::string& arg : args) {
      if (!IsValidUtf8(arg)) return BadUsage{"an argument is not UTF-8: " + EscapeLine(arg), json};
    }
    std::reverse(args.begin(), args.end());  // as CLI11 wants a vector
    try {
      app_.parse(args);
      Complete(server_, options_.server, "HOLDFAST_SERVER", kDefaultServer);
      Complete(admin_, options_.admin, "HOLDFAST_ADMIN", kDefaultAdmin);
    } catch (const CLI::ParseError& error) {
      std::ostringstream out;
      std::ostringstream unused;
      const int code = app_.exit(error, out, unused);
      if (code == 0) return Help{out.str()};
      return BadUsage{Reason(error) + "; see holdfastctl --help", json};
    }
    return options_;
  }

 private:
  // CLI11 misses a command before it minds what stands in its place.
  std::string Reason(const CLI::ParseError& error) const {
    const std::vector<std::string> unknown = app_.remaining(/*recurse=*/true);
    if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr || unknown.empty()) {
      return error.what();
    }
    return "\"" + unknown.front() + "\" is not known";
  }

  // The value from the environment, and last the default.
  void Complete(const CLI::Option* option, std::string& value, const char* variable,
                const char* fallback) {
    if (option->count() > 0) return;
    value = env_(variable).value_or("");
    if (value.empty()) value = fallback;
    const std::string fault = CheckAddress(value);
    if (!fault.empty()) throw CLI::ValidationError(variable, fault);
  }

  void AddGenerate() {
    CLI::App& app = *app_.add_subcommand("generate", "Ask a question");
    GenerateOptions& o = generate_;
    app.add_option("question", o.question, "The question; - reads it from standard input");
    app.add_option("--file", o.request_file,
                   "A whole GenerateRequest as JSON (- = standard input); the other options change "
                   "it, a question is added to it")
        ->type_name("FILE");
    app.add_option("--route", o.route, "The route (default \"default\")");
    app.add_option("--system", o.system, "The system prompt");
    AddChoice(app, "--worst-acceptable", o.worst_acceptable, kRungs,
              "The lowest rung of the ladder to take (default: the route's)");
    app.add_option("--max-cost", o.max_cost, "The most it may cost, in US dollars");
    app.add_option("--max-output-tokens", o.max_output_tokens, "The longest answer");
    app.add_option("--temperature", o.temperature, "Sampling temperature, 0 to 2");
    CLI::Option* object = app.add_flag("--json-object", o.json_object, "Ask for a JSON object");
    app.add_option("--json-schema", o.json_schema_file, "Ask for JSON by the schema in this file")
        ->type_name("FILE")
        ->excludes(object);
    AddChoice(app, "--cache", o.cache, kCacheModes, "When the cache of answers is asked");
    app.add_flag("--no-store", o.no_store, "Do not store the answer in the cache");
    app.add_option("--min-similarity", o.min_similarity, "For a stale answer, 0 to 1");
    AddDuration(app, "--max-age", [&o](Nanos value) { o.max_age = value; }, "Of a stale answer");
    app.add_option("--tenant", o.tenant, "On whose behalf")->check(CheckTenant);
    app.add_option("--request-id", o.request_id, "Your id for this request");
    AddLabels(
        app, [&o](auto label) { o.labels.push_back(std::move(label)); },
        "For the server's log, and to purge the answer by; repeatable");
    app.add_flag_function(
        "--stream,!--no-stream", [&o](int64_t count) { o.stream = count > 0; },
        "The answer as it is made (default: on a terminal); with --json a line an event");
    AddChoice(app, "--on-break", o.on_break, kOnBreak,
              "What becomes of a streamed answer that breaks (default: the route's)");
    app.add_flag("-q,--quiet", o.quiet, "Only the answer, not how it came to be");
    app.callback([this, &o] {
      CheckQuestion("generate", o);
      options_.command = o;
    });
  }

  void AddStatus() {
    CLI::App& app = *app_.add_subcommand("status", "Every target: breaker, cooldown, limiter");
    app.add_option_function<std::string>(
        "target",
        [this](const std::string& text) {
          const v1::Target target = ParseTarget(text, false);
          status_.request.set_provider(target.provider());
          status_.request.set_model(target.model());
        },
        "Only this PROVIDER or PROVIDER/MODEL");
    app.callback([this] { options_.command = status_; });
  }

  void AddBreaker() {
    CLI::App& app = *app_.add_subcommand("breaker", "Force or reset a target's circuit breaker");
    app.require_subcommand(1);
    AddBreakerAction(app, "open", v1::SetBreakerRequest::ACTION_FORCE_OPEN,
                     "Hold it open: no request reaches the target");
    AddBreakerAction(app, "close", v1::SetBreakerRequest::ACTION_FORCE_CLOSE,
                     "Hold it closed, whatever happens");
    AddBreakerAction(app, "reset", v1::SetBreakerRequest::ACTION_RESET,
                     "Closed with empty counts, no force");
  }

  void AddBreakerAction(CLI::App& parent, const std::string& name,
                        v1::SetBreakerRequest::Action action, const std::string& help) {
    CLI::App& app = *parent.add_subcommand(name, help);
    app.add_option_function<std::string>(
           "target",
           [this](const std::string& text) {
             *breaker_.request.mutable_target() = ParseTarget(text, true);
           },
           "PROVIDER/MODEL")
        ->required();
    app.callback([this, action] {
      breaker_.request.set_action(action);
      options_.command = breaker_;
    });
  }

  void AddCache() {
    CLI::App& app = *app_.add_subcommand("cache", "The cache of answers");
    app.require_subcommand(1);
    app.add_subcommand("stats", "Its counts")->callback([this] {
      options_.command = CacheStatsOptions{};
    });
    CLI::App& calibration =
        *app.add_subcommand("calibration", "How often it would have been wrong, by threshold");
    calibration.add_option_function<std::string>(
        "--route", [this](const std::string& route) { calibration_.set_route(route); },
        "Of this route alone");
    calibration.callback([this] { options_.command = CacheCalibrationOptions{calibration_}; });
    AddCachePurge(*app.add_subcommand("purge", "Delete the entries for which all of these hold"));
    AddCacheExplain(
        *app.add_subcommand("explain", "What it would serve for a question, and why not"));
    AddCacheImport(*app.add_subcommand("import", "Put entries into it, from JSON lines"));
    AddCacheExport(*app.add_subcommand("export", "Its entries, texts included, as JSON lines"));
  }

  void AddCacheExplain(CLI::App& app) {
    GenerateOptions& o = explain_.request;
    app.add_option("question", o.question, "The question; - reads it from standard input");
    app.add_option("--file", o.request_file,
                   "A whole GenerateRequest as JSON (- = standard input), for one with tools or "
                   "earlier turns; the other options change it, a question is added to it")
        ->type_name("FILE");
    app.add_option("--route", o.route, "The route (default \"default\")");
    app.add_option("--system", o.system, "The system prompt");
    app.add_option("--tenant", o.tenant, "On whose behalf (default \"default\")")
        ->check(CheckTenant);
    app.add_option("--min-similarity", o.min_similarity, "As the caller would set it, 0 to 1");
    AddDuration(
        app, "--max-age", [&o](Nanos value) { o.max_age = value; }, "As the caller would set it");
    app.callback([this, &o] {
      CheckQuestion("explain", o);
      options_.command = explain_;
    });
  }

  void AddCacheImport(CLI::App& app) {
    CacheImportOptions& o = import_;
    app.add_option("file", o.path, "The lines; - = standard input")->required();
    app.add_option("--route", o.route, "Of lines that name none (default \"default\")");
    app.add_option("--tenant", o.tenant, "Of lines that name none (default \"default\")")
        ->check(CheckTenant);
    app.add_flag("--pinned", o.pinned, "Pin them all: they never expire and are never evicted");
    app.footer(kImportFooter);
    app.callback([this, &o] { options_.command = o; });
  }

  void AddCacheExport(CLI::App& app) {
    app.add_option("file", export_.path, "Where they go (default standard output)");
    app.add_option_function<std::string>(
           "--tenant", [this](const std::string& text) { export_.request.set_tenant(text); },
           "Of this tenant")
        ->check(CheckTenant);
    app.add_option_function<std::string>(
        "--route", [this](const std::string& text) { export_.request.set_route(text); },
        "Of this route");
    app.callback([this] { options_.command = export_; });
  }

  static void CheckQuestion(const char* command, const GenerateOptions& o) {
    if (!o.question && o.request_file.empty()) {
      throw CLI::ValidationError(command, "a question, - or --file is missing");
    }
    if (o.question == "-" && o.request_file == "-") {
      throw CLI::ValidationError(command, "standard input can be read only once");
    }
  }

  void AddCachePurge(CLI::App& app) {
    v1::PurgeCacheRequest& request = purge_.request;
    const auto add_text = [&](const std::string& name, std::string* value, const char* help) {
      app.add_option_function<std::string>(
          name,
          [name, value](const std::string& text) {
            if (text.empty()) throw CLI::ValidationError(name, "is empty");
            *value = text;
          },
          help);
    };
    add_text("--tenant", request.mutable_tenant(), "Of this tenant");
    add_text("--route", request.mutable_route(), "Of this route");
    add_text("--entry", request.mutable_entry_id(), "This one entry");
    AddDuration(
        app, "--older-than",
        [&request](Nanos value) { *request.mutable_older_than() = ToProto(value); },
        "Older than this");
    AddLabels(
        app, [&request](auto label) { (*request.mutable_labels())[label.first] = label.second; },
        "Of requests that had this label; repeatable, then all of them");
    app.add_flag_callback(
        "--everything", [&request] { request.set_everything(true); }, "Every entry; asks first");
    app.add_flag("--yes", purge_.yes, "Do not ask");
    app.callback([this, &request] {
      const bool chosen = !request.tenant().empty() || !request.route().empty() ||
                          !request.entry_id().empty() || request.has_older_than() ||
                          !request.labels().empty();
      if (chosen == request.everything()) {
        throw CLI::ValidationError(
            "purge", chosen ? "--everything stands alone" : "says nothing of what to delete");
      }
      options_.command = purge_;
    });
  }

  void AddPlan() {
    CLI::App& app = *app_.add_subcommand("plan", "What a request would be given, calling nobody");
    app.add_option_function<std::string>(
        "--route", [this](const std::string& text) { plan_.request.set_route(text); },
        "The route (default \"default\")");
    AddDuration(
        app, "--deadline",
        [this](Nanos value) { *plan_.request.mutable_deadline() = ToProto(value); },
        "The caller's deadline (default: none)");
    app.callback([this] { options_.command = plan_; });
  }

  void AddConfig() {
    CLI::App& app = *app_.add_subcommand("config", "The server's configuration");
    app.require_subcommand(1);
    app.add_subcommand("show", "The one in force, secrets masked")->callback([this] {
      options_.command = ConfigShowOptions{};
    });
    CLI::App& check = *app.add_subcommand("check", "Every fault of a file, asking no server");
    check.add_option("file", check_.path, "The YAML file")->required();
    check.callback([this] { options_.command = check_; });
  }

  void AddSimilarity() {
    CLI::App& app = *app_.add_subcommand(
        "similarity", "Whether answers to some questions may serve others, asking no server");
    SimilarityOptions& o = similarity_;
    CLI::Option* pairs =
        app.add_option("--pairs", o.pairs, "Pairs of questions; - = standard input")
            ->type_name("FILE");
    CLI::Option* stored = app.add_option("--stored", o.stored, "Questions that have answers")
                              ->type_name("FILE")
                              ->excludes(pairs);
    app.add_option("--asked", o.asked, "Questions that look for one")
        ->type_name("FILE")
        ->excludes(pairs)
        ->needs(stored);
    CLI::Option* model =
        app.add_option(
               "--model", o.model,
               "The sentence encoder (default models/minilm.hfm beside this program's folder)")
            ->type_name("FILE");
    AddChoice(app, "--embedder", o.hash, kEmbedders, "What makes vectors (default sentence)");
    app.footer(kSimilarityFooter);
    app.callback([this, &o, model] {
      if (o.pairs.empty() && (o.stored.empty() || o.asked.empty())) {
        throw CLI::ValidationError("similarity", "--pairs, or --stored and --asked, are missing");
      }
      if (o.stored == "-" && o.asked == "-") {
        throw CLI::ValidationError("similarity", "standard input can be read only once");
      }
      if (o.hash && model->count() > 0) {
        throw CLI::ValidationError("similarity", "--model cannot take effect with hashes");
      }
      options_.command = o;
    });
  }

  CLI::App app_{"The person's client of Holdfast, a resilient gateway to language models.",
                "holdfastctl"};
  const Environment& env_;
  Options options_;
  // What CLI11 writes to; the chosen one becomes options_.command.
  GenerateOptions generate_;
  StatusOptions status_;
  BreakerOptions breaker_;
  v1::GetCalibrationRequest calibration_;
  CachePurgeOptions purge_;
  CacheExplainOptions explain_;
  CacheImportOptions import_;
  CacheExportOptions export_;
  PlanOptions plan_;
  ConfigCheckOptions check_;
  SimilarityOptions similarity_;
  CLI::Option* server_ = nullptr;
  CLI::Option* admin_ = nullptr;
};

}  // namespace

std::variant<Options, Help, BadUsage> ParseCommandLine(const std::vector<std::string>& args,
                                                       const Environment& env) {
  return Parser(env).Parse(args);
}

}  // namespace holdfast::ctl
