// Which block of the Hopper attention kernel does which works in the last rounds, so that blocks end together.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace phitune::sm90 {

/// The last rounds of works, each of which has one for every block of the grid but the last: in round `first / grid + i` block b has the work
/// that is in turn for block blocks[i * grid + b] (struct Exchanged in attention_config.cuh).
struct AttentionDeal {
  std::uint32_t first, grid;          // the number that the first of these works has in turn; blocks of the grid
  std::vector<std::uint16_t> blocks;  // whole rounds

  /// The struct of that name as a kernel wants it, inside of its function.
  [[nodiscard]] std::string source(const std::string& name) const;
};

/// Blocks exchange works of a round until the longest gains nothing any more, which brings all within a hundredth of each other where rounds
/// are not too few. `costs`: how long works take, in turn, in any unit. Nothing where blocks would end hardly sooner.
[[nodiscard]] std::optional<AttentionDeal> deal_last_rounds(std::span<const std::int64_t> costs, std::uint32_t grid);

}  // namespace phitune::sm90
