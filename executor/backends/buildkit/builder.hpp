// SPDX-License-Identifier: Apache-2.0
// Warm BuildKit daemons: one for each project, trust domain and kind of network, in a sandbox of
// its own. A builder
//   - runs buildkitd as root of a user namespace that does not hold the service user;
//   - has the host's /usr read-only, its own network, its own cache volume, and no credential;
//   - refuses foreign frontends and entitlements;
//   - is removed where it does not answer, was idle for too long, or makes one too many.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/idle_places.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::buildkit {

struct BuilderConfig {
  std::filesystem::path state_dir; ///< slipway's own, 0700; one folder a builder is made in it
  std::filesystem::path tools_dir; ///< holds bin/buildkitd and bin/buildctl
  std::filesystem::path runc = "/usr/sbin/runc";
  std::string owner;       ///< value of the label io.slipway.owner
  sandbox::SlotPlan slots; ///< each builder has one of `slots.builders`
  sandbox::Limits limits;
  std::uint64_t max_cache_bytes = 20ULL << 30; ///< of one builder
  std::size_t max_parallel_steps = 0;          ///< 0: BuildKit's own
  std::size_t most = 8;                        ///< builders at a time
  std::chrono::seconds max_idle{
      std::chrono::hours{1}}; ///< then the daemon is removed, its cache stays
  std::chrono::seconds max_cache_age{std::chrono::hours{24 * 14}}; ///< then the cache goes too
  bool closed = false;                                             ///< its network has no way out
  /// Where steps find the proxy, then: a folder with slipway-init, which leads them to the sockets
  /// of egress_dir(). "": there is none.
  std::filesystem::path init_dir;
  /// One that dies is seen at once; a disk that others keep busy may hold one up for half a minute.
  std::chrono::milliseconds start_deadline{std::chrono::seconds{60}};
  std::chrono::milliseconds probe_deadline{std::chrono::seconds{3}};
};

/// The names of one builder; the same key always gives the same names.
struct BuilderNames {
  std::string id; ///< 16 hex digits
  std::string container() const { return "slipway-builder-" + id; }
  std::string network() const { return "slipway-builder-" + id; }
  std::string closed_network() const { return network() + "-closed"; }
  std::string volume() const { return "slipway-builder-" + id; }
};
BuilderNames names_for(std::string_view builder_key, std::string_view owner);
/// What makes builders of one project and trust domain differ: a step must not meet a way out that
/// only jobs of another policy have, so a builder in use never stands in for one with another
/// network.
enum class NetworkKind { open, closed, with_proxy };
constexpr NetworkKind kNetworkKinds[] = {NetworkKind::open, NetworkKind::closed,
                                         NetworkKind::with_proxy};
NetworkKind network_kind(const BuilderConfig& config);
BuilderNames names_for(std::string_view builder_key, std::string_view owner, NetworkKind network);

/// buildkitd's configuration file. Pure; golden-tested.
std::string buildkitd_toml(const BuilderConfig& config);

/// The builder's sandbox, without its root (use_host_tools adds that). Pure.
sandbox::SandboxSpec builder_spec(const BuilderConfig& config, const BuilderNames& names,
                                  const sandbox::IdSlot& ids);

/// True where something at SOCKET speaks HTTP/2 (as gRPC does) and answers within `deadline`; a
/// daemon that hangs, or a socket left behind, does not. Source: RFC 9113, 3.4.
bool answers(const std::filesystem::path& socket, std::chrono::milliseconds deadline);

/// "v0.34.2", as the buildctl in `tools_dir` says. Errors: misconfigured (no such program, other
/// words).
Result<std::string> buildkit_version(process::ProcessRunner& runner,
                                     const std::filesystem::path& tools_dir);

/// A build under way, told by a file until it is finished. What ends without that (it was cut
/// short, or its process was killed) may have left steps running: its builder is ended before the
/// next use.
class BuildMark {
public:
  void finished() const noexcept;

private:
  friend class Builder;
  explicit BuildMark(std::filesystem::path file) : file_{std::move(file)} {}
  std::filesystem::path file_;
};

