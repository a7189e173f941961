// Streams through the whole product: every fault of a provider at every place, for each kind of
// provider, each on_break, with and without a target left. Whatever happens, what the caller has
// put together is a whole answer of one honest history, or marked partial, or an error.

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"
#include "tests/server/stream_reader.h"

namespace holdfast::testing {
namespace {

using ::testing::AnyOf;
using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using namespace std::chrono_literals;

constexpr char kSky[] = "Why is the sky blue on Earth?";

struct ProviderOf {
  const char* route;  // of the fixture, with this provider alone
  const char* step;   // as the configuration names it
  const char* model;
};
constexpr ProviderOf kProviders[] = {
    {"anthropic", "{provider: anthropic, model: claude, price: {input: 3, output: 15}}", "claude"},
    {"openai", "{provider: openai, model: gpt, price: {input: 2.5, output: 10}}", "gpt"},
    {"gemini", "{provider: gemini, model: flash, price: {input: 0.3, output: 2.5}}", "flash"},
};

enum class Place { kBeforeContent, kInText, kInToolCall, kNowhere };

struct FaultCase {
  const char* name;
  const char* json;
  Place place;
};
const std::vector<FaultCase> kFaults = {
    {"reset", R"({"kind":"reset"})", Place::kBeforeContent},
    {"status 500", R"({"kind":"status","status":500})", Place::kBeforeContent},
    {"overloaded", R"({"kind":"overloaded"})", Place::kBeforeContent},
    {"model not found", R"({"kind":"model_not_found"})", Place::kBeforeContent},
    {"hang", R"({"kind":"hang"})", Place::kBeforeContent},
    {"silence", R"({"kind":"silence"})", Place::kBeforeContent},
    {"pings", R"({"kind":"pings","interval_ms":50})", Place::kBeforeContent},
    {"before content", R"({"kind":"before_content","how":"fin"})", Place::kBeforeContent},
    {"before content, error", R"({"kind":"before_content","how":"error_event"})",
     Place::kBeforeContent},
    {"empty", R"({"kind":"empty","what":"answer"})", Place::kBeforeContent},
    {"no body", R"({"kind":"empty","what":"body"})", Place::kBeforeContent},
    {"no JSON", R"({"kind":"malformed","what":"json"})", Place::kBeforeContent},
    {"first token, rst", R"({"kind":"cut","at":"first_token","how":"rst"})", Place::kInText},
    {"text, rst", R"({"kind":"cut","after":5,"how":"rst"})", Place::kInText},
    {"text, fin", R"({"kind":"cut","after":5,"how":"fin"})", Place::kInText},
    {"text, end", R"({"kind":"cut","after":5,"how":"end"})", Place::kInText},
    {"text, error", R"({"kind":"cut","after":5,"how":"error_event"})", Place::kInText},
    {"text, stall", R"({"kind":"stall","after":5})", Place::kInText},
    {"character", R"({"kind":"cut","at":"mid_character","how":"fin"})", Place::kInText},
    {"after finish, fin", R"({"kind":"cut","at":"after_finish","how":"fin"})", Place::kNowhere},
    {"after finish, rst", R"({"kind":"cut","at":"after_finish","how":"rst"})", Place::kNowhere},
    {"a bad line", R"({"kind":"malformed","what":"line","after":2})", Place::kNowhere},
    {"split characters", R"({"kind":"split_utf8","crlf":true,"size":40})", Place::kNowhere},
    {"drip", R"({"kind":"drip","ms":1,"per":"token"})", Place::kNowhere},
};

// A provider as the chain's first, one that can continue as its second, and each on_break.
class StreamFaults : public ServiceFixture, public ::testing::WithParamInterface<int> {
 protected:
  const ProviderOf& First() const { return kProviders[GetParam()]; }
  const ProviderOf& Second() const { return kProviders[GetParam() == 0 ? 2 : 0]; }

  void Start() {
    Settings settings;
    settings.breaker = "{consecutive_failures: 100000, failure_rate: 0, black_hole: 0, open: 60s}";
    settings.timeouts = "{connect: 1s, first_token: 300ms, idle: 300ms}";
    std::string yaml = settings.Yaml();
    for (const bool with_next : {true, false}) {
      yaml +=
          std::string("  - name: ") + (with_next ? "two" : "one") +
          "\n    timeout: 8s\n    min_useful: 100ms\n    retry: {max_retries: 1, base: 5ms, cap: "
          "10ms, budget: {tokens: 100000}}\n    chain:\n";
      for (const ProviderOf* provider : {&First(), &Second()}) {
        std::string step = provider->step;
        step.insert(step.size() - 1, ", timeouts: {connect: 1s, first_token: 300ms, idle: 300ms}");
        if (provider == &First() || with_next) yaml += "      - " + step + "\n";
      }
    }
    StartYaml(yaml);
    full_first_ = Truth(First());
    full_second_ = Truth(Second());
  }

  std::string Truth(const ProviderOf& provider) {
    const Reply reply = Generate(Uncached(provider.route));
    EXPECT_TRUE(reply.ok()) << reply.status.error_message();
    return reply.text();
  }

