//! What the two Secrets hold, and how it is read whatever is in them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use crate::pki::{Authority, Certificate, Leaf, trusts};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
const FORMER: &str = "former.crt";
const FORMER_KEY: &str = "former.key";
const FORMER_LEAF_ENDS: &str = "former-leaf-ends";

/// The common name of our leaves.
pub(super) const LEAF: &str = "pullcred webhook";

/// More authorities than this are not trusted at once, whatever is done to the Secrets.
const MOST_FORMER: usize = 8;

/// The data of a Secret. Of it only the names print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(pub BTreeMap<String, Vec<u8>>);

impl Content {
    fn get(&self, key: &str) -> &[u8] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn put(&mut self, key: &str, text: impl Into<Vec<u8>>) {
        self.0.insert(key.to_owned(), text.into());
    }

    /// The certificates that the Secret of the authorities holds, however broken the rest of it is.
    pub(super) fn certificates_of_authorities(&self) -> Vec<Certificate> {
        [CERTIFICATE, FORMER].iter().flat_map(|key| Certificate::read_all(self.get(key))).collect()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the Secret of the authorities holds.
#[derive(Debug)]
pub(super) struct Authorities {
    /// The one that signs, as soon as everybody trusts it.
    pub(super) newest: Authority,
    /// The one that signs until then.
    pub(super) signing: Option<Authority>,
    /// Those whose leaves may still be in use, the signing one first.
    pub(super) former: Vec<Certificate>,
}

impl Authorities {
    /// What is held, if there is an authority that can sign.
    pub(super) fn read(content: &Content) -> Option<Self> {
        let newest = Authority::read(content.get(CERTIFICATE), content.get(KEY))?;
        let signing = Authority::read(content.get(FORMER), content.get(FORMER_KEY));
        let mut former = Certificate::read_all(content.get(FORMER));
        former.truncate(MOST_FORMER);
        Some(Self { newest, signing, former })
    }

    /// What goes into `caBundle`, in PEM.
    pub(super) fn bundle(&self) -> String {
        let former = self.former.iter().filter(|former| *former != self.newest.certificate());
        [self.newest.certificate()].into_iter().chain(former).map(Certificate::pem).collect()
    }
}

/// What the Secret of the authorities is to hold.
pub(super) fn authorities(newest: &Authority, signing: Option<&Authority>, former: &[Certificate]) -> Content {
    let mut content = Content::default();
    content.put(CERTIFICATE, newest.certificate().pem());
    content.put(KEY, newest.key_pem());
    if !former.is_empty() {
        content.put(FORMER, former.iter().take(MOST_FORMER).map(Certificate::pem).collect::<String>());
    }
    if let Some(signing) = signing {
        content.put(FORMER_KEY, signing.key_pem());
    }
    content
}

/// What the Secret that the webhook serves holds.
pub(super) enum Served {
    /// Nothing that can be served, for this reason.
    Nothing(&'static str),
    /// A chain, leaf first.
    Chain(Vec<Certificate>),
}

impl Served {
    /// What can be served, and is for these names.
    pub(super) fn read(content: Option<&Content>, names: &[String]) -> Self {
        let Some(content) = content else { return Self::Nothing("there is none") };
        let chain = Certificate::read_all(content.get(CERTIFICATE));
        match chain.first() {
            None => Self::Nothing("the Secret held none"),
            Some(leaf) if !leaf.may_have_key(content.get(KEY), LEAF) => Self::Nothing("the key did not belong to it"),
            Some(leaf) if !leaf.is_for(names) => Self::Nothing("it was not for all names"),
            Some(_) => Self::Chain(chain),
        }
    }
}

/// When the last leaf ends that another authority than the present one has signed, where that is known.
pub(super) fn former_leaf_ends(content: &Content) -> Option<Timestamp> {
    std::str::from_utf8(content.get(FORMER_LEAF_ENDS)).ok()?.parse().ok()
}

/// What is to be served: a leaf, and when those before it end.
pub(super) fn serving(leaf: &Leaf, former_leaf_ends: Option<Timestamp>) -> Content {
    let mut content = Content::default();
    content.put(CERTIFICATE, leaf.tls_crt.as_str());
    content.put(KEY, leaf.tls_key.as_str());
    content.put(AUTHORITY, leaf.ca_crt.as_str());
    if let Some(ends) = former_leaf_ends {
        content.put(FORMER_LEAF_ENDS, ends.to_string());
    }
    content
}

/// The authority by which a client accepts a chain, out of several.
pub(super) fn anchor<'a>(
    chain: &[Certificate],
    of: impl IntoIterator<Item = &'a Certificate>,
) -> Option<&'a Certificate> {
    of.into_iter().find(|authority| trusts(std::slice::from_ref(authority), chain))
}

/// The authorities that whoever wrote the serving Secret named in it.
pub(super) fn named_authorities(content: &Content) -> Vec<Certificate> {
    Certificate::read_all(content.get(AUTHORITY))
}
