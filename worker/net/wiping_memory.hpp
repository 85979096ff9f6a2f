// libcurl copies the key's header into requests of its own making and frees them as they are: it is given
// memory that is wiped when freed.
#pragma once
#include <curl/curl.h>

namespace mrprompt {

// curl_global_init with that memory. Once, before anything else of curl, and before a thread runs.
CURLcode start_curl_on_wiping_memory();

}  // namespace mrprompt
