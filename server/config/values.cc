#include "server/config/values.h"

#include <arpa/inet.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace holdfast::server {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string_view TakeWhile(std::string_view& text, bool (*wanted)(char)) {
  size_t end = 0;
  while (end < text.size() && wanted(text[end])) ++end;
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(end);
  return taken;
}

struct Unit {
  std::string_view name;
  int64_t factor;
};

constexpr std::array<Unit, 6> kDurationUnits = {{{"h", 3'600'000'000'000},
                                                 {"m", 60'000'000'000},
                                                 {"s", 1'000'000'000},
                                                 {"ms", 1'000'000},
                                                 {"us", 1'000},
                                                 {"ns", 1}}};

constexpr std::array<Unit, 7> kSizeUnits = {{{"GiB", 1 << 30},
                                             {"MiB", 1 << 20},
                                             {"KiB", 1 << 10},
                                             {"GB", 1'000'000'000},
                                             {"MB", 1'000'000},
                                             {"KB", 1'000},
                                             {"B", 1}}};

// "1" or "1.5" times `unit`, exactly; nothing if it is no whole number or too large.
std::optional<int64_t> Multiply(std::string_view whole, std::string_view fraction, int64_t unit) {
  int64_t total = 0;
  for (const char c : whole) {
    if (__builtin_mul_overflow(total, 10, &total)) return std::nullopt;
    if (__builtin_add_overflow(total, c - '0', &total)) return std::nullopt;
  }
  if (__builtin_mul_overflow(total, unit, &total)) return std::nullopt;
  int64_t place = unit;
  for (const char c : fraction) {
    if (c == '0') {
      place /= 10;
      continue;
    }
    if (place % 10 != 0) return std::nullopt;
    place /= 10;
    if (__builtin_add_overflow(total, (c - '0') * place, &total)) return std::nullopt;
  }
  return total;
}

bool IsHostName(std::string_view host) {
  if (host.empty() || host.size() > 253) return false;
  for (const char c : host) {
    if (!IsAlpha(c) && !IsDigit(c) && c != '.' && c != '-' && c != '_') return false;
  }
  return true;
}

bool IsIpv6(const std::string& host) {
  in6_addr parsed;
  return inet_pton(AF_INET6, host.c_str(), &parsed) == 1;
}

std::optional<int> ParsePort(std::string_view text) {
  if (text.empty() || text.size() > 5) return std::nullopt;
  int port = 0;
  for (const char c : text) {
    if (!IsDigit(c)) return std::nullopt;
    port = port * 10 + (c - '0');
  }
  if (port > 65535) return std::nullopt;
  return port;
}

// "host", "[::1]"; removes it from `text`.
std::optional<std::string> TakeHost(std::string_view& text) {
  std::string host;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    text.remove_prefix(close + 1);
    if (!IsIpv6(host)) return std::nullopt;
    return host;
  }
  const size_t end = text.find_first_of(":/?#");
  host = text.substr(0, end);
  text.remove_prefix(host.size());
  if (!IsHostName(host)) return std::nullopt;
  return host;
}

}  // namespace

std::optional<core::Duration> ParseDuration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  int64_t total = 0;
  size_t next_unit = 0;  // units come from large to small, each once
  while (!text.empty()) {
    const std::string_view whole = TakeWhile(text, IsDigit);
    std::string_view fraction;
    if (whole.empty()) return std::nullopt;
    if (!text.empty() && text.front() == '.') {
      text.remove_prefix(1);
      fraction = TakeWhile(text, IsDigit);
      if (fraction.empty()) return std::nullopt;
    }
    const std::string_view name = TakeWhile(text, IsAlpha);
    while (next_unit < kDurationUnits.size() && kDurationUnits[next_unit].name != name) ++next_unit;
    if (next_unit == kDurationUnits.size()) return std::nullopt;
    const auto part = Multiply(whole, fraction, kDurationUnits[next_unit++].factor);
    if (!part || __builtin_add_overflow(total, *part, &total)) return std::nullopt;
  }
  return core::Duration(total);
}

std::optional<uint64_t> ParseSize(std::string_view text) {
  const std::string_view whole = TakeWhile(text, IsDigit);
  if (whole.empty()) return std::nullopt;
  int64_t factor = text.empty() ? 1 : 0;
  for (const Unit& unit : kSizeUnits) {
    if (text == unit.name) factor = unit.factor;
  }
  if (factor == 0) return std::nullopt;
  const auto bytes = Multiply(whole, "", factor);
  if (!bytes) return std::nullopt;
  return static_cast<uint64_t>(*bytes);
}

std::string FormatSize(uint64_t bytes) {
  for (const Unit& unit : kSizeUnits) {
    const auto factor = static_cast<uint64_t>(unit.factor);
    if (unit.name.size() == 3 && bytes >= factor && bytes % factor == 0) {
      return std::to_string(bytes / factor) + std::string(unit.name);
    }
  }
  return std::to_string(bytes);
}

std::optional<int64_t> ParseInteger(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(value)) return std::nullopt;
  return value == 0 ? 0 : value;  // no -0
}

std::string FormatNumber(double value) {
  constexpr double kExact = 1e15;
  if (std::abs(value) < kExact && value == std::trunc(value)) {
    return std::to_string(static_cast<int64_t>(value));
  }
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), result.ptr);
}

