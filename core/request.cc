#include "core/request.h"

#include "core/answer_cache.h"

namespace holdfast::core {

PromptSize MeasurePrompt(const Request& request) {
  PromptSize size;
  for (const Message& message : request.messages) {
    for (const Part& part : message.parts) {
      if (const auto* text = std::get_if<Text>(&part)) {
        size.text_bytes += text->text.size();
      } else if (std::holds_alternative<Image>(part)) {
        ++size.images;
      } else if (const auto* call = std::get_if<ToolCall>(&part)) {
        size.text_bytes += call->name.size() + call->arguments.size();
      } else {
        size.text_bytes += std::get<ToolResult>(part).content.size();
      }
    }
  }
  for (const Tool& tool : request.tools) {
    size.text_bytes += tool.name.size() + tool.description.size() + tool.parameters.size();
  }
  size.text_bytes += request.response_format.schema.size();
  return size;
}

bool AnswerCache::Cacheable(const Request& request) {
  const Message& last = request.messages.back();
  return last.role == Role::kUser && last.parts.size() == 1 &&
         std::holds_alternative<Text>(last.parts.front());
}

}  // namespace holdfast::core
