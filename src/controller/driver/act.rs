//! What the loop sets going, and what comes back: writes, and questions to sources and to the API.

use super::{
    Arc, Asked, CONCURRENT, Controller, Done, Due, Duration, Found, HashMap, ImagePattern, Known, Name, News, Origin,
    Outcome, SourceState, Timestamp, Watched, Written, copies, google, plugin,
};
use crate::provision::{Action, Refresh, Refusal};
use kube::Resource;

/// A copy that waits for a fresh credential looks again after so long.
const WAIT_FOR_CREDENTIAL: Duration = Duration::from_millis(100);

impl Controller {
    /// Begins the writes that are due, as many as may be.
    pub(super) fn write_what_is_due(&mut self) {
        while self.writes.len() < CONCURRENT {
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
            self.writes.spawn(async move {
                let outcome = copies::write(&client, &due, config.as_deref()).await;
                Done::Wrote(due, outcome)
            });
        }
    }

    /// Whether a copy of the rule has to wait for somebody who is asked for a credential.
    fn wants_a_fresh_credential(&mut self, rule: &Name, now: Duration) -> bool {
        let Some(known) = self.rules.get_mut(rule) else { return false };
        let Some(refresh) = &known.refresh else { return false };
        if known.is_asking {
            return refresh.is_for_one_use();
        }
        let is_used_up = refresh.is_used_up(now);
        if is_used_up {
            self.fetch(&Arc::clone(rule), now);
        }
        is_used_up
    }

    /// Asks the plugins and the owners of keys whose credentials are due.
    pub(super) fn fetch_what_is_due(&mut self) {
        let (now, wall) = (self.now(), Timestamp::now());
        for known in self.rules.values_mut().filter(|known| known.expires_at.is_some_and(|end| end <= wall)) {
            known.refresh.iter_mut().for_each(|refresh| refresh.has_ended(now));
        }
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
        let (rule, version) = (Arc::clone(name), known.question.clone());
        match &known.origin {
            Origin::Plugin(plugin) => {
                let (plugins, plugin) = (self.setup.plugins.clone(), plugin.clone());
                self.asides.spawn(async move {
                    let answer = match plugins {
                        Some(plugins) => plugin::fetch(&plugins, &plugin, &patterns)
                            .await
                            .map_err(|error| SourceState::Failed(format!("{error}."))),
                        None => Err(SourceState::Failed(format!(
                            "The plugin {plugin} is not known: the controller has no --credential-provider-config."
                        ))),
                    };
                    Done::Fetched { rule, version, asked, answer }
                });
            }
            Origin::Google { .. } => {
                let Some(key) = key else { return };
                let outside = self.setup.outside.clone();
                self.asides.spawn(async move {
                    let answer = match key {
                        Ok(key) => google::fetch(&key, &patterns, asked, &outside)
                            .await
                            .map_err(|error| SourceState::Failed(format!("{error}."))),
                        Err(state) => Err(state),
                    };
                    Done::Fetched { rule, version, asked, answer }
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
            let Watched::Not(denied) = watched else { continue };
            if !denied.asks(now) {
                continue;
            }
            let (client, secret, namespace) = (self.setup.client.clone(), name.clone(), namespace.clone());
            self.asides.spawn(async move {
                let namespace = is_source.then_some(namespace);
                let may = async |verb| copies::may(&client, verb, namespace.as_deref(), &secret).await.ok();
                let answer = async { Some(may("list").await? && may("watch").await?) }.await;
                Done::May { secret, is_source, answer }
            });
        }
    }

    /// Takes in what a task has done.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Wrote(due, outcome) => self.wrote(&due, outcome, now),
            Done::Permitted(names) => {
                for name in names {
                    if !self.names.contains_key(&name) {
                        self.watch_copies(&name);
                    }
                }
            }
            Done::May { secret, is_source, answer: Some(answer) } => {
                // It may be watched again by now, or nobody's concern any more.
                let copies = self.names.get_mut(&secret).filter(|_| !is_source);
                let source = self.sources.get_mut(&secret).map(|source| &mut source.watched).filter(|_| is_source);
                let Some(Watched::Not(denied)) = copies.or(source) else { return };
                match (answer, is_source) {
                    (true, false) => self.watch_copies(&secret),
                    (true, true) => self.watch_source(&secret),
                    // What nobody is to write need not be seen; copies of before would be, if it may.
                    (false, false) if !is_copied(&self.rules, &secret) => {}
                    (false, _) => {
                        if !std::mem::replace(&mut denied.is_sure, true) {
                            tracing::error!(secret, "{}", denied.words);
                        }
                        self.is_stirred = true;
                    }
                }
            }
            // Nobody answered.
            Done::May { answer: None, .. } | Done::Nothing => {}
            Done::Fetched { rule, version, asked, answer } => {
                let outcome = if answer.is_ok() { Asked::Given } else { Asked::Error };
                self.setup.series.fetches.of(outcome).inc();
                self.is_stirred = true;
                // The answer to what a rule said that is not there any more, or says something else now.
                let Some(known) = self.rules.get_mut(&rule).filter(|known| known.question == version) else { return };
                if let Some(fingerprint) = known.fetched(answer, asked, now) {
                    self.ledger.set_material(&rule, Some(fingerprint));
                }
                if !matches!(known.state, SourceState::Good | SourceState::Unknown) {
                    tracing::warn!(rule = &*rule, "no credential: {}", super::tell::words_of(&known.state));
                }
            }
            Done::Told(rule, told, news) => self.told(&rule, *told, news),
            Done::ToldTeam(rule, told, news) => self.told_team(&rule, *told, news),
        }
    }

    fn wrote(&mut self, due: &Due, outcome: Outcome, now: Duration) {
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
                    self.publish(known.document.object_ref(&()), news);
                }
            }
            Outcome::Overtaken(there) => {
                writes.of(Written::Overtaken).inc();
                self.ledger.wrote(place, now, there);
            }
            Outcome::Refused(words) => {
                writes.of(Written::Refused).inc();
                tracing::warn!(namespace, secret, "a copy is refused: {words}");
                self.ledger.refused(place, now, Refusal::Other(words));
            }
            Outcome::NotPermitted(words) => {
                writes.of(Written::NotPermitted).inc();
                tracing::error!(namespace, secret, "{words}");
                self.ledger.refused(place, now, Refusal::NotPermitted(words));
            }
            Outcome::Overloaded(pause) => {
                writes.of(Written::Failed).inc();
                self.rate_permits = self.rate_permits.max(now + pause);
                self.ledger.postponed(place, now, pause);
            }
            Outcome::Failed(pause, words) => {
                writes.of(Written::Failed).inc();
                if let Some(words) = &words {
                    tracing::debug!(namespace, secret, "a copy cannot be written: {words}");
                }
                if self.ledger.failed(place, now, pause, words.as_deref()) {
                    tracing::warn!(
                        namespace,
                        secret,
                        "a copy cannot be written again and again: {}",
                        words.unwrap_or_default()
                    );
                }
            }
        }
    }
}

/// Whether a rule has copies of this name that are not somebody else's affair.
fn is_copied(rules: &HashMap<Name, Known>, secret: &str) -> bool {
    rules.values().any(|known| {
        known.origin != Origin::Unmanaged && known.rule.as_ref().is_ok_and(|rule| rule.secret_name() == secret)
    })
}
