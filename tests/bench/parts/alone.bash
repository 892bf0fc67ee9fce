# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The tools that slipway builds with, by themselves, as root on the host: daemons, stores and results are below
# $bench_dir/alone. Source after bench.bash, and call after bench_start.
#
#   alone_init KANIKO                  KANIKO: folder with bin/executor
#   alone_forget                       ends the daemon, removes what it or another tool stored: what comes next is cold
#   alone_stop                         alone_forget, and its control groups
#   alone_build BACKEND NAME CONTEXT   starts its daemon where none runs, and builds; says nothing but what went wrong

alone_init() {
    alone_dir=$bench_dir/alone
    alone_daemon=''
    alone_group=slipway-bench
    mkdir -p "$alone_dir"/{certs,config,log,kaniko/kaniko}
    cp "$env_tls/ca.pem" "$alone_dir/certs/ca.crt"
    echo '{}' >"$alone_dir/config/config.json"
    printf '[registry."%s"]\n  ca = ["%s"]\n[worker.oci]\n  defaultCgroupParent = "%s"\n' "$world_registry" "$env_tls/ca.pem" \
        "$alone_group" >"$alone_dir/buildkitd.toml"
    local store
    for store in store kaniko.store; do
        printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' \
            "$alone_dir/$store" "$alone_dir/$store.run" >"$alone_dir/$store.conf"
    done
    printf '[network]\nnetwork_backend = "netavark"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\ntmp_dir = "%s"\n' \
        "$alone_dir/podman.run" >"$alone_dir/containers.conf"
    # As Kaniko's own image: the executor and certificates.
    install -m 0755 "$1/bin/executor" "$alone_dir/kaniko/kaniko/executor"
    cp "$env_tls/ca.pem" "$alone_dir/kaniko/kaniko/ca.pem"
    tar -C "$alone_dir/kaniko" -cf - . | alone_run kaniko.store podman import --quiet --change 'ENTRYPOINT ["/kaniko/executor"]' \
        --change WORKDIR=/workspace --change ENV=HOME=/root --change ENV=USER=root --change ENV=PATH=/usr/bin:/kaniko \
        --change ENV=SSL_CERT_FILE=/kaniko/ca.pem - kaniko >/dev/null
}

# alone_run STORE COMMAND...: in namespaces of its own: control groups are pure v2, as slipway's user has them, what it writes
# into /etc and /run is gone with it, and nothing of the tool's stays mounted or goes on running. It ends with the shell.
alone_prefix=(setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child bash -ec '
    mount -t proc proc /proc
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs /run
    mkdir /run/etc /run/etc.work
    mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/etc.work /etc
    dir=$1 store=$2
    shift 2
    cd "$dir"
    exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME="$dir" TMPDIR="$dir" DOCKER_CONFIG="$dir/config" DOCKER_BUILDKIT=0 \
        SSL_CERT_FILE="$dir/certs/ca.crt" CONTAINERS_CONF="$dir/containers.conf" \
        CONTAINERS_STORAGE_CONF="$dir/$store.conf" "$@"' alone_run)
alone_run() { "${alone_prefix[@]}" "$alone_dir" "$@"; }

# alone_start COMMAND...: a daemon, until it listens at $alone_dir/daemon.sock.
alone_start() {
    [[ -z $alone_daemon ]] || return 0
    local tries=1200
    # No function of the shell, whose process would be another.
    "${alone_prefix[@]}" "$alone_dir" store "$@" >"$alone_dir/log/daemon" 2>&1 &
    alone_daemon=$!
    env_pids+=("$alone_daemon")
    until [[ -S $alone_dir/daemon.sock ]]; do
        if ! kill -0 "$alone_daemon" 2>/dev/null || ((--tries == 0)); then
            tail -n 20 "$alone_dir/log/daemon"
            return 1
        fi
        sleep 0.05
    done
}

alone_forget() {
    if [[ -n $alone_daemon ]]; then
        # Its namespace's first process, and with it all others.
        kill -KILL "$alone_daemon"
        wait "$alone_daemon" 2>/dev/null || true
        unset 'env_pids[-1]'
        alone_daemon=''
    fi
    rm -rf "$alone_dir"/{daemon.sock,data,exec,store,store.run,image-*}
}

alone_stop() {
    [[ -n ${alone_dir:-} ]] || return 0
    alone_forget
    alone_run store find "/sys/fs/cgroup/$alone_group" -depth -type d -exec rmdir {} + 2>/dev/null || true
}

alone_build() {
    alone_with_"$1" "$2" "$3" >"$alone_dir/log/$2" 2>&1 || { tail -n 20 "$alone_dir/log/$2" "$alone_dir/log/daemon"; return 1; }
}

alone_with_buildkit() {
    alone_start "$world_kit/bin/buildkitd" --root "$alone_dir/data" --addr "unix://$alone_dir/daemon.sock" \
        --oci-worker-binary "$(command -v runc)" --config "$alone_dir/buildkitd.toml" || return 1
    rm -rf "$alone_dir/image-$1"
    alone_run store timeout 300 "$world_kit/bin/buildctl" --addr "unix://$alone_dir/daemon.sock" build --progress plain \
        --frontend dockerfile.v0 --local context="$2" --local dockerfile="$2" \
        --output "type=oci,tar=false,dest=$alone_dir/image-$1"
}

# As their own images do it: steps in a changed root. OCI's config has no HEALTHCHECK.
alone_with_buildah() {
    alone_run store timeout 300 "${3:-buildah}" build --isolation=chroot --format=docker --cert-dir "$alone_dir/certs" --tag "$1" "$2"
}

alone_with_podman() { alone_with_buildah "$1" "$2" podman; }

alone_with_kaniko() {
    alone_run kaniko.store timeout 300 podman run --rm --network host --cgroups disabled \
        --volume "$2:/workspace:ro" kaniko --context dir:///workspace --no-push
}

alone_with_dind() {
    # Without a bridge; what a step wants of the network it has from the host.
    alone_start dockerd --data-root "$alone_dir/data" --exec-root "$alone_dir/exec" --pidfile "$alone_dir/exec/pid" \
        --host "unix://$alone_dir/daemon.sock" --bridge none --iptables=false --ip-forward=false --ip-masq=false \
        --cgroup-parent "$alone_group" || return 1
    alone_run store timeout 300 docker --host "unix://$alone_dir/daemon.sock" build --network host --tag "$1" "$2"
}
