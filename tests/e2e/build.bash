# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Builds as jobs ask for them: Dockerfiles, contexts, the docker command line, and what tries to break out.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
}

SUITE_TEARDOWN() {
    world_stop
}

TEST "a Dockerfile that cannot be built fails its command, with file, line and reason" {
    run_steps 3001 "try missing docker build -t x:1 .
printf 'FROM $world_busybox\n\nRUNN echo hi\n' >Dockerfile
try unknown-instruction docker build -t x:1 .
printf 'FROM $world_busybox AS base\nCOPY\n' >Dockerfile
try no-argument docker build -t x:1 .
printf 'RUN echo\n' >Dockerfile
try no-from docker build -t x:1 .
: >Dockerfile
try empty docker build -t x:1 .
printf 'FROM\n' >Dockerfile
try from-nothing docker build -t x:1 .
printf 'FROM $world_registry/base/nosuch:1\n' >Dockerfile
try from-unknown docker build -t x:1 .
printf 'FROM UPPER/Case\n' >Dockerfile
try bad-name docker build -t x:1 .
printf 'FROM \${NOTHING}\n' >Dockerfile
try from-empty-argument docker build -t x:1 .
printf '# syntax=evil/frontend\nFROM $world_busybox\n' >Dockerfile
try frontend docker build -t x:1 .
printf 'FROM $world_busybox\nCOPY nosuch /x\n' >Dockerfile
try copy-missing docker build -t x:1 .
printf 'FROM $world_busybox\nRUN echo to-stdout; echo to-stderr >&2; exit 3\n' >Dockerfile
try failing docker build -t x:1 .
try failing-quietly docker build -q -t x:1 .
head -c 3000000 /dev/zero | tr '\0' '#' >Dockerfile
try huge docker build -t x:1 .
head -c 3000 /dev/urandom >Dockerfile
try binary docker build -t x:1 .
mkfifo pipe
try pipe docker build -f pipe -t x:1 .
ln -s /dev/zero Endless
try endless docker build -f Endless -t x:1 .
try none docker images -q"

    expect_eq "$STATE" success
    expect_step missing 1 "Dockerfile: no such file or directory"
    expect_step unknown-instruction 1 "Dockerfile:3: unknown instruction: RUNN (did you mean RUN?)"
    expect_step no-argument 1 "Dockerfile:2: COPY needs an argument"
    expect_step no-from 1 "Dockerfile:1: RUN stands before the first FROM"
    expect_step empty 1 "Dockerfile has no instructions"
    expect_step from-nothing 1 "Dockerfile:1: FROM needs an argument"
    expect_step from-unknown 1 "Dockerfile:1: FROM $world_registry/base/nosuch:1" "there is no image"
    expect_step bad-name 1 "Dockerfile:1: FROM UPPER/Case" "in lower case"
    expect_step from-empty-argument 1 "Dockerfile:1" "\$NOTHING has no value" "--build-arg"
    expect_step frontend 1 "Dockerfile:1" "not docker/dockerfile"
    expect_step copy-missing 1 "Dockerfile:2" '"/nosuch": not found'
    expect_step failing 1 to-stdout to-stderr "Dockerfile:2: a step ended with exit code 3"
    expect_step failing-quietly 1 "Dockerfile:2: a step ended with exit code 3"
    expect_step huge 1 "larger than"
    expect_step binary 1 "Dockerfile"
    expect_step pipe 1 "no instructions"
    expect_step endless 1
    expect_eq "$(step_says none)" "" "images after failed builds"
}

