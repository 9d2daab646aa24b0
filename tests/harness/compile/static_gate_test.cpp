#include "harness/compile/static_gate.hpp"

#include <gtest/gtest.h>

namespace phitune {
namespace {

DeviceInfo h200() {
  DeviceInfo device;
  device.shared_per_block = 232448;
  device.shared_per_multiprocessor = 233472;
  device.registers_per_multiprocessor = 65536;
  return device;
}

Launch launch(std::uint32_t threads, std::uint32_t dynamic_shared = 0) { return {{10, 1, 1}, {threads, 1, 1}, dynamic_shared}; }

Resources resources(std::int64_t registers, std::int64_t spill = 0, std::int64_t static_shared = 0) {
  Resources r;
  r.registers = registers;
  r.spill_bytes = spill;
  r.static_shared_bytes = static_shared;
  return r;
}

void expect_refused(const std::optional<std::string>& reason, const std::string& words) {
  ASSERT_TRUE(reason.has_value()) << "expected a reason with: " << words;
  EXPECT_NE(reason->find(words), std::string::npos) << *reason;
}

TEST(StaticGate, LetsThroughWhatFits) {
  EXPECT_EQ(static_gate(resources(255), launch(256), h200()), std::nullopt);
  EXPECT_EQ(static_gate(resources(64), launch(1024), h200()), std::nullopt);
  EXPECT_EQ(static_gate(resources(128, 64, 1024), launch(256, 232448 - 1024), h200()), std::nullopt);
}

TEST(StaticGate, CountsRegistersAsTheyAreHandedOut) {
  expect_refused(static_gate(resources(255), launch(512), h200()), "255 registers x 512 threads");
  // 65 registers are handed out as 72 per thread: 73728 for 1024 threads.
  expect_refused(static_gate(resources(65), launch(1024), h200()), "73728");
  // A partial warp takes a whole warp's registers.
  expect_refused(static_gate(resources(72), launch(993), h200()), "registers");
}

TEST(StaticGate, AddsStaticAndDynamicSharedMemory) {
  expect_refused(static_gate(resources(32, 0, 1025), launch(256, 232448 - 1024), h200()), "232449 bytes (1025 static + 231424 dynamic)");
}

TEST(StaticGate, BoundsSpills) { expect_refused(static_gate(resources(255, 72), launch(128), h200()), "72 bytes of local memory"); }

TEST(StaticGate, RefusesImpossibleGeometry) {
  expect_refused(static_gate(resources(32), launch(0), h200()), "block 0");
  expect_refused(static_gate(resources(32), launch(1025), h200()), "block 1025");
  expect_refused(static_gate(resources(32), {{1, 70000, 1}, {32, 1, 1}, 0}, h200()), "grid 1 x 70000");
  expect_refused(static_gate(resources(32), {{0, 1, 1}, {32, 1, 1}, 0}, h200()), "empty");
}

TEST(StaticGate, UnknownLimitsAreNotApplied) {
  DeviceInfo unknown;
  unknown.registers_per_multiprocessor = 0;
  EXPECT_EQ(static_gate(resources(255), launch(1024, 1 << 20), unknown), std::nullopt);
}

}  // namespace
}  // namespace phitune
