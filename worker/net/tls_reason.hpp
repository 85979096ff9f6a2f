// Why no TLS connection came about, in words that say what to do.
#pragma once
#include <curl/curl.h>

#include <string>
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

// What curl and OpenSSL know of it. The verify results are X509_V_… codes.
struct TlsFailure {
    CURLcode code = CURLE_OK;
    long verified = 0;
    long proxy_verified = 0;
    std::string_view text;
};

// For the request's error message: the reason and the way out, then curl's own text.
std::string tls_reason(const HttpRequest& request, const TlsFailure& failure);

// Whether the text says that the other side broke off for the client's certificate, or for the lack of one.
bool is_certificate_alert(std::string_view text);

}  // namespace mrprompt
