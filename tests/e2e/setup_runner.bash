# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# packaging/setup-runner on a file tree of its own, and packaging/install-deps with doubles of the package tools.

SUITE_SETUP() {
    SETUP=$SUITE_ROOT/packaging/setup-runner
}

PROBE() {
    ((EUID == 0)) || echo "needs root"
}

new_tree() {
    TREE=$CASE_DIR/tree
    mkdir -p "$TREE/etc"
    echo 'root:x:0:0::/root:/bin/sh' >"$TREE/etc/passwd"
    echo 'root:x:0:' >"$TREE/etc/group"
    touch "$TREE"/etc/{shadow,gshadow,subuid,subgid,login.defs}
}

ids_of() { awk -F: -v u="$1" '$1 == u { n += $3 } END { print n + 0 }' "$TREE/etc/$2"; }

TEST "a dry run changes nothing" {
    new_tree
    before=$(find "$TREE" -type f -exec sha256sum {} + | sort)
    expect_status 0 "$SETUP" --root "$TREE" --dry-run
    expect_contains "$OUTPUT" "would make user gitlab-runner"
    expect_eq "$(find "$TREE" -type f -exec sha256sum {} + | sort)" "$before" "the tree"
}

TEST "each concurrent job gets 65536 ids, and so do warm builders, stores, scanners and what shares" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE" --concurrent 3
    expect_eq "$(ids_of gitlab-runner subuid)" $(((3 + 3 + 3 + 1 + 1) * 65536))
    expect_eq "$(ids_of gitlab-runner subgid)" $(((3 + 3 + 3 + 1 + 1) * 65536))
    for key in id_slots warm_builders stores; do
        grep -q "^$key = 3 " "$TREE/etc/slipway/config.toml"
    done
    sed -i 's/^warm_builders = .*/warm_builders = 6/' "$TREE/etc/slipway/config.toml"
    expect_status 0 "$SETUP" --root "$TREE" --concurrent 3
    expect_eq "$(ids_of gitlab-runner subuid)" $(((3 + 6 + 3 + 1 + 1) * 65536))
    expect_eq "$(grep -c 'less than the jobs at a time' <<<"$OUTPUT" || true)" 0
    expect_status 0 "$SETUP" --root "$TREE" --concurrent 5
    expect_contains "$OUTPUT" "its stores = 3 is less than the jobs at a time"
}

TEST "what the user puts in his home leads root to no file of another's" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    conf=$TREE/home/gitlab-runner/.config/containers/storage.conf
    echo precious >"$TREE/etc/victim"
    chmod 700 "$TREE/etc"
    rm "$conf"
    ln -s "$TREE/etc/victim" "$conf.new"
    expect_status 1 "$SETUP" --root "$TREE"
    expect_contains "$OUTPUT" "gitlab-runner cannot write /home/gitlab-runner/.config/containers/storage.conf"
    rm -r "$TREE/home/gitlab-runner/.config"
    ln -s "$TREE/etc" "$TREE/home/gitlab-runner/.config"
    expect_status 1 "$SETUP" --root "$TREE"
    expect_eq "$(stat -c %u "$TREE/etc" "$TREE/etc/victim" | sort -u)" 0 "the owner"
    expect_eq "$(<"$TREE/etc/victim")" precious
    expect_eq "$(ls "$TREE/etc/containers" 2>/dev/null)" ""
    # The control: without links it is written, as the user's.
    rm "$TREE/home/gitlab-runner/.config"
    expect_status 0 "$SETUP" --root "$TREE"
    [[ -s $conf ]]
}

TEST "a new range begins behind those of other users" {
    new_tree
    echo 'alice:5000000:65536' >>"$TREE/etc/subuid"
    expect_status 0 "$SETUP" --root "$TREE" --concurrent 2
    awk -F: '$1 == "gitlab-runner" && $2 >= 5065536 { found = 1 } END { exit !found }' "$TREE/etc/subuid"
    grep -qx 'alice:5000000:65536' "$TREE/etc/subuid"
}

