#include "harness/tune/stage_search.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "kernel_templates/stage_template.hpp"
#include "search/text.hpp"

namespace phitune {
namespace {

// Typical shares of the measured rates that kernels reach, the matrix units' by mma.sync and by wgmma; rates of an H100-class device where
// none was measured. They rank plans only.
constexpr double matrix_share = 0.4;
constexpr double wgmma_share = 0.6;
constexpr double copy_share = 0.75;
constexpr double fallback_tflops = 600;
constexpr double fallback_tbps = 3;
constexpr double launch_ms = 0.004;
constexpr double memory_share = 0.85;
// Rows of a state that a block of the path sm80 has at least.
constexpr std::int64_t least_block_rows = 64;

StageProblem without_chunk(StageProblem stage) {
  stage.shape.chunk = 0;
  return stage;
}

std::optional<std::string> too_large(const Problem& problem, const PlanShape& shape, const DeviceInfo& device) {
  const std::int64_t elements = problem.b * problem.t * (problem.hq * (problem.d + problem.e) + problem.hk * (problem.d + problem.e));
  const std::int64_t need = workspace_of(problem, shape).total() + 2 * elements;
  const auto have = static_cast<std::int64_t>(memory_share * static_cast<double>(device.memory_bytes));
  if (device.memory_bytes == 0 || need <= have) return std::nullopt;
  return fmt::format("needs {:.1f} GB of device memory, {:.1f} GB may be used", 1e-9 * static_cast<double>(need),
                     1e-9 * static_cast<double>(have));
}

// Share of the multiprocessors that have a block of update_scan: of the path sm80 they share out the rows of a head's states, not its
// chunks.
double busy_share(const StageProblem& stage, const DeviceInfo& device) {
  if (stage.path == Path::sm90 || device.multiprocessors == 0) return 1;
  const std::int64_t blocks = stage.problem.b * stage.problem.hk * ((stage.rows() + least_block_rows - 1) / least_block_rows);
  return std::min(1.0, static_cast<double>(blocks) / device.multiprocessors);
}

// Groups must not all walk their spaces alike. The "=0" is part of what shipped recordings were asked with.
std::uint64_t group_salt(const StageProblem& pivot) { return fnv1a("=0", fnv1a(pivot.key())); }

struct Ranked {
  PlanShape shape;
  double ms;
};

// Shapes that fit the device, best estimate first; what does not fit goes to `skipped`.
std::vector<Ranked> rank_shapes(const Problem& problem, const DeviceInfo& device, std::vector<SkippedShape>& skipped) {
  auto [shapes, pruned] = plan_shapes(problem);
  for (auto& [shape, reason] : pruned) skipped.push_back({shape, reason});
  std::vector<Ranked> ranked;
  for (const PlanShape& shape : shapes) {
    auto reason = device_refuses(shape, device);
    if (!reason) reason = too_large(problem, shape, device);
    if (reason)
      skipped.push_back({shape, std::move(*reason)});
    else
      ranked.push_back({shape, estimate_ms(problem, shape, device)});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked& a, const Ranked& b) { return a.ms < b.ms; });
  return ranked;
}

// Places each stage problem in its group; the first to arrive (of the best-estimated plan) is the pivot.
class Groups {
 public:
  Groups(ProblemSearch& search, const DeviceInfo& device, const SearchPolicy& policy) : search_(search), device_(device), policy_(policy) {}

  void add(const StageProblem& stage, bool lesser) {
    if (!seen_.insert(stage.key()).second) return;
    if (stage.path == Path::library) {
      search_.library_stages.push_back(stage);
      return;
    }
    const auto [place, is_new] = index_.try_emplace(without_chunk(stage).key(), search_.groups.size());
    if (is_new)
      make_group(stage, lesser);
    else
      search_.groups[place->second].others.push_back(stage);
  }

