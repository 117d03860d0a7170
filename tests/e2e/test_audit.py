"""The audit trail and the reports, with a real Kafka, SQLite and a real PostgreSQL."""

import hashlib
import html.parser
import json
import sqlite3
import time

import pytest

from support import PASSWORD, Client, aggregation, config_for, consume, event, eventually, produce, unique
from test_processors import check_sum, count, letters

REBALANCE_SECONDS = 60
QUICK = {"retryInitial": 50, "retryMax": 500}
TOKEN = "t0ken-of-the-tests"
DAY = 86400000


@pytest.fixture(params=["sqlite", "postgres"])
def database(request, folder):
    """A URL of each kind, and a function that runs SQL there, as who owns the database could."""
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        return server.url, server.query

    def query(sql):
        with sqlite3.connect(folder / "trail.db", timeout=10) as base:
            return "\n".join("|".join(map(str, row)) for row in base.execute(sql).fetchall())
    return f"sqlite:{folder}/trail.db", query


@pytest.fixture
def auditing(sluice, kafka):
    """Makes servers with an audit processor on a topic of their own."""
    def make(topic, url="", group=None, processor=None, start=True, aggregations=(), **more):
        table = {"name": "audit", "topics": [topic], "group": group or unique("group"), **QUICK, **(processor or {})}
        store = {"url": url} if url else {}
        return sluice(config_for(kafka.bootstrap, *aggregations, audit={"enabled": True}, store=store, processors=[table],
                                 **more), start=start)
    return make


def action(number, **more):
    """An audit event in its envelope, with an id of its own."""
    data = {"action": f"action-{number % 7}", "resource": "document", "resourceId": number, "userId": f"user-{number % 5}",
            "details": {"note": f"it's {number}"}}
    return {"type": "audit.event", "data": {**data, **more},
            "metadata": {"eventId": unique("event"), "timestamp": int(time.time() * 1000)}}


def entries(server, **wanted):
    """All entries, page by page."""
    found, after = [], ""
    query = "".join(f"&{name}={value}" for name, value in wanted.items())
    while True:
        page = server.get(f"/audit?limit=300{query}{after}")
        assert page.status == 200, page
        found += page.json()["entries"]
        if page.json()["next"] is None:
            return found
        after = f"&after={page.json()['next']}"


def verdict(server):
    """What /audit/verify says in the end, with all that was checked."""
    after, checked = 0, 0
    while True:
        got = server.get(f"/audit/verify?after={after}")
        assert got.status == 200, got
        body = got.json()
        checked += body["checked"]
        if body["complete"]:
            return {**body, "checked": checked}
        after = body["last"]


def whole(server, number):
    found = verdict(server)
    assert (found["valid"], found["checked"], found["head"]["number"]) == (True, number, number), found


def ended(server, done, dead=0, timeout=REBALANCE_SECONDS, processor="audit"):
    eventually("all have an end", lambda: (count(server, "done_total", processor),
                                           count(server, "dead_lettered_total", processor)) == (done, dead), timeout)
    check_sum(server, processor)


def entry_hash(*fields):
    return hashlib.sha256(b"".join(b"%d:%b," % (len(f), f) for f in (str(x).encode() for x in fields))).hexdigest()


# -- as the reference has it -------------------------------------------------------------------------------------------

