# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# README's way to a runner, line by line as it stands there: the programs in /usr/bin, packaging/setup-runner's own
# configuration with the few keys that README names, its [[runners]] section in the real gitlab-runner's config.toml.
# All of it happens in a mount namespace of its own: the machine keeps nothing of it.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    # The token of the job may push where its project is.
    jq '.["gitlab-ci-token"] = {password: "glcbt-job-token-8101", repos: {"grp/app/*": ["pull", "push"], "base/*": ["pull"]}}' \
        "$world_dir/users.json" >"$world_dir/users.json.new"
    mv "$world_dir/users.json.new" "$world_dir/users.json"
    # A former suite's Podman of this user lives in a namespace that does not see what is installed here.
    with_cgroup2_as_user podman system migrate
    cat >"$SUITE_DIR/install" <<'INSTALL'
set -euo pipefail
layers=$1
# What is written below /usr and /etc goes to a folder of the test.
for folder in /usr/bin /usr/local/bin /etc/systemd/system; do
    mkdir -p "$layers$folder/up" "$layers$folder/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$layers$folder/up,workdir=$layers$folder/work" "$folder"
done
for folder in /etc/slipway /etc/gitlab-runner /var/lib/slipway; do
    mkdir -p "$layers$folder" "$folder"
    mount --bind "$layers$folder" "$folder"
done
for file in /etc/subuid /etc/subgid; do
    [[ -e $layers$file ]] || cp "$file" "$layers$file"
    mount --bind "$layers$file" "$file"
done
linger=/var/lib/systemd/linger
mkdir -p "$layers$linger" "$linger"
mount --bind "$layers$linger" "$linger"
touch "$layers/ready"
exec sleep 3600
INSTALL
    layers=$SUITE_DIR/layers
    mkdir "$layers"
    chmod 755 "$layers"
    mount -t tmpfs -o mode=755,size=2g tmpfs "$layers" # an overlay cannot lie on an overlay
    unshare --mount --propagation private bash "$SUITE_DIR/install" "$layers" &
    machine=$!
    until_true 10 test -e "$layers/ready"
}

SUITE_TEARDOWN() {
    world_stop
    env_kill "$machine"
    umount -l "$layers"
    # What a machine without slipway does not have.
    rmdir /etc/slipway /etc/gitlab-runner /var/lib/slipway /var/lib/systemd/linger 2>/dev/null || true
}

# installed COMMAND...: on the machine as slipway is installed there.
installed() {
    nsenter --mount="/proc/$machine/ns/mnt" --wdns="$PWD" "$@"
}

# readme_lines FROM: the code block of README that begins with the line FROM.
readme_lines() {
    awk -v from="$1" 'index($0, from) == 1 { on = 1 } on && /^```/ { exit } on' "$SUITE_ROOT/README.md"
}

TEST "README's lines install it" {
    install -m 0755 "$world_runner/bin/gitlab-runner" "$layers/gitlab-runner"
    # The packages are there, and the programs are built: tests/run did both. The editor comes below.
    readme_lines "packaging/install-deps build" |
        sed -e '/^packaging\/install-deps/d; /^cmake /d; /^editor /,$d' -e "s/setup-runner --concurrent 4/& --user $world_user/" \
            -e "s#build/bin/#$SLIPWAY_BIN/#" >lines
    expect_eq "$(wc -l <lines)" 4 "lines of README that install"
    grep -q "^packaging/setup-runner --concurrent 4 --user" lines
    cd "$SUITE_ROOT"
    expect_status 0 installed bash -euo pipefail -c "install -m 0755 $layers/gitlab-runner /usr/bin/gitlab-runner
        $(<"$CASE_DIR/lines")"
    expect_contains "$OUTPUT" "[[runners]]"
    sed -n '/^\[\[runners\]\]/,$p' <<<"$OUTPUT" >"$SUITE_DIR/runners.toml"
    # setup-runner again finds all as it should be.
    expect_status 0 installed packaging/setup-runner --concurrent 4 --user "$world_user"
    expect_lacks "$OUTPUT" "write /"
}

TEST "the configuration needs the keys that README names, where they stand" {
    # A registry with an authority of its own, as this one, needs ca_file besides.
    cat >edit <<EDIT
sed -i -e 's#^default_image = ""#default_image = "$world_base"#' \
    -e '/^#\[\[registry\]\]/,/^\$/s/^#//' /etc/slipway/config.toml
sed -i -e 's#^host = "registry.example:5000"#host = "$world_registry"#' -e 's#^ca_file = ""#ca_file = "$env_tls/ca.pem"#' \
    -e 's#^realm_hosts = \[\]#realm_hosts = ["$env_address:$env_token_port"]#' /etc/slipway/config.toml
EDIT
    installed bash -euo pipefail "$CASE_DIR/edit"
    # docs/operating.md, "The first one", with a database of our own.
    mkdir -p new
    cp -r "$world_dir/trivy-cache/db" new/
    chmod -R a+rX . # the service user's install does not read it, but root's
    expect_status 0 installed bash -euo pipefail -c "install -d -o $world_user /var/lib/slipway/trivy-db
        install -m 0444 -o $world_user new/db/{trivy.db,metadata.json} /var/lib/slipway/trivy-db/
        cd / && slipway config check"
    expect_status 0 installed "$env_lib/as-user" "$world_user" slipway db status
    installed "$env_lib/as-user" "$world_user" slipway doctor >doctor || true
    grep -q "$world_registry" doctor
}

