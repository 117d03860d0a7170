#include "app/dlq_command.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string_view>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <nlohmann/json.hpp>

#include "sluice/ascii.hpp"
#include "sluice/error.hpp"

namespace sluice {

namespace {

using nlohmann::json;

constexpr int failed = 1;
constexpr int wrong_usage = 2;
constexpr std::size_t ids_a_request = 1000;

// -- text for people --------------------------------------------------------------------------------------------------

/// What others wrote must not move the cursor or change colours.
std::string printable(std::string_view text, std::size_t most = std::string::npos) {
  std::string out;
  unsigned char before = 0;
  for (char c : text.substr(0, most)) {
    auto byte = static_cast<unsigned char>(c);
    if (before == 0xc2 && byte >= 0x80 && byte <= 0x9f) // U+0080 to U+009F, which terminals obey too
      out.back() = '?';
    else if (byte >= 0x20 && byte != 0x7f)
      out += c;
    else
      out += c == '\n' || c == '\t' ? ' ' : '?';
    before = byte;
  }
  return out + (text.size() > most ? "…" : "");
}

std::string time_text(const json& ms) {
  if (!ms.is_number_integer() || ms.get<int64_t>() < 0)
    return "-";
  auto seconds = static_cast<std::time_t>(ms.get<int64_t>() / 1000);
  std::tm parts{};
  std::array<char, 32> text{};
  if (gmtime_r(&seconds, &parts) == nullptr ||
      std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
    return "-";
  return text.data();
}

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "-" : value.dump();
}

std::string member(const json& from, const char* name) {
  auto it = from.find(name);
  return it == from.end() ? "-" : text_of(*it);
}

std::string place_of(const json& where) {
  return where.is_object() ? member(where, "topic") + "/" + member(where, "partition") + "/" + member(where, "offset")
                           : "-";
}

/// Columns as wide as their widest cell; the last one is not filled up.
void print_table(std::ostream& out, const std::vector<std::vector<std::string>>& rows) {
  auto width_of = [](const std::string& text) { // in characters
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  };
  std::vector<std::size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], width_of(row[i]));
  for (const auto& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i)
      out << row[i] << std::string(widths[i] - width_of(row[i]) + 2, ' ');
    out << row.back() << "\n";
  }
}

// -- asking -----------------------------------------------------------------------------------------------------------

std::string encode(std::string_view text) {
  std::string out;
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (is_letter_or_digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      std::array<char, 4> code{};
      std::snprintf(code.data(), code.size(), "%%%02X", byte);
      out += code.data();
    }
  }
  return out;
}

/// What a problem's body says.
std::string detail_of(const outbound::api_answer& answer) {
  auto body = json::parse(answer.body, nullptr, false);
  auto detail = body.is_object() ? body.value("detail", "") : "";
  return detail.empty() ? "the server answered " + std::to_string(answer.status) : detail;
}

/// The answer's document, where it is a good one. Else says why not.
std::optional<json> ask(const api_call& call, const std::string& path, std::ostream& err, std::string& body) {
  auto answer = call("GET", path, "");
  if (!answer) {
    err << "sluice: " << sluice::text_of(answer.error()) << "\n";
    return std::nullopt;
  }
  if (answer->status != 200) {
    err << "sluice: " << printable(detail_of(*answer)) << "\n";
    return std::nullopt;
  }
  auto document = json::parse(answer->body, nullptr, false);
  if (!document.is_object()) {
    err << "sluice: the server's answer is not what this program expects; are they of one version?\n";
    return std::nullopt;
  }
  body = std::move(answer->body);
  return document;
}

std::string query_of(const dlq_command& command) {
  std::string query;
  auto add = [&query](const std::string& name, const std::string& value) {
    query += (query.empty() ? "?" : "&") + name + "=" + encode(value);
  };
  for (const auto& [name, value] : command.filter)
    add(name, value);
  if (command.limit > 0)
    add("limit", std::to_string(command.limit));
  if (!command.after.empty())
    add("after", command.after);
  return query;
}

