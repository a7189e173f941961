#pragma once

// A program of build/bin as a child of the test, its output in files. Owned by the test, used on
// its thread; whatever still runs at the end is killed.

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace holdfast::testing {

// How long a test waits for what must come; long, since a loaded machine is slow.
inline constexpr std::chrono::seconds kPatience{30};

// Polls until `done` is true; false if it is not within `kPatience`.
bool Eventually(const std::function<bool()>& done);

std::filesystem::path Binary(const std::string& name);  // in HOLDFAST_BIN_DIR
std::filesystem::path SourceDir();                      // the repository
std::string ReadFile(const std::filesystem::path& path);

class Process {
 public:
  using Environment = std::map<std::string, std::string>;

  // Starts `command` with `environment` in addition to PATH and HOME, and nothing else. Output goes
  // to `directory`/`name`.out and .err.
  Process(const std::vector<std::string>& command, const Environment& environment,
          const std::filesystem::path& directory, const std::string& name);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // The rest of the first line of standard output that begins with `prefix`, once there is one;
  // nothing if the program ends without it.
  std::optional<std::string> WaitForLine(const std::string& prefix);
  std::string Output() const { return ReadFile(out_); }
  std::string Errors() const { return ReadFile(err_); }

  void Signal(int signal) const;
  bool Running();
  // The exit code, or -signal; -1000 if it does not end.
  int Wait();

 private:
  const std::filesystem::path out_;
  const std::filesystem::path err_;
  pid_t pid_ = -1;
  std::optional<int> exit_;
};

// Runs a program to its end.
struct Finished {
  int code = 0;
  std::string out;
  std::string err;
};
Finished RunToEnd(const std::vector<std::string>& command, const Process::Environment& environment,
                  const std::filesystem::path& directory);

}  // namespace holdfast::testing
