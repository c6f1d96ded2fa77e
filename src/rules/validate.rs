//! From a document to a rule: the one place that decides what is valid, for files and for objects of the API alike.

use super::{
    document::{ClusterPullSecret, ClusterPullSecretSpec, PullSecret, Source},
    duration,
    finding::{Code, FieldPath, Problem, quoted},
    names,
    rule::{Rule, RuleId, RuleKind},
    schema::{MAX_DURATION_LENGTH, MAX_IMAGE_LENGTH, MAX_IMAGES},
    selector::NamespaceSelector,
};
use crate::image::ImagePattern;

/// The rule that a `ClusterPullSecret` states, or everything that is wrong with it.
pub(super) fn cluster_pull_secret(document: &ClusterPullSecret) -> Result<Rule, Vec<Problem>> {
    let ClusterPullSecretSpec {
        images: written,
        namespace_selector,
        secret_name,
        source,
        reclaim_after,
        mode,
        distribution: _,
    } = &document.spec;
    let mut problems = Vec::new();
    let metadata = FieldPath::default().field("metadata");
    let spec = FieldPath::default().field("spec");

    let name = object_name(document.metadata.name.as_deref(), &metadata, &mut problems);
    if document.metadata.namespace.is_some() {
        let message =
            "does not belong here: a ClusterPullSecret is in no namespace; remove it, or write kind `PullSecret`";
        problems.push(Problem::new(Code::UnknownField, metadata.field("namespace"), message));
    }
    let patterns = images(written.as_deref(), &spec, &mut problems);
    let path = spec.field("namespaceSelector");
    let namespaces = if let Some(selector) = namespace_selector {
        NamespaceSelector::compile(selector, &path, &mut problems)
    } else {
        let message = "is missing: write which namespaces may use this credential, `{}` for all of them";
        problems.push(Problem::new(Code::Missing, path, message));
        NamespaceSelector::default()
    };
    let secret_name = secret(secret_name.as_deref(), &name, &spec, &mut problems);
    if let Some(source) = source {
        check_source(source, &spec.field("source"), &mut problems);
        if source.credential_provider.is_some() || source.google_service_account_key.is_some() {
            check_registries_are_known(written.as_deref().unwrap_or_default(), &spec, &mut problems);
        }
    }
    check_duration(reclaim_after, &spec.field("reclaimAfter"), &mut problems);

    let id = RuleId { kind: RuleKind::ClusterPullSecret, namespace: None, name };
    valid(Rule { id, secret_name, mode: *mode, patterns, namespaces }, problems)
}

/// The rule that a `PullSecret` states, or everything that is wrong with it.
pub(super) fn pull_secret(document: &PullSecret) -> Result<Rule, Vec<Problem>> {
    let mut problems = Vec::new();
    let metadata = FieldPath::default().field("metadata");
    let spec = FieldPath::default().field("spec");

    let name = object_name(document.metadata.name.as_deref(), &metadata, &mut problems);
    let path = metadata.field("namespace");
    let namespace = document.metadata.namespace.clone().unwrap_or_default();
    if document.metadata.namespace.is_some() {
        check(Code::Name, names::label(&namespace), path, &namespace, &mut problems);
    } else {
        let message = "is missing: a PullSecret serves the namespace that it is in, write which one";
        problems.push(Problem::new(Code::Missing, path, message));
    }
    let patterns = images(document.spec.images.as_deref(), &spec, &mut problems);
    let secret_name = secret(document.spec.secret_name.as_deref(), &name, &spec, &mut problems);

    let namespaces = NamespaceSelector::only(&namespace);
    let id = RuleId { kind: RuleKind::PullSecret, namespace: Some(namespace), name };
    valid(Rule { id, secret_name, mode: document.spec.mode, patterns, namespaces }, problems)
}

fn valid(rule: Rule, problems: Vec<Problem>) -> Result<Rule, Vec<Problem>> {
    if problems.is_empty() { Ok(rule) } else { Err(problems) }
}

fn object_name(name: Option<&str>, metadata: &FieldPath, problems: &mut Vec<Problem>) -> String {
    required_name(name, metadata.field("name"), names::subdomain, problems).to_owned()
}

/// The name that must stand at `path`, or empty after saying what is wrong.
fn required_name<'d>(
    name: Option<&'d str>,
    path: FieldPath,
    is_right: fn(&str) -> Result<(), String>,
    problems: &mut Vec<Problem>,
) -> &'d str {
    match name {
        Some(name) => check(Code::Name, is_right(name), path, name, problems),
        None => problems.push(Problem::new(Code::Missing, path, "is missing: write a name")),
    }
    name.unwrap_or_default()
}

