// Which socket is behind a connection that libcurl has kept: its callbacks name a connection by its addresses
// only.
#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mrprompt {

// Both ends of a connection.
struct Ends {
    std::string_view local_ip;
    int local_port = 0;
    std::string_view peer_ip;
    int peer_port = 0;
    std::string name() const;
};

class KeptSockets {
public:
    // One of `fds`, which were opened for a request, is this connection; the others came to nothing.
    void note(const std::vector<int>& fds, const Ends& ends);

    // Whether bytes wait on the socket of this connection; false where it is not known.
    bool has_bytes(const Ends& ends) const;

private:
    void forget_closed();

    std::unordered_map<std::string, int> fds_;  // by Ends::name()
};

}  // namespace mrprompt
