// The request and the decoder of a verification, beside the protocols' own.
#include "provider/verification.hpp"

#include "provider/anthropic.hpp"
#include "provider/http_request.hpp"
#include "provider/openai.hpp"

namespace mrprompt {

namespace {

// A list of models, or whatever else a provider answers there. What is no JSON comes from somebody else.
class Acceptance final : public Decoder {
public:
    void feed(std::string_view bytes, Delta&) override {
        if (first_ != '\0') return;
        const std::size_t at = bytes.find_first_not_of(" \t\r\n");
        if (at != std::string_view::npos) first_ = bytes[at];
    }
    void finish(Delta&) override {
        if (first_ == '{' || first_ == '[') {
            completion_.complete = true;
            completion_.usage = Usage{};
        } else {
            completion_.error = ProviderError{
                0, "bad_response", "",
                "the answer to the key's verification is no JSON: is this the provider's address?"};
        }
    }

private:
    char first_ = '\0';
};

class Verification final : public Protocol {
public:
    Verification(const Protocol& whole, std::string_view chat_path, std::string_view path)
        : whole_(whole), chat_path_(chat_path), path_(path) {}

    Result<HttpRequest> request(const Provider& provider, const Chat& chat,
                                const Secret& key) const override {
        Provider place = provider;
        place.base_url = base_of(provider.base_url, provider.path.empty() ? chat_path_ : provider.path);
        place.path = provider.verify_path;
        Result<HttpRequest> request = start_request(place, chat, key, path_);
        if (!request) return request;
        request->get = true;
        if (provider.protocol == "anthropic")
            default_header(*request, kAnthropicVersionHeader, kAnthropicVersion);
        return request;
    }

    std::unique_ptr<Decoder> decoder(bool stream, int status, std::string_view content_type) const override {
        if (status < 200 || status > 299) return whole_.decoder(stream, status, content_type);
        return std::make_unique<Acceptance>();
    }

private:
    const Protocol& whole_;
    std::string_view chat_path_;
    std::string_view path_;
};

}  // namespace

const Protocol* find_verification(std::string_view protocol) {
    static const Verification kOpenAi(*find_protocol("openai"), kOpenAiPath, "/models");
    static const Verification kAnthropic(*find_protocol("anthropic"), kAnthropicPath, "/v1/models");
    if (protocol == "openai") return &kOpenAi;
    if (protocol == "anthropic") return &kAnthropic;
    return nullptr;
}

}  // namespace mrprompt
