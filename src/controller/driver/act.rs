//! What the loop sets going, and what comes back: writes, questions to sources and to the API, statuses and events.

use super::{
    ASK_AGAIN, Arc, Asked, CONCURRENT, ClusterPullSecretStatus, Controller, Done, Due, Duration, Facts, Found, HashMap,
    ImagePattern, Known, Mode, Name, News, ObjectReference, Origin, Outcome, Place, STATUS_EVERY, SourceState,
    Timestamp, Watched, Written, copies, google, plugin, report, status, whole_seconds,
};
use crate::provision::{Action, Refresh};

/// A copy that waits for a fresh credential looks again after so long.
const WAIT_FOR_CREDENTIAL: Duration = Duration::from_millis(100);

impl Controller {
    /// Begins the writes that are due, as many as may be.
    pub(super) fn write_what_is_due(&mut self) {
        while self.writes < CONCURRENT {
            let now = self.now();
            if self.rate_permits > now {
                return;
            }
            let Some(due) = self.ledger.next(now) else { return };
            let rule = due.copy.as_ref().map(|copy| Arc::clone(&copy.rule));
            let config = rule.as_ref().and_then(|rule| self.rules.get(rule)?.config.clone());
            if due.action == Action::Create
                && let Some(rule) = &rule
                && self.wants_a_fresh_credential(rule, now)
            {
                self.ledger.postponed(&due.place, now, WAIT_FOR_CREDENTIAL);
                continue;
            }
            if let Err(permitted) = self.rate.take(now) {
                self.rate_permits = permitted;
                self.ledger.postponed(&due.place, now, permitted.saturating_sub(now));
                return;
            }
            let client = self.setup.client.clone();
            self.writes += 1;
            self.tasks.spawn(async move {
                let outcome = copies::write(&client, &due, config.as_deref()).await;
                Done::Wrote(due, outcome)
            });
        }
    }

    /// Whether a copy of the rule has to wait for somebody who is asked for a credential.
    fn wants_a_fresh_credential(&mut self, rule: &Name, now: Duration) -> bool {
        let Some(known) = self.rules.get_mut(rule) else { return false };
        let Some(refresh) = &known.refresh else { return false };
        if !refresh.is_used_up(now) {
            return false;
        }
        if !known.is_asking {
            self.fetch(&Arc::clone(rule), now);
        }
        true
    }

    /// Asks the plugins and the owners of keys whose credentials are due.
    pub(super) fn fetch_what_is_due(&mut self) {
        let now = self.now();
        let is_due = |known: &Known| {
            !known.is_asking && known.refresh.as_ref().and_then(Refresh::next).is_some_and(|next| next <= now)
        };
        let due: Vec<Name> =
            self.rules.iter().filter(|(_, known)| is_due(known)).map(|(name, _)| Arc::clone(name)).collect();
        for rule in due {
            self.fetch(&rule, now);
        }
    }

    fn fetch(&mut self, name: &Name, now: Duration) {
        let key = match self.rules.get(name).map(|known| &known.origin) {
            Some(Origin::Google { secret, key }) => Some(self.google_key(secret, key)),
            _ => None,
        };
        let Some(known) = self.rules.get_mut(name) else { return };
        let (Ok(rule), Some(refresh)) = (&known.rule, &mut known.refresh) else { return };
        let patterns: Vec<ImagePattern> = rule.patterns().to_vec();
        refresh.asks(now);
        known.is_asking = true;
        let asked = Timestamp::now();
        let (rule, uid) = (Arc::clone(name), known.document.metadata.uid.clone());
        match &known.origin {
            Origin::Plugin(plugin) => {
                let (plugins, plugin) = (self.setup.plugins.clone(), plugin.clone());
                self.tasks.spawn(async move {
                    let answer = match plugins {
                        Some(plugins) => plugin::fetch(&plugins, &plugin, &patterns)
                            .await
                            .map_err(|error| SourceState::Failed(format!("{error}."))),
                        None => Err(SourceState::Failed(format!(
                            "The plugin {plugin} is not known: the controller has no --credential-provider-config."
                        ))),
                    };
                    Done::Fetched { rule, uid, asked, answer }
                });
            }
            Origin::Google { .. } => {
                let Some(key) = key else { return };
                let outside = self.setup.outside.clone();
                self.tasks.spawn(async move {
                    let answer = match key {
                        Ok(key) => google::fetch(&key, &patterns, asked, &outside)
                            .await
                            .map_err(|error| SourceState::Failed(format!("{error}."))),
                        Err(state) => Err(state),
                    };
                    Done::Fetched { rule, uid, asked, answer }
                });
            }
            Origin::Secret(_) | Origin::Unmanaged => {}
        }
    }

