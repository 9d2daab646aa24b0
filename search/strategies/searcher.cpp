#include "search/strategies/searcher.hpp"

#include <stdexcept>

#include <fmt/format.h>

namespace phitune {

std::vector<std::size_t> Searcher::ask(std::size_t count) {
  std::vector<std::size_t> asked;
  while (asked.size() < count && times_.size() < space_.size()) {
    std::optional<std::size_t> next = propose();
    // Waiting is no answer to a caller who has nothing in hand.
    if (!next && asked.empty()) next = random_fresh();
    if (!next) break;
    times_.emplace(*next, awaited);
    ++in_flight_;
    asked.push_back(*next);
  }
  return asked;
}

void Searcher::tell(std::size_t index, Outcome outcome, double time_ms) {
  const auto asked = times_.find(index);
  if (asked == times_.end() || asked->second != awaited)
    throw std::logic_error(fmt::format("config {} was not asked for, or told before", index));
  if (outcome == Outcome::ok && !(time_ms > 0 && time_ms < failed))
    throw std::logic_error(fmt::format("config {} is said to be ok with a time of {} ms", index, time_ms));
  asked->second = outcome == Outcome::ok ? time_ms : failed;
  --in_flight_;
  learn(index, asked->second);
}

std::optional<double> Searcher::time_of(std::size_t index) const {
  const auto asked = times_.find(index);
  if (asked == times_.end() || asked->second == awaited) return std::nullopt;
  return asked->second;
}

std::optional<std::size_t> Searcher::random_fresh() {
  for (auto drawn = shuffle_.next(rng_); drawn; drawn = shuffle_.next(rng_))
    if (fresh(*drawn)) return drawn;
  return std::nullopt;
}

std::optional<std::size_t> BatchSearcher::propose() {
  if (picked_.empty()) {
    if (in_flight() > 0) return std::nullopt;
    pick();
  }
  if (picked_.empty()) return random_fresh();
  const std::size_t next = picked_.front();
  picked_.pop_front();
  return next;
}

}  // namespace phitune
