// The OpenAI adapter: its two halves under the Protocol interface.
#include "provider/openai.hpp"

namespace mrprompt {

namespace {

class OpenAi final : public Protocol {
public:
    Result<HttpRequest> request(const Provider& provider, const Chat& chat,
                                const Secret& key) const override {
        return openai_request(provider, chat, key);
    }
    std::unique_ptr<Decoder> decoder(bool stream, int status, std::string_view content_type) const override {
        return openai_decoder(stream, status, content_type);
    }
};

}  // namespace

const Protocol& openai_protocol() {
    static const OpenAi kProtocol;
    return kProtocol;
}

}  // namespace mrprompt
