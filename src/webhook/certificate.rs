//! The certificate that the server shows, and how it follows the files or the Secret that hold it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::Series;
use crate::cluster::Change;
use crate::cluster::objects::{meta, narrow};
use crate::pki::{Certificate, Facts, Validity};
use crate::process::files;
use crate::process::readiness::{Condition, State};

/// Certificates and keys are small.
const BYTES: u64 = 1 << 20;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// One of the files could not be read.
    #[error("{file} {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        error: String,
    },
    /// The file holds no certificate.
    #[error("{0} holds no certificate: PEM that begins with `-----BEGIN CERTIFICATE-----` is needed")]
    NoCertificate(String),
    /// The file holds no key.
    #[error("{0} holds no private key that can be used: PEM in PKCS #8, PKCS #1 or SEC 1, not encrypted, is needed")]
    NoKey(String),
    /// The two do not belong together.
    #[error("the key in {key} does not belong to the certificate in {certificate}: give both of one pair")]
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
    },
}

/// The files of a certificate chain and its key.
#[derive(Debug, Clone)]
pub struct PairPaths {
    /// The chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// The leaf's key in PEM.
    pub key: PathBuf,
}

/// What the files hold. It has no `Debug`, since one of them is a key.
#[derive(Hash)]
pub struct PairFiles {
    certificate: (String, Result<Vec<u8>, String>),
    key: (String, Result<Vec<u8>, String>),
}

/// A certificate and the key that belongs to it.
#[derive(Debug)]
pub struct ServingPair {
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

impl PairPaths {
    /// Reads the files; what cannot be read is told by [`ServingPair::new`].
    pub fn read(&self) -> PairFiles {
        let read = |path: &Path| {
            let bytes = files::read(path, BYTES).map_err(|error| error.to_string());
            (path.display().to_string(), bytes)
        };
        PairFiles { certificate: read(&self.certificate), key: read(&self.key) }
    }
}

impl ServingPair {
    /// The pair that the files hold. It may be expired, or not be valid yet: see [`ServingPair::validity`].
    ///
    /// # Errors
    /// A file is not readable, does not hold what it should, or the two do not belong together.
    pub fn new(files: &PairFiles) -> Result<Self, PairError> {
        let bytes = |(file, bytes): &(String, Result<Vec<u8>, String>)| match bytes {
            Ok(bytes) => Ok((file.clone(), bytes.clone())),
            Err(error) => Err(PairError::Unreadable { file: file.clone(), error: error.clone() }),
        };
        let (file, certificate) = bytes(&files.certificate)?;
        let (key_file, key) = bytes(&files.key)?;

        let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>().unwrap_or_default();
        let facts = chain.first().and_then(|leaf| Facts::read(leaf).ok());
        let Some(facts) = facts else { return Err(PairError::NoCertificate(file)) };
        let Ok(key) = PrivateKeyDer::from_pem_slice(&key) else { return Err(PairError::NoKey(key_file)) };
        match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
            Ok(certified) => Ok(Self { certified: Arc::new(certified), facts }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(PairError::Mismatch { certificate: file, key: key_file }),
            Err(_) => Err(PairError::NoKey(key_file)),
        }
    }

    /// Its chain, leaf first.
    pub(super) fn chain(&self) -> Vec<Certificate> {
        self.certified.cert.iter().filter_map(|certificate| Certificate::from_der(certificate).ok()).collect()
    }

    /// Whether its certificate is valid now.
    pub fn validity(&self) -> Validity {
        self.facts.validity(Timestamp::now())
    }
}

/// The certificate that connections are shown from now on. Those that are open keep theirs. Until there is one, every
/// handshake fails.
#[derive(Debug, Default)]
pub struct Certificates(ArcSwapOption<ServingPair>);

impl Certificates {
    /// Serves this pair from now on.
    pub fn serve(&self, pair: ServingPair) {
        self.0.store(Some(Arc::new(pair)));
    }

    /// What is served now.
    pub(super) fn now(&self) -> Option<Arc<ServingPair>> {
        self.0.load_full()
    }
}

/// Who swaps the certificate and tells how it stands.
pub struct FollowingPair {
    /// What is served.
    pub certificates: Arc<Certificates>,
    /// How it stands.
    pub condition: Condition,
    /// What is counted.
    pub series: Series,
}

impl FollowingPair {
    /// Follows the files that the pair came from. A pair that cannot be used leaves the one before in place, loudly.
    pub async fn follow_files(self, paths: PairPaths, first: PairFiles) -> Infallible {
        let mut rejected = None;
        let mut said = None;
        let read = move || paths.read();
        files::watch(&first, read, move |found| {
            if let Some(found) = found {
                rejected = self.take(&found).err();
            }
            self.look(rejected.as_deref(), &mut said);
        })
        .await
    }

