// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/remote_context.hpp"

#include "executor/shim/flags.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

constexpr std::size_t kMaxAddressBytes = 8UL << 10;
constexpr std::string_view kHidden = "***";

Error bad_address(const std::string& text, const std::string& why) {
  return Error{ErrorKind::bad_input, "the address " + shown_address(text) + ": " + why, "", {}};
}

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// None: an escape that is none, or one of a control character.
std::optional<std::string> decoded(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (c == '%') {
      if (at + 2 >= text.size() || hex_value(text[at + 1]) < 0 || hex_value(text[at + 2]) < 0)
        return std::nullopt;
      c = static_cast<char>(hex_value(text[at + 1]) * 16 + hex_value(text[at + 2]));
      at += 2;
    }
    if (is_control(c)) return std::nullopt;
    plain += c;
  }
  return plain;
}

/// An address in its parts, as they stand there.
struct Parts {
  std::string scheme; ///< "" of USER@HOST:PATH
  std::string user_info;
  std::string host; ///< with a port
  std::string path; ///< with its first "/"
  std::string query;
  std::optional<std::string> fragment;
};

/// USER@HOST:PATH. Source: BuildKit util/sshutil.
bool is_scp_form(std::string_view text) {
  const auto at = text.find('@');
  const auto colon = text.find(':');
  if (at == 0 || at == std::string_view::npos || colon == std::string_view::npos ||
      colon < at + 2 || colon + 1 == text.size() || text.find("://") != std::string_view::npos)
    return false;
  const auto user = text.substr(0, at);
  const auto host = text.substr(at + 1, colon - at - 1);
  return std::all_of(user.begin(), user.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_'; }) &&
         host.front() != '-' && std::all_of(host.begin(), host.end(), [](char c) {
           return is_letter_or_digit(c) || c == '-' || c == '.';
         });
}

Parts parts_of(const std::string& text) {
  Parts parts;
  std::string rest = text;
  if (const auto hash = rest.find('#'); hash != std::string::npos) {
    parts.fragment = rest.substr(hash + 1);
    rest.resize(hash);
  }
  if (const auto mark = rest.find('?'); mark != std::string::npos) {
    parts.query = rest.substr(mark + 1);
    rest.resize(mark);
  }
  if (const auto colon = rest.find("://"); colon != std::string::npos) {
    parts.scheme = rest.substr(0, colon);
    rest.erase(0, colon + 3);
    const auto slash = std::min(rest.find('/'), rest.size());
    parts.path = rest.substr(slash);
    parts.host = rest.substr(0, slash);
    if (const auto at = parts.host.rfind('@'); at != std::string::npos) {
      parts.user_info = parts.host.substr(0, at);
      parts.host.erase(0, at + 1);
    }
  } else {
    parts.path = rest;
  }
  return parts;
}

/// A name or an address, IPv6 in brackets, with a port that is a number or without one.
bool is_host(std::string_view host) {
  const bool is_bracketed = host.starts_with('[');
  const auto end = is_bracketed ? host.find(']') : std::min(host.find(':'), host.size());
  if (host.starts_with('-') || end == std::string_view::npos || end == 0) return false;
  const auto name = host.substr(is_bracketed ? 1 : 0, end - (is_bracketed ? 1 : 0));
  const auto port = host.substr(is_bracketed ? end + 1 : end);
  return !name.empty() &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) {
                       return is_letter_or_digit(c) || c == '-' || c == '.' || c == '_' ||
                              (is_bracketed && c == ':');
                     }) &&
         (port.empty() || (port.size() > 1 && port.front() == ':' &&
                           port.find_first_not_of("0123456789", 1) == std::string_view::npos));
}

constexpr const char* kNoServer = "it names no server, or a port that is no number";

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

/// Text of what is wrong, or "". What the fragment says already may be said again, not otherwise.
std::string put(std::string& place, const std::string& value, const std::string& name) {
  if (!place.empty() && place != value) return name + " is said twice: " + place + ", " + value;
  place = value;
  return {};
}

