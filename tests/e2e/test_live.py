"""Live delivery as its clients see it: channels, cursors, replay on any node, clients' management, notifications."""

import json
import subprocess
import time
import urllib.parse

import pytest

from support import SseClient, aggregation, config_for, eventually, kcat, produce, unique


def live_config(kafka, **more):
    """No aggregation; a broadcast topic of the test's own."""
    sse = {"broadcastTopic": unique("broadcast"), **more.pop("sse", {})}
    return config_for(kafka.bootstrap, sse=sse, **more)


def listen(server, channels, cursor=None, **query):
    query = urllib.parse.urlencode({"channels": channels, **query})
    return SseClient(server.port, f"/kafka/events?{query}", headers={"Last-Event-ID": cursor} if cursor else {})


def connected(client):
    return client.wait("connected", lambda one: one.name == "connected").json()


def broadcast(server, channel, data, **more):
    got = server.post(f"/kafka/sse/broadcast/{urllib.parse.quote(channel, safe='')}", json.dumps({"data": data, **more}))
    assert got.status == 202, got
    return got.json()


def numbers(client, count, timeout=20):
    """The first `count` numbers that came as data."""
    client.wait("numbers", lambda one: one.name == "n", timeout, count)
    return [one.json() for one in client.events if one.name == "n"][:count]


def gaps(client):
    return [one.json() for one in client.events if one.name == "gap"]


def test_a_broadcast_reaches_the_clients_of_its_channel_on_every_node(sluice, kafka):
    config = live_config(kafka)
    first, second = sluice(config), sluice(config)
    with listen(first, "alerts") as a, listen(second, "alerts,prices") as b, listen(second, "other") as c:
        for one in (a, b, c):
            assert connected(one)["clientId"]
        done = broadcast(first, "alerts", {"text": "maintenance"}, event="system_alert", id="my-1")
        assert done["topic"] == config["sse"]["broadcastTopic"] and done["eventId"] == "my-1"
        for one in (a, b):
            got = one.wait("alert", lambda event: event.name == "system_alert")
            assert got.json() == {"text": "maintenance"} and got.id
        broadcast(second, "prices", 7, event="n")
        assert numbers(b, 1) == [7]
        assert [one.name for one in c.events] == ["connected"]
        assert [one.name for one in a.events] == ["connected", "system_alert"]


def test_a_client_that_comes_back_gets_exactly_what_it_missed_on_any_node(sluice, kafka):
    config = live_config(kafka)
    first, second = sluice(config), sluice(config)
    with listen(first, "work") as client:
        connected(client)
        for number in range(10):
            broadcast(first, "work", number, event="n")
        assert numbers(client, 10) == list(range(10))
        cursor = [one for one in client.events if one.name == "n"][3].id
    for number in range(10, 15):
        broadcast(second, "work", number, event="n")
    for server in (first, second):
        with listen(server, "work", cursor) as back:
            assert numbers(back, 11) == list(range(4, 15))
    with listen(second, "work", cursor) as back:
        broadcast(first, "work", 15, event="n")
        assert numbers(back, 12) == list(range(4, 16))
        assert not gaps(back)


def test_nothing_is_lost_or_doubled_across_a_restart(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "work") as client:
        connected(client)
        for number in range(20):
            broadcast(server, "work", number, event="n")
        got = numbers(client, 20)
        cursor = [one for one in client.events if one.name == "n"][9].id
        kept = got[:10]
    server.stop()
    server.start()
    for number in range(20, 25):
        broadcast(server, "work", number, event="n")
    with listen(server, "work", cursor) as back:
        assert sorted(kept + numbers(back, 15)) == list(range(25))
        assert not gaps(back)


def test_what_memory_does_not_hold_is_read_from_kafka(sluice, kafka):
    server = sluice(live_config(kafka, sse={"replayBytes": 2000, "replayWarmup": 0}))
    with listen(server, "work") as client:
        connected(client)
        cursor = eventually("a first cursor", lambda: client.last_id)
        bodies = [json.dumps({"data": number, "event": "n"}) for number in range(300)]
        for body in bodies:
            assert server.post("/kafka/sse/broadcast/work", body).status == 202
        numbers(client, 300)
    before = server.metric("sluice_sse_replays_total")
    with listen(server, "work", cursor) as back:
        assert sorted(numbers(back, 300)) == list(range(300))
        broadcast(server, "work", 300, event="n")
        back.wait("live again", lambda one: one.name == "n" and one.json() == 300)
        assert len([one for one in back.events if one.name == "n"]) == 301
        assert not gaps(back)
    assert server.metric("sluice_sse_replays_total") > before


