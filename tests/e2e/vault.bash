# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A real Vault in dev mode as the issuer. Its engine `rabbitmq` makes accounts over an API that tests/lib/rabbitmq_server.py
# answers; they are users of the registry's token server. Leases, logins and their end are Vault's own.

# shellcheck source=tests/lib/world.sh
. "$SUITE_ROOT/tests/lib/world.sh"
# shellcheck source=tests/lib/steps.sh
. "$SUITE_ROOT/tests/lib/steps.sh"
# shellcheck source=tests/lib/test_images.sh
. "$SUITE_ROOT/tests/lib/test_images.sh"

vault_port=5448
accounts_port=5449
proxy_port=5447
root_token=only-for-setting-up-this-vault

PROBE() {
    ((EUID == 0)) || echo "needs root"
    [[ -x $SLIPWAY_BIN/slipway ]] || echo "slipway is not built"
}

SUITE_SETUP() {
    local tool
    tool=$("$SUITE_ROOT/packaging/tools/build" vault)
    world_start "$SUITE_DIR/world"
    make_tiny_base
    publish_tools
    start_proxy "$proxy_port"
    env_serve accounts "$accounts_port" python3 "$env_lib/rabbitmq_server.py" --listen "$env_address:$accounts_port" \
        --account vault:only-vault-knows-this --users "$world_dir/users.json" --repositories 'grp/*'
    # Where sandboxes reach it: what a job can do there is Vault's to decide.
    vault_url=https://$env_gitlab_address:$vault_port
    mkdir "$world_dir/vault"
    env_serve_address=$env_gitlab_address env_serve vault "$vault_port" env HOME="$world_dir/vault" "$tool/bin/vault" server -dev \
        -dev-tls -dev-tls-cert-dir="$world_dir/vault" -dev-tls-san="$env_gitlab_address" -dev-no-store-token \
        -dev-root-token-id="$root_token" -dev-listen-address="$env_gitlab_address:$vault_port"
    chmod 755 "$world_dir/vault"
    chmod 644 "$world_dir/vault/vault-ca.pem"
    until_true 20 vault sys/mounts/rabbitmq '{"type": "rabbitmq"}'
    root_accessor=$(vault auth/token/lookup-self | jq -r .data.accessor)
    vault rabbitmq/config/connection "{\"connection_uri\": \"http://$env_address:$accounts_port\", \"username\": \"vault\",
        \"password\": \"only-vault-knows-this\", \"verify_connection\": false}"
    vault rabbitmq/config/lease '{"ttl": 600, "max_ttl": 600}'
    vault rabbitmq/roles/push '{"tags": "push"}'
    vault sys/policies/acl/push '{"policy": "path \"rabbitmq/creds/push\" { capabilities = [\"read\"] } path \"sys/leases/revoke\" { capabilities = [\"update\"] }"}'
    vault sys/auth/approle '{"type": "approle"}'
    vault auth/approle/role/slipway '{"token_policies": "push", "token_ttl": 1200}'
    role_id=$(vault auth/approle/role/slipway/role-id | jq -r .data.role_id)
    vault auth/approle/role/slipway/secret-id '{}' | jq -j .data.secret_id >"$world_dir/etc/secret-id"
    chown "$world_user" "$world_dir/etc/secret-id"
    chmod 400 "$world_dir/etc/secret-id"
    # A job's ID token is believed, and good for nothing.
    vault sys/auth/jwt '{"type": "jwt"}'
    vault auth/jwt/config "$(jq -n --rawfile pem "$env_tls/token-signer.pem" '{jwt_validation_pubkeys: [$pem]}')"
    id_tokens_are_for default
    vault_config
}

SUITE_TEARDOWN() {
    world_stop
}

# vault PATH [BODY]: as root, a read or with BODY a write.
vault() {
    ip netns exec "$env_netns" curl --silent --show-error --fail --cacert "$world_dir/vault/vault-ca.pem" \
        --header "X-Vault-Token: $root_token" ${2:+--data "$2"} "$vault_url/v1/$1"
}

id_tokens_are_for() {
    vault auth/jwt/role/job "{\"role_type\": \"jwt\", \"user_claim\": \"project_id\", \"bound_audiences\": [\"vault\"],
        \"token_policies\": \"$1\", \"token_ttl\": 1200}"
}

vault_config() {
    cat >>"$world_config" <<TOML

[[registry]]
host = "$proxy"
ca_file = "$env_tls/ca.pem"
credential = "issuer"
issuer = "prod"
realm_hosts = ["$env_address:$env_token_port"]

[[credential]]
name = "prod"
type = "vault"
url = "$vault_url"
auth = "approle"
role_id = "$role_id"
secret_id_file = "$world_dir/etc/secret-id"
secret = "rabbitmq/creds/push"
ca_file = "$world_dir/vault/vault-ca.pem"
TOML
    printf '[[rule]]\nproject = "*"\nrepositories = ["%s/grp/*"]\n' "$proxy" >"$world_dir/etc/policy.d/90-world.toml"
}