    /// Follows the Secret `namespace/name`, which the changes are of: its type is `kubernetes.io/tls`. As with files, what
    /// cannot be used, and a Secret that is gone, leave the pair before in place, loudly.
    pub async fn follow_secret(self, place: String, mut changes: mpsc::Receiver<Change<TlsSecret>>) -> Infallible {
        let mut wrong = Some(format!("Secret {place} is not read yet"));
        let mut said = None;
        let mut is_there = false;
        let mut looks = interval(files::EVERY);
        loop {
            let change = tokio::select! {
                Some(change) = changes.recv() => Some(change),
                _ = looks.tick() => None,
            };
            match change {
                Some(Change::ListBegins) => is_there = false,
                Some(Change::Put(secret)) => {
                    is_there = true;
                    wrong = self.take(&secret.into_files(&place)).err();
                }
                Some(Change::ListEnds) if is_there => {}
                Some(Change::ListEnds | Change::Gone(_)) => {
                    tracing::error!("Secret {place} is not there; a certificate that was served before still is");
                    wrong = Some(format!("Secret {place} is not there"));
                }
                // Once it has been read, only a change could matter, and the watches of the rules tell of an API that is away.
                Some(Change::Trouble(trouble)) if self.certificates.0.load().is_none() => {
                    wrong = Some(format!("Secret {place}: secrets {trouble}"));
                }
                Some(Change::Trouble(_)) | None => {}
            }
            self.look(wrong.as_deref(), &mut said);
        }
    }

    /// Serves what was found, if it can be.
    fn take(&self, found: &PairFiles) -> Result<(), String> {
        match ServingPair::new(found) {
            Ok(pair) => {
                tracing::info!(certificate = %pair.validity(), "the certificate changed; serving the new one");
                self.certificates.serve(pair);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the certificate changed to what cannot be served; keeping the one before, if any");
                self.series.certificate_rejections.inc();
                Err(error.to_string())
            }
        }
    }

    /// Says how the certificate stands now.
    fn look(&self, rejected: Option<&str>, said: &mut Option<Validity>) {
        self.series.certificate_rejected.set(i64::from(rejected.is_some()));
        let rejected = rejected.map(|error| format!("what is there now cannot be served: {error}"));
        let pair = self.certificates.0.load();
        let Some(pair) = &*pair else {
            return self.condition.missing(rejected.unwrap_or_else(|| "there is none yet".to_owned()));
        };
        let validity = pair.validity();
        self.series.certificate_not_after.set(pair.facts.not_after.as_second());
        if said.replace(validity) != Some(validity) {
            say(validity);
        }
        self.condition.set(match (validity, rejected) {
            (Validity::Until(_), None) => State::Met(validity.to_string()),
            (Validity::Until(_), Some(error)) => State::Warned(format!("{validity}; {error}")),
            (_, None) => State::Missing(validity.to_string()),
            (_, Some(error)) => State::Missing(format!("{validity}; {error}")),
        });
    }
}

/// A Secret of type `kubernetes.io/tls`.
#[derive(Clone, Deserialize)]
pub struct TlsSecret {
    #[serde(deserialize_with = "meta")]
    metadata: ObjectMeta,
    #[serde(rename = "type", default)]
    type_: Option<String>,
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

narrow!(TlsSecret, "Secret", "secrets", NamespaceResourceScope);

impl TlsSecret {
    fn into_files(mut self, place: &str) -> PairFiles {
        const TLS: &str = "kubernetes.io/tls";
        let is_tls = self.type_.as_deref() == Some(TLS);
        let mut entry = |key: &str| {
            let found = match self.data.remove(key) {
                _ if !is_tls => Err(format!("is in a Secret of another type than {TLS}")),
                Some(ByteString(bytes)) => Ok(bytes),
                None => Err("is missing".to_owned()),
            };
            (format!("{key} of Secret {place}"), found)
        };
        PairFiles { certificate: entry("tls.crt"), key: entry("tls.key") }
    }
}

impl fmt::Debug for TlsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSecret(***)")
    }
}

fn say(validity: Validity) {
    match validity {
        Validity::Until(_) => tracing::info!("the certificate is {validity}"),
        Validity::Expired(_) | Validity::NotBefore(_) => {
            tracing::error!(
                "the certificate is {validity}: no API server will trust it; serving it until another is there"
            );
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().as_ref()?.certified))
    }
}
