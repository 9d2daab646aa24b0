// How long a silent worker is waited for.
#include "harness/worker/deadlines.hpp"

#include <gtest/gtest.h>

namespace phitune::worker {
namespace {

TEST(Deadlines, TheFirstOfItsKindHasLong) {
  const Deadlines deadlines;
  EXPECT_EQ(deadlines.of("a", 0), Deadlines::kFirstMs);
}

TEST(Deadlines, LaterOnesFollowTheLongestThatWasSeen) {
  Deadlines deadlines;
  deadlines.saw("a", 3000);
  deadlines.saw("a", 1000);
  EXPECT_EQ(deadlines.of("a", 0), Deadlines::kTimes * 3000);
  EXPECT_EQ(deadlines.of("b", 0), Deadlines::kFirstMs) << "what one kind takes says nothing of another";
}

TEST(Deadlines, AShortTrialDoesNotMakeAHastyOne) {
  Deadlines deadlines;
  deadlines.saw("a", 0.1);
  EXPECT_EQ(deadlines.of("a", 0), Deadlines::kLeastMs);
}

TEST(Deadlines, TheWorkersOwnLimitOfALaunchComesFirst) {
  Deadlines deadlines;
  deadlines.saw("a", 1);
  EXPECT_GE(deadlines.of("a", 60000), 2 * 60000);
}

TEST(Deadlines, AFixedOneIsFixed) {
  Deadlines deadlines(500);
  deadlines.saw("a", 100000);
  EXPECT_EQ(deadlines.of("a", 60000), 500);
}

}  // namespace
}  // namespace phitune::worker
