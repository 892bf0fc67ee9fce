# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What test suites of others use in a job: Testcontainers, docker-py with its own tests, Docker's SDK for Go.

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
    [[ -x /usr/bin/python3.11 ]] || echo "needs Python 3.11"
}

client_files() {
    python_files
    mkdir opt
    cp -r "$clients_python" opt/clients
    install -D -m 0755 "$clients_go/bin/go-client" opt/go-client
    install -m 0644 "$SUITE_ROOT/tests/programs/testcontainers_walk.py" opt/testcontainers_walk.py
}

SUITE_SETUP() {
    clients_python=$("$SUITE_ROOT/packaging/tools/build" python-clients)
    clients_go=$("$SUITE_ROOT/packaging/tools/build" go-client)
    world_start "$SUITE_DIR/world"
    publish_image base/clients:12 debian '{"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH=/opt/clients/lib", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"]}' client_files
    world_clients=$world_registry/base/clients:12
    make_tiny_base
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\ndind = true\ndind_justification = "OPS-7: integration tests"\n' \
        >"$world_dir/etc/policy.d/10-engine.toml"
}

SUITE_TEARDOWN() {
    world_stop
}

in_clients() {
    run_steps "$1" "$2" ".image.name = \"$world_clients\""
}

TEST "Testcontainers starts a container, waits for its log and port, talks to it, runs a command in it and stops it" {
    in_clients 8101 "try pull python3 -c 'import docker; docker.from_env().images.pull(\"$world_busybox\")'
export TESTCONTAINERS_RYUK_DISABLED=true
try walk python3 /opt/testcontainers_walk.py $world_busybox
try tcp env DOCKER_HOST=tcp://docker:2375 python3 /opt/testcontainers_walk.py $world_busybox
try left python3 -c 'import docker; print(\"left\", docker.from_env().containers.list(all=True))'"

    expect_eq "$STATE" success
    expect_step pull 0
    for step in walk tcp; do
        expect_step "$step" 0 "log: ready" "http: served by the container" "exec: 3 inside" "network: served by the container" \
            "built: made-by-a-build" "gone"
    done
    expect_step left 0 "left []"
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}

TEST "Testcontainers without TESTCONTAINERS_RYUK_DISABLED ends with what is missing, not with a wait" {
    in_clients 8102 "export RYUK_CONTAINER_IMAGE=$world_registry/base/testcontainers/ryuk:0.8.1
try walk timeout 60 python3 /opt/testcontainers_walk.py $world_busybox"

    expect_step walk 1 "testcontainers/ryuk:0.8.1" "404"
    expect_lacks "$(step_says walk)" "log: ready"
}

TEST "docker-py's own tests pass, but for those that docs/clients.md lists with a reason" {
    local check=("$SUITE_ROOT/tests/lib/docker_py_outcomes.py" "$SUITE_ROOT/docs/clients.md")
    local not_run
    not_run=$("${check[@]}" --not-run)
    # What prunes, or lists all that there is, minds what other tests do meanwhile: it runs alone.
    local alone='prune or list or test_remove or test_images or connect_disconnect or test_df'
    in_clients 8103 "cp -r /opt/clients/suite /tmp/suite && cd /tmp/suite
mkdir -p \"\$CI_PROJECT_DIR/tmp\" && export TMPDIR=\"\$CI_PROJECT_DIR/tmp\"
try image python3 -c 'import docker, io
images = docker.from_env().images
text = \"FROM $world_busybox\\nRUN mkdir -p /var/opt && echo postgres:x:70:70::/:/bin/sh >>/etc/passwd\\n\"
image, _ = images.build(fileobj=io.BytesIO(text.encode()))
for name in (\"alpine:3.10\", \"alpine:latest\", \"busybox:latest\"):
    image.tag(name)'
tests() { python3 -m pytest -p no:cacheprovider -v ${CLIENTS_PYTEST:---tb=no} --timeout 60 $not_run \"\$@\" tests/integration; }
try suite tests -n 4 --dist loadscope -k 'not ($alone)'
try alone tests -n 1 -k '$alone'"

    expect_step image 0
    { step_says suite && step_says alone; } >outcomes
    "${check[@]}" <outcomes
}

TEST "Docker's SDK for Go builds, pushes, pulls, runs, attaches, waits, reads events and logs, inspects" {
    in_clients 8104 "try walk /opt/go-client $tiny \$CI_REGISTRY_IMAGE/go:1"

    expect_step walk 0 "all of it"
    local digest
    digest=$(world_registry_digest grp/app/go:1)
    expect_step walk 0 "push $digest"
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}
