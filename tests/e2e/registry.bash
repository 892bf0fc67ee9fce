# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Registries with bad days, credentials of either kind, and what the audit log knows afterwards.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"

proxy_port=5453
other_name_port=5454
nobody_port=5455

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    start_faults
}

# Two more ways to the registry: one that breaks as the file says, one whose certificate is for another name.
start_faults() {
    faults=$world_dir/faults.json
    fault_log=$world_dir/log/faults
    : >"$fault_log"
    proxy=$env_address:$proxy_port
    other_name=$env_address:$other_name_port
    nobody=$env_address:$nobody_port
    echo '{}' >"$faults"
    make_cert other "DNS:other.example"
    local port cert
    for port in $proxy_port $other_name_port; do
        cert=servers
        ((port == proxy_port)) || cert=other
        env_serve "proxy-$port" "$port" python3 "$env_lib/fault_proxy.py" --listen "$env_address:$port" --upstream "$env_registry" \
            --cert "$env_tls/$cert.pem" --key "$env_tls/$cert-key.pem" --ca "$env_tls/ca.pem" --faults "$faults" --log "$fault_log"
    done
    registry_config plain
}

SUITE_TEARDOWN() {
    world_stop
}

# registry_entry HOST [KEY=VALUE LINES]
registry_entry() {
    printf '[[registry]]\nhost = "%s"\nca_file = "%s"\nrealm_hosts = ["%s"]\n%s\n' "$1" "$env_tls/ca.pem" "$env_address:$env_token_port" \
        "${2:-credential = \"operator\"
username = \"slipway\"
password_file = \"$world_dir/etc/registry-password\"}"
}

# registry_config NAME [SED [RULE]]: from now on the world's configuration, with the other ways to the registry.
registry_config() {
    local dir=$world_dir/etc-$1 host
    install -d -m 0755 "$dir" "$dir/policy.d"
    world_write_config "$dir/config.toml"
    sed -i "${2:-}" "$dir/config.toml"
    for host in "$proxy" "$other_name" "$nobody"; do registry_entry "$host" >>"$dir/config.toml"; done
    printf '%s\n' "${3:-}" >"$dir/policy.d/10-rule.toml"
    world_config=$dir/config.toml
}

# push_to HOST NAME: a script that pushes a small image of its own under the project's path.
push_to() {
    echo "printf 'FROM $tiny\nRUN echo $2 \$RANDOM >/name; head -c 300000 /dev/urandom >/data\n' >Dockerfile
docker build -q --no-cache -t $1/grp/app/$2:1 .
try push-$2 docker push $1/grp/app/$2:1"
}

record() { jq -c --arg image "$1" --arg event "$2" 'select(.event == $event and .image == $image)' "$world_state_dir/audit.jsonl" | tail -n 1; }

TEST "the digest is one: in the registry, the job log, the image store and the audit log, whose chain holds" {
    run_steps 5001 "$(push_to "$world_registry" same)
try digest docker inspect --format '{{index .RepoDigests 0}}' $world_registry/grp/app/same:1"

    expect_eq "$STATE" success
    digest=$(world_registry_digest grp/app/same:1)
    expect_step push-same 0 "1: digest: $digest size: "
    expect_contains "$TRACE" "digest   $digest"
    expect_eq "$(step_says digest | head -n 1)" "$world_registry/grp/app/same@$digest"
    expect_eq "$(record "$world_registry/grp/app/same:1" push_intent | jq -r .digest)" "$digest" "intent"
    expect_eq "$(record "$world_registry/grp/app/same:1" push | jq -r .digest)" "$digest" "outcome"

    verify() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" audit verify "$@"; }
    local head log=$world_state_dir/audit.jsonl copy=$world_state_dir/copy.jsonl
    head=$(sed -n 's/.*audit *head \([0-9a-f]\{64\}\).*/\1/p' <<<"$TRACE" | tail -n 1)
    [[ -n $head ]]
    expect_status 0 verify
    expect_contains "$OUTPUT" "chain intact"
    expect_status 0 verify --head "$head"

    sed "s/$digest/sha256:$(printf '0%.0s' {1..64})/" "$log" >"$copy"
    chmod 644 "$copy"
    expect_status 1 verify "$copy"
    expect_contains "$OUTPUT" "this record was edited"
    sed '2d' "$log" >"$copy"
    expect_status 1 verify "$copy"
    grep -v "$head" "$log" | head -n 1 >"$copy"
    expect_status 0 verify "$copy"
    expect_status 1 verify "$copy" --head "$head"
    rm "$copy"
}