TEST "the service runs as the user, with a delegated cgroup and the user's runtime folder" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    unit=$(<"$TREE/etc/systemd/system/gitlab-runner.service.d/slipway.conf")
    uid=$(awk -F: '$1 == "gitlab-runner" { print $3 }' "$TREE/etc/passwd")
    expect_contains "$unit" "User=gitlab-runner"
    expect_contains "$unit" "Delegate=yes"
    expect_contains "$unit" "ExecStartPre=-/usr/bin/timeout 60 /usr/bin/podman --cgroup-manager=cgroupfs system migrate"
    # The kernel hands controllers on only below a group without processes.
    expect_contains "$unit" "mkdir -p runner sandboxes"
    expect_contains "$unit" 'sed -n s/^0:://p /proc/${MAINPID}/cgroup'
    expect_contains "$unit" "XDG_RUNTIME_DIR=/run/user/$uid"
    [[ -e $TREE/var/lib/systemd/linger/gitlab-runner ]]
}

TEST "Podman gets overlay storage, as a file of the user's own, and one that exists is kept" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    uid=$(awk -F: '$1 == "gitlab-runner" { print $3 }' "$TREE/etc/passwd")
    conf=$TREE/home/gitlab-runner/.config/containers/storage.conf
    expect_eq "$(<"$conf")" $'[storage]\ndriver = "overlay"'
    for path in "$conf" "${conf%/*}" "${conf%/*/*}"; do
        expect_eq "$(stat -c %u "$path")" "$uid" "the owner of $path"
    done
    printf '[storage]\ndriver = "vfs"\n' >"$conf"
    expect_status 0 "$SETUP" --root "$TREE"
    expect_contains "$OUTPUT" "is kept: /home/gitlab-runner/.config/containers/storage.conf"
    expect_contains "$(<"$conf")" vfs
}

TEST "setuid helpers of Podman work under the unit, and a stop lets jobs clean up" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    unit=$(<"$TREE/etc/systemd/system/gitlab-runner.service.d/slipway.conf")
    # newuidmap is set-uid; SIGQUIT is the runner's graceful stop, and only the runner may get it.
    for line in NoNewPrivileges=no KillMode=mixed KillSignal=SIGQUIT StateDirectoryMode=0700; do
        expect_eq "$(grep -cx "$line" <<<"$unit")" 1 "how often $line is in the unit"
    done
}

TEST "the database has a timer, which runs slipway as the user" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    unit=$(<"$TREE/etc/systemd/system/slipway-db.service")
    expect_contains "$unit" "User=gitlab-runner"
    expect_contains "$unit" "slipway --config /etc/slipway/config.toml db update"
    grep -qx 'OnCalendar=\*-\*-\* 00/6:17:00' "$TREE/etc/systemd/system/slipway-db.timer"
    expect_contains "$OUTPUT" "systemctl enable --now slipway-db.timer"
    unit=$(<"$TREE/etc/systemd/system/slipway-gc.service")
    expect_contains "$unit" " --config /etc/slipway/config.toml gc"
    expect_contains "$unit" "User=" "KillMode=process"
    grep -qx OnUnitInactiveSec=10min "$TREE/etc/systemd/system/slipway-gc.timer"
    expect_contains "$OUTPUT" "systemctl enable --now slipway-gc.timer"
}

TEST "a second run changes nothing and keeps an edited configuration" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    echo '# mine' >>"$TREE/etc/slipway/config.toml"
    before=$(find "$TREE" -type f -exec sha256sum {} + | sort)
    expect_status 0 "$SETUP" --root "$TREE"
    expect_contains "$OUTPUT" "is kept: /etc/slipway/config.toml"
    expect_eq "$(find "$TREE" -type f -exec sha256sum {} + | sort)" "$before" "the tree"
}

