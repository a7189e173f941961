// The command line of simprovider.
#pragma once

#include <string>
#include <vector>

#include "tools/simprovider/answers.h"
#include "tools/simprovider/fault_player.h"

namespace simprovider {

struct Options {
  std::string listen = "127.0.0.1:8081";
  int threads = 1;
  std::string api_key;      // empty: any key, or none, will do
  std::string faults_file;  // {"model": fault or list, ...}
  bool log_attempts = false;
  AnswerOptions answers;
  Pace pace;
};

enum class ParsedOptions { kRun, kHelp, kBad };

// kBad sets `error`. `arguments` without the program's name.
ParsedOptions ParseOptions(const std::vector<std::string>& arguments, Options& options,
                           std::string& error);

std::string HelpText();

}  // namespace simprovider
