// What goes out on one connection for one request: bytes, pauses between them, and how it ends.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "behaviour.hpp"
#include "chat.hpp"

namespace mrprompt::fake {

struct Script {
    enum class End { kKeep, kClose, kReset, kHang };
    static constexpr long kForever = -1;
    struct Step {
        long wait_ms = 0;  // before each time
        std::string bytes;
        long times = 1;
    };

    int status = 200;  // for the statistics; 0 where there is no head
    std::vector<Step> steps;
    End end = End::kKeep;
    std::optional<long> drip_ms{};  // every byte by itself, this long after the one before it

    // Sends `bytes` after `wait_ms`; what needs no pause goes out with what is before it.
    void add(std::string bytes, long wait_ms = 0);

    // Sends `bytes` so many times, or for ever, each time after `wait_ms`.
    void repeat(std::string_view bytes, long wait_ms, long times = kForever);
};

// A response with a body of known length.
Script plain_response(int status, std::string_view content_type, std::string_view body,
                      std::string_view headers = {});

// The answer to a chat request that behaves as `behaviour` says.
Script chat_response(const Behaviour& behaviour, const ChatRequest& request, Protocol protocol,
                     std::string_view key, const std::string& serial);

// An error in the provider's own format, with the status of the behaviour or else `status`.
Script error_response(const Behaviour& behaviour, Protocol protocol, int status, std::string_view message,
                      const std::string& serial);

}  // namespace mrprompt::fake
