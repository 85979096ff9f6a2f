// What the fake provider says, before any protocol gives it a form.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "behaviour.hpp"
#include "chat.hpp"

namespace mrprompt::fake {

// The inside of a JSON string, already escaped, in the pieces in which it is streamed.
using Pieces = std::vector<std::string>;

struct ToolCall {
    std::string id;
    std::string name;  // escaped
    std::string json;  // the arguments
    Pieces arguments;  // the same, escaped
};

// The counts as OpenAI means them: prompt includes both caches and audio, completion includes reasoning and
// audio.
struct Usage {
    long prompt = 0, completion = 0, cached = 0, cache_write = 0, cache_write_1h = 0, reasoning = 0;
    long audio_prompt = 0, audio_completion = 0;
    std::string cost;  // as JSON; empty: not said
};

struct Answer {
    std::string serial;  // makes ids of responses
    std::string model;   // escaped
    Pieces reasoning, refusal, text;
    std::vector<ToolCall> calls;
    std::string finish;        // OpenAI's word for it, escaped
    std::string service_tier;  // escaped; empty: the protocol's ordinary one
    Usage usage;
    bool send_usage = true;
};

Answer make_answer(const Behaviour& behaviour, const ChatRequest& request, Protocol protocol,
                   std::string serial);

// `text` as the inside of a JSON string. Bytes that are no UTF-8 stay as they are.
std::string escape(std::string_view text);

// In quotes, what is escaped already.
std::string quoted(std::string_view escaped);

std::string join(const Pieces& pieces);

}  // namespace mrprompt::fake
