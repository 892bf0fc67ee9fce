# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What slipway signs about an image, read by others: openssl(1) and jq take apart what the registry holds.

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
    make_key "$world_dir/etc/signing"
    make_key "$world_dir/etc/other"
    chown "$world_user" "$world_dir/etc/signing.key"
    signing_config "key_file = \"$world_dir/etc/signing.key\""
}

SUITE_TEARDOWN() {
    world_stop
}

make_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    openssl pkey -in "$1.key" -pubout -out "$1.pub"
    chmod 400 "$1.key"
}

signing_config() {
    world_write_config "$world_config"
    printf '\n[signing]\nbuilder_id = "https://ci.example/slipway"\n%s\n' "$1" >>"$world_config"
}

push_script() {
    printf 'printf "FROM %s\\nRUN echo %s >/number\\n" >Dockerfile\ndocker build -t %s . || exit 77\ndocker push %s\n' \
        "$world_busybox" "$1" "$world_registry/app/$2" "$world_registry/app/$2"
}

raw() { env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/$1"; }

# blob DIGEST: from the registry's own store.
blob() {
    local hex=${1#sha256:}
    cat "$env_dir/registry/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
}

# statements REPOSITORY DIGEST KEY: the statements on DIGEST whose signatures KEY made, one a line; fails where there is none.
statements() {
    local one layer found=1
    for one in $(raw "$1:${2/:/-}" | jq -r '.manifests[] | select(.artifactType == "application/vnd.dev.sigstore.bundle.v0.3+json").digest'); do
        blob "$one" >"$CASE_DIR/manifest" || return 1
        [[ $(jq -r .subject.digest "$CASE_DIR/manifest") == "$2" ]] || return 1
        layer=$CASE_DIR/layer
        blob "$(jq -r '.layers[0].digest' "$CASE_DIR/manifest")" >"$layer" || return 1
        jq -r .dsseEnvelope.payload "$layer" | base64 -d >"$CASE_DIR/payload"
        jq -r '.dsseEnvelope.signatures[0].sig' "$layer" | base64 -d >"$CASE_DIR/signature"
        {
            printf 'DSSEv1 28 application/vnd.in-toto+json %s ' "$(stat -c %s "$CASE_DIR/payload")"
            cat "$CASE_DIR/payload"
        } >"$CASE_DIR/signed"
        openssl dgst -sha256 -verify "$3" -signature "$CASE_DIR/signature" "$CASE_DIR/signed" >/dev/null 2>&1 || continue
        [[ $(jq -r '.subject[0].digest.sha256' "$CASE_DIR/payload") == "${2#sha256:}" ]] || return 1
        cat "$CASE_DIR/payload"
        echo
        found=0
    done
    return "$found"
}

TEST "an image is signed with its provenance before it is tagged, and another key did not sign it" {
    run_script 2801 "$(push_script 2801 signed:1)
grep -rl 'BEGIN PRIVATE KEY' /etc /builds /proc/[0-9]*/environ 2>/dev/null && echo found-'the-key'
test -e $world_dir/etc/signing.key && echo found-'the-key'
true"

    expect_eq "$STATE" success
    expect_lacks "$TRACE" found-the-key
    expect_contains "$TRACE" "signed   before it was tagged"
    digest=$(world_registry_digest app/signed:1)
    said=$(statements app/signed "$digest" "$world_dir/etc/signing.pub")
    expect_eq "$(jq -r .predicateType <<<"$said" | sort)" $'https://sigstore.dev/cosign/sign/v1\nhttps://slsa.dev/provenance/v1'
    provenance=$(jq -c 'select(.predicateType | contains("slsa")).predicate' <<<"$said")
    expect_eq "$(jq -r .runDetails.builder.id <<<"$provenance")" https://ci.example/slipway
    expect_contains "$(jq -r .buildDefinition.internalParameters.backend <<<"$provenance")" buildkit
    expect_eq "$(jq -r '[.buildDefinition.resolvedDependencies[].name | select(. == "Dockerfile")] | length' <<<"$provenance")" 1
    if statements app/signed "$digest" "$world_dir/etc/other.pub"; then fail "the other key verifies"; fi
    base=$(world_registry_digest "${world_busybox#*/}")
    if statements base/busybox "$base" "$world_dir/etc/signing.pub" 2>/dev/null; then fail "an unsigned image verifies"; fi
}

TEST "a signer that fails keeps the tag away, and the job says so" {
    signing_config "command = [\"/bin/false\"]
public_key_file = \"$world_dir/etc/signing.pub\""
    run_script 2803 "$(push_script 2803 unsigned:1)" || true
    signing_config "key_file = \"$world_dir/etc/signing.key\""

    expect_contains "$STATE" failed
    expect_contains "$TRACE" "the signing command /bin/false failed: it ended with exit code 1"
    expect_absent app/unsigned:1
}
