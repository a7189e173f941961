#pragma once

// The effective configuration, defaults and overrides included, as YAML that the loader reads
// back. Every secret is "***": keys, header values, credentials in a proxy's URL, and what a path's
// query carries. For the admin API and `--print-config`. Pure.

#include <string>

#include "server/config/config.h"

namespace holdfast::server {

std::string PrintConfig(const Config& config);

}  // namespace holdfast::server
