//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request was not done.
///
/// | status | when |
/// |-------:|------|
/// | 400 | the request is malformed |
/// | 401 | the API key is missing, wrong or revoked |
/// | 404 | what it names does not exist, or the API key does not reach it |
/// | 409 | the name is taken |
/// | 412 | what is asked for is not known |
/// | 413 | the request body is too large |
/// | 422 | a rule refuses it |
/// | 423 | the thing is in the middle of something else; try again |
/// | 429 | the API key makes too many requests; try again after `Retry-After` |
/// | 503 | the store or an endpoint cannot be reached |
/// | 507 | the disk is full |
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Names this request in the server's log.
    pub request_id: String,
    /// The kind of error, in capitals: `BRANCH_NOT_FOUND`.
    pub code: String,
    /// What is wrong with which object; a second line, if any, begins with `hint:` and says what to do.
    pub message: String,
}
