// Reads pg_database; a process that is connected to no database may.
#include "pg/databases.hpp"

namespace mrprompt {
namespace {

bool may_be_supervised(const FormData_pg_database* row) {
    bool fit = row->datallowconn && !row->datistemplate;
#ifdef DATCONNLIMIT_INVALID_DB
    fit = fit && row->datconnlimit != DATCONNLIMIT_INVALID_DB;
#endif
    return fit;
}

}  // namespace

List* list_databases(MemoryContext memory) {
    List* databases = NIL;
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(catalog, 0, nullptr);
    while (HeapTuple row = heap_getnext(scan, ForwardScanDirection)) {
        auto* form = reinterpret_cast<Form_pg_database>(GETSTRUCT(row));
        if (!may_be_supervised(form)) continue;
        MemoryContext const previous = MemoryContextSwitchTo(memory);
        auto* database = static_cast<Database*>(palloc(sizeof(Database)));
        database->oid = form->oid;
        strlcpy(database->name, NameStr(form->datname), NAMEDATALEN);
        databases = lappend(databases, database);
        MemoryContextSwitchTo(previous);
    }
    table_endscan(scan);
    table_close(catalog, AccessShareLock);
    PopActiveSnapshot();
    CommitTransactionCommand();
    MemoryContextSwitchTo(memory);
    return databases;
}

const Database* find_database(List* databases, Oid oid) {
    ListCell* cell = nullptr;
    foreach (cell, databases) {
        auto* database = static_cast<const Database*>(lfirst(cell));
        if (database->oid == oid) return database;
    }
    return nullptr;
}

}  // namespace mrprompt
