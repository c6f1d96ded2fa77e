//! How the webhook's authority and leaf are made, renewed and replaced: what is there goes in, the one write that is due comes out.
//!
//! ```text
//! announce   a new authority into the Secret of the authorities, then into `caBundle` beside the one that signs
//! soak       wait until every bundle that was live for so long holds the new one
//! switch     a leaf of the new one into the Secret that the webhook serves; the old one's key is forgotten
//! retire     the old one leaves `caBundle` once its last leaf has ended
//! ```
//!
//! Nothing is remembered but what the Secrets say, so a crash at any point loses nothing; each write replaces exactly the state that it was
//! computed from. The wall clock decides when something is renewed, never who is trusted: where it jumps, more is renewed than need be.

mod content;
mod seen;

use std::time::Duration;

use jiff::Timestamp;

pub use content::Content;
pub use seen::Seen;

use super::{Authority, Certificate, MakeError};
use content::{Authorities, LEAF, Served, anchor, former_leaf_ends, named_authorities, serving};

/// It is looked at least so often, whatever the clock says.
const LOOK: Duration = Duration::from_secs(60);

/// It is not looked more often than this without a reason.
const PAUSE: Duration = Duration::from_millis(100);

/// How long everything lives. A leaf is renewed, and an authority replaced, with a third of its life left.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Life of an authority.
    pub authority: Duration,
    /// Life of a leaf.
    pub leaf: Duration,
    /// How long the slowest API server takes to hear of a new `caBundle`, and more.
    pub soak: Duration,
    /// Names in lower case and addresses of the leaf, each as a certificate is read back, or no leaf would ever do.
    pub names: Vec<String>,
}

/// What is there. It is read in this order: the serving Secret, the configuration, the Secret of the authorities. A write that
/// then succeeds against the version that was read was computed from what was there all the while.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The Secret that the webhook serves.
    pub serving: Option<&'a Content>,
    /// Version and `caBundle` of the webhook configuration.
    pub live: Option<(&'a str, &'a [u8])>,
    /// The Secret of the authorities.
    pub authorities: Option<&'a Content>,
    /// What this process has seen so far.
    pub seen: &'a Seen,
    /// How long this process runs.
    pub uptime: Duration,
}

/// The one thing to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this into the Secret of the authorities, for this reason.
    PutAuthorities(Content, &'static str),
    /// Write this into the Secret that the webhook serves.
    PutServing(Content, &'static str),
    /// Write this into `caBundle`, in PEM.
    Announce(String),
    /// Nothing. Look again after so long at the latest.
    Wait(Duration),
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no authority that can sign.
    Nothing,
    /// One authority signs, and no other is trusted.
    Settled,
    /// A new authority is being announced; an older one has signed the leaf.
    Announced,
    /// The new authority has signed the leaf; the older one is still trusted.
    Switched,
}

/// What is due, and how everything stands.
#[derive(Debug)]
pub struct Decision {
    /// What is due.
    pub step: Step,
    /// How far a rotation is.
    pub phase: Phase,
    /// When the newest authority ends.
    pub authority_ends: Option<Timestamp>,
    /// When the leaf in the Secret ends.
    pub leaf_ends: Option<Timestamp>,
}

/// Decides what is due at `now`, a moment of the wall clock.
///
/// # Errors
/// The cryptography refuses.
pub fn next(policy: &Policy, observed: &Observed<'_>, now: Timestamp) -> Result<Decision, MakeError> {
    let served = Served::read(observed.serving, &policy.names);
    let held = observed.authorities.and_then(Authorities::read);
    let chain = match &served {
        Served::Chain(chain) => chain.as_slice(),
        Served::Nothing(_) => &[],
    };
    let leaf_ends = chain.first().map(Certificate::ends);
    let Some(held) = held else {
        let step = begin(policy, observed, chain, now)?;
        return Ok(Decision { step, phase: Phase::Nothing, authority_ends: None, leaf_ends });
    };
    let of_newest = !chain.is_empty() && anchor(chain, [held.newest.certificate()]).is_some();
    let phase = match () {
        () if held.former.is_empty() && of_newest => Phase::Settled,
        () if of_newest => Phase::Switched,
        () => Phase::Announced,
    };
    let authority_ends = Some(held.newest.certificate().ends());
    let turn = Turn { policy, observed, now, held };
    let step = match turn.leaf(&served, of_newest)? {
        Some(step) => step,
        None => turn.authorities(of_newest, chain)?,
    };
    Ok(Decision { step, phase, authority_ends, leaf_ends })
}

/// There is no authority, or none that can sign: a new one. Whoever the leaf in use is trusted by stays trusted, so that the leaf
/// can stay until everybody trusts the new one.
fn begin(policy: &Policy, observed: &Observed<'_>, chain: &[Certificate], now: Timestamp) -> Result<Step, MakeError> {
    let known = observed.authorities.map(Content::certificates_of_authorities).unwrap_or_default();
    let told = told(observed);
    let former: Vec<_> = anchor(chain, known.iter().chain(&told)).cloned().into_iter().collect();
    let newest = Authority::make(None, policy.authority, now)?;
    let why = match observed.authorities {
        None => "there was no authority",
        Some(_) => "the authority could not be used",
    };
    Ok(put(&newest, None, &former, why))
}

/// Authorities that somebody else has named: those in the live `caBundle`, and beside the leaf.
fn told(observed: &Observed<'_>) -> Vec<Certificate> {
    let live = observed.live.map(|(_, bundle)| Certificate::read_all(bundle)).unwrap_or_default();
    live.into_iter().chain(observed.serving.map(named_authorities).unwrap_or_default()).collect()
}

/// One decision, with an authority that can sign.
struct Turn<'a> {
    policy: &'a Policy,
    observed: &'a Observed<'a>,
    now: Timestamp,
    held: Authorities,
}

