// The IANA registries of special-purpose addresses as two tables, the first match counts.
#include "core/address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <string>

namespace mrprompt {
namespace {

constexpr const char* kLoopback = "a loopback address";
constexpr const char* kPrivate = "a private address";
constexpr const char* kLinkLocal = "a link-local address";
constexpr const char* kMulticast = "a multicast address";
constexpr const char* kUnspecified = "an unspecified address";
constexpr const char* kDocumentation = "an address for documentation";
constexpr const char* kBenchmark = "an address for benchmarks";
constexpr const char* kReserved = "a reserved address";

struct Range4 {
    Ipv4Address network;
    unsigned bits;
    const char* kind;
};
constexpr Range4 kRanges4[] = {
    {{0, 0, 0, 0}, 8, kUnspecified},  // this host and this network: Linux takes it for loopback
    {{10, 0, 0, 0}, 8, kPrivate},
    {{100, 64, 0, 0}, 10, "an address behind a carrier's NAT"},
    {{127, 0, 0, 0}, 8, kLoopback},
    {{168, 63, 129, 16}, 32, "a cloud platform's own address"},  // Azure's, inside each of its machines
    {{169, 254, 0, 0}, 16, kLinkLocal},
    {{172, 16, 0, 0}, 12, kPrivate},
    {{192, 0, 0, 0}, 24, kReserved},
    {{192, 0, 2, 0}, 24, kDocumentation},
    {{192, 88, 99, 0}, 24, kReserved},
    {{192, 168, 0, 0}, 16, kPrivate},
    {{198, 18, 0, 0}, 15, kBenchmark},
    {{198, 51, 100, 0}, 24, kDocumentation},
    {{203, 0, 113, 0}, 24, kDocumentation},
    {{224, 0, 0, 0}, 4, kMulticast},
    {{240, 0, 0, 0}, 4, kReserved},
};

struct Range6 {
    Ipv6Address network;
    unsigned bits;
    const char* kind;  // nullptr: public,
    int carries = -1;  // or as the IPv4 address that begins at this byte
};
constexpr Range6 kRanges6[] = {
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, 96, nullptr, 12},  // IPv4-mapped
    {{0, 0x64, 0xFF, 0x9B}, 96, nullptr, 12},                       // NAT64
    {{0, 0x64, 0xFF, 0x9B, 0, 1}, 48, kPrivate},                    // NAT64 of a network's own
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, kLoopback},
    {{}, 128, kUnspecified},
    {{0xFC}, 7, "a unique local address"},
    {{0xFE, 0x80}, 10, kLinkLocal},
    {{0xFE, 0xC0}, 10, kPrivate},  // site-local, as it once was
    {{0xFF}, 8, kMulticast},
    {{0x20, 0x01, 0x00, 0x02}, 48, kBenchmark},
    {{0x20, 0x01}, 23, kReserved},  // Teredo, ORCHID and others
    {{0x20, 0x01, 0x0D, 0xB8}, 32, kDocumentation},
    {{0x20, 0x02}, 16, nullptr, 2},  // 6to4
    {{0x3F, 0xFF}, 20, kDocumentation},
    {{0x20}, 3, nullptr},  // global unicast
    {{}, 0, kReserved},
};

template <std::size_t N>
bool within(const std::array<unsigned char, N>& address, const std::array<unsigned char, N>& network,
            unsigned bits) {
    const std::size_t whole = bits / 8;
    if (!std::equal(address.begin(), address.begin() + whole, network.begin())) return false;
    const unsigned mask = 0xFFu << (8 - bits % 8) & 0xFF;
    return mask == 0 || ((address[whole] ^ network[whole]) & mask) == 0;
}

// Whether the text is an address; `kind` is its special_kind then.
bool read_address(const char* text, const char*& kind) {
    Ipv4Address four;
    Ipv6Address six;
    if (inet_pton(AF_INET, text, four.data()) == 1) return kind = special_kind(four), true;
    if (inet_pton(AF_INET6, text, six.data()) == 1) return kind = special_kind(six), true;
    return false;
}

bool is_this_machine(std::string_view name) {
    std::string lower(name);
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower.ends_with('.')) lower.pop_back();
    return lower == "localhost" || lower.ends_with(".localhost");
}

}  // namespace

const char* special_kind(const Ipv4Address& address) {
    for (const Range4& range : kRanges4) {
        if (within(address, range.network, range.bits)) return range.kind;
    }
    return nullptr;
}

const char* special_kind(const Ipv6Address& address) {
    const auto range = std::find_if(std::begin(kRanges6), std::end(kRanges6), [&](const Range6& candidate) {
        return within(address, candidate.network, candidate.bits);
    });
    if (range->carries < 0) return range->kind;
    Ipv4Address carried;
    std::copy_n(address.begin() + range->carries, carried.size(), carried.begin());
    return special_kind(carried);
}

const char* special_kind_of_text(const char* address) {
    const char* kind = nullptr;
    return read_address(address, kind) ? kind : "no internet address";
}

std::string_view host_of(std::string_view url) {
    if (const std::size_t scheme = url.find("://"); scheme != url.npos) url.remove_prefix(scheme + 3);
    url = url.substr(0, url.find_first_of("/?#"));
    if (const std::size_t user = url.rfind('@'); user != url.npos) url.remove_prefix(user + 1);
    if (url.starts_with('[')) return url.substr(1, url.find(']') - 1);
    return url.substr(0, url.find(':'));
}

const char* special_host(std::string_view url) {
    const std::string host(host_of(url));
    const char* kind = nullptr;
    if (is_this_machine(host)) return "a name of the machine itself";
    read_address(host.c_str(), kind);
    return kind;
}

}  // namespace mrprompt
