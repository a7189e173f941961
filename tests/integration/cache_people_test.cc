// What people do with the cache, through the real server: approve answers, move them to another
// machine, ask why, delete.

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"
#include "tools/holdfastctl/commands.h"

namespace holdfast::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kDown[] = R"({"kind": "status", "status": 503})";

struct Said {
  int code = 0;
  std::string out;
  std::string err;
};

class CachePeopleTest : public ServiceFixture {
 protected:
  void SetUp() override {
    ServiceFixture::SetUp();
    Settings settings;
    settings.retry = "{max_retries: 0}";
    settings.breaker = "{consecutive_failures: 1000, failure_rate: 0, black_hole: 0}";
    Start(settings);
  }

  Said Cache(std::vector<std::string> args, const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out, err;
    ctl::Console console{in,
                         out,
                         err,
                         false,
                         false,
                         false,
                         [](const std::string&) {
                           return std::optional<std::string>(); }};
    args.insert(args.begin(), "cache");
    args.insert(args.end(), {"--admin", admin_address_});
    const int code = ctl::RunCommandLine(args, console);
    return {code, out.str(), err.str()};
  }

  v1::ExplainCacheResponse Explain(const v1::GenerateRequest& request,
                                   const std::string& tenant = "") {
    v1::ExplainCacheRequest asking;
    *asking.mutable_request() = request;
    asking.set_tenant(tenant);
    grpc::ClientContext context;
    v1::ExplainCacheResponse response;
    const grpc::Status status = admin_->ExplainCache(&context, asking, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  static std::vector<std::string> Fates(const v1::ExplainCacheResponse& explained) {
    std::vector<std::string> fates;
    for (const v1::ConsideredEntry& entry : explained.entries()) {
      fates.push_back(entry.question() + ": " + entry.fate());
    }
    return fates;
  }

  // An export's lines without what an import makes anew, in their order.
  static std::vector<Json> Lines(const std::string& exported) {
    std::vector<Json> lines;
    std::istringstream in(exported);
    for (std::string line; std::getline(in, line);) {
      lines.push_back(Json::parse(line));
      lines.back().erase("id");
    }
    return lines;
  }

  bool OnDisk(const std::string& text) const {
    for (const auto& item : std::filesystem::recursive_directory_iterator(dir_)) {
      if (item.is_regular_file() && ReadFile(item.path()).find(text) != std::string::npos)
        return true;
    }
    return false;
  }
};

v1::GenerateRequest WithSystem(const std::string& system, const std::string& question) {
  v1::GenerateRequest request;
  request.add_messages()->set_role("system");
  request.mutable_messages(0)->set_content(system);
  request.add_messages()->set_role("user");
  request.mutable_messages(1)->set_content(question);
  return request;
}

TEST_F(CachePeopleTest, ApprovedAnswersAreServedInAnOutageInTheirScopeAlone) {
  ASSERT_EQ(Cache({"import", "-", "--pinned"},
                  R"({"question":"How do I reset my password?","answer":"Press Forgot."})"
                  "\n"
                  R"({"question":"How do I pay?","answer":"By card.","system":"Be kind.",)"
                  R"("tenant":"acme","created_at":"2001-01-01T00:00:00Z"})"
                  "\n")
                .out,
            "2 stored\n");
  BreakAll(kDown);
  const Reply reset = Ask("how do I reset my password");
  EXPECT_TRUE(reset.response.stale());
  EXPECT_EQ(reset.text(), "Press Forgot.");
  EXPECT_FALSE(Ask("how do I reset my password", {.tenant = "acme"}).response.stale());
  const Reply pay = Generate(WithSystem("Be kind.", "How do I pay?"), {.tenant = "acme"});
  EXPECT_EQ(pay.text(), "By card.") << "older than the route's max_age, but pinned";
  EXPECT_FALSE(
      Generate(WithSystem("Be rude.", "How do I pay?"), {.tenant = "acme"}).response.stale());
  EXPECT_FALSE(Generate(WithSystem("Be kind.", "How do I pay?")).response.stale());
  EXPECT_FALSE(Ask("How do I pay?", {.tenant = "acme"}).response.stale());
  sim_->Heal();
  EXPECT_NE(Ask("How do I reset my password?").text(), "Press Forgot.");
  EXPECT_TRUE(Ask("What else is there?").ok());
  WaitForEntries(3);
  BreakAll(kDown);
  EXPECT_EQ(Ask("How do I reset my password?").text(), "Press Forgot.")
      << "no provider's answer replaces it";
}

TEST_F(CachePeopleTest, AnExportMovesTheCacheToAnotherMachine) {
  v1::GenerateRequest labelled = Question("How do magnets work?");
  (*labelled.mutable_labels())["team"] = "physics";
  EXPECT_TRUE(Generate(labelled, {.tenant = "acme"}).ok());
  EXPECT_TRUE(Generate(WithSystem("Be short.", "Why is the sky blue?")).ok());
  v1::GenerateRequest tools = Question("What is the tallest mountain?");
  tools.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_OBJECT);
  tools.set_route("openai");
  WaitForEntries(2);
  ASSERT_EQ(Cache({"import", "-"},
                  R"({"question":"What is the tallest mountain?","answer":"{}","route":"openai",)"
                  R"("context":{"response_format":{"kind":"KIND_JSON_OBJECT"}},"pinned":true,)"
                  R"("made_by":{"provider":"us","model":"ann"}})")
                .out,
            "1 stored\n");
  const Said exported = Cache({"export"});
  EXPECT_EQ(exported.err, "3 entries exported\n");
  EXPECT_THAT(Lines(Cache({"export", "--tenant", "acme"}).out), ::testing::SizeIs(1));
  EXPECT_THAT(Lines(Cache({"export", "--route", "openai"}).out), ::testing::SizeIs(1));
  EXPECT_THAT(Cache({"export", "--tenant", "acme", "--route", "openai"}).out, IsEmpty());

  ASSERT_EQ(Stop(), 0);
  std::filesystem::remove_all(dir_ / "data");
  StartServer();
  ASSERT_EQ(CacheStats().entries(), 0u);
  EXPECT_EQ(Cache({"import", "-"}, exported.out).out, "3 stored\n");
  EXPECT_EQ(Lines(Cache({"export"}).out), Lines(exported.out));
  EXPECT_EQ(Cache({"import", "-"}, exported.out).out, "3 stored\n") << "again does no harm";
  EXPECT_EQ(CacheStats().entries(), 3u);
  BreakAll(kDown);
  EXPECT_TRUE(Generate(labelled, {.tenant = "acme"}).response.stale());
  EXPECT_FALSE(Generate(labelled).response.stale());
  EXPECT_TRUE(Generate(WithSystem("Be short.", "Why is the sky blue?")).response.stale());
  EXPECT_EQ(Generate(tools).text(), "{}");
  v1::PurgeCacheRequest purge;
  (*purge.mutable_labels())["team"] = "physics";
  grpc::ClientContext context;
  v1::PurgeCacheResponse purged;
  EXPECT_TRUE(admin_->PurgeCache(&context, purge, &purged).ok());
  EXPECT_EQ(purged.deleted(), 1u) << "labels move, too";
}

TEST_F(CachePeopleTest, WrongEntriesAreToldWithTheirFields) {
  const auto fault = [&](const std::string& line) {
    const Said said = Cache({"import", "-"}, line);
    EXPECT_EQ(said.code, 1);
    return said.err;
  };
  EXPECT_EQ(fault(R"({"answer":"a"})"), "line 1: question must not be empty\n");
  EXPECT_EQ(fault(R"({"question":"q"})"), "line 1: answer must not be empty\n");
  EXPECT_EQ(fault(R"({"question":" ","answer":"a"})"), "line 1: question has no words\n");
  EXPECT_THAT(fault(R"({"question":"q","answer":"a","route":"no"})"),
              HasSubstr("route names no route"));
  EXPECT_THAT(fault(R"({"question":"q","answer":"a","tenant":"é"})"), HasSubstr("tenant must be"));
  EXPECT_THAT(fault(R"({"question":"q","answer":"a","scope":"AAAA"})"), HasSubstr("32 bytes"));
  EXPECT_THAT(fault(R"({"question":"q","answer":"a","system":"s","context":{}})"),
              HasSubstr("exclude"));
  EXPECT_THAT(fault(R"({"question":"q","answer":"a","labels":{"":"x"}})"),
              HasSubstr("labels must"));
  EXPECT_THAT(
      fault(R"({"question":"q","answer":"a","context":{"messages":[{"role":"x","content":"y"}]}})"),
      HasSubstr("messages[0].role"));
  EXPECT_THAT(fault(R"({"question":"q","answer":")" + std::string(256 << 10, 'x') + "\"}"),
              HasSubstr("answer must be at most 262144 bytes"));
  EXPECT_EQ(
      Cache({"import", "-"}, R"({"question":"q","answer":"a","created_at":"2001-01-01T00:00:00Z"})")
          .out,
      "0 stored, 1 older than the cache keeps answers\n");
  EXPECT_EQ(CacheStats().entries(), 0u);
}

