// Sees whether memory is freed with a secret still in it, by the sanitizer's hooks.
#pragma once
#include <sanitizer/allocator_interface.h>

#include <cstring>
#include <string>
#include <string_view>

namespace mrprompt {

// Looks from its construction to its end; one at a time. The sanitizer never takes a hook back, so there is
// one for all, which does nothing while nobody looks.
class FreedMemory {
public:
    explicit FreedMemory(std::string_view secret) : secret_(secret) {
        static const int hook =
            __sanitizer_install_malloc_and_free_hooks([](const volatile void*, std::size_t) {}, &look);
        (void)hook;
        looking_ = this;
    }
    ~FreedMemory() { looking_ = nullptr; }
    FreedMemory(const FreedMemory&) = delete;
    FreedMemory& operator=(const FreedMemory&) = delete;

    // Whether a block was freed with the secret in it.
    bool held_secret() const { return held_secret_; }

private:
    static void look(const volatile void* block) {
        FreedMemory* const self = looking_;
        if (self == nullptr) return;
        const void* const place = const_cast<const void*>(block);
        const std::size_t size = __sanitizer_get_allocated_size(place);
        if (size > 0 && memmem(place, size, self->secret_.data(), self->secret_.size()) != nullptr)
            self->held_secret_ = true;
    }

    static inline FreedMemory* looking_ = nullptr;
    const std::string_view secret_;
    bool held_secret_ = false;
};

}  // namespace mrprompt
