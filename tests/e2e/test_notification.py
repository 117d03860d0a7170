"""Notifications to real receivers: a mail server, a server in the shape of Telegram's, webhooks, live channels."""

import base64
import email
import email.policy
import hashlib
import hmac
import json
import random
import subprocess
import threading
import time
from collections import Counter

import pytest

from support import ROOT, JsonServer, config_for, consume, end_with_parent, eventually, free_port, produce, run_cli, unique
from conftest import not_here
from test_processors import check_sum, count, letters

PASSWORD = "p4ss-word"
BOT = "123456:hunter2-bot"
SECRET = "whsec_" + base64.b64encode(b"hunter2-hook").decode()
QUICK = {"maxAttempts": 3, "retryInitial": 50}
REBALANCE_SECONDS = 60


# -- receivers ---------------------------------------------------------------------------------------------------------

class MailServer:
    """tests/e2e/mail_server.py as a process of its own."""

    def __init__(self, certificate, security="starttls"):
        self.certificate, self.security, self.port = certificate, security, free_port()
        self.lines, self.process = [], None

    def start(self):
        # Debian's Python has Debian's aiosmtpd; one that comes first in PATH may not.
        if subprocess.run(["/usr/bin/python3", "-c", "import aiosmtpd"], stderr=subprocess.DEVNULL).returncode != 0:
            not_here("no mail server: install python3-aiosmtpd")
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(ROOT / "tests" / "e2e" / "mail_server.py"), str(self.port), *map(str, self.certificate),
             self.security], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=end_with_parent)
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()
        eventually("the mail server", lambda: any("ready" in one for one in self.lines))
        return self

    def _read(self, pipe):
        for line in pipe:
            self.lines.append(json.loads(line))

    def mails(self):
        return [one for one in list(self.lines) if "data" in one]

    def asked(self, address):
        return sum(one.get("asked") == address for one in list(self.lines))

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.lines = [one for one in self.lines if "ready" not in one]


class WebServer(JsonServer):
    """Telegram's Bot API in shape, and webhooks. `answer(path, body, times)` may say otherwise than 200 by (status, headers,
    body); `times` = how often this was asked before."""

    def __init__(self, answer=lambda path, body, times: None):
        asked = Counter()

        def respond(post):
            path, body = post["path"], post["body"]
            what = path, body.get("chat_id", body.get("id"))
            asked[what] += 1
            return answer(path, body, asked[what] - 1) or (200, {}, {"ok": True, "result": {"message_id": len(self.posts)}})
        super().__init__(respond)

    def texts(self):
        return [one["body"].get("text") for one in list(self.posts)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mail")
    pem, key = folder / "mail.pem", folder / "mail.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key),
                    "-out", str(pem)], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return pem, key


@pytest.fixture
def mail(certificate):
    server = MailServer(certificate).start()
    yield server
    server.stop()


@pytest.fixture
def web():
    """Makes web servers: web(answer)."""
    made = []

    def make(*args):
        made.append(WebServer(*args))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture
def notifying(sluice, kafka, certificate):
    """Makes servers with a notification processor on a topic of their own."""
    def make(topic, mail=None, bot=None, processor=None, templates=(), **more):
        settings = {"enabled": True, "timeout": 5000, **more}
        if mail:
            settings = {"smtpHost": "localhost", "smtpPort": mail.port, "smtpUser": "shop", "smtpPassword": PASSWORD,
                        "smtpFrom": "Shöp <shop@example.com>", "smtpCa": str(certificate[0]), **settings}
        if bot:
            settings = {"telegramToken": BOT, "telegramUrl": bot.url, **settings}
        table = {"name": "notification", "topics": [topic], "group": unique("group"), **QUICK, **(processor or {})}
        return sluice(config_for(kafka.bootstrap, notification=settings, processors=[table], templates=list(templates)))
    return make


def to(channel, address):
    return {"channel": channel, "to": address}


