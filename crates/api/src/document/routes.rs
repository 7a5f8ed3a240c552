//! Every route there is: the one list that the document is made from and the server is tested against.

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
    /// Name of the schema of its request body, if it takes one.
    pub request: Option<&'static str>,
    /// Status of a success, and the name of the schema of its body.
    pub response: (u16, &'static str),
}

const fn get(path: &'static str, id: &'static str, summary: &'static str, answer: &'static str) -> Route {
    Route { method: Method::Get, path, id, summary, query: &[], request: None, response: (200, answer) }
}

const fn delete(path: &'static str, id: &'static str, summary: &'static str, answer: &'static str) -> Route {
    Route { method: Method::Delete, ..get(path, id, summary, answer) }
}

const fn act(path: &'static str, id: &'static str, summary: &'static str, answer: &'static str) -> Route {
    Route { method: Method::Post, ..get(path, id, summary, answer) }
}

impl Route {
    const fn with_query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    const fn creates_from(self, request: &'static str) -> Self {
        Self { request: Some(request), response: (201, self.response.1), ..self }
    }

    const fn answers(self, status: u16) -> Self {
        Self { response: (status, self.response.1), ..self }
    }

    const fn takes(self, request: &'static str) -> Self {
        Self { request: Some(request), ..self }
    }

    const fn puts(self, request: &'static str) -> Self {
        Self { method: Method::Put, request: Some(request), ..self }
    }

