// The tables of docs/database.md, as migrations. Internal to the store.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace SQLite {
class Database;
}

namespace phitune::schema {

inline constexpr std::int64_t application_id = 0x50686954;  // "PhiT"

/// One step forward: statements that turn version `to - 1` into version `to`.
struct Migration {
  int to;
  std::string_view statements;
};

/// In order, the first makes version 1 of an empty file. Written ones never change.
[[nodiscard]] std::span<const Migration> migrations();
[[nodiscard]] int current_version();

[[nodiscard]] int version(SQLite::Database& database);

/// Applies what is missing up to the last of `steps`, each in a transaction with its version. Safe when two processes open a file at once.
/// Throws SQLite::Exception.
void migrate(SQLite::Database& database, std::span<const Migration> steps);

}  // namespace phitune::schema
