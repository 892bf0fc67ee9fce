# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Jobs that call podman, buildah, img, buildctl, kaniko's executor, bake and Compose as their documentation says. The images of
# the jobs have files under these names that only fail: what works is the shim in their place.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ -x /usr/bin/docker-compose ]] || echo "needs docker-compose, to compare with"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_image base/tools:12 debian '{}' tool_files_of_others
    publish_image base/kaniko:1 none \
        '{"Entrypoint": ["/kaniko/executor"], "WorkingDir": "/workspace", "Env": ["PATH=/usr/local/bin:/kaniko:/busybox"]}' \
        kaniko_files
    with_tools=".image.name = \"$world_registry/base/tools:12\""
}

SUITE_TEARDOWN() {
    world_stop
}

only_fails() {
    install -D -m 0755 /dev/stdin "$1" <<'END'
#!/bin/sh
echo "the image's own $0 was called" >&2
exit 99
END
}

tool_files_of_others() {
    local tool
    for tool in podman buildah img buildctl buildctl-daemonless.sh; do only_fails "usr/bin/$tool"; done
    install -D -m 0755 /dev/stdin usr/bin/docker-compose <<'END'
#!/bin/sh
echo "the image's own compose: $* by $DOCKER_HOST"
END
    install -D usr/bin/docker-compose usr/libexec/docker/cli-plugins/docker-compose
}

kaniko_files() {
    kaniko_shell
    only_fails kaniko/executor
}

# vulnerable: a Dockerfile of an image that the gate does not let pass.
vulnerable() {
    cat <<SCRIPT
printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >METADATA
printf 'FROM $tiny\nCOPY METADATA /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA\n' >Dockerfile
SCRIPT
}

TEST "podman builds, names and pushes images in its own words" {
    run_steps 5001 "printf 'FROM $tiny\nCOPY word /word\n' >Containerfile; echo 5001 >word
try where sh -c 'command -v podman'
try login sh -c 'echo hunter2 | podman login -u ci --password-stdin $world_registry'
try build sh -c 'podman build -q -t app . >id && podman build --iidfile iid -t app . | tail -1 | diff - id && cat iid'
printf 'FROM app\nRUN head -1 /word\n' >second
try from-own podman build -f second -t second .
try images podman images --format '{{.Repository}}:{{.Tag}}'
try push podman push --digestfile digest app docker://$world_registry/app/podman:1
try digest cat digest
try inspect podman inspect --format '{{.Digest}}' app
try pull podman pull -q $world_registry/app/podman:1
try save sh -c 'podman save -o app.tar app && podman load -q -i app.tar'
try files sh -c 'podman build -q -o out -t files . >/dev/null && cat out/word && podman image exists files'
try run podman run --rm app true" "$with_tools"

    expect_eq "$STATE" success
    expect_step where 0 /usr/bin/podman
    expect_step login 0 "Login Succeeded!"
    expect_step build 0 sha256:
    expect_step from-own 0 5001 "Successfully tagged localhost/second:latest"
    expect_step images 0 localhost/app:latest localhost/second:latest
    expect_lacks "$(step_says images)" docker.io
    expect_step push 0
    expect_step digest 0 "$(world_registry_digest app/podman:1)"
    expect_step inspect 0 "$(world_registry_digest app/podman:1)"
    expect_step pull 0
    expect_step save 0 "Loaded image: "
    expect_step files 0 5001
    expect_step run 125 "this job may not run containers" "dind = true"
    expect_lacks "$TRACE" "the image's own"
}