void print_topics(std::ostream& out, const json& answer) {
  const auto topics = answer.value("topics", json::array());
  if (topics.empty()) {
    out << "no dead-letter topics\n";
    return;
  }
  std::vector<std::vector<std::string>> rows{{"TOPIC", "LETTERS", "REDRIVEN", "OLDEST", "NEWEST", "ERRORS"}};
  for (const auto& one : topics) {
    std::string errors;
    const auto counts = one.value("errors", json::object()); // `items` keeps no copy
    for (const auto& [code, count] : counts.items())
      errors += (errors.empty() ? "" : ", ") + printable(code) + " " + count.dump();
    if (!one.value("complete", true))
      errors += errors.empty() ? "…" : ", …";
    rows.push_back({member(one, "topic"), member(one, "letters"), member(one, "redriven"),
                    time_text(one.value("oldest", json())), time_text(one.value("newest", json())), errors});
  }
  print_table(out, rows);
  if (answer.contains("leftOut"))
    out << "and " << member(answer, "leftOut") << " more topics; look into each by its name\n";
}

void print_letters(std::ostream& out, const dlq_command& command, const json& page) {
  std::vector<std::vector<std::string>> rows{
      {"ID", "TIME", "ERROR", "PROCESSOR", "ATTEMPTS", "REDRIVEN", "KEY", "REASON"}};
  for (const auto& one : page.value("letters", json::array())) {
    auto redriven = one.value("redriven", json());
    rows.push_back({member(one, "id"), time_text(one.value("timestamp", json())), printable(member(one, "error"), 30),
                    printable(member(one, "processor"), 30), member(one, "attempts"),
                    redriven.is_object() ? time_text(redriven.value("at", json())) : "-",
                    printable(member(one, "key"), 30), printable(member(one, "reason"), 80)});
  }
  if (rows.size() > 1)
    print_table(out, rows);
  else
    out << (page.value("complete", true) ? "no letters\n" : "no letters so far\n");
  if (!page.value("complete", true))
    out << "more: sluice dlq list " << command.topic << " --after " << member(page, "after") << "\n";
}

void print_letter(std::ostream& out, const json& letter) {
  std::vector<std::vector<std::string>> rows;
  auto add = [&rows](const char* name, const std::string& value) { rows.push_back({name, printable(value)}); };
  add("letter", member(letter, "topic") + " " + member(letter, "id"));
  add("time", time_text(letter.value("timestamp", json())));
  add("origin", place_of(letter.value("origin", json())));
  add("processor", member(letter, "processor"));
  add("error", member(letter, "error"));
  add("reason", member(letter, "reason"));
  add("attempts", member(letter, "attempts"));
  if (letter.contains("missing"))
    add("missing", member(letter, "missing"));
  add("first failure", time_text(letter.value("firstFailure", json())));
  add("last failure", time_text(letter.value("lastFailure", json())));
  add("event id", member(letter, "eventId"));
  add("redrives", member(letter, "redrives"));
  if (auto redriven = letter.value("redriven", json()); redriven.is_object())
    add("redriven", time_text(redriven.value("at", json())) + " by " + member(redriven, "by") + " to " +
                        place_of(redriven.value("to", json())));
  add("key", member(letter, "key") + (member(letter, "keyEncoding") == "base64" ? " (base64)" : ""));
  for (const auto& header : letter.value("headers", json::array()))
    add("header",
        member(header, "name") + ": " + member(header, "value") + (header.contains("encoding") ? " (base64)" : ""));
  add("value", member(letter, "valueBytes") + " bytes, " + member(letter, "valueEncoding"));
  print_table(out, rows);
  auto value = letter.value("value", json());
  if (!value.is_null())
    out << "\n"
        << (value.is_string() && member(letter, "valueEncoding") != "json" ? printable(value.get<std::string>())
                                                                           : value.dump(2, ' ', true))
        << "\n";
}

