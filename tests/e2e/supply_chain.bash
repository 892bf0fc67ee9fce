# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What slipway signs about an image, read by another: cosign verifies what the registry holds.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"

proxy_port=5455

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    tool=$("$SUITE_ROOT/packaging/tools/build" cosign)
    make_tiny_base
    start_proxy "$proxy_port"
    make_key "$world_dir/etc/other"
    make_key "$world_dir/etc/signing"
    # cosign asks the network for one where it has none, even with a key.
    echo '{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}' >"$world_dir/no-root.json"
    signed_by "key_file = \"$world_dir/etc/signing.key\""
}

SUITE_TEARDOWN() {
    world_stop
}

make_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    openssl pkey -in "$1.key" -pubout -out "$1.pub"
    chmod 400 "$1.key"
    chown "$world_user" "$1.key"
}

# signed_by SETTINGS: slipway's configuration with these lines in [signing].
signed_by() {
    world_write_config "$world_config"
    cat >>"$world_config" <<TOML

[[registry]]
host = "$proxy"
ca_file = "$env_tls/ca.pem"
credential = "operator"
username = "slipway"
password_file = "$world_dir/etc/registry-password"
realm_hosts = ["$env_address:$env_token_port"]

[signing]
builder_id = "https://ci.example/slipway"
$1
TOML
}

# build_script NUMBER: an image of its own, as x:1.
build_script() {
    printf 'printf "FROM %s\\nRUN echo %s >/number\\n" >Dockerfile\ndocker build -t x:1 . || exit 77\n' "$tiny" "$1"
}

# verify WHAT KEY IMAGE [ARGS...]: cosign's answer with a key and nothing else.
verify() {
    local what=$1 key=$2 image=$3
    shift 3
    env -i HOME="$CASE_DIR" "$tool/bin/cosign" "$what" --key "$key" --insecure-ignore-tlog=true --trusted-root "$world_dir/no-root.json" \
        --registry-username slipway --registry-password only-slipway-knows-this --registry-cacert "$env_tls/ca.pem" "$@" \
        "$world_registry/$image"
}

# refuses WORDS ARGS...: cosign does not verify, and says so.
refuses() {
    local words=$1 said
    shift
    if said=$(verify "$@" 2>&1); then fail "cosign verifies: $*" || return 1; fi
    expect_contains "$said" "$words"
}

# hunt NEEDLES ARGS...: tests/lib/hunt.py over all that runs as the service user and in its sandboxes.
hunt() {
    local needles=$1
    shift
    python3 "$env_lib/hunt.py" --needles "$needles" --users "$(id -u "$world_user"):1$(awk -F: -v user="$world_user" \
        '$1 == user { printf ",%s:%s", $2, $3 }' /etc/subuid)" --since "$world_dir/etc/other.pub" "$@"
}

something_waits() { grep -q '"hold"' "$world_dir/log/requests"; }

# While the list of signatures is on its way: what slipway-push alone may hold, and where the job's own words are.
look_everywhere() {
    until_true 120 something_waits
    hunt key --not-in slipway-push "${places[@]}" >others || true
    hunt planted --not-in slipway-push >control || true
    hunt key "$world_dir/etc" >where-it-is || true
    hunt key | grep slipway-push >worker || true
    write "$world_dir/faults.json" '{}'
}