bool IsLoopbackHost(const std::string& host) {
  if (ToLower(host) == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 &&
         std::memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
}

std::optional<Address> ParseAddress(std::string_view text) {
  const auto host = TakeHost(text);
  if (!host || text.empty() || text.front() != ':') return std::nullopt;
  const auto port = ParsePort(text.substr(1));
  if (!port) return std::nullopt;
  return Address{*host, *port, IsLoopbackHost(*host)};
}

std::optional<Url> ParseUrl(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7F || c == '\\') return std::nullopt;
  }
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  Url url;
  url.scheme = ToLower(text.substr(0, colon));
  text.remove_prefix(colon + 3);
  const size_t authority_end = text.find_first_of("/?#");
  const size_t at = text.substr(0, authority_end).rfind('@');
  if (at != std::string_view::npos) {
    url.has_userinfo = true;
    url.userinfo = text.substr(0, at);
    text.remove_prefix(at + 1);
  }
  const auto host = TakeHost(text);
  if (!host) return std::nullopt;
  url.host = *host;
  if (!text.empty() && text.front() == ':') {
    const size_t end = text.find_first_of("/?#");
    url.port = ParsePort(text.substr(1, end == std::string_view::npos ? end : end - 1));
    if (!url.port || *url.port == 0) return std::nullopt;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end);
  }
  if (!text.empty() && text.front() != '/' && text.front() != '?' && text.front() != '#') {
    return std::nullopt;
  }
  url.has_fragment = text.find('#') != std::string_view::npos;
  text = text.substr(0, text.find('#'));
  url.has_query = text.find('?') != std::string_view::npos;
  url.path = text.substr(0, text.find('?'));
  return url;
}

std::optional<size_t> FirstInvalidUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    size_t length = 1;
    uint32_t point = lead;
    if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      point = lead & 0x07;
    } else if (lead >= 0xE0 && lead < 0xF0) {
      length = 3;
      point = lead & 0x0F;
    } else if (lead >= 0xC2 && lead < 0xE0) {
      length = 2;
      point = lead & 0x1F;
    } else if (lead >= 0x80) {
      return i;
    }
    if (i + length > text.size()) return i;
    for (size_t k = 1; k < length; ++k) {
      const auto c = static_cast<unsigned char>(text[i + k]);
      if ((c & 0xC0) != 0x80) return i;
      point = point << 6 | (c & 0x3F);
    }
    const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
    const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
    if (overlong || surrogate || point > 0x10FFFF) return i;
    i += length;
  }
  return std::nullopt;
}

bool HasControlCharacter(std::string_view text, std::string_view except) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 || byte == 0x7F) && except.find(c) == std::string_view::npos) return true;
  }
  return false;
}

bool LooksLikeNonText(std::string_view text) {
  const std::string lower = ToLower(text);
  for (const char* word : {"", "~", "null", "true", "false", "yes", "no", "on", "off"}) {
    if (lower == word) return true;
  }
  std::string_view digits = lower;
  if (!digits.empty() && (digits.front() == '+' || digits.front() == '-')) digits.remove_prefix(1);
  if (digits == ".inf" || digits == ".nan") return true;
  int64_t integer = 0;
  if (digits.starts_with("0x") || digits.starts_with("0o")) {
    const int base = digits[1] == 'x' ? 16 : 8;
    const char* const last = digits.data() + digits.size();
    return std::from_chars(digits.data() + 2, last, integer, base).ptr == last;
  }
  return !digits.empty() && (IsDigit(digits.front()) || digits.front() == '.') &&
         ParseNumber(digits).has_value();
}

bool IsToken(std::string_view text) {
  for (const char c : text) {
    if (!IsAlpha(c) && !IsDigit(c) && std::strchr("!#$%&'*+-.^_`|~", c) == nullptr) return false;
    if (c == '\0') return false;
  }
  return !text.empty();
}

std::string ToLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace holdfast::server
