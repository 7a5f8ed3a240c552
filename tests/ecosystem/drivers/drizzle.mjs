// drizzle over postgres.js: a table, a transaction that is undone, rows that come back by query.
import assert from "node:assert";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[3]}/`);
const { drizzle } = require("drizzle-orm/postgres-js");
const { eq, sql } = require("drizzle-orm");
const { integer, pgTable, text } = require("drizzle-orm/pg-core");
const client = require("postgres")(process.argv[2], { onnotice: () => {} });
const db = drizzle(client);
const driven = pgTable("driven_by_drizzle", { id: integer().primaryKey(), note: text() });
await db.execute(sql`drop table if exists driven_by_drizzle`);
await db.execute(sql`create table driven_by_drizzle(id int primary key, note text)`);
await db.transaction(async (tx) => {
    await tx.insert(driven).values({ id: 0, note: "undone" });
    tx.rollback();
}).catch((error) => assert.match(error.message, /Rollback/));
await db.insert(driven).values(Array.from({ length: 500 }, (_, id) => ({ id, note: `note ${id}` })));
assert.deepEqual(await db.select().from(driven).where(eq(driven.note, "note 7")), [{ id: 7, note: "note 7" }]);
assert.equal(await db.$count(driven), 500);
await db.execute(sql`drop table driven_by_drizzle`);
await client.end();
