//! From what should be in a place and what is there to the one write that is due.

use super::Name;

/// What should be in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Desired {
    /// No copy of ours.
    Absent,
    /// What is there of the rule with this uid stays as it is: it is not used now and its time has not come, or nothing is
    /// known to put in its place.
    Keep(Name),
    /// This copy.
    Copy(Copy),
}

/// A copy as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The name of the rule that it serves.
    pub rule: Name,
    /// The uid of that rule.
    pub rule_uid: Name,
    /// A hash of its docker config.
    pub fingerprint: u64,
}

/// A Secret that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are facts that have nothing to do with one another")]
pub struct Observed {
    /// Its uid.
    pub uid: Box<str>,
    /// Its `resourceVersion`.
    pub version: Box<str>,
    /// The uids of the `ClusterPullSecret`s in its owner references.
    pub owners: Box<[Box<str>]>,
    /// Whether anything else owns it too.
    pub is_shared: bool,
    /// A hash of its docker config; `None` when it has none.
    pub fingerprint: Option<u64>,
    /// Whether it has the label that says pullcred manages it.
    pub managed: bool,
    /// The rule that its label names.
    pub rule: Option<Box<str>>,
    /// Whether its type is `kubernetes.io/dockerconfigjson`.
    pub is_docker_config: bool,
    /// Whether it can no longer be changed.
    pub immutable: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// The state that a write was computed from: the write is refused when there is another by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The uid.
    pub uid: Box<str>,
    /// The `resourceVersion`.
    pub version: Box<str>,
}

/// The write that is due in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// None.
    Nothing,
    /// None: a Secret is there that is not ours, and it stays.
    Conflict,
    /// A write that can only create.
    Create,
    /// A write in place.
    Update(Precondition),
    /// A removal, and then a write that can only create: what is there cannot be changed into a copy of the rule.
    Replace(Precondition),
    /// A removal.
    Delete(Precondition),
}

/// The write that is due. `is_rule` says whether a `ClusterPullSecret` with that uid exists: a Secret is ours when one owns it.
/// What the rule that should be there owns is compared; what another rule owns is removed, since it holds that rule's
/// credential; everything else is never touched.
pub fn plan(desired: &Desired, observed: Option<&Observed>, is_rule: impl Fn(&str) -> bool) -> Action {
    let Some(there) = observed else {
        return if matches!(desired, Desired::Copy(_)) { Action::Create } else { Action::Nothing };
    };
    if !there.owners.iter().any(|owner| is_rule(owner)) {
        return if matches!(desired, Desired::Copy(_)) { Action::Conflict } else { Action::Nothing };
    }
    if there.terminating {
        return Action::Nothing;
    }
    let state = Precondition { uid: there.uid.clone(), version: there.version.clone() };
    let owned_by = |uid: &str| there.owners.iter().all(|owner| **owner == *uid);
    match desired {
        Desired::Keep(uid) if owned_by(uid) => Action::Nothing,
        Desired::Absent | Desired::Keep(_) => Action::Delete(state),
        Desired::Copy(copy)
            if !owned_by(&copy.rule_uid) || there.is_shared || there.immutable || !there.is_docker_config =>
        {
            Action::Replace(state)
        }
        Desired::Copy(copy) => {
            let as_it_should_be = there.fingerprint == Some(copy.fingerprint)
                && there.managed
                && there.rule.as_deref() == Some(label_of(&copy.rule));
            if as_it_should_be { Action::Nothing } else { Action::Update(state) }
        }
    }
}

/// The value of the label `pullcred.io/rule` for a rule's name, of which a label holds 63 characters.
pub fn label_of(rule: &str) -> &str {
    let end = rule.len().min(63);
    // The names of objects are ASCII.
    rule.get(..end).unwrap_or_default().trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [&str; 2] = ["rule", "other"];

    fn there(owner: &str) -> Observed {
        Observed {
            uid: "u".into(),
            version: "7".into(),
            owners: [owner.into()].into(),
            is_shared: false,
            fingerprint: Some(1),
            managed: true,
            rule: Some("regcred".into()),
            is_docker_config: true,
            immutable: false,
            terminating: false,
        }
    }

    fn copy() -> Desired {
        Desired::Copy(Copy { rule: "regcred".into(), rule_uid: "rule".into(), fingerprint: 1 })
    }

    #[test]
    fn each_state_has_the_one_write_that_section_6_names() {
        let state = || Precondition { uid: "u".into(), version: "7".into() };
        let keep = || Desired::Keep("rule".into());
        let foreign = || Some(Observed { owners: Box::default(), ..there("rule") });
        for (what, desired, observed, action) in [
            ("needed, not there", copy(), None, Action::Create),
            ("not needed, not there", Desired::Absent, None, Action::Nothing),
            ("kept, not there", keep(), None, Action::Nothing),
            ("right", copy(), Some(there("rule")), Action::Nothing),
            (
                "other content",
                copy(),
                Some(Observed { fingerprint: Some(2), ..there("rule") }),
                Action::Update(state()),
            ),
            ("no content", copy(), Some(Observed { fingerprint: None, ..there("rule") }), Action::Update(state())),
            ("no label", copy(), Some(Observed { managed: false, ..there("rule") }), Action::Update(state())),
            ("other label", copy(), Some(Observed { rule: None, ..there("rule") }), Action::Update(state())),
            ("immutable", copy(), Some(Observed { immutable: true, ..there("rule") }), Action::Replace(state())),
            (
                "another type",
                copy(),
                Some(Observed { is_docker_config: false, ..there("rule") }),
                Action::Replace(state()),
            ),
            // Another's owner reference cannot be taken away by a write that speaks of our fields alone.
            ("shared", copy(), Some(Observed { is_shared: true, ..there("rule") }), Action::Replace(state())),
            ("another rule's", copy(), Some(there("other")), Action::Replace(state())),
            ("being deleted", copy(), Some(Observed { terminating: true, ..there("rule") }), Action::Nothing),
            ("revoked", Desired::Absent, Some(there("rule")), Action::Delete(state())),
            ("kept", keep(), Some(Observed { fingerprint: Some(2), ..there("rule") }), Action::Nothing),
            ("kept, but another rule's", keep(), Some(there("other")), Action::Delete(state())),
            ("a person's with the very bytes", copy(), foreign(), Action::Conflict),
            ("a person's, not needed", Desired::Absent, foreign(), Action::Nothing),
            ("a person's, kept", keep(), foreign(), Action::Nothing),
            ("of a rule that is gone", copy(), Some(there("gone")), Action::Conflict),
            ("of a rule that is gone, not needed", Desired::Absent, Some(there("gone")), Action::Nothing),
        ] {
            let is_rule = |uid: &str| RULES.contains(&uid);
            assert_eq!(plan(&desired, observed.as_ref(), is_rule), action, "{what}");
        }
    }

    #[test]
    fn a_long_name_is_cut_to_what_a_label_can_hold() {
        assert_eq!(label_of("regcred"), "regcred");
        assert_eq!(label_of(&format!("{}.b", "a".repeat(62))), "a".repeat(62));
    }
}
