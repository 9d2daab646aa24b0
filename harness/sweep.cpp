#include "harness/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/error.hpp"
#include "harness/tune/evaluator.hpp"
#include "harness/tune/finals.hpp"
#include "kernel_templates/stage_template.hpp"
#include "search/compose.hpp"

namespace phitune {
namespace {

SweepInfo describe(const Suite& suite, const DeviceInfo& device, const SweepOptions& options) {
  SweepInfo info;
  info.device = device;
  info.suite = suite.name;
  info.suite_hash = suite_hash(suite);
  info.strategy = options.search.strategy;
  info.seed = options.search.seed;
  info.phitune_version = PHITUNE_VERSION;
  info.nvrtc_version = Compiler::nvrtc_version();
  info.policy = policy_text(options);
  return info;
}

SweepInfo begin(Store& store, const SweepInfo& info, bool resume, Progress& progress) {
  if (!resume) return store.begin_sweep(info);
  const auto unfinished = store.resumable(info);
  if (!unfinished) {
    progress.note(
        fmt::format("nothing to resume: {} has no unfinished sweep of this suite, strategy and seed on this device; beginning one",
                    store.path().string()));
    return store.begin_sweep(info);
  }
  // Trials that were chosen or timed by other rules cannot be compared with new ones.
  if (unfinished->policy != info.policy)
    throw Error(ExitCode::usage,
                fmt::format("sweep {} of {} cannot be resumed with other limits. It was begun with\n  {}\nand this is\n  {}\n"
                            "Give the options that it was begun with, or leave --resume out to begin another sweep.",
                            unfinished->id, store.path().string(), unfinished->policy, info.policy));
  progress.note(fmt::format("going on with sweep {} of {}, begun {}", unfinished->id, store.path().string(), unfinished->started_at));
  return store.resume_sweep(unfinished->id);
}

// One sweep's parts and what it has found so far.
class Run {
 public:
  Run(Device& device, Compiler& compiler, Store& store, const SweepOptions& options, Progress& progress, const std::atomic<bool>& stop,
      std::int64_t sweep)
      : device_(device),
        store_(store),
        options_(options),
        progress_(progress),
        stop_(stop),
        sweep_(sweep),
        evaluator_(device, compiler, store, sweep, options.stage_policy, options.compile, options.reuse) {
    if (heeds_prior(options.search.strategy)) remember_earlier_sweeps();
  }

  // What strategies ask first is known before anything of the problem is run, so the compile threads can stay ahead of the device. Where a
  // strategy starts from experience, only the first group of each template asks now: the others have yet to learn from it.
  void prepare(ProblemSearch& search) {
    std::set<std::pair<Stage, Path>> seen;
    for (StageGroup& group : search.groups)
      if (!heeds_prior(options_.search.strategy) || seen.insert({group.pivot.stage, group.pivot.path}).second) start(group);
  }

  /// `meanwhile` is called when the problem's plans are all that is left to run, and the compile threads have nothing to do.
  ProblemSummary tune(const std::string& name, const std::string& title, ProblemSearch& search, const std::function<void()>& meanwhile) {
    ProblemSummary summary;
    summary.name = name;
    summary.problem = search.problem;
    looked_at_ = 0;
    started_ = std::chrono::steady_clock::now();
    expected_ = expected_trials(search);
    progress_.begin(title, expected_);
    StageResults results;
    std::vector<StageGroup*> started, others;
    for (StageGroup& group : search.groups) (group.strategy ? started : others).push_back(&group);
    tune_groups(started, results, summary);
    for (StageGroup* group : others) start(*group);
    tune_groups(others, results, summary);
    meanwhile();
    for (const StageProblem& stage : search.library_stages) questions_.push_back({stage, Config{}});
    answer_questions(results);
    if (stop_)
      summary.reason = "stopped before its plans were run";
    else
      crown(search, results, summary);
    summary.trials = looked_at_;
    const DeviceInfo& info = device_.info();
    if (info.matrix_tflops > 0 && info.copy_tbps > 0) summary.floor_ms = floor_ms(search.problem, info.matrix_tflops, info.copy_tbps);
    progress_.end(summary.winner ? fmt::format("{:.4f} ms, {}", summary.winner->result.timing->median_ms, summary.winner->plan.shape.text())
                                 : "no winner: " + summary.reason);
    return summary;
  }

