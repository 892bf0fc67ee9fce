# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Images that suites of tests/e2e run jobs in, made from the base images and programs of this host. Source after
# world.sh.
#
#   publish_image REPOSITORY:TAG BASE [CONFIG [COMMAND...]]
#       pushes BASE (debian, busybox or none) with one more layer and the settings CONFIG (JSON); COMMAND makes the
#       layer's files, it runs in the folder that becomes the layer; they are root's, or the user 1000's
#   with_program FILE [AT]   for COMMAND: copies a program of this host and the libraries that it needs
#   python_files             for COMMAND: Debian's Python, without packages
#   kaniko_shell             for COMMAND: as the debug image of kaniko, a shell in /busybox and nothing in /bin

publish_image() {
    local name=$1 base=$2 config=${3:-'{}'} work
    shift $(($# < 3 ? $# : 3))
    work=$(mktemp -d "$world_dir/image.XXXXXX")
    mkdir "$work/files"
    if (($#)); then (cd "$work/files" && "$@") || return 1; fi
    local from=()
    case $base in
    debian) from=(--base "$(image_debian)") ;;
    busybox) from=(--base "$(image_busybox)") ;;
    none) ;;
    esac
    python3 "$env_lib/add_layer.py" "${from[@]}" --layout "$work/layout" --tag "${name##*:}" --folder "$work/files" \
        --config "$config" || return 1
    push_image_to_registry "$work/layout:${name##*:}" "$name" slipway only-slipway-knows-this
    rm -rf "$work"
}

with_program() {
    local library
    install -D -m 0755 "$1" "./${2:-$1}"
    # Every library under the path by which the loader looks for it, with /lib merged into /usr as in Debian.
    ln -sfn usr/lib lib
    ln -sfn usr/lib64 lib64
    ldd "$1" | grep -oE '/[^ ]+' | while read -r library; do
        [[ $library == /usr/* ]] || library=/usr$library
        install -D -m 0755 "$(realpath "$library")" ".$library"
    done
}

python_files() {
    local one
    with_program /usr/bin/python3.11
    ln -s python3.11 usr/bin/python3
    tar -C /usr/lib --exclude=__pycache__ --exclude='python3.11/test' --exclude=idlelib --exclude=lib2to3 --exclude=pydoc_data \
        --exclude='config-3.11-*' -cf - python3.11 | tar -C usr/lib -xf -
    for one in usr/lib/python3.11/lib-dynload/*.so; do
        if ldd "/$one" >/dev/null 2>&1; then with_program "/$one" "$one"; fi
    done
}

kaniko_shell() {
    local applet
    install -D -m 0755 /bin/busybox busybox/busybox
    for applet in $(/bin/busybox --list); do
        [[ $applet == busybox ]] || ln -s busybox "busybox/$applet"
    done
    mkdir -p etc tmp workspace kaniko/.docker usr/local/bin
    chmod 1777 tmp
    printf 'root:x:0:0:root:/root:/busybox/sh\n' >etc/passwd
    printf 'root:x:0:\n' >etc/group
}
