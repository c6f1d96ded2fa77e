//! Docker configs: the credentials of registries, as Secrets hold them and the kubelet reads them
//! (pkg/credentialprovider/config.go and pkg/credentialprovider/secrets in Kubernetes).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use super::json::{self, JsonError};
use super::near_miss::shown_key;

/// The two types of Secret that hold a docker config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretType {
    /// `kubernetes.io/dockerconfigjson`, under the key `.dockerconfigjson`: entries under `auths`.
    DockerConfigJson,
    /// `kubernetes.io/dockercfg`, under the key `.dockercfg`: the entries alone.
    DockerCfg,
}

impl SecretType {
    /// The type of this name; `None` for every other type, which the kubelet passes over.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/dockerconfigjson" => Some(Self::DockerConfigJson),
            "kubernetes.io/dockercfg" => Some(Self::DockerCfg),
            _ => None,
        }
    }

    /// The key of the Secret's data that holds the docker config.
    pub fn data_key(self) -> &'static str {
        match self {
            Self::DockerConfigJson => ".dockerconfigjson",
            Self::DockerCfg => ".dockercfg",
        }
    }
}

/// A user name and a password. Neither prints.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credential {
    username: String,
    password: String,
}

impl Credential {
    /// A credential of these.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// Whether there is neither user name nor password. The kubelet counts such an entry as a credential all the same, and
    /// pulls anonymously no more.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.password.is_empty()
    }

    /// The user name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

/// The entries of a docker config, by their keys as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig(BTreeMap<String, Credential>);

/// Why a Secret's data is no docker config. With one such Secret in a Pod's list the kubelet finds no credential for any of
/// its images. Nothing of the data is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// Not the JSON that belongs there.
    #[error("the docker config {0}")]
    Json(#[from] NotDockerConfig),
    /// An `auth` that is not base64.
    #[error("the entry `{key}` has an `auth` that is not base64 of `user:password`")]
    Auth {
        /// The entry's key, as [`shown_key`] gives it.
        key: String,
    },
}

/// What is wrong with the JSON of a docker config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct NotDockerConfig(JsonError);

impl From<JsonError> for DockerConfigError {
    fn from(error: JsonError) -> Self {
        Self::Json(NotDockerConfig(error))
    }
}

impl DockerConfig {
    /// Reads the data of a Secret.
    ///
    /// # Errors
    /// Where the kubelet's reading fails.
    pub fn parse(kind: SecretType, data: &[u8]) -> Result<Self, DockerConfigError> {
        let text = json::lossy(data);
        let Some(members) = json::members(json::value(&text)?)? else { return Ok(Self::default()) };
        if kind == SecretType::DockerCfg {
            return entries(members, BTreeMap::new()).map(Self);
        }
        let mut config = BTreeMap::new();
        for (name, value) in members {
            if json::names(&name, "auths") {
                // A repeated `auths` adds to the first, and `null` takes all away.
                config = match json::members(value)? {
                    Some(members) => entries(members, config)?,
                    None => BTreeMap::new(),
                };
            } else if json::names(&name, "HttpHeaders") {
                for (_, header) in json::members(value)?.into_iter().flatten() {
                    json::text(header)?;
                }
            }
        }
        Ok(Self(config))
    }

    /// The entries, by their keys as written.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Credential)> {
        self.0.iter().map(|(key, credential)| (key.as_str(), credential))
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The data of a Secret of type [`SecretType::DockerConfigJson`] with these entries, the same bytes for the same entries:
    /// in the order of their keys, each with `username`, `password`, and the `auth` of both for readers that know no other.
    ///
    /// A user name with a colon cannot be told in an `auth`, which is split at the first one; that entry has none.
    pub fn to_json(&self) -> DockerConfigJson {
        let auths: serde_json::Map<_, _> = self
            .entries()
            .map(|(key, Credential { username, password })| {
                let auth = (!username.contains(':')).then(|| BASE64_STANDARD.encode(format!("{username}:{password}")));
                let mut entry = serde_json::json!({ "username": username, "password": password });
                if let Some(auth) = auth {
                    entry["auth"] = auth.into();
                }
                (key.to_owned(), entry)
            })
            .collect();
        DockerConfigJson(serde_json::json!({ "auths": auths }).to_string())
    }
}

impl FromIterator<(String, Credential)> for DockerConfig {
    fn from_iter<I: IntoIterator<Item = (String, Credential)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// What a Secret of type [`SecretType::DockerConfigJson`] holds under `.dockerconfigjson`. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct DockerConfigJson(String);

impl DockerConfigJson {
    /// The JSON text, with the passwords in it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DockerConfigJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DockerConfigJson(***)")
    }
}

fn entries(
    members: Vec<(String, &RawValue)>,
    mut config: BTreeMap<String, Credential>,
) -> Result<BTreeMap<String, Credential>, DockerConfigError> {
    for (key, value) in members {
        let credential = credential(&key, value)?;
        config.insert(key, credential);
    }
    Ok(config)
}

/// `DockerConfigEntry.UnmarshalJSON`: `auth` wins over `username` and `password`; what is missing is empty.
fn credential(key: &str, value: &RawValue) -> Result<Credential, DockerConfigError> {
    let mut credential = Credential::default();
    let (mut auth, mut email) = (String::new(), String::new());
    for (name, value) in json::members(value)?.into_iter().flatten() {
        let field = [
            ("username", &mut credential.username),
            ("password", &mut credential.password),
            ("email", &mut email),
            ("auth", &mut auth),
        ];
        if let Some((_, field)) = field.into_iter().find(|(field, _)| json::names(&name, field))
            && let Some(text) = json::text(value)?
        {
            *field = text;
        }
    }
    if auth.is_empty() {
        return Ok(credential);
    }
    decode_auth(&auth).ok_or_else(|| DockerConfigError::Auth { key: shown_key(key).into_owned() })
}

/// `decodeDockerConfigFieldAuth`: base64 with or without padding, newlines anywhere, loose trailing bits; split at the first
/// colon.
fn decode_auth(auth: &str) -> Option<Credential> {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let padding =
        if auth.trim().ends_with('=') { DecodePaddingMode::RequireCanonical } else { DecodePaddingMode::RequireNone };
    let engine = GeneralPurpose::new(&STANDARD, config.with_decode_padding_mode(padding));
    let decoded = engine.decode(auth.replace(['\r', '\n'], "")).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(Credential { username: json::lossy(&decoded[..colon]), password: json::lossy(&decoded[colon + 1..]) })
}
