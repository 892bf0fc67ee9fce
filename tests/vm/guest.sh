#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What the tests do inside the virtual machine, as root: bash guest.sh COMMAND [ARG...]
#
#   package            what GitLab Runner's own package installs: program, user, service
#   readme             the lines of README, "Registering it"
#   configure          what README asks an editor for: registry, base image, runners section, vulnerability database
#   servers            registry, token server; goes on until it is ended (a service runs it)
#   base_images        to the registry
#   queue < JOBS       hands jobs to the service's runner (the stub of GitLab starts anew)
#   await SECONDS ID...             until GitLab knows how they ended
#   await_word SECONDS WORD ID      until the job's log has it
#   digest REPOSITORY:TAG           what the registry has
#   leftovers                       what is left of jobs, one a line
set -euo pipefail

export SLIPWAY_CACHE=/var/cache/slipway
# shellcheck source=tests/lib/env.sh
. /checkout/tests/lib/env.sh
# shellcheck source=tests/lib/images.sh
. /checkout/tests/lib/images.sh
world=/var/lib/world
env_init "$world"
gitlab=http://$env_gitlab_address:5480

# The service as `gitlab-runner install` writes it, and the user as the package's script makes it: a system's user, without
# subordinate ids.
package() {
    mkdir -p "$SLIPWAY_CACHE/tools"
    cp -r /host-cache/images "$SLIPWAY_CACHE/"
    local tool
    for tool in buildkit trivy trivydb gitlab-runner; do cp -r "$(realpath "/host-cache/tools/$tool")" "$SLIPWAY_CACHE/tools/"; done
    install -m 0755 "$("$env_root/packaging/tools/build" gitlab-runner)/bin/gitlab-runner" /usr/bin/
    useradd --system --shell /bin/bash --comment 'GitLab Runner' --create-home gitlab-runner
    mkdir -p /etc/gitlab-runner
    printf 'concurrent = 1\ncheck_interval = 0\n' >/etc/gitlab-runner/config.toml
    chmod 600 /etc/gitlab-runner/config.toml
    cat >/etc/systemd/system/gitlab-runner.service <<'UNIT'
[Unit]
Description=GitLab Runner
ConditionFileIsExecutable=/usr/bin/gitlab-runner
After=network.target

[Service]
StartLimitInterval=5
StartLimitBurst=10
ExecStart=/usr/bin/gitlab-runner "run" "--config" "/etc/gitlab-runner/config.toml" "--working-directory" "/var/lib/gitlab-runner" "--service" "gitlab-runner" "--user" "gitlab-runner"
Restart=always
RestartSec=120
EnvironmentFile=-/etc/sysconfig/gitlab-runner

[Install]
WantedBy=multi-user.target
UNIT
    mkdir -p /var/lib/gitlab-runner
    systemctl daemon-reload
    systemctl enable --now gitlab-runner
}

# Not what compiles: the programs are those of the host. Not the editor.
readme() {
    cd "$env_root"
    sed -n '/^## Registering it/,/^```$/p' README.md | sed -n '/^```sh/,/^```$/{/^```/d;p}' |
        sed -e 's/^packaging\/install-deps build && \(.*\) && cmake.*/\1/' -e '/^cmake /d' -e '/^editor /d' \
            -e '/^slipway config check/,$d' >/root/readme.sh
    bash -euxo pipefail /root/readme.sh
    systemctl is-enabled slipway-gc.timer && systemctl is-active slipway-gc.timer
}

readme_check() {
    cd /
    sed -n '/^## Registering it/,/^```$/p' "$env_root/README.md" | grep '^slipway config check' >/root/readme-check.sh
    bash -euxo pipefail /root/readme-check.sh
}