def test_events_can_be_read_from_the_earliest_or_from_a_time(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "other") as client:  # the new topic is being read
        connected(client)
        broadcast(server, "other", 0, event="n")
        numbers(client, 1)
    broadcast(server, "work", 1, event="n")
    time.sleep(0.05)
    between = int(time.time() * 1000)
    time.sleep(0.05)
    broadcast(server, "work", 2, event="n")
    with listen(server, "work", **{"from": "earliest"}) as client:
        assert sorted(numbers(client, 2)) == [1, 2]
    with listen(server, "work", **{"from": str(between)}) as client:
        assert numbers(client, 1) == [2]
    with listen(server, "work", **{"from": "now"}) as client:
        connected(client)
        broadcast(server, "work", 3, event="n")
        assert numbers(client, 1) == [3]
    server.get("/kafka/events?channels=work&from=yesterday").problem(400)


@pytest.mark.parametrize("cursor", ["nonsense", "1AAAA", "1:10.20,5", "x" * 5000])
def test_an_unknown_cursor_becomes_a_gap_and_then_live(sluice, kafka, cursor):
    server = sluice(live_config(kafka))
    with listen(server, "work", cursor) as client:
        client.wait("gap", lambda one: one.name == "gap" and one.json() == {"reason": "unknown", "missed": None})
        broadcast(server, "work", 1, event="n")
        assert numbers(client, 1) == [1]


def test_a_cursor_of_the_future_becomes_a_gap(own_kafka, sluice, kafka):
    """Of a log that has begun anew: its offsets are smaller than what the client knows."""
    config = live_config(kafka)
    server = sluice(config)
    with listen(server, "work") as client:
        connected(client)
        for number in range(3):
            broadcast(server, "work", number, event="n")
        numbers(client, 3)
        cursor = client.last_id
    config["kafka"]["brokers"] = own_kafka.start().bootstrap
    anew = sluice(config)
    with listen(anew, "work", cursor) as back:
        back.wait("gap", lambda one: one.name == "gap" and one.json() == {"reason": "future", "missed": None})
        broadcast(anew, "work", 7, event="n")
        assert numbers(back, 1) == [7]


def test_the_header_wins_over_the_query_and_the_query_has_three_names(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "work") as client:
        connected(client)
        for number in range(4):
            broadcast(server, "work", number, event="n")
        numbers(client, 4)
        ids = [one.id for one in client.events if one.name == "n"]
        order = [one.json() for one in client.events if one.name == "n"]
    for name in ("lastEventId", "last_event_id", "Last-Event-ID"):
        with listen(server, "work", **{name: ids[1]}) as back:
            assert numbers(back, 2) == order[2:]
    with listen(server, "work", ids[2], lastEventId=ids[0]) as back:
        assert numbers(back, 1) == order[3:]
        assert len([one for one in back.events if one.name == "n"]) == 1


def test_a_streams_channels_change_while_it_is_open(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "a", clientId="me") as client:
        assert connected(client) == {"clientId": "me", "channels": ["a"]}
        got = server.post("/kafka/sse/subscribe/me", json.dumps({"channels": ["b", "c"]}))
        assert got.status == 200 and got.json()["channels"] == ["a", "b", "c"]
        got = server.post("/kafka/sse/unsubscribe/me", json.dumps({"channels": ["a"]}))
        assert got.json()["channels"] == ["b", "c"]
        for number, channel in enumerate("abc"):
            broadcast(server, channel, number, event="n")
        assert sorted(numbers(client, 2)) == [1, 2]
        (shown,) = server.get("/kafka/sse/clients").json()["clients"]
        assert shown["clientId"] == "me" and shown["channels"] == ["b", "c"] and shown["node"] == server.config["node"]
        assert shown["sentEvents"] >= 3 and shown["queuedBytes"] == 0 and shown["connectedSince"] > 1.7e12
    server.post("/kafka/sse/subscribe/nobody", json.dumps({"channels": ["b"]})).problem(404)
    assert server.post("/kafka/sse/subscribe/me", json.dumps({"channels": []})).problem(400)["detail"]
    assert server.post("/kafka/sse/subscribe/me", json.dumps({"channels": [1]})).problem(400)


