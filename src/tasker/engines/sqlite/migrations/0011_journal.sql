-- What happened to all tasks, a row for each commit (engines/journal.py). The newest row is never erased: ids only grow.
CREATE TABLE journal (
    id       INTEGER PRIMARY KEY,
    noted_at INTEGER NOT NULL,
    notes    BLOB NOT NULL
) STRICT;

-- Tells the cursors of this journal from those of another store.
CREATE TABLE journal_name (id INTEGER PRIMARY KEY CHECK (id = 1), name BLOB NOT NULL) STRICT;
INSERT INTO journal_name VALUES (1, randomblob(4));
