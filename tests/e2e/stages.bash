# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The four stages against a simulated runner (tests/lib/runner_sim.py): what the real one cannot be made to do at will.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

SUITE_ONCE=1

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    sed -i 's/^\[gitlab\]$/&\nstop_grace = "2s"/' "$world_config"
    make_tiny_base
    start_proxy 5454
}

SUITE_TEARDOWN() {
    world_stop
}

# job ID SCRIPT [JQ]: CASE_DIR/ID.json
job() {
    world_job "$1" "$2" "$world_busybox" | jq "${3:-.}" >"$CASE_DIR/$1.json"
}

# sim ID OPTIONS...: the simulated runner takes job ID; its notes are in CASE_DIR/ID.
sim() {
    local id=$1
    shift
    install -d -o "$world_user" "$CASE_DIR/$id"
    timeout --kill-after=10 240 "$env_lib/as-user" "$world_user" python3 "$env_lib/runner_sim.py" \
        "$CASE_DIR/$id" "$CASE_DIR/$id.json" "$@" -- "$world_bin/slipway" --config "${sim_config:-$world_config}" gitlab
}

# Every call of job ID in order, "stage" or "run:sub_stage", on one line.
calls() {
    jq -r '.stage + (if .sub then ":" + .sub else "" end)' "$CASE_DIR/$1/events.jsonl" | paste -sd' '
}

# all ID CALL FIELD: FIELD of every such call, one a line.
all() {
    jq -r --arg call "$2" "select((.stage + (if .sub then \":\" + .sub else \"\" end)) == \$call) | .$3" "$CASE_DIR/$1/events.jsonl"
}

result() {
    jq -r '[.state, .reason, .exit_code] | map(select(. != null and . != "" and . != 0)) | map(tostring) | join(" ")' \
        "$CASE_DIR/$1/result.json"
}

expect_nothing_left() {
    expect_eq "$(world_leftovers)" "" "what is left"
}

TEST "config prints one JSON document and nothing else" {
    job 3001 ':'
    sim 3001 --steps config

    expect_eq "$(all 3001 config rc)" 0
    expect_eq "$(all 3001 config err)" ""
    all 3001 config out >document
    expect_eq "$(jq -c --slurp 'length' document)" 1 "documents"
    expect_eq "$(jq -r '[.builds_dir, .cache_dir, .shell, .driver.name] | join(" ")' document)" "/builds /cache bash slipway"
}

TEST "a payload that is missing, unreadable, empty, torn, huge or garbage is slipway's failure in every stage, in clear words" {
    job 3002 ':'
    mkdir payloads
    : >payloads/empty
    printf '\x7fELF\x00\xff{' >payloads/garbage
    head -c 200 3002.json >payloads/torn
    truncate -s 65M payloads/huge
    jq '.job_info = 7' 3002.json >payloads/wrong-type
    jq 'del(.id)' 3002.json >payloads/without-id
    python3 -c 'print("[" * 200000)' >payloads/deep
    for kind in missing unreadable empty garbage torn huge wrong-type without-id deep; do
        cp 3002.json "$kind.json"
        case $kind in
        missing) flags=(--no-payload) words="JOB_RESPONSE_FILE" ;;
        unreadable) flags=(--payload-mode 000) words="ermission denied" ;;
        huge) flags=(--payload "$CASE_DIR/payloads/$kind") words="JOB_RESPONSE_FILE" ;;
        wrong-type) flags=(--payload "$CASE_DIR/payloads/$kind") words="job_info is not an object" ;;
        without-id) flags=(--payload "$CASE_DIR/payloads/$kind") words="the job payload cannot be read" ;;
        *) flags=(--payload "$CASE_DIR/payloads/$kind") words="no valid JSON" ;;
        esac
        sim "$kind" "${flags[@]}" --steps config prepare run:build_script cleanup
        for call in config prepare run:build_script cleanup; do
            expect_eq "$(all "$kind" "$call" rc)" 2 "exit code of $call with a payload that is $kind"
            expect_contains "$(all "$kind" "$call" err)" "$words"
            expect_contains "$(all "$kind" "$call" err)" "runner system failure"
            expect_eq "$(all "$kind" "$call" out)" "" "stdout of $call"
        done
    done
    expect_nothing_left
}

TEST "started as root every stage refuses and names the way out" {
    job 3003 ':'
    for stage in config prepare "run $CASE_DIR/3003.json build_script" cleanup; do
        # shellcheck disable=SC2086
        JOB_RESPONSE_FILE=$CASE_DIR/3003.json expect_status 2 "$world_bin/slipway" --config "$world_config" gitlab $stage
        expect_contains "$OUTPUT" "started as root"
        expect_contains "$OUTPUT" "packaging/setup-runner"
    done
    for command in gc doctor leases "db rollback"; do
        # shellcheck disable=SC2086
        expect_status 2 "$world_bin/slipway" --config "$world_config" $command
        expect_contains "$OUTPUT" "runuser -u $world_user -- slipway"
    done
}

TEST "where the helper's program is missing prepare fails and names it" {
    sed 's|^helper_binary = .*|helper_binary = "/nonexistent/gitlab-runner"|' "$world_config" >"$world_dir/etc/helper.toml"
    job 3090 ':'
    sim_config=$world_dir/etc/helper.toml sim 3090 --steps config prepare cleanup

    expect_eq "$(all 3090 prepare rc)" 2
    expect_contains "$(all 3090 prepare out)$(all 3090 prepare err)" /nonexistent/gitlab-runner
    expect_nothing_left
}

TEST "a stage that gets no thread ends as a system failure, in words" {
    job 3092 ':'
    chmod 644 "$CASE_DIR/3092.json"
    expect_status 2 "$env_lib/as-user" "$world_user" JOB_RESPONSE_FILE="$CASE_DIR/3092.json" BUILD_FAILURE_EXIT_CODE=1 \
        SYSTEM_FAILURE_EXIT_CODE=2 prlimit --nproc=1 "$world_bin/slipway" --config "$world_config" gitlab config
    expect_contains "$OUTPUT" "came to an unexpected end"
}

TEST "a job without image, where there is no default, is denied once and told what to do" {
    job 3004 ':' 'del(.image)'
    grep -v '^default_image' "$world_config" >"$world_dir/etc/no-default.toml"
    sim_config=$world_dir/etc/no-default.toml sim 3004

    expect_eq "$(result 3004)" "failed script_failure 1"
    expect_eq "$(calls 3004)" "config cleanup"
    expect_contains "$(all 3004 config err)" "the job names no image and this runner has no default"
    expect_contains "$(all 3004 config err)" 'add `image:` to the job'
}

