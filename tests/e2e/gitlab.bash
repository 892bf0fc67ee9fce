# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Jobs through the real gitlab-runner: outcome, cancel, time limits, artifacts, cache, sources, and a runner that dies.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    sed -i 's/^\[gitlab\]$/&\nstop_grace = "2s"/' "$world_config"
    # A repository over plain HTTP, as GitLab's own is over HTTPS.
    git_port=5490
    (
        export HOME=$SUITE_DIR GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@slipway.test
        export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@slipway.test
        git init --quiet --initial-branch=main "$SUITE_DIR/work"
        cd "$SUITE_DIR/work"
        echo 'from the repository' >README
        # What git-lfs would commit of a file.
        echo 'a large file' >large
        install -D -m 0644 large "$SUITE_DIR/www/lfs/$(sha256sum <large | cut -d' ' -f1)"
        printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' "$(sha256sum <large | cut -d' ' -f1)" "$(stat -c %s large)" >large.bin
        echo '*.bin filter=lfs diff=lfs merge=lfs -text' >.gitattributes
        git add README large.bin .gitattributes
        git commit --quiet --message first
        git clone --quiet --bare . "$SUITE_DIR/www/grp/app.git"
        git -C "$SUITE_DIR/www/grp/app.git" update-server-info
    )
    git_sha=$(git -C "$SUITE_DIR/work" rev-parse HEAD)
    env_serve_address=$env_gitlab_address env_serve git "$git_port" python3 "$env_lib/git_server.py" --listen "$env_gitlab_address:$git_port" --root "$SUITE_DIR/www"
}

SUITE_TEARDOWN() {
    world_stop
}

# job ID SCRIPT [JQ]: CASE_DIR/ID.json, in the small image.
job() {
    world_job "$1" "$2" "$world_busybox" | jq "${3:-.}" >"$CASE_DIR/$1.json"
}

# run ID...: hands the jobs to the runner, one after the other.
run() {
    world_run "$CASE_DIR/jobs" "${@/%/.json}"
}

trace() { world_trace "$CASE_DIR/jobs" "$1"; }

state() { world_state "$CASE_DIR/jobs" "$1"; }

expect_nothing_left() { expect_eq "$(world_leftovers)" "" "what is left"; }

has_word() { grep -q "$1" "$2" 2>/dev/null; }

TEST "success, the user's exit codes and a signal are told to GitLab as they are" {
    codes=(1 2 3 127 137)
    job 4001 'echo hello from the job'
    ids=(4001)
    for code in "${codes[@]}"; do
        job "41$code" "exit $code"
        ids+=("41$code")
    done
    job 4002 'kill -KILL $$; sleep 5'
    run "${ids[@]}" 4002

    expect_eq "$(state 4001)" success
    expect_contains "$(trace 4001)" "hello from the job"
    expect_contains "$(trace 4001)" "Using Custom executor with driver slipway"
    for code in "${codes[@]}"; do
        # GitLab Runner leaves out an exit code of 1.
        expect_eq "$(state "41$code" | sed 's/failure$/failure 1/')" "failed script_failure $code"
    done
    expect_eq "$(state 4002)" "failed script_failure 137"
    expect_nothing_left
}

TEST "a cancelled job's script ends and its after_script runs; an aborted job's does not" {
    after='.features.failure_reasons += ["job_canceled"] | .steps += [{name: "after_script", script: ["echo after: $CI_JOB_STATUS"], timeout: 60, when: "always", allow_failure: true}]'
    job 4010 'echo rea""dy; sleep 901 & sleep 900; echo NE""VER' "$after | ._signal = {after: \"ready\\r?\\n\", status: \"canceling\"}"
    job 4011 'echo rea""dy; trap "" TERM; sleep 900; echo NE""VER' "$after | ._signal = {after: \"ready\\r?\\n\", status: \"canceled\"}"
    run 4010 4011

    expect_eq "$(state 4010)" "failed job_canceled"
    expect_contains "$(trace 4010)" "after: canceled"
    expect_eq "$(state 4011)" "failed job_canceled"
    for id in 4010 4011; do expect_lacks "$(trace "$id")" NEVER; done
    expect_lacks "$(trace 4011)" "after:"
    expect_nothing_left
}

