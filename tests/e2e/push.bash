# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The way of an image from `docker build` in a GitLab job to the registry, or not.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
}

SUITE_TEARDOWN() {
    world_stop
}

# python_image VERSION: a Dockerfile for an image that carries the metadata of this PyYAML release.
python_image() {
    cat <<SCRIPT
cat >Dockerfile <<'END'
FROM $world_base
RUN mkdir -p /usr/lib/python3/dist-packages/PyYAML-$1.dist-info && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: $1\n' >/usr/lib/python3/dist-packages/PyYAML-$1.dist-info/METADATA
END
SCRIPT
}

push_tokens_for() {
    jq -c --arg name "$1" 'select(.outcome == "issued") | . as $row | .granted[]?
        | select(.name == $name and (.actions | index("push"))) | $row' "$world_grants"
}

TEST "a clean image is built, scanned and pushed, and the job's log has its digest" {
    run_script 2001 "$(python_image 5.4)
docker build -t $world_registry/app/clean:1 .
docker push $world_registry/app/clean:1"

    expect_eq "$STATE" success
    digest=$(world_registry_digest app/clean:1)
    expect_contains "$TRACE" "$digest"
}

TEST "an image with a critical vulnerability fails the job by its own fault and never reaches the registry" {
    run_script 2002 "$(python_image 5.3)
docker build -t $world_registry/app/vulnerable:1 .
docker push $world_registry/app/vulnerable:1"

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" CVE-2020-14343
    expect_absent app/vulnerable:1
    expect_eq "$(push_tokens_for app/vulnerable)" "" "push tokens for the refused image"
}

TEST "push tokens are for one repository and live 15 minutes at most" {
    run_script 2003 "printf 'FROM $world_base\nRUN echo 2003 >/number\n' >Dockerfile
docker build -t $world_registry/app/token:1 .
docker push $world_registry/app/token:1"

    expect_eq "$STATE" success
    tokens=$(push_tokens_for app/token)
    [[ -n $tokens ]]
    expect_contains "$TRACE" ": Mounted from base/debian"
    expect_eq "$(jq -s 'map(.lifetime) | max <= 900' <<<"$tokens")" true "at most 900 s"
    expect_eq "$(jq -s 'map([.granted[] | select(.actions | index("push"))] | length) | max' <<<"$tokens")" 1 "repositories"
}

TEST "a token server that hands out longer-lived tokens is refused" {
    jq '.slipway.lifetime = 3600' "$world_dir/users.json" >"$world_dir/users.json.new"
    cp "$world_dir/users.json" "$CASE_DIR/users.json"
    mv "$world_dir/users.json.new" "$world_dir/users.json"
    run_script 2004 "printf 'FROM $world_busybox\nRUN echo 2004 >/number\n' >Dockerfile
docker build -t $world_registry/app/long:1 . || exit 77
docker push $world_registry/app/long:1" || true
    cp "$CASE_DIR/users.json" "$world_dir/users.json"

    [[ $STATE != success ]]
    expect_absent app/long:1
}

TEST "a stale vulnerability database denies every push" {
    make_vulnerability_db "$world_dir/trivy-cache" "$(date -u -d '-10 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_script 2005 "printf 'FROM $world_base\nRUN echo 2005 >/number\n' >Dockerfile
docker build -t $world_registry/app/stale:1 .
docker push $world_registry/app/stale:1" || true
    make_vulnerability_db "$world_dir/trivy-cache"

    [[ $STATE != success ]]
    expect_absent app/stale:1
}

TEST "the operator's registry password is nowhere in the job" {
    run_script 2006 'env; (cat /proc/*/environ 2>/dev/null || true) | tr "\0" "\n"; (cat /proc/*/cmdline 2>/dev/null || true) | tr "\0" " "
find / -xdev -type f -size -100k -newer /etc/hostname 2>/dev/null | head -500 | xargs -r grep -l only-slipway-knows-this 2>/dev/null || true
ls -la ~/.docker 2>/dev/null || true'

    expect_eq "$STATE" success
    expect_lacks "$TRACE" only-slipway-knows-this
}

TEST "the job cannot reach the registry by itself" {
    run_script 2007 "if (exec 3<>/dev/tcp/${world_registry%:*}/${world_registry#*:}) 2>/dev/null; then echo REACHED; else echo cut off; fi"

    expect_contains "$TRACE" "cut off"
    expect_lacks "$TRACE" $'\nREACHED'
}

TEST "the job's exit code is the script's" {
    run_script 2008 'exit 42'

    expect_eq "$STATE" "failed script_failure 42"
}

TEST "no container, network or volume of a job is left" {
    expect_eq "$(with_cgroup2_as_user podman ps --all --quiet --filter label=io.slipway.job)" "" "containers"
    expect_eq "$(with_cgroup2_as_user podman network ls --quiet --filter name=slipway-j)" "" "networks"
    expect_eq "$(with_cgroup2_as_user podman volume ls --quiet --filter name=slipway-j)" "" "volumes"
}
