// The command line of mrprompt-fetcher.
#pragma once
#include <getopt.h>

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace mrprompt {

struct Options {
    int pipe_fd = -1;  // a supervisor's child
    std::string dsn;
    std::string master_key_file;
    std::vector<std::string> certificate_directories;
    int in_flight = 0;
    bool alone = false;
    bool version = false;
    bool help = false;
};

inline constexpr char kHelp[] =
    "mrprompt-fetcher carries the requests of a mrprompt database to LLM providers.\n"
    "\n"
    "Usage:\n"
    "  mrprompt-fetcher --dsn CONNECTION [--master-key-file FILE] [--in-flight N]\n"
    "  mrprompt-fetcher --pipe FD [--certificates DIR]…   (as PostgreSQL's mrprompt supervisor starts it)\n"
    "\n"
    "Options:\n"
    "  --dsn CONNECTION        libpq connection string or URI; '' takes it from the PG* environment\n"
    "  --master-key-file FILE  the keyring that the database's keys were sealed with\n"
    "  --in-flight N           at most N requests at once, whatever mrprompt.max_in_flight says\n"
    "  --alone                 serve one isolated request, then leave\n"
    "  --pipe FD               talk to a supervisor over this inherited socket\n"
    "  --certificates DIR      with --pipe: certificates of providers lie here; no other files are read\n"
    "  --version, --help\n"
    "\n"
    "SIGTERM or SIGINT: claims no more, lets what is in flight end for up to 30 seconds, then leaves; a "
    "second\n"
    "one leaves at once. Exit codes: 0 done, 1 cannot start, 2 wrong usage, 3 refused by the database.\n";

// A whole number from `low` up, or nothing.
inline std::optional<int> whole_number(std::string_view text, int low) {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < low) return std::nullopt;
    return value;
}

// Error type: "usage".
inline Result<Options> parse_options(int argc, char** argv) {
    static const option kLong[] = {{"pipe", required_argument, nullptr, 'p'},
                                   {"dsn", required_argument, nullptr, 'd'},
                                   {"master-key-file", required_argument, nullptr, 'k'},
                                   {"in-flight", required_argument, nullptr, 'n'},
                                   {"certificates", required_argument, nullptr, 'c'},
                                   {"alone", no_argument, nullptr, 'a'},
                                   {"version", no_argument, nullptr, 'V'},
                                   {"help", no_argument, nullptr, 'h'},
                                   {nullptr, 0, nullptr, 0}};
    Options options;
    bool has_dsn = false;
    optind = 0;  // glibc: begin anew
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, "+:", kLong, nullptr)) != -1;) {
        switch (letter) {
            case 'p':
                if (const auto fd = whole_number(optarg, 0))
                    options.pipe_fd = *fd;
                else
                    return Error{"usage", "--pipe wants the number of a descriptor"};
                break;
            case 'd':
                options.dsn = optarg;
                has_dsn = true;
                break;
            case 'k':
                options.master_key_file = optarg;
                break;
            case 'n':
                if (const auto count = whole_number(optarg, 1))
                    options.in_flight = *count;
                else
                    return Error{"usage", "--in-flight wants a number from 1 up"};
                break;
            case 'c':
                options.certificate_directories.emplace_back(optarg);
                break;
            case 'a':
                options.alone = true;
                break;
            case 'V':
                options.version = true;
                break;
            case 'h':
                options.help = true;
                break;
            case ':':
                return Error{"usage", std::string(argv[optind - 1]) + " wants a value"};
            default:
                return Error{"usage", "unknown option " + std::string(argv[optind - 1])};
        }
    }
    if (options.help || options.version) return options;
    if (optind < argc) return Error{"usage", "unexpected argument " + std::string(argv[optind])};
    if ((options.pipe_fd >= 0) == has_dsn) return Error{"usage", "one of --dsn and --pipe is needed"};
    return options;
}

}  // namespace mrprompt
