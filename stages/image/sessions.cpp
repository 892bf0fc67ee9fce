// SPDX-License-Identifier: Apache-2.0
#include "stages/image/sessions.hpp"

#include "executor/base/file.hpp"
#include "executor/router/choice.hpp"
#include "stages/image/build_place.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>

namespace slipway::image {
namespace {

namespace buildah = backends::buildah;
using std::chrono::milliseconds;

constexpr std::size_t kMostContainers = 64;
constexpr const char* kCopied = "copied-"; ///< and a container's ID: images that it has files of
constexpr std::size_t kMostBases = 256;
constexpr std::size_t kMostCopied = 1024;
constexpr std::size_t kMaxSaid = 64UL << 10;
constexpr milliseconds kLook{200};
constexpr std::chrono::hours kLongestRun{24 * 7}; ///< the job's own timeout ends it before
constexpr std::chrono::hours kLongest{2};

bool is_proxy_variable(const std::string& name) {
  for (const char* known : {"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY",
                            "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY"})
    if (name == known) return true;
  return false;
}

std::string option_of(const broker::SessionOrder& order, std::string_view name) {
  std::string value;
  for (const auto& [key, given] : order.options)
    if (key == name) value = given;
  return value;
}

/// None where there is no such file. Errors: those of read_file.
Result<std::vector<std::string>> lines_of(const std::filesystem::path& file) {
  std::vector<std::string> lines;
  const auto text = read_file(file, kMaxSaid);
  if (!text && text.error().kind == ErrorKind::not_found) return lines;
  if (!text) return text.error();
  std::istringstream stream{*text};
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  return lines;
}

/// One that is there already stands once. Errors: denied (the file is full); io.
Status add_line(const std::filesystem::path& file, const std::string& line) {
  auto lines = lines_of(file);
  if (!lines) return std::move(lines).error();
  if (std::find(lines->begin(), lines->end(), line) != lines->end()) return {};
  lines->push_back(line);
  std::string text;
  for (const auto& one : *lines)
    text += one + "\n";
  if (text.size() > kMaxSaid)
    return Error{ErrorKind::denied,
                 "this job took too many images for working containers, and may take no more",
                 "take fewer in one job",
                 {}};
  return replace_file(file, text);
}

bool begins_with(const std::vector<oci::Digest>& layers, const std::vector<oci::Digest>& base) {
  return !base.empty() && base.size() <= layers.size() &&
         std::equal(base.begin(), base.end(), layers.begin());
}

} // namespace

std::optional<oci::Reference> name_of_base(const std::string& name, const state::StoredImage* own) {
  std::optional<oci::Reference> typed;
  if (auto parsed = oci::Reference::parse(name)) typed = *std::move(parsed);
  if (own == nullptr) return typed;
  const auto& tags = own->tags;
  if (typed && (typed->digest() || std::find(tags.begin(), tags.end(), *typed) != tags.end()))
    return typed;
  if (tags.empty()) return std::nullopt;
  return tags.front();
}

std::string find_container(const std::string& list, const std::string& text) {
  std::istringstream lines{list};
  std::string by_id;
  bool is_ambiguous = false;
  for (std::string id, name; lines >> id >> name;) {
    if (name == text) return id;
    if (text.empty() || !id.starts_with(text)) continue;
    is_ambiguous = !by_id.empty();
    by_id = id;
  }
  return is_ambiguous ? "" : by_id;
}

Status give_image(const oci::Layout& from, const oci::Digest& image, oci::Layout& into) {
  const auto tree = oci::read_tree(from, image);
  if (!tree) return tree.error();
  for (const auto& blob : tree->blobs)
    if (auto linked = into.link_blob(from, blob.digest); !linked) return linked;
  return {};
}

/// One command.
class JobSessions::Call {
public:
  Call(JobSessions& session, const buildah::Program& program, const broker::SessionOrder& order,
       const broker::SessionStreams& streams)
      : session_{session}, program_{program}, order_{order}, streams_{streams},
        clock_{streams.cancelled,
               order.verb == "run" ? milliseconds{kLongestRun} : milliseconds{kLongest}} {
    places_.work += "/" + std::to_string(::getpid()) + "-" + std::to_string(++session.calls_);
    places_.workspace = session.tools_.config.gitlab.builds_dir;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (!has_work_) return;
    // Of a command that was cancelled, too. Best effort: what stays goes with the sandbox.
    const sandbox::BuildClock clock{nullptr, std::chrono::minutes{1}};
    (void)buildah::StoreTools{program_, places_, session_.runner_, clock}
        .ask({"/usr/bin/rm", "-rf", "--", places_.work}, kMaxSaid, {}, clock.left())
        .ok();
  }

