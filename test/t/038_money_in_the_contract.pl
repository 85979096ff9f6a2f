# What money needs of the contract, end to end: what providers say of prices arrives, and the limit it is held for is sent.
use strict;
use warnings;
use lib 'lib';
use MrPrompt qw(new_cluster start_provider);
use PostgreSQL::Test::Utils;
use JSON::PP;
use Test::More;

my $provider = start_provider();
my $base = $provider->url;
my $node = new_cluster('money');
sub sql { return $node->safe_psql('postgres', $_[0]) }

# The contract's own functions, with a limit for every job and a copy of every outcome.
sql(qq(
    select mrprompt.add_user(login_role => current_user);
    insert into mrprompt.providers (name, protocol, base_url, allow_http, allow_private, max_tokens_field) values
        ('fake', 'openai', '$base/v1', true, true, default), ('modern', 'openai', '$base/v1', true, true, 'max_completion_tokens'),
        ('claude', 'anthropic', '$base', true, true, default);
    create table outcomes (outcome json);
    grant insert on outcomes to public;
    do \$\$
    begin
        execute replace((select pg_get_functiondef(oid) from pg_proc where proname = 'hand_out'), '''output_limit'', t.output_limit', '''output_limit'', 500');
        execute replace(pg_get_functiondef('mrprompt_internal.settle_items(uuid, json)'::regprocedure),
            E'\\nbegin\\n', E'\\nbegin\\n    insert into public.outcomes select * from json_array_elements(outcomes);\\n');
    end \$\$));

# Asks and waits; the body that the provider got, and the usage that the database was told.
sub asked
{
    my ($prompt, $to, $more) = @_;
    my $id = sql("select mrprompt.chat_text('$prompt', 'm', '$to'" . ($more ? ", $more" : '') . ')');
    is(sql("select status from mrprompt.wait_for_request('$id', '20 s')"), 'succeeded', "$prompt at $to");
    my ($last) = reverse $provider->requests;
    return (decode_json($last->{body}), decode_json(sql("select outcome -> 'usage' from outcomes where outcome ->> 'request' = '$id'")));
}

my ($body) = asked('hi', 'fake');
is_deeply([ @{$body}{qw(max_tokens max_completion_tokens)} ], [ 500, undef ], 'the limit is sent where the request sets none');
($body) = asked('hi', 'modern');
is_deeply([ @{$body}{qw(max_tokens max_completion_tokens)} ], [ undef, 500 ], 'under the name that the row gives');
($body) = asked('hi', 'claude');
is($body->{max_tokens}, 500, 'and at Anthropic');
($body) = asked('hi', 'fake', 'max_tokens => 7');
is($body->{max_tokens}, 7, 'a lower limit of its own stays');
($body) = asked('hi', 'claude', 'max_tokens => 900');
is($body->{max_tokens}, 500, 'a higher one does not');

my $prices = 'prompt=90&completion=30&cache_write=20&service_tier=flex';
for my $stream ('false', 'true')
{
    my (undef, $usage) = asked("fake?$prices&audio_prompt=8&audio_completion=7&cost=0.00012", 'fake', "stream => $stream");
    is_deeply($usage, { prompt_tokens => 90, completion_tokens => 30, cached_tokens => 0, cache_write_tokens => 20, cache_write_1h_tokens => 0, reasoning_tokens => 0,
        audio_prompt_tokens => 8, audio_completion_tokens => 7, service_tier => 'flex', provider_cost => 0.00012, estimated => JSON::PP::false }, 'what OpenAI-compatible servers say');
    (undef, $usage) = asked("fake?$prices&cache_write_1h=15", 'claude', "stream => $stream");
    is_deeply($usage, { prompt_tokens => 90, completion_tokens => 30, cached_tokens => 0, cache_write_tokens => 20, cache_write_1h_tokens => 15, reasoning_tokens => 0,
        audio_prompt_tokens => 0, audio_completion_tokens => 0, service_tier => 'flex', provider_cost => undef, estimated => JSON::PP::false }, 'what Anthropic says');
}

done_testing();
