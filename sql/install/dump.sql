-- What pg_dump takes along: everything people made; not presets, leases and channel names, which are made anew.

do $dump$
declare
    wanted text;
begin
    foreach wanted in array array[
        'mrprompt.users', 'mrprompt_internal.provider_rows', 'mrprompt_internal.price_rows', 'mrprompt_internal.model_rows',
        'mrprompt.groups', 'mrprompt.group_members', 'mrprompt.budgets', 'mrprompt.budget_extras', 'mrprompt.rate_limits', 'mrprompt.budget_alerts',
        'mrprompt_internal.usage_rollups_hour', 'mrprompt_internal.usage_rollups_6_hours', 'mrprompt_internal.usage_rollups_day',
        'mrprompt_internal.usage_rollups_5_days', 'mrprompt_internal.usage_rollups_month',
        'mrprompt_internal.usage_watermark', 'mrprompt_internal.budget_counters', 'mrprompt_internal.limit_buckets', 'mrprompt_internal.meter_ids',
        'mrprompt_internal.master_keys', 'mrprompt_internal.lookup_key', 'mrprompt.api_keys', 'mrprompt.key_grants',
        'mrprompt.requests', 'mrprompt.responses', 'mrprompt.deltas', 'mrprompt.batches',
        'mrprompt_internal.attempt_errors', 'mrprompt_internal.queue', 'mrprompt_internal.virtual_time',
        'mrprompt.agents', 'mrprompt.agent_versions', 'mrprompt.threads', 'mrprompt.messages', 'mrprompt.runs', 'mrprompt.run_steps',
        'mrprompt.tool_calls', 'mrprompt.run_events', 'mrprompt.tools', 'mrprompt_internal.run_identities', 'mrprompt_internal.run_work',
        'mrprompt_internal.cancels', 'mrprompt_internal.pauses', 'mrprompt_internal.homes',
        'mrprompt_internal.prunings', 'mrprompt_internal.forgets', 'mrprompt_internal.recomputes', 'mrprompt.audit_log'] loop
        perform pg_extension_config_dump(wanted::regclass, '');
    end loop;
    for slot in 0..15 loop
        perform pg_extension_config_dump(format('mrprompt.usage_%s', lpad(slot::text, 2, '0'))::regclass, '');
    end loop;
end
$dump$;

