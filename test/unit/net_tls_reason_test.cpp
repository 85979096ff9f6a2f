// What a person reads of a TLS connection that did not come about.
#include "net/tls_reason.hpp"

#include <gtest/gtest.h>
#include <openssl/x509_vfy.h>

namespace mrprompt {
namespace {

HttpRequest request(const std::string& proxy = "", const std::string& certificate = "") {
    HttpRequest request;
    request.url = "https://api.test:8443/v1/chat/completions";
    request.proxy = proxy;
    request.client_cert_file = certificate;
    return request;
}

std::string of_verify(long result) {
    return tls_reason(request(), {CURLE_PEER_FAILED_VERIFICATION, result, 0, "what curl says"});
}

std::string of_text(std::string_view text, const std::string& certificate = "") {
    return tls_reason(request("", certificate), {CURLE_SSL_CONNECT_ERROR, X509_V_ERR_UNSPECIFIED, 0, text});
}

TEST(TlsReason, names_the_host_the_reason_and_what_curl_said) {
    EXPECT_EQ(of_verify(X509_V_ERR_CERT_HAS_EXPIRED),
              "the certificate of api.test, or of a CA behind it, has expired (what curl says)");
    const std::pair<long, const char*> rows[] = {
        {X509_V_ERR_CERT_NOT_YET_VALID, "not valid yet"},
        {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "signed by itself"},
        {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "a CA that is not trusted"},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "an intermediate certificate is missing"},
        {X509_V_ERR_EE_KEY_TOO_SMALL, "weak key"},
        {X509_V_ERR_CA_KEY_TOO_SMALL, "weak key"},
        {X509_V_ERR_CA_MD_TOO_WEAK, "weak signature"},
    };
    for (const auto& [result, words] : rows)
        EXPECT_NE(of_verify(result).find(words), std::string::npos) << of_verify(result);
}

TEST(TlsReason, is_read_from_the_text_where_the_certificate_was_good) {
    EXPECT_EQ(of_text("error:0A00042E:SSL routines::tlsv1 alert protocol version")
                  .find("api.test speaks no TLS 1.2 or later"),
              0u);
    EXPECT_EQ(
        of_text("error:0A00010B:SSL routines::wrong version number").find("api.test does not speak TLS"), 0u);
    EXPECT_EQ(of_text("SSL: no alternative certificate subject name matches target host name 'api.test'")
                  .find("the certificate of api.test is for another name"),
              0u);
    EXPECT_EQ(of_text("something new"), "something new");
}

TEST(TlsReason, of_an_alert_depends_on_whether_a_client_certificate_was_shown) {
    const char* const wanted = "error:0A00045C:SSL routines::tlsv13 alert certificate required";
    const char* const unknown = "error:0A000418:SSL routines::tlsv1 alert unknown ca";
    EXPECT_EQ(of_text(wanted).find("api.test wants a client certificate"), 0u);
    EXPECT_EQ(of_text(unknown, "/cert").find("api.test does not accept the client certificate"), 0u);
    EXPECT_EQ(of_text(unknown).find("api.test broke off the handshake"), 0u);
    EXPECT_TRUE(is_certificate_alert(wanted));
    EXPECT_FALSE(is_certificate_alert("alert: the disk is full"));
}

TEST(TlsReason, of_files_that_cannot_be_used_names_their_column) {
    EXPECT_EQ(tls_reason(request("", "/cert"), {CURLE_SSL_CERTPROBLEM, 1, 0, "x"}).find("the file \"/cert\""),
              0u);
    EXPECT_EQ(
        tls_reason(request("", "/dev/null"), {CURLE_SSL_CERTPROBLEM, 1, 0, "x"}).find("client_cert_file and"),
        0u);
    HttpRequest with_ca = request();
    with_ca.ca_file = "/ca.pem";
    EXPECT_EQ(tls_reason(with_ca, {CURLE_SSL_CACERT_BADFILE, 1, 0, "x"})
                  .find("the file \"/ca.pem\" of the provider's row cannot be read: No such file"),
              0u);
    EXPECT_EQ(tls_reason(request(), {CURLE_SSL_CACERT_BADFILE, 1, 0, "x"}).find("the system's"), 0u);
}

TEST(TlsReason, is_the_proxys_where_that_was_refused) {
    const TlsFailure failure{CURLE_PEER_FAILED_VERIFICATION, 1, X509_V_ERR_CERT_HAS_EXPIRED, "x"};
    EXPECT_EQ(tls_reason(request("https://proxy.test:3128"), failure),
              "the certificate of the proxy proxy.test, or of a CA behind it, has expired (x)");
    EXPECT_EQ(tls_reason(request(), failure), "x");
}

TEST(TlsReason, of_a_proxy_does_not_send_to_ca_file_which_is_the_providers) {
    for (const long result :
         {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY}) {
        const std::string reason =
            tls_reason(request("https://proxy.test:3128"), {CURLE_PEER_FAILED_VERIFICATION, 0, result, "x"});
        EXPECT_EQ(reason.find("ca_file"), std::string::npos) << reason;
        EXPECT_TRUE(reason.ends_with("; a proxy's CA must be one of the system's (x)")) << reason;
    }
}

}  // namespace
}  // namespace mrprompt
