# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a job's rule lets it connect to: from its script, its services, its helper and the steps of its builds. What is
# refused has its control, where the same connection works.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    command -v curl nft >/dev/null || echo "needs curl and nft"
    [[ -x /usr/sbin/dockerd ]] || echo "needs docker.io"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    kaniko=$("$env_root/packaging/tools/build" kaniko) || return 1
    printf '\n[kaniko]\nexecutor = "%s/bin/executor"\n' "$kaniko" >>"$world_config"
    publish_tools
    publish_image base/late:1 busybox '{"ExposedPorts": {"8080/tcp": {}}, "Cmd": ["/bin/sh", "-c",
        "mkdir /www; echo here at last >/www/page; sleep 3; exec httpd -f -p 8080 -h /www"]}'
    # A name that only the host knows: nobody in a closed network can look it up.
    web=web-$env_netns.test
    env_hosts "$env_gitlab_address" "$web"
    mkdir "$SUITE_DIR/www"
    echo "hello from the web" >"$SUITE_DIR/www/hello"
    for port in 5490 5491; do
        env_serve_address=$env_gitlab_address env_serve "web-$port" "$port" python3 -m http.server --bind "$env_gitlab_address" \
            --directory "$SUITE_DIR/www" "$port"
    done
    # TCP too, so that env_serve sees it; a name server's port.
    env_serve_address=$env_gitlab_address env_serve answers 53 python3 -c '
import socket, sys, threading
tcp = socket.create_server((sys.argv[1], 53))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], 53))
threading.Thread(target=lambda: [tcp.accept() for _ in iter(int, 1)], daemon=True).start()
while True:
    _, peer = udp.recvfrom(512)
    udp.sendto(b"an answer\n", peer)
' "$env_gitlab_address"
    without="env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY"
    get="curl --silent --show-error --fail --connect-timeout 5 --max-time 30"
}

SUITE_TEARDOWN() {
    world_stop
}

# with_rule LINES COMMAND...: while a rule of every project says LINES.
with_rule() {
    local rule=$world_dir/etc/policy.d/10-egress.toml rc=0
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\n%s\n' "$1" >"$rule"
    shift
    "$@" || rc=$?
    rm "$rule"
    return "$rc"
}

