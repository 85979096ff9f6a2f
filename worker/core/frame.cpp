// Frame headers, reply payloads with their keys, and nothing that knows PostgreSQL, curl or JSON.
#include "core/frame.hpp"

#include <cstring>

namespace mrprompt {

namespace {

void put_u32(char* out, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (8 * i));
}

std::uint32_t get_u32(const char* in) {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(in[i])} << (8 * i);
    return value;
}

bool known(std::uint8_t kind) {
    return (kind >= 1 && kind <= 6) || kind == 32 || kind == 33 || kind == 48 || kind == 49;
}

void put_header(char* out, FrameKind kind, std::size_t payload) {
    put_u32(out, static_cast<std::uint32_t>(payload));
    out[4] = static_cast<char>(kind);
    out[5] = out[6] = out[7] = 0;
}

std::string_view key_text(const OpenedKey& key) {
    return key.opened ? key.key.view() : key.reason;
}

constexpr std::size_t kKeyHeader = 5;  // u8 opened, u32 length

}  // namespace

void FrameReader::release() {
    buffer_.consume(handed_out_);
    handed_out_ = 0;
}

void FrameReader::feed(std::string_view bytes) {
    release();
    buffer_.append(bytes);
}

std::span<char> FrameReader::room(std::size_t count) {
    release();
    return buffer_.room(count);
}

std::optional<Frame> FrameReader::next() {
    release();
    const std::string_view bytes = buffer_.view();
    if (broken_ || bytes.size() < kFrameHeader) return std::nullopt;
    const std::size_t length = get_u32(bytes.data());
    const auto kind = static_cast<std::uint8_t>(bytes[4]);
    if (length > kMaxFramePayload || !known(kind) || bytes[5] != 0 || bytes[6] != 0 || bytes[7] != 0) {
        broken_ = true;
        return std::nullopt;
    }
    if (bytes.size() - kFrameHeader < length) return std::nullopt;
    handed_out_ = kFrameHeader + length;
    return Frame{static_cast<FrameKind>(kind), bytes.substr(kFrameHeader, length)};
}

bool FrameWriter::append(FrameKind kind, std::string_view payload) {
    if (payload.size() > kMaxFramePayload) return false;
    char* out = buffer_.room(kFrameHeader + payload.size()).data();
    put_header(out, kind, payload.size());
    if (!payload.empty()) std::memcpy(out + kFrameHeader, payload.data(), payload.size());
    buffer_.add(kFrameHeader + payload.size());
    return true;
}

bool FrameWriter::append_reply(std::span<const OpenedKey> keys, std::string_view json) {
    std::size_t payload = 4 + json.size();
    for (const OpenedKey& key : keys) payload += kKeyHeader + key_text(key).size();
    if (payload > kMaxFramePayload) return false;
    // One piece of room for everything: key bytes are written once, into memory that wipes itself.
    char* out = buffer_.room(kFrameHeader + payload).data();
    put_header(out, FrameKind::reply, payload);
    put_u32(out + kFrameHeader, static_cast<std::uint32_t>(keys.size()));
    out += kFrameHeader + 4;
    for (const OpenedKey& key : keys) {
        const std::string_view text = key_text(key);
        out[0] = key.opened ? 1 : 0;
        put_u32(out + 1, static_cast<std::uint32_t>(text.size()));
        if (!text.empty()) std::memcpy(out + kKeyHeader, text.data(), text.size());
        out += kKeyHeader + text.size();
    }
    if (!json.empty()) std::memcpy(out, json.data(), json.size());
    buffer_.add(kFrameHeader + payload);
    return true;
}

Result<ReplyPayload> decode_reply(std::string_view payload) {
    const Error bad{"bad_frame", "a reply frame does not hold what it announces"};
    if (payload.size() < 4) return bad;
    const std::size_t count = get_u32(payload.data());
    payload.remove_prefix(4);
    if (count > payload.size() / kKeyHeader) return bad;
    ReplyPayload reply;
    reply.keys.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        if (payload.size() < kKeyHeader) return bad;
        const auto opened = static_cast<unsigned char>(payload[0]);
        const std::size_t length = get_u32(payload.data() + 1);
        payload.remove_prefix(kKeyHeader);
        if (opened > 1 || length > payload.size()) return bad;
        OpenedKey key;
        key.opened = opened == 1;
        if (key.opened) {
            key.key = Secret(payload.substr(0, length));
        } else {
            key.reason = payload.substr(0, length);
        }
        reply.keys.push_back(std::move(key));
        payload.remove_prefix(length);
    }
    reply.json = payload;
    return reply;
}

}  // namespace mrprompt
