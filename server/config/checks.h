#pragma once

// What one key alone cannot tell: settings that contradict each other or cannot take effect. Also
// fills in what follows from other keys, such as a step's max_output_tokens.

#include "server/config/config.h"
#include "server/config/reader.h"

namespace holdfast::server {

void Check(Config& config, Reader& reader);

}  // namespace holdfast::server
