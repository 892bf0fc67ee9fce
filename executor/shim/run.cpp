// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/run.hpp"

#include "executor/base/file.hpp"
#include "executor/base/percent.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/shim/build_context.hpp"
#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"

#include <nlohmann/json.hpp>

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <optional>
#include <utility>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kJsonType = "application/json";
constexpr std::string_view kTarType = "application/x-tar";
constexpr std::string_view kClientVersion = "27.5.1";
constexpr std::string_view kClientApi = "1.41";
constexpr std::size_t kShortId = 12;
constexpr std::size_t kMaxPasswordBytes = 64UL << 10;
constexpr std::size_t kMaxErrorBytes = 1UL << 20;
constexpr std::size_t kHistoryCommandWidth = 45;
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

std::string with_escapes(std::string format) {
  for (const auto& [from, to] : {std::pair{"\\t", "\t"}, std::pair{"\\n", "\n"}})
    for (auto at = format.find(from); at != std::string::npos; at = format.find(from, at + 1))
      format.replace(at, 2, to);
  return format;
}

/// The rows of a listing, each a JSON object of its columns; the headings likewise.
struct Listing {
  Json headings;
  std::vector<Json> rows;
  std::string default_format; ///< "table …"
};

class Runner {
public:
  explicit Runner(const Surroundings& world)
      : world_{world}, client_{world.sockets, world.deadlines} {}

  int operator()(const Say& say) const {
    world_.out(say.out);
    world_.err(say.err);
    return say.exit_code;
  }

  int operator()(const Build& build) const {
    for (const auto& note : build.notes)
      world_.err(note + "\n");
    auto context = find_context(build, world_);
    if (!context) return fail("ERROR: ", context.error());
    bool said_built = false;
    const Write& shown = build.classic_output ? world_.out : world_.err;
    const Write progress = [&](std::string_view text) {
      if (build.quiet) return;
      said_built = said_built || text.find("Successfully built ") != std::string_view::npos;
      shown(text);
    };
    const auto end = stream(build_request(build, *context), progress);
    if (!end) return 1;
    if (end->image_id.empty()) return fail("the broker ended the build without an image ID");
    if (build.quiet) world_.out(end->image_id + "\n");
    if (build.classic_output && !build.quiet && !said_built) {
      world_.out("Successfully built " + short_id(end->image_id, false) + "\n");
      for (const auto& tag : build.tags)
        world_.out("Successfully tagged " + with_tag(tag) + "\n");
    }
    if (!build.iidfile.empty())
      if (auto written = replace_file(at_cwd(build.iidfile), end->image_id, 0644); !written)
        return fail("ERROR: ", written.error());
    const auto& subject = build.tags.empty() ? std::vector<std::string>{end->image_id} : build.tags;
    for (const auto& archive : build.archives)
      if (const int code = save_to(subject, archive == "-" ? "" : archive); code != 0) return code;
    std::string digest = end->manifest;
    if (build.push) {
      for (const auto& tag : build.tags) {
        const auto pushed =
            push_one(with_tag(tag), build.quiet ? progress : world_.err, build.quiet);
        if (!pushed) return 1;
        if (!pushed->digest.empty()) digest = pushed->digest;
      }
    }
    return build.metadata_file.empty() ? 0 : write_metadata(build, digest, end->image_id);
  }

  int operator()(const Push& push) const {
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
    auto name = *parse_image_name(pull.image);
    if (name.tag.empty() && name.digest.empty()) {
      name.tag = "latest";
      if (!pull.quiet) world_.out("Using default tag: latest\n");
    }
    std::string target = "/images/create?fromImage=" + percent_encode(name.familiar()) +
                         "&tag=" + percent_encode(name.digest.empty() ? name.tag : name.digest);
    if (!pull.platform.empty()) target += "&platform=" + percent_encode(pull.platform);
    const Write print = pull.quiet ? Write{[](std::string_view) {}} : world_.out;
    if (!stream({.method = "POST", .target = target, .long_running = true}, print)) return 1;
    world_.out(name.full() + "\n");
    return 0;
  }

  int operator()(const Login& login) const {
    world_.err(login.warning);
    if (login.password_from_stdin) {
      // Read to the end, so that the writer of the pipe is not killed by SIGPIPE, then forgotten.
      auto password = read_all(world_.input, kMaxPasswordBytes, "the password on stdin");
      if (!password) return fail("", password.error());
      ::explicit_bzero(password->data(), password->size());
    }
    world_.err("slipway: the credential was not stored; slipway brings its own for each push\n");
    world_.out("Login Succeeded\n");
    return 0;
  }

  int operator()(const Tag& tag) const {
    const auto name = *parse_image_name(tag.target);
    const auto answer = ask({.method = "POST",
                             .target = "/images/" + percent_encode(tag.source) +
                                       "/tag?repo=" + percent_encode(name.familiar()) + "&tag=" +
                                       percent_encode(name.tag.empty() ? "latest" : name.tag)});
    return answer ? 0 : 1;
  }

