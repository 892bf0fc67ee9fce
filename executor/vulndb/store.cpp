// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/store.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/database.hpp"
#include "executor/state/job_record.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

namespace slipway::vulndb {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFactsBytes = 1UL << 20;
constexpr const char* kStaged = ".new-";

Status move(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    return io_error("rename", errno, from.string() + " to " + to.string());
  return {};
}

/// On disk, so that a rename that survives a power loss names something whole.
Status sync(const fs::path& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd) return io_error("open", errno, path.string());
  if (::fsync(fd.get()) != 0) return io_error("fsync", errno, path.string());
  return {};
}

/// Turns the link AT to TARGET, in one step.
Status point(const fs::path& at, const fs::path& target) {
  const fs::path next = at.string() + ".next";
  std::error_code failed;
  fs::remove(next, failed);
  fs::create_symlink(target, next, failed);
  if (failed) return io_error("symlink", failed.value(), next.string());
  return move(next, at);
}

Status exchange(const fs::path& one, const fs::path& other) {
  if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) != 0)
    return io_error("renameat2", errno, one.string() + " and " + other.string());
  return {};
}

bool is_link(const fs::path& path) {
  std::error_code failed;
  return fs::is_symlink(path, failed);
}

fs::path real(const fs::path& path) {
  std::error_code failed;
  auto found = fs::canonical(path, failed);
  return failed ? fs::path{} : found;
}

} // namespace

Store::Store(const Kind& kind, fs::path db_dir)
    : kind_{kind}, db_dir_{std::move(db_dir)}, versions_{db_dir_.string() + ".versions"} {}

fs::path Store::former() const {
  return versions_ / "former";
}

Result<UniqueFd> Store::lock() const {
  if (auto made = make_directory(versions_, 0755); !made) {
    return Error{ErrorKind::misconfigured,
                 made.error().text(),
                 "the folder that " + db_dir_.string() + " lies in has to belong to slipway's user",
                 {}};
  }
  auto locked = state::lock_file(versions_ / "lock", state::LockMode::exclusive,
                                 std::chrono::milliseconds{0});
  if (!locked && locked.error().kind == ErrorKind::timed_out)
    return Error{ErrorKind::unavailable,
                 std::string{"another update of the "} + kind_.name + " is running",
                 "",
                 {}};
  return locked;
}

Result<Facts> Store::facts_in(const fs::path& dir) const {
  if (auto database = kind_.read(dir)) {
    if (const auto text = read_file(dir.parent_path() / "facts.json", kMaxFactsBytes)) {
      auto known = facts_from(*text);
      if (known && known->identity == database->identity) return *std::move(known);
    }
  }
  return read_facts(kind_, dir, {});
}

Result<Facts> Store::current() const {
  return facts_in(gate::database_in_force(db_dir_));
}

void Store::prune() const {
  const std::set<fs::path> needed{real(db_dir_), real(former())};
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator{versions_, failed}) {
    if (entry.is_symlink(failed) || !entry.is_directory(failed)) continue;
    const auto& path = entry.path();
    if (needed.contains(real(path / "db"))) continue;
    const UniqueFd db{::open((path / "db").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (db && ::flock(db.get(), LOCK_EX | LOCK_NB) != 0) continue; // a gate judges with it
    fs::remove_all(path, failed);
  }
}

Result<fs::path> Store::stage() const {
  prune();
  auto path = (versions_ / (std::string{kStaged} + std::to_string(::getpid()))).string();
  for (const auto& dir : {fs::path{path}, fs::path{path} / "db"}) {
    if (auto made = make_directory(dir, 0755); !made) return std::move(made).error();
  }
  return fs::path{path};
}

Status Store::install(const fs::path& stage, Facts& facts) const {
  const auto db = stage / "db";
  for (const char* name : {kind_.file, "metadata.json"}) {
    // Read through a bind mount by a sandbox with other ids.
    if (::chmod((db / name).c_str(), 0444) != 0)
      return io_error("chmod", errno, (db / name).string());
    if (auto synced = sync(db / name); !synced) return synced;
  }
  if (::chmod(db.c_str(), 0755) != 0) return io_error("chmod", errno, db.string());
  auto database = kind_.read(db);
  if (!database) return std::move(database).error();
  facts.identity = database->identity;
  if (auto written = replace_file(stage / "facts.json", to_json(facts) + "\n"); !written)
    return written;
  for (const auto& dir : {db, stage}) {
    if (auto synced = sync(dir); !synced) return synced;
  }
  std::string stamp = facts.installed_at;
  std::erase_if(stamp, [](char c) { return c == ':' || c == '-'; });
  const auto version = versions_ / (stamp + "-" + facts.digest.substr(7, 12));
  if (auto moved = move(stage, version); !moved) return moved;

  std::error_code failed;
  if (!is_link(db_dir_) && fs::exists(db_dir_, failed)) { // put there by hand
    const auto old = versions_ / (stamp + "-by-hand");
    if (auto made = make_directory(old, 0755); !made) return made;
    if (auto pointed = point(old / "db", version / "db"); !pointed) return pointed;
    if (auto swapped = exchange(db_dir_, old / "db"); !swapped) return swapped;
    if (auto pointed = point(former(), old / "db"); !pointed) return pointed;
  } else {
    if (const auto old = real(db_dir_); !old.empty()) {
      if (auto pointed = point(former(), old); !pointed) return pointed;
    }
    if (auto pointed = point(db_dir_, version / "db"); !pointed) return pointed;
  }
  for (const auto& dir : {versions_, db_dir_.parent_path()}) {
    if (auto synced = sync(dir); !synced) return synced;
  }
  prune();
  return {};
}

Result<Facts> Store::rollback() const {
  const auto before = real(former());
  const auto now = real(db_dir_);
  if (before.empty() || before == now || !is_link(db_dir_)) {
    return Error{ErrorKind::not_found,
                 std::string{"there is no former "} + kind_.name + " to go back to",
                 "`slipway db update` keeps the one that it replaces",
                 {}};
  }
  auto facts = facts_in(before);
  if (!facts) return std::move(facts).error().in("reading the former DB");
  auto left = facts_in(now);
  if (auto written = replace_file(versions_ / "rolled-back", (left ? left->digest : "") + "\n");
      !written)
    return std::move(written).error();
  if (auto swapped = exchange(db_dir_, former()); !swapped) return std::move(swapped).error();
  for (const auto& dir : {versions_, db_dir_.parent_path()}) {
    if (auto synced = sync(dir); !synced) return std::move(synced).error();
  }
  return facts;
}

bool Store::was_rolled_back(const std::string& digest) const {
  const auto text = read_file(versions_ / "rolled-back", 1024);
  return text && !digest.empty() && *text == digest + "\n";
}

} // namespace slipway::vulndb
