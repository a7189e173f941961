// The person's client of Holdfast. All else is in commands.h.

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "tools/holdfastctl/commands.h"

int main(int argc, char** argv) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // failures are told in our own words
  const auto env = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return value;
  };
  holdfast::ctl::Console console{std::cin,
                                 std::cout,
                                 std::cerr,
                                 isatty(STDIN_FILENO) == 1,
                                 isatty(STDOUT_FILENO) == 1,
                                 isatty(STDERR_FILENO) == 1,
                                 env};
  return holdfast::ctl::RunCommandLine(std::vector<std::string>(argv + 1, argv + argc), console);
}
