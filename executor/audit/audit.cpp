// SPDX-License-Identifier: Apache-2.0
#include "executor/audit/audit.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>

namespace slipway::audit {
namespace {

constexpr std::size_t kMaxLineBytes = 64UL << 10;
constexpr std::chrono::seconds kLockPatience{30}; ///< held by others for one line's time
const std::string kFirst(64, '0');
const std::string kRepaired = "audit_repaired";

std::string sha256_hex(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned length = 0;
  EVP_Digest(bytes.data(), bytes.size(), raw.data(), &length, EVP_sha256(), nullptr);
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    text += kHex[raw[i] >> 4];
    text += kHex[raw[i] & 15];
  }
  return text;
}

// The hash covers the line without its own `hash` member, as written: previous hash and body.
std::string hash_of(const std::string& previous, const nlohmann::json& body) {
  return sha256_hex(previous + "\n" +
                    body.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

struct Line {
  nlohmann::json body;
  std::string previous;
  std::string hash;
};

std::optional<Line> read_line(const std::string& text) {
  auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("hash") || !json["hash"].is_string() ||
      !json.contains("previous") || !json["previous"].is_string()) {
    return std::nullopt;
  }
  Line line;
  line.hash = json["hash"].get<std::string>();
  line.previous = json["previous"].get<std::string>();
  json.erase("hash");
  json.erase("previous");
  line.body = std::move(json);
  return line;
}

/// The end of the log: its last whole line, and what stands behind that. A write that a crash or a
/// power loss cut off leaves bytes without a newline: they never were a record.
struct End {
  std::optional<std::string> line; ///< the last whole one; none in an empty log
  std::string torn;
  off_t whole = 0; ///< bytes of the log without what is torn
};

Result<End> read_end(int fd) {
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size < 0) return io_error("lseek", errno);
  constexpr auto kWindow = static_cast<off_t>(2 * kMaxLineBytes); // a whole line and a torn one
  const off_t start = size > kWindow ? size - kWindow : 0;
  std::string bytes(static_cast<std::size_t>(size - start), '\0');
  const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), start);
  if (got < 0) return io_error("read", errno);
  if (static_cast<std::size_t>(got) != bytes.size())
    return Error{ErrorKind::io, "the audit log changed while it was read", "", {}};
  End end;
  const auto newline = bytes.rfind('\n');
  end.torn = newline == std::string::npos ? bytes : bytes.substr(newline + 1);
  if (end.torn.size() > kMaxLineBytes) {
    return Error{ErrorKind::misconfigured,
                 "the audit log ends in more bytes without a newline than a record has",
                 "somebody else wrote to it: keep a copy, then remove what stands behind the last "
                 "whole line",
                 {}};
  }
  end.whole = size - static_cast<off_t>(end.torn.size());
  if (newline == std::string::npos) return end;
  bytes.resize(newline);
  const auto before = bytes.rfind('\n');
  end.line = before == std::string::npos ? bytes : bytes.substr(before + 1);
  return end;
}

/// Moves what is torn into a file of its own, durably before it goes from the log: a crash in
/// between leaves it in both, never in none. The name of that file.
Result<std::string> set_aside(int fd, const End& end, const std::filesystem::path& file,
                              WallTime now) {
  std::string time = rfc3339(now);
  std::erase_if(time, [](char c) { return c == ':' || c == '-'; });
  const std::filesystem::path aside =
      file.string() + ".torn-" + time + "-" + sha256_hex(end.torn).substr(0, 16);
  if (auto kept = replace_file(aside, end.torn, 0640); !kept) return std::move(kept).error();
  const auto parent = file.has_parent_path() ? file.parent_path() : std::filesystem::path{"."};
  const UniqueFd dir{::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!dir) return io_error("open", errno, parent.string());
  if (::fsync(dir.get()) != 0) return io_error("fsync", errno, parent.string());
  if (::ftruncate(fd, end.whole) != 0) return io_error("ftruncate", errno, file.string());
  return aside.filename().string();
}