TEST "cosign finds signature and provenance of what was pushed, by this key and no other" {
    run_script 2801 "$(build_script 2801)
docker tag x:1 $world_registry/app/signed:1
SLIPWAY_REPORT_DIR=reports docker push $world_registry/app/signed:1
echo \"<<spdx \$(base64 -w0 reports/sbom.spdx.json)\""

    expect_eq "$STATE" success
    expect_contains "$TRACE" "signed   before it was tagged: signature, provenance, SBOM"
    digest=$(world_registry_digest app/signed:1)
    verify verify "$world_dir/etc/signing.pub" app/signed:1 >signatures
    expect_eq "$(jq -r '.[0].critical.image["docker-manifest-digest"]' signatures)" "$digest"
    verify verify-attestation "$world_dir/etc/signing.pub" "app/signed@$digest" --type slsaprovenance1 >attestations
    jq -r .payload attestations | base64 -d >statement
    expect_eq "$(jq -r '.subject[0].digest.sha256' statement)" "${digest#sha256:}"
    expect_eq "$(jq -r .predicate.runDetails.builder.id statement)" https://ci.example/slipway
    expect_contains "$(jq -r .predicate.buildDefinition.internalParameters.backend statement)" buildkit
    expect_eq "$(jq -r '.predicate.buildDefinition.internalParameters.gate | "\(.verdict) \(.db)"' statement)" \
        "passed sha256:$(sha256sum "$world_dir/trivy-cache/db/trivy.db" | cut -d' ' -f1)"
    expect_eq "$(jq -r '[.predicate.buildDefinition.resolvedDependencies[].name] | sort | join(" ")' statement)" "$tiny Dockerfile"

    # Who reads the SBOM alone finds in the image's packages what the gate found.
    verify verify-attestation "$world_dir/etc/signing.pub" "app/signed@$digest" --type cyclonedx | jq -r .payload | base64 -d | jq .predicate >sbom.json
    expect_contains "$(jq -r '.components[].purl' sbom.json)" pkg:deb/debian/zlib1g@1.2.13.dfsg-1
    sed -n 's/^<<spdx //p' <<<"$TRACE" | base64 -d >sbom.spdx.json
    expect_eq "$(jq -r .spdxVersion sbom.spdx.json)" SPDX-2.3
    for sbom in sbom.json sbom.spdx.json; do
        "$world_trivy/bin/trivy" sbom --quiet --cache-dir "$world_dir/trivy-cache" --skip-db-update --skip-java-db-update --offline-scan \
            --skip-version-check --disable-telemetry --format json "$sbom" >rescan.json
        expect_contains "$(jq -r '.Results[].Vulnerabilities[]?.VulnerabilityID' rescan.json)" CVE-2023-45853
    done

    refuses "could not verify envelope" verify "$world_dir/etc/other.pub" app/signed:1
    refuses "could not verify envelope" verify-attestation "$world_dir/etc/other.pub" app/signed:1 --type slsaprovenance1
    # An image of the same registry that slipway did not push.
    refuses "no signatures found" verify "$world_dir/etc/signing.pub" "${tiny#*/}"
}

TEST "the provenance of a commit names what it stands on, and what files were copied from" {
    run_script 2841 "ln -s \"\$(command -v docker)\" /usr/local/bin/buildah
a=\$(buildah from $world_busybox) && b=\$(buildah from $tiny) && c=\$(buildah from $tiny) && d=\$(buildah from $tiny) || exit 77
buildah copy -q --from \$a \$b /bin/busybox /bin/copied && buildah copy -q --from \$b \$c /bin/copied /bin/again || exit 78
for one in \$b \$c \$d; do buildah config --label one=\$one \$one; buildah commit -q \$one $world_registry/app/stands:\$one; buildah push -q $world_registry/app/stands:\$one || exit 79; echo \"<<one \$one\"; done"

    expect_eq "$STATE" success
    local one number=0
    while read -r one; do
        number=$((number + 1))
        verify verify-attestation "$world_dir/etc/signing.pub" "app/stands:$one" --type slsaprovenance1 | jq -r .payload | base64 -d |
            jq -r '[.predicate.buildDefinition.resolvedDependencies[].name] | sort | join(" ")' >"$number"
    done < <(sed -n 's/^<<one //p' <<<"$TRACE")
    expect_eq "$(cat 1)" "$(printf '%s\n' "$tiny" "$world_busybox" | sort | paste -sd ' ')"
    expect_eq "$(cat 2)" "$(cat 1)" "what a container was given of another"
    expect_eq "$(cat 3)" "$tiny" # the control: nothing was copied into it
}