def sent(kafka, server=None, **wanted):
    """The data of the records of notification.sent that fit."""
    all_of_it = [json.loads(one["payload"])["data"] for one in consume(kafka.bootstrap, "notification.sent")]
    return [one for one in all_of_it if all(one[name] == value for name, value in wanted.items())]


def ended(server, done, dead=0, timeout=30):
    """Waits until so many records have an end, and checks that each has exactly one."""
    eventually("all have an end", lambda: (count(server, "done_total", "notification"),
                                           count(server, "dead_lettered_total", "notification")) == (done, dead), timeout)
    check_sum(server, "notification")


def request_of(title, *targets, **more):
    """A notification in its envelope, with an event id that nobody else has."""
    return {"type": "notification.send", "data": {"title": title, "targets": list(targets), **more},
            "metadata": {"eventId": unique("event"), "timestamp": 1}}


# -- all goes well -----------------------------------------------------------------------------------------------------

@pytest.mark.seconds(120)
def test_every_channel_is_told_once(notifying, kafka, mail, web):
    bot, hook = web(), web()
    topic = unique("notify")
    server = notifying(topic, mail, bot, webhookSecret=SECRET, innerHosts=[f"127.0.0.1:{hook.port}"])
    url = f"{hook.url}/hook?token=x"
    title = "Grüße\r\nBcc: all@example.com — " + "ä" * 50
    body = "Zeile 1\n.\nZeile 3 €"
    what = request_of(title, to("email", "ann@example.com"), to("telegram", "-1007"), to("webhook", url), to("live", "ann"),
                      body=body, html="<p>€</p>", data={"order": 7})
    with server.events(path="/kafka/events?channels=user:ann") as live:
        live.wait("connected", lambda one: one.name == "connected")
        produce(kafka.bootstrap, topic, [what])
        ended(server, done=5)
        event = live.wait("the notification", lambda one: one.name == "notification")
        assert event.json()["title"] == title and event.json()["data"] == {"order": 7}

    (one,) = mail.mails()
    assert one["tls"] and one["login"] and one["from"] == "shop@example.com" and one["to"] == ["ann@example.com"]
    assert all(len(line) <= 76 for line in one["data"].split("\r\n"))
    parsed = email.message_from_string(one["data"], policy=email.policy.default)
    assert not parsed.defects and parsed["Bcc"] is None
    assert parsed["Subject"] == title.replace("\r\n", "  ") and parsed["From"] == "Shöp <shop@example.com>"
    assert parsed["To"] == "ann@example.com" and parsed["Auto-Submitted"] == "auto-generated"
    assert parsed.get_body(("plain",)).get_content().replace("\r\n", "\n").rstrip("\n") == body
    assert parsed.get_body(("html",)).get_content().rstrip() == "<p>€</p>"

    (post,) = bot.posts
    assert post["path"] == f"/bot{BOT}/sendMessage"
    assert post["body"] == {"chat_id": "-1007", "text": f"{title}\n\n{body}"}

    (post,) = hook.posts
    assert post["path"] == "/hook?token=x" and post["headers"]["content-type"] == "application/json"
    assert post["body"]["title"] == title and post["body"]["data"] == {"order": 7}
    signed = f'{post["headers"]["webhook-id"]}.{post["headers"]["webhook-timestamp"]}.'.encode() + post["raw"]
    digest = base64.b64encode(hmac.digest(b"hunter2-hook", signed, hashlib.sha256)).decode()
    assert post["headers"]["webhook-signature"] == f"v1,{digest}"
    assert abs(int(post["headers"]["webhook-timestamp"]) - time.time()) < 60

    told = sent(kafka, notificationId=what["metadata"]["eventId"])
    assert sorted((one["channel"], one["to"], one["status"], one["attempts"]) for one in told) == [
        ("email", "ann@example.com", "sent", 1), ("live", "ann", "sent", 1), ("telegram", "-1007", "sent", 1),
        ("webhook", url, "sent", 1)]
    assert post["headers"]["webhook-id"] in {one["deliveryId"] for one in told}
    assert letters(kafka, topic) == []
    for secret in (PASSWORD, BOT, "hunter2", SECRET):
        assert secret not in server.log()


