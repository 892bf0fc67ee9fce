// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/marks.hpp"

#include "executor/base/file.hpp"
#include "executor/base/lock_file.hpp"

#include <nlohmann/json.hpp>

#include <vector>

namespace slipway::leaks {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxMarkBytes = 1UL << 20;
constexpr std::chrono::seconds kPatience{30};

} // namespace

std::set<oci::Digest> keys_of(const oci::ImageTree& tree) {
  std::set<oci::Digest> keys;
  for (const auto& blob : tree.blobs)
    keys.insert(blob.digest);
  for (const auto& image : tree.images)
    if (image.config) keys.insert(image.config->diff_ids.begin(), image.config->diff_ids.end());
  return keys;
}

Status LeakMarks::mark(const oci::Digest& key, const LeakMark& mark) const {
  for (const auto& dir : {dir_.parent_path(), dir_})
    if (auto made = make_directory(dir, 0700); !made) return made;
  const auto lock = lock_file(dir_.parent_path() / "marking.lock", LOCK_EX, kPatience);
  if (!lock) return lock.error();
  if (!*lock) return Error{ErrorKind::timed_out, "marks of leaks are locked for too long", "", {}};
  auto older = on({key}); // it is met now
  if (!older) return std::move(older).error();
  auto names = mark.names;
  for (const auto& one : *older)
    names.insert(one.names.begin(), one.names.end());
  if (!older->empty() && older->begin()->names == names) return {};
  const json document{{"names", names}, {"sentence", mark.sentence}};
  return replace_file(dir_ / key.hex(),
                      document.dump(-1, ' ', false, json::error_handler_t::replace), 0600);
}

Result<std::set<LeakMark>> LeakMarks::on(const std::set<oci::Digest>& keys) const {
  std::set<LeakMark> found;
  if (dir_.empty()) return found;
  for (const auto& key : keys) {
    const auto file = dir_ / key.hex();
    auto text = read_file(file, kMaxMarkBytes);
    if (!text && text.error().kind == ErrorKind::not_found) continue;
    if (!text) return std::move(text).error().in("reading which blobs hold secrets");
    const auto document = json::parse(*text, nullptr, false);
    LeakMark mark;
    try {
      document.at("names").get_to(mark.names);
      document.at("sentence").get_to(mark.sentence);
    } catch (const json::exception&) {
      return Error{ErrorKind::bad_input, file.string() + " is no mark of a leak", "remove it", {}};
    }
    found.insert(std::move(mark));
    std::error_code failed; // it is still met
    fs::last_write_time(file, fs::file_time_type::clock::now(), failed);
  }
  return found;
}

void LeakMarks::prune(const fs::path& root, WallTime now, std::chrono::hours age) {
  std::error_code failed;
  std::vector<fs::path> old;
  for (const auto& dir : fs::directory_iterator{root, failed}) {
    for (const auto& file : fs::directory_iterator{dir.path(), failed}) {
      const auto met = fs::last_write_time(file.path(), failed);
      if (!failed && now - std::chrono::time_point_cast<std::chrono::seconds>(
                               std::chrono::file_clock::to_sys(met)) >
                         age)
        old.push_back(file.path());
    }
  }
  for (const auto& file : old)
    fs::remove(file, failed);
}

} // namespace slipway::leaks
