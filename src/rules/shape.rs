//! Holds a document's tree against its schema: fields that do not exist and values of the wrong kind. What passes comes
//! out as JSON, ready for the types that the schema was made from.
//!
//! Whatever the types can hold and must not (a bad name, a missing field) is not seen here but when they are validated,
//! which objects of the Kubernetes API go through as well.

use std::collections::HashSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value as Json;

use super::{
    finding::{Code, FieldPath, Position, Problem, did_you_mean, one_of, quoted},
    scalar::{Scalar, ScalarKind},
    tree::{NodeId, Tree, Value},
};

/// What one document has instead of the shape it should have.
#[derive(Default)]
pub(super) struct Misfits {
    pub(super) problems: Vec<(Position, Problem)>,
    /// The paths of fields that were dropped, so that nobody calls them missing.
    dropped: HashSet<String>,
}

impl Misfits {
    fn report(&mut self, at: Position, code: Code, path: &FieldPath, message: String) {
        self.problems.push((at, Problem::new(code, path.clone(), message)));
    }

    fn drop_field(&mut self, at: Position, code: Code, path: &FieldPath, message: String) -> Option<Json> {
        self.report(at, code, path, message);
        self.dropped.insert(path.to_string());
        None
    }

    /// Whether something is already said about the value at `path` or one around it.
    pub(super) fn has_spoken_of(&self, path: &FieldPath) -> bool {
        !self.dropped.is_empty()
            && (1..=path.0.len()).any(|length| self.dropped.contains(&FieldPath(path.0[..length].to_vec()).to_string()))
    }
}

/// The value at `node` as `schema` wants it; `None` when it does not fit or nobody reads it.
pub(super) fn fit(
    tree: &Tree<'_>,
    node: NodeId,
    schema: &JSONSchemaProps,
    path: &FieldPath,
    misfits: &mut Misfits,
) -> Option<Json> {
    let wanted = Wanted::by(schema)?;
    let at = tree.at(node);
    match (wanted, tree.value(node)) {
        (_, Value::Scalar(scalar)) if scalar.kind() == ScalarKind::Null => {
            let message = "is empty: write a value, or remove the field".to_owned();
            misfits.drop_field(at, Code::Missing, path, message)
        }
        (Wanted::Fields(fields), Value::Map(entries)) => {
            let mut object = serde_json::Map::new();
            for entry in entries {
                let path = path.field(&entry.key);
                if let Some(schema) = fields.get(&*entry.key) {
                    let value = fit(tree, entry.value, schema, &path, misfits);
                    object.extend(value.map(|value| (entry.key.to_string(), value)));
                } else {
                    let message = unknown_field(&entry.key, fields.keys().map(String::as_str));
                    misfits.report(entry.at, Code::UnknownField, &path, message);
                }
            }
            Some(Json::Object(object))
        }
        (Wanted::Values(schema), Value::Map(entries)) => {
            let values = entries.iter().filter_map(|entry| {
                let value = fit(tree, entry.value, schema, &path.key(&entry.key), misfits)?;
                Some((entry.key.to_string(), value))
            });
            Some(Json::Object(values.collect()))
        }
        (Wanted::Items(schema), Value::List(items)) => {
            let items = items.iter().enumerate().map(|(place, item)| {
                // An item that does not fit leaves its place filled, so that those after it keep theirs.
                fit(tree, *item, schema, &path.index(place), misfits).unwrap_or_else(|| empty(schema))
            });
            Some(Json::Array(items.collect()))
        }
        (Wanted::Text(allowed), Value::Scalar(scalar)) => text(scalar, &allowed, at, path, misfits),
        (wanted, found) => {
            let message = format!("is {}: write {}", found_kind(found), wanted.instead(found));
            misfits.drop_field(at, Code::WrongType, path, message)
        }
    }
}

/// What a schema asks for.
enum Wanted<'s> {
    Fields(&'s std::collections::BTreeMap<String, JSONSchemaProps>),
    Values(&'s JSONSchemaProps),
    Items(&'s JSONSchemaProps),
    /// Text, and if it is not empty one of these.
    Text(Vec<&'s str>),
}

impl<'s> Wanted<'s> {
    /// `None` for what nobody reads.
    fn by(schema: &'s JSONSchemaProps) -> Option<Self> {
        match (schema.type_.as_deref()?, &schema.additional_properties, &schema.items) {
            ("object", Some(JSONSchemaPropsOrBool::Schema(values)), _) => Some(Self::Values(values)),
            ("object", _, _) => Some(Self::Fields(schema.properties.as_ref().unwrap_or(&NO_FIELDS))),
            ("array", _, Some(JSONSchemaPropsOrArray::Schema(items))) => Some(Self::Items(items)),
            ("string", _, _) => {
                let allowed = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str());
                Some(Self::Text(allowed.collect()))
            }
            _ => None,
        }
    }

    fn instead(&self, found: &Value<'_>) -> String {
        match (self, found) {
            (Self::Fields(fields), _) if fields.is_empty() => "`{}`".to_owned(),
            (Self::Fields(fields), _) => format!("a mapping with {}", one_of(fields.keys().map(String::as_str))),
            (Self::Values(_), _) => "a mapping of names to text".to_owned(),
            (Self::Items(_), Value::Scalar(scalar)) => format!("a list, `[{}]`", scalar.text),
            (Self::Items(_), _) => "a list".to_owned(),
            (Self::Text(allowed), _) if allowed.is_empty() => "text".to_owned(),
            (Self::Text(allowed), _) => one_of(allowed.iter().copied()),
        }
    }
}

static NO_FIELDS: std::collections::BTreeMap<String, JSONSchemaProps> = std::collections::BTreeMap::new();

fn text(scalar: &Scalar<'_>, allowed: &[&str], at: Position, path: &FieldPath, misfits: &mut Misfits) -> Option<Json> {
    let text = &*scalar.text;
    if !allowed.is_empty() && !allowed.contains(&text) {
        let message = format!("{} is not allowed here: {}", quoted(text), instead(text, allowed.iter().copied()));
        return misfits.drop_field(at, Code::NotAllowed, path, message);
    }
    let taken_for = match scalar.kind() {
        ScalarKind::Number => "a number",
        ScalarKind::Boolean => "true or false",
        ScalarKind::Text | ScalarKind::Null => return Some(Json::String(text.to_owned())),
    };
    let message = format!("{} is {taken_for} to YAML, and text is wanted: write it in quotes", quoted(text));
    misfits.drop_field(at, Code::WrongType, path, message)
}

fn found_kind(found: &Value<'_>) -> &'static str {
    match found {
        Value::Scalar(_) => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

fn empty(schema: &JSONSchemaProps) -> Json {
    match schema.type_.as_deref() {
        Some("string") => Json::String(String::new()),
        _ => Json::Object(serde_json::Map::new()),
    }
}

fn unknown_field<'s>(name: &str, known: impl Iterator<Item = &'s str> + Clone) -> String {
    if known.clone().next().is_none() {
        return format!("{} is not a field: nothing is wanted here, write `{{}}`", quoted(name));
    }
    format!("{} is not a field of this: {}", quoted(name), instead(name, known))
}

/// What to write instead of `name`.
pub(super) fn instead<'s>(name: &str, known: impl Iterator<Item = &'s str> + Clone) -> String {
    match did_you_mean(name, known.clone()) {
        Some(known) => format!("did you mean {}?", quoted(known)),
        None => format!("write {}", one_of(known)),
    }
}
