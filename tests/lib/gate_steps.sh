# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For suites of tests/e2e about the gate: configurations and scanners by the case. Source after steps.sh; pushes need
# make_tiny_base.

# gate_config NAME SED [RULE]: from now on the world's configuration, changed by the sed program, with this [[rule]].
gate_config() {
    local dir=$world_dir/etc-$1
    install -d -m 0755 "$dir" "$dir/policy.d"
    world_write_config "$dir/config.toml"
    sed -i "$2" "$dir/config.toml"
    printf '%s\n' "${3:-}" >"$dir/policy.d/10-rule.toml"
    world_config=$dir/config.toml
}

# gate_scanner NAME C-STATEMENTS [SED]: a program in Trivy's place, pinned as the operator would; in that of $gate_scanner_key,
# if it is set. In its sandbox is nothing else, so it is static.
gate_scanner() {
    local program=$world_dir/scanner-$1 key=${gate_scanner_key:-trivy}
    cc -static -O1 -o "$program" -x c - <<<"#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) { $2 return 0; }"
    chmod 755 "$program"
    gate_config "$1" "s|^$key = .*|$key = \"$program\"|
s|^${key}_sha256 = .*|${key}_sha256 = \"$(sha256sum "$program" | cut -d' ' -f1)\"|
${3:-}"
}

# push_base NAME: a script that pushes the tiny Debian under the project's own path, unchanged.
push_base() {
    echo "docker pull -q $tiny && docker tag $tiny $world_registry/grp/app/$1:1
try push-$1 docker push $world_registry/grp/app/$1:1"
}

# expect_refused NAME CODE WORDS...: by a gate that could not judge; the job goes on and the registry has nothing.
expect_refused() {
    expect_step "push-$1" 1 "could not judge, so nothing is pushed" "[$2]" "${@:3}"
    expect_absent "grp/app/$1:1"
}
