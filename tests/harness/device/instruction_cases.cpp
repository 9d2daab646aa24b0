#include "tests/harness/device/instruction_cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

#include "harness/compile/host_compiler.hpp"
#include "kernel_templates/common/host/executor.hpp"
#include "search/text.hpp"

namespace phitune::testing_support {
namespace {

using u32s = std::vector<std::uint32_t>;

// ---- inputs ----

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : rng_(seed) {}

  std::uint32_t word(Words kind) {
    switch (kind) {
      case Words::bits:
        return bits();
      case Words::bf16:
        return pair([&] { return finite(0x7f80u, bits() & 0xffffu); });
      case Words::fp16:
        return pair([&] { return finite(0x7c00u, bits() & 0xffffu); });
      case Words::fp32:
        return finite(0x7f800000u, bits());
      case Words::exponents:
        return float_bits(static_cast<float>(static_cast<int>(bits() % 160000) - 130000) * 1e-3f);
      case Words::small_bf16:
        return pair([&] { return float_to_bf16(small()); });
      case Words::small_fp16:
        return pair([&] { return float_to_fp16(small()); });
      case Words::small_fp32:
        return float_bits(small());
      case Words::small_tf32:
        return float_bits(small()) | (bits() & 0x1fffu);
    }
    throw std::logic_error("unknown kind of words");
  }

 private:
  std::uint32_t bits() { return static_cast<std::uint32_t>(rng_() >> 32); }
  float small() { return static_cast<float>(static_cast<int>(bits() % 17) - 8); }
  // The lowest bit of the exponent is cleared where all are set.
  static std::uint32_t finite(std::uint32_t exponent, std::uint32_t x) {
    return (x & exponent) == exponent ? x & ~(exponent & (~exponent + 1)) : x;
  }
  template <class Half>
  std::uint32_t pair(Half&& half) {
    const std::uint32_t low = half();
    return low | static_cast<std::uint32_t>(half()) << 16;
  }

