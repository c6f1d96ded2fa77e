//! Rule documents from files: text in, valid rules out, or every finding of every file at once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use super::documents::{ClusterPullSecret, ClusterPullSecretSpec, GROUP, PullSecret, PullSecretSpec, VERSION};
use super::finding::{Code, Finding, Path, Problem};
use super::rule::{Rule, RuleId};
use super::schema::{self, Found, did_you_mean, shown};
use super::selector::Labels;
use super::tree::{self, At, Node, Value};

/// One file's name, for findings, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// What findings call it.
    pub name: &'a str,
    /// What it holds: YAML or JSON, one or more documents.
    pub text: &'a [u8],
}

/// What the files hold.
#[derive(Debug, Default)]
pub struct Documents {
    /// The rules, in the order of the files.
    pub rules: Vec<Rule>,
    /// The labels of the namespaces for which there is a `Namespace` document.
    pub namespaces: BTreeMap<String, Labels>,
}

/// What may stand in `metadata`: what a person writes, and what `kubectl get -o yaml` adds.
const METADATA: [&str; 12] = [
    "name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp", "finalizers", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "uid",
];

/// Reads rule files: `ClusterPullSecret`, `PullSecret` and `Namespace` documents, and `List`s of them. Of a Namespace only
/// name and labels are read.
///
/// # Errors
/// Every finding of every file, in the order of the text. Nothing is taken from files in which anything is wrong.
pub fn read_documents(files: &[SourceFile<'_>]) -> Result<Documents, Vec<Finding>> {
    let mut reader = Reader::default();
    for file in files {
        reader.file(file.name, file.text);
    }
    if reader.findings.is_empty() { Ok(reader.documents) } else { Err(reader.findings) }
}

#[derive(Default)]
struct Reader {
    documents: Documents,
    findings: Vec<Finding>,
    /// Where each rule and each namespace was first found.
    seen: BTreeMap<String, String>,
}

impl Reader {
    fn file(&mut self, name: &str, bytes: &[u8]) {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
                let problem = Problem::new(Code::Syntax, Path::default(), "not text: rule files are YAML or JSON in UTF-8");
                self.findings.push(Finding { file: name.to_owned(), line, column, problem });
                return;
            }
        };
        let mut findings = Vec::new();
        for document in tree::read(name, text, &mut findings) {
            let mut found = Vec::new();
            self.document(name, &document, &mut found);
            findings.extend(found.into_iter().map(|((line, column), problem)| Finding {
                file: name.to_owned(),
                line,
                column,
                problem,
            }));
        }
        findings.sort_by_key(|finding| (finding.line, finding.column));
        self.findings.append(&mut findings);
    }

    fn document(&mut self, file: &str, node: &Node, found: &mut Vec<Found>) {
        match &node.value {
            Value::Null => return,
            Value::Map(_) => {}
            _ => {
                let message = format!("{} where a document with apiVersion, kind, metadata and spec belongs", node.kind());
                found.push((node.at, Problem::new(Code::WrongType, Path::default(), message)));
                return;
            }
        }
        let rules = format!("{GROUP}/{VERSION}");
        let header = |name: &str| node.get(name).and_then(Node::text);
        match (header("apiVersion"), header("kind")) {
            (Some("v1"), Some("Namespace")) => self.namespace(file, node, found),
            (Some("v1"), Some("List")) => match node.get("items").map(|items| &items.value) {
                Some(Value::List(items)) => items.iter().for_each(|item| self.document(file, item, found)),
                _ => {
                    let message = "a List has a list of items".to_owned();
                    found.push((node.at, Problem::new(Code::WrongType, Path::of(&["items"]), message)));
                }
            },
            (Some(version), Some(kind @ ("ClusterPullSecret" | "PullSecret"))) if version == rules => {
                self.rule(file, node, kind, found);
            }
            (version, kind) => found.push(unknown_kind(node, version, kind, &rules)),
        }
    }

    fn rule(&mut self, file: &str, node: &Node, kind: &str, found: &mut Vec<Found>) {
        let before = found.len();
        let clustered = kind == "ClusterPullSecret";
        let schemas: &Schemas = &SCHEMAS;
        schema::check(node, if clustered { &schemas.cluster_pull_secret } else { &schemas.pull_secret }, &Path::default(), found);
        let metadata = metadata(node, found);
        let text = |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Node::text);
        if clustered && let Some(namespace) = metadata.and_then(|metadata| metadata.get("namespace")) {
            let message = "a ClusterPullSecret belongs to no namespace: remove it, or make it a PullSecret";
            found.push((namespace.at, Problem::new(Code::UnknownField, Path::of(&["metadata", "namespace"]), message)));
        }
        // What the schema refuses the types could not hold; what is said about the rest would be guesswork.
        let (Some(spec), Some(name)) = (node.get("spec"), text("name")) else { return };
        if found[before..].iter().any(|(_, problem)| problem.code != Code::Missing && problem.code != Code::UnknownField) {
            return;
        }
        let json = spec.to_json();
        let unreadable = |error: serde_json::Error| {
            vec![Problem::new(Code::WrongType, Path::of(&["spec"]), format!("cannot be read: {error}"))]
        };
        let rule = if clustered {
            serde_json::from_value::<ClusterPullSecretSpec>(json)
                .map_err(unreadable)
                .and_then(|spec| Rule::from_cluster_pull_secret(name, &spec))
        } else {
            serde_json::from_value::<PullSecretSpec>(json)
                .map_err(unreadable)
                .and_then(|spec| Rule::from_pull_secret(text("namespace").unwrap_or_default(), name, &spec))
        };
        match rule {
            Ok(rule) => {
                let at = metadata.and_then(|metadata| metadata.get("name")).map_or(node.at, |name| name.at);
                self.once(&rule.id().to_string(), file, at, found);
                self.documents.rules.push(rule);
            }
            // A field that is missing has been reported in better words, where serde stops at the first.
            Err(_) if found[before..].iter().any(|(_, problem)| problem.code == Code::Missing) => {}
            Err(problems) => found.extend(problems.into_iter().map(|problem| (node.locate(&problem.path), problem))),
        }
    }

    fn namespace(&mut self, file: &str, node: &Node, found: &mut Vec<Found>) {
        let Some(metadata) = metadata(node, found) else { return };
        let Some(name) = metadata.get("name") else { return };
        let Some(text) = name.text() else { return };
        let mut labels = Labels::new();
        for member in metadata.get("labels").map(Node::members).unwrap_or_default() {
            if let Some(value) = member.value.text() {
                labels.insert(member.key.clone(), value.to_owned());
            }
        }
        self.once(&format!("Namespace {text}"), file, name.at, found);
        self.documents.namespaces.insert(text.to_owned(), labels);
    }

    /// Reports an object that was there before, under the same name.
    fn once(&mut self, object: &str, file: &str, at: At, found: &mut Vec<Found>) {
        let here = format!("{file}:{}:{}", at.0, at.1);
        if let Some(first) = self.seen.get(object) {
            let message = format!("{object} is at {first} already: remove one, or give it another name");
            found.push((at, Problem::new(Code::DuplicateRule, Path::of(&["metadata", "name"]), message)));
        } else {
            self.seen.insert(object.to_owned(), here);
        }
    }
}

