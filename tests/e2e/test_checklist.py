"""The checklist of a correct server of event streams, a test for each line of it, in its order and words.

What the wire format asks of the encoder is proved at length in tests/unit/event_source_test.cpp; here it is what leaves the
running server. Two servers serve the whole file; a few tests, which end or limit theirs, have one of their own.
"""

import base64
import binascii
import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import socket
import threading
import time
import zlib

import pytest

from support import ROOT, Client, Server, SseClient, config_for, eventually, kcat, run_cli, unique
from test_access import SECRET, claims, hs256

HEARTBEAT = 300  # ms
ORIGIN = "https://app.example"


# -- servers and clients -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def make_server(brokers, tmp_path_factory):
    """Servers that live as long as the module and have to end in order."""
    kafka = brokers("shared")
    with contextlib.ExitStack() as stack:
        def make(sse=None, environment=None, **more):
            quick = {"broadcastTopic": unique("broadcast"), "heartbeat": HEARTBEAT, "checkpoint": 300, "retry": 1000}
            config = config_for(kafka.bootstrap, sse={**quick, **(sse or {})}, **more)
            made = Server(tmp_path_factory.mktemp("server"), config, environment=environment)
            made.bootstrap = kafka.bootstrap
            stack.callback(made.stop)
            return made.start()
        yield make


@pytest.fixture(scope="module")
def server(make_server):
    """Without authentication. Channels: `left` and `right` have a topic each, `short` keeps nothing for later."""
    topics = {name: unique(name) for name in ("left", "right", "short")}
    made = make_server(channels=[{"name": "left", "topics": [topics["left"]]}, {"name": "right", "topics": [topics["right"]]},
                                 {"name": "short", "topics": [topics["short"]], "retention": 1}])
    made.topics = topics
    return made


@pytest.fixture(scope="module")
def guarded(make_server):
    """With tokens, cookies and pages of another origin; compresses."""
    return make_server(sse={"compression": True}, environment={"SLUICE_AUTH_JWT_SECRET": SECRET},
                       auth={"cookie": "session", "leeway": 0}, http={"corsOrigins": [ORIGIN]})


@pytest.fixture
def channel():
    return unique("channel")


def token(user="ann", seconds=600, subscribe=("channel-*",), **more):
    return hs256(claims(user, seconds, {"subscribe": list(subscribe), "publish": ["channel-*"], **more}))


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def listen(server, channels, cursor=None, headers=None, **query):
    asked = "".join(f"&{name}={value}" for name, value in query.items())
    return SseClient(server.port, f"/kafka/events?channels={channels}{asked}",
                     headers={**({"Last-Event-ID": cursor} if cursor else {}), **(headers or {})})


def opened(stream):
    stream.wait("connected", lambda one: one.name == "connected")
    return stream


def broadcast(server, channel, *data, **more):
    for one in data:
        got = server.post(f"/kafka/sse/broadcast/{channel}", json.dumps({"data": one, **more}))
        assert got.status == 202, got


def messages(stream, count, timeout=20):
    """The first `count` events without a name."""
    stream.wait("messages", lambda one: one.name == "message", timeout, count)
    return [one for one in stream.events if one.name == "message"][:count]


def data_of(stream, count):
    return [one.json() for one in messages(stream, count)]


class Tap:
    """A stream's bytes as they come out of the chunks; nothing is parsed."""

    def __init__(self, port, path, headers=None, receive_buffer=None, **unpack):
        self.body, self.ended = b"", False
        self._unpack = zlib.decompressobj(31) if unpack.get("gzip") else None
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(15)
        self._socket.connect(("127.0.0.1", port))
        head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "x", **(headers or {})}.items())
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
        self.file = self._socket.makefile("rb", 1024)
        assert self.file.readline().split()[1] == b"200"
        self.headers = http.client.parse_headers(self.file)

    def chunk(self):
        """Reads one more; false at the end."""
        length = int(self.file.readline(), 16)
        data = self.file.read(length)
        assert self.file.readline() == b"\r\n"
        self.ended = length == 0
        self.body += self._unpack.decompress(data) if self._unpack else data
        return not self.ended

    def until(self, enough):
        """Reads until the body is enough, which is asked of all of it."""
        while not enough(self.body):
            assert self.chunk(), ("the stream ended", self.body[-300:])
        return self.body

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self._socket.close()


