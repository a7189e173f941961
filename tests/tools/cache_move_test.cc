// `holdfastctl cache import` and `export` against a scripted server; tests/integration has the real
// one.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "holdfast/v1/admin.grpc.pb.h"
#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;
using Json = nlohmann::json;
using Strings = std::vector<std::string>;

// Keeps what it is given; refuses questions that begin with "refused".
class MemoryAdmin final : public v1::AdminService::Service {
 public:
  MemoryAdmin() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~MemoryAdmin() override { server_->Shutdown(); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  grpc::Status ImportCache(grpc::ServerContext*, const v1::ImportCacheRequest* request,
                           v1::ImportCacheResponse* response) override {
    ++calls;
    if (busy-- > 0) return {grpc::UNAVAILABLE, "the server is busy; try again"};
    for (int i = 0; i < request->entries_size(); ++i) {
      const v1::CacheEntry& entry = request->entries(i);
      if (entry.question().substr(0, 7) == "refused") {
        v1::ImportFault& fault = *response->add_faults();
        fault.set_index(i);
        fault.set_field("question");
        fault.set_reason("is refused");
      } else {
        entries.push_back(entry);
        response->set_stored(response->stored() + 1);
      }
    }
    response->set_kept(kept);
    return grpc::Status::OK;
  }

  grpc::Status ExportCache(grpc::ServerContext*, const v1::ExportCacheRequest* request,
                           v1::ExportCacheResponse* response) override {
    ++calls;
    asked = *request;
    const size_t begin = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    if (begin >= fail_from) return {grpc::INTERNAL, "broken"};
    for (size_t i = begin; i < std::min(begin + 2, entries.size()); ++i) {
      *response->add_entries() = entries[i];
    }
    if (begin + 2 < entries.size()) response->set_next_page_token(std::to_string(begin + 2));
    response->set_total(entries.size());
    return grpc::Status::OK;
  }

  std::vector<v1::CacheEntry> entries;
  v1::ExportCacheRequest asked;
  size_t fail_from = 1000;
  uint64_t kept = 0;
  int busy = 0;
  int calls = 0;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

struct Result {
  int code = 0;
  std::string out;
  std::string err;
};

class CacheMoveTest : public ::testing::Test {
 protected:
  CacheMoveTest() {
    std::string name = (fs::temp_directory_path() / "cache_move_test.XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  ~CacheMoveTest() override { fs::remove_all(dir_); }

  Result Cache(Strings args, const std::string& input = "") {
    std::istringstream in(input);
    std::ostringstream out, err;
    Console console{in,
                    out,
                    err,
                    false,
                    false,
                    false,
                    [](const std::string&) {
                      return std::optional<std::string>(); }};
    args.insert(args.begin(), "cache");
    args.insert(args.end(), {"--admin", server_.address()});
    const int code = RunCommandLine(args, console);
    return {code, out.str(), err.str()};
  }

  static std::string Entry(const std::string& question) {
    return Json{{"question", question}, {"answer", "a"}}.dump() + "\n";
  }

  MemoryAdmin server_;
  fs::path dir_;
};

TEST_F(CacheMoveTest, BadLinesAreNamedByNumberAndTheRestGoesOn) {
  std::string lines;
  for (int i = 1; i <= 250; ++i) {
    if (i == 7) {
      lines += "nonsense\n";
    } else if (i == 8) {
      lines += "\n";  // nothing, and no fault
    } else if (i == 150) {
      lines += R"({"question": "q", "anser": "typo"})"
               "\n";
    } else if (i == 151) {
      lines += "{\"question\": \"\xff\", \"answer\": \"a\"}\n";
    } else {
      lines += Entry((i == 120 || i == 250 ? "refused " : "q") + std::to_string(i));
    }
  }
  const Result result = Cache({"import", "-"}, lines);
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_EQ(result.out, "244 stored, 5 bad lines\n");
  for (const char* bad :
       {"line 7: not an entry", "line 120: question is refused\n", "line 150: not an entry: anser",
        "line 151: not UTF-8\n", "line 250: question is refused\n"}) {
    EXPECT_THAT(result.err, HasSubstr(bad));
  }
  EXPECT_THAT(server_.entries, SizeIs(244));
  EXPECT_GT(server_.calls, 1);
  EXPECT_LT(server_.calls, 10);

  const Result json = Cache({"import", "-", "--json"}, "x\n" + Entry("q") + Entry("refused"));
  EXPECT_EQ(json.code, kExitFailed);
  const Json report = Json::parse(json.out);
  EXPECT_EQ(report.at("stored"), 1);
  EXPECT_EQ(report.at("bad_lines").size(), 2u);
  EXPECT_EQ(report.at("bad_lines").at(0).at("line"), 1);
  EXPECT_EQ(report.at("bad_lines").at(1).at("line"), 3);
  EXPECT_EQ(report.at("bad_lines").at(1).at("reason"), "question is refused");
}

TEST_F(CacheMoveTest, OptionsFillWhatLinesLeaveOut) {
  const Result result = Cache(
      {"import", "-", "--route", "r", "--tenant", "t", "--pinned"},
      Entry("plain") + R"({"question":"q","answer":"a","route":"s","tenant":"u","system":"be short",
"labels":{"k":"v"},"made_by":{"provider":"p","model":"m"},"created_at":"2026-01-31T12:00:00Z"})");
  EXPECT_EQ(result.code, kExitFailed) << "the second one is two lines";
  ASSERT_THAT(server_.entries, SizeIs(1));
  EXPECT_EQ(server_.entries[0].route(), "r");
  EXPECT_EQ(server_.entries[0].tenant(), "t");
  EXPECT_TRUE(server_.entries[0].pinned());
  server_.kept = 1;
  const Result own = Cache({"import", "-", "--route", "r", "--tenant", "t"},
                           R"({"question":"q","answer":"a","route":"s","tenant":"u"})");
  EXPECT_EQ(own.code, kExitOk) << own.err;
  EXPECT_EQ(own.out, "1 stored, 1 left out for a newer or pinned one\n");
  EXPECT_EQ(server_.entries[1].route(), "s");
  EXPECT_EQ(server_.entries[1].tenant(), "u");
  EXPECT_FALSE(server_.entries[1].pinned());
}

TEST_F(CacheMoveTest, ABusyServerIsAskedAgain) {
  server_.busy = 2;
  const Result result = Cache({"import", "-"}, Entry("q"));
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_EQ(result.out, "1 stored\n");
  EXPECT_EQ(server_.calls, 3);
}

TEST_F(CacheMoveTest, WhatIsExportedCanBeImported) {
  std::string lines;
  for (int i = 0; i < 5; ++i) {
    v1::CacheEntry entry;
    entry.set_question("q" + std::to_string(i));
    entry.set_answer("line\nbreak \x1b \"quoted\" \xc3\xa9 \xf0\x9f\x99\x82");
    entry.set_scope(std::string(32, static_cast<char>(i)));
    entry.set_tenant("t");
    entry.set_route("r");
    entry.mutable_created_at()->set_seconds(1'700'000'000 + i);
    entry.mutable_created_at()->set_nanos(123'456'789);
    (*entry.mutable_labels())["k"] = "v";
    entry.set_pinned(i % 2 == 0);
    entry.mutable_made_by()->set_model("m");
    server_.entries.push_back(entry);
  }
  const std::vector<v1::CacheEntry> before = server_.entries;
  const Result exported = Cache({"export", "--tenant", "t", "--route", "r"});
  EXPECT_EQ(exported.code, kExitOk);
  EXPECT_EQ(exported.err, "5 entries exported\n");
  EXPECT_EQ(server_.asked.tenant(), "t");
  EXPECT_EQ(server_.asked.route(), "r");
  server_.entries.clear();
  EXPECT_EQ(Cache({"import", "-"}, exported.out).out, "5 stored\n");
  ASSERT_THAT(server_.entries, SizeIs(5));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(server_.entries[i].ShortDebugString(), before[i].ShortDebugString());
  }
}

TEST_F(CacheMoveTest, AFileIsThereWholeOrNotAtAll) {
  server_.entries.resize(5);
  const fs::path file = dir_ / "export.jsonl";
  server_.fail_from = 2;
  const Result broken = Cache({"export", file.string()});
  EXPECT_EQ(broken.code, kExitFailed);
  EXPECT_THAT(broken.err, HasSubstr("broken"));
  EXPECT_TRUE(fs::is_empty(dir_));
  server_.fail_from = 1000;
  EXPECT_EQ(Cache({"export", file.string()}).code, kExitOk);
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), fs::directory_iterator()), 1);
  EXPECT_EQ(Cache({"import", file.string()}).out, "5 stored\n");
}

TEST_F(CacheMoveTest, FilesAndServersThatAreNotThere) {
  EXPECT_EQ(Cache({"import"}).code, kExitUsage);
  EXPECT_EQ(Cache({"import", "/nonexistent"}).code, kExitUsage);
  EXPECT_EQ(Cache({"export", "/nonexistent/file"}).code, kExitUsage);
  EXPECT_EQ(server_.calls, 0);
  EXPECT_EQ(Cache({"import", "-"}).out, "0 stored\n");
}

}  // namespace
}  // namespace holdfast::ctl