TEST "the job log has its sections, colours, times, token and audit heads; the operator's log tells of the job, and neither a secret" {
    registry_config plain
    local day=$(date -u +%Y-%m-%d) raw key secret
    run_steps 5005 "$(push_to "$world_registry" told)
try refused docker push $world_registry/grp/app/nosuch:1"
    expect_eq "$STATE" success
    expect_step refused 1 "does not exist locally"
    raw=$(sed -E 's/^[0-9T:.Z-]{20,} [0-9a-f]{2}[OE][+ ]?//' "$CASE_DIR/jobs/5005.trace")

    # As GitLab folds them: a begin and an end of one name, each cleared away by the terminal.
    for mark in start end; do
        expect_eq "$(grep -cE "section_$mark:[0-9]{10}:slipway_summary"$'\r\e\\[0K' <<<"$raw")" 1 "section_$mark of the summary"
    done
    expect_contains "$raw" $'\e[0K\e[32;1mslipway\e[0;m'
    grep -qE "  built    buildkit v[0-9.]+, [0-9]+\.[0-9] s" <<<"$TRACE"
    grep -qE "  findings .* \(scan [0-9]+\.[0-9] s\)" <<<"$TRACE"
    grep -qE "  push     [0-9]+ bytes sent, [0-9]+ blobs were there, [0-9]+\.[0-9] s" <<<"$TRACE"
    expect_contains "$TRACE" "  token    may push to this repository only, lifetime 300 s, forgotten"

    # The head that prepare prints is that of its own record.
    verify() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" audit verify "$@"; }
    local head
    head=$(sed -n 's/^Audit log head: \([0-9a-f]\{64\}\)$/\1/p' <<<"$TRACE")
    [[ -n $head ]]
    expect_eq "$(jq -r --arg hash "$head" 'select(.hash == $hash) | .event + " " + .job' "$world_state_dir/audit.jsonl" | sed 's/-.*//')" "job_prepare j5005"
    expect_status 0 verify --head "$head"

    key=$(grep -oE 'j5005-[0-9a-f]+' <<<"$TRACE" | head -n 1)
    grep -qE "^${day}T[0-9:.]+Z info pid=[0-9]+ prepare job=$key project=grp/app image=$world_base\$" "$world_state_dir/slipway.log"
    grep -qE " info pid=[0-9]+ cleanup done job=$key\$" "$world_state_dir/slipway.log"
    for secret in only-slipway-knows-this glcbt-job-token-5005 eyJ; do
        expect_lacks "$raw" "$secret"
        expect_lacks "$(cat "$world_state_dir/slipway.log")" "$secret"
    done
    expect_eq "$(stat -c '%a %U' "$world_state_dir/slipway.log")" "640 $world_user"
    # A refusal is in red, and in the operator's log with its kind.
    sed "s|^default_image.*|&\nallowed_images = [\"nothing\"]|" "$world_config" >"$CASE_DIR/denies.toml"
    cp "$CASE_DIR/denies.toml" "$world_dir/etc-plain/denies.toml"
    world_config=$world_dir/etc-plain/denies.toml
    run_script 5006 'echo never' || true
    expect_contains "$(cat "$CASE_DIR/jobs/5006.trace")" $'\e[31;1mERROR: '
    grep -qE ' error pid=[0-9]+ this runner does not allow the job image .* kind=denied hint=".*allowed_images' "$world_state_dir/slipway.log"
}

