// Iterated local search: to the first better neighbour until there is none, then a kick from the best such place, or a fresh start when
// kicks stop paying.
#include <algorithm>

#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

constexpr std::size_t most_in_flight = 4;  // more would be asked around a place that is about to be left
constexpr std::size_t kicked_knobs = 2;
constexpr int useless_kicks = 8;  // in a row, before a fresh start

class Local : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override {
    if (in_flight() >= most_in_flight) return std::nullopt;
    while (!around_.empty()) {
      const std::size_t next = around_.back();
      around_.pop_back();
      if (fresh(next)) return next;
    }
    if (in_flight() > 0) return std::nullopt;  // one of them may be better
    settle();
    start_ = next_start();
    return start_;
  }

  void learn(std::size_t index, double time) override {
    if (index == start_ || time < here_time_) move(index, time);
  }

 private:
  void move(std::size_t index, double time) {
    start_.reset();
    here_ = index;
    here_time_ = time;
    around_ = space().neighbours(index);
    shuffle_front(around_, around_.size(), rng_);
    // What was tried before is known without asking.
    for (const std::size_t neighbour : around_) {
      const auto known = time_of(neighbour);
      if (known && *known < here_time_) return move(neighbour, *known);
    }
  }

  // No neighbour is better.
  void settle() {
    if (!here_) return;
    const bool better = !home_ || here_time_ < home_time_;
    kicks_ = better ? 0 : kicks_ + 1;
    if (better) home_ = here_, home_time_ = here_time_;
    if (kicks_ > useless_kicks) home_.reset(), kicks_ = 0;
  }

  std::optional<std::size_t> next_start() {
    if (home_) {
      const Positions from = positions_of(space(), *home_);
      for (int attempt = 0; attempt < 20; ++attempt) {
        const auto kicked = changed(space(), from, kicked_knobs, rng_);
        if (kicked && fresh(*kicked)) return kicked;
      }
      home_.reset();
    }
    return random_fresh();
  }

  std::optional<std::size_t> here_, home_,
      start_;  // home_: the best place that the kicks of this round led to; start_: to be moved to whatever it gives
  double here_time_ = failed, home_time_ = failed;
  int kicks_ = 0;
  std::vector<std::size_t> around_;  // neighbours of here_, yet to be looked at
};

}  // namespace

std::unique_ptr<Strategy> make_local(const Space& space, std::uint64_t seed) { return std::make_unique<Local>(space, seed); }

}  // namespace phitune
