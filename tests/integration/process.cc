#include "tests/integration/process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "gtest/gtest.h"

namespace holdfast::testing {
namespace {

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

bool Eventually(const std::function<bool()>& done) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  return true;
}

std::filesystem::path Binary(const std::string& name) {
  return std::filesystem::path(FromEnvironment("HOLDFAST_BIN_DIR")) / name;
}

std::filesystem::path SourceDir() { return FromEnvironment("HOLDFAST_SOURCE_DIR"); }

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Process::Process(const std::vector<std::string>& command, const Environment& environment,
                 const std::filesystem::path& directory, const std::string& name)
    : out_(directory / (name + ".out")), err_(directory / (name + ".err")) {
  std::vector<std::string> arguments = command;
  std::vector<std::string> variables;
  for (const char* kept : {"PATH", "HOME", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"}) {
    if (std::getenv(kept)) variables.push_back(std::string(kept) + "=" + FromEnvironment(kept));
  }
  for (const auto& [key, value] : environment) variables.push_back(key + "=" + value);
  std::vector<char*> argv = Pointers(arguments);
  std::vector<char*> env = Pointers(variables);
  // Emptied here, not in the child: nobody may read what the one before has left.
  const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int out = open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  const int err = open(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  pid_ = fork();
  if (pid_ == 0) {                     // allocates nothing: this process has threads
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that crashes leaves nobody behind
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    execve(argv[0], argv.data(), env.data());
    _exit(127);
  }
  for (const int fd : {in, out, err}) close(fd);
}

Process::~Process() {
  if (!Running()) return;
  Signal(SIGKILL);
  Wait();
}

std::optional<std::string> Process::WaitForLine(const std::string& prefix) {
  std::optional<std::string> found;
  const auto look = [&] {
    std::istringstream lines(Output());
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(prefix) && !lines.eof()) found = line.substr(prefix.size());
    }
    return found.has_value();
  };
  Eventually([&] { return look() || !Running(); });
  if (!found) look();
  return found;
}

void Process::Signal(int signal) const { kill(pid_, signal); }

bool Process::Running() {
  if (pid_ <= 0 || exit_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return false;
}

int Process::Wait() {
  Eventually([&] { return !Running(); });
  return exit_.value_or(-1000);
}

Finished RunToEnd(const std::vector<std::string>& command, const Process::Environment& environment,
                  const std::filesystem::path& directory) {
  Process process(command, environment, directory, "run");
  const int code = process.Wait();
  return {code, process.Output(), process.Errors()};
}

}  // namespace holdfast::testing
