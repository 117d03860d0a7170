"""Who may do what: tokens, JSON Web Tokens, tickets, cookies, other origins. The tokens are made without sluice's code."""

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import time

import pytest

from support import Client, SseClient, WebSocket, event, eventually, run_cli

SECRET = "a-secret-of-at-least-32-bytes-for-tests"
RIGHTS = {"subscribe": ["events"], "publish": ["events-topic"]}


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(user="ann", seconds=600, rights=RIGHTS, **more):
    return {"sub": user, "exp": int(time.time()) + seconds, "sluice": rights, **more}


def unsigned(payload, **header):
    return encode(json.dumps(header).encode()) + "." + encode(json.dumps(payload).encode())


def hs256(payload, secret=SECRET, **header):
    text = unsigned(payload, **{"alg": "HS256", "typ": "JWT", **header})
    return text + "." + encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True).stdout


class KeyPair:
    """RS256 or ES256, by the openssl command."""

    def __init__(self, folder, algorithm):
        self.algorithm = algorithm
        kind = ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if algorithm == "RS256" else ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self.private, self.public = folder / f"{algorithm}.pem", folder / f"{algorithm}.pub.pem"
        openssl("genpkey", "-algorithm", *kind, "-out", str(self.private))
        openssl("pkey", "-in", str(self.private), "-pubout", "-out", str(self.public))

    def token(self, payload, **header):
        text = unsigned(payload, alg=self.algorithm, **header)
        signature = openssl("dgst", "-sha256", "-sign", str(self.private), data=text.encode())
        if self.algorithm == "ES256":  # r and s of the DER sequence, 32 bytes each
            r, s = signature[4:4 + signature[3]], signature[4 + signature[3] + 2:]
            signature = r[-32:].rjust(32, b"\0") + s[-32:].rjust(32, b"\0")
        return text + "." + encode(signature)

    def jwk(self, kid):
        """The public key as a JWK: its numbers stand at the end of its DER form."""
        der = openssl("pkey", "-pubin", "-in", str(self.public), "-outform", "DER")
        if self.algorithm == "ES256":
            return {"kty": "EC", "crv": "P-256", "kid": kid, "x": encode(der[-64:-32]), "y": encode(der[-32:])}
        return {"kty": "RSA", "kid": kid, "n": encode(der[-261:-5]), "e": encode(der[-3:])}


@pytest.fixture
def serve(sluice):
    """A server with an embedded broker and these settings of [auth] (and other sections)."""
    def start(auth=None, environment=None, **more):
        config = {"log": {"level": "debug"}, **({"auth": auth} if auth else {}), **more}
        return sluice(config, args=["--embedded-broker"], environment=environment)
    return start


def as_user(server, token):
    return Client(server.port, token=token)


def refused(got, detail):
    """A 401 that says why, for people and for programs."""
    assert got.problem(401)["detail"] == detail
    assert got.headers["www-authenticate"] == f'Bearer error="invalid_token", error_description="{detail}"'


def test_static_tokens_have_their_rights_and_are_read_again_on_sighup(serve, folder):
    path = folder / "tokens.json"
    write = lambda *entries: path.write_text(json.dumps(entries))
    write({"token": "shop-token", "user": "shop", "publish": ["{user}-*", "events-topic"]},
          {"sha256": hashlib.sha256(b"screen-token").hexdigest(), "user": "screen", "subscribe": ["events"]})
    server = serve({"tokensFile": str(path)}, environment={"SLUICE_TOKEN": "root-token"})
    shop, screen, root = (as_user(server, name + "-token") for name in ("shop", "screen", "root"))
    shop.publish(event(1))
    assert "events-topic" in screen.post("/events", event(1)).problem(403)["detail"]
    assert shop.post("/kafka/send/shop-orders", {"value": 1}).status in (200, 404)  # past the check, wherever it ends
    assert "\"orders\"" in shop.post("/kafka/send/orders", {"value": 1}).problem(403)["detail"]
    assert shop.get("/events").problem(403)["field"] == "channel"
    with SseClient(server.port, headers={"Authorization": "Bearer screen-token"}) as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    root.publish(event(2))
    refused(as_user(server, "other-token").get("/kafka/status"), "the token is not known to this server")
    assert Client(server.port).get("/metrics").problem(401)["field"] == "Authorization"

    write({"token": "new-token", "user": "new"})
    os.kill(server.pid, signal.SIGHUP)
    eventually("the new token", lambda: as_user(server, "new-token").get("/kafka/status").status == 200)
    assert shop.get("/kafka/status").status == 401 and root.get("/kafka/status").status == 200
    path.write_text("broken")
    os.kill(server.pid, signal.SIGHUP)
    eventually("the log says it", lambda: "is not a JSON array of tokens" in server.log())
    assert as_user(server, "new-token").get("/kafka/status").status == 200
    assert not any(name + "-token" in server.log() for name in ("shop", "screen", "root", "other", "new"))


