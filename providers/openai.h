#pragma once

// Chat Completions, as OpenAI has it and as Azure, vLLM, llama.cpp, Ollama, Groq, Together,
// Mistral, DeepSeek and OpenRouter speak it, with the liberties they take.

#include <memory>

#include "providers/wire_format.h"

namespace holdfast::providers {

std::unique_ptr<WireFormat> MakeOpenAiFormat(const ModelOptions& model);

}  // namespace holdfast::providers