std::string put_switch(const std::string& key, const std::string& value, bool& on) {
  const auto read = value.empty() ? std::optional{true} : parse_bool(value);
  if (!read) return key + " is neither true nor false";
  on = *read;
  return {};
}

/// Text of what is wrong, or "".
std::string read_query(const std::string& query, GitSource& source) {
  std::vector<std::string> seen;
  std::string tag;
  std::string branch;
  for (std::size_t at = 0; at < query.size();) {
    const auto end = std::min(query.find('&', at), query.size());
    const auto part = query.substr(at, end - at);
    at = end + 1;
    if (part.empty()) continue;
    const auto equals = std::min(part.find('='), part.size());
    const auto key = part.substr(0, equals);
    const auto read = decoded(equals < part.size() ? part.substr(equals + 1) : "");
    if (!read) return "an escape of its query cannot be read";
    const bool is_switch = key == "keep-git-dir" || key == "submodules";
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) return key + " is said twice";
    seen.push_back(key);
    if (read->empty() && !is_switch) return "its query has a part without a value";
    std::string wrong;
    bool on = false;
    if (key == "ref")
      wrong = put(source.ref, *read, "ref");
    else if (key == "tag")
      tag = read->starts_with("refs/tags/") ? *read : "refs/tags/" + *read;
    else if (key == "branch")
      branch = read->starts_with("refs/heads/") ? *read : "refs/heads/" + *read;
    else if (key == "subdir")
      wrong = put(source.folder, *read, "subdir");
    else if (key == "checksum" || key == "commit")
      wrong = put(source.commit, lower_case(*read), "checksum");
    else if (is_switch)
      wrong = put_switch(key, *read, on);
    else
      return "its query may have ref, branch, tag, subdir, checksum, commit, keep-git-dir and "
             "submodules, and has another part";
    if (!wrong.empty()) return wrong;
    if (key == "keep-git-dir") source.keeps_git_dir = on;
    if (key == "submodules") source.has_submodules = on;
  }
  if (!tag.empty() && !branch.empty()) return "both a branch and a tag are said";
  for (const auto& ref : {tag, branch})
    if (!ref.empty())
      if (auto wrong = put(source.ref, ref, "ref"); !wrong.empty()) return wrong;
  if (source.ref.empty()) source.ref = source.commit;
  return {};
}

bool is_commit(const std::string& text) {
  constexpr std::size_t kShortest = 7;
  constexpr std::size_t kLongest = 64;
  return text.size() >= kShortest && text.size() <= kLongest &&
         std::all_of(text.begin(), text.end(), [](char c) { return hex_value(c) >= 0; });
}

bool is_whole_commit(const std::string& text) {
  return (text.size() == 40 || text.size() == 64) && is_commit(text);
}

/// The login that stands in an address of http. Text of what is wrong, or "".
std::string take_login(const std::string& user_info, GitSource& source) {
  if (user_info.empty()) return {};
  const auto colon = std::min(user_info.find(':'), user_info.size());
  const auto user = decoded(user_info.substr(0, colon));
  const auto password = decoded(colon < user_info.size() ? user_info.substr(colon + 1) : "");
  if (!user || !password) return "its login cannot be read";
  source.login =
      GitLogin{std::make_shared<const Secret>(*user), std::make_shared<const Secret>(*password)};
  return {};
}

/// Text of what is wrong with what is wanted, or "".
std::string check_wanted(const GitSource& source) {
  if (!source.ref.empty() && !is_git_ref(source.ref))
    return "its reference is none that git would take";
  if (!source.commit.empty() && !is_commit(source.commit))
    return "a commit is 7 to 64 hexadecimal digits";
  return {};
}

