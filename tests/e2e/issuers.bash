# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Who may mint, issuer by issuer (doubles: tests/lib/issuer_doubles.py): slipway can, with what the operator gave it; a job
# cannot, with all that it holds, though its network reaches issuer and registry; and where it can, slipway says so.
# Harbor is in credentials.bash, Vault in vault.bash, the job's own login in registry.bash.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

issuers_port=5461
imds_port=5462
google_pool=//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/ci/providers

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
    /usr/bin/python3 -c 'import botocore' 2>/dev/null || echo "python3-botocore is not installed"
}

SUITE_SETUP() {
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_tools
    state=$world_dir/issuers
    issuers=$env_address:$issuers_port
    mkdir "$state"
    local name
    for name in host gitlab app; do openssl genrsa -out "$state/$name.pem" 2048 2>/dev/null; done
    echo glpat-only-the-operator-knows >"$state/gitlab-token"
    echo dckr_pat_only-the-operator-knows >"$state/hub-token"
    echo own-only-the-operator-knows >"$state/own-secret"
    # Where nothing else is that jobs need: sandboxes are kept from the whole address.
    imds=$env_gitlab_address:$imds_port
    env_serve issuers "$issuers_port" /usr/bin/python3 "$env_lib/issuer_doubles.py" --listen "$issuers" --imds "$imds" \
        --cert "$env_tls/servers.pem" --key "$env_tls/servers-key.pem" --signer-cert "$env_tls/token-signer.pem" \
        --signer-key "$env_tls/token-signer-key.pem" --users "$world_dir/users.json" --state "$state"
    jq '.fixed = {password: "fixed-only-the-operator-knows", repos: {"grp/*": ["pull", "push"]}}' "$world_dir/users.json" >users.json
    mv users.json "$world_dir/users.json"
    operator_files
    operator_config
}

SUITE_TEARDOWN() {
    world_stop
}

# sign KEY.pem CLAIMS ARGS...: CLAIMS as jq makes them, with its ARGS.
sign() { python3 "$env_lib/id_tokens.py" sign --signer "$1" "$(jq -cn "${@:3}" "$2")"; }
# A token as the identity provider of slipway's machine signs it; and as GitLab does for whatever audience a job asks for.
host_token() {
    sign "$state/host.pem" '{iss: "https://identity.host.example", sub: "slipway-host-7", $aud, exp: (now + 3600 | floor)}' --arg aud "$1"
}
id_token() {
    sign "$state/gitlab.pem" '{iss: "https://gitlab.example", sub: "project_path:grp/app:ref_type:branch:ref:main", $aud,
        exp: (now + 3600 | floor)}' --arg aud "$1"
}

# What only the service user can read.
operator_files() {
    local etc=$world_dir/etc
    cp "$state/app.pem" "$state/gitlab-token" "$state/hub-token" "$etc"
    printf fixed-only-the-operator-knows >"$etc/fixed"
    echo "Authorization: Bearer $(cat "$state/own-secret")" >"$etc/own-header"
    host_token quay.example >"$etc/quay-token"
    host_token sts.amazonaws.com >"$etc/aws-token"
    host_token "https:$google_pool/hosts" >"$etc/google-token"
    host_token api://AzureADTokenExchange >"$etc/azure-token"
    local ask="curl --silent --show-error --fail --max-time 20 --cacert $env_tls/ca.pem --header @$etc/own-header"
    cat >"$etc/own" <<PROGRAM
#!/bin/bash
set -euo pipefail
request=\$(cat)
case \$1 in
mint) jq '{name: .lease_name, repository, actions, lifetime}' <<<"\$request" | $ask --json @- https://$issuers/own/tokens |
    jq '{username, password, expires_at, lease_id: .id, scoped_to_repository: true}' ;;
revoke) $ask --request DELETE "https://$issuers/own/tokens/\$(jq -r .lease_id <<<"\$request")" ;;
list) $ask "https://$issuers/own/tokens?prefix=\$(jq -r .prefix <<<"\$request")" | jq '{leases: map({lease_name: .id, lease_id: .id})}' ;;
esac
PROGRAM
    cat >"$etc/docker-credential-own" <<PROGRAM
#!/bin/bash
set -euo pipefail
[[ "\$1 \$(cat)" == "get $world_registry" ]]
jq -n '{name: "for the helper", repository: "grp/*", actions: ["pull", "push"], lifetime: 600}' |
    $ask --json @- https://$issuers/own/tokens | jq '{Username: .username, Secret: .password}'
