# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Grype beside Trivy: what it adds to a verdict, and that no image passes where it does not say its word.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/gate_steps.sh
. "$SUITE_ROOT/tests/lib/gate_steps.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    tool=$("$SUITE_ROOT/packaging/tools/build" grype)
    make_grype_db "$world_dir/grype-db"
    use_grype_db "$world_dir/grype-db"
    make_tiny_base
    gate_scanner_key=grype
}

SUITE_TEARDOWN() {
    world_stop
}

# make_grype_db DIR [BUILT_AT]: what Grype calls its cache-dir, with what the world's Trivy knows and a little more.
make_grype_db() {
    rm -rf "$1"
    "$tool/bin/make-grype-db" --out "$1" --facts "$tool/facts.json" --trivy-db "$world_dir/trivy-cache/db" \
        ${2:+--built-at "$2"} && chmod -R a+rX "$1"
}

# gate_config and gate_scanner change the configuration with a second scanner from here on.
use_grype_db() {
    world_gate="grype = \"$tool/bin/grype\"
grype_sha256 = \"$(sha256sum "$tool/bin/grype" | cut -d' ' -f1)\"
grype_db_dir = \"$1\""
}
without_grype='s|^grype = .*|grype = ""|'

# with_package NAME VERSION TAG: builds an image with this Python package and tries to push it.
with_package() {
    echo "mkdir -p $3 && cat >$3/Dockerfile <<'END'
FROM $tiny
RUN mkdir -p /usr/lib/python3/dist-packages/$1-$2.dist-info && printf 'Metadata-Version: 2.1\nName: $1\nVersion: $2\n' >/usr/lib/python3/dist-packages/$1-$2.dist-info/METADATA
END
docker build -q -t $world_registry/grp/app/$3:1 $3
try push-$3 docker push $world_registry/grp/app/$3:1"
}

TEST "what Grype alone knows denies an image that Trivy lets pass; what both know is told once; what neither knows passes" {
    gate_config both ""
    run_steps 7001 "$(with_package Jinja2 2.10 jinja)
$(with_package PyYAML 5.3 yaml)
$(push_base plain)
try push-again docker push $world_registry/grp/app/plain:1"
    expect_step push-jinja 1 "Gate: denied" "1 finding blocks" "HIGH  CVE-2019-10906  jinja2 2.10, fixed in 2.10.1" \
        "Found by Grype, not by Trivy" "What to do: upgrade jinja2 to 2.10.1 or later" "grype 0.121.3, DB of"
    expect_step push-yaml 1 "1 finding blocks" "CVE-2020-14343  PyYAML 5.3, fixed in 5.4"
    [[ $(step_says push-yaml) != *"Found by Grype"* ]] || fail "what both found is called Grype's"
    expect_step push-plain 0 "digest: sha256:"
    expect_step push-again 0 "digest: sha256:"
    expect_eq "$(grep -c 'findings .*(verdict cached)' <<<"$TRACE")" 1 "verdicts from the cache"
    expect_absent grp/app/jinja:1
    expect_absent grp/app/yaml:1

    # The control: without it the same image passes, and the verdict that was remembered with it is not used.
    gate_config alone "$without_grype"
    run_steps 7002 "$(with_package Jinja2 2.10 control)
try push-plain docker push $world_registry/grp/app/plain:1
$(push_base plain)"
    expect_step push-control 0 "digest: sha256:"
    expect_step push-plain 0
    expect_eq "$(grep -c 'findings .*(verdict cached)' <<<"$TRACE")" 0 "verdicts from the cache"
}

