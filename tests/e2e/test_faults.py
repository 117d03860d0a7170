"""Faults: brokers and servers that die, freeze and come back. What was acknowledged is never lost."""

import http.client
import os
import signal
import socket
import threading
import time

import pytest

from support import (GRACE_SECONDS, Client, Load, aggregation, config_for, consume, event, eventually,
                     expect_exactly_once, raw, status_of, unique, values_of)


def configured(kafka, **more):
    """Configuration with one aggregation whose samples are complete: (config, source, sink)."""
    source, sink = unique("events"), unique("summaries")
    quick = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "500", "reconnect.backoff.max.ms": "500"}
    config = config_for(kafka.bootstrap, aggregation(source, sink, batchSize=50, sampleSize=50, interval=500),
                        kafka={"properties": quick}, **more)
    return config, source, sink


def assert_all_there(load, kafka, source):
    """Every acknowledged event is in Kafka where the answer said."""
    there = {(one["topic"], one["partition"], one["offset"]): value["payload"]["times"]
             for one, value in ((one, value) for records in [consume(kafka.bootstrap, source)]
                                for one, value in zip(records, values_of(records)))}
    lost = {number: place for number, place in load.acknowledged.items() if there.get(place) != number}
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} acknowledged events are not where they should be: " \
                     f"{list(lost.items())[:5]}"
    return list(there.values())


def test_a_broker_killed_and_back_under_load_loses_nothing_acknowledged(own_kafka, sluice):
    kafka = own_kafka.start()
    config, source, sink = configured(kafka)
    server = sluice(config)
    pid = server.pid
    with server.events() as stream:
        load = Load(server, threads=6, batch=3)
        eventually("a good start", lambda: len(load.acknowledged) > 300)
        kafka.kill()
        status = eventually("the outage in the status",
                            lambda: (lambda got: got["kafka"]["connected"] is False and got)(server.status()), timeout=10)
        assert status["kafka"]["error"] and status["ok"] is True
        eventually("not ready", lambda: server.get("/readyz").status == 503, timeout=10)
        assert server.get("/livez").status == 200
        kafka.start()
        eventually("connected again", lambda: server.status()["kafka"]["connected"] is True, timeout=30)
        server.wait_ready()
        before = len(load.acknowledged)
        eventually("acknowledged again", lambda: len(load.acknowledged) > before + 300, timeout=30)
        statuses = load.finish()
        assert set(statuses) <= {202, 207, 503, 504}, set(statuses)
        server.publish(event(-1))
        stream.wait_times(-1, timeout=30)  # the same stream goes on
    assert server.running() and server.pid == pid
    written = assert_all_there(load, kafka, source)
    expect_exactly_once(kafka.bootstrap, sink, written)


def test_a_frozen_broker_costs_nothing_but_time(own_kafka, sluice):
    kafka = own_kafka.start()
    config, source, sink = configured(kafka)
    server = sluice(config)
    load = Load(server, threads=4, batch=3)
    eventually("a good start", lambda: len(load.acknowledged) > 200)
    kafka.pause()
    time.sleep(3)
    assert server.get("/livez").status == 200
    server.status()
    kafka.resume()
    before = len(load.acknowledged)
    eventually("acknowledged again", lambda: len(load.acknowledged) > before + 200, timeout=40)
    load.finish()
    written = assert_all_there(load, kafka, source)
    expect_exactly_once(kafka.bootstrap, sink, written)


def test_a_broker_that_is_down_at_start_is_waited_for(own_kafka, sluice):
    kafka = own_kafka
    config, source, sink = configured(kafka)
    config["kafka"]["deliveryTimeout"] = 2000
    server = sluice(config, ready=False)
    eventually("taken", lambda: server.post("/events", event(1)).status == 202)
    with server.events() as stream:  # streams may open before Kafka is there
        server.get("/readyz").problem(503)
        status = eventually("an error", lambda: (lambda got: got["kafka"].get("error") and got)(server.status()))
        assert status["kafka"]["connected"] is False
        kafka.start()
        server.wait_ready(40)
        eventually("connected", lambda: server.status()["kafka"]["connected"] is True)
        numbers = [one["payload"]["times"] for one in (event(number) for number in range(2, 60))]
        server.publish(*[event(number) for number in numbers])
        stream.wait_times(2, 59, timeout=20)
    # Event 1 waited on disk meanwhile.
    eventually("event 1", lambda: 1 in values_of_times(kafka, source))
    expect_exactly_once(kafka.bootstrap, sink, values_of_times(kafka, source))
    assert set(values_of_times(kafka, source)) == {1, *numbers}


def values_of_times(kafka, source):
    return [one["payload"]["times"] for one in values_of(consume(kafka.bootstrap, source))]


