// Problems typed on a command line: "b1 t1024|4096 h8 d64 p2 bf16".
#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "harness/error.hpp"
#include "harness/suite.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

// The words that stand for one position of the typed problem.
struct Alternatives {
  std::string field;
  std::vector<std::string> words;
  std::vector<std::string> values;
};

constexpr std::string_view digits = "0123456789";

constexpr std::array<std::pair<std::string_view, std::string_view>, 9> flag_fields{{{"bf16", "dtype"},
                                                                                    {"fp16", "dtype"},
                                                                                    {"fp32", "dtype"},
                                                                                    {"sum", "normalisation"},
                                                                                    {"none", "normalisation"},
                                                                                    {"bthd", "layout"},
                                                                                    {"bhtd", "layout"},
                                                                                    {"gated", "gated"},
                                                                                    {"ungated", "gated"}}};

// The field that a word sets: a flag's, or the letters before the first digit. "4096" alone sets none.
std::string_view field_of(std::string_view word) {
  for (const auto& [flag, field] : flag_fields) {
    if (flag == word) return field;
  }
  return word.substr(0, std::min(word.find_first_of(digits), word.size()));
}

// "t1024|4096" -> t: t1024, t4096; "bf16|fp16" -> dtype: bf16, fp16. Words that are no part of a problem are left for Problem::parse to
// name.
Alternatives alternatives_of(std::string_view typed) {
  if (typed.find('|') == std::string_view::npos) return {{}, {std::string(typed)}, {}};
  Alternatives out;
  for (const std::string_view part : words_of(typed, "|")) {
    const std::string_view field = field_of(part);
    if (out.words.empty()) out.field = field;
    if (!field.empty() && field != out.field) {
      throw std::invalid_argument(fmt::format("'{}' lists values of both {} and {}", typed, out.field, field));
    }
    const bool size = part.starts_with(out.field) && part.size() > out.field.size();  // "t64", but not "gated"
    out.words.push_back(field.empty() ? out.field + std::string(part) : std::string(part));
    out.values.emplace_back(size && !field.empty() ? part.substr(out.field.size()) : part);
  }
  if (std::set(out.words.begin(), out.words.end()).size() != out.words.size()) {
    throw std::invalid_argument(fmt::format("'{}' lists a value twice", typed));
  }
  if (out.words.size() < 2) throw std::invalid_argument(fmt::format("'{}' does not list two values or more", typed));
  return out;
}

void expand(const std::vector<Alternatives>& typed, std::size_t next, const SuiteProblem& so_far, Suite& suite) {
  if (next == typed.size()) {
    SuiteProblem problem = so_far;
    problem.problem = Problem::parse(problem.name);
    if (const auto reason = problem.problem.invalid()) throw std::invalid_argument(*reason);
    suite.problems.push_back(std::move(problem));
    return;
  }
  const Alternatives& position = typed[next];
  for (std::size_t i = 0; i < position.words.size(); ++i) {
    SuiteProblem problem = so_far;
    problem.name += (problem.name.empty() ? "" : " ") + position.words[i];
    if (position.words.size() > 1) problem.axes.emplace_back(position.field, position.values[i]);
    expand(typed, next + 1, problem, suite);
  }
}

}  // namespace

Suite suite_of(const std::vector<std::string>& problems) {
  Suite suite{"command line", {}, {}};
  for (const std::string& text : problems) {
    std::vector<Alternatives> typed;
    try {
      for (const std::string_view word : words_of(text, " \t\r\n,")) typed.push_back(alternatives_of(word));
      expand(typed, 0, {{}, text, {}, {}}, suite);
    } catch (const std::invalid_argument& error) {
      throw Error(ExitCode::bad_input, fmt::format("problem \"{}\": {}", text, error.what()));
    }
    suite.text += text + "\n";
  }
  return suite;
}

}  // namespace phitune
