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
    local tool
    for tool in crane oras cosign docker-cli; do declare -g "${tool/-/_}=$("$SUITE_ROOT/packaging/tools/build" "$tool")" || return 1; done
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

# Clients, a good image, a bad one, both as one of two platforms, and what pushes a chart as helm does.
client_files() {
    with_program "$(command -v skopeo)"
    with_program "$(command -v curl)"
    install -D -m 0755 -t usr/bin "$crane/bin/crane" "$oras/bin/oras" # both static
    install -D -m 0755 /bin/busybox opt/busybox
    install -D -m 0644 "$env_tls/ca.pem" etc/ssl/certs/ca-certificates.crt # without a bundle curl does not begin
    mkdir -p images bad/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info
    cp -r "$SUITE_DIR/tiny-layout" images/good
    printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >bad/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
    python3 "$env_lib/add_layer.py" --base "$SUITE_DIR/tiny-layout" --layout images/bad --tag 1 --folder bad
    tar --numeric-owner --owner=0 --group=0 -cf images/bad.tar -C bad usr
    rm -r bad
    cp -r images/bad "$SUITE_DIR/bad-layout"
    python3 "$env_lib/join_layouts.py" images/two-good 1 amd64=images/good 386=images/good
    python3 "$env_lib/join_layouts.py" images/one-bad 1 amd64=images/good 386=images/bad
    push_artifact_script >opt/push-artifact
    crane_by_hand_script >opt/crane-by-hand
    chmod 755 opt/push-artifact opt/crane-by-hand
    chmod -R a+rX images
}

signer_files() {
    install -D -m 0755 -t usr/bin "$crane/bin/crane" "$cosign/bin/cosign" # both static
    # Where slipway's shim does not find them.
    install -D -m 0755 "$docker_cli/bin/docker" opt/real/docker
    install -D -m 0755 "$docker_cli/bin/docker-buildx" opt/real/plugins/docker-buildx
    echo '{"cliPluginsExtraDirs": ["/opt/real/plugins"]}' >opt/real/config.json
    mkdir images && cp -r "$SUITE_DIR/tiny-layout" images/good && chmod -R a+rX images
}