TEST "the job's timeout and RUNNER_SCRIPT_TIMEOUT end scripts, the latter goes on to after_script" {
    after='.steps += [{name: "after_script", script: ["echo after: $CI_JOB_STATUS"], timeout: 60, when: "always", allow_failure: true}]'
    job 4020 'echo begun; sleep 900; echo NE""VER' "$after | .runner_info.timeout = 12"
    job 4021 'echo begun; sleep 900; echo NE""VER' "$after | .variables += [{key: \"RUNNER_SCRIPT_TIMEOUT\", value: \"3s\"}]"
    run 4020 4021

    expect_contains "$(state 4020)" "failed job_execution_timeout"
    expect_contains "$(trace 4020)" begun
    expect_lacks "$(trace 4020)" "after:"
    expect_eq "$(state 4021)" "failed job_execution_timeout"
    expect_contains "$(trace 4021)" "after: timedout"
    for id in 4020 4021; do expect_lacks "$(trace "$id")" NEVER; done
    expect_nothing_left
}

TEST "what a script leaves running does not keep the job" {
    job 4025 'trap "" HUP; sleep 900 & setsid sleep 900 & sleep 900 & echo started' '.runner_info.timeout = 120'
    run 4025

    expect_eq "$(state 4025)" success
    expect_contains "$(trace 4025)" started
}

