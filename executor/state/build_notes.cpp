// SPDX-License-Identifier: Apache-2.0
#include "executor/state/build_notes.hpp"

#include "executor/base/file.hpp"
#include "executor/base/passing_file.hpp"
#include "executor/oci/digest.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace slipway::state {
namespace {

constexpr std::size_t kMaxNoteBytes = 256UL << 10;
constexpr std::size_t kMostNotes = 256;

Result<std::filesystem::path> file_of(const std::filesystem::path& folder,
                                      const std::string& digest) {
  auto parsed = oci::Digest::parse(digest);
  if (!parsed) return std::move(parsed).error();
  return folder / (parsed->hex() + ".json");
}

/// The ones that were written first go.
void make_room(const std::filesystem::path& folder) {
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> notes;
  std::error_code failed;
  for (std::filesystem::directory_iterator it{folder, failed}, end; !failed && it != end;
       it.increment(failed))
    notes.emplace_back(std::filesystem::last_write_time(it->path(), failed), it->path());
  if (notes.size() < kMostNotes) return;
  std::sort(notes.begin(), notes.end());
  for (std::size_t i = 0; i + kMostNotes <= notes.size(); ++i)
    std::filesystem::remove(notes[i].second, failed);
}

} // namespace

Status BuildNotes::keep(const std::string& digest, const BuildNote& note) const {
  auto file = file_of(folder_, digest);
  if (!file) return std::move(file).error();
  if (auto made = make_directory(folder_, 0700); !made) return made;
  make_room(folder_);
  const nlohmann::json document{{"line", note.line},
                                {"backend", note.backend},
                                {"dockerfile", note.dockerfile_digest},
                                {"bases", note.bases},
                                {"dockerfile_name", note.dockerfile},
                                {"layer_lines", note.layer_lines}};
  const auto text = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxNoteBytes)
    return Error{ErrorKind::bad_input, "the image has too many bases to write them down", "", {}};
  return replace_passing_file(*file, text); // it ends with its job, as a crash ends the job
}

Result<BuildNote> BuildNotes::find(const std::string& digest) const {
  auto file = file_of(folder_, digest);
  if (!file) return std::move(file).error();
  auto text = read_file(*file, kMaxNoteBytes);
  if (!text) return std::move(text).error();
  try {
    const auto document = nlohmann::json::parse(*text);
    BuildNote note;
    note.line = document.at("line");
    note.backend = document.at("backend");
    note.dockerfile_digest = document.at("dockerfile");
    note.bases = document.at("bases").get<std::vector<std::pair<std::string, std::string>>>();
    note.dockerfile = document.at("dockerfile_name");
    note.layer_lines = document.at("layer_lines").get<std::map<std::string, int>>();
    return note;
  } catch (const nlohmann::json::exception& refused) {
    return Error{ErrorKind::bad_input,
                 std::string{"what was written down of a build cannot be read: "} + refused.what(),
                 "",
                 {file->string()}};
  }
}

} // namespace slipway::state
