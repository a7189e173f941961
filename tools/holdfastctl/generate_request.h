#pragma once

// From the options of `generate` to the API's request. Called once, on the main thread; reads the
// files that the options name, and standard input.

#include <istream>
#include <string>
#include <variant>

#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/options.h"

namespace holdfast::ctl {

// The request, or what is wrong with a file. What the server checks is not checked here.
std::variant<v1::GenerateRequest, std::string> BuildRequest(const GenerateOptions& options,
                                                            std::istream& input);

}  // namespace holdfast::ctl
