// The behaviours by name, and how they are read.
#include "behaviour.hpp"

#include <charconv>
#include <utility>

#include "http.hpp"

namespace mrprompt::fake {
namespace {

constexpr std::string_view kPrefix = "fake?";
constexpr std::string_view kBlanks = " \t\r\n";

using B = Behaviour;

constexpr std::pair<std::string_view, Number B::*> kNumbers[] = {
    {"words", &B::words},
    {"big", &B::big},
    {"json", &B::json},
    {"nul", &B::nul},
    {"bad_utf8", &B::bad_utf8},
    {"surrogate", &B::surrogate},
    {"reasoning", &B::reasoning},
    {"parallel", &B::parallel},
    {"again", &B::again},
    {"chunks", &B::chunks},
    {"pace", &B::pace},
    {"delay", &B::delay},
    {"drip", &B::drip},
    {"status", &B::status},
    {"retry_after", &B::retry_after},
    {"retry_after_ms", &B::retry_after_ms},
    {"echo_key", &B::echo_key},
    {"html", &B::html},
    {"head_bytes", &B::head_bytes},
    {"close", &B::close},
    {"cut", &B::cut},
    {"reset", &B::reset},
    {"hang", &B::hang},
    {"error_in_stream", &B::error_in_stream},
    {"garbage", &B::garbage},
    {"garbage_json", &B::garbage_json},
    {"endless", &B::endless},
    {"length_lie", &B::length_lie},
    {"loops", &B::loops},
    {"fail_times", &B::fail_times},
    {"usage", &B::usage},
    {"no_usage", &B::no_usage},
    {"usage_every", &B::usage_every},
    {"usage_in_finish", &B::usage_in_finish},
    {"no_done", &B::no_done},
    {"empty_choices", &B::empty_choices},
    {"comments", &B::comments},
    {"crlf", &B::crlf},
    {"unknown_event", &B::unknown_event},
    {"refuse_stream_options", &B::refuse_stream_options},
    {"prompt", &B::prompt},
    {"completion", &B::completion},
    {"cached", &B::cached},
    {"cache_write", &B::cache_write},
    {"cache_write_1h", &B::cache_write_1h},
    {"reasoning_tokens", &B::reasoning_tokens},
    {"audio_prompt", &B::audio_prompt},
    {"audio_completion", &B::audio_completion},
};

constexpr std::pair<std::string_view, Text B::*> kTexts[] = {
    {"text", &B::text},
    {"refusal", &B::refusal},
    {"tool", &B::tool},
    {"args", &B::args},
    {"finish", &B::finish},
    {"error_message", &B::error_message},
    {"error_type", &B::error_type},
    {"error_code", &B::error_code},
    {"require_key", &B::require_key},
    {"redirect", &B::redirect},
    {"content_type", &B::content_type},
    {"raw", &B::raw},
    {"loop", &B::loop},
    {"tail", &B::tail},
    {"id", &B::id},
    {"service_tier", &B::service_tier},
    {"cost", &B::cost},
};

constexpr Number B::*kFaults[] = {&B::status,  &B::retry_after, &B::retry_after_ms, &B::html,
                                  &B::cut,     &B::reset,       &B::hang,           &B::error_in_stream,
                                  &B::garbage, &B::endless,     &B::length_lie,     &B::garbage_json,
                                  &B::echo_key};

std::string read_one(Behaviour& behaviour, std::string_view name, std::string_view value) {
    for (const auto& [known, member] : kTexts)
        if (known == name) {
            behaviour.*member = percent_decode(value);
            return {};
        }
    for (const auto& [known, member] : kNumbers)
        if (known == name) {
            long number = 0;
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
            if (error != std::errc() || end != value.data() + value.size() || number < 0)
                return "the behaviour " + std::string(name) + " takes a whole number";
            behaviour.*member = number;
            return {};
        }
    return "no such behaviour: " + std::string(name);
}

}  // namespace

std::string Behaviour::read(std::string_view query) {
    while (!query.empty()) {
        const auto end = query.find('&');
        const std::string_view item = query.substr(0, end);
        query = end == query.npos ? std::string_view{} : query.substr(end + 1);
        if (item.empty()) continue;
        const auto equals = item.find('=');
        const std::string_view value = equals == item.npos ? "1" : item.substr(equals + 1);
        if (std::string wrong = read_one(*this, item.substr(0, equals), value); !wrong.empty()) return wrong;
    }
    return {};
}

bool Behaviour::has_fault() const {
    for (const auto member : kFaults)
        if (this->*member) return true;
    return redirect || content_type || raw;
}

void Behaviour::drop_faults() {
    for (const auto member : kFaults) (this->*member).reset();
    redirect.reset();
    content_type.reset();
    raw.reset();
}

std::optional<std::string_view> find_query(std::string_view text) {
    for (auto at = text.find(kPrefix); at != text.npos; at = text.find(kPrefix, at + 1)) {
        if (at > 0 && kBlanks.find(text[at - 1]) == kBlanks.npos) continue;
        const std::string_view rest = text.substr(at + kPrefix.size());
        return rest.substr(0, rest.find_first_of(kBlanks));
    }
    return std::nullopt;
}

std::string without_query(std::string_view text) {
    std::string out(text);
    if (const auto query = find_query(text))
        out.erase(query->data() - text.data() - kPrefix.size(), query->size() + kPrefix.size());
    const auto first = out.find_first_not_of(kBlanks);
    if (first == out.npos) return {};
    return out.substr(first, out.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace mrprompt::fake
