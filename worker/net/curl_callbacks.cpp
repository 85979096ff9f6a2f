// libcurl's options and callbacks: the head of a response is gathered here, its body passes through.
#include "net/curl_callbacks.hpp"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>

#include "core/address.hpp"
#include "net/curl_transport.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kMaxHeaderBytes = 64 << 10;  // of one exchange, interim heads and trailers too
constexpr long kReceiveBuffer = 4 << 10;           // per transfer in flight: answers arrive in small pieces
constexpr long kUploadBuffer = 16 << 10;           // the least that curl takes
constexpr long kTrustSeconds = 600;                // after which a CA file is read anew

// 112 bits of security, whatever the machine's openssl.cnf says: no RSA key below 2048 bits, no SHA-1.
constexpr const char* kCiphers = "DEFAULT:@SECLEVEL=2";

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
    return text;
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return out;
}

// Ends the transfer from inside a callback.
std::size_t give_up(Transfer& transfer, TransferEnd how, std::string message) {
    transfer.fault = {how, std::move(message)};
    return 0;
}

// Two lengths are two places where the answer may end: curl would take the last.
bool has_two_lengths(const Headers& headers) {
    const std::string* length = nullptr;
    for (const auto& [name, value] : headers) {
        if (name != "content-length") continue;
        if (length != nullptr ? *length != value : value.find(',') != std::string::npos) return true;
        length = &value;
    }
    return false;
}

void allow_protocol(CURL* easy, bool plain) {
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, static_cast<long>(plain ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif
}

// HTTP/2 only where libcurl speaks it well: until 8.1 it resets every stream that has ended, which servers
// that guard against rapid resets answer, after a thousand, by dropping the connection with all that runs on
// it; until 8.6 a handle taken away early could crash it.
bool speaks_http2() {
    static const bool well = curl_version_info(CURLVERSION_NOW)->version_num >= 0x080600;
    return well;
}

// The certificates to trust: of a provider its own file alone, or the system's; of a proxy the system's, as a
// CA that may vouch for one provider need not for the way there. One file and no directory: only so does curl
// keep the parsed certificates for the next connection, which saves it 30 ms.
void trust(CURL* easy, const std::string& ca_file) {
    static const curl_version_info_data* const system = curl_version_info(CURLVERSION_NOW);
    const char* const directory = system->cainfo == nullptr ? system->capath : nullptr;
    curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file.empty() ? system->cainfo : ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, ca_file.empty() ? directory : nullptr);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, system->cainfo);
    curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, directory);
}

bool is_openssl() {
    static const char* const name = curl_version_info(CURLVERSION_NOW)->ssl_version;
    return name != nullptr && std::strncmp(name, "OpenSSL/", 8) == 0;
}

// The same demands on a provider and on a proxy that is spoken to by TLS.
void demand_strong_tls(CURL* easy) {
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
    if (is_openssl()) {
        curl_easy_setopt(easy, CURLOPT_SSL_CIPHER_LIST, kCiphers);
        curl_easy_setopt(easy, CURLOPT_PROXY_SSL_CIPHER_LIST, kCiphers);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, kTrustSeconds);
#endif
    // A key file with a passphrase is an error; without this OpenSSL would ask at the terminal.
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
}

// Where a context keeps the id of its transfer.
int id_place() {
    static const int place = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    return place;
}

// The TLS of the transfer's connection; null where there is none, or another library does it.
SSL* tls_of(CURL* easy) {
    curl_tlssessioninfo* session = nullptr;
    if (!is_openssl() || curl_easy_getinfo(easy, CURLINFO_TLS_SSL_PTR, &session) != CURLE_OK) return nullptr;
    return session != nullptr ? static_cast<SSL*>(session->internals) : nullptr;
}

// Bytes that OpenSSL has taken from the socket, and nobody from OpenSSL.
bool has_unread_tls(CURL* easy) {
    const SSL* const tls = tls_of(easy);
    return tls != nullptr && SSL_has_pending(tls) != 0;
}

// Whether the transfer's connection speaks HTTP/2, or might.
bool may_be_http2(const Transfer& transfer) {
    if (!speaks_http2() || transfer.request.url.starts_with("http://")) return false;
    const SSL* const tls = tls_of(transfer.easy);
    if (tls == nullptr) return true;
    const unsigned char* protocol = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(tls, &protocol, &length);
    return std::string_view(reinterpret_cast<const char*>(protocol), length) == "h2";
}

const char* text_or_null(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
}

// The row's proxy or none: "" keeps curl from looking into the environment.
void choose_way(CURL* easy, const HttpRequest& request) {
    curl_easy_setopt(easy, CURLOPT_PROXY, request.proxy.c_str());
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L);
}

