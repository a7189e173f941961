#pragma once

// The commands: each makes its call and shows the result. Run on the main thread, once.

#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "tools/holdfastctl/options.h"

namespace holdfast::ctl {

// What a command can reach of the person. Borrowed; outlives the call.
struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  Environment env;
};

// Parses `args` (without the program's name), runs the command, and returns the exit code.
int RunCommandLine(const std::vector<std::string>& args, Console& console);

}  // namespace holdfast::ctl
