//! The OpenAPI document: paths from the list of routes, schemas from the types of their bodies.

use std::collections::BTreeMap;

use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, OpenApi, PathItem, PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
    Schema, path::Operation,
};
use utoipa::{OpenApi as _, PartialSchema as _, ToSchema as _};

use crate::PREFIX;
use crate::document::routes::{Method, ROUTES, Route};
use crate::error::ErrorBody;

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "scion",
    description = "Branches of whole PostgreSQL clusters. Neon's API v2 where Neon has a word for the thing."
))]
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
    let components = components.schemas_from_iter(schemas());
    document.components =
        Some(components.security_scheme("BearerAuth", SecurityScheme::Http(bearer)).build());
    document.security = Some(vec![SecurityRequirement::new("BearerAuth", [""; 0])]);
    document
}

/// Every schema that a route refers to, by name.
fn schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut all = vec![(ErrorBody::name().into_owned(), ErrorBody::schema())];
    for route in ROUTES {
        for body in route.request.iter().chain([&route.response.1]) {
            (body.schemas)(&mut all);
        }
    }
    all.into_iter().collect()
}

fn operation_of(route: &Route) -> Operation {
    let (status, schema) = route.response;
    let success =
        ResponseBuilder::new().description("Done.").content("application/json", json(&(schema.name)()));
    let failure =
        ResponseBuilder::new().description("Not done.").content("application/json", json(&ErrorBody::name()));
    let body = route.request.map(|schema| {
        RequestBodyBuilder::new()
            .content("application/json", json(&(schema.name)()))
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
