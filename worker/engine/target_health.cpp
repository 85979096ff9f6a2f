// The sliding window of each target, in slices of five seconds.
#include "engine/target_health.hpp"

#include <algorithm>

namespace mrprompt {

bool TargetHealth::ended(const Target& target, bool failed, int percent, int attempts, std::int64_t now_ms) {
    if (percent <= 0) return false;
    const std::int64_t slice = now_ms / kSliceMs;
    Window& window = window_of(target, slice);
    Slice& now = window.slices[static_cast<std::size_t>(slice) % kSlices];
    ++now.ended;
    if (!failed) return false;
    ++now.failed;
    std::int64_t all = 0, bad = 0;
    for (const Slice& part : window.slices) {
        all += part.ended;
        bad += part.failed;
    }
    if (all < attempts || bad * 100 < all * percent) return false;
    targets_.erase(target);
    return true;
}

// The target's window, moved on to `slice`: what has left the minute counts no more.
TargetHealth::Window& TargetHealth::window_of(const Target& target, std::int64_t slice) {
    if (!targets_.contains(target)) make_room(slice);
    const auto [place, fresh] = targets_.try_emplace(target);
    Window& window = place->second;
    const auto all = static_cast<std::int64_t>(kSlices);
    if (fresh) window.newest = slice;
    for (std::int64_t n = std::max(window.newest + 1, slice - all + 1); n <= slice; ++n) {
        window.slices[static_cast<std::size_t>(n) % kSlices] = Slice();
    }
    window.newest = std::max(window.newest, slice);
    return window;
}

void TargetHealth::make_room(std::int64_t slice) {
    const auto all = static_cast<std::int64_t>(kSlices);
    if (slice >= swept_ + all) {
        std::erase_if(targets_, [&](const auto& entry) { return entry.second.newest <= slice - all; });
        swept_ = slice;
    }
    if (targets_.size() < kMaxTargets) return;
    targets_.erase(std::min_element(targets_.begin(), targets_.end(), [](const auto& one, const auto& other) {
        return one.second.newest < other.second.newest;
    }));
}

}  // namespace mrprompt