# What Vault has out: leases of the engine, and logins but root's.
leases_at_vault() { vault 'sys/leases/lookup/rabbitmq/creds/push?list=true' 2>/dev/null | jq -r '.data.keys[]'; }
logins_at_vault() { vault 'auth/token/accessors?list=true' | jq -r '.data.keys[]' | grep -vF "$root_accessor" || true; }
accounts() { jq -r 'keys[] | select(test("-[0-9a-f]{8}-"))' "$world_dir/users.json"; }

nothing_is_out() {
    expect_eq "$(leases_at_vault)" "" "leases at Vault" && expect_eq "$(logins_at_vault)" "" "logins at Vault" &&
        expect_eq "$(accounts)" "" accounts
}

push_script() {
    cat <<SCRIPT
printf 'FROM $tiny\nRUN head -c 100000 /dev/urandom >/data\n' >Dockerfile
docker build -t $proxy/$1 .
docker push $proxy/$1
SCRIPT
}

# While the manifest is held: what is out goes to the files of the case; then COMMAND, and the push goes on.
at_the_manifest() {
    write "$world_dir/faults.json" "$manifest_held"
    : >"$world_dir/log/requests"
    (
        until_true 120 grep -q '"hold"' "$world_dir/log/requests"
        leases_at_vault >leases
        logins_at_vault >logins
        accounts >accounts
        "$@"
        write "$world_dir/faults.json" '{}'
    ) &
}

TEST "what Vault makes for a push is out during it, and Vault has ended login and lease after it" {
    at_the_manifest true
    run_script 4101 "$(push_script grp/app/vault:1)"
    wait

    expect_eq "$STATE" success
    expect_contains "$TRACE" 'login    vault "prod", minted for this push, revoked'
    expect_lacks "$TRACE" bypassable
    expect_eq "$(wc -l <leases) $(wc -l <logins) $(wc -l <accounts)" "1 1 1" "leases, logins and accounts during the push"
    nothing_is_out
    [[ -n $(world_registry_digest grp/app/vault:1) ]]
    expect_eq "$(jq -r 'select(any(.granted[]?; .name == "grp/app/vault" and (.actions | index("push")))) | .user' "$world_grants" | sort -u)" \
        "$(cat accounts)" "who pushed"
}

TEST "what a dead worker and a dead run left at Vault is ended by the cleanup, with a login of its own" {
    die() { kill -KILL $(run_pid) $(worker_pids); }
    at_the_manifest die
    run_script 4102 "$(push_script grp/app/dead:1)"
    wait

    expect_contains "$STATE" failed
    expect_eq "$(wc -l <leases)" 1 "leases during the push"
    expect_eq "$(leases_at_vault)" "" "leases at Vault"
    expect_eq "$(accounts)" "" accounts
    # The dead worker's login has its 20 minutes, and nobody who holds it; with revoke_by = "accessor" it would be ended too.
    expect_eq "$(logins_at_vault)" "$(cat logins)" "logins at Vault"
    vault auth/token/revoke-accessor "{\"accessor\": \"$(cat logins)\"}"
}

# id_token: as GitLab would sign it for a job, were the token server's key GitLab's.
id_token() {
    local text
    text=$(printf '{"alg":"RS256","typ":"JWT"}' | basenc --base64url -w0 | tr -d =).$(jq -cn '{iss: "https://gitlab.example",
        aud: "vault", sub: "project_path:grp/app", project_id: "42", exp: (now + 600 | floor), iat: (now | floor)}' | tr -d '\n' | basenc --base64url -w0 | tr -d =)
    printf '%s.%s' "$text" "$(printf '%s' "$text" | openssl dgst -sha256 -sign "$env_tls/token-signer-key.pem" | basenc --base64url -w0 | tr -d =)"
}