 private:
  void make_group(const StageProblem& pivot, bool lesser) {
    StageGroup group;
    group.pivot = pivot;
    group.trials = lesser ? policy_.lesser_trials : policy_.trials;
    group.space = std::make_unique<Space>(stage_template(pivot.stage, pivot.path).space(pivot, device_));
    if (!heeds_prior(policy_.strategy)) open(group, device_, policy_, nullptr);
    search_.groups.push_back(std::move(group));
  }

  ProblemSearch& search_;
  const DeviceInfo& device_;
  const SearchPolicy& policy_;
  std::map<std::string, std::size_t> index_;
  std::set<std::string> seen_;
};

}  // namespace

double estimate_ms(const StageProblem& stage, const DeviceInfo& device) {
  const Work work = work_of(stage);
  const double tflops = device.matrix_tflops > 0 ? device.matrix_tflops : fallback_tflops;
  const double tbps = device.copy_tbps > 0 ? device.copy_tbps : fallback_tbps;
  const bool on_states = stage.stage == Stage::update_state || stage.stage == Stage::update_scan || stage.stage == Stage::query_state ||
                         stage.stage == Stage::attend_query;
  const double tf32_penalty = on_states && stage.shape.state == Dtype::fp32 ? 2 : 1;
  const double share = stage.path == Path::sm90 ? wgmma_share : matrix_share;
  const double products_ms = tf32_penalty * work.flops / (share * tflops * 1e9);
  if (stage.stage == Stage::update_scan) {
    // Of the path sm80 a block writes its states or multiplies. Hopper's kernel reads its updates back to scan them, which does not go on
    // beside the products for nothing. Either way small chunks pay for it.
    const bool reads_back = stage.path == Path::sm90;
    const double read_back = reads_back ? work_of(make_stage_problem(stage.problem, stage.shape, Stage::scan)).bytes : 0;
    return launch_ms + (products_ms + (work.bytes + read_back) / (tbps * 1e9)) / busy_share(stage, device);
  }
  return launch_ms + std::max(products_ms, work.bytes / (copy_share * tbps * 1e9));
}

double estimate_ms(const Problem& problem, const PlanShape& shape, const DeviceInfo& device) {
  double ms = 0;
  for (const StageProblem& stage : stages_of(problem, shape)) ms += estimate_ms(stage, device);
  return ms;
}

std::optional<std::string> device_refuses(const PlanShape& shape, const DeviceInfo& device) {
  if (shape.path == Path::sm80 || device.compute_capability / 10 == 9) return std::nullopt;
  return "the sm90 path needs a GPU of compute capability 9.x";
}

void open(StageGroup& group, const DeviceInfo& device, const SearchPolicy& policy, Experience* experience) {
  const bool informed = experience != nullptr && heeds_prior(policy.strategy);
  Prior prior = informed ? experience->prior(group.pivot, *group.space, device) : Prior{};
  group.strategy = make_strategy(policy.strategy, *group.space, policy.seed + group_salt(group.pivot), std::move(prior));
  group.first = group.strategy->ask(group.trials);
}

ProblemSearch plan_search(const Problem& problem, const DeviceInfo& device, const SearchPolicy& policy) {
  ProblemSearch search;
  search.problem = problem;
  const std::vector<Ranked> ranked = rank_shapes(problem, device, search.skipped);
  const double best = ranked.empty() ? 0 : ranked.front().ms;
  Groups groups(search, device, policy);
  std::set<std::pair<Fusion, Path>> kinds;
  for (const auto& [shape, ms] : ranked) {
    const bool within = ms <= policy.plan_bound * best;
    const bool first_of_kind = kinds.insert({shape.fusion, shape.path}).second;
    if (!within && !first_of_kind) {
      search.skipped.push_back(
          {shape, fmt::format("estimated {:.3f} ms, beyond {} times the best estimate of {:.3f} ms", ms, policy.plan_bound, best)});
      continue;
    }
    search.shapes.push_back(shape);
    for (const StageProblem& stage : stages_of(problem, shape)) groups.add(stage, !within);
  }
  return search;
}

}  // namespace phitune
