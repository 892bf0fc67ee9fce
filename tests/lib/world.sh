# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# slipway in its whole world: real GitLab Runner, registry, token server, Trivy, BuildKit. Shared by packaging/try and
# the suites of tests/e2e; needs a built slipway. Source it alone, it brings env.sh and images.sh.
#
#   world_start DIR              everything but slipway's own state; sets the variables below
#   world_write_config FILE      a configuration for this world, with the lines $world_gate in [gate]; edit it freely afterwards
#   world_job ID SCRIPT [IMAGE]  prints a GitLab job that runs the text SCRIPT; change it with jq
#   world_run DIR JOB.json...    hands the jobs to a real gitlab-runner; results: world_trace/world_state DIR ID
#   world_leftovers              what is left of jobs: Podman's, slipway's folders, mounts, processes (after 5 s), one a line
#   world_stop                   ends what this started
#
# world_registry   host:port of the registry, as images name it     world_config   the configuration in use
# world_user       the unprivileged user that slipway runs as        world_state_dir  slipway's state_dir
# world_base       base image (Debian)                               world_busybox  the small one
# world_grants     JSON lines: every token that was handed out

# shellcheck source=tests/lib/env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
# shellcheck source=tests/lib/images.sh
. "$(dirname "${BASH_SOURCE[0]}")/images.sh"

world_bin=${SLIPWAY_BIN:-$env_root/build/bin}
world_coordinator_port=$env_coordinator_port

world_start() {
    world_dir=$(realpath -m "$1")
    env_init "$world_dir"
    world_user=${SLIPWAY_TEST_USER:-slipway-test}
    env_user "$world_user" || return 1
    world_kit=$("$env_root/packaging/tools/build" buildkit) &&
        world_trivy=$("$env_root/packaging/tools/build" trivy) &&
        world_runner=$("$env_root/packaging/tools/build" gitlab-runner) || return 1
    env_network && make_ca || return 1
    cat >"$world_dir/users.json" <<'JSON'
{
  "slipway": {"password": "only-slipway-knows-this", "repos": {"*": ["pull", "push"]}},
  "": {"repos": {"base/*": ["pull"]}}
}
JSON
    start_token_server "$world_dir/users.json" && start_registry || return 1
    push_base_images slipway only-slipway-knows-this || return 1
    make_vulnerability_db "$world_dir/trivy-cache" || return 1
    world_registry=$env_registry
    world_base=$env_registry/base/debian:12
    world_busybox=$env_registry/base/busybox:1
    world_grants=$env_grants
    world_state_dir=$world_dir/state
    world_config=$world_dir/etc/config.toml
    install -d -m 0755 "$world_dir/etc" "$world_dir/etc/policy.d"
    install -d -m 0700 -o "$world_user" "$world_state_dir" "$world_dir/runner"
    install -m 0400 -o "$world_user" /dev/null "$world_dir/etc/registry-password"
    printf 'only-slipway-knows-this' >"$world_dir/etc/registry-password"
    world_write_config "$world_config"
    # The suites push to repositories that are not their project's own.
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\n' >"$world_dir/etc/policy.d/90-world.toml"
}

world_write_config() {
    cat >"$1" <<TOML
[slipway]
state_dir = "$world_state_dir"
runtime_dir = "$env_runtime_dir/slipway"
log_level = "debug"

[gitlab]
helper_binary = "$world_runner/bin/gitlab-runner"
default_image = "$world_base"

[[registry]]
host = "$world_registry"
ca_file = "$env_tls/ca.pem"
credential = "operator"
username = "slipway"
password_file = "$world_dir/etc/registry-password"
realm_hosts = ["$env_address:$env_token_port"]

[buildkit]
buildkitd = "$world_kit/bin/buildkitd"
buildctl = "$world_kit/bin/buildctl"
runc = "$(command -v runc)"

[gate]
trivy = "$world_trivy/bin/trivy"
trivy_sha256 = "$(sha256sum "$world_trivy/bin/trivy" | cut -d' ' -f1)"
db_dir = "$world_dir/trivy-cache/db"
threshold = "high"
fixed_only = true
${world_gate:-}

[push]
token_lifetime = "15m"
TOML
}

