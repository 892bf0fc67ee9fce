# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The gate between a job's images and the registry: what it refuses, what it says, and that it never fails open.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/gate_steps.sh
. "$SUITE_ROOT/tests/lib/gate_steps.sh"

SUITE_ONCE=1

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
}

SUITE_TEARDOWN() {
    world_stop
}

stored_in_registry() { find "$world_dir/registry/docker/registry/v2/blobs" -name data | sort; }

TEST "a vulnerable image is refused with CVE, package, fixed version and what to do, and the registry keeps nothing of it" {
    local before
    before=$(stored_in_registry)
    run_steps 4001 "cat >Dockerfile <<'END'
FROM $tiny
RUN mkdir -p /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA
END
docker build -q -t $world_registry/grp/app/vulnerable:1 .
try push docker push $world_registry/grp/app/vulnerable:1
try buildx docker buildx build --push -t $world_registry/grp/app/vulnerable:2 .
docker save $world_registry/grp/app/vulnerable:1 | docker load
try again docker push $world_registry/grp/app/vulnerable:1"

    expect_eq "$STATE" success
    expect_step push 1 "Gate: denied" "CRITICAL  CVE-2020-14343  PyYAML 5.3, fixed in 5.4" "What to do: upgrade PyYAML to 5.4 or later" \
        "Brought by: Dockerfile:2, RUN /bin/sh -c mkdir -p /usr/lib/python3"
    expect_step buildx 1 CVE-2020-14343
    expect_step again 1 CVE-2020-14343
    expect_contains "$TRACE" "refused  $world_registry/grp/app/vulnerable:1"
    expect_absent grp/app/vulnerable:1
    expect_absent grp/app/vulnerable:2
    expect_eq "$(stored_in_registry)" "$before" "blobs of the registry"
    [[ ! -e $world_dir/registry/docker/registry/v2/repositories/grp/app/vulnerable ]]
}

TEST "findings without a fix are reported, and block where the project's policy says so" {
    gate_config strict "" '[[rule]]
project = "strict/*"
fixed_only = false
repositories = ["*"]'
    run_steps 4002 "$(push_base reported)"
    expect_eq "$STATE" success
    expect_step push-reported 0 "digest: sha256:"
    run_steps 4003 "$(push_base unfixed)" '.job_info.project_full_path = "strict/app"'
    expect_step push-unfixed 1 "CVE-2023-45853" "fixed in no version yet" "no fixed version is known"
    expect_absent grp/app/unfixed:1
    # What the job says about its project counts for nothing.
    run_steps 4004 "$(push_base faked)" '.job_info.project_full_path = "strict/app"
        | .variables |= map(if .key == "CI_PROJECT_PATH" then .value = "grp/app" else . end)'
    expect_step push-faked 1 "CVE-2023-45853"
    expect_absent grp/app/faked:1
}

TEST "secrets, images without an operating system and without a package database are refused" {
    local key
    key=$(openssl genrsa 2048 2>/dev/null | base64 -w 0)
    run_steps 4005 "mkdir secret && base64 -d <<<'$key' >secret/id_rsa && printf 'FROM $tiny\nCOPY id_rsa /root/.ssh/id_rsa\n' >secret/Dockerfile
mkdir removed && cp secret/id_rsa removed/ && printf 'FROM $tiny\nCOPY id_rsa /root/.ssh/id_rsa\nRUN rm /root/.ssh/id_rsa\n' >removed/Dockerfile
mkdir nodpkg && printf 'FROM $tiny\nRUN rm -rf /var/lib/dpkg\n' >nodpkg/Dockerfile
mkdir noos && printf 'FROM $world_busybox\nCOPY Dockerfile /x\n' >noos/Dockerfile
for name in secret removed nodpkg noos; do
    docker build -q -t $world_registry/grp/app/\$name:1 \$name || true
    try push-\$name docker push $world_registry/grp/app/\$name:1
done"

    expect_eq "$STATE" success
    expect_step push-secret 1 "Gate: denied" "secret in /root/.ssh/id_rsa" "revoke it"
    expect_step push-removed 1 "Gate: denied" "id_rsa" "also of earlier layers"
    expect_step push-nodpkg 1 "[no_packages]" "Keep /var/lib/dpkg"
    expect_step push-noos 1 "Gate: denied" "[no_os]"
    for name in secret removed nodpkg noos; do expect_absent "grp/app/$name:1"; done
}

TEST "a static program on scratch is refused, and passes where a rule allows it and its parts can be read" {
    local tool
    tool=$("$env_root/packaging/tools/build" trivydb)
    mkdir root
    cp "$tool/bin/make-trivy-db" root/app
    tar --numeric-owner --owner=0 --group=0 -C root -cf root.tar .
    image_layout root.tar layout 1 --cmd /app
    push_image_to_registry layout:1 base/static:1 slipway only-slipway-knows-this
    local script="mkdir go none
printf 'FROM scratch\nCOPY --from=$world_registry/base/static:1 /app /app\n' >go/Dockerfile
printf 'FROM scratch\nCOPY Dockerfile /x\n' >none/Dockerfile
for name in go none; do docker build -q -t $world_registry/grp/app/scratch-\$name:1 \$name; try push-\$name docker push $world_registry/grp/app/scratch-\$name:1; done"
    run_steps 4006 "$script"
    expect_step push-go 1 "[no_os]" "allow scratch images"
    expect_absent grp/app/scratch-go:1

    gate_config scratch "" '[[rule]]
project = "grp/*"
allow_scratch = true'
    run_steps 4007 "$script"
    expect_step push-go 0 "digest: sha256:"
    expect_step push-none 1 "[scratch_no_packages]" "No operating system and no language package"
    expect_absent grp/app/scratch-none:1
}

TEST "a static program that no scanner can read passes by an SBOM that a policy owner signed, as long as what that names may pass" {
    local dir=$world_dir/etc-sbom document
    mkdir root
    cc -static -O1 -o root/app -x c - <<<'int main(void) { return 0; }'
    tar --numeric-owner --owner=0 --group=0 -C root -cf root.tar .
    image_layout root.tar layout 1 --cmd /app
    push_image_to_registry layout:1 base/plain:1 slipway only-slipway-knows-this
    gate_config sbom 's|^\[gate\]|&\nsbom_files = ["'"$dir"'/app.cdx.json"]\nsbom_keys = ["'"$dir"'/owner.pub"]|' '[[rule]]
project = "grp/*"
allow_scratch = true'
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$CASE_DIR/owner.key" 2>/dev/null
    openssl pkey -in "$CASE_DIR/owner.key" -pubout -out "$dir/owner.pub"
    document=$dir/app.cdx.json
    # sign_sbom OPENSSL FILE
    sign_sbom() {
        jq -n --arg version "$1" --arg file "$(sha256sum "$2" | cut -d' ' -f1)" '{bomFormat: "CycloneDX", specVersion: "1.6", version: 1, components: [
            {type: "operating-system", name: "alpine", version: "3.21.3"},
            {type: "file", name: "/app", hashes: [{alg: "SHA-256", content: $file}]},
            {type: "library", name: "openssl", version: $version, purl: "pkg:apk/alpine/openssl@\($version)?distro=3.21.3"}]}' >"$document"
        openssl dgst -sha256 -sign "$CASE_DIR/owner.key" -out "$document.sig" "$document"
        chmod 644 "$dir"/*.pub "$dir"/app.*
    }
    # push_plain ID NAME: pushes the program on scratch, twice.
    push_plain() {
        run_steps "$1" "mkdir plain
printf 'FROM scratch\nCOPY --from=$world_registry/base/plain:1 /app /app\n' >plain/Dockerfile
docker build -q -t $world_registry/grp/app/$2:1 plain
try push docker push $world_registry/grp/app/$2:1
try again docker push $world_registry/grp/app/$2:1"
    }

    sign_sbom 3.3.3-r0 layout/index.json
    push_plain 4060 other
    expect_step push 1 "[scratch_no_packages]" "none names app (sha256:$(sha256sum root/app | cut -d' ' -f1))"
    expect_absent grp/app/other:1
    sign_sbom 3.3.2-r0 root/app
    push_plain 4061 vulnerable-sbom
    expect_step push 1 "CVE-2024-12797  openssl 3.3.2-r0, fixed in" "app.cdx.json (signed with owner.pub)"
    expect_absent grp/app/vulnerable-sbom:1
    sign_sbom 3.3.3-r0 root/app
    push_plain 4062 described
    expect_step push 0 "digest: sha256:"
    expect_contains "$TRACE" "was judged by what the SBOM app.cdx.json (signed with owner.pub) names"
    echo ' ' >>"$document"
    push_plain 4063 changed
    expect_step push 1 "[scratch_no_packages]" "an SBOM of the policy covers nothing until the operator has mended $document"
    expect_absent grp/app/changed:1
}

TEST "a licence that the policy denies and a misconfiguration that it wants looked for block, and name package and remedy" {
    gate_config licences "" '[[rule]]
project = "*"
misconfig_threshold = "high"
denied_licenses = ["AGPL-*"]
repositories = ["*"]'
    # image_of NAME LICENCE LINES: pushes one with a Python package under that licence.
    image_of() {
        echo "mkdir $1; printf 'Metadata-Version: 2.1\nName: some\nVersion: 1.0\nLicense: $2\n' >$1/METADATA
printf 'FROM $tiny\nCOPY METADATA /usr/lib/python3/dist-packages/some-1.0.dist-info/METADATA\n$3' >$1/Dockerfile
docker build -q -t $world_registry/grp/app/$1:1 $1; try $1 docker push $world_registry/grp/app/$1:1"
    }
    run_steps 4065 "export SLIPWAY_REPORT_DIR=reports
$(image_of licence AGPL-3.0-only 'USER 1000\n')
try verdict cat \"\$CI_PROJECT_DIR/reports/slipway-verdict.json\"
$(image_of root MIT '')
$(image_of good MIT 'USER 1000\n')"

    expect_step licence 1 "HIGH  AGPL-3.0-only  licence of some 1.0"
    expect_lacks "$(step_says licence)" DS-0002
    expect_step verdict 0 '"kind":"license"' '"package":"some"'
    expect_absent grp/app/licence:1
    expect_step root 1 "HIGH  DS-0002  misconfiguration of the image" "What to do: Add 'USER <non root user name>'"
    expect_absent grp/app/root:1
    expect_step good 0 "digest: sha256:"
}

TEST "a package that has another version in the database alone, or is taken out of it, is denied, and one that was upgraded or purged is not" {
    local take_out="sed -i '/^Package: zlib1g\$/,/^\$/d' /var/lib/dpkg/status"
    local purge="dpkg --purge --force-depends zlib1g"
    local forge="sed -i '/^Package: zlib1g\$/,/^\$/ s/^Version: .*/Version: 9:9.9/' /var/lib/dpkg/status"
    gate_config forged ""
    # image_with NAME COMMAND
    image_with() {
        echo "mkdir $1; printf 'FROM $world_base\nRUN %s\n' \"\$(cat <<'END'
$2
END
)\" >$1/Dockerfile
docker build -q -t $world_registry/grp/app/$1:1 $1; try $1 docker push $world_registry/grp/app/$1:1"
    }
    run_steps 4066 "$(image_with forged "$forge")
