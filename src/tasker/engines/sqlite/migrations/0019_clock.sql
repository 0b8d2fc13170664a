-- What the wall clock has shown: when it was seen last, and the time by which things were erased last (clock.Lagging).
CREATE TABLE clock (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    seen_at      INTEGER NOT NULL DEFAULT 0,
    erased_until INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO clock (id) VALUES (1);
