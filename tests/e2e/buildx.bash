# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The real docker CLI and its buildx plug-in, where slipway's shim does not find them.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    docker_cli=$("$SUITE_ROOT/packaging/tools/build" docker-cli)
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_image base/buildx:1 busybox '{"Env": ["PATH=/bin", "DOCKER_CONFIG=/opt/real", "BUILDKIT_PROGRESS=plain"]}' cli_files
}

SUITE_TEARDOWN() {
    world_stop
}

# Not on PATH, and no folder of plug-ins that docker knows by itself: the shim covers neither.
cli_files() {
    install -D -m 0755 "$docker_cli/bin/docker" opt/real/docker
    install -D -m 0755 "$docker_cli/bin/docker-buildx" opt/real/plugins/docker-buildx
    echo '{"cliPluginsExtraDirs": ["/opt/real/plugins"]}' >opt/real/config.json
}

# with_real_docker ID SCRIPT: `real` is the unmodified docker, in a folder of its own.
with_real_docker() {
    run_steps "$1" "real() { /opt/real/docker \"\$@\"; }; mkdir $1; cd $1
$2" ".image.name = \"$world_registry/base/buildx:1\""
}

ssh_files() {
    cli_files
    local one
    for one in ssh-agent ssh-add; do with_program "$(command -v "$one")"; done
}

# a Dockerfile whose image has this release of PyYAML's metadata
yaml_image() {
    echo "printf 'FROM $tiny\nCOPY METADATA /usr/lib/python3/dist-packages/PyYAML-$1.dist-info/METADATA\n' >Dockerfile"
    echo "printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: $1\n' >METADATA"
}

TEST "docker build and docker buildx build work with the real client, and what they build is pushed through the gate" {
    with_real_docker 2601 "$(yaml_image 5.4)
try versions sh -c '/opt/real/docker --version; /opt/real/docker buildx version'
try build real build -t $world_registry/app/real:1 -t $world_registry/app/real:2 --build-arg A=1 --label made=real --iidfile iid --metadata-file metadata .
try files cat iid metadata
printf 'keep\n!no*\n' >.dockerignore; echo kept out >keep; echo in >note
printf 'FROM $tiny\nARG A\nCOPY . /all\nRUN --mount=type=secret,id=word test \$(/bin/busybox wc -c </run/secrets/word) = 13 && test ! -e /all/keep && test -e /all/note\n' >two.Dockerfile
head -c 99 /dev/urandom | md5sum | head -c 13 >../word
try again real buildx build -f two.Dockerfile --secret id=word,src=../word -t $world_registry/app/real:3 --load .
mkdir lib; echo of the lib >lib/file
printf 'FROM busy\nCOPY --from=lib file /file\nRUN cat /file\n' | try contexts real buildx build -f - --build-context lib=lib --build-context busy=docker-image://$world_busybox -t contexts:1 .
try fails real build --target nosuch .
printf 'FROM $tiny\nRUN echo before; exit 7\n' >bad.Dockerfile
try broken real build -f bad.Dockerfile .
try list real images --format '{{.Repository}}:{{.Tag}}'
try push real push $world_registry/app/real:1
try direct real buildx build --push --annotation org.example.by=real -t $world_registry/app/real:4 -f two.Dockerfile --secret id=word,src=../word ."

    expect_eq "$STATE" success
    expect_step versions 0 "Docker version 29." "github.com/docker/buildx"
    expect_step build 0 "COPY METADATA"
    expect_step files 0 "sha256:" '"containerimage.digest": "sha256:' "app/real:1"
    expect_step again 0
    expect_step contexts 0 "of the lib"
    expect_step fails 1 nosuch
    expect_step broken 1 before "exit code"
    expect_step list 0 "app/real:1" "app/real:2" "app/real:3" "contexts:1"
    expect_step push 0
    expect_step direct 0 "pushing $world_registry/app/real:4 with docker"
    expect_contains "$(step_says push)" "$(world_registry_digest app/real:1)"
    expect_contains "$TRACE" "$(world_registry_digest app/real:4)"
    expect_eq "$(env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/app/real:4" | jq -c .annotations)" \
        '{"org.example.by":"real"}'
    expect_absent app/real:2
}

