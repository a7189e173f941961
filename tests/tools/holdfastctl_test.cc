// holdfastctl: its pure parts, its commands against a scripted server of both services, and the
// real binary, also on a terminal.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "holdfast/v1/generate.grpc.pb.h"
#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/duration.h"
#include "tools/holdfastctl/generate_request.h"
#include "tools/holdfastctl/options.h"
#include "tools/holdfastctl/render.h"
#include "tools/holdfastctl/render_json.h"
#include "tools/holdfastctl/status_details.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;
using Strings = std::vector<std::string>;

const Paint kPlain(false);
const Paint kColoured(true);

template <typename Message>
Message FromJson(const std::string& json) {
  Message message;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &message);
  EXPECT_TRUE(status.ok()) << std::string(status.message());
  return message;
}

// ---- Durations

TEST(DurationTest, ReadsWhatPeopleWrite) {
  EXPECT_EQ(ParseDuration("10s"), Nanos(10s));
  EXPECT_EQ(ParseDuration("500ms"), Nanos(500ms));
  EXPECT_EQ(ParseDuration("1.5s"), Nanos(1500ms));
  EXPECT_EQ(ParseDuration("1h30m"), Nanos(90min));
  EXPECT_EQ(ParseDuration("7d"), Nanos(168h));
  EXPECT_EQ(ParseDuration("0s"), Nanos(0));
  EXPECT_EQ(ParseDuration("3us2ns"), Nanos(3002));
}

TEST(DurationTest, RefusesTheRest) {
  for (const char* text : {"", "10", "s", "-1s", "1.s", ".5s", "1..5s", "1e3s", "10 s", "1sx",
                           "nan", "inf", "1w", "293000d", "99999999999999999999999d"}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
  }
}

TEST(DurationTest, ShowsEveryMagnitude) {
  EXPECT_EQ(FormatDuration(Nanos(0)), "0 s");
  EXPECT_EQ(FormatDuration(Nanos(400us)), "0.4 ms");
  EXPECT_EQ(FormatDuration(Nanos(850ms)), "850 ms");
  EXPECT_EQ(FormatDuration(Nanos(999ms)), "999 ms");
  EXPECT_EQ(FormatDuration(Nanos(999600us)), "1.00 s");
  EXPECT_EQ(FormatDuration(Nanos(1240ms)), "1.24 s");
  EXPECT_EQ(FormatDuration(Nanos(29500ms)), "29.5 s");
  EXPECT_EQ(FormatDuration(Nanos(60s)), "1m 00s");
  EXPECT_EQ(FormatDuration(Nanos(125s)), "2m 05s");
  EXPECT_EQ(FormatDuration(Nanos(192min)), "3h 12m");
  EXPECT_EQ(FormatDuration(Nanos(172h)), "7d 4h");
  EXPECT_EQ(FormatDuration(Nanos(-3s)), "-3.00 s");
}

TEST(DurationTest, ProtoSaturatesInsteadOfOverflowing) {
  google::protobuf::Duration huge;
  huge.set_seconds(315'576'000'000);
  EXPECT_EQ(FromProto(huge), Nanos::max());
  huge.set_seconds(-315'576'000'000);
  EXPECT_EQ(FromProto(huge), Nanos::min());
  EXPECT_EQ(FromProto(ToProto(1500ms)), Nanos(1500ms));
}

// ---- Text on terminals

TEST(TerminalTextTest, ControlsCannotReachATerminal) {
  EXPECT_EQ(EscapeText("a\x1b[2Jb\x07"), "a\\x1b[2Jb\\x07");
  EXPECT_EQ(EscapeText("C1 \xc2\x9b"
                       "31m, DEL \x7f"),
            "C1 \\x9b31m, DEL \\x7f");
  EXPECT_EQ(EscapeText("line\r\nnext\tcell\rover"), "line\nnext\tcell\\rover");
  EXPECT_EQ(EscapeText(std::string("nul\0", 4)), "nul\\x00");
}

TEST(TerminalTextTest, OrdinaryTextOfAnyLanguageStays) {
  const std::string text = "naïve 日本語 🙂 \xc2\xa0 עברית\n";
  EXPECT_EQ(EscapeText(text), text);
  EXPECT_TRUE(IsValidUtf8(text));
}

TEST(TerminalTextTest, BytesThatAreNoUtf8AreShown) {
  for (const char* bad :
       {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x9b"}) {
    EXPECT_FALSE(IsValidUtf8(bad)) << EscapeLine(bad);
    EXPECT_THAT(EscapeText(bad), StartsWith("\\x"));
    EXPECT_TRUE(IsValidUtf8(EscapeText(bad)));
  }
}

TEST(TerminalTextTest, ALineStaysOne) { EXPECT_EQ(EscapeLine("a\nb\tc\rd"), "a\\nb\\tc\\rd"); }

TEST(TerminalTextTest, JsonEscapesWhatJsonWouldLetThrough) {
  EXPECT_EQ(EscapeJson("\"\x7f\xc2\x9b\xc3\xa9\""), "\"\\u007f\\u009b\xc3\xa9\"");
}

TEST(TerminalTextTest, TableAlignsByCharactersAndDropsEmptyColumns) {
  Table table(2);
  table.Add({{"A", Colour::kBold}, {"EMPTY"}, {"C"}});
  table.Add({{"é"}, {""}, {"x\ny"}});
  table.Add({{"long"}, {""}, {""}});
  EXPECT_EQ(table.ToString(kPlain, true), "  A     C\n  é     x\\ny\n  long\n");
  EXPECT_THAT(table.ToString(kColoured, true), HasSubstr("\x1b[1mA\x1b[0m     C"));
}

// ---- The command line

std::variant<Options, Help, BadUsage> Parse(const Strings& args,
                                            std::map<std::string, std::string> env = {}) {
  return ParseCommandLine(args, [env](const std::string& name) -> std::optional<std::string> {
    const auto found = env.find(name);
    if (found == env.end()) return std::nullopt;
    return found->second;
  });
}

Options Parsed(const Strings& args, std::map<std::string, std::string> env = {}) {
  auto result = Parse(args, std::move(env));
  if (const auto* usage = std::get_if<BadUsage>(&result)) ADD_FAILURE() << usage->message;
  return std::holds_alternative<Options>(result) ? std::get<Options>(result) : Options();
}

std::string Refused(const Strings& args) {
  auto result = Parse(args);
  if (const auto* usage = std::get_if<BadUsage>(&result)) return usage->message;
  ADD_FAILURE() << "not refused: " << testing::PrintToString(args);
  return "";
}

TEST(CommandLineTest, AddressesComeFromOptionThenEnvironmentThenDefault) {
  const std::map<std::string, std::string> env = {{"HOLDFAST_SERVER", "s:1"},
                                                  {"HOLDFAST_ADMIN", "a:2"}};
  EXPECT_EQ(Parsed({"status"}).server, "127.0.0.1:50051");
  EXPECT_EQ(Parsed({"status"}).admin, "127.0.0.1:50052");
  EXPECT_EQ(Parsed({"status"}, env).server, "s:1");
  EXPECT_EQ(Parsed({"status"}, env).admin, "a:2");
  EXPECT_EQ(Parsed({"status", "--admin", "b:3"}, env).admin, "b:3");
  EXPECT_EQ(Parsed({"--server=c:4", "status"}, env).server, "c:4");
}

TEST(CommandLineTest, GlobalOptionsStandBeforeOrAfterTheCommand) {
  EXPECT_TRUE(Parsed({"--json", "cache", "stats"}).json);
  EXPECT_TRUE(Parsed({"cache", "stats", "--json"}).json);
  EXPECT_EQ(Parsed({"config", "show", "--timeout", "2s"}).timeout, Nanos(2s));
  EXPECT_EQ(Parsed({"status"}).timeout, std::nullopt);
}

v1::GenerateRequest Request(const Strings& args, const std::string& input = "") {
  const Options options = Parsed(args);
  std::istringstream in(input);
  auto built = BuildRequest(std::get<GenerateOptions>(options.command), in);
  if (const auto* fault = std::get_if<std::string>(&built)) {
    ADD_FAILURE() << *fault;
    return {};
  }
  return std::get<v1::GenerateRequest>(built);
}

class TempFile {
 public:
  explicit TempFile(const std::string& content) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << content;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = std::filesystem::temp_directory_path() / "holdfastctl_test.XXXXXX";
};

TEST(GenerateRequestTest, AQuestionAloneSetsNothingElse) {
  const auto request = Request({"generate", "Why?"});
  EXPECT_EQ(request.ShortDebugString(),
            FromJson<v1::GenerateRequest>(R"({"messages":[{"role":"user","content":"Why?"}]})")
                .ShortDebugString());
}

TEST(GenerateRequestTest, EveryOptionReachesItsField) {
  const auto request = Request({"generate",
                                "q",
                                "--route",
                                "r",
                                "--system",
                                "s",
                                "--worst-acceptable",
                                "stale",
                                "--max-cost",
                                "0.5",
                                "--max-output-tokens",
                                "7",
                                "--temperature",
                                "0",
                                "--json-object",
                                "--cache",
                                "off",
                                "--no-store",
                                "--min-similarity",
                                "0.9",
                                "--max-age",
                                "1h",
                                "--request-id",
                                "id",
                                "--label",
                                "a=1",
                                "--label",
                                "b=x=y"});
  const auto expected = FromJson<v1::GenerateRequest>(R"({
    "route": "r", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
    "worst_acceptable": "DEGRADATION_STALE", "max_cost_usd": 0.5, "max_output_tokens": 7,
    "temperature": 0, "response_format": {"kind": "KIND_JSON_OBJECT"},
    "cache": {"mode": "MODE_OFF", "no_store": true, "min_similarity": 0.9, "max_age": "3600s"},
    "request_id": "id", "labels": {"a": "1", "b": "x=y"}})");
  EXPECT_EQ(Json::parse(MessageJson(request)), Json::parse(MessageJson(expected)));
  EXPECT_TRUE(request.has_temperature());
}

TEST(GenerateRequestTest, ALabelDoesNotSwallowTheQuestion) {
  const auto request = Request({"generate", "--label", "a=1", "q"});
  EXPECT_EQ(request.messages(0).content(), "q");
  EXPECT_EQ(request.labels_size(), 1);
}

TEST(GenerateRequestTest, TheQuestionMayComeFromStandardInput) {
  EXPECT_EQ(Request({"generate", "-"}, "two\nlines\n").messages(0).content(), "two\nlines");
  EXPECT_EQ(Request({"generate", "-"}, "dos\r\n").messages(0).content(), "dos");
  EXPECT_EQ(Request({"generate", "-"}, "").messages(0).content(), "");
}

TEST(GenerateRequestTest, AFileIsTheBaseThatOptionsChange) {
  const TempFile file(R"({"route":"f","seed":3,"messages":[{"role":"user","content":"first"},
                          {"role":"assistant","content":"second"}]})");
  const auto request =
      Request({"generate", "third", "--file", file.path(), "--system", "s", "--route", "r"});
  EXPECT_EQ(request.route(), "r");
  EXPECT_EQ(request.seed(), 3);
  ASSERT_EQ(request.messages_size(), 4);
  EXPECT_EQ(request.messages(0).role(), "system");
  EXPECT_EQ(request.messages(1).content(), "first");
  EXPECT_EQ(request.messages(2).content(), "second");
  EXPECT_EQ(request.messages(3).content(), "third");
  EXPECT_EQ(Request({"generate", "--file", "-"}, R"({"route":"in"})").route(), "in");
}

