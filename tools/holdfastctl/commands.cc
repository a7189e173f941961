#include "tools/holdfastctl/commands.h"

#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "holdfast/v1/admin.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tools/holdfastctl/cache_move.h"
#include "tools/holdfastctl/config_check.h"
#include "tools/holdfastctl/connection.h"
#include "tools/holdfastctl/generate_request.h"
#include "tools/holdfastctl/render.h"
#include "tools/holdfastctl/render_json.h"
#include "tools/holdfastctl/similarity_command.h"
#include "tools/holdfastctl/stream_view.h"

namespace holdfast::ctl {
namespace {

constexpr std::chrono::seconds kAdminTimeout{10};
constexpr char kTenantHeader[] = "x-holdfast-tenant";

bool Coloured(bool is_terminal, const Environment& env) {
  return is_terminal && env("NO_COLOR").value_or("").empty() && env("TERM") != "dumb";
}

std::string ImportText(const ImportReport& report) {
  std::string text = std::to_string(report.stored) + " stored";
  const auto add = [&](uint64_t count, const char* what) {
    if (count > 0) text += ", " + std::to_string(count) + what;
  };
  add(report.kept, " left out for a newer or pinned one");
  add(report.too_old, " older than the cache keeps answers");
  add(report.bad_lines.size(), report.bad_lines.size() == 1 ? " bad line" : " bad lines");
  return text + "\n";
}

std::string ImportJson(const ImportReport& report) {
  nlohmann::ordered_json document = {
      {"stored", report.stored}, {"kept", report.kept}, {"too_old", report.too_old}};
  document["bad_lines"] = nlohmann::ordered_json::array();
  for (const auto& [number, reason] : report.bad_lines) {
    document["bad_lines"].push_back({{"line", number}, {"reason", reason}});
  }
  return EscapeJson(document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace)) + "\n";
}

// Runs the one command that was chosen; std::visit picks the overload.
class Runner {
 public:
  Runner(const Options& options, Console& console)
      : options_(options),
        console_(console),
        out_paint_(Coloured(console.out_is_terminal, console.env)),
        err_paint_(Coloured(console.err_is_terminal, console.env)) {}

  int operator()(const GenerateOptions& command) {
    auto built = BuildRequest(command, console_.in);
    if (const auto* fault = std::get_if<std::string>(&built)) return Fail(UsageError(*fault));
    Connection connection(options_.server, options_.timeout);
    if (!command.tenant.empty()) {
      connection.context().AddMetadata(kTenantHeader, command.tenant);
    }
    const auto& request = std::get<v1::GenerateRequest>(built);
    if (command.stream.value_or(console_.out_is_terminal && !options_.json)) {
      return Stream(connection, request, command.quiet);
    }
    v1::GenerateResponse response;
    if (const auto error = Call<v1::GenerateService>(
            connection, &v1::GenerateService::Stub::Generate, request, response)) {
      return Fail(*error);
    }
    if (options_.json) return Show(MessageJson(response));
    const int code = Show(Harmless(AnswerText(response)));
    if (!command.quiet) console_.err << RenderProvenance(response, err_paint_);
    return code;
  }

  int operator()(const StatusOptions& command) {
    return CallAdmin(&v1::AdminService::Stub::GetStatus, command.request, RenderStatus);
  }

  int operator()(const BreakerOptions& command) {
    return CallAdmin(&v1::AdminService::Stub::SetBreaker, command.request,
                     [&](const v1::SetBreakerResponse& response, const Paint& paint) {
                       return RenderBreaker(command.request.target(), response.breaker(), paint);
                     });
  }

  int operator()(const CacheStatsOptions&) {
    return CallAdmin(&v1::AdminService::Stub::GetCacheStats, v1::GetCacheStatsRequest(),
                     RenderCacheStats);
  }

  int operator()(const CacheCalibrationOptions& command) {
    return CallAdmin(&v1::AdminService::Stub::GetCalibration, command.request, RenderCalibration);
  }

  int operator()(const CachePurgeOptions& command) {
    if (command.request.everything() && !command.yes) {
      if (!console_.in_is_terminal) return Fail(UsageError("--everything needs --yes here"));
      if (!Confirmed()) return Fail(Declined());
    }
    return CallAdmin(&v1::AdminService::Stub::PurgeCache, command.request,
                     [](const v1::PurgeCacheResponse& response, const Paint&) {
                       return std::to_string(response.deleted()) +
                              (response.deleted() == 1 ? " entry" : " entries") + " deleted\n";
                     });
  }

  int operator()(const CacheExplainOptions& command) {
    auto built = BuildRequest(command.request, console_.in);
    if (const auto* fault = std::get_if<std::string>(&built)) return Fail(UsageError(*fault));
    v1::ExplainCacheRequest request;
    *request.mutable_request() = std::get<v1::GenerateRequest>(std::move(built));
    request.set_tenant(command.request.tenant);
    return CallAdmin(&v1::AdminService::Stub::ExplainCache, request, RenderExplanation);
  }

  int operator()(const CacheImportOptions& command) {
    const auto result = RunImport(options_.admin, command, console_);
    if (const auto* error = std::get_if<CallError>(&result)) return Fail(*error);
    const auto& report = std::get<ImportReport>(result);
    const int code = Show(options_.json ? ImportJson(report) : ImportText(report));
    return report.bad_lines.empty() ? code : kExitFailed;
  }

