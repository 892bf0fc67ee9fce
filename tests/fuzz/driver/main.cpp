// SPDX-License-Identifier: Apache-2.0
// main() of the fuzz targets where libFuzzer is not linked: the sanitizers' build has them too,
// without a build of their own. It runs every file of the folders it is given, and then, for a
// while, changed and spliced ones. It knows nothing of coverage: to look for what is new there is
// `tests/run fuzz`.
//
//   fuzz_NAME [-seconds=N] [-seed=N] [-crashes=DIR] FOLDER-OR-FILE...
//
// An input that ends the program, or takes longer than 10 s, is kept in DIR as "crash-NAME".
#include <fcntl.h>
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

constexpr std::size_t kMostBytes = 16384;
constexpr unsigned kPatience = 10; // seconds for one input

std::string input;      // what runs now
std::string crash_file; // where it is kept

// May run in a signal's handler.
void keep_input() {
  const int fd = ::open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  (void)!::write(fd, input.data(), input.size());
  (void)!::write(2, "the input is kept in ", 21);
  (void)!::write(2, crash_file.data(), crash_file.size());
  (void)!::write(2, "\n", 1);
}

extern "C" void on_signal(int number) {
  if (number == SIGALRM) (void)!::write(2, "one input takes too long\n", 25);
  keep_input();
  (void)std::signal(number, SIG_DFL);
  (void)::raise(number);
}

class Mutator {
public:
  Mutator(std::uint64_t seed, std::vector<std::string> corpus)
      : random_{seed}, corpus_{std::move(corpus)} {
    for (const auto& one : corpus_)
      add_words(one);
  }

  std::string next() {
    auto text = any(corpus_);
    for (auto rounds = 1 + below(6); rounds > 0; --rounds)
      change(text);
    if (text.size() > kMostBytes) text.resize(kMostBytes);
    return text;
  }

private:
  std::size_t below(std::size_t end) {
    return end == 0 ? 0 : std::uniform_int_distribution<std::size_t>{0, end - 1}(random_);
  }
  const std::string& any(const std::vector<std::string>& of) { return of[below(of.size())]; }

  // Words and numbers of the corpus go where others were.
  void add_words(const std::string& text) {
    std::string word;
    for (const char c : text + "\n") {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_') {
        word += c;
      } else {
        if (!word.empty() && word.size() <= 64 && words_.size() < 2000) words_.push_back(word);
        word.clear();
      }
    }
  }

  void change(std::string& text) {
    static const std::vector<std::string> odd{"0",    "-1",   "18446744073709551616",
                                              "\"",   "'",    "{",
                                              "}",    "[",    "]",
                                              "\\",   "\n",   "..",
                                              "/",    "%00",  "$",
                                              "${",   ":",    "@",
                                              "\xff", "\x80", "*",
                                              "&",    "<<",   "#",
                                              "\r\n", "=",    ",",
                                              "\t",   "//",   "1e9",
                                              "null", " "};
    const auto at = below(text.size() + 1);
    const auto count = std::min(text.size() - at, 1 + below(16));
    switch (below(9)) {
    case 0:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
      break;
    case 1:
      if (at < text.size()) text[at] = static_cast<char>(below(256));
      break;
    case 2:
      text.erase(at, count);
      break;
    case 3:
      text.insert(at, text.substr(at, count));
      break;
    case 4: {
      const auto& other = any(corpus_);
      const auto from = below(other.size() + 1);
      text.insert(at, other, from, 1 + below(64));
      break;
    }
    case 5:
      text.insert(at, any(odd));
      break;
    case 6:
      if (!words_.empty()) text.replace(at, below(2) == 0 ? 0 : count, any(words_));
      break;
    case 7:
      text.resize(at);
      break;
    default: {
      // The same again many times: what grows by nesting or by repetition.
      const auto piece = text.substr(at, count);
      for (auto times = below(200); times > 0 && text.size() < kMostBytes; --times)
        text.insert(at, piece);
    }
    }
  }

  std::mt19937_64 random_;
  std::vector<std::string> corpus_;
  std::vector<std::string> words_;
};

void run(std::string text) {
  input = std::move(text);
  (void)::alarm(kPatience);
  (void)LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  (void)::alarm(0);
}

std::string read_whole(const std::filesystem::path& file) {
  std::ifstream stream{file, std::ios::binary};
  return {std::istreambuf_iterator<char>{stream}, {}};
}

} // namespace

int main(int argc, char** argv) {
  std::chrono::seconds time{0};
  std::uint64_t seed = std::random_device{}();
  std::filesystem::path crashes = ".";
  std::vector<std::string> corpus{""};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("-seconds=")) {
      time = std::chrono::seconds{std::stol(word.substr(9))};
    } else if (word.starts_with("-seed=")) {
      seed = std::stoull(word.substr(6));
    } else if (word.starts_with("-crashes=")) {
      crashes = word.substr(9);
    } else if (std::filesystem::is_directory(word)) {
      for (const auto& entry : std::filesystem::directory_iterator{word})
        corpus.push_back(read_whole(entry.path()));
    } else {
      corpus.push_back(read_whole(word));
    }
  }
  crash_file = (crashes / ("crash-" + std::filesystem::path{argv[0]}.filename().string())).string();
  for (const int number : {SIGALRM, SIGABRT, SIGILL, SIGTRAP})
    (void)std::signal(number, on_signal);
  __sanitizer_set_death_callback(keep_input);

  std::sort(corpus.begin(), corpus.end());
  for (const auto& one : corpus)
    run(one);
  Mutator mutator{seed, corpus};
  std::uint64_t runs = corpus.size();
  const auto end = std::chrono::steady_clock::now() + time;
  for (; std::chrono::steady_clock::now() < end; ++runs)
    run(mutator.next());
  std::printf("%llu inputs, seed %llu\n", static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(seed));
  return 0;
}
