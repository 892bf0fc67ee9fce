# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a job writes, sets or claims for the scanner and for slipway: none of it changes a verdict. Each has a control, in
# which the same file or variable silences the scanner alone, or slipway where it is the operator's.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/gate_steps.sh
. "$SUITE_ROOT/tests/lib/gate_steps.sh"

SUITE_ONCE=1

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

# Each silences the scanner alone, in a folder with the files of weak_files.
trivy_variables=(
    TRIVY_SEVERITY=LOW TRIVY_IGNOREFILE=ignored TRIVY_CONFIG=weak.yaml TRIVY_IGNORE_POLICY=ignore.rego
    TRIVY_VEX=app.openvex.json TRIVY_SKIP_DIRS=/usr 'TRIVY_SKIP_FILES=**/METADATA' TRIVY_PKG_TYPES=os TRIVY_VULN_TYPE=os
    TRIVY_SCANNERS=secret TRIVY_SECURITY_CHECKS=secret TRIVY_IGNORE_STATUS=fixed TRIVY_PKG_RELATIONSHIPS=direct
    TRIVY_EXIT_CODE=0 TRIVY_FORMAT=cyclonedx TRIVY_GENERATE_DEFAULT_CONFIG=true
)

# Further ones, for what reads them in nobody's environment but its own.
other_variables() {
    printf '%s\n' SYFT_EXCLUDE=/usr GRYPE_CONFIG=.grype.yaml GRYPE_EXCLUDE=/usr GRYPE_VEX_DOCUMENTS=app.openvex.json \
        GRYPE_ONLY_NOTFIXED=true GRYPE_ONLY_FIXED=true GRYPE_FAIL_ON_SEVERITY=critical GRYPE_DB_AUTO_UPDATE=true \
        SLIPWAY_CONFIG=weak/config.toml SLIPWAY_POLICY_DIR=weak/policy.d SLIPWAY_SKIP_GATE=1 SLIPWAY_NO_SCAN=1 \
        SLIPWAY_EGRESS=open SLIPWAY_SHIM=none SLIPWAY_REGISTRIES=none SLIPWAY_DOCKER=none \
        SOURCE_DATE_EPOCH=0 FAKETIME=-30d FAKETIME_DONT_RESET=1 TZ=Pacific/Kiritimati XDG_CONFIG_HOME=weak
    # One for each option of the scanner, and for each key of slipway's configuration.
    "$world_trivy/bin/trivy" image --help | sed -nE 's/^ +(-., )?--([a-z-]+).*/\2/p' | tr a-z- A-Z_ |
        sed 's/.*/TRIVY_&=true/'
    with_cgroup2_as_user "$world_bin/slipway" --config "$world_config" config print | awk '
        /^\[/ { gsub(/[][]/, ""); section = $1 }
        /^[a-z_0-9]+ = / { print toupper("SLIPWAY_" (section == "slipway" ? "" : section "_") $1) "=" ($1 ~ /threshold/ ? "critical" : "off") }'
}

# hostile_variables: all of them, each name once, as lines NAME=VALUE.
hostile_variables() {
    { printf '%s\n' "${trivy_variables[@]}" && other_variables; } | grep -v '^SLIPWAY_REPORT_DIR=' | awk -F= '!seen[$1]++'
}

# weak_files DIR: what a scanner, and slipway, would read if the job had a say.
weak_files() {
    mkdir -p "$1"/{.trivy,.vex,policy.d,etc/slipway/policy.d}
    echo CVE-2020-14343 | tee "$1/.trivyignore" "$1/.trivy/.trivyignore" >"$1/ignored"
    printf 'vulnerabilities:\n  - id: CVE-2020-14343\n' >"$1/.trivyignore.yaml"
    printf 'severity: [LOW]\n' | tee "$1/trivy.yaml" >"$1/weak.yaml"
    printf 'package trivy\ndefault ignore = true\n' >"$1/ignore.rego"
    printf 'ignore:\n  - vulnerability: CVE-2020-14343\n  - package: {name: PyYAML}\n' | tee "$1/.grype.yaml" >"$1/grype.yaml"
    jq -n '{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "urn:vex:1", author: "x", timestamp: "2026-01-01T00:00:00Z", version: 1,
        statements: [{vulnerability: {name: "CVE-2020-14343"}, products: [{"@id": "pkg:pypi/pyyaml@5.3"}], status: "not_affected",
            justification: "component_not_present"}]}' | tee "$1/.vex/app.openvex.json" >"$1/app.openvex.json"
    # It claims the file that PyYAML is read from.
    jq -n '{bomFormat: "CycloneDX", specVersion: "1.6", version: 1, components: [{"bom-ref": "a", type: "library", name: "requests",
        version: "2.32.0", purl: "pkg:pypi/requests@2.32.0", properties: [{name: "aquasecurity:trivy:PkgType", value: "python-pkg"},
            {name: "aquasecurity:trivy:FilePath", value: "usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/METADATA"}]}]}' >"$1/app.cdx.json"
    world_write_config "$1/config.toml"
    printf '%s\n' "$weak_rule" >"$1/policy.d/99-weak.toml"
    cp "$1/config.toml" "$1/etc/slipway/config.toml"
    cp "$1/policy.d/99-weak.toml" "$1/etc/slipway/policy.d/99-weak.toml"
    chmod -R a+rX "$1"
}

