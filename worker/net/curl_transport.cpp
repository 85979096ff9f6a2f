// Drives libcurl: exchanges in and out of the multi handle, time-outs, and how each exchange ended.
#include "net/curl_transport.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "core/address.hpp"
#include "net/curl_callbacks.hpp"
#include "net/tls_reason.hpp"
#include "net/wiping_memory.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kIdleHandles = 256;

// So many transfers open connections to one origin at once; the others wait. Without it a cold start looks up
// the name in a thousand threads, and with HTTP/2 curl opens one connection each as soon as the first is
// full.
constexpr int kConnecting = 64;

// Whether the text can stand in one header line.
bool one_line(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

// "https://host:port" of a URL that why_refused let through.
std::string origin_of(const std::string& url) {
    return url.substr(0, url.find_first_of("/?#", url.find("://") + 3));
}

const char* why_refused(const HttpRequest& request) {
    if (!request.url.starts_with("https://") && !request.url.starts_with("http://")) {
        return "the URL is neither https nor http";
    }
    if (!one_line(request.url)) return "the URL holds a line break";
    if (!one_line(request.secret_header) || !one_line(request.secret.view()))
        return "the key holds a line break";
    for (const auto& [name, value] : request.headers) {
        if (!one_line(name) || !one_line(value)) return "a header holds a line break";
    }
    return nullptr;
}

// Broken off by the network rather than refused by the peer: the same handshake may work a moment later.
bool handshake_cut(CURL* easy, const std::string& message) {
    long number = 0;
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    return number == ECONNRESET || number == EPIPE || number == ETIMEDOUT ||
           message.find("SSL_ERROR_SYSCALL") != std::string::npos ||
           message.find("unexpected eof") != std::string::npos;
}

bool address_refused(const Transfer& transfer) {
    return transfer.stage == Transfer::Stage::connecting && !transfer.refused_address.empty() &&
           !transfer.address_tried;
}

// curl itself takes lines of 100 kB and heads of 300 kB, and may say that memory is short when there is more.
bool head_too_large(const Transfer& transfer, CURLcode code, const std::string& message) {
#if LIBCURL_VERSION_NUM >= 0x080600
    if (code == CURLE_TOO_LARGE) return true;
#endif
    return (code == CURLE_OUT_OF_MEMORY && transfer.stage >= Transfer::Stage::waiting) ||
           message.starts_with("Out of memory in chunked");  // a trailer
}

// curl has no code for it; version 8 says it in more ways than one.
bool chunks_are_wrong(const std::string& message) {
    return message.find("chunked-encod") != std::string::npos || message.starts_with("chunk hex-length") ||
           message.starts_with("invalid chunk size");
}

// Of a key that it cannot use, version 8.22 says that an argument was bad.
CURLcode code_of(const Transfer& transfer, CURLcode code) {
    return code == CURLE_BAD_FUNCTION_ARGUMENT && !transfer.request.client_cert_file.empty()
               ? CURLE_SSL_CERTPROBLEM
               : code;
}

TransferEnd how_it_ended(const Transfer& transfer, CURLcode code, const std::string& message) {
    const bool sent = transfer.stage > Transfer::Stage::connecting;
    if (address_refused(transfer)) return TransferEnd::address_refused;
    // With TLS 1.3 a server looks at the client's certificate when the request may be under way.
    if (!transfer.head_done && is_certificate_alert(message)) return TransferEnd::tls_failed;
    switch (code) {
        case CURLE_OK:
            return TransferEnd::complete;
        case CURLE_OPERATION_TIMEDOUT:
            return sent ? TransferEnd::broken : TransferEnd::timeout_connect;
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_LOGIN_DENIED:
            return sent ? TransferEnd::malformed : TransferEnd::refused;
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_BAD_CONTENT_ENCODING:
            return TransferEnd::malformed;
        case CURLE_SSL_CONNECT_ERROR:
            return handshake_cut(transfer.easy, message) ? TransferEnd::connect_failed
                                                         : TransferEnd::tls_failed;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
        case CURLE_SSL_CLIENTCERT:
        case CURLE_USE_SSL_FAILED:
            return TransferEnd::tls_failed;
        default:
            if (head_too_large(transfer, code, message)) return TransferEnd::too_large;
            if (chunks_are_wrong(message)) return TransferEnd::malformed;
            return sent ? TransferEnd::broken : TransferEnd::connect_failed;
    }
}

std::string address_message(const Transfer& transfer) {
    return "the host " + std::string(host_of(transfer.request.url)) + " has the address " +
           transfer.refused_address +
           "; if this provider may be there, an admin sets allow_private = true in mrprompt.providers";
}

std::string tls_message(const Transfer& transfer, CURLcode code, const std::string& text) {
    long verified = 0, proxy_verified = 0;
    curl_easy_getinfo(transfer.easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    curl_easy_getinfo(transfer.easy, CURLINFO_PROXY_SSL_VERIFYRESULT, &proxy_verified);
    return tls_reason(transfer.request, {code, verified, proxy_verified, text});
}

// What a person reads of an exchange that curl gave up.
std::string message_of(const Transfer& transfer, TransferEnd how, CURLcode code, const std::string& text) {
    switch (how) {
        case TransferEnd::complete:
            return {};
        case TransferEnd::address_refused:
            return address_message(transfer);
        case TransferEnd::tls_failed:
            return tls_message(transfer, code, text);
        case TransferEnd::malformed:
            return "the answer is not proper HTTP: " + text;
        case TransferEnd::too_large:
            return "a line in the head of the answer is too long";
        case TransferEnd::broken:
            // The word of a server that breaks off for that may be lost with its connection.
            if (!transfer.head_done && transfer.certificate_wanted)
                return (transfer.request.client_cert_file.empty()
                            ? "the server asked for a client certificate, which client_cert_file and "
                              "client_key_file can name, and broke off ("
                            : "the server asked for a client certificate, got that of client_cert_file, and "
                              "broke off (") +
                       text + ")";
            return text;
        default:
            return text;
    }
}

std::string timeout_message(const Transfer& transfer, TransferEnd end) {
    const auto text = [](const char* what, int ms) { return std::string(what) + std::to_string(ms) + " ms"; };
    switch (end) {
        case TransferEnd::timeout_connect:
            return text("no connection within ", transfer.request.connect_timeout_ms);
        case TransferEnd::timeout_first_byte:
            return text("no answer began within ", transfer.request.first_byte_timeout_ms);
        case TransferEnd::timeout_idle:
            return text("nothing more came for ", transfer.request.idle_timeout_ms);
        default:
            return text("the answer was not whole after ", transfer.request.total_timeout_ms);
    }
}

// curl would write the secrets of every TLS session into the file that SSLKEYLOGFILE names.
CURLcode start_curl() {
    unsetenv("SSLKEYLOGFILE");
    return start_curl_on_wiping_memory();
}

}  // namespace

CurlTransport::CurlTransport(const Clock& clock, int max_connections) : clock_(clock) {
    static const CURLcode ready = start_curl();
    multi_ = ready == CURLE_OK ? curl_multi_init() : nullptr;
    if (multi_ == nullptr) throw std::runtime_error("libcurl does not start");
    CurlCallbacks::attach(multi_, *this);
    curl_multi_setopt(multi_, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
    curl_multi_setopt(multi_, CURLMOPT_MAX_CONCURRENT_STREAMS, 100L);
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(std::max(max_connections, 16)));
}

CurlTransport::~CurlTransport() {
    for (auto& [name, origin] : origins_) origin.queue.clear();
    while (!transfers_.empty()) cancel(transfers_.begin()->first);
    for (CURL* easy : idle_handles_) curl_easy_cleanup(easy);
    curl_multi_cleanup(multi_);
}

void CurlTransport::start(std::uint64_t id, HttpRequest request, std::uint64_t max_body) {
    if (const char* reason = why_refused(request)) {
        refused_.push_back({id, reason});
        curl_at_ = 0;
        return set_deadline();
    }
    auto owned = std::make_unique<Transfer>();
    Transfer& transfer = *owned;
    transfer.id = id;
    transfer.owner = this;
    transfer.request = std::move(request);
    transfer.max_body = max_body;
    transfer.started_at = transfer.stage_at = clock_.now_ms();
    transfer.origin = &origins_[origin_of(transfer.request.url)];
    transfers_[id] = std::move(owned);
    arm(transfer);
    transfer.origin->queue.push_back(id);
    admit(*transfer.origin);
    set_deadline();
}

// Never from inside one of curl's callbacks.
void CurlTransport::admit(Origin& origin) {
    while (origin.connecting < kConnecting && !origin.queue.empty()) {
        auto place = transfers_.find(origin.queue.front());
        origin.queue.pop_front();
        if (place == transfers_.end()) continue;
        Transfer& transfer = *place->second;
        transfer.easy = take_handle();
        prepare_request(transfer);
        transfer.stage = Transfer::Stage::connecting;
        transfer.stage_at = clock_.now_ms();
        ++origin.connecting;
        curl_multi_add_handle(multi_, transfer.easy);
    }
}

// The transfer connects no more: it has connected, or ended.
void CurlTransport::leave(Transfer& transfer) {
    if (transfer.stage != Transfer::Stage::connecting) return;
    if (transfer.origin->connecting-- == kConnecting) admitting_.push_back(transfer.origin);
}

void CurlTransport::cancel(std::uint64_t id) {
    auto place = transfers_.find(id);
    if (place == transfers_.end()) {
        std::erase_if(refused_, [&](const Refusal& refusal) { return refusal.transfer == id; });
        return;
    }
    give_back(*place->second);
    transfers_.erase(place);
    for (Origin* origin : std::exchange(admitting_, {})) admit(*origin);
    set_deadline();
}

void CurlTransport::pump(TransferSink& sink) {
    sink_ = &sink;
    for (const Refusal& refusal : std::exchange(refused_, {})) {
        sink.on_end(refusal.transfer, TransferEnd::refused, refusal.message);
    }
    int running = 0;
    reactor_.poll([&](int fd, std::uint32_t events) {
        int mask = 0;
        if (events & EPOLLIN) mask |= CURL_CSELECT_IN;
        if (events & EPOLLOUT) mask |= CURL_CSELECT_OUT;
        if (events & (EPOLLERR | EPOLLHUP)) mask |= CURL_CSELECT_ERR | CURL_CSELECT_IN;
        curl_multi_socket_action(multi_, fd, mask, &running);
    });
    if (curl_at_ <= clock_.now_ms()) {
        curl_at_ = INT64_MAX;
        curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect();
    expire();
    for (Origin* origin : std::exchange(admitting_, {})) admit(*origin);
    set_deadline();
    sink_ = nullptr;
}

// The exchanges that curl has ended.
void CurlTransport::collect() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        Transfer* transfer = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        const CURLcode code = code_of(*transfer, message->data.result);
        if (transfer->unfit_connection && !transfer->connects_afresh) {
            connect_afresh(*transfer);
            continue;
        }
        const std::string text = transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
        const auto place = transfers_.find(transfer->id);
        if (transfer->fault) {
            const Transfer::Fault fault = *std::move(transfer->fault);
            end(place, fault.how, fault.message);
        } else {
            const TransferEnd how = how_it_ended(*transfer, code, text);
            end(place, how, message_of(*transfer, how, code, text));
        }
    }
}

