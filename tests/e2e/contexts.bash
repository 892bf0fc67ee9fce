# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Builds whose context is no folder of the job: repositories, archives and single files behind an address, fetched by the
# programs of the job's image, or by the host's in a sandbox of the job's.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ -x /usr/lib/git-core/git-daemon ]] || echo "needs git"
    { command -v curl && command -v wget; } >/dev/null || echo "needs curl and wget"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_image base/git:12 debian '{}' fetching_files
    publish_image base/plain:12 debian '{}' tools_alone
    publish_image base/wget:12 debian '{}' both_wgets
    publish_image base/kaniko:2 debian '{"Entrypoint": ["/kaniko/executor"]}' kaniko_with_git
    publish_image base/kaniko:3 debian '{"Entrypoint": ["/kaniko/executor"]}' kaniko_alone
    without_git=".image.name = \"$world_registry/base/plain:12\""
    kaniko_without_git=".image = {name: \"$world_registry/base/kaniko:3\", entrypoint: [\"\"]} | .variables += [{key: \"PATH\", value: \"/kaniko:/usr/local/bin:/usr/bin:/bin\"}]"
    with_git=".image.name = \"$world_registry/base/git:12\""
    web_port=5491 git_port=5492 other_port=5493 token_port=5494 tls_port=5495
    make_repositories
    web=http://$env_gitlab_address:$web_port
    env_serve_address=$env_gitlab_address env_serve web "$web_port" python3 "$env_lib/git_server.py" \
        --listen "$env_gitlab_address:$web_port" --root "$SUITE_DIR/www" --login "ci:not-for-logs-7"
    env_serve_address=$env_gitlab_address env_serve other "$other_port" python3 "$env_lib/git_server.py" \
        --listen "$env_gitlab_address:$other_port" --root "$SUITE_DIR/www" --login "ci:not-for-logs-7"
    env_serve_address=$env_gitlab_address env_serve token "$token_port" python3 "$env_lib/git_server.py" \
        --listen "$env_gitlab_address:$token_port" --root "$SUITE_DIR/www" --login "x-access-token:not-for-logs-7"
    make_cert web "IP:$env_gitlab_address"
    cp "$env_tls/ca.pem" "$SUITE_DIR/www/"
    env_serve_address=$env_gitlab_address env_serve tls "$tls_port" python3 "$env_lib/git_server.py" \
        --listen "$env_gitlab_address:$tls_port" --root "$SUITE_DIR/www" --cert "$env_tls/web.pem" --key "$env_tls/web-key.pem"
    env_serve_address=$env_gitlab_address env_serve git-daemon "$git_port" /usr/lib/git-core/git-daemon --export-all --reuseaddr \
        --base-path="$SUITE_DIR/www" --listen="$env_gitlab_address" --port="$git_port" "$SUITE_DIR/www"
}

SUITE_TEARDOWN() {
    world_stop
}

git_files() {
    local file
    with_program /usr/bin/git
    with_program /usr/lib/git-core/git-remote-http
    with_program /usr/lib/git-core/git-http-fetch
    ln -s git-remote-http usr/lib/git-core/git-remote-https
    ln -s ../../bin/git usr/lib/git-core/git
    ln -s git usr/bin/git-upload-pack
    for file in git-submodule git-sh-setup git-sh-i18n; do cp "/usr/lib/git-core/$file" usr/lib/git-core/; done
    with_program /usr/lib/git-core/git-sh-i18n--envsubst
}

fetching_files() {
    git_files
    with_program "$(command -v curl)"
    tools_alone
}

tools_alone() {
    local tool
    for tool in podman buildah buildctl docker-compose; do
        install -D -m 0755 /dev/stdin "usr/bin/$tool" <<<'#!/bin/sh
exit 99'
    done
}

both_wgets() {
    with_program "$(command -v wget)"
    install -D -m 0755 /bin/busybox opt/busybox/busybox
    ln -s busybox opt/busybox/wget
}

kaniko_with_git() {
    git_files
    with_program "$(command -v curl)"
    kaniko_alone
}

kaniko_alone() {
    install -D -m 0755 /dev/stdin kaniko/executor <<<'#!/bin/sh
exit 99'
}

# commit WORD: all that is there, with WORD in the file that images show.
commit() {
    echo "$1" >word
    git add -A
    git commit --quiet --message "$1"
}

