// Text out of documents of all types, good and bad.
#define CAF_SUITE parsing

#include "parsing/parsing.hpp"

#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <caf/test/unit_test.hpp>
#include <rapidcheck.h>

#include "sluice/error.hpp"
#include "sluice/utf8.hpp"

using namespace sluice;
using namespace sluice::parsing;

namespace {

std::string parsed(const std::string& type, const std::string& bytes) {
  auto text = make_parser({})(type, bytes, [] { return false; });
  return text ? text->text : describe(text.error());
}

/// A PDF of one page with this content stream and further objects.
std::string pdf(const std::string& content, const std::string& filter = {}, const std::string& trailer = {}) {
  std::string out = "%PDF-1.4\n";
  std::vector<size_t> places;
  auto add = [&](const std::string& object) {
    places.push_back(out.size());
    out += std::to_string(places.size()) + " 0 obj\n" + object + "\nendobj\n";
  };
  add("<</Type/Catalog/Pages 2 0 R>>");
  add("<</Type/Pages/Kids[3 0 R]/Count 1>>");
  add("<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>");
  add("<</Length " + std::to_string(content.size()) + filter + ">>\nstream\n" + content + "\nendstream");
  add("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>");
  auto table = out.size();
  out += "xref\n0 6\n0000000000 65535 f \n";
  for (auto place : places) {
    auto number = std::to_string(place);
    out += std::string(10 - number.size(), '0') + number + " 00000 n \n";
  }
  return out + "trailer\n<</Size 6/Root 1 0 R" + trailer + ">>\nstartxref\n" + std::to_string(table) + "\n%%EOF\n";
}

bool has_pdftotext() {
  if (!find_program("pdftotext").empty())
    return true;
  CAF_MESSAGE("SKIPPED: no pdftotext");
  return false;
}

/// A program that stands in for pdftotext.
std::string script(const std::string& what) {
  auto path = "/tmp/sluice-parsing-" + std::to_string(getpid()) + ".sh";
  auto* file = fopen(path.c_str(), "w");
  fputs(("#!/bin/sh\n" + what + "\n").c_str(), file);
  fclose(file);
  chmod(path.c_str(), 0700);
  return path;
}

} // namespace

CAF_TEST(text is taken in UTF 8 and UTF 16 and in nothing else) {
  CAF_CHECK_EQUAL(parsed("text/plain", "Gr\xc3\xbc\xc3\x9f"
                                       "e"),
                  "Gr\xc3\xbc\xc3\x9f"
                  "e");
  CAF_CHECK_EQUAL(parsed("text/plain", "\xef\xbb\xbfhi"), "hi");
  CAF_CHECK_EQUAL(parsed("text/plain", std::string{"\xff\xfeh\0i\0\xac\x20", 8}), "hi\xe2\x82\xac");
  CAF_CHECK_EQUAL(parsed("text/plain", std::string{"\xfe\xff\0h\xd8\x3d\xde\x00", 8}), "h\xf0\x9f\x98\x80");
  CAF_CHECK_EQUAL(parsed("text/plain", std::string{"\xfe\xff\xd8\x3d\0x", 6}), "\xef\xbf\xbdx"); // half a pair
  auto latin = parsed("text/plain", "Gr\xfc\xdf"
                                    "e");
  CAF_CHECK(latin.starts_with("rejected: the text is neither UTF-8 nor UTF-16"));
  CAF_CHECK(latin.find("iconv") != std::string::npos);
}

CAF_TEST(an empty document is refused with a reason) {
  for (const auto* type : {"text/plain", "text/html", "text/markdown", "text/csv"})
    for (const auto* text : {"", " \n\t\r\n", "\x1b"})
      CAF_CHECK_EQUAL(parsed(type, text), "rejected: the document is empty: there is no text in it");
  CAF_CHECK_EQUAL(parsed("text/html", "<script>x</script><!-- y -->"),
                  "rejected: the document is empty: there is no text in it");
  CAF_CHECK_EQUAL(parsed("application/json", "{}"), "rejected: the document is empty: there is no text in it");
}

CAF_TEST(blanks and lines are tidied) {
  CAF_CHECK_EQUAL(tidy("  a  b\t c \r\n\r\n\r\n\r\nd\re\x01\x02"
                       "f \n"),
                  "a b c\n\nd\nef");
  CAF_CHECK_EQUAL(tidy("a\xc2\xa0\xc2\xa0"
                       "b"),
                  "a b");
}