# mint_by_hand ID: a job that its network does not hold back mints at Vault with its own ID token and pushes with that; and
# through slipway.
mint_by_hand() {
    with_sandbox 'block_registries = false' run_steps "$1" "
to_vault() { curl --silent --insecure \"\$@\"; }
try approle to_vault --data '{\"role_id\": \"$role_id\", \"secret_id\": \"'\$TOKEN'\"}' --write-out '%{http_code}' $vault_url/v1/auth/approle/login
login=\$(to_vault --data '{\"role\": \"job\", \"jwt\": \"'\$TOKEN'\"}' $vault_url/v1/auth/jwt/login | sed -n 's/.*\"client_token\":\"\([^\"]*\)\".*/\1/p')
answer=\$(to_vault --header \"X-Vault-Token: \$login\" $vault_url/v1/rabbitmq/creds/push)
field() { sed -n \"s/.*\\\"\$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/p\" <<<\"\$answer\"; }
try push /opt/push-by-hand grp/app/by-hand-$1 \"\$(field username):\$(field password)\"
to_vault --header \"X-Vault-Token: \$login\" --request POST $vault_url/v1/auth/token/revoke-self
$(push_script "grp/app/through-$1:1")" ".image.name = \"$world_tools\" | .variables += ([\"TOKEN\", \"VAULT_ID_TOKEN\"] | map({key: ., value: \"$(id_token)\", masked: true}))"
}

TEST "a job's ID token opens nothing where Vault takes the AppRole alone" {
    mint_by_hand 4103

    expect_eq "$STATE" success
    expect_step approle 0 400
    expect_step push 22 401
    expect_absent grp/app/by-hand-4103:1
    nothing_is_out
}

TEST "a secret that the runner fetches for a job is looked for in what the job builds, and a service's variables may name it" {
    vault sys/policies/acl/app '{"policy": "path \"secret/data/app\" { capabilities = [\"read\"] }"}'
    vault auth/jwt/role/app '{"role_type": "jwt", "user_claim": "project_id", "bound_audiences": ["vault"], "token_policies": "app",
        "token_type": "batch"}' # the runner ends no login of its own
    vault secret/data/app '{"data": {"password": "f3tched-By-The-runner"}}'
    local world_runner_env=(VAULT_CACERT="$world_dir/vault/vault-ca.pem")
    run_steps 4105 "printf 'FROM $tiny\nARG PASSWORD\nRUN printf %%s \$PASSWORD >/app.conf\n' >Dockerfile
docker build -q --build-arg PASSWORD=\$DB_PASSWORD -t $proxy/grp/app/fetched:1 .
try push docker push $proxy/grp/app/fetched:1
try file docker build -q --secret id=pw,src=\$DB_FILE -t $proxy/grp/app/lent:1 .
try service /opt/busybox wget -q -O - http://web:8080/" ".image.name = \"$world_tools\"
        | .variables += [{key: \"VAULT_ID_TOKEN\", value: \"$(id_token)\", masked: true}]
        | .services = [{name: \"$world_tools\", alias: \"web\", variables: [{key: \"TOLD\", value: \"\$DB_PASSWORD in \$CI_PROJECT_DIR\"}],
            entrypoint: [\"/opt/busybox\"], command: [\"sh\", \"-c\", \"mkdir /www; printf %s \\\"\$TOLD\\\" | tee /told | rev >/www/index.html; base64 /told >>/www/index.html; exec /opt/busybox httpd -f -p 8080 -h /www\"]}]
        | .secrets = ({DB_PASSWORD: false, DB_FILE: true} | map_values({file: ., vault: {server: {url: \"$vault_url\", auth: {name: \"jwt\", path: \"jwt\",
            data: {role: \"app\", jwt: \"\$VAULT_ID_TOKEN\"}}}, engine: {name: \"kv-v2\", path: \"secret\"}, path: \"app\", field: \"password\"}}))"

    expect_eq "$STATE" success
    expect_step push 1 "[secret_leaked] The value of " DB_PASSWORD "layer sha256:" ", app.conf"
    expect_absent grp/app/fetched:1
    expect_step file 0
    # Turned round it is shown; an encoder's form is masked as the value is.
    expect_step service 0 "$(printf 'f3tched-By-The-runner in /builds/grp/app' | rev)" "[MASKED]IGluIC9idWlsZHMvZ3JwL2FwcA=="
    expect_lacks "$TRACE" f3tched-By-The-runner
}

TEST "control: with jwt_variable the job mints the same and pushes past the gate, and slipway says so" {
    id_tokens_are_for push
    cp "$world_config" kept-config
    sed -i 's/^auth = "approle"/auth = "jwt"\nrole = "job"\njwt_variable = "VAULT_ID_TOKEN"/; /^role_id/d; /^secret_id_file/d' "$world_config"
    mint_by_hand 4104
    cp kept-config "$world_config"

    expect_eq "$STATE" success
    expect_step push 0 "pushed grp/app/by-hand-4104 by hand"
    [[ -n $(world_registry_digest grp/app/by-hand-4104:1) ]]
    expect_contains "$TRACE" 'vault "prod", minted for this push, revoked; bypassable: the job itself can mint the same'
    expect_eq "$(jq -r 'select(.event == "credential_minted" and (.job | startswith("j4104-"))) | .bypassable' "$world_state_dir/audit.jsonl")" \
        "the job itself can mint the same"
    nothing_is_out
}