TEST "a push survives a registry that is slow, answers 503 for a while and cuts connections" {
    echo '{"delay": 0.5}' >"$faults"
    run_steps 5002 "$(push_to "$proxy" slow)"
    expect_step push-slow 0 "digest: sha256:"
    echo '{"status": 503, "headers": {"Retry-After": "1"}, "left": 2}' >"$faults"
    run_steps 5003 "$(push_to "$proxy" busy)"
    expect_step push-busy 0 "digest: sha256:"
    echo '{"cut": true, "method": "PATCH|PUT", "path": "/blobs/uploads/", "left": 2}' >"$faults"
    run_steps 5004 "$(push_to "$proxy" cut)"
    expect_step push-cut 0 "digest: sha256:"
    expect_eq "$(grep -c '{"cut"' "$fault_log")" 2 "connections that were cut"
    echo '{}' >"$faults"

    for name in slow busy cut; do
        digest=$(world_registry_digest grp/app/$name:1)
        env_skopeo copy --src-creds slipway:only-slipway-knows-this "docker://$world_registry/grp/app/$name@$digest" "oci:$CASE_DIR/$name"
    done
}

TEST "a registry that lies about digests, never accepts a token or stays down fails the push, with its name and a reason" {
    echo "{\"digest\": \"sha256:$(printf '1%.0s' {1..64})\", \"method\": \"PUT\", \"path\": \"/manifests/\"}" >"$faults"
    run_steps 5011 "$(push_to "$proxy" lies)"
    expect_step push-lies 1 "$proxy stored another manifest than was sent"
    [[ -n $(record "$proxy/grp/app/lies:1" push_failed) ]]
    expect_eq "$(record "$proxy/grp/app/lies:1" push)" "" "a push in the audit log"

    : >"$fault_log"
    echo "{\"status\": 401, \"headers\": {\"WWW-Authenticate\": \"Bearer realm=\\\"https://$env_address:$env_token_port/token\\\",service=\\\"slipway-test-registry\\\"\"}, \"path\": \"grp/app/loop\"}" >"$faults"
    run_steps 5012 "$(push_to "$proxy" loop)"
    expect_step push-loop 1 "$proxy"
    (($(grep -c grp/app/loop "$fault_log") < 20)) || fail "$(grep -c grp/app/loop "$fault_log") requests in the loop"
    expect_absent grp/app/loop:1

    echo "{\"status\": 401, \"headers\": {\"WWW-Authenticate\": \"Bearer realm=\\\"https://$env_address:$nobody_port/token\\\",service=\\\"x\\\"\"}, \"path\": \"grp/app/realm\"}" >"$faults"
    run_steps 5013 "$(push_to "$proxy" realm)"
    expect_step push-realm 1 "realm"
    echo '{}' >"$faults"
    run_steps 5014 "$(push_to "$other_name" name)
docker tag $other_name/grp/app/name:1 $nobody/grp/app/down:1
try push-down docker push $nobody/grp/app/down:1"
    expect_step push-name 1 "$other_name"
    expect_contains "$(step_says push-name)" certificate
    expect_step push-down 1 "$nobody" "giving up"
    expect_absent grp/app/name:1

    registry_config no-ca
    sed -i "/^host = \"$proxy\"/,/^realm/{/^ca_file/d}" "$world_config"
    run_steps 5015 "$(push_to "$proxy" ca)"
    expect_step push-ca 1 "$proxy"
    expect_contains "$(step_says push-ca)" ca_file
    expect_absent grp/app/ca:1
}

TEST "what a registry serves is checked against its digest before it becomes a base image" {
    : >"$fault_log"
    echo '{"edit": true, "method": "GET", "path": "/blobs/"}' >"$faults"
    run_steps 5021 "printf 'FROM $proxy/base/busybox:1\n' >Dockerfile
try blob docker build -t x:1 .
try pull docker pull $proxy/base/busybox:1"
    # A base that slipway kept would not be asked for.
    grep -q '^GET .*/blobs/.*"edit"' "$fault_log" || fail "the registry was asked for no blob"
    expect_step blob 1 "digest to"
    expect_step pull 1 "$proxy/base/busybox" "digest to"
    echo '{"edit": true, "method": "GET", "path": "/manifests/"}' >"$faults"
    run_steps 5022 "try manifest docker pull $proxy/base/busybox@$(world_registry_digest base/busybox:1)" && echo '{}' >"$faults"
    expect_step manifest 1 "has the digest"
}

