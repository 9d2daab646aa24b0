#include "harness/suite.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>
#include <toml++/toml.h>

#include "harness/error.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

// More problems than this in one suite is a list too many, not a plan.
constexpr std::size_t max_problems = 10000;

constexpr std::array<std::string_view, 15> field_names{
    "b", "t", "h", "hq", "hk", "d", "e", "p", "dtype", "normalisation", "layout", "initial_state", "final_state", "gated", "name"};

// Where a thing stands in the file, for messages.
struct Place {
  const std::string* source = nullptr;
  toml::source_position position;
};

[[noreturn]] void fail(const Place& place, const std::string& what) {
  throw Error(ExitCode::bad_input, fmt::format("{}:{}:{}: {}", *place.source, place.position.line, place.position.column, what));
}

// One field as written: a value, or a list of them.
struct Field {
  std::string name;
  Place place;
  std::vector<const toml::node*> values;
  bool axis = false;
};

std::string printed(const toml::node& value) {
  if (const auto* text = value.as_string()) return text->get();
  if (const auto* number = value.as_integer()) return std::to_string(number->get());
  if (const auto* truth = value.as_boolean()) return truth->get() ? "true" : "false";
  std::ostringstream type;
  type << "a value of type " << value.type();
  return type.str();
}

// Reads the values of one table in file order; toml++ keeps tables sorted by key.
class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& source) : source_(source) {
    for (const auto& [key, node] : table) keys_.push_back({key, &node});
    std::ranges::sort(keys_, {},
                      [](const Entry& entry) { return std::pair(entry.key.source().begin.line, entry.key.source().begin.column); });
  }

  // `skipped` are keys that are no fields of a problem here and are read elsewhere.
  std::vector<Field> fields(std::span<const std::string_view> skipped) const {
    std::vector<Field> fields;
    for (const auto& [key, node] : keys_) {
      if (std::ranges::find(skipped, key.str()) != skipped.end()) continue;
      const Place place{&source_, key.source().begin};
      check_known(key.str(), place, skipped);
      fields.push_back(read(std::string(key.str()), place, *node));
    }
    return fields;
  }

 private:
  struct Entry {
    toml::key key;
    const toml::node* node;
  };

  static void check_known(std::string_view key, const Place& place, std::span<const std::string_view> skipped) {
    std::vector<std::string_view> known(field_names.begin(), field_names.end());
    known.insert(known.end(), skipped.begin(), skipped.end());
    const bool field = key != "name" && std::ranges::find(field_names, key) != field_names.end();
    if (field) return;
    const auto nearest = nearest_name(key, known);
    fail(place, fmt::format("unknown key '{}'{}", key,
                            nearest ? fmt::format(": did you mean '{}'?", *nearest) : fmt::format("; known are {}", list_names(known))));
  }

  static Field read(std::string name, const Place& place, const toml::node& node) {
    Field field{std::move(name), place, {}, node.is_array()};
    if (const auto* list = node.as_array()) {
      for (const toml::node& value : *list) field.values.push_back(&value);
      if (field.values.empty()) fail(place, fmt::format("'{}' is an empty list: give it at least one value, or leave it out", field.name));
    } else {
      field.values.push_back(&node);
    }
    std::set<std::string> distinct;
    for (const toml::node* value : field.values) {
      if (!distinct.insert(printed(*value)).second) fail(place, fmt::format("'{}' lists {} twice", field.name, printed(*value)));
    }
    return field;
  }

  const std::string& source_;
  std::vector<Entry> keys_;
};

template <typename T>
T value_of(const toml::node& node, const Field& field, std::string_view wanted) {
  if (const auto* value = node.as<T>()) return value->get();
  const Place place{field.place.source, node.source().begin};
  fail(place, fmt::format("'{}' must be {}, not {}{}", field.name, wanted, node.is_string() ? "the text " : "", printed(node)));
}

// Puts one value of a field into the problem.
void assign(Problem& problem, const Field& field, const toml::node& node) {
  const auto number = [&] { return value_of<std::int64_t>(node, field, "a whole number"); };
  const auto truth = [&] { return value_of<bool>(node, field, "true or false"); };
  const auto word = [&] { return value_of<std::string>(node, field, "a text in quotes"); };
  const std::string& name = field.name;
  try {
    if (name == "b")
      problem.b = number();
    else if (name == "t")
      problem.t = number();
    else if (name == "h")
      problem.hq = problem.hk = number();
    else if (name == "hq")
      problem.hq = number();
    else if (name == "hk")
      problem.hk = number();
    else if (name == "d")
      problem.d = number();
    else if (name == "e")
      problem.e = number();
    else if (name == "p")
      problem.p = number();
    else if (name == "dtype")
      problem.dtype = parse_dtype(word());
    else if (name == "normalisation")
      problem.normalisation = parse_normalisation(word());
    else if (name == "layout")
      problem.layout = parse_layout(word());
    else if (name == "gated")
      problem.gated = truth();
    else if (name == "initial_state")
      problem.initial_state = truth();
    else if (name == "final_state")
      problem.final_state = truth();
    else
      throw std::logic_error("no rule for field " + name);
  } catch (const std::invalid_argument& error) {
    fail({field.place.source, node.source().begin}, error.what());
  }
}

bool names(const std::vector<Field>& fields, std::string_view name) {
  return std::ranges::find(fields, name, &Field::name) != fields.end();
}

void check_heads(const std::vector<Field>& fields, const std::string& what) {
  const bool hq = names(fields, "hq");
  const bool hk = names(fields, "hk");
  if (names(fields, "h") && (hq || hk))
    fail(fields.front().place, fmt::format("{} gives both h and {}: h sets hq and hk", what, hq ? "hq" : "hk"));
}