$(image_with removed "$take_out")
$(image_with purged "$purge")
$(image_with upgraded "$forge && for file in \$(grep '/libz' /var/lib/dpkg/info/zlib1g*.list); do cp \$file /new && mv /new \$file; done")"

    expect_step forged 1 "[package_forged] zlib1g of the image for linux/" "is said to be 9:9.9 of zlib instead of 1:"
    expect_absent grp/app/forged:1
    expect_step upgraded 0 "digest: sha256:"
    expect_step removed 1 "[package_removed] zlib1g 1:" "of the image for linux/" "its files are still there (" "/libz.so.1"
    expect_absent grp/app/removed:1
    expect_step purged 0 "digest: sha256:"
}

# base_with_rpm: $rpms, the tiny Debian with rpm, and openssl 3.0.6, macros 1 and a newer one of each in /opt; macros 2 has the
# file of macros 1, as it was.
base_with_rpm() {
    local root=$CASE_DIR/rpms package
    mkdir -p "$root"/{opt,usr/lib/rpm,var/lib/rpm,var/tmp}
    (cd "$root" && with_program "$(command -v rpm)")
    cp -r /usr/lib/rpm/{macros,rpmrc,platform} "$root/usr/lib/rpm/"
    for package in openssl-3.0.6 openssl-3.0.8 macros-1 macros-2; do
        cat >"$CASE_DIR/rpm.spec" <<END
Name: ${package%-*}
Version: ${package##*-}
Release: 1
Summary: s
License: x
BuildArch: noarch
%description
d
%install
mkdir -p %{buildroot}/usr/share/${package%-*}
echo $([[ $package == macros-* ]] || echo "$package") >%{buildroot}/usr/share/${package%-*}/file
touch -d @1000000000 %{buildroot}/usr/share/${package%-*}/file
%files
/usr/share/${package%-*}/file
END
        rpmbuild -bb --quiet --define "_topdir $CASE_DIR/top" --define "_rpmdir $root/opt" --define "_build_name_fmt $package.rpm" \
            "$CASE_DIR/rpm.spec"
    done
    python3 "$env_lib/add_layer.py" --base "$SUITE_DIR/tiny-layout" --layout "$CASE_DIR/rpms-layout" --tag 1 --folder "$root"
    push_image_to_registry "$CASE_DIR/rpms-layout:1" base/rpms:1 slipway only-slipway-knows-this
    rpms=$world_registry/base/rpms:1
}

TEST "an rpm of another version in the database alone, or taken out of it, is denied, and one that rpm upgraded or removed is not, also with its files as they were" {
    local rpms rpm="/usr/bin/rpm --dbpath /var/lib/rpm --nodeps --force-debian" # busybox has another one
    base_with_rpm
    gate_config rpms ""
    # image_with NAME ARGUMENTS
    image_with() {
        echo "mkdir $1; printf 'FROM $rpms\nRUN $rpm -i /opt/openssl-3.0.6.rpm /opt/macros-1.rpm\nRUN $rpm $2\n' >$1/Dockerfile
docker build -q -t $world_registry/grp/app/rpm-$1:1 $1; try $1 docker push $world_registry/grp/app/rpm-$1:1"
    }
    run_steps 4067 "$(image_with forged "-U --justdb /opt/openssl-3.0.8.rpm")
$(image_with removed "-e --justdb openssl")
$(image_with upgraded "-U /opt/openssl-3.0.8.rpm")
$(image_with same "-U /opt/macros-2.rpm")
$(image_with erased "-e openssl")"

    expect_step forged 1 "[package_forged] openssl of the image for linux/" "is said to be 3.0.8-1.noarch" "instead of 3.0.6-1.noarch"
    expect_absent grp/app/rpm-forged:1
    expect_step removed 1 "[package_removed] openssl 3.0.6-1" "its files are still there (usr/share/openssl/file)"
    expect_absent grp/app/rpm-removed:1
    expect_step upgraded 0 "digest: sha256:"
    expect_step same 0 "digest: sha256:"
    expect_step erased 0 "digest: sha256:"
}

TEST "no scanner, a hanging, crashing or babbling one, and one that is not the pinned one never let an image pass" {
    gate_config missing "s|^trivy = .*|trivy = \"/nonexistent/trivy\"|"
    run_steps 4011 "$(push_base missing)"
    expect_refused missing scanner_untrusted "cannot read the scanner /nonexistent/trivy"

    gate_config pin "s|^trivy_sha256 = .*|trivy_sha256 = \"$(printf '0%.0s' {1..64})\"|"
    run_steps 4012 "$(push_base pin)"
    expect_refused pin scanner_untrusted "is not the pinned scanner"

    gate_scanner hanging 'signal(SIGTERM, SIG_IGN); for (;;) pause();' 's|^\[gate\]|&\ntimeout = "10s"|'
    run_steps 4013 "$(push_base hanging)"
    expect_refused hanging scanner_timed_out "did not finish"
    expect_eq "$(with_cgroup2_as_user podman ps --quiet --filter label=io.slipway.role=scanner)" "" "scanners that still run"

    gate_scanner crashing 'fputs("last words\n", stderr); raise(SIGSEGV);'
    run_steps 4014 "$(push_base crashing)"
    expect_refused crashing scanner_failed "last words"

    gate_scanner babbling 'puts("Everything is fine, trust me");'
    run_steps 4015 "$(push_base babbling)"
    expect_refused babbling report_invalid

    gate_scanner silent ''
    run_steps 4016 "$(push_base silent)"
    expect_refused silent scanner_failed "wrote no report"

    gate_scanner empty 'puts("{\"SchemaVersion\": 2, \"Results\": []}");'
    run_steps 4017 "$(push_base empty)"
    expect_step push-empty 1 "Gate: "
    expect_absent grp/app/empty:1

    gate_scanner endless 'char block[65536]; memset(block, 32, sizeof block); while (fwrite(block, 1, sizeof block, stdout)) {}'
    run_steps 4018 "$(push_base endless)"
    expect_step push-endless 1 "could not judge"
    expect_absent grp/app/endless:1
}

TEST "doctor names a scanner that is missing, not the pinned one, malicious or silent; the right one finds what it is shown" {
    ask_doctor() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" doctor; }
    OUTPUT=$(ask_doctor) || true
    expect_contains "$OUTPUT" ": trivy 0.69.3, the pinned one, finds a vulnerability that it is shown"

    gate_config unpinned "/^trivy_sha256/d"
    OUTPUT=$(ask_doctor) || true
    expect_contains "$OUTPUT" ": trivy 0.69.3, not pinned, finds a vulnerability that it is shown"

    gate_config no-scanner "s|^trivy = .*|trivy = \"/nonexistent/trivy\"|"
    expect_status 1 ask_doctor
    expect_contains "$OUTPUT" "problem: cannot read the scanner /nonexistent/trivy"

    gate_config another "s|^trivy_sha256 = .*|trivy_sha256 = \"$(printf '0%.0s' {1..64})\"|"
    expect_status 1 ask_doctor
    expect_contains "$OUTPUT" "is not the pinned scanner"
    expect_contains "$OUTPUT" "/bin/trivy: is not started"

    gate_scanner stolen 'puts("{\"SchemaVersion\": 2, \"Trivy\": {\"Version\": \"0.69.4\"}, \"Metadata\": {}, \"Results\": []}");'
    expect_status 1 ask_doctor
    expect_contains "$OUTPUT" "problem: Trivy 0.69.4 is a known malicious release"
    expect_contains "$OUTPUT" "problem: The scanner does not find CVE-"
    expect_eq "$(with_cgroup2_as_user podman ps --all --quiet --filter label=io.slipway.role=scanner)" "" "scanners"
}

TEST "a vulnerability database that is missing, broken or too old denies; one of yesterday only warns" {
    local old=$world_dir/old-db age
    rm -rf "$old"
    gate_config db "s|^db_dir = .*|db_dir = \"$old/db\"|"
    run_steps 4021 "$(push_base nodb)"
    expect_refused nodb db_missing "There is no vulnerability DB in $old/db"

    make_vulnerability_db "$old" "$(date -u -d '-6 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 4022 "$(push_base stale)"
    expect_refused stale db_stale "old, the policy allows 120 h" "The operator has to update it"

    make_vulnerability_db "$old" "$(date -u -d '+3 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 4023 "$(push_base future)"
    expect_refused future db_from_future "Check the clock"

    make_vulnerability_db "$old" "$(date -u -d '-30 hours' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 4024 "$(push_base yesterday)"
    expect_step push-yesterday 0 "warning: the vulnerability DB is 30 h old"

    head -c 100000 /dev/urandom >"$old/db/trivy.db"
    run_steps 4025 "$(push_base broken)"
    expect_refused broken scanner_failed

    make_vulnerability_db "$old"
    echo '{"Version": 2}' >"$old/db/metadata.json"
    run_steps 4026 "$(push_base noage)"
    expect_refused noage db_invalid "no UpdatedAt"
}

TEST "a mirror's database is taken once the operator's key has signed it; a push is judged with it, and what is older stays out" {
    local key=$CASE_DIR/key digest dir=$world_state_dir/mirrored
    mirror() { # UPDATED_AT: the registry's trivy-db:2, not signed yet
        rm -rf "$CASE_DIR/made" "$CASE_DIR/cache"
        make_vulnerability_db "$CASE_DIR/cache" "$1"
        tar -C "$CASE_DIR/cache/db" -czf "$CASE_DIR/db.tar.gz" trivy.db metadata.json
        digest=$(python3 "$env_lib/db_artifact.py" "$CASE_DIR/db.tar.gz" "$key" "$CASE_DIR/made")
        push_image_to_registry "$CASE_DIR/made/artifact:1" mirror/trivy-db:2 slipway only-slipway-knows-this
    }
    sign() {
        push_image_to_registry "$CASE_DIR/made/signature:1" "mirror/trivy-db:sha256-${digest#sha256:}.sig" slipway only-slipway-knows-this
    }
    db() { "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" db "$@"; }
    openssl ecparam -name prime256v1 -genkey -noout -out "$key"
    gate_config mirror "s|^db_dir = .*|db_dir = \"$dir\"|"
    openssl pkey -in "$key" -pubout -out "$world_dir/etc-mirror/db.pub"
    printf '[db]\nkey_file = "%s"\ncanary = ["debian 12/zlib/CVE-2023-45853"]\n[[db_source]]\nimage = "%s"\n' \
        "$world_dir/etc-mirror/db.pub" "$world_registry/mirror/trivy-db:2" >>"$world_config"
    expect_status 2 db status

    mirror "$(date -u -d '-30 hours' +%Y-%m-%dT%H:%M:%SZ)"
    expect_status 1 db update
    expect_contains "$OUTPUT" "is not signed: there is no $world_registry/mirror/trivy-db:sha256-"
    sign
    expect_status 0 db update
    expect_contains "$OUTPUT" "$world_registry/mirror/trivy-db:2, $digest"
    expect_status 1 db status --json
    expect_eq "$(jq -r '[.state, .digest, .accepted, .advisories.debian > 0] | map(tostring) | join(" ")' <<<"$OUTPUT")" \
        "old $digest signed with [db] key_file true"
    run_steps 4071 "$(push_base mirrored)"
    expect_step push-mirrored 0 "warning: the vulnerability DB is 30 h old" "digest: sha256:"

    mirror "$(date -u -d '-40 hours' +%Y-%m-%dT%H:%M:%SZ)"
    sign
    expect_status 1 db update
    expect_contains "$OUTPUT" "older than the one in force"
    mirror "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    sign
    expect_status 0 db update
    expect_status 0 db status
    expect_status 0 db rollback
    expect_status 1 db status
    grep -q '"event":"db_rollback"' "$world_state_dir/audit.jsonl"
}

TEST "a mirror's Java DB is taken by the same key, and with it what holds a .jar is judged" {
    local key=$CASE_DIR/key mirror=$CASE_DIR/java dir=$world_state_dir/mirrored-java jar
    db() { "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" db "$@"; }
    chmod 755 "$CASE_DIR"
    python3 "$env_lib/java_samples.py" "$CASE_DIR"
    mv "$CASE_DIR/java-db" "$mirror"
    chmod 755 "$mirror" && chmod 644 "$mirror"/*
    jar=$(base64 -w0 "$CASE_DIR/unnamed.jar")
    openssl genpkey -algorithm ED25519 -out "$key"
    gate_config java "/^db_dir = /a java_db_dir = \"$dir\""
    openssl pkey -in "$key" -pubout -out "$world_dir/etc-java/db.pub"
    printf '[db]\nkey_file = "%s"\n[[db_source]]\nkind = "java"\npath = "%s"\n' "$world_dir/etc-java/db.pub" "$mirror" >>"$world_config"
    push_jar() { # NAME
        echo "mkdir /tmp/$1 && cd /tmp/$1 && echo $jar | base64 -d >lib.jar && printf 'FROM $tiny\nCOPY lib.jar /lib.jar\n' >Dockerfile
docker build -q -t $world_registry/grp/app/$1:1 . && try push-$1 docker push $world_registry/grp/app/$1:1"
    }

    run_steps 4075 "$(push_jar before)"
    expect_refused before java_db_missing
    expect_status 1 db update
    expect_contains "$OUTPUT" "is not signed: there is no $mirror.sig"
    db digest --java "$mirror" >"$CASE_DIR/line"
    grep -q '^slipway trivy-java-db sha256:' "$CASE_DIR/line"
    openssl pkeyutl -sign -rawin -inkey "$key" -in "$CASE_DIR/line" -out "$mirror.sig"
    chmod 644 "$mirror.sig"
    expect_status 0 db update
    expect_contains "$OUTPUT" "$dir: updated, of 2026-11-20T00:00:00Z"
    run_steps 4076 "$(push_jar after)"
    expect_step push-after 0 "digest: sha256:"
    expect_status 0 db status --json
    expect_eq "$(jq -r '[.java_state, .java_source, .java_accepted] | join(" ")' <<<"$OUTPUT")" "present $mirror signed with [db] key_file"
    expect_status 1 db rollback --java
    expect_contains "$OUTPUT" "there is no former trivy-java-db to go back to"
}

TEST "reports on a push lie in the workspace where the job wants them, also when it was denied, and none on what it did not push" {
    gate_config reports "" '[[rule]]
project = "grp/*"
fixed_only = false'
    # shellcheck disable=SC2016
    run_steps 4081 'export SLIPWAY_REPORT_DIR=reports/denied
'"$(push_base in-files)"'
try json cat "$CI_PROJECT_DIR/reports/denied/gl-container-scanning-report.json"
try list ls "$CI_PROJECT_DIR/reports/denied"
docker build -q -t '"$world_registry"'/grp/app/unpushed:1 - <<<"FROM '"$tiny"'"
ask() { perl -MIO::Socket::UNIX -e '"'"'my $s = IO::Socket::UNIX->new("/var/run/docker.sock") or die; print $s "GET /slipway/v1/reports?$ARGV[0] HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"; print while <$s>'"'"' "format=$1&image='"$world_registry"'/grp/app/$2:1"; }
try junit ask junit in-files
try unpushed ask junit unpushed
try others ask junit mirrored'
    expect_step push-in-files 1 CVE-2023-45853
    expect_absent grp/app/in-files:1
    expect_step json 0 '"CVE-2023-45853"'
    expect_step list 0 slipway.sarif slipway-junit.xml slipway.html slipway-verdict.json
    expect_step junit 0 " 200 " "<testsuite"
    expect_step unpushed 0 " 404 " "there is no verdict on"
    expect_step others 0 " 404 " "there is no verdict on"
}

# two_platforms NAME: an index of the tiny Debian, for amd64 and arm64, at grp/app/NAME:1.
two_platforms() {
    python3 - "$SUITE_DIR/tiny-layout" "$CASE_DIR/$1" <<'PYTHON'
import hashlib, json, shutil, sys

source, target = sys.argv[1:]
shutil.copytree(source, target)
INDEX = "application/vnd.oci.image.index.v1+json"

def get(blob):
    with open(f"{target}/blobs/sha256/{blob['digest'][7:]}") as file:
        return json.load(file)

def put(content, kind):
    data = json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    with open(f"{target}/blobs/sha256/{name}", "wb") as file:
        file.write(data)
    return {"mediaType": kind, "digest": "sha256:" + name, "size": len(data)}

with open(target + "/index.json") as file:
    root = json.load(file)["manifests"][0]
children = []
for architecture in "amd64", "arm64":
    manifest = get(root)
    manifest["config"] = put({**get(manifest["config"]), "architecture": architecture}, manifest["config"]["mediaType"])
    children.append({**put(manifest, root["mediaType"]), "platform": {"os": "linux", "architecture": architecture}})
index = put({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}, INDEX)
with open(target + "/index.json", "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [{**index, "annotations": {"org.opencontainers.image.ref.name": "1"}}]}, file)
PYTHON
    env_skopeo copy --all --dest-creds slipway:only-slipway-knows-this "oci:$CASE_DIR/$1:1" "docker://$world_registry/grp/app/$1:1"
}

TEST "promote copies a judged digest by the policy of where it goes, and nothing else" {
    gate_config promote "" '[[rule]]
project = "strict/*"
fixed_only = false
repositories = ["*"]

[[rule]]
project = "*"
repositories = ["*/grp/*", "*/release/*"]'
    two_platforms both
    # "Every platform" is the operator's: a job has no word for it.
    run_steps 4091 "$(push_base candidate)
try star docker pull --platform '*' $world_registry/grp/app/both:1
try one docker pull --platform linux/arm64 $world_registry/grp/app/both:1
echo one >Two
printf 'FROM scratch\nCOPY Two /\n' >Local
docker build -q -f Local -t only-here:1 .
printf 'FROM only-here:1\nCOPY Local /\n' >Other
try same-platform docker build -q -f Other .
try other-platform docker build -q -f Other --platform linux/arm64 ."
    # What was built here is of the host's platform.
    expect_step same-platform 0
    expect_step other-platform 1 only-here
    expect_step star 1 "has no variant for *; it has linux/amd64, linux/arm64"
    expect_step one 0
    local digest
    digest=$(grep -oE 'digest: sha256:[0-9a-f]{64}' <<<"$(step_says push-candidate)" | head -n 1)
    digest=${digest#digest: }
    promote() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" promote "$@"; }
    expect_status 1 promote "$world_registry/grp/app/candidate@$digest" "$world_registry/release/app:1" --project strict/app
    expect_contains "$OUTPUT" CVE-2023-45853
    expect_absent release/app:1
    expect_status 1 promote "$world_registry/grp/app/candidate@$digest" "$world_registry/elsewhere/app:1"
    expect_contains "$OUTPUT" "policy does not let project"
    expect_absent elsewhere/app:1
    expect_status 1 promote "$world_registry/grp/app/candidate:1" "$world_registry/release/app:1"
    expect_contains "$OUTPUT" "takes what it copies by digest"
    expect_status 1 promote "$world_registry/grp/app/candidate@sha256:$(printf '0%.0s' {1..64})" "$world_registry/release/app:1"
    expect_absent release/app:1

    expect_status 0 promote "$world_registry/grp/app/candidate@$digest" "$world_registry/release/app:1"
    expect_contains "$OUTPUT" "pushed   $world_registry/release/app:1"
    expect_eq "$(env_skopeo inspect --creds slipway:only-slipway-knows-this --format '{{.Digest}}' "docker://$world_registry/release/app:1")" "$digest"
    both=$(world_registry_digest grp/app/both:1)
    expect_status 0 promote "$world_registry/grp/app/both@$both" "$world_registry/release/app:2"
    expect_eq "$(env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/release/app:2" |
        jq -r '[.manifests[].platform.architecture] | join(" ")')" "amd64 arm64"
    grep -q '"event":"promote"' "$world_state_dir/audit.jsonl"
    [[ -z $(ls "$world_state_dir/jobs" | grep promote) ]] || fail "a promotion left its folder"
}

TEST "a verdict is remembered until anything that it depends on changes" {
    gate_config cache ""
    local script="$(push_base cached)
try push-again docker push $world_registry/grp/app/cached:1"
    run_steps 4031 "$script"
    expect_step push-cached 0
    expect_step push-again 0
    expect_eq "$(grep -c 'findings .*(scan ' <<<"$TRACE")" 1 "scans"
    expect_eq "$(grep -c 'findings .*(verdict cached)' <<<"$TRACE")" 1 "verdicts from the cache"
    run_steps 4032 "$script"
    expect_eq "$(grep -c 'findings .*(verdict cached)' <<<"$TRACE")" 2 "verdicts from the cache in the next job"

    gate_config cache 's/^threshold = .*/threshold = "critical"/'
    run_steps 4033 "$script"
    expect_eq "$(grep -c 'findings .*(scan ' <<<"$TRACE")" 1 "scans under another policy"
    gate_config cache 's/^fixed_only = .*/fixed_only = false/'
    run_steps 4034 "$script"
    expect_step push-cached 1 CVE-2023-45853
    expect_step push-again 1 CVE-2023-45853
}

TEST "waivers and allowances let a push pass until their day, and stand in summary and audit log; gate test and waivers tell beforehand" {
    local day over dir
    day=$(date -u -d '+30 days' +%Y-%m-%d)
    over=$(date -u -d '-1 day' +%Y-%m-%d)
    waiver() { # EXPIRES
        printf '[[rule]]\nproject = "*"\nfixed_only = false\nrepositories = ["*"]\n
[[waiver]]\nid = "CVE-2023-45853"\nrepositories = ["*/grp/app/waived"]\npurl = "pkg:deb/debian/zlib1g"
owner = "team-x"\nticket = "OPS-1"\nreason = "MiniZip is not built"\nexpires = %s\n
[[gate_allow]]\ncode = "no_os"\nrepositories = ["*/grp/app/waived-noos"]
owner = "team-x"\nreason = "static tool"\nexpires = %s\n' "$1" "$1"
    }
    local noos="mkdir -p noos && printf 'FROM $world_busybox\nCOPY Dockerfile /x\n' >noos/Dockerfile
docker build -q -t $world_registry/grp/app/waived-noos:1 noos
try push-waived-noos docker push $world_registry/grp/app/waived-noos:1"
    gate_config waived "" "$(waiver "$day")"
    run_steps 4041 "$(push_base waived)
$(push_base elsewhere)
$noos"
    expect_step push-waived 0 "Waived CRITICAL  CVE-2023-45853  zlib1g: waived by team-x (OPS-1) until $day"
    expect_step push-elsewhere 1 CVE-2023-45853
    expect_step push-waived-noos 0 "Allowed [no_os] by team-x until $day: static tool"
    expect_contains "$TRACE" "gate     Waived CRITICAL  CVE-2023-45853"
    expect_contains "$TRACE" "gate     Allowed [no_os] by team-x until $day"
    expect_absent grp/app/elsewhere:1
    grep -q "Allowed \[no_os\] by team-x" "$world_dir"/state/audit.jsonl

    tool() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" "$@"; }
    dir=$world_dir/etc-waived
    jq -n '{SchemaVersion: 2, Metadata: {OS: {Family: "debian", Name: "12.5"}}, Results: [{Class: "os-pkgs", Packages: [{Name: "zlib1g"}],
        Vulnerabilities: [{VulnerabilityID: "CVE-2023-45853", PkgName: "zlib1g", Severity: "CRITICAL",
            PkgIdentifier: {PURL: "pkg:deb/debian/zlib1g@1.2.13?arch=amd64"}}]}]}' >"$dir/report.json"
    chmod 644 "$dir/report.json"
    expect_status 1 tool gate test "$dir/report.json"
    expect_contains "$OUTPUT" "CVE-2023-45853"
    expect_status 0 tool gate test "$dir/report.json" --repository "$world_registry/grp/app/waived"
    expect_contains "$OUTPUT" "waived by team-x (OPS-1)"
    expect_status 2 tool gate test "$dir/config.toml"
    # Root may ask, and makes no log that the service could not write to.
    sed "s|$world_state_dir|$CASE_DIR/of-root|g" "$world_config" >"$dir/as-root.toml"
    expect_status 1 "$world_bin/slipway" --config "$dir/as-root.toml" gate test "$dir/report.json"
    [[ ! -e $CASE_DIR/of-root ]] || fail "gate test of root made $(find "$CASE_DIR/of-root")"
    expect_status 2 "$world_bin/slipway" --config "$dir/as-root.toml" gc
    expect_contains "$OUTPUT" "as the service's user alone"
    expect_status 0 tool waivers
    expect_contains "$OUTPUT" "$day  live  waiver CVE-2023-45853"
    expect_contains "$OUTPUT" "$day  live  gate_allow no_os"
    expect_status 0 tool waivers --soon 7
    expect_contains "$OUTPUT" "nothing ends within 7 days"

    gate_config waived "" "$(waiver "$over")"
    run_steps 4042 "$(push_base waived)"
    expect_step push-waived 1 "the waiver of team-x (OPS-1) ended on $over"
    expect_status 0 tool waivers --json
    expect_eq "$(jq -r '.[0].state' <<<"$OUTPUT")" over
    # So far ahead, it counts for nothing, and the check of the configuration says so.
    gate_config waived "" "$(waiver "$(date -u -d '+300 days' +%Y-%m-%d)")"
    expect_status 1 tool config check
    expect_contains "$OUTPUT" "counts for nothing"
}

