// The processes that run tools: how many there may be, how one is started, and how they are ended from
// outside.
#pragma once
#include "pg/prelude.hpp"

namespace mrprompt {

inline constexpr char kToolProcess[] = "mrprompt tool";

// At the commit of this transaction, starts a tool process for this database, unless there are plenty. May
// raise.
void start_tool_process_at_commit();

// At once; never raises.
void start_tool_process();

// At the commit of this transaction, ends that tool process of this database, if it still is one. May raise.
void stop_tool_process_at_commit(int pid);

// One of the places that mrprompt.max_tool_workers gives to this database. False: none is free. May raise.
bool take_tool_place();
void leave_tool_place();

// Whether another process would find one now. May raise.
bool tool_place_is_free();

// Waits until no other process of this database is taking a call, and is the one until the transaction's end.
void wait_for_turn_to_take();

// A statement needs this database alone: a tool process must leave.
bool tools_kept_out(Oid database);

// Ends the database's tool processes, save this one; how many there still are. Never raises.
int end_tool_processes(Oid database);

}  // namespace mrprompt
