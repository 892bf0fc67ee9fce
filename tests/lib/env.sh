# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The world that tests and packaging/try run slipway in: an unprivileged user, a pure cgroup v2 view, an address that
# sandboxes can reach, and real servers on it (registry, token server, stub of GitLab). Sourced by bash scripts that
# run as root. Every function here prints what failed and returns non-zero; nothing is started twice.
#
#   env_init DIR           DIR is the folder for this run's files; sets the SLIPWAY_* variables below
#   env_user NAME          makes the user and its runtime folder; sets env_user_name, env_runtime_dir
#   with_cgroup2_as_user COMMAND...
#   env_network            makes the address 10.203.0.2 that servers listen on
#   make_ca; start_token_server USERS.json; start_registry; start_coordinator JOB.json...
#   env_stop               ends what this run started, and only that

env_lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
env_root=$(cd "$env_lib/../.." && pwd)
env_cache=${SLIPWAY_CACHE:-/var/cache/slipway}

# Servers live in a network namespace of their own, behind a veth pair: rootless containers leave through
# slirp4netns in the host's namespace, which refuses the host's loopback addresses but routes to these.
env_netns=${SLIPWAY_TEST_NETNS:-slipway-srv}
env_subnet=${SLIPWAY_TEST_SUBNET:-10.203.0}
env_address=$env_subnet.2
# GitLab's own: sandboxes reach it, unlike the registry's.
env_gitlab_address=$env_subnet.3
env_registry_name=registry.$env_netns.test
env_registry_port=5443
env_token_port=5444
env_coordinator_port=5480
env_registry=$env_address:$env_registry_port

env_pids=()
env_netns_made=
env_lock=/run/slipway-tests.lock # of the machine's own files

env_fail() {
    echo "tests/lib/env.sh: $*" >&2
    return 1
}

env_init() {
    env_dir=$(realpath -m "$1")
    mkdir -p "$env_dir/log"
    chmod 755 "$env_dir"
}

