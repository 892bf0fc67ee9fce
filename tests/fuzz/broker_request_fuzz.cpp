// SPDX-License-Identifier: Apache-2.0
// Everything that the broker reads of a request before a service sees it.
#include "executor/broker/container_policy.hpp"
#include "executor/broker/request.hpp"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text{reinterpret_cast<const char*>(bytes), size};
  if (auto target = slipway::broker::parse_target(text)) {
    (void)slipway::broker::parse_build_query(target->query);
    (void)slipway::broker::parse_image_filters(target->query.get("filters"));
  }
  (void)slipway::broker::parse_build_json(text);
  (void)slipway::broker::parse_index_json(text);
  (void)slipway::broker::parse_session_json(text);
  (void)slipway::broker::parse_fetch_json(text);
  (void)slipway::broker::check_container(text, {"/builds", "/run/slipway.sock"}).ok();
  for (const auto call :
       {slipway::broker::ContainerCall::create_network,
        slipway::broker::ContainerCall::create_volume, slipway::broker::ContainerCall::create_exec,
        slipway::broker::ContainerCall::update_container})
    (void)slipway::broker::check_body(call, text).ok();
  (void)slipway::broker::parse_image_filters(text);
  return 0;
}