TEST "the key is in slipway-push alone while it signs, and nowhere after it" {
    places=("$world_state_dir" "$env_runtime_dir" "$world_dir/log" "$world_dir/runner" "$env_home" "$CASE_DIR/jobs" /dev/shm)
    sed -n 2,3p "$world_dir/etc/signing.key" >key # the lines of PKCS #8 with the private half
    echo planted-by-the-job-itself >planted
    : >"$world_dir/log/requests"
    write "$world_dir/faults.json" '{"hold": true, "method": "PUT", "path": "/manifests/sha256-"}'
    look_everywhere &
    run_script 2802 "export PLANTED=\$(printf 'planted-%s' by-the-job-itself)
sh -c ': '\$PLANTED'; sleep 300' &
$(build_script 2802)
docker tag x:1 $proxy/app/watched:1
docker push $proxy/app/watched:1"
    wait
    hunt key "${places[@]}" >after || true

    expect_eq "$STATE" success
    expect_eq "$(cat others after | grep -c '^searched ')" 2 "hunts that came to their end"
    expect_eq "$(sed '/^searched/d; /^$/d' others)" "" "places with the key, while it signs"
    expect_eq "$(sed '/^searched/d; /^$/d' after)" "" "places with the key, after it"
    expect_eq "$(grep -cE '^(cmdline|environ)' worker)" 0 "keys in the worker's argv and environment"
    # The controls: the hunt finds the file, and what the job plants.
    grep -q "^file $world_dir/etc/signing.key$" where-it-is
    for place in cmdline environ mem; do grep "^$place " control; done
    verify verify "$world_dir/etc/signing.pub" app/watched:1 >/dev/null
}

TEST "what is denied gets no signature, and a job takes no signature's tag" {
    taken=sha256-$(printf another | sha256sum | cut -d' ' -f1)
    run_steps 2803 "$(build_script 2803)
docker tag x:1 $world_registry/app/taker:$taken
try tag docker push $world_registry/app/taker:$taken
cat >Dockerfile <<'END'
FROM $tiny
RUN mkdir /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
END
docker build -t $world_registry/app/denied:1 . || exit 77
try denied docker push $world_registry/app/denied:1
docker tag x:1 $world_registry/app/denied:good
try good docker push $world_registry/app/denied:good"

    expect_eq "$STATE" success
    expect_step tag 1 "is where a registry lists an image's signatures"
    expect_absent "app/taker:$taken"
    expect_step denied 1 CVE-2020-14343
    expect_absent app/denied:1
    # The control: what passes is signed there, and its list is the only one.
    expect_step good 0
    expect_eq "$(env_skopeo list-tags --creds slipway:only-slipway-knows-this "docker://$world_registry/app/denied" | jq -r '.Tags | sort | join(" ")')" \
        "good $(world_registry_digest app/denied:good | tr : -)"
}

TEST "a signer that hangs or fails keeps the tag away, and the job says so" {
    signed_by "command = [\"/bin/sleep\", \"600\"]
timeout = \"1s\"
public_key_file = \"$world_dir/etc/signing.pub\""
    run_script 2804 "$(build_script 2804)
docker tag x:1 $world_registry/app/unsigned:1
docker push $world_registry/app/unsigned:1"
    signed_by "key_file = \"$world_dir/etc/signing.key\""

    expect_contains "$STATE" failed
    expect_contains "$TRACE" "the signing command /bin/sleep failed: it did not end within 1 s"
    expect_absent app/unsigned:1
}