TEST "pushes go where the operator brokers and policy allows, and nowhere else" {
    registry_config rules "" '[[rule]]
project = "grp/only"
repositories = ["'"$world_registry"'/team/*"]

[[rule]]
project = "grp/none"
push = false'
    local tags="docker pull -q $tiny; for name in $world_registry/grp/app/own $world_registry/other/app/x $world_registry/team/x registry.invalid/grp/app/x; do docker tag $tiny \$name:1; try \${name#*/} docker push \$name:1; done"
    run_steps 5031 "$tags"
    # Two of one path, so the last one is looked at by its words.
    expect_step other/app/x 1 "may push to '$world_registry/grp/app' and below"
    expect_step team/x 1 "[[rule]] with repositories"
    expect_step grp/app/own 0
    expect_step grp/app/x 1 "slipway does not push to the registry 'registry.invalid'" '[[registry]] entry with host = "registry.invalid"'
    expect_absent other/app/x:1
    run_steps 5032 "$tags" '.job_info.project_full_path = "grp/only"'
    expect_step team/x 0 "digest: sha256:"
    expect_step grp/app/own 1 "policy does not let project 'grp/only' push" "10-rule.toml"
    run_steps 5033 "$tags" '.job_info.project_full_path = "grp/none"'
    expect_step grp/app/own 1 "policy forbids pushes from project 'grp/none'"
}

TEST "with the job's own credential a push works where GitLab's token may write, and fails elsewhere" {
    jq '.["gitlab-ci-token"] = {password: "glcbt-job-token-5041", repos: {"grp/app/*": ["pull", "push"], "base/*": ["pull"]}}' \
        "$world_dir/users.json" >"$world_dir/users.json.new"
    mv "$world_dir/users.json.new" "$world_dir/users.json"
    registry_config job 's/^credential = "operator"/credential = "job"/; /^username/d; /^password_file/d'
    local login='.credentials = [{type: "registry", url: $registry, username: "gitlab-ci-token", password: "glcbt-job-token-5041"}]'
    login=${login//\$registry/\"$world_registry\"}
    run_steps 5041 "$(push_to "$world_registry" with-job)
docker tag $world_registry/grp/app/with-job:1 $world_registry/other/app/x:1
try elsewhere docker push $world_registry/other/app/x:1" "$login"
    expect_step push-with-job 0 "digest: sha256:"
    expect_eq "$(jq -r --arg name grp/app/with-job 'select(.granted[]? | select(.name == $name and (.actions | index("push")))) | .user' "$world_grants" | sort -u)" \
        gitlab-ci-token "whose token pushed"
    expect_step elsewhere 1 "$world_registry"
    expect_lacks "$TRACE" glcbt-job-token
    expect_absent other/app/x:1
    run_steps 5042 "$(push_to "$world_registry" no-login)"
    expect_step push-no-login 1 "the job has no login for the registry"
}

TEST "two jobs that push one tag at once both end well, and the tag is one of the two images" {
    registry_config plain
    local name
    for name in a b; do
        world_job "505$([[ $name == a ]] && echo 1 || echo 2)" "$steps_prelude
$(push_to "$world_registry" race)" >"$CASE_DIR/$name.json"
    done
    world_run "$CASE_DIR/a" "$CASE_DIR/a.json" &
    local first=$!
    (
        world_coordinator_port=$((world_coordinator_port + 1000))
        world_run "$CASE_DIR/b" "$CASE_DIR/b.json"
    )
    wait "$first"
    expect_eq "$(world_state "$CASE_DIR/a" 5051) $(world_state "$CASE_DIR/b" 5052)" "success success"
    digest=$(world_registry_digest grp/app/race:1)
    expect_contains "$(world_trace "$CASE_DIR/a" 5051)$(world_trace "$CASE_DIR/b" 5052)" "1: digest: $digest"
    # The same twice, from one job.
    run_steps 5053 "$(push_to "$world_registry" twice)
docker push $world_registry/grp/app/twice:1 >one & one=\$!
docker push $world_registry/grp/app/twice:1 >two & two=\$!
try one wait \$one
try two wait \$two"
    expect_step one 0
    expect_step two 0
}
