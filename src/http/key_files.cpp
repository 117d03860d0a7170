#include "http/key_files.hpp"

#include <fstream>

namespace sluice::http {

namespace {
constexpr size_t max_file_bytes = 4194304;
} // namespace

caf::error wrong_option(const std::string& option, const std::string& text) {
  return make_failure(ec::invalid_config, option + ": " + text);
}

caf::expected<std::string> read_key_file(const std::string& option, const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  std::string text(max_file_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad())
    return wrong_option(option, "\"" + path + "\" cannot be read; is it there, and may this user read it?");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > max_file_bytes)
    return wrong_option(option, "\"" + path + "\" is larger than 4 MiB");
  return text;
}

} // namespace sluice::http