@pytest.mark.seconds(180)
def test_the_lines_of_the_reference_do_as_it_says(sluice, kafka):
    config = config_for(kafka.bootstrap, aggregation(unique("events"), unique("summaries")), audit={"enabled": True},
                        report={"enabled": True, "baseUrl": "https://events.example.com"})
    server = sluice({**config, "token": TOKEN}, token=TOKEN)
    status = server.status()
    assert {"paka-audit-logger", "paka-report-generator"} <= set(status["consumers"])
    assert {"audit.event", "report.generate", "report.ready"} <= set(status["topics"])
    name = unique("test_action")
    got = server.post("/kafka/test/audit", {"action": name, "resource": "document", "resourceId": 123,
                                            "details": {"note": "Testing Kafka audit"}})
    assert got.status == 200, got
    assert {**got.json(), "eventId": ""} == {"ok": True, "message": "Audit event published to Kafka", "topic": "audit.event",
                                             "eventId": ""}
    (one,) = eventually("the entry", lambda: entries(server, action=name), REBALANCE_SECONDS)
    assert (one["eventId"], one["resource"], one["resourceId"], one["details"]) == (
        got.json()["eventId"], "document", 123, {"note": "Testing Kafka audit"})
    asked = server.post("/kafka/test/report", {"reportType": "weekly"})
    assert {**asked.json(), "eventId": ""} == {
        "ok": True, "message": "Report generation request published to Kafka", "topic": "report.generate",
        "note": "Report will be generated async and sent to Telegram", "eventId": ""}
    ready = eventually("it is told of", lambda: [
        one for one in consume(kafka.bootstrap, "report.ready")
        if one["headers"]["sluice-event-id"] == asked.json()["eventId"] + "/ready"], REBALANCE_SECONDS)
    data = json.loads(ready[0]["payload"])["data"]
    assert data["url"] == f"https://events.example.com/reports/{data['id']}" and data["to"] - data["from"] == 7 * DAY
    report = server.get(f"/reports/{data['id']}")
    assert report.status == 200 and report.headers["content-type"] == "application/json", report
    assert name in {row["name"] for row in report.json()["report"]["audit"]["byAction"]} or \
        report.json()["report"]["audit"]["total"] > 20
    assert data["id"] in {one["id"] for one in server.get("/reports").json()["reports"]}
    stranger = Client(server.port)
    for path in ("/kafka/test/audit", "/kafka/test/report"):
        stranger.post(path, {"reportType": "weekly"}).problem(401)
    for path in ("/audit", "/audit/verify", "/reports", f"/reports/{data['id']}"):
        stranger.get(path).problem(401)
    assert server.post("/kafka/test/report", {"reportType": "yearly"}).problem(400)["field"] == "/reportType"
    assert server.post("/kafka/test/audit", {"action": "a"}).problem(400)["field"] == "/resource"


@pytest.mark.seconds(120)
def test_who_sends_a_dead_letter_back_is_in_the_trail(auditing, kafka):
    events = unique("events")
    server = auditing("audit.event", aggregations=[aggregation(events, unique("summaries"))])
    produce(kafka.bootstrap, events, ["not json"])
    (letter,) = eventually("a dead letter", lambda: server.get(f"/kafka/dlq/{events}.dlq").json()["letters"], REBALANCE_SECONDS)
    assert server.post(f"/kafka/dlq/{events}.dlq/redrive", {"ids": [letter["id"]]}).status == 200
    place = f"{events}.dlq/{letter['id']}"
    (one,) = eventually("the entry", lambda: entries(server, action="dlq.redrive", resourceId=place), REBALANCE_SECONDS)
    assert one["resource"] == "dead_letter" and one["details"]["to"]["topic"] == events, one


def test_without_a_trail_the_server_says_how_to_have_one(sluice, kafka):
    server = sluice(config_for(kafka.bootstrap, aggregation(unique("events"), unique("summaries"))))
    assert "audit.enabled" in server.get("/audit").problem(404)["detail"]
    assert "report.enabled" in server.get("/reports").problem(404)["detail"]
    assert server.post("/kafka/test/audit", {"action": "a", "resource": "r"}).status == 200  # waits in its topic


# -- the trail ---------------------------------------------------------------------------------------------------------

@pytest.mark.seconds(180)
def test_a_topic_that_is_read_anew_adds_nothing(auditing, kafka, database):
    url, query = database
    topic = unique("audit")
    produce(kafka.bootstrap, topic, [action(i) for i in range(500)])
    server = auditing(topic, url)
    ended(server, done=500)
    whole(server, 500)
    before = query("select number, hash from sluice_audit order by number")
    server.stop()
    again = auditing(topic, url, group=unique("another"))
    ended(again, done=500)
    whole(again, 500)
    assert query("select number, hash from sluice_audit order by number") == before
    assert {one["resourceId"] for one in entries(again)} == set(range(500))
    assert {one["resourceId"] for one in entries(again, user="user-3", action="action-2")} == {
        i for i in range(500) if i % 5 == 3 and i % 7 == 2}
    assert len(entries(again, resourceId=17)) == 1
    fields = query("select number, event_id, time_ms, tenant, user_id, action, resource, resource_id, details, previous_hash,"
                   " hash from sluice_audit where number = 2").split("|")
    assert entry_hash("sluice-audit-1", *fields[:-1]) == fields[-1]  # as docs/audit-and-reports.md has it
    assert PASSWORD not in server.log() + again.log()


