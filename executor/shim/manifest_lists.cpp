// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/manifest_lists.hpp"

#include "executor/shim/containers.hpp"
#include "executor/shim/image_name.hpp"

#include <nlohmann/json.hpp>

#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

const Flag kInsecure{"insecure", 0, Takes::nothing, Use::say, kOwnTls};

Say docker_error(const std::string& text) {
  return {"", text + "\n", 1};
}

/// A name for a list: without a digest. "" = fine.
std::string check_list_name(const std::string& name) {
  const auto parsed = parse_image_name(name);
  return parsed && parsed->digest.empty() ? "" : "invalid reference format";
}

/// KEY=VALUE each. Text of the refusal, or "".
std::string add_annotations(const std::vector<std::string>& values, EditIndex::Part& part) {
  for (const auto& value : values) {
    auto parts = split_annotation(value);
    if (!parts) return "invalid annotation \"" + value + "\": it has to be KEY=VALUE";
    part.annotations.push_back(*std::move(parts));
  }
  return {};
}

/// TYPE:KEY=VALUE of BuildKit, where TYPE is of the index or of what it says of its images. Text of
/// the refusal, or "". Source: buildx util/imagetools/create.go.
std::string add_index_annotations(const std::vector<std::string>& values, EditIndex& edit) {
  for (const auto& value : values) {
    const auto read = read_annotation(value);
    if (!read) return "invalid annotation \"" + value + "\": it has to be TYPE:KEY=VALUE";
    for (const auto& one : *read) {
      if (one.of == "index" && one.platform.empty()) {
        edit.annotations.emplace_back(one.key, one.value);
      } else if (one.of == "manifest-descriptor" && one.platform.empty()) {
        for (auto& part : edit.add)
          part.annotations.emplace_back(one.key, one.value);
      } else {
        return unsupported("--annotation " + value,
                           "say index:KEY=VALUE or manifest-descriptor:KEY=VALUE; an image itself "
                           "stays as it was judged");
      }
    }
  }
  return {};
}

Command docker_create(const std::string& called, const Words& words) {
  Tool docker{"docker", {}};
  return read_command(docker, called, words,
                      {"MANIFEST_LIST MANIFEST [MANIFEST...]",
                       {{"amend", 'a', Takes::nothing}, kInsecure},
                       2,
                       kAny,
                       [](const Line& line) -> Command {
                         EditIndex edit;
                         edit.names = {line.arguments.front()};
                         edit.start = line.has("amend") ? "amend" : "absent";
                         edit.tell = EditIndex::Tell::created;
                         if (auto text = check_list_name(edit.names.front()); !text.empty())
                           return docker_error(text);
                         for (std::size_t i = 1; i < line.arguments.size(); ++i) {
                           if (!parse_image_name(line.arguments[i]))
                             return docker_error("invalid reference format");
                           edit.add.push_back({line.arguments[i]});
                         }
                         return edit;
                       }});
}

Command docker_annotate(const std::string& called, const Words& words) {
  Tool docker{"docker", {}};
  return read_command(docker, called, words,
                      {"[OPTIONS] MANIFEST_LIST MANIFEST",
                       {{"arch"},
                        {"os"},
                        {"variant"},
                        {"os-version"},
                        {"os-features", 0, Takes::value, Use::refuse, kNotYet}},
                       2,
                       2,
                       [](const Line& line) -> Command {
                         EditIndex edit;
                         edit.names = {line.arguments.front()};
                         edit.start = "existing";
                         if (auto text = check_list_name(edit.names.front()); !text.empty())
                           return docker_error(text);
                         if (!parse_image_name(line.arguments[1]))
                           return docker_error("invalid reference format");
                         edit.annotate.push_back({line.arguments[1],
                                                  line.last("os"),
                                                  line.last("arch"),
                                                  line.last("variant"),
                                                  {},
                                                  line.last("os-version")});
                         return edit;
                       }});
}

Command docker_inspect(const std::string& called, const Words& words) {
  Tool docker{"docker", {}};
  return read_command(
      docker, called, words,
      {"[OPTIONS] MANIFEST",
       {kInsecure, {"verbose", 'v', Takes::nothing}},
       1,
       1,
       [](const Line& line) -> Command {
         if (!parse_image_name(line.arguments.front()))
           return docker_error("invalid reference format");
         return InspectIndex{line.arguments.front(), Style::docker, line.has("verbose")};
       }});
}

