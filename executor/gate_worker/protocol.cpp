// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/protocol.hpp"

#include "executor/base/base64.hpp"

#include <nlohmann/json.hpp>

#include <string.h>

namespace slipway::gate_worker {
namespace {

using nlohmann::json;

/// Overwrites the strings of a JSON value.
void wipe(json& value) {
  if (value.is_string()) {
    auto& text = value.get_ref<std::string&>();
    ::explicit_bzero(text.data(), text.size());
  } else if (value.is_structured()) {
    for (auto& member : value)
      wipe(member);
  }
}

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Paths and secrets are bytes, JSON has characters.
std::string bytes_of(const json& value) {
  auto bytes = base64_decode(value.get_ref<const std::string&>());
  if (!bytes) throw std::invalid_argument{"no base64"};
  return *std::move(bytes);
}

oci::Digest digest_of(const json& value) {
  auto digest = oci::Digest::parse(value.get<std::string>());
  if (!digest) throw std::invalid_argument{"no digest"};
  return *std::move(digest);
}

oci::Flaw flaw_of(const json& value) {
  const auto number = value.get<int>();
  if (number < 0 || number > static_cast<int>(oci::Flaw::false_attestation))
    throw std::invalid_argument{"no flaw"};
  return static_cast<oci::Flaw>(number);
}

json base_of(const std::filesystem::path& layout_dir, const oci::Digest& root,
             const std::filesystem::path& known_layers) {
  return {{"layout_dir", base64(layout_dir.string())},
          {"root", root.str()},
          {"known_layers", base64(known_layers.string())}};
}

SearchTask search_of(const json& value) {
  SearchTask task;
  task.settings.cache_dir = bytes_of(value.at("cache_dir"));
  task.settings.max_layer_bytes = value.at("max_layer_bytes").get<std::uint64_t>();
  task.exempt = value.at("exempt").get<std::vector<std::string>>();
  task.learn_up_to = value.at("learn_up_to").get<std::uint64_t>();
  for (const auto& one : value.at("secrets")) {
    leaks::KnownSecret secret{one.at("name").get<std::string>(), {}, leaks::Kind::masked, {}};
    auto bytes = bytes_of(one.at("value"));
    secret.value = Secret{bytes};
    ::explicit_bzero(bytes.data(), bytes.size());
    switch (one.at("kind").get<int>()) {
    case static_cast<int>(leaks::Kind::token):
      secret.kind = leaks::Kind::token;
      break;
    case static_cast<int>(leaks::Kind::masked):
      break;
    case static_cast<int>(leaks::Kind::file):
      secret.kind = leaks::Kind::file;
      break;
    default:
      throw std::invalid_argument{"no kind of secret"};
    }
    if (const auto& made = one.at("made_at"); !made.is_null()) {
      WallTime at;
      if (!parse_rfc3339(made.get<std::string>(), at)) throw std::invalid_argument{"no time"};
      secret.made_at = at;
    }
    task.secrets.push_back(std::move(secret));
  }
  return task;
}

oci::VerifyRules rules_of(const json& value) {
  oci::VerifyRules rules;
  rules.max_layer = value.at("max_layer").get<std::uint64_t>();
  rules.max_image = value.at("max_image").get<std::uint64_t>();
  for (const auto& flaw : value.at("tolerated"))
    rules.tolerated.insert(flaw_of(flaw));
  for (const auto& digest : value.at("artifacts"))
    rules.artifacts.insert(digest_of(digest));
  return rules;
}

leaks::Hit hit_of(const json& value) {
  const auto form = value.at("form").get<int>();
  const auto names = value.at("names").get<std::vector<std::string>>();
  if (form < 0 || form > static_cast<int>(leaks::Form::json) || names.empty())
    throw std::invalid_argument{"no hit"};
  return {names,
          static_cast<leaks::Form>(form),
          digest_of(value.at("blob")),
          value.at("what").get<std::string>(),
          value.at("place").get<std::string>(),
          value.at("made_by").get<std::string>()};
}

leaks::Report report_of(const json& value) {
  leaks::Report report;
  for (const auto& hit : value.at("hits"))
    report.hits.push_back(hit_of(hit));
  report.more_hits = value.at("more_hits").get<std::size_t>();
  for (const auto& [blob, names] : value.at("leaking").items())
    report.leaking.emplace(digest_of(blob), names.get<std::set<std::string>>());
  report.not_searched = value.at("not_searched").get<std::vector<std::string>>();
  report.notes = value.at("notes").get<std::vector<std::string>>();
  report.bytes = value.at("bytes").get<std::uint64_t>();
  return report;
}

std::string encode(const Error& error, json more) {
  more["error"] = {{"kind", kind_name(error.kind)}, {"what", error.text()}, {"hint", error.hint}};
  return text_of(more);
}

Error error_of(const json& value) {
  Error error{ErrorKind::internal,
              value.at("what").get<std::string>(),
              value.at("hint").get<std::string>(),
              {}};
  const auto kind = value.at("kind").get<std::string>();
  for (const auto known : {ErrorKind::bad_input, ErrorKind::not_found, ErrorKind::misconfigured,
                           ErrorKind::timed_out, ErrorKind::unavailable, ErrorKind::io})
    if (kind == kind_name(known)) error.kind = known;
  return error;
}

Error unreadable(const char* what, const std::string& why) {
  return {ErrorKind::internal, std::string{what} + " cannot be read: " + why, "", {}};
}

} // namespace

std::string encode_search(const std::filesystem::path& layout_dir, const oci::Digest& root,
                          const SearchTask& task) {
  const auto& settings = task.settings;
  json value = base_of(layout_dir, root, settings.layers ? settings.layers->dir() : "");
  json secrets = json::array();
  for (const auto& one : task.secrets) {
    secrets.push_back({{"name", one.name},
                       {"value", base64(one.value.reveal())},
                       {"kind", static_cast<int>(one.kind)},
                       {"made_at", one.made_at ? json(rfc3339(*one.made_at)) : json()}});
  }
  value["search"] = {{"cache_dir", base64(settings.cache_dir.string())},
                     {"max_layer_bytes", settings.max_layer_bytes},
                     {"exempt", task.exempt},
                     {"learn_up_to", task.learn_up_to},
                     {"secrets", std::move(secrets)}};
  auto text = text_of(value);
  wipe(value);
  return text;
}

std::string encode_verify(const std::filesystem::path& layout_dir, const oci::Digest& root,
                          const oci::VerifyRules& rules) {
  json value = base_of(layout_dir, root, rules.known != nullptr ? rules.known->dir() : "");
  json tolerated = json::array();
  for (const auto flaw : rules.tolerated)
    tolerated.push_back(static_cast<int>(flaw));
  json artifacts = json::array();
  for (const auto& digest : rules.artifacts)
    artifacts.push_back(digest.str());
  value["verify"] = {{"max_layer", rules.max_layer},
                     {"max_image", rules.max_image},
                     {"tolerated", std::move(tolerated)},
                     {"artifacts", std::move(artifacts)}};
  return text_of(value);
}

std::string encode_files(const std::filesystem::path& layout_dir, const oci::Digest& manifest,
                         std::uint64_t most_bytes) {
  json value = base_of(layout_dir, manifest, "");
  value["files"] = {{"most_bytes", most_bytes}};
  return text_of(value);
}

std::string encode_executables(const std::filesystem::path& layout_dir, const oci::Digest& manifest,
                               std::uint64_t max_layer) {
  json value = base_of(layout_dir, manifest, "");
  value["executables"] = {{"max_layer", max_layer}};
  return text_of(value);
}

std::string encode_package_changes(const std::filesystem::path& layout_dir,
                                   const oci::Digest& manifest, std::uint64_t max_layer) {
  json value = base_of(layout_dir, manifest, "");
  value["package_changes"] = {{"max_layer", max_layer}};
  return text_of(value);
}

std::string encode_unpack() {
  json value = base_of("", oci::Digest::of(""), "");
  value["unpack"] = true;
  return text_of(value);
}

Result<Request> decode_request(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  try {
    Request request{bytes_of(value.at("layout_dir")),
                    digest_of(value.at("root")),
                    {},
                    {},
                    {},
                    {},
                    {},
                    {},
                    false};
    if (const auto dir = bytes_of(value.at("known_layers")); !dir.empty())
      request.known_layers = oci::KnownLayers{dir};
    if (value.contains("search")) {
      request.search = search_of(value.at("search"));
      request.search->settings.layers = request.known_layers;
    } else if (value.contains("files")) {
      request.most_file_bytes = value.at("files").at("most_bytes").get<std::uint64_t>();
    } else if (value.contains("executables")) {
      request.executables_in = value.at("executables").at("max_layer").get<std::uint64_t>();
    } else if (value.contains("package_changes")) {
      request.package_changes_in = value.at("package_changes").at("max_layer").get<std::uint64_t>();
    } else if (value.contains("unpack")) {
      request.unpack = value.at("unpack").get<bool>();
    } else {
      request.verify = rules_of(value.at("verify"));
    }
    wipe(value);
    return request;
  } catch (const std::exception& wrong) { // of the JSON library, or thrown above
    wipe(value);
    return Error{ErrorKind::bad_input, std::string{"no request: "} + wrong.what(), "", {}};
  }
}

std::string encode(const Result<leaks::Report>& report) {
  if (!report) return encode(report.error(), json::object());
  json hits = json::array();
  for (const auto& hit : report->hits) {
    hits.push_back({{"names", hit.names},
                    {"form", static_cast<int>(hit.form)},
                    {"blob", hit.blob.str()},
                    {"what", hit.what},
                    {"place", hit.place},
                    {"made_by", hit.made_by}});
  }
  json leaking = json::object();
  for (const auto& [blob, names] : report->leaking)
    leaking[blob.str()] = names;
  return text_of({{"hits", std::move(hits)},
                  {"more_hits", report->more_hits},
                  {"leaking", std::move(leaking)},
                  {"not_searched", report->not_searched},
                  {"notes", report->notes},
                  {"bytes", report->bytes}});
}

std::string encode(const Result<oci::Tolerated>& tolerated, oci::Flaw flaw) {
  if (!tolerated) return encode(tolerated.error(), {{"flaw", static_cast<int>(flaw)}});
  json oddities = json::array();
  for (const auto& [kind, words] : *tolerated)
    oddities.push_back({static_cast<int>(kind), words});
  return text_of({{"tolerated", std::move(oddities)}});
}

std::string encode(const Status& written) {
  if (!written) return encode(written.error(), json::object());
  return text_of({{"written", true}});
}

std::string encode(const Result<std::vector<oci::Executable>>& executables) {
  if (!executables) return encode(executables.error(), json::object());
  json list = json::array();
  for (const auto& one : *executables)
    list.push_back({base64(one.path), one.content.str()});
  return text_of({{"executables", std::move(list)}});
}

std::string encode(const Result<std::vector<oci::PackageChange>>& changes) {
  if (!changes) return encode(changes.error(), json::object());
  json list = json::array();
  for (const auto& one : *changes) {
    list.push_back({{"name", one.name},
                    {"old_version", one.old_version},
                    {"new_version", one.new_version},
                    {"old_maintainer", one.old_maintainer},
                    {"new_maintainer", one.new_maintainer},
                    {"has_files", one.has_files},
                    {"remains", one.remains}});
  }
  return text_of({{"package_changes", std::move(list)}});
}

Result<leaks::Report> decode_report(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  try {
    if (value.contains("error")) return error_of(value.at("error"));
    return report_of(value);
  } catch (const std::exception& wrong) {
    return unreadable("what was found in the image", wrong.what());
  }
}

Result<oci::Tolerated> decode_tolerated(const std::string& text, oci::Flaw* flaw) {
  const json value = json::parse(text, nullptr, false);
  try {
    if (value.contains("error")) {
      if (flaw != nullptr) *flaw = flaw_of(value.at("flaw"));
      return error_of(value.at("error"));
    }
    oci::Tolerated tolerated;
    for (const auto& one : value.at("tolerated"))
      tolerated.emplace_back(flaw_of(one.at(0)), one.at(1).get<std::string>());
    return tolerated;
  } catch (const std::exception& wrong) {
    return unreadable("what was found of the image's bytes", wrong.what());
  }
}

Status decode_written(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  try {
    if (value.contains("error")) return error_of(value.at("error"));
    if (value.at("written").get<bool>()) return {};
    throw std::invalid_argument{"nothing is written"};
  } catch (const std::exception& wrong) {
    return unreadable("what became of the image's files", wrong.what());
  }
}

Result<std::vector<oci::Executable>> decode_executables(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  try {
    if (value.contains("error")) return error_of(value.at("error"));
    std::vector<oci::Executable> executables;
    for (const auto& one : value.at("executables"))
      executables.push_back({bytes_of(one.at(0)), digest_of(one.at(1))});
    return executables;
  } catch (const std::exception& wrong) {
    return unreadable("what can be executed in the image", wrong.what());
  }
}

Result<std::vector<oci::PackageChange>> decode_package_changes(const std::string& text) {
  const json value = json::parse(text, nullptr, false);
  try {
    if (value.contains("error")) return error_of(value.at("error"));
    std::vector<oci::PackageChange> changes;
    for (const auto& one : value.at("package_changes")) {
      changes.push_back({.name = one.at("name").get<std::string>(),
                         .old_version = one.at("old_version").get<std::string>(),
                         .new_version = one.at("new_version").get<std::string>(),
                         .old_maintainer = one.at("old_maintainer").get<std::string>(),
                         .new_maintainer = one.at("new_maintainer").get<std::string>(),
                         .has_files = one.at("has_files").get<bool>(),
                         .remains = one.at("remains").get<std::string>()});
    }
    return changes;
  } catch (const std::exception& wrong) {
    return unreadable("what became of the image's packages", wrong.what());
  }
}

} // namespace slipway::gate_worker
