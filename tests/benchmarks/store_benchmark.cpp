// Trials stored per second: one transaction each (what a sweep does), each flushed to the disk, and many in one transaction (what a merge
// does).
#include <benchmark/benchmark.h>

#include "harness/store/store.hpp"
#include "tests/harness/store/random_trials.hpp"

namespace {

using phitune::Durability;
using phitune::Store;
using phitune::Trial;
using phitune::testing_support::RandomTrials;
using phitune::testing_support::TemporaryFolder;

std::vector<Trial> many_trials(std::size_t count) {
  RandomTrials random(1);
  const phitune::Problem problem = random.problem();
  std::vector<Trial> trials;
  for (std::size_t i = 0; i < count; ++i) trials.push_back(random.trial(problem));
  return trials;
}

void insert(benchmark::State& state, Durability durability, bool batched) {
  const std::vector<Trial> trials = many_trials(1000);
  TemporaryFolder folder;
  phitune::StoreOptions options = phitune::testing_support::test_options();
  options.durability = durability;
  Store store(folder / "a.db", options);
  RandomTrials random(2);
  const phitune::DeviceInfo device = random.device();
  std::int64_t added = 0;
  for (auto _ : state) {
    // A sweep takes a trial once, so each round is a sweep of its own.
    const auto sweep = store.begin_sweep(random.sweep(device)).id;
    std::optional<Store::Batch> batch;
    if (batched) batch.emplace(store);
    for (const Trial& trial : trials) added += store.add(sweep, trial) ? 1 : 0;
    if (batch) batch->commit();
  }
  state.SetItemsProcessed(added);
}

void read_back(benchmark::State& state) {
  const std::vector<Trial> trials = many_trials(1000);
  TemporaryFolder folder;
  Store store(folder / "a.db", phitune::testing_support::test_options());
  RandomTrials random(2);
  const auto sweep = store.begin_sweep(random.sweep(random.device())).id;
  Store::Batch batch(store);
  for (const Trial& trial : trials) store.add(sweep, trial);
  batch.commit();
  std::int64_t read = 0;
  for (auto _ : state) read += static_cast<std::int64_t>(store.trials({.sweep = sweep}).size());
  state.SetItemsProcessed(read);
}

BENCHMARK_CAPTURE(insert, each_survives_kill, Durability::process, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(insert, each_survives_power_cut, Durability::power, false)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(insert, thousand_per_transaction, Durability::process, true)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(read_back)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
