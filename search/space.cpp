#include "search/space.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>

#include <fmt/format.h>

#include "search/random.hpp"
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

// How many leading knobs must be set before the constraint can be judged.
std::size_t depth_of(const std::vector<Knob>& knobs, const Constraint& constraint) {
  std::size_t depth = 0;
  for (const std::string& name : constraint.knobs) depth = std::max(depth, knob_index(knobs, name, constraint) + 1);
  return depth;
}

// A constraint is shown the knobs it declared and no others, so that reading an undeclared one is always found out.
bool holds(const Constraint& constraint, const Config& config) {
  Config seen;
  for (const std::string& name : constraint.knobs) seen.set(name, config.at(name));
  try {
    return constraint.holds(seen);
  } catch (const std::out_of_range& error) {
    throw std::invalid_argument(
        fmt::format("constraint \"{}\" reads a knob that it does not declare: {}", constraint.reason, error.what()));
  }
}

// Walks the product depth first, leaving a subtree at the first constraint that refuses its root.
class Enumeration {
 public:
  Enumeration(const std::vector<Knob>& knobs, const std::vector<Constraint>& constraints, std::vector<std::size_t> depths)
      : knobs_(knobs), constraints_(constraints), depths_(std::move(depths)), points_below_(knobs.size() + 1, 1), path_(knobs.size()) {
    for (std::size_t i = knobs.size(); i-- > 0;) points_below_[i] = points_below_[i + 1] * knobs[i].values.size();
    removed_.assign(constraints.size(), 0);
  }

  void run() { visit(0); }

  std::vector<Indices> configs_;
  std::vector<std::uint64_t> removed_;

 private:
  void visit(std::size_t depth) {
    for (std::size_t i = 0; i < constraints_.size(); ++i) {
      if (depths_[i] != depth || holds(constraints_[i], config_)) continue;
      removed_[i] += points_below_[depth];
      return;
    }
    if (depth == knobs_.size()) {
      configs_.push_back(path_);
      return;
    }
    const Knob& knob = knobs_[depth];
    for (std::size_t value = 0; value < knob.values.size(); ++value) {
      path_[depth] = static_cast<std::uint16_t>(value);
      config_.set(knob.name, knob.values[value]);
      visit(depth + 1);
    }
  }

  const std::vector<Knob>& knobs_;
  const std::vector<Constraint>& constraints_;
  std::vector<std::size_t> depths_;
  std::vector<std::uint64_t> points_below_;
  Indices path_;
  Config config_;
};

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
  std::vector<std::size_t> depths;
  for (const Constraint& constraint : constraints_) depths.push_back(depth_of(knobs_, constraint));
  Enumeration enumeration(knobs_, constraints_, std::move(depths));
  enumeration.run();
  configs_ = std::move(enumeration.configs_);
  for (std::size_t i = 0; i < constraints_.size(); ++i) removals_.push_back({constraints_[i].reason, enumeration.removed_[i]});
}

Space Space::listed(std::vector<Knob> knobs, const std::vector<Config>& configs) {
  Space space;
  space.knobs_ = std::move(knobs);
  check_knobs(space.knobs_);
  (void)space.product_size();
  for (const Config& config : configs) {
    if (const auto reason = space.why_not(config)) throw std::invalid_argument(fmt::format("config '{}': {}", config.text(), *reason));
    Indices indices;
    for (const Knob& knob : space.knobs_) indices.push_back(*value_index(knob, config.at(knob.name)));
    space.configs_.push_back(std::move(indices));
  }
  std::ranges::sort(space.configs_);
  const auto repeated = std::ranges::unique(space.configs_);
  space.configs_.erase(repeated.begin(), repeated.end());
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
  if (index >= configs_.size()) throw std::out_of_range(fmt::format("config {} of a space of {}", index, configs_.size()));
  Config config;
  for (std::size_t i = 0; i < knobs_.size(); ++i) config.set(knobs_[i].name, knobs_[i].values[configs_[index][i]]);
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
  const auto it = std::ranges::lower_bound(configs_, indices);
  if (it == configs_.end() || *it != indices) return std::nullopt;
  return static_cast<std::size_t>(it - configs_.begin());
}

std::vector<std::size_t> Space::sample(std::size_t count, std::mt19937_64& rng) const {
  std::vector<std::size_t> indices(size());
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  const std::size_t wanted = std::min(count, size());
  shuffle_front(indices, wanted, rng);
  indices.resize(wanted);
  return indices;
}

std::vector<std::size_t> Space::neighbours(std::size_t index) const {
  Config config = at(index);
  std::vector<std::size_t> found;
  for (const Knob& knob : knobs_) {
    const std::int64_t own = config.at(knob.name);
    for (const std::int64_t value : knob.values) {
      if (value == own) continue;
      config.set(knob.name, value);
      if (const auto neighbour = find(config)) found.push_back(*neighbour);
    }
    config.set(knob.name, own);
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
    if (!holds(constraint, config)) return constraint.reason;
  }
  if (listed_ && !find(config)) return not_listed;
  return std::nullopt;
}

std::uint64_t Space::hash() const {
  std::uint64_t hash = fnv1a("space");
  for (const Knob& knob : knobs_) hash = fnv1a(fmt::format("|{}:{}", knob.name, fmt::join(knob.values, ",")), hash);
  for (const Indices& config : configs_) hash = fnv1a(fmt::format(";{}", fmt::join(config, ",")), hash);
  return hash;
}

}  // namespace phitune
