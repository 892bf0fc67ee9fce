# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For suites of tests/e2e: jobs whose script tries many things, each looked at by itself. Source after world.sh.
#
#   run_script ID SCRIPT [JQ]   runs one job, changed by the jq program; sets TRACE and STATE
#   run_steps ID SCRIPT [JQ]    the same, and SCRIPT may use `try NAME COMMAND...`, which never ends the script
#   step_says NAME              what the command of that name printed (stdout and stderr)
#   expect_step NAME STATUS [WORDS...]   it ended so and printed these
#   expect_absent REPOSITORY:TAG         the registry says that it has no such manifest

# shellcheck disable=SC2016
steps_prelude='try() { local name=$1 rc=0; shift; echo "<<$name"; "$@" 2>&1 || rc=$?; echo; echo ">>$name $rc"; } # a step'

run_script() {
    world_job "$1" "$2" | jq "${3:-.}" >"$CASE_DIR/$1.json"
    world_run "$CASE_DIR/jobs" "$CASE_DIR/$1.json"
    TRACE=$(world_trace "$CASE_DIR/jobs" "$1")
    STATE=$(world_state "$CASE_DIR/jobs" "$1")
    echo "$TRACE"
    echo "state: $STATE"
}

run_steps() {
    run_script "$1" "$steps_prelude"$'\n'"$2" "${3:-.}"
}

step_says() {
    awk -v begin="<<$1" -v end=">>$1 " '
        $0 == begin { on = 1; next }
        on && index($0, end) == 1 { exit }
        on { print }' <<<"$TRACE"
}

expect_step() {
    local name=$1 status=$2 said words
    shift 2
    said=$(step_says "$name")
    grep -qxF -- ">>$name $status" <<<"$TRACE" ||
        fail "step '$name' ended with '$(grep -F -- ">>$name " <<<"$TRACE")', expected $status, and said: $said" || return 1
    for words in "$@"; do
        [[ $said == *"$words"* ]] || fail "step '$name' does not say '$words', but: $said" || return 1
    done
}

# A registry that is down says nothing, and is no proof.
expect_absent() {
    local answer
    if answer=$(env_skopeo inspect --creds slipway:only-slipway-knows-this "docker://$world_registry/$1" 2>&1); then
        fail "the registry has $1: $answer" || return 1
    fi
    [[ $answer == *"manifest unknown"* || $answer == *"name unknown"* || $answer == *"not found"* ]] || fail "$answer"
}
