# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Logins that an issuer mints for one push: Harbor's robots (tests/lib/harbor_server.py) and a static password, from
# the verdict to the revocation, through crashes and an issuer that is down; and who can see them.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

harbor_port=5445
harbor_password=only-for-making-robots
proxy_port=5446

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world" || return 1
    make_tiny_base
    publish_tools
    harbor_state=$world_dir/harbor
    journal=$world_state_dir/leases
    mkdir -p "$harbor_state"
    : >"$harbor_state/calls.jsonl"
    install -m 0400 -o "$world_user" /dev/null "$world_dir/etc/harbor-password"
    printf '%s' "$harbor_password" >"$world_dir/etc/harbor-password"
    env_serve harbor "$harbor_port" python3 "$env_lib/harbor_server.py" --listen "$env_address:$harbor_port" \
        --cert "$env_tls/servers.pem" --key "$env_tls/servers-key.pem" --users "$world_dir/users.json" \
        --state "$harbor_state" --username 'robot$slipway' --password-file "$world_dir/etc/harbor-password" \
        --projects grp || return 1
    start_proxy "$proxy_port"
    cat >>"$world_config" <<TOML

[[registry]]
host = "$proxy"
ca_file = "$env_tls/ca.pem"
credential = "operator"
realm_hosts = ["$env_address:$env_token_port"]

[[credential]]
name = "robots"
type = "harbor"
url = "https://$env_address:$harbor_port"
username = "robot\$slipway"
password_file = "$world_dir/etc/harbor-password"
ca_file = "$env_tls/ca.pem"

[[credential]]
name = "old"
type = "static"
username = "slipway"
password_file = "$world_dir/etc/registry-password"
reason = "shown in a test"
TOML
    sed -i 's/^credential = "operator"$/credential = "issuer"\nissuer = "robots"/' "$world_config"
    rules ''
}

SUITE_TEARDOWN() {
    world_stop
}

# rules MORE: jobs push below grp/ alone, so that base images are fetched without a login.
rules() {
    printf '[[rule]]\nproject = "*"\nrepositories = ["%s/grp/*", "%s/grp/*"]\n%s\n' "$world_registry" "$proxy" "$1" \
        >"$world_dir/etc/policy.d/90-world.toml"
}

# hold_at POINT: from now on the first request of that kind waits; what waited goes on. "": none waits.
#   mint, minted         the robot's creation, before and after it is made      HEAD, POST, PATCH|PUT, manifest   at the registry
#   revoke, revoked      its deletion, likewise
hold_at() {
    local harbor='{}' registry='{}'
    case $1 in
    mint) harbor='{"hold": "POST", "at": "call"}' ;;
    minted) harbor='{"hold": "POST", "at": "answer"}' ;;
    revoke) harbor='{"hold": "DELETE", "at": "call"}' ;;
    revoked) harbor='{"hold": "DELETE", "at": "answer"}' ;;
    manifest) registry=$manifest_held ;;
    ?*) registry="{\"hold\": true, \"method\": \"$1\", \"path\": \"/blobs/\"}" ;;
    esac
    held_before=$(holds)
    write "$harbor_state/faults.json" "$harbor"
    write "$world_dir/faults.json" "$registry"
}

holds() { cat "$harbor_state/calls.jsonl" "$world_dir/log/requests" 2>/dev/null | grep -cE '"held"|"hold"' || true; }
something_waits() { (($(holds) > held_before)); }

use_issuer() {
    sed -i "s/^issuer = .*/issuer = \"$1\"/" "$world_config"
}

slipway_as_user() {
    "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" "$@"
}

# push_script REPOSITORY:TAG [MIB [REGISTRY]]: builds an image, with that much that does not compress, and pushes it.
push_script() {
    cat <<SCRIPT
printf 'FROM $tiny\nRUN head -c $((${2:-1} * 1048576)) /dev/urandom >/ballast\n' >Dockerfile
docker build -t ${3:-$world_registry}/$1 .
docker push ${3:-$world_registry}/$1
SCRIPT
}