/// The caller has the lock.
Result<std::string> append_record(int fd, const std::filesystem::path& file, WallTime now,
                                  const std::optional<std::string>& last, const std::string& event,
                                  const AuditLog::Fields& fields) {
  std::string previous = kFirst;
  std::uint64_t number = 1;
  if (last) {
    const auto line = read_line(*last);
    if (!line) {
      return Error{ErrorKind::misconfigured,
                   "the last line of the audit log is no audit record (" + file.string() + ")",
                   "`slipway audit verify` tells where the chain breaks",
                   {}};
    }
    previous = line->hash;
    number = line->body.value("n", std::uint64_t{0}) + 1;
  }
  nlohmann::json body{{"n", number}, {"time", rfc3339(now)}, {"event", event}};
  for (const auto& [key, value] : fields)
    body[key] = value.substr(0, 4096);
  // Parsed again, so that the hash is over what a reader will see (invalid UTF-8 is replaced).
  body = nlohmann::json::parse(body.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  const std::string hash = hash_of(previous, body);
  body["previous"] = previous;
  body["hash"] = hash;
  const std::string text = body.dump(-1, ' ', true) + "\n";
  if (text.size() > kMaxLineBytes) {
    // The next one could not find its beginning.
    return Error{ErrorKind::bad_input,
                 "the audit record '" + event.substr(0, 100) + "' has " +
                     std::to_string(text.size()) + " bytes, more than the " +
                     std::to_string(kMaxLineBytes) + " of a line",
                 "what it tells of is not done: leave out long names",
                 {}};
  }
  const off_t before = ::lseek(fd, 0, SEEK_END);
  if (auto written = write_all(fd, text); !written) {
    (void)!::ftruncate(fd, before); // a full disk must not leave half a line
    return std::move(written).error().in("appending to " + file.string());
  }
  if (::fdatasync(fd) != 0) return io_error("fdatasync", errno, file.string());
  return hash;
}

} // namespace

Result<std::string> FileAuditLog::append(const std::string& event, const Fields& fields) {
  const UniqueFd fd{
      ::open(file_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640)};
  if (!fd) return io_error("open", errno, file_.string());
  auto locked = await_lock(fd.get(), LOCK_EX, give_up_after(kLockPatience), file_);
  if (!locked) return std::move(locked).error();
  if (!*locked)
    return Error{ErrorKind::timed_out, "others hold " + file_.string() + " for too long", "", {}};
  auto end = read_end(fd.get());
  if (!end) return std::move(end).error().in("appending to " + file_.string());
  if (!end->torn.empty()) {
    auto aside = set_aside(fd.get(), *end, file_, clock_.now());
    if (!aside) {
      return std::move(aside).error().in("moving the incomplete last line of " + file_.string() +
                                         " to a file beside it");
    }
    const Fields repaired{{"bytes", std::to_string(end->torn.size())},
                          {"sha256", sha256_hex(end->torn)},
                          {"file", *aside}};
    auto noted = append_record(fd.get(), file_, clock_.now(), end->line, kRepaired, repaired);
    if (!noted) return noted;
    end = read_end(fd.get());
    if (!end) return std::move(end).error().in("appending to " + file_.string());
  }
  return append_record(fd.get(), file_, clock_.now(), end->line, event, fields);
}

Result<Verified> verify(const std::filesystem::path& file, const std::optional<std::string>& head) {
  std::ifstream in{file};
  if (!in) return Error{ErrorKind::not_found, "cannot read the audit log " + file.string(), "", {}};
  Verified verified;
  verified.head = kFirst;
  bool head_seen = !head.has_value();
  std::string text;
  while (std::getline(in, text)) {
    const auto at = file.string() + ":" + std::to_string(verified.records + 1) + ": ";
    if (in.eof()) { // no newline: not even where it looks like a whole record
      return Error{ErrorKind::bad_input,
                   at + "an incomplete line: whoever wrote it was cut off",
                   "slipway's next record moves it to a file beside the log and says so",
                   {}};
    }
    const auto line = read_line(text);
    if (!line) return Error{ErrorKind::bad_input, at + "not an audit record", "", {}};
    if (line->previous != verified.head) {
      return Error{
          ErrorKind::bad_input,
          at + "the chain breaks here: a record before this one was removed, added or moved",
          "",
          {}};
    }
    if (hash_of(line->previous, line->body) != line->hash) {
      return Error{ErrorKind::bad_input,
                   at + "this record was edited: its hash does not fit its content",
                   "",
                   {}};
    }
    verified.head = line->hash;
    ++verified.records;
    if (line->body.contains("event") && line->body["event"] == kRepaired) ++verified.repairs;
    if (head && *head == verified.head) head_seen = true;
  }
  if (!head_seen) {
    return Error{ErrorKind::not_found,
                 "the head " + *head + " is not in the chain: the log was truncated or replaced",
                 "compare with a copy of the log from before",
                 {}};
  }
  return verified;
}

} // namespace slipway::audit
