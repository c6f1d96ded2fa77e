//! The definitions that the Kubernetes API is given.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use pullcred::rules::crds;

/// Every schema in `schema`, with its path.
fn walk<'s>(schema: &'s JSONSchemaProps, path: &str, visit: &mut impl FnMut(&str, &'s JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(items, &format!("{path}[]"), visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(values, &format!("{path}{{}}"), visit);
    }
}

fn schema(crd: &CustomResourceDefinition) -> &JSONSchemaProps {
    crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()
}

#[test]
fn the_definitions_are_as_reviewed() {
    for crd in crds() {
        insta::assert_snapshot!(crd.spec.names.kind.clone(), serde_json::to_string_pretty(&crd).unwrap());
    }
}

#[test]
fn kubectl_explain_has_a_description_for_every_field() {
    let mut bare = Vec::new();
    for crd in crds() {
        walk(schema(&crd), &crd.spec.names.kind, &mut |path, schema| {
            let is_field = !path.ends_with(['}', ']']) && !path.ends_with(".metadata");
            if is_field && schema.description.as_deref().unwrap_or_default().is_empty() {
                bare.push(path.to_owned());
            }
        });
    }
    assert_eq!(bare, [""; 0]);
}

#[test]
fn descriptions_do_not_show_rust() {
    for crd in crds() {
        walk(schema(&crd), &crd.spec.names.kind, &mut |path, schema| {
            let text = schema.description.as_deref().unwrap_or_default();
            assert!(!text.contains("[`") && !text.contains("::"), "{path}: {text}");
        });
    }
}

#[test]
fn null_is_never_a_value() {
    for crd in crds() {
        walk(schema(&crd), &crd.spec.names.kind, &mut |path, schema| assert_eq!(schema.nullable, None, "{path}"));
    }
}