    fn google_key(&self, secret: &str, key: &str) -> Result<google::ServiceAccountKey, SourceState> {
        let namespace = &self.setup.release_namespace;
        let found = match self.sources.get(secret).map(|source| &source.found) {
            Some(Found::There(found)) => Some(&**found),
            Some(Found::Absent) => None,
            Some(Found::NotYet) | None => return Err(SourceState::Unknown),
        };
        let Some(found) = found else {
            return Err(SourceState::Missing(format!(
                "Secret {secret} is not in namespace {namespace}: create it there with `kubectl create secret generic \
                 {secret} --from-file={key}=FILE`."
            )));
        };
        let invalid = |what: String| SourceState::Invalid(format!("Secret {secret} in namespace {namespace}: {what}"));
        let data = found.data.as_ref().and_then(|data| data.get(key));
        let data = data.ok_or_else(|| invalid(format!("it has no key {key}.")))?;
        google::ServiceAccountKey::parse(&data.0).map_err(|error| invalid(format!("{error}.")))
    }

    /// Asks again for rights that were missing.
    pub(super) fn ask_again(&mut self) {
        let now = self.now();
        let namespace = self.setup.release_namespace.clone();
        let copies = self.names.iter_mut().map(|(name, watched)| (name, watched, false));
        let sources = self.sources.iter_mut().map(|(name, source)| (name, &mut source.watched, true));
        for (name, watched, is_source) in copies.chain(sources) {
            let Watched::Not { ask_at, .. } = watched else { continue };
            if *ask_at > now {
                continue;
            }
            *ask_at = now + ASK_AGAIN;
            let (client, secret, namespace) = (self.setup.client.clone(), name.clone(), namespace.clone());
            self.tasks.spawn(async move {
                let namespace = is_source.then_some(namespace);
                let mut answer = true;
                for verb in ["list", "watch"] {
                    answer &= copies::may(&client, verb, namespace.as_deref(), &secret).await.unwrap_or(false);
                }
                Done::May { secret, is_source, answer }
            });
        }
    }

