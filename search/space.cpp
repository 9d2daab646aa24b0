#include "search/space.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <set>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "search/lazy_shuffle.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

using Indices = std::vector<std::uint16_t>;

constexpr const char* not_listed = "not among the configs listed";

void check_knobs(const std::vector<Knob>& knobs) {
  std::set<std::string> names;
  for (const Knob& knob : knobs) {
    // What Config::text() writes must be readable by Config::parse().
    if (knob.name.empty() || knob.name.find_first_of(" \t\r\n=") != std::string::npos) {
      throw std::invalid_argument(fmt::format("'{}' cannot name a knob: it is empty or has a space or '='", knob.name));
    }
    if (!names.insert(knob.name).second) throw std::invalid_argument(fmt::format("knob '{}' is declared twice", knob.name));
    if (knob.values.empty()) throw std::invalid_argument(fmt::format("knob '{}' has no values", knob.name));
    if (knob.values.size() > std::numeric_limits<std::uint16_t>::max()) {
      throw std::invalid_argument(fmt::format("knob '{}' has {} values: at most 65535", knob.name, knob.values.size()));
    }
    if (std::set(knob.values.begin(), knob.values.end()).size() != knob.values.size()) {
      throw std::invalid_argument(fmt::format("knob '{}' lists a value twice", knob.name));
    }
    if (!knob.labels.empty() && knob.labels.size() != knob.values.size()) {
      throw std::invalid_argument(fmt::format("knob '{}' has {} labels for {} values", knob.name, knob.labels.size(), knob.values.size()));
    }
  }
}

std::size_t knob_index(const std::vector<Knob>& knobs, const std::string& name, const Constraint& constraint) {
  const auto it = std::ranges::find(knobs, name, &Knob::name);
  if (it != knobs.end()) return static_cast<std::size_t>(it - knobs.begin());
  throw std::invalid_argument(fmt::format("constraint \"{}\" reads knob '{}', which does not exist", constraint.reason, name));
}

bool judge(const Constraint& constraint, const Config& seen) {
  try {
    return constraint.holds(seen);
  } catch (const std::out_of_range& error) {
    throw std::invalid_argument(
        fmt::format("constraint \"{}\" reads a knob that it does not declare: {}", constraint.reason, error.what()));
  }
}

// How many leading knobs must be set before the constraint can be judged.
std::size_t depth_of(const std::vector<Knob>& knobs, const Constraint& constraint) {
  std::size_t depth = 0;
  for (const std::string& name : constraint.knobs) depth = std::max(depth, knob_index(knobs, name, constraint) + 1);
  return depth;
}

// A constraint as it is tried: shown the knobs that it declared and no others, so that reading an undeclared one is always found out.
class Rule {
 public:
  Rule(const std::vector<Knob>& knobs, const Constraint& constraint) : constraint_(constraint) {
    for (const std::string& name : constraint.knobs) {
      const std::size_t knob = knob_index(knobs, name, constraint);
      if (std::ranges::find(reads_, knob) == reads_.end()) reads_.push_back(knob);
      seen_.set(name, 0);
    }
    std::uint64_t combinations = 1;
    for (const std::size_t knob : reads_) combinations = std::min(most_remembered + 1, combinations * knobs[knob].values.size());
    if (combinations <= most_remembered) verdicts_.assign(combinations, unknown);
    for (const std::size_t knob : reads_) {
      values_.push_back(&knobs[knob].values);
      places_.push_back(&seen_.place(knobs[knob].name));
    }
  }
  Rule(const Rule&) = delete;  // places_ point into seen_
  Rule& operator=(const Rule&) = delete;

  [[nodiscard]] const std::vector<std::size_t>& reads() const { return reads_; }

  /// `positions` holds at least the knobs that the rule reads.
  bool holds(std::span<const std::uint16_t> positions) {
    if (verdicts_.empty()) return ask(positions);
    std::size_t combination = 0;
    for (std::size_t i = 0; i < reads_.size(); ++i) combination = combination * values_[i]->size() + positions[reads_[i]];
    char& verdict = verdicts_[combination];
    if (verdict == unknown) verdict = ask(positions) ? yes : no;
    return verdict == yes;
  }

