#pragma once

// The table of a request's attempts, as answers and errors show it. Pure, from any thread.

#include <google/protobuf/repeated_ptr_field.h>

#include <string>

#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {

// A line an attempt; `omitted` attempts were left out from the middle.
std::string RenderAttempts(const google::protobuf::RepeatedPtrField<v1::Attempt>& attempts,
                           int omitted, const Paint& paint);

}  // namespace holdfast::ctl
