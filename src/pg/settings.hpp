// The mrprompt.* settings of the server, as variables.
#pragma once
#include "pg/prelude.hpp"

#include <string>
#include <vector>

namespace mrprompt {

// Values in force in this process; strings are never null. Units stand in the names.
namespace settings {
extern char* master_key_file;          // superusers only; '' = no master key
extern char* trusted_logins;           // comma-separated login roles whose claims are believed
extern char* anonymous_roles;          // comma-separated roles that are nobody
extern char* fetcher_path;             // superusers only; '' = beside the server's programs
extern char* certificate_directories;  // comma-separated; where a fenced fetcher may read certificates
extern bool local_fetcher;             // supervisors start a fetcher
extern int max_databases;              // slots in shared memory, fixed at server start
extern int max_in_flight;              // per fetcher
extern int claim_bytes;
extern int delta_interval_ms;
extern int heartbeat_interval_ms;
extern int lease_timeout_ms;
extern int poll_interval_ms;
extern int idle_timeout_ms;
extern int max_payload_bytes;
extern int max_response_bytes;
extern int max_delta_bytes;
extern int max_stream_deltas;
extern int max_queued;
extern int max_queued_per_user;
extern int max_failures;
extern int max_run_steps;
extern int run_timeout_s;
extern int tool_output_timeout_s;
extern int context_tokens;
extern int max_waiters;
extern int request_retention_s;
extern int response_retention_s;
extern int delta_retention_s;
extern int attempt_retention_s;
extern int usage_retention_s;
extern int audit_retention_s;
extern int thread_retention_s;
extern char* default_provider;
extern char* unpriced_requests;
extern int default_output_limit;
extern int max_tool_workers;  // of one database
extern char* tool_role;       // '' = none
extern char* tool_user;       // in a tool's process: the uuid of who it is for; else ''
// The setting, split. What PostgreSQL allocates for it goes with the current memory context.
std::vector<std::string> list_certificate_directories();
}  // namespace settings

// Defines them all and reserves the prefix. Called once, from _PG_init.
void define_settings();

}  // namespace mrprompt