fn images(written: Option<&[String]>, spec: &FieldPath, problems: &mut Vec<Problem>) -> Vec<ImagePattern> {
    let path = spec.field("images");
    let wrong = match written {
        None => Some((
            Code::Missing,
            "is missing: write the images that need this credential, such as `[asia.gcr.io]`".to_owned(),
        )),
        Some([]) => {
            Some((Code::Missing, "is empty: write at least one image pattern, such as `asia.gcr.io`".to_owned()))
        }
        Some(images) if images.len() > MAX_IMAGES => {
            let message =
                format!("holds {} patterns: at most {MAX_IMAGES} are allowed, so make two rules of it", images.len());
            Some((Code::ImagePattern, message))
        }
        Some(_) => None,
    };
    if let Some((code, message)) = wrong {
        problems.push(Problem::new(code, path, message));
        return Vec::new();
    }
    let mut patterns = Vec::new();
    for (place, text) in written.unwrap_or_default().iter().enumerate() {
        let parsed = if text.len() > MAX_IMAGE_LENGTH {
            Err(format!("{} is {} characters long: at most {MAX_IMAGE_LENGTH} are allowed", quoted(text), text.len()))
        } else {
            ImagePattern::parse(text).map_err(|error| error.to_string())
        };
        match parsed {
            Ok(pattern) => patterns.push(pattern),
            Err(message) => problems.push(Problem::new(Code::ImagePattern, path.index(place), message)),
        }
    }
    patterns
}

/// The name of the Secret: as written, or that of the rule.
fn secret(written: Option<&str>, rule: &str, spec: &FieldPath, problems: &mut Vec<Problem>) -> String {
    if let Some(name) = written {
        check(Code::Name, names::subdomain(name), spec.field("secretName"), name, problems);
    }
    written.unwrap_or(rule).to_owned()
}

fn check_source(source: &Source, path: &FieldPath, problems: &mut Vec<Problem>) {
    let Source { secret_ref, credential_provider, google_service_account_key, unmanaged } = source;
    let count = [
        secret_ref.is_some(),
        credential_provider.is_some(),
        google_service_account_key.is_some(),
        unmanaged.is_some(),
    ]
    .into_iter()
    .filter(|named| *named)
    .count();
    if count != 1 {
        let found = if count == 0 { "holds none" } else { "holds more than one" };
        let message = format!(
            "{found} of `secretRef`, `credentialProvider`, `googleServiceAccountKey` and `unmanaged`: write exactly one; \
             without `source` it is the Secret that has the rule's name"
        );
        problems.push(Problem::new(Code::Source, path.clone(), message));
    }
    if let Some(secret) = secret_ref {
        let path = path.field("secretRef").field("name");
        required_name(secret.name.as_deref(), path, names::subdomain, problems);
    }
    if let Some(provider) = credential_provider {
        let path = path.field("credentialProvider").field("name");
        required_name(provider.name.as_deref(), path, names::credential_provider, problems);
    }
    if let Some(google) = google_service_account_key {
        let path = path.field("googleServiceAccountKey").field("secretRef");
        if let Some(secret) = &google.secret_ref {
            required_name(secret.name.as_deref(), path.field("name"), names::subdomain, problems);
            check(Code::Name, names::secret_key(&secret.key), path.field("key"), &secret.key, problems);
        } else {
            let message = "is missing: write the Secret that holds the key, such as `{name: gcp-key}`";
            problems.push(Problem::new(Code::Missing, path, message));
        }
    }
}

/// A plugin or key is asked for one registry at a time, so each must be known by name.
fn check_registries_are_known(images: &[String], spec: &FieldPath, problems: &mut Vec<Problem>) {
    for (place, image) in images.iter().take(MAX_IMAGES).enumerate().filter(|(_, image)| image.contains('*')) {
        let message = format!(
            "{} does not say which registry to ask: with `credentialProvider` or `googleServiceAccountKey`, write each \
             registry in full, without `*`",
            quoted(image)
        );
        problems.push(Problem::new(Code::Source, spec.field("images").index(place), message));
    }
}

fn check_duration(text: &str, path: &FieldPath, problems: &mut Vec<Problem>) {
    let parsed = if text.len() > MAX_DURATION_LENGTH {
        Err(format!("is {} characters long: at most {MAX_DURATION_LENGTH} are allowed", text.len()))
    } else {
        duration::parse(text).map(drop)
    };
    check(Code::Duration, parsed, path.clone(), text, problems);
}

fn check(code: Code, checked: Result<(), String>, path: FieldPath, text: &str, problems: &mut Vec<Problem>) {
    if let Err(wrong) = checked {
        problems.push(Problem::new(code, path, format!("{} {wrong}", quoted(text))));
    }
}