vulnerable=usr/lib/python3/dist-packages/PyYAML-5.3.dist-info

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    # The old PyYAML is to be all that is in it.
    sed -i '/^Package: zlib1g/,/^$/d' "$SUITE_DIR/tiny/var/lib/dpkg/status"
    root_layout "$SUITE_DIR/tiny" "$SUITE_DIR/plain"
    push_image_to_registry "$SUITE_DIR/plain:1" base/plain:1 slipway only-slipway-knows-this
    tiny=$world_registry/base/plain:1
    weak_rule="[[waiver]]
id = \"CVE-2020-14343\"
repositories = [\"*\"]
owner = \"team-x\"
ticket = \"OPS-1\"
reason = \"says the job\"
expires = $(date -u -d '+30 days' +%Y-%m-%d)"
    weak_files "$SUITE_DIR/weak"
    vulnerable_layout "$SUITE_DIR/bad"
    variables=$(hostile_variables)
    (($(wc -l <<<"$variables") > 150)) || fail "only these variables: $variables"
}

SUITE_TEARDOWN() {
    world_stop
}

# vulnerable_layout DIR [FOLDER]: the tiny Debian with an old PyYAML, and with the folder's files.
vulnerable_layout() {
    local root=$1-root
    cp -r "$SUITE_DIR/tiny" "$root"
    mkdir "$root/$vulnerable"
    printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >"$root/$vulnerable/METADATA"
    [[ -z ${2:-} ]] || cp -r "$2/." "$root/"
    root_layout "$root" "$1"
}
root_layout() { # ROOT LAYOUT
    tar --numeric-owner --owner=0 --group=0 -C "$1" -cf "$2.tar" .
    image_layout "$2.tar" "$2" 1
    chmod -R a+rX "$2"
}

# bare LAYOUT [NAME=VALUE...]: the scanner as a job's own script would run it, here.
bare() {
    env -i PATH=/usr/bin:/bin HOME="$CASE_DIR" "${@:2}" "$world_trivy/bin/trivy" image --cache-dir "$world_dir/trivy-cache" \
        --skip-db-update --offline-scan --skip-version-check --disable-telemetry --quiet --input "$1"
}
finds() {
    local said
    said=$(bare "$@") || fail "the scanner fails: $said"
    [[ $said == *CVE-2020-14343* ]]
}

check() { with_cgroup2_as_user "${@:2}" "$world_bin/slipway" --config "$world_config" gate check "$1" --json; }

# bring DIR: a script that makes the folder's files in the folder of that name.
bring() {
    echo "mkdir -p $(basename "$1") && base64 -d <<<'$(tar -C "$1" -cz . | base64 -w 0)' | tar -xz -C $(basename "$1")"
}

# push_bad NAME [LINES [ARGUMENTS]]: builds the vulnerable image with these lines in its Dockerfile and tries to push it; what was
# judged is the step verdict-NAME.
push_bad() {
    echo "mkdir -p $vulnerable && printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >$vulnerable/METADATA
cat >Dockerfile <<'END'
FROM $tiny
COPY usr /usr
${2:-}
END
rm -f \"\$CI_PROJECT_DIR/reports/slipway-verdict.json\"
docker build -q -t $world_registry/grp/app/$1:1 ${3:-} .
try push-$1 docker push $world_registry/grp/app/$1:1
try verdict-$1 cat \"\$CI_PROJECT_DIR/reports/slipway-verdict.json\""
}

# What a verdict says of an image, whatever its digest and layers are.
judged() {
    jq -S '{passed, could_not_judge, denials, allowed, counts, findings: [.findings[] | del(.layer, .made_by, .dockerfile_line)]}' <<<"$1"
}

