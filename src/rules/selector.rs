//! Label selectors, as Kubernetes evaluates them (apimachinery `labels.Requirement`), over labels that may be unknown.

use std::collections::BTreeMap;

use super::documents::{NamespaceSelector, Operator, Requirement};
use super::finding::{Code, Path, Problem};
use super::names;

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// The label that every namespace has, with its own name.
const NAME: &str = "kubernetes.io/metadata.name";

/// A selector that Kubernetes would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

impl Selector {
    /// Compiles a selector, or says all that is wrong with it.
    pub(super) fn compile(selector: &NamespaceSelector, path: &Path) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let labels = path.field("matchLabels");
        let mut requirements: Vec<Requirement> = Vec::new();
        for (key, value) in &selector.match_labels {
            check(key, std::slice::from_ref(value), &labels.field(key), &labels.field(key), &mut problems);
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values: vec![value.clone()] });
        }
        for (i, requirement) in selector.match_expressions.iter().enumerate() {
            let path = path.field("matchExpressions").item(i);
            check(&requirement.key, &requirement.values, &path.field("key"), &path.field("values"), &mut problems);
            let wants_values = matches!(requirement.operator, Operator::In | Operator::NotIn);
            if wants_values == requirement.values.is_empty() {
                let message = if wants_values {
                    "In and NotIn compare with values: list at least one, or use Exists or DoesNotExist"
                } else {
                    "Exists and DoesNotExist take no values: remove them, or use In or NotIn"
                };
                problems.push(Problem::new(Code::Selector, path.field("values"), message));
            }
            requirements.push(requirement.clone());
        }
        if problems.is_empty() { Ok(Self(requirements)) } else { Err(problems) }
    }

    /// Whether a namespace is selected. `None` when a label decides that is not known: `labels` is `None`, and it is not the
    /// label that holds the name.
    pub(super) fn selects(&self, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        let mut unknown = false;
        for requirement in &self.0 {
            let value = match labels {
                _ if requirement.key == NAME => Some(namespace),
                Some(labels) => labels.get(&requirement.key).map(String::as_str),
                None => {
                    unknown = true;
                    continue;
                }
            };
            let listed = value.is_some_and(|value| requirement.values.iter().any(|listed| listed == value));
            let holds = match requirement.operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            };
            if !holds {
                return Some(false);
            }
        }
        (!unknown).then_some(true)
    }
}

fn check(key: &str, values: &[String], key_path: &Path, values_path: &Path, problems: &mut Vec<Problem>) {
    if !names::is_label_key(key) {
        let message = format!(
            "`{}` is no label key: at most 63 letters, digits, `-`, `_`, `.`, and before a slash at most a DNS name",
            key.escape_debug()
        );
        problems.push(Problem::new(Code::Selector, key_path.clone(), message));
    }
    for value in values.iter().filter(|value| !names::is_label_value(value)) {
        let message = format!(
            "`{}` is no label value: at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at both ends",
            value.escape_debug()
        );
        problems.push(Problem::new(Code::Selector, values_path.clone(), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: &str) -> Selector {
        Selector::compile(&serde_json::from_str(json).unwrap(), &Path::default()).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn selectors_decide_as_kubernetes_does() {
        let here = labels(&[("tier", "prod"), ("empty", "")]);
        for (json, selected) in [
            ("{}", true),
            (r#"{"matchLabels":{"tier":"prod"}}"#, true),
            (r#"{"matchLabels":{"tier":"dev"}}"#, false),
            (r#"{"matchLabels":{"tier":"prod","other":"x"}}"#, false),
            (r#"{"matchLabels":{"kubernetes.io/metadata.name":"team"}}"#, true),
            (r#"{"matchLabels":{"kubernetes.io/metadata.name":"other"}}"#, false),
            (r#"{"matchExpressions":[{"key":"tier","operator":"In","values":["dev","prod"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"tier","operator":"NotIn","values":["prod"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"absent","operator":"NotIn","values":["prod"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"empty","operator":"Exists"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"absent","operator":"DoesNotExist"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"absent","operator":"Exists"}]}"#, false),
            (r#"{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["team"]}]}"#, false),
        ] {
            assert_eq!(selector(json).selects("team", Some(&here)), Some(selected), "{json}");
        }
    }

    #[test]
    fn what_the_name_alone_decides_needs_no_labels() {
        for (json, selected) in [
            ("{}", Some(true)),
            (r#"{"matchLabels":{"tier":"prod"}}"#, None),
            (r#"{"matchLabels":{"kubernetes.io/metadata.name":"team"}}"#, Some(true)),
            (r#"{"matchLabels":{"kubernetes.io/metadata.name":"other","tier":"prod"}}"#, Some(false)),
            (r#"{"matchLabels":{"kubernetes.io/metadata.name":"team","tier":"prod"}}"#, None),
        ] {
            assert_eq!(selector(json).selects("team", None), selected, "{json}");
        }
    }
}
