# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Job scripts in the shapes in which teams write them, word for word but for names: templates, loops, retries, what is cut
# out of a build's output. Several run in one job, each in a folder of its own; each pushes to a repository of its name.

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
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_image base/tools:12 debian '{}' tool_names
    publish_image base/kaniko:1 none \
        '{"Entrypoint": ["/kaniko/executor"], "WorkingDir": "/workspace", "Env": ["PATH=/usr/local/bin:/kaniko:/busybox"]}' \
        kaniko_files
    # What these images say of themselves, as of BuildKit 0.12, Buildah 1.35 and Docker 24.
    publish_image base/buildkit:rootless busybox '{"User": "1000:1000", "Entrypoint": ["rootlesskit", "buildkitd"], "Cmd": null,
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user", "USER=user", "XDG_RUNTIME_DIR=/run/user/1000",
            "TMPDIR=/home/user/.local/tmp", "BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock"],
        "Volumes": {"/home/user/.local/share/buildkit": {}}}' rootless_files
    publish_image base/stable:latest debian '{"Cmd": ["/bin/bash"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=oci", "BUILDAH_ISOLATION=chroot", "_BUILDAH_STARTED_IN_USERNS="],
        "Volumes": {"/var/lib/containers": {}, "/home/build/.local/share/containers": {}}}' buildah_files
    publish_image base/docker:24-cli busybox '{"Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["sh"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_VERSION=24.0.5", "DOCKER_TLS_CERTDIR=/certs"]}' docker_files
}

SUITE_TEARDOWN() {
    world_stop
}

# Of the tools of the images only that they are there: what works is the shim in their place.
only_there() {
    local file
    for file in "$@"; do install -D -m 0755 /dev/stdin "$file" <<<$'#!/bin/sh\nexit 99'; done
}

tool_names() {
    only_there usr/bin/{docker-compose,podman,buildah,img,buildctl,buildctl-daemonless.sh}
    local one
    for one in git make ssh-agent ssh-add; do with_program "$(command -v "$one")"; done
}

kaniko_files() {
    kaniko_shell
    only_there kaniko/executor
}

rootless_files() {
    only_there usr/bin/{rootlesskit,buildkitd,buildctl,buildctl-daemonless.sh}
    mkdir -p etc run/user/1000 home/user/.local/tmp home/user/.local/share/buildkit
    printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nuser:x:1000:\n' >etc/group
    echo user:100000:65536 | tee etc/subuid >etc/subgid
    chown -R 1000:1000 run/user/1000 home/user
}

buildah_files() {
    only_there usr/bin/buildah
    mkdir -p etc/containers var/lib/containers home/build/.local/share/containers
    printf 'build:1:999\nbuild:1001:64535\n' | tee etc/subuid >etc/subgid
    printf '[storage]\ndriver = "overlay"\nmount_program = "/usr/bin/fuse-overlayfs"\n' >etc/containers/storage.conf
}

docker_files() {
    only_there usr/local/bin/docker
    install -D -m 0755 /dev/stdin usr/local/bin/docker-entrypoint.sh <<<$'#!/bin/sh\nset -eu\nif [ "${1#-}" != "$1" ]; then set -- docker "$@"; fi\nexec "$@"'
}