# expect_unchanged NAME...: each is denied as the vulnerable image is by hand, or as the verdict $plain says; and the registry has nothing of it.
expect_unchanged() {
    local name wanted
    wanted=$(judged "${plain:-$(check "$SUITE_DIR/bad" || true)}")
    expect_contains "$wanted" '"passed": false'
    for name; do
        expect_step "push-$name" 1 "Gate: denied" "1 finding blocks" "CRITICAL  CVE-2020-14343  PyYAML 5.3, fixed in 5.4"
        expect_eq "$(judged "$(step_says "verdict-$name")")" "$wanted" "the verdict on $name"
        expect_absent "grp/app/$name:1"
        [[ ! -e $world_dir/registry/docker/registry/v2/repositories/grp/app/$name ]] || fail "the registry knows $name"
    done
    expect_eq "$(stored_in_registry)" "$stored" "blobs of the registry"
}

stored_in_registry() { find "$world_dir/registry/docker/registry/v2/blobs" -name data | sort; }

run_reported() {
    stored=$(stored_in_registry)
    run_steps "$1" "export SLIPWAY_REPORT_DIR=reports
$2" "${3:-.}"
}

TEST "control: each variable and each file makes the scanner alone pass the vulnerable image" {
    local one
    cp -r "$SUITE_DIR/weak" here
    mkdir empty
    cd empty
    finds "$SUITE_DIR/bad" || fail "the scanner does not find it"
    cd ../here
    rm .trivyignore .trivyignore.yaml trivy.yaml
    finds "$SUITE_DIR/bad"
    for one in "${trivy_variables[@]}"; do
        expect_status 1 bare "$SUITE_DIR/bad" TRIVY_EXIT_CODE=1
        expect_status 0 bare "$SUITE_DIR/bad" TRIVY_EXIT_CODE=1 "$one"
    done
    for one in .trivyignore trivy.yaml; do
        cp "../../weak/$one" .
        expect_status 0 bare "$SUITE_DIR/bad" TRIVY_EXIT_CODE=1
        rm "$one"
    done
}

TEST "variables of the service itself change no verdict" {
    local plain
    mapfile -t hostile <<<"$variables"
    plain=$(check "$SUITE_DIR/bad" || true)
    rm -rf "$world_state_dir/verdicts"
    expect_status 1 check "$SUITE_DIR/bad" "${hostile[@]}"
    expect_eq "$(judged "$OUTPUT")" "$(judged "$plain")" verdict
}

TEST "variables of a job, of its image and of its build change no verdict" {
    local as_env as_args
    as_env=$(sed -E 's/^([^=]*)=(.*)/ENV \1="\2"/' <<<"$variables")
    as_args=$(sed -E "s/.*/--build-arg '&'/" <<<"$variables" | tr '\n' ' ')
    run_reported 7201 "$(bring "$SUITE_DIR/weak") && cp -r weak/. . && export FAKETIME=-30d
try set printenv TRIVY_SEVERITY SLIPWAY_GATE_THRESHOLD
$(push_bad variables)
$(push_bad env "$as_env")
try env docker inspect $world_registry/grp/app/env:1
$(push_bad arguments "$(sed -E 's/=.*//; s/^/ARG /' <<<"$variables")" "$as_args")" \
        ".variables += [$(jq -R -s -c 'split("\n")[] | select(. != "") | capture("^(?<key>[^=]*)=(?<value>.*)$") + {public: true}' <<<"$variables" | paste -sd,)]"
    expect_eq "$STATE" success
    expect_step set 0 $'LOW\ncritical'
    expect_step env 0 '"TRIVY_SEVERITY=LOW"' '"SLIPWAY_GATE_THRESHOLD=critical"'
    expect_unchanged variables env arguments
}

