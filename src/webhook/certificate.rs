//! The certificate that the server shows, and how it follows the files that hold it.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Series;
use crate::pki::{Facts, Validity};
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

    /// Whether its certificate is valid now.
    pub fn validity(&self) -> Validity {
        self.facts.validity(Timestamp::now())
    }
}

/// The certificate that connections are shown from now on. Those that are open keep theirs.
#[derive(Debug)]
pub struct Certificates(ArcSwap<ServingPair>);

impl Certificates {
    /// Serves this pair.
    pub fn new(pair: ServingPair) -> Self {
        Self(ArcSwap::from_pointee(pair))
    }

    /// Follows the files that the pair came from. A pair that cannot be used leaves the one before in place, loudly.
    pub async fn follow(&self, paths: PairPaths, first: PairFiles, condition: Condition, series: Series) -> Infallible {
        let mut rejected = None;
        let mut said = None;
        let read = move || paths.read();
        files::watch(&first, read, move |found| {
            if let Some(found) = found {
                rejected = match ServingPair::new(&found) {
                    Ok(pair) => {
                        tracing::info!(certificate = %pair.validity(), "the certificate's files changed; serving the new one");
                        self.0.store(Arc::new(pair));
                        None
                    }
                    Err(error) => {
                        tracing::error!(%error, "the certificate's files changed to what cannot be served; keeping the one before");
                        series.certificate_rejections.inc();
                        Some(error.to_string())
                    }
                };
            }
            let pair = self.0.load();
            let validity = pair.validity();
            series.certificate_not_after.set(pair.facts.not_after.as_second());
            series.certificate_rejected.set(i64::from(rejected.is_some()));
            if said.replace(validity) != Some(validity) {
                say(validity);
            }
            condition.set(match (validity, &rejected) {
                (Validity::Until(_), None) => State::Met(validity.to_string()),
                (Validity::Until(_), Some(error)) => State::Warned(format!("{validity}; the files cannot be served: {error}")),
                (_, None) => State::Missing(validity.to_string()),
                (_, Some(error)) => State::Missing(format!("{validity}; the files cannot be served: {error}")),
            });
        })
        .await
    }
}

fn say(validity: Validity) {
    match validity {
        Validity::Until(_) => tracing::info!("the certificate is {validity}"),
        Validity::Expired(_) | Validity::NotBefore(_) => {
            tracing::error!(
                "the certificate is {validity}: no API server will trust it; serving it until its files change"
            );
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().certified))
    }
}
