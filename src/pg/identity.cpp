// current_user_id() and the two questions about rights.
#include "pg/identity.hpp"

#include "pg/boundary.hpp"
#include "pg/owner_query.hpp"
#include "pg/settings.hpp"

namespace mrprompt {
namespace {

bool list_names_role(const char* list, Oid role) {
    const char* name = GetUserNameFromId(role, true);
    if (name == nullptr || list == nullptr) return false;
    List* names = NIL;
    bool found = false;
    if (SplitIdentifierString(pstrdup(list), ',', &names)) {
        ListCell* cell = nullptr;
        foreach (cell, names)
            if (strcmp(static_cast<char*>(lfirst(cell)), name) == 0) found = true;
    }
    return found;
}

bool login_is_trusted() {
    const Oid login = GetSessionUserId();
    return superuser_arg(login) || list_names_role(settings::trusted_logins, login);
}

// What a tool says of itself in the request's settings counts for nothing.
bool runs_a_tool() {
    return settings::tool_user != nullptr && settings::tool_user[0] != '\0';
}

bool caller_is_anonymous() {
    return list_names_role(settings::anonymous_roles, GetOuterUserId());
}

// A request setting that holds something; PostgREST's are '' after their transaction.
const char* request_setting(const char* name) {
    const char* value = GetConfigOption(name, true, false);
    return value != nullptr && value[0] != '\0' ? value : nullptr;
}

// Claims are the user's data: what PostgreSQL says about them in an error must not be passed on.
template <class F>
Datum parsed(F&& parse, const char* complaint) {
    ErrorData* error = nullptr;
    try {
        return pg::call(parse);
    } catch (const pg::PgError& raised) {
        error = raised.data;
    }
    // Still an error, so nothing is swallowed: only its words change.
    if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_DATA_EXCEPTION ||
        error->sqlerrcode == ERRCODE_SYNTAX_ERROR)
        throw SqlError{kBadInput,
                       complaint,
                       {},
                       "The claims come from the token's issuer or from PostgREST's settings."};
    throw pg::PgError{error};
}

pg_uuid_t uuid_of_subject(const char* subject) {
    const Datum id = parsed([&] { return DirectFunctionCall1(uuid_in, CStringGetDatum(subject)); },
                            "the sub claim of this request is not a uuid");
    return *DatumGetUUIDP(id);
}

// The subject that the request's claims name, or null.
const char* claimed_subject() {
    const char* claims = request_setting("request.jwt.claims");
    if (claims != nullptr) {
        const Datum json = parsed([&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(claims)); },
                                  "request.jwt.claims is not valid JSON");
        Jsonb* document = DatumGetJsonbP(json);
        if (!JB_ROOT_IS_OBJECT(document))
            throw SqlError{kBadInput, "request.jwt.claims is not a JSON object"};
        const JsonbValue* subject = getKeyJsonValueFromContainer(&document->root, "sub", 3, nullptr);
        if (subject != nullptr && subject->type != jbvNull) {
            if (subject->type != jbvString)
                throw SqlError{kBadInput, "the sub claim of this request is not a uuid"};
            return pnstrdup(subject->val.string.val, subject->val.string.len);
        }
    }
    return request_setting("request.jwt.claim.sub");
}

std::optional<pg_uuid_t> user_of_login() {
    static pg::Statement statement{
        "select u.id from mrprompt.users u where u.login_role operator(pg_catalog.=) $1", 1, {NAMEOID}};
    const char* login = GetUserNameFromId(GetSessionUserId(), true);
    if (login == nullptr) return std::nullopt;
    NameData name;
    namestrcpy(&name, login);
    const pg::Value value = pg::Value::of(NameGetDatum(&name));
    const pg::Row row = pg::query_as_owner(statement, &value, pg::Snapshot::callers);
    if (!row.has(0)) return std::nullopt;
    return *DatumGetUUIDP(row.values[0]);
}

}  // namespace

std::optional<pg_uuid_t> current_user_id() {
    if (runs_a_tool()) return uuid_of_subject(settings::tool_user);
    if (caller_is_anonymous()) return std::nullopt;
    if (login_is_trusted()) {
        const char* subject = claimed_subject();
        if (subject != nullptr) return uuid_of_subject(subject);
    }
    return user_of_login();
}

bool caller_is_admin() {
    const Oid caller = GetOuterUserId();
    if (superuser_arg(caller)) return true;
    const Oid admin = get_role_oid("mrprompt_admin", true);
    return OidIsValid(admin) && has_privs_of_role(caller, admin);
}

bool may_act_for_others() {
    if (caller_is_admin()) return true;
    return !runs_a_tool() && GetOuterUserId() == GetSessionUserId() && login_is_trusted() &&
           !caller_is_anonymous() && claimed_subject() == nullptr;
}

// mrprompt.current_user_id() returns uuid, stable.
MRPROMPT_FUNCTION(current_user_id) {
    const std::optional<pg_uuid_t> user = current_user_id();
    if (!user) PG_RETURN_NULL();
    auto* id = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    *id = *user;
    PG_RETURN_UUID_P(id);
}

// mrprompt_internal.caller_is_admin() returns boolean, stable.
MRPROMPT_FUNCTION(caller_is_admin) {
    PG_RETURN_BOOL(caller_is_admin());
}

// mrprompt_internal.may_act_for_others() returns boolean, stable.
MRPROMPT_FUNCTION(may_act_for_others) {
    PG_RETURN_BOOL(may_act_for_others());
}

}  // namespace mrprompt
