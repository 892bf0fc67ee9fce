#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Issuers of registry logins, for tests (Python standard library, openssl; botocore recomputes AWS's signatures): what
slipway's providers call, checked as the vendors' documentation says that the real ones check it. They are none of them.

  issuer_doubles.py --listen HOST:PORT --imds HOST:PORT --cert PEM --key PEM --signer-cert PEM --signer-key PEM
                    --users JSON --state DIR

EC2's metadata service is an HTTP server of its own, all others are one with TLS. STATE holds the keys that they trust:
host.pem is that of HOST_ISSUER, the identity provider of slipway's machine, gitlab.pem of GITLAB_ISSUER, whose tokens jobs
have, and app.pem of a GitHub App; and the secrets of the operator, one line each: gitlab-token, hub-token, own-secret. What
lives is in STATE/grants.json, without its secret, and is a user of the token server (tests/lib/token_server.py reads the
same --users file). ACR's token is the registry's own, so that it is signed with the token server's key."""

import argparse
import base64
import calendar
import hashlib
import importlib
import json
import os
import re
import secrets
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from id_tokens import openssl
from local_server import LocalServer
from token_server import Issuer as TokenSigner

HOST_ISSUER, HOST_SUBJECT = "https://identity.host.example", "slipway-host-7"
GITLAB_ISSUER, GITLAB_SUBJECT = "https://gitlab.example", "project_path:grp/app:ref_type:branch:ref:main"
BOTH = ["pull", "push"]
HOUR = 3600


def rfc3339(at):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def from_rfc3339(text):
    return calendar.timegm(time.strptime(re.sub(r"\.\d+", "", text), "%Y-%m-%dT%H:%M:%SZ"))


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class PublicKey:
    def __init__(self, private):
        self.modulus = int(openssl("rsa", "-in", private, "-noout", "-modulus").decode().strip().partition("=")[2], 16)

    def claims_of(self, token):
        """The claims of a token that this key signed with RS256 (RFC 8017, 8.2.2); None of any other."""
        try:
            head, body, signature = token.split(".")
            header, claims = json.loads(unb64url(head)), json.loads(unb64url(body))
            signature = unb64url(signature)
        except ValueError:
            return None
        size = (self.modulus.bit_length() + 7) // 8
        info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(f"{head}.{body}".encode()).digest()
        padded = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
        if not isinstance(header, dict) or not isinstance(claims, dict) or header.get("alg") != "RS256" or len(signature) != size:
            return None
        return claims if pow(int.from_bytes(signature, "big"), 65537, self.modulus) == int.from_bytes(padded, "big") else None


class Refused(Exception):
    """The answer to a call that the issuer does not serve: status and body."""

    def __init__(self, status, body):
        super().__init__(status)
        self.status, self.body = status, body


