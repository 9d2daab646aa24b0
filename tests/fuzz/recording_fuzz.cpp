// Recordings of sweeps, plain; and the answers of a worker, which are made of the same parts.
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "harness/error.hpp"
#include "harness/store/recording.hpp"
#include "harness/store/trial_json.hpp"
#include "harness/worker/protocol.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/harness/store/random_trials.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const phitune::fuzz::MemoryFile file(bytes);
  try {
    static_cast<void>(phitune::read_recording(file.path()));
  } catch (const phitune::Error&) {
  }
  try {
    const nlohmann::json answer = nlohmann::json::from_cbor(bytes);
    static_cast<void>(phitune::worker::answer_from(answer));
  } catch (const nlohmann::json::exception&) {
  } catch (const std::invalid_argument&) {
  }
  return 0;
}

std::vector<std::string> phitune::fuzz::seeds() {
  testing_support::RandomTrials random(1);
  const testing_support::TemporaryFolder folder;
  Store store(folder / "a.db", testing_support::test_options());
  const SweepInfo sweep = store.begin_sweep(random.sweep(random.device()));
  const Problem problem = random.problem();
  worker::Answer answer;
  for (int i = 0; i < 4; ++i) {
    const Trial trial = random.trial(problem);
    store.add(sweep.id, trial);
    answer.results.push_back(trial.result);
  }
  store.add(sweep.id, random.plan_trial(problem));
  write_recording(folder / "a.jsonl", recording_of(store, sweep.id));
  const std::vector<std::uint8_t> cbor = nlohmann::json::to_cbor(worker::to_json(answer));
  return {text_of(folder / "a.jsonl"), std::string(cbor.begin(), cbor.end())};
}
