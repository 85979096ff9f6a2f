// Frames are the same wherever their bytes are cut, and what is written is what was read.
#include "core/frame.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

constexpr std::size_t kMuch = 3 * 4096;

struct Seen {
    std::vector<std::pair<FrameKind, std::string>> frames;
    bool broken = false;
    bool operator==(const Seen&) const = default;
};

Seen read(const std::vector<std::string_view>& pieces) {
    Seen seen;
    FrameReader reader;
    for (const std::string_view piece : pieces) {
        reader.feed(piece);
        while (const auto frame = reader.next()) seen.frames.emplace_back(frame->kind, frame->payload);
    }
    seen.broken = reader.broken();
    return seen;
}

// Received straight into the reader's own room, as from a socket.
Seen receive(const std::vector<std::string_view>& pieces) {
    Seen seen;
    FrameReader reader;
    for (const std::string_view piece : pieces) {
        std::copy(piece.begin(), piece.end(), reader.room(piece.size() + 1).begin());
        reader.added(piece.size());
        while (const auto frame = reader.next()) seen.frames.emplace_back(frame->kind, frame->payload);
    }
    seen.broken = reader.broken();
    return seen;
}

// What stands behind the last frame that was read is the beginning of another one.
bool is_incomplete(std::string_view rest) {
    if (rest.size() < kFrameHeader) return true;
    std::size_t length = 0;
    for (int i = 3; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(rest[i]);
    return rest.size() - kFrameHeader < length;
}

void check_reply(std::string_view payload) {
    const auto reply = decode_reply(payload);
    if (!reply) return;
    FrameWriter writer;
    promise(writer.append_reply(reply->keys, reply->json), "a reply that was read can be written");
    promise(writer.pending().substr(kFrameHeader) == payload, "a reply is written as it was read");
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt;
    using namespace mrprompt::fuzz;
    const Seen whole = read({input});
    promise(read(pieces_of(input)) == whole, "cutting changes nothing");
    promise(receive(pieces_of(input)) == whole, "nor does the way in");

    FrameWriter writer;
    for (const auto& [kind, payload] : whole.frames) {
        promise(writer.append(kind, payload), "a frame that was read can be written");
        if (kind == FrameKind::reply) check_reply(payload);
    }
    promise(input.starts_with(writer.pending()), "frames are written as they were read");
    promise(whole.broken || is_incomplete(input.substr(writer.pending().size())), "a whole frame is read");
    check_reply(input);
    if (whole.frames.empty()) return;
    // The same over and over: the reader's memory is tidied up meanwhile, and grows.
    std::string many;
    while (many.size() < kMuch) many += writer.pending();
    promise(receive(pieces_of(many)) == read({many}), "nor does what was read before");
}
