// What happens at the commit of a transaction that queued or changed requests: somebody is woken.
#pragma once
#include "pg/prelude.hpp"

namespace mrprompt {

// Whether committed transactions of this process noted changes that take_changes() has not handed out yet.
bool changes_noted();

}  // namespace mrprompt
