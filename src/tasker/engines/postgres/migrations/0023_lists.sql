-- Lists look only where their tasks can be. Triggers keep the tables, so that older processes keep them, too, even where
-- their role has no rights on new tables yet.

-- When the tasks of each 512 seqs were created: each of them between `first` and `last` of a row of its block. Seqs
-- alone do not tell: imported tasks are older than those around them, and clocks are set back. Not unique: a second row
-- does no harm, and no transaction waits for another.
CREATE TABLE {schema}.task_span (
    block bigint NOT NULL,       -- seq / 512
    first timestamptz NOT NULL,
    last  timestamptz NOT NULL
);
CREATE INDEX task_span_block ON {schema}.task_span (block) INCLUDE (first, last);

-- The tags of tasks, for a list by tag in order of seq.
CREATE TABLE {schema}.task_tag (
    tag text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (tag, seq)
);

-- A span grows beyond the new tasks, by as much as it covers and by a minute at least, so that few inserts change it.
-- The first task of a block also removes old spans whose tasks are all erased; not those of the last 1,024 blocks before
-- the first task: transactions that are not committed yet may count on them.
CREATE FUNCTION {schema}.note_new_tasks() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO {schema}.task_span (block, first, last)
    SELECT given.block, least(known.first, given.first),
           greatest(known.last, given.last + greatest('1 minute', given.last - least(known.first, given.first)))
    FROM (SELECT seq >> 9 AS block, min(created_at) AS first, max(created_at) AS last FROM new_tasks GROUP BY 1) AS given,
         LATERAL (SELECT min(span.first) AS first, max(span.last) AS last
                  FROM {schema}.task_span AS span WHERE span.block = given.block) AS known
    WHERE known.first IS NULL OR given.first < known.first OR given.last > known.last;
    IF FOUND THEN
        DELETE FROM {schema}.task_span WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM {schema}.task_span
            WHERE block < ((SELECT seq FROM {schema}.task ORDER BY seq LIMIT 1) >> 9) - 1024
            LIMIT 100 FOR UPDATE SKIP LOCKED));
    END IF;
    IF EXISTS (SELECT FROM new_tasks WHERE tags <> '{}') THEN
        INSERT INTO {schema}.task_tag SELECT unnest(tags), seq FROM new_tasks WHERE tags <> '{}' ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER new_tasks AFTER INSERT ON {schema}.task REFERENCING NEW TABLE AS new_tasks
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_new_tasks();

CREATE FUNCTION {schema}.forget_tags() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    DELETE FROM {schema}.task_tag WHERE tag = ANY(OLD.tags) AND seq = OLD.seq;
    RETURN NULL;
END $$;
CREATE TRIGGER tagged_task_erased AFTER DELETE ON {schema}.task FOR EACH ROW WHEN (OLD.tags <> '{}')
EXECUTE FUNCTION {schema}.forget_tags();
