"""Fixtures. Every test gets servers of its own and topics of its own; Kafka is shared where a test does not harm it."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from support import BINARY, IS_CI, ROOT, Broker, Postgres, Redis, Server, Unavailable, end_with_parent

TEST_SECONDS = 120
HERE = pathlib.Path(__file__).resolve().parent
NODE_FOLDER = ROOT / "build" / "e2e-node"


class TooLong(Exception):
    """Not a TimeoutError: that is an OSError, which tests wait out."""


def not_here(reason):
    """A test this machine cannot run: skipped, or failed where nothing may be skipped."""
    (pytest.fail if IS_CI else pytest.skip)(f"SKIPPED: {reason}")


def pytest_sessionfinish(session, exitstatus):
    """Says to ctest that something was skipped (its SKIP_RETURN_CODE), unless something failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and reporter.stats.get("skipped"):
        session.exitstatus = 77


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): how long the test may take")
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not built yet", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails instead of taking all others with it."""
    mark = item.get_closest_marker("seconds")
    seconds = mark.args[0] if mark else TEST_SECONDS

    def too_long(*_):
        raise TooLong(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the ends of its servers' logs."""
    report = (yield).get_result()
    if report.when == "call":
        item.report = report
    if report.failed:
        for server in getattr(item, "servers", []):
            report.sections.append((f"log of the server on port {server.port}", server.log()[-6000:]))


@pytest.fixture(scope="session")
def brokers():
    """Makes brokers that live as long as the session: brokers("name", **options)."""
    made = {}
    with contextlib.ExitStack() as stack:
        def make(name, **options):
            if name not in made:
                try:
                    made[name] = stack.enter_context(Broker(**options))
                except Unavailable as reason:
                    made[name] = reason
            if isinstance(made[name], Unavailable):
                not_here(made[name])
            return made[name]
        yield make


@pytest.fixture
def kafka(brokers):
    """A real Kafka, shared: no test may stop it."""
    return brokers("shared")


@pytest.fixture
def strict_kafka(brokers):
    """A real Kafka with SASL that creates no topics by itself, shared."""
    return brokers("strict", auto_create=False, sasl=True)


@pytest.fixture
def own_kafka():
    """A real Kafka for this test alone, to be stopped and killed. Not started yet."""
    try:
        broker = Broker()
    except Unavailable as reason:
        not_here(reason)
    yield broker
    broker.close()


@pytest.fixture
def postgres():
    """A real PostgreSQL for this test alone."""
    yield from database(Postgres)


@pytest.fixture
def redis():
    """A real Redis for this test alone."""
    yield from database(Redis)


def database(kind):
    try:
        server = kind()
    except Unavailable as reason:
        not_here(reason)
    with server:
        yield server


@pytest.fixture
def folder(tmp_path_factory, request):
    """A folder for this test; kept only if it fails."""
    name = re.sub(r"\W+", "-", request.node.name)[:40]
    path = tmp_path_factory.mktemp(name)
    yield path
    report = getattr(request.node, "report", None)
    if report is None or not report.failed:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def sluice(folder, request):
    """Makes servers: sluice(config, args=…, start=True). All are stopped at the end, and must end in order."""
    servers = request.node.servers = []

    def make(config, *, start=True, live=True, ready=True, **options):
        server = Server(folder, config, **options)
        servers.append(server)
        return server.start(live, ready) if start else server

    yield make
    problems = []
    for server in servers:
        try:
            if server.running():
                os.kill(server.pid, signal.SIGCONT)
            server.stop()
        except Exception as problem:  # the others have to end too
            problems.append(problem)
            server.kill()
        if re.search(r"Sanitizer: |runtime error:", server.log()):
            problems.append(AssertionError("a sanitizer complained, see the server's log"))
    if problems:
        raise problems[0]


@pytest.fixture(scope="session")
def node():
    """Runs a script of this folder under Node with our packages: node("script.js", args…) -> Popen."""
    for command in ("node", "npm"):
        if not shutil.which(command):
            not_here(f"{command} is not installed")
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    names = ("package.json", "package-lock.json")
    stamp = NODE_FOLDER / "installed"
    wanted = "".join((HERE / name).read_text() for name in names)
    if not stamp.exists() or stamp.read_text() != wanted:
        for name in names:
            shutil.copy(HERE / name, NODE_FOLDER)
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE_FOLDER,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            not_here(f"npm ci failed: {done.stdout[-300:]}")
        stamp.write_text(wanted)

    def run(script, *args):
        """`script` is a file of this folder, or the path of another one."""
        return subprocess.Popen(["node", str(HERE / script), *map(str, args)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "NODE_PATH": str(NODE_FOLDER / "node_modules"),
                                     "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
                                preexec_fn=end_with_parent)
    return run
