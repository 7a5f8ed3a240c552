//! The OpenAPI document: schemas from the types, paths from the list of routes.

use utoipa::OpenApi as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, OpenApi, PathItem, PathsBuilder, Ref, Required, ResponseBuilder,
    path::Operation,
};

use crate::document::routes::{Method, ROUTES, Route};
use crate::{
    PREFIX, account, api_key, branch, connection, database, endpoint, error, log, operation, pagination,
    platform, project, role, schedule, schema, snapshot, status,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "scion",
        description = "Branches of whole PostgreSQL clusters. Neon's API v2 where Neon has a word for the thing."
    ),
    components(schemas(
        account::AuthDetails,
        account::Organization,
        account::OrganizationList,
        account::Region,
        account::RegionList,
        account::User,
        api_key::ApiKey,
        api_key::ApiKeyCreateRequest,
        api_key::ApiKeyCreateResponse,
        api_key::ApiKeyCreator,
        api_key::ApiKeyList,
        api_key::ApiKeyRevokeResponse,
        branch::Annotation,
        branch::AnnotationObject,
        branch::Branch,
        branch::BranchCount,
        branch::BranchCreate,
        branch::BranchCreateRequest,
        branch::BranchCreated,
        branch::BranchList,
        branch::BranchOperations,
        branch::BranchPagination,
        branch::BranchRecoverRequest,
        branch::BranchRecovery,
        branch::BranchResponse,
        branch::BranchRestoreRequest,
        branch::BranchRestored,
        branch::BranchUpdate,
        branch::BranchUpdateRequest,
        connection::ConnectionDetails,
        connection::ConnectionParameters,
        connection::ConnectionUri,
        database::Database,
        database::DatabaseCreate,
        database::DatabaseCreateRequest,
        database::DatabaseList,
        database::DatabaseOperations,
        database::DatabaseResponse,
        database::DatabaseUpdate,
        database::DatabaseUpdateRequest,
        endpoint::BranchEndpointCreate,
        endpoint::Endpoint,
        endpoint::EndpointCreate,
        endpoint::EndpointCreateRequest,
        endpoint::EndpointList,
        endpoint::EndpointOperations,
        endpoint::EndpointOptions,
        endpoint::EndpointResponse,
        endpoint::EndpointState,
        endpoint::EndpointType,
        endpoint::EndpointUpdateRequest,
        endpoint::ReplicationSlot,
        endpoint::ReplicationSlotList,
        error::ErrorBody,
        operation::Operation,
        operation::OperationList,
        operation::OperationResponse,
        operation::OperationStatus,
        platform::BucketList,
        platform::CredentialList,
        platform::FunctionList,
        pagination::CursorPagination,
        project::Project,
        project::ProjectCreate,
        project::ProjectCreateBranch,
        project::ProjectCreateRequest,
        project::ProjectCreated,
        project::ProjectList,
        project::ProjectOperations,
        project::ProjectRecovered,
        project::ProjectResponse,
        project::ProjectUpdate,
        project::ProjectUpdateRequest,
        role::Role,
        role::RoleCreate,
        role::RoleCreateRequest,
        role::RoleList,
        role::RoleOperations,
        role::RolePassword,
        role::RoleResponse,
        schedule::BackupFrequency,
        schedule::BackupSchedule,
        schedule::BackupScheduleItem,
        schedule::BranchSchedule,
        schedule::BranchScheduleCreate,
        schedule::BranchScheduleCreateRequest,
        schedule::BranchScheduleList,
        schedule::BranchScheduleResponse,
        schedule::BranchScheduleRun,
        schedule::BranchTemplate,
        schema::ReferencedTable,
        log::BranchLog,
        log::BranchLogEndRequest,
        log::UnreadLog,
        schema::SchemaAnswer,
        schema::SchemaColumn,
        schema::SchemaConstraint,
        schema::SchemaDiff,
        schema::SchemaTable,
        schema::SchemaTables,
        snapshot::FinalizeRestoreRequest,
        snapshot::RestoreFinalized,
        snapshot::Snapshot,
        snapshot::SnapshotList,
        snapshot::SnapshotOperations,
        snapshot::SnapshotResponse,
        snapshot::SnapshotRestoreRequest,
        snapshot::SnapshotRestored,
        snapshot::SnapshotUpdate,
        snapshot::SnapshotUpdateRequest,
        status::BranchStatus,
        status::UnusableProject,
        status::EndpointStatus,
        status::Status
    ))
)]
struct Document;

/// The whole document.
pub fn openapi() -> OpenApi {
    let mut document = Document::openapi();
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        let method = match route.method {
            Method::Get => HttpMethod::Get,
            Method::Post => HttpMethod::Post,
            Method::Patch => HttpMethod::Patch,
            Method::Put => HttpMethod::Put,
            Method::Delete => HttpMethod::Delete,
        };
        paths = paths.path(format!("{PREFIX}{}", route.path), PathItem::new(method, operation_of(route)));
    }
    document.paths = paths.build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = document.components.take().map_or_else(ComponentsBuilder::new, Into::into);
    document.components =
        Some(components.security_scheme("BearerAuth", SecurityScheme::Http(bearer)).build());
    document.security = Some(vec![SecurityRequirement::new("BearerAuth", [""; 0])]);
    document
}

fn operation_of(route: &Route) -> Operation {
    let (status, schema) = route.response;
    let success = ResponseBuilder::new().description("Done.").content("application/json", json(schema));
    let failure =
        ResponseBuilder::new().description("Not done.").content("application/json", json("ErrorBody"));
    let body = route.request.map(|schema| {
        RequestBodyBuilder::new()
            .content("application/json", json(schema))
            .required(Some(Required::True))
            .build()
    });
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| parameter(name, ParameterIn::Path, Required::True));
    let in_query = route.query.iter().map(|name| parameter(name, ParameterIn::Query, Required::False));
    let once = (route.method == Method::Post).then(once);
    let parameters: Vec<Parameter> = in_path.chain(in_query).chain(once).collect();
    OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.summary))
        .parameters((!parameters.is_empty()).then_some(parameters))
        .request_body(body)
        .response(status.to_string(), success)
        .response("default", failure)
        .build()
}

fn parameter(name: &str, place: ParameterIn, required: Required) -> Parameter {
    let text = utoipa::schema!(String).build();
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(text)).build()
}

/// What a client that lost an answer asks again with.
fn once() -> Parameter {
    let mut once = parameter("Idempotency-Key", ParameterIn::Header, Required::False);
    once.description = Some(
        "1 to 255 printable characters. The same request, sent again with it within some minutes, is answered with what was \
         done for the first, and waits for the first if that is under way; another request with it is refused with 422. \
         What was not done is done anew. A branch is found by it for a day."
            .to_owned(),
    );
    once
}

fn json(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn document() -> serde_json::Value {
        serde_json::to_value(openapi()).unwrap()
    }

    #[test]
    fn the_reviewed_document_is_what_the_types_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        let now = openapi().to_pretty_json().unwrap() + "\n";
        assert!(reviewed == now, "{} is out of date; run: cargo xtask openapi", path.display());
    }

    #[test]
    fn every_route_refers_to_schemas_that_exist() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        for route in ROUTES {
            for name in route.request.into_iter().chain([route.response.1]) {
                assert!(schemas[name].is_object(), "{}: {name}", route.id);
            }
        }
    }

    #[test]
    fn every_route_has_an_operation_id_of_its_own() {
        let document = document();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(ids.insert(id), "{method} {path}");
            }
        }
        assert_eq!(ids.len(), ROUTES.len());
    }
}
