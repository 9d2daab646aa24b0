// What trials of other stage problems teach about one: neighbouring problems, other chunk sizes and feature tiles, other GPUs.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/store/lessons.hpp"
#include "search/strategy.hpp"
#include "search/trial.hpp"

namespace phitune {

/// Trials of any stage problem on any device, and what is to be expected of others: per template a forest of regression trees over knobs,
/// how blocks fill the device, and what the stage problem is. Times count relative to their stage problem's own level, so that a template's
/// trials on different problems and devices teach the same lesson. Where a stage problem that is alike (its sizes, its shape, its device) has
/// tried the very config, what it took there counts for more than the trees. Not thread-safe.
class Experience {
 public:
  Experience();
  ~Experience();
  Experience(Experience&&) noexcept;
  Experience& operator=(Experience&&) noexcept;

  /// Those of library stages, those of configs that are not in today's space (a template that changed), and those that a recording does not
  /// know teach nothing. What is added later counts for more: of more trials than trees can learn from in time they see a template's latest.
  void add(const DeviceInfo& device, const Trial& trial);
  void add(const DeviceInfo& device, const StageLessons& lessons);

  /// What to expect of the configs of `space`, the stage problem's: by experience where `kLeastTrials` of the template's trials were right,
  /// else by the analytic model. The space must outlive it, this object need not.
  [[nodiscard]] Prior prior(const StageProblem& stage, const Space& space, const DeviceInfo& device);

  static constexpr std::size_t kLeastTrials = 24;

 private:
  class Template;
  Template& of(const StageProblem& stage);

  std::map<std::pair<Stage, Path>, std::unique_ptr<Template>> templates_;
};

/// The analytic model (time_model.hpp) alone.
[[nodiscard]] Prior model_prior(const StageProblem& stage, const Space& space, const DeviceInfo& device);

}  // namespace phitune
