# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For suites of tests/e2e: jobs whose script tries many things, each looked at by itself. Source after world.sh.
#
#   run_script ID SCRIPT [JQ]   runs one job, changed by the jq program; sets TRACE and STATE
#   run_steps ID SCRIPT [JQ]    the same, and SCRIPT may use `try NAME COMMAND...`, which never ends the script
#   step_says NAME              what the command of that name printed (stdout and stderr)
#   expect_step NAME STATUS [WORDS...]   it ended so and printed these
#   make_tiny_base              pushes $tiny, a Debian of two packages, one with a vulnerability that nobody fixed: scans of a
#                               whole Debian take seconds; its layout is $SUITE_DIR/tiny-layout
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

make_tiny_base() {
    local root=$SUITE_DIR/tiny applet
    mkdir -p "$root"/{bin,etc,tmp,dev,root/.ssh,usr/lib/python3/dist-packages,var/lib/dpkg}
    cp /bin/busybox "$root/bin/busybox"
    for applet in sh rm mkdir printf head; do ln -s busybox "$root/bin/$applet"; done
    printf 'ID=debian\nVERSION_ID="12"\n' >"$root/etc/os-release"
    echo 12.5 >"$root/etc/debian_version"
    printf 'Package: %s\nStatus: install ok installed\nSource: %s\nVersion: %s\nArchitecture: amd64\n\n' \
        zlib1g zlib 1:1.2.13.dfsg-1 adduser adduser 3.134 >"$root/var/lib/dpkg/status"
    tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$root.tar" .
    image_layout "$root.tar" "$SUITE_DIR/tiny-layout" 1
    chmod -R a+rX "$SUITE_DIR/tiny-layout"
    push_image_to_registry "$SUITE_DIR/tiny-layout:1" base/tiny:1 slipway only-slipway-knows-this
    tiny=$world_registry/base/tiny:1
}
