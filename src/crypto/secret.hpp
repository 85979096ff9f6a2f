// Bytes that must not outlive their use: wiped on destruction, never printed, never copied by accident.
#pragma once
#include <openssl/crypto.h>

#include <string>
#include <string_view>
#include <utility>

namespace mrprompt {

class Secret {
public:
    Secret() = default;
    explicit Secret(std::string_view bytes) : bytes_(bytes) {}
    Secret(Secret&& other) noexcept { take(other); }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            wipe();
            take(other);
        }
        return *this;
    }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { wipe(); }

    // A second holder of the same bytes, made on purpose.
    Secret copy() const { return Secret(view()); }
    std::string_view view() const { return bytes_; }
    bool empty() const { return bytes_.empty(); }

private:
    void take(Secret& other) {
        // A move of a long string takes its memory along; of a short one, it would leave the bytes behind.
        if (other.bytes_.size() > std::string().capacity()) {
            bytes_ = std::move(other.bytes_);
        } else {
            bytes_ = other.bytes_;
            other.wipe();
        }
    }
    void wipe() {
        if (!bytes_.empty()) OPENSSL_cleanse(bytes_.data(), bytes_.size());
        bytes_.clear();
    }
    std::string bytes_;
};

}  // namespace mrprompt