TEST "an image outside allowed_images is the job's fault in config and in prepare, whatever variables claim" {
    sed "s|^\[gitlab\]\$|&\nallowed_images = [\"$world_registry/base/debian:*\"]|" "$world_config" >"$world_dir/etc/deny.toml"
    job 3005 ':' ".variables += [{key: \"CI_JOB_IMAGE\", value: \"$world_base\"}, {key: \"CI_PROJECT_PATH\", value: \"other/project\"}]"
    sim_config=$world_dir/etc/deny.toml sim 3005
    expect_eq "$(result 3005)" "failed script_failure 1"
    expect_eq "$(calls 3005)" "config cleanup"
    expect_contains "$(all 3005 config err)" "allowed_images"
    expect_contains "$(all 3005 config err)" "base/busybox"

    cp 3005.json 3006.json
    sim_config=$world_dir/etc/deny.toml sim 3006 --steps prepare cleanup
    expect_eq "$(all 3006 prepare rc)" 1
    expect_contains "$(all 3006 prepare err)" "allowed_images"

    # The other way round: a variable cannot make an allowed image a denied one either.
    job 3007 'echo ran' ".image.name = \"$world_base\" | .variables += [{key: \"CI_JOB_IMAGE\", value: \"$world_busybox\"}]"
    sim_config=$world_dir/etc/deny.toml sim 3007
    expect_eq "$(result 3007)" success
    expect_nothing_left
}

TEST "a good job goes through its stages once, in order, and leaves nothing" {
    job 3010 'echo done-by $(hostname)' '.steps += [{name: "release", script: ["echo release on $(hostname)"]},
        {name: "after_script", script: ["echo after on $(hostname), $CI_JOB_STATUS"]}] | .cache = [{key: "k"}] | .artifacts = [{name: "a"}]'
    sim 3010

    expect_eq "$(result 3010)" success
    expect_eq "$(calls 3010)" "config prepare run:prepare_script run:get_sources run:restore_cache run:build_script run:step_release run:after_script run:archive_cache run:upload_artifacts_on_success run:cleanup_file_variables cleanup"
    expect_eq "$(jq -s 'map(.rc) | unique' -c "$CASE_DIR/3010/events.jsonl")" "[0]" "exit codes"
    expect_contains "$(all 3010 run:build_script out)" "done-by runner-"
    expect_contains "$(all 3010 run:step_release out)" "release on runner-"
    expect_contains "$(all 3010 run:after_script out)" "after on runner-"
    expect_contains "$(all 3010 run:after_script out)" ", success"
    expect_eq "$(all 3010 cleanup out)$(all 3010 cleanup err)" "" "what cleanup says"
    expect_nothing_left
}

# spied FILE: the world's configuration with a Podman that notes each call in FILE and ends with 9.
spied() {
    install -m 0755 /dev/null "$CASE_DIR/podman"
    printf '#!/bin/sh\necho "$@" >>"%s"\nexit 9\n' "$1" >"$CASE_DIR/podman"
    install -m 0666 /dev/null "$1"
    printf '%s\n[sandbox]\npodman = "%s"\n' "$(cat "$world_config")" "$CASE_DIR/podman" >"$world_dir/etc/spied.toml"
}

TEST "run does not call the container engine, prepare and cleanup do" {
    job 3017 'echo ran; docker version >/dev/null; docker images -q' '.steps += [{name: "after_script", script: ["echo after"]}] | .cache = [{key: "k"}]'
    spied "$CASE_DIR/calls"
    sim 3017 --steps config prepare
    expect_eq "$(all 3017 prepare rc)" 0
    # Nor its API: the socket that slipway keeps for it is away too.
    sim_config=$world_dir/etc/spied.toml sim 3017 --steps run:prepare_script run:get_sources run:restore_cache run:build_script run:after_script run:archive_cache
    expect_eq "$(jq -sc 'map(.rc) | unique' "$CASE_DIR/3017/events.jsonl")" "[0]" "exit codes"
    expect_contains "$(all 3017 run:build_script out)" ran
    expect_eq "$(cat calls)" "" "what run asked of Podman"

    # The control: what does ask Podman is noted, and has no other way.
    sim_config=$world_dir/etc/spied.toml sim 3017 --steps cleanup
    [[ -s calls ]]
    sim 3017 --steps cleanup
    expect_nothing_left
}

TEST "the script's own exit code goes into the file, the process exits 1, and a later success says nothing of it" {
    local codes=(1 2 3 127 137 255) steps=() flags=() code
    job 3011 ':'
    for code in "${codes[@]}"; do
        steps+=("run:step_$code")
        flags+=(--script "step_$code=exit $code")
    done
    # "signal": what the runner's script makes of a command that a signal ended; "shell": the script's shell itself dies.
    sim 3011 "${flags[@]}" --script 'step_signal=sh -c "kill -SEGV \$\$"' --script 'step_shell=kill -KILL $$; sleep 5' \
        --script 'step_unknown=no-such-command-here' --script 'archive_cache=exit 5' --script 'step_good=:' \
        --steps config prepare run:get_sources "${steps[@]}" run:step_signal run:step_shell run:step_unknown run:archive_cache run:step_good cleanup

    for code in "${codes[@]}"; do
        expect_eq "$(all 3011 "run:step_$code" rc)" 1 "exit code of the process for $code"
        expect_eq "$(all 3011 "run:step_$code" exit_code_file)" "$code" "file for $code"
    done
    expect_eq "$(all 3011 run:step_signal exit_code_file)" 139
    expect_eq "$(all 3011 run:step_shell rc) $(all 3011 run:step_shell exit_code_file)" "1 137"
    expect_eq "$(all 3011 run:step_unknown exit_code_file)" 127
    expect_eq "$(all 3011 run:archive_cache rc) $(all 3011 run:archive_cache exit_code_file)" "1 5"
    expect_eq "$(all 3011 run:step_good rc) $(all 3011 run:step_good exit_code_file)" "0 null"
}

