// Keyring file in, opened keys out.
#include "store/key_opener.hpp"

namespace mrprompt {
namespace {

constexpr std::int64_t kReadAgainMs = 5'000;

std::string text_at(const Json& list, std::size_t i) {
    return list.is_array() && i < list.size() && list[i].is_string() ? list[i].get<std::string>() : "";
}

}  // namespace

std::optional<Error> KeyOpener::read() {
    if (path_.empty()) return std::nullopt;
    auto keyring = Keyring::read_file(path_);
    if (!keyring) return keyring.error();
    keyring_.emplace(std::move(*keyring));
    return std::nullopt;
}

OpenedKey KeyOpener::open(std::string_view sealed, const Binding& binding, std::int64_t now_ms) {
    OpenedKey out;
    if (path_.empty()) {
        out.reason = "this fetcher was started without --master-key-file";
        return out;
    }
    const bool unknown = !keyring_ || keyring_->find(sealed_under(sealed)) == nullptr;
    if (unknown && now_ms >= read_again_at_) {
        read_again_at_ = now_ms + kReadAgainMs;
        if (auto error = read()) out.reason = error->message;
    }
    if (!keyring_) {
        if (out.reason.empty()) out.reason = "the master key file could not be read";
        return out;
    }
    auto key = open_sealed(*keyring_, sealed, binding);
    if (!key) {
        out.reason = key.error().message;
        return out;
    }
    out.opened = true;
    out.key = std::move(*key);
    out.reason.clear();
    return out;
}

std::vector<OpenedKey> open_keys(KeyOpener& opener, const Json& key_ids, const Json& owners,
                                 const Json& providers, const Json& sealed, std::int64_t now_ms) {
    std::vector<OpenedKey> keys;
    if (!sealed.is_array()) return keys;
    keys.reserve(sealed.size());
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        const Binding binding{text_at(key_ids, i), text_at(owners, i), text_at(providers, i)};
        keys.push_back(opener.open(text_at(sealed, i), binding, now_ms));
    }
    return keys;
}

}  // namespace mrprompt