# documented ID IMAGE VARIABLES: a job of GitLab's documentation; its script is on standard input, after a Dockerfile comes to be there
# and who it runs as is told. VARIABLES are the job's, in JSON.
documented() {
    run_script "$1" "printf 'FROM $tiny\nRUN echo $1 >/word\n' >Dockerfile; echo \"user \$(id -u) at \$HOME\"
$(cat)" ".image = $2 | .variables += ($3 + {CI_REGISTRY_USER: \"ci\", CI_REGISTRY_PASSWORD: \"hunter2\", CI_COMMIT_SHA: .git_info.sha} | to_entries)"
    expect_eq "$STATE" success
}

shapes_begin() {
    shapes="export TINY=$tiny CI_REGISTRY_USER=ci CI_REGISTRY_PASSWORD=hunter2 CI_COMMIT_SHORT_SHA=0a1b2c3d CI_COMMIT_REF_SLUG=main
export CI_COMMIT_BRANCH=main CI_DEFAULT_BRANCH=main CI_COMMIT_TAG=v1.2.3"$'\n'
}

# shape NAME: a script on standard input; $IMG is its repository, and a small Dockerfile is there.
# shellcheck disable=SC2016
shape() {
    local text
    text='mkdir -p "$0"; cd "$0"; IMG=$CI_REGISTRY_IMAGE/$0
printf "FROM $TINY\nARG V=0\nRUN echo $0 \$V >/word\n" >Dockerfile'$'\n'$(cat)
    shapes+="try $1 sh -euc ${text@Q} $1"$'\n'
}

# pushed NAME:TAG...: they are in the registry.
pushed() {
    local one
    for one in "$@"; do
        [[ -n $(world_registry_digest "grp/app/$one") ]] || fail "grp/app/$one is not in the registry" || return 1
    done
}

TEST "templates and scripts around docker build and docker push" {
    shapes_begin
    # GitLab's Docker.gitlab-ci.yml
    shape template <<'END'
docker login -u "$CI_REGISTRY_USER" -p "$CI_REGISTRY_PASSWORD" $CI_REGISTRY
if [ "$CI_COMMIT_BRANCH" = "$CI_DEFAULT_BRANCH" ]; then tag=""; else tag=":$CI_COMMIT_REF_SLUG"; fi
docker build --pull -t "$IMG${tag}" .
docker push "$IMG${tag}"
END
    shape cache-from <<'END'
docker pull $IMG:latest || true
docker build --cache-from $IMG:latest --tag $IMG:$CI_COMMIT_SHORT_SHA --tag $IMG:latest .
docker push $IMG:$CI_COMMIT_SHORT_SHA
docker push $IMG:latest
END
    shape wait-for-docker <<'END'
timeout 20 sh -c 'until docker info >/dev/null 2>&1; do echo .; sleep 1; done'
docker version --format '{{.Server.Version}}'
docker -H tcp://docker:2375 build -t $IMG:1 . && DOCKER_HOST=tcp://docker:2375 docker push $IMG:1
END
    shape stages <<'END'
printf "FROM $TINY AS base\nRUN echo base >/base\nFROM base AS test\nRUN test -s /base && echo tests passed\nFROM base\nRUN echo prod >/prod\n" >Dockerfile
docker build --target test -t $IMG:test .
docker build -t $IMG:prod .
docker push $IMG:prod
END
    shape versions <<'END'
for v in 1 2; do docker build --build-arg V=$v -t $IMG:$v .; done
docker push --all-tags $IMG
END
    shape digest <<'END'
docker build -t $IMG:$CI_COMMIT_TAG . && docker push $IMG:$CI_COMMIT_TAG
DIGEST=$(docker inspect --format='{{index .RepoDigests 0}}' $IMG:$CI_COMMIT_TAG)
echo "IMAGE_DIGEST=$DIGEST" >build.env; cat build.env
END
    shape retag <<'END'
docker pull $CI_REGISTRY_IMAGE/cache-from:$CI_COMMIT_SHORT_SHA
docker tag $CI_REGISTRY_IMAGE/cache-from:$CI_COMMIT_SHORT_SHA $IMG:$CI_COMMIT_TAG
docker push $IMG:$CI_COMMIT_TAG
END
    shape monorepo <<'END'
mkdir -p services/a shared; echo shared >shared/file
printf "FROM $TINY\nCOPY shared/file /file\nCOPY services/a/code /code\n" >services/a/Dockerfile; echo code >services/a/code
(cd services/a && docker build -f Dockerfile -t $IMG:a ../..)
docker build . --file=services/a/Dockerfile --tag=$IMG:b
docker push -q $IMG:a; docker push -q $IMG:b
END
    shape retry <<'END'
docker build -t $IMG:1 .
n=0; until docker push $IMG:1; do n=$((n+1)); [ $n -lt 3 ] || exit 1; sleep 1; done
END
    run_steps 9001 "$shapes"

    expect_eq "$STATE" success
    expect_step template 0 "Login Succeeded" "latest: digest: sha256:"
    expect_step cache-from 0 "0a1b2c3d: digest: sha256:"
    expect_step wait-for-docker 0
    expect_step stages 0 "tests passed"
    expect_step versions 0 "1: digest:" "2: digest:"
    expect_step digest 0 "IMAGE_DIGEST=$world_registry/grp/app/digest@$(world_registry_digest grp/app/digest:v1.2.3)"
    expect_step retag 0
    expect_eq "$(world_registry_digest grp/app/retag:v1.2.3)" "$(world_registry_digest grp/app/cache-from:latest)" "one image"
    expect_step monorepo 0
    expect_eq "$(world_registry_digest grp/app/monorepo:a)" "$(world_registry_digest grp/app/monorepo:b)" "one Dockerfile"
    expect_step retry 0
    pushed template:latest wait-for-docker:1 stages:prod versions:1 versions:2 retry:1
    expect_absent grp/app/stages:test
}

TEST "scripts that cut a build's output, in busybox sh" {
    shapes_begin
    shape classic <<'END'
id=$(DOCKER_BUILDKIT=0 docker build . | awk '/^Successfully built/ { print $3 }')
[ -n "$id" ]; docker tag $id $IMG:1; docker push $IMG:1 | tail -n 1
END
    shape quiet <<'END'
docker tag $(docker build -q .) $IMG:1
docker push $IMG:1 | grep -o 'sha256:[0-9a-f]*' >digest; cat digest
END
    shape auth-file <<'END'
mkdir -p ~/.docker
echo "{\"auths\":{\"$CI_REGISTRY\":{\"auth\":\"$(printf 'u:p' | base64)\"}}}" >~/.docker/config.json
docker buildx create --use --name builder --driver docker-container
docker buildx build --provenance=false --cache-from type=registry,ref=$IMG:cache --cache-to type=inline \
    $(for t in 1 latest; do echo "-t $IMG:$t"; done) --push --metadata-file meta.json .
END
    shape stdin <<'END'
echo hunter2 | docker login --username ci --password-stdin $CI_REGISTRY
docker build -t $IMG:1 - <<EOT
FROM $TINY
RUN echo stdin >/word
EOT
docker image ls --format '{{.Repository}}:{{.Tag}}' | grep stdin | while read -r image; do docker push $image; done
END
    shape clean-up <<'END'
docker build -t $IMG:1 . && docker push $IMG:1
docker rmi -f $(docker images -q --filter reference="$IMG") || true
docker image prune -af; docker builder prune -af; docker system prune -af --volumes; docker logout $CI_REGISTRY
[ -z "$(docker images -q $IMG)" ]
END
    shape fails <<'END'
printf "FROM $TINY\nRUN exit 4\n" >Dockerfile
docker build -t $IMG:1 . && docker push $IMG:1
END
    run_steps 9002 "$shapes" ".image.name = \"$world_busybox\""

    expect_eq "$STATE" success
    expect_step classic 0 "1: digest: sha256:"
    expect_step quiet 0 "$(world_registry_digest grp/app/quiet:1)"
    expect_step auth-file 0
    expect_step stdin 0 "1: digest: sha256:"
    expect_step clean-up 0
    expect_step fails 1
    pushed classic:1 quiet:1 auth-file:1 auth-file:latest stdin:1 clean-up:1
    expect_absent grp/app/fails:1
}

TEST "scripts around Compose and bake" {
    shapes_begin
    shape compose-env <<'END'
cp Dockerfile Dockerfile.web
cat >docker-compose.build.yml <<EOT
version: "3.8"
services:
  web:
    image: \${CI_REGISTRY_IMAGE}/compose-env:\${VERSION:-dev}
    build:
      context: .
      dockerfile: Dockerfile.web
      args:
        - V=\${VERSION:-dev}
    depends_on: [db]
    environment: {DATABASE_URL: "postgres://db/app"}
  db: {image: "postgres:16"}
EOT
VERSION=$CI_COMMIT_SHORT_SHA docker-compose -f docker-compose.build.yml build --pull web
VERSION=$CI_COMMIT_SHORT_SHA docker-compose -f docker-compose.build.yml push web
END
    shape compose-loop <<'END'
cat >compose.yaml <<EOT
x-build: &build {context: ., labels: {team: x}}
services:
  one: {image: "$IMG:one", build: *build}
  two: {image: "$IMG:two", build: {<<: *build, args: {V: "2"}}}
EOT
docker compose build
for service in $(docker compose config --services); do
    image=$(docker compose config | awk "/^  $service:\$/ { on = 1 } on && /image:/ { print \$2; exit }")
    docker push "$image"
done
END
    shape compose-images <<'END'
printf 'services:\n  a: {build: ., image: "%s:1"}\n' $IMG >docker-compose.yml
docker compose build -q && docker compose config --images | xargs -n1 docker push
END
    shape bake-ci <<'END'
cat >docker-bake.hcl <<'EOT'
variable "IMG" {}
variable "CI_COMMIT_SHORT_SHA" { default = "" }
group "default" { targets = ["app"] }
target "_common" {
  args = { V = CI_COMMIT_SHORT_SHA }
}
target "app" {
  inherits = ["_common"]
  tags = compact([
    "${IMG}:latest",
    notequal("", CI_COMMIT_SHORT_SHA) ? "${IMG}:${CI_COMMIT_SHORT_SHA}" : "",
  ])
}
EOT
export IMG
docker buildx bake --push --set '*.labels.team=x' --metadata-file meta.json
END
    run_steps 9003 "$shapes" ".image.name = \"$world_registry/base/tools:12\""

    expect_eq "$STATE" success
    for name in compose-env compose-loop compose-images bake-ci; do expect_step $name 0; done
    pushed compose-env:0a1b2c3d compose-loop:one compose-loop:two compose-images:1 bake-ci:latest bake-ci:0a1b2c3d
}

TEST "scripts for podman, buildah, img and buildctl, as the documentation of GitLab and Tekton has them" {
    shapes_begin
    shape podman <<'END'
echo "$CI_REGISTRY_PASSWORD" | podman login -u "$CI_REGISTRY_USER" --password-stdin $CI_REGISTRY
podman build --pull --format docker --label "org.opencontainers.image.revision=$CI_COMMIT_SHORT_SHA" -t "$IMG:$CI_COMMIT_SHORT_SHA" .
podman tag $IMG:$CI_COMMIT_SHORT_SHA $IMG:latest
podman push $IMG:$CI_COMMIT_SHORT_SHA && podman push $IMG:latest
podman logout $CI_REGISTRY
END
    shape buildah <<'END'
export STORAGE_DRIVER=vfs BUILDAH_FORMAT=docker BUILDAH_ISOLATION=chroot FQ_IMAGE_NAME="$IMG:test"
echo "$CI_REGISTRY_PASSWORD" | buildah login -u "$CI_REGISTRY_USER" --password-stdin $CI_REGISTRY
buildah images
buildah build -t $FQ_IMAGE_NAME
buildah images
buildah push $FQ_IMAGE_NAME
END
    shape buildah-tekton <<'END'
buildah --storage-driver=vfs bud --format=oci --tls-verify=true --no-cache -f ./Dockerfile -t $IMG:1 .
buildah --storage-driver=vfs push --tls-verify=true --digestfile image-digest $IMG:1 docker://$IMG:1
cat image-digest
END
    shape img <<'END'
img login -u "$CI_REGISTRY_USER" -p "$CI_REGISTRY_PASSWORD" $CI_REGISTRY
img build -t $IMG:1 --build-arg V=1 . && img push $IMG:1
END
    shape buildctl-rootless <<'END'
export BUILDKITD_FLAGS=--oci-worker-no-process-sandbox
mkdir -p ~/.docker
echo "{\"auths\":{\"$CI_REGISTRY\":{\"username\":\"$CI_REGISTRY_USER\",\"password\":\"$CI_REGISTRY_PASSWORD\"}}}" >~/.docker/config.json
buildctl-daemonless.sh build --frontend dockerfile.v0 --local context=. --local dockerfile=. \
    --export-cache type=registry,ref=$IMG:cache,mode=max --import-cache type=registry,ref=$IMG:cache \
    --output type=image,name=$IMG:$CI_COMMIT_SHORT_SHA,push=true
END
    run_steps 9004 "$shapes" ".image.name = \"$world_registry/base/tools:12\""

    expect_eq "$STATE" success
    for name in podman buildah buildah-tekton img buildctl-rootless; do expect_step $name 0; done
    expect_step buildah-tekton 0 "$(world_registry_digest grp/app/buildah-tekton:1)"
    pushed podman:0a1b2c3d podman:latest buildah:test buildah-tekton:1 img:1 buildctl-rootless:0a1b2c3d
    expect_absent grp/app/buildctl-rootless:cache
}

TEST "scripts for kaniko's debug image with its entrypoint switched off" {
    shapes_begin
    shape kaniko <<'END'
mkdir -p /kaniko/.docker
echo "{\"auths\":{\"${CI_REGISTRY}\":{\"auth\":\"$(printf "%s:%s" "${CI_REGISTRY_USER}" "${CI_REGISTRY_PASSWORD}" | base64 | tr -d '\n')\"}}}" >/kaniko/.docker/config.json
/kaniko/executor --context "$PWD" --dockerfile "$PWD/Dockerfile" --destination "$IMG:${CI_COMMIT_TAG}"
END
    shape kaniko-tags <<'END'
DESTINATIONS=
for tag in latest $CI_COMMIT_SHORT_SHA; do DESTINATIONS="$DESTINATIONS --destination $IMG:$tag"; done
/kaniko/executor --cache=true --cache-repo $IMG/cache --cache-ttl 24h --snapshotMode=redo --use-new-run --cleanup \
    --build-arg V=$CI_COMMIT_TAG --label org.opencontainers.image.version=$CI_COMMIT_TAG --digest-file digest.txt \
    --context . $DESTINATIONS
cat digest.txt
END
    shape kaniko-tar <<'END'
tar -cf - Dockerfile | gzip | /kaniko/executor --context tar://stdin --no-push --destination $IMG:1
tar -czf context.tar.gz Dockerfile && rm Dockerfile
/kaniko/executor --context tar://context.tar.gz --destination $IMG:1
! echo "FROM scratch" | /kaniko/executor --context tar://stdin --no-push --destination $IMG:2
END
    shape kaniko-check <<'END'
/kaniko/executor --context . --no-push --tarPath image.tar && tar -xOf image.tar manifest.json
END
    run_steps 9005 "$shapes" ".image = {name: \"$world_registry/base/kaniko:1\", entrypoint: [\"\"]}"

    expect_eq "$STATE" success
    expect_step kaniko 0
    expect_step kaniko-tags 0 "$(world_registry_digest grp/app/kaniko-tags:0a1b2c3d)"
    expect_step kaniko-tar 0 "the context on stdin is not a tar archive"
    expect_step kaniko-check 0 '"Config"'
    pushed kaniko:v1.2.3 kaniko-tar:1 kaniko-tags:latest kaniko-tags:0a1b2c3d
}

TEST "GitLab's job for rootless BuildKit, in an image with the settings of moby/buildkit:rootless" {
    documented 9010 "{name: \"$world_registry/base/buildkit:rootless\", entrypoint: [\"\"]}" '{BUILDKITD_FLAGS: "--oci-worker-no-process-sandbox"}' <<'END'
mkdir -p ~/.docker
echo "{\"auths\":{\"$CI_REGISTRY\":{\"username\":\"$CI_REGISTRY_USER\",\"password\":\"$CI_REGISTRY_PASSWORD\"}}}" > ~/.docker/config.json
buildctl-daemonless.sh build \
  --frontend dockerfile.v0 \
  --local context=. \
  --local dockerfile=. \
  --output type=image,name=$CI_REGISTRY_IMAGE/rootless:$CI_COMMIT_SHA,push=true
END
    expect_contains "$TRACE" "user 1000 at /home/user"
    pushed rootless:265c14cf140a66cfc61e40e4ab45c95ba8df5ed1
}

TEST "GitLab's job for Buildah, in an image with the settings of buildah/stable" {
    documented 9011 "{name: \"$world_registry/base/stable\"}" '{STORAGE_DRIVER: "vfs", BUILDAH_FORMAT: "docker", FQ_IMAGE_NAME: "$CI_REGISTRY_IMAGE/stable"}' <<'END'
echo "$CI_REGISTRY_PASSWORD" | buildah login -u "$CI_REGISTRY_USER" --password-stdin $CI_REGISTRY
buildah images
buildah build -t $FQ_IMAGE_NAME
buildah images
buildah push $FQ_IMAGE_NAME
END
    expect_contains "$TRACE" "user 0 at /root"
    pushed stable:latest
}

TEST "GitLab's job for docker:dind with TLS and without, its variables those of the job, in an image with the entrypoint of docker:cli" {
    local id=9012 variables
    for variables in \
        '{DOCKER_HOST: "tcp://docker:2376", DOCKER_TLS_CERTDIR: "/certs", DOCKER_TLS_VERIFY: "1", DOCKER_CERT_PATH: "$DOCKER_TLS_CERTDIR/client"}' \
        '{DOCKER_HOST: "tcp://docker:2375", DOCKER_TLS_CERTDIR: ""}'; do
        documented $id "{name: \"$world_registry/base/docker:24-cli\"} | .services = [{name: \"docker:24.0.5-dind\", alias: \"docker\"}]" "$variables" <<'END'
docker info
echo "$CI_REGISTRY_PASSWORD" | docker login $CI_REGISTRY -u $CI_REGISTRY_USER --password-stdin
docker build -t $CI_REGISTRY_IMAGE/dind:$CI_JOB_ID .
docker push $CI_REGISTRY_IMAGE/dind:$CI_JOB_ID
END
        expect_contains "$TRACE" "Server Version"
        pushed dind:$id
        id=$((id + 1))
    done
}

TEST "scripts with docker:dind by TLS, buildx, secrets and keys, names by git and make, and cleaning up after the job" {
    shapes_begin
    ssh-keygen -q -t ed25519 -N '' -f "$CASE_DIR/key"
    shapes+="export DEPLOY_KEY=$(printf %q "$(<"$CASE_DIR/key")")"$'\n'
    shape dind-tls <<'END'
export DOCKER_HOST=tcp://docker:2376 DOCKER_TLS_CERTDIR=/certs DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/certs/client
until docker info >/dev/null 2>&1; do sleep 1; done
docker info --format '{{.ServerVersion}}'
docker build -t $IMG:1 . && docker push $IMG:1
END
    shape buildx-context <<'END'
docker context create tls-environment
docker buildx create --use --driver docker-container --driver-opt image=moby/buildkit:latest tls-environment
docker buildx inspect --bootstrap
docker buildx build --platform linux/amd64 --progress=plain --cache-from type=registry,ref=$IMG:cache \
    --cache-to type=registry,ref=$IMG:cache,mode=max --provenance=false --sbom=false -t $IMG:1 --push .
docker buildx build --cache-from type=local,src=.buildx-cache --cache-to type=local,dest=.buildx-cache-new,mode=max --load -t $IMG:2 .
rm -rf .buildx-cache && mv .buildx-cache-new .buildx-cache
END
    shape auto-devops <<'END'
export BUILDPACK_URL= HTTP_PROXY= http_proxy= NO_PROXY=
docker image pull --quiet "$IMG:latest" || echo "no image to take layers from"
docker build --cache-from "$IMG:latest" -f Dockerfile --build-arg BUILDPACK_URL="$BUILDPACK_URL" --build-arg HTTP_PROXY="$HTTP_PROXY" \
    --build-arg http_proxy="$http_proxy" --build-arg NO_PROXY="$NO_PROXY" --tag "$IMG:$CI_COMMIT_TAG" --tag "$IMG:latest" .
docker push "$IMG:$CI_COMMIT_TAG"
docker push "$IMG:latest"
END
    shape npm-secret <<'END'
echo "//npm.example/:_authToken=npm-0123456789" >.npmrc
printf "FROM $TINY\nRUN --mount=type=secret,id=npmrc,target=/root/.npmrc head -n 1 /root/.npmrc >/dev/null && echo installed\n" >Dockerfile
DOCKER_BUILDKIT=1 docker build --secret id=npmrc,src=.npmrc -t $IMG:1 .
rm .npmrc; docker push $IMG:1
END
    shape ssh-key <<'END'
printf "%s\n" "$DEPLOY_KEY" >deploy-key; chmod 600 deploy-key
printf "FROM $TINY\nRUN --mount=type=ssh test -S \$SSH_AUTH_SOCK && echo agent there\n" >Dockerfile
docker build --ssh default=deploy-key -t $IMG:1 . && docker push $IMG:1
END
    shape ssh-agent <<'END'
eval $(ssh-agent -s)
echo "$DEPLOY_KEY" | tr -d '\r' | ssh-add -
printf "FROM $TINY\nRUN --mount=type=ssh,required=true test -S \$SSH_AUTH_SOCK && echo agent there\n" >Dockerfile
docker build --ssh default -t $IMG:1 . && docker push $IMG:1
ssh-agent -k
END
    shape oci-labels <<'END'
docker build --build-arg V="$CI_COMMIT_TAG" --label org.opencontainers.image.created="$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    --label "org.opencontainers.image.title=an app" --label org.opencontainers.image.version=$CI_COMMIT_TAG --iidfile image-id -t $IMG:1 .
docker inspect --format '{{ index .Config.Labels "org.opencontainers.image.title" }}' $(cat image-id)
docker push $IMG:1
END
    shape heredoc <<'END'
printf 'node_modules\n*.log\n!keep.log\n' >.dockerignore
mkdir node_modules; touch node_modules/left-out a.log keep.log
cat >Dockerfile <<EOT
# syntax=docker/dockerfile:1
FROM $TINY
COPY . /app/
RUN <<EOR
test -e /app/keep.log && test ! -e /app/a.log && test ! -e /app/node_modules
echo as ignored
EOR
COPY <<EOC /etc/app.conf
listen = 80
EOC
EOT
docker build -t $IMG:1 . && docker push $IMG:1
END
    shape git-describe <<'END'
git init -q . && git add . && git -c user.name=ci -c user.email=ci@example.invalid commit -qm first && git tag v2.0.0
VERSION=$(git describe --tags --always --dirty); SHA=$(git rev-parse --short HEAD)
docker build -t $IMG:$VERSION -t $IMG:$SHA . && docker push $IMG:$VERSION
git archive --format=tar HEAD | docker build -t $IMG:archive -
docker push $IMG:archive
END
    shape semver <<'END'
VERSION=${CI_COMMIT_TAG#v}; MINOR=${VERSION%.*}; MAJOR=${MINOR%.*}
docker build -t $IMG:build .
for tag in $VERSION $MINOR $MAJOR; do docker tag $IMG:build $IMG:$tag && docker push $IMG:$tag; done
docker image inspect $IMG:$VERSION --format '{{.Size}}'; docker history --no-trunc $IMG:$VERSION
END
    shape makefile <<'END'
cat >Makefile <<'EOT'
IMAGE ?= app
TAG := $(shell date +%Y%m%d)
.PHONY: build push
build:
	@docker build --quiet --tag $(IMAGE):$(TAG) --tag $(IMAGE):latest .
push: build
	@docker push $(IMAGE):latest
EOT
make push IMAGE=$IMG
END
    shape multi-arch <<'END'
docker run --privileged --rm tonistiigi/binfmt --install all
docker buildx create --use --name multi
docker buildx build --platform linux/amd64,linux/arm64 -t $IMG:1 --push .
END
    shape index <<'END'
docker build -t $IMG:1-amd64 . && docker push $IMG:1-amd64
docker manifest create $IMG:1 $IMG:1-amd64 && docker manifest push $IMG:1
END
    shape once <<'END'
for run in first second; do
    if docker buildx imagetools inspect $IMG:1 >/dev/null 2>&1; then echo "$run: is there"; continue; fi
    docker build -t $IMG:1 . && docker push $IMG:1 && echo "$run: built"
done
docker manifest inspect $IMG:1
END
    shape housekeeping <<'END'
docker build -t $IMG:1 .
docker image prune -f --filter "until=24h"; docker builder prune -f --keep-storage 5GB
docker images -q -f dangling=true | xargs -r docker rmi
docker images --filter "reference=$IMG" --format '{{.Repository}}:{{.Tag}}' | xargs -r docker rmi
docker ps -aq | xargs -r docker rm -f
docker volume prune -f; docker container prune -f; docker network prune -f
END
    run_steps 9006 "$shapes" ".image.name = \"$world_registry/base/tools:12\" | .services = [{name: \"docker:27-dind\", alias: \"docker\"}] |
        .steps += [{name: \"after_script\", script: [\"docker logout \$CI_REGISTRY && echo logged-out\"], timeout: 60, when: \"always\", allow_failure: true}]"

    expect_eq "$STATE" success
    for name in dind-tls buildx-context auto-devops git-describe semver makefile housekeeping; do expect_step $name 0; done
    expect_step npm-secret 0 installed
    for name in ssh-key ssh-agent; do expect_step $name 0 "agent there"; done
    expect_step oci-labels 0 "an app"
    expect_step heredoc 0 "as ignored"
    expect_step multi-arch 0
    expect_step index 0 "Created manifest list"
    expect_step once 0 "first: built" "second: is there" '"schemaVersion": 2'
    expect_contains "$TRACE" logged-out
    pushed dind-tls:1 buildx-context:1 auto-devops:v1.2.3 npm-secret:1 ssh-key:1 ssh-agent:1 oci-labels:1 heredoc:1 git-describe:v2.0.0 \
        git-describe:archive semver:1.2.3 semver:1.2 semver:1 makefile:latest multi-arch:1 index:1-amd64 index:1
}

TEST "an image saved as an artifact is loaded and pushed by the next job" {
    world_job 9007 "printf 'FROM $tiny\nRUN echo saved >/word\n' >Dockerfile
docker build -q -t \$CI_REGISTRY_IMAGE/artifact:1 . && mkdir image && docker save \$CI_REGISTRY_IMAGE/artifact:1 | gzip >image/app.tar.gz" |
        jq '.artifacts = [{name: "result", paths: ["image/"], when: "on_success", artifact_type: "archive", artifact_format: "zip"}]' >"$CASE_DIR/9007.json"
    world_run "$CASE_DIR/jobs" "$CASE_DIR/9007.json"
    expect_eq "$(world_state "$CASE_DIR/jobs" 9007)" success
    mv "$CASE_DIR/jobs/9007-1-result.zip" "$CASE_DIR/jobs/dep-9007.zip"

    # shellcheck disable=SC2016
    run_steps 9008 'try load docker load -i image/app.tar.gz
try push docker push $CI_REGISTRY_IMAGE/artifact:1' \
        '.dependencies = [{id: 9007, token: "glcbt-job-token-9007", name: "build", artifacts_file: {filename: "result.zip", size: 100}}]'
    expect_eq "$STATE" success
    expect_step load 0 "Loaded image: $world_registry/grp/app/artifact:1"
    expect_step push 0 "digest: sha256:"
    pushed artifact:1
}

TEST "scripts that run what they built, where the policy allows containers" {
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\ndind = true\ndind_justification = "OPS-7: tests of images"\n' \
        >"$world_dir/etc/policy.d/10-engine.toml"
    shapes_begin
    shape test-then-push <<'END'
docker build --pull -t $IMG:test .
docker run --rm $IMG:test sh -c 'read -r word </word; echo the word is $word'
docker tag $IMG:test $IMG:latest && docker push $IMG:latest
END
    shape take-out <<'END'
docker build -t $IMG:build .
id=$(docker create $IMG:build); docker cp $id:/word ./word; docker rm -v $id >/dev/null
cat word
END
    run_steps 9009 "$shapes"
    rm "$world_dir/etc/policy.d/10-engine.toml"

    expect_eq "$STATE" success
    expect_step test-then-push 0 "the word is test-then-push"
    expect_step take-out 0 "take-out 0"
    pushed test-then-push:latest
    expect_absent grp/app/test-then-push:test
}
