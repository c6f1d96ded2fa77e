//! Readiness as named conditions, so that the body of `/readyz` says what is missing.

use std::fmt::Write;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// How a condition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Met; the text says with what.
    Met(String),
    /// Met, and yet a person should know this.
    Warned(String),
    /// Not met, for this reason.
    Missing(String),
}

/// One condition, for whoever knows how it stands.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    state: Arc<ArcSwap<State>>,
}

impl Condition {
    /// Says how it stands from now on.
    pub fn set(&self, state: State) {
        self.state.store(Arc::new(state));
    }

    /// Says that it is met.
    pub fn met(&self, with: impl Into<String>) {
        self.set(State::Met(with.into()));
    }

    /// Says that it is not met, and why.
    pub fn missing(&self, reason: impl Into<String>) {
        self.set(State::Missing(reason.into()));
    }
}

/// All conditions of a process.
#[derive(Debug, Default, Clone)]
pub struct Readiness(Vec<Condition>);

/// What `/readyz` answers.
#[derive(Debug)]
pub struct Report {
    /// Whether no condition is missing.
    pub ready: bool,
    /// A line for each condition, and one for the whole.
    pub text: String,
}

impl Readiness {
    /// A further condition, missing until it is said to be met.
    pub fn condition(&mut self, name: &'static str, missing: &str) -> Condition {
        let state = Arc::new(ArcSwap::from_pointee(State::Missing(missing.to_owned())));
        let condition = Condition { name, state };
        self.0.push(condition.clone());
        condition
    }

    /// How all conditions stand: `[+]` met, `[!]` met with a warning, `[-]` missing.
    pub fn report(&self) -> Report {
        let mut report = Report { ready: true, text: String::new() };
        for Condition { name, state } in &self.0 {
            let (mark, text) = match &**state.load() {
                State::Met(text) => ('+', text.clone()),
                State::Warned(text) => ('!', text.clone()),
                State::Missing(text) => {
                    report.ready = false;
                    ('-', text.clone())
                }
            };
            // Writing to a String cannot fail.
            let _ = writeln!(report.text, "[{mark}] {name}: {text}");
        }
        report.text.push_str(if report.ready { "ready\n" } else { "not ready\n" });
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_nothing_is_missing_and_says_what_is() {
        let mut readiness = Readiness::default();
        let rules = readiness.condition("rules", "not read yet");
        let certificate = readiness.condition("certificate", "not read yet");
        certificate.met("valid");
        let report = readiness.report();
        assert_eq!(report.text, "[-] rules: not read yet\n[+] certificate: valid\nnot ready\n");
        assert!(!report.ready);
        rules.set(State::Warned("the last edit is refused".to_owned()));
        let report = readiness.report();
        assert_eq!(report.text, "[!] rules: the last edit is refused\n[+] certificate: valid\nready\n");
        assert!(report.ready);
    }
}