Command docker_push(const std::string& called, const Words& words) {
  Tool docker{"docker", {}};
  return read_command(docker, called, words,
                      {"[OPTIONS] MANIFEST_LIST",
                       {{"purge", 'p', Takes::nothing}, kInsecure},
                       1,
                       1,
                       [](const Line& line) -> Command {
                         if (auto text = check_list_name(line.arguments.front()); !text.empty())
                           return docker_error(text);
                         return PushIndex{line.arguments.front(), "", line.has("purge")};
                       }});
}

/// A name with the transport of a registry or of the local store, or without any. Nothing where it
/// is another one.
std::optional<std::string> without_transport(const std::string& text) {
  for (const std::string_view known : {"docker://", "containers-storage:"})
    if (text.starts_with(known)) return text.substr(known.size());
  for (const std::string_view other :
       {"docker-archive:", "docker-daemon:", "oci-archive:", "oci:", "dir:"})
    if (text.starts_with(other)) return std::nullopt;
  return text;
}

std::vector<Flag> registry_flags() {
  return {{"authfile", 0, Takes::value, Use::say, kOwnCredential},
          {"creds", 0, Takes::value, Use::say, kOwnCredential},
          {"cert-dir", 0, Takes::value, Use::say, kOwnTls},
          {"tls-verify", 0, Takes::nothing, Use::say, kOwnTls},
          {"insecure", 0, Takes::nothing, Use::say, kOwnTls}};
}

/// The command's own flags, and those about registries.
std::vector<Flag> with_registry_flags(std::vector<Flag> flags) {
  for (const auto& flag : registry_flags())
    flags.push_back(flag);
  return flags;
}

/// Images to be added. Text of the refusal, or "".
std::string add_parts(const Line& line, std::size_t from, EditIndex& edit) {
  for (std::size_t i = from; i < line.arguments.size(); ++i) {
    const auto image = without_transport(line.arguments[i]);
    if (!image)
      return unsupported("the source " + line.arguments[i],
                         "load the file first, with `podman load`");
    EditIndex::Part part{*image, line.last("os"), line.last("arch"), line.last("variant")};
    part.os_version = line.last("os-version");
    if (auto text = add_annotations(line.all("annotation"), part); !text.empty()) return text;
    edit.add.push_back(std::move(part));
  }
  edit.take = line.has("all") ? "all" : "platform";
  return {};
}

Command containers_create(Tool& tool, const std::string& called, const Words& words) {
  return read_command(tool, called, words,
                      {"[options] LIST [IMAGE...]",
                       with_registry_flags({{"all", 0, Takes::nothing},
                                            {"amend", 'a', Takes::nothing},
                                            {"annotation", 0, Takes::value, Use::refuse, kNotYet}}),
                       1, kAny, [&](const Line& line) -> Command {
                         EditIndex edit;
                         if (auto text = check_list_name(line.arguments.front()); !text.empty())
                           return refusal(tool.manner, text);
                         edit.names = stored_names(line.arguments.front());
                         edit.start = line.has("amend") ? "amend" : "absent";
                         edit.tell = EditIndex::Tell::id;
                         if (auto text = add_parts(line, 1, edit); !text.empty())
                           return usage_error(tool.manner, called, text);
                         return edit;
                       }});
}

/// `add`, `annotate` and `remove`, which name the list and something of it.
Command containers_edit(Tool& tool, const std::string& verb, const std::string& called,
                        const Words& words, Style style) {
  std::vector<Flag> flags;
  if (verb != "remove")
    flags = with_registry_flags({{"annotation"},
                                 {"arch"},
                                 {"os"},
                                 {"variant"},
                                 {"all", 0, Takes::nothing},
                                 {"features", 0, Takes::value, Use::refuse, kNotYet},
                                 {"os-features", 0, Takes::value, Use::refuse, kNotYet},
                                 {"os-version"},
                                 {"artifact", 0, Takes::nothing, Use::refuse, kNotYet},
                                 {"index", 0, Takes::nothing, Use::refuse, kNotYet},
                                 {"subject", 0, Takes::value, Use::refuse, kNotYet}});
  return read_command(
      tool, called, words,
      {"[options] LIST IMAGE", std::move(flags), 2, verb == "add" ? kAny : 2,
       [&](const Line& line) -> Command {
         EditIndex edit;
         if (auto text = check_list_name(line.arguments.front()); !text.empty())
           return refusal(tool.manner, text);
         edit.names = stored_names(line.arguments.front());
         edit.start = "existing";
         edit.tell = style == Style::buildah ? EditIndex::Tell::id_and_digest : EditIndex::Tell::id;
         if (verb == "remove") {
           edit.remove = {line.arguments[1]};
           return edit;
         }
         if (verb == "add") {
           if (auto text = add_parts(line, 1, edit); !text.empty())
             return usage_error(tool.manner, called, text);
           return edit;
         }
         EditIndex::Part part{line.arguments[1], line.last("os"), line.last("arch"),
                              line.last("variant")};
         part.os_version = line.last("os-version");
         if (auto text = add_annotations(line.all("annotation"), part); !text.empty())
           return usage_error(tool.manner, called, text);
         edit.annotate.push_back(std::move(part));
         return edit;
       }});
}

