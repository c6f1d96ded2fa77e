//! `docs/rules-reference.md` is made from the types that both the files' reader and the Kubernetes API use.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use pullcred::rules::crds;

/// Writes the file instead of comparing it.
const WRITE: &str = "PULLCRED_TEST_WRITE";

const HEAD: &str = "\
# Fields of the rules

Made from the types of the program; [rules.md](rules.md) explains what to do with them. In a cluster,
`kubectl explain clusterpullsecret.spec` says the same.
";

#[test]
fn the_reference_of_the_rules_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules-reference.md");
    let reference = reference();
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &reference).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference, "{} is behind the types: run this test with {WRITE}=1", path.display());
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for crd in crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let names = &crd.spec.names;
        let short = names.short_names.iter().flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        writeln!(text, "\n## {}\n\n{}\n", names.kind, said(schema)).unwrap();
        writeln!(text, "Scope: {}. Short name: {short}.", crd.spec.scope).unwrap();
        for part in ["spec", "status"] {
            writeln!(text, "\n### {part} of a {}\n\n| field | value | |\n|---|---|---|", names.kind).unwrap();
            fields(&mut text, part, &schema.properties.as_ref().unwrap()[part]);
        }
        writeln!(text, "\n### Columns of a {}\n\n| column of `kubectl get` | |\n|---|---|", names.kind).unwrap();
        columns(&mut text, &crd);
        writeln!(text, "\n### What is refused in a {}\n\n| field | text |\n|---|---|", names.kind).unwrap();
        refusals(&mut text, "spec", &schema.properties.as_ref().unwrap()["spec"]);
    }
    text
}

/// A row for each field below `schema`, which is at `path`.
fn fields(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let path = format!("{path}.{name}");
        writeln!(text, "| `{path}` | {}{} | {} |", value(field), if required { ", required" } else { "" }, said(field))
            .unwrap();
        // A condition is Kubernetes' own, and the same everywhere.
        if name != "conditions" {
            fields(text, &path, field);
            if let Some(items) = items(field) {
                fields(text, &format!("{path}[]"), items);
            }
        }
    }
}

fn value(field: &JSONSchemaProps) -> String {
    let default = field.default.as_ref().map(|default| default.0.as_str().map_or(default.0.to_string(), str::to_owned));
    if let Some(values) = &field.enum_ {
        let word = |value: &serde_json::Value| {
            let is_default = value.as_str() == default.as_deref();
            format!("`{}`{}", value.as_str().unwrap(), if is_default { " (default)" } else { "" })
        };
        return values.iter().map(|value| word(&value.0)).collect::<Vec<_>>().join(", ");
    }
    let mut value = match (field.type_.as_deref().unwrap(), items(field)) {
        ("array", Some(items)) => format!("list of {}", kind(items)),
        _ => kind(field).to_owned(),
    };
    let most = [(field.max_items, ""), (field.max_length, " characters"), (field.max_properties, "")];
    for (most, what) in most.iter().filter_map(|(most, what)| Some((most.as_ref()?, what))) {
        let least = field.min_items.or(field.min_length).filter(|least| *least > 0);
        let least = least.map_or_else(|| "at most".to_owned(), |least| format!("{least} to"));
        write!(value, ", {least} {most}{what}").unwrap();
    }
    if let Some(each) = items(field).and_then(|items| items.max_length) {
        write!(value, " of at most {each} characters").unwrap();
    }
    if let Some(default) = default {
        write!(value, ", default `{default}`").unwrap();
    }
    value
}

fn kind(schema: &JSONSchemaProps) -> &str {
    match (schema.type_.as_deref(), schema.format.as_deref()) {
        (Some("string"), Some("date-time")) => "time",
        (Some("string"), _) => "text",
        (Some("integer"), _) => "number",
        (Some("object"), _) if schema.additional_properties.is_some() => "map of texts",
        (Some("object"), _) => "object",
        (other, _) => panic!("a type that the reference has no word for: {other:?}"),
    }
}

fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

fn columns(text: &mut String, crd: &CustomResourceDefinition) {
    for column in crd.spec.versions[0].additional_printer_columns.iter().flatten() {
        let wide = if column.priority.unwrap_or_default() > 0 { " (with `-o wide`)" } else { "" };
        writeln!(text, "| {}{wide} | {} |", column.name, column.description.as_deref().unwrap()).unwrap();
    }
}

/// What the rules of the API say when they are broken; files are refused in fuller words.
fn refusals(text: &mut String, path: &str, schema: &JSONSchemaProps) {
    for rule in schema.x_kubernetes_validations.iter().flatten() {
        let at = format!("{path}{}", rule.field_path.as_deref().unwrap_or_default());
        writeln!(text, "| `{at}` | {} |", cell(rule.message.as_deref().unwrap())).unwrap();
    }
    for (name, field) in schema.properties.iter().flatten() {
        refusals(text, &format!("{path}.{name}"), field);
    }
    if let Some(items) = items(schema) {
        refusals(text, &format!("{path}[]"), items);
    }
}

fn said(schema: &JSONSchemaProps) -> String {
    cell(schema.description.as_deref().unwrap())
}

/// A star or a bar would mean something to Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}