  std::mt19937_64 rng_;
};

// ---- cases ----

constexpr const char* kToShared =
    "U4* const rows = reinterpret_cast<U4*>(shared_memory());\n"
    "  rows[t] = reinterpret_cast<const U4*>(in)[t];\n"
    "  block_barrier();\n";

std::vector<InstructionCase> sm80_cases() {
  using enum Words;
  std::vector<InstructionCase> cases;
  const auto loads = [&](const char* name, int matrices) {
    cases.push_back({name,
                     fmt::format("{}  u32 r[{}];\n  {}(r, rows + t);\n  for (int i = 0; i < {}; ++i) out[{} * t + i] = r[i];", kToShared,
                                 matrices, name, matrices, matrices),
                     {bits, bits, bits, bits},
                     32,
                     static_cast<std::uint32_t>(matrices),
                     512});
  };
  loads("ldmatrix_x4", 4), loads("ldmatrix_x4_trans", 4), loads("ldmatrix_x2", 2), loads("ldmatrix_x2_trans", 2);
  const auto product = [&](const char* label, const char* name, Words operand) {
    cases.push_back({label,
                     fmt::format("float c[4];\n  u32 a[4], b[2];\n  const u32* const from = in + 10 * t;\n"
                                 "  for (int i = 0; i < 4; ++i) a[i] = from[i], c[i] = bits_float(from[6 + i]);\n"
                                 "  b[0] = from[4], b[1] = from[5];\n  {}(c, a, b);\n"
                                 "  for (int i = 0; i < 4; ++i) out[4 * t + i] = float_bits(c[i]);",
                                 name),
                     {operand, operand, operand, operand, operand, operand, small_fp32, small_fp32, small_fp32, small_fp32},
                     32,
                     4});
  };
  product("mma_m16n8k16_bf16", "mma_m16n8k16_bf16", small_bf16);
  product("mma_m16n8k16_f16", "mma_m16n8k16_f16", small_fp16);
  product("mma_m16n8k8_tf32", "mma_m16n8k8_tf32", small_fp32);
  product("mma_m16n8k8_tf32_ignored_bits", "mma_m16n8k8_tf32", small_tf32);
  const auto binary = [&](const char* name, Words kind, const char* body) { cases.push_back({name, body, {kind, kind}, 1024}); };
  binary("mul_bf16x2", bf16, "out[t] = mul_bf16x2(in[2 * t], in[2 * t + 1]);");
  cases.push_back({"fma_bf16x2", "out[t] = fma_bf16x2(in[3 * t], in[3 * t + 1], in[3 * t + 2]);", {bf16, bf16, bf16}, 1024});
  // What is left of a product whose rounded value is taken away again.
  binary("fma_bf16x2_cancelling", bf16,
         "out[t] = fma_bf16x2(in[2 * t], in[2 * t + 1], mul_bf16x2(in[2 * t], in[2 * t + 1]) ^ 0x80008000u);");
  binary("mul_f16x2", fp16, "out[t] = mul_f16x2(in[2 * t], in[2 * t + 1]);");
  binary("pack_bf16x2", fp32, "out[t] = pack_bf16x2(bits_float(in[2 * t]), bits_float(in[2 * t + 1]));");
  binary("pack_f16x2", fp32, "out[t] = pack_f16x2(bits_float(in[2 * t]), bits_float(in[2 * t + 1]));");
  // Around the range of fp16, subnormals and overflow among them.
  cases.push_back({"pack_f16x2_range",
                   "out[t] = pack_f16x2(bits_float((in[t] % 48u + 97u) << 23 | (in[t] >> 9)), bits_float(in[t] & 0x80000000u));",
                   {bits},
                   1024});
  const auto unary = [&](const char* name, Words kind, const char* body, std::uint32_t words = 1, std::uint32_t ulps = 0) {
    cases.push_back({name, body, {kind}, 1024, words, 0, ulps});
  };
  unary("bf16_halves", bf16, "out[2 * t] = float_bits(low_bf16(in[t])), out[2 * t + 1] = float_bits(high_bf16(in[t]));", 2);
  unary("fp16_halves", fp16, "out[2 * t] = float_bits(low_f16(in[t])), out[2 * t + 1] = float_bits(high_f16(in[t]));", 2);
  unary("to_tf32", fp32, "out[t] = to_tf32(bits_float(in[t]));");
  unary("float_to_bf16", fp32, "out[t] = float_to_bf16(bits_float(in[t]));");
  unary("float_to_fp16", fp32, "out[t] = float_to_fp16(bits_float(in[t]));");
  unary("exp2_approx", exponents, "out[t] = float_bits(exp2_approx(bits_float(in[t])));", 1, 2);
  cases.push_back({"permute_bytes", "out[t] = permute_bytes(in[3 * t], in[3 * t + 1], in[3 * t + 2]);", {bits, bits, bits}, 1024});
  unary("shuffle_xor", bits, "for (int i = 0; i < 5; ++i) out[5 * t + i] = shuffle_xor(in[t], 1 << i);", 5);
  unary("shuffle", bits, "out[2 * t] = shuffle(in[t], 7), out[2 * t + 1] = shuffle(in[t], static_cast<int>(in[t] & 31u));", 2);
  unary("place", bits, "out[4 * t] = lane(), out[4 * t + 1] = warp(), out[4 * t + 2] = block_threads(), out[4 * t + 3] = thread_index();",
        4);
  cases.push_back({"cp_async_16",
                   "U4* const rows = reinterpret_cast<U4*>(shared_memory());\n"
                   "  rows[t] = U4{1, 2, 3, 4};\n  cp_async_16(rows + t, in + 4 * (31 - t), t % 3 != 0);\n  cp_async_commit();\n"
                   "  cp_async_wait<0>();\n  block_barrier();\n  store_global_16(out + 4 * t, rows[t ^ 5]);",
                   {bits, bits, bits, bits},
                   32,
                   4,
                   512});
  cases.push_back({"cp_async_4",
                   "u32* const words = reinterpret_cast<u32*>(shared_memory());\n"
                   "  words[t] = 9;\n  cp_async_4(words + t, in + (63 - t), t % 3 != 0);\n  cp_async_commit();\n"
                   "  cp_async_wait<0>();\n  block_barrier();\n  out[t] = words[t ^ 33];",
                   {bits},
                   64,
                   1,
                   256});
  cases.push_back({"load_global_16",
                   "const U4 a = load_global_16(in + 4 * t), b = load_global_16_streaming(in + 4 * (31 - t));\n"
                   "  store_global_16(out + 4 * t, U4{a.x, b.y, a.z, b.w});",
                   {bits, bits, bits, bits},
                   32,
                   4});
  cases.push_back({"named_barrier",
                   "u32* const words = reinterpret_cast<u32*>(shared_memory());\n"
                   "  words[t] = in[t];\n  named_barrier(1 + t / 64, 64);\n  out[t] = words[t ^ 63];",
                   {bits},
                   128,
                   1,
                   512});
  return cases;
}

std::vector<InstructionCase> sm90_cases() {
  using enum Words;
  std::vector<InstructionCase> cases;
  cases.push_back({"stmatrix_x4_trans",
                   "u32 r[4];\n  for (int i = 0; i < 4; ++i) r[i] = in[4 * t + i];\n"
                   "  stmatrix_x4_trans(shared_memory() + 16 * (t ^ 3), r);\n  block_barrier();\n"
                   "  for (int i = 0; i < 4; ++i) out[4 * t + i] = reinterpret_cast<u32*>(shared_memory())[4 * t + i];",
                   {bits, bits, bits, bits},
                   32,
                   4,
                   512});
  cases.push_back({"bulk_copy",
                   "Barrier* const full = reinterpret_cast<Barrier*>(shared_memory() + 2048);\n"
                   "  if (t == 0) barrier_init(full, 1), barrier_init_fence();\n  block_barrier();\n"
                   "  for (int phase = 0; phase < 3; ++phase) {\n"
                   "    if (t == 0) {\n      barrier_arrive_expect(full, 512);\n"
                   "      bulk_copy(shared_memory() + phase * 512, in + phase * 128, 512, full);\n    }\n"
                   "    barrier_wait(full, phase & 1);\n  }\n"
                   "  for (int i = 0; i < 3; ++i) out[3 * t + i] = reinterpret_cast<u32*>(shared_memory())[i * 128 + (t ^ 9)];",
                   {bits, bits, bits},
                   128,
                   3,
                   2056});
  for (const int n : {16, 24, 32, 40, 64, 72, 128, 136}) {
    for (const bool n_contiguous : {true, false}) {
      // B is 2 x n / 8 core matrices; either way eight more of k are n / 8 core matrices on.
      cases.push_back({fmt::format("wgmma_bf16_n{}_{}", n, n_contiguous ? "n_contiguous" : "k_contiguous"),
                       fmt::format("u32* const words = reinterpret_cast<u32*>(shared_memory());\n"
                                   "  for (int i = t; i < {0} * 8; i += 128) words[i] = in[i];\n"
                                   "  fence_async_shared();\n  block_barrier();\n"
                                   "  u32 a[4];\n  for (int i = 0; i < 4; ++i) a[i] = in[{0} * 8 + 4 * t + i];\n"
                                   "  float c[{1}];\n  for (int i = 0; i < {1}; ++i) c[i] = static_cast<float>(i);\n"
                                   "  const SharedMatrix b = core_matrices(shared_memory(), {2}, 128);\n"
                                   "  settle(c);\n  wgmma_fence();\n  wgmma_bf16<{0}, {3}>(c, a, b, true);\n"
                                   "  wgmma_commit();\n  wgmma_wait<0>();\n  settle(c);\n"
                                   "  for (int i = 0; i < {1}; ++i) out[{1} * t + i] = float_bits(c[i]);",
                                   n, n / 2, n / 8 * 128, n_contiguous),
                       std::vector<Words>(static_cast<std::size_t>(n / 16 + 5), small_bf16), 128, static_cast<std::uint32_t>(n / 2),
                       static_cast<std::uint32_t>(n * 32)});
    }
  }
  // The same of fp16, B with k contiguous: fp32 sums, and packed ones, once within what fp16 holds exactly and once beyond.
  const auto of_fp16 = [&](const std::string& label, int n, bool packed, const char* operand) {
    const int words = packed ? n / 4 : n / 2;
    cases.push_back({label,
                     fmt::format("u32* const words = reinterpret_cast<u32*>(shared_memory());\n"
                                 "  for (int i = t; i < {0} * 8; i += 128) words[i] = in[i];\n"
                                 "  fence_async_shared();\n  block_barrier();\n"
                                 "  u32 a[4];\n  for (int i = 0; i < 4; ++i) a[i] = {6};\n"
                                 "  {4} c[{1}];\n  for (int i = 0; i < {1}; ++i) c[i] = {5};\n"
                                 "  const SharedMatrix b = core_matrices(shared_memory(), {2}, 128);\n"
                                 "  settle(c);\n  wgmma_fence();\n  {3}<{0}>(c, a, b, true);\n"
                                 "  wgmma_commit();\n  wgmma_wait<0>();\n  settle(c);\n"
                                 "  for (int i = 0; i < {1}; ++i) out[{1} * t + i] = {7};",
                                 n, words, n / 8 * 128, packed ? "wgmma_f16_packed" : "wgmma_f16", packed ? "u32" : "float",
                                 packed ? "0x3c004000u" : "static_cast<float>(i)", fmt::format(fmt::runtime(operand), n),
                                 packed ? "c[i]" : "float_bits(c[i])"),
                     std::vector<Words>(static_cast<std::size_t>(n / 16 + 5), small_fp16), 128, static_cast<std::uint32_t>(words),
                     static_cast<std::uint32_t>(n * 32)});
  };
  for (const int n : {24, 40}) of_fp16(fmt::format("wgmma_f16_n{}", n), n, false, "in[{} * 8 + 4 * t + i]");
  of_fp16("wgmma_f16_packed_n128", 128, true, "in[{} * 8 + 4 * t + i]");
  of_fp16("wgmma_f16_packed_n128_rounded", 128, true, "mul_f16x2(in[{} * 8 + 4 * t + i], 0x50a050a0u)");
  return cases;
}

std::string hex(const u32s& words) {
  std::string text;
  for (const std::uint32_t word : words) text += fmt::format("{:08x}", word);
  return text;
}

u32s from_hex(const std::string& text) {
  u32s words;
  for (std::size_t i = 0; i + 8 <= text.size(); i += 8)
    words.push_back(static_cast<std::uint32_t>(std::stoul(text.substr(i, 8), nullptr, 16)));
  return words;
}

// Of positive floats: how many lie between them.
std::uint32_t apart(std::uint32_t a, std::uint32_t b) { return a > b ? a - b : b - a; }

}  // namespace

