//! Every route there is: the one list that the document and the server's router are made from.

use std::borrow::Cow;

use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use crate::account::{AuthDetails, OrganizationList, RegionList, User};
use crate::api_key::{ApiKeyCreateRequest, ApiKeyCreateResponse, ApiKeyList, ApiKeyRevokeResponse};
use crate::branch::{
    BranchCount, BranchCreateRequest, BranchCreated, BranchList, BranchOperations, BranchRecoverRequest,
    BranchResponse, BranchRestoreRequest, BranchRestored, BranchUpdateRequest,
};
use crate::connection::ConnectionUri;
use crate::database::{
    DatabaseCreateRequest, DatabaseList, DatabaseOperations, DatabaseResponse, DatabaseUpdateRequest,
};
use crate::endpoint::{
    EndpointCreateRequest, EndpointList, EndpointOperations, EndpointResponse, EndpointUpdateRequest,
    ReplicationSlotList,
};
use crate::log::{BranchLog, BranchLogEndRequest};
use crate::operation::{OperationList, OperationResponse};
use crate::platform::{BucketList, CredentialList, FunctionList};
use crate::project::{
    ProjectCreateRequest, ProjectCreated, ProjectList, ProjectOperations, ProjectRecovered, ProjectResponse,
    ProjectUpdateRequest,
};
use crate::role::{RoleCreateRequest, RoleList, RoleOperations, RolePassword, RoleResponse};
use crate::schedule::{
    BackupSchedule, BranchScheduleCreateRequest, BranchScheduleList, BranchScheduleResponse,
    BranchScheduleRun,
};
use crate::schema::{SchemaAnswer, SchemaDiff};
use crate::snapshot::{
    FinalizeRestoreRequest, RestoreFinalized, SnapshotList, SnapshotOperations, SnapshotResponse,
    SnapshotRestoreRequest, SnapshotRestored, SnapshotUpdateRequest,
};
use crate::status::Status;

/// Which HTTP method a route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Changes.
    Patch,
    /// Sets.
    Put,
    /// Deletes.
    Delete,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path after the prefix, parameters in braces.
    pub path: &'static str,
    /// Its operation id, Neon's where Neon has the route.
    pub id: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Query parameters it knows.
    pub query: &'static [&'static str],
    /// Its request body, if it takes one.
    pub request: Option<Body>,
    /// Status of a success, and its body.
    pub response: (u16, Body),
}

/// The type of a body.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// The name of its schema.
    pub name: fn() -> Cow<'static, str>,
    /// Adds its schema and those that it refers to, by name.
    pub schemas: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Body {
    const fn of<T: ToSchema>() -> Self {
        Self {
            name: T::name,
            schemas: |all| {
                all.push((T::name().into_owned(), T::schema()));
                T::schemas(all);
            },
        }
    }
}

const fn get<T: ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Route {
    Route {
        method: Method::Get,
        path,
        id,
        summary,
        query: &[],
        request: None,
        response: (200, Body::of::<T>()),
    }
}

const fn delete<T: ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Route {
    Route { method: Method::Delete, ..get::<T>(path, id, summary) }
}

const fn act<T: ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Route {
    Route { method: Method::Post, ..get::<T>(path, id, summary) }
}

impl Route {
    const fn with_query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    const fn creates_from<T: ToSchema>(self) -> Self {
        Self { request: Some(Body::of::<T>()), response: (201, self.response.1), ..self }
    }

    const fn answers(self, status: u16) -> Self {
        Self { response: (status, self.response.1), ..self }
    }

    const fn takes<T: ToSchema>(self) -> Self {
        Self { request: Some(Body::of::<T>()), ..self }
    }

    const fn puts<T: ToSchema>(self) -> Self {
        Self { method: Method::Put, request: Some(Body::of::<T>()), ..self }
    }

    const fn patches_with<T: ToSchema>(self) -> Self {
        Self { method: Method::Patch, request: Some(Body::of::<T>()), ..self }
    }
}

