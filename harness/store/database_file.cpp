#include "harness/store/database_file.hpp"

#include <SQLiteCpp/Backup.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cctype>
#include <system_error>

#include "harness/store/schema.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;

Error bad(const fs::path& path, const std::string& what) { return {ExitCode::bad_input, fmt::format("{}: {}", path.string(), what)}; }

std::string meaning(int code) {
  switch (code & 0xff) {
    case SQLITE_NOTADB:
      return "it is not a SQLite database; name a phitune database, or a new path to create one";
    case SQLITE_CORRUPT:
      return "the database is damaged; restore a copy, or save what is readable with sqlite3's .recover into a new file";
    case SQLITE_FULL:
      return "the disk is full, or the size limit was reached; what was stored before is kept. Free some space and resume";
    case SQLITE_READONLY:
      return "the file or its folder is read-only; give a path in a folder that can be written";
    case SQLITE_CANTOPEN:
      return "the file cannot be opened or created; see that its folder exists and can be written";
    case SQLITE_PERM:
      return "permission denied; see who owns the file and its folder";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return "another process holds the write lock; wait for it to finish, or write to a file of its own and merge";
    case SQLITE_IOERR:
      return "reading or writing failed on this disk; see that it is not full, not read-only and still attached, and that no file size "
             "limit (ulimit -f) was met";
    case SQLITE_NOMEM:
      return "out of memory";
    default:
      return "";
  }
}

// The first read makes SQLite look at the header and the log. The file may come from anywhere: its views and triggers get no functions with
// side effects, and damaged pages are found when they are read (https://sqlite.org/security.html).
void touch(SQLite::Database& database) {
  database.exec("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0");
  (void)database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt64();
}

std::string immutable_uri(const fs::path& path) {
  std::string uri = "file:";
  for (const char c : fs::absolute(path).string()) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '.' || c == '_' || c == '-';
    uri += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return uri + "?immutable=1";
}

// In a read-only folder SQLite cannot make the log's shared memory; with no log pending the file alone is the whole database.
std::unique_ptr<SQLite::Database> open_for_reading(const fs::path& path, int busy_timeout_ms) {
  try {
    auto database = std::make_unique<SQLite::Database>(path.string(), SQLite::OPEN_READONLY, busy_timeout_ms);
    touch(*database);
    return database;
  } catch (const SQLite::Exception& error) {
    const int code = error.getErrorCode() & 0xff;
    const bool folder_refuses = code == SQLITE_CANTOPEN || code == SQLITE_READONLY;
    std::error_code none;
    const fs::path log = path.string() + "-wal";
    if (!folder_refuses || ::access(path.c_str(), R_OK) != 0 || (fs::exists(log, none) && fs::file_size(log, none) > 0)) throw;
  }
  auto database = std::make_unique<SQLite::Database>(immutable_uri(path), SQLite::OPEN_READONLY | SQLite::OPEN_URI, busy_timeout_ms);
  touch(*database);
  return database;
}

std::unique_ptr<SQLite::Database> copy_to_memory(SQLite::Database& from) {
  auto memory = std::make_unique<SQLite::Database>(":memory:", SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  SQLite::Backup backup(*memory, from);
  backup.executeStep();
  return memory;
}

// True for an empty file, which a creator that was killed early leaves.
bool check_identity(SQLite::Database& database, const fs::path& path) {
  const std::int64_t id = database.execAndGet("PRAGMA application_id").getInt64();
  const int version = schema::version(database);
  if (id == 0 && version == 0 && database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt64() == 0) return true;
  if (id != schema::application_id) {
    throw bad(path, fmt::format("this SQLite database belongs to another program (application_id {:#x}, not {:#x}); give another path", id,
                                schema::application_id));
  }
  if (version > schema::current_version()) {
    throw bad(path, fmt::format("written by a newer phitune (schema version {}, this build knows {}); use that phitune, or a new file",
                                version, schema::current_version()));
  }
  return false;
}

void configure_for_writing(SQLite::Database& database, const fs::path& path, const StoreOptions& options) {
  const std::string mode = database.execAndGet("PRAGMA journal_mode = WAL").getString();
  if (mode != "wal") {
    throw Error(ExitCode::io, fmt::format("{}: this file system has no shared memory for a write-ahead log (journal mode stays '{}'); "
                                          "put the database on a local disk",
                                          path.string(), mode));
  }
  database.exec(options.durability == Durability::power ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
  database.exec("PRAGMA foreign_keys = ON");
  if (options.max_bytes > 0) {
    const std::int64_t page = database.execAndGet("PRAGMA page_size").getInt64();
    (void)database.execAndGet(fmt::format("PRAGMA max_page_count = {}", std::max<std::int64_t>(1, options.max_bytes / page))).getInt64();
  }
}

DatabaseFile open_read_only(const fs::path& path, const StoreOptions& options) {
  DatabaseFile file{open_for_reading(path, options.busy_timeout_ms), 0};
  if (check_identity(*file.database, path)) throw bad(path, "the database is empty; run a sweep into it first");
  file.file_version = schema::version(*file.database);
  if (file.file_version < schema::current_version()) {
    file.database = copy_to_memory(*file.database);
    schema::migrate(*file.database, schema::migrations());
  }
  return file;
}

DatabaseFile open_writable(const fs::path& path, const StoreOptions& options) {
  const int flags = SQLite::OPEN_READWRITE | (options.mode == OpenMode::create ? SQLite::OPEN_CREATE : 0);
  DatabaseFile file{std::make_unique<SQLite::Database>(path.string(), flags, options.busy_timeout_ms), 0};
  touch(*file.database);
  // Before anything is written: the file may belong to someone else.
  check_identity(*file.database, path);
  file.file_version = schema::version(*file.database);
  configure_for_writing(*file.database, path, options);
  schema::migrate(*file.database, schema::migrations());
  if (file.file_version == 0) file.file_version = schema::current_version();
  return file;
}

}  // namespace

Error explain(const SQLite::Exception& error, const fs::path& path, const std::string& doing) {
  const int code = error.getErrorCode();
  const std::string hint = meaning(code);
  const bool not_ours = (code & 0xff) == SQLITE_NOTADB;
  return {not_ours ? ExitCode::bad_input : ExitCode::io,
          fmt::format("{}: cannot {}: {}{}", path.string(), doing, error.what(), hint.empty() ? "" : "; " + hint)};
}

DatabaseFile open_database(const fs::path& path, const StoreOptions& options) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) throw bad(path, "this is a folder; name a database file in it");
  const bool exists = fs::exists(path, ignored);
  if (!exists && options.mode != OpenMode::create) throw bad(path, "no such file; `phitune sweep` makes one");
  if (options.mode == OpenMode::read_only && fs::file_size(path, ignored) == 0) {
    throw bad(path, "the file is empty; run a sweep into it first");
  }
  try {
    return options.mode == OpenMode::read_only ? open_read_only(path, options) : open_writable(path, options);
  } catch (const SQLite::Exception& error) {
    throw explain(error, path, exists ? "open the database" : "create the database");
  }
}

}  // namespace phitune