TEST "root is refused as the service user, and so are odd names and numbers" {
    expect_status 1 "$SETUP" --dry-run --user root
    expect_contains "$OUTPUT" "must not be root"
    expect_status 1 "$SETUP" --dry-run --user 'a;b'
    expect_status 1 "$SETUP" --dry-run --concurrent 0
}

TEST "the printed section calls all four stages" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE" --dry-run
    for stage in config prepare run cleanup; do
        expect_contains "$OUTPUT" "${stage}_args = [\"--config\", \"/etc/slipway/config.toml\", \"gitlab\", \"$stage\"]"
    done
}

TEST "the installed configuration names no registry of the example's, and is otherwise the example" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    config=$TREE/etc/slipway/config.toml
    # The control: in the example it is in force.
    grep -q '^\[\[registry\]\]' "$SUITE_ROOT/config/examples/config.toml"
    expect_eq "$(grep -c '^\[\[registry\]\]' "$config" || true)" 0 "registries in force"
    expect_eq "$(grep -c '^#host = "registry.example:5000"' "$config")" 1 "the commented host"
    # Nothing but that block, id_slots and memory differs: the next section is whole.
    differing=$(diff "$SUITE_ROOT/config/examples/config.toml" "$config" | sed -n 's/^> //p' | grep -v -e '^#' -e '^id_slots' -e '^memory' || true)
    expect_eq "$differing" "" "other lines that differ"
    grep -q '^\[buildkit\]' "$config"
    grep -q '^memory = "[1-9][0-9]*MiB"  *#' "$config"
    expect_status 0 "${SLIPWAY_BIN:-$SUITE_ROOT/build/bin}/slipway" --config "$config" config check
}

TEST "a scanner that is there is pinned, and without one the operator is told" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE" --dry-run
    expect_contains "$OUTPUT" "no /usr/local/bin/trivy to pin"
    mkdir -p "$TREE/usr/local/bin"
    echo scanner >"$TREE/usr/local/bin/trivy"
    expect_status 0 "$SETUP" --root "$TREE"
    pin=$(sha256sum <"$TREE/usr/local/bin/trivy" | cut -d' ' -f1)
    grep -q "^trivy_sha256 = \"$pin\" " "$TREE/etc/slipway/config.toml"
}

TEST "the state folder is the user's alone before the service first starts" {
    new_tree
    expect_status 0 "$SETUP" --root "$TREE"
    uid=$(awk -F: '$1 == "gitlab-runner" { print $3 }' "$TREE/etc/passwd")
    expect_eq "$(stat -c %u:%a "$TREE/var/lib/slipway")" "$uid:700"
    chmod 0755 "$TREE/var/lib/slipway"
    expect_status 0 "$SETUP" --root "$TREE"
    expect_eq "$(stat -c %u:%a "$TREE/var/lib/slipway")" "$uid:700"
    expect_status 0 "$SETUP" --root "$TREE"
    expect_contains "$OUTPUT" "is right: /var/lib/slipway"
}

TEST "a configuration that root has registered is given to the user, and runners of other executors are told of" {
    new_tree
    local config=$TREE/etc/gitlab-runner/config.toml uid
    expect_status 0 "$SETUP" --root "$TREE"
    uid=$(awk -F: '$1 == "gitlab-runner" { print $3 }' "$TREE/etc/passwd")
    printf '[[runners]]\n  executor = "docker"\n[[runners]]\n  executor = "custom"\n' >"$config"
    chmod 600 "$config"
    echo root >"$TREE/etc/victim"
    ln -s "$TREE/etc/victim" "$TREE/etc/gitlab-runner/link"
    expect_status 0 "$SETUP" --root "$TREE"
    expect_eq "$(stat -c %u "$config" "$TREE/etc/victim" | paste -sd' ')" "$uid 0" "owners of configuration and victim"
    expect_contains "$OUTPUT" "has runners with the executor docker, which now run as gitlab-runner as well"
    expect_status 0 "$SETUP" --root "$TREE"
    expect_contains "$OUTPUT" "is right: /etc/gitlab-runner"
}