TEST "an ignore file, parts, arguments and annotations as podman and docker have them" {
    run_steps 5031 "echo kept >kept; echo hidden >hidden; echo hidden >.containerignore
printf 'FROM $tiny AS one\nCOPY . /all\n' >one; printf 'FROM one\nARG WORD\nLABEL word=\$WORD\n' >two; echo WORD=from-file >args
try build podman build -q -f one -f two --build-arg-file args --annotation org.example.team=x -t $world_registry/app/annotated:podman .
try label podman inspect --format '{{.Config.Labels.word}}' $world_registry/app/annotated:podman
try push podman push -q $world_registry/app/annotated:podman
try files sh -c 'podman build -q -o out -f one . >/dev/null && ls -a out/all'
echo kept >other; cd /tmp; mkdir elsewhere; cd elsewhere; echo hidden >hidden; printf 'FROM $tiny\nCOPY . /all\n' >Containerfile; echo hidden >.containerignore
try sent sh -c 'podman build -q -o out . >/dev/null && ls -a out/all'
cd \$CI_PROJECT_DIR
try other sh -c 'buildah bud -q --ignorefile other -o out2 -f one . >/dev/null && ls -a out2/all'
try docker sh -c 'docker build -q -f one --annotation manifest:org.example.by=docker -t $world_registry/app/annotated:docker . && docker push -q $world_registry/app/annotated:docker'
try index docker build -q -f one --annotation index:a=b .
printf 'FROM $tiny\nCOPY kept /kept\nCOPY other /other\n' >layers
mkdir root && echo from the archive >root/word && tar -C root -czf root.tgz .
try import sh -c 'docker import --change \"ENV A=b\" - imported:1 <root.tgz && podman import -q root.tgz imported:2'
printf 'FROM imported:1\n' >On
try imported sh -c 'docker build -q -o out3 -f On . >/dev/null; cat out3/word; docker inspect --format \"{{.Config.Env}} {{len .RootFS.Layers}}\" imported:1; podman images'
try plain sh -c 'podman build -q -f layers -t plain . && podman inspect --format \"{{len .RootFS.Layers}} layers\" plain'
try squash sh -c 'podman build -q --squash -f layers -t squashed . && podman inspect --format \"{{len .RootFS.Layers}} layers\" squashed'
try all sh -c 'buildah bud -q --squash -f layers -t all . && podman inspect --format \"{{len .RootFS.Layers}} layers\" all'" "$with_tools"

    expect_eq "$STATE" success
    expect_step build 0
    expect_step label 0 from-file
    expect_step push 0
    expect_step files 0 kept .containerignore
    expect_lacks "$(step_says files)" hidden
    expect_step sent 0 Containerfile
    expect_lacks "$(step_says sent)" hidden
    expect_step other 0 hidden
    expect_lacks "$(step_says other)" kept
    expect_step docker 0
    expect_step index 1 "the annotation a is for an index"
    expect_step import 0 sha256:
    expect_step imported 0 "from the archive" "A=b] 1" localhost/imported
    expect_step plain 0 "3 layers"
    expect_step squash 0 "2 layers"
    expect_step all 0 "1 layers"
    annotation() {
        env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/app/annotated:$1" |
            jq -r '.annotations | tostring'
    }
    expect_eq "$(annotation podman)" '{"org.example.team":"x"}'
    expect_eq "$(annotation docker)" '{"org.example.by":"docker"}'
}

TEST "buildah builds by bud and pushes by image ID, and says what it cannot do" {
    run_steps 5002 "printf 'ARG BASE\nFROM \$BASE AS one\nRUN printf 5002 >/word\nFROM one\nLABEL team=x\n' >Dockerfile
try build sh -c 'buildah --storage-driver vfs bud --isolation chroot --format docker -q --build-arg BASE=$tiny . >id'
try push sh -c 'buildah push --storage-driver=vfs --tls-verify=false \$(cat id) docker://$world_registry/app/buildah:1'
try label buildah inspect --type image --format '{{.OCIv1.Config.Labels.team}}' $world_registry/app/buildah:1
try archive sh -c 'buildah push \$(cat id) oci-archive:out.tar && tar -tf out.tar'
try mount buildah mount some
try volume buildah bud -v /:/host .
printf 'FROM $tiny\nRUN exit 3\n' >failing
try step buildah bud -f failing ." "$with_tools"

    expect_eq "$STATE" success
    expect_step build 0 "HEALTHCHECK"
    expect_step push 0 "--tls-verify has no effect"
    [[ -n $(world_registry_digest app/buildah:1) ]]
    expect_step label 0 x
    expect_step archive 0 index.json
    expect_step mount 125 "buildah copy"
    expect_step volume 125 "--volume"
    expect_step step 3
}