std::vector<InstructionCase> instruction_cases(const std::string& path) {
  if (path == "sm80") return sm80_cases();
  if (path == "sm90") return sm90_cases();
  throw std::invalid_argument("no instructions of path " + path);
}

std::string kernel_source(const std::string& path) {
  const std::vector<InstructionCase> cases = instruction_cases(path);
  std::string text = fmt::format(
      "#include \"kernel_templates/common/args.cuh\"\n#include \"kernel_templates/common/instructions{}.cuh\"\n"
      "extern \"C\" __global__ void __launch_bounds__({}) phitune_kernel(const __grid_constant__ phitune::Args args) {{\n"
      "using namespace phitune;\nconst u32* const in = static_cast<const u32*>(args.q);\nu32* const out = static_cast<u32*>(args.y);\n"
      "const int t = thread_index();\nswitch (args.b) {{\n",
      path == "sm90" ? "_sm90" : "", std::ranges::max(cases, {}, &InstructionCase::threads).threads);
  int index = 0;
  for (const InstructionCase& one : cases) text += fmt::format("case {}: {{  // {}\n  {}\n  break;\n}}\n", index++, one.name, one.body);
  return text + "}\n}\n";
}

u32s inputs_of(const InstructionCase& one, std::uint64_t seed) {
  Draw draw(seed + fnv1a(one.name));
  u32s words;
  for (std::uint32_t t = 0; t < one.threads; ++t)
    for (const Words kind : one.inputs) words.push_back(draw.word(kind));
  return words;
}

