-- Tables that contend.pgbench works on, large values, COPY, two-phase commit, upserts.
CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL, note text) WITH (fillfactor = 70);
INSERT INTO parent SELECT i, 0, repeat('x', i % 50) FROM generate_series(1, 40) i;
CREATE TABLE child (id serial PRIMARY KEY, parent_id int NOT NULL REFERENCES parent, v int);
CREATE INDEX child_parent ON child (parent_id);
CREATE TABLE big (id int PRIMARY KEY, body text, num int);
ALTER TABLE big ALTER body SET STORAGE EXTERNAL;
INSERT INTO big SELECT i, (SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, 40 + i % 300) j), i
  FROM generate_series(1, 400) i;
UPDATE big SET body = body || 'more' WHERE id % 3 = 0;
DELETE FROM big WHERE id % 5 = 0;
UPDATE big SET num = num + 1;
COPY (SELECT i, md5(i::text) FROM generate_series(1, 20000) i) TO :'rows';
CREATE TABLE copied (i int, t text);
COPY copied FROM :'rows';
BEGIN;
CREATE TABLE frozen (i int, t text);
COPY frozen FROM :'rows' WITH (FREEZE);
COMMIT;
COPY copied FROM :'rows';
VACUUM copied, frozen;
DELETE FROM copied WHERE i > 9000;
UPDATE frozen SET t = 'changed' WHERE i % 1000 = 0;
INSERT INTO frozen SELECT i, 'later' FROM generate_series(1, 3000) i;
VACUUM copied;
INSERT INTO copied SELECT i, 'again' FROM generate_series(1, 12000) i;
VACUUM copied;
SELECT count(*) FROM (SELECT * FROM copied WHERE i < 50 FOR UPDATE) s;
BEGIN; INSERT INTO child (parent_id, v) VALUES (1, 1); SAVEPOINT a; INSERT INTO child (parent_id, v) VALUES (2, 1);
ROLLBACK TO a; SAVEPOINT b; UPDATE parent SET n = n + 1 WHERE id < 20; RELEASE b; PREPARE TRANSACTION 'kept';
COMMIT PREPARED 'kept';
BEGIN; INSERT INTO child (parent_id, v) VALUES (3, 1); SAVEPOINT a; DELETE FROM child WHERE v = 1;
PREPARE TRANSACTION 'dropped';
ROLLBACK PREPARED 'dropped';
INSERT INTO parent SELECT i, 1, 'dup' FROM generate_series(30, 60) i ON CONFLICT (id) DO UPDATE SET n = 5;
INSERT INTO parent SELECT i, 1, 'dup' FROM generate_series(50, 70) i ON CONFLICT DO NOTHING;
CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted SELECT 1 + i % 2, i FROM generate_series(1, 1000) i;
UPDATE parted SET k = 2 WHERE k = 1 AND v < '5';
DO $$ BEGIN FOR i IN 1..3000 LOOP
  BEGIN INSERT INTO child (parent_id, v) VALUES (1 + i % 40, i); IF i % 7 = 0 THEN RAISE 'undo'; END IF;
  EXCEPTION WHEN raise_exception THEN NULL; END;
END LOOP; END $$;
-- A commit whose subtransactions span pages of pg_xact and pg_commit_ts; more multixacts than fit on one page.
CREATE TABLE many (i int);
DO $$ BEGIN FOR i IN 1..34000 LOOP
  BEGIN INSERT INTO many VALUES (i); EXCEPTION WHEN raise_exception THEN NULL; END;
END LOOP; END $$;
DO $$ BEGIN FOR i IN 1..2100 LOOP
  PERFORM FROM parent WHERE id = 1 + i % 40 FOR KEY SHARE;
  BEGIN UPDATE parent SET n = n + 1 WHERE id = 1 + i % 40; EXCEPTION WHEN raise_exception THEN NULL; END;
  COMMIT;
END LOOP; END $$;
