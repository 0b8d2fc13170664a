-- Who did what. AUTOINCREMENT: the number of an entry is never used again.
CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time     INTEGER NOT NULL,
    key_id   TEXT,
    owner    TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    address  TEXT NOT NULL,
    outcome  INTEGER                        -- NULL: not known, or not yet
) STRICT;
CREATE INDEX audit_time ON audit (time);
