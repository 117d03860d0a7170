"""The command line: help, version, the effective configuration, errors."""

import json
import re

import pytest

from support import run_cli


def config_of(*args, cwd=None, **environment):
    done = run_cli("config", *args, cwd=cwd, **environment)
    assert done.returncode == 0, done
    return done.stdout


def line_of(text, key):
    """The line of the printed configuration that sets `key`, e.g. `port` of `[http]` for http.port."""
    *section, name = key.split(".", 1)
    at, found = "", []
    for line in text.splitlines():
        if table := re.match(r"\s*\[+([^\]]+)\]", line):
            at = table.group(1)
        elif at == "".join(section) and re.match(rf'\s*"?{re.escape(name)}"?\s*=', line):
            found.append(line)
    assert len(found) == 1, (key, found, text)
    return found[0]


def test_help_names_every_command_and_option():
    done = run_cli("--help")
    assert done.returncode == 0
    for word in ("serve", "config", "version"):
        assert word in done.stdout
    serve = run_cli("serve", "--help")
    assert serve.returncode == 0
    for word in ("--config", "--port", "--embedded-broker", "--demo", "--insecure", "--log.format", "KAFKA_BROKERS"):
        assert word in serve.stdout


def test_version_says_what_it_is():
    for args in (["version"], ["--version"]):
        done = run_cli(*args)
        assert done.returncode == 0 and re.search(r"\b\d+\.\d+\.\d+\b", done.stdout)


@pytest.mark.parametrize("args, word", [(["sevre"], "serve"), (["serve", "--prot", "1"], "--port"),
                                        (["serve", "--port", "many"], "many"), (["serve", "--port", "70000"], "70000"),
                                        (["serve", "--log.format", "xml"], "json")])
def test_wrong_arguments_name_what_was_meant(args, word):
    done = run_cli(*args)
    assert done.returncode > 0 and word in done.stderr, done


def test_no_command_shows_the_help():
    done = run_cli()
    assert "serve" in done.stdout + done.stderr


def test_flags_beat_the_environment_which_beats_the_file(tmp_path):
    (tmp_path / "sluice.toml").write_text('[http]\nport = 4001\n[kafka]\nbrokers = "file:1"\nclientId = "by-file"\n')
    text = config_of("--port", "4003", cwd=tmp_path, PORT="4002", KAFKA_BROKERS="env:1")
    assert "4003" in line_of(text, "http.port") and "flag" in line_of(text, "http.port")
    assert "env:1" in line_of(text, "kafka.brokers") and "KAFKA_BROKERS" in line_of(text, "kafka.brokers")
    assert "by-file" in line_of(text, "kafka.clientId") and "sluice.toml" in line_of(text, "kafka.clientId")
    assert "default" in line_of(text, "kafka.requestTimeout")


@pytest.mark.parametrize("variable, value, name, shown", [
    ("PORT", "4002", "http.port", "4002"), ("KAFKA_BROKERS", "a:1,b:2", "kafka.brokers", "a:1,b:2"),
    ("KAFKA_BROKER", "a:1", "kafka.brokers", "a:1"), ("KAFKA_CLIENT_ID", "x", "kafka.clientId", "x"),
    ("KAFKA_GROUP_ID", "g", "kafka.groupId", "g"), ("KAFKA_CONNECTION_TIMEOUT", "4000", "kafka.connectionTimeout", "4"),
    ("KAFKA_REQUEST_TIMEOUT", "30000", "kafka.requestTimeout", "30"),
    ("KAFKA_RETRY_INITIAL_RETRY_TIME", "100", "kafka.retryInitialTime", "100"), ("KAFKA_RETRY_RETRIES", "8", "kafka.retryRetries", "8"),
    ("KAFKA_SECURITY_PROTOCOL", "SSL", "kafka.securityProtocol", "SSL"),
    ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256", "kafka.saslMechanism", "SCRAM-SHA-256"),
    ("KAFKA_SASL_USERNAME", "u", "kafka.saslUsername", "u"),
])
def test_the_documented_environment_variables_hold(tmp_path, variable, value, name, shown):
    line = line_of(config_of(cwd=tmp_path, **{variable: value}), name)
    assert shown in line and variable in line


def test_secrets_are_masked_and_their_sources_shown(tmp_path):
    (tmp_path / "sluice.toml").write_text('[kafka.properties]\n"ssl.key.password" = "hush-file"\n')
    text = config_of(cwd=tmp_path, SLUICE_TOKEN="hush-token", KAFKA_SASL_PASSWORD="hush-sasl")
    assert "hush" not in text
    assert "SLUICE_TOKEN" in line_of(text, "token") and "KAFKA_SASL_PASSWORD" in line_of(text, "kafka.saslPassword")


def test_a_secret_in_a_wrong_place_is_not_repeated(tmp_path):
    done = run_cli("serve", cwd=tmp_path, SLUICE_TOKEN="hush token")
    assert done.returncode > 0 and "hush" not in done.stderr + done.stdout


def test_what_config_prints_can_be_read_back(tmp_path):
    (tmp_path / "sluice.toml").write_text(
        '[kafka]\nbrokers = "a:1"\n[kafka.properties]\n"linger.ms" = "7"\n[[aggregations]]\nname = "x"\n'
        'topics = ["t1", "t2"]\nsink = "s"\ninterval = 1500\n[[channels]]\nname = "{topic}"\ntopics = ["t*"]\n'
        '[[channels]]\nname = "user:{value}"\ntopics = ["t1"]\npointer = "/user"\nretention = "1h"\n')
    first = config_of(cwd=tmp_path)
    again = tmp_path / "again"
    again.mkdir()
    (again / "sluice.toml").write_text(first)
    second = config_of(cwd=again)
    assert [line.split("#")[0].rstrip() for line in first.splitlines()] == \
           [line.split("#")[0].rstrip() for line in second.splitlines()]


def test_config_refuses_what_serve_refuses(tmp_path):
    (tmp_path / "sluice.toml").write_text("[kafka]\nbrokerz = 1\n")
    done = run_cli("config", cwd=tmp_path)
    assert done.returncode > 0
    assert all(word in done.stderr for word in ("sluice.toml", "brokerz", "brokers")), done.stderr


def test_channels_are_set_by_the_file_only(tmp_path):
    (tmp_path / "sluice.toml").write_text('[[channels]]\nname = "news"\ntopics = "t"\n')
    text = config_of(cwd=tmp_path)
    assert '"news"' in line_of(text, "channels.name") and "sluice.toml:2" in line_of(text, "channels.name")
    for args, environment in ((["--channel.name", "x"], {}), ([], {"SLUICE_CHANNEL_NAME": "x"})):
        done = run_cli("config", *args, cwd=tmp_path, **environment)
        assert done.returncode > 0 and "[[channels]]" in done.stderr, done
    assert "[[channels]] is set by the file only" in run_cli("serve", "--help").stdout


def test_json_logs_are_one_object_a_line(sluice):
    server = sluice({"log": {"format": "json", "level": "debug"}}, args=["--embedded-broker"])
    server.stop()
    lines = [line for line in server.log().splitlines() if line.startswith("{")]
    assert len(lines) > 3
    for line in lines:
        one = json.loads(line)
        assert one["level"] and one["actor"], one
