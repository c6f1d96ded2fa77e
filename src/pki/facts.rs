//! What a certificate says of itself, as far as it concerns whoever serves it.

use std::fmt;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The first second in which it is valid.
    pub not_before: Timestamp,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
    /// The common name of who signed it; empty where there is none.
    pub issuer: String,
}

/// Where a moment stands to the time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It is valid, until then.
    Until(Timestamp),
    /// It is not valid yet, but from then on.
    NotBefore(Timestamp),
    /// It was valid until then.
    Expired(Timestamp),
}

/// The bytes are not an X.509 certificate.
#[derive(Debug, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct NotACertificate;

impl Facts {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// It is none.
    pub fn read(der: &[u8]) -> Result<Self, NotACertificate> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NotACertificate)?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| NotACertificate);
        let validity = certificate.validity();
        let issuer = certificate.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
            issuer: issuer.unwrap_or_default().to_owned(),
        })
    }

    /// Whether it is valid at a moment.
    pub fn validity(&self, now: Timestamp) -> Validity {
        match () {
            () if now < self.not_before => Validity::NotBefore(self.not_before),
            () if now > self.not_after => Validity::Expired(self.not_after),
            () => Validity::Until(self.not_after),
        }
    }
}

/// `valid until 2027-01-31T12:00:00Z`
impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Until(end) => write!(f, "valid until {end}"),
            Self::NotBefore(start) => write!(f, "not valid before {start}"),
            Self::Expired(end) => write!(f, "expired on {end}"),
        }
    }
}
