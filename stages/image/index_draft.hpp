// SPDX-License-Identifier: Apache-2.0
// An index while a job puts it together. Members that slipway does not know stay as they were.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/oci/layout.hpp"

#include <string>
#include <vector>

namespace slipway::image {

class IndexDraft {
public:
  /// Goes on with the index `root`. Errors: bad_input (no index); those of the layout.
  Status read(const oci::Layout& layout, const oci::Digest& root);

  /// Adds what is below `root`: the image, or every child of an index, and says whether it is one.
  /// One that is there already is changed as the part says. Errors: bad_input (more than 64
  /// children, a platform that cannot be one); those of oci::read_tree.
  Result<bool> add(const oci::Layout& layout, const oci::Digest& root,
                   const broker::IndexPart& part);

  /// Writes the part's platform and annotations over those of a child. Errors: not_found; bad_input
  /// (a platform that cannot be one).
  Status annotate(const oci::Digest& child, const broker::IndexPart& part);

  /// Errors: not_found.
  Status remove(const oci::Digest& child);

  /// Only what is for one of these stays, with what attests it. Errors: bad_input (nothing stays).
  Status keep(const std::vector<oci::Platform>& platforms);

  /// Writes over an annotation of the index itself.
  void annotate_index(const std::string& key, const std::string& value);

  /// An OCI index, whole.
  std::string json() const;

private:
  struct Child {
    std::string digest;
    std::string json; ///< the descriptor
  };
  Status put(Child child);
  std::vector<Child> children_;
  std::string annotations_; ///< of the index: JSON, "" = none
};

} // namespace slipway::image
