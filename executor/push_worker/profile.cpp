// SPDX-License-Identifier: Apache-2.0
#include "executor/push_worker/profile.hpp"

#include <string_view>

namespace slipway::push_worker {

namespace {

/// Read by OpenSSL, by the resolver (nsswitch.conf(5), resolv.conf(5)) and by the loader for the
/// modules that these name. Not the whole of /etc: other credentials of the service user are there.
constexpr std::string_view kOfTheSystem[]{"/etc/ssl/certs",
                                          "/etc/ssl/openssl.cnf",
                                          "/etc/ssl/ca-bundle.pem",
                                          "/etc/ca-certificates",
                                          "/var/lib/ca-certificates",
                                          "/etc/pki/tls/certs",
                                          "/etc/pki/tls/openssl.cnf",
                                          "/etc/pki/ca-trust",
                                          "/etc/crypto-policies",
                                          "/usr/share/ca-certificates",
                                          "/usr/local/share/ca-certificates",
                                          "/etc/resolv.conf",
                                          "/etc/hosts",
                                          "/etc/host.conf",
                                          "/etc/nsswitch.conf",
                                          "/etc/gai.conf",
                                          "/etc/services",
                                          "/etc/ld.so.cache",
                                          "/usr/lib",
                                          "/usr/lib64",
                                          "/lib",
                                          "/lib64"};

class Reading {
public:
  explicit Reading(confine::Profile& profile) : profile_{profile} {}
  void file(const std::string& path) {
    if (!path.empty()) profile_.read_if_there.emplace_back(path);
  }
  /// Settings that name files end so: config/credential_types.hpp.
  void files_of(const engine_api::IssuerSpec& issuer) {
    for (const auto& [key, value] : issuer.settings)
      if (key.ends_with("_file")) file(value);
  }
  void files_of(const engine_api::RegistryAccess& registry) {
    file(registry.ca_file);
    file(registry.password_file);
    if (registry.lease) files_of(registry.lease->issuer);
  }

private:
  confine::Profile& profile_;
};

} // namespace

confine::Profile profile_of(const engine_api::WorkerRequest& request) {
  confine::Profile profile{"slipway-push", {}, {}, {}, confine::Network::outgoing};
  Reading reading{profile};
  for (const auto path : kOfTheSystem)
    reading.file(std::string{path});
  if (request.push) {
    reading.file(request.push->layout_dir);
    reading.files_of(request.push->registry);
    if (const auto& signing = request.push->signing) {
      reading.file(signing->key_file);
      reading.file(signing->public_key_file);
    }
  }
  if (request.pull) {
    if (!request.pull->manifest_only && !request.pull->login_only)
      profile.write.emplace_back(request.pull->layout_dir);
    reading.files_of(request.pull->registry);
  }
  if (request.issuer) reading.files_of(request.issuer->issuer);
  if (request.keys) reading.file(request.keys->ca_file);
  return profile;
}

} // namespace slipway::push_worker
