// SPDX-License-Identifier: Apache-2.0
// The warm stores of Buildah and Podman: one for each project and trust domain, in a volume. A
// store
//   - is used by one build at a time, under a lock: two engines on one graph root corrupt it;
//   - is seen by a builder sandbox that is made for one build and removed after it, with everything
//     that ran there; nothing else of the store's domain, and nothing of another, is in it;
//   - holds layers, base images and cache mounts, and no credential;
//   - goes where it was idle for too long, is too large, or makes one too many.
#pragma once

#include "executor/backends/buildah/command.hpp"
#include "executor/backends/buildah/workshop.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/process/process.hpp"
#include "executor/sandbox/idle_places.hpp"
#include "executor/sandbox/programs.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::backends::buildah {

struct StoreConfig {
  std::filesystem::path state_dir;   ///< slipway's own, 0700; one folder a store is made in it
  std::filesystem::path program_dir; ///< of the tool where it is not below /usr; "": it is
  std::filesystem::path init_dir;    ///< folder with slipway-init
  std::string owner;                 ///< value of the label io.slipway.owner
  sandbox::SlotPlan slots;           ///< each store has one of `slots.stores`
  sandbox::Limits limits;
  std::uint64_t max_bytes = 20ULL << 30; ///< of one store
  std::size_t most = 8;                  ///< stores at a time
  std::chrono::seconds max_idle{std::chrono::hours{24 * 14}};
};

/// The names of one store; the same key always gives the same names.
struct StoreNames {
  std::string id; ///< 16 hex digits
  std::string container() const { return "slipway-store-" + id; }
  std::string network() const { return "slipway-store-" + id; }
  std::string closed_network() const { return network() + "-closed"; }
  std::string volume() const { return "slipway-store-" + id; }
};
StoreNames names_for(std::string_view store_key, std::string_view owner);

/// What one build's sandbox is made of.
struct Opening {
  std::filesystem::path bases;      ///< slipway's layout of base images
  std::filesystem::path socket_dir; ///< where the sandbox's script socket is made; private, short
  std::map<std::string, std::string> labels; ///< more of them, e.g. the job's
  bool network = true;
  bool closed = false;             ///< the network has no way out
  std::filesystem::path proxies{}; ///< of the job's proxy, where it has one: a folder of sockets
  int script_listener = -1;        ///< set by StorePool
  sandbox::IdSlot ids;             ///< likewise
  std::function<void(const sandbox::ContainerFacts&)> started = {}; ///< told of the sandbox
  std::function<void()> none_is_free = {}; ///< called where all stores are in use
};
/// The sandbox, without its root (use_host_tools adds that). Pure.
sandbox::SandboxSpec builder_spec(const StoreConfig& config, const StoreNames& names,
                                  const Opening& opening, const Places& places = {});

/// The version that the host's own program says. `path` is the host's. Errors: as parse_version;
/// misconfigured (no such program).
Result<Program> probe(process::ProcessRunner& runner, Tool tool, const std::filesystem::path& path);

class StorePool {
public:
  StorePool(StoreConfig config, sandbox::Podman& podman, const Clock& clock);

  /// Waits for the store of `store_key` (project and trust domain) until `build` has no time left,
  /// and starts a sandbox on it; on an empty one where it is spoilt or has to move to another id
  /// slot. `waiting` is called once where another build has it. A store that
  /// is too large at the workshop's end is removed. Errors: timed_out (of the wait; all stores are
  /// in use); backend_failed (cancelled); those of Podman.
  Result<std::unique_ptr<Workshop>> open(std::string_view store_key, Opening opening,
                                         const sandbox::BuildClock& build,
                                         const std::function<void()>& waiting = nullptr);

  /// Removes what was idle for too long or is spoilt; names their volumes. Of what a killed build
  /// left only the sandbox goes. Stores in use are left alone. Errors: io; those of Podman.
  Result<std::vector<std::string>> reap();
  /// It must not serve another build: it goes before the next, or once it is idle. Errors: io.
  Status spoil(std::string_view store_key);
  /// Removes one store unless a build uses it. Errors: timed_out (one does); those of Podman.
  Status discard(std::string_view store_key);

private:
  Result<bool> erase_unused(const sandbox::IdlePlace& place);
  Status make_room(const StoreNames& wanted, const std::function<void()>& none_is_free);
  Status prepare(const StoreNames& names, bool closed);

  StoreConfig config_;
  sandbox::Podman& podman_;
  const Clock& clock_;
  sandbox::IdlePlaces places_;
};

} // namespace slipway::backends::buildah