 private:
  static constexpr std::uint64_t most_remembered = 1 << 22;
  static constexpr char unknown = 0, yes = 1, no = 2;

  bool ask(std::span<const std::uint16_t> positions) {
    for (std::size_t i = 0; i < reads_.size(); ++i) *places_[i] = (*values_[i])[positions[reads_[i]]];
    return judge(constraint_, seen_);
  }

  const Constraint& constraint_;
  Config seen_;
  std::vector<std::size_t> reads_;
  std::vector<const std::vector<std::int64_t>*> values_;
  std::vector<std::int64_t*> places_;
  std::vector<char> verdicts_;  // per combination of the values read; empty when there are too many
};

struct HashOfPositions {
  std::size_t operator()(const Indices& positions) const {
    return fnv1a(std::string_view(reinterpret_cast<const char*>(positions.data()), positions.size() * sizeof(std::uint16_t)));
  }
};

// Builds the diagram level by level. A node is a set of prefixes that agree on every knob which a rule still to be tried will read.
class Propagation {
 public:
  Propagation(const std::vector<Knob>& knobs, const std::vector<Constraint>& constraints) : knobs_(knobs), removed_(constraints.size(), 0) {
    for (const Constraint& constraint : constraints) {
      rules_.emplace_back(knobs, constraint);
      depths_.push_back(depth_of(knobs, constraint));
    }
    points_below_.assign(knobs.size() + 1, 1);
    for (std::size_t i = knobs.size(); i-- > 0;) points_below_[i] = points_below_[i + 1] * knobs[i].values.size();
  }

  Diagram run() {
    Indices positions(knobs_.size());
    if (refuses(0, positions, 1)) return {};
    nodes_ = {{Indices{}, 1}};
    std::vector<Diagram::Level> levels;
    for (std::size_t knob = 0; knob < knobs_.size(); ++knob) levels.push_back(advance(knob));
    return Diagram(levels);
  }

  [[nodiscard]] const std::vector<std::uint64_t>& removed() const { return removed_; }

 private:
  struct Node {
    Indices kept;         // positions of the knobs that matter later
    std::uint64_t paths;  // prefixes that it stands for
  };

  // Knobs before `depth` that a rule beyond it reads.
  [[nodiscard]] std::vector<std::size_t> kept_at(std::size_t depth) const {
    std::set<std::size_t> kept;
    for (std::size_t i = 0; i < rules_.size(); ++i)
      for (const std::size_t knob : rules_[i].reads())
        if (depths_[i] > depth && knob < depth) kept.insert(knob);
    return {kept.begin(), kept.end()};
  }

  // The first rule that can be tried from `depth` on and does not hold takes the points below.
  bool refuses(std::size_t depth, const Indices& positions, std::uint64_t paths) {
    for (std::size_t i = 0; i < rules_.size(); ++i) {
      if (depths_[i] != depth || rules_[i].holds(positions)) continue;
      removed_[i] += paths * points_below_[depth];
      return true;
    }
    return false;
  }

  Diagram::Level advance(std::size_t knob) {
    const std::vector<std::size_t> before = kept_at(knob), after = kept_at(knob + 1);
    std::vector<Node> next;
    std::unordered_map<Indices, std::uint32_t, HashOfPositions> places;
    Diagram::Level level;
    Indices positions(knobs_.size()), kept(after.size());
    for (const Node& node : nodes_) {
      for (std::size_t i = 0; i < before.size(); ++i) positions[before[i]] = node.kept[i];
      std::vector<std::uint32_t>& successors = level.emplace_back(knobs_[knob].values.size(), Diagram::none);
      for (std::size_t value = 0; value < successors.size(); ++value) {
        positions[knob] = static_cast<std::uint16_t>(value);
        if (refuses(knob + 1, positions, node.paths)) continue;
        for (std::size_t i = 0; i < after.size(); ++i) kept[i] = positions[after[i]];
        const auto [place, is_new] = places.try_emplace(kept, static_cast<std::uint32_t>(next.size()));
        if (is_new) next.push_back({kept, 0});
        next[place->second].paths += node.paths;
        successors[value] = place->second;
      }
    }
    nodes_ = std::move(next);
    return level;
  }

