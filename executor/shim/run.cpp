// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/run.hpp"

#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/base/percent.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/engine_api/docker_version.hpp"
#include "executor/shim/bake.hpp"
#include "executor/shim/build_context.hpp"
#include "executor/shim/compose.hpp"
#include "executor/shim/container_run.hpp"
#include "executor/shim/containers.hpp"
#include "executor/shim/containers_output.hpp"
#include "executor/shim/fetched_sources.hpp"
#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/import.hpp"
#include "executor/shim/lent_agents.hpp"
#include "executor/shim/manifest_lists.hpp"
#include "executor/shim/session_run.hpp"
#include "executor/shim/tar_extract.hpp"

#include <nlohmann/json.hpp>

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kJsonType = "application/json";
constexpr std::string_view kTarType = "application/x-tar";
constexpr std::string_view kClientVersion = engine_api::kDockerVersion;
constexpr std::string_view kClientApi = "1.41";
constexpr std::size_t kShortId = 12;
constexpr std::size_t kMaxPasswordBytes = 64UL << 10;
constexpr std::size_t kMaxErrorBytes = 1UL << 20;
/// BuildKit's limit for one secret, and with it the broker's for those of a build together.
constexpr std::size_t kMaxSecretBytes = 500UL << 10;
constexpr std::size_t kMaxArgumentBytes = 512UL << 10; ///< of a file of arguments
constexpr std::size_t kHistoryCommandWidth = 45;
constexpr std::size_t kMaxSourceBytes = 64UL << 10; ///< of a file that names an image
constexpr int kTemplateExit = 64; ///< docker's code for a --format it cannot parse

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::uint64_t number_at(const Json& object, const char* key) {
  if (!object.is_object()) return 0;
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

std::vector<std::string> texts_at(const Json& object, const char* key) {
  std::vector<std::string> texts;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_array()) return texts;
  for (const auto& one : *found)
    if (one.is_string()) texts.push_back(one.get<std::string>());
  return texts;
}

