# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# `/v2/` inside a job: real clients of registries push into quarantine, and what the gate lets pass arrives.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

named_port=5457

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    command -v skopeo curl >/dev/null || echo "needs skopeo and curl"
}

# The world's registry has an address for a name, and names are what the endpoint stands for: one more way to it.
SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    named_host=push-$env_netns.test
    named=$named_host:$named_port
    echo "$env_address $named_host # slipway registry endpoint tests" >>/etc/hosts
    make_cert named "DNS:$named_host"
    echo '{}' >"$world_dir/faults.json"
    env_serve named "$named_port" python3 "$env_lib/fault_proxy.py" --listen "$env_address:$named_port" --upstream "$env_registry" \
        --cert "$env_tls/named.pem" --key "$env_tls/named-key.pem" --ca "$env_tls/ca.pem" --faults "$world_dir/faults.json" \
        --log "$world_dir/log/requests"
    printf '\n[[registry]]\nhost = "%s"\nca_file = "%s"\nrealm_hosts = ["%s"]\ncredential = "operator"
username = "slipway"\npassword_file = "%s"\n' "$named" "$env_tls/ca.pem" "$env_address:$env_token_port" \
        "$world_dir/etc/registry-password" >>"$world_config"
    publish_image base/clients:12 debian '{}' client_files
    world_clients=$world_registry/base/clients:12
}

SUITE_TEARDOWN() {
    sed "/^$env_address $named_host /d" /etc/hosts >"$SUITE_DIR/hosts" && cat "$SUITE_DIR/hosts" >/etc/hosts
    world_stop
}

# Clients, a good image, a bad one, one with two platforms, and what pushes a chart as helm does.
client_files() {
    with_program "$(command -v skopeo)"
    with_program "$(command -v curl)"
    install -D -m 0644 "$env_tls/ca.pem" etc/ssl/certs/ca-certificates.crt # without a bundle curl does not begin
    mkdir -p images bad/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info
    cp -r "$SUITE_DIR/tiny-layout" images/good
    printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >bad/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
    python3 "$env_lib/add_layer.py" --base "$SUITE_DIR/tiny-layout" --layout images/bad --tag 1 --folder bad
    rm -r bad
    mkdir opt
    push_artifact_script >opt/push-artifact
    chmod 755 opt/push-artifact
    chmod -R a+rX images
}

