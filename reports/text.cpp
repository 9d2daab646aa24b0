#include "reports/text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <set>

namespace phitune::report_text {
namespace {

constexpr std::array kExplanations = {
    Explanation{"time",
                "The median of many runs on the device, end to end: every kernel of the plan, in one go. The interquartile range (IQR) "
                "beside it is the "
                "width of the middle half of those runs."},
    Explanation{"cold L2",
                "Before every sample the device's L2 cache is filled with other data, so inputs come from memory, as they do in a real "
                "model between "
                "other layers. Times with a warm cache are shorter and would not be seen in use."},
    Explanation{
        "floor",
        "The least time this device could take for the problem: the larger of the useful arithmetic over the matrix rate measured on this "
        "device, and the least memory traffic over the copy bandwidth measured on it. Useful arithmetic counts the exact symmetric power "
        "at the "
        "best chunk size, without tile padding, so no kernel can beat the floor and few come near it."},
    Explanation{"tied",
                "Cannot be told apart from the fastest: the 95 % interval of its paired differences does not say that it is slower by more "
                "than 0.5 %."},
    Explanation{"front of time and error", "No other plan of the problem is both faster and closer to the float64 reference."},
    Explanation{"time / floor", "1x would be perfect. The smaller, the less is left to gain; above 3x the report points the problem out."},
    Explanation{"plan",
                "A whole way to compute the problem: a fusion strategy, a chunk size, a feature tile width, the storage types of "
                "intermediate results, and "
                "one tuned kernel configuration per stage."},
    Explanation{
        "fusion strategy",
        "quadratic: one attention kernel, no state. expand_mma: tokens are cut into chunks, a state carries what came before, and the "
        "feature map is formed on the fly inside the kernels. materialized: the feature maps are written to memory and multiplied by a "
        "library, which shows what forming them on the fly is worth."},
    Explanation{"stage",
                "One kernel of a plan. gates sums the decay gates, attention works inside a chunk, update_state sums each chunk into a "
                "state, scan carries "
                "states from chunk to chunk, query_state adds what the state holds to the outputs."},
    Explanation{"estimate",
                "The sum of the best times of a plan's stages, each timed alone. It ranks plans; only the best are run end to end, and "
                "only those can win."},
    Explanation{
        "tie",
        "Plans within 0.5 % of the fastest share the first place; of them the one with the lower error wins, so a winner may stand a "
        "little below the top of its table."},
    Explanation{"error",
                "Distance from a float64 computation of the definition, relative to the size of the result (L2 norm), on sampled rows of "
                "the real-size "
                "problem. A kernel beyond the tolerance of its data type never wins."},
    Explanation{"checked on",
                "Normal inputs of how many seeds, the least and the largest error among them, and how many adversarial kinds: gates that "
                "forget at once, large and tiny magnitudes, zero queries, keys that cancel. Every run was also repeated and compared bit for "
                "bit."},
    Explanation{"outcome",
                "What became of a candidate. Failure is data: pruned (known not to fit before it was run), compile_failed, launch_failed, "
                "wrong_result, "
                "timed_out, unstable (two runs differed, or times did not settle)."},
};

bool printable(double value) { return std::isfinite(value) && value > 0; }

/// The stage that takes most of the winner's time.
const StageView* longest_stage(const ProblemView& problem) {
  const auto longest =
      std::max_element(problem.stages.begin(), problem.stages.end(), [](const auto& a, const auto& b) { return a.ms < b.ms; });
  return longest == problem.stages.end() || longest->ms <= 0 ? nullptr : &*longest;
}

std::string where_time_goes(const ProblemView& problem) {
  const StageView* longest = longest_stage(problem);
  if (longest == nullptr) return fmt::format("{} ({})", problem.name, times(problem.over_floor));
  double sum = 0;
  for (const StageView& stage : problem.stages) sum += stage.ms;
  return fmt::format("{} ({}; {} of its stage time in {})", problem.name, times(problem.over_floor), percent(longest->ms / sum),
                     to_string(longest->problem.stage));
}

/// Those furthest from their floors, worst first; a list of all of them would be read by nobody.
std::string far_from_floors(std::vector<const ProblemView*> far) {
  constexpr std::size_t shown = 3;
  std::ranges::sort(far, std::greater<>(), &ProblemView::over_floor);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(shown, far.size()); ++i) names.push_back(where_time_goes(*far[i]));
  return fmt::format("{}{}", fmt::join(names, "; "), far.size() > shown ? fmt::format("; and {} more", far.size() - shown) : "");
}

void add_names(std::vector<std::string>& sentences, const char* form, const std::vector<std::string>& names) {
  if (!names.empty()) sentences.push_back(fmt::format(fmt::runtime(form), fmt::join(names, "; ")));
}

/// What claims to be faster than the device: then the time, the rate or the count of operations is wrong.
std::vector<std::string> beyond_the_device(const DeviceView& device) {
  std::vector<std::string> found;
  for (const ProblemView& p : device.problems) {
    if (p.over_floor > 0 && p.over_floor < 1) found.push_back(fmt::format("{} ({} its floor)", p.name, times(p.over_floor)));
    for (const StageView& stage : p.stages)
      if (device.info.matrix_tflops > 0 && stage.tflops > device.info.matrix_tflops)
        found.push_back(fmt::format("{} of {} ({} TFLOP/s)", to_string(stage.problem.stage), p.name, number(stage.tflops)));
  }
  return found;
}

}  // namespace