@pytest.mark.seconds(90)
def test_the_documented_request_works_with_a_token_and_not_without(sluice, kafka, web):
    bot = web()
    server = sluice(config_for(kafka.bootstrap, notification={"telegramUrl": bot.url, "rate": 0}), token="t0ken",
                    environment={"SLUICE_TOKEN": "t0ken", "TELEGRAM_BOT_TOKEN": BOT, "TELEGRAM_CHAT_ID": "@ops"})
    curl = ["curl", "-s", "-X", "POST", f"http://localhost:{server.port}/kafka/test/notification"]
    body = ["-H", "Content-Type: application/json", "-d",
            '{\n    "title": "Test Alert",\n    "body": "This notification was sent via Kafka!"\n  }']
    refused = json.loads(subprocess.run([*curl, *body], stdout=subprocess.PIPE, check=True).stdout)
    assert refused["status"] == 401
    answer = json.loads(subprocess.run([*curl, "-H", "Authorization: Bearer t0ken", *body], stdout=subprocess.PIPE,
                                       check=True).stdout)
    event_id = answer.pop("eventId")
    assert answer == {"ok": True, "message": "Notification event published to Kafka", "topic": "notification.send"}
    wanted = {"chat_id": "@ops", "text": "Test Alert\n\nThis notification was sent via Kafka!"}
    eventually("the message", lambda: wanted in [one["body"] for one in bot.posts], timeout=REBALANCE_SECONDS)
    (told,) = eventually("reported", lambda: sent(kafka, notificationId=event_id))
    assert (told["channel"], told["to"]) == ("telegram", "@ops")
    status = server.status()
    assert {"notification.send", "notification.sent"} <= set(status["topics"])
    assert "paka-notification-processor" in status["consumers"]
    for wrong, field in (({}, "/title"), ({"title": 7}, "/title"), ({"title": "x", "targets": []}, "/targets"),
                         ({"title": "x", "targets": [{"to": "a"}]}, "/targets"), ({"title": "x", "colour": 1}, "/colour"),
                         ({"template": "x", "data": []}, "/data")):
        assert server.post("/kafka/test/notification", wrong).problem(400)["field"] == field
    assert server.post("/kafka/test/notification", "x", content_type="text/plain").status == 415


@pytest.mark.seconds(90)
def test_a_template_is_filled_in_and_escaped_and_a_missing_field_is_a_dead_letter(notifying, kafka, mail):
    topic = unique("notify")
    server = notifying(topic, mail, templates=[{"name": "order", "title": "Order {{order.id}}", "body": "For {{name}}\n",
                                                "html": "<b>{{name}}</b>"}])
    targets = [to("email", "ann@example.com"), to("email", "bob@example.com")]
    good = {"template": "order", "data": {"name": "<Ann & Co>", "order": {"id": 7}}, "targets": targets}
    bad = {"template": "order", "data": {"name": "Bob"}, "targets": targets}
    produce(kafka.bootstrap, topic, [good, bad])
    ended(server, done=3, dead=1)
    mails = [email.message_from_string(one["data"], policy=email.policy.default) for one in mail.mails()]
    assert len(mails) == 2  # of the other one nobody was told
    for one in mails:
        assert one["Subject"] == "Order 7"
        assert one.get_body(("plain",)).get_content().rstrip() == "For <Ann & Co>"
        assert one.get_body(("html",)).get_content().rstrip() == "<b>&lt;Ann &amp; Co&gt;</b>"
    (letter,) = letters(kafka, topic)
    assert letter["headers"]["sluice-dlq-error"] == "rejected" and letter["headers"]["sluice-dlq-attempts"] == "1"
    assert letter["headers"]["sluice-dlq-reason"] == \
        'template "order": the template\'s field {{order.id}} is not in data'
    assert json.loads(letter["payload"]) == bad


# -- receivers that fail -----------------------------------------------------------------------------------------------

