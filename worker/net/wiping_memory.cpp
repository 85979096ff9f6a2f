// free and realloc that leave nothing behind.
#include "net/wiping_memory.hpp"

#include <malloc.h>
#include <openssl/crypto.h>

#include <cstdlib>
#include <cstring>

namespace mrprompt {
namespace {

void wipe_and_free(void* block) noexcept {
    if (block == nullptr) return;
    OPENSSL_cleanse(block, malloc_usable_size(block));
    std::free(block);
}

// The C library's own realloc frees the old place unwiped when it moves.
void* wiping_realloc(void* block, std::size_t size) noexcept {
    if (block == nullptr) return std::malloc(size);
    const std::size_t old = malloc_usable_size(block);
    if (size <= old && size >= old / 2) return block;
    void* moved = std::malloc(size);
    if (moved == nullptr) return nullptr;
    std::memcpy(moved, block, size < old ? size : old);
    wipe_and_free(block);
    return moved;
}

}  // namespace

CURLcode start_curl_on_wiping_memory() {
    return curl_global_init_mem(CURL_GLOBAL_DEFAULT, std::malloc, wipe_and_free, wiping_realloc, strdup,
                                std::calloc);
}

}  // namespace mrprompt
