// The admin paths, /sim/...; README.md lists them. Any worker thread.
#pragma once

#include "tools/simprovider/attempt_log.h"
#include "tools/simprovider/faults.h"
#include "tools/simprovider/http_parser.h"
#include "tools/simprovider/reply.h"

namespace simprovider {

Reply HandleAdmin(const HttpRequest& request, FaultBook& faults, AttemptLog& attempts);

}  // namespace simprovider
