// Extremely randomised trees (Geurts, Ernst, Wehenkel, Machine Learning 63, 2006) that tell good from bad. Internal to search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <span>
#include <vector>

namespace phitune {

/// Rows of small whole numbers. A feature is ordered (split at a threshold) or not (split off one value).
struct Samples {
  std::size_t features = 0;
  std::vector<std::uint16_t> values;  // row after row
  std::vector<float> goodness;        // per row, 0 to 1

  [[nodiscard]] std::size_t rows() const { return goodness.size(); }
  [[nodiscard]] const std::uint16_t* row(std::size_t i) const { return values.data() + i * features; }
};

class ExtraTree {
 public:
  struct Options {
    std::size_t features = 0;  // only the first so many are looked at; 0: all
    std::size_t smallest = 2;  // rows below which a node is not split
  };
  ExtraTree(const Samples& samples, const std::vector<bool>& categorical, Options options, std::mt19937_64& rng);

  /// Mean goodness of the rows in the leaf that the row falls into.
  [[nodiscard]] float goodness(const std::uint16_t* row) const;

 private:
  struct Node {
    std::uint32_t feature = 0;
    std::uint16_t threshold = 0;
    bool equality = false;
    std::uint32_t right = 0;  // the left child is the next node; 0: a leaf
    float value = 0;
  };
  struct Split {
    std::uint32_t feature = 0;
    std::uint16_t threshold = 0;
    bool equality = false;
    double gain = -1;
  };
  class Builder;

  std::vector<Node> nodes_;
};

/// Trees of which each growth renews some, in turn: all until a search has been told so much that this would take too long.
class Forest {
 public:
  static constexpr std::size_t trees = 40;

  /// Every second tree sees only the first `plain` features; 0: all see all. Nodes of fewer rows than `smallest` are not split.
  void grow(const Samples& samples, const std::vector<bool>& categorical, std::size_t plain, std::size_t smallest, std::mt19937_64& rng);

  /// Of the trees about a row: mean goodness, and how far they disagree (standard deviation).
  struct Opinion {
    double mean = 0, deviation = 0;
  };
  [[nodiscard]] Opinion opinion(const std::uint16_t* row) const;

 private:
  std::deque<ExtraTree> trees_;
  std::size_t grown_ = 0;
};

}  // namespace phitune
