// What every decoder promises of any body, whatever the request was and however the bytes are cut.
#pragma once
#include "../unit/provider_fixture.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {

inline constexpr std::size_t kMaxMessageBytes = 2000;
inline constexpr std::size_t kMaxWordBytes = 100;
inline constexpr std::size_t kMaxTierBytes = 50;
inline constexpr std::size_t kMaxToolCalls = 1024;
inline constexpr std::int64_t kMaxTokens = 1'000'000'000;

inline void check_usage(const Json& usage) {
    for (const auto& [name, count] : usage.items()) {
        if (name == "provider_cost") {
            promise(count.is_null() || (count.is_number() && count >= 0), "a cost is an amount");
        } else {
            promise(count >= 0 && count <= kMaxTokens, name + " is a count of tokens");
        }
    }
    promise(usage["cache_write_1h_tokens"] <= usage["cache_write_tokens"] &&
                usage["audio_prompt_tokens"] <= usage["prompt_tokens"] &&
                usage["audio_completion_tokens"] <= usage["completion_tokens"],
            "a part is no larger than its whole");
}

inline void check_completion(const Json& completion) {
    for (const char* name : {"content", "reasoning", "refusal", "finish_reason", "model", "response_id",
                             "service_tier", "tool_calls", "raw", "error"}) {
        promise(strings_are_clean(completion[name]), std::string(name) + " is UTF-8 without NUL");
    }
    promise(completion["complete"] == completion["error"].is_null(),
            "an answer is either complete or an error");
    promise(completion["tool_calls"].size() <= kMaxToolCalls, "tool calls keep to their limit");
    int place = 0;
    for (const Json& call : completion["tool_calls"])
        promise(call["index"] == place++, "tool calls are counted from 0");
    promise(completion["service_tier"].get_ref<const std::string&>().size() <= kMaxTierBytes,
            "a service tier is short");
    if (const Json& usage = completion["usage"]; usage.is_object()) check_usage(usage);
    if (const Json& error = completion["error"]; error.is_object()) {
        promise(error["message"].get_ref<const std::string&>().size() <= kMaxMessageBytes,
                "an error's message is short");
        promise(error["type"].get_ref<const std::string&>().size() <= kMaxWordBytes,
                "an error's type is short");
        promise(error["code"].get_ref<const std::string&>().size() <= kMaxWordBytes,
                "an error's code is short");
        promise(!error["type"].get_ref<const std::string&>().empty(), "an error has a type");
    }
}

// A stream's deltas are its answer, piece by piece; without a stream there are none.
inline void check_delta(const Json& delta, const Json& completion, bool stream) {
    for (const char* name : {"content", "reasoning", "refusal"}) {
        const Json said =
            name == std::string_view("content") && completion[name].is_null() ? Json("") : completion[name];
        promise(delta[name] == (stream ? said : Json("")),
                std::string("the deltas' ") + name + " is the answer's");
    }
    promise(delta["tool_calls"] == (stream ? completion["tool_calls"] : Json::array()),
            "the deltas' tool calls are the answer's");
}

inline void check_decoder(const Protocol& protocol, std::string_view body) {
    constexpr struct {
        bool stream;
        int status;
    } kCases[] = {{true, 200}, {false, 200}, {true, 503}};
    for (const auto& [stream, status] : kCases) {
        const Json whole = decode(protocol, stream, status, {body});
        promise(decode(protocol, stream, status, pieces_of(body)) == whole, "cutting changes nothing");
        check_completion(whole["completion"]);
        check_delta(whole["delta"], whole["completion"], stream);
        promise(status == 200 || !whole["completion"]["error"].is_null(), "a refusal is an error");
    }
}

}  // namespace mrprompt::fuzz
