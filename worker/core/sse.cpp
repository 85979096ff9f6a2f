// Line splitting and field handling of server-sent events.
#include "core/sse.hpp"

namespace mrprompt {

namespace {

// Where the first line break stands, or the size. (find_first_of is many times slower.)
std::size_t line_end(std::string_view bytes) {
    std::size_t i = 0;
    while (i < bytes.size() && bytes[i] != '\n' && bytes[i] != '\r') ++i;
    return i;
}

}  // namespace

bool SseParser::feed(std::string_view bytes, const Callback& on_event) {
    while (!bytes.empty() && !overflowed_) {
        if (skip_newline_) {
            skip_newline_ = false;
            if (bytes.front() == '\n') {
                bytes.remove_prefix(1);
                continue;
            }
        }
        const std::size_t end = line_end(bytes);
        const std::string_view piece = bytes.substr(0, end);
        if (line_.size() + piece.size() + data_.size() > limit_) {
            overflowed_ = true;
            break;
        }
        if (end == bytes.size()) {
            line_ += piece;
            break;
        }
        skip_newline_ = bytes[end] == '\r';
        bytes.remove_prefix(end + 1);
        if (line_.empty()) {
            end_line(piece, on_event);
        } else {
            line_ += piece;
            end_line(line_, on_event);
            line_.clear();
        }
    }
    return !overflowed_;
}

void SseParser::finish(const Callback& on_event) {
    if (overflowed_) return;
    if (!line_.empty()) end_line(line_, on_event);
    line_.clear();
    dispatch(on_event);
}

void SseParser::end_line(std::string_view line, const Callback& on_event) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (first_line_ && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    first_line_ = false;
    if (line.empty()) return dispatch(on_event);
    const std::size_t colon = line.find(':');
    if (colon == 0) return;
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "data") {
        if (has_data_) data_ += '\n';
        data_ += value;
        has_data_ = true;
    } else if (field == "event") {
        event_ = value;
    }
}

void SseParser::dispatch(const Callback& on_event) {
    if (has_data_) on_event(event_, data_);
    event_.clear();
    data_.clear();
    has_data_ = false;
}

}  // namespace mrprompt
