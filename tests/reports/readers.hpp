// Small independent readers that prove the exports valid. They share no code with the writers.
#pragma once

#include <cctype>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace phitune::readers {

/// Rows of RFC 4180 text. Throws std::runtime_error saying where it is not.
inline std::vector<std::vector<std::string>> csv(std::string_view text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::size_t at = 0;
  while (at < text.size()) {
    std::string cell;
    if (text[at] == '"') {
      for (++at;; ++at) {
        if (at >= text.size()) throw std::runtime_error("a quoted cell does not end");
        if (text[at] != '"')
          cell.push_back(text[at]);
        else if (at + 1 < text.size() && text[at + 1] == '"')
          cell.push_back(text[at++]);
        else
          break;
      }
      ++at;
    } else {
      while (at < text.size() && text[at] != ',' && text[at] != '\r') {
        if (text[at] == '"' || text[at] == '\n') throw std::runtime_error("a quote or line end in a bare cell");
        cell.push_back(text[at++]);
      }
    }
    row.push_back(std::move(cell));
    if (at < text.size() && text[at] == ',') {
      ++at;
      if (at == text.size()) throw std::runtime_error("the last row does not end");
      continue;
    }
    if (text.substr(at, 2) != "\r\n") throw std::runtime_error("a row does not end with CR LF");
    at += 2;
    rows.push_back(std::move(row));
    row.clear();
  }
  return rows;
}

/// Checks that every tag of a page is closed in order, attributes are quoted and text holds no stray angle bracket or ampersand. Returns
/// what is wrong; empty: nothing is.
inline std::string html_fault(std::string_view page) {
  std::vector<std::string> open;
  const std::string_view empty_tags[] = {"meta", "br", "hr", "img", "link", "input"};
  for (std::size_t at = 0; at < page.size();) {
    if (page[at] == '&') {
      const auto end = page.find(';', at);
      if (end == std::string_view::npos || end - at > 8)
        return "an ampersand that starts no entity near: " + std::string(page.substr(at, 40));
      at = end + 1;
      continue;
    }
    if (page[at] == '>') return "a stray > near: " + std::string(page.substr(at > 40 ? at - 40 : 0, 60));
    if (page[at] != '<') {
      ++at;
      continue;
    }
    std::size_t end = at + 1;
    bool quoted = false;
    while (end < page.size() && (quoted || page[end] != '>')) {
      if (page[end] == '<') return "a < inside a tag near: " + std::string(page.substr(at, 60));
      if (page[end] == '"') quoted = !quoted;
      ++end;
    }
    if (end >= page.size()) return "a tag does not end near: " + std::string(page.substr(at, 60));
    const std::string_view tag = page.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag.starts_with('!')) continue;
    if (tag.ends_with('/')) continue;
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1))
        return "</" + std::string(tag.substr(1)) + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
      continue;
    }
    const std::string name(tag.substr(0, tag.find_first_of(" \n")));
    bool is_empty = false;
    for (const auto e : empty_tags) is_empty = is_empty || e == name;
    if (is_empty) continue;
    open.push_back(name);
    if (name != "style") continue;
    // A style sheet is not markup up to its end tag.
    at = page.find("</style>", at);
    if (at == std::string_view::npos) return "a style sheet does not end";
  }
  return open.empty() ? "" : "<" + open.back() + "> is not closed";
}

}  // namespace phitune::readers
