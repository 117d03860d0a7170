#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "http/server.hpp"
#include "http/url.hpp"

namespace sluice::http {

namespace {

/// "/a/b", "a/b" and "/a/b/" are the same; "/" has no parts.
std::vector<std::string_view> split_path(std::string_view path) {
  if (path.starts_with('/'))
    path.remove_prefix(1);
  if (path.ends_with('/'))
    path.remove_suffix(1);
  std::vector<std::string_view> out;
  while (!path.empty()) {
    auto slash = path.find('/');
    out.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos)
      break;
    path.remove_prefix(slash + 1);
    if (path.empty())
      out.emplace_back();
  }
  return out;
}

bool is_parameter(const std::string& part) {
  return part.starts_with(':');
}

/// The values of the parameters, or nothing where the path is another one. Empty parts are no parameter values.
std::optional<std::map<std::string, std::string>> match_parts(const std::vector<std::string>& pattern,
                                                              const std::vector<std::string_view>& path) {
  if (pattern.size() != path.size())
    return std::nullopt;
  std::map<std::string, std::string> params;
  for (size_t i = 0; i < pattern.size(); ++i) {
    // Decoded part by part, so that an encoded slash stays inside its part.
    auto part = percent_decode(path[i]);
    if (!part)
      return std::nullopt;
    if (is_parameter(pattern[i])) {
      if (part->empty())
        return std::nullopt;
      params.insert_or_assign(pattern[i].substr(1), std::move(*part));
    } else if (*part != pattern[i]) {
      return std::nullopt;
    }
  }
  return params;
}

/// Whether `a` says more by words than `b`, from the left: "/topics/mine" before "/topics/:topic".
bool is_more_specific(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (is_parameter(a[i]) != is_parameter(b[i]))
      return is_parameter(b[i]);
  return false;
}

router::route make_route(std::string method, std::string_view pattern) {
  router::route out;
  out.method = std::move(method);
  for (auto part : split_path(pattern))
    out.parts.emplace_back(part);
  return out;
}

} // namespace

std::string_view request::header(const std::string& lower_case_name) const {
  auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view{} : std::string_view{found->second};
}

void router::add(std::string method, const std::string& pattern, handler fn, uint32_t max_body_bytes) {
  auto& added = routes_.emplace_back(make_route(std::move(method), pattern));
  added.answer = std::move(fn);
  added.max_body_bytes = max_body_bytes;
}

uint32_t router::largest_body() const {
  uint32_t largest = 0;
  for (const auto& each : routes_)
    largest = std::max(largest, each.max_body_bytes);
  return largest;
}

void router::add_stream(const std::string& pattern, stream_handler fn, stream_check check) {
  auto& added = routes_.emplace_back(make_route("GET", pattern));
  added.stream = std::move(fn);
  added.check = std::move(check);
}

void router::add_socket(const std::string& pattern, stream_handler fn, stream_check check) {
  add_stream(pattern, std::move(fn), std::move(check));
  routes_.back().protocol = stream_protocol::websocket;
}

router::match router::find(std::string_view method, std::string_view path) const {
  match out;
  std::set<std::string> methods;
  auto parts = split_path(path);
  for (const auto& candidate : routes_) {
    auto params = match_parts(candidate.parts, parts);
    if (!params)
      continue;
    methods.insert(candidate.method);
    auto exact = candidate.method == method;
    if (!exact && !(method == "HEAD" && candidate.method == "GET"))
      continue;
    // HEAD is answered by GET unless it has a route of its own.
    auto better = out.found == nullptr || is_more_specific(candidate.parts, out.found->parts) ||
                  (candidate.parts == out.found->parts && exact && out.found->method != method);
    if (better) {
      out.found = &candidate;
      out.params = std::move(*params);
    }
  }
  if (methods.empty())
    return out;
  if (methods.contains("GET"))
    methods.insert("HEAD");
  methods.insert("OPTIONS");
  for (const auto& allowed : methods)
    out.allow += (out.allow.empty() ? "" : ", ") + allowed;
  return out;
}

std::vector<std::string> router::list() const {
  std::vector<std::string> out;
  for (const auto& each : routes_) {
    auto line = each.method + " ";
    for (const auto& part : each.parts)
      line += "/" + part;
    out.push_back(each.parts.empty() ? line + "/" : line);
  }
  return out;
}

} // namespace sluice::http
