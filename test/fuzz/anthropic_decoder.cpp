// Any body, as an answer in the Anthropic format.
#include "decoder.hpp"
#include "provider/anthropic.hpp"

FUZZ_TARGET(input) {
    mrprompt::fuzz::check_decoder(mrprompt::anthropic_protocol(), input);
}