    const fn patches_with(self, request: &'static str) -> Self {
        Self { method: Method::Patch, request: Some(request), ..self }
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
    get("/projects", "listProjects", "Lists projects, newest first.", "ProjectList").with_query(&[
        "limit",
        "cursor",
        "search",
        "recoverable",
    ]),
    act("/projects", "createProject", "Makes a project and starts its root branch.", "ProjectCreated")
        .creates_from("ProjectCreateRequest"),
    get("/projects/shared", "listSharedProjects", "Lists nothing; nothing is shared.", "ProjectList"),
    get(PROJECT, "getProject", "Shows a project.", "ProjectResponse"),
    get(PROJECT, "updateProject", "Changes a project.", "ProjectOperations")
        .patches_with("ProjectUpdateRequest"),
    delete(
        PROJECT,
        "deleteProject",
        "Deletes a project with all it holds; it can be recovered for 7 days.",
        "ProjectResponse",
    )
    .with_query(&["hard_delete"]),
    act(
        "/projects/{project_id}/recover",
        "recoverProject",
        "Brings a deleted project back; the endpoints that ran are started.",
        "ProjectRecovered",
    ),
    get(BRANCHES, "listProjectBranches", "Lists branches, oldest first.", "BranchList").with_query(&[
        "search",
        "sort_by",
        "sort_order",
        "limit",
        "cursor",
        "include_deleted",
        "default",
    ]),
    get("/projects/{project_id}/branches/count", "countProjectBranches", "Counts branches.", "BranchCount")
        .with_query(&["search"]),
    act(BRANCHES, "createProjectBranch", "Makes a branch from the head, an LSN or a time.", "BranchCreated")
        .creates_from("BranchCreateRequest")
        .with_query(&["on_conflict"]),
    get(BRANCH, "getProjectBranch", "Shows a branch.", "BranchResponse"),
    get(
        BRANCH,
        "updateProjectBranch",
        "Renames or protects a branch, or says when it expires.",
        "BranchOperations",
    )
    .patches_with("BranchUpdateRequest"),
    delete(
        BRANCH,
        "deleteProjectBranch",
        "Deletes a branch; it can be recovered for 7 days.",
        "BranchOperations",
    )
    .with_query(&["recursive", "hard_delete"]),
    act(
        "/projects/{project_id}/branches/{branch_id}/recover",
        "recoverProjectBranch",
        "Brings a deleted branch back.",
        "BranchOperations",
    )
    .takes("BranchRecoverRequest"),
    act(
        "/projects/{project_id}/branches/{branch_id}/restore",
        "restoreProjectBranch",
        "Gives a branch the data of any moment of any branch.",
        "BranchRestored",
    )
    .takes("BranchRestoreRequest"),
    act(
        "/projects/{project_id}/branches/{branch_id}/set_as_default",
        "setDefaultProjectBranch",
        "Makes a branch the parent of branches that name none.",
        "BranchOperations",
    ),
    get(
        "/projects/{project_id}/branches/{branch_id}/endpoints",
        "listProjectBranchEndpoints",
        "Lists the endpoints of a branch.",
        "EndpointList",
    ),
    get(ROLES, "listProjectBranchRoles", "Lists the roles of a branch.", "RoleList"),
    act(ROLES, "createProjectBranchRole", "Makes a role with a password.", "RoleOperations")
        .creates_from("RoleCreateRequest"),
    get(ROLE, "getProjectBranchRole", "Shows a role.", "RoleResponse"),
    delete(ROLE, "deleteProjectBranchRole", "Deletes a role that owns no database.", "RoleOperations"),
    get(
        "/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reveal_password",
        "getProjectBranchRolePassword",
        "Shows the password of a role.",
        "RolePassword",
    ),
    act(
        "/projects/{project_id}/branches/{branch_id}/roles/{role_name}/reset_password",
        "resetProjectBranchRolePassword",
        "Gives a role a new password and ends its sessions.",
        "RoleOperations",
    ),
    get(DATABASES, "listProjectBranchDatabases", "Lists the databases of a branch.", "DatabaseList"),
    act(DATABASES, "createProjectBranchDatabase", "Makes a database.", "DatabaseOperations")
        .creates_from("DatabaseCreateRequest"),
    get(DATABASE, "getProjectBranchDatabase", "Shows a database.", "DatabaseResponse"),
    get(
        DATABASE,
        "updateProjectBranchDatabase",
        "Renames a database or changes its owner.",
        "DatabaseOperations",
    )
    .patches_with("DatabaseUpdateRequest"),
    delete(
        DATABASE,
        "deleteProjectBranchDatabase",
        "Deletes a database, ending its sessions.",
        "DatabaseOperations",
    ),
    get(
        "/projects/{project_id}/branches/{branch_id}/schema",
        "getProjectBranchSchema",
        "Shows the schema of a database, now or at a moment of the branch's history.",
        "SchemaAnswer",
    )
    .with_query(&["db_name", "lsn", "timestamp", "format"]),
    get(
        "/projects/{project_id}/branches/{branch_id}/compare_schema",
        "getProjectBranchSchemaComparison",
        "Shows what differs between the schemas of a branch and another, its parent by default.",
        "SchemaDiff",
    )
    .with_query(&["db_name", "lsn", "timestamp", "base_branch_id", "base_lsn", "base_timestamp"]),
    get(
        "/projects/{project_id}/branches/{branch_id}/log",
        "getBranchLog",
        "Ours: shows how far the log of a branch can be read, and what is held beyond.",
        "BranchLog",
    ),
    act(
        "/projects/{project_id}/branches/{branch_id}/log/retry",
        "retryBranchLog",
        "Ours: tries again to read what of the log of a branch could not be read.",
        "BranchLog",
    ),
    act(
        "/projects/{project_id}/branches/{branch_id}/log/end",
        "endBranchLog",
        "Ours: ends the log of a branch where it can be read up to, and gives up what is held beyond.",
        "BranchLog",
    )
    .takes("BranchLogEndRequest"),
    act(
        "/projects/{project_id}/branches/{branch_id}/snapshot",
        "createSnapshot",
        "Keeps a moment of a branch under a name.",
        "SnapshotOperations",
    )
    .with_query(&["name", "slug", "lsn", "timestamp", "expires_at"]),
    act(
        "/projects/{project_id}/branches/{branch_id}/finalize_restore",
        "finalizeRestoreBranch",
        "Lets a branch that was made of a snapshot take the place it was made for.",
        "RestoreFinalized",
    )
    .takes("FinalizeRestoreRequest"),
    get(
        "/projects/{project_id}/snapshots",
        "listSnapshots",
        "Lists snapshots, oldest first.",
        "SnapshotList",
    ),
    get(SNAPSHOT, "getSnapshot", "Ours: shows a snapshot.", "SnapshotResponse"),
    get(SNAPSHOT, "updateSnapshot", "Renames a snapshot, or says when it expires.", "SnapshotResponse")
        .patches_with("SnapshotUpdateRequest"),
    delete(SNAPSHOT, "deleteSnapshot", "Deletes a snapshot; branches made of it stay.", "SnapshotOperations")
        .answers(202),
    act(
        "/projects/{project_id}/snapshots/{snapshot_id}/restore",
        "restoreSnapshot",
        "Makes a branch of a snapshot.",
        "SnapshotRestored",
    )
    .takes("SnapshotRestoreRequest"),
    get(BACKUPS, "getSnapshotSchedule", "Shows when a branch gets snapshots by itself.", "BackupSchedule"),
    get(BACKUPS, "setSnapshotSchedule", "Says when a branch gets snapshots by itself.", "BackupSchedule")
        .puts("BackupSchedule"),
    get(SCHEDULES, "listBranchSchedules", "Ours: lists schedules of branches.", "BranchScheduleList"),
    act(
        SCHEDULES,
        "createBranchSchedule",
        "Ours: lets a branch be made of a template at every planned time, in place of the one before.",
        "BranchScheduleResponse",
    )
    .creates_from("BranchScheduleCreateRequest"),
    get(SCHEDULE, "getBranchSchedule", "Ours: shows a schedule of branches.", "BranchScheduleResponse"),
    delete(
        SCHEDULE,
        "deleteBranchSchedule",
        "Ours: deletes a schedule; the branch it made last stays.",
        "BranchScheduleResponse",
    ),
    act(
        "/projects/{project_id}/branch_schedules/{schedule_id}/run",
        "runBranchSchedule",
        "Ours: runs a schedule now.",
        "BranchScheduleRun",
    ),
    get("/projects/{project_id}/endpoints", "listProjectEndpoints", "Lists endpoints.", "EndpointList")
        .with_query(&["limit", "cursor"]),
    act(
        "/projects/{project_id}/endpoints",
        "createProjectEndpoint",
        "Makes an endpoint for a branch and starts it.",
        "EndpointOperations",
    )
    .creates_from("EndpointCreateRequest"),
    get(ENDPOINT, "getProjectEndpoint", "Shows an endpoint.", "EndpointResponse"),
    get(
        ENDPOINT,
        "updateProjectEndpoint",
        "Changes an endpoint, and restarts it if its Postgres is to have other settings.",
        "EndpointOperations",
    )
    .patches_with("EndpointUpdateRequest"),
    act(
        "/projects/{project_id}/endpoints/{endpoint_id}/restart",
        "restartProjectEndpoint",
        "Stops an endpoint cleanly and starts it again. Its replication slots are dropped.",
        "EndpointOperations",
    ),
    get(
        "/projects/{project_id}/endpoints/{endpoint_id}/replication_slots",
        "listEndpointReplicationSlots",
        "Ours: lists the replication slots of an endpoint, which a stop or restart drops.",
        "ReplicationSlotList",
    ),
    delete(ENDPOINT, "deleteProjectEndpoint", "Stops and deletes an endpoint.", "EndpointOperations"),
    act(
        "/projects/{project_id}/endpoints/{endpoint_id}/start",
        "startProjectEndpoint",
        "Starts an endpoint and waits until it accepts connections.",
        "EndpointOperations",
    ),
    act(
        "/projects/{project_id}/endpoints/{endpoint_id}/suspend",
        "suspendProjectEndpoint",
        "Stops an endpoint cleanly. Its replication slots are dropped.",
        "EndpointOperations",
    ),
    get("/projects/{project_id}/operations", "listProjectOperations", "Lists operations.", "OperationList")
        .with_query(&["limit", "cursor"]),
    get(
        "/projects/{project_id}/operations/{operation_id}",
        "getProjectOperation",
        "Shows an operation.",
        "OperationResponse",
    ),
    get(
        "/projects/{project_id}/connection_uri",
        "getConnectionURI",
        "Says how to connect to a database as a role.",
        "ConnectionUri",
    )
    .with_query(&["branch_id", "endpoint_id", "database_name", "role_name", "pooled"]),
    get("/api_keys", "listApiKeys", "Lists API keys, without the keys themselves.", "ApiKeyList"),
    act("/api_keys", "createApiKey", "Makes an API key and shows it, once.", "ApiKeyCreateResponse")
        .takes("ApiKeyCreateRequest"),
    delete("/api_keys/{key_id}", "revokeApiKey", "Revokes an API key, at once.", "ApiKeyRevokeResponse"),
    get(
        "/organizations/{org_id}/api_keys",
        "listOrgApiKeys",
        "The same as `/api_keys`, where clients look for keys of one project.",
        "ApiKeyList",
    ),
    act(
        "/organizations/{org_id}/api_keys",
        "createOrgApiKey",
        "Makes an API key and shows it, once.",
        "ApiKeyCreateResponse",
    )
    .takes("ApiKeyCreateRequest"),
    delete(
        "/organizations/{org_id}/api_keys/{key_id}",
        "revokeOrgApiKey",
        "Revokes an API key, at once.",
        "ApiKeyRevokeResponse",
    ),
    get(BUCKETS, "listProjectBranchBuckets", "Lists nothing; there are none.", "BucketList"),
    get(FUNCTIONS, "listProjectBranchFunctions", "Lists nothing; there are none.", "FunctionList"),
    get(CREDENTIALS, "listCredentials", "Lists nothing; there are none.", "CredentialList"),
    get("/users/me", "getCurrentUserInfo", "Shows the only user.", "User"),
    get(
        "/users/me/organizations",
        "getCurrentUserOrganizations",
        "Lists the only organization.",
        "OrganizationList",
    ),
    get("/regions", "getActiveRegions", "Lists the only region.", "RegionList"),
    get("/auth", "getAuthDetails", "Says how the key was recognized.", "AuthDetails"),
    get("/status", "getStatus", "Ours: says whether all is well.", "Status"),
    act("/shutdown", "shutdown", "Ours: stops every endpoint cleanly, then the server.", "Status"),
];
