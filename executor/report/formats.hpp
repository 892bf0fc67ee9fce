// SPDX-License-Identifier: Apache-2.0
// One function a format; see report.hpp.
#pragma once

#include "executor/report/report.hpp"

#include <string>

namespace slipway::report {

std::string gitlab_report(const gate::Verdict& verdict, const Subject& subject);
std::string sarif_report(const gate::Verdict& verdict, const Subject& subject);
std::string junit_report(const gate::Verdict& verdict, const Subject& subject);
std::string html_report(const gate::Verdict& verdict, const Subject& subject);
std::string cyclonedx_report(const gate::Verdict& verdict, const Subject& subject);
std::string spdx_report(const gate::Verdict& verdict, const Subject& subject);

} // namespace slipway::report
