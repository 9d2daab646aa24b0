// Runs power attention by the tuned table: open a database, look a problem up, launch on the caller's stream with the caller's buffers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/device/device.hpp"
#include "harness/dispatch/tuned_table.hpp"
#include "kernel_templates/common/args.cuh"
#include "search/plan.hpp"
#include "search/trial.hpp"

namespace phitune {

struct DispatcherOptions {
  /// The device to choose for, never an emulated one; empty: the first GPU of this machine, else the only kind of GPU in the database.
  std::optional<DeviceInfo> device = std::nullopt;
  NearestGuard guard = {};
  std::filesystem::path cache_directory = {};  // of the compiler, for what is not stored; empty: none
  /// For tests; empty: template_hash() of the store.
  std::function<std::string(const PlanStage&)> template_hash = {};
};

/// What lookup() chose. A small value; valid as long as its Dispatcher.
struct Selection {
  Problem problem;
  Why why = Why::builtin;
  const TunedPlan* tuned = nullptr;  // null for builtin

  [[nodiscard]] bool stale() const { return tuned != nullptr && tuned->stale; }
};

/// Device pointers of one call; shapes as in Problem. Strides default to contiguous tensors of the problem's layout; the innermost axis is
/// always contiguous, strides of 16-bit tensors are multiples of 8 elements and their pointers multiples of 16 bytes.
/// States: fp32, [b][hk][state_rows(d, p, 1)][e + 1].
struct Buffers {
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  const float* log_g = nullptr;  // null when ungated
  void* y = nullptr;
  const float* initial_state = nullptr;  // null unless the problem has one
  float* final_state = nullptr;          // likewise
  std::optional<Strides> q_strides = std::nullopt;
  std::optional<Strides> k_strides = std::nullopt;
  std::optional<Strides> v_strides = std::nullopt;
  std::optional<Strides> g_strides = std::nullopt;
  std::optional<Strides> y_strides = std::nullopt;
};

/// A plan's kernels on the device that was current when it was made. launch() may be called from any thread, from several at once with
/// workspaces of their own, except for plans with library stages: one at a time.
class PreparedPlan {
 public:
  PreparedPlan(Plan plan, const std::vector<ExecutableStage>& stages);
  ~PreparedPlan();
  PreparedPlan(const PreparedPlan&) = delete;
  PreparedPlan& operator=(const PreparedPlan&) = delete;

  [[nodiscard]] const Plan& plan() const;
  [[nodiscard]] std::int64_t workspace_bytes() const;

  /// Enqueues every kernel on `stream` (a cudaStream_t; null is the default stream) and returns; may be captured in a graph. Allocates
  /// nothing. `workspace` is device memory, 256-byte aligned, of at least workspace_bytes() bytes; its contents mean nothing before and
  /// after. Throws Error(usage) for a buffer that is missing or misaligned, naming it, and Error(failed) when CUDA refuses a launch.
  void launch(const Buffers& buffers, void* workspace, std::int64_t workspace_size, void* stream) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Thread-safe. lookup() takes no lock, allocates nothing and never throws; the rest remembers what it worked out per problem, under a
/// lock.
class Dispatcher {
 public:
  /// Reads the whole tuned table and its cubins; the file is not used afterwards. Throws Error when it is not a usable database
  /// (Store's messages), or when there is no telling which device to choose for. A database without winners for the device is usable:
  /// everything is then built-in.
  static Dispatcher open(const std::filesystem::path& database, DispatcherOptions options = {});
  /// Without a database: every selection is built-in. Throws Error when there is neither a GPU nor options.device.
  static Dispatcher built_in(DispatcherOptions options = {});

  ~Dispatcher();
  Dispatcher(Dispatcher&&) noexcept;
  Dispatcher& operator=(Dispatcher&&) noexcept;

  [[nodiscard]] Selection lookup(const Problem& problem) const noexcept;

  /// One paragraph: why this plan, what it took when it was tuned, and every doubt (stale, recorded, another device, changed configs).
  [[nodiscard]] std::string explain(const Selection& selection);
  /// The plan on the selection's problem. Throws Error(bad_input) with the reason when no plan computes the problem.
  [[nodiscard]] Plan plan(const Selection& selection);
  [[nodiscard]] std::int64_t workspace_size(const Selection& selection);

  /// The stages with their machine code: the very cubins that were timed; compiled where there are none, where the tuned problem's
  /// source differs from this one's, or where the template changed. Needs no GPU. Throws Error when a kernel does not compile.
  [[nodiscard]] std::vector<ExecutableStage> stages(const Selection& selection);

  /// Loads the kernels on the current CUDA device; the second call for a problem returns what the first made.
  /// Throws Error(no_device) without a GPU of the architecture that was chosen for.
  [[nodiscard]] std::shared_ptr<const PreparedPlan> prepare(const Selection& selection);

  [[nodiscard]] const DeviceInfo& device() const;
  [[nodiscard]] const std::vector<TunedPlan>& tuned() const;

 private:
  struct State;
  explicit Dispatcher(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace phitune
