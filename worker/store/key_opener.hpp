// Opens the sealed keys of a claim with the fetcher's own copy of the master keyring.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"
#include "core/opened_key.hpp"
#include "core/result.hpp"
#include "crypto/sealed_text.hpp"

namespace mrprompt {

class KeyOpener {
public:
    // An empty path: a fetcher without master keys, which serves what needs no key.
    explicit KeyOpener(std::string path) : path_(std::move(path)) {}

    // Reads the keyring file; also to be called where it may have changed.
    std::optional<Error> read();

    // A master key that is not in the keyring makes it read the file once more, at most every few seconds.
    OpenedKey open(std::string_view sealed, const Binding& binding, std::int64_t now_ms);

private:
    std::string path_;
    std::optional<Keyring> keyring_;
    std::int64_t read_again_at_ = 0;
};

// The keys beside a claim's answer: four JSON arrays of equal length.
std::vector<OpenedKey> open_keys(KeyOpener& opener, const Json& key_ids, const Json& owners,
                                 const Json& providers, const Json& sealed, std::int64_t now_ms);

}  // namespace mrprompt
