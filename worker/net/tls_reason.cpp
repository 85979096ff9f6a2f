// Tables from OpenSSL's codes and texts to reasons; the first match counts.
#include "net/tls_reason.hpp"

#include <fcntl.h>
#include <openssl/x509_vfy.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/address.hpp"

namespace mrprompt {
namespace {

// In the words below, % stands for who was spoken to.
struct VerifyReason {
    long result;
    const char* words;
};
constexpr VerifyReason kVerify[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED, "the certificate of %, or of a CA behind it, has expired"},
    {X509_V_ERR_CERT_NOT_YET_VALID,
     "the certificate of %, or of a CA behind it, is not valid yet; the fetcher's clock may be wrong"},
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
     "the certificate of % is signed by itself; if it is the right one, ca_file can name it"},
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
     "the certificate of % is from a CA that is not trusted; if it is the right one, ca_file can name it"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
     "the certificate of % leads to no trusted CA: an intermediate certificate is missing, or the CA is "
     "another one; ca_file can name a file with both"},
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
     "a certificate behind that of % leads to no trusted CA; ca_file can name a file with the missing ones"},
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
     "the certificate of % leads to no trusted CA: an intermediate certificate is missing, or the CA is "
     "another one; ca_file can name a file with both"},
    {X509_V_ERR_EE_KEY_TOO_SMALL,
     "the certificate of % has a weak key; it needs a new one, of RSA 2048 bits or more, or ECDSA"},
    {X509_V_ERR_CA_KEY_TOO_SMALL, "a CA of % has a weak key, below RSA 2048 bits"},
    {X509_V_ERR_CA_MD_TOO_WEAK,
     "the certificate of %, or of a CA behind it, has a weak signature, such as SHA-1 or MD5"},
    {X509_V_ERR_CERT_REVOKED, "the certificate of % is revoked"},
    {X509_V_ERR_INVALID_PURPOSE, "the certificate of % is not one for servers"},
    {X509_V_ERR_INVALID_CA, "the certificate of % was issued by one that is no CA"},
    {X509_V_ERR_CERT_SIGNATURE_FAILURE, "the certificate of % has a false signature"},
};

struct TextReason {
    std::string_view part;
    const char* words;
};
constexpr const char* kTooOld = "% speaks no TLS 1.2 or later";
constexpr const char* kWeak = "% has no keys and ciphers that are strong enough";
constexpr const char* kOtherName = "the certificate of % is for another name";
constexpr const char* kNoTls = "% does not speak TLS at this port";
constexpr TextReason kTexts[] = {
    {"subject name", kOtherName},
    {"does not match target host", kOtherName},
    {"alert protocol version", kTooOld},
    {"unsupported protocol", kTooOld},
    {"wrong ssl version", kTooOld},
    {"wrong version number", kNoTls},
    {"packet length too long", kNoTls},
    {"http request", kNoTls},
    {"key too small", kWeak},
    {"md too weak", kWeak},
    {"insufficient security", kWeak},
    {"wrong signature type", kWeak},
    {"legacy sigalg", kWeak},
    {"unsafe legacy renegotiation", kWeak},
};
constexpr TextReason kTextsWithCertificate[] = {
    {"alert certificate required", "% did not get the client certificate of client_cert_file"},
    {" alert ", "% does not accept the client certificate of client_cert_file"},
};
constexpr TextReason kTextsWithout[] = {
    {"alert certificate required",
     "% wants a client certificate; client_cert_file and client_key_file can name one"},
    {"alert handshake failure",
     "% broke off the handshake: it may want a client certificate (client_cert_file and client_key_file can "
     "name one), or offers weak ciphers only"},
    {" alert ", "% broke off the handshake"},
};

const char* of_verify(long result) {
    for (const VerifyReason& reason : kVerify) {
        if (reason.result == result) return reason.words;
    }
    return nullptr;
}

template <std::size_t N>
const char* of_text(const TextReason (&table)[N], std::string_view text) {
    for (const TextReason& reason : table) {
        if (text.find(reason.part) != text.npos) return reason.words;
    }
    return nullptr;
}

const char* of_code(CURLcode code, const HttpRequest& request) {
    if (code == CURLE_SSL_CERTPROBLEM) {
        return "client_cert_file and client_key_file cannot be used: they must be PEM without a passphrase, "
               "and belong together";
    }
    if (code == CURLE_SSL_CACERT_BADFILE) {
        return request.ca_file.empty() ? "the system's CA certificates cannot be read"
                                       : "ca_file holds no certificate in PEM";
    }
    if (code == CURLE_SSL_CLIENTCERT) return of_text(kTextsWithout, "alert certificate required");
    return nullptr;
}

// curl says that it cannot use a file, not why. Empty where the fetcher can read all of them.
std::string unreadable_file(const HttpRequest& request) {
    for (const std::string* file : {&request.ca_file, &request.client_cert_file, &request.client_key_file}) {
        if (file->empty()) continue;
        if (const int fd = open(file->c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) {
            close(fd);
            continue;
        }
        std::string reason =
            "the file \"" + *file + "\" of the provider's row cannot be read: " + std::strerror(errno);
        if (errno == EACCES)
            reason +=
                "; the local fetcher reads only what lies in the directories of the setting "
                "mrprompt.certificate_directories and is open to the server's user";
        return reason;
    }
    return {};
}

const char* find_words(const HttpRequest& request, const TlsFailure& failure) {
    if (const char* words = of_code(failure.code, request)) return words;
    if (const char* words = of_verify(failure.verified)) return words;
    if (const char* words = of_text(kTexts, failure.text)) return words;
    return request.client_cert_file.empty() ? of_text(kTextsWithout, failure.text)
                                            : of_text(kTextsWithCertificate, failure.text);
}

}  // namespace

std::string tls_reason(const HttpRequest& request, const TlsFailure& failure) {
    if (failure.code == CURLE_SSL_CACERT_BADFILE || failure.code == CURLE_SSL_CERTPROBLEM) {
        if (std::string reason = unreadable_file(request); !reason.empty()) return reason;
    }
    const bool by_proxy =
        request.proxy.starts_with("https://") && of_verify(failure.proxy_verified) != nullptr;
    const char* const words = by_proxy ? of_verify(failure.proxy_verified) : find_words(request, failure);
    if (words == nullptr) return std::string(failure.text);
    std::string reason = words;
    const std::string who =
        by_proxy ? "the proxy " + std::string(host_of(request.proxy)) : std::string(host_of(request.url));
    if (const std::size_t place = reason.find('%'); place != reason.npos) reason.replace(place, 1, who);
    if (const std::size_t place = reason.find("ca_file"); by_proxy && place != reason.npos)
        reason.replace(reason.rfind(';', place) + 2, reason.npos, "a proxy's CA must be one of the system's");
    return reason + " (" + std::string(failure.text) + ")";
}

bool is_certificate_alert(std::string_view text) {
    if (text.find("SSL routines") == text.npos) return false;
    for (const char* word :
         {"alert certificate required", "alert bad certificate", "alert unsupported certificate",
          "alert certificate revoked", "alert certificate expired", "alert certificate unknown",
          "alert unknown ca", "alert access denied", "alert handshake failure"}) {
        if (text.find(word) != text.npos) return true;
    }
    return false;
}

}  // namespace mrprompt