TEST "buildah's working containers: from, run, copy, config and commit, and what comes of it goes through the gate" {
    run_steps 5018 "printf 'hello from the job' >app; mkdir -p conf && echo one >conf/one && echo two >conf/two
c=\$(buildah from --name work $tiny)
try from echo \"\$c\"
try run buildah run \"\$c\" -- sh -c 'echo out; echo err >&2; mkdir /made; printf kept >/made/file'
try state buildah run \"\$c\" head -c 4 /made/file
try code buildah run \"\$c\" -- sh -c 'exit 7'
try input sh -c \"printf 'through stdin' | buildah run \$c head -c 7\"
try copy buildah copy \"\$c\" ./app /usr/local/bin/app
try add buildah add \"\$c\" conf /etc/conf/
try config buildah config --env WORD=x --env PATH=/bin --cmd '[\"/bin/sh\"]' --entrypoint '[\"/usr/local/bin/app\"]' --user 1000:1000 --workingdir /srv --label team=x --port 8080 \"\$c\"
try list buildah containers
try volume buildah run --user 0 -v ./conf:/conf:Z -v \"\$PWD:/all:ro\" work -- sh -c 'head -1 /conf/one; echo from-inside >/conf/three; rm /all/app'
try volume-out buildah run -v /etc:/e work true
try from-inside cat conf/three app
try own-broker bash -c 'exec 3<>/dev/tcp/127.0.0.1/2375; printf \"GET /_ping HTTP/1.0\r\n\r\n\" >&3; cat <&3'
try broker buildah run --user 0 work -- /bin/busybox nc 127.0.0.1 2375
try hosts buildah run \"\$c\" -- head -20 /etc/hosts
try filters buildah run \"\$c\" -- /bin/busybox grep Seccomp_filters /proc/self/status
try whole buildah inspect --format '{{.Container}} {{.FromImage}}' work
mkdir -p outside && cp app /tmp/other && cd /tmp && buildah copy -q \"\$c\" other /srv/ && cd - >/dev/null
try scratch sh -c 's=\$(buildah from scratch) && echo \$s && buildah rename \$s empty && buildah containers -n --format \"{{.ContainerName}}\"'
try commit sh -c \"buildah commit --format docker -q \$c $world_registry/app/session:1 >id\"
try label buildah inspect --type image --format '{{.OCIv1.Config.Labels.team}} {{.OCIv1.Config.Env}} {{.OCIv1.Config.User}}' $world_registry/app/session:1
try push sh -c \"buildah push $world_registry/app/session:1\"
second=\$(buildah from $world_registry/app/session:1)
try second echo \"\$second\"
try there buildah run --user 0 \"\$second\" -- head -c 40 /usr/local/bin/app /etc/conf/one /made/file
try by-id sh -c 'buildah config --label by=id work && id=\$(buildah commit -q work) && n=\$(buildah from --pull-always \$id) && buildah run --user 0 \$n -- head -c 40 /made/file && buildah copy --from \$id \$n /etc/conf/two /taken && buildah run --user 0 \$n -- head -c 40 /taken && buildah rm \$n'
try rm buildah rm \"\$second\" \"\$c\"" "$with_tools"

    expect_eq "$STATE" success
    expect_step from 0 work
    expect_step run 0 out err
    expect_step state 0 kept
    expect_step code 7
    expect_step input 0 through
    expect_step copy 0
    expect_step add 0
    expect_step config 0
    expect_step list 0 work "$world_registry/base/tiny"
    expect_step hosts 0 localhost
    expect_step filters 0 "Seccomp_filters:	2"
    # Control: the job's own script reaches the broker there.
    expect_step own-broker 0 "200 OK"
    expect_step broker 1 "refused"
    expect_step volume 1 one "Read-only file system"
    expect_step volume-out 125 workspace
    expect_step from-inside 0 from-inside "hello from the job"
    expect_step whole 0 "work $tiny"
    expect_step scratch 0 working-container empty
    expect_step commit 0
    expect_step label 0 x WORD=x 1000
    expect_step push 0
    expect_step second 0 -working-container
    expect_step there 0 "hello from the job" one kept
    expect_step by-id 0 kept two
    [[ -n $(world_registry_digest app/session:1) ]]
}