robots() { jq -r '.[].name' "$harbor_state/robots.json"; }
robot_there() { [[ -n $(robots) ]]; }
no_robot() { [[ -z $(robots) ]]; }
mints() { jq -c 'select(.method == "POST" and .status == 201)' "$harbor_state/calls.jsonl" 2>/dev/null | wc -l; }
leases_out() { find "$journal" -name '*.json' 2>/dev/null; }

TEST "a robot is made after the verdict, pushes, and is gone after the push" {
    run_script 4001 "$(push_script grp/app/robot:1)"

    expect_eq "$STATE" success
    expect_contains "$TRACE" 'login    harbor "robots", minted for this push, revoked'
    expect_eq "$(robots)" "" "robots"
    expect_eq "$(leases_out)" "" "leases"
    [[ -n $(world_registry_digest grp/app/robot:1) ]]
    order=$(jq -r 'select(.job? | tostring | test("^j4001-")) | .event' "$world_state_dir/audit.jsonl" |
        grep -E '^(push_intent|credential_minted|credential_ended|push)$' | tr '\n' ' ')
    expect_eq "$order" "push_intent credential_minted credential_ended push " "order of events"
    pushers=$(jq -r 'select(.outcome == "issued") | select(any(.granted[]?; .name == "grp/app/robot" and
        (.actions | index("push")))) | .user' "$world_grants" | sort -u)
    expect_contains "$pushers" 'robot$grp+slipway-'
    expect_eq "$(wc -l <<<"$pushers")" 1 "users that got a push token"
}

# Forgets what Harbor and the registry were asked; trace says what they were asked since, by the one clock of this machine.
forget_calls() {
    : >"$harbor_state/calls.jsonl"
    : >"$world_dir/log/requests"
}

trace() {
    {
        jq -r 'select(.method) | "\(.time) \(.method) \(.status)"' "$harbor_state/calls.jsonl" |
            sed -n 's/ POST 201$/ mint/p; s/ DELETE 200$/ revoke/p'
        awk '/^(POST|PATCH|PUT) / { print $NF, "write" }' "$world_dir/log/requests"
    } | sort -n
}

kinds() { trace | cut -d' ' -f2 | uniq | tr '\n' ' '; }

TEST "the robot is made after the verdict, before the first byte is sent, and is gone right after the last" {
    forget_calls
    hold_at mint
    (
        until_true 300 something_waits
        tail -n 1 "$world_state_dir/audit.jsonl" >"$CASE_DIR/before-mint"
        find "$journal" -name '*.json' -exec cat {} + >"$CASE_DIR/journal"
        hold_at manifest
        until_true 60 something_waits
        robots >"$CASE_DIR/at-the-tag"
        hold_at ''
    ) &
    run_script 4021 "$(push_script grp/app/order:1 1 "$proxy")"
    wait

    expect_eq "$STATE" success
    # Nothing was asked of Harbor until the verdict and the intent were written down.
    expect_eq "$(jq -r '.event + " " + .image' "$CASE_DIR/before-mint")" "push_intent $proxy/grp/app/order:1"
    expect_eq "$(jq -r '.issuer + " " + .repository + " " + .id' "$CASE_DIR/journal")" "robots grp/app/order "
    # It is still there when the manifest has come but for the answer.
    expect_eq "$(wc -l <"$CASE_DIR/at-the-tag")" 1 "robots while the tag was written"
    expect_eq "$(kinds)" "mint write revoke " "order of events"
    awk '{ at[$2] = $1 } END { print "revoked", at["revoke"] - at["write"], "s after the last request"; exit at["revoke"] - at["write"] > 5 }' < <(trace)
}

TEST "an image that the gate refuses makes no robot" {
    before=$(mints)
    run_script 4002 "cat >Dockerfile <<'END'
FROM $world_base
RUN mkdir -p /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
END
docker build -t $world_registry/grp/app/bad:1 .
docker push $world_registry/grp/app/bad:1"

    expect_contains "$STATE" "failed script_failure"
    expect_eq "$(mints)" "$before" "robots made"
    expect_eq "$(leases_out)" "" "leases"
}

