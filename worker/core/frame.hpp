// The frames between supervisor and fetcher (ARCHITECTURE.md, "Frames on the socketpair"). No I/O.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/opened_key.hpp"
#include "core/result.hpp"
#include "core/wiped_buffer.hpp"

namespace mrprompt {

enum class FrameKind : std::uint8_t {
    hello = 1,
    claim = 2,
    append = 3,
    settle = 4,
    heartbeat = 5,
    tend = 6,
    reply = 32,
    error = 33,
    wake = 48,
    stop = 49,
};

inline constexpr std::size_t kFrameHeader = 8;
inline constexpr std::size_t kMaxFramePayload = 256u << 20;

struct Frame {
    FrameKind kind{};
    std::string_view payload;  // holds until the reader's next non-const call, which wipes it
};

// Bytes in, frames out. Either feed() received bytes, or let read(2) write into room() and tell added().
class FrameReader {
public:
    void feed(std::string_view bytes);
    std::span<char> room(std::size_t count);
    void added(std::size_t count) { buffer_.add(count); }

    // The next whole frame; nothing when more bytes are needed or the stream is broken.
    std::optional<Frame> next();

    // A header was impossible (length, kind or padding): the peer is mad, nothing more will come.
    bool broken() const { return broken_; }

private:
    void release();

    WipedBuffer buffer_;
    std::size_t handed_out_ = 0;  // bytes at the front that the last frame still lies in
    bool broken_ = false;
};

// Frames in, bytes out; what was sent is wiped.
class FrameWriter {
public:
    // False, and nothing is queued, when the payload is larger than kMaxFramePayload.
    [[nodiscard]] bool append(FrameKind kind, std::string_view payload);
    [[nodiscard]] bool append_reply(std::span<const OpenedKey> keys, std::string_view json);

    std::string_view pending() const { return buffer_.view(); }  // hand this to send(2)
    void sent(std::size_t count) { buffer_.consume(count); }
    bool empty() const { return buffer_.empty(); }

private:
    WipedBuffer buffer_;
};

// A reply frame's payload.
struct ReplyPayload {
    std::vector<OpenedKey> keys;
    std::string_view json;  // lies in the payload
};
Result<ReplyPayload> decode_reply(std::string_view payload);

}  // namespace mrprompt