Launch launch_of(const InstructionCase& one) {
  return {.grid = {1, 1, 1}, .block = {one.threads, 1, 1}, .dynamic_shared_bytes = one.shared_bytes};
}

Outputs run_on_host(const std::string& path, std::uint64_t seed, const std::filesystem::path& cache) {
  HostCompiler compiler(cache);
  const HostCompiled compiled = compiler.compile(kernel_source(path));
  if (compiled.outcome != Outcome::ok) throw std::runtime_error(compiled.reason);
  Outputs outputs;
  Args args;
  for (const InstructionCase& one : instruction_cases(path)) {
    std::vector<U4> in, out;
    const u32s words = inputs_of(one, seed);
    in.assign(words.size() / 4 + 1, U4{});
    std::copy(words.begin(), words.end(), reinterpret_cast<std::uint32_t*>(in.data()));
    const std::size_t count = std::size_t{one.threads} * one.words_out;
    out.assign(count / 4 + 1, U4{});
    args.q = in.data();
    args.y = out.data();
    host::launch({1, 1, 1}, {one.threads, 1, 1}, one.shared_bytes, [&] { compiled.kernel->run(args); });
    const auto* const from = reinterpret_cast<const std::uint32_t*>(out.data());
    outputs[one.name] = u32s(from, from + count);
    ++args.b;
  }
  return outputs;
}

