// A queue of bytes that may hold keys: whatever leaves it, or is left behind when it grows, is wiped.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

namespace mrprompt {

// Bytes enter at the end (room, then add) and leave at the front (consume); both amortised O(1) per byte.
// Views and spans hold until the next call that is not const.
class WipedBuffer {
public:
    WipedBuffer() = default;
    WipedBuffer(const WipedBuffer&) = delete;
    WipedBuffer& operator=(const WipedBuffer&) = delete;
    ~WipedBuffer() { wipe_all(); }

    std::string_view view() const { return {bytes_.get() + begin_, end_ - begin_}; }
    bool empty() const { return begin_ == end_; }

    // At least `count` writable bytes behind the last one; add(n) makes the first n of them part of the
    // queue.
    std::span<char> room(std::size_t count);
    void add(std::size_t count) { end_ += count; }
    void append(std::string_view bytes);

    // Wipes the first `count` bytes. A large empty buffer gives its memory back.
    void consume(std::size_t count);

private:
    void wipe_all();

    std::unique_ptr<char[]> bytes_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

}  // namespace mrprompt