TEST "OpenVEX that a policy owner signed excuses a finding, and counts for nothing where it was changed, lies in the image or in the workspace" {
    local dir=$world_dir/etc-vex document report step bring
    gate_config vex 's|^\[gate\]|&\nvex_files = ["'"$dir"'/app.openvex.json"]\nvex_keys = ["'"$dir"'/owner.pub"]|' '[[rule]]
project = "*"
fixed_only = false
repositories = ["*"]'
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$CASE_DIR/owner.key" 2>/dev/null
    openssl pkey -in "$CASE_DIR/owner.key" -pubout -out "$dir/owner.pub"
    document=$dir/app.openvex.json
    jq -n --arg image "pkg:oci/vexed?repository_url=$world_registry/grp/app/vexed" '{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:vex:1",
        author: "team-x", timestamp: "2026-11-20T12:00:00Z", version: 1, statements: [{vulnerability: {name: "CVE-2023-45853"}, status: "not_affected",
            justification: "vulnerable_code_not_present", impact_statement: "MiniZip is not built",
            products: [{"@id": $image, subcomponents: [{"@id": "pkg:deb/debian/zlib1g"}]}]}]}' >"$document"
    openssl dgst -sha256 -sign "$CASE_DIR/owner.key" -out "$document.sig" "$document"
    chmod 644 "$dir"/*.pub "$dir"/app.*
    tool() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" "$@"; }
    # shellcheck disable=SC2016
    run_steps 4046 "export SLIPWAY_REPORT_DIR=reports
$(push_base elsewhere-vex)
$(push_base vexed)"'
for file in slipway.html slipway.sarif slipway-junit.xml gl-container-scanning-report.json slipway-verdict.json; do
    try "$file" grep -o "OpenVEX: not_affected, says team-x (signed with owner.pub)" "$CI_PROJECT_DIR/reports/$file"
done'
    expect_step push-vexed 0 "Waived CRITICAL  CVE-2023-45853  zlib1g: OpenVEX: not_affected, says team-x (signed with owner.pub) on 2026-11-20: vulnerable_code_not_present: MiniZip is not built"
    expect_step push-elsewhere-vex 1 CVE-2023-45853
    for report in slipway.html slipway.sarif slipway-junit.xml gl-container-scanning-report.json slipway-verdict.json; do
        expect_step "$report" 0 "OpenVEX: not_affected"
    done
    expect_contains "$TRACE" "gate     Waived CRITICAL  CVE-2023-45853"
    grep -q "OpenVEX: not_affected, says team-x" "$world_dir"/state/audit.jsonl
    jq -n '{SchemaVersion: 2, Metadata: {OS: {Family: "debian", Name: "12.5"}}, Results: [{Class: "os-pkgs", Packages: [{Name: "zlib1g"}],
        Vulnerabilities: [{VulnerabilityID: "CVE-2023-45853", PkgName: "zlib1g", Severity: "CRITICAL",
            PkgIdentifier: {PURL: "pkg:deb/debian/zlib1g@1.2.13?arch=amd64"}}]}]}' >"$CASE_DIR/report.json"
    install -m 644 "$CASE_DIR/report.json" "$dir/report.json"
    expect_status 1 tool gate test "$dir/report.json"
    expect_status 0 tool gate test "$dir/report.json" --repository "$world_registry/grp/app/vexed"

    # What the job brings is no document, whatever it is called and whoever signed it; nor is what was changed under its signature.
    bring="mkdir -p inside/.vex && echo $(base64 -w0 "$document") | base64 -d >inside/app.openvex.json && echo $(base64 -w0 "$document.sig") | base64 -d >inside/app.openvex.json.sig
cp inside/app.openvex.json inside/.vex/ && cp inside/app.openvex.json . && cp inside/app.openvex.json.sig . && export TRIVY_VEX=app.openvex.json
printf 'FROM $tiny\nCOPY . /\nCOPY . $dir/\n' >inside/Dockerfile && docker build -q -t $world_registry/grp/app/vexed:2 inside
try brought docker push $world_registry/grp/app/vexed:2"
    sed -i 's/MiniZip is not built/MiniZip is not in it/' "$document"
    run_steps 4047 "$(push_base vexed)
$bring"
    for step in push-vexed brought; do
        expect_step "$step" 1 "Gate: denied" CVE-2023-45853 "no OpenVEX document counts until the operator has mended $document (vex_files)" \
            "is of none of vex_keys, or of another content"
    done
    expect_absent grp/app/vexed:2
    expect_status 1 tool gate test "$dir/report.json" --repository "$world_registry/grp/app/vexed"
    # The control: signed again, the same image passes.
    openssl dgst -sha256 -sign "$CASE_DIR/owner.key" "$document" | base64 >"$document.sig"
    run_steps 4048 "$bring"
    expect_step brought 0 "MiniZip is not in it" "digest: sha256:"
}

TEST "known and likely attacks block beside the severity: KEV, EPSS and CVSS, each by the operator's file or number" {
    local dir
    threats() { # NAME SED [RULE-KEYS]
        gate_config "$1" "$2" "[[rule]]
project = \"*\"
repositories = [\"*\"]
${3:-}"
        dir=$world_dir/etc-$1
    }
    kev() { # FILE CVE [DATE]
        jq -n --arg cve "$2" --arg at "${3:-$(date -u +%Y-%m-%dT%H:%M:%S.0000Z)}" '{dateReleased: $at, count: 1,
            vulnerabilities: [{cveID: $cve, dateAdded: "2024-03-01", dueDate: "2024-03-22", knownRansomwareCampaignUse: "Unknown"}]}' >"$1"
        chmod 644 "$1"
    }
    tool() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" "$@"; }
    # The control: what has no fix blocks nobody, and another vulnerability's entry changes nothing.
    threats kev 's|^\[gate\]|&\nkev_file = "/'"${world_dir#/}"'/etc-kev/kev.json"|'
    kev "$dir/kev.json" CVE-2021-44228
    run_steps 4161 "$(push_base unattacked)"
    expect_step push-unattacked 0 "digest: sha256:"
    kev "$dir/kev.json" CVE-2023-45853
    # shellcheck disable=SC2016
    run_steps 4162 "export SLIPWAY_REPORT_DIR=reports
$(push_base exploited)"'
try html cat "$CI_PROJECT_DIR/reports/slipway.html"
try json cat "$CI_PROJECT_DIR/reports/slipway-verdict.json"'
    expect_step push-exploited 1 "Gate: denied" CVE-2023-45853 "Blocks for: KEV since 2024-03-01, due 2024-03-22"
    expect_absent grp/app/exploited:1
    expect_step html 0 "<strong>KEV since 2024-03-01"
    expect_step json 0 '"kev_since":"2024-03-01"'
    jq -n '{SchemaVersion: 2, Metadata: {OS: {Family: "debian", Name: "12.5"}}, Results: [{Class: "os-pkgs", Packages: [{Name: "zlib1g"}],
        Vulnerabilities: [{VulnerabilityID: "CVE-2023-45853", PkgName: "zlib1g", Severity: "LOW"}]}]}' >"$CASE_DIR/report.json"
    install -m 644 "$CASE_DIR/report.json" "$world_dir/etc-kev/report.json"
    expect_status 1 tool gate test "$world_dir/etc-kev/report.json"
    expect_contains "$OUTPUT" "KEV since 2024-03-01"

    kev "$dir/kev.json" CVE-2023-45853 "$(date -u -d '-15 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 4163 "$(push_base oldkev)"
    expect_refused oldkev kev_stale "kev_max_age allows 336 h"
    rm "$dir/kev.json"
    run_steps 4164 "$(push_base nokev)"
    expect_refused nokev kev_missing "no such file"

    threats epss 's|^\[gate\]|&\nepss_file = "/'"${world_dir#/}"'/etc-epss/epss.csv.gz"\nepss_threshold = 0.5|' 'fixed_only = false
threshold = "critical"'
    printf '#model_version:v2025.03.14,score_date:%s\ncve,epss,percentile\nCVE-2023-45853,0.93,0.999\n' "$(date -u +%Y-%m-%dT00:00:00+0000)" |
        gzip >"$dir/epss.csv.gz"
    chmod 644 "$dir/epss.csv.gz"
    expect_status 1 tool gate test "$world_dir/etc-kev/report.json"
    expect_contains "$OUTPUT" "EPSS 0.93 >= 0.5"
    sed -i 's/^epss_threshold = .*/epss_threshold = 0.94/' "$world_config"
    expect_status 0 tool gate test "$world_dir/etc-kev/report.json"
    sed -i 's/^epss_threshold = .*/epss_threshold = 0.5/' "$world_config"
    run_steps 4165 "$(push_base likely)"
    expect_step push-likely 1 CVE-2023-45853 "Blocks for: EPSS 0.93 >= 0.5"
    head -c -4 "$dir/epss.csv.gz" >"$dir/cut"
    chmod 644 "$dir/cut"
    mv "$dir/cut" "$dir/epss.csv.gz"
    run_steps 4166 "$(push_base cut)"
    expect_refused cut epss_invalid "the gzip stream ends too early"

    threats cvss '' 'fixed_only = false
