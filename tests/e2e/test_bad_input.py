"""Bad input: every wrong request, configuration and record has its answer, and the server goes on."""

import json
import re
import socket
import subprocess
import time

import pytest

from support import (BINARY, SASL_PASSWORD, SASL_USER, Client, Server, aggregation, clean_environment, config_for,
                     consume, event, eventually, free_port, produce, raw, run_cli, status_of, toml, unique, values_of)

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def shared(brokers, tmp_path_factory):
    """One server for all wrong requests: it has to stand them all. (server, bootstrap, source, sink)"""
    kafka = brokers("shared")
    source, sink = unique("events"), unique("summaries")
    server = Server(tmp_path_factory.mktemp("bad-input"),
                    config_for(kafka.bootstrap, aggregation(source, sink, batchSize=2),
                               http={"headerTimeout": 1500, "maxHeaderBytes": 8192}))
    server.start()
    pid = server.pid
    yield server, kafka.bootstrap, source, sink
    assert server.running() and server.pid == pid, server.log()[-3000:]
    server.stop()


@pytest.fixture
def server(shared):
    yield shared[0]
    assert shared[0].get("/livez").status == 200
    assert shared[0].metric("sluice_restarts_total") == 0


# -- bodies ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("body", [b"", b"   \r\n", None])
def test_an_empty_body_is_400(server, body):
    got = server.request("POST", "/events", body, {"Content-Type": "application/json"})
    assert got.problem(400)["field"] == "body"


@pytest.mark.parametrize("body", [
    b"{", b"}", b"nonsense", b'{"a":}', b'{"a":1,}', b'{"a":1} x', b"{'a':1}", b'{"payload":{"times":NaN}}',
    b'{"payload":{"times":Infinity}}', b'{"payload":{"times":1e400}}', b'{"payload":{"times":0x10}}', b'{"a":"\xff\xfe"}',
    b'{"a":"\x00"}', b'{"a":"\n"}', b'\xef\xbb\xbf{', b'{"a":1}{"a":2}', b'{"a":"\\ud800"}', b'{"payload":{"times":01}}',
])
def test_what_is_not_json_is_400_and_says_where(server, body):
    problem = server.request("POST", "/events", body, {"Content-Type": "application/json"}).problem(400)
    assert problem["field"] == "body"


@pytest.mark.parametrize("body", ["1", '"text"', "null", "true", "[1]", "[[]]", '[{"payload":{"times":1}},"x"]', "[]"])
def test_what_is_not_an_object_is_400(server, body):
    server.post("/events", body).problem(400)


def test_a_wrong_element_of_an_array_is_named_and_nothing_is_written(shared, server):
    _, bootstrap, source, _ = shared
    before = len(consume(bootstrap, source))
    assert server.post("/events", [event(1), event(2), 3, event(4)]).problem(400)["field"] == "/2"
    problem = server.post("/events", b'{"a":1}\n{"a":2}\n{oops\n', content_type="application/x-ndjson").problem(400)
    assert "3" in problem["field"] + problem["detail"]
    assert len(consume(bootstrap, source)) == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml",
                                          "multipart/form-data; boundary=x", "nonsense"])
def test_a_wrong_content_type_is_415(server, content_type):
    for path in ("/events", "/kafka/send/some-topic"):
        assert "json" in server.post(path, "{}", content_type=content_type).problem(415)["detail"]


def test_json_content_types_with_parameters_are_taken(server):
    for content_type in ("application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json"):
        assert server.post("/events", json.dumps(event(1)), content_type=content_type).status == 202


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_deep_nesting_is_400(server, depth):
    body = '{"a":' * depth + "1" + "}" * depth
    server.post("/events", body).problem(400)
    server.post("/events", "[" * depth + "]" * depth).problem(400)
    server.post("/kafka/send/some-topic", '{"value":' + "[" * depth + "]" * depth + "}").problem(400)


def test_a_10_mb_body_is_413(server):
    big = json.dumps(event(1, filler="x" * (10 * MIB)))
    server.post("/events", big).problem(413)
    # Announced only: answered before it is sent.
    head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    assert status_of(raw(server.port, head % (10 * MIB), timeout=5)) == 413
    chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
    head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status_of(raw(server.port, head + chunk * 32, timeout=5)) == 413
    assert server.memory_kib() < 200 * 1024


def test_a_body_just_under_the_limit_is_taken(server):
    frame = len(json.dumps(event(1, filler="")))
    assert server.post("/events", json.dumps(event(1, filler="x" * (900_000 - frame)))).status == 202


