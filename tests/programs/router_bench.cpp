// SPDX-License-Identifier: Apache-2.0
// Reads a Dockerfile, collects what it needs and chooses, ROUNDS times; prints the milliseconds of
// each round. Nothing is read or written in between.
#include "executor/base/file.hpp"
#include "executor/router/choice.hpp"

#include <chrono>
#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
  using namespace slipway;
  if (argc != 3) {
    std::cerr << "usage: router_bench DOCKERFILE ROUNDS\n";
    return 2;
  }
  const auto text = read_file(argv[1], dockerfile::kMaxDockerfileBytes);
  if (!text) {
    std::cerr << text.error().text() << "\n";
    return 2;
  }
  std::vector<backends::Descriptor> set_up;
  for (const auto& name : router::backend_names())
    set_up.push_back(router::well_kept(name));
  for (long round = std::strtol(argv[2], nullptr, 10); round > 0; --round) {
    const auto start = std::chrono::steady_clock::now();
    const auto parsed = dockerfile::parse(*text);
    if (!parsed) {
      std::cerr << parsed.error().text() << "\n";
      return 1;
    }
    const auto needs = router::requirements(*parsed, {}, {}, {});
    if (!needs) {
      std::cerr << needs.error().text() << "\n";
      return 1;
    }
    const auto decision = router::choose(*needs, set_up, {}, "");
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    if (decision.chosen != "buildkit") return 1;
    std::cout << took.count() << "\n";
  }
  return 0;
}
