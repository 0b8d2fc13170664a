-- A schedule acts with the scopes of who made it. Of the rows that are here nobody knows who that was: they may do what
-- every key of their owner may that can have made them. Dead keys are erased in the end (model.keys.KEEP_DEAD_KEYS): who
-- has none left may submit. What belongs to nobody may do everything.
ALTER TABLE {schema}.schedule ADD COLUMN scopes bytea NOT NULL DEFAULT '["submit"]';    -- JSON
WITH given AS (SELECT owner, convert_from(scopes, 'UTF8') AS scopes FROM {schema}.api_key),
maker AS (
    SELECT owner,
        bool_and(scopes LIKE '%"read"%' OR scopes LIKE '%"admin"%') AS reads,
        bool_and(scopes LIKE '%"control"%' OR scopes LIKE '%"admin"%') AS controls
    FROM given WHERE scopes LIKE '%"submit"%' OR scopes LIKE '%"admin"%' GROUP BY owner
)
UPDATE {schema}.schedule SET scopes = convert_to(
    '["submit"' || CASE WHEN reads THEN ',"read"' ELSE '' END || CASE WHEN controls THEN ',"control"' ELSE '' END || ']',
    'UTF8')
FROM maker WHERE maker.owner = schedule.owner;
