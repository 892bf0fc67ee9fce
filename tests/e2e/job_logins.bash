# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a job brings along: logins for pulls (its author's and GitLab's), and ID tokens.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"

keys_port=5441
author_password=authors-own-password

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    local name
    for name in private/base:1 grp/dependency_proxy/containers/base:1; do
        push_image_to_registry "$SUITE_DIR/tiny-layout:1" "$name" slipway only-slipway-knows-this
    done
    private=$world_registry/private/base:1
    proxied=$world_registry/grp/dependency_proxy/containers/base:1
    # The author's account may even push; GitLab's login for the dependency proxy may not.
    jq --arg password "$author_password" '. + {
        author: {password: $password, repos: {"private/*": ["pull", "push"], "base/*": ["pull"]}},
        "gitlab-ci-token": {password: "a-job-token", repos: {"grp/dependency_proxy/*": ["pull"], "base/*": ["pull"]}}}' \
        "$world_dir/users.json" >"$world_dir/users.json.new"
    mv "$world_dir/users.json.new" "$world_dir/users.json"
    # No login of the operator's: what a job pulls, it pulls by its own.
    sed -i 's/^credential = "operator"/credential = "job"/; /^username/d; /^password_file/d' "$world_config"
    env_serve keys "$keys_port" python3 "$env_lib/id_tokens.py" serve --listen "$env_address:$keys_port" \
        --cert "$env_tls/servers.pem" --key "$env_tls/servers-key.pem" --signer "$env_tls/token-signer-key.pem"
}

SUITE_TEARDOWN() {
    world_stop
}

auth_config() { printf '{"auths":{"%s":{"auth":"%s"}}}' "$1" "$(printf 'author:%s' "$author_password" | base64 -w0)"; }

# with_auth CONFIG: a jq program that gives the job this DOCKER_AUTH_CONFIG.
with_auth() { printf '.variables += [{key: "DOCKER_AUTH_CONFIG", value: %s, masked: true}]' "$(jq -Rn --arg text "$1" '$text')"; }

build_on() { echo "printf 'FROM $1\nRUN echo $2 >/built\n' >Dockerfile; try build-$2 docker build --no-cache -t x:$2 ."; }

blobs_sent() { grep -c 'GET /v2/private/base/blobs/' "$world_dir/log/registry.log" || true; }

TEST "DOCKER_AUTH_CONFIG opens private images to the job, its services and its builds" {
    run_steps 6201 "$(build_on "$private" without)"
    expect_step build-without 1 "Dockerfile:1" "private/base"
    run_script 6202 'echo ran' ".image.name = \"$private\""
    expect_contains "$STATE" failed
    expect_contains "$TRACE" "set DOCKER_AUTH_CONFIG for a private image"

    run_steps 6203 "$(build_on "$private" with)" \
        "$(with_auth "$(auth_config "https://$world_registry/v2/")") | .services = [{name: \"$private\", alias: \"tiny\", entrypoint: [\"/bin/sh\"], command: [\"-c\", \"echo served; sleep 60\"]}]"
    expect_eq "$STATE" success
    expect_step build-with 0
    expect_contains "$TRACE" "Using $private"
    expect_lacks "$TRACE" "$author_password"
    run_script 6204 'echo ran in it' ".image.name = \"$private\" | $(with_auth "$(auth_config "$world_registry/private")")"
    expect_contains "$TRACE" "Using $private"
}

TEST "the author's login is for pulls: a push with it is refused, though the registry would take it" {
    run_steps 6211 "docker pull -q $tiny; docker tag $tiny $world_registry/private/mine:1
try push docker push $world_registry/private/mine:1" "$(with_auth "$(auth_config "$world_registry")")"

    expect_step push 1 "the job has no login for the registry"
    expect_absent private/mine:1
    # Control: the account itself can.
    env_skopeo copy --dest-creds "author:$author_password" "oci:$SUITE_DIR/tiny-layout:1" "docker://$world_registry/private/control:1"
}