@pytest.fixture(scope="module")
def transcript(server):
    """The bytes of a stream that has had a bit of everything, to its end."""
    name = unique("channel")
    with Tap(server.port, f"/kafka/events?channels={name}&clientId=tapped") as tap:
        tap.until(lambda body: b"connected" in body)
        broadcast(server, name, {"n": 1}, "two\r\nlines \u2028 \ufeff \0", " x")
        broadcast(server, name, 3, event="named")
        tap.until(lambda body: b"named" in body)
        broadcast(server, name + "-not", 4)
        tap.until(lambda body: b"\n\n:\n\n" in body and re.search(rb"\n\nid: [^\n]+\n\n", body))
        assert server.request("DELETE", "/kafka/sse/clients/tapped?reason=done").status == 200
        while tap.chunk():
            pass
        return tap.body


def lines_of(body):
    return body.decode("utf-8").split("\n")


# -- wire format -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/events", "/kafka/events?channels=a", "/events/stream?channels=a"])
def test_content_type_is_text_event_stream_and_the_status_200(server, path):
    with SseClient(server.port, path) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"


def test_always_utf_8(server, channel):
    text = "\u00fc \u20ac \U0001f600 \u2028\u2029"
    with opened(listen(server, channel)) as stream:
        broadcast(server, channel, text)
        assert data_of(stream, 1) == [text]


def test_split_data_on_cr_lf_and_crlf(server):
    """Records of other producers are JSON with any line ends."""
    value = '{"a":1,\r"id: x":2,\n"event: x":3,\r\n\r\n"data":4}\r'
    with opened(listen(server, "left")) as stream, Tap(server.port, "/kafka/events?channels=left") as tap:
        tap.until(lambda body: b"connected" in body)
        assert server.post(f"/kafka/send/{server.topics['left']}", {"value": value}).status == 200
        (got,) = messages(stream, 1)
        assert got.json() == {"a": 1, "id: x": 2, "event: x": 3, "data": 4} and got.id != "x"
        assert got.data == value.replace("\r\n", "\n").replace("\r", "\n")
        body = tap.until(lambda body: b'"data":4}\ndata: \n\n' in body)
        assert b"\r" not in body and b'data: {"a":1,\ndata: "id: x":2,\ndata: "event: x":3,\ndata: \ndata: "data":4}' in body


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\r\nb", "a\0b", "\n", ""])
def test_id_and_event_refuse_cr_lf_nul(server, field, text):
    problem = server.post("/kafka/sse/broadcast/a", json.dumps({"data": 1, field: text})).problem(400)
    assert problem["field"] == f"/{field}"


def test_exactly_one_space_after_the_colon(transcript):
    for line in lines_of(transcript):
        assert re.fullmatch(r"|:|(id|event|retry): [^ ].*|data: .*", line), line
    assert 'data: " x"' in lines_of(transcript)


def test_id_is_sticky_so_none_is_empty(transcript):
    assert not re.search(rb"^id:? ?$", transcript, re.MULTILINE)


def test_a_block_with_only_id_is_a_checkpoint_for_filtered_streams(server, channel):
    with opened(listen(server, channel)) as stream:
        before = stream.last_id
        broadcast(server, "elsewhere", 1, 2, 3)
        eventually("the cursor moves", lambda: stream.last_id != before)
        assert [one.name for one in stream.events] == ["connected"]
        cursor = stream.last_id
    broadcast(server, channel, 4)
    with listen(server, channel, cursor) as back:
        assert data_of(back, 1) == [4]
        assert "gap" not in [one.name for one in back.events]


def test_a_block_has_data_if_it_has_an_event_and_its_id_beside(transcript):
    blocks = [block.split("\n") for block in transcript.decode().removesuffix("\n\n").split("\n\n")]
    fields = [[line.split(":")[0] for line in block] for block in blocks]
    assert ["id", "event", "data"] in fields and ["id", "data"] in fields
    for names in fields:
        assert "event" not in names or "data" in names
        assert "data" not in names or names[0] == "id" or names == ["event", "data"], names  # `closed` has no place
    assert sum(names == ["event", "data"] for names in fields) == 1