  int operator()(const CacheExportOptions& command) {
    const auto result = RunExport(options_.admin, command, console_);
    if (const auto* error = std::get_if<CallError>(&result)) {
      // Standard output may have lines already.
      if (command.path != "-") return Fail(*error);
      console_.err << RenderError(*error, err_paint_);
      return error->exit_code;
    }
    const uint64_t count = std::get<uint64_t>(result);
    console_.err << count << (count == 1 ? " entry" : " entries") << " exported\n";
    return kExitOk;
  }

  int operator()(const PlanOptions& command) {
    return CallAdmin(&v1::AdminService::Stub::ExplainPlan, command.request, RenderPlan);
  }

  int operator()(const ConfigShowOptions&) {
    return CallAdmin(&v1::AdminService::Stub::GetConfig, v1::GetConfigRequest(),
                     [&](const v1::GetConfigResponse& response, const Paint&) {
                       console_.err << EscapeLine(response.path()) << ", read at "
                                    << TimeText(response.loaded_at()) << "\n";
                       return Harmless(response.yaml());
                     });
  }

  int operator()(const ConfigCheckOptions& command) {
    const ConfigReport report = CheckConfig(command.path, console_.env);
    if (options_.json) {
      Show(report.json);
    } else {
      (report.ok ? console_.out : console_.err) << report.text << std::flush;
    }
    return report.ok ? kExitOk : kExitFailed;
  }

  int operator()(const SimilarityOptions& command) {
    const auto error = RunSimilarity(command, console_);
    if (!error) return kExitOk;
    if (error->exit_code == kExitUsage) return Fail(*error);
    console_.err << RenderError(*error, err_paint_);  // standard output has its lines
    return error->exit_code;
  }

 private:
  template <typename Service, typename Request, typename Response>
  std::optional<CallError> Call(Connection& connection,
                                grpc::Status (Service::Stub::*method)(grpc::ClientContext*,
                                                                      const Request&, Response*),
                                const Request& request, Response& response) {
    if (auto error = connection.Connect()) return error;
    typename Service::Stub stub(connection.channel());
    const grpc::Status status = (stub.*method)(&connection.context(), request, &response);
    if (status.ok()) return std::nullopt;
    return DecodeStatus(status);
  }

  int Stream(Connection& connection, const v1::GenerateRequest& request, bool quiet) {
    if (const auto error = connection.Connect()) return FailStream(*error);
    v1::GenerateService::Stub stub(connection.channel());
    const auto reader = stub.GenerateStream(&connection.context(), request);
    StreamView view(console_, err_paint_, quiet);
    v1::GenerateStreamResponse event;
    while (console_.out && reader->Read(&event)) {
      if (options_.json) {
        console_.out << MessageJsonLine(event) << std::flush;
      } else {
        view.On(event);
      }
    }
    view.End();
    if (!console_.out) {  // nobody is there to read any more
      connection.context().TryCancel();
      (void)reader->Finish();
      return Show("");
    }
    const grpc::Status status = reader->Finish();
    return status.ok() ? kExitOk : FailStream(DecodeStatus(status));
  }

  template <typename Request, typename Response, typename Render>
  int CallAdmin(grpc::Status (v1::AdminService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Response*),
                const Request& request, const Render& render) {
    Connection connection(options_.admin, options_.timeout.value_or(kAdminTimeout));
    Response response;
    if (const auto error = Call<v1::AdminService>(connection, method, request, response)) {
      return Fail(*error);
    }
    return Show(options_.json ? MessageJson(response) : render(response, out_paint_));
  }

  bool Confirmed() {
    console_.err << "Delete every entry of the cache at " << EscapeLine(options_.admin)
                 << "? [y/N] " << std::flush;
    std::string answer;
    std::getline(console_.in, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
  }

  static CallError Declined() {
    CallError error;
    error.code = "DECLINED";
    error.message = "nothing was deleted";
    return error;
  }

  // Text from the network could steer a terminal; a file or pipe gets it as it is.
  std::string Harmless(const std::string& text) const {
    return console_.out_is_terminal ? EscapeText(text) : text;
  }

  int Show(const std::string& text) {
    console_.out << text << std::flush;
    if (console_.out) return kExitOk;
    console_.err << "error: cannot write to standard output\n";
    return kExitFailed;
  }

  // As Fail, in the form of a stream's events.
  int FailStream(const CallError& error) {
    if (!options_.json) return Fail(error);
    Show(ErrorJsonLine(error));
    return error.exit_code;
  }

  int Fail(const CallError& error) {
    if (options_.json) {
      Show(ErrorJson(error));
    } else {
      console_.err << RenderError(error, err_paint_);
    }
    return error.exit_code;
  }

  const Options& options_;
  Console& console_;
  const Paint out_paint_;
  const Paint err_paint_;
};

int Refuse(const BadUsage& usage, Console& console) {
  const CallError error = UsageError(usage.message);
  if (usage.json) {
    console.out << ErrorJson(error) << std::flush;
  } else {
    console.err << RenderError(error, Paint(Coloured(console.err_is_terminal, console.env)));
  }
  return error.exit_code;
}

}  // namespace

int RunCommandLine(const std::vector<std::string>& args, Console& console) {
  const auto parsed = ParseCommandLine(args, console.env);
  if (const auto* usage = std::get_if<BadUsage>(&parsed)) return Refuse(*usage, console);
  if (const auto* help = std::get_if<Help>(&parsed)) {
    console.out << help->text << std::flush;
    return kExitOk;
  }
  const Options& options = std::get<Options>(parsed);
  return std::visit(Runner(options, console), options.command);
}

}  // namespace holdfast::ctl
