//! What the webhook serves, against the `caBundle` of the configuration: would the API server accept it, and if not, why.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::observe::{Seen, about};
use super::reach::{Contact, Made};
use super::report::Statements;
use crate::pki::{BEGINS, Certificate, trusts};
use crate::rules::Code;

/// Whoever renews at two thirds of a certificate's life has failed for long when less than a tenth of it is left; of a long life,
/// less than this.
const LAST_SECONDS: i64 = 30 * DAY;
const DAY: i64 = 24 * 3600;

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The name of the configuration.
    pub(super) configuration: String,
    pub(super) entry: Seen<MutatingWebhook>,
    pub(super) contacts: Vec<Contact>,
    pub(super) now: Timestamp,
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    let about = about::<MutatingWebhookConfiguration>(None, &seen.configuration);
    let entry = match &seen.entry {
        Seen::There(entry) => entry,
        Seen::Absent => return said.unknown(about, "there is none, and so no caBundle to compare with"),
        Seen::Unknown(why) => return said.unknown(about, why),
    };
    let bundle = judge_bundle(entry, &about, seen.now, said);
    for contact in &seen.contacts {
        match contact {
            Contact::NotMade(why) => {
                said.unknown("certificate", format!("what the webhook serves cannot be seen from here: {why}"));
            }
            Contact::Made(made) if made.chain.is_empty() => {
                let why = made.trouble.as_ref().map(|(_, why)| why.as_str()).unwrap_or_default();
                said.unknown(&made.about, format!("shows no certificate: {why}"));
            }
            Contact::Made(made) => judge_served(bundle.as_deref(), made, seen.now, said),
        }
    }
}

/// The authorities in the `caBundle`; `None` when there is nothing that could trust.
fn judge_bundle(
    entry: &MutatingWebhook,
    about: &str,
    now: Timestamp,
    said: &mut Statements,
) -> Option<Vec<CertificateDer<'static>>> {
    const MEND: &str = "with certificates.mode managed the controller writes it (see the check of its Lease), with certManager \
                        cert-manager's cainjector does, with existingSecret set the Helm value certificates.caBundle";
    let bytes = entry.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()).unwrap_or_default();
    if bytes.is_empty() {
        let message = "its caBundle is empty: the API server trusts only authorities of the machine that it runs on, and calls fail";
        said.wrong(Code::NoBundle, about, message, MEND);
        return None;
    }
    // As Go does, what cannot be read is passed over as long as something can.
    let read: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .filter_map(Result::ok)
        .filter(|certificate| X509Certificate::from_der(certificate).is_ok())
        .collect();
    if read.is_empty() {
        let message = "its caBundle holds what is no certificate in PEM: the API server makes no call with it";
        said.wrong(Code::BadBundle, about, message, MEND);
        return None;
    }
    let authorities: Vec<String> = read.iter().map(|certificate| named(certificate, now)).collect();
    said.fine(about, format!("caBundle trusts {}", authorities.join("; ")));
    Some(read)
}

fn judge_served(
    bundle: Option<&[CertificateDer<'static>]>,
    Made { about, name, chain, .. }: &Made,
    now: Timestamp,
    said: &mut Statements,
) {
    let Some(leaf) = chain.first() else { return };
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
        return said.wrong(Code::NotTrusted, about, "what it serves is no X.509 certificate", RENEW);
    };
    let before = said.len();
    let validity = parsed.validity();
    let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let shown = named(leaf, now);
    if now.as_second() > end || now.as_second() < start {
        said.wrong(Code::NotValid, about, format!("serves {shown}: no API server accepts it"), RENEW);
    } else if end - now.as_second() < last_seconds(start, end) {
        let message = format!("serves {shown}: it should have been renewed long ago");
        said.wrong(Code::NotRenewed, about, message, RENEW);
    }
    match is_for(leaf, name) {
        Ok(true) => {}
        Ok(false) => said.wrong(
            Code::WrongName,
            about,
            format!("the API server calls `{name}`, and it serves {shown} for {}", names(&parsed)),
            "make the certificate for the Service's name, `<service>.<namespace>.svc`, or for the host of clientConfig.url",
        ),
        Err(why) => said.unknown(about, why),
    }
    let Some(bundle) = bundle else {
        return said.unknown(about, format!("whether {shown} is trusted, without a caBundle to compare with"));
    };
    match trust(bundle, chain, now) {
        Trust::Trusted => {}
        Trust::Authority(expired) => said.wrong(
            Code::NotValid,
            about,
            format!("the authority that signed {shown} is not valid now: {}", named(&expired, now)),
            RENEW,
        ),
        Trust::Not => {
            let authorities: Vec<String> = bundle.iter().map(|certificate| named(certificate, now)).collect();
            let authorities = authorities.join("; ");
            said.wrong(
                Code::NotTrusted,
                about,
                format!("serves {shown}, signed by `{}`, and caBundle trusts only {authorities}", parsed.issuer()),
                "bring the two together: restart what writes caBundle (the controller, or cert-manager's cainjector), or put the \
                 authority that signed into it",
            );
        }
    }
    if said.is_fine_since(before) {
        said.fine(about, format!("serves {shown}, which caBundle trusts for `{name}`"));
    }
}