TEST "a job of the real runner, by its config.toml alone, builds and pushes with its own token" {
    world_job 8101 "mkdir app && cd app
echo 'FROM $world_base' >Dockerfile
docker build -t \$CI_REGISTRY_IMAGE/web:1 .
docker push \$CI_REGISTRY_IMAGE/web:1" |
        jq --arg url "$world_registry" 'del(.image) |
            .credentials = [{type: "registry", url: $url, username: "gitlab-ci-token", password: "glcbt-job-token-8101"}]' >8101.json
    world_coordinator_port=$((world_coordinator_port + 1))
    mkdir out
    env_serve_address=$env_gitlab_address env_serve "coordinator-$world_coordinator_port" "$world_coordinator_port" python3 \
        "$env_root/tests/gitlab-runner/coordinator.py" "$env_gitlab_address:$world_coordinator_port" out 8101.json
    {
        printf 'concurrent = 4\nshutdown_timeout = 120\n\n'
        sed "s#^\[\[runners\]\]#&\n  name = \"slipway\"\n  url = \"http://$env_gitlab_address:$world_coordinator_port\"\n  token = \"glrt-stub\"#" \
            "$SUITE_DIR/runners.toml"
    } >"$layers/etc/gitlab-runner/config.toml"
    chmod 0600 "$layers/etc/gitlab-runner/config.toml" # as `gitlab-runner register` leaves it to root
    installed "$SUITE_ROOT/packaging/setup-runner" --concurrent 4 --user "$world_user" >given
    grep -q "give /etc/gitlab-runner" given
    installed timeout --kill-after=30 300 "$env_lib/as-user" "$world_user" gitlab-runner run-single \
        --config /etc/gitlab-runner/config.toml --runner slipway --max-builds 1 --wait-timeout 30 >runner.log 2>&1 ||
        fail "$(tail -n 20 runner.log)"
    env_kill "${env_pids[-1]}"
    TRACE=$(world_trace out 8101)
    expect_eq "$(world_state out 8101)" success "the job: $(tail -n 25 <<<"$TRACE")"
    digest=$(world_registry_digest grp/app/web:1)
    expect_contains "$TRACE" "${digest:?nothing was pushed}"
    expect_eq "$(find "$layers/var/lib/slipway/jobs" -mindepth 1 -maxdepth 1)" "" "what is left of the job"
    expect_status 0 installed slipway audit verify
}

TEST "the packages hold what README's lines install, need only Debian's, and bring a setup-runner that finds their tools" {
    local deb tools tree=$CASE_DIR/tree name
    SLIPWAY_BIN=$SLIPWAY_BIN "$SUITE_ROOT/packaging/deb" --no-build --tools "$CASE_DIR/out" >paths
    deb=$(sed -n 1p paths) tools=$(sed -n 2p paths)
    # The same commit makes the same bytes.
    expect_eq "$(SLIPWAY_BIN=$SLIPWAY_BIN "$SUITE_ROOT/packaging/deb" --no-build "$CASE_DIR/again" | xargs sha256sum | cut -d' ' -f1)" \
        "$(sha256sum "$deb" | cut -d' ' -f1)"
    expect_status 0 apt-get install --simulate -o Debug::NoLocking=1 "$deb" "$tools"
    expect_contains "$OUTPUT" "Conf slipway-tools"
    dpkg-deb -x "$deb" "$tree"
    dpkg-deb -x "$tools" "$tree"
    for name in slipway slipway-gate slipway-init slipway-shim slipway-push slipway-pkcs11; do
        [[ -x $tree/usr/bin/$name ]] || fail "no $name"
    done
    expect_eq "$("$tree/usr/bin/slipway" --version)" "$("$SLIPWAY_BIN/slipway" --version)"
    expect_eq "$(find "$tree" -path "$tree/usr" -prune -o -type f -print)" "" "files outside of /usr"
    expect_eq "$(stat -c '%U %a' "$tree/usr/bin/slipway" "$tree/usr/lib/slipway/bin/trivy" | sort -u)" "root 755"
    (cd "$tree" && dpkg-deb -I "$deb" md5sums | md5sum --quiet -c)
    zcat "$tree/usr/share/man/man1/slipway.1.gz" | grep -q slipway

    mkdir -p "$tree/etc"
    cp /etc/passwd "$tree/etc/"
    mkdir -p "$tree$(getent passwd "$world_user" | cut -d: -f6)"
    chown "$world_user" "$tree$(getent passwd "$world_user" | cut -d: -f6)"
    expect_status 0 "$tree/usr/sbin/slipway-setup-runner" --root "$tree" --user "$world_user"
    grep -qx "trivy_sha256 = \"$(sha256sum "$tree/usr/lib/slipway/bin/trivy" | cut -d' ' -f1)\".*" "$tree/etc/slipway/config.toml"
    expect_eq "$(sed -n 's/^\(buildkitd\|buildctl\|trivy\) = "\([^"]*\)".*/\2/p' "$tree/etc/slipway/config.toml" | paste -sd' ')" \
        "/usr/lib/slipway/bin/buildkitd /usr/lib/slipway/bin/buildctl /usr/lib/slipway/bin/trivy"
    for name in buildkitd buildctl; do [[ -x $tree/usr/lib/slipway/bin/$name ]] || fail "no $name"; done
}
