-- name: lead_left
SELECT {lead_left} FROM {schema}.lead;

-- name: dead_leader
-- The process that leads by its row, but no longer holds the lock on its name: the database released it when the process
-- died. Of older processes that hold none, the lead is taken as well: their chores are done here then.
SELECT holder FROM {schema}.lead WHERE holder <> '' AND NOT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid::bigint =
        hashtext(holder)::bigint & 4294967295 AND database = (SELECT oid FROM pg_database
                                                              WHERE datname = current_database()));

-- name: hold_lead
-- :holder and :dead are filled in by the store: without parameters the statement is one message to the server.
UPDATE {schema}.lead SET holder = :holder, held_at = now()
WHERE holder IN (:holder, :dead) OR {lead_left} < interval '0';

-- name: give_up_lead
UPDATE {schema}.lead SET holder = '', held_at = to_timestamp(0) WHERE holder = :holder;
