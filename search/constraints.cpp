#include "search/constraints.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include <fmt/format.h>

namespace phitune {
namespace {

void require(bool right, const std::string& name, const char* what) {
  if (!right) throw std::invalid_argument(fmt::format("knob '{}': {}", name, what));
}

// Products that do not fit are beyond every bound.
std::int64_t times(std::int64_t a, std::int64_t b) {
  return a > std::numeric_limits<std::int64_t>::max() / b ? std::numeric_limits<std::int64_t>::max() : a * b;
}

}  // namespace

Knob whole_numbers(std::string name, std::int64_t low, std::int64_t high, std::int64_t step, std::string meaning) {
  require(step >= 1 && high >= low, name, "a range needs a step of at least 1 and a high end that is not below the low one");
  Knob knob{std::move(name), {}, std::move(meaning)};
  for (std::int64_t value = low; value <= high; value += step) knob.values.push_back(value);
  return knob;
}

Knob powers_of_two(std::string name, std::int64_t low, std::int64_t high, std::string meaning) {
  require(low >= 1 && high >= low, name, "powers of two need a low end of at least 1 and a high end that is not below it");
  Knob knob{std::move(name), {}, std::move(meaning)};
  for (std::int64_t value = low; value <= high; value *= 2) knob.values.push_back(value);
  return knob;
}

Knob one_of(std::string name, std::vector<std::string> labels, std::string meaning) {
  Knob knob{std::move(name), {}, std::move(meaning), std::move(labels), true};
  for (std::size_t i = 0; i < knob.labels.size(); ++i) knob.values.push_back(static_cast<std::int64_t>(i));
  return knob;
}

std::vector<Constraint> product_at_most(const std::string& reason, const std::vector<Knob>& knobs, std::int64_t most, std::int64_t factor) {
  for (const Knob& knob : knobs)
    require(std::ranges::all_of(knob.values, [](std::int64_t v) { return v >= 1; }), knob.name, "a product needs values of at least 1");
  std::vector<Constraint> constraints;
  std::vector<std::string> names;
  for (std::size_t set = 0; set < knobs.size(); ++set) {
    names.push_back(knobs[set].name);
    std::int64_t least = factor;  // of the factor and the knobs still unset
    for (std::size_t unset = set + 1; unset < knobs.size(); ++unset) least = times(least, std::ranges::min(knobs[unset].values));
    constraints.push_back({reason, names, [names, least, most](const Config& config) {
                             std::int64_t product = least;
                             for (const std::string& name : names) product = times(product, config.at(name));
                             return product <= most;
                           }});
  }
  return constraints;
}

Constraint divides(std::string reason, std::string part, std::string whole) {
  return {std::move(reason), {part, whole}, [part, whole](const Config& config) { return config.at(whole) % config.at(part) == 0; }};
}

Constraint only_when(std::string reason, const Knob& knob, std::vector<std::string> knobs, std::function<bool(const Config&)> active) {
  knobs.push_back(knob.name);
  return {std::move(reason), std::move(knobs),
          [name = knob.name, idle = knob.values.at(0), active = std::move(active)](const Config& config) {
            return config.at(name) == idle || active(config);
          }};
}

}  // namespace phitune