  Result<int> carry_out() {
    if (order_.verb == "from") return from();
    if (order_.verb == "commit") return commit();
    if (order_.verb == "copy" || order_.verb == "add") return copy();
    return plain(order_.verb, order_.options, order_.arguments);
  }

private:
  buildah::StoreTools tools() const {
    return buildah::StoreTools{program_, places_, session_.runner_, clock_};
  }
  void say(std::string_view text) const { streams_.err(text); }

  /// Runs it with the streams; without `out` what it prints there is kept in `said_`.
  Result<int> plain(const std::string& verb,
                    const std::vector<std::pair<std::string, std::string>>& options,
                    const std::vector<std::string>& arguments, bool shows = true) {
    auto argv = buildah::session_argv(program_, places_, verb, options, arguments);
    if (!argv) return std::move(argv).error();
    auto request = tools().request(*std::move(argv));
    request.env.emplace_back("BUILDAH_ISOLATION", "chroot");
    if (!folder_.empty()) request.cwd = folder_;
    for (const auto& [name, value] : order_.proxies)
      if (is_proxy_variable(name)) request.env.emplace_back(name, value);
    said_.clear();
    sandbox::ScriptIo io;
    io.input_fd = streams_.input;
    io.stop_fd = clock_.stop_fd();
    io.deadline = clock_.left();
    io.out = [&](std::string_view bytes) {
      if (shows) return streams_.out(bytes);
      said_ += bytes.substr(0, kMaxSaid - std::min(kMaxSaid, said_.size()));
    };
    io.err = streams_.err;
    auto ran = session_.runner_(request, io);
    if (!ran) return std::move(ran).error().in("buildah " + verb);
    if (ran->stopped) return sandbox::build_cancelled();
    if (!ran->ending.error.empty())
      return Error{
          ErrorKind::unavailable, "buildah " + verb + " " + sandbox::describe(ran->ending), "", {}};
    constexpr int kSignalled = 128;
    if (ran->ending.signal) return kSignalled + *ran->ending.signal;
    return ran->ending.exit_code.value_or(1);
  }

  /// Waits for other commands that move images.
  Result<std::unique_lock<std::timed_mutex>> await_turn() {
    std::unique_lock turn{session_.one_at_a_time_, std::defer_lock};
    while (!turn.try_lock_for(kLook)) {
      if (streams_.cancelled())
        return Error{ErrorKind::unavailable, "the client has gone, or the job ends", "", {}};
    }
    return turn;
  }

  /// The image in the session's store, with the name that it has there. Errors: those of
  /// SessionImages::base; unavailable.
  Result<SessionBase> bring(const std::string& name) {
    if (auto opened = session_.place_.open_bases(); !opened) return std::move(opened).error();
    auto base = session_.images_.base(
        name, order_.pull, [this](std::string_view text) { say(text); }, streams_.cancelled);
    if (!base) return std::move(base).error();
    auto turn = await_turn();
    if (!turn) return std::move(turn).error();
    auto& layout = *session_.layout_;
    if (auto given = give_image(session_.place_.bases().layout(), base->digest, layout); !given)
      return std::move(given).error().in("giving " + name + " to buildah");
    const std::vector<buildah::NamedBase> bases{{base->name, base->digest}};
    auto index = buildah::index_of(bases, layout);
    if (!index) return std::move(index).error();
    has_work_ = true;
    if (auto made = tools().ask(buildah::session_bases_argv(places_, *index), kMaxSaid); !made)
      return std::move(made).error().in("preparing for " + name);
    if (auto imported = tools().import(bases); !imported)
      return std::move(imported).error().in("giving " + name + " to buildah");
    // The name that the layout gave it, which lists would show. Best effort: it may have none.
    (void)tools()
        .ask({program_.path, "rmi", "localhost" + places_.named_bases() + ":latest"}, kMaxSaid)
        .ok();
    if (auto noted = session_.note_base(*base); !noted) return std::move(noted).error();
    return base;
  }

