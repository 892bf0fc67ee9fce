# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The job's image and its services, as GitLab's docker executor treats them.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    [[ $(/usr/bin/docker --version 2>/dev/null) == *"version 20.10"* ]] || echo "needs Debian's docker.io 20.10"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    jq '. + {"alice": {"password": "alices-own-password", "repos": {"private/*": ["pull"]}}}' \
        "$world_dir/users.json" >"$world_dir/users.new"
    mv "$world_dir/users.new" "$world_dir/users.json"
    publish_image base/entry:1 busybox '{"Entrypoint": ["/entry.sh"]}' entry_files
    publish_image base/user:12 debian '{"User": "1000"}'
    publish_image base/named:1 busybox '{"Entrypoint": ["docker-entry.sh"], "WorkingDir": "/srv/made-by-name", "Env": ["PATH=/opt/entry:/usr/bin:/bin"]}' named_files
    publish_image base/dash:1 busybox '{}' dash_files
    publish_image base/noshell:1 none '{}' noshell_files
    publish_image base/docker-cli:12 debian '{}' docker_files
    publish_image base/docker-in-opt:1 busybox '{"User": "ci", "Env": ["PATH=/opt/docker/bin:/bin"]}' opt_files
    publish_image base/web:1 busybox '{"ExposedPorts": {"8080/tcp": {}}, "Cmd": ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"]}' web_files
    publish_image base/web-user:1 busybox '{"User": "1000", "ExposedPorts": {"8080/tcp": {}}}' web_files
    publish_image base/deaf:1 busybox '{"ExposedPorts": {"9999/tcp": {}}, "Cmd": ["/bin/sh", "-c", "echo out of memory, giving up; exec sleep 600"]}'
    publish_image base/half-deaf:1 busybox '{"ExposedPorts": {"9999/tcp": {}, "8080/tcp": {}}, "Cmd": ["/bin/httpd", "-f", "-p", "8080", "-h", "/"]}'
    publish_image private/tool:1 busybox '{}' web_files
}

SUITE_TEARDOWN() {
    world_stop
}

# As Docker's own images begin: what docker does not know as a command is run as it is.
named_files() {
    mkdir -p opt/entry
    cat >opt/entry/docker-entry.sh <<'END'
#!/bin/sh
set -eu
if docker help "$1" >/dev/null 2>&1; then set -- docker "$@"; fi
if ! docker help build >/dev/null; then echo "docker does not know build"; exit 9; fi
echo "entrypoint of $1 in $PWD"
export FROM_ENTRYPOINT="by name"
exec "$@"
END
    chmod 755 opt/entry/docker-entry.sh
}

entry_files() {
    printf '#!/bin/sh\nexport FROM_ENTRYPOINT=yes\necho entrypoint ran\nexec "$@"\n' >entry.sh
    chmod 755 entry.sh
}

dash_files() {
    with_program /usr/bin/dash bin/sh
}

noshell_files() {
    install -D -m 0755 /bin/busybox app
}

docker_files() {
    with_program /usr/bin/docker opt/real-docker
}

opt_files() {
    mkdir -p etc opt/docker/bin home/ci/.docker/cli-plugins
    printf 'root:x:0:0::/root:/bin/sh\nci:x:1000:1000::/home/ci:/bin/sh\n' >etc/passwd
    tee opt/docker/bin/docker home/ci/.docker/cli-plugins/docker-buildx >/dev/null <<<$'#!/bin/sh\necho the program of the image'
    chmod 755 opt/docker/bin/docker home/ci/.docker/cli-plugins/docker-buildx
}

web_files() {
    mkdir www
    echo "a page of the service" >www/index.html
}

