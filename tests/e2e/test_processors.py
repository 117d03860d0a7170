"""Processors under supervision, in the programs of tests/example: whatever they do, every record has an end."""

import json
import os
import pathlib
import random
import re
import sqlite3
import subprocess
import time
from collections import Counter

import pytest

from support import ROOT, clean_environment, config_for, consume, eventually, kcat, unique
from test_store import Writers, preload

EXAMPLE = pathlib.Path(os.environ.get("SLUICE_EXAMPLE", ROOT / "build" / "release" / "example"))
SHOP, MOODY = EXAMPLE / "shop" / "shop", EXAMPLE / "moody" / "moody"
REGISTER, CONSUMERS = EXAMPLE / "services" / "register", EXAMPLE / "services" / "consumers"
NAMES = ("moody", "fragile")
QUICK = {"timeout": 600, "maxAttempts": 3, "retryInitial": 50}
REBALANCE_SECONDS = 60


@pytest.fixture
def moods(sluice, kafka):
    """Makes servers with the bad processors; each processor reads topics of its own unless told otherwise."""
    def make(group=None, start=True, live=True, ready=True, **processors):
        tables = [{"name": name, "topics": [unique(name)], **processors.get(name, {})} for name in NAMES]
        return sluice(config_for(kafka.bootstrap, group=group or unique("group"), processors=tables, log={"level": "info"}),
                      binary=MOODY, start=start, live=live, ready=ready)
    return make


def put(kafka, topic, records):
    """Writes (key, value) pairs in order."""
    lines = "".join(f"{key}\t{value}\n" for key, value in records)
    kcat("-P", "-q", "-b", kafka.bootstrap, "-t", topic, "-K", "\t", "-X", "acks=all", data=lines.encode())


def count(server, what, processor):
    wanted = f'sluice_processor_{what}{{processor="{processor}"}} '
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith(wanted):
            return int(float(line.rsplit(" ", 1)[1]))
    raise AssertionError(f"no metric {wanted}")


def check_sum(server, processor):
    """All that was taken has exactly one end."""
    eventually("nothing is at work", lambda: count(server, "in_flight", processor) == 0)
    numbers = {what: count(server, what, processor)
               for what in ("in_total", "done_total", "dead_lettered_total", "set_aside_total", "returned_total", "in_flight")}
    taken = numbers.pop("in_total")
    assert taken == sum(numbers.values()), (taken, numbers)


def letters(kafka, topic):
    return consume(kafka.bootstrap, f"{topic}.dlq")


def done(kafka, topic):
    return consume(kafka.bootstrap, f"{topic}.done")


@pytest.mark.seconds(180)
def test_every_record_has_one_end_whatever_its_processor_does(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK})
    records = [(f"k{i}", f"good {i}") for i in range(50)]
    records += [("t", "throw"), ("p", "poison"), ("o", "once"), ("h", "hang"), ("n", "nowhere"), ("q", "quiet")]
    put(kafka, topic, records)
    eventually("all have an end", lambda: count(server, "done_total", "moody") == 52
               and count(server, "dead_lettered_total", "moody") == 4, timeout=60)
    check_sum(server, "moody")
    assert sorted(one["payload"] for one in done(kafka, topic)) == sorted([f"good {i} 1" for i in range(50)] + ["once 2"])
    found = {one["payload"]: one for one in letters(kafka, topic)}
    assert {value: (one["headers"]["sluice-dlq-error"], one["headers"]["sluice-dlq-attempts"])
            for value, one in found.items() if value != "nowhere"} == {
        "throw": ("processor_failed", "3"), "poison": ("rejected", "1"), "hang": ("attempt_timeout", "3")}
    assert "nowhere" in found and len(found) == 4
    assert count(server, "timeouts_total", "moody") == 3
    originals = {one["payload"]: one for one in consume(kafka.bootstrap, topic)}
    for value, letter in found.items():
        origin, headers = originals[value], letter["headers"]
        assert letter["key"] == origin["key"]
        assert headers["sluice-dlq-topic"] == topic and headers["sluice-dlq-processor"] == "moody"
        assert int(headers["sluice-dlq-partition"]) == origin["partition"]
        assert int(headers["sluice-dlq-offset"]) == origin["offset"]
        assert int(headers["sluice-dlq-timestamp"]) == origin["ts"]
        assert origin["ts"] <= int(headers["sluice-dlq-first-failure"]) <= int(headers["sluice-dlq-last-failure"])
    assert found["throw"]["headers"]["sluice-dlq-reason"] == "thrown as told"
    server.stop()
    server.start()
    put(kafka, topic, [("z", "last")])
    eventually("the next record", lambda: count(server, "done_total", "moody") == 1, timeout=REBALANCE_SECONDS)
    assert count(server, "in_total", "moody") == 1  # all else was committed