# all_ways ID: a job that connects from everywhere, by the proxy and past it. The service asks again: a connection ends
# with the stage that it began in.
all_ways() {
    run_steps "$1" "try listed $get http://$web:5490/hello
try tunnel $get --proxytunnel http://$web:5490/hello
try unlisted $get http://$web:5491/hello
try again $get http://$web:5491/hello
try unset $without $get http://$env_gitlab_address:5490/hello
try by-name $without $get http://$web:5490/hello
try tcp timeout 5 bash -c 'exec 3<>/dev/tcp/$env_gitlab_address/5490 && echo connected'
try udp timeout 5 bash -c 'exec 3<>/dev/udp/$env_gitlab_address/53; echo q >&3; head -n 1 <&3'
try service $get --retry 20 --retry-delay 1 --retry-connrefused http://asker:8080/said
try flush nft flush ruleset
try route /opt/busybox ip route add default dev eth0
try after-tricks $without $get http://$env_gitlab_address:5490/hello
printf '%s\n' 'FROM $world_tools' 'RUN $get http://$web:5490/hello; true' \
    'RUN $without $get http://$env_gitlab_address:5490/hello; true' \
    'RUN timeout 5 bash -c \"exec 3<>/dev/udp/$env_gitlab_address/53; echo q >&3; head -n 1 <&3\"; true' >Dockerfile
try build docker build --no-cache -t built:1 .
ln -s \"\$(command -v docker)\" /usr/local/bin/buildah # the image has none
c=\$(buildah from $world_tools)
try session buildah run \$c -- sh -c '$get http://$web:5490/hello'
try session-past buildah run \$c -- sh -c '$without $get http://$env_gitlab_address:5490/hello'
try history docker history --no-trunc built:1
try inspect docker inspect built:1" ".image.name = \"$world_tools\"
        | .services = [{name: \"$world_tools\", alias: \"asker\", entrypoint: [\"/bin/bash\", \"-c\", \"mkdir /www;
            ($get --retry 9 --retry-delay 1 --retry-all-errors http://$web:5490/hello; $without $get http://$env_gitlab_address:5490/hello) >/www/said 2>&1
            exec /opt/busybox httpd -f -p 8080 -h /www\"]}]"
}

TEST "allowlist: what is listed is reached from script, service and RUN step, through the proxy alone" {
    with_rule "egress = \"allowlist\"
egress_allow = [\"$web:5490\"]" all_ways 9001

    expect_eq "$STATE" success
    expect_contains "$TRACE" "Egress: allowlist of 1 hosts"
    expect_step listed 0 "hello from the web"
    expect_step tunnel 0 "hello from the web"
    expect_step unlisted 22 "403"
    expect_eq "$(grep -c "slipway: no connection to $web:5491: it is not in egress_allow (operator: egress_allow, rule " <<<"$TRACE")" \
        1 "lines about what was refused twice"
    for step in unset by-name tcp udp after-tricks; do ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "$step got out"; done
    # Once, and that is more than none; the kernel counts also what a name's look-up sends.
    expect_eq "$(grep -cE 'slipway: [1-9][0-9]* connections or packets found no way out past slipway' <<<"$TRACE")" 1 "lines about what went past the proxy"
    grep -q '^>>flush [1-9]' <<<"$TRACE"
    expect_eq "$(grep -c 'hello from the web' <<<"$(step_says service)")" 1 "answers to the service"
    expect_contains "$(step_says service)" "Couldn't connect"
    expect_step session 0 "hello from the web"
    grep -q '^>>session-past [1-9]' <<<"$TRACE"
    expect_step build 0
    expect_eq "$(grep -c '[0-9] hello from the web' <<<"$(step_says build)")" 1 "answers to RUN steps"
    expect_lacks "$(step_says build)" "an answer"
    expect_proxy_in_no_history
    expect_lacks "$(step_says inspect)" proxy
    expect_eq "$(world_leftovers)" "" "what is left"
}

TEST "control: open-except-registries reaches the same directly, and says that it is a guard rail" {
    all_ways 9011

    expect_eq "$STATE" success
    expect_contains "$TRACE" "Egress: open-except-registries: a guard rail, no wall"
    for step in unset tcp after-tricks session-past; do expect_step "$step" 0; done
    expect_step udp 0 "an answer"
    expect_step service 0 "hello from the web"
    expect_lacks "$TRACE" "past slipway's proxy"
    expect_contains "$(step_says build)" "hello from the web"
    expect_contains "$(step_says build)" "an answer"
}

TEST "none: nothing gets out of script, service and RUN step, and the job log names what they asked for" {
    with_rule 'egress = "none"' all_ways 9021

    expect_eq "$STATE" success
    expect_contains "$TRACE" "Egress: none"
    for step in listed tunnel unlisted unset by-name tcp udp after-tricks session session-past; do
        ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "$step got out"
    done
    expect_step service 0
    expect_lacks "$TRACE" "hello from the web"
    expect_lacks "$TRACE" "an answer"
    expect_step listed 22 "403"
    # Each stage says it once; the service asks for the other in as many stages as it needs.
    said="slipway: no connection to $web:%s: egress is \"none\" (operator: egress, rule "
    # shellcheck disable=SC2059
    expect_eq "$(grep -cF "$(printf "$said" 5491)" <<<"$TRACE")" 1 "lines about 5491"
    # shellcheck disable=SC2059
    expect_contains "$TRACE" "$(printf "$said" 5490)"
    expect_lacks "$(step_says inspect)$(step_says history)" 3128
}

# fetch ID: a job whose helper clones from the GitLab server, and whose hook asks for more.
fetch() {
    run_script "$1" 'cat file' ".git_info.repo_url = \"http://$web:5490/app.git\" | .git_info.sha = \"$sha\" | .git_info.depth = 0
        | .hooks = [{name: \"pre_get_sources_script\", script: [\"$get http://$web:5491/hello || echo hook could not\",
            \"$without $get http://$env_gitlab_address:5490/hello || echo hook could not directly\"]}]
        | .variables |= map(if .key == \"GIT_STRATEGY\" then .value = \"clone\" else . end)"
}

TEST "none: the helper reaches the GitLab server for the sources, and its hooks nothing else" {
    git init -q -b main "$CASE_DIR/app"
    (cd "$CASE_DIR/app" && echo "the sources" >file && git add file &&
        git -c user.name=t -c user.email=t@example.org commit -qm one)
    sha=$(git -C "$CASE_DIR/app" rev-parse HEAD)
    rm -rf "$SUITE_DIR/www/app.git"
    git clone -q --bare "$CASE_DIR/app" "$SUITE_DIR/www/app.git"
    git -C "$SUITE_DIR/www/app.git" update-server-info

    with_rule 'egress = "none"' fetch 9031

    expect_eq "$STATE" success
    expect_contains "$TRACE" "the sources"
    expect_contains "$TRACE" $'\nhook could not\n'
    expect_contains "$TRACE" $'\nhook could not directly\n'
    expect_lacks "$TRACE" "hello from the web"
    expect_contains "$TRACE" "no connection to $web:5491"
}

# The port alone may stand in a digest by chance.
expect_proxy_in_no_history() {
    expect_contains "$(step_says inspect)" '"Config"'
    ! grep -E '//[^ /"]*:3128' <<<"$(step_says history)$(step_says inspect)" || fail "the proxy's address is in the image"
}

# build_by BACKEND ID
build_by() {
    with_rule "egress = \"allowlist\"
egress_allow = [\"$web:5490\"]
backend = \"$1\"" run_steps "$2" "printf '%s\n' 'FROM $world_tools' 'RUN $get http://$web:5490/hello' \
        'RUN $without $get http://$env_gitlab_address:5490/hello; $get http://$web:5491/hello; true' \
        'ADD http://$web:5490/hello /added' 'RUN cat /added | tr a-z A-Z' >Dockerfile
try build docker build --no-cache -t built:1 .
try history docker history --no-trunc built:1
try inspect docker inspect built:1" ".image.name = \"$world_tools\""
    expect_eq "$STATE" success
    expect_step build 0 "HELLO FROM THE WEB"
    expect_eq "$(grep -c 'hello from the web' <<<"$(step_says build)")" 1 "answers to RUN steps of $1"
    expect_proxy_in_no_history
    expect_contains "$TRACE" "no connection to $web:5491"
    expect_lacks "$TRACE" "past slipway's proxy" # a step's, and the line is of scripts
}

TEST "allowlist: every backend's steps and ADD go through the proxy, which is in no history" {
    id=9040
    for backend in buildkit buildah podman kaniko; do
        id=$((id + 1))
        build_by "$backend" "$id"
    done
}

# pull_out ID: images by a name that is a message in itself.
pull_out() {
    run_steps "$1" "try pull docker pull $web:5491/secret-word:1
printf 'FROM $web:5491/secret-word:2\n' >Dockerfile
try from docker build .
try registry docker pull -q $world_tools" ".image.name = \"$world_tools\""
}

TEST "no pull of slipway's is a way out of a closed network" {
    : >"$env_dir/log/web-5491.log"
    with_rule "egress = \"allowlist\"
egress_allow = [\"$web:5490\"]" pull_out 9071

    expect_step pull 1 "its network is closed"
    expect_step from 1 "its network is closed"
    expect_step registry 0
    expect_eq "$(wc -c <"$env_dir/log/web-5491.log")" 0 "what the host heard"

    pull_out 9072

    expect_step pull 1
    [[ -s $env_dir/log/web-5491.log ]] || fail "the control was not heard"
}

TEST "allowlist: steps of Docker's builder go through the proxy alone" {
    dind=$'backend = "dind"\ndind = true\ndind_justification = "OPS-7: tests"'
    with_rule "egress = \"allowlist\"
egress_allow = [\"$web:5490\"]
$dind" run_steps 9046 "printf '%s\\n' 'FROM $world_tools' 'RUN $get http://$web:5490/hello' \\
        'RUN $without $get http://$env_gitlab_address:5490/hello; $get http://$web:5491/hello; true' >Dockerfile
try build docker build --no-cache -t built:1 .
try history docker history --no-trunc built:1
try inspect docker inspect built:1" ".image.name = \"$world_tools\""

    expect_eq "$STATE" success
    expect_contains "$TRACE" "slipway: built by dind"
    expect_step build 0 "hello from the web"
    expect_eq "$(grep -c 'hello from the web' <<<"$(step_says build)")" 1 "answers to RUN steps"
    expect_proxy_in_no_history
    expect_contains "$TRACE" "no connection to $web:5491"
}

TEST "a service that opens its port late is waited for in a closed network too" {
    local id=9047 egress
    for egress in allowlist none; do
        with_rule "egress = \"$egress\"" run_steps "$id" "try once $get http://late:8080/page
try out $without $get http://$env_gitlab_address:5490/hello" ".image.name = \"$world_tools\"
            | .services = [{name: \"$world_registry/base/late:1\", alias: \"late\"}]"

        expect_eq "$STATE" success
        expect_step once 0 "here at last"
        expect_lacks "$TRACE" "did not answer"
        ! grep -qxF ">>out 0" <<<"$TRACE" || fail "the network is not closed"
        id=$((id + 1))
    done
}

TEST "learning lets everything pass but the registries, and prints the list that closes it again" {
    steps="try listed $get http://$web:5490/hello
try unlisted $get http://$web:5491/hello
try registry curl --silent --show-error --insecure --max-time 20 https://$world_registry/v2/
try direct $without $get http://$env_gitlab_address:5490/hello"
    with_rule $'egress = "allowlist"\negress_learn = true' run_steps 9051 "$steps" ".image.name = \"$world_tools\""

    expect_eq "$STATE" success
    expect_contains "$TRACE" "learning: the proxy lets everything pass"
    expect_step listed 0 "hello from the web"
    expect_step unlisted 0 "hello from the web"
    expect_contains "$TRACE" "no connection to $world_registry: it is a registry that slipway brokers"
    for step in registry direct; do
        ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "$step got out"
    done
    learned=$("$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" egress learn --project grp/app)
    expect_contains "$learned" "\"$web:5490\""
    expect_contains "$learned" "\"$web:5491\""
    expect_lacks "$learned" "$world_registry"

    with_rule "egress = \"allowlist\"
$learned" run_steps 9052 "$steps" ".image.name = \"$world_tools\""

    expect_step unlisted 0 "hello from the web"
}

# contain ID: a container of the job's own engine, which is root of its sandbox, in the job's network.
contain() {
    run_steps "$1" "docker pull -q $world_docker >/dev/null
try direct docker run --rm $world_docker $get http://$env_gitlab_address:5490/hello
try host docker run --rm --network host $world_docker $get http://$env_gitlab_address:5490/hello
try route docker run --rm --privileged --network host $world_docker sh -c '/opt/busybox ip route add default dev eth0; $get http://$env_gitlab_address:5490/hello'
try proxy docker run --rm -e http_proxy=http://172.17.0.1:3128 $world_docker $get http://$web:5490/hello
try unlisted docker run --rm -e http_proxy=http://172.17.0.1:3128 $world_docker $get http://$web:5491/hello" \
        ".image.name = \"$world_docker\""
}

docker_files() {
    with_program /usr/bin/docker opt/docker-cli
    tool_files
}

TEST "open-except-registries: what was refused on the way to a registry is in the job log, once" {
    local to="bash -c 'exec 3<>/dev/tcp/$env_address/7001'" kept="to $env_address: slipway keeps jobs away from it"
    # says LINE...: that is all that the last job was told.
    says() { expect_eq "$(grep -o "slipway: no connection.*away from it" <<<"$TRACE" | sort)" "$(printf "%s\n" "$@")"; }
    run_steps 9101 "try script $to; try udp bash -c 'echo q >/dev/udp/$env_address/7002'; exit 3" ".image.name = \"$world_tools\"
        | .steps += [{name: \"after_script\", script: [\"$to; sleep 1\"], timeout: 60, when: \"always\", allow_failure: true}]"
    expect_eq "$STATE" "failed script_failure 3"
    says "slipway: no connection $kept"

    run_steps 9102 "printf '%s\n' 'FROM $world_tools' \"RUN $to || sleep 1\" >Dockerfile
try build docker build --no-cache ." ".image.name = \"$world_tools\""
    expect_step build 0
    says "slipway: no connection of a build of this project $kept"

    run_steps 9103 "ln -s \"\$(command -v docker)\" /usr/local/bin/buildah # the image has none
c=\$(buildah from $world_tools)
try session buildah run \$c -- $to" ".image.name = \"$world_tools\""
    says "slipway: no connection of a build of this project $kept"

    # A service tries before any script runs.
    run_steps 9104 "sleep 2" ".image.name = \"$world_tools\"
        | .services = [{name: \"$world_tools\", alias: \"asker\", entrypoint: [\"/bin/bash\", \"-c\",
            \"sleep 1; exec 3<>/dev/tcp/$env_address/7005 || exec sleep 99\"]}]"
    expect_eq "$STATE" success
    says "slipway: no connection $kept"

    # The bridge is another's now: what the jobs before did is not told of this one.
    run_steps 9105 "try web $get http://$env_gitlab_address:5490/hello; sleep 1" ".image.name = \"$world_tools\""
    expect_step web 0 "hello from the web"
    expect_lacks "$TRACE" "no connection"
}

TEST "an address that a registry's name gets while a job runs is closed to that job, too" {
    # What a name once was is remembered as long as the machine runs: a new name each time.
    local name=moving-$BASHPID-$SRANDOM.test hits mover
    hits() { grep -ac 'GET /hello' "$env_dir/log/web-5490.log"; }
    # moves_while ID SECONDS: the job connects to what becomes the registry's address, until it cannot or has tried for so long.
    moves_while() {
        hits=$(hits || true)
        (
            until_true 120 eval '(($(hits) > hits))'
            env_hosts "$env_gitlab_address" "$name"
        ) &
        mover=$!
        run_steps "$1" "try before $get http://$env_gitlab_address:5490/hello
for i in \$(seq $2); do $get http://$env_gitlab_address:5490/hello >/dev/null 2>&1 || break; sleep 1; done
try after $get http://$env_gitlab_address:5490/hello" ".image.name = \"$world_tools\""
        wait "$mover"
    }
    cp "$world_config" kept.toml
    trap 'cat "$CASE_DIR/kept.toml" >"$world_config"' EXIT
    env_hosts "$env_subnet.1" "$name"
    printf '\n[[registry]]\nhost = "%s:5443"\npush = false\n' "$name" >>"$world_config"
    moves_while 9043 60
    expect_step before 0 "hello from the web"
    expect_step after 7 "Couldn't connect"
    expect_contains "$TRACE" "slipway: no connection to $name ($env_gitlab_address): slipway keeps jobs away from it"

    # The control: the name means nothing any more.
    cat kept.toml >"$world_config"
    moves_while 9044 30
    expect_step before 0 "hello from the web"
    expect_step after 0 "hello from the web"
}

TEST "an address that a registry's name gets is closed to a job whose scripts are all short, too" {
    local name=short-$BASHPID-$SRANDOM.test hits mover
    hits() { grep -ac 'GET /hello' "$env_dir/log/web-5490.log"; }
    hits=$(hits || true)
    cp "$world_config" kept.toml
    trap 'cat "$CASE_DIR/kept.toml" >"$world_config"' EXIT
    env_hosts "$env_subnet.1" "$name"
    printf '\n[[registry]]\nhost = "%s:5443"\npush = false\n' "$name" >>"$world_config"
    (
        until_true 120 eval '(($(hits) > hits))'
        env_hosts "$env_gitlab_address" "$name"
    ) &
    mover=$!
    # No script comes to the time between two looks, all of them do.
    run_steps 9045 "try before $get http://$env_gitlab_address:5490/hello" ".image.name = \"$world_tools\"
        | .steps += [range(9) | {name: \"short\(.)\", script: [\"sleep 4\"], timeout: 60, when: \"on_success\", allow_failure: false}]
        | .steps += [{name: \"last\", script: [\"$get http://$env_gitlab_address:5490/hello && echo it is op''en || echo it is clo''sed\"],
            timeout: 60, when: \"on_success\", allow_failure: false}]"
    wait "$mover"

    expect_step before 0 "hello from the web"
    expect_contains "$TRACE" "it is closed"
    expect_lacks "$TRACE" "it is open"
}

TEST "containers of a job's engine have the job's way out and no other" {
    publish_image base/dockercli:12 debian '{}' docker_files
    world_docker=$world_registry/base/dockercli:12
    engine=$'dind = true\ndind_justification = "OPS-7: tests"'
    with_rule "egress = \"allowlist\"
egress_allow = [\"$web:5490\"]
$engine" contain 9061

    for step in direct host route unlisted; do ! grep -qxF ">>$step 0" <<<"$TRACE" || fail "$step got out"; done
    expect_step proxy 0 "hello from the web"

    with_rule "$engine" contain 9062

    expect_step direct 0 "hello from the web"
    expect_step host 0 "hello from the web"
}
