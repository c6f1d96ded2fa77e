//! Documents from files: YAML with any number of documents, JSON, and lists of either, with everything that is wrong in
//! any of them found in one go.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, LazyLock},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, value::RawValue};

use super::{
    Labels,
    document::API_VERSION,
    finding::{Code, FieldPath, Finding, Position, Problem, one_of, quoted},
    names,
    rule::{Rule, RuleKind},
    schema::crds,
    shape::{self, Misfits},
    tree::{self, NodeId, Tree, Value},
    validate,
};

/// How large one file may be. Who reads files should stop there; what is larger is refused here all the same.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// A file that somebody has read.
#[derive(Clone, Copy, Debug)]
pub struct SourceFile<'a> {
    /// What findings call it.
    pub name: &'a str,
    /// What is in it. It should be UTF-8 and is not expected to be.
    pub text: &'a [u8],
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Documents {
    /// The rules, in the order in which they were found.
    pub rules: Vec<Rule>,
    /// The labels of the `Namespace` documents. Without a cluster, nothing else is known of any namespace's labels.
    pub namespaces: BTreeMap<String, Labels>,
}

/// Reads all files, and answers either with what they say or with all that is wrong in all of them, in the order of the
/// files and the lines in them.
///
/// A file holds YAML documents or JSON values, each a `ClusterPullSecret`, a `PullSecret`, a `Namespace` (whose labels
/// selectors are asked of, and of which nothing else is read) or a `List` of these.
pub fn read_documents(files: &[SourceFile<'_>]) -> Result<Documents, Vec<Finding>> {
    // Made from the types, which takes longer than to read a usual set of rules.
    static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::default);
    let mut reader =
        Reader { schemas: &SCHEMAS, found: Documents::default(), places: HashMap::new(), findings: Vec::new() };
    for file in files {
        let before = reader.findings.len();
        reader.read_file(file);
        reader.findings[before..].sort_by_key(|finding| finding.at);
    }
    if reader.findings.is_empty() { Ok(reader.found) } else { Err(reader.findings) }
}

/// The kinds of document that a file may hold.
const KINDS: [(&str, &str); 4] =
    [("ClusterPullSecret", API_VERSION), ("PullSecret", API_VERSION), ("Namespace", "v1"), ("List", "v1")];

/// What each kind looks like.
struct Schemas {
    cluster_pull_secret: JSONSchemaProps,
    pull_secret: JSONSchemaProps,
    namespace: JSONSchemaProps,
    list: JSONSchemaProps,
}

impl Default for Schemas {
    fn default() -> Self {
        let specs: HashMap<String, JSONSchemaProps> =
            crds().into_iter().map(|crd| (crd.spec.names.kind.clone(), spec_schema(crd))).collect();
        let of_rule = |kind: RuleKind| {
            let spec = specs.get(kind.as_str()).cloned().unwrap_or_default();
            document(false, [("spec", spec), ("status", unread())])
        };
        Self {
            cluster_pull_secret: of_rule(RuleKind::ClusterPullSecret),
            pull_secret: of_rule(RuleKind::PullSecret),
            namespace: document(true, [("spec", unread()), ("status", unread())]),
            list: document(false, [("items", unread())]),
        }
    }
}

fn spec_schema(crd: CustomResourceDefinition) -> JSONSchemaProps {
    let schema = crd.spec.versions.into_iter().find_map(|version| version.schema?.open_api_v3_schema);
    schema.and_then(|schema| schema.properties?.remove("spec")).unwrap_or_default()
}

/// The fields that all documents have, and those of this one.
fn document<const N: usize>(with_labels: bool, fields: [(&str, JSONSchemaProps); N]) -> JSONSchemaProps {
    /// Everything else that Kubernetes writes into `metadata`; an exported object holds some of it.
    const UNREAD: [&str; 13] = [
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
        "continue",
    ];
    let labels = if with_labels { object_of_text() } else { unread() };
    let metadata = object(
        [("name", text()), ("namespace", text()), ("labels", labels)]
            .into_iter()
            .chain(UNREAD.map(|field| (field, unread()))),
    );
    object([("apiVersion", text()), ("kind", text()), ("metadata", metadata)].into_iter().chain(fields))
}