TEST "a working container lasts over a failure and the job's scripts, and ends with the job" {
    after='.steps += [{name: "after_script", script: ["buildah containers; buildah run kept head -9 /word; buildah commit -q --rm --squash kept '"$world_registry"'/app/after:1; buildah push '"$world_registry"'/app/after:1 && echo pushed-after; buildah rm -a"],
        timeout: 100, when: "always", allow_failure: true}]'
    run_steps 5019 "try nothing buildah run kept true
try none buildah containers
buildah from --name kept $tiny
buildah run kept -- sh -c 'echo made-in-the-script >/word; exit 3' || echo ended-\$?
exit 4" "$with_tools | $after"

    expect_eq "$STATE" "failed script_failure 4"
    expect_step nothing 125 "container not known" "buildah from"
    expect_step none 0 "CONTAINER ID"
    expect_contains "$TRACE" ended-3
    expect_contains "$TRACE" made-in-the-script
    expect_contains "$TRACE" pushed-after
    [[ -n $(world_registry_digest app/after:1) ]]
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}

TEST "what a working container became is judged like a build, and policy may forbid the containers" {
    run_steps 5020 "printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >METADATA
c=\$(buildah from $tiny)
buildah copy -q \$c METADATA /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
buildah commit -q \$c bad
try push buildah push bad docker://$world_registry/app/session-bad:1
try at-once buildah commit \$c docker://$world_registry/app/session-bad:2
try bad-flag buildah run --device /dev/fuse \$c true
try no-image buildah from $world_registry/base/nosuch:1" "$with_tools"

    expect_eq "$STATE" success
    expect_step push 125 CVE-2020-14343
    expect_step at-once 125 CVE-2020-14343
    expect_step bad-flag 125 --device
    expect_step no-image 125 nosuch
    expect_absent app/session-bad:1
    expect_absent app/session-bad:2

    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\nban_backends = ["buildah"]\n' >"$world_dir/etc/policy.d/10-ban.toml"
    run_steps 5021 "try from buildah from $tiny
try list buildah containers -q" "$with_tools"
    rm "$world_dir/etc/policy.d/10-ban.toml"
    expect_step from 125 "forbids buildah" ban_backends
    expect_step list 0
    grep -q '"event":"build_denied".*forbids buildah' "$world_state_dir/audit.jsonl" || fail "the audit log does not say so"
}

TEST "img builds, tags, pushes and lists" {
    run_steps 5003 "printf 'FROM $tiny\nRUN printf 5003 >/word\n' >Dockerfile
try build img build --no-console -t $world_registry/app/img:1 .
try tag img tag $world_registry/app/img:1 $world_registry/app/img:2
try push img push $world_registry/app/img:2
try ls img ls
try save sh -c 'img save -o x.tar $world_registry/app/img:1 && tar -tf x.tar'" "$with_tools"

    expect_eq "$STATE" success
    expect_step build 0 "Successfully built $world_registry/app/img:1"
    expect_step tag 0 "Successfully tagged"
    expect_step push 0 "Successfully pushed $world_registry/app/img:2"
    expect_step ls 0 NAME "$(world_registry_digest app/img:2)"
    expect_step save 0 manifest.json
    expect_absent app/img:1
}

