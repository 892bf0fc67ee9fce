// SPDX-License-Identifier: Apache-2.0
// A docker command line, understood: what the user asked for, in words that the broker knows, or
// the refusal that the user reads. Parsing touches neither files nor sockets.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace slipway::shim {

using Environment = std::map<std::string, std::string>;
using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Docker's code for "the command line itself is wrong".
constexpr int kUsageExit = 125;

/// Everything is known already: print and end (help, refusals, commands that have nothing to do).
struct Say {
  std::string out;
  std::string err;
  int exit_code = 0;
};

struct Build {
  std::string called;  ///< "docker build", "docker buildx build": for messages
  std::string dialect; ///< "docker" | "buildx"
  std::string context; ///< PATH or "-"
  std::string file;    ///< -f as typed; "" = Dockerfile of the context; "-" = stdin
  std::vector<std::string> tags;
  Pairs build_args;
  Pairs labels;
  Pairs extra_hosts;
  std::string target;
  std::string platform;
  std::string network;
  bool no_cache = false;
  bool pull = false;
  bool quiet = false;
  bool push = false;
  bool classic_output = false; ///< DOCKER_BUILDKIT=0: progress on stdout, "Successfully built …"
  std::vector<std::string>
      archives; ///< -o type=docker|oci,dest=…: written after the build ("-": stdout)
  std::string iidfile;
  std::string metadata_file;
  std::vector<std::string> notes; ///< said on stderr before the build starts
};

struct Push {
  std::string image;
  bool all_tags = false;
  bool quiet = false;
};

struct Pull {
  std::string image;
  std::string platform;
  bool quiet = false;
};

struct Login {
  bool password_from_stdin = false;
  std::string warning; ///< docker's own about -p, for stderr
};

struct Tag {
  std::string source;
  std::string target;
};

struct ListImages {
  std::string pattern; ///< positional REPOSITORY[:TAG]
  std::vector<std::pair<std::string, std::string>> filters;
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  bool digests = false;
};

struct RemoveImages {
  std::vector<std::string> images;
  bool force = false;
};

struct Inspect {
  std::vector<std::string> names;
  std::string format;
  bool image_only =
      true; ///< `docker image inspect`, `--type image`; else the words are "No such object"
};

struct History {
  std::string image;
  std::string format;
  bool quiet = false;
  bool no_trunc = false;
  bool human = true;
};

struct Save {
  std::vector<std::string> images;
  std::string output; ///< "" = stdout
};

struct Load {
  std::string input; ///< "" = stdin
  bool quiet = false;
};

struct Info {
  std::string format;
};

struct Version {
  std::string format;
};

/// `docker image prune` and kin: asks the broker where it knows how, succeeds in any case.
struct Prune {
  std::string endpoint; ///< "/images/prune", "/build/prune", "" = nothing to ask
  bool all = false;     ///< images with names too
};

using Command = std::variant<Say, Build, Push, Pull, Login, Tag, ListImages, RemoveImages, Inspect,
                             History, Save, Load, Info, Version, Prune>;

/// Reads a whole command line; argv[0] decides between docker and the buildx plug-in.
Command parse(const std::vector<std::string>& argv, const Environment& env);

} // namespace slipway::shim
