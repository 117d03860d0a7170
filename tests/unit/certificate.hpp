/// Certificates for tests, made by OpenSSL, in files that go when the test does.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

namespace sluice::testing {

/// A folder of its own.
class test_folder {
public:
  test_folder() {
    auto name = (std::filesystem::temp_directory_path() / "sluice-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr)
      throw std::runtime_error("no folder for the test");
    path_ = name;
  }
  ~test_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  test_folder(const test_folder&) = delete;
  test_folder& operator=(const test_folder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream{file(name)} << text;
    return file(name);
  }

private:
  std::filesystem::path path_;
};

/// A key on P-256 and a certificate signed by itself, in PEM.
class key_and_certificate {
public:
  /// `passphrase`: protects the key's text. `days`: for which the certificate holds.
  explicit key_and_certificate(const std::string& name, const std::string& passphrase = {}, int days = 30) {
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> made{EVP_EC_gen("P-256"), EVP_PKEY_free};
    std::unique_ptr<X509, decltype(&X509_free)> out{X509_new(), X509_free};
    X509_set_version(out.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(out.get()), -60);
    X509_gmtime_adj(X509_getm_notAfter(out.get()), days * 86400L);
    auto* subject = X509_get_subject_name(out.get());
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1,
                               -1, 0);
    X509_set_issuer_name(out.get(), subject);
    X509_set_pubkey(out.get(), made.get());
    X509_sign(out.get(), made.get(), EVP_sha256());
    certificate = text([&](BIO* to) { PEM_write_bio_X509(to, out.get()); });
    key = text([&](BIO* to) {
      PEM_write_bio_PKCS8PrivateKey(to, made.get(), passphrase.empty() ? nullptr : EVP_aes_256_cbc(), nullptr, 0,
                                    nullptr, const_cast<char*>(passphrase.empty() ? nullptr : passphrase.c_str()));
    });
  }

  std::string certificate;
  std::string key;

private:
  template <class Write>
  static std::string text(Write write) {
    std::unique_ptr<BIO, decltype(&BIO_free)> to{BIO_new(BIO_s_mem()), BIO_free};
    write(to.get());
    char* bytes = nullptr;
    auto size = BIO_get_mem_data(to.get(), &bytes);
    return {bytes, static_cast<size_t>(size)};
  }
};

} // namespace sluice::testing
