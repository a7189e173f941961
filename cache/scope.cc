#include "cache/scope.h"

#include <openssl/sha.h>

#include <cstdint>
#include <type_traits>
#include <variant>

namespace holdfast::cache {
namespace {

constexpr size_t kLengthBytes = 4;
// Changes when the serialisation does: old entries then belong to no scope that is asked for.
constexpr std::string_view kSerialization = "scope-v1";

// Requests are bounded far below 4 GiB.
void AppendNumber(std::string& out, size_t number) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(number >> shift);
}

void AppendField(std::string& out, std::string_view field) {
  AppendNumber(out, field.size());
  out += field;
}

void AppendPart(std::string& out, const core::Part& part) {
  out += static_cast<char>('0' + part.index());
  std::visit(
      [&out](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, core::Text>) {
          AppendField(out, value.text);
        } else if constexpr (std::is_same_v<T, core::Image>) {
          AppendField(out, value.url);
          AppendField(out, value.bytes);
          AppendField(out, value.mime_type);
        } else if constexpr (std::is_same_v<T, core::ToolCall>) {
          AppendField(out, value.id);
          AppendField(out, value.name);
          AppendField(out, value.arguments);
        } else {
          static_assert(std::is_same_v<T, core::ToolResult>);
          AppendField(out, value.tool_call_id);
          AppendField(out, value.name);
          AppendField(out, value.content);
          out += value.is_error ? '1' : '0';
        }
      },
      part);
}

void AppendEarlierTurns(std::string& out, const core::Request& request,
                        const core::Patterns& ignored) {
  const size_t earlier = request.messages.size() - 1;
  AppendNumber(out, earlier);
  for (size_t i = 0; i < earlier; ++i) {
    const core::Message& message = request.messages[i];
    AppendField(out, core::Name(message.role));
    AppendNumber(out, message.parts.size());
    for (const core::Part& part : message.parts) {
      const auto* text = std::get_if<core::Text>(&part);
      if (message.role == core::Role::kSystem && text != nullptr && !ignored.empty()) {
        AppendPart(out, core::Text{ignored.Blank(text->text)});
      } else {
        AppendPart(out, part);
      }
    }
  }
}

void AppendTools(std::string& out, const core::Request& request) {
  AppendNumber(out, request.tools.size());
  for (const core::Tool& tool : request.tools) {
    AppendField(out, tool.name);
    AppendField(out, tool.description);
    AppendField(out, tool.parameters);
  }
  if (request.tools.empty()) return;
  // How the tools may be used belongs to them: forced and forbidden ones give other answers.
  AppendNumber(out, static_cast<size_t>(request.tool_choice.kind));
  AppendField(out, request.tool_choice.name);
}

void AppendResponseFormat(std::string& out, const core::ResponseFormat& format) {
  AppendNumber(out, static_cast<size_t>(format.kind));
  AppendField(out, format.name);
  AppendField(out, format.schema);
}

std::optional<std::string_view> ReadField(std::string_view& in) {
  if (in.size() < kLengthBytes) return std::nullopt;
  size_t size = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) size = size << 8 | static_cast<uint8_t>(in[i]);
  in.remove_prefix(kLengthBytes);
  if (in.size() < size) return std::nullopt;
  const std::string_view field = in.substr(0, size);
  in.remove_prefix(size);
  return field;
}

}  // namespace

ScopeSource DescribeScope(const core::Request& request, const core::Patterns& ignored) {
  ScopeSource source{request.tenant, request.route, std::string(kSerialization)};
  AppendEarlierTurns(source.rest, request, ignored);  // the system prompt is one of them
  AppendTools(source.rest, request);
  AppendResponseFormat(source.rest, request.response_format);
  return source;
}

std::string ScopeKey(const ScopeSource& source) {
  return RoutePrefix(source.tenant, source.route) + Sha256(source.rest);
}

std::string TenantPrefix(std::string_view tenant) {
  std::string prefix;
  AppendField(prefix, tenant);
  return prefix;
}

std::string RoutePrefix(std::string_view tenant, std::string_view route) {
  std::string prefix = TenantPrefix(tenant);
  AppendField(prefix, route);
  return prefix;
}

std::optional<ParsedScope> ParseScope(std::string_view key) {
  std::string_view rest = key;
  const auto tenant = ReadField(rest);
  if (!tenant) return std::nullopt;
  const auto route = ReadField(rest);
  if (!route || rest.size() < SHA256_DIGEST_LENGTH) return std::nullopt;
  return ParsedScope{*tenant, *route, key.size() - rest.size() + SHA256_DIGEST_LENGTH};
}

std::string Sha256(std::string_view data) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), data.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

}  // namespace holdfast::cache
