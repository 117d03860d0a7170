"""What the end-to-end tests share: the server as a process, HTTP, a strict SSE client, kcat."""

import base64
import contextlib
import hashlib
import http.client
import http.server
import itertools
import json
import os
import pathlib
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kafka"))
sys.path.insert(0, str(ROOT / "tests" / "store"))
from servers import PASSWORD, Postgres, Redis  # noqa: E402,F401
from broker import SASL_PASSWORD, SASL_USER, Broker, Unavailable, end_with_parent, free_port  # noqa: E402,F401

BINARY = pathlib.Path(os.environ.get("SLUICE_BINARY", ROOT / "build" / "release" / "sluice"))
IS_CI = os.environ.get("CI") == "true"
GRACE_SECONDS = 10
# A killed member's partitions move soon, so that tests need not wait the usual 45 s.
QUICK_GROUP = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "500"}


def unique(name):
    """A topic name (or the like) no other test uses."""
    return f"{name}-{next(unique.numbers)}-{os.getpid()}"


unique.numbers = itertools.count(1)


def eventually(what, check, timeout=15, pause=0.05):
    """Calls `check` until it gives something true, and returns that. What it raises counts as false until the end."""
    until = time.monotonic() + timeout
    while True:
        error = None
        try:
            if result := check():
                return result
        except (AssertionError, OSError, KeyError, LookupError, http.client.HTTPException, ValueError) as caught:
            error = caught
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {timeout} s") from error
        time.sleep(pause)


# -- configuration -----------------------------------------------------------------------------------------------------

def toml(values):
    """TOML text of nested dictionaries; lists of dictionaries become arrays of tables."""
    def literal(value):
        if isinstance(value, bool):
            return str(value).lower()
        return json.dumps(value, ensure_ascii=False)  # numbers, strings and lists of them read the same

    def table(values, path):
        lines, later = [], []
        for key, value in values.items():
            name = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key)
            if isinstance(value, dict):
                later += [f"[{path}{name}]"] + table(value, f"{path}{name}.")
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                for one in value:
                    later += [f"[[{path}{name}]]"] + table(one, f"{path}{name}.")
            else:
                lines.append(f"{name} = {literal(value)}")
        return lines + later

    return "\n".join(table(values, "")) + "\n"


def clean_environment(**more):
    """This process's environment without what would configure the server."""
    ours = re.compile(r"KAFKA_.*|SLUICE_.*|SMTP_.*|TELEGRAM_.*|WEBHOOK_.*|PORT|REDIS_URL|DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}
    return {**kept, **more}


def run_cli(*args, timeout=20, cwd=None, stderr=subprocess.PIPE, **environment):
    """Runs the binary to its end."""
    return subprocess.run([str(BINARY), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                          text=True, timeout=timeout, cwd=cwd, env=clean_environment(**environment))


# -- HTTP --------------------------------------------------------------------------------------------------------------

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def problem(self, status):
        """Checks that this is a well-formed problem (RFC 9457) of that status, and returns it."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"].split(";")[0] == "application/problem+json", self.headers
        body = self.json()
        assert body["ok"] is False and body["status"] == status, body
        assert all(isinstance(body[name], str) and body[name] for name in ("type", "title", "detail")), body
        return body

    def __repr__(self):
        return f"{self.status} {self.body[:500]!r}"


def connect(port, timeout=10, tls=None):
    """A socket; with `tls`, an SSLContext, one that insists on a clean end of TLS too."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    if tls is None:
        return peer
    try:
        return tls.wrap_socket(peer, server_hostname="localhost", suppress_ragged_eofs=False)
    except OSError:
        peer.close()
        raise


class Client:
    """HTTP requests to one port, a new connection each; or one for all of them inside `with`."""

    def __init__(self, port, token=None, timeout=20, tls=None):
        self.port, self.token, self.timeout, self.tls = port, token, timeout, tls
        self._kept = None

    def _connection(self):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=self.timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)

    def __enter__(self):
        self._kept = self._connection()
        return self

    def __exit__(self, *_):
        self._kept.close()
        self._kept = None

    def request(self, method, path, body=None, headers=None):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        connection = self._kept or self._connection()
        try:
            connection.request(method, path, body, headers)
            got = connection.getresponse()
            return Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            if not self._kept:
                connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, content_type="application/json", **headers):
        return self.request("POST", path, body, {"Content-Type": content_type, **headers})

    def status(self):
        got = self.get("/kafka/status")
        assert got.status == 200, got
        return got.json()

    def publish(self, *events):
        """POST /events; returns the results, one an event."""
        got = self.post("/events", events[0] if len(events) == 1 else list(events))
        assert got.status == 202, got
        return got.json()["results"]

    def metric(self, name):
        """Sum over all labels of a Prometheus metric."""
        found = [float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").body.decode().splitlines()
                 if re.match(re.escape(name) + r"[ {]", line)]
        assert found, f"no metric {name}"
        return sum(found)