TEST_F(CachePeopleTest, AnExplanationSaysWhatWouldBeServedAndWhyNot) {
  Stop();
  std::string yaml = Settings().Yaml();
  const std::string hash = "embedder: {kind: hash}\n";  // whose judge has no reasons
  yaml.replace(yaml.find(hash), hash.size(), "");
  StartYaml(yaml);
  ASSERT_EQ(Cache({"import", "-"},
                  R"({"question":"How do I sort a list in Python?","answer":"Use sorted."})"
                  "\n"
                  R"({"question":"How do I boil an egg?","answer":"Eight minutes."})"
                  "\n")
                .code,
            0);
  const v1::ExplainCacheResponse served = Explain(Question("how do I sort a list in Python"));
  EXPECT_EQ(served.not_served(), "");
  EXPECT_EQ(served.threshold(), 0.85);
  EXPECT_GT(served.min_cosine(), 0);
  EXPECT_EQ(served.max_age().seconds(), 7 * 24 * 3600);
  EXPECT_THAT(Fates(served), ElementsAre("How do I sort a list in Python?: served",
                                         "How do I boil an egg?: too_far"));
  EXPECT_EQ(served.entries(0).similarity(), 1);
  EXPECT_EQ(served.entries(0).answer(), "Use sorted.");

  const v1::ExplainCacheResponse sibling = Explain(Question("How do I sort a list in JavaScript?"));
  EXPECT_THAT(sibling.not_served(), HasSubstr("below_threshold"));
  EXPECT_THAT(Fates(sibling)[0], "How do I sort a list in Python?: below_threshold");
  EXPECT_THAT(sibling.entries(0).reason(), HasSubstr("javascript"));
  EXPECT_GT(sibling.entries(0).findings_size(), 0);

  // Where the cache is preferred, its own, stricter limits stand beside it.
  EXPECT_FALSE(served.has_preferred());
  EXPECT_EQ(served.calibrated().state(), v1::CalibratedThreshold::STATE_OFF);
  const auto preferring = [](const char* text) {
    v1::GenerateRequest request = Question(text);
    request.mutable_cache()->set_mode(v1::CacheControl::MODE_PREFER);
    return request;
  };
  const v1::PreferredLookup same =
      Explain(preferring("how do I sort a list in Python")).preferred();
  EXPECT_EQ(same.entry_id(), served.entries(0).entry_id());
  EXPECT_EQ(same.not_served(), "");
  EXPECT_EQ(same.threshold(), 0.95);
  EXPECT_GE(same.min_cosine(), served.min_cosine());
  constexpr char kReworded[] = "How do I sort a list?";
  const v1::ExplainCacheResponse both = Explain(preferring(kReworded));
  const v1::PreferredLookup reworded = both.preferred();
  EXPECT_EQ(both.not_served(), "");
  ASSERT_LT(both.entries(0).similarity(), 0.95) << "the test needs one between the thresholds";
  EXPECT_THAT(reworded.not_served(), HasSubstr("the first is below_threshold"));
  EXPECT_EQ(reworded.entry_id(), "");

  v1::GenerateRequest strict = Question("how do I sort a list in Python");
  strict.mutable_cache()->mutable_max_age()->set_nanos(1);
  EXPECT_THAT(Fates(Explain(strict)), ElementsAre("How do I sort a list in Python?: too_old",
                                                  "How do I boil an egg?: too_old"));
  strict.mutable_cache()->set_mode(v1::CacheControl::MODE_OFF);
  EXPECT_THAT(Explain(strict).not_served(), HasSubstr("OFF"));
  EXPECT_THAT(Explain(Question("anything"), "acme").not_served(), HasSubstr("nothing is stored"));
  v1::GenerateRequest picky = Question("how do I sort a list in Python");
  picky.set_worst_acceptable(v1::DEGRADATION_FALLBACK_MODEL);
  EXPECT_THAT(Explain(picky).not_served(), HasSubstr("no stale answer"));
  EXPECT_EQ(CacheStats().lookups(), 0u) << "an explanation is no lookup";

  v1::ExplainCacheRequest bad;
  bad.mutable_request()->set_route("nowhere");
  grpc::ClientContext context;
  v1::ExplainCacheResponse none;
  const grpc::Status status = admin_->ExplainCache(&context, bad, &none);
  EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("request.route"));
  // What it says is what happens.
  EXPECT_TRUE(Generate(preferring("how do I sort a list in Python")).response.has_cache_hit());
  EXPECT_FALSE(Generate(preferring(kReworded)).response.has_cache_hit());
  BreakAll(kDown);
  EXPECT_TRUE(Ask("how do I sort a list in Python").response.stale());
  EXPECT_FALSE(Ask("How do I sort a list in JavaScript?").response.stale());
}

