// Which socket is behind a connection that libcurl has kept: its callbacks name a connection by its local
// address only.
#pragma once
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mrprompt {

class KeptSockets {
public:
    // One of `fds`, which were opened for a request, has this local address now; the others came to nothing.
    void note(const std::vector<int>& fds, std::string_view ip, int port);

    // Whether bytes wait on the socket of that local address; false where it is not known.
    bool has_bytes(std::string_view ip, int port) const;

private:
    std::unordered_map<std::string, int> fds_;  // by local address; no larger than the range of local ports
};

}  // namespace mrprompt
