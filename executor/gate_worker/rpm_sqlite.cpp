// SPDX-License-Identifier: Apache-2.0
// From memory, and never changed: SQLite gets no file to open.
#include "executor/gate_worker/layer_tar.hpp"
#include "executor/gate_worker/rpm_database.hpp"

#include <sqlite3.h>

#include <cstdint>
#include <ctime>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace slipway::gate_worker {
namespace {

constexpr int kMostBlob = int{kMostRpmHeaderBytes}; ///< rpm's own limit of a header
constexpr int kOpcodesBetweenLooks = 10'000;        ///< of SQLite's virtual machine
constexpr int kMostLooks = 20'000;                  ///< seconds at most; a database takes a few
constexpr std::size_t kBytesOfFileHeader = 100;
constexpr int kMostHeapBytes = 640 << 20; ///< SQLite's own: a header, and what it is copied to
constexpr std::clock_t kMostClocks = 60 * CLOCKS_PER_SEC; ///< of the process, for one database

// What rpm makes are 50 statements of 150 bytes at most.
constexpr int kMostStatement = 2048;
constexpr std::size_t kMostSchemaRows = 500;
constexpr std::size_t kMostSchemaRow = 4096; ///< bytes

using Database = std::unique_ptr<sqlite3, decltype(&::sqlite3_close_v2)>;
using Query = std::unique_ptr<sqlite3_stmt, decltype(&::sqlite3_finalize)>;

Error damaged(int code) {
  return bad_image(std::string{"the rpm database cannot be read as SQLite's: "} +
                   ::sqlite3_errstr(code));
}
Error not_rpms(const char* what) {
  return bad_image(std::string{"the rpm database is not as rpm makes it: "} + what);
}

/// A log beside it is not looked at, so this is all there is; from memory SQLite opens no other.
void take_for_one_without_a_log(std::string& bytes) {
  constexpr std::size_t kWriteVersion = 18;
  constexpr std::size_t kReadVersion = 19;
  for (const auto at : {kWriteVersion, kReadVersion})
    if (bytes[at] == 2) bytes[at] = 1;
}

/// The table of what the database defines, before SQLite reads it: that takes none of the steps
/// which are counted below, and the longer the more there is.
class SchemaTable {
public:
  explicit SchemaTable(std::string_view bytes) : bytes_{bytes} {}

  /// Errors: bad_input (more than rpm makes; a page that is none, or that is there twice).
  Status check() {
    constexpr std::size_t kPageSizeAt = 16;
    size_ = number(kPageSizeAt, 2) == 1 ? 65'536 : number(kPageSizeAt, 2);
    if (size_ < 512 || (size_ & (size_ - 1)) != 0) return damaged(SQLITE_NOTADB);
    to_read_ = {1};
    while (!to_read_.empty()) {
      const auto page = to_read_.back();
      to_read_.pop_back();
      if (auto read = read_page(page); !read) return read;
    }
    return {};
  }

private:
  Status read_page(std::size_t page) {
    constexpr std::size_t kInterior = 5;
    constexpr std::size_t kLeaf = 13;
    if (page == 0 || page > bytes_.size() / size_ || !pages_.insert(page).second)
      return damaged(SQLITE_CORRUPT);
    const auto begin = (page - 1) * size_;
    const auto header = begin + (page == 1 ? kBytesOfFileHeader : 0);
    const auto kind = number(header, 1);
    if (kind != kInterior && kind != kLeaf) return damaged(SQLITE_CORRUPT);
    const auto cells = number(header + 3, 2);
    const auto pointers = header + (kind == kLeaf ? 8 : 12);
    if (pointers + 2 * cells > begin + size_) return damaged(SQLITE_CORRUPT);
    if (kind == kInterior) to_read_.push_back(number(header + 8, 4));
    for (std::size_t i = 0; i < cells; ++i) {
      const auto cell = number(pointers + 2 * i, 2);
      if (cell + 4 > size_) return damaged(SQLITE_CORRUPT);
      if (kind == kInterior) {
        to_read_.push_back(number(begin + cell, 4));
      } else if (++rows_; bytes_of_row(begin + cell) > kMostSchemaRow) {
        return not_rpms("the text of a statement is too long");
      }
      if (rows_ > kMostSchemaRows || pages_.size() + to_read_.size() > kMostSchemaRows)
        return not_rpms("it defines too many tables");
    }
    return {};
  }
  /// No more than is wanted of it: a number of SQLite's with a variable length.
  std::size_t bytes_of_row(std::size_t at) const {
    std::size_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      const auto part = number(at + i, 1);
      value = value << 7U | (part & 0x7fU);
      if (part < 0x80) return value;
    }
    return kMostSchemaRow + 1;
  }
  /// The caller knows that it is there.
  std::size_t number(std::size_t at, std::size_t size) const {
    std::size_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value = value << 8U | static_cast<unsigned char>(bytes_[at + i]);
    return value;
  }

  std::string_view bytes_;
  std::size_t size_ = 0; ///< of a page
  std::vector<std::size_t> to_read_;
  std::set<std::size_t> pages_; ///< that were read
  std::size_t rows_ = 0;
};

