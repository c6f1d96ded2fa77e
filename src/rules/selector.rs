//! Label selectors: as written, and compiled into a question that a namespace's labels answer.
//!
//! A type of our own instead of `k8s-openapi`'s: that one reads a mistyped field as "everything", and this selector is
//! the security boundary.

#![allow(unreachable_pub, reason = "kube's derive repeats each type inside a function to make its schema")]
#![allow(clippy::doc_markdown, reason = "`kubectl explain` prints these descriptions as plain text")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    Labels,
    finding::{Code, FieldPath, Problem, quoted},
    names,
    schema::labels,
};

/// The label that every namespace has, holding its own name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) const LABEL_KEY_PATTERN: &str = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$";
pub(super) const LABEL_VALUE_PATTERN: &str = r"^([A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?)?$";

/// How many requirements one selector may hold: the API checks them in CEL, whose cost must have a bound.
pub(super) const MAX_REQUIREMENTS: usize = 64;

/// Selects namespaces by their labels. All parts must hold; without any, every namespace is selected.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Labels that the namespace must have, with just these values. Every namespace has the label
    /// kubernetes.io/metadata.name with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "labels")]
    pub match_labels: Option<BTreeMap<String, String>>,

    /// Requirements on labels that say more than equality.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_REQUIREMENTS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Option<Vec<LabelSelectorRequirement>>,
}

/// One requirement on one label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 \
     : !has(self.values) || self.values.size() == 0"
).message("In and NotIn need values; Exists and DoesNotExist take none").field_path(".values"))]
pub struct LabelSelectorRequirement {
    /// The key of the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required, length(min = 1, max = 317), regex(pattern = LABEL_KEY_PATTERN))]
    pub key: Option<String>,

    /// In: the label has one of the values. NotIn: it has none of them, or is not there. Exists and DoesNotExist: the
    /// label is there or not, whatever its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(required)]
    pub operator: Option<Operator>,

    /// The values for In and NotIn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(length(max = 63), regex(pattern = LABEL_VALUE_PATTERN)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Option<Vec<String>>,
}

/// How a requirement compares.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is not there.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// A selector that Kubernetes would take, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NamespaceSelector {
    /// Requirements on the namespace's name, which is always known.
    on_name: Vec<Requirement>,
    /// Requirements on labels that must be looked up, with the label's key.
    on_labels: Vec<(Box<str>, Requirement)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Requirement {
    /// It must be one of these, which are sorted.
    In(Box<[Box<str>]>),
    /// It must be none of these, which are sorted.
    NotIn(Box<[Box<str>]>),
    Exists,
    DoesNotExist,
}

impl NamespaceSelector {
    /// The selector that selects just the namespace `name`.
    pub(super) fn only(name: &str) -> Self {
        Self { on_name: vec![Requirement::In(Box::new([name.into()]))], on_labels: Vec::new() }
    }

    /// Compiles what was written at `path`; what Kubernetes would refuse goes to `problems`.
    pub(super) fn compile(written: &LabelSelector, path: &FieldPath, problems: &mut Vec<Problem>) -> Self {
        let mut selector = Self::default();
        let too_many = |path: &FieldPath, count: usize| {
            let message = format!("holds {count} entries: at most {MAX_REQUIREMENTS} are allowed");
            Problem::new(Code::Selector, path.clone(), message)
        };
        if let Some(labels) = &written.match_labels {
            let path = path.field("matchLabels");
            if labels.len() > MAX_REQUIREMENTS {
                problems.push(too_many(&path, labels.len()));
            } else {
                for (key, value) in labels {
                    let path = path.key(key);
                    check(names::label_key(key), &path, key, problems);
                    check(names::label_value(value), &path, value, problems);
                    selector.add(key.as_str().into(), Requirement::In(Box::new([value.as_str().into()])));
                }
            }
        }
        if let Some(expressions) = &written.match_expressions {
            let path = path.field("matchExpressions");
            if expressions.len() > MAX_REQUIREMENTS {
                problems.push(too_many(&path, expressions.len()));
            } else {
                for (place, expression) in expressions.iter().enumerate() {
                    if let Some((key, requirement)) = compile_expression(expression, &path.index(place), problems) {
                        selector.add(key, requirement);
                    }
                }
            }
        }
        selector
    }

    fn add(&mut self, key: Box<str>, requirement: Requirement) {
        if &*key == NAME_LABEL {
            self.on_name.push(requirement);
        } else {
            self.on_labels.push((key, requirement));
        }
    }

    /// Whether the namespace is selected; `None` when a label decides and the labels are not known.
    pub(super) fn selects(&self, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        if !self.on_name.iter().all(|requirement| requirement.holds(Some(namespace))) {
            return Some(false);
        }
        if self.on_labels.is_empty() {
            return Some(true);
        }
        let labels = labels?;
        Some(self.on_labels.iter().all(|(key, requirement)| requirement.holds(labels.get(&**key).map(String::as_str))))
    }
}

impl Requirement {
    /// As `k8s.io/apimachinery/pkg/labels`, `Requirement.Matches`.
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[Box<str>]| {
            value.is_some_and(|value| values.binary_search_by(|candidate| (**candidate).cmp(value)).is_ok())
        };
        match self {
            Self::In(values) => among(values),
            Self::NotIn(values) => !among(values),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
        }
    }
}

/// The key and the requirement on it that one expression states.
fn compile_expression(
    written: &LabelSelectorRequirement,
    path: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<(Box<str>, Requirement)> {
    let values = written.values.as_deref().unwrap_or_default();
    for (place, value) in values.iter().enumerate() {
        check(names::label_value(value), &path.field("values").index(place), value, problems);
    }
    let mut refuse = |field: &str, code: Code, message: &str| {
        problems.push(Problem::new(code, path.field(field), message));
    };
    let sorted = || {
        let mut sorted: Vec<Box<str>> = values.iter().map(|value| value.as_str().into()).collect();
        sorted.sort_unstable();
        sorted.into_boxed_slice()
    };
    let requirement = match written.operator {
        None => {
            refuse("operator", Code::Missing, "is missing: write `In`, `NotIn`, `Exists` or `DoesNotExist`");
            None
        }
        Some(Operator::In | Operator::NotIn) if values.is_empty() => {
            refuse("values", Code::Selector, "is empty: `In` and `NotIn` need at least one value");
            None
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !values.is_empty() => {
            let message = "must not be there: `Exists` and `DoesNotExist` take none; to compare values write `In`";
            refuse("values", Code::Selector, message);
            None
        }
        Some(Operator::In) => Some(Requirement::In(sorted())),
        Some(Operator::NotIn) => Some(Requirement::NotIn(sorted())),
        Some(Operator::Exists) => Some(Requirement::Exists),
        Some(Operator::DoesNotExist) => Some(Requirement::DoesNotExist),
    };
    let Some(key) = &written.key else {
        refuse("key", Code::Missing, "is missing: write the key of a label");
        return None;
    };
    check(names::label_key(key), &path.field("key"), key, problems);
    Some((key.as_str().into(), requirement?))
}

fn check(checked: Result<(), String>, path: &FieldPath, text: &str, problems: &mut Vec<Problem>) {
    if let Err(wrong) = checked {
        problems.push(Problem::new(Code::Selector, path.clone(), format!("{} {wrong}", quoted(text))));
    }
}