  [[nodiscard]] const std::vector<KnownBeforehand>& known() const { return known_; }
  [[nodiscard]] std::size_t trials() const { return trials_; }
  [[nodiscard]] std::size_t plan_trials() const { return plan_trials_; }
  [[nodiscard]] std::size_t resumed() const { return evaluator_.resumed(); }
  [[nodiscard]] std::size_t shared() const { return evaluator_.shared(); }
  [[nodiscard]] std::size_t same_code() const { return evaluator_.same_code(); }

 private:
  void start(StageGroup& group) {
    if (!group.strategy) open(group, device_.info(), options_.search, &experience_);
    evaluator_.compile_ahead(group.pivot, configs_of(group, group.first));
  }

  // The database last, because what was found on this device counts for more. Of it not what this sweep made before it was resumed: it will
  // come to that again, in the same order.
  void remember_earlier_sweeps() {
    for (const auto& lessons : options_.experience) {
      KnownBeforehand& known = known_.emplace_back(KnownBeforehand{.what = lessons->name});
      if (lessons->regime != options_.stage_policy.regime) continue;
      for (const StageLessons& stage : lessons->stages) experience_.add(lessons->devices[stage.device], stage);
      known.trials = lessons->size();
    }
    std::size_t of_database = 0;
    std::map<std::int64_t, DeviceInfo> devices;
    store_.for_each_trial({}, [&](const StoredTrial& stored) {
      const auto [device, is_new] = devices.try_emplace(stored.sweep);
      if (is_new) device->second = store_.sweep(stored.sweep).device;
      if (stored.sweep == sweep_) return;
      remember(device->second, stored.trial);
      ++of_database;
    });
    known_.push_back({"database", of_database});
  }

  void remember(const DeviceInfo& device, const Trial& trial) {
    const auto& timing = trial.result.timing;
    if (!device.emulated && (!timing || timing->regime == options_.stage_policy.regime)) experience_.add(device, trial);
  }

  [[nodiscard]] static std::vector<Config> configs_of(const StageGroup& group, const std::vector<std::size_t>& indices) {
    std::vector<Config> configs;
    for (const std::size_t index : indices) configs.push_back(group.space->at(index));
    return configs;
  }

  [[nodiscard]] std::size_t expected_trials(const ProblemSearch& search) const {
    std::size_t total = search.library_stages.size();
    for (const StageGroup& group : search.groups) {
      const std::size_t asked = std::min(group.trials, group.space->size());
      total += asked + group.others.size() * std::min(options_.search.carried, asked);
    }
    return total;
  }

  // What a group's strategy asked last, and what its trials gave so far.
  struct Asking {
    StageGroup* group;
    std::vector<std::size_t> batch;
    std::size_t asked;
    std::vector<std::optional<Trial>> answers = {};  // of the batch
    std::size_t unanswered = 0;
    std::vector<std::pair<double, Config>> ranking = {};
    double device_ms = 0;  // spent on its trials
    std::size_t spared = 0;
  };

  // A config to be tried. `asking` is who wants to know, and `place` which of its batch; null: the results are all that is wanted.
  struct Question {
    StageProblem stage;
    Config config;
    Asking* asking = nullptr;
    std::size_t place = 0;
  };

  // Ask, try, tell until the strategies have had their trials; then each group's best configs at its other chunk sizes. The groups take
  // turns: while one group's batch is on the device, the compile threads are at what the others asked after theirs.
  void tune_groups(const std::vector<StageGroup*>& groups, StageResults& results, ProblemSummary& summary) {
    std::vector<Asking> askings;
    for (StageGroup* group : groups) askings.push_back({.group = group, .batch = group->first, .asked = group->first.size()});
    for (Asking& asking : askings) put_questions(asking);
    answer_questions(results);
    for (Asking& asking : askings) {
      std::sort(asking.ranking.begin(), asking.ranking.end());
      if (asking.ranking.size() > options_.search.carried) asking.ranking.resize(options_.search.carried);
      for (const StageProblem& other : asking.group->others) carry_over(other, asking.ranking);
      if (asking.spared == 0) continue;
      summary.spared += asking.spared;
      summary.spared_ms += asking.device_ms / static_cast<double>(asking.asked) * static_cast<double>(asking.spared);
    }
    answer_questions(results);
  }

