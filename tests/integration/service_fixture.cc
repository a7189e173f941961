#include "tests/integration/service_fixture.h"

#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "google/rpc/status.pb.h"
#include "tests/server/stream_reader.h"

namespace holdfast::testing {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Settings::Yaml() const {
  const auto step_of = [this](const std::string& provider, const std::string& model,
                              const std::string& price) {
    return "      - {provider: " + provider + ", model: " + model + ", timeouts: " + timeouts +
           ", price: {" + price + "}" + step + "}\n";
  };
  const std::string claude = step_of("anthropic", "claude", "input: 3, output: 15");
  const std::string gpt = step_of("openai", "gpt", "input: 2.5, cached_input: 1.25, output: 10");
  const std::string flash = step_of("gemini", "flash", "input: 0.3, output: 2.5");
  const auto provider = [this](const std::string& name, const std::string& kind,
                               const std::string& path) {
    return "  - name: " + name + "\n    kind: " + kind + "\n    base_url: ${SIM}" + path +
           "\n    api_key: ${KEY}\n    headers: {x-canary: \"${HEADER}\"}\n    breaker: " +
           breaker + "\n";
  };
  const auto single = [this](const std::string& name, const std::string& only) {
    return "  - name: " + name + "\n    timeout: 8s\n    min_useful: 100ms\n    retry: " + retry +
           "\n    chain:\n" + only;
  };
  return "embedder: {kind: hash}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\nlog: {format: "
         "json}\n" +
         top + "\nproviders:\n" + provider("anthropic", "anthropic", "") +
         provider("openai", "openai", "/v1") + provider("gemini", "gemini", "") +
         provider("local", "openai", "/v1") + "routes:\n  - name: default\n    " + route +
         "\n    chain:\n" + claude + gpt + flash + "    retry: " + retry + "\n    cache: " + cache +
         "\n    partial: " + partial + "\n" + single("anthropic", claude) + single("openai", gpt) +
         single("gemini", flash) +
         single("local", step_of("local", "llama", "input: 0, output: 0"));
}

std::vector<std::string> Reply::Outcomes() const {
  std::vector<std::string> outcomes;
  for (const v1::Attempt& attempt : attempts()) {
    outcomes.push_back(attempt.target().model() + (attempt.skipped() ? ":skipped " : ":") +
                       attempt.outcome());
  }
  return outcomes;
}

std::vector<std::string> Reply::Fields() const {
  std::vector<std::string> fields;
  for (const auto& violation : bad_request.field_violations()) fields.push_back(violation.field());
  return fields;
}

v1::GenerateRequest Question(const std::string& text, const std::string& route) {
  v1::GenerateRequest request;
  request.set_route(route);
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(text);
  return request;
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

ServiceFixture::ServiceFixture() {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string("holdfast-") + std::to_string(getpid()) + "-" + test->name();
  for (char& c : name) c = c == '/' ? '-' : c;
  dir_ = std::filesystem::path(::testing::TempDir()) / name;
  std::filesystem::remove_all(dir_);
  std::filesystem::create_directories(dir_);
}

void ServiceFixture::SetUp() {
  sim_ = std::make_unique<Simulator>(dir_);
  environment_ = {{"SIM", sim_->url()}, {"KEY", kKey}, {"HEADER", kHeaderValue}};
}

void ServiceFixture::TearDown() {
  if (server_ && server_->Running()) {
    const v1::GetStatusResponse status = Status();
    for (const v1::TargetStatus& target : status.targets()) {
      EXPECT_EQ(target.breaker().leaked(), 0u) << target.ShortDebugString();
    }
    EXPECT_EQ(Stop(), 0) << Log();
  }
  if (HasFailure()) std::cerr << Log() << std::flush;
  server_.reset();
  sim_.reset();
  std::filesystem::remove_all(dir_);
}

void ServiceFixture::StartYaml(const std::string& yaml, const std::vector<std::string>& arguments) {
  std::ofstream(dir_ / "holdfast.yaml") << yaml;
  StartServer(arguments);
}

void ServiceFixture::StartServer(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {Binary("holdfast"), "--config", dir_ / "holdfast.yaml",
                                      "--data-dir", dir_ / "data"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  server_ = std::make_unique<Process>(command, environment_, dir_, "holdfast");
  const auto address = server_->WaitForLine("listening on ");
  ASSERT_TRUE(address) << Log();
  address_ = *address;
  admin_address_ = server_->WaitForLine("admin on ").value_or("");
  channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  admin_channel_ = grpc::CreateChannel(admin_address_, grpc::InsecureChannelCredentials());
  stub_ = v1::GenerateService::NewStub(channel_);
  admin_ = v1::AdminService::NewStub(admin_channel_);
}

int ServiceFixture::Stop() {
  // Open connections would hold gRPC's shutdown up for its whole grace.
  stub_.reset();
  admin_.reset();
  channel_.reset();
  admin_channel_.reset();
  server_->Signal(SIGTERM);
  const int code = server_->Wait();
  CheckLog(server_->Output() + server_->Errors());
  return code;
}

void ServiceFixture::CheckLog(const std::string& log) {
  EXPECT_THAT(log, Not(HasSubstr("CANARY")));
  std::lock_guard lock(mutex_);
  for (const std::string& question : asked_) EXPECT_THAT(log, Not(HasSubstr(question)));
}

Reply ServiceFixture::Generate(const v1::GenerateRequest& request, const CallOptions& options) {
  {
    std::lock_guard lock(mutex_);
    for (const v1::Message& message : request.messages()) {
      if (message.content().size() > 8) asked_.push_back(message.content());
    }
  }
  Reply reply;
  grpc::ClientContext context;
  const auto start = std::chrono::steady_clock::now();
  if (options.deadline) {
    context.set_deadline(std::chrono::system_clock::now() + *options.deadline);
  }
  if (options.tenant) context.AddMetadata("x-holdfast-tenant", *options.tenant);
  if (streamed_) {
    Assembled assembled;
    reply.status = ReadStream(*stub_, context, request, assembled);
    reply.response = assembled.Response();
  } else {
    reply.status = stub_->Generate(&context, request, &reply.response);
  }
  reply.took = std::chrono::steady_clock::now() - start;
  for (const auto& [key, value] : context.GetServerTrailingMetadata()) {
    if (key == "grpc-retry-pushback-ms") reply.pushback = true;
  }
  // The details are base64 on the wire.
  reply.trailer_bytes =
      reply.status.error_message().size() + reply.status.error_details().size() * 4 / 3;
  google::rpc::Status details;
  details.ParseFromString(reply.status.error_details());
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&retry)) reply.retry = retry;
    detail.UnpackTo(&reply.info);
    detail.UnpackTo(&reply.bad_request);
    detail.UnpackTo(&reply.failed);
  }
  return reply;
}