TEST(GenerateRequestTest, ASchemaIsReadFromItsFile) {
  const TempFile schema(R"({"type":"object"})");
  const auto request = Request({"generate", "q", "--json-schema", schema.path()});
  EXPECT_EQ(request.response_format().kind(), v1::ResponseFormat::KIND_JSON_SCHEMA);
  EXPECT_EQ(request.response_format().json_schema(), R"({"type":"object"})");
}

TEST(GenerateRequestTest, FaultsOfFilesAreTold) {
  const auto fault = [](const Strings& args, const std::string& input) -> std::string {
    const Options options = Parsed(args);
    std::istringstream in(input);
    auto built = BuildRequest(std::get<GenerateOptions>(options.command), in);
    return std::holds_alternative<std::string>(built) ? std::get<std::string>(built) : "none";
  };
  EXPECT_THAT(fault({"generate", "--file", "/nonexistent.json"}, ""), HasSubstr("No such file"));
  EXPECT_THAT(fault({"generate", "--file", "/"}, ""), StartsWith("/: "));
  EXPECT_THAT(fault({"generate", "--file", "-"}, "{\"unknown\":1}"), HasSubstr("unknown"));
  EXPECT_THAT(fault({"generate", "--file", "-"}, "not json"), HasSubstr("not a GenerateRequest"));
  EXPECT_THAT(fault({"generate", "-"}, "\xff"), HasSubstr("standard input: not UTF-8"));
}

TEST(CommandLineTest, WrongUsageIsRefusedWithItsReason) {
  EXPECT_THAT(Refused({}), HasSubstr("subcommand"));
  EXPECT_THAT(Refused({"nonsense"}), StartsWith("\"nonsense\" is not known"));
  EXPECT_THAT(Refused({"breaker", "explode", "p/m"}), StartsWith("\"explode\" is not known"));
  EXPECT_THAT(Refused({"generate"}), HasSubstr("question"));
  EXPECT_THAT(Refused({"generate", "-", "--file", "-"}), HasSubstr("only once"));
  EXPECT_THAT(Refused({"generate", "a", "b"}), HasSubstr("b"));
  EXPECT_THAT(Refused({"generate", "q", "--nonsense"}), HasSubstr("--nonsense"));
  EXPECT_THAT(Refused({"generate", "q", "--worst-acceptable", "best"}),
              HasSubstr("none of none|fallback_model|stale|partial"));
  EXPECT_THAT(Refused({"generate", "q", "--cache", "on"}),
              HasSubstr("none of fallback|off|prefer"));
  EXPECT_THAT(Refused({"generate", "q", "--timeout", "10"}), HasSubstr("duration"));
  EXPECT_THAT(Refused({"generate", "q", "--timeout", "0s"}), HasSubstr("duration"));
  EXPECT_THAT(Refused({"generate", "q", "--temperature", "hot"}), HasSubstr("hot"));
  EXPECT_THAT(Refused({"generate", "q", "--label", "novalue"}), HasSubstr("KEY=VALUE"));
  EXPECT_THAT(Refused({"generate", "q", "--tenant", "a\nb"}), HasSubstr("ASCII"));
  EXPECT_THAT(Refused({"generate", "q", "--tenant", ""}), HasSubstr("ASCII"));
  EXPECT_THAT(Refused({"generate", "q", "--json-object", "--json-schema", "f"}),
              HasSubstr("--json-object"));
  EXPECT_THAT(Refused({"generate", "\xff"}), HasSubstr("not UTF-8"));
  EXPECT_THAT(Refused({"status", "--admin", "nowhere"}), HasSubstr("HOST:PORT"));
  EXPECT_THAT(Refused({"breaker"}), HasSubstr("subcommand"));
  EXPECT_THAT(Refused({"breaker", "open"}), HasSubstr("target"));
  EXPECT_THAT(Refused({"breaker", "open", "provider"}), HasSubstr("PROVIDER/MODEL"));
  EXPECT_THAT(Refused({"breaker", "open", "/m"}), HasSubstr("PROVIDER/MODEL"));
  EXPECT_THAT(Refused({"cache", "purge"}), HasSubstr("what to delete"));
  EXPECT_THAT(Refused({"cache", "purge", "--everything", "--route", "r"}), HasSubstr("alone"));
  EXPECT_THAT(Refused({"cache", "purge", "--tenant", ""}), HasSubstr("empty"));
  EXPECT_THAT(Refused({"plan", "--deadline", "soon"}), HasSubstr("duration"));
  EXPECT_THAT(Refused({"config", "check"}), HasSubstr("file"));
}