make_repositories() {
    (
        export HOME=$SUITE_DIR GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@slipway.test
        export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@slipway.test GIT_ALLOW_PROTOCOL=file
        mkdir -p "$SUITE_DIR/www/private"
        git init --quiet --initial-branch=main "$SUITE_DIR/lib"
        cd "$SUITE_DIR/lib"
        commit of-the-submodule
        git init --quiet --initial-branch=main "$SUITE_DIR/work"
        cd "$SUITE_DIR/work"
        printf 'FROM %s\nCOPY . /all\n' "$tiny" >Dockerfile
        printf 'FROM %s\nCOPY . /all\nCOPY word /by-other\n' "$tiny" >Other
        mkdir sub
        printf 'FROM %s\nCOPY . /all\n' "$tiny" >sub/Dockerfile
        echo in-sub >sub/word
        commit first
        git tag v1
        git rev-parse HEAD >"$SUITE_DIR/first"
        commit pulled
        git update-ref refs/pull/42/head HEAD
        git checkout --quiet -b feature/x
        commit on-the-branch
        git checkout --quiet main
        # What a repository might send a job.
        ln -s /builds/elsewhere leaves
        ln -s /builds/elsewhere/Dockerfile Linked
        git -c protocol.file.allow=always submodule --quiet add "$SUITE_DIR/lib" lib
        git config --file .gitmodules submodule.lib.url ../lib.git
        commit on-main
        git tag both v1
        git branch both
        # What leads elsewhere, each on a branch of its own: ignore files, and submodules that are no server's.
        local name
        for name in .dockerignore Dockerfile.dockerignore; do
            git checkout --quiet -b "link$name" main
            ln -s /builds/elsewhere/ignore "$name"
            commit "$name"
        done
        for name in "local=/builds/own.git" "ext=ext::sh -c touch% /builds/ran" "elsewhere=http://$env_gitlab_address:5493/private/lib.git" \
            "slow=../slow/lib.git" "probe=ext::sh /builds/probe"; do
            git checkout --quiet -b "${name%%=*}" main
            git config --file .gitmodules submodule.lib.url "${name#*=}"
            commit "${name%%=*}"
        done
        git checkout --quiet main
        git clone --quiet --bare "$SUITE_DIR/lib" "$SUITE_DIR/www/lib.git"
        git clone --quiet --mirror . "$SUITE_DIR/www/app.git"
        for repository in lib app; do git -C "$SUITE_DIR/www/$repository.git" update-server-info; done
        cp -r "$SUITE_DIR/www/app.git" "$SUITE_DIR/www/lib.git" "$SUITE_DIR/www/private/"
        git archive --format=tar.gz --output="$SUITE_DIR/www/context.tar.gz" v1
        git archive --format=tar v1 | xz >"$SUITE_DIR/www/context.tar.xz"
        cp "$SUITE_DIR/www/context.tar.gz" "$SUITE_DIR/www/private/"
        mkdir "$SUITE_DIR/contained"
        printf 'FROM %s\nCOPY . /all\nCOPY word /by-containerfile\n' "$tiny" >"$SUITE_DIR/contained/Containerfile"
        echo contained >"$SUITE_DIR/contained/word"
        echo left-out >"$SUITE_DIR/contained/left-out"
        echo left-out >"$SUITE_DIR/contained/.containerignore"
        tar -C "$SUITE_DIR/contained" -czf "$SUITE_DIR/www/contained.tar.gz" .
        printf 'FROM %s\nRUN printf from-a-single-file >/word\n' "$tiny" >"$SUITE_DIR/www/Single"
        echo 'no Dockerfile' >"$SUITE_DIR/www/nonsense"
    )
    first=$(<"$SUITE_DIR/first")
    chmod -R a+rX "$SUITE_DIR/www"
}

# How an image is looked at: its files come into the folder `out`.
show='files() { rm -rf out; local build=$1 context=$2; shift 2; $build -q -o out "$@" "$context" && cat out/all/word && ls -A out out/all; }'

TEST "docker builds from repositories: a branch, a tag, a commit, a pull request, a folder, submodules" {
    run_steps 9001 "$show
try main files 'docker build' $web/app.git
try submodule cat out/all/lib/word
try said docker build $web/app.git
try daemon files 'docker buildx build' git://$env_gitlab_address:$git_port/app.git
try branch files 'docker build' $web/app.git#feature/x
try tag files 'docker build' '$web/app.git?tag=v1'
try commit files 'docker build' $web/app.git#$first
try short files 'docker build' $web/app.git#${first:0:10}
try pull files 'docker build' git://$env_gitlab_address:$git_port/app.git#pull/42/head
try folder files 'docker build' $web/app.git#main:sub
try query files 'docker build' '$web/app.git?branch=main&subdir=sub&checksum=${first:0:7}'
try checked files 'docker build' '$web/app.git?tag=v1&subdir=sub&commit=$first'
try file files 'docker build' $web/app.git#v1 -f Other
try stdin sh -c 'printf \"FROM $tiny\nCOPY word /all/other\n\" | docker build -q -o out -f - $web/app.git#v1 && cat out/all/other'
try keeps files 'docker build' $web/app.git#v1 --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1
try no-submodules files 'docker build' '$web/app.git?submodules=false'
try no-submodule cat out/all/lib/word
printf 'FROM $tiny\nCOPY word /by-own\n' >/builds/Own
try absolute sh -c 'docker build -q -o out -f /builds/Own $web/app.git#v1 && cat out/by-own'
try no-ref docker build $web/app.git#nosuch
try no-folder docker build $web/app.git#main:nosuch
try no-file docker build -f nosuch $web/app.git
try no-repository docker build $web/nosuch.git
try secret sh -c 'printf \"FROM $tiny\nRUN --mount=type=secret,id=a head -1 /run/secrets/a >/said\n\" >D; echo lent-to-it >s; docker build -q -o out -f - --secret id=a,src=s $web/app.git <D && cat out/said'
try left ls -d /builds/.slipway-context-*" "$with_git"

    expect_eq "$STATE" success
    expect_step main 0 on-main Dockerfile
    expect_lacks "$(step_says main)" by-other
    expect_step submodule 0 of-the-submodule
    expect_step said 0 "building from $web/app.git, commit $(git -C "$SUITE_DIR/work" rev-parse main)"
    expect_lacks "$(step_says main)" .git$'\n'
    expect_step daemon 0 on-main
    expect_step branch 0 on-the-branch
    expect_step tag 0 first
    expect_step commit 0 first
    expect_step short 0 first
    expect_step pull 0 pulled
    expect_step folder 0 in-sub
    expect_step query 1 "${first:0:7} was asked for"
    expect_step checked 0 in-sub
    expect_step file 0 first by-other
    expect_step stdin 0 first
    expect_step absolute 0 first
    expect_step keeps 0 first .git
    expect_step no-submodules 0 on-main
    expect_step no-submodule 1
    expect_step no-ref 1 "nosuch"
    expect_step no-folder 1 "no folder nosuch"
    expect_step no-file 1 "nosuch"
    expect_step no-repository 1 "nosuch.git"
    expect_step secret 0 lent-to-it
    expect_step left 2 # nothing stays
}

TEST "a submodule that is named relative to its repository is there" {
    run_steps 9002 "printf 'FROM $tiny\nCOPY lib/word /word\n' >D
try with sh -c 'docker build -q -o out -f - $web/app.git <D && cat out/word'
try without sh -c 'docker build -f - \"$web/app.git?submodules=0\" <D'" "$with_git"

    expect_step with 0 of-the-submodule
    expect_step without 1 word
}

