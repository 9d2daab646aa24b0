// The library as a caller uses it: own buffers, own stream, own workspace; results against a float64 sum on the host. Needs a GPU.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "harness/dispatch/dispatcher.hpp"
#include "harness/error.hpp"

namespace phitune {
namespace {

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
double from_bf16(std::uint16_t value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) : bytes_(bytes) { EXPECT_EQ(cudaMalloc(&data_, bytes + 16), cudaSuccess); }
  ~DeviceMemory() { (void)cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  [[nodiscard]] void* data() const { return data_; }
  void set(const void* from) const { EXPECT_EQ(cudaMemcpy(data_, from, bytes_, cudaMemcpyHostToDevice), cudaSuccess); }
  void get(void* to) const { EXPECT_EQ(cudaMemcpy(to, data_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

// A bf16 tensor of (b, t, h, width), contiguous, on both sides.
struct Tensor {
  Tensor(std::int64_t size, std::mt19937_64* rng) : host(static_cast<std::size_t>(size)), device(static_cast<std::size_t>(size) * 2) {
    std::normal_distribution<float> normal;
    for (auto& value : host) value = rng != nullptr ? to_bf16(normal(*rng)) : 0x7fc0;  // NaN until written
    device.set(host.data());
  }
  std::vector<std::uint16_t> host;
  DeviceMemory device;
};

struct Case {
  Problem p;
  Tensor q, k, v, y;
  std::vector<float> log_g;
  DeviceMemory device_log_g;

  Case(const Problem& problem, std::mt19937_64& rng)
      : p(problem),
        q(p.b * p.t * p.hq * p.d, &rng),
        k(p.b * p.t * p.hk * p.d, &rng),
        v(p.b * p.t * p.hk * p.e, &rng),
        y(p.b * p.t * p.hq * p.e, nullptr),
        log_g(static_cast<std::size_t>(p.b * p.t * p.hk)),
        device_log_g(log_g.size() * 4) {
    std::exponential_distribution<float> decay(200);
    for (float& g : log_g) g = -decay(rng);
    device_log_g.set(log_g.data());
  }

  [[nodiscard]] Buffers buffers() const {
    Buffers buffers;
    buffers.q = q.device.data();
    buffers.k = k.device.data();
    buffers.v = v.device.data();
    buffers.y = y.device.data();
    if (p.gated) buffers.log_g = static_cast<const float*>(device_log_g.data());
    return buffers;
  }

  // |y - reference| / |reference| of the whole output, by the quadratic definition.
  double error() {
    y.device.get(y.host.data());
    double wrong = 0, total = 0;
    for (std::int64_t batch = 0; batch < p.b; ++batch) {
      for (std::int64_t head = 0; head < p.hq; ++head) {
        for (std::int64_t i = 0; i < p.t; ++i) accumulate(batch, head, i, wrong, total);
      }
    }
    return std::sqrt(wrong / total);
  }

 private:
  void accumulate(std::int64_t batch, std::int64_t head, std::int64_t i, double& wrong, double& total) const {
    const std::int64_t kv = head / (p.hq / p.hk);
    std::vector<double> out(static_cast<std::size_t>(p.e));
    double sum = 0, gate = 0;
    for (std::int64_t j = i; j >= 0; --j) {
      double dot = 0;
      for (std::int64_t x = 0; x < p.d; ++x) {
        dot += from_bf16(q.host[static_cast<std::size_t>(((batch * p.t + i) * p.hq + head) * p.d + x)]) *
               from_bf16(k.host[static_cast<std::size_t>(((batch * p.t + j) * p.hk + kv) * p.d + x)]);
      }
      const double weight = std::pow(p.scale() * dot, static_cast<double>(p.p)) * std::exp(gate);
      sum += weight;
      for (std::int64_t x = 0; x < p.e; ++x) {
        out[static_cast<std::size_t>(x)] += weight * from_bf16(v.host[static_cast<std::size_t>(((batch * p.t + j) * p.hk + kv) * p.e + x)]);
      }
      if (p.gated) gate += log_g[static_cast<std::size_t>((batch * p.t + j) * p.hk + kv)];
    }
    for (std::int64_t x = 0; x < p.e; ++x) {
      const double expected = out[static_cast<std::size_t>(x)] / sum;
      const double got = from_bf16(y.host[static_cast<std::size_t>(((batch * p.t + i) * p.hq + head) * p.e + x)]);
      wrong += (got - expected) * (got - expected);
      total += expected * expected;
    }
  }
};

class DispatchGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const DeviceList here = list_devices(); here.devices.empty()) GTEST_SKIP() << "no GPU: " << here.reason;
  }
};

TEST_F(DispatchGpu, BuiltinPlansAreRightOnTheCallersStream) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 rng(seed);
  Dispatcher dispatcher = Dispatcher::built_in();
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  for (const char* text : {"b2 t300 hq4 hk2 d32 p2 bf16 gated", "b1 t3000 h1 d16 p2 bf16 gated", "b1 t2500 h1 d16 p2 bf16 ungated"}) {
    SCOPED_TRACE(text);
    Case data(Problem::parse(text), rng);
    const Selection selection = dispatcher.lookup(data.p);
    const auto prepared = dispatcher.prepare(selection);
    EXPECT_EQ(dispatcher.prepare(selection), prepared);
    EXPECT_EQ(prepared->workspace_bytes(), dispatcher.workspace_size(selection));
    const DeviceMemory workspace(static_cast<std::size_t>(prepared->workspace_bytes()));
    prepared->launch(data.buffers(), workspace.data(), prepared->workspace_bytes(), stream);
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    EXPECT_LT(data.error(), 1e-2) << prepared->plan().text();
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(DispatchGpu, ALaunchCanBeCapturedInAGraph) {
  std::mt19937_64 rng(1);
  Dispatcher dispatcher = Dispatcher::built_in();
  Case data(Problem::parse("b1 t3000 h1 d16 p2 bf16 gated"), rng);
  const auto prepared = dispatcher.prepare(dispatcher.lookup(data.p));
  const DeviceMemory workspace(static_cast<std::size_t>(prepared->workspace_bytes()));
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  prepared->launch(data.buffers(), workspace.data(), prepared->workspace_bytes(), stream);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(executable, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_LT(data.error(), 1e-2);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(DispatchGpu, BadBuffersAreNamed) {
  std::mt19937_64 rng(1);
  Dispatcher dispatcher = Dispatcher::built_in();
  Case data(Problem::parse("b1 t3000 h1 d16 p2 bf16 gated"), rng);
  const auto prepared = dispatcher.prepare(dispatcher.lookup(data.p));
  const std::int64_t bytes = prepared->workspace_bytes();
  const DeviceMemory workspace(static_cast<std::size_t>(bytes));
  const auto message = [&](const Buffers& buffers, void* at, std::int64_t size) -> std::string {
    try {
      prepared->launch(buffers, at, size, nullptr);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  Buffers buffers = data.buffers();
  EXPECT_NE(message(buffers, workspace.data(), bytes - 1).find("the plan needs"), std::string::npos);
  EXPECT_NE(message(buffers, nullptr, bytes).find("the plan needs"), std::string::npos);
  EXPECT_NE(message(buffers, static_cast<char*>(workspace.data()) + 16, bytes).find("256-byte"), std::string::npos);
  buffers.log_g = nullptr;
  EXPECT_NE(message(buffers, workspace.data(), bytes).find("log_g is null"), std::string::npos);
  buffers = data.buffers();
  buffers.q = static_cast<const char*>(buffers.q) + 2;
  EXPECT_NE(message(buffers, workspace.data(), bytes).find("q is not 16-byte aligned"), std::string::npos);
  buffers = data.buffers();
  buffers.y_strides = Strides{.b = 100, .t = 7, .h = 8};
  EXPECT_NE(message(buffers, workspace.data(), bytes).find("y has a stride"), std::string::npos);
}

}  // namespace
}  // namespace phitune
