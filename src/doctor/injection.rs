//! A dry-run Pod that must come back patched. Where it does not, a second one with an image that nobody can read tells whether
//! the webhook was called at all: it warns of such an image, rule or no rule.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::installation::selects;
use super::observe::{Rules, Seen, about};
use super::report::Statements;
use crate::cluster::configuration::ENTRY;
use crate::image::{ImagePattern, ImageReference};
use crate::rules::{Code, Labels, Mode, Rule, RuleSet};

/// An image that the API server lets through and nobody can read: a reference has one tag.
pub(super) const UNREADABLE: &str = "pullcred.invalid/doctor:one:two";

/// A Pod that lists a pull secret of its own gets none from its `ServiceAccount`, so that what comes on top is the webhook's.
const OWN: &str = "pullcred-doctor";

const NAME: &str = "pullcred-doctor";

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) namespace: String,
    /// What the Pod should get, or why that cannot be said.
    pub(super) wanted: Result<Wanted, String>,
    /// Whether the configuration excludes the namespace; `None` where that is not known.
    pub(super) excluded: Option<bool>,
    /// A Pod with the image of a rule.
    pub(super) patched: Option<Trial>,
    /// A Pod with an image that nobody can read.
    pub(super) called: Option<Trial>,
}

/// What a Pod should get.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) image: String,
    pub(super) secrets: BTreeSet<String>,
}

/// How asking for a Pod went.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Trial {
    /// It would be created.
    Came {
        secrets: Vec<String>,
        /// Whether the webhook has warned of its image.
        warned: bool,
    },
    /// It would not.
    Refused { code: u16, message: String },
    /// There was no answer, for this reason.
    NoAnswer(String),
}

/// The image to ask with, and the Secrets that the rules give for it.
///
/// # Errors
/// No rule can be asked with; the text says why.
pub(super) fn wanted(
    rules: &Rules,
    namespace: &str,
    labels: Option<&Labels>,
    image: Option<&str>,
) -> Result<Wanted, String> {
    if let Seen::Unknown(why) = &rules.cluster {
        return Err(format!("the rules cannot be seen: {why}"));
    }
    let serving: Vec<Rule> = rules
        .valid()
        .filter(|rule| rule.mode() == Mode::Inject && rule.serves(namespace, labels) == Some(true))
        .cloned()
        .collect();
    let image = match image {
        Some(image) => image.to_owned(),
        None => serving
            .iter()
            .flat_map(Rule::patterns)
            .find_map(covered)
            .ok_or_else(|| format!("no rule of mode Inject serves the namespace `{namespace}`"))?,
    };
    let reference =
        ImageReference::parse(&image).map_err(|error| format!("`{image}` is no image reference: {error}"))?;
    let set = RuleSet::compile(serving);
    let mut secrets = BTreeSet::new();
    set.matching(&reference, namespace, |place, _| _ = secrets.insert(set.rules()[place].secret_name().to_owned()));
    if secrets.is_empty() {
        return Err(format!("no rule of mode Inject that serves the namespace `{namespace}` covers `{image}`"));
    }
    Ok(Wanted { image, secrets })
}

/// An image that a pattern covers.
fn covered(pattern: &ImagePattern) -> Option<String> {
    let image = format!("{}/{NAME}", pattern.as_str().replace('*', "doctor"));
    let is_covered = ImageReference::parse(&image).is_ok_and(|reference| pattern.covers(&reference));
    is_covered.then_some(image)
}

/// Whether the entry leaves the namespace out.
pub(super) fn is_excluded(entry: &Seen<MutatingWebhook>, namespace: &str, labels: &Seen<Labels>) -> Option<bool> {
    selects(entry.there()?.namespace_selector.as_ref(), namespace, labels).ok().map(|selected| !selected)
}

pub(super) fn is_patched(trial: &Trial, wanted: &Result<Wanted, String>) -> bool {
    let (Trial::Came { secrets, .. }, Ok(wanted)) = (trial, wanted) else { return false };
    wanted.secrets.iter().all(|secret| secrets.contains(secret))
}

pub(super) fn is_refused(trial: &Trial) -> bool {
    !matches!(trial, Trial::Came { .. })
}

