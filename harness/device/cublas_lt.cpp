#include "harness/device/cublas_lt.hpp"

#include <dlfcn.h>

#if !__has_include(<cublasLt.h>)
#error "phitune needs the header of cuBLASLt: install the development package of cuBLAS (libcublas-dev-13-0 or the like) from NVIDIA"
#endif
#include <cublasLt.h>
#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <optional>
#include <type_traits>

#include "harness/error.hpp"

namespace phitune {

namespace {

/// The functions of the library that are used, with the types of its header.
struct Api {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusString) status_text;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
};

/// Fills `api`; the name of the first function that is missing, or nothing.
std::optional<std::string> resolve(void* library, Api& api) {
  std::optional<std::string> missing;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function && !missing) missing = name;
  };
  find(api.create, "cublasLtCreate");
  find(api.destroy, "cublasLtDestroy");
  find(api.version, "cublasLtGetVersion");
  find(api.status_text, "cublasLtGetStatusString");
  find(api.matmul, "cublasLtMatmul");
  find(api.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(api.desc_create, "cublasLtMatmulDescCreate");
  find(api.desc_destroy, "cublasLtMatmulDescDestroy");
  find(api.desc_set, "cublasLtMatmulDescSetAttribute");
  find(api.layout_create, "cublasLtMatrixLayoutCreate");
  find(api.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(api.layout_set, "cublasLtMatrixLayoutSetAttribute");
  find(api.preference_create, "cublasLtMatmulPreferenceCreate");
  find(api.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(api.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  return missing;
}

void check(const Api& api, cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw Error(ExitCode::failed, fmt::format("cuBLASLt: {} failed: {}", what, api.status_text(status)));
}

template <class Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

cudaDataType data_type(Dtype dtype) { return dtype == Dtype::bf16 ? CUDA_R_16BF : dtype == Dtype::fp16 ? CUDA_R_16F : CUDA_R_32F; }

const char* element_name(Dtype dtype) { return dtype == Dtype::bf16 ? "bf16" : dtype == Dtype::fp16 ? "fp16" : "fp32"; }

std::int64_t element_offset(const GemmOperand& operand, std::int64_t i, std::int64_t j) {
  return (i * operand.outer[0] + j * operand.outer[1]) * bytes(operand.dtype);
}

/// A product ready to run. The library is column-major, where a row-major matrix is its transpose: C^T = B^T A^T is what it computes.
struct Prepared {
  Prepared(const Api& api, cublasLtHandle_t handle, const Gemm& gemm_, std::size_t workspace_)
      : gemm(gemm_),
        workspace(workspace_),
        desc(make_desc(api, gemm)),
        a(make_layout(api, gemm.a, gemm.a_transposed ? gemm.m : gemm.k, gemm.a_transposed ? gemm.k : gemm.m, gemm.batch)),
        b(make_layout(api, gemm.b, gemm.n, gemm.k, gemm.batch)),
        c(make_layout(api, gemm.c, gemm.n, gemm.m, gemm.batch)) {
    choose(api, handle);
  }

  static Owned<cublasLtMatmulDesc_t> make_desc(const Api& api, const Gemm& gemm) {
    const bool wide = gemm.a.dtype == Dtype::fp32;
    cublasLtMatmulDesc_t made = nullptr;
    check(api, api.desc_create(&made, wide ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
    Owned<cublasLtMatmulDesc_t> owned(made, api.desc_destroy);
    const cublasOperation_t second = gemm.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(api, api.desc_set(made, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), "describing a transposed operand");
    return owned;
  }

  static Owned<cublasLtMatrixLayout_t> make_layout(const Api& api, const GemmOperand& x, std::int64_t rows, std::int64_t columns,
                                                   std::int64_t batch) {
    cublasLtMatrixLayout_t made = nullptr;
    check(api,
          api.layout_create(&made, data_type(x.dtype), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), x.leading),
          "describing an operand");
    Owned<cublasLtMatrixLayout_t> owned(made, api.layout_destroy);
    const auto count = static_cast<std::int32_t>(batch);
    check(api, api.layout_set(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count), "describing a batch");
    check(api, api.layout_set(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x.batch, sizeof x.batch), "describing a batch");
    return owned;
  }

  void choose(const Api& api, cublasLtHandle_t handle) {
    cublasLtMatmulPreference_t made = nullptr;
    check(api, api.preference_create(&made), "describing a preference");
    const Owned<cublasLtMatmulPreference_t> preference(made, api.preference_destroy);
    check(api, api.preference_set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace), "describing a preference");
    // Chunks and heads of a batch start wherever their size puts them.
    const std::uint32_t alignment = 16;
    for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      check(api, api.preference_set(made, attribute, &alignment, sizeof alignment), "describing a preference");
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    check(api, api.heuristic(handle, desc.get(), b.get(), a.get(), c.get(), c.get(), made, 1, &result, &found), "choosing an algorithm");
    if (found == 0) {
      throw Error(ExitCode::failed, fmt::format("cuBLASLt has no algorithm for the product of {} x {} x {} ({} operands, batch {})", gemm.m,
                                                gemm.n, gemm.k, element_name(gemm.a.dtype), gemm.batch));
    }
    algorithm = result.algo;
  }

  Gemm gemm;
  std::size_t workspace;
  Owned<cublasLtMatmulDesc_t> desc;
  Owned<cublasLtMatrixLayout_t> a, b, c;
  cublasLtMatmulAlgo_t algorithm{};
};

}  // namespace

struct CublasLt::State {
  std::unique_ptr<void, int (*)(void*)> library{nullptr, dlclose};
  Api api{};
  // Made at the first product, since it needs a device.
  Owned<cublasLtHandle_t> handle{nullptr, nullptr};
  std::list<Prepared> prepared;

  const Prepared& prepare(const Gemm& gemm, std::size_t workspace) {
    const auto known =
        std::find_if(prepared.begin(), prepared.end(), [&](const Prepared& p) { return p.gemm == gemm && p.workspace == workspace; });
    if (known != prepared.end()) return *known;
    if (!handle) {
      cublasLtHandle_t made = nullptr;
      check(api, api.create(&made), "starting on this device");
      handle = Owned<cublasLtHandle_t>(made, api.destroy);
    }
    return prepared.emplace_back(api, handle.get(), gemm, workspace);
  }
};

CublasLt::CublasLt() {
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    auto state = std::make_unique<State>();
    state->library.reset(dlopen(name, RTLD_NOW | RTLD_LOCAL));
    if (!state->library) {
      reason_ += fmt::format("{}{}", reason_.empty() ? "cuBLASLt is not available: " : "; ", dlerror());
      continue;
    }
    if (const auto missing = resolve(state->library.get(), state->api)) {
      reason_ += fmt::format("{}{} lacks {}", reason_.empty() ? "cuBLASLt is not available: " : "; ", name, *missing);
      continue;
    }
    state_ = std::move(state);
    reason_.clear();
    return;
  }
}

CublasLt::~CublasLt() = default;

std::string CublasLt::version() const {
  if (!state_) return {};
  const std::size_t number = state_->api.version();
  return fmt::format("{}.{}.{}", number / 10000, number / 100 % 100, number % 100);
}

void CublasLt::run(const Gemm& gemm, const GemmPointers& pointers, void* stream, void* workspace, std::size_t bytes) {
  if (!state_) throw Error(ExitCode::failed, reason_);
  const Prepared& product = state_->prepare(gemm, bytes);
  const float one = 1, zero = 0;
  for (std::int64_t i = 0; i < gemm.outer[0]; ++i) {
    for (std::int64_t j = 0; j < gemm.outer[1]; ++j) {
      const char* a = static_cast<const char*>(pointers.a) + element_offset(gemm.a, i, j);
      const char* b = static_cast<const char*>(pointers.b) + element_offset(gemm.b, i, j);
      char* c = static_cast<char*>(pointers.c) + element_offset(gemm.c, i, j);
      check(
          state_->api,
          state_->api.matmul(state_->handle.get(), product.desc.get(), &one, b, product.b.get(), a, product.a.get(), &zero, c,
                             product.c.get(), c, product.c.get(), &product.algorithm, workspace, bytes, static_cast<cudaStream_t>(stream)),
          "a product");
    }
  }
}

}  // namespace phitune
