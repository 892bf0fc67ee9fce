// SPDX-License-Identifier: Apache-2.0
// One pass over an image for tests/bench/leak_scan: `verify` reads, expands and hashes all of it,
// `search` does that and searches for SECRETS random tokens. Prints seconds, peak memory (KiB), and
// the seconds of processor time of this thread, which searches, and of the others, which read.
//   leak_scan_pass verify|search LAYOUT SECRETS
#include "executor/leaks/search.hpp"
#include "executor/oci/layout.hpp"

#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string_view>

int main(int argc, char** argv) {
  using namespace slipway;
  if (argc != 4) return 2;
  const auto layout = oci::Layout::open(argv[2]);
  const auto index =
      layout ? layout->index() : Result<std::vector<oci::Descriptor>>{layout.error()};
  if (!index || index->empty()) return 2;
  const auto tree = oci::read_tree(*layout, index->front().digest);
  if (!tree) return 2;

  std::vector<leaks::KnownSecret> known;
  std::mt19937 engine{7};
  constexpr std::string_view kLetters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (int i = 0; i < std::atoi(argv[3]); ++i) { // NOLINT(cert-err34-c): 0 is fine
    std::string value = "glcbt-64_";
    while (value.size() < 29)
      value += kLetters[engine() % kLetters.size()];
    known.push_back({"TOKEN_" + std::to_string(i), Secret{value}, leaks::Kind::token, {}});
  }

  constexpr std::uint64_t kMost = 20UL << 30;
  const auto begin = std::chrono::steady_clock::now();
  if (std::string_view{argv[1]} == "verify") {
    if (!oci::verify_tree(*layout, *tree, kMost)) return 1;
  } else {
    const SystemClock clock;
    leaks::LeakSearch search{{"", kMost}, leaks::SecretSet::from(known, {}), clock};
    const auto report = search.search(*layout, *tree);
    if (!report || !report->hits.empty() || !report->not_searched.empty()) return 1;
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  rusage here{};
  ::getrusage(RUSAGE_THREAD, &here);
  const auto seconds_of = [](const rusage& usage) {
    const auto of = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
  };
  std::cout << seconds.count() << " " << used.ru_maxrss << " " << seconds_of(here) << " "
            << seconds_of(used) - seconds_of(here) << "\n";
  return 0;
}
