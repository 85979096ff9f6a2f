// The supervisor: the background worker of one database that has work.
#pragma once

namespace mrprompt {

// Its entry point is the symbol mrprompt_supervisor_main, which the launcher names to the postmaster; the
// argument is the database's oid.
inline constexpr char kSupervisorMain[] = "mrprompt_supervisor_main";

}  // namespace mrprompt
