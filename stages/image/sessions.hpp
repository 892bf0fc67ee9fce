// SPDX-License-Identifier: Apache-2.0
// The job's working containers (`buildah from`, `run`, `commit`) as the broker asks for them: by
// policy, in a sandbox that the first `from` opens and the job's end removes. What is committed is
// an image of the job like any other: from there it goes through the gate.
#pragma once

#include "executor/backends/buildah/session.hpp"
#include "executor/backends/buildah/store_tools.hpp"
#include "executor/broker/session_service.hpp"
#include "executor/policy/policy.hpp"
#include "executor/state/build_notes.hpp"
#include "executor/state/image_store.hpp"
#include "executor/state/job_record.hpp"
#include "stages/image/images.hpp"

#include <atomic>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace slipway::image {

class BuildPlace;

/// An image for a working container, in the layout of base images.
struct SessionBase {
  std::string name; ///< full, with a tag: what it is called in the session's store
  oci::Digest digest;
};

/// What sessions need of the job's images.
struct SessionImages {
  /// `pull` as SessionOrder::pull. Errors: denied (policy); not_found; those of a pull.
  std::function<Result<SessionBase>(const std::string& name, const std::string& pull,
                                    const broker::Progress& say, const broker::Cancelled& stop)>
      base;
  std::function<Result<state::ImageStore*>()> store;
  /// What was committed is one of the job's images from then on; gives its ID. Errors: denied
  /// (policy, a limit); io.
  std::function<Result<oci::Digest>(const oci::Digest& manifest,
                                    const std::vector<oci::Reference>& names,
                                    const state::BuildNote& note, const broker::Progress& say)>
      enter;
};

/// Under which name an image is taken that `from` or `--from` names; nothing for the job's `own`
/// image that has none and was named by its ID. Such an ID looks like a name, and no registry is
/// asked for it. `own`: what the job has by NAME, or null.
std::optional<oci::Reference> name_of_base(const std::string& name, const state::StoredImage* own);

/// Of the lines "ID NAME", the ID of what is called so, or of the only one whose ID begins so; "" =
/// none.
std::string find_container(const std::string& list, const std::string& text);

/// All of an image, from a layout that it may go from at any time, by hard links where that can be.
/// Errors: those of oci::read_tree and Layout::link_blob.
Status give_image(const oci::Layout& from, const oci::Digest& image, oci::Layout& into);

class JobSessions final : public broker::SessionService {
public:
  /// All is lent but `images`.
  JobSessions(const Tools& tools, const state::JobRecord& record,
              const policy::Effective& effective, BuildPlace& place, SessionImages images);

  Result<int> run(const broker::SessionOrder& order,
                  const broker::SessionStreams& streams) override;

private:
  class Call;
  /// The host's Buildah, where the policy allows it. Errors: denied, misconfigured.
  Result<backends::buildah::Program> admit() const;
  bool was_opened() const;
  /// Errors: unavailable (it ended too often); those of start_session.
  Status open(const backends::buildah::Program& program);
  bool answers() const;
  struct KnownBase {
    oci::Digest digest;
    std::vector<std::string> names;
  };
  /// Bases of this job's containers, so far. Errors: io.
  Result<std::vector<KnownBase>> known_bases() const;
  Status note_base(const SessionBase& base);
  /// Images of which a working container (by its ID) is given files by `copy --from`. Errors:
  /// denied (too many); unavailable (no ID); io.
  Status note_copied(const std::string& container, const std::vector<SessionBase>& images);
  Result<std::vector<SessionBase>> copied_into(const std::string& container) const;

  const Tools& tools_;
  const state::JobRecord& record_;
  const policy::Effective& effective_;
  BuildPlace& place_;
  SessionImages images_;
  std::filesystem::path folder_; ///< there once a session was opened
  std::optional<oci::Layout>
      layout_; ///< bases that the job took: all that its sandbox sees of them
  std::filesystem::path socket_;
  sandbox::ScriptRunner runner_;
  std::mutex opening_;
  int starts_ = 0;       ///< since the script began; under opening_
  bool is_open_ = false; ///< the same
  std::atomic<int> running_{0};
  std::timed_mutex one_at_a_time_; ///< images in and out
  std::atomic<int> calls_{0};
  std::mutex copying_; ///< of what is noted of copies
};

} // namespace slipway::image
