// SPDX-License-Identifier: Apache-2.0
#include "executor/engine_api/ssh_agent.hpp"

#include <cstdint>

namespace slipway::engine_api {
namespace {

constexpr std::size_t kLengthBytes = 4;
constexpr char kRequestIdentities = 11;
constexpr char kSignRequest = 13;

} // namespace

bool is_agent_question(std::string_view message) {
  return message.size() == 1 ? message.front() == kRequestIdentities
                             : !message.empty() && message.front() == kSignRequest;
}

std::string agent_frame(std::string_view message) {
  std::string frame;
  frame.reserve(kLengthBytes + message.size());
  for (unsigned shift = 32; shift > 0; shift -= 8)
    frame += static_cast<char>((message.size() >> (shift - 8)) & 0xFFU);
  return frame += message;
}

Result<std::optional<std::string>> AgentMessages::next() {
  if (bytes_.size() < kLengthBytes) return std::optional<std::string>{};
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    length = length << 8U | static_cast<unsigned char>(bytes_[i]);
  if (length > kMaxAgentMessage)
    return Error{ErrorKind::bad_input,
                 "a message of an SSH agent has " + std::to_string(length) + " bytes",
                 "at most " + std::to_string(kMaxAgentMessage) + " are carried",
                 {}};
  if (bytes_.size() < kLengthBytes + length) return std::optional<std::string>{};
  std::optional<std::string> message{bytes_.substr(kLengthBytes, length)};
  bytes_.erase(0, kLengthBytes + length);
  return message;
}

} // namespace slipway::engine_api