cvss_threshold = 9.5'
    run_steps 4167 "$(push_base scored)"
    expect_step push-scored 1 CVE-2023-45853 "Blocks for: CVSS 9.8 >= 9.5 (nvd)"

    threats epss 's|^\[gate\]|&\nepss_threshold = 0.5|'
    expect_status 1 tool config check
    expect_contains "$OUTPUT" "etc-epss/config.toml:" "'epss_threshold' in [gate] must be left out while [gate] has no epss_file"
}

TEST "an image with a secret of its job is refused, which is named by variable, form and place and never by value" {
    local key line
    # shellcheck disable=SC2030,SC2031
    key=$(openssl genrsa 2048 2>/dev/null)
    line=$(sed -n 5p <<<"$key")
    export key
    local with_secrets='.variables += [{key: "DB_PASSWORD", value: "s3cr3t-Passw0rd-42", masked: true},
        {key: "DEPLOY_KEY", value: $ENV.key, file: true}]'
    local encoded="mkdir encoded && printf 'ci:%s' \$CI_JOB_TOKEN | base64 -w 0 >encoded/settings && printf 'FROM $tiny\nCOPY settings /app/settings\n' >encoded/Dockerfile
docker build -q -t $world_registry/grp/app/encoded:1 encoded"
    run_steps 4051 "$encoded
