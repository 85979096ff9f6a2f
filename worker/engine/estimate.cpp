// Looks for images among the parts of a chat's messages, as bounds_of() in sql/install/meters.sql does.
#include "engine/estimate.hpp"

#include <algorithm>
#include <string>

namespace mrprompt {
namespace {

constexpr std::int64_t kTokensPerImage = 1'000;

// Bytes of the image that stand in the part itself, as a data: URL or as Anthropic's base64.
std::size_t inline_bytes(const Json& part) {
    const Json& image = member(part, "image_url");
    const Json& url = image.is_object() ? member(image, "url") : image;
    if (url.is_string()) {
        const auto& text = url.get_ref<const std::string&>();
        return text.starts_with("data:") ? text.size() : 0;
    }
    const Json& data = member(member(part, "source"), "data");
    return data.is_string() ? data.get_ref<const std::string&>().size() : 0;
}

}  // namespace

std::int64_t estimated_prompt(const Json& payload, std::size_t body_bytes) {
    std::int64_t images = 0;
    std::size_t bytes = 0;
    const Json& messages = member(payload, "messages");
    if (messages.is_array()) {
        for (const Json& message : messages) {
            const Json& parts = member(message, "content");
            if (!parts.is_array()) continue;
            for (const Json& part : parts) {
                const std::string type = string_member(part, "type");
                if (type != "image_url" && type != "image" && type != "input_image") continue;
                ++images;
                bytes += inline_bytes(part);
            }
        }
    }
    return estimated_tokens(body_bytes - std::min(bytes, body_bytes)) + images * kTokensPerImage;
}

}  // namespace mrprompt
