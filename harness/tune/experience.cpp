#include "harness/tune/experience.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <tuple>

#include "harness/tune/time_model.hpp"
#include "search/strategies/extra_trees.hpp"

namespace phitune {
namespace {

constexpr std::size_t trees = 120;
constexpr std::size_t smallest = 4;  // rows below which a node is not split
constexpr int rounds = 3;            // of trees and levels, each fitted to the other
constexpr double slowest = 0.7;      // logarithm of time over level from which on it is all the same how slow; failures are that slow
constexpr std::size_t most_lessons = 2000;  // bounds the time of learning
constexpr std::size_t relearn_share = 10;   // it is done again once there are so many times fewer new lessons than old ones, or more

// Whole numbers that keep the order and the ratios of what they stand for.
std::uint16_t by_logarithm(double value) { return static_cast<std::uint16_t>(std::clamp(256 * std::log2(1 + value), 0.0, 65535.0)); }

std::vector<std::uint16_t> features_of(const StageProblem& stage, const Config& config, const DeviceInfo& device) {
  const Filling filling = filling_of(stage, config, device);
  const Problem& p = stage.problem;
  const auto of = [](auto value) { return static_cast<double>(value); };
  std::vector<std::uint16_t> features;
  for (const auto& [knob, value] : config.values()) features.push_back(by_logarithm(of(value)));
  for (const double value : {filling.resident,
                             filling.warps,
                             filling.shared / 1024,
                             16 * filling.waves,
                             1000 * filling.utilisation,
                             filling.pieces,
                             of(p.d),
                             of(p.e),
                             of(p.p),
                             of(p.b * p.hq),
                             of(p.hq / p.hk),
                             of(p.t),
                             of(stage.shape.chunk),
                             of(stage.shape.d_tile),
                             of(stage.rows()),
                             of(bytes(p.dtype)),
                             of(p.dtype == Dtype::fp16),
                             of(p.gated),
                             of(p.normalisation == Normalisation::sum),
                             of(bytes(stage.shape.partial)),
                             of(device.multiprocessors),
                             100 * device.copy_tbps})
    features.push_back(by_logarithm(value));
  return features;
}

// As the trees want it: 1 far better than usual, 0 far worse.
float goodness_of(double relative) { return static_cast<float>(std::clamp((slowest - relative) / (2 * slowest), 0.0, 1.0)); }
double relative_of(double goodness) { return slowest - 2 * slowest * goodness; }

class Trees {
 public:
  explicit Trees(const Samples& samples) {
    const std::vector<bool> categorical(samples.features, false);
    std::mt19937_64 rng(1);
    for (std::size_t i = 0; i < trees; ++i) trees_.emplace_back(samples, categorical, ExtraTree::Options{.smallest = smallest}, rng);
  }
  /// Logarithm of the time over the level of its stage problem.
  [[nodiscard]] double expected(const std::uint16_t* row) const {
    double sum = 0;
    for (const ExtraTree& tree : trees_) sum += tree.goodness(row);
    return relative_of(sum / static_cast<double>(trees));
  }

 private:
  std::vector<ExtraTree> trees_;
};

}  // namespace

// What one template has been through.
class Experience::Template {
 public:
  void add(const DeviceInfo& device, const Trial& trial) {
    const StageProblem& stage = trial.problem;
    const auto [level, is_new] = levels_.try_emplace(device.name + " " + stage.key(), levels_.size());
    if (is_new) {
      names_.push_back(&level->first);
      spaces_.push_back(stage_template(stage.stage, stage.path).space(stage, device));
    }
    if (!spaces_[level->second].find(trial.config)) return;
    Lesson& lesson = lessons_.emplace_back();
    lesson.level = level->second;
    lesson.features = features_of(trial.problem, trial.config, device);
    if (trial.result.outcome == Outcome::ok && trial.result.timing) lesson.log_ms = std::log(trial.result.timing->median_ms);
    right_ += lesson.log_ms.has_value();
  }

  [[nodiscard]] std::size_t right() const { return right_; }

  std::shared_ptr<const Trees> learned() {
    // With many lessons learning takes a while, and a few more of them teach little.
    if (!trees_ || lessons_.size() - learned_ > learned_ / relearn_share) {
      trees_ = learn();
      learned_ = lessons_.size();
    }
    return trees_;
  }

