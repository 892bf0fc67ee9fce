// SPDX-License-Identifier: Apache-2.0
// The Dockerfile is whatever the job wrote: no text may crash the parser, or make it slow or large.
#include "executor/dockerfile/dockerfile.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway::dockerfile;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  const auto file = parse(text);
  if (!file) return 0;
  Scope scope;
  scope.build_args = {{"A", "v1.2.3"}, {"B", ""}};
  (void)external_images(*file, scope);
  (void)check_syntax(*file);
  (void)with_bases(text, *file, {{0, "a@sha256:0"}});
  return 0;
}
