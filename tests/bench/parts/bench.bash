# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the benchmarks share: a fresh world that is gone at the end. Sets bench_dir, bench_parts.

set -euo pipefail
bench_parts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/world.sh
. "$bench_parts/../../lib/world.sh"

bench_start() {
    ((EUID == 0)) || { echo "$0: needs root" >&2; exit 2; }
    bench_dir=$(mktemp -d "${TMPDIR:-/tmp}/slipway-bench.XXXXXX")
    chmod 755 "$bench_dir"
    trap 'world_stop; rm -rf "$bench_dir"' EXIT
    trap 'exit 143' TERM INT
    world_start "$bench_dir/world"
    # Debug lines are written to disk, and not what an installation has.
    sed -i 's/^log_level = .*/log_level = "info"/' "$world_config"
}

# bench_as_user COMMAND...: as slipway's user, with its runtime folder and cgroup.
bench_as_user() { with_cgroup2_as_user "$@"; }

# bench_slipway ARGUMENT...: slipway for the job in $bench_dir/job.json.
bench_slipway() {
    bench_as_user JOB_RESPONSE_FILE="$bench_dir/job.json" "$world_bin/slipway" --config "$world_config" \
        "$@" >"$bench_dir/stage.log" 2>&1 || { tail -n 30 "$bench_dir/stage.log"; return 1; }
}

bench_title() {
    printf '\n%s\n  %s, %s cores, load %s\n' "$1" "$(date -u +%F)" "$(nproc)" "$(cut -d' ' -f1 /proc/loadavg)"
}

# bench_since NANOSECONDS: the seconds that have passed since then.
bench_since() { echo "$(($(date +%s%N) - $1))" | awk '{ printf "%.3f", $1 / 1e9 }'; }

# bench_settle: what was removed and written before is on the disk: BuildKit ends each layer with a sync of the whole file system,
# and would pay for others.
bench_settle() {
    sync
    for _ in {1..50}; do
        (($(awk '$1 == "Dirty:" { print $2 }' /proc/meminfo) > 4096)) || return 0
        sleep 0.2
    done
}
