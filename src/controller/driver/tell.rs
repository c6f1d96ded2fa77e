//! What people are told: statuses and events on rules, and an event on a Pod that waits for its copy in vain.

use super::{
    Arc, CONCURRENT, ClusterPullSecretStatus, Controller, Done, Duration, Facts, HashMap, Mode, Name, News,
    ObjectReference, Place, PullSecretStatus, RuleId, SourceState, Timestamp, Watched, report, status, whole_seconds,
};
use crate::controller::objects::{ClusterRule, TeamRule};
use crate::process::logs::Seldom;
use crate::provision::{not_ready, team_status};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource};

/// Statuses are looked at so often at most, and so often while some of them wait for their turn.
const STATUS_EVERY: Duration = Duration::from_secs(1);
const STATUS_SOON: Duration = Duration::from_millis(100);

/// A status that was not written is tried again after so long, and later after each further time; where the right is missing, after
/// so long.
const TELL_AGAIN: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// As many Pods are told something at one look.
const PODS_TOLD: usize = 20;

/// No Pod is told anything while so much is under way.
const MOST_TASKS: usize = 256;

impl Controller {
    pub(super) fn publish(&mut self, about: ObjectReference, news: News) {
        let recorder = self.recorder.clone();
        self.asides.spawn(async move {
            report::publish(&recorder, &about, news).await;
            Done::Nothing
        });
    }

    /// Writes the statuses that are not what they should be, and tells Pods that wait for a copy in vain.
    pub(super) fn tell_what_has_changed(&mut self) {
        let now = self.now();
        if !self.is_stirred || now < self.look_at {
            return;
        }
        self.is_stirred = false;
        self.look_at = now + STATUS_EVERY;
        let wall = Timestamp::now();
        let (mut copies, mut conflicts) = (0, 0);
        let mut in_vain: HashMap<Place, Arc<str>> = HashMap::new();
        let names: Vec<Name> = self.rules.keys().cloned().collect();
        let mut reasons = Vec::new();
        let mut missed = self.tell_teams(now, wall, &mut reasons);
        for name in names {
            let status = self.status_of(&name, wall, &mut in_vain);
            reasons.extend(not_ready(conditions(status.as_ref())).map(str::to_owned));
            let Some(status) = status else { continue };
            copies += status.namespaces.unwrap_or_default();
            conflicts += status.conflicts.as_ref().map_or(0, |conflicts| conflicts.count);
            missed += status.missed.unwrap_or_default();
            let Some(known) = self.rules.get(&name) else { continue };
            if is_said(&status, known.document.status.as_ref(), known.said.as_ref())
                || !self.may_tell(&id_of(&name), now)
            {
                continue;
            }
            let Some(known) = self.rules.get(&name) else { continue };
            let news = News::between(conditions(known.document.status.as_ref()), status.conditions.as_deref());
            let rules: Api<ClusterRule> = Api::all(self.setup.client.clone());
            let metadata = known.document.metadata.clone();
            self.asides.spawn(async move {
                let answer = report::write_status(rules, metadata, &status).await;
                Done::Told(name, Box::new((status, answer)), news)
            });
        }
        let series = &self.setup.series;
        series.copies.set(copies);
        series.conflicts.set(conflicts);
        series.missed.set(missed);
        series.set_not_ready(&reasons);
        self.tell_pods(in_vain);
    }

    /// Writes the statuses of `PullSecret`s. Gives the number of Pods that all of them have missed; `reasons` gets why which of them
    /// are not ready.
    fn tell_teams(&mut self, now: Duration, wall: Timestamp, reasons: &mut Vec<String>) -> i64 {
        let mut missed = 0;
        let Some(wall) = whole_seconds(wall).filter(|_| self.lists.teams.is_complete) else { return missed };
        let ids: Vec<RuleId> = self.teams.keys().cloned().collect();
        for id in ids {
            let missing = self.ledger.needs.missed(&id);
            let Some(team) = self.teams.get(&id) else { continue };
            let (generation, before) = (team.document.metadata.generation, team.document.status.as_ref());
            let status = team_status(team.rule.as_ref().map_err(String::as_str), generation, missing, before, wall);
            missed += status.missed.unwrap_or_default();
            reasons.extend(not_ready(status.conditions.as_deref()).map(str::to_owned));
            if is_said(&status, before, team.said.as_ref()) || !self.may_tell(&id, now) {
                continue;
            }
            let Some(team) = self.teams.get(&id) else { continue };
            let before = team.document.status.as_ref().and_then(|status| status.conditions.as_deref());
            let news = News::between(before, status.conditions.as_deref());
            let namespace = id.namespace.as_deref().unwrap_or_default();
            let rules: Api<TeamRule> = Api::namespaced(self.setup.client.clone(), namespace);
            let metadata = team.document.metadata.clone();
            self.asides.spawn(async move {
                let answer = report::write_status(rules, metadata, &status).await;
                Done::ToldTeam(id, Box::new((status, answer)), news)
            });
        }
        missed
    }

