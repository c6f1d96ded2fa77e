//! A document's tree against the schema of its CRD: unknown fields, wrong types, missing fields, values that are not allowed.
//! All of them are reported, each with its place and what to write instead.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use super::finding::{Code, Path, Problem};
use super::tree::{At, Node, Value};

/// Where a problem stands, and what it is.
pub(super) type Found = (At, Problem);

/// Checks a value against a schema.
pub(super) fn check(node: &Node, schema: &JSONSchemaProps, path: &Path, found: &mut Vec<Found>) {
    let mut report = |at: At, code: Code, path: &Path, message: String| {
        found.push((at, Problem::new(code, path.clone(), message)));
    };
    let anything = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    if anything || matches!(node.value, Value::Null) && schema.nullable == Some(true) {
        return;
    }
    let wanted = schema.type_.as_deref().unwrap_or("object");
    let fits = match (&node.value, wanted) {
        (Value::Map(_), "object") | (Value::List(_), "array") | (Value::Text(_), "string") | (Value::Bool(_), "boolean") => true,
        (Value::Number(text), "integer") => text.parse::<i64>().is_ok(),
        (Value::Number(_), "number") => true,
        _ => false,
    };
    if !fits {
        report(node.at, Code::WrongType, path, wrong_type(node, wanted, schema));
        return;
    }
    match &node.value {
        Value::Map(_) => check_members(node, schema, path, found),
        Value::List(items) => {
            if schema.min_items.is_some_and(|least| least > 0) && items.is_empty() {
                report(node.at, Code::Missing, path, "an empty list: at least one is needed".to_owned());
            }
            if let Some(most) = schema.max_items.filter(|&most| items.len() > usize::try_from(most).unwrap_or(usize::MAX)) {
                report(node.at, Code::TooLarge, path, format!("{} items are more than {most}", items.len()));
            }
            if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
                for (i, node) in items.iter().enumerate() {
                    check(node, item, &path.item(i), found);
                }
            }
        }
        Value::Text(text) => {
            if let Some(allowed) = &schema.enum_ {
                let allowed: Vec<&str> = allowed.iter().filter_map(|value| value.0.as_str()).collect();
                if !allowed.contains(&text.as_str()) {
                    let message = format!("`{}` is none of {}{}", shown(text), listed(&allowed), did_you_mean(text, &allowed));
                    report(node.at, Code::UnknownValue, path, message);
                }
            }
            if schema.min_length.is_some_and(|least| least > 0) && text.is_empty() {
                report(node.at, Code::Missing, path, "empty text: something is needed here, or leave the field out".to_owned());
            }
            let length = text.chars().count();
            if let Some(most) = schema.max_length.filter(|&most| length > usize::try_from(most).unwrap_or(usize::MAX)) {
                report(node.at, Code::TooLarge, path, format!("{length} characters are more than {most}"));
            }
        }
        _ => {}
    }
}

fn check_members(node: &Node, schema: &JSONSchemaProps, path: &Path, found: &mut Vec<Found>) {
    let extra = match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(extra)) => Some(extra.as_ref()),
        _ => None,
    };
    let properties = schema.properties.as_ref();
    for member in node.members() {
        let at = path.field(&member.key);
        match (properties.and_then(|known| known.get(&member.key)), extra) {
            (Some(schema), _) | (None, Some(schema)) => check(&member.value, schema, &at, found),
            (None, None) => {
                let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                let message = format!("unknown field{}", did_you_mean_or_list(&member.key, &known));
                found.push((member.key_at, Problem::new(Code::UnknownField, at, message)));
            }
        }
    }
    for name in schema.required.iter().flatten().filter(|name| node.get(name).is_none()) {
        // A misspelt field is reported once, where it stands.
        if properties.is_some() && node.members().iter().any(|member| nearest(&member.key, &[name]).is_some()) {
            continue;
        }
        let message = format!("{} is missing", describe(properties.and_then(|known| known.get(name))));
        found.push((node.at, Problem::new(Code::Missing, path.field(name), message)));
    }
}

fn describe(schema: Option<&JSONSchemaProps>) -> String {
    match schema.and_then(|schema| schema.type_.as_deref()) {
        Some("object") => "a mapping (`{}` for an empty one)".to_owned(),
        Some("array") => "a list".to_owned(),
        _ => "a value".to_owned(),
    }
}

fn wrong_type(node: &Node, wanted: &str, schema: &JSONSchemaProps) -> String {
    let belongs = match wanted {
        "object" => "a mapping",
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "text",
    };
    let instead = match (&node.value, wanted) {
        (Value::Bool(text) | Value::Number(text), "string") => format!(": write \"{}\" in quotes", shown(text)),
        (Value::Text(text), "array") if schema.items.is_some() => format!(": write [\"{}\"]", shown(text)),
        (Value::Null, "object") => ": write `{}` if everything is meant".to_owned(),
        (Value::Null, "string") => ": write a value, or leave the field out".to_owned(),
        _ => String::new(),
    };
    format!("{} where {belongs} belongs{instead}", node.kind())
}

/// A value as it is quoted in a message: one line, and not long.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

fn listed(allowed: &[&str]) -> String {
    allowed.join(", ")
}

pub(super) fn did_you_mean(text: &str, known: &[&str]) -> String {
    nearest(text, known).map_or(String::new(), |near| format!(": did you mean `{near}`?"))
}

fn did_you_mean_or_list(text: &str, known: &[&str]) -> String {
    match (nearest(text, known), known) {
        (Some(near), _) => format!(": did you mean `{near}`?"),
        (None, []) => ": nothing is written here".to_owned(),
        (None, _) => format!(": what can stand here is {}", listed(known)),
    }
}

/// The known word that was most likely meant: equal but for case, or a third of its letters away at most.
fn nearest<'k>(text: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = text.to_lowercase();
    if lower.len() > 100 {
        return None;
    }
    known
        .iter()
        .map(|word| (distance(&lower, &word.to_lowercase()), *word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(4).max(1))
        .min()
        .map(|(_, word)| word)
}

/// Letters to change, add or remove (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
