// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/containers_output.hpp"

#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/output.hpp"

#include <nlohmann/json.hpp>

#include <fnmatch.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShortId = 12;
constexpr std::size_t kPodmanWidth = 12; ///< of a column, at least
constexpr std::size_t kPodmanGap = 2;
constexpr const char* kPodmanVersion = "5.4.0";
constexpr const char* kBuildahVersion = "1.39.0";

Error not_json() {
  return Error{ErrorKind::bad_input, "the broker's answer is not what was asked for", "", {}};
}

std::string dumped(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::uint64_t number_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

Json member(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? Json(nullptr) : *found;
}

std::string with_escapes(std::string format) {
  for (const auto& [from, to] : {std::pair{"\\t", "\t"}, std::pair{"\\n", "\n"}})
    for (auto at = format.find(from); at != std::string::npos; at = format.find(from, at + 1))
      format.replace(at, 2, to);
  return format;
}

/// "4.26MB" as "4.26 MB".
std::string spaced_size(std::uint64_t bytes) {
  auto text = human_size(bytes);
  const auto unit = text.find_first_not_of("0123456789.");
  return unit == std::string::npos ? text : text.insert(unit, " ");
}

/// buildah writes "KB" for podman's "kB".
std::string buildah_size(std::uint64_t bytes) {
  auto text = spaced_size(bytes);
  if (text.ends_with("kB")) text[text.size() - 2] = 'K';
  return text;
}

std::string formatted_time(std::int64_t seconds, const char* format) {
  const auto when = static_cast<time_t>(seconds);
  tm parts{};
  if (::gmtime_r(&when, &parts) == nullptr) return "";
  std::array<char, 64> text{};
  ::strftime(text.data(), text.size(), format, &parts);
  return text.data();
}

/// The image's names but for the ones that stand beside localhost/… for FROM.
std::vector<ImageName> names_of(const Json& image) {
  std::vector<ImageName> names;
  const auto tags = member(image, "RepoTags");
  if (tags.is_array())
    for (const auto& tag : tags)
      if (auto name = tag.is_string() ? parse_image_name(tag.get<std::string>()) : std::nullopt)
        names.push_back(*std::move(name));
  const auto all = names;
  std::erase_if(names, [&](const ImageName& name) {
    return name.domain == "docker.io" &&
           std::any_of(all.begin(), all.end(), [&](const ImageName& other) {
             return other.domain == "localhost" && other.tag == name.tag &&
                    (other.path == name.path || "library/" + other.path == name.path);
           });
  });
  return names;
}

std::vector<std::string> digests_of(const Json& image) {
  std::vector<std::string> digests;
  const auto listed = member(image, "RepoDigests");
  if (listed.is_array())
    for (const auto& one : listed)
      if (const auto name =
              one.is_string() ? parse_image_name(one.get<std::string>()) : std::nullopt)
        digests.push_back(name->full());
  return digests;
}

/// A pattern may leave out the registry, the path's first parts, and the tag.
bool fits(const std::string& pattern, const ImageName& name) {
  std::string repository = name.domain + "/" + name.path;
  for (;;) {
    if (::fnmatch(pattern.c_str(), repository.c_str(), 0) == 0 ||
        ::fnmatch(pattern.c_str(), (repository + ":" + name.tag).c_str(), 0) == 0)
      return true;
    const auto slash = repository.find('/');
    if (slash == std::string::npos) return false;
    repository.erase(0, slash + 1);
  }
}

bool wanted(const ListImages& list, const ImageName& name) {
  std::vector<std::string> patterns;
  if (!list.pattern.empty()) patterns.push_back(list.pattern);
  for (const auto& [key, value] : list.filters)
    if (key == "reference") patterns.push_back(value);
  return patterns.empty() ||
         std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return fits(pattern, name); });
}

/// One line of a listing.
struct Row {
  const Json* image = nullptr;
  std::string repository;
  std::string tag;
};

std::vector<Row> rows_of(const Json& images, const ListImages& list) {
  const bool by_name = !list.pattern.empty() ||
                       std::any_of(list.filters.begin(), list.filters.end(),
                                   [](const auto& filter) { return filter.first == "reference"; });
  std::vector<Row> rows;
  for (const auto& image : images) {
    const auto names = names_of(image);
    for (const auto& name : names)
      if (wanted(list, name)) rows.push_back({&image, name.domain + "/" + name.path, name.tag});
    if (!names.empty()) continue;
    // `podman images ID` works too.
    const auto id = bare_id(text_at(image, "Id"));
    if (!by_name || (!list.pattern.empty() && id.starts_with(bare_id(list.pattern))))
      rows.push_back({&image, "<none>", "<none>"});
  }
  return rows;
}

