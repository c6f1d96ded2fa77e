//! What is known of each rule: the object as last seen, the credential that its copies hold, and how its source stands.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::objects::{ClusterRule, SourceSecret, TeamRule, fingerprint};
use super::sources::{Fetched, Lifetime, secret};
use crate::image::{DockerConfig, DockerConfigJson};
use crate::provision::{Life, Refresh, RuleFacts, SourceState};
use crate::rules::{
    ClusterPullSecret, ClusterPullSecretStatus, Distribution, Problem, PullSecret, PullSecretStatus, Rule,
    parse_duration,
};

/// Where the credential of a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The Secret of this name in the release namespace.
    Secret(String),
    /// The plugin of this name.
    Plugin(String),
    /// A Google key: the Secret in the release namespace, and the key in it.
    Google { secret: String, key: String },
    /// Nobody.
    Unmanaged,
}

impl Origin {
    /// Of an object of the API. What is not filled in was refused on the way here.
    fn of(document: &ClusterPullSecret) -> Self {
        let own_name = || document.name_any();
        let Some(source) = &document.spec.source else { return Self::Secret(own_name()) };
        if source.unmanaged.is_some() {
            Self::Unmanaged
        } else if let Some(plugin) = &source.credential_provider {
            Self::Plugin(plugin.name.clone().unwrap_or_default())
        } else if let Some(key) =
            source.google_service_account_key.as_ref().and_then(|google| google.secret_ref.as_ref())
        {
            Self::Google { secret: key.name.clone().unwrap_or_default(), key: key.key.clone() }
        } else {
            let name = source.secret_ref.as_ref().and_then(|secret| secret.name.clone());
            Self::Secret(name.unwrap_or_else(own_name))
        }
    }

    /// The Secret in the release namespace that it reads.
    pub(super) fn secret(&self) -> Option<&str> {
        match self {
            Self::Secret(name) | Self::Google { secret: name, .. } => Some(name),
            Self::Plugin(_) | Self::Unmanaged => None,
        }
    }
}

/// An object's uid and generation.
pub(super) type Version = (Option<String>, Option<i64>);

/// A rule as it is known.
#[derive(Debug)]
pub(super) struct Known {
    /// The object.
    pub(super) document: ClusterPullSecret,
    /// The rule, or what is wrong with it.
    pub(super) rule: Result<Rule, String>,
    pub(super) origin: Origin,
    /// The docker config of its copies, the last good one.
    pub(super) config: Option<Arc<DockerConfigJson>>,
    pub(super) state: SourceState,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) refreshed_at: Option<Timestamp>,
    /// For what is asked for: when.
    pub(super) refresh: Option<Refresh>,
    /// Whether somebody is being asked, and since which version the question is the same.
    pub(super) is_asking: bool,
    pub(super) question: Version,
    /// Whether the answer will be to a question of before.
    is_outdated: bool,
    /// The status that was written last, and what the API has made of it.
    pub(super) said: Option<(ClusterPullSecretStatus, Option<ClusterPullSecretStatus>)>,
}

impl Known {
    /// A rule that was not known before.
    pub(super) fn new(object: ClusterRule, now: Duration) -> Self {
        let (document, unreadable) = object.into_document();
        let origin = Origin::of(&document);
        let rule = unreadable.map_or_else(|| in_words(Rule::from_cluster_pull_secret(&document)), Err);
        let refresh = match origin {
            // Nobody is asked for a rule that is left out.
            _ if rule.is_err() => None,
            Origin::Plugin(_) => Some(Refresh::at_once(now)),
            // As soon as the key is there.
            Origin::Google { .. } => Some(Refresh::default()),
            Origin::Secret(_) | Origin::Unmanaged => None,
        };
        let state = if origin == Origin::Unmanaged { SourceState::Unmanaged } else { SourceState::Unknown };
        let (expires_at, refreshed_at) = said_of(&document);
        Self {
            question: version_of(&document),
            rule,
            expires_at,
            refreshed_at,
            document,
            origin,
            config: None,
            state,
            refresh,
            is_asking: false,
            is_outdated: false,
            said: None,
        }
    }

