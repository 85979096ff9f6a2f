// A fetcher between a database and a provider that both say whatever they like. A line of the input is an
// event:
//   {…          the database answers the call under way with this line
//   !00000…     it fails: SQLSTATE, message
//   +100        so many milliseconds pass
//   <429…       the provider's head: status, then one header as "name: value"
//   =…          a piece of its body, with \n for a line break
//   .3          its end, as one of TransferEnd
//   ?           the database wakes the fetcher
//   x           the operator asks it to leave
#include <charconv>
#include <set>

#include "../unit/engine_twins.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

constexpr std::size_t kMaxEvents = 200;
constexpr int kTransferEnds = static_cast<int>(TransferEnd::address_refused) + 1;

// Checks every call as PostgreSQL would.
class CheckingStore final : public Store {
public:
    bool ready() const override { return !under_way_; }
    void call(CallKind kind, std::string json) override {
        promise(!under_way_, "one call at a time");
        const Json args = checked_json(json, "a call");
        promise(args.is_object() && (kind == CallKind::hello || args["fetcher"].is_string()),
                "a call names its fetcher", json);
        for (const char* list : {"in_flight", "outcomes"}) {
            std::set<std::string> named;
            for (const Json& one : member(args, list))
                promise(named.insert(dump_json(one.is_array() ? one[0] : member(one, "request"))).second,
                        "a call names a request once", json);
        }
        under_way_ = kind;
    }
    std::optional<Reply> reply() override { return std::exchange(reply_, std::nullopt); }
    bool take_wake() override { return std::exchange(wake, false); }
    bool stop_asked() const override { return false; }

    void answer(std::string sqlstate, std::string body) {
        if (!under_way_) return;
        std::vector<OpenedKey> keys(2);
        keys[0].opened = true;
        keys[0].key = Secret("sk-test-1");
        keys[1].reason = body.substr(0, 20);
        reply_ = Reply{*std::exchange(under_way_, std::nullopt), std::move(sqlstate), std::move(body),
                       std::move(keys)};
    }

    bool wake = false;

private:
    std::optional<CallKind> under_way_;
    std::optional<Reply> reply_;
};

int number(std::string_view text) {
    int value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return std::clamp(value, 0, 600'000);
}

std::string with_line_breaks(std::string_view text) {
    std::string out(text);
    for (std::size_t at; (at = out.find("\\n")) != std::string::npos;) out.replace(at, 2, "\n");
    return out;
}

class World {
public:
    World() : fetcher_(store_, transport_, clock_, options()) { fetcher_.step(); }

    void event(std::string_view line) {
        const std::string_view rest = line.substr(1);
        const auto running = transport_.running.begin();
        const bool any = running != transport_.running.end();
        switch (line[0]) {
            case '{':
                store_.answer("", std::string(line));
                break;
            case '!':
                store_.answer(std::string(rest.substr(0, 5)),
                              std::string(rest.substr(std::min<std::size_t>(5, rest.size()))));
                break;
            case '+':
                clock_.now += number(rest);
                break;
            case '?':
                store_.wake = true;
                break;
            case 'x':
                fetcher_.drain();
                break;
            case '<':
                if (any)
                    transport_.head(*running, number(rest.substr(0, 3)),
                                    {header(rest.substr(std::min<std::size_t>(3, rest.size())))});
                break;
            case '=':
                if (any) transport_.body(*running, with_line_breaks(rest));
                break;
            case '.':
                if (any)
                    transport_.end(*running, static_cast<TransferEnd>(number(rest) % kTransferEnds),
                                   std::string(rest));
                break;
            default:
                break;
        }
        fetcher_.step();
        promise(fetcher_.finished() || fetcher_.deadline() >= 0, "there is a next step");
    }

    // Asked twice, a fetcher is gone.
    void end() {
        fetcher_.drain();
        fetcher_.drain();
        promise(fetcher_.finished() && transport_.running.empty(),
                "a fetcher that is gone leaves no transfer");
    }

private:
    static FetcherOptions options() {
        FetcherOptions options;
        options.tends = true;
        options.max_held_bytes = 4096;
        return options;
    }
    static std::pair<std::string, std::string> header(std::string_view text) {
        const std::size_t colon = std::min(text.find(": "), text.size());
        return {std::string(text.substr(0, colon)),
                std::string(text.substr(std::min(colon + 2, text.size())))};
    }

    CheckingStore store_;
    test::FakeTransport transport_;
    test::FakeClock clock_;
    Fetcher fetcher_;
};

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    mrprompt::fuzz::World world;
    for (std::size_t events = 0; !input.empty() && events < mrprompt::fuzz::kMaxEvents; ++events) {
        const std::string_view line = input.substr(0, input.find('\n'));
        input.remove_prefix(std::min(line.size() + 1, input.size()));
        if (!line.empty()) world.event(line);
    }
    world.end();
}