PROGRAM
    chown "$world_user" "$etc"/{app.pem,gitlab-token,hub-token,fixed,own-header,{quay,aws,google,azure}-token,own,docker-credential-own}
    chmod 400 "$etc"/{app.pem,gitlab-token,hub-token,fixed,own-header,{quay,aws,google,azure}-token}
    chmod 500 "$etc"/{own,docker-credential-own}
}

operator_config() {
    local etc=$world_dir/etc
    sed -i 's/^credential = "operator"$/credential = "issuer"\nissuer = "gitlab"/' "$world_config"
    cat >"$world_dir/etc/policy.d/90-world.toml" <<TOML
[[rule]]
project = "*"
repositories = ["$world_registry/grp/*"]
static_credentials = ["fixed"]
TOML
    entry gitlab gitlab_deploy_token "url = \"https://$issuers\"" "token_file = \"$etc/gitlab-token\""
    entry quay quay "url = \"https://$issuers\"" 'robot = "grp+push"' "token_file = \"$etc/quay-token\"" 'repository = "grp/quay"'
    entry quay-jobs quay "url = \"https://$issuers\"" 'robot = "grp+jobs"' 'token_variable = "QUAY_ID_TOKEN"' 'repository = "grp/quay-jobs"'
    entry github github "url = \"https://$issuers\"" 'app_id = "Iv23liSlipway"' 'installation_id = "42"' "private_key_file = \"$etc/app.pem\""
    entry hub dockerhub "url = \"https://$issuers\"" 'organisation = "grp"' 'username = "grp-owner"' "secret_file = \"$etc/hub-token\""
    entry aws ecr "sts_url = \"https://$issuers\"" "ecr_url = \"https://$issuers\"" 'region = "eu-central-1"' \
        'role_arn = "arn:aws:iam::123456789012:role/slipway-push"' "web_identity_token_file = \"$etc/aws-token\""
    entry ec2 ecr "sts_url = \"https://$issuers\"" "ecr_url = \"https://$issuers\"" 'region = "eu-central-1"' \
        'role_arn = "arn:aws:iam::123456789012:role/slipway-push"' 'identity = "instance_role"' "metadata_url = \"http://$imds\"" 'plain_http = true'
    entry google gar "sts_url = \"https://$issuers\"" "iam_url = \"https://$issuers\"" "audience = \"$google_pool/hosts\"" \
        'service_account = "push@proj.iam.gserviceaccount.com"' "subject_token_file = \"$etc/google-token\""
    entry azure acr "authority_url = \"https://$issuers\"" "registry_url = \"https://$issuers\"" \
        'tenant = "66666666-7777-8888-9999-000000000000"' 'client_id = "11111111-2222-3333-4444-555555555555"' \
        "client_assertion_file = \"$etc/azure-token\""
    local environment='environment = ["PATH=/usr/bin:/bin"]'
    entry own command "argv = [\"$etc/own\", \"mint\"]" "revoke_argv = [\"$etc/own\", \"revoke\"]" "list_argv = [\"$etc/own\", \"list\"]" "$environment"
    entry helper docker_helper "program = \"$etc/docker-credential-own\"" "registry = \"$world_registry\"" 'lifetime = "10m"' "$environment"
    entry fixed static 'username = "fixed"' "password_file = \"$etc/fixed\"" 'reason = "shown in a test"'
}

# entry NAME TYPE LINES...
entry() {
    printf '\n[[credential]]\nname = "%s"\ntype = "%s"\n' "$1" "$2"
    [[ $2 =~ ^(command|docker_helper|static)$ ]] || printf 'ca_file = "%s"\n' "$env_tls/ca.pem"
    printf '%s\n' "${@:3}"
} >>"$world_config"

slipway_as_user() {
    "$env_lib/as-user" "$world_user" "$world_bin/slipway" --config "$world_config" "$@"
}

# How many of the issuer's logins live; and the end of the last one.
live() { jq --arg issuer "$1" '[.[] | select(.issuer == $issuer and .expires_at > now)] | length' "$state/grants.json"; }
last_end() { jq --arg issuer "$1" '[.[] | select(.issuer == $issuer)] | last.expires_at' "$state/grants.json"; }