configure() {
    make_ca
    install -m 0644 "$env_tls/ca.pem" /etc/slipway/ca.pem
    install -m 0600 -o gitlab-runner /dev/null /etc/slipway/registry-password
    printf only-slipway-knows-this >/etc/slipway/registry-password
    # As README says: keys are changed where they stand.
    sed -i -e "s|^default_image = \"\"|default_image = \"$env_registry/base/debian:12\"|" \
        -e 's|^memory = "0B"|memory = "768MiB"|' -e 's|^cpus = 0.0|cpus = 0.5|' -e 's|^pids = 4096|pids = 300|' \
        -e '/^#\[\[registry\]\]/,/^$/{s/^#//' \
        -e "s|^host = .*|host = \"$env_registry\"|;s|^ca_file = .*|ca_file = \"/etc/slipway/ca.pem\"|" \
        -e 's|^credential = .*|credential = "operator"|;s|^username = .*|username = "slipway"|' \
        -e 's|^password_file = .*|password_file = "/etc/slipway/registry-password"|' \
        -e "s|^realm_hosts = .*|realm_hosts = [\"$env_address:$env_token_port\"]|}" /etc/slipway/config.toml
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\n' >/etc/slipway/policy.d/90-vm.toml
    make_vulnerability_db /root/new-db
    install -d -o gitlab-runner /var/lib/slipway/trivy-db
    install -m 0444 -o gitlab-runner /root/new-db/db/{trivy.db,metadata.json} /var/lib/slipway/trivy-db/
    # The section that setup-runner prints, with what GitLab would tell.
    {
        printf 'concurrent = 4\nshutdown_timeout = 120\ncheck_interval = 1\n'
        "$env_root/packaging/setup-runner" --dry-run | sed -n '/^\[\[runners\]\]/,$p' |
            sed "s|^\[\[runners\]\]|&\n  name = \"slipway\"\n  url = \"$gitlab\"\n  token = \"glrt-stub\"|"
    } >/etc/gitlab-runner/config.toml
    cat >/etc/systemd/system/world.service <<UNIT
[Service]
ExecStart=/bin/bash $env_root/tests/vm/guest.sh servers
[Install]
WantedBy=multi-user.target
UNIT
    cat >/etc/systemd/system/gitlab.service <<UNIT
[Unit]
Wants=world.service
After=world.service
[Service]
Restart=on-failure
RestartSec=1
ExecStart=/bin/sh -c 'exec ip netns exec $env_netns python3 $env_root/tests/gitlab-runner/coordinator.py $env_gitlab_address:5480 $world/jobs $world/queue/*.json'
[Install]
WantedBy=multi-user.target
UNIT
    mkdir -p "$world/queue" "$world/jobs"
    systemctl daemon-reload
    systemctl enable --now world
}

servers() {
    trap 'env_stop; exit 0' TERM INT
    env_hosts_restore
    ip netns del "$env_netns" 2>/dev/null || true
    printf '{"slipway": {"password": "only-slipway-knows-this", "repos": {"*": ["pull", "push"]}}, "": {"repos": {"base/*": ["pull"]}}}' \
        >"$world/users.json"
    env_network && make_ca && start_token_server "$world/users.json" && start_registry || exit 1
    sleep infinity &
    wait $!
}

base_images() {
    env_tls=$world/tls
    wait_port "$env_address" "$env_registry_port" 300
    push_base_images slipway only-slipway-knows-this
}

queue() {
    systemctl stop gitlab
    rm -rf "$world/queue" "$world/jobs"
    mkdir -p "$world/queue" "$world/jobs"
    jq -c . | (cd "$world/queue" && split -l 1 -d --additional-suffix=.json - job)
    systemctl enable --quiet --now gitlab
}

# until_true SECONDS COMMAND...
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || env_fail "still not true after the wait: $*" || return 1
        sleep 1
    done
}

await() {
    local seconds=$1 id
    shift
    for id; do until_true "$seconds" test -s "$world/jobs/$id.result.json"; done
}

await_word() { until_true "$1" grep -qs "$2" "$world/jobs/$3.trace"; }

digest() {
    env_tls=$world/tls
    env_skopeo inspect --creds slipway:only-slipway-knows-this --format '{{.Digest}}' "docker://$env_registry/$1"
}

as_runner() {
    (cd / && runuser -u gitlab-runner -- env XDG_RUNTIME_DIR="/run/user/$(id -u gitlab-runner)" HOME=/home/gitlab-runner "$@")
}

# Warm builders stay, by policy. A group of a sandbox has its container's id in its name.
leftovers() {
    local podman=(as_runner podman --cgroup-manager=cgroupfs) group containers
    "${podman[@]}" ps --all --format 'container {{.Names}}' --filter label=io.slipway.job
    "${podman[@]}" ps --all --format 'container {{.Names}}' --filter label=io.slipway.role=scanner
    "${podman[@]}" network ls --format 'network {{.Name}}' --filter name=slipway-j
    "${podman[@]}" volume ls --format 'volume {{.Name}}' --filter name=slipway-j
    find /var/lib/slipway/jobs "/run/user/$(id -u gitlab-runner)/slipway" -mindepth 1 -maxdepth 1 -name 'j*' 2>/dev/null || true
    containers=$("${podman[@]}" ps --no-trunc --quiet)
    for group in /sys/fs/cgroup/system.slice/gitlab-runner.service/sandboxes/libpod-*; do
        [[ ! -d $group || $containers == *"${group##*/libpod-}"* ]] || echo "group $group"
    done
}

"$@"
