// SPDX-License-Identifier: Apache-2.0
// For sandboxes whose root holds no program that could be trusted to print a file.
#pragma once

namespace slipway::init {

/// Writes the files to standard output, one after the other: regular files alone, and no link.
/// Returns the exit code: 1 where one cannot be read, with a word on standard error.
int print_files(const char* const* files, int count);

} // namespace slipway::init