Result<GitSource> read_repository(const std::string& text, const Parts& parts) {
  GitSource source;
  if (parts.scheme.empty()) { // USER@HOST:PATH
    source.url = parts.path;
  } else {
    if (!is_host(parts.host)) return bad_address(text, kNoServer);
    const bool is_http = parts.scheme == "http" || parts.scheme == "https";
    // ssh(1) takes no password from an address.
    const std::string user =
        parts.scheme == "ssh" ? parts.user_info.substr(0, parts.user_info.find(':')) : "";
    if (user.starts_with('-')) return bad_address(text, "its user's name begins with a dash");
    source.url = parts.scheme + "://" + (user.empty() ? "" : user + "@") + parts.host + parts.path;
    if (is_http) {
      source.server = parts.scheme + "://" + parts.host;
      if (auto wrong = take_login(parts.user_info, source); !wrong.empty())
        return bad_address(text, wrong);
    }
  }
  if (parts.fragment) {
    const auto fragment = decoded(*parts.fragment);
    if (!fragment) return bad_address(text, "an escape behind # cannot be read");
    if (fragment->starts_with('#')) return bad_address(text, "it has two # one after the other");
    const auto colon = std::min(fragment->find(':'), fragment->size());
    source.ref = fragment->substr(0, colon);
    if (colon < fragment->size()) source.folder = fragment->substr(colon + 1);
  }
  if (auto wrong = read_query(parts.query, source); !wrong.empty()) return bad_address(text, wrong);
  if (auto wrong = check_wanted(source); !wrong.empty()) return bad_address(text, wrong);
  return source;
}

constexpr std::size_t kShortestSecret = 3; ///< what is shorter would tear words apart

/// A token may stand where the user's name does; a name that is none is in many words.
bool is_user_secret(std::string_view password) {
  return password.size() < kShortestSecret || password == "x-oauth-basic";
}

void hide(std::string& text, std::string_view secret) {
  if (secret.size() < kShortestSecret) return;
  for (auto at = text.find(secret); at != std::string::npos;
       at = text.find(secret, at + kHidden.size()))
    text.replace(at, secret.size(), kHidden);
}

std::string check_text(const std::string& text) {
  if (text.size() > kMaxAddressBytes) return "it is longer than 8 KiB";
  if (std::any_of(text.begin(), text.end(), [](char c) { return is_control(c) || c == ' '; }))
    return "it has a blank or a control character";
  return {};
}

} // namespace

bool is_remote_context(const std::string& context) {
  for (const auto* prefix : {"http://", "https://", "git://", "ssh://", "git@", "github.com/",
                             "oci-layout://", "docker-image://"})
    if (context.starts_with(prefix)) return true;
  return is_scp_form(context);
}

bool is_web_address(const std::string& text) {
  return text.starts_with("http://") || text.starts_with("https://");
}

Result<RemoteSource> read_remote(const std::string& text) {
  if (auto wrong = check_text(text); !wrong.empty()) return bad_address(text, wrong);
  const bool is_hub = text.starts_with("github.com/");
  const auto parts = parts_of(is_hub ? "https://" + text : text);
  const bool is_web = parts.scheme == "http" || parts.scheme == "https";
  if (is_web && !is_hub && !parts.path.ends_with(".git")) {
    if (!is_host(parts.host)) return bad_address(text, kNoServer);
    return RemoteSource{WebSource{text}};
  }
  if (!is_web && parts.scheme != "git" && parts.scheme != "ssh" &&
      !(parts.scheme.empty() && is_scp_form(text)))
    return bad_address(text, "only repositories (https, http, ssh, git) and files by https or "
                             "http can be fetched");
  auto source = read_repository(text, parts);
  if (!source) return std::move(source).error();
  return RemoteSource{*std::move(source)};
}