Command containers_push_list(Tool& tool, const std::string& called, const Words& words,
                             Style style) {
  return read_command(
      tool, called, words,
      {"[options] LIST [DESTINATION]",
       with_registry_flags(
           {{"all", 0, Takes::nothing, Use::ignore}, // what is pushed is always whole
            {"purge", 'p', Takes::nothing},
            {"rm", 0, Takes::nothing},
            {"quiet", 'q', Takes::nothing},
            {"digestfile"},
            {"format", 'f'},
            {"remove-signatures", 0, Takes::nothing, Use::ignore},
            {"add-compression", 0, Takes::value, Use::refuse,
             "the images are pushed as they were built"},
            {"compression-format", 0, Takes::value, Use::refuse,
             "the images are pushed as they were built"},
            {"compression-level", 0, Takes::value, Use::refuse,
             "the images are pushed as they were built"},
            {"force-compression", 0, Takes::nothing, Use::refuse,
             "the images are pushed as they were built"},
            {"sign-by", 0, Takes::value, Use::refuse, "signatures are slipway's own"}}),
       1, 2, [&](const Line& line) -> Command {
         if (auto text = note_format(line.last("format"), tool); !text.empty())
           return usage_error(tool.manner, called, text);
         PushIndex push{
             line.arguments.front(),  "",   line.has("purge") || line.has("rm"), line.has("quiet"),
             line.last("digestfile"), style};
         if (auto text = check_list_name(push.list); !text.empty())
           return refusal(tool.manner, text);
         if (line.arguments.size() < 2) return push;
         const auto place = without_transport(line.arguments[1]);
         if (!place || line.arguments[1].starts_with("containers-storage:"))
           return usage_error(
               tool.manner, called,
               unsupported("the destination " + line.arguments[1], "use docker://NAME"));
         if (auto text = check_list_name(*place); !text.empty()) return refusal(tool.manner, text);
         push.destination = *place;
         return push;
       }});
}

} // namespace

Command read_docker_manifest(const Words& words) {
  const std::string verb = words.empty() ? "" : words.front();
  const Words rest{words.begin() + (words.empty() ? 0 : 1), words.end()};
  const std::string called = "docker manifest " + verb;
  if (verb == "create") return docker_create(called, rest);
  if (verb == "annotate") return docker_annotate(called, rest);
  if (verb == "inspect") return docker_inspect(called, rest);
  if (verb == "push") return docker_push(called, rest);
  if (verb == "rm") {
    Tool docker{"docker", {}};
    return read_command(
        docker, called, rest,
        {"MANIFEST_LIST [MANIFEST_LIST...]", {}, 1, kAny, [](const Line& line) -> Command {
           return RemoveIndexes{line.arguments};
         }});
  }
  if (verb.empty() || verb == "--help" || verb == "-h")
    return Say{"\nUsage:  docker manifest COMMAND\n\nCommands that slipway serves:\n  annotate "
               "create inspect push rm\n",
               "", 0};
  return docker_error("docker manifest: '" + verb + "' is unknown or not served by slipway.");
}

std::optional<std::string> source_image(const std::string& text,
                                        const std::vector<std::string>& tags) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto begin = text.find_first_not_of(kBlank);
  if (begin == std::string::npos) return std::nullopt;
  auto source = text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
  if (source.starts_with('{')) {
    const auto json = nlohmann::json::parse(source, nullptr, false);
    const auto digest = json.is_object() ? json.find("digest") : json.end();
    if (!json.is_object() || digest == json.end() || !digest->is_string()) return std::nullopt;
    source = digest->get<std::string>();
  }
  if (source.starts_with("sha256:")) {
    std::set<std::string> repositories;
    for (const auto& tag : tags)
      if (const auto name = parse_image_name(tag)) repositories.insert(name->familiar());
    if (repositories.size() != 1) return std::nullopt;
    source = *repositories.begin() + "@" + source;
  }
  return parse_image_name(source) ? std::optional{source} : std::nullopt;
}