@pytest.mark.seconds(180)
def test_two_nodes_add_to_one_chain(auditing, kafka, postgres):
    topic, group = unique("audit"), unique("group")
    produce(kafka.bootstrap, topic, [action(0)])  # makes the topic
    nodes = [auditing(topic, postgres.url, group=group) for _ in range(2)]
    produce(kafka.bootstrap, topic, [action(i) for i in range(1, 3000)])
    eventually("all are there", lambda: nodes[0].get("/audit/verify").json()["head"]["number"] == 3000, REBALANCE_SECONDS)
    for node in nodes:
        whole(node, 3000)


@pytest.mark.seconds(180)
def test_what_is_changed_in_the_database_is_found(auditing, kafka, database):
    url, query = database
    topic = unique("audit")
    produce(kafka.bootstrap, topic, [action(i) for i in range(50)])
    server = auditing(topic, url)
    ended(server, done=50)
    statement = "update sluice_audit set user_id = 'nobody' where number = 17"
    with pytest.raises((sqlite3.Error, AssertionError), match="only added to"):
        query(statement)
    whole(server, 50)
    query("drop trigger sluice_audit_no_update" if url.startswith("sqlite") else
          "drop trigger sluice_audit_no_change on sluice_audit")
    query(statement)
    found = verdict(server)
    assert (found["valid"], found["broken"]["number"], found["checked"]) == (False, 17, 16), found
    assert "changed" in found["broken"]["reason"]


@pytest.mark.seconds(90)
def test_what_is_no_audit_event_is_a_dead_letter_that_names_the_field(auditing, kafka):
    topic = unique("audit")
    good, same = action(1), action(2)
    bad = {"not json": "JSON", "[]": "JSON object", "{}": "action", '{"action":"a"}': "resource",
           '{"action":7,"resource":"r"}': "action", '{"action":"a","resource":"r","resourceId":{}}': "resourceId",
           '{"action":"a\\u0000","resource":"r"}': "action", '{"action":"a","resource":"r","userId":{}}': "userId",
           "[" * 10000: "nested"}
    produce(kafka.bootstrap, topic, [*bad, good, same])
    produce(kafka.bootstrap, topic, [{**action(3), "metadata": same["metadata"]}])  # the id of another one
    server = auditing(topic, processor={"concurrency": 1})
    ended(server, done=2, dead=len(bad) + 1)
    reasons = {one["payload"]: one["headers"]["sluice-dlq-reason"] for one in letters(kafka, topic)}
    for text, field in bad.items():
        assert field in reasons[text], (text, reasons[text])
    assert sum("metadata.eventId" in one for one in reasons.values()) == 1
    whole(server, 2)


@pytest.mark.seconds(180)
def test_records_wait_while_the_database_is_away(auditing, kafka, database, postgres, folder):
    url, _ = database
    topic = unique("audit")
    produce(kafka.bootstrap, topic, [action(i) for i in range(100)])
    server = auditing(topic, url)
    ended(server, done=100)
    if url.startswith("sqlite"):
        lock = sqlite3.connect(folder / "trail.db", isolation_level=None)
        lock.execute("begin exclusive")
    else:
        postgres.kill()
    produce(kafka.bootstrap, topic, [action(i) for i in range(100, 3000)])
    eventually("they are tried", lambda: count(server, "retried_total", "audit") > 300, timeout=60)
    assert "the audit trail's database cannot be used" in server.log()
    assert count(server, "dead_lettered_total", "audit") == 0 and count(server, "done_total", "audit") == 100
    server.get("/audit").problem(503)
    if url.startswith("sqlite"):
        lock.execute("rollback")
        lock.close()
    else:
        postgres.start()
    ended(server, done=3000)
    whole(server, 3000)
    assert "the audit trail's database can be used again" in server.log()
    assert PASSWORD not in server.log()


