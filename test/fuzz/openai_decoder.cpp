// Any body, as an answer in the OpenAI format.
#include "decoder.hpp"
#include "provider/openai.hpp"

FUZZ_TARGET(input) {
    mrprompt::fuzz::check_decoder(mrprompt::openai_protocol(), input);
}
