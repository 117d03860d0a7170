/// E-mails as text. Pure functions, from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::outbound {

/// A sender or receiver.
struct mailbox {
  std::string name; ///< UTF-8; may be empty.
  std::string address;
};

struct mail {
  mailbox from;
  std::string to;      ///< An address.
  std::string subject; ///< UTF-8.
  std::string text;    ///< UTF-8.
  std::string html;    ///< UTF-8; empty = there is only the text.
  std::string id;      ///< Becomes the Message-ID: the same id, the same mail.
  int64_t unix_s = 0;  ///< Its date.
};

/// Reads "Name <name@example.com>" or "name@example.com".
mailbox read_mailbox(std::string_view text);

/// Whether mail can be sent there: `local@domain` in ASCII, without quotes, comments or anything that could end a
/// header or a command; at most 254 bytes.
bool is_mail_address(std::string_view text);

/// The whole message with CRLF line ends, all of it ASCII in lines of at most 76 characters. Whatever subject and name
/// hold, they stay within their header.
std::string make_mail(const mail& what);

/// A header's text: as it is where it can be, else as encoded words (RFC 2047), folded.
std::string encode_header(std::string_view text);

/// RFC 2045; line ends become CRLF.
std::string quoted_printable(std::string_view text);

} // namespace sluice::outbound