# make_token PIN: a token of SoftHSM with a key that never leaves it; its public half is token.pub.
make_token() {
    local etc=$world_dir/etc module=/usr/lib/softhsm/libsofthsm2.so
    mkdir "$etc/tokens"
    echo "directories.tokendir = $etc/tokens" >"$etc/softhsm2.conf"
    export SOFTHSM2_CONF=$etc/softhsm2.conf
    softhsm2-util --init-token --free --label slipway --pin "$1" --so-pin 08150815
    pkcs11-tool --module "$module" --login --pin "$1" --keypairgen --key-type EC:prime256v1 --label signing --id 01
    pkcs11-tool --module "$module" --read-object --type pubkey --id 01 --output-file "$CASE_DIR/token.der"
    unset SOFTHSM2_CONF
    openssl pkey -pubin -inform DER -in "$CASE_DIR/token.der" -out "$etc/token.pub"
    printf '%s\n' "$1" >"$etc/pin"
    chmod 400 "$etc/pin"
    chown -R "$world_user" "$etc/pin" "$etc/tokens"
}

signed_by_token() {
    signed_by "pkcs11_module = \"/usr/lib/softhsm/libsofthsm2.so\"
pkcs11_uri = \"pkcs11:token=slipway;object=signing?pin-source=file:$1\"
pkcs11_environment = [\"SOFTHSM2_CONF=$world_dir/etc/softhsm2.conf\"]
public_key_file = \"$world_dir/etc/token.pub\""
}

# While the list of signatures is on its way, with what slipway-push has then.
look_at_workers() {
    local pid
    until_true 120 something_waits
    for pid in $(worker_pids); do cat "/proc/$pid/maps"; done >maps || true
    hunt pin "${places[@]}" >held || true
    hunt pin "$world_dir/etc" >where-it-is || true
    write "$world_dir/faults.json" '{}'
}

TEST "a key in a token signs as one in a file does, and neither PIN nor module comes into slipway-push" {
    places=("$world_state_dir" "$env_runtime_dir" "$world_dir/log" "$world_dir/runner" "$env_home" "$CASE_DIR/jobs" /dev/shm)
    make_token "$(openssl rand -hex 12)" >token.log
    cp "$world_dir/etc/pin" pin
    signed_by_token "$world_dir/etc/pin"
    : >"$world_dir/log/requests"
    write "$world_dir/faults.json" '{"hold": true, "method": "PUT", "path": "/manifests/sha256-"}'
    look_at_workers &
    run_script 2805 "$(build_script 2805)
docker tag x:1 $proxy/app/token:1
docker push $proxy/app/token:1"
    wait

    expect_eq "$STATE" success
    verify verify "$world_dir/etc/token.pub" app/token:1 >/dev/null
    verify verify-attestation "$world_dir/etc/token.pub" app/token:1 --type slsaprovenance1 >/dev/null
    refuses "could not verify envelope" verify "$world_dir/etc/signing.pub" app/token:1
    # The controls: these are slipway-push, and the hunt finds the PIN where it is.
    expect_contains "$(cat maps)" slipway-push
    grep -q "^file $world_dir/etc/pin$" where-it-is
    expect_eq "$(grep -c softhsm maps)" 0 "modules in slipway-push"
    expect_eq "$(grep -c '^searched ' held)" 1 "hunts that came to their end"
    expect_eq "$(sed '/^searched/d; /^$/d' held)" "" "places with the PIN, once it signed"

    # Whose PIN is wrong has no signature and no tag; the job says why, and not with which.
    wrong_pin=$(openssl rand -hex 12)
    printf '%s\n' "$wrong_pin" >"$world_dir/etc/wrong-pin"
    chown "$world_user" "$world_dir/etc/wrong-pin"
    signed_by_token "$world_dir/etc/wrong-pin"
    run_script 2806 "$(build_script 2806)
docker tag x:1 $world_registry/app/wrong-pin:1
docker push $world_registry/app/wrong-pin:1"
    signed_by "key_file = \"$world_dir/etc/signing.key\""
    expect_contains "$STATE" failed
    expect_contains "$TRACE" "C_Login failed"
    [[ $TRACE != *"$wrong_pin"* ]] || fail "the PIN is in the job log"
    expect_absent app/wrong-pin:1
}

# simple ARGS...: cosign looks for a signature in the older form alone.
simple() { verify verify "$1" "$2" --new-bundle-format=false; }

TEST "a signature in the older form joins those of others under its tag, and cosign verifies each" {
    signed_by "key_file = \"$world_dir/etc/signing.key\"
formats = [\"bundle\", \"simple\"]"
    run_script 2807 "$(build_script 2807)
docker tag x:1 $world_registry/app/simple:1
docker push $world_registry/app/simple:1"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "signed   before it was tagged: signature, provenance, SBOM"
    simple "$world_dir/etc/signing.pub" app/simple:1 >signatures
    digest=$(world_registry_digest app/simple:1)
    expect_eq "$(jq -r '.[0].critical | "\(.image["docker-manifest-digest"]) \(.identity["docker-reference"])"' signatures)" \
        "$digest $world_registry/app/simple"
    verify verify "$world_dir/etc/signing.pub" app/simple:1 >/dev/null # the bundle is there, too
    ! simple "$world_dir/etc/other.pub" app/simple:1 || fail "another key's signature is found"

    # Another one's signature, as cosign itself puts it there.
    COSIGN_PASSWORD='' "$tool/bin/cosign" import-key-pair --key "$world_dir/etc/other.key" --output-key-prefix theirs
    env -i HOME="$CASE_DIR" COSIGN_PASSWORD= "$tool/bin/cosign" sign --yes --key theirs.key --tlog-upload=false --new-bundle-format=false \
        --use-signing-config=false --registry-username slipway --registry-password only-slipway-knows-this \
        --registry-cacert "$env_tls/ca.pem" "$world_registry/app/simple@$digest"
    run_script 2808 "docker pull $world_registry/app/simple:1
docker tag $world_registry/app/simple:1 $world_registry/app/simple:2
docker push $world_registry/app/simple:2"
    expect_eq "$STATE" success
    for key in signing other; do simple "$world_dir/etc/$key.pub" app/simple:2 >/dev/null; done
    expect_eq "$(world_registry_digest app/simple:2)" "$digest"
    expect_eq "$(env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/app/simple:${digest/:/-}.sig" |
        jq '.layers | length')" 2 "signatures: one of each key"

    # Of an index, whoever takes the image of one platform by its digest finds that signed, in both forms.
    run_script 2810 "for one in amd64 386; do docker build -q --platform linux/\$one --build-arg N=\$one -t $world_registry/app/listed:\$one - <<END || exit 77
FROM $tiny
ARG N
LABEL n=\$one
END
done
docker push -q $world_registry/app/listed:386 || exit 78
docker manifest create $world_registry/app/list:1 $world_registry/app/listed:amd64 $world_registry/app/listed:386 && docker manifest push $world_registry/app/list:1"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "SBOM; a signature of each image"
    env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/app/list:1" | jq -r '.manifests[].digest' >children
    expect_eq "$(wc -l <children)" 2
    while read -r digest; do
        simple "$world_dir/etc/signing.pub" "app/list@$digest" >/dev/null
        verify verify "$world_dir/etc/signing.pub" "app/list@$digest" >/dev/null
        ! simple "$world_dir/etc/other.pub" "app/list@$digest" || fail "another key's signature is found"
        refuses "none of the attestations matched" verify-attestation "$world_dir/etc/signing.pub" "app/list@$digest" --type slsaprovenance1
    done <children
    verify verify-attestation "$world_dir/etc/signing.pub" app/list:1 --type slsaprovenance1 >/dev/null

    # The control: without the word in formats there is none.
    signed_by "key_file = \"$world_dir/etc/signing.key\""
    run_script 2809 "$(build_script 2809)
docker tag x:1 $world_registry/app/bundled:1
docker push $world_registry/app/bundled:1"
    expect_eq "$STATE" success
    ! simple "$world_dir/etc/signing.pub" app/bundled:1 || fail "there is a signature in the older form"
}