TEST "archives and single Dockerfiles by http, and files of another place with -f" {
    run_steps 9003 "$show
try gzip files 'docker build' $web/context.tar.gz
try xz files 'docker build' $web/context.tar.xz -f Other
try single sh -c 'docker build -q -o out $web/Single && cat out/word'
try named sh -c 'printf \"FROM $tiny\nCOPY --from=repo word /one\nCOPY --from=file Single /two\n\" >D; docker build -q -o out -f D --build-context repo=$web/app.git#v1 --build-context file=$web/Single . && cat out/one out/two'
try elsewhere sh -c 'docker build -q -o out -f $web/Single . && cat out/word'
try nonsense docker build $web/nonsense
try missing docker build $web/nosuch.tar.gz
try import sh -c 'docker import $web/context.tar.gz own/imported && printf \"FROM own/imported\n\" | docker build -q -o out2 - && cat out2/word'
try no-import docker import $web/nosuch.tar.gz own/imported:2
try elsewhere-tar docker build -f - $web/context.tar.gz
try data sh -c 'printf \"FROM $tiny\nCOPY context /got\n\" | docker build -q -o out -f - $web/nonsense && cat out/got'
try data-web sh -c 'docker build -q -o out -f $web/Single $web/nonsense && cat out/word'
try left ls -d /builds/.slipway-context-*" "$with_git"

    expect_eq "$STATE" success
    expect_step gzip 0 first
    expect_step xz 0 first by-other
    expect_step single 0 from-a-single-file
    expect_step named 0 first "RUN printf"
    expect_step elsewhere 0 from-a-single-file
    expect_step nonsense 1 "unknown instruction"
    expect_step missing 1 404
    expect_step import 0 first
    expect_step no-import 1 404
    expect_step elsewhere-tar 1 "unpack it in the job"
    expect_step data 0 "no Dockerfile"
    expect_step data-web 0 from-a-single-file
    expect_step left 2
}

