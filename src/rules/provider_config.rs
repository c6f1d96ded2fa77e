//! The kubelet's `CredentialProviderConfig`: which credential provider plugins there are and how each is run.
//!
//! Read as the kubelet reads it (pkg/credentialprovider/plugin/config.go in Kubernetes 1.36), with every fault in it found
//! at once, as in rules. One thing is refused that a kubelet can do: `tokenAttributes`, since pullcred asks for no single
//! Pod and so has no ServiceAccount token to give.

use std::{collections::BTreeSet, fmt, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde::Deserialize;

use super::{
    duration,
    finding::{Code, FieldPath, Finding, Problem, one_of, quoted},
    reader::{SourceFile, decode, list, object, placed_documents, text, unread},
    shape::{self, Misfits},
    tree::{NodeId, Tree, Value},
};
use crate::image;

const KIND: &str = "CredentialProviderConfig";
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
const PROTOCOL_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];

/// One plugin: a program in the operator's directory, and how it is run. Only its name prints: its variables may hold
/// credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    /// The program's name, without a path.
    pub name: String,
    /// The version of the protocol that it is asked in and must answer in: `credentialprovider.kubelet.k8s.io/v1` or older.
    pub api_version: String,
    /// Which images it may be asked for, in the syntax of the keys of a docker config.
    pub match_images: Vec<String>,
    /// How long its credentials hold when it does not say; zero is once.
    pub default_cache_duration: Duration,
    /// What it is started with.
    pub args: Vec<String>,
    /// What is added to the environment, by name and value.
    pub env: Vec<(String, String)>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a provider looks like; the schema has checked it before.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    name: String,
    api_version: String,
    match_images: Vec<String>,
    default_cache_duration: String,
    args: Vec<String>,
    env: Vec<Variable>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

/// Reads the file, and answers either with its plugins or with all that is wrong in it.
pub fn read_credential_provider_config(file: &SourceFile<'_>) -> Result<Vec<Provider>, Vec<Finding>> {
    let finding = |at, problem| Finding { file: file.name.into(), at, problem };
    let text = decode(file.text).map_err(|(at, problem)| vec![finding(at, problem)])?;
    let mut providers = None;
    let mut findings = Vec::new();
    for document in placed_documents(text) {
        let mut tree = match document {
            Ok(tree) => tree,
            Err((at, problem)) => {
                findings.push(finding(Some(at), problem));
                continue;
            }
        };
        let faults = std::mem::take(&mut tree.problems);
        findings.extend(faults.into_iter().map(|(at, problem)| finding(Some(at), problem)));
        let Some(root) = tree.root() else { continue };
        if providers.is_some() {
            let message = "is a second document: one file holds one CredentialProviderConfig";
            let problem = Problem::new(Code::Duplicate, FieldPath::default(), message);
            findings.push(finding(Some(tree.at(root)), problem));
            continue;
        }
        let (read, misfits, problems) = read_document(&tree, root);
        findings.extend(misfits.problems.into_iter().map(|(at, problem)| finding(Some(at), problem)));
        findings.extend(problems.into_iter().map(|problem| finding(Some(tree.position(root, &problem.path)), problem)));
        providers = Some(read);
    }
    findings.sort_by_key(|finding| finding.at);
    match providers {
        _ if !findings.is_empty() => Err(findings),
        Some(providers) => Ok(providers),
        None => {
            let message = format!("is empty: write a document of kind `{KIND}`");
            Err(vec![Finding::about_file(file.name, Code::Missing, message)])
        }
    }
}

