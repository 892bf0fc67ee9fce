// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/gate.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate/scan_owner.hpp"
#include "executor/gate/sealed_program.hpp"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <future>
#include <variant>

namespace slipway::gate {
namespace {

constexpr std::size_t kMaxReportBytes = 64UL << 20; // several times as much memory once it is read
constexpr const char* kScannersProcess = "io.slipway.pid"; ///< label: who reads the scan's report
// Where things lie in the sandbox. Trivy cuts --input at the first '@' or ':'.
constexpr const char* kInit = "/opt/slipway-init";
constexpr const char* kContent = "/opt/layout";

using Sealed = std::shared_ptr<const SealedProgram>;

/// By the kernel or by slipway: `podman start --attach` tells it as a shell does.
bool was_killed(const process::Ending& ending) {
  const auto* exited = std::get_if<process::Exited>(&ending);
  const auto* signaled = std::get_if<process::Signaled>(&ending);
  return (exited != nullptr && exited->code == 128 + SIGKILL) ||
         (signaled != nullptr && signaled->signal == SIGKILL);
}

std::string tail_of(const std::string& text) {
  return printable(text.size() > 800 ? std::string_view{text}.substr(text.size() - 800)
                                     : std::string_view{text},
                   1000);
}

} // namespace

SandboxedScanner::SandboxedScanner(Program program, ScannerConfig config, sandbox::Podman& podman,
                                   sandbox::IdSlot ids, std::string owner_label, Started started)
    : program_{std::move(program)}, config_{std::move(config)}, podman_{podman}, ids_{ids},
      owner_label_{std::move(owner_label)}, started_{std::move(started)} {}

Result<Scanner::Report> SandboxedScanner::scan(const std::filesystem::path& layout_dir,
                                               const oci::Digest& manifest) {
  return run(layout_dir, manifest.hex().substr(0, 12),
             program_.arguments(kContent, manifest, kCache));
}

Result<Scanner::Report> SandboxedScanner::scan_after(const std::filesystem::path& layout_dir,
                                                     const oci::Digest& manifest,
                                                     const std::function<bool()>& may_begin) {
  return run(layout_dir, manifest.hex().substr(0, 12),
             program_.arguments(kContent, manifest, kCache), may_begin);
}

Result<Scanner::Report> SandboxedScanner::scan_sbom(const std::filesystem::path& dir) {
  return run(dir, "sbom", program_.sbom_arguments(std::string{kContent} + "/" + kSbomFile, kCache));
}

Result<Scanner::Report> SandboxedScanner::run(const std::filesystem::path& content,
                                              const std::string& name,
                                              std::vector<std::string> arguments,
                                              const std::function<bool()>& may_begin) {
  // While the sandbox comes up: reading it takes half a second. Nothing runs before it is done.
  const std::shared_future<Result<Sealed>> sealed = std::async(std::launch::async, [this] {
    return sealed_scanner(program_.name, program_.file, program_.sha256);
  });
  const auto program = [&]() -> Result<int> {
    const auto& ready = sealed.get();
    if (!ready) return ready.error();
    if (may_begin && !may_begin()) return not_let_begin();
    return (*ready)->fd();
  };
  auto image = podman_.toolbox_image();
  if (!image) return std::move(image).error().in("preparing the scanner's sandbox");

  static std::atomic<unsigned> counter{0};
  sandbox::SandboxSpec spec;
  spec.name =
      "slipway-scan-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + "-" + name;
  spec.labels = {{"io.slipway.role", "scanner"},
                 {"io.slipway.owner", owner_label_},
                 {kScannersProcess, std::to_string(::getpid())}};
  spec.image = *std::move(image);
  // PID 1 executes what it is handed, and is the scanner from then on.
  spec.entrypoint = {kInit, "program", program_.name};
  spec.command = std::move(arguments);
  spec.env = program_.environment;
  spec.user = "65534:65534";
  spec.working_dir = "/tmp"; // empty, its own
  spec.ids = ids_;
  spec.network = "";
  spec.read_only_root = true;
  spec.hostname = "scanner";
  spec.tmpfs = {{"/tmp", "rw,nosuid,nodev,noexec,mode=1777,size=4g"}};
  spec.volumes = {{content.string(), kContent, true}};
  spec.allow(sandbox::HostMount{{config_.init.string(), kInit, true},
                                "slipway-init, which executes the sealed scanner"});
  spec.allow(sandbox::HostMount{{program_.db_dir.string(), std::string{kCache} + "/db", true},
                                "the vulnerability DB, read-only"});
  if (!program_.java_db_dir.empty())
    spec.allow(
        sandbox::HostMount{{program_.java_db_dir.string(), std::string{kCache} + "/java-db", true},
                           "the Java DB, read-only"});
  spec.limits = config_.limits;
  spec.limits.pids = 512;

  auto output = podman_.run_attached(spec, config_.deadline, kMaxReportBytes, started_, program);
  if (const auto& ready = sealed.get(); !ready) return ready.error();
  if (!output) return std::move(output).error();
  if (std::holds_alternative<process::DeadlinePassed>(output->ending)) {
    return Error{ErrorKind::timed_out,
                 "the scanner " + process::describe(output->ending),
                 "raise [gate] timeout for images of this size",
                 {}};
  }
  if (!process::succeeded(output->ending)) {
    return Error{
        ErrorKind::unavailable,
        "the scanner ended with " + process::describe(output->ending) + ": " + tail_of(output->err),
        was_killed(output->ending) && config_.limits.memory_bytes > 0
            ? "it may have had more than its " + std::to_string(config_.limits.memory_bytes >> 20) +
                  " MiB of memory, its files in /tmp included: raise memory in [sandbox]"
            : "",
        {}};
  }
  if (output->out.empty()) {
    return Error{
        ErrorKind::unavailable, "the scanner wrote no report: " + tail_of(output->err), "", {}};
  }
  return Report{.json = std::move(output->out), .diagnostics = std::move(output->err)};
}

Status SandboxedScanner::remove_orphans(sandbox::Podman& podman, const std::string& owner_label) {
  auto all = podman.list("io.slipway.role", "scanner");
  if (!all) return std::move(all).error();
  std::vector<std::string> orphans;
  for (const auto& one : *all) {
    const auto owner = one.labels.find("io.slipway.owner");
    const auto pid = one.labels.find(kScannersProcess);
    if (owner == one.labels.end() || owner->second != owner_label || pid == one.labels.end())
      continue;
    if (is_process_gone(pid->second)) orphans.push_back(one.id);
  }
  return podman.remove(orphans);
}

std::string SandboxedScanner::version() const {
  return program_.name + (program_.sha256.empty()
                              ? std::string{}
                              : " sha256:" + digits_of_pin(program_.sha256).substr(0, 12));
}

} // namespace slipway::gate
