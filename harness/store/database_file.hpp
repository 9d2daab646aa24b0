// Opening a database file, and saying in words what SQLite's error codes mean for the person in front of it. Internal to the store.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <filesystem>
#include <memory>
#include <string>

#include "harness/error.hpp"
#include "harness/store/store.hpp"

namespace phitune {

struct DatabaseFile {
  std::unique_ptr<SQLite::Database> database;
  int file_version = 0;  // what the file says; the open database is always of the current version
};

/// Opens, checks that it is a phitune database, and migrates (in memory when read-only). Throws Error.
[[nodiscard]] DatabaseFile open_database(const std::filesystem::path& path, const StoreOptions& options);

/// "cannot <doing> in FILE: what it means and what to do".
[[nodiscard]] Error explain(const SQLite::Exception& error, const std::filesystem::path& path, const std::string& doing);

}  // namespace phitune
