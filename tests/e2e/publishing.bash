# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Command lines by which builders publish, or tell what they know, by themselves. Each is given to the tool that it is of, without
# slipway, where it works; and, word for word, to slipway. What is built has a vulnerability.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"
# shellcheck source=tests/bench/parts/alone.bash
. "$SUITE_ROOT/tests/bench/parts/alone.bash"

SUITE_ONCE=1

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ -x /usr/bin/buildah ]] || echo "Buildah is not installed"
}

SUITE_SETUP() {
    kaniko=$("$SUITE_ROOT/packaging/tools/build" kaniko)
    docker_cli=$("$SUITE_ROOT/packaging/tools/build" docker-cli)
    world_start "$SUITE_DIR/world"
    printf '\n[kaniko]\nexecutor = "%s/bin/executor"\n' "$kaniko" >>"$world_config"
    local one
    for one in buildah kaniko; do
        printf '[[rule]]\nproject = "%s/*"\nbackend = "%s"\nrepositories = ["*"]\n' $one $one >>"$world_dir/etc/policy.d/10-backends.toml"
    done
    # What the job knows may push, here and there.
    jq '. + {"ci": {"password": "a-token-that-may-push", "repos": {"*": ["pull", "push"]}}}' \
        "$world_dir/users.json" >"$world_dir/users.new"
    mv "$world_dir/users.new" "$world_dir/users.json"
    login=$(printf ci:a-token-that-may-push | base64)
    login_file=$(jq -cn --arg registry "$world_registry" --arg login "$login" '{auths: {($registry): {auth: $login}}}')
    make_tiny_base
    publish_image base/tools:12 debian '{}' tool_names
    start_proxy 5447
    bench_dir=$SUITE_DIR
    alone_init "$kaniko"
    mkdir "$alone_dir/.docker"
    jq --arg plugins "$docker_cli/bin" '. + {cliPluginsExtraDirs: [$plugins]}' <<<"$login_file" |
        tee "$alone_dir/.docker/config.json" >"$alone_dir/config/config.json"
}

SUITE_TEARDOWN() {
    alone_stop
    world_stop
}

# Of the tools of the image only that they are there: what works is the shim in their place.
tool_names() {
    local one
    for one in usr/bin/{docker,buildah,buildctl} kaniko/executor; do install -D -m 0755 /dev/stdin "$one" <<<$'#!/bin/sh\nexit 99'; done
}

# A context with a Dockerfile whose image has a vulnerability, and one more line in it.
context() {
    printf '%s\n' "printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >METADATA" \
        "printf '%s\n' 'FROM $tiny' 'COPY METADATA /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA' '${1:-}' >Dockerfile"
}

# bare LINE: a command line without slipway, with the login, in $OUTPUT what it says; $TO is app/bare.
bare() {
    mkdir -p "$CASE_DIR/context"
    (cd "$CASE_DIR/context" && eval "$(context)")
    # shellcheck disable=SC2016
    expect_status 0 alone_run store timeout 300 env TO="$world_registry/app/bare" CERTS="/etc/containers/certs.d/$world_registry" BUILDAH_ISOLATION=chroot \
        BUILDKIT_HOST="unix://$alone_dir/daemon.sock" PATH="$docker_cli/bin:$world_kit/bin:/usr/bin:/bin:/usr/sbin:/sbin" bash -euc \
        'mkdir -p "$CERTS"; cp certs/ca.crt "$CERTS"; cd "$1"; eval "$2"' bare "$CASE_DIR/context" "$1"
}

# bare_kaniko ARGUMENT...: in an image as Kaniko's own, where its login is. The folder is lent for writing: it is /workspace.
bare_kaniko() {
    expect_status 0 alone_run kaniko.store timeout 300 podman run --rm --network host --cgroups disabled \
        --volume "$CASE_DIR/context:/workspace" --volume "$alone_dir/config/config.json:/kaniko/.docker/config.json:ro" kaniko "$@"
}

start_bare_buildkit() {
    alone_start "$world_kit/bin/buildkitd" --root "$alone_dir/data" --addr "unix://$alone_dir/daemon.sock" \
        --oci-worker-binary "$(command -v runc)" --config "$alone_dir/buildkitd.toml"
}