TEST(CommandLineTest, AWrongAddressInTheEnvironmentNamesItsVariable) {
  const auto result = Parse({"status"}, {{"HOLDFAST_ADMIN", "nowhere"}});
  ASSERT_TRUE(std::holds_alternative<BadUsage>(result));
  EXPECT_THAT(std::get<BadUsage>(result).message, HasSubstr("HOLDFAST_ADMIN"));
}

TEST(CommandLineTest, HelpAndVersionAreNoFaults) {
  for (const Strings& args : {Strings{"--help"}, Strings{"generate", "--help"}}) {
    const auto result = Parse(args);
    ASSERT_TRUE(std::holds_alternative<Help>(result));
    EXPECT_THAT(std::get<Help>(result).text, HasSubstr("Usage:"));
  }
  EXPECT_THAT(std::get<Help>(Parse({"--help"})).text, HasSubstr("Exit codes: 0 done"));
  EXPECT_THAT(std::get<Help>(Parse({"generate", "--help"})).text, HasSubstr("--worst-acceptable"));
  EXPECT_THAT(std::get<Help>(Parse({"--version"})).text, StartsWith("holdfastctl "));
}

TEST(CommandLineTest, AModelMayHoldSlashes) {
  const Options options = Parsed({"breaker", "reset", "openrouter/meta/llama-3"});
  const auto& request = std::get<BreakerOptions>(options.command).request;
  EXPECT_EQ(request.target().provider(), "openrouter");
  EXPECT_EQ(request.target().model(), "meta/llama-3");
  EXPECT_EQ(request.action(), v1::SetBreakerRequest::ACTION_RESET);
}

// ---- Rendering

v1::GenerateResponse FallbackAnswer() {
  return FromJson<v1::GenerateResponse>(R"({
    "request_id": "r-1", "message": {"role": "assistant", "content": "Rayleigh."},
    "finish_reason": "FINISH_REASON_STOP", "degradation": "DEGRADATION_FALLBACK_MODEL",
    "usage": {"input_tokens": 12, "cached_input_tokens": 4, "output_tokens": 45, "reasoning_tokens": 9},
    "served_by": {"provider": "openai", "model": "gpt-4o"}, "cost_usd": 0.000125,
    "time_budget": {"total": "30s", "used": "2.5s"},
    "attempts": [
      {"target": {"provider": "anthropic", "model": "sonnet"}, "outcome": "rate_limited",
       "http_status": 429, "duration": "0.12s", "error": "slow\ndown"},
      {"target": {"provider": "anthropic", "model": "sonnet"}, "outcome": "server_error",
       "http_status": 500, "start_offset": "1.2s", "duration": "0.08s", "delay_before": "1.08s",
       "retry_skipped": "budget", "usage": {"input_tokens": 12, "output_tokens": 3},
       "usage_estimated": true, "cost_usd": 0.01},
      {"target": {"provider": "anthropic", "model": "haiku"}, "skipped": true,
       "outcome": "breaker_open"},
      {"target": {"provider": "openai", "model": "gpt-4o"}, "outcome": "complete",
       "http_status": 200, "start_offset": "1.3s", "duration": "1.2s"}]})");
}

TEST(RenderTest, ProvenanceTellsHowTheAnswerCameToBe) {
  EXPECT_EQ(
      RenderProvenance(FallbackAnswer(), kPlain),
      "fallback model: answered by openai/gpt-4o\n"
      "  stop · 12 tokens in (4 cached), 45 out (9 reasoning) · $0.000125 · 2.50 s of 30.0 s\n"
      "  attempts\n"
      "    1  anthropic/sonnet  rate_limited           429                 at 0 s     took 120 ms"
      "  slow\\ndown\n"
      "    2  anthropic/sonnet  server_error           500  waited 1.08 s  at 1.20 s  took 80 ms"
      "   no retry: budget; about 12 in, 3 out; $0.01\n"
      "    -  anthropic/haiku   skipped: breaker_open\n"
      "    3  openai/gpt-4o     complete               200                 at 1.30 s  took 1.20 s"
      "\n"
      "  request r-1\n");
}

TEST(RenderTest, EveryRungHasItsHeadlineAndColour) {
  v1::GenerateResponse response = FallbackAnswer();
  EXPECT_THAT(RenderProvenance(response, kColoured), StartsWith("\x1b[33mfallback model"));
  response.set_degradation(v1::DEGRADATION_NONE);
  EXPECT_THAT(RenderProvenance(response, kColoured),
              StartsWith("\x1b[32manswered by openai/gpt-4o"));
  response.set_degradation(v1::DEGRADATION_STALE);
  EXPECT_THAT(RenderProvenance(response, kColoured), StartsWith("\x1b[33mstale: "));
  response.set_degradation(v1::DEGRADATION_PARTIAL);
  EXPECT_THAT(RenderProvenance(response, kColoured), StartsWith("\x1b[31mpartial: incomplete"));
  response.clear_served_by();
  EXPECT_THAT(RenderProvenance(response, kPlain), StartsWith("partial: the notice alone\n"));
}

TEST(RenderTest, AStaleAnswerShowsItsOriginAndAPartialItsNotice) {
  v1::GenerateResponse response = FallbackAnswer();
  response.set_notice("Some\x1b[31m of it.");
  *response.mutable_cache_hit() = FromJson<v1::CacheHit>(R"({
    "similarity": 0.9312, "threshold": 0.85, "age": "7500s", "created_at": "2026-01-31T12:00:00Z",
    "made_by": {"provider": "p", "model": "m"}, "entry_id": "e7"})");
  const std::string text = RenderProvenance(response, kPlain);
  EXPECT_THAT(text, HasSubstr("  notice: Some\\x1b[31m of it.\n"));
  EXPECT_THAT(text,
              HasSubstr("  cache: similarity 0.931 (needed 0.850), 2h 05m old, made 2026-01-31 "
                        "12:00:00 UTC by p/m, entry e7\n"));
}

TEST(RenderTest, NothingFromTheNetworkKeepsItsControls) {
  v1::GenerateResponse response = FallbackAnswer();
  const std::string evil = "\x1b]0;owned\x07";
  response.set_request_id(evil);
  response.set_notice(evil);
  response.mutable_served_by()->set_model(evil);
  response.mutable_cache_hit()->set_entry_id(evil);
  for (v1::Attempt& attempt : *response.mutable_attempts()) {
    attempt.set_error(evil);
    attempt.set_outcome(evil);
    attempt.set_retry_skipped(evil);
    attempt.mutable_target()->set_provider(evil);
  }
  EXPECT_THAT(RenderProvenance(response, kPlain), Not(HasSubstr("\x1b")));
  EXPECT_THAT(RenderProvenance(response, kPlain), Not(HasSubstr("\x07")));
}

TEST(RenderTest, AnswerIsTextAndToolCallsAndEndsItsLine) {
  v1::GenerateResponse response;
  EXPECT_EQ(AnswerText(response), "");
  response.mutable_message()->set_content("one\n");
  EXPECT_EQ(AnswerText(response), "one\n");
  response = FromJson<v1::GenerateResponse>(R"({"message": {"parts": [{"text": "Let me look."},
    {"tool_call": {"id": "1", "name": "weather", "arguments": "{\"city\":\"Bonn\"}"}},
    {"tool_call": {"id": "2", "name": "time", "arguments": "{}"}}]}})");
  EXPECT_EQ(AnswerText(response), "Let me look.\nweather({\"city\":\"Bonn\"})\ntime({})\n");
}

TEST(RenderTest, Money) {
  EXPECT_EQ(MoneyText(0), "$0.00");
  EXPECT_EQ(MoneyText(1), "$1.00");
  EXPECT_EQ(MoneyText(0.5), "$0.50");
  EXPECT_EQ(MoneyText(0.000125), "$0.000125");
  EXPECT_EQ(MoneyText(0.0000001), "<$0.000001");
}

