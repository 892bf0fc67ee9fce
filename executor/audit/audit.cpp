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

Result<std::string> last_line(int fd) {
  const off_t size = ::lseek(fd, 0, SEEK_END);
  if (size < 0) return io_error("lseek", errno);
  if (size == 0) return std::string{};
  const off_t start =
      size > static_cast<off_t>(kMaxLineBytes) ? size - static_cast<off_t>(kMaxLineBytes) : 0;
  std::string tail(static_cast<std::size_t>(size - start), '\0');
  const ssize_t got = ::pread(fd, tail.data(), tail.size(), start);
  if (got < 0) return io_error("read", errno);
  tail.resize(static_cast<std::size_t>(got));
  if (tail.empty() || tail.back() != '\n') {
    // A line cut by a crash or a full disk: it never was a record, but it must not be glued to one.
    return Error{ErrorKind::misconfigured,
                 "the audit log ends in an incomplete line",
                 "keep a copy, then remove the incomplete last line",
                 {}};
  }
  tail.pop_back();
  const auto newline = tail.rfind('\n');
  return newline == std::string::npos ? tail : tail.substr(newline + 1);
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
  auto tail = last_line(fd.get());
  if (!tail) return std::move(tail).error().in("appending to " + file_.string());
  std::string previous = kFirst;
  std::uint64_t number = 1;
  if (!tail->empty()) {
    const auto line = read_line(*tail);
    if (!line) {
      return Error{ErrorKind::misconfigured,
                   "the last line of the audit log is no audit record (" + file_.string() + ")",
                   "`slipway audit verify` tells where the chain breaks",
                   {}};
    }
    previous = line->hash;
    number = line->body.value("n", std::uint64_t{0}) + 1;
  }
  nlohmann::json body{{"n", number}, {"time", rfc3339(clock_.now())}, {"event", event}};
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
  const off_t before = ::lseek(fd.get(), 0, SEEK_END);
  if (auto written = write_all(fd.get(), text); !written) {
    (void)!::ftruncate(fd.get(), before); // a full disk must not leave half a line
    return std::move(written).error().in("appending to " + file_.string());
  }
  if (::fdatasync(fd.get()) != 0) return io_error("fdatasync", errno, file_.string());
  return hash;
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
