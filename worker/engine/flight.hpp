// One request in flight: what the fetcher remembers of it between its claim and its settlement.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crypto/secret.hpp"
#include "provider/provider.hpp"

namespace mrprompt {

enum class Phase { connecting, waiting, streaming, settling };

// Thousands of these live at once: text that is done with is given back at once.
struct Flight {
    std::string request;
    int attempt = 0;
    int failures = 0;
    bool stream = false;
    Phase phase = Phase::connecting;
    const Protocol* protocol = nullptr;
    std::shared_ptr<const Provider> provider;  // as this request has it
    std::string key_id, model;
    std::shared_ptr<const Secret> key;  // so that no error text carries it; may be null
    std::unique_ptr<Decoder> decoder;   // from the response head to the end

    int status = 0;
    std::string provider_request_id;
    std::optional<std::int64_t> retry_after_ms;
    std::int64_t started_ms = 0;
    std::optional<std::int64_t> first_token_ms;
    std::int64_t text_bytes = 0;       // of content, reasoning, refusal and arguments seen
    bool sent = false;                 // the provider may have seen something of the request
    std::int64_t prompt_estimate = 0;  // tokens; 0: this is no chat
    std::size_t received = 0;          // bytes of the response's body
    std::string encoding;              // the compression of the response's body: nobody asked for any
    std::size_t held = 0;              // its share of what Flights::keep_within counts

    // Streamed requests only: pieces that have grown as large as they may, and the one that still grows.
    std::vector<Delta> full;
    Delta unsent;
    std::size_t gathered = 0;  // bytes of text in them
    void drop_gathered() {
        full = {};
        unsent = Delta();
        gathered = 0;
    }
    int next_seq = 1;
    std::string outcome;                   // JSON; set in phase settling
    Json usage;                            // in it, and in a barer one
    std::optional<std::int64_t> again_ms;  // the outcome is a retry, so long after
    bool outcome_bare = false;             // the database refused a fuller one
    const char* overrun = nullptr;         // the limit it has passed, as an error type: it is about to end
    bool closing = false;                  // its answer is whole: its connection has a moment to end, too
    bool listed = false;                   // among those with an unsent delta
};

}  // namespace mrprompt