// As text; "" where it is of another family than the internet's.
std::string address_text(const curl_sockaddr& address) {
    // curl's struct ends in the head of an address that goes on behind it.
    const char* const place = reinterpret_cast<const char*>(&address) + offsetof(curl_sockaddr, addr);
    char text[INET6_ADDRSTRLEN] = "";
    if (address.family == AF_INET)
        inet_ntop(AF_INET, place + offsetof(sockaddr_in, sin_addr), text, sizeof text);
    if (address.family == AF_INET6)
        inet_ntop(AF_INET6, place + offsetof(sockaddr_in6, sin6_addr), text, sizeof text);
    return text;
}

// Whether the transfer may be with this address; notes it where not.
bool may_be_with(Transfer& transfer, const std::string& address) {
    const HttpRequest& request = transfer.request;
    if (request.allow_private || !request.proxy.empty()) return true;  // an admin named the proxy
    const char* const kind = special_kind_of_text(address.c_str());
    if (kind != nullptr) transfer.refused_address = address + ", " + kind;
    return kind == nullptr;
}

}  // namespace

CURL* new_handle() {
    CURL* easy = curl_easy_init();
    if (easy == nullptr) throw std::bad_alloc();
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's are not the provider's
    demand_strong_tls(easy);
    if (is_openssl()) curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, &CurlCallbacks::on_tls_context);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     static_cast<long>(speaks_http2() ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, kUploadBuffer);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "mrprompt/" MRPROMPT_VERSION);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &CurlCallbacks::on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &CurlCallbacks::on_body);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, &CurlCallbacks::on_open);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, &CurlCallbacks::on_request);
    return easy;
}

void prepare_request(Transfer& transfer) {
    HttpRequest& request = transfer.request;
    const bool plain = request.url.starts_with("http://");
    for (const auto& [name, value] : request.headers) {
        transfer.headers.add(value.empty() ? name + ";" : name + ": " + value);
    }
    transfer.headers.add("Expect:");  // large payloads are sent without asking first
    if (!request.secret.empty()) {
        std::string line;
        line.reserve(request.secret_header.size() + request.secret.view().size());  // one copy, wiped below
        line += request.secret_header;
        line += request.secret.view();
        transfer.headers.add(line);
        OPENSSL_cleanse(line.data(), line.size());
        request.secret = Secret();
    }
    CURL* easy = transfer.easy;
    curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    allow_protocol(easy, plain);
    // On a cold start wait to learn whether one connection can carry many requests.
    curl_easy_setopt(easy, CURLOPT_PIPEWAIT, !plain && speaks_http2() ? 1L : 0L);
    choose_way(easy, request);
    trust(easy, request.ca_file);
    curl_easy_setopt(easy, CURLOPT_SSLCERT, text_or_null(request.client_cert_file));
    curl_easy_setopt(easy, CURLOPT_SSLKEY, text_or_null(request.client_key_file));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers.get());
    if (request.get) {
        curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    } else {
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.data());
    }
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, &transfer);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, &transfer);
}

void forget_request(Transfer& transfer) {
    CURL* easy = transfer.easy;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, nullptr);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, nullptr);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, nullptr);
}

void CurlCallbacks::attach(CURLM* multi, CurlTransport& transport) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, &transport);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, &transport);
}

int CurlCallbacks::on_socket(CURL*, curl_socket_t fd, int what, void* transport, void*) noexcept {
    std::uint32_t events = 0;
    if (what == CURL_POLL_IN || what == CURL_POLL_INOUT) events |= EPOLLIN;
    if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT) events |= EPOLLOUT;
    static_cast<CurlTransport*>(transport)->reactor_.watch(fd, events);
    return 0;
}

int CurlCallbacks::on_timer(CURLM*, long after_ms, void* transport) noexcept {
    auto& self = *static_cast<CurlTransport*>(transport);
    self.curl_at_ = after_ms < 0 ? INT64_MAX : self.clock_.now_ms() + after_ms;
    return 0;
}

// The context is of one connection, which may be kept for longer than the transfer lives; the server may ask
// for a certificate as long.
CURLcode CurlCallbacks::on_tls_context(CURL*, void* context, void* data) noexcept {
    const auto& transfer = *static_cast<Transfer*>(data);
    auto* const own = static_cast<SSL_CTX*>(context);
    SSL_CTX_set_app_data(own, transfer.owner);
    SSL_CTX_set_ex_data(own, id_place(), reinterpret_cast<void*>(transfer.id));
    SSL_CTX_set_cert_cb(own, &on_certificate_wanted, nullptr);
    return CURLE_OK;
}

