// Sealing and opening, and the associated data that ties a sealed text to its place.
#include "crypto/sealed_text.hpp"

#include <cstdint>
#include <optional>

#include "crypto/digest.hpp"

#ifdef POSTGRES_H
#error "src/crypto knows nothing of PostgreSQL"
#endif

namespace mrprompt {
namespace {

constexpr std::string_view kVersion = "mrp1";

void append_field(std::string& associated, std::string_view field) {
    const auto size = static_cast<std::uint32_t>(field.size());
    for (int shift = 24; shift >= 0; shift -= 8) associated += static_cast<char>((size >> shift) & 0xff);
    associated += field;
}

// Length prefixes keep ("ab", "c") and ("a", "bc") apart.
std::string associated_data(const Binding& binding) {
    std::string associated;
    associated.reserve(16 + kVersion.size() + binding.key_id.size() + binding.owner.size() +
                       binding.provider.size());
    append_field(associated, kVersion);
    append_field(associated, binding.key_id);
    append_field(associated, binding.owner);
    append_field(associated, binding.provider);
    return associated;
}

struct Parts {
    std::string_view master_key_id;
    std::string_view encoded;
};

std::optional<Parts> split(std::string_view sealed) {
    if (!sealed.starts_with(kVersion) || sealed.size() <= kVersion.size() || sealed[kVersion.size()] != '.')
        return std::nullopt;
    sealed.remove_prefix(kVersion.size() + 1);
    const std::size_t dot = sealed.find('.');
    if (dot == std::string_view::npos || !valid_master_key_id(sealed.substr(0, dot))) return std::nullopt;
    return Parts{sealed.substr(0, dot), sealed.substr(dot + 1)};
}

}  // namespace

Result<std::string> seal(const Keyring& keyring, const Secret& plain, const Binding& binding) {
    if (plain.view().size() > kMaxSecretBytes) return Error{"too_large", "a secret has at most 64 KB"};
    const MasterKey& master = keyring.active();
    std::string body = random_bytes(kAeadNonceBytes);
    body += master.sealing.seal(body, plain.view(), associated_data(binding));

    std::string sealed(kVersion);
    sealed += '.';
    sealed += master.id;
    sealed += '.';
    sealed += to_base64(body);
    return sealed;
}

Result<Secret> open_sealed(const Keyring& keyring, std::string_view sealed, const Binding& binding) {
    const std::optional<Parts> parts = split(sealed);
    const std::optional<std::string> body = parts ? from_base64(parts->encoded) : std::nullopt;
    if (!body || body->size() < kAeadNonceBytes + kAeadTagBytes)
        return Error{"malformed", "this is not a sealed key (mrp1.<master key id>.<base64>)"};
    const MasterKey* master = keyring.find(parts->master_key_id);
    if (master == nullptr)
        return Error{"unknown_master_key", "sealed under master key \"" + std::string(parts->master_key_id) +
                                               "\", which the master key file does not hold"};
    const std::string_view view = *body;
    std::optional<Secret> plain = master->sealing.open(
        view.substr(0, kAeadNonceBytes), view.substr(kAeadNonceBytes), associated_data(binding));
    if (!plain) return Error{"does_not_open", "sealed under another master key of that id, for another row, owner or provider, or damaged"};
    return std::move(*plain);
}

std::string_view sealed_under(std::string_view sealed) {
    const std::optional<Parts> parts = split(sealed);
    return parts ? parts->master_key_id : std::string_view{};
}

}  // namespace mrprompt
