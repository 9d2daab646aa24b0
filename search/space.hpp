// All configs of a template that pass its constraints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "search/config.hpp"
#include "search/diagram.hpp"

namespace phitune {

/// A tunable parameter of a template. `labels`, when present, names each value and has the size of `values`. Neighbouring values are taken
/// to act alike, unless the knob is `categorical`: then its values are only equal or not.
struct Knob {
  std::string name;
  std::vector<std::int64_t> values;
  std::string meaning;
  std::vector<std::string> labels = {};
  bool categorical = false;
};

/// A rule that a config must meet; `reason` is what a person reads when it does not ("shared memory exceeds 227 KiB of the device").
/// `knobs` names every knob that `holds` reads, so that the rule is applied as soon as those are set; `holds` is shown only those.
/// A constraint without knobs decides about the whole space.
struct Constraint {
  std::string reason;
  std::vector<std::string> knobs;
  std::function<bool(const Config&)> holds;
};

/// Immutable after construction; thread-safe. The configs are never listed: a rule is tried as soon as its knobs are set and once for each
/// combination of their values, and prefixes that no later rule can tell apart are one (Diagram). So a product of 10^9 points takes
/// milliseconds where its rules tie few knobs together, and size, index and neighbours never scan. What is costly is a rule that reads many
/// knobs, or knobs far apart: between them, every combination of what it reads is kept. constraints.hpp has rules that refuse early.
///
/// Configs are ordered lexicographically by (knob order, value order). Constraints are tried in
/// the order in which their knobs are all set, walking the knobs as given; of those that can be tried together, the first given first.
class Space {
 public:
  /// Throws std::invalid_argument for a duplicate knob, a knob whose name is empty or has a space or '=', a knob without values or with a
  /// repeated one, a constraint on a knob that does not exist or that reads one it does not declare, and a product of more than 2^64
  /// points.
  Space(std::vector<Knob> knobs, std::vector<Constraint> constraints);

  /// The space of exactly these configs (somebody else's, whose constraints are not known); one that is listed twice counts once. Throws
  /// std::invalid_argument for what is wrong with the knobs, and for a config that does not set each of them to one of its values.
  [[nodiscard]] static Space listed(std::vector<Knob> knobs, const std::vector<Config>& configs);

  [[nodiscard]] std::size_t size() const { return configs_.size(); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// Points of the unconstrained product.
  [[nodiscard]] std::uint64_t product_size() const;

  /// Throws std::out_of_range.
  [[nodiscard]] Config at(std::size_t index) const;
  [[nodiscard]] std::optional<std::size_t> find(const Config& config) const;
  /// With the first value of each knob that it lacks: templates add knobs so that a config from before has that.
  [[nodiscard]] Config completed(Config config) const;

  /// `count` distinct indices drawn uniformly; all of them, shuffled, when count >= size(). Takes time and memory for `count`, not size().
  [[nodiscard]] std::vector<std::size_t> sample(std::size_t count, std::mt19937_64& rng) const;

  /// A config as positions: per knob, in order, the index of its value; `out` has a place for each. Throws std::out_of_range.
  void positions(std::size_t index, std::span<std::uint16_t> out) const;
  /// The inverse; positions beyond a knob's values are in no config.
  [[nodiscard]] std::optional<std::size_t> find(std::span<const std::uint16_t> positions) const;

  /// Configs that differ in exactly one knob, in rising order.
  [[nodiscard]] std::vector<std::size_t> neighbours(std::size_t index) const;

  /// Configs that differ in one or two knobs by one step each (a categorical knob has no steps and stays), in rising order.
  [[nodiscard]] std::vector<std::size_t> adjacent(std::size_t index) const;

  struct Removal {
    std::string reason;
    std::uint64_t configs;  // how many points of the product this constraint was the first to refuse
  };
  [[nodiscard]] const std::vector<Removal>& removals() const { return removals_; }

  /// Why a config is not in the space: the first constraint it breaks, or the knob whose value is not allowed; nothing if it is in.
  [[nodiscard]] std::optional<std::string> why_not(const Config& config) const;

  [[nodiscard]] const std::vector<Knob>& knobs() const { return knobs_; }

  /// Hash of knobs, values and surviving configs: equal spaces have equal hashes on every machine.
  [[nodiscard]] std::uint64_t hash() const;

  /// Nodes of the diagram that holds the configs: what a space takes in memory, about 100 bytes each.
  [[nodiscard]] std::size_t nodes() const { return configs_.nodes(); }

 private:
  Space() = default;

  std::vector<Knob> knobs_;
  std::vector<Constraint> constraints_;
  Diagram configs_;
  std::vector<Removal> removals_;
  bool listed_ = false;  // made by listed(): what is not among configs_ broke a rule that is not known
};

}  // namespace phitune
