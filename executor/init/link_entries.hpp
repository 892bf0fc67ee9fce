// SPDX-License-Identifier: Apache-2.0
// For sandboxes whose root holds no program that could make a link.
#pragma once

namespace slipway::init {

/// Makes a symbolic link to each entry of `folder`, named `prefix` and the entry's name: what is
/// mounted read-only stands beside what can be written. Returns the exit code: 1 where one cannot
/// be made, with a word on standard error.
int link_entries(const char* folder, const char* prefix);

} // namespace slipway::init
