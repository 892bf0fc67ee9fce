// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_response.hpp"

#include "executor/base/file.hpp"
#include "executor/egress/allowlist.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>

namespace slipway::gitlab {
namespace {

using nlohmann::json;

// Reads members that may be absent or null; a wrong type is an error that names the member.
class Members {
public:
  Members(const json& object, std::string where) : object_{object}, where_{std::move(where)} {}

  std::string text(const char* key) const {
    const auto* value = find(key);
    if (value == nullptr) return "";
    if (!value->is_string()) throw wrong(key, "a string");
    return value->get<std::string>();
  }
  std::int64_t number(const char* key) const {
    const auto* value = find(key);
    if (value == nullptr) return 0;
    if (!value->is_number_integer()) throw wrong(key, "a number");
    return value->get<std::int64_t>();
  }
  bool flag(const char* key) const {
    const auto* value = find(key);
    if (value == nullptr) return false;
    if (!value->is_boolean()) throw wrong(key, "true or false");
    return value->get<bool>();
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> result;
    for (const auto& item : items(key)) {
      if (!item.is_string()) throw wrong(key, "a list of strings");
      result.push_back(item.get<std::string>());
    }
    return result;
  }
  const json& items(const char* key) const {
    static const json kNone = json::array();
    const auto* value = find(key);
    if (value == nullptr) return kNone;
    if (!value->is_array()) throw wrong(key, "a list");
    return *value;
  }
  Members object(const char* key) const {
    static const json kNone = json::object();
    const auto* value = find(key);
    if (value != nullptr && !value->is_object()) throw wrong(key, "an object");
    return {value == nullptr ? kNone : *value, where_ + "." + key};
  }
  bool has(const char* key) const { return find(key) != nullptr; }
  auto members() const { return object_.items(); }

private:
  struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  const json* find(const char* key) const {
    const auto at = object_.find(key);
    return at == object_.end() || at->is_null() ? nullptr : &*at;
  }
  Wrong wrong(const char* key, const char* expected) const {
    return Wrong{where_ + "." + key + " is not " + expected};
  }
  const json& object_;
  std::string where_;
};

Members as_object(const json& value, const std::string& where) {
  if (!value.is_object()) throw std::runtime_error{where + " is not an object"};
  return {value, where};
}

Variable variable_from(const json& value, const std::string& where) {
  const auto members = as_object(value, where);
  return {members.text("key"),  members.text("value"),  members.flag("public"),
          members.flag("file"), members.flag("masked"), members.flag("raw")};
}

std::vector<std::string> split_aliases(const std::string& text) {
  std::vector<std::string> aliases;
  std::string current;
  for (const char c : text + " ") {
    if (c == ' ' || c == ',') {
      if (!current.empty()) aliases.push_back(std::move(current));
      current.clear();
    } else {
      current += c;
    }
  }
  return aliases;
}

Image image_from(const json& value, const std::string& where) {
  const auto members = as_object(value, where);
  Image image;
  image.name = members.text("name");
  image.aliases = split_aliases(members.text("alias"));
  image.has_entrypoint = members.has("entrypoint") && !members.items("entrypoint").empty();
  image.entrypoint = members.texts("entrypoint");
  if (image.entrypoint == std::vector<std::string>{""}) image.entrypoint.clear();
  image.command = members.texts("command");
  image.pull_policies = members.texts("pull_policy");
  for (const auto& variable : members.items("variables")) {
    image.variables.push_back(variable_from(variable, where + ".variables"));
  }
  const auto docker = members.object("executor_opts").object("docker");
  image.user = docker.text("user");
  image.platform = docker.text("platform");
  return image;
}

const Variable* last_of(const std::vector<Variable>& variables, const std::string& key) {
  const auto found = std::find_if(variables.rbegin(), variables.rend(),
                                  [&](const Variable& v) { return v.key == key; });
  return found == variables.rend() ? nullptr : &*found;
}

// What the runner adds to the payload's, as far as the value of a variable may be made of it.
// Source: GitLab Runner 19.4, common/build.go, GetAllVariables.
constexpr const char* kSetByRunner[] = {"CI_BUILDS_DIR", "CI_PROJECT_DIR", "CI_CONCURRENT_ID",
                                        "CI_CONCURRENT_PROJECT_ID"};

} // namespace

std::string JobResponse::variable(const std::string& key) const {
  const auto* found = last_of(variables, key);
  return found == nullptr ? "" : found->value;
}

std::string JobResponse::expand(const std::string& text) const {
  const auto value_of = [this](const std::string& key) {
    const auto* found = last_of(variables, key);
    if (found == nullptr) found = last_of(runner_variables, key);
    return found == nullptr ? std::string{} : found->value;
  };
  const auto is_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '$' || i + 1 == text.size()) {
      result += text[i++];
    } else if (text[i + 1] == '$') {
      result += '$';
      i += 2;
    } else if (text[i + 1] == '{') {
      const auto end = text.find('}', i);
      if (end == std::string::npos) return result + text.substr(i);
      result += value_of(text.substr(i + 2, end - i - 2));
      i = end + 1;
    } else if (is_name(text[i + 1])) {
      auto end = i + 1;
      while (end < text.size() && is_name(text[end]))
        ++end;
      result += value_of(text.substr(i + 1, end - i - 1));
      i = end;
    } else {
      result += text[i++];
    }
  }
  return result;
}

bool JobResponse::helper_needs_network() const {
  const auto strategy = expand(variable("GIT_STRATEGY"));
  return has_transfers || !services.empty() || (strategy != "none" && strategy != "empty");
}