  Result<int> from() {
    if (order_.arguments.size() != 1)
      return Error{
          ErrorKind::bad_input, "an image name (or \"scratch\") must be specified", "", {}};
    auto there = tools().ask({program_.path, "containers", "--quiet"}, kMaxSaid);
    if (!there) return std::move(there).error().in("counting working containers");
    if (std::count(there->begin(), there->end(), '\n') >=
        static_cast<std::ptrdiff_t>(kMostContainers))
      return Error{ErrorKind::denied,
                   "this job has " + std::to_string(kMostContainers) +
                       " working containers, and may have no more",
                   "remove those that are not needed: buildah rm",
                   {}};
    std::string image = order_.arguments.front();
    if (image != "scratch") {
      auto brought = bring(image);
      if (!brought) return std::move(brought).error();
      image = brought->name;
    }
    auto options = order_.options;
    options.emplace_back("pull", "never"); // what it may have is there
    return plain("from", options, {image});
  }

  /// The working containers, for container_in.
  Result<std::string> containers() const {
    auto list = tools().ask({program_.path, "containers", "--noheading", "--notruncate", "--format",
                             "{{.ContainerID}} {{.ContainerName}}"},
                            kMaxSaid);
    if (!list) return std::move(list).error().in("looking for working containers");
    return list;
  }
  /// The ID of one of them, by its name or the beginning of its ID; "" where there is none.
  static Result<std::string> container_in(const std::string& list, const std::string& text) {
    auto id = find_container(list, text);
    // Out of a sandbox that the job may have taken over, and a file name here.
    if (!id.empty() && !oci::Digest::parse("sha256:" + id))
      return Error{
          ErrorKind::unavailable, "buildah names a container in an impossible way", "", {}};
    return id;
  }

  /// `name` becomes what the image is called in the session's store. Errors: those of bring.
  Result<std::vector<SessionBase>> bring_to_copy(std::string& name) {
    auto brought = bring(name);
    if (!brought) return std::move(brought).error();
    name = brought->name;
    return std::vector{*std::move(brought)};
  }

  /// The images that a working container has files of.
  Result<std::vector<SessionBase>> images_of(const std::string& container) const {
    auto images = session_.copied_into(container);
    if (!images) return images;
    const auto said = tools().ask(
        {program_.path, "inspect", "--type=container", "--format={{.FromImage}}", "--", container},
        kMaxSaid);
    if (!said) return Error{said.error()}.in("looking for the image of " + container);
    const auto bases = session_.known_bases();
    if (!bases) return bases.error();
    const auto from = said->substr(0, said->find('\n'));
    for (const auto& base : *bases)
      if (std::find(base.names.begin(), base.names.end(), from) != base.names.end())
        images->push_back({from, base.digest});
    return images;
  }

  Result<int> copy() {
    auto options = order_.options;
    for (auto& [name, value] : options) {
      if (name != "from") continue;
      // As buildah: a working container of that name comes before an image.
      const auto there = containers();
      if (!there) return there.error();
      const auto other = container_in(*there, value);
      if (!other) return other.error();
      auto images = other->empty() ? bring_to_copy(value) : images_of(*other);
      if (!images) return std::move(images).error();
      const auto target =
          container_in(*there, order_.arguments.empty() ? "" : order_.arguments.front());
      if (!target) return target.error();
      if (target->empty()) continue; // which buildah says
      if (auto noted = session_.note_copied(*target, *images); !noted)
        return std::move(noted).error();
    }
    if (streams_.files) {
      const auto folder = places_.work + "/sent";
      has_work_ = true;
      if (auto made = tools().ask({"/usr/bin/mkdir", "-p", "--", folder}, kMaxSaid); !made)
        return std::move(made).error();
      // Each of the sources is a tar of its own in the stream.
      const auto unpack = tools().request(
          {"/usr/bin/tar", "--extract", "--file=-", "--ignore-zeros", "--no-same-owner", "--xattrs",
           "--preserve-permissions", "--delay-directory-restore", "--directory=" + folder});
      Result<std::string> taken{std::string{}};
      const auto fed = sandbox::feed(streams_.files, [&](int fd) {
        taken = sandbox::read_program(session_.runner_, unpack, kMaxSaid, clock_, {{}, fd},
                                      clock_.left());
      });
      if (!fed) return Error{fed.error()}.in("taking the files");
      if (!taken) return std::move(taken).error().in("taking the files");
      folder_ = folder;
    }
    return plain(order_.verb, options, order_.arguments);
  }