TEST "Docker's own packages stay, and Debian's that conflict with them are left out" {
    mkdir doubles
    printf '#!/bin/sh\n[ "$1" != install ] || echo "$@" >%q\n' "$CASE_DIR/asked" >doubles/apt-get
    # docker-ce is there, and containerd.io is not even known.
    printf '#!/bin/sh\ncase "$*" in *"docker-ce containerd.io") echo "$HAS"; exit 1 ;; esac\n' >doubles/dpkg-query
    printf '#!/bin/sh\n' >doubles/deb-systemd-helper
    chmod +x doubles/*
    export PATH=$PWD/doubles:$PATH
    for HAS in "ii " ""; do # the second is the control
        export HAS
        expect_status 0 unshare --mount bash -c '
            for dir in /lib/systemd/system /etc/systemd/system; do [[ ! -d $dir ]] || mount -t tmpfs none "$dir"; done
            "$0" run' "$SUITE_ROOT/packaging/install-deps"
        expect_contains "$(<asked)" "--no-remove" && expect_contains "$(<asked)" " podman "
        if [[ -n $HAS ]]; then
            expect_contains "$OUTPUT" "left out: docker.io"
            expect_lacks "$(<asked)" " docker.io"
        else
            expect_contains "$(<asked) " " docker.io "
        fi
    done
}

TEST "packaging/try installs what it needs, and nothing that only tests do" {
    mkdir doubles
    printf '#!/bin/sh\n[ "$1" != install ] || echo "$@" " " >%q\n' "$CASE_DIR/asked" >doubles/apt-get
    printf '#!/bin/sh\n' >doubles/dpkg-query
    printf '#!/bin/sh\n' >doubles/deb-systemd-helper
    chmod +x doubles/*
    export PATH=$PWD/doubles:$PATH
    local word
    for word in "$(sed -n 's|^packaging/install-deps *||p' "$SUITE_ROOT/packaging/try")" all; do
        expect_status 0 unshare --mount bash -c '
            for dir in /lib/systemd/system /etc/systemd/system; do [[ ! -d $dir ]] || mount -t tmpfs none "$dir"; done
            "$0" $1' "$SUITE_ROOT/packaging/install-deps" "$word"
        expect_contains "$(<asked)" " g++ " && expect_contains "$(<asked)" " podman " && expect_contains "$(<asked)" " docker-registry "
        if [[ $word == all ]]; then
            expect_contains "$(<asked)" " chromium "
        else
            expect_lacks "$(<asked)" " chromium "
            expect_lacks "$(<asked)" " clang-tidy "
        fi
    done
}

TEST "services that came with packages are disabled also where the installation breaks off" {
    mkdir doubles
    printf '#!/bin/sh\n[ "$1" != install ] || { touch /lib/systemd/system/docker.service; exit "$APT_ENDS"; }\n' >doubles/apt-get
    printf '#!/bin/sh\n' >doubles/dpkg-query
    printf '#!/bin/sh\necho "$@" >>%q\n' "$CASE_DIR/asked" >doubles/deb-systemd-helper
    chmod +x doubles/*
    export PATH=$PWD/doubles:$PATH
    for ends in 0 100; do # the first is the control
        rm -f "$CASE_DIR/asked"
        APT_ENDS=$ends expect_status "$ends" unshare --mount bash -c '
            for dir in /lib/systemd/system /etc/systemd/system; do [[ ! -d $dir ]] || mount -t tmpfs none "$dir"; done
            "$0" run' "$SUITE_ROOT/packaging/install-deps"
        expect_eq "$(<"$CASE_DIR/asked")" "disable docker.service" "what was asked for after $ends"
    done
}