@pytest.mark.parametrize("body, field", [
    ({}, "/value"), ({"value": 1, "kee": "x"}, "/kee"), ({"value": 1, "key": 5}, "/key"),
    ({"value": 1, "headers": []}, "/headers"), ({"value": 1, "headers": {"a": 1}}, "/headers/a"), ([], None),
    ({"value": 1, "partition": -1}, "/partition"), ({"value": 1, "partition": "0"}, "/partition"),
])
def test_a_wrong_message_names_its_field(server, body, field):
    problem = server.post("/kafka/send/some-topic", body).problem(400)
    if field:
        assert problem["field"] == field
        batch = server.post("/kafka/send/some-topic/batch", {"messages": [{"value": 1}, body]}).problem(400)
        assert batch["field"] == "/messages/1" + field


@pytest.mark.parametrize("topic", ["a%20b", "a%2Fb", "%2e%2e", "x" * 250, "a%00b", "%C3%BC"])
def test_an_illegal_topic_name_is_400(server, topic):
    server.post(f"/kafka/send/{topic}", {"value": 1}).problem(400)


def test_an_unknown_partition_is_an_error_of_that_record(server):
    got = server.post(f"/kafka/send/{unique('t')}", {"value": 1, "partition": 77})
    assert got.status in (404, 422, 503), got
    got.problem(got.status)


# -- requests ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/", "/nothing", "/eventss", "/kafka", "/kafka/send", "/../etc/passwd",
                                  "/kafka/send/a/b", "/%2e%2e/x"])
def test_an_unknown_path_is_404(server, path):
    server.get(path).problem(404)


@pytest.mark.parametrize("method, path, allowed", [
    ("PUT", "/events", {"GET", "POST"}), ("DELETE", "/events", {"GET", "POST"}), ("POST", "/kafka/status", {"GET"}),
    ("GET", "/kafka/send/t", {"POST"}), ("PATCH", "/livez", {"GET"}), ("POST", "/metrics", {"GET"}),
])
def test_a_wrong_method_is_405_with_allow(server, method, path, allowed):
    got = server.request(method, path)
    got.problem(405)
    assert allowed <= {name.strip() for name in got.headers["allow"].split(",")}


@pytest.mark.parametrize("request_bytes", [
    b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET /livez\r\n\r\n", b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n",
    b"G\x00T / HTTP/1.1\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
])
def test_a_malformed_request_is_400_and_closed(server, request_bytes):
    answer = raw(server.port, request_bytes, timeout=5)
    assert status_of(answer) in ((400, 505) if b"HTTP/9.9" in request_bytes else (400,)), answer[:200]
    assert b'"ok":false' in answer.replace(b" ", b"")
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1