TEST "buildctl and buildctl-daemonless.sh build and push at once, as GitLab's documentation shows" {
    run_steps 5004 "mkdir docker; printf 'FROM $tiny\nARG WORD\nRUN printf x\$WORD >/word\n' >docker/D
try workers buildctl debug workers
try build buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=docker --opt filename=D \
    --opt build-arg:WORD=5004 --output type=image,name=$world_registry/app/buildctl:1,push=true --metadata-file meta
try meta cat meta
try daemonless buildctl-daemonless.sh build --frontend=dockerfile.v0 --local context=. --local dockerfile=docker \
    --opt filename=D --export-cache type=registry,ref=$world_registry/app/cache --output type=oci,dest=out.tar
try tar tar -tf out.tar
try files sh -c 'buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=docker --opt filename=D --opt build-arg:WORD=5004 --output type=local,dest=out && cat out/word'
try allow buildctl build --allow network.host --frontend dockerfile.v0 --local context=. --local dockerfile=docker" "$with_tools"

    expect_eq "$STATE" success
    expect_step workers 0 PLATFORMS
    expect_step build 0
    expect_step meta 0 "$(world_registry_digest app/buildctl:1)"
    expect_step daemonless 0 "has no effect"
    expect_step tar 0 oci-layout
    expect_step files 0 x5004
    expect_step allow 1 "--allow"
    expect_absent app/cache:latest
}

TEST "kaniko's executor builds and pushes in an image with its entrypoint switched off" {
    run_steps 5005 "echo '{\"auths\": {}}' >/kaniko/.docker/config.json
mkdir ctx; printf 'FROM $tiny AS test\nRUN [\"/no-such-test\"]\nFROM $tiny\nCOPY word /\n' >ctx/Dockerfile; echo 5005 >ctx/word
try build /kaniko/executor --context \"dir://\$PWD/ctx\" --dockerfile Dockerfile --cache=true --snapshot-mode=redo \
    --destination $world_registry/app/kaniko:1 --destination $world_registry/app/kaniko:2 \
    --digest-file out/digest --image-name-with-digest-file names
try digest cat out/digest
try names cat names
try by-name executor --no-push -c \"\$PWD/ctx\" --tar-path x.tar
try tar tar -tf x.tar
export KANIKO_NO_PUSH=true
try by-variable executor -c \"\$PWD/ctx\" -d $world_registry/app/kaniko:4
unset KANIKO_NO_PUSH
try git /kaniko/executor -d $world_registry/app/kaniko:3 -c git://example.invalid/x" \
        ".image = {name: \"$world_registry/base/kaniko:1\", entrypoint: [\"\"]}"

    expect_eq "$STATE" success
    expect_step build 0 "stages that the target does not need are not run: test (Dockerfile:1)"
    digest=$(world_registry_digest app/kaniko:1)
    [[ -n $digest && $digest == "$(world_registry_digest app/kaniko:2)" ]]
    expect_step digest 0 "$digest"
    expect_step names 0 "$world_registry/app/kaniko@$digest"
    expect_step by-name 0
    expect_step tar 0 manifest.json
    expect_step by-variable 0
    expect_absent app/kaniko:4
    expect_step git 1 "example.invalid"
}

