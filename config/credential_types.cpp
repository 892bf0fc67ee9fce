// SPDX-License-Identifier: Apache-2.0
// One row for each type; its provider is the file of the same name in
// executor/credentials/providers.
#include "config/credential_types.hpp"

namespace slipway::config {

using enum SettingKind;

const std::vector<CredentialType>& credential_types() {
  static const std::vector<CredentialType> types{
      {"acr",
       "Azure Container Registry: the host's token, by a federated credential of an app or "
       "identity",
       {
           {"tenant", text, true, "", "of Entra ID: a UUID or a domain"},
           {"client_id", text, true, "", "of the app registration or managed identity"},
           {"client_assertion_file", file, true, "", "the host's own token"},
           {"authority_url", url, false, "https://login.microsoftonline.com", ""},
           {"registry_url", url, false, "", "\"\" = https:// and the registry's host"},
       }},
      {"ecr",
       "AWS ECR: a role assumed for one repository, by a web identity token or the instance's role",
       {
           {"region", text, true, "", "eu-central-1"},
           {"role_arn", text, true, "", "the role to assume: arn:aws:iam::123456789012:role/NAME"},
           {"identity",
            choice,
            false,
            "web_identity",
            "what the role is assumed with",
            {"web_identity", "instance_role"}},
           {"web_identity_token_file", file, false, "", "web_identity: the host's own token"},
           {"account", text, false, "", "of the registry; \"\" = the role's"},
           {"sts_url", url, false, "", "\"\" = https://sts.REGION.amazonaws.com"},
           {"ecr_url", url, false, "", "\"\" = https://api.ecr.REGION.amazonaws.com"},
           {"metadata_url", text, false, "http://169.254.169.254", "instance_role: IMDSv2"},
       }},
      {"gar",
       "Google Artifact Registry: the host's token, exchanged, impersonates one service account",
       {
           {"audience", text, true, "", "//iam.googleapis.com/projects/N/…/providers/NAME"},
           {"subject_token_file", file, true, "", "the host's own token"},
           {"subject_token_type", text, false, "urn:ietf:params:oauth:token-type:jwt", "of it"},
           {"service_account", text, true, "", "NAME@PROJECT.iam.gserviceaccount.com"},
           {"sts_url", url, false, "https://sts.googleapis.com", ""},
           {"iam_url", url, false, "https://iamcredentials.googleapis.com", ""},
       }},
      {"vault",
       "HashiCorp Vault or OpenBao: a login with AppRole, a JWT or a certificate; a secret of a "
       "dynamic engine, or of KV",
       {
           {"url", url, true, "", "https://vault.example:8200"},
           {"namespace", text, false, "", "namespace header; \"\" = none"},
           {"auth", choice, true, "", "how slipway logs in", {"approle", "jwt", "cert"}},
           {"auth_mount", text, false, "", "where the method is mounted; \"\" = its own name"},
           {"role", text, false, "", "jwt, cert: the role to log in with"},
           {"role_id", text, false, "", "approle: the RoleID"},
           {"secret_id_file", file, false, "", "approle: file with the SecretID"},
           {"jwt_file", file, false, "", "jwt: file with the host's own token"},
           {"jwt_variable", text, false, "", "jwt: name of one of the job's id_tokens: bypassable"},
           {"secret", text, true, "", "path to read: secret/data/registry/app, database/creds/app"},
           {"engine", choice, false, "dynamic", "what stands there", {"kv1", "kv2", "dynamic"}},
           {"username_field", text, false, "username", "member of the answer"},
           {"password_field", text, false, "password", "member of the answer"},
           {"username", text, false, "", "used instead of username_field"},
           {"revoke_by",
            choice,
            false,
            "lease",
            "what a fresh login ends after a crash: the lease, or the login by its accessor",
            {"lease", "accessor"}},
           {"reason", text, false, "", "kv1, kv2: why there is nothing better; for the audit log"},
       }},
      {"command",
       "a program of yours that prints JSON, and others that list and revoke",
       {
           {"argv", list, true, "", "program and arguments that mint; the request is at stdin"},
           {"revoke_argv", list, false, "", "that revoke; [] = cannot be revoked"},
           {"list_argv", list, false, "", "that list what is out; [] = cannot be listed"},
           {"environment", list, false, "PATH=/usr/bin:/bin\n", "all of it: NAME=value, no secret"},
       }},
      {"docker_helper",
       "a docker-credential-* program, asked for one registry",
       {
           {"program", file, true, "", "/usr/local/bin/docker-credential-NAME"},
           {"registry", text, true, "",
            "the only one that it is asked for: host of a [[registry]]"},
           {"server", text, false, "", "what the helper calls it; \"\" = registry"},
           {"lifetime", duration, true, "", "how long what it hands out lives: it does not say"},
           {"environment", list, false, "PATH=/usr/bin:/bin\n", "all of it: NAME=value, no secret"},
       }},
      {"dockerhub",
       "Docker Hub: an organisation access token for one repository, deleted after the push",
       {
           {"url", url, false, "https://hub.docker.com", "of the API"},
           {"organisation", text, true, "", "whose repositories are pushed to"},
           {"username", text, true, "", "an owner of it"},
           {"secret_file", file, true, "", "the owner's personal access token"},
       }},
      {"github",
       "GitHub: an app's installation token, for packages alone, ended after the push",
       {
           {"url", url, false, "https://api.github.com", "of the API"},
           {"app_id", text, true, "", "the app's client id or number"},
           {"installation_id", text, true, "", "number of the app's installation"},
           {"private_key_file", file, true, "", "the app's key, PEM"},
           {"repositories", list, false, "", "names of those that the token is for; [] = all"},
       }},
      {"gitlab_deploy_token",
       "GitLab: a deploy token of the repository's project, made for one push and deleted after it",
       {
           {"url", url, true, "", "https://gitlab.example"},
           {"token_file", file, true, "", "access token with the scope api, role Maintainer"},
           {"project", text, false, "", "path or id; \"\" = looked for by the repository's path"},
       }},
      {"harbor",
       "Harbor: a robot of the repository's project, made for one push and deleted after it",
       {
           {"url", url, true, "", "https://harbor.example"},
           {"username", text, true, "", "account that may create, list and delete robots there"},
           {"password_file", file, true, "", "its password"},
       }},
      {"quay",
       "Quay: a robot account that trusts a token of this host (robot federation)",
       {
           {"url", url, false, "https://quay.io", "of Quay"},
           {"robot", text, true, "", "ORG+NAME"},
           {"token_file", file, false, "", "the host's own token"},
           {"token_variable", text, false, "", "name of one of the job's id_tokens: bypassable"},
           {"repository", text, false, "", "the only one that the robot may write, ORG/NAME"},
       }},
      {"static",
       "a user name and a password that somebody set and must renew: the last resort",
       {
           {"username", text, true, "", "of the registry's account"},
           {"password_file", file, true, "", "read by slipway-push alone; its age is shown"},
           {"reason", text, true, "", "why there is nothing better; stands in the audit log"},
       }},
  };
  return types;
}

const std::vector<Setting>& shared_settings() {
  static const std::vector<Setting> settings{
      {"ca_file", file, false, "", "authorities of the issuer; \"\" = the system's"},
      {"client_cert_file", file, false, "", "PEM, for issuers that want a client certificate"},
      {"client_key_file", file, false, "", "PEM"},
      {"proxy", text, false, "", "http://proxy.example:3128; the environment is not heeded"},
      {"plain_http", toggle, false, "false", "the issuer without TLS: for tests on one machine"},
      {"timeout", duration, false, "30", "of one request"},
      {"max_lifetime", duration, false, "0",
       "longest life of a credential that cannot be revoked; \"0s\" = [push] token_lifetime"},
  };
  return settings;
}

} // namespace slipway::config
