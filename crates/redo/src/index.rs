//! Pages of indexes, one module for each access method of Postgres.

pub(crate) mod brin;
pub(crate) mod btree;
pub(crate) mod gin;
pub(crate) mod gist;
pub(crate) mod hash;
pub(crate) mod spgist;
mod tuple;