v1::GetStatusResponse Status() {
  return FromJson<v1::GetStatusResponse>(R"({
    "version": "0.1.0", "uptime": "11520s", "in_progress": 2, "shed": "5",
    "targets": [
      {"target": {"provider": "anthropic", "model": "sonnet"},
       "breaker": {"state": "BREAKER_STATE_CLOSED", "successes": "20", "failures": "1"},
       "limiter": {"limit": 1000, "in_flight": 2}},
      {"target": {"provider": "openai", "model": "gpt-4o"},
       "breaker": {"state": "BREAKER_STATE_OPEN", "open_for": "42s", "open_step": 1, "leaked": "1"},
       "cooldown": "3s", "cooldown_reason": "rate_limited", "credential_cooldown": "240s",
       "limiter": {"limit": 900.5, "rejected": "3"}, "last_error": "server_error"},
      {"target": {"provider": "local", "model": "llama"},
       "breaker": {"state": "BREAKER_STATE_HALF_OPEN", "probes_in_flight": 1},
       "limiter": {"limit": 10}}],
    "retry_budgets": [{"route": "default", "tokens": 9.5, "in_flight": 1}]})");
}

TEST(RenderTest, StatusIsATable) {
  EXPECT_EQ(RenderStatus(Status(), kPlain),
            "holdfast 0.1.0, up 3h 12m: 2 in progress, 0 queued, 5 shed\n"
            "\n"
            "TARGET            BREAKER          OK  FAILED  CENSORED  IN A ROW  PROBES             "
            "COOLDOWN                                LIMITER              LAST ERROR    NOTES\n"
            "anthropic/sonnet  CLOSED           20  1       0         0                            "
            "                                        2/1000\n"
            "openai/gpt-4o     OPEN for 42.0 s  0   0       0         0                            "
            "3.00 s rate_limited, credential 4m 00s  0/900.5, 3 rejected  server_error  open step "
            "1, 1 leaked\n"
            "local/llama       HALF_OPEN        0   0       0         0         1 in flight, 0 ok"
            "                                          0/10\n"
            "\n"
            "ROUTE    RETRY TOKENS  RETRIES IN FLIGHT\n"
            "default  9.5           1\n");
}

TEST(RenderTest, AHealthyStatusIsNarrow) {
  v1::GetStatusResponse status = Status();
  status.mutable_targets()->DeleteSubrange(1, 2);
  EXPECT_THAT(RenderStatus(status, kPlain),
              HasSubstr("TARGET            BREAKER  OK  FAILED  CENSORED  IN A ROW  LIMITER\n"));
}

TEST(RenderTest, BreakerStatesAreColoured) {
  const std::string text = RenderStatus(Status(), kColoured);
  EXPECT_THAT(text, HasSubstr("\x1b[32mCLOSED\x1b[0m"));
  EXPECT_THAT(text, HasSubstr("\x1b[31mOPEN for 42.0 s\x1b[0m"));
  EXPECT_THAT(text, HasSubstr("\x1b[33mHALF_OPEN\x1b[0m"));
}

TEST(RenderTest, AnOpenBreakerWhoseTimeIsOverIsDue) {
  v1::BreakerStatus breaker;
  breaker.set_state(v1::BREAKER_STATE_OPEN);
  breaker.set_generation(4);
  v1::Target target;
  target.set_provider("p");
  target.set_model("m");
  EXPECT_EQ(RenderBreaker(target, breaker, kPlain), "p/m: OPEN, due for a probe (generation 4)\n");
}

TEST(RenderTest, NoTargetIsSaid) {
  EXPECT_THAT(RenderStatus({}, kPlain), EndsWith("no such target\n"));
}

TEST(RenderTest, PlanShowsBothColumnsInOneOrder) {
  const auto plan = FromJson<v1::ExplainPlanResponse>(R"({
    "total": "10s", "soft_deadline": "9.8s", "tail": "0.2s",
    "if_all_hang": [
      {"stage": "attempt", "target": {"provider": "a", "model": "m"}, "attempt": 1, "allotted": "8s"},
      {"stage": "attempt", "target": {"provider": "b", "model": "m"}, "attempt": 1, "skipped": "no_time"},
      {"stage": "notice", "start_offset": "9.6s", "allotted": "0.2s"}],
    "if_all_fail": [
      {"stage": "attempt", "target": {"provider": "a", "model": "m"}, "attempt": 1, "allotted": "8s"},
      {"stage": "attempt", "target": {"provider": "a", "model": "m"}, "attempt": 2, "allotted": "8s"},
      {"stage": "attempt", "target": {"provider": "b", "model": "m"}, "attempt": 1, "allotted": "9s"},
      {"stage": "stale", "allotted": "0.2s"},
      {"stage": "notice", "allotted": "0.2s"}]})");
  EXPECT_EQ(
      RenderPlan(plan, kPlain),
      "total 10.0 s, every answer written by 9.80 s, the last 200 ms kept for the ladder's end\n"
      "\n"
      "STAGE           IF EVERY ATTEMPT HANGS   IF EVERY ATTEMPT FAILS AT ONCE\n"
      "attempt a/m #1  at 0 s, up to 8.00 s     at 0 s, up to 8.00 s\n"
      "attempt a/m #2  -                        at 0 s, up to 8.00 s\n"
      "attempt b/m #1  skipped: no_time         at 0 s, up to 9.00 s\n"
      "stale           -                        at 0 s, up to 200 ms\n"
      "notice          at 9.60 s, up to 200 ms  at 0 s, up to 200 ms\n");
}

TEST(RenderTest, CalibrationShowsThresholdsAndTheCurve) {
  v1::GetCalibrationResponse response;
  response.set_compared(12);
  v1::RouteCalibration& route = *response.add_routes();
  route.set_route("default");
  route.set_samples(900);
  route.set_max_error(0.05);
  v1::CalibratedThreshold& threshold = *route.add_thresholds();
  threshold.set_configured(0.85);
  threshold.set_in_force(0.9);
  threshold.set_state(v1::CalibratedThreshold::STATE_HELD);
  v1::CalibrationPoint& point = *route.add_curve();
  point.set_threshold(0.9);
  point.set_served(400);
  point.set_wrong(6);
  point.set_bound(0.047);
  const std::string text = RenderCalibration(response, kPlain);
  EXPECT_THAT(text, HasSubstr("12 answers compared"));
  EXPECT_THAT(text, HasSubstr("default: 900 samples, max_error 5.0 %"));
  EXPECT_THAT(text, HasSubstr("threshold 0.85, in force 0.90 (holds)"));
  EXPECT_THAT(text, ::testing::ContainsRegex("0.90 +400 +6 +1.5 % +4.7 %"));
  threshold.set_state(v1::CalibratedThreshold::STATE_TOO_FEW_SAMPLES);
  threshold.set_needed(150);
  EXPECT_THAT(RenderCalibration(response, kPlain), HasSubstr("too few samples; about 150"));
}

TEST(RenderTest, CacheStatsShowFaultsInRed) {
  v1::GetCacheStatsResponse stats;
  stats.set_entries(3);
  stats.set_bytes(2048);
  stats.set_write_errors(1);
  stats.set_degraded("the index is read-only");
  const std::string text = RenderCacheStats(stats, kColoured);
  EXPECT_THAT(text, StartsWith("degraded          \x1b[31mthe index is read-only\x1b[0m\n"));
  EXPECT_THAT(text, HasSubstr("on disk           2 KiB\n"));
  EXPECT_THAT(text, HasSubstr("write errors      \x1b[31m1\x1b[0m\n"));
  EXPECT_THAT(text, HasSubstr("read errors       0\n"));
  EXPECT_THAT(text, HasSubstr("loading  "));
  EXPECT_THAT(text, Not(HasSubstr("rewriting")));
  stats.set_ready(true);
  stats.set_rewriting(true);
  EXPECT_THAT(RenderCacheStats(stats, kColoured), Not(HasSubstr("loading")));
  EXPECT_THAT(RenderCacheStats(stats, kPlain), HasSubstr("rewriting  "));
}

v1::EmbeddingProgress Progress(uint64_t done, bool counting = false) {
  v1::EmbeddingProgress progress;
  progress.set_embedder("bge");
  progress.set_version("2#1024");
  progress.set_remote(true);
  progress.set_done(done);
  progress.set_total(10);
  progress.set_counting(counting);
  return progress;
}