TEST "steps of the real client's builds use the job's SSH agent" {
    local key fingerprint
    publish_image base/buildx-ssh:1 debian '{"Env": ["PATH=/usr/bin:/bin", "DOCKER_CONFIG=/opt/real", "BUILDKIT_PROGRESS=plain"]}' ssh_files
    make_deploy_key
    run_steps 2604 "eval \$(ssh-agent -s) >/dev/null
tr -d '\r' <\"\$DEPLOY_KEY\" | ssh-add -q -
printf 'FROM $world_registry/base/buildx-ssh:1\nRUN --mount=type=ssh,required=true ssh-add -l; ssh-add -D || echo kept\n' >Dockerfile
try agent /opt/real/docker build --no-cache --ssh default .
try other-id /opt/real/docker build --no-cache --ssh other .
try without /opt/real/docker build --no-cache ." \
        ".image.name = \"$world_registry/base/buildx-ssh:1\" | "'.variables += [{key: "DEPLOY_KEY", value: ($ENV.key + "\n"), file: true}]'

    expect_eq "$STATE" success
    expect_step agent 0 "$fingerprint" kept
    expect_step other-id 1
    expect_step without 1
}

TEST "nothing that the real client builds reaches a registry past the gate" {
    with_real_docker 2602 "$(yaml_image 5.3)
try build real build -t $world_registry/app/vulnerable:1 .
try push real push $world_registry/app/vulnerable:1
try direct real buildx build --push -t $world_registry/app/vulnerable:2 .
try output real buildx build -o type=registry,name=$world_registry/app/vulnerable:3 .
try image real buildx build -o type=image,name=$world_registry/app/vulnerable:4,push=true -t $world_registry/app/vulnerable:4 .
try cache real buildx build --cache-to type=registry,ref=$world_registry/app/vulnerable:cache -t $world_registry/app/vulnerable:5 .
try host real buildx build --network host .
try llb real buildx build https://git.example/x.git
$(yaml_image 5.4)
try control real buildx build --push -t $world_registry/app/vulnerable:6 ."

    expect_step build 0
    for step in push direct output image; do expect_step "$step" 1 CVE-2020-14343; done
    expect_step cache 1 "not supported"
    expect_step host 1 "network.host"
    expect_step llb 1
    expect_step control 0
    for tag in 1 2 3 4 5 cache; do expect_absent "app/vulnerable:$tag"; done
    world_registry_digest app/vulnerable:6
}

TEST "the files of an image that the real client builds go into a folder or a tar of the job, and nowhere else" {
    with_real_docker 2605 "printf 'FROM $tiny\nCOPY . /all\nRUN cd /all && /bin/busybox ln -s secret.txt soft && /bin/busybox ln secret.txt hard && /bin/busybox chmod 4711 tool && /bin/busybox mkdir -m 1770 sticky && /bin/busybox mkfifo pipe\nFROM scratch\nCOPY --from=0 /all /\n' >Dockerfile
head -c 3000000 /dev/urandom >large; echo kept >secret.txt; chmod 0640 secret.txt; echo tool >tool; : >empty; mkdir 'a b' a; echo 1 >'a b/x'; echo 2 >a/y
printf 'Dockerfile\nout*\n' >.dockerignore
try folder real buildx build -o type=local,dest=out .
try same sh -c 'cmp large out/large && cat out/secret.txt \"out/a b/x\" out/a/y && test -f out/empty && ! test -s out/empty'
try modes sh -c 'cd out && stat -c \"%a %F %h %n\" secret.txt tool sticky hard soft pipe && readlink soft'
try same-file test out/secret.txt -ef out/hard
echo mine >out/mine; echo changed >secret.txt
try again real build -o out .
try merged cat out/mine out/secret.txt
try tar real buildx build -o type=tar,dest=out.tar .
try listed tar -tvf out.tar
try from-tar tar -xOf out.tar hard
try stdout sh -c '/opt/real/docker buildx build -q -o - . | tar -xOf - hard'
try several real buildx build --build-arg BUILDKIT_MULTI_PLATFORM=1 -o out2 .
try pushed real buildx build -o type=local,dest=out3,push=true .
try name real buildx build -o type=local,dest=out3,name=$world_registry/app/files:1 .
try archive real buildx build -o type=oci,dest=out.oci .
try none ls -d out2 out3 out.oci"

    expect_eq "$STATE" success
    expect_step folder 0
    expect_step same 0 kept 1 2
    expect_step modes 0 "640 regular file 2 secret.txt" "711 regular file 1 tool" "1770 directory 2 sticky" \
        "640 regular file 2 hard" "777 symbolic link 1 soft" "fifo 1 pipe" "secret.txt"
    expect_step same-file 0
    expect_step again 0
    expect_step merged 0 mine changed
    expect_step tar 0
    expect_step listed 0 large "a b/x" "soft -> secret.txt" hard "-rws--x--x"
    expect_step from-tar 0 changed
    expect_step stdout 0 changed
    expect_step several 1 "several platforms"
    expect_step pushed 1 "push=true is not possible here"
    expect_step name 1 "is not possible here"
    expect_step archive 1
    expect_absent app/files:1
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}