TEST "GitLab's login for the dependency proxy opens images behind it" {
    run_steps 6221 "$(build_on "$proxied" without)"
    expect_step build-without 1 "dependency_proxy"
    run_steps 6222 "$(build_on "$proxied" with)" \
        ".credentials = [{type: \"registry\", url: \"$world_registry\", username: \"gitlab-ci-token\", password: \"a-job-token\"}]"
    expect_step build-with 0
}

TEST "what cannot be used of DOCKER_AUTH_CONFIG is told, and the job goes on" {
    run_steps 6231 "$(build_on "$tiny" public)" "$(with_auth "{\"credHelpers\": {\"$world_registry\": \"ecr-login\"}, \"auths\": {\"a.example\": {\"auth\": \"%$author_password\"}}}")"

    expect_eq "$STATE" success
    expect_contains "$TRACE" "Warning: DOCKER_AUTH_CONFIG names programs (credHelpers), which slipway does not run"
    expect_contains "$TRACE" "Warning: DOCKER_AUTH_CONFIG entry 'a.example' has an \`auth\` that is not the base64 of USER:PASSWORD"
    expect_lacks "$TRACE" "$author_password"
    expect_step build-public 0
}

TEST "docker login fails where the job can use nothing, whoever asks, and succeeds where it can; control: by default it can" {
    local steps="try elsewhere docker login -u u -p $author_password other.example
try hub docker login -u u -p $author_password
try own docker login -u u -p $author_password $world_registry
try stored grep -rs $author_password /root /tmp /run"

    run_steps 6281 "$steps"
    expect_step own 0 "Login Succeeded"
    expect_step elsewhere 1 "other.example" # nobody answers there, and it was tried
    expect_lacks "$(step_says elsewhere)" "of no use"

    printf '[buildkit]\nallowed_bases = ["%s/*"]\n' "$world_registry" | cat "$world_config" - >narrow.toml
    grep -q '^\[buildkit\]' "$world_config" && sed "s#^\[buildkit\]#&\nallowed_bases = [\"$world_registry/*\"]#" "$world_config" >narrow.toml
    cp "$world_config" kept.toml
    trap 'cat "$CASE_DIR/kept.toml" >"$world_config"' EXIT
    cat narrow.toml >"$world_config"
    run_steps 6282 "$steps
try foreign sh -c 'echo FROM other.example/app:1 | docker build -'
try copied sh -c 'printf \"FROM scratch\nCOPY --from=other.example/app:1 / /\n\" | docker build -'
try known sh -c 'echo FROM $world_busybox | docker build -q -'"
    expect_step foreign 1 "Dockerfile:1" "other.example/app:1" allowed_bases
    expect_step copied 1 "Dockerfile:2" "other.example/app:1" allowed_bases
    expect_step known 0
    expect_step elsewhere 1 "a login for 'other.example' is of no use" "[[registry]]" "allowed_bases"
    expect_step hub 1 "a login for 'docker.io' is of no use"
    expect_step own 0 "Login Succeeded"
    expect_step stored 1
}

# start_other: a registry with a login by name and password that no [[registry]] entry names, and a name for it.
start_other() {
    other=other.$env_netns.test:5447
    env_hosts "$env_address" "${other%:*}"
    make_cert other "DNS:${other%:*}"
    python3 -W ignore -c 'import crypt, sys
print("author:" + crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))' "$author_password" >"$env_dir/other.htpasswd"
    cat >"$env_dir/other.yml" <<YML
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $env_dir/other}}
http:
  addr: $env_address:5447
  secret: only-for-tests
  tls: {certificate: $env_tls/other.pem, key: $env_tls/other-key.pem}
auth: {htpasswd: {realm: other, path: $env_dir/other.htpasswd}}
YML
    env_serve other 5447 docker-registry serve "$env_dir/other.yml"
    env_skopeo copy --dest-creds "author:$author_password" "oci:$SUITE_DIR/tiny-layout:1" "docker://$other/private/base:1"
}

