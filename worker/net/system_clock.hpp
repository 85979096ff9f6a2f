// The real clock: monotonic and wall time, and randomness for jitter.
#pragma once
#include <chrono>
#include <random>

#include "engine/ports.hpp"

namespace mrprompt {

class SystemClock final : public Clock {
public:
    std::int64_t now_ms() const override { return ms(std::chrono::steady_clock::now()); }
    std::int64_t wall_ms() const override { return ms(std::chrono::system_clock::now()); }
    double uniform() override { return std::uniform_real_distribution<double>(0, 1)(random_); }

private:
    template <class Time>
    static std::int64_t ms(Time time) {
        return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
    }
    std::mt19937_64 random_{std::random_device{}()};
};

}  // namespace mrprompt
