#include "harness/compile/cubin.hpp"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "harness/compile/sha256.hpp"

namespace phitune {
namespace {

constexpr Elf64_Half kMachineCuda = 190;
// sm_90 and later: the driver's share of a block's shared memory, present when the reserved section is.
constexpr std::int64_t kReservedSharedBytes = 1024;

// Attributes of .nv.info: a format byte, an attribute byte, then either a 16-bit value or a 16-bit size and that many bytes.
constexpr unsigned char kFormatSized = 4;
constexpr unsigned char kFrameSize = 0x11;
constexpr unsigned char kMinStackSize = 0x12;
constexpr unsigned char kRegisterCount = 0x2f;

struct Section {
  std::string_view name;
  Elf64_Word type = 0;
  std::span<const char> bytes;  // empty for SHT_NOBITS
  std::uint64_t size = 0;
};

[[noreturn]] void broken(const std::string& what) { throw std::invalid_argument("not a complete cubin: " + what); }

template <class T>
T read_at(std::span<const char> bytes, std::uint64_t offset) {
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset)
    broken(fmt::format("{} bytes end before offset {}", bytes.size(), offset + sizeof(T)));
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::span<const char> part(std::span<const char> bytes, std::uint64_t offset, std::uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset)
    broken(fmt::format("a section ends at {}, past {} bytes", offset + size, bytes.size()));
  return bytes.subspan(offset, size);
}

std::string_view name_at(std::span<const char> names, std::uint64_t offset) {
  if (offset >= names.size()) broken("a section name lies outside the name table");
  const auto rest = names.subspan(offset);
  const auto end = std::find(rest.begin(), rest.end(), '\0');
  if (end == rest.end()) broken("a section name does not end");
  return {rest.data(), static_cast<std::size_t>(end - rest.begin())};
}

std::vector<Section> read_sections(std::span<const char> cubin) {
  const auto header = read_at<Elf64_Ehdr>(cubin, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) broken("no ELF magic");
  if (header.e_ident[EI_CLASS] != ELFCLASS64) broken("not a 64-bit ELF file");
  if (header.e_machine != kMachineCuda) broken(fmt::format("ELF machine {} is not CUDA", header.e_machine));
  const auto section_header = [&](std::uint64_t i) {
    if (i >= header.e_shnum) broken("a section index is out of range");
    return read_at<Elf64_Shdr>(cubin, header.e_shoff + i * sizeof(Elf64_Shdr));
  };
  const auto strings = section_header(header.e_shstrndx);
  const auto names = part(cubin, strings.sh_offset, strings.sh_size);
  std::vector<Section> sections;
  for (std::uint64_t i = 1; i < header.e_shnum; ++i) {
    const auto s = section_header(i);
    const bool stored = s.sh_type != SHT_NOBITS;
    sections.push_back(
        {name_at(names, s.sh_name), s.sh_type, stored ? part(cubin, s.sh_offset, s.sh_size) : std::span<const char>{}, s.sh_size});
  }
  return sections;
}

/// Attribute -> value per function symbol, of the attributes whose payload is (symbol, value).
using FunctionAttributes = std::map<std::pair<std::uint32_t, unsigned char>, std::uint32_t>;

FunctionAttributes read_function_attributes(std::span<const char> info) {
  FunctionAttributes values;
  std::uint64_t at = 0;
  while (at < info.size()) {
    const auto format = read_at<unsigned char>(info, at);
    const auto attribute = read_at<unsigned char>(info, at + 1);
    const auto size_or_value = read_at<std::uint16_t>(info, at + 2);
    at += 4;
    if (format != kFormatSized) continue;
    const auto payload = part(info, at, size_or_value);
    if (payload.size() == 8) values[{read_at<std::uint32_t>(payload, 0), attribute}] = read_at<std::uint32_t>(payload, 4);
    at += size_or_value;
  }
  return values;
}

bool executed_or_read(std::string_view name) {
  constexpr std::string_view prefixes[] = {".text",      ".nv.info",  ".nv.constant", ".nv.shared",
                                           ".nv.global", ".nv.local", ".rel",         ".nv.compat"};
  return std::any_of(std::begin(prefixes), std::end(prefixes), [&](std::string_view p) { return name.starts_with(p); }) &&
         name.find("debug") == std::string_view::npos;
}

}  // namespace

Resources read_resources(std::span<const char> cubin) {
  Resources resources;
  bool reserves_shared = false;
  bool has_kernel = false;
  for (const Section& s : read_sections(cubin)) {
    if (s.name == ".nv.info") {
      for (const auto& [key, value] : read_function_attributes(s.bytes)) {
        const auto v = static_cast<std::int64_t>(value);
        if (key.second == kRegisterCount) resources.registers = std::max(resources.registers, v);
        // Both are local memory: a function's own frame, and the least stack that the whole call tree of a kernel needs.
        if (key.second == kFrameSize || key.second == kMinStackSize) resources.spill_bytes = std::max(resources.spill_bytes, v);
      }
    }
    if (s.name.starts_with(".text.")) {
      has_kernel = true;
      resources.code_bytes += static_cast<std::int64_t>(s.size);
    }
    if (s.name.starts_with(".nv.shared.reserved"))
      reserves_shared = true;
    else if (s.name.starts_with(".nv.shared."))
      resources.static_shared_bytes = std::max(resources.static_shared_bytes, static_cast<std::int64_t>(s.size));
  }
  if (!has_kernel) broken("it holds no kernel");
  if (resources.registers == 0) broken("its .nv.info section states no register count");
  if (reserves_shared && resources.static_shared_bytes >= kReservedSharedBytes) resources.static_shared_bytes -= kReservedSharedBytes;
  return resources;
}

std::string machine_code_hash(std::span<const char> cubin) {
  Sha256 hash;
  for (const Section& s : read_sections(cubin)) {
    if (!executed_or_read(s.name)) continue;
    hash.field(s.name).field(std::to_string(s.size)).field({s.bytes.data(), s.bytes.size()});
  }
  return hash.hex();
}

}  // namespace phitune