std::string shown_id(const Json& image, bool whole) {
  const auto id = text_at(image, "Id");
  return whole ? id : bare_id(id).substr(0, kShortId);
}

std::string age_of(std::int64_t created, std::int64_t now) {
  return created > 0 ? human_duration(now - created) + " ago" : "N/A";
}

std::int64_t created_of(const Json& image) {
  return static_cast<std::int64_t>(number_at(image, "Created"));
}

std::string digest_of(const Json& image) {
  return text_at(member(image, "Descriptor"), "digest");
}

std::vector<std::string> full_names(const Json& image) {
  std::vector<std::string> names;
  for (const auto& name : names_of(image))
    names.push_back(name.full());
  return names;
}

Json podman_row(const Row& row, const ListImages& list, std::int64_t now) {
  const auto& image = *row.image;
  const auto created = created_of(image);
  return {{"Repository", row.repository},
          {"Tag", row.tag},
          {"ID", shown_id(image, list.no_trunc)},
          {"Id", bare_id(text_at(image, "Id"))},
          {"Digest", digest_of(image)},
          {"Created", age_of(created, now)},
          {"CreatedSince", age_of(created, now)},
          {"CreatedAt", created_at(created)},
          {"Size", spaced_size(number_at(image, "Size"))},
          {"VirtualSize", spaced_size(number_at(image, "Size"))},
          {"Names", full_names(image)},
          {"RepoTags", full_names(image)},
          {"RepoDigests", digests_of(image)},
          {"Labels", member(image, "Labels")},
          {"Dangling", row.repository == "<none>"}};
}

Json buildah_row(const Row& row, const ListImages& list, std::int64_t now) {
  const auto& image = *row.image;
  const auto created = created_of(image);
  return {{"Name", row.repository},
          {"Tag", row.tag},
          {"ID", shown_id(image, list.no_trunc)},
          {"Digest", digest_of(image)},
          {"Created", created},
          {"CreatedAt", age_of(created, now)},
          {"CreatedAtRaw", created_at(created)},
          {"Size", buildah_size(number_at(image, "Size"))},
          {"ReadOnly", false}};
}

/// What --format json and --json print: every image once.
std::string images_json(const std::vector<Row>& rows, const ListImages& list, std::int64_t now) {
  Json all = Json::array();
  const Json* before = nullptr;
  for (const auto& row : rows) {
    if (std::exchange(before, row.image) == row.image) continue;
    const auto& image = *row.image;
    const auto created = created_of(image);
    const auto stamp = formatted_time(created, "%Y-%m-%dT%H:%M:%SZ");
    const auto id = bare_id(text_at(image, "Id"));
    if (list.style == Style::podman)
      all.push_back({{"Id", id},
                     {"ParentId", ""},
                     {"RepoTags", nullptr},
                     {"RepoDigests", digests_of(image)},
                     {"Size", number_at(image, "Size")},
                     {"SharedSize", 0},
                     {"VirtualSize", number_at(image, "Size")},
                     {"Labels", member(image, "Labels")},
                     {"Containers", 0},
                     {"Names", full_names(image)},
                     {"Digest", digest_of(image)},
                     {"History", full_names(image)},
                     {"Created", created},
                     {"CreatedAt", stamp}});
    else
      all.push_back({{"id", shown_id(image, list.no_trunc)},
                     {"names", full_names(image)},
                     {"digest", digest_of(image)},
                     {"createdat", age_of(created, now)},
                     {"size", buildah_size(number_at(image, "Size"))},
                     {"created", created},
                     {"createdatraw", stamp},
                     {"readonly", false},
                     {"history", nullptr}});
  }
  return dumped(all, 4) + "\n";
}

std::string padded(const std::vector<std::vector<std::string>>& lines) {
  std::vector<std::size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()), kPodmanWidth);
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], line[i].size() + kPodmanGap);
  }
  std::string out;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i)
      out += i + 1 < line.size() ? line[i] + std::string(widths[i] - line[i].size(), ' ') : line[i];
    out += '\n';
  }
  return out;
}

std::string images_table(const std::vector<Row>& rows, const ListImages& list, std::int64_t now) {
  std::vector<std::vector<std::string>> lines;
  const auto add = [&](std::vector<std::string> line) {
    if (!list.digests) line.erase(line.begin() + 2);
    lines.push_back(std::move(line));
  };
  if (list.headings) add({"REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"});
  for (const auto& row : rows)
    add({row.repository, row.tag, digest_of(*row.image), shown_id(*row.image, list.no_trunc),
         age_of(created_of(*row.image), now),
         list.style == Style::podman ? spaced_size(number_at(*row.image, "Size"))
                                     : buildah_size(number_at(*row.image, "Size"))});
  return list.style == Style::podman ? padded(lines) : table(lines, 0);
}