/// How much may be left of a certificate at which it should have been renewed long ago; nothing where that cannot be known.
fn last_seconds(start: i64, end: i64) -> i64 {
    // Those that we make do not say when their life began, and a short one never has much left.
    if start == BEGINS { 0 } else { ((end - start) / 10).min(LAST_SECONDS) }
}

const RENEW: &str = "with certificates.mode managed look at the controller's log, with certManager at its Certificate, with \
                     existingSecret put a new pair into the Secret; the webhook takes it up by itself";

/// Whether a chain leads to what is trusted.
#[derive(Debug, PartialEq)]
enum Trust {
    Trusted,
    /// To this authority, which is not valid now.
    Authority(CertificateDer<'static>),
    Not,
}

/// Whether the bundle trusts what is served; dates and names of the leaf are judged by themselves.
fn trust(bundle: &[CertificateDer<'static>], chain: &[CertificateDer<'static>], now: Timestamp) -> Trust {
    let read = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
    let shown: Vec<Certificate> = chain.iter().map_while(read).collect();
    let mut expired = None;
    for authority in bundle {
        let Some(trusted) = read(authority) else { continue };
        if !trusts(&[trusted], &shown) {
            continue;
        }
        if chain.first() == Some(authority) || is_valid(authority, now) {
            return Trust::Trusted;
        }
        expired = Some(authority.clone());
    }
    expired.map_or(Trust::Not, Trust::Authority)
}

fn is_valid(certificate: &CertificateDer<'_>, now: Timestamp) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let validity = certificate.validity();
        (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.as_second())
    })
}

fn is_for(leaf: &CertificateDer<'_>, name: &str) -> Result<bool, String> {
    let name = ServerName::try_from(name).map_err(|_| format!("`{name}` is no name that a certificate can be for"))?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| format!("its names cannot be read: {error}"))?;
    Ok(rustls::client::verify_server_name(&parsed, &name).is_ok())
}

/// The names that a certificate is for, at most ten.
fn names(certificate: &X509Certificate<'_>) -> String {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("`{name}`")),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = address.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            address.ok().map(|address| format!("`{address}`"))
        }
        _ => None,
    });
    let names: Vec<String> = names.take(10).collect();
    if names.is_empty() { "no name (its common name does not count)".to_owned() } else { names.join(", ") }
}