def raw(port, data, timeout=10, half_close=False, tls=None):
    """Sends bytes as they are and returns all bytes that come back until the server closes or falls silent."""
    with connect(port, timeout, tls) as peer:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(data)
            if half_close:
                peer.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(socket.timeout, ConnectionResetError):
            while more := peer.recv(65536):
                answer += more
        return answer


def status_of(answer):
    """The status code of a raw HTTP/1.1 answer; None where there is none."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answer)
    return int(found.group(1)) if found else None


def event(times, **more):
    """An event as the documents show it."""
    return {"payload": {"date": int(time.time() * 1000), "times": times}, **more}


# -- server-sent events ------------------------------------------------------------------------------------------------

class SseEvent:
    def __init__(self, name, data, cursor):
        self.name, self.data, self.id = name, data, cursor

    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"<{self.name} {self.id} {self.data[:200]}>"


class SseError(Exception):
    """The stream is not as it should be."""


class SseClient:
    """Reads a stream of server-sent events and insists on its form: chunked HTTP/1.1, known fields, whole events."""

    def __init__(self, port, path="/events", headers=None, timeout=10, tls=None):
        self.events, self.comments = [], []
        self.retry = self.error = None
        self.last_id = None  # as a browser would send it back: of id-only blocks too
        self.ended_cleanly = False  # by the chunk of length 0, with no event left half
        self.ended = threading.Event()
        self._news = threading.Condition()
        self._seen = 0
        self._socket = connect(port, timeout, tls)
        asked = {"Host": f"127.0.0.1:{port}", "Accept": "text/event-stream", "Cache-Control": "no-cache",
                 **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        self.status = int(status.split()[1])
        self.headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            before = self.headers.get(name.lower())
            self.headers[name.lower()] = f"{before}, {value.strip()}" if before else value.strip()
        if self.status != 200:
            self.close()
            return
        self._socket.settimeout(None)
        threading.Thread(target=self._read, daemon=True).start()

    def _chunks(self):
        while True:
            size = self._file.readline()
            if not size.endswith(b"\r\n"):
                return
            length = int(size.split(b";")[0], 16)
            data = self._file.read(length)
            if len(data) != length or self._file.readline() != b"\r\n":
                return
            if length == 0:
                self.ended_cleanly = True
                return
            yield data

    def _read(self):
        rest, name, data, cursor = b"", "", [], None
        try:
            for chunk in self._chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    text = line.decode("utf-8")  # raises where it is not
                    field, colon, value = text.partition(":")
                    value = value.removeprefix(" ")
                    if text == "":
                        self.last_id = cursor
                        if data:
                            self._add(SseEvent(name or "message", "\n".join(data), cursor))
                        elif name:
                            raise SseError(f"event {name} has no data")
                        name, data = "", []
                    elif field == "":
                        self.comments.append(value)
                    elif field == "data" and colon:
                        data.append(value)
                    elif field == "event" and colon:
                        name = value
                    elif field == "id" and colon and "\0" not in value:
                        cursor = value
                    elif field == "retry" and value.isascii() and value.isdigit():
                        self.retry = int(value)
                    else:
                        raise SseError(f"unknown line {text!r}")
            if self.ended_cleanly and (rest or data or name):
                raise SseError(f"ended inside an event: {rest!r} {data} {name}")
        except (SseError, UnicodeDecodeError) as error:
            self.error = error
        except (OSError, ValueError):  # closed from our side, or reset
            pass
        with self._news:
            self.ended.set()
            self._news.notify_all()

    def _add(self, one):
        with self._news:
            self.events.append(one)
            self._news.notify_all()

    def wait(self, what, wanted, timeout=15, count=1):
        """Returns the first `count` events (from the first on) that `wanted` accepts; one alone if count is 1."""
        until = time.monotonic() + timeout
        with self._news:
            while True:
                if self.error:
                    raise self.error
                found = [one for one in self.events if wanted(one)]
                if len(found) >= count:
                    return found[0] if count == 1 else found[:count]
                left = until - time.monotonic()
                if left <= 0 or (self.ended.is_set()):
                    ended = "the stream ended" if self.ended.is_set() else f"not within {timeout} s"
                    raise AssertionError(f"{what}: {ended}; have {len(found)}/{count}, last: {self.events[-5:]}")
                self._news.wait(left)

    def wait_times(self, *numbers, timeout=15):
        """Waits for events with these values of /payload/times."""
        for number in numbers:
            self.wait(f"event {number}", lambda one: one.json().get("payload", {}).get("times") == number, timeout)

    def summaries(self):
        with self._news:
            return [one.json()["data"] for one in self.events
                    if one.name == "message" and one.json().get("type") == "summary"]

    def wait_summary(self, timeout=15, count=1):
        got = self.wait("summary", lambda one: one.name == "message" and one.json().get("type") == "summary", timeout,
                        count)
        return got.json()["data"] if count == 1 else [one.json()["data"] for one in got]

    def close(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# -- WebSocket ---------------------------------------------------------------------------------------------------------

class WebSocket:
    """A strict little client of RFC 6455: text messages as JSON, pings answered, the close code kept."""

    def __init__(self, port, path="/ws", headers=None, timeout=10, tls=None):
        self.messages, self.pings, self.code, self.reason = [], 0, None, ""
        self._socket = connect(port, timeout, tls)
        key = base64.b64encode(os.urandom(16)).decode()
        asked = {"Host": f"127.0.0.1:{port}", "Connection": "Upgrade", "Upgrade": "websocket",
                 "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in asked.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        if self.status == 101:
            wanted = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            assert self.headers["sec-websocket-accept"] == base64.b64encode(wanted).decode()

    def send_frame(self, opcode, payload, fin=True):
        mask = os.urandom(4)
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else (
            bytes([0xFE]) + size.to_bytes(2, "big") if size < 65536 else bytes([0xFF]) + size.to_bytes(8, "big"))
        body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self._socket.sendall(bytes([(0x80 if fin else 0) | opcode]) + length + mask + body)

    def say(self, message):
        self.send_frame(1, (message if isinstance(message, str) else json.dumps(message)).encode())

    def _frame(self):
        first, second = self._file.read(2)
        assert first & 0x70 == 0 and second & 0x80 == 0, "servers neither mask nor use reserved bits"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._file.read(2 if size == 126 else 8), "big")
        return first & 0x80, first & 0x0F, self._file.read(size)

    def read(self):
        """The next message; None when the server has closed."""
        while True:
            try:
                fin, opcode, payload = self._frame()
            except (ValueError, ConnectionResetError):
                return None
            if opcode == 9:
                self.pings += 1
                self.send_frame(10, payload)
            elif opcode == 8:
                self.code = int.from_bytes(payload[:2], "big") if payload else 1005
                self.reason = payload[2:].decode()
                with contextlib.suppress(OSError):
                    self.send_frame(8, payload[:2])
            elif opcode == 1:
                assert fin, "servers here do not fragment"
                self.messages.append(json.loads(payload))
                return self.messages[-1]

    def wait(self, wanted):
        """The next message that `wanted` accepts."""
        while (message := self.read()) is not None:
            if wanted(message):
                return message
        raise AssertionError(f"closed with {self.code} {self.reason}; last: {self.messages[-3:]}")

    def wait_type(self, name):
        return self.wait(lambda one: one["type"] == name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()


# -- the server --------------------------------------------------------------------------------------------------------

class Server(Client):
    """One `sluice serve` process, or one of a program that has all that `sluice` has."""

    def __init__(self, folder, config, args=(), environment=None, token=None, tls=None, binary=BINARY):
        self.binary = binary
        self.config = json.loads(json.dumps(config))  # our own copy
        http_part = self.config.setdefault("http", {})
        super().__init__(http_part.setdefault("port", free_port()), token, tls=tls)
        self.config.setdefault("store", {}).setdefault("path", f"data-{self.port}")
        self.folder, self.args, self.environment = folder, list(args), environment or {}
        self.process = None
        self.log_path = folder / f"sluice-{self.port}.log"
        self.config_path = folder / f"sluice-{self.port}.toml"

    def start(self, live=True, ready=True):
        self.config_path.write_text(toml(self.config))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(self.binary), "serve", "--config", str(self.config_path), *self.args], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd=self.folder, env=clean_environment(**self.environment),
                preexec_fn=end_with_parent)
        if live:
            self.wait_live()
        if live and ready:
            self.wait_ready()
        return self

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def wait_live(self, timeout=15):
        def live():
            assert self.running(), f"the server ended with {self.process.poll()}:\n{self.log()[-3000:]}"
            return self.get("/livez").status == 200
        eventually("/livez", live, timeout, 0.02)

    def wait_ready(self, timeout=30):
        def ready():
            got = self.get("/readyz")
            assert got.status == 200, (got, self.log()[-1500:])
            return True
        eventually("/readyz", ready, timeout)
        return self

    def events(self, **more):
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return SseClient(self.port, headers={**headers, **more.pop("headers", {})}, tls=self.tls, **more)

    def terminate(self):
        """SIGTERM; returns the exit code and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(GRACE_SECONDS + 20)
        return code, time.monotonic() - start

    def stop(self):
        """Ends in order, which must work every time."""
        if not self.running():
            return
        code, seconds = self.terminate()
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log()[-3000:]}"
        assert seconds < GRACE_SECONDS + 1, f"{seconds:.1f} s from SIGTERM to exit:\n{self.log()[-3000:]}"

    def kill(self):
        if self.running():
            self.process.kill()
            self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.pid}/status").read_text()).group(1))

    def client_count(self):
        return int(self.metric("sluice_sse_clients"))

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def aggregation(topic, sink, **more):
    """One [[aggregations]] table; windows close only by size unless `interval` says otherwise."""
    return {"name": "default", "topics": [topic], "sink": sink, "interval": 3600000, **more}