def test_every_event_ends_with_a_blank_line(transcript):
    assert transcript.endswith(b'event: closed\ndata: {"reason":"done"}\n\n')


def test_no_bom_and_retry_in_digits_and_names_in_lower_case(transcript):
    assert b"\xef\xbb\xbf" not in transcript[:3]
    names = {line.split(":")[0] for line in lines_of(transcript) if line}
    assert names == {"", "id", "event", "data", "retry"}
    assert all(re.fullmatch(r"retry: [0-9]+", line) for line in lines_of(transcript) if line.startswith("retry"))


def test_serialised_writes_keep_heartbeats_out_of_lines(make_server, channel):
    server = make_server(sse={"heartbeat": 100})
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(opened(listen(server, channel))) for _ in range(10)]
        for number in range(15):
            broadcast(server, channel, [number, "x" * 100000])
            time.sleep(0.05)
        for stream in streams:  # which insist on the form of every line
            assert [one[0] for one in data_of(stream, 15)] == list(range(15))
        eventually("heartbeats among them", lambda: all(stream.comments for stream in streams))
        assert not any(stream.error for stream in streams)


# -- resume ------------------------------------------------------------------------------------------------------------

def test_last_event_id_header_first_then_query_and_the_last_of_duplicates(server, channel):
    with opened(listen(server, channel)) as stream:
        broadcast(server, channel, *range(5))
        assert data_of(stream, 5) == list(range(5))
        ids = [one.id for one in messages(stream, 5)]
    twice = f"{ids[0]}\r\nLast-Event-ID: {ids[2]}"  # the client below writes it as it is: two headers
    for header, query, expected in (
            (ids[2], "", [3, 4]), (None, f"&lastEventId={ids[1]}", [2, 3, 4]), (None, f"&last_event_id={ids[2]}", [3, 4]),
            (None, f"&Last-Event-ID={ids[3]}", [4]), (ids[3], f"&lastEventId={ids[0]}", [4]), (twice, "", [3, 4]),
            (None, f"&lastEventId={ids[0]}&lastEventId={ids[3]}", [4]),
            (None, f"&lastEventId={ids[2]}&last_event_id={ids[0]}&Last-Event-ID={ids[0]}", [3, 4])):
        with SseClient(server.port, f"/kafka/events?channels={channel}{query}",
                       headers={"Last-Event-ID": header} if header else {}) as back:
            assert data_of(back, len(expected)) == expected, (header, query)
            assert "gap" not in [one.name for one in back.events]


def test_a_bootstrap_cursor_for_the_first_connect(server, channel):
    with opened(listen(server, channel)) as stream:
        cursor = stream.last_id  # there before any event
        broadcast(server, channel, 1, 2)
        assert data_of(stream, 2) == [1, 2]
    assert cursor
    for query in ({"lastEventId": cursor}, {"from": "earliest"}):
        with listen(server, channel, **query) as first:
            assert data_of(first, 2) == [1, 2]


