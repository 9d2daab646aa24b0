#include "search/strategy.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <stdexcept>

#include <fmt/format.h>

#include "search/names.hpp"

namespace phitune {
namespace {

enum class Order { exhaustive, random };
constexpr Names<Order, 2> order_names{"search strategy", {{{Order::exhaustive, "exhaustive"}, {Order::random, "random"}}}};

// Walks an order fixed at the start; what it is told changes nothing but must make sense.
class FixedOrder : public Strategy {
 public:
  explicit FixedOrder(std::vector<std::size_t> order) : order_(std::move(order)), awaited_(order_.size(), false) {}

  std::vector<std::size_t> ask(std::size_t count) override {
    const std::size_t end = next_ + std::min(count, order_.size() - next_);
    std::vector<std::size_t> asked(order_.begin() + static_cast<std::ptrdiff_t>(next_), order_.begin() + static_cast<std::ptrdiff_t>(end));
    for (const std::size_t index : asked) awaited_[index] = true;
    next_ = end;
    return asked;
  }

  void tell(std::size_t index, Outcome /*outcome*/, double /*time_ms*/) override {
    if (index >= awaited_.size() || !awaited_[index]) {
      throw std::logic_error(fmt::format("config {} was not asked for, or told before", index));
    }
    awaited_[index] = false;
  }

 private:
  std::vector<std::size_t> order_;  // a permutation of the whole space
  std::vector<bool> awaited_;
  std::size_t next_ = 0;
};

std::vector<std::size_t> in_order(const Space& space) {
  std::vector<std::size_t> order(space.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  return order;
}

}  // namespace

std::unique_ptr<Strategy> make_strategy(std::string_view name, const Space& space, std::uint64_t seed) {
  switch (order_names.parse(name)) {
    case Order::exhaustive:
      return std::make_unique<FixedOrder>(in_order(space));
    case Order::random:
      break;
  }
  std::mt19937_64 rng(seed);
  return std::make_unique<FixedOrder>(space.sample(space.size(), rng));
}

std::vector<std::string> strategy_names() {
  std::vector<std::string> names;
  for (const auto& [order, name] : order_names.entries) names.emplace_back(name);
  return names;
}

}  // namespace phitune
