// What the fake provider has to know of a chat request, in either protocol.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace mrprompt::fake {

enum class Protocol { kOpenAi, kAnthropic };

struct ChatRequest {
    std::string model;
    std::string last_user_text;
    std::string tool_result;  // of the last message, where that is one
    long tool_rounds = 0;     // how often tools have answered since then
    bool stream = false;
    bool stream_options = false;  // the member stands in the body
    bool include_usage = false;
    std::size_t text_bytes = 0;  // of all messages, for the count of prompt tokens

    // Reads a body. Answers "", or what a strict provider would say is wrong with it.
    std::string read(Protocol protocol, std::string_view body);
};

}  // namespace mrprompt::fake
