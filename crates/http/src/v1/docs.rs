//! The document of `OpenAPI` 3.1, made from the routes themselves, and the page that shows it.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{V1, messages, push, traces};

/// Where the document is.
pub(crate) const DOCUMENT: &str = "/api/v1/openapi.json";

/// The page loads nothing from elsewhere, and no other page can be put around it. It sets styles on its
/// elements, and its icons are in the styles.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Anser",
        description = "How back ends push messages to the clients of an Anser server, and how operators ask what became of them.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "push", description = "Messages to clients"),
        (name = "operators", description = "What became of a message, and what somebody's connections do"),
        (name = "docs", description = "This document"),
    ),
    modifiers(&PushKey),
)]
struct Document;

struct PushKey;

impl Modify for PushKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let text = "A key of the file push.key in the data folder of the server, as `Authorization: Bearer KEY`. Needed \
                    unless http.require_key is false.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("push_key", SecurityScheme::Http(scheme));
    }
}

/// The document as it is sent.
#[derive(Clone)]
struct Text(Bytes);

/// The API, the document, and the page. A route that is added here is in the document by itself.
pub(super) fn routes(v1: V1) -> Router {
    let (api, openapi) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(push::push))
        .routes(routes!(messages::explain))
        .routes(routes!(traces::trace))
        .routes(routes!(document))
        .with_state(v1)
        .split_for_parts();
    let text = serde_json::to_vec(&openapi).unwrap_or_default();
    api.layer(Extension(Text(text.into()))).merge(page())
}

/// This document
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "document",
    tag = "docs",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)),
)]
async fn document(Extension(text): Extension<Text>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text.0).into_response()
}

fn page() -> Router {
    let config = Config::new([DOCUMENT]).validator_url("none").use_base_layout().try_it_out_enabled(true);
    Router::from(SwaggerUi::new("/docs").config(config)).layer(middleware::from_fn(fenced))
}

async fn fenced(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
