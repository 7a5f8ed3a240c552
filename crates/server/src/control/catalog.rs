//! Roles, databases and schemas, which are in the data of a branch.

pub(crate) mod change;
pub(crate) mod schema;
pub(crate) mod schema_code;
pub(crate) mod turn;