mkdir env file clean && printf 'FROM $tiny\nENV DB=%s\n' \$DB_PASSWORD >env/Dockerfile
tail -n +5 \$DEPLOY_KEY | gzip >file/part.gz && printf 'FROM $tiny\nCOPY part.gz /root/part.gz\n' >file/Dockerfile
printf 'FROM $tiny\nLABEL clean=yes\n' >clean/Dockerfile
for name in env file clean; do docker build -q -t $world_registry/grp/app/\$name:1 \$name; done
docker build -q -t $world_registry/grp/app/label:1 --label by=\$(printf %s \$CI_JOB_TOKEN | base64) clean
for name in encoded env label file clean; do try push-\$name docker push $world_registry/grp/app/\$name:1; done" "$with_secrets"

    expect_eq "$STATE" success
    expect_step push-encoded 1 "Gate: denied" "[secret_leaked] The value of CI_JOB_TOKEN is in the image (base64): layer sha256:" \
        ", app/settings, made by: COPY settings /app/settings" "revoke it"
    expect_step push-env 1 "[secret_leaked] The value of DB_PASSWORD is in the image (as it is): image config sha256:" ", ENV DB."
    expect_step push-label 1 "CI_JOB_TOKEN is in the image (base64): image config" ", LABEL by."
    expect_step push-file 1 "DEPLOY_KEY is in the image (as it is): layer" ", root/part.gz!/"
    for name in encoded env label file; do expect_absent "grp/app/$name:1"; done
    for name in "$line" s3cr3t-Passw0rd "$(printf ci:glcbt-job-token-4051 | base64)" "$(printf glcbt-job-token-4051 | base64)"; do
        [[ $TRACE != *"$name"* ]] || fail "the job log has '$name'" || return 1
    done
    # The controls: nothing of the job's in it; and the same image where the operator exempts the variable.
    expect_step push-clean 0 "digest: sha256:"
    gate_config exempt "" '[[rule]]
