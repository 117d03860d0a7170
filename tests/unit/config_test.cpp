#define CAF_SUITE config

#include "sluice/config.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <caf/test/unit_test.hpp>

#include "app/command_line.hpp"
#include "app/config_loader.hpp"
#include "app/options.hpp"
#include "sluice/config_check.hpp"

using namespace sluice;
using namespace std::chrono_literals;

namespace {

using variables = std::map<std::string, std::string>;

/// A working directory of its own, with or without a sluice.toml.
struct fixture {
  fixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-config-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("no temporary directory");
    directory = pattern;
  }
  ~fixture() { std::filesystem::remove_all(directory); }

  void write(const std::string& text, const std::string& name = "sluice.toml") const {
    std::ofstream{directory / name} << text;
  }

  load_result load(const variables& environment = {}, const std::vector<std::string>& arguments = {}) const {
    std::vector<const char*> argv{"sluice", "serve"};
    for (const auto& argument : arguments)
      argv.push_back(argument.c_str());
    auto line = parse_command_line(static_cast<int>(argv.size()), argv.data());
    CAF_REQUIRE_EQUAL(line.text, "");
    return load_config(line.flags, environment, directory.string());
  }

  /// The only error of a file, environment and arguments that have one.
  std::string error_of(const std::string& file, const variables& environment = {},
                       const std::vector<std::string>& arguments = {}) const {
    write(file);
    auto result = load(environment, arguments);
    CAF_REQUIRE_EQUAL(result.errors.size(), 1u);
    return result.errors.front();
  }

  std::filesystem::path directory;
};

