-- A schedule acts with the scopes of who made it. Of the rows that are here nobody knows who that was: they may do what
-- every key of their owner may that can have made them. Dead keys are erased in the end (model.keys.KEEP_DEAD_KEYS): who
-- has none left may submit. What belongs to nobody may do everything.
ALTER TABLE schedule ADD COLUMN scopes BLOB NOT NULL DEFAULT X'5b227375626d6974225d';   -- JSON; here ["submit"]
WITH given AS (SELECT owner, CAST(scopes AS TEXT) AS scopes FROM api_key),
maker AS (
    SELECT owner,
        min(scopes LIKE '%"read"%' OR scopes LIKE '%"admin"%') AS reads,
        min(scopes LIKE '%"control"%' OR scopes LIKE '%"admin"%') AS controls
    FROM given WHERE scopes LIKE '%"submit"%' OR scopes LIKE '%"admin"%' GROUP BY owner
)
UPDATE schedule SET scopes = CAST(
    '["submit"' || CASE WHEN reads THEN ',"read"' ELSE '' END || CASE WHEN controls THEN ',"control"' ELSE '' END || ']'
    AS BLOB)
FROM maker WHERE maker.owner = schedule.owner;
