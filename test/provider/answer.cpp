// Makes an answer out of a behaviour.
#include "answer.hpp"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <utility>

namespace mrprompt::fake {
namespace {

constexpr long kTokensPerCall = 10;
constexpr std::size_t kArgumentPieces = 3;

long count_words(std::string_view text) {
    long words = 0;
    bool inside = false;
    for (const char c : text) {
        const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
        if (!blank && !inside) ++words;
        inside = !blank;
    }
    return words;
}

std::string numbered(char letter, long count) {
    std::string out;
    for (long i = 1; i <= count; ++i) {
        if (i > 1) out += ' ';
        out.append(1, letter).append(std::to_string(i));
    }
    return out;
}

bool continues_character(char c) {
    return (static_cast<unsigned char>(c) & 0xC0) == 0x80;
}

// `count` pieces of about the same size, never splitting a character, as no provider does.
Pieces split_evenly(std::string_view text, std::size_t count) {
    Pieces pieces;
    std::size_t begin = 0;
    for (std::size_t i = 1; i <= count; ++i) {
        std::size_t end = i * text.size() / count;
        while (end < text.size() && continues_character(text[end])) ++end;
        pieces.push_back(escape(text.substr(begin, std::max(end, begin) - begin)));
        begin = std::max(end, begin);
    }
    return pieces;
}

// One piece for each word, the blank in front of it included.
Pieces split_words(std::string_view text) {
    Pieces pieces;
    while (!text.empty()) {
        const auto begin = text.find_first_not_of(' ');
        const auto end = begin == text.npos ? begin : text.find(' ', begin);
        pieces.push_back(escape(text.substr(0, end)));
        text = end == text.npos ? std::string_view{} : text.substr(end);
    }
    return pieces;
}

Pieces split(std::string_view text, const Behaviour& behaviour) {
    if (text.empty()) return {};
    return behaviour.chunks ? split_evenly(text, std::clamp(*behaviour.chunks, 1L, 1'000'000L))
                            : split_words(text);
}

std::string text_of(const Behaviour& behaviour, const ChatRequest& request) {
    if (behaviour.text) return *behaviour.text;
    if (behaviour.words) return numbered('w', *behaviour.words);
    if (behaviour.big) return std::string(*behaviour.big, 'x');
    if (on(behaviour.json)) return R"({"answer":42})";
    if (behaviour.tool || behaviour.refusal) return {};
    if (!request.tool_result.empty()) return "The tool said: " + request.tool_result;
    return "You said: " + without_query(request.last_user_text);
}

}  // namespace

std::string escape(std::string_view text) {
    std::string out;
    out.reserve(text.size() + 8);
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out.append(1, '\\').append(1, c);
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            out.append(code, std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned char>(c)));
        } else {
            out += c;
        }
    }
    return out;
}

std::string quoted(std::string_view escaped) {
    return std::string("\"").append(escaped).append("\"");
}

std::string join(const Pieces& pieces) {
    std::string out;
    for (const std::string& piece : pieces) out += piece;
    return out;
}

Answer make_answer(const Behaviour& asked, const ChatRequest& request, Protocol protocol,
                   std::string serial) {
    Behaviour behaviour = asked;
    // A loop of tool calls ends: a model that has the tool's result talks about it.
    if (request.tool_rounds > behaviour.again.value_or(0)) behaviour.tool.reset();

    Answer answer;
    answer.serial = std::move(serial);
    answer.model = escape(request.model);
    const std::string text = text_of(behaviour, request);
    answer.text = split(text, behaviour);
    if (on(behaviour.nul)) answer.text.push_back("\\u0000");
    if (on(behaviour.bad_utf8)) answer.text.push_back("\xC3\x28\xFF");
    if (on(behaviour.surrogate)) answer.text.push_back("\\ud800");
    if (behaviour.refusal) answer.refusal = split(*behaviour.refusal, behaviour);
    if (behaviour.reasoning) answer.reasoning = split_words(numbered('r', *behaviour.reasoning));
    if (behaviour.tool) {
        const std::string arguments = behaviour.args.value_or(R"({"city":"Paris","days":3})");
        const std::size_t pieces = behaviour.chunks ? std::max(*behaviour.chunks, 1L) : kArgumentPieces;
        std::istringstream names(*behaviour.tool);
        for (std::string name; std::getline(names, name, ',');) {
            for (long i = 1; i <= behaviour.parallel.value_or(1); ++i)
                answer.calls.push_back({(protocol == Protocol::kOpenAi ? "call_" : "toolu_") +
                                            std::to_string(answer.calls.size() + 1),
                                        escape(name), arguments, split_evenly(arguments, pieces)});
        }
    }
    answer.finish = !answer.calls.empty() ? "tool_calls" : "stop";
    if (behaviour.finish) answer.finish = escape(*behaviour.finish);

    const long reasoning = behaviour.reasoning_tokens.value_or(behaviour.reasoning.value_or(0));
    const long said = count_words(text) + (behaviour.refusal ? count_words(*behaviour.refusal) : 0) +
                      kTokensPerCall * static_cast<long>(answer.calls.size());
    answer.usage = {.prompt = behaviour.prompt.value_or(std::max<long>(1, (request.text_bytes + 3) / 4)),
                    .completion = behaviour.completion.value_or(said + reasoning),
                    .cached = behaviour.cached.value_or(0),
                    .cache_write = behaviour.cache_write.value_or(0),
                    .cache_write_1h = behaviour.cache_write_1h.value_or(0),
                    .reasoning = reasoning,
                    .audio_prompt = behaviour.audio_prompt.value_or(0),
                    .audio_completion = behaviour.audio_completion.value_or(0),
                    .cost = behaviour.cost.value_or("")};
    answer.service_tier = escape(behaviour.service_tier.value_or(""));
    answer.send_usage = !on(behaviour.no_usage);
    if (protocol == Protocol::kOpenAi && request.stream && !request.include_usage && !on(behaviour.usage))
        answer.send_usage = false;
    return answer;
}

}  // namespace mrprompt::fake
