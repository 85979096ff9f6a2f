// The Anthropic adapter: its two halves under the Protocol interface.
#include "provider/anthropic.hpp"

namespace mrprompt {

namespace {

class Anthropic final : public Protocol {
public:
    Result<HttpRequest> request(const Provider& provider, const Chat& chat,
                                const Secret& key) const override {
        return anthropic_request(provider, chat, key);
    }
    std::unique_ptr<Decoder> decoder(bool stream, int status, std::string_view content_type) const override {
        return anthropic_decoder(stream, status, content_type);
    }
};

}  // namespace

const Protocol& anthropic_protocol() {
    static const Anthropic kProtocol;
    return kProtocol;
}

}  // namespace mrprompt
