#include "tools/simprovider/embeddings.h"

#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "tools/simprovider/request_json.h"
#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

constexpr int64_t kMaxDimensions = 4096;

ApiError Invalid(std::string message, std::string param) {
  ApiError error;
  error.type = "invalid_request_error";
  error.message = std::move(message);
  error.param = std::move(param);
  return error;
}

void AddFeature(std::string_view feature, float weight, std::vector<float>& vector) {
  const uint64_t hash = Mix(HashOf(feature));
  vector[hash % vector.size()] += (hash >> 63) != 0 ? weight : -weight;
}

std::string Base64(const std::vector<float>& vector) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string raw(vector.size() * sizeof(float), '\0');
  std::memcpy(raw.data(), vector.data(), raw.size());
  std::string out;
  for (size_t i = 0; i < raw.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) {
      bits = bits << 8 | (i + j < raw.size() ? static_cast<unsigned char>(raw[i + j]) : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += i + j > raw.size() ? '=' : kDigits[bits >> (18 - 6 * j) & 63];
    }
  }
  return out;
}

std::string VectorJson(const std::vector<float>& vector, bool base64) {
  if (base64) return "\"" + Base64(vector) + "\"";
  std::string out = "[";
  for (size_t i = 0; i < vector.size(); ++i) {
    char number[32];
    std::snprintf(number, sizeof(number), i == 0 ? "%.8g" : ",%.8g",
                  static_cast<double>(vector[i]));
    out += number;
  }
  out += ']';
  return out;
}

}  // namespace

EmbeddingRequest ParseEmbeddingRequest(const HttpRequest& http) {
  EmbeddingRequest request;
  const auto root = ParseObject(http.body);
  if (!root) {
    request.error = Invalid("We could not parse the JSON body of your request.", "");
    return request;
  }
  request.chat.model = StringMember(*root, "model");
  request.base64 = StringMember(*root, "encoding_format") == "base64";
  const int64_t dimensions = IntMember(*root, "dimensions", 384);
  const auto input = Member(*root, "input");
  if (input && input->is_string()) request.inputs.emplace_back(StringMember(*root, "input"));
  if (const auto list = ArrayMember(*root, "input")) {
    for (const JsonValue item : *list) {
      request.inputs.emplace_back(item.is_string() ? std::string(std::string_view(item))
                                                   : RawJson(item));
    }
  }
  if (request.chat.model.empty()) {
    request.error = Invalid("you must provide a model parameter", "");
  } else if (request.inputs.empty()) {
    request.error = Invalid(
        "'$.input' is invalid. Please check the API reference: "
        "https://platform.openai.com/docs/api-reference.",
        "input");
  } else if (dimensions < 1 || dimensions > kMaxDimensions) {
    request.error = Invalid("Invalid value for 'dimensions'.", "dimensions");
  } else {
    request.dimensions = static_cast<int>(dimensions);
  }
  return request;
}

std::vector<float> Embed(std::string_view text, int dimensions) {
  std::vector<float> vector(static_cast<size_t>(dimensions), 0.0F);
  std::string word;
  const auto finish_word = [&] {
    if (word.empty()) return;
    AddFeature(word, 1.0F, vector);
    const std::string padded = "<" + word + ">";
    for (size_t i = 0; i + 3 <= padded.size(); ++i) {
      AddFeature(std::string_view(padded).substr(i, 3), 0.4F, vector);
    }
    word.clear();
  };
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte)) {
      word += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    } else {
      finish_word();
    }
  }
  finish_word();
  double squares = 0;
  for (float value : vector) squares += static_cast<double>(value) * static_cast<double>(value);
  if (squares == 0) {
    vector[0] = 1.0F;
    return vector;
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares));
  for (float& value : vector) value *= scale;
  return vector;
}

Played PlayEmbeddings(const EmbeddingRequest& request, const Stamp& stamp) {
  std::string body = "{\"object\":\"list\",\"data\":[";
  int tokens = 0;
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    if (i > 0) body += ',';
    body += "{\"object\":\"embedding\",\"index\":" + std::to_string(i) + ",\"embedding\":";
    body += VectorJson(Embed(request.inputs[i], request.dimensions), request.base64) + "}";
    tokens += TokensOfBytes(request.inputs[i].size());
  }
  body += "],\"model\":" + Quoted(request.chat.model) +
          ",\"usage\":{\"prompt_tokens\":" + std::to_string(tokens) +
          ",\"total_tokens\":" + std::to_string(tokens) + "}}";
  Played played;
  played.status = 200;
  played.reply.Add(WholeResponse(200, "application/json", OpenAiWire().Headers(stamp), body));
  return played;
}

}  // namespace simprovider
