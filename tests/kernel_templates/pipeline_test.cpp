// Whole plans on the CPU: the kernels that the templates' own host side describes, one after another, against the quadratic definition.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "kernel_templates/library/gemm.hpp"
#include "kernel_templates/stage_template.hpp"
#include "tests/kernel_templates/kernel_test.hpp"
#include "tests/kernel_templates/pipeline/cases.hpp"
#include "tests/kernel_templates/pipeline/host_kernels.hpp"
#include "tests/kernel_templates/pipeline/reference.hpp"

namespace phitune::kernel_test {
namespace {

Storage storage_of(Dtype dtype) { return dtype == Dtype::bf16 ? Storage::bf16 : dtype == Dtype::fp16 ? Storage::fp16 : Storage::fp32; }

const std::vector<PlannedCase>& all_cases() {
  static const std::vector<PlannedCase> cases = plan_cases(host_kernel_seed());
  return cases;
}

const PlannedCase& case_of(const std::string& name) {
  for (const PlannedCase& c : all_cases()) {
    if (c.name == name) return c;
  }
  throw std::out_of_range("no case " + name);
}

void (*kernel_of(const std::string& source))(Args) {
  static const auto kernels = [] {
    std::map<std::string_view, void (*)(Args)> out;
    for (const HostKernel& kernel : host_kernels()) out.emplace(kernel.source, kernel.run);
    return out;
  }();
  return kernels.at(source);
}

// ---- tensors ----

/// A (b, t, h, width) tensor of the user's, in the problem's layout, with or without gaps.
class Tensor {
 public:
  Tensor(const Problem& problem, Storage storage, std::int64_t heads, std::int64_t width, bool padded)
      : strides_(strides_of(problem, heads, width, padded)),
        extent_{problem.b, problem.t, heads, width},
        array_(storage, (problem.b - 1) * strides_.b + (problem.t - 1) * strides_.t + (heads - 1) * strides_.h + width) {}

  [[nodiscard]] const Strides& strides() const { return strides_; }
  [[nodiscard]] void* data() const { return array_.data(); }
  [[nodiscard]] double at(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) const { return array_.at(place(b, t, h, i)); }

  template <class Value>
  void fill(Value&& value) {
    for (std::int64_t b = 0; b < extent_[0]; ++b)
      for (std::int64_t t = 0; t < extent_[1]; ++t)
        for (std::int64_t h = 0; h < extent_[2]; ++h)
          for (std::int64_t i = 0; i < extent_[3]; ++i) array_.set(place(b, t, h, i), value(b, t, h, i));
  }

 private:
  static Strides strides_of(const Problem& problem, std::int64_t heads, std::int64_t width, bool padded) {
    const std::int64_t gap = padded ? 8 : 0;
    if (problem.layout == Layout::bthd) {
      const std::int64_t h = width + gap, t = heads * h + 2 * gap;
      return {.b = problem.t * t + gap, .t = t, .h = h};
    }
    const std::int64_t t = width + gap, h = problem.t * t + 2 * gap;
    return {.b = heads * h + gap, .t = t, .h = h};
  }
  [[nodiscard]] std::int64_t place(std::int64_t b, std::int64_t t, std::int64_t h, std::int64_t i) const {
    return b * strides_.b + t * strides_.t + h * strides_.h + i;
  }

