# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Containers in jobs: the job's own engine, by policy, and what tries to get out of it.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ -x /usr/sbin/dockerd ]] || echo "needs docker.io"
    [[ -x /usr/bin/docker-compose && -x /usr/bin/python3.11 ]] || echo "needs docker-compose"
}

docker_files() {
    with_program /usr/bin/docker opt/docker-cli
    tool_files
}

# Debian's docker-compose with the Python that it runs in.
compose_files() {
    local one
    python_files
    mkdir -p usr/lib/python3/dist-packages
    for one in attr compose docker dockerpty docopt.py dotenv jsonschema pyrsistent _pyrsistent_version.py pvectorc.cpython-311-x86_64-linux-gnu.so \
        texttable.py websocket yaml _yaml requests urllib3 idna chardet certifi distro six.py pkg_resources packaging; do
        [[ ! -e /usr/lib/python3/dist-packages/$one ]] || cp -r "/usr/lib/python3/dist-packages/$one" usr/lib/python3/dist-packages/
    done
    cp -r /usr/lib/python3/dist-packages/*.egg-info /usr/lib/python3/dist-packages/*.dist-info usr/lib/python3/dist-packages/
    for one in usr/lib/python3/dist-packages/*.so usr/lib/python3/dist-packages/*/*.so; do
        if [[ -e /$one ]] && ldd "/$one" >/dev/null 2>&1; then with_program "/$one" "$one"; fi
    done
    install -m 0755 /usr/bin/docker-compose usr/bin/docker-compose
}

# What containers do not need, and a few calls that they do: "NAME ok", or the error's number. Unknown to a kernel: 38.
call_files() {
    mkdir -p opt
    cat >opt/calls.py <<'PYTHON'
import concurrent.futures, ctypes, os, subprocess
c = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    got = c.syscall(*(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments))
    print(name, "ok" if got >= 0 else ctypes.get_errno(), flush=True)
call("add_key", 248, b"user", b"slipway", b"x", 1, -2)
call("io_uring_setup", 425, 1, ctypes.create_string_buffer(120))
call("userfaultfd", 323, 1)
call("socket_vsock", 41, 40, 1, 0)
call("socket_vsock_high", 41, 1 << 32 | 40, 1, 0)
call("keyctl", 250, 0, -2, 1)
call("personality", 135, 0x40000)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print("threads", sum(pool.map(int, "1234")), subprocess.run(["echo", "child"], capture_output=True).stdout, flush=True)
if os.fork() == 0: # alone: a process of several threads cannot
    call("unshare_user", 272, 0x10000000)
    os._exit(0)
os.wait()
PYTHON
}

composed_and_call_files() { compose_files && call_files; }

with_newer_dockerd() {
    local tools
    tools=$("$env_root/packaging/tools/build" dockerd)/bin || return 1
    cp "$world_config" "$CASE_DIR/config.toml"
    printf '\n[dind]\ntools = "%s"\n' "$tools" >>"$world_config"
    "$@"
    cp "$CASE_DIR/config.toml" "$world_config"
}

allow_containers() {
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\ndind = true\ndind_justification = "OPS-7: integration tests"\n' \
        >"$world_dir/etc/policy.d/10-engine.toml"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    publish_image base/dockercli:12 debian '{}' docker_files
    world_docker=$world_registry/base/dockercli:12
    publish_image base/composed:12 debian '{}' composed_and_call_files
    world_composed=$world_registry/base/composed:12
    make_tiny_base
    allow_containers
}

SUITE_TEARDOWN() {
    world_stop
}

engine_cgroups() {
    with_cgroup2_as_user find "/sys/fs/cgroup/$world_user" -type d -name 'slipway-*-engine'
}

expect_nothing_left() {
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
    expect_eq "$(engine_cgroups)" "" "control groups of engines"
}

