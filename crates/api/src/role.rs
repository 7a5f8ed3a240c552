//! Roles of a branch, and their passwords.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::operation::Operation;

/// A role of Postgres, whoever made it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Role {
    /// Its branch.
    pub branch_id: String,
    /// Its name.
    pub name: String,
    /// Its password; only in answers that create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Always false: not supported.
    pub protected: bool,
    /// `password` or `no_login`.
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

/// Body of `POST .../roles`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleCreateRequest {
    /// The role wanted.
    pub role: RoleCreate,
}

/// What a new role should be.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleCreate {
    /// Its name, 1 to 63 bytes.
    pub name: String,
    /// Whether it is one that may not log in, and so gets no password.
    #[serde(default)]
    pub no_login: bool,
}

/// Answer that holds one role.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleResponse {
    /// The role.
    pub role: Role,
}

/// Answer that holds one role and what was done to it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RoleOperations {
    /// The role; with its password if that is new.
    pub role: Role,
    /// What was done.
    pub operations: Vec<Operation>,
}