TEST(RenderTest, CacheStatsShowHowFarTheEntriesAreEmbedded) {
  v1::GetCacheStatsResponse stats;
  *stats.add_embeddings() = Progress(3, true);
  EXPECT_THAT(RenderCacheStats(stats, kColoured),
              HasSubstr("endpoint          \x1b[33m3 of 10 entries have vectors of bge 2#1024; "
                        "counting\x1b[0m\n"));
  *stats.mutable_embeddings(0) = Progress(10);
  EXPECT_THAT(RenderCacheStats(stats, kColoured),
              HasSubstr("endpoint          10 of 10 entries have vectors of bge 2#1024\n"));
}

TEST(RenderTest, StatusSaysWhatTheCacheStillHasToDo) {
  v1::GetStatusResponse response = Status();
  response.mutable_cache()->set_ready(true);
  *response.mutable_cache()->add_embeddings() = Progress(10);
  EXPECT_THAT(RenderStatus(response, kPlain), Not(HasSubstr("cache")));
  *response.mutable_cache()->add_embeddings() = Progress(9);
  EXPECT_THAT(RenderStatus(response, kPlain),
              HasSubstr("\ncache: 9 of 10 entries have vectors of bge 2#1024\n"));
  response.mutable_cache()->set_ready(false);
  EXPECT_THAT(RenderStatus(response, kPlain), HasSubstr("\ncache: loading"));
}

// ---- Errors

grpc::Status Unavailable() {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  info.set_domain("holdfast");
  info.set_reason("ALL_TARGETS_FAILED");
  (*info.mutable_metadata())["route"] = "default";
  details.add_details()->PackFrom(info);
  google::rpc::RetryInfo retry;
  *retry.mutable_retry_delay() = ToProto(12500ms);
  details.add_details()->PackFrom(retry);
  google::rpc::BadRequest bad;
  auto& violation = *bad.add_field_violations();
  violation.set_field("messages[0].role");
  violation.set_description("unknown");
  details.add_details()->PackFrom(bad);
  v1::FailedAttempts attempts;
  *attempts.mutable_attempts() = FallbackAnswer().attempts();
  attempts.set_omitted(2);
  attempts.set_request_id("r-9");
  details.add_details()->PackFrom(attempts);
  return {grpc::StatusCode::UNAVAILABLE, "no target answered", details.SerializeAsString()};
}

TEST(ErrorTest, EveryDetailIsDecodedAndShown) {
  const std::string text = RenderError(DecodeStatus(Unavailable()), kPlain);
  EXPECT_THAT(text, StartsWith("error: UNAVAILABLE: no target answered (ALL_TARGETS_FAILED)\n"
                               "  messages[0].role: unknown\n"
                               "  route: default\n"
                               "  try again in 12.5 s\n"
                               "  attempts\n"
                               "    1  anthropic/sonnet  rate_limited"));
  EXPECT_THAT(text, EndsWith("    2 more in the middle, left out\n"
                             "  request r-9\n"));
}

TEST(ErrorTest, AsJson) {
  const Json error = Json::parse(ErrorJson(DecodeStatus(Unavailable()))).at("error");
  EXPECT_EQ(error.at("code"), "UNAVAILABLE");
  EXPECT_EQ(error.at("message"), "no target answered");
  EXPECT_EQ(error.at("reason"), "ALL_TARGETS_FAILED");
  EXPECT_EQ(error.at("domain"), "holdfast");
  EXPECT_EQ(error.at("metadata").at("route"), "default");
  EXPECT_EQ(error.at("retry_after_seconds"), 12.5);
  EXPECT_EQ(error.at("field_violations").at(0).at("field"), "messages[0].role");
  EXPECT_EQ(error.at("attempts").size(), 4u);
  EXPECT_EQ(error.at("attempts").at(0).at("outcome"), "rate_limited");
  EXPECT_EQ(error.at("attempts_omitted"), 2);
  EXPECT_EQ(error.at("request_id"), "r-9");
  EXPECT_EQ(error.at("exit_code"), kExitFailed);
}

TEST(ErrorTest, DetailsThatCannotBeReadAreLeftOut) {
  const CallError error =
      DecodeStatus({grpc::StatusCode::INTERNAL, "odd", std::string("\xff\xff\xff")});
  EXPECT_EQ(RenderError(error, kPlain), "error: INTERNAL: odd\n");
  EXPECT_FALSE(Json::parse(ErrorJson(error)).at("error").contains("attempts"));
}

// ---- The commands against a scripted server

