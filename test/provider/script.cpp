// Turns a behaviour into the bytes, pauses and endings of one response.
#include "script.hpp"

#include <algorithm>
#include <utility>

#include "answer.hpp"
#include "format.hpp"
#include "http.hpp"

namespace mrprompt::fake {
namespace {

constexpr long kBlock = 64 << 10;
constexpr std::string_view kHtml =
    "<!doctype html><html><head><title>Sign in</title></head><body>A proxy was here.</body></html>";

std::string header(std::string_view name, std::string_view value) {
    return std::string(name).append(": ").append(value).append("\r\n");
}

std::string with_crlf(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\n') out += '\r';
        out += c;
    }
    return out;
}

// Headers that an answer and an error have in common.
std::string common_headers(const Behaviour& behaviour, Protocol protocol, const std::string& serial) {
    std::string headers = header(format_of(protocol).request_id_header(), "req_" + serial);
    if (behaviour.retry_after) headers += header("retry-after", std::to_string(*behaviour.retry_after));
    if (behaviour.retry_after_ms)
        headers += header("retry-after-ms", std::to_string(*behaviour.retry_after_ms));
    if (behaviour.redirect) headers += header("location", *behaviour.redirect);
    if (behaviour.head_bytes) headers += header("x-padding", std::string(*behaviour.head_bytes, 'p'));
    if (on(behaviour.close)) headers += header("connection", "close");
    return headers;
}

Script finished(Script script, const Behaviour& behaviour) {
    if (on(behaviour.close) && script.end == Script::End::kKeep) script.end = Script::End::kClose;
    if (behaviour.drip) script.drip_ms = *behaviour.drip;
    return script;
}

// The chunk after which something goes wrong, and what.
struct Break {
    std::size_t after = 0;
    Script::End end = Script::End::kKeep;
};
std::optional<Break> break_of(const Behaviour& behaviour) {
    if (behaviour.reset) return Break{static_cast<std::size_t>(*behaviour.reset), Script::End::kReset};
    if (behaviour.cut) return Break{static_cast<std::size_t>(*behaviour.cut), Script::End::kClose};
    if (behaviour.hang) return Break{static_cast<std::size_t>(*behaviour.hang), Script::End::kHang};
    return std::nullopt;
}

std::string stream_head(const Behaviour& behaviour, const std::string& headers) {
    return response_head(200, header("content-type", behaviour.content_type.value_or("text/event-stream")) +
                                  header("cache-control", "no-cache") +
                                  header("transfer-encoding", "chunked") + headers);
}

Script stream_response(const Behaviour& behaviour, const Answer& answer, const Format& format,
                       const std::string& headers) {
    Script script;
    script.add(stream_head(behaviour, headers), behaviour.delay.value_or(0));
    const auto send = [&](std::string events, long wait_ms = 0) {
        if (events.empty()) return;
        if (on(behaviour.comments)) events.insert(0, ": keep-alive\n\n");
        if (on(behaviour.crlf)) events = with_crlf(events);
        script.add(body_chunk(events), wait_ms);
    };
    const long pace = behaviour.pace.value_or(0);
    if (on(behaviour.endless)) {
        const Events events = format.endless(answer);
        send(events.opening);
        script.repeat(body_chunk(events.chunks.front()), pace);
        return script;
    }
    const Events events = format.stream(answer, behaviour);
    const std::optional<Break> broken = break_of(behaviour);
    send(events.opening);
    for (std::size_t i = 0; i < events.chunks.size(); ++i) {
        if (broken && broken->after == i) break;
        if (behaviour.error_in_stream && static_cast<std::size_t>(*behaviour.error_in_stream) == i) break;
        if (i == 1 && on(behaviour.garbage_json)) send("data: {\"choices\":[{\"delta\"\n\n");
        if (i == 1 && on(behaviour.unknown_event)) send(format.unknown_event());
        send(events.chunks[i], i > 0 ? pace : 0);
    }
    if (broken) {
        script.end = broken->end;
        return script;
    }
    send(behaviour.error_in_stream ? format.error_event(behaviour) : events.closing);
    script.add(body_chunk(""));
    return script;
}

Script whole_response(const Behaviour& behaviour, const Answer& answer, const Format& format,
                      const std::string& headers) {
    const std::string type = header("content-type", behaviour.content_type.value_or("application/json"));
    Script script;
    if (on(behaviour.endless)) {
        script.add(response_head(200, type + header("transfer-encoding", "chunked") + headers) +
                       body_chunk(R"({"id":"endless","choices":[{"message":{"content":")"),
                   behaviour.delay.value_or(0));
        script.repeat(body_chunk(std::string(16 << 10, 'x')), behaviour.pace.value_or(0));
        return script;
    }
    std::string body = format.whole(answer);
    if (on(behaviour.garbage_json)) body.insert(body.size() / 2, "}{");
    if (behaviour.error_in_stream) body = format.error(200, behaviour, "The server had an error");
    const std::size_t length = body.size() + behaviour.length_lie.value_or(0);
    if (behaviour.length_lie) script.end = Script::End::kClose;
    if (const auto broken = break_of(behaviour)) {
        // A whole answer has no chunks to count: it breaks in the middle.
        body.resize(body.size() / 2);
        script.end = broken->end;
    }
    script.add(response_head(200, type + header("content-length", std::to_string(length)) + headers) + body,
               behaviour.delay.value_or(0));
    return script;
}

// The bytes that the request brought along, whatever they are.
Script raw_response(const Behaviour& behaviour) {
    const long pace = behaviour.pace.value_or(0);
    Script script;
    script.status = 0;
    script.add(*behaviour.raw, behaviour.delay.value_or(0));
    if (behaviour.loop) script.repeat(*behaviour.loop, pace, behaviour.loops.value_or(Script::kForever));
    if (behaviour.tail) script.steps.push_back({pace, *behaviour.tail});
    if (const auto broken = break_of(behaviour)) script.end = broken->end;
    return finished(std::move(script), behaviour);
}

// What some providers do to a key in the message of a 401.
std::string error_message(const Behaviour& behaviour, int status, std::string_view key) {
    std::string message = behaviour.error_message.value_or("The fake provider answers " +
                                                           std::to_string(status) + ", as asked.");
    if (on(behaviour.echo_key)) message.append(" Your key is ").append(key).append(".");
    return message;
}

}  // namespace

