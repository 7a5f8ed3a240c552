//! The id of the request that is being answered: in its answer, in the log, and in what is done for it on other tasks.

use crate::names;

tokio::task_local! {
    static ID: String;
}

/// The id of the request that is being answered.
pub fn current() -> String {
    ID.try_with(String::clone).unwrap_or_else(|_| names::uuid().unwrap_or_default())
}

/// `answering` as the answer to request `id`.
pub fn of<F: Future>(id: String, answering: F) -> impl Future<Output = F::Output> {
    ID.scope(id, answering)
}

/// `answering` as a task of its own that answers the same request.
pub fn same<F: Future>(answering: F) -> impl Future<Output = F::Output> {
    ID.scope(current(), answering)
}
