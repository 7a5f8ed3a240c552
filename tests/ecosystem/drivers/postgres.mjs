// postgres.js: tagged queries, a transaction that is undone, a cursor.
import assert from "node:assert";
import { createRequire } from "node:module";

const postgres = createRequire(`${process.argv[3]}/`)("postgres");
const sql = postgres(process.argv[2], { max: 1, ssl: { rejectUnauthorized: false }, onnotice: () => {} });
await sql`create temp table driven(id int primary key, note text)`;
await sql.begin(async (undone) => {
    await undone`insert into driven values (0, 'undone')`;
    throw new Error("undo");
}).catch((error) => assert.equal(error.message, "undo"));
const wanted = Array.from({ length: 200 }, (_, n) => ({ id: n, note: `note ${n}` }));
await sql`insert into driven ${sql(wanted)}`;
const got = [];
for await (const rows of sql`select id, note from driven order by id`.cursor(50)) got.push(...rows);
assert.deepEqual(got.map((row) => ({ ...row })), wanted);
await sql.end();
