// Growth, compaction and wiping of WipedBuffer.
#include "core/wiped_buffer.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <cstring>

namespace mrprompt {

namespace {
constexpr std::size_t kSmallest = 4096;
constexpr std::size_t kKeptWhenEmpty = 256 * 1024;
}  // namespace

std::span<char> WipedBuffer::room(std::size_t count) {
    if (capacity_ - end_ < count) {
        const std::size_t held = end_ - begin_;
        // Moving inside the buffer pays off only when at least half of it is free; else it could be
        // quadratic.
        if (held <= capacity_ / 2 && capacity_ - held >= count) {
            std::memmove(bytes_.get(), bytes_.get() + begin_, held);
            OPENSSL_cleanse(bytes_.get() + held, end_ - held);
        } else {
            const std::size_t capacity = std::max({kSmallest, capacity_ * 2, held + count});
            // for_overwrite: zeroing what recv is about to fill would cost more than the copy
            auto bytes = std::make_unique_for_overwrite<char[]>(capacity);
            if (held > 0) std::memcpy(bytes.get(), bytes_.get() + begin_, held);
            wipe_all();
            bytes_ = std::move(bytes);
            capacity_ = capacity;
        }
        begin_ = 0;
        end_ = held;
    }
    return {bytes_.get() + end_, capacity_ - end_};
}

void WipedBuffer::append(std::string_view bytes) {
    if (bytes.empty()) return;
    std::memcpy(room(bytes.size()).data(), bytes.data(), bytes.size());
    add(bytes.size());
}

void WipedBuffer::consume(std::size_t count) {
    if (count == 0) return;
    OPENSSL_cleanse(bytes_.get() + begin_, count);
    begin_ += count;
    if (begin_ < end_) return;
    begin_ = end_ = 0;
    if (capacity_ > kKeptWhenEmpty) {
        bytes_.reset();
        capacity_ = 0;
    }
}

void WipedBuffer::wipe_all() {
    if (end_ > begin_) OPENSSL_cleanse(bytes_.get() + begin_, end_ - begin_);
}

}  // namespace mrprompt
