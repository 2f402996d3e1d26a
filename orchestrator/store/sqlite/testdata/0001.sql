-- A store as schema step 1 left it.
PRAGMA application_id = 1819045746;
CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied INTEGER NOT NULL) STRICT;
CREATE TABLE term (
  only   INTEGER PRIMARY KEY CHECK (only = 1),
  epoch  INTEGER NOT NULL,
  holder TEXT    NOT NULL,
  begun  INTEGER
) STRICT;
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
CREATE TABLE body (
  seq    INTEGER PRIMARY KEY REFERENCES task (seq) ON DELETE CASCADE,
  sealed BLOB,
  output BLOB
) STRICT;
CREATE TABLE doc (
  version INTEGER PRIMARY KEY AUTOINCREMENT,
  kind    TEXT NOT NULL,
  key     TEXT NOT NULL,
  data    BLOB NOT NULL,
  UNIQUE (kind, key)
) STRICT;
CREATE UNIQUE INDEX task_idem ON task (tenant, idem) WHERE idem IS NOT NULL;
CREATE INDEX task_live ON task (seq) WHERE state IN ('queued', 'running', 'cancelling');
CREATE INDEX task_ended ON task (finished, seq) WHERE finished IS NOT NULL;
CREATE INDEX task_tenant ON task (tenant, seq);
CREATE INDEX task_subject ON task (subject, seq);
INSERT INTO migration VALUES (1,'migrations/0001_tasks.sql','d137fef88a8cada31cb027b650873274bdbed0ebdfc1d3e9dfefe7631673d0f1',1795320168624099);
INSERT INTO term VALUES (1,2,'r1',1795320168627265);
INSERT INTO task VALUES (1,X'CC000000000000000000000000000001','default',X'02000000000000000000000000000000','interactive','llama-3.1-8b','s','1',X'0100000000000000000000000000000000000000000000000000000000000000',1793534401000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','queued',2,0,0,'',NULL,NULL,'',NULL);
INSERT INTO task VALUES (2,X'CC000000000000000000000000000002','default',X'01000000000000000000000000000000','interactive','llama-3.1-8b','s','2',X'0200000000000000000000000000000000000000000000000000000000000000',1793534402000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','running',2,1,0,'',1795320168630068,NULL,'n/p/w',NULL);
INSERT INTO task VALUES (3,X'CC000000000000000000000000000003','default',X'02000000000000000000000000000000','interactive','llama-3.1-8b','s','3',X'0300000000000000000000000000000000000000000000000000000000000000',1793534403000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','running',2,2,1,'',1795320168630132,NULL,'n/p/w',NULL);
INSERT INTO task VALUES (4,X'CC000000000000000000000000000004','default',X'01000000000000000000000000000000','interactive','llama-3.1-8b','s','4',X'0400000000000000000000000000000000000000000000000000000000000000',1793534404000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','completed',2,1,0,'',1795320168630178,1795320168630796,'n/p/w','{"finish_reason":"stop","tokens_out":5}');
INSERT INTO task VALUES (5,X'CC000000000000000000000000000005','default',X'02000000000000000000000000000000','interactive','llama-3.1-8b','s','5',X'0500000000000000000000000000000000000000000000000000000000000000',1793534405000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','cancelled',2,0,0,'client',NULL,1795320168631792,'','{}');
INSERT INTO task VALUES (6,X'CC000000000000000000000000000006','default',X'01000000000000000000000000000000','interactive','llama-3.1-8b','s','6',X'0600000000000000000000000000000000000000000000000000000000000000',1793534406000000,NULL,'{"v":1,"kind":"generate","params":{"temperature":0.5},"max_tokens":64,"prompt_len":12,"prompt_sha256":"abababababababababababababababababababababababababababababababab"}','completed',2,1,0,'',NULL,1795320168628757,'','{"tokens_out":3}');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES ('task',6);
INSERT INTO sqlite_sequence VALUES ('doc',2);
INSERT INTO body VALUES (1,X'7365616C65642031',NULL);
INSERT INTO body VALUES (2,X'7365616C65642032',NULL);
INSERT INTO body VALUES (3,X'7365616C65642033',NULL);
INSERT INTO body VALUES (4,NULL,X'6F75742034');
INSERT INTO body VALUES (6,NULL,X'6F75742036');
INSERT INTO doc VALUES (1,'install','gone',X'');
INSERT INTO doc VALUES (2,'install','id',X'66616374');