TEST "docker buildx bake builds and pushes the targets of JSON and HCL files" {
    run_steps 5006 "printf 'FROM $tiny AS a\nRUN printf a >/word\nFROM $tiny AS b\nRUN printf b >/word\n' >Dockerfile
cat >docker-bake.json <<'END'
{\"variable\": {\"TAG\": {\"default\": \"0\"}},
 \"group\": {\"default\": {\"targets\": [\"a\", \"b\"]}},
 \"target\": {\"a\": {\"target\": \"a\", \"tags\": [\"$world_registry/app/bake-a:\${TAG}\"]},
            \"b\": {\"inherits\": [\"a\"], \"target\": \"b\", \"tags\": [\"$world_registry/app/bake-b:\${TAG}\"]}}}
END
export TAG=5006
try print docker buildx bake --print
try bake docker buildx bake --push
try remote docker buildx imagetools inspect --format '{{.Manifest.Digest}}' $world_registry/app/bake-a:5006
cat >more.hcl <<'END'
variable \"REPO\" { default = \"$world_registry/app/bake-hcl\" }
variable \"LATEST\" { default = false }
target \"hcl\" {
  name = \"hcl-\${stage}\" // one for each stage
  matrix = { stage = [\"a\", \"b\"] }
  target = stage
  tags = LATEST ? [\"\${REPO}:latest\"] : [\"\${REPO}:\${stage}\"]
}
END
try hcl docker buildx bake -f more.hcl --push hcl
printf 'function \"f\" {\\n params = []\\n}\\n' >function.hcl
try function docker buildx bake -f function.hcl
mkdir lib site
printf 'FROM $tiny\nRUN printf of-the-lib >/word\n' >lib/Dockerfile
printf 'FROM lib\nRUN cat /word >/copy\nFROM scratch\nCOPY --from=0 /copy /copy\n' >site/Dockerfile
cat >links.hcl <<'END'
target \"site\" {
  context = \"site\"
  contexts = { lib = \"target:lib\" }
  output = [\"type=local,dest=linked\"]
}
target \"lib\" {
  context = \"lib\"
  tags = [\"$world_registry/app/bake-lib:1\"]
}
END
try links sh -c 'docker buildx bake -f links.hcl --no-cache site && cat linked/copy && docker images -q localhost/slipway-bake-* | wc -l'"

    expect_eq "$STATE" success
    expect_step print 0 "app/bake-b:5006"
    expect_step bake 0
    expect_step remote 0 "$(world_registry_digest app/bake-a:5006)"
    [[ $(world_registry_digest app/bake-a:5006) != "$(world_registry_digest app/bake-b:5006)" ]]
    expect_step hcl 0 "target hcl-a"
    [[ $(world_registry_digest app/bake-hcl:b) == "$(world_registry_digest app/bake-b:5006)" ]]
    expect_absent app/bake-hcl:latest
    expect_step function 1 "function.hcl:1:1: a block \"function\" is not supported"
    expect_step links 0 "of-the-lib"
    expect_absent app/bake-lib:1
}

TEST "docker compose builds and pushes the services of its files, and leaves containers to the image's own" {
    run_steps 5010 "mkdir web db; printf 'FROM $tiny\\nARG WORD\\nRUN echo \$WORD >/word\\n' >web/Dockerfile
printf 'FROM one AS two\\nRUN cat /word\\n' >db/D
printf 'REG=$world_registry/app\\nTAG=env-file\\n' >.env
cat >docker-compose.yml <<'END'
x-build: &build {args: {WORD: \"w-\${TAG:?no tag}\"}, labels: {team: x}}
services:
  web: {image: \"\${REG}/compose-web:\${TAG}\", build: {<<: *build, context: ./web}, ports: [\"80:80\"]}
  db:
    image: \$REG/compose-db:\${TAG-none}
    build: {context: db, dockerfile: D, additional_contexts: {one: \"service:web\"}}
    depends_on: [web]
  tool: {build: ./web, profiles: [tools]}
volumes: {data: {}}
END
printf 'services: {web: {build: {tags: [\"\${REG}/compose-web:more\"]}}}\\n' >ci.yml
try short docker compose version --short
try images docker compose config --images
try build env TAG=5010 docker compose -f docker-compose.yml -f ci.yml --parallel 2 build --pull --no-cache
try push env TAG=5010 docker compose -f docker-compose.yml -f ci.yml push
try one env TAG=old docker-compose -p proj build --push web
try tool docker-compose -p proj build tool
try names docker images --format '{{.Repository}}'
try up env DOCKER_HOST=tcp://docker:2375 docker compose -p x up -d
try old-up docker-compose down
try key sh -c 'printf \"services:\\n  a:\\n    build:\\n      context: .\\n      privileged: true\\n\" | docker compose -f - build'
try unset sh -c 'rm .env; docker compose config -q'" "$with_tools"

    expect_eq "$STATE" success
    expect_step short 0 2.
    expect_step images 0 "$world_registry/app/compose-web:env-file" "$world_registry/app/compose-db:env-file"
    expect_lacks "$(step_says images)" tool
    expect_step build 0 "service web" "service db" w-5010 "--parallel has no effect"
    expect_step push 0 "Pushing db"
    digest=$(world_registry_digest app/compose-web:5010)
    [[ -n $digest && $digest == "$(world_registry_digest app/compose-web:more)" ]]
    [[ -n $(world_registry_digest app/compose-db:5010) ]]
    expect_absent app/compose-web:env-file
    expect_step one 0
    [[ -n $(world_registry_digest app/compose-web:old) ]]
    expect_step tool 0
    expect_step names 0 proj_tool
    expect_step up 0 "the image's own compose: -p x up -d by unix:///run/slipway/sock/docker.sock"
    expect_step old-up 0 "the image's own compose: down"
    expect_step key 1 "stdin:5: services.a.build.privileged"
    expect_step unset 1 "docker-compose.yml:1: required variable TAG is missing a value: no tag"
}

TEST "Compose files mean what Debian's docker-compose reads in them" {
    ln -s "$SLIPWAY_BIN/slipway-shim" "$CASE_DIR/docker-compose"
    python3 "$env_lib/compose_oracle.py" "$CASE_DIR/docker-compose" "$CASE_DIR/files"
}

TEST "whichever tool pushes, the gate judges" {
    run_steps 5007 "$(vulnerable)
try podman sh -c 'podman build -q -t app . >&2 && podman push app $world_registry/app/bad:podman'
try buildah sh -c 'buildah bud -q -t app . >&2 && buildah push --digestfile d app docker://$world_registry/app/bad:buildah'
try no-digest ls d
try img sh -c 'img build -t $world_registry/app/bad:img . && img push $world_registry/app/bad:img'
try buildctl buildctl build --frontend dockerfile.v0 --local context=. --local dockerfile=. \
    --output type=image,name=$world_registry/app/bad:buildctl,push=true
printf 'services:\\n  good: {image: $world_registry/app/good:compose, build: {dockerfile_inline: FROM $tiny}}\\n' >compose.yaml
printf '  bad: {image: $world_registry/app/bad:compose, build: .}\\n' >>compose.yaml
try compose sh -c 'docker compose build && docker compose push'
try compose-at-once docker compose build --push bad" "$with_tools"
    expect_eq "$STATE" success
    expect_step podman 125 CVE-2020-14343
    expect_step buildah 125 CVE-2020-14343
    expect_step no-digest 2
    expect_step img 1 CVE-2020-14343
    expect_step buildctl 1 CVE-2020-14343
    expect_step compose 1 CVE-2020-14343 "service \"bad\": $world_registry/app/bad:compose was not pushed"
    expect_step compose-at-once 1 CVE-2020-14343 "service \"bad\" failed"
    [[ -n $(world_registry_digest app/good:compose) ]] || fail "the image without a finding was not pushed"
    for tag in podman buildah img buildctl compose; do expect_absent "app/bad:$tag"; done

    run_steps 5008 "$(vulnerable)
try kaniko /kaniko/executor -c . -d $world_registry/app/bad:kaniko" \
        ".image = {name: \"$world_registry/base/kaniko:1\", entrypoint: [\"\"]}"
    expect_step kaniko 1 CVE-2020-14343
    expect_absent app/bad:kaniko
}

TEST "an image without these tools has docker alone" {
    run_steps 5009 "for tool in podman buildah img buildctl buildctl-daemonless.sh docker-compose executor; do try \$tool command -v \$tool; done
try kaniko ls /kaniko
try docker command -v docker"

    expect_eq "$STATE" success
    for tool in podman buildah img buildctl buildctl-daemonless.sh docker-compose executor; do expect_step $tool 1; done
    expect_step kaniko 2
    expect_step docker 0 docker
}
