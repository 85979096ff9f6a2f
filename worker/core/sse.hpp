// Server-sent events out of bytes: the WHATWG rules, with a bound on size.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace mrprompt {

// Bytes may be split anywhere. Lines end in \n, \r\n or \r; comments, `id` and `retry` are skipped; several
// `data` lines are joined by \n; an event without `data` is not reported.
class SseParser {
public:
    // Both views hold during the call only; `event` is "" where the stream names none.
    using Callback = std::function<void(std::string_view event, std::string_view data)>;

    // `limit`: bytes that one event may hold.
    explicit SseParser(std::size_t limit = 16u << 20) : limit_(limit) {}

    // False once an event exceeded the limit; then nothing more is reported.
    [[nodiscard]] bool feed(std::string_view bytes, const Callback& on_event);

    // The stream has ended. Real servers leave out the last blank line, and even the last line break, so what
    // stands there is reported too; its data may be cut short, which the caller can tell (JSON does not
    // parse).
    void finish(const Callback& on_event);

private:
    void end_line(std::string_view line, const Callback& on_event);
    void dispatch(const Callback& on_event);

    std::size_t limit_;
    std::string line_;  // the part of a line that earlier bytes brought
    std::string event_;
    std::string data_;
    bool has_data_ = false;
    bool first_line_ = true;     // a byte order mark may stand before it
    bool skip_newline_ = false;  // the last byte was \r: a \n now belongs to it
    bool overflowed_ = false;
};

}  // namespace mrprompt
