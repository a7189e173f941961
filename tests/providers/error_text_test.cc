#include "providers/error_text.h"

#include <gtest/gtest.h>

#include "providers/utf8.h"

namespace holdfast::providers {
namespace {

const std::vector<std::string> kSecrets = {"abc123def456", "key"};

TEST(ErrorText, BoundedAtACharacter) {
  EXPECT_EQ(CleanErrorText(std::string(511, 'x'), {}).size(), 511u);
  EXPECT_EQ(CleanErrorText(std::string(512, 'x'), {}).size(), 512u);
  EXPECT_EQ(CleanErrorText(std::string(513, 'x'), {}).size(), 512u);
  EXPECT_EQ(CleanErrorText(std::string(511, 'x') + "é", {}).size(), 511u);
  EXPECT_EQ(CleanErrorText(std::string(510, 'x') + "é", {}).size(), 512u);
}

TEST(ErrorText, OneLineOfValidUtf8) {
  EXPECT_EQ(CleanErrorText(" a\r\n\tb\x1b[31m\x7f c\xFF\xC2\x85 d ", {}), "a b [31m c\uFFFD d");
  EXPECT_EQ(CleanErrorText("", {}), "");
}

TEST(ErrorText, NoKeys) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"Incorrect API key provided: sk-proj-abcDEF_123-456. You can find it",
       "Incorrect API key provided: ***. You can find it"},
      {"Incorrect API key provided: sk-ab***************wxyz.", "Incorrect API key provided: ***."},
      {"bad key 'gateway-ab****yz'", "bad key '***'"},
      {"key=AIzaSyA-1234567890_abc&x", "key=***&x"},
      {"token abc123def456 refused", "token *** refused"},
      {"xabc123def456y", "***"},
      {"gsk_abcdefgh", "***"},
      {"a risk-based, task-specific key", "a risk-based, task-specific key"},
      {"model sk-", "model sk-"}};
  for (const auto& [text, clean] : cases) EXPECT_EQ(CleanErrorText(text, kSecrets), clean);
}

TEST(ErrorText, AKeyAtTheBoundIsMaskedBeforeTheCut) {
  const std::string text = std::string(506, ' ') + std::string(506, 'x') + " abc123def456";
  EXPECT_EQ(CleanErrorText(text, kSecrets).find("abc1"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::providers