/// Asks for a Pod that is not created. It passes the Pod Security Standard `restricted` and most quotas.
pub(super) async fn ask(client: &Client, namespace: &str, image: &str) -> Trial {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME},
        "spec": {
            "automountServiceAccountToken": false,
            "imagePullSecrets": [{"name": OWN}],
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "doctor",
                "image": image,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    match send(client, namespace, pod.to_string().into_bytes()).await {
        Ok(trial) => trial,
        Err(error) => Trial::NoAnswer(error.to_string()),
    }
}

async fn send(
    client: &Client,
    namespace: &str,
    body: Vec<u8>,
) -> Result<Trial, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods?dryRun=All"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))?;
    let (head, body) = client.send(request).await?.into_parts();
    let warned = has_warned(&head.headers);
    let answer: Value = serde_json::from_slice(&body.collect().await?.to_bytes())?;
    if !head.status.is_success() {
        let message = answer["message"].as_str().unwrap_or("no reason is given").to_owned();
        return Ok(Trial::Refused { code: head.status.as_u16(), message });
    }
    let references = answer["spec"]["imagePullSecrets"].as_array().cloned().unwrap_or_default();
    let names = references.iter().filter_map(|reference| reference["name"].as_str());
    Ok(Trial::Came { secrets: names.filter(|name| *name != OWN).map(str::to_owned).collect(), warned })
}

