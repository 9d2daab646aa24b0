// Messages between a sweep and its worker: whole or an error, never half.
#include "harness/worker/wire.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <thread>

namespace phitune::worker {
namespace {

constexpr double kForEver = std::numeric_limits<double>::infinity();

void write_raw(const Wire& wire, const std::string& bytes) {
  ASSERT_EQ(::send(wire.descriptor(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
}

TEST(Wire, WhatIsSentArrives) {
  auto [here, there] = Wire::pair();
  const std::vector<char> bytes(3000000, 7);  // more than a socket's buffer
  const nlohmann::json document = {{"ask", "stage"}, {"nan", std::numeric_limits<double>::quiet_NaN()}};
  std::thread sender([&here = here, &document, &bytes] { here.send(document, bytes); });
  const auto got = there.receive(kForEver);
  sender.join();
  ASSERT_TRUE(got);
  EXPECT_EQ(got->document.at("ask"), "stage");
  EXPECT_TRUE(std::isnan(got->document.at("nan").get<double>()));
  EXPECT_EQ(got->attachment, bytes);
}

TEST(Wire, SilenceIsNotAMessage) {
  auto [here, there] = Wire::pair();
  EXPECT_FALSE(there.receive(5));
}

TEST(Wire, TheEndOfTheOtherSideIsAnError) {
  auto [here, there] = Wire::pair();
  { const Wire gone = std::move(here); }
  EXPECT_THROW(static_cast<void>(there.receive(kForEver)), Broken);
  EXPECT_THROW(there.send({{"ask", "stage"}}), Broken);
}

TEST(Wire, AMessageThatStopsInTheMiddleIsAnError) {
  auto [here, there] = Wire::pair();
  write_raw(here, std::string("\x10\0\0\0\0\0\0\0abc", 11));
  { const Wire gone = std::move(here); }
  EXPECT_THROW(static_cast<void>(there.receive(kForEver)), Broken);
}

TEST(Wire, ALengthBeyondTheLimitIsRefusedBeforeItIsAllocated) {
  auto [here, there] = Wire::pair();
  write_raw(here, std::string("\0\0\0\0\xff\xff\xff\xff", 8));
  EXPECT_THROW(static_cast<void>(there.receive(kForEver)), Broken);
}

TEST(Wire, WhatIsNotADocumentIsAnError) {
  auto [here, there] = Wire::pair();
  write_raw(here, std::string("\x02\0\0\0\0\0\0\0\xff\xff", 10));
  EXPECT_THROW(static_cast<void>(there.receive(kForEver)), Broken);
}

}  // namespace
}  // namespace phitune::worker
