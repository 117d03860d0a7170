#pragma once

#include <memory>
#include <string>

#include "document_text.hpp"
#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/processor.hpp"

namespace sluice {

/// The way of a document.
inline const std::string documents_in = "document.uploaded";
inline const std::string documents_parsed = "document.parsed";
inline const std::string documents_out = "document.embedded";

/// What the processor works with.
struct document_tools {
  std::shared_ptr<document_store> store;
  document_parser parse;
  std::shared_ptr<embedder> embeddings;
  digest sha256;
};

/// The processor's place and policies: group `paka-document-processor`, patient with embeddings that are away.
processor_config document_settings(const config& cfg);

/// Where the processor stands.
struct document_place {
  std::string node;          ///< As `document.uploaded` has it.
  bool shares_store = false; ///< With all other nodes.
};

/// The processor's function. A record names a document by `documentId`, in an envelope or bare:
/// - on `document.uploaded` it is read and cut into chunks, and `document.parsed` says so;
/// - on `document.parsed` its chunks get vectors, and `document.embedded` says so.
/// So each half is retried by itself. What is done already is not done again, only said again, with the same event ids.
/// A document that cannot be read is `failed`, and its record a dead letter; one that is gone is done.
processor_function document_function(document_place where, document_tools tools);

} // namespace sluice
