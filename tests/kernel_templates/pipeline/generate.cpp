// Writes the kernels of all cases as C++: generate SEED PREFIX SHARDS makes PREFIX0.cpp ... and PREFIXtable.cpp. Files that would not
// change are left alone, so that they are not compiled again.
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/kernel_templates/pipeline/cases.hpp"

namespace phitune::kernel_test {
namespace {

void write(const std::string& path, const std::string& text) {
  std::ostringstream old;
  if (std::ifstream in(path); in) old << in.rdbuf();
  if (old.str() == text) return;
  std::ofstream out(path);
  if (!(out << text << std::flush)) throw std::runtime_error("cannot write " + path);
}

// CUDA's words mean nothing here; every kernel gets a name of its own.
std::string shard(const std::vector<std::pair<std::string, std::size_t>>& kernels, std::size_t index) {
  std::ostringstream out;
  out << "#define __global__\n#define __launch_bounds__(...)\n#define __grid_constant__\n"
      << "#include \"tests/kernel_templates/pipeline/host_kernels.hpp\"\n";
  for (const auto& [source, id] : kernels) {
    out << "#define phitune_kernel phitune_kernel_" << id << "\n" << source << "#undef phitune_kernel\n";
  }
  out << "namespace phitune::kernel_test {\nvoid add_kernels_" << index << "(std::vector<HostKernel>& all) {\n";
  for (const auto& [source, id] : kernels) out << "  all.push_back({R\"~(" << source << ")~\", phitune_kernel_" << id << "});\n";
  out << "}\n}\n";
  return out.str();
}

std::string table(std::uint64_t seed, std::size_t shards) {
  std::ostringstream out;
  out << "#include \"tests/kernel_templates/pipeline/host_kernels.hpp\"\nnamespace phitune::kernel_test {\n";
  for (std::size_t i = 0; i < shards; ++i) out << "void add_kernels_" << i << "(std::vector<HostKernel>& all);\n";
  out << "const std::vector<HostKernel>& host_kernels() {\n  static const std::vector<HostKernel> kernels = [] {\n"
      << "    std::vector<HostKernel> all;\n";
  for (std::size_t i = 0; i < shards; ++i) out << "    add_kernels_" << i << "(all);\n";
  out << "    return all;\n  }();\n  return kernels;\n}\nstd::uint64_t host_kernel_seed() { return " << seed << "u; }\n}\n";
  return out.str();
}

int generate(std::uint64_t seed, const std::string& prefix, std::size_t shards) {
  std::map<std::string, std::size_t> sources;
  for (const PlannedCase& c : plan_cases(seed)) {
    for (const StageRun& stage : c.stages) {
      if (!stage.source.empty()) sources.emplace(stage.source, sources.size());
    }
  }
  std::vector<std::vector<std::pair<std::string, std::size_t>>> parts(shards);
  for (const auto& [source, id] : sources) parts[id % shards].emplace_back(source, id);
  for (std::size_t i = 0; i < shards; ++i) write(prefix + std::to_string(i) + ".cpp", shard(parts[i], i));
  write(prefix + "table.cpp", table(seed, shards));
  std::cout << sources.size() << " kernels for the CPU, sampled by seed " << seed << '\n';
  return 0;
}

}  // namespace
}  // namespace phitune::kernel_test

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::invalid_argument("usage: generate SEED PREFIX SHARDS");
    return phitune::kernel_test::generate(std::stoull(argv[1]), argv[2], std::stoul(argv[3]));
  } catch (const std::exception& error) {
    std::cerr << "generate: " << error.what() << '\n';
    return 1;
  }
}
