#pragma once

// How single values are written in the configuration: durations, sizes, numbers, addresses, URLs.
// Pure functions; nothing on bad input.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/clock.h"

namespace holdfast::server {

// "30s", "250ms", "1m30s", "1.5s", "168h": units h, m, s, ms, us, ns, from large to small.
std::optional<core::Duration> ParseDuration(std::string_view text);

// "16MiB", "512KiB", "3MB", "1024": B, KB, MB, GB (1000) and KiB, MiB, GiB (1024).
std::optional<uint64_t> ParseSize(std::string_view text);
std::string FormatSize(uint64_t bytes);

std::optional<int64_t> ParseInteger(std::string_view text);
std::optional<double> ParseNumber(std::string_view text);  // finite, decimal
std::string FormatNumber(double value);                    // shortest exact form

// "127.0.0.1:50051", "[::1]:0", "localhost:80".
struct Address {
  std::string host;
  int port = 0;
  bool loopback = false;
};
std::optional<Address> ParseAddress(std::string_view text);

bool IsLoopbackHost(const std::string& host);

struct Url {
  std::string scheme;  // lower case
  std::string userinfo;
  std::string host;
  std::optional<int> port;
  std::string path;  // with its "/"; empty if none
  bool has_userinfo = false;
  bool has_query = false;
  bool has_fragment = false;
};
std::optional<Url> ParseUrl(std::string_view text);

// The offset of the first byte that is not UTF-8.
std::optional<size_t> FirstInvalidUtf8(std::string_view text);

bool HasControlCharacter(std::string_view text, std::string_view except = "");

// Whether YAML takes the text, unquoted, for a number, a truth value or nothing.
bool LooksLikeNonText(std::string_view text);

// An HTTP header's name.
bool IsToken(std::string_view text);

std::string ToLower(std::string_view text);

}  // namespace holdfast::server
