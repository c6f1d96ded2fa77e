//! The source `secretRef`: a Secret beside pullcred that holds a docker config.

use crate::controller::objects::SourceSecret;
use crate::image::{DockerConfig, ImagePattern, SecretType, shown_key};
use crate::provision::SourceState;

/// The entries of the Secret that can serve the images of a rule, or what is wrong. `name` and `namespace` say where the
/// Secret is looked for.
pub(in crate::controller) fn read(
    secret: Option<&SourceSecret>,
    namespace: &str,
    name: &str,
    patterns: &[ImagePattern],
) -> Result<DockerConfig, SourceState> {
    let Some(secret) = secret else {
        return Err(SourceState::Missing(format!(
            "Secret {name} is not in namespace {namespace}: create it there with `kubectl create secret docker-registry`."
        )));
    };
    let invalid = |what: String| SourceState::Invalid(format!("Secret {name} in namespace {namespace} {what}"));
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    let Some(kind) = SecretType::parse(type_) else {
        return Err(invalid(format!(
            "is of type {type_}: make it anew with type kubernetes.io/dockerconfigjson, as `kubectl create secret \
             docker-registry` does."
        )));
    };
    let data = secret.data.as_ref().and_then(|data| data.get(kind.data_key()));
    let data = data.ok_or_else(|| invalid(format!("has no key {}.", kind.data_key())))?;
    let config = DockerConfig::parse(kind, &data.0)
        .map_err(|error| invalid(format!("cannot be read by the kubelet: {error}.")))?;
    if config.is_empty() {
        return Err(invalid("holds no credential.".to_owned()));
    }
    let slice = config.slice(patterns);
    if slice.is_empty() {
        let keys: Vec<_> = config.entries().map(|(key, _)| shown_key(key)).take(5).collect();
        return Err(invalid(format!(
            "covers none of the rule's images: it holds credentials for {}; write the registry of `images` with \
             `--docker-server`.",
            keys.join(", ")
        )));
    }
    Ok(slice)
}