def test_a_server_killed_under_load_loses_nothing_acknowledged(sluice, kafka):
    config, source, sink = configured(kafka)
    server = sluice(config)
    load = Load(server, threads=6, batch=3)
    for _ in range(2):
        before = len(load.acknowledged)
        eventually("acknowledged", lambda: len(load.acknowledged) > before + 300, timeout=30)
        server.kill()
        server.start(ready=False)
    before = len(load.acknowledged)
    eventually("acknowledged again", lambda: len(load.acknowledged) > before + 300, timeout=30)
    load.finish()
    written = assert_all_there(load, kafka, source)
    expect_exactly_once(kafka.bootstrap, sink, written)


# -- the ordered end ---------------------------------------------------------------------------------------------------

def test_sigterm_drains_readiness_first_and_streams_end_cleanly(sluice, kafka):
    config, source, sink = configured(kafka, supervision={"drainDelay": 2000})
    server = sluice(config)
    streams = [server.events() for _ in range(20)]
    for stream in streams:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
    load = Load(server, threads=4, batch=3)
    eventually("under load", lambda: len(load.acknowledged) > 300)

    seen = []  # (status, whether any stream had ended by then) of /readyz on a connection that was there before
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)

    def ask():
        connection.request("GET", "/readyz")
        got = connection.getresponse()
        got.read()
        return got.status

    assert ask() == 200
    os.kill(server.pid, signal.SIGTERM)
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < GRACE_SECONDS:
            ended = any(stream.ended.is_set() for stream in streams)
            seen.append((ask(), ended))
            if [status for status, _ in seen].count(503) == 1:
                assert server.post("/events", event(-1)).status == 202  # all else goes on, also for new connections
    except (OSError, http.client.HTTPException):
        pass
    code = server.process.wait(GRACE_SECONDS + 5)
    seconds = time.monotonic() - begin
    assert code == 0 and seconds < GRACE_SECONDS, (code, seconds)
    statuses = [status for status, _ in seen]
    assert 503 in statuses and 200 not in statuses[statuses.index(503):], statuses
    assert not seen[statuses.index(503)][1], "a stream ended before readiness failed"
    for stream in streams:
        stream.ended.wait(5)
        assert stream.ended_cleanly and stream.error is None, (stream.ended_cleanly, stream.error)
    statuses = load.finish()
    assert set(statuses) <= {202, 503}, set(statuses)
    # Nothing acknowledged is lost, what was open goes on in the next process.
    written = assert_all_there(load, kafka, source)
    server.start()
    expect_exactly_once(kafka.bootstrap, sink, written)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(sluice, kafka, number):
    server = sluice(configured(kafka)[0])
    begin = time.monotonic()
    os.kill(server.pid, number)
    assert server.process.wait(GRACE_SECONDS) == 0
    assert time.monotonic() - begin < 5


def test_a_request_under_way_is_answered_before_the_end(own_kafka, sluice):
    kafka = own_kafka.start()
    config, source, _ = configured(kafka)
    server = sluice(config)
    server.publish(event(1))
    kafka.pause()
    answers = []
    sender = threading.Thread(target=lambda: answers.append(server.post("/events", event(2))))
    sender.start()
    time.sleep(0.5)
    os.kill(server.pid, signal.SIGTERM)
    time.sleep(0.5)
    kafka.resume()
    sender.join(GRACE_SECONDS)
    assert server.process.wait(GRACE_SECONDS) == 0
    assert answers and answers[0].status in (202, 503), answers
    assert ((2 in values_of_times(kafka, source)) or answers[0].status == 503)


def test_with_kafka_away_the_end_keeps_to_the_grace_period(own_kafka, sluice):
    kafka = own_kafka.start()
    config, _, _ = configured(kafka, supervision={"gracePeriod": 3000})
    server = sluice(config)
    stream = server.events()
    stream.wait("the snapshot", lambda one: one.name == "snapshot")
    server.publish(event(1))
    for away in (kafka.pause, kafka.kill):
        away()
        threading.Thread(target=lambda: status_of(raw(server.port, b"")), daemon=True).start()
        _, seconds = server.terminate()
        assert seconds < 4.5, f"{seconds:.1f} s"
        stream.ended.wait(2)
        assert stream.ended_cleanly
        if away == kafka.pause:
            server.start(ready=False)
            stream = server.events()


def test_a_second_sigterm_does_no_harm(sluice, kafka):
    server = sluice(configured(kafka)[0])
    os.kill(server.pid, signal.SIGTERM)
    time.sleep(0.01)
    try:
        os.kill(server.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    assert server.process.wait(GRACE_SECONDS) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def test_the_port_is_free_again_at_once(sluice, kafka):
    server = sluice(configured(kafka)[0])
    stuck = socket.create_connection(("127.0.0.1", server.port))
    for _ in range(3):
        server.stop()
        server.start(ready=False)
        assert Client(server.port).get("/livez").status == 200
    stuck.close()