    /// The object has changed. Whether what the copies hold has to be found out anew.
    pub(super) fn update(&mut self, object: ClusterRule, now: Duration) -> bool {
        let new = Self::new(object, now);
        let is_other =
            version_of(&self.document) != version_of(&new.document) || self.document.spec != new.document.spec;
        if !is_other {
            self.document = new.document;
        } else if self.asks_for_the_same(&new) {
            // Who is asked already is not asked again.
            self.refresh = self.refresh.filter(|_| new.refresh.is_some()).or(new.refresh);
            (self.document, self.rule) = (new.document, new.rule);
        } else {
            // What another source gave, or for other images, goes to nobody whom the rule serves only now.
            *self = Self { expires_at: None, refreshed_at: None, ..new };
        }
        is_other
    }

    /// Whether what this rule's copies hold is what the other one's are to hold.
    fn asks_for_the_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.document, &other.document);
        ours.metadata.uid == theirs.metadata.uid
            && self.origin == other.origin
            && ours.spec.images == theirs.spec.images
    }

    /// Another has led in the meantime, and what was fetched before may have ended: it is asked for anew, and until that is answered
    /// copies stay as they are. Whether this rule is such a one.
    pub(super) fn forget_fetched(&mut self, now: Duration) -> bool {
        let is_fetched = matches!(self.origin, Origin::Plugin(_) | Origin::Google { .. }) && self.config.is_some();
        if is_fetched {
            self.config = None;
            self.state = SourceState::Unknown;
            (self.expires_at, self.refreshed_at) = said_of(&self.document);
            self.ask_anew(now);
        }
        is_fetched
    }

    /// What provisioning has to know; `None` for a rule that is not valid.
    pub(super) fn facts(&self) -> Option<RuleFacts> {
        let rule = self.rule.as_ref().ok()?.clone();
        let metadata = &self.document.metadata;
        Some(RuleFacts {
            rule,
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            created: metadata.creation_timestamp.as_ref().map_or(0, |created| created.0.as_second()),
            eager: self.document.spec.distribution == Distribution::Eager,
            // Valid, since the rule is.
            reclaim_after: parse_duration(&self.document.spec.reclaim_after).unwrap_or(Duration::MAX),
            copied: self.origin != Origin::Unmanaged,
        })
    }

    /// Whether nobody has been asked yet, for want of a key.
    pub(super) fn waits_for_a_key(&self) -> bool {
        self.refresh == Some(Refresh::default())
    }

    /// Somebody is asked at once: what the last answer was given for has changed.
    pub(super) fn ask_anew(&mut self, now: Duration) {
        if self.is_asking {
            self.is_outdated = true;
        } else if self.rule.is_ok() {
            self.refresh = Some(Refresh::at_once(now));
        }
    }

    /// The Secret in the release namespace has been looked at. Gives the hash of what the copies hold from now on; `None`
    /// when that stays what it was.
    pub(super) fn read_secret(&mut self, found: Option<&SourceSecret>, namespace: &str, now: Timestamp) -> Option<u64> {
        let (Ok(rule), Origin::Secret(name)) = (&self.rule, &self.origin) else { return None };
        match secret::read(found, namespace, name, rule.patterns()) {
            Ok(config) => {
                self.state = SourceState::Good;
                self.expires_at = None;
                Some(self.put(&config, now))
            }
            Err(state) => {
                self.state = state;
                None
            }
        }
    }

    /// A plugin or a key has been asked, since `asked` by the wall clock. Gives what `read_secret` gives.
    pub(super) fn fetched(
        &mut self,
        answer: Result<Fetched, SourceState>,
        asked: Timestamp,
        now: Duration,
    ) -> Option<u64> {
        self.is_asking = false;
        let fingerprint = self.answered(answer, asked, now);
        if std::mem::take(&mut self.is_outdated) && self.rule.is_ok() {
            self.refresh = Some(Refresh::at_once(now));
        }
        fingerprint
    }

    fn answered(&mut self, answer: Result<Fetched, SourceState>, asked: Timestamp, now: Duration) -> Option<u64> {
        let refresh = self.refresh.as_mut()?;
        match answer {
            Ok(Fetched { auths, lifetime }) => {
                let life = match lifetime {
                    Lifetime::Once => Life::Once,
                    Lifetime::For(life) => Life::For(life),
                    Lifetime::Unlimited => Life::Unlimited,
                };
                refresh.succeeded(life, jitter(&self.document.name_any()));
                self.expires_at = match life {
                    Life::For(life) => asked.checked_add(life).ok().and_then(whole_seconds),
                    Life::Once | Life::Unlimited => None,
                };
                self.state = SourceState::Good;
                self.refreshed_at = None;
                Some(self.put(&auths, asked))
            }
            Err(state) => {
                refresh.failed(now);
                self.state = state;
                None
            }
        }
    }

    fn put(&mut self, config: &DockerConfig, now: Timestamp) -> u64 {
        let json = config.to_json();
        let is_same = self.config.as_deref() == Some(&json);
        // A restart reads what is there already: that is no refreshment.
        if self.refreshed_at.is_none() || (self.config.is_some() && !is_same) {
            self.refreshed_at = whole_seconds(now);
        }
        let hash = fingerprint(json.expose().as_bytes());
        self.config = Some(Arc::new(json));
        hash
    }
}

