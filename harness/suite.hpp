// The problems that a sweep tunes, read from TOML. docs/cli.md and data/suites/paper.toml show the form.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "search/problem.hpp"

namespace phitune {

/// One problem of a suite. A list in the file is an axis: each of its values gives a problem, named "headline[t=4096]".
struct SuiteProblem {
  std::string name;                                       // unique in the suite
  std::string family;                                     // the name without axes: "headline"
  std::vector<std::pair<std::string, std::string>> axes;  // field and value: {"t", "4096"}; empty without lists
  Problem problem;
};

struct Suite {
  std::string name;                    // file stem, or the file's own name key; "command line" for problems typed there
  std::string text;                    // what it was read from, verbatim
  std::vector<SuiteProblem> problems;  // in file order; the first axis of a problem varies slowest
};

/// Fields of a problem in TOML: b, t, h (or hq and hk), d, e (defaults to d), p: whole numbers; dtype, normalisation, layout: text; gated,
/// initial_state, final_state: booleans; every one a value or a list of values. At the top level they are defaults for all problems; each
/// [[problem]] needs a name and may override them. Lists in one table are expanded as their Cartesian product, in file order, defaults
/// first. Throws Error(bad_input) with "source:line:column": an unknown key (and the nearest known one), a value of the wrong type or out
/// of range, a repeated name, a suite without problems, and any expanded problem that no plan can compute (Problem::invalid), by name with
/// the reason.
[[nodiscard]] Suite parse_suite(std::string_view toml, const std::string& source);

/// parse_suite of a file. Throws Error(io) when it cannot be read.
[[nodiscard]] Suite load_suite(const std::filesystem::path& path);

/// A suite of problems typed on a command line, each in the form of Problem::parse, in which '|' lists the values of an axis:
/// "b1 t1024|4096 h8 d64 p2 bf16|fp16". Each problem's name is its own text. Throws Error(bad_input) naming the problem and the wrong word.
[[nodiscard]] Suite suite_of(const std::vector<std::string>& problems);

/// Over names and problem keys: equal suites have equal hashes on every machine, however they were written. 16 hex digits.
[[nodiscard]] std::string suite_hash(const Suite& suite);

}  // namespace phitune