/// Columns behind tabs, as img's writer leaves them.
std::string img_table(const std::vector<Row>& rows, std::int64_t now) {
  std::string lines = "NAME\tSIZE\tCREATED AT\tUPDATED AT\tDIGEST\n";
  for (const auto& row : rows) {
    const auto age = age_of(created_of(*row.image), now);
    lines += row.repository + ":" + row.tag + "\t" + human_size(number_at(*row.image, "Size")) +
             "\t" + age + "\t" + age + "\t" + digest_of(*row.image) + "\n";
  }
  return table_of_lines(lines, 0);
}

Json config_of(const Json& image) {
  Json config = Json::object();
  const auto all = member(image, "Config");
  if (!all.is_object()) return config;
  for (const auto& [key, value] : all.items())
    if (!value.is_null() && value != Json("")) config[key] = value;
  return config;
}

} // namespace

std::string bare_id(const std::string& id) {
  constexpr std::string_view kAlgorithm = "sha256:";
  return id.starts_with(kAlgorithm) ? id.substr(kAlgorithm.size()) : id;
}

Result<std::string> shown_images(const std::string& listed, const ListImages& list,
                                 std::int64_t now) {
  const Json images = Json::parse(listed, nullptr, false);
  if (!images.is_array()) return not_json();
  const auto rows = rows_of(images, list);
  if (rows.empty() && list.style == Style::buildah && !list.pattern.empty())
    return Error{ErrorKind::not_found, list.pattern + ": image not known", "", {}};
  if (list.style == Style::img) return img_table(rows, now);
  if (list.json) return images_json(rows, list, now);
  std::string out;
  if (list.quiet) {
    const Json* before = nullptr;
    for (const auto& row : rows)
      if (std::exchange(before, row.image) != row.image)
        out += shown_id(*row.image, list.no_trunc) + "\n";
    return out;
  }
  if (list.format.empty() || list.format == "table") return images_table(rows, list, now);
  std::string format = with_escapes(list.format);
  constexpr std::string_view kTable = "table ";
  const bool as_table = format.starts_with(kTable);
  if (as_table) format.erase(0, kTable.size());
  // buildah lays out what a blank divides in columns.
  if (list.style == Style::buildah)
    for (auto at = format.find("}} {{"); at != std::string::npos; at = format.find("}} {{", at))
      format.replace(at, 5, "}}\t{{");
  for (const auto& row : rows) {
    auto line =
        render_template(format, dumped(list.style == Style::podman ? podman_row(row, list, now)
                                                                   : buildah_row(row, list, now)));
    if (!line) return std::move(line).error();
    out += *line + "\n";
  }
  if (!as_table) return list.style == Style::buildah ? table_of_lines(out, 0) : out;
  if (list.headings) {
    const Json headings{{"Repository", "REPOSITORY"},
                        {"Tag", "TAG"},
                        {"ID", "IMAGE ID"},
                        {"Id", "IMAGE ID"},
                        {"Digest", "DIGEST"},
                        {"Created", "CREATED"},
                        {"CreatedSince", "CREATED"},
                        {"CreatedAt", "CREATED AT"},
                        {"Size", "SIZE"},
                        {"VirtualSize", "SIZE"},
                        {"Names", "NAMES"},
                        {"RepoTags", "REPO TAGS"},
                        {"RepoDigests", "DIGESTS"},
                        {"Labels", "LABELS"},
                        {"Dangling", "DANGLING"},
                        {"Name", "NAME"}};
    auto line = render_template(format, dumped(headings));
    if (!line) return std::move(line).error();
    out = *line + "\n" + out;
  }
  return table_of_lines(out);
}

Result<std::string> podman_image(const std::string& inspected) {
  const Json image = Json::parse(inspected, nullptr, false);
  if (!image.is_object()) return not_json();
  const Json config = config_of(image);
  return dumped({{"Id", bare_id(text_at(image, "Id"))},
                 {"Digest", digest_of(image)},
                 {"RepoTags", full_names(image)},
                 {"RepoDigests", digests_of(image)},
                 {"Parent", ""},
                 {"Comment", text_at(image, "Comment")},
                 {"Created", text_at(image, "Created")},
                 {"Config", config},
                 {"Version", ""},
                 {"Author", text_at(image, "Author")},
                 {"Architecture", text_at(image, "Architecture")},
                 {"Os", text_at(image, "Os")},
                 {"Size", number_at(image, "Size")},
                 {"VirtualSize", number_at(image, "Size")},
                 {"GraphDriver", member(image, "GraphDriver")},
                 {"RootFS", member(image, "RootFS")},
                 {"Labels", member(config, "Labels")},
                 {"Annotations", Json::object()},
                 {"ManifestType", text_at(member(image, "Descriptor"), "mediaType")},
                 {"User", text_at(config, "User")},
                 {"NamesHistory", full_names(image)}});
}