TEST "the image's ENTRYPOINT runs before the script, a job's entrypoint replaces it, an empty one switches it off" {
    run_script 4001 'echo "value: $FROM_ENTRYPOINT"; exit 3' ".image.name = \"$world_registry/base/entry:1\""
    expect_eq "$STATE" "failed script_failure 3"
    expect_contains "$TRACE" "entrypoint ran"
    expect_contains "$TRACE" "value: yes"

    run_script 4002 'echo "value: $FROM_ENTRYPOINT $OTHER"' \
        ".image = {name: \"$world_registry/base/entry:1\", entrypoint: [\"/bin/env\", \"OTHER=by-job\"]}"
    expect_eq "$STATE" success
    expect_lacks "$TRACE" "entrypoint ran"
    expect_contains "$TRACE" "value:  by-job"

    run_script 4003 'echo "value: $FROM_ENTRYPOINT."' ".image = {name: \"$world_registry/base/entry:1\", entrypoint: [\"\"]}"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "value: ."
}

TEST "an ENTRYPOINT by its bare name is found in the image's PATH, and begins in its WORKDIR" {
    run_script 4005 'echo "value: $FROM_ENTRYPOINT"' ".image.name = \"$world_registry/base/named:1\""
    expect_eq "$STATE" success
    expect_contains "$TRACE" "entrypoint of sh in /srv/made-by-name"
    expect_contains "$TRACE" "value: by name"

    run_script 4006 'echo "value: $FROM_ENTRYPOINT"' ".image = {name: \"$world_registry/base/named:1\", entrypoint: [\"nosuchprogram\"]}"
    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "cannot run nosuchprogram: No such file or directory"
}

TEST "an image's USER runs the script, can write the workspace and build in it" {
    run_steps 4011 "try id id -u
try umask umask
try write sh -c 'echo mine >file && cat file'
try made-before sh -c 'test -w . && echo writable'
printf 'FROM $world_busybox\nCOPY file /\nRUN cat /file\n' >Dockerfile
mkdir -m 0700 closed; echo from-closed >closed/file
try build docker build -t x:1 .
try build-closed docker build -t x:2 -f Dockerfile closed" ".image.name = \"$world_registry/base/user:12\""

    expect_eq "$STATE" success
    expect_step id 0 1000
    expect_step umask 0 0022
    expect_step write 0 mine
    expect_step made-before 0 writable
    expect_step build 0 mine "Successfully tagged x:1"
    expect_step build-closed 0 from-closed
}

TEST "a job of a user of its own reads its file variables, and its cache and artifacts go through the helper and come back" {
    local both='.image.name = "'"$world_registry"'/base/user:12" | .variables += [{key: "CONF", value: "body of the file\n", file: true}]
        | .cache = [{key: "user", paths: ["vendor/"], policy: "pull-push", when: "on_success"}]'
    run_script 4015 'id -u; cat "$CONF"; mkdir -p out vendor; umask 077; echo made by 4015 >out/file; echo library >vendor/lib' "$both"'
        | .artifacts = [{name: "result", paths: ["out/"], when: "on_success", artifact_type: "archive", artifact_format: "zip"}]'
    expect_eq "$STATE" success
    expect_contains "$TRACE" $'\n1000\n'
    expect_contains "$TRACE" "body of the file"

    mv "$CASE_DIR/jobs/4015-1-result.zip" "$CASE_DIR/jobs/dep-4015.zip"
    run_script 4016 'cat "$CONF" out/file vendor/lib; echo more >>vendor/lib; echo more >>out/file; tail -n 1 out/file' "$both"'
        | .dependencies = [{id: 4015, token: "glcbt-job-token-4015", name: "maker", artifacts_file: {filename: "result.zip", size: 100}}]'
    expect_eq "$STATE" success
    for word in "body of the file" "made by 4015" library more; do expect_contains "$TRACE" "$word"; done
}

TEST "executor_opts of the job choose the user" {
    run_script 4012 'id -u; id -g' '.image.executor_opts = {docker: {user: "1234:4321"}}'

    expect_eq "$STATE" success
    expect_contains "$TRACE" $'\n1234\n4321\n'
}