std::string join(const std::vector<std::string>& lines) {
  std::string result;
  for (const auto& line : lines)
    result += line + "\n";
  return result;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in{path};
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

command_line parse(std::vector<const char*> argv) {
  argv.insert(argv.begin(), "sluice");
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

/// What an option's flag was given; by value, since the command line is gone after it.
std::string text_of_flag(const std::vector<const char*>& argv, const std::string& key) {
  return parse(argv).flags.by_key[key].text;
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(config_tests, fixture)

CAF_TEST(without file and environment and flags the defaults hold) {
  auto result = load();
  CAF_REQUIRE(result.errors.empty());
  const auto& cfg = result.settings.value;
  CAF_CHECK_EQUAL(cfg.kafka.brokers, "localhost:9092");
  CAF_CHECK_EQUAL(cfg.http.host, "127.0.0.1");
  CAF_CHECK_EQUAL(cfg.http.port, 3000);
  CAF_REQUIRE_EQUAL(cfg.aggregations.size(), 1u);
  CAF_CHECK_EQUAL(group_of(cfg, cfg.aggregations[0]), "sluice-default");
  CAF_CHECK_EQUAL(covered_topic_of(cfg.aggregations[0]), "events-summary-table.covered");
  CAF_CHECK(cfg.node.ends_with("-3000"));
  CAF_CHECK_EQUAL(result.settings.sources["kafka.brokers"], "default");
  CAF_CHECK_EQUAL(result.settings.sources["aggregations[0].batchSize"], "default");
}

CAF_TEST(every default is within its own range) {
  for (const auto& opt : options()) {
    config cfg;
    cfg.channels.emplace_back();
    cfg.processors.emplace_back();
    cfg.templates.emplace_back();
    auto text = to_toml(opt, cfg, 0);
    if (text.starts_with('"'))
      text = text.substr(1, text.size() - 2);
    if (text.starts_with('['))
      continue;
    CAF_MESSAGE(opt.key);
    CAF_CHECK(!set_text(opt, cfg, 0, text));
  }
}

CAF_TEST(no two options share a key or a variable or a flag) {
  std::set<std::string> seen;
  for (const auto& opt : options()) {
    CAF_CHECK(seen.insert(opt.key).second);
    for (const auto& name : opt.env)
      CAF_CHECK(seen.insert(name).second);
    if (!opt.flag.empty())
      CAF_CHECK(seen.insert(opt.flag).second);
  }
}

CAF_TEST(flags win over the environment and that over the file and that over defaults) {
  write("[kafka]\nbrokers = \"file:1\"\nclientId = \"file\"\n[http]\nport = 1\n[sse]\nheartbeat = \"5s\"\n");
  auto result = load({{"KAFKA_BROKERS", "env:2"}, {"PORT", "2"}}, {"--port", "3"});
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& cfg = result.settings.value;
  auto& sources = result.settings.sources;
  CAF_CHECK_EQUAL(cfg.http.port, 3);
  CAF_CHECK_EQUAL(sources["http.port"], "flag --port");
  CAF_CHECK_EQUAL(cfg.kafka.brokers, "env:2");
  CAF_CHECK_EQUAL(sources["kafka.brokers"], "environment KAFKA_BROKERS");
  CAF_CHECK_EQUAL(cfg.kafka.client_id, "file");
  CAF_CHECK_EQUAL(sources["kafka.clientId"], "sluice.toml:3");
  CAF_CHECK(cfg.sse.heartbeat == 5s);
  CAF_CHECK_EQUAL(sources["sse.retry"], "default");
}

CAF_TEST(the names of the reference documents hold) {
  auto result = load({{"PORT", "8080"},
                      {"KAFKA_BROKER", "old:1"},
                      {"KAFKA_CLIENT_ID", "c"},
                      {"KAFKA_GROUP_ID", "g"},
                      {"KAFKA_CONNECTION_TIMEOUT", "4000"},
                      {"KAFKA_REQUEST_TIMEOUT", "26000"},
                      {"KAFKA_RETRY_INITIAL_RETRY_TIME", "100"},
                      {"KAFKA_RETRY_RETRIES", "8"},
                      {"KAFKA_SECURITY_PROTOCOL", "sasl_ssl"},
                      {"KAFKA_SASL_MECHANISM", "scram-sha-256"},
                      {"KAFKA_SASL_USERNAME", "u"},
                      {"KAFKA_SASL_PASSWORD", "p"},
                      {"SLUICE_TOKEN", "t"}});
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& cfg = result.settings.value;
  CAF_CHECK_EQUAL(cfg.http.port, 8080);
  CAF_CHECK_EQUAL(cfg.kafka.brokers, "old:1");
  CAF_CHECK_EQUAL(cfg.kafka.client_id, "c");
  CAF_CHECK_EQUAL(cfg.kafka.group_id, "g");
  CAF_CHECK(cfg.kafka.connection_timeout == 4s);
  CAF_CHECK(cfg.kafka.request_timeout == 26s);
  CAF_CHECK(cfg.kafka.retry_initial_time == 100ms);
  CAF_CHECK_EQUAL(cfg.kafka.retry_retries, 8u);
  CAF_CHECK_EQUAL(cfg.kafka.security_protocol, "SASL_SSL");
  CAF_CHECK_EQUAL(cfg.kafka.sasl_mechanism, "SCRAM-SHA-256");
  CAF_CHECK_EQUAL(cfg.kafka.sasl_username, "u");
  CAF_CHECK_EQUAL(cfg.kafka.sasl_password, "p");
  CAF_CHECK_EQUAL(cfg.token, "t");
  CAF_CHECK(cfg.node.ends_with("-8080"));
}

CAF_TEST(KAFKA_BROKERS wins over KAFKA_BROKER and an empty variable is none) {
  auto result = load({{"KAFKA_BROKERS", "new:1"}, {"KAFKA_BROKER", "old:1"}, {"PORT", ""}});
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  CAF_CHECK_EQUAL(result.settings.value.kafka.brokers, "new:1");
  CAF_CHECK_EQUAL(result.settings.value.http.port, 3000);
}

CAF_TEST(every option has a variable and a flag of its own) {
  auto result =
      load({{"SLUICE_SSE_HEARTBEAT", "1m"}, {"SLUICE_AGGREGATION_BATCH_SIZE", "7"}, {"SLUICE_SSE_TOPICS", "a, b"}},
           {"--supervision.maxRestarts", "9", "--aggregation.interval=500ms", "--demo", "--embedded-broker",
            "--kafka.partitions", "-1", "--kafka.properties", "linger.ms=5", "--kafka.properties", "acks=all"});
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& cfg = result.settings.value;
  CAF_CHECK(cfg.sse.heartbeat == 1min);
  CAF_CHECK_EQUAL(cfg.aggregations.at(0).batch_size, 7u);
  CAF_CHECK_EQUAL(cfg.sse.topics, (std::vector<std::string>{"a", "b"}));
  CAF_CHECK_EQUAL(cfg.supervision.max_restarts, 9u);
  CAF_CHECK(cfg.aggregations.at(0).interval == 500ms);
  CAF_CHECK(cfg.demo.enabled);
  CAF_CHECK(cfg.embedded_broker);
  CAF_CHECK_EQUAL(cfg.kafka.properties.at("linger.ms"), "5");
  CAF_CHECK_EQUAL(cfg.kafka.properties.at("acks"), "all");
  CAF_CHECK_EQUAL(result.settings.sources["aggregations[0].batchSize"], "environment SLUICE_AGGREGATION_BATCH_SIZE");
}

CAF_TEST(options of live streams are set like all others) {
  write("[sse]\nbroadcastTopic = \"all\"\nreplayBytes = 0\nreplayWarmup = 5\n");
  auto result = load({{"SLUICE_SSE_MAX_REPLAYS", "1"}, {"SLUICE_SSE_LIFETIME", "0"}},
                     {"--sse.maxChannels", "7", "--sse.checkpoint", "1s"});
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& sse = result.settings.value.sse;
  CAF_CHECK_EQUAL(sse.broadcast_topic, "all");
  CAF_CHECK_EQUAL(sse.replay_bytes, 0u);
  CAF_CHECK_EQUAL(sse.replay_warmup, 5u);
  CAF_CHECK_EQUAL(sse.max_replays, 1u);
  CAF_CHECK_EQUAL(sse.max_channels, 7u);
  CAF_CHECK(sse.lifetime == 0s);
  CAF_CHECK(sse.checkpoint == 1s);
  CAF_CHECK(contains(error_of("[sse]\nmaxReplays = 0\n"), "0 is not a number from 1 to 1000"));
  CAF_CHECK(contains(error_of("[sse]\nlifetime = \"169h\"\n"), "is not a duration from 0ms to 168h"));
}

CAF_TEST(an unknown key names its line and the nearest key) {
  CAF_CHECK_EQUAL(error_of("\n[kafka]\nbroker = \"x\"\n"),
                  R"(sluice.toml:3: unknown key "kafka.broker"; did you mean "kafka.brokers"?)");
  CAF_CHECK_EQUAL(error_of("port = 3\n"), R"(sluice.toml:1: unknown key "port"; did you mean "http.port"?)");
  CAF_CHECK_EQUAL(error_of("[kafak]\nbrokers = \"x\"\n"),
                  R"(sluice.toml:1: unknown key "kafak"; did you mean "kafka"?)");
  CAF_CHECK_EQUAL(error_of("[http]\nmax_body_bytes = 3\n"),
                  R"(sluice.toml:2: unknown key "http.max_body_bytes"; did you mean "http.maxBodyBytes"?)");
  CAF_CHECK_EQUAL(error_of("[[aggregations]]\nbatchsizes = 3\n"),
                  R"(sluice.toml:2: unknown key "aggregations.batchsizes"; did you mean "aggregations.batchSize"?)");
  CAF_CHECK_EQUAL(error_of("[aggregation]\nbatchSize = 3\n"),
                  R"(sluice.toml:1: unknown key "aggregation"; did you mean "aggregations"?)");
  CAF_CHECK_EQUAL(error_of("[channel]\nname = \"x\"\n"),
                  R"(sluice.toml:1: unknown key "channel"; did you mean "channels"?)");
  CAF_CHECK_EQUAL(error_of("[[channels]]\nname = \"x\"\ntopics = \"x\"\nevent_pointer = \"/type\"\n"),
                  R"(sluice.toml:4: unknown key "channels.event_pointer"; did you mean "channels.eventPointer"?)");
  CAF_CHECK(error_of("\"channel.name\" = \"x\"\n").starts_with(R"(sluice.toml:1: unknown key "channel.name"; )"));
  CAF_CHECK_EQUAL(error_of("", {{"SLUICE_HTTP_HSOT", "x"}}),
                  "environment SLUICE_HTTP_HSOT: unknown variable; did you mean SLUICE_HTTP_HOST?");
  CAF_CHECK_EQUAL(error_of("", {}, {"--kafka.broker", "x"}),
                  "flag --kafka.broker: unknown; did you mean --kafka.brokers?");
  CAF_CHECK_EQUAL(error_of("", {}, {"--prot=1"}), "flag --prot: unknown; did you mean --port?");
}

CAF_TEST(a bad value names its place and what is allowed) {
  CAF_CHECK_EQUAL(error_of("", {{"PORT", "abc"}}), R"(environment PORT: "abc" is not a number from 0 to 65535)");
  CAF_CHECK_EQUAL(error_of("", {}, {"--port", "65536"}), R"(flag --port: "65536" is not a number from 0 to 65535)");
  CAF_CHECK_EQUAL(error_of("[http]\nport = \"80\"\n"),
                  R"(sluice.toml:2: http.port: "80" is not a number from 0 to 65535)");
  CAF_CHECK_EQUAL(error_of("[log]\nformat = \"xml\"\n"),
                  R"(sluice.toml:2: log.format: "xml" is not one of human, json)");
  CAF_CHECK_EQUAL(error_of("[demo]\nenabled = 1\n"), "sluice.toml:2: demo.enabled: 1 is not true or false");
  CAF_CHECK_EQUAL(
      error_of("[sse]\nheartbeat = 1.5\n"),
      "sluice.toml:2: sse.heartbeat: a number with a fraction is not a duration from 100ms to 1h (250ms, 5s, "
      "1m, 1h, or a number of milliseconds)");
  CAF_CHECK(contains(error_of("[sse]\nheartbeat = \"5 s\"\n"), R"("5 s" is not a duration)"));
  CAF_CHECK(contains(error_of("[sse]\nheartbeat = \"99999999999999999999h\"\n"), "is not a duration"));
  CAF_CHECK(contains(error_of("[sse]\nheartbeat = \"9000000000000000h\"\n"), "is not a duration"));
  CAF_CHECK_EQUAL(error_of("kafka = 3\n"), "sluice.toml:1: kafka: is a section; write [kafka] and its keys below");
  CAF_CHECK_EQUAL(error_of("[aggregations]\nname = \"x\"\n"),
                  "sluice.toml:1: aggregations: is a list; write [[aggregations]] with two brackets");
  CAF_CHECK_EQUAL(error_of("[channels]\nname = \"x\"\n"),
                  "sluice.toml:1: channels: is a list; write [[channels]] with two brackets");
}

CAF_TEST(all errors are reported at once) {
  write("[kafka]\nbroker = \"x\"\n[http]\nport = -1\n[[aggregations]]\nbatchSize = 0\nsink = \"no/topic\"\n");
  auto result = load({{"KAFKA_RETRY_RETRIES", "many"}, {"SLUICE_NOD", "x"}}, {"--prot", "1", "--log.level", "loud"});
  CAF_MESSAGE(join(result.errors));
  CAF_CHECK_EQUAL(result.errors.size(), 8u);
}

CAF_TEST(a broken file names the line but shows nothing of it) {
  auto error = error_of("token = \"hunter2\"\n[kafka\nsaslPassword = \"hunter2\"\n");
  CAF_MESSAGE(error);
  CAF_CHECK(error.starts_with("sluice.toml:2: is not TOML: "));
  CAF_CHECK(!contains(error_of("token = \"hunter2\n"), "hunter2"));
  CAF_CHECK(!contains(error_of("token = hunter2\n"), "hunter2"));
  CAF_CHECK(!contains(error_of("token = \"hunter2\"\ntoken = \"hunter2\"\n"), "hunter2"));
}

CAF_TEST(a file named by a flag must exist and be a file) {
  auto missing = load({}, {"--config", "gone.toml"});
  CAF_CHECK_EQUAL(join(missing.errors), "gone.toml: cannot be read: No such file or directory\n");
  auto folder = load({}, {"--config", "."});
  CAF_CHECK_EQUAL(join(folder.errors), ".: is a directory, not a file\n");
  write("[http]\nport = 7\n", "other.toml");
  auto there = load({}, {"--config", "other.toml"});
  CAF_CHECK_EQUAL(there.settings.value.http.port, 7);
  CAF_CHECK_EQUAL(there.settings.sources["http.port"], "other.toml:2");
}

CAF_TEST(librdkafka properties need no quotes around their dots) {
  write("[kafka.properties]\nssl.key.password = \"s3cret\"\n\"linger.ms\" = 5\nenable.idempotence = true\n");
  auto result = load();
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& properties = result.settings.value.kafka.properties;
  CAF_CHECK_EQUAL(properties.at("ssl.key.password"), "s3cret");
  CAF_CHECK_EQUAL(properties.at("linger.ms"), "5");
  CAF_CHECK_EQUAL(properties.at("enable.idempotence"), "true");
  CAF_CHECK_EQUAL(result.settings.sources["kafka.properties.linger.ms"], "sluice.toml:3");
}

CAF_TEST(aggregations in the file replace the default one) {
  write("[[aggregations]]\nname = \"a\"\nintervalMs = 1000\ntopics = \"x\"\n[[aggregations]]\nname = \"b\"\nsink = "
        "\"s\"\n");
  auto result = load();
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& all = result.settings.value.aggregations;
  CAF_REQUIRE_EQUAL(all.size(), 2u);
  CAF_CHECK(all[0].interval == 1s);
  CAF_CHECK_EQUAL(all[0].topics, std::vector<std::string>{"x"});
  CAF_CHECK_EQUAL(all[1].sink, "s");
  CAF_CHECK_EQUAL(result.settings.sources["aggregations[1].sink"], "sluice.toml:7");
  write("aggregations = []\n");
  auto none = load();
  CAF_CHECK_EQUAL(join(none.errors), "");
  CAF_CHECK(none.settings.value.aggregations.empty());
}

CAF_TEST(the default aggregation cannot be changed where the file defines others) {
  CAF_CHECK_EQUAL(error_of("\n[[aggregations]]\nname = \"a\"\n", {{"SLUICE_AGGREGATION_BATCH_SIZE", "3"}}),
                  "environment SLUICE_AGGREGATION_BATCH_SIZE: changes the one default aggregation, but sluice.toml:2 "
                  "defines [[aggregations]]; change it there");
}

CAF_TEST(channels are set by the file) {
  write(R"(
[[channels]]
name = "announcements"
topics = "news"

[[channels]]
name = "user:{value}"
topics = ["orders.*"]
pointer = "/data/user"
event = "order"
eventPointer = "/type"
policy = "dropoldest"
retention = "1h"
)");
  auto result = load();
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  const auto& all = result.settings.value.channels;
  CAF_REQUIRE_EQUAL(all.size(), 2u);
  CAF_CHECK_EQUAL(all[0].name, "announcements");
  CAF_CHECK_EQUAL(all[0].topics, std::vector<std::string>{"news"});
  CAF_CHECK_EQUAL(all[0].policy, "disconnect");
  CAF_CHECK(all[0].retention == 168h);
  CAF_CHECK_EQUAL(all[1].name, "user:{value}");
  CAF_CHECK_EQUAL(all[1].topics, std::vector<std::string>{"orders.*"});
  CAF_CHECK_EQUAL(all[1].pointer, "/data/user");
  CAF_CHECK_EQUAL(all[1].header, "");
  CAF_CHECK_EQUAL(all[1].event, "order");
  CAF_CHECK_EQUAL(all[1].event_pointer, "/type");
  CAF_CHECK_EQUAL(all[1].policy, "dropOldest");
  CAF_CHECK(all[1].retention == 1h);
  CAF_CHECK_EQUAL(result.settings.sources["channels[0].policy"], "default");
  CAF_CHECK_EQUAL(result.settings.sources["channels[1].name"], "sluice.toml:7");
  CAF_CHECK_EQUAL(result.settings.value.aggregations.size(), 1u);
  CAF_CHECK(config{}.channels.empty());
}

CAF_TEST(neither environment nor flags set channels) {
  CAF_CHECK_EQUAL(error_of("", {{"SLUICE_CHANNEL_NAME", "x"}}),
                  "environment SLUICE_CHANNEL_NAME: channels are set by the file only; write [[channels]] there");
  CAF_CHECK_EQUAL(error_of("", {}, {"--channel.name", "x"}),
                  "flag --channel.name: channels are set by the file only; write [[channels]] there");
  CAF_CHECK_EQUAL(error_of("", {}, {"--channels=x"}),
                  "flag --channels: channels are set by the file only; write [[channels]] there");
  flag_values flags;
  flags.by_key["channel.name"] = {"--channel.name", "x"};
  CAF_CHECK_EQUAL(join(load_config(flags, {}, directory.string()).errors),
                  "flag --channel.name: channels are set by the file only; write [[channels]] there\n");
  for (const auto& opt : options())
    CAF_CHECK_EQUAL(opt.env.empty(), is_file_only(opt));
}

CAF_TEST(channels that contradict themselves or each other are errors) {
  auto one = [this](const std::string& text) { return error_of("[[channels]]\n" + text + "\n"); };
  auto named = [&one](const std::string& name, const std::string& more = "") {
    return one("topics = \"t\"\nname = \"" + name + "\"\n" + more);
  };
  auto fed = [&one](const std::string& topics) { return one("name = \"n\"\ntopics = " + topics); };
  CAF_CHECK_EQUAL(one("topics = \"t\""), "sluice.toml:1: channels[0].name: is empty; name the channel");
  CAF_CHECK_EQUAL(named(std::string(201, 'x')),
                  "sluice.toml:3: channels[0].name: has 201 bytes; shorten it to at most 200");
  CAF_CHECK(contains(named("a\\nb"), "channels[0].name: holds a line end or another control character"));
  CAF_CHECK(contains(named("a\\u007f"), "control character"));
  CAF_CHECK(contains(named("a,b"), "\"a,b\" holds a ','"));
  CAF_CHECK(contains(named("{topics}"), "\"{topics}\" is not a placeholder; only {topic} and {value} may stand"));
  CAF_CHECK(contains(named("a{"), "\"{\" is not a placeholder"));
  CAF_CHECK(contains(named("a}b"), "\"}\" is not a placeholder"));
  CAF_CHECK(contains(named("{{topic}}"), "\"{{topic}\" is not a placeholder"));
  CAF_CHECK(contains(named("{topic}{Value}"), "\"{Value}\" is not a placeholder"));

  CAF_CHECK_EQUAL(named("user:{value}"), "sluice.toml:3: channels[0].name: \"user:{value}\" holds {value}; say by "
                                         "pointer or header where to find it");
  CAF_CHECK_EQUAL(named("a", "pointer = \"/user\""),
                  "sluice.toml:4: channels[0].pointer: finds the text for {value}, which the name \"a\" lacks; add it "
                  "there, or leave this out");
  CAF_CHECK(contains(named("{topic}", "header = \"user\""), "channels[0].header: finds the text for {value}"));
  CAF_CHECK_EQUAL(named("{value}", "header = \"user\"\npointer = \"/user\""),
                  "sluice.toml:4: channels[0].header: is given beside pointer, but {value} has one source; keep one of "
                  "them");
  CAF_CHECK(contains(named("{value}", "pointer = \"user\""), "channels[0].pointer: \"user\" is not a JSON pointer"));
  CAF_CHECK(contains(named("a", "eventPointer = \"/a~2\""), "channels[0].eventPointer: \"/a~2\" is not a JSON"));
  for (const auto* event : {"a\\nb", "a\\r", "\\u0000"})
    CAF_CHECK(contains(named("a", "event = \"" + std::string{event} + "\""), "channels[0].event: holds a line end"));
  CAF_CHECK(contains(named("a", "policy = \"drop\""), "is not one of disconnect, dropOldest, latest"));
  CAF_CHECK(contains(named("a", "retention = \"-1s\""), "is not a duration from 0ms to 87600h"));

  CAF_CHECK(contains(one("name = \"n\""), "sluice.toml:1: channels[0].topics: is empty; name at least one topic"));
  CAF_CHECK(contains(fed("\"a/b\""), "channels[0].topics: \"a/b\" is not a topic name"));
  CAF_CHECK(contains(error_of("[[aggregations]]\ntopics = \"" + std::string(246, 'a') + "\""),
                     "is too long: 245 characters at most"));
  CAF_CHECK(contains(fed("\"a/*\""), "\"a/*\" is not a topic name"));
  CAF_CHECK(contains(fed("[\"\"]"), "\"\" is not a topic name"));
  CAF_CHECK(contains(fed("[\"a*\", \"a*\"]"), "\"a*\" is named twice"));

  auto both = [&one](const std::string& a, const std::string& b) {
    return one("name = \"n\"\ntopics = " + a + "\n[[channels]]\nname = \"n\"\ntopics = " + b);
  };
  CAF_CHECK_EQUAL(both(R"(["a", "b"])", R"(["c", "b"])"),
                  "sluice.toml:6: channels[1].topics: \"b\" feeds channel \"n\" by channels[0] too; keep one of them, "
                  "or rename one channel");
  CAF_CHECK(contains(both("\"*.a\"", "\"b.a\""), "\"b.a\" feeds channel \"n\" by channels[0] too"));
  CAF_CHECK(contains(both("\"x.a.b.c\"", "\"x*.b*c*\""), "\"x.a.b.c\" feeds channel \"n\" by channels[0] too"));
  CAF_CHECK(contains(both("\"a*\"", "\"a*\""), "\"a*\" feeds channel \"n\" by channels[0] too"));
}

CAF_TEST(channels of one name may have different topics and of one topic different names) {
  for (const auto* second : {R"(name = "n"
topics = "b")",
                             R"(name = "n"
topics = ["*b", "ab*"])",
                             R"(name = "{topic}"
topics = ["a", "*"])",
                             R"(name = "user:{value}:{topic}{topic}"
topics = "*"
header = "user")"}) {
    auto text = "[[channels]]\nname = \"n\"\ntopics = [\"a\", \"a.*.c\"]\n[[channels]]\n" + std::string{second} + "\n";
    write(text);
    CAF_CHECK_EQUAL(join(load().errors), "");
  }
  config cfg;
  auto& channel = cfg.channels.emplace_back();
  channel.name = std::string(200, 'x');
  channel.topics = {"*"};
  CAF_CHECK(check(cfg).empty());
}