TEST "an image that the job built runs, with its exit code, the workspace, a port and a name" {
    run_script 8001 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
printf 'FROM $world_busybox\nRUN echo built-here >/made\n' >Dockerfile
docker build -q -t app:1 .
try hi docker run --rm app:1 sh -c 'echo hi; cat /made; echo oops >&2'
try code docker run --rm app:1 sh -c 'exit 7'
try nothing docker run --rm app:1 no-such-program
try limits docker run --rm --ulimit nofile=64:64 --log-opt max-size=1m app:1 sh -c 'ulimit -n'
try pulled docker run --rm -e A=1 $world_busybox sh -c 'echo A=\$A'
echo from-job >file
try bind docker run --rm -v \"\$PWD:/w\" -w /w app:1 sh -c 'cat file; echo from-container >made-by-it'
try back cat made-by-it
try input sh -c 'echo typed | docker run --rm -i app:1 cat'
try web docker run -d --name web -p 8088:80 app:1 sh -c 'cp /made /tmp; echo ready; httpd -f -p 80 -h /tmp'
served() { (exec 3<>/dev/tcp/localhost/8088; printf 'GET /made HTTP/1.0\r\n\r\n' >&3; grep -q built-here <&3) 2>/dev/null; }
for i in 1 2 3 4 5 6 7 8 9 10; do if served; then break; fi; sleep 0.3; done
try port bash -c 'exec 3<>/dev/tcp/docker/8088; printf \"GET /made HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3'
try exec docker exec web sh -c 'echo inside; exit 3'
try ps docker ps --format '{{.Names}} {{.Image}} {{.Ports}}'
try inspect docker inspect -f '{{.State.Running}}' web
try logs docker logs web
try top docker top web
try top-columns docker container top web -o pid,comm
try diff docker diff web
try export sh -c 'docker export web | tar -xOf - made'
docker run -d --name healthy --health-cmd 'test -e /made' --health-interval 1s --health-retries 2 app:1 sleep 60
for i in 1 2 3 4 5 6 7 8 9 10; do if [ \$(docker inspect -f '{{.State.Health.Status}}' healthy) = healthy ]; then break; fi; sleep 1; done
try healthy docker inspect -f '{{.State.Health.Status}}' healthy
docker rm -f healthy
try copy-in docker cp file web:/tmp/put
try copied-in docker exec web cat /tmp/put
try copy-out docker cp web:/tmp/. taken
try copied-out cat taken/put taken/made
try copy-tar sh -c 'docker cp web:/tmp/put - | tar -xOf -'
try copy-nothing docker cp web:/no-such-file .
try rm docker rm -f web
try socket docker run --rm -v /var/run/docker.sock:/s app:1 sh -c 'printf \"GET /_ping HTTP/1.0\\r\\n\\r\\n\" | nc local:/s || ls -l /s'
try cli env DOCKER_HOST=unix:///var/run/docker.sock /opt/docker-cli run --rm app:1 sh -c 'echo by-the-real-cli; exit 4'
try tcp env DOCKER_HOST=tcp://docker:2375 /opt/docker-cli run --rm app:1 echo over-tcp
try compose-like docker network create back
try front docker network create front
try two docker run -d --name two --network back --network name=front,alias=db app:1 sh -c 'httpd -f'
try joined docker inspect -f '{{json .NetworkSettings.Networks}}' two
try network docker inspect -f '{{.Name}}' front
try limit docker run --rm --dns-search slipway.example app:1 cat /etc/resolv.conf
docker create --name later app:1 sh -c 'echo started; exit 6'
try start docker start -a later
docker create --rm -i --name brief app:1 sh -c 'cat; exit 5'
try start-brief sh -c 'echo given | docker start -ai brief'
try brief docker container inspect brief
docker network create --subnet 10.77.0.0/16 --gateway 10.77.0.9 --ip-range 10.77.8.0/24 --aux-address a=10.77.0.8 \
    --ipam-driver default -o com.docker.network.bridge.enable_icc=true --label role=x,y ranged
try ranged docker network inspect -f '{{json .IPAM.Config}} {{json .Options}}' ranged
try labels docker network ls --filter name=ranged --format '{{.Name}} <{{.Label \"role\"}}>'
try remove docker network remove ranged
docker volume create --driver local kept
docker rm \$(docker create -v /anonymous app:1 true)
try prune docker volume prune -f
try volumes docker volume ls -q
try prune-all docker volume prune -af
try networks docker network prune -f --filter label=none
try far docker -H ssh://nobody@far.example ps
try rm-two docker rm -f gone two
try rm-network docker network rm -f gone front
docker run -d --name ears app:1 sh -c 'trap \"exit 5\" USR1; while :; do sleep 0.1; done'
try stop docker stop -s USR1 -t 60 ears
try heard docker wait ears
try malformed docker ps -q --filter running" ".image.name = \"$world_docker\"" # slipway refuses nothing of this

    expect_eq "$STATE" success
    expect_step hi 0 hi built-here oops
    expect_step code 7
    expect_step nothing 127 "executable file not found"
    expect_step limits 0 64
    expect_step pulled 0 A=1
    expect_step bind 0 from-job
    expect_step back 0 from-container
    expect_step input 0 typed
    expect_step web 0
    expect_step port 0 "200 OK" built-here
    expect_step exec 3 inside
    expect_step ps 0 "web app:1 0.0.0.0:8088->80/tcp"
    expect_step inspect 0 true
    expect_step logs 0 ready
    expect_step top 0 "UID                 PID " "httpd -f -p 80"
    expect_step top-columns 0 "PID                 COMMAND"
    expect_step diff 0 "A /tmp/made"
    expect_step export 0 built-here
    expect_step healthy 0 healthy
    expect_step copy-in 0 "Successfully copied" "to web:/tmp/put"
    expect_step copied-in 0 from-job
    expect_step copy-out 0
    expect_step copied-out 0 from-job built-here
    expect_step copy-tar 0 from-job
    expect_step copy-nothing 1 "Could not find the file /no-such-file in container web"
    expect_step rm 0 web
    expect_step socket 0
    expect_step cli 4 by-the-real-cli
    expect_step tcp 0 over-tcp
    expect_step compose-like 0
    expect_step joined 0 '"back"' '"front"' '"db"'
    expect_step network 0 front
    expect_step limit 0 "search slipway.example"
    expect_step start 6 started
    expect_step start-brief 5 given
    expect_step brief 1 "No such object: brief"
    expect_step ranged 0 '"Gateway":"10.77.0.9"' '"IPRange":"10.77.8.0/24"' '"a":"10.77.0.8"' enable_icc
    expect_step labels 0 "ranged <x,y>"
    expect_step remove 0 ranged
    expect_step prune 0 "Deleted Volumes:" "Total reclaimed space: 0B"
    expect_step volumes 0 kept
    expect_step prune-all 0 "Deleted Volumes:" kept "Total reclaimed space: "
    expect_step networks 0
    expect_step far 1 "names a machine behind ssh"
    expect_step rm-two 0 "No such container: gone" two
    expect_step rm-network 0 front
    expect_step stop 0 ears
    expect_step heard 0 5
    expect_step malformed 125 "bad format of filter"
    grep -F '"engine_start"' "$world_state_dir/audit.jsonl" | grep -qF "OPS-7: integration tests" ||
        fail "the audit log has no justification"
    expect_nothing_left
}

