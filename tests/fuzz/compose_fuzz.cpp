// SPDX-License-Identifier: Apache-2.0
// A Compose file, which may extend and include itself, and HCL bake files: any text ends in a
// project, in JSON, or in an Error, and every name in it is one that the broker takes.
#include "executor/shim/bake.hpp"
#include "executor/shim/compose.hpp"
#include "executor/shim/hcl.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/yaml.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

using namespace slipway;

void read_yaml(const std::string& text) {
  auto documents = shim::parse_yaml("f", text);
  if (!documents) return;
  for (const auto& document : *documents) {
    // What is written of it is the same again.
    const auto once = shim::yaml_text(document);
    auto again = shim::parse_yaml("g", once);
    if (!again || again->size() != 1 || shim::yaml_text(again->front()) != once) std::abort();
  }
}

void read_compose(const std::string& text) {
  shim::Compose compose;
  compose.files = {"compose.yml"};
  compose.project = "p";
  compose.env = {{"A", "1"}, {"EMPTY", ""}};
  const auto project =
      shim::load_compose(compose, "/w", [&](const std::string& path) -> Result<std::string> {
        if (path.ends_with(".yml")) return text;
        return Error{ErrorKind::not_found, path, "", {}};
      });
  if (!project) return;
  for (const auto& service : project->services)
    for (const auto& name : service.names)
      if (!shim::parse_image_name(name)) std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text{reinterpret_cast<const char*>(data), size};
  read_yaml(text);
  read_compose(text);
  // What it was turned into is read as JSON, whatever its name.
  const auto json = shim::hcl_to_json({{"f.hcl", text}}, {{"A", "1"}});
  if (json && json->back().text.find_first_not_of(" \t\r\n") != 0) std::abort();
  if (json && json->back().text.front() != '{') std::abort();
  return 0;
}
