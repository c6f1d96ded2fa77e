//! From the Service to the webhook's answer, each step by itself: name, connection, TLS, HTTP.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, ServiceReference};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::installation::DEFAULT_SECONDS;
use super::observe::{Seen, about};
use super::reach::{Contact, Made, Step};
use super::report::Statements;
use crate::rules::Code;

/// The port that a configuration means when it names none.
const DEFAULT_PORT: i32 = 443;

/// What is looked at.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) entry: Seen<MutatingWebhook>,
    pub(super) service: Seen<Service>,
    pub(super) endpoints: Seen<Vec<Endpoint>>,
    pub(super) contacts: Vec<Contact>,
}

/// A Pod behind the Service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Endpoint {
    pub(super) is_ready: bool,
    pub(super) addresses: Vec<String>,
    /// Its namespace and name.
    pub(super) pod: Option<(String, String)>,
    /// The port that the Service leads to.
    pub(super) port: Option<u16>,
}

/// The port of the Service that the configuration names.
fn port<'a>(named: &ServiceReference, service: &'a Service) -> Option<&'a ServicePort> {
    let wanted = named.port.unwrap_or(DEFAULT_PORT);
    service.spec.as_ref()?.ports.iter().flatten().find(|port| port.port == wanted)
}

/// The port number that the configuration names.
pub(super) fn port_number(named: &ServiceReference) -> u16 {
    named.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(443)
}

/// The Pods that the slices of a Service list, with the port that is meant.
pub(super) fn endpoints(
    named: &ServiceReference,
    service: Option<&Service>,
    slices: Vec<EndpointSlice>,
) -> Vec<Endpoint> {
    let wanted = service.and_then(|service| port(named, service)).map(|port| port.name.clone().unwrap_or_default());
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice.ports.unwrap_or_default();
        let of_service = ports.iter().find(|port| Some(port.name.clone().unwrap_or_default()) == wanted);
        // Without the Service, its only port must be the one.
        let port = of_service.or(if wanted.is_none() && ports.len() == 1 { ports.first() } else { None });
        let port = port.and_then(|port| u16::try_from(port.port?).ok());
        found.extend(slice.endpoints.into_iter().map(|endpoint| {
            Endpoint {
                // Absent means that it is not known, which Kubernetes takes for ready.
                is_ready: endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
                addresses: endpoint.addresses,
                pod: endpoint
                    .target_ref
                    .filter(|target| target.kind.as_deref() == Some("Pod"))
                    .and_then(|target| Some((target.namespace?, target.name?))),
                port,
            }
        }));
    }
    found
}

pub(super) fn judge(seen: &Observed, said: &mut Statements) {
    let entry = match &seen.entry {
        Seen::There(entry) => entry,
        Seen::Absent => return said.unknown("webhook", "where it is is not known without the webhook configuration"),
        Seen::Unknown(why) => return said.unknown("webhook", format!("where it is cannot be seen: {why}")),
    };
    let about = match (&entry.client_config.service, &entry.client_config.url) {
        (Some(named), _) => {
            judge_service(named, seen, said);
            about::<Service>(Some(&named.namespace), &named.name)
        }
        (None, url) => url.clone().unwrap_or_default(),
    };
    for contact in &seen.contacts {
        match contact {
            Contact::NotMade(why) => said.unknown(&about, format!("the webhook could not be called from here: {why}")),
            Contact::Made(made) => judge_contact(made, entry, said),
        }
    }
}

fn judge_service(named: &ServiceReference, seen: &Observed, said: &mut Statements) {
    let about = about::<Service>(Some(&named.namespace), &named.name);
    let service = match &seen.service {
        Seen::There(service) => service,
        Seen::Unknown(why) => return said.unknown(about, why),
        Seen::Absent => {
            return said.wrong(
                Code::NoService,
                about,
                "is not there, and the webhook configuration names it: the API server has nobody to call",
                "upgrade the Helm chart, or correct clientConfig.service in the webhook configuration",
            );
        }
    };
    let number = named.port.unwrap_or(DEFAULT_PORT);
    if port(named, service).is_none() {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports: Vec<String> = ports.map(|port| port.port.to_string()).collect();
        said.wrong(
            Code::ServicePort,
            &about,
            format!("has no port {number}, which the webhook configuration names; it has {}", ports.join(", ")),
            "make clientConfig.service.port of the configuration and the Service's port the same",
        );
    }
    match &seen.endpoints {
        Seen::Unknown(why) => said.unknown(about, format!("which Pods are behind it: {why}")),
        Seen::Absent => said.unknown(about, "which Pods are behind it"),
        Seen::There(endpoints) => {
            let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready).count();
            if ready > 0 {
                return said.fine(about, format!("{ready} of {} Pods behind it are ready", endpoints.len()));
            }
            let message = match endpoints.len() {
                0 => "no Pod is behind it".to_owned(),
                count => format!("none of the {count} Pods behind it is ready"),
            };
            said.wrong(
                Code::NoEndpoint,
                about,
                message,
                format!(
                    "see `kubectl -n {0} get pods` and what a Pod that is not ready says at /readyz?verbose; when there is \
                     none, the Service's selector or the Deployment is wrong",
                    named.namespace
                ),
            );
        }
    }
}

