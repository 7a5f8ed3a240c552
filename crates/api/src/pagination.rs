//! Where a list goes on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the next page starts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CursorPagination {
    /// To be sent as `cursor`.
    pub cursor: String,
}