# with_all_logins ID [JQ]: a job that the network does not hold back tries with all that GitLab gave it, and pushes through slipway.
with_all_logins() {
    with_sandbox 'block_registries = false' run_steps "$1" "
robot='{\"name\": \"mine\", \"level\": \"project\", \"duration\": 1, \"permissions\": [{\"kind\": \"project\", \"namespace\": \"grp\",
    \"access\": [{\"resource\": \"repository\", \"action\": \"push\"}]}]}'
for user in gitlab-ci-token 'robot\$slipway'; do
    for password in \$CI_JOB_TOKEN \$ID_TOKEN; do
        number=\$((number + 1))
        try robot-\$number curl --silent --insecure --fail --show-error --user \$user:\$password --json \"\$robot\" \\
            https://$env_address:$harbor_port/api/v2.0/robots
        try push-\$number /opt/push-by-hand grp/app/by-hand-$1 \$user:\$password
    done
done
$(push_script "grp/app/through-$1:1")" ".image.name = \"$world_tools\" | .variables += [{key: \"ID_TOKEN\", value: \"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.$1\"}]
        | ${2:-.}"
}

# What the audit log says of a job's last push.
bypassable() {
    jq -r --arg job "$1-" 'select(.event == "push_intent" and (.job | startswith($job))) | .bypassable' \
        "$world_state_dir/audit.jsonl" | tail -n 1
}

TEST "what the job itself holds makes no robot and pushes nothing, even where its network reaches both" {
    with_all_logins 4003

    expect_eq "$STATE" success
    for i in 1 2 3 4; do
        expect_step "robot-$i" 22 401
        expect_step "push-$i" 22 401
    done
    expect_absent grp/app/by-hand-4003:1
    [[ -n $(world_registry_digest grp/app/through-4003:1) ]]
    expect_eq "$(bypassable j4003)" null "bypassable with a robot"
}

TEST "control: with the job's own login it pushes past the gate, and the log and the audit say so" {
    cp "$world_config" kept-config
    sed -i 's/^credential = "issuer"$/credential = "job"/; /^issuer = "robots"$/d' "$world_config"
    jq '.["gitlab-ci-token"] = {password: "glcbt-job-token-4010", repos: {"grp/app/*": ["pull", "push"], "base/*": ["pull"]}}' \
        "$world_dir/users.json" >"$world_dir/users.json.new"
    mv "$world_dir/users.json.new" "$world_dir/users.json"
    with_all_logins 4010 ".credentials = [{type: \"registry\", url: \"$world_registry\", username: \"gitlab-ci-token\", password: .token}]"
    cp kept-config "$world_config"

    expect_eq "$STATE" success
    expect_step push-1 0 "pushed grp/app/by-hand-4010 by hand"
    [[ -n $(world_registry_digest grp/app/by-hand-4010:1) ]]
    expect_contains "$TRACE" "login    the job's own; bypassable: the job itself holds it"
    expect_eq "$(bypassable j4010)" "the job itself holds it"
}

TEST "the robot of a worker that is killed is deleted by the job's cleanup" {
    (
        until_true 300 robot_there
        pids=$(worker_pids)
        for pid in $pids; do kill -STOP "$pid"; done # before it comes to its end
        cp "$world_dir/users.json" "$CASE_DIR/users.json"
        for pid in $pids; do kill -9 "$pid"; done
    ) &
    killer=$!
    # Another size each time: what the registry has already is pushed too fast to be killed.
    run_script 4004 "$(push_script grp/app/killed:1 $((200 + RANDOM % 50)))"
    wait "$killer"

    [[ $STATE != success ]]
    expect_eq "$(robots)" "" "robots"
    expect_eq "$(leases_out)" "" "leases"

    # Its secret was in no file but the issuer's and the token server's own.
    secret=$(jq -r 'to_entries[] | select(.key | startswith("robot$")) | .value.password' "$CASE_DIR/users.json" | head -n 1)
    [[ -n $secret ]]
    expect_lacks "$TRACE" "$secret"
    found=$(grep -rlF -- "$secret" "$world_state_dir" "$env_runtime_dir" "$world_dir/log" "$world_dir/runner" "$env_home" 2>/dev/null || true)
    expect_eq "$found" "" "files with the robot's secret"
}

