#pragma once

// What it takes to put text on a terminal: colours, tables, and making text from elsewhere
// harmless. Pure functions and values, from any thread.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::ctl {

enum class Colour { kPlain, kBold, kDim, kRed, kGreen, kYellow, kCyan };

// Wraps text in colours, or leaves it alone where there are none to be.
class Paint {
 public:
  explicit Paint(bool coloured) : coloured_(coloured) {}
  std::string operator()(Colour colour, std::string_view text) const;

 private:
  bool coloured_;
};

bool IsValidUtf8(std::string_view text);

// Text of several lines whose control characters could steer a terminal are shown as \x1b; line
// feeds and tabs stay, CRLF becomes LF, bytes that are no UTF-8 are shown as \xff.
std::string EscapeText(std::string_view text);

// The same in one line: line feeds, tabs and carriage returns are shown as \n, \t, \r.
std::string EscapeLine(std::string_view text);

// A JSON document in which DEL and the C1 controls, which JSON does not demand to be escaped, are.
std::string EscapeJson(std::string_view json);

struct Cell {
  std::string text;
  Colour colour = Colour::kPlain;
};

// Left-aligned columns, two blanks apart. Cells are escaped as lines.
class Table {
 public:
  explicit Table(size_t indent) : indent_(indent) {}
  void Add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  // Leaves out columns that are empty in all rows; with a heading, in all but the first.
  std::string ToString(const Paint& paint, bool has_heading) const;

 private:
  size_t indent_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace holdfast::ctl
