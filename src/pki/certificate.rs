//! Certificates as PEM holds them: who issued which, for which names, and whether a client that trusts a bundle accepts a chain.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::facts::{Facts, NotACertificate};

/// A longer chain is not followed.
const LONGEST_CHAIN: usize = 8;

/// One certificate. Two are equal when their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Certificate {
    der: Vec<u8>,
    ends: Timestamp,
    is_authority: bool,
    /// In lower case, and addresses as `IpAddr` writes them.
    names: BTreeSet<String>,
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    /// It is none.
    pub fn from_der(der: &[u8]) -> Result<Self, NotACertificate> {
        let facts = Facts::read(der)?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| NotACertificate)?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
            _ => None,
        });
        Ok(Self { names: names.collect(), is_authority: parsed.is_ca(), ends: facts.not_after, der: der.to_vec() })
    }

    /// All certificates in PEM, in their order. What is something else is left out.
    pub fn read_all(pem: &[u8]) -> Vec<Self> {
        // What comes after a block that cannot be read is nobody's: no client reads it either.
        let blocks = Pem::iter_from_buffer(pem).map_while(Result::ok).filter(|block| block.label == "CERTIFICATE");
        blocks.filter_map(|block| Self::from_der(&block.contents).ok()).collect()
    }

    /// In PEM.
    pub fn pem(&self) -> String {
        let text = BASE64_STANDARD.encode(&self.der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for (at, letter) in text.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push_str("\n-----END CERTIFICATE-----\n");
        pem
    }

    /// The last second in which it is valid.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }

    /// Whether it is valid for all of these names, in lower case, and addresses.
    pub fn is_for(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.names.contains(name))
    }

    /// Whether this is an authority whose key signed the other. Nothing here can verify some signatures that API servers accept (of
    /// P-521 keys: neither *ring*, which rustls has, too, nor x509-parser knows them). Of those the names have to do, and the key
    /// identifiers where both certificates have them: an API server that trusts the authority judges for itself.
    pub fn issued(&self, other: &Self) -> bool {
        let (Ok((_, issuer)), Ok((_, leaf))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&other.der))
        else {
            return false;
        };
        if !self.is_authority || issuer.subject().as_raw() != leaf.issuer().as_raw() {
            return false;
        }
        match leaf.verify_signature(Some(issuer.public_key())) {
            Ok(()) => true,
            Err(X509Error::SignatureUnsupportedAlgorithm) => may_have_signed(&issuer, &leaf),
            Err(_) => false,
        }
    }

    /// Whether a private key in PEM belongs to it. Keys in other forms than PKCS #8, which is ours, are not looked into: they may,
    /// unless the certificate has this common name.
    pub(super) fn may_have_key(&self, pem: &[u8], ours: &str) -> bool {
        let Some(block) = Pem::iter_from_buffer(pem).map_while(Result::ok).next() else { return false };
        match block.label.as_str() {
            "PRIVATE KEY" => KeyPair::try_from(block.contents.as_slice()).is_ok_and(|key| self.has_key(&key)),
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" => !self.is_called(ours),
            _ => false,
        }
    }

    fn is_called(&self, common_name: &str) -> bool {
        X509Certificate::from_der(&self.der).is_ok_and(|(_, parsed)| {
            parsed.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| name == common_name))
        })
    }

    pub(super) fn has_key(&self, key: &KeyPair) -> bool {
        let parsed = X509Certificate::from_der(&self.der);
        parsed.is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info())
    }

    /// Who issued it, as it says itself.
    pub(super) fn issuer(&self) -> Vec<u8> {
        let parsed = X509Certificate::from_der(&self.der);
        parsed.map_or_else(|_| Vec::new(), |(_, parsed)| parsed.issuer().as_raw().to_vec())
    }
}

/// Whether a client that trusts a bundle accepts a chain, leaf first, as far as signatures go: time and names are not looked at.
/// The leaf itself may be in the bundle.
pub fn trusts(bundle: &[Certificate], chain: &[Certificate]) -> bool {
    let Some((mut at, between)) = chain.split_first() else { return false };
    for _ in 0..LONGEST_CHAIN {
        if bundle.iter().any(|trusted| trusted == at || trusted.issued(at)) {
            return true;
        }
        match between.iter().find(|issuer| *issuer != at && issuer.issued(at)) {
            Some(issuer) => at = issuer,
            None => return false,
        }
    }
    false
}

/// Whether the key of one is that by which the other says it was signed, as far as both say it.
fn may_have_signed(issuer: &X509Certificate<'_>, leaf: &X509Certificate<'_>) -> bool {
    let own = issuer.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(own) => Some(own),
        _ => None,
    });
    let signer = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(signer) => signer.key_identifier.as_ref(),
        _ => None,
    });
    own.zip(signer).is_none_or(|(own, signer)| own == signer)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("ends", &self.ends).field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_nothing_here_can_verify_is_judged_by_names_and_key_identifiers() {
        let pem = include_bytes!("../../tests/offline/data/certificates/p521.pem");
        let [leaf, authority, namesake] = &Certificate::read_all(pem)[..] else { panic!("three certificates") };
        assert!(authority.issued(leaf));
        assert!(!namesake.issued(leaf), "its key has another identifier");
        assert!(!leaf.issued(authority) && !leaf.issued(leaf), "it is no authority");
        assert!(trusts(std::slice::from_ref(authority), std::slice::from_ref(leaf)));
    }
}