@pytest.mark.seconds(120)
def test_garbage_is_a_dead_letter_that_says_which(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK, "timeout": 5000})
    garbage = {  # error, attempts, part of the reason
        "odd throw": ("processor_failed", "3", "it threw something that is not a std::exception"),
        "long throw": ("processor_failed", "3", "x" * 1000),
        "foreign": ("processor_failed", "3", "bad_function_call"),
        "no topic": (None, "3", "what it emitted was not taken"),
        "too many": ("processor_failed", "3", "emit at most 1000"),
        "too large": ("too_large", "1", "max.message.bytes")}
    put(kafka, topic, [(f"g{i}", value) for i, value in enumerate(garbage)] + [(f"k{i}", f"good {i}") for i in range(20)])
    eventually("all have an end", lambda: count(server, "done_total", "moody") == 20
               and count(server, "dead_lettered_total", "moody") == len(garbage), timeout=60)
    check_sum(server, "moody")
    found = {one["payload"]: one["headers"] for one in letters(kafka, topic)}
    assert set(found) == set(garbage)
    for value, (error, attempts, reason) in garbage.items():
        headers = found[value]
        assert error is None or headers["sluice-dlq-error"] == error, (value, headers)
        assert headers["sluice-dlq-attempts"] == attempts and reason in headers["sluice-dlq-reason"], (value, headers)
        assert len(headers["sluice-dlq-reason"]) <= 4096
    assert sorted(one["payload"] for one in done(kafka, topic) if one["payload"].startswith("good")) == sorted(
        f"good {i} 1" for i in range(20))
    assert "x" * 5000 not in server.log()


@pytest.mark.seconds(120)
def test_what_is_emitted_to_a_missing_topic_is_said(brokers, sluice):
    kafka, topic = brokers("plain", auto_create=False), unique("moody")
    config = config_for(kafka.bootstrap, group=unique("group"), processors=[
        {"name": "moody", "topics": [topic], **QUICK}, {"name": "fragile", "topics": [unique("fragile")]}])
    server = sluice(config, binary=MOODY)
    put(kafka, topic, [("a", "good"), ("b", "quiet")])
    eventually("all have an end", lambda: count(server, "done_total", "moody") == 1
               and count(server, "dead_lettered_total", "moody") == 1, timeout=60)
    check_sum(server, "moody")
    (letter,) = letters(kafka, topic)
    assert letter["payload"] == "good" and letter["headers"]["sluice-dlq-error"] == "unknown_topic"
    assert letter["headers"]["sluice-dlq-attempts"] == "3" and f"{topic}.done" in letter["headers"]["sluice-dlq-reason"]


