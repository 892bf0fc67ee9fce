#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A small harness for suites of shell tests. A suite is a file tests/e2e/NAME.bash:
#
#   PROBE() { [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"; }   # prints why the suite cannot run
#   SUITE_SETUP() { ...; }                                                      # once per suite; both optional
#   SUITE_TEARDOWN() { ...; }
#   TEST "push is refused when the report has a CRITICAL finding" {
#       run_job bad.json
#       expect_contains "$TRACE" "CVE-2020-14343"
#   }
#
# Cases run in order, each in a subshell with errexit: the first failing command fails its case. A case begins with a
# line `TEST "TITLE" {` and ends with a `}` in the first column. Variables that SUITE_SETUP sets are seen by all cases;
# $SUITE_DIR and $CASE_DIR (also the working folder) are there for files, and are kept when a case fails.
#
# A case that fails is tried once more and told as flaky; not so in a suite with SUITE_ONCE=1, whose attacks or deaths a
# second try could hide.
#
# Run by tests/run, or alone: bash tests/lib/suite.bash tests/e2e/NAME.bash [WORDS OF A TITLE]
set -uo pipefail

fail() {
    echo "$*" >&2
    return 1
}

expect_eq() { [[ $1 == "$2" ]] || fail "${3:-value} is '$1', expected '$2'"; }
expect_contains() { [[ $1 == *"$2"* ]] || fail "no '$2' in the text, which ends: $(tail -n 12 <<<"$1")"; }
expect_lacks() { [[ $1 != *"$2"* ]] || fail "'$2' is in the text: $(grep -F -m 3 -- "$2" <<<"$1")"; }

# expect_status WANT COMMAND...: runs the command and leaves what it printed in $OUTPUT.
expect_status() {
    local want=$1 got=0
    shift
    OUTPUT=$("$@" 2>&1) || got=$?
    ((got == want)) || fail "exit status $got, expected $want, of: $* -> $(tail -n 12 <<<"$OUTPUT")"
}

# until_true SECONDS COMMAND...: repeats the command until it succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || fail "still not true after the wait: $*" || return 1
        sleep 0.1
    done
}

PROBE() { :; }
SUITE_SETUP() { :; }
SUITE_TEARDOWN() { :; }

suite_file=$(realpath "$1")
suite_filter=${2:-}
suite_name=$(basename "$suite_file" .bash)
SUITE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SUITE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/slipway-$suite_name.XXXXXX")
chmod 755 "$SUITE_DIR"
export SUITE_ROOT SUITE_DIR
SLIPWAY_BIN=${SLIPWAY_BIN:-$SUITE_ROOT/build/bin}
passed=0 failed=0 skipped=0

# Ends the program: the last line it prints and the result file are what tests/run adds up.
suite_end() {
    [[ -z ${SLIPWAY_SUITE_RESULT:-} ]] || echo "$passed $failed $skipped" >"$SLIPWAY_SUITE_RESULT"
    echo "$suite_name: $passed passed, $failed failed${skipped:+$( ((skipped)) && echo ", $skipped skipped")}"
    exit $((failed > 0))
}

suite_teardown() {
    trap - EXIT
    SUITE_TEARDOWN >"$SUITE_DIR/teardown.log" 2>&1 || echo "      tear-down of $suite_name failed, continuing"
}

mapfile -t suite_titles < <(sed -n 's/^TEST "\(.*\)" {$/\1/p' "$suite_file")
# Each title line becomes a function's first line, so line numbers stay those of the suite's file.
awk '/^TEST ".*" \{$/ { print "suite_case_" n++ "() {"; next } { print }' "$suite_file" >"$SUITE_DIR/suite.sh"
# shellcheck source=/dev/null
source "$SUITE_DIR/suite.sh" || { echo "FAIL  $suite_name: its file cannot be read"; failed=1; suite_end; }

if ((${#suite_titles[@]} == 0)); then
    echo "FAIL  $suite_name: no case in it"
    failed=1
    suite_end
fi

suite_reason=$(PROBE 2>&1) || suite_reason=${suite_reason:-its probe failed}
if [[ -n $suite_reason ]]; then
    rm -rf "$SUITE_DIR"
    if [[ ${SLIPWAY_TESTS_MUST_RUN:-} == 1 ]]; then
        echo "FAIL  $suite_name: cannot run here: $suite_reason"
        failed=${#suite_titles[@]}
    else
        echo "SKIP  $suite_name: $suite_reason"
        skipped=${#suite_titles[@]}
    fi
    suite_end
fi

# What ends this program, a failing set-up or a signal, still tears down.
suite_on_exit() {
    suite_teardown
    exec >&3 2>&4
    echo "FAIL  $suite_name: set-up failed; its log $SUITE_DIR/setup.log ends:"
    tail -n 20 "$SUITE_DIR/setup.log" | sed 's/^/      /'
    failed=${#suite_titles[@]}
    suite_end
}
exec 3>&1 4>&2
trap suite_on_exit EXIT
trap 'exit 130' INT TERM
exec >"$SUITE_DIR/setup.log" 2>&1
# Plain, not inside "if" or "||": there errexit would be off in all that it calls.
set -e
SUITE_SETUP
set +e
exec >&3 2>&4
trap suite_teardown EXIT

suite_tries=$((${SUITE_ONCE:-0} ? 1 : 2))
for suite_index in "${!suite_titles[@]}"; do
    suite_title=${suite_titles[suite_index]}
    [[ -z $suite_filter || $suite_title == *"$suite_filter"* ]] || continue
    for suite_try in $(seq "$suite_tries"); do
    CASE_DIR=$SUITE_DIR/case-$((suite_index + 1)).$suite_try
    mkdir "$CASE_DIR"
    chmod 755 "$CASE_DIR"
    suite_began=$SECONDS
    (
        trap - EXIT
        trap 'echo "failed at $suite_name.bash:$LINENO: $BASH_COMMAND" >&2' ERR
        exec 3>&- 4>&-
        cd "$CASE_DIR" || exit 1
        set -eE
        "suite_case_$suite_index"
    ) >"$CASE_DIR/log" 2>&1
    suite_rc=$?
    ((suite_rc != 0)) || break
    ((suite_try == suite_tries)) || { echo "FLAKY? $suite_name: $suite_title: failed, trying once more"; tail -n 3 "$CASE_DIR/log" | sed 's/^/      /'; }
    done
    if ((suite_rc == 0)); then
        passed=$((passed + 1))
        ((suite_try == 1)) || echo "$suite_name: $suite_title" >>"${SLIPWAY_SUITE_AGAIN:-/dev/null}"
        echo "ok    $suite_name: $suite_title ($((SECONDS - suite_began)) s)"
        [[ -n ${SLIPWAY_KEEP:-} ]] || rm -rf "$CASE_DIR"
    else
        failed=$((failed + 1))
        echo "FAIL  $suite_name: $suite_title"
        tail -n 25 "$CASE_DIR/log" | sed 's/^/      /'
        echo "      files: $CASE_DIR"
    fi
done

suite_teardown
if ((failed == 0)) && [[ -z ${SLIPWAY_KEEP:-} ]]; then rm -rf "$SUITE_DIR"; fi
if ((passed + failed == 0)); then
    echo "FAIL  $suite_name: no case is titled like '$suite_filter'"
    failed=1
fi
suite_end
