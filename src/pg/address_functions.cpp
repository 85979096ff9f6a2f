// Whether a provider's address is written out and not public: the fetcher's own rule, asked when the row is
// written.
#include "core/address.hpp"
#include "pg/boundary.hpp"

namespace mrprompt {

// mrprompt_internal.special_host(text) returns text, immutable, strict, parallel safe.
MRPROMPT_FUNCTION(special_host) {
    text* url = PG_GETARG_TEXT_PP(0);
    const char* kind =
        mrprompt::special_host({VARDATA_ANY(url), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(url))});
    if (kind == nullptr) PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(kind));
}

}  // namespace mrprompt
