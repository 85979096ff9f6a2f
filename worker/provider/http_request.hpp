// The part of an HTTP request that every protocol builds alike: URL, headers, key, time-outs.
#pragma once
#include <string_view>

#include "provider/provider.hpp"

namespace mrprompt {

// What stands before `path` in a base_url, which may be the whole endpoint; without slashes at its end.
std::string_view base_of(std::string_view base_url, std::string_view path);

// All but the body. "{model}" in base_url or path becomes the percent-encoded model; `own_path` stands in
// where the row has no path. Fails on a model that cannot stand in a URL and on a key that cannot stand in a
// header.
Result<HttpRequest> start_request(const Provider& provider, const Chat& chat, const Secret& key,
                                  std::string_view own_path);

// Sets a header unless the row's own headers, in any case, have it already.
void default_header(HttpRequest& request, std::string_view name, std::string_view value);

}  // namespace mrprompt
