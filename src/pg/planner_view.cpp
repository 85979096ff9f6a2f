// The planner's hooks behind install_planner_view.
#include "pg/planner_view.hpp"

#include <algorithm>
#include <initializer_list>

#include "pg/prelude.hpp"

namespace mrprompt {
namespace {

constexpr double kRows = 100'000;
constexpr BlockNumber kPages = 2'000;
constexpr BlockNumber kIndexPages = 500;

get_relation_info_hook_type previous_info = nullptr;
get_relation_stats_hook_type previous_stats = nullptr;

bool is_one_of(Oid relation, const char* schema, std::initializer_list<const char*> tables) {
    const char* name = get_rel_name(relation);
    if (name == nullptr) return false;
    if (std::none_of(tables.begin(), tables.end(),
                     [&](const char* table) { return strcmp(name, table) == 0; }))
        return false;
    const char* its_schema = get_namespace_name(get_rel_namespace(relation));
    return its_schema != nullptr && strcmp(its_schema, schema) == 0;
}

// They hold nothing or much, and are the one or the other within the life of a plan.
bool swings(Oid relation) {
    return is_one_of(relation, "mrprompt_internal", {"queue", "run_work"}) ||
           is_one_of(relation, "mrprompt", {"runs", "tool_calls"});
}

bool grows(Oid relation) {
    return is_one_of(relation, "mrprompt", {"requests", "threads", "messages", "run_steps", "run_events"});
}

void tell_size(PlannerInfo* root, Oid relation, bool with_children, RelOptInfo* info) {
    if (previous_info != nullptr) previous_info(root, relation, with_children, info);
    if (!swings(relation) && !grows(relation)) return;
    info->pages = Max(info->pages, kPages);
    info->tuples = Max(info->tuples, kRows);
    ListCell* cell = nullptr;
    foreach (cell, info->indexlist) {
        auto* index = static_cast<IndexOptInfo*>(lfirst(cell));
        index->pages = Max(index->pages, kIndexPages);
        index->tuples = Max(index->tuples, kRows);
    }
}

// True with a null tuple: there are no statistics.
bool tell_statistics(PlannerInfo* root, RangeTblEntry* table, AttrNumber column,
                     VariableStatData* statistics) {
    if (previous_stats != nullptr && previous_stats(root, table, column, statistics)) return true;
    return table->rtekind == RTE_RELATION && swings(table->relid);
}

}  // namespace

void install_planner_view() {
    previous_info = get_relation_info_hook;
    get_relation_info_hook = tell_size;
    previous_stats = get_relation_stats_hook;
    get_relation_stats_hook = tell_statistics;
}

}  // namespace mrprompt