def test_the_status_tells_strangers_on_loopback_only_whether_kafka_is_there(serve):
    server = serve(environment={"SLUICE_TOKEN": "root-token"})
    whole = as_user(server, "root-token").get("/kafka/status").json()
    part = Client(server.port).get("/kafka/status").json()
    assert part == {"ok": True, "kafka": whole["kafka"], "topics": whole["topics"], "consumers": whole["consumers"],
                    "message": "Kafka is connected and processing events", "producer": {"connected": True},
                    "consumer": {"connected": True}}
    assert {"aggregations", "outbox", "node"} <= set(whole) and "currentAggregation" in whole["consumer"]
    Client(server.port).get("/kafka/status?ticket=none").problem(401)
    Client(server.port).get("/kafka/status", headers={"Host": f"rebound.example:{server.port}"}).problem(401)
    assert Client(server.port).get("/kafka/status", headers={"Host": f"localhost:{server.port}"}).json() == part
    beyond = serve(environment={"SLUICE_TOKEN": "root-token"}, http={"host": "0.0.0.0"})
    assert Client(beyond.port).get("/kafka/status").problem(401)["field"] == "Authorization"
    assert as_user(beyond, "root-token").get("/kafka/status").status == 200


def test_a_jwt_opens_what_it_says_and_no_more(serve):
    server = serve({"issuer": "tests", "audience": "sluice"}, environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    good = claims(iss="tests", aud=["other", "sluice"])
    as_user(server, hs256(good)).publish(event(1))
    with SseClient(server.port, headers={"Authorization": f"Bearer {hs256(good)}"}) as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    as_user(server, hs256({**good, "sluice": {}})).post("/events", event(1)).problem(403)
    assert as_user(server, hs256({**good, "exp": int(time.time()) - 20})).get("/kafka/status").status == 200  # leeway

    def why(token):
        got = as_user(server, token).get("/kafka/status")
        detail = got.problem(401)["detail"]
        refused(got, detail)
        assert token[-20:] not in got.body.decode()
        return detail

    assert why(hs256({**good, "exp": int(time.time()) - 31})) == "the token has expired"
    assert why(hs256({**good, "nbf": int(time.time()) + 60})) == "the token is not valid yet (nbf)"
    assert why(hs256({**good, "aud": "other"})) == "the token is for another audience (aud)"
    assert why(hs256({**good, "iss": "other"})) == "the token is from another issuer (iss)"
    assert why(hs256(good, secret=SECRET + "x")) == "the token's signature is wrong"
    assert why(unsigned(good, alg="none") + ".") == "the token is signed by an algorithm that is not allowed"
    assert why(hs256(good)[:-1]) in ("the token is not a JWT", "the token's signature is wrong")
    assert why("nonsense") == "the token is not a JWT"
    assert why("x" * 9000) == "the token is longer than 8 KiB"
    assert SECRET not in server.log() and hs256(good) not in server.log()
    assert "the token has expired" in server.log()


def test_a_stream_ends_when_its_token_does(serve):
    server = serve({"leeway": 0}, environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    headers = {"Authorization": f"Bearer {hs256(claims(seconds=3))}"}
    with SseClient(server.port, headers=headers) as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
        assert stream.ended.wait(10) and stream.ended_cleanly
        assert stream.retry is not None
    assert SseClient(server.port, headers=headers).status == 401
    with WebSocket(server.port, "/ws", {"Authorization": f"Bearer {hs256(claims(seconds=3))}"}) as socket:
        assert socket.wait_type("connected") and socket.wait_type("retry")
        assert socket.read() is None and socket.code == 1008


def test_channels_are_opened_by_rights_only(serve):
    server = serve(environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    rights = {"subscribe": ["orders.*"], "publish": ["orders.eu"], "roles": []}
    ann, root = hs256(claims("ann", rights=rights)), hs256(claims("root", rights={"roles": ["admin"]}))
    mine = {"Authorization": f"Bearer {ann}"}
    for channels, status in (("orders.eu", 200), ("user:ann", 200), ("orders.eu,user:bob", 403), ("events", 403)):
        with SseClient(server.port, f"/kafka/events?channels={channels}&clientId=c", headers=mine) as stream:
            assert stream.status == status, channels
    user = as_user(server, ann)
    with SseClient(server.port, "/kafka/events?channels=orders.eu&clientId=me", headers=mine) as stream:
        stream.wait("connected", lambda one: one.name == "connected")
        assert user.post("/kafka/sse/subscribe/me", {"channels": ["orders.us"]}).status == 200
        assert user.post("/kafka/sse/subscribe/me", {"channels": ["user:bob"]}).problem(403)
        other = as_user(server, hs256(claims("bob", rights=rights)))
        assert other.post("/kafka/sse/subscribe/me", {"channels": ["orders.us"]}).problem(403)
        assert user.post("/kafka/sse/broadcast/orders.eu", {"data": 1}).status == 202
        assert user.post("/kafka/sse/broadcast/orders.us", {"data": 1}).problem(403)
        assert user.get("/kafka/sse/clients").problem(403)
        assert user.request("DELETE", "/kafka/sse/clients/me").problem(403)
        assert [one["userId"] for one in as_user(server, root).get("/kafka/sse/clients").json()["clients"]] == ["ann"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_openssls_keys_verify_openssls_signatures(serve, folder, algorithm):
    pair = KeyPair(folder, algorithm)
    server = serve({"jwtKeyFile": str(pair.public)})
    for _ in range(5):  # the signatures differ, and so do the lengths of r and s
        as_user(server, pair.token(claims())).publish(event(1))
    text = pair.token(claims())
    refused(as_user(server, text[:-8] + "AAAAAAAA").get("/kafka/status"), "the token's signature is wrong")
    forged = hs256(claims(), secret=pair.public.read_text())
    refused(as_user(server, forged).get("/kafka/status"), "the token is signed by a key that this server does not know")


def test_a_key_set_is_chosen_from_by_kid(serve, folder):
    rsa, ec, path = KeyPair(folder, "RS256"), KeyPair(folder, "ES256"), folder / "jwks.json"
    path.write_text(json.dumps({"keys": [rsa.jwk("one"), ec.jwk("two")]}))
    server = serve({"jwksFile": str(path)})
    for token in (rsa.token(claims(), kid="one"), ec.token(claims(), kid="two"), rsa.token(claims())):
        as_user(server, token).publish(event(1))
    refused(as_user(server, rsa.token(claims(), kid="two")).get("/kafka/status"),
            "the token is signed by a key that this server does not know")
    path.write_text(json.dumps({"keys": [ec.jwk("three")]}))
    os.kill(server.pid, signal.SIGHUP)
    eventually("the new key", lambda: as_user(server, ec.token(claims(), kid="three")).get("/kafka/status").status == 200)
    assert as_user(server, rsa.token(claims(), kid="one")).get("/kafka/status").status == 401


def test_a_ticket_opens_one_stream(serve):
    server = serve({"ticketLifetime": "2s"}, environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    got = as_user(server, hs256(claims())).request("POST", "/auth/ticket")
    assert got.status == 200 and got.headers["cache-control"] == "no-store", got
    body = got.json()
    assert body["ok"] is True and body["expiresIn"] == 2
    ticket = body["ticket"]
    with SseClient(server.port, path=f"/events?ticket={ticket}") as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    again = SseClient(server.port, path=f"/events?ticket={ticket}")
    assert again.status == 401 and 'error="invalid_token"' in again.headers["www-authenticate"]
    late = as_user(server, hs256(claims())).request("POST", "/auth/ticket").json()["ticket"]
    time.sleep(2.1)
    assert SseClient(server.port, path=f"/events?ticket={late}").status == 401
    assert SseClient(server.port, path=f"/events?ticket={hs256(claims())}").status == 401  # no tokens in URLs
    Client(server.port).request("POST", "/auth/ticket").problem(401)
    assert ticket not in server.log()


def test_a_user_has_so_many_streams_and_no_more(serve):
    server = serve(environment={"SLUICE_AUTH_JWT_SECRET": SECRET}, sse={"maxStreamsPerUser": 2})
    def open_as(user):
        return SseClient(server.port, headers={"Authorization": f"Bearer {hs256(claims(user))}"})
    with open_as("ann"), open_as("ann"), open_as("bob") as other:
        other.wait("the snapshot", lambda one: one.name == "snapshot")
        third = as_user(server, hs256(claims("ann"))).get("/events")
        assert third.status == 200 and third.headers["content-type"] == "text/event-stream"
        assert int(third.body.decode().removeprefix("retry: ")) >= 10000


def test_a_cookie_is_taken_from_ones_own_pages_only(serve):
    server = serve({"cookie": "session"}, http={"corsOrigins": ["https://app.example"]},
                   environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    cookie = {"Cookie": f"theme=dark; session={hs256(claims())}"}
    post = lambda **headers: Client(server.port).post("/events", event(1), **{**cookie, **headers})
    assert post().status == 202
    assert post(Origin=f"http://127.0.0.1:{server.port}").status == 202
    assert post(Origin="https://app.example").status == 202
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{server.port + 1}"):
        assert "http.corsOrigins" in post(Origin=origin).problem(403)["detail"]
    assert Client(server.port).request("POST", "/auth/ticket", headers={**cookie, "Origin": "https://evil.example"}).status == 403


def test_pages_of_allowed_origins_may_read_answers_and_errors(serve):
    server = serve(http={"corsOrigins": ["https://app.example"]}, environment={"SLUICE_TOKEN": "root-token"})
    client = Client(server.port)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}
    got = client.request("OPTIONS", "/events", headers={"Origin": "https://app.example", **preflight})
    assert got.status == 204 and got.body == b""
    assert got.headers["access-control-allow-origin"] == "https://app.example"
    assert got.headers["access-control-allow-credentials"] == "true"
    assert got.headers["access-control-max-age"] == "600" and got.headers["vary"] == "Origin"
    assert "POST" in got.headers["access-control-allow-methods"].split(", ")
    assert {"authorization", "content-type", "last-event-id", "idempotency-key", "traceparent"} == set(
        got.headers["access-control-allow-headers"].lower().split(", "))

    for method, path, status in (("GET", "/livez", 200), ("GET", "/metrics", 401), ("GET", "/nowhere", 404),
                                 ("DELETE", "/livez", 405), ("GET", "/events", 401), ("POST", "/events", 401)):
        got = client.request(method, path, headers={"Origin": "https://app.example"})
        assert got.status == status and got.headers["access-control-allow-origin"] == "https://app.example", (path, got)
        assert "retry-after" in got.headers["access-control-expose-headers"].lower()
        other = client.request(method, path, headers={"Origin": "https://evil.example"})
        assert other.status == status and "access-control-allow-origin" not in other.headers
        assert other.headers["vary"] == "Origin" and client.request(method, path).headers["vary"] == "Origin"


def test_pages_of_allowed_origins_may_read_streams(serve):
    server = serve(http={"corsOrigins": ["https://app.example"]}, environment={"SLUICE_TOKEN": "root-token"})
    for origin, allowed in (("https://app.example", "https://app.example"), ("https://evil.example", None)):
        headers = {"Authorization": "Bearer root-token", "Origin": origin}
        with SseClient(server.port, headers=headers) as stream:
            stream.wait("the snapshot", lambda one: one.name == "snapshot")
            assert stream.headers.get("access-control-allow-origin") == allowed and stream.headers["vary"] == "Origin"
        head = Client(server.port).request("HEAD", "/events", headers=headers)
        assert head.status == 200 and head.headers.get("access-control-allow-origin") == allowed


def test_a_star_lets_every_page_read_but_never_with_cookies(serve):
    server = serve(http={"corsOrigins": ["*"]}, environment={"SLUICE_TOKEN": "root-token"})
    got = as_user(server, "root-token").get("/kafka/status", headers={"Origin": "https://any.example"})
    assert got.status == 200 and got.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in got.headers
    Client(server.port).get("/kafka/status", headers={"Origin": "https://any.example", "Cookie": "sluice_token=root-token"}).problem(403)


def test_without_origins_no_cors_header_is_sent(serve):
    server = serve()
    got = Client(server.port).get("/livez", headers={"Origin": "https://app.example"})
    assert not [name for name in got.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize("config, words", [
    ({"auth": {"mode": "token"}}, ["auth.mode", "SLUICE_TOKEN"]),
    ({"auth": {"mode": "jwt"}}, ["auth.mode", "auth.jwksFile"]),
    ({"auth": {"jwtSecret": "hush-hush"}}, ["auth.jwtSecret", "32 bytes"]),
    ({"auth": {"jwtKeyFile": "/nowhere.pem"}}, ["auth.jwtKeyFile", "/nowhere.pem"]),
    ({"http": {"corsOrigins": ["app.example"]}}, ["http.corsOrigins", "app.example"]),
])
def test_wrong_settings_stop_the_start(folder, config, words):
    (folder / "sluice.toml").write_text("\n".join(
        f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        for section, values in config.items()))
    done = run_cli("serve", "--embedded-broker", "--port", "0", cwd=folder)
    assert done.returncode == 2 and all(word in done.stderr for word in words), done
    assert "hush" not in done.stderr + done.stdout


def test_listening_for_all_needs_some_authentication(folder):
    assert run_cli("config", "--host", "0.0.0.0", cwd=folder).returncode == 2
    for given in ({"SLUICE_TOKEN": "t"}, {"SLUICE_AUTH_JWT_SECRET": SECRET}, {"SLUICE_AUTH_TOKENS_FILE": "tokens.json"}):
        done = run_cli("config", "--host", "0.0.0.0", cwd=folder, **given)
        assert done.returncode == 0 and SECRET not in done.stdout, done
