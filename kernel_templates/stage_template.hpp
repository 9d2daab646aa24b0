// The host side of a kernel template: its knobs, constraints, source and launch geometry.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernel_templates/common/args.cuh"
#include "search/plan.hpp"
#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune {

struct Launch {
  std::uint32_t grid[3] = {1, 1, 1};
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t dynamic_shared_bytes = 0;
  bool cooperative = false;  // blocks wait for each other, so all must run at once, or the launch fails
  bool operator==(const Launch&) const = default;
};

/// Stateless; thread-safe.
class StageTemplate {
 public:
  virtual ~StageTemplate() = default;

  /// Knobs and constraints for this stage problem on this device (shared memory, registers). May be empty, never invalid.
  [[nodiscard]] virtual Space space(const StageProblem& problem, const DeviceInfo& device) const = 0;

  /// A few lines that include the template and instantiate one kernel, `extern "C" __global__ void phitune_kernel(const Args)`.
  /// Depends only on what changes the machine code, so problems that differ in run-time sizes share a cubin.
  [[nodiscard]] virtual std::string source(const StageProblem& problem, const Config& config) const = 0;

  [[nodiscard]] virtual Launch launch(const StageProblem& problem, const Config& config) const = 0;
};

/// The template for a stage and path; throws std::out_of_range when there is none (library stages have none).
[[nodiscard]] const StageTemplate& stage_template(Stage stage, Path path);

/// Text of a header under kernel_templates/, embedded in the binary. `name` is as included: "kernel_templates/sm80/scan.cuh".
struct EmbeddedHeader {
  std::string_view name;
  std::string_view text;
};
[[nodiscard]] const std::vector<EmbeddedHeader>& embedded_headers();
/// Those under kernel_templates/common/host/, by which templates run on the CPU. Apart, because they are no part of what a GPU runs.
[[nodiscard]] const std::vector<EmbeddedHeader>& embedded_host_headers();

/// FLOPs on the matrix units and least bytes to and from device memory, by DESIGN section 2; `useful` leaves tile padding out.
struct Work {
  double flops = 0;
  double useful_flops = 0;
  double bytes = 0;
};
[[nodiscard]] Work work_of(const StageProblem& problem);

/// The floor of a whole problem in ms for the given rates: larger of useful FLOPs at the best chunk and least bytes (DESIGN section 2).
[[nodiscard]] double floor_ms(const Problem& problem, double matrix_tflops, double copy_tbps);

/// Whether states of this path keep their denominators as a matrix of d x d beside S (state_layout.cuh).
[[nodiscard]] bool has_denominator_matrix(const Problem& problem, Path path);
/// Length R of a state row: e, and with normalisation sum 8 columns more for the denominator, unless that is a matrix.
[[nodiscard]] std::int64_t state_columns(const Problem& problem, Path path);

/// Bytes of update_scan's counters, `args.progress`: one for each chunk of at most rows / 64 slices of a state.
[[nodiscard]] std::int64_t progress_bytes(const Problem& problem, std::int64_t chunks, std::int64_t rows);

/// Bytes of each intermediate buffer a plan needs; the sum, each rounded to 256, is the workspace.
struct Workspace {
  std::int64_t gates = 0, partial = 0, row_sum = 0, update = 0, update_z = 0, state = 0, state_z = 0, progress = 0, phi_k = 0, phi_q = 0, v_aug = 0, inter = 0;
  bool state_aliases_update = false;  // and state_z update_z
  [[nodiscard]] std::int64_t total() const;
};
[[nodiscard]] Workspace workspace_of(const Problem& problem, const PlanShape& shape);

/// Points the intermediates of `args` into `base` (256-byte aligned, workspace_of(...).total() bytes) and sets sizes, scale and strides
/// for contiguous tensors of the problem's layout. Leaves the user's tensors and states alone.
void bind_workspace(Args& args, const Problem& problem, const PlanShape& shape, void* base);

}  // namespace phitune