  void put_questions(Asking& asking) {
    asking.answers.assign(asking.batch.size(), std::nullopt);
    asking.unanswered = asking.batch.size();
    for (std::size_t i = 0; i < asking.batch.size(); ++i)
      questions_.push_back({asking.group->pivot, asking.group->space->at(asking.batch[i]), &asking, i});
  }

  void carry_over(const StageProblem& stage, const std::vector<std::pair<double, Config>>& ranking) {
    const Space space = stage_template(stage.stage, stage.path).space(stage, device_.info());
    std::vector<Config> configs;
    for (const auto& [ms, config] : ranking)
      if (!space.why_not(config)) configs.push_back(config);
    evaluator_.compile_ahead(stage, configs, Compiler::Turn::next);
    for (Config& config : configs) questions_.push_back({stage, std::move(config)});
  }

  // Runs everything that is asked, and what is asked because of the answers, on as many devices as there are.
  void answer_questions(StageResults& results) {
    struct Running {
      Question question;
      Candidate candidate;
    };
    std::map<std::uint64_t, Running> running;
    std::uint64_t number = 0;
    const auto next = [&](const Device::MayRun& may) -> std::optional<StageRun> {
      while (!stop_) {
        const auto first = std::ranges::find_if(questions_, may, &Question::stage);
        if (first == questions_.end()) break;
        const StageCandidate* best = results.best(first->stage);
        Evaluator::Begun begun = evaluator_.begin(first->stage, first->config, best ? best->median_ms : 0);
        if (begun.wait) break;
        Question question = std::move(*first);
        questions_.erase(first);
        if (begun.answer) {
          answered(question, *begun.answer, results);
          continue;
        }
        StageRun run{.stage = begun.candidate->executable, .policy = begun.policy, .number = ++number};
        running.emplace(number, Running{std::move(question), std::move(*begun.candidate)});
        return run;
      }
      return std::nullopt;
    };
    device_.run_stages(next, [&](const StageRun& run, Result result) {
      auto ended = running.extract(run.number);
      answered(ended.mapped().question, evaluator_.finish(std::move(ended.mapped().candidate), std::move(result)), results);
    });
    questions_.clear();
  }

  void answered(const Question& question, const Evaluator::Evaluated& evaluated, StageResults& results) {
    const Trial& trial = evaluated.trial;
    results.add(trial);
    if (heeds_prior(options_.search.strategy)) remember(device_.info(), trial);
    ++looked_at_;
    trials_ += evaluated.fresh;
    const StageCandidate* best = results.best(question.stage);
    progress_.advance(fmt::format("{} {} {}", to_string(question.stage.stage), question.stage.shape.text(),
                                  best ? fmt::format("best {:.4f} ms", best->median_ms) : "none yet"));
    if (!question.asking) return;
    question.asking->answers[question.place] = trial;
    if (--question.asking->unanswered == 0) tell_and_ask(*question.asking);
  }

  // In the order of the batch, whichever device was done first: a strategy's choices follow from its seed and its answers alone.
  void tell_and_ask(Asking& asking) {
    StageGroup& group = *asking.group;
    for (std::size_t i = 0; i < asking.batch.size(); ++i) {
      const Trial& trial = *asking.answers[i];
      const double ms = trial.result.timing ? trial.result.timing->median_ms : 0;
      group.strategy->tell(asking.batch[i], trial.result.outcome, ms);
      if (trial.result.outcome == Outcome::ok) asking.ranking.emplace_back(ms, trial.config);
      asking.device_ms += trial.result.verify_ms + trial.result.measure_ms;
    }
    if (options_.search.worth_it && options_.search.worth_it->no_longer(*group.strategy)) {
      asking.spared = std::min(group.trials, group.space->size()) - asking.asked;
      expected_ -= asking.spared;
      progress_.set_total(expected_);
      return;
    }
    if (out_of_time() || asking.asked >= group.trials) return;
    asking.batch = group.strategy->ask(group.trials - asking.asked);
    asking.asked += asking.batch.size();
    evaluator_.compile_ahead(group.pivot, configs_of(group, asking.batch), Compiler::Turn::next);
    put_questions(asking);
  }

  // What was asked is tried all the same, so every stage has its first configs to compose plans of.
  [[nodiscard]] bool out_of_time() const {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
    return options_.search.seconds > 0 && elapsed.count() > options_.search.seconds;
  }

