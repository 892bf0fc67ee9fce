// SPDX-License-Identifier: Apache-2.0
#include "executor/router/layer_lines.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace slipway::router {
namespace {

const char* const kDockerfile = R"(FROM debian:12 AS base
ARG VERSION=1
RUN apt-get update \
 && apt-get install -y "tool=$VERSION"
ONBUILD COPY late /late

FROM golang AS build
RUN go build

FROM base
ENV A=b \
    C=d
WORKDIR /srv
COPY --from=build /app .
RUN <<END
make
END
CMD ["./app"]
)";

/// created_by, and whether it made a layer.
using Steps = std::vector<std::pair<std::string, bool>>;

std::vector<int> lines_of(const Steps& steps, const char* text = kDockerfile,
                          const std::string& target = "") {
  oci::ImageConfig config;
  for (const auto& [made_by, is_layer] : steps) {
    config.history.push_back({"", made_by, "", !is_layer});
    if (is_layer)
      config.diff_ids.push_back(oci::Digest::of(std::to_string(config.diff_ids.size())));
  }
  const auto file = dockerfile::parse(text);
  EXPECT_TRUE(file.ok());
  dockerfile::Scope scope;
  scope.target = target;
  return layer_lines(*file, scope, config);
}

const std::pair<std::string, bool> kBase{"# debian.sh --arch 'amd64' out/ 'bookworm'", true};
const std::pair<std::string, bool> kBaseCmd{R"(CMD ["bash"])", false};

TEST(LayerLines, OfBuildKitsHistory) {
  EXPECT_EQ(lines_of({kBase,
                      kBaseCmd,
                      {"ARG VERSION=1", false},
                      {"RUN |1 VERSION=1 /bin/sh -c apt-get update  && apt-get install -y "
                       "\"tool=$VERSION\" # buildkit",
                       true},
                      {"ONBUILD COPY late /late", false},
                      {"COPY late /late # buildkit", true},
                      {"ENV A=b C=d", false},
                      {"WORKDIR /srv", true},
                      {"COPY /app . # buildkit", true},
                      {"RUN |1 VERSION=1 /bin/sh -c make\n # buildkit", true},
                      {R"(CMD ["./app"])", false}}),
            (std::vector{0, 3, 5, 13, 14, 15}));
}

TEST(LayerLines, OfDockersAndBuildahsHistory) {
  EXPECT_EQ(
      lines_of({kBase,
                {R"(/bin/sh -c #(nop)  CMD ["bash"])", false},
                {"/bin/sh -c #(nop)  ARG VERSION=1", false},
                {"|1 VERSION=1 /bin/sh -c apt-get update  && apt-get install -y \"tool=$VERSION\"",
                 true},
                {"/bin/sh -c #(nop)  ONBUILD COPY late /late", false},
                {"/bin/sh -c #(nop) COPY file:9f in /late ", true},
                {"/bin/sh -c #(nop)  ENV A=b C=d", false},
                {"/bin/sh -c #(nop) WORKDIR /srv", true},
                {"/bin/sh -c #(nop) COPY file:77 in . ", true},
                {"/bin/sh -c make\n", true},
                {R"(/bin/sh -c #(nop)  CMD ["./app"])", false}}),
      (std::vector{0, 3, 5, 13, 14, 15}));
}

TEST(LayerLines, OfABackendThatTellsOfLayersAlone) {
  EXPECT_EQ(lines_of({kBase,
                      kBaseCmd,
                      {"RUN apt-get update  && apt-get install -y \"tool=$VERSION\"", true},
                      {"COPY late /late", true},
                      {"WORKDIR /srv", true},
                      {"COPY --from=build /app .", true},
                      {"RUN make", true}}),
            (std::vector{0, 3, 5, 13, 14, 15}));
}

TEST(LayerLines, OfAnEarlierTarget) {
  EXPECT_EQ(lines_of({kBase, {"RUN /bin/sh -c go build # buildkit", true}}, kDockerfile, "build"),
            (std::vector{0, 8}));
}

TEST(LayerLines, AreNotGuessedWhereTheHistoryIsAnother) {
  // One layer of all instructions, told as the last of them.
  EXPECT_EQ(lines_of({kBase, {"/bin/sh -c #(nop) CMD [\"./app\"]", true}}), (std::vector{0, 0}));
  // A command that no line has: neither this layer nor those below.
  EXPECT_EQ(lines_of({{"COPY a b", true}, {"RUN /bin/sh -c wget evil", true}, {"COPY c d", true}},
                     "FROM x\nCOPY a b\nRUN make\nCOPY c d\n"),
            (std::vector{0, 0, 4}));
  // A layer without an entry.
  oci::ImageConfig config;
  config.diff_ids = {oci::Digest::of("a"), oci::Digest::of("b")};
  config.history = {{"", "RUN make", "", false}};
  EXPECT_TRUE(layer_lines(*dockerfile::parse("FROM x\nRUN make\n"), {}, config).empty());
  // No such target.
  EXPECT_TRUE(lines_of({kBase}, kDockerfile, "gone").empty());
}

TEST(LayerLines, OfScratchWithoutALayer) {
  EXPECT_TRUE(lines_of({{"LABEL a=b", false}}, "FROM scratch\nLABEL a=b\n").empty());
}

} // namespace
} // namespace slipway::router