project = "grp/*"
leak_exempt = ["CI_JOB_TOKEN"]'
    run_steps 4052 "$encoded
try push-encoded docker push $world_registry/grp/app/encoded:1"
    expect_step push-encoded 0 "not searched for the value of CI_JOB_TOKEN: the operator exempts it (leak_exempt, rule " "digest: sha256:"
}

TEST "an image with a secret that its build was lent is refused, also in a later script of the job" {
    local script="printf '%s-%s' Zq7-v4lue Of-the-t0ken >/tmp/token
mkdir baked used
printf 'FROM $tiny\nRUN --mount=type=secret,id=token head -c 100 /run/secrets/token >/baked\n' >baked/Dockerfile
printf 'FROM $tiny\nRUN --mount=type=secret,id=token head -c 100 /run/secrets/token >/tmp/x; rm /tmp/x\n' >used/Dockerfile
for name in baked used; do docker build -q --secret id=token,src=/tmp/token -t $world_registry/grp/app/lent-\$name:1 \$name; done
for name in baked used; do try push-\$name docker push $world_registry/grp/app/lent-\$name:1; done"
    gate_config lent ""
    run_steps 4053 "$script" '.steps += [{name: "after_script", script: ["docker tag '"$world_registry"'/grp/app/lent-baked:1 '"$world_registry"'/grp/app/lent-after:1",
        "docker push '"$world_registry"'/grp/app/lent-after:1 || echo after-$?"], timeout: 600, when: "always", allow_failure: true}]'

    expect_step push-baked 1 "[secret_leaked] The value of build secret token is in the image (as it is): layer sha256:" ", baked, made by: RUN" "revoke it"
    expect_absent grp/app/lent-baked:1
    expect_absent grp/app/lent-after:1
    expect_contains "$TRACE" after-1
    expect_lacks "$TRACE" Zq7-v4lue-Of-the-t0ken
    # The controls: a step that only used it; and the same image where the operator exempts it.
    expect_step push-used 0 "digest: sha256:"
    gate_config lent-exempt "" '[[rule]]
project = "grp/*"
leak_exempt = ["build secret token"]'
    run_steps 4054 "$script"
    expect_step push-baked 0 "not searched for the value of build secret token: the operator exempts it" "digest: sha256:"
}