@pytest.mark.seconds(180)
def test_while_kafka_is_away_the_trail_and_reports_go_on(own_kafka, sluice):
    groups = [{"name": name, "group": unique("group"), **QUICK} for name in ("audit", "report")]
    server = sluice(config_for(own_kafka.bootstrap, audit={"enabled": True}, report={"enabled": True}, processors=groups), ready=False)
    eventually("Kafka is away", lambda: server.metric("sluice_kafka_away") == 1, timeout=20)
    assert server.post("/kafka/send/elsewhere", {"value": 1}).json()["queued"] is True  # of no processor here
    assert server.post("/kafka/test/audit", {"action": "open", "resource": "door"}).json()["queued"] is True
    eventually("it is in the trail", lambda: len(entries(server)) == 1)
    assert server.post("/kafka/test/report", {"reportType": "daily"}).json()["queued"] is True
    (made,) = eventually("the report", lambda: server.get("/reports").json()["reports"])
    own_kafka.start()
    eventually("all is in Kafka", lambda: server.status()["outbox"]["records"] == 0, timeout=60)
    eventually("Kafka has brought it", lambda: (count(server, "done_total", "audit"), count(server, "done_total", "report")) == (1, 1),
               timeout=REBALANCE_SECONDS)
    for name in ("audit", "report", "audit.in-place", "report.in-place"):
        check_sum(server, name)
    whole(server, 1)
    assert server.get("/reports").json()["reports"] == [made]
    assert len(consume(own_kafka.bootstrap, "report.ready")) == 1


