// The fence around a supervisor's child: from raise_fence() on, code that took this process over finds no
// files but certificates and libraries, no local sockets, no other process, no program to start.
#pragma once
#include <string>
#include <vector>

namespace mrprompt {

// For good, and for every thread that starts later: so before any does, and with the descriptors open that
// are needed beyond it. The process has given up new privileges (PR_SET_NO_NEW_PRIVS). Below
// `certificate_directories` files can be read; those that do not exist are passed over. Returns what this
// kernel cannot fence, each a line for the log; the rest is in force.
std::vector<std::string> raise_fence(const std::vector<std::string>& certificate_directories);

// The version of Landlock that this kernel offers; 0: none.
int landlock_version();

}  // namespace mrprompt
