// The OpenAI chat completions protocol, as OpenAI and the many compatible servers speak it.
#pragma once
#include <memory>
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

inline constexpr std::string_view kOpenAiPath = "/chat/completions";

const Protocol& openai_protocol();

// The two halves that openai_protocol() is made of.
Result<HttpRequest> openai_request(const Provider& provider, const Chat& chat, const Secret& key);
std::unique_ptr<Decoder> openai_decoder(bool stream, int status, std::string_view content_type);

}  // namespace mrprompt