# hunt NEEDLES ARGS...: tests/lib/hunt.py over all that runs as the service user and in its sandboxes.
hunt() {
    local needles=$1
    shift
    python3 "$env_lib/hunt.py" --needles "$needles" --users "$(id -u "$world_user"):1$(awk -F: -v user="$world_user" \
        '$1 == user { printf ",%s:%s", $2, $3 }' /etc/subuid)" --since "$world_dir/etc/harbor-password" "$@"
}

# All at the one moment when everything is there: the manifest is held, its blobs are sent.
look_everywhere() {
    local worker needle
    until_true 120 something_waits
    worker=$(worker_pids)
    {
        echo "$harbor_password"
        jq -r 'to_entries[] | select(.key | startswith("robot$")) | .value.password' "$world_dir/users.json"
        jq -r 'select(.user | startswith("robot$grp+slipway-")) | .token // empty' "$world_grants" | tail -n 1
    } >secrets
    echo planted-by-the-job-itself >planted
    hunt secrets --not-in slipway-push "${places[@]}" >others || true
    hunt planted --not-in slipway-push "$env_home/.local/share/containers/storage/volumes" >control || true
    while read -r needle; do
        echo "$needle" >one
        hunt one >>worker || true
    done <secrets
    # Who shares its user id cannot read it either, nor the stage that it works for; what may be read is the runner beside it.
    with_cgroup2_as_user cat "/proc/$worker/environ" "/proc/$worker/mem" "/proc/$(run_pid)/environ" >same-user 2>&1 || true
    with_cgroup2_as_user cat "/proc/$(pgrep -u "$world_user" -x gitlab-runner | head -n 1)/environ" >same-user-control || true
    cat "/proc/$worker/limits" "/proc/$(run_pid)/limits" | grep core >cores
    hold_at ''
}

TEST "the issuer's secret, the robot's and the token are in slipway-push alone, and nowhere after it" {
    places=("$world_state_dir" "$env_runtime_dir" "$world_dir/log" "$world_dir/runner" "$env_home" "$CASE_DIR/jobs" /dev/shm)
    hold_at manifest
    ulimit -c unlimited
    look_everywhere &
    run_script 4051 "export PLANTED=\$(printf 'planted-%s' by-the-job-itself)
echo \$PLANTED >planted
sh -c ': '\$PLANTED'; sleep 300' &
$(push_script grp/app/canary:1 1 "$proxy")"
    wait
    hunt secrets "${places[@]}" >after || true
    tail -n 1 others after

    expect_eq "$STATE" success
    expect_eq "$(wc -l <secrets)" 3 secrets
    expect_eq "$(cat others after | grep -c '^searched ')" 2 "hunts that came to their end"
    expect_eq "$(sed '/^searched/d; /^$/d' others)" "" "places with a secret, during the push"
    expect_eq "$(sed '/^searched/d; /^$/d' after)" "" "places with a secret, after it"
    expect_eq "$(grep -c 'Permission denied' same-user)" 3 "files of worker and stage that their user may not read"
    # The controls: the same hunt finds each secret where it is, and what the job plants everywhere.
    expect_eq "$(grep -c '^mem .*/slipway-push$' worker)" 3 "secrets in the worker's memory"
    expect_eq "$(grep -cE '^(cmdline|environ|file)' worker)" 0 "secrets in its argv and environment"
    for place in cmdline environ mem file; do grep "^$place " control; done
    [[ -s same-user-control ]]
    # A crash writes no core of it, as it would of the process beside it.
    expect_eq "$(awk '{ print $5 }' cores | tr '\n' ' ')" "0 unlimited " "limits on cores"
}

