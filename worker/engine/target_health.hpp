// How many attempts have failed at each target of late, so that one that fails too often can be held back.
// Pure.
#pragma once
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace mrprompt {

// What is held back together.
struct Target {
    std::string provider;
    std::string key_id;  // empty: none
    std::string model;
    auto operator<=>(const Target&) const = default;
};

// Counts over a sliding minute. Targets of which nothing was heard for so long are forgotten, and beyond
// kMaxTargets the quietest one.
class TargetHealth {
public:
    static constexpr std::int64_t kWindowMs = 60'000;
    static constexpr std::size_t kMaxTargets = 4'096;

    // An attempt has ended. True when it failed and with it at least `percent` of at least `attempts` that
    // ended in the last minute: then the target's counts begin anew. With `percent` 0 never.
    bool ended(const Target& target, bool failed, int percent, int attempts, std::int64_t now_ms);

    std::size_t size() const { return targets_.size(); }

private:
    static constexpr std::int64_t kSliceMs = 5'000;
    static constexpr std::size_t kSlices = kWindowMs / kSliceMs;

    struct Slice {
        std::uint32_t ended = 0;
        std::uint32_t failed = 0;
    };
    struct Window {
        std::array<Slice, kSlices> slices{};  // a ring: slice n stands at n modulo kSlices
        std::int64_t newest = 0;              // the number of the slice that was counted in last
    };

    Window& window_of(const Target& target, std::int64_t slice);
    void make_room(std::int64_t slice);

    std::map<Target, Window> targets_;
    std::int64_t swept_ = 0;  // the slice in which idle targets were looked for last
};

}  // namespace mrprompt
