#include "harness/tune/experience.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "harness/tune/time_model.hpp"
#include "harness/verify/parallel.hpp"
#include "search/strategies/extra_trees.hpp"

namespace phitune {
namespace {

constexpr std::size_t trees = 120;
constexpr std::size_t smallest = 4;  // rows below which a node is not split
constexpr int rounds = 3;            // of trees and levels, each fitted to the other
constexpr double slowest = 0.7;      // logarithm of time over level from which on it is all the same how slow; failures are that slow
constexpr std::size_t most_lessons = 2000;  // that trees learn from: bounds the time
constexpr std::size_t relearn_share = 10;   // it is done again once there are so many times fewer new lessons than old ones, or more
constexpr double curiosity = 0.2;           // logarithm of how much faster a config is taken for that has what no config had
// What one stage problem knew of a config counts for another one, where the trees count 1: so much, where both are the same ...
constexpr double neighbour_weight = 4;
constexpr double other_size = 0.7;   // ... times this for each doubling that tokens, heads or chunks are apart,
constexpr double other_shape = 0.25;  // this for each doubling of what a kernel's registers and loops are made for,
constexpr double other_kind = 0.5;   // and this for each other choice: dtype, gates, normalisation, partial results, device.

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

double doublings(std::int64_t a, std::int64_t b) { return std::abs(std::log2(static_cast<double>(a) / static_cast<double>(b))); }

// How much of what the first knows holds for the second: 1 all, 0 nothing.
double likeness(const StageProblem& a, const std::string& device, const StageProblem& b, const std::string& other_device) {
  const Problem &p = a.problem, &q = b.problem;
  const auto chunk = [](const StageProblem& s) { return s.shape.fusion == Fusion::quadratic ? s.problem.t : s.shape.chunk; };
  const double sizes = doublings(p.t, q.t) + doublings(p.b * p.hq, q.b * q.hq) + doublings(p.hq / p.hk, q.hq / q.hk) + doublings(chunk(a), chunk(b));
  const double shapes = doublings(p.d, q.d) + doublings(p.e, q.e) + static_cast<double>(std::abs(p.p - q.p)) +
                        doublings(std::max<std::int64_t>(1, a.shape.d_tile), std::max<std::int64_t>(1, b.shape.d_tile));
  const int kinds = (p.dtype != q.dtype) + (p.gated != q.gated) + (p.normalisation != q.normalisation) + (a.shape.partial != b.shape.partial) +
                    (a.shape.state != b.shape.state) + (a.shape.fusion != b.shape.fusion) + (device != other_device);
  return std::pow(other_size, sizes) * std::pow(other_shape, shapes) * std::pow(other_kind, kinds);
}

class Trees {
 public:
  explicit Trees(const Samples& samples) {
    const std::vector<bool> categorical(samples.features, false);
    // (Each from a seed of its own, so that it does not matter which thread grows it.)
    parallel_for(trees, [&](std::size_t i) {
      std::mt19937_64 rng(i);
      trees_[i].emplace(samples, categorical, ExtraTree::Options{.smallest = smallest}, rng);
    });
  }
  /// Logarithm of the time over the level of its stage problem.
  [[nodiscard]] double expected(const std::uint16_t* row) const {
    double sum = 0;
    for (const auto& tree : trees_) sum += tree->goodness(row);
    return relative_of(sum / static_cast<double>(trees));
  }

 private:
  std::array<std::optional<ExtraTree>, trees> trees_;
};

// What trials have taught of a template.
struct Learned {
  struct Known {
    std::size_t neighbour = 0;
    double relative = 0;  // logarithm of the config's time over the level there
  };
  struct Neighbour {
    StageProblem stage;
    std::string device;
  };
  std::shared_ptr<const Trees> trees;
  std::vector<Neighbour> neighbours;
  std::unordered_map<std::string, std::vector<Known>> configs;  // by their text
  std::set<std::pair<std::string, std::int64_t>> values;        // of knobs, that some config had
};

}  // namespace

// What one template has been through.
class Experience::Template {
 public:
  void add(const DeviceInfo& device, const StageProblem& stage, Config config, std::optional<double> ms) {
    const auto [level, is_new] = levels_.try_emplace(device.name + " " + stage.key(), levels_.size());
    if (is_new) {
      names_.push_back(&level->first);
      neighbours_.push_back({stage, device.name});
      spaces_.push_back(stage_template(stage.stage, stage.path).space(stage, device));
    }
    const Space& space = spaces_[level->second];
    config = space.completed(std::move(config));
    if (!space.find(config)) return;
    for (const Knob& knob : space.knobs()) values_.emplace(knob.name, config.at(knob.name));
    Lesson& lesson = lessons_.emplace_back();
    lesson.level = level->second;
    lesson.config = config.text();
    lesson.features = features_of(stage, config, device);
    if (ms) lesson.log_ms = std::log(*ms);
    right_ += lesson.log_ms.has_value();
  }

  [[nodiscard]] std::size_t right() const { return right_; }

  std::shared_ptr<const Learned> learned() {
    // With many lessons learning takes a while, and a few more of them teach little.
    if (!learned_ || lessons_.size() - learned_from_ > learned_from_ / relearn_share) {
      learned_ = learn();
      learned_from_ = lessons_.size();
    }
    return learned_;
  }

 private:
  struct Lesson {
    std::size_t level = 0;  // of which stage problem on which device
    std::string config;
    std::vector<std::uint16_t> features;
    std::optional<double> log_ms;  // nothing: it failed
  };

