-- Submissions in somebody's own transaction (docs/sql.md): they wait in the inbox until a process takes them in. Processes
-- of earlier versions know nothing of it. The one row of inbox_watch says until when a process looks without being told.
CREATE TABLE {schema}.inbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id      uuid NOT NULL UNIQUE,
    owner        text NOT NULL,
    type         text NOT NULL,
    params       text NOT NULL,
    options      text NOT NULL,
    submitted_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE TABLE {schema}.inbox_watch (awake_until timestamptz NOT NULL);
INSERT INTO {schema}.inbox_watch VALUES ('-infinity');

-- Called by other roles, in their transactions: it checks what no failed task could show, and leaves all else to those who
-- take it in. The id is a UUIDv7: milliseconds in front of random bits, and the version in place of gen_random_uuid's.
CREATE FUNCTION {schema}.submit(type text, params text DEFAULT '[]', options text DEFAULT '{}', owner text DEFAULT '')
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now timestamptz := clock_timestamp();
    id bytea := overlay(uuid_send(gen_random_uuid())
                        PLACING substring(int8send(floor(extract(epoch FROM now) * 1000)::bigint) FROM 3) FROM 1 FOR 6);
    task_id uuid := encode(set_bit(set_bit(id, 52, 1), 53, 1), 'hex');
BEGIN
    IF type IS NULL OR type !~ '^[A-Za-z_][A-Za-z0-9_.-]{0,99}$' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('expected the name of a task type, got %L', left(type, 100)),
            HINT = 'Letters, digits and _ . - after a letter or _, at most 100 in all.';
    ELSIF owner ~ '[\u0001-\u001f\u007f]' OR length(owner) > 100 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'expected an owner of at most 100 characters, without control characters';
    END IF;
    INSERT INTO {schema}.inbox (task_id, owner, type, params, options, submitted_at)
    VALUES (task_id, coalesce(owner, ''), type, coalesce(params, '[]')::json::text, coalesce(options, '{}')::json::text, now);
    RETURN task_id;
END $$;

-- For values of the types json and jsonb. Whoever may call the one above may call these.
CREATE FUNCTION {schema}.submit(type text, params json, options json DEFAULT '{}', owner text DEFAULT '')
RETURNS uuid LANGUAGE sql AS $$ SELECT {schema}.submit(type, params::text, options::text, owner) $$;
CREATE FUNCTION {schema}.submit(type text, params jsonb, options jsonb DEFAULT '{}', owner text DEFAULT '')
RETURNS uuid LANGUAGE sql AS $$ SELECT {schema}.submit(type, params::text, options::text, owner) $$;
REVOKE EXECUTE ON FUNCTION {schema}.submit(text, text, text, text) FROM PUBLIC;

-- Right before the commit: NOTIFY takes a lock of the whole server until the commit is on disk, so that commits follow one
-- another. Nobody is told while a process looks by itself.
CREATE FUNCTION {schema}.wake_inbox() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.inbox_watch WHERE awake_until > clock_timestamp()) THEN
        PERFORM pg_notify('{schema}_inbox', '');
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER wake AFTER INSERT ON {schema}.inbox DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION {schema}.wake_inbox();
