// The store of a supervisor's child: contract calls as frames on an inherited socket.
#pragma once
#include <optional>
#include <string>

#include "core/frame.hpp"
#include "engine/ports.hpp"

namespace mrprompt {

// Owns the socket. When its other end closes, or talks nonsense, the fetcher is to stop.
class PipeStore final : public Store {
public:
    explicit PipeStore(int fd);  // makes it non-blocking
    ~PipeStore() override;
    PipeStore(const PipeStore&) = delete;
    PipeStore& operator=(const PipeStore&) = delete;

    bool ready() const override { return !under_way_ && !stop_; }
    void call(CallKind kind, std::string json) override;
    std::optional<Reply> reply() override;
    bool take_wake() override;
    bool stop_asked() const override { return stop_; }

    int fd() const { return fd_; }
    short events() const;  // for poll(2)
    void pump();           // sends and receives what it can; never blocks

private:
    void send_out();
    void receive();
    void on_frame(const Frame& frame);
    void answer(Reply reply);

    int fd_;
    FrameReader reader_;
    FrameWriter writer_;
    std::optional<CallKind> under_way_;
    std::optional<Reply> reply_;
    bool wake_ = false;
    bool stop_ = false;
};

}  // namespace mrprompt