def test_a_client_that_is_ended_is_told_why_and_to_stay_away(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "a", clientId="me") as client:
        connected(client)
        got = server.request("DELETE", "/kafka/sse/clients/me?reason=too%20loud")
        assert got.status == 200, got
        client.wait("closed", lambda one: one.name == "closed" and one.json() == {"reason": "too loud"})
        assert client.ended.wait(5) and client.ended_cleanly
    assert server.get("/kafka/events?channels=a&clientId=me").status == 204
    server.request("DELETE", "/kafka/sse/clients/me").problem(404)


def test_a_second_stream_of_the_same_client_takes_over(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "a", clientId="me") as first:
        connected(first)
        with listen(server, "a", clientId="me") as second:
            connected(second)
            assert first.ended.wait(5) and first.ended_cleanly
            broadcast(server, "a", 1, event="n")
            assert numbers(second, 1) == [1]
            assert len(server.get("/kafka/sse/clients").json()["clients"]) == 1


def test_topics_feed_channels_by_name_pattern_and_pointer(sluice, kafka):
    prefix = unique("orders")
    kcat("-P", "-b", kafka.bootstrap, "-t", f"{prefix}.eu", data=b'{"customer":"zero"}')
    server = sluice(live_config(kafka, channels=[
        {"name": "{topic}", "topics": [f"{prefix}.*"]},
        {"name": "customer:{value}", "topics": [f"{prefix}.*"], "pointer": "/customer", "event": "order"},
    ]))
    with listen(server, f"{prefix}.eu") as by_topic, listen(server, "customer:ann") as by_customer:
        connected(by_topic)
        connected(by_customer)
        produce(kafka.bootstrap, f"{prefix}.eu", [{"customer": "ann", "n": 1}, {"customer": "bob", "n": 2}])
        by_topic.wait("both orders", lambda one: one.name == "message", count=2)
        assert by_customer.wait("ann's", lambda one: one.name == "order").json() == {"customer": "ann", "n": 1}
        # A topic that comes into being later is found.
        produce(kafka.bootstrap, f"{prefix}.us", [{"customer": "ann", "n": 3}])
        by_customer.wait("the new topic's", lambda one: one.name == "order" and one.json()["n"] == 3)
        assert [one.json()["n"] for one in by_customer.events if one.name == "order"] == [1, 3]


def test_notifications_reach_their_users_on_any_node(sluice, kafka):
    first, second = sluice(live_config(kafka)), sluice(live_config(kafka))
    ann, bob = unique("ann"), unique("bob")
    with listen(first, f"user:{ann}") as a, listen(second, f"user:{bob}") as b:
        connected(a)
        connected(b)
        got = first.post("/notifications/session-starting-soon", json.dumps(
            {"sessionId": "session-123", "userIds": [ann, bob], "message": "in 5 minutes",
             "scheduledTime": "2026-01-01T10:00:00.000Z"}))
        assert got.status == 202 and got.json()["topic"] == "session-notifications", got
        for one in (a, b):
            told = one.wait("session", lambda event: event.name == "session_starting_soon").json()
            assert told == {"type": "session_starting_soon", "sessionId": "session-123", "message": "in 5 minutes",
                            "scheduledTime": "2026-01-01T10:00:00.000Z"}
        got = second.post("/notifications/concept-mastered", json.dumps(
            {"conceptId": "concept-456", "userIds": [ann], "conceptName": "JavaScript Arrays", "masteryLevel": 0.85}))
        assert got.status == 202 and got.json()["topic"] == "concept-notifications"
        assert a.wait("concept", lambda event: event.name == "concept_mastered").json()["masteryLevel"] == 0.85
        got = second.post("/notifications", json.dumps({"userIds": [bob], "title": "Hello", "data": {"x": 1}}))
        assert got.status == 202 and got.json()["topic"] == "notifications"
        assert b.wait("hello", lambda event: event.name == "notification").json()["data"] == {"x": 1}
        assert not [one for one in b.events if one.name == "concept_mastered"]


def test_a_wrong_notification_names_every_wrong_field(sluice, kafka):
    server = sluice(live_config(kafka))
    problem = server.post("/notifications/concept-mastered", json.dumps(
        {"userIds": [], "masteryLevel": 2, "color": "red"})).problem(400)
    for field in ("/conceptId", "/userIds", "/masteryLevel", "/color"):
        assert field in problem["detail"], problem
    server.post("/notifications", "[]").problem(400)
    server.post("/notifications", json.dumps({"userIds": ["a,b"]})).problem(400)