def config_for(bootstrap, *aggregations, group=None, **sections):
    """A configuration for tests on a real Kafka."""
    result = {
        "node": unique("node"),
        "kafka": {"brokers": bootstrap, "groupId": group or unique("group"), "properties": dict(QUICK_GROUP)},
        "sse": {"heartbeat": 1000},
        "log": {"level": "debug"},
        "aggregations": list(aggregations),
    }
    for name, values in sections.items():
        if isinstance(values, dict):
            result[name] = {**result.get(name, {}), **values}
        else:
            result[name] = values
    return result


# -- kcat --------------------------------------------------------------------------------------------------------------

def kcat(*args, data=None, timeout=60):
    done = subprocess.run(["kcat", *args], input=data, stdin=subprocess.DEVNULL if data is None else None,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    assert done.returncode == 0, (args, done.stderr.decode(errors="replace"))
    return done.stdout


def produce(bootstrap, topic, values, key=None):
    """Writes values (bytes, text, or JSON of anything else), one record each."""
    lines = [value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
             for value in values]
    assert not any(b"\n" in line for line in lines)
    more = ["-k", key] if key is not None else []
    kcat("-P", "-q", "-b", bootstrap, "-t", topic, "-X", "acks=all", *more, data=b"\n".join(lines) + b"\n")


def consume(bootstrap, topic, committed=True):
    """All records of a topic as kcat's JSON objects, with `headers` as a dictionary. [] where there is no topic."""
    isolation = "read_committed" if committed else "read_uncommitted"
    try:
        out = kcat("-C", "-e", "-q", "-J", "-b", bootstrap, "-t", topic, "-o", "beginning", "-X",
                   f"isolation.level={isolation}", "-X", "fetch.wait.max.ms=20")
    except AssertionError as error:
        if "Unknown topic or partition" in str(error):
            return []
        raise
    records = [json.loads(line) for line in out.decode("utf-8", "surrogateescape").splitlines()]
    for one in records:
        flat = one.get("headers") or []
        one["headers"] = dict(zip(flat[::2], flat[1::2]))
    return records


def values_of(records):
    return [json.loads(one["payload"]) for one in records]


class JsonServer:
    """Takes JSON that is posted to it: `posts` has path, headers (names in lower case), body, its bytes as `raw`, and the
    time (`at`, monotonic). `answer(post)` gives (status, headers, body)."""

    def __init__(self, answer):
        posts = self.posts = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw_body = self.rfile.read(int(self.headers["Content-Length"]))
                post = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()},
                        "body": json.loads(raw_body), "raw": raw_body, "at": time.monotonic()}
                posts.append(post)
                status, headers, body = answer(post)
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": len(data), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Feeder:
    """Writes numbered events straight to Kafka, at a rate, until stopped; kcat's exit says all were acknowledged."""

    def __init__(self, bootstrap, topic, first=0, per_second=1000):
        self.first = self.next = first
        self._stop = threading.Event()
        self._kcat = subprocess.Popen(
            ["kcat", "-P", "-q", "-b", bootstrap, "-t", topic, "-X", "enable.idempotence=true", "-X", "linger.ms=5"],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_parent)
        self._thread = threading.Thread(target=self._feed, args=(per_second,), daemon=True)
        self._thread.start()

    def _feed(self, per_second):
        begin = time.monotonic()
        while not self._stop.is_set():
            due = self.first + int((time.monotonic() - begin) * per_second)
            lines = "".join(json.dumps(event(number)) + "\n" for number in range(self.next, due))
            self.next = max(due, self.next)
            self._kcat.stdin.write(lines.encode())
            self._kcat.stdin.flush()
            time.sleep(0.02)

    def finish(self):
        """Stops; returns the range of numbers written."""
        self._stop.set()
        self._thread.join()
        _, errors = self._kcat.communicate(timeout=60)
        assert self._kcat.returncode == 0, errors.decode(errors="replace")
        return range(self.first, self.next)


