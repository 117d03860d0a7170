"""The durable side: events while Kafka is away, requests that are repeated, and stores that are locked, full or gone."""

import collections
import itertools
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

from support import (PASSWORD, Client, WebSocket, aggregation, config_for, consume, event, eventually, run_cli, toml,
                     unique)

QUICK = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "500", "reconnect.backoff.max.ms": "500"}


def configured(kafka, **more):
    """Configuration whose aggregation does not matter: (config, topic)."""
    topic = unique("events")
    bootstrap = kafka if isinstance(kafka, str) else kafka.bootstrap
    return config_for(bootstrap, aggregation(topic, unique("summaries")), kafka={"properties": QUICK}, **more), topic


def outbox_of(server):
    return server.status()["outbox"]


def wait_away(server):
    eventually("Kafka is away", lambda: server.metric("sluice_kafka_away") == 1, timeout=20)


def wait_empty(server, timeout=40):
    eventually("an empty outbox", lambda: outbox_of(server)["records"] == 0, timeout)


def send(server, topic, key, number, **headers):
    return server.post(f"/kafka/send/{topic}", {"key": key, "value": number}, **headers)


class Writers:
    """Threads that send the numbers 0, 1, 2, … of a key each, one after the other, and remember those taken (200, 202)."""

    def __init__(self, server, topic, keys=4):
        self.taken = {f"key-{i}": [] for i in range(keys)}
        self.queued = 0
        self.statuses = collections.Counter()
        self._server, self._topic = server, topic
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(key,), daemon=True) for key in self.taken]
        for one in self._threads:
            one.start()

    def _write(self, key):
        for number in itertools.count():
            if self._stop.is_set():
                return
            try:
                got = send(self._server, self._topic, key, number)
            except OSError:
                time.sleep(0.05)  # the server is away; whether it took that one nobody knows
                continue
            except Exception:  # half an answer
                continue
            self.statuses[got.status] += 1
            if got.status in (200, 202):
                self.taken[key].append((number, got.json()["eventId"]))
                self.queued += got.json().get("queued", False)
            time.sleep(0.002)

    def count(self):
        return sum(len(numbers) for numbers in self.taken.values())

    def finish(self):
        self._stop.set()
        for one in self._threads:
            one.join()


def check_all_there(bootstrap, topic, taken):
    """All that was taken is in Kafka, in order by key; returns how many records came more than once, by event id."""
    seen, order = collections.Counter(), collections.defaultdict(list)
    for one in consume(bootstrap, topic):
        event_id = one["headers"]["sluice-event-id"]
        seen[event_id] += 1
        if seen[event_id] == 1:  # what consumers' idempotency leaves
            order[one["key"]].append(int(one["payload"]))
    for key, numbers in taken.items():
        lost = [number for number, event_id in numbers if event_id not in seen]
        assert not lost, f"{key}: {len(lost)} of {len(numbers)} are lost: {lost[:10]}"
        assert order[key] == sorted(order[key]), f"{key} is out of order"
    return sum(count - 1 for count in seen.values())


# -- the outbox --------------------------------------------------------------------------------------------------------

def test_an_event_while_kafka_is_away_is_taken_and_written_later(own_kafka, sluice):
    kafka = own_kafka
    config, topic = configured(kafka)
    server = sluice(config, ready=False)
    wait_away(server)
    got = server.post("/events", event(1))
    assert got.status == 202 and got.json()["queued"] is True and "offset" not in got.json(), got
    many = server.post("/events", [event(2), event(3)])
    assert many.status == 202 and [one["queued"] for one in many.json()["results"]] == [True, True], many
    assert send(server, topic, "k", 4).json()["queued"] is True
    assert server.post("/notifications", {"userIds": ["u"]}).json()["queued"] is True
    assert server.post("/kafka/sse/broadcast/alerts", {"data": 1}).json()["queued"] is True
    socket = WebSocket(server.port, "/ws?channels=alerts")
    socket.say({"type": "publish", "channel": "alerts", "data": 1, "ref": 7})
    ack = eventually("an ack", lambda: (lambda one: one and one["type"] == "ack" and one)(socket.read()))
    assert ack["queued"] is True and ack["ref"] == 7, ack
    status = server.status()
    assert status["kafka"]["connected"] is False
    assert status["message"] == "Kafka not connected - async processing disabled"
    assert status["outbox"]["enabled"] is True and status["outbox"]["records"] == 7 and status["outbox"]["bytes"] > 0
    assert server.metric("sluice_outbox_records") == 7
    before = time.time() * 1000
    time.sleep(1)
    kafka.start()
    server.wait_ready(40)
    wait_empty(server)
    records = consume(kafka.bootstrap, topic)
    assert len(records) == 4, records
    first = next(one for one in records if one["headers"]["sluice-event-id"] == got.json()["eventId"])
    assert first["ts"] <= before, "it has the time at which it was taken"
    assert server.metric("sluice_outbox_replayed_total") == 7 and server.metric("sluice_outbox_bytes") == 0
    after = server.post("/events", event(5))
    assert after.status == 202 and after.json()["offset"] >= 0  # the usual way again


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_broker_away_under_load_loses_nothing_and_keeps_order(own_kafka, sluice, how):
    kafka = own_kafka.start()
    config, topic = configured(kafka)
    config["kafka"]["deliveryTimeout"] = 3000
    server = sluice(config)
    writers = Writers(server, topic)
    eventually("a good start", lambda: writers.count() > 200)
    getattr(kafka, how)()
    eventually("queued", lambda: writers.queued > 200, timeout=30)
    if how == "kill":
        kafka.start()
    else:
        kafka.resume()
    wait_empty_under_load = writers.count()
    eventually("more", lambda: writers.count() > wait_empty_under_load + 200, timeout=30)
    writers.finish()
    wait_empty(server)
    assert set(writers.statuses) <= {200, 202}, writers.statuses
    check_all_there(kafka.bootstrap, topic, writers.taken)


