"""HTTPS: requests, streams and WebSockets as without TLS, and what TLS adds: certificates, handshakes, clean ends."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from support import Client, SseClient, WebSocket, config_for, connect, event, eventually, raw, run_cli, status_of, unique

MIB = 1024 * 1024


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                   check=True)


class Authority:
    """A CA with an intermediate one, as the CAs of the web have, by the openssl command."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "root.pem"
        constraints = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", 2, "-subj",
                "/CN=test root", "-keyout", folder / "root.key", "-out", self.root, *constraints)
        self._issue("middle", "/CN=test middle", "root", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
        self.context = ssl.create_default_context(cafile=str(self.root))

    def _issue(self, name, subject, issuer, extensions, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        path = self.folder / name
        openssl("req", "-newkey", *key, "-noenc", "-subj", subject, "-keyout", f"{path}.key", "-out", f"{path}.csr")
        path.with_suffix(".ext").write_text(extensions)
        openssl("x509", "-req", "-in", f"{path}.csr", "-CA", self.folder / f"{issuer}.pem", "-CAkey",
                self.folder / f"{issuer}.key", "-days", 2, "-extfile", f"{path}.ext", "-out", f"{path}.pem")

    def certificate(self, name, key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256")):
        """The chain and the key of a server, as texts."""
        self._issue(name, f"/CN={name}", "middle", "subjectAltName=DNS:localhost,IP:127.0.0.1\n", key)
        chain = (self.folder / f"{name}.pem").read_text() + (self.folder / "middle.pem").read_text()
        return chain, (self.folder / f"{name}.key").read_text()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def first(authority):
    return authority.certificate("first")


@pytest.fixture
def serve(sluice, kafka, folder, authority, first):
    """Starts a server with TLS."""
    def make(certificate=first, http=None, sse=None, **more):
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_text(certificate[0])
        key.write_text(certificate[1])
        config = config_for(kafka.bootstrap, http={"tlsCertificate": str(chain), "tlsKey": str(key), **(http or {})},
                            sse={"broadcastTopic": unique("broadcast"), **(sse or {})})
        return sluice(config, tls=authority.context, **more)
    return make


def broadcast(server, channel, data, **more):
    got = server.post(f"/kafka/sse/broadcast/{channel}", json.dumps({"data": data, **more}))
    assert got.status == 202, got


def channel(server, name, **more):
    stream = SseClient(server.port, f"/kafka/events?channels={name}", tls=server.tls, **more)
    stream.wait("connected", lambda one: one.name == "connected")
    return stream


def curl(authority, *args, data=None, timeout=30):
    done = subprocess.run(["curl", "-sS", "--cacert", str(authority.root), "--max-time", str(timeout), *args], input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, done.stdout, done.stderr.decode()


def s_client(port, *args, data=b""):
    """What `openssl s_client` prints of a handshake."""
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *args], input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20).stdout.decode(errors="replace")


def shown_name(port):
    return re.search(r"subject=CN = (\w+)", s_client(port)).group(1)


# -- requests ----------------------------------------------------------------------------------------------------------

def test_curl_gets_posts_and_streams(serve, authority):
    server = serve()
    assert f"listens on https://127.0.0.1:{server.port}" in server.log()
    url = f"https://localhost:{server.port}"
    code, out, errors = curl(authority, url + "/livez", url + "/livez", "-w", "%{num_connects},")
    assert code == 0 and re.findall(rb"(\d),", out) == [b"1", b"0"], (out, errors)  # kept alive
    body = json.dumps([event(number) for number in range(10)])
    code, out, errors = curl(authority, "-H", "Content-Type: application/json", "-d", "@-", url + "/events",
                             data=body.encode())
    assert code == 0 and json.loads(out)["accepted"] == 10, (out, errors)
    with subprocess.Popen(["curl", "-sSN", "--cacert", str(authority.root), url + "/kafka/events?channels=c"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for wanted in (b"event: connected\n", b'data: "hello"\n'):
            while (line := process.stdout.readline()) != wanted:
                assert line, process.stderr.read()
            if wanted == b"event: connected\n":
                broadcast(server, "c", "hello")
        server.stop()
        process.stdout.read()
        assert process.wait(10) == 0, process.stderr.read()  # curl, too, calls it a clean end


def test_a_client_that_does_not_trust_the_certificate_is_counted(serve, authority):
    server = serve()
    assert curl(authority, f"https://127.0.0.1:{server.port}/livez")[0] == 0
    done = subprocess.run(["curl", "-sS", f"https://127.0.0.1:{server.port}/livez"], stderr=subprocess.PIPE)
    assert done.returncode == 60
    eventually("counted", lambda: server.metric("sluice_http_tls_failed_total") == 1)
    days = (server.metric("sluice_http_tls_certificate_expires_seconds") - time.time()) / 86400
    assert 1.9 < days < 2.1


def test_large_bodies_keep_alive_and_pipelines(serve):
    server = serve(http={"maxBodyBytes": 6 * MIB})
    topic = unique("large")
    with server:
        for size in (1, 16383, 16384, 16385, 5 * MIB):  # around one record, and many of them
            got = server.post(f"/kafka/send/{topic}", {"value": "x" * min(size, 900_000), "key": "k"})
            assert got.status == 200, got
            got = server.post("/events", b"[" + b" " * size + json.dumps(event(1)).encode() + b"]")
            assert got.status == 202, got
        got = server.post("/events", json.dumps([event(number, text="y" * 600) for number in range(5000)]))
        assert got.status == 202 and len(got.json()["results"]) == 5000
    assert server.post("/events", b" " * (10 * MIB)).status == 413
    two = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(server.port, two, tls=server.tls)
    assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 404" in answer
    assert status_of(raw(server.port, b"nonsense\r\n\r\n", tls=server.tls)) == 400
    head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n"
    with connect(server.port, tls=server.tls) as peer:
        peer.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")


def test_rsa_certificates_serve_too(serve, authority):
    server = serve(authority.certificate("rsa", ("rsa:2048",)))
    for version in ("-tls1_2", "-tls1_3"):
        assert "Server public key is 2048 bit" in s_client(server.port, version)


# -- handshakes --------------------------------------------------------------------------------------------------------

def test_versions_ciphers_and_protocols(serve):
    server = serve()
    for version in ("tls1_2", "tls1_3"):
        shown = s_client(server.port, f"-{version}", "-alpn", "h2,http/1.1")
        assert re.search(r"New, TLSv1\.[23], Cipher is \S*(GCM|CHACHA20)", shown), shown
        assert "ALPN protocol: http/1.1" in shown and "Verify return code" in shown
        assert "middle" in shown.split("Server certificate")[0], "the chain is sent"
    assert "alert protocol version" in s_client(server.port, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "alert handshake failure" in s_client(server.port, "-tls1_2", "-cipher", "AES128-SHA256")
    assert "alert no application protocol" in s_client(server.port, "-alpn", "h2")
    # The server's order counts, and renegotiation is refused.
    shown = s_client(server.port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in shown
    assert "no renegotiation" in s_client(server.port, "-tls1_2", data=b"R\n").lower().replace("_", " ")
    assert server.get("/livez").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_by_ticket(serve, authority, version):
    server = serve()
    context = ssl.create_default_context(cafile=str(authority.root))
    context.minimum_version = context.maximum_version = version
    session = None
    for resumed in (False, True):
        with socket.create_connection(("127.0.0.1", server.port), 10) as plain, \
                context.wrap_socket(plain, server_hostname="localhost", session=session) as peer:
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status_of(peer.recv(4096)) == 200
            assert peer.session_reused == resumed
            session = peer.session


def test_plain_http_is_told_to_use_https(serve):
    server = serve()
    answer = raw(server.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", timeout=5)
    assert status_of(answer) == 400 and b"HTTPS only" in answer
    assert Client(server.port).post("/events", json.dumps(event(1))).status == 400
    assert raw(server.port, b"\x00\x01\x02\x03" * 100, timeout=5)[:1] in (b"", b"\x15")  # nothing, or an alert
    assert server.get("/livez").status == 200


def test_a_handshake_is_bounded_in_time(serve):
    server = serve(http={"headerTimeout": 1000})
    hello = s_client_hello()
    slow = [hello[:20], b"", hello[:-1], hello]
    peers = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in slow]
    begin = time.monotonic()
    for peer, said in zip(peers, slow):
        peer.sendall(said)
    for peer in peers:
        with peer:
            try:
                while peer.recv(65536):
                    pass
            except ConnectionResetError:
                pass
    assert 0.8 < time.monotonic() - begin < 6
    with connect(server.port, tls=server.tls) as quiet:  # after the handshake, without a request
        assert quiet.recv(100) == b""
    assert status_of(raw(server.port, b"GET /livez HT", tls=server.tls)) == 408
    eventually("all gone", lambda: server.metric("sluice_http_connections") == 1)


def s_client_hello():
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_connections_are_bounded_before_the_handshake(serve):
    server = serve(http={"maxConnections": 10})
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(10)]
    with pytest.raises((TimeoutError, ssl.SSLError)):
        connect(server.port, timeout=1, tls=server.tls)
    for peer in silent:
        peer.close()
    eventually("room again", lambda: server.get("/livez").status == 200)


# -- certificates ------------------------------------------------------------------------------------------------------

def test_sighup_changes_the_certificate_and_a_broken_one_changes_nothing(serve, authority, first, folder):
    server = serve()
    second = authority.certificate("second")
    refused = "not all keys, tokens and certificates were read again"
    with channel(server, "kept") as stream, Client(server.port, tls=server.tls) as kept:
        assert shown_name(server.port) == "first" and kept.get("/livez").status == 200
        (folder / "chain.pem").write_text(second[0])
        (folder / "key.pem").write_text(second[1])
        os.kill(server.pid, signal.SIGHUP)
        eventually("the new one", lambda: shown_name(server.port) == "second")
        for name, text in (("chain.pem", "broken"), ("key.pem", first[1])):
            good = (folder / name).read_text()
            (folder / name).write_text(text)
            before = server.log().count(refused)
            os.kill(server.pid, signal.SIGHUP)
            eventually("the log says it", lambda: server.log().count(refused) > before)
            assert shown_name(server.port) == "second"
            (folder / name).write_text(good)
        assert "http.tlsCertificate: " in server.log() and "http.tlsKey: " in server.log()
        os.kill(server.pid, signal.SIGHUP)
        eventually("the log says it", lambda: server.log().count("[server] keys, tokens and certificates were read") == 2)
        # Who was there before has noticed nothing.
        broadcast(server, "kept", 1)
        stream.wait("the event", lambda one: one.name == "message" and one.json() == 1)
        assert kept.get("/livez").status == 200
    secrets = [line for text in (first[1], second[1]) for line in text.splitlines() if len(line) > 40]
    assert not any(line in server.log() for line in secrets)


def test_a_certificate_that_cannot_be_used_stops_the_start(folder, first):
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(first[0])
    key.write_text("nonsense")
    for args, text in ((["--http.tlsCertificate", chain], "http.tlsKey"),
                       (["--http.tlsCertificate", folder / "absent.pem", "--http.tlsKey", key], "cannot be read"),
                       (["--http.tlsCertificate", chain, "--http.tlsKey", key], "is not a private key in PEM")):
        done = run_cli("serve", "--embedded-broker", "--port", "0", *map(str, args), cwd=folder)
        assert done.returncode == 2 and text in done.stderr, done.stderr


# -- streams -----------------------------------------------------------------------------------------------------------

def test_a_stream_resumes_and_ends_cleanly(serve):
    server = serve()
    with channel(server, "work") as stream:
        broadcast(server, "work", 1)
        cursor = stream.wait("one", lambda one: one.name == "message").id
    for number in range(2, 5):
        broadcast(server, "work", number)
    with SseClient(server.port, "/kafka/events?channels=work", {"Last-Event-ID": cursor}, tls=server.tls) as stream:
        got = stream.wait("the rest", lambda one: one.name == "message", count=3)
        assert [one.json() for one in got] == [2, 3, 4]
        server.stop()
        assert stream.ended.wait(10) and stream.ended_cleanly and stream.error is None
        assert stream._file.read() == b""  # raises where TLS is cut off


def test_every_end_comes_with_a_farewell(serve):
    server = serve(sse={"maxStreams": 1})
    with connect(server.port, tls=server.tls) as stream, connect(server.port, tls=server.tls) as refused, \
            connect(server.port, tls=server.tls) as kept, connect(server.port, tls=server.tls) as closed:
        stream.sendall(b"GET /kafka/events?channels=a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(stream.recv(65536)) == 200
        refused.sendall(b"GET /kafka/events?channels=a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        closed.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for one in (refused, closed):
            while one.recv(65536):  # raises where TLS is cut off
                pass
        assert status_of(kept.recv(65536)) == 200
        server.stop()
        for one in (stream, kept):
            while one.recv(65536):
                pass


def test_a_websocket_talks_and_is_told_the_end(serve):
    server = serve()
    with WebSocket(server.port, "/ws?clientId=me", tls=server.tls) as me:
        assert me.wait_type("connected")["data"]["clientId"] == "me"
        me.say({"type": "subscribe", "channels": ["orders"], "ref": 1})
        assert me.wait_type("ack")["ref"] == 1
        for number in range(200):  # more than one read holds
            me.say({"type": "ping", "ref": number, "pad": "x" * 300})
        for number in range(200):
            assert me.wait_type("pong")["ref"] == number
        broadcast(server, "orders", "y" * 100_000)
        assert me.wait_type("event")["data"] == "y" * 100_000
        server.stop()
        while me.read() is not None:
            pass
        assert me.code == 1001


def test_a_slow_client_is_disconnected_and_resumes(serve):
    server = serve(sse={"maxQueueBytes": 1_000_000})
    with channel(server, "big") as quick:
        slow = connect(server.port, tls=server.tls)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /kafka/events?channels=big&clientId=slow HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually("both there", lambda: server.client_count() == 2)
        for number in range(200):
            broadcast(server, "big", {"n": number, "pad": "z" * 50_000})
            quick.wait("it", lambda one: one.name == "message", timeout=30, count=number + 1)
        eventually("cut off", lambda: server.metric("sluice_sse_clients_slow_total") == 1)
        got = quick.wait("all", lambda one: one.name == "message", timeout=30, count=200)
        assert [one.json()["n"] for one in got] == list(range(200))
        slow.close()
        with SseClient(server.port, "/kafka/events?channels=big", {"Last-Event-ID": got[0].id}, tls=server.tls) as again:
            rest = again.wait("the rest", lambda one: one.name == "message", timeout=30, count=199)
            assert [one.json()["n"] for one in rest] == list(range(1, 200))


@pytest.mark.parametrize("policy", ["dropOldest", "latest"])
def test_slow_clients_lose_whole_events_only(serve, kafka, sluice, authority, first, folder, policy):
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(first[0])
    key.write_text(first[1])
    topic = unique("ticks")
    config = config_for(kafka.bootstrap, http={"tlsCertificate": str(chain), "tlsKey": str(key)},
                        sse={"broadcastTopic": unique("broadcast"), "maxQueueBytes": 65536},
                        channels=[{"name": "ticks", "topics": [topic], "policy": policy}])
    server = sluice(config, tls=authority.context)
    with connect(server.port, timeout=60, tls=server.tls) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /kafka/events?channels=ticks HTTP/1.0\r\nHost: x\r\n\r\n")
        eventually("there", lambda: server.client_count() == 1)
        for start in range(0, 3000, 500):
            messages = [{"key": str(number % 5), "partition": 0, "value": {"n": number, "pad": "p" * 2000}}
                        for number in range(start, start + 500)]
            for at in range(0, 500, 250):
                assert server.post(f"/kafka/send/{topic}/batch", {"messages": messages[at:at + 250]}).status == 200
        text = b""
        while b'"n":2999,' not in text[-20_000:] or not text.endswith(b"\n\n"):
            more = slow.recv(65536)
            assert more
            text += more
    blocks = text.split(b"\r\n\r\n", 1)[1].split(b"\n\n")[:-1]
    numbers = []
    for block in blocks:
        for line in block.split(b"\n"):
            if line.startswith(b"data: {\"n\""):
                one = json.loads(line[6:])
                assert one["pad"] == "p" * 2000
                numbers.append(one["n"])
    assert numbers[-1] == 2999 and len(numbers) == len(set(numbers)) < 3000


@pytest.mark.seconds(240)
def test_many_clients_get_megabytes_without_a_fault(serve):
    """200 clients, 4 MB each: every byte of every event, in order."""
    server = serve(sse={"maxQueueBytes": 64 * MIB})
    clients, events, size = 200, 40, 100_000
    failures, done = [], []

    def read():
        try:
            with connect(server.port, timeout=120, tls=server.tls) as peer:
                peer.sendall(b"GET /kafka/events?channels=flood HTTP/1.0\r\nHost: x\r\n\r\n")
                text = peer.makefile("rb")
                number = 0
                while number < events:
                    line = text.readline()
                    assert line, "ended early"
                    if line.startswith(b'data: {"n"'):
                        one = json.loads(line[6:])
                        assert one == {"n": number, "pad": chr(97 + number % 26) * size}, f"wrong at {number}"
                        number += 1
            done.append(number)
        except Exception as problem:
            failures.append(problem)

    threads = [threading.Thread(target=read, daemon=True) for _ in range(clients)]
    for one in threads:
        one.start()
    eventually("all there", lambda: server.client_count() == clients, 60)
    for number in range(events):
        broadcast(server, "flood", {"n": number, "pad": chr(97 + number % 26) * size})
    for one in threads:
        one.join(120)
    assert not failures, failures[0]
    assert len(done) == clients
