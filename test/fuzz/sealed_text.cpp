// Nothing opens but what was sealed, where it was sealed; base64, hexadecimal and key files are read
// strictly.
#include "crypto/sealed_text.hpp"

#include "crypto/digest.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

const Binding kBinding{"019a0000-0000-7000-8000-000000000001", "019a0000-0000-7000-8000-000000000002",
                       "openai"};
const std::string kKeyFile = "old:" + std::string(64, '1') + "\nnew:" + std::string(64, '2') + "\n";
// Sealed by that file's keys, of this binding: what mutations begin with.
constexpr std::string_view kSealed[] = {
    "mrp1.old.TSvwpJfgIL3FVdYlBq/ghAK10JWLAJmaUhRjZD6+/htIBYLULQ==",
    "mrp1.new.w//5GVxwo6jmmHbiIP7nXOEtF8LwEvPJXsl5LVyYuqByfsjfzw==",
};

const Keyring& keyring() {
    static const Result<Keyring> kKeyring = Keyring::parse(kKeyFile);
    return *kKeyring;
}

void check_arbitrary(std::string_view text) {
    const Result<Secret> opened = open_sealed(keyring(), text, kBinding);
    const bool was_sealed = std::find(std::begin(kSealed), std::end(kSealed), text) != std::end(kSealed);
    promise(bool(opened) == was_sealed, "nothing opens but what was sealed");
    if (!opened) {
        const std::string& type = opened.error().type;
        promise(type == "malformed" || type == "unknown_master_key" || type == "does_not_open",
                "a reason is one of three", type);
        promise((type == "unknown_master_key") <= (keyring().find(sealed_under(text)) == nullptr),
                "a key that is there is found");
    }
    const std::string_view id = sealed_under(text);
    promise(id.empty() || text.starts_with("mrp1." + std::string(id) + "."),
            "the master key's id stands in the text");
}

// The text as a secret of a binding that is made of it, too.
void check_round_trip(std::string_view text) {
    const std::size_t third = text.size() / 3;
    const Binding binding{std::string(text.substr(0, third)), std::string(text.substr(third, third)),
                          std::string(text.substr(2 * third))};
    const Result<std::string> sealed = seal(keyring(), Secret(text), binding);
    promise(bool(sealed) == (text.size() <= kMaxSecretBytes), "a secret within the limit is sealed");
    if (!sealed) return;
    const Result<Secret> opened = open_sealed(keyring(), *sealed, binding);
    promise(opened && opened->view() == text, "what was sealed opens");
    const Binding moved{binding.key_id + binding.owner, binding.provider, ""};
    const bool same_place =
        moved.key_id == binding.key_id && moved.owner == binding.owner && binding.provider.empty();
    promise(same_place || !open_sealed(keyring(), *sealed, moved), "it does not open elsewhere");

    std::string damaged = *sealed;
    char& byte = damaged[std::hash<std::string_view>()(text) % damaged.size()];
    byte = static_cast<char>(byte ^ (text.empty() || text[0] == '\0' ? 1 : text[0]));
    promise(!open_sealed(keyring(), damaged, binding), "it does not open with a byte changed", damaged);
}

void check_encodings(std::string_view text) {
    const auto bytes = from_base64(text);
    promise(!bytes || to_base64(*bytes) == text, "base64 has one form only");
    promise(from_base64(to_base64(text)) == text, "base64 gives back what it was given");
    const auto digits = from_hex(text);
    promise(!digits || to_hex(digits->view()).size() == text.size(), "hexadecimal is read to its end");
    const auto again = from_hex(to_hex(text));
    promise(again && again->view() == text, "hexadecimal gives back what it was given");
}

void check_key_file(std::string_view text) {
    const Result<Keyring> keys = Keyring::parse(text);
    if (keys) {
        promise(valid_master_key_id(keys->active().id), "a master key's id is valid");
    } else {
        promise(is_utf8(keys.error().message) && keys.error().message.size() < 200,
                "what is wrong with a key file is said briefly");
    }
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt::fuzz;
    check_arbitrary(input);
    check_round_trip(input);
    check_encodings(input);
    check_key_file(input);
}
