#include "search/diagram.hpp"

#include <algorithm>
#include <unordered_map>

#include "search/text.hpp"

namespace phitune {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return fnv1a(std::string_view(bytes, sizeof bytes), hash);
}

}  // namespace

// From the last level to the first, so that a node's rows are counted when its parents are looked at. Of nodes with equal edges one is
// kept, and nodes that lead nowhere vanish.
Diagram::Diagram(const std::vector<Level>& levels, bool empty) {
  if (empty) return;
  nodes_.push_back({0, 0, 1});  // the end
  std::vector<std::uint32_t> below = {0};
  std::vector<Edge> edges;
  for (std::size_t level = levels.size(); level-- > 0;) {
    std::vector<std::uint32_t> here;
    std::unordered_multimap<std::uint64_t, std::uint32_t> by_hash;
    for (const std::vector<std::uint32_t>& successors : levels[level]) {
      edges.clear();
      std::uint64_t rows = 0, hash = fnv1a_start;
      for (std::size_t value = 0; value < successors.size(); ++value) {
        const std::uint32_t to = successors[value] == none ? none : below[successors[value]];
        if (to == none) continue;
        edges.push_back({rows, to, static_cast<std::uint16_t>(value)});
        rows += nodes_[to].rows;
        hash = mix(mix(hash, value), to);
      }
      if (edges.empty()) {
        here.push_back(none);
        continue;
      }
      const auto [first, last] = by_hash.equal_range(hash);
      const auto same = std::find_if(first, last, [&](const auto& entry) {
        const Node& node = nodes_[entry.second];
        return std::equal(edges.begin(), edges.end(), edges_.begin() + node.first_edge, edges_.begin() + node.first_edge + node.edges);
      });
      if (same != last) {
        here.push_back(same->second);
        continue;
      }
      here.push_back(static_cast<std::uint32_t>(nodes_.size()));
      by_hash.emplace(hash, here.back());
      nodes_.push_back({static_cast<std::uint32_t>(edges_.size()), static_cast<std::uint32_t>(edges.size()), rows});
      edges_.insert(edges_.end(), edges.begin(), edges.end());
    }
    below = std::move(here);
  }
  root_ = below.front();
}

void Diagram::row(std::uint64_t index, std::span<std::uint16_t> row) const {
  std::uint32_t at = root_;
  for (std::uint16_t& value : row) {
    const auto first = edges_.begin() + nodes_[at].first_edge;
    const auto edge =
        std::prev(std::upper_bound(first, first + nodes_[at].edges, index, [](std::uint64_t i, const Edge& e) { return i < e.before; }));
    value = edge->value;
    index -= edge->before;
    at = edge->to;
  }
}

std::optional<std::uint64_t> Diagram::find(std::span<const std::uint16_t> row) const {
  if (root_ == none) return std::nullopt;
  std::uint32_t at = root_;
  std::uint64_t index = 0;
  for (const std::uint16_t value : row) {
    const auto first = edges_.begin() + nodes_[at].first_edge, last = first + nodes_[at].edges;
    const auto edge = std::lower_bound(first, last, value, [](const Edge& e, std::uint16_t v) { return e.value < v; });
    if (edge == last || edge->value != value) return std::nullopt;
    index += edge->before;
    at = edge->to;
  }
  return index;
}

// Nodes are numbered in the order in which the levels list them, which is not of the set alone; the order of a walk from the root is.
std::uint64_t Diagram::hash(std::uint64_t seed) const {
  std::unordered_map<std::uint32_t, std::uint64_t> hashes;
  const auto hash_of = [&](const auto& self, std::uint32_t at) -> std::uint64_t {
    if (const auto known = hashes.find(at); known != hashes.end()) return known->second;
    std::uint64_t hash = fnv1a("node");
    for (std::uint32_t e = nodes_[at].first_edge; e < nodes_[at].first_edge + nodes_[at].edges; ++e)
      hash = mix(mix(hash, edges_[e].value), self(self, edges_[e].to));
    return hashes[at] = hash;
  };
  return root_ == none ? fnv1a("nothing", seed) : mix(seed, hash_of(hash_of, root_));
}

}  // namespace phitune
