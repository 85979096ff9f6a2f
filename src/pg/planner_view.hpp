// What the planner is told about the tables that plans must never depend on.
#pragma once

namespace mrprompt {

// The queue swings between nothing and a million rows within seconds, while plans are kept for as long as a
// session lives: one made for an empty queue would read all of a full one. So its size, and that of the
// requests, is always given as large, and statistics that were gathered at a moment of the queue are not
// believed. Hooks into the planner; touches no other table. Called once, from _PG_init.
void install_planner_view();

}  // namespace mrprompt
