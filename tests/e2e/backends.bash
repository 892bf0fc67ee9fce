# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Buildah, Podman, Kaniko and Docker's builder build real jobs where the policy says so, behind the same gate; what they keep is each project's and
# each kind of ref's alone.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ -x /usr/bin/buildah ]] || echo "Buildah is not installed"
    [[ -x /usr/sbin/dockerd ]] || echo "docker.io is not installed"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    kaniko=$("$env_root/packaging/tools/build" kaniko) || return 1
    printf '\n[kaniko]\nexecutor = "%s/bin/executor"\n' "$kaniko" >>"$world_config"
    cat >"$world_dir/etc/policy.d/10-backends.toml" <<'TOML'
[[rule]]
project = "kaniko/*"
backend = "kaniko"
repositories = ["*"]

[[rule]]
project = "dind/*"
backend = "dind"
dind = true
dind_justification = "OPS-9: old Dockerfiles"
repositories = ["*"]

[[rule]]
project = "nodind/*"
backends = ["dind"]
repositories = ["*"]

[[rule]]
project = "buildah/*"
backend = "buildah"
repositories = ["*"]

[[rule]]
project = "podman/*"
backend = "podman"
repositories = ["*"]
TOML
    make_tiny_base
    # Podman finds nothing in its cache for a base whose history has no times.
    publish_image base/timed:1 none '{}' tiny_files
    timed=$world_registry/base/timed:1
    stores_of_others=$(all_stores)
}

SUITE_TEARDOWN() {
    world_stop
}

# run_steps_of PROJECT ID SCRIPT [JQ]
run_steps_of() {
    run_steps "$2" "$3" ".job_info.project_full_path = \"$1\" | .job_info.project_id = $(cksum <<<"$1" | cut -c1-6)
        | ${4:-.}"
}

tiny_files() { cp -a "$SUITE_DIR/tiny/." . && cp bin/busybox bin/busybox.static; }

# In a step: a socket, and a process whose command line has an option of dockerd's. Its look has to find them, and no others.
plant="busybox ln -s /tmp/planted.so''ck /dev/log; busybox syslogd -n -O /tmp/--config''-file & for i in \$(busybox seq 50); do test -S /tmp/planted.so''ck && break; busybox sleep 0.1; done"
unplant="kill \$!; rm -f /tmp/planted.so''ck /tmp/--config''-file /dev/log"

all_stores() { with_cgroup2_as_user podman volume ls --format '{{.Name}}' --filter label=io.slipway.role=store; }

stores() { all_stores | grep -vxF -e "$stores_of_others" || true; }

