"""Live delivery under bad clients, bad cursors and bad luck: nothing is lost, doubled or left behind."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from support import Server, SseClient, config_for, end_with_parent, eventually, kcat, status_of, unique
from test_access import SECRET, claims, hs256

CROWD = str(pathlib.Path(__file__).resolve().parent / "crowd.py")


# -- servers and clients -----------------------------------------------------------------------------------------------

def live_config(bootstrap, **more):
    sse = {"broadcastTopic": unique("broadcast"), "heartbeat": 500, "retry": 500, **more.pop("sse", {})}
    return config_for(bootstrap, sse=sse, **{"log": {"level": "info"}, **more})


@pytest.fixture(scope="module")
def server(brokers, tmp_path_factory):
    """One for all tests that only behave badly towards it; it has to end in order after all that."""
    made = Server(tmp_path_factory.mktemp("server"), live_config(brokers("shared").bootstrap)).start()
    yield made
    made.stop()


@pytest.fixture
def channel():
    return unique("channel")


def path_of(channel, **query):
    return "/kafka/events?" + urllib.parse.urlencode({"channels": channel, **query})


def broadcast(server, channel, *data):
    for one in data:
        got = server.post(f"/kafka/sse/broadcast/{urllib.parse.quote(channel, safe='')}", json.dumps({"data": one}))
        assert got.status == 202, got


def fill(bootstrap, topic, channel, count, size):
    """Broadcasts of [number, padding], straight to Kafka."""
    lines = "".join(f"{channel}\t[{number},\"{'x' * size}\"]\n" for number in range(count))
    kcat("-P", "-q", "-b", bootstrap, "-t", topic, "-K", "\t", "-X", "acks=all", data=lines.encode())


class Reader:
    """A client that reads no faster than it is told to and comes back with its cursor when its stream has ended."""

    def __init__(self, server, path, headers=None, cursor=None):
        self.server, self.path, self.headers, self.cursor = server, path, headers or {}, cursor
        self.events, self.retries, self.ends, self.clean_ends = [], [], 0, 0
        self._socket = None

    def connect(self):
        self.close()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", self.server.port))
        headers = {"Host": "x", **self.headers, **({"Last-Event-ID": self.cursor} if self.cursor else {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._socket.sendall(f"GET {self.path} HTTP/1.1\r\n{head}\r\n".encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        while self._file.readline() not in (b"\r\n", b""):
            pass
        self._text = b""
        return self

    def chunk(self):
        """Takes one more chunk; false where the stream has ended."""
        try:
            size = int(self._file.readline(), 16)
            data = self._file.read(size)
            assert self._file.readline() == b"\r\n" and len(data) == size
        except (OSError, ValueError, AssertionError):
            self.ends += 1
            return False
        if not size:
            self.ends += 1
            self.clean_ends += 1
            return False
        *blocks, self._text = (self._text + data).split(b"\n\n")
        for block in blocks:
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
            if b"id" in fields:
                self.cursor = fields[b"id"].decode()
            if b"retry" in fields:
                self.retries.append(int(fields[b"retry"]))
            if b"data" in fields:
                self.events.append((fields.get(b"event", b"message").decode(), json.loads(fields[b"data"])))
        return True

    def until(self, what, enough, seconds=60):
        """Reads, and comes back as often as its stream ends, until that is enough."""
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, (what, len(self.events), self.events[-1:], self.ends)
            if not self._socket or not self.chunk():
                self.close()
                time.sleep(0.2)
                with contextlib.suppress(OSError):
                    self.connect()
        return self

    def numbers(self):
        return [data if isinstance(data, int) else data[0] for name, data in self.events if name == "message"]

    def names(self):
        return {name for name, _ in self.events}

    def close(self):
        if self._socket:
            self._file.close()
            self._socket.close()
        self._socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def reader(server, channel, **more):
    with Reader(server, path_of(channel), **more) as one:
        one.connect()
        one.until("connected", lambda: "connected" in one.names())
        yield one


class Crowd:
    """crowd.py at work."""

    def __init__(self, server, channel, count):
        self.count = count
        self._process = subprocess.Popen([sys.executable, CROWD, str(server.port), path_of(channel), str(count)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent)
        self.wait("all are there", lambda now: now["streams"] == count)

    def say(self, order="report"):
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def wait(self, what, enough, timeout=60):
        def check():
            now = self.say()
            assert not now["faults"], now
            return enough(now)
        eventually(what, check, timeout, 0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(20)


# -- clients that misbehave --------------------------------------------------------------------------------------------

def test_a_client_that_half_closes_is_let_go(server, channel):
    with reader(server, channel) as one:
        eventually("it is counted", lambda: server.client_count() == 1)
        one._socket.shutdown(socket.SHUT_WR)
        eventually("it is gone", lambda: server.client_count() == 0)
        while one.chunk():
            pass


def test_a_client_that_stops_reading_is_cut_off_and_gets_all_when_it_comes_back(server, channel):
    memory = server.memory_kib()
    with reader(server, channel) as one, reader(server, channel) as other:
        slow = server.metric("sluice_sse_clients_slow_total")
        for number in range(30):
            broadcast(server, channel, [number, "x" * 500000])
            other.until("the other has it", lambda: other.numbers()[-1:] == [number])
        eventually("it is cut off", lambda: server.metric("sluice_sse_clients_slow_total") == slow + 1)
        one.until("it has all", lambda: one.numbers()[-1:] == [29])
        assert one.numbers() == other.numbers() == list(range(30)) and one.ends == 1
        assert one.names() == {"connected", "message"}
    assert server.memory_kib() < memory + 150000


@pytest.mark.parametrize("when", ["with the first", "later"])
def test_a_second_request_on_a_streams_connection_is_not_heard(server, channel, when):
    second = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    with Reader(server, path_of(channel)) as one:
        if when == "with the first":
            one.headers = {"X-Last": "1\r\n\r\n" + second.decode().rstrip()}  # written as it is
        one.connect()
        one.until("connected", lambda: "connected" in one.names())
        if when == "later":
            one._socket.sendall(second)
        broadcast(server, channel, 1, 2)
        one.until("its events", lambda: one.numbers() == [1, 2])
        assert one.ends == 0
        with contextlib.suppress(OSError):  # one that goes on and on is cut off
            for _ in range(100):
                one._socket.sendall(b"x" * 65536)
        eventually("it is gone", lambda: server.client_count() == 0)


def test_a_thousand_reconnects_a_second_leave_nothing_behind(server, channel):
    with reader(server, channel) as bystander:
        cursor = bystander.cursor
        request = f"GET {path_of(channel)} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {cursor}\r\n\r\n".encode()

        def storm(count):
            begin = time.monotonic()
            for number in range(count):
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as peer:
                    peer.sendall(request)
                    if number % 3:
                        peer.recv(100)
                    if number % 3 == 2:  # leaves with a reset
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                time.sleep(max(0.0, begin + number / 1000 - time.monotonic()))
            eventually("all have left", lambda: server.client_count() == 1)
            return server.memory_kib(), server.open_files()

        memory, files = storm(1000)
        opened = server.metric("sluice_sse_clients_total")
        numbers = list(range(20))
        publisher = threading.Thread(target=broadcast, args=(server, channel, *numbers))
        publisher.start()
        after, files_after = storm(3000)
        publisher.join()
        assert server.metric("sluice_sse_clients_total") > opened + 1500  # many were served, not only accepted
        assert files_after <= files + 2, (files, files_after)
        assert after < memory + 8192, (memory, after)
        bystander.until("its events", lambda: bystander.numbers() == numbers)
        assert bystander.ends == 0


@pytest.mark.parametrize("name", ["..", "../../etc/passwd", "*", "a.*", "{user}", "%2e%2e", "a b", "a/b", "\u00fc" * 100])
def test_a_channel_name_is_only_a_name(server, name):
    with Reader(server, path_of(name)) as one, Reader(server, path_of("other")) as other:
        for who in (one, other):
            who.connect()
            who.until("connected", lambda: "connected" in who.names())
        broadcast(server, "other", 1)
        broadcast(server, name, 2)
        one.until("its event", lambda: one.numbers())
        other.until("its event", lambda: other.numbers())
        assert (one.numbers(), other.numbers()) == ([2], [1])


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b", "\x7f", "x" * 201, "x" * 10240, "\u00fc" * 101])
def test_a_channel_name_with_control_characters_or_too_long_is_refused_everywhere(server, name):
    quoted = urllib.parse.quote(name, safe="")
    for got in (server.get(f"/kafka/events?channels={quoted}"), server.get(f"/events/stream?channels=good,{quoted}"),
                server.post(f"/kafka/sse/broadcast/{quoted}", json.dumps({"data": 1}))):
        got.problem(400 if got.status != 431 else 431)
    with SseClient(server.port, path_of("good", clientId="me")) as stream:
        stream.wait("connected", lambda one: one.name == "connected")
        server.post("/kafka/sse/subscribe/me", json.dumps({"channels": [name]})).problem(400)
        broadcast(server, "good", 1)
        stream.wait("it goes on", lambda one: one.name == "message")


# -- cursors -----------------------------------------------------------------------------------------------------------

def test_a_cursor_with_any_byte_changed_is_a_gap_or_refused(server, channel):
    with reader(server, channel) as one:
        broadcast(server, channel, 1, 2)
        one.until("both", lambda: one.numbers() == [1, 2])
        cursor = one.cursor
    outcomes = {"gap": 0, "refused": 0}
    for place in range(len(cursor)):
        for flip in (0x01, 0x20, 0x80):
            changed = cursor[:place] + chr(ord(cursor[place]) ^ flip) + cursor[place + 1:]
            request = f"GET {path_of(channel)} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {changed}\r\n\r\n".encode("latin-1")
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
                peer.sendall(request)
                answer = b""
                while b"event: gap" not in answer and (status_of(answer) or 200) < 400:
                    more = peer.recv(65536)  # in vain where there is silence
                    assert more, (place, flip, changed, answer)
                    answer += more
                if b'"reason":"unknown"' in answer:
                    outcomes["gap"] += 1
                else:
                    assert status_of(answer) == 400, (place, flip, changed, answer)
                    outcomes["refused"] += 1
    assert outcomes["gap"] >= 2 * len(cursor) and sum(outcomes.values()) == 3 * len(cursor), outcomes
    for cut in range(1, len(cursor)):
        if cut % 8 == 0:
            with SseClient(server.port, path_of(channel, lastEventId=cursor[:cut])) as back:
                assert back.wait("gap", lambda one: one.name == "gap").json()["reason"] == "unknown"


# -- replays that are disturbed ----------------------------------------------------------------------------------------

LARGE = 12000  # events of 2 kB: more than the kernel, the server and librdkafka hold for a client that is slow


def replay_config(bootstrap, **more):
    """Next to nothing is in memory, so that replays come from Kafka."""
    return live_config(bootstrap, sse={"replayBytes": 2000, "replayWarmup": 0}, **more)


def test_a_broker_that_is_away_during_a_replay_costs_nothing_but_time(own_kafka, sluice):
    kafka = own_kafka.start()
    config = replay_config(kafka.bootstrap)
    config["kafka"]["properties"].update({"reconnect.backoff.max.ms": "500", "queued.max.messages.kbytes": "1024"})
    server = sluice(config)
    with reader(server, "work") as one:
        broadcast(server, "work", -1)  # and the topic is there
        one.until("it", lambda: one.numbers() == [-1])
        start = one.cursor
    fill(kafka.bootstrap, config["sse"]["broadcastTopic"], "work", LARGE, 2000)
    with Reader(server, path_of("work"), cursor=start) as back:
        back.until("some", lambda: len(back.numbers()) > 500)
        kafka.kill()
        rest = threading.Thread(target=back.until, args=("all", lambda: len(back.numbers()) >= LARGE))
        rest.start()
        time.sleep(3)  # the stream waits, or its client is told to come back
        assert len(back.numbers()) < LARGE
        kafka.start()
        rest.join()
        broadcast(server, "work", LARGE)
        back.until("live again", lambda: back.numbers()[-1] == LARGE)
        assert back.numbers() == list(range(LARGE + 1))
        assert back.names() <= {"connected", "message"}


def test_a_token_that_expires_during_a_replay_ends_it_and_a_new_one_goes_on(sluice, kafka):
    config = replay_config(kafka.bootstrap, auth={"leeway": 0})
    server = sluice(config, environment={"SLUICE_AUTH_JWT_SECRET": SECRET})
    rights = {"subscribe": ["work"], "publish": ["work"]}
    bearer = lambda seconds: {"Authorization": "Bearer " + hs256(claims(seconds=seconds, rights=rights))}
    server.token = hs256(claims(rights=rights))
    with reader(server, "work", headers=bearer(60)) as one:
        broadcast(server, "work", -1)  # and the topic is there
        one.until("it", lambda: one.numbers() == [-1])
        start = one.cursor
    fill(kafka.bootstrap, config["sse"]["broadcastTopic"], "work", LARGE, 2000)
    with Reader(server, path_of("work"), headers=bearer(4), cursor=start) as back:
        back.connect()
        got = 0
        while back.chunk():
            time.sleep((len(back.events) - got) * 0.0007)  # all of it would take twice as long as the token holds
            got = len(back.events)
        got = len(back.numbers())
        assert back.clean_ends == 1 and back.retries and 0 < got < LARGE, (back.clean_ends, got)
        assert back.connect().status == 401  # and no more of it with this one
        back.headers = bearer(60)
        back.connect()
        back.until("the rest", lambda: len(back.numbers()) >= LARGE)
        assert back.numbers() == list(range(LARGE))
        assert "gap" not in back.names()


# -- crowds ------------------------------------------------------------------------------------------------------------

def test_10000_clients_that_leave_at_once_leave_nothing_behind(sluice, kafka):
    server = sluice(live_config(kafka.bootstrap, sse={"heartbeat": 15000}))
    with reader(server, "work") as bystander:
        files = server.open_files()
        with Crowd(server, "work", 10000) as crowd:
            assert server.client_count() == 10001
            broadcast(server, "work", 0, 1)
            crowd.wait("all have both", lambda now: now["next"] == [2, 2])
            crowd.say("leave")
            broadcast(server, "work", 2, 3)
            bystander.until("its events", lambda: bystander.numbers() == [0, 1, 2, 3])
            eventually("all have left", lambda: server.client_count() == 1, 20)
            eventually("no descriptor is left", lambda: server.open_files() <= files + 2)
        assert bystander.ends == 0


@pytest.mark.seconds(180)
def test_5000_clients_that_come_back_after_a_restart_lose_and_double_nothing(sluice, kafka):
    config = live_config(kafka.bootstrap, sse={"heartbeat": 15000, "retry": 1000})
    server, stays = sluice(config), sluice(config)
    stop, published = threading.Event(), []

    def publish():
        while not stop.is_set():
            broadcast(stays, "work", len(published))
            published.append(len(published))
            time.sleep(0.25)

    with Crowd(server, "work", 5000) as crowd:
        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            crowd.wait("events", lambda now: now["next"][0] > 5)
            for end in (server.stop, server.kill):
                before = crowd.say()["opened"]
                end()
                server.start()
                crowd.wait("all are back", lambda now: now["opened"] >= before + crowd.count and now["streams"] == crowd.count)
                mark = len(published)
                crowd.wait("events again", lambda now: now["next"][0] > mark)
        finally:
            stop.set()
            publisher.join()
        crowd.wait("all have all", lambda now: now["next"] == [len(published)] * 2)
        assert crowd.say()["opened"] == 15000