@pytest.mark.seconds(240)
def test_a_server_killed_midway_adds_each_event_once(auditing, kafka, database):
    url, _ = database
    topic = unique("audit")
    server = auditing(topic, url)
    total, parts = 6000, 3
    for part in range(parts):
        produce(kafka.bootstrap, topic, [action(i) for i in range(part * total // parts, (part + 1) * total // parts)])
        eventually("some are in", lambda: server.metric("sluice_processor_done_total") > 0, timeout=REBALANCE_SECONDS,
                   pause=0.001)
        server.kill()
        server.start(ready=False)
    eventually("all are there", lambda: server.get("/audit/verify").json()["head"]["number"] == total, timeout=90)
    whole(server, total)
    eventually("nothing is in flight", lambda: count(server, "in_flight", "audit") == 0)
    check_sum(server, "audit")
    assert letters(kafka, topic) == []


# -- reports -----------------------------------------------------------------------------------------------------------

XSS = ["<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "</td></title><svg onload=alert(1)>", "'onclick='x",
       "&lt;b&gt;"]


class Markup(html.parser.HTMLParser):
    """Which tags, attributes and texts a browser would see."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.texts.add(data)


@pytest.fixture
def reporting(sluice, kafka):
    """A server with both processors and an aggregation of two events: (server, topics)."""
    def make(start=True, **more):
        topics = {name: unique(name) for name in ("audit", "report", "events", "summaries")}
        tables = [{"name": name, "topics": [topics[name]], "group": unique("group"), **QUICK} for name in ("audit", "report")]
        config = config_for(kafka.bootstrap, aggregation(topics["events"], topics["summaries"], batchSize=2),
                            audit={"enabled": True}, report={"enabled": True}, processors=tables, **more)
        return sluice(config, start=start), topics
    return make


@pytest.mark.seconds(300)
def test_a_report_of_known_data_has_its_numbers(reporting, kafka):
    server, topics = reporting()
    if (left := DAY / 1000 - time.time() % (DAY / 1000)) < 120:  # all of it is of one day
        time.sleep(left)
    now = int(time.time() * 1000)
    midnight = now // DAY * DAY
    known = [(0, "login", "ann"), (1, "login", "bob"), (DAY - 1, "delete", "ann"), (-1, "before", "ann"), (DAY, "after", "ann")]
    known += [(7200000, bad, bad) for bad in XSS]
    produce(kafka.bootstrap, topics["audit"], [
        {**action(i, action=what, userId=who), "metadata": {"eventId": unique("event"), "timestamp": midnight + at}}
        for i, (at, what, who) in enumerate(known)])
    ended(server, done=len(known))
    server.publish(event(10), event(20))
    server.publish(event(-3), event(5))
    eventually("summaries", lambda: len(consume(kafka.bootstrap, topics["summaries"])) == 2)
    request = {"type": "report.generate", "data": {"reportType": "daily", "date": time.strftime("%Y-%m-%d", time.gmtime(now / 1000))},
               "metadata": {"eventId": unique("request"), "timestamp": now}}
    produce(kafka.bootstrap, topics["report"], [request])
    ended(server, done=1, processor="report")
    (listed,) = server.get("/reports").json()["reports"]
    assert (listed["reportType"], listed["from"], listed["to"]) == ("daily", midnight, midnight + DAY)
    report = server.get(listed["url"]).json()["report"]
    assert report["audit"]["total"] == 3 + len(XSS)
    actions = {one["name"]: one["count"] for one in report["audit"]["byAction"]}
    assert actions == {"login": 2, "delete": 1, **{bad: 1 for bad in XSS}}
    users = {one["name"]: one["count"] for one in report["audit"]["byUser"]}
    assert users["ann"] == 2 and users["bob"] == 1
    by_hour = [one["count"] for one in report["audit"]["overTime"]]
    assert len(by_hour) == 24 and (by_hour[0], by_hour[2], by_hour[23]) == (2, len(XSS), 1)
    (figures,) = report["aggregations"]
    assert (figures["totalEvents"], figures["sumOfValues"], figures["minValue"], figures["maxValue"],
            figures["averageValue"], figures["summaries"]) == (4, 32, -3, 20, 8, 2), figures
    assert report["complete"] is True
    # The same request once more: no other report.
    produce(kafka.bootstrap, topics["report"], [request])
    ended(server, done=2, processor="report")
    assert len(server.get("/reports").json()["reports"]) == 1
    told = [json.loads(one["payload"])["data"] for one in consume(kafka.bootstrap, "notification.send")
            if one["headers"].get("sluice-event-id") == request["metadata"]["eventId"] + "/notification"]
    assert told and told[0]["title"] == "Daily report" and listed["url"] in told[0]["body"], told
    # The page.
    page = server.get(listed["url"], headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy and "sandbox" in policy
    text = page.body.decode()
    markup = Markup()
    markup.feed(text)
    assert markup.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "table", "thead", "tbody",
                           "tr", "th", "td", "svg", "g", "rect", "text"}, markup.tags
    assert markup.attributes <= {"lang", "charset", "name", "content", "class", "viewbox", "role", "aria-label", "x", "y",
                                 "width", "height"}, markup.attributes
    assert set(XSS) <= markup.texts
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "&amp;lt;b&amp;gt;" in text
    assert "http" not in text, "it needs something from elsewhere"
    assert server.get(f"{listed['url']}?format=html").body == page.body
    server.get("/reports/none").problem(404)


@pytest.mark.seconds(120)
def test_what_is_no_request_for_a_report_is_a_dead_letter(reporting, kafka):
    server, topics = reporting(start=False)
    produce(kafka.bootstrap, topics["report"], ["not json", "{}", '{"reportType":"yearly"}', '{"reportType":"daily","date":"2026-02-30"}'])
    server.start()
    ended(server, done=0, dead=4, processor="report")
    reasons = sorted(one["headers"]["sluice-dlq-reason"] for one in letters(kafka, topics["report"]))
    assert [one.split()[0] for one in reasons] == ["date", "reportType", "reportType", "the"], reasons


@pytest.mark.seconds(180)
def test_a_server_killed_midway_makes_each_report_once(reporting, kafka):
    server, topics = reporting()
    produce(kafka.bootstrap, topics["report"], [
        {"type": "report.generate", "data": {"reportType": "monthly"}, "metadata": {"eventId": unique("request")}} for _ in range(20)])
    wanted = 1
    for _ in range(2):
        eventually("some are made", lambda: len(server.get("/reports").json()["reports"]) >= wanted, REBALANCE_SECONDS, 0.01)
        wanted = min(len(server.get("/reports").json()["reports"]) + 1, 20)
        server.kill()
        server.start(ready=False)
    eventually("all are made", lambda: count(server, "in_flight", "report") == 0 and
               len(server.get("/reports").json()["reports"]) == 20, REBALANCE_SECONDS)
    check_sum(server, "report")
    ids = {one["id"] for one in server.get("/reports").json()["reports"]}
    eventually("each is told of", lambda: ids <= {
        json.loads(one["payload"])["data"]["id"] for one in consume(kafka.bootstrap, "report.ready")})