TEST "podman, buildah, buildctl, bake and Compose build from addresses in their own words" {
    run_steps 9004 "$show
try podman files 'podman build' $web/app.git#feature/x
try buildah files 'buildah bud' $web/app.git#v1:sub
try no-submodule sh -c 'podman build -q -o out $web/app.git && ls -A out/all/lib'
try tar files 'podman build' $web/context.tar.gz
try contained files 'podman build' $web/contained.tar.gz
printf 'FROM $tiny\nCOPY . /all\nCOPY word /by-own\n' | tee Own >Containerfile
try own files 'buildah build -f Own' $web/contained.tar.gz
try same-name files 'podman build -f Containerfile' $web/contained.tar.gz
try no-name podman build -f nosuch $web/contained.tar.gz
printf 'FROM $tiny\nCOPY --from=x word /word\n' >D
try named sh -c 'podman build -q -o out -f D --build-context x=$web/contained.tar.gz . && cat out/word'
try file sh -c 'podman build -q -o out -f $web/Single . && cat out/word'
try buildctl sh -c 'buildctl build --frontend dockerfile.v0 --opt context=$web/app.git#v1 --opt filename=Other --output type=local,dest=out2 && cat out2/all/word && ls out2'
cat >docker-bake.hcl <<'HCL'
target \"default\" {
  context = \"$web/app.git#v1:sub\"
  dockerfile = \"Dockerfile\"
  contexts = { more = \"$web/app.git#feature/x\" }
  output = [\"out3\"]
}
HCL
try bake sh -c 'docker buildx bake && cat out3/all/word'
printf 'services:\n  a: {image: own/a, build: $web/app.git#v1}\n  b: {image: own/b, build: {context: \"$web/app.git#feature/x\", dockerfile: Other}}\n' >compose.yaml
try compose docker compose build
printf 'FROM own/b\nCOPY --from=own/a /all/word /other\n' >D
try composed sh -c 'docker build -q -o out4 -f D . && cat out4/all/word out4/other && ls out4'
try left ls -d /builds/.slipway-context-*" "$with_git"

    expect_eq "$STATE" success
    expect_step podman 0 on-the-branch .git
    expect_step buildah 0 in-sub
    expect_step no-submodule 0
    expect_lacks "$(step_says no-submodule)" word
    expect_step tar 0 first
    expect_step contained 0 contained by-containerfile
    expect_lacks "$(step_says contained)" left-out
    expect_step own 0 contained by-own
    expect_step same-name 0 contained by-own
    expect_step no-name 125 nosuch
    expect_step named 0 contained
    expect_step file 0 from-a-single-file
    expect_step buildctl 0 first by-other
    expect_step bake 0 in-sub
    expect_step compose 0 "service b"
    expect_step composed 0 on-the-branch first by-other
    expect_step left 2
}

TEST "kaniko's repositories, archives and logins" {
    run_steps 9005 "export GIT_PULL_METHOD=http
at=$env_gitlab_address:$web_port
try ref executor -c git://\$at/app.git#refs/heads/feature/x -d $world_registry/app/kaniko-git:1
try commit executor -c git://\$at/app.git#refs/heads/main#$first --context-sub-path sub --no-push --tar-path x.tar
try branch executor -c git://\$at/app.git --git branch=feature/x,single-branch=true --no-push
try whole executor -c git://\$at/app.git#$first --git branch=main --no-push
try both executor -c git://\$at/app.git --git branch=both --no-push
try tag executor -c git://\$at/app.git --git branch=v1 --no-push
try bad executor -c git://\$at/app.git --git depth=1 --no-push
try no-login executor -c git://\$at/private/app.git --no-push
export GIT_USERNAME=ci GIT_PASSWORD=not-for-logs-\$((3 + 4))
try login executor -c git://\$at/private/app.git#refs/tags/v1 --no-push
GIT_PASSWORD=wrong-for-logs-\$((3 + 4))
try wrong executor -c git://\$at/private/app.git --no-push
curl -s $web/context.tar.gz >context.tar.gz
try tar executor -c tar://context.tar.gz --no-push
try tar-stdin sh -c 'executor -c tar://stdin --no-push <context.tar.gz'
try bucket executor -c s3://bucket/x.tar.gz --no-push
curl -s $web/ca.pem >ca.pem
printf 'FROM $tiny\nCOPY word /word\n' >Dockerfile
try archive env CURL_CA_BUNDLE=\$PWD/ca.pem executor -c https://$env_gitlab_address:$tls_port/contained.tar.gz --no-push" \
        ".image = {name: \"$world_registry/base/kaniko:2\", entrypoint: [\"\"]} | .variables += [{key: \"PATH\", value: \"/kaniko:/usr/local/bin:/usr/bin:/bin\"}]"

    expect_eq "$STATE" success
    expect_step ref 0 "commit $(git -C "$SUITE_DIR/work" rev-parse feature/x)"
    expect_step whole 0 "commit $first"
    expect_step both 0 "commit $(git -C "$SUITE_DIR/work" rev-parse main)"
    expect_step tag 0 "commit $first"
    [[ -n $(world_registry_digest app/kaniko-git:1) ]]
    expect_step commit 0 "commit $first"
    expect_step branch 0 "commit $(git -C "$SUITE_DIR/work" rev-parse feature/x)"
    expect_step bad 1 "unknown key depth"
    expect_step no-login 1 "private/app.git"
    expect_step login 0 "commit $first"
    expect_step wrong 1 "private/app.git"
    expect_step tar 0
    expect_step tar-stdin 0
    expect_step bucket 1 "fetch it in the job"
    expect_step archive 0 # with the project's Dockerfile: the archive has none
    expect_lacks "$TRACE" for-logs-7
}

TEST "a login in an address is used, and is in no log and no layer" {
    run_steps 9006 "$show
word=not-for-logs-\$((3 + 4)); at=ci:\$word@$env_gitlab_address:$web_port
try login files 'docker build' http://\$at/private/app.git#v1 --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1
try kept sh -c \"cat out/all/.git/config; grep -r \$word out\"
try archive files 'docker build' http://\$at/private/context.tar.gz
try submodule sh -c \"printf 'FROM $tiny\nCOPY lib/word /word\n' | docker build -q -o out -f - http://\$at/private/app.git && cat out/word\"
try no-ref docker build http://\$at/private/app.git#nosuch
try wrong docker build http://ci:wrong-\$word@$env_gitlab_address:$web_port/private/app.git
try wrong-archive docker build http://ci:wrong-\$word@$env_gitlab_address:$web_port/private/context.tar.gz
try no-archive docker build \"http://\$at/nosuch.tar.gz?signature=\$word\"
try bad docker build \"http://\$at/private/app.git?depth=\$word\"
try podman podman build --build-context a=http://\$at/private/nosuch.git .
try no-netrc docker build $web/private/context.tar.gz
echo machine $env_gitlab_address login ci password \$word >/builds/.netrc
try netrc env HOME=/builds sh -c 'docker build -q -o out $web/private/context.tar.gz && cat out/all/word'" "$with_git"

    expect_eq "$STATE" success
    expect_step login 0 first
    expect_step kept 1 "url = $web/private/app.git"
    expect_step archive 0 first
    expect_step submodule 0 of-the-submodule
    expect_step no-ref 1 nosuch
    expect_step wrong 1 "***@"
    expect_step wrong-archive 1 401
    expect_step no-archive 1 "?***"
    expect_step bad 125 "another part"
    expect_step podman 125
    expect_step no-netrc 1 401
    expect_step netrc 0 first
    expect_lacks "$TRACE" not-for-logs-7
    expect_lacks "$(cat "$world_state_dir/audit.jsonl")" not-for-logs-7
}

TEST "repositories and archives by https, where the job knows the certificate" {
    run_steps 9012 "$show
try unknown docker build https://$env_gitlab_address:$tls_port/app.git
curl -sf $web/ca.pem >ca.pem
export GIT_SSL_CAINFO=\$PWD/ca.pem CURL_CA_BUNDLE=\$PWD/ca.pem
try git files 'docker build' https://$env_gitlab_address:$tls_port/app.git#v1
try archive files 'docker build' https://$env_gitlab_address:$tls_port/context.tar.gz
try podman podman build -q -o out https://$env_gitlab_address:$tls_port/contained.tar.gz" "$with_git"

    expect_step unknown 1 "certificate"
    expect_step git 0 first
    expect_step archive 0 first
    expect_step podman 0
}

TEST "secrets that BuildKit fetches with are used for the context" {
    run_steps 9013 "$show
export GIT_AUTH_TOKEN=not-for-logs-\$((3 + 4)) GIT_AUTH_HEADER='Basic $(printf ci:not-for-logs-7 | base64)'
try none docker build http://$env_gitlab_address:$token_port/private/app.git#v1
try token files 'docker build --secret id=GIT_AUTH_TOKEN' http://$env_gitlab_address:$token_port/private/app.git#v1
try other docker build --secret id=GIT_AUTH_TOKEN.other,env=GIT_AUTH_TOKEN http://$env_gitlab_address:$token_port/private/app.git#v1
try header files 'docker build --secret id=GIT_AUTH_HEADER' $web/private/app.git#v1" "$with_git"

    expect_step none 1 "private/app.git"
    expect_step token 0 first
    expect_step other 1 "private/app.git"
    expect_step header 0 first
    expect_lacks "$TRACE" not-for-logs-7
}

TEST "attack: a repository's submodules are of no other kind, and get no other server's login; control: where the job says so" {
    run_steps 9014 "word=not-for-logs-\$((3 + 4)); at=ci:\$word@$env_gitlab_address:$web_port
git clone --quiet --bare $web/lib.git /builds/own.git
try local docker build $web/app.git#local
try control-local env GIT_ALLOW_PROTOCOL=http:file docker build $web/app.git#local
try ext docker build $web/app.git#ext
try not-ran test -e /builds/ran
try control-ext env GIT_ALLOW_PROTOCOL=http:ext docker build $web/app.git#ext
try ran test -e /builds/ran
try elsewhere docker build http://\$at/private/app.git#elsewhere
export HOME=/builds; git config --global credential.http://$env_gitlab_address:$other_port.helper '!f() { echo username=ci; echo password='\$word'; }; f'
try control-elsewhere docker build http://\$at/private/app.git#elsewhere
git config --global credential.helper '!f() { cat >>/builds/asked; }; f'
try helper docker build http://\$at/private/app.git#v1
try not-asked grep -q \$word /builds/asked
git clone --quiet http://\$at/private/app.git /builds/cloned
try control-asked grep -q \$word /builds/asked" "$with_git"

    expect_step local 1 "not allowed"
    expect_step control-local 0
    expect_step ext 1 "not allowed"
    expect_step not-ran 1
    expect_step control-ext 1
    expect_step ran 0
    expect_step elsewhere 1 "$other_port"
    expect_step control-elsewhere 0
    expect_step helper 0
    [[ $(grep -c '^>>not-asked [12]$' <<<"$TRACE") == 1 ]]
    expect_step control-asked 0
    expect_lacks "$TRACE" not-for-logs-7
}

TEST "attack: what a build that is killed was fetching goes on with its login; control: so does a clone of the job's" {
    # shellcheck disable=SC2016
    run_steps 9015 "word=not-for-logs-\$((3 + 4)); at=ci:\$word@$env_gitlab_address:$web_port"'
fetching() { local one; for one in /proc/[0-9]*/cmdline; do tr "\0" " " <"$one"; done 2>/dev/null | grep -q "remote-http.*slow/lib"; }
fetches_nothing() { ! fetching; }
waits() { local i; for ((i = 0; i < 300; i++)); do "$@" && return; sleep 0.1; done; return 1; }
docker build "http://$at/private/app.git#slow" >log 2>&1 & waits fetching || cat log; kill -KILL $!
try ended waits fetches_nothing
git -c "credential.helper=!f() { echo username=ci; echo password=$word; }; f" clone -q --recurse-submodules -b slow '"$web"'/private/app.git by-hand >log 2>&1 &
waits fetching || cat log; kill -KILL $!; sleep 2
try control fetching' "$with_git"

    expect_step ended 0
    expect_step control 0
}

TEST "attack: what a repository links to outside of itself is no context and no Dockerfile; control: it is in a clone of the job's" {
    run_steps 9007 "mkdir /builds/elsewhere; echo of-the-job >/builds/elsewhere/word; printf 'FROM $tiny\nCOPY word /word\nRUN echo built-by-it\n' >/builds/elsewhere/Dockerfile
try folder docker build $web/app.git#main:leaves
try file docker build -f Linked $web/app.git
try podman-file podman build -f Linked $web/app.git
echo nothing >/builds/elsewhere/ignore
try ignore docker build $web/app.git#link.dockerignore
try own-ignore docker build $web/app.git#linkDockerfile.dockerignore
try above docker build $web/app.git#main:../..
try file-above docker build -f ../../../elsewhere/Dockerfile $web/app.git
git clone -q $web/app.git /builds/own
try control-folder docker build /builds/own/leaves
try control-file docker build -f /builds/own/Linked /builds/own
git -C /builds/own checkout -q link.dockerignore
try control-ignore docker build /builds/own" "$with_git"

    expect_step folder 1 "leads out of the repository"
    expect_step file 1 "leads out of the context"
    expect_step podman-file 125 "leads out of the context"
    expect_step ignore 1 ".dockerignore leads out of the context"
    expect_step own-ignore 1 "Dockerfile.dockerignore leads out of the context"
    expect_step above 1 "out of the repository"
    expect_step file-above 1 "is not in the context"
    for name in folder file podman-file ignore own-ignore above file-above; do expect_lacks "$(step_says $name)" built-by-it; done
    expect_step control-folder 0 built-by-it
    expect_step control-file 0 built-by-it
    expect_step control-ignore 0
}

TEST "an image without git, curl and wget has the host's: kaniko's repositories, archives and logins" {
    run_steps 9016 "try none sh -c 'command -v git || command -v curl || command -v wget'
export GIT_PULL_METHOD=http
at=$env_gitlab_address:$web_port
try ref executor -c git://\$at/app.git#refs/heads/feature/x -d $world_registry/app/kaniko-lent:1
try commit executor -c git://\$at/app.git#refs/heads/main#$first --context-sub-path sub --no-push
printf 'FROM $tiny\nCOPY lib/word /word\n' >D
try submodule executor -c git://\$at/app.git --git branch=main,recurse-submodules=true --dockerfile D --no-push
try tag executor -c git://\$at/app.git --git branch=v1 --no-push
try no-ref executor -c git://\$at/app.git#refs/heads/nosuch --no-push
try no-login executor -c git://\$at/private/app.git --no-push
export GIT_USERNAME=ci GIT_PASSWORD=not-for-logs-\$((3 + 4))
try login executor -c git://\$at/private/app.git#refs/tags/v1 --no-push
GIT_PASSWORD=wrong-for-logs-\$((3 + 4))
try wrong executor -c git://\$at/private/app.git --no-push
unset GIT_PASSWORD
export HOME=/tmp/home; mkdir \$HOME
printf '[credential]\n\thelper = store\n' >\$HOME/.gitconfig
printf 'http://ci:not-for-logs-%s@$env_gitlab_address%%3a$web_port\n' 7 >\$HOME/.git-credentials
try stored env -u GIT_USERNAME executor -c git://\$at/private/app.git#refs/tags/v1 --no-push
printf 'FROM $tiny\nCOPY word /word\n' >Dockerfile
try unknown executor -c https://$env_gitlab_address:$tls_port/contained.tar.gz --no-push
mkdir -p /kaniko/ssl/certs; cat >/kaniko/ssl/certs/own.crt <<'END'
$(<"$SUITE_DIR/www/ca.pem")
END
try archive env SSL_CERT_DIR=/kaniko/ssl/certs executor -c https://$env_gitlab_address:$tls_port/contained.tar.gz --no-push
try tls env SSL_CERT_DIR=/kaniko/ssl/certs GIT_PULL_METHOD=https executor -c git://$env_gitlab_address:$tls_port/app.git#refs/tags/v1 --no-push
try left ls -d /builds/.slipway-context-*" "$kaniko_without_git"

    expect_eq "$STATE" success
    expect_step none 127
    expect_step ref 0 "commit $(git -C "$SUITE_DIR/work" rev-parse feature/x)"
    [[ -n $(world_registry_digest app/kaniko-lent:1) ]]
    expect_step commit 0 "commit $first"
    expect_step submodule 0 "commit $(git -C "$SUITE_DIR/work" rev-parse main)"
    expect_step tag 0 "commit $first"
    expect_step no-ref 1 nosuch
    expect_step no-login 1 "private/app.git"
    expect_step login 0 "commit $first"
    expect_step wrong 1 "private/app.git"
    expect_step stored 0 "commit $first"
    expect_step unknown 1 certificate
    expect_step archive 0
    expect_step tls 0 "commit $first"
    expect_step left 2
    expect_lacks "$TRACE" for-logs-7
    expect_lacks "$(cat "$world_state_dir/audit.jsonl")" for-logs-7
    expect_eq "$(grep -c '"fetch_start"' "$world_state_dir/audit.jsonl")" 1
    expect_eq "$(world_leftovers)" ""
}

TEST "docker and podman build from addresses in an image without git, curl and wget; the files are the job's user's" {
    run_steps 9017 "$show
try main files 'docker build' $web/app.git
try submodule cat out/all/lib/word
try daemon files 'docker buildx build' git://$env_gitlab_address:$git_port/app.git
try login files 'docker build' http://ci:not-for-logs-\$((3 + 4))@$env_gitlab_address:$web_port/private/app.git#main:sub
try archive files 'docker build' $web/context.tar.gz
try single sh -c 'docker build -q -o out $web/Single && cat out/word'
try podman files 'podman build' $web/contained.tar.gz
try named sh -c 'printf \"FROM $tiny\nCOPY --from=repo word /one\n\" >D; docker build -q -o out -f D --build-context repo=$web/app.git#v1 . && cat out/one'
try import sh -c 'docker import $web/context.tar.gz own/imported && printf \"FROM own/imported\n\" | docker build -q -o out2 - && cat out2/word'
try missing docker build $web/nosuch.tar.gz
try left ls -d /builds/.slipway-context-*" "$without_git"

    expect_eq "$STATE" success
    expect_step main 0 on-main Dockerfile
    expect_step submodule 0 of-the-submodule
    expect_step daemon 0 on-main
    expect_step login 0 in-sub
    expect_step archive 0 first
    expect_step single 0 from-a-single-file
    expect_step podman 0 contained by-containerfile
    expect_step named 0 first
    expect_step import 0 first
    expect_step missing 1 404
    expect_step left 2
    expect_lacks "$TRACE" not-for-logs-7

    run_steps 9018 "$show
cd /tmp; mkdir own; cd own
try user id -u
try git files 'docker build' $web/app.git
docker build --no-cache $web/app.git#slow >/tmp/log 2>&1 & waits=\$!
there() { compgen -G '/builds/.slipway-context-*' || compgen -G \"\$CI_PROJECT_DIR.tmp/.slipway-context-*\"; }
for i in \$(seq 300); do ! there >/dev/null || break; sleep 0.1; done
try there there
kill -KILL \$waits || cat /tmp/log
for i in \$(seq 300); do there >/dev/null || break; sleep 0.1; done
try gone there" \
        "$without_git | .image.executor_opts = {docker: {user: \"1000\"}}"
    expect_step user 0 1000
    expect_step git 0 on-main
    expect_step there 0 ".tmp/.slipway-context-"
    expect_step gone 1
}

TEST "the API's remote= is fetched for the job: a repository, an archive, a Dockerfile; and what is refused" {
    run_steps 9019 "build() { curl -sS --unix-socket /var/run/docker.sock -X POST -G --data-urlencode \"remote=\$1\" --data-urlencode \"t=\$2\" --data-urlencode \"dockerfile=\${3:-Dockerfile}\" http://d/v1.41/build; }
content() { printf \"FROM \$1\n\" | docker build -q -o out-\${1#own/} - >/dev/null && cat out-\${1#own/}/\$2; }
try repository build $web/app.git#v1 own/a
try its-files content own/a all/word
try other build $web/app.git#main:sub own/b
try of-the-folder content own/b all/word
try named build $web/app.git own/c Other
try of-other content own/c by-other
try archive build $web/context.tar.gz own/d
try of-archive content own/d all/word
try single build $web/Single own/e some/Name
try of-single content own/e word
try login build http://ci:not-for-logs-\$((3 + 4))@$env_gitlab_address:$web_port/private/app.git#v1 own/f
try of-login content own/f all/word
try wrong build http://ci:wrong-for-logs-\$((3 + 4))@$env_gitlab_address:$web_port/private/app.git#v1 own/g
try missing build $web/nosuch.tar.gz own/g
try no-ref build $web/app.git#nosuch own/g
try file build file:///builds/app.git own/g
try ssh build ssh://git@$env_gitlab_address/app.git own/g
try ext build 'ext::sh -c touch% /builds/ran' own/g
git clone --quiet --bare $web/lib.git /builds/own.git
try local build $web/app.git#local own/g
try folder build /builds own/g
try lines build \"$web/app.git
x\" own/g
try ran test -e /builds/ran
try none docker image inspect own/g" "$with_git"

    expect_eq "$STATE" success
    expect_step repository 0 "commit $first" "Successfully tagged own/a"
    expect_step its-files 0 first
    expect_step of-the-folder 0 in-sub
    expect_step of-other 0 on-main
    expect_step of-archive 0 first
    expect_step of-single 0 from-a-single-file
    expect_step of-login 0 first
    expect_step wrong 0 '"message"' "private/app.git"
    expect_step missing 0 404
    expect_step no-ref 0 nosuch
    expect_step file 0 "no address of a repository"
    expect_step ssh 0 "has no key for ssh"
    expect_step ext 0 "no address of a repository"
    expect_step local 0 "not allowed"
    expect_step folder 0 "no address of a repository"
    expect_step lines 0 "more than a line"
    expect_step ran 1
    expect_step none 1
    expect_lacks "$TRACE" for-logs-7
    expect_lacks "$(cat "$world_state_dir/audit.jsonl")" for-logs-7
}

# What runs beside a fetch, where the job lets it: who it is, and what it has.
probe='id -u; grep -E "^(CapEff|CapBnd|NoNewPrivs):" /proc/self/status; readlink /proc/self/ns/user /proc/self/ns/net; cat /proc/self/uid_map /etc/hosts /etc/resolv.conf'

TEST "attack: the host's git and curl reach no registry, and run nothing with rights that the job has not; controls: where each is allowed" {
    # shellcheck disable=SC2016
    reach='printf "{ %s\n} >/builds/probed; env >/builds/env; ls -a /var/run /run/slipway /cache >/builds/places 2>&1\n" '"'$probe;'"' >/builds/probe
mkdir -p /builds/own.git/objects /builds/own.git/refs; echo "ref: refs/heads/main" >/builds/own.git/HEAD
try registry docker build https://'"$world_registry"'/v2/context.tar.gz
try remote sh -c "printf \"POST /v1.41/build?remote=https://'"$world_registry"'/v2/x.tar HTTP/1.0\r\nHost: d\r\n\r\n\" | perl -MIO::Socket::UNIX -e '"'"'\$s = IO::Socket::UNIX->new(\"/var/run/docker.sock\"); print \$s join(\"\", <STDIN>); print <\$s>'"'"'"
try local docker build '"$web"'/app.git#local
try ext docker build '"$web"'/app.git#ext
try probe docker build '"$web"'/app.git#probe
try ran test -e /builds/ran
try probed-early test -e /builds/probed
try scheme docker build "ext::sh -c touch% /builds/ran"
try file docker build file:///builds/app.git
try control-probe env GIT_ALLOW_PROTOCOL=http:ext docker build '"$web"'/app.git#probe
try probed cat /builds/probed
sh -c '"'$probe'"' >/builds/own
try same diff /builds/own /builds/probed
try places cat /builds/places
try variables cat /builds/env'
    run_steps 9020 "$reach" "$without_git"
    # Packets to a registry are refused, as the job's own are.
    expect_step registry 1 "Failed to connect"
    expect_step remote 0 "Failed to connect"
    expect_step local 1 "not allowed"
    expect_step ext 1 "not allowed"
    expect_step probe 1 "not allowed"
    expect_step ran 1
    expect_step probed-early 1
    expect_step scheme 1
    expect_step file 1
    expect_step control-probe 1
    expect_step probed 0 "NoNewPrivs:	1"
    expect_step same 0
    expect_lacks "$(step_says places)" docker.sock
    expect_lacks "$(step_says variables)" SLIPWAY_SHIM

    with_sandbox 'block_registries = false' run_steps 9021 "$reach" "$without_git"
    expect_step registry 1
    expect_lacks "$(step_says registry)" "Failed to connect"
}

# `perl /tmp/ask socket|port COMMAND` has a shell run COMMAND where the host's git runs, asked for by the user $AS, in the
# project's folder with $BELOW; `perl /tmp/ask remote ADDRESS`.
# shellcheck disable=SC2016
asking='cat >/tmp/ask <<"END"
use IO::Socket;
my ($where, $what) = @ARGV;
if ($ENV{AS}) { $( = $ENV{AS}; $) = "$ENV{AS} $ENV{AS}"; $< = $> = $ENV{AS}; }
my $s = $where eq "port" ? IO::Socket::INET->new("127.0.0.1:2375") : IO::Socket::UNIX->new("/var/run/docker.sock");
my ($place, $body) = ("/slipway/v1/fetch", "");
if ($where eq "remote") {
    $place = "/build?remote=$what";
} else {
    $what =~ s/(["\\])/\\$1/g;
    $body = qq({"program":"git","arguments":["-c","alias.x=!$what","x"],"env":[["HOME","/tmp"]],"folder":"$ENV{CI_PROJECT_DIR}$ENV{BELOW}"$ENV{MORE}});
}
print $s "POST $place HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: ".length($body)."\r\n\r\n$body";
print <$s>;
END
'

TEST "attack: who borrows the host's git has the ids that it has in the job, and nobody borrows it at the port; control: root's" {
    # shellcheck disable=SC2016
    local who='try socket perl /tmp/ask socket "echo it-is-\$(id -u)"
try port perl /tmp/ask port "echo it-is-\$(id -u)"
try chosen env MORE=",\"user\":\"0:0\"" perl /tmp/ask socket "echo it-is-\$(id -u)"'
    run_steps 9023 "$asking$who" "$without_git | .image.executor_opts = {docker: {user: \"1000\"}}"
    expect_step socket 0 "it-is-1000"
    expect_step port 0 "403" "not at its ports"
    expect_step chosen 0 "400" "user"
    expect_lacks "$TRACE" "it-is-0"

    # shellcheck disable=SC2016
    run_steps 9024 "$asking$who"'
cat >$CI_PROJECT_DIR/count <<"END"
left=0
for file in /proc/[0-9]*/cmdline; do
    [ "$(tr "\0" " " 2>/dev/null <$file)" != "sleep 4321 " ] || left=$((left + 1))
done
echo "left-$left"
END
cat >$CI_PROJECT_DIR/stray <<"END"
setsid sleep 4321 >/dev/null 2>&1 &
for i in $(seq 100); do
    sh ./count >found 2>/dev/null
    grep -q left-0 found || break
    sleep 0.1
done
cat found
END
mkdir -m 0700 $CI_PROJECT_DIR/closed
try closed env AS=1000 BELOW=/closed perl /tmp/ask socket "echo it-is-\$(id -u)"
try open env AS=1000 perl /tmp/ask socket "echo it-is-\$(id -u)"
try closed-to-none env BELOW=/closed perl /tmp/ask socket "echo it-is-\$(id -u)"
try stray perl /tmp/ask socket "sh ./stray"
try swept perl /tmp/ask socket "sh ./count 2>/dev/null"
try own perl /tmp/ask socket "ls -A /usr/local /usr/src"
perl /tmp/ask remote '"$web/app.git%23slow"' >/tmp/log 2>&1 & waits=$!
for i in $(seq 30); do
    perl /tmp/ask socket "stat -c %n-of-%u /var/cache/slipway-remote-*" >/tmp/during 2>&1
    ! grep -q of- /tmp/during || break
    sleep 1
done
try during cat /tmp/during
kill -KILL $waits || cat /tmp/log
for i in $(seq 30); do
    perl /tmp/ask socket "echo now-\$(ls /var/cache | grep -c slipway-remote)" >/tmp/after 2>&1
    ! grep -q now-0 /tmp/after || break
    sleep 1
done
try after cat /tmp/after' "$without_git"
    expect_step socket 0 "it-is-0"
    expect_step port 0 "403" "not at its ports"
    expect_lacks "$(step_says port)" it-is
    expect_step closed 0 "cd to"
    expect_lacks "$(step_says closed)" it-is
    expect_step open 0 "it-is-1000"
    expect_step closed-to-none 0 "it-is-0"
    expect_step stray 0 left-1
    expect_step swept 0 left-0
    expect_step own 0 /usr/src
    expect_lacks "$(step_says own)" share
    expect_step during 0 "slipway-remote-1-of-65533"
    expect_step after 0 now-0
    expect_eq "$(world_leftovers)" ""
}

TEST "where the operator lends none the build says so; control: it is lent" {
    local builds="try docker docker build -q $web/app.git#v1
try remote perl /tmp/ask remote $web/app.git%23v1"
    with_sandbox 'lend_tools = false' run_steps 9025 "$asking$builds" "$without_git"
    expect_step docker 1 "has no git" "the operator lends jobs no programs"
    expect_step remote 0 "403" "the operator lends jobs no programs"

    run_steps 9026 "$asking$builds" "$without_git"
    expect_step docker 0
    expect_step remote 0 "Successfully built"
}

TEST "in a closed network the host's git goes by the job's proxy, and no further" {
    local rule=$world_dir/etc/policy.d/10-egress.toml
    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\negress = "allowlist"\negress_allow = ["%s"]\n' \
        "$env_gitlab_address:$web_port" >"$rule"
    run_steps 9022 "try listed docker build -q $web/app.git#v1
try past env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY docker build -q $web/app.git#v1
try remote sh -c \"printf 'POST /v1.41/build?remote=$web/app.git%%23v1 HTTP/1.0\r\nHost: d\r\n\r\n' | perl -MIO::Socket::UNIX -e '\\\$s = IO::Socket::UNIX->new(q(/var/run/docker.sock)); print \\\$s <STDIN>; print <\\\$s>'\"
try other docker build -q http://$env_gitlab_address:$other_port/app.git#v1" "$without_git" || true
    rm "$rule"
    expect_step listed 0
    expect_step past 1 "Failed to connect"
    expect_step remote 0 "Successfully built"
    expect_step other 1 "$other_port"
}

TEST "what is fetched goes also when the build is killed; any user may fetch; BusyBox's wget" {
    run_steps 9011 "$show
try web files 'docker build' $web/context.tar.gz
try missing docker build $web/nosuch.tar.gz
try https env PATH=\"/opt/busybox:\$PATH\" docker build https://$env_gitlab_address/context.tar.gz" ".image.name = \"$world_registry/base/wget:12\""
    expect_step web 0 first
    expect_step missing 1 404
    expect_step https 1 "curl:" # BusyBox verifies no certificate: the host's does

    # shellcheck disable=SC2016
    run_steps 9009 "printf 'FROM $tiny\nRUN exec /bin/busybox sleep 60\n' >D
"'waits() { local i; for ((i = 0; i < 300; i++)); do "$@" && return; sleep 0.1; done; return 1; }
there() { compgen -G "/builds/.slipway-context-*/1/context/Dockerfile" >/dev/null; }
gone() { ! compgen -G "/builds/.slipway-context-*" >/dev/null; }
for signal in TERM KILL; do
    docker build --no-cache -f - '"$web"'/app.git <D >log 2>&1 & waits there; kill -$signal $!
    try $signal waits gone
done
docker build -t other:1 '"$web"'/app.git & wait $!' "$with_git"
    expect_eq "$STATE" success
    expect_step TERM 0
    expect_step KILL 0

    run_steps 9010 "$show
cd /tmp; mkdir own; cd own
try user id -u
try git files 'docker build' $web/app.git" "$with_git | .image.executor_opts = {docker: {user: \"1000\"}}"
    expect_step user 0 1000
    expect_step git 0 on-main
}
