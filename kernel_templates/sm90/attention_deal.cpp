#include "kernel_templates/sm90/attention_deal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

namespace phitune::sm90 {

namespace {

// (By the model eight bring the headline's blocks no closer together than six do: 0.5, 0.7 and 0.8 % at chunks 768, 512 and 1024.)
constexpr std::size_t last_rounds = 6;
// Of the mean of all blocks: what the longest must gain, for what reads the same begins further apart then.
constexpr std::int64_t least_gain = 100;

// Works of the last rounds, and what all blocks have to do.
class Rounds {
 public:
  Rounds(std::span<const std::int64_t> costs, std::size_t grid)
      : costs_(costs), grid_(grid), first_((costs.size() / grid - std::min(costs.size() / grid, last_rounds)) * grid), loads_(grid) {
    for (std::size_t work = 0; work < costs.size(); ++work) loads_[work % grid] += costs[work];
    const std::size_t rounds = (costs.size() - first_ + grid - 1) / grid;
    for (std::size_t i = 0; i < rounds * grid; ++i) blocks_.push_back(static_cast<std::uint16_t>(i % grid));
  }

  [[nodiscard]] std::size_t first() const { return first_; }
  [[nodiscard]] const std::vector<std::uint16_t>& blocks() const { return blocks_; }
  [[nodiscard]] std::size_t longest() const { return static_cast<std::size_t>(std::max_element(loads_.begin(), loads_.end()) - loads_.begin()); }
  [[nodiscard]] std::int64_t load(std::size_t block) const { return loads_[block]; }
  [[nodiscard]] std::int64_t total() const { return std::accumulate(loads_.begin(), loads_.end(), std::int64_t{0}); }

  /// The exchange that leaves the longer of two blocks, `block` one of them, the shortest; false where none makes it shorter.
  bool exchange(std::size_t block) {
    std::int64_t shortest = loads_[block], least = 0;
    std::size_t at = 0, other = 0;
    for (std::size_t round = 0; round < blocks_.size(); round += grid_) {
      for (std::size_t b = 0; b < grid_; ++b) {
        const std::int64_t less = cost(round + block) - cost(round + b);
        const std::int64_t longer = std::max(loads_[block] - less, loads_[b] + less);
        if (less > 0 && longer < shortest) shortest = longer, least = less, at = round, other = b;
      }
    }
    if (least == 0) return false;
    std::swap(blocks_[at + block], blocks_[at + other]);
    loads_[block] -= least, loads_[other] += least;
    return true;
  }

 private:
  [[nodiscard]] std::int64_t cost(std::size_t i) const {
    const std::size_t work = first_ + i / grid_ * grid_ + blocks_[i];
    return work < costs_.size() ? costs_[work] : 0;
  }

  std::span<const std::int64_t> costs_;
  std::size_t grid_, first_;
  std::vector<std::int64_t> loads_;
  std::vector<std::uint16_t> blocks_;
};

}  // namespace

std::optional<AttentionDeal> deal_last_rounds(std::span<const std::int64_t> costs, std::uint32_t grid) {
  Rounds rounds(costs, grid);
  const std::int64_t before = rounds.load(rounds.longest());
  // (Each exchange makes the longest block shorter, but there may be others as long: a bound keeps that short.)
  for (std::uint32_t exchanges = 0; exchanges < 8 * grid && rounds.exchange(rounds.longest()); ++exchanges) {
  }
  const std::int64_t gained = before - rounds.load(rounds.longest());
  if (gained == 0 || gained * least_gain * grid < rounds.total()) return std::nullopt;
  return AttentionDeal{static_cast<std::uint32_t>(rounds.first()), grid, rounds.blocks()};
}

std::string AttentionDeal::source(const std::string& name) const {
  return fmt::format(
      "  struct {} {{\n"
      "    enum : unsigned {{ first = {}, grid = {}, end = {} }};\n"
      "    PHITUNE_DEVICE static unsigned block(unsigned i) {{\n"
      "      static constexpr unsigned short blocks[] = {{{}}};\n"
      "      return blocks[i];\n"
      "    }}\n"
      "  }};\n",
      name, first, grid, first + blocks.size(), fmt::join(blocks, ","));
}

}  // namespace phitune::sm90
