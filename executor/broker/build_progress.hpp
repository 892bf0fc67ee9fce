// SPDX-License-Identifier: Apache-2.0
// A build's plain output, as BuildKit's clients want it: steps that begin and end, and lines that
// belong to one. Output of another backend, which knows no such steps, belongs to one step of ours.
// Source: moby/buildkit, api/services/control/control.proto (StatusResponse), and
// util/progress/progressui for the plain form that is read here.
#pragma once

#include "executor/base/result.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace slipway::broker {

class BuildProgress {
public:
  /// `ref` keeps the steps of two builds apart. `send` gets a StatusResponse each.
  BuildProgress(std::string ref, std::function<void(std::string)> send)
      : ref_{std::move(ref)}, send_{std::move(send)} {}

  /// Text as it comes, cut anywhere.
  void take(std::string_view text);
  /// The last word; `error` is "" where all went well.
  void end(const std::string& error);

private:
  struct Step {
    std::string digest;
    std::string name;
    std::string started; ///< an encoded Timestamp
    bool ended = false;
    bool cached = false;
    std::string error;
  };

  void line(std::string_view text);
  Step* step_of(std::string_view number);
  Step& own_step();
  Step& begin(const std::string& key, std::string name);
  void send_step(const Step& step);
  void send_log(const Step& step, std::string_view text);

  std::string ref_;
  std::function<void(std::string)> send_;
  std::string partial_;
  std::map<std::string, Step> steps_; ///< by BuildKit's number; "" is our own
};

} // namespace slipway::broker