void ServiceFixture::BreakChain(const std::string& fault) {
  for (const char* model : {"claude", "gpt", "flash"}) sim_->Break(model, fault);
}

void ServiceFixture::BreakAll(const std::string& fault) {
  BreakChain(fault);
  sim_->Break("llama", fault);
}

v1::GetStatusResponse ServiceFixture::Status() {
  grpc::ClientContext context;
  v1::GetStatusResponse status;
  const grpc::Status called = admin_->GetStatus(&context, {}, &status);
  EXPECT_TRUE(called.ok()) << called.error_message();
  return status;
}

v1::TargetStatus ServiceFixture::StatusOf(const std::string& model) {
  const v1::GetStatusResponse status = Status();
  for (const v1::TargetStatus& target : status.targets()) {
    if (target.target().model() == model) return target;
  }
  ADD_FAILURE() << "no target " << model;
  return {};
}

v1::GetCacheStatsResponse ServiceFixture::CacheStats() {
  grpc::ClientContext context;
  v1::GetCacheStatsResponse stats;
  const grpc::Status called = admin_->GetCacheStats(&context, {}, &stats);
  EXPECT_TRUE(called.ok()) << called.error_message();
  return stats;
}

void ServiceFixture::WaitForEntries(uint64_t count) {
  EXPECT_TRUE(Eventually([&] { return CacheStats().entries() == count; }))
      << CacheStats().ShortDebugString();
}

std::vector<Json> ServiceFixture::WaitForLog(const std::string& event, size_t count) const {
  std::vector<Json> lines;
  EXPECT_TRUE(Eventually([&] {
    lines = LogLines(event);
    return lines.size() >= count;
  })) << event;
  EXPECT_EQ(lines.size(), count) << event;
  lines.resize(count, Json::object());
  return lines;
}

std::vector<Json> ServiceFixture::LogLines(const std::string& event) const {
  std::vector<Json> lines;
  std::istringstream log(Log());
  for (std::string line; std::getline(log, line);) {
    const Json parsed = Json::parse(line, nullptr, false);
    if (parsed.is_object() && parsed.value("event", "") == event) lines.push_back(parsed);
  }
  return lines;
}

}  // namespace holdfast::testing