TEST "sources come over HTTP, with git hooks in the helper and file variables in their place" {
    job 4030 'cat README large.bin; cat $CONF; ls -l $CONF; hostname; cat hook-ran-on' "
        .git_info.repo_url = \"http://gitlab-ci-token:glcbt-job-token-4030@$env_gitlab_address:$git_port/grp/app.git\" | .git_info.sha = \"$git_sha\"
        | .git_info.depth = 0 | .variables |= map(select(.key != \"GIT_STRATEGY\"))
        | .variables += [{key: \"GIT_STRATEGY\", value: \"clone\"}, {key: \"CONF\", value: \"body of the file\\n\", file: true}]
        | .hooks = [{name: \"post_get_sources_script\", script: [\"hostname >hook-ran-on\"]}]"
    run 4030

    expect_eq "$(state 4030)" success
    expect_contains "$(trace 4030)" "from the repository"
    expect_contains "$(trace 4030)" "a large file" # of Git LFS
    expect_contains "$(trace 4030)" "body of the file"
    expect_contains "$(trace 4030)" "Checking out ${git_sha:0:8}"
    expect_contains "$(trace 4030)" $'\nhelper-'
    expect_contains "$(trace 4030)" $'\nrunner-'
    expect_nothing_left
}

TEST "sources that cannot be had are tried as often as asked and fail the job" {
    job 4031 'echo NE""VER' "
        .git_info.repo_url = \"http://$env_gitlab_address:$git_port/grp/none.git\" | .git_info.sha = \"$git_sha\"
        | .variables |= map(select(.key != \"GIT_STRATEGY\"))
        | .variables += [{key: \"GIT_STRATEGY\", value: \"clone\"}, {key: \"GET_SOURCES_ATTEMPTS\", value: \"2\"},
                         {key: \"FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY\", value: \"false\"}]"
    run 4031

    expect_contains "$(state 4031)" "failed script_failure"
    expect_eq "$(trace 4031 | grep -c "repository 'http.*grp/none.git/' not found")" 2 "tries"
    expect_lacks "$(trace 4031)" NEVER
}

TEST "a runner whose shell is sh gets scripts in it, and their exit codes" {
    saved=$world_config
    world_config=$world_dir/etc/sh.toml
    sed 's/^\[gitlab\]$/&\nshell = "sh"/' "$saved" >"$world_config"
    job 4036 'echo it r""uns; exit 7' '.steps += [{name: "after_script", script: ["echo after it, t\"\"oo"], timeout: 60, when: "always", allow_failure: true}]'
    run 4036
    world_config=$saved

    expect_eq "$(state 4036)" "failed script_failure 7"
    expect_contains "$(trace 4036)" "it runs"
    expect_contains "$(trace 4036)" "after it, too"
    expect_nothing_left
}

TEST "artifacts go up, and come down in the next job" {
    job 4040 'mkdir -p out; echo made by 4040 >out/file; chmod 600 out/file' '.artifacts = [{name: "result", paths: ["out/"], when: "on_success",
        artifact_type: "archive", artifact_format: "zip"}]'
    run 4040
    expect_eq "$(state 4040)" success
    expect_eq "$(jq -r '.artifacts[0][0]' "$CASE_DIR/jobs/4040.result.json")" result.zip
    expect_eq "$(python3 -c 'import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read("out/file").decode(), end="")' "$CASE_DIR/jobs/4040-1-result.zip")" "made by 4040"

    mv "$CASE_DIR/jobs/4040-1-result.zip" "$CASE_DIR/jobs/dep-4040.zip"
    job 4041 'cat out/file' '.dependencies = [{id: 4040, token: "glcbt-job-token-4040", name: "maker", artifacts_file: {filename: "result.zip", size: 100}}]'
    run 4041
    expect_eq "$(state 4041)" success
    expect_contains "$(trace 4041)" "made by 4040"
    expect_nothing_left
}

TEST "a cache comes back in the project's next job, not in another project's and not across protection" {
    cache='.cache = [{key: "deps", paths: ["vendor/"], policy: "pull-push", when: "on_success"}]'
    look='if [ -e vendor/lib ]; then echo "has: $(cat vendor/lib)"; else echo "has: no""thing"; fi'
    job 4050 'mkdir -p vendor; echo library >vendor/lib' "$cache"
    job 4051 "$look" "$cache"
    job 4052 "$look" "$cache"' | .job_info.project_full_path = "grp/other" | .job_info.project_id = 43
        | .variables += [{key: "CI_PROJECT_ID", value: "42"}]'
    job 4053 "$look" "$cache | .git_info.protected = false"
    run 4050 4051 4052 4053

    for id in 4050 4051 4052 4053; do expect_eq "$(state "$id")" success "state of $id"; done
    expect_contains "$(trace 4051)" "has: library"
    expect_contains "$(trace 4052)" "has: nothing"
    expect_contains "$(trace 4053)" "has: nothing"
    expect_nothing_left
}

TEST "a denied image fails the job once, by its own fault, and says by what" {
    saved=$world_config
    world_config=$world_dir/etc/deny.toml
    sed "s|^\[gitlab\]\$|&\nallowed_images = [\"$world_registry/base/debian:*\"]|" "$saved" >"$world_config"
    job 4060 'echo NE""VER' ".variables += [{key: \"CI_JOB_IMAGE\", value: \"$world_base\"}]"
    run 4060

    expect_eq "$(state 4060 | cut -d' ' -f1,2)" "failed script_failure"
    expect_contains "$(trace 4060)" allowed_images
    expect_eq "$(trace 4060 | grep -c 'allowed_images')" 1 "tries"
}

TEST "a registry that does not answer is the system's failure, tried three times" {
    job 4061 'echo NE""VER' ".image.name = \"$env_address:1/base/app:1\""
    run 4061

    expect_eq "$(state 4061)" "failed runner_system_failure"
    expect_eq "$(trace 4061 | grep -c 'ERROR (runner system failure)')" 3 "tries"
    expect_contains "$(trace 4061)" "connection refused"
    expect_nothing_left
}

TEST "a variable of 120 KiB reaches the script" {
    job 4062 'echo "long: ${#LONG}"' '.variables += [{key: "LONG", value: ("x" * 122880), public: true}]'
    run 4062

    expect_eq "$(state 4062)" success
    expect_contains "$(trace 4062)" "long: 122880"
}

# start_runner ID...: in the background; runner_wait is its shell's child, runner_pid the gitlab-runner itself.
start_runner() {
    run "$@" &
    runner_wait=$!
    until_true 60 has_word ready "$CASE_DIR/jobs/$1.trace"
    runner_pid=$(pgrep -u "$world_user" -x gitlab-runner)
}

TEST "a runner that is told to end takes its job with it" {
    job 4070 'echo rea""dy; sleep 900'
    start_runner 4070
    kill -TERM "$runner_pid"
    wait "$runner_wait" || true

    expect_contains "$(state 4070)" "failed"
    expect_nothing_left
}

TEST "what a killed runner leaves ends by itself, and the next job removes it" {
    job 4071 'echo rea""dy; sleep 900'
    job 4072 'echo next'
    start_runner 4071
    kill -KILL "$runner_pid"
    wait "$runner_wait" || true
    [[ -n $(world_leftovers) ]] || fail "the killed runner left nothing, so this shows nothing"
    mv "$CASE_DIR/jobs" "$CASE_DIR/first"
    run 4072

    expect_eq "$(state 4072)" success
    expect_nothing_left
}