  Strides strides_;
  std::int64_t extent_[4];
  Array array_;
};

/// What the problem's heads see: for every kv head the tokens before the initial state and then the problem's own.
struct Inputs {
  std::int64_t before = 0;      // tokens that the initial state stands for
  std::vector<Sequence> heads;  // [b * hk]
};

double rounded(double x, Storage storage) {
  Array one(storage, 1);
  one.set(0, x);
  return one.at(0);
}

Inputs random_inputs(const Problem& problem, std::int64_t before, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const Storage storage = storage_of(problem.dtype);
  Inputs inputs{before, {}};
  for (std::int64_t i = 0; i < problem.b * problem.hk; ++i) {
    Sequence s{before + problem.t, problem.hq / problem.hk, problem.d, problem.e, {}, {}, {}, {}};
    const auto draw = [&](std::vector<double>& out, std::int64_t count) {
      for (std::int64_t n = 0; n < count; ++n) out.push_back(rounded(normal(rng), storage));
    };
    draw(s.k, s.tokens * s.d);
    // Queries lean towards their own key, so that no denominator comes near zero, where any computation loses its digits.
    for (std::int64_t n = 0; n < s.tokens * s.groups * s.d; ++n) {
      const double key = s.k[static_cast<std::size_t>(n / (s.groups * s.d) * s.d + n % s.d)];
      s.q.push_back(rounded(0.7 * (normal(rng) + key), storage));
    }
    draw(s.v, s.tokens * s.e);
    // Mostly mild gates, some that nearly close.
    for (std::int64_t n = 0; n < s.tokens; ++n) {
      const double gate = uniform(rng) < 0.02 ? -20 * uniform(rng) : -0.1 * uniform(rng);
      s.log_g.push_back(problem.gated ? static_cast<float>(gate) : 0.0);
    }
    inputs.heads.push_back(std::move(s));
  }
  return inputs;
}

// ---- running a plan ----

/// The user's side and the intermediates of one run; every buffer has its exact size and is NaN until written.
class PlanRun {
 public:
  PlanRun(const PlannedCase& c, const Inputs& inputs)
      : case_(c),
        problem_(c.problem),
        q_(problem_, storage_of(problem_.dtype), problem_.hq, problem_.d, c.padded),
        k_(problem_, storage_of(problem_.dtype), problem_.hk, problem_.d, c.padded),
        v_(problem_, storage_of(problem_.dtype), problem_.hk, problem_.e, c.padded),
        g_(problem_, Storage::fp32, problem_.hk, 1, c.padded),
        y_(problem_, storage_of(problem_.dtype), problem_.hq, problem_.e, c.padded),
        initial_(Storage::fp32, problem_.initial_state ? state_size() : 0),
        final_(Storage::fp32, problem_.final_state ? state_size() : 0) {
    const std::int64_t groups = problem_.hq / problem_.hk;
    const auto of = [&](std::int64_t b, std::int64_t h) -> const Sequence& {
      return inputs.heads[static_cast<std::size_t>(b * problem_.hk + h)];
    };
    const auto element = [&](const std::vector<double>& x, std::int64_t index) { return x[static_cast<std::size_t>(index)]; };
    q_.fill([&](auto b, auto t, auto h, auto i) {
      return element(of(b, h / groups).q, ((inputs.before + t) * groups + h % groups) * problem_.d + i);
    });
    k_.fill([&](auto b, auto t, auto h, auto i) { return element(of(b, h).k, (inputs.before + t) * problem_.d + i); });
    v_.fill([&](auto b, auto t, auto h, auto i) { return element(of(b, h).v, (inputs.before + t) * problem_.e + i); });
    g_.fill([&](auto b, auto t, auto h, auto) { return element(of(b, h).log_g, inputs.before + t); });
  }

  [[nodiscard]] Array& initial_state() { return initial_; }
  [[nodiscard]] const Array& final_state() const { return final_; }

  void execute(std::uint64_t schedule = 0) {
    bind();
    for (const StageRun& stage : case_.stages) {
      if (stage.problem.path == Path::library) {
        multiply(stage.problem);
        continue;
      }
      const Launch launch = stage_template(stage.problem.stage, stage.problem.path).launch(stage.problem, stage.config);
      const auto kernel = kernel_of(stage.source);
      try {
        run_on_host(
            launch, [&] { kernel(args_); }, host::Options{.seed = schedule});
      } catch (const host::LaunchError& error) {
        throw host::LaunchError(stage.problem.key() + " {" + stage.config.text() + "}: " + error.what());
      }
    }
  }

  /// [b][hq][t][e]
  [[nodiscard]] std::vector<double> y() const {
    std::vector<double> out;
    for (std::int64_t b = 0; b < problem_.b; ++b)
      for (std::int64_t h = 0; h < problem_.hq; ++h)
        for (std::int64_t t = 0; t < problem_.t; ++t)
          for (std::int64_t i = 0; i < problem_.e; ++i) out.push_back(y_.at(b, t, h, i));
    return out;
  }

 private:
  [[nodiscard]] std::int64_t state_size() const {
    return problem_.b * problem_.hk * state_rows(problem_.d, problem_.p, 1) * (problem_.e + 1);
  }

  void* exact(std::int64_t bytes) {
    if (bytes == 0) return nullptr;
    return buffers_.emplace_back(static_cast<std::size_t>(bytes)).data();
  }