CAF_TEST(of a page only what is seen is taken) {
  CAF_CHECK_EQUAL(parsed("text/html",
                         "<!DOCTYPE html><html><head><title>Ti &amp; tle</title><style>p{color:red}</style>"
                         "<script>if (a<b) alert('</p>')</script></head><body><h1>One</h1><p>a <b>b</b>c&#33;"
                         "&#x20AC;&nbsp;d<!-- <p>hidden</p> --></p><table><tr><td>1<td>2</table></body>"),
                  "Ti & tle\n\nOne\n\na bc!\xe2\x82\xac d\n\n1 2");
  CAF_CHECK_EQUAL(parsed("text/html", "a < b &unknown; &#xD800; &"), "a < b &unknown; \xef\xbf\xbd &");
  CAF_CHECK_EQUAL(parsed("text/html", "<p title=\"a > b\">x</p>"), "x");
  CAF_CHECK_EQUAL(parsed("text/html", "x<script>never closed"), "x");
  CAF_CHECK_EQUAL(parsed("text/html", "x<p"), "x");
  CAF_CHECK_EQUAL(parsed("text/html", "a<svg href='b'/><b>b</b><svg><text>c</text></svg> d"), "a\nb\nd");
}

CAF_TEST(Markdown loses its marks) {
  CAF_CHECK_EQUAL(parsed("text/markdown",
                         "# Head *line*\n\ntext with `code`, [a link](http://x) and ![picture](y.png)\n"
                         "> said\n\n```\nint a_b = *p; # kept\n```\n---\n\\*star\\*\n"),
                  "Head line\n\ntext with code, a link and picture\nsaid\n\nint a_b = *p; # kept\n\n*star*");
}

CAF_TEST(brackets that are no link stay) {
  CAF_CHECK_EQUAL(parsed("text/markdown", "[x] and [y](z) and [open"), "[x] and y and [open");
}

CAF_TEST(values of JSON keep their names) {
  CAF_CHECK_EQUAL(parsed("application/json", R"({"a":{"b":["x",1,true,null]},"c":1.50})"),
                  "a/b: x\na/b: 1\na/b: true\nc: 1.50");
  CAF_CHECK_EQUAL(parsed("application/json", "[\"x\"]"), "x");
  CAF_CHECK(
      parsed("application/json", "{\"a\":").starts_with("rejected: the text is no valid JSON: it goes wrong at byte"));
  CAF_CHECK_EQUAL(parsed("application/json", std::string(1000, '[')),
                  "rejected: the JSON is nested deeper than 64 levels");
}

CAF_TEST(fields of CSV keep their columns) {
  CAF_CHECK_EQUAL(parsed("text/csv", "name;city\r\nAnn;\"Os;lo\"\r\n\"B\"\"b\";\n;x;extra\n"),
                  "name; city\nname: Ann; city: Os;lo\nname: B\"b\ncity: x; extra");
  CAF_CHECK_EQUAL(parsed("text/csv", "a,b\n\"open,1\n"), "rejected: the CSV is damaged: a quote in row 2 does not end");
}

CAF_TEST(files made to take forever do not ) {
  const std::string many(3000000, '[');
  CAF_CHECK_EQUAL(parsed("text/markdown", many).size(), many.size());
  CAF_CHECK(parsed("text/html", std::string(3000000, '<') + std::string(3000000, '&')).size() >= 3000000);
  // A long name before each of many values.
  std::string values = "1";
  for (int i = 0; i < 100000; ++i)
    values += ",1";
  const std::string name(1000000, 'n');
  CAF_CHECK(parsed("application/json", "{\"" + name + "\":[" + values + "]}").size() < 2 * max_document_text);
  std::string rows;
  for (int i = 0; i < 100000; ++i)
    rows += "1\n";
  CAF_CHECK(parsed("text/csv", name + "\n" + rows).size() < 3 * max_document_text);
}

CAF_TEST(what was not read to its end says so) {
  // Tidied it is short.
  const std::string blanks(max_document_text, ' ');
  auto is_cut = [](const std::string& type, const std::string& bytes) {
    auto text = make_parser({})(type, bytes, [] { return false; });
    CAF_REQUIRE_EQUAL(text ? "" : describe(text.error()), "");
    CAF_CHECK_EQUAL(text->text, "a");
    return text->is_cut;
  };
  CAF_CHECK(is_cut("application/json", "[\"a" + blanks + "\",\"b\"]"));
  CAF_CHECK(is_cut("text/csv", "\"a" + blanks + "\n\"\nb\n"));
  CAF_CHECK(!is_cut("application/json", "[\"a\"]"));
}