 private:
  struct Lesson {
    std::size_t level = 0;  // of which stage problem on which device
    std::vector<std::uint16_t> features;
    std::optional<double> log_ms;  // nothing: it failed
  };

  // Each stage problem was tried on configs of its own, so the mean of its times is no fair level: it is what the trees leave unexplained.
  [[nodiscard]] std::shared_ptr<const Trees> learn() const {
    const std::vector<const Lesson*> lessons = useful();
    Samples samples;
    samples.features = lessons.front()->features.size();
    for (const Lesson* lesson : lessons) samples.values.insert(samples.values.end(), lesson->features.begin(), lesson->features.end());
    std::vector<double> level = fitted_levels(lessons, nullptr);
    std::shared_ptr<const Trees> learned;
    for (int round = 0; round < rounds; ++round) {
      if (learned) level = fitted_levels(lessons, learned.get());
      samples.goodness.clear();
      for (const Lesson* lesson : lessons)
        samples.goodness.push_back(lesson->log_ms ? goodness_of(*lesson->log_ms - level[lesson->level]) : 0);
      learned = std::make_shared<const Trees>(samples);
    }
    return learned;
  }

  // The latest. Where nothing was right, what failed was the stage problem, not its configs.
  [[nodiscard]] std::vector<const Lesson*> useful() const {
    std::vector<bool> right(levels_.size(), false);
    for (const Lesson& lesson : lessons_)
      if (lesson.log_ms) right[lesson.level] = true;
    std::vector<const Lesson*> useful;
    for (auto lesson = lessons_.rbegin(); lesson != lessons_.rend() && useful.size() < most_lessons; ++lesson)
      if (right[lesson->level]) useful.push_back(&*lesson);
    // Several devices answer in an order that is not the same every time.
    std::ranges::sort(useful, {},
                      [this](const Lesson* lesson) { return std::tie(*names_[lesson->level], lesson->features, lesson->log_ms); });
    return useful;
  }

  [[nodiscard]] std::vector<double> fitted_levels(const std::vector<const Lesson*>& lessons, const Trees* expectations) const {
    std::vector<double> sums(levels_.size(), 0), counts(levels_.size(), 0);
    for (const Lesson* lesson : lessons) {
      if (!lesson->log_ms) continue;
      sums[lesson->level] += *lesson->log_ms - (expectations ? expectations->expected(lesson->features.data()) : 0);
      ++counts[lesson->level];
    }
    for (std::size_t l = 0; l < sums.size(); ++l)
      if (counts[l] > 0) sums[l] /= counts[l];
    return sums;
  }

  std::vector<Lesson> lessons_;
  std::map<std::string, std::size_t> levels_;
  std::vector<const std::string*> names_;  // of the levels, by their numbers
  std::vector<Space> spaces_;              // likewise, as today's template has them
  std::size_t right_ = 0;
  std::shared_ptr<const Trees> trees_;  // of the first learned_ lessons; null: there were none
  std::size_t learned_ = 0;
};

Experience::Experience() = default;
Experience::~Experience() = default;
Experience::Experience(Experience&&) noexcept = default;
Experience& Experience::operator=(Experience&&) noexcept = default;

void Experience::add(const DeviceInfo& device, const Trial& trial) {
  // A recording that does not know a config has not said that it is bad.
  const bool unknown = trial.result.outcome == Outcome::pruned && trial.source_hash.empty();
  if (trial.problem.path == Path::library || unknown) return;
  std::unique_ptr<Template>& of = templates_[{trial.problem.stage, trial.problem.path}];
  if (!of) of = std::make_unique<Template>();
  of->add(device, trial);
}

Prior Experience::prior(const StageProblem& stage, const Space& space, const DeviceInfo& device) {
  const auto of = templates_.find({stage.stage, stage.path});
  if (of == templates_.end() || of->second->right() < kLeastTrials) return model_prior(stage, space, device);
  return [trees = of->second->learned(), stage, &space, device](std::size_t index) {
    return trees->expected(features_of(stage, space.at(index), device).data());
  };
}

Prior model_prior(const StageProblem& stage, const Space& space, const DeviceInfo& device) {
  return [stage, &space, device](std::size_t index) { return std::log(model_ms(stage, space.at(index), device)); };
}

}  // namespace phitune