world_job() {
    jq -n --argjson id "$1" --arg script "$2" --arg image "${3:-$world_base}" --arg registry "$world_registry" \
        --arg url "http://$env_gitlab_address/grp/app.git" '{
        id: $id, token: "glcbt-job-token-\($id)", allow_git_fetch: true,
        job_info: {name: "build-image", stage: "build", pipeline_id: 77, project_id: 42, project_name: "app",
                   project_full_path: "grp/app", user_id: 5},
        git_info: {repo_url: $url, ref: "main", sha: "265c14cf140a66cfc61e40e4ab45c95ba8df5ed1",
                   before_sha: "0000000000000000000000000000000000000000", ref_type: "branch",
                   refspecs: ["+refs/heads/main:refs/remotes/origin/main"], depth: 20, protected: true},
        runner_info: {timeout: 600},
        variables: [
            {key: "CI_JOB_ID", value: "\($id)", public: true}, {key: "CI_PROJECT_ID", value: "42", public: true},
            {key: "CI_RUNNER_ID", value: "1", public: true}, {key: "CI_PROJECT_PATH", value: "grp/app", public: true},
            {key: "CI_JOB_TOKEN", value: "glcbt-job-token-\($id)", masked: true},
            {key: "CI_REGISTRY", value: $registry, public: true},
            {key: "CI_REGISTRY_IMAGE", value: "\($registry)/grp/app", public: true},
            {key: "GIT_STRATEGY", value: "none", public: true}],
        steps: [{name: "script", script: [$script], timeout: 600, when: "on_success", allow_failure: false}],
        image: {name: $image}, services: [], artifacts: [], cache: [], dependencies: [], credentials: [],
        features: {trace_sections: true, failure_reasons: ["unknown_failure", "script_failure", "runner_system_failure",
                   "job_execution_timeout"]}}'
}

# The runner ends after the last job; its own log is OUT/runner.log. Waits at most world_deadline seconds (default 600).
world_run() {
    local out=$1 stage flags=() rc=0
    shift
    mkdir -p "$out"
    world_coordinator_port=$((world_coordinator_port + 1))
    env_serve_address=$env_gitlab_address env_serve "coordinator-$world_coordinator_port" "$world_coordinator_port" python3 \
        "$env_root/tests/gitlab-runner/coordinator.py" "$env_gitlab_address:$world_coordinator_port" "$out" "$@" || return 1
    local coordinator=${env_pids[-1]}
    for stage in config prepare run cleanup; do
        flags+=("--custom-$stage-exec" "$world_bin/slipway")
        local word
        for word in --config "${world_config}" "${world_slipway_args[@]}" gitlab "$stage"; do flags+=("--custom-$stage-args=$word"); done
    done
    timeout --kill-after=30 "${world_deadline:-600}" "$env_lib/as-user" "$world_user" "${world_runner_env[@]}" \
        "$world_runner/bin/gitlab-runner" --log-level info run-single --url "http://$env_gitlab_address:$world_coordinator_port" \
        --token glrt-stub --name try --executor custom --shell bash --builds-dir "$world_dir/runner/builds" \
        --cache-dir "$world_dir/runner/cache" --max-builds $# --wait-timeout 30 "${flags[@]}" \
        --custom-graceful-kill-timeout 20 --custom-force-kill-timeout 5 >"$out/runner.log" 2>&1 || rc=$?
    env_kill "$coordinator"
    unset 'env_pids[-1]'
    return "$rc"
}

# What the user sees in GitLab: the job log without the runner's time stamps and colours.
world_trace() {
    sed -E 's/^[0-9T:.Z-]{20,} [0-9a-f]{2}[OE][+ ]?//; s/\x1b\[[0-9;]*[a-zA-Z]//g; s/\r//g' "$1/$2.trace"
}