def test_a_bad_escape_in_the_path_is_400(server):
    assert status_of(raw(server.port, b"GET /kafka/send/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 400


def test_headers_over_the_limit_are_431(server):
    for extra in (b"X-Big: " + b"x" * 9000, b"\r\n".join(b"X-%d: y" % i for i in range(2000))):
        answer = raw(server.port, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n\r\n", timeout=5)
        assert status_of(answer) == 431, answer[:200]
    answer = raw(server.port, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", timeout=5)
    assert status_of(answer) in (414, 431), answer[:200]


def test_a_request_that_drips_in_is_408(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        begin = time.monotonic()
        peer.settimeout(0.1)
        answer = b""
        for byte in b"GET /livez HTTP/1.1\r\nX-Slow: " + b"y" * 1000:
            try:
                peer.sendall(bytes([byte]))
                answer += peer.recv(4096)
                break
            except TimeoutError:
                assert time.monotonic() - begin < 8, "the server waits for a slow request for ever"
            except OSError:
                break
        seconds = time.monotonic() - begin
    assert status_of(answer) == 408, answer
    assert 1 < seconds < 6


def test_a_body_that_drips_in_is_408(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        begin = time.monotonic()
        peer.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        answer = peer.recv(4096)
        assert status_of(answer) == 408, answer
        assert 1 < time.monotonic() - begin < 6


def test_a_connection_that_says_nothing_is_closed(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as peer:
        assert status_of(peer.recv(4096)) in (None, 408)


def test_a_client_gone_in_the_middle_of_its_body_leaves_nothing_behind(shared, server):
    _, bootstrap, source, _ = shared
    before = len(consume(bootstrap, source))
    files = server.open_files()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 1000\r\n\r\n" + json.dumps(event(1)).encode())
    eventually("all closed", lambda: server.open_files() <= files + 5)
    assert len(consume(bootstrap, source)) == before


def test_thousands_of_connects_and_closes_leave_nothing_behind(server):
    files, memory = server.open_files(), server.memory_kib()
    for _ in range(20):
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        for number, peer in enumerate(peers):
            if number % 3 == 0:
                peer.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            if number % 2:  # a reset instead of an end
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()
    eventually("all closed", lambda: server.open_files() <= files + 5)
    eventually("no clients", lambda: server.metric("sluice_sse_clients") == 0)
    assert server.memory_kib() < memory + 60_000
    assert server.get("/livez").status == 200


def test_connections_beyond_the_limit_wait_and_are_served_later(sluice, kafka):
    server = sluice(config_for(kafka.bootstrap, aggregation(unique("events"), unique("summaries")),
                               http={"maxConnections": 20}))
    streams = [server.events() for _ in range(20)]
    for stream in streams:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as late:
        late.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        late.settimeout(0.7)
        with pytest.raises(TimeoutError):
            late.recv(1)
        for stream in streams:
            stream.close()
        late.settimeout(10)
        assert status_of(late.recv(4096)) == 200


def test_pipelined_requests_are_answered_in_order(server):
    two = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(server.port, two, timeout=5)
    assert answer.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 404" in answer


def test_expect_100_continue_is_answered(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as peer:
        body = json.dumps(event(1)).encode()
        peer.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
                     b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        first = peer.recv(4096)
        assert first.startswith(b"HTTP/1.1 100"), first
        peer.sendall(body)
        assert status_of(peer.recv(4096)) == 202


# -- records -----------------------------------------------------------------------------------------------------------

POISON = ["not json", "", '{"payload":{}}', '{"payload":{"times":"42"}}', '{"payload":{"times":null}}',
          '{"payload":{"times":true}}', '{"payload":{"times":[1]}}', '{"payload":7}', "[]", "42", "\ufeff{}",
          '{"payload":{"times":NaN}}', '{"payload":{"times":1e400}}', '{"payload":{"times":42}', "[" * 3000]


def test_poison_records_go_to_the_dead_letter_topic_and_the_rest_flows_on(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=20, sampleSize=20)))
    good = list(range(40))
    mixed = [event(number) for number in good[:20]] + [one for one in POISON if one] + [event(n) for n in good[20:]]
    produce(kafka.bootstrap, source, mixed, key="k1")
    summaries = eventually("two summaries", lambda: (lambda got: len(got) == 2 and got)(
        values_of(consume(kafka.bootstrap, sink))))
    assert sorted(one["payload"]["times"] for summary in summaries for one in summary["eventSample"]) == good
    letters = eventually("the dead letters", lambda: (lambda got: len(got) == len(POISON) - 1 and got)(
        consume(kafka.bootstrap, f"{source}.dlq")))
    assert sorted(one["payload"] for one in letters) == sorted(one for one in POISON if one)
    originals = {(one["partition"], one["offset"]): one for one in consume(kafka.bootstrap, source)}
    for letter in letters:
        headers = letter["headers"]
        origin = originals[int(headers["sluice-dlq-partition"]), int(headers["sluice-dlq-offset"])]
        assert letter["payload"] == origin["payload"] and letter["key"] == origin["key"] == "k1"
        assert headers["sluice-dlq-topic"] == source
        assert int(headers["sluice-dlq-timestamp"]) == origin["ts"]
        assert headers["sluice-dlq-error"] == "malformed_record" and headers["sluice-dlq-reason"]
        assert int(headers["sluice-dlq-attempts"]) >= 1 and "default" in headers["sluice-dlq-processor"]
        assert origin["ts"] <= int(headers["sluice-dlq-first-failure"]) <= int(headers["sluice-dlq-last-failure"])
    assert server.metric("sluice_dead_letters_total") == len(letters)
    server.stop()
    server.start()  # dealt with once and for all
    time.sleep(2)
    assert len(consume(kafka.bootstrap, f"{source}.dlq")) == len(letters)


def test_a_number_as_text_is_taken_and_then_dead_lettered(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink)))
    assert server.post("/events", {"payload": {"times": "42"}}).status == 202
    (letter,) = eventually("a dead letter", lambda: consume(kafka.bootstrap, f"{source}.dlq"))
    assert json.loads(letter["payload"]) == {"payload": {"times": "42"}}
    assert letter["headers"]["sluice-event-id"]


def test_very_large_numbers_are_counted(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=1)))
    for number in (2**63, 2**64, -2**63, 2**53 + 2, 1e300):
        server.publish(event(number))
    summaries = eventually("five summaries", lambda: (lambda got: len(got) == 5 and got)(
        values_of(consume(kafka.bootstrap, sink))))
    assert sorted(one["statistics"]["sumOfValues"] for one in summaries) == [-2.0**63, 2**53 + 2, 2.0**63, 2.0**64, 1e300]


def test_a_sum_beyond_all_numbers_is_not_invalid_json(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=2)))
    server.publish(event(1.7e308), event(1.7e308))
    server.publish(event(1), event(2))
    records = eventually("two summaries", lambda: (lambda got: len(got) == 2 and got)(consume(kafka.bootstrap, sink)))
    for one in records:
        json.loads(one["payload"], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


# -- start-up ----------------------------------------------------------------------------------------------------------

def refused(folder, config, *args, **environment):
    """`sluice serve` must not start; returns what it says."""
    path = folder / "bad.toml"
    path.write_text(config if isinstance(config, str) else toml(config))
    done = run_cli("serve", "--config", str(path), *args, **environment)
    assert done.returncode not in (0, None) and done.returncode > 0, done
    assert done.stderr.strip()
    return done.stderr


@pytest.mark.parametrize("config, words", [
    ({"kafka": {"brokerz": "x:1"}}, ["bad.toml", "brokerz", "brokers"]),
    ({"htttp": {"port": 1}}, ["bad.toml", "htttp", "http"]),
    ({"http": {"prot": 1}}, ["bad.toml", "prot", "port"]),
    ({"http": {"port": 70000}}, ["bad.toml", "port", "70000"]),
    ({"http": {"port": "many"}}, ["bad.toml", "port", "many"]),
    ({"aggregations": [{"batchsize": 0}]}, ["bad.toml", "batchsize", "batchSize"]),
    ({"aggregations": [{"batchSize": 0}]}, ["batchSize"]),
    ({"aggregations": [{"valuePointer": "payload"}]}, ["valuePointer"]),
    ({"aggregations": [{"name": "a"}, {"name": "a"}]}, ["name"]),
    ({"aggregations": [{"topics": ["x"], "sink": "x"}]}, ["sink"]),
    ({"log": {"level": "loud"}}, ["level", "loud", "debug"]),
    ({"kafka": {"brokers": "host:port"}}, ["brokers"]),
    ({"kafka": {"properties": {"no.such.property": "1"}}}, ["no.such.property"]),
    ({"kafka": {"properties": {"socket.timeout.ms": "soon"}}}, ["socket.timeout.ms"]),
    ({"http": {"host": "0.0.0.0"}}, ["--insecure"]),
    ("this is [not toml", ["bad.toml"]),
])
def test_a_wrong_configuration_is_refused_and_the_mend_named(folder, config, words):
    said = refused(folder, config)
    for word in words:
        assert word in said, said


def test_a_missing_configuration_file_is_named(folder):
    done = run_cli("serve", "--config", str(folder / "absent.toml"))
    assert done.returncode > 0 and "absent.toml" in done.stderr


def test_a_taken_port_is_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refused(folder, {"kafka": {"brokers": f"127.0.0.1:{free_port()}"}, "http": {"port": port}})


def test_an_unreachable_broker_address_is_shown_in_the_status(sluice):
    for address in (f"127.0.0.1:{free_port()}", "no-such-host.invalid:9092"):
        server = sluice(config_for(address, aggregation("events-topic", "events-summary-table")), ready=False)
        status = eventually("an error", lambda: (lambda got: got["kafka"].get("error") and got)(server.status()))
        assert status["ok"] is True and status["kafka"]["connected"] is False
        assert status["kafka"]["brokers"] == address
        assert status["producer"]["connected"] is False and status["consumer"]["connected"] is False
        got = server.get("/readyz")
        got.problem(503)
        assert int(got.headers["retry-after"]) > 0
        assert server.get("/livez").status == 200
        server.stop()


def sasl(broker, mechanism, password):
    return {"brokers": broker.sasl_bootstrap, "groupId": unique("group"), "securityProtocol": "SASL_PLAINTEXT",
            "saslMechanism": mechanism, "saslUsername": SASL_USER, "saslPassword": password, "deliveryTimeout": 3000}


def sasl_server(sluice, broker, mechanism, password, **more):
    source, sink = unique("events"), unique("summaries")
    return sluice(config_for("", aggregation(source, sink, batchSize=1), kafka=sasl(broker, mechanism, password)),
                  **more), sink


def test_the_right_sasl_password_works(sluice, strict_kafka):
    server, sink = sasl_server(sluice, strict_kafka, "PLAIN", SASL_PASSWORD)
    server.publish(event(5))
    eventually("a summary", lambda: len(consume(strict_kafka.bootstrap, sink)) == 1)


def test_the_right_scram_password_works(sluice, brokers):
    # Kafka 4 refuses the SCRAM of librdkafka before 2.6.1, which is what Debian 12 has.
    kafka = brokers("scram", version="3.9.2", sasl=True)
    server, sink = sasl_server(sluice, kafka, "SCRAM-SHA-256", SASL_PASSWORD)
    server.publish(event(5))
    eventually("a summary", lambda: len(consume(kafka.bootstrap, sink)) == 1)


def test_a_wrong_sasl_password_is_said_in_the_status_and_never_shown(sluice, strict_kafka):
    server, _ = sasl_server(sluice, strict_kafka, "PLAIN", "wr0ng-pass", ready=False)
    error = eventually("an error", lambda: server.status()["kafka"].get("error"))
    eventually("the right error", lambda: "uthentication" in server.status()["kafka"]["error"])
    assert server.status()["kafka"]["connected"] is False
    server.get("/readyz").problem(503)
    assert server.post("/events", event(1)).json()["queued"] is True
    assert "wr0ng-pass" not in server.log() + json.dumps(server.status()) + error


def test_a_missing_topic_is_404_where_brokers_create_none(sluice, strict_kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(strict_kafka.bootstrap, aggregation(source, sink)))
    begin = time.monotonic()
    topic = unique("absent")
    assert topic in server.post(f"/kafka/send/{topic}", {"value": 1}).problem(404)["detail"]
    batch = server.post(f"/kafka/send/{topic}/batch", [{"value": 1}, {"value": 2}])
    batch.problem(404)
    assert time.monotonic() - begin < 15
    assert server.post("/events", event(1)).status == 202  # its own topics it creates


def test_missing_topics_of_its_own_are_said_where_it_may_not_create_them(sluice, strict_kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(strict_kafka.bootstrap, aggregation(source, sink, batchSize=1),
                               kafka={"createTopics": False}), ready=False)
    # 503 while it starts
    got = eventually("an answer about the topic", lambda: server.post("/events", event(1)).problem(404))
    assert source in got["detail"]
    assert server.get("/livez").status == 200 and server.status()["ok"] is True
    # Once someone creates them, it goes on by itself.
    creator = sluice(config_for(strict_kafka.bootstrap, aggregation(source, sink, name="other", batchSize=10**6)))
    creator.stop()
    eventually("published", lambda: server.post("/events", event(1)).status == 202, timeout=40)
    eventually("a summary", lambda: len(consume(strict_kafka.bootstrap, sink)) >= 1, timeout=40)


def test_a_full_disk_for_the_log_stops_nothing(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=1),
                               log={"file": "/dev/full", "level": "debug"}))
    server.publish(*[event(number) for number in range(50)])
    eventually("the summaries", lambda: len(consume(kafka.bootstrap, sink)) == 50)


