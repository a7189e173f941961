#include "providers/encoding.h"

#include <algorithm>

#include "absl/strings/escaping.h"

namespace holdfast::providers {
namespace {

using core::Request;
using core::Role;

constexpr int kMaxDepth = 200;  // nlohmann's writer is recursive

bool TooDeep(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

bool UsesTools(const Request& request) {
  if (!request.tools.empty()) return true;
  for (const core::Message& message : request.messages) {
    for (const core::Part& part : message.parts) {
      if (std::holds_alternative<core::ToolCall>(part)) return true;
      if (std::holds_alternative<core::ToolResult>(part)) return true;
    }
  }
  return false;
}

bool ImagesOutsideUserMessages(const Request& request) {
  return std::any_of(request.messages.begin(), request.messages.end(), [](const auto& message) {
    return message.role != Role::kUser && HasImage(message);
  });
}

std::optional<std::string> SchemaFault(const Request& request) {
  for (const core::Tool& tool : request.tools) {
    if (!tool.parameters.empty() && !ParseObject(tool.parameters)) {
      return "the schema of tool " + tool.name + " is no JSON object or is nested too deeply";
    }
  }
  if (request.response_format.kind == core::ResponseFormat::Kind::kJsonSchema &&
      !ParseObject(request.response_format.schema)) {
    return "the response schema is no JSON object or is nested too deeply";
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> CommonInexpressible(const Request& request, const ModelOptions& model,
                                               size_t max_stop) {
  if (!model.tools && UsesTools(request)) return "tools are not supported";
  const bool has_images = !EveryImage(request, [](const ImageSource&) { return false; });
  if (!model.images && has_images) return "images are not supported";
  if (ImagesOutsideUserMessages(request)) return "images are supported in user messages only";
  if (!model.image_urls && !EveryImage(request, [](const auto& i) { return i.url.empty(); })) {
    return "images by URL are not supported";
  }
  if (!model.json_schema &&
      request.response_format.kind == core::ResponseFormat::Kind::kJsonSchema) {
    return "JSON Schema as response format is not supported";
  }
  if (!model.seed && request.seed) return "seed is not supported";
  if (request.temperature && *request.temperature > model.max_temperature) {
    return "temperature is above this model's maximum";
  }
  const size_t stop_limit = model.max_stop_sequences
                                ? static_cast<size_t>(std::max(*model.max_stop_sequences, 0))
                                : max_stop;
  if (request.stop.size() > stop_limit) return "too many stop sequences";
  return SchemaFault(request);
}

std::optional<Json> ParseObject(std::string_view text) {
  if (TooDeep(text)) return std::nullopt;
  constexpr bool kThrow = false;
  Json json = Json::parse(text.begin(), text.end(), nullptr, kThrow);
  if (!json.is_object()) return std::nullopt;
  return json;
}

Json ParseObjectOrEmpty(std::string_view text) {
  return ParseObject(text).value_or(Json::object());
}

Json ToolSchema(const core::Tool& tool) {
  Json schema = ParseObjectOrEmpty(tool.parameters);
  if (!schema.contains("type")) schema["type"] = "object";
  if (schema["type"] == "object" && !schema.contains("properties")) {
    schema["properties"] = Json::object();
  }
  return schema;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string JoinText(const core::Message& message, std::string_view separator) {
  std::string joined;
  for (const core::Part& part : message.parts) {
    const auto* text = std::get_if<core::Text>(&part);
    if (text == nullptr || text->text.empty()) continue;
    if (!joined.empty()) joined.append(separator);
    joined.append(text->text);
  }
  return joined;
}

std::string JoinSystem(const Request& request) {
  std::string joined;
  for (const core::Message& message : request.messages) {
    if (message.role != Role::kSystem) continue;
    const std::string text = JoinText(message, "\n\n");
    if (text.empty()) continue;
    if (!joined.empty()) joined.append("\n\n");
    joined.append(text);
  }
  return joined;
}

bool HasImage(const core::Message& message) {
  return std::any_of(message.parts.begin(), message.parts.end(), [](const core::Part& part) {
    return std::holds_alternative<core::Image>(part);
  });
}

std::string ImageSource::Base64() const {
  if (!base64.empty()) return std::string(base64);
  return absl::Base64Escape(absl::string_view(bytes.data(), bytes.size()));
}

ImageSource ReadImage(const core::Image& image) {
  if (!image.bytes.empty()) return {.mime_type = image.mime_type, .bytes = image.bytes};
  constexpr std::string_view kScheme = "data:";
  constexpr std::string_view kBase64 = ";base64";
  const std::string_view url = image.url;
  const size_t comma = url.find(',');
  if (url.starts_with(kScheme) && comma != std::string_view::npos) {
    const std::string_view head = url.substr(kScheme.size(), comma - kScheme.size());
    if (head.ends_with(kBase64)) {
      return {.mime_type = head.substr(0, head.find(';')), .base64 = url.substr(comma + 1)};
    }
  }
  return {.mime_type = image.mime_type, .url = url};
}

std::string SafeName(std::string_view name) {
  std::string safe(name.substr(0, 64));
  for (char& c : safe) {
    const bool fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      c == '_' || c == '-';
    if (!fine) c = '_';
  }
  return safe;
}

}  // namespace holdfast::providers