TEST "attach, stats, events and update are about what runs in the job's own engine, and end with the script" {
    run_script 8015 "$steps_prelude
docker events --filter type=container --format '{{.Action}} {{.Actor.Attributes.name}}' >early &
early=\$!
docker run -d -i --name ears $world_busybox sh -c 'read line; echo heard \$line; exit 5'
try attach sh -c '(echo typed; docker wait ears) | docker attach ears' # an input that ends takes the output along
try stopped docker attach ears
docker run -d --rm --name ticks $world_busybox sh -c 'while :; do echo tick; sleep 0.2; done'
try watch sh -c 'docker container attach --no-stdin ticks | head -n 2'
try still docker inspect -f '{{.State.Running}}' ticks
try stats docker stats --no-stream
try stats-all docker stats -a --no-stream --format '{{.Name}} {{.CPUPerc}} {{.PIDs}}'
try stats-json docker container stats --no-stream --format json ticks
try stats-gone docker stats --no-stream ticks gone
cli() { env DOCKER_HOST=tcp://docker:2375 /opt/docker-cli \"\$@\"; }
try cli-stats cli stats --no-stream --format '{{.Name}} {{.MemUsage}}' ticks
docker stats --format '{{.Name}}' ticks >streamed &
streamed=\$!
try update docker update --restart on-failure:3 ticks
docker run -d --name small $world_busybox sleep 60
try update-restart docker update --restart on-failure:3 small
try update-memory docker container update --memory 64m --memory-swap 128m small
try updated docker inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}' small
try update-nothing docker update small
try update-gone docker update --restart no gone
body='{\"Devices\":[{\"PathOnHost\":\"/dev/sda\"}]}'
ask() { (exec 3<>/dev/tcp/docker/2375; printf 'POST %s HTTP/1.0\r\nContent-Length: %s\r\n\r\n%s' \"\$1\" \${#2} \"\$2\" >&3; cat <&3); }
try update-devices ask /v1.41/containers/small/update \"\$body\"
since=\$(date +%s)
docker run --rm --name brief $world_busybox sh -c 'exit 4' || true
sleep 1.1
until=\$(date +%s)
try events docker events --since \$since --until \$until --filter container=brief --format '{{.Action}}'
try events-lines docker system events --since \$since --until \$until --filter event=die
try events-json docker events --since \$since --until \$until --filter event=start --format json
try cli-events cli events --since \$since --until \$until --filter container=brief --format '{{.Action}}'
ln -s /run/slipway/bin/slipway-shim /tmp/podman
try podman /tmp/podman stats --no-stream --format '{{.Name}}' ticks
docker rm -f ticks
wait \$streamed; try streamed sh -c \"echo code \$?; cat streamed\"
kill \$early
try early cat early
docker events >/dev/null &" ".image.name = \"$world_docker\""

    expect_eq "$STATE" success
    expect_step attach 5 "heard typed"
    expect_step stopped 1 "cannot attach to a stopped container"
    expect_step watch 0 tick
    expect_step still 0 true
    expect_step stats 0 "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT" ticks
    expect_step stats-all 0 "ears 0.00% 0" ticks
    expect_step stats-json 0 '"Name":"ticks"' '"Container":"ticks"'
    expect_step stats-gone 1 "No such container: gone"
    expect_step cli-stats 0 "ticks "
    expect_step update 1 "Restart policy cannot be updated because AutoRemove is enabled"
    expect_step update-restart 0 small
    expect_step update-memory 0 small
    expect_step updated 0 "on-failure "
    # Where the machine has no controller the engine says that it drops the limit.
    [[ $(step_says updated) == *" 67108864"* || $(step_says update-memory) == *"memory limit"* ]] ||
        fail "neither a limit nor a warning: $(step_says update-memory) $(step_says updated)"
    expect_step update-nothing 1 "you must provide one or more flags"
    expect_step update-gone 1 "No such container: gone"
    expect_step update-devices 0 "403" "update Devices"
    expect_eq "$(step_says events | grep -xE 'create|start|die|destroy' | tr '\n' ' ')" "create start die destroy " "events of a container"
    expect_step events-lines 0 " container die " "exitCode=4" "name=brief"
    expect_step events-json 0 '"Action":"start"' '"Actor":{"ID":"'
    expect_eq "$(step_says cli-events)" "$(step_says events)" "what docker's own client says"
    expect_step podman 0 ticks
    expect_step streamed 0 "code 0" ticks
    expect_step early 0 "create ears" "die ears" "start ticks"
    expect_nothing_left
}

TEST "podman run and its kin are the job's engine too, in podman's words" {
    run_script 8011 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
ln -s /run/slipway/bin/slipway-shim /tmp/podman; PATH=/tmp:\$PATH
printf 'FROM $world_busybox\nRUN echo built-here >/made\n' >Containerfile
podman build -q -t app .
try code podman run --rm --systemd-not-there app true
try runs podman run --rm -v \"\$PWD:/w:Z\" --net bridge localhost/app sh -c 'cat /made /w/Containerfile; exit 7'
try nothing podman run --rm app no-such-program
podman run -d --name web app sh -c 'echo first; sleep 600'
podman run -d --replace --name web app sh -c 'echo second; sleep 600'
try exec podman exec web cat /made
try logs podman logs web
try list podman ps --format '{{.Names}} {{.Image}}'
try inspect podman inspect -f '{{.State.Running}}' web
try container podman container inspect -f '{{.Name}}' web
podman exec web sh -c 'echo more >/more'
try commit podman commit web kept
try kept podman run --rm kept cat /more
try remove podman rm -f web
try gone podman exec web true
try pod podman pod create
try network podman network create back" ".image.name = \"$world_docker\""

    expect_eq "$STATE" success
    expect_step code 125 "Error: unknown flag: --systemd-not-there"
    expect_step runs 7 built-here "FROM $world_busybox"
    expect_step nothing 127 "Error: " "executable file not found"
    expect_step exec 0 built-here
    expect_step logs 0 second
    expect_step list 0 "web app"
    expect_step inspect 0 true
    expect_step container 0 /web
    expect_step commit 0 sha256:
    expect_step kept 0 more
    expect_step remove 0 web
    expect_step gone 125 "Error: No such container: web"
    expect_step pod 125 "slipway does not serve this command"
    expect_step network 0
    expect_nothing_left
}

TEST "docker-compose up, run and down are the image's own, and what it builds is slipway's" {
    run_steps 8007 "cat >docker-compose.yml <<'END'
version: \"3.8\"
services:
  web: {image: \"web:1\", build: {context: ., args: {WORD: composed}}, command: \"sh -c 'echo up; sleep 60'\"}
  late: {image: \"late:1\", build: {context: ., args: {WORD: late}}, command: cat /made, depends_on: [web]}
END
printf 'FROM $world_busybox\\nARG WORD\\nRUN echo \$WORD >/made\\n' >Dockerfile
try build docker-compose build web
try up docker-compose up -d --no-color web
try ps docker ps --format '{{.Names}} {{.Image}}'
try exec docker-compose exec -T web cat /made
try run docker-compose run --rm late
try down docker-compose down -t 0
try left docker ps -q" ".image.name = \"$world_composed\""

    expect_eq "$STATE" success
    expect_step build 0 "slipway: service web"
    expect_step up 0 "Creating"
    expect_step ps 0 web:1
    expect_step exec 0 composed
    expect_step run 0 late
    expect_step down 0 "Removing"
    expect_eq "$(step_says left)" ""
    expect_nothing_left
}

TEST "before anything ran, lists are empty and what is named is not there, and no engine starts for that" {
    local before
    before=$(grep -cF '"engine_start"' "$world_state_dir/audit.jsonl" || true)
    run_script 8008 "$steps_prelude
ask() { (exec 3<>/dev/tcp/docker/2375; printf '%s %s HTTP/1.0\r\n\r\n' \"\$1\" \"\$2\" >&3; cat <&3); }
try networks ask GET /v1.41/networks
try volumes ask GET /v1.41/volumes
try network ask GET /v1.41/networks/app_default
try gone ask DELETE '/v1.41/containers/old?force=1'
try events ask GET '/v1.41/events?until=1'
try cli-networks env DOCKER_HOST=tcp://docker:2375 /opt/docker-cli network ls -q
try cli-volumes env DOCKER_HOST=tcp://docker:2375 /opt/docker-cli volume ls -q
try cli-rm env DOCKER_HOST=tcp://docker:2375 /opt/docker-cli rm old" ".image.name = \"$world_docker\""

    expect_eq "$STATE" success
    expect_step networks 0 "200 OK" "[]"
    expect_step volumes 0 "200 OK" '{"Volumes":[],"Warnings":null}'
    expect_step network 0 "404" "network app_default not found"
    expect_step gone 0 "404" "No such container: old"
    expect_step events 0 "200 OK"
    expect_step cli-networks 0
    expect_step cli-volumes 0
    expect_step cli-rm 1 "No such container: old"
    expect_eq "$(grep -cF '"engine_start"' "$world_state_dir/audit.jsonl" || true)" "${before:-0}" "engines that were started"
    expect_nothing_left
}

TEST "an image committed in the engine goes through the gate like a built one" {
    run_steps 8005 "docker pull -q $tiny >/dev/null
docker run --name good $tiny sh -c 'echo from-a-container >/made'
docker run --name leak $tiny sh -c \"echo \$CI_JOB_TOKEN >/made\"
docker run --name nodpkg $tiny rm -rf /var/lib/dpkg
for name in good leak nodpkg; do
    try commit-\$name docker commit -m 'by hand' -c 'LABEL by=hand' \$name $world_registry/grp/app/\$name:1
    try push-\$name docker push $world_registry/grp/app/\$name:1
done
try label docker inspect -f '{{.Config.Labels.by}}' $world_registry/grp/app/good:1
try again docker run --rm $world_registry/grp/app/good:1 sh -c 'read -r said </made; echo \$said'
try nobody docker commit nobody x:1"

    expect_eq "$STATE" success
    for name in good leak nodpkg; do expect_step "commit-$name" 0 sha256:; done
    expect_step push-good 0 "digest: sha256:"
    expect_step push-leak 1 "[secret_leaked]" CI_JOB_TOKEN
    expect_step push-nodpkg 1 "[no_packages]"
    for name in leak nodpkg; do expect_absent "grp/app/$name:1"; done
    expect_step label 0 hand
    expect_step again 0 from-a-container
    expect_step nobody 1 "No such container"
    expect_nothing_left
}

TEST "an engine that a container ended starts again, and follows no link that was left for it" {
    local file=$world_state_dir/audit.jsonl before
    before=$(stat -c %a "$file" && head -n 1 "$file")
    run_script 8006 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
docker pull -q $world_docker >/dev/null
ln -s / way-out
try end docker run --rm --privileged --pid host -v \"\$PWD/way-out:/host\" $world_docker sh -c 'cd /host/run/slipway-engine && rm -f docker.sock go open && ln -s $file docker.sock && ln -s $file go && ln -s $file open && mkdir -p deep/er && echo planted && kill 1'
try again docker run --rm $world_docker ls /opt" ".image.name = \"$world_docker\""

    expect_contains "$(step_says end)" planted
    expect_step again 0 docker-cli
    expect_eq "$(stat -c %a "$file" && head -n 1 "$file")" "$before" "what the links led to"
    expect_nothing_left
}

TEST "without the policy's word no container runs, and the refusal names the key" {
    rm "$world_dir/etc/policy.d/10-engine.toml"
    run_steps 8002 "try run docker run --rm $world_busybox true
try exec docker exec web true
try ps docker ps -q"
    allow_containers

    expect_step run 125 "this job may not run containers" "dind = true" dind_justification
    expect_step exec 1 "may not run containers"
    expect_step ps 0
}

TEST "a container that is privileged in the engine finds nothing of the host, of slipway or of other jobs" {
    run_script 8003 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
docker pull -q $world_docker >/dev/null
root() { docker run --rm --privileged --network host --pid host \"\$@\"; }
try bind docker run --rm -v /:/host $world_busybox ls /host
try disk docker run --rm --device /dev/sda $world_busybox true
ln -s / way-out
try link docker run --rm -v \"\$PWD/way-out:/host\" $world_docker sh -c 'ls /host /host/builds; ls -a /host/home /host/root /host/etc/shadow /host$world_dir'
try processes root $world_docker sh -c 'cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"; id -u'
try devices root $world_docker sh -c 'for d in /dev/[svx]d[a-z]* /dev/nvme* /dev/mem; do [ -e \$d ] && dd if=\$d of=/dev/null count=1 2>&1 && echo read \$d; done; true'
try sysrq root $world_docker sh -c 'echo h >/proc/sysrq-trigger'
try core root $world_docker sh -c 'echo \"|/x\" >/proc/sys/kernel/core_pattern'
try cgroups root $world_docker sh -c 'mkdir /c; mount -t cgroup2 c /c; find /c -name \"*$world_user*\"'
try sockets root -v \"\$PWD/way-out:/host\" $world_docker sh -c 'find /host/run /host/var/run/ -type s'
try push-engine root $world_docker /opt/push-by-hand grp/fromengine slipway:only-slipway-knows-this
try secret root -v \"\$PWD/way-out:/host\" $world_docker grep -rlsI 'only-slipway[-]knows-this' /host/etc /host/run /host/root" \
        ".image.name = \"$world_docker\""

    expect_step bind 125 "HostConfig.Binds /" workspace
    expect_step disk 125 "HostConfig.Devices /dev/sda"
    expect_step link 2 builds "No such file"
    expect_step processes 0 dockerd
    [[ $(step_says processes) != *"$world_bin"* && $(step_says processes) != *podman* ]] ||
        fail "it sees slipway's processes: $(step_says processes)"
    [[ $(step_says devices) != *"read /dev"* ]] || fail "it reads a disk: $(step_says devices)"
    for step in sysrq core; do
        ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "step $step went through: $(step_says "$step")"
    done
    [[ $(step_says cgroups) != */c/*"$world_user"* ]] || fail "it sees groups of the host: $(step_says cgroups)"
    [[ $(step_says sockets) != *podman* ]] || fail "it reaches Podman: $(step_says sockets)"
    [[ $(step_says push-engine) != *"pushed grp/fromengine"* ]] || fail "a container reached the registry"
    expect_absent grp/fromengine:1
    expect_eq "$(step_says secret)" "" "files with the push credential"
    expect_nothing_left
}

TEST "with the egress rule off the same container pushes by hand: the rule is what stops it" {
    with_sandbox 'block_registries = false' run_steps 8004 "docker pull -q $world_docker >/dev/null
try push docker run --rm $world_docker /opt/push-by-hand grp/fromengine2 slipway:only-slipway-knows-this"

    expect_step push 0 "pushed grp/fromengine2"
}

TEST "calls that containers do not need are refused in them, and what no sandbox of a job may call also in privileged ones" {
    call_files
    run_script 8021 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
docker pull -q $world_composed >/dev/null
try usual docker run --rm $world_composed python3 /opt/calls.py
try unconfined docker run --rm --security-opt seccomp=unconfined $world_composed python3 /opt/calls.py
try privileged docker run --rm --privileged $world_composed python3 /opt/calls.py
try nomount docker run --rm $world_composed mount -t tmpfs x /mnt
try mount docker run --rm --cap-add SYS_ADMIN $world_composed sh -c 'mount -t tmpfs x /mnt && unshare -m true && grep -c \" /mnt \" /proc/mounts'
try filter docker run --rm $world_composed grep -E 'Seccomp(_filters)?:' /proc/self/status
try inner docker run --rm --privileged $world_composed grep -E 'Seccomp(_filters)?:' /proc/self/status
try package docker run --rm $world_composed sh -ec 'mkdir -p /p/DEBIAN /p/opt; printf \"Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@slipway.example>\nDescription: d\n\" >/p/DEBIAN/control
    echo packed >/p/opt/packed; dpkg-deb --build /p /tmp/p.deb; apt-get install -y /tmp/p.deb || dpkg -i /tmp/p.deb; cat /opt/packed'
try limits docker run --rm $world_composed sh -c 'ulimit -c; ulimit -p'" ".image.name = \"$world_composed\""
    OUTPUT=$("$SUITE_ROOT/tests/lib/as-user" "$world_user" python3 "$CASE_DIR/opt/calls.py")

    expect_eq "$STATE" success
    local call
    for call in add_key io_uring_setup userfaultfd keyctl personality unshare_user; do
        expect_contains "$OUTPUT" "$call ok" # the control: the kernel does it for anybody
        expect_step usual 0 "$call 1" "threads 10 b'child"
    done
    # Not every kernel has these.
    for call in socket_vsock socket_vsock_high; do expect_step usual 0 "$call 1"; done
    for step in unconfined privileged; do
        for call in add_key io_uring_setup userfaultfd; do expect_step "$step" 0 "$call 1"; done
        for call in keyctl personality unshare_user; do expect_step "$step" 0 "$call ok"; done
    done
    expect_step mount 0 1
    ! grep -qxF ">>nomount 0" <<<"$TRACE" || fail "a container without the capability mounts"
    expect_step filter 0 "Seccomp_filters:	2"
    expect_step inner 0 "Seccomp_filters:	1"
    expect_step package 0 packed
    expect_step limits 0 0 4096
    expect_nothing_left
}

TEST "a newer dockerd of the operator's runs containers, for clients of newer APIs too, and what is committed goes through the gate" {
    with_newer_dockerd run_script 8022 "$steps_prelude
cd \"\$CI_PROJECT_DIR\"
cat >ask.py <<'PYTHON'
import http.client, json, socket, sys
class Engine(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect('/var/run/docker.sock')
def ask(method, path, body=None):
    engine = Engine('docker')
    engine.request(method, path, body and json.dumps(body), {'Content-Type': 'application/json'})
    answer = engine.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None
for api in sys.argv[1:]:
    made = ask('POST', f'/v{api}/containers/create?name=by{api}', {'Image': 'app:1', 'Cmd': ['cat', '/made'], 'HostConfig': {'Annotations': {'by': api}}})
    print(api, made[0], made[1].get('message', '')[:60])
    if made[0] == 201:
        print(api, ask('POST', f'/v{api}/containers/by{api}/start')[0], ask('POST', f'/v{api}/containers/by{api}/wait')[1]['StatusCode'])
        print(api, ask('GET', f'/v{api}/containers/by{api}/json')[1]['HostConfig'].get('Annotations'))
PYTHON
printf 'FROM $world_composed\nRUN echo built-here >/made\n' >Dockerfile
docker build -q -t app:1 .
try version docker version --format '{{.Server.APIVersion}}'
try run docker run --rm -v \"\$PWD:/w\" app:1 sh -c 'cat /made; ls /w; exit 7'
try web docker run -d --name web -p 8089:80 app:1 python3 -m http.server 80
served() { (exec 3<>/dev/tcp/localhost/8089; printf 'GET /made HTTP/1.0\r\n\r\n' >&3; grep -q built-here <&3) 2>/dev/null; }
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do if served; then break; fi; sleep 0.3; done
try port served
try apis python3 ask.py 1.41 1.44 1.51 1.60
try stats docker stats --no-stream --format '{{.Name}}' web
try update docker update --restart on-failure:2 web
docker run -d --rm -i --name ears app:1 sh -c 'read line; echo heard \$line; exit 5'
try attach sh -c '(echo typed; docker wait ears) | docker attach ears'
try events docker events --since 1h --until \$(date +%s) --filter container=web --format '{{.Type}} {{.Action}}'
echo 'import urllib.request as u; print(u.urlopen(\"http://web/made\").read())' >fetch.py
cat >docker-compose.yml <<'END'
version: \"3.8\"
services:
  web: {image: \"app:1\", networks: [back, front], command: python3 -m http.server 80}
  ask: {image: \"app:1\", networks: [back], depends_on: [web], volumes: [\".:/w\"], command: sh -c 'sleep 2; python3 /w/fetch.py'}
networks: {back: {}, front: {}}
END
try up docker-compose up -t 0 --exit-code-from ask
try calls docker run --rm app:1 python3 /opt/calls.py
docker pull -q $tiny >/dev/null
docker run --name good $tiny sh -c 'echo from-a-container >/made'
docker run --name leak $tiny sh -c \"echo \$CI_JOB_TOKEN >/made\"
for name in good leak; do
    try commit-\$name docker commit \$name $world_registry/grp/newer/\$name:1
    try push-\$name docker push $world_registry/grp/newer/\$name:1
done
try programs docker run --rm --privileged --pid host app:1 sh -c 'for p in /proc/[0-9]*; do readlink \$p/exe; done; true'" ".image.name = \"$world_composed\""

    expect_eq "$STATE" success
    expect_step version 0 1.44
    expect_step run 7 built-here Dockerfile
    expect_step port 0
    # What an API has not got yet is refused; what is newer than the engine is spoken as the engine does.
    expect_step apis 0 "1.41 403 HostConfig.Annotations"
    expect_step stats 0 web
    expect_step update 0 web
    expect_step attach 5 "heard typed"
    expect_step events 0 "container create" "container start"
    for api in 1.44 1.51 1.60; do expect_step apis 0 "$api 201" "$api 204 0" "$api {'by': '$api'}"; done
    expect_step up 0 "b'built-here"
    expect_step calls 0 "add_key 1" "personality 1" "unshare_user 1" "threads 10"
    for name in good leak; do expect_step "commit-$name" 0 sha256:; done
    expect_step push-good 0 "digest: sha256:"
    expect_step push-leak 1 "[secret_leaked]" CI_JOB_TOKEN
    expect_step programs 0 /tools/dockerd /usr/bin/containerd /tools/docker-proxy
    expect_nothing_left
}