std::vector<std::string> JobResponse::sources_host() const {
  const bool tls = repo_url.starts_with("https://");
  if (!tls && !repo_url.starts_with("http://")) return {};
  auto authority = repo_url.substr(tls ? 8 : 7);
  authority.resize(std::min(authority.find_first_of("/?#"), authority.size()));
  if (const auto at = authority.rfind('@'); at != std::string::npos) authority.erase(0, at + 1);
  const auto target = egress::Target::parse(authority, tls ? 443 : 80);
  return target ? std::vector{target->str()} : std::vector<std::string>{};
}

Result<JobResponse> parse_job_response(const std::string& text) {
  try {
    const auto document = json::parse(text);
    const auto root = as_object(document, "job");
    JobResponse job;
    job.id = root.number("id");
    job.token = root.text("token");
    if (job.id <= 0) throw std::runtime_error{"job.id is missing"};
    if (job.token.empty()) throw std::runtime_error{"job.token is missing"};
    const auto info = root.object("job_info");
    job.project = info.text("project_full_path");
    // Without it all projects would share one trust domain: builder, base images and cache.
    if (job.project.empty()) throw std::runtime_error{"job.job_info.project_full_path is missing"};
    job.project_id = info.number("project_id");
    job.job_name = info.text("name");
    job.pipeline_id = info.number("pipeline_id");
    const auto git = root.object("git_info");
    job.ref = git.text("ref");
    job.ref_type = git.text("ref_type");
    job.sha = git.text("sha");
    job.repo_url = git.text("repo_url");
    job.ref_protected = git.flag("protected");
    for (const auto& variable : root.items("variables"))
      job.variables.push_back(variable_from(variable, "job.variables"));
    if (root.has("secrets")) {
      for (const auto& [name, request] : as_object(document.at("secrets"), "job.secrets").members())
        job.secret_names.push_back(name);
    }
    if (root.has("image")) {
      auto image = image_from(document.at("image"), "job.image");
      if (!image.name.empty()) job.image = std::move(image);
    }
    for (const auto& service : root.items("services"))
      job.services.push_back(image_from(service, "job.services"));
    for (const auto& credential : root.items("credentials")) {
      const auto members = as_object(credential, "job.credentials");
      if (members.text("type") != "registry") continue;
      job.registries.push_back(
          {members.text("url"), members.text("username"), Secret{members.text("password")}});
    }
    for (const char* member : {"artifacts", "cache", "dependencies", "hooks"})
      job.has_transfers = job.has_transfers || !root.items(member).empty();
    return job;
  } catch (const std::exception& refused) {
    // nlohmann's parse errors quote the input near the fault; a payload holds secrets.
    const std::string why = dynamic_cast<const json::exception*>(&refused) == nullptr
                                ? refused.what()
                                : "it is no valid JSON";
    return Error{ErrorKind::misconfigured,
                 "the job payload cannot be read: " + why,
                 "this slipway expects the payload of GitLab Runner 17.9 or later",
                 {}};
  }
}

Result<JobResponse> read_job_response(const std::filesystem::path& file,
                                      const EnvironmentLookup& environment) {
  if (file.empty()) {
    return Error{ErrorKind::misconfigured,
                 "JOB_RESPONSE_FILE is not set",
                 "slipway is started by GitLab Runner's custom executor, not by hand",
                 {}};
  }
  auto text = read_file(file, kMaxJobResponseBytes);
  if (!text) {
    auto error = std::move(text).error();
    error.kind = ErrorKind::misconfigured;
    return std::move(error).in("reading the job payload (JOB_RESPONSE_FILE)");
  }
  auto job = parse_job_response(*text);
  if (!job) return job;
  const auto value_of = [&](const std::string& name) {
    return environment(("CUSTOM_ENV_" + name).c_str());
  };
  for (const auto& name : job->secret_names)
    if (const char* value = value_of(name))
      job->variables.push_back({name, value, false, false, true, true});
  for (const auto* name : kSetByRunner)
    if (const char* value = value_of(name)) job->runner_variables.push_back({name, value, true});
  return job;
}

bool is_docker_in_docker(const std::string& image_name) {
  const auto slash = image_name.rfind('/');
  auto last = slash == std::string::npos ? image_name : image_name.substr(slash + 1);
  last = last.substr(0, last.find('@'));
  const auto colon = last.find(':');
  if (colon == std::string::npos) return last == "dind" || last == "docker-dind";
  const auto name = last.substr(0, colon);
  const auto tag = last.substr(colon + 1);
  return (name == "docker" && tag.find("dind") != std::string::npos) || name == "docker-dind" ||
         name == "dind";
}

std::vector<std::string> service_aliases(const Image& service) {
  auto aliases = service.aliases;
  auto name = service.name.substr(0, service.name.find('@'));
  const auto slash = name.rfind('/');
  const auto colon = name.find(':', slash == std::string::npos ? 0 : slash);
  name = name.substr(0, colon);
  if (const auto port = name.find(':'); port != std::string::npos) {
    const auto rest = name.find('/', port);
    name.erase(port, rest == std::string::npos ? std::string::npos : rest - port); // registry port
  }
  for (const std::string& joint : {std::string{"__"}, std::string{"-"}}) {
    std::string alias;
    for (const char c : name)
      alias += c == '/' ? joint : std::string{c};
    if (std::find(aliases.begin(), aliases.end(), alias) == aliases.end()) aliases.push_back(alias);
  }
  return aliases;
}

} // namespace slipway::gitlab
