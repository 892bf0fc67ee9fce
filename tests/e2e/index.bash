# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Images of several platforms: one build for all of them, emulated steps, and lists that jobs put together. What is pushed is an index, and
# each of its images has a verdict.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ $(uname -m) == x86_64 ]] || echo "needs a machine that runs programs of linux/amd64 and linux/386"
    command -v gcc clang-14 >/dev/null || echo "needs gcc and clang-14"
    grep -qw binfmt_misc /proc/filesystems || modprobe binfmt_misc 2>/dev/null || echo "needs binfmt_misc"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    make_markers
    make_multi_base
    publish_image base/tools:12 debian '{}' tool_files_of_others
    with_tools=".image.name = \"$world_registry/base/tools:12\""
}

SUITE_TEARDOWN() {
    world_stop
}

# /bin/mark of each platform writes which one it was compiled for to /made-by. Without a C library, so that the compiler
# needs nothing for 32 bits. That of arm64 only says so in its header: no processor runs it here.
make_markers() {
    cat >"$SUITE_DIR/mark.c" <<'END'
#ifdef __x86_64__
#define TEXT "amd64\n"
static long call(long n, long a, long b, long c) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return r;
}
enum { OPEN = 2, WRITE = 1, EXIT = 60 };
#else
#define TEXT "386\n"
static long call(long n, long a, long b, long c) {
  long r;
  __asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c) : "memory");
  return r;
}
enum { OPEN = 5, WRITE = 4, EXIT = 1 };
#endif
void _start(void) {
  const long file = call(OPEN, (long)"/made-by", 01 | 0100, 0644);
  call(EXIT, call(WRITE, file, (long)TEXT, sizeof TEXT - 1) != sizeof TEXT - 1, 0, 0);
}
END
    local flags=(-O1 -static -nostdlib -ffreestanding -fno-pic -no-pie -fno-stack-protector -fcf-protection=none)
    gcc "${flags[@]}" -o "$SUITE_DIR/mark-amd64" "$SUITE_DIR/mark.c"
    gcc -m32 "${flags[@]}" -o "$SUITE_DIR/mark-386" "$SUITE_DIR/mark.c"
    cp "$SUITE_DIR/mark-amd64" "$SUITE_DIR/mark-arm64"
    printf '\xb7' | dd of="$SUITE_DIR/mark-arm64" bs=1 seek=18 conv=notrunc status=none
}

# $multi: the tiny Debian with /bin/mark, for amd64, 386 and arm64.
make_multi_base() {
    local architecture layouts=()
    for architecture in amd64 386 arm64; do
        install -D -m 0755 "$SUITE_DIR/mark-$architecture" "$SUITE_DIR/files-$architecture/bin/mark"
        python3 "$env_lib/add_layer.py" --base "$SUITE_DIR/tiny-layout" --layout "$SUITE_DIR/multi-$architecture" --tag 1 \
            --folder "$SUITE_DIR/files-$architecture"
        layouts+=("$architecture=$SUITE_DIR/multi-$architecture")
    done
    python3 "$env_lib/join_layouts.py" "$SUITE_DIR/multi" 1 "${layouts[@]}"
    env_skopeo copy --all --dest-creds slipway:only-slipway-knows-this "oci:$SUITE_DIR/multi:1" \
        "docker://$world_registry/base/multi:1"
    multi=$world_registry/base/multi:1
}

tool_files_of_others() {
    local tool
    for tool in podman buildah; do
        install -D -m 0755 /dev/stdin "usr/bin/$tool" <<<'#!/bin/sh
exit 99'
    done
}