// The transfer that the connection was opened for; null once it has ended.
Transfer* CurlCallbacks::opener_of(const SSL* tls) {
    const SSL_CTX* const own = SSL_get_SSL_CTX(tls);
    const auto& transfers = static_cast<CurlTransport*>(SSL_CTX_get_app_data(own))->transfers_;
    const auto place = transfers.find(reinterpret_cast<std::uintptr_t>(SSL_CTX_get_ex_data(own, id_place())));
    return place == transfers.end() ? nullptr : place->second.get();
}

// The server wants a client certificate; one that is set goes out when this returns.
int CurlCallbacks::on_certificate_wanted(SSL* tls, void*) noexcept {
    if (Transfer* const transfer = opener_of(tls)) transfer->certificate_wanted = true;
    return 1;
}

// Sees each address before anything is sent there, however often and to whatever the host's name resolves.
curl_socket_t CurlCallbacks::on_open(void* data, curlsocktype, curl_sockaddr* address) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    if (!may_be_with(transfer, address_text(*address))) return CURL_SOCKET_BAD;
    transfer.address_tried = true;
    const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    transfer.opened.push_back(fd);
    return fd;
}

// A kept connection was opened by another request, which may have had more rights, or got more than its
// answer.
int CurlCallbacks::on_request(void* data, char* peer, char* local, int peer_port, int local_port) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    const bool allowed = may_be_with(transfer, peer);
    if (!allowed) transfer.address_tried = false;
    if (!allowed || has_stray_bytes(transfer, {local, local_port, peer, peer_port})) {
        transfer.unfit_connection = true;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer.owner->enter(transfer, Transfer::Stage::waiting);
    transfer.owner->sink_->on_sent(transfer.id);
    return CURL_PREREQFUNC_OK;
}

// Bytes that wait before anything was asked belong to an earlier answer: the next request would take them for
// its own. Over HTTP/2 streams are told apart, and bytes may wait.
bool CurlCallbacks::has_stray_bytes(Transfer& transfer, const Ends& ends) {
    if (may_be_http2(transfer)) return false;
    KeptSockets& sockets = transfer.owner->sockets_;
    if (transfer.opened.empty()) return has_unread_tls(transfer.easy) || sockets.has_bytes(ends);
    sockets.note(transfer.opened, ends);
    return false;
}

std::size_t CurlCallbacks::on_header(char* bytes, std::size_t, std::size_t count, void* data) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    transfer.header_bytes += count;
    if (transfer.header_bytes > kMaxHeaderBytes) {
        return give_up(transfer, TransferEnd::too_large,
                       "the head of the answer is larger than " + std::to_string(kMaxHeaderBytes) + " bytes");
    }
    if (transfer.head_done) return count;  // trailers
    const std::string_view line = trimmed({bytes, count});
    if (line.starts_with("HTTP/")) {
        transfer.response_headers.clear();
        return count;
    }
    if (line.empty()) {
        long status = 0;
        curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
        if (status == 101) {
            return give_up(transfer, TransferEnd::malformed,
                           "the server switched to another protocol (status 101), which was not asked for");
        }
        if (status < 200) return count;  // an interim response; the real one follows
        if (has_two_lengths(transfer.response_headers))
            return give_up(transfer, TransferEnd::malformed, "the answer has two lengths");
        transfer.head_done = true;
        transfer.owner->enter(transfer, Transfer::Stage::body);
        transfer.owner->sink_->on_head(transfer.id, static_cast<int>(status), transfer.response_headers);
        transfer.response_headers = Headers();
        curl_off_t uploaded = 0;
        curl_easy_getinfo(transfer.easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
        if (static_cast<std::size_t>(uploaded) >= transfer.request.body.size())
            transfer.request.body = std::string();
        return count;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return count;
    transfer.response_headers.emplace_back(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
    return count;
}

std::size_t CurlCallbacks::on_body(char* bytes, std::size_t, std::size_t count, void* data) noexcept {
    auto& transfer = *static_cast<Transfer*>(data);
    transfer.received += count;
    if (transfer.received > transfer.max_body) {
        return give_up(transfer, TransferEnd::too_large,
                       "the answer is larger than the " + std::to_string(transfer.max_body) +
                           " bytes that mrprompt.max_response allows");
    }
    transfer.stage_at = transfer.owner->clock_.now_ms();
    transfer.owner->sink_->on_body(transfer.id, {bytes, count});
    return count;
}

}  // namespace mrprompt