/// Whether the webhook says that an image cannot be read: `299 - "pullcred PC101: ..."`.
fn has_warned(headers: &HeaderMap) -> bool {
    let sign = format!("pullcred {}", Code::ImageReference);
    headers.get_all(header::WARNING).iter().any(|warning| String::from_utf8_lossy(warning.as_bytes()).contains(&sign))
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    let about = about::<Pod>(Some(&seen.namespace), NAME);
    if seen.excluded == Some(true) {
        let message = "the webhook configuration excludes this namespace: name another with --namespace";
        return said.unknown(about, message);
    }
    let Some(trial) = seen.patched.as_ref().or(seen.called.as_ref()) else {
        return said.unknown(about, "no dry-run Pod was asked for");
    };
    match trial {
        Trial::NoAnswer(why) => return said.unknown(about, format!("the dry run was not answered: {why}")),
        // The API server names the entry when a call of it failed, and with what error.
        Trial::Refused { message, .. } if message.contains(ENTRY) => {
            return said.wrong(
                Code::CallFailed,
                about,
                format!("would be refused: {message}"),
                "the families connection and certificate find the reason; until it is mended, failurePolicy Ignore lets Pods through",
            );
        }
        Trial::Refused { code, message } => {
            return said.unknown(
                about,
                format!("the dry run is refused for a reason that is not pullcred's ({code}): {message}"),
            );
        }
        Trial::Came { .. } => {}
    }
    let was_called = matches!(&seen.called, Some(Trial::Came { warned: true, .. }));
    match &seen.wanted {
        Ok(wanted) if is_patched(trial, &seen.wanted) => {
            let secrets = wanted.secrets.iter().cloned().collect::<Vec<_>>().join(", ");
            said.fine(about, format!("comes back with {secrets} for `{}`", wanted.image));
        }
        Ok(wanted) if was_called => {
            let lacking = wanted.secrets.iter().cloned().collect::<Vec<_>>().join(", ");
            said.wrong(
                Code::NotPatched,
                about,
                format!("the webhook is called, and does not give {lacking} for `{}` as the rules say", wanted.image),
                "a rule that was made a moment ago takes a second; else see at its /readyz?verbose which rules are in force, and \
                 whether it hears of the API (or serves files, --rules)",
            );
        }
        Err(why) if was_called => said.fine(about, format!("the webhook is called; no patch is expected, for {why}")),
        wanted => match &seen.called {
            Some(Trial::Came { .. }) => {
                let what = wanted.as_ref().map(|wanted| format!(" for `{}`", wanted.image)).unwrap_or_default();
                said.wrong(
                    Code::NotCalled,
                    about,
                    format!("comes back as it was sent{what}: the API server does not get an answer from the webhook, and creates Pods without it"),
                    "the families installation, connection and certificate find the reason; if they find none, the API server itself \
                     cannot reach the webhook: a firewall or NetworkPolicy between control plane and nodes (port 10250), or its log",
                );
            }
            Some(Trial::Refused { code, message }) => said.unknown(
                about,
                format!("is not patched, and whether the webhook is called cannot be told: a Pod to tell it by is refused ({code}): {message}"),
            ),
            _ => said.unknown(about, "is not patched, and whether the webhook is called cannot be told"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::{Family, State};

    fn came(secrets: &[&str], warned: bool) -> Trial {
        Trial::Came { secrets: secrets.iter().map(|name| (*name).to_owned()).collect(), warned }
    }

    fn refused(message: &str) -> Trial {
        Trial::Refused { code: 500, message: message.to_owned() }
    }

    /// What is said of the Pod: `fine`, `unknown`, or a code.
    fn judged(wanted: Result<Wanted, String>, patched: Option<Trial>, called: Option<Trial>) -> String {
        let mut said = Statements::of(Family::Injection);
        let seen = Observed { namespace: "team".to_owned(), wanted, excluded: Some(false), patched, called };
        judge(&seen, &mut said);
        let [said] = &said.into_inner()[..] else { panic!("one statement about one Pod") };
        match &said.state {
            State::Fine => "fine".to_owned(),
            State::Unknown => "unknown".to_owned(),
            State::Wrong { code, .. } => code.to_string(),
        }
    }

    #[test]
    fn silence_is_told_from_an_answer() {
        let wanted = || Ok(Wanted { image: "a.io/x".to_owned(), secrets: BTreeSet::from(["regcred".to_owned()]) });
        let nothing = || Err("no rule serves it".to_owned());
        let failed =
            || refused("failed calling webhook \"inject.pullcred.io\": x509: certificate signed by unknown authority");
        let quota = || refused("exceeded quota");
        #[rustfmt::skip]
        let table = [
            (wanted(), Some(came(&["regcred"], false)),          None,                     "fine"),
            (wanted(), Some(came(&["other", "regcred"], false)), None,                     "fine"),
            (wanted(), Some(came(&[], false)),                   Some(came(&[], true)),    "PC261"),
            (wanted(), Some(came(&["other"], false)),            Some(came(&[], true)),    "PC261"),
            (wanted(), Some(came(&[], false)),                   Some(came(&[], false)),   "PC262"),
            (wanted(), Some(failed()),                           None,                     "PC263"),
            (wanted(), Some(quota()),                            None,                     "unknown"),
            (wanted(), Some(came(&[], false)),                   Some(quota()),            "unknown"),
            (nothing(), None,                                    Some(came(&[], true)),    "fine"),
            (nothing(), None,                                    Some(came(&[], false)),   "PC262"),
            (nothing(), None,                                    Some(failed()),           "PC263"),
            (nothing(), None,                                    Some(quota()),            "unknown"),
            (wanted(), Some(Trial::NoAnswer("gone".to_owned())), None,                     "unknown"),
        ];
        for (wanted, patched, called, said) in table {
            let row = format!("{wanted:?} {patched:?} {called:?}");
            assert_eq!(judged(wanted, patched, called), said, "{row}");
        }
    }

    #[test]
    fn an_image_is_made_that_the_pattern_covers() {
        for (pattern, image) in [
            ("asia.gcr.io", "asia.gcr.io/pullcred-doctor"),
            ("reg.example.com:5000/team", "reg.example.com:5000/team/pullcred-doctor"),
            ("*.azurecr.io", "doctor.azurecr.io/pullcred-doctor"),
            ("docker.io", "docker.io/pullcred-doctor"),
            ("docker.io/library/nginx", "docker.io/library/nginx/pullcred-doctor"),
        ] {
            assert_eq!(covered(&ImagePattern::parse(pattern).unwrap()).as_deref(), Some(image), "{pattern}");
        }
    }

    #[test]
    fn nobody_can_read_the_second_image() {
        assert!(ImageReference::parse(UNREADABLE).is_err());
    }
}