class Load:
    """Threads that POST numbered events to the servers given and remember which ones were acknowledged, and where."""

    def __init__(self, *servers, threads=4, batch=1, pause=0.002):
        self.acknowledged = {}  # number -> (topic, partition, offset)
        self.statuses = queue.SimpleQueue()
        self._servers = itertools.cycle(servers)
        self._numbers = itertools.count(1)
        self._stop = threading.Event()
        self._batch, self._pause = batch, pause
        self._threads = [threading.Thread(target=self._send, args=(next(self._servers),), daemon=True)
                         for _ in range(threads)]
        for one in self._threads:
            one.start()

    def _send(self, server):
        while not self._stop.is_set():
            numbers = [next(self._numbers) for _ in range(self._batch)]
            try:
                got = Client(server.port).post("/events", [event(number) for number in numbers])
                self.statuses.put(got.status)
                for number, one in zip(numbers, got.json().get("results", [])):
                    if got.status in (202, 207) and one.get("offset", -1) >= 0:
                        self.acknowledged[number] = (one["topic"], one["partition"], one["offset"])
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)  # the server is away
            time.sleep(self._pause)

    def finish(self):
        """Stops; returns the statuses seen."""
        self._stop.set()
        for one in self._threads:
            one.join()
        seen = []
        with contextlib.suppress(queue.Empty):
            while True:
                seen.append(self.statuses.get_nowait())
        return seen