TEST "a user that the image does not have fails the job and is named" {
    run_script 4013 'id -u' '.image.executor_opts = {docker: {user: "nosuchuser"}}'

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "nosuchuser"
    expect_contains "$TRACE" "check USER and ENTRYPOINT of the job's image"
}

TEST "pull policies are the operator's to allow, and are kept" {
    cp "$world_config" "$CASE_DIR/config.toml"
    sed -i 's/^\[gitlab\]/[gitlab]\npull_policies = ["if-not-present", "never"]/' "$world_config"
    run_script 4021 'echo ran' '.image.pull_policy = ["always"]' || true
    denied=$TRACE denied_state=$STATE
    run_script 4022 'echo ran' ".image = {name: \"$world_registry/base/never-pulled:1\", pull_policy: [\"never\"]}" || true
    missing=$TRACE missing_state=$STATE
    run_script 4023 'echo ran' ".image = {name: \"$world_busybox\", pull_policy: [\"if-not-present\"]}" || true
    run_script 4024 'echo ran by never' ".image = {name: \"$world_busybox\", pull_policy: [\"never\"]}" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_contains "$denied_state" "failed script_failure"
    expect_contains "$denied" "this runner does not allow the pull policy 'always'"
    expect_contains "$missing_state" "failed"
    expect_contains "$missing" "image is not in the store: $world_registry/base/never-pulled:1"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "ran by never"
}

say_version() { echo "version-$1" >version; }

TEST "a list of pull policies is tried in turn; if-not-present keeps what is there, always asks the registry" {
    cp "$world_config" "$CASE_DIR/config.toml"
    sed -i 's/^\[gitlab\]/[gitlab]\npull_policies = ["always", "if-not-present", "never"]/' "$world_config"
    # Podman keeps what it pulled, for the next run too.
    tag=$EPOCHSECONDS-$BASHPID
    image="{name: \"$world_registry/base/changes:$tag\", pull_policy: "
    publish_image "base/changes:$tag" busybox '{}' say_version one
    run_script 4025 'cat /version' ".image = $image [\"never\", \"always\"]}" || true
    first=$TRACE
    publish_image "base/changes:$tag" busybox '{}' say_version two
    run_script 4026 'cat /version' ".image = $image [\"if-not-present\", \"always\"]}" || true
    kept=$TRACE
    run_script 4027 'cat /version' ".image = $image [\"always\"]}" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_contains "$first" version-one
    expect_contains "$kept" version-one
    expect_contains "$TRACE" version-two
    expect_eq "$STATE" success
}