Result<GitSource> read_kaniko_repository(const std::string& address, const std::string& method) {
  const std::string text = method + "://" + address; // so a login in it is known for one
  if (auto wrong = check_text(text); !wrong.empty()) return bad_address(text, wrong);
  std::array<std::string, 3> said;
  std::size_t count = 0;
  for (std::size_t at = 0; at <= text.size(); ++count) {
    if (count == said.size()) return bad_address(text, "it has more than a reference and a commit");
    const auto end = std::min(text.find('#', at), text.size());
    said.at(count) = text.substr(at, end - at);
    at = end + 1;
  }
  auto source = read_repository(text, parts_of(said[0]));
  if (!source) return std::move(source).error();
  // Alone, a whole number is a commit, too, and wins over --git branch=.
  source->commit = lower_case(said[2].empty() && is_whole_commit(said[1]) ? said[1] : said[2]);
  source->ref = source->commit.empty() ? said[1] : source->commit;
  source->has_submodules = false;
  if (auto wrong = check_wanted(*source); !wrong.empty()) return bad_address(text, wrong);
  return source;
}

bool is_git_ref(const std::string& ref) {
  if (ref.empty() || ref.front() == '-' || ref.front() == '+' || ref.front() == '/' ||
      ref.back() == '/' || ref.back() == '.' || ref.find("..") != std::string::npos ||
      ref.find("@{") != std::string::npos || ref == "@" || ref.ends_with(".lock"))
    return false;
  return std::none_of(ref.begin(), ref.end(), [](char c) {
    return is_control(c) || std::string_view{" ~^:?*[\\"}.find(c) != std::string_view::npos;
  });
}

std::string shown_address(const std::string& text) {
  const auto colon = text.find("://");
  // A scheme that is left away is https to its reader, and what is before an @ a login.
  const auto begin = colon == std::string::npos ? 0 : colon + 3;
  const auto end = std::min(text.find_first_of("/?#", begin), text.size());
  std::string shown = text.substr(0, begin);
  const auto authority = text.substr(begin, end - begin);
  const auto at = authority.rfind('@');
  // An unescaped "/", "?" or "#" of a password ends what is taken for the server.
  const auto host = authority.substr(at == std::string::npos ? 0 : at + 1);
  const bool is_cut = at == std::string::npos && host.find(':') != std::string::npos &&
                      text.find('@', end) != std::string::npos;
  for (const auto* scheme : {"http://", "https://", "ssh://", "git://"})
    if (shown == scheme && !host.empty() && (is_cut || !is_host(host)))
      return shown + std::string{kHidden};
  if (at == std::string::npos || (colon == std::string::npos && is_scp_form(text)))
    shown += authority;
  else if (text.starts_with("ssh://"))
    shown += authority.substr(0, std::min(authority.find(':'), at)) + authority.substr(at);
  else
    shown += std::string{kHidden} + authority.substr(at);
  const auto hash = std::min(text.find('#', end), text.size());
  const auto mark = std::min(text.find('?', end), hash);
  shown += text.substr(end, mark - end);
  if (mark < hash) shown += "?" + std::string{kHidden};
  return shown + text.substr(hash);
}

std::string without_secrets(std::string text, const RemoteSource& source) {
  if (const auto* git = std::get_if<GitSource>(&source)) {
    if (git->header) {
      const auto value = git->header->reveal();
      hide(text, value);
      hide(text, value.substr(std::min(value.rfind(' ') + 1, value.size())));
    }
    if (!git->login) return text;
    hide(text, git->login->password->reveal());
    if (is_user_secret(git->login->password->reveal())) hide(text, git->login->user->reveal());
    return text;
  }
  const auto parts = parts_of(std::get<WebSource>(source).url);
  hide(text, parts.user_info);
  hide(text, parts.query);
  const auto colon = std::min(parts.user_info.find(':'), parts.user_info.size());
  const auto password = parts.user_info.substr(std::min(colon + 1, parts.user_info.size()));
  std::vector<std::string> secrets{password};
  if (is_user_secret(password)) secrets.push_back(parts.user_info.substr(0, colon));
  for (const auto& secret : secrets) {
    hide(text, secret);
    if (const auto plain = decoded(secret)) hide(text, *plain);
  }
  return text;
}

} // namespace slipway::shim