TEST "docker login to a registry that slipway does not broker opens its images to that script, for pulls alone" {
    start_other
    # It is believed by the certificates of the host, as any registry without an entry.
    cat /etc/ssl/certs/ca-certificates.crt "$env_tls/ca.pem" >certificates
    mount --bind certificates /etc/ssl/certs/ca-certificates.crt
    trap 'umount /etc/ssl/certs/ca-certificates.crt; rm -f "$world_dir/etc/policy.d/10-logins.toml"' EXIT
    local image=$other/private/base:1 login="echo $author_password | docker login -u author --password-stdin $other"

    run_steps 6291 "try before docker pull -q $image
try wrong sh -c 'echo not-the-password | docker login -u author --password-stdin $other'
try still docker pull -q $image
try login sh -c '$login'
try shown echo my $author_password
try pull docker pull -q $image
$(build_on "$image" on-it)
try push docker push $image
printf 'FROM $image\nRUN echo $author_password >/kept\n' >Dockerfile
try leaking docker build -q -t $world_registry/grp/app:leak .
try leak docker push $world_registry/grp/app:leak" \
        ".credentials = [{type: \"registry\", url: \"$world_registry\", username: \"gitlab-ci-token\", password: \"a-job-token\"}]"
    expect_step before 1 "$other"
    expect_step wrong 1 "$other answered 401"
    expect_step still 1 "$other"
    expect_step login 0 "Login Succeeded" "is pulled with this login; no push is"
    expect_step shown 0 "my [MASKED]"
    expect_step pull 0
    expect_step build-on-it 0
    expect_step push 1 "[[registry]]"
    expect_step leak 1 "docker login $other"
    expect_absent grp/app:leak
    expect_lacks "$TRACE" "$author_password"
    # Another job has nothing of it; podman's and buildah's lines are the same login.
    run_steps 6292 "try before docker pull -q $image
ln -s \"\$(command -v docker)\" /usr/local/bin/podman # the image has none
try login sh -c 'echo $author_password | podman login -u author --password-stdin $other'
try pull podman pull -q $image"
    expect_step before 1 "$other"
    expect_step login 0
    expect_step pull 0

    printf '[[rule]]\nproject = "*"\nrepositories = ["*"]\nforward_logins = false\n' >"$world_dir/etc/policy.d/10-logins.toml"
    run_steps 6293 "try login sh -c '$login'
try pull docker pull -q $image
try own docker login -u u -p p $world_registry"
    expect_step login 1 "slipway does not broker '$other'" "forward_logins = false in rule"
    expect_step pull 1
    expect_step own 0 "Login Succeeded"
}

TEST "a private base that one project's jobs have fetched is not handed to those who may not read it" {
    local login before other='.job_info.project_full_path = "grp/other" | .job_info.project_id = 43'
    login=$(with_auth "$(auth_config "$world_registry")")
    run_steps 6241 "$(build_on "$private" first)" "$login"
    expect_step build-first 0
    before=$(blobs_sent)

    run_steps 6242 "$(build_on "$private" other)" "$other"
    expect_step build-other 1 "Dockerfile:1" "private/base"
    run_steps 6243 "$(build_on "$private" nobody)" # the same project's next job, without the login
    expect_step build-nobody 1 "private/base"
    run_steps 6244 "$(build_on "$private" unprotected)" ".git_info.protected = false"
    expect_step build-unprotected 1 "private/base"
    expect_eq "$(blobs_sent)" "$before" "blobs that were sent"

    # Controls: with the login each gets it; the first project without a byte of its layers.
    run_steps 6245 "$(build_on "$private" again)" "$login"
    expect_step build-again 0
    expect_eq "$(blobs_sent)" "$before" "blobs that were sent"
    run_steps 6246 "$(build_on "$private" other-with)" "$other | $login"
    expect_step build-other-with 0
    (($(blobs_sent) > before))
}

TEST "what a file variable holds, which GitLab masks nowhere, is masked in the job log but for ordinary text; control: an open variable is not" {
    local secret=Zq8vT2nLx5Rw7KpD9mXc key
    key=$(openssl genpkey -algorithm ed25519)
    # shellcheck disable=SC2016
    run_steps 6301 'try file cat "$SETTINGS" "$KEY"
try encoded sh -c "base64 -w0 <\"\$SETTINGS\"; sed -n \"s/^token = //p\" \"\$SETTINGS\" | tr -d \"\\n\" | base64"
try backwards sh -c "sed -n \"s/^token = //p\" \"\$SETTINGS\" | rev"
try open echo "$OPEN"' "$(key=$key secret=$secret jq -rn '".variables += \([{key: "KEY", value: (env.key + "\n"), file: true},
        {key: "SETTINGS", value: "[main]\nregion = north\ntoken = \(env.secret)\n", file: true},
        {key: "OPEN", value: "Qw3eRt6yUi9oPa2sDf5g", public: true}])"')"

    expect_eq "$STATE" success
    expect_step file 0 "region = north" "BEGIN PRIVATE KEY"
    expect_lacks "$(step_says file)" "$secret"
    expect_lacks "$(step_says file)" "$(sed -n 2p <<<"$key")"
    expect_lacks "$(step_says encoded)" "$(printf '%s' "$secret" | base64 | cut -c1-20)"
    expect_contains "$(step_says encoded)" "[MASKED]"
    # What nobody promises, and so the script did print it.
    expect_step backwards 0 "$(rev <<<"$secret")"
    expect_step open 0 "Qw3eRt6yUi9oPa2sDf5g"
}

