//! Roles of a branch, and their passwords.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role of Postgres that scion knows the password of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Role {
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// Its password; only in answers that create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Never.
    pub protected: bool,
    /// Always `password`.
    pub authentication_method: String,
    /// When it was made.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// Roles of a branch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleList {
    /// The roles.
    pub roles: Vec<Role>,
}

/// Answer of `GET .../roles/{role_name}/reveal_password`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RolePassword {
    /// The password.
    pub password: String,
}
