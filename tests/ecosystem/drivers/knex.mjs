// knex: a table that it makes, a transaction that is undone, rows that come back by query.
import assert from "node:assert";
import { createRequire } from "node:module";

const knex = createRequire(`${process.argv[3]}/`)("knex")({ client: "pg", connection: process.argv[2] });
await knex.schema.dropTableIfExists("driven_by_knex");
await knex.schema.createTable("driven_by_knex", (table) => {
    table.integer("id").primary();
    table.string("note").index();
});
const transaction = await knex.transaction();
await transaction("driven_by_knex").insert({ id: 0, note: "undone" });
await transaction.rollback();
await knex.batchInsert("driven_by_knex", Array.from({ length: 500 }, (_, id) => ({ id, note: `note ${id}` })), 100);
assert.deepEqual(await knex("driven_by_knex").where("note", "note 7"), [{ id: 7, note: "note 7" }]);
assert.equal((await knex("driven_by_knex").count())[0].count, "500");
await knex.schema.dropTable("driven_by_knex");
await knex.destroy();
