// What every strategy that learns does alike: nothing is asked twice, everything asked is told once, and nobody gets stuck. Internal to
// search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <random>
#include <unordered_map>
#include <vector>

#include "search/lazy_shuffle.hpp"
#include "search/strategy.hpp"

namespace phitune {

class Searcher : public Strategy {
 public:
  Searcher(const Space& space, std::uint64_t seed) : rng_(seed), space_(space), shuffle_(space.size()) {}

  std::vector<std::size_t> ask(std::size_t count) final;
  void tell(std::size_t index, Outcome outcome, double time_ms) final;

 protected:
  static constexpr double failed = std::numeric_limits<double>::infinity();  // stands for the time of a config that is not ok

  /// The next config to try, one that fresh() says was not asked for. Nothing: it would rather hear first what became of those in flight.
  virtual std::optional<std::size_t> propose() = 0;
  /// What became of a config.
  virtual void learn(std::size_t index, double time) = 0;

  [[nodiscard]] const Space& space() const { return space_; }
  [[nodiscard]] bool fresh(std::size_t index) const { return !times_.contains(index); }
  /// Nothing when it was not tried, or is in flight.
  [[nodiscard]] std::optional<double> time_of(std::size_t index) const;
  [[nodiscard]] std::size_t told() const { return times_.size() - in_flight_; }
  [[nodiscard]] std::size_t in_flight() const { return in_flight_; }
  /// Uniform among the configs not asked for; nothing when all were.
  std::optional<std::size_t> random_fresh();

  std::mt19937_64 rng_;

 private:
  static constexpr double awaited = -1;
  const Space& space_;
  LazyShuffle shuffle_;
  std::unordered_map<std::size_t, double> times_;  // of everything asked; `awaited` until told
  std::size_t in_flight_ = 0;
};

/// One that picks several configs at once, when nothing is in flight that would change its pick.
class BatchSearcher : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override;
  /// Fills `picked_` with what to try next; nothing picked: any config will do.
  virtual void pick() = 0;

  std::deque<std::size_t> picked_;
};

}  // namespace phitune
