//! Authorities and the leaves that they sign.

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::certificate::Certificate;

/// Certificates of a cluster are valid from the first second of 2020 on. When it was made is nobody's business but ours, and one that was made
/// by a clock which was ahead is then valid by all others, too.
pub const BEGINS: i64 = 1_577_836_800;

/// The cryptography refused; there is nothing that a person could do otherwise.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct MakeError(#[from] rcgen::Error);

/// An authority that can sign: its certificate and the key of it.
pub struct Authority {
    certificate: Certificate,
    key: KeyPair,
    /// From when on what it signs is valid.
    begins: Timestamp,
}

/// A leaf that an authority has signed. All in PEM.
pub struct Leaf {
    /// The leaf.
    pub tls_crt: String,
    /// The leaf's key, in PKCS #8.
    pub tls_key: String,
    /// The authority's certificate.
    pub ca_crt: String,
}

impl Authority {
    /// Makes one with a new key. Unless it is given a common name it gets one that no other has.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub fn make(common_name: Option<&str>, lifetime: Duration, now: Timestamp) -> Result<Self, MakeError> {
        let key = KeyPair::generate()?;
        // One with a name of its own is for one machine, and one clock.
        let begins = if common_name.is_some() { an_hour_before(now) } else { begins() };
        let own = || {
            let mut name = "pullcred authority ".to_owned();
            // Behind the first byte, which says how the point is written.
            for byte in key.public_key_raw().iter().skip(1).take(8) {
                // Writing to a String cannot fail.
                let _ = write!(name, "{byte:02x}");
            }
            name
        };
        let common_name = common_name.map_or_else(own, str::to_owned);
        let mut params = params(vec![], &common_name, begins, after(now, lifetime))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let made = params.self_signed(&key)?;
        let certificate = Certificate::from_der(made.der()).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self { certificate, key, begins })
    }

    /// The one that a certificate and a key make, if the key is its own. Both in PEM.
    pub(super) fn read(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let certificate = Certificate::read_all(certificate).into_iter().next()?;
        let key = KeyPair::from_pem(std::str::from_utf8(key).ok()?).ok()?;
        // Who has issued itself is an authority.
        (certificate.has_key(&key) && certificate.issued(&certificate)).then_some(Self {
            certificate,
            key,
            begins: begins(),
        })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its key in PEM, as it is stored.
    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs a leaf for these names and addresses. It ends when the authority does, at the latest.
    ///
    /// # Errors
    /// The cryptography refuses, or something is no name.
    pub fn sign(
        &self,
        common_name: &str,
        names: &[String],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Leaf, MakeError> {
        let key = KeyPair::generate()?;
        let mut leaf = params(names.to_vec(), common_name, self.begins, self.end_of_leaf(lifetime, now))?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let ca_crt = self.certificate.pem();
        let issuer = Issuer::from_ca_cert_pem(&ca_crt, &self.key)?;
        Ok(Leaf { tls_crt: leaf.signed_by(&key, &issuer)?.pem(), tls_key: key.serialize_pem(), ca_crt })
    }

    /// When a leaf would end that is signed now.
    pub(super) fn end_of_leaf(&self, lifetime: Duration, now: Timestamp) -> Timestamp {
        after(now, lifetime).min(self.certificate.ends())
    }
}

/// So much later; the end of time where there is no such moment.
pub(super) fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn params(
    names: Vec<String>,
    common_name: &str,
    begins: Timestamp,
    ends: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(begins.as_second())?;
    params.not_after = moment(ends.as_second())?;
    Ok(params)
}

fn begins() -> Timestamp {
    Timestamp::from_second(BEGINS).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// For clocks that are slow.
fn an_hour_before(now: Timestamp) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN)
}

fn moment(second: i64) -> Result<OffsetDateTime, rcgen::Error> {
    OffsetDateTime::from_unix_timestamp(second).map_err(|_| rcgen::Error::Time)
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf(***)")
    }
}