/// `` `CN=pullcred` (valid until 2027-01-31T12:00:00Z) ``
fn named(certificate: &CertificateDer<'_>, now: Timestamp) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return "what is no certificate".to_owned() };
    let validity = parsed.validity();
    let time = |seconds| Timestamp::from_second(seconds).map_or_else(|_| "?".to_owned(), |at| at.to_string());
    let (start, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let when = match now.as_second() {
        now if now < start => format!("not valid before {}", time(start)),
        now if now > end => format!("expired on {}", time(end)),
        _ => format!("valid until {}", time(end)),
    };
    let subject = parsed.subject().to_string();
    let subject = if subject.is_empty() { "a certificate without subject".to_owned() } else { format!("`{subject}`") };
    format!("{subject} ({when})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::{Family, State};
    use crate::pki::Authority;
    use jiff::SignedDuration;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn chain(pem: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    }

    fn judged(bundle: Option<&str>, served: &str, name: &str, now: Timestamp) -> Vec<String> {
        let mut said = Statements::of(Family::Certificate);
        let made = Made { name: name.to_owned(), chain: chain(served), ..Made::default() };
        judge_served(bundle.map(chain).as_deref(), &made, now, &mut said);
        let word = |state: &State| match state {
            State::Fine => "fine".to_owned(),
            State::Unknown => "unknown".to_owned(),
            State::Wrong { code, .. } => code.to_string(),
        };
        said.into_inner().iter().map(|said| word(&said.state)).collect()
    }

    /// A certificate that the controller makes, over all of its life and beyond.
    #[test]
    fn a_certificate_of_the_controller_is_fine_until_its_end_however_short_its_life_is() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let authority = Authority::make(None, 24 * 365 * HOUR, now).unwrap();
        let leaf = authority.sign("pullcred webhook", &["w.p.svc".to_owned()], 720 * HOUR, now).unwrap();
        let other = Authority::make(None, 24 * 365 * HOUR, now).unwrap().certificate().pem();
        let both = format!("{other}{}", leaf.ca_crt);
        let at = |hours: i64| now + SignedDuration::from_hours(hours);
        for (hours, said) in [(0, "fine"), (480, "fine"), (719, "fine"), (721, "PC234")] {
            assert_eq!(judged(Some(&leaf.ca_crt), &leaf.tls_crt, "w.p.svc", at(hours)), [said], "{hours}");
        }
        let short = authority.sign("pullcred webhook", &["w.p.svc".to_owned()], 24 * HOUR, now).unwrap();
        for (hours, said) in [(0, "fine"), (15, "fine"), (25, "PC234")] {
            assert_eq!(judged(Some(&short.ca_crt), &short.tls_crt, "w.p.svc", at(hours)), [said], "{hours}");
        }
        assert_eq!(judged(Some(&both), &leaf.tls_crt, "w.p.svc", now), ["fine"]);
        assert_eq!(judged(Some(&other), &leaf.tls_crt, "w.p.svc", now), ["PC233"]);
        assert_eq!(judged(Some(&other), &leaf.tls_crt, "w.p", at(721)), ["PC234", "PC235", "PC233"]);
        assert_eq!(judged(Some(&leaf.ca_crt), &leaf.tls_crt, "127.0.0.1", now), ["PC235"]);
        // Without a bundle nothing is said of trust, and what can be said is.
        assert_eq!(judged(None, &leaf.tls_crt, "w.p.svc", now), ["unknown"]);
        assert_eq!(judged(None, &leaf.tls_crt, "w.q.svc", now), ["PC235", "unknown"]);
    }

    #[test]
    fn a_certificate_that_an_authority_with_a_p521_key_signed_is_fine() {
        let now: Timestamp = "2027-01-01T12:00:00Z".parse().unwrap();
        let made = include_str!("../../tests/offline/data/certificates/p521.pem");
        let [leaf, authority, namesake] =
            &made.match_indices("-----BEGIN").map(|(at, _)| &made[at..]).collect::<Vec<_>>()[..]
        else {
            panic!("three certificates")
        };
        assert_eq!(judged(Some(authority), leaf, "w.p.svc", now), ["fine"]);
        assert_eq!(judged(Some(namesake), leaf, "w.p.svc", now), ["PC233"]);
    }

    #[test]
    fn how_late_a_renewal_is_depends_on_the_life() {
        let days = |days: i64| days * DAY;
        assert_eq!(last_seconds(BEGINS, BEGINS + days(3000)), 0, "of ours nobody knows");
        for (life, last) in [(1, DAY / 10), (30, 3 * DAY), (365, 365 * DAY / 10), (3650, 30 * DAY)] {
            assert_eq!(last_seconds(1_790_000_000, 1_790_000_000 + days(life)), last.min(LAST_SECONDS), "{life}");
        }
    }
}