std::string dumped(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string short_id(const std::string& id, bool whole) {
  if (whole) return id;
  const auto colon = id.find(':');
  return (colon == std::string::npos ? id : id.substr(colon + 1)).substr(0, kShortId);
}

std::string message_of(const Answer& answer) {
  const Json json = Json::parse(answer.body, nullptr, false);
  if (auto message = text_at(json, "message"); !message.empty()) return message;
  return "the broker answered with status " + std::to_string(answer.status);
}

Json pairs_json(const Pairs& pairs) {
  Json list = Json::array();
  for (const auto& [key, value] : pairs)
    list.push_back(Json::array({key, value}));
  return list;
}

Json map_json(const Pairs& pairs) {
  Json map = Json::object();
  for (const auto& [key, value] : pairs)
    map[key] = value;
  return map;
}

/// Whether an image that was inspected is for OS/ARCH[/VARIANT]; "" is any.
bool is_for(const Json& image, const std::string& platform) {
  const std::string own = text_at(image, "Os") + "/" + text_at(image, "Architecture");
  const std::string variant = text_at(image, "Variant");
  return platform.empty() || platform == own || platform == own + "/" + variant ||
         (variant.empty() && platform.starts_with(own + "/"));
}

std::string with_escapes(std::string format) {
  for (const auto& [from, to] : {std::pair{"\\t", "\t"}, std::pair{"\\n", "\n"}})
    for (auto at = format.find(from); at != std::string::npos; at = format.find(from, at + 1))
      format.replace(at, 2, to);
  return format;
}

/// docker's code for a template that is none, or that does not fit what it is rendered over.
int template_exit(const Error& error) {
  return error.what.find("executing") == std::string::npos ? kTemplateExit : 1;
}

/// The rows of a listing, each a JSON object of its columns; the headings likewise.
struct Listing {
  Json headings;
  std::vector<Json> rows;
  std::string default_format; ///< "table …"
};

class Runner {
public:
  Runner(const Surroundings& world, const Manner& manner)
      : world_{world}, manner_{manner}, client_{world.sockets, world.deadlines} {}

  int operator()(const Say& say) const {
    world_.out(say.out);
    world_.err(say.err);
    return say.exit_code;
  }

  int operator()(const Build& build) const {
    Json metadata;
    if (const int code = build_one(build, metadata); code != 0) return code;
    return build.metadata_file.empty() ? 0 : write_json(build.metadata_file, metadata);
  }

  int operator()(const Bake& bake) const {
    auto files = read_bake_files(bake);
    if (!files) return fail("ERROR: ", files.error());
    const auto plan = plan_bake(bake, *files);
    if (!plan) return fail("ERROR: ", plan.error());
    if (bake.print) {
      world_.out(plan->printed);
      return 0;
    }
    auto shared = names_for(plan->shared);
    if (!shared) return fail("ERROR: ", shared.error());
    Json all = Json::object();
    const int code = build_targets(*plan, *shared, all);
    if (auto forgotten = forget(*plan, *shared); !forgotten)
      world_.err("slipway: " + forgotten.error().text() + ", which stays until the job ends\n");
    if (code != 0) return code;
    return bake.metadata_file.empty() ? 0 : write_json(bake.metadata_file, all);
  }

  int operator()(const Compose& asked) const {
    Compose compose = asked;
    if (compose.old_name && has_second_compose()) compose.old_name = false;
    const ReadText read = [this](const std::string& path) -> Result<std::string> {
      if (path == "-") return read_all(world_.input, kMaxComposeBytes, "the Compose file on stdin");
      std::error_code cause;
      if (std::filesystem::is_directory(path, cause))
        return Error{ErrorKind::not_found, path + " is a folder", "", {}};
      return read_file(path, kMaxComposeBytes);
    };
    const auto project = load_compose(compose, world_.cwd, read);
    if (!project) return fail("", project.error());
    for (const auto& note : project->notes)
      world_.err(note + "\n");
    switch (compose.verb) {
    case Compose::Verb::build:
      return build_services(*project);
    case Compose::Verb::push:
      return push_services(compose, *project);
    case Compose::Verb::pull:
      return pull_services(compose, *project);
    case Compose::Verb::config:
      break;
    }
    if (compose.output.empty()) {
      world_.out(project->shown);
      return 0;
    }
    auto written = put_file(compose.output, project->shown);
    return written ? 0 : fail("", written.error());
  }

  /// The image's own Compose goes on with the same words; what it wants of containers is the
  /// broker's to grant or to refuse, as it is for `docker run`.
  int operator()(const OwnCompose& own) const {
    auto programs = world_.compose_programs;
    programs.insert(own.old_name ? programs.begin() : programs.end(),
                    world_.old_compose_programs.begin(), world_.old_compose_programs.end());
    const auto program = std::find_if(programs.begin(), programs.end(), [](const auto& path) {
      return ::access(path.c_str(), X_OK) == 0;
    });
    if (program == programs.end())
      return fail(own.called + ": slipway itself serves build, push, pull and config of Compose. "
                               "The others are left to the image's own Compose, and this image "
                               "has none. Use an image with the plug-in (docker:27) where the "
                               "operator's rule has `dind = true`; else `services:` of the job, or "
                               "the job's `image:`.");
    std::vector<std::string> argv{*program};
    argv.insert(argv.end(), own.words.begin(), own.words.end());
    const auto socket =
        std::find_if(world_.sockets.begin(), world_.sockets.end(),
                     [](const auto& path) { return ::access(path.c_str(), F_OK) == 0; });
    // Compose from version 2 on builds by BuildKit's protocol or by buildx, both served here; what
    // its classic builder does not know (dockerfile_inline, say) it may leave out without a word.
    const int cause =
        world_.become(argv, socket == world_.sockets.end() ? world_.sockets.front() : *socket,
                      !is_go_program(*program));
    return cause == 0 ? 0 : fail("", io_error("exec", cause, *program));
  }

  int operator()(const OldComposeVersion& version) const {
    world_.out(has_second_compose() ? version.second : version.first);
    return 0;
  }

  int operator()(const Push& push) const {
    if (push.style != Style::docker) return push_in_style(push);
    std::vector<std::string> images;
    const auto name = parse_image_name(push.image);
    if (push.all_tags) {
      const auto list = ask_json({.target = "/images/json"});
      if (!list) return 1;
      for (const auto& image : *list)
        for (const auto& tag : texts_at(image, "RepoTags"))
          if (const auto known = parse_image_name(tag);
              known && known->familiar() == name->familiar())
            images.push_back(tag);
      if (images.empty())
        return fail("An image does not exist locally with the tag: " + name->familiar());
    } else {
      if (name->tag.empty() && !push.quiet) world_.out("Using default tag: latest\n");
      images.push_back(with_tag(push.image));
    }
    for (const auto& image : images)
      if (!push_one(image, world_.out, push.quiet)) return 1;
    if (push.quiet) world_.out(parse_image_name(images.front())->full() + "\n");
    return 0;
  }

  int operator()(const Pull& pull) const {
    if (pull.if_missing) {
      const auto there =
          client_.ask({.target = "/images/" + percent_encode(local_name(pull.image)) + "/json"});
      if (!there) return fail("", there.error());
      const Json image = Json::parse(there->body, nullptr, false);
      if (there->status < 400 && is_for(image, pull.platform)) {
        world_.out(bare_id(text_at(image, "Id")) + "\n");
        return 0;
      }
    }
    auto name = *parse_image_name(pull.image);
    if (name.tag.empty() && name.digest.empty()) {
      name.tag = "latest";
      if (!pull.quiet && pull.style == Style::docker) world_.out("Using default tag: latest\n");
    }
    std::string target = "/images/create?fromImage=" + percent_encode(name.familiar()) +
                         "&tag=" + percent_encode(name.digest.empty() ? name.tag : name.digest);
    if (!pull.platform.empty()) target += "&platform=" + percent_encode(pull.platform);
    const Write quiet = [](std::string_view) {};
    const bool containers = pull.style == Style::podman || pull.style == Style::buildah;
    const Write print = pull.quiet ? quiet : containers ? world_.err : world_.out;
    if (!stream({.method = "POST", .target = target, .long_running = true}, print))
      return manner_.exit_code;
    if (!containers) {
      world_.out(name.full() + "\n");
      return 0;
    }
    const std::string pulled =
        name.familiar() + (name.digest.empty() ? ":" + name.tag : "@" + name.digest);
    const auto image = ask_json({.target = "/images/" + percent_encode(pulled) + "/json"});
    if (!image) return manner_.exit_code;
    world_.out(bare_id(text_at(*image, "Id")) + "\n");
    return 0;
  }

  int operator()(const Login& login) const {
    world_.err(login.warning);
    std::string password = login.password;
    if (login.password_from_stdin) {
      // Read to the end, so that the writer of the pipe is not killed by SIGPIPE.
      auto read = read_all(world_.input, kMaxPasswordBytes, "the password on stdin");
      if (!read) return fail("", read.error());
      password = *std::move(read);
      while (!password.empty() && (password.back() == '\n' || password.back() == '\r'))
        password.pop_back();
    }
    Json given{{"serveraddress", login.server}};
    if (!login.username.empty()) given["username"] = login.username;
    if (!password.empty()) given["password"] = password;
    const auto answer = ask_json({.method = "POST",
                                  .target = "/auth",
                                  .content_type = "application/json",
                                  .body = dumped(given)});
    ::explicit_bzero(password.data(), password.size());
    if (!answer) return manner_.exit_code;
    world_.err(
        answer->value("Forwarded", false)
            ? "slipway: what this script pulls from there is pulled with this login; no push "
              "is\n"
            : "slipway: the credential was not stored; slipway brings its own for each "
              "push\n");
    world_.out(login.done + "\n");
    return 0;
  }

  int operator()(const Tag& tag) const {
    const auto source = local_name(tag.source);
    for (const auto& target : tag.targets)
      if (!tag_as(source, target)) return manner_.exit_code;
    world_.out(tag.done);
    return 0;
  }

  int operator()(const ListImages& list) const {
    if (list.style != Style::docker) return list_in_style(list);
    Json filters = Json::object();
    for (const auto& [key, value] : list.filters)
      filters[key][value] = true;
    if (!list.pattern.empty()) filters["reference"][list.pattern] = true;
    const auto images = ask_json(
        {.target = "/images/json" +
                   (filters.empty() ? "" : "?filters=" + percent_encode(dumped(filters)))});
    if (!images) return 1;
    if (!images->is_array()) return fail("the broker's list of images is no list");
    Listing listing{
        {{"Repository", "REPOSITORY"},
         {"Tag", "TAG"},
         {"Digest", "DIGEST"},
         {"ID", "IMAGE ID"},
         {"CreatedSince", "CREATED"},
         {"CreatedAt", "CREATED AT"},
         {"Size", "SIZE"},
         {"VirtualSize", "SIZE"}},
        {},
        list.digests
            ? "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
            : "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"};
    for (const auto& image : *images)
      add_image_rows(image, list, listing.rows);
    if (list.quiet) {
      for (const auto& row : listing.rows)
        world_.out(text_at(row, "ID") + "\n");
      return 0;
    }
    return print_listing(listing, list.format);
  }

  int operator()(const RemoveImages& remove) const {
    if (remove.style != Style::docker) return remove_in_style(remove);
    int exit_code = 0;
    for (const auto& image : remove.images) {
      auto answer = client_.ask(
          {.method = "DELETE",
           .target = "/images/" + percent_encode(image) + (remove.force ? "?force=1" : "")});
      if (!answer) return fail("", answer.error());
      if (answer->status >= 400) {
        fail(std::string{manner_.broker_error} + message_of(*answer));
        if (!(remove.force && answer->status == 404))
          exit_code = 1; // as docker: -f forgives a missing image
        continue;
      }
      const Json done = Json::parse(answer->body, nullptr, false);
      if (!done.is_array()) continue;
      for (const auto& one : done)
        for (const auto* key : {"Untagged", "Deleted"})
          if (const auto text = text_at(one, key); !text.empty())
            world_.out(std::string{key} + ": " + text + "\n");
    }
    return exit_code;
  }

  int operator()(const ImageExists& exists) const {
    auto answer =
        client_.ask({.target = "/images/" + percent_encode(local_name(exists.image)) + "/json"});
    if (!answer) return fail("", answer.error());
    return answer->status < 400 ? 0 : 1;
  }

  int operator()(const InspectRemote& inspect) const {
    const auto name = *parse_image_name(inspect.image);
    const auto remote =
        ask_json({.target = "/distribution/" + percent_encode(with_tag(inspect.image)) + "/json"});
    if (!remote) return 1;
    const auto descriptor = remote->find("Descriptor");
    if (descriptor == remote->end() || !descriptor->is_object())
      return fail("the broker's answer has no descriptor");
    const std::string full = parse_image_name(with_tag(inspect.image))->full();
    const auto body = ask({.target = "/slipway/v1/manifest?from=registry&name=" +
                                     percent_encode(with_tag(inspect.image))});
    if (!body) return 1;
    if (inspect.raw) {
      world_.out(body->body);
      return 0;
    }
    const Json document = Json::parse(body->body, nullptr, false);
    const auto text = [&](const char* key) { return text_at(*descriptor, key); };
    if (!inspect.format.empty()) {
      // In JSON's spelling, as {{json .}} prints it; a template's .Manifest.MediaType finds it too.
      Json manifest = *descriptor;
      if (document.is_object() && document.contains("manifests"))
        for (const auto* key : {"schemaVersion", "manifests", "annotations"})
          if (document.contains(key)) manifest[key] = document[key];
      return print_formatted(inspect.format, {{"name", inspect.image}, {"manifest", manifest}});
    }
    world_.out("Name:      " + full + "\nMediaType: " + text("mediaType") +
               "\nDigest:    " + text("digest") + "\n");
    if (document.is_object() && document.contains("manifests")) {
      world_.out("           \nManifests: \n");
      for (const auto& child : document["manifests"]) {
        const Json platform = child.value("platform", Json::object());
        world_.out(
            "  Name:        " + full.substr(0, full.find('@')) + "@" + text_at(child, "digest") +
            "\n  MediaType:   " + text_at(child, "mediaType") + "\n  Platform:    " +
            text_at(platform, "os") + "/" + text_at(platform, "architecture") +
            (text_at(platform, "variant").empty() ? "" : "/" + text_at(platform, "variant")) +
            "\n  \n");
      }
      return 0;
    }
    const auto platforms = remote->find("Platforms");
    if (platforms == remote->end() || !platforms->is_array()) return 0;
    for (const auto& platform : *platforms)
      world_.out("Platform:  " + text_at(platform, "os") + "/" + text_at(platform, "architecture") +
                 (text_at(platform, "variant").empty() ? "" : "/" + text_at(platform, "variant")) +
                 "\n");
    return 0;
  }

  int operator()(const EditIndex& asked) const {
    EditIndex edit = asked;
    for (auto& part : edit.add) {
      if (part.file.empty()) continue;
      auto text = read_file(at_cwd(part.file), kMaxSourceBytes);
      if (!text) return fail("ERROR: ", text.error());
      auto image = source_image(*text, edit.names);
      if (!image)
        return fail("ERROR: " + part.file + " is neither a reference nor a descriptor of an image");
      part.image = *std::move(image);
    }
    const auto end = edit_index(edit);
    if (!end) return manner_.exit_code;
    const Json index = Json::parse(end->index, nullptr, false);
    if (!index.is_object()) return fail("the broker's answer has no index");
    if (edit.dry_run) {
      world_.out(dumped(index, 2) + "\n");
      return 0;
    }
    switch (edit.tell) {
    case EditIndex::Tell::nothing:
      break;
    case EditIndex::Tell::created:
      world_.out("Created manifest list " + parse_image_name(with_tag(edit.names.front()))->full() +
                 "\n");
      break;
    case EditIndex::Tell::id:
      world_.out(bare_id(end->digest) + "\n");
      break;
    case EditIndex::Tell::id_and_digest:
      world_.out(bare_id(end->digest) + ": " +
                 (!edit.remove.empty()     ? edit.remove.front()
                  : !edit.annotate.empty() ? edit.annotate.front().image
                  : index.contains("manifests") && !index["manifests"].empty()
                      ? text_at(index["manifests"].back(), "digest")
                      : "") +
                 "\n");
      break;
    }
    if (!edit.push) return 0;
    std::string names;
    for (const auto& name : edit.names) {
      if (!push_one(with_tag(name), world_.err, false)) return manner_.exit_code;
      names += (names.empty() ? "" : ",") + parse_image_name(with_tag(name))->full();
    }
    if (edit.metadata_file.empty()) return 0;
    return write_json(
        edit.metadata_file,
        {{"containerimage.descriptor",
          {{"mediaType", end->media_type}, {"digest", end->digest}, {"size", end->index.size()}}},
         {"image.name", names}});
  }

  int operator()(const PushIndex& push) const {
    auto list = list_of_job(push.list);
    if (!list) return fail("", list.error());
    const auto full = parse_image_name(with_tag(push.list))->full();
    if (list->json.is_null()) return fail(full + " not found");
    const auto image = with_tag(push.destination.empty() ? push.list : push.destination);
    if (with_tag(list->name) != image && !tag_as(list->name, image)) return manner_.exit_code;
    const auto pushed = push_one(image, world_.err, push.quiet);
    if (!pushed) return manner_.exit_code;
    if (push.style == Style::docker) world_.out(pushed->digest + "\n");
    if (!push.digest_file.empty())
      if (auto written = put_file(push.digest_file, pushed->digest); !written)
        return fail("", written.error());
    if (!push.purge) return 0;
    return remove_index(push.list) ? 0 : manner_.exit_code;
  }

  int operator()(const Builders& builders) const {
    // A job asks this to see that its builder is there; what it may not know is no failure.
    std::string platforms;
    if (auto answer = client_.ask({.target = "/slipway/v1/platforms"}); answer)
      for (const auto& one : texts_at(Json::parse(answer->body, nullptr, false), "platforms"))
        platforms += (platforms.empty() ? "" : ", ") + one;
    if (platforms.empty()) platforms = "linux/amd64";
    const auto& name = builders.name;
    switch (builders.show) {
    case Builders::Show::list:
      if (!builders.format.empty() && builders.format != "table")
        return list_builders(builders.format, platforms);
      world_.out("NAME/NODE        DRIVER/ENDPOINT                   STATUS    BUILDKIT     "
                 "PLATFORMS\nslipway*         slipway\n \\_ slipway0      \\_ "
                 "unix:///var/run/docker.sock   running   by slipway   " +
                 platforms + "\n");
      return 0;
    case Builders::Show::one:
      world_.out("Name:          " + name +
                 "\nDriver:        slipway\n\nNodes:\nName:      " + name +
                 "0\nEndpoint:  unix:///var/run/docker.sock\nStatus:    running\nBuildKit:  by "
                 "slipway\nPlatforms: " +
                 platforms + "\n");
      return 0;
    case Builders::Show::workers:
      platforms.erase(std::remove(platforms.begin(), platforms.end(), ' '), platforms.end());
      world_.out("ID\t\t\t\tPLATFORMS\nslipway\t\t\t\t" + platforms + "\n");
      return 0;
    }
    return 0;
  }

  int operator()(const InspectIndex& inspect) const {
    auto list = list_of_job(inspect.name);
    if (!list) return fail("", list.error());
    if (inspect.verbose) return inspect_verbosely(*list, inspect.name);
    Json shown = std::move(list->json);
    if (shown.is_null()) {
      auto answer = client_.ask({.target = "/slipway/v1/manifest?from=registry&name=" +
                                           percent_encode(with_tag(inspect.name))});
      if (!answer) return fail("", answer.error());
      if (answer->status == 404)
        return fail("no such manifest: " + parse_image_name(with_tag(inspect.name))->full());
      if (answer->status >= 400)
        return fail(std::string{manner_.broker_error} + message_of(*answer));
      shown = Json::parse(answer->body, nullptr, false);
      if (!shown.is_object()) return fail("the broker's answer is not JSON");
    }
    if (inspect.style != Style::docker)
      world_.out(dumped(shown, 4) + "\n");
    else if (shown.contains("manifests"))
      world_.out(dumped(shown, 3) + "\n");
    else
      world_.out(shown.dump(1, '\t', false, Json::error_handler_t::replace) + "\n");
    return 0;
  }

  int operator()(const RemoveIndexes& remove) const {
    int exit_code = 0;
    for (const auto& name : remove.lists) {
      auto list = list_of_job(name);
      if (!list) return fail("", list.error());
      if (list->json.is_null()) {
        fail((remove.style == Style::docker ? "No such manifest: " : "no such manifest list: ") +
             name);
        exit_code = remove.style == Style::podman ? 1 : manner_.exit_code;
      } else if (!remove_index(name)) {
        exit_code = manner_.exit_code;
      }
    }
    return exit_code;
  }

  int operator()(const IndexExists& exists) const {
    auto list = list_of_job(exists.list);
    if (!list) return fail("", list.error());
    return list->json.is_null() ? 1 : 0;
  }

  int operator()(const Inspect& inspect) const {
    if (inspect.style != Style::docker) return inspect_in_style(inspect);
    Json found = Json::array();
    std::string errors;
    std::string text;
    for (const auto& name : inspect.names) {
      const auto places = places_of(inspect, percent_encode(name));
      auto answer = client_.ask({.target = places.front()});
      for (std::size_t i = 1; answer && answer->status >= 400 && i < places.size(); ++i)
        answer = client_.ask({.target = places[i]});
      if (!answer) return fail("", answer.error());
      if (answer->status == 404 && !inspect.image_only &&
          (inspect.kind.empty() || inspect.kind == "container")) {
        errors += "Error: No such object: " + name + "\n";
      } else if (answer->status >= 400) {
        errors += std::string{manner_.broker_error} + message_of(*answer) + "\n";
      } else if (inspect.format.empty()) {
        Json image = Json::parse(answer->body, nullptr, false);
        if (image.is_discarded()) return fail("the broker's answer is not JSON");
        found.push_back(std::move(image));
      } else {
        auto rendered =
            render_template(inspect.format == "json" ? "{{json .}}" : inspect.format, answer->body);
        if (!rendered && template_exit(rendered.error()) == kTemplateExit) {
          // docker reads the template before it asks for anything.
          world_.err(rendered.error().what + "\n");
          return kTemplateExit;
        }
        if (!rendered)
          errors += rendered.error().what + "\n";
        else
          text += *rendered + "\n";
      }
    }
    if (inspect.format.empty()) text = (found.empty() ? "[]" : dumped(found, 4)) + "\n";
    world_.out(text);
    world_.err(errors);
    return errors.empty() ? 0 : 1;
  }

  int operator()(const ContainerCommand& command) const {
    const PrintRows print = [this](const std::string& headings, const std::string& rows,
                                   const std::string& layout, const std::string& asked) {
      Listing listing{Json::parse(headings, nullptr, false), {}, layout};
      for (auto& row : Json::parse(rows, nullptr, false))
        listing.rows.push_back(std::move(row));
      return print_listing(listing, asked);
    };
    if (command.verb == "export") {
      const auto output = Line{command.flags, {}, {}, false}.last("output");
      if (output.empty() && world_.output_is_terminal)
        return fail("cowardly refusing to save to a terminal. Use the -o flag or redirect");
      return fetch_tar("/containers/" + percent_encode(command.arguments.front()) + "/export",
                       output);
    }
    return run_container_command(command, world_, client_, print);
  }

  int operator()(const SessionCommand& command) const {
    const int code = run_session_command(command, world_, client_, manner_);
    if (code != 0 || command.push_to.empty()) return code;
    return push_in_style(Push{command.push_to, false, false, "", "", Style::buildah});
  }

  int operator()(const History& history) const {
    const auto steps =
        ask_json({.target = "/images/" + percent_encode(history.image) + "/history"});
    if (!steps) return 1;
    if (!steps->is_array()) return fail("the broker's history is no list");
    Listing listing{
        {{"ID", "IMAGE"},
         {"CreatedSince", "CREATED"},
         {"CreatedAt", "CREATED AT"},
         {"CreatedBy", "CREATED BY"},
         {"Size", "SIZE"},
         {"Comment", "COMMENT"}},
        {},
        history.human ? "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
                      : "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"};
    for (const auto& step : *steps) {
      const auto id = text_at(step, "Id");
      const auto created = static_cast<std::int64_t>(number_at(step, "Created"));
      std::string by = text_at(step, "CreatedBy");
      std::replace(by.begin(), by.end(), '\t', ' ');
      std::replace(by.begin(), by.end(), '\n', ' ');
      if (!history.no_trunc && by.size() > kHistoryCommandWidth)
        by = by.substr(0, kHistoryCommandWidth - 1) + "…";
      const auto size = number_at(step, "Size");
      listing.rows.push_back(
          {{"ID", id.empty() || id == "<missing>" ? "<missing>" : short_id(id, history.no_trunc)},
           {"CreatedSince", created > 0 ? human_duration(world_.now - created) + " ago" : "N/A"},
           {"CreatedAt", created_at(created)},
           {"CreatedBy", by},
           {"Size", history.human ? human_size(size) : std::to_string(size)},
           {"Comment", text_at(step, "Comment")}});
    }
    if (history.quiet) {
      for (const auto& row : listing.rows)
        world_.out(text_at(row, "ID") + "\n");
      return 0;
    }
    return print_listing(listing, history.format);
  }

  int operator()(const Save& save) const {
    if (save.output.empty() && world_.output_is_terminal)
      return fail("cowardly refusing to save to a terminal. Use the -o flag or redirect");
    if (!save.rename.empty()) {
      if (!tag_as(local_name(save.images.front()), save.rename)) return manner_.exit_code;
      return save_to({save.rename}, save.output);
    }
    std::vector<std::string> images;
    for (const auto& image : save.images)
      images.push_back(local_name(image));
    return save_to(images, save.output);
  }

  int operator()(const Load& load) const {
    UniqueFd file;
    if (!load.input.empty()) {
      file = UniqueFd{::open(at_cwd(load.input).c_str(), O_RDONLY | O_CLOEXEC)};
      if (!file) return fail("open " + load.input + ": " + errno_text(errno));
    } else if (world_.input_is_terminal) {
      return fail("requested load from stdin, but stdin is empty");
    }
    const int fd = file ? file.get() : world_.input;
    const BodySource source = [fd](char* buffer, std::size_t capacity) -> Result<std::size_t> {
      for (;;) {
        const ssize_t got = ::read(fd, buffer, capacity);
        if (got >= 0) return static_cast<std::size_t>(got);
        if (errno != EINTR) return io_error("read", errno, "the archive");
      }
    };
    const auto end = stream({.method = "POST",
                             .target = "/images/load?quiet=1",
                             .content_type = std::string{kTarType},
                             .source = source,
                             .long_running = true},
                            world_.out);
    return end ? 0 : manner_.exit_code;
  }

  int operator()(const Import& import) const {
    FetchedSources sources{world_};
    std::string source = import.source;
    if (is_web_address(source)) {
      auto file = sources.fetch_file(source);
      if (!file) return fail(std::string{manner_.build_error}, file.error());
      source = *std::move(file);
    }
    auto folder = folder_of_import(source, world_.cwd, world_.input);
    if (!folder) return fail(std::string{manner_.build_error}, folder.error());
    const struct Removed {
      const std::string& folder;
      ~Removed() {
        std::error_code ignored;
        std::filesystem::remove_all(folder, ignored);
      }
    } removed{*folder};
    Build build = import.build;
    build.context = *folder;
    return (*this)(build);
  }

  int operator()(const DiskUsage& usage) const {
    const auto said = ask_json({.target = "/system/df"});
    if (!said) return 1;
    const auto images = said->find("Images");
    if (!said->is_object() || images == said->end() || !images->is_array())
      return fail("the broker's answer has no list of images");
    const auto total = number_at(*said, "LayersSize");
    std::uint64_t in_use = 0;
    std::size_t active = 0;
    for (const auto& image : *images) {
      if (number_at(image, "Containers") == 0) continue;
      ++active;
      in_use += number_at(image, "Size") -
                std::min(number_at(image, "Size"), number_at(image, "SharedSize"));
    }
    const auto size = [](std::uint64_t bytes) { return human_size(bytes, 4); };
    const auto free = total - std::min(total, in_use);
    const auto row = [](const char* type, std::size_t count, std::size_t used,
                        const std::string& all, const std::string& reclaimable) {
      return Json{{"Active", std::to_string(used)},
                  {"Reclaimable", reclaimable},
                  {"Size", all},
                  {"TotalCount", std::to_string(count)},
                  {"Type", type}};
    };
    const auto share =
        total == 0 ? std::string{} : " (" + std::to_string(free * 100 / total) + "%)";
    // What the job's engine has is not in the broker's answer; the build cache is not the job's.
    return print_listing(
        {{{"Active", "ACTIVE"},
          {"Reclaimable", "RECLAIMABLE"},
          {"Size", "SIZE"},
          {"TotalCount", "TOTAL"},
          {"Type", "TYPE"}},
         {row("Images", images->size(), active, size(total), size(free) + share),
          row("Containers", 0, 0, "0B", "0B"), row("Local Volumes", 0, 0, "0B", "0B"),
          row("Build Cache", 0, 0, "0B", "0B")},
         "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t"
         "{{.Reclaimable}}"},
        usage.format);
  }

  int operator()(const Contexts& contexts) const {
    constexpr const char* kName = "default";
    constexpr const char* kHost = "unix:///var/run/docker.sock";
    if (contexts.names.empty())
      return print_listing(
          {{{"Name", "NAME"},
            {"Current", ""},
            {"Description", "DESCRIPTION"},
            {"DockerEndpoint", "DOCKER ENDPOINT"},
            {"Error", "ERROR"}},
           {Json{{"Current", true},
                 {"Description", "slipway's broker"},
                 {"DockerEndpoint", kHost},
                 {"Error", ""},
                 {"Name", kName}}},
           "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t"
           "{{.Error}}"},
          contexts.quiet ? "{{.Name}}" : contexts.format);
    const Json only{{"Name", kName},
                    {"Metadata", Json::object()},
                    {"Endpoints", {{"docker", {{"Host", kHost}, {"SkipTLSVerify", false}}}}},
                    {"TLSMaterial", Json::object()},
                    {"Storage", {{"MetadataPath", "<IN MEMORY>"}, {"TLSPath", "<IN MEMORY>"}}}};
    const bool whole = contexts.format.empty() || contexts.format == "json";
    Json found = Json::array();
    int exit_code = 0;
    for (const auto& name : contexts.names) {
      if (name != kName) {
        exit_code = fail("context \"" + name + "\": context not found");
      } else if (whole) {
        found.push_back(only);
      } else if (const int code = print_formatted(contexts.format, only); code != 0) {
        return code;
      }
    }
    if (whole)
      world_.out((found.empty() ? "[]" : dumped(found, contexts.format.empty() ? 4 : -1)) + "\n");
    return exit_code;
  }

  int operator()(const Info& info) const {
    const auto answer = ask({.target = "/info"});
    if (!answer) return manner_.exit_code;
    if (info.style != Style::docker) {
      const auto shown = containers_info(answer->body, info.style);
      if (!shown) return fail("", shown.error());
      if (info.format.empty() || info.format == "json") {
        world_.out(shown->document + "\n");
        return 0;
      }
      return print_formatted(info.format, Json::parse(shown->fields, nullptr, false));
    }
    Json data = Json::parse(answer->body, nullptr, false);
    if (!data.is_object()) return fail("the broker's answer is not JSON");
    data["ClientInfo"] = {{"Debug", false},
                          {"Context", "default"},
                          {"Version", kClientVersion},
                          {"Plugins", Json::array()},
                          {"Warnings", nullptr}};
    if (!info.format.empty()) return print_formatted(info.format, data);
    const auto field = [&data](const char* label, const char* key) {
      const auto found = data.find(key);
      if (found == data.end() || found->is_structured()) return std::string{};
      return std::string{" "} + label + ": " +
             (found->is_string() ? found->get<std::string>() : dumped(*found)) + "\n";
    };
    world_.out("Client:\n Version:    " + std::string{kClientVersion} +
               "\n Context:    default\n Debug Mode: false\n\nServer:\n" +
               field("Containers", "Containers") + field("Images", "Images") +
               field("Server Version", "ServerVersion") + field("Storage Driver", "Driver") +
               field("Kernel Version", "KernelVersion") +
               field("Operating System", "OperatingSystem") + field("OSType", "OSType") +
               field("Architecture", "Architecture") + field("CPUs", "NCPU") +
               field("Name", "Name") + field("ID", "ID"));
    return 0;
  }

  int operator()(const Version& version) const {
    if (version.style != Style::docker) {
      if (version.format.empty()) {
        world_.out(version_text(version.style));
        return 0;
      }
      const Json fields = Json::parse(version_fields(version.style), nullptr, false);
      if (version.format != "json") return print_formatted(version.format, fields);
      world_.out(dumped(fields, 2) + "\n");
      return 0;
    }
    const Json client{{"Platform", {{"Name", "slipway"}}},
                      {"Version", kClientVersion},
                      {"ApiVersion", kClientApi},
                      {"DefaultAPIVersion", kClientApi},
                      {"GitCommit", "slipway-" SLIPWAY_VERSION},
                      {"GoVersion", ""},
                      {"Os", "linux"},
                      {"Arch", "amd64"},
                      {"BuildTime", ""},
                      {"Context", "default"}};
    Json data{{"Client", client}, {"Server", nullptr}};
    auto answer = client_.ask({.target = "/version"});
    const bool there = answer && answer->status < 400;
    if (there) data["Server"] = Json::parse(answer->body, nullptr, false);
    if (data["Server"].is_discarded()) return fail("the broker's answer is not JSON");
    int exit_code = 0;
    if (!version.format.empty() && !there) {
      // What the client knows is shown; why the server's part is missing is said below.
      if (const auto known = render_template(with_escapes(version.format), dumped(data)))
        world_.out(*known + "\n");
    } else if (!version.format.empty()) {
      exit_code = print_formatted(version.format, data);
    } else {
      const auto& server = data["Server"];
      world_.out("Client:\n Version:           " + std::string{kClientVersion} +
                 "\n API version:       " + std::string{kClientApi} +
                 "\n Built by:          slipway " SLIPWAY_VERSION
                 "\n OS/Arch:           linux/amd64\n Context:           default\n");
      if (there)
        world_.out("\nServer:\n Engine:\n  Version:          " + text_at(server, "Version") +
                   "\n  API version:      " + text_at(server, "ApiVersion") + " (minimum version " +
                   text_at(server, "MinAPIVersion") + ")\n  OS/Arch:          " +
                   text_at(server, "Os") + "/" + text_at(server, "Arch") + "\n");
    }
    if (!answer) return fail("", answer.error());
    if (!there) return fail(std::string{manner_.broker_error} + message_of(*answer));
    return exit_code;
  }

  int operator()(const Prune& prune) const {
    std::uint64_t freed = 0;
    if (!prune.endpoint.empty()) {
      // A broker that does not know the call has nothing to give back; the job's images go with the
      // job.
      auto answer = client_.ask(
          {.method = "POST",
           .target = prune.endpoint +
                     (prune.all ? "?filters=" + percent_encode(R"({"dangling":["false"]})") : "")});
      if (!answer) return fail("", answer.error());
      if (answer->status < 400)
        freed = number_at(Json::parse(answer->body, nullptr, false), "SpaceReclaimed");
    }
    world_.out("Total reclaimed space: " + human_size(freed) + "\n");
    return 0;
  }

private:
  /// Whether what stood under the name docker-compose is Compose from version 2 on: its images are
  /// PROJECT-SERVICE, those of the first version PROJECT_SERVICE.
  bool has_second_compose() const {
    for (const auto& path : world_.old_compose_programs)
      if (::access(path.c_str(), R_OK) == 0) return is_go_program(path);
    return false;
  }

  /// As Compose is from version 2 on.
  static bool is_go_program(const std::string& path) {
    constexpr std::size_t kHead = 4096; // Go's build ID is a note behind the ELF header
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file) return false;
    std::string head(kHead, '\0');
    const auto got = ::read(file.get(), head.data(), head.size());
    head.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return head.starts_with("\177ELF") && head.find(std::string{"Go\0\0", 4}) != std::string::npos;
  }

  /// `buildx ls --format`: a line for the builder and one for its node, as JSON one for both.
  /// Source: commands/ls.go of buildx 0.20.
  int list_builders(const std::string& format, const std::string& platforms) const {
    const bool table = format.starts_with("table ");
    constexpr const char* kPlace = "unix:///var/run/docker.sock";
    if (format == "json") {
      Json list = Json::array();
      for (std::size_t at = 0; at < platforms.size();) {
        const auto end = std::min(platforms.find(", ", at), platforms.size());
        list.push_back(platforms.substr(at, end - at));
        at = end + 2;
      }
      const Json node{{"Name", "slipway0"},
                      {"Endpoint", kPlace},
                      {"Platforms", std::move(list)},
                      {"Status", "running"},
                      {"Version", "by slipway"}};
      world_.out(dumped(Json{{"Current", true},
                             {"Driver", "slipway"},
                             {"Dynamic", false},
                             {"Name", "slipway"},
                             {"Nodes", Json::array({node})}}) +
                 "\n");
      return 0;
    }
    const std::string indent = table ? " \\_ " : "";
    return print_listing({{{"Name", "NAME/NODE"},
                           {"DriverEndpoint", "DRIVER/ENDPOINT"},
                           {"LastActivity", "LAST ACTIVITY"},
                           {"Status", "STATUS"},
                           {"Buildkit", "BUILDKIT"},
                           {"Platforms", "PLATFORMS"},
                           {"Error", "ERROR"}},
                          {Json{{"Name", table ? "slipway*" : "slipway"},
                                {"DriverEndpoint", "slipway"},
                                {"LastActivity", ""},
                                {"Status", ""},
                                {"Buildkit", ""},
                                {"Platforms", ""},
                                {"Error", ""}},
                           Json{{"Name", indent + "slipway0"},
                                {"DriverEndpoint", indent + kPlace},
                                {"LastActivity", ""},
                                {"Status", "running"},
                                {"Buildkit", "by slipway"},
                                {"Platforms", platforms},
                                {"Error", ""}}},
                          ""},
                         format);
  }

  int build_services(const ComposeProject& project) const {
    bool any = false;
    for (const auto& service : project.services) {
      if (!service.has_build) continue;
      any = true;
      world_.err("slipway: service " + service.name + "\n");
      Json metadata;
      if (const int code = build_one(service.build, metadata); code != 0) {
        world_.err("service \"" + service.name + "\" failed\n");
        return code;
      }
    }
    if (!any) world_.err("No services to build\n");
    return 0;
  }

  int push_services(const Compose& compose, const ComposeProject& project) const {
    for (const auto& service : project.services) {
      if (!service.has_build || !service.has_image) {
        world_.err(service.name + " Skipped\n");
        continue;
      }
      for (const auto& image : service.names) {
        if (!compose.quiet) world_.err("Pushing " + service.name + " (" + image + ")...\n");
        if (push_one(with_tag(image), world_.err, compose.quiet)) continue;
        world_.err("service \"" + service.name + "\": " + image + " was not pushed\n");
        if (!compose.ignore_failures) return manner_.exit_code;
      }
    }
    return 0;
  }

  int pull_services(const Compose& compose, const ComposeProject& project) const {
    int exit_code = 0;
    for (const auto& service : project.services) {
      const bool never = service.pull_policy == "never" || service.pull_policy == "build";
      if (!service.has_image || never || (service.has_build && compose.ignore_buildable)) {
        world_.err(service.name + " Skipped\n");
        continue;
      }
      if (!compose.quiet) world_.err("Pulling " + service.name + " (" + service.image + ")...\n");
      if ((*this)(Pull{service.image, service.platform, compose.quiet}) == 0) continue;
      if (service.has_build)
        world_.err("service \"" + service.name + "\": build it with `" +
                   compose.called.substr(0, compose.called.rfind(' ')) + " build " + service.name +
                   "`\n");
      else if (!compose.ignore_failures)
        exit_code = manner_.exit_code;
    }
    return exit_code;
  }

  int fail(const std::string& text) const {
    world_.err(std::string{manner_.error} + text + "\n");
    return manner_.exit_code;
  }
  int fail(const std::string& prefix, const Error& error) const {
    return fail(prefix + error.text() + (error.hint.empty() ? "" : "\n" + error.hint));
  }

  std::string at_cwd(const std::string& path) const {
    return (std::filesystem::path{world_.cwd} / path).string();
  }

  /// "app" as "app:latest".
  static std::string with_tag(const std::string& image) {
    const auto name = parse_image_name(image);
    if (!name || !name->tag.empty() || !name->digest.empty()) return image;
    return image + ":latest";
  }

  /// Nothing where it failed; the user has been told.
  std::optional<Answer> ask(const Request& request) const {
    auto answer = client_.ask(request);
    if (!answer) {
      fail("", answer.error());
      return std::nullopt;
    }
    if (answer->status >= 400) {
      fail(std::string{manner_.broker_error} + message_of(*answer));
      return std::nullopt;
    }
    return *std::move(answer);
  }

  std::optional<Json> ask_json(const Request& request) const {
    const auto answer = ask(request);
    if (!answer) return std::nullopt;
    Json json = Json::parse(answer->body, nullptr, false);
    if (json.is_discarded()) {
      fail("the broker's answer is not JSON");
      return std::nullopt;
    }
    return json;
  }

  /// Streams messages to `print`; nothing where it failed, and the user has been told.
  /// `error_code` (may be null) is what an error said of itself.
  std::optional<StreamEnd> stream(const Request& request, const Write& print,
                                  int* error_code = nullptr) const {
    MessageStream messages{print};
    Answer refused;
    auto status = client_.call(request, [&](int code, std::string_view bytes) -> Status {
      if (code < 400) return messages.feed(bytes);
      if (refused.body.size() < kMaxErrorBytes) refused.body += bytes;
      return {};
    });
    if (!status) {
      fail("", status.error());
      return std::nullopt;
    }
    if (*status >= 400) {
      refused.status = *status;
      fail(std::string{manner_.broker_error} + message_of(refused));
      return std::nullopt;
    }
    auto end = messages.finish();
    if (!end) {
      fail("", end.error());
      return std::nullopt;
    }
    if (end->failed) {
      if (error_code != nullptr) *error_code = end->code;
      world_.err(std::string{manner_.error} + end->error +
                 (end->error.ends_with('\n') ? "" : "\n"));
      return std::nullopt;
    }
    return *std::move(end);
  }

  /// What the gate said of this push, into the folder that the job named: also where it said no.
  /// Nothing hangs on the files, so what goes wrong with them is told, and that is all.
  void write_reports(const ImageName& name) const {
    if (world_.report_dir.empty()) return;
    const auto told = [&](const std::string& why) {
      world_.err("slipway: no reports in " + world_.report_dir + ": " + why + "\n");
    };
    auto answer = client_.ask({.target = "/slipway/v1/reports?image=" +
                                         percent_encode(name.familiar() + ":" + name.tag)});
    if (!answer) return told(answer.error().text());
    if (answer->status >= 400) return told(message_of(*answer));
    const Json files = Json::parse(answer->body, nullptr, false);
    if (!files.is_object()) return told("the broker's answer is not JSON");
    std::error_code cause;
    std::filesystem::create_directories(world_.report_dir, cause);
    if (cause) return told(cause.message());
    for (const auto& [file, text] : files.items()) {
      if (!text.is_string() || file.find('/') != std::string::npos) continue;
      if (auto written = put_file(world_.report_dir + "/" + file, text.get<std::string>());
          !written)
        return told(written.error().text());
    }
  }

  std::optional<StreamEnd> push_one(const std::string& image, const Write& print,
                                    bool quiet) const {
    const auto name = *parse_image_name(image);
    const std::string heading =
        "The push refers to repository [" + name.domain + "/" + name.path + "]\n";
    bool first = true;
    const Write with_heading = [&](std::string_view text) {
      if (quiet) return;
      if (std::exchange(first, false) && !text.starts_with("The push refers to")) print(heading);
      print(text);
    };
    auto end = stream({.method = "POST",
                       .target = "/images/" + percent_encode(name.familiar()) +
                                 "/push?tag=" + percent_encode(name.tag),
                       .long_running = true},
                      with_heading);
    write_reports(name);
    if (!end) return std::nullopt;
    if (end->digest.empty()) {
      fail("the broker ended the push without a digest");
      return std::nullopt;
    }
    if (!end->said_digest)
      with_heading((end->tag.empty() ? name.tag : end->tag) + ": digest: " + end->digest +
                   " size: " + std::to_string(end->size) + "\n");
    return end;
  }

  /// What the build lends to its steps, [id, base64] each. `agents`: files may be sockets, which go
  /// there. Errors: not_found, bad_input, io.
  Result<Json> lent(const std::vector<SecretSource>& sources,
                    std::vector<const SecretSource*>* agents = nullptr) const {
    Json list = Json::array();
    std::size_t total = 0;
    for (const auto& source : sources) {
      Secret value;
      if (source.value) {
        value = source.value->clone();
      } else {
        const std::string path = at_cwd(source.file);
        struct stat info {};
        if (::stat(path.c_str(), &info) != 0) {
          const int cause = errno;
          return Error{ErrorKind::not_found,
                       "failed to stat " + source.file + ": stat " + source.file + ": " +
                           (cause == ENOENT ? "no such file or directory" : errno_text(cause)),
                       "",
                       {}};
        }
        if (agents != nullptr && S_ISSOCK(info.st_mode)) {
          agents->push_back(&source);
          continue;
        }
        auto bytes = read_file(path, kMaxSecretBytes);
        if (!bytes) {
          if (bytes.error().kind == ErrorKind::bad_input) return too_big(source.id);
          return std::move(bytes).error();
        }
        value = Secret{*bytes};
        ::explicit_bzero(bytes->data(), bytes->size());
      }
      total += value.reveal().size();
      if (total > kMaxSecretBytes) return too_big(source.id);
      list.push_back(Json::array({source.id, base64(value.reveal())}));
    }
    return list;
  }

  static Error too_big(const std::string& id) {
    return Error{ErrorKind::bad_input,
                 "secret " + id + " too big. max size 500KB",
                 "that is for all secrets of a build together; give large files to a build in its "
                 "context",
                 {}};
  }

  /// Named contexts with their folders as the builder sees them. Errors: not_found, bad_input.
  Result<Json> named_contexts(const Build& build) const {
    Json list = Json::array();
    for (const auto& [name, value] : build.named_contexts) {
      if (value.starts_with("docker-image://")) {
        list.push_back(Json::array({name, value}));
        continue;
      }
      auto folder = workspace_folder(value, world_);
      if (!folder) return std::move(folder).error().in("named context " + name);
      list.push_back(Json::array({name, *std::move(folder)}));
    }
    return list;
  }

  static std::vector<std::string> names_of(const Build& build) {
    auto names = build.tags;
    if (!build.own_name.empty()) names.push_back(build.own_name);
    return names;
  }

  Result<Request> build_request(const Build& build, const BuildContext& context,
                                LentAgents& agents) const {
    if (context.path.empty() &&
        !(build.secrets.empty() && build.ssh_keys.empty() && build.named_contexts.empty() &&
          build.annotations.empty() && !build.squash_base))
      return Error{
          ErrorKind::bad_input,
          "secrets, SSH keys and agents, named contexts, annotations and --squash of the base are "
          "for builds of a folder below " +
              world_.workspaces.front(),
          "put the context into the workspace",
          {}};
    if (!context.path.empty()) {
      auto secrets = lent(build.secrets);
      if (!secrets) return std::move(secrets).error();
      std::vector<const SecretSource*> sockets;
      auto keys = lent(build.ssh_keys, &sockets);
      if (!keys) return std::move(keys).error();
      Json names = Json::array();
      for (const auto* source : sockets) {
        auto name = agents.lend(at_cwd(source->file));
        if (!name) return std::move(name).error().in("--ssh " + source->id);
        names.push_back(Json::array({source->id, *std::move(name)}));
      }
      auto contexts = named_contexts(build);
      if (!contexts) return std::move(contexts).error();
      Json body{{"context_path", context.path},
                {"dockerfile", context.dockerfile},
                {"tags", names_of(build)},
                {"build_args", pairs_json(build.build_args)},
                {"labels", pairs_json(build.labels)},
                {"target", build.target},
                {"platforms", build.platforms},
                {"no_cache", build.no_cache},
                {"pull", build.pull},
                {"network", build.network},
                {"extra_hosts", pairs_json(build.extra_hosts)},
                {"dialect", build.dialect}};
      if (build.squash) body["squash"] = true;
      if (build.squash_base) body["squash_base"] = true;
      if (build.every_stage) body["every_stage"] = true;
      for (const auto& one : build.annotations)
        body["annotations"].push_back(Json{
            {"of", one.of}, {"platform", one.platform}, {"key", one.key}, {"value", one.value}});
      if (context.dockerfile_text) body["dockerfile_text"] = *context.dockerfile_text;
      if (context.ignore_text) body["ignore_text"] = *context.ignore_text;
      if (!secrets->empty()) body["secrets"] = *std::move(secrets);
      if (!keys->empty()) body["ssh_keys"] = *std::move(keys);
      if (!names.empty()) body["ssh_agents"] = std::move(names);
      if (!contexts->empty()) body["named_contexts"] = *std::move(contexts);
      auto text = dumped(body);
      if (Json::parse(text, nullptr, false) != body) return not_utf8(build.called);
      return Request{.method = "POST",
                     .target = "/slipway/v1/build",
                     .content_type = std::string{kJsonType},
                     .body = std::move(text),
                     .long_running = true};
    }
    std::string target = "/build?dockerfile=" + percent_encode(context.dockerfile);
    const auto add = [&target](const char* key, const std::string& value) {
      if (!value.empty()) target += std::string{"&"} + key + "=" + percent_encode(value);
    };
    for (const auto& tag : names_of(build))
      add("t", tag);
    if (!build.build_args.empty()) add("buildargs", dumped(map_json(build.build_args)));
    if (!build.labels.empty()) add("labels", dumped(map_json(build.labels)));
    add("target", build.target);
    std::string platforms;
    for (const auto& platform : build.platforms)
      platforms += (platforms.empty() ? "" : ",") + platform;
    add("platform", platforms);
    add("nocache", build.no_cache ? "1" : "");
    add("squash", build.squash ? "1" : "");
    add("pull", build.pull ? "1" : "");
    add("networkmode", build.network);
    for (const auto& [host, address] : build.extra_hosts)
      add("extrahosts", host + ":" + address);
    return Request{.method = "POST",
                   .target = target,
                   .content_type = std::string{kTarType},
                   .source = context.tar,
                   .long_running = true};
  }

  static Json metadata_of(const Build& build, const std::string& digest,
                          const std::string& image_id) {
    Json metadata = Json::object();
    metadata["containerimage.config.digest"] = image_id;
    if (!digest.empty()) metadata["containerimage.digest"] = digest;
    std::string names;
    for (const auto& tag : build.tags) {
      const auto name = parse_image_name(with_tag(tag));
      names += (names.empty() ? "" : ",") + (name ? name->full() : tag);
    }
    if (!names.empty()) metadata["image.name"] = names;
    return metadata;
  }

  int write_json(const std::string& path, const Json& json) const {
    auto written = put_file(path, dumped(json, 2));
    return written ? 0 : fail(std::string{manner_.build_error}, written.error());
  }

  /// A file appears whole or not at all; /dev/stdout and kin are written to.
  Status put_file(const std::string& path, const std::string& text) const {
    const auto place = at_cwd(path);
    struct stat info {};
    if (::stat(place.c_str(), &info) != 0 || S_ISREG(info.st_mode))
      return replace_file(place, text, 0644);
    const UniqueFd file{::open(place.c_str(), O_WRONLY | O_CLOEXEC)};
    if (!file) return io_error("open", errno, path);
    return write_all(file.get(), text);
  }

  Status write_digests(const Build& build, const std::string& digest) const {
    for (const auto& file : build.digest_files) {
      std::string text = digest;
      if (file.form != DigestForm::digest) {
        text.clear();
        for (const auto& tag : build.tags) {
          const auto name = *parse_image_name(with_tag(tag));
          text += (name.domain == "docker.io" ? "index.docker.io" : name.domain) + "/" + name.path +
                  (file.form == DigestForm::name_and_tag ? ":" + name.tag : "") + "@" + digest +
                  "\n";
        }
      }
      // kaniko makes the folder, for itself alone.
      const auto folder = std::filesystem::path{at_cwd(file.path)}.parent_path();
      std::error_code cause;
      if (!std::filesystem::exists(folder, cause)) {
        std::filesystem::create_directories(folder, cause);
        std::filesystem::permissions(folder, std::filesystem::perms::owner_all, cause);
      }
      if (auto written = put_file(file.path, text); !written)
        return std::move(written).error().in("writing the digest to " + file.path);
    }
    return {};
  }

  /// The same with the arguments that its files name; what the command line says comes later, and
  /// so counts. A name alone is given what the environment has. Errors: those of read_file. Source:
  /// Buildah pkg/cli, readBuildArgFile.
  Result<Build> with_argument_files(const Build& build) const {
    Build whole = build;
    whole.build_arg_files.clear();
    Pairs arguments;
    for (const auto& file : build.build_arg_files) {
      auto text = read_file(at_cwd(file), kMaxArgumentBytes);
      if (!text) return std::move(text).error().in("--build-arg-file");
      std::istringstream lines{*text};
      for (std::string line; std::getline(lines, line);) {
        const auto equals = std::min(line.find('='), line.size());
        if (line.empty() || line.front() == '#' || equals == 0) continue;
        const auto name = line.substr(0, equals);
        // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs
        const char* const value = ::getenv(name.c_str());
        if (equals < line.size())
          arguments.emplace_back(name, line.substr(equals + 1));
        else if (value != nullptr)
          arguments.emplace_back(name, value);
        else
          std::erase_if(arguments, [&](const auto& one) { return one.first == name; });
      }
    }
    whole.build_args.insert(whole.build_args.begin(), arguments.begin(), arguments.end());
    return whole;
  }

  /// Builds, and does with the result what the build asks for. Where the build itself failed: see
  /// Manner::step_code.
  int build_one(const Build& build, Json& metadata) const {
    const std::string prefix{manner_.build_error};
    if (!build.build_arg_files.empty()) {
      auto whole = with_argument_files(build);
      return whole ? build_one(*whole, metadata) : fail(prefix, whole.error());
    }
    for (const auto& note : build.notes)
      world_.err(note + "\n");
    if (const int code = honour_attestations(build); code != 0) return code;
    FetchedSources sources{world_};
    auto local = sources.fetch(build);
    return local ? build_here(*local, metadata) : fail(prefix, local.error());
  }

  /// What slipway attaches, signed, to each push is what was asked for, or the build is refused.
  int honour_attestations(const Build& build) const {
    if (build.attestations.empty()) return 0;
    const auto version = ask_json({.target = "/version"});
    if (!version) return manner_.exit_code;
    const auto components = version->value("Components", Json::array());
    const auto own = std::find_if(components.begin(), components.end(), [](const Json& one) {
      return text_at(one, "Name") == "slipway";
    });
    const Json details = own == components.end() ? Json() : own->value("Details", Json());
    for (const auto& [type, shown] : build.attestations) {
      const bool is_signed = text_at(details, "Provenance") == "true";
      if (!is_signed || (type == "sbom" && text_at(details, "SBOM") != "true")) {
        world_.err(std::string{manner_.build_error} +
                   unsupported(shown, is_signed ? "the operator leaves the SBOM out (sbom = false "
                                                  "in [signing]); use --sbom=false"
                                                : "what this job pushes is not signed, and slipway "
                                                  "attests what it signs: the operator sets "
                                                  "[signing], and no sign = false in the job's "
                                                  "rule; use --" +
                                                      type + "=false") +
                   "\n");
        return manner_.usage_exit;
      }
      world_.err("slipway: " + shown + ": each push gets slipway's own " +
                 (type == "sbom" ? "SBOM" : "provenance") +
                 ", signed with the operator's key; files and archives hold none\n");
    }
    return 0;
  }

  /// The same of a build that names nothing behind an address.
  int build_here(const Build& build, Json& metadata) const {
    const std::string prefix{manner_.build_error};
    auto context = find_context(build, world_);
    if (!context) return fail(prefix, context.error());
    if (writes_stdout(build) && world_.output_is_terminal)
      return fail(prefix + "dest file is required. refusing to write to console");
    bool said_built = false;
    const Write& shown =
        build.report == Report::buildkit || writes_stdout(build) ? world_.err : world_.out;
    const Write progress = [&](std::string_view text) {
      if (build.quiet) return;
      said_built = said_built || text.find("Successfully built ") != std::string_view::npos;
      shown(text);
    };
    std::optional<LentAgents> agents{std::in_place, client_};
    const auto request = build_request(build, *context, *agents);
    if (!request) return fail(prefix, request.error());
    int step = 0;
    const auto end = stream(*request, progress, &step);
    agents.reset();
    // Docker's classic builder ends with the step's code, BuildKit with 1.
    const bool step_code = manner_.step_code || build.report == Report::classic;
    if (!end && !step_code) return 1;
    if (!end) return step != 0 ? step : manner_.exit_code;
    if (end->image_id.empty()) return fail("the broker ended the build without an image ID");
    if (!build.manifest_names.empty()) {
      EditIndex edit;
      edit.names = build.manifest_names;
      edit.start = "amend";
      edit.take = "all";
      edit.add.push_back({end->manifest});
      if (!edit_index(edit)) return manner_.exit_code;
    }
    report_built(build, end->image_id, said_built, shown);
    if (!build.iidfile.empty())
      if (auto written = put_file(build.iidfile, end->image_id); !written)
        return fail(prefix, written.error());
    const auto& subject = build.tags.empty() ? std::vector<std::string>{end->image_id} : build.tags;
    for (const auto& archive : build.archives)
      if (const int code = save_to(subject, archive == "-" ? "" : archive); code != 0) return code;
    // By its digest: the layout gives the image no name, as kaniko's gives it none.
    for (const auto& folder : build.layouts)
      if (auto put = put_files(images_target({end->image_id}), folder); !put)
        return fail(prefix, std::move(put).error().in("writing the OCI layout " + folder));
    for (const auto& folder : build.folders)
      if (auto put = put_files(files_of(end->image_id), folder); !put)
        return fail(prefix, std::move(put).error().in("writing files to " + folder));
    for (const auto& tar : build.tars)
      if (const int code = fetch_tar(files_of(end->image_id), tar == "-" ? "" : tar); code != 0)
        return code;
    for (const auto& folder : build.cache_folders) {
      std::error_code cause;
      std::filesystem::create_directories(at_cwd(folder), cause);
      if (cause) return fail(prefix, io_error("mkdir", cause.value(), folder));
    }
    std::string digest = end->manifest;
    // Before the push, as kaniko does; what is pushed is what was built.
    if (auto written = write_digests(build, digest); !written) return fail(prefix, written.error());
    if (build.push) {
      for (const auto& tag : build.tags) {
        const auto pushed =
            push_one(with_tag(tag), build.quiet ? progress : world_.err, build.quiet);
        if (!pushed) return manner_.exit_code;
        if (!pushed->digest.empty()) digest = pushed->digest;
      }
    }
    metadata = metadata_of(build, digest, end->image_id);
    return 0;
  }

  /// An archive on stdout stays what it is.
  static bool writes_stdout(const Build& build) {
    return std::find(build.archives.begin(), build.archives.end(), "-") != build.archives.end() ||
           std::find(build.tars.begin(), build.tars.end(), "-") != build.tars.end();
  }

  void report_built(const Build& build, const std::string& image_id, bool said_built,
                    const Write& shown) const {
    switch (build.report) {
    case Report::buildkit:
      if (build.quiet && !writes_stdout(build)) world_.out(image_id + "\n");
      return;
    case Report::classic:
      if (build.quiet) {
        shown(image_id + "\n");
      } else if (!said_built) {
        shown("Successfully built " + short_id(image_id, false) + "\n");
        for (const auto& tag : build.tags)
          shown("Successfully tagged " + with_tag(tag) + "\n");
      }
      return;
    case Report::image_id:
      if (!build.quiet)
        for (const auto& tag : build.tags)
          if (const auto name = parse_image_name(with_tag(tag));
              name && tag.starts_with(name->domain))
            shown("Successfully tagged " + name->full() + "\n");
      shown(bare_id(image_id) + "\n");
      return;
    case Report::img:
      for (const auto& tag : build.tags)
        shown("Successfully built " + with_tag(tag) + "\n");
      return;
    }
  }

  /// Names that images of targets have while others are built from them: of the job's store, and
  /// such as no other bake of this job takes. Errors: io.
  static Result<std::map<std::string, std::string>>
  names_for(const std::set<std::string>& targets) {
    std::map<std::string, std::string> names;
    if (targets.empty()) return names;
    std::array<unsigned char, 8> bytes{};
    if (::getentropy(bytes.data(), bytes.size()) != 0) return io_error("getentropy", errno, "");
    std::string mark;
    for (const auto byte : bytes)
      for (const int digit : {byte >> 4, byte & 15})
        mark += "0123456789abcdef"[digit];
    for (const auto& target : targets)
      names[target] = "localhost/slipway-bake-" + mark + ":" + std::to_string(names.size());
    return names;
  }

  /// One after the other; the first failure ends it.
  int build_targets(const BakePlan& plan, const std::map<std::string, std::string>& shared,
                    Json& all) const {
    for (const auto& [name, planned] : plan.builds) {
      world_.err("slipway: target " + name + "\n");
      Build build = planned;
      if (const auto own = shared.find(name); own != shared.end()) build.own_name = own->second;
      for (auto& [context, value] : build.named_contexts)
        if (value.starts_with(kTargetContext))
          value = "docker-image://" + shared.at(value.substr(kTargetContext.size()));
      Json metadata;
      if (const int code = build_one(build, metadata); code != 0) return code;
      if (!plan.only_needed.contains(name)) all[name] = std::move(metadata);
    }
    return 0;
  }

  /// Takes the names of names_for() away. An image that was asked for and has no other one keeps
  /// it: else the image went, too. Errors: those of the broker.
  Status forget(const BakePlan& plan, const std::map<std::string, std::string>& shared) const {
    for (const auto& [name, build] : plan.builds) {
      const auto own = shared.find(name);
      const bool is_the_only_one = build.tags.empty() && !plan.only_needed.contains(name);
      if (own == shared.end() || is_the_only_one) continue;
      const auto answer =
          client_.ask({.method = "DELETE", .target = "/images/" + percent_encode(own->second)});
      if (!answer) return Error{answer.error()}.in("removing the name " + own->second);
      if (answer->status >= 400 && answer->status != 404) // 404: it was not built
        return Error{ErrorKind::unavailable,
                     "removing the name " + own->second + ": " + message_of(*answer),
                     "",
                     {}};
    }
    return {};
  }

  Result<std::vector<BakeFile>> read_bake_files(const Bake& bake) const {
    std::vector<std::string> names = bake.files;
    std::error_code cause;
    if (names.empty()) {
      for (const auto* other :
           {"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"})
        if (std::filesystem::exists(at_cwd(other), cause))
          return Error{ErrorKind::bad_input,
                       std::string{"bake would read "} + other +
                           " too, and slipway reads bake files in JSON and HCL only",
                       "name the bake files with -f; `docker compose build` builds the services",
                       {}};
      for (const auto* name : {"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json",
                               "docker-bake.override.hcl"})
        if (std::filesystem::exists(at_cwd(name), cause)) names.emplace_back(name);
      if (names.empty())
        return Error{
            ErrorKind::not_found, "couldn't find a bake definition", "name it with -f", {}};
    }
    std::vector<BakeFile> files;
    for (const auto& name : names) {
      auto text = name == "-" ? read_all(world_.input, kMaxBakeBytes, "the bake file on stdin")
                              : read_file(at_cwd(name), kMaxBakeBytes);
      if (!text) return std::move(text).error();
      files.push_back({name, *std::move(text)});
    }
    return files;
  }

  /// podman and buildah look for localhost/NAME first where NAME says no registry.
  std::string local_name(const std::string& name) const {
    if (!manner_.localhost_names) return name;
    const auto first = name.find('/');
    const auto head = name.substr(0, first);
    if (first != std::string::npos &&
        (head.find_first_of(".:") != std::string::npos || head == "localhost"))
      return name;
    const std::string own = "localhost/" + name;
    if (!parse_image_name(own)) return name;
    const auto answer = client_.ask({.target = "/images/" + percent_encode(own) + "/json"});
    return answer && answer->status < 400 ? own : name;
  }

  bool tag_as(const std::string& source, const std::string& target) const {
    const auto name = *parse_image_name(target);
    return ask({.method = "POST",
                .target = "/images/" + percent_encode(source) +
                          "/tag?repo=" + percent_encode(name.familiar()) +
                          "&tag=" + percent_encode(name.tag.empty() ? "latest" : name.tag)})
        .has_value();
  }

  /// Nothing where it failed; the user has been told.
  std::optional<StreamEnd> edit_index(const EditIndex& edit) const {
    const auto parts = [&](const std::vector<EditIndex::Part>& images) {
      Json list = Json::array();
      for (const auto& part : images)
        list.push_back({{"image", local_name(part.image)},
                        {"take", edit.take},
                        {"os", part.os},
                        {"architecture", part.architecture},
                        {"variant", part.variant},
                        {"os_version", part.os_version},
                        {"annotations", pairs_json(part.annotations)}});
      return list;
    };
    const Json body{{"names", edit.names},
                    {"start", edit.start},
                    {"add", parts(edit.add)},
                    {"annotate", parts(edit.annotate)},
                    {"remove", edit.remove},
                    {"copy_index", edit.copy_index},
                    {"dry_run", edit.dry_run},
                    {"platforms", edit.platforms},
                    {"annotations", pairs_json(edit.annotations)}};
    return stream({.method = "POST",
                   .target = "/slipway/v1/index",
                   .content_type = std::string{kJsonType},
                   .body = dumped(body),
                   .long_running = true},
                  world_.err);
  }

  struct JobsList {
    std::string name; ///< under which the store has it
    Json json;        ///< null: the job has no index of that name
  };
  /// Errors: those of the broker.
  Result<JobsList> list_of_job(const std::string& list) const {
    JobsList found{local_name(list), nullptr};
    auto answer = client_.ask(
        {.target = "/slipway/v1/manifest?name=" + percent_encode(with_tag(found.name))});
    if (!answer) return std::move(answer).error();
    if (answer->status == 404) return found;
    if (answer->status >= 400) return Error{ErrorKind::internal, message_of(*answer), "", {}};
    Json json = Json::parse(answer->body, nullptr, false);
    if (json.is_object() && json.contains("manifests")) found.json = std::move(json);
    return found;
  }

  /// One image of `docker manifest inspect -v`. Source: docker/cli, cli/manifest/types/types.go.
  static Json verbose_entry(const std::string& name, const Json& descriptor,
                            const std::string& manifest) {
    const Json parsed = Json::parse(manifest, nullptr, false);
    Json entry{{"Ref", name}, {"Descriptor", descriptor}, {"Raw", base64(manifest)}};
    const bool docker =
        text_at(descriptor, "mediaType") == "application/vnd.docker.distribution.manifest.v2+json";
    entry[docker ? "SchemaV2Manifest" : "OCIManifest"] = parsed;
    return entry;
  }

  int inspect_verbosely(const JobsList& list, const std::string& given) const {
    const auto target = [](const std::string& name, bool registry) {
      return "/slipway/v1/manifest?name=" + percent_encode(name) +
             (registry ? "&from=registry" : "");
    };
    const bool registry = list.json.is_null();
    const auto name = *parse_image_name(with_tag(given));
    Json index = list.json;
    if (registry) {
      const auto body = ask({.target = target(with_tag(given), true)});
      if (!body) return manner_.exit_code;
      index = Json::parse(body->body, nullptr, false);
      if (!index.is_object()) return fail("the broker's answer is not JSON");
      if (!index.contains("manifests")) {
        const auto remote =
            ask_json({.target = "/distribution/" + percent_encode(with_tag(given)) + "/json"});
        if (!remote) return manner_.exit_code;
        if (!remote->is_object() || !remote->contains("Descriptor"))
          return fail("the broker's answer has no descriptor");
        Json descriptor = (*remote)["Descriptor"];
        const auto platforms = remote->value("Platforms", Json::array());
        if (platforms.is_array() && !platforms.empty()) descriptor["platform"] = platforms.front();
        print_verbose(verbose_entry(name.full(), descriptor, body->body));
        return 0;
      }
    }
    Json entries = Json::array();
    for (const auto& child : index["manifests"]) {
      const auto digest = text_at(child, "digest");
      const auto body =
          ask({.target = registry ? target(name.familiar() + "@" + digest, true)
                                  : target(with_tag(list.name) + "@" + digest, false)});
      if (!body) return manner_.exit_code;
      entries.push_back(verbose_entry(name.full().substr(0, name.full().find('@')) + "@" + digest,
                                      child, body->body));
    }
    print_verbose(entries);
    return 0;
  }
  void print_verbose(const Json& json) const {
    world_.out(json.dump(1, '\t', false, Json::error_handler_t::replace) + "\n");
  }

  /// With both names that podman and buildah know it by.
  bool remove_index(const std::string& list) const {
    const auto names =
        manner_.localhost_names ? stored_names(list) : std::vector<std::string>{list};
    for (const auto& name : names) {
      const auto answer =
          client_.ask({.method = "DELETE", .target = "/images/" + percent_encode(with_tag(name))});
      if (!answer) {
        fail("", answer.error());
        return false;
      }
      if (answer->status >= 400 && answer->status != 404) {
        fail(std::string{manner_.broker_error} + message_of(*answer));
        return false;
      }
    }
    return true;
  }

  /// What is pushed gets the destination's name in the job's store first.
  int push_in_style(const Push& push) const {
    const auto image = with_tag(push.image);
    if (!push.source.empty()) {
      const auto source = local_name(push.source);
      if (with_tag(source) != image && !tag_as(source, image)) return manner_.exit_code;
    }
    const bool img = push.style == Style::img;
    if (img) world_.out("Pushing " + image + "...\n");
    const auto pushed = push_one(image, img ? world_.out : world_.err, push.quiet);
    if (!pushed) return manner_.exit_code;
    if (img) world_.out("Successfully pushed " + image + "\n");
    if (push.digest_file.empty()) return 0;
    auto written = put_file(push.digest_file, pushed->digest);
    return written ? 0 : fail("", written.error());
  }

  int list_in_style(const ListImages& list) const {
    Json filters = Json::object();
    for (const auto& [key, value] : list.filters)
      if (key != "reference") filters[key][value] = true; // names are compared here
    const auto answer =
        ask({.target = "/images/json" +
                       (filters.empty() ? "" : "?filters=" + percent_encode(dumped(filters)))});
    if (!answer) return manner_.exit_code;
    const auto shown = shown_images(answer->body, list, world_.now);
    if (!shown) return fail("", shown.error());
    world_.out(*shown);
    return 0;
  }

  /// The name beside localhost/… goes with it.
  int remove_in_style(const RemoveImages& remove) const {
    std::vector<std::string> images = remove.images;
    if (remove.all) {
      const auto list = ask_json({.target = "/images/json"});
      if (!list || !list->is_array()) return manner_.exit_code;
      for (const auto& image : *list)
        images.push_back(text_at(image, "Id"));
    }
    int exit_code = 0;
    for (const auto& image : images) {
      const auto name = local_name(image);
      auto answer = client_.ask({.method = "DELETE",
                                 .target = "/images/" + percent_encode(name) +
                                           (remove.force || remove.all ? "?force=1" : "")});
      if (!answer) return fail("", answer.error());
      if (answer->status >= 400) {
        if (answer->status == 404 && remove.forgive_missing) continue;
        fail(message_of(*answer));
        // podman tells a name that is not there from other trouble
        if (exit_code == 0)
          exit_code =
              answer->status == 404 && remove.style == Style::podman ? 1 : manner_.exit_code;
        continue;
      }
      say_removed(*answer, remove.style, true);
      constexpr std::string_view kOwn = "localhost/";
      if (!name.starts_with(kOwn)) continue;
      answer = client_.ask(
          {.method = "DELETE", .target = "/images/" + percent_encode(name.substr(kOwn.size()))});
      if (answer && answer->status < 400) say_removed(*answer, remove.style, false);
    }
    return exit_code;
  }

  void say_removed(const Answer& answer, Style style, bool names) const {
    const Json done = Json::parse(answer.body, nullptr, false);
    if (!done.is_array()) return;
    for (const auto& one : done) {
      if (const auto text = text_at(one, "Untagged"); names && !text.empty()) {
        const auto name = parse_image_name(with_tag(text));
        world_.out((style == Style::podman ? "Untagged: " : "untagged: ") +
                   (name ? name->full() : text) + "\n");
      }
      if (const auto text = text_at(one, "Deleted"); !text.empty())
        world_.out((style == Style::podman ? "Deleted: " : "") + bare_id(text) + "\n");
    }
  }

  /// Where something of that name may be, in docker's order.
  static std::vector<std::string> places_of(const Inspect& inspect, const std::string& name) {
    const std::string container = "/containers/" + name + "/json";
    const std::string image = "/images/" + name + "/json";
    const std::string network = "/networks/" + name;
    const std::string volume = "/volumes/" + name;
    if (inspect.image_only) return {image};
    if (inspect.kind == "container") return {container};
    if (inspect.kind == "network") return {network};
    if (inspect.kind == "volume") return {volume};
    return {container, image, network, volume};
  }

  int inspect_in_style(const Inspect& inspect) const {
    Json found = Json::array();
    std::string text;
    std::string errors;
    for (const auto& name : inspect.names) {
      // As buildah: a working container of that name comes before an image.
      if (inspect.style == Style::buildah && !inspect.image_only) {
        const auto said = inspect_working_container(name, inspect.format, world_, client_);
        if (said || inspect.kind == "container") {
          text += said.value_or("");
          if (!said)
            errors += std::string{manner_.error} + "reading build container: " + name +
                      ": container not known\n";
          continue;
        }
      }
      auto answer =
          client_.ask({.target = "/images/" + percent_encode(local_name(name)) + "/json"});
      bool is_container = false;
      if (answer && answer->status == 404 && !inspect.image_only) {
        auto container = client_.ask({.target = "/containers/" + percent_encode(name) + "/json"});
        is_container = container && container->status < 400;
        if (is_container) answer = std::move(container);
      }
      if (!answer) return fail("", answer.error());
      if (answer->status >= 400) {
        errors += std::string{manner_.error} + "inspecting object: " +
                  ((inspect.image_only || inspect.style == Style::buildah) && answer->status == 404
                       ? name + ": image not known"
                   : answer->status == 404 ? "no such object: \"" + name + "\""
                                           : message_of(*answer)) +
                  "\n";
        continue;
      }
      std::string document;
      std::string fields;
      if (is_container) {
        document = fields = answer->body;
      } else if (inspect.style == Style::podman) {
        auto image = podman_image(answer->body);
        if (!image) return fail("", image.error());
        document = fields = *std::move(image);
      } else {
        auto image = buildah_image(answer->body);
        if (!image) return fail("", image.error());
        document = std::move(image->document);
        fields = std::move(image->fields);
      }
      if (inspect.format.empty() || inspect.format == "json") {
        found.push_back(Json::parse(document, nullptr, false));
        continue;
      }
      auto rendered = render_template(with_escapes(inspect.format), fields);
      if (!rendered)
        errors += std::string{manner_.error} + rendered.error().what + "\n";
      else
        text += *rendered + "\n";
    }
    if (inspect.format.empty() || inspect.format == "json") {
      const bool one = inspect.style == Style::buildah && found.size() == 1;
      text = one                               ? dumped(found.front(), 4) + "\n"
             : inspect.style == Style::buildah ? text
             : found.empty()                   ? "[]\n"
                                               : dumped(found, 5) + "\n";
    }
    world_.out(text);
    world_.err(errors);
    return errors.empty() ? 0 : manner_.exit_code;
  }

  static std::string files_of(const std::string& image) {
    return "/slipway/v1/files?name=" + percent_encode(image);
  }

  /// What is in a tar of the broker's, below a folder that is made where it is not there. Errors:
  /// those of the broker and of TarExtractor; io.
  Status put_files(const std::string& target, const std::string& folder) const {
    const auto place = at_cwd(folder);
    std::error_code cause;
    std::filesystem::create_directories(place, cause);
    const UniqueFd opened{::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!opened) return io_error("open", errno, folder);
    auto extractor = TarExtractor::of_files(opened.get());
    Answer refused;
    auto status = client_.call({.target = target, .long_running = true},
                               [&](int code, std::string_view bytes) -> Status {
                                 if (code < 400) return extractor.feed(bytes);
                                 if (refused.body.size() < kMaxErrorBytes) refused.body += bytes;
                                 return {};
                               });
    if (!status) return std::move(status).error();
    refused.status = *status;
    if (*status >= 400) return Error{ErrorKind::bad_input, message_of(refused), "", {}};
    return extractor.finish();
  }

  static std::string images_target(const std::vector<std::string>& images) {
    std::string target = "/images/get";
    for (std::size_t i = 0; i < images.size(); ++i)
      target += (i == 0 ? "?names=" : "&names=") + percent_encode(images[i]);
    return target;
  }

  int save_to(const std::vector<std::string>& images, const std::string& output) const {
    return fetch_tar(images_target(images), output);
  }

  /// To a file, which appears whole or not at all; "" = stdout.
  int fetch_tar(const std::string& target, const std::string& output) const {
    std::string final_path;
    std::string path;
    UniqueFd file;
    if (!output.empty()) {
      final_path = path = at_cwd(output);
      struct stat info {};
      const bool special = ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
      if (!special) path += ".slipway-" + std::to_string(::getpid());
      file = UniqueFd{
          ::open(path.c_str(), O_WRONLY | O_CLOEXEC | (special ? 0 : O_CREAT | O_EXCL), 0644)};
      if (!file)
        return fail("failed to write the archive: open " + path + ": " + errno_text(errno));
    }
    Answer refused;
    auto status = client_.call({.target = target, .long_running = true},
                               [&](int code, std::string_view bytes) -> Status {
                                 if (code >= 400) {
                                   if (refused.body.size() < kMaxErrorBytes) refused.body += bytes;
                                   return {};
                                 }
                                 if (file) return write_all(file.get(), bytes);
                                 world_.out(bytes);
                                 return {};
                               });
    std::string trouble;
    if (!status)
      trouble = status.error().text();
    else if (refused.status = *status; *status >= 400)
      trouble = std::string{manner_.broker_error} + message_of(refused);
    else if (path != final_path && ::rename(path.c_str(), final_path.c_str()) != 0)
      trouble = "rename to " + final_path + ": " + errno_text(errno);
    if (trouble.empty()) return 0;
    if (path != final_path) ::unlink(path.c_str());
    return fail(trouble);
  }

  void add_image_rows(const Json& image, const ListImages& list, std::vector<Json>& rows) const {
    const auto created = static_cast<std::int64_t>(number_at(image, "Created"));
    const auto add = [&](const std::string& repository, const std::string& tag,
                         const std::string& digest) {
      rows.push_back(
          {{"Repository", repository},
           {"Tag", tag},
           {"Digest", digest},
           {"ID", short_id(text_at(image, "Id"), list.no_trunc)},
           {"CreatedSince", created > 0 ? human_duration(world_.now - created) + " ago" : "N/A"},
           {"CreatedAt", created_at(created)},
           {"Size", human_size(number_at(image, "Size"))},
           {"VirtualSize", human_size(number_at(image, "Size"))},
           {"Containers", "N/A"},
           {"SharedSize", "N/A"},
           {"UniqueSize", "N/A"}});
    };
    const auto digest_of = [&](const std::string& repository) -> std::string {
      for (const auto& one : texts_at(image, "RepoDigests"))
        if (const auto name = parse_image_name(one); name && name->familiar() == repository)
          return name->digest;
      return "<none>";
    };
    bool any = false;
    for (const auto& tag : texts_at(image, "RepoTags")) {
      const auto name = parse_image_name(tag);
      if (!name) continue; // "<none>:<none>" of older daemons
      any = true;
      if (wanted(*name, list)) add(name->familiar(), name->tag, digest_of(name->familiar()));
    }
    if (any) return;
    const auto digests = texts_at(image, "RepoDigests");
    const auto name = digests.empty() ? std::nullopt : parse_image_name(digests.front());
    add(name ? name->familiar() : "<none>", "<none>", name ? name->digest : "<none>");
  }

  /// The broker filters images; of an image with several names only the matching ones are listed.
  static bool wanted(const ImageName& name, const ListImages& list) {
    std::vector<std::string> patterns;
    if (!list.pattern.empty()) patterns.push_back(list.pattern);
    for (const auto& [key, value] : list.filters)
      if (key == "reference") patterns.push_back(value);
    return patterns.empty() ||
           std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
             for (const auto& spelling : {name.familiar(), name.familiar() + ":" + name.tag,
                                          name.domain + "/" + name.path, name.full()})
               if (::fnmatch(pattern.c_str(), spelling.c_str(), FNM_PATHNAME) == 0) return true;
             return false;
           });
  }

  int print_formatted(const std::string& format, const Json& data) const {
    auto rendered =
        render_template(format == "json" ? "{{json .}}" : with_escapes(format), dumped(data));
    if (!rendered) {
      world_.err(rendered.error().what + "\n");
      return template_exit(rendered.error());
    }
    world_.out(*rendered + "\n");
    return 0;
  }

  int print_listing(const Listing& listing, const std::string& asked) const {
    std::string format = asked.empty() || asked == "table" ? listing.default_format
                         : asked == "json"                 ? "{{json .}}"
                                                           : with_escapes(asked);
    constexpr std::string_view kTable = "table ";
    const bool as_table = format.starts_with(kTable);
    if (as_table) format.erase(0, kTable.size());
    std::string lines;
    std::vector<Json> rows = listing.rows;
    if (as_table) rows.insert(rows.begin(), listing.headings);
    for (const auto& row : rows) {
      auto line = render_template(format, dumped(row));
      if (!line) {
        world_.err(line.error().what + "\n");
        return template_exit(line.error());
      }
      lines += *line + "\n";
    }
    world_.out(as_table ? table_of_lines(lines) : lines);
    return 0;
  }

  const Surroundings& world_;
  const Manner& manner_;
  BrokerClient client_;
};

} // namespace

int run(const Invocation& invocation, const Surroundings& world) {
  for (const auto& note : invocation.notes)
    world.err(note + "\n");
  return std::visit(Runner{world, invocation.manner}, invocation.command);
}

} // namespace slipway::shim
