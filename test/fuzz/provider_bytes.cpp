// Any body, through the engine to what it writes for the database: deltas and an outcome that PostgreSQL
// takes, in which a stream's pieces are its answer.
#include "../unit/engine_twins.hpp"
#include "core/text.hpp"
#include "fuzz.hpp"

namespace mrprompt::fuzz {
namespace {

constexpr char kKey[] = "sk-aaab-0123456789";
constexpr std::size_t kMaxMessageBytes = 2000;
constexpr int kManyBytes = 1 << 20;

struct Told {
    std::size_t limit;
    std::string content, reasoning;
    int seq = 0;

    void take(const Json& delta) {
        promise(delta["seq"] == ++seq, "pieces are counted from 1");
        const std::string said = string_member(delta, "content"), thought = string_member(delta, "reasoning");
        promise(said.size() + thought.size() <= limit, "a piece keeps to its limit", said);
        content += said;
        reasoning += thought;
    }
};

Job job_for(bool stream) {
    Job job;
    job.request = test::uuid(1);
    job.attempt = 1;
    job.kind = "chat";
    job.chat = {"m", stream, Json{{"messages", Json::array()}}};
    return job;
}

void check_outcome(const Json& outcome, Told& told, bool stream, std::string_view content) {
    for (const Json& delta : outcome["deltas"]) told.take(delta);
    const std::string& result = outcome["result"].get_ref<const std::string&>();
    promise(result == "succeeded" || result == "retry" || result == "failed", "an outcome is one of three",
            result);
    promise((result == "succeeded") == outcome["error"].is_null(), "what did not succeed says why");
    if (const Json& error = outcome["error"]; error.is_object()) {
        const std::string& message = error["message"].get_ref<const std::string&>();
        promise(message.size() <= kMaxMessageBytes && message.find(kKey) == std::string::npos,
                "an error is short and holds no key", message);
    }
    if (result != "succeeded") return;
    const Json& response = outcome["response"];
    promise(string_member(response, "content") == content, "the answer is what the body says");
    promise(!stream || told.content == string_member(response, "content"), "the pieces are the answer");
    promise(!stream || told.reasoning == string_member(response, "reasoning"),
            "the pieces are the reasoning");
    for (const auto& [name, said] : outcome["usage"].items()) {
        if (name == "service_tier" || name == "provider_cost") {
            promise(said.is_null() || said.is_string() == (name == "service_tier"), name + " is what it is");
        } else {
            promise(said.is_boolean() || said >= 0, name + " is a count");
        }
    }
}

void check(std::string_view body, const char* protocol, bool stream,
           const std::vector<std::string_view>& pieces, TransferEnd end, int max_delta_bytes = kManyBytes) {
    test::FakeTransport transport;
    test::FakeClock clock;
    Flights flights(transport, clock);
    FetcherSettings settings;
    settings.max_delta_bytes = max_delta_bytes;
    flights.obey(settings);
    Provider row{.name = "p", .protocol = protocol, .base_url = "https://p.test/v1"};
    const Result<ProviderRow> provider = std::make_shared<const Provider>(row);
    flights.start(job_for(stream), &provider, std::make_shared<const Secret>(kKey), "");
    Told told{.limit = static_cast<std::size_t>(max_delta_bytes), .content = {}, .reasoning = {}};
    const auto take_deltas = [&] {
        for (const Item& item : flights.take_deltas(0)) told.take(checked_json(item.json, "a delta"));
    };
    // The head is hostile, too: its fields are what the body begins with.
    const std::string field(body.substr(0, 300));
    flights.on_sent(1);
    flights.on_head(1, 200, {{"x-request-id", field}, {"retry-after", field}, {"content-type", field}});
    for (const std::string_view piece : pieces) {
        flights.on_body(1, piece);
        if (piece.size() % 3 == 0) take_deltas();
    }
    flights.on_end(1, end, body);
    take_deltas();
    checked_json(flights.in_flight_json(), "the list of what is in flight");
    checked_json(flights.progress_json(), "progress");
    const std::vector<Item> outcomes = flights.take_outcomes();
    promise(outcomes.size() == 1, "a transfer that has ended has one outcome");
    const std::unique_ptr<Decoder> decoder = find_protocol(protocol)->decoder(stream, 200, "");
    Delta unused;
    decoder->feed(body, unused);
    decoder->finish(unused);
    const Json outcome = checked_json(outcomes[0].json, "an outcome");
    check_outcome(outcome, told, stream, decoder->completion().content);
    promise(end != TransferEnd::complete || max_delta_bytes < kManyBytes ||
                (outcome["result"] == "succeeded") == decoder->completion().complete,
            "a whole answer is a success, and no other");
    flights.forget(outcomes[0]);
    promise(flights.size() == 0, "nothing stays behind");
}

}  // namespace
}  // namespace mrprompt::fuzz

FUZZ_TARGET(input) {
    using namespace mrprompt;
    using namespace mrprompt::fuzz;
    const std::vector<std::string_view> pieces = pieces_of(input);
    for (const char* protocol : {"openai", "anthropic"}) {
        check(input, protocol, true, pieces, TransferEnd::complete);
        check(input, protocol, false, {input}, TransferEnd::complete);
    }
    check(input, "openai", true, pieces, TransferEnd::broken);
    check(input, "openai", true, {input}, TransferEnd::complete, 24);
}
