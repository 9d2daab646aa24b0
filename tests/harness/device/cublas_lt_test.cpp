// cuBLASLt is optional: its absence, or a machine without a GPU, is a reason in words.
#include "harness/device/cublas_lt.hpp"

#include <gtest/gtest.h>

#include "harness/error.hpp"

namespace phitune {
namespace {

TEST(CublasLt, IsThereOrSaysWhyNot) {
  const CublasLt library;
  EXPECT_EQ(library.available(), library.reason().empty());
  EXPECT_EQ(library.available(), !library.version().empty());
  if (!library.available()) {
    EXPECT_NE(library.reason().find("libcublasLt.so.12"), std::string::npos) << library.reason();
  }
}

TEST(CublasLt, RefusesWhatItCannotDoInWords) {
  CublasLt library;
  // No device here, no library, or a product that cannot be: each must name cuBLASLt.
  const Gemm impossible{.m = 16, .n = 16, .k = 16, .a = {.leading = 1}, .b = {.leading = 1}, .c = {.leading = 1}};
  try {
    library.run(impossible, {}, nullptr, nullptr, 0);
    FAIL() << "a product with rows that overlap was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("cuBLASLt"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace phitune
