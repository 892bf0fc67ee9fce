// SPDX-License-Identifier: Apache-2.0
// The forms in which a secret may lie in an image: what people and programs do to a value before
// they write it down.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace slipway::leaks {

enum class Form { raw, base64, base64_url, hex, url, json };
/// "as it is", "base64", …
const char* form_name(Form form);

struct Text {
  Form form = Form::raw;
  std::string bytes; ///< a secret as much as the value is: the owner wipes it
  bool any_case = false;
};

/// May a part of a form stand for all of it? With `yes` long base64 and hex texts come in pieces,
/// so that one broken into lines is found too: right for values whose every part is random, as
/// those of tokens and keys are. With `no` a long text is what it ends in; with `all` never less
/// than all of it.
enum class Pieces { no, yes, all };

/// All forms of VALUE, each text once: raw; base64 at the three places where it can begin in a
/// group of three bytes, in both alphabets; hex; URL-encoded and JSON-escaped as the usual encoders
/// do.
std::vector<Text> forms_of(std::string_view value, Pieces pieces);

} // namespace slipway::leaks