    /// Takes in what a task has done.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Wrote(due, outcome) => self.wrote(&due, outcome, now),
            Done::May { secret, is_source, answer: true } if is_source => self.watch_source(&secret),
            Done::May { secret, answer: true, .. } => {
                if self.names.contains_key(&secret) {
                    self.watch_copies(&secret);
                }
            }
            Done::May { .. } | Done::Nothing => {}
            Done::Fetched { rule, uid, asked, answer } => {
                let outcome = if answer.is_ok() { Asked::Given } else { Asked::Error };
                self.setup.series.fetches.of(outcome).inc();
                self.is_stirred = true;
                // The answer to what a rule said that is not there any more.
                let Some(known) = self.rules.get_mut(&rule).filter(|known| known.document.metadata.uid == uid) else {
                    return;
                };
                if let Some(fingerprint) = known.fetched(answer, asked, now) {
                    self.ledger.set_material(&rule, Some(fingerprint));
                }
                if !matches!(known.state, SourceState::Good | SourceState::Unknown) {
                    tracing::warn!(rule = &*rule, "no credential: {}", words_of(&known.state));
                }
            }
            Done::Told(rule, answer, news) => {
                self.telling.remove(&rule);
                let Some(known) = self.rules.get_mut(&rule) else { return };
                match *answer {
                    Ok(document) => {
                        known.document = document;
                        if let Some(news) = news {
                            let about = report::reference(&known.document);
                            self.publish(about, news);
                        }
                    }
                    Err(kube::Error::Api(status)) if status.code == 403 => {
                        tracing::error!("not permitted: grant the controller `patch` on `clusterpullsecrets/status`");
                        (self.is_stirred, self.look_at) = (true, now + ASK_AGAIN);
                    }
                    // The watch brings what is there by now, and the next turn compares with it.
                    Err(error) => {
                        tracing::debug!(rule = &*rule, %error, "a status was not written");
                        self.is_stirred = true;
                    }
                }
            }
        }
    }

    fn wrote(&mut self, due: &Due, outcome: Outcome, now: Duration) {
        self.writes -= 1;
        self.is_stirred = true;
        let (place, writes) = (&due.place, &self.setup.series.writes);
        let (namespace, secret) = (&*place.namespace, &*place.secret);
        match outcome {
            Outcome::There(there) => {
                writes.of(Written::Done).inc();
                tracing::debug!(namespace, secret, "a copy is as it should be");
                let is_replaced = matches!(due.action, Action::Replace(_)) && there.is_some();
                let is_gone = there.is_none();
                self.ledger.wrote(place, now, there);
                if is_gone {
                    self.tend_watches();
                }
                if let (true, Some(copy)) = (is_replaced, &due.copy)
                    && let Some(known) = self.rules.get(&copy.rule)
                {
                    let note = format!(
                        "Secret {secret} in namespace {namespace} could not be changed in place and was replaced."
                    );
                    let news = News { is_bad: false, reason: "CopyReplaced".to_owned(), note };
                    self.publish(report::reference(&known.document), news);
                }
            }
            Outcome::Refused(words) => {
                writes.of(Written::Refused).inc();
                tracing::warn!(namespace, secret, "a copy is refused: {words}");
                self.ledger.refused(place, now, words);
            }
            Outcome::NotPermitted(words) => {
                writes.of(Written::NotPermitted).inc();
                tracing::error!(namespace, secret, "{words}");
                self.ledger.refused(place, now, words);
            }
            Outcome::Overloaded(pause) => {
                writes.of(Written::Failed).inc();
                self.rate_permits = self.rate_permits.max(now + pause);
                self.ledger.postponed(place, now, pause);
            }
            Outcome::Failed(pause) => {
                writes.of(Written::Failed).inc();
                self.ledger.failed(place, now, pause);
            }
        }
    }

    fn publish(&mut self, about: ObjectReference, news: News) {
        let recorder = self.recorder.clone();
        self.tasks.spawn(async move {
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
        let (mut copies, mut conflicts, mut missed) = (0, 0, 0);
        let mut in_vain: HashMap<Place, String> = HashMap::new();
        let names: Vec<Name> = self.rules.keys().cloned().collect();
        for name in names {
            let Some(status) = self.status_of(&name, wall, &mut in_vain) else { continue };
            copies += status.namespaces.unwrap_or_default();
            conflicts += status.conflicts.as_ref().map_or(0, |conflicts| conflicts.count);
            missed += status.missed.unwrap_or_default();
            let Some(known) = self.rules.get(&name) else { continue };
            if known.document.status.as_ref() == Some(&status) || !self.telling.insert(Arc::clone(&name)) {
                continue;
            }
            let news = News::between(known.document.status.as_ref(), &status);
            let (client, document) = (self.setup.client.clone(), known.document.clone());
            self.tasks.spawn(async move {
                let answer = report::write_status(client, &document, &status).await;
                Done::Told(name, Box::new(answer), news)
            });
        }
        let series = &self.setup.series;
        series.copies.set(copies);
        series.conflicts.set(conflicts);
        series.missed.set(missed);
        self.tell_pods(in_vain);
    }

    /// What the rule's status should be. `in_vain` gets the places where a Pod waits for a copy that cannot be provided.
    fn status_of(
        &mut self,
        name: &Name,
        wall: Timestamp,
        in_vain: &mut HashMap<Place, String>,
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
        let words = |watched: Option<&Watched>| match watched {
            Some(Watched::Not { words, .. }) => Some(words.clone()),
            _ => None,
        };
        let of_source = known.origin.secret().and_then(|secret| self.sources.get(secret));
        let not_permitted =
            words(self.names.get(rule.secret_name())).or(words(of_source.map(|source| &source.watched)));
        // Half a picture is no news: a restart writes nothing that was not true before it.
        let is_known = not_permitted.is_some()
            || (self.ledger.is_complete(rule.secret_name())
                && (known.state != SourceState::Unknown || rule.mode() == Mode::Shadow));
        if !is_known {
            return None;
        }
        let standing = self.ledger.standing(name);
        let problem = not_permitted.clone().or_else(|| match &known.state {
            SourceState::Good | SourceState::Unknown | SourceState::Unmanaged => None,
            state => Some(words_of(state).to_owned()),
        });
        let place = |namespace: &Name| Place { namespace: Arc::clone(namespace), secret: rule.secret_name().into() };
        if let Some(problem) = problem {
            in_vain.extend(standing.unprovided.iter().map(|namespace| (place(namespace), problem.clone())));
        }
        in_vain.extend(standing.refused.iter().map(|(namespace, words)| (place(namespace), words.clone())));
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

    /// One event on one Pod of each place, when it begins to wait in vain.
    fn tell_pods(&mut self, in_vain: HashMap<Place, String>) {
        self.told.retain(|place| in_vain.contains_key(place));
        for (place, words) in in_vain {
            let Some((name, uid)) = self.ledger.needs.pods_that_need(&place).next() else { continue };
            let about = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.to_owned()),
                namespace: Some((*place.namespace).to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            };
            if self.told.insert(place.clone()) {
                let note = format!("Secret {} cannot be provided: {words}", place.secret);
                self.publish(about, News { is_bad: true, reason: "PullSecretNotProvided".to_owned(), note });
            }
        }
    }
}

fn words_of(state: &SourceState) -> &str {
    match state {
        SourceState::Missing(words) | SourceState::Invalid(words) | SourceState::Failed(words) => words,
        SourceState::Unknown | SourceState::Good | SourceState::Unmanaged => "",
    }
}