  int operator()(const ListImages& list) const {
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
    int exit_code = 0;
    for (const auto& image : remove.images) {
      auto answer = client_.ask(
          {.method = "DELETE",
           .target = "/images/" + percent_encode(image) + (remove.force ? "?force=1" : "")});
      if (!answer) return fail("", answer.error());
      if (answer->status >= 400) {
        fail("Error response from daemon: " + message_of(*answer));
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

  int operator()(const Inspect& inspect) const {
    Json found = Json::array();
    std::string errors;
    std::string text;
    for (const auto& name : inspect.names) {
      auto answer = client_.ask({.target = "/images/" + percent_encode(name) + "/json"});
      if (!answer) return fail("", answer.error());
      if (answer->status == 404 && !inspect.image_only) {
        errors += "Error: No such object: " + name + "\n";
      } else if (answer->status >= 400) {
        errors += "Error response from daemon: " + message_of(*answer) + "\n";
      } else if (inspect.format.empty()) {
        Json image = Json::parse(answer->body, nullptr, false);
        if (image.is_discarded()) return fail("the broker's answer is not JSON");
        found.push_back(std::move(image));
      } else {
        auto rendered =
            render_template(inspect.format == "json" ? "{{json .}}" : inspect.format, answer->body);
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
    return save_to(save.images, save.output);
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
    return end ? 0 : 1;
  }

  int operator()(const Info& info) const {
    const auto answer = ask({.target = "/info"});
    if (!answer) return 1;
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
    if (!version.format.empty()) {
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
    if (!there) return fail("Error response from daemon: " + message_of(*answer));
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
  int fail(const std::string& text) const {
    world_.err(text + "\n");
    return 1;
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
      fail("Error response from daemon: " + message_of(*answer));
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
  std::optional<StreamEnd> stream(const Request& request, const Write& print) const {
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
      fail("Error response from daemon: " + message_of(refused));
      return std::nullopt;
    }
    auto end = messages.finish();
    if (!end) {
      fail("", end.error());
      return std::nullopt;
    }
    if (end->failed) {
      world_.err(end->error + (end->error.ends_with('\n') ? "" : "\n"));
      return std::nullopt;
    }
    return *std::move(end);
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

  static Request build_request(const Build& build, const BuildContext& context) {
    if (!context.path.empty()) {
      Json body{
          {"context_path", context.path},
          {"dockerfile", context.dockerfile},
          {"tags", build.tags},
          {"build_args", pairs_json(build.build_args)},
          {"labels", pairs_json(build.labels)},
          {"target", build.target},
          {"platforms", build.platform.empty() ? Json::array() : Json::array({build.platform})},
          {"no_cache", build.no_cache},
          {"pull", build.pull},
          {"network", build.network},
          {"extra_hosts", pairs_json(build.extra_hosts)},
          {"dialect", build.dialect}};
      if (context.dockerfile_text) body["dockerfile_text"] = *context.dockerfile_text;
      return {.method = "POST",
              .target = "/slipway/v1/build",
              .content_type = std::string{kJsonType},
              .body = dumped(body),
              .long_running = true};
    }
    std::string target = "/build?dockerfile=" + percent_encode(context.dockerfile);
    const auto add = [&target](const char* key, const std::string& value) {
      if (!value.empty()) target += std::string{"&"} + key + "=" + percent_encode(value);
    };
    for (const auto& tag : build.tags)
      add("t", tag);
    if (!build.build_args.empty()) add("buildargs", dumped(map_json(build.build_args)));
    if (!build.labels.empty()) add("labels", dumped(map_json(build.labels)));
    add("target", build.target);
    add("platform", build.platform);
    add("nocache", build.no_cache ? "1" : "");
    add("pull", build.pull ? "1" : "");
    add("networkmode", build.network);
    for (const auto& [host, address] : build.extra_hosts)
      add("extrahosts", host + ":" + address);
    return {.method = "POST",
            .target = target,
            .content_type = std::string{kTarType},
            .source = context.tar,
            .long_running = true};
  }

  int write_metadata(const Build& build, const std::string& digest,
                     const std::string& image_id) const {
    Json metadata = Json::object();
    metadata["containerimage.config.digest"] = image_id;
    if (!digest.empty()) metadata["containerimage.digest"] = digest;
    std::string names;
    for (const auto& tag : build.tags) {
      const auto name = parse_image_name(with_tag(tag));
      names += (names.empty() ? "" : ",") + (name ? name->full() : tag);
    }
    if (!names.empty()) metadata["image.name"] = names;
    auto written = replace_file(at_cwd(build.metadata_file), dumped(metadata, 2), 0644);
    return written ? 0 : fail("ERROR: ", written.error());
  }

  /// "" = stdout. A file appears whole or not at all.
  int save_to(const std::vector<std::string>& images, const std::string& output) const {
    std::string target = "/images/get";
    for (std::size_t i = 0; i < images.size(); ++i)
      target += (i == 0 ? "?names=" : "&names=") + percent_encode(images[i]);
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
      if (!file) return fail("failed to save image: open " + path + ": " + errno_text(errno));
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
      trouble = "Error response from daemon: " + message_of(refused);
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
      return rendered.error().what.find("executing") == std::string::npos ? kTemplateExit : 1;
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
        return line.error().what.find("executing") == std::string::npos ? kTemplateExit : 1;
      }
      lines += *line + "\n";
    }
    world_.out(as_table ? table_of_lines(lines) : lines);
    return 0;
  }

  const Surroundings& world_;
  BrokerClient client_;
};

} // namespace

int run(const Command& command, const Surroundings& world) {
  return std::visit(Runner{world}, command);
}

} // namespace slipway::shim
