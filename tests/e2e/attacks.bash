# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Jobs that want out: to the registry, to neighbours, to the host. Each attack has a control, where the same one works
# because the defence is off.

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
    command -v curl nft >/dev/null || echo "needs curl and nft"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    # What the job knows may push: only the sandbox's network and slipway's gate stand before the registry.
    jq '. + {"ci": {"password": "a-token-that-may-push", "repos": {"*": ["pull", "push"]}}}' \
        "$world_dir/users.json" >"$world_dir/users.new"
    mv "$world_dir/users.new" "$world_dir/users.json"
    publish_tools
    push_by_hand=$(push_by_hand_script | base64 -w0)
}

SUITE_TEARDOWN() {
    world_stop
}

# all_ways ID NAME: a job that pushes by hand from everywhere: its script, its helper, a service, a RUN step.
all_ways() {
    run_steps "$1" "try script /opt/push-by-hand $2/script
try service curl --silent --retry 20 --retry-delay 1 --retry-connrefused http://pusher:8080/said
printf 'FROM $world_tools\nRUN nft flush ruleset; echo flush-of-the-step \$?; /opt/push-by-hand $2/build\n' >Dockerfile
try build docker build --no-cache .
ln -s \"\$(command -v docker)\" /usr/local/bin/buildah # the image has none
c=\$(buildah from $world_tools)
try capabilities buildah run --cap-add NET_ADMIN \$c true
try route-of-the-command buildah run \$c -- /opt/busybox ip link set eth0 down
try session buildah run \$c -- sh -c 'nft flush ruleset; echo flush-of-the-command \$?; /opt/push-by-hand $2/session'
try flush nft flush ruleset
try route /opt/busybox ip route add $env_address/32 dev eth0
try address /opt/busybox ip link set eth0 down
try after-tricks /opt/push-by-hand $2/tricks" ".image.name = \"$world_tools\"
        | .services = [{name: \"$world_tools\", alias: \"pusher\", entrypoint: [\"/bin/bash\", \"-c\",
            \"mkdir /www; /opt/push-by-hand $2/service >/www/said 2>&1; exec /opt/busybox httpd -f -p 8080 -h /www\"]}]"
    all_ways_trace=$TRACE all_ways_state=$STATE
    # Its sources are not there, which fails the job after the hook.
    run_script "$(($1 + 1))" 'echo not reached' ".hooks = [{name: \"pre_get_sources_script\",
            script: [\"echo $push_by_hand | base64 -d | bash -s -- $2/helper || echo helper could not\"]}]
        | .variables |= map(if .key == \"GIT_STRATEGY\" then .value = \"clone\" else . end)"
    HELPER=$TRACE TRACE=$all_ways_trace STATE=$all_ways_state
}

TEST "a token that may push is of no use in the script, the helper, a service or a RUN step" {
    all_ways 5001 direct

    expect_eq "$STATE" success
    for way in script helper service build session tricks; do expect_absent "direct/$way:1"; done
    expect_lacks "$TRACE$HELPER" "by hand"
    # At once, not after the kernel's two minutes of trying.
    expect_step script 7 "Couldn't connect"
    expect_step service 0 "Couldn't connect"
    expect_contains "$HELPER" "Couldn't connect"
    expect_contains "$HELPER" $'\nhelper could not'
    expect_step build 1 "flush-of-the-step " "Couldn't connect"
    expect_step session 7 "flush-of-the-command " "Couldn't connect"
    expect_step after-tricks 7 "Couldn't connect"
    expect_step capabilities 125 --cap-add
    grep -q '^>>route-of-the-command [1-9]' <<<"$TRACE"
    grep -q '^>>flush [1-9]' <<<"$TRACE"
    grep -q '^>>route [1-9]' <<<"$TRACE"
    grep -q '^>>address [1-9]' <<<"$TRACE"
}

TEST "the builder's own root may push nothing either, whatever it does to its network" {
    env_serve_address=$env_gitlab_address env_serve away 8471 python3 -m http.server --bind "$env_gitlab_address" --directory "$CASE_DIR" 8471
    builder=$(with_cgroup2_as_user podman ps --quiet --filter label=io.slipway.role=builder | head -1)
    in_builder() { with_cgroup2_as_user podman exec --user 0 "$builder" timeout 10 bash -c "$1"; }

    # Control: it reaches what is no registry.
    in_builder "</dev/tcp/$env_gitlab_address/8471"
    ! in_builder "</dev/tcp/${world_registry/://}" || fail "the builder's root reached the registry"
    in_builder 'nft flush ruleset; echo flush-$?; nft delete table inet slipway_egress; ip route flush cache; true' >tried 2>&1
    expect_contains "$(<tried)" flush-
    expect_lacks "$(<tried)" flush-127
    ! in_builder "</dev/tcp/${world_registry/://}" || fail "the builder's root reached the registry"
}

TEST "control: with block_registries off the same pushes succeed" {
    with_sandbox 'block_registries = false' all_ways 5003 control

    expect_eq "$STATE" success
    expect_step script 0 "pushed control/script by hand"
    expect_step service 0 "pushed control/service by hand"
    expect_contains "$HELPER" "pushed control/helper by hand"
    expect_step build 0 "pushed control/build by hand"
    expect_step session 0 "pushed control/session by hand"
    [[ -n $(world_registry_digest control/script:1) ]]
}

# neighbours ID: two jobs at the same time; the second looks for the first, which has a service and waits.
neighbours() {
    local first=$1 second=$(($1 + 1)) runner name service docker
    world_job "$first" "echo secret-of-$first >mine; ln -s \"\$(command -v docker)\" /usr/local/bin/buildah; buildah from --name of-the-first scratch; buildah copy of-the-first mine /mine; sleep 4242 & until [ -e /tmp/stop ]; do sleep 0.2; done" | jq ".image.name = \"$world_tools\"
        | .services = [{name: \"$world_tools\", alias: \"pages\", entrypoint: [\"/opt/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/etc\"]}]" \
        >"$CASE_DIR/$first.json"
    (
        world_coordinator_port=$((world_coordinator_port + 100))
        world_run "$CASE_DIR/first" "$CASE_DIR/$first.json"
    ) &
    runner=$!
    until_true 90 job_waits
    service=$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=svc0 --format '{{.Names}}')
    service=$(with_cgroup2_as_user podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$service")
    name=$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=job --format '{{.Names}}')
    docker=$(with_cgroup2_as_user podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name")
    maps_of "$name" >"$CASE_DIR/first.map"
    run_steps "$second" "try reach curl --silent --show-error --connect-timeout 4 http://$service:8080/passwd
try by-name curl --silent --show-error --connect-timeout 4 http://pages:8080/passwd
try docker curl --silent --show-error --connect-timeout 4 http://$docker:2375/_ping
try processes sh -c 'cat /proc/*/cmdline | tr \"\\0\" \" \"'
try files grep -rs secret-of-$first /builds /tmp /home /run
ln -s \"\$(command -v docker)\" /usr/local/bin/buildah
buildah from --name own $world_tools
try containers buildah containers --noheading
try others-container buildah run of-the-first -- true
try root-of-session buildah run own -- sh -c 'cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"; for one in /proc/[0-9]*/root; do ls -R \$one/run/slipway; grep -rlsI -e only-slipway[-]knows-this -e secret-o[f]-$first \$one/etc \$one/run \$one/tmp \$one/var/lib/containers; done; id -u'" ".image.name = \"$world_tools\"" || true
    with_cgroup2_as_user podman exec "$name" /bin/touch /tmp/stop
    wait "$runner"
    FIRST=$(world_trace "$CASE_DIR/first" "$first")
}

job_waits() {
    local name
    name=$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=job --format '{{.Names}}') && [[ -n $name ]] &&
        with_cgroup2_as_user podman exec "$name" /bin/sh -c 'cat /proc/*/cmdline' | tr '\0' ' ' | grep -q 'sleep 4242'
} 2>/dev/null

# As the host sees it: inside id, host id, count.
maps_of() {
    cat "/proc/$(with_cgroup2_as_user podman inspect --format '{{.State.Pid}}' "$1")/uid_map"
}

TEST "a job reaches no neighbour: not its service, its processes, its files, its ids" {
    neighbours 5011

    expect_eq "$STATE" success
    expect_step files 1
    for step in reach by-name docker; do ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "$step succeeded"; done
    expect_lacks "$(step_says processes)" "sleep 4242"
    # Its own working container is there, the neighbour's is not; nor is anything of the neighbour's, or a credential.
    expect_step containers 0 own
    expect_lacks "$(step_says containers)" of-the-first
    expect_step others-container 125
    expect_step root-of-session 0 slipway-init
    for found in "sleep 4242" /root/etc /root/var/lib docker.sock "$world_bin"; do expect_lacks "$(step_says root-of-session)" "$found"; done
    expect_lacks "$FIRST$TRACE" "too few subordinate ids"
    read -r inside host count <"$CASE_DIR/first.map"
    expect_eq "$inside" 0
    ((count <= 65536))
    # The service user is not among them, and the two ranges do not meet.
    user=$(id -u "$world_user")
    ((user < host || user >= host + count)) || fail "the service user's id is mapped: $host+$count"
    expect_eq "$(wc -l <"$CASE_DIR/first.map")" 1 "lines of the id map"
}

TEST "a service finds the job's Docker endpoint as docker; a RUN step of the job's builds finds none" {
    run_steps 5026 "try service sh -c 'for i in \$(seq 30); do curl -s http://asker:8080/ && exit; sleep 1; done; exit 1'
try alone curl -s http://\$(hostname -i | tr ' ' '\n' | grep '^10'):2375/_ping
printf 'FROM $world_tools\nRUN curl -s --connect-timeout 4 http://%s:2375/_ping; echo ended with \$?\n' \$(hostname -i | tr ' ' '\n' | grep '^10') >Dockerfile
try build docker build --no-cache -t built:1 ." ".image.name = \"$world_tools\"
        | .services = [{name: \"docker:dind\", alias: \"builds\"}, {name: \"$world_tools\", alias: \"asker\", entrypoint: [\"/bin/bash\", \"-c\", \"mkdir /www
            for at in docker builds; do until curl -s --connect-timeout 4 http://\$at:2375/_ping >>/www/index.html; do sleep 1; done; done
            exec /opt/busybox httpd -f -p 8080 -h /www\"]}]"

    expect_eq "$STATE" success
    expect_step alone 0 OK
    expect_eq "$(step_says service)" OKOK
    expect_step build 0 "ended with 28"
}

TEST "nobody of the service user's processes reads the job's secrets in those of slipway" {
    world_job 5027 "sleep 4242 & until [ -e /tmp/stop ]; do sleep 0.2; done" | jq ".image.name = \"$world_tools\"
        | .variables += [{key: \"SECRET\", value: \"hunter2-hunter2-5027\", masked: true}]" >"$CASE_DIR/5027.json"
    (
        world_coordinator_port=$((world_coordinator_port + 100))
        world_run "$CASE_DIR/out" "$CASE_DIR/5027.json"
    ) &
    local runner=$! run name control
    until_true 90 job_waits
    run=$(pgrep -u "$world_user" -f "slipway --config $world_config gitlab run" | head -n 1)
    # What the runner gave it: /proc shows that of whom the kernel lets.
    grep -qz hunter2-hunter2-5027 "/proc/$run/environ"
    "$env_lib/as-user" "$world_user" sleep 4243 &
    until_true 10 pgrep -u "$world_user" -x -f 'sleep 4243'
    control=$(pgrep -u "$world_user" -x -f 'sleep 4243')
    for file in environ mem maps; do
        expect_status 0 "$env_lib/as-user" "$world_user" head -c 0 "/proc/$control/$file"
        expect_status 1 "$env_lib/as-user" "$world_user" head -c 0 "/proc/$run/$file"
        expect_contains "$OUTPUT" "Permission denied"
    done
    kill "$control"
    name=$(with_cgroup2_as_user podman ps --filter label=io.slipway.role=job --format '{{.Names}}')
    with_cgroup2_as_user podman exec "$name" /bin/touch /tmp/stop
    wait "$runner"
    expect_eq "$(world_state "$CASE_DIR/out" 5027)" success
}

TEST "control: with isolate_networks off the neighbour's service answers, and too few ids are said" {
    with_sandbox $'isolate_networks = false\nid_slots = 1' neighbours 5021

    expect_eq "$STATE" success
    expect_step reach 0 "root:x:0:0"
    expect_step files 1
    expect_eq "$(grep -c 'NOTE: too few subordinate ids' <<<"$TRACE")" 1
    expect_lacks "$FIRST" "too few subordinate ids"
}

TEST "two jobs at the same time have id ranges of their own" {
    for job in 5031 5032; do
        world_job "$job" "until [ -e /tmp/stop ]; do sleep 0.2; done" >"$CASE_DIR/$job.json"
        (
            world_coordinator_port=$((world_coordinator_port + job - 4900))
            world_run "$CASE_DIR/$job" "$CASE_DIR/$job.json"
        ) &
    done
    both() { (($(with_cgroup2_as_user podman ps --filter label=io.slipway.role=job --quiet | wc -l) == 2)); }
    until_true 90 both
    mapfile -t names < <(with_cgroup2_as_user podman ps --filter label=io.slipway.role=job --format '{{.Names}}')
    for name in "${names[@]}"; do maps_of "$name" >>"$CASE_DIR/maps"; done
    for name in "${names[@]}"; do until_true 20 with_cgroup2_as_user podman exec "$name" /bin/touch /tmp/stop; done
    wait

    expect_eq "$(wc -l <"$CASE_DIR/maps")" 2 "lines of both maps"
    sort -k2,2n "$CASE_DIR/maps" | awk 'NR == 1 { end = $2 + $3 } NR == 2 { exit !($2 >= end) }' ||
        fail "ranges overlap: $(cat "$CASE_DIR/maps")"
}

TEST "the job sees nothing of the host's engines, and its Docker is slipway" {
    run_steps 5041 "try sockets sh -c 'find / -xdev -type s 2>/dev/null; ls -l /var/run/docker.sock'
try engine curl --silent --unix-socket /var/run/docker.sock http://docker/version
try containers curl --silent --unix-socket /var/run/docker.sock http://docker/containers/json
try create curl --silent --write-out '%{http_code}' --request POST --data '{}' --unix-socket /var/run/docker.sock http://docker/containers/create
try run docker run --privileged -v /:/host $world_busybox true
try devices sh -c 'ls /dev/fuse /dev/kvm /dev/kmsg /dev/mem'
try mount sh -c 'mkdir /m; mount -t tmpfs none /m'
try mknod mknod /tmp/disk b 254 0" ".image.name = \"$world_tools\""

    expect_eq "$STATE" success
    expect_lacks "$(step_says sockets)" podman
    expect_step sockets 0 "docker.sock -> /run/slipway/sock/docker.sock"
    expect_step engine 0 slipway
    expect_eq "$(step_says containers)" $'[]' containers
    expect_step create 0 403
    grep -q '^>>run [1-9]' <<<"$TRACE"
    expect_contains "$(step_says run)" "docker run"
    grep -q '^>>mount [1-9]' <<<"$TRACE"
    grep -q '^>>mknod [1-9]' <<<"$TRACE"
    expect_lacks "$(step_says devices)" $'\n/dev/kmsg'
}

# Until FILE is gone: the programs of the service user and its sandboxes, and what of a credential is in their argv
# and environment. As root, who may read both.
watch_processes() {
    python3 - "$1" "$(id -u "$world_user")" "$(awk -F: -v user="$world_user" '$1 == user { print $2; exit }' /etc/subuid)" <<'PYTHON'
import os, re, sys
file, user, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
secret = re.compile(rb"only-slipway-knows-this|eyJ[A-Za-z0-9_-]{16,}[.]eyJ")
seen = set()
while os.path.exists(file):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
            argv = open(f"/proc/{pid}/cmdline", "rb").read()
            if os.path.basename(argv.split(b"\0")[0]) != b"slipway-push" and owner != user and not first <= owner < first + 12 * 65536:
                continue
            text = argv + open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        program = os.path.basename(argv.split(b"\0")[0]).decode(errors="replace")
        seen.add("ran " + program)
        seen.update(f"{match.group().decode()} in {program}: {argv[:300]!r}" for match in secret.finditer(text))
print("\n".join(sorted(seen)))
PYTHON
}

TEST "no push credential is anywhere: not in argv, environments, files, images or logs" {
    touch "$CASE_DIR/start" "$CASE_DIR/watch"
    watch_processes "$CASE_DIR/watch" >"$CASE_DIR/seen" &
    watcher=$!
    run_steps 5051 "printf 'FROM $world_base\nCOPY data /\n' >Dockerfile
head -c 40000000 /dev/urandom >data
docker build -q -t $world_registry/app/secretive:1 .
mkdir -p /tmp/here
env >/tmp/here/env
( while :; do cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true; done >>/tmp/here/processes 2>/dev/null & echo \$! >/tmp/loop )
docker push $world_registry/app/secretive:1
kill \$(cat /tmp/loop)
docker save -o /tmp/here/image.tar $world_registry/app/secretive:1
try inside sh -c 'grep -rlaE \"only-slipway-knows-[t]his|eyJ[A-Za-z0-9_-]{16,}[.]eyJ\" /tmp/here /run /etc /root /builds /certs; echo searched; ls -A /root/.docker'"
    rm "$CASE_DIR/watch"
    wait "$watcher"

    expect_eq "$STATE" success
    expect_contains "$(step_says inside)" searched
    expect_lacks "$(step_says inside | grep -v '^ls:')" /
    # The watcher has seen the pusher at work, or its silence is no proof.
    expect_contains "$(cat "$CASE_DIR/seen")" "ran slipway-push"
    expect_lacks "$(cat "$CASE_DIR/seen")" only-slipway-knows-this
    expect_lacks "$(cat "$CASE_DIR/seen")" eyJ
    # What was there before are images of other suites.
    find "$world_state_dir" "$env_runtime_dir" "$world_dir/runner" "$CASE_DIR/jobs" "$env_home" -type f \
        -cnewer "$CASE_DIR/start" -print0 2>/dev/null >files || true
    grep -qz '/audit.jsonl$' files || fail "slipway's own files are not among those looked at"
    expect_eq "$(xargs -0 grep -laE 'only-slipway-knows-this|eyJ[A-Za-z0-9_-]{16,}[.]eyJ' <files || true)" "" "files with a credential"
}

# hook ID LINES [JQ]: LINES as a hook before the sources; those are not there, which fails the job after it.
hook() {
    run_script "$1" 'echo not reached' ".hooks = [{name: \"pre_get_sources_script\",
            script: [\"echo $(base64 -w0 <<<"$2") | base64 -d | bash\"]}]
        | .variables |= map(if .key == \"GIT_STRATEGY\" then .value = \"clone\" else . end) | ${3:-.}"
}

TEST "a hook in the helper has no broker, no credential of slipway's and no other project's cache" {
    broker='
for at in "--unix-socket /var/run/docker.sock http://d" http://127.0.0.1:2375 http://docker:2375; do
    if curl --silent --max-time 5 $at/_ping; then echo " says the broker at $at"; else echo "no broker at $at"; fi
done'
    hook 5055 "$broker
echo 'only-slipway-knows-th''is' >/tmp/control
grep -rlaE 'only-slipway-knows-[t]his|eyJ[A-Za-z0-9_-]{16,}[.]eyJ' /tmp /run /etc/slipway /root /builds /cache /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | sed 's/^/found in /'
echo mine >/cache/of-a-hook
echo the hook has ended"

    expect_eq "$(grep -c '^no broker at' <<<"$TRACE")" 3 "ways to the broker that are none"
    expect_lacks "$TRACE" "says the broker"
    expect_eq "$(grep '^found in' <<<"$TRACE")" "found in /tmp/control" "files with a credential"
    expect_contains "$TRACE" "the hook has ended"

    look='echo "the cache has: $(cat /cache/of-a-hook 2>/dev/null || echo nothing)"'
    hook 5056 "$look" '.job_info.project_full_path = "grp/other" | .job_info.project_id = 43'
    expect_contains "$TRACE" "the cache has: nothing"

    # Control: in the job the broker answers, and the project's own next hook has the cache.
    hook 5057 "$look"
    expect_contains "$TRACE" "the cache has: mine"
    run_steps 5058 "try broker bash -c '$broker'" ".image.name = \"$world_tools\""
    expect_eq "$(step_says broker | grep -c 'OK says the broker')" 3 "ways to the broker"
}

TEST "a job that attacks its init, its sockets and its broker harms only itself" {
    run_steps 5061 "try kill sh -c 'kill -9 1; kill -TERM 1; kill -INT 1; kill -STOP 1; sleep 0.3; test -d /proc/1 && echo init lives'
try memory sh -c 'head -c 1 /proc/1/mem'
try environ cat /proc/1/environ
try fds ls -l /proc/1/fd
try broker-socket rm -f /run/slipway/sock/docker.sock
try broker-folder sh -c 'ln -s /etc /run/slipway/sock/x'
try shim sh -c 'echo evil >/run/slipway/bin/slipway-shim'
try init sh -c 'echo evil >/run/slipway/bin/slipway-init'
rm -f /var/run/docker.sock && ln -s /etc/passwd /var/run/docker.sock
try nonsense bash -c 'exec 3<>/dev/tcp/127.0.0.1/2375; printf \"\\0\\1nonsense \\r\\n\\r\\n\" >&3; timeout 5 head -c 400 <&3'
try traversal curl --silent --path-as-is --write-out '%{http_code}' http://127.0.0.1:2375/../../etc/passwd
try huge-header sh -c 'curl --silent --write-out %{http_code} -H \"X: \$(head -c 80000 /dev/zero | tr \"\\0\" x)\" http://127.0.0.1:2375/_ping'
try many bash -c 'for i in \$(seq 200); do eval \"exec \$((i + 10))<>/dev/tcp/127.0.0.1/2375\" || exit; done; echo held
curl --silent --max-time 20 http://127.0.0.1:2375/_ping; echo one more: \$?'
try many-gone curl --silent --retry 20 --retry-all-errors --retry-delay 1 http://127.0.0.1:2375/_ping
printf 'FROM $world_busybox\nRUN echo built-afterwards\n' >Dockerfile
try still env DOCKER_HOST=tcp://127.0.0.1:2375 docker build --no-cache -t x:1 .
mkfifo /tmp/p; mkdir -p /run/slipway 2>/dev/null
exit 7" ".image.name = \"$world_tools\" | .steps += [{name: \"after_script\", script: [\"echo after-script ran\"], timeout: 60, when: \"always\", allow_failure: true}]"

    expect_eq "$STATE" "failed script_failure 7"
    expect_step kill 0 "init lives"
    for step in memory environ fds broker-socket broker-folder shim init; do
        grep -qE "^>>$step [1-9]" <<<"$TRACE" || fail "$step succeeded: $(step_says $step)"
    done
    expect_contains "$(step_says nonsense)" 400
    expect_lacks "$(step_says traversal)" root:
    expect_step huge-header 0 431
    # What is one too many is closed at once, and served again when the others are gone.
    expect_step many 0 held "one more: 5"
    expect_lacks "$(step_says many)" OK
    expect_step many-gone 0 OK
    expect_step still 0 built-afterwards
    expect_contains "$TRACE" "after-script ran"
}

TEST "a fork bomb ends with its script, and the job's clean-up is not stopped by it" {
    with_sandbox 'pids = 150' run_script 5071 \
        'bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 1; echo "the bomb is out"; exit 5' \
        '.steps += [{name: "after_script", script: ["echo after-script ran"], timeout: 60, when: "always", allow_failure: true}]'

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "after-script ran"
    expect_eq "$(with_cgroup2_as_user podman ps --all --quiet --filter label=io.slipway.job)" "" containers
}

TEST "processes that ignore SIGTERM and run on in the background end with the script" {
    run_script 5081 "trap '' TERM HUP INT; (trap '' TERM HUP INT; exec sleep 5151) & setsid sleep 5252 & disown -a; echo bye"

    expect_eq "$STATE" success
    expect_contains "$TRACE" bye
    ! pgrep -f '^sleep 5[12]5[12]$' || fail "sleepers are left"
}

TEST "a job that fills the disk is ended at the floor, and told so" {
    free=$(df --output=avail -B1M "$world_state_dir" | tail -1)
    with_sandbox "disk_floor = \"$((free - 400))MiB\"" run_script 5091 'dd if=/dev/zero of=filling bs=1M count=2000 2>/dev/null; sleep 60; echo went on'

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "the script was ended: less than $((free - 400)) MiB of disk are left on this runner"
    expect_contains "$TRACE" "disk_floor"
    expect_lacks "$TRACE" $'\nwent on'
}

# hogs ID: a script, then a RUN step, that want 600 MB; the second job only builds.
hogs() {
    run_script "$1" 'echo "limit of the kernel: $(cat /sys/fs/cgroup/memory.max 2>&1)"
head -c 16000000 /dev/zero >big && echo wrote-$((6 * 7))
x=$(head -c 600000000 /dev/zero | tr "\0" x); sleep 3; printf "script %s on" went'
    hog_state=$STATE hog_trace=$TRACE
    run_script "$(($1 + 1))" "printf '%s\\n' 'FROM $world_busybox' 'RUN x=\$(head -c 600000000 /dev/zero | tr \"\\0\" x); sleep 3; echo step-\$((6 * 7)); exit 7' >Dockerfile
docker build --no-cache . 2>&1"
}

TEST "memory and file size of a script and a RUN step are bounded, and the job log says once what the host does not enforce" {
    with_sandbox $'memory = "256MiB"\ncpus = 0.5\nfile_size = "8MiB"' hogs 5093

    expect_contains "$hog_state" "failed script_failure"
    expect_lacks "$hog_trace" "script went on"
    expect_lacks "$hog_trace" wrote-42
    expect_lacks "$TRACE" step-42
    for log in "$hog_trace" "$TRACE"; do
        expect_eq "$(grep -c 'limits: this host does not enforce' <<<"$log")" 1 "lines about limits"
    done
    # Not by slipway's own words: what the kernel tells the sandbox.
    if grep -q '^limit of the kernel: 268435456' <<<"$hog_trace"; then
        expect_eq "$(grep -c 'does not enforce: [^(]*memory' <<<"$hog_trace" || true)" 0 "lines that memory is not enforced"
    else
        expect_eq "$(grep -c 'does not enforce: [^(]*memory' <<<"$hog_trace" || true)" 1 "lines that memory is not enforced"
        expect_contains "$hog_trace" "the sandbox job had"
        expect_contains "$TRACE" "the sandbox builder had"
        expect_contains "$TRACE" "exit code: 137"
        expect_contains "$hog_trace" "more than the limit of 256 MiB: its largest processes were killed"
    fi
}

TEST "memory of a service is bounded too" {
    with_sandbox 'memory = "256MiB"' run_script 5099 'echo "limit of the kernel: $(cat /sys/fs/cgroup/memory.max 2>&1)"; sleep 12; echo done' \
        '.services = [{name: "'"$world_busybox"'", command: ["sh", "-c", "x=$(head -c 600000000 /dev/zero | tr \"\\0\" x); sleep 60"]}]'

    expect_eq "$STATE" success
    grep -q '^limit of the kernel: 268435456' <<<"$TRACE" || expect_contains "$TRACE" "the sandbox svc0 had"
}

TEST "control: without limits the same script and step come to their ends" {
    hogs 5095

    expect_eq "$hog_state" success
    expect_contains "$hog_trace" wrote-42
    expect_contains "$hog_trace" "script went on"
    expect_contains "$TRACE" step-42
}

TEST "prepare does not pull onto a disk that is below the floor" {
    free=$(df --output=avail -B1M "$world_state_dir" | tail -1)
    with_sandbox "disk_floor = \"$((free + 1000))MiB\"" run_script 5097 'echo not reached'

    expect_contains "$STATE" "runner_system_failure"
    expect_contains "$TRACE" "prepare was ended: less than $((free + 1000)) MiB of disk are left on this runner"
    expect_lacks "$TRACE" 'Pulling'
}

# builder_of_its_own ID PROJECT: a job of that project builds.
builder_of_its_own() {
    run_script "$1" "printf 'FROM $world_busybox\nRUN true\n' >Dockerfile; docker build . 2>&1" ".job_info.project_full_path = \"$2\""
    expect_eq "$STATE" success
    echo "$TRACE" >"trace.${2#*/}"
}

# The first host id of each builder.
builders_ids() {
    local ids pid
    ids=$(with_cgroup2_as_user podman ps --quiet --filter label=io.slipway.role=builder)
    for pid in $(with_cgroup2_as_user podman inspect --format '{{.State.Pid}}' $ids); do
        awk '{ print $2; exit }' "/proc/$pid/uid_map"
    done
}

TEST "builders of two projects have no host id in common, and a third is told that there are too few" {
    "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" gc --all
    # Of twelve ranges six are for jobs, and two for builders.
    builder_of_its_own 5101 ids/one
    builder_of_its_own 5102 ids/two
    builder_of_its_own 5103 ids/three

    expect_eq "$(grep -l 'too few subordinate ids: the builder' trace.* | xargs)" trace.three "logs with the line"
    expect_eq "$(builders_ids | sort -u | wc -l)" 3 "ranges"
    expect_eq "$("$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" doctor | grep -c 'builders 2 of 4')" 1
}

TEST "nothing of the jobs is left" {
    expect_eq "$(with_cgroup2_as_user podman ps --all --quiet --filter label=io.slipway.job)" "" containers
    expect_eq "$(with_cgroup2_as_user podman network ls --quiet --filter name=slipway-j)" "" networks
    expect_eq "$(with_cgroup2_as_user podman volume ls --quiet --filter name=slipway-j)" "" volumes
}
