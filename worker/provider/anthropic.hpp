// The Anthropic messages protocol, translated from and to the OpenAI chat format.
#pragma once
#include <memory>
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

inline constexpr std::string_view kAnthropicPath = "/v1/messages";
inline constexpr std::string_view kAnthropicVersionHeader = "anthropic-version";
inline constexpr std::string_view kAnthropicVersion = "2023-06-01";

const Protocol& anthropic_protocol();

// The two halves that anthropic_protocol() is made of.
Result<HttpRequest> anthropic_request(const Provider& provider, const Chat& chat, const Secret& key);
std::unique_ptr<Decoder> anthropic_decoder(bool stream, int status, std::string_view content_type);

// The conversation in Anthropic's form: `system` is an array of text blocks, maybe empty.
struct AnthropicConversation {
    Json system = Json::array();
    Json messages = Json::array();
};
Result<AnthropicConversation> anthropic_conversation(const Json& messages);

}  // namespace mrprompt