  Result<int> commit() {
    if (order_.arguments.size() != 1)
      return Error{ErrorKind::bad_input, "a working container must be specified", "", {}};
    const auto started = std::chrono::steady_clock::now();
    auto images = session_.images_.store();
    if (!images) return std::move(images).error();
    auto turn = await_turn();
    if (!turn) return std::move(turn).error();
    const auto& layout = *session_.layout_;
    oci::BaseLayers known;
    const auto bases = session_.known_bases();
    if (!bases) return bases.error();
    const auto there = containers();
    if (!there) return there.error();
    const auto container = container_in(*there, order_.arguments.front());
    if (!container) return container.error();
    for (const auto& base : *bases)
      if (auto learnt = oci::learn_layers(layout, base.digest, known); !learnt)
        return std::move(learnt).error().in("reading the base image " + base.digest.str());
    std::vector<std::string> blobs;
    for (const auto& [diff_id, layer] : known)
      blobs.push_back(diff_id.substr(diff_id.find(':') + 1));
    has_work_ = true;
    if (auto made = tools().ask(buildah::session_export_argv(places_, blobs), kMaxSaid); !made)
      return std::move(made).error().in("preparing a commit");
    auto options = order_.options;
    options.emplace_back("iidfile", places_.image_id());
    auto code = plain("commit", options, order_.arguments);
    if (!code || *code != 0) return code;
    auto manifest =
        tools().take_image(layout, known, (*images)->layout(), buildah::Afterwards::remove_unused);
    if (!manifest) return std::move(manifest).error().in("taking over the image");

    state::BuildNote note;
    note.backend = "buildah " + program_.version + ", working container";
    const auto took = std::chrono::duration_cast<std::chrono::seconds>(
        std::chrono::steady_clock::now() - started);
    note.line = note.backend + ", committed in " + std::to_string(took.count()) + " s";
    if (auto noted = add_bases(*bases, *manifest, (*images)->layout(), note); !noted)
      return std::move(noted).error();
    const auto copied = session_.copied_into(*container);
    if (!copied) return copied.error();
    for (const auto& image : *copied) {
      std::pair named{image.name, image.digest.str()};
      if (std::find(note.bases.begin(), note.bases.end(), named) == note.bases.end())
        note.bases.push_back(std::move(named));
    }
    auto id = session_.images_.enter(*manifest, order_.names, note,
                                     [this](std::string_view text) { say(text); });
    if (!id) return std::move(id).error();
    streams_.out(id->hex() + "\n");
    if (!order_.remove) return 0;
    return plain("rm", {}, order_.arguments, false);
  }

  /// Of the bases that the job used, those on whose layers the image stands.
  Status add_bases(const std::vector<KnownBase>& bases, const oci::Digest& manifest,
                   const oci::Layout& images, state::BuildNote& note) const {
    auto made = oci::read_tree(images, manifest);
    if (!made) return std::move(made).error();
    for (const auto& base : bases) {
      const auto tree = oci::read_tree(*session_.layout_, base.digest);
      if (!tree) return tree.error();
      const bool stands_on =
          std::any_of(tree->images.begin(), tree->images.end(), [&](const auto& below) {
            return below.config &&
                   std::any_of(made->images.begin(), made->images.end(), [&](const auto& image) {
                     return image.config &&
                            begins_with(image.config->diff_ids, below.config->diff_ids);
                   });
          });
      if (!stands_on) continue;
      for (const auto& name : base.names)
        note.bases.emplace_back(name, base.digest.str());
    }
    return {};
  }

