// Sockets by the addresses of both ends; an entry counts only while its socket still has them.
#include "net/kept_sockets.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace mrprompt {
namespace {

constexpr std::size_t kMost = 20'000;  // then those that were closed go

std::string name_of(const sockaddr_storage& address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
        const auto& four = reinterpret_cast<const sockaddr_in&>(address);
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
        return std::string(text) + ' ' + std::to_string(ntohs(four.sin_port));
    }
    if (address.ss_family != AF_INET6) return {};
    const auto& six = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
    return std::string(text) + ' ' + std::to_string(ntohs(six.sin6_port));
}

// As Ends::name() has it; empty where the descriptor is no connected socket of the internet.
std::string ends_of(int fd) {
    sockaddr_storage local{}, peer{};
    socklen_t local_length = sizeof local, peer_length = sizeof peer;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_length) != 0 ||
        getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) != 0)
        return {};
    return name_of(local) + " to " + name_of(peer);
}

}  // namespace

std::string Ends::name() const {
    return std::string(local_ip) + ' ' + std::to_string(local_port) + " to " + std::string(peer_ip) + ' ' +
           std::to_string(peer_port);
}

void KeptSockets::note(const std::vector<int>& fds, const Ends& ends) {
    if (fds_.size() >= kMost) forget_closed();
    const std::string name = ends.name();
    for (const int fd : fds) {
        if (ends_of(fd) == name) fds_[name] = fd;
    }
}

void KeptSockets::forget_closed() {
    std::erase_if(fds_, [](const auto& entry) { return ends_of(entry.second) != entry.first; });
}

bool KeptSockets::has_bytes(const Ends& ends) const {
    const std::string name = ends.name();
    const auto place = fds_.find(name);
    if (place == fds_.end() || ends_of(place->second) != name) return false;
    char byte = 0;
    return recv(place->second, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

}  // namespace mrprompt
