-- Keys outlive their use, and the newest dead ones stay (KEEP_DEAD_KEYS): that there was one means that one is needed.
CREATE TABLE api_key (
    seq          INTEGER PRIMARY KEY,
    key_id       TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    owner        TEXT NOT NULL,
    scopes       BLOB NOT NULL,             -- JSON
    digest       BLOB NOT NULL,             -- SHA-256 of the secret
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    rate         REAL,
    burst        INTEGER,
    daily_budget REAL
) STRICT;
