-- Functions written in C++ (src/pg) that are not about keys.

create function mrprompt.current_user_id() returns uuid
    language c stable parallel restricted as 'MODULE_PATHNAME', 'current_user_id';
comment on function mrprompt.current_user_id() is
    'Who asks: the sub of request.jwt.claims in a session of a trusted login (mrprompt.trusted_logins), else the row of '
    'mrprompt.users mapped to the login role; null for the anonymous role and for strangers. PT400: a sub that is no uuid.';

create function mrprompt_internal.caller_is_admin() returns boolean
    language c stable parallel restricted as 'MODULE_PATHNAME', 'caller_is_admin';
comment on function mrprompt_internal.caller_is_admin() is 'Whether the asking role has the rights of mrprompt_admin.';

create function mrprompt_internal.may_act_for_others() returns boolean
    language c stable parallel restricted as 'MODULE_PATHNAME', 'may_act_for_others';
comment on function mrprompt_internal.may_act_for_others() is
    'Whether the caller may pass another user''s user_id: an admin, or a trusted login that acts as itself.';

create function mrprompt_internal.uuidv7() returns uuid
    language c volatile parallel safe as 'MODULE_PATHNAME', 'uuidv7';
comment on function mrprompt_internal.uuidv7() is 'A new UUID version 7 (RFC 9562), rising within a session.';

create function mrprompt_internal.setting(name text) returns text
    language c stable strict parallel safe as 'MODULE_PATHNAME', 'setting';
comment on function mrprompt_internal.setting(text) is 'The value of a mrprompt.* setting that is no secret, in its base unit.';

create function mrprompt_internal.wake(channel text) returns void
    language c volatile as 'MODULE_PATHNAME', 'wake';
comment on function mrprompt_internal.wake(text) is
    'At the commit of this transaction, wakes the supervisor; on a server that does not preload mrprompt, notifies the fetchers'' channel.';

create function mrprompt_internal.note_changes(request_ids uuid[]) returns void
    language c volatile strict as 'MODULE_PATHNAME', 'note_changes';
comment on function mrprompt_internal.note_changes(uuid[]) is
    'At the commit of this transaction, wakes the sessions that wait for these requests, and remembers the ids for notify_changes().';

create function mrprompt_internal.take_changes() returns uuid[]
    language c volatile as 'MODULE_PATHNAME', 'take_changes';
comment on function mrprompt_internal.take_changes() is 'The ids noted by this session''s committed transactions since the last call.';

create function mrprompt_internal.begin_wait(timeout interval) returns timestamptz
    language c volatile as 'MODULE_PATHNAME', 'begin_wait';
comment on function mrprompt_internal.begin_wait(interval) is
    'Until when a waiting function may wait: the timeout, at most 60 s and 80 % of what is left of statement_timeout. PT400 outside READ COMMITTED.';

create function mrprompt_internal.change_counter(request_id uuid) returns bigint
    language c volatile strict as 'MODULE_PATHNAME', 'change_counter';
comment on function mrprompt_internal.change_counter(uuid) is 'A number that rises when this request (or one that shares its bucket) changes.';

create function mrprompt_internal.wait_for_change(request_id uuid, seen bigint, until timestamptz) returns boolean
    language c volatile strict as 'MODULE_PATHNAME', 'wait_for_change';
comment on function mrprompt_internal.wait_for_change(uuid, bigint, timestamptz) is
    'Sleeps until the change counter is no longer `seen` (true: look again) or the time has come (false). PT429: too many sessions wait.';

create function mrprompt_internal.is_own_change(xmin xid) returns boolean
    language c volatile strict as 'MODULE_PATHNAME', 'is_own_change';
comment on function mrprompt_internal.is_own_change(xid) is 'Whether a row version was written by the current transaction.';

create function mrprompt_internal.queue_depth(user_id uuid, most bigint) returns bigint
    language c volatile as 'MODULE_PATHNAME', 'queue_depth';
comment on function mrprompt_internal.queue_depth(uuid, bigint) is
    'How many requests of a user (null: of all) wait, up to most; asked once before each new one. A session counts again after a '
    'second, after a sixteenth more, and before it says most.';

create function mrprompt_internal.system_identifier() returns bigint
    language c stable parallel safe as 'MODULE_PATHNAME', 'system_identifier';
comment on function mrprompt_internal.system_identifier() is 'The identifier of this database cluster.';

create function mrprompt_internal.server_state(
    out preloaded boolean, out launcher_pid integer, out supervisor_pid integer, out fetcher_pids integer[],
    out waiters integer, out free_worker_slots integer, out restarts bigint, out last_failure text)
    language c volatile as 'MODULE_PATHNAME', 'server_state';
comment on function mrprompt_internal.server_state() is 'What runs for this database on this server.';

create function mrprompt_internal.special_host(base_url text) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'special_host';
comment on function mrprompt_internal.special_host(text) is
    'The kind of address that the host of a URL is, where it is written out and not public (loopback, private, link-local, …), or a name '
    'of the machine itself; null for other names and addresses.';

create function mrprompt_internal.json_shape_problem(value json) returns text
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'json_shape_problem';
comment on function mrprompt_internal.json_shape_problem(json) is
    'What makes a JSON value too deep (about 120 levels) or too wide (1024 members of one object) to be sent; null: nothing.';

-- UUIDv7 and time: the first 48 bits are milliseconds since 1970.
create function mrprompt_internal.uuid_time(id uuid) returns timestamptz
    language sql immutable strict parallel safe
    return to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
comment on function mrprompt_internal.uuid_time(uuid) is 'When a UUIDv7 was made, to the millisecond.';

create function mrprompt_internal.uuid_at(moment timestamptz) returns uuid
    language sql immutable strict parallel safe
    return (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid;
comment on function mrprompt_internal.uuid_at(timestamptz) is 'The smallest UUIDv7 of that millisecond: a bound for range scans by time.';

create function mrprompt_internal.id_of_time(moment timestamptz) returns uuid
    language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return overlay(mrprompt_internal.uuidv7()::text placing left(mrprompt_internal.uuid_at(moment)::text, 13) from 1)::uuid;
end
$$;
comment on function mrprompt_internal.id_of_time(timestamptz) is 'A new UUIDv7 of that millisecond: what is imported stands in lists where it was, and what is put off at its time.';

create function mrprompt_internal.slot_of(id uuid) returns smallint
    language sql immutable strict parallel safe
    return ((extract(year from mrprompt_internal.uuid_time(id) at time zone 'UTC') * 12
           + extract(month from mrprompt_internal.uuid_time(id) at time zone 'UTC'))::int % 16)::smallint;
comment on function mrprompt_internal.slot_of(uuid) is 'The partition, 0 to 15, of the month in which a UUIDv7 was made.';

