// The process of one tool call: takes it, runs it, leaves.
#pragma once

namespace mrprompt {

// Its entry point, which start_tool_process_at_commit() names to the postmaster; the argument is the
// database's oid. One call to a process: nothing that a tool leaves behind in its session meets another one.
inline constexpr char kToolMain[] = "mrprompt_tool_main";

}  // namespace mrprompt
