/// Text out of documents. Nothing outside src/parsing knows how.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "sluice/config.hpp"
#include "sluice/ports.hpp"

namespace sluice::parsing {

/// A parser for all types that `sniff_document` names. Of PDF, JSON and CSV it takes little more than
/// `max_document_text`.
document_parser make_parser(const documents_config& cfg);

// -- the parts, for tests; all but `pdf_text` are pure ----------------------------------------------------------------

/// UTF-8 of UTF-8 or, by its byte order mark, UTF-16, without the mark; `rejected` for any other encoding.
caf::expected<std::string> to_utf8(std::string_view bytes);

/// Line ends as LF, at most one empty line and one blank after the other, no control characters, nothing at the ends.
std::string tidy(std::string_view text);

/// What a reader of a page sees, its title first: without script, style and comments; references are resolved.
std::string html_text(std::string_view html);

/// Markdown without its marks: headings, emphasis, code, targets of links.
std::string markdown_text(std::string_view markdown);

/// Each value a line, with its name: "address/city: Oslo". `rejected` where it is no JSON or nested too deep.
caf::expected<std::string> json_text(std::string_view json);

/// Each row a line, each field with its column's name: "name: Ann; city: Oslo". The separator (, ; tab |) is that of
/// the first line. `rejected` where a quote does not end.
caf::expected<std::string> csv_text(std::string_view csv);

/// Runs Debian's pdftotext on it, in a process of its own without rights, files and network of ours, with bounds on
/// memory, CPU time and output: it ends behind `max_document_text`. `rejected`: damaged, encrypted, or
/// too much for the bounds.
caf::expected<std::string> pdf_text(const std::string& program, std::string_view pdf,
                                    std::chrono::milliseconds cpu_time, const std::function<bool()>& cancelled);

/// The path of a program in PATH; "" where there is none.
std::string find_program(std::string_view name);

} // namespace sluice::parsing