@pytest.mark.seconds(120)
def test_only_the_target_that_failed_is_tried_again(notifying, kafka, mail, web):
    def answer(path, body, times):
        if body["chat_id"] == "404":
            return 400, {}, {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}
        if body["chat_id"] == "502" and times == 0:
            return 502, {}, "bad gateway"
        return None
    bot = web(answer)
    topic = unique("notify")
    server = notifying(topic, mail, bot)
    what = request_of("T", to("email", "ann@example.com"), to("email", "busy-2-x@example.com"), to("email", "gone@example.com"),
                      to("email", "busy-9-x@example.com"), to("email", "no address"), to("telegram", "1"), to("telegram", "404"),
                      to("telegram", "502"), to("telegram", "no chat"))
    produce(kafka.bootstrap, topic, [what])
    ended(server, done=5, dead=5)
    told = sent(kafka, notificationId=what["metadata"]["eventId"])
    assert {(one["to"], one["attempts"]) for one in told} == {
        ("ann@example.com", 1), ("busy-2-x@example.com", 3), ("1", 1), ("502", 2)}
    assert len(told) == 4
    assert sorted(one["to"][0] for one in mail.mails()) == ["ann@example.com", "busy-2-x@example.com"]
    assert mail.asked("ann@example.com") == 1 and mail.asked("gone@example.com") == 1 and mail.asked("busy-9-x@example.com") == 3
    assert Counter(one["body"]["chat_id"] for one in bot.posts) == {"1": 1, "404": 1, "502": 2}
    dead = {one["key"]: (one["headers"]["sluice-dlq-error"], one["headers"]["sluice-dlq-attempts"],
                         one["headers"]["sluice-dlq-reason"]) for one in letters(kafka, topic)}
    assert dead == {
        "email:gone@example.com": ("rejected", "1", "the mail server answered 550 5.1.1 no such user"),
        "email:busy-9-x@example.com": ("target_unavailable", "3", "the mail server: answered 451 4.3.0 busy, try again"),
        "email:no address": ("rejected", "1", '"no address" is no e-mail address such as name@example.com'),
        "telegram:404": ("rejected", "1", "Telegram answered 400: Bad Request: chat not found"),
        "telegram:no chat": ("rejected", "1", '"no chat" is no Telegram chat; it is a number or "@name"')}


@pytest.mark.seconds(120)
def test_a_mail_server_may_hang_or_cut_off_or_be_away(notifying, kafka, mail):
    topic = unique("notify")
    server = notifying(topic, mail, timeout=1000, processor={"maxAttempts": 2})
    produce(kafka.bootstrap, topic, [{"title": "T", "targets": [to("email", "slow@example.com"), to("email", "drop@example.com"),
                                                               to("email", "ann@example.com")]}])
    ended(server, done=2, dead=2)
    assert {(one["key"], one["headers"]["sluice-dlq-error"], one["headers"]["sluice-dlq-attempts"])
            for one in letters(kafka, topic)} == {("email:slow@example.com", "target_unavailable", "2"),
                                                  ("email:drop@example.com", "target_unavailable", "2")}
    server.stop()
    server.config["processors"][0].update(maxAttempts=100, retryMax=200)
    mail.stop()
    server.start()
    produce(kafka.bootstrap, topic, [{"title": "later", "targets": [to("email", "bob@example.com")]}])
    eventually("it was tried", lambda: count(server, "retried_total", "notification") >= 2, timeout=REBALANCE_SECONDS)
    mail.start()
    ended(server, done=2)
    assert [one["to"] for one in mail.mails()] == [["ann@example.com"], ["bob@example.com"]]


@pytest.mark.seconds(90)
def test_nothing_is_said_in_the_clear(notifying, kafka, certificate):
    plain = MailServer(certificate, "plain").start()
    try:
        topic = unique("notify")
        server = notifying(topic, plain, processor={"maxAttempts": 1})
        produce(kafka.bootstrap, topic, [{"title": "T", "targets": [to("email", "ann@example.com")]}])
        ended(server, done=1, dead=1)
        (letter,) = letters(kafka, topic)
        assert letter["headers"]["sluice-dlq-error"] == "target_unavailable"
        assert plain.asked("ann@example.com") == 0
    finally:
        plain.stop()


