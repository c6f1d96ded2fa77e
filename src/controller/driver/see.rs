//! What the watches see, put into the ledger and into what is known of rules and sources.

use super::seen::Denied;
use super::{
    Arc, Change, Controller, Found, Known, Name, Origin, Place, Seen, Team, Timestamp, Trouble, Watched, copies,
};
use crate::controller::objects::{ClusterRule, Secret, SourceSecret, TeamRule};
use crate::rules::{RuleId, RuleKind};
use kube::ResourceExt;

impl Controller {
    pub(super) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Rule(change) => self.see_rule(change),
            Seen::Team(change) => self.see_team(change),
            Seen::Namespace(change) => match change {
                Change::ListBegins => self.lists.namespaces.begins(),
                Change::Put(namespace) => {
                    let name = namespace.name_any();
                    self.lists.namespaces.names(|| name.clone());
                    let is_ending = namespace.metadata.deletion_timestamp.is_some();
                    self.ledger.needs.put_namespace(&name, namespace.metadata.labels.unwrap_or_default(), is_ending);
                }
                Change::Gone(namespace) => self.ledger.needs.remove_namespace(&namespace.name_any()),
                Change::ListEnds => {
                    let named = self.lists.namespaces.ends();
                    self.ledger.needs.retain_namespaces(|name| named.contains(name));
                    self.say_what_is_listed();
                }
                Change::Trouble(_) => {}
            },
            Seen::Pod(change) => match change {
                Change::ListBegins => self.lists.pods.begins(),
                Change::Put(pod) => {
                    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
                    self.lists.pods.names(|| (namespace.clone(), name.clone()));
                    self.ledger.needs.put_pod(&namespace, &name, &pod.facts());
                }
                Change::Gone(pod) => {
                    self.ledger.needs.remove_pod(&pod.namespace().unwrap_or_default(), &pod.name_any());
                }
                Change::ListEnds => {
                    let named = self.lists.pods.ends();
                    let is_named =
                        |namespace: &str, name: &str| named.contains(&(namespace.to_owned(), name.to_owned()));
                    self.ledger.needs.retain_pods(is_named);
                    self.say_what_is_listed();
                }
                Change::Trouble(_) => {}
            },
            Seen::Copy(secret, change) => self.see_copy(&secret, change),
            Seen::Source(name, change) => self.see_source(&name, change),
        }
    }

    fn say_what_is_listed(&mut self) {
        if self.is_listed() {
            self.setup.listed.met("rules, namespaces and Pods");
        }
    }

    fn see_rule(&mut self, change: Change<ClusterRule>) {
        match change {
            Change::ListBegins => self.lists.rules.begins(),
            Change::Put(object) => {
                let name = object.name_any();
                self.lists.rules.names(|| name.clone());
                self.put_rule(&name, object);
            }
            Change::Gone(object) => self.remove_rule(&object.name_any()),
            Change::ListEnds => {
                let named = self.lists.rules.ends();
                let gone: Vec<Name> = self.rules.keys().filter(|name| !named.contains(&***name)).cloned().collect();
                for name in gone {
                    self.remove_rule(&name);
                }
                self.tend_watches();
                self.say_what_is_listed();
            }
            Change::Trouble(_) => {}
        }
    }

    fn put_rule(&mut self, name: &str, object: ClusterRule) {
        let now = self.now();
        let is_other = if let Some(known) = self.rules.get_mut(name) {
            known.update(object, now)
        } else {
            self.rules.insert(name.into(), Known::new(object, now));
            true
        };
        let Some(known) = self.rules.get(name).filter(|_| is_other) else { return };
        if known.config.is_none() {
            self.ledger.set_material(name, None);
        }
        match (known.facts(), &known.rule) {
            (Some(facts), _) => self.ledger.needs.put_rule(facts),
            (None, wrong) => {
                if let Err(wrong) = wrong {
                    tracing::warn!(rule = name, wrong, "a rule is not valid and is left out");
                }
                self.ledger.needs.remove_rule(name);
            }
        }
        self.tend_watches();
        self.read_source_of(name, false);
    }

    fn remove_rule(&mut self, name: &str) {
        self.rules.remove(name);
        self.ledger.needs.remove_rule(name);
        self.ledger.set_material(name, None);
        self.tend_watches();
    }

    fn see_team(&mut self, change: Change<TeamRule>) {
        let id = |object: &TeamRule| RuleId {
            kind: RuleKind::PullSecret,
            namespace: object.namespace(),
            name: object.name_any(),
        };
        match change {
            Change::ListBegins => self.lists.teams.begins(),
            Change::Put(object) => {
                let id = id(&object);
                self.lists.teams.names(|| id.clone());
                let mut team = Team::new(object);
                if let Some(known) = self.teams.get_mut(&id) {
                    team.said = known.said.take();
                }
                let is_other = self.teams.get(&id).is_none_or(|known| known.document.spec != team.document.spec);
                if is_other {
                    if let Err(wrong) = &team.rule {
                        tracing::warn!(rule = %id, wrong, "a rule is not valid and is left out");
                    }
                    self.ledger.needs.set_team_rule(id.clone(), team.rule.as_ref().ok().cloned());
                }
                self.teams.insert(id, team);
            }
            Change::Gone(object) => {
                let id = id(&object);
                self.teams.remove(&id);
                self.ledger.needs.set_team_rule(id, None);
            }
            Change::ListEnds => {
                let named = self.lists.teams.ends();
                self.teams.retain(|id, _| named.contains(id));
                self.ledger.needs.retain_team_rules(|id| named.contains(id));
            }
            Change::Trouble(_) => {}
        }
    }

    fn see_copy(&mut self, secret: &Name, change: Change<Secret>) {
        let place = |object: &Secret| Place {
            namespace: object.namespace().unwrap_or_default().into(),
            secret: Arc::clone(secret),
        };
        match change {
            // A watch that was ended may have left something in the channel.
            _ if !matches!(self.names.get(&**secret), Some(Watched::By(_))) => {}
            Change::ListBegins => self.ledger.list_begins(secret),
            Change::Put(object) => self.ledger.seen(&place(&object), object.observed()),
            Change::Gone(object) => self.ledger.gone(&place(&object), Some(&object.observed())),
            Change::ListEnds => {
                self.ledger.list_ends(secret);
                self.tend_watches();
            }
            Change::Trouble(Trouble::UnknownKind | Trouble::Broken(_)) => {}
            Change::Trouble(Trouble::Denied) => {
                self.ledger.unwatched(secret);
                let words = copies::not_permitted("watch", secret);
                let denied = Denied::new(words, self.now());
                self.names.insert((**secret).to_owned(), Watched::Not(denied));
                // One that no rule names is nobody's concern.
                self.tend_watches();
            }
        }
    }

    fn see_source(&mut self, name: &str, change: Change<SourceSecret>) {
        let now = self.now();
        let Some(source) = self.sources.get_mut(name) else { return };
        match change {
            Change::ListBegins => {
                source.is_named = false;
                return;
            }
            Change::Put(object) => {
                source.is_named = true;
                // What somebody writes beside the data is no reason to ask anybody for another credential.
                let is_known = matches!(&source.found, Found::There(known) if known.holds_the_same(&object));
                source.found = Found::There(Box::new(object));
                if is_known {
                    return;
                }
            }
            Change::ListEnds if source.is_named => return,
            Change::Gone(_) | Change::ListEnds if matches!(source.found, Found::Absent) => return,
            Change::Trouble(Trouble::UnknownKind | Trouble::Broken(_)) => return,
            Change::Gone(_) | Change::ListEnds => source.found = Found::Absent,
            Change::Trouble(Trouble::Denied) => {
                let words = format!(
                    "The controller may not read Secret {name} in namespace {}: add {name} to the value rbac.sourceNames \
                     of the Helm chart.",
                    self.setup.release_namespace
                );
                source.watched = Watched::Not(Denied::new(words, now));
                return;
            }
        }
        let readers = self.rules.iter().filter(|(_, known)| known.origin.secret() == Some(name));
        let readers: Vec<Name> = readers.map(|(rule, _)| Arc::clone(rule)).collect();
        for rule in readers {
            self.read_source_of(&rule, true);
        }
    }

    /// Looks at the Secret that a rule's credential comes from, if one is known. `is_other`: it has changed.
    fn read_source_of(&mut self, rule: &str, is_other: bool) {
        let now = self.now();
        let Some(known) = self.rules.get_mut(rule) else { return };
        let Some(source) = known.origin.secret().and_then(|name| self.sources.get(name)) else { return };
        let found = match &source.found {
            Found::NotYet => return,
            Found::Absent => None,
            Found::There(found) => Some(&**found),
        };
        if let Origin::Google { .. } = known.origin {
            // Another key is asked with at once.
            if is_other || known.waits_for_a_key() {
                known.ask_anew(now);
            }
            return;
        }
        let fingerprint = known.read_secret(found, &self.setup.release_namespace, Timestamp::now());
        if fingerprint.is_some() {
            self.ledger.set_material(rule, fingerprint);
        }
    }
}