Command read_imagetools_create(const Words& words) {
  Tool docker{"docker", {}};
  const std::string called = "docker buildx imagetools create";
  return read_command(
      docker, called, words,
      {"[OPTIONS] [SOURCE...]",
       {{"tag", 't'},
        {"append", 0, Takes::nothing},
        {"dry-run", 0, Takes::nothing},
        {"prefer-index", 0, Takes::nothing},
        {"metadata-file"},
        {"builder", 0, Takes::value, Use::ignore},
        {"debug", 'D', Takes::nothing, Use::ignore},
        {"progress", 0, Takes::value, Use::ignore},
        {"file", 'f'},
        {"annotation"},
        {"platform"}},
       0,
       kAny,
       [&](const Line& line) -> Command {
         EditIndex edit;
         edit.names = line.all("tag");
         edit.start = "fresh";
         edit.take = "all";
         edit.dry_run = line.has("dry-run");
         edit.push = !edit.dry_run;
         edit.copy_index = true;
         edit.metadata_file = line.last("metadata-file");
         if (line.last("prefer-index") == "false")
           return usage_error(docker.manner, called,
                              unsupported("--prefer-index=false",
                                          "to give an image another name, `docker pull`, `docker "
                                          "tag` and `docker push` it"));
         for (const auto& name : edit.names)
           if (!check_list_name(name).empty())
             return docker_error("ERROR: invalid reference format");
         if (line.has("append")) {
           if (edit.names.empty())
             return docker_error("ERROR: no tag to append to: --append needs --tag");
           edit.add.push_back({edit.names.front()});
         }
         for (const auto& file : line.all("file")) {
           edit.add.emplace_back();
           edit.add.back().file = file;
         }
         for (const auto& source : line.arguments) {
           auto image = source_image(source, edit.names);
           if (!image) return docker_error("ERROR: invalid reference format");
           edit.add.push_back({*std::move(image)});
         }
         for (const auto& platforms : line.all("platform"))
           for (const auto& platform : comma_parts(platforms))
             edit.platforms.push_back(platform);
         if (auto text = add_index_annotations(line.all("annotation"), edit); !text.empty())
           return usage_error(docker.manner, called, text);
         if (edit.add.empty()) return docker_error("ERROR: no sources specified");
         if (edit.names.empty() && !edit.dry_run)
           return docker_error("ERROR: no repositories specified, please set a reference with tag");
         return edit;
       }});
}

Command read_containers_manifest(Tool& tool, const Words& words, Style style) {
  const std::string verb = words.empty() ? "" : words.front();
  const Words rest{words.begin() + (words.empty() ? 0 : 1), words.end()};
  const std::string called = tool.name + " manifest " + verb;
  if (verb == "create") return containers_create(tool, called, rest);
  if (verb == "add" || verb == "annotate" || verb == "remove")
    return containers_edit(tool, verb, called, rest, style);
  if (verb == "push") return containers_push_list(tool, called, rest, style);
  if (verb == "inspect")
    return read_command(tool, called, rest,
                        {"LIST", registry_flags(), 1, 1, [&](const Line& line) -> Command {
                           const auto name = without_transport(line.arguments.front());
                           if (!name || !parse_image_name(*name))
                             return refusal(tool.manner, "invalid reference format");
                           return InspectIndex{*name, style};
                         }});
  if (verb == "rm")
    return read_command(tool, called, rest,
                        {"LIST [LIST...]",
                         {{"ignore", 'i', Takes::nothing, Use::refuse, kNotYet}},
                         1,
                         kAny,
                         [&](const Line& line) -> Command {
                           return RemoveIndexes{line.arguments, style};
                         }});
  if (verb == "exists")
    return read_command(tool, called, rest, {"LIST", {}, 1, 1, [](const Line& line) -> Command {
                                               return IndexExists{line.arguments.front()};
                                             }});
  return refusal(tool.manner, called + ": slipway serves create, add, annotate, remove, inspect, "
                                       "push, rm and exists");
}

} // namespace slipway::shim
