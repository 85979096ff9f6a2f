// One call of an SQL tool, run as the user who asked.
#pragma once
#include "pg/prelude.hpp"

namespace mrprompt {

// As mrprompt_internal.take_tool_call() answers; the texts last as long as the process.
struct ToolCall {
    pg_uuid_t id;
    int32 tries;
    const char* user_id;    // whom the run is for
    const char* subject;    // the sub of the claims, or ''
    const char* role;       // of who asked; no superuser, and bound by row-level security
    const char* claims;     // or ''
    const char* statement;  // one column of text; $1 are the arguments
    const char* arguments;  // JSON
    Oid function;           // what the statement must call
    bool returns_set;
    bool writes;
    int32 timeout_ms;
    int32 max_output;
    const char* search_path;
};

// Runs it and records how it ended. From the first statement of the tool on, this process has the role's
// rights and no more, and mrprompt.current_user_id() answers user_id. Null, or an error that was not
// recorded.
ErrorData* run_tool_call(const ToolCall& call);

}  // namespace mrprompt
