//! Certificates for a person's own machine: an authority that signs one leaf for the loopback names and is then forgotten.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::Facts;

/// The names that the leaf is valid for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The authority's common name, by which its leaves are known again.
const AUTHORITY: &str = "pullcred development authority";

/// The leaf and its authority are valid for a year, and from an hour ago, for clocks that are slow.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
const BEFORE: SignedDuration = SignedDuration::from_hours(1);

/// An authority's certificate, and a leaf with its key. All in PEM.
pub struct Development {
    /// The authority's certificate.
    pub ca_crt: String,
    /// The leaf, signed by the authority.
    pub tls_crt: String,
    /// The leaf's key, in PKCS #8.
    pub tls_key: String,
}

/// The cryptography refused; there is nothing that a person could do otherwise.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct MakeError(#[from] rcgen::Error);

/// Makes an authority and a leaf for `localhost`, `127.0.0.1` and `::1`. The authority's key is forgotten: nothing else can
/// ever be signed with it.
///
/// # Errors
/// The cryptography refuses.
pub fn make_development(now: Timestamp) -> Result<Development, MakeError> {
    let authority_key = KeyPair::generate()?;
    let mut authority = params(vec![], AUTHORITY, now)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_crt = authority.self_signed(&authority_key)?.pem();

    let key = KeyPair::generate()?;
    let names = NAMES.map(str::to_owned).to_vec();
    let mut leaf = params(names, "pullcred development webhook", now)?;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let tls_crt = leaf.signed_by(&key, &Issuer::new(authority, &authority_key))?.pem();
    Ok(Development { ca_crt, tls_crt, tls_key: key.serialize_pem() })
}

fn params(names: Vec<String>, common_name: &str, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(now - BEFORE)?;
    params.not_after = moment(now + LIFETIME)?;
    Ok(params)
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, rcgen::Error> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| rcgen::Error::Time)
}

/// Whether a leaf is one that [`make_development`] made, and so may be replaced.
pub fn was_made_here(leaf: &Facts) -> bool {
    leaf.issuer == AUTHORITY
}