@pytest.mark.seconds(90)
def test_a_mail_server_with_a_wrong_certificate_gets_nothing(notifying, kafka, mail):
    topic = unique("notify")
    server = notifying(topic, mail, smtpCa="", processor={"maxAttempts": 1})
    produce(kafka.bootstrap, topic, [{"title": "T", "targets": [to("email", "ann@example.com")]}])
    ended(server, done=1, dead=1)
    assert "certificate" in letters(kafka, topic)[0]["headers"]["sluice-dlq-reason"]
    assert mail.asked("ann@example.com") == 0


@pytest.mark.seconds(90)
def test_mail_goes_over_tls_from_the_first_byte_and_a_wrong_password_is_said(notifying, kafka, certificate):
    secure = MailServer(certificate, "tls").start()
    try:
        topics = unique("notify"), unique("notify")
        server = notifying(topics[0], secure, smtpSecurity="tls")
        produce(kafka.bootstrap, topics[0], [{"title": "T", "targets": [to("email", "ann@example.com")]}])
        ended(server, done=2)
        assert [one["login"] for one in secure.mails()] == [True]
        wrong = notifying(topics[1], secure, smtpSecurity="tls", smtpPassword="wr0ng")
        produce(kafka.bootstrap, topics[1], [{"title": "T", "targets": [to("email", "ann@example.com")]}])
        ended(wrong, done=1, dead=1)
        (letter,) = letters(kafka, topics[1])
        assert letter["headers"]["sluice-dlq-error"] == "target_unavailable"  # the mail is well, we are not
        assert letter["headers"]["sluice-dlq-attempts"] == "3" and "535" in letter["headers"]["sluice-dlq-reason"]
    finally:
        secure.stop()


@pytest.mark.seconds(90)
def test_telegram_says_when_to_come_back(notifying, kafka, web):
    def answer(path, body, times):
        if body["chat_id"] == "7" and times < 2:
            return 429, {}, {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 2",
                             "parameters": {"retry_after": 2}}
        return None
    bot = web(answer)
    topic = unique("notify")
    server = notifying(topic, bot=bot, processor={"maxAttempts": 1})  # told to wait, it has not been tried
    produce(kafka.bootstrap, topic, [request_of(f"to {chat}", to("telegram", chat)) for chat in ("7", "8", "7")])
    ended(server, done=6)
    posts = {chat: [one for one in bot.posts if one["body"]["chat_id"] == chat] for chat in ("7", "8")}
    assert len(posts["8"]) == 1 and len(posts["7"]) == 4
    at = [one["at"] for one in posts["7"]]
    assert at[1] - at[0] >= 2 and at[2] - at[1] >= 2
    assert posts["8"][0]["at"] < at[1]  # nobody else waited
    assert letters(kafka, topic) == []


@pytest.mark.seconds(90)
def test_too_many_for_one_target_wait_and_come_in_order(notifying, kafka, web):
    bot = web()
    topic = unique("notify")
    server = notifying(topic, bot=bot, rate=120, burst=2, processor={"maxAttempts": 1})
    produce(kafka.bootstrap, topic, [{"title": str(i), "targets": [to("telegram", "7")]} for i in range(7)], key="one")
    produce(kafka.bootstrap, topic, [{"title": "other", "targets": [to("telegram", "8")]}])
    ended(server, done=16)
    posts = [one for one in bot.posts if one["body"]["chat_id"] == "7"]
    assert [one["body"]["text"] for one in posts] == [str(i) for i in range(7)]
    assert posts[-1]["at"] - posts[0]["at"] >= 2  # five of them have waited half a second each
    assert letters(kafka, topic) == []


