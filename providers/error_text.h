#pragma once

// Provider's words made fit for people, logs and gRPC trailers: valid UTF-8 on one line, at most
// 512 bytes, and without secrets, since providers like to quote the key they refused.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::providers {

inline constexpr size_t kMaxErrorText = 512;

// Each of `secrets` (those under 6 bytes aside: they would blank out common words) and all that
// looks like a key becomes "***".
std::string CleanErrorText(std::string_view text, const std::vector<std::string>& secrets);

}  // namespace holdfast::providers
