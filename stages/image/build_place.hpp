// SPDX-License-Identifier: Apache-2.0
// Where a job's builds happen: the build sandbox (which shares the job's ids, so that it can read
// what the job wrote), the warm builder or the store behind it, and the layout of base images.
// Opened by the first build.
#pragma once

#include "executor/backends/buildah/command.hpp"
#include "executor/backends/buildkit/backend.hpp"
#include "executor/backends/buildkit/builder.hpp"
#include "executor/backends/dockerd/command.hpp"
#include "executor/backends/kaniko/command.hpp"
#include "executor/base/result.hpp"
#include "executor/broker/image_service.hpp"
#include "stages/image/base_images.hpp"
#include "stages/image/images.hpp"
#include "stages/image/routing.hpp"

#include <atomic>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <vector>

namespace slipway::image {

class BuildPlace {
public:
  /// The domains are policy::trust_domain and policy::builder_domain.
  BuildPlace(const Tools& tools, const state::JobRecord& record, std::string trust_domain,
             std::string builder_domain);

  /// When BuildKit's daemon is started.
  enum class Builder {
    beside, ///< at once, beside what follows: it will be the choice
    late    ///< when it is asked to build
  };
  /// Around each build. While none of the job's runs, the builder is others' to replace.
  class Use {
  public:
    explicit Use(BuildPlace& place) : place_{place} {
      ++place_.uses_;
      place_.has_built_ = true;
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    ~Use() { place_.end_use(); }

  private:
    BuildPlace& place_;
  };
  /// Makes sure that the sandbox runs. Errors: unavailable, those of Podman.
  Status open(Builder builder);
  /// One build by BuildKit: waits for its daemon, which is started anew where it has ended since.
  /// Errors: as open; those of the backend.
  Attempt build_with_buildkit(const std::string& version, const backends::BuildJob& job,
                              oci::Layout& into);
  /// One build by Buildah or Podman, which makes its own sandbox on the store of the trust domain.
  /// Waits for another build that has the store. Errors: those of StorePool::open; those of the
  /// backend.
  Attempt build_with_buildah(const backends::buildah::Program& program,
                             const backends::BuildJob& job, oci::Layout& into);
  /// One build by Kaniko, which makes its own sandbox. Errors: those of WorkshopPool::open; those
  /// of the backend.
  Attempt build_with_kaniko(const backends::kaniko::Program& program, const backends::BuildJob& job,
                            oci::Layout& into);
  /// One build by Docker's builder, which makes its own sandbox. Errors: those of open_builder;
  /// those of the backend.
  Attempt build_with_dockerd(const backends::dockerd::Program& program,
                             const backends::BuildJob& job, oci::Layout& into);
  BaseImages& bases() { return *bases_; }
  /// Only the base images, without a sandbox. Errors: io; timed_out.
  Status open_bases();
  /// The networks, open ones, in which builds of this job may have run steps; none where it has
  /// built nothing.
  std::vector<std::string> networks() const;
  /// How the names of the sandboxes and volumes begin that builds of this job may have written to;
  /// none where it has built nothing. May be called beside a build.
  std::vector<std::string> builders() const;
  /// What the backends keep for this trust domain is erased before its next use by another script,
  /// and as soon as nobody uses it. Errors: io.
  Status spoil_caches();

  /// A context, seen from the build sandbox. One that came as a tar is removed at the end.
  struct Context {
    std::string dir;
    std::string dockerfile_dir;
    std::string dockerfile_name;
    std::string dockerfile_text;
    std::vector<std::string> unpacked; ///< folders below /out that came as tars, to be removed
  };
  /// Folders that came as tars become `named_contexts`. Errors: bad_input (no such context or
  /// Dockerfile, a bad tar), unavailable.
  Result<Context> bring_context(broker::BuildRequest& request);
  /// Which files that say what a context leaves out are in it, and what `sources` are. Errors: as
  /// bring_context.
  Result<router::Context> look_at(const Context& context, const std::vector<std::string>& sources);

  /// Removes an unpacked context at the end of its build.
  struct Borrowed {
    BuildPlace& place;
    const Context& context;
    ~Borrowed() { place.give_back(context); }
  };

private:
  backends::buildkit::BuildkitBackend& buildkit(const std::string& version);
  /// What the openings of all workshops have in common. `job` and `looked_after`, which tells what
  /// became of looking after the sandbox, are lent until it is open.
  template <typename Opening>
  void describe_job(Opening& opening, const backends::BuildJob& job, Status& looked_after) const;
  /// What is to be said and written down of the builder in hand.
  Status begin_on_builder(const std::function<void(std::string_view)>& say);
  /// Once in a job.
  void tell_of_sharing(const sandbox::IdSlot& ids, const std::string& what,
                       const std::function<void(std::string_view)>& say);
  sandbox::ScriptRunner client() const;
  /// The job with the proxy that its steps find in a sandbox of their own.
  backends::BuildJob with_proxy(const backends::BuildJob& job) const;
  /// The same for a builder that several jobs share: the proxy listens there at an address of this
  /// job's own. Errors: io.
  Result<backends::BuildJob> with_proxy_at_builder(const backends::BuildJob& job);
  backends::buildkit::BuilderConfig builder_config() const;
  /// Unless it is there, or is being started.
  void start_builder();
  void end_use();
  /// `is_busy`: it failed because all builders are in use.
  Status await_builder(bool& is_busy);
  Status renew_builder();
  Result<backends::buildkit::BuildMark> begin_build();
  void give_back(const Context& context);
  Status bring_context_into(Context& context, broker::BuildRequest& request);
  Status start_sandbox(const std::filesystem::path& builder_socket_dir);
  Status start_sandbox_here();
  Status open_bases_here();
  /// Of the builds that make a sandbox of their own, each with a whole job's limits.
  static constexpr std::ptrdiff_t kAtOnce = 2;
  using Turns = std::counting_semaphore<kAtOnce>;
  struct GiveBack {
    void operator()(Turns* turns) const { turns->release(); }
  };
  class Turn {
  public:
    explicit Turn(Turns& turns) : turns_{&turns} {}

  private:
    std::unique_ptr<Turns, GiveBack> turns_;
  };
  /// Errors: unavailable (cancelled); timed_out.
  Result<Turn> await_turn(const backends::BuildJob& job);
  bool sandbox_answers();
  Result<std::string> unpack(const sandbox::ByteSource& tar);
  /// Runs a program of the build sandbox and returns its output. Errors: bad_input (it failed: its
  /// words).
  Result<std::string> ask(std::vector<std::string> argv, std::size_t limit, int input_fd = -1);

  Tools tools_;
  const state::JobRecord& record_;
  std::string trust_domain_;
  std::string builder_domain_;
  std::filesystem::path socket_;
  std::mutex opening_;
  std::optional<BaseImages> bases_;
  std::atomic<int> uses_{0};
  std::atomic<bool> has_built_{false};
  std::atomic<bool> none_is_free_{false}; ///< at the last start of a builder
  std::mutex handing_over_;               ///< of fresh_, and of the last use's end; locked last
  /// What starting_ made, until somebody takes it; none where nobody wanted it any more.
  std::optional<backends::buildkit::Builder> fresh_;
  std::future<Status> starting_; ///< uses what is above
  std::optional<backends::buildkit::Builder> builder_;
  bool is_open_ = false;
  std::unique_ptr<backends::buildkit::BuildkitBackend> buildkit_; ///< one: it counts its builds
  std::atomic<int> contexts_{0};
  Turns turns_{kAtOnce};
  std::string proxy_address_; ///< of this job in the builder; "": the proxy does not listen there
};

} // namespace slipway::image
