// A whole way to compute a problem, and the stages it is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "search/config.hpp"
#include "search/problem.hpp"

namespace phitune {

/// One kernel of a pipeline. `gates` is the prologue that turns log_g into cumulative gates; `update_scan` is update_state and scan in one,
/// `attend_query` is attention and query_state in one; the last five belong to `materialized`.
enum class Stage {
  gates,
  attention,
  update_state,
  scan,
  update_scan,
  query_state,
  attend_query,
  expand_key,
  expand_query,
  update_gemm,
  query_gemm,
  combine
};

/// expand_mma: a kernel per stage, phi formed in registers. attend_query: as expand_mma, with attention and query_state in one kernel, so
/// that nothing but y leaves it. update_scan: as expand_mma, with update_state and scan in one kernel, so that states are written once.
/// two_kernels: both.
enum class Fusion { quadratic, materialized, expand_mma, attend_query, update_scan, two_kernels };

/// Instruction path of a template: sm80 is mma.sync and cp.async, for every GPU from Ampere on; sm90 is wgmma and bulk copies, for Hopper
/// alone. `library` marks stages done by cuBLASLt.
enum class Path { sm80, sm90, library };

[[nodiscard]] std::string_view to_string(Stage stage);
[[nodiscard]] std::string_view to_string(Fusion fusion);
[[nodiscard]] std::string_view to_string(Path path);
[[nodiscard]] Stage parse_stage(std::string_view text);
[[nodiscard]] Fusion parse_fusion(std::string_view text);
[[nodiscard]] Path parse_path(std::string_view text);

/// What all stages of a plan agree on.
struct PlanShape {
  Fusion fusion = Fusion::expand_mma;
  std::int64_t chunk = 0;       // tokens; 0 for quadratic
  std::int64_t d_tile = 0;      // width of a feature tile; 0 for quadratic
  Dtype state = Dtype::bf16;    // how chunk states are stored between kernels
  Dtype partial = Dtype::bf16;  // how attention's partial outputs are stored; bf16 where there are none: quadratic, attend_query, two_kernels
  // Whose kernels run where both paths have one. It also says how states lie in memory: in rows for sm80, in the core matrices that wgmma
  // reads for sm90 (kernel_templates/common/state_layout.cuh).
  Path path = Path::sm80;

  bool operator==(const PlanShape&) const = default;
  auto operator<=>(const PlanShape&) const = default;

  /// "expand_mma c1024 d_tile8 state_bf16 partial_bf16", "attend_query c1024 d_tile8 state_bf16", "quadratic", and each of them followed by
  /// " sm90"; no path means sm80.
  [[nodiscard]] std::string text() const;
  static PlanShape parse(std::string_view text);
};

/// One stage of a plan on a problem: what is tuned. Fields that cannot change the stage's machine code or time are set to neutral values
/// by make_stage_problem, so plans that share a stage share its trials.
struct StageProblem {
  Problem problem;
  PlanShape shape;
  Stage stage = Stage::attention;
  Path path = Path::sm80;

  bool operator==(const StageProblem&) const = default;
  auto operator<=>(const StageProblem&) const = default;

  /// "query_state sm80 | expand_mma c1024 d_tile8 state_bf16 partial_bf16 | forward b1 t65536 ..."; parse reads it back.
  [[nodiscard]] std::string key() const;
  static StageProblem parse(std::string_view text);

  [[nodiscard]] std::int64_t chunks() const;  // ceil(t / chunk); 1 when chunk is 0
  [[nodiscard]] std::int64_t rows() const;    // D of this shape; 0 for quadratic
};

struct PlanStage {
  StageProblem problem;
  Config config;
  bool operator==(const PlanStage&) const = default;
};

struct Plan {
  Problem problem;
  PlanShape shape;
  std::vector<PlanStage> stages;  // in launch order

  bool operator==(const Plan&) const = default;
  [[nodiscard]] std::string text() const;  // shape and every stage with its config, one line
};

/// What a stage of this plan shape depends on: every other field gets a neutral value (d_tile 0: no state passes through the stage).
/// The stages that multiply with states in cores are those of path sm90.
/// The neutral problem is well formed whenever `problem` is.
[[nodiscard]] StageProblem make_stage_problem(const Problem& problem, const PlanShape& shape, Stage stage);

/// The stages of a plan shape on a problem, in launch order, neutralised. A gates stage only for gated problems.
[[nodiscard]] std::vector<StageProblem> stages_of(const Problem& problem, const PlanShape& shape);

/// Why no plan of this shape can compute the problem; nothing when one can. What a GPU lacks is not its business.
[[nodiscard]] std::optional<std::string> why_not(const Problem& problem, const PlanShape& shape);

/// Every plan shape that can compute the problem: fusion strategies x chunks {64 ... 4096} x d_tile x storage dtypes x state layouts.
/// Shapes that cannot are listed with their reason in `pruned`.
struct PlanShapes {
  std::vector<PlanShape> shapes;
  struct Pruned {
    PlanShape shape;
    std::string reason;
  };
  std::vector<Pruned> pruned;
};
[[nodiscard]] PlanShapes plan_shapes(const Problem& problem);

}  // namespace phitune
