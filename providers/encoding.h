#pragma once

// What the wire formats share when they write a request. Pure functions, any thread.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "core/request.h"
#include "providers/provider_options.h"

namespace holdfast::providers {

// Keeps the order of keys: a JSON Schema's order of properties steers the model.
using Json = nlohmann::ordered_json;

// The checks that are the same for all kinds, by what `model` says it can.
std::optional<std::string> CommonInexpressible(const core::Request& request,
                                               const ModelOptions& model, size_t max_stop);

// `text` as an object; nothing if it is something else, or nested too deeply to be handled.
std::optional<Json> ParseObject(std::string_view text);
// The same, with an empty object for what is none.
Json ParseObjectOrEmpty(std::string_view text);

// The tool's schema; an object without properties if it has none.
Json ToolSchema(const core::Tool& tool);

std::string Dump(const Json& json);

// All text parts, one after the other.
std::string JoinText(const core::Message& message, std::string_view separator);

// The texts of all system messages, a blank line between them.
std::string JoinSystem(const core::Request& request);

bool HasImage(const core::Message& message);

// An image as the request names it: its bytes, raw or in base64, with their type, or else a URL. A
// base64 data: URL counts as bytes. Views of the core::Image.
struct ImageSource {
  std::string_view mime_type;
  std::string_view bytes;
  std::string_view base64;
  std::string_view url;

  std::string Base64() const;  // of either
};
ImageSource ReadImage(const core::Image& image);

// Whether `fits` holds for every image of the request.
template <typename Fits>
bool EveryImage(const core::Request& request, Fits fits) {
  for (const core::Message& message : request.messages) {
    for (const core::Part& part : message.parts) {
      const auto* image = std::get_if<core::Image>(&part);
      if (image != nullptr && !fits(ReadImage(*image))) return false;
    }
  }
  return true;
}

// `name` with everything but letters, digits, '_' and '-' replaced by '_', at most 64 long.
std::string SafeName(std::string_view name);

}  // namespace holdfast::providers