int list(const dlq_command& command, const api_call& call, std::ostream& out, std::ostream& err) {
  std::string body;
  auto path = "/kafka/dlq" + (command.topic.empty() ? "" : "/" + encode(command.topic) + query_of(command));
  auto answer = ask(call, path, err, body);
  if (!answer)
    return failed;
  if (command.remote.json)
    out << body << "\n";
  else if (command.topic.empty())
    print_topics(out, *answer);
  else
    print_letters(out, command, *answer);
  return 0;
}

int show(const dlq_command& command, const api_call& call, std::ostream& out, std::ostream& err) {
  std::string body;
  auto answer = ask(call, "/kafka/dlq/" + encode(command.topic) + "/" + encode(command.ids.front()), err, body);
  if (!answer)
    return failed;
  if (command.remote.json)
    out << body << "\n";
  else
    print_letter(out, answer->value("letter", json::object()));
  return 0;
}

// -- redrive ----------------------------------------------------------------------------------------------------------

/// The filter as the API has it in bodies: times are numbers, `redriven` a boolean.
json filter_json(const std::map<std::string, std::string>& filter) {
  json out = json::object();
  for (const auto& [name, value] : filter)
    out[name] = name == "from" || name == "to" || name == "redriven" ? json::parse(value, nullptr, false) : json(value);
  return out;
}

/// Sends request after request until all letters were handled.
class redriving {
public:
  redriving(const dlq_command& command, const api_call& call, std::ostream& err)
      : command_(command), call_(call), err_(err) {}

  /// False: something kept it from going on, and was said.
  bool run(const std::optional<std::string>& value) {
    json body{{"dryRun", command_.dry_run}, {"again", command_.again}};
    if (command_.rate > 0)
      body["rate"] = command_.rate;
    if (value)
      body["value"] = *value;
    return command_.ids.empty() ? by_filter(std::move(body)) : by_ids(std::move(body));
  }

  std::size_t done = 0, failures = 0, skipped = 0;
  json results = json::array();

private:
  bool by_ids(json body) {
    auto left = command_.ids;
    while (!left.empty()) {
      auto count = std::min(left.size(), ids_a_request);
      body["ids"] = std::vector<std::string>(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count));
      left.erase(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(count));
      auto answer = send(body);
      if (!answer)
        return false;
      std::size_t reached = 0;
      for (auto& one : (*answer)["results"]) {
        if (member(one, "error") == "not_reached") {
          left.push_back(member(one, "id"));
        } else {
          ++reached;
          take(std::move(one));
        }
      }
      if (reached == 0 || stuck_)
        return stop(*answer);
    }
    return true;
  }

  bool by_filter(json body) {
    body["filter"] = filter_json(command_.filter);
    if (!command_.after.empty())
      body["after"] = command_.after;
    for (;;) {
      if (command_.limit > 0)
        body["limit"] = std::min<std::size_t>(command_.limit - (done + failures), ids_a_request);
      auto answer = send(body);
      if (!answer)
        return false;
      for (auto& one : (*answer)["results"])
        take(std::move(one));
      skipped += answer->value("skipped", std::size_t{0});
      if (answer->value("complete", true) || (command_.limit > 0 && done + failures >= command_.limit))
        return true;
      if (stuck_ || !answer->contains("after") || body.value("after", std::string{}) == member(*answer, "after"))
        return stop(*answer);
      body["after"] = (*answer)["after"];
      body["filter"]["to"] = (*answer)["to"]; // letters that come back meanwhile are not meant
    }
  }

  bool stop(const json& answer) {
    err_ << "sluice: " << printable(answer.value("detail", "the server did not get any further"))
         << "; the same command goes on where this one ended\n";
    return false;
  }

  std::optional<json> send(const json& body) {
    auto answer = call_("POST", "/kafka/dlq/" + encode(command_.topic) + "/redrive",
                        body.dump(-1, ' ', false, json::error_handler_t::replace));
    if (!answer) {
      err_ << "sluice: " << sluice::text_of(answer.error()) << "\n";
      return std::nullopt;
    }
    auto document = json::parse(answer->body, nullptr, false);
    if (document.is_object() && document.contains("results") && document["results"].is_array())
      return document;
    err_ << "sluice: " << printable(detail_of(*answer)) << "\n";
    return std::nullopt;
  }

  void take(json result) {
    if (result.value("ok", false)) {
      ++done;
    } else {
      ++failures;
      auto error = member(result, "error");
      stuck_ = stuck_ || error == "delivery_timeout" || error == "kafka_unreachable" || error == "queue_full" ||
               error == "shutting_down";
    }
    results.push_back(std::move(result));
  }

  const dlq_command& command_;
  const api_call& call_;
  std::ostream& err_;
  bool stuck_ = false; ///< Kafka does not take records now: to go on would only wait.
};