Result<BuildahImage> buildah_image(const std::string& inspected) {
  const Json image = Json::parse(inspected, nullptr, false);
  if (!image.is_object()) return not_json();
  const Json config = config_of(image);
  const auto names = full_names(image);
  const auto layers = member(member(image, "RootFS"), "Layers");
  Json document{{"Type", "buildah 0.0.1"},
                {"FromImage", names.empty() ? "" : names.front()},
                {"FromImageID", bare_id(text_at(image, "Id"))},
                {"FromImageDigest", digest_of(image)}};
  Json fields = document;
  document["OCIv1"] = {{"created", text_at(image, "Created")},
                       {"author", text_at(image, "Author")},
                       {"architecture", text_at(image, "Architecture")},
                       {"os", text_at(image, "Os")},
                       {"config", config},
                       {"rootfs", {{"type", "layers"}, {"diff_ids", layers}}}};
  document["Docker"] = document["OCIv1"];
  document["Docker"]["id"] = text_at(image, "Id");
  // A label or variable that the image does not have is nothing in a template, not an error.
  Json all = config;
  for (const auto* key : {"Env", "Cmd", "Entrypoint", "Labels", "ExposedPorts", "Volumes"})
    if (!all.contains(key)) all[key] = nullptr;
  for (const auto* key : {"User", "WorkingDir", "StopSignal"})
    if (!all.contains(key)) all[key] = "";
  fields["OCIv1"] = {{"Created", text_at(image, "Created")},
                     {"Author", text_at(image, "Author")},
                     {"Architecture", text_at(image, "Architecture")},
                     {"OS", text_at(image, "Os")},
                     {"Config", all},
                     {"RootFS", {{"Type", "layers"}, {"DiffIDs", layers}}}};
  fields["Docker"] = fields["OCIv1"];
  fields["Docker"]["ID"] = text_at(image, "Id");
  return BuildahImage{dumped(document, 4), dumped(fields)};
}

Result<ContainersInfo> containers_info(const std::string& info, Style style) {
  const Json all = Json::parse(info, nullptr, false);
  if (!all.is_object()) return not_json();
  const auto arch = text_at(all, "Architecture") == "aarch64" ? "arm64" : "amd64";
  Json document{{"host",
                 {{"arch", arch},
                  {"os", "linux"},
                  {"kernel", text_at(all, "KernelVersion")},
                  {"cpus", member(all, "NCPU")},
                  {"rootless", true}}},
                {"store",
                 {{"GraphDriverName", text_at(all, "Driver")},
                  {"ImageStore", {{"number", member(all, "Images")}}}}}};
  Json fields{{"Host",
               {{"Arch", arch},
                {"OS", "linux"},
                {"Kernel", text_at(all, "KernelVersion")},
                {"CPUs", member(all, "NCPU")},
                {"Security", {{"Rootless", true}}}}},
              {"Store",
               {{"GraphDriverName", text_at(all, "Driver")},
                {"ImageStore", {{"Number", member(all, "Images")}}}}},
              {"Version", {{"Version", kPodmanVersion}, {"APIVersion", kPodmanVersion}}}};
  if (style == Style::podman) {
    document["host"]["security"] = {{"rootless", true}};
    document["store"]["graphDriverName"] = text_at(all, "Driver");
    document["version"] = {{"APIVersion", kPodmanVersion}, {"Version", kPodmanVersion}};
  }
  return ContainersInfo{dumped(document, style == Style::podman ? 2 : 4), dumped(fields)};
}

std::string version_text(Style style) {
  if (style == Style::podman)
    return std::string{"Client:       Podman Engine\nVersion:      "} + kPodmanVersion +
           "\nAPI Version:  " + kPodmanVersion +
           "\nBuilt by:     slipway " SLIPWAY_VERSION "\nOS/Arch:      linux/amd64\n";
  return std::string{"Version:         "} + kBuildahVersion +
         "\nImage Spec:      1.1.0\nBuilt by:        slipway " SLIPWAY_VERSION
         "\nOS/Arch:         linux/amd64\nBuildPlatform:   linux/amd64\n";
}

std::string version_fields(Style style) {
  if (style == Style::podman)
    return dumped({{"Client",
                    {{"APIVersion", kPodmanVersion},
                     {"Version", kPodmanVersion},
                     {"Os", "linux"},
                     {"OsArch", "linux/amd64"}}}});
  return dumped({{"version", kBuildahVersion},
                 {"imageSpec", "1.1.0"},
                 {"osArch", "linux/amd64"},
                 {"buildPlatform", "linux/amd64"}});
}

} // namespace slipway::shim
