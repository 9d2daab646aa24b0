// Machine code of winners and finalists.
#include <zlib.h>

#include "harness/compile/sha256.hpp"
#include "harness/store/rows.hpp"
#include "harness/store/store_state.hpp"

namespace phitune {
namespace {

std::vector<char> deflated(const std::vector<char>& bytes) {
  uLongf size = compressBound(static_cast<uLong>(bytes.size()));
  std::vector<char> packed(size);
  const int status = compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                               static_cast<uLong>(bytes.size()), Z_BEST_COMPRESSION);
  if (status != Z_OK)
    throw Error(ExitCode::failed, fmt::format("cannot compress a cubin of {} bytes (zlib status {})", bytes.size(), status));
  packed.resize(size);
  return packed;
}

// Empty when the bytes are not `size` bytes deflated.
std::vector<char> inflated(const std::vector<char>& packed, std::int64_t size) {
  // Deflate gains at most a factor of 1032, so a damaged size cannot ask for all of memory.
  if (size < 0 || size > static_cast<std::int64_t>(packed.size()) * 1032 + 64) return {};
  std::vector<char> bytes(static_cast<std::size_t>(size));
  uLongf produced = static_cast<uLongf>(size);
  const int status = uncompress(reinterpret_cast<Bytef*>(bytes.data()), &produced, reinterpret_cast<const Bytef*>(packed.data()),
                                static_cast<uLong>(packed.size()));
  if (status != Z_OK || produced != bytes.size()) return {};
  return bytes;
}

}  // namespace

bool Store::add(const Binary& binary) {
  if (binary.cubin_hash.empty()) throw Error(ExitCode::failed, "a binary without a hash cannot be stored");
  return state_->write("store a cubin", [&] {
    SQLite::Statement& query = state_->statement("SELECT 1 FROM binary WHERE hash = ?");
    Binder(query).text(binary.cubin_hash);
    const bool known = query.executeStep();
    query.reset();
    if (known) return false;
    const std::vector<char> packed = deflated(binary.cubin);
    SQLite::Statement& insert =
        state_->statement(fmt::format("INSERT INTO binary (hash, cubin, bytes, checksum, {}) VALUES ({})", resource_columns, marks(9)));
    Binder row(insert);
    row.text(binary.cubin_hash).blob(packed.data(), packed.size()).integer(static_cast<std::int64_t>(binary.cubin.size()));
    row.text(sha256_hex(binary.cubin));
    put(row, std::optional<Resources>(binary.resources));
    return insert.exec() == 1;
  });
}

std::shared_ptr<const Binary> Store::binary(const std::string& cubin_hash) {
  return state_->guarded("read a cubin", [&]() -> std::shared_ptr<const Binary> {
    SQLite::Statement query(state_->database(),
                            fmt::format("SELECT cubin, bytes, checksum, {} FROM binary WHERE hash = ?", resource_columns));
    Binder(query).text(cubin_hash);
    if (!query.executeStep()) return nullptr;
    Reader from(query);
    const std::vector<char> packed = from.blob();
    const std::int64_t bytes = from.integer();
    const std::string checksum = from.text();
    auto binary = std::make_shared<Binary>();
    binary->cubin = inflated(packed, bytes);
    binary->cubin_hash = cubin_hash;
    binary->resources = read_resources(from).value_or(Resources{});
    if (sha256_hex(binary->cubin) != checksum) {
      throw Error(ExitCode::io,
                  fmt::format("{}: the cubin {} does not match its checksum: the file is damaged. Restore a copy, or sweep again",
                              state_->path.string(), cubin_hash));
    }
    return binary;
  });
}

}  // namespace phitune
