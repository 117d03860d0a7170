"""WebSocket: the same channels, cursors, rights and limits as streams of server-sent events."""

import json
import threading

import pytest

from support import SseClient, WebSocket, config_for, eventually, raw, status_of, unique


@pytest.fixture
def server(sluice, kafka):
    return sluice(config_for(kafka.bootstrap, sse={"broadcastTopic": unique("broadcast"), "heartbeat": 1000}))


def broadcast(server, channel, data, **more):
    got = server.post(f"/kafka/sse/broadcast/{channel}", json.dumps({"data": data, **more}))
    assert got.status == 202, got


def test_a_socket_subscribes_publishes_and_gets_what_others_get(server):
    with WebSocket(server.port, "/ws?clientId=me") as socket, \
            SseClient(server.port, "/kafka/events?channels=orders") as stream:
        assert socket.wait_type("connected")["data"] == {"clientId": "me", "channels": []}
        stream.wait("connected", lambda one: one.name == "connected")
        socket.say({"type": "subscribe", "channels": ["orders"], "ref": 1})
        assert socket.wait_type("ack") == {"type": "ack", "ref": 1, "channels": ["orders"]}
        socket.say({"type": "publish", "channel": "orders", "event": "paid", "data": {"n": 1}, "ref": "two"})
        got = {socket.read()["type"] for _ in range(2)}
        assert got == {"ack", "event"}
        (event,) = [one for one in socket.messages if one["type"] == "event"]
        assert event["channel"] == "orders" and event["event"] == "paid" and event["data"] == {"n": 1} and event["id"]
        assert stream.wait("paid", lambda one: one.name == "paid").id == event["id"]
        socket.say({"type": "unsubscribe", "channels": ["orders"]})
        assert socket.wait_type("ack")["channels"] == []
        broadcast(server, "orders", 2)
        socket.say({"type": "ping", "ref": 9})
        assert socket.wait_type("pong")["ref"] == 9
        assert not [one for one in socket.messages if one.get("data") == 2]
        assert [one["protocol"] for one in server.get("/kafka/sse/clients").json()["clients"]].count("websocket") == 1


def test_a_socket_resumes_where_a_stream_was(server):
    with SseClient(server.port, "/kafka/events?channels=work") as stream:
        stream.wait("connected", lambda one: one.name == "connected")
        broadcast(server, "work", 1)
        cursor = stream.wait("one", lambda one: one.name == "message").id
    broadcast(server, "work", 2)
    broadcast(server, "work", 3)
    with WebSocket(server.port, f"/ws?channels=work&lastEventId={cursor}") as socket:
        assert [socket.wait_type("event")["data"] for _ in range(2)] == [2, 3]
        broadcast(server, "work", 4)
        assert socket.wait_type("event")["data"] == 4
        assert not [one for one in socket.messages if one["type"] == "gap"]
    with WebSocket(server.port, "/ws?channels=work&lastEventId=nonsense") as socket:
        assert socket.wait_type("gap")["data"] == {"reason": "unknown", "missed": None}


@pytest.mark.parametrize("message, words", [
    ("no json", "JSON object"), ("[]", "JSON object"), ({"type": 5}, "JSON object"), ({"type": "dance"}, "none of"),
    ({"type": "subscribe"}, "/channels"), ({"type": "subscribe", "channels": ["a\nb"]}, "channel name"),
    ({"type": "publish", "data": 1}, "channel"), ({"type": "publish", "channel": "a"}, "/data"),
    ({"type": "publish", "channel": "a", "data": 1, "event": "x\ny"}, "/event"),
])
def test_a_wrong_message_is_answered_and_the_socket_stays_open(server, message, words):
    with WebSocket(server.port) as socket:
        socket.say(message)
        assert words in socket.wait_type("error")["detail"]
        socket.say({"type": "ping"})
        socket.wait_type("pong")


@pytest.mark.parametrize("opcode, payload, fin, code", [
    (2, b"binary", True, 1003), (1, b"\xff\xfe", True, 1007), (1, b"x" * 70000, True, 1009), (3, b"", True, 1002),
    (9, b"x" * 126, True, 1002), (0, b"continued", True, 1002),
])
def test_what_breaks_the_protocol_ends_with_the_code_that_says_so(server, opcode, payload, fin, code):
    with WebSocket(server.port) as socket:
        socket.wait_type("connected")
        socket.send_frame(opcode, payload, fin)
        while socket.read() is not None:
            pass
        assert socket.code == code


def test_an_ended_client_is_told_by_its_close_code(server):
    with WebSocket(server.port, "/ws?clientId=me") as socket:
        socket.wait_type("connected")
        assert server.request("DELETE", "/kafka/sse/clients/me?reason=enough").status == 200
        assert socket.wait_type("closed")["data"] == {"reason": "enough"}
        assert socket.read() is None and socket.code == 1000


def test_pings_keep_a_quiet_socket_open(server):
    with WebSocket(server.port, "/ws?channels=a") as socket:
        socket.wait_type("connected")
        later = threading.Timer(3, broadcast, (server, "a", 1))  # three heartbeats, in which nobody says anything else
        later.start()
        assert socket.wait_type("event")["data"] == 1
        assert socket.pings >= 1 and socket.code is None
        later.join()


def test_a_socket_that_leaves_pings_unanswered_is_cut_off(server):
    with WebSocket(server.port, "/ws?clientId=mute") as socket:
        socket.wait_type("connected")
        eventually("gone", lambda: server.client_count() == 0, 5)


def test_a_request_that_is_no_websocket_is_told_so(server):
    server.get("/ws").problem(426)
    assert status_of(raw(server.port, b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                      b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")) == 426


def test_close_codes_say_whether_to_come_back(server):
    with WebSocket(server.port, "/ws?clientId=me") as first, WebSocket(server.port, "/ws?clientId=me") as second:
        second.wait_type("connected")
        while first.read() is not None:
            pass
        assert first.code == 4001, "a later socket of the same client took over"
        server.stop()
        assert second.wait_type("retry")["ms"] > 0
        assert second.read() is None and second.code == 1001
