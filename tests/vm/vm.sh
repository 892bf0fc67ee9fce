# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A virtual machine with Debian 12, systemd and cgroup v2, for what no namespace can stand in for. Source after env.sh.
#
#   vm_accel               prints kvm or tcg: what this machine can run it with
#   vm_image               makes the disk unless the cache has it; sets vm_dir
#   vm_start LOG           boots it; nothing that it writes stays in the image. The console goes to LOG
#   vm COMMAND...          runs a shell command in it as root, as a login over ssh does; vm_with_input: with our stdin
#   vm_reboot              until it answers again
#   vm_stop                ends it
#
# In it are /checkout (this tree, read-only), /host-cache ($env_cache, read-only) and no way to any network but its own.

vm_port=${SLIPWAY_TEST_VM_PORT:-5922}

# An instruction set extension of the processor, without which /dev/kvm leads to an emulator slower than QEMU's own.
vm_accel() {
    if [[ -w /dev/kvm ]] && grep -qE '^flags.* (vmx|svm)( |$)' /proc/cpuinfo; then echo kvm; else echo tcg; fi
}

vm_image() {
    local key work lock
    key=$(cat "$env_root/tests/vm/vm.sh" "$env_root/packaging/install-deps" | sha256sum | cut -c1-12)
    vm_dir=$env_cache/vm/$key
    [[ ! -e $vm_dir/disk ]] || return 0
    mkdir -p "$env_cache/vm"
    exec {lock}>"$env_cache/vm/.lock" && flock "$lock" || return 1
    if [[ ! -e $vm_dir/disk ]]; then
        find "$env_cache/vm" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
        work=$(mktemp -d "$env_cache/vm/.new.XXXXXX")
        if ! vm_make_tree "$work" >"$work/log" 2>&1; then
            tail -n 20 "$work/log" >&2
            env_fail "the machine's disk could not be made; all of it: $work/log"
            return 1
        fi
        mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d "$work/root" "$work/disk" 8G || return 1
        cp "$work"/root/boot/vmlinuz-* "$work/kernel" && cp "$work"/root/boot/initrd.img-* "$work/initrd" || return 1
        rm -rf --one-file-system "$work/root"
        mv -T "$work" "$vm_dir"
    fi
    exec {lock}>&-
}

# vm_make_tree DIR: its file system in DIR/root, and DIR/id, with which root logs in.
vm_make_tree() {
    local root=$1/root
    debootstrap --variant=minbase --include=systemd-sysv,dbus,libpam-systemd,udev,kmod,iproute2,openssh-server,zstd,initramfs-tools \
        bookworm "$root" "$(image_apt_mirror bookworm)" &&
        ssh-keygen -q -t ed25519 -N '' -C slipway-tests -f "$1/id" &&
        install -D -m 0600 "$1/id.pub" "$root/root/.ssh/authorized_keys" || return 1
    # As this machine asks for packages, so does it.
    rm -f "$root/etc/apt/sources.list"
    cp -r /etc/apt/sources.list* /etc/apt/apt.conf.d /etc/apt/trusted.gpg.d "$root/etc/apt/" &&
        find "$root/etc/apt/sources.list.d" -type f ! -name 'debian.*' -delete &&
        cp /etc/resolv.conf "$root/etc/resolv.conf" || return 1
    echo slipway-vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost slipway-vm\n' >"$root/etc/hosts"
    printf 'MODULES=list\n' >"$root/etc/initramfs-tools/conf.d/modules"
    printf '%s\n' virtio_pci virtio_blk ext4 >"$root/etc/initramfs-tools/modules"
    cat >"$root/etc/fstab" <<'FSTAB'
/dev/vda / ext4 defaults 0 0
checkout /checkout 9p ro,trans=virtio,version=9p2000.L,msize=262144,cache=mmap 0 0
cache /host-cache 9p ro,trans=virtio,version=9p2000.L,msize=262144,cache=mmap 0 0
FSTAB
    mkdir "$root/checkout" "$root/host-cache"
    printf '[Match]\nName=en*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/en.network"
    cp -r "$env_root/packaging" "$root/root/packaging"
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --propagation private bash -euo pipefail -c '
        mount --bind /dev "$1/dev"
        mount -t proc proc "$1/proc"
        export DEBIAN_FRONTEND=noninteractive
        printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"
        chmod 755 "$1/usr/sbin/policy-rc.d"
        chroot "$1" apt-get update -qq
        chroot "$1" apt-get install -y -qq --no-install-recommends linux-image-amd64 apparmor sudo procps \
            python3 jq curl skopeo docker-registry busybox-static
        rm "$1/usr/sbin/policy-rc.d"
        chroot "$1" /root/packaging/install-deps run
        chroot "$1" systemctl enable systemd-networkd
        chroot "$1" systemctl disable docker-registry
        chroot "$1" apt-get clean' vm-tree "$root" || return 1
    rm -rf "$root/root/packaging" "$root/var/lib/apt/lists"/* "$root/usr/share/doc"/*/*.html
    : >"$root/etc/resolv.conf"
}

vm_start() {
    local console=$1 processor
    # An emulated second processor starves beside other work, and the kernel with it.
    case $(vm_accel) in
    kvm) vm_slow=1 processor=(-accel kvm -cpu host -smp 2) ;;
    *) vm_slow=10 processor=(-accel tcg,tb-size=1024 -cpu max -smp 1) ;;
    esac
    qemu-system-x86_64 "${processor[@]}" -m 4096 -display none -monitor none -serial "file:$console" -nodefaults -kernel "$vm_dir/kernel" -initrd "$vm_dir/initrd" \
        -append "root=/dev/vda rw console=ttyS0 quiet nowatchdog" -device virtio-rng-pci \
        -drive "file=$vm_dir/disk,format=raw,if=virtio,snapshot=on,cache=unsafe" \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$vm_port-:22" -device virtio-net-pci,netdev=net \
        -virtfs "local,path=$env_root,mount_tag=checkout,security_model=none,readonly=on,multidevs=remap" \
        -virtfs "local,path=$env_cache,mount_tag=cache,security_model=none,readonly=on,multidevs=remap" &
    vm_pid=$!
    vm_wait "$console"
}

# vm_wait CONSOLE: until it answers; false where it does not within some minutes, or has ended.
vm_wait() {
    local deadline=$((SECONDS + 60 * vm_slow))
    until vm true 2>/dev/null; do
        if ((SECONDS > deadline)) || ! kill -0 "$vm_pid" 2>/dev/null; then
            tail -n 20 "$1" >&2
            env_fail "the virtual machine does not answer"
            return 1
        fi
        sleep 1
    done
}

vm() { vm_with_input "$@" </dev/null; }
vm_with_input() {
    ssh -q -i "$vm_dir/id" -p "$vm_port" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes \
        -o ConnectTimeout=$((3 * vm_slow)) -o ServerAliveInterval=15 root@127.0.0.1 "$@"
}

vm_reboot() {
    local before
    before=$(vm cat /proc/sys/kernel/random/boot_id) || return 1
    vm systemctl reboot || true
    local deadline=$((SECONDS + 90 * vm_slow))
    until [[ $(vm cat /proc/sys/kernel/random/boot_id 2>/dev/null) =~ ^[0-9a-f-]{36}$ && ${BASH_REMATCH[0]} != "$before" ]]; do
        ((SECONDS < deadline)) || env_fail "the virtual machine does not come back" || return 1
        sleep 2
    done
}

vm_stop() {
    [[ -n ${vm_pid:-} ]] || return 0
    env_kill "$vm_pid"
    wait "$vm_pid" 2>/dev/null || true
    vm_pid=
}
