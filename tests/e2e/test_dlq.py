"""Dead letters on a real Kafka: found, shown, sent back; what must not happen does not; the command line."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import threading
import time
import urllib.parse
from collections import Counter

import pytest

from support import ROOT, aggregation, config_for, consume, event, eventually, kcat, produce, run_cli, unique
from test_processors import check_sum, count, put

EXAMPLE = pathlib.Path(os.environ.get("SLUICE_EXAMPLE", ROOT / "build" / "release" / "example"))
MOODY = EXAMPLE / "moody" / "moody"
QUICK = {"timeout": 600, "maxAttempts": 2, "retryInitial": 50}
TOKENS = [{"token": "ann-the-operator", "user": "ann", "roles": ["admin"]},
          {"token": "bob-the-publisher", "user": "bob", "publish": ["*"], "subscribe": ["*"]}]


class Bench:
    """One server and one topic with its dead letters."""

    def __init__(self, server, kafka, topic):
        self.server, self.kafka, self.topic, self.dlq = server, kafka, topic, f"{topic}.dlq"

    def list(self, **query):
        got = self.server.get(f"/kafka/dlq/{self.dlq}?{urllib.parse.urlencode(query)}")
        assert got.status == 200, got
        return got.json()

    def letters(self, **query):
        """All that fit, page by page."""
        found, after = [], {}
        while True:
            page = self.list(**query, **after)
            found += page["letters"]
            if page["complete"]:
                return found
            after = {"after": page["after"]}

    def wait(self, count, timeout=30, **query):
        def enough():
            found = self.letters(**query)
            assert len(found) == count, len(found)
            return found
        return eventually(f"{count} letters", enough, timeout, 0.3)

    def show(self, letter):
        got = self.server.get(f"/kafka/dlq/{self.dlq}/{letter['id']}")
        assert got.status == 200, got
        return got.json()["letter"]

    def redrive(self, body, status=200):
        got = self.server.post(f"/kafka/dlq/{self.dlq}/redrive", body)
        assert got.status == status, got
        return got.json()

    def records(self):
        return consume(self.kafka.bootstrap, self.topic)

    def seed(self, values, headers=None, key=None, processor="test", error="rejected"):
        """Writes letters as sluice would."""
        marks = {"topic": self.topic, "partition": 0, "offset": 7, "timestamp": 1000, "processor": processor,
                 "error": error, "reason": "seeded", "attempts": 1, "first-failure": 1, "last-failure": 2}
        args = [f"{name}={value}" for name, value in (headers or {}).items()]
        args += [f"sluice-dlq-{name}={value}" for name, value in marks.items()]
        more = ["-k", key] if key else []
        kcat("-P", "-q", "-b", self.kafka.bootstrap, "-t", self.dlq, "-X", "acks=all", *more,
             *(word for arg in args for word in ("-H", arg)), data=("\n".join(values) + "\n").encode())


@pytest.fixture
def bench(sluice, kafka):
    """A server whose aggregation gives bad events up."""
    def make(topic=None, node_token=None, **sections):
        topic = topic or unique("events")
        config = config_for(kafka.bootstrap, aggregation(topic, f"{topic}.sums", batchSize=1000000),
                            dlq={"redrivesTopic": unique("redrives"), **sections.pop("dlq", {})}, **sections)
        return Bench(sluice(config, token=node_token), kafka, topic)
    return make


@pytest.fixture
def moody(sluice, kafka):
    """A server with a processor that fails as its records tell it to."""
    if not MOODY.exists():
        pytest.fail(f"{MOODY} is not built: ctest -R example")
    topic = unique("moody")
    tables = [{"name": "moody", "topics": [topic], **QUICK}]
    config = config_for(kafka.bootstrap, processors=tables, dlq={"redrivesTopic": unique("redrives")}, log={"level": "info"})
    return Bench(sluice(config, binary=MOODY), kafka, topic)


def audit_of(bench):
    found = [json.loads(one["payload"]) for one in consume(bench.kafka.bootstrap, "audit.event")]
    return [one for one in found if one["data"]["resourceId"].startswith(bench.dlq + "/")]


@pytest.mark.seconds(180)
def test_a_poison_event_is_found_shown_mended_and_counted(bench):
    it = bench()
    kcat("-P", "-q", "-b", it.kafka.bootstrap, "-t", it.topic, "-k", "order-7", "-H", "sluice-event-id=e-1", "-H", "b=2",
         "-H", "a=1", "-H", "b=1", "-X", "acks=all", data=b"not json\n")
    produce(it.kafka.bootstrap, it.topic, [event(1), event(2)])
    (letter,) = it.wait(1)
    assert letter["error"] == "malformed_record" and letter["processor"] == "aggregator/default"
    assert letter["key"] == "order-7" and letter["value"] == "not json" and letter["valueEncoding"] == "text"
    assert letter["origin"]["topic"] == it.topic and letter["attempts"] == 1 and letter["redriven"] is None
    assert letter["firstFailure"] <= letter["lastFailure"] <= int(time.time() * 1000)
    assert [(one["name"], one["value"]) for one in it.show(letter)["headers"]] == [
        ("sluice-event-id", "e-1"), ("b", "2"), ("a", "1"), ("b", "1")]
    (topic,) = [one for one in it.server.get("/kafka/dlq").json()["topics"] if one["topic"] == it.dlq]
    assert topic["letters"] == 1 and topic["redriven"] == 0 and topic["errors"] == {"malformed_record": 1}
    assert topic["oldest"] == topic["newest"] == letter["timestamp"] and topic["complete"]

    dry = it.redrive({"ids": [letter["id"]], "value": json.dumps(event(3)), "dryRun": True})
    assert dry["ok"] and dry["dryRun"] and "offset" not in dry["results"][0]
    assert len(it.records()) == 3 and audit_of(it) == []
    done = it.redrive({"ids": [letter["id"]], "value": json.dumps(event(3))})
    (result,) = done["results"]
    assert result["ok"] and result["eventId"] == "e-1" and result["topic"] == it.topic and result["redrives"] == 1
    (back,) = [one for one in it.records() if one["offset"] == result["offset"] and one["partition"] == result["partition"]]
    assert back["key"] == "order-7" and json.loads(back["payload"])["payload"]["times"] == 3
    assert back["partition"] == letter["origin"]["partition"]
    assert back["headers"] == {"sluice-event-id": "e-1", "b": "1", "a": "1", "sluice-redrives": "1"}
    eventually("it is counted", lambda: it.server.status()["aggregations"]["default"]["stats"]["totalEvents"] == 3)

    assert it.redrive({"ids": [letter["id"]]}, 409)["results"][0]["error"] == "already_redriven"
    assert it.redrive({"filter": {}})["skipped"] == 1
    (marked,) = it.letters(redriven="true")
    assert marked["redriven"]["to"] == {"topic": it.topic, "partition": result["partition"], "offset": result["offset"]}
    assert it.letters(redriven="false") == []
    assert it.redrive({"ids": [letter["id"]], "again": True})["results"][0]["ok"]  # poison: comes back
    (again,) = it.wait(1, redriven="false")
    assert again["redrives"] == 1 and again["eventId"] == "e-1"
    first, second = sorted(audit_of(it), key=lambda one: one["metadata"]["timestamp"])
    assert first["type"] == "AUDIT_EVENT" and first["data"]["action"] == "dlq.redrive"
    assert first["data"]["resourceId"] == f"{it.dlq}/{letter['id']}" and first["data"]["details"]["edited"] is True
    assert second["data"]["details"]["again"] is True and second["data"]["details"]["edited"] is False
    assert "a dead letter was sent back" in it.server.log()
    assert it.server.metric("sluice_dead_letters_redriven_total") == 2


@pytest.mark.seconds(180)
def test_letters_of_a_processor_go_back_and_are_processed(moody):
    it = moody
    lines = "".join(f"{key}\t{value}\n" for key, value in [("p", "poison 1"), ("t", "throw 1"), ("p", "poison 2"), ("g", "good")])
    kcat("-P", "-q", "-b", it.kafka.bootstrap, "-t", it.topic, "-K", "\t", "-X", "acks=all", data=lines.encode())
    it.wait(3, 60)
    assert {(one["value"], one["error"], one["attempts"], one["processor"]) for one in it.letters()} == {
        ("poison 1", "rejected", 1, "moody"), ("poison 2", "rejected", 1, "moody"), ("throw 1", "processor_failed", 2, "moody")}
    assert {one["value"] for one in it.letters(error="rejected")} == {"poison 1", "poison 2"}
    assert [one["value"] for one in it.letters(key="t")] == ["throw 1"]
    assert [one["value"] for one in it.letters(text="poison 2")] == ["poison 2"]
    assert [one["value"] for one in it.letters(text="thrown as told")] == ["throw 1"]
    assert it.letters(processor="price") == []
    times = sorted(one["timestamp"] for one in it.letters())
    assert len(it.letters(**{"from": times[0], "to": times[-1]})) == 3
    assert it.letters(**{"from": times[-1] + 1}) == [] and it.letters(to=times[0] - 1) == []

    (thrown,) = it.letters(key="t")
    it.redrive({"ids": [thrown["id"]], "value": "mended"})
    eventually("it is processed", lambda: "mended 1" in [one["payload"] for one in consume(it.kafka.bootstrap, f"{it.topic}.done")], 30)
    # The guard: each redrive of the poison makes a new letter, until it stays.
    for round_ in range(1, 4):
        it.redrive({"filter": {"error": "rejected", "redriven": False}})
        fresh = it.wait(2, 60, redriven="false")
        assert {one["redrives"] for one in fresh} == {round_}
    refused = it.redrive({"filter": {"error": "rejected", "redriven": False}}, 409)
    assert [one["error"] for one in refused["results"]] == ["loop_guard"] * 2 and refused["redriven"] == 0
    assert len(it.letters(redriven="false")) == 2


def test_bytes_come_back_as_they_were(bench):
    it = bench(dlq={"maxRedrives": 1000})
    value, key = bytes(range(256)), b"\xff\x00"
    it.seed(["x"], headers={"own": "1"})
    # kcat takes no such bytes by lines; the server's own path does: a record of bytes that is no event.
    kcat("-P", "-q", "-b", it.kafka.bootstrap, "-t", it.topic, "-D", "\x01\x02\x03", "-K", "\x04\x05", "-X", "acks=all",
         data=key + b"\x04\x05" + value.replace(b"\x01\x02\x03", b"\x02\x01\x03").replace(b"\x04\x05", b"\x05\x04"))
    kcat("-P", "-q", "-b", it.kafka.bootstrap, "-t", it.topic, "-Z", "-H", "gone", "-H", "empty=", "-K", ":", "-X", "acks=all", data=b"tomb:\n")
    letters = it.wait(3)
    sent = value.replace(b"\x01\x02\x03", b"\x02\x01\x03").replace(b"\x04\x05", b"\x05\x04")
    (binary,) = [one for one in letters if one.get("keyEncoding") == "base64"]
    assert base64.b64decode(binary["value"]) == sent and base64.b64decode(binary["key"]) == key
    assert binary["valueEncoding"] == "base64" and binary["valueBytes"] == 256
    (tomb,) = [one for one in letters if one["key"] == "tomb"]
    assert tomb["value"] is None and tomb["valueBytes"] is None
    assert tomb["headers"] == [{"name": "gone", "value": None}, {"name": "empty", "value": ""}]
    results = it.redrive({"ids": [binary["id"], tomb["id"]]})["results"]
    out = kcat("-C", "-e", "-q", "-b", it.kafka.bootstrap, "-t", it.topic, "-f", "%p %o %K %S \\n", "-X", "fetch.wait.max.ms=20")
    shape = {tuple(line.split()[:2]): line.split()[2:] for line in out.decode().splitlines()}
    sizes = sorted(tuple(shape[str(one["partition"]), str(one["offset"])]) for one in results)
    assert sizes == [("2", "256"), ("4", "-1")]
    again = it.wait(3, redriven="false")  # both come back, for they are no events
    (tomb,) = [one for one in again if one["key"] == "tomb"]
    assert tomb["value"] is None and tomb["headers"][:2] == [{"name": "gone", "value": None}, {"name": "empty", "value": ""}]
    (binary,) = [one for one in again if one.get("keyEncoding") == "base64"]
    assert base64.b64decode(binary["value"]) == sent and base64.b64decode(binary["key"]) == key


def test_long_values_are_cut_in_lists_and_whole_alone(bench):
    it = bench()
    it.seed([json.dumps({"n": 12345678901234567890123, "s": "ä" * 3000}, ensure_ascii=False), '{"short": 1.0}'], key="k")
    long, short = it.wait(2)
    assert long["valueCut"] and long["valueBytes"] > 6000 and len(long["value"].encode()) <= 1024
    assert short["value"] == {"short": 1.0} and "valueCut" not in short
    whole = it.server.get(f"/kafka/dlq/{it.dlq}/{long['id']}")
    assert b'"n": 12345678901234567890123' in whole.body  # to the digit
    assert whole.json()["letter"]["value"]["s"] == "ä" * 3000


@pytest.mark.seconds(300)
def test_ten_thousand_letters_go_back_each_once(bench):
    it = bench()
    it.seed([json.dumps(event(number)) for number in range(10000)])
    (topic,) = [one for one in it.server.get("/kafka/dlq").json()["topics"] if one["topic"] == it.dlq]
    assert topic["letters"] == 10000
    assert len(it.letters(limit=1000)) == 10000
    done = run_cli("dlq", "redrive", it.dlq, "--all", "--url", f"http://127.0.0.1:{it.server.port}", "--json", timeout=240)
    assert done.returncode == 0, (done.stdout[-500:], done.stderr)
    assert json.loads(done.stdout)["redriven"] == 10000
    numbers = [json.loads(one["payload"])["payload"]["times"] for one in it.records()]
    assert sorted(numbers) == list(range(10000))
    assert it.letters(redriven="false", limit=1000) == []
    again = run_cli("dlq", "redrive", it.dlq, "--all", "--url", f"http://127.0.0.1:{it.server.port}", timeout=120)
    assert again.returncode == 0 and "sent back 0, not 0, sent back before 10000" in again.stdout
    assert len(it.records()) == 10000


@pytest.mark.seconds(150)
def test_a_server_killed_in_the_middle_of_a_redrive_loses_no_letter(moody):
    it, name, total = moody, "moody", 1500
    settings = it.server.config["processors"][0]
    settings.update(maxAttempts=1, remember="1h")
    it.server.stop()
    it.server.start()
    put(it.kafka, it.topic, [(f"k{i % 97}", f"once {i}") for i in range(total)])
    eventually("all are letters", lambda: count(it.server, "dead_lettered_total", name) == total, 60)
    it.server.stop()
    settings["maxAttempts"] = 5
    it.server.start()

    def begin():
        with contextlib.suppress(OSError, http.client.HTTPException):  # the server is killed
            it.redrive({"filter": {}, "rate": 400})
    half = threading.Thread(target=begin)
    half.start()
    eventually("some are back", lambda: it.server.metric("sluice_dead_letters_redriven_total") >= total / 3, 30, 0.01)
    it.server.kill()
    half.join()
    it.server.start()
    back = total - len(it.letters(redriven="false", limit=1000))
    assert 0 < back < total
    body = {"filter": {}}  # those that are marked stay where they are
    while True:
        done_so_far = it.redrive(body)
        assert done_so_far["failed"] == 0
        if done_so_far["complete"]:
            break
        body["after"] = done_so_far["after"]
    assert it.letters(redriven="false", limit=1000) == []

    def effects():
        return Counter(one["payload"].rsplit(" ", 1)[0] for one in consume(it.kafka.bootstrap, f"{it.topic}.done"))
    wanted = {f"once {i}" for i in range(total)}
    eventually("each has its effect", lambda: set(effects()) == wanted, 60, 0.5)
    check_sum(it.server, name)
    first = it.letters(key="k1")[0]
    known = count(it.server, "duplicates_total", name)
    it.redrive({"ids": [first["id"]], "again": True})
    eventually("it is known", lambda: count(it.server, "duplicates_total", name) == known + 1, 30)
    assert effects()[first["value"]] == 1
    sent = len(it.records()) - total - 1  # a letter whose mark was not written goes back once more, with the same event id
    print("sent back twice:", sent - total, "effects twice:", sum(effects().values()) - total)
    assert sum(effects().values()) - total <= 20  # those whose effect was there, and not yet remembered
    assert total <= sent <= total + 1000


def test_a_redrive_keeps_to_its_rate_and_one_at_a_time(bench):
    it = bench()
    it.seed([json.dumps(event(number)) for number in range(200)])
    answers = []
    begin = time.monotonic()
    slow = threading.Thread(target=lambda: answers.append(it.redrive({"filter": {}, "rate": 20})))
    slow.start()
    eventually("it has begun", lambda: it.server.metric("sluice_dead_letters_redriven_total") > 0)
    eventually("it is busy", lambda: it.server.post(f"/kafka/dlq/{it.dlq}/redrive", {"ids": ["0-9999"]}).status == 409, 5, 0.02)
    assert it.redrive({"filter": {}, "dryRun": True, "limit": 1})["redriven"] == 1  # looking is free
    slow.join()
    seconds = time.monotonic() - begin
    (first,) = answers
    assert not first["complete"] and first["redriven"] <= 20 * seconds + 2
    rest = it.redrive({"filter": {"to": first["to"]}, "after": first["after"]})
    assert rest["complete"] and first["redriven"] + rest["redriven"] == 200
    assert len(it.records()) == 200


def test_only_operators_may(bench, folder):
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    it = bench(node_token="ann-the-operator", auth={"tokensFile": str(folder / "tokens.json")})
    it.seed([json.dumps(event(1))])
    (letter,) = it.wait(1)
    calls = [("GET", "/kafka/dlq", None), ("GET", f"/kafka/dlq/{it.dlq}", None),
             ("GET", f"/kafka/dlq/{it.dlq}/{letter['id']}", None),
             ("POST", f"/kafka/dlq/{it.dlq}/redrive", {"ids": [letter["id"]]})]
    for method, path, body in calls:
        for token, status in (("wrong-or-expired", 401), ("bob-the-publisher", 403)):
            got = it.server.request(method, path, body, {"Authorization": f"Bearer {token}"})
            got.problem(status)
        assert it.server.request(method, path, body, {"Authorization": ""}).status == 401
    assert it.records() == []
    url = f"http://127.0.0.1:{it.server.port}"
    assert run_cli("dlq", "list", "--url", url).returncode == 1
    assert "role" in run_cli("dlq", "list", "--url", url, SLUICE_TOKEN="bob-the-publisher").stderr
    assert it.redrive({"ids": [letter["id"]]})["ok"]
    (entry,) = audit_of(it)
    assert entry["data"]["userId"] == "ann" and entry["data"]["details"]["remote"] == "127.0.0.1"
    assert it.letters()[0]["redriven"]["by"] == "ann"
    assert "ann-the-operator" not in it.server.log()


def test_wrong_requests_are_refused_with_what_to_do(bench):
    it = bench()
    get, post = it.server.get, lambda body, topic=it.dlq: it.server.post(f"/kafka/dlq/{topic}/redrive", body)
    assert get(f"/kafka/dlq/{it.topic}").problem(400)["field"] == "topic"
    assert get("/kafka/dlq/nobody-knows.dlq").problem(404)["field"] == "topic"
    assert get(f"/kafka/dlq/{it.dlq}/0-12345").problem(404)
    assert get(f"/kafka/dlq/{it.dlq}/twelve").problem(400)["field"] == "id"
    assert get(f"/kafka/dlq/{it.dlq}?limit=1001").problem(400)["field"] == "limit"
    assert get(f"/kafka/dlq/{it.dlq}?eror=x").problem(400)["field"] == "eror"
    assert it.server.request("DELETE", f"/kafka/dlq/{it.dlq}").problem(405)
    assert post({"filter": {}}, "nobody-knows.dlq").problem(404)
    assert post({"ids": ["0-12345"]}).problem(404)["results"][0]["error"] == "not_found"
    assert post({"ids": [f"0-{n}" for n in range(1001)]}).problem(400)["field"] == "/ids"
    assert post({"ids": ["0-1", "0-2"], "value": 1}).problem(400)["field"] == "/value"
    assert it.server.post(f"/kafka/dlq/{it.dlq}/redrive", "{").problem(400)
    assert it.server.post(f"/kafka/dlq/{it.dlq}/redrive", "x", content_type="text/plain").problem(415)
    assert it.server.post(f"/kafka/dlq/{it.dlq}/redrive", b"x" * 2000000).status == 413


def test_a_letter_that_points_elsewhere_goes_nowhere(bench):
    it = bench()
    produce(it.kafka.bootstrap, it.dlq, ["no letter"])
    kcat("-P", "-q", "-b", it.kafka.bootstrap, "-t", it.dlq, "-H", "sluice-dlq-topic=secrets", "-H", "sluice-dlq-partition=0",
         "-X", "acks=all", data=b"forged\n")
    letters = it.wait(2)
    assert {one["error"] for one in letters} == {""}
    got = it.redrive({"ids": [one["id"] for one in letters]}, 422)
    assert {one["error"] for one in got["results"]} == {"no_origin"}
    assert consume(it.kafka.bootstrap, "secrets") == []


@pytest.mark.seconds(240)
def test_while_the_broker_is_away_nothing_is_lost_or_hangs(own_kafka, sluice):
    own_kafka.start()
    topic = unique("events")
    config = config_for(own_kafka.bootstrap, aggregation(topic, f"{topic}.sums", batchSize=1000000))
    it = Bench(sluice(config), own_kafka, topic)
    it.seed([json.dumps(event(number)) for number in range(3)])
    it.wait(3)
    own_kafka.stop()
    for path in ("/kafka/dlq", f"/kafka/dlq/{it.dlq}", f"/kafka/dlq/{it.dlq}/0-1"):
        got = eventually("it is noticed", lambda path=path: (got := it.server.get(path)).status == 503 and got, 30)
        assert got.problem(503) and int(got.headers["retry-after"]) > 0
    it.server.post(f"/kafka/dlq/{it.dlq}/redrive", {"filter": {}}).problem(503)
    assert it.server.get("/livez").status == 200
    own_kafka.start()
    eventually("it is back", lambda: it.redrive({"filter": {}})["redriven"] == 3, 60, 0.5)
    assert len(it.records()) == 3


@pytest.mark.seconds(180)
def test_the_command_line_does_it_all(bench, folder):
    it = bench()
    it.seed(["bad one", "bad two"], key="k\x1b[31m", headers={"sluice-event-id": "e-9"})
    first, second = it.wait(2)
    url = ("--url", f"http://127.0.0.1:{it.server.port}")
    topics = run_cli("dlq", "list", *url)
    assert topics.returncode == 0 and it.dlq in topics.stdout and "TOPIC" in topics.stdout
    listed = run_cli("dlq", "list", it.dlq, *url, "--error", "rejected")
    assert listed.returncode == 0 and first["id"] in listed.stdout and "seeded" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert "no letters" in run_cli("dlq", "list", it.dlq, *url, "--key", "other").stdout
    assert len(json.loads(run_cli("dlq", "list", it.dlq, *url, "--json").stdout)["letters"]) == 2
    paged = run_cli("dlq", "list", it.dlq, *url, "--limit", "1")
    assert f"--after {first['id']}" in paged.stdout
    shown = run_cli("dlq", "show", it.dlq, first["id"], *url)
    assert shown.returncode == 0 and "bad one" in shown.stdout and f"{it.topic}/0/7" in shown.stdout
    assert json.loads(run_cli("dlq", "show", it.dlq, first["id"], *url, "--json").stdout)["letter"]["value"] == "bad one"
    dry = run_cli("dlq", "redrive", it.dlq, first["id"], *url, "--dry-run")
    assert dry.returncode == 0 and "would send back 1" in dry.stdout and it.records() == []
    (folder / "value.json").write_text(json.dumps(event(5)))
    edited = run_cli("dlq", "redrive", it.dlq, first["id"], *url, "--value-file", str(folder / "value.json"))
    assert edited.returncode == 0 and "sent back 1" in edited.stdout
    twice = run_cli("dlq", "redrive", it.dlq, first["id"], *url)
    assert twice.returncode == 1 and "already_redriven" in twice.stdout
    rest = run_cli("dlq", "redrive", it.dlq, "--text", "two", *url, "--json", "--rate", "100")
    assert rest.returncode == 0 and json.loads(rest.stdout)["redriven"] == 1
    assert run_cli("dlq", "redrive", it.dlq, *url).returncode == 2
    assert run_cli("dlq", "list", "--url", "nonsense").returncode == 2
    gone = run_cli("dlq", "list", "--url", "http://127.0.0.1:9")
    assert gone.returncode == 1 and "is the server running" in gone.stderr
    # Without --url: where the configuration has the server listen.
    there = run_cli("dlq", "list", cwd=folder, PORT=str(it.server.port))
    assert there.returncode == 0 and it.dlq in there.stdout
    for action in ([], ["list"], ["show"], ["redrive"]):
        assert run_cli("dlq", *action, "--help").returncode == 0


def test_the_embedded_broker_has_dead_letters_too(sluice):
    server = sluice({"log": {"level": "info"}, "sse": {"heartbeat": 1000}}, args=["--embedded-broker"])
    server.post("/kafka/send/events-topic", {"value": "not json"})
    it = Bench(server, None, "events-topic")
    (letter,) = it.wait(1, **{"from": 1})
    done = it.redrive({"ids": [letter["id"]], "value": json.dumps(event(1))})
    assert done["results"][0]["ok"]
    assert it.letters()[0]["redriven"] is not None