TEST "a rule for tags is for no branch of a tag's name; control: a rule for such branches" {
    local rules steps
    rules=$(dirname "$world_config")/policy.d/05-refs.toml
    cat >"$rules" <<'TOML'
[[rule]]
project = "grp/app"
ref = "refs/tags/v*"
repositories = ["*"]

[[rule]]
project = "grp/app"
push = false
TOML
    steps='printf "FROM '"$world_base"'\nRUN echo a >/made\n" >Dockerfile
try build docker build -t "$CI_REGISTRY_IMAGE:ref" .
try push docker push "$CI_REGISTRY_IMAGE:ref"'
    # push_as ID REF TYPE: a job of that ref, as the payload has it.
    push_as() {
        run_steps "$1" "$steps" ".git_info.ref = \"$2\" | .git_info.ref_type = \"$3\"
            | .credentials = [{type: \"registry\", url: \"$world_registry\", username: \"slipway\", password: \"only-slipway-knows-this\"}]"
        expect_step build 0
    }

    push_as 6391 refs/tags/v1 branch
    expect_step push 1 "policy forbids pushes from project 'grp/app' on this ref" "05-refs.toml:6"
    push_as 6392 refs/merge-requests/7/head branch
    expect_step push 1 "05-refs.toml:6"
    expect_eq "$(world_registry_digest grp/app:ref)" ""
    push_as 6393 v1 tag
    expect_step push 0
    sed -i 's,refs/tags/v,refs/heads/refs/tags/v,' "$rules"
    push_as 6394 refs/tags/v1 branch
    rm "$rules"
    expect_step push 0
}

# claims ID [JQ]: what GitLab says of the job that world_job makes.
claims() {
    jq -cn --argjson id "$1" "{iss: \"https://gitlab.example\", aud: \"slipway\", sub: \"project_path:grp/app:ref_type:branch:ref:main\",
        iat: (now | floor), nbf: (now - 5 | floor), exp: (now + 600 | floor), jti: \"x\", job_id: \"\\(\$id)\", pipeline_id: \"77\",
        project_id: \"42\", project_path: \"grp/app\", ref: \"main\", ref_type: \"branch\", ref_protected: \"true\"} | ${2:-.}"
}

signed() { python3 "$env_lib/id_tokens.py" sign --signer "$env_tls/token-signer-key.pem" "$@"; }

with_token() { printf '.variables += [{key: "SLIPWAY_ID_TOKEN", value: "%s", masked: true}]' "$1"; }

tokens_are_required() {
    grep -q '^\[identity\]' "$world_config" ||
        printf '[identity]\nissuer = "https://gitlab.example"\nrequired = true\nkeys_url = "https://%s/keys"\nca_file = "%s"\n' \
            "$env_address:$keys_port" "$env_tls/ca.pem" >>"$world_config"
}

# refused ID TOKEN WORDS: nothing of that job runs.
refused() {
    run_script "$1" 'echo the script ran' "$(with_token "$2")"
    expect_contains "$STATE" "failed"
    expect_lacks "$TRACE" "the script ran"
    expect_contains "$TRACE" "$3"
    expect_lacks "$TRACE" "$2"
}

TEST "an ID token admits its own job, as often as it is shown, and no other job" {
    tokens_are_required
    local token
    token=$(signed "$(claims 6251)")

    run_script 6251 'echo "the script ran, token: ${SLIPWAY_ID_TOKEN:0:5}"' "$(with_token "$token")"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "the script ran"
    run_script 6251 'echo ran twice' "$(with_token "$token")" # the runner tried it again
    expect_contains "$TRACE" "ran twice"
    refused 6252 "$token" "job_id"
    run_script 6253 'echo the script ran'
    expect_contains "$STATE" failed
    expect_lacks "$TRACE" "the script ran"
}

TEST "a token that GitLab did not sign for slipway admits nothing" {
    tokens_are_required
    openssl genrsa -out other.pem 2048 2>/dev/null
    refused 6261 "$(signed --alg none "$(claims 6261)")" "it is not signed with RS256"
    refused 6262 "$(signed --alg HS256 "$(claims 6262)")" "it is not signed with RS256"
    refused 6263 "$(signed --kid other "$(claims 6263)")" "it names no key of this GitLab"
    refused 6264 "$(signed --signer other.pem "$(claims 6264)")" "its signature is not that of the key it names"
    refused 6265 "$(signed "$(claims 6265 '.exp = .iat - 600 | .nbf = .iat - 900')")" "it is over (exp)"
    refused 6266 "$(signed "$(claims 6266 '.aud = "vault"')")" "aud"
    refused 6267 "$(signed "$(claims 6267 '.project_path = "grp/other"')")" "project_path"
    refused 6268 "$(signed "$(claims 6268 '.ref_protected = "false"')")" "ref_protected"
    run_script 6269 'echo the script ran' "$(with_token "$(signed "$(claims 6269)")")"
    expect_contains "$TRACE" "the script ran"
}

TEST "a rule is for pipelines of one source by the token's word, and for one runner by the operator's" {
    tokens_are_required
    cat >"$(dirname "$world_config")/policy.d/05-sources.toml" <<'TOML'
[[rule]]
project = "grp/app"
runner_tag = ["lab"]
platforms = ["linux/s390x"]

[[rule]]
project = "grp/app"
source = ["push"]
repositories = ["*"]

[[rule]]
project = "grp/app"
push = false
cache_domain = "others"
TOML
    local steps world_slipway_args=()
    steps='printf "FROM '"$world_base"'\nRUN echo a >/made\n" >Dockerfile
try build docker build -t "$CI_REGISTRY_IMAGE:source" .
try push docker push "$CI_REGISTRY_IMAGE:source"'
    # pipeline ID SOURCE [JQ]: a job of grp/app whose token says so.
    pipeline() {
        run_steps "$1" "$steps" "$(with_token "$(signed "$(claims "$1" ".pipeline_source = \"$2\"")")") | ${3:-.}
            | .credentials = [{type: \"registry\", url: \"$world_registry\", username: \"slipway\", password: \"only-slipway-knows-this\"}]"
    }

    # What a variable says is the job's own word.
    pipeline 6271 merge_request_event '.variables += [{key: "CI_PIPELINE_SOURCE", value: "push"}]'
    expect_step build 0
    expect_step push 1 "policy forbids pushes from project 'grp/app' on this ref" "05-sources.toml:11"
    pipeline 6274 parent_pipeline # as whoever writes the merge request can have it
    expect_step push 1 "policy forbids pushes" "05-sources.toml:11"
    expect_eq "$(world_registry_digest grp/app:source)" ""
    pipeline 6272 push
    expect_step build 0
    expect_step push 0
    world_slipway_args=(--runner-tag lab)
    pipeline 6273 push
    rm "$(dirname "$world_config")/policy.d/05-sources.toml"
    expect_step build 1 "policy does not let this project build for linux/amd64" "05-sources.toml:1"
}

TEST "nothing of the jobs is left" {
    expect_eq "$(world_leftovers)" ""
}