# in_slipway ID PROJECT SCRIPT: a job with the same login, in the context; $TO is app/here.
in_slipway() {
    run_steps "$1" "export TO=$world_registry/app/here
mkdir -p ~/.docker /kaniko/.docker work && cd work
echo '$login_file' | tee ~/.docker/config.json >/kaniko/.docker/config.json
$(context)
$3" ".image = {name: \"$world_registry/base/tools:12\", entrypoint: [\"\"]} | .job_info.project_full_path = \"$2\" | .job_info.project_id = $(cksum <<<"$2" | cut -c1-6)"
}

# As it lies there: a cache is no image.
is_there() {
    env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/$1" >manifest && grep -q '"schemaVersion"' manifest
}

TEST "buildah build -t docker://: Buildah alone publishes; in a job nothing is" {
    # shellcheck disable=SC2016
    line='buildah build -t docker://$TO:tag .'
    bare "$line"
    is_there app/bare:tag

    # Past the shim too, by the broker's own endpoint.
    in_slipway 2701 buildah/app "try build $line
tar -cf ../context.tar .
ask() { (exec 3<>/dev/tcp/docker/2375; printf 'POST %s HTTP/1.0\r\nContent-Type: application/x-tar\r\nContent-Length: %s\r\n\r\n' \"\$1\" \$(stat -c %s ../context.tar) >&3; cat ../context.tar >&3; cat <&3); }
try endpoint ask /v1.41/build?t=docker://\$TO:endpoint
try control buildah build -t \$TO:tag .
try push buildah push \$TO:tag"
    expect_eq "$STATE" success
    expect_step build 125 "docker://"
    expect_step endpoint 0 "400 Bad Request" "docker://"
    expect_step control 0
    expect_step push 125 CVE-2020-14343
    for tag in tag endpoint; do expect_absent "app/here:$tag"; done
}

TEST "--cache-to type=registry and -o type=registry: BuildKit alone publishes images and layers; in a job the gate judges, and no layer goes out" {
    start_bare_buildkit
    # shellcheck disable=SC2016
    buildx='docker buildx build --provenance=false --cache-to type=registry,ref=$TO:cache-x,mode=max -o type=registry,name=$TO:x .'
    # shellcheck disable=SC2016
    buildctl='buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=. --export-cache type=registry,ref=$TO:cache-ctl,mode=max --output type=image,name=$TO:ctl,push=true'
    # shellcheck disable=SC2016
    cache='docker buildx build --cache-to type=registry,ref=$TO:cache,mode=max -o type=oci,dest=../image.tar .'
    bare "docker buildx create --name alone --driver remote \"\$BUILDKIT_HOST\"
export BUILDX_BUILDER=alone
$buildx
$cache
$buildctl"
    for tag in x ctl cache cache-x cache-ctl; do is_there "app/bare:$tag"; done

    in_slipway 2702 grp/app "try buildx $buildx
try buildctl $buildctl
try cache $cache"
    expect_eq "$STATE" success
    expect_step buildx 1 CVE-2020-14343
    expect_step buildctl 1 CVE-2020-14343
    expect_step cache 0 "--cache-to"
    for tag in x ctl cache cache-x cache-ctl; do expect_absent "app/here:$tag"; done
}

TEST "--digest-file=https://: Kaniko alone sends there; in a job nothing is sent" {
    mkdir "$CASE_DIR/context"
    (cd "$CASE_DIR/context" && eval "$(context)")
    bare_kaniko --context . --no-push "--digest-file=https://$proxy/sent/bare"
    grep -q '^PUT /sent/bare ' "$world_dir/log/requests"

    in_slipway 2703 kaniko/app "try build /kaniko/executor --context . --no-push --digest-file=https://$proxy/sent/here
try control /kaniko/executor --context . --no-push --digest-file=digest
try digest cat digest"
    expect_eq "$STATE" success
    expect_step build 1 "--digest-file https://$proxy/sent/here" "nothing is sent from the build"
    expect_step control 0
    expect_step digest 0 sha256:
    expect_lacks "$(<"$world_dir/log/requests")" /sent/here
}

TEST "RUN cat /kaniko/.docker/config.json: a step of Kaniko alone reads the login; in a job no step finds it" {
    line='RUN /bin/busybox cat /kaniko/.docker/config.json'
    mkdir "$CASE_DIR/context"
    (cd "$CASE_DIR/context" && eval "$(context "$line")")
    bare_kaniko --context . --no-push
    expect_contains "$OUTPUT" "$login"

    local id=2704 project
    for project in kaniko/app grp/app; do
        in_slipway $id $project "$(context "$line")
try there cat /kaniko/.docker/config.json
try build /kaniko/executor --context . --no-push"
        expect_eq "$STATE" success
        expect_step there 0 "$login"
        expect_step build 1 "can't open '/kaniko/.docker/config.json'"
        expect_lacks "$(step_says build)" "$login"
        id=$((id + 1))
    done
}

TEST "nothing of the jobs is left" {
    expect_eq "$(world_leftovers)" ""
}
