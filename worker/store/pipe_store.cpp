// Frames out and in over the supervisor's socket.
#include "store/pipe_store.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/json.hpp"

namespace mrprompt {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr int kReadsPerPump = 64;  // then the network gets its turn

}  // namespace

PipeStore::PipeStore(int fd) : fd_(fd) {
    fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK);
}

PipeStore::~PipeStore() {
    close(fd_);
}

void PipeStore::call(CallKind kind, std::string json) {
    under_way_ = kind;
    // Too large for a frame: refused as PostgreSQL would, so that the batch is split.
    if (!writer_.append(static_cast<FrameKind>(kind), json)) {
        return answer({kind, "54000", "the call is larger than a frame may be", {}});
    }
    send_out();
}

std::optional<Reply> PipeStore::reply() {
    return std::exchange(reply_, std::nullopt);
}

bool PipeStore::take_wake() {
    return std::exchange(wake_, false);
}

short PipeStore::events() const {
    return static_cast<short>(writer_.empty() ? POLLIN : POLLIN | POLLOUT);
}

void PipeStore::pump() {
    if (stop_) return;
    if (!writer_.empty()) send_out();
    receive();
}

void PipeStore::send_out() {
    while (!writer_.empty()) {
        const std::string_view bytes = writer_.pending();
        const ssize_t count = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK) stop_ = true;
            return;
        }
        writer_.sent(static_cast<std::size_t>(count));
    }
}

void PipeStore::receive() {
    for (int round = 0; round < kReadsPerPump && !stop_; ++round) {
        const std::span<char> room = reader_.room(kReadBytes);
        const ssize_t count = recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (count <= 0) {
            stop_ = true;
            return;
        }
        reader_.added(static_cast<std::size_t>(count));
        while (auto frame = reader_.next()) on_frame(*frame);
        if (reader_.broken()) stop_ = true;
        if (static_cast<std::size_t>(count) < room.size()) return;
    }
}

void PipeStore::on_frame(const Frame& frame) {
    if (frame.kind == FrameKind::wake) {
        wake_ = true;
    } else if (frame.kind == FrameKind::stop) {
        stop_ = true;
    } else if (!under_way_) {
        stop_ = true;  // an answer that nobody asked for
    } else if (frame.kind == FrameKind::reply) {
        auto payload = decode_reply(frame.payload);
        if (payload) {
            answer({*under_way_, "", std::string(payload->json), std::move(payload->keys)});
        } else {
            answer({*under_way_, "08P01", payload.error().message, {}});
        }
    } else if (frame.kind == FrameKind::error) {
        const auto error = parse_json(frame.payload);
        std::string sqlstate = error ? string_member(*error, "sqlstate") : "08P01";
        if (sqlstate.empty()) sqlstate = "XX000";
        answer({*under_way_, std::move(sqlstate), error ? string_member(*error, "message") : "", {}});
    } else {
        stop_ = true;
    }
}

void PipeStore::answer(Reply reply) {
    reply_ = std::move(reply);
    under_way_.reset();
}

}  // namespace mrprompt