CAF_TEST(the broadcast topic is for broadcasts only) {
  auto topic = [this](const std::string& name, const std::string& more = "") {
    return error_of("[sse]\nbroadcastTopic = \"" + name + "\"\n[[aggregations]]\n" + more);
  };
  CAF_CHECK_EQUAL(
      topic("events-topic"),
      "sluice.toml:2: sse.broadcastTopic: \"events-topic\" is a source of aggregation \"default\"; name a topic for "
      "broadcasts only");
  CAF_CHECK(contains(topic("events-summary-table"), "is the sink of aggregation \"default\"; name a topic"));
  CAF_CHECK(contains(topic("s.covered", "keyPointer = \"/k\"\nsink = \"s\"\n"), "is for the notes of aggregation"));
  CAF_CHECK(contains(topic(""), "sse.broadcastTopic: \"\" is not a topic name"));
  CAF_CHECK(contains(topic("a*"), "\"a*\" is not a topic name"));
}

CAF_TEST(aggregations that contradict themselves or each other are errors) {
  auto one = [this](const std::string& text) { return error_of("[[aggregations]]\n" + text + "\n"); };
  CAF_CHECK(contains(one("name = \"\""), "is not a name"));
  CAF_CHECK(contains(one("name = \"a/b\""), "sluice.toml:2: aggregations[0].name: \"a/b\" is not a name"));
  CAF_CHECK(contains(one("sink = \"events-topic\""), "is one of its own topics"));
  CAF_CHECK(contains(one("sink = \"..\""), "is not a topic name"));
  CAF_CHECK(contains(one("sink = \"" + std::string(250, 'x') + "\""), "is not a topic name"));
  CAF_CHECK(contains(one("topics = []"), "name at least one topic"));
  CAF_CHECK(contains(one("topics = [\"a\", \"a\"]"), "is named twice"));
  CAF_CHECK(contains(one("valuePointer = \"payload\""), "is not a JSON pointer"));
  CAF_CHECK(contains(one("keyPointer = \"/a~2\""), "is not a JSON pointer"));
  CAF_CHECK(contains(one("sampleSize = 1001"), "is not a number from 0 to 1000"));
  CAF_CHECK(contains(one("batchSize = 0"), "is not a number from 1 to"));
  CAF_CHECK(contains(one("interval = 5\nintervalMs = 5"), "keep one"));
  CAF_CHECK(contains(one("[[aggregations]]\nsink = \"t\""),
                     "sluice.toml:2: aggregations[1].name: \"default\" is the name of another aggregation"));
  CAF_CHECK(contains(one("keyPointer = \"/k\"\n[[aggregations]]\nname = \"b\"\nkeyPointer = \"/k\""),
                     "they would share \"events-summary-table.covered\""));
  write("[[aggregations]]\nvaluePointer = \"\"\n");
  CAF_CHECK_EQUAL(join(load().errors), "");
}

