// OpenAI's chat completions, as the provider writes them.
#include <algorithm>
#include <string>
#include <utility>

#include "format.hpp"

namespace mrprompt::fake {
namespace {

std::string usage_json(const Usage& usage) {
    return R"({"prompt_tokens":)" + std::to_string(usage.prompt) + R"(,"completion_tokens":)" +
           std::to_string(usage.completion) + R"(,"total_tokens":)" +
           std::to_string(usage.prompt + usage.completion) + R"(,"prompt_tokens_details":{"cached_tokens":)" +
           std::to_string(usage.cached) +
           (usage.cache_write ? R"(,"cache_write_tokens":)" + std::to_string(usage.cache_write) : "") +
           R"(,"audio_tokens":)" + std::to_string(usage.audio_prompt) +
           R"(},"completion_tokens_details":{"reasoning_tokens":)" + std::to_string(usage.reasoning) +
           R"(,"audio_tokens":)" + std::to_string(usage.audio_completion) + "}" +
           (usage.cost.empty() ? "" : R"(,"cost":)" + usage.cost) + "}";
}

std::string tier_member(const Answer& answer) {
    return R"(,"service_tier":)" + quoted(answer.service_tier.empty() ? "default" : answer.service_tier);
}

std::string call_json(const ToolCall& call, std::string_view arguments) {
    return R"("id":)" + quoted(call.id) + R"(,"type":"function","function":{"name":)" + quoted(call.name) +
           R"(,"arguments":)" + quoted(arguments) + "}";
}

std::string data_line(std::string_view json) {
    return std::string("data: ").append(json).append("\n\n");
}

// Makes the chunks of one answer.
class Chunks {
public:
    Chunks(const Answer& answer, bool usage_every) : answer_(answer), usage_every_(usage_every) {
        head_ = R"({"id":"chatcmpl-)" + answer.serial +
                R"(","object":"chat.completion.chunk","created":1700000000,"model":)" + quoted(answer.model) +
                R"(,"choices":[)";
    }

    // `usage`, where given, stands instead of what a chunk says of usage by itself.
    std::string delta(std::string_view members, std::string_view finish = {}, std::string_view usage = {}) {
        ++sent_;
        return data_line(head_ + R"({"index":0,"delta":{)" + std::string(members) + R"(},"finish_reason":)" +
                         (finish.empty() ? "null" : quoted(finish)) + "}]" +
                         (usage.empty() ? usage_member() : std::string(usage)) + "}");
    }
    std::string bare(std::string_view members) { return data_line(head_ + "]" + std::string(members) + "}"); }

private:
    // Some servers count up in every chunk; OpenAI sends null in all but the last.
    std::string usage_member() const {
        if (!answer_.send_usage) return {};
        if (!usage_every_) return R"(,"usage":null)";
        Usage partial = answer_.usage;
        partial.completion = std::min(sent_, answer_.usage.completion);
        return R"(,"usage":)" + usage_json(partial);
    }

    const Answer& answer_;
    bool usage_every_;
    std::string head_;
    long sent_ = 0;
};

class OpenAi final : public Format {
public:
    std::string whole(const Answer& answer) const override {
        std::string message = R"({"role":"assistant","content":)";
        const bool silent = answer.text.empty() && (!answer.calls.empty() || !answer.refusal.empty());
        message += silent ? "null" : quoted(join(answer.text));
        message += R"(,"refusal":)" + (answer.refusal.empty() ? "null" : quoted(join(answer.refusal)));
        if (!answer.reasoning.empty()) message += R"(,"reasoning_content":)" + quoted(join(answer.reasoning));
        for (std::size_t i = 0; i < answer.calls.size(); ++i)
            message += (i == 0 ? R"(,"tool_calls":[{)" : ",{") +
                       call_json(answer.calls[i], join(answer.calls[i].arguments)) + "}";
        message += answer.calls.empty() ? "}" : "]}";
        return R"({"id":"chatcmpl-)" + answer.serial +
               R"(","object":"chat.completion","created":1700000000,"model":)" + quoted(answer.model) +
               R"(,"choices":[{"index":0,"message":)" + message + R"(,"logprobs":null,"finish_reason":)" +
               quoted(answer.finish) + "}]" +
               (answer.send_usage ? R"(,"usage":)" + usage_json(answer.usage) : "") + tier_member(answer) +
               "}";
    }

    Events stream(const Answer& answer, const Behaviour& behaviour) const override {
        Chunks chunks(answer, on(behaviour.usage_every));
        Events events;
        if (on(behaviour.empty_choices))
            events.opening = chunks.bare(R"(,"prompt_filter_results":[{"prompt_index":0}])");
        events.opening += chunks.delta(R"("role":"assistant","content":"")");
        for (const std::string& piece : answer.reasoning)
            events.chunks.push_back(chunks.delta(R"("reasoning_content":)" + quoted(piece)));
        for (const std::string& piece : answer.refusal)
            events.chunks.push_back(chunks.delta(R"("refusal":)" + quoted(piece)));
        for (const std::string& piece : answer.text)
            events.chunks.push_back(chunks.delta(R"("content":)" + quoted(piece)));
        for (std::size_t i = 0; i < answer.calls.size(); ++i) {
            const std::string index = R"("tool_calls":[{"index":)" + std::to_string(i) + ",";
            std::string opened = chunks.delta(index + call_json(answer.calls[i], "") + "}]");
            for (const std::string& piece : answer.calls[i].arguments) {
                opened += chunks.delta(index + R"("function":{"arguments":)" + quoted(piece) + "}}]");
                events.chunks.push_back(std::move(opened));
                opened.clear();
            }
        }
        const std::string usage = R"(,"usage":)" + usage_json(answer.usage);
        const bool in_finish = on(behaviour.usage_in_finish);
        events.closing = chunks.delta("", answer.finish, in_finish ? usage : "");
        if (answer.send_usage && !in_finish) events.closing += chunks.bare(tier_member(answer) + usage);
        if (!on(behaviour.no_done)) events.closing += data_line("[DONE]");
        return events;
    }

    Events endless(const Answer& answer) const override {
        Events events = stream(answer, {});
        events.chunks = {Chunks(answer, false).delta(R"("content":)" + quoted(std::string(1000, 'x')))};
        return events;
    }

    std::string error(int status, const Behaviour& behaviour, std::string_view message) const override {
        const auto [type, code] = words_of(status);
        return R"({"error":{"message":)" + quoted(escape(message)) + R"(,"type":)" +
               quoted(escape(behaviour.error_type.value_or(type))) + R"(,"param":null,"code":)" +
               quoted(escape(behaviour.error_code.value_or(code))) + "}}";
    }
    std::string error_event(const Behaviour& behaviour) const override {
        return data_line(error(500, behaviour, behaviour.error_message.value_or("The server had an error")));
    }
    std::string unknown_event() const override {
        return "event: weather\ndata: {\"object\":\"weather.report\",\"sky\":\"clear\"}\n\n";
    }
    std::string_view request_id_header() const override { return "x-request-id"; }

private:
    static std::pair<const char*, const char*> words_of(int status) {
        switch (status) {
            case 401:
                return {"invalid_request_error", "invalid_api_key"};
            case 404:
                return {"invalid_request_error", "model_not_found"};
            case 429:
                return {"requests", "rate_limit_exceeded"};
            default:
                return status >= 500 ? std::pair{"server_error", "server_error"}
                                     : std::pair{"invalid_request_error", "invalid_value"};
        }
    }
};

}  // namespace

const Format& openai_format() {
    static const OpenAi format;
    return format;
}

}  // namespace mrprompt::fake