  const std::vector<Knob>& knobs_;
  std::deque<Rule> rules_;
  std::vector<std::size_t> depths_;
  std::vector<std::uint64_t> points_below_, removed_;
  std::vector<Node> nodes_;  // of the level reached
};

// The diagram of sorted rows without repeats.
Diagram diagram_of(const std::vector<Knob>& knobs, const std::vector<Indices>& rows) {
  if (rows.empty()) return {};
  std::vector<Diagram::Level> levels;
  std::vector<std::size_t> first_rows = {0};  // of each node of the level
  for (std::size_t knob = 0; knob < knobs.size(); ++knob) {
    Diagram::Level level;
    std::vector<std::size_t> next;
    const bool last = knob + 1 == knobs.size();
    for (std::size_t n = 0; n < first_rows.size(); ++n) {
      const std::size_t end = n + 1 < first_rows.size() ? first_rows[n + 1] : rows.size();
      std::vector<std::uint32_t>& successors = level.emplace_back(knobs[knob].values.size(), Diagram::none);
      for (std::size_t row = first_rows[n]; row < end; ++row) {
        std::uint32_t& successor = successors[rows[row][knob]];
        if (successor != Diagram::none) continue;
        successor = last ? 0 : static_cast<std::uint32_t>(next.size());
        next.push_back(row);
      }
    }
    levels.push_back(std::move(level));
    first_rows = std::move(next);
  }
  return Diagram(levels);
}

std::optional<std::uint16_t> value_index(const Knob& knob, std::int64_t value) {
  const auto it = std::ranges::find(knob.values, value);
  if (it == knob.values.end()) return std::nullopt;
  return static_cast<std::uint16_t>(it - knob.values.begin());
}

}  // namespace

Space::Space(std::vector<Knob> knobs, std::vector<Constraint> constraints)
    : knobs_(std::move(knobs)), constraints_(std::move(constraints)) {
  check_knobs(knobs_);
  (void)product_size();
  std::ranges::stable_sort(constraints_, {}, [this](const Constraint& constraint) { return depth_of(knobs_, constraint); });
  Propagation propagation(knobs_, constraints_);
  configs_ = propagation.run();
  for (std::size_t i = 0; i < constraints_.size(); ++i) removals_.push_back({constraints_[i].reason, propagation.removed()[i]});
}

Space Space::listed(std::vector<Knob> knobs, const std::vector<Config>& configs) {
  Space space;
  space.knobs_ = std::move(knobs);
  check_knobs(space.knobs_);
  (void)space.product_size();
  std::vector<Indices> rows;
  for (const Config& config : configs) {
    if (const auto reason = space.why_not(config)) throw std::invalid_argument(fmt::format("config '{}': {}", config.text(), *reason));
    Indices indices;
    for (const Knob& knob : space.knobs_) indices.push_back(*value_index(knob, config.at(knob.name)));
    rows.push_back(std::move(indices));
  }
  std::ranges::sort(rows);
  const auto repeated = std::ranges::unique(rows);
  rows.erase(repeated.begin(), repeated.end());
  space.configs_ = diagram_of(space.knobs_, rows);
  space.removals_ = {{not_listed, space.product_size() - space.size()}};
  space.listed_ = true;
  return space;
}

std::uint64_t Space::product_size() const {
  std::uint64_t product = 1;
  for (const Knob& knob : knobs_) {
    if (product > std::numeric_limits<std::uint64_t>::max() / knob.values.size()) {
      throw std::invalid_argument("the product of all knobs has more than 2^64 points");
    }
    product *= knob.values.size();
  }
  return product;
}

Config Space::at(std::size_t index) const {
  Indices at(knobs_.size());
  positions(index, at);
  Config config;
  for (std::size_t i = 0; i < knobs_.size(); ++i) config.set(knobs_[i].name, knobs_[i].values[at[i]]);
  return config;
}

