-- Quad, k-d and radix trees, with and without nulls: nodes are added, prefixes divided, chains moved, redirects left
-- and taken away.
CREATE TABLE places (id int, p point, t text, a inet, b box, r int4range);
CREATE INDEX places_quad ON places USING spgist (p);
CREATE INDEX places_kd ON places USING spgist (p kd_point_ops) WITH (fillfactor = 60);
CREATE INDEX places_t ON places USING spgist (t) INCLUDE (id);
CREATE INDEX places_a ON places USING spgist (a);
CREATE INDEX places_b ON places USING spgist (b);
CREATE INDEX places_r ON places USING spgist (r);
CREATE FUNCTION fill_places(first int, last int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO places SELECT i, CASE WHEN i % 11 > 0 THEN point(x, y) END,
      CASE WHEN i % 13 > 0 THEN repeat('common', i % 4) || md5(x::text) || md5(i::text) END,
      CASE WHEN i % 17 > 0 THEN ('10.' || x % 256 || '.' || y % 256 || '.' || i % 256)::inet END,
      CASE WHEN i % 19 > 0 THEN box(point(x, y), point(x + i % 7, y + i % 5)) END, int4range(x, x + 1 + i % 50)
    FROM (SELECT i, (i * 7919) % 1009 AS x, (i * 7727) % 997 AS y FROM generate_series(first, last) i) s $$;
SELECT fill_places(1, 40);
-- Each tree is a root that is a leaf.
DELETE FROM places WHERE id % 2 = 0;
VACUUM places;
SELECT fill_places(41, 3000);
DELETE FROM places WHERE id % 3 = 0;
VACUUM places;
SELECT fill_places(3001, 4500);
SELECT txid_current();
VACUUM places;
DELETE FROM places WHERE p[0] < 700;
VACUUM places;
SELECT fill_places(4501, 5500);
DELETE FROM places WHERE id % 7 > 0;
VACUUM places;
SELECT txid_current();
VACUUM places;
SELECT fill_places(5501, 6500);
-- Equal values make inner tuples whose nodes are all the same, and chains that a page cannot hold.
INSERT INTO places (id, p, t) SELECT i, point(5, 5), 'equal' FROM generate_series(1, 1000) i;
-- Few large inner tuples on a page: first only some characters follow a prefix, then all, then the prefix is divided.
CREATE TABLE words (t text);
CREATE INDEX words_t ON words USING spgist (t);
INSERT INTO words SELECT repeat(chr(97 + i % 3), 150) || chr(40 + i / 3 % 80) || repeat(md5(i::text), i % 20)
  FROM generate_series(1, 1500) i;
INSERT INTO words SELECT repeat(chr(97 + i % 3), i % 150) || chr(40 + i % 200) || md5(i::text)
  FROM generate_series(1, 2000) i;
INSERT INTO words SELECT repeat(chr(97 + i % 26), i % 180) || chr(300 + i % 500) || repeat('z', i % 190) || i
  FROM generate_series(1, 2000) i;
DELETE FROM words WHERE length(t) % 4 = 0;
VACUUM words;
INSERT INTO words SELECT md5(i::text) || repeat('y', i % 250) FROM generate_series(1, 1000) i;
CREATE INDEX words_built ON words USING spgist (t);
CREATE INDEX places_built ON places USING spgist (p);
INSERT INTO words SELECT repeat(chr(97 + i % 26), i % 90) || chr(900 + i % 90) || i FROM generate_series(1, 1000) i;
SELECT fill_places(6501, 7000);