Result<Database> open(std::string& bytes) {
  sqlite3* opened = nullptr;
  const int code =
      ::sqlite3_open_v2(":memory:", &opened,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY | SQLITE_OPEN_NOMUTEX, nullptr);
  Database database{opened, &::sqlite3_close_v2};
  if (code != SQLITE_OK) return damaged(code);
  // What a schema could have done when it is read.
  for (const auto& [option, value] : {std::pair{SQLITE_DBCONFIG_DEFENSIVE, 1},
                                      {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                                      {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
                                      {SQLITE_DBCONFIG_ENABLE_VIEW, 0}})
    if (const int set = ::sqlite3_db_config(opened, option, value, nullptr); set != SQLITE_OK)
      return damaged(set);
  const auto size = static_cast<sqlite3_int64>(bytes.size());
  auto* data = reinterpret_cast<unsigned char*>(bytes.data());
  if (const int lent =
          ::sqlite3_deserialize(opened, "main", data, size, size, SQLITE_DESERIALIZE_READONLY);
      lent != SQLITE_OK)
    return damaged(lent);
  for (const auto& [limit, value] : {std::pair{SQLITE_LIMIT_LENGTH, kMostBlob},
                                     {SQLITE_LIMIT_SQL_LENGTH, kMostStatement},
                                     {SQLITE_LIMIT_COLUMN, 100},
                                     {SQLITE_LIMIT_EXPR_DEPTH, 20},
                                     {SQLITE_LIMIT_COMPOUND_SELECT, 3},
                                     {SQLITE_LIMIT_VDBE_OP, 25'000},
                                     {SQLITE_LIMIT_ATTACHED, 0},
                                     {SQLITE_LIMIT_WORKER_THREADS, 0}})
    ::sqlite3_limit(opened, limit, value);
  return database;
}

/// Calls `use` with each row. Errors: bad_input; those of `use`.
Status each_row(sqlite3* database, const char* sql,
                const std::function<Status(sqlite3_stmt*)>& use) {
  sqlite3_stmt* prepared = nullptr;
  if (const int code = ::sqlite3_prepare_v2(database, sql, -1, &prepared, nullptr);
      code != SQLITE_OK)
    return damaged(code);
  const Query query{prepared, &::sqlite3_finalize};
  for (;;) {
    const int code = ::sqlite3_step(prepared);
    if (code == SQLITE_DONE) return {};
    if (code != SQLITE_ROW) return damaged(code);
    if (auto used = use(prepared); !used) return used;
  }
}

std::string_view text_of(sqlite3_stmt* row, int column) {
  const auto* text = reinterpret_cast<const char*>(::sqlite3_column_text(row, column));
  return text == nullptr ? std::string_view{} : text;
}

/// False: there is no such table. As SQLite itself understood the schema, whatever its rows say.
Result<bool> has_plain_table(sqlite3* database) {
  bool found = false;
  auto looked = each_row(database, "PRAGMA main.table_list('Packages')", [&](sqlite3_stmt* row) {
    constexpr int kKind = 2;
    found = true;
    return text_of(row, kKind) == "table" ? Status{} : not_rpms("its packages are in no table");
  });
  if (!looked) return std::move(looked).error();
  if (!found) return false;
  // A reader that takes all of an index would not take what is in the table.
  looked = each_row(database, "PRAGMA main.index_list('Packages')", [](sqlite3_stmt*) {
    return Status{not_rpms("its table of packages has an index")};
  });
  if (!looked) return std::move(looked).error();
  looked = each_row(database, "PRAGMA main.table_xinfo('Packages')", [](sqlite3_stmt* row) {
    constexpr int kHidden = 6;
    return ::sqlite3_column_int(row, kHidden) == 0
               ? Status{}
               : not_rpms("its table of packages has a column that is computed");
  });
  if (!looked) return std::move(looked).error();
  return true;
}

/// What a database has cost.
class Effort {
public:
  static int look(void* effort) {
    auto& mine = *static_cast<Effort*>(effort);
    return ++mine.looks_ > kMostLooks || mine.is_too_long() ? 1 : 0;
  }
  /// A step may follow a chain of many pages.
  bool is_too_long() const { return std::clock() - begin_ > kMostClocks; }

private:
  int looks_ = 0;
  std::clock_t begin_ = std::clock();
};

} // namespace

Result<bool> each_sqlite_header(std::string& bytes,
                                const std::function<Status(std::string_view)>& use) {
  if (bytes.size() < kBytesOfFileHeader) return damaged(SQLITE_NOTADB);
  take_for_one_without_a_log(bytes);
  if (auto fine = SchemaTable{bytes}.check(); !fine) return std::move(fine).error();
  ::sqlite3_hard_heap_limit64(kMostHeapBytes);
  auto database = open(bytes);
  if (!database) return std::move(database).error();
  auto* handle = database->get();
  Effort effort;
  ::sqlite3_progress_handler(handle, kOpcodesBetweenLooks, &Effort::look, &effort);
  for (const auto* setting : {"PRAGMA temp_store = MEMORY", "PRAGMA cell_size_check = ON"})
    if (auto set = each_row(handle, setting, [](sqlite3_stmt*) { return Status{}; }); !set)
      return std::move(set).error();
  auto has_table = has_plain_table(handle);
  if (!has_table || !*has_table) return has_table;
  std::size_t left = bytes.size(); // where two rows share pages, there would be no end of them
  auto read = each_row(handle, "SELECT blob FROM main.Packages NOT INDEXED",
                       [&](sqlite3_stmt* row) -> Status {
                         if (::sqlite3_column_type(row, 0) != SQLITE_BLOB)
                           return not_rpms("a header is no blob");
                         if (effort.is_too_long()) return not_rpms("it takes too long");
                         const auto* blob = static_cast<const char*>(::sqlite3_column_blob(row, 0));
                         const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(row, 0));
                         if (blob == nullptr || size > left)
                           return not_rpms("its headers are more than it");
                         left -= size;
                         return use({blob, size});
                       });
  if (!read) return std::move(read).error();
  return true;
}

} // namespace slipway::gate_worker
