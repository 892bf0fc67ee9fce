// SPDX-License-Identifier: Apache-2.0
// Command lines of any shape: words are separated by NUL, the first is the program's name. What is
// understood as a template or an image name goes through those readers too; the last word of a
// bake, in JSON or HCL, and of a Compose command is the text of its file.
#include "executor/shim/bake.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/compose.hpp"
#include "executor/shim/go_template.hpp"
#include "executor/shim/image_name.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> argv{""};
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] == 0)
      argv.emplace_back();
    else
      argv.back() += static_cast<char>(data[i]);
  }
  const auto command = slipway::shim::parse(argv, {{"A", "1"}});
  if (const auto* build = std::get_if<slipway::shim::Build>(&command))
    for (const auto& tag : build->tags)
      if (!slipway::shim::parse_image_name(tag))
        __builtin_trap(); // a name that the broker would refuse got through
  if (const auto* bake = std::get_if<slipway::shim::Bake>(&command)) {
    const auto plan = slipway::shim::plan_bake(*bake, {{"bake", argv.back()}});
    if (plan)
      for (const auto& [name, build] : plan->builds)
        for (const auto& tag : build.tags)
          if (!slipway::shim::parse_image_name(tag)) __builtin_trap();
  }
  if (const auto* compose = std::get_if<slipway::shim::Compose>(&command)) {
    const auto project = slipway::shim::load_compose(
        *compose, "/w",
        [&](const std::string&) -> slipway::Result<std::string> { return argv.back(); });
    if (project)
      for (const auto& service : project->services)
        for (const auto& name : service.names)
          if (!slipway::shim::parse_image_name(name)) __builtin_trap();
  }
  if (const auto* inspect = std::get_if<slipway::shim::Inspect>(&command))
    (void)slipway::shim::render_template(
        inspect->format, R"({"Id":"x","RepoTags":["a:1"],"Config":{"Labels":{"k":"v"}}})")
        .ok();
  return 0;
}