CAF_TEST(listening beyond loopback needs a token or insecure) {
  CAF_CHECK_EQUAL(error_of("", {}, {"--host", "0.0.0.0"}),
                  R"(flag --host: "0.0.0.0" can be reached from other machines and nobody would have to authenticate; )"
                  "set token (environment SLUICE_TOKEN), or accept that with --insecure");
  for (auto* host : {"::", "192.168.0.1", "example.org", "127.example.org"})
    CAF_CHECK_EQUAL(load({}, {"--host", host}).errors.size(), 1u);
  for (auto* host : {"localhost", "127.0.0.1", "127.1.2.3", "::1"})
    CAF_CHECK_EQUAL(join(load({}, {"--host", host}).errors), "");
  CAF_CHECK_EQUAL(join(load({}, {"--host", "0.0.0.0", "--insecure"}).errors), "");
  CAF_CHECK_EQUAL(join(load({{"SLUICE_TOKEN", "t"}}, {"--host", "0.0.0.0"}).errors), "");
}

CAF_TEST(authentication that contradicts itself is an error) {
  auto one = [this](const std::string& text) { return error_of("[auth]\n" + text + "\n"); };
  auto secret = std::string(32, 'x');
  CAF_CHECK(contains(one("mode = \"token\""), "sluice.toml:2: auth.mode: is token, but there is none"));
  CAF_CHECK(contains(one("mode = \"jwt\""), "is jwt, but there is no key"));
  CAF_CHECK(contains(one("mode = \"none\"\njwtSecret = \"" + secret + "\""), "auth.mode: is none"));
  CAF_CHECK(contains(one("mode = \"jtw\""), "is not one of auto, none, token, jwt"));
  CAF_CHECK(contains(one("jwtSecret = \"hunter2\""), "auth.jwtSecret: is shorter than 32 bytes"));
  CAF_CHECK(!contains(one("jwtSecret = \"hunter2\""), "hunter2"));
  CAF_CHECK(contains(one("jwtSecret = \"***\""), "is the mask"));
  CAF_CHECK(contains(one("jwtAlgorithms = [\"none\"]"), "\"none\" is not one of HS256"));
  CAF_CHECK(contains(one("jwtAlgorithms = []"), "name at least one"));
  CAF_CHECK(contains(one("claim = \"\""), "auth.claim: is empty"));
  CAF_CHECK(contains(one("cookie = \"a b\""), "cannot be a cookie's name"));
  write("[auth]\njwtSecret = \"" + secret + "\"\n");
  CAF_CHECK_EQUAL(join(load({}, {"--host", "0.0.0.0"}).errors), "");
  CAF_CHECK(contains(render(load().settings), "jwtSecret = \"***\""));
  CAF_CHECK_EQUAL(secrets_of(load().settings.value), std::vector<std::string>{secret});
}

