#include "search/strategies/extra_trees.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "search/random.hpp"

namespace phitune {
namespace {

// Rows beyond which a growth renews only a part of the trees.
constexpr double renewed_rows = 150.0;
constexpr std::size_t least_renewed = 4;

}  // namespace

class ExtraTree::Builder {
 public:
  Builder(const Samples& samples, const std::vector<bool>& categorical, Options options, std::mt19937_64& rng, std::vector<Node>& nodes)
      : samples_(samples),
        categorical_(categorical),
        options_(options),
        rng_(rng),
        nodes_(nodes),
        rows_(samples.rows()),
        features_(options.features == 0 ? samples.features : options.features) {
    std::iota(rows_.begin(), rows_.end(), 0u);
    std::iota(features_.begin(), features_.end(), 0u);
    grow(0, rows_.size());
  }

 private:
  void grow(std::size_t begin, std::size_t end) {
    const std::size_t at = nodes_.size();
    nodes_.emplace_back();
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += samples_.goodness[rows_[i]];
    const auto count = static_cast<double>(end - begin);
    nodes_[at].value = static_cast<float>(sum / count);
    if (end - begin < options_.smallest || sum <= 0 || sum >= count) return;
    const Split split = best_split(begin, end, sum);
    if (split.gain < 0) return;
    nodes_[at].feature = split.feature;
    nodes_[at].threshold = split.threshold;
    nodes_[at].equality = split.equality;
    const auto goes_left = [&](std::uint32_t row) {
      const std::uint16_t value = samples_.row(row)[split.feature];
      return split.equality ? value == split.threshold : value <= split.threshold;
    };
    const auto middle =
        std::partition(rows_.begin() + static_cast<std::ptrdiff_t>(begin), rows_.begin() + static_cast<std::ptrdiff_t>(end), goes_left);
    const auto cut = static_cast<std::size_t>(middle - rows_.begin());
    grow(begin, cut);
    nodes_[at].right = static_cast<std::uint32_t>(nodes_.size());
    grow(cut, end);
  }

  // One random cut per feature; the one that parts good from bad best.
  Split best_split(std::size_t begin, std::size_t end, double sum) {
    Split best;
    for (const std::uint32_t feature : features_) {
      std::uint16_t low = 0xffff, high = 0;
      for (std::size_t i = begin; i < end; ++i) {
        const std::uint16_t value = samples_.row(rows_[i])[feature];
        low = std::min(low, value);
        high = std::max(high, value);
      }
      if (low == high) continue;
      Split split{feature, 0, categorical_[feature], 0};
      split.threshold = split.equality ? samples_.row(rows_[begin + draw(end - begin)])[feature]
                                       : static_cast<std::uint16_t>(low + draw(static_cast<std::size_t>(high - low)));
      split.gain = gain(split, begin, end, sum);
      if (split.gain > best.gain) best = split;
    }
    return best;
  }

  // Fall of the variance by the split, but for what all splits of these rows have in common.
  double gain(const Split& split, std::size_t begin, std::size_t end, double sum) const {
    double left = 0, left_count = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint16_t value = samples_.row(rows_[i])[split.feature];
      const bool goes_left = split.equality ? value == split.threshold : value <= split.threshold;
      left += goes_left ? samples_.goodness[rows_[i]] : 0.f;
      left_count += goes_left;
    }
    const double right = sum - left, right_count = static_cast<double>(end - begin) - left_count;
    return left * left / left_count + right * right / right_count;
  }

  // Fast and the same everywhere; bounds are far below 2^32, so the favour to small numbers is too small to matter.
  std::size_t draw(std::size_t bound) { return static_cast<std::size_t>(((rng_() >> 32) * bound) >> 32); }

  const Samples& samples_;
  const std::vector<bool>& categorical_;
  Options options_;
  std::mt19937_64& rng_;
  std::vector<Node>& nodes_;
  std::vector<std::uint32_t> rows_, features_;
};

ExtraTree::ExtraTree(const Samples& samples, const std::vector<bool>& categorical, Options options, std::mt19937_64& rng) {
  Builder(samples, categorical, options, rng, nodes_);
}

float ExtraTree::goodness(const std::uint16_t* row) const {
  std::size_t at = 0;
  while (nodes_[at].right != 0) {
    const Node& node = nodes_[at];
    const std::uint16_t value = row[node.feature];
    const bool left = node.equality ? value == node.threshold : value <= node.threshold;
    at = left ? at + 1 : node.right;
  }
  return nodes_[at].value;
}

void Forest::grow(const Samples& samples, const std::vector<bool>& categorical, std::size_t plain, std::size_t smallest,
                  std::mt19937_64& rng) {
  const auto share = std::min(1.0, renewed_rows / static_cast<double>(samples.rows()));
  const std::size_t renewed = trees_.empty() ? trees : std::max(least_renewed, static_cast<std::size_t>(share * trees));
  for (std::size_t i = 0; i < renewed; ++i) {
    if (trees_.size() == trees) trees_.pop_front();
    trees_.emplace_back(samples, categorical, ExtraTree::Options{.features = grown_++ % 2 == 0 ? plain : 0, .smallest = smallest}, rng);
  }
}

Forest::Opinion Forest::opinion(const std::uint16_t* row) const {
  double sum = 0, squares = 0;
  for (const ExtraTree& tree : trees_) {
    const double goodness = tree.goodness(row);
    sum += goodness;
    squares += goodness * goodness;
  }
  const double mean = sum / static_cast<double>(trees), variance = std::max(0.0, squares / static_cast<double>(trees) - mean * mean);
  return {mean, std::sqrt(variance)};
}

}  // namespace phitune