    /// Whether the status of a rule may be written now. Where it may not yet, the next look is soon.
    fn may_tell(&mut self, rule: &RuleId, now: Duration) -> bool {
        if self.telling.contains(rule) {
            return false;
        }
        if self.untold.get(rule).is_some_and(|pace| pace.not_before(None) > now) {
            self.is_stirred = true;
            return false;
        }
        let may = self.telling.len() < CONCURRENT && self.rate.take(now).is_ok();
        if may {
            self.telling.insert(rule.clone());
        } else {
            (self.is_stirred, self.look_at) = (true, now + STATUS_SOON);
        }
        may
    }

    /// A status was written, or was not.
    pub(super) fn told(
        &mut self,
        rule: &Name,
        (status, answer): (ClusterPullSecretStatus, kube::Result<ClusterRule>),
        news: Option<News>,
    ) {
        let id = id_of(rule);
        self.telling.remove(&id);
        let Some(known) = self.rules.get_mut(rule) else { return };
        match answer {
            Ok(object) => {
                (known.document.metadata, known.document.status) = (object.metadata, object.status);
                known.said = Some((status, known.document.status.clone()));
                self.untold.remove(&id);
                let about = known.document.object_ref(&());
                if let Some(news) = news {
                    self.publish(about, news);
                }
            }
            Err(error) => self.status_not_written(id, "clusterpullsecrets/status", &error),
        }
    }

    /// The same of a `PullSecret`.
    pub(super) fn told_team(
        &mut self,
        rule: &RuleId,
        (status, answer): (PullSecretStatus, kube::Result<TeamRule>),
        news: Option<News>,
    ) {
        self.telling.remove(rule);
        let Some(team) = self.teams.get_mut(rule) else { return };
        match answer {
            Ok(object) => {
                (team.document.metadata, team.document.status) = (object.metadata, object.status);
                team.said = Some((status, team.document.status.clone()));
                self.untold.remove(rule);
                let about = team.document.object_ref(&());
                if let Some(news) = news {
                    self.publish(about, news);
                }
            }
            Err(error) => self.status_not_written(rule.clone(), "pullsecrets/status", &error),
        }
    }

    /// Says why, and puts the next attempt off. The watch brings what is there by now, and the next look compares with it.
    fn status_not_written(&mut self, rule: RuleId, resource: &str, error: &kube::Error) {
        static SAID: Seldom = Seldom::at_most(5);
        self.is_stirred = true;
        let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
        // Somebody else was faster, or it is gone.
        if matches!(code, 404 | 409) {
            return;
        }
        if let Some(unsaid) = SAID.now() {
            if code == 403 {
                tracing::error!(%rule, %error, unsaid, "not permitted: grant the controller `patch` on `{resource}`");
            } else {
                tracing::warn!(%rule, %error, unsaid, "a status is not written");
            }
        }
        let now = self.now();
        self.untold.retain(|_, pace| !pace.is_calm(now));
        let pause = if code == 403 { ASK_AGAIN } else { TELL_AGAIN };
        self.untold.entry(rule).or_default().failed(now, None, pause);
    }

