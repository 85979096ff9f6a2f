// The master keys of a server or fetcher, read from a file that only its owner can read.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "crypto/aead.hpp"

namespace mrprompt {

// One master key, as far as it is needed: what is derived from it, not the key itself.
struct MasterKey {
    std::string id;           // [A-Za-z0-9_-]{1,32}
    std::string fingerprint;  // 16 hexadecimal digits: tells keys of one id apart, and tells nothing else
    Aead sealing;             // under the subkey that seals keys
};

// Never empty. Not for two threads at once.
class Keyring {
public:
    // Reads a regular file of this user or root that gives no right to group and others. Lines are
    // `id:64 hexadecimal digits`; blank lines and lines that begin with # count for nothing; the last key is
    // the active one. Error types: "unreadable", "permissions", "syntax". No message holds a key.
    static Result<Keyring> read_file(const std::string& path);
    static Result<Keyring> parse(std::string_view text);

    const MasterKey& active() const { return keys_.back(); }
    const MasterKey* find(std::string_view id) const;  // null where there is none
    const std::vector<MasterKey>& keys() const { return keys_; }

private:
    std::vector<MasterKey> keys_;
};

// Whether a master key may be called so.
bool valid_master_key_id(std::string_view id);

}  // namespace mrprompt
