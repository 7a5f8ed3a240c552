// sequelize: a table that it makes, a transaction that is undone, rows that come back by query.
import assert from "node:assert";
import { createRequire } from "node:module";

const { DataTypes, Sequelize } = createRequire(`${process.argv[3]}/`)("sequelize");
const ssl = { require: true, rejectUnauthorized: false };
const sequelize = new Sequelize(process.argv[2], { logging: false, dialectOptions: { ssl } });
const Driven = sequelize.define("driven_by_sequelize", { note: DataTypes.STRING });
await Driven.sync({ force: true });
const transaction = await sequelize.transaction();
await Driven.create({ note: "undone" }, { transaction });
await transaction.rollback();
await Driven.bulkCreate(Array.from({ length: 500 }, (_, n) => ({ note: `note ${n}` })));
assert.equal(await Driven.count(), 500);
assert.equal((await Driven.findOne({ where: { note: "note 7" } })).note, "note 7");
await Driven.drop();
await sequelize.close();