class Call:
    """One request."""

    def __init__(self, method, target, headers, body):
        url = urllib.parse.urlsplit(target)
        self.method, self.target, self.path, self.headers, self.body = method, target, url.path, headers, body
        self.query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}

    def form(self):
        if self.headers.get("Content-Type") != "application/x-www-form-urlencoded":
            return {}
        return {key: values[0] for key, values in urllib.parse.parse_qs(self.body.decode()).items()}

    def json(self):
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        return value if isinstance(value, dict) else {}

    def bearer(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        return value if scheme == "Bearer" else ""

    def basic(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            name = password = ""
        return (name, password) if scheme == "Basic" else ("", "")


class World:
    """What the issuers share: whom they trust, and what is out."""

    def __init__(self, options):
        self.options, self.state, self.users = options, Path(options.state), Path(options.users)
        self.keys = {HOST_ISSUER: PublicKey(self.state / "host.pem"), GITLAB_ISSUER: PublicKey(self.state / "gitlab.pem")}
        self.lock, self.grants, self.count = threading.Lock(), [], 0
        self.save()

    def secret(self, name):
        return (self.state / name).read_text(encoding="utf-8").strip()

    def identity(self, token):
        """The claims of a token of one of the two identity providers, and None; or None and what is wrong with it."""
        for issuer, key in self.keys.items():
            claims = key.claims_of(token)
            if claims and claims.get("iss") == issuer:
                return (claims, None) if claims.get("exp", 0) > time.time() else (None, "expired")
        return None, "unknown"

    def grant(self, issuer, name, life, repos=None, username="", prefix=""):
        """Something that is good for `life` seconds; with `repos` it is a login there, `username` or one with its number."""
        self.count += 1
        one = {"issuer": issuer, "id": self.count, "name": name, "username": username.replace("#", str(self.count)),
               "password": prefix + secrets.token_urlsafe(24), "repos": repos, "made": int(time.time()),
               "expires_at": int(time.time()) + life}
        self.grants.append(one)
        self.save()
        return one

    def live(self, issuer):
        return [one for one in self.grants if one["issuer"] == issuer and one["expires_at"] > time.time()]

    def found(self, issuer, password):
        return next((one for one in self.live(issuer) if one["password"] == password), None)

    def end(self, one):
        self.grants.remove(one)
        self.save()

    def save(self):
        users = json.loads(self.users.read_text(encoding="utf-8"))
        users = {name: user for name, user in users.items() if not isinstance(user, list)}
        for one in self.grants:
            if one["repos"]:
                users.setdefault(one["username"], []).append(
                    {"password": one["password"], "repos": one["repos"], "expires_at": one["expires_at"]})
        shown = [{key: one[key] for key in ("issuer", "id", "name", "repos", "expires_at")} for one in self.grants]
        for path, value in ((self.users, users), (self.state / "grants.json", shown)):
            temporary = path.with_suffix(".new")
            temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
            os.replace(temporary, path)


class GitLab:
    """Deploy tokens of one project. Source: GitLab's API, deploy tokens; lib/api/deploy_tokens.rb."""

    project = "grp/app"
    routes = [("POST", r"/api/v4/projects/([^/]+)/deploy_tokens", "create"),
              ("GET", r"/api/v4/projects/([^/]+)/deploy_tokens", "listed"),
              ("DELETE", r"/api/v4/projects/([^/]+)/deploy_tokens/(\d+)", "delete")]

    def may(self, call, project):
        # A job token is no login here: these routes are not among those that take one.
        token = call.headers.get("PRIVATE-TOKEN") or call.bearer()
        if token != self.world.secret("gitlab-token"):
            raise Refused(401, {"message": "401 Unauthorized"})
        if urllib.parse.unquote(project) != self.project:
            raise Refused(404, {"message": "404 Project Not Found"})

    def shown(self, one):
        return {"id": one["id"], "name": one["name"], "username": one["username"], "expires_at": rfc3339(one["expires_at"]),
                "revoked": False, "expired": False}

    def create(self, call, project):
        self.may(call, project)
        body = call.json()
        scopes = body.get("scopes") or []
        if not body.get("name") or not scopes or not set(scopes) <= {"read_registry", "write_registry", "read_repository"}:
            return 400, {"error": "name is missing, scopes does not have a valid value"}
        actions = [action for scope, action in (("read_registry", "pull"), ("write_registry", "push")) if scope in scopes]
        end = from_rfc3339(body["expires_at"]) if body.get("expires_at") else int(time.time()) + 365 * 24 * HOUR
        made = self.world.grant("gitlab", body["name"], end - int(time.time()),
                                {self.project: actions, self.project + "/*": actions}, "gitlab+deploy-token-#", "gldt-")
        return 201, {**self.shown(made), "token": made["password"]}

    def listed(self, call, project):
        self.may(call, project)
        size, page = int(call.query.get("per_page", 20)), int(call.query.get("page", 1))
        return 200, [self.shown(one) for one in self.world.live("gitlab")][(page - 1) * size:page * size]

    def delete(self, call, project, number):
        self.may(call, project)
        for one in self.world.live("gitlab"):
            if one["id"] == int(number):
                self.world.end(one)
                return 204, {}
        return 404, {"message": "404 Deploy Token Not Found"}


class Quay:
    """Robot federation. Source: quay/quay, endpoints/oauth/robot_identity_federation.py, util/security."""

    # The second is how an operator lets jobs log in by themselves.
    robots = {"grp+push": {"issuer": HOST_ISSUER, "subject": HOST_SUBJECT, "repository": "grp/quay"},
              "grp+jobs": {"issuer": GITLAB_ISSUER, "subject": GITLAB_SUBJECT, "repository": "grp/quay-jobs"}}
    audience = "quay.example"
    routes = [("GET", r"/oauth2/federation/robot/token", "token")]

    def token(self, call):
        name, token = call.basic()
        robot = self.robots.get(name)
        if not robot:
            return 401, {"error": "Invalid robot"}
        claims, wrong = self.world.identity(token)
        if wrong:
            return 401, {"error": "Invalid token: " + wrong}
        if claims["iss"] != robot["issuer"]:
            return 401, {"error": f"issuer {claims['iss']} not configured for this robot"}
        if claims.get("sub") != robot["subject"]:
            return 401, {"error": "Token does not match robot"}
        if claims.get("aud") != self.audience:
            return 401, {"error": "Token audience is not allowed for this robot"}
        made = self.world.grant("quay", "", HOUR, {robot["repository"]: BOTH}, name)
        return 200, {"token": made["password"]}


class GitHub:
    """An app with one installation, which has packages: write. Source: GitHub's REST API, apps; JWT for a GitHub App."""

    app, installation = "Iv23liSlipway", "42"
    routes = [("POST", r"/app/installations/(\d+)/access_tokens", "create"), ("DELETE", r"/installation/token", "delete")]

    def create(self, call, installation):
        claims = PublicKey(self.world.state / "app.pem").claims_of(call.bearer())
        now = time.time()
        if not claims or claims.get("iss") != self.app:
            return 401, {"message": "A JSON web token could not be decoded"}
        if claims.get("iat", now + 60) > now or claims.get("exp", 0) <= now or claims["exp"] > now + 600:
            return 401, {"message": "'Expiration time' claim ('exp') is too far in the future"}
        if installation != self.installation:
            return 404, {"message": "Not Found"}
        asked = call.json().get("permissions") or {}
        if asked.get("packages") not in ("read", "write") or len(asked) != 1:
            return 422, {"message": "The permissions requested are not granted to this installation."}
        made = self.world.grant("github", "", HOUR, {"grp/*": BOTH if asked["packages"] == "write" else ["pull"]},
                                "x-access-token", "ghs_")
        return 201, {"token": made["password"], "expires_at": rfc3339(made["expires_at"]), "permissions": asked,
                     "repository_selection": "all"}

    def delete(self, call):
        one = self.world.found("github", call.bearer())
        if not one:
            return 401, {"message": "Bad credentials"}
        self.world.end(one)
        return 204, {}


class DockerHub:
    """Access tokens of one organisation. Source: Docker Hub API, authentication-api and org-access-tokens."""

    organisation, owner = "grp", "grp-owner"
    routes = [("POST", r"/v2/auth/token", "login"), ("POST", r"/v2/orgs/([^/]+)/access-tokens", "create"),
              ("GET", r"/v2/orgs/([^/]+)/access-tokens", "listed"),
              ("DELETE", r"/v2/orgs/([^/]+)/access-tokens/([\w-]+)", "delete")]

    def may(self, call, organisation):
        if not self.world.found("hub-login", call.bearer()):
            raise Refused(401, {"detail": "unauthorized"})
        if organisation != self.organisation:
            raise Refused(403, {"detail": "forbidden"})

    def login(self, call):
        body = call.json()
        if (body.get("identifier"), body.get("secret")) != (self.owner, self.world.secret("hub-token")):
            return 401, {"detail": "Incorrect authentication credentials"}
        return 200, {"access_token": self.world.grant("hub-login", self.owner, 600)["password"]}

    def create(self, call, organisation):
        self.may(call, organisation)
        body = call.json()
        repos = {}
        for resource in body.get("resources") or []:
            path = resource.get("path", "")
            if resource.get("type") != "TYPE_REPO" or not re.fullmatch(rf"{self.organisation}/[a-z0-9._-]+", path):
                return 400, {"detail": "invalid resource"}
            repos[path] = [scope.removeprefix("scope-image-") for scope in resource.get("scopes") or []]
        if not body.get("label") or not repos:
            return 400, {"detail": "label and resources are required"}
        end = from_rfc3339(body["expires_at"]) if body.get("expires_at") else int(time.time()) + 365 * 24 * HOUR
        made = self.world.grant("dockerhub", body["label"], end - int(time.time()), repos, organisation, "dckr_oat_")
        return 201, {**self.shown(made), "token": made["password"]}

    def shown(self, one):
        return {"id": f"a7a5ef25-{one['id']}", "label": one["name"], "is_active": True, "created_at": rfc3339(one["made"]),
                "expires_at": rfc3339(one["expires_at"])}

    def listed(self, call, organisation):
        self.may(call, organisation)
        live = self.world.live("dockerhub")
        size, page = int(call.query.get("page_size", 10)), int(call.query.get("page", 1))
        return 200, {"total": len(live), "next": "more" if page * size < len(live) else "",
                     "results": [self.shown(one) for one in live[(page - 1) * size:page * size]]}

    def delete(self, call, organisation, number):
        self.may(call, organisation)
        for one in self.world.live("dockerhub"):
            if self.shown(one)["id"] == number:
                self.world.end(one)
                return 204, {}
        return 404, {"detail": "not found"}


def session_of(world, name, life, policy=None):
    """A session of a role: its token is the grant's password."""
    made = world.grant("aws-session", name, life)
    made["policy"], made["keys"] = policy, ("ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
    return made


class Imds:
    """The metadata service of an EC2 instance with a role. Source: EC2 user guide, IMDSv2."""

    role = "ci-host"
    roles = "/latest/meta-data/iam/security-credentials/"
    routes = [("PUT", r"/latest/api/token", "token"), ("GET", re.escape(roles), "name"), ("GET", roles + role, "keys")]

    def token(self, call):
        life = int(call.headers.get("X-aws-ec2-metadata-token-ttl-seconds", 0))
        if not 1 <= life <= 21600:
            return 400, ""
        return 200, self.world.grant("imds", "", life)["password"]

    def may(self, call):
        if not self.world.found("imds", call.headers.get("X-aws-ec2-metadata-token", "")):
            raise Refused(401, "")

    def name(self, call):
        self.may(call)
        return 200, self.role

    def keys(self, call):
        self.may(call)
        made = session_of(self.world, self.role, 6 * HOUR)
        key_id, secret = made["keys"]
        return 200, {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": key_id, "SecretAccessKey": secret,
                     "Token": made["password"], "Expiration": rfc3339(made["expires_at"])}


class Aws:
    """STS and ECR of one account and region. Sources: STS API, AssumeRole and AssumeRoleWithWebIdentity; ECR API,
    GetAuthorizationToken; IAM user guide, Signature Version 4. IAM knows both identity providers; the role's trust policy
    names the host alone, by its token or by the role of its instance."""

    region, role = "eu-central-1", "arn:aws:iam::123456789012:role/slipway-push"
    repository_arn = "arn:aws:ecr:eu-central-1:123456789012:repository/"
    verbs = {"pull": {"ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"},
             "push": {"ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:PutImage"}}
    routes = [("POST", r"/", "post")]

    def post(self, call):
        return self.ecr(call) if call.headers.get("X-Amz-Target") else self.sts(call)

    def sts_error(self, status, code, message):
        return Refused(status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
                               f"</Error></ErrorResponse>")

    def json_error(self, code, message):
        return Refused(400, {"__type": code, "message": message})

    def sts(self, call):
        form = call.form()
        action = form.get("Action")
        if action not in ("AssumeRole", "AssumeRoleWithWebIdentity") or form.get("Version") != "2011-06-15":
            raise self.sts_error(400, "InvalidAction", "Could not find operation for this version")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", form.get("RoleSessionName", "")):
            raise self.sts_error(400, "ValidationError", "roleSessionName failed to satisfy constraint")
        if not 900 <= int(form.get("DurationSeconds", HOUR)) <= HOUR:
            raise self.sts_error(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration")
        if len(form.get("Policy", "")) > 2048:
            raise self.sts_error(400, "ValidationError", "policy must have length less than or equal to 2048")
        may = self.signer_of(call, "sts")["name"] == Imds.role if action == "AssumeRole" else self.is_host(form)
        if not may or form.get("RoleArn") != self.role:
            raise self.sts_error(403, "AccessDenied", f"Not authorized to perform sts:{action}")
        made = session_of(self.world, form["RoleSessionName"], int(form.get("DurationSeconds", HOUR)), form.get("Policy"))
        key_id, secret = made["keys"]
        return 200, (f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Credentials>'
                     f'<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>'
                     f'<SessionToken>{made["password"]}</SessionToken><Expiration>{rfc3339(made["expires_at"])}</Expiration>'
                     f'</Credentials></{action}Response>')

    def is_host(self, form):
        claims, wrong = self.world.identity(form.get("WebIdentityToken", ""))
        if wrong == "expired":
            raise self.sts_error(400, "ExpiredTokenException", "Token expired")
        if wrong:
            raise self.sts_error(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT")
        if claims.get("aud") != "sts.amazonaws.com":
            raise self.sts_error(400, "InvalidIdentityToken", "Incorrect token audience")
        return (claims["iss"], claims.get("sub")) == (HOST_ISSUER, HOST_SUBJECT)

    def signer_of(self, call, service):
        """The session whose key signed the call: the signature is made again."""
        import sigv4_oracle  # Debian's botocore, which only this needs
        parts = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/(\w+)/aws4_request, ?SignedHeaders=([\w;-]+), ?"
                             r"Signature=([0-9a-f]{64})", call.headers.get("Authorization", ""))
        if not parts:
            raise self.json_error("MissingAuthenticationTokenException", "Missing Authentication Token")
        key_id, day, region, of, signed, signature = parts.groups()
        signed, date = signed.split(";"), call.headers.get("X-Amz-Date", "")
        if "host" not in signed or any(name.lower().startswith("x-amz-") and name.lower() not in signed for name in call.headers):
            raise self.json_error("InvalidSignatureException", "host and x-amz-* have to be signed")
        session = self.world.found("aws-session", call.headers.get("X-Amz-Security-Token", ""))
        if not session or session["keys"][0] != key_id:
            raise self.json_error("UnrecognizedClientException", "The security token included in the request is invalid.")
        at = from_rfc3339(re.sub(r"(....)(..)(..)T(..)(..)(..)Z", r"\1-\2-\3T\4:\5:\6Z", date))
        if abs(at - time.time()) > 300 or (day, region, of) != (date[:8], self.region, service):
            raise self.json_error("InvalidSignatureException", "Signature expired, or for another scope")
        again = sigv4_oracle.sign({
            "method": call.method, "authority": call.headers["Host"], "target": call.target, "body": call.body.decode(),
            "headers": {name: call.headers[name] for name in signed
                        if name not in ("host", "x-amz-date", "x-amz-security-token")},
            "access_key_id": key_id, "secret_access_key": session["keys"][1], "session_token": session["password"],
            "region": region, "service": service, "time": at})
        if not again.endswith(f"SignedHeaders={';'.join(signed)}, Signature={signature}"):
            raise self.json_error("InvalidSignatureException", "The request signature we calculated does not match")
        return session

    def may_of(self, policy):
        """What a session policy leaves of the role, whose own is pull and push in grp/*: repositories and actions."""
        if policy is None:
            return True, {"grp/*": BOTH}
        login, repos = False, {}
        for statement in json.loads(policy)["Statement"]:
            verbs = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            login = login or ("ecr:GetAuthorizationToken" in verbs and statement["Resource"] == "*")
            if statement["Resource"].startswith(self.repository_arn):
                repos[statement["Resource"][len(self.repository_arn):]] = [
                    action for action, needs in self.verbs.items() if needs <= set(verbs)]
        return login, repos

    def ecr(self, call):
        if (call.headers["X-Amz-Target"], call.headers.get("Content-Type")) != (
                "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", "application/x-amz-json-1.1"):
            raise self.json_error("UnknownOperationException", "")
        session = self.signer_of(call, "ecr")
        login, repos = self.may_of(session["policy"])
        if not login:
            raise self.json_error("AccessDeniedException", "not authorized to perform: ecr:GetAuthorizationToken")
        made = self.world.grant("ecr", session["name"], 12 * HOUR, repos, "AWS")
        return 200, {"authorizationData": [{
            "authorizationToken": base64.b64encode(f"AWS:{made['password']}".encode()).decode(),
            "expiresAt": made["expires_at"] + 0.25, "proxyEndpoint": "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"}]}


class Google:
    """STS and IAM Credentials. Sources: their REST references, token and generateAccessToken; RFC 8693. The pool trusts
    both identity providers; the service account may be impersonated by the host alone."""

    pool = "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/ci/providers/"
    providers = {"hosts": HOST_ISSUER, "gitlab": GITLAB_ISSUER}
    account, cloud = "push@proj.iam.gserviceaccount.com", "https://www.googleapis.com/auth/cloud-platform"
    routes = [("POST", r"/v1/token", "exchange"),
              ("POST", r"/v1/projects/-/serviceAccounts/([^/]+):generateAccessToken", "generate")]

    def exchange(self, call):
        form = call.form()
        if call.headers.get("Authorization"):
            return 400, {"error": "invalid_request", "error_description": "no Authorization header is expected"}
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
            return 400, {"error": "unsupported_grant_type"}
        if (form.get("requested_token_type"), form.get("subject_token_type"), form.get("scope")) != (
                "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt", self.cloud):
            return 400, {"error": "invalid_request", "error_description": "token types or scope"}
        issuer = self.providers.get(form.get("audience", "").removeprefix(self.pool))
        if not issuer:
            return 400, {"error": "invalid_target", "error_description": "The target service indicated is invalid"}
        claims, wrong = self.world.identity(form.get("subject_token", ""))
        if wrong:
            return 400, {"error": "invalid_grant", "error_description": f"The ID Token is {wrong}"}
        if claims["iss"] != issuer:
            return 400, {"error": "invalid_grant", "error_description": "The issuer in ID Token does not match the expected one"}
        if claims.get("aud") != "https:" + form["audience"]:
            return 400, {"error": "invalid_grant", "error_description": "The audience in ID Token does not match"}
        made = self.world.grant("google-federated", claims["iss"] + " " + claims.get("sub", ""), HOUR)
        return 200, {"access_token": made["password"], "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                     "token_type": "Bearer", "expires_in": HOUR}

    def generate(self, call, account):
        def refused(status, code, message):
            return status, {"error": {"code": status, "status": code, "message": message}}
        identity = self.world.found("google-federated", call.bearer())
        if not identity:
            return refused(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if (urllib.parse.unquote(account), identity["name"]) != (self.account, HOST_ISSUER + " " + HOST_SUBJECT):
            return refused(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied")
        body = call.json()
        life = re.fullmatch(r"(\d+)s", body.get("lifetime", "3600s"))
        if not life or not 0 < int(life[1]) <= HOUR:
            return refused(400, "INVALID_ARGUMENT", "lifetime")
        if body.get("scope") not in ([self.cloud], [self.cloud + ".read-only"]):
            return refused(400, "INVALID_ARGUMENT", "scope")
        made = self.world.grant("gar", "", int(life[1]), {"grp/*": BOTH if body["scope"] == [self.cloud] else ["pull"]},
                                "oauth2accesstoken", "ya29.")
        return 200, {"accessToken": made["password"], "expireTime": rfc3339(made["expires_at"])}


class Azure:
    """Entra ID and a registry. Sources: Microsoft identity platform, client credentials with a federated credential;
    Azure/acr, docs/AAD-OAuth.md. The app has AcrPush, and one federated credential: the host's."""

    tenant, client = "66666666-7777-8888-9999-000000000000", "11111111-2222-3333-4444-555555555555"
    registry = "https://containerregistry.azure.net"
    routes = [("POST", r"/([\w.-]+)/oauth2/v2\.0/token", "login"), ("POST", r"/oauth2/exchange", "exchange"),
              ("POST", r"/oauth2/token", "token")]

    def login(self, call, tenant):
        def refused(status, code, why):
            return status, {"error": code, "error_description": why}
        form = call.form()
        if form.get("grant_type") != "client_credentials":
            return refused(400, "unsupported_grant_type", "AADSTS70003")
        if form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer":
            return refused(400, "invalid_request", "AADSTS90023: client_assertion_type")
        if form.get("scope") != self.registry + "/.default":
            return refused(400, "invalid_scope", "AADSTS70011: The provided value for scope is not valid")
        if (tenant, form.get("client_id")) != (self.tenant, self.client):
            return refused(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory")
        claims, wrong = self.world.identity(form.get("client_assertion", ""))
        if wrong:
            return refused(401, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range."
                           if wrong == "expired" else "AADSTS5002723: Invalid JWT token.")
        if (claims["iss"], claims.get("sub")) != (HOST_ISSUER, HOST_SUBJECT):
            return refused(401, "invalid_client", "AADSTS70021: No matching federated identity record found")
        if claims.get("aud") != "api://AzureADTokenExchange":
            return refused(401, "invalid_client", "AADSTS700212: No matching audience found")
        made = self.world.grant("entra", self.client, HOUR)
        return 200, {"access_token": made["password"], "token_type": "Bearer", "expires_in": HOUR}

    def asked(self, call, grant_type, issuer):
        """The form of a request to the registry that shows what `issuer` gave out."""
        form = call.form()
        if form.get("grant_type") != grant_type or form.get("service") != call.headers.get("Host"):
            raise Refused(400, {"errors": [{"code": "UNSUPPORTED", "message": "grant_type or service"}]})
        if not self.world.found(issuer, form.get(grant_type, "")):
            raise Refused(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        return form

    def exchange(self, call):
        if self.asked(call, "access_token", "entra").get("tenant") != self.tenant:
            raise Refused(401, {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        return 200, {"refresh_token": self.world.grant("acr-refresh", self.client, 3 * HOUR)["password"]}

    def token(self, call):
        scope = self.asked(call, "refresh_token", "acr-refresh").get("scope", "")
        kind, name, actions = (scope.split(":") + ["", "", ""])[:3]
        access = []
        if kind == "repository" and name.startswith("grp/"):
            access = [{"type": kind, "name": name, "actions": [one for one in actions.split(",") if one in BOTH]}]
        made = self.world.grant("acr", "", 75 * 60)
        now = int(time.time())
        return 200, {"access_token": TokenSigner(self.world.options).sign({
            "iss": "slipway-test-issuer", "sub": self.client, "aud": "slipway-test-registry", "exp": made["expires_at"],
            "nbf": now - 5, "iat": now, "jti": str(made["id"]), "grant_type": "access_token", "access": access})}


class Own:
    """A service of nobody's, for the programs of the types command and docker_helper."""

    routes = [("POST", r"/own/tokens", "create"), ("GET", r"/own/tokens", "listed"), ("DELETE", r"/own/tokens/(.+)", "delete")]

    def may(self, call):
        if call.bearer() != self.world.secret("own-secret"):
            raise Refused(401, {"message": "unauthorized"})

    def create(self, call):
        self.may(call)
        body = call.json()
        made = self.world.grant("own", body["name"], int(body["lifetime"]), {body["repository"]: body["actions"]}, "own-#")
        return 201, {"id": made["name"], "username": made["username"], "password": made["password"],
                     "expires_at": rfc3339(made["expires_at"])}

    def listed(self, call):
        self.may(call)
        return 200, [{"id": one["name"]} for one in self.world.live("own") if one["name"].startswith(call.query["prefix"])]

    def delete(self, call, name):
        self.may(call)
        for one in self.world.live("own"):
            if one["name"] == name:
                self.world.end(one)
        return 204, {}


ISSUERS = (GitLab, Quay, GitHub, DockerHub, Aws, Google, Azure, Own)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def route(self, call):
        for issuer in self.server.issuers:
            for method, path, name in issuer.routes:
                match = re.fullmatch(path, call.path)
                if match and method == call.method:
                    return getattr(issuer, name)(call, *match.groups())
        return 404, {"message": "no such path"}

    def serve(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        call = Call(self.command, self.path, self.headers, body)
        world = self.server.world
        with world.lock:
            try:
                status, answer = self.route(call)
            except Refused as refused:
                status, answer = refused.status, refused.body
            except (AttributeError, KeyError, TypeError, ValueError) as wrong:
                status, answer = 400, {"message": f"cannot be read: {type(wrong).__name__}"}
        data = b"" if status == 204 else answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/xml" if isinstance(answer, str) else "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = serve


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("listen", "imds", "cert", "key", "signer-cert", "signer-key", "users", "state"):
        parser.add_argument("--" + name, required=True)
    options = parser.parse_args()
    world = World(options)

    def server_of(listen, kinds):
        address, _, port = listen.rpartition(":")
        server = LocalServer((address, int(port)), Handler)
        server.world, server.issuers = world, [kind() for kind in kinds]
        for issuer in server.issuers:
            issuer.world = world
        return server

    threading.Thread(target=server_of(options.imds, (Imds,)).serve_forever, daemon=True).start()
    # What takes its time to load is there when the first signature comes.
    threading.Thread(target=importlib.import_module, args=("sigv4_oracle",), daemon=True).start()
    server = server_of(options.listen, ISSUERS)
    server.speak_tls(options.cert, options.key)
    server.serve_forever()


if __name__ == "__main__":
    main()
