// One contract call, one transaction: JSON in, JSON and sealed keys out, keys opened on the way to the child.
#include "pg/relay.hpp"

#include <vector>

#include "pg/server_keyring.hpp"
#include "pg/session.hpp"

namespace mrprompt {
namespace {

struct Call {
    FrameKind kind;
    const char* activity;
    session::Statement statement;
};

Call calls[] = {
    {FrameKind::hello,
     "mrprompt: hello",
     {"select c.body, c.body ->> 'fetcher' from mrprompt_internal.hello($1) as c (body)",
      1,
      {JSONOID},
      nullptr}},
    {FrameKind::claim,
     "mrprompt: claim",
     {"select c.body, c.key_ids, c.owners, c.providers, c.sealed from mrprompt_internal.claim($1) as c",
      1,
      {JSONOID},
      nullptr}},
    {FrameKind::append,
     "mrprompt: append",
     {"select c.body from mrprompt_internal.append($1) as c (body)", 1, {JSONOID}, nullptr}},
    {FrameKind::settle,
     "mrprompt: settle",
     {"select c.body from mrprompt_internal.settle($1) as c (body)", 1, {JSONOID}, nullptr}},
    {FrameKind::heartbeat,
     "mrprompt: heartbeat",
     {"select c.body from mrprompt_internal.heartbeat($1) as c (body)", 1, {JSONOID}, nullptr}},
    {FrameKind::tend,
     "mrprompt: tend",
     {"select c.body from mrprompt_internal.tend($1) as c (body)", 1, {JSONOID}, nullptr}},
};

// The answer in turn_memory: plain pointers, since it leaves the transaction.
struct Answer {
    text* body;
    const char* fetcher;
    int keys;
    const char** key_ids;
    const char** owners;
    const char** providers;
    const char** sealed;
};

Call* find_call(FrameKind kind) {
    for (Call& call : calls)
        if (call.kind == kind) return &call;
    return nullptr;
}

// The payload as a json value. json_in checks the syntax, not the encoding.
Datum json_argument(std::string_view payload) {
    pg_verifymbstr(payload.data(), static_cast<int>(payload.size()), false);
    return DirectFunctionCall1(json_in, CStringGetDatum(pnstrdup(payload.data(), payload.size())));
}

// Column `number`, an array of uuid or text, as C strings; null where an element is.
const char** strings(int number, int* count) {
    bool is_null = false;
    Datum const value = session::first_row(number, &is_null);
    *count = 0;
    if (is_null) return nullptr;
    ArrayType* array = DatumGetArrayTypeP(value);
    int16 length = 0;
    bool by_value = false;
    char align = 0;
    get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
    bool const uuids = ARR_ELEMTYPE(array) == UUIDOID;
    Datum* elements = nullptr;
    bool* nulls = nullptr;
    deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align, &elements, &nulls, count);
    auto** found = static_cast<const char**>(palloc0((*count + 1) * sizeof(char*)));
    for (int i = 0; i < *count; ++i)
        if (!nulls[i])
            found[i] = uuids ? DatumGetCString(DirectFunctionCall1(uuid_out, elements[i]))
                             : TextDatumGetCString(elements[i]);
    return found;
}

void read_keys(Answer* answer) {
    int counts[4];
    answer->key_ids = strings(2, &counts[0]);
    answer->owners = strings(3, &counts[1]);
    answer->providers = strings(4, &counts[2]);
    answer->sealed = strings(5, &counts[3]);
    for (int count : counts)
        if (count != counts[0]) elog(ERROR, "claim answered key arrays of different lengths");
    answer->keys = counts[0];
}

void perform(Call* call, std::string_view payload, Answer* answer) {
    if (call->kind == FrameKind::append)
        set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
                          false);
    Datum argument = json_argument(payload);
    call->statement.run(&argument);
    MemoryContext const transaction = MemoryContextSwitchTo(session::turn_memory());
    bool is_null = false;
    Datum const body = session::first_row(1, &is_null);
    if (is_null || SPI_gettypeid(SPI_tuptable->tupdesc, 1) != JSONOID)
        elog(ERROR, "%s answered no json", call->activity);
    answer->body = DatumGetTextPCopy(body);
    if (call->kind == FrameKind::claim) read_keys(answer);
    if (call->kind == FrameKind::hello) {
        Datum const fetcher = session::first_row(2, &is_null);
        answer->fetcher = is_null ? "" : TextDatumGetCString(fetcher);
    }
    MemoryContextSwitchTo(transaction);
}

std::string_view or_empty(const char* text) {
    return text == nullptr ? std::string_view{} : std::string_view{text};
}

std::vector<OpenedKey> open_keys(const Answer& answer) {
    std::vector<OpenedKey> keys;
    keys.reserve(answer.keys);
    for (int i = 0; i < answer.keys; ++i) {
        OpenedKey opened = open_for_relay(or_empty(answer.sealed[i]), or_empty(answer.key_ids[i]),
                                          or_empty(answer.owners[i]), or_empty(answer.providers[i]));
        keys.push_back({opened.opened, std::move(opened.key), std::move(opened.reason)});
    }
    return keys;
}

void send_error(Child& child, const char* sqlstate, const char* message) {
    const char* frame = pg::call([&] {
        StringInfoData json;
        initStringInfo(&json);
        appendStringInfo(&json, "{\"sqlstate\":\"%s\",\"message\":", sqlstate);
        escape_json(&json, message);
        appendStringInfoChar(&json, '}');
        return static_cast<const char*>(json.data);
    });
    (void)child.send(FrameKind::error, frame);  // far below a frame's limit
}

// Refusals and collisions are part of the contract; anything else the server's log should know. The detail
// may hold what a provider answered, so it stays out.
bool worth_logging(int sqlstate) {
    int const category = ERRCODE_TO_CATEGORY(sqlstate);
    return sqlstate != kGone && sqlstate != ERRCODE_LOCK_NOT_AVAILABLE &&
           category != ERRCODE_TO_CATEGORY(ERRCODE_T_R_SERIALIZATION_FAILURE) &&
           category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION);
}

void log_failure(const char* activity, const ErrorData* error) {
    static std::int64_t last_ms = -1000;
    if (!worth_logging(error->sqlerrcode) || monotonic_ms() - last_ms < 1000) return;
    last_ms = monotonic_ms();
    pg::call([&] {
        ereport(LOG,
                (errcode(error->sqlerrcode), errmsg("%s failed: %s (SQLSTATE %s)", activity, error->message,
                                                    unpack_sql_state(error->sqlerrcode))));
    });
}

}  // namespace

bool is_call(FrameKind kind) {
    return find_call(kind) != nullptr;
}

bool relay(Child& child, const Frame& frame) {
    Call* call = find_call(frame.kind);
    Answer answer = {};
    MemoryContextReset(session::turn_memory());
    ErrorData* error = session::in_transaction(call->activity, session::kContractRole,
                                               [&] { perform(call, frame.payload, &answer); });
    if (error != nullptr) {
        if (session::extension_lost(error)) return false;
        log_failure(call->activity, error);
        send_error(child, unpack_sql_state(error->sqlerrcode), error->message);
        return true;
    }
    if (frame.kind == FrameKind::hello) child.fetcher = answer.fetcher;
    std::string_view const json{VARDATA_ANY(answer.body),
                                static_cast<std::size_t>(VARSIZE_ANY_EXHDR(answer.body))};
    if (!child.send_reply(open_keys(answer), json))
        send_error(child, "54000", "the answer is larger than a frame may be");
    return true;
}

}  // namespace mrprompt
