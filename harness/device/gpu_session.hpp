// Everything that lives in one CUDA context and dies with it. Internal.
#pragma once

#include <memory>
#include <vector>

#include "harness/device/pipeline.hpp"
#include "harness/device/tensor_pool.hpp"
#include "harness/measure/measurement.hpp"

namespace phitune::cuda {

/// Made on the current device. Destroying it gives everything back, in reverse order.
struct GpuSession {
  GpuSession(std::shared_ptr<const Binary> utility_binary, const DeviceInfo& info, const Nvml& nvml)
      : utilities(std::move(utility_binary), info.multiprocessors, stream.get()),
        pool(utilities),
        measurement(stream.get(), utilities, nvml, info.l2_bytes) {}

  Stream stream;
  Event done;
  Utilities utilities;
  TensorPool pool;
  Measurement measurement;
  GemmLibrary gemms;

  // What is being run belongs to the session, so that a kernel that never ends takes it along instead of blocking its destruction.
  std::vector<std::unique_ptr<Pipeline>> pipelines;
  std::vector<std::unique_ptr<Graph>> graphs;

  /// Forgets the candidates of the last run.
  void begin() {
    graphs.clear();
    pipelines.clear();
    pool.begin();
  }
  const Pipeline& load(std::span<const ExecutableStage> stages) {
    return *pipelines.emplace_back(std::make_unique<Pipeline>(stages, gemms));
  }
  /// Ready to be timed on the tensors of `copies`, until begin().
  Copies prepare(const Pipeline& pipeline, const std::vector<Args>& copies, Regime::Launches launches) {
    Copies ready;
    for (const Args& args : copies) {
      const Enqueue eager = [&pipeline, args](cudaStream_t s) { pipeline.enqueue(s, args); };
      if (launches == Regime::Launches::eager) {
        ready.push_back(eager);
      } else {
        const Graph& graph = *graphs.emplace_back(std::make_unique<Graph>(stream.get(), eager));
        ready.push_back([&graph](cudaStream_t s) { graph.launch(s); });
      }
    }
    return ready;
  }
};

/// Rates of this device, measured now on random data: device-to-device copy in 1e12 bytes/s (read + write), dense bf16 matrix product
/// 8192^3 in TFLOP/s (0 without the GEMM library). Medians of 11.
struct Ceilings {
  double copy_tbps = 0;
  double matrix_tflops = 0;
};
[[nodiscard]] Ceilings measure_ceilings(GpuSession& session, std::int64_t memory_bytes);

}  // namespace phitune::cuda
