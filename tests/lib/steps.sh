# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For suites of tests/e2e: jobs whose script tries many things, each looked at by itself. Source after world.sh.
#
#   run_script ID SCRIPT [JQ]   runs one job, changed by the jq program; sets TRACE and STATE
#   run_steps ID SCRIPT [JQ]    the same, and SCRIPT may use `try NAME COMMAND...`, which never ends the script
#   step_says NAME              what the command of that name printed (stdout and stderr)
#   expect_step NAME STATUS [WORDS...]   it ended so and printed these
#   make_tiny_base              pushes $tiny, a Debian of two packages, one with a vulnerability that nobody fixed: scans of a
#                               whole Debian take seconds; its layout is $SUITE_DIR/tiny-layout
#   expect_absent REPOSITORY:TAG         the registry says that it has no such manifest
#   with_sandbox SETTINGS COMMAND...     the command with these lines in the configuration's [sandbox]
#   publish_tools               pushes $world_tools, a Debian with curl, nft and /opt/push-by-hand REPOSITORY [LOGIN [TAG]]: what
#                               a job does that has a login, USER:PASSWORD or bearer:TOKEN of the registry itself, without
#                               any slipway. Needs test_images.sh
#   start_proxy PORT            $proxy is the registry on a way that misbehaves as $world_dir/faults.json says, see
#                               tests/lib/fault_proxy.py; requests are lines of $world_dir/log/requests
#   write FILE TEXT             at once: somebody may read it just now
#   $manifest_held              faults.json: a push waits with its manifest, when all of its blobs are sent
#   make_deploy_key             an SSH key: in $key, exported for a payload's filter, and known by its $fingerprint
#   worker_pids; run_pid        slipway-push and `slipway gitlab run` of this world's user

# shellcheck disable=SC2016
steps_prelude='try() { local name=$1 rc=0; shift; echo "<<$name"; "$@" 2>&1 || rc=$?; echo; echo ">>$name $rc"; } # a step'

run_script() {
    world_job "$1" "$2" | jq "${3:-.}" >"$CASE_DIR/$1.json"
    world_run "$CASE_DIR/jobs" "$CASE_DIR/$1.json"
    TRACE=$(world_trace "$CASE_DIR/jobs" "$1")
    STATE=$(world_state "$CASE_DIR/jobs" "$1")
    echo "$TRACE"
    echo "state: $STATE"
}

run_steps() {
    run_script "$1" "$steps_prelude"$'\n'"$2" "${3:-.}"
}

step_says() {
    awk -v begin="<<$1" -v end=">>$1 " '
        $0 == begin { on = 1; next }
        on && index($0, end) == 1 { exit }
        on { print }' <<<"$TRACE"
}

expect_step() {
    local name=$1 status=$2 said words
    shift 2
    said=$(step_says "$name")
    grep -qxF -- ">>$name $status" <<<"$TRACE" ||
        fail "step '$name' ended with '$(grep -F -- ">>$name " <<<"$TRACE")', expected $status, and said: $said" || return 1
    for words in "$@"; do
        [[ $said == *"$words"* ]] || fail "step '$name' does not say '$words', but: $said" || return 1
    done
}

# A registry that is down says nothing, and is no proof.
expect_absent() {
    local answer
    if answer=$(env_skopeo inspect --creds slipway:only-slipway-knows-this "docker://$world_registry/$1" 2>&1); then
        fail "the registry has $1: $answer" || return 1
    fi
    [[ $answer == *"manifest unknown"* || $answer == *"name unknown"* || $answer == *"not found"* ]] || fail "$answer"
}

make_tiny_base() {
    local root=$SUITE_DIR/tiny applet
    mkdir -p "$root"/{bin,etc,tmp,dev,root/.ssh,usr/lib/python3/dist-packages,var/lib/dpkg}
    cp /bin/busybox "$root/bin/busybox"
    for applet in sh rm mkdir printf head; do ln -s busybox "$root/bin/$applet"; done
    printf 'ID=debian\nVERSION_ID="12"\n' >"$root/etc/os-release"
    echo 12.5 >"$root/etc/debian_version"
    printf 'Package: %s\nStatus: install ok installed\nSource: %s\nVersion: %s\nArchitecture: amd64\n\n' \
        zlib1g zlib 1:1.2.13.dfsg-1 adduser adduser 3.134 >"$root/var/lib/dpkg/status"
    tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$root.tar" .
    image_layout "$root.tar" "$SUITE_DIR/tiny-layout" 1
    chmod -R a+rX "$SUITE_DIR/tiny-layout"
    push_image_to_registry "$SUITE_DIR/tiny-layout:1" base/tiny:1 slipway only-slipway-knows-this
    tiny=$world_registry/base/tiny:1
}

