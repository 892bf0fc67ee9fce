// SPDX-License-Identifier: Apache-2.0
// What an operator asks about credentials: which are out (`slipway leases`), and what each issuer
// can do and what is wrong with it (`slipway doctor`).
#pragma once

#include "config/config.hpp"
#include "executor/base/clock.hpp"
#include "executor/base/result.hpp"
#include "executor/cli/backends.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/gate/gate.hpp"
#include "executor/gate_worker/image_reader.hpp"
#include "executor/sandbox/id_slots.hpp"
#include "executor/state/leases.hpp"

#include <functional>
#include <ostream>
#include <vector>

namespace slipway::cli {

/// One line for each lease, the oldest first, below a line of headings.
void print_leases(const std::vector<state::LeaseRecord>& leases, std::ostream& out);

/// Asks a credential's issuer what it can do, without minting.
using Describe =
    std::function<Result<engine_api::IssuerFacts>(const engine_api::IssuerSpec& issuer)>;

/// Each credential with its type, what its issuer can do and the age of a static one; then what is
/// wrong and what to do about it. Returns how many problems there are.
int doctor(const config::Config& config, const std::vector<state::LeaseRecord>& leases,
           const Clock& clock, const Describe& describe, std::ostream& out);

/// Each tool that builds, as `slipway backends` has it; then what of the policy cannot be done
/// here: nothing builds at all, or a rule pins what is not set up. Returns how many problems there
/// are.
int doctor_backends(const config::Config& config, const std::vector<Tool>& tools,
                    std::ostream& out);

/// How many ranges of ids of their own the configuration wants.
sandbox::SlotWishes slot_wishes(const config::Config& config);

/// Who has ranges of ids of their own, and what shares where they are too few. No problem: it
/// works.
void doctor_ids(const sandbox::SlotPlan& plan, const sandbox::SlotWishes& wishes,
                std::ostream& out);

/// What jobs may connect to, by default and by each rule that says so; a rule that only learns is a
/// problem. Returns how many there are.
int doctor_egress(const config::Config& config, std::ostream& out);

/// What a sandbox may use at most, as configured, and what nothing bounds.
void doctor_limits(const config::Config& config, std::ostream& out);

/// What signs pushed images, and which of the files that it needs are missing or open to others.
/// Nothing is signed. Returns how many problems there are.
int doctor_signing(const config::Config& config, std::ostream& out);

/// Who takes images out as files, which no gate has judged.
void doctor_save(const config::Config& config, std::ostream& out);

/// Whether slipway-gate runs here and how far it is confined: it is asked for an image that is not
/// in the empty layout EMPTY. Returns how many problems there are.
int doctor_gate(gate_worker::ImageReader& gate, const oci::Layout& empty, int landlock_abi,
                std::ostream& out);

/// Whether the gate's scanners are there, are the pinned programs and no known malicious release,
/// and find a vulnerability that they are shown, each time anew: one that finds nothing says
/// nothing else. What is not the pinned program is not started; one without a pin is told, and is
/// no problem. `second` is not asked where `scanner` names none. Returns how many problems there
/// are.
int doctor_scanners(const gate::ScannerConfig& scanner, gate::Scanner& first, gate::Scanner& second,
                    std::ostream& out);

/// As doctor_gate() of slipway-push; ANSWER: to a request without an address, which one that works
/// calls bad_input.
int doctor_push(const Result<std::string>& answer, int landlock_abi, std::ostream& out);

} // namespace slipway::cli