TEST "an exit code that an earlier call left is removed, also where run itself cannot work" {
    job 3012 ':'
    sim 3012 --exit-code-file 42 --steps run:build_script

    expect_eq "$(all 3012 run:build_script rc)" 2
    expect_eq "$(all 3012 run:build_script exit_code_file)" null
    expect_contains "$(all 3012 run:build_script err)" "runner system failure"
}

TEST "what a script leaves running keeps no stage waiting and does not outlive it" {
    job 3013 '(trap "" HUP; exec sleep 4711) & setsid sleep 4711 & (setsid sh -c "sleep 4711 & sleep 4711") & sleep 4711 & echo started'
    sim 3013 --timeout 90 --script 'step_look=ps | grep "[s]leep 4711" || echo none left' \
        --script 'get_sources=mkdir -p /builds/grp/app; nohup sleep 4711 & setsid sleep 4711 &' \
        --steps config prepare run:get_sources run:build_script run:step_look cleanup

    expect_eq "$(jq -s 'map(.timed_out or .abandoned) | any' "$CASE_DIR/3013/events.jsonl")" false "a stage hung"
    expect_eq "$(jq -sc 'map(.rc) | unique' "$CASE_DIR/3013/events.jsonl")" "[0]" "exit codes"
    expect_contains "$(all 3013 run:step_look out)" "none left"
    expect_nothing_left
}

TEST "unknown sub-stages run in the helper, the user's in the job's image" {
    job 3014 ':'
    sim 3014 --script 'brand_new_stage=hostname' --script 'step_mine=hostname' --script 'after_script=hostname' \
        --script 'get_sources=mkdir -p /builds/grp/app; hostname; git --version; gitlab-runner --version | head -1' \
        --steps config prepare run:get_sources run:brand_new_stage run:step_mine run:after_script cleanup

    expect_contains "$(all 3014 run:brand_new_stage out)" "helper-"
    expect_contains "$(all 3014 run:get_sources out)" "git version"
    expect_contains "$(all 3014 run:get_sources out)" "Version:"
    expect_contains "$(all 3014 run:step_mine out)" "runner-"
    expect_contains "$(all 3014 run:after_script out)" "runner-"
}

TEST "the helper of a job that fetches nothing has no network, the job's own script has" {
    job 3015 ':'
    job 3016 ':' '.cache = [{key: "k", paths: ["p"]}]'
    for id in 3015 3016; do
        sim "$id" --script 'get_sources=mkdir -p /builds/grp/app; ls /sys/class/net' --script 'step_mine=ls /sys/class/net' \
            --steps config prepare run:get_sources run:step_mine cleanup
        expect_contains "$(all "$id" run:step_mine out)" eth0
    done

    expect_eq "$(all 3015 run:get_sources out)" lo
    expect_contains "$(all 3016 run:get_sources out)" eth0
    expect_nothing_left
}

TEST "a cancelled script ends, after_script runs, and nothing is left" {
    job 3020 'echo ready; sleep 600; echo NEVER' '.steps += [{name: "after_script", script: ["echo after: $CI_JOB_STATUS"]}]'
    sim 3020 --on 'build_script:ready:cancel'

    expect_eq "$(result 3020 | cut -d' ' -f1,2)" "failed job_canceled"
    expect_eq "$(all 3020 run:build_script rc)" 1
    expect_eq "$(all 3020 run:build_script abandoned)" false
    expect_lacks "$(all 3020 run:build_script out)" NEVER
    expect_contains "$(all 3020 run:after_script out)" "after: canceled"
    expect_nothing_left
}

TEST "a script that ignores SIGTERM is killed before the runner loses patience" {
    job 3021 'trap "" TERM; (trap "" TERM; while :; do sleep 1; done) & echo ready; while :; do sleep 1; done'
    sim 3021 --on 'build_script:ready:abort'

    expect_eq "$(all 3021 run:build_script rc)" 1
    expect_eq "$(all 3021 run:build_script signal)" null
    expect_eq "$(all 3021 run:build_script abandoned)" false
    expect_lacks "$(calls 3021)" after_script
    expect_nothing_left
}

TEST "a stage's timeout ends a run with exit code 1, never 0, though the script says 0" {
    job 3022 'trap "echo got it; exit 0" TERM; echo ready; while :; do sleep 1; done'
    sim 3022 --on 'build_script:ready:term' --steps config prepare run:get_sources run:build_script cleanup

    expect_eq "$(all 3022 run:build_script rc)" 1
    expect_nothing_left
}

two_lines() { [[ $(wc -l 2>/dev/null <"$1") == 2 ]]; }

TEST "prepare that fails twice works the third time, with a cleanup between and a folder of its own for each try" {
    job 3030 'echo ran'
    # The registry is down, until two tries have failed.
    ip netns exec "$env_netns" nft -f - <<NFT
table inet down { chain input { type filter hook input priority 0; tcp dport $env_registry_port reject with tcp reset; }; }
NFT
    install -d -o "$world_user" 3030
    cat >after <<SH
echo . >>$CASE_DIR/3030/tries
[ "\$(wc -l <$CASE_DIR/3030/tries)" -ne 2 ] || until [ -e $CASE_DIR/up ]; do sleep 0.1; done
SH
    sim 3030 --after "cleanup:. $CASE_DIR/after" &
    simulator=$!
    until_true 120 two_lines 3030/tries
    ip netns exec "$env_netns" nft delete table inet down
    touch up
    wait "$simulator"

    expect_eq "$(result 3030)" success
    expect_eq "$(calls 3030)" "config prepare cleanup config prepare cleanup config prepare run:prepare_script run:get_sources run:build_script run:cleanup_file_variables cleanup"
    expect_eq "$(all 3030 prepare rc | paste -sd' ')" "2 2 0"
    expect_contains "$(all 3030 prepare err)" "connection refused"
    expect_eq "$(all 3030 prepare dir | sort -u | wc -l)" 3 "folders"
    expect_nothing_left
}

TEST "an image that does not exist is the job's fault and is not tried again" {
    job 3038 ':' ".image.name = \"$world_registry/base/no-such-image:1\""
    sim 3038

    expect_eq "$(result 3038)" "failed script_failure 1"
    expect_eq "$(calls 3038)" "config prepare cleanup"
    expect_contains "$(all 3038 prepare err)" "base/no-such-image:1"
    expect_contains "$(all 3038 prepare err)" "check the image's name and tag"
    expect_nothing_left
}