@pytest.mark.seconds(120)
def test_a_record_as_large_as_its_topic_takes_has_an_end_too(moods, kafka, folder):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK})
    for size in (1040000, 1048400):  # the second one has no room for what a letter says
        value = folder / "value"
        value.write_text("poison".ljust(size, "x"))
        kcat("-P", "-q", "-b", kafka.bootstrap, "-t", topic, "-k", "large", "-X", "message.max.bytes=2000000", "-X", "acks=all", str(value))
    put(kafka, topic, [("large", "good")])
    eventually("all have an end", lambda: count(server, "done_total", "moody") == 1
               and count(server, "dead_lettered_total", "moody") == 2, timeout=60)
    check_sum(server, "moody")
    whole, part = sorted(letters(kafka, topic), key=lambda one: int(one["headers"]["sluice-dlq-offset"]))
    assert len(whole["payload"]) == 1040000 and "sluice-dlq-missing" not in whole["headers"]
    assert part["payload"] is None and part["key"] == "large" and part["headers"]["sluice-dlq-missing"] == "value"
    original = next(one for one in consume(kafka.bootstrap, topic) if one["offset"] == int(part["headers"]["sluice-dlq-offset"]))
    assert len(original["payload"]) == 1048400
    place = f"{part['partition']}-{part['offset']}"
    assert server.get(f"/kafka/dlq/{topic}.dlq/{place}").json()["letter"]["missing"] == "value"
    (result,) = server.post(f"/kafka/dlq/{topic}.dlq/redrive", {"ids": [place]}).problem(422)["results"]
    assert result["error"] == "incomplete" and f"{topic}/" in result["detail"]
    assert server.post(f"/kafka/dlq/{topic}.dlq/redrive", {"ids": [place], "value": "good again"}).status == 200
    eventually("it is done", lambda: {one["payload"] for one in done(kafka, topic)} == {"good 1", "good again 1"}, timeout=30)


@pytest.mark.seconds(120)
def test_a_processor_that_crashes_is_started_again(moods, kafka):
    topic = unique("fragile")
    server = moods(fragile={"topics": [topic], **QUICK})
    put(kafka, topic, [("a", "one"), ("b", "crash"), ("c", "two"), ("d", "three")])
    eventually("all have an end", lambda: count(server, "done_total", "fragile") == 3
               and count(server, "dead_lettered_total", "fragile") == 1, timeout=30)
    check_sum(server, "fragile")
    assert count(server, "restarts_total", "fragile") == 3
    assert sorted(one["payload"] for one in done(kafka, topic)) == ["one", "three", "two"]
    (letter,) = letters(kafka, topic)
    assert letter["payload"] == "crash" and letter["headers"]["sluice-dlq-attempts"] == "3"
    assert server.get("/livez").status == 200


@pytest.mark.seconds(120)
def test_a_failing_key_keeps_its_order_while_others_flow(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK, "timeout": 10000, "retryInitial": 8000, "concurrency": 8})
    put(kafka, topic, [("slow", "once 0")])
    eventually("the key is parked", lambda: count(server, "parked_keys", "moody") == 1)
    put(kafka, topic, [(f"k{i % 10}", f"{i:04}") for i in range(500)] + [("slow", "1"), ("slow", "2")])
    eventually("the others", lambda: count(server, "done_total", "moody") == 500)
    assert count(server, "parked_keys", "moody") == 1, "the others waited for it"
    eventually("all", lambda: count(server, "done_total", "moody") == 503)
    by_key = {}
    for one in done(kafka, topic):
        by_key.setdefault(one["key"], []).append(one["payload"])
    assert by_key.pop("slow") == ["once 0 2", "1 1", "2 1"]
    assert all(values == sorted(values) for values in by_key.values())
    check_sum(server, "moody")


@pytest.mark.seconds(300)
def test_a_hundred_thousand_failing_keys_are_letters_and_hold_nothing_up(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], "maxAttempts": 2, "retryInitial": 20, "maxParkedKeys": 500, "inFlightRecords": 1000})
    put(kafka, topic, [(f"k{i}", "good" if i % 1000 == 0 else "throw") for i in range(100100)])
    most = 0

    def all_ended():
        nonlocal most
        most = max(most, count(server, "parked_keys", "moody"))
        return (count(server, "done_total", "moody"), count(server, "dead_lettered_total", "moody")) == (101, 99999)
    eventually("all have an end", all_ended, timeout=240)
    assert 0 < most < 5000  # the bound, and what was on its way when it was reached
    check_sum(server, "moody")
    assert len({one["key"] for one in letters(kafka, topic)}) == 99999