CAF_TEST(origins are written as browsers send them) {
  for (auto* origin :
       {"*", "https://app.example", "http://localhost:5173", "http://[::1]:8080", "chrome-extension://abc"})
    CAF_CHECK_EQUAL(join(load({}, {"--http.corsOrigins", origin}).errors), "");
  for (auto* origin :
       {"app.example", "https://app.example/", "https://App.example", "https://", "null", "https://*.example"})
    CAF_CHECK(contains(join(load({}, {"--http.corsOrigins", origin}).errors), "is not an origin"));
}

CAF_TEST(TLS needs a certificate and its key) {
  CAF_CHECK_EQUAL(join(load({}, {"--http.tlsCertificate", "c.pem", "--http.tlsKey", "k.pem"}).errors), "");
  auto without_key = join(load({{"SLUICE_HTTP_TLS_CERTIFICATE", "c.pem"}}, {}).errors);
  CAF_CHECK(contains(without_key, "http.tlsKey"));
  CAF_CHECK(contains(without_key, "is empty, but http.tlsCertificate is set"));
  auto without_certificate = join(load({{"SLUICE_HTTP_TLS_KEY", "k.pem"}}, {}).errors);
  CAF_CHECK(contains(without_certificate, "http.tlsCertificate"));
  CAF_CHECK(contains(without_certificate, "is empty, but http.tlsKey is set"));
}

