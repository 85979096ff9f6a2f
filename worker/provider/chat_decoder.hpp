// What the decoders of all protocols share: telling streams from documents, joining text, ends and errors.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/json_end.hpp"
#include "core/sse.hpp"
#include "core/text.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

// A protocol overrides on_event, on_document and on_end, and reports what it finds by the add_ functions.
class ChatDecoder : public Decoder {
public:
    ChatDecoder(bool stream, int status) : wants_delta_(stream), status_(status) {}

    void feed(std::string_view bytes, Delta& delta) final;
    void finish(Delta& delta) final;

protected:
    virtual void on_event(std::string_view event, const Json& data) = 0;  // one event of a stream
    virtual void on_document(const Json& document) = 0;                   // a whole answer
    virtual bool ended() const = 0;  // the stream has said all that an answer needs

    void add_content(std::string_view text);  // "" says that the answer has text
    void add_reasoning(std::string_view text);
    void add_refusal(std::string_view text);

    // A new tool call; its place is what add_arguments wants. Fails the answer when there are too many.
    std::size_t add_tool_call(std::string_view id, std::string_view name);
    void name_tool_call(std::size_t place, std::string_view id,
                        std::string_view name);  // sets what is not set yet
    void add_arguments(std::size_t place, std::string_view piece);
    void take_service_tier(const Json& object);  // the last one that is said stands
    bool has_whole_arguments(std::size_t place) const { return arguments_[place].end.reached(); }

    void fail(ProviderError error);  // the first error stands
    void fail(std::string type, std::string message);
    bool failed() const { return completion_.error.has_value(); }

private:
    // What a body is, told from how it begins: servers ignore `stream`, and mislabel what they send.
    enum class Body { unknown, events, document, error };

    void recognise();
    void feed_events(std::string_view bytes);
    void handle_event(std::string_view event, std::string_view data);
    void finish_events();
    void finish_document();
    void add_text(Utf8Joiner& joiner, std::string_view text, std::string& whole, std::string* live);
    ToolCallFragment& live_call(std::size_t place);

    const bool wants_delta_;
    const int status_;
    Body body_ = Body::unknown;
    std::string
        held_;  // a document, or how a stream begins (to show when it is none); no white space in front
    SseParser events_;
    bool saw_event_ = false;
    bool finishing_ = false;
    bool saw_content_ = false;
    Utf8Joiner content_, reasoning_, refusal_;
    struct Arguments {
        Utf8Joiner joiner;
        JsonEnd end;
    };
    std::vector<Arguments> arguments_;  // of each tool call
    Delta* live_ = nullptr;             // the caller's delta, during feed and finish only
};

// Token counts as providers send them: absent, null and nonsense are 0; no more than an int4 holds.
std::int64_t token_count(const Json& usage, const char* name);
// The same for a count that is part of another: no more than that one.
std::int64_t part_of(std::int64_t whole, const Json& usage, const char* name);
std::int64_t clamp_tokens(std::int64_t count);

// A provider's own figures are kept as long as they are figures, and not a hiding place for megabytes.
inline constexpr std::size_t kMaxUsageMembers = 64;
bool can_be_kept(const Json& usage);

// What a provider calls something (a model, an answer, the end of it), as text of sensible length.
inline constexpr std::size_t kMaxLabelBytes = 500;
std::string label(const Json& object, const char* name, std::size_t max_bytes = kMaxLabelBytes);

}  // namespace mrprompt