class FakeServer : public v1::GenerateService::Service, public v1::AdminService::Service {
 public:
  FakeServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::GenerateService::Service*>(this));
    builder.RegisterService(static_cast<v1::AdminService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() override { server_->Shutdown(); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Written before a call, read after it; the call itself orders the two threads.
  grpc::Status status;
  v1::GenerateResponse answer;
  std::vector<v1::GenerateStreamResponse> events;  // empty = made of the answer
  v1::GetStatusResponse state;
  v1::GetConfigResponse config;
  v1::GenerateRequest asked;
  v1::PurgeCacheRequest purge;
  v1::ExplainCacheRequest explain;
  v1::ExplainCacheResponse explained;
  v1::SetBreakerRequest breaker;
  v1::ExplainPlanRequest plan;
  v1::GetStatusRequest status_request;
  std::string tenant;
  std::chrono::system_clock::time_point deadline;
  int calls = 0;

 private:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override {
    const auto& metadata = context->client_metadata();
    const auto found = metadata.find("x-holdfast-tenant");
    if (found != metadata.end()) tenant.assign(found->second.data(), found->second.size());
    deadline = context->deadline();
    asked = *request;
    return Reply(answer, response);
  }
  grpc::Status GenerateStream(grpc::ServerContext*, const v1::GenerateRequest* request,
                              grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override {
    ++calls;
    asked = *request;
    for (const v1::GenerateStreamResponse& event : events) writer->Write(event);
    if (!events.empty() || !status.ok()) return status;
    v1::GenerateStreamResponse event;
    *event.mutable_started()->mutable_served_by() = answer.served_by();
    writer->Write(event);
    event.mutable_delta()->set_text(answer.message().content());
    writer->Write(event);
    *event.mutable_finished() = answer;
    event.mutable_finished()->clear_message();
    writer->Write(event);
    return status;
  }
  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::GetStatusResponse* response) override {
    deadline = context->deadline();
    status_request = *request;
    return Reply(state, response);
  }
  grpc::Status SetBreaker(grpc::ServerContext*, const v1::SetBreakerRequest* request,
                          v1::SetBreakerResponse* response) override {
    breaker = *request;
    v1::SetBreakerResponse reply;
    reply.mutable_breaker()->set_state(v1::BREAKER_STATE_FORCED_OPEN);
    reply.mutable_breaker()->set_generation(3);
    return Reply(reply, response);
  }
  grpc::Status GetCacheStats(grpc::ServerContext*, const v1::GetCacheStatsRequest*,
                             v1::GetCacheStatsResponse* response) override {
    v1::GetCacheStatsResponse reply;
    reply.set_entries(17);
    return Reply(reply, response);
  }
  grpc::Status PurgeCache(grpc::ServerContext*, const v1::PurgeCacheRequest* request,
                          v1::PurgeCacheResponse* response) override {
    purge = *request;
    v1::PurgeCacheResponse reply;
    reply.set_deleted(1);
    return Reply(reply, response);
  }
  grpc::Status ExplainCache(grpc::ServerContext*, const v1::ExplainCacheRequest* request,
                            v1::ExplainCacheResponse* response) override {
    explain = *request;
    return Reply(explained, response);
  }
  grpc::Status GetConfig(grpc::ServerContext*, const v1::GetConfigRequest*,
                         v1::GetConfigResponse* response) override {
    return Reply(config, response);
  }
  grpc::Status ExplainPlan(grpc::ServerContext*, const v1::ExplainPlanRequest* request,
                           v1::ExplainPlanResponse* response) override {
    plan = *request;
    v1::ExplainPlanResponse reply;
    *reply.mutable_total() = ToProto(10s);
    return Reply(reply, response);
  }

  template <typename Message>
  grpc::Status Reply(const Message& reply, Message* response) {
    ++calls;
    if (status.ok()) *response = reply;
    return status;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

class CommandTest : public testing::Test {
 protected:
  Result Run(Strings args) {
    args.insert(args.end(), {"--server", server_.address(), "--admin", server_.address()});
    return RunAlone(args);
  }

  Result RunAlone(const Strings& args) {
    std::istringstream in(input_);
    std::ostringstream out;
    std::ostringstream err;
    Console console{in,
                    out,
                    err,
                    terminal_,
                    terminal_,
                    terminal_,
                    [this](const std::string& name) -> std::optional<std::string> {
                      const auto found = env_.find(name);
                      if (found == env_.end()) return std::nullopt;
                      return found->second;
                    }};
    const int code = RunCommandLine(args, console);
    return {code, out.str(), err.str()};
  }

  FakeServer server_;
  std::string input_;
  bool terminal_ = false;
  std::map<std::string, std::string> env_;
};

TEST_F(CommandTest, GenerateShowsTheAnswerAndHowItCameToBe) {
  server_.answer = FallbackAnswer();
  const Result result = Run({"generate", "Why is the sky blue?", "--tenant", "acme"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, "Rayleigh.\n");
  EXPECT_EQ(result.err, RenderProvenance(FallbackAnswer(), kPlain));
  EXPECT_EQ(server_.asked.messages(0).content(), "Why is the sky blue?");
  EXPECT_EQ(server_.tenant, "acme");
  EXPECT_EQ(server_.deadline, std::chrono::system_clock::time_point::max());
}

TEST_F(CommandTest, TheTimeoutIsTheCallsDeadline) {
  const auto before = std::chrono::system_clock::now();
  EXPECT_EQ(Run({"generate", "q", "--timeout", "1h"}).code, kExitOk);
  EXPECT_GT(server_.deadline, before + 50min);
  EXPECT_LT(server_.deadline, before + 2h);
  EXPECT_EQ(Run({"generate", "q", "--timeout", "100000d"}).code, kExitOk);
  EXPECT_EQ(Run({"status"}).code, kExitOk);
  EXPECT_LT(server_.deadline, std::chrono::system_clock::time_point::max());
}

TEST_F(CommandTest, QuietKeepsStandardErrorEmpty) {
  server_.answer = FallbackAnswer();
  const Result result = Run({"generate", "q", "-q"});
  EXPECT_EQ(result.out, "Rayleigh.\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(CommandTest, GenerateAsJsonIsOneDocumentAndNothingElse) {
  server_.answer = FallbackAnswer();
  const Result result = Run({"generate", "q", "--json"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.err, "");
  const Json document = Json::parse(result.out);
  EXPECT_EQ(document.at("served_by").at("model"), "gpt-4o");
  EXPECT_EQ(document.at("stale"), false);
  EXPECT_EQ(document.at("attempts").size(), 4u);
  EXPECT_EQ(document.at("message").at("content"), "Rayleigh.");
}

std::vector<v1::GenerateStreamResponse> AStreamThatBreaksTwice() {
  std::vector<v1::GenerateStreamResponse> events(9);
  const auto by = [](const std::string& model) {
    v1::Target target;
    target.set_provider("p");
    target.set_model(model);
    return target;
  };
  *events[0].mutable_started()->mutable_served_by() = by("a");
  events[0].mutable_started()->set_degradation(v1::DEGRADATION_NONE);
  events[1].mutable_delta()->set_text("one \x1b");
  *events[2].mutable_continued()->mutable_served_by() = by("b\n");
  events[3].mutable_delta()->set_text("two");
  events[4].mutable_delta()->mutable_tool_call()->set_name("void");
  *events[5].mutable_reset()->mutable_served_by() = by("c");
  events[5].mutable_reset()->set_degradation(v1::DEGRADATION_FALLBACK_MODEL);
  events[6].mutable_delta()->set_text("three");
  events[7].mutable_delta()->mutable_tool_call()->set_name("f");
  events[7].mutable_delta()->mutable_tool_call()->set_arguments("{}");
  *events[8].mutable_finished()->mutable_served_by() = by("c");
  events[8].mutable_finished()->set_degradation(v1::DEGRADATION_FALLBACK_MODEL);
  return events;
}

TEST_F(CommandTest, AStreamShowsItsHandoversAsTheyHappen) {
  server_.events = AStreamThatBreaksTwice();
  terminal_ = true;
  env_["NO_COLOR"] = "1";
  const Result result = Run({"generate", "q", "--on-break", "continue"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(server_.asked.stream().on_break(), v1::ON_BREAK_CONTINUE);
  EXPECT_EQ(result.out, "one \\x1b\ntwo\nthree\nf({})\n");
  EXPECT_EQ(result.err,
            "> p/a begins\n"
            "> p/b\\n goes on from here\n"
            "> void so far: p/c begins again, a fallback model\n" +
                RenderProvenance(server_.events[8].finished(), kPlain));
  EXPECT_EQ(Run({"generate", "q", "-q"}).err,
            "> void so far: p/c begins again, a fallback model\n");
}

TEST_F(CommandTest, AStreamIntoAPipeIsTheTextAndNothingElse) {
  server_.events = AStreamThatBreaksTwice();
  server_.events.erase(server_.events.begin() + 4, server_.events.begin() + 6);
  EXPECT_EQ(Run({"generate", "q", "--stream", "-q"}).out, "one \x1btwothree\nf({})\n");
}

TEST_F(CommandTest, AStreamAsJsonIsALineAnEvent) {
  server_.events = AStreamThatBreaksTwice();
  server_.status = grpc::Status(grpc::UNAVAILABLE, "gone");
  const Result result = Run({"generate", "q", "--json", "--stream"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_EQ(result.err, "");
  std::istringstream lines(result.out);
  std::vector<Json> documents;
  for (std::string line; std::getline(lines, line);) documents.push_back(Json::parse(line));
  ASSERT_EQ(documents.size(), 10u);
  EXPECT_EQ(documents[0].at("started").at("served_by").at("model"), "a");
  EXPECT_EQ(documents[3].at("delta").at("text"), "two");
  EXPECT_EQ(documents[9].at("error").at("code"), "UNAVAILABLE");
}

TEST_F(CommandTest, WhenGenerateStreams) {
  server_.answer = FallbackAnswer();
  const auto streamed = [&](Strings args) {
    server_.asked.Clear();
    args.insert(args.begin(), {"generate", "q"});
    return Run(args).err.rfind("> ", 0) == 0;
  };
  EXPECT_FALSE(streamed({}));
  EXPECT_TRUE(streamed({"--stream"}));
  terminal_ = true;
  env_["NO_COLOR"] = "1";
  EXPECT_TRUE(streamed({}));
  EXPECT_FALSE(streamed({"--no-stream"}));
  EXPECT_FALSE(streamed({"--json"}));
}

TEST_F(CommandTest, AStreamThatFailsSaysSo) {
  server_.status = grpc::Status(grpc::UNAVAILABLE, "gone");
  const Result result = Run({"generate", "q", "--stream"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.err, HasSubstr("error: UNAVAILABLE: gone"));
}

TEST_F(CommandTest, AnAnswerIsHarmlessOnATerminalAndUntouchedElsewhere) {
  server_.answer.mutable_message()->set_content("\x1b[2Jhi\n");
  EXPECT_EQ(Run({"generate", "q", "-q"}).out, "\x1b[2Jhi\n");
  terminal_ = true;
  EXPECT_EQ(Run({"generate", "q", "-q"}).out, "\\x1b[2Jhi\n");
}

TEST_F(CommandTest, ColoursOnlyOnATerminalThatWantsThem) {
  server_.answer = FallbackAnswer();
  EXPECT_THAT(Run({"generate", "q"}).err, Not(HasSubstr("\x1b")));
  terminal_ = true;
  EXPECT_THAT(Run({"generate", "q"}).err, HasSubstr("\x1b[33m"));
  env_ = {{"NO_COLOR", ""}};
  EXPECT_THAT(Run({"generate", "q"}).err, HasSubstr("\x1b[33m"));
  env_ = {{"NO_COLOR", "1"}};
  EXPECT_THAT(Run({"generate", "q"}).err, Not(HasSubstr("\x1b")));
  env_ = {{"TERM", "dumb"}};
  EXPECT_THAT(Run({"generate", "q"}).err, Not(HasSubstr("\x1b")));
}

TEST_F(CommandTest, AFailedCallExitsWithOneAndItsDetails) {
  server_.status = Unavailable();
  const Result result = Run({"generate", "q"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, RenderError(DecodeStatus(Unavailable()), kPlain));
  const Result json = Run({"generate", "q", "--json"});
  EXPECT_EQ(json.code, kExitFailed);
  EXPECT_EQ(json.err, "");
  EXPECT_EQ(Json::parse(json.out).at("error").at("reason"), "ALL_TARGETS_FAILED");
}

TEST_F(CommandTest, WrongUsageExitsWithTwoAndCallsNobody) {
  const Result result = Run({"generate", "q", "--cache", "on"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("error: USAGE: "));
  const Result json = Run({"generate", "q", "--cache", "on", "--json"});
  EXPECT_EQ(json.code, kExitUsage);
  EXPECT_EQ(Json::parse(json.out).at("error").at("code"), "USAGE");
  input_ = "no json";
  EXPECT_EQ(Run({"generate", "--file", "-"}).code, kExitUsage);
  EXPECT_EQ(server_.calls, 0);
}

// A port that is bound but does not listen refuses every connection, and nobody else gets it.
class RefusingPort {
 public:
  RefusingPort() : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~RefusingPort() { close(fd_); }
  RefusingPort(const RefusingPort&) = delete;
  RefusingPort& operator=(const RefusingPort&) = delete;
  const std::string& address() const { return address_; }

 private:
  int fd_;
  std::string address_;
};

TEST_F(CommandTest, NoServerExitsWithThreeAndAHint) {
  const RefusingPort nobody;
  const std::string message =
      "cannot connect to " + nobody.address() + ": is the server running? (make run)";
  const Result result = RunAlone({"generate", "q", "--server", nobody.address()});
  EXPECT_EQ(result.code, kExitNoServer);
  EXPECT_EQ(result.err, "error: CANNOT_CONNECT: " + message + "\n");
  env_ = {{"HOLDFAST_ADMIN", nobody.address()}};
  const Result json = RunAlone({"status", "--json"});
  EXPECT_EQ(json.code, kExitNoServer);
  EXPECT_EQ(Json::parse(json.out).at("error").at("message"), message);
}

TEST_F(CommandTest, StatusTakesAFilter) {
  server_.state = Status();
  const Result result = Run({"status", "openai/gpt-4o"});
  EXPECT_EQ(result.code, kExitOk);
  EXPECT_EQ(result.out, RenderStatus(Status(), kPlain));
  EXPECT_EQ(server_.status_request.provider(), "openai");
  EXPECT_EQ(server_.status_request.model(), "gpt-4o");
  EXPECT_EQ(Run({"status", "openai"}).code, kExitOk);
  EXPECT_EQ(server_.status_request.model(), "");
  EXPECT_EQ(Json::parse(Run({"status", "--json"}).out).at("targets").size(), 3u);
}

TEST_F(CommandTest, BreakerActions) {
  const Result result = Run({"breaker", "open", "p/m"});
  EXPECT_EQ(result.out, "p/m: FORCED_OPEN (generation 3)\n");
  EXPECT_EQ(server_.breaker.action(), v1::SetBreakerRequest::ACTION_FORCE_OPEN);
  EXPECT_EQ(server_.breaker.target().provider(), "p");
  EXPECT_EQ(Run({"breaker", "close", "p/m"}).code, kExitOk);
  EXPECT_EQ(server_.breaker.action(), v1::SetBreakerRequest::ACTION_FORCE_CLOSE);
  const Result json = Run({"breaker", "reset", "p/m", "--json"});
  EXPECT_EQ(server_.breaker.action(), v1::SetBreakerRequest::ACTION_RESET);
  EXPECT_EQ(Json::parse(json.out).at("breaker").at("state"), "BREAKER_STATE_FORCED_OPEN");
}

TEST_F(CommandTest, CacheStatsAndPurge) {
  EXPECT_THAT(Run({"cache", "stats"}).out, HasSubstr("entries           17\n"));
  const Result result = Run(
      {"cache", "purge", "--tenant", "t", "--route", "r", "--older-than", "7d", "--entry", "e"});
  EXPECT_EQ(result.out, "1 entry deleted\n");
  EXPECT_EQ(server_.purge.tenant(), "t");
  EXPECT_EQ(server_.purge.route(), "r");
  EXPECT_EQ(server_.purge.older_than().seconds(), 7 * 24 * 3600);
  EXPECT_EQ(server_.purge.entry_id(), "e");
  EXPECT_FALSE(server_.purge.everything());
  EXPECT_EQ(Run({"cache", "purge", "--label", "team=x", "--label", "user=7"}).code, kExitOk);
  EXPECT_THAT(server_.purge.labels(), UnorderedElementsAre(Pair("team", "x"), Pair("user", "7")));
  EXPECT_EQ(Json::parse(Run({"cache", "stats", "--json"}).out).at("entries"), "17");
}

TEST_F(CommandTest, ExplainAsksAsACallerWould) {
  server_.explained = FromJson<v1::ExplainCacheResponse>(R"({
    "threshold": 0.85, "min_cosine": 0.4, "max_age": "604800s", "entries": [
      {"entry_id": "E1", "question": "Why?\u001b", "answer": "So.", "similarity": 0.97, "cosine": 0.9,
       "age": "60s", "pinned": true, "fate": "served", "reason": "nothing speaks against it"},
      {"entry_id": "E2", "question": "Who?", "answer": "I.", "cosine": 0.5, "age": "1s",
       "fate": "refused", "reason": "another language"}]})");
  const Result result = Run({"cache", "explain", "Why is it so?", "--route", "r", "--system", "s",
                             "--tenant", "t", "--min-similarity", "0.9"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(server_.explain.tenant(), "t");
  EXPECT_EQ(server_.explain.request().route(), "r");
  ASSERT_EQ(server_.explain.request().messages_size(), 2);
  EXPECT_EQ(server_.explain.request().messages(1).content(), "Why is it so?");
  EXPECT_EQ(server_.explain.request().cache().min_similarity(), 0.9);
  EXPECT_EQ(
      result.out,
      "would be served: entry E1\n"
      "  similarity at least 0.850, cosine at least 0.400, age at most 7d 0h\n\n"
      "FATE     SIMILARITY  COSINE  AGE             ENTRY  QUESTION  WHY\n"
      "served   0.970       0.900   1m 00s, pinned  E1     Why?\\x1b  nothing speaks against it\n"
      "refused  -           0.500   1.00 s          E2     Who?      another language\n"
      "\nanswer\nSo.\n");
  v1::CalibratedThreshold& calibrated = *server_.explained.mutable_calibrated();
  calibrated.set_configured(0.8);
  calibrated.set_in_force(0.85);
  calibrated.set_state(v1::CalibratedThreshold::STATE_HELD);
  v1::PreferredLookup& preferred = *server_.explained.mutable_preferred();
  preferred.set_threshold(0.95);
  preferred.set_min_cosine(0.6);
  preferred.set_entry_id("E1");
  EXPECT_THAT(Run({"cache", "explain", "q"}).out,
              StartsWith("before any target: entry E1\n"
                         "  similarity at least 0.950, cosine at least 0.600\n"
                         "would be served: entry E1\n"
                         "  similarity at least 0.850 (raised from 0.800 by max_error), cosine"));
  preferred.clear_entry_id();
  preferred.set_not_served("no entry is near enough");
  preferred.mutable_calibrated()->set_state(v1::CalibratedThreshold::STATE_TOO_FEW_SAMPLES);
  EXPECT_THAT(Run({"cache", "explain", "q"}).out,
              StartsWith("before any target: nothing: no entry is near enough\n"
                         "  similarity at least 0.950 (max_error has too few samples yet), "));
  server_.explained.clear_preferred();
  server_.explained.clear_entries();
  server_.explained.set_not_served("nothing is stored");
  EXPECT_THAT(Run({"cache", "explain", "q"}).out,
              StartsWith("nothing would be served: nothing is stored\n"));
  EXPECT_EQ(Json::parse(Run({"cache", "explain", "q", "--json"}).out).at("not_served"),
            "nothing is stored");
  EXPECT_EQ(Run({"cache", "explain"}).code, kExitUsage);
}

TEST_F(CommandTest, EverythingIsDeletedOnlyWithConsent) {
  EXPECT_EQ(Run({"cache", "purge", "--everything"}).code, kExitUsage);
  terminal_ = true;
  input_ = "n\n";
  const Result declined = Run({"cache", "purge", "--everything"});
  EXPECT_EQ(declined.code, kExitFailed);
  EXPECT_THAT(declined.err, HasSubstr("[y/N]"));
  input_ = "";
  EXPECT_EQ(Run({"cache", "purge", "--everything"}).code, kExitFailed);
  EXPECT_EQ(server_.calls, 0);
  input_ = "y\n";
  EXPECT_EQ(Run({"cache", "purge", "--everything"}).code, kExitOk);
  EXPECT_TRUE(server_.purge.everything());
  terminal_ = false;
  EXPECT_EQ(Run({"cache", "purge", "--everything", "--yes"}).code, kExitOk);
  EXPECT_EQ(server_.calls, 2);
}

TEST_F(CommandTest, PlanPassesRouteAndDeadline) {
  EXPECT_THAT(Run({"plan", "--route", "r", "--deadline", "10s"}).out, StartsWith("total 10.0 s"));
  EXPECT_EQ(server_.plan.route(), "r");
  EXPECT_EQ(server_.plan.deadline().seconds(), 10);
  EXPECT_EQ(Run({"plan"}).code, kExitOk);
  EXPECT_FALSE(server_.plan.has_deadline());
  EXPECT_EQ(Json::parse(Run({"plan", "--json"}).out).at("total"), "10s");
}

TEST_F(CommandTest, ConfigShowKeepsTheYamlClean) {
  server_.config.set_path("holdfast.yaml");
  server_.config.set_yaml("listen: 127.0.0.1:1\n");
  const Result result = Run({"config", "show"});
  EXPECT_EQ(result.out, "listen: 127.0.0.1:1\n");
  EXPECT_THAT(result.err, StartsWith("holdfast.yaml, read at 1970-01-01"));
  EXPECT_EQ(Json::parse(Run({"config", "show", "--json"}).out).at("path"), "holdfast.yaml");
}

constexpr char kGoodConfig[] = R"(providers:
  - {name: local, kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${KEY}"}
routes:
  - {name: default, chain: [{provider: local, model: m}]}
)";

TEST_F(CommandTest, ConfigCheckRunsTheServersLoader) {
  const TempFile good(kGoodConfig);
  env_ = {{"KEY", "secret"}};
  const Result result = RunAlone({"config", "check", good.path()});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out, EndsWith(good.path() + ": no faults\n"));
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(Json::parse(RunAlone({"config", "check", good.path(), "--json"}).out).at("ok"), true);
}

TEST_F(CommandTest, ConfigCheckShowsWhatScopesIgnore) {
  std::string text = kGoodConfig;
  const std::string chain = "chain: [{provider: local, model: m}]";
  text.replace(text.find(chain), chain.size(), chain + ", cache: {scope_ignore: ['Today is .+']}");
  const TempFile good(text);
  env_ = {{"KEY", "secret"}};
  const std::string note = "route default: its cache ignores, in system prompts, /Today is .+/";
  EXPECT_THAT(RunAlone({"config", "check", good.path()}).out, HasSubstr(note + "\n"));
  EXPECT_EQ(Json::parse(RunAlone({"config", "check", good.path(), "--json"}).out).at("notes"),
            Json::array({note}));
}

TEST_F(CommandTest, ConfigCheckTellsEveryFaultWithItsPlace) {
  const TempFile bad("nonsense: 1\nlisten: {}\n" + std::string(kGoodConfig));
  const Result result = RunAlone({"config", "check", bad.path()});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr(bad.path() + ":1:1: nonsense: "));
  EXPECT_THAT(result.err, HasSubstr(bad.path() + ":2:9: listen: "));
  EXPECT_THAT(result.err, HasSubstr(bad.path() + ":4:"));  // ${KEY} is not set
  const Result json = RunAlone({"config", "check", bad.path(), "--json"});
  EXPECT_EQ(json.code, kExitFailed);
  EXPECT_EQ(json.err, "");
  const Json error = Json::parse(json.out).at("error");
  EXPECT_EQ(error.at("code"), "INVALID_CONFIG");
  EXPECT_EQ(error.at("faults").at(0).at("line"), 1);
  EXPECT_EQ(error.at("faults").at(0).at("key"), "nonsense");
  EXPECT_EQ(error.at("faults").size(), 3u);
}

TEST_F(CommandTest, ConfigCheckOfAMissingFileIsAFault) {
  const Result result = RunAlone({"config", "check", "/nonexistent.yaml"});
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.err, HasSubstr("/nonexistent.yaml"));
}

// ---- The real binary

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(n));
  close(fd);
  return text;  // a terminal whose other end is closed reports an error, which is its end
}

int ExitCode(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// `args` is complete before the fork: a child of a process with threads may not allocate.
pid_t Spawn(const Strings& args, int in, int out, int err) {
  Strings all = {"env", "-u", "NO_COLOR", "TERM=xterm", HOLDFASTCTL_BINARY};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& arg : all) argv.push_back(arg.data());
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return pid;
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  execvp(argv[0], argv.data());
  _exit(127);
}

TEST(BinaryTest, AnswersThroughPipes) {
  FakeServer server;
  server.answer = FallbackAnswer();
  server.answer.mutable_message()->set_content("raw \x1b[1m bytes\n");
  int in[2];
  int out[2];
  int err[2];
  ASSERT_EQ(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
  const pid_t pid = Spawn({"generate", "-", "--server", server.address()}, in[0], out[1], err[1]);
  for (const int fd : {in[0], out[1], err[1]}) close(fd);
  ASSERT_EQ(write(in[1], "from a pipe\n", 12), 12);
  close(in[1]);
  EXPECT_EQ(ReadAll(out[0]), "raw \x1b[1m bytes\n");
  EXPECT_EQ(ReadAll(err[0]), RenderProvenance(FallbackAnswer(), kPlain));
  EXPECT_EQ(ExitCode(pid), kExitOk);
  EXPECT_EQ(server.asked.messages(0).content(), "from a pipe");
}

TEST(BinaryTest, ColoursAndEscapesOnATerminal) {
  FakeServer server;
  server.answer = FallbackAnswer();
  server.answer.mutable_message()->set_content("\x1b[2Jcleared");
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(grantpt(terminal) | unlockpt(terminal), 0);
  const int side = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(side, 0);
  const pid_t pid = Spawn({"generate", "q", "--server", server.address()}, side, side, side);
  close(side);
  const std::string text = ReadAll(terminal);
  EXPECT_EQ(ExitCode(pid), kExitOk);
  EXPECT_THAT(text, HasSubstr("\\x1b[2Jcleared\r\n"));
  EXPECT_THAT(text, HasSubstr("\x1b[33mfallback model: answered by openai/gpt-4o\x1b[0m"));
}

TEST(BinaryTest, ExitCodesReachTheShell) {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const RefusingPort nobody;
  FakeServer server;
  server.status = Unavailable();
  EXPECT_EQ(ExitCode(Spawn({"--help"}, null, null, null)), kExitOk);
  EXPECT_EQ(ExitCode(Spawn({"generate", "q", "--server", server.address()}, null, null, null)),
            kExitFailed);
  EXPECT_EQ(ExitCode(Spawn({"generate"}, null, null, null)), kExitUsage);
  EXPECT_EQ(ExitCode(Spawn({"status", "--admin", nobody.address()}, null, null, null)),
            kExitNoServer);
  close(null);
}

TEST(BinaryTest, AFullDiskIsAnError) {
  FakeServer server;
  server.answer = FallbackAnswer();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  EXPECT_EQ(ExitCode(Spawn({"generate", "q", "--server", server.address()}, null, full, null)),
            kExitFailed);
  close(full);
  close(null);
}

}  // namespace
}  // namespace holdfast::ctl