@pytest.mark.seconds(240)
def test_a_broker_away_for_a_minute_under_load_costs_no_record(own_kafka, sluice):
    kafka, topic = own_kafka.start(), unique("moody")
    config = config_for(kafka.bootstrap, group=unique("group"), kafka={"deliveryTimeout": 5000}, processors=[
        {"name": "moody", "topics": [topic], "remember": 3600000, **QUICK}, {"name": "fragile", "topics": [unique("fragile")]}])
    server = sluice(config, binary=MOODY)
    writers = Writers(server, topic)
    eventually("a good start", lambda: count(server, "done_total", "moody") > 100, timeout=REBALANCE_SECONDS)
    kafka.pause()
    time.sleep(60)
    kafka.resume()
    some = writers.count()
    eventually("it goes on", lambda: writers.count() > some + 100, timeout=30)
    writers.finish()
    taken = {event_id for numbers in writers.taken.values() for _, event_id in numbers}
    assert set(writers.statuses) <= {200, 202} and writers.queued > 0, writers.statuses

    def ends():
        return Counter(one["headers"]["sluice-event-id"].rsplit("/", 1)[0] for one in done(kafka, topic))
    eventually("each event has its end", lambda: taken <= set(ends()), timeout=90, pause=1)
    check_sum(server, "moody")
    # What the frozen broker took without saying so is emitted once more, with the same event id.
    print("emitted twice:", sum(ends().values()) - len(taken), "of", len(taken))
    assert letters(kafka, topic) == []


@pytest.mark.seconds(240)
def test_a_server_killed_midway_loses_nothing(moods, kafka):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK, "timeout": 5000})
    def value(i):
        return f"{'throw' if i % 50 == 0 else 'poison' if i % 75 == 0 else 'once' if i % 20 == 0 else 'good'} {i}"
    values = [value(i) for i in range(1, 6001)]
    for part in range(3):
        put(kafka, topic, [(f"k{i % 97}", text) for i, text in enumerate(values[part * 2000:(part + 1) * 2000])])
        eventually("some are done", lambda: count(server, "done_total", "moody") > 0, timeout=REBALANCE_SECONDS)
        time.sleep(chance.uniform(0, 0.4))
        server.kill()
        server.start(ready=False)
    # Once these are done, the last server has read all partitions to their end, and again what was not committed.
    last = [f"good last {i}" for i in range(97)]
    put(kafka, topic, [(f"k{i}", text) for i, text in enumerate(last)])
    values += last
    expected_dead = {text for text in values if text.startswith(("throw", "poison"))}
    expected_done = set(values) - expected_dead

    def all_ended():
        dead = Counter(one["payload"] for one in letters(kafka, topic))
        good = Counter(one["payload"].rsplit(" ", 1)[0] for one in done(kafka, topic))
        return good, dead, set(good) == expected_done and set(dead) == expected_dead
    eventually("every record has its end, and of one kind", lambda: all_ended()[2], timeout=90, pause=0.5)
    eventually("nothing is in flight", lambda: count(server, "in_flight", "moody") == 0)
    check_sum(server, "moody")
    good, dead, _ = all_ended()
    print("twice:", sum(good.values()) + sum(dead.values()) - len(values), "of", len(values))
    server.stop()
    server.start(ready=False)
    time.sleep(6)  # as long as it takes to get its partitions back
    put(kafka, topic, [("z", "last")])
    eventually("the next record", lambda: count(server, "done_total", "moody") == 1, timeout=REBALANCE_SECONDS)
    assert count(server, "in_total", "moody") == 1