pub(super) fn object<'f>(fields: impl Iterator<Item = (&'f str, JSONSchemaProps)>) -> JSONSchemaProps {
    let properties = fields.map(|(name, schema)| (name.to_owned(), schema)).collect();
    JSONSchemaProps { type_: Some("object".to_owned()), properties: Some(properties), ..JSONSchemaProps::default() }
}

fn object_of_text() -> JSONSchemaProps {
    let values = JSONSchemaPropsOrBool::Schema(Box::new(text()));
    JSONSchemaProps {
        type_: Some("object".to_owned()),
        additional_properties: Some(values),
        ..JSONSchemaProps::default()
    }
}

pub(super) fn list(items: JSONSchemaProps) -> JSONSchemaProps {
    let items = JSONSchemaPropsOrArray::Schema(Box::new(items));
    JSONSchemaProps { type_: Some("array".to_owned()), items: Some(items), ..JSONSchemaProps::default() }
}

pub(super) fn text() -> JSONSchemaProps {
    JSONSchemaProps { type_: Some("string".to_owned()), ..JSONSchemaProps::default() }
}

pub(super) fn unread() -> JSONSchemaProps {
    JSONSchemaProps::default()
}

struct Reader<'s> {
    schemas: &'s Schemas,
    found: Documents,
    /// Where each document was found, by kind and name.
    places: HashMap<String, (Arc<str>, Position)>,
    findings: Vec<Finding>,
}

/// One document: where it is in its file, and in which tree.
struct Place<'d, 't> {
    file: &'d Arc<str>,
    tree: &'d Tree<'t>,
    node: NodeId,
    /// Empty, or the way to it in a list.
    path: FieldPath,
}