CAF_TEST(any bytes are survived and what comes of them is UTF 8) {
  auto check = rc::check("parsers survive anything", [](const std::vector<uint8_t>& bytes) {
    const std::string text{bytes.begin(), bytes.end()};
    const auto clean = repair_utf8(text);
    RC_ASSERT(is_utf8(clean));
    for (const auto* type : {"text/plain", "text/html", "text/markdown", "text/csv", "application/json"})
      if (auto out = make_parser({})(type, clean, [] { return false; }))
        RC_ASSERT(is_utf8(out->text) && !out->text.empty());
  });
  CAF_CHECK(check);
}

CAF_TEST(tags and quotes in any order are survived) {
  const std::vector<std::string> pieces{"<",  ">", "</", "<!--", "-->", "<script", "</script>", "&",     "&#", ";",
                                        "\"", "'", "=",  "a",    " ",   "\n",      "`",         "```\n", "[",  "](",
                                        ")",  "*", "\\", "|",    ",",   "{",       "}",         ":"};
  auto check = rc::check("parsers survive their own marks", [&pieces](const std::vector<uint8_t>& choice) {
    std::string text;
    for (auto one : choice)
      text += pieces[one % pieces.size()];
    for (const auto* type : {"text/html", "text/markdown", "text/csv", "application/json"})
      if (auto out = make_parser({})(type, text, [] { return false; }))
        RC_ASSERT(is_utf8(out->text));
  });
  CAF_CHECK(check);
}

CAF_TEST(the text of a PDF is read) {
  if (!has_pdftotext())
    return;
  CAF_CHECK_EQUAL(parsed("application/pdf", pdf("BT /F 12 Tf 50 700 Td (Hello from a PDF) Tj ET")), "Hello from a PDF");
  CAF_CHECK_EQUAL(parsed("application/pdf", pdf("0 0 m 10 10 l S")),
                  "rejected: the PDF has no text; perhaps its pages are pictures");
}

CAF_TEST(damaged and encrypted PDFs are refused with a reason) {
  if (!has_pdftotext())
    return;
  CAF_CHECK_EQUAL(parsed("application/pdf", "%PDF-1.7\nnothing of the kind"),
                  "rejected: the PDF is damaged; nothing in it can be read");
  const std::string zeros(32, '0');
  auto locked =
      pdf("BT ET", {},
          "/ID[<00><00>]/Encrypt<</Filter/Standard/V 1/R 2/P -1/O<" + zeros + zeros + ">/U<" + zeros + zeros + ">>>");
  CAF_CHECK_EQUAL(parsed("application/pdf", locked), "rejected: the PDF is encrypted; upload it without its password");
}

CAF_TEST(who reads a PDF has no more time than it is given) {
  // Not pdftotext, but a program that never ends: it takes what it gets as arguments.
  const auto busy = script("while :; do :; done");
  auto slow = pdf_text(busy, "%PDF-", std::chrono::seconds{1}, [] { return false; });
  CAF_REQUIRE(!slow);
  CAF_CHECK_EQUAL(describe(slow.error()), "rejected: the PDF takes more than documents.pdfTimeout of CPU time to read");
  auto left = pdf_text(busy, "%PDF-", std::chrono::seconds{60}, [] { return true; });
  CAF_REQUIRE(!left);
  CAF_CHECK(code_of(left.error()) == ec::attempt_timeout);
  unlink(busy.c_str());
  auto none = pdf_text("", "%PDF-", std::chrono::seconds{1}, [] { return false; });
  CAF_REQUIRE(!none);
  CAF_CHECK(code_of(none.error()) == ec::target_unavailable);
}

CAF_TEST(who reads a PDF and has said all need not be waited for) {
  const auto silent = script("exec >&-\nwhile :; do sleep 1; done");
  int looks = 0;
  auto left = pdf_text(silent, "%PDF-", std::chrono::seconds{60}, [&looks] { return ++looks > 20; });
  CAF_REQUIRE(!left);
  CAF_CHECK(code_of(left.error()) == ec::attempt_timeout);
  unlink(silent.c_str());
}

CAF_TEST(who reads a PDF has nothing open but what it needs) {
  const auto curious = script("for one in /proc/$$/fd/*; do test ${one##*/} -gt 2 && readlink $one; done; exit 0");
  const auto mine = open("/dev/zero", O_RDONLY); // not closed by exec
  auto text = pdf_text(curious, "%PDF-", std::chrono::seconds{60}, [] { return false; });
  close(mine);
  unlink(curious.c_str());
  CAF_REQUIRE_EQUAL(text ? "" : describe(text.error()), "");
  CAF_CHECK_EQUAL(*text, curious + "\n"); // the shell's own
}