CAF_TEST(the delay before a drain is part of the grace period) {
  auto error = error_of("[supervision]\ndrainDelay = \"6s\"\n");
  CAF_CHECK(contains(error, "supervision.drainDelay"));
  CAF_CHECK(contains(error, "more than half of supervision.gracePeriod"));
  write("[supervision]\ndrainDelay = \"6s\"\ngracePeriod = \"12s\"\n");
  CAF_CHECK_EQUAL(join(load().errors), "");
}

CAF_TEST(SASL needs user and password unless properties bring another mechanism) {
  auto result = load({{"KAFKA_SECURITY_PROTOCOL", "SASL_SSL"}});
  CAF_CHECK_EQUAL(result.errors.size(), 2u);
  auto other = load({{"KAFKA_SECURITY_PROTOCOL", "SASL_SSL"}}, {"--kafka.properties", "sasl.mechanism=OAUTHBEARER"});
  CAF_CHECK_EQUAL(join(other.errors), "");
}

CAF_TEST(the store is named by a URL of a kind that is known) {
  for (const auto* url :
       {"sqlite:/var/lib/x.db", "sqlite::memory:", "postgresql://u:p@h/d", "postgres://h/d", "redis://h:1/2"})
    CAF_CHECK_EQUAL(join(load({{"DATABASE_URL", url}}).errors), "");
  for (const auto* url : {"mysql://h/d", "x.db", "sqlite:", "sqlite:a\"b"})
    CAF_CHECK(contains(join(load({{"DATABASE_URL", url}}).errors), "environment DATABASE_URL: "));
  CAF_CHECK(contains(error_of("store.path = \"\"\n"), "store.path"));
  CAF_CHECK(contains(error_of("node = \"..\"\n"), "node"));
  CAF_CHECK(contains(error_of("outbox.maxBytes = 1\n"), "outbox.maxBytes"));
}

CAF_TEST(each node has a place of its own on disk and the embedded broker none) {
  config cfg;
  cfg.node = "n";
  cfg.store.path = "data";
  CAF_CHECK_EQUAL(node_folder_of(cfg), "data/n");
  CAF_CHECK_EQUAL(store_url_of(cfg), "sqlite:data/n/store.db");
  CAF_CHECK(has_outbox(cfg));
  cfg.embedded_broker = true;
  CAF_CHECK_EQUAL(store_url_of(cfg), "sqlite::memory:");
  CAF_CHECK(!has_outbox(cfg));
  cfg.store.url = "redis://h";
  CAF_CHECK_EQUAL(store_url_of(cfg), "redis://h");
}

CAF_TEST(the audit trail is where the store is unless that keeps no tables) {
  config cfg;
  cfg.node = "n";
  cfg.store.path = "data";
  CAF_CHECK(!has_archive(cfg));
  cfg.report.enabled = true;
  CAF_CHECK(has_archive(cfg));
  CAF_CHECK_EQUAL(archive_url_of(cfg), "sqlite:data/n/audit.db");
  cfg.store.url = "redis://h";
  CAF_CHECK_EQUAL(archive_url_of(cfg), "sqlite:data/n/audit.db");
  for (const auto* url : {"sqlite:/var/lib/x.db", "postgresql://h/d", "postgres://h/d"}) {
    cfg.store.url = url;
    CAF_CHECK_EQUAL(archive_url_of(cfg), url);
  }
  cfg.store.url.clear();
  cfg.embedded_broker = true;
  CAF_CHECK_EQUAL(archive_url_of(cfg), "sqlite::memory:");
  write("report.baseUrl = \"https://events.example.com/sluice\"\n");
  CAF_CHECK_EQUAL(join(load().errors), "");
  for (const auto* url : {"events.example.com", "https://events.example.com/", "javascript:alert(1)"})
    CAF_CHECK(contains(error_of("report.baseUrl = \"" + std::string{url} + "\"\n"), "report.baseUrl: "));
}

