// Reading and checking the master key file.
#include "crypto/keyring.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "crypto/digest.hpp"

#ifdef POSTGRES_H
#error "src/crypto knows nothing of PostgreSQL"
#endif

namespace mrprompt {
namespace {

constexpr std::size_t kMaxFileBytes = 64 * 1024;

struct File {
    int descriptor;
    ~File() {
        if (descriptor >= 0) ::close(descriptor);
    }
};

// The file's text; wiped when it goes.
struct Text {
    std::string bytes;
    ~Text() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

Error unreadable(const std::string& path, int code) {
    return {"unreadable",
            "cannot read the master key file \"" + path + "\": " + std::generic_category().message(code)};
}

Error wrong_line(std::size_t number, const char* what) {
    return {"syntax", "line " + std::to_string(number) + " of the master key file: " + what};
}

MasterKey derive(std::string_view id, const Secret& key) {
    return {std::string(id), to_hex(hmac_sha256(key.view(), "mrprompt fingerprint")).substr(0, 16),
            Aead(hkdf_sha256(key.view(), "", "mrprompt seal v1", kAeadKeyBytes).view())};
}

}  // namespace

bool valid_master_key_id(std::string_view id) {
    return !id.empty() && id.size() <= 32 && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
               c == '-';
    });
}

const MasterKey* Keyring::find(std::string_view id) const {
    const auto found =
        std::find_if(keys_.begin(), keys_.end(), [&](const MasterKey& key) { return key.id == id; });
    return found == keys_.end() ? nullptr : &*found;
}

Result<Keyring> Keyring::parse(std::string_view text) {
    Keyring keyring;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.find_first_not_of(" \t") == std::string_view::npos || line.starts_with('#')) continue;

        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) return wrong_line(number, "expected id:64 hexadecimal digits");
        const std::string_view id = line.substr(0, colon);
        if (!valid_master_key_id(id))
            return wrong_line(number, "an id has 1 to 32 letters, digits, underscores or hyphens");
        if (keyring.find(id) != nullptr) return wrong_line(number, "this id stands in an earlier line");
        const std::optional<Secret> key = from_hex(line.substr(colon + 1));
        if (!key || key->view().size() != kAeadKeyBytes)
            return wrong_line(number, "a key has exactly 64 hexadecimal digits");
        keyring.keys_.push_back(derive(id, *key));
    }
    if (keyring.keys_.empty()) return Error{"syntax", "the master key file holds no key"};
    return keyring;
}

Result<Keyring> Keyring::read_file(const std::string& path) {
    // Not blocking: opening a FIFO by mistake must not hang a server process.
    const File file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.descriptor < 0) return unreadable(path, errno);
    struct stat status {};
    if (::fstat(file.descriptor, &status) != 0) return unreadable(path, errno);
    if (!S_ISREG(status.st_mode))
        return Error{"permissions", "the master key file \"" + path + "\" is not a regular file"};
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        return Error{"permissions", "the master key file \"" + path + "\" belongs to another user"};
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        return Error{"permissions", "the master key file \"" + path +
                                        "\" gives permissions to group or others; run: chmod 600 '" + path +
                                        "'"};
    if (static_cast<std::size_t>(status.st_size) > kMaxFileBytes)
        return Error{"syntax", "the master key file \"" + path + "\" is larger than 64 KB"};

    Text text{std::string(kMaxFileBytes, '\0')};
    std::size_t size = 0;
    while (size < kMaxFileBytes) {
        const ssize_t count = ::read(file.descriptor, text.bytes.data() + size, kMaxFileBytes - size);
        if (count == 0) break;
        if (count > 0) {
            size += static_cast<std::size_t>(count);
        } else if (errno != EINTR) {
            return unreadable(path, errno);
        }
    }
    return parse(std::string_view(text.bytes).substr(0, size));
}

}  // namespace mrprompt
