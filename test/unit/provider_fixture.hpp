// A provider transcript fed to a decoder in pieces, and what came out as one JSON value to compare.
#pragma once
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "core/text.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

inline std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline Json tool_calls_json(const std::vector<ToolCallFragment>& calls) {
    Json list = Json::array();
    for (const ToolCallFragment& call : calls) {
        list.push_back(
            {{"index", call.index}, {"id", call.id}, {"name", call.name}, {"arguments", call.arguments}});
    }
    return list;
}

inline Json usage_json(const std::optional<Usage>& usage) {
    if (!usage) return nullptr;
    return {{"prompt_tokens", usage->prompt_tokens},
            {"completion_tokens", usage->completion_tokens},
            {"cached_tokens", usage->cached_tokens},
            {"cache_write_tokens", usage->cache_write_tokens},
            {"cache_write_1h_tokens", usage->cache_write_1h_tokens},
            {"reasoning_tokens", usage->reasoning_tokens},
            {"audio_prompt_tokens", usage->audio_prompt_tokens},
            {"audio_completion_tokens", usage->audio_completion_tokens},
            {"provider_cost", usage->provider_cost}};
}

inline Json error_json(const std::optional<ProviderError>& error) {
    if (!error) return nullptr;
    return {
        {"status", error->status}, {"type", error->type}, {"code", error->code}, {"message", error->message}};
}

inline Json completion_json(const Completion& c) {
    return {{"content", c.has_content ? Json(c.content) : Json()},
            {"reasoning", c.reasoning},
            {"refusal", c.refusal},
            {"tool_calls", tool_calls_json(c.tool_calls)},
            {"finish_reason", c.finish_reason},
            {"model", c.model},
            {"response_id", c.response_id},
            {"service_tier", c.service_tier},
            {"usage", usage_json(c.usage)},
            {"raw_usage", c.raw_usage},
            {"raw", c.raw},
            {"error", error_json(c.error)},
            {"complete", c.complete}};
}

inline Json delta_json(const Delta& d) {
    return {{"content", d.content},
            {"reasoning", d.reasoning},
            {"refusal", d.refusal},
            {"tool_calls", tool_calls_json(d.tool_calls)}};
}

inline bool is_whole(const Delta& delta) {
    const auto whole = [](const std::string& text) { return clean_prefix(text) == text.size(); };
    bool all = whole(delta.content) && whole(delta.reasoning) && whole(delta.refusal);
    for (const ToolCallFragment& call : delta.tool_calls) all = all && whole(call.arguments);
    return all;
}

// Each piece gets a delta of its own, as in a fetcher that flushes after every read.
inline Json decode(const Protocol& protocol, bool stream, int status,
                   const std::vector<std::string_view>& pieces) {
    const std::unique_ptr<Decoder> decoder = protocol.decoder(stream, status, "");
    Delta all;
    for (const std::string_view piece : pieces) {
        Delta delta;
        decoder->feed(piece, delta);
        if (!is_whole(delta)) all.content += "[a character was split]";
        all.append(std::move(delta));
    }
    Delta last;
    decoder->finish(last);
    all.append(std::move(last));
    return {{"completion", completion_json(decoder->completion())}, {"delta", delta_json(all)}};
}

}  // namespace mrprompt