CAF_TEST(the password of a URL is a secret) {
  CAF_CHECK_EQUAL(password_in("postgresql://me:p%20w@h:1/d?x=1"), "p%20w");
  CAF_CHECK_EQUAL(password_in("redis://:pw@h"), "pw");
  for (const auto* none : {"", "sqlite:/a:b@c", "redis://h:6379/0", "postgresql://me@h/d", "postgresql://h/a:b@c"})
    CAF_CHECK_EQUAL(password_in(none), "");
  config cfg;
  cfg.store.url = "postgresql://me:hunter2@h/d";
  auto secrets = secrets_of(cfg);
  CAF_CHECK(std::find(secrets.begin(), secrets.end(), "hunter2") != secrets.end());
}

CAF_TEST(variables that Kubernetes makes for a service named sluice are no settings) {
  auto result = load({{"SLUICE_SERVICE_HOST", "10.0.0.1"},
                      {"SLUICE_SERVICE_PORT", "3000"},
                      {"SLUICE_SERVICE_PORT_HTTP", "3000"},
                      {"SLUICE_PORT", "tcp://10.0.0.1:3000"},
                      {"SLUICE_PORT_3000_TCP", "tcp://10.0.0.1:3000"},
                      {"SLUICE_PORT_3000_TCP_ADDR", "10.0.0.1"},
                      {"SLUICE_HTTP_PORT", "tcp://10.0.0.1:3000"}});
  CAF_CHECK_EQUAL(join(result.errors), "");
  CAF_CHECK_EQUAL(result.settings.value.http.port, 3000);
  CAF_CHECK_EQUAL(load({{"SLUICE_PORT", "3000"}}).errors.size(), 1u);
}

CAF_TEST(settings of notifications that cannot work are refused) {
  auto one = [this](const std::string& text) {
    write("[notification]\n" + text + "\n");
    return join(load().errors);
  };
  const std::string mail = "smtpHost = \"mail.example.com\"\nsmtpFrom = \"Shop <shop@example.com>\"\n";
  CAF_CHECK_EQUAL(one(mail), "");
  CAF_CHECK(contains(one("smtpHost = \"mail.example.com\""), "notification.smtpFrom: \"\" is no sender"));
  CAF_CHECK(contains(one("smtpHost = \"mail.example.com:25\"\nsmtpFrom = \"a@b\""), "smtpHost: "));
  CAF_CHECK(contains(one("smtpTo = \"a@b\""), "notification.smtpTo: is set, but no mail server is"));
  CAF_CHECK(contains(one(mail + "smtpUser = \"shop\""), "notification.smtpPassword: is empty"));
  const std::string login = mail + "smtpUser = \"shop\"\nsmtpPassword = \"hunter2\"\n";
  CAF_CHECK_EQUAL(one(login), "");
  CAF_CHECK(contains(one(login + "smtpSecurity = \"none\""), "the password would cross the network"));
  CAF_CHECK(contains(one("smtpSecurity = \"ssl\""), "is not one of starttls, tls, none"));
  CAF_CHECK(contains(one("telegramUrl = \"api.telegram.org\""), "is not a URL"));
  CAF_CHECK(contains(one("telegramToken = \"1/2\""), "notification.telegramToken: holds a character"));
  CAF_CHECK(contains(one("webhookUrl = \"ftp://x\""), "is not a URL"));
  CAF_CHECK_EQUAL(one("webhookSecret = \"whsec_aGVsbG8=\""), "");
  for (const char* bad : {"whsec_", "whsec_a", "whsec_a*cd", "whsec_====", "whsec_a=bc"})
    CAF_CHECK(contains(one(std::string{"webhookSecret = \""} + bad + "\""), "is not Base64"));
  CAF_CHECK(contains(one("innerHosts = [\"http://inner\"]"), "is no host"));
  CAF_CHECK(contains(one("burst = 0"), "nothing could ever be sent"));
}

CAF_TEST(templates that cannot work are refused) {
  auto one = [this](const std::string& text) {
    write("[[templates]]\n" + text + "\n");
    return join(load().errors);
  };
  CAF_CHECK_EQUAL(one("name = \"a\"\nbody = \"{{b.c}}\""), "");
  CAF_CHECK(contains(one("body = \"b\""), "templates[0].name: \"\" is not a name"));
  CAF_CHECK(contains(one("name = \"a\"\nhtml = \"b\""), "templates[0].body: is empty, and so is title"));
  CAF_CHECK(contains(one("name = \"a\"\nbody = \"{{\""), "templates[0].body: \"{{\" is never closed"));
  CAF_CHECK(contains(one("name = \"a\"\ntitle = \"{{a b}}\""), "templates[0].title: {{a b}} is no field"));
  CAF_CHECK(
      contains(one("name = \"a\"\nbody = \"b\"\n[[templates]]\nname = \"a\"\nbody = \"b\""), "names must differ"));
}

CAF_TEST(the secrets of notifications are secrets) {
  variables given{
      {"TELEGRAM_BOT_TOKEN", "1:hunter"}, {"SMTP_HOST", "localhost"},   {"SMTP_FROM", "a@b"}, {"SMTP_USER", "u"},
      {"SMTP_PASS", "hunter2"},           {"WEBHOOK_SECRET", "hunter3"}};
  auto result = load(given);
  CAF_REQUIRE_EQUAL(join(result.errors), "");
  CAF_CHECK_EQUAL(secrets_of(result.settings.value), (std::vector<std::string>{"1:hunter", "hunter2", "hunter3"}));
  CAF_CHECK(!contains(render(result.settings), "hunter"));
}