TEST "a robot that its issuer would not delete is listed, told of, and deleted later" {
    (
        until_true 300 robot_there
        echo '{"down": true}' >"$harbor_state/faults.json"
    ) &
    saboteur=$!
    run_script 4005 "$(push_script grp/app/down:1 40)"
    wait "$saboteur"

    expect_eq "$STATE" success
    expect_contains "$TRACE" "not revoked"
    OUTPUT=$(slipway_as_user leases)
    expect_contains "$OUTPUT" "grp/app/down"
    expect_contains "$OUTPUT" "answered with 503"
    lease=$(awk '/grp\/app\/down/ { print $1 }' <<<"$OUTPUT")
    expect_status 1 slipway_as_user leases revoke "$lease"
    expect_contains "$OUTPUT" "may still live until"
    expect_status 1 slipway_as_user doctor
    expect_contains "$OUTPUT" "could not be revoked yet: 1"

    rm "$harbor_state/faults.json"
    expect_status 0 slipway_as_user leases revoke "$lease"
    expect_eq "$(robots)" "" "robots"
    expect_eq "$(slipway_as_user leases)" "no credential is out"
}

TEST "a robot whose answer was lost on the way is found by its name" {
    echo '{"lose_answers": 1}' >"$harbor_state/faults.json"
    before=$(mints)
    run_script 4006 "$(push_script grp/app/lost:1)"
    rm "$harbor_state/faults.json"

    expect_eq "$STATE" success
    expect_eq "$(mints)" "$((before + 2))" "robots made"
    expect_eq "$(robots)" "" "robots"
    expect_eq "$(leases_out)" "" "leases"
}

TEST "what a machine that went down left is deleted by slipway gc" {
    cat >"$CASE_DIR/intent.json" <<JSON
{"issuer": "robots", "job": "j1-dead", "registry": "$world_registry", "repository": "grp/app", "created": "2026-01-01T00:00:00Z",
 "owner": {"pid": 1, "start_time": 1, "boot_id": "another boot"}, "id": "", "expires_at": "", "problem": "",
 "until_end": false, "tries": 0, "tried_at": ""}
JSON
    install -m 0600 -o "$world_user" "$CASE_DIR/intent.json" "$journal/slipway-00112233445566aa-j1-dead.json"
    ip netns exec "$env_netns" curl --silent --fail --output /dev/null --cacert "$env_tls/ca.pem" \
        --user "robot\$slipway:$harbor_password" --json '{"name":"slipway-00112233445566aa-j1-dead","level":"project","duration":1,
        "permissions":[{"kind":"project","namespace":"grp","access":[{"resource":"repository","action":"push"}]}]}' \
        "https://$env_address:$harbor_port/api/v2.0/robots"
    robot_there

    expect_status 0 slipway_as_user gc
    expect_eq "$(robots)" "" "robots"
    expect_eq "$(leases_out)" "" "leases"
}

TEST "a static password is for jobs whose rule names it, and is told with its age" {
    use_issuer old
    run_script 4008 "$(push_script grp/app/static:1)"
    refused=$STATE$TRACE
    rules 'static_credentials = ["old"]'
    run_script 4009 "$(push_script grp/app/static:2)"
    OUTPUT=$(slipway_as_user doctor) || true
    use_issuer robots
    rules ''

    expect_contains "$refused" "failed script_failure"
    expect_contains "$refused" 'use the static credential "old", and no rule of this project allows that'
    expect_eq "$STATE" success
    expect_contains "$TRACE" 'static "old", a password that does not end, 0 days old (shown in a test)'
    expect_lacks "$TRACE" only-slipway-knows-this
    expect_contains "$OUTPUT" "a password that does not end: shown in a test"
}

TEST "slipway doctor says what the issuer can do, and nothing is wrong with it" {
    OUTPUT=$(slipway_as_user doctor) || true
    expect_contains "$OUTPUT" 'credential "robots" (harbor), for '
    expect_contains "$OUTPUT" "revocable yes, listable yes, bypassable no"
    # The other entry is used by no registry now.
    expect_contains "$OUTPUT" "no registry uses it"
}

