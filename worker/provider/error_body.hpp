// Providers say what went wrong in many shapes: one reading for all of them.
#pragma once
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

// The error a JSON document reports, if it does: {"error":{…}}, {"error":"…"}, {"object":"error",…},
// {"type":"error",…}.
std::optional<ProviderError> reported_error(const Json& document);

// The error in the body of a non-2xx response: JSON of any of the usual shapes, HTML or plain text.
ProviderError error_from_body(int status, std::string_view body);

// A body that is not what the protocol promises; the message says what is wrong and shows how it begins.
ProviderError bad_response(std::string_view what, std::string_view body);

// A body, or an event, that parse_json refused.
ProviderError unreadable(std::string_view what, const Error& reason, std::string_view body);

}  // namespace mrprompt
