// Who asks: the user behind a session, and what that session may do for others.
#pragma once
#include "pg/prelude.hpp"

#include <optional>

namespace mrprompt {

// All three judge the session's own roles (login and SET ROLE), so that SECURITY DEFINER code between does
// not change who asks. They may raise: call them where no object with a destructor is alive, or inside
// pg::call.

// The user whom the session acts for (in the process of a tool: whom its run is for); nothing when it is
// nobody. PT400 for claims that name no uuid.
std::optional<pg_uuid_t> current_user_id();

// The session has the privileges of mrprompt_admin.
bool caller_is_admin();

// The session may name another user: an admin, or a trusted login acting as itself.
bool may_act_for_others();

}  // namespace mrprompt