tool_files() {
    with_program "$(command -v curl)"
    with_program "$(command -v nft)"
    install -D -m 0755 /bin/busybox opt/busybox
    push_by_hand_script >opt/push-by-hand
    chmod 755 opt/push-by-hand
}

push_by_hand_script() {
    cat <<SCRIPT
#!/bin/bash
set -euo pipefail
ask() { curl --silent --show-error --insecure --fail --max-time 60 --connect-timeout 10 "\$@"; }
case \${2:-} in
bearer:*) token=\${2#bearer:} ;;
*) token=\$(ask --user "\${2:-ci:a-token-that-may-push}" \
    "https://$env_address:$env_token_port/token?service=slipway-test-registry&scope=repository:\$1:pull,push" |
    sed -E 's/.*"token": *"([^"]*)".*/\1/') ;;
esac
to() { ask --header "Authorization: Bearer \$token" "\$@"; }
place=\$(to --request POST --dump-header - --output /dev/null "https://$world_registry/v2/\$1/blobs/uploads/" |
    tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
digest=sha256:\$(printf '{}' | sha256sum | cut -d' ' -f1)
to --request PUT --header 'Content-Type: application/octet-stream' --data-binary '{}' "\$place&digest=\$digest" >/dev/null
to --request PUT --header 'Content-Type: application/vnd.oci.image.manifest.v1+json' --output /dev/null --data-binary \
    '{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [], "config":
      {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": "'\$digest'"}}' \
    "https://$world_registry/v2/\$1/manifests/\${3:-1}"
echo "pushed \$1 by hand"
SCRIPT
}

publish_tools() {
    publish_image base/tools:12 debian '{}' tool_files
    world_tools=$world_registry/base/tools:12
}

with_sandbox() {
    local settings=$1 rc=0
    shift
    cp "$world_config" "$CASE_DIR/config.toml"
    printf '\n[sandbox]\n%s\n' "$settings" >>"$world_config"
    "$@" || rc=$?
    cp "$CASE_DIR/config.toml" "$world_config"
    return "$rc"
}

start_proxy() {
    proxy=$env_address:$1
    echo '{}' >"$world_dir/faults.json"
    : >"$world_dir/log/requests"
    env_serve proxy "$1" python3 "$env_lib/fault_proxy.py" --listen "$proxy" --upstream "$env_registry" \
        --cert "$env_tls/servers.pem" --key "$env_tls/servers-key.pem" --ca "$env_tls/ca.pem" \
        --faults "$world_dir/faults.json" --log "$world_dir/log/requests"
}

manifest_held='{"hold": true, "method": "PUT", "path": "/manifests/"}'

write() {
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

# programs NAME WORDS: of that name, with these words in their argv.
programs() {
    local exe
    for exe in /proc/[0-9]*/exe; do
        [[ $(readlink "$exe" 2>/dev/null) == "$(realpath "$world_bin")/$1" ]] || continue
        [[ $(stat -c %U "${exe%/exe}" 2>/dev/null) == "$world_user" ]] || continue
        [[ $(tr '\0' ' ' <"${exe%exe}cmdline") == *"$2"* ]] && basename "${exe%/exe}"
    done
    return 0
}

worker_pids() { programs slipway-push ''; }

run_pid() { programs slipway "$world_config gitlab run "; }

make_deploy_key() {
    ssh-keygen -q -t ed25519 -N '' -f "$CASE_DIR/key"
    key=$(<"$CASE_DIR/key")
    export key
    fingerprint=$(ssh-keygen -lf "$CASE_DIR/key" | cut -d' ' -f2)
}