@pytest.mark.parametrize("channels", ["", ",", "a%00b", "a%0Ab", "x" * 201, ",".join(f"c{i}" for i in range(101))])
def test_bad_channel_names_are_refused(sluice, kafka, channels):
    sluice(live_config(kafka)).get(f"/kafka/events?channels={channels}").problem(400)


def test_odd_channel_names_are_just_names(sluice, kafka):
    server = sluice(live_config(kafka))
    for name in ("..", "*", "a b", "ü/ß", "user:"):
        with listen(server, name) as client:
            connected(client)
            broadcast(server, name, 1, event="n")
            assert numbers(client, 1) == [1]


def test_broadcasts_cannot_inject_fields_and_large_ones_arrive_whole(sluice, kafka):
    server = sluice(live_config(kafka))
    with listen(server, "a") as client:
        connected(client)
        text = "line\r\ndata: x\revent: y\n\nid: z\u2028\ufeff\0 \U0001f600"
        broadcast(server, "a", text, event="n")
        assert numbers(client, 1) == [text]
        for wrong in ({"data": 1, "event": "a\nb"}, {"data": 1, "event": "a\rb"}, {"data": 1, "event": "a\0b"},
                      {"data": 1, "id": "a\nb"}, {"event": "x"}, {"data": 1, "other": 2}, {"data": 1, "event": 5}):
            server.post("/kafka/sse/broadcast/a", json.dumps(wrong)).problem(400)
        large = "x" * 900000
        broadcast(server, "a", large, event="large")
        assert client.wait("large", lambda one: one.name == "large", timeout=20).json() == large


def test_events_and_their_cursor_work_on_the_classic_stream_too(sluice, kafka):
    source, sink = unique("events"), unique("sums")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=100),
                               sse={"broadcastTopic": unique("broadcast")}))
    with server.events() as client:
        client.wait("snapshot", lambda one: one.name == "snapshot")
        server.publish({"payload": {"times": 1}})
        client.wait_times(1)
        cursor = client.last_id
    server.publish({"payload": {"times": 2}}, {"payload": {"times": 3}})
    with server.events(headers={"Last-Event-ID": cursor}) as back:
        back.wait("snapshot", lambda one: one.name == "snapshot")
        back.wait_times(2, 3)
        assert not [one for one in back.events if one.name == "message" and one.json().get("payload", {}).get("times") == 1]
    with SseClient(server.port, "/events/stream?channels=events") as alias:
        connected(alias)


@pytest.mark.seconds(180)
def test_many_that_come_back_at_once_after_a_restart_lose_nothing(sluice, kafka):
    server = sluice(live_config(kafka))
    clients = [listen(server, "work") for _ in range(300)]
    for one in clients:
        connected(one)
    for number in range(50):
        broadcast(server, "work", number, event="n")
    places = []
    for index, one in enumerate(clients):
        got = numbers(one, 50)
        stop = index % 50
        places.append((got[: stop + 1], [event for event in one.events if event.name == "n"][stop].id))
        one.close()
    server.stop()
    server.start()
    for number in range(50, 60):
        broadcast(server, "work", number, event="n")
    clients = [listen(server, "work", cursor) for _, cursor in places]
    for one, (had, _) in zip(clients, places):
        rest = numbers(one, 60 - len(had), timeout=60)
        assert sorted(had + rest) == list(range(60))
        assert not gaps(one)
        one.close()


def test_compressed_streams_are_flushed_event_by_event_and_resume(sluice, kafka, tmp_path):
    server = sluice(live_config(kafka, sse={"compression": True}))
    cursor = None
    for wave in range(2):
        asked = ["-H", f"Last-Event-ID: {cursor}"] if cursor else []
        with subprocess.Popen(["curl", "-sN", "--compressed", "-D", str(tmp_path / "head"), *asked,
                               f"http://127.0.0.1:{server.port}/kafka/events?channels=zipped"],
                              stdout=subprocess.PIPE, text=True) as curl:
            def block():
                while True:
                    lines = list(iter(lambda: curl.stdout.readline().strip(), ""))
                    fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
                    if "data" in fields:
                        return fields
            while block().get("event") != "connected":
                pass
            assert "content-encoding: gzip" in (tmp_path / "head").read_text().lower()
            for n in range(3):
                broadcast(server, "zipped", [wave, n])
                got = block()  # it is there although nothing follows it
                assert json.loads(got["data"]) == [wave, n]
                cursor = got["id"]
            curl.terminate()
