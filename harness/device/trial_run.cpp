#include "harness/device/trial_run.hpp"

#include <algorithm>
#include <cstring>

namespace phitune::cuda {

namespace {

constexpr std::int64_t kWindowBytes = 64 << 10;

/// Reads rows through a window, for sampled rows come in runs.
class RowReader {
 public:
  RowReader(const GpuSession& session, const Trialled& trial) : session_(session), trial_(trial), window_(kWindowBytes) {}

  void operator()(Buffer buffer, std::int64_t offset, std::int64_t count, void* out) {
    const BufferShape shape = buffer_shape(buffer, trial_.problem);
    const std::int64_t element = bytes(shape.dtype), first = offset * element, size = count * element;
    if (buffer != buffer_ || first < begin_ || first + size > end_) fetch(buffer, first, size, shape.size_bytes());
    std::memcpy(out, window_.data() + (first - begin_), static_cast<std::size_t>(size));
  }

 private:
  void fetch(Buffer buffer, std::int64_t first, std::int64_t size, std::int64_t total) {
    const std::int64_t length = std::min(std::max(size, kWindowBytes), total - first);
    window_.resize(static_cast<std::size_t>(std::max(length, kWindowBytes)));
    const char* data = static_cast<const char*>(pointer_of(trial_.args, buffer));
    check(cudaMemcpyAsync(window_.data(), data + first, static_cast<std::size_t>(length), cudaMemcpyDeviceToHost, session_.stream.get()));
    session_.stream.synchronize();
    buffer_ = buffer;
    begin_ = first;
    end_ = first + length;
  }

  const GpuSession& session_;
  const Trialled& trial_;
  std::vector<char> window_;
  Buffer buffer_ = Buffer::q;
  std::int64_t begin_ = 0, end_ = 0;
};

void run_poisoned(GpuSession& session, const Trialled& trial) {
  const cudaStream_t stream = session.stream.get();
  for (const Buffer output : trial.outputs) {
    const auto size = static_cast<std::size_t>(buffer_shape(output, trial.problem).size_bytes());
    check(cudaMemsetAsync(pointer_of(trial.args, output), 0xFF, size, stream));
  }
  // The candidate alone is on the clock: whatever filled its inputs is done before.
  session.stream.synchronize();
  trial.pipeline.enqueue(stream, trial.args);
  session.done.record(stream);
  wait_for(session.done, trial.timeout_ms);
}

}  // namespace

TrialledOutcome verify_on_device(GpuSession& session, const Trialled& trial) {
  return verify_run(
      {.run = [&](int) { run_poisoned(session, trial); },
       .read = RowReader(session, trial),
       .inspect = [&](Buffer output) { return session.utilities.inspect(trial.problem, output, pointer_of(trial.args, output)); },
       .outputs = trial.outputs,
       .checks = trial.checks,
       .finite = trial.finite});
}

}  // namespace phitune::cuda