  void crown(const ProblemSearch& search, const StageResults& results, ProblemSummary& summary) {
    const Composed composed = compose(search.problem, search.shapes, results, kStageTies);
    if (composed.ranked.empty()) {
      summary.reason = composed.impossible.empty() ? "no plan shape fits the device" : composed.impossible.front().reason;
      return;
    }
    std::vector<Composition> chosen = finalists(composed.ranked, options_.search.finalists);
    for (Composition& rival : rivals(chosen, results, kTieShare, kMostRivals)) chosen.push_back(std::move(rival));
    const std::optional<Winner> incumbent = incumbent_of(search.problem);
    const bool defends = incumbent && device_.runs_machine_code();
    if (defends) add_incumbent(chosen, incumbent->plan_trial.trial);
    const auto finals = run_finals(search.problem, chosen, evaluator_, device_, store_, sweep_, options_.final_policy);
    plan_trials_ += finals.size();
    for (const StoredPlanTrial& final : finals) summary.finalists.push_back(final.trial);
    if (const StoredPlanTrial* winner = winner_of(finals, defends ? &incumbent->plan_trial.trial.plan : nullptr)) {
      summary.winner = winner->trial;
      if (incumbent && !defends) summary.incumbent_ms = better_incumbent(*incumbent, *winner);
      if (!summary.incumbent_ms) store_.set_winner(winner->id);
    } else {
      summary.reason =
          fmt::format("no finalist was right: {}: {}", finals.front().trial.plan.shape.text(), finals.front().trial.result.reason);
    }
  }

  // The winner of an earlier sweep, of the same kernels' text and timed the same way.
  [[nodiscard]] std::optional<Winner> incumbent_of(const Problem& problem) {
    const auto device = store_.find_device(device_.info());
    auto incumbent = device ? store_.winner(*device, problem) : std::nullopt;
    if (!incumbent || incumbent->stale || !incumbent->plan_trial.trial.result.timing) return std::nullopt;
    if (incumbent->plan_trial.trial.result.timing->regime != options_.final_policy.regime) return std::nullopt;
    return incumbent;
  }

  // It defends its place in the same rounds as those who want it.
  static void add_incumbent(std::vector<Composition>& finalists, const PlanTrial& incumbent) {
    const auto same = [&](const Composition& finalist) { return finalist.plan == incumbent.plan; };
    if (std::ranges::any_of(finalists, same)) return;
    Composition& added = finalists.emplace_back();
    added.plan = incumbent.plan;
    added.stage_ms = incumbent.stage_ms;
    for (const double ms : incumbent.stage_ms) added.sum_ms += ms;
  }

  // The time of the winner that stays without having been run again, which a recording cannot do: it is faster by more than a tie.
  [[nodiscard]] std::optional<double> better_incumbent(const Winner& incumbent, const StoredPlanTrial& candidate) const {
    const double old = incumbent.plan_trial.trial.result.timing->median_ms;
    if (incumbent.plan_trial.sweep == sweep_ || old * (1 + kTieShare) >= candidate.trial.result.timing->median_ms) return std::nullopt;
    return old;
  }

