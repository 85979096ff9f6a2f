// The launcher: the one background worker of the server that starts supervisors where they are wanted.
#pragma once

namespace mrprompt {

// Registers the worker when loaded at server start; does nothing otherwise. Called once, from _PG_init.
void register_launcher();

}  // namespace mrprompt