Config Space::completed(Config config) const {
  for (const Knob& knob : knobs()) {
    if (!config.has(knob.name)) config.set(knob.name, knob.values.front());
  }
  return config;
}

std::optional<std::size_t> Space::find(const Config& config) const {
  if (config.values().size() != knobs_.size()) return std::nullopt;
  Indices indices;
  for (const Knob& knob : knobs_) {
    if (!config.has(knob.name)) return std::nullopt;
    const auto value = value_index(knob, config.at(knob.name));
    if (!value) return std::nullopt;
    indices.push_back(*value);
  }
  return find(indices);
}

std::vector<std::size_t> Space::sample(std::size_t count, std::mt19937_64& rng) const {
  LazyShuffle shuffle(size());
  std::vector<std::size_t> indices(std::min(count, size()));
  for (std::size_t& index : indices) index = shuffle.next(rng).value();
  return indices;
}

void Space::positions(std::size_t index, std::span<std::uint16_t> out) const {
  if (index >= size()) throw std::out_of_range(fmt::format("config {} of a space of {}", index, size()));
  configs_.row(index, out);
}

std::optional<std::size_t> Space::find(std::span<const std::uint16_t> positions) const { return configs_.find(positions); }

std::vector<std::size_t> Space::neighbours(std::size_t index) const {
  Indices at(knobs_.size());
  positions(index, at);
  std::vector<std::size_t> found;
  for (std::size_t knob = 0; knob < knobs_.size(); ++knob) {
    const std::uint16_t own = at[knob];
    for (std::size_t value = 0; value < knobs_[knob].values.size(); ++value) {
      if (value == own) continue;
      at[knob] = static_cast<std::uint16_t>(value);
      if (const auto neighbour = find(at)) found.push_back(*neighbour);
    }
    at[knob] = own;
  }
  std::ranges::sort(found);
  return found;
}

std::vector<std::size_t> Space::adjacent(std::size_t index) const {
  Indices at(knobs_.size());
  positions(index, at);
  std::vector<std::size_t> found;
  // A step below 0 wraps around and is beyond every knob's values.
  const auto for_each_step = [&](std::size_t knob, auto&& then) {
    if (knobs_[knob].categorical) return;
    const std::uint16_t own = at[knob];
    for (const int step : {-1, 1}) {
      at[knob] = static_cast<std::uint16_t>(own + step);
      if (at[knob] < knobs_[knob].values.size()) then();
    }
    at[knob] = own;
  };
  const auto keep = [&] {
    if (const auto neighbour = find(at)) found.push_back(*neighbour);
  };
  for (std::size_t first = 0; first < knobs_.size(); ++first) {
    for_each_step(first, [&] {
      keep();
      for (std::size_t second = first + 1; second < knobs_.size(); ++second) for_each_step(second, keep);
    });
  }
  std::ranges::sort(found);
  return found;
}

std::optional<std::string> Space::why_not(const Config& config) const {
  for (const auto& [name, value] : config.values()) {
    if (std::ranges::find(knobs_, name, &Knob::name) == knobs_.end()) return fmt::format("there is no knob '{}'", name);
  }
  for (const Knob& knob : knobs_) {
    if (!config.has(knob.name)) return fmt::format("knob '{}' is not set", knob.name);
    if (!value_index(knob, config.at(knob.name))) {
      return fmt::format("knob '{}' cannot be {}: it is one of {}", knob.name, config.at(knob.name), fmt::join(knob.values, ", "));
    }
  }
  for (const Constraint& constraint : constraints_) {
    Config seen;
    for (const std::string& name : constraint.knobs) seen.set(name, config.at(name));
    if (!judge(constraint, seen)) return constraint.reason;
  }
  if (listed_ && !find(config)) return not_listed;
  return std::nullopt;
}

std::uint64_t Space::hash() const {
  std::uint64_t hash = fnv1a("space");
  for (const Knob& knob : knobs_) hash = fnv1a(fmt::format("|{}:{}", knob.name, fmt::join(knob.values, ",")), hash);
  return configs_.hash(hash);
}

}  // namespace phitune
