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
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_image base/composed:12 debian '{}' compose_file
}

SUITE_TEARDOWN() {
    world_stop
}

compose_file() {
    install -D -m 0755 /dev/stdin usr/bin/docker-compose <<<$'#!/bin/sh\nexit 99'
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
    run_steps 9003 "$shapes" ".image.name = \"$world_registry/base/composed:12\""

    expect_eq "$STATE" success
    for name in compose-env compose-loop compose-images bake-ci; do expect_step $name 0; done
    pushed compose-env:0a1b2c3d compose-loop:one compose-loop:two compose-images:1 bake-ci:latest bake-ci:0a1b2c3d
}