TEST "a waiver by either name of a vulnerability covers what Grype found" {
    local day
    day=$(date -u -d '+30 days' +%Y-%m-%d)
    gate_config waived "" "[[rule]]
project = \"*\"
repositories = [\"*\"]

[[waiver]]
id = \"GHSA-462w-v97r-4m45\"
repositories = [\"*/grp/app/waived\"]
purl = \"pkg:pypi/jinja2\"
owner = \"team-x\"
ticket = \"OPS-1\"
reason = \"no templates of strangers\"
expires = $day"
    run_steps 7011 "$(with_package Jinja2 2.10 waived)
$(with_package Jinja2 2.10 elsewhere)"
    expect_step push-waived 0 "Waived HIGH  CVE-2019-10906  jinja2: waived by team-x (OPS-1) until $day"
    expect_step push-elsewhere 1 CVE-2019-10906
}

TEST "no Grype, a hanging, crashing or babbling one, and one that is not the pinned one never let an image pass" {
    gate_config missing 's|^grype = .*|grype = "/nonexistent/grype"|'
    run_steps 7021 "$(push_base missing)"
    expect_refused missing second_scanner_untrusted "cannot read the scanner /nonexistent/grype"

    gate_config pin "s|^grype_sha256 = .*|grype_sha256 = \"$(printf '0%.0s' {1..64})\"|"
    run_steps 7022 "$(push_base pin)"
    expect_refused pin second_scanner_untrusted "is not the pinned scanner" "[gate] grype_sha256"

    gate_scanner hanging 'signal(SIGTERM, SIG_IGN); for (;;) pause();' 's|^\[gate\]|&\ntimeout = "20s"|'
    run_steps 7023 "$(push_base hanging)"
    expect_refused hanging second_scanner_timed_out "did not finish"
    expect_eq "$(with_cgroup2_as_user podman ps --quiet --filter label=io.slipway.role=scanner)" "" "scanners that still run"

    gate_scanner crashing 'fputs("last words\n", stderr); *(volatile int *)argv = 0; volatile int *nowhere = 0; *nowhere = 1;'
    run_steps 7024 "$(push_base crashing)"
    expect_refused crashing second_scanner_failed "last words"

    gate_scanner babbling 'puts("Everything is fine, trust me");'
    run_steps 7025 "$(push_base babbling)"
    expect_refused babbling second_report_invalid

    gate_scanner silent ''
    run_steps 7026 "$(push_base silent)"
    expect_refused silent second_scanner_failed "wrote no report"

    gate_scanner empty 'puts("{\"matches\": []}");'
    run_steps 7027 "$(push_base empty)"
    expect_refused empty second_report_invalid
}

TEST "a database of Grype's that is missing, broken, too old or empty denies" {
    local grype_db=$world_dir/other-grype-db
    rm -rf "$grype_db"
    gate_config db "s|^grype_db_dir = .*|grype_db_dir = \"$grype_db\"|"
    run_steps 7031 "$(push_base nodb)"
    expect_refused nodb second_db_missing "no such file: $grype_db/6/vulnerability.db"
    expect_status 2 with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" db status
    expect_contains "$OUTPUT" "no such file: $grype_db/6/vulnerability.db"

    make_grype_db "$grype_db" "$(date -u -d '-6 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 7032 "$(push_base stale)"
    expect_refused stale second_db_stale "old, the policy allows 120 h" "The operator has to update it"

    make_grype_db "$grype_db" "$(date -u -d '+3 days' +%Y-%m-%dT%H:%M:%SZ)"
    run_steps 7033 "$(push_base future)"
    expect_refused future second_db_from_future "Check the clock"

    printf x | dd of="$grype_db/6/vulnerability.db" bs=1 seek=8192 conv=notrunc status=none
    run_steps 7034 "$(push_base broken)"
    expect_refused broken second_scanner_failed

    # Nothing is in it about any system: Grype finds nothing, and says nothing of it.
    mkdir -p empty-trivy
    make_empty_trivy_db empty-trivy
    rm -rf "$grype_db"
    "$tool/bin/make-grype-db" --out "$grype_db" --facts "$tool/facts.json" --trivy-db empty-trivy
    chmod -R a+rX "$grype_db"
    run_steps 7035 "$(push_base nothing)"
    expect_refused nothing second_canary_not_found "Grype finds nothing in an image that has"
}

# Trivy's format, and no advisory of any system.
make_empty_trivy_db() {
    local trivydb
    trivydb=$("$SUITE_ROOT/packaging/tools/build" trivydb)
    echo '{"data_sources": {}, "advisories": [], "vulnerabilities": {}}' >"$1/none.json"
    "$trivydb/bin/make-trivy-db" --out "$1" --facts "$1/none.json"
}

# Each silences Grype alone, in a folder with the files of weak_files.
grype_variables=(GRYPE_CONFIG=ignore.yaml GRYPE_EXCLUDE=/usr/** GRYPE_ONLY_NOTFIXED=true GRYPE_VEX_DOCUMENTS=app.openvex.json GRYPE_FILE=/dev/null)

weak_files() {
    mkdir -p "$1/.grype" "$1/.config/grype"
    printf 'ignore:\n  - vulnerability: GHSA-462w-v97r-4m45\n    include-aliases: true\n' |
        tee "$1/.grype.yaml" "$1/.grype/config.yaml" "$1/.config/grype/config.yaml" >"$1/ignore.yaml"
    jq -n '{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:vex:1", author: "x", timestamp: "2026-01-01T00:00:00Z", version: 1,
        statements: [{vulnerability: {name: "GHSA-462w-v97r-4m45"}, products: [{"@id": "pkg:pypi/jinja2@2.10"}], status: "not_affected",
            justification: "component_not_present"}]}' >"$1/app.openvex.json"
}

# bare [NAME=VALUE...]: Grype as a job's own script would run it on $layout, here.
bare() {
    env -i PATH=/usr/bin:/bin HOME="$CASE_DIR/home" GRYPE_DB_CACHE_DIR="$world_dir/grype-db" GRYPE_DB_AUTO_UPDATE=false \
        GRYPE_CHECK_FOR_APP_UPDATE=false "$@" "$tool/bin/grype" --quiet "oci-dir:$layout"
}

TEST "nothing that a job sets or an image brings for Grype changes what it finds; Grype alone is silenced by the same" {
    local one name own='COPY weak /
COPY weak /tmp/
COPY weak /root/
'
    local bring="mkdir -p weak own env && base64 -d <<<'$(weak_files weak && tar -C weak -cz . | base64 -w 0)' | tar -xz -C weak && cp -r weak/. . && cp -r weak own/"
    for one in "${grype_variables[@]}"; do own+="ENV ${one%%=*}=\"${one#*=}\""$'\n'; done
    gate_config own ""
    run_steps 7041 "$bring
try set printenv GRYPE_CONFIG GRYPE_EXCLUDE
$(with_package Jinja2 2.10 variables)
$(with_package Jinja2 2.10 own | awk -v own="$own" '/^RUN / { printf "%s", own } { print }')" \
        ".variables += [$(jq -R -c 'capture("^(?<key>[^=]*)=(?<value>.*)$") + {public: true}' <<<"$(printf '%s\n' "${grype_variables[@]}" GRYPE_DB_AUTO_UPDATE=true)" | paste -sd,)]"
    expect_step set 0 $'ignore.yaml\n/usr/**'
    for name in variables own; do
        expect_step "push-$name" 1 "1 finding blocks" "HIGH  CVE-2019-10906  jinja2 2.10" "Found by Grype, not by Trivy"
        expect_absent "grp/app/$name:1"
    done

    # The controls.
    local layout=$CASE_DIR/layout package=usr/lib/python3/dist-packages/Jinja2-2.10.dist-info
    cp -r "$SUITE_DIR/tiny" root
    mkdir "root/$package"
    printf 'Metadata-Version: 2.1\nName: Jinja2\nVersion: 2.10\n' >"root/$package/METADATA"
    tar --numeric-owner --owner=0 --group=0 -C root -cf root.tar .
    image_layout root.tar "$layout" 1
    finds() { [[ $(bare "$@") == *GHSA-462w-v97r-4m45* ]]; }
    cd weak
    mv .grype.yaml .grype .config ..
    finds
    for one in "${grype_variables[@]}"; do ! finds "$one" || fail "$one does not silence Grype"; done
    for one in .grype.yaml .grype; do
        cp -r "../$one" .
        ! finds || fail "$one does not silence Grype"
        rm -r "$one"
    done
}

TEST "the reports of a job say who found what" {
    gate_config reports ""
    # shellcheck disable=SC2016
    run_steps 7051 "export SLIPWAY_REPORT_DIR=reports
$(with_package Jinja2 2.10 reported)"'
for report in slipway-verdict.json gl-container-scanning-report.json slipway.sarif slipway.html; do
    try $report cat "$CI_PROJECT_DIR/reports/$report"
done'
    expect_step push-reported 1 "Found by Grype, not by Trivy"
    expect_step slipway-verdict.json 0 '"found_by":"grype"' '"second_scanner":"grype 0.121.3"'
    for report in gl-container-scanning-report.json slipway.sarif slipway.html; do
        expect_step "$report" 0 CVE-2019-10906 "(found by Grype)"
    done
}