fn judge_contact(made: &Made, entry: &MutatingWebhook, said: &mut Statements) {
    let about = &*made.about;
    let steps: Vec<String> =
        made.steps.iter().map(|(step, time)| format!("{} {}", step.as_str(), milliseconds(*time))).collect();
    let before = if steps.is_empty() { String::new() } else { format!(" (before that: {})", steps.join(", ")) };
    if let Some((step, trouble)) = &made.trouble {
        let (code, mend) = match step {
            Step::Dns => (
                Code::Dns,
                "correct the host in clientConfig.url, or the cluster's DNS; the API server resolves it with its own",
            ),
            Step::Tcp => (
                Code::Tcp,
                "see whether the webhook runs and listens there (port 10250 of its Pods), and whether a NetworkPolicy or firewall is between",
            ),
            Step::Forward => (
                Code::Tcp,
                "see whether the webhook listens on the port that its Service leads to: --listen, by default port 10250",
            ),
            Step::Tls => (
                Code::Tls,
                "see that the port is the webhook's HTTPS port, and that its /readyz?verbose names a certificate",
            ),
            Step::Http => (Code::Http, "see that the port is the webhook's, and its log"),
        };
        let message = format!("{}: {trouble}{before}, {}", step.as_str(), made.road);
        return said.wrong(code, about, message, mend);
    }
    if let Some((status, text)) = &made.answer
        && *status != 200
    {
        let text: String = text.chars().take(200).collect();
        return said.wrong(
            Code::Http,
            about,
            format!("a review is answered by {status} {}, {}", text.trim(), made.road),
            "see that clientConfig names the path /mutate and the webhook's own port",
        );
    }
    let whole: Duration = made.steps.iter().map(|(_, time)| *time).sum();
    let seconds = entry.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or_default()) / 2;
    let message = format!("answers a review: {}, {}", steps.join(", "), made.road);
    if whole > limit {
        said.wrong(
            Code::Slow,
            about,
            format!("{message}; that is more than half of timeoutSeconds ({seconds})"),
            "the longest of the steps says where: DNS, the network, or a webhook with too little CPU",
        );
    } else {
        said.fine(about, message);
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::report::{Family, State};

    fn judged(made: Made, timeout: i32) -> (String, String) {
        let entry = json!({
            "name": "inject.pullcred.io", "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": timeout,
            "clientConfig": {"url": "https://webhook.example/mutate"},
        });
        let seen = Observed {
            entry: Seen::There(serde_json::from_value(entry).unwrap()),
            service: Seen::Absent,
            endpoints: Seen::Absent,
            contacts: vec![Contact::Made(made)],
        };
        let mut said = Statements::of(Family::Connection);
        judge(&seen, &mut said);
        let said = said.into_inner().remove(0);
        let state = match said.state {
            State::Fine => "fine".to_owned(),
            State::Unknown => "unknown".to_owned(),
            State::Wrong { code, .. } => code.to_string(),
        };
        (state, said.message)
    }

    #[test]
    fn the_step_that_failed_is_named_with_the_times_of_those_before() {
        let ms = Duration::from_millis;
        for (step, code) in [
            (Step::Dns, "PC224"),
            (Step::Tcp, "PC225"),
            (Step::Forward, "PC225"),
            (Step::Tls, "PC226"),
            (Step::Http, "PC227"),
        ] {
            let steps = vec![(Step::Dns, ms(3))];
            let made = Made { steps, trouble: Some((step, "refused".to_owned())), ..Made::default() };
            let (state, message) = judged(made, 5);
            assert_eq!(state, code);
            assert!(message.contains("refused") && message.contains("DNS 3.0 ms"), "{message}");
        }
    }

    #[test]
    fn an_answer_is_fine_when_it_is_one_and_came_in_time() {
        let ms = Duration::from_millis;
        let made = |http, status| Made {
            steps: vec![(Step::Tcp, ms(1)), (Step::Tls, ms(4)), (Step::Http, ms(http))],
            answer: Some((status, "{}".to_owned())),
            ..Made::default()
        };
        for (http, status, timeout, said) in [
            (1, 200, 5, "fine"),
            (2490, 200, 5, "fine"),
            (2600, 200, 5, "PC228"),
            (600, 200, 1, "PC228"),
            (1, 404, 5, "PC227"),
            (1, 503, 5, "PC227"),
        ] {
            assert_eq!(judged(made(http, status), timeout).0, said, "{http} {status} {timeout}");
        }
    }

    #[test]
    fn the_port_is_the_one_that_the_service_leads_to() {
        let named: ServiceReference = serde_json::from_value(json!({"name": "w", "namespace": "p"})).unwrap();
        let service = |ports| serde_json::from_value::<Service>(json!({"spec": {"ports": ports}})).unwrap();
        let slice = |ports| {
            let pod = json!({"kind": "Pod", "namespace": "p", "name": "w-0"});
            let endpoints = json!([{"addresses": ["10.0.0.1"], "targetRef": pod}, {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}]);
            let slice = json!({"addressType": "IPv4", "metadata": {}, "ports": ports, "endpoints": endpoints});
            serde_json::from_value::<EndpointSlice>(slice).unwrap()
        };
        let two = json!([{"name": "admin", "port": 8080}, {"name": "https", "port": 10250}]);
        let one = json!([{"port": 10250}]);
        for (service, slices, port) in [
            (
                Some(service(json!([{"name": "https", "port": 443}, {"name": "admin", "port": 8080}]))),
                slice(two.clone()),
                Some(10250),
            ),
            (Some(service(json!([{"port": 443}]))), slice(one.clone()), Some(10250)),
            (Some(service(json!([{"name": "https", "port": 8443}]))), slice(two.clone()), None),
            (None, slice(one), Some(10250)),
            (None, slice(two), None),
        ] {
            let found = endpoints(&named, service.as_ref(), vec![slices]);
            assert_eq!(
                found.iter().map(|one| (one.port, one.is_ready)).collect::<Vec<_>>(),
                [(port, true), (port, false)]
            );
            assert_eq!(found[0].pod, Some(("p".to_owned(), "w-0".to_owned())));
        }
    }
}