bool is_text(const std::string& value) {
  try {
    static_cast<void>(json(value).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

std::optional<std::string> read_value(const dlq_command& command, std::ostream& err, bool& wrong) {
  if (command.value_file.empty())
    return command.value;
  std::ifstream file;
  if (command.value_file != "-")
    file.open(command.value_file, std::ios::binary);
  auto& from = command.value_file == "-" ? std::cin : file;
  if (!from) {
    err << "sluice: --value-file: \"" << command.value_file << "\" cannot be read\n";
    wrong = true;
    return std::nullopt;
  }
  return std::string{std::istreambuf_iterator<char>{from}, {}};
}

int redrive(const dlq_command& command, const api_call& call, std::ostream& out, std::ostream& err) {
  auto usage = [&err](const char* text) {
    err << "sluice: " << text << "; see `sluice dlq redrive --help`\n";
    return wrong_usage;
  };
  if (int ways = (command.ids.empty() ? 0 : 1) + (command.filter.empty() ? 0 : 1) + (command.all ? 1 : 0); ways != 1)
    return usage("say which letters: their ids, or a filter such as --error, or --all");
  if (command.value && !command.value_file.empty())
    return usage("--value and --value-file exclude each other");
  auto edits = command.value || !command.value_file.empty();
  if (edits && command.ids.size() != 1)
    return usage("--value and --value-file go with exactly one id");
  if (!command.after.empty() && !command.ids.empty())
    return usage("--after goes with a filter or --all");
  auto wrong = false;
  auto value = read_value(command, err, wrong);
  if (wrong)
    return wrong_usage;
  if (value && !is_text(*value))
    return usage("the value is not UTF-8, which is all that can be sent here");
  redriving work{command, call, err};
  auto well = work.run(value) && work.failures == 0;
  if (command.remote.json) {
    out << json{{"ok", well},
                {"topic", command.topic},
                {"dryRun", command.dry_run},
                {"redriven", work.done},
                {"failed", work.failures},
                {"skipped", work.skipped},
                {"results", work.results}}
               .dump(-1, ' ', false, json::error_handler_t::replace)
        << "\n";
    return well ? 0 : failed;
  }
  for (const auto& one : work.results)
    if (!one.value("ok", false))
      out << member(one, "id") << ": " << printable(member(one, "error")) << ": " << printable(member(one, "detail"))
          << "\n";
    else if (one.contains("warning"))
      out << member(one, "id") << ": " << printable(member(one, "warning")) << "\n";
  out << (command.dry_run ? "would send back " : "sent back ") << work.done << ", not " << work.failures;
  if (work.skipped > 0)
    out << ", sent back before " << work.skipped << " (--again sends them once more)";
  out << "\n";
  return well ? 0 : failed;
}

void add_filter(CLI::App& command, dlq_command& into) {
  auto add = [&](const char* name, const char* help) {
    command
        .add_option_function<std::string>(
            std::string{"--"} + name, [&into, name](const std::string& text) { into.filter[name] = text; }, help)
        ->type_name("TEXT")
        ->group("Filter");
    return command.get_option(std::string{"--"} + name);
  };
  add("error", "Error code, such as rejected");
  add("processor", "Who gave up");
  add("key", "The record's key");
  add("text", "Found in key, value or reason");
  auto is_time = [](const std::string& text) {
    auto digits = !text.empty() && text.size() <= 15 && std::all_of(text.begin(), text.end(), is_digit);
    return digits ? std::string{} : "must be a time in Unix milliseconds";
  };
  for (const auto* name : {"from", "to"})
    add(name, name[0] == 'f' ? "Dead letters since then, in Unix milliseconds" : "... until then")
        ->check(is_time)
        ->type_name("MS");
  add("redriven", "true: those that were sent back before; false: the others")
      ->check([](const std::string& text) {
        return text == "true" || text == "false" ? std::string{} : "must be true or false";
      })
      ->type_name("BOOL");
}

void add_remote(CLI::App& command, remote_options& into, std::string& config_file) {
  command.add_option("--url", into.url, "The server. Default: where the configuration has it listen")->type_name("URL");
  command.add_option("--cacert", into.ca_file, "PEM file of the CA to trust with https")->type_name("F");
  command.add_option("--config", config_file, "Configuration file. Default: sluice.toml, if there")->type_name("F");
  command.add_flag("--json", into.json, "Print JSON, as the server gives it");
  command.footer("The token is taken from SLUICE_TOKEN or the configuration (token); it needs the role admin.\n"
                 "Exit codes: 0 well, 1 refused, not reached or not all done, 2 wrong command line.");
}

} // namespace

CLI::App* add_dlq_command(CLI::App& app, dlq_command& into, std::string& config_file) {
  auto* dlq = app.add_subcommand("dlq", "Look into dead letters and send them back, on a running server");
  dlq->require_subcommand(1);
  auto begin = [&](const char* name, const char* help) {
    auto* command = dlq->add_subcommand(name, help);
    command->callback([&into, name] { into.action = name; });
    add_remote(*command, into.remote, config_file);
    return command;
  };
  auto paging = [&into](CLI::App& command, const char* limit) {
    command.add_option("--limit", into.limit, limit)->type_name("N")->check(CLI::Range(1, 1000000000));
    command.add_option("--after", into.after, "Only letters behind this one")->type_name("ID");
  };
  auto* list = begin("list", "List dead-letter topics, or the letters of one");
  list->add_option("topic", into.topic, "Dead-letter topic, such as orders.dlq; without it: all topics");
  add_filter(*list, into);
  paging(*list, "Letters, 1 to 1000; 100 by default");

  auto* show = begin("show", "Show one letter whole");
  show->add_option("topic", into.topic, "Dead-letter topic")->required();
  show->add_option("id", into.ids, "Its id, such as 0-17")->required()->expected(1);

  auto* redrive = begin("redrive", "Send letters back to where they came from");
  redrive->add_option("topic", into.topic, "Dead-letter topic")->required();
  redrive->add_option("ids", into.ids, "Ids of letters, such as 0-17");
  add_filter(*redrive, into);
  redrive->add_flag("--all", into.all, "All letters")->group("Filter");
  paging(*redrive, "Letters, at most");
  redrive->add_flag("--dry-run", into.dry_run, "Only say what would be done");
  redrive->add_flag("--again", into.again, "Also letters that were sent back before");
  redrive->add_option("--rate", into.rate, "Records a second, at most")->type_name("N")->check(CLI::Range(1, 100000));
  redrive->add_option("--value", into.value, "Send this value instead; with exactly one id")->type_name("TEXT");
  redrive->add_option("--value-file", into.value_file, "The same from a file; - is standard input")->type_name("F");
  return dlq;
}

int run_dlq(const dlq_command& command, const api_call& call, std::ostream& out, std::ostream& err) {
  if (command.action == "show")
    return show(command, call, out, err);
  return command.action == "list" ? list(command, call, out, err) : redrive(command, call, out, err);
}

} // namespace sluice