def test_a_full_disk_behind_standard_error_stops_nothing(kafka, folder):
    source, sink = unique("events"), unique("summaries")
    config = config_for(kafka.bootstrap, aggregation(source, sink, batchSize=1), http={"port": free_port()})
    (folder / "full.toml").write_text(toml(config))
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([str(BINARY), "serve", "--config", str(folder / "full.toml")],
                                   stdin=subprocess.DEVNULL, stdout=full, stderr=full, env=clean_environment())
    try:
        client = Client(config["http"]["port"])
        eventually("ready", lambda: client.get("/readyz").status == 200, timeout=30)
        client.publish(event(1))
        eventually("a summary", lambda: len(consume(kafka.bootstrap, sink)) == 1)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_log_file_that_cannot_be_opened_is_refused(folder):
    said = refused(folder, {"log": {"file": str(folder / "absent" / "x.log")}})
    assert "x.log" in said


def test_running_out_of_file_descriptors_is_survived(kafka, folder):
    """Connections beyond the process's limit do not end it, and it serves again once some have gone."""
    config = config_for(kafka.bootstrap, aggregation(unique("events"), unique("summaries")), http={"port": free_port()})
    (folder / "few.toml").write_text(toml(config))
    with open(folder / "few.log", "wb") as log:
        process = subprocess.Popen(["sh", "-c", 'ulimit -n 128 && exec "$0" serve --config "$1"', str(BINARY),
                                    str(folder / "few.toml")], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=clean_environment())
    try:
        client = Client(config["http"]["port"], timeout=3)
        eventually("ready", lambda: client.get("/readyz").status == 200, timeout=30)
        peers = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(300)]
        time.sleep(1)
        assert process.poll() is None
        for peer in peers:
            peer.close()
        eventually("live again", lambda: client.get("/livez").status == 200, timeout=15)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