# success | failed, and why: "failed script_failure 3".
world_state() {
    jq -r '.final | [.state, .failure_reason, .exit_code] | map(select(. != null and . != "")) | map(tostring) | join(" ")' \
        "$1/$2.result.json"
}

# world_registry_digest REPOSITORY:TAG: the manifest's digest, or nothing and false.
world_registry_digest() {
    env_skopeo inspect --creds slipway:only-slipway-knows-this --format '{{.Digest}}' "docker://$world_registry/$1" 2>/dev/null
}

world_leftovers() {
    with_cgroup2_as_user bash -ec '
        podman ps --all --format "container {{.Names}}" --filter label=io.slipway.job
        podman ps --all --format "container {{.Names}}" --filter label=io.slipway.role=scanner
        podman network ls --format "network {{.Name}}" --filter name=slipway-j
        podman volume ls --format "volume {{.Name}}" --filter name=slipway-j' 2>/dev/null || echo "Podman does not say"
    find "$env_runtime_dir" -maxdepth 1 -name 'slipway-handover-*'
    find "$world_state_dir/jobs" "$env_runtime_dir/slipway" -mindepth 1 -maxdepth 1 -name 'j*' 2>/dev/null || true
    world_mounts
    local deadline=$((SECONDS + 5))
    while [[ -n $(world_processes) ]] && ((SECONDS < deadline)); do sleep 0.1; done
    world_processes
}

# Root file systems of containers that are no longer there, and whatever else is mounted for a job.
world_mounts() {
    with_cgroup2_as_user bash -ec '
        live=$(podman ps --all --quiet | xargs --no-run-if-empty podman inspect --format "{{.GraphDriver.Data.MergedDir}}")
        podman unshare cat /proc/self/mountinfo | cut -d" " -f5 | while read -r at; do
            case $at in
            */overlay/*/merged) grep -qxF "$at" <<<"$live" || echo "mount $at" ;;
            *slipway-j[0-9]* | */slipway/j[0-9]*) echo "mount $at" ;;
            esac
        done' 2>/dev/null || echo "Podman does not say what is mounted"
}

# slipway's own, Podman's for a job, and what runs with a sandbox's ids outside of the builders, which stay.
world_processes() {
    local user first count status pid uid name args builders
    user=$(id -u "$world_user")
    IFS=: read -r _ first count < <(grep "^$world_user:" /etc/subuid)
    builders=$(with_cgroup2_as_user bash -c 'podman ps --filter label=io.slipway.role=builder --quiet |
        xargs --no-run-if-empty podman inspect --format "{{.State.Pid}}"' |
        while read -r pid; do readlink "/proc/$pid/ns/pid"; done)
    for status in /proc/[0-9]*/status; do
        pid=${status//[!0-9]/}
        uid=$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "$status" 2>/dev/null)
        [[ -n $uid ]] && ! grep -q '^State:.Z' "$status" 2>/dev/null || continue
        name=$(readlink "/proc/$pid/exe" 2>/dev/null) args=$(tr '\0' ' ' <"/proc/$pid/cmdline") || continue
        if ((uid == user)); then
            [[ $name != "$world_bin"/slipway* && $args != *slipway-j[0-9]* ]] || echo "process $pid: $args"
        elif ((uid >= first && uid < first + count)); then
            grep -qxF "$(readlink "/proc/$pid/ns/pid")" <<<"$builders" || echo "process $pid of $uid: $args"
        fi
    done 2>/dev/null
}

world_stop() {
    if [[ -n ${world_user:-} && -n ${world_config:-} && -x $world_bin/slipway ]]; then
        timeout 60 "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" gc --all \
            >"$world_dir/log/gc.log" 2>&1 || true
    fi
    env_podman_reset
    env_stop
}
