#include "server/config/yaml_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "tests/server/config/config_testing.h"

namespace holdfast::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<std::string> TreeFaults(const std::string& text) {
  std::vector<Fault> faults;
  ParseYaml("t.yaml", text, faults);
  std::vector<std::string> shown;
  for (const Fault& fault : faults) shown.push_back(Format(fault));
  return shown;
}

TEST(YamlTreeTest, KnowsWhereEverythingStands) {
  std::vector<Fault> faults;
  const Node root = ParseYaml("t.yaml", "a: 1\nb:\n  - {é: x, c: \"y\"}\nd:\n", faults);
  EXPECT_THAT(faults, IsEmpty());
  ASSERT_EQ(root.members.size(), 3u);
  EXPECT_EQ(root.members[0].value.at, (Position{1, 4}));
  const Node& map = root.members[1].value.items[0];
  EXPECT_EQ(map.at, (Position{3, 5}));
  EXPECT_EQ(map.members[1].at, (Position{3, 12}));  // in characters, not bytes
  EXPECT_TRUE(map.members[0].value.plain);
  EXPECT_FALSE(map.members[1].value.plain);
  EXPECT_EQ(root.members[2].value.kind, Node::Kind::kNull);
  EXPECT_EQ(root.members[2].value.at, (Position{4, 1}));  // an empty value stands at its key
}

TEST(YamlTreeTest, WindowsLineEndsAndByteOrderMark) {
  std::vector<Fault> faults;
  const Node root = ParseYaml("t.yaml",
                              "\xEF\xBB\xBF"
                              "a: 1\r\nb: 2\r\n",
                              faults);
  EXPECT_THAT(faults, IsEmpty());
  ASSERT_EQ(root.members.size(), 2u);
  EXPECT_EQ(root.members[0].key, "a");
  EXPECT_EQ(root.members[1].value.text, "2");
  EXPECT_EQ(root.members[1].value.at, (Position{2, 4}));
}

TEST(YamlTreeTest, SyntaxFaultsHaveTheirPlace) {
  EXPECT_THAT(TreeFaults("a: b: c\n"), ElementsAre(StartsWith("t.yaml:1:5: not valid YAML: ")));
  EXPECT_THAT(TreeFaults("a: [1, 2\nb: 3\n"), ElementsAre(StartsWith("t.yaml:2:2: ")));
  EXPECT_THAT(TreeFaults("a:\n\tb: 1\n"), ElementsAre(HasSubstr("not indented by tabs")));
  EXPECT_THAT(TreeFaults("a: {b: ${X}}\n"), ElementsAre(HasSubstr("in quotes")));
  EXPECT_THAT(TreeFaults("@x\n"), ElementsAre(StartsWith("t.yaml:1:1: ")));
}

TEST(YamlTreeTest, AQuoteThatNeverEnds) {
  EXPECT_THAT(TreeFaults("a: 1\nb: \"x\n"),
              ElementsAre("t.yaml:2:4: the quote that opens here is never closed"));
  EXPECT_THAT(TreeFaults("b: 'x''\n"), ElementsAre(HasSubstr("never closed")));
  EXPECT_THAT(TreeFaults("b: \"x\\\"\n"), ElementsAre(HasSubstr("never closed")));
  EXPECT_THAT(TreeFaults("b: 'it''s'\nc: \"\\\"\"\nd: |\n  \"x\n"), IsEmpty());
}

TEST(YamlTreeTest, EmptyFiles) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "~\n", "null\n"}) {
    EXPECT_THAT(TreeFaults(text), ElementsAre("t.yaml:1:1: the file is empty")) << text;
  }
}

TEST(YamlTreeTest, AnchorsAliasesTagsAndDocuments) {
  EXPECT_THAT(TreeFaults("a: &x 1\nb: *x\n<<: *x\n"),
              ElementsAre("t.yaml:1:4: anchors (&name) are not supported: write the value out",
                          "t.yaml:2:4: aliases (*name) are not supported: write the value out",
                          "t.yaml:3:5: aliases (*name) are not supported: write the value out"));
  EXPECT_THAT(TreeFaults("a: !!str 5\n"),
              ElementsAre("t.yaml:1:4: tags (!name) are not supported"));
  EXPECT_THAT(TreeFaults("a: 1\n---\nb: 2\n"), ElementsAre(HasSubstr("one document")));
  // yaml-cpp alone finds documents without end in this.
  EXPECT_THAT(TreeFaults("!,\r[\""), testing::Contains(HasSubstr("one document")));
  EXPECT_THAT(TreeFaults("? [a, b]\n: 1\n"), ElementsAre(HasSubstr("a key must be")));
}

TEST(YamlTreeTest, BytesThatAreNoText) {
  EXPECT_THAT(TreeFaults(std::string("a: 1\nb: x\0y\n", 11)),
              ElementsAre("t.yaml:2:5: a control character is not allowed"));
  // yaml-cpp takes this one for the end of the file.
  EXPECT_THAT(TreeFaults("a: 1\n\x04\nb: 2\n"), ElementsAre(StartsWith("t.yaml:2:1: ")));
  EXPECT_THAT(TreeFaults("a: \xFF\n"), ElementsAre("t.yaml:1:4: the file is not valid UTF-8"));
  EXPECT_THAT(TreeFaults(std::string("\xFF\xFE"
                                     "a\0",
                                     4)),
              ElementsAre(HasSubstr("UTF-8")));
}

TEST(YamlTreeTest, HostileSizesAreBounded) {
  std::string laughs = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string last = std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + last + ", *a" + last +
              "]\n";
  }
  EXPECT_FALSE(TreeFaults(laughs).empty());
  for (const char* opening :
       {"[", "{a: ", "- ", "? ", "[{", "!!x &a ", "\"", "'", "|", ">", "*", "&"}) {
    std::string text;
    while (text.size() < 200'001) text += opening;
    EXPECT_FALSE(TreeFaults(text).empty()) << opening;
  }
  EXPECT_THAT(TreeFaults(std::string(kMaxFileBytes + 1, ' ')),
              ElementsAre("t.yaml: the file is larger than 4MiB"));
  EXPECT_THAT(TreeFaults("a: " + std::string(1 << 20, 'x') + "\n"), IsEmpty());
}

TEST(YamlTreeTest, DepthHasALimit) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']') + "\n";
  };
  EXPECT_THAT(TreeFaults(nested(kMaxDepth)), IsEmpty());
  EXPECT_THAT(TreeFaults(nested(kMaxDepth + 1)),
              ElementsAre(HasSubstr("nested more than 32 deep")));
}

// Random bytes of YAML's own alphabet must never crash, throw or hang.
TEST(YamlTreeTest, NoiseNeverEscapes) {
  const std::string alphabet = "ab:-?[]{},#&*!|>'\"%@` \n\t\r\\0$\xC3\xA9~<.";
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    std::string text;
    for (unsigned i = random() % 120; i > 0; --i) text += alphabet[random() % alphabet.size()];
    std::vector<Fault> faults;
    const Node root = ParseYaml("t.yaml", text, faults);
    if (faults.empty()) EXPECT_NE(root.kind, Node::Kind::kBroken) << seed;
  }
}

}  // namespace
}  // namespace holdfast::server
