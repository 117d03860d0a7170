"""Documents: uploaded, read, cut, embedded, found; good ones and bad ones, with embeddings that fail, and a server that dies."""

import contextlib
import hashlib
import json
import pathlib
import subprocess
import time
import zlib
from collections import Counter

import pytest

from support import JsonServer, clean_environment, config_for, connect, consume, eventually, free_port, raw, status_of, unique
from test_processors import check_sum, count

KEY = "sk-hunter2-embeddings"
QUICK = {"name": "document", "maxAttempts": 4, "retryInitial": 100, "retryMax": 500}
MIB = 1048576

pytestmark = pytest.mark.seconds(150)


def pdf(text="Hello from a PDF", content=None, filters="", trailer=""):
    """A PDF of one page."""
    content = f"BT /F 12 Tf 50 700 Td ({text}) Tj ET".encode() if content is None else content
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
               b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
               b"<</Length %d%s>>\nstream\n%s\nendstream" % (len(content), filters.encode(), content),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    out, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = len(out)
    out += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer\n<</Size 6/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (trailer.encode(), table)


class Embeddings(JsonServer):
    """An endpoint in OpenAI's shape. `answer(number, body)` may say otherwise than 200 by (status, headers, body)."""

    def __init__(self, answer=lambda number, body: None, slow=0):
        def respond(post):
            said = answer(len(self.posts), post["body"]) or (200, {}, {"object": "list", "data": [
                {"object": "embedding", "index": i, "embedding": [float(len(one)), 1.0, float(one.count("x"))]}
                for i, one in reversed(list(enumerate(post["body"]["input"])))]})
            time.sleep(slow)
            return said
        super().__init__(respond)
        self.url += "/v1/embeddings"

    def texts(self):
        return Counter(text for post in list(self.posts) for text in post["body"]["input"])


@pytest.fixture
def embeddings():
    made = []

    def make(*args, **more):
        made.append(Embeddings(*args, **more))
        return made[-1]
    yield make
    for one in made:
        one.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request):
    """Where documents are kept: a function that gives `store` of the configuration."""
    if request.param == "sqlite":
        return {}
    return {"url": request.getfixturevalue("postgres").url}


@pytest.fixture
def library(own_kafka, sluice):
    """Makes servers that take documents, on a Kafka of this test's own: the topics' names are fixed."""
    own_kafka.start()

    def make(store=None, start=True, token=None, **documents):
        config = config_for(own_kafka.bootstrap, documents={"enabled": True, **documents}, processors=[QUICK],
                            store=store or {})
        return sluice(config, start=start)
    make.kafka = own_kafka
    return make


def upload(server, data, name="a.txt", expect=202, **query):
    more = "".join(f"&{key}={value}" for key, value in query.items())
    got = server.post(f"/upload?name={name}{more}", data, content_type="application/octet-stream")
    assert got.status == expect, got
    return got.json()


def show(server, one, **query):
    path = f"/documents/{one['documentId']}?" + "&".join(f"{key}={value}" for key, value in query.items())
    got = server.get(path)
    assert got.status == 200, got
    return got.json()


def wait_state(server, one, state="embedded", timeout=60):
    def there():
        now = show(server, one)
        assert now["state"] == state, now
        return now
    return eventually(f"the document is {state}", there, timeout)


def search(server, query, **more):
    got = server.get(f"/documents/search?q={query.replace(' ', '+')}" + "".join(f"&{key}={value}" for key, value in more.items()))
    assert got.status == 200, got
    return got.json()["results"]


def ended(server, done, dead=0, timeout=60):
    eventually("all have an end", lambda: (count(server, "done_total", "document"),
                                           count(server, "dead_lettered_total", "document")) == (done, dead), timeout)
    check_sum(server, "document")


def said(kafka, topic):
    return [json.loads(one["payload"]) for one in consume(kafka.bootstrap, topic)]