CAF_TEST(what is rendered is TOML that loads to the same and hides secrets) {
  write(
      "[kafka.properties]\nssl.key.password = \"hunter2\"\nsasl.jaas.config = \"x password=hunter2;\"\nacks = \"all\"\n"
      "[[aggregations]]\nname = \"a\\\"b\"\n");
  variables secrets{{"SLUICE_TOKEN", "hunter2"}, {"KAFKA_SASL_PASSWORD", "hunter2"}};
  auto text = render(load(secrets, {"--sse.topics", "t,u"}).settings);
  CAF_CHECK(!contains(text, "hunter2"));
  CAF_CHECK(contains(text, "token = \"***\"  # environment SLUICE_TOKEN\n"));
  CAF_CHECK(contains(text, "saslPassword = \"***\"  # environment KAFKA_SASL_PASSWORD\n"));
  CAF_CHECK(contains(text, "\"ssl.key.password\" = \"***\"  # sluice.toml:2\n"));
  CAF_CHECK(contains(text, "topics = [\"t\", \"u\"]  # flag --sse.topics\n"));
  CAF_CHECK(contains(text, "heartbeat = \"15s\"  # default\n"));

  auto without_secrets = load({}, {"--config", "none.toml", "--sse.topics", "t,u", "--kafka.properties", "acks=all"});
  auto before = render(without_secrets.settings);
  write(before, "again.toml");
  auto again = load({}, {"--config", "again.toml"});
  CAF_REQUIRE_EQUAL(join(again.errors), "");
  auto without_sources = [](const std::string& rendered) {
    std::istringstream lines{rendered};
    std::string result;
    for (std::string line; std::getline(lines, line);)
      result += line.substr(0, line.find("  # ")) + "\n";
    return result;
  };
  CAF_CHECK_EQUAL(without_sources(render(again.settings)), without_sources(before));
}

CAF_TEST(a printed mask is not taken for a secret) {
  CAF_CHECK(contains(error_of("token = \"***\"\n"), "sluice.toml:1: token: is the mask"));
  CAF_CHECK(contains(error_of("[kafka.properties]\nssl.key.password = \"***\"\n"),
                     "sluice.toml:2: kafka.properties.ssl.key.password: is the mask"));
}

CAF_TEST(no error shows a secret) {
  write("token = 42\n[kafka]\nsaslPassword = [\"hunter2\"]\n");
  auto result = load({{"SLUICE_TOKEN", "hunter2 hunter2"}},
                     {"--tokn", "hunter2", "--kafka.properties", "hunter2", "--sasl=hunter2"});
  CAF_MESSAGE(join(result.errors));
  CAF_CHECK(!contains(join(result.errors), "hunter2"));
  CAF_CHECK(!contains(join(result.errors), "42"));
}

CAF_TEST(rendered channels load to the same) {
  CAF_CHECK(!contains(render(load().settings), "channels"));
  write("[[channels]]\nname = \"{topic}\"\ntopics = [\"a\", \"b.*\"]\n[[channels]]\nname = \"{value}\"\ntopics = "
        "\"a\"\nheader = \"user\"\nretention = 0\n");
  auto text = render(load().settings);
  CAF_CHECK(contains(text, "\n[[channels]]\nname = \"{topic}\"  # sluice.toml:2\ntopics = [\"a\", \"b.*\"]  # sluice"));
  CAF_CHECK(contains(text, "retention = \"0ms\"  # sluice.toml:8\n"));
  write(text, "again.toml");
  auto again = load({}, {"--config", "again.toml"});
  CAF_REQUIRE_EQUAL(join(again.errors), "");
  CAF_REQUIRE_EQUAL(again.settings.value.channels.size(), 2u);
  CAF_CHECK_EQUAL(again.settings.value.channels[0].topics, (std::vector<std::string>{"a", "b.*"}));
  CAF_CHECK_EQUAL(again.settings.value.channels[1].header, "user");
  CAF_CHECK(again.settings.value.channels[1].retention == 0s);
}

CAF_TEST(rendering no aggregations loads to none) {
  write("aggregations = []\n");
  write(render(load().settings), "again.toml");
  auto again = load({}, {"--config", "again.toml"});
  CAF_CHECK_EQUAL(join(again.errors), "");
  CAF_CHECK(again.settings.value.aggregations.empty());
}

CAF_TEST_FIXTURE_SCOPE_END()

CAF_TEST(the command line knows its subcommands and helps) {
  CAF_CHECK_EQUAL(parse({"serve"}).command, "serve");
  CAF_CHECK_EQUAL(parse({"version"}).command, "version");
  CAF_CHECK_EQUAL(parse({"--version"}).command, "version");
  CAF_CHECK(parse({"config", "--options"}).list_options);
  auto help = parse({"serve", "--help"});
  CAF_CHECK_EQUAL(help.command, "");
  CAF_CHECK_EQUAL(help.exit_code, 0);
  for (const auto& opt : options())
    CAF_CHECK_EQUAL(contains(help.text, "--" + opt.key), !is_file_only(opt));
  CAF_CHECK(contains(help.text, "[[channels]] is set by the file only"));
  for (const auto& wrong : {std::vector<const char*>{}, {"srve"}, {"serve", "--port"}}) {
    auto line = parse(wrong);
    CAF_CHECK_EQUAL(line.command, "");
    CAF_CHECK_EQUAL(line.exit_code, 2);
    CAF_CHECK(!line.text.empty());
  }
  CAF_CHECK(contains(parse({"srve"}).text, "did you mean `sluice serve`?"));
  CAF_CHECK(contains(parse({"--port", "3"}).text, "flags stand after the command"));
}

CAF_TEST(a value in brackets stays as it is) {
  CAF_CHECK_EQUAL(text_of_flag({"serve", "--token", "[a,b]"}, "token"), "[a,b]");
  CAF_CHECK_EQUAL(text_of_flag({"serve", "--node", ""}, "node"), "");
}

CAF_TEST(two spellings of one flag are an error and of one spelling the last counts) {
  CAF_CHECK_EQUAL(join(parse({"serve", "--port", "1", "--http.port", "2"}).flags.errors),
                  "flag --http.port: is given as --port too; keep one\n");
  CAF_CHECK_EQUAL(text_of_flag({"serve", "--port", "1", "--port", "2"}, "http.port"), "2");
}

CAF_TEST(docs configuration has the row of every option) {
  auto docs = read_text(SLUICE_SOURCE_DIR "/docs/configuration.md");
  std::istringstream rows{options_markdown()};
  for (std::string row; std::getline(rows, row);)
    if (!row.empty() && !contains(docs, row + "\n"))
      CAF_ERROR("not in docs/configuration.md (`sluice config --options` prints the tables): " << row);
}