TEST "a private image is pulled with the job's credential only, and the credential is not shown" {
    run_script 4031 'cat /www/index.html' ".image.name = \"$world_registry/private/tool:1\""
    # The job's fault, so the runner does not try again.
    expect_contains "$STATE" "failed script_failure"
    expect_eq "$(grep -c 'Pulling [^ ]*/private/tool:1' <<<"$TRACE")" 1 "pulls"
    expect_contains "$TRACE" "pulling the image $world_registry/private/tool:1"
    expect_contains "$TRACE" "the registry wants credentials for this image, or it does not exist"

    run_script 4032 'cat /www/index.html' ".image.name = \"$world_registry/private/tool:1\"
        | .credentials = [{type: \"registry\", url: \"$world_registry\", username: \"alice\", password: \"alices-own-password\"}]"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "a page of the service"
    expect_lacks "$TRACE" alices-own-password
}

TEST "an image that does not exist fails the job and names it" {
    run_script 4041 'echo ran' ".image.name = \"$world_registry/base/nosuch:1\""

    expect_contains "$STATE" "failed"
    expect_contains "$TRACE" "$world_registry/base/nosuch:1"
    expect_contains "$TRACE" "what to do:"
    expect_lacks "$TRACE" $'\nran'
}

TEST "an image without a shell fails the job and says what to use" {
    run_script 4051 'echo ran' ".image.name = \"$world_registry/base/noshell:1\""

    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "the image has no shell"
    expect_contains "$TRACE" "use an image with bash or sh for the job"
}

TEST "busybox sh runs jobs, with its docker" {
    run_script 4061 "printf 'FROM $world_busybox\nRUN echo in-build\n' >Dockerfile; docker build -t x:1 . && echo \"quote's \\\$ survive\"" \
        ".image.name = \"$world_busybox\""

    expect_eq "$STATE" success
    expect_contains "$TRACE" in-build
    expect_contains "$TRACE" "quote's \$ survive"
}

TEST "a docker that only the image's own PATH finds, and a user's own buildx, are slipway's" {
    run_steps 4052 'try where command -v docker
try images docker images
try plugin ~/.docker/cli-plugins/docker-buildx version
try added ls /usr/bin/docker /bin/docker' ".image.name = \"$world_registry/base/docker-in-opt:1\""

    expect_step where 0 /opt/docker/bin/docker
    expect_step images 0 REPOSITORY
    expect_step plugin 0 slipway
    expect_step added 1
    expect_lacks "$TRACE" "the program of the image"
}

TEST "a dash gets the name of the trap instead of a syntax error, and works with POSIX escapes" {
    run_script 4071 'echo ran' ".image.name = \"$world_registry/base/dash:1\""
    expect_contains "$STATE" "failed script_failure"
    expect_contains "$TRACE" "does not read \$'...'"
    expect_contains "$TRACE" 'FF_POSIXLY_CORRECT_ESCAPES: "true"'
    expect_lacks "$TRACE" "Syntax error"

    run_script 4072 "echo \"it's a dash\"" ".image.name = \"$world_registry/base/dash:1\"
        | .variables += [{key: \"FF_POSIXLY_CORRECT_ESCAPES\", value: \"true\", public: true}]"
    expect_eq "$STATE" success
    expect_contains "$TRACE" "it's a dash"
}

TEST "a service whose image has a USER has no capability, one without has those of a sandbox's root" {
    serve='grep Cap /proc/self/status >/dev/shm/index.html; exec httpd -f -p 8080 -h /dev/shm'
    run_steps 4080 "try user wget -qO- http://user:8080/
try root wget -qO- http://root:8080/" ".image.name = \"$world_busybox\"
        | .services = [{name: \"$world_registry/base/web-user:1\", alias: \"user\", entrypoint: [\"/bin/sh\", \"-c\", \"$serve\"]},
            {name: \"$world_registry/base/web:1\", alias: \"root\", entrypoint: [\"/bin/sh\", \"-c\", \"$serve\"]}]"

    expect_eq "$STATE" success
    expect_eq "$(step_says user | grep -c '^Cap[^B].*0000000000000000')" 4
    expect_eq "$(step_says root | grep -c '^CapEff.*0000000000000000')" 0
}

TEST "services answer under all their names, with their command, entrypoint and variables" {
    run_steps 4081 "try alias wget -qO- http://web:8080/
try second wget -qO- http://other-name:8080/
try image-name wget -qO- http://${world_registry%:*}__base__web:8080/
try command wget -qO- http://commanded:8080/
try variable wget -qO- http://entered:8080/
try hosts cat /etc/hosts" ".image.name = \"$world_busybox\"
        | .variables += [{key: \"PUBLIC_ONE\", value: \"public value\", public: true}]
        | .services = [
            {name: \"$world_registry/base/web:1\", alias: \"web,other-name\"},
            {name: \"$world_registry/base/web:1\", alias: \"commanded\",
             command: [\"/bin/sh\", \"-c\", \"mkdir /w; echo by command >/w/index.html; exec httpd -f -p 8080 -h /w\"]},
            {name: \"$world_registry/base/web:1\", alias: \"entered\", variables: [{key: \"WORDS\", value: \"its own\"}],
             entrypoint: [\"/bin/sh\", \"-c\", \"mkdir /w; echo \$WORDS, \$PUBLIC_ONE >/w/index.html; exec httpd -f -p 8080 -h /w\"]}]"

    expect_eq "$STATE" success
    expect_step alias 0 "a page of the service"
    expect_step second 0 "a page of the service"
    expect_step image-name 0 "page"
    expect_step command 0 "by command"
    expect_step variable 0 "its own, public value"
    # Nothing of the host's own table.
    expect_lacks "$(step_says hosts)" "$env_registry_name"
    # Not left to the one name server of all jobs.
    expect_step hosts 0 localhost docker web other-name commanded entered
}

TEST "a service has its job's workspace, an empty entrypoint instead of its image's, and the user that the job names" {
    # serve PAGE: a command that writes the page and serves it
    serve() { echo "$1 >/dev/shm/index.html; exec /bin/httpd -f -p 8080 -h /dev/shm"; }
    run_steps 4083 "try workspace wget -qO- http://workspace:8080/grp/app/page
try empty wget -qO- http://empty:8080/
try user wget -qO- http://user:8080/" ".image.name = \"$world_busybox\"
        | .variables += [{key: \"HEALTHCHECK_TCP_PORT\", value: \"8080\", public: true}]
        | .services = [
            {name: \"$world_registry/base/web:1\", alias: \"workspace\", command: [\"/bin/httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/builds\"]},
            {name: \"$world_registry/base/entry:1\", alias: \"empty\", entrypoint: [\"\"],
             command: [\"/bin/sh\", \"-c\", \"$(serve 'echo $FROM_ENTRYPOINT.')\"]},
            {name: \"$world_registry/base/web:1\", alias: \"user\", executor_opts: {docker: {user: \"1234\", platform: \"amd64\"}},
             entrypoint: [\"/bin/sh\", \"-c\", \"$(serve 'id -u')\"]}]
        | .steps[0].script |= [\"echo of the job >page\"] + ."

    expect_eq "$STATE" success
    expect_step workspace 0 "of the job"
    expect_eq "$(step_says empty)" .
    expect_eq "$(step_says user)" 1234
}

TEST "a service that opens its port late is waited for" {
    run_steps 4090 'try once wget -qO- http://late:8080/' ".image.name = \"$world_busybox\"
        | .services = [{name: \"$world_registry/base/web:1\", alias: \"late\",
            entrypoint: [\"/bin/sh\", \"-c\", \"sleep 3; exec httpd -f -p 8080 -h /www\"]}]"

    expect_eq "$STATE" success
    expect_step once 0 "a page of the service"
    expect_lacks "$TRACE" "did not answer"
}

TEST "a service that never opens its port is a warning with its last words" {
    cp "$world_config" "$CASE_DIR/config.toml"
    sed -i 's/^\[gitlab\]/[gitlab]\nservice_wait = "2s"/' "$world_config"
    run_script 4091 'echo ran' ".services = [{name: \"$world_registry/base/deaf:1\", alias: \"deaf\"}]" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_eq "$STATE" success
    expect_contains "$TRACE" "WARNING: service deaf did not answer at port 9999 within 2 s"
    expect_contains "$TRACE" "out of memory, giving up"
    expect_contains "$TRACE" $'\nran'
    expect_lacks "$TRACE" "page of the service"
}

TEST "one port that answers is enough, and HEALTHCHECK_TCP_PORT names it where the image does not" {
    cp "$world_config" "$CASE_DIR/config.toml"
    sed -i 's/^\[gitlab\]/[gitlab]\nservice_wait = "20s"/' "$world_config"
    run_script 4093 'echo ran' ".services = [{name: \"$world_registry/base/half-deaf:1\", alias: \"half\"},
        {name: \"$world_registry/base/deaf:1\", alias: \"other\", variables: [{key: \"HEALTHCHECK_TCP_PORT\", value: \"8081\"}],
         command: [\"/bin/httpd\", \"-f\", \"-p\", \"8081\", \"-h\", \"/\"]},
        {name: \"$world_busybox\", alias: \"late\", variables: [{key: \"HEALTHCHECK_TCP_PORT\", value: \"8080\"}],
         command: [\"/bin/sh\", \"-c\", \"sleep 2; exec /bin/httpd -f -p 8080 -h /\"]}]" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_eq "$STATE" success
    expect_lacks "$TRACE" "did not answer"
}

TEST "a job that is cancelled while its services start is prepared once, is cancelled, and leaves nothing" {
    cp "$world_config" "$CASE_DIR/config.toml"
    sed -i 's/^\[gitlab\]/[gitlab]\nservice_wait = "200s"/' "$world_config"
    run_script 4092 'echo NE""VER' ".services = [{name: \"$world_registry/base/deaf:1\", alias: \"deaf\"}]
        | .features.failure_reasons += [\"job_canceled\"] | ._signal = {after: \"Pulling [^ ]*/deaf:1\", status: \"canceling\"}" || true
    cp "$CASE_DIR/config.toml" "$world_config"

    expect_eq "$STATE" "failed job_canceled"
    expect_lacks "$TRACE" NEVER
    expect_eq "$(grep -c 'Pulling [^ ]*/deaf:1' <<<"$TRACE")" 1
    expect_eq "$(world_leftovers)" ""
}

# The standard job of GitLab's documentation; DOCKER is the program.
docker_job() {
    cat <<SCRIPT
printf 'FROM $world_base\nRUN echo $1 >/number\nLABEL job=$1\n' >Dockerfile
try version $2 version
try info $2 info
try build $2 build -t $world_registry/app/cli:$1 .
try tag $2 tag $world_registry/app/cli:$1 $world_registry/app/cli:$1-too
try images $2 images
try inspect $2 inspect --format '{{index .Config.Labels "job"}}' $world_registry/app/cli:$1
try push $2 push $world_registry/app/cli:$1
try push-too $2 push $world_registry/app/cli:$1-too
try save $2 save -o saved.tar $world_registry/app/cli:$1
try rmi $2 rmi $world_registry/app/cli:$1-too
try load $2 load -i saved.tar
try pull $2 pull $world_busybox
SCRIPT
}

expect_docker_job() {
    expect_eq "$STATE" success
    expect_step version 0
    expect_step info 0
    expect_step build 0 "Successfully tagged $world_registry/app/cli:$1"
    expect_step tag 0
    expect_step images 0 app/cli "$1-too"
    expect_step inspect 0 "$1"
    expect_step push 0 "$(world_registry_digest "app/cli:$1")"
    expect_step push-too 0
    expect_step save 0
    expect_step rmi 0 "Untagged: $world_registry/app/cli:$1-too"
    expect_step load 0 "Loaded image: $world_registry/app/cli:$1"
    expect_step pull 0 "$world_busybox"
    [[ -n $(world_registry_digest "app/cli:$1") ]]
    [[ $(world_registry_digest "app/cli:$1") == "$(world_registry_digest "app/cli:$1-too")" ]]
}

TEST "the standard job with docker:dind passes with the shim and no service is started" {
    run_steps 4101 "try resolves sh -c 'getent hosts docker'
$(docker_job 4101 docker)" '.services = [{name: "docker:27.5-dind", alias: "docker", command: ["--insecure-registry=registry.example"]}]
        | .variables += [{key: "DOCKER_HOST", value: "tcp://docker:2375", public: true}, {key: "DOCKER_TLS_CERTDIR", value: "", public: true}]'

    expect_step resolves 0 127.0.0.1
    expect_contains "$TRACE" "docker:27.5-dind: not started, slipway's broker takes its place; without effect: its command; for --insecure-registry: the operator"
    expect_lacks "$TRACE" "Pulling docker:27.5-dind"
    expect_eq "$(grep -c "docker:27.5-dind" <<<"$TRACE")" 1 "lines that name the service"
    expect_docker_job 4101
}

TEST "Debian's docker client passes the same job over the socket" {
    # As it is by itself: the ping says which builder there is.
    run_steps 4102 "unset DOCKER_BUILDKIT
$(docker_job 4102 /opt/real-docker)" ".image.name = \"$world_registry/base/docker-cli:12\""

    expect_step version 0 20.10.24
    expect_docker_job 4102
}

TEST "Debian's docker client passes the same job over TCP" {
    run_steps 4103 "export DOCKER_BUILDKIT=0
$(docker_job 4103 /opt/real-docker)" ".image.name = \"$world_registry/base/docker-cli:12\"
        | .services = [{name: \"docker:dind\"}]
        | .variables += [{key: \"DOCKER_HOST\", value: \"tcp://docker:2375\", public: true}]"

    expect_docker_job 4103
}

TEST "Debian's docker client passes the same job over TLS" {
    run_steps 4104 "export DOCKER_BUILDKIT=0
$(docker_job 4104 /opt/real-docker)
try wrong env DOCKER_TLS_VERIFY= DOCKER_CERT_PATH= /opt/real-docker version" ".image.name = \"$world_registry/base/docker-cli:12\"
        | .services = [{name: \"$world_registry/mirror/docker:20.10.24-dind\", alias: \"docker\"}]
        | .variables += [{key: \"DOCKER_HOST\", value: \"tcp://docker:2376\", public: true},
            {key: \"DOCKER_TLS_CERTDIR\", value: \"/tls-here\", public: true}, {key: \"DOCKER_TLS_VERIFY\", value: \"1\", public: true},
            {key: \"DOCKER_CERT_PATH\", value: \"\$DOCKER_TLS_CERTDIR/client\", public: true}]"

    expect_docker_job 4104
    expect_step wrong 1
}

TEST "the certificates are in /certs/client, for a job that names /certs and for one that names nothing" {
    run_steps 4105 "export DOCKER_BUILDKIT=0
$(docker_job 4105 /opt/real-docker)" ".image.name = \"$world_registry/base/docker-cli:12\"
        | .services = [{name: \"docker:27.5-dind\"}]
        | .variables += [{key: \"DOCKER_HOST\", value: \"tcp://docker:2376\", public: true},
            {key: \"DOCKER_TLS_CERTDIR\", value: \"/certs\", public: true}, {key: \"DOCKER_TLS_VERIFY\", value: \"1\", public: true},
            {key: \"DOCKER_CERT_PATH\", value: \"\$DOCKER_TLS_CERTDIR/client\", public: true}]"
    expect_docker_job 4105

    local id=4106 more
    for more in '' ", {key: \"DOCKER_TLS_CERTDIR\", value: \"/certs/\", public: true}"; do
        run_steps "$id" 'try files ls /certs/client
try version /opt/real-docker --tlsverify --tlscacert /certs/client/ca.pem --tlscert /certs/client/cert.pem --tlskey /certs/client/key.pem version
try images /opt/real-docker images
try nobody env -u DOCKER_CERT_PATH HOME=/nowhere /opt/real-docker version' ".image.name = \"$world_registry/base/docker-cli:12\"
            | .variables += [{key: \"DOCKER_HOST\", value: \"tcp://docker:2376\", public: true},
                {key: \"DOCKER_TLS_VERIFY\", value: \"1\", public: true},
                {key: \"DOCKER_CERT_PATH\", value: \"/certs/client\", public: true}$more]"
        expect_eq "$STATE" success
        expect_step files 0 ca.pem cert.pem key.pem
        expect_step version 0 20.10.24
        expect_step images 0 REPOSITORY
        # The control: without them nobody is let in.
        expect_step nobody 1
        id=$((id + 1))
    done
}

TEST "nothing of the jobs is left" {
    expect_eq "$(with_cgroup2_as_user podman ps --all --quiet --filter label=io.slipway.job)" "" containers
    expect_eq "$(with_cgroup2_as_user podman network ls --quiet --filter name=slipway-j)" "" networks
    expect_eq "$(with_cgroup2_as_user podman volume ls --quiet --filter name=slipway-j)" "" volumes
}