impl Reader<'_> {
    fn read_file(&mut self, file: &SourceFile<'_>) {
        let name: Arc<str> = file.name.into();
        let text = match decode(file.text) {
            Ok(text) => text,
            Err((at, problem)) => return self.findings.push(Finding { file: name, at, problem }),
        };
        for document in placed_documents(text) {
            match document {
                Ok(mut tree) => {
                    for (at, problem) in std::mem::take(&mut tree.problems) {
                        self.findings.push(Finding { file: name.clone(), at: Some(at), problem });
                    }
                    if let Some(root) = tree.root() {
                        self.read_document(&Place { file: &name, tree: &tree, node: root, path: FieldPath::default() });
                    }
                }
                Err((at, problem)) => self.findings.push(Finding { file: name.clone(), at: Some(at), problem }),
            }
        }
    }

    fn read_document(&mut self, place: &Place<'_, '_>) {
        if !matches!(place.tree.value(place.node), Value::Map(_)) {
            let message = "is no document: write a mapping with `apiVersion`, `kind`, `metadata` and `spec`";
            return self.report(place, &FieldPath::default(), Code::WrongType, message);
        }
        let Some(kind) = self.kind(place) else { return };
        match kind {
            "ClusterPullSecret" => {
                self.read_rule(place, &self.schemas.cluster_pull_secret, validate::cluster_pull_secret);
            }
            "PullSecret" => self.read_rule(place, &self.schemas.pull_secret, validate::pull_secret),
            "Namespace" => self.read_namespace(place),
            _ => self.read_list(place),
        }
    }

    /// Which of [`KINDS`] a document is; a wrong version is reported and does not keep it from being read.
    fn kind(&mut self, place: &Place<'_, '_>) -> Option<&'static str> {
        let Some(written) = place.tree.text(place.node, "kind") else {
            let message = format!("is missing: write {}", kinds());
            self.report(place, &FieldPath::default().field("kind"), Code::Missing, message);
            return None;
        };
        let Some((kind, version)) = KINDS.into_iter().find(|(kind, _)| *kind == written) else {
            let instead = shape::instead(written, KINDS.iter().map(|(kind, _)| *kind));
            let message = format!("{} is not a kind that pullcred reads: {instead}", quoted(written));
            self.report(place, &FieldPath::default().field("kind"), Code::UnknownKind, message);
            return None;
        };
        match place.tree.text(place.node, "apiVersion") {
            Some(written) if written == version => {}
            Some(written) => {
                let message = format!("{} is not the version of {kind}: write `{version}`", quoted(written));
                self.report(place, &FieldPath::default().field("apiVersion"), Code::UnknownKind, message);
            }
            None => {
                let message = format!("is missing: write `{version}`");
                self.report(place, &FieldPath::default().field("apiVersion"), Code::Missing, message);
            }
        }
        Some(kind)
    }

    fn read_rule<D: DeserializeOwned>(
        &mut self,
        place: &Place<'_, '_>,
        schema: &JSONSchemaProps,
        validate: fn(&D) -> Result<Rule, Vec<Problem>>,
    ) {
        let mut misfits = Misfits::default();
        let mut object = match shape::fit(place.tree, place.node, schema, &FieldPath::default(), &mut misfits) {
            Some(Json::Object(object)) => object,
            _ => serde_json::Map::new(),
        };
        // What is missing altogether is said field by field, when the document is validated.
        for part in ["metadata", "spec"] {
            object.entry(part).or_insert_with(|| Json::Object(serde_json::Map::new()));
        }
        let is_fit = misfits.problems.is_empty();
        let validated = match serde_json::from_value(Json::Object(object)) {
            Ok(document) => validate(&document),
            Err(error) => {
                let message = format!("does not fit its type: {error}");
                Err(vec![Problem::new(Code::WrongType, FieldPath::default(), message)])
            }
        };
        match validated {
            Ok(rule) if is_fit => {
                let name = rule.id().to_string();
                if self.is_first(place, &name) {
                    self.found.rules.push(rule);
                }
            }
            Ok(_) => {}
            Err(problems) => {
                for problem in problems.into_iter().filter(|problem| !misfits.has_spoken_of(&problem.path)) {
                    self.report(place, &problem.path, problem.code, problem.message);
                }
            }
        }
        self.report_misfits(place, misfits);
    }

    fn read_namespace(&mut self, place: &Place<'_, '_>) {
        let mut misfits = Misfits::default();
        let fitted = shape::fit(place.tree, place.node, &self.schemas.namespace, &FieldPath::default(), &mut misfits);
        let metadata = fitted.as_ref().and_then(|document| document.get("metadata"));
        let path = FieldPath::default().field("metadata").field("name");
        let wrong = match metadata.and_then(|metadata| metadata.get("name")?.as_str()) {
            Some(name) => match names::label(name) {
                Ok(()) => {
                    let labels = metadata.and_then(|metadata| metadata.get("labels")?.as_object());
                    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
                    let labels = labels.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
                    if self.is_first(place, &format!("Namespace {name}")) {
                        self.found.namespaces.insert(name.to_owned(), labels);
                    }
                    None
                }
                Err(wrong) => Some((Code::Name, format!("{} {wrong}", quoted(name)))),
            },
            None => Some((Code::Missing, "is missing: write a name".to_owned())),
        };
        if let Some((code, message)) = wrong.filter(|_| !misfits.has_spoken_of(&path)) {
            self.report(place, &path, code, message);
        }
        self.report_misfits(place, misfits);
    }

    fn read_list(&mut self, place: &Place<'_, '_>) {
        let mut misfits = Misfits::default();
        shape::fit(place.tree, place.node, &self.schemas.list, &FieldPath::default(), &mut misfits);
        self.report_misfits(place, misfits);
        let path = FieldPath::default().field("items");
        let Some(items) = place.tree.field(place.node, "items") else {
            return self.report(place, &path, Code::Missing, "is missing: write the documents of the list");
        };
        let Value::List(items) = place.tree.value(items) else {
            return self.report(place, &path, Code::WrongType, "is no list: write a list of documents");
        };
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            if place.tree.text(*item, "kind") == Some("List") {
                self.report(place, &path, Code::UnknownKind, "is a list in a list: write its documents instead");
            } else {
                self.read_document(&Place { node: *item, path: place.path.join(&path), ..*place });
            }
        }
    }

    /// Whether no document of this kind and name was there before; else says where.
    fn is_first(&mut self, place: &Place<'_, '_>, name: &str) -> bool {
        let path = FieldPath::default().field("metadata").field("name");
        let at = place.tree.position(place.node, &path);
        match self.places.entry(name.to_owned()) {
            Entry::Vacant(vacant) => {
                vacant.insert((place.file.clone(), at));
                true
            }
            Entry::Occupied(first) => {
                let (file, Position { line, column }) = first.get();
                let message =
                    format!("{name} is already in {file}:{line}:{column}: remove one or give it another name");
                self.report(place, &path, Code::Duplicate, message);
                false
            }
        }
    }

    fn report_misfits(&mut self, place: &Place<'_, '_>, misfits: Misfits) {
        for (at, Problem { code, path, message }) in misfits.problems {
            let problem = Problem { code, path: place.path.join(&path), message };
            self.findings.push(Finding { file: place.file.clone(), at: Some(at), problem });
        }
    }

    /// A finding about the field at `path` of the document.
    fn report(&mut self, place: &Place<'_, '_>, path: &FieldPath, code: Code, message: impl Into<String>) {
        let at = place.tree.position(place.node, path);
        let problem = Problem::new(code, place.path.join(path), message);
        self.findings.push(Finding { file: place.file.clone(), at: Some(at), problem });
    }
}