fn unknown_kind(node: &Node, version: Option<&str>, kind: Option<&str>, rules: &str) -> Found {
    let (field, message) = match (version, kind) {
        (_, Some(kind @ ("ClusterPullSecret" | "PullSecret"))) => {
            let found = version.map_or("is missing".to_owned(), |version| format!("`{}` is not known", shown(version)));
            ("apiVersion", format!("{found}: write `{rules}` for a {kind}"))
        }
        (_, Some(kind)) => {
            let near = did_you_mean(kind, &["ClusterPullSecret", "PullSecret", "Namespace"]);
            let why = if near.is_empty() { ": rule files hold ClusterPullSecret, PullSecret and Namespace".to_owned() } else { near };
            ("kind", format!("`{}` is not known{why}", shown(kind)))
        }
        (_, None) => ("kind", "is missing: write ClusterPullSecret, PullSecret or Namespace".to_owned()),
    };
    let at = node.get(field).map_or(node.at, |field| field.at);
    (at, Problem::new(Code::UnknownKind, Path::of(&[field]), message))
}

/// Checks what all objects have, and gives `metadata` where it is a mapping.
fn metadata<'n>(node: &'n Node, found: &mut Vec<Found>) -> Option<&'n Node> {
    let path = Path::of(&["metadata"]);
    let Some(metadata) = node.get("metadata").filter(|metadata| matches!(metadata.value, Value::Map(_))) else {
        let at = node.get("metadata").map_or(node.at, |metadata| metadata.at);
        found.push((at, Problem::new(Code::Missing, path, "a mapping with at least a name belongs here")));
        return None;
    };
    for member in metadata.members().iter().filter(|member| !METADATA.contains(&member.key.as_str())) {
        let message = format!("unknown field{}", did_you_mean(&member.key, &METADATA));
        found.push((member.key_at, Problem::new(Code::UnknownField, path.field(&member.key), message)));
    }
    if metadata.get("name").is_none() {
        found.push((metadata.at, Problem::new(Code::Missing, path.field("name"), "a name is missing")));
    }
    let schemas: &Schemas = &SCHEMAS;
    for (name, schema) in [("name", &schemas.text), ("namespace", &schemas.text), ("labels", &schemas.texts)] {
        if let Some(value) = metadata.get(name) {
            schema::check(value, schema, &path.field(name), found);
        }
    }
    Some(metadata)
}

/// The schemas that documents are checked by: those of the CRDs, so that files and the API refuse the same.
struct Schemas {
    cluster_pull_secret: JSONSchemaProps,
    pull_secret: JSONSchemaProps,
    text: JSONSchemaProps,
    texts: JSONSchemaProps,
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let text = JSONSchemaProps { type_: Some("string".to_owned()), min_length: Some(1), ..Default::default() };
    let value = JSONSchemaProps { type_: Some("string".to_owned()), ..Default::default() };
    let texts = JSONSchemaProps {
        type_: Some("object".to_owned()),
        nullable: Some(true),
        additional_properties: Some(JSONSchemaPropsOrBool::Schema(Box::new(value.clone()))),
        ..Default::default()
    };
    let schema_of = |crd: CustomResourceDefinition| {
        let version = crd.spec.versions.into_iter().next();
        let mut schema =
            version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema).unwrap_or_default();
        let properties = schema.properties.get_or_insert_default();
        // Every object has these; a status is the controller's, and is not read from files.
        let anything = JSONSchemaProps { x_kubernetes_preserve_unknown_fields: Some(true), ..Default::default() };
        properties.insert("apiVersion".to_owned(), value.clone());
        properties.insert("kind".to_owned(), value.clone());
        properties.insert("metadata".to_owned(), anything.clone());
        properties.insert("status".to_owned(), anything);
        schema
    };
    Schemas {
        cluster_pull_secret: schema_of(ClusterPullSecret::crd()),
        pull_secret: schema_of(PullSecret::crd()),
        text,
        texts,
    }
});

/// The name of a rule, for whoever holds documents and wants to say which they are.
impl Documents {
    /// The rules' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &RuleId> {
        self.rules.iter().map(Rule::id)
    }
}
