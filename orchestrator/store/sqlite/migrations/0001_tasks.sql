-- Times are microseconds since 1970 in UTC, NULL when unset.

CREATE TABLE term (
  only   INTEGER PRIMARY KEY CHECK (only = 1),
  epoch  INTEGER NOT NULL,
  holder TEXT    NOT NULL,
  begun  INTEGER
) STRICT;

INSERT INTO term (only, epoch, holder) VALUES (1, 0, '');

-- AUTOINCREMENT: a seq never comes back, also after a purge of the newest task.
CREATE TABLE task (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  id        BLOB    NOT NULL UNIQUE,
  tenant    TEXT    NOT NULL,
  subject   BLOB    NOT NULL,
  class     TEXT    NOT NULL,
  model     TEXT    NOT NULL,
  session   TEXT    NOT NULL,
  idem      TEXT,
  body_hash BLOB    NOT NULL,
  created   INTEGER NOT NULL,
  deadline  INTEGER,
  meta      TEXT    NOT NULL,
  state     TEXT    NOT NULL,
  epoch     INTEGER NOT NULL,
  attempt   INTEGER NOT NULL,
  emitted   INTEGER NOT NULL,
  reason    TEXT    NOT NULL,
  started   INTEGER,
  finished  INTEGER,
  worker    TEXT    NOT NULL,
  outcome   TEXT
) STRICT;

CREATE UNIQUE INDEX task_idem ON task (tenant, idem) WHERE idem IS NOT NULL;
CREATE INDEX task_live ON task (seq) WHERE state IN ('queued', 'running', 'cancelling');
CREATE INDEX task_ended ON task (finished, seq) WHERE finished IS NOT NULL;
CREATE INDEX task_tenant ON task (tenant, seq);
CREATE INDEX task_subject ON task (subject, seq);

-- Apart from the task, so that pages of records do not read them.
CREATE TABLE body (
  seq    INTEGER PRIMARY KEY REFERENCES task (seq) ON DELETE CASCADE,
  sealed BLOB,
  output BLOB
) STRICT;

-- The version is the row id: every change takes a new, higher one.
CREATE TABLE doc (
  version INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL,
  key     TEXT NOT NULL,
  data    BLOB NOT NULL,
  UNIQUE (kind, key)
) STRICT;