TEST "a layer with a build secret does not come back from the cache, nor by another image, nor in the next job" {
    local baked="printf 'FROM $tiny\nRUN echo before >/before\nRUN --mount=type=secret,id=token cp /run/secrets/token /baked || echo none >/baked\n' >Dockerfile"
    # shellcheck disable=SC2016 # the job's shell expands it
    local holds='holds() { rm -rf /tmp/x && mkdir /tmp/x && tar -xf "$1" -C /tmp/x && find /tmp/x -type f -exec gzip -dcf {} + | grep -ac Kx4-c4ched; }'
    gate_config cached ""
    # The value is put together in the job, so that it is in no payload.
    run_steps 4055 "$baked
printf '%s-%s' Kx4-c4ched Of-the-t0ken >/tmp/token
try build docker build --secret id=token,src=/tmp/token -t leaking:1 .
docker save -o /builds/grp/app/leaking.tar leaking:1
$holds
try control holds /builds/grp/app/leaking.tar
mkdir /tmp/other && printf 'FROM $tiny\nCOPY --from=leaking:1 /baked /copy\n' >/builds/grp/app/Dockerfile.copy
try copy docker build -q -f /builds/grp/app/Dockerfile.copy -t $world_registry/grp/app/copied:1 /builds/grp/app" \
        '.steps += [{name: "after_script", script: ["docker push '"$world_registry"'/grp/app/copied:1 || echo copied-$?",
        "docker load -i /builds/grp/app/leaking.tar", "docker tag leaking:1 '"$world_registry"'/grp/app/loaded:1",
        "docker push '"$world_registry"'/grp/app/loaded:1 || echo loaded-$?"], timeout: 600, when: "always", allow_failure: true}]'
    expect_step build 0 "holds a secret that a build was given" "build cache is discarded"
    [[ $(step_says control | head -n 1) != 0 ]] || fail "the control does not find the value in the leaking image"
    expect_step copy 0
    expect_contains "$TRACE" copied-1
    expect_contains "$TRACE" loaded-1
    expect_absent grp/app/copied:1
    expect_absent grp/app/loaded:1
    # The same Dockerfile without the secret: BuildKit's cache asks for the secret's name alone.
    run_steps 4056 "$baked
try build docker build --progress=plain -t $world_registry/grp/app/cached:1 .
try push docker push $world_registry/grp/app/cached:1
docker save -o /tmp/cached.tar $world_registry/grp/app/cached:1
$holds
try look holds /tmp/cached.tar"
    expect_step build 0
    expect_lacks "$(step_says build)" CACHED
    expect_step push 0 "digest: sha256:"
    expect_eq "$(step_says look | head -n 1)" 0 "the value in the next job's image"
    # The control: where nothing leaked the cache serves the next job.
    run_steps 4057 "$baked
try build docker build --progress=plain -t cached:2 ."
    expect_step build 0 CACHED
}

TEST "an image of the script is known in after_script: summary, report and why have its backend and Dockerfile" {
    run_script 4061 "printf 'FROM $tiny\nLABEL built=in-script\n' >Dockerfile
docker build -t $world_registry/grp/app/later:1 ." '.steps += [{name: "after_script", script: ["docker push '"$world_registry"'/grp/app/later:1"],
        timeout: 60, when: "always", allow_failure: true}]'

    expect_eq "$STATE" success
    expect_contains "$TRACE" "built    $world_registry/grp/app/later:1"
    expect_contains "$TRACE" "not pushed by this script"
    expect_contains "$TRACE" "pushed   $world_registry/grp/app/later:1"
    expect_lacks "$TRACE" "not built here"
    digest=$(grep -A1 '^pushed ' <<<"$TRACE" | grep -o 'sha256:[0-9a-f]*' | tail -1)
    OUTPUT=$(with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" why "$digest")
    expect_contains "$OUTPUT" "built: buildkit v"
    expect_contains "$OUTPUT" "Dockerfile sha256:$(printf 'FROM %s\nLABEL built=in-script\n' "$tiny" | sha256sum | cut -d' ' -f1)"
}

TEST "slipway why tells a verdict again, by the digest that the job log shows" {
    gate_config why ""
    run_steps 4061 "$(push_base why)"
    local digest
    digest=$(grep -oE 'sha256:[0-9a-f]{64}' <<<"$(step_says push-why)" | head -n 1)
    [[ -n $digest ]]
    why() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" why "$@"; }
    expect_status 0 why "$digest"
    expect_contains "$OUTPUT" "$world_registry/grp/app/why:1  job j4061-"
    expect_contains "$OUTPUT" " of grp/app, ref main"
    expect_contains "$OUTPUT" "Gate: passed"
    expect_status 1 why "sha256:$(printf '0%.0s' {1..64})"
    expect_status 2 why latest
}

# vulnerable_root DIR: the files of a Debian of one package, with a PyYAML that has a known critical vulnerability.
vulnerable_root() {
    mkdir -p "$1/etc" "$1/var/lib/dpkg" "$1/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info"
    printf 'ID=debian\nVERSION_ID="12"\n' >"$1/etc/os-release"
    echo 12.5 >"$1/etc/debian_version"
    printf 'Package: adduser\nStatus: install ok installed\nVersion: 3.134\nArchitecture: all\n\n' >"$1/var/lib/dpkg/status"
    printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >"$1/usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA"
}

TEST "the HTML report of a hostile image holds in a browser: nothing runs or is asked for, all is legible, also on paper" {
    local name=$'"><img src=x onerror="document.title=1"> \e[31m'$(printf 'w%.0s' {1..150}).pem
    gate_config browser "" '[[rule]]
project = "*"
fixed_only = false'
    vulnerable_root root
    mkdir root/opt
    openssl genrsa -traditional 2048 >"root/opt/$name" 2>/dev/null
    tar -C root -cf root.tar .
    image_layout root.tar "$CASE_DIR/hostile" 1
    chmod -R a+rX "$CASE_DIR/hostile"
    expect_status 1 with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" gate check "$CASE_DIR/hostile" --format html
    echo "$OUTPUT" >report.html
    expect_contains "$OUTPUT" '&lt;img src=x'

    expect_status 0 python3 "$SUITE_ROOT/tests/lib/browse_report.py" report.html "Denied: nothing was pushed." CVE-2020-14343 PyYAML 5.3 \
        '<img src=x onerror="document.title=1">' wwwwwwwwww
    expect_eq "$OUTPUT" ""

    # Control: the same look finds what it is there for.
    sed -e 's/&lt;img/<img/; s/ onerror=&quot;document/ onerror="document/; s/=1&quot;&gt;/=1">/' -e 's/color: #4a525b/color: #c0c0c0/' \
        -e 's/max-width: 72rem/width: 72rem/' report.html >broken.html
    expect_status 1 python3 "$SUITE_ROOT/tests/lib/browse_report.py" broken.html "not in it"
    for words in "the browser says: " "could run or load something" "contrast under 4.5 in ['DT " "too wide for 360" "'not in it' is not in print"; do
        expect_contains "$OUTPUT" "$words"
    done
}