@pytest.mark.seconds(240)
def test_a_server_killed_at_each_step_loses_nothing_it_took(own_kafka, sluice):
    kafka = own_kafka.start()
    config, topic = configured(kafka)
    config["kafka"]["deliveryTimeout"] = 3000
    server = sluice(config)
    writers = Writers(server, topic)
    eventually("a good start", lambda: writers.count() > 200)
    kafka.kill()
    for _ in range(2):  # while events are taken to disk
        before = writers.queued
        eventually("queued", lambda: writers.queued > before + 300, timeout=40)
        server.kill()
        server.start(ready=False)
    eventually("queued", lambda: writers.queued > before + 300, timeout=40)
    kafka.start()
    for _ in range(2):  # while events are brought to Kafka
        eventually("some are on their way", lambda: server.metric("sluice_outbox_replayed_total") > 0, timeout=40,
                   pause=0.001)
        server.kill()
        server.start(ready=False)
    server.wait_ready(40)
    before = writers.count()
    eventually("more", lambda: writers.count() > before + 100, timeout=30)
    writers.finish()
    wait_empty(server)
    twice = check_all_there(kafka.bootstrap, topic, writers.taken)
    assert twice <= 4 * 2000 + 200, f"{twice} records came twice; only what was on its way may"


def test_what_waits_outlives_an_ordered_stop(own_kafka, sluice):
    kafka = own_kafka
    config, topic = configured(kafka)
    server = sluice(config, ready=False)
    wait_away(server)
    assert send(server, topic, "k", 1).json()["queued"]
    code, seconds = server.terminate()
    assert code == 0 and seconds < 5, (code, seconds)
    server.start(ready=False)
    assert outbox_of(server)["records"] == 1
    wait_away(server)
    assert send(server, topic, "k", 2).json()["queued"]
    kafka.start()
    server.wait_ready(40)
    wait_empty(server)
    assert [one["payload"] for one in consume(kafka.bootstrap, topic)] == ["1", "2"]


def test_beyond_its_bound_the_outbox_says_so(own_kafka, sluice):
    kafka = own_kafka
    config, topic = configured(kafka, outbox={"maxBytes": 20000})
    server = sluice(config, ready=False)
    wait_away(server)
    taken = 0
    while (got := send(server, topic, "k", "x" * 1000)).status == 202:
        taken += 1
    assert "outbox.maxBytes" in got.problem(507)["detail"]
    assert 10 <= taken <= 20, taken
    assert outbox_of(server)["bytes"] <= 20000
    kafka.start()
    server.wait_ready(40)
    wait_empty(server)
    assert send(server, topic, "k", 1).status == 200
    assert len(consume(kafka.bootstrap, topic)) == taken + 1


def test_an_event_that_kafka_refuses_is_kept_and_holds_up_nobody(brokers, sluice):
    kafka = brokers("own strict", auto_create=False)
    config, topic = configured(kafka)
    unknown = unique("unknown")
    kafka.kill()
    server = sluice(config, ready=False)
    wait_away(server)
    assert send(server, unknown, "k", 1).json()["queued"]
    assert send(server, topic, "k", 2).json()["queued"]
    kafka.start()
    server.wait_ready(40)
    wait_empty(server)
    assert outbox_of(server)["refused"] == 1
    assert "tried again at the next start" in server.log()
    assert [one["payload"] for one in consume(kafka.bootstrap, topic)] == ["2"]
    send(server, unknown, "k", 3).problem(404)  # the usual way, the usual answer
    config["aggregations"].append(aggregation(unknown, unique("summaries"), name="more"))  # which creates it
    server.stop()
    again = sluice(config | {"http": {"port": server.port}}, ready=False)
    again.wait_ready(40)
    eventually("written", lambda: [one["payload"] for one in consume(kafka.bootstrap, unknown)] == ["1"], timeout=20)
    wait_empty(again)
    assert outbox_of(again)["refused"] == 0


