// How one answer shall behave: the small language `fake?name=value&name` that a request carries.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace mrprompt::fake {

using Number = std::optional<long>;
using Text = std::optional<std::string>;

// Whether a behaviour that is a flag is set.
inline bool on(const Number& flag) {
    return flag.value_or(0) != 0;
}

// Every member is a behaviour of that name; README.md says what each does.
struct Behaviour {
    Text text;
    Number words, big, json, nul, bad_utf8, surrogate, reasoning;
    Text refusal, tool, args, finish;
    Number parallel, again;

    Number chunks, pace, delay, drip;

    Number status;
    Text error_message, error_type, error_code, require_key, redirect, content_type;
    Number retry_after, retry_after_ms, echo_key, html, head_bytes, close;

    Number cut, reset, hang, error_in_stream, garbage, garbage_json, endless, length_lie;
    Text raw, loop, tail;
    Number loops;
    Number fail_times;
    Text id;

    Number usage, no_usage, usage_every, usage_in_finish, no_done, empty_choices, comments, crlf;
    Number unknown_event, refuse_stream_options;
    Number prompt, completion, cached, cache_write, cache_write_1h, reasoning_tokens;
    Number audio_prompt, audio_completion;
    Text service_tier, cost;

    // Reads `name=value&name…` over what is set already. A name without a value is 1. Answers "", or what
    // is wrong with it: a misspelt behaviour must not pass for a provider that behaves.
    std::string read(std::string_view query);

    // Whether anything is asked for that is no answer as it should be.
    bool has_fault() const;

    // What remains once `fail_times` is used up: the content and the pace, none of the faults.
    void drop_faults();
};

// The first word of `text` that begins with `fake?`, without that prefix; nothing where there is none.
std::optional<std::string_view> find_query(std::string_view text);

// `text` without that word and the blanks around it.
std::string without_query(std::string_view text);

}  // namespace mrprompt::fake