const PROJECT: &str = "/projects/{project_id}";
const BRANCHES: &str = "/projects/{project_id}/branches";
const BRANCH: &str = "/projects/{project_id}/branches/{branch_id}";
const ROLES: &str = "/projects/{project_id}/branches/{branch_id}/roles";
const ROLE: &str = "/projects/{project_id}/branches/{branch_id}/roles/{role_name}";
const DATABASES: &str = "/projects/{project_id}/branches/{branch_id}/databases";
const DATABASE: &str = "/projects/{project_id}/branches/{branch_id}/databases/{database_name}";
const BUCKETS: &str = "/projects/{project_id}/branches/{branch_id}/buckets";
const FUNCTIONS: &str = "/projects/{project_id}/branches/{branch_id}/functions";
const CREDENTIALS: &str = "/projects/{project_id}/branches/{branch_id}/credentials";
const SNAPSHOT: &str = "/projects/{project_id}/snapshots/{snapshot_id}";
const BACKUPS: &str = "/projects/{project_id}/branches/{branch_id}/backup_schedule";
const SCHEDULES: &str = "/projects/{project_id}/branch_schedules";
const SCHEDULE: &str = "/projects/{project_id}/branch_schedules/{schedule_id}";
const ENDPOINT: &str = "/projects/{project_id}/endpoints/{endpoint_id}";