def test_without_an_outbox_publishing_fails_while_kafka_is_away(sluice, folder):
    config, _ = configured("127.0.0.1:1", outbox={"enabled": False})
    config["kafka"]["deliveryTimeout"] = 1000
    server = sluice(config, ready=False)
    assert server.post("/events", event(1)).problem(503)
    assert outbox_of(server)["enabled"] is False
    assert not list(folder.rglob("outbox.db"))


def test_two_servers_do_not_share_an_outbox(sluice, folder):
    config, _ = configured("127.0.0.1:1", http={"sharePort": True})
    server = sluice(config, ready=False)
    (folder / "second.toml").write_text(toml(server.config))
    other = run_cli("serve", "--config", "second.toml", cwd=folder)
    assert server.running() and other.returncode == 2 and "store.path" in other.stderr and "locked by another process" in other.stderr, other


def preload(folder):
    """A library that makes the disk full for the databases while the file it returns is there: (environment, file)."""
    library, flag = folder / "full_disk.so", folder / "full"
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-O1", "-o", str(library),
                    str(pathlib.Path(__file__).parent / "full_disk.c"), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "FULL_DISK": str(flag)}, flag


def test_a_full_disk_is_said_and_over_when_there_is_room(sluice, folder):
    config, topic = configured("127.0.0.1:1")
    environment, full = preload(folder)
    server = sluice(config, ready=False, environment=environment)
    wait_away(server)
    assert send(server, topic, "k", 1).status == 202
    full.touch()
    got = send(server, topic, "k", 2).problem(507)
    assert "store.path" in got["detail"] and "no space" in got["detail"], got
    got = send(server, topic, "k", 3, **{"Idempotency-Key": "a"}).problem(507)
    assert "store.url" in got["detail"], got
    assert server.metric("sluice_store_errors_total") >= 2
    full.unlink()
    eventually("room again", lambda: send(server, topic, "k", 4, **{"Idempotency-Key": "b"}).status == 202)
    assert outbox_of(server)["records"] >= 2


def test_an_outbox_that_is_removed_is_noticed(sluice, folder):
    config, topic = configured("127.0.0.1:1")
    server = sluice(config, ready=False)
    wait_away(server)
    assert send(server, topic, "k", 1).status == 202
    for one in folder.rglob("outbox.db*"):
        one.unlink()
    got = send(server, topic, "k", 2)
    if got.status != 202:  # where the outbox has not looked itself meanwhile
        detail = got.problem(503)["detail"]
        assert "store.path" in detail and "removed" in detail, got
    eventually("a new one", lambda: send(server, topic, "k", 3).status == 202)
    assert "was removed or replaced" in server.log()
    assert server.running()


# -- requests that are repeated ----------------------------------------------------------------------------------------

@pytest.fixture(params=["sqlite", "postgres", "redis"])
def store(request, folder):
    """The URL of each kind of store, and the server behind it."""
    if request.param == "sqlite":
        return f"sqlite:{folder}/claims.db", None
    server = request.getfixturevalue(request.param)
    return server.url, server


def test_a_repeated_request_is_answered_and_not_carried_out(kafka, sluice, store):
    url, _ = store
    config, topic = configured(kafka, store={"url": url})
    server = sluice(config)
    key = unique("key")
    first = send(server, topic, "k", 1, **{"Idempotency-Key": key})
    assert first.status == 200 and "idempotent-replayed" not in first.headers, first
    again = send(server, topic, "k", 1, **{"Idempotency-Key": key})
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true"), again
    send(server, topic, "k", 2, **{"Idempotency-Key": key}).problem(422)
    assert send(server, topic, "k", 1).status == 200  # without a key: another one
    server.kill()
    server.start()
    assert send(server, topic, "k", 1, **{"Idempotency-Key": key}).body == first.body
    other = sluice({**config, "http": {}, "node": unique("node")})  # of the same store
    assert send(other, topic, "k", 1, **{"Idempotency-Key": key}).body == first.body
    assert [one["payload"] for one in consume(kafka.bootstrap, topic)].count("1") == 2
    assert PASSWORD not in server.log() + other.log()