@pytest.mark.seconds(120)
def test_webhooks_lead_to_no_inner_address(notifying, kafka, web):
    inner = web()
    def answer(path, body, times):
        if path == "/moved":
            return 302, {"Location": f"{inner.url}/secret"}, {}
        if path == "/moved-for-good":
            return 308, {"Location": f"{inner.url}/secret"}, {}
        if path == "/later" and times == 0:
            return 503, {"Retry-After": "1"}, {}
        if path == "/broken" and times == 0:
            return 500, {}, {}
        return (404, {}, {}) if path == "/nothing" else None
    hook = web(answer)
    topic = unique("notify")
    server = notifying(topic, innerHosts=[f"127.0.0.1:{hook.port}"])
    refused = [f"http://127.0.0.1:{inner.port}/a", f"http://localhost:{inner.port}/b", f"http://[::ffff:127.0.0.1]:{inner.port}/c",
               f"http://0x7f.1:{inner.port}/d", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd",
               "gopher://127.0.0.1/x"]
    answered = [f"{hook.url}{path}" for path in ("/moved", "/moved-for-good", "/nothing")]
    delivered = [f"{hook.url}{path}" for path in ("/good", "/later", "/broken")]
    produce(kafka.bootstrap, topic, [{"title": "T", "targets": [to("webhook", url) for url in refused + answered + delivered]}])
    ended(server, done=4, dead=10)
    assert inner.posts == []
    assert Counter(one["path"] for one in hook.posts) == {
        "/moved": 1, "/moved-for-good": 1, "/nothing": 1, "/good": 1, "/later": 2, "/broken": 2}
    dead = {one["key"]: one["headers"] for one in letters(kafka, topic)}
    assert {key.removeprefix("webhook:") for key in dead} == set(refused + answered)
    assert {one["sluice-dlq-error"] for one in dead.values()} == {"rejected"}
    for url in refused[:5]:
        assert "is not a public address" in dead[f"webhook:{url}"]["sluice-dlq-reason"], url
    for url in answered[:2]:
        assert "redirects are not followed" in dead[f"webhook:{url}"]["sluice-dlq-reason"]


@pytest.mark.seconds(90)
def test_what_is_no_notification_is_a_dead_letter(notifying, kafka, web):
    bot = web()
    topic = unique("notify")
    server = notifying(topic, bot=bot)
    bad = ["not json", "[]", "7", '"text"', "{}", '{"title":7}', '{"title":"T"}', '{"title":"T","targets":{}}',
           '{"title":"T","targets":[{"channel":"fax","to":"1"}]}', '{"title":"T","targets":[{"channel":"email","to":"a@b.c"}]}',
           '{"title":"T","targets":[{"channel":"telegram"}]}', '{"title":"T","targets":[{"channel":"live","to":"a,b"}]}',
           '{"template":"none","targets":[{"channel":"telegram","to":"7"}]}', "[" * 10000]
    produce(kafka.bootstrap, topic, [*bad, {"title": "good", "targets": [to("telegram", "7")]}])
    ended(server, done=3, dead=len(bad))  # the one for a live channel is shared out first
    assert bot.texts() == ["good"]


# -- crashes -----------------------------------------------------------------------------------------------------------

