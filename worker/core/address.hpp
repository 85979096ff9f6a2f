// Internet addresses that are not somebody's public server: which those are, and how a URL names one.
#pragma once
#include <array>
#include <string_view>

namespace mrprompt {

using Ipv4Address = std::array<unsigned char, 4>;
using Ipv6Address = std::array<unsigned char, 16>;

// What kind of address it is where it is not a public one, such as "a loopback address"; nullptr: public.
// An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4) is judged by that one.
const char* special_kind(const Ipv4Address& address);
const char* special_kind(const Ipv6Address& address);

// The same of an address as text; what is no address is not public either.
const char* special_kind_of_text(const char* address);

// Scheme, user, port and brackets taken off: "https://[::1]:443/v1" has the host "::1".
std::string_view host_of(std::string_view url);

// The kind of address that the URL's host is, where it is written out and not public, or a name of this very
// machine; nullptr for other names: what they stand for is known when they are looked up.
const char* special_host(std::string_view url);

}  // namespace mrprompt