# -- exactly once ------------------------------------------------------------------------------------------------------

def check_summary(summary):
    """The shape of a summary, and that its figures fit each other."""
    assert re.fullmatch(r"summary-\d{13}(-\d+)?", summary["id"]), summary["id"]
    assert summary["id"].split("-")[1] == str(summary["timestamp"])
    period, statistics = summary["aggregationPeriod"], summary["statistics"]
    assert set(period) == {"start", "end", "durationMs"}
    assert period["end"] - period["start"] == period["durationMs"] >= 0
    assert set(statistics) == {"totalEvents", "sumOfValues", "averageValue", "minValue", "maxValue"}
    assert statistics["totalEvents"] >= 1
    assert statistics["averageValue"] == statistics["sumOfValues"] / statistics["totalEvents"]
    assert statistics["minValue"] <= statistics["averageValue"] <= statistics["maxValue"]
    assert len(summary["eventSample"]) <= statistics["totalEvents"]


def numbers_in(summaries):
    """All values of /payload/times in full samples; the samples must be complete."""
    result = []
    for summary in summaries:
        check_summary(summary)
        sample = [one["payload"]["times"] for one in summary["eventSample"]]
        assert len(sample) == summary["statistics"]["totalEvents"], "the sample is not complete"
        assert sum(sample) == summary["statistics"]["sumOfValues"]
        assert (min(sample), max(sample)) == (summary["statistics"]["minValue"], summary["statistics"]["maxValue"])
        result += sample
    return result


def expect_exactly_once(bootstrap, sink, expected, timeout=60):
    """Waits until the committed summaries of `sink` cover `expected`, then checks that each number is there once."""
    expected = sorted(expected)
    state = {}

    def covered():
        state["numbers"] = numbers_in(values_of(consume(bootstrap, sink)))
        return len(state["numbers"]) >= len(expected)

    try:
        eventually("all events summarised", covered, timeout, 0.3)
    except AssertionError:
        pass  # the comparison below says more
    got = sorted(state.get("numbers", []))
    if got != expected:
        counts = {}
        for number in got:
            counts[number] = counts.get(number, 0) + 1
        twice = [number for number, count in counts.items() if count > 1]
        lost = [number for number in expected if number not in counts]
        wrong = sorted(set(counts) - set(expected))
        raise AssertionError(f"of {len(expected)} events {len(lost)} are in no summary ({lost[:10]}), "
                             f"{len(twice)} in several ({twice[:10]}), {len(wrong)} unknown ({wrong[:10]})")
