// Sockets by their local addresses; an entry counts only while its socket still has that address.
#include "net/kept_sockets.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace mrprompt {
namespace {

std::string name_of(std::string_view ip, int port) {
    return std::string(ip) + ' ' + std::to_string(port);
}

std::string local_name(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return {};
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
        const auto& four = reinterpret_cast<const sockaddr_in&>(address);
        inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
        return name_of(text, ntohs(four.sin_port));
    }
    if (address.ss_family != AF_INET6) return {};
    const auto& six = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
    return name_of(text, ntohs(six.sin6_port));
}

}  // namespace

void KeptSockets::note(const std::vector<int>& fds, std::string_view ip, int port) {
    const std::string name = name_of(ip, port);
    for (const int fd : fds) {
        if (local_name(fd) == name) fds_[name] = fd;
    }
}

bool KeptSockets::has_bytes(std::string_view ip, int port) const {
    const std::string name = name_of(ip, port);
    const auto place = fds_.find(name);
    if (place == fds_.end() || local_name(place->second) != name) return false;
    char byte = 0;
    return recv(place->second, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

}  // namespace mrprompt