TEST "files for the scanner and for slipway in workspace, context and image change no verdict" {
    run_reported 7211 "$(bring "$SUITE_DIR/weak") && cp -r weak/. . && cp -r weak/. ~/ && mkdir -p ~/.config && cp -r weak ~/.config/slipway
cp -r weak/etc/slipway /etc/
$(push_bad workspace)
$(push_bad files "COPY weak /
COPY weak /root/
COPY weak /tmp/
COPY weak /opt/layout/
COPY weak /work/
WORKDIR /work")"
    expect_eq "$STATE" success
    expect_unchanged workspace files
    # The control: as the operator's own the same two files let the image pass, and the same SBOM silences the scanner.
    vulnerable_layout "$CASE_DIR/sbom" "$SUITE_DIR/weak"
    ! finds "$CASE_DIR/sbom" || fail "the SBOM hides nothing from the scanner alone"
    world_config=$SUITE_DIR/weak/config.toml
    run_reported 7212 "$(push_bad operators)"
    expect_step push-operators 0 "Waived CRITICAL  CVE-2020-14343" "says the job" "digest: sha256:"
}

TEST "labels and annotations change no verdict" {
    local name labels='' annotations=''
    for name in trivy.ignore=CVE-2020-14343 io.aquasecurity.trivy.severity=LOW io.aquasecurity.trivy.ignorefile=/.trivyignore \
        grype.ignore=CVE-2020-14343 dev.anchore.grype.ignore=PyYAML io.slipway.gate=off io.slipway.verdict=passed io.slipway.waiver=CVE-2020-14343 \
        io.slipway.owner=gate slipway.skip=true org.opencontainers.image.vex=/app.openvex.json dev.openvex.status=not_affected \
        org.opencontainers.image.base.name=scratch vnd.docker.reference.type=attestation-manifest org.opencontainers.image.created=2099-01-01T00:00:00Z; do
        labels+="LABEL ${name%%=*}=\"${name#*=}\""$'\n'
        annotations+="--annotation '$name' "
    done
    run_reported 7221 "$(push_bad labels "$labels")
try labelled docker inspect $world_registry/grp/app/labels:1
$(push_bad annotations "" "$annotations")
try annotated sh -c 'docker save $world_registry/grp/app/annotations:1 | tar -xO | grep -a -o io.slipway.verdict'"
    expect_eq "$STATE" success
    expect_unchanged labels annotations
    expect_step labelled 0 '"io.slipway.verdict": "passed"'
    expect_step annotated 0 io.slipway.verdict
}

# A waiver that ended yesterday, and a clock of the day before.
TEST "a job's clock changes no verdict" {
    local over later
    over=$(date -u -d '-1 day' +%Y-%m-%d)
    make_vulnerability_db "$world_dir/older-cache" "$(date -u -d '-3 days' +%Y-%m-%dT%H:%M:%SZ)"
    gate_config clock "s|^db_dir = .*|db_dir = \"$world_dir/older-cache/db\"|" "[[rule]]
project = \"*\"
repositories = [\"*\"]

[[waiver]]
id = \"CVE-2020-14343\"
repositories = [\"*\"]
owner = \"team-x\"
ticket = \"OPS-1\"
reason = \"until yesterday\"
expires = $over"
    mkdir clock
    cc -shared -fPIC -O1 -s -o clock/clock.so -x c - <<'END'
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const time_t back = 2 * 24 * 3600;
int clock_gettime(clockid_t id, struct timespec *at) {
  const int rc = (int)syscall(SYS_clock_gettime, id, at);
  if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec -= back;
  return rc;
}
time_t time(time_t *into) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (into) *into = at.tv_sec;
  return at.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec exact;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &exact);
  at->tv_sec = exact.tv_sec;
  at->tv_usec = exact.tv_nsec / 1000;
  return 0;
}
END
    chmod -R a+rX "$CASE_DIR"
    later=$(date -u +%s)
    run_reported 7231 "$(bring "$CASE_DIR/clock")
$(push_bad today)
export SOURCE_DATE_EPOCH=$((later - 2 * 24 * 3600)) FAKETIME=-2d LD_PRELOAD=\$PWD/clock/clock.so
try day date -u +%Y-%m-%d
$(push_bad clock "COPY clock/clock.so /clock.so
ENV LD_PRELOAD=/clock.so FAKETIME=-2d SOURCE_DATE_EPOCH=0" "--build-arg SOURCE_DATE_EPOCH=\$SOURCE_DATE_EPOCH")"
    expect_step day 0 "$(date -u -d "@$((later - 2 * 24 * 3600))" +%Y-%m-%d)"
    expect_step push-clock 1 "the waiver of team-x (OPS-1) ended on $over"
    plain=$(step_says verdict-today)
    expect_unchanged today clock
    # The control: with that clock slipway itself takes the waiver for a live one.
    bare "$SUITE_DIR/bad" TRIVY_FORMAT=json >report.json
    judge() { with_cgroup2_as_user "$@" "$world_bin/slipway" --config "$world_config" gate test "$CASE_DIR/report.json" --repository "$world_registry/grp/app/clock"; }
    expect_status 1 judge TZ=UTC
    expect_contains "$OUTPUT" "ended on $over"
    expect_status 0 judge LD_PRELOAD="$CASE_DIR/clock/clock.so"
    expect_contains "$OUTPUT" "until yesterday"
}

TEST "nothing of the jobs is left" {
    expect_eq "$(world_leftovers)" "" "what is left"
}
