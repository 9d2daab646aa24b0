// A genetic algorithm without generations: the best so far are the population, a child of two of them is asked, and takes its place if it
// is good enough.
#include <algorithm>

#include "search/strategies/moves.hpp"
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

constexpr std::size_t population_size = 20;
constexpr std::size_t most_in_flight = 8;
constexpr int attempts = 30;

class Genetic : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override {
    if (told() + in_flight() < population_size) return random_fresh();
    if (in_flight() >= most_in_flight) return std::nullopt;
    if (population_.size() < 2) return random_fresh();  // nearly everything failed
    for (int attempt = 0; attempt < attempts; ++attempt) {
      const auto child = space().find(mutated(crossed(parent(), parent())));
      if (child && fresh(*child)) return child;
    }
    const auto near = changed(space(), parent(), 2, rng_);
    return near && fresh(*near) ? near : random_fresh();
  }

  void learn(std::size_t index, double time) override {
    if (time == failed) return;
    const auto place = std::ranges::upper_bound(population_, time, {}, &Member::time);
    population_.insert(place, {time, positions_of(space(), index)});
    if (population_.size() > population_size) population_.pop_back();
  }

 private:
  struct Member {
    double time;
    Positions positions;
  };

  // The better of two: members are sorted.
  const Positions& parent() {
    const std::size_t a = draw_below(population_.size(), rng_), b = draw_below(population_.size(), rng_);
    return population_[std::min(a, b)].positions;
  }

  Positions crossed(const Positions& a, const Positions& b) {
    Positions child = a;
    for (std::size_t knob = 0; knob < child.size(); ++knob)
      if (draw_below(2, rng_) == 0) child[knob] = b[knob];
    return child;
  }

  // One knob on average.
  Positions mutated(Positions child) {
    for (std::size_t knob = 0; knob < child.size(); ++knob)
      if (draw_below(child.size(), rng_) == 0) child[knob] = other_position(space().knobs()[knob], child[knob], rng_);
    return child;
  }

  std::vector<Member> population_;  // by time
};

}  // namespace

std::unique_ptr<Strategy> make_genetic(const Space& space, std::uint64_t seed) { return std::make_unique<Genetic>(space, seed); }

}  // namespace phitune
