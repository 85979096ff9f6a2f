// Bracket counting over pieces of JSON text.
#include "core/json_end.hpp"

namespace mrprompt {

void JsonEnd::feed(std::string_view piece) {
    for (const char c : piece) take(c);
}

void JsonEnd::take(char c) {
    const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
    const bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
    switch (state_) {
        case State::before:
            if (opens) {
                state_ = State::inside;
                depth_ = 1;
            } else if (!blank) {
                state_ = State::astray;
            }
            break;
        case State::inside:
            if (c == '"') state_ = State::string;
            if (opens) ++depth_;
            if (closes && --depth_ == 0) state_ = State::after;
            break;
        case State::string:
            if (c == '\\') state_ = State::escape;
            if (c == '"') state_ = State::inside;
            break;
        case State::escape:
            state_ = State::string;
            break;
        case State::after:
            if (!blank) state_ = State::astray;
            break;
        case State::astray:
            break;
    }
}

}  // namespace mrprompt
