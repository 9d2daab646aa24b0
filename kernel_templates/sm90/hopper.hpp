// What the host sides of the Hopper templates have in common.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernel_templates/common/state_layout.cuh"
#include "search/plan.hpp"
#include "search/space.hpp"
#include "search/trial.hpp"

namespace phitune::sm90 {

// What the runtime keeps of shared memory for itself, per block.
inline constexpr std::int64_t reserved_shared = 1024;
// The most registers of a thread that setmaxnreg and the compiler both take.
inline constexpr std::int64_t most_registers = 240;

/// Registers per thread that `blocks` blocks of `threads` threads leave room for: each of a multiprocessor's four parts has 512 registers
/// for every lane of its warps, given out by eights.
inline std::int64_t register_budget(std::int64_t threads, std::int64_t blocks) {
  const std::int64_t warps = (threads / 32 * blocks + 3) / 4;
  return std::min(most_registers, 512 / warps / 8 * 8);
}

/// Whether the states of the path sm90 have wide rows (state_layout.cuh).
inline bool has_wide_rows(const StageProblem& s) { return wide_rows(static_cast<int>(s.problem.p), static_cast<int>(s.shape.d_tile)); }

/// What every Hopper template asks of a problem and a device; `knob` is one of the template's.
inline std::vector<Constraint> hopper_constraints(const StageProblem& s, const DeviceInfo& device, const std::string& knob) {
  return {{"wgmma, bulk copies and setmaxnreg need a GPU of compute capability 9.0 (sm_90a)",
           {knob},
           [capability = device.compute_capability](const Config&) { return capability / 10 == 9; }},
          {"the states of the sm90 path are stored in bf16, for bf16 problems of degree 2 and more", {knob}, [s](const Config&) {
             return s.problem.dtype == Dtype::bf16 && s.shape.state == Dtype::bf16 && s.problem.p >= 2;
           }}};
}

/// What the product of queries with a state (state_product.cuh) asks of its knobs "steps" and "batch".
inline std::vector<Constraint> state_product_constraints(const StageProblem& s) {
  const bool wide = has_wide_rows(s);
  const std::int64_t rows = s.rows() / (wide ? s.shape.d_tile : 1);
  std::vector<Constraint> constraints = {
      {"whole stages make up the state", {"steps"}, [rows](const Config& c) { return rows % (c.at("steps") * 16) == 0; }}};
  if (wide) {
    constraints.push_back({"steps of wide rows (d_tile 4 of degree 3) are formed one at a time", {"batch"}, [](const Config& c) {
                             return c.at("batch") == 1;
                           }});
    constraints.push_back({"a product with wide rows has at most 256 columns: e is at most 64", {"steps"}, [s](const Config&) {
                             return s.problem.e * s.shape.d_tile <= 256;
                           }});
  } else {
    constraints.push_back({"the two sets of fragments take turns: steps is a multiple of two batches", {"steps", "batch"}, [](const Config& c) {
                             return c.at("steps") % (2 * c.at("batch")) == 0;
                           }});
    constraints.push_back({"a stage holds whole groups of 8 tuples: steps is a multiple of d_tile / 2", {"steps"}, [s](const Config& c) {
                             return c.at("steps") * 2 % s.shape.d_tile == 0;
                           }});
    constraints.push_back({"a smaller batch would do as well", {"steps", "batch"}, [](const Config& c) {
                             return c.at("batch") > 1 || c.at("steps") == 4;
                           }});
  }
  return constraints;
}

}  // namespace phitune::sm90