# The functions down to with() run in jobs. ask: one call, whose answer field and element read (JSON, XML).
ask() {
    local rc
    curl --silent --show-error --insecure --fail-with-body --max-time 30 --output answer "$@" || {
        rc=$?
        cat answer >&2
        return "$rc"
    }
}
field() { sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p' answer; }
element() { sed -n 's/.*<'"$1"'>\([^<]*\)<.*/\1/p' answer; }

# sign_in KEY SECRET TOKEN: ECR's login, by the keys of a session.
sign_in() {
    ask --aws-sigv4 aws:amz:eu-central-1:ecr --user "$1:$2" --header "X-Amz-Security-Token: $3" --data '{}' \
        --header "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" \
        --header "Content-Type: application/x-amz-json-1.1" "https://$issuers/" && field authorizationToken | base64 -d
}

# with TAG FACTOR MINT: MINT makes a login with FACTOR and prints it; it pushes under TAG.
with() {
    local login
    login=$($3 "$2") && /opt/push-by-hand "$repository" "$login" "$1"
}

# job ID NAME ISSUER REPOSITORY USER ID_TOKEN FACTOR MINT: with the [[credential]] NAME in use, a job that no network holds
# back mints at ISSUER by MINT and pushes, with its job token, with ID_TOKEN and with the operator's FACTOR, which is the
# control; shows the registry its tokens themselves, as USER too; and pushes through slipway. Each has a tag of its own.
job() {
    local id=$1 name=$2 user=$5 id_token=$6 factor=$7 mint=$8
    issuer=$3 repository=$4
    sed -i "s/^issuer = .*/issuer = \"$name\"/" "$world_config"
    live_before=$(live "$issuer")
    FACTOR=$factor ID_TOKEN=$id_token with_sandbox 'block_registries = false' run_steps "$id" "
$(declare -f ask field element sign_in with "$mint")
issuers=$issuers imds=$imds google_pool=$google_pool repository=$repository
try job-token with job-token \"\$CI_JOB_TOKEN\" $mint
try id-token with id-token \"\$ID_TOKEN\" $mint
for user in gitlab-ci-token $user bearer; do
    for token in CI_JOB_TOKEN ID_TOKEN; do
        try \$user-\$token /opt/push-by-hand $repository \"\$user:\${!token}\" bare
    done
done
try control with control \"\$FACTOR\" $mint
printf 'FROM $tiny\nRUN head -c 100000 /dev/urandom >/data\n' >Dockerfile
docker build -t $world_registry/$repository:through .
docker push $world_registry/$repository:through" \
        ".image.name = \"$world_tools\" | .variables += [{key: \"ID_TOKEN\", value: env.ID_TOKEN},
            {key: \"QUAY_ID_TOKEN\", value: env.ID_TOKEN}, {key: \"FACTOR\", value: env.FACTOR}]"
}

# The registry's own word on which pushes came through.
tags() {
    env_skopeo list-tags --creds slipway:only-slipway-knows-this "docker://$world_registry/$repository" | jq -r '.Tags | sort | join(" ")'
}

# What slipway pushed is there, by a login of its own.
slipway_pushed() {
    expect_eq "$STATE" success
    expect_contains "$TRACE" "digest   $(world_registry_digest "$repository:through")"
    minted=$(jq -c --arg repository "$world_registry/$repository" 'select(.event == "credential_minted" and .repository == $repository)' \
        "$world_state_dir/audit.jsonl" | tail -n 1)
    [[ -n $minted ]]
}

# job_alone_cannot WORDS [STATUS]: the control pushed, and no other step of the job; its mints ended with STATUS, and with these
# words with the ID token.
job_alone_cannot() {
    expect_step control 0 "pushed $repository by hand"
    expect_step job-token "${2:-22}"
    expect_step id-token "${2:-22}" "$1"
    expect_eq "$(grep -c '^>>.*-\(CI_JOB\|ID\)_TOKEN 22$' <<<"$TRACE")" 6 "tokens that the registry refused"
    expect_eq "$(tags)" "control through" "what was pushed"
    expect_lacks "$TRACE" bypassable
    expect_eq "$(jq -r .bypassable <<<"$minted")" null "bypassable in the audit log"
}

# Of what was minted, the control's login is left, and no lease.
slipways_is_gone() {
    expect_contains "$TRACE" "minted for this push, revoked"
    expect_eq "$(live "$issuer")" "$((live_before + 1))" "logins that live at the issuer"
    expect_lacks "$(slipway_as_user leases)" "$repository"
}

# It lives on, and slipway tells until when.
slipways_is_listed() {
    local ends skew
    ends=$(slipway_as_user leases | awk -v repository="$world_registry/$repository" '$3 == repository { print $5 }' | tail -n 1)
    skew=$(($(date -d "$ends" +%s) - $(last_end "$issuer")))
    expect_contains "$TRACE" "minted for this push, not revoked, ends $ends: this issuer's credentials cannot be revoked"
    expect_eq "$(live "$issuer")" "$((live_before + 2))" "logins that live at the issuer"
    ((${skew#-} <= 60)) || fail "slipway tells the end $ends, which is $skew s from the issuer's"
}

TEST "GitLab deploy token: the operator's access token makes one, a job token or an ID token none" {
    mint() {
        local kind=PRIVATE-TOKEN
        [[ $1 != glcbt-* ]] || kind=JOB-TOKEN
        ask --header "$kind: $1" --json '{"name": "mine", "scopes": ["read_registry", "write_registry"]}' \
            "https://$issuers/api/v4/projects/grp%2Fapp/deploy_tokens" && echo "$(field username):$(field token)"
    }
    job 4201 gitlab gitlab grp/app/gitlab gitlab+deploy-token-1 "$(id_token https://gitlab.example)" "$(cat "$state/gitlab-token")" mint

    slipway_pushed
    job_alone_cannot "401 Unauthorized"
    slipways_is_gone
}

TEST "Quay: the token of slipway's machine is the robot's login, a job's ID token is not" {
    mint() { ask --user "grp+push:$1" "https://$issuers/oauth2/federation/robot/token" && echo "grp+push:$(field token)"; }
    job 4202 quay quay grp/quay grp+push "$(id_token quay.example)" "$(host_token quay.example)" mint

    slipway_pushed
    job_alone_cannot "issuer https://gitlab.example not configured for this robot"
    slipways_is_listed
}

TEST "Quay with token_variable: the job mints the same and pushes past the gate, and slipway says so" {
    mint() { ask --user "grp+jobs:$1" "https://$issuers/oauth2/federation/robot/token" && echo "grp+jobs:$(field token)"; }
    job 4203 quay-jobs quay grp/quay-jobs grp+jobs "$(id_token quay.example)" "$(host_token quay.example)" mint

    slipway_pushed
    expect_step id-token 0 "pushed grp/quay-jobs by hand"
    expect_step job-token 22 "Invalid token"
    expect_step control 22 "issuer https://identity.host.example not configured for this robot"
    expect_eq "$(tags)" "id-token through" "what was pushed"
    expect_contains "$TRACE" "; bypassable: the job itself can mint the same"
    expect_eq "$(jq -r .bypassable <<<"$minted")" "the job itself can mint the same"
    slipways_is_listed
}

TEST "GitHub: what the app's key signs makes a token, a job's tokens make none" {
    mint() {
        ask --header "Authorization: Bearer $1" --json '{"permissions": {"packages": "write"}}' \
            "https://$issuers/app/installations/42/access_tokens" && echo "x-access-token:$(field token)"
    }
    app=$(sign "$state/app.pem" '{iss: "Iv23liSlipway", iat: (now - 60 | floor), exp: (now + 300 | floor)}')
    job 4204 github github grp/app/github x-access-token "$(id_token https://api.github.com)" "$app" mint

    slipway_pushed
    job_alone_cannot "could not be decoded"
    slipways_is_gone
}

TEST "Docker Hub: an owner's token makes one of a repository, a job's tokens make none" {
    mint() {
        ask --json "{\"identifier\": \"grp-owner\", \"secret\": \"$1\"}" "https://$issuers/v2/auth/token" &&
            ask --header "Authorization: Bearer $(field access_token)" --json '{"label": "mine", "resources": [{"type": "TYPE_REPO",
                "path": "grp/hub", "scopes": ["scope-image-pull", "scope-image-push"]}]}' "https://$issuers/v2/orgs/grp/access-tokens" &&
            echo "grp:$(field token)"
    }
    job 4205 hub dockerhub grp/hub grp "$(id_token https://hub.docker.com)" "$(cat "$state/hub-token")" mint

    slipway_pushed
    job_alone_cannot "Incorrect authentication credentials"
    slipways_is_gone
}

TEST "ECR: the role trusts slipway's machine and not GitLab's tokens, though the account knows their issuer" {
    mint() {
        ask --data Action=AssumeRoleWithWebIdentity --data Version=2011-06-15 --data RoleSessionName=mine \
            --data RoleArn=arn:aws:iam::123456789012:role/slipway-push --data "WebIdentityToken=$1" "https://$issuers/" &&
            sign_in "$(element AccessKeyId)" "$(element SecretAccessKey)" "$(element SessionToken)"
    }
    job 4206 aws ecr grp/app/ecr AWS "$(id_token sts.amazonaws.com)" "$(host_token sts.amazonaws.com)" mint

    slipway_pushed
    job_alone_cannot "Not authorized to perform sts:AssumeRoleWithWebIdentity"
    slipways_is_listed
    # The role may push to all of grp/*, and slipway's session to the one repository.
    expect_eq "$(jq -c '[.[] | select(.issuer == "ecr") | .repos] | [first, last]' "$state/grants.json")" \
        '[{"grp/*":["pull","push"]},{"grp/app/ecr":["pull","push"]}]' "what the control's login and slipway's may"
}

# mint_by_role [KEYS]: with the keys of the instance's role (ID SECRET TOKEN), or with what the metadata service says they are.
mint_by_role() {
    local key secret session header=X-aws-ec2-metadata-token role=latest/meta-data/iam/security-credentials/ci-host
    read -r key secret session <<<"$1"
    if [[ -z $session ]]; then
        ask --request PUT --header "$header-ttl-seconds: 60" "http://$imds/latest/api/token" &&
            ask --header "$header: $(cat answer)" "http://$imds/$role" || return
        key=$(field AccessKeyId) secret=$(field SecretAccessKey) session=$(field Token)
    fi
    ask --aws-sigv4 aws:amz:eu-central-1:sts --user "$key:$secret" --header "X-Amz-Security-Token: $session" --data Action=AssumeRole \
        --data Version=2011-06-15 --data RoleSessionName=mine --data RoleArn=arn:aws:iam::123456789012:role/slipway-push "https://$issuers/" &&
        sign_in "$(element AccessKeyId)" "$(element SecretAccessKey)" "$(element SessionToken)"
}

TEST "ECR with the instance's role: no job reaches the metadata service, whatever else it reaches" {
    mkdir machine
    keys=$(cd machine && ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "http://$imds/latest/api/token" &&
        ask --header "X-aws-ec2-metadata-token: $(cat answer)" "http://$imds/latest/meta-data/iam/security-credentials/ci-host" &&
        echo "$(field AccessKeyId) $(field SecretAccessKey) $(field Token)")
    job 4207 ec2 ecr grp/app/ec2 AWS "$(id_token sts.amazonaws.com)" "$keys" mint_by_role

    slipway_pushed
    job_alone_cannot "Failed to connect to ${imds%:*}" 7
    slipways_is_listed
}

TEST "control: where no entry uses the instance's role, every job is that role and pushes" {
    cp "$world_config" kept-config
    sed -i '/^name = "ec2"$/,/^plain_http/s,^identity = .*,web_identity_token_file = "'"$world_dir/etc/aws-token"'",' "$world_config"
    job 4208 ec2 ecr grp/app/role AWS "$(id_token sts.amazonaws.com)" - mint_by_role
    cp kept-config "$world_config"

    expect_step job-token 0 "pushed grp/app/role by hand"
    expect_eq "$(tags)" "control id-token job-token through" "what was pushed"
}

TEST "Artifact Registry: the service account is for slipway's machine and not for jobs, though the pool knows GitLab" {
    mint() {
        local provider=hosts type=urn:ietf:params:oauth:token-type
        [[ $1 != "$ID_TOKEN" ]] || provider=gitlab
        ask --data grant_type=urn:ietf:params:oauth:grant-type:token-exchange --data "audience=$google_pool/$provider" \
            --data scope=https://www.googleapis.com/auth/cloud-platform --data requested_token_type=$type:access_token \
            --data subject_token_type=$type:jwt --data "subject_token=$1" "https://$issuers/v1/token" &&
            ask --header "Authorization: Bearer $(field access_token)" --json '{"scope": ["https://www.googleapis.com/auth/cloud-platform"]}' \
                "https://$issuers/v1/projects/-/serviceAccounts/push%40proj.iam.gserviceaccount.com:generateAccessToken" &&
            echo "oauth2accesstoken:$(field accessToken)"
    }
    job 4209 google gar grp/app/gar oauth2accesstoken "$(id_token "https:$google_pool/gitlab")" "$(host_token "https:$google_pool/hosts")" mint

    slipway_pushed
    job_alone_cannot "Permission 'iam.serviceAccounts.getAccessToken' denied"
    slipways_is_listed
}

TEST "ACR: the app has a federated credential for slipway's machine and none for GitLab's tokens" {
    mint() {
        local tenant=66666666-7777-8888-9999-000000000000
        ask --data grant_type=client_credentials --data client_id=11111111-2222-3333-4444-555555555555 --data "client_assertion=$1" \
            --data client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
            --data scope=https://containerregistry.azure.net/.default "https://$issuers/$tenant/oauth2/v2.0/token" &&
            ask --data grant_type=access_token --data "service=$issuers" --data tenant=$tenant \
                --data "access_token=$(field access_token)" "https://$issuers/oauth2/exchange" &&
            ask --data grant_type=refresh_token --data "service=$issuers" --data "scope=repository:$repository:pull,push" \
                --data "refresh_token=$(field refresh_token)" "https://$issuers/oauth2/token" && echo "bearer:$(field access_token)"
    }
    job 4210 azure acr grp/app/acr 00000000-0000-0000-0000-000000000000 "$(id_token api://AzureADTokenExchange)" \
        "$(host_token api://AzureADTokenExchange)" mint

    slipway_pushed
    job_alone_cannot AADSTS70021
    slipways_is_listed
}

mint_own() {
    ask --header "Authorization: Bearer $1" --json '{"name": "mine", "repository": "grp/*", "actions": ["pull", "push"], "lifetime": 600}' \
        "https://$issuers/own/tokens" && echo "$(field username):$(field password)"
}

TEST "command: the operator's program mints with a secret that no job has, and ends what it minted" {
    job 4211 own own grp/app/own own-1 "$(id_token own)" "$(cat "$state/own-secret")" mint_own

    slipway_pushed
    job_alone_cannot unauthorized
    slipways_is_gone
}

TEST "docker_helper: what the helper asks with no job has, and what it hands out is listed with its end" {
    job 4212 helper own grp/app/helper own-1 "$(id_token own)" "$(cat "$state/own-secret")" mint_own

    slipway_pushed
    job_alone_cannot unauthorized
    slipways_is_listed
}

TEST "static: the password opens the registry, a job's tokens do not, and slipway says that it does not end" {
    mint() { echo "fixed:$1"; }
    job 4213 fixed static grp/app/fixed fixed "$(id_token fixed)" fixed-only-the-operator-knows mint

    slipway_pushed
    job_alone_cannot 401
    expect_contains "$TRACE" 'static "fixed", a password that does not end, 0 days old (shown in a test)'
    expect_eq "$(jq -r .static <<<"$minted")" "shown in a test"
    expect_lacks "$(slipway_as_user leases)" grp/app/fixed
}

TEST "slipway doctor says of each issuer what it can do, and which of them a job can use" {
    OUTPUT=$(slipway_as_user doctor) || true
    said=$(awk '/^credential / { name = $2 } /^  revocable / { print name, $2, $4, $6 }' <<<"$OUTPUT" | tr -d '",')
    echo "$OUTPUT"

    expect_eq "$said" "gitlab yes yes no
quay no no no
quay-jobs no no yes
github yes no no
hub yes yes no
aws no no no
ec2 no no no
google no no no
azure no no no
own yes yes no
helper no no no
fixed no no no" "revocable, listable, bypassable"
    expect_contains "$OUTPUT" "a job can mint the same and push past the gate"
}

TEST "no secret of an operator or an issuer is in slipway's files and logs" {
    jq -r '.[] | arrays | .[].password' "$world_dir/users.json" >secrets
    echo only-the-operator-knows >>secrets
    found=$(grep -rlF -f secrets "$world_state_dir" "$env_runtime_dir" "$world_dir/log" 2>/dev/null || true)
    expect_eq "$found" "" "files with a secret"
    # The control: the same words are found where they belong.
    expect_eq "$(grep -rlF -f secrets "$world_dir/etc" "$world_dir/users.json" | wc -l)" 5 "files that hold them"
}