TEST "gate check judges a layout by hand: 0 passed, 1 denied, 2 could not judge" {
    gate_config check "" '[[rule]]
project = "strict/*"
fixed_only = false'
    check() { with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" gate check "$@"; }
    local debian vulnerable=$CASE_DIR/vulnerable
    debian=$SUITE_DIR/tiny-layout
    vulnerable_root root
    tar -C root -cf root.tar .
    image_layout root.tar "$vulnerable" 1
    chmod -R a+rX "$vulnerable"

    expect_status 0 check "$debian"
    expect_contains "$OUTPUT" "Gate: passed"
    expect_status 1 check "$vulnerable"
    expect_contains "$OUTPUT" "CVE-2020-14343"
    expect_status 1 check "$debian" --project strict/app
    expect_contains "$OUTPUT" "CVE-2023-45853"
    expect_status 1 check "$vulnerable@$(jq -r '.manifests[0].digest' "$vulnerable/index.json")" --json
    expect_eq "$(jq -r '[.passed, (.findings[] | select(.blocks) | .id)] | map(tostring) | join(" ")' <<<"$OUTPUT")" "false CVE-2020-14343"
    # As other programs read it, and people.
    expect_status 1 check "$vulnerable" --format gitlab
    expect_eq "$(jq -r '[.version, .scan.status, (.vulnerabilities[] | select(.severity == "Critical") | .identifiers[0].value)] | join(" ")' <<<"$OUTPUT")" \
        "15.0.7 success CVE-2020-14343"
    expect_status 1 check "$vulnerable" --format sarif
    expect_eq "$(jq -r '.runs[0].results[] | select(.level == "error") | .ruleId' <<<"$OUTPUT")" CVE-2020-14343
    expect_status 1 check "$vulnerable" --format junit
    expect_eq "$(python3 -c 'import sys, xml.etree.ElementTree as x; print([c.get("name").split()[0] for c in x.fromstring(sys.stdin.read()).iter("testcase") if c.find("failure") is not None])' <<<"$OUTPUT")" \
        "['CVE-2020-14343']"
    expect_status 0 check "$debian" --format html
    expect_contains "$OUTPUT" "Passed: this digest may be pushed."
    expect_status 2 check "$debian" --format pdf
    expect_status 2 check "$debian" --db /nonexistent
    expect_contains "$OUTPUT" "db_missing"
    expect_status 2 check /nonexistent
    expect_status 2 check "$debian@sha256:$(printf '0%.0s' {1..64})"
    expect_status 2 check
    # A layout whose blobs were changed is not what it says.
    cp -r "$vulnerable" "$vulnerable-edited"
    local blob
    blob=$vulnerable-edited/blobs/sha256/$(ls -S "$vulnerable-edited/blobs/sha256" | head -n 1)
    echo more >>"$blob"
    expect_status 1 check "$vulnerable-edited"
}

TEST "a full disk, a failing one and a short read at any step of slipway and slipway-gate: a denied image is never passed" {
    local vulnerable=$CASE_DIR/vulnerable layout
    layout=$SUITE_DIR/tiny-layout
    vulnerable_root root
    tar -C root -cf root.tar .
    image_layout root.tar "$vulnerable" 1
    chmod -R a+rX "$vulnerable"
    c++ -std=c++20 -O1 -shared -fPIC -o faults.so "$SUITE_ROOT/tests/lib/fault_injector.cpp"
    # slipway-gate has none of slipway's environment.
    printf '#!/bin/sh\n. %s\nexec %s "$@"\n' "$CASE_DIR/fault" "$world_bin/slipway-gate" >gate
    chmod 755 gate
    gate_config faults "\$a[programs]\ngate = \"$CASE_DIR/gate\""
    # faulty PROGRAM KIND AT LAYOUT: `gate check` where that call fails, with nothing remembered of an earlier one
    faulty() {
        rm -rf "$world_state_dir/verdicts" calls
        install -m 0666 /dev/null calls
        local fault=(LD_PRELOAD="$CASE_DIR/faults.so" FAULT_PROGRAM="$1" FAULT_KIND="$2" FAULT_AT="$3" FAULT_LOG="$CASE_DIR/calls")
        printf 'export %s\n' "${fault[*]}" >fault
        with_cgroup2_as_user "${fault[@]}" "$world_bin/slipway" --config "$world_config" gate check "$4"
    }

    local program kind at most step denied=0 not_judged=0 rc
    for program in slipway slipway-gate; do
        for kind in read short open make write sync; do
            expect_status 1 faulty "$program" "$kind" 0 "$vulnerable"
            most=$(awk '{sum += $2} END {print sum + 0}' calls)
            [[ $kind != read ]] || ((most > 0)) || fail "no fault would come to $program"
            step=$(((most + 7) / 8))
            for ((at = 1; at <= most; at += step)); do
                rc=0
                OUTPUT=$(faulty "$program" "$kind" "$at" "$vulnerable" 2>&1) || rc=$?
                case $rc in
                1) denied=$((denied + 1)) ;;
                2) not_judged=$((not_judged + 1)) ;;
                *) fail "$program, $kind $at of $most: exit status $rc -> $(tail -n 12 <<<"$OUTPUT")" ;;
                esac
            done
            echo "$program $kind $most $denied $not_judged" >>told
        done
    done
    echo "$denied denied, $not_judged could not be judged"
    # They did fail, and what a fault left behind changes no later verdict.
    ((not_judged > 10)) || fail "only $not_judged of the faults were seen"
    expect_status 1 faulty slipway read 0 "$vulnerable"
    expect_contains "$OUTPUT" CVE-2020-14343
    expect_status 0 faulty slipway read 0 "$layout"
    expect_eq "$(world_leftovers)" "" "what is left"
}

TEST "a full disk, a failing one and a death at any step of build, gate and push: a denied image never gets there, another one whole or not at all" {
    local program kind at most step bitten=0 tries=0 number=0 digest said
    c++ -std=c++20 -O1 -shared -fPIC -o faults.so "$SUITE_ROOT/tests/lib/fault_injector.cpp"
    # slipway-gate and slipway-push have none of slipway's environment.
    for program in gate push; do
        printf '#!/bin/sh\n. %s\nexec %s "$@"\n' "$CASE_DIR/fault" "$world_bin/slipway-$program" >"$program"
        chmod 755 "$program"
    done
    gate_config push-faults "\$a[programs]\ngate = \"$CASE_DIR/gate\"\npush = \"$CASE_DIR/push\""
    world_job 4990 : | jq --arg image "$tiny" '.image.name = $image' >job.json
    install -d -o "$world_user" sim
    # stages PROGRAM KIND AT STEP...: these calls of the runner, where that call of the program fails
    stages() {
        local fault=(LD_PRELOAD="$CASE_DIR/faults.so" FAULT_PROGRAM="$1" FAULT_KIND="$2" FAULT_AT="$3" FAULT_LOG="$CASE_DIR/calls") flags=() word
        printf 'export %s\n' "${fault[*]}" >fault
        rm -f calls sim/events.jsonl
        install -m 0666 /dev/null calls
        for word in "${fault[@]}"; do flags+=(--env "$word"); done
        timeout --kill-after=10 300 "$env_lib/as-user" "$world_user" python3 "$env_lib/runner_sim.py" "$CASE_DIR/sim" "$CASE_DIR/job.json" \
            "${flags[@]}" --script "build_script=$script" --steps "${@:4}" -- "$world_bin/slipway" --config "$world_config" gitlab
        said=$(jq -r 'select(.sub == "build_script") | .out + .err' sim/events.jsonl)
    }
    # What a job does, with an image that nobody has seen before.
    next_script() {
        number=$((number + 1))
        script="set +e
cd \$(mktemp -d)
mkdir PyYAML-5.3.dist-info && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >PyYAML-5.3.dist-info/METADATA
printf 'FROM $tiny AS good\nRUN echo $number >/number\nFROM good\nCOPY PyYAML-5.3.dist-info /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info\n' >Dockerfile
docker build -q --target good -t $world_registry/grp/app/good:$number . && echo built \$(docker inspect --format '{{.Id}}' $world_registry/grp/app/good:$number)
docker build -q -t $world_registry/grp/app/bad:$number .
docker push -q $world_registry/grp/app/good:$number && echo good-is-pushed
docker push -q $world_registry/grp/app/bad:$number && echo bad-is-pushed
true"
    }
    # What may be true of them afterwards.
    check_registry() {
        expect_lacks "$said" bad-is-pushed
        expect_absent "grp/app/bad:$number"
        if digest=$(world_registry_digest "grp/app/good:$number"); then
            expect_contains "$said" "built $(env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/grp/app/good:$number" | jq -r .config.digest)"
            rm -rf pulled
            env_skopeo copy -q --src-creds slipway:only-slipway-knows-this "docker://$world_registry/grp/app/good@$digest" "dir:$CASE_DIR/pulled"
        else
            expect_lacks "$said" good-is-pushed
        fi
    }

    next_script
    stages none read 0 config prepare run:get_sources run:build_script
    check_registry
    expect_contains "$said" good-is-pushed
    expect_contains "$said" CVE-2020-14343
    for program in slipway slipway-gate slipway-push; do
        for kind in read write make kill; do
            next_script
            stages "$program" "$kind" 0 run:build_script
            expect_contains "$said" good-is-pushed
            most=$(awk '$2 > most {most = $2} END {print most + 0}' calls)
            [[ $kind != read ]] || ((most > 0)) || fail "no fault would come to $program"
            step=$(((most + 2) / 3))
            for ((at = 1 + step / 2; at <= most; at += step)); do
                next_script
                rm -rf "$world_state_dir/verdicts"
                stages "$program" "$kind" "$at" run:build_script
                check_registry || fail "$program, $kind $at of $most -> $said"
                tries=$((tries + 1))
                [[ $said == *good-is-pushed* ]] || bitten=$((bitten + 1))
            done
            echo "$program $kind $most $tries $bitten"
        done
    done
    # They did harm, and none of it stays.
    ((bitten > tries / 4)) || fail "only $bitten of $tries faults were seen"
    next_script
    stages none read 0 run:build_script cleanup
    check_registry
    expect_contains "$said" good-is-pushed
    expect_contains "$said" CVE-2020-14343
    with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" gc
    expect_eq "$(world_leftovers)" "" "what is left"
}