fn read_document(tree: &Tree<'_>, root: NodeId) -> (Vec<Provider>, Misfits, Vec<Problem>) {
    let mut misfits = Misfits::default();
    let mut problems = Vec::new();
    let path = FieldPath::default();
    if tree.text(root, "kind") != Some(KIND) {
        problems.push(Problem::new(Code::UnknownKind, path.field("kind"), format!("is not `{KIND}`: write that")));
        return (Vec::new(), misfits, problems);
    }
    if !tree.text(root, "apiVersion").is_some_and(|version| CONFIG_VERSIONS.contains(&version)) {
        let message = format!("is no version of {KIND}: write {}", one_of(CONFIG_VERSIONS));
        problems.push(Problem::new(Code::UnknownKind, path.field("apiVersion"), message));
    }
    let fitted = shape::fit(tree, root, &schema(), &path, &mut misfits).unwrap_or_default();
    let written: Vec<Written> =
        fitted.get("providers").and_then(|providers| Vec::deserialize(providers).ok()).unwrap_or_default();
    let path = path.field("providers");
    if written.is_empty() {
        let message = "is missing or empty: write at least one provider";
        problems.push(Problem::new(Code::Missing, path.clone(), message));
    }
    let mut names = BTreeSet::new();
    let mut providers = Vec::new();
    for (index, provider) in written.into_iter().enumerate() {
        let path = path.index(index);
        if !names.insert(provider.name.clone()) {
            let message = format!("{} is already there: each provider is written once", quoted(&provider.name));
            problems.push(Problem::new(Code::Duplicate, path.field("name"), message));
        }
        providers.push(validate(provider, &path, &mut problems));
    }
    for (index, provider) in items(tree, root).iter().enumerate() {
        if tree.field(*provider, "tokenAttributes").is_some() {
            let message = "is not supported: pullcred asks for a registry and not for one Pod, so it has no ServiceAccount \
                           token to give; remove it and let the plugin use its own identity";
            let path = path.index(index).field("tokenAttributes");
            problems.push(Problem::new(Code::NotAllowed, path, message));
        }
    }
    problems.retain(|problem| !misfits.has_spoken_of(&problem.path));
    (providers, misfits, problems)
}

fn items<'t>(tree: &'t Tree<'_>, root: NodeId) -> &'t [NodeId] {
    match tree.field(root, "providers").map(|providers| tree.value(providers)) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn validate(written: Written, path: &FieldPath, problems: &mut Vec<Problem>) -> Provider {
    let mut report = |code, path, message: String| problems.push(Problem::new(code, path, message));
    let Written { name, api_version, match_images, default_cache_duration, args, env } = written;
    match name.as_str() {
        "" => {
            report(Code::Missing, path.field("name"), "is missing: write the name of the plugin's program".to_owned());
        }
        "." | ".." => report(Code::Name, path.field("name"), format!("{} is no program's name", quoted(&name))),
        name if name.contains(['/', ' ']) => {
            let message =
                format!("{} holds a `/` or a space: write the name of a program in the directory", quoted(name));
            report(Code::Name, path.field("name"), message);
        }
        _ => {}
    }
    if !PROTOCOL_VERSIONS.contains(&api_version.as_str()) {
        let message = format!("is no version of the protocol: write {}", one_of(PROTOCOL_VERSIONS));
        report(Code::NotAllowed, path.field("apiVersion"), message);
    }
    if match_images.is_empty() {
        let message = "is missing or empty: write the images that the plugin is for, such as `*.azurecr.io`";
        report(Code::Missing, path.field("matchImages"), message.to_owned());
    }
    for (index, pattern) in match_images.iter().enumerate() {
        if image::matches(pattern.as_bytes(), b"registry.example/image") == Err(image::NoMatch::NotAUrl) {
            let message = format!("{} is no image pattern: write `host[:port][/path]`", quoted(pattern));
            report(Code::ImagePattern, path.field("matchImages").index(index), message);
        }
    }
    let default_cache_duration = match duration::parse(&default_cache_duration) {
        Ok(duration) => duration,
        Err(message) => {
            let code = if default_cache_duration.is_empty() { Code::Missing } else { Code::Duration };
            report(code, path.field("defaultCacheDuration"), message);
            Duration::ZERO
        }
    };
    for (index, variable) in env.iter().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            let message = "is no name of a variable: write one without `=`".to_owned();
            report(Code::Name, path.field("env").index(index).field("name"), message);
        }
    }
    let env = env.into_iter().map(|Variable { name, value }| (name, value)).collect();
    Provider { name, api_version, match_images, default_cache_duration, args, env }
}

fn schema() -> JSONSchemaProps {
    let variable = object([("name", text()), ("value", text())].into_iter());
    let provider = object(
        [
            ("name", text()),
            ("apiVersion", text()),
            ("matchImages", list(text())),
            ("defaultCacheDuration", text()),
            ("args", list(text())),
            ("env", list(variable)),
            ("tokenAttributes", unread()),
        ]
        .into_iter(),
    );
    object([("apiVersion", text()), ("kind", text()), ("providers", list(provider))].into_iter())
}
