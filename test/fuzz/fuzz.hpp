// What the fuzz targets share: promises that end the run when they do not hold, and cutting an input into
// pieces.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.hpp"

// A target: called with one input after the other. libFuzzer keeps what finds new paths, and an input that
// breaks a promise as a file.
#define FUZZ_TARGET(input)                                                              \
    static void fuzz_one(std::string_view input);                                       \
    extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) { \
        fuzz_one({reinterpret_cast<const char*>(data), size});                          \
        return 0;                                                                       \
    }                                                                                   \
    static void fuzz_one(std::string_view input)

namespace mrprompt::fuzz {

inline void promise(bool holds, std::string_view what, std::string_view shown = {}) {
    if (holds) return;
    std::fprintf(stderr, "broken promise: %.*s\n%.*s\n", static_cast<int>(what.size()), what.data(),
                 static_cast<int>(shown.size()), shown.data());
    std::abort();
}

// The input cut at places that depend on nothing but the input, so that a finding is one file.
inline std::vector<std::string_view> pieces_of(std::string_view input) {
    std::minstd_rand random(static_cast<unsigned>(std::hash<std::string_view>()(input)));
    const std::size_t longest = random() % 4 == 0 ? 1 : 1 + random() % 32;
    std::vector<std::string_view> pieces;
    while (!input.empty()) {
        pieces.push_back(input.substr(0, random() % (longest + 1)));
        input.remove_prefix(pieces.back().size());
    }
    return pieces;
}

// By nlohmann's own checks, not by those of core/text.hpp that it is to judge.
inline bool is_utf8(std::string_view text) {
    try {
        return !Json(std::string(text)).dump().empty();
    } catch (const Json::type_error&) {
        return false;
    }
}

// Text that may be kept: UTF-8 without NUL.
inline bool is_clean(std::string_view text) {
    return text.find('\0') == std::string_view::npos && is_utf8(text);
}

inline bool strings_are_clean(const Json& value) {
    if (value.is_string()) return is_clean(value.get_ref<const std::string&>());
    if (!value.is_structured()) return true;
    for (const auto& [name, child] : value.items()) {
        if (!is_clean(name) || !strings_are_clean(child)) return false;
    }
    return true;
}

// JSON that PostgreSQL takes: well-formed without repair, every string of it clean. What it says.
inline Json checked_json(std::string_view text, std::string_view what) {
    Json value = Json::parse(text.begin(), text.end(), nullptr, false);
    promise(!value.is_discarded(), std::string(what) + " is JSON", text);
    promise(strings_are_clean(value), std::string(what) + " holds UTF-8 without NUL", text);
    return value;
}

}  // namespace mrprompt::fuzz