TEST "prepare can be called twice in a row, and cleanup before, twice, and without prepare" {
    job 3031 'echo ran'
    sim 3031 --steps cleanup config prepare prepare run:get_sources run:build_script cleanup cleanup run:build_script

    expect_eq "$(jq -sc 'map(.rc)' "$CASE_DIR/3031/events.jsonl")" "[0,0,0,0,0,0,0,0,2]" "exit codes"
    expect_contains "$(all 3031 run:build_script out)" ran
    expect_nothing_left
}

TEST "SIGTERM in prepare exits 2, and cleanup leaves nothing" {
    job 3032 ':'
    sim 3032 --on 'prepare:Pulling:term' --steps config prepare cleanup
    expect_eq "$(all 3032 prepare rc)" 2
    expect_eq "$(all 3032 prepare abandoned)" false
    expect_eq "$(all 3032 cleanup rc)" 0
    expect_nothing_left

    # "Using" comes after the pull: the sandboxes are being made.
    job 3033 ':'
    sim 3033 --on 'prepare:Using:term' --steps config prepare cleanup
    expect_eq "$(all 3033 prepare rc)" 2
    expect_eq "$(all 3033 cleanup rc)" 0
    expect_nothing_left
}

TEST "SIGTERM in prepare while it waits for a service's port exits 2 at once, and cleanup leaves nothing" {
    publish_image base/deaf:1 busybox '{"ExposedPorts": {"9999/tcp": {}}, "Cmd": ["sleep", "600"]}'
    sed 's/^\[gitlab\]$/&\nservice_wait = "200s"/' "$world_config" >"$world_dir/etc/patient.toml"
    job 3037 ':' ".services = [{name: \"$world_registry/base/deaf:1\", alias: \"deaf\"}]"
    sim_config=$world_dir/etc/patient.toml sim 3037 --steps config prepare cleanup \
        --on 'prepare:deaf:run=for i in $(seq 100); do ! podman ps | grep -q svc0 || break; sleep 0.2; done; sleep 1' --on 'prepare:deaf:term'

    expect_eq "$(all 3037 prepare rc)" 2
    expect_eq "$(all 3037 prepare abandoned)" false
    expect_nothing_left
}

TEST "SIGTERM in prepare's very last step, when the job is ready, still exits 2" {
    job 3036 ':'
    # That step reads the journal of leases, and waits for a record that does not come.
    record=$world_state_dir/leases/slipway-0123456789abcdef-j1-aa.json
    install -d -m 0700 -o "$world_user" "$world_state_dir/leases"
    mkfifo "$record" && chmod 644 "$record"
    stage 3036 config >/dev/null
    until_true 30 test -s code
    stage 3036 prepare
    # Who writes gets it open once somebody reads.
    python3 -c 'import signal, sys
file = open(sys.argv[1], "w")
open("held", "w").close()
signal.pause()' "$record" &
    writer=$!
    until_true 60 test -e held
    grep -q '"ready": *true' "$world_state_dir"/jobs/j3036-*/record.json || fail "prepare reads the journal before its last step"
    # shellcheck disable=SC2046
    kill -TERM $(slipway_pids)
    kill "$writer"
    until_true 60 test -s code
    rm "$record"
    expect_eq "$(<code)" 2 "exit code of prepare"
    sim 3036 --steps cleanup
    expect_nothing_left
}

# stage ID NAME: that stage as the runner calls it, in the background; `code` gets its exit code.
stage() {
    JOB_RESPONSE_FILE=${payload:-$CASE_DIR/$1.json} && rm -f code
    (
        rc=0
        with_cgroup2_as_user JOB_RESPONSE_FILE="$JOB_RESPONSE_FILE" "$world_bin/slipway" --config "$world_config" gitlab "$2" || rc=$?
        echo "$rc" >code
    ) &
}

slipway_runs() { [[ -n $(slipway_pids) ]]; }

TEST "SIGTERM ends neither config nor cleanup half way: both go to their ends and exit 2" {
    job 3035 ':'
    sim 3035 --steps config prepare
    # A payload that does not come holds config, a script's lock cleanup.
    payload=$CASE_DIR/payload
    mkfifo "$payload" && chmod 644 "$payload"
    stage 3035 config >document
    until_true 30 slipway_runs
    sleep 0.5
    # shellcheck disable=SC2046
    kill -TERM $(slipway_pids)
    cat 3035.json >"$payload"
    until_true 30 test -s code
    expect_eq "$(<code)" 2 "exit code of config"
    expect_eq "$(jq -r .driver.name document)" slipway
    unset payload

    # A process of its own: what the shell starts would inherit the lock.
    lock=$(echo "$world_state_dir"/jobs/j3035-*/lock)
    python3 -c 'import fcntl, signal, sys
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
signal.pause()' "$lock" &
    locker=$!
    is_locked() { ! flock --nonblock "$lock" true; }
    until_true 30 is_locked
    stage 3035 cleanup
    until_true 30 slipway_runs
    sleep 0.5
    # shellcheck disable=SC2046
    kill -TERM $(slipway_pids)
    sleep 0.5
    [[ ! -e code ]] || fail "cleanup did not go on: $(<code)"
    kill "$locker"
    until_true 60 test -s code
    expect_eq "$(<code)" 2 "exit code of cleanup"
    expect_nothing_left
    sim 3035 --steps cleanup # once more does no harm
    expect_eq "$(all 3035 cleanup rc)" 0
}

TEST "cleanup beside a live run removes everything, and the run fails" {
    job 3034 'echo ready; sleep 600'
    sim 3034 --on 'build_script:ready:cleanup' --steps config prepare run:get_sources run:build_script

    expect_eq "$(all 3034 cleanup rc)" 0
    [[ $(all 3034 run:build_script rc) == [12] ]]
    expect_nothing_left
}

