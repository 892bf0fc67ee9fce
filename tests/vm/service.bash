# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# README's way to a running service, on a virtual machine with Debian 12, systemd and cgroup v2; see tests/vm/README.md.
# The cases follow each other: each finds the machine as the ones before left it.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/vm/vm.sh
. "$SUITE_ROOT/tests/vm/vm.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    command -v qemu-system-x86_64 >/dev/null || echo "there is no qemu-system-x86_64"
}

SUITE_SETUP() {
    [[ $(vm_accel) == kvm ]] || echo "note: no KVM on this machine, or none of the processor's own: QEMU emulates one, and all takes an hour" >&3
    world_registry=$env_registry world_base=$env_registry/base/debian:12 world_busybox=$env_registry/base/busybox:1
    for tool in buildkit trivy trivydb gitlab-runner; do "$SUITE_ROOT/packaging/tools/build" "$tool"; done
    image_debian && image_busybox
    vm_image
    vm_start "$SUITE_DIR/console.log"
    guest package
}

SUITE_TEARDOWN() { vm_stop; }

guest() { vm bash /checkout/tests/vm/guest.sh "$@"; }

# job ID SCRIPT [JQ]: prints a job in the small image.
job() { world_job "$1" "$2" "$world_busybox" | jq "${3:-.}"; }

# run ID=SCRIPT [JQ]: hands the job to the runner and waits for its end; sets $TRACE and $STATE. One at a time: where the
# processor is emulated several would meet slipway's deadlines.
run() {
    queue "$@"
    guest await $((90 * vm_slow)) "${1%%=*}"
    trace "${1%%=*}"
}
queue() { job "${1%%=*}" "${1#*=}" "${@:2}" | vm_with_input bash /checkout/tests/vm/guest.sh queue; }
trace() {
    TRACE=$(vm cat "/var/lib/world/jobs/$1.trace" | sed -E 's/^[0-9T:.Z-]{20,} [0-9a-f]{2}[OE][+ ]?//; s/\x1b\[[0-9;]*[a-zA-Z]//g; s/\r//g')
    STATE=$(vm "jq -r '.final | [.state, .failure_reason] | join(\" \")' /var/lib/world/jobs/$1.result.json")
}

# What jobs left: containers, networks, folders, groups, and processes in the service beside the runner and Podman's own.
expect_nothing_left() { expect_eq "$(guest leftovers)" "" "what is left"; }

build_script() {
    printf '%s\n' "printf 'FROM $world_base\nRUN cat /proc/self/cgroup; echo hi >/hi\n' >Dockerfile" \
        "docker build -t $world_registry/app/web:$1 . && docker push $world_registry/app/web:$1"
}

TEST "README's lines for a new machine work as they stand" {
    OUTPUT=$(guest readme 2>&1)
    expect_contains "$OUTPUT" "is right: user gitlab-runner"
    expect_contains "$OUTPUT" "add 917504 ids for gitlab-runner to /etc/subuid"
    expect_contains "$OUTPUT" "enable lingering of gitlab-runner"
    expect_contains "$OUTPUT" "systemd has read the drop-in"
    expect_lacks "$OUTPUT" "level=warning"
    guest configure
    OUTPUT=$(guest readme_check 2>&1)
    expect_contains "$OUTPUT" "/etc/slipway/config.toml: ok"
    expect_contains "$OUTPUT" "backend buildkit v0."
    expect_contains "$OUTPUT" "backend podman 4."
    expect_contains "$OUTPUT" "backends: 4, problems: 0"
    expect_contains "$OUTPUT" "jobs 4 of 4, builders 4 of 4, stores 4 of 4, scanners yes"
    guest base_images
}

