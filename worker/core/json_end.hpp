// Where a JSON object or array ends that comes in pieces.
#pragma once
#include <cstddef>
#include <string_view>

namespace mrprompt {

// Counts brackets and skips strings, a byte at a time; what stands between them is not looked at.
class JsonEnd {
public:
    void feed(std::string_view piece);
    bool reached() const { return state_ == State::after; }  // one object or array, and nothing else

private:
    enum class State { before, inside, string, escape, after, astray };
    void take(char c);

    State state_ = State::before;
    std::size_t depth_ = 0;
};

}  // namespace mrprompt
