//! The key of a Google service account, exchanged for access tokens of one hour (RFC 7523, as
//! <https://developers.google.com/identity/protocols/oauth2/service-account> describes it).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::Uri;
use jiff::Timestamp;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use rustls::{SignatureAlgorithm, SignatureScheme};
use serde::Deserialize;
use serde_json::json;

use super::outside::{CallError, Outside};
use super::{Fetched, Lifetime, one_line, without};
use crate::image::{Credential, ImagePattern};

/// What pulling needs, from Artifact Registry and from gcr.io: reading storage
/// (<https://cloud.google.com/artifact-registry/docs/integrate-compute>, required access scopes). A token that leaks reads
/// what the account may read, and writes nothing.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// The user name that says that the password is an access token.
const USERNAME: &str = "oauth2accesstoken";
/// The longest that Google lets an assertion hold; the token holds as long.
const HOUR: i64 = 3600;

/// The key of a service account, as Google gives it out. It does not print.
#[derive(Clone)]
pub struct ServiceAccountKey {
    email: String,
    id: Option<String>,
    token_uri: Uri,
    /// As written, since the assertion must name it to the letter.
    audience: String,
    signing: Arc<dyn SigningKey>,
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccountKey(***)")
    }
}

/// Why what a Secret holds is no key of a service account. Nothing of it is told.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not JSON.
    #[error("the key is not JSON (line {0}, column {1}): it must be the file that Google gave out, as it is")]
    NotJson(usize, usize),
    /// Another kind of credential.
    #[error("the key has not `\"type\": \"service_account\"`: it must be the key file of a Google service account")]
    NotAServiceAccount,
    /// A field that is not there.
    #[error("the key has no `{0}`, or it is not text: it must be the file that Google gave out, as it is")]
    Missing(&'static str),
    /// Not a key in PEM.
    #[error("the `private_key` of the key is no RSA key in PEM: its line breaks may have been lost")]
    PrivateKey,
    /// Where the token would be asked for.
    #[error(
        "the `token_uri` of the key must be an `https://` URL without user name (`http://` on the loopback address only)"
    )]
    TokenUri,
}

impl ServiceAccountKey {
    /// Reads the key file.
    ///
    /// # Errors
    /// Where it is no key of a service account that can sign.
    pub fn parse(data: &[u8]) -> Result<Self, KeyError> {
        let file: serde_json::Value =
            serde_json::from_slice(data).map_err(|error| KeyError::NotJson(error.line(), error.column()))?;
        let text =
            |field: &'static str| file.get(field).and_then(|value| value.as_str()).ok_or(KeyError::Missing(field));
        if text("type").ok() != Some("service_account") {
            return Err(KeyError::NotAServiceAccount);
        }
        let private =
            PrivateKeyDer::from_pem_slice(text("private_key")?.as_bytes()).map_err(|_| KeyError::PrivateKey)?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&private).map_err(|_| KeyError::PrivateKey)?;
        if signing.algorithm() != SignatureAlgorithm::RSA {
            return Err(KeyError::PrivateKey);
        }
        let audience = text("token_uri")?.to_owned();
        let token_uri = audience.parse().ok().filter(may_be_asked).ok_or(KeyError::TokenUri)?;
        let id = text("private_key_id").ok().map(str::to_owned);
        Ok(Self { email: text("client_email")?.to_owned(), id, token_uri, audience, signing })
    }

    /// A JWT that says who asks for what, signed RS256 (RFC 7515, RFC 7519).
    fn assertion(&self, now: Timestamp) -> Result<String, GoogleError> {
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let now = now.as_second();
        let claims = json!({ "iss": self.email, "scope": SCOPE, "aud": self.audience, "iat": now, "exp": now + HOUR });
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let message = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
        let signer = self.signing.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or(GoogleError::Sign)?;
        let signature = signer.sign(message.as_bytes()).map_err(|_| GoogleError::Sign)?;
        Ok(format!("{message}.{}", encode(&signature)))
    }
}

fn may_be_asked(uri: &Uri) -> bool {
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback = || host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback(),
        _ => false,
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum GoogleError {
    /// What the Secret holds.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot sign.
    #[error("the key of the Google service account cannot sign: make a new one")]
    Sign,
    /// No answer.
    #[error("no Google access token: {0}")]
    Call(#[from] CallError),
    /// A refusal.
    #[error("no Google access token: {host} refused with status {status}{why}")]
    Refused {
        /// Who.
        host: String,
        /// The status of HTTP.
        status: u16,
        /// What it said, as the end of a sentence.
        why: String,
    },
    /// An answer without a token in it.
    #[error("no Google access token: the answer of {host} {wrong}")]
    Answer {
        /// Who.
        host: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

/// What comes back (RFC 6749, sections 5.1 and 5.2).
#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// Asks for an access token, once for all of a rule's images: an entry for each pattern, so that the token is tried for
/// these images alone.
///
/// # Errors
/// Where there is no answer, a refusal, or no token in the answer.
pub async fn fetch(
    key: &ServiceAccountKey,
    images: &[ImagePattern],
    now: Timestamp,
    outside: &Outside,
) -> Result<Fetched, GoogleError> {
    let host = key.token_uri.host().unwrap_or_default().to_owned();
    let assertion = key.assertion(now)?;
    // Nothing in an assertion needs escaping.
    let form = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
    let (status, body) = outside.post_form(&key.token_uri, form).await?;
    if !status.is_success() {
        let why = refusal(status.is_redirection(), &body, &assertion);
        return Err(GoogleError::Refused { host, status: status.as_u16(), why });
    }
    let wrong = |wrong| GoogleError::Answer { host: host.clone(), wrong };
    let token: Token = serde_json::from_slice(&body).map_err(|_| wrong("is no JSON with an `access_token`"))?;
    if token.access_token.is_empty() || !token.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("holds an `access_token` that is none"));
    }
    let lifetime = token.expires_in.filter(|seconds| *seconds > 0);
    let lifetime = lifetime.ok_or_else(|| wrong("does not say in `expires_in` how long the token holds"))?;
    let credential = Credential::new(USERNAME, token.access_token);
    let auths = images.iter().map(|pattern| (pattern.as_str().to_owned(), credential.clone())).collect();
    Ok(Fetched { auths, lifetime: Lifetime::For(Duration::from_secs(lifetime)) })
}

fn refusal(is_redirection: bool, body: &[u8], assertion: &str) -> String {
    if is_redirection {
        return ": it sends elsewhere, which is not followed".to_owned();
    }
    let Refusal { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    let hint = match error.as_str() {
        "invalid_grant" => " (the key may be deleted or disabled, or this machine's clock wrong)",
        _ => "",
    };
    let said: Vec<&str> = [error.as_str(), &error_description].into_iter().filter(|text| !text.is_empty()).collect();
    if said.is_empty() {
        return String::new();
    }
    // What comes back may repeat what was sent.
    let secret = assertion.replace('.', " ") + " " + assertion;
    format!(": {}{hint}", one_line(&without(&said.join(": "), &secret)))
}
