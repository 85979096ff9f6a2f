// Chat completion chunks and documents, with the habits of many compatible servers.
#include "provider/chat_decoder.hpp"
#include "provider/error_body.hpp"
#include "provider/openai.hpp"

namespace mrprompt {

namespace {

constexpr std::int64_t kNoIndex = -1;

class OpenAiDecoder final : public ChatDecoder {
public:
    using ChatDecoder::ChatDecoder;

private:
    enum Form { kChunk, kDocument };

    void on_event(std::string_view, const Json& chunk) override { take(chunk, kChunk); }

    void on_document(const Json& document) override {
        const Json& choices = member(document, "choices");
        if (!choices.is_array() || choices.empty()) {
            return fail(bad_response("the answer has no choices", dump_json(document)));
        }
        take(document, kDocument);
    }

    bool ended() const override { return !completion_.finish_reason.empty(); }

    void take(const Json& document, Form form) {
        if (completion_.response_id.empty()) completion_.response_id = label(document, "id");
        if (completion_.model.empty()) completion_.model = label(document, "model");
        take_service_tier(document);
        take_usage(member(document, "usage"));
        take_usage(member(member(document, "x_groq"), "usage"));
        const Json& choices = member(document, "choices");
        if (!choices.is_array()) return;
        for (const Json& choice : choices) {
            if (const Json& index = member(choice, "index"); index.is_number_integer() && index != 0)
                continue;
            take_choice(choice, form);
        }
    }

    void take_choice(const Json& choice, Form form) {
        if (auto error = reported_error(choice))
            return fail(std::move(*error));   // OpenRouter, upstream failure
        take_usage(member(choice, "usage"));  // Moonshot
        const Json& delta = member(choice, form == kChunk ? "delta" : "message");
        take_content(member(delta, "content"));
        const Json& reasoning = member(delta, "reasoning_content");                    // DeepSeek, vLLM, xAI
        take_reasoning(reasoning.is_null() ? member(delta, "reasoning") : reasoning);  // OpenRouter, Groq
        if (const Json& refusal = member(delta, "refusal"); refusal.is_string()) {
            add_refusal(refusal.get_ref<const std::string&>());
        }
        take_tool_calls(member(delta, "tool_calls"), form);
        if (const Json& call = member(delta, "function_call"); call.is_object()) take_call(0, {}, call, form);
        if (member(choice, "finish_reason").is_string()) {
            completion_.finish_reason = label(choice, "finish_reason");
            if (completion_.finish_reason == "error") {
                fail("provider_error", "the provider ended the answer with an error");
            }
        }
    }

    // Text, or a list of parts (Mistral).
    void take_content(const Json& content) {
        if (content.is_string()) return add_content(content.get_ref<const std::string&>());
        if (!content.is_array()) return;
        for (const Json& part : content) {
            const std::string type = string_member(part, "type");
            if (type == "thinking") {
                take_reasoning(member(part, "thinking"));
            } else if (type == "refusal") {
                add_refusal(string_member(part, "refusal"));
            } else if (const Json& text = member(part, "text"); text.is_string()) {
                add_content(text.get_ref<const std::string&>());
            }
        }
    }

    void take_reasoning(const Json& reasoning) {
        if (reasoning.is_string()) return add_reasoning(reasoning.get_ref<const std::string&>());
        if (!reasoning.is_array()) return;
        for (const Json& part : reasoning) add_reasoning(string_member(part, "text"));
    }

    void take_tool_calls(const Json& calls, Form form) {
        if (!calls.is_array()) return;
        for (const Json& call : calls) {
            if (!call.is_object()) continue;
            const Json& index = member(call, "index");
            take_call(number_of(index), string_member(call, "id"), member(call, "function"), form);
            if (failed()) return;
        }
    }

    // Only ever compared: numbers of any size are told apart, and what is none is no index.
    static std::int64_t number_of(const Json& index) {
        const bool number =
            index.is_number_unsigned() ? index.get<std::uint64_t>() <= INT64_MAX : index.is_number_integer();
        return number ? index.get<std::int64_t>() : kNoIndex;
    }

    // The fragments of a stream go together by index, or, where a server sends none, by being the last.
    void take_call(std::int64_t index, const std::string& id, const Json& function, Form form) {
        const std::string name = string_member(function, "name");
        const Json& value = member(function, "arguments");
        const std::string arguments =
            value.is_object() ? dump_json(value) : string_member(function, "arguments");
        std::size_t place = form == kDocument ? 0 : indices_.size();
        while (place > 0 && index != kNoIndex && indices_[place - 1] != index) --place;
        if (place == 0 || begins_another(place - 1, id, name, arguments)) {
            place = add_tool_call(id, name);
            if (failed()) return;
            indices_.push_back(index);
        } else {
            name_tool_call(--place, id, name);
        }
        add_arguments(place, arguments);
    }

    // Some servers give every call the same index, and some no id: a new id with a name, or a name after
    // arguments that are whole, begins another call.
    bool begins_another(std::size_t place, const std::string& id, const std::string& name,
                        const std::string& arguments) const {
        if (name.empty()) return false;
        const ToolCallFragment& call = completion_.tool_calls[place];
        if (!id.empty() && !call.id.empty()) return call.id != sanitize_utf8(id);
        return id.empty() && !arguments.empty() && has_whole_arguments(place);
    }

    // The last one stands: servers send usage at the end, with every chunk, or both, always for the whole
    // request.
    void take_usage(const Json& raw) {
        if (!raw.is_object()) return;
        const Json& prompt = member(raw, "prompt_tokens_details");
        const Json& completion = member(raw, "completion_tokens_details");
        const auto first_of = [](std::int64_t a, std::int64_t b) { return a > 0 ? a : b; };
        Usage usage;
        usage.prompt_tokens = token_count(raw, "prompt_tokens");
        usage.completion_tokens = token_count(raw, "completion_tokens");
        usage.cached_tokens = first_of(token_count(prompt, "cached_tokens"),
                                       first_of(token_count(raw, "prompt_cache_hit_tokens"),  // DeepSeek
                                                token_count(raw, "cached_tokens")));          // Moonshot
        usage.cache_write_tokens = first_of(token_count(prompt, "cache_write_tokens"),
                                            token_count(raw, "cache_creation_input_tokens"));  // LiteLLM
        usage.reasoning_tokens = token_count(completion, "reasoning_tokens");
        usage.audio_prompt_tokens = part_of(usage.prompt_tokens, prompt, "audio_tokens");
        usage.audio_completion_tokens = part_of(usage.completion_tokens, completion, "audio_tokens");
        if (const Json& cost = member(raw, "cost"); cost.is_number() && cost >= 0)
            usage.provider_cost = cost;  // OpenRouter
        // xAI and Gemini count reasoning in the total only; everyone bills it as completion.
        const std::int64_t hidden =
            token_count(raw, "total_tokens") - usage.prompt_tokens - usage.completion_tokens;
        const bool cached_apart = hidden == usage.cached_tokens + usage.cache_write_tokens;
        if (hidden > 0 && !cached_apart &&
            (usage.reasoning_tokens == 0 || usage.reasoning_tokens == hidden)) {
            usage.reasoning_tokens = hidden;
            usage.completion_tokens += hidden;
        }
        completion_.usage = usage;
        if (can_be_kept(raw)) completion_.raw_usage = raw;
    }

    std::vector<std::int64_t> indices_;  // the provider's index of each call
};

}  // namespace

std::unique_ptr<Decoder> openai_decoder(bool stream, int status, std::string_view) {
    return std::make_unique<OpenAiDecoder>(stream, status);
}

}  // namespace mrprompt