  JobSessions& session_;
  const buildah::Program& program_;
  const broker::SessionOrder& order_;
  const broker::SessionStreams& streams_;
  sandbox::BuildClock clock_;
  buildah::Places places_;
  bool has_work_ = false;
  std::string folder_; ///< in which it runs, where it has files of the job
  std::string said_;
};

JobSessions::JobSessions(const Tools& tools, const state::JobRecord& record,
                         const policy::Effective& effective, BuildPlace& place,
                         SessionImages images)
    : tools_{tools}, record_{record}, effective_{effective}, place_{place},
      images_{std::move(images)}, folder_{tools.folders.dir(record.key) / "session"},
      socket_{tools.folders.run_dir(record.key) / "session.sock"},
      runner_{[socket = socket_](const engine_api::ScriptRequest& request,
                                 const sandbox::ScriptIo& io) {
        return sandbox::run_script(socket, request, io);
      }} {}

Result<buildah::Program> JobSessions::admit() const {
  if (auto admitted = router::admit_backend(effective_.backends, effective_.rule, "buildah");
      !admitted)
    return std::move(admitted).error().in("working containers");
  const auto wired = tools_.backends.find("buildah");
  if (wired == tools_.backends.end() || !wired->second.buildah)
    return Error{ErrorKind::misconfigured,
                 "working containers are Buildah's, and this host is not set up for it",
                 "`slipway backends` says how to get it; or build from a Dockerfile",
                 {}};
  return *wired->second.buildah;
}

bool JobSessions::was_opened() const {
  std::error_code failed;
  return std::filesystem::exists(folder_, failed);
}

bool JobSessions::answers() const {
  std::error_code failed;
  if (!std::filesystem::exists(socket_, failed)) return false;
  engine_api::ScriptRequest request;
  request.argv = {"/usr/bin/true"};
  request.keep_others = true;
  sandbox::ScriptIo io;
  io.deadline = std::chrono::minutes{1};
  const auto ran = runner_(request, io);
  return ran && sandbox::succeeded(ran->ending);
}

Status JobSessions::open(const buildah::Program& program) {
  const std::lock_guard guard{opening_};
  if (!layout_) {
    if (auto made = make_directory(folder_, 0700); !made) return made;
    auto layout = oci::Layout::create(folder_ / "bases");
    if (!layout) return std::move(layout).error().in("making the session's base images");
    layout_ = *std::move(layout);
  }
  // One that is slow to answer is not taken from under other commands.
  if (is_open_ && running_ > 1) return {};
  is_open_ = answers();
  if (is_open_) return {};
  // A job can end it. What it makes slipway do for that has a limit.
  if (++starts_ > kMostStarts)
    return Error{ErrorKind::unavailable,
                 "the sandbox of this job's working containers ended " +
                     std::to_string(kMostStarts) + " times",
                 "look for what ends it; it is not started again in this script",
                 {}};
  auto noted = tools_.audit.append("session_start", {{"job", record_.key},
                                                     {"project", record_.project},
                                                     {"backend", "buildah " + program.version}});
  if (!noted) return std::move(noted).error().in("writing the audit log");
  const auto& path = tools_.config.buildah.buildah;
  buildah::SessionParts parts;
  parts.job = record_.key;
  parts.owner = tools_.owner;
  parts.container = "slipway-" + record_.key + "-session";
  parts.closed = record_.network_closed;
  if (record_.network_closed) parts.proxies = tools_.folders.run_dir(record_.key) / "egress";
  parts.ids = slot_of(record_);
  parts.limits = step_limits(tools_);
  parts.bases = layout_->path();
  parts.init_dir = tools_.config.programs.init.parent_path();
  if (!path.string().starts_with("/usr/")) parts.program_dir = path.parent_path();
  parts.socket = socket_;
  Status looked_after;
  parts.started = [&](const sandbox::ContainerFacts& sandbox) {
    looked_after = look_after(tools_, record_.key, "session", sandbox, nullptr);
  };
  parts.workspace_volume = record_.volume;
  buildah::Places places;
  places.workspace = tools_.config.gitlab.builds_dir;
  if (auto started = buildah::start_session(tools_.podman, parts, places); !started)
    return std::move(started).error().in("starting the sandbox of working containers");
  if (!looked_after) return looked_after;
  const sandbox::BuildClock clock{nullptr, std::chrono::minutes{1}};
  auto ready = buildah::StoreTools{program, places, runner_, clock}.ask(
      buildah::session_set_up_argv(places), kMaxSaid);
  if (!ready) return std::move(ready).error().in("setting up buildah");
  is_open_ = true;
  return {};
}

Result<std::vector<JobSessions::KnownBase>> JobSessions::known_bases() const {
  std::vector<KnownBase> bases;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator{folder_, failed}) {
    auto digest = oci::Digest::parse("sha256:" + entry.path().filename().string());
    if (!digest) continue;
    auto names = lines_of(entry.path());
    if (!names) return std::move(names).error();
    bases.push_back({*std::move(digest), *std::move(names)});
  }
  return bases;
}