  // As bind_workspace does it, but every intermediate in memory of its own, so that AddressSanitizer sees an overrun.
  void bind() {
    const Workspace w = workspace_of(problem_, case_.shape);
    Memory sizes(static_cast<std::size_t>(std::max<std::int64_t>(w.total(), 1)));
    args_ = {};
    bind_workspace(args_, problem_, case_.shape, sizes.data());
    args_.gates = static_cast<float*>(exact(w.gates));
    args_.partial = exact(w.partial);
    args_.row_sum = static_cast<float*>(exact(w.row_sum));
    args_.update = exact(w.update);
    args_.update_z = static_cast<float*>(exact(w.update_z));
    args_.state = w.state_aliases_update ? args_.update : exact(w.state);
    args_.state_z = !has_denominator_matrix(problem_, case_.shape.path) ? nullptr : w.state_aliases_update ? args_.update_z : exact(w.state_z);
    args_.progress = static_cast<unsigned*>(exact(w.progress));
    if (w.progress > 0) std::memset(args_.progress, 0, static_cast<std::size_t>(w.progress));
    args_.phi_k = exact(w.phi_k);
    args_.phi_q = exact(w.phi_q);
    args_.v_aug = exact(w.v_aug);
    args_.inter = static_cast<float*>(exact(w.inter));
    args_.q = q_.data(), args_.k = k_.data(), args_.v = v_.data(), args_.y = y_.data();
    args_.q_strides = q_.strides(), args_.k_strides = k_.strides(), args_.v_strides = v_.strides(), args_.y_strides = y_.strides();
    if (problem_.gated) args_.log_g = static_cast<const float*>(g_.data()), args_.g_strides = g_.strides();
    if (problem_.initial_state) args_.initial_state = initial_.floats();
    if (problem_.final_state) args_.final_state = final_.floats();
  }

  // A stage that is a library's matrix product on the GPU, by its description.
  void multiply(const StageProblem& stage) const {
    const Gemm g = gemm_of(stage);
    const GemmPointers at = gemm_pointers(stage, args_);
    const auto load = [](const void* base, Dtype dtype, std::int64_t i) -> double {
      if (dtype == Dtype::fp32) return static_cast<const float*>(base)[i];
      const u16 bits = static_cast<const u16*>(base)[i];
      return dtype == Dtype::bf16 ? bf16_to_float(bits) : fp16_to_float(bits);
    };
    ASSERT_EQ(g.c.dtype, Dtype::fp32);
    for (std::int64_t x = 0; x < g.outer[0] * g.outer[1] * g.batch; ++x) {
      const std::int64_t batch = x % g.batch, inner = x / g.batch % g.outer[1], outer = x / g.batch / g.outer[1];
      const auto start = [&](const GemmOperand& o) { return batch * o.batch + outer * o.outer[0] + inner * o.outer[1]; };
      for (std::int64_t m = 0; m < g.m; ++m) {
        for (std::int64_t n = 0; n < g.n; ++n) {
          double sum = 0;
          for (std::int64_t k = 0; k < g.k; ++k) {
            const std::int64_t a = g.a_transposed ? k * g.a.leading + m : m * g.a.leading + k;
            sum += load(at.a, g.a.dtype, start(g.a) + a) * load(at.b, g.b.dtype, start(g.b) + k * g.b.leading + n);
          }
          static_cast<float*>(at.c)[start(g.c) + m * g.c.leading + n] = static_cast<float>(sum);
        }
      }
    }
  }