TEST_F(CachePeopleTest, WhatIsPurgedIsOnNoDisk) {
  ASSERT_EQ(Cache({"import", "-"},
                  R"({"question":"qZXKWJVPBMQ","answer":"aHGTRDWQXPL","tenant":"tNBVCXZLKJH"}
{"question":"qPOIUYTREWQ","answer":"aMNBVCXZASD","labels":{"team":"lQWERTYUIOP"}}
{"question":"qLKJHGFDSAZ","answer":"aQAZWSXEDCR","pinned":true}
)")
                .code,
            0);
  EXPECT_TRUE(OnDisk("aHGTRDWQXPL"));
  EXPECT_EQ(Cache({"purge", "--tenant", "tNBVCXZLKJH"}).out, "1 entry deleted\n");
  for (const char* text : {"qZXKWJVPBMQ", "aHGTRDWQXPL", "tNBVCXZLKJH"})
    EXPECT_FALSE(OnDisk(text)) << text;
  EXPECT_TRUE(OnDisk("aMNBVCXZASD"));
  EXPECT_EQ(Cache({"purge", "--label", "team=lQWERTYUIOP"}).out, "1 entry deleted\n");
  for (const char* text : {"qPOIUYTREWQ", "aMNBVCXZASD", "lQWERTYUIOP"})
    EXPECT_FALSE(OnDisk(text)) << text;
  EXPECT_TRUE(OnDisk("aQAZWSXEDCR"));
  EXPECT_EQ(Cache({"purge", "--everything", "--yes"}).out, "1 entry deleted\n");
  EXPECT_FALSE(OnDisk("aQAZWSXEDCR"));
}

}  // namespace
}  // namespace holdfast::testing
