// node-postgres: the connection string as it is, parameters, a transaction that is undone.
import assert from "node:assert";
import { createRequire } from "node:module";

const pg = createRequire(`${process.argv[3]}/`)("pg");
const client = new pg.Client({ connectionString: process.argv[2] });
await client.connect();
await client.query("create temp table driven(id int primary key, note text)");
await client.query("begin");
await client.query("insert into driven values (0, 'undone')");
await client.query("rollback");
for (let n = 0; n < 200; n++) await client.query("insert into driven values ($1, $2)", [n, `note ${n}`]);
const { rows } = await client.query("select id, note from driven order by id");
assert.deepEqual(rows, Array.from({ length: 200 }, (_, n) => ({ id: n, note: `note ${n}` })));
await client.end();