TEST "a job whose project has Buildah is built by it, judged and pushed, and what it cannot build names the line and who could" {
    run_steps_of buildah/app 4101 "cat >Dockerfile <<'END'
FROM $tiny AS made
RUN printf 'by a step\n' >/made
FROM $tiny
COPY --from=made /made /made
SHELL [\"/bin/sh\", \"-e\", \"-c\"]
HEALTHCHECK CMD [\"true\"]
USER 1000
END
docker build -t $world_registry/app/by-buildah:1 .
docker push $world_registry/app/by-buildah:1
docker inspect --format '{{json .Config.Healthcheck.Test}} {{json .Config.Shell}}' $world_registry/app/by-buildah:1
printf 'FROM $tiny\n\nRUN <<END\nrm /made\nEND\n' >Dockerfile
try heredoc docker build -t x:1 .
printf 'FROM $tiny\nCOPY --chmod=0700 . /all\n' >Dockerfile
try folder docker build -t x:1 .
printf 'FROM $tiny\nRUN exit 42\n' >Dockerfile
try failing docker build -t x:1 ."

    expect_eq "$STATE" success
    digest=$(world_registry_digest app/by-buildah:1)
    expect_contains "$TRACE" "slipway: built by buildah 1."
    expect_contains "$TRACE" 'policy (rule '
    expect_contains "$TRACE" '["CMD","true"] ["/bin/sh","-e","-c"]'
    expect_contains "$TRACE" "digest   $digest"
    expect_contains "$TRACE" "built    buildah 1."
    expect_step heredoc 1 "Dockerfile:3: RUN <<END: buildah 1." "buildkit v" "could build it"
    expect_step folder 1 "Dockerfile:2: COPY --chmod=0700: buildah 1." "makes new folders with mode 0755"
    expect_step failing 1 "Dockerfile:2: a step ended with exit code 42: RUN exit 42"
    expect_eq "$(jq -r 'select(.event == "build") | .backend' "$world_state_dir/audit.jsonl" | tail -n1 | cut -d. -f1)" \
        "buildah 1"
    expect_contains "$(jq -r 'select(.event == "build_denied") | .why' "$world_state_dir/audit.jsonl")" "RUN <<END"
    expect_eq "$(world_leftovers)" ""
}

TEST "BuildKit's layers are found again by the same project on the same kind of ref, and by nobody else" {
    local number=4210 made
    script="printf 'FROM $timed\nRUN printf \"made-%%s\\\\n\" here >/dev/stderr\n' >Dockerfile
docker build . 2>&1"
    # made_by PROJECT [FILTER]: whether the step ran.
    made_by() {
        number=$((number + 1))
        run_steps_of "$1" "$number" "$script" "${2:-.}"
        expect_eq "$STATE" success
        made=$(grep -c made-here <<<"$TRACE" || true)
    }
    made_by kit/app && expect_eq "$made" 1
    made_by kit/app && expect_eq "$made" 0 "the control: the same again"
    made_by kit/app '.git_info.protected = false' && expect_eq "$made" 1 "by a ref that is not protected"
    made_by kit/other && expect_eq "$made" 1 "by another project"
    made_by kit/app && expect_eq "$made" 0
}

TEST "Podman's layers are found again by the same project on the same kind of ref, and by nobody else" {
    before=$(stores | wc -l)
    script="cat >Dockerfile <<'END'
FROM $timed
RUN printf 'marker-of-podman-app\n' >/marker
END
docker build -t $world_registry/app/by-podman:1 ."
    run_steps_of podman/app 4201 "$script
docker push $world_registry/app/by-podman:1"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "built    podman "
    expect_lacks "$TRACE" "Using cache"
    [[ -n $(world_registry_digest app/by-podman:1) ]]

    run_steps_of podman/app 4202 "$script"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "Using cache"

    run_steps_of podman/app 4203 "$script" '.git_info.protected = false'
    expect_eq "$STATE" success
    expect_lacks "$TRACE" "Using cache"

    # What breaks out of a step is in a sandbox that has its own project's store, and nothing else.
    run_steps_of podman/other 4204 "$script
cat >Dockerfile <<'END'
FROM $timed
RUN --mount=type=cache,id=../../../../..,target=/m busybox ls /m/build/context; busybox find /m -xdev -type s; for f in /m/var/lib/containers/storage/overlay/*/diff/marker; do test ! -e \$f || echo found \$(head -n1 \$f) in \$f; done; echo looked-\$((1 + 1))
END
touch file-of-this-context
try escape docker build --no-cache -t x:1 .
printf 'FROM $timed\nRUN busybox nc -w 3 ${env_gitlab_address/:*/} $((world_coordinator_port + 1)) </dev/null && echo there-\$((1 + 1)); busybox nc -w 3 ${world_registry/:/ } </dev/null || echo cut-off-\$((1 + 1))\n' >Dockerfile
try network docker build -t x:1 ."
    expect_eq "$STATE" success
    expect_lacks "$(sed '/<<escape/,$d' <<<"$TRACE")" "Using cache"
    expect_step escape 0 file-of-this-context looked-2
    expect_lacks "$(step_says escape)" .sock
    # Its own, which it has built itself, is there: the look was good.
    expect_eq "$(step_says escape | grep -c '^found marker-of-podman-app')" 1 "markers in the store of podman/other"
    expect_step network 0 there-2 cut-off-2
    expect_eq "$(($(stores | wc -l) - before))" 3 "stores of podman/app, of its unprotected refs and of podman/other"
    expect_eq "$(world_leftovers)" ""
}

TEST "what a ref that is not protected leaves in caches is found by its next run, and by none of a protected ref" {
    local number=4220 backend again
    # found_by FILTER: by the run's steps, of what runs before it have left; it leaves something itself.
    found_by() {
        number=$((number + 1))
        run_steps_of "$backend/poisoned" "$number" "cat >Dockerfile <<'END'
FROM $timed
RUN printf 'layer-%s\n' made >&2
RUN --mount=type=cache,target=/c printf 'cache-%s\n' \"\$(head -n 1 /c/left || printf empty)\" >&2; printf 'of-%s\n' $number >/c/left
END
try build docker build -t x:1 ." "$1"
        expect_eq "$STATE" success
        expect_step build 0
        found=$(step_says build | grep -oE 'layer-made|cache-(of-[0-9]+|empty)' | xargs)
    }
    for backend in kit buildah podman; do
        again=
        [[ $backend != buildah ]] || again='layer-made ' # it keeps no layers
        found_by '.git_info.protected = false' && expect_eq "$found" "layer-made cache-empty" "$backend: the first"
        found_by '.git_info.protected = false' && expect_eq "$found" "${again}cache-of-$((number - 1))" "$backend: the control: the same again"
        found_by . && expect_eq "$found" "layer-made cache-empty" "$backend: of a protected ref"
        found_by '.git_info.protected = false' && expect_eq "$found" "${again}cache-of-$((number - 2))" "$backend: its own is still there"
    done
}

TEST "a job whose project has Kaniko is built by it, judged and pushed, and its steps find nothing to take along" {
    run_steps_of kaniko/app 4401 "cat >Dockerfile <<'END'
FROM $tiny AS made
RUN printf 'by a step\n' >/made
FROM made
COPY file /file
HEALTHCHECK CMD [\"true\"]
USER 1000
END
echo 1 >file
docker build -t $world_registry/app/by-kaniko:1 .
docker push $world_registry/app/by-kaniko:1
docker inspect --format '{{json .Config.Healthcheck.Test}} {{.Config.User}}' $world_registry/app/by-kaniko:1
printf 'FROM $tiny\n\nRUN <<END\nrm /made\nEND\n' >Dockerfile
try heredoc docker build -t x:1 .
mkdir -p sub && ln -sf file link
printf 'FROM $tiny\nCOPY sub /sub\n' >Dockerfile
try folder docker build -t x:1 .
printf 'FROM $tiny\nCOPY link /link\n' >Dockerfile
try link docker build -t x:1 .
printf 'FROM $tiny AS one\nFROM $tiny\nCOPY --from=one /bin/busybox.static /taken\n' >Dockerfile
try stage docker build -t x:1 .
printf 'FROM $tiny\nRUN exit 42\n' >Dockerfile
try failing docker build -t x:1 .
mkdir -p ctx && echo >ctx/of-this-build && echo >../of-another-folder
cat >ctx/Dockerfile <<'END'
FROM $tiny
RUN $plant; busybox cat /kaniko/.docker/config.json; busybox find / -xdev -name 'of-*'; busybox find / -xdev -type s; busybox find / -xdev -name '*auth*.json' -o -xdev -name config.json; busybox tr '\\0' '\\n' </proc/1/environ | busybox grep -i -E 'token|password|secret|registry'; $unplant; echo looked-\$((1 + 1))
END
try look docker build -t x:1 ctx
printf 'FROM $tiny\nRUN busybox nc -w 3 ${env_gitlab_address/:*/} $((world_coordinator_port + 1)) </dev/null && echo there-\$((1 + 1)); busybox nc -w 3 ${world_registry/:/ } </dev/null || echo cut-off-\$((1 + 1))\n' >Dockerfile
try network docker build -t x:1 ."

    expect_eq "$STATE" success
    digest=$(world_registry_digest app/by-kaniko:1)
    expect_contains "$TRACE" "slipway: built by kaniko v1.24.0"
    expect_contains "$TRACE" '["CMD","true"] 1000'
    expect_contains "$TRACE" "digest   $digest"
    expect_step heredoc 1 "Dockerfile:3: RUN <<END: kaniko v1.24.0 runs the line without its body" "could build it"
    expect_step folder 1 "Dockerfile:2: COPY sub: kaniko v1.24.0 gives the folder that is copied into" "could build it"
    expect_step link 1 "Dockerfile:2: COPY link: kaniko v1.24.0 copies the link and not what it leads to"
    expect_step stage 1 "Dockerfile:3: COPY /bin/busybox.static: kaniko v1.24.0 copies the link" "could build it"
    expect_step failing 1 "Dockerfile:2: a step ended with exit code 42: RUN exit 42"
    # Its own context is there: the look was good.
    expect_step look 0 /.slipway/buildcontext/of-this-build looked-2
    expect_eq "$(step_says look | grep -oE '[^ ]*[.]sock' | xargs)" /tmp/planted.sock "sockets"
    for found in of-another-folder auth.json 'config.json$' TOKEN; do
        expect_eq "$(step_says look | grep -v "can't open" | grep -c -- "$found")" 0 "$found"
    done
    expect_step network 0 there-2 cut-off-2
    expect_eq "$(world_leftovers)" ""
}

TEST "a job whose project has Docker's builder is built by it, judged and pushed, and its steps find neither daemon nor broker" {
    run_steps_of dind/app 4501 "cat >Dockerfile <<'END'
ARG base=$tiny
FROM \$base AS made
RUN printf 'by a step\n' >/made.txt
FROM \$base
COPY --from=made /made.txt /made
COPY sub /sub
HEALTHCHECK CMD [\"true\"]
USER 1000
END
mkdir sub && echo 1 >sub/file
docker build -t $world_registry/app/by-dind:1 .
docker push $world_registry/app/by-dind:1
docker inspect --format '{{json .Config.Healthcheck.Test}} {{.Config.User}}' $world_registry/app/by-dind:1
printf 'FROM $tiny\n\nRUN <<END\nrm /made\nEND\n' >Dockerfile
try heredoc docker build -t x:1 .
printf 'FROM $tiny\nADD http://${env_gitlab_address/:*/}:$((world_coordinator_port + 1))/x /x\n' >Dockerfile
try address docker build -t x:1 .
echo secret >s
printf 'FROM $tiny\nRUN true\n' >Dockerfile
try secret docker build --secret id=npm,src=s -t x:1 .
printf 'FROM $tiny\nRUN exit 42\n' >Dockerfile
try failing docker build -t x:1 .
mkdir -p ctx && echo >ctx/of-this-build && echo >../of-another-folder
cat >ctx/Dockerfile <<'END'
FROM $tiny
COPY . /ctx
RUN $plant; busybox find / -xdev -name 'of-*'; busybox find / -xdev -type s; busybox find / -xdev -name '*auth*.json' -o -xdev -name config.json; busybox cat /proc/*/cmdline | busybox tr '\\0' ' ' | busybox grep -o -e '--[c]onfig-file'; busybox tr '\\0' '\\n' </proc/1/environ | busybox grep -i -E 'token|password|secret|registry'; for port in 2375 2376; do busybox nc -w 2 127.0.0.1 \$port </dev/null && echo broker-at-\$port; done; $unplant; echo looked-\$((1 + 1))
END
try look docker build -t x:1 ctx
mkdir own && echo '# the own one' >own/Dockerfile
printf 'FROM $tiny\nCOPY . /ctx\nRUN busybox cat /ctx/Dockerfile\n' | try own docker build -f - -t x:1 own
try control ls -d /run/slipway/sock/docker.sock
printf 'FROM $tiny\nRUN busybox nc -w 3 ${env_gitlab_address/:*/} $((world_coordinator_port + 1)) </dev/null && echo there-\$((1 + 1)); busybox nc -w 3 ${world_registry/:/ } </dev/null || echo cut-off-\$((1 + 1))\n' >Dockerfile
try network docker build -t x:1 ."

    expect_eq "$STATE" success
    digest=$(world_registry_digest app/by-dind:1)
    expect_contains "$TRACE" "slipway: built by dind 20."
    expect_contains "$TRACE" '["CMD","true"] 1000'
    expect_contains "$TRACE" "digest   $digest"
    expect_step heredoc 1 "Dockerfile:3: RUN <<END: dind 20." "could build it"
    expect_step address 1 "Dockerfile:2: ADD http://" "gets no network from slipway"
    expect_step secret 1 "--secret" "dind 20."
    expect_step failing 1 "Dockerfile:2: a step ended with exit code 42: RUN exit 42"
    # Its own context is there, and the broker's socket in the job: the look was good.
    expect_step look 0 /ctx/of-this-build looked-2
    expect_step control 0 docker.sock
    # A Dockerfile that comes as a text is no file of the context.
    expect_step own 0 "# the own one"
    expect_eq "$(step_says look | grep -oE '[^ ]*[.]sock|--config-file' | sort | xargs)" "--config-file /tmp/planted.sock" "sockets, and processes with dockerd's option"
    for found in of-another-folder auth.json 'config.json$' TOKEN broker-at; do
        expect_eq "$(step_says look | grep -v 'Step 3/3' | grep -c -e "$found")" 0 "$found"
    done
    expect_step network 0 there-2 cut-off-2
    expect_eq "$(jq -r 'select(.event == "engine_start") | .justification' "$world_state_dir/audit.jsonl" | sort -u)" \
        "OPS-9: old Dockerfiles"
    expect_eq "$(jq -r 'select(.event == "build" and .justification != null) | .backend' "$world_state_dir/audit.jsonl" |
        sort -u | cut -d. -f1)" "dind 20"
    expect_eq "$(world_leftovers)" ""
}

TEST "a newer dockerd of the operator's builds, and what its steps may call is no more" {
    local newer
    newer=$("$env_root/packaging/tools/build" dockerd)/bin || return 1
    cp "$world_config" "$CASE_DIR/config.toml"
    printf '\n[dind]\ntools = "%s"\n' "$newer" >>"$world_config"
    run_steps_of dind/app 4506 "cat >Dockerfile <<'END'
FROM $tiny AS made
RUN busybox grep -E '^Seccomp' /proc/self/status; busybox unshare -U true || echo refused-\$((1 + 1))
RUN printf 'by a step\n' >/made.txt
FROM $tiny
COPY --from=made /made.txt /made
HEALTHCHECK --start-interval=1s CMD [\"true\"]
END
try build docker build -t $world_registry/app/by-newer:1 .
try push docker push $world_registry/app/by-newer:1
try inspect docker inspect --format '{{json .Config.Healthcheck}}' $world_registry/app/by-newer:1"
    OUTPUT=$("$SLIPWAY_BIN/slipway" --config "$world_config" backends)
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_step build 0 "slipway: built by dind 28.5.2" "Seccomp_filters:	2" refused-2
    expect_step push 0 "digest: sha256:"
    # Of an older one it would be refused: what a daemon can is told by its version.
    expect_step inspect 0 '"StartInterval":1000000000'
    expect_contains "$OUTPUT" "28.5.2      builds here  $newer/dockerd"
    expect_eq "$(world_leftovers)" ""
}

# What packages and programs do in steps, and what none has to ask of the kernel, by numbers of x86-64.
calls_dockerfile='FROM BASE
RUN mkdir -p /p/DEBIAN /p/opt; printf "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: m <m@slipway.example>\nDescription: d\n" >/p/DEBIAN/control; \
    echo packed >/p/opt/packed; dpkg-deb --build /p /tmp/p.deb; apt-get install -y /tmp/p.deb || dpkg -i /tmp/p.deb; cat /opt/packed
RUN --mount=type=cache,target=/c useradd -m builder && mkdir /owned && chown builder /owned && mkfifo /owned/pipe && chmod 4755 /owned && \
    su builder -c "touch /owned/by-\$(id -un)" && ls /owned && echo 1 >/c/x && cat /dev/null && mount | grep -c /proc
RUN perl -e "\$| = 1; for ([add_key => 248, qq(user), qq(slipway), qq(x), 1, -2], [io_uring_setup => 425, 1, qq(\\0) x 120], [userfaultfd => 323, 1]) { \
    my (\$name, \$call, @with) = @\$_; print qq(\$name ), syscall(\$call, @with) >= 0 ? qq(ok) : qq(refused-) . (\$! + 0), qq(\\n) }"; \
    grep Seccomp_filters /proc/self/status
'

TEST "steps do what packages and programs need, and the kernel refuses them what none does, whoever builds" {
    local project call id=4600
    OUTPUT=$("$env_lib/as-user" "$world_user" perl -e 'for ([add_key => 248, "user", "slipway", "x", 1, -2], [io_uring_setup => 425, 1, "\0" x 120]) {
        my ($name, $call, @with) = @$_; print "$name ", syscall($call, @with) >= 0 ? "ok" : $! + 0, "\n" }')
    for call in add_key io_uring_setup; do expect_contains "$OUTPUT" "$call ok"; done # the control: anybody may
    for project in kit/calls buildah/calls podman/calls; do
        id=$((id + 1))
        run_steps_of "$project" "$id" "cat >Dockerfile <<'END'
${calls_dockerfile/BASE/$world_base}
END
try build docker build --progress=plain -t $world_registry/app/calls:1 ."

        expect_step build 0 packed by-builder "add_key refused-" "io_uring_setup refused-" "userfaultfd refused-" "Seccomp_filters:	2"
    done
    expect_eq "$(world_leftovers)" ""
}

TEST "a job whose rule gives no reason for Docker's builder is refused it" {
    run_steps_of nodind/app 4511 "printf 'FROM $tiny\nRUN true\n' >Dockerfile
try denied docker build -t x:1 ."

    expect_step denied 1 "10-backends.toml:13) forbids every backend that it names"
    expect_eq "$(jq -r 'select(.event == "engine_start" and .project == "nodind/app")' "$world_state_dir/audit.jsonl")" ""
    expect_eq "$(world_leftovers)" ""
}

dind_groups() {
    with_cgroup2_as_user find "/sys/fs/cgroup/$world_user" -type d -name 'slipway-j4521-*-dind-*'
}

TEST "what a build by Docker's builder leaves that is killed goes with its job" {
    run_steps_of dind/app 4521 "printf 'FROM $tiny\nRUN busybox sleep 45217\n' >Dockerfile
docker build -t x:1 ." &
    local waiting=$! tries=600
    until pgrep -f -x 'busybox sleep 45217' >/dev/null || ((--tries == 0)); do sleep 0.1; done
    # The look was good: there is something to leave.
    expect_contains "$(world_leftovers)" "volume slipway-j4521"
    [[ -n $(dind_groups) ]]
    kill -KILL "$(run_pid)"
    wait "$waiting" || true

    expect_eq "$(world_leftovers)" ""
    expect_eq "$(dind_groups)" "" "control groups"
    expect_eq "$(pgrep -f -x 'busybox sleep 45217')" "" "steps"
}

TEST "where BuildKit cannot begin Buildah builds, and the job's log and the audit log say so" {
    cp "$world_config" "$CASE_DIR/config.toml"
    printf '#!/bin/sh\n[ "$1" != --version ] || exec %s/bin/buildctl --version\nexit 1\n' "$world_kit" >"$CASE_DIR/broken"
    install -D -m 0755 "$CASE_DIR/broken" "$world_dir/broken/bin/buildkitd"
    install -D -m 0755 "$world_kit/bin/buildctl" "$world_dir/broken/bin/buildctl"
    sed -i "s|^buildkitd = .*|buildkitd = \"$world_dir/broken/bin/buildkitd\"|; s|^buildctl = .*|buildctl = \"$world_dir/broken/bin/buildctl\"|" \
        "$world_config"
    run_steps_of grp/fallback 4301 "printf 'FROM $tiny\nRUN printf 1 >/one\n' >Dockerfile
docker build -t $world_registry/app/fallback:1 .
docker push $world_registry/app/fallback:1" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_eq "$STATE" success
    expect_contains "$TRACE" "slipway: built by buildah 1."
    expect_contains "$TRACE" "buildkit could not begin ("
    expect_eq "$(jq -r 'select(.event == "build_fallback") | .from + " " + .to' "$world_state_dir/audit.jsonl")" \
        "buildkit buildah"
}

TEST "stores that nobody uses go with slipway gc" {
    [[ -n $(stores) ]]
    "$env_lib/as-user" "$world_user" "$SLIPWAY_BIN/slipway" --config "$world_config" gc --all
    expect_eq "$(stores)" ""
}
