// Header lists that leave no key behind, and the arithmetic of a transfer's time-outs.
#include "net/transfer.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace mrprompt {

HeaderList::~HeaderList() {
    for (curl_slist* node = list_; node != nullptr; node = node->next) {
        OPENSSL_cleanse(node->data, std::strlen(node->data));
    }
    curl_slist_free_all(list_);
}

void HeaderList::add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list_, line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    list_ = longer;
}

std::int64_t Transfer::deadline() const {
    // Time-outs of 0 or less are none at all.
    const auto after = [](std::int64_t from, std::int64_t ms) { return ms > 0 ? from + ms : INT64_MAX; };
    const std::int64_t whole = after(started_at, request.total_timeout_ms);
    switch (stage) {
        case Stage::queued:
            // Its turn comes as long as others get through: ten thousand handshakes take a while.
            return std::min(whole,
                            after(std::max(started_at, origin->connected_at), request.connect_timeout_ms));
        case Stage::connecting:
            return std::min(whole, after(stage_at, request.connect_timeout_ms));
        case Stage::waiting:
            return std::min(whole, after(stage_at, request.first_byte_timeout_ms));
        case Stage::body:
            return std::min(whole, after(stage_at, request.idle_timeout_ms));
    }
    return whole;
}

TransferEnd Transfer::timeout(std::int64_t now) const {
    if (request.total_timeout_ms > 0 && now >= started_at + request.total_timeout_ms)
        return TransferEnd::timeout_total;
    if (stage <= Stage::connecting) return TransferEnd::timeout_connect;
    return stage == Stage::waiting ? TransferEnd::timeout_first_byte : TransferEnd::timeout_idle;
}

}  // namespace mrprompt
