"""The main job: events in by HTTP and Kafka, summaries out to Kafka, everything live over SSE."""

import json
import re
import socket
import time

from support import (SseClient, aggregation, check_summary, config_for, consume, event, eventually, free_port, kcat,
                     produce, unique, values_of)


def started(sluice, kafka, **more):
    """A server with one aggregation on topics of its own: (server, source, sink)."""
    source, sink = unique("events"), unique("summaries")
    sections = {name: more.pop(name) for name in ("http", "sse", "demo", "log", "kafka", "token") if name in more}
    if "kafka" in sections:
        sections["kafka"].setdefault("groupId", unique("group"))
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, **more), **sections))
    return server, source, sink


def in_topic(kafka, result):
    """The record a publishing answer speaks of."""
    found = [one for one in consume(kafka.bootstrap, result["topic"])
             if (one["partition"], one["offset"]) == (result["partition"], result["offset"])]
    assert len(found) == 1, result
    return found[0]


# -- publishing --------------------------------------------------------------------------------------------------------

def test_one_event_is_answered_with_its_place_in_kafka(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    sent = event(42)
    got = server.post("/events", sent)
    assert got.status == 202 and got.headers["content-type"].startswith("application/json")
    body = got.json()
    assert body["ok"] is True
    for where in (body, body["results"][0]):
        assert where["topic"] == source and where["partition"] in range(4) and where["offset"] >= 0
    record = in_topic(kafka, body)
    assert json.loads(record["payload"]) == sent
    assert re.fullmatch(r"[0-9a-f-]{36}", record["headers"]["sluice-event-id"])


def test_an_array_is_answered_with_one_place_for_each_event_in_order(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    sent = [event(number) for number in range(20)]
    got = server.post("/events", sent)
    assert got.status == 202 and got.json()["ok"] is True
    results = got.json()["results"]
    written = {(one["partition"], one["offset"]): json.loads(one["payload"]) for one in consume(kafka.bootstrap, source)}
    assert [written[one["partition"], one["offset"]] for one in results] == sent
    assert len(written) == 20


def test_ndjson_is_one_event_a_line(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    sent = [event(number, note="Zeile\nmit Umbruch, ü und 🚀") for number in range(3)]
    text = "\n".join(json.dumps(one, ensure_ascii=False) for one in sent) + "\n\n"
    for end in ("\n", "\r\n"):
        got = server.post("/events", text.replace("\n", end), content_type="application/x-ndjson")
        assert got.status == 202 and len(got.json()["results"]) == 3
    assert sorted(values_of(consume(kafka.bootstrap, source)), key=str) == sorted(sent + sent, key=str)


def test_an_event_may_be_any_json_object_and_is_kept_byte_for_byte(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    text = '{ "b":1.50, "a":[1,2,{"c":null}],\t"times":"7" }'
    got = server.post("/events", text)
    assert got.status == 202
    assert in_topic(kafka, got.json())["payload"] == text


def test_traceparent_goes_through_to_the_record(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    got = server.post("/events", event(1), traceparent=trace)
    assert in_topic(kafka, got.json())["headers"]["traceparent"] == trace


def test_kafka_send_writes_key_value_and_headers_to_any_topic(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    topic = unique("orders")
    got = server.post(f"/kafka/send/{topic}", {"key": "k1", "value": {"id": 7}, "headers": {"h": "v"}})
    assert got.status == 200 and got.json()["ok"] is True
    record = in_topic(kafka, got.json())
    assert record["topic"] == topic and record["key"] == "k1" and json.loads(record["payload"]) == {"id": 7}
    assert record["headers"]["h"] == "v"
    text = server.post(f"/kafka/send/{topic}", {"value": "plain text"})
    assert in_topic(kafka, text.json())["payload"] == "plain text"


def test_kafka_send_batch_answers_for_each_record_and_keeps_equal_keys_together(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    topic = unique("orders")
    messages = [{"key": f"k{number % 3}", "value": {"number": number}} for number in range(30)]
    for body in ({"messages": messages}, messages):
        got = server.post(f"/kafka/send/{topic}/batch", body)
        assert got.status == 200 and got.json()["ok"] is True
        results = got.json()["results"]
        assert len(results) == 30 and all(one["topic"] == topic and one["offset"] >= 0 for one in results)
        for key in range(3):
            mine = results[key::3]
            assert len({one["partition"] for one in mine}) == 1
            assert [one["offset"] for one in mine] == sorted(one["offset"] for one in mine)
    assert len(consume(kafka.bootstrap, topic)) == 60


# -- aggregation -------------------------------------------------------------------------------------------------------

def test_a_summary_comes_after_batch_size_events_in_the_documented_shape(sluice, kafka):
    server, source, sink = started(sluice, kafka, batchSize=10)
    before = int(time.time() * 1000)
    sent = [event(number) for number in (45, 40, 50, 41, 49, 42, 48, 43, 47, 45)]
    # In one partition, since only there they have an order.
    assert server.post(f"/kafka/send/{source}/batch", [{"value": one, "partition": 0} for one in sent]).status == 200
    (summary,) = eventually("one summary", lambda: values_of(consume(kafka.bootstrap, sink)))
    check_summary(summary)
    assert summary["statistics"] == {"totalEvents": 10, "sumOfValues": 450, "averageValue": 45, "minValue": 40,
                                     "maxValue": 50}
    assert summary["eventSample"] == sent[-5:]
    assert before - 1000 <= summary["aggregationPeriod"]["start"] <= summary["timestamp"] <= time.time() * 1000 + 1000
    assert summary["aggregationPeriod"]["end"] == summary["timestamp"]


def test_a_summary_comes_after_the_interval_and_never_for_no_events(sluice, kafka):
    server, _, sink = started(sluice, kafka, batchSize=1000, interval=700)
    time.sleep(1.5)
    assert consume(kafka.bootstrap, sink) == []
    server.publish(event(3))
    (summary,) = eventually("a summary", lambda: values_of(consume(kafka.bootstrap, sink)))
    check_summary(summary)
    assert summary["statistics"]["totalEvents"] == 1 and summary["statistics"]["sumOfValues"] == 3
    assert 600 <= summary["aggregationPeriod"]["durationMs"] < 3000
    time.sleep(1.5)
    assert len(consume(kafka.bootstrap, sink)) == 1


def test_what_kcat_writes_is_aggregated_too(sluice, kafka):
    _, source, sink = started(sluice, kafka, batchSize=100, sampleSize=100)
    produce(kafka.bootstrap, source, [event(number) for number in range(200)])
    summaries = eventually("two summaries", lambda: (lambda got: len(got) >= 2 and got)(
        values_of(consume(kafka.bootstrap, sink))))
    assert sorted(one["payload"]["times"] for summary in summaries for one in summary["eventSample"]) == list(range(200))


def test_fractions_negatives_and_zero_add_up(sluice, kafka):
    server, _, sink = started(sluice, kafka, batchSize=4)
    server.publish(event(-1.5), event(0), event(2.25), event(1e3))
    (summary,) = eventually("a summary", lambda: values_of(consume(kafka.bootstrap, sink)))
    assert summary["statistics"] == {"totalEvents": 4, "sumOfValues": 1000.75, "averageValue": 250.1875,
                                     "minValue": -1.5, "maxValue": 1000}


def test_with_a_key_pointer_every_key_has_its_own_window(sluice, kafka):
    server, _, sink = started(sluice, kafka, batchSize=3, keyPointer="/user")
    for number in range(3):
        server.publish(event(number, user="ann"), event(100 + number, user="bob"), event(number, user="once"))
        if number == 1:
            assert consume(kafka.bootstrap, sink) == []
    records = eventually("three summaries", lambda: (lambda got: len(got) >= 3 and got)(consume(kafka.bootstrap, sink)))
    sums = {one["key"]: json.loads(one["payload"])["statistics"]["sumOfValues"] for one in records}
    assert sums == {"ann": 3, "bob": 303, "once": 3}


def test_several_aggregations_read_the_same_topic_independently(sluice, kafka):
    source, small, large = unique("events"), unique("small"), unique("large")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, small, batchSize=2),
                               aggregation(source, large, name="large", batchSize=6, valuePointer="/other")))
    for number in range(6):
        server.publish(event(number, other=10 * number))
    eventually("three small summaries", lambda: len(consume(kafka.bootstrap, small)) == 3)
    (summary,) = eventually("one large summary", lambda: values_of(consume(kafka.bootstrap, large)))
    assert summary["statistics"]["sumOfValues"] == 150
    assert set(server.status()["aggregations"]) == {"default", "large"}


def test_an_open_window_survives_a_restart(sluice, kafka):
    server, _, sink = started(sluice, kafka, batchSize=5, sampleSize=5)
    server.publish(*[event(number) for number in range(3)])
    eventually("three in the window", lambda: server.status()["consumer"]["currentAggregation"]["currentBuffer"] == 3)
    server.stop()
    server.start()
    eventually("three in the window again",
               lambda: server.status()["consumer"]["currentAggregation"]["currentBuffer"] == 3)
    server.publish(event(3), event(4))
    (summary,) = eventually("a summary", lambda: values_of(consume(kafka.bootstrap, sink)))
    assert sorted(one["payload"]["times"] for one in summary["eventSample"]) == [0, 1, 2, 3, 4]


# -- live --------------------------------------------------------------------------------------------------------------

def test_a_stream_begins_with_the_headers_and_retry_an_eventsource_needs(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    with server.events() as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
        assert re.search(r"no-(cache|store)", stream.headers["cache-control"])
        assert stream.headers.get("x-accel-buffering") == "no"
        assert stream.headers["transfer-encoding"] == "chunked" and "content-length" not in stream.headers
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
        assert 2400 <= stream.retry <= 3600  # 3000, jittered


def test_the_first_event_is_a_snapshot_of_the_open_window(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    server.publish(event(10), event(50), event(30))
    eventually("three in the window", lambda: server.status()["consumer"]["currentAggregation"]["currentBuffer"] == 3)
    with server.events() as stream:
        first = stream.wait("the first event", lambda one: True)
        assert first.name == "snapshot" and first.id
        assert '"currentBuffer":3' in first.data.replace(" ", "")
        snapshot = first.json()
        shown = snapshot["aggregations"]["default"]
        assert shown["stats"] == {"totalEvents": 3, "sumOfValues": 90, "minValue": 10, "maxValue": 50}


def test_events_and_summaries_are_live_with_ids(sluice, kafka):
    server, source, _ = started(sluice, kafka, batchSize=3)
    with server.events() as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
        sent = [event(1), event(2)]
        for one in sent:
            server.publish(one)
        produce(kafka.bootstrap, source, [event(3)])  # not by way of this server
        stream.wait_times(1, 2, 3)
        summary = stream.wait_summary()
        check_summary(summary)
        assert summary["statistics"]["sumOfValues"] == 6
        shown = [one.json() for one in stream.events if one.json().get("payload", {}).get("times") in (1, 2)]
        assert sorted(shown, key=str) == sorted(sent, key=str)
        assert all(one.name == "message" for one in stream.events[1:])
        cursors = [one.id for one in stream.events]
        assert all(cursors) and len(set(cursors)) == len(cursors)


def test_what_is_published_after_the_snapshot_is_always_seen(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    for number in range(10):
        with server.events() as stream:
            stream.wait("the snapshot", lambda one: one.name == "snapshot")
            server.publish(event(1000 + number))
            stream.wait_times(1000 + number, timeout=5)


def test_live_events_come_promptly_and_in_order_to_many_clients(sluice, kafka):
    server, _, _ = started(sluice, kafka, batchSize=10**6)
    streams = [server.events() for _ in range(50)]
    for stream in streams:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    for number in range(0, 200, 20):
        got = server.post(f"/kafka/send/{server.config['aggregations'][0]['topics'][0]}/batch",
                          [{"value": event(number + i), "partition": 0} for i in range(20)])
        assert got.status == 200, got
    begin = time.monotonic()
    for stream in streams:
        stream.wait_times(199)
        assert [one.json()["payload"]["times"] for one in stream.events if one.name == "message"] == list(range(200))
        stream.close()
    assert time.monotonic() - begin < 5


def test_a_quiet_stream_has_heartbeats(sluice, kafka):
    server, _, _ = started(sluice, kafka, sse={"heartbeat": 300})
    with server.events() as stream:
        eventually("three comments", lambda: len(stream.comments) >= 3, timeout=5)
        assert not stream.ended.is_set() and stream.error is None


def test_a_client_that_leaves_is_noticed_at_once(sluice, kafka):
    server, _, _ = started(sluice, kafka, sse={"heartbeat": 60000})
    streams = [server.events() for _ in range(20)]
    for stream in streams:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    assert server.metric("sluice_sse_clients") == 20
    for stream in streams:
        stream.close()
    eventually("no clients", lambda: server.metric("sluice_sse_clients") == 0, timeout=2)


def test_text_with_line_ends_cannot_break_out_of_its_event(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    with server.events() as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
        sneaky = '{"payload":{"times":1},\n\n"x":"\\n\\ndata: {}\\n\\n"\r,"event":"y"}\r\nevent: z'.replace("event: z", "")
        server.post("/events", sneaky)
        seen = stream.wait("the event", lambda one: one.json().get("event") == "y")
        assert seen.name == "message" and seen.json()["x"] == "\n\ndata: {}\n\n"


def test_a_slow_client_is_ended_and_the_others_go_on(sluice, kafka):
    server, source, _ = started(sluice, kafka, batchSize=10**6, sse={"maxQueueBytes": 2_000_000},
                                http={"writeTimeout": 3000})
    fast = server.events()
    fast.wait("the snapshot", lambda one: one.name == "snapshot")
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually("two clients", lambda: server.metric("sluice_sse_clients") == 2)
    before = server.memory_kib()
    filler = "x" * 4000
    for start in range(0, 4000, 50):  # 16 MB, in portions the fast one can take
        produce(kafka.bootstrap, source, [event(start + i, filler=filler) for i in range(50)])
        fast.wait("events", lambda one: one.name == "message", timeout=20, count=start + 50)
    eventually("one client", lambda: server.metric("sluice_sse_clients") == 1, timeout=10)
    assert server.memory_kib() - before < 100_000
    slow.close()
    fast.close()


# -- status and health -------------------------------------------------------------------------------------------------

def test_status_answers_both_documented_shapes(sluice, kafka):
    server, source, sink = started(sluice, kafka, batchSize=100)
    server.publish(*[event(number) for number in (10, 20, 30, 40, 50)])
    status = eventually("five in the window", lambda: (lambda got: got["consumer"]["currentAggregation"][
        "currentBuffer"] == 5 and got)(server.status()))
    assert status["ok"] is True
    assert status["kafka"]["connected"] is True and status["kafka"]["brokers"] == kafka.bootstrap
    assert status["kafka"]["clientId"] == "sluice" and "error" not in status["kafka"]
    assert {source, sink} <= set(status["topics"])
    assert f"{server.config['kafka']['groupId']}-default" in status["consumers"]
    assert isinstance(status["message"], str) and status["message"]
    assert status["producer"] == {"connected": True}
    assert status["consumer"]["connected"] is True
    current = {"currentBuffer": 5,
               "stats": {"totalEvents": 5, "sumOfValues": 150, "minValue": 10, "maxValue": 50}}
    assert status["consumer"]["currentAggregation"] == current
    assert current.items() <= status["aggregations"]["default"].items()


def test_health_metrics_and_description_are_served(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    assert server.get("/livez").status == 200 and server.get("/readyz").status == 200
    server.publish(event(1))
    metrics = server.get("/metrics")
    assert metrics.status == 200 and metrics.headers["content-type"].startswith("text/plain")
    text = metrics.body.decode()
    for line in text.splitlines():
        assert line == "" or re.fullmatch(
            r"# (HELP|TYPE) \w+ .*|[a-zA-Z_:][\w:]*(\{.*\})? (-?[\d.eE+-]+|NaN|[+-]Inf)", line), line
    names = set(re.findall(r"^# TYPE (\w+) ", text, re.M))
    assert names and all(name.startswith(("sluice_", "process_")) for name in names), names
    described = server.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert {"/events", "/kafka/send/{topic}", "/kafka/send/{topic}/batch", "/kafka/status", "/livez", "/readyz",
            "/metrics", "/openapi.json"} <= set(described["paths"])
    assert {"get", "post"} <= set(described["paths"]["/events"])


def test_head_is_get_without_the_body(sluice, kafka):
    server, _, _ = started(sluice, kafka)
    got = server.request("HEAD", "/kafka/status")
    assert got.status == 200 and got.body == b""


def test_with_a_token_only_health_is_open(sluice, kafka):
    server, _, _ = started(sluice, kafka, token="s3cret-token")
    for method, path in (("GET", "/kafka/status"), ("POST", "/events"), ("GET", "/events"), ("GET", "/metrics"),
                         ("POST", "/kafka/send/t")):
        none = [] if path == "/kafka/status" else [{}]  # that is open on loopback, in part: test_access.py
        for headers in (*none, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer s3cret-toke"}):
            got = server.request(method, path, headers=headers)
            got.problem(401)
            assert "bearer" in got.headers["www-authenticate"].lower()
    server.token = "s3cret-token"
    server.publish(event(1))
    with server.events() as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    assert server.get("/livez").status == 200
    assert "s3cret-token" not in server.log()


# -- the embedded broker and the demo ----------------------------------------------------------------------------------

def test_the_demo_run_shows_events_and_summaries_and_kcat_can_join(sluice):
    port = free_port()
    server = sluice({"http": {"port": port}, "demo": {"interval": 100}}, args=["--embedded-broker", "--demo"])
    with SseClient(port) as stream:
        stream.wait("events", lambda one: one.name == "message" and "payload" in one.json(), count=12, timeout=20)
        check_summary(stream.wait_summary(timeout=30))
        bootstrap = server.status()["kafka"]["brokers"]
        assert re.fullmatch(r"127\.0\.0\.1:\d+", bootstrap)
        log = server.log()
        assert bootstrap in log and re.search(rf"http://(localhost|127.0.0.1):{port}\b", log) and log.count("curl ") >= 2
        assert b"events-topic" in kcat("-L", "-b", bootstrap)
        produce(bootstrap, "events-topic", [event(987654)])
        stream.wait_times(987654)


def test_without_the_demo_no_event_comes_by_itself(sluice, kafka):
    server, source, _ = started(sluice, kafka)
    time.sleep(2.5)
    assert consume(kafka.bootstrap, source) == []
    assert server.status()["consumer"]["currentAggregation"]["currentBuffer"] == 0
