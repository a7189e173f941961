// The holdfast binary itself: flags, start, signals.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "holdfast/v1/generate.grpc.pb.h"

namespace holdfast::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// A child process whose standard output and error are read here.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    int out[2];
    int err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], 1);
      dup2(err[1], 2);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Process() {
    if (pid_ > 0) {
      Signal(SIGKILL);
      Wait();
    }
    close(out_);
    close(err_);
  }

  std::string ReadLine() {
    std::string line;
    char c = 0;
    while (read(out_, &c, 1) == 1 && c != '\n') line += c;
    return line;
  }
  std::string ReadOutput() { return ReadAll(out_); }
  std::string ReadErrors() { return ReadAll(err_); }
  void Signal(int signal) const { kill(pid_, signal); }
  // The exit code, or -signal.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  static std::string ReadAll(int fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
};

class MainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        std::filesystem::path(::testing::TempDir()) / ("holdfast-main-" + std::to_string(getpid()));
    std::filesystem::create_directories(dir_);
    silent_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    ASSERT_EQ(bind(silent_, reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(getsockname(silent_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    ASSERT_EQ(listen(silent_, 16), 0);
    WriteConfig(
        "listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\ndata_dir: " + (dir_ / "data").string() +
        "\nproviders: [{name: silent, kind: openai, base_url: \"http://127.0.0.1:" +
        std::to_string(ntohs(address.sin_port)) +
        "/v1\"}]\nroutes: [{name: default, chain: [{provider: silent, model: m}]}]\n");
  }
  void TearDown() override {
    close(silent_);
    std::filesystem::remove_all(dir_);
  }

  void WriteConfig(const std::string& yaml) const { std::ofstream(config()) << yaml; }
  std::string config() const { return dir_ / "holdfast.yaml"; }
  std::vector<std::string> Command(std::vector<std::string> arguments) const {
    const char* bin = std::getenv("HOLDFAST_BIN_DIR");
    arguments.insert(arguments.begin(), (std::filesystem::path(bin ? bin : ".") / "holdfast"));
    return arguments;
  }

  std::filesystem::path dir_;
  int silent_ = -1;  // accepts connections, never answers
};

TEST_F(MainTest, Version) {
  Process process(Command({"--version"}));
  EXPECT_THAT(process.ReadOutput(), StartsWith("holdfast " HOLDFAST_VERSION));
  EXPECT_EQ(process.Wait(), 0);
}

TEST_F(MainTest, Check) {
  Process good(Command({"--config", config(), "--check"}));
  EXPECT_EQ(good.ReadOutput(), "ok\n");
  EXPECT_EQ(good.Wait(), 0);

  WriteConfig("listen: nowhere\nbogus: 1\n");
  Process bad(Command({"--config", config(), "--check"}));
  const std::string faults = bad.ReadOutput();
  EXPECT_THAT(faults, HasSubstr(config() + ":1:9: listen: "));
  EXPECT_THAT(faults, HasSubstr(config() + ":2:1: bogus: "));
  EXPECT_EQ(bad.Wait(), 1);

  Process missing(Command({"--config", dir_ / "none.yaml", "--check"}));
  EXPECT_THAT(missing.ReadOutput(), HasSubstr("none.yaml"));
  EXPECT_EQ(missing.Wait(), 1);
}

TEST_F(MainTest, TellsItsAddressesAndEndsOnSigterm) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Process process(Command({"--config", config()}));
    EXPECT_THAT(process.ReadLine(), MatchesRegex("admin on 127\\.0\\.0\\.1:[0-9]+"));
    EXPECT_THAT(process.ReadLine(), MatchesRegex("listening on 127\\.0\\.0\\.1:[0-9]+"));
    process.Signal(signal);
    EXPECT_EQ(process.Wait(), 0);
  }
}

TEST_F(MainTest, AnAddressInUseIsToldOnOneLine) {
  Process first(Command({"--config", config()}));
  first.ReadLine();
  const std::string listening = first.ReadLine();
  const std::string address = listening.substr(std::string("listening on ").size());
  Process second(Command({"--config", config(), "--listen", address, "--data-dir", dir_ / "two"}));
  EXPECT_THAT(second.ReadErrors(),
              EndsWith("holdfast: cannot listen on " + address + ": Address already in use\n"));
  EXPECT_EQ(second.Wait(), 1);
}

TEST_F(MainTest, OnlyLoopbackWithoutAuthentication) {
  Process process(Command({"--config", config(), "--listen", "0.0.0.0:0"}));
  EXPECT_THAT(process.ReadErrors(), HasSubstr("--listen"));
  EXPECT_EQ(process.Wait(), 1);
  Process admin(Command({"--config", config(), "--admin-listen", "0.0.0.0:0"}));
  EXPECT_THAT(admin.ReadErrors(), HasSubstr("--admin-listen"));
  EXPECT_EQ(admin.Wait(), 1);
}

TEST_F(MainTest, ASecondSignalEndsAtOnce) {
  Process process(Command({"--config", config()}));
  process.ReadLine();
  const std::string listening = process.ReadLine();
  const auto channel = grpc::CreateChannel(listening.substr(std::string("listening on ").size()),
                                           grpc::InsecureChannelCredentials());
  const auto stub = v1::GenerateService::NewStub(channel);
  v1::GenerateRequest request;
  request.add_messages()->set_role("user");
  request.mutable_messages(0)->set_content("why?");
  grpc::Status status;
  std::thread caller([&] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    status = stub->Generate(&context, request, &response);
  });
  const int attempt = accept(silent_, nullptr, nullptr);  // the call is in progress
  process.Signal(SIGTERM);
  // Once it refuses new calls it has taken the first signal, and drains for 20 s.
  grpc::Status refused;
  while (refused.error_code() != grpc::UNAVAILABLE) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    refused = stub->Generate(&context, v1::GenerateRequest(), &response);
  }
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), -SIGINT);
  caller.join();
  EXPECT_EQ(status.error_code(), grpc::UNAVAILABLE);
  close(attempt);
}

}  // namespace
}  // namespace holdfast::server