TEST "a job whose cleanup cannot read the configuration goes with the next prepare, though its runner lives on" {
    local own=${world_config%/*}/own.toml
    install -m 0666 "$world_config" "$own"
    job 3052 'echo ran'
    job 3053 'echo ran'
    install -d -m 0777 at
    sim_config=$own sim 3052 --after "build_script:echo '[' >>$own" \
        --after "cleanup:touch $PWD/at/cleaned; while [ ! -e $PWD/at/forgotten ]; do sleep 0.1; done; rm -r \$(dirname \$(find $CASE_DIR/3052 -name response.json)); touch $PWD/at/gone; while [ ! -e $PWD/at/done ]; do sleep 0.1; done" &
    until_true 60 [ -e at/cleaned ]
    expect_eq "$(all 3052 cleanup rc)" 2
    # As long as the runner knows it, it is a job that lives.
    sim 3053
    expect_contains "$(world_leftovers)" slipway-j3052
    touch at/forgotten
    until_true 20 [ -e at/gone ]
    rm -rf "$CASE_DIR/3053"
    sim 3053
    expect_eq "$(result 3053)" success
    left=$(world_leftovers)
    touch at/done
    wait
    rm "$own"
    expect_eq "$left" ""
}

TEST "a job of another configuration of the same user opens no registry to a job that runs" {
    local other=${world_config%/*}/other.toml
    # Without any registry, and so without an image that it could pull: it comes as far as the rule.
    sed '/^\[\[registry\]\]/,/^$/d' "$world_config" >"$other"
    job 3056 "echo ready; until [ -e /builds/go ]; do sleep 0.2; done; busybox nc -w 5 ${world_registry%:*} ${world_registry##*:} </dev/null && echo REACHED || echo refused"
    job 3057 'echo ran' '.variables |= map(select(.key != "GIT_STRATEGY"))'
    # The simulated runner does this, as the service user.
    cat >beside <<END
set -x
python3 "$env_lib/runner_sim.py" "$CASE_DIR/3057" "$CASE_DIR/3057.json" -- "$world_bin/slipway" --config "$other" gitlab
podman unshare sh -c 'touch "\$(podman volume inspect --format "{{.Mountpoint}}" "\$(podman volume ls --quiet --filter name=slipway-j3056)")/go"'
END
    install -d -o "$world_user" 3057 logs
    sim 3056 --on "build_script:ready:run=bash $PWD/beside >$PWD/logs/beside 2>&1"
    rm "$other"

    expect_eq "$(result 3056)" success "$(tail -n 20 logs/beside)"
    expect_contains "$(calls 3057)" "prepare"
    expect_contains "$(all 3056 run:build_script out)" refused
    expect_lacks "$(all 3056 run:build_script out)" REACHED
}

TEST "below the floor prepare first removes what dead jobs wrote and what nobody uses, and only then gives up" {
    local free
    job 3054 'printf "FROM scratch\nCOPY Dockerfile /\n" >Dockerfile; docker build . 2>&1; echo ready; sleep 600'
    job 3055 'echo not reached'
    sim 3054 --on "build_script:^ready|\nready:killall" || true
    expect_contains "$(world_leftovers)" slipway-j3054
    expect_contains "$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=builder --format '{{.Names}}')" slipway
    free=$(df --output=avail -B1M "$world_state_dir" | tail -1)
    with_sandbox "disk_floor = \"$((free + 5000))MiB\"" sim 3055 || true

    expect_contains "$(all 3055 prepare err)" "prepare was ended: less than"
    expect_nothing_left
    expect_eq "$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=builder --format '{{.Names}}')" ""
    expect_eq "$(find "$world_state_dir/bases" -name 'blobs')" ""
}

# Both jobs see the full disk: the filler's files stay until the other one is over.
filler_and_bystander() {
    local bystander filler
    sim 3059 --on "build_script:ready:touch=$PWD/at/ready" &
    bystander=$!
    until_true 120 [ -e at/ready ]
    sim 3058 --after "build_script:for i in \$(seq 100); do [ ! -e $PWD/at/over ] || break; sleep 0.2; done" &
    filler=$!
    wait "$bystander" || true
    touch at/over
    wait "$filler" || true
}

TEST "a job that fills the disk fails by its own fault, and one beside it by the runner's" {
    local free
    install -d -m 0777 at
    job 3058 'dd if=/dev/zero of=/builds/filling bs=1M count=2000 2>/dev/null; sleep 60; echo went on'
    job 3059 'dd if=/dev/zero of=/builds/little bs=1M count=9 2>/dev/null; echo ready; sleep 90; echo went on'
    free=$(df --output=avail -B1M "$world_state_dir" | tail -1)
    with_sandbox "disk_floor = \"$((free - 600))MiB\"" filler_and_bystander

    expect_eq "$(result 3058)" "failed script_failure 1"
    expect_contains "$(all 3058 run:build_script err)" "the script was ended: less than $((free - 600)) MiB of disk are left on this runner"
    expect_contains "$(all 3058 run:build_script err)" "write less"
    expect_eq "$(result 3059)" "failed runner_system_failure"
    expect_eq "$(all 3059 run:build_script rc)" 2
    expect_contains "$(all 3059 run:build_script err)" "that went since this job was prepared it wrote only 9 MiB"
    expect_contains "$(all 3059 run:build_script err)" "retry: when: runner_system_failure"
}

TEST "a failing get_sources is tried again with clear_worktree in between" {
    job 3035 'cat tried' '.variables += [{key: "GET_SOURCES_ATTEMPTS", value: "3"}]'
    sim 3035 --script 'get_sources=mkdir -p /builds/grp/app; echo . >>/builds/grp/app/tried; [ $(wc -l </builds/grp/app/tried) -ge 2 ] || exit 9'

    expect_eq "$(result 3035)" success
    expect_contains "$(calls 3035)" "run:get_sources run:clear_worktree run:get_sources run:build_script"
    expect_eq "$(jq -rs 'map(select(.sub == "get_sources").exit_code_file) | map(tostring | rtrimstr("\n")) | join(" ")' "$CASE_DIR/3035/events.jsonl")" "9 null"
}

TEST "variables up to what a program can be started with work; above it nothing is left behind" {
    job 3036 'echo "long: ${#LONG}"' '.variables += [{key: "LONG", value: ("x" * 122880)}]'
    sim 3036
    expect_eq "$(result 3036)" success
    expect_contains "$(all 3036 run:build_script out)" "long: 122880"

    job 3037 ':' '.variables += [{key: "LONG", value: ("x" * 140000)}]'
    sim 3037
    expect_eq "$(result 3037)" "failed runner_system_failure"
    expect_contains "$(jq -r .error "$CASE_DIR/3037/events.jsonl")" "Argument list too long"
    expect_nothing_left
}

TEST "the cache belongs to one project and trust domain, whatever variables claim" {
    job 3040 ':'
    sim 3040 --script 'restore_cache=umask 077; echo of grp/app, protected >/cache/mark' --steps config prepare run:get_sources run:restore_cache cleanup
    job 3041 ':'
    job 3042 ':' '.job_info.project_full_path = "grp/other" | .job_info.project_id = 43'
    job 3043 ':' '.git_info.protected = false'
    job 3044 ':' '.job_info.project_full_path = "grp/evil" | .variables += [{key: "CI_PROJECT_PATH", value: "grp/app"},
        {key: "CI_PROJECT_ID", value: "42"}, {key: "CI_COMMIT_REF_PROTECTED", value: "true"}]'
    job 3049 ':' '.job_info.project_id = 43' # has taken the path of a project that was deleted
    for id in 3041 3042 3043 3044 3049; do
        sim "$id" --script 'restore_cache=cat /cache/mark 2>/dev/null || echo nothing' --steps config prepare run:get_sources run:restore_cache cleanup
    done

    expect_eq "$(all 3040 run:restore_cache rc)" 0
    expect_eq "$(all 3041 run:restore_cache out)" "of grp/app, protected" "what the same project sees"
    for id in 3042 3043 3044 3049; do expect_eq "$(all "$id" run:restore_cache out)" nothing "what job $id sees"; done
    expect_nothing_left
}

TEST "two jobs of one project run side by side, each with a workspace and ids of its own, both with a cache that works" {
    job 3045 'cat /proc/self/uid_map; echo ready; sleep 600'
    job 3046 'ls /builds; cat /proc/self/uid_map'
    use_cache='restore_cache=set -e; ls /cache; umask 077; mkdir -p /cache/d; echo x >>/cache/d/file; cat /cache/d/file'
    sim 3045 --script "$use_cache" --on "build_script:ready:touch=$CASE_DIR/3045/ready" \
        --on "build_script:ready:run=until [ -e $CASE_DIR/3045/other-done ]; do sleep 0.1; done" --on 'build_script:ready:term' \
        --steps config prepare run:get_sources run:restore_cache run:build_script cleanup &
    first=$!
    until_true 60 test -e "$CASE_DIR/3045/ready"
    sim 3046 --script "$use_cache" --steps config prepare run:get_sources run:restore_cache run:build_script cleanup
    touch "$CASE_DIR/3045/other-done"
    wait "$first"

    expect_eq "$(jq -sc 'map(.rc) | unique' "$CASE_DIR/3046/events.jsonl")" "[0]" "exit codes of the second job"
    expect_eq "$(all 3045 run:restore_cache rc)" 0
    expect_eq "$(all 3046 run:build_script out | head -1)" grp "the second job's workspace"
    [[ $(all 3045 run:build_script out | head -1) != "$(all 3046 run:build_script out | sed 1d)" ]]
    expect_nothing_left
}

# slipway_pids: the stages of this world that live.
slipway_pids() {
    local pid
    for pid in $(pgrep -u "$world_user"); do
        [[ $(readlink "/proc/$pid/exe") != "$world_bin/slipway" ]] || echo "$pid"
    done
}

# Where in a job the runner and all slipway processes die by SIGKILL: at certain words, and at any moment.
TEST "after the sudden death of runner and slipway the next prepare removes what they left" {
    job 3050 'echo ready; sleep 600'
    job 3051 'echo ran'
    for point in 'prepare:' 'prepare:Pulling' 'prepare:Using' 'get_sources:' 'build_script:ready'; do
        sim 3050 --on "$point:killall" || true
        rm -rf "$CASE_DIR/3050" "$CASE_DIR/3051"
        sim 3051
        expect_eq "$(result 3051)" success "the next job, after a death at $point"
        left=$(world_leftovers)
        expect_eq "$left" "" "left after a death at $point"
    done
}

pulls() { pgrep -u "$world_user" -f '^podman .*pull .*docker://'; }
no_pull() { ! pulls >/dev/null; }
pull_waits() { grep -q hold "$world_dir/log/requests"; }

TEST "a pull that waits dies with its prepare, and its login with it" {
    local config=$world_dir/etc/pulls.toml
    cp "$world_config" "$config"
    printf '[[registry]]\nhost = "%s"\nca_file = "%s"\n' "$proxy" "$env_tls/ca.pem" >>"$config"
    write "$world_dir/faults.json" '{"hold": true, "method": "GET", "path": "/base/tiny/"}'
    job 3054 ':' ".image.name = \"$proxy/base/tiny:1\""
    sim_config=$config die_at 3054 pull_waits
    until_true 10 no_pull
    expect_eq "$(find "$env_runtime_dir" -maxdepth 1 -name 'slipway-pull-*')" "" "the login"
    write "$world_dir/faults.json" '{}'

    job 3055 ':' ".image.name = \"$proxy/base/tiny:1\""
    sim_config=$config sim 3055 --steps config prepare cleanup
    expect_eq "$(all 3055 prepare rc)" 0
    expect_nothing_left
}

TEST "a service that was stopped under running containers serves its next job" {
    # Podman's pause process ends and takes the sandboxes' network with it; a plain file is left in its place.
    job 3052 'echo ready; sleep 600'
    job 3053 'echo ran' '.cache = [{key: "k", paths: ["p"]}]'
    sim 3052 --on "build_script:ready:killall" || true
    with_cgroup2_as_user podman system migrate >/dev/null 2>&1
    ls "$env_runtime_dir"/netns/rootless-netns-* >/dev/null

    sim 3053
    expect_eq "$(result 3053)" success
    expect_nothing_left
}

TEST "a script whose sandbox dies under it is a system failure that says so, and all is removed" {
    job 3070 'echo ready; sleep 600'
    sim 3070 --on 'build_script:ready:run=podman kill --signal KILL $(podman ps --quiet --filter label=io.slipway.role=job)' || true
    expect_eq "$(all 3070 run:build_script rc)" 2
    expect_contains "$(all 3070 run:build_script err)" "runner system failure"
    expect_eq "$(result 3070)" "failed runner_system_failure"
    expect_nothing_left
}

TEST "slipway gc removes what sudden deaths at random moments left" {
    job 3060 'echo ready; sleep 600'
    for round in 1 2 3 4 5 6; do
        sim 3060 &
        until_true 30 test -s "$CASE_DIR/3060/pid"
        moment=$((RANDOM % 4000))
        echo "round $round: after $moment ms"
        sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
        # shellcheck disable=SC2046
        kill -KILL "$(cat "$CASE_DIR/3060/pid")" $(slipway_pids) 2>/dev/null || true
        wait $! || true
        rm -rf "$CASE_DIR/3060"
        expect_status 0 with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" gc
        left=$(world_leftovers)
        expect_eq "$left" "" "left after a death at $moment ms, gc said $OUTPUT"
    done
}

# die_at ID UNTIL...: job ID runs until the command UNTIL succeeds; then runner and all of slipway's processes die.
die_at() {
    local id=$1 simulator
    shift
    sim "$id" &
    simulator=$!
    until_true 60 test -s "$CASE_DIR/$id/pid"
    until_true 60 "$@"
    # shellcheck disable=SC2046
    kill -KILL "$(cat "$CASE_DIR/$id/pid")" $(slipway_pids) $(worker_pids) 2>/dev/null || true
    wait "$simulator" || true
    expect_eq "$(slipway_pids)$(worker_pids)" "" "what of slipway lives on"
}

# owned: every container of this slipway but the builder that it keeps warm, and the scratch folders of scans.
owned() {
    with_cgroup2_as_user podman ps --all --filter label=io.slipway.owner --format '{{.Names}} {{.Labels}}' | grep -v 'io.slipway.role:builder' || true
    find "$world_state_dir/gate" -name 'scan-*' 2>/dev/null || true
    find "$world_state_dir/leases" -type f -name '*.json' 2>/dev/null || true
}

podman_mounts() {
    with_cgroup2_as_user podman unshare cat /proc/self/mountinfo |
        grep -oE ' /[^ ]*/(overlay|overlay-containers|volumes)/[^ ]*(merged|userdata/shm|_data) ' || true
}
no_process() { ! pgrep -f -x "$1" >/dev/null; }
scanner_runs() { [[ -n $(with_cgroup2_as_user podman ps --quiet --filter label=io.slipway.role=scanner) ]]; }
# ids: of each running sandbox of slipway its role and the host's id of its root, while a scan runs
ids() {
    local pid role
    with_cgroup2_as_user podman ps --format '{{.Pid}} {{index .Labels "io.slipway.role"}}' --filter label=io.slipway.owner |
        while read -r pid role; do echo "${role:-job} $(awk 'NR == 1 { print $2 }' "/proc/$pid/uid_map")"; done
}
scanner_runs_for_itself() { scanner_runs && ids >ids && grep -q ^scanner ids; }
# The registry under the name by which faults are in its way, as configuration.
registry_by_proxy() {
    printf '[[registry]]\nhost = "%s"\nca_file = "%s"\nrealm_hosts = ["%s"]\ncredential = "operator"\nusername = "slipway"\npassword_file = "%s"\n' \
        "$proxy" "$env_tls/ca.pem" "$env_address:$env_token_port" "$world_dir/etc/registry-password"
}
manifest_waits() { grep -q hold "$world_dir/log/requests"; }

# endless_scanner CONFIG: slipway's configuration with a scanner that works for ever and takes no SIGTERM.
endless_scanner() {
    cc -static -O1 -o "$world_dir/endless" -x c - <<<'#include <signal.h>
#include <unistd.h>
int main(void) { signal(SIGTERM, SIG_IGN); for (;;) pause(); }'
    sed "s|^trivy = .*|trivy = \"$world_dir/endless\"|; /^trivy_sha256/d" "$world_config" >"$1"
}

TEST "a job that builds nothing needs neither BuildKit nor Trivy nor a database" {
    local config=$world_dir/etc/bare.toml
    sed -E 's#^(trivy|buildkitd|buildctl|db_dir) = .*#\1 = "/nonexistent/\1"#' "$world_config" >"$config"
    expect_eq "$(grep -c '"/nonexistent/' "$config")" 4
    job 3067 'echo gre""en'
    sim_config=$config sim 3067
    expect_contains "$(all 3067 run:build_script out)" green
    expect_eq "$(result 3067)" success
    expect_nothing_left
}

gc_leaves_nothing() {
    with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" gc >/dev/null && [[ -z $(owned)$(world_leftovers) ]]
}

TEST "slipway gc removes what sudden deaths at random moments of builds, scans and pushes left" {
    local seed=$((SRANDOM % 32768)) round moment simulator
    RANDOM=$seed
    job 3066 "for i in \$(seq 1000); do printf 'FROM $tiny\nRUN printf %s >/word\n' \"\$i-\$(cat /proc/sys/kernel/random/uuid)\" >Dockerfile
docker build -q -t $world_registry/grp/app/random:1 . && docker push -q $world_registry/grp/app/random:1; done"
    for round in 1 2 3 4 5; do
        sim 3066 &
        simulator=$!
        until_true 30 test -s "$CASE_DIR/3066/pid"
        moment=$((RANDOM % 8000))
        echo "seed $seed, round $round: after $moment ms"
        sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
        # shellcheck disable=SC2046
        kill -KILL "$(cat "$CASE_DIR/3066/pid")" $(slipway_pids) $(worker_pids) 2>/dev/null || true
        wait "$simulator" || true
        rm -rf "$CASE_DIR/3066"
        # What a Podman that outlives slipway still makes is found by the next one.
        until_true 30 gc_leaves_nothing || fail "seed $seed, $moment ms: $(owned)$(world_leftovers)" || return 1
    done
    [[ -n $(world_registry_digest grp/app/random:1) ]] # at least one round came to a push
}

TEST "what dies in a build, in a scan or in an upload leaves no container, no process, no mount and no tag" {
    local mark=9$BASHPID config=$world_dir/etc/points.toml
    endless_scanner "$config"
    registry_by_proxy >>"$config"
    push="docker pull -q $tiny; docker tag $tiny $proxy/grp/app/dies:1; docker push $proxy/grp/app/dies:1"

    # In a RUN step; the next job's prepare finds it.
    job 3071 "printf 'FROM $world_busybox\\nRUN sleep ${mark}1; echo never\\n' >Dockerfile; docker build -t x:1 ."
    job 3072 'echo ran'
    die_at 3071 pgrep -f -x "sleep ${mark}1"
    sim 3072 --steps config prepare cleanup
    expect_eq "$(all 3072 prepare rc)" 0
    until_true 10 no_process "sleep ${mark}1"
    expect_eq "$(owned)" "" "left after a death in a build"
    expect_nothing_left

    # While the image is scanned; slipway gc finds it.
    job 3073 "$push"
    sim_config=$config die_at 3073 scanner_runs_for_itself
    expect_eq "$(grep -c -v ^scanner ids | sed 's/^[1-9].*/others/')" others "$(<ids)"
    expect_eq "$(grep -c -w -- "$(awk '$1 == "scanner" { print $2; exit }' ids)" ids)" 1 "sandboxes with the scanner's ids: $(<ids)"
    # The control: all that is looked for is there now.
    expect_contains "$(owned)" io.slipway.role:scanner
    expect_contains "$(owned)" /gate/scan-
    [[ -n $(podman_mounts) ]]
    expect_status 0 "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$config" gc
    expect_eq "$(owned)" "" "left after a death in a scan, gc said $OUTPUT"
    expect_nothing_left

    # While the image is sent: its blobs are there, its manifest is on the way.
    registry_by_proxy | cat "$world_config" - >"$config"
    : >"$world_dir/log/requests"
    write "$world_dir/faults.json" "$manifest_held"
    job 3074 "$push"
    sim_config=$config die_at 3074 manifest_waits
    write "$world_dir/faults.json" '{}'
    expect_status 0 "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$config" gc
    expect_eq "$(owned)" "" "left after a death in an upload, gc said $OUTPUT"
    expect_nothing_left

    # With what slipway keeps warm gone too, Podman has nothing at all, and holds no mount.
    expect_status 0 "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$config" gc --all
    expect_eq "$(with_cgroup2_as_user podman ps --all --external --quiet)" "" containers
    expect_eq "$(podman_mounts)" "" mounts
    expect_absent grp/app/dies:1
    # The control: without a death the same job's push arrives.
    job 3075 "$push"
    sim_config=$config sim 3075
    expect_eq "$(result 3075)" success
    [[ -n $(world_registry_digest grp/app/dies:1) ]]
}

# wait_for CONDITION MARK: a command that waits for it, and then makes the file MARK.
wait_for() { echo "for i in {1..300}; do if $1; then touch '$2'; break; fi; sleep 0.2; done"; }

TEST "a job cancelled while its image is scanned leaves no scanner" {
    local sim_config=$world_dir/etc/endless.toml
    endless_scanner "$sim_config"
    job 3076 "docker pull -q $tiny; docker tag $tiny $world_registry/grp/app/scanned:1; docker push $world_registry/grp/app/scanned:1"
    sim 3076 --on "build_script:scanning:run=$(wait_for 'podman ps --quiet --filter label=io.slipway.role=scanner | grep -q .' "$CASE_DIR/3076/scans")" \
        --on 'build_script:scanning:cancel'

    # The control: there was one to be left.
    [[ -e $CASE_DIR/3076/scans ]]
    expect_eq "$(result 3076 | cut -d' ' -f1,2)" "failed job_canceled"
    expect_eq "$(all 3076 run:build_script rc)" 1
    expect_eq "$(owned)" "" "left of the scan"
    expect_nothing_left
    expect_absent grp/app/scanned:1
}

TEST "what a script asked for and did not wait for ends with it" {
    local sim_config=$world_dir/etc/endless.toml
    endless_scanner "$sim_config"
    job 3077 "docker pull -q $tiny; docker tag $tiny $world_registry/grp/app/scanned:1
docker push $world_registry/grp/app/scanned:1 >said 2>&1 &
until grep -q scanning said; do sleep 0.1; done
echo the script is over"
    sim 3077

    expect_eq "$(result 3077)" success
    expect_contains "$(all 3077 run:build_script out)" "the script is over"
    expect_eq "$(owned)" "" "left of the scan"
    expect_nothing_left
    expect_absent grp/app/scanned:1

    # A question to a registry that does not answer.
    registry_by_proxy | cat "$world_config" - >"$sim_config"
    : >"$world_dir/log/requests"
    write "$world_dir/faults.json" '{"hold": true, "method": "GET|HEAD", "path": "/manifests/held"}'
    job 3078 "docker manifest inspect $proxy/grp/app/any:held & echo asked; sleep 600"
    sim 3078 --on "build_script:asked:run=$(wait_for "grep -q hold '$world_dir/log/requests'" "$CASE_DIR/3078/held")" --on 'build_script:asked:cancel'
    write "$world_dir/faults.json" '{}'

    [[ -e $CASE_DIR/3078/held ]]
    expect_eq "$(all 3078 run:build_script rc)" 1
    expect_nothing_left
}

# secret_job ID MASKED: its image's name and a Dockerfile hold a masked variable's value.
secret_job() {
    local before=0
    [[ ! -e $world_state_dir/audit.jsonl ]] || before=$(wc -l <"$world_state_dir/audit.jsonl")
    job "$1" "printf 'FROM $world_busybox\\nhidden-4711-value x\\n' >Dockerfile; docker build ." \
        ".variables += [{key: \"PROBE\", value: \"hidden-4711-value\", masked: $2}]"
    sim "$1"
    jq '.image.name |= sub("busybox"; "$PROBE")' "$1.json" >"$CASE_DIR/$(($1 + 1)).json"
    jq ".id = $(($1 + 1))" "$CASE_DIR/$(($1 + 1)).json" >next && mv next "$CASE_DIR/$(($1 + 1)).json"
    sim "$(($1 + 1))"
    cat "$1/events.jsonl" >said
    cat "$(($1 + 1))/events.jsonl" >>said
    tail -n "+$((before + 1))" "$world_state_dir/audit.jsonl" >audited
}

TEST "what slipway says of an image, and what a builder says of a Dockerfile, holds no masked value" {
    secret_job 3080 true
    expect_lacks "$(jq -r 'select(.out or .err) | .out, .err' said | grep -v '^\$ ')" hidden-4711-value
    expect_contains "$(<said)" '[MASKED]'
    grep -q 'Pulling [^ ]*MASKED' said
    expect_lacks "$(<audited)" hidden-4711-value
    expect_contains "$(jq -r 'select(.event == "job_prepare") | .image' audited)" '[MASKED]'
}

TEST "control: of a variable that is not masked the same is shown" {
    secret_job 3085 false
    grep -q 'Pulling [^ ]*hidden-4711-value' said
    expect_contains "$(jq -r 'select(.event == "job_prepare") | .image' audited)" hidden-4711-value
    grep -q 'unknown instruction: .*[Hh][Ii][Dd][Dd][Ee][Nn]' said
}