  const PlannedCase& case_;
  const Problem& problem_;
  Tensor q_, k_, v_, g_, y_;
  Array initial_, final_;
  Args args_;
  std::vector<Memory> buffers_;
};

// ---- expectations ----

std::vector<double> expected_y(const Problem& problem, const Inputs& inputs) {
  std::vector<double> out;
  const std::int64_t groups = problem.hq / problem.hk;
  for (std::int64_t b = 0; b < problem.b; ++b) {
    for (std::int64_t h = 0; h < problem.hq; ++h) {
      const Sequence& s = inputs.heads[static_cast<std::size_t>(b * problem.hk + h / groups)];
      const std::vector<double> gates = s.cumulative_gates();
      for (std::int64_t t = 0; t < problem.t; ++t) {
        const auto row = attend(s, gates, h % groups, inputs.before + t, static_cast<int>(problem.p), problem.scale(),
                                problem.normalisation == Normalisation::sum);
        out.insert(out.end(), row.begin(), row.end());
      }
    }
  }
  return out;
}

/// Canonical states [b][hk][D1][e+1] after `tokens` tokens of every head.
std::vector<double> expected_states(const Problem& problem, const Inputs& inputs, std::int64_t tokens) {
  std::vector<double> out;
  for (const Sequence& s : inputs.heads) {
    const auto state = moments(s, s.cumulative_gates(), tokens, static_cast<int>(problem.p));
    out.insert(out.end(), state.begin(), state.end());
  }
  return out;
}

double relative_l2(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return std::isnan(error) ? std::numeric_limits<double>::infinity() : std::sqrt(error / scale);
}

/// Relative l2 error of whole outputs: operands, outputs and states round at 2^-9 (bf16) or 2^-11 (fp16, and tf32 products).
// Over many rows roundings average out; a row alone may have all three (weight, partial output, output) at their worst, half a unit each.
double tolerance(const Problem& problem) {
  const double many_rows = problem.dtype == Dtype::fp16 ? 6e-4 : 5e-3;
  return problem.b * problem.t * problem.hq < 16 ? 2 * many_rows : many_rows;
}

class Pipeline : public testing::TestWithParam<std::string> {};

TEST_P(Pipeline, ComputesTheQuadraticDefinition) {
  const PlannedCase& c = case_of(GetParam());
  const Problem& problem = c.problem;
  std::mt19937_64 rng(test_seed());
  const Inputs inputs = random_inputs(problem, problem.initial_state ? 29 : 0, rng);
  PlanRun run(c, inputs);
  if (problem.initial_state) {
    const auto state = expected_states(problem, inputs, inputs.before);
    for (std::size_t i = 0; i < state.size(); ++i) run.initial_state().set(static_cast<std::int64_t>(i), state[i]);
  }
  run.execute();
  const std::vector<double> y = run.y();
  const double error = relative_l2(y, expected_y(problem, inputs));
  EXPECT_LT(error, tolerance(problem)) << problem.key();
  std::cout << "relative error " << error << '\n';

  if (problem.final_state) {
    std::vector<double> actual = run.final_state().values(), expected = expected_states(problem, inputs, inputs.before + problem.t);
    if (problem.normalisation == Normalisation::none) {
      // Without a denominator its column is not kept.
      for (std::size_t i = static_cast<std::size_t>(problem.e); i < expected.size(); i += static_cast<std::size_t>(problem.e) + 1) {
        EXPECT_EQ(actual[i], 0);
        actual[i] = expected[i] = 0;
      }
    }
    EXPECT_LT(relative_l2(actual, expected), tolerance(problem)) << "final state of " << problem.key();
  }

  // The order in which warps and lanes run must not matter, to the last bit.
  PlanRun again(c, inputs);
  if (problem.initial_state) {
    for (std::int64_t i = 0; i < again.initial_state().size(); ++i) again.initial_state().set(i, run.initial_state().at(i));
  }
  const std::uint64_t schedule = rng() | 1;
  again.execute(schedule);
  EXPECT_EQ(again.y(), y) << "schedule " << schedule;
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const PlannedCase& c : all_cases()) names.push_back(c.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Plans, Pipeline, testing::ValuesIn(case_names()), [](const auto& name) { return name.param; });

TEST(PipelineStates, TwoHalvesAreTheWhole) {
  const PlannedCase& whole = case_of("whole_run");
  const PlannedCase& half = case_of("half_run");
  std::mt19937_64 rng(test_seed());
  const Inputs inputs = random_inputs(whole.problem, 0, rng);
  const auto zero = [](PlanRun& run) { run.initial_state().fill([] { return 0.0; }); };
  PlanRun all(whole, inputs);
  zero(all);
  all.execute();

  // The second half sees its tokens alone, as if the first were what stands before it.
  Inputs later = inputs;
  later.before = half.problem.t;
  PlanRun first(half, inputs), second(half, later);
  zero(first);
  first.execute();
  for (std::int64_t i = 0; i < first.final_state().size(); ++i) second.initial_state().set(i, first.final_state().at(i));
  second.execute();

  const std::vector<double> y = all.y(), y1 = first.y(), y2 = second.y();
  const auto n = static_cast<std::size_t>(half.problem.t * half.problem.e);
  std::vector<double> joined;
  for (std::size_t h = 0; h < static_cast<std::size_t>(half.problem.hq); ++h) {
    joined.insert(joined.end(), y1.begin() + static_cast<std::ptrdiff_t>(h * n), y1.begin() + static_cast<std::ptrdiff_t>((h + 1) * n));
    joined.insert(joined.end(), y2.begin() + static_cast<std::ptrdiff_t>(h * n), y2.begin() + static_cast<std::ptrdiff_t>((h + 1) * n));
  }
  EXPECT_LT(relative_l2(joined, y), 4e-3);
  EXPECT_LT(relative_l2(second.final_state().values(), all.final_state().values()), 1e-3);
}

}  // namespace
}  // namespace phitune::kernel_test
