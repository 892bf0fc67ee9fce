# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Base images made on the spot, as OCI layouts in the cache: no registry is asked. Source after env.sh.
#
#   image_debian [SUITE]   a minimal Debian (default bookworm); prints the layout's folder, tag 12
#   image_emulator MACHINE Debian's QEMU for programs of MACHINE (aarch64); prints the file. The package is not installed, which would
#                          register it for the whole machine
#   image_busybox          busybox-static alone; prints the layout's folder, tag 1
#   push_base_images USER PASSWORD     base/debian:12, base/ci:12 (the same image) and base/busybox:1 to the registry

# The mirror that this machine's apt uses; the first deb entry for Debian's main archive.
image_apt_mirror() {
    local mirror
    mirror=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT) $(CREATED_BY)' 2>/dev/null |
        awk -v suite="${1:-bookworm}" '$2 == suite && $3 == "main" && $4 == "Packages" { print $1; exit }')
    [[ -n $mirror ]] || { env_fail "apt has no source for $1"; return 1; }
    echo "$mirror"
}

# image_layout ROOTFS.tar LAYOUT TAG [ENTRY...]: one-layer OCI layout; the tar must be reproducible by the caller.
image_layout() {
    python3 "$env_lib/make_layout.py" --rootfs "$1" --layout "$2" --tag "$3" "${@:4}"
}

# image_updates SUITE VERSIONS: those of the packages ("NAME VERSION" a line) that this machine's apt has another version of.
# The database that tests scan with knows what this machine's own packages had mended.
image_updates() {
    [[ $(. /etc/os-release && echo "$VERSION_CODENAME") == "$1" ]] || return 0
    cut -d' ' -f1 "$2" | xargs apt-cache policy | awk '
        FNR == NR { has[$1] = $2; next }
        /^[^ ]/ { name = $1; sub(/:$/, "", name) }
        $1 == "Candidate:" && $2 != "(none)" && $2 != has[name] { print name }' "$2" -
}

image_debian() {
    local suite=${1:-bookworm} layout
    layout=$env_cache/images/debian-$suite
    image_is_current() { [[ -s $layout/index.json && -s $layout.versions && -z $(image_updates "$suite" "$layout.versions") ]]; }
    if ! image_is_current; then
        mkdir -p "$env_cache/images"
        exec {image_lock}>"$env_cache/images/.debian.lock"
        flock "$image_lock"
        if ! image_is_current; then
            local work mirror updates
            mirror=$(image_apt_mirror "$suite") || return 1
            work=$(mktemp -d "$env_cache/images/.debian.XXXXXX")
            debootstrap --variant=minbase "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 || {
                tail -n 20 "$work/log" >&2
                env_fail "debootstrap failed"
                return 1
            }
            # debootstrap has one source, without the security updates.
            chroot "$work/root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/versions" &&
                mkdir "$work/root/updates" && updates=$(image_updates "$suite" "$work/versions") &&
                if [[ -n $updates ]]; then
                    # shellcheck disable=SC2086
                    (cd "$work/root/updates" && apt-get -qq -o APT::Sandbox::User=root download $updates) >>"$work/log" 2>&1 &&
                        DEBIAN_FRONTEND=noninteractive chroot "$work/root" sh -c 'apt-get install --yes /updates/*.deb' >>"$work/log" 2>&1
                fi && chroot "$work/root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/versions" || {
                tail -n 20 "$work/log" >&2
                env_fail "updating the Debian image failed"
                exec {image_lock}>&-
                return 1
            }
            rm -rf "$work"/root/updates "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work"/root/dev/*
            tar --numeric-owner --sort=name --one-file-system -C "$work/root" -cf "$work/root.tar" . &&
                image_layout "$work/root.tar" "$work/layout" 12 --cmd /bin/bash >/dev/null &&
                chmod -R a+rX "$work/layout" &&
                rm -rf "$layout" && mv -T "$work/layout" "$layout" && mv "$work/versions" "$layout.versions"
            rm -rf "$work"
        fi
        exec {image_lock}>&-
    fi
    [[ -s $layout/index.json ]] && echo "$layout"
}

image_emulator() {
    local file=$env_cache/images/qemu-$1-static work
    if [[ ! -x $file ]]; then
        mkdir -p "$env_cache/images"
        work=$(mktemp -d "$env_cache/images/.qemu.XXXXXX")
        (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download qemu-user-static &&
            dpkg-deb --fsys-tarfile ./*.deb | tar -xf - "./usr/bin/qemu-$1-static") >"$work/log" 2>&1 &&
            mv "$work/usr/bin/qemu-$1-static" "$file" || cat "$work/log" >&2
        rm -rf "$work"
    fi
    [[ -x $file ]] && echo "$file"
}

image_busybox() {
    local layout=$env_cache/images/busybox work applet
    if [[ ! -s $layout/index.json ]]; then
        work=$(mktemp -d)
        mkdir -p "$work"/root/{bin,etc,tmp,root,proc,sys,dev,usr/bin,var}
        chmod 1777 "$work/root/tmp"
        cp /bin/busybox "$work/root/bin/busybox"
        for applet in $(/bin/busybox --list); do
            [[ $applet == busybox ]] || ln -s busybox "$work/root/bin/$applet"
        done
        ln -s ../../bin/env "$work/root/usr/bin/env"
        printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$work/root/etc/passwd"
        printf 'root:x:0:\nnogroup:x:65534:\n' >"$work/root/etc/group"
        tar --numeric-owner --owner=0 --group=0 --sort=name -C "$work/root" -cf "$work/root.tar" .
        mkdir -p "$env_cache/images"
        image_layout "$work/root.tar" "$work/layout" 1 --cmd /bin/sh || return 1
        chmod -R a+rX "$work/layout"
        cp -r "$work/layout" "$layout.$$" && { mv -T "$layout.$$" "$layout" 2>/dev/null || rm -rf "$layout.$$"; }
        rm -rf "$work"
    fi
    [[ -s $layout/index.json ]] && echo "$layout"
}

push_base_images() {
    local debian busybox
    debian=$(image_debian) && busybox=$(image_busybox) || return 1
    push_image_to_registry "$debian:12" base/debian:12 "$1" "$2" &&
        push_image_to_registry "$debian:12" base/ci:12 "$1" "$2" &&
        push_image_to_registry "$busybox:1" base/busybox:1 "$1" "$2"
}

# make_vulnerability_db CACHE_DIR [UPDATED_AT]: writes CACHE_DIR/db/{trivy.db,metadata.json}; CACHE_DIR is what Trivy
# calls --cache-dir. Without a time it claims to be of now, so make it anew for each run.
make_vulnerability_db() {
    local cache_dir=$1 tool
    tool=$("$env_root/packaging/tools/build" trivydb) || return 1
    rm -rf "$cache_dir/db"
    mkdir -p "$cache_dir/db"
    "$tool/bin/make-trivy-db" --out "$cache_dir/db" --facts "$tool/facts.json" --changelogs /usr/share/doc \
        ${2:+--updated-at "$2"} && chmod -R a+rX "$cache_dir"
}