TEST "what a Dockerfile says is in the image" {
    run_steps 3002 "cat >Dockerfile <<'END'
# syntax=docker/dockerfile:1
ARG BASE=$world_base
FROM \${BASE} AS builder
ARG NAME=nobody
RUN echo \"made for \$NAME\" >/made
FROM builder AS tests
RUN echo this stage is not needed; exit 9
FROM $world_busybox AS final
LABEL stage=\"final\" quoted=\"a b\"
ENV KEPT=yes
COPY --from=builder /made /made
COPY . /context
COPY <<EOT /greeting
hello
EOT
RUN <<EOT
set -e
cat /greeting >/heredoc-ran
EOT
HEALTHCHECK --interval=7s CMD [\"true\"]
ONBUILD RUN echo trigger-ran >/tmp/trigger
EXPOSE 8080/tcp
USER 1234
WORKDIR /context
ENTRYPOINT [\"/bin/cat\"]
CMD [\"/made\"]
END
mkdir sub secret && echo 1 >sub/one && echo no >secret/key && echo no >x.log && echo yes >kept.log
printf 'secret\n*.log\n!kept.log\n' >.dockerignore
try build docker build -t features:1 --build-arg NAME=alice --label from=flag .
try config docker inspect --format '{{json .Config}}' features:1
try target docker build -q -t stage:1 --target builder --build-arg BASE=$world_busybox .
try failing-target docker build -q --target tests .
try no-target docker build -q --target nosuch .
mkdir ../next && cd ../next
printf 'FROM features:1\nRUN cat /tmp/trigger /made /heredoc-ran; find /context -type f; id -u\n' >Dockerfile
try next docker build -t next:1 .
try next-config docker inspect --format '{{json .Config}}' next:1
try classic env DOCKER_BUILDKIT=0 docker build -t next:2 .
mkdir ../trigger && cd ../trigger
printf 'FROM $world_busybox\nONBUILD COPY --from=maker /made-here /got\n' >base
try trigger-base docker build -q -t runtime:1 -f base .
printf 'FROM $world_busybox AS maker\nRUN echo of-the-stage >/made-here\nFROM runtime:1\nRUN cat /got\n' >Dockerfile
try trigger-stage docker build -t got:1 --build-arg BUILDKIT_INLINE_CACHE=1 ."

    expect_eq "$STATE" success
    expect_step build 0 "Successfully tagged features:1"
    config=$(step_says config)
    expect_eq "$(jq -r '.Labels | to_entries | map("\(.key)=\(.value)") | sort | join(",")' <<<"$config")" \
        "from=flag,quoted=a b,stage=final" labels
    expect_eq "$(jq -c '[.User, .WorkingDir, .Entrypoint, .Cmd, (.ExposedPorts | keys), .Healthcheck.Test, .Healthcheck.Interval]' <<<"$config")" \
        '["1234","/context",["/bin/cat"],["/made"],["8080/tcp"],["CMD","true"],7000000000]' config
    expect_step target 0 sha256:
    expect_step failing-target 1 "Dockerfile:7: a step ended with exit code 9"
    expect_step no-target 1 "no stage named 'nosuch'"
    expect_step next 0 trigger-ran "made for alice" hello /context/kept.log /context/sub/one
    expect_lacks "$(step_says next)" secret/key
    expect_lacks "$(step_says next)" x.log
    expect_eq "$(step_says next-config | jq -c '[.OnBuild, .Healthcheck.Interval, .Env[1]]')" '[null,7000000000,"KEPT=yes"]'
    expect_step classic 0 "Successfully tagged next:2"
    expect_step trigger-base 0 sha256:
    expect_step trigger-stage 0 of-the-stage "BUILDKIT_INLINE_CACHE is not needed"
}

TEST "explain asks registries what a base image is, where it is told to" {
    publish_image base/triggers:1 busybox '{"OnBuild": ["RUN --mount=type=cache,target=/c true"]}'
    echo "FROM $world_registry/base/triggers:1" >Dockerfile
    explain() { "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" explain "$@" "$CASE_DIR"; }
    chmod 755 .

    expect_status 0 explain
    expect_contains "$OUTPUT" "what the build needs: nothing"
    expect_contains "$OUTPUT" "base image $world_registry/base/triggers:1 is not read"
    expect_status 0 explain --read-bases
    expect_contains "$OUTPUT" "base image $world_registry/base/triggers:1 (Dockerfile:1): RUN --mount=type=cache"
    expect_lacks "$OUTPUT" "is not read"
    expect_status 1 explain --read-bases --backend kaniko
    expect_contains "$OUTPUT" "RUN --mount=type=cache"
    echo "FROM $world_registry/base/nothing:1" >Dockerfile
    expect_status 0 explain --read-bases
    expect_contains "$OUTPUT" "base image $world_registry/base/nothing:1 cannot be read ("
    # What listens on the runner hears nothing, though the name is one like any other to allowed_bases.
    echo "FROM 127.0.0.1:1/base/triggers:1" >Dockerfile
    expect_status 1 explain --read-bases
    expect_contains "$OUTPUT" "slipway does not pull from '127.0.0.1:1', an address of the runner itself"
    expect_eq "$(find "$world_dir/state/jobs" -maxdepth 1 -name 'explain-*')" ""
}

TEST "contexts come as folders, as tars and as a Dockerfile on standard input" {
    local packed
    mkdir packed && printf 'FROM %s\nCOPY Dockerfile /\nRUN echo from-xz\n' "$world_busybox" >packed/Dockerfile
    packed=$(tar -C packed -cJf - . | base64 -w 0)
    run_steps 3003 "mkdir /tmp/outside && echo from-tmp \$RANDOM >/tmp/outside/file
printf 'FROM $world_busybox\nCOPY file /\nRUN cat /file\n' >/tmp/outside/Dockerfile
try tmp docker build -t x:1 /tmp/outside
piped() { tar -C /tmp/outside \$1 -cf - . | docker build -t x:2 \$2 -; }
echo from-tar \$RANDOM >/tmp/outside/file
try tar piped '' ''
echo from-gzip \$RANDOM >/tmp/outside/file
try gzip piped -z ''
echo from-named \$RANDOM >/tmp/outside/file
mv /tmp/outside/Dockerfile /tmp/outside/Other
try named-in-tar piped '' '-f Other'
on_stdin() { printf 'FROM $world_busybox\nRUN echo from-stdin\n' | docker build -t x:3 -; }
try stdin on_stdin
mkdir ctx && echo from-workspace \$RANDOM >ctx/file
file_on_stdin() { printf 'FROM $world_busybox\nCOPY file /\nRUN cat /file\n' | docker build -f - \$1; }
try file-on-stdin file_on_stdin ctx
echo from-outside \$RANDOM >/tmp/outside/file
try file-on-stdin-tmp file_on_stdin /tmp/outside
printf 'FROM $world_busybox\nCOPY file /\nRUN cat /file; echo elsewhere\n' >/tmp/Elsewhere
try file-elsewhere docker build -f /tmp/Elsewhere ctx
# Files of one size and time, as archives and package managers make them.
mkdir same && printf 'FROM $world_busybox\nCOPY file /\nRUN echo \$(cat /file)-is-built\n' >same/Dockerfile
twin() { echo \$1-\$RANDOM >same/file && truncate -s 20 same/file && touch -d @499162500 same/file; }
twin one; docker build -q same; twin two
try twin docker build same
twin one; tar -C same -cf - . | docker build -q -; twin two
twin_tar() { tar -C same -cf - . | docker build -; }
try twin-tar twin_tar
same() { echo \$1 >/tmp/outside/file; touch -d @1000000000 /tmp/outside/file; tar -C /tmp/outside -cf - . | docker build --no-cache -f Other -; }
try same-one same one
try same-two same two
garbage() { head -c 100000 /dev/urandom | docker build -; }
try garbage garbage
cut() { tar -C /usr/share -cf - doc | head -c 100000 | docker build -; }
try cut cut
with_more() { { tar -C /tmp/outside -cf - .; head -c 400000 /dev/urandom || :; } | docker build -f Other -; }
try with-more with_more
packed() { echo $packed | base64 -d | docker build -; }
try xz packed
try nothing docker build - </dev/null
try no-folder docker build nosuch
try url docker build https://example.invalid/repo.git"

    expect_eq "$STATE" success
    expect_step tmp 0 from-tmp
    expect_step tar 0 from-tar
    expect_step gzip 0 from-gzip
    expect_step named-in-tar 0 from-named
    # Nothing but the content differs: not the name, the size or the time.
    expect_contains "$(step_says same-one)" " one"
    expect_contains "$(step_says same-two)" " two"
    expect_step stdin 0 from-stdin
    expect_step file-on-stdin 0 from-workspace
    expect_step file-on-stdin-tmp 0 from-outside
    expect_step file-elsewhere 0 elsewhere
    expect_contains "$(step_says twin | grep -- -is-built)" two-
    expect_contains "$(step_says twin-tar | grep -- -is-built)" two-
    expect_step garbage 1 "not a Dockerfile"
    expect_step cut 1 "unpacking the build context" "Unexpected EOF"
    expect_step with-more 0 # tar leaves unread what comes behind the archive's end
    expect_step xz 0 from-xz
    expect_step nothing 1 "is empty"
    expect_step no-folder 1 '"nosuch" not found'
    expect_step url 1 "example.invalid"
}

TEST "links, sockets, pipes and closed folders in a context harm nobody" {
    run_steps 3004 "ln -s /etc/shadow outside; ln -s /out out; ln -s /run run; ln -s ../../../../../../etc/hostname relative; ln -s nosuch dangling
python=\$(command -v perl) && perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => \"socket\", Listen => 1) or die' && ls -l socket
mkfifo pipe
mkdir closed && echo of-another-user >closed/file && chown -R 1000:1000 closed && chmod 700 closed
mkdir 'with space' && echo x >'with space/new
line'
cat >Dockerfile <<'END'
FROM $world_busybox
COPY closed /closed
COPY [\"with space\", \"/spaces\"]
COPY . /all
RUN ls -ln /all /closed; cat /closed/file; readlink /all/outside
END
try special docker build -t x:1 .
printf 'FROM $world_busybox\nCOPY outside /taken\nRUN cat /taken\n' >Dockerfile
try follow docker build .
printf 'FROM $world_busybox\nCOPY out/ /taken\nRUN find /taken\n' >Dockerfile
try follow-out docker build .
printf 'FROM $world_busybox\nCOPY ../ /taken\nRUN ls -a /taken\n' >Dockerfile
try dots docker build .
ln -s /etc ctx
try linked-context docker build ctx
ln -s /proc/1/environ Linked
try linked-dockerfile docker build -f Linked .
mkdir many && cd many
perl -e 'for my \$d (1..100) { mkdir \$d; for (1..1000) { open my \$f, \">\", \"\$d/\$_\" } }'
printf 'FROM $world_busybox\nCOPY . /many\nRUN find /many -type f | wc -l\n' >Dockerfile
try many docker build -t many:1 ."

    expect_eq "$STATE" success
    grep -qE '^srw.* socket$' <<<"$TRACE"
    expect_step special 0 of-another-user /etc/shadow
    for step in follow follow-out dots; do expect_lacks "$(step_says $step)" root:; done
    expect_step follow 1 not\ found
    # As docker does, it looks below the link: at the job's own /etc, in which there is none.
    expect_step linked-context 1 "/etc/Dockerfile: no such file or directory"
    expect_step linked-dockerfile 1
    expect_step many 0 100001
}

TEST "the docker commands of a pipeline hand images from one to the next" {
    run_steps 3005 "printf 'FROM $world_base\nRUN echo 3005 >/number\n' >Dockerfile
try build docker build -q -t next:1 -t second:1 .
try images docker images --format '{{.Repository}}:{{.Tag}} {{.ID}}'
try tag docker tag next:1 $world_registry/grp/app/tagged:2
try by-id docker tag \$(docker images -q next) third:1
try no-tag docker tag nosuch:9 x:1
try save docker save -o next.tar next:1
piped() { docker save next:1 second:1 | tee piped.tar | tar -tf - | sort; }
try piped piped
try rmi docker rmi next:1 second:1 third:1
try gone docker inspect next:1
try load docker load -i next.tar
loaded() { docker load <piped.tar; }
try load-stdin loaded
printf 'FROM next:1\nRUN cat /number\n' >Dockerfile
try from-loaded docker build --no-cache .
printf 'FROM $world_base\nLABEL of=amd64\n' >Dockerfile
docker build -q -t $world_registry/grp/app/cross:1 . && docker push -q $world_registry/grp/app/cross:1
printf 'FROM scratch\nLABEL of=arm64\nCOPY Dockerfile /f\n' >Dockerfile
docker build -q --platform linux/arm64 -t $world_registry/grp/app/cross:1 .
printf 'FROM --platform=\$BUILDPLATFORM $world_registry/grp/app/cross:1 AS made\nRUN echo >/made\nFROM $world_registry/grp/app/cross:1\nCOPY --from=made /made /made\n' >Dockerfile
try cross docker build --platform linux/arm64 -t crossed:1 .
try crossed docker inspect --format '{{.Architecture}} of {{.Config.Labels.of}}' crossed:1
docker tag next:1 $world_registry/base/nosuch:3
printf 'FROM $world_registry/base/nosuch:3\n' >Dockerfile
try foreign docker build --platform linux/arm64 .
try no-rmi docker rmi nosuch:9
try no-pull docker pull $world_registry/base/nosuch
try pull docker pull $world_busybox
try pulled docker inspect --format '{{index .RepoDigests 0}}' $world_busybox
try login docker login -u someone -p secretword $world_registry
login() { echo secretword | docker login -u someone --password-stdin $world_registry; }
try login-stdin login
try logout docker logout $world_registry
try stored grep -r secretword /root /tmp /run --include=* -s
try no-image docker push $world_registry/grp/app/nosuch:2
try push docker push $world_registry/grp/app/tagged:2
try digests docker inspect --format '{{json .RepoDigests}}' $world_registry/grp/app/tagged:2
try info docker info
try version docker version --format '{{.Server.Version}}'
try bad-format docker images --format '{{.Nonsense'"

    expect_eq "$STATE" success
    id=$(step_says build | head -n 1)
    expect_contains "$(step_says images)" "second:1 ${id:7:12}"
    expect_step tag 0
    expect_step by-id 0
    expect_step no-tag 1 "No such image: nosuch:9"
    expect_step save 0
    expect_step piped 0 manifest.json
    expect_step rmi 0 "Untagged: next:1" "Untagged: second:1"
    expect_step gone 1 "No such object: next:1"
    expect_step load 0 "next:1"
    expect_step load-stdin 0 "next:1" "second:1"
    expect_step from-loaded 0 3005
    # One name, two platforms: each stage stands on the image for its own.
    expect_step cross 0
    expect_step crossed 0 "arm64 of arm64"
    expect_step foreign 1 "own image $world_registry/base/nosuch:3 is for linux/amd64 and not for linux/arm64"
    expect_step no-rmi 1 "No such image"
    expect_step no-pull 1 "there is no image $world_registry/base/nosuch:latest"
    expect_step pull 0 "Digest: sha256:"
    expect_eq "$(step_says pulled | head -n 1)" "${world_busybox%:*}@$(world_registry_digest base/busybox:1)"
    expect_step login 0 "Login Succeeded"
    expect_step login-stdin 0 "Login Succeeded"
    expect_step logout 0
    expect_eq "$(step_says stored)" "" "the password on disk"
    expect_step no-image 1 "does not exist locally"
    digest=$(world_registry_digest grp/app/tagged:2)
    expect_step push 0 "2: digest: $digest size: "
    expect_eq "$(step_says digests | head -n 1)" "[\"$world_registry/grp/app/tagged@$digest\"]"
    expect_step info 0 "Server Version"
    expect_step version 0 27.5.1
    expect_step bad-format 64
}

TEST "buildx builds, pushes and writes its files; flags that are not supported are refused by name" {
    run_steps 3006 "printf 'FROM $world_base\nRUN echo 3006 >/number\n' >Dockerfile
try create docker buildx create --use --name mine
try inspect docker buildx inspect --bootstrap
try push docker buildx build --push -t $world_registry/grp/app/bx:1 -t $world_registry/grp/app/bx:2 --iidfile iid --metadata-file meta.json --provenance=false .
try iid cat iid
try meta cat meta.json
try output docker buildx build -o type=registry -t $world_registry/grp/app/bx:3 .
try archive docker buildx build -o type=docker,dest=out.tar -t packed:1 .
try packed docker load -i out.tar
try run docker run --rm alpine
try compose docker compose up
try secret docker build --secret id=x .
for flag in --allow=network.host --network=host --memory=1g --output=type=s3 --cache-to=type=tape \
    --security-opt=seccomp=unconfined --nosuchflag; do try flag\${flag%%=*} docker build \$flag .; done"

    expect_eq "$STATE" success
    expect_step create 0
    expect_step inspect 0
    expect_step push 0
    digest=$(world_registry_digest grp/app/bx:1)
    expect_eq "$(world_registry_digest grp/app/bx:2)" "$digest" "both tags"
    expect_eq "$(world_registry_digest grp/app/bx:3)" "$digest" "the third tag"
    expect_eq "$(step_says meta | jq -r '."containerimage.digest"')" "$digest" "the digest in the metadata file"
    expect_eq "$(step_says meta | jq -r '."containerimage.config.digest"')" "$(step_says iid | head -n 1)" "the image ID"
    expect_step packed 0 packed:1
    expect_step run 125 "this job may not run containers" "dind = true"
    expect_step compose 1 "this image has none"
    expect_step secret 1 "failed to stat x: stat x: no such file or directory"
    for flag in --allow --network --memory --output --cache-to --security-opt; do
        expect_step "flag$flag" 125 "slipway does not support $flag"
    done
    expect_step flag--nosuchflag 125 "unknown flag: --nosuchflag"
}

TEST "an image without a layer is built, named, shown, saved and loaded like any, and not pushed" {
    run_steps 3013 "printf 'FROM scratch\nLABEL team=x\n' >Dockerfile
try build docker build -t $world_registry/grp/app/bare:1 --label more=y .
try tag docker tag $world_registry/grp/app/bare:1 bare:2
try label docker inspect --format '{{.Config.Labels.team}} {{.Config.Labels.more}} {{len .RootFS.Layers}}' bare:2
try history docker history --format '{{.Comment}}{{.CreatedBy}}' bare:2
try again sh -c 'docker save -o bare.tar bare:2 && docker rmi -f bare:2 && docker load -i bare.tar'
printf 'FROM bare:2\nCOPY Dockerfile /\n' >two
try from docker build -f two -o out .
try files ls out
try empty sh -c 'docker build -q -o none . >/dev/null && ls -A none'
try push docker push $world_registry/grp/app/bare:1"

    expect_eq "$STATE" success
    expect_step build 0
    expect_step label 0 "x y 0"
    expect_step history 0 LABEL
    expect_step again 0 "Loaded image: bare:2"
    expect_step from 0
    expect_step files 0 Dockerfile
    expect_step empty 0
    expect_eq "$(step_says empty | xargs)" "" "files of an image without any"
    expect_step push 1 no_os
    expect_absent grp/app/bare:1
}

TEST "a build gives the files of its target to the workspace, and nothing to a registry" {
    run_steps 3012 "cat >Dockerfile <<'END'
FROM $world_base AS build
RUN mkdir -p /out/sub && echo 3012 >/out/number && chmod 0750 /out/number && echo gone >/out/sub/gone && ln -s number /out/link && ln /out/number /out/again
FROM scratch AS files
COPY --from=build /out /
END
try folder docker build -t files:1 --target files -o out .
try number sh -c 'cat out/number out/link out/again out/sub/gone; stat -c %a out/number; id -u; stat -c %u out/number'
try image docker image inspect files:1
printf 'FROM scratch\nCOPY out /\nCOPY --from=more / /\n' >two.Dockerfile
mkdir more && echo more >more/number
try over docker buildx build -f two.Dockerfile --build-context more=more --output type=local,dest=new/deep -t kept:1 --load .
try more sh -c 'cat new/deep/number new/deep/again; docker image inspect -f {{.Id}} kept:1'
printf 'FROM $world_busybox\nRUN echo a >/a && mkdir /b && echo c >/b/c\nRUN rm -r /a /b\n' >three.Dockerfile
try whiteout sh -c 'docker build -q -f three.Dockerfile -o type=tar . >root.tar && tar -tf root.tar'
try pipe sh -c 'docker build --target files -o - . 2>/dev/null | tar -xOf - sub/gone'
mkdir victim && ln -s ../victim trap && mkdir trapped && ln -s ../victim trapped/sub
try link docker build --target files -o trapped .
try victim ls victim
try missing docker build --target files -o /proc/nowhere ."

    expect_eq "$STATE" success
    expect_step folder 0
    expect_eq "$(step_says number | head -n 5 | xargs)" "3012 3012 3012 gone 750" "the files"
    expect_eq "$(step_says number | sed -n 6p)" "$(step_says number | sed -n 7p)" "whose they are"
    expect_step image 1 "No such image"
    expect_step over 0
    expect_step more 0 more 3012 sha256:
    expect_step whiteout 0 bin/busybox
    expect_eq "$(step_says whiteout | grep -cE '^(a|b/|b/c)$')" 0 "files that a step removed"
    expect_step pipe 0
    expect_eq "$(step_says pipe | xargs)" gone "a file of the tar on stdout"
    expect_step link 1 'cannot overwrite non-directory "sub"'
    expect_eq "$(step_says victim | xargs)" "" "what a link led to"
    expect_step missing 1 "writing files to /proc/nowhere"
    expect_absent library/kept:1
}

with_ssh_add() {
    with_program "$(command -v ssh-add)"
}

# The value in any process's command line or environment but the job's own, until FILE is gone; and that a build ran.
watch_value() {
    python3 - "$1" "$2" <<'PYTHON'
import os, sys
file, value, seen = sys.argv[1], sys.argv[2].encode(), set()
while os.path.exists(file):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            argv = open(f"/proc/{pid}/cmdline", "rb").read()
            text = argv + open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        name = os.path.basename(argv.split(b"\0")[0]).decode(errors="replace")
        if name == "buildctl" and b"--secret" in argv:
            seen.add("ran buildctl --secret")
        if value in text:
            seen.add("value in " + name)
print("\n".join(sorted(seen)))
PYTHON
}

ssh_files() {
    local one
    for one in ssh-agent ssh-add ssh-keygen; do with_program "$(command -v "$one")"; done
}

TEST "a build is lent secrets, keys and contexts of the job, and nothing of them stays" {
    local value=Zq7-v4lue-Of-the-t0ken watcher key fingerprint
    publish_image base/ssh:12 debian '{}' with_ssh_add
    make_deploy_key
    : >"$CASE_DIR/watch"
    watch_value "$CASE_DIR/watch" "$value" >"$CASE_DIR/seen" &
    watcher=$!
    # The value is put together in the job, so that it is in no payload.
    run_steps 3061 "printf '%s-%s' Zq7-v4lue Of-the-t0ken >/tmp/token
cat >Dockerfile <<'END'
FROM $world_base
RUN --mount=type=secret,id=token,required=true sha256sum /run/secrets/token; stat -c mode=%a /run/secrets/token; sleep 1; cat /run/secrets/token; echo
END
try lent docker build --no-cache --progress=plain --secret id=token,src=/tmp/token -t lent:1 .
docker save -o /tmp/image.tar lent:1 && mkdir /tmp/image && tar -xf /tmp/image.tar -C /tmp/image
try inside sh -c 'cd /tmp/image && { cat \$(find . -type f); find . -type f -exec gzip -dc {} + 2>/dev/null; } | grep -c Zq7-v4lue-Of'
try control sh -c 'cd /tmp/image && cat \$(find . -type f) | grep -c sha256'
printf 'FROM $world_base\nRUN --mount=type=secret,id=token ls -A /run/secrets; echo later\n' >Dockerfile
try later docker build --no-cache --progress=plain .
printf 'FROM $world_base\nRUN --mount=type=secret,id=token,required=true true\n' >Dockerfile
try missing docker build .
try podman-env env T=abcdefgh docker build --secret id=token,env=T .
printf 'FROM $world_registry/base/ssh:12\nRUN --mount=type=ssh,required=true ssh-add -l; ls -A /run/secrets /root/.ssh || true\n' >Dockerfile
try key docker build --no-cache --progress=plain --ssh default=\$DEPLOY_KEY .
try no-key docker build --no-cache .
mkdir -p lib && echo of-the-folder >lib/file
printf 'FROM $world_registry/base/nosuch:1 AS one\nRUN cat /etc/debian_version\nCOPY --from=lib /file /f\nRUN cat /f\n' >Dockerfile
try contexts docker build --no-cache --progress=plain --build-context lib=lib --build-context $world_registry/base/nosuch:1=docker-image://$world_base .
try no-contexts docker build .
try outside docker build --build-context lib=/etc .
try stage docker build --build-context one=lib .
try refused-image docker build --build-context $world_registry/base/nosuch:1=docker-image://$world_registry/base/nosuch:2 --build-context lib=lib ." \
        '.variables += [{key: "DEPLOY_KEY", value: ($ENV.key + "\n"), file: true}]'
    rm "$CASE_DIR/watch"
    wait "$watcher"

    expect_eq "$STATE" success
    expect_step lent 0 "$(printf %s "$value" | sha256sum | cut -d' ' -f1)" "mode=400" "[MASKED]"
    expect_lacks "$TRACE" "$value"
    expect_eq "$(<"$CASE_DIR/seen")" "ran buildctl --secret" "what was seen of the value while the build ran"
    expect_eq "$(step_says inside | head -n 1)" 0 "the value in the saved image"
    expect_step control 0
    expect_step later 0 later
    expect_lacks "$(step_says later)" /run/secrets/token
    expect_step missing 1 "secret token: not found"
    expect_step podman-env 0
    expect_step key 0 "$fingerprint"
    expect_lacks "$(step_says key)" "PRIVATE KEY"
    expect_step no-key 1
    expect_step contexts 0 of-the-folder
    expect_step no-contexts 1 "base/nosuch:1" "there is no image"
    expect_step outside 1 "is not below /builds"
    expect_step stage 1 "the named context one would take the place of a stage"
    expect_step refused-image 1 "Dockerfile:1" "there is no image"
    expect_eq "$(grep -rlF -- "$value" "$world_state_dir" "$env_runtime_dir" "$world_dir/log" 2>/dev/null || true)" "" "files with the value"
}

TEST "steps sign with the key of the job's SSH agent, which stays where it is" {
    local key fingerprint
    publish_image base/agent:12 debian '{}' ssh_files
    make_deploy_key
    # As GitLab's documentation loads a key.
    run_steps 3062 "eval \$(ssh-agent -s) >/dev/null
tr -d '\r' <\"\$DEPLOY_KEY\" | ssh-add -q -
cat >Dockerfile <<'END'
FROM $world_registry/base/agent:12
RUN --mount=type=ssh,required=true ssh-add -l && ssh-add -L >/key.pub && echo text >/text && ssh-keygen -q -Y sign -n slipway -f /key.pub /text
RUN --mount=type=ssh ssh-add -D && echo RE''MOVED; ls -A /root/.ssh /run/secrets; true
RUN (echo 'me '; cat /key.pub) | tr -d '\\n' >/signers && ssh-keygen -Y verify -n slipway -I me -f /signers -s /text.sig </text
RUN test -S \"\$SSH_AUTH_SOCK\" && echo STA''YED; true
END
try sign docker build --no-cache --progress=plain --ssh default -t signed:1 .
printf 'FROM $world_registry/base/agent:12\nRUN --mount=type=ssh,id=deploy,required=true ssh-add -l\n' >two.Dockerfile
try beside sh -c 'docker build --no-cache --progress=plain -f two.Dockerfile --ssh deploy=\$SSH_AUTH_SOCK . & one=\$!; docker buildx build --no-cache --progress=plain -f two.Dockerfile --ssh deploy . && wait \$one'
try other-id docker build --no-cache -f two.Dockerfile --ssh default .
try kept ssh-add -l
kill \$SSH_AGENT_PID
while kill -0 \$SSH_AGENT_PID 2>/dev/null; do sleep 0.1; done
try dead docker build --ssh default=\$SSH_AUTH_SOCK .
try none env -u SSH_AUTH_SOCK docker build --ssh default ." \
        ".image.name = \"$world_registry/base/agent:12\" | "'.variables += [{key: "DEPLOY_KEY", value: ($ENV.key + "\n"), file: true}]'

    expect_eq "$STATE" success
    expect_step sign 0 "$fingerprint" 'Good "slipway" signature for me'
    for words in REMOVED STAYED "PRIVATE KEY"; do expect_lacks "$(step_says sign)" "$words"; done
    expect_step beside 0
    expect_eq "$(step_says beside | grep -cF "$fingerprint")" 2 "builds that used the agent at the same time"
    expect_step other-id 1
    expect_step kept 0 "$fingerprint"
    expect_step dead 1 "failed to stat"
    expect_step none 125 "invalid empty ssh agent socket"
}

# anywhere WORDS: a process with these words in its command line runs somewhere on this machine. The list of processes is
# made first: what looks is not in it.
anywhere() {
    local files=(/proc/[0-9]*/cmdline)
    grep -qsF -- "$1" "${files[@]}"
}
gone_everywhere() { ! anywhere "$1"; }

# What is planted on purpose, a process and its two sockets, is found, and nothing else.
TEST "a build's steps find no socket, no credential and no way to the registry" {
    run_steps 3007 "cat >Dockerfile <<'END'
FROM $world_base
RUN set +e; perl -MIO::Socket::UNIX -e '@kept = map { IO::Socket::UNIX->new(Local => \$_, Listen => 1) or die } qw(/tmp/planted), chr(0) . q(planted-too); sleep 60' & \\
    for i in \$(seq 100); do [ -S /tmp/planted ] && grep -q @planted-too /proc/net/unix && break; sleep 0.1; done; \\
    id; echo sockets; find / -type s -not -path '/proc/*' 2>/dev/null; cat /proc/net/unix | grep @; ls -la /run /var/run/docker.sock /out /bases 2>&1; \\
    echo environment; env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; cat /proc/*/cmdline | tr '\\0' ' '; echo processes; cat /proc/[0-9]*/comm; \\
    echo registry; (timeout 5 bash -c 'exec 3<>/dev/tcp/${world_registry%:*}/${world_registry#*:}') 2>/dev/null && echo REACH''ED-IT; \\
    echo daemon; grep -rslI only-slipway-knows-this / --include=* --exclude-dir=proc --exclude-dir=sys 2>/dev/null; \\
    echo mounts; cat /proc/self/mountinfo; grep ^Cap /proc/self/status; \\
    mount -t tmpfs none /mnt 2>&1; mknod /dev/sdz b 8 0 2>&1; dd if=/dev/sdz of=/dev/null count=1 2>&1; unshare -rm true 2>&1; chroot /proc/1/root true 2>&1; rm /tmp/planted
END
try search docker build --progress=plain --no-cache .
mkdir /builds/grp/app/w && cd /builds/grp/app/w && printf 'FROM $world_base\nRUN --mount=type=bind,source=/,target=/all,from=$world_registry/grp/other:1 ls /all\n' >Dockerfile
try mount docker build .
printf 'FROM $world_base\nRUN --security=insecure true\n' >Dockerfile
try insecure docker build .
printf 'FROM $world_base\nRUN --network=host true\n' >Dockerfile
try network docker build .
printf 'FROM $world_base\nRUN --mount=type=ssh,required=true true\n' >Dockerfile
try ssh docker build .
printf 'FROM $world_base\nRUN --mount=type=secret,id=any,required=true cat /run/secrets/any\n' >Dockerfile
try secret docker build .
printf 'FROM $world_base\nADD https://$env_address:$env_token_port/healthz /x\n' >Dockerfile
try add docker build ."

    expect_eq "$STATE" success
    said=$(step_says search)
    expect_step search 0 "processes" "mounts" "mount: /mnt: permission denied" "mknod: /dev/sdz: Operation not permitted"
    sockets=$(sed -n '/ sockets$/,/ environment$/p' <<<"$said" | grep -vE ' (sockets|environment)$|No such file|total|^#[0-9]+ [0-9.]+ (d|/run:)' || true)
    # Of BuildKit's own, for traces; it answers nothing.
    expect_eq "$(grep -vF otel-grpc.sock <<<"$sockets" | awk '{ print $NF }' | sort | xargs)" "/tmp/planted @planted-too" "sockets within reach"
    expect_eq "$(sed -n '/ processes$/,/ registry$/p' <<<"$said" | grep -vE ' (processes|registry)$' | awk '{ print $NF }' | sort | xargs)" \
        "perl sh" "processes in sight"
    expect_lacks "$said" REACHED-IT
    expect_lacks "$said" glcbt-job-token
    expect_lacks "$said" "CI_JOB_TOKEN="
    expect_lacks "$said" "uid=0(root) gid=0(root) groups=0(root),"
    expect_lacks "$said" "records in"
    expect_step mount 1 "Dockerfile:2" "there is no image"
    expect_step insecure 1 "Dockerfile:2: RUN --security=insecure: slipway gives a privileged step to no build"
    expect_step network 1 "Dockerfile:2: RUN --network=host: slipway gives the host's network for a step to no build"
    expect_step ssh 1
    expect_step secret 1 "secret any: not found"
    expect_step add 1 "connection refused"
    expect_lacks "$(step_says add)" "the builder did not answer"
}

TEST "a backend that policy forbids does not build, and the job and the audit log have the reason" {
    printf '[[rule]]\nproject = "grp/app"\nban_backends = ["buildkit", "buildah", "podman"]\n' >"$world_dir/etc/policy.d/10-router.toml"
    trap 'rm -f "$world_dir/etc/policy.d/10-router.toml"' EXIT
    run_steps 3015 "printf 'FROM $world_busybox\n' >Dockerfile
try forbidden docker build -t x:1 .
printf 'FROM $world_busybox\nRUN --security=insecure true\n' >Dockerfile
try privileged docker build -t x:1 ."

    expect_step forbidden 1 "10-router.toml:1" "wants this built by kaniko" "not set up for it"
    expect_step privileged 1 "Dockerfile:2: RUN --security=insecure: slipway gives a privileged step to no build"
    expect_contains "$(grep build_denied "$world_state_dir/audit.jsonl")" "Dockerfile:2: RUN --security=insecure"
}

# saving ID STEPS: in a job of kept/app, for which a rule says save = false.
saving() {
    printf '[[rule]]\nproject = "kept/*"\nsave = false\n' >"$world_dir/etc/policy.d/10-kept.toml"
    run_steps "$1" "$2" '.job_info.project_full_path = "kept/app" | .job_info.project_id = 44'
}

TEST "where a rule says save = false no image leaves the job as an archive; control: without it, it does" {
    trap 'rm -f "$world_dir/etc/policy.d/10-kept.toml"' EXIT
    local steps="printf 'FROM $world_base\nRUN echo 3017 >/number\n' >Dockerfile
try build docker build -q -t kept:1 .
try save docker save -o kept.tar kept:1
piped() { docker save kept:1 | wc -c; }
try piped piped
try oci docker buildx build -o type=oci,dest=oci.tar .
try archives sh -c 'find . -name \"*.tar\" -size +0 | wc -l'
try inspect docker inspect kept:1"

    saving 3017 "$steps"
    expect_step build 0
    expect_step save 1 "policy does not let project 'kept/app' take images out as files (save = false in rule" "10-kept.toml:1"
    expect_contains "$(step_says save)" "save = true in the rule"
    expect_eq "$(step_says piped | xargs | awk '{ print $NF }')" 0
    expect_step oci 1 "save = false in rule"
    expect_eq "$(step_says archives)" 0 "archives"
    expect_step inspect 0

    run_steps 3018 "$steps"
    expect_step save 0
    expect_step oci 0
    expect_eq "$(step_says archives)" 2 "archives"
}

TEST "where a rule says save = false no file leaves a build; control: without it, it does" {
    trap 'rm -f "$world_dir/etc/policy.d/10-kept.toml"' EXIT
    local steps="printf 'FROM $world_base AS made\nRUN echo 3019 >/number\nFROM scratch\nCOPY --from=made /number /\n' >Dockerfile
try folder docker build -o out .
try tar docker build -o type=tar,dest=out.tar .
piped() { docker build -q -o - . | wc -c; }
try piped piped
try left sh -c 'ls out/number 2>/dev/null; find . -name \"*.tar\" -size +0; echo that is all'"

    saving 3019 "$steps"
    expect_step folder 1 "policy does not let project 'kept/app' take images out as files (save = false in rule" "10-kept.toml:1"
    expect_step tar 1 "save = false in rule"
    expect_eq "$(step_says piped | xargs | awk '{ print $NF }')" 0
    expect_eq "$(step_says left)" "that is all"

    run_steps 3020 "$steps"
    expect_step folder 0
    expect_step tar 0
    expect_eq "$(step_says left | head -n 1)" out/number
}

TEST "two builds at once in one job do not disturb each other" {
    run_steps 3008 "mkdir a b && printf 'FROM $world_busybox\nCOPY f /f\nRUN cat /f; sleep 2\n' | tee a/Dockerfile >b/Dockerfile
echo this-is-a \$RANDOM >a/f; echo this-is-b \$RANDOM >b/f
docker build -t a:1 a >a.log 2>&1 & one=\$!
docker build -t b:1 b >b.log 2>&1 & two=\$!
try a wait \$one
try b wait \$two
try a-says cat a.log
try b-says cat b.log
try images docker images --format '{{.Repository}}'"

    expect_eq "$STATE" success
    expect_step a 0
    expect_step b 0
    expect_contains "$(step_says a-says)" this-is-a
    expect_contains "$(step_says b-says)" this-is-b
    expect_lacks "$(step_says a-says)" this-is-b
    expect_eq "$(step_says images | sort | xargs)" "a b"
}

# stubborn_build ID MARK JQ: a job whose build has a step that ignores signals; its processes have MARK on their command lines.
stubborn_build() {
    run_script "$1" "printf 'FROM $world_busybox\nRUN trap \"\" TERM HUP INT; echo now-it-runs; sleep ${2}1 & sleep ${2}2; sleep ${2}3\n' >Dockerfile
docker build ." "$3" || true
    expect_contains "$TRACE" now-it-runs
    [[ $STATE != success ]]
    until_true 30 gone_everywhere "$2"
    # The builder is fit for the next job.
    run_script $(($1 + 1)) "printf 'FROM $world_busybox\nRUN echo next-job-builds\n' >Dockerfile
docker build ."
    expect_eq "$STATE" success
}

TEST "cancelling the job ends its build in the daemon too, even a step that ignores SIGTERM" {
    stubborn_build 3009 "7$BASHPID" '._signal = {"after": "[0-9] now-it-runs", "status": "canceling"}'
}

TEST "a run that is killed in the midst of a build takes the build with it" {
    local mark=7$BASHPID killer
    (
        trap - ERR
        # The step itself: the tools that hand the job over have its script on their command lines.
        until_true 60 pgrep -f -x "sleep ${mark}2" >/dev/null
        # Not every one that matches: the first to die takes its children with it.
        pkill -9 -f -- "--config $world_config gitlab run"
    ) &
    killer=$!
    stubborn_build 3014 "$mark" .
    wait "$killer"
}

TEST "a build that fills the disk is ended at the floor, with words for both sides" {
    local free floor mark=/big-$BASHPID
    free=$(df --output=avail -B1 "$world_state_dir" | tail -n 1)
    floor=$(((free - (400 << 20)) >> 20))
    sed "s/^\[sandbox\]/&\ndisk_floor = \"${floor}MiB\"/; \$a [sandbox]\ndisk_floor = \"${floor}MiB\"" "$world_config" >"$CASE_DIR/config.toml"
    world_config=$world_dir/etc/floor.toml
    cp "$CASE_DIR/config.toml" "$world_config"
    run_script 3013 "printf 'FROM $world_base\nRUN for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=$mark-\$i bs=1M count=500 status=none && sleep 1; done\n' >Dockerfile
docker build ." || true

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "the script was ended: less than $floor MiB of disk are left on this runner"
    until_true 30 gone_everywhere "$mark"
}

TEST "hostile archives are refused by docker load, and layers that climb out stay where they are" {
    mkdir -p "$CASE_DIR/tars"
    python3 "$SUITE_ROOT/tests/lib/hostile_archives.py" "$CASE_DIR/tars"
    archives=$(tar -C "$CASE_DIR/tars" -czf - . | base64 -w 0)
    run_steps 3011 "base64 -d <<<'$archives' | tar -xzf -
for file in *.tar; do try load-\$file docker load -i \$file; done
try images docker images --format '{{.Repository}}'
printf 'FROM $world_busybox\nCOPY --from=traversal:1 / /all\nRUN find / -xdev -name slipway-escaped\n' >Dockerfile
try copy docker build --no-cache .
printf 'FROM traversal:1\nLABEL a=b\n' >two
try files docker build -f two -o out .
for name in traversal wrong; do docker tag \$name:1 $world_registry/grp/app/\$name:1; try push-\$name docker push $world_registry/grp/app/\$name:1; done"

    expect_eq "$STATE" success
    for file in "$CASE_DIR"/tars/*.tar; do
        name=$(basename "$file" .tar)
        case $name in
        traversal | wrong-layer) expect_step "load-$name.tar" 0 Loaded ;;
        *) expect_step "load-$name.tar" 1 "loading the archive" ;;
        esac
    done
    expect_eq "$(step_says images | sort | xargs)" "traversal wrong" "images after all the loads"
    expect_eq "$(find / -xdev -name slipway-escaped -not -path '*/containers/storage/*' 2>/dev/null)" "" "files that escaped"
    expect_step copy 1 "Dockerfile:2"
    expect_step files 1 "leads out of the image"
    expect_step push-traversal 1 no_os
    expect_step push-wrong 1 diff_id_false
    for name in traversal wrong; do expect_absent "grp/app/$name:1"; done
}

TEST "hostile contexts that come as tars are refused, or stay where they are" {
    mkdir "$CASE_DIR/tars"
    echo "FROM text-of-the-host" >"$CASE_DIR/of-the-host"
    python3 "$SUITE_ROOT/tests/lib/hostile_contexts.py" "$CASE_DIR/tars" "$world_busybox"
    archives=$(tar -C "$CASE_DIR/tars" -czf - . | base64 -w 0)
    run_steps 3013 "base64 -d <<<'$archives' | tar -C /tmp -xzf -
one() { docker build --progress=plain --no-cache - </tmp/\$1.tar; }
for file in /tmp/*.tar; do name=\$(basename \$file .tar); try \$name one \$name; done
try escaped find / -xdev -name 'slipway-escaped'
try after one fifo"

    expect_eq "$STATE" success
    # What tar cannot put below the context ends the build, named.
    expect_step device 1 "unpacking the build context" "disk: Cannot mknod"
    expect_step dot-dot 1 "unpacking the build context" "../slipway-escaped: Member name contains '..'"
    for name in hard-link hard-link-up; do expect_step "$name" 1 "unpacking the build context" "taken: Cannot hard link"; done
    expect_step through-link 1 "unpacking the build context" "way/slipway-escaped: Cannot open"
    expect_step too-long-name 1 "unpacking the build context" "File name too long"
    expect_step linked-dockerfile 1 "Dockerfile"
    expect_lacks "$TRACE" text-of-the-host
    # The rest is in the context, and nowhere else.
    expect_step absolute 0 /all/tmp/slipway-escaped /all/builds/slipway-escaped
    expect_step fifo 0 " /all/pipe" " /all/after"
    expect_step long-name 0 " /all/nnnnnnnn" dddd/file
    expect_step odd-names 0 " /all/-rf" " /all/new?line"
    expect_eq "$(step_says escaped)" "" "files that escaped in the job"
    expect_eq "$(find / -xdev -name slipway-escaped -not -path '*/containers/storage/*' -not -path '*/state/*' 2>/dev/null)" "" "files that escaped"
    expect_step after 0 "Successfully built"
}

# Last: until its limits can be told per sandbox (a pids controller), it starves its builder for a while.
TEST "a step that forks without end fails alone: the builder builds on" {
    # With few processes: thousands that fork and end keep two cores busy for minutes before one meets the limit.
    with_sandbox 'pids = 400' run_steps 3012 "printf 'FROM $world_base\nRUN fork() { fork | fork & }; for i in 1 2 3 4 5 6 7 8; do fork; done; sleep 2; exit 5\n' >Dockerfile
bomb() { docker build . >bomb.log 2>&1 && return; tail -n 2 bomb.log; return 1; }
try bomb bomb
printf 'FROM $world_base\nRUN echo fit-again; ls -d /proc/[0-9]* | wc -l\n' >Dockerfile
try after docker build --no-cache ."

    expect_eq "$STATE" success
    # Who meets the limit first, the step or the tools that watch it, decides what is said.
    expect_step bomb 1
    expect_step after 0 fit-again
}