@pytest.mark.seconds(180)
def test_partitions_with_parked_keys_move_to_another_member(moods, kafka):
    topic, group = unique("moody"), unique("group")
    settings = {"topics": [topic], **QUICK, "timeout": 10000, "maxAttempts": 2, "retryInitial": 8000}
    first, second = (moods(group=group, start=False, moody=settings) for _ in range(2))
    first.start()
    values = [f"{'once' if i % 10 == 0 else 'good'} {i}" for i in range(200)]
    put(kafka, topic, [(f"k{i}", text) for i, text in enumerate(values)])
    eventually("keys are parked", lambda: count(first, "parked_keys", "moody") == 20, timeout=30)
    second.start(ready=False)  # half of the partitions move, with what is parked
    eventually("all are done", lambda: {one["payload"].rsplit(" ", 1)[0] for one in done(kafka, topic)} == set(values),
               timeout=90, pause=0.5)
    for server in (first, second):
        eventually("nothing is in flight", lambda: count(server, "in_flight", "moody") == 0)
        check_sum(server, "moody")
    assert letters(kafka, topic) == []
    # What was finished beyond the commits came along in their metadata.
    good = Counter(one["payload"].rsplit(" ", 1)[0] for one in done(kafka, topic))
    assert max(good.values()) == 1, good.most_common(5)


@pytest.mark.seconds(90)
def test_a_stop_waits_for_the_record_at_work(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK, "timeout": 10000})
    put(kafka, topic, [("a", "sleep"), ("a", "after")])
    eventually("it is at work", lambda: count(server, "in_flight", "moody") == 2)
    server.stop()
    assert [one["payload"] for one in done(kafka, topic)] == ["sleep 1"]
    server.start(ready=False)
    eventually("the rest", lambda: [one["payload"] for one in done(kafka, topic)] == ["sleep 1", "after 1"],
               timeout=REBALANCE_SECONDS)


@pytest.mark.seconds(90)
def test_a_record_past_its_deadline_is_a_dead_letter(moods, kafka):
    topic = unique("moody")
    server = moods(moody={"topics": [topic], **QUICK})
    kcat("-P", "-q", "-b", kafka.bootstrap, "-t", topic, "-H", "sluice-deadline=1000", "-X", "acks=all", data=b"late\n")
    (letter,) = eventually("a dead letter", lambda: letters(kafka, topic), timeout=30)
    assert letter["headers"]["sluice-dlq-error"] == "expired"
    eventually("counted", lambda: count(server, "expired_total", "moody") == 1)
    check_sum(server, "moody")


@pytest.mark.seconds(60)
def test_changes_of_a_processor_that_is_not_there_are_refused(sluice, kafka):
    server = sluice(config_for(kafka.bootstrap, processors=[{"name": "prise"}]), binary=SHOP, start=False)
    server.start(live=False)
    assert server.process.wait(10) == 2
    assert 'processors[0].name: this program has no processor "prise"; it has price, welcome' in server.log()


@pytest.mark.seconds(60)
def test_the_shop_of_the_guide_does_what_the_guide_says(sluice, kafka):
    group = unique("group")
    server = sluice(config_for(kafka.bootstrap, group=group), binary=SHOP)
    for quantity in (3, 4):
        order = {"key": group, "value": {"quantity": quantity, "unitPrice": 250}}
        assert server.post("/kafka/send/orders", order).status in (200, 202)

    def values(topic):
        return [one["payload"] for one in consume(kafka.bootstrap, topic) if one["key"] == group]
    eventually("both are priced", lambda: [json.loads(one)["total"] for one in values("orders.priced")] == [750, 1000],
               timeout=REBALANCE_SECONDS)
    eventually("the customer is welcomed once", lambda: values("customers.welcomed") == [f"welcome, {group}"])
    for name in ("price", "welcome"):
        eventually("nothing is in flight", lambda name=name: count(server, "in_flight", name) == 0)
    for name in ("price", "welcome"):
        check_sum(server, name)