raw_in_registry() { env_skopeo inspect --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/$1"; }

# What a file of a pushed image has in it: file_in_registry REPOSITORY@DIGEST PATH
file_in_registry() {
    local copy=$CASE_DIR/copy blob
    rm -rf "$copy"
    env_skopeo copy --quiet --src-creds slipway:only-slipway-knows-this "docker://$world_registry/$1" "dir:$copy" >/dev/null
    for blob in $(jq -r '.layers[].digest' "$copy/manifest.json"); do
        tar -xOf "$copy/${blob#sha256:}" "$2" 2>/dev/null || true
    done
}

child_of() { jq -r --arg a "$1" '.manifests[] | select(.platform.architecture == $a) | .digest'; }

# vulnerable_for ARCHITECTURE...: a Dockerfile whose images for these the gate does not let pass.
vulnerable_for() {
    cat <<SCRIPT
mkdir -p for-amd64 for-386
for one in $*; do printf 'Metadata-Version: 2.1\nName: PyYAML\nVersion: 5.3\n' >for-\$one/METADATA; done
touch for-amd64/none for-386/none
cat >Dockerfile <<'END'
FROM $multi
ARG TARGETARCH
RUN ["/bin/mark"]
COPY for-\${TARGETARCH} /usr/lib/python3/dist-packages/PyYAML-5.3.dist-info/
END
SCRIPT
}

TEST "one build for two platforms is pushed as an index of what each of them runs" {
    run_steps 6001 "$(vulnerable_for)
try build docker buildx build --platform linux/amd64,linux/386 -t $world_registry/grp/app/both:1 --annotation manifest,index:made=both --annotation manifest-descriptor[linux/386]:old=yes --push --metadata-file meta.json .
try meta cat meta.json
try media docker image inspect --format '{{.Descriptor.mediaType}} {{.Descriptor.digest}} {{.Architecture}}' $world_registry/grp/app/both:1
try inspect docker manifest inspect $world_registry/grp/app/both:1
try remote docker buildx imagetools inspect $world_registry/grp/app/both:1
try raw sh -c 'docker buildx imagetools inspect --raw $world_registry/grp/app/both:1 | sha256sum'
digest=\$(sed -n 's/.*\"containerimage.digest\": \"\\(sha256:[0-9a-f]*\\)\".*/\\1/p' meta.json)
try again docker pull --platform linux/386 $world_registry/grp/app/both@\$digest
echo FROM $world_registry/grp/app/both:1 >On && try own docker build -q --platform linux/386 -f On -t own:1 .
try own-platform docker image inspect --format '{{.Architecture}}' own:1
try saved sh -c 'docker save $world_registry/grp/app/both:1 | tar -xO index.json'"

    expect_step build 0
    local digest
    digest=$(world_registry_digest grp/app/both:1)
    raw_in_registry grp/app/both:1 >"$CASE_DIR/index"
    expect_eq "sha256:$(sha256sum "$CASE_DIR/index" | cut -d' ' -f1)" "$digest"
    expect_contains "$(step_says meta)" "$digest"
    expect_step media 0 "application/vnd.oci.image.index.v1+json $digest amd64"
    expect_eq "$(jq -r '[.manifests[].platform | "\(.os)/\(.architecture)"] | sort | join(" ")' "$CASE_DIR/index")" \
        "linux/386 linux/amd64"
    expect_eq "$(jq -c '[.annotations, (.manifests[] | select(.platform.architecture == "386") | .annotations)]' "$CASE_DIR/index")" \
        '[{"made":"both"},{"old":"yes"}]'
    local architecture
    for architecture in amd64 386; do
        expect_eq "$(raw_in_registry "grp/app/both@$(child_of "$architecture" <"$CASE_DIR/index")" | jq -c .annotations)" '{"made":"both"}'
        expect_eq "$(file_in_registry "grp/app/both@$(child_of "$architecture" <"$CASE_DIR/index")" made-by)" "$architecture"
        expect_contains "$(step_says inspect)" "$(child_of "$architecture" <"$CASE_DIR/index")"
        expect_contains "$(step_says remote)" "Platform:    linux/$architecture"
    done
    expect_step raw 0 "${digest#sha256:}"
    expect_step again 0 "Digest: $digest"
    expect_step own 0
    expect_step own-platform 0 386
    expect_step saved 0 "$digest"
    expect_contains "$TRACE" "pushed   $world_registry/grp/app/both:1"

    # Another job: one of its images is pulled, and the name goes on meaning the index.
    run_steps 7190 "
try pull docker pull $world_registry/grp/app/both:1
try pinned docker image inspect --format '{{index .RepoDigests 0}} {{.Architecture}}' $world_registry/grp/app/both@$digest
try joined docker buildx imagetools create --dry-run -t $world_registry/grp/app/both:2 $world_registry/grp/app/both:1"
    expect_step pull 0 "Digest: $digest"
    expect_step pinned 0 "$world_registry/grp/app/both@$digest amd64"
    for architecture in amd64 386; do
        expect_step joined 0 "$(child_of "$architecture" <"$CASE_DIR/index")"
    done
    grep -F "$digest" "$world_state_dir/audit.jsonl" | grep -q '"event":"push"'
}

TEST "a platform that the host does not run is built where no step runs on it, and says what to do where one would" {
    run_steps 6101 "echo hello >file
cat >Dockerfile <<'END'
FROM --platform=\$BUILDPLATFORM $multi AS work
RUN [\"/bin/mark\"]
FROM $multi
COPY --from=work /made-by /made-on
COPY file /file
END
try copied docker build --platform linux/arm64,linux/amd64 -t $world_registry/grp/app/arm:1 --push .
printf 'FROM $multi\nRUN [\"/bin/mark\"]\n' >Runs
try runs docker build --platform linux/arm64,linux/amd64 -t runs:1 -f Runs .
try word docker build --platform linux/amd64,linux/no/such/thing .
try windows docker build --platform linux/amd64,windows/amd64 .
try none docker build --platform linux/amd64,linux/s390x ."

    expect_step copied 0
    raw_in_registry grp/app/arm:1 >"$CASE_DIR/index"
    expect_eq "$(file_in_registry "grp/app/arm@$(child_of arm64 <"$CASE_DIR/index")" made-on)" amd64
    expect_step runs 1 "exit code" "binfmt_misc" "--platform=\$BUILDPLATFORM"
    expect_step word 1 "OS/ARCHITECTURE[/VARIANT]"
    expect_step windows 1 "no image can be built for windows/amd64"
    expect_step none 1 "has no variant for linux/s390x"
}

# make_emulated FILE: a program for arm64 that writes so to /made-by. Its header says "slipway" where others have zeroes.
make_emulated() {
    clang-14 --target=aarch64-linux-gnu -x assembler -c -o "$1.o" - <<'END'
  mov x0, #-100 // AT_FDCWD
  adr x1, file
  mov x2, #0101 // O_WRONLY | O_CREAT
  mov x3, #0644
  mov x8, #56   // openat
  svc #0
  adr x1, text
  mov x2, #6
  mov x8, #64   // write
  svc #0
  sub x0, x0, #6
  mov x8, #93   // exit
  svc #0
file: .asciz "/made-by"
text: .ascii "arm64\n"
END
    objcopy -I elf64-little -O binary -j .text "$1.o" "$1.text"
    # elf(5): one segment, right behind the two headers.
    python3 - "$1" <<'END'
import struct, sys
code = open(sys.argv[1] + ".text", "rb").read()
base, size = 0x400000, 120 + len(code)
with open(sys.argv[1], "wb") as file:
    file.write(b"\x7fELF\x02\x01\x01\0\0slipway")
    file.write(struct.pack("<HHIQQQIHHHHHH", 2, 0xb7, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0))
    file.write(struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096) + code)
END
}

# Registers an emulator for what make_emulated makes, and for no other program of this machine, until $emulator ends.
register_emulator() {
    local qemu
    qemu=$(image_emulator aarch64)
    # shellcheck disable=SC2016
    setpriv --pdeathsig TERM unshare --mount --propagation private bash -ec '
        cd /proc/sys/fs/binfmt_misc
        [[ -e register ]] || { mount -t binfmt_misc none "$PWD" && cd "$PWD"; }
        trap "echo -1 >$1; kill \$!" EXIT
        trap "exit 0" TERM
        printf "%s" ":$1:M:0:\x7fELF\x02\x01\x01\x00\x00slipway\x02\x00\xb7\x00::$2:F" >register
        touch "$3"
        sleep 600 &
        wait' register "slipway-$env_netns" "$qemu" "$CASE_DIR/registered" &
    emulator=$!
    until_true 10 test -e "$CASE_DIR/registered"
}

TEST "where the host has an emulator for a platform its steps run, and what they made is pushed; control: without it they do not" {
    make_emulated emulated
    local steps
    steps="base64 -d >emulated <<<$(base64 -w0 emulated); chmod 755 emulated
printf 'FROM $multi\nCOPY emulated /bin/emulated\nRUN [\"/bin/emulated\"]\n' >Dockerfile
try build docker build --platform linux/arm64 -t $world_registry/grp/app/emulated:1 --push ."
    run_steps 6102 "$steps"
    expect_step build 1 binfmt_misc
    expect_absent grp/app/emulated:1

    register_emulator
    run_steps 6103 "$steps"
    kill "$emulator"
    expect_step build 0
    expect_eq "$(file_in_registry grp/app/emulated:1 made-by)" arm64
    expect_eq "$(env_skopeo inspect --config --raw --creds slipway:only-slipway-knows-this "docker://$world_registry/grp/app/emulated:1" | jq -r .architecture)" arm64
}

TEST "one vulnerable image denies the whole index, and nothing of it is in the registry" {
    run_steps 6201 "$(vulnerable_for 386)
try push docker buildx build --platform linux/amd64,linux/386 -t $world_registry/grp/app/bad:1 --push .
try list docker manifest inspect $world_registry/grp/app/bad:1
try control docker buildx build --platform linux/amd64 -t $world_registry/grp/app/bad:control --push ."

    expect_step push 1 CVE-2020-14343 "linux/386"
    expect_step list 0
    local digest
    expect_absent grp/app/bad:1
    for digest in $(step_says list | jq -r '.manifests[].digest'); do
        # The good one too: the control pushes these layers under another config only.
        [[ $digest == "$(world_registry_digest grp/app/bad:control)" ]] || expect_absent "grp/app/bad@$digest"
    done
    expect_step control 0
    world_registry_digest grp/app/bad:control | grep -q '^sha256:'
}

TEST "docker manifest and imagetools make indexes of images of this job and of the registry" {
    run_steps 6301 "$(vulnerable_for)
for one in amd64 386; do
    docker build -q --platform linux/\$one -t $world_registry/grp/app/one:\$one . && docker push -q $world_registry/grp/app/one:\$one
done"
    expect_eq "$STATE" success
    # Another job has none of them: they come from the registry, and are judged.
    run_steps 6302 "list=$world_registry/grp/app/list:1
try create docker manifest create \$list $world_registry/grp/app/one:amd64 $world_registry/grp/app/one:386
try twice docker manifest create \$list $world_registry/grp/app/one:amd64
try annotate docker manifest annotate --variant v1 \$list $world_registry/grp/app/one:386
try nosuch docker manifest annotate --os linux \$list $world_registry/base/tiny:1
try version docker manifest annotate --os-version 10.0 \$list $world_registry/grp/app/one:386
try inspect docker manifest inspect \$list
try whole docker manifest inspect -v \$list
try push docker manifest push --purge \$list
try purged docker manifest rm \$list
try absent docker manifest inspect $world_registry/grp/app/nosuch:1
try nested docker manifest create $world_registry/grp/app/nested:1 \$list
try dry docker buildx imagetools create --dry-run -t $world_registry/grp/app/tools:1 $world_registry/grp/app/one:amd64
try tools docker buildx imagetools create -t $world_registry/grp/app/tools:1 $world_registry/grp/app/one:amd64
try append docker buildx imagetools create --append -t $world_registry/grp/app/tools:1 $world_registry/grp/app/one:386
try copy docker buildx imagetools create -t $world_registry/grp/app/tools:copy $world_registry/grp/app/list:1
try whole-single docker manifest inspect -v $world_registry/grp/app/one:386
try whole-remote docker manifest inspect -v $world_registry/grp/app/list:1
docker manifest inspect -v $world_registry/grp/app/one:386 | sed -n 's/.*\"digest\": \(\"sha256:[0-9a-f]*\"\).*/{\"digest\": \1}/p' | head -n 1 >descriptor
try from-file docker buildx imagetools create -t $world_registry/grp/app/one:file -f descriptor --annotation index:team=x --annotation manifest-descriptor:made=y
try one-of docker buildx imagetools create -t $world_registry/grp/app/tools:386 --platform linux/386 $world_registry/grp/app/list:1
try none-of docker buildx imagetools create -t $world_registry/grp/app/tools:s390x --platform linux/s390x $world_registry/grp/app/list:1
try builders sh -c 'docker buildx ls && docker buildx inspect'
try elsewhere docker buildx imagetools create -t other.example/app:1 $world_registry/grp/app/one:386"

    expect_step create 0 "Created manifest list $world_registry/grp/app/list:1"
    expect_step twice 1 "--amend"
    expect_step annotate 0
    expect_step nosuch 1 "has no image with the digest"
    expect_step push 0
    expect_eq "$(step_says push | grep -v '^$' | tail -n 1)" "$(world_registry_digest grp/app/list:1)"
    raw_in_registry grp/app/list:1 >"$CASE_DIR/index"
    expect_eq "$(child_of amd64 <"$CASE_DIR/index") $(child_of 386 <"$CASE_DIR/index")" \
        "$(world_registry_digest grp/app/one:amd64) $(world_registry_digest grp/app/one:386)"
    expect_eq "$(jq -r '.manifests[1].platform | .variant + " " + ."os.version"' "$CASE_DIR/index")" "v1 10.0"
    local step
    for step in whole whole-remote; do
        expect_step "$step" 0
        expect_eq "$(step_says "$step" | jq -r '[.[] | .Descriptor.platform.architecture + " " + (.OCIManifest.schemaVersion | tostring)] | join(" ")')" "amd64 2 386 2"
        expect_eq "$(step_says "$step" | jq -r '.[1].Raw' | base64 -d | sha256sum | cut -d' ' -f1)" \
            "$(world_registry_digest grp/app/one:386 | cut -d: -f2)"
    done
    expect_eq "$(step_says whole-single | jq -r '.Ref + " " + .Descriptor.digest + " " + .Descriptor.platform.architecture')" \
        "$world_registry/grp/app/one:386 $(world_registry_digest grp/app/one:386) 386"
    expect_step from-file 0
    expect_eq "$(raw_in_registry grp/app/one:file | jq -r '.annotations.team + .manifests[0].annotations.made + .manifests[0].digest')" \
        "xy$(world_registry_digest grp/app/one:386)"
    expect_step one-of 0
    expect_eq "$(raw_in_registry grp/app/tools:386 | jq -r '[.manifests[].platform.architecture] | join(" ")')" 386
    expect_step none-of 1 "no image of the sources is for the platforms"
    expect_absent grp/app/tools:s390x
    expect_step builders 0 "Platforms: linux/amd64, linux/386" "by slipway   linux/amd64, linux/386"
    expect_step purged 1 "No such manifest"
    expect_step absent 1 "no such manifest: $world_registry/grp/app/nosuch:1"
    expect_step nested 1 "is a manifest list"
    expect_step dry 0 '"manifests"'
    expect_step tools 0
    expect_step append 0
    expect_eq "$(raw_in_registry grp/app/tools:1 | jq -r '[.manifests[].platform.architecture] | join(" ")')" "amd64 386"
    expect_step copy 0
    expect_eq "$(world_registry_digest grp/app/tools:copy)" "$(world_registry_digest grp/app/list:1)"
    expect_step elsewhere 1 "other.example"
}

TEST "a list with a vulnerable image is not pushed, whatever its tag was when it was judged" {
    run_steps 6401 "$(vulnerable_for 386)
docker build -q --platform linux/amd64 -t $world_registry/grp/app/part:good . && docker push -q $world_registry/grp/app/part:good
docker build -q --platform linux/386 -t part:bad .
try create docker manifest create $world_registry/grp/app/mixed:1 $world_registry/grp/app/part:good part:bad
try push docker manifest push $world_registry/grp/app/mixed:1
try alone docker manifest create $world_registry/grp/app/alone:1 $world_registry/grp/app/part:good
docker tag part:bad $world_registry/grp/app/part:good
try moved docker manifest push $world_registry/grp/app/alone:1
try again docker manifest create --amend $world_registry/grp/app/alone:1 $world_registry/grp/app/part:good
try denied docker manifest push $world_registry/grp/app/alone:1"

    expect_step create 0
    expect_step push 1 CVE-2020-14343
    expect_absent grp/app/mixed:1
    expect_step alone 0
    # The list names digests: that a name is another image now changes nothing of what was judged and pushed.
    expect_step moved 0
    expect_step again 0
    local good
    good=$(world_registry_digest grp/app/part:good)
    expect_eq "$(raw_in_registry grp/app/alone:1 | jq -r '[.manifests[].digest] | join(" ")')" "$good"
    expect_step denied 1 CVE-2020-14343
    expect_eq "$(raw_in_registry grp/app/alone:1 | jq -r '[.manifests[].digest] | join(" ")')" "$good"
}

TEST "podman and buildah manifest, and builds that add to a list" {
    run_steps 6501 "$(vulnerable_for)
list=$world_registry/grp/app/pod:1
for one in amd64 386; do try build-\$one buildah build -q --arch \$one --manifest \$list .; done
try exists podman manifest exists \$list
try inspect buildah manifest inspect \$list
try push buildah manifest push --all --digestfile digest \$list docker://\$list
try digest cat digest
try empty buildah manifest create made
try add buildah manifest add made \$list
try add-386 podman manifest add --arch 386 made \$list
try digests buildah manifest inspect made
try empty-push podman manifest push made $world_registry/grp/app/made:1
try both podman build -q --platform linux/amd64,linux/386 --manifest both .
try no-list podman build -q --platform linux/amd64,linux/386 -t both .
try rm podman manifest rm made
try gone podman manifest exists made" "$with_tools"

    expect_step build-amd64 0
    expect_step build-386 0
    expect_step exists 0
    expect_step push 0
    expect_eq "$(step_says digest | grep -v '^$')" "$(world_registry_digest grp/app/pod:1)"
    expect_eq "$(raw_in_registry grp/app/pod:1 | jq -r '[.manifests[].platform.architecture] | join(" ")')" "amd64 386"
    expect_step empty 0
    expect_step add 0 ": sha256:"
    expect_step add-386 0
    expect_eq "$(step_says digests | jq -r '[.manifests[].platform.architecture] | join(" ")')" "amd64 386"
    expect_step empty-push 0
    expect_step both 0
    expect_step no-list 125 "--manifest"
    expect_step rm 0
    expect_step gone 1
}