# From here on the journal holds what might still be on its way to Harbor.

# Once something waits: stops the worker, holds at the next point, which frees what waits, and kills it.
crash_workers() {
    local point points=("$@") worker
    for ((point = 0; point < ${#points[@]}; point++)); do
        until_true 120 something_waits
        echo "${points[point]}: robots $(robots | wc -l), leases $(leases_out | wc -l)"
        worker=$(worker_pids)
        kill -STOP "$worker"
        hold_at "${points[point + 1]:-}"
        kill -KILL "$worker"
    done
}

TEST "a worker that dies at any step leaves no robot after the job's cleanup" {
    local points=(mint minted HEAD POST "PATCH|PUT" manifest revoke revoked) i pushes=
    for ((i = 0; i < ${#points[@]}; i++)); do
        pushes+="docker tag x:1 $proxy/grp/app/crash-$i:1; try push-$i docker push $proxy/grp/app/crash-$i:1"$'\n'
    done
    hold_at "${points[0]}"
    crash_workers "${points[@]}" >"$CASE_DIR/crashes" &
    run_steps 4022 "printf 'FROM $tiny\nRUN head -c 1000000 /dev/urandom >/ballast\n' >Dockerfile
docker build -t x:1 .
$pushes"
    wait
    cat "$CASE_DIR/crashes"

    expect_eq "$STATE" success
    expect_eq "$(wc -l <"$CASE_DIR/crashes")" "${#points[@]}" crashes
    expect_lacks "$(cat "$CASE_DIR/crashes")" "leases 0"
    for ((i = 0; i < ${#points[@]}; i++)); do expect_step "push-$i" 1 "slipway-push ended without an answer"; done
    expect_eq "$(robots)" "" robots
}

TEST "a run that dies at any step leaves no robot: its worker, the cleanup or slipway gc ends it" {
    local point id=4030
    for point in mint minted POST manifest revoke revoked; do
        hold_at "$point"
        (
            until_true 120 something_waits
            kill -KILL "$(run_pid)"
            hold_at ''
        ) &
        run_script $((++id)) "$(push_script "grp/app/run-$id:1" 1 "$proxy")"
        wait
        expect_contains "$STATE" failed
        slipway_as_user gc
        until_true 10 no_robot
    done
}

# die_at POINT ID COMMAND...: run and worker die there; COMMAND is run at once, and when the job is over what waits goes on.
die_at() {
    local point=$1 id=$2
    shift 2
    hold_at "$point"
    (
        until_true 120 something_waits
        kill -KILL "$(run_pid)" "$(worker_pids)"
        "$@"
    ) &
    run_script "$id" "$(push_script "grp/app/dead-$id:1" 1 "$proxy")"
    wait
    expect_contains "$STATE" failed
    hold_at ''
}

TEST "a robot that is made after all of its job is gone is found by slipway gc" {
    die_at mint 4041 true
    until_true 10 robot_there
    [[ -n $(leases_out) ]]

    expect_status 0 slipway_as_user gc
    expect_eq "$(robots)" "" robots
}

TEST "control: where nothing was written down, the robot of a dead worker stays" {
    forget() { rm "$journal"/*"-j4042-"*.json; }
    forget_calls
    die_at manifest 4042 forget
    slipway_as_user gc

    expect_eq "$(kinds)" "mint write " "order of events"
    expect_contains "$(robots)" 'robot$grp+slipway-'
    ip netns exec "$env_netns" curl --silent --fail --cacert "$env_tls/ca.pem" --user "robot\$slipway:$harbor_password" \
        --request DELETE "https://$env_address:$harbor_port/api/v2.0/robots/$(jq '.[0].id' "$harbor_state/robots.json")"
    no_robot
}

TEST "no password of an issuer is in the journal, the audit log or the operator's log" {
    found=$(grep -rlF -e "$harbor_password" -e only-slipway-knows-this "$world_state_dir" "$world_dir/log" 2>/dev/null || true)
    expect_eq "$found" "" "files with a password"
}
