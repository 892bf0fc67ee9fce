# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What test suites of others use in a job: Testcontainers, docker-py with its own tests, Docker's SDK for Go, Compose.

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
    install -D -m 0755 "$clients_compose/bin/docker-compose" usr/libexec/docker/cli-plugins/docker-compose
    # The shim takes the place of this one, and does not find the others.
    install -D -m 0755 "$clients_docker/bin/docker-buildx" usr/libexec/docker/cli-plugins/docker-buildx
    install -D -m 0755 "$clients_docker/bin/docker" opt/real/docker
    install -D -m 0755 "$clients_docker/bin/docker-buildx" opt/real/plugins/docker-buildx
    echo '{"cliPluginsExtraDirs": ["/opt/real/plugins"]}' >opt/real/config.json
}

SUITE_SETUP() {
    clients_python=$("$SUITE_ROOT/packaging/tools/build" python-clients)
    clients_go=$("$SUITE_ROOT/packaging/tools/build" go-client)
    clients_compose=$("$SUITE_ROOT/packaging/tools/build" compose)
    clients_docker=$("$SUITE_ROOT/packaging/tools/build" docker-cli)
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
    # What prunes, lists all that there is, or wants one certain network minds what other tests do meanwhile: it runs alone.
    local alone='prune or list or ipam or test_remove or test_images or connect_disconnect or test_df'
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

TEST "Compose builds, pushes through the gate, brings services up, looks at them, runs a command in one and takes them down" {
    in_clients 8105 "export DOCKER_CONFIG=/opt/real
compose() { /usr/libexec/docker/cli-plugins/docker-compose --progress plain \"\$@\"; }
mkdir app bad
printf 'FROM $tiny\nRUN echo 8105 >/word\n' >app/Dockerfile
printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >bad/METADATA
printf 'FROM $tiny\nCOPY METADATA /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA\n' >bad/Dockerfile
cat >compose.yaml <<END
name: shop
services:
  web:
    image: \$CI_REGISTRY_IMAGE/compose:1
    build: app
    command: [/bin/sh, -c, 'echo up as \\\$\\\$NAME; exec /bin/busybox sleep 600']
    environment: {NAME: web}
    depends_on: [db]
    ports: ['18105:80']
    volumes: ['data:/data', './app:/app:ro']
  db:
    image: $world_busybox
    command: [sleep, '600']
  bad:
    image: \$CI_REGISTRY_IMAGE/compose:bad
    build: bad
    profiles: [bad]
volumes: {data: {}}
END
try version compose version
try build compose build
try push compose push web
try up compose up -d --wait
try ps compose ps --format '{{.Service}} {{.State}}'
try exec compose exec -T web /bin/sh -c '/bin/busybox cat /word /app/Dockerfile && /bin/busybox ping -c 1 db'
try logs compose logs web
try shim docker compose ps --format '{{.Service}} {{.State}}'
try run compose run --rm -T --no-deps web /bin/busybox echo ran
try down compose down --volumes
try left sh -c 'docker ps -aq; docker volume ls -q; docker network ls -q --filter label=com.docker.compose.project'
compose --profile bad build bad >/dev/null 2>&1
try denied compose --profile bad push bad"

    expect_eq "$STATE" success
    expect_step version 0 v5.
    expect_step build 0
    expect_step push 0
    world_registry_digest grp/app/compose:1 | grep -q '^sha256:'
    expect_step up 0
    expect_step ps 0 "web running" "db running"
    expect_step exec 0 8105 "FROM $tiny" "1 packets received"
    expect_step logs 0 "up as web"
    expect_step shim 0 "web running"
    expect_step run 0 ran
    expect_step down 0
    expect_eq "$(step_says left | xargs)" "" "what is left of the project"
    expect_step denied 1 CVE-2020-14343
    expect_absent grp/app/compose:bad
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}

TEST "containers of docker's own CLI get several networks and an address" {
    in_clients 8106 "export DOCKER_CONFIG=/opt/real
real() { /opt/real/docker \"\$@\"; }
try pull real pull -q $world_busybox
try front real network create --ipv4=true front
try back real network create back
try two real run -d --name two --network name=front,alias=www --network name=back,alias=db --mac-address 02:42:ac:11:00:99 $world_busybox sleep 600
try joined real inspect -f '{{range \$k, \$v := .NetworkSettings.Networks}}{{\$k}} {{\$v.Aliases}} {{\$v.MacAddress}}; {{end}}' two
try reached real run --rm --network back $world_busybox ping -c 1 db
try one real run --rm --mac-address 02:42:ac:11:00:98 $world_busybox ip link show eth0
try nowhere real run -d --name nowhere --network front --network nosuch $world_busybox sleep 600"

    expect_eq "$STATE" success
    expect_step two 0
    expect_step joined 0 "front [www" "back [db" "02:42:ac:11:00:99"
    expect_step reached 0 "1 packets received"
    expect_step one 0 "02:42:ac:11:00:98"
    expect_step nowhere 125 "nosuch"
    expect_eq "$(world_leftovers)" "" "what is left of jobs"
}

TEST "docker compose up builds as BuildKit does: a Dockerfile in the Compose file, folders beside the context, secrets" {
    in_clients 8107 "mkdir lib; echo of-the-lib >lib/file; head -c 20 /dev/urandom | md5sum | head -c 13 >word
printf 'FROM $tiny\nRUN exit 9\n' >Dockerfile
cat >compose.yaml <<END
services:
  web:
    build:
      context: .
      dockerfile_inline: |
        FROM $world_busybox
        COPY --from=lib file /file
        RUN --mount=type=secret,id=word wc -c </run/secrets/word >/size
      additional_contexts: {lib: ./lib}
      secrets: [word]
    command: [sleep, '600']
secrets: {word: {file: ./word}}
END
try up docker compose up -d --build --wait
try built docker compose exec -T web cat /file /size
try down docker compose down -t 1"

    expect_eq "$STATE" success
    expect_step up 0
    expect_step built 0 of-the-lib 13
    expect_step down 0
}
