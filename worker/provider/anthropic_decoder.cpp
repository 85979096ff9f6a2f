// Anthropic message events and documents, told in the terms of a chat completion.
#include "provider/anthropic.hpp"
#include "provider/chat_decoder.hpp"
#include "provider/error_body.hpp"

namespace mrprompt {

namespace {

constexpr std::size_t kMaxThinkingBlocks = 1024;

std::string finish_reason(const std::string& stop_reason) {
    constexpr std::pair<std::string_view, std::string_view> kReasons[] = {
        {"end_turn", "stop"},       {"stop_sequence", "stop"},
        {"max_tokens", "length"},   {"model_context_window_exceeded", "length"},
        {"tool_use", "tool_calls"}, {"refusal", "content_filter"},
    };
    for (const auto& [theirs, ours] : kReasons) {
        if (stop_reason == theirs) return std::string(ours);
    }
    return stop_reason;  // pause_turn, and what is yet to come
}

class AnthropicDecoder final : public ChatDecoder {
public:
    using ChatDecoder::ChatDecoder;

private:
    enum class Block { other, text, thinking, tool_use };

    void on_event(std::string_view, const Json& data) override {
        const std::string type = string_member(data, "type");
        if (type == "message_start") {
            take_message(member(data, "message"));
        } else if (type == "content_block_start") {
            start_block(member(data, "content_block"));
        } else if (type == "content_block_delta") {
            take_delta(member(data, "delta"));
        } else if (type == "content_block_stop") {
            stop_block();
        } else if (type == "message_delta") {
            take_stop(member(data, "delta"));
            take_usage(member(data, "usage"));
        } else if (type == "message_stop") {
            completion_.complete = true;
        }  // ping, and events that are yet to be invented
    }

    void on_document(const Json& document) override {
        if (!member(document, "content").is_array()) {
            return fail(bad_response("the answer is no message", dump_json(document)));
        }
        take_message(document);
        take_stop(document);
    }

    bool ended() const override { return !completion_.finish_reason.empty(); }

    void take_message(const Json& message) {
        completion_.response_id = label(message, "id");
        completion_.model = label(message, "model");
        take_usage(member(message, "usage"));
        const Json& content = member(message, "content");
        if (!content.is_array()) return;
        for (const Json& block : content) {
            start_block(block);
            stop_block();
        }
    }

    // Blocks come one after the other, never interleaved: the index says nothing that the order does not.
    void start_block(const Json& block) {
        stop_block();
        const std::string type = string_member(block, "type");
        if (type == "text") {
            block_ = Block::text;
            add_content(string_member(block, "text"));
        } else if (type == "thinking") {
            block_ = Block::thinking;
            thinking_ = Thinking{};
            take_thinking(string_member(block, "thinking"));
            thinking_.signature = string_member(block, "signature");
        } else if (type == "redacted_thinking") {
            keep({{"type", type}, {"data", sanitize_utf8(string_member(block, "data"))}});
        } else if (type == "tool_use") {
            block_ = Block::tool_use;
            call_ = add_tool_call(string_member(block, "id"), string_member(block, "name"));
            const Json& input = member(block, "input");
            input_ = input.is_object() ? dump_json(input) : "{}";
        }
    }

    void take_delta(const Json& delta) {
        const std::string type = string_member(delta, "type");
        if (type == "text_delta") {
            add_content(string_member(delta, "text"));
        } else if (type == "thinking_delta") {
            take_thinking(string_member(delta, "thinking"));
        } else if (type == "signature_delta") {
            thinking_.signature += string_member(delta, "signature");
        } else if (type == "input_json_delta" && block_ == Block::tool_use) {
            add_arguments(call_, string_member(delta, "partial_json"));
        }
    }

    void stop_block() {
        if (block_ == Block::thinking) {
            thinking_.joiner.flush(thinking_.text);
            keep({{"type", "thinking"},
                  {"thinking", thinking_.text},
                  {"signature", sanitize_utf8(thinking_.signature)}});
        } else if (block_ == Block::tool_use && completion_.tool_calls[call_].arguments.empty()) {
            // A whole message has its input here; in a stream that sent no piece it is {}.
            add_arguments(call_, input_);
        }
        block_ = Block::other;
    }

    void take_thinking(const std::string& text) {
        add_reasoning(text);
        thinking_.joiner.push(text, thinking_.text);
    }

    // Thinking goes back with its signature in a tool loop.
    void keep(Json block) {
        Json& blocks = completion_.raw["thinking"];
        if (blocks.size() < kMaxThinkingBlocks) blocks.push_back(std::move(block));
    }

    void take_stop(const Json& message) {
        if (const std::string reason = label(message, "stop_reason"); !reason.empty()) {
            completion_.finish_reason = finish_reason(reason);
        }
    }

    // Counts are cumulative: a later field takes the place of the earlier one.
    void take_usage(const Json& usage) {
        take_service_tier(usage);
        if (!usage.is_object() || !can_be_kept(usage)) return;
        Json raw = completion_.raw_usage;
        for (const auto& [name, value] : usage.items()) {
            if (!value.is_null() || !raw.contains(name)) raw[name] = value;
        }
        if (!can_be_kept(raw)) return;
        Usage counts;
        counts.cached_tokens = token_count(raw, "cache_read_input_tokens");
        counts.cache_write_tokens = token_count(raw, "cache_creation_input_tokens");
        counts.cache_write_1h_tokens =
            part_of(counts.cache_write_tokens, member(raw, "cache_creation"), "ephemeral_1h_input_tokens");
        counts.prompt_tokens =
            clamp_tokens(token_count(raw, "input_tokens") + counts.cached_tokens + counts.cache_write_tokens);
        counts.completion_tokens = token_count(raw, "output_tokens");
        completion_.usage = counts;
        completion_.raw_usage = std::move(raw);
    }

    struct Thinking {
        Utf8Joiner joiner;
        std::string text, signature;
    };

    Block block_ = Block::other;
    Thinking thinking_;
    std::size_t call_ = 0;
    std::string input_;  // as JSON
};

}  // namespace

std::unique_ptr<Decoder> anthropic_decoder(bool stream, int status, std::string_view) {
    return std::make_unique<AnthropicDecoder>(stream, status);
}

}  // namespace mrprompt