# One unprivileged user with subordinate ids for several concurrent jobs: a slot is 65536 ids.
env_user() {
    env_user_name=$1
    local slots=${2:-12}
    local want=$((slots * 65536)) file start count lock
    # Other suites may make their users meanwhile.
    exec {lock}>"$env_lock" && flock "$lock" || return 1
    if ! id -u "$env_user_name" >/dev/null 2>&1; then
        useradd --create-home --shell /bin/bash "$env_user_name" || return 1
    fi
    for file in /etc/subuid /etc/subgid; do
        count=$(awk -F: -v u="$env_user_name" '$1 == u { if ($3 > n) n = $3 } END { print n + 0 }' "$file")
        ((count >= want)) && continue
        sed -i "/^$env_user_name:/d" "$file"
        start=$(awk -F: 'BEGIN { top = 10000000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "$file")
        echo "$env_user_name:$start:$want" >>"$file"
        env_ids_changed=1
    done
    exec {lock}>&-
    env_uid=$(id -u "$env_user_name")
    env_runtime_dir=/run/user/$env_uid
    install -d -m 0755 /run/user
    install -d -m 0700 -o "$env_user_name" -g "$(id -gn "$env_user_name")" "$env_runtime_dir"
    env_home=$(getent passwd "$env_user_name" | cut -d: -f6)
    # Podman takes the slow copying driver where a first probe of overlay fails; say what we rely on.
    if [[ ! -e $env_home/.config/containers/storage.conf ]]; then
        with_cgroup2_as_user bash -c 'mkdir -p ~/.config/containers &&
            printf "[storage]\\ndriver = \"overlay\"\\n" >~/.config/containers/storage.conf'
    fi
    if [[ -n ${env_ids_changed:-} ]]; then
        # Podman's pause process holds the old id map until it is told.
        with_cgroup2_as_user podman system migrate >/dev/null 2>&1 || true
        env_ids_changed=
    fi
}

# Runs a command (NAME=VALUE pairs may precede it) as env_user_name, with a clean environment, in a private
# mount namespace whose /sys/fs/cgroup is pure v2 with a group of the user's own: crun refuses a v1/v2 hybrid tree.
# On a machine where systemd already delegates such a group this does no harm.
with_cgroup2_as_user() {
    chmod 666 /dev/net/tun /dev/fuse 2>/dev/null || true
    # shellcheck disable=SC2016
    unshare --mount --propagation private bash -euo pipefail -c '
        user=$1 runtime=$2
        shift 2
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t cgroup2 none /sys/fs/cgroup
        mount --make-rshared /
        group=/sys/fs/cgroup/$user
        mkdir -p "$group/init"
        chown -R "$user:" "$group" 2>/dev/null || true
        echo $$ >"$group/init/cgroup.procs"
        home=$(getent passwd "$user" | cut -d: -f6)
        cd "$home"
        exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups \
            env -i HOME="$home" USER="$user" LOGNAME="$user" LANG=C.UTF-8 \
            PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin XDG_RUNTIME_DIR="$runtime" "$@"
    ' with-cgroup2 "$env_user_name" "$env_runtime_dir" "$@"
}

env_network() {
    if ! ip netns list | grep -w "$env_netns" >/dev/null; then
        ip netns add "$env_netns" || return 1
        env_netns_made=1
        # Interface names have at most 15 characters.
        ip link add "${env_netns:0:13}-h" type veth peer name eth0 netns "$env_netns" || return 1
        ip addr add "$env_subnet.1/24" dev "${env_netns:0:13}-h"
        ip link set "${env_netns:0:13}-h" up
        ip -n "$env_netns" addr add "$env_address/24" dev eth0
        ip -n "$env_netns" addr add "$env_gitlab_address/24" dev eth0
        ip -n "$env_netns" link set eth0 up
        ip -n "$env_netns" link set lo up
        ip -n "$env_netns" route add default via "$env_subnet.1"
    fi
    env_hosts "$env_address" "$env_registry_name"
}

# env_hosts ADDRESS NAME: a name that the host knows until env_stop. Others may be at the file too, which may be a bind
# mount that sed -i cannot replace.
env_hosts() {
    local lock
    exec {lock}>"$env_lock" && flock "$lock" || return 1
    echo "$1 $2 # slipway tests in $env_netns" >>/etc/hosts
    exec {lock}>&-
}

env_hosts_restore() {
    local lock kept
    exec {lock}>"$env_lock" && flock "$lock" || return 1
    kept=$(grep -v "# slipway tests in $env_netns\$" /etc/hosts)
    [[ $kept == "$(cat /etc/hosts)" ]] || printf '%s\n' "$kept" >/etc/hosts
    exec {lock}>&-
}

# Starts a server in the servers' namespace: env_serve NAME PORT COMMAND...; its output goes to DIR/log/NAME.log. It has
# to answer on env_address, or on env_serve_address where that is set. It ends with the shell, unless env_pdeathsig=clear.
env_serve() {
    local name=$1 port=$2 address=${env_serve_address:-$env_address}
    shift 2
    ip netns exec "$env_netns" setpriv --pdeathsig "${env_pdeathsig:-KILL}" "$@" >"$env_dir/log/$name.log" 2>&1 </dev/null &
    local pid=$!
    env_pids+=("$pid")
    wait_port "$address" "$port" 15 "$pid" || {
        tail -n 20 "$env_dir/log/$name.log" >&2
        env_fail "$name does not answer on $address:$port"
    }
}

# wait_port ADDRESS PORT SECONDS [PID]: until a connect works; false at once if PID has ended.
wait_port() {
    local deadline=$((SECONDS + $3))
    while ((SECONDS < deadline)); do
        (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null && return 0
        [[ -z ${4:-} ]] || kill -0 "$4" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

make_ca() {
    env_tls=$env_dir/tls
    mkdir -p "$env_tls"
    [[ -s $env_tls/ca.pem ]] && return 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=slipway test CA" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$env_tls/ca-key.pem" -out "$env_tls/ca.pem" 2>/dev/null || return 1
    chmod 644 "$env_tls/ca.pem"
}

# make_cert NAME SAN[,SAN...]: DIR/tls/NAME.pem and NAME-key.pem, signed by the CA.
make_cert() {
    [[ -s $env_tls/$1.pem ]] && return 0
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
        -keyout "$env_tls/$1-key.pem" -out "$env_tls/$1.csr" 2>/dev/null &&
        openssl x509 -req -in "$env_tls/$1.csr" -CA "$env_tls/ca.pem" -CAkey "$env_tls/ca-key.pem" -CAcreateserial \
            -days 2 -out "$env_tls/$1.pem" \
            -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2") 2>/dev/null
}

# start_token_server USERS.json: {"user": {"password": "...", "repos": {"glob": ["pull", "push"]}}}. Each grant is a line
# of DIR/grants.jsonl. env_token_lifetime (seconds, default 300) is what it grants.
start_token_server() {
    make_cert servers "DNS:$env_registry_name,IP:$env_address" || return 1
    if [[ ! -s $env_tls/token-signer.pem ]]; then
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=slipway test token signer" \
            -keyout "$env_tls/token-signer-key.pem" -out "$env_tls/token-signer.pem" 2>/dev/null || return 1
    fi
    env_grants=$env_dir/grants.jsonl
    : >"$env_grants"
    env_serve token-server "$env_token_port" python3 "$env_lib/token_server.py" \
        --listen "$env_address:$env_token_port" --cert "$env_tls/servers.pem" --key "$env_tls/servers-key.pem" \
        --signer-cert "$env_tls/token-signer.pem" --signer-key "$env_tls/token-signer-key.pem" \
        --users "$1" --log "$env_grants" --lifetime "${env_token_lifetime:-300}"
}

# A real distribution registry with TLS and token authentication. Storage is DIR/registry.
start_registry() {
    make_cert servers "DNS:$env_registry_name,IP:$env_address" || return 1
    cat >"$env_dir/registry.yml" <<YML
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage:
  filesystem: {rootdirectory: $env_dir/registry}
  delete: {enabled: true}
http:
  addr: $env_address:$env_registry_port
  secret: only-for-tests
  tls: {certificate: $env_tls/servers.pem, key: $env_tls/servers-key.pem}
auth:
  token:
    realm: https://$env_address:$env_token_port/token
    service: slipway-test-registry
    issuer: slipway-test-issuer
    rootcertbundle: $env_tls/token-signer.pem
YML
    env_serve registry "$env_registry_port" docker-registry serve "$env_dir/registry.yml"
}

# start_coordinator JOB.json...: results are in DIR/coordinator (ID.trace, ID.result.json).
start_coordinator() {
    env_coordinator=http://$env_gitlab_address:$env_coordinator_port
    env_serve_address=$env_gitlab_address env_serve coordinator "$env_coordinator_port" python3 "$env_root/tests/gitlab-runner/coordinator.py" \
        "$env_gitlab_address:$env_coordinator_port" "$env_dir/coordinator" "$@"
}

# env_skopeo ARGS...: skopeo that trusts the CA.
env_skopeo() {
    mkdir -p "$env_dir/skopeo-certs"
    cp "$env_tls/ca.pem" "$env_dir/skopeo-certs/ca.crt"
    local command=$1
    shift
    case $command in
    copy) skopeo --insecure-policy copy --quiet --dest-cert-dir "$env_dir/skopeo-certs" --src-cert-dir "$env_dir/skopeo-certs" "$@" ;;
    *) skopeo --insecure-policy "$command" --cert-dir "$env_dir/skopeo-certs" "$@" ;;
    esac
}

# push_image_to_registry LAYOUT[:TAG] REPOSITORY:TAG USER PASSWORD
push_image_to_registry() {
    env_skopeo copy --dest-creds "$3:$4" "oci:$1" "docker://$env_registry/$2"
}

# Ends the process PID and waits for it.
env_kill() {
    kill "$1" 2>/dev/null || return 0
    local i
    for ((i = 0; i < 40; i++)); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.05
    done
    kill -9 "$1" 2>/dev/null || true
}

stop_all() {
    local pid
    for pid in "${env_pids[@]}"; do
        env_kill "$pid"
        wait "$pid" 2>/dev/null || true
    done
    env_pids=()
}

# Ends servers, removes the namespace and the hosts line that this run made; files stay (the caller owns DIR).
env_stop() {
    stop_all
    if [[ -n $env_netns_made ]]; then
        ip netns del "$env_netns" 2>/dev/null || true
        ip link del "${env_netns:0:13}-h" 2>/dev/null || true
        env_netns_made=
    fi
    env_hosts_restore
}

# Removes the containers, networks and volumes that slipway or a test of this user left, and Podman's own processes.
env_podman_reset() {
    with_cgroup2_as_user timeout 60 bash -c '
        podman rm --all --force --time 0
        podman network prune --force
        podman volume prune --force' >/dev/null 2>&1 || true
}