# push-artifact REPOSITORY:TAG CONFIG-TYPE LAYER-TYPE LAYER-FILE [CONFIG-FILE]
push_artifact_script() {
    cat <<'SCRIPT'
#!/bin/bash
set -euo pipefail
host=${1%%/*} name=${1#*/} tag=${1##*:}
name=${name%:*}
[[ -n ${5:-} ]] || { set -- "$@" /tmp/config && echo '{"name":"web","version":"1.0.0"}' >/tmp/config; }
send() { curl --silent --show-error --max-time 120 --write-out ' %{http_code}\n' "$@"; }
put_blob() {
    local digest place
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    place=$(send --request POST --dump-header - --output /dev/null "https://$host/v2/$name/blobs/uploads/" |
        tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    send --request PATCH --header 'Content-Type: application/octet-stream' --data-binary "@$1" "https://$host$place" >/dev/null
    send --request PUT "https://$host$place?digest=$digest" >/dev/null
    echo "\"digest\": \"$digest\", \"size\": $(stat -c %s "$1")"
}
layer=$(put_blob "$4")
config=$(put_blob "$5")
type=application/vnd.oci.image.manifest.v1+json
send --request PUT --header "Content-Type: $type" --data-binary '{"schemaVersion": 2, "mediaType": "'$type'",
    "config": {"mediaType": "'"$2"'", '"$config"'}, "layers": [{"mediaType": "'"$3"'", '"$layer"'}]}' \
    "https://$host/v2/$name/manifests/$tag" | tee /tmp/answer
grep -q ' 201$' /tmp/answer
SCRIPT
}

# with_rule LINES COMMAND...: while a rule of every project says LINES.
with_rule() {
    local rule=$world_dir/etc/policy.d/10-endpoint.toml rc=0
    printf '[[rule]]\nproject = "*"\nrepositories = ["%s/grp/*"]\n%s\n' "$named" "$1" >"$rule"
    shift
    "$@" || rc=$?
    rm "$rule"
    return "$rc"
}

push_with() { run_steps "$1" "$2" ".image.name = \"$world_clients\""; }

digest_in_registry() {
    env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/$1" >"$CASE_DIR/manifest" &&
        echo "sha256:$(sha256sum "$CASE_DIR/manifest" | cut -d' ' -f1)"
}

copy='skopeo --insecure-policy copy --quiet'

TEST "skopeo in a job: a good image arrives, a bad one is denied with the usual table and leaves nothing" {
    local digest
    digest=$(jq -r '.manifests[0].digest' "$SUITE_DIR/tiny-layout/index.json")
    with_rule 'registry_endpoint = true' push_with 9101 "try login skopeo login --username ci --password secret-of-the-job $named
try good $copy oci:/images/good:1 docker://$named/grp/app:good
try again skopeo inspect --format '{{.Digest}}' docker://$named/grp/app:good
try by-digest $copy oci:/images/good:1 docker://$named/grp/by-digest@$digest
try bad $copy oci:/images/bad:1 docker://$named/grp/app:bad
try elsewhere $copy oci:/images/good:1 docker://$named/other/app:good
try pull skopeo inspect docker://$named/base/tiny:1
try catalog curl --silent --show-error https://$named/v2/_catalog
try plain curl --silent --show-error --max-time 5 http://$env_address:$env_registry_port/v2/"

    expect_eq "$STATE" success
    expect_step login 0 "Login Succeeded"
    expect_step good 0
    expect_contains "$TRACE" "slipway: pushed $named/grp/app:good@sha256:"
    expect_contains "$TRACE" "pushed   $named/grp/app:good"
    expect_step again 0 "$(digest_in_registry grp/app:good)"
    expect_step by-digest 0
    expect_eq "$(digest_in_registry "grp/by-digest@$digest")" "$digest" "what was pushed by digest"
    expect_step bad 1 "CVE-2020-14343"
    expect_contains "$TRACE" "CRITICAL  CVE-2020-14343  PyYAML 5.3, fixed in 5.4"
    expect_contains "$TRACE" "refused  $named/grp/app:bad"
    expect_absent grp/app:bad
    expect_step elsewhere 1 "policy does not let project"
    expect_absent other/app:good
    expect_step pull 1 "slipway's endpoint answers for what this job pushed"
    expect_step catalog 0 "DENIED"
    ! grep -qxF ">>plain 0" <<<"$TRACE" || fail "the registry itself was reached"
    ! grep -rqF secret-of-the-job "$world_state_dir" || fail "a login was kept"
    expect_eq "$(world_leftovers)" "" "what is left"
}

TEST "control: without the rule's key the same push ends at the network" {
    push_with 9111 "try good timeout 20 $copy oci:/images/good:1 docker://$named/grp/control:1
try trust find /etc/ssl/certs /etc/containers /etc/docker -name 'slipway*'"

    ! grep -qxF ">>good 0" <<<"$TRACE" || fail "the registry was reached"
    expect_lacks "$(step_says trust)" slipway
    expect_absent grp/control:1
}

TEST "a chart passes by its type where the rule names it, and no image passes so" {
    chart=application/vnd.cncf.helm.config.v1+json
    content=application/vnd.cncf.helm.chart.content.v1.tar+gzip
    local script="mkdir -p /tmp/web && echo 'name: web' >/tmp/web/Chart.yaml && tar -C /tmp -czf /tmp/web.tgz web
layer=/images/bad/blobs/sha256/\$(cd /images/bad/blobs/sha256 && ls -S | head -n 1)
config=/images/bad/blobs/sha256/\$(cd /images/bad/blobs/sha256 && grep -l diff_ids *)
try chart /opt/push-artifact $named/grp/charts/web:1.0.0 $chart $content /tmp/web.tgz
try type /opt/push-artifact $named/grp/charts/typed:1 $chart application/vnd.oci.image.layer.v1.tar+gzip \$layer \$config
try disguised /opt/push-artifact $named/grp/charts/disguised:1 $chart $content \$layer \$config
printf '%s' \"\$LEAKABLE\" >/tmp/web/values.yaml && tar -C /tmp -czf /tmp/leak.tgz web
try leak /opt/push-artifact $named/grp/charts/leak:1 $chart $content /tmp/leak.tgz"
    local leakable='.variables += [{key: "LEAKABLE", value: "a-masked-value-of-the-job-93b1", masked: true}]'
    with_rule "registry_endpoint = true
artifacts = [\"$chart\"]" run_steps 9121 "$script" ".image.name = \"$world_clients\" | $leakable"

    expect_step chart 0 " 201"
    env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/grp/charts/web:1.0.0" | grep -qF "$chart"
    expect_contains "$TRACE" "is an artifact of type '$chart'"
    expect_step type 1 "DENIED" "artifact_disguise"
    expect_step disguised 1 "DENIED" "artifact_disguise"
    expect_step leak 1 "DENIED" "LEAKABLE"
    for name in typed disguised leak; do expect_absent "grp/charts/$name:1"; done

    with_rule 'registry_endpoint = true' run_steps 9122 "$script" ".image.name = \"$world_clients\" | $leakable"
    expect_step chart 1 "DENIED" "not_an_image"
}

TEST "in a closed network the endpoint is reached past the proxy" {
    with_rule 'registry_endpoint = true
egress = "allowlist"' push_with 9131 "try good $copy oci:/images/good:1 docker://$named/grp/closed:1"

    expect_step good 0
    digest_in_registry grp/closed:1 | grep -q '^sha256:'
}
