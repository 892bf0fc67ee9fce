# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What an operator asks before anything runs: which backend would build this, what the policy says, what the host has.

PROBE() {
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    mkdir "$SUITE_DIR/policy.d"
    mkdir "$SUITE_DIR/bin"
    printf '#!/bin/sh\necho "buildctl github.com/moby/buildkit v0.34.2 abc"\n' >"$SUITE_DIR/bin/buildctl"
    cp "$SUITE_DIR/bin/buildctl" "$SUITE_DIR/bin/buildkitd"
    printf '#!/bin/sh\necho "podman version 4.3.1"\n' >"$SUITE_DIR/bin/podman"
    chmod 755 "$SUITE_DIR"/bin/*
    printf '[buildkit]\nbuildkitd = "%s/buildkitd"\nbuildctl = "%s/buildctl"\nallowed_bases = ["debian:*", "node:*"]\n' \
        "$SUITE_DIR/bin" "$SUITE_DIR/bin" >"$SUITE_DIR/config.toml"
    printf '[buildah]\nbuildah = ""\npodman = "%s/podman"\n' "$SUITE_DIR/bin" >>"$SUITE_DIR/config.toml"
    cat >"$SUITE_DIR/policy.d/10-rules.toml" <<'TOML'
[[rule]]
project = "pinned/*"
backend = "buildkit"

[[rule]]
project = "banned/*"
ban_backends = ["buildkit"]
TOML
}

slipway() { "$SLIPWAY_BIN/slipway" --config "$SUITE_DIR/config.toml" "$@"; }

TEST "explain names the choice, the lines and the policy, and builds nothing" {
    cat >Dockerfile <<'END'
FROM node:20 AS build
RUN --mount=type=cache,target=/root/.npm npm ci
RUN <<EOF
npm run build
EOF
FROM debian:12
COPY --from=build /dist /srv
HEALTHCHECK CMD curl -f localhost
END
    expect_status 0 slipway explain --project pinned/app .
    expect_contains "$OUTPUT" "backend: buildkit"
    expect_contains "$OUTPUT" "10-rules.toml:1"
    expect_contains "$OUTPUT" "Dockerfile:2: RUN --mount=type=cache,target=/root/.npm (a cache mount)"
    expect_contains "$OUTPUT" "Dockerfile:3: RUN <<EOF"
    expect_contains "$OUTPUT" "Dockerfile:8: HEALTHCHECK"
    expect_contains "$OUTPUT" "base image node:20 is not read"
    expect_status 1 slipway explain --project banned/app Dockerfile
    expect_contains "$OUTPUT" "forbids buildkit"
    expect_contains "$OUTPUT" "podman 4.3.1: incapable"
    expect_contains "$OUTPUT" "buildah: not set up"
    expect_status 1 slipway explain --backend kaniko Dockerfile
    expect_contains "$OUTPUT" "kaniko"
    slipway explain --json --target build . >explained.json
    expect_eq "$(jq -r '.backend, (.requirements | map(.feature) | join(" "))' explained.json)" \
        "buildkit"$'\n'"run-mount-cache run-heredoc"
}

TEST "explain says what is wrong with its input, and ends with 2" {
    printf 'FROM debian:12\nRUNN x\n' >Dockerfile
    expect_status 2 slipway explain .
    expect_contains "$OUTPUT" "Dockerfile:2: unknown instruction: RUNN"
    expect_status 2 slipway explain nosuch
    expect_status 2 slipway explain --backend img .
    printf 'ARG V\nFROM debian:${V}\nRUN --security=insecure x\n' >Dockerfile
    expect_status 1 slipway explain --build-arg V=12 Dockerfile
    expect_contains "$OUTPUT" "Dockerfile:3: RUN --security=insecure: slipway gives a privileged step to no build"
    expect_contains "$OUTPUT" "base image debian:12"
    expect_status 2 slipway explain --build-arg V Dockerfile
    expect_status 2 slipway explain --build-arg V=12 --platform windows/amd64 Dockerfile
}

TEST "explain denies a base image as a build would be denied it, but for what a context is given" {
    printf 'FROM debian:12\nCOPY --from=assets /x /x\n' >Dockerfile
    expect_status 1 slipway explain .
    expect_contains "$OUTPUT" "Dockerfile:2: COPY --from assets: this runner does not allow the base image"
    expect_contains "$OUTPUT" "--build-context assets"
    expect_status 0 slipway explain --build-context assets=./assets .
    expect_status 1 slipway explain --build-context assets=docker-image://evil/tools .
    expect_status 2 slipway explain --build-context assets .
    slipway explain --json . >denied.json && fail "it was not denied"
    expect_eq "$(jq -r '.backend, .denied.kind' denied.json)" null$'\n'denied
}

TEST "policy test holds a table of expectations against the policy" {
    cat >good.toml <<'TOML'
[[expect]]
project = "banned/app"
backend = "buildkit"
result = "deny"
rule = "10-rules.toml:5"
[[expect]]
project = "pinned/app"
base = "node:20"
result = "allow"
TOML
    expect_status 0 slipway policy test good.toml
    expect_contains "$OUTPUT" "2 hold, 0 do not"
    cat >"$SUITE_DIR/policy.d/20-more.toml" <<'TOML'
[[rule]]
project = "closed/*"
platforms = ["linux/amd64"]
cache_domain = "closed"
egress = "allowlist"
egress_allow = ["*.pypi.example"]
TOML
    cat >more.toml <<'TOML'
[[expect]]
project = "closed/app"
connect = "files.pypi.example:443"
result = "allow"
[[expect]]
project = "closed/app"
connect = "files.pypi.example:22"
result = "deny"
[[expect]]
project = "closed/app"
platform = "linux/arm64"
result = "deny"
[[expect]]
project = "closed/app"
cache_domain = "closed"
[[expect]]
project = "pinned/app"
cache_domain = ""
[[expect]]
project = "pinned/app"
connect = "files.pypi.example:22"
result = "allow"
TOML
    expect_status 0 slipway policy test more.toml
    expect_contains "$OUTPUT" "6 hold, 0 do not"
    sed 's/allow"/x"/; s/deny"/allow"/; s/x"/deny"/; s/cache_domain = ".*"/cache_domain = "other"/' more.toml >turned.toml
    expect_status 1 slipway policy test turned.toml
    expect_contains "$OUTPUT" "0 hold, 6 do not"
    expect_contains "$OUTPUT" "turned.toml:5: connect 'files.pypi.example:22' is denied, expected allow: egress is \"allowlist\""
    expect_contains "$OUTPUT" "turned.toml:13: the cache domain of 'closed/app' is 'closed', expected 'other'"
    rm "$SUITE_DIR/policy.d/20-more.toml"
    sed 's/deny/allow/' good.toml >bad.toml
    expect_status 1 slipway policy test bad.toml
    expect_contains "$OUTPUT" "bad.toml:1: backend 'buildkit' is denied, expected allow"
    printf '[[expect]]\nproject = "a"\nresult = "perhaps"\n' >broken.toml
    expect_status 2 slipway policy test broken.toml
    expect_contains "$OUTPUT" "broken.toml:3"
}

TEST "backends says what the host has, and how to get the rest" {
    mkdir bin
    printf '#!/bin/sh\necho "buildctl github.com/moby/buildkit v0.34.2 abc"\n' >bin/buildkitd
    printf '#!/bin/sh\nexit 3\n' >bin/buildah
    # Debian's Podman does not even tell its version where the home folder is not there.
    printf '#!/bin/sh\ncd "$HOME" && echo "podman version 3.0.1"\n' >bin/podman
    { cat bin/buildkitd; echo "echo --shared-key"; } >bin/buildctl
    chmod 755 bin/*
    printf '[buildkit]\nbuildkitd = "%s/bin/buildkitd"\nbuildctl = "%s/bin/buildctl"\n' "$PWD" "$PWD" >config.toml
    printf '[buildah]\nbuildah = "%s/bin/buildah"\npodman = "%s/bin/podman"\n' "$PWD" "$PWD" >>config.toml
    expect_status 0 "$SLIPWAY_BIN/slipway" --config "$PWD/config.toml" backends
    expect_contains "$OUTPUT" "buildkit  v0.34.2     builds here  $PWD/bin/buildkitd"
    expect_contains "$OUTPUT" "it does not tell its version: exit code 3"
    expect_contains "$OUTPUT" "podman 3.0.1 is too old to build with"
    rm bin/buildctl
    # 1 where nothing is left that builds.
    can_dind=0
    [[ -x /usr/sbin/dockerd && -x /usr/bin/docker ]] || can_dind=1
    expect_status "$can_dind" "$SLIPWAY_BIN/slipway" --config "$PWD/config.toml" backends --json
    expect_eq "$(jq -r '.[0] | .backend, .problem' <<<"$OUTPUT")" "buildkit"$'\n'"there is no buildctl"
}

TEST "config print gives the effective configuration, which check takes and which says the same again" {
    install -m 0600 /dev/stdin password <<<only-slipway-knows-this
    cp "$SUITE_DIR/config.toml" config.toml
    printf '[[registry]]\nhost = "reg.example:5000"\nusername = "slipway"\npassword_file = "%s/password"\n' "$PWD" >>config.toml
    printf '[[credential]]\nname = "own"\ntype = "command"\nargv = ["/bin/mint"]\n' >>config.toml
    printf 'environment = ["TOKEN=only-slipway-knows-this"]\nproxy = "http://ci:only-slipway-knows-this@proxy.example:3128"\n' >>config.toml
    "$SLIPWAY_BIN/slipway" --config config.toml config print >printed.toml
    expect_contains "$(<printed.toml)" "$PWD/password"
    expect_contains "$(<printed.toml)" "disk_floor" # a key that was not set
    expect_lacks "$(<printed.toml)" only-slipway-knows-this
    expect_contains "$(<printed.toml)" "http://ci:***@proxy.example:3128"
    expect_contains "$(<printed.toml)" "TOKEN=***"

    expect_contains "$("$SLIPWAY_BIN/slipway" --config printed.toml config check)" "ok, 1 registries"
    "$SLIPWAY_BIN/slipway" --config printed.toml config print >again.toml
    expect_eq "$(grep -v '^#' again.toml)" "$(grep -v '^#' printed.toml)" "what is printed of what was printed"
}