  // Each stage problem was tried on configs of its own, so the mean of its times is no fair level: it is what the trees leave unexplained.
  [[nodiscard]] std::shared_ptr<const Learned> learn() const {
    // What one stage problem knew of a config is looked up, however much is known; only the trees' time is bounded.
    const std::vector<const Lesson*> all = useful(lessons_.size()), lessons = useful(most_lessons);
    Samples samples;
    samples.features = lessons.front()->features.size();
    for (const Lesson* lesson : lessons) samples.values.insert(samples.values.end(), lesson->features.begin(), lesson->features.end());
    std::vector<double> level = fitted_levels(lessons, nullptr);
    std::shared_ptr<const Trees> trees;
    for (int round = 0; round < rounds; ++round) {
      if (trees) level = fitted_levels(lessons, trees.get());
      samples.goodness.clear();
      for (const Lesson* lesson : lessons)
        samples.goodness.push_back(lesson->log_ms ? goodness_of(*lesson->log_ms - level[lesson->level]) : 0);
      trees = std::make_shared<const Trees>(samples);
    }
    level = fitted_levels(all, trees.get());
    auto learned = std::make_shared<Learned>();
    learned->trees = trees;
    learned->neighbours = neighbours_;
    for (const Lesson* lesson : all) {
      const double relative = lesson->log_ms ? std::min(slowest, *lesson->log_ms - level[lesson->level]) : slowest;
      learned->configs[lesson->config].push_back({lesson->level, relative});
    }
    learned->values = values_;
    return learned;
  }

  // The latest, at most so many. Where nothing was right, what failed was the stage problem, not its configs.
  [[nodiscard]] std::vector<const Lesson*> useful(std::size_t most) const {
    std::vector<bool> right(levels_.size(), false);
    for (const Lesson& lesson : lessons_)
      if (lesson.log_ms) right[lesson.level] = true;
    std::vector<const Lesson*> useful;
    for (auto lesson = lessons_.rbegin(); lesson != lessons_.rend() && useful.size() < most; ++lesson)
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
  std::vector<Learned::Neighbour> neighbours_;  // likewise
  std::vector<Space> spaces_;              // likewise, as today's template has them
  std::set<std::pair<std::string, std::int64_t>> values_;
  std::size_t right_ = 0;
  std::shared_ptr<const Learned> learned_;  // from the first learned_from_ lessons; null: there were none
  std::size_t learned_from_ = 0;
};

Experience::Experience() = default;
Experience::~Experience() = default;
Experience::Experience(Experience&&) noexcept = default;
Experience& Experience::operator=(Experience&&) noexcept = default;

Experience::Template& Experience::of(const StageProblem& stage) {
  std::unique_ptr<Template>& of = templates_[{stage.stage, stage.path}];
  if (!of) of = std::make_unique<Template>();
  return *of;
}

void Experience::add(const DeviceInfo& device, const Trial& trial) {
  // A recording that does not know a config has not said that it is bad.
  const bool unknown = trial.result.outcome == Outcome::pruned && trial.source_hash.empty();
  if (trial.problem.path == Path::library || unknown) return;
  const auto& timing = trial.result.timing;
  const bool right = trial.result.outcome == Outcome::ok && timing;
  of(trial.problem).add(device, trial.problem, trial.config, right ? std::optional(timing->median_ms) : std::nullopt);
}

void Experience::add(const DeviceInfo& device, const StageLessons& lessons) {
  for (const Lesson& lesson : lessons.lessons)
    of(lessons.stage).add(device, lessons.stage, lesson.config, lesson.outcome == Outcome::ok ? std::optional(lesson.median_ms) : std::nullopt);
}

Prior Experience::prior(const StageProblem& stage, const Space& space, const DeviceInfo& device) {
  const auto of = templates_.find({stage.stage, stage.path});
  if (of == templates_.end() || of->second->right() < kLeastTrials) return model_prior(stage, space, device);
  const std::shared_ptr<const Learned> learned = of->second->learned();
  std::vector<double> weights;
  for (const Learned::Neighbour& neighbour : learned->neighbours)
    weights.push_back(neighbour_weight * likeness(neighbour.stage, neighbour.device, stage, device.name));
  // A recording has the space of its day, which may lack a knob that lessons have.
  auto today = std::make_shared<const Space>(stage_template(stage.stage, stage.path).space(stage, device));
  // Trees cannot tell a value that nobody has tried from those that were tried: what a template has gained since would never be.
  std::vector<std::pair<std::string, std::int64_t>> untried;
  for (const Knob& knob : space.knobs()) {
    for (const std::int64_t value : knob.values)
      if (!learned->values.contains({knob.name, value})) untried.emplace_back(knob.name, value);
  }
  return [learned, weights = std::move(weights), untried = std::move(untried), stage, &space, today = std::move(today),
          device](std::size_t index) {
    const Config config = today->completed(space.at(index));
    const bool is_new = std::ranges::any_of(untried, [&](const auto& one) { return config.at(one.first) == one.second; });
    const double expected = learned->trees->expected(features_of(stage, config, device).data()) - (is_new ? curiosity : 0);
    const auto known = learned->configs.find(config.text());
    if (known == learned->configs.end()) return expected;
    double sum = expected, weight = 1;
    for (const Learned::Known& one : known->second) {
      sum += weights[one.neighbour] * one.relative;
      weight += weights[one.neighbour];
    }
    return sum / weight;
  };
}

Prior model_prior(const StageProblem& stage, const Space& space, const DeviceInfo& device) {
  return [stage, &space, device](std::size_t index) { return std::log(model_ms(stage, space.at(index), device)); };
}

}  // namespace phitune