impl Turn<'_> {
    /// What is due about the leaf.
    fn leaf(&self, served: &Served, of_newest: bool) -> Result<Option<Step>, MakeError> {
        let Self { policy, now, held, .. } = self;
        let chain = match served {
            Served::Nothing(why) => return self.sign_at_once(why).map(Some),
            Served::Chain(chain) => chain,
        };
        let ends = chain.first().map_or(Timestamp::MIN, Certificate::ends);
        let is_due = is_due(ends, policy.leaf, *now);
        if of_newest {
            return if is_due { self.renew(&held.newest, ends) } else { Ok(None) };
        }
        let Some(issuer) = anchor(chain, &held.former) else {
            let told = told(self.observed);
            let Some(foreign) = anchor(chain, &told).filter(|_| ends > *now) else {
                return self.sign_at_once("nobody trusts who signed it").map(Some);
            };
            // Somebody trusts it: that may not end before they trust ours.
            let former: Vec<_> = held.former.iter().chain([foreign]).cloned().collect();
            return Ok(Some(put(&held.newest, held.signing.as_ref(), &former, "the leaf was signed by another")));
        };
        // A leaf that lives never gives way to one that ends sooner: that would be the work of a clock which is behind.
        let would_end = held.newest.end_of_leaf(policy.leaf, *now);
        if self.is_soaked() && would_end > *now && would_end.as_second() > ends.as_second() {
            return self.sign(&held.newest, Some(ends), "everybody trusts the new authority").map(Some);
        }
        match &held.signing {
            Some(signing) if is_due && signing.certificate() == issuer => self.renew(signing, ends),
            _ => Ok(None),
        }
    }

    /// A leaf in place of what nobody can use.
    fn sign_at_once(&self, why: &'static str) -> Result<Step, MakeError> {
        let held = &self.held;
        // Also where it has ended by the clock, which may be wrong: what everybody trusts comes first.
        let signer = held.signing.as_ref().filter(|_| !self.is_soaked()).unwrap_or(&held.newest);
        // Which leaf was there before is not known; the last of another authority ends when that does.
        let others = held.former.iter().filter(|former| *former != signer.certificate());
        self.sign(signer, others.map(Certificate::ends).max(), why)
    }

    /// A leaf of the same authority, if it would live longer.
    fn renew(&self, signer: &Authority, ends: Timestamp) -> Result<Option<Step>, MakeError> {
        let would_end = signer.end_of_leaf(self.policy.leaf, self.now);
        if would_end.as_second() <= ends.as_second() || would_end <= self.now {
            return Ok(None);
        }
        self.sign(signer, None, "two thirds of its life were over").map(Some)
    }

    /// `replaced` is the end of a leaf that another authority has signed.
    fn sign(&self, signer: &Authority, replaced: Option<Timestamp>, why: &'static str) -> Result<Step, MakeError> {
        let leaf = signer.sign(LEAF, &self.policy.names, self.policy.leaf, self.now)?;
        let before = self.observed.serving.and_then(former_leaf_ends);
        Ok(Step::PutServing(serving(&leaf, before.max(replaced)), why))
    }

    /// What is due about the authorities, when nothing is due about the leaf.
    fn authorities(&self, of_newest: bool, chain: &[Certificate]) -> Result<Step, MakeError> {
        let Self { policy, observed, now, held } = self;
        let bundle = held.bundle();
        if observed.live.is_some_and(|(_, live)| live != bundle.as_bytes()) {
            return Ok(Step::Announce(bundle));
        }
        let newest_ends = held.newest.certificate().ends();
        if is_due(newest_ends, policy.authority, *now) && (of_newest || newest_ends <= *now) {
            return self.replace_newest();
        }
        if of_newest && held.signing.is_some() {
            return Ok(put(&held.newest, None, &held.former, "the old authority signs no more"));
        }
        if of_newest && !held.former.is_empty() && self.former_ends() < *now && self.is_settled() {
            return Ok(put(&held.newest, None, &[], "the last leaf of the old authority has ended"));
        }
        Ok(Step::Wait(self.pause(of_newest, chain)))
    }

    /// A new authority, beside those that are there.
    fn replace_newest(&self) -> Result<Step, MakeError> {
        let Self { policy, now, held, .. } = self;
        let new = Authority::make(None, policy.authority, *now)?;
        let newest = held.newest.certificate().clone();
        let former = held.former.iter().cloned();
        Ok(if let Some(signing) = &held.signing {
            // The newest never signed, but somebody may have heard of it.
            let former: Vec<_> = former.chain([newest]).collect();
            put(&new, Some(signing), &former, "the authority ended before everybody trusted it")
        } else {
            let former: Vec<_> = [newest].into_iter().chain(former).collect();
            put(&new, Some(&held.newest), &former, "two thirds of the authority's life were over")
        })
    }

    /// Whether every bundle that was live during the soak holds the newest authority.
    fn is_soaked(&self) -> bool {
        self.soaks_for().is_some_and(|soaked| soaked >= self.policy.soak)
    }

    fn soaks_for(&self) -> Option<Duration> {
        let Self { observed, held, .. } = self;
        let version = observed.live.map(|(version, _)| version);
        let since = observed.seen.trusted_since(held.newest.certificate(), version)?;
        Some(observed.uptime.saturating_sub(since))
    }

    /// Whether the newest authority has signed for a soak already, as this process has seen.
    fn is_settled(&self) -> bool {
        let since = self.observed.seen.issuer_since();
        self.is_soaked() && since.is_some_and(|since| self.observed.uptime.saturating_sub(since) >= self.policy.soak)
    }

    /// When no leaf of a former authority can be in use any more.
    fn former_ends(&self) -> Timestamp {
        let known = self.observed.serving.and_then(former_leaf_ends);
        known.or_else(|| self.held.former.iter().map(Certificate::ends).max()).unwrap_or(Timestamp::MIN)
    }

    /// Until something could be due by the clocks.
    fn pause(&self, of_newest: bool, chain: &[Certificate]) -> Duration {
        let Self { policy, now, held, observed, .. } = self;
        let until = |at: Timestamp| Duration::try_from(at.duration_since(*now)).unwrap_or(LOOK);
        let due = |ends: Timestamp, life: Duration| until(before(ends, life / 3));
        let mut pauses = vec![LOOK, due(held.newest.certificate().ends(), policy.authority)];
        pauses.extend(chain.first().map(|leaf| due(leaf.ends(), policy.leaf)));
        if !of_newest {
            pauses.extend(self.soaks_for().map(|soaked| policy.soak.saturating_sub(soaked)));
        } else if !held.former.is_empty() {
            let since = observed.seen.issuer_since().unwrap_or_default();
            let settled = (since + policy.soak).saturating_sub(observed.uptime);
            pauses.push(until(self.former_ends()).max(settled));
        }
        pauses.into_iter().min().unwrap_or(LOOK).max(PAUSE)
    }
}

fn put(newest: &Authority, signing: Option<&Authority>, former: &[Certificate], why: &'static str) -> Step {
    Step::PutAuthorities(content::authorities(newest, signing, former), why)
}

/// Whether two thirds of a life are over.
fn is_due(ends: Timestamp, life: Duration, now: Timestamp) -> bool {
    before(ends, life / 3) <= now
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