    /// What the rule's status should be. `in_vain` gets the places where a Pod waits for a copy that cannot be provided.
    fn status_of(
        &mut self,
        name: &Name,
        wall: Timestamp,
        in_vain: &mut HashMap<Place, Arc<str>>,
    ) -> Option<ClusterPullSecretStatus> {
        let known = self.rules.get(name)?;
        let generation = known.document.metadata.generation;
        let before = known.document.status.as_ref();
        let rule = match &known.rule {
            Ok(rule) => rule,
            Err(wrong) => {
                let facts = Facts {
                    source: SourceState::Invalid(format!("The rule is left out: {wrong}.")),
                    ..Facts::nothing(generation)
                };
                return Some(status(&facts, before, whole_seconds(wall)?));
            }
        };
        let words = |watched: Option<&Watched>| watched.and_then(Watched::denied).map(str::to_owned);
        let of_source = known.origin.secret().and_then(|secret| self.sources.get(secret));
        let of_copies = words(self.names.get(rule.secret_name()));
        let is_seen = of_copies.is_none();
        let not_permitted = of_copies.or(words(of_source.map(|source| &source.watched)));
        // Half a picture is no news: a restart writes nothing that was not true before it.
        let is_listed = self.ledger.is_complete(rule.secret_name())
            || (known.state == SourceState::Unmanaged
                && matches!(self.names.get(rule.secret_name()), Some(Watched::Not(_))));
        let is_known = not_permitted.is_some()
            || (is_listed && (known.state != SourceState::Unknown || rule.mode() == Mode::Shadow));
        if !is_known {
            return None;
        }
        let standing = self.ledger.standing(name);
        let problem = not_permitted.as_deref().or_else(|| match &known.state {
            SourceState::Good | SourceState::Unknown | SourceState::Unmanaged => None,
            state => Some(words_of(state)),
        });
        let place = |namespace: &Name| Place { namespace: Arc::clone(namespace), secret: rule.secret_name().into() };
        if let Some(problem) = problem {
            let problem: Arc<str> = problem.into();
            in_vain.extend(standing.unprovided.iter().map(|namespace| (place(namespace), Arc::clone(&problem))));
            // Secrets that may not be seen may not be there either.
            if let Some(facts) = self.ledger.needs.rule(name).filter(|_| !is_seen) {
                let needing = self.ledger.needs.needing(facts);
                in_vain.extend(needing.map(|namespace| (place(namespace), Arc::clone(&problem))));
            }
        }
        in_vain.extend(standing.refused.iter().map(|(namespace, why)| (place(namespace), why.words().into())));
        let shadow = rule.mode() == Mode::Shadow;
        let facts = Facts {
            generation,
            mode: rule.mode(),
            source: known.state.clone(),
            not_permitted,
            standing,
            outranked: self.ledger.needs.outranked(name),
            missed: self.ledger.needs.missed(rule.id()),
            expires_at: known.expires_at.filter(|_| !shadow),
            refreshed_at: known.refreshed_at.filter(|_| !shadow),
        };
        Some(status(&facts, before, whole_seconds(wall)?))
    }

    /// One event on one Pod of each place when it begins to wait in vain, and on another when that Pod is gone; a few at a
    /// time, however many places there are.
    fn tell_pods(&mut self, in_vain: HashMap<Place, Arc<str>>) {
        self.told.retain(|place, _| in_vain.contains_key(place));
        let mut told = 0;
        for (place, words) in in_vain {
            let before = self.told.get(&place).map(AsRef::as_ref);
            let waiting: Vec<(&str, &str)> = self.ledger.needs.pods_that_need(&place).collect();
            let Some((name, uid)) = waiting.first() else { continue };
            if before.is_some_and(|before| waiting.iter().any(|(_, uid)| *uid == before)) {
                continue;
            }
            if told == PODS_TOLD || self.asides.len() > MOST_TASKS {
                self.is_stirred = true;
                return;
            }
            told += 1;
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some((*name).to_owned()),
                namespace: Some((*place.namespace).to_owned()),
                uid: Some((*uid).to_owned()),
                ..ObjectReference::default()
            };
            let note = format!("Secret {} cannot be provided: {words}", place.secret);
            let uid = (*uid).into();
            self.publish(about, News { is_bad: true, reason: "PullSecretNotProvided".to_owned(), note });
            self.told.insert(place, uid);
        }
    }
}

fn id_of(rule: &Name) -> RuleId {
    RuleId { kind: super::RuleKind::ClusterPullSecret, namespace: None, name: (**rule).to_owned() }
}

fn conditions(status: Option<&ClusterPullSecretStatus>) -> Option<&[Condition]> {
    status?.conditions.as_deref()
}

/// Whether the object has this status already, or has what the API makes of it: definitions that are older drop fields.
fn is_said<S: PartialEq>(status: &S, there: Option<&S>, said: Option<&(S, Option<S>)>) -> bool {
    there == Some(status) || said.is_some_and(|(asked, answered)| asked == status && answered.as_ref() == there)
}

pub(super) fn words_of(state: &SourceState) -> &str {
    match state {
        SourceState::Missing(words) | SourceState::Invalid(words) | SourceState::Failed(words) => words,
        SourceState::Unknown | SourceState::Good | SourceState::Unmanaged => "",
    }
}
