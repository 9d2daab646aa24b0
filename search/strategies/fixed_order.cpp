// Strategies that learn nothing: in order, and at random.
#include "search/strategies/searcher.hpp"
#include "search/strategies/strategies.hpp"

namespace phitune {
namespace {

class Exhaustive : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override { return next_++; }
  void learn(std::size_t /*index*/, double /*time*/) override {}

 private:
  std::size_t next_ = 0;
};

class Random : public Searcher {
 public:
  using Searcher::Searcher;

 protected:
  std::optional<std::size_t> propose() override { return random_fresh(); }
  void learn(std::size_t /*index*/, double /*time*/) override {}
};

}  // namespace

std::unique_ptr<Strategy> make_exhaustive(const Space& space, std::uint64_t seed) { return std::make_unique<Exhaustive>(space, seed); }
std::unique_ptr<Strategy> make_random(const Space& space, std::uint64_t seed) { return std::make_unique<Random>(space, seed); }

}  // namespace phitune