  static v1::GenerateRequest Uncached(const std::string& route) {
    v1::GenerateRequest request = Question(kSky, route);
    request.mutable_cache()->set_mode(v1::CacheControl::MODE_OFF);
    return request;
  }

  grpc::Status Stream(const v1::GenerateRequest& request, Assembled& assembled) {
    grpc::ClientContext context;
    return ReadStream(*stub_, context, request, assembled);
  }

  static bool IsPartOf(const std::string& text, const std::string& whole) {
    return !text.empty() && text.size() < whole.size() && whole.starts_with(text);
  }

  // What was put together is a beginning of the first one's answer and all of the second one's,
  // which never repeats nor skips what came before. The simulated providers know only their own
  // beginnings; another's they take as it is.
  bool IsContinuation(const std::string& text) const {
    if (!text.ends_with(full_second_)) return false;
    return IsPartOf(text.substr(0, text.size() - full_second_.size()), full_first_);
  }

  std::string full_first_;
  std::string full_second_;
};

TEST_P(StreamFaults, WithATargetLeft) {
  Start();
  for (const FaultCase& fault : kFaults) {
    for (const v1::OnBreak on_break :
         {v1::ON_BREAK_CONTINUE, v1::ON_BREAK_RESTART, v1::ON_BREAK_PARTIAL}) {
      SCOPED_TRACE(std::string(fault.name) + ", " + v1::OnBreak_Name(on_break));
      sim_->Break(First().model, fault.json);
      v1::GenerateRequest request = Uncached("two");
      request.mutable_stream()->set_on_break(on_break);
      request.mutable_stream()->set_assembled_message(true);
      const int before = sim_->CountOf(Second().model);
      Assembled assembled;
      const grpc::Status status = Stream(request, assembled);
      ASSERT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(assembled.text, assembled.finished.message().content());
      switch (fault.place) {
        case Place::kBeforeContent:
          EXPECT_EQ(assembled.text, full_second_);
          EXPECT_EQ(assembled.started.served_by().model(), Second().model);
          EXPECT_EQ(assembled.started.degradation(), v1::DEGRADATION_FALLBACK_MODEL);
          EXPECT_THAT(assembled.continued, IsEmpty());
          EXPECT_THAT(assembled.resets, IsEmpty());
          EXPECT_FALSE(assembled.finished.partial());
          break;
        case Place::kNowhere:
          EXPECT_EQ(assembled.text, full_first_);
          EXPECT_THAT(assembled.continued, IsEmpty());
          EXPECT_THAT(assembled.resets, IsEmpty());
          EXPECT_EQ(assembled.finished.degradation(), v1::DEGRADATION_NONE);
          break;
        case Place::kInText:
          EXPECT_EQ(assembled.started.served_by().model(), First().model);
          if (on_break == v1::ON_BREAK_CONTINUE) {
            EXPECT_TRUE(IsContinuation(assembled.text)) << assembled.text;
            EXPECT_THAT(assembled.continued, SizeIs(1));
            EXPECT_THAT(assembled.resets, IsEmpty());
            EXPECT_EQ(assembled.finished.served_by().model(), Second().model);
          } else if (on_break == v1::ON_BREAK_RESTART) {
            EXPECT_EQ(assembled.text, full_second_);
            EXPECT_THAT(assembled.resets, SizeIs(1));
          } else {
            EXPECT_TRUE(IsPartOf(assembled.text, full_first_)) << assembled.text;
            EXPECT_TRUE(assembled.finished.partial());
            EXPECT_EQ(sim_->CountOf(Second().model), before);
          }
          break;
        case Place::kInToolCall:
          break;
      }
    }
  }
}

TEST_P(StreamFaults, WithNoTargetLeft) {
  Start();
  for (const FaultCase& fault : kFaults) {
    for (const v1::OnBreak on_break :
         {v1::ON_BREAK_CONTINUE, v1::ON_BREAK_RESTART, v1::ON_BREAK_PARTIAL}) {
      SCOPED_TRACE(std::string(fault.name) + ", " + v1::OnBreak_Name(on_break));
      sim_->Break(First().model, fault.json);
      v1::GenerateRequest request = Uncached("one");
      request.mutable_stream()->set_on_break(on_break);
      Assembled assembled;
      const grpc::Status status = Stream(request, assembled);
      ASSERT_TRUE(status.ok()) << status.error_message();
      switch (fault.place) {
        case Place::kBeforeContent:
          EXPECT_TRUE(assembled.finished.partial());
          EXPECT_EQ(assembled.text, assembled.finished.notice());
          EXPECT_FALSE(assembled.started.has_served_by());
          break;
        case Place::kNowhere:
          EXPECT_EQ(assembled.text, full_first_);
          EXPECT_FALSE(assembled.finished.partial());
          break;
        case Place::kInText:
          EXPECT_TRUE(assembled.finished.partial());
          EXPECT_TRUE(IsPartOf(assembled.text, full_first_)) << assembled.text;
          EXPECT_THAT(assembled.finished.notice(), Not(IsEmpty()));
          break;
        case Place::kInToolCall:
          break;
      }
    }
  }
}

// The same target once more, which then writes what is missing, byte for byte.
TEST_P(StreamFaults, OnceAndNoTargetLeft) {
  Start();
  for (const FaultCase& fault : kFaults) {
    if (fault.place != Place::kInText) continue;
    for (const v1::OnBreak on_break : {v1::ON_BREAK_CONTINUE, v1::ON_BREAK_RESTART}) {
      SCOPED_TRACE(std::string(fault.name) + ", " + v1::OnBreak_Name(on_break));
      Json once = Json::parse(fault.json);
      once["times"] = 1;
      sim_->Break(First().model, once.dump());
      v1::GenerateRequest request = Uncached("one");
      request.mutable_stream()->set_on_break(on_break);
      Assembled assembled;
      const grpc::Status status = Stream(request, assembled);
      ASSERT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(assembled.text, full_first_);
      EXPECT_FALSE(assembled.finished.partial());
    }
  }
}

// Half a tool call is never continued: another whole one, or no answer at all.
TEST_P(StreamFaults, InAToolCall) {
  Start();
  for (const std::string route : {"two", "one"}) {
    for (const v1::OnBreak on_break :
         {v1::ON_BREAK_CONTINUE, v1::ON_BREAK_RESTART, v1::ON_BREAK_PARTIAL}) {
      SCOPED_TRACE(route + ", " + v1::OnBreak_Name(on_break));
      sim_->Break(First().model, R"({"kind":"cut","at":"mid_tool_call","how":"fin"})");
      v1::GenerateRequest request = Uncached(route);
      v1::Tool& tool = *request.add_tools();
      tool.set_name("look");
      tool.set_parameters_json_schema(
          R"({"type":"object","properties":{"place":{"type":"string"}},"required":["place"]})");
      request.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
      request.mutable_stream()->set_on_break(on_break);
      Assembled assembled;
      const grpc::Status status = Stream(request, assembled);
      EXPECT_THAT(assembled.continued, IsEmpty());
      if (!status.ok()) continue;
      if (assembled.finished.partial()) {
        EXPECT_THAT(assembled.tool_calls, IsEmpty());
        continue;
      }
      ASSERT_THAT(assembled.tool_calls, SizeIs(1));
      EXPECT_EQ(assembled.tool_calls[0].name(), "look");
      EXPECT_TRUE(Json::accept(assembled.tool_calls[0].arguments()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, StreamFaults, ::testing::Values(0, 1, 2), [](const auto& info) {
  return std::string(kProviders[info.param].route);
});

class StreamTest : public ServiceFixture {};

TEST_F(StreamTest, ATargetThatCannotContinueBeginsAgain) {
  Start();  // anthropic, then openai, which continues nothing
  sim_->Break("claude", R"({"kind":"cut","after":5})");
  grpc::ClientContext context;
  Assembled assembled;
  ASSERT_TRUE(ReadStream(*stub_, context, Question(kSky), assembled).ok());
  EXPECT_THAT(assembled.continued, IsEmpty());
  ASSERT_THAT(assembled.resets, SizeIs(1));
  EXPECT_EQ(assembled.resets[0].served_by().model(), "gpt");
  EXPECT_TRUE(assembled.text.starts_with("[gpt] ")) << assembled.text;
}

TEST_F(StreamTest, TheLogHasTheTimeToTheFirstContent) {
  Start();
  sim_->Break(
      "claude",
      R"([{"kind":"slow_headers","ms":150,"times":1},{"kind":"stall","after":3,"ms":150}])");
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    Assembled assembled;
    ASSERT_TRUE(ReadStream(*stub_, context, Question(kSky, "anthropic"), assembled).ok());
  }
  const std::vector<Json> lines = WaitForLog("request", 2);
  EXPECT_GE(lines[0]["first_token_ms"], 150);
  EXPECT_LE(lines[0]["first_token_ms"], lines[0]["time_ms"]);
  EXPECT_GT(lines[1]["first_token_ms"], 0);
  EXPECT_GE(lines[1]["time_ms"].get<double>() - lines[1]["first_token_ms"].get<double>(), 150);
}

TEST_F(StreamTest, StaleIsMarkedBeforeItsFirstToken) {
  Start();
  ASSERT_TRUE(Ask(kSky).ok());
  WaitForEntries(1);
  BreakAll(R"({"kind":"status","status":503})");
  grpc::ClientContext context;
  Assembled assembled;
  ASSERT_TRUE(ReadStream(*stub_, context, Question(kSky), assembled).ok());
  EXPECT_EQ(assembled.started.degradation(), v1::DEGRADATION_STALE);
  EXPECT_GE(assembled.started.cache_hit().similarity(), 0.85);
  EXPECT_EQ(assembled.started.cache_hit().made_by().model(), "claude");
  EXPECT_TRUE(assembled.finished.stale());
  EXPECT_TRUE(assembled.text.starts_with("[claude] ")) << assembled.text;
}

}  // namespace
}  // namespace holdfast::testing