fn kinds() -> String {
    one_of(KINDS.map(|(kind, _)| kind))
}

const START: Position = Position { line: 1, column: 1 };

/// The bytes as text without a byte-order mark; or what keeps them from being text.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, (Option<Position>, Problem)> {
    let refuse = |at: Option<usize>, code: Code, message: String| {
        let at = at.map(|offset| after(START, &String::from_utf8_lossy(&bytes[..offset])));
        Err((at, Problem::new(code, FieldPath::default(), message)))
    };
    if bytes.len() > MAX_FILE_BYTES {
        let message =
            format!("is {} bytes long: at most {MAX_FILE_BYTES} are read, so make several files of it", bytes.len());
        return refuse(None, Code::Unreadable, message);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return refuse(Some(0), Code::Syntax, "is UTF-16: save the file as UTF-8".to_owned());
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            return refuse(
                Some(at),
                Code::Syntax,
                format!("the byte 0x{:02x} is not UTF-8: save the file as UTF-8", bytes[at]),
            );
        }
    };
    match bytes.iter().position(|byte| byte.is_ascii_control() && !b"\t\n\r".contains(byte)) {
        Some(at) => {
            refuse(Some(at), Code::Syntax, format!("the control character 0x{:02x} is not text: remove it", bytes[at]))
        }
        None => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
    }
}

/// The documents of a text, YAML or JSON, each of which may be broken by itself.
pub(super) fn placed_documents(text: &str) -> impl Iterator<Item = Result<Tree<'_>, tree::Broken>> {
    let values = json_values(text).unwrap_or_else(|| vec![(text, START)]);
    values.into_iter().flat_map(|(text, origin)| tree::Documents::new(text, origin))
}

/// JSON values that follow one another without YAML's `---`, each with the place where it begins; `None` when the text
/// is anything else, which YAML may still be.
fn json_values(text: &str) -> Option<Vec<(&str, Position)>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let mut placed = Vec::new();
    let (mut read, mut at) = (0, START);
    while let Some(value) = values.next() {
        let value = value.ok()?.get();
        let end = values.byte_offset();
        at = after(at, &text[read..end - value.len()]);
        placed.push((value, at));
        at = after(at, value);
        read = end;
    }
    Some(placed)
}

/// The place that is reached from `at` by reading `text`.
fn after(at: Position, text: &str) -> Position {
    let breaks = text.replace("\r\n", "\n");
    let lines = breaks.matches(['\n', '\r']).count();
    let last = breaks.rsplit(['\n', '\r']).next().unwrap_or_default().chars().count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let column = if lines == 0 { at.column } else { 1 };
    Position { line: at.line.saturating_add(number(lines)), column: column.saturating_add(number(last)) }
}