Status JobSessions::note_copied(const std::string& container,
                                const std::vector<SessionBase>& images) {
  const std::lock_guard guard{copying_};
  const auto file = folder_ / (std::string{kCopied} + container);
  std::error_code failed;
  std::size_t noted = 0;
  for (const auto& entry : std::filesystem::directory_iterator{folder_, failed})
    noted += entry.path().filename().string().starts_with(kCopied) ? 1U : 0U;
  if (noted >= kMostCopied && !std::filesystem::exists(file, failed))
    return Error{ErrorKind::denied,
                 "this job copied into " + std::to_string(kMostCopied) +
                     " working containers from images, and may copy into no more",
                 "use fewer containers in one job",
                 {}};
  for (const auto& image : images)
    if (auto added = add_line(file, image.digest.str() + " " + image.name); !added) return added;
  return {};
}

Result<std::vector<SessionBase>> JobSessions::copied_into(const std::string& container) const {
  std::vector<SessionBase> images;
  const auto lines = lines_of(folder_ / (std::string{kCopied} + container));
  if (!lines) return lines.error();
  for (const auto& line : *lines) {
    const auto space = std::min(line.find(' '), line.size());
    auto digest = oci::Digest::parse(line.substr(0, space));
    if (digest && space < line.size()) images.push_back({line.substr(space + 1), *digest});
  }
  return images;
}

Status JobSessions::note_base(const SessionBase& base) {
  const auto known = known_bases();
  if (!known) return known.error();
  const bool is_known = std::any_of(known->begin(), known->end(),
                                    [&](const auto& one) { return one.digest == base.digest; });
  if (!is_known && known->size() >= kMostBases)
    return Error{ErrorKind::denied,
                 "this job took " + std::to_string(kMostBases) +
                     " images for working containers, and may take no more",
                 "take fewer in one job",
                 {}};
  return add_line(folder_ / base.digest.hex(), base.name);
}

Result<int> JobSessions::run(const broker::SessionOrder& order,
                             const broker::SessionStreams& streams) {
  auto program = admit();
  if (!program && order.verb != "from" && !was_opened())
    program = buildah::Program{}; // there is nothing, whatever may be
  if (!program) {
    if (order.verb == "from") {
      if (auto noted = tools_.audit.append("build_denied", {{"job", record_.key},
                                                            {"project", record_.project},
                                                            {"dialect", "buildah from"},
                                                            {"why", program.error().what}});
          !noted)
        return std::move(noted).error().in("writing the audit log");
    }
    return std::move(program).error();
  }
  if (order.verb != "from" && !was_opened()) {
    if (order.verb == "containers") {
      const auto on = [&](std::string_view name) { return option_of(order, name) == "true"; };
      if (on("json"))
        streams.out("null\n");
      else if (!on("quiet") && !on("noheading") && option_of(order, "format").empty())
        streams.out("CONTAINER ID  BUILDER  IMAGE ID     IMAGE NAME                       "
                    "CONTAINER NAME\n");
      return 0;
    }
    if (order.verb == "rm" && option_of(order, "all") == "true") return 0;
    return Error{ErrorKind::not_found,
                 (order.arguments.empty() ? "" : order.arguments.front() + ": ") +
                     std::string{"container not known"},
                 "this job has no working container yet: `buildah from IMAGE` makes one",
                 {}};
  }
  // What is in a container can be taken out of it: `run --volume`, output.
  const bool takes_image =
      order.verb == "from" && order.arguments != std::vector<std::string>{"scratch"};
  if (takes_image || !option_of(order, "from").empty())
    if (auto admitted = policy::admit_save(effective_, policy::subject_of(record_)); !admitted)
      return std::move(admitted).error();
  ++running_;
  const struct End {
    std::atomic<int>& running;
    ~End() { --running; }
  } end{running_};
  if (auto opened = open(*program); !opened) return std::move(opened).error();
  return Call{*this, *program, order, streams}.carry_out();
}

} // namespace slipway::image