  Device& device_;
  Store& store_;
  const SweepOptions& options_;
  Progress& progress_;
  const std::atomic<bool>& stop_;
  std::int64_t sweep_;
  Evaluator evaluator_;
  Experience experience_;
  std::vector<KnownBeforehand> known_;
  std::deque<Question> questions_;
  std::size_t trials_ = 0, looked_at_ = 0, plan_trials_ = 0, expected_ = 0;
  std::chrono::steady_clock::time_point started_;  // the problem at hand
};

// What is wrong already must not be hidden by a store that cannot be written either.
void end_as_failed(Store& store, std::int64_t sweep, const std::string& reason) {
  try {
    store.end_sweep(sweep, SweepStatus::failed, reason);
  } catch (const std::exception&) {
  }
}

}  // namespace

std::string policy_text(const SweepOptions& options) {
  const SearchPolicy& search = options.search;
  // Of sweeps that knew nothing the text is as it was before any could.
  nlohmann::json names = nlohmann::json::array();
  for (const auto& lessons : options.experience) names.push_back(lessons->name);
  const std::string known = names.empty() ? "" : fmt::format(R"(, "experience": {})", names.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  return fmt::format(
      R"({{"trials": {}, "carried": {}, "lesser_trials": {}, "plan_bound": {}, "finalists": {}, "regime": "{}", "rest": {}, "max_samples": {}, "final_samples": {}, "final_seeds": {}, "seconds": {}, "stop_below": {}{}}})",
      search.trials, search.carried, search.lesser_trials, search.plan_bound, search.finalists, to_string(options.stage_policy.regime),
      options.stage_policy.rest, options.stage_policy.max_samples, options.final_policy.max_samples, options.final_policy.seeds, search.seconds,
      search.worth_it ? search.worth_it->chance : 0, known);
}

void read_policy(const std::string& text, SweepOptions& options) {
  SearchPolicy& search = options.search;
  try {
    const nlohmann::json policy = nlohmann::json::parse(text);
    const auto read = [&policy](const char* name, auto& value) { value = policy.value(name, value); };
    read("trials", search.trials);
    read("carried", search.carried);
    read("lesser_trials", search.lesser_trials);
    read("plan_bound", search.plan_bound);
    read("finalists", search.finalists);
    read("seconds", search.seconds);
    double stop_below = search.worth_it ? search.worth_it->chance : 0;
    read("stop_below", stop_below);
    search.worth_it = stop_below > 0 ? std::optional(WorthIt{.chance = stop_below}) : std::nullopt;
    // Sweeps from before there were more regimes than two say whether the cache was cold.
    const std::string_view old = policy.value("cold_l2", true) ? "flush" : "hot";
    options.stage_policy.regime = options.final_policy.regime = parse_regime(policy.value("regime", old));
    // Nor did they let the device rest.
    options.stage_policy.rest = options.final_policy.rest = policy.value("rest", 0.0);
    read("max_samples", options.stage_policy.max_samples);
    read("final_samples", options.final_policy.max_samples);
    read("final_seeds", options.final_policy.seeds);
  } catch (const std::exception& error) {
    throw Error(ExitCode::bad_input, fmt::format("the limits of the sweep cannot be read from '{}': {}", text, error.what()));
  }
}

SweepSummary sweep(const Suite& suite, Device& device, Compiler& compiler, Store& store, const SweepOptions& options, Progress& progress,
                   const std::atomic<bool>& stop) {
  const auto started = std::chrono::steady_clock::now();
  SweepSummary summary;
  summary.sweep = begin(store, describe(suite, device.info(), options), options.resume, progress);

  std::vector<ProblemSearch> searches;
  for (const SuiteProblem& named : suite.problems) searches.push_back(plan_search(named.problem, device.info(), options.search));
  // The first of them, or all where a strategy asks the same whatever it knows.
  const auto known_ahead = heeds_prior(options.search.strategy) ? std::min<std::size_t>(1, searches.size()) : searches.size();

  try {
    Run run(device, compiler, store, options, progress, stop, summary.sweep.id);
    for (std::size_t i = 0; i < known_ahead; ++i) run.prepare(searches[i]);
    for (std::size_t i = 0; i < searches.size() && !stop; ++i) {
      const std::string& name = suite.problems[i].name;
      const auto prepare_next = [&] {
        if (i + 1 >= known_ahead && i + 1 < searches.size()) run.prepare(searches[i + 1]);
      };
      summary.problems.push_back(run.tune(name, fmt::format("[{}/{}] {}", i + 1, searches.size(), name), searches[i], prepare_next));
      summary.spared += summary.problems.back().spared;
      summary.spared_ms += summary.problems.back().spared_ms;
    }
    summary.known = run.known();
    summary.trials = run.trials();
    summary.plan_trials = run.plan_trials();
    summary.resumed = run.resumed();
    summary.shared = run.shared();
    summary.same_code = run.same_code();
  } catch (const std::exception& error) {
    end_as_failed(store, summary.sweep.id, error.what());
    throw;
  }

  summary.interrupted = stop;
  if (summary.interrupted) compiler.cancel();
  store.end_sweep(summary.sweep.id, stop ? SweepStatus::interrupted : SweepStatus::finished, stop ? "stopped by a signal" : "");
  TrialFilter of_this_sweep;
  of_this_sweep.sweep = summary.sweep.id;
  summary.outcomes = store.outcomes(of_this_sweep);
  summary.compiler = compiler.counters();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return summary;
}

}  // namespace phitune