TEST "a second run of setup-runner changes nothing" {
    OUTPUT=$(vm "cd /etc && find slipway systemd subuid subgid gitlab-runner -type f -exec sha256sum {} + >/root/before &&
        /checkout/packaging/setup-runner --concurrent 4 && sha256sum --quiet --check /root/before" 2>&1)
    expect_lacks "$OUTPUT" "write /"
    expect_lacks "$OUTPUT" "FAILED"
}

TEST "the service runs as its user, in a group below one that hands controllers on" {
    vm systemctl restart gitlab-runner
    until_true 60 vm systemctl is-active --quiet gitlab-runner
    OUTPUT=$(vm 'ps -o user:20= -p $(systemctl show -P MainPID gitlab-runner)
        cat /proc/$(systemctl show -P MainPID gitlab-runner)/cgroup
        cat /sys/fs/cgroup/system.slice/gitlab-runner.service/cgroup.subtree_control')
    expect_eq "$OUTPUT" $'gitlab-runner\n0::/system.slice/gitlab-runner.service/runner\ncpu memory pids'
}

TEST "a job runs without privilege, and its limits are the kernel's" {
    run 1='id -u; cat /proc/self/uid_map; cd /sys/fs/cgroup; echo "limits:" $(cat memory.max memory.swap.max pids.max cpu.max)'
    expect_eq "$STATE" "success "
    expect_contains "$TRACE" "this host does not enforce: disk ("
    expect_contains "$TRACE" "limits: 805306368 0 300 50000 100000"
    expect_nothing_left
}

TEST "a job that takes too much memory, too many processes or the whole processor is held by the kernel" {
    run 2='dd if=/dev/zero of=/dev/null bs=1500M count=1 || echo "dd: $?"'
    expect_contains "$TRACE" "dd: 137"
    run 3='i=0; while [ $i -lt 400 ]; do sleep 60 & i=$((i + 1)); done; echo NE""VER'
    expect_lacks "$TRACE" NEVER
    expect_contains "$TRACE" "can't fork"
    run 4='timeout 10 sh -c "while :; do :; done & while :; do :; done"; cat /sys/fs/cgroup/cpu.stat'
    [[ $TRACE =~ nr_throttled\ ([0-9]+) ]] && ((BASH_REMATCH[1] > 10))
    expect_nothing_left
}

TEST "an image is built, judged, pushed, within the builder's own limits" {
    run "5=$(build_script five)"
    expect_eq "$STATE" "success "
    expect_contains "$TRACE" "Gate: passed"
    [[ $(guest digest app/web:five) == sha256:* ]]
    OUTPUT=$(vm 'cat /sys/fs/cgroup/system.slice/gitlab-runner.service/sandboxes/libpod-*/memory.max')
    expect_contains "$OUTPUT" 805306368
}

TEST "what a job starts in an administrator's session does not draw the service's sandboxes there" {
    vm 'cd / && runuser -u gitlab-runner -- slipway gc && runuser -u gitlab-runner -- slipway doctor'
    run 6='cat /sys/fs/cgroup/pids.max'
    expect_contains "$TRACE" $'\n300'
    expect_contains "$TRACE" "this host does not enforce: disk ("
}

TEST "a service that is stopped in the midst of a job ends it and leaves nothing" {
    for how in 'systemctl kill --kill-whom=main --signal=TERM gitlab-runner' 'systemctl kill --signal=KILL gitlab-runner'; do
        queue 7='echo rea""dy; sleep 900'
        guest await_word $((90 * vm_slow)) ready 7
        vm "$how"
        until_true $((15 * vm_slow)) vm '! systemctl is-active --quiet gitlab-runner'
        vm systemctl restart gitlab-runner
        # Podman's name server lives in the user's own slice, and so through the service's end.
        run 8='wget -qO- http://web:8080/' ".services = [{name: \"$world_busybox\", alias: \"web\", entrypoint: [\"sh\", \"-c\"],
            command: [\"mkdir /w; echo from the service >/w/index.html; exec httpd -f -p 8080 -h /w\"]}]"
        expect_eq "$STATE" "success "
        expect_contains "$TRACE" "from the service"
        expect_nothing_left
    done
}

TEST "after a reboot a job runs without anybody logging in" {
    vm systemctl stop gitlab-runner
    queue "9=$(build_script nine)"
    vm_reboot
    guest await $((180 * vm_slow)) 9
    trace 9
    expect_eq "$STATE" "success "
    expect_contains "$TRACE" "this host does not enforce: disk ("
    expect_nothing_left
}
