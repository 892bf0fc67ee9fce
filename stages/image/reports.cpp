// SPDX-License-Identifier: Apache-2.0
#include "stages/image/reports.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <numeric>

namespace slipway::image {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxReportBytes = 64UL << 20;
constexpr std::size_t kLeastDigits = 8;
constexpr std::size_t kMostKept = 1000; ///< verdicts of one digest that are looked at

/// 2026-11-27T10:11:12Z as a file's name begins: sorts by time.
std::string stamp_of(WallTime time) {
  std::string stamp = rfc3339(time);
  std::erase_if(stamp, [](char c) { return c == ':' || c == '-'; });
  return stamp;
}

std::string short_hash(const std::string& text) {
  return oci::Digest::of(text).hex().substr(0, 8);
}

/// Of a verdict's file: see Reports.
std::string project_of(const fs::path& file) {
  const auto name = file.stem().string();
  const auto end = name.rfind('-');
  const auto begin = end == std::string::npos ? end : name.rfind('-', end - 1);
  return begin == std::string::npos ? "" : name.substr(begin + 1, end - begin - 1);
}

/// Of a verdict's file, with or without ".json": a job's key has no dot.
fs::path page_beside(fs::path file) {
  return file.replace_extension(".html");
}

std::string text_of(const json& document, const char* key) {
  const auto found = document.find(key);
  return found != document.end() && found->is_string() ? found->get<std::string>() : "";
}

std::vector<fs::path> entries_of(const fs::path& dir) {
  std::vector<fs::path> found;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator{dir, failed})
    found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

} // namespace

Status Reports::keep(const std::string& job, const report::Subject& subject,
                     const gate::Verdict& verdict, WallTime now) const {
  const auto folder = dir_ / verdict.digest.hex();
  for (const auto& dir : {dir_, folder}) {
    if (auto made = make_directory(dir, 0700); !made) return made;
  }
  const json document{{"judged_at", rfc3339(now)},
                      {"job", job},
                      {"image", subject.image},
                      {"project", subject.project},
                      {"ref", subject.ref},
                      {"backend", subject.backend},
                      {"dockerfile", subject.dockerfile},
                      {"text", verdict.for_people()},
                      {"verdict", json::parse(verdict.to_json(), nullptr, false)}};
  // A job that pushes one digest twice in a second to two places has two of them.
  const auto stem = folder / (stamp_of(now) + "-" + job + "-" + short_hash(subject.project) + "-" +
                              short_hash(subject.image));
  if (auto written =
          replace_file(fs::path{stem} += ".json",
                       document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
      !written)
    return written;
  return replace_file(page_beside(stem), report::render(report::Format::html, verdict, subject));
}

Result<std::vector<Reports::Kept>> Reports::find(const std::string& digest) const {
  std::string hex = digest.starts_with("sha256:") ? digest.substr(7) : digest;
  if (hex.size() < kLeastDigits || hex.size() > 64 ||
      hex.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return Error{ErrorKind::bad_input,
                 "'" + digest + "' is no digest of a manifest",
                 "give sha256: and 64 hex digits, or at least " + std::to_string(kLeastDigits) +
                     " of the first; the job log and the audit log have it",
                 {}};
  }
  std::vector<fs::path> folders;
  for (const auto& folder : entries_of(dir_)) {
    if (folder.filename().string().starts_with(hex)) folders.push_back(folder);
  }
  if (folders.size() > 1) {
    return Error{
        ErrorKind::bad_input, "several digests begin with " + hex, "give more of its digits", {}};
  }
  std::vector<Kept> kept;
  if (!folders.empty()) {
    auto files = entries_of(folders.front());
    std::erase_if(files, [](const fs::path& file) { return file.extension() != ".json"; });
    if (files.size() > kMostKept)
      files.erase(files.begin(), files.end() - static_cast<std::ptrdiff_t>(kMostKept));
    for (const auto& file : files) {
      const auto text = read_file(file, kMaxReportBytes);
      const auto document = text ? json::parse(*text, nullptr, false) : json{};
      if (!document.is_object()) continue;
      auto page = page_beside(file);
      std::error_code failed;
      if (!fs::exists(page, failed)) page.clear();
      kept.push_back(
          {text_of(document, "judged_at"), text_of(document, "job"), text_of(document, "image"),
           text_of(document, "project"), text_of(document, "ref"), text_of(document, "backend"),
           text_of(document, "dockerfile"), text_of(document, "text"), file, std::move(page)});
    }
  }
  if (kept.empty()) {
    return Error{ErrorKind::not_found,
                 "there is no verdict on " + digest + " on this machine",
                 "it was judged elsewhere, or longer ago than reports are kept",
                 {}};
  }
  return kept;
}

void Reports::collect(WallTime now, std::chrono::hours age, std::uintmax_t project_bytes) const {
  std::error_code failed;
  const auto oldest = stamp_of(now - std::chrono::duration_cast<std::chrono::seconds>(age));
  std::map<std::string, std::vector<fs::path>> of_projects;
  const auto folders = entries_of(dir_);
  for (const auto& folder : folders) {
    for (auto& file : entries_of(folder)) {
      if (file.filename().string() < oldest)
        fs::remove(file, failed);
      else
        of_projects[project_of(file)].push_back(std::move(file));
    }
  }
  for (auto& [project, files] : of_projects) {
    std::sort(files.begin(), files.end(), [](const fs::path& one, const fs::path& other) {
      return one.filename() > other.filename(); // the last one first
    });
    std::uintmax_t bytes = 0;
    for (const auto& file : files) {
      const auto size = fs::file_size(file, failed);
      if (!failed) bytes += size;
      if (bytes > project_bytes) fs::remove(file, failed);
    }
  }
  for (const auto& folder : folders)
    fs::remove(folder, failed); // where it is empty now
}

void JobReports::keep(const oci::Reference& reference, const report::Subject& subject,
                      const gate::Verdict& verdict) {
  const std::lock_guard guard{mutex_};
  std::erase_if(kept_, [&](const Kept& kept) { return kept.reference == reference; });
  const auto size =
      verdict.to_json().size() + report::render(report::Format::cyclonedx, verdict, subject).size();
  kept_.push_back({reference, subject, verdict, size});
  const auto bytes = [&] {
    return std::accumulate(kept_.begin(), kept_.end(), std::size_t{0},
                           [](std::size_t sum, const Kept& one) { return sum + one.bytes; });
  };
  while (kept_.size() > 1 && (kept_.size() > kMostReports || bytes() > kMostReportBytes))
    kept_.erase(kept_.begin());
}

Result<std::vector<JobReports::File>> JobReports::files(const oci::Reference& reference) const {
  const std::lock_guard guard{mutex_};
  const auto kept = std::find_if(kept_.begin(), kept_.end(),
                                 [&](const Kept& one) { return one.reference == reference; });
  if (kept == kept_.end()) {
    return Error{ErrorKind::not_found,
                 "there is no verdict on " + reference.familiar() + " in this job",
                 "reports are of pushes that this script made, under the name that was pushed",
                 {}};
  }
  std::vector<File> files;
  for (const auto& word : report::format_words()) {
    const auto format = *report::parse_format(word);
    files.push_back(
        {word, report::file_name(format), report::render(format, kept->verdict, kept->subject)});
  }
  return files;
}

} // namespace slipway::image