def words(number, name="a"):
    return " ".join(f"Sentence number {i} of a long text, {name}, about nothing." for i in range(number))


# -- all goes well -----------------------------------------------------------------------------------------------------

def test_a_document_is_taken_found_at_once_and_embedded(store, library, tmp_path):
    server = library(store)
    path = tmp_path / "report of today.md"
    path.write_text("# Quarterly report\n\nRevenue grew because of *zeppelins*.\n")
    done = subprocess.run(["curl", "-sS", "-F", "title=The report", "-F", f"anything=@{path}", f"http://127.0.0.1:{server.port}/upload"],
                          stdout=subprocess.PIPE, check=True, env=clean_environment())
    one = json.loads(done.stdout)
    assert one["ok"] is True and one["existing"] is False and one["offset"] == 0, one
    assert one["name"] == "report of today.md" and one["contentType"] == "text/markdown"
    assert one["documentId"] == one["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (hit,) = search(server, "zeppelins")  # whether it is processed or not
    assert hit["documentId"] == one["documentId"] and "zeppelins" in hit["chunk"]["text"], hit
    assert search(server, "report of today")[0]["documentId"] == one["documentId"]
    now = wait_state(server, one)
    assert now["chunks"] == 1 and now["embeddings"] == "sluice-lexical-256" and now["truncated"] is False
    assert now["chunkList"][0]["text"] == "Quarterly report\n\nRevenue grew because of zeppelins."
    ended(server, done=2)
    (parsed,), (embedded,) = said(library.kafka, "document.parsed"), said(library.kafka, "document.embedded")
    assert parsed["type"] == "document.parsed" and parsed["data"]["documentId"] == one["documentId"]
    assert embedded["data"]["model"] == "sluice-lexical-256" and embedded["data"]["chunks"] == 1
    (uploaded,) = said(library.kafka, "document.uploaded")
    assert uploaded["metadata"]["eventId"] == one["eventId"] and uploaded["data"]["size"] == path.stat().st_size

    again = upload(server, path.read_bytes(), name="other.txt", expect=200)
    assert again["documentId"] == one["documentId"] and again["existing"] is True and again["name"] == "report of today.md"
    assert "eventId" not in again
    page = server.get("/documents?limit=1").json()
    assert [each["documentId"] for each in page["documents"]] == [one["documentId"]]
    status = server.status()
    assert "paka-document-processor" in status["consumers"] and "document.embedded" in status["topics"]

    gone = server.request("DELETE", f"/documents/{one['documentId']}")
    assert gone.status == 200
    server.get(f"/documents/{one['documentId']}").problem(404)
    assert search(server, "zeppelins") == [] and server.get("/documents").json()["documents"] == []
    ended(server, done=2)


def test_every_type_is_read(library):
    server = library()
    all_of_them = {
        "a.pdf": (pdf("Zebras in a PDF"), "application/pdf", "Zebras in a PDF"),
        "a.html": (b"<html><title>Yaks</title><script>alert('no')</script><p>on a &lt;page&gt;</html>", "text/html", "Yaks\n\non a <page>"),
        "a.json": (b'{"animal": {"name": "Xerus"}}', "application/json", "animal/name: Xerus"),
        "a.csv": (b"name;legs\nWombat;4\n", "text/csv", "name; legs\nname: Wombat; legs: 4"),
        "a.md": (b"# Vole\n\n[link](http://x)", "text/markdown", "Vole\n\nlink"),
        "a.txt": ("Uä ☃".encode("utf-16"), "text/plain", "Uä ☃"),
    }
    sent = {name: upload(server, data, name=name) for name, (data, _, _) in all_of_them.items()}
    for name, (data, kind, text) in all_of_them.items():
        now = wait_state(server, sent[name])
        assert now["contentType"] == kind and now["size"] == len(data), now
        assert [each["text"] for each in now["chunkList"]] == [text]
    assert search(server, "zebras")[0]["name"] == "a.pdf"
    ended(server, done=12)
    listed = server.get("/documents?limit=4").json()
    rest = server.get(f"/documents?limit=4&after={listed['next']}").json()
    names = [each["name"] for each in listed["documents"] + rest["documents"]]
    assert sorted(names) == sorted(all_of_them) and "next" not in rest


@pytest.mark.seconds(240)
def test_a_large_document_is_taken_and_a_larger_one_is_not(store, library):
    server = library(store, maxBytes=50 * MIB)
    server.timeout = 60
    line = b"A line of a very long text, about llamas and nothing else.\n"
    data = (line * (50 * MIB // len(line) + 1))[:50 * MIB]
    before = server.memory_kib()
    one = upload(server, data)
    assert one["size"] == 50 * MIB
    assert search(server, "llamas")[0]["documentId"] == one["documentId"]
    now = wait_state(server, one, timeout=150)
    assert now["truncated"] is True and now["chunks"] > 10000
    assert server.memory_kib() - before < 600 * 1024
    page = show(server, one, **{"from": now["chunks"] - 1})
    assert len(page["chunkList"]) == 1 and "next" not in page
    # Refused by its head: nothing of the body need come.
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {51 * MIB}\r\n\r\n"
    assert status_of(raw(server.port, head.encode())) == 413
    server.post("/upload", data + b"x", content_type="text/plain").problem(413)
    server.post("/events", b"x" * (2 * MIB)).problem(413)
    chunked = b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"x" * 65536 + b"\r\n"
    assert status_of(raw(server.port, chunked + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 40)) == 413
    assert server.metric("sluice_http_large_bodies") == 0


def test_only_some_large_documents_come_in_at_a_time(library):
    server = library(start=False)
    server.config["http"] = {**server.config.get("http", {}), "headerTimeout": 60000}  # all are to be there at once
    server.start()
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * MIB}\r\n\r\nbeginning".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(10):  # who only announces a body has no place
            stack.enter_context(connect(server.port)).sendall(head)
        peers = [stack.enter_context(connect(server.port)) for _ in range(8)]
        for peer in peers:
            peer.sendall(head + b"x" * MIB)
        eventually("all are coming", lambda: server.metric("sluice_http_large_bodies") == 8)
        assert status_of(raw(server.port, head + b"x" * MIB)) == 503
        upload(server, b"A small one.")  # needs no such place
        peers[0].sendall(b"x" * (MIB - len("beginning")))
        assert status_of(peers[0].recv(65536)) == 202
        assert server.metric("sluice_http_large_bodies") == 7
    eventually("none is left", lambda: server.metric("sluice_http_large_bodies") == 0)


def test_a_store_that_hangs_holds_a_bounded_number_of_uploads(postgres, library):
    server = library({"url": postgres.url}, start=False, maxBytes=MIB)
    server.config["http"] = {**server.config.get("http", {}), "requestTimeout": 1000}
    server.start()
    post = lambda i: server.post("/upload", b"%d" % i + b"x" * (MIB - 1), content_type="text/plain")
    eventually("the store is open", lambda: post(9).status == 202, timeout=60)
    postgres.pause()
    try:
        for i in range(4):
            assert post(i).status in (503, 504)  # the store's time and the request's are the same here
        # Those have had their answers, but the store has them still.
        for i in range(4):
            assert "too many requests wait" in post(i).problem(503)["detail"]
    finally:
        postgres.resume()
    eventually("it takes them again", lambda: post(8).status == 202, timeout=60)


# -- bad ones ----------------------------------------------------------------------------------------------------------

def test_what_is_no_document_is_refused_by_name(library):
    server = library()
    form = "multipart/form-data; boundary=abc"
    good = b'--abc\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nhello'
    for body, kind, status, words_of_it in [
            (b"", "text/plain", 400, "empty"),
            (b"\x89PNG\r\n\x1a\n\0\0", "text/plain", 415, "PDF"),
            (b"PK\x03\x04\x14\0", "application/pdf", 415, "whatever it is called"),
            (good, form, 400, "part 1 does not end"),
            (good + b"\r\n--abc--", "multipart/form-data", 400, "boundary"),
            (good + b"\r\n--abc--", "multipart/form-data; boundary=other", 400, "--other, is nowhere in the body"),
            (b'--abc\r\nContent-Disposition: form-data; name="title"\r\n\r\nhello\r\n--abc--', form, 400, "no file"),
            (b"--abc\r\nnonsense\r\n\r\nhello\r\n--abc--", form, 400, "part 1: a line of its headers has no colon"),
            (good + b"\r\n--abc--", "multipart/mixed; boundary=abc", 415, "multipart/form-data")]:
        problem = server.post("/upload", body, content_type=kind).problem(status)
        assert words_of_it in problem["detail"], problem
    assert server.get("/documents").json()["documents"] == []
    for query in ("", "?q=", "?q=" + "x" * 1001, "?q=x&limit=0", "?q=x&limit=many"):
        server.get("/documents/search" + query).problem(400)
    server.get("/documents?after=1").problem(400)
    server.get("/documents/unknown").problem(404)
    server.request("DELETE", "/documents/unknown").problem(404)
    assert search(server, "' OR 1=1 -- \" ) ; drop table sluice_documents") == []
    ended(server, done=0)


def test_what_cannot_be_read_has_failed_with_the_reason(store, library):
    server = library(store)
    zeros = "0" * 64
    bomb = zlib.compress(zlib.compress(b"\0" * (300 * MIB), 9), 9)
    bad = {
        "damaged.pdf": (b"%PDF-1.7\nnothing of the kind", "damaged"),
        "cut.pdf": (pdf()[:200], "damaged"),
        "bomb.pdf": (pdf(content=bomb, filters="/Filter[/FlateDecode/FlateDecode]"), "no text"),
        "locked.pdf": (pdf(trailer=f"/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -1/O<{zeros}>/U<{zeros}>>>"), "encrypted"),
        "picture.pdf": (pdf(content=b"0 0 m 10 10 l S"), "no text"),
        "latin.txt": ("Grüße".encode("latin-1"), "neither UTF-8 nor UTF-16"),
        "blank.txt": (b" \n\t \n", "empty"),
        "broken.json": (b'{"a":', "no valid JSON"),
        "open.csv": (b'a,b\n"c,d\n', "quote in row 2"),
    }
    sent = {name: upload(server, data, name=name) for name, (data, _) in bad.items()}
    for name, (_, reason) in bad.items():
        now = wait_state(server, sent[name], "failed")
        assert reason in now["reason"], (name, now)
    good = upload(server, b"This one is fine.", name="fine.txt")
    wait_state(server, good)
    ended(server, done=2, dead=len(bad))
    letters = consume(library.kafka.bootstrap, "document.uploaded.dlq")
    assert {json.loads(one["payload"])["data"]["name"] for one in letters} == set(bad)
    assert {one["headers"]["sluice-dlq-error"] for one in letters} == {"rejected"}
    assert server.memory_kib() < 250 * 1024  # not what the bomb unpacks to
    assert server.get("/livez").status == 200
    found = search(server, "damaged")  # by its name
    assert found[0]["name"] == "damaged.pdf" and found[0]["state"] == "failed" and found[0]["chunk"] is None


# -- twice, and with a server that dies --------------------------------------------------------------------------------

def chunk_ids(server, one):
    found, path = [], f"/documents/{one['documentId']}?limit=200"
    while path:
        got = server.get(path).json()
        found += [(each["id"], each["position"], each["text"]) for each in got["chunkList"]]
        path = got.get("next") and got["next"] + "&limit=200"
    return found


def test_all_of_the_topics_once_more_change_nothing(store, library):
    server = library(store)
    sent = [upload(server, words(200, f"text {i}").encode(), name=f"{i}.txt") for i in range(5)]
    bad = upload(server, b"%PDF-1.7\nbroken", name="bad.pdf")
    for one in sent:
        wait_state(server, one)
    wait_state(server, bad, "failed")
    ended(server, done=10, dead=1)
    before = [(show(server, one), chunk_ids(server, one)) for one in [*sent, bad]]
    ids = {topic: {one["metadata"]["eventId"] for one in said(library.kafka, topic)} for topic in ("document.parsed", "document.embedded")}
    server.stop()
    # Another group begins at the beginning.
    server.config["processors"][0]["group"] = unique("again")
    server.start()
    # The 11 of before, and the 5 of document.parsed that are said once more.
    ended(server, done=15, dead=1)
    assert [(show(server, one), chunk_ids(server, one)) for one in [*sent, bad]] == before
    for topic, known in ids.items():
        assert {one["metadata"]["eventId"] for one in said(library.kafka, topic)} == known
    check_sum(server, "document")


@pytest.mark.seconds(240)
def test_a_server_that_is_killed_in_the_middle_does_the_rest(store, embeddings, library):
    model = embeddings(slow=0.1)
    server = library(store, embeddingsUrl=model.url)
    sent = [upload(server, words(4000, f"text {i}").encode(), name=f"{i}.txt") for i in range(6)]
    eventually("the first vectors", lambda: len(model.posts) > 2)
    for _ in range(2):
        server.kill()
        asked = len(model.posts)
        server.start()
        eventually("it goes on", lambda: len(model.posts) > asked, timeout=60)
    for one in sent:
        now = wait_state(server, one, timeout=90)
        chunks = chunk_ids(server, one)
        assert len(chunks) == now["chunks"] and len({each[0] for each in chunks}) == len(chunks)
        assert [each[1] for each in chunks] == list(range(len(chunks)))
    # What was stored is not asked for again: only what was on its way when the server died.
    assert sum(times - 1 for times in model.texts().values()) <= 2 * 2 * 32
    def all_are_said():
        check_sum(server, "document")
        embedded = said(library.kafka, "document.embedded")
        assert {one["data"]["documentId"] for one in embedded} == {one["documentId"] for one in sent}
        return True
    eventually("all are said to be embedded", all_are_said)


def test_a_node_processes_what_was_uploaded_at_another(postgres, library):
    first, second = (library({"url": postgres.url}) for _ in range(2))
    sent = [upload(first, f"Text number {i} for all nodes.".encode(), name=f"{i}.txt") for i in range(12)]
    for one in sent:
        wait_state(second, one)
    assert len(search(second, "nodes", limit=20)) == 12
    total = lambda what: count(first, what, "document") + count(second, what, "document")
    eventually("all have an end", lambda: total("done_total") >= 24)
    for server in (first, second):
        check_sum(server, "document")


def test_a_document_is_taken_while_kafka_is_away(library):
    server = library()
    library.kafka.kill()
    eventually("Kafka is away", lambda: server.metric("sluice_kafka_away") == 1, timeout=30)
    one = upload(server, b"A text about tapirs.")
    assert one["queued"] is True and "offset" not in one
    assert search(server, "tapirs")
    wait_state(server, one)  # in place
    assert count(server, "done_total", "document.in-place") == 2
    library.kafka.start()
    eventually("Kafka has brought both", lambda: count(server, "duplicates_total", "document") == 2, timeout=60)
    check_sum(server, "document")
    for topic in ("document.parsed", "document.embedded"):
        assert len(said(library.kafka, topic)) == 1


# -- embeddings --------------------------------------------------------------------------------------------------------

def test_embeddings_come_from_an_endpoint_in_batches(store, embeddings, library):
    model = embeddings()
    server = library(store, embeddingsUrl=model.url, embeddingsKey=KEY, embeddingsModel="mini")
    one = upload(server, words(900).encode())
    now = wait_state(server, one)
    assert now["embeddings"] == "mini" and now["chunks"] > 40
    assert all(post["path"] == "/v1/embeddings" and post["headers"]["authorization"] == f"Bearer {KEY}" and post["body"]["model"] == "mini"
               for post in model.posts)
    assert max(len(post["body"]["input"]) for post in model.posts) == 32
    assert set(model.texts().values()) == {1}
    asked = len(model.posts)
    got = server.get("/documents/search?q=sentence+number+7").json()
    assert got["embeddings"] == "mini" and got["results"] and len(model.posts) == asked + 1
    assert KEY not in server.log()


def test_embeddings_that_fail_for_a_while_are_asked_again(embeddings, library):
    def answer(number, body):
        return {1: (500, {}, {}), 2: (429, {"Retry-After": "1"}, {"error": {"message": "slow down"}}),
                3: (200, {}, {"data": []})}.get(number)
    model = embeddings(answer)
    server = library(embeddingsUrl=model.url, embeddingsKey=KEY)
    one = upload(server, b"A text about narwhals.")
    assert search(server, "narwhals")[0]["documentId"] == one["documentId"]
    wait_state(server, one)
    assert len(model.posts) >= 4
    ended(server, done=2)
    assert KEY not in server.log()


def test_embeddings_that_are_away_leave_a_dead_letter_and_a_document_that_is_found(embeddings, library):
    server = library(embeddingsUrl=f"http://127.0.0.1:{free_port()}/v1/embeddings", embeddingsKey=KEY)
    one = upload(server, b"A text about okapis.")
    eventually("it is given up", lambda: count(server, "dead_lettered_total", "document") == 1, timeout=90)
    now = show(server, one)
    assert now["state"] == "parsed" and "127.0.0.1" in now["reason"], now
    assert search(server, "okapis")[0]["state"] == "parsed"
    check_sum(server, "document")
    server.stop()
    model = embeddings()
    server.config["documents"]["embeddingsUrl"] = model.url
    server.start()
    got = server.post("/kafka/dlq/document.parsed.dlq/redrive", {"filter": {}})
    assert got.status == 200, got
    wait_state(server, one)
    assert KEY not in server.log()


def test_embeddings_that_refuse_a_text_fail_the_document(store, embeddings, library):
    # With the key, with a part of it where the text is cut, with a character there that is of two bytes.
    says = {"quokkas": f"too long, {KEY}", "numbats": "x" * 295 + KEY, "bilbies": "x" + "ä" * 200}
    model = embeddings(lambda number, body: (400, {}, {"error": {"message": next(
        text for animal, text in says.items() if animal in body["input"][0])}}))
    server = library(store, embeddingsUrl=model.url, embeddingsKey=KEY)
    for animal in says:
        one = upload(server, f"A text about {animal}.".encode())
        now = wait_state(server, one, "failed")
        assert "answered 400" in now["reason"] and KEY[:5] not in now["reason"], now
    assert now["reason"].endswith("x" + "ä" * 149), now
    ended(server, done=3, dead=3)
    assert KEY not in server.log()


def test_slow_embeddings_hold_up_no_search(embeddings, library):
    model = embeddings(slow=10)
    server = library(embeddingsUrl=model.url, embeddingsTimeout=2000)
    upload(server, b"A text about pangolins.")
    start = time.monotonic()
    (hit,) = search(server, "pangolins")
    assert time.monotonic() - start < 8 and hit["state"] in ("uploaded", "parsed")


# -- off ---------------------------------------------------------------------------------------------------------------

def test_without_being_enabled_nothing_is_taken(sluice, kafka):
    server = sluice(config_for(kafka.bootstrap))
    assert "documents.enabled" in server.post("/upload", b"x", content_type="text/plain").problem(404)["detail"]
    assert "paka-document-processor" not in server.status()["consumers"]
    assert not (pathlib.Path(server.folder) / f"data-{server.port}" / server.config["node"] / "documents.db").exists()