/// Every route, grouped by resource.
pub const ROUTES: &[Route] = &[
    get::<ProjectList>("/projects", "listProjects", "Lists projects, newest first.").with_query(&[
        "limit",
        "cursor",
        "search",
        "recoverable",
    ]),
    act::<ProjectCreated>("/projects", "createProject", "Makes a project and starts its root branch.")
        .creates_from::<ProjectCreateRequest>(),
    get::<ProjectList>("/projects/shared", "listSharedProjects", "Lists nothing; nothing is shared."),
    get::<ProjectResponse>(PROJECT, "getProject", "Shows a project."),
    get::<ProjectOperations>(PROJECT, "updateProject", "Changes a project.")
        .patches_with::<ProjectUpdateRequest>(),
    delete::<ProjectResponse>(
        PROJECT,
        "deleteProject",
        "Deletes a project with all it holds; it can be recovered for 7 days.",
    )
    .with_query(&["hard_delete"]),
    act::<ProjectRecovered>(
        "/projects/{project_id}/recover",
        "recoverProject",
        "Brings a deleted project back; the endpoints that ran are started.",
    ),
    get::<BranchList>(BRANCHES, "listProjectBranches", "Lists branches, oldest first.").with_query(&[
        "search",
        "sort_by",
        "sort_order",
        "limit",
        "cursor",
        "include_deleted",
        "default",
    ]),
    get::<BranchCount>("/projects/{project_id}/branches/count", "countProjectBranches", "Counts branches.")
        .with_query(&["search"]),
    act::<BranchCreated>(BRANCHES, "createProjectBranch", "Makes a branch from the head, an LSN or a time.")
        .creates_from::<BranchCreateRequest>()
        .with_query(&["on_conflict"]),
    get::<BranchResponse>(BRANCH, "getProjectBranch", "Shows a branch."),
    get::<BranchOperations>(
        BRANCH,
        "updateProjectBranch",
        "Renames or protects a branch, or says when it expires.",
    )
    .patches_with::<BranchUpdateRequest>(),
    delete::<BranchOperations>(
        BRANCH,
        "deleteProjectBranch",
        "Deletes a branch; it can be recovered for 7 days.",
    )
    .with_query(&["recursive", "hard_delete"]),
    act::<BranchOperations>(
        "/projects/{project_id}/branches/{branch_id}/recover",
        "recoverProjectBranch",
        "Brings a deleted branch back.",
    )
    .takes::<BranchRecoverRequest>(),
    act::<BranchRestored>(
        "/projects/{project_id}/branches/{branch_id}/restore",
        "restoreProjectBranch",
        "Gives a branch the data of any moment of any branch.",
    )
    .takes::<BranchRestoreRequest>(),
    act::<BranchOperations>(
        "/projects/{project_id}/branches/{branch_id}/set_as_default",
        "setDefaultProjectBranch",
        "Makes a branch the parent of branches that name none.",
    ),
    get::<EndpointList>(
        "/projects/{project_id}/branches/{branch_id}/endpoints",
        "listProjectBranchEndpoints",
        "Lists the endpoints of a branch.",
    ),
    get::<RoleList>(ROLES, "listProjectBranchRoles", "Lists the roles of a branch."),
    act::<RoleOperations>(ROLES, "createProjectBranchRole", "Makes a role with a password.")
        .creates_from::<RoleCreateRequest>(),
    get::<RoleResponse>(ROLE, "getProjectBranchRole", "Shows a role."),
    delete::<RoleOperations>(ROLE, "deleteProjectBranchRole", "Deletes a role that owns no database."),
    get::<RolePassword>(
        "/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reveal_password",
        "getProjectBranchRolePassword",
        "Shows the password of a role.",
    ),
    act::<RoleOperations>(
        "/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reset_password",
        "resetProjectBranchRolePassword",
        "Gives a role a new password and ends its sessions.",
    ),
    get::<DatabaseList>(DATABASES, "listProjectBranchDatabases", "Lists the databases of a branch."),
    act::<DatabaseOperations>(DATABASES, "createProjectBranchDatabase", "Makes a database.")
        .creates_from::<DatabaseCreateRequest>(),
    get::<DatabaseResponse>(DATABASE, "getProjectBranchDatabase", "Shows a database."),
    get::<DatabaseOperations>(
        DATABASE,
        "updateProjectBranchDatabase",
        "Renames a database or changes its owner.",
    )
    .patches_with::<DatabaseUpdateRequest>(),
    delete::<DatabaseOperations>(
        DATABASE,
        "deleteProjectBranchDatabase",
        "Deletes a database, ending its sessions.",
    ),
    get::<SchemaAnswer>(
        "/projects/{project_id}/branches/{branch_id}/schema",
        "getProjectBranchSchema",
        "Shows the schema of a database, now or at a moment of the branch's history.",
    )
    .with_query(&["db_name", "lsn", "timestamp", "format"]),
    get::<SchemaDiff>(
        "/projects/{project_id}/branches/{branch_id}/compare_schema",
        "getProjectBranchSchemaComparison",
        "Shows what differs between the schemas of a branch and another, its parent by default.",
    )
    .with_query(&["db_name", "lsn", "timestamp", "base_branch_id", "base_lsn", "base_timestamp"]),
    get::<BranchLog>(
        "/projects/{project_id}/branches/{branch_id}/log",
        "getBranchLog",
        "Ours: shows how far the log of a branch can be read, and what is held beyond.",
    ),
    act::<BranchLog>(
        "/projects/{project_id}/branches/{branch_id}/log/retry",
        "retryBranchLog",
        "Ours: tries again to read what of the log of a branch could not be read.",
    ),
    act::<BranchLog>(
        "/projects/{project_id}/branches/{branch_id}/log/end",
        "endBranchLog",
        "Ours: ends the log of a branch where it can be read up to, and gives up what is held beyond.",
    )
    .takes::<BranchLogEndRequest>(),
    act::<SnapshotOperations>(
        "/projects/{project_id}/branches/{branch_id}/snapshot",
        "createSnapshot",
        "Keeps a moment of a branch under a name.",
    )
    .with_query(&["name", "slug", "lsn", "timestamp", "expires_at"]),
    act::<RestoreFinalized>(
        "/projects/{project_id}/branches/{branch_id}/finalize_restore",
        "finalizeRestoreBranch",
        "Lets a branch that was made of a snapshot take the place it was made for.",
    )
    .takes::<FinalizeRestoreRequest>(),
    get::<SnapshotList>(
        "/projects/{project_id}/snapshots",
        "listSnapshots",
        "Lists snapshots, oldest first.",
    ),
    get::<SnapshotResponse>(SNAPSHOT, "getSnapshot", "Ours: shows a snapshot."),
    get::<SnapshotResponse>(SNAPSHOT, "updateSnapshot", "Renames a snapshot, or says when it expires.")
        .patches_with::<SnapshotUpdateRequest>(),
    delete::<SnapshotOperations>(SNAPSHOT, "deleteSnapshot", "Deletes a snapshot; branches made of it stay.")
        .answers(202),
    act::<SnapshotRestored>(
        "/projects/{project_id}/snapshots/{snapshot_id}/restore",
        "restoreSnapshot",
        "Makes a branch of a snapshot.",
    )
    .takes::<SnapshotRestoreRequest>(),
    get::<BackupSchedule>(BACKUPS, "getSnapshotSchedule", "Shows when a branch gets snapshots by itself."),
    get::<BackupSchedule>(BACKUPS, "setSnapshotSchedule", "Says when a branch gets snapshots by itself.")
        .puts::<BackupSchedule>(),
    get::<BranchScheduleList>(SCHEDULES, "listBranchSchedules", "Ours: lists schedules of branches."),
    act::<BranchScheduleResponse>(
        SCHEDULES,
        "createBranchSchedule",
        "Ours: lets a branch be made of a template at every planned time, in place of the one before.",
    )
    .creates_from::<BranchScheduleCreateRequest>(),
    get::<BranchScheduleResponse>(SCHEDULE, "getBranchSchedule", "Ours: shows a schedule of branches."),
    delete::<BranchScheduleResponse>(
        SCHEDULE,
        "deleteBranchSchedule",
        "Ours: deletes a schedule; the branch it made last stays.",
    ),
    act::<BranchScheduleRun>(
        "/projects/{project_id}/branch_schedules/{schedule_id}/run",
        "runBranchSchedule",
        "Ours: runs a schedule now.",
    ),
    get::<EndpointList>("/projects/{project_id}/endpoints", "listProjectEndpoints", "Lists endpoints.")
        .with_query(&["limit", "cursor"]),
    act::<EndpointOperations>(
        "/projects/{project_id}/endpoints",
        "createProjectEndpoint",
        "Makes an endpoint for a branch and starts it.",
    )
    .creates_from::<EndpointCreateRequest>(),
    get::<EndpointResponse>(ENDPOINT, "getProjectEndpoint", "Shows an endpoint."),
    get::<EndpointOperations>(
        ENDPOINT,
        "updateProjectEndpoint",
        "Changes an endpoint, and restarts it if its Postgres is to have other settings.",
    )
    .patches_with::<EndpointUpdateRequest>(),
    act::<EndpointOperations>(
        "/projects/{project_id}/endpoints/{endpoint_id}/restart",
        "restartProjectEndpoint",
        "Stops an endpoint cleanly and starts it again. Its replication slots are dropped.",
    ),
    get::<ReplicationSlotList>(
        "/projects/{project_id}/endpoints/{endpoint_id}/replication_slots",
        "listEndpointReplicationSlots",
        "Ours: lists the replication slots of an endpoint, which a stop or restart drops.",
    ),
    delete::<EndpointOperations>(ENDPOINT, "deleteProjectEndpoint", "Stops and deletes an endpoint."),
    act::<EndpointOperations>(
        "/projects/{project_id}/endpoints/{endpoint_id}/start",
        "startProjectEndpoint",
        "Starts an endpoint and waits until it accepts connections.",
    ),
    act::<EndpointOperations>(
        "/projects/{project_id}/endpoints/{endpoint_id}/suspend",
        "suspendProjectEndpoint",
        "Stops an endpoint cleanly. Its replication slots are dropped.",
    ),
    get::<OperationList>("/projects/{project_id}/operations", "listProjectOperations", "Lists operations.")
        .with_query(&["limit", "cursor"]),
    get::<OperationResponse>(
        "/projects/{project_id}/operations/{operation_id}",
        "getProjectOperation",
        "Shows an operation.",
    ),
    get::<ConnectionUri>(
        "/projects/{project_id}/connection_uri",
        "getConnectionURI",
        "Says how to connect to a database as a role.",
    )
    .with_query(&["branch_id", "endpoint_id", "database_name", "role_name", "pooled"]),
    get::<ApiKeyList>("/api_keys", "listApiKeys", "Lists API keys, without the keys themselves."),
    act::<ApiKeyCreateResponse>("/api_keys", "createApiKey", "Makes an API key and shows it, once.")
        .takes::<ApiKeyCreateRequest>(),
    delete::<ApiKeyRevokeResponse>("/api_keys/{key_id}", "revokeApiKey", "Revokes an API key, at once."),
    get::<ApiKeyList>(
        "/organizations/{org_id}/api_keys",
        "listOrgApiKeys",
        "The same as `/api_keys`, where clients look for keys of one project.",
    ),
    act::<ApiKeyCreateResponse>(
        "/organizations/{org_id}/api_keys",
        "createOrgApiKey",
        "Makes an API key and shows it, once.",
    )
    .takes::<ApiKeyCreateRequest>(),
    delete::<ApiKeyRevokeResponse>(
        "/organizations/{org_id}/api_keys/{key_id}",
        "revokeOrgApiKey",
        "Revokes an API key, at once.",
    ),
    get::<BucketList>(BUCKETS, "listProjectBranchBuckets", "Lists nothing; there are none."),
    get::<FunctionList>(FUNCTIONS, "listProjectBranchFunctions", "Lists nothing; there are none."),
    get::<CredentialList>(CREDENTIALS, "listCredentials", "Lists nothing; there are none."),
    get::<User>("/users/me", "getCurrentUserInfo", "Shows the only user."),
    get::<OrganizationList>(
        "/users/me/organizations",
        "getCurrentUserOrganizations",
        "Lists the only organization.",
    ),
    get::<RegionList>("/regions", "getActiveRegions", "Lists the only region."),
    get::<AuthDetails>("/auth", "getAuthDetails", "Says how the key was recognized."),
    get::<Status>("/status", "getStatus", "Ours: says whether all is well."),
    act::<Status>("/shutdown", "shutdown", "Ours: stops every endpoint cleanly, then the server."),
];
