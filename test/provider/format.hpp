// The two protocols: an answer or an error as the body of a response, whole or as a stream of events.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "answer.hpp"
#include "behaviour.hpp"

namespace mrprompt::fake {

// Server-sent events. `chunks` are what `chunks`, `pace`, `cut` and the like count: a piece of text, of
// reasoning or of a tool call's arguments, with the events that open and close its block.
struct Events {
    std::string opening;
    std::vector<std::string> chunks;
    std::string closing;
};

class Format {
public:
    virtual ~Format() = default;
    virtual std::string whole(const Answer& answer) const = 0;
    virtual Events stream(const Answer& answer, const Behaviour& behaviour) const = 0;

    // An opening, and one chunk of text that may follow itself for ever.
    virtual Events endless(const Answer& answer) const = 0;

    // An error's body; `type` and `code` override what the provider says at this status.
    virtual std::string error(int status, const Behaviour& behaviour, std::string_view message) const = 0;
    // The same in the middle of a stream, and an event that no client knows.
    virtual std::string error_event(const Behaviour& behaviour) const = 0;
    virtual std::string unknown_event() const = 0;
    virtual std::string_view request_id_header() const = 0;
};

const Format& openai_format();
const Format& anthropic_format();

inline const Format& format_of(Protocol protocol) {
    return protocol == Protocol::kOpenAi ? openai_format() : anthropic_format();
}

}  // namespace mrprompt::fake
