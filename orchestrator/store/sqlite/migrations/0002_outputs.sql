-- When an output's task finished, so that old outputs are found without the
-- records that have none.
ALTER TABLE body ADD COLUMN ended INTEGER;

UPDATE body SET ended = (SELECT finished FROM task WHERE task.seq = body.seq) WHERE output IS NOT NULL;

CREATE INDEX body_ended ON body (ended, seq) WHERE ended IS NOT NULL;