@pytest.mark.seconds(180)
def test_long_waits_are_spent_in_one_topic_and_survive_a_kill(moods, kafka):
    topic, group = unique("moody"), unique("group")
    server = moods(moody={"topics": [topic], "group": group, **QUICK, "retryInitial": 4000, "setAside": "2s"})
    put(kafka, topic, [(f"k{i % 5}", f"once {i}") for i in range(500)] + [("k1", "throw"), ("k1", "after")])
    eventually("all are set aside", lambda: count(server, "set_aside_total", "moody") == 501, timeout=60)
    eventually("nothing waits for them", lambda: count(server, "done_total", "moody") == 1)
    check_sum(server, "moody")
    assert {one["topic"] for one in consume(kafka.bootstrap, f"{group}.retries")} == {f"{group}.retries"}
    server.kill()
    server.start()
    eventually("all have an end", lambda: len(done(kafka, topic)) >= 501 and len(letters(kafka, topic)) >= 1, timeout=90)
    eventually("nothing is in flight", lambda: count(server, "in_flight", "moody.retries") == 0)
    check_sum(server, "moody.retries")
    assert {one["payload"] for one in done(kafka, topic)} == {f"once {i} 2" for i in range(500)} | {"after 1"}
    letter = letters(kafka, topic)[0]
    assert letter["payload"] == "throw" and letter["headers"]["sluice-dlq-attempts"] == "3"
    assert letter["headers"]["sluice-dlq-topic"] == topic and "sluice-retry" not in letter["headers"]


# -- nothing twice -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
@pytest.mark.seconds(240)
def test_a_topic_that_is_read_again_does_nothing_twice(sluice, kafka, node, request, folder, kind):
    url = f"sqlite:{folder}/store.db" if kind == "sqlite" else request.getfixturevalue(kind).url
    topic, group = unique("moody"), unique("group")
    table = {"name": "moody", "topics": [topic], "group": group, "remember": "1h", **QUICK}
    server = sluice(config_for(kafka.bootstrap, processors=[table], store={"url": url}), binary=MOODY)
    values = [f"{'poison' if i % 50 == 0 else 'once' if i % 20 == 0 else 'good'} {i}" for i in range(1, 1001)]
    bad = sum(value.startswith("poison") for value in values)
    put(kafka, topic, [(f"k{i % 37}", value) for i, value in enumerate(values)])
    eventually("all have an end", lambda: count(server, "done_total", "moody") == len(values) - bad
               and count(server, "dead_lettered_total", "moody") == bad, timeout=90)
    check_sum(server, "moody")
    effects = Counter(one["payload"] for one in done(kafka, topic))
    assert sum(effects.values()) == len(values) - bad and max(effects.values()) == 1
    server.stop()
    reset = node("reset_offsets.js", kafka.bootstrap, group, topic)
    assert reset.wait(60) == 0, reset.stderr.read()
    server.start()
    eventually("all are known", lambda: count(server, "duplicates_total", "moody") == len(values) - bad
               and count(server, "dead_lettered_total", "moody") == bad, timeout=90)
    check_sum(server, "moody")  # what was given up is tried again: it was never done
    assert Counter(one["payload"] for one in done(kafka, topic)) == effects


@pytest.mark.parametrize("kind,how", [("sqlite", "lock"), ("sqlite", "full"), ("postgres", "kill"), ("postgres", "pause"),
                                      ("redis", "pause"), ("redis", "full")])
@pytest.mark.seconds(180)
def test_a_store_that_fails_for_a_while_costs_no_record(sluice, kafka, request, folder, kind, how):
    environment, full = preload(folder) if (kind, how) == ("sqlite", "full") else ({}, None)
    database = None if kind == "sqlite" else request.getfixturevalue(kind)
    url = database.url if database else f"sqlite:{folder}/store.db"
    topic = unique("moody")
    table = {"name": "moody", "topics": [topic], "remember": "1h", **QUICK}
    server = sluice(config_for(kafka.bootstrap, group=unique("group"), processors=[table], store={"url": url}), binary=MOODY,
                    environment=environment)
    put(kafka, topic, [(f"k{i % 37}", f"good before {i}") for i in range(300)])
    eventually("a good start", lambda: count(server, "done_total", "moody") == 300, timeout=REBALANCE_SECONDS)
    other = None
    if how == "lock":
        other = sqlite3.connect(folder / "store.db", isolation_level=None)
        other.execute("begin exclusive")
    elif full:
        full.touch()
    elif how == "full":
        database.command("CONFIG", "SET", "maxmemory", "1")
    else:
        getattr(database, how)()
    put(kafka, topic, [(f"k{i % 37}", f"{'poison' if i % 50 == 0 else 'good'} while {i}") for i in range(300)])
    eventually("it is said", lambda: "the store was not asked" in server.log(), timeout=30)
    assert count(server, "done_total", "moody") == 300 and count(server, "in_flight", "moody") > 0
    if how == "lock":
        other.execute("rollback")
    elif full:
        full.unlink()
    elif how == "full":
        database.command("CONFIG", "SET", "maxmemory", "0")
    elif how == "kill":
        database.start()
    else:
        database.resume()
    eventually("all have an end", lambda: count(server, "done_total", "moody") == 594
               and count(server, "dead_lettered_total", "moody") == 6, timeout=60)
    check_sum(server, "moody")
    effects = Counter(one["payload"] for one in done(kafka, topic))
    assert len(effects) == 594 and max(effects.values()) == 1


