// JSON that the fetcher would refuse is refused at the call.
#include "core/json_shape.hpp"
#include "pg/boundary.hpp"

namespace mrprompt {

// A claim carries the payload inside {"jobs": [{"payload": …}]}; some room is left for later versions.
constexpr std::size_t kClaimLevels = 8;

// mrprompt_internal.json_shape_problem(json) returns text, immutable, strict, parallel safe.
MRPROMPT_FUNCTION(json_shape_problem) {
    text* json = PG_GETARG_TEXT_PP(0);
    const char* problem = json_shape_error(
        {VARDATA_ANY(json), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(json))}, kClaimLevels);
    if (problem == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(problem));
}

}  // namespace mrprompt