def test_of_many_at_once_one_is_carried_out(kafka, sluice, store):
    config, topic = configured(kafka, store={"url": store[0]})
    server = sluice(config)
    statuses = collections.Counter()

    def repeat(number):
        for _ in range(10):
            got = send(server, topic, "k", number, **{"Idempotency-Key": f"key-{number}"})
            statuses[got.status] += 1

    threads = [threading.Thread(target=repeat, args=(number % 5,)) for number in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(statuses) <= {200, 409}, statuses
    assert sorted(one["payload"] for one in consume(kafka.bootstrap, topic)) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("kind", ["postgres", "redis"])
@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_store_that_is_gone_is_an_error_for_those_who_need_it(kafka, sluice, request, kind, how):
    database = request.getfixturevalue(kind)
    config, topic = configured(kafka, store={"url": database.url})
    server = sluice(config)
    assert send(server, topic, "k", 1, **{"Idempotency-Key": "a"}).status == 200
    getattr(database, how)()
    got = send(server, topic, "k", 2, **{"Idempotency-Key": "b"}).problem(503)
    assert "store.url" in got["detail"], got
    assert send(server, topic, "k", 3).status == 200  # who needs no store
    if how == "kill":
        database.start()
    else:
        database.resume()
    eventually("it works again", lambda: send(server, topic, "k", 2, **{"Idempotency-Key": "c"}).status == 200, timeout=30)
    assert send(server, topic, "k", 1, **{"Idempotency-Key": "a"}).headers["idempotent-replayed"] == "true"
    assert PASSWORD not in server.log()
    if how == "kill":
        assert "the store can be used again" in server.log()


def test_a_store_that_is_locked_is_said(kafka, sluice, folder):
    config, topic = configured(kafka, store={"url": f"sqlite:{folder}/claims.db"})
    server = sluice(config)
    assert send(server, topic, "k", 1, **{"Idempotency-Key": "a"}).status == 200
    other = sqlite3.connect(folder / "claims.db", isolation_level=None)
    other.execute("begin exclusive")
    got = send(server, topic, "k", 2, **{"Idempotency-Key": "b"}).problem(503)
    assert "store.url" in got["detail"] and "locked by another process" in got["detail"], got
    other.execute("rollback")
    assert send(server, topic, "k", 2, **{"Idempotency-Key": "b"}).status == 200


def test_a_request_cut_off_by_a_crash_has_the_same_event_id_when_repeated(own_kafka, sluice):
    kafka = own_kafka.start()
    config, topic = configured(kafka)
    config["kafka"]["deliveryTimeout"] = 1000
    config["http"] = {"requestTimeout": 1000}
    server = sluice(config)
    assert send(server, topic, "k", 0).status == 200
    kafka.pause()
    sender = threading.Thread(target=lambda: pytest.raises(Exception, send, server, topic, "k", 1,
                                                           **{"Idempotency-Key": "a"}))
    sender.start()
    time.sleep(0.3)
    server.kill()
    sender.join()
    kafka.resume()
    server.start()
    assert send(server, topic, "k", 1, **{"Idempotency-Key": "a"}).problem(409)  # nobody knows what became of it yet
    got = eventually("a free key", lambda: (lambda one: one.status == 200 and one)(
        send(server, topic, "k", 1, **{"Idempotency-Key": "a"})), timeout=20, pause=0.5)
    ids = {one["headers"]["sluice-event-id"] for one in consume(kafka.bootstrap, topic) if one["payload"] == "1"}
    assert ids == {got.json()["eventId"]}


def test_users_have_their_keys_for_themselves(kafka, sluice, folder):
    (folder / "tokens.json").write_text(
        '[{"token":"one-token-of-32-characters-000001","user":"one","publish":["*"]},'
        '{"token":"two-token-of-32-characters-000002","user":"two","publish":["*"]}]')
    config, topic = configured(kafka, auth={"tokensFile": str(folder / "tokens.json")})
    server = sluice(config, ready=False)
    one = Client(server.port, token="one-token-of-32-characters-000001")
    two = Client(server.port, token="two-token-of-32-characters-000002")
    eventually("ready", lambda: one.get("/readyz").status == 200, timeout=30)
    assert send(one, topic, "k", 1, **{"Idempotency-Key": "a"}).status == 200
    got = send(two, topic, "k", 2, **{"Idempotency-Key": "a"})
    assert got.status == 200 and "idempotent-replayed" not in got.headers
    send(server, topic, "k", 1, **{"Idempotency-Key": "a"}).problem(401)


def test_a_url_that_is_none_is_refused_without_showing_it(folder):
    got = run_cli("serve", cwd=folder, DATABASE_URL="mysql://me:hunter2@db/x")
    assert got.returncode == 2 and "DATABASE_URL" in got.stderr and "hunter2" not in got.stderr, got
    shown = run_cli("config", cwd=folder, DATABASE_URL="postgresql://me:hunter2@db/x")
    assert shown.returncode == 0 and "hunter2" not in shown.stdout and 'url = "***"' in shown.stdout, shown