std::string number(double value, int significant) {
  if (!printable(value)) return "-";
  const int digits = std::max(0, significant - 1 - static_cast<int>(std::floor(std::log10(value))));
  return fmt::format("{:.{}f}", value, std::min(digits, 6));
}

std::string ms(double value) { return printable(value) ? number(value, 4) + " ms" : "-"; }

std::string times(double value) { return printable(value) ? number(value) + "x" : "-"; }

std::string error(double value) { return value == 0 ? "0" : fmt::format("{:.1e}", value); }

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

std::string bytes(std::int64_t value) {
  constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
  double amount = static_cast<double>(value);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < units.size()) amount /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", amount, amount < 10 && unit > 0 ? 1 : 0, units[unit]);
}

std::string_view bound(Bound bound) {
  switch (bound) {
    case Bound::matrix:
      return "matrix rate";
    case Bound::memory:
      return "memory bandwidth";
    case Bound::unknown:
      break;
  }
  return "not known";
}

std::string outcomes(const std::map<Outcome, std::int64_t>& counts) {
  std::vector<std::string> words;
  for (const auto& [outcome, count] : counts) words.push_back(fmt::format("{} {}", count, to_string(outcome)));
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

std::string checked_on(const Result& result) {
  std::vector<double> of_seeds;
  std::size_t adversarial = 0;
  std::string failed;
  for (const InputCheck& check : result.checks) {
    if (check.outcome != Outcome::ok)
      failed = fmt::format("; {} on {} inputs of seed {}", to_string(check.outcome), check.inputs, check.seed);
    else if (check.inputs == "normal")
      of_seeds.push_back(check.errors.relative_l2);
    else
      ++adversarial;
  }
  if (result.checks.empty()) return "-";
  if (of_seeds.empty()) return failed.substr(2);
  const auto [least, most] = std::ranges::minmax(of_seeds);
  const std::string range = of_seeds.size() == 1 ? error(least) : fmt::format("{} to {}", error(least), error(most));
  return fmt::format("{} seed{}, error {}; {} adversarial{}", of_seeds.size(), of_seeds.size() == 1 ? "" : "s", range, adversarial, failed);
}

std::string first_line(std::string_view text, std::size_t limit) {
  const auto start = text.find_first_not_of("\r\n \t");
  text.remove_prefix(start == std::string_view::npos ? text.size() : start);
  const auto line = text.substr(0, text.find_first_of("\r\n"));
  if (line.size() <= limit) return std::string(line);
  std::size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0) == 0x80) --end;
  return std::string(line.substr(0, end)) + "...";
}

std::span<const Explanation> explanations() { return kExplanations; }

std::vector<std::string> findings(const DeviceView& device) {
  std::vector<std::string> sentences, lost, stale;
  std::vector<const ProblemView*> far;
  const ProblemView* nearest = nullptr;
  for (const ProblemView& p : device.problems) {
    if (!p.winner) lost.push_back(p.name);
    if (p.winner && !p.winner->stale_reason.empty()) stale.push_back(fmt::format("{} ({})", p.name, p.winner->stale_reason));
    if (p.over_floor > far_from_floor) far.push_back(&p);
    if (p.over_floor > 0 && (nearest == nullptr || p.over_floor < nearest->over_floor)) nearest = &p;
  }
  if (nearest != nullptr) sentences.push_back(fmt::format("Nearest to its floor: {}, {}.", nearest->name, times(nearest->over_floor)));
  if (nearest == nullptr && !device.problems.empty())
    sentences.push_back("The device's matrix rate and copy bandwidth were not measured, so there are no floors to compare with.");
  if (!far.empty())
    sentences.push_back(fmt::format("Furthest from their floors, so most is to be gained there: {}.", far_from_floors(far)));
  add_names(sentences, "No winner: {}.", lost);
  add_names(sentences, "Stale winners, whose plans the dispatcher compiles anew from today's templates; tune them again: {}.", stale);
  return sentences;
}

std::vector<std::string> warnings(const DeviceView& device) {
  std::vector<std::string> sentences;
  if (device.info.emulated)
    sentences.push_back(
        "Emulated: the kernels ran on a CPU, to see whether they are right. The times are those of the emulation, say nothing about any "
        "GPU, "
        "and are neither exported nor dispatched.");
  if (device.info.replayed)
    sentences.push_back(fmt::format(
        "Replayed: every number here was recorded on an {} in an earlier sweep and is repeated from that recording. Nothing was "
        "measured on the machine that wrote this report.",
        device.info.name));
  if (const auto beyond = beyond_the_device(device); !beyond.empty())
    sentences.push_back(
        fmt::format("Faster than the rates measured on this device allow, so do not believe these before measuring again: {}.",
                    fmt::join(beyond, "; ")));
  std::set<std::string> throttled, other;
  for (const ProblemView& p : device.problems) {
    if (!p.winner || !p.winner->trial.result.timing) continue;
    if (!p.winner->trial.result.timing->throttle_reasons.empty())
      throttled.insert(p.name + " (" + p.winner->trial.result.timing->throttle_reasons + ")");
    if (const Regime regime = p.winner->trial.result.timing->regime; regime != Regime{})
      other.insert(fmt::format("{} ({}{})", p.name, to_string(regime), regime.cold() ? "" : ": a warm L2 cache, not a cold one"));
  }
  if (!throttled.empty())
    sentences.push_back(fmt::format("The device lowered its clock while these winners were timed: {}.", fmt::join(throttled, "; ")));
  if (!other.empty()) sentences.push_back(fmt::format("Timed in another regime than flush: {}.", fmt::join(other, "; ")));
  return sentences;
}

}  // namespace phitune::report_text