// What was kept is not for this request; its host may have another address, too.
void CurlTransport::connect_afresh(Transfer& transfer) {
    transfer.connects_afresh = true;
    transfer.opened.clear();
    transfer.refused_address.clear();
    transfer.error[0] = '\0';
    curl_multi_remove_handle(multi_, transfer.easy);
    curl_easy_setopt(transfer.easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_multi_add_handle(multi_, transfer.easy);
}

// Entries are not moved whenever bytes come: an early one is looked at again and put where it belongs.
void CurlTransport::expire() {
    const std::int64_t now = clock_.now_ms();
    while (!timers_.empty() && timers_.begin()->first <= now) {
        auto place = transfers_.find(timers_.begin()->second);
        Transfer& transfer = *place->second;
        if (transfer.deadline() > now) {
            arm(transfer);
            continue;
        }
        const TransferEnd how = transfer.timeout(now);
        end(place, how, timeout_message(transfer, how));
    }
}

void CurlTransport::end(Table::iterator place, TransferEnd how, const std::string& message) {
    const std::uint64_t id = place->first;
    give_back(*place->second);
    transfers_.erase(place);
    sink_->on_end(id, how, message);
}

void CurlTransport::arm(Transfer& transfer) {
    timers_.erase({transfer.timer_at, transfer.id});
    transfer.timer_at = transfer.deadline();
    timers_.insert({transfer.timer_at, transfer.id});
}

void CurlTransport::enter(Transfer& transfer, Transfer::Stage stage) {
    leave(transfer);
    transfer.stage = stage;
    transfer.stage_at = clock_.now_ms();
    if (stage == Transfer::Stage::waiting) transfer.origin->connected_at = transfer.stage_at;
    arm(transfer);
}

CURL* CurlTransport::take_handle() {
    if (idle_handles_.empty()) return new_handle();
    CURL* easy = idle_handles_.back();
    idle_handles_.pop_back();
    return easy;
}

void CurlTransport::give_back(Transfer& transfer) {
    timers_.erase({transfer.timer_at, transfer.id});
    leave(transfer);
    if (transfer.easy == nullptr) return;
    curl_multi_remove_handle(multi_, transfer.easy);
    if (idle_handles_.size() >= kIdleHandles) return curl_easy_cleanup(transfer.easy);
    forget_request(transfer);
    idle_handles_.push_back(transfer.easy);
}

void CurlTransport::set_deadline() {
    reactor_.set_deadline(std::min(curl_at_, timers_.empty() ? INT64_MAX : timers_.begin()->first));
}

}  // namespace mrprompt