def with_offsets(cursor, change):
    """The cursor with another next offset for each partition that has one; its form is that of live_cursor.hpp."""
    raw = base64.urlsafe_b64decode(cursor[1:] + "=" * (-len(cursor[1:]) % 4))[:-2]

    def take():
        nonlocal raw
        value = shift = 0
        while True:
            byte, raw = raw[0], raw[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def put(value):
        out = b""
        while value >= 0x80:
            out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
        return out + bytes([value])

    out = b""
    while raw:
        out, raw = out + raw[:4], raw[4:]
        count = take()
        out += put(count)
        for _ in range(count):
            known = take()
            out += put(change(known - 1) + 1 if known else 0)
    checked = out + binascii.crc_hqx(out, 0xFFFF).to_bytes(2, "big")
    return "1" + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()


def test_an_unknown_ahead_or_expired_cursor_is_an_explicit_gap(server, channel):
    with opened(listen(server, channel)) as stream:
        broadcast(server, channel, 1)
        cursor = messages(stream, 1)[0].id
    assert with_offsets(cursor, lambda offset: offset) == cursor
    for bad, reason in (("nonsense", "unknown"), ("1" + "A" * 60, "unknown"), ("x" * 9000, "unknown"),
                        (with_offsets(cursor, lambda offset: offset + 1000), "future"),
                        (with_offsets(cursor, lambda offset: 2 ** 62), "future")):
        with listen(server, channel, bad) as back:
            gap = back.wait("gap", lambda one: one.name == "gap")
            assert gap.json() == {"reason": reason, "missed": None}
            broadcast(server, channel, reason)  # neither silence nor a replay of everything
            assert data_of(back, 1) == [reason]
    with opened(listen(server, "short")) as stream:
        cursor = stream.last_id
        for number in range(3):
            assert server.post(f"/kafka/send/{server.topics['short']}", {"value": number}).status == 200
        data_of(stream, 3)
    time.sleep(0.05)  # they are older than the channel keeps them
    with listen(server, "short", cursor) as back:
        assert back.wait("gap", lambda one: one.name == "gap").json() == {"reason": "expired", "missed": 3}


def test_a_cursor_is_looked_up_in_an_index_however_far_back(server, channel):
    """Where the log is searched, there is a cap on the search, and nothing beyond it."""
    count = 15000
    with opened(listen(server, channel)) as stream:
        start = stream.last_id
    lines = "".join(f"{channel}\t{number}\n" for number in range(count))
    kcat("-P", "-q", "-b", server.bootstrap, "-t", server.config["sse"]["broadcastTopic"], "-K", "\t", "-X", "acks=all",
         data=lines.encode())
    with listen(server, channel, start) as back:
        ids = [one.id for one in messages(back, count)]
    for cursor, first in ((start, 0), (ids[0], 1), (ids[count - 3], count - 2)):
        with listen(server, channel, cursor) as back:
            assert data_of(back, count - first) == list(range(first, count))
            assert "gap" not in [one.name for one in back.events]


def test_history_joins_live_without_hole_or_duplicate(server, channel):
    stop, count = threading.Event(), itertools.count()

    def publish():
        while not stop.is_set():
            broadcast(server, channel, next(count))

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(opened(listen(server, channel)))
        start = first.last_id
        publisher = threading.Thread(target=publish)
        publisher.start()
        streams = [first]
        for step in range(10):  # each comes while events do
            cursor = messages(first, step * 5 + 1)[-1].id if step % 2 else start
            streams.append(stack.enter_context(listen(server, channel, cursor)))
        messages(first, 100)
        stop.set()
        publisher.join()
        last = next(count) - 1
        for stream, begin in zip(streams, [0, 0, 6, 0, 16, 0, 26, 0, 36, 0, 46]):
            stream.wait("the last", lambda one: one.name == "message" and one.json() == last)
            assert [one.json() for one in stream.events if one.name == "message"] == list(range(begin, last + 1))


def test_one_sequence_domain_per_cursor(server):
    """The id of any event of a stream of two topics says where the stream is in both."""
    with opened(listen(server, "left,right")) as stream:
        for number in range(10):
            for side in ("left", "right"):
                got = server.post(f"/kafka/send/{server.topics[side]}", {"value": json.dumps([side, number])})
                assert got.status == 200, got
        seen = messages(stream, 20)
    for index in (0, 7, 12, 18):
        with listen(server, "left,right", seen[index].id) as back:
            expected = [one.json() for one in seen[index + 1:]]
            assert sorted(data_of(back, len(expected))) == sorted(expected)


# -- keeping it open ---------------------------------------------------------------------------------------------------

def test_headers_are_flushed_at_once_and_heartbeats_are_comments(server, channel):
    with Tap(server.port, f"/kafka/events?channels={channel}") as tap:  # its headers are here, and nothing happens
        tap.until(lambda body: b"retry: " in body)
        tap.until(lambda body: body.count(b"\n\n:\n\n") >= 2)
        assert tap.body.count(b"data:") == 1  # `connected`
    shown = run_cli("config").stdout
    assert re.search(r'heartbeat\s*=\s*"15s"', shown), shown


def test_heartbeats_do_not_wake_onmessage(server, channel):
    with opened(listen(server, channel)) as stream:
        eventually("heartbeats", lambda: len(stream.comments) >= 3)
        assert [one.name for one in stream.events] == ["connected"]


def test_cache_control_and_no_buffering(server, channel):
    with listen(server, channel) as stream:
        wanted = {"no-cache", "no-store", "no-transform"}
        assert set(re.split(r",\s*", stream.headers["cache-control"])) == wanted
        assert stream.headers["x-accel-buffering"] == "no"


def test_compression_with_a_flush_per_event(guarded, channel):
    with Tap(guarded.port, f"/kafka/events?channels={channel}", gzip=True,
             headers={"Accept-Encoding": "gzip", **bearer(token())}) as tap:
        assert tap.headers["content-encoding"] == "gzip"
        tap.until(lambda body: b"connected" in body)
        for number in range(3):
            broadcast(as_user(guarded), channel, f"number {number}")
            tap.until(lambda body: f"number {number}".encode() in body)  # though nothing follows it


def test_many_channels_per_stream_and_a_documented_way_to_share_one(server, channel):
    names = [f"{channel}-{number}" for number in range(100)]
    with opened(listen(server, ",".join(names))) as stream:
        for name in (names[0], names[57], names[99]):
            broadcast(server, name, name)
        assert sorted(data_of(stream, 3)) == sorted([names[0], names[57], names[99]])  # in order within a channel only
    assert "navigator.locks" in (ROOT / "docs" / "live.md").read_text()  # run in a browser by test_clients.py


def test_a_write_deadline_and_a_bounded_queue_per_client_and_closes_counted(server, channel):
    before, reads = server.metric("sluice_sse_clients_slow_total"), server.memory_kib()
    with Tap(server.port, f"/kafka/events?channels={channel}", receive_buffer=4096) as stalled, \
            opened(listen(server, channel)) as other:
        stalled.until(lambda body: b"connected" in body)
        for number in range(20):
            broadcast(server, channel, [number, "x" * 900000])
        assert [one[0] for one in data_of(other, 20)] == list(range(20))
        eventually("cut off and counted", lambda: server.metric("sluice_sse_clients_slow_total") == before + 1)
    assert server.memory_kib() < reads + 100000


# -- reconnect, drain, stop --------------------------------------------------------------------------------------------

def test_retry_at_start_and_before_drain_jittered_and_lifetimes_too(make_server, channel):
    server = make_server(sse={"lifetime": 1500})
    with contextlib.ExitStack() as stack:
        taps = [stack.enter_context(Tap(server.port, f"/kafka/events?channels={channel}")) for _ in range(12)]
        ends = []
        for tap in taps:
            tap.until(lambda body: b"connected" in body)
        broadcast(server, channel, 1)

        def read(tap):
            while tap.chunk():
                pass
            ends.append(time.monotonic())

        readers = [threading.Thread(target=read, args=(tap,)) for tap in taps]
        for one in readers:
            one.start()
        for one in readers:
            one.join(10)
        assert len(ends) == 12 and all(tap.ended for tap in taps)  # by the last chunk
        assert max(ends) - min(ends) > 0.05
        retries = [[int(one) for one in re.findall(rb"^retry: (\d+)$", tap.body, re.MULTILINE)] for tap in taps]
        assert all(len(one) == 2 and 800 <= one[0] <= 1200 for one in retries), retries
        assert len({one[0] for one in retries}) > 3 and len({one[1] for one in retries}) > 3


def test_on_sigterm_readiness_fails_first_and_streams_end_between_events(make_server, channel):
    server = make_server(supervision={"drainDelay": 1000})
    streams = [opened(listen(server, channel)) for _ in range(20)]
    broadcast(server, channel, 1)
    for one in streams:
        data_of(one, 1)
        one.retry = None
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.connect()
    os.kill(server.pid, signal.SIGTERM)
    ended_before = None
    with contextlib.suppress(OSError, http.client.HTTPException):
        while ended_before is None:
            any_ended = any(one.ended.is_set() for one in streams)
            connection.request("GET", "/readyz")
            got = connection.getresponse()
            got.read()
            if got.status == 503:
                ended_before = any_ended
    assert ended_before is False
    assert server.process.wait(15) == 0
    for one in streams:
        assert one.ended.wait(5) and one.ended_cleanly and one.error is None
        assert 800 <= one.retry <= 1200  # said again, before the end
    assert len({one.retry for one in streams}) > 3


def test_204_stops_reconnecting(server, channel):
    with opened(listen(server, channel, clientId="revoked")) as stream:
        assert server.request("DELETE", "/kafka/sse/clients/revoked?reason=abuse").status == 200
        assert stream.wait("closed", lambda one: one.name == "closed").json() == {"reason": "abuse"}
    for _ in range(2):
        assert server.get(f"/kafka/events?channels={channel}&clientId=revoked").status == 204
    with listen(server, channel, clientId="another") as stream:
        assert stream.status == 200


def test_busy_is_200_with_a_large_jittered_retry_and_a_close(make_server, channel):
    server = make_server(sse={"maxStreams": 1})
    with opened(listen(server, channel)):
        bodies = set()
        for _ in range(5):
            got = server.get(f"/kafka/events?channels={channel}")
            assert got.status == 200 and got.headers["content-type"].startswith("text/event-stream")
            assert 10000 <= int(re.fullmatch(rb"retry: (\d+)\n\n", got.body).group(1)) <= 30000
            bodies.add(got.body)
        assert len(bodies) > 1


@pytest.mark.parametrize("how", ["an operator", "a later stream"])
def test_streams_end_cleanly_whatever_ends_them(server, channel, how):
    """Firefox and clients made of fetch word a cut in the middle differently. Ends by time are tested above and below."""
    with opened(listen(server, channel, clientId=channel)) as stream, contextlib.ExitStack() as stack:
        if how == "an operator":
            assert server.request("DELETE", f"/kafka/sse/clients/{channel}").status == 200
        else:
            stack.enter_context(opened(listen(server, channel, clientId=channel)))
        assert stream.ended.wait(5) and stream.ended_cleanly and stream.error is None


# -- security and CORS -------------------------------------------------------------------------------------------------

def as_user(server, text=None):
    return Client(server.port, token=text or token())


def test_a_cookie_a_ticket_and_authorization(guarded, channel):
    ticket = as_user(guarded).request("POST", "/auth/ticket").json()["ticket"]
    secret = token()
    for query, headers in (({"ticket": ticket}, {}), ({}, {"Cookie": f"session={secret}"}), ({}, bearer(secret))):
        with opened(listen(guarded, channel, headers=headers, **query)) as stream:
            assert stream.status == 200
    for query in ({"ticket": ticket}, {"ticket": secret}, {"token": secret}, {"access_token": secret}, {}):
        assert listen(guarded, channel, **query).status == 401, "a ticket is good once, and a token has no place in a URL"
    assert ticket not in guarded.log() and secret not in guarded.log()


def test_cors_with_credentials_echoes_the_origin_and_preflight_allows_the_headers(guarded, channel):
    path = f"/kafka/events?channels={channel}"
    got = guarded.request("OPTIONS", path, headers={
        "Origin": ORIGIN, "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, last-event-id"})
    allowed = re.split(r",\s*", got.headers["access-control-allow-headers"].lower())
    assert got.status == 204 and {"authorization", "last-event-id"} <= set(allowed)
    for origin, echoed in ((ORIGIN, ORIGIN), ("https://evil.example", None)):
        with listen(guarded, channel, headers={**bearer(token()), "Origin": origin}) as stream:
            assert stream.headers.get("access-control-allow-origin") == echoed
            assert "Origin" in stream.headers["vary"]
            assert stream.headers.get("access-control-allow-credentials") == ("true" if echoed else None)
        with listen(guarded, channel, headers={"Cookie": f"session={token()}", "Origin": origin}) as stream:
            assert stream.status == (200 if echoed else 403)


def test_a_stream_ends_no_later_than_its_token(guarded, channel):
    with opened(listen(guarded, channel, headers=bearer(token(seconds=2)))) as stream:
        assert stream.ended.wait(10) and stream.ended_cleanly


def test_authorization_is_checked_again_on_replay(guarded, channel):
    with opened(listen(guarded, channel, headers=bearer(token()))) as stream:
        broadcast(as_user(guarded), channel, 1, 2)
        cursor = messages(stream, 2)[0].id
    with listen(guarded, channel, cursor, headers=bearer(token())) as back:
        assert data_of(back, 1) == [2]
    for text, status in ((token(subscribe=["other"]), 403), (token(seconds=-1), 401)):
        assert listen(guarded, channel, cursor, headers=bearer(text)).status == status


def test_caps_per_user_per_address_and_on_churn(make_server, channel):
    server = make_server(sse={"maxStreamsPerUser": 2, "maxStreamsPerAddress": 5, "maxOpensPerSecond": 20},
                         environment={"SLUICE_AUTH_JWT_SECRET": SECRET})

    def refused():
        shown = Client(server.port, token=token(roles=["admin"])).get("/metrics").body.decode()
        return {reason: int(float(count)) for reason, count in
                re.findall(r'sluice_sse_streams_refused_total\{reason="(\w+)"\} (\S+)', shown)}

    with contextlib.ExitStack() as stack:
        for user, reason in (("ann", None), ("ann", None), ("ann", "user"), ("bob", None), ("bob", None), ("cid", None),
                             ("dan", "address")):
            if reason:
                got = as_user(server, token(user)).get(f"/kafka/events?channels={channel}")
                assert got.status == 200 and re.fullmatch(rb"retry: [123]\d{4}\n\n", got.body), got
            else:
                stack.enter_context(opened(listen(server, channel, headers=bearer(token(user)))))
        assert refused() == {"streams": 0, "user": 1, "address": 1, "rate": 0}
    eventually("all have left", lambda: Client(server.port, token=token(roles=["admin"])).metric("sluice_sse_clients") == 0)
    for _ in range(1000):
        with Tap(server.port, f"/kafka/events?channels={channel}", headers=bearer(token("eve"))):
            pass
        if refused()["rate"]:
            return
    raise AssertionError("streams may be opened and closed at any rate")


# -- test it -----------------------------------------------------------------------------------------------------------

def test_a_reader_of_10_kb_a_second_is_served(server, channel):
    with Tap(server.port, f"/kafka/events?channels={channel}", receive_buffer=4096) as tap:
        tap.until(lambda body: b"connected" in body)
        for number in range(25):
            broadcast(server, channel, f"{number:04}" + "x" * 1000)
        for number in range(25):
            tap.until(lambda body: f'data: "{number:04}'.encode() in body)
            time.sleep(0.1)


def test_a_proxy_that_cuts_idle_connections_does_not_cut_streams(server, channel):
    """The proxy's patience is to the heartbeat here as 60 s is to 15 s."""
    listener = socket.create_server(("127.0.0.1", 0))

    def relay():
        with listener.accept()[0] as near, socket.create_connection(("127.0.0.1", server.port)) as far:
            far.settimeout(4 * HEARTBEAT / 1000)
            far.sendall(near.recv(65536))
            with contextlib.suppress(OSError):
                while data := far.recv(65536):
                    near.sendall(data)

    threading.Thread(target=relay, daemon=True).start()
    with listener, opened(SseClient(listener.getsockname()[1], f"/kafka/events?channels={channel}")) as stream:
        eventually("twice the proxy's patience", lambda: len(stream.comments) >= 8)
        broadcast(server, channel, 1)
        assert data_of(stream, 1) == [1]


def test_a_mass_disconnect_leaves_nothing_behind(server, channel):
    eventually("others have left", lambda: server.client_count() == 0)
    files = server.open_files()
    streams = [listen(server, channel) for _ in range(300)]
    for one in streams:
        opened(one)
    for one in streams:
        one.close()
    eventually("all have left", lambda: server.client_count() == 0)
    eventually("no descriptor is left", lambda: server.open_files() <= files + 2)
    with opened(listen(server, channel)) as stream:
        broadcast(server, channel, 1)
        assert data_of(stream, 1) == [1]