# -- events between services -------------------------------------------------------------------------------------------

def test_services_exchange_events(own_kafka, sluice, folder):
    kafka = own_kafka.start()  # the catalogue's names are the same in every run
    config = config_for(kafka.bootstrap, kafka={"createCatalogue": True}, log={"level": "info"},
                        processors=[{"name": "analytics-service.user.login", "remember": 3600000}])
    consumers = sluice(config, binary=CONSUMERS)
    assert {"sale.cancelled", "service.health"} <= set(consumers.status()["topics"])
    got = subprocess.run([REGISTER], env=clean_environment(KAFKA_BROKERS=kafka.bootstrap), capture_output=True, text=True,
                         timeout=60, check=True, cwd=folder)
    place, health = got.stdout.splitlines()
    assert re.fullmatch(r"user\.created \d+ \d+", place)
    assert health == f"connected: 1, producer: 1, consumers: 0, brokers: {kafka.bootstrap}"
    sent = json.loads(consume(kafka.bootstrap, "user.created")[0]["payload"])
    assert sent["type"] == "USER_CREATED" and sent["data"]["userId"] == "123"
    assert sent["metadata"]["source"] == "auth-service" and sent["metadata"]["tenantId"] == "acme"

    # Another service's event, and what is JSON without an envelope, through HTTP.
    login = {"type": "USER_LOGIN", "data": {"userId": "123"}, "metadata": {"eventId": "e-1", "source": "auth-service"}}
    assert consumers.post("/kafka/send/user.login", {"key": "123", "value": login}).status == 200
    assert consumers.post("/kafka/send/user.updated", {"key": "123", "value": {"userId": "123"}}).status == 200
    assert consumers.post("/kafka/send/user.created", {"key": "9", "value": {"userId": "9"}}).status == 200

    mails = eventually("the welcome", lambda: consume(kafka.bootstrap, "notification.send"))
    assert len(mails) == 1 and mails[0]["key"] == "123"
    mail = json.loads(mails[0]["payload"])
    assert mail["data"] == {"title": "Welcome", "body": "Welcome!", "targets": [{"channel": "email", "to": "ada@example.org"}]}
    assert mail["metadata"]["correlationId"] == sent["metadata"]["eventId"]
    assert mail["metadata"]["eventId"] == sent["metadata"]["eventId"] + "/welcome"

    welcomes, analytics = "notification-service.user.created", "analytics-service.user.{}"
    eventually("both services have had all", lambda: count(consumers, "done_total", welcomes) == 1
               and [count(consumers, "done_total", analytics.format(x)) for x in ("created", "updated", "login")] == [2, 1, 1])
    eventually("the dead letter", lambda: len(letters(kafka, "user.created")) == 1)  # the user without an address
    for name in (welcomes, *(analytics.format(x) for x in ("created", "updated", "login"))):
        check_sum(consumers, name)
    log = consumers.log()
    assert "USER_LOGIN" in log and "user.updated" in log

    # A service that knows no headers writes the same event twice.
    login["metadata"]["eventId"] = "e-2"
    put(kafka, "user.login", [("123", json.dumps(login))] * 2)
    logins = analytics.format("login")
    eventually("one of them is known", lambda: count(consumers, "done_total", logins) == 3)
    assert count(consumers, "duplicates_total", logins) == 1
    check_sum(consumers, logins)
