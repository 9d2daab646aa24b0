// Databases: everything that reads one, on a file that may be anything; then a migration and a write.
#include <fstream>

#include "harness/error.hpp"
#include "harness/store/store.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/harness/store/random_trials.hpp"

using phitune::OpenMode;
using phitune::Store;
using phitune::testing_support::RandomTrials;
using phitune::testing_support::test_options;

namespace {

template <typename Work>
void refusable(Work&& work) {
  try {
    work();
  } catch (const phitune::Error&) {
  }
}

void read_all(Store& store) {
  refusable([&] { static_cast<void>(store.check()); });
  refusable([&] { static_cast<void>(store.info()); });
  refusable([&] { static_cast<void>(store.sweeps()); });
  refusable([&] { static_cast<void>(store.trials()); });
  refusable([&] { static_cast<void>(store.plan_trials()); });
  refusable([&] { static_cast<void>(store.incidents()); });
  refusable([&] { static_cast<void>(store.winners()); });
  refusable([&] {
    for (const phitune::StoredPlanTrial& row : store.plan_trials())
      for (const std::string& hash : row.trial.cubin_hashes) static_cast<void>(store.binary(hash));
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const phitune::testing_support::TemporaryFolder folder;
  const std::filesystem::path path = folder / "a.db";
  for (const char* beside : {"-wal", "-shm", "-journal"}) std::filesystem::remove(path.string() + beside);
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  refusable([&] {
    Store store(path, test_options(OpenMode::read_only));
    read_all(store);
  });
  refusable([&] {
    Store store(path, test_options(OpenMode::read_write));
    RandomTrials random(1);
    const auto sweep = store.begin_sweep(random.sweep(random.device())).id;
    store.add(sweep, random.trial(random.problem()));
    read_all(store);
  });
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  RandomTrials random(1);
  const testing_support::TemporaryFolder folder;
  {
    Store store(folder / "a.db", test_options());
    const SweepInfo sweep = store.begin_sweep(random.sweep(random.device()));
    const Problem problem = random.problem();
    for (int i = 0; i < 3; ++i) store.add(sweep.id, random.trial(problem));
    Binary binary = random.binary();
    PlanTrial plan = random.plan_trial(problem);
    for (std::string& hash : plan.cubin_hashes) hash = binary.cubin_hash;
    store.add(binary);
    store.set_winner(store.add(sweep.id, plan).id);
    store.end_sweep(sweep.id, SweepStatus::finished);
  }
  return {text_of(folder / "a.db")};
}
