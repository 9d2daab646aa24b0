// A set of configs as a decision diagram: counted, indexed and searched without being listed. Internal to Space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace phitune {

/// Rows of positions, one per knob, in lexicographic order. Knob by knob each row is a path from the root; paths with equal remainders
/// share nodes, so a space whose rules tie few knobs together takes little room however many rows it has. Reduced: equal sets of rows make
/// equal diagrams. Immutable; thread-safe.
class Diagram {
 public:
  /// One node of a level while it is built: per value of the level's knob the node of the next level that follows, or `none`.
  static constexpr std::uint32_t none = 0xffffffff;
  using Level = std::vector<std::vector<std::uint32_t>>;

  /// levels[k][n][v]: from node n of level k by value v to a node of level k + 1; the last level leads to the single end, 0. Level 0 has
  /// one node, the root. Without levels there is one row, the empty one, unless `empty`.
  explicit Diagram(const std::vector<Level>& levels, bool empty = false);
  Diagram() : Diagram({}, true) {}

  [[nodiscard]] std::uint64_t size() const { return root_ == none ? 0 : nodes_[root_].rows; }
  /// Requires index < size(); `row` has one place per knob.
  void row(std::uint64_t index, std::span<std::uint16_t> row) const;
  /// The index of a row; nothing when it is not in the set. Requires one place per knob.
  [[nodiscard]] std::optional<std::uint64_t> find(std::span<const std::uint16_t> row) const;

  [[nodiscard]] std::size_t nodes() const { return nodes_.size(); }
  /// Of the set alone: equal sets of rows have equal hashes on every machine.
  [[nodiscard]] std::uint64_t hash(std::uint64_t seed) const;

 private:
  struct Node {
    std::uint32_t first_edge = 0;
    std::uint32_t edges = 0;
    std::uint64_t rows = 0;  // below it
  };
  struct Edge {
    std::uint64_t before = 0;  // rows of this node's earlier edges
    std::uint32_t to = 0;
    std::uint16_t value = 0;
    bool operator==(const Edge&) const = default;
  };

  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::uint32_t root_ = none;
};

}  // namespace phitune