std::string differences(const std::string& path, const Outputs& expected, const Outputs& actual) {
  std::string text;
  for (const InstructionCase& one : instruction_cases(path)) {
    const auto want = expected.find(one.name);
    if (want == expected.end()) {
      text += one.name + ": not recorded; record again\n";
      continue;
    }
    const u32s& got = actual.at(one.name);
    std::size_t count = 0, first = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (i < want->second.size() && apart(got[i], want->second[i]) <= one.ulps) continue;
      if (count++ == 0) first = i;
    }
    if (count == 0) continue;
    text += fmt::format("{}: {} of {} words differ, first word {} (thread {}): {:08x}, recorded {:08x}\n", one.name, count, got.size(),
                        first, first / one.words_out, got[first], first < want->second.size() ? want->second[first] : 0);
  }
  return text;
}

InstructionRecording read_instructions(const std::filesystem::path& path) {
  const auto json = nlohmann::json::parse(std::ifstream(path));
  InstructionRecording recording{json.at("device"), json.at("architecture"), json.at("driver"), json.at("nvrtc"), json.at("seed"), {}};
  for (const auto& [name, cases] : json.at("outputs").items())
    for (const auto& [one, words] : cases.items()) recording.outputs[name][one] = from_hex(words.get<std::string>());
  return recording;
}

void write_instructions(const std::filesystem::path& path, const InstructionRecording& recording) {
  nlohmann::ordered_json json = {{"device", recording.device},
                                 {"architecture", recording.architecture},
                                 {"driver", recording.driver},
                                 {"nvrtc", recording.nvrtc},
                                 {"seed", recording.seed}};
  for (const auto& [name, cases] : recording.outputs)
    for (const auto& [one, words] : cases) json["outputs"][name][one] = hex(words);
  std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path);
  if (!(out << json.dump(1) << '\n' << std::flush)) throw std::runtime_error("cannot write " + path.string());
}

}  // namespace phitune::testing_support
