// The library's entry point: what happens when a server or a session loads it.
#include "pg/boundary.hpp"
#include "pg/launcher.hpp"
#include "pg/log_guard.hpp"
#include "pg/planner_view.hpp"
#include "pg/settings.hpp"
#include "pg/shared_state.hpp"
#include "pg/utility_hook.hpp"

extern "C" {
PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init();

void _PG_init() {
    mrprompt::define_settings();
    mrprompt::install_log_guard();
    mrprompt::install_planner_view();
    mrprompt::init_shared_state();
    mrprompt::register_launcher();
    mrprompt::install_utility_hook();
}
}