# crane-by-hand IMAGE...: pushes past slipway.
crane_by_hand_script() {
    cat <<SCRIPT
#!/bin/bash
export DOCKER_CONFIG=/tmp/login
mkdir -p /tmp/login
for image in "\$@"; do
    printf '{"auths": {"%s": {"auth": "%s"}}}' "\${image%%/*}" "$(printf 'slipway:only-slipway-knows-this' | base64)" >/tmp/login/config.json
    rc=0
    timeout 30 crane push /images/bad "\$image" 2>&1 || rc=\$?
    echo "crane ended with \$rc"
done
SCRIPT
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

# expect_no_blob DIGEST: in no repository of the registry.
expect_no_blob() {
    local found
    [[ $1 == sha256:* && -d $env_dir/registry/docker ]] || fail "no digest ('$1') or no registry" || return 1
    found=$(find "$env_dir/registry/docker" -path "*${1#sha256:}*" -name data)
    [[ -z $found ]] || fail "the registry holds $found"
}

# The layer and the config that make the bad image bad.
bad_blobs() {
    local blobs=$SUITE_DIR/bad-layout/blobs/sha256
    jq -r '.config.digest, .layers[-1].digest' "$blobs/$(jq -r '.manifests[0].digest[7:]' "$SUITE_DIR/bad-layout/index.json")"
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

TEST "crane in a job: what it pushes, copies, changes and joins is judged; what is vulnerable leaves nothing in the registry" {
    local digest step blob
    with_rule 'registry_endpoint = true' push_with 9141 "try login crane auth login --username ci --password secret-of-the-job $named
try push crane push /images/good $named/grp/crane:1
try digest crane digest $named/grp/crane:1
try copy crane copy $named/grp/crane:1 $named/grp/crane-copy:1
try tag crane tag $named/grp/crane:1 tagged
try mutate crane mutate --label made.by=crane --tag $named/grp/crane:mutated $named/grp/crane:1
echo more >/tmp/more && tar -C /tmp -cf /tmp/more.tar more
try append crane append --base $named/grp/crane:1 --new_layer /tmp/more.tar --new_tag $named/grp/crane:appended
try index crane push /images/two-good $named/grp/crane:index
try joined crane index append --manifest $named/grp/crane:1 --manifest $named/grp/crane:mutated --tag $named/grp/crane:joined
try list crane ls $named/grp/crane
try bad crane push /images/bad $named/grp/crane-bad:pushed
try bad-copy crane copy $named/grp/crane-bad:pushed $named/grp/crane-bad:copied
try bad-append crane append --base $named/grp/crane:1 --new_layer /images/bad.tar --new_tag $named/grp/crane-bad:appended
try bad-index crane push /images/one-bad $named/grp/crane-bad:index
try not-ours crane copy $named/base/tiny:1 $named/grp/crane-bad:base"

    expect_eq "$STATE" success
    for step in push copy tag mutate append index joined; do expect_step "$step" 0; done
    digest=$(digest_in_registry grp/crane:1)
    expect_step digest 0 "$digest"
    for step in crane-copy:1 crane:tagged; do expect_eq "$(digest_in_registry "grp/$step")" "$digest" "$step"; done
    digest_in_registry grp/crane:mutated
    jq -r .config.digest "$CASE_DIR/manifest" >"$CASE_DIR/config"
    env_skopeo inspect --config --creds slipway:only-slipway-knows-this "docker://$world_registry/grp/crane:mutated" |
        jq -e '.config.Labels["made.by"] == "crane"'
    digest_in_registry grp/crane:appended
    jq -e '.layers | length == 2' "$CASE_DIR/manifest"
    for step in index joined; do
        digest_in_registry "grp/crane:$step"
        jq -e '.manifests | length == 2' "$CASE_DIR/manifest"
    done
    expect_step list 0 1 tagged mutated appended index joined
    for step in bad bad-append bad-index; do
        expect_step "$step" 1 "DENIED" "CVE-2020-14343"
        [[ $(step_says "$step") != *$'\n'"pushed "* ]]
    done
    expect_step bad-copy 1 "MANIFEST_UNKNOWN"
    expect_step not-ours 1 "MANIFEST_UNKNOWN"
    for step in pushed copied appended index base; do expect_absent "grp/crane-bad:$step"; done
    for blob in $(bad_blobs); do expect_no_blob "$blob"; done
    ! grep -rqF secret-of-the-job "$world_state_dir" || fail "a login was kept"
}

TEST "oras in a job: charts and what is attached pass by their types, images are judged, and what is vulnerable leaves nothing" {
    local script digest blob
    chart=application/vnd.cncf.helm.config.v1+json
    content=application/vnd.cncf.helm.chart.content.v1.tar+gzip
    notes=application/vnd.example.notes.v1
    script="mkdir -p /tmp/web && cd /tmp && echo 'name: web' >web/Chart.yaml && tar -czf web.tgz web && echo '{\"name\":\"web\"}' >config
echo 'what changed' >notes
try image oras cp --from-oci-layout /images/good:1 $named/grp/oras:1
try chart oras push --config config:$chart $named/grp/charts/oras:1.0.0 web.tgz:$content
try attach oras attach --artifact-type $notes $named/grp/oras:1 notes:text/plain
try discover oras discover $named/grp/oras:1
try bad oras cp --from-oci-layout /images/bad:1 $named/grp/oras-bad:1
try bad-index oras cp --from-oci-layout /images/one-bad:1 $named/grp/oras-bad:index
try attach-denied oras attach --artifact-type application/vnd.other $named/grp/oras:1 notes:text/plain"
    with_rule "registry_endpoint = true
artifacts = [\"$chart\", \"$notes\"]" push_with 9151 "$script"

    expect_eq "$STATE" success
    expect_step image 0
    digest=$(digest_in_registry grp/oras:1)
    expect_step chart 0
    digest_in_registry grp/charts/oras:1.0.0
    jq -e --arg type "$chart" --arg content "$content" '.config.mediaType == $type and .layers[0].mediaType == $content' "$CASE_DIR/manifest"
    expect_contains "$TRACE" "is an artifact of type '$chart'"
    expect_step attach 0
    expect_step discover 0 "$notes"
    # The registry of these tests knows no referrers: their list stands under a tag.
    digest_in_registry "grp/oras:${digest/:/-}"
    jq -e --arg type "$notes" '[.manifests[].artifactType] == [$type]' "$CASE_DIR/manifest"
    expect_step bad 1 "CVE-2020-14343"
    expect_step bad-index 1 "CVE-2020-14343"
    expect_step attach-denied 1 "not_an_image"
    for step in 1 index; do expect_absent "grp/oras-bad:$step"; done
    for blob in $(bad_blobs); do expect_no_blob "$blob"; done

    with_rule 'registry_endpoint = true' push_with 9152 "${script//:1.0.0/:2.0.0}"
    expect_step image 0
    expect_step chart 1 "not_an_image"
    expect_step attach 1 "not_an_image"
    expect_absent grp/charts/oras:2.0.0
}

# by_hand ID REPOSITORY: crane with a login that the registry takes pushes the bad image from everywhere but the script.
by_hand() {
    run_steps "$1" "try service curl --silent --show-error --retry 60 --retry-delay 1 --retry-connrefused http://pusher:8080/said
printf '%s\n' 'FROM $world_clients' 'RUN /opt/crane-by-hand $world_registry/$2/step:1 $named/$2/named-step:1' >Dockerfile
try build docker build --no-cache --progress plain ." ".image.name = \"$world_clients\"
        | .services = [{name: \"$world_clients\", alias: \"pusher\", entrypoint: [\"/bin/bash\", \"-c\",
            \"mkdir /www; /opt/crane-by-hand $world_registry/$2/service:1 $named/$2/named-service:1 >/www/said 2>&1
            exec /opt/busybox httpd -f -p 8080 -h /www\"]}]"
}

TEST "crane in a service and in a RUN step finds neither the registry nor the endpoint, whatever its login" {
    local way blob
    with_rule 'registry_endpoint = true' by_hand 9161 direct

    expect_eq "$STATE" success
    for way in service build; do
        expect_step "$way" 0 "crane ended with 1" "connection refused"
        expect_lacks "$(step_says "$way")" "crane ended with 0"
    done
    for way in service step named-service named-step; do expect_absent "direct/$way:1"; done
    for blob in $(bad_blobs); do expect_no_blob "$blob"; done
}

TEST "control: with block_registries off the same crane pushes the bad image from there" {
    with_sandbox 'block_registries = false' by_hand 9171 by-hand

    expect_eq "$STATE" success
    for way in service build; do expect_step "$way" 0 "crane ended with 0"; done
    digest_in_registry by-hand/service:1
    digest_in_registry by-hand/step:1
}

TEST "control: where a waiver lets the vulnerability pass, the same pushes of every client arrive" {
    local day
    day=$(date -u -d '+30 days' +%Y-%m-%d)
    with_rule "registry_endpoint = true

[[waiver]]
id = \"CVE-2020-14343\"
repositories = [\"*/grp/waived\"]
owner = \"team-x\"
ticket = \"OPS-1\"
reason = \"these tests\"
expires = $day" push_with 9181 "try skopeo $copy oci:/images/bad:1 docker://$named/grp/waived:skopeo
try crane crane push /images/bad $named/grp/waived:crane
try append crane append --base $named/grp/waived:crane --new_layer /images/bad.tar --new_tag $named/grp/waived:append
try index crane push /images/one-bad $named/grp/waived:index
try oras oras cp --from-oci-layout /images/bad:1 $named/grp/waived:oras"

    expect_eq "$STATE" success
    for client in skopeo crane append index oras; do
        expect_step "$client" 0
        digest_in_registry "grp/waived:$client"
    done
    expect_contains "$TRACE" "waived by team-x"
}

# verified WHAT REFERENCE [ARGS...]: cosign's word on what the registry holds, by the job's key ./cosign.pub alone.
verified() {
    local what=$1 reference=$2
    shift 2
    env -i HOME="$CASE_DIR" "$cosign/bin/cosign" "$what" --key cosign.pub --insecure-ignore-tlog=true --trusted-root no-root.json \
        --registry-username slipway --registry-password only-slipway-knows-this --registry-cacert "$env_tls/ca.pem" "$@" \
        "$world_registry/$reference" >/dev/null
}

TEST "cosign and buildx in a job: signatures and attestations pass by their types in both forms, and an index that buildx pushes is judged" {
    local script digest step one
    local types='"application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json",
    "application/vnd.dev.sigstore.bundle.v0.3+json"'
    publish_image base/signers:1 debian '{"Env": ["PATH=/usr/bin:/bin", "DOCKER_CONFIG=/opt/real", "COSIGN_PASSWORD="]}' signer_files
    # cosign asks the network for one where it has none, even with a key.
    echo '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}' >no-root.json
    script="cd /tmp && echo '{\"by\": \"the job\"}' >predicate
by() { local verb=\$1; shift; cosign \$verb --yes --key cosign.key --tlog-upload=false --use-signing-config=false \"\$@\"; }
try keys cosign generate-key-pair
try key cat cosign.pub
try push crane push /images/good $named/grp/REPO:1
image=$named/grp/REPO@\$(crane digest $named/grp/REPO:1)
try index /opt/real/docker buildx imagetools create --tag $named/grp/REPO:2 $named/grp/REPO:1
try sign by sign --new-bundle-format=false \$image
try attest by attest --new-bundle-format=false --type custom --predicate predicate \$image
try sign-bundle by sign --new-bundle-format=true \$image
try attest-bundle by attest --new-bundle-format=true --type custom --predicate predicate \$image"
    with_rule "registry_endpoint = true
artifacts = [$types]" run_steps 9191 "${script//REPO/signed}" ".image.name = \"$world_registry/base/signers:1\""

    expect_eq "$STATE" success
    for step in keys push index sign attest sign-bundle attest-bundle; do expect_step "$step" 0; done
    step_says key | sed -n '/BEGIN/,/END/p' >cosign.pub
    digest=$(digest_in_registry grp/signed:1)
    for one in verify "verify-attestation --type custom"; do
        for step in true false; do
            # shellcheck disable=SC2086
            verified ${one%% *} "grp/signed@$digest" ${one#"${one%% *}"} --new-bundle-format=$step
        done
    done
    digest_in_registry grp/signed:2
    jq -e --arg digest "$digest" '[.manifests[].digest] == [$digest]' "$CASE_DIR/manifest"
    expect_contains "$TRACE" "pushed   $named/grp/signed:2"
    # Another key verifies nothing of it: what was found is the job's.
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkey -pubout -out cosign.pub
    for step in true false; do
        if verified verify "grp/signed@$digest" --new-bundle-format=$step; then fail "any key verifies it"; fi
    done

    # Without the types in the rule they are what Trivy cannot read.
    with_rule 'registry_endpoint = true' run_steps 9192 "${script//REPO/unsigned}" ".image.name = \"$world_registry/base/signers:1\""
    for step in push index; do expect_step "$step" 0; done
    for step in sign attest sign-bundle attest-bundle; do expect_step "$step" 1 "was not pushed" "Gate: denied"; done
    for step in sig att; do expect_absent "grp/unsigned:${digest/:/-}.$step"; done
    expect_absent "grp/unsigned:${digest/:/-}"
}