/// A builder in use: as long as it lives no reaper and no other job of this machine removes it.
class Builder {
public:
  /// Folder with buildkitd.sock, to mount into the build sandbox (Places::socket).
  const std::filesystem::path& socket_dir() const noexcept { return socket_dir_; }
  const BuilderNames& names() const noexcept { return names_; }
  /// Shared where subordinate ids do not suffice.
  const sandbox::IdSlot& ids() const noexcept { return ids_; }
  /// Its first process and, read back, its limits; of a warm one too.
  const sandbox::ContainerFacts& facts() const noexcept { return facts_; }
  bool was_cold() const noexcept { return cold_; }
  /// Before each build. Errors: io.
  Result<BuildMark> begin_build() const;

private:
  friend class BuilderPool;
  Builder(BuilderNames names, sandbox::IdSlot ids, sandbox::ContainerFacts facts,
          std::filesystem::path socket_dir, UniqueFd use, bool cold)
      : names_{std::move(names)}, ids_{ids}, facts_{std::move(facts)},
        socket_dir_{std::move(socket_dir)}, use_{std::move(use)}, cold_{cold} {}
  BuilderNames names_;
  sandbox::IdSlot ids_;
  sandbox::ContainerFacts facts_;
  std::filesystem::path socket_dir_;
  UniqueFd use_; ///< shared lock
  bool cold_;
};

class BuilderPool {
public:
  BuilderPool(BuilderConfig config, sandbox::Podman& podman, const Clock& clock);

  /// The builder of `builder_key` (project and trust domain), started where there is none that
  /// answers, and anew where nobody uses it and a build was left unfinished; without its cache
  /// where that is spoilt or has to move to another id slot. Errors: unavailable (it does not
  /// start; with its last words); timed_out (another process holds its start for too long; all
  /// builders are in use, then `none_is_free` is called too); those of Podman.
  Result<Builder> acquire(std::string_view builder_key,
                          const std::function<void()>& none_is_free = nullptr);

  /// Makes the folder in which the builder of `builder_key` has or will have its socket; it stays
  /// the same however often the daemon is started. Errors: io.
  static Result<std::filesystem::path> socket_dir(const BuilderConfig& config,
                                                  std::string_view builder_key);

  /// The folder in which a job's proxy listens for the builder's steps, at a socket that is named
  /// as the loopback address that the job gives to its builds. Errors: io.
  static Result<std::filesystem::path> egress_dir(const BuilderConfig& config,
                                                  std::string_view builder_key);

  struct Reaped {
    std::vector<std::string> stopped; ///< daemon removed, cache kept
    std::vector<std::string> removed; ///< with their caches
  };
  /// Removes what was idle for too long, is spoilt, or has a build that was left unfinished.
  /// Builders in use are left alone. Errors: io; those of Podman.
  Result<Reaped> reap_idle();
  /// Its cache must not serve another job: it goes as soon as nobody uses it, whatever its network.
  /// Errors: io.
  Status spoil(std::string_view builder_key);
  /// Removes one builder and its cache, in use or not (doubt about it, an operator's wish).
  Status discard(std::string_view builder_key);

private:
  /// What keeps a builder from being started and used.
  struct Locks {
    UniqueFd start;
    UniqueFd use;
  };
  /// None where somebody starts or uses it.
  static Result<std::optional<Locks>> lock_unused(const std::filesystem::path& dir);
  Status start(const BuilderNames& names, const sandbox::IdSlot& ids,
               const std::filesystem::path& dir);
  std::string why_silent(const std::string& container, const Result<process::Output>& opened);
  Status stop(const BuilderNames& names, const std::filesystem::path& dir);
  Status erase(const BuilderNames& names, const std::filesystem::path& dir);
  Result<bool> erase_unused(const sandbox::IdlePlace& place);
  Status make_room(const BuilderNames& wanted, const std::function<void()>& none_is_free);
  std::string fingerprint(const BuilderNames& names, const sandbox::IdSlot& ids) const;

  BuilderConfig config_;
  sandbox::Podman& podman_;
  const Clock& clock_;
  sandbox::IdlePlaces places_;
};

} // namespace slipway::backends::buildkit