fn in_words(rule: Result<Rule, Vec<Problem>>) -> Result<Rule, String> {
    rule.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// A `PullSecret` as it is known.
#[derive(Debug)]
pub(super) struct Team {
    /// The object.
    pub(super) document: PullSecret,
    /// The rule, or what is wrong with it.
    pub(super) rule: Result<Rule, String>,
    /// The status that was written last, and what the API has made of it.
    pub(super) said: Option<(PullSecretStatus, Option<PullSecretStatus>)>,
}

impl Team {
    pub(super) fn new(object: TeamRule) -> Self {
        let (document, unreadable) = object.into_document();
        let rule = unreadable.map_or_else(|| in_words(Rule::from_pull_secret(&document)), Err);
        Self { document, rule, said: None }
    }
}

fn version_of(document: &ClusterPullSecret) -> Version {
    (document.metadata.uid.clone(), document.metadata.generation)
}

/// When the credential ends and when it was refreshed, as the last leader said: that stays true until something is read or fetched anew.
fn said_of(document: &ClusterPullSecret) -> (Option<Timestamp>, Option<Timestamp>) {
    let status = document.status.as_ref();
    (
        status.and_then(|status| Some(status.expires_at.as_ref()?.0)),
        status.and_then(|status| Some(status.refreshed_at.as_ref()?.0)),
    )
}

/// From 0 to 1, another for each rule and process.
fn jitter(name: &str) -> f64 {
    f64::from(u32::try_from(fingerprint(name.as_bytes()) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// The API keeps whole seconds.
pub(super) fn whole_seconds(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn object(generation: i64, change: &Value) -> ClusterRule {
        let mut object = json!({
            "metadata": {"name": "r", "uid": "u", "generation": generation},
            "spec": {
                "images": ["registry.example"], "namespaceSelector": {"matchLabels": {"a": "b"}},
                "source": {"credentialProvider": {"name": "p"}},
            },
        });
        json_patch::merge(&mut object, change);
        serde_json::from_value(object).unwrap()
    }

    fn answer(lifetime: Lifetime) -> Fetched {
        let auths = DockerConfig::parse(
            crate::image::SecretType::DockerConfigJson,
            br#"{"auths": {"registry.example": {"username": "u", "password": "p"}}}"#,
        )
        .unwrap();
        Fetched { auths, lifetime }
    }

    fn fetched(lifetime: Lifetime) -> Known {
        let mut known = Known::new(object(1, &json!({})), Duration::ZERO);
        known.refresh.as_mut().unwrap().asks(Duration::ZERO);
        known.is_asking = true;
        known.fetched(Ok(answer(lifetime)), Timestamp::UNIX_EPOCH, Duration::ZERO).unwrap();
        known
    }

    #[test]
    fn what_was_fetched_stays_while_the_question_is_the_same_and_no_longer() {
        #[rustfmt::skip]
        let table = [
            (json!({"spec": {"namespaceSelector": {"matchLabels": {"a": "c"}}}}),                               true),
            (json!({"spec": {"secretName": "other", "reclaimAfter": "1h"}}),             true),
            (json!({"spec": {"images": ["registry.example/team"]}}),                     false),
            (json!({"spec": {"source": {"credentialProvider": {"name": "other"}}}}),     false),
            (json!({"spec": {"source": {"credentialProvider": null, "unmanaged": {}}}}), false),
            (json!({"metadata": {"uid": "another"}}),                                    false),
        ];
        for (change, stays) in table {
            let mut known = fetched(Lifetime::For(Duration::from_secs(3600)));
            let (config, next) = (known.config.clone(), known.refresh.and_then(|refresh| refresh.next()));
            assert!(known.update(object(2, &change), Duration::from_secs(60)), "{change}");
            assert_eq!(known.config, config.filter(|_| stays), "{change}");
            assert_eq!(known.refreshed_at.is_some(), stays, "{change}");
            let is_kept = known.refresh.and_then(|refresh| refresh.next()) == next;
            assert_eq!(is_kept, stays, "{change}");
        }
    }

    #[test]
    fn a_credential_for_one_use_is_used_up_whatever_else_the_rule_says_now() {
        let mut known = fetched(Lifetime::Once);
        known.update(object(2, &json!({"spec": {"secretName": "other"}})), Duration::from_secs(60));
        assert!(known.refresh.unwrap().is_used_up(Duration::from_secs(60)));
    }

    #[test]
    fn who_is_asked_already_answers_the_rule_as_it_is_by_then() {
        let mut known = Known::new(object(1, &json!({})), Duration::ZERO);
        let question = known.question.clone();
        known.is_asking = true;
        known.update(object(2, &json!({"spec": {"secretName": "other"}})), Duration::ZERO);
        assert!(known.is_asking && known.question == question);
        known.update(object(3, &json!({"spec": {"images": ["registry.example/team"]}})), Duration::ZERO);
        assert!(!known.is_asking && known.question != question);
    }

    #[test]
    fn nobody_is_asked_for_a_rule_that_is_left_out_by_the_time_of_the_answer() {
        let mut known = Known::new(object(1, &json!({})), Duration::ZERO);
        known.is_asking = true;
        known.ask_anew(Duration::ZERO);
        known.update(object(2, &json!({"spec": {"secretName": "No Name"}})), Duration::ZERO);
        assert!(known.rule.is_err() && known.refresh.is_none());
        known.fetched(Ok(answer(Lifetime::Unlimited)), Timestamp::UNIX_EPOCH, Duration::ZERO);
        assert!(known.refresh.is_none() && !known.is_asking);
    }

    #[test]
    fn who_leads_again_asks_anew() {
        let mut known = fetched(Lifetime::Unlimited);
        assert!(known.forget_fetched(Duration::from_secs(60)));
        assert!(known.config.is_none() && known.state == SourceState::Unknown);
        assert_eq!(known.refresh.unwrap().next(), Some(Duration::from_secs(60)));
        let copied = json!({"spec": {"source": {"credentialProvider": null, "secretRef": {"name": "s"}}}});
        let mut known = Known::new(object(1, &copied), Duration::ZERO);
        assert!(!known.forget_fetched(Duration::ZERO));
    }
}
