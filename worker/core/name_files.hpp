// The files of /etc by which the C library resolves host names. A fence lets exactly these through, so a
// fetcher that began before one of them was replaced cannot read the new one.
#pragma once

namespace mrprompt {

inline constexpr const char* kNameFiles[] = {"/etc/resolv.conf", "/etc/hosts",    "/etc/nsswitch.conf",
                                             "/etc/host.conf",   "/etc/gai.conf", "/etc/services"};

}  // namespace mrprompt
