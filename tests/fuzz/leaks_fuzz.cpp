// SPDX-License-Identifier: Apache-2.0
// The leak scan over blobs as a stranger may write them: as a layer (tar, gzip, zstd; archives in
// it) and as a secret. Any bytes end in a report or an Error, and what was hidden in a readable
// place is found.
#include "executor/leaks/search.hpp"
#include "tests/fakes/sample_image.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

using namespace slipway;

const std::string kToken = "glcbt-64_mK3vQz81xTnW5rYbL0sD";

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fakes::TempDir dir;
  static auto layout = *oci::Layout::create(dir.path() / "layout");
  static const SystemClock clock;
  const std::string bytes{reinterpret_cast<const char*>(data), size};

  // The names of secrets never matter, their values may be anything.
  std::vector<leaks::KnownSecret> known;
  known.push_back({"TOKEN", Secret{kToken}, leaks::Kind::token, {}});
  known.push_back({"FILE", Secret{bytes}, leaks::Kind::file, {}});
  known.push_back({"MASKED", Secret{bytes}, leaks::Kind::masked, {}});
  leaks::LeakSearch search{{"", 1UL << 20}, leaks::SecretSet::from(known, {}), clock};

  const auto digest = layout.write_blob(bytes);
  if (!digest) return 0;
  oci::Descriptor blob{
      "application/vnd.oci.image.layer.v1.tar", *digest, bytes.size(), {}, {}, "", false};
  oci::ImageTree tree{*digest, "", 0, {}, {}, {}, {blob}};
  auto report = search.search(layout, tree);
  // As it is, a token is found whatever stands around it.
  if (report && bytes.find(kToken) != std::string::npos && bytes.size() < 1UL << 20 &&
      report->hits.empty() && report->not_searched.empty())
    std::abort();
  std::filesystem::remove(layout.blob_path(*digest));
  return 0;
}
