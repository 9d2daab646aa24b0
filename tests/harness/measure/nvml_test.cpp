// Protects runs on machines without NVML, and the names of throttle reasons.
#include "harness/measure/nvml.hpp"

#include <gtest/gtest.h>

namespace phitune {
namespace {

TEST(ThrottleText, NamesEveryBitButIdle) {
  EXPECT_EQ(throttle_text(0), "");
  EXPECT_EQ(throttle_text(0x1), "");
  EXPECT_EQ(throttle_text(0x4), "power cap");
  EXPECT_EQ(throttle_text(0x4 | 0x40), "power cap, hardware thermal");
}

TEST(Nvml, AbsenceIsAReasonAndEmptyAnswers) {
  const Nvml nvml("ffff:ff:1f.7");
  EXPECT_FALSE(nvml.available());
  EXPECT_FALSE(nvml.reason().empty());
  const DeviceState state = nvml.look();
  EXPECT_EQ(state.sm_clock_mhz, 0);
  EXPECT_EQ(state.throttle_reasons, "");
}

}  // namespace
}  // namespace phitune