void Script::add(std::string bytes, long wait_ms) {
    if (steps.empty() || wait_ms > 0)
        steps.push_back({wait_ms, std::move(bytes)});
    else
        steps.back().bytes += bytes;
}

void Script::repeat(std::string_view bytes, long wait_ms, long times) {
    // What needs no pauses goes out in large blocks.
    const long block = wait_ms > 0 ? 1 : std::max<long>(1, kBlock / static_cast<long>(bytes.size() + 1));
    const long rest = times == kForever ? 0 : times % block;
    std::string many;
    for (long i = 0; i < block; ++i) many += bytes;
    std::string some = many.substr(0, rest * bytes.size());
    if (times == kForever || times >= block)
        steps.push_back({wait_ms, std::move(many), times == kForever ? kForever : times / block});
    if (rest > 0) steps.push_back({wait_ms, std::move(some)});
}

Script plain_response(int status, std::string_view content_type, std::string_view body,
                      std::string_view headers) {
    Script script;
    script.status = status;
    script.add(response_head(status, header("content-type", content_type) +
                                         header("content-length", std::to_string(body.size())) +
                                         std::string(headers))
                   .append(body));
    return script;
}

Script error_response(const Behaviour& behaviour, Protocol protocol, int status, std::string_view message,
                      const std::string& serial) {
    status = static_cast<int>(behaviour.status.value_or(status));
    const bool html = on(behaviour.html);
    const std::string type = behaviour.content_type.value_or(html ? "text/html" : "application/json");
    Script script = plain_response(
        status, type, html ? std::string(kHtml) : format_of(protocol).error(status, behaviour, message),
        common_headers(behaviour, protocol, serial));
    script.steps.front().wait_ms = behaviour.delay.value_or(0);
    return finished(std::move(script), behaviour);
}

Script chat_response(const Behaviour& behaviour, const ChatRequest& request, Protocol protocol,
                     std::string_view key, const std::string& serial) {
    const long delay = behaviour.delay.value_or(0);
    Script script;
    if (behaviour.raw) return raw_response(behaviour);
    if (behaviour.require_key && *behaviour.require_key != key)
        return error_response({}, protocol, 401, "Incorrect API key provided.", serial);
    if (behaviour.redirect) return error_response(behaviour, protocol, 302, "Moved", serial);
    if (behaviour.status || on(behaviour.echo_key)) {
        const int status = static_cast<int>(behaviour.status.value_or(401));
        return error_response(behaviour, protocol, status, error_message(behaviour, status, key), serial);
    }
    if (on(behaviour.html)) return error_response(behaviour, protocol, 200, "", serial);
    if (on(behaviour.refuse_stream_options) && request.stream_options)
        return error_response({}, protocol, 400, "Unrecognized request argument: stream_options", serial);
    if (on(behaviour.garbage)) {
        script.add("\x01\xFE\xFF nobody speaks like this \x02\r\n\x80\x81", delay);
        script.end = Script::End::kClose;
        script.status = 0;
        return finished(std::move(script), behaviour);
    }
    if (const auto broken = break_of(behaviour); broken && broken->after == 0) {
        script.add("", delay);
        script.end = broken->end;
        script.status = 0;
        return script;
    }
    const Answer answer = make_answer(behaviour, request, protocol, serial);
    const Format& format = format_of(protocol);
    const std::string headers = common_headers(behaviour, protocol, serial);
    return finished(request.stream ? stream_response(behaviour, answer, format, headers)
                                   : whole_response(behaviour, answer, format, headers),
                    behaviour);
}

}  // namespace mrprompt::fake