@pytest.mark.seconds(240)
def test_a_server_killed_midway_loses_no_notification(notifying, kafka, mail, web):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    bot = web(lambda path, body, times: (500, {}, {}) if times == 0 and int(body["chat_id"]) % 10 == 0 else None)
    topic = unique("notify")
    server = notifying(topic, mail, bot, rate=0)
    total = 150
    for part in range(3):
        numbers = range(part * total // 3, (part + 1) * total // 3)
        produce(kafka.bootstrap, topic, [request_of(f"n{i}", to("telegram", str(i)), to(
            "email", f"{'gone' if i % 15 == 0 else 'ann'}-{i}@example.com")) for i in numbers])
        before = len(bot.posts)
        eventually("some are sent", lambda: len(bot.posts) > before, timeout=REBALANCE_SECONDS)
        time.sleep(chance.uniform(0, 0.3))
        server.kill()
        server.start(ready=False)
    gone = {f"gone-{i}@example.com" for i in range(0, total, 15)}
    good = {f"ann-{i}@example.com" for i in range(total) if i % 15 != 0} | {str(i) for i in range(total)}

    def all_ended():
        reported = {one["to"] for one in sent(kafka) if one["title"] in {f"n{i}" for i in range(total)}}
        dead = {one["key"].partition(":")[2] for one in letters(kafka, topic)}
        return reported >= good and dead == gone and not dead & reported
    eventually("each has its end, and of one kind", all_ended, timeout=120, pause=0.5)
    eventually("nothing is in flight", lambda: count(server, "in_flight", "notification") == 0)
    check_sum(server, "notification")
    assert {one["body"]["chat_id"] for one in bot.posts} == {str(i) for i in range(total)}
    # What came twice can be told by its id.
    ids = {one["to"][0]: set() for one in mail.mails()}
    for one in mail.mails():
        ids[one["to"][0]].add(email.message_from_string(one["data"])["Message-ID"])
    assert set(ids) == {one for one in good if "@" in one}
    assert all(len(one) == 1 for one in ids.values())


@pytest.mark.seconds(180)
def test_while_kafka_is_away_notifications_are_delivered_at_once_and_once(own_kafka, sluice, web):
    hook = web(lambda path, body, times: (500, {}, {}) if path == "/broken" and body["title"] == "late" and not mended else None)
    mended = []
    config = config_for(own_kafka.bootstrap, group=unique("group"), notification={"enabled": True, "innerHosts": ["127.0.0.1"]},
                        processors=[{"name": "notification", "maxAttempts": 2, "retryInitial": 50}])
    server = sluice(config, ready=False)
    eventually("Kafka is away", lambda: server.metric("sluice_kafka_away") == 1, timeout=20)
    for title in ("one", "two", "late"):
        targets = [to("webhook", f"{hook.url}/a"), to("webhook", f"{hook.url}/broken")]
        answer = server.post("/kafka/test/notification", {"title": title, "targets": targets})
        assert (answer.status, answer.json()["queued"]) == (202, True), answer
    def told():
        return Counter((one["path"], one["body"]["title"]) for one in list(hook.posts))
    wanted = {(path, title): 1 for path in ("/a", "/broken") for title in ("one", "two", "late")}
    eventually("told in place", lambda: told() == Counter({**wanted, ("/broken", "late"): 2}))
    eventually("given up in place", lambda: count(server, "dead_lettered_total", "notification.in-place") == 1)
    check_sum(server, "notification.in-place")
    server.kill()  # what is on disk and in the store has to do
    server.start(ready=False)
    mended.append(True)
    own_kafka.start()
    eventually("all is in Kafka", lambda: server.status()["outbox"]["records"] == 0, timeout=60)
    eventually("the last one too", lambda: told()[("/broken", "late")] == 3, timeout=REBALANCE_SECONDS)
    # Three requests and six deliveries; of those all but one were done before Kafka had them.
    eventually("the others are known", lambda: count(server, "duplicates_total", "notification") == 8, timeout=60)
    check_sum(server, "notification")
    assert told() == Counter({**wanted, ("/broken", "late"): 3})
    assert Counter(one["title"] for one in sent(own_kafka)) == {"one": 2, "two": 2, "late": 2}
    assert letters(own_kafka, "notification.send") == []


def test_secrets_are_masked_in_the_configuration(folder):
    shown = run_cli("config", cwd=folder, TELEGRAM_BOT_TOKEN=BOT, SMTP_HOST="mail.example.com", SMTP_USER="shop",
                    SMTP_PASSWORD=PASSWORD, SMTP_FROM="shop@example.com", WEBHOOK_SECRET=SECRET)
    assert shown.returncode == 0, shown.stderr
    assert 'telegramToken = "***"  # environment TELEGRAM_BOT_TOKEN' in shown.stdout
    assert 'smtpHost = "mail.example.com"  # environment SMTP_HOST' in shown.stdout
    for secret in (BOT, PASSWORD, SECRET):
        assert secret not in shown.stdout