// Defaults that the problem does not override, then the problem's own. h stands for hq and hk, so either way of giving heads overrides the
// other.
std::vector<Field> merged(const std::vector<Field>& defaults, const std::vector<Field>& own) {
  const bool own_heads = names(own, "h") || names(own, "hq") || names(own, "hk");
  const bool own_h = names(own, "h");
  std::vector<Field> fields;
  for (const Field& field : defaults) {
    const bool replaced =
        names(own, field.name) || (own_heads && field.name == "h") || (own_h && (field.name == "hq" || field.name == "hk"));
    if (!replaced) fields.push_back(field);
  }
  fields.insert(fields.end(), own.begin(), own.end());
  return fields;
}

class SuiteReader {
 public:
  SuiteReader(const toml::table& root, std::string_view text, const std::string& source) : source_(source) {
    suite_.text = text;
    suite_.name = std::filesystem::path(source).stem().string();
    defaults_ = TableReader(root, source).fields(top_level_);
    check_heads(defaults_, "the top level");
    if (const toml::node* name = root.get("name")) {
      const Field field{"name", {&source_, name->source().begin}, {}, false};
      suite_.name = value_of<std::string>(*name, field, "a text in quotes");
    }
  }

  Suite read(const toml::table& root) {
    const toml::node* list = root.get("problem");
    const toml::array* tables = list == nullptr ? nullptr : list->as_array();
    if (list != nullptr && (tables == nullptr || (!tables->empty() && !tables->is_homogeneous<toml::table>()))) {
      fail({&source_, list->source().begin}, "'problem' must be tables: write [[problem]] with double brackets");
    }
    if (tables == nullptr || tables->empty()) {
      throw Error(ExitCode::bad_input, fmt::format("{}: no problems: add a [[problem]] table with a name and its fields", source_));
    }
    for (const toml::node& table : *tables) read_problem(*table.as_table());
    return std::move(suite_);
  }

 private:
  void read_problem(const toml::table& table) {
    const Place place{&source_, table.source().begin};
    const toml::node* name = table.get("name");
    if (name == nullptr) fail(place, "this problem has no name: add name = \"...\"");
    const Field name_field{"name", {&source_, name->source().begin}, {}, false};
    const std::string family = value_of<std::string>(*name, name_field, "a text in quotes");
    if (family.empty() || family.find_first_of("[]=,\n") != std::string::npos) {
      fail(name_field.place,
           fmt::format("'{}' cannot be a name: it is empty or has one of []=, (which name the points of an axis)", family));
    }
    if (!families_.insert(family).second)
      fail(name_field.place, fmt::format("a problem named '{}' is there already: names must differ", family));
    const std::vector<Field> own = TableReader(table, source_).fields(in_problem_);
    check_heads(own, fmt::format("problem '{}'", family));
    const std::vector<Field> fields = merged(defaults_, own);
    if (names(fields, "hq") != names(fields, "hk"))
      fail(place, fmt::format("problem '{}' gives one of hq and hk: give both, or h", family));
    check_count(fields, place, family);
    expand(fields, 0, {family, family, {}, {}}, place);
  }

  void check_count(const std::vector<Field>& fields, const Place& place, const std::string& family) const {
    std::size_t count = 1;
    for (const Field& field : fields) {
      count *= field.values.size();
      if (suite_.problems.size() + count > max_problems) {
        fail(place, fmt::format("the lists of problem '{}' bring the suite to more than {} problems", family, max_problems));
      }
    }
  }

  void expand(const std::vector<Field>& fields, std::size_t next, const SuiteProblem& so_far, const Place& place) {
    if (next == fields.size()) {
      finish(fields, so_far, place);
      return;
    }
    const Field& field = fields[next];
    for (const toml::node* value : field.values) {
      SuiteProblem problem = so_far;
      assign(problem.problem, field, *value);
      if (field.axis) problem.axes.emplace_back(field.name, printed(*value));
      expand(fields, next + 1, problem, place);
    }
  }

  void finish(const std::vector<Field>& fields, SuiteProblem problem, const Place& place) {
    if (!names(fields, "e")) problem.problem.e = problem.problem.d;
    std::string point;
    for (const auto& [axis, value] : problem.axes) point += fmt::format("{}{}={}", point.empty() ? "" : ",", axis, value);
    if (!point.empty()) problem.name += fmt::format("[{}]", point);
    if (const auto reason = problem.problem.invalid()) fail(place, fmt::format("problem '{}': {}", problem.name, *reason));
    suite_.problems.push_back(std::move(problem));
  }

  static constexpr std::array<std::string_view, 2> top_level_{"problem", "name"};
  static constexpr std::array<std::string_view, 1> in_problem_{"name"};

  const std::string& source_;
  Suite suite_;
  std::vector<Field> defaults_;
  std::set<std::string> families_;
};

}  // namespace

Suite parse_suite(std::string_view text, const std::string& source) {
  try {
    const toml::table root = toml::parse(text, source);
    return SuiteReader(root, text, source).read(root);
  } catch (const toml::parse_error& error) {
    fail({&source, error.source().begin}, std::string(error.description()));
  }
}

Suite load_suite(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (std::filesystem::is_directory(path) || !file || !(text << file.rdbuf())) {
    throw Error(ExitCode::io,
                fmt::format("cannot read suite '{}': is it the name of a readable TOML file with something in it?", path.string()));
  }
  return parse_suite(text.str(), path.string());
}

std::string suite_hash(const Suite& suite) {
  std::uint64_t hash = fnv1a("suite");
  for (const SuiteProblem& problem : suite.problems) hash = fnv1a(fmt::format("|{}|{}", problem.name, problem.problem.key()), hash);
  return fmt::format("{:016x}", hash);
}

}  // namespace phitune
