"""The schema of task.db as numbered, append-only steps: step N takes `user_version` from N-1 to N.

Per-record results are not here: they live in the chunks' journals.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    -- Facts about the task as JSON values: see store/facts.py for the keys.
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

    -- A slice of the input. `chain` is a hash chain over all slices up to this one.
    CREATE TABLE chunks (
        n INTEGER PRIMARY KEY,
        first_line INTEGER NOT NULL,
        lines INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        records INTEGER NOT NULL,
        blank INTEGER NOT NULL,
        chain TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('ready', 'leased', 'done')),
        answered INTEGER NOT NULL DEFAULT 0,
        error INTEGER NOT NULL DEFAULT 0,
        missing INTEGER NOT NULL DEFAULT 0,
        retries INTEGER NOT NULL DEFAULT 0,
        tokens_in INTEGER NOT NULL DEFAULT 0,
        tokens_out INTEGER NOT NULL DEFAULT 0,
        tokens_unknown INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX chunks_open ON chunks (state, n) WHERE state <> 'done';

    -- A worker's right to run a chunk. `worker` is "pid:start time".
    CREATE TABLE leases (
        lease TEXT PRIMARY KEY,
        chunk INTEGER NOT NULL,
        worker TEXT NOT NULL,
        granted REAL NOT NULL,
        ended REAL,
        outcome TEXT
    ) WITHOUT ROWID;

    -- One upstream batch; an intent is committed before it is paid for.
    CREATE TABLE submissions (
        id INTEGER PRIMARY KEY,
        token TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        upstream_id TEXT,
        input_file_id TEXT,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        detail TEXT NOT NULL DEFAULT '{}'
    );

    -- Which lines of which chunk travel in it: ranges as JSON [[first, last], ...].
    CREATE TABLE submission_lines (
        submission INTEGER NOT NULL REFERENCES submissions (id),
        chunk INTEGER NOT NULL,
        ranges TEXT NOT NULL,
        PRIMARY KEY (submission, chunk)
    ) WITHOUT ROWID;

    -- A generation of outputs: committed before the first rename, done after the last.
    CREATE TABLE publications (
        generation INTEGER PRIMARY KEY,
        files TEXT NOT NULL,
        committed REAL NOT NULL,
        done REAL
    );
    """,
    """
    -- For tasks that run as upstream batches. `packed`: lines in live submissions; `since`: when its open
    -- lines were left over by earlier submissions, NULL for a chunk that was never packed; `path`: 'online'
    -- where the open lines are finished by online calls. `opened`: the `-retry` round that opened it last.
    ALTER TABLE chunks ADD COLUMN packed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE chunks ADD COLUMN since REAL;
    ALTER TABLE chunks ADD COLUMN path TEXT NOT NULL DEFAULT '';
    ALTER TABLE chunks ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX submissions_open ON submissions (id) WHERE state NOT IN ('collected', 'refused', 'dropped');
    CREATE INDEX leases_open ON leases (chunk) WHERE ended IS NULL;
    """,
    """
    -- Whether a chunk was ever leased: if not, it has no journals to look for.
    CREATE INDEX leases_of_chunk ON leases (chunk);
    """,
    """
    -- Tokens that cost less: those from the service's cache, and those of answers that batches brought (they
    -- are in tokens_in and tokens_out too).
    ALTER TABLE chunks ADD COLUMN tokens_cached INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE chunks ADD COLUMN batch_in INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE chunks ADD COLUMN batch_out INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE chunks ADD COLUMN batch_cached INTEGER NOT NULL DEFAULT 0;

    -- The same sums by the local day on which they were committed to `chunks`: the trigger keeps them.
    CREATE TABLE spending (
        day TEXT PRIMARY KEY,
        answered INTEGER NOT NULL,
        tokens_in INTEGER NOT NULL,
        tokens_out INTEGER NOT NULL,
        tokens_unknown INTEGER NOT NULL,
        tokens_cached INTEGER NOT NULL,
        batch_in INTEGER NOT NULL,
        batch_out INTEGER NOT NULL,
        batch_cached INTEGER NOT NULL
    ) WITHOUT ROWID;
    INSERT INTO spending
        SELECT date(coalesce((SELECT CAST(value AS REAL) FROM facts WHERE key = 'ended' AND value <> 'null'),
                             (SELECT CAST(value AS REAL) FROM facts WHERE key = 'created'),
                             CAST(strftime('%s', 'now') AS REAL)), 'unixepoch', 'localtime'),
               sum(answered), sum(tokens_in), sum(tokens_out), sum(tokens_unknown), 0, 0, 0, 0
        FROM chunks HAVING sum(answered) > 0;
    CREATE TRIGGER chunks_spending AFTER UPDATE OF answered, tokens_in, tokens_out, tokens_unknown,
        tokens_cached, batch_in, batch_out, batch_cached ON chunks
    WHEN NEW.answered <> OLD.answered OR NEW.tokens_in <> OLD.tokens_in
        OR NEW.tokens_out <> OLD.tokens_out OR NEW.tokens_unknown <> OLD.tokens_unknown
        OR NEW.tokens_cached <> OLD.tokens_cached OR NEW.batch_in <> OLD.batch_in
        OR NEW.batch_out <> OLD.batch_out OR NEW.batch_cached <> OLD.batch_cached
    BEGIN
        INSERT INTO spending VALUES (
            date('now', 'localtime'),
            NEW.answered - OLD.answered, NEW.tokens_in - OLD.tokens_in, NEW.tokens_out - OLD.tokens_out,
            NEW.tokens_unknown - OLD.tokens_unknown, NEW.tokens_cached - OLD.tokens_cached,
            NEW.batch_in - OLD.batch_in, NEW.batch_out - OLD.batch_out,
            NEW.batch_cached - OLD.batch_cached
        ) ON CONFLICT (day) DO UPDATE SET
            answered = answered + excluded.answered,
            tokens_in = tokens_in + excluded.tokens_in,
            tokens_out = tokens_out + excluded.tokens_out,
            tokens_unknown = tokens_unknown + excluded.tokens_unknown,
            tokens_cached = tokens_cached + excluded.tokens_cached,
            batch_in = batch_in + excluded.batch_in,
            batch_out = batch_out + excluded.batch_out,
            batch_cached = batch_cached + excluded.batch_cached;
    END;
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)
