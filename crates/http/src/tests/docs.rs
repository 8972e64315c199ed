//! The document of the API and its page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Api;

async fn document(api: &Api) -> Value {
    let reply = api.get("/api/v1/openapi.json").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, Some("application/json")));
    reply.json()
}

#[tokio::test]
async fn the_document() {
    let api = Api::new();
    let document = document(&api).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let scheme = &document["components"]["securitySchemes"]["push_key"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let push = &document["paths"]["/api/v1/push"]["post"];
    assert_eq!(push["security"], json!([{"push_key": []}]));
    assert!(document["paths"]["/api/v1/openapi.json"]["get"].is_object());
    let statuses: BTreeSet<&str> =
        push["responses"].as_object().unwrap().keys().map(String::as_str).collect();
    let every = ["200", "400", "401", "403", "408", "413", "415", "422", "429", "503"];
    assert_eq!(statuses, BTreeSet::from(every));
    for status in &every[1..] {
        let content = &push["responses"][status]["content"]["application/problem+json"];
        assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{status}");
    }
    assert_eq!(push["parameters"][0]["name"], "Idempotency-Key");
    assert_eq!(push["parameters"][0]["required"], false);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["PushRequest"]["required"], json!(["to", "operation"]));
    assert_eq!(schemas["PushRequest"]["additionalProperties"], false);
    assert_eq!(schemas["To"]["oneOf"].as_array().unwrap().len(), 4);
    // The fields are those that are read.
    let told = api.push(r#"{"other":1}"#).await.json();
    let read: BTreeSet<&str> =
        told["errors"][0]["message"].as_str().unwrap().split('`').skip(1).step_by(2).collect();
    let fields = schemas["PushRequest"]["properties"].as_object().unwrap();
    assert_eq!(read, fields.keys().map(String::as_str).collect());
}

/// What the document refers to is there.
#[tokio::test]
async fn references_lead_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document(&Api::new()).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// Routes of the API are declared where the document sees them, and nowhere else.
#[test]
fn every_route_is_in_the_document() {
    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if !path.components().any(|part| part.as_os_str() == "tests") {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 10);
    for text in found {
        let text: String = text.split_whitespace().collect();
        assert!(!text.contains(".route(\"/api/"), "declare it with #[utoipa::path] and routes!");
    }
}

/// A client that sends what the document shows is understood.
#[tokio::test]
async fn every_example_is_accepted() {
    let api = Api::new();
    let document = document(&api).await;
    let push = &document["paths"]["/api/v1/push"]["post"];
    let examples = push["requestBody"]["content"]["application/json"]["examples"].as_object().unwrap();
    assert_eq!(examples.len(), 4);
    for (name, example) in examples {
        let reply = api.push(&example["value"].to_string()).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.text());
    }
    let schemas = &document["components"]["schemas"];
    let fields = schemas["PushRequest"]["properties"].as_object().unwrap();
    for (name, field) in fields.iter().filter(|(name, _)| *name != "to") {
        let examples = field["examples"].as_array().or_else(|| schemas["ExpiresIn"]["examples"].as_array());
        for example in examples.unwrap() {
            let mut body = json!({"to": {"users": [1]}, "operation": 1000});
            if !name.starts_with("body") {
                body["body"] = json!("");
            }
            body[name] = example.clone();
            let reply = api.push(&body.to_string()).await;
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        }
    }
    let key = push["parameters"][0]["example"].as_str().unwrap();
    let body = examples["devices"]["value"].to_string();
    assert_eq!(api.push_with(&[("idempotency-key", key)], &body).await.status, 200);

    // The answers are shown as they are.
    let told = &push["responses"]["422"]["content"]["application/problem+json"]["example"];
    let body = json!({"to": {"rooms": ["live://1", "live"]}, "operation": 1000, "body": ""});
    assert_eq!(api.push(&body.to_string()).await.json(), *told);
    let taken = &push["responses"]["200"]["content"]["application/json"]["examples"]["devices"]["value"];
    let mut answer = api.push(&examples["devices"]["value"].to_string()).await.json();
    answer["messages"][0]["id"] = taken["messages"][0]["id"].clone();
    assert_eq!(answer, *taken);
}

/// The page comes from here alone.
#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let api = Api::new();
    let reply = api.get("/docs").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, Some("/docs/")));
    let page = api.get("/docs/").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("http"), "{policy}");
    let mut sources = Vec::new();
    for mark in ["src=\"", "href=\""] {
        sources.extend(page.text().split(mark).skip(1).filter_map(|rest| rest.split('"').next()));
    }
    assert!(sources.len() >= 5, "{sources:?}");
    for source in sources {
        assert!(!source.contains("//"), "{source} is elsewhere");
        let path = format!("/docs/{}", source.trim_start_matches("./"));
        let reply = api.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        let outside = |text: &str, mark: &str| {
            text.split(mark).skip(1).any(|rest| rest.trim_start_matches(['"', '\'']).starts_with("http"))
        };
        if reply.header("content-type") == Some("text/css") {
            assert!(!outside(reply.text(), "url(") && !outside(reply.text(), "@import "), "{path}");
        }
    }
    let entry = api.get("/docs/swagger-initializer.js").await;
    assert!(!entry.text().contains("://"), "{}", entry.text());
    assert!(entry.text().contains("/api/v1/openapi.json"));
    assert!(
        entry.text().contains(r#""validatorUrl": "none""#),
        "or each reader's document goes to swagger.io"
    );
}
