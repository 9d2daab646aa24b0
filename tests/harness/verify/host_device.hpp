// A stage on the CPU emulator, with everything a GPU run has: filled inputs, poisoned outputs, inspection.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include "harness/verify/check.hpp"
#include "harness/verify/utility_calls.hpp"
#include "kernel_templates/common/host/executor.hpp"
#include "kernel_templates/common/utility.cuh"
#include "kernel_templates/stage_template.hpp"

namespace phitune::verify_test {

inline void run_utility_on_host(const UtilityArgs& args, unsigned blocks) {
  host::launch({blocks, 1, 1}, {kUtilityThreads, 1, 1}, kUtilitySharedBytes, [&] { run_utility(args); });
}

class HostDevice {
 public:
  explicit HostDevice(StageProblem problem) : problem_(std::move(problem)) {}

  void* allocate(Buffer buffer) {
    // 16-byte words keep every kernel's vector accesses aligned.
    std::vector<U4>& memory = memory_[buffer];
    memory.assign(static_cast<std::size_t>(buffer_shape(buffer, problem_).size_bytes()) / sizeof(U4) + 1, U4{~0u, ~0u, ~0u, ~0u});
    set_pointer(args_, buffer, memory.data());
    return memory.data();
  }

  void fill_inputs(std::uint64_t seed) {
    set_sizes(args_, problem_);
    for (const Buffer buffer : inputs_of(problem_)) {
      if (buffer == Buffer::gates) {
        const InputTensor log_g = input_tensor(Buffer::log_g, problem_, seed, InputKind::normal);
        run_utility_on_host(fill_call(log_g, allocate(Buffer::log_g)), 3);
        const auto blocks = static_cast<unsigned>(problem_.problem.b * problem_.problem.hk * problem_.chunks());
        run_utility_on_host(gates_call(problem_, args_.log_g, allocate(Buffer::gates)), blocks);
      } else {
        run_utility_on_host(fill_call(input_tensor(buffer, problem_, seed, InputKind::normal), allocate(buffer)), 3);
      }
    }
  }

  void run(const Launch& launch, const std::function<void(const Args&)>& kernel) {
    for (const Buffer buffer : outputs_of(problem_)) allocate(buffer);
    for (const Buffer buffer : counters_of(problem_)) std::memset(allocate(buffer), 0, static_cast<std::size_t>(buffer_shape(buffer, problem_).size_bytes()));
    host::launch({launch.grid[0], launch.grid[1], launch.grid[2]}, {launch.block[0], launch.block[1], launch.block[2]},
                 launch.dynamic_shared_bytes, [&] { kernel(args_); }, {.cooperative = launch.cooperative});
  }

  [[nodiscard]] ReadElements reader() const {
    return [this](Buffer buffer, std::int64_t offset, std::int64_t count, void* out) {
      const std::int64_t size = bytes(buffer_shape(buffer, problem_).dtype);
      std::memcpy(out, static_cast<const char*>(pointer_of(args_, buffer)) + offset * size, static_cast<std::size_t>(count * size));
    };
  }

  [[nodiscard]] Inspection inspect(Buffer buffer) const {
    std::vector<Inspection> parts(3);
    run_utility_on_host(inspect_call(problem_, buffer, pointer_of(args_, buffer), parts.data()), 3);
    Inspection whole;
    for (const Inspection& part : parts) merge(whole, part);
    return whole;
  }

  [[nodiscard]] char* data(Buffer buffer) const { return static_cast<char*>(pointer_of(args_, buffer)); }
  [[nodiscard]] const Args& args() const { return args_; }

 private:
  StageProblem problem_;
  Args args_;
  std::map<Buffer, std::vector<U4>> memory_;
};

}  // namespace phitune::verify_test
